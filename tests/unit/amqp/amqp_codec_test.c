/* SPDX-License-Identifier: Apache-2.0 */
/* What is written by hand is, byte for byte, what librabbitmq writes. */
#include "amqp/amqp_codec.h"

#include "rig.h"
#include "seam/unit.h"

#include <string.h>

enum { FRAME_MAX = 4096, CHANNEL = 513 };

static const uint8_t longest[256] = {'n'};

/* The same properties as librabbitmq has them. */
static void take_over(const struct hg_properties *from, amqp_pool_t *pool,
                      amqp_basic_properties_t *to)
{
    const struct {
        amqp_flags_t flag;
        amqp_bytes_t *field;
        struct hg_bytes value;
    } texts[] = {
        {AMQP_BASIC_CONTENT_TYPE_FLAG, &to->content_type, from->content_type},
        {AMQP_BASIC_CONTENT_ENCODING_FLAG, &to->content_encoding, from->content_encoding},
        {AMQP_BASIC_CORRELATION_ID_FLAG, &to->correlation_id, from->correlation_id},
        {AMQP_BASIC_REPLY_TO_FLAG, &to->reply_to, from->reply_to},
        {AMQP_BASIC_EXPIRATION_FLAG, &to->expiration, from->expiration},
        {AMQP_BASIC_MESSAGE_ID_FLAG, &to->message_id, from->message_id},
        {AMQP_BASIC_TYPE_FLAG, &to->type, from->type},
        {AMQP_BASIC_USER_ID_FLAG, &to->user_id, from->user_id},
        {AMQP_BASIC_APP_ID_FLAG, &to->app_id, from->app_id},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].value.n > 0) {
            to->_flags |= texts[i].flag;
            *texts[i].field = hg_amqp_bytes(texts[i].value);
        }
    }
    to->_flags |= from->headers_n > 0 ? AMQP_BASIC_HEADERS_FLAG : 0;
    to->_flags |= from->delivery_mode != 0 ? AMQP_BASIC_DELIVERY_MODE_FLAG : 0;
    to->_flags |= from->has_priority ? AMQP_BASIC_PRIORITY_FLAG : 0;
    to->_flags |= from->has_timestamp ? AMQP_BASIC_TIMESTAMP_FLAG : 0;
    to->delivery_mode = from->delivery_mode;
    to->priority = from->priority;
    to->timestamp = from->timestamp_s;
    assert_int_equal(hg_amqp_table_make(pool, from->headers, from->headers_n, &to->headers), HG_OK);
}

/* Method and header frame as librabbitmq has them. */
static size_t by_librabbitmq(const struct hg_message_parts *parts, uint8_t *out, size_t cap)
{
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    amqp_basic_publish_t publish = {.exchange = hg_amqp_bytes(parts->exchange),
                                    .routing_key = hg_amqp_bytes(parts->routing_key),
                                    .mandatory = parts->is_mandatory};
    amqp_basic_properties_t properties = {0};
    take_over(&parts->properties, &pool, &properties);
    int n =
        amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &publish, (amqp_bytes_t){cap - 11, out + 11});
    assert_true(n > 0);
    const uint8_t method[] = {1, 2,  1, 0, 0, (uint8_t)((n + 4) >> 8), (uint8_t)(n + 4),
                              0, 60, 0, 40};
    memcpy(out, method, sizeof(method));
    size_t at = sizeof(method) + (size_t)n;
    out[at++] = 0xce;
    n = amqp_encode_properties(AMQP_BASIC_CLASS, &properties,
                               (amqp_bytes_t){cap - at - 19, out + at + 19});
    assert_true(n > 0);
    const uint8_t header[19] = {
        2, 2, 1, 0, 0, (uint8_t)((n + 12) >> 8),      (uint8_t)(n + 12),     0, 60, 0, 0, 0,
        0, 0, 0, 0, 0, (uint8_t)(parts->body.n >> 8), (uint8_t)parts->body.n};
    memcpy(out + at, header, sizeof(header));
    at += sizeof(header) + (size_t)n;
    out[at++] = 0xce;
    empty_amqp_pool(&pool);
    return at;
}

static enum hg_status encode(const struct hg_message_parts *parts, struct hg_writer *w)
{
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    struct hg_message *m = hg_message_new(parts);
    enum hg_status status = hg_amqp_encode_publish(w, CHANNEL, m, FRAME_MAX, &pool);
    hg_message_unref(m);
    empty_amqp_pool(&pool);
    return status;
}

