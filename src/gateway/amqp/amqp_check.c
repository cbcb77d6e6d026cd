/* SPDX-License-Identifier: Apache-2.0 */
/* Whether RabbitMQ will take a publish: what it would close a channel over, found before
 * encoding. */
#include "amqp/amqp_channel.h"
#include "amqp/amqp_codec.h"
#include "base/mem.h"

/* 3.10: rabbit_channel's checks of basic.publish (expiration, user_id, size),
 * rabbit_basic:header_routes (CC, BCC). */

static const char *check_names(const struct hg_message_parts *parts)
{
    const struct hg_properties *p = &parts->properties;
    const struct {
        size_t n;
        const char *text;
    } names[] = {
        {parts->exchange.n, "the exchange's name is over 255 bytes"},
        {parts->routing_key.n, "the routing key is over 255 bytes"},
        {p->content_type.n, "content_type is over 255 bytes"},
        {p->content_encoding.n, "content_encoding is over 255 bytes"},
        {p->correlation_id.n, "correlation_id is over 255 bytes"},
        {p->reply_to.n, "reply_to is over 255 bytes"},
        {p->expiration.n, "expiration is over 255 bytes"},
        {p->message_id.n, "message_id is over 255 bytes"},
        {p->type.n, "type is over 255 bytes"},
        {p->user_id.n, "user_id is over 255 bytes"},
        {p->app_id.n, "app_id is over 255 bytes"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].n > UINT8_MAX) {
            return names[i].text;
        }
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        if (p->headers[i].name.n > UINT8_MAX) {
            return "a header's name is over 255 bytes";
        }
    }
    return NULL;
}

static const char *check_values(const struct hg_properties *p, struct hg_bytes user)
{
    uint64_t expiration_ms;
    if (p->expiration.n > 0 && !hg_bytes_to_u64(p->expiration, UINT32_MAX, &expiration_ms)) {
        return "expiration is not a number of milliseconds from 0 to 4294967295";
    }
    if (p->delivery_mode > 2) {
        return "delivery_mode is neither 1 nor 2";
    }
    if (p->user_id.n > 0 && (user.n == 0 || !hg_bytes_eq(p->user_id, user))) {
        return "user_id is not the user that is logged in";
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        const struct hg_header *h = &p->headers[i];
        bool is_route =
            hg_bytes_eq(h->name, HG_BYTES("CC")) || hg_bytes_eq(h->name, HG_BYTES("BCC"));
        bool is_array = h->value.kind == HG_VALUE_JSON && h->value.u.bytes.n > 0 &&
                        h->value.u.bytes.p[0] == '[';
        if (is_route && !is_array) {
            return "a CC or BCC header is not an array";
        }
    }
    return NULL;
}

/* Encodes the message without its body, to see. */
static const char *try_header(const struct hg_message_parts *parts, uint32_t frame_max)
{
    struct hg_message_parts head = *parts;
    head.body = HG_BYTES("");
    head.body_buf = NULL;
    struct hg_message *m = hg_message_new(&head);
    if (m == NULL) {
        return "there is no memory to check the message";
    }
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    struct hg_writer w = {0};
    enum hg_status status = hg_amqp_encode_publish(&w, 1, m, frame_max, &pool);
    hg_writer_close(&w);
    empty_amqp_pool(&pool);
    hg_message_unref(m);
    switch (status) {
    case HG_OK: return NULL;
    case HG_NO_MEMORY: return "there is no memory to check the message";
    default: return "the headers do not fit one frame, or a nested one is not valid JSON";
    }
}

static const char *check_size(const struct hg_message_parts *parts, uint32_t frame_max)
{
    bool has_json = false;
    size_t n = hg_amqp_header_bytes(&parts->properties, &has_json);
    return n <= frame_max && !has_json ? NULL : try_header(parts, frame_max);
}

const char *hg_amqp_check_publish(const struct hg_message_parts *parts, struct hg_bytes user,
                                  uint32_t frame_max, uint64_t max_body_bytes)
{
    const char *wrong = check_names(parts);
    if (wrong == NULL) {
        wrong = check_values(&parts->properties, user);
    }
    if (wrong == NULL && parts->body.n > max_body_bytes) {
        wrong = "the body is over the size that RabbitMQ takes";
    }
    return wrong != NULL ? wrong : check_size(parts, frame_max);
}
