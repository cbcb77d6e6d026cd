/* SPDX-License-Identifier: Apache-2.0 */
/* Properties by one table for both directions. A header that is not in it becomes a header of the
 * message as a string, and every header of the message that is not in it is shown as text. */
#include "adapters/stomp/stomp_message.h"

#include "base/mem.h"

#define NAME(text) (text), sizeof(text) - 1
static const struct property {
    const char *header;
    size_t header_n;
    enum {
        TEXT, /* a short string at `offset` of the properties */
        TEXT_OUT,
        PRIORITY,
        TIMESTAMP,
        PERSISTENT,
        FRAMES,   /* says something about the frame, not about the message */
        FORBIDDEN /* on SEND; MESSAGE has its own */
    } kind;
    size_t offset;
} properties[] = {
    {NAME("content-type"), TEXT, offsetof(struct hg_properties, content_type)},
    {NAME("content-encoding"), TEXT, offsetof(struct hg_properties, content_encoding)},
    {NAME("correlation-id"), TEXT, offsetof(struct hg_properties, correlation_id)},
    {NAME("reply-to"), TEXT, offsetof(struct hg_properties, reply_to)},
    {NAME("expiration"), TEXT, offsetof(struct hg_properties, expiration)},
    {NAME("amqp-message-id"), TEXT, offsetof(struct hg_properties, message_id)},
    {NAME("type"), TEXT, offsetof(struct hg_properties, type)},
    {NAME("app-id"), TEXT, offsetof(struct hg_properties, app_id)},
    {NAME("user-id"), TEXT_OUT,
     offsetof(struct hg_properties, user_id)}, /* never taken from clients */
    {NAME("priority"), PRIORITY, 0},
    {NAME("timestamp"), TIMESTAMP, 0},
    {NAME("persistent"), PERSISTENT, 0},
    {NAME("destination"), FRAMES, 0},
    {NAME("receipt"), FRAMES, 0},
    {NAME("transaction"), FRAMES, 0},
    {NAME("content-length"), FRAMES, 0},
    {NAME("subscription"), FRAMES, 0},
    {NAME("redelivered"), FRAMES, 0},
    {NAME("retain"), FRAMES, 0},
    {NAME("retained"), FRAMES, 0},
    {NAME("ack"), FRAMES, 0},
    {NAME("message-id"), FORBIDDEN, 0},
};
enum { PROPERTIES_N = sizeof(properties) / sizeof(properties[0]), SHORT_MAX = 255 };

static const struct property *property_of(struct hg_bytes header)
{
    for (size_t i = 0; i < PROPERTIES_N; i++) {
        const struct property *p = &properties[i];
        if (header.n == p->header_n && memcmp(header.p, p->header, header.n) == 0) {
            return p;
        }
    }
    return NULL;
}

/* ---- SEND ---- */

static enum hg_status read_number(struct hg_bytes text, uint64_t max, uint64_t *out,
                                  const char *why, const char **why_out)
{
    if (hg_bytes_to_u64(text, max, out)) {
        return HG_OK;
    }
    *why_out = why;
    return HG_BAD_PROPERTY;
}

static enum hg_status read_property(const struct property *p, struct hg_bytes value,
                                    struct hg_properties *out, const char **why_out)
{
    uint64_t number = 0;
    enum hg_status status = HG_OK;
    switch (p->kind) {
    case TEXT: *(struct hg_bytes *)(void *)((char *)out + p->offset) = value; break;
    case PRIORITY:
        status = read_number(value, UINT8_MAX, &number,
                             "the header priority is not a number from 0 to 255", why_out);
        out->has_priority = true;
        out->priority = (uint8_t)number;
        break;
    case TIMESTAMP:
        status = read_number(value, UINT64_MAX, &out->timestamp_s,
                             "the header timestamp is not a number of seconds since 1970", why_out);
        out->has_timestamp = true;
        break;
    case PERSISTENT: out->delivery_mode = hg_bytes_eq(value, HG_BYTES("true")) ? 2 : 1; break;
    case FORBIDDEN:
        *why_out = "SEND must not have the header message-id: the server gives that one";
        status = HG_PROTOCOL_ERROR;
        break;
    case TEXT_OUT:
    case FRAMES: break;
    }
    return status;
}