static void a_publish_is_written_as_librabbitmq_writes_it(void **state)
{
    (void)state;
    const struct hg_header headers[] = {
        {HG_BYTES("null"), {HG_VALUE_NULL, .u.i = 0}},
        {HG_BYTES("no"), {HG_VALUE_BOOL, .u.b = false}},
        {HG_BYTES("yes"), {HG_VALUE_BOOL, .u.b = true}},
        {HG_BYTES("least"), {HG_VALUE_INT, .u.i = INT64_MIN}},
        {HG_BYTES("minus"), {HG_VALUE_INT, .u.i = -2}},
        {HG_BYTES("half"), {HG_VALUE_DOUBLE, .u.d = -0.5}},
        {HG_BYTES("when"), {HG_VALUE_TIMESTAMP, .u.timestamp_s = UINT64_MAX}},
        {HG_BYTES(""), {HG_VALUE_STRING, .u.bytes = HG_BYTES("")}},
        {HG_BYTES("text"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("twice 2")}},
        {HG_BYTES("bytes"), {HG_VALUE_BINARY, .u.bytes = HG_BYTES("\x00\xff")}},
        {{longest, 255}, {HG_VALUE_STRING, .u.bytes = HG_BYTES("v")}},
    };
    enum { HEADERS_N = sizeof(headers) / sizeof(headers[0]) };
    const struct hg_properties all = {
        .content_type = HG_BYTES("text/plain"),
        .content_encoding = HG_BYTES("gzip"),
        .correlation_id = HG_BYTES("c"),
        .reply_to = HG_BYTES("r"),
        .expiration = HG_BYTES("60000"),
        .message_id = {longest, 255},
        .type = HG_BYTES("t"),
        .user_id = HG_BYTES("guest"),
        .app_id = HG_BYTES("a"),
        .timestamp_s = 0x0102030405060708,
        .has_timestamp = true,
        .has_priority = true,
        .priority = 200,
        .delivery_mode = 2,
        .headers = headers,
        .headers_n = HEADERS_N,
    };
    struct hg_message_parts cases[4 + HEADERS_N] = {
        {.exchange = HG_BYTES("")},
        {.exchange = HG_BYTES("amq.topic"),
         .routing_key = HG_BYTES("a.b"),
         .properties.delivery_mode = 1},
        {.exchange = {longest, 255}, .routing_key = {longest, 255}, .is_mandatory = true},
        {.exchange = HG_BYTES("x"), .properties = all, .body = HG_BYTES("body")},
    };
    for (size_t i = 0; i < HEADERS_N; i++) { /* each header alone */
        cases[4 + i].properties = (struct hg_properties){.headers = &headers[i], .headers_n = 1};
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t want[4096];
        size_t want_n = by_librabbitmq(&cases[i], want, sizeof(want));
        struct hg_writer w = {0};
        assert_int_equal(encode(&cases[i], &w), HG_OK);
        struct hg_bytes got = hg_writer_view(&w);
        assert_true(got.n >= want_n);
        assert_memory_equal(got.p, want, want_n);
        bool has_json;
        assert_true(hg_amqp_header_bytes(&cases[i].properties, &has_json) >=
                    want_n - 20 - cases[i].exchange.n - cases[i].routing_key.n);
        hg_writer_close(&w);
    }
}

/* A header of n bytes makes a header frame of n and 36. */
static void a_header_frame_may_be_as_large_as_a_frame_and_no_larger(void **state)
{
    (void)state;
    static uint8_t text[FRAME_MAX];
    enum { AROUND = 7 + 12 + 2 + 4 + 2 + 5 + 1 };
    for (size_t n = FRAME_MAX - AROUND - 1; n <= FRAME_MAX - AROUND + 1; n++) {
        const struct hg_header h = {HG_BYTES("h"), {HG_VALUE_STRING, .u.bytes = {text, n}}};
        const struct hg_message_parts parts = {.properties = {.headers = &h, .headers_n = 1}};
        struct hg_writer w = {0};
        assert_int_equal(encode(&parts, &w), n <= FRAME_MAX - AROUND ? HG_OK : HG_BAD_PROPERTY);
        hg_writer_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_publish_is_written_as_librabbitmq_writes_it),
        cmocka_unit_test(a_header_frame_may_be_as_large_as_a_frame_and_no_larger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