enum hg_status hg_stomp_properties_read(const struct hg_stomp_frame *send,
                                        struct hg_stomp_properties *out, const char **why_out)
{
    *out = (struct hg_stomp_properties){0};
    *why_out = NULL;
    size_t n = 0;
    /* at most: each, and a long correlation-id */
    out->headers_own = hg_alloc((send->headers_n + 1) * sizeof(struct hg_header));
    if (out->headers_own == NULL) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < send->headers_n; i++) {
        const struct hg_stomp_header *h = &send->headers[i];
        const struct property *p = property_of(h->name);
        if (p == NULL) {
            out->headers_own[n++] =
                (struct hg_header){h->name, {HG_VALUE_STRING, {.bytes = h->value}}};
            continue;
        }
        enum hg_status status = read_property(p, h->value, &out->amqp, why_out);
        if (status != HG_OK) {
            return status;
        }
    }
    if (out->amqp.correlation_id.n > SHORT_MAX) {
        out->headers_own[n++] = (struct hg_header){
            HG_BYTES("x-correlation-id"), {HG_VALUE_STRING, {.bytes = out->amqp.correlation_id}}};
        out->amqp.correlation_id.n = 0;
    }
    out->amqp.headers = out->headers_own;
    out->amqp.headers_n = n;
    return HG_OK;
}

void hg_stomp_properties_close(struct hg_stomp_properties *p)
{
    hg_free(p->headers_own);
    *p = (struct hg_stomp_properties){0};
}

/* ---- MESSAGE ---- */

static void write_text(struct hg_writer *w, enum hg_stomp_version version, const char *header,
                       struct hg_bytes value)
{
    if (value.n > 0) {
        hg_stomp_write_header(w, version, hg_bytes_str(header), value);
    }
}

static void write_number(struct hg_writer *w, const char *header, uint64_t value)
{
    hg_writer_str(w, header);
    hg_writer_u8(w, ':');
    hg_writer_dec(w, value);
    hg_writer_u8(w, '\n');
}

/* Where an answer can be sent: what is not a destination names a queue. */
static void write_reply_to(struct hg_writer *w, enum hg_stomp_version version,
                           struct hg_bytes value)
{
    if (!hg_stomp_is_text(value)) {
        return;
    }
    hg_writer_str(w, "reply-to:");
    if (value.p[0] != '/') {
        hg_writer_str(w, "/reply-queue/");
    }
    hg_stomp_write_escaped(w, version, value);
    hg_writer_u8(w, '\n');
}

static void write_property(struct hg_writer *w, enum hg_stomp_version version,
                           const struct property *p, const struct hg_properties *from)
{
    switch (p->kind) {
    case TEXT:
    case TEXT_OUT: {
        struct hg_bytes value =
            *(const struct hg_bytes *)(const void *)((const char *)from + p->offset);
        if (p->offset == offsetof(struct hg_properties, reply_to) && value.n > 0) {
            write_reply_to(w, version, value);
        } else {
            write_text(w, version, p->header, value);
        }
        break;
    }
    case PRIORITY:
        if (from->has_priority) {
            write_number(w, p->header, from->priority);
        }
        break;
    case TIMESTAMP:
        if (from->has_timestamp) {
            write_number(w, p->header, from->timestamp_s);
        }
        break;
    case PERSISTENT:
        if (from->delivery_mode == 2) {
            hg_writer_str(w, "persistent:true\n");
        }
        break;
    case FRAMES:
    case FORBIDDEN: break;
    }
}

static void write_value(struct hg_writer *w, enum hg_stomp_version version, struct hg_bytes name,
                        const struct hg_value *value)
{
    if (value->kind == HG_VALUE_STRING || value->kind == HG_VALUE_JSON) {
        hg_stomp_write_header(w, version, name, value->u.bytes);
    } else {
        struct hg_writer text = {0}; /* digits, words and base64: nothing to escape */
        hg_value_write_text(&text, value);
        hg_stomp_write_header(w, version, name, hg_writer_view(&text));
        w->failed = w->failed || text.failed;
        hg_writer_close(&text);
    }
}

void hg_stomp_message_write(struct hg_writer *w, enum hg_stomp_version version,
                            const struct hg_message *m)
{
    const struct hg_bytes internal = HG_BYTES("x-headgate-");
    const struct hg_properties *from = hg_message_properties(m);
    for (size_t i = 0; i < PROPERTIES_N; i++) {
        write_property(w, version, &properties[i], from);
    }
    for (size_t i = 0; i < from->headers_n; i++) {
        struct hg_bytes name = from->headers[i].name;
        if (from->correlation_id.n == 0 && hg_bytes_eq(name, HG_BYTES("x-correlation-id"))) {
            name = HG_BYTES("correlation-id");
        } else if (property_of(name) != NULL || hg_bytes_starts(name, internal)) {
            continue;
        }
        write_value(w, version, name, &from->headers[i].value);
    }
    hg_stomp_write_body(w, hg_message_body(m));
}
