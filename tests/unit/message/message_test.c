/* SPDX-License-Identifier: Apache-2.0 */
/* Messages keep what they were made of, and their headers read as text. */
#include "message/message.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <float.h>
#include <math.h>

/* Parts whose every byte lies in `scratch`, so that a test can destroy the source. */
static struct hg_message_parts parts_in(char scratch[static 64], struct hg_header headers[static 3])
{
    memcpy(scratch, "exchange|key|text/plain|id|name|value|BODY", 43);
    headers[0] = (struct hg_header){hg_bytes(scratch + 27, 4),
                                    {HG_VALUE_STRING, {.bytes = hg_bytes(scratch + 32, 5)}}};
    headers[1] = (struct hg_header){hg_bytes(scratch + 32, 5), {HG_VALUE_INT, {.i = -7}}};
    headers[2] = (struct hg_header){hg_bytes(scratch, 0), {HG_VALUE_NULL, {.b = false}}};
    return (struct hg_message_parts){
        .exchange = hg_bytes(scratch, 8),
        .routing_key = hg_bytes(scratch + 9, 3),
        .properties = {.content_type = hg_bytes(scratch + 13, 10),
                       .message_id = hg_bytes(scratch + 24, 2),
                       .has_priority = true,
                       .priority = 9,
                       .delivery_mode = 2,
                       .headers = headers,
                       .headers_n = 3},
        .body = hg_bytes(scratch + 38, 4),
        .is_mandatory = true,
    };
}

static void assert_whole(const struct hg_message *m)
{
    const struct hg_properties *p = hg_message_properties(m);
    assert_text(hg_message_exchange(m), "exchange");
    assert_text(hg_message_routing_key(m), "key");
    assert_text(hg_message_body(m), "BODY");
    assert_text(p->content_type, "text/plain");
    assert_text(p->message_id, "id");
    assert_int_equal(p->user_id.n, 0);
    assert_int_equal(p->priority, 9);
    assert_int_equal(p->delivery_mode, 2);
    assert_false(p->has_timestamp);
    assert_true(hg_message_is_mandatory(m));
    assert_int_equal(p->headers_n, 3);
    assert_text(hg_message_header(m, HG_BYTES("name"))->u.bytes, "value");
    assert_int_equal(hg_message_header(m, HG_BYTES("value"))->u.i, -7);
    assert_int_equal(hg_message_header(m, HG_BYTES(""))->kind, HG_VALUE_NULL);
    assert_null(hg_message_header(m, HG_BYTES("Name")));
}

static void a_message_outlives_its_parts(void **state)
{
    char scratch[64];
    struct hg_header headers[3];
    (void)state;
    struct hg_message_parts parts = parts_in(scratch, headers);
    struct hg_message *m = hg_message_new(&parts);
    assert_int_equal(seam_live(), 1);
    memset(scratch, '?', sizeof(scratch));
    memset(headers, 0xa5, sizeof(headers));
    assert_ptr_equal(hg_message_ref(m), m);
    hg_message_unref(m);
    assert_whole(m);
    hg_message_unref(m);
    hg_message_unref(NULL);
    assert_int_equal(seam_live(), 0);
}

static void a_body_in_a_buffer_is_shared(void **state)
{
    (void)state;
    struct hg_buf *buf = hg_buf_copy(HG_BYTES("<<body>>"));
    struct hg_message_parts parts = {.body = hg_bytes(buf->data + 2, 4), .body_buf = buf};
    struct hg_message *m = hg_message_new(&parts);
    assert_int_equal(buf->refs, 2);
    assert_ptr_equal(hg_message_body(m).p, buf->data + 2);
    assert_true(hg_message_cost_bytes(m) >= buf->cap + sizeof(struct hg_properties));
    hg_buf_unref(buf);
    assert_text(hg_message_body(m), "body");
    hg_message_unref(m);
    assert_int_equal(seam_live(), 0);
}

static void the_cost_grows_with_what_is_kept(void **state)
{
    struct hg_message_parts parts = {.body = HG_BYTES("0123456789")};
    (void)state;
    struct hg_message *small = hg_message_new(&parts);
    parts.exchange = HG_BYTES("abc");
    struct hg_header header = {HG_BYTES("name"), {HG_VALUE_BINARY, {.bytes = HG_BYTES("value")}}};
    parts.properties.headers = &header;
    parts.properties.headers_n = 1;
    struct hg_message *big = hg_message_new(&parts);
    assert_int_equal(hg_message_cost_bytes(big) - hg_message_cost_bytes(small),
                     3 + sizeof(header) + 4 + 5);
    hg_message_unref(small);
    hg_message_unref(big);
}

static void no_memory_takes_no_reference(void **state)
{
    (void)state;
    struct hg_buf *buf = hg_buf_copy(HG_BYTES("body"));
    struct hg_message_parts parts = {.body = hg_buf_bytes(buf), .body_buf = buf};
    seam_fail_alloc(1);
    assert_null(hg_message_new(&parts));
    seam_fail_alloc(0);
    assert_int_equal(buf->refs, 1);
    hg_buf_unref(buf);
    assert_int_equal(seam_live(), 0);
}

static void reserved_headers_are_known_in_any_case(void **state)
{
    static const char *const reserved[] = {
        "CC",          "cc",           "BCC",     "bCc",
        "x-death",     "X-Death",      "x-match", "x-delivery-count",
        "x-headgate-", "X-Headgate-Ms"};
    static const char *const allowed[] = {"",         "C",          "CCC",
                                          "x-deaths", "x-headgate", "x-reply-to-topic"};
    (void)state;
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        assert_true(hg_header_is_reserved(hg_bytes_str(reserved[i])));
    }
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        assert_false(hg_header_is_reserved(hg_bytes_str(allowed[i])));
    }
}

static void values_read_as_text(void **state)
{
    static const struct {
        struct hg_value value;
        const char *text;
    } rows[] = {
        {{HG_VALUE_NULL, {.b = false}}, ""},
        {{HG_VALUE_BOOL, {.b = true}}, "true"},
        {{HG_VALUE_BOOL, {.b = false}}, "false"},
        {{HG_VALUE_INT, {.i = INT64_MIN}}, "-9223372036854775808"},
        {{HG_VALUE_TIMESTAMP, {.timestamp_s = UINT64_MAX}}, "18446744073709551615"},
        {{HG_VALUE_DOUBLE, {.d = 1}}, "1"},
        {{HG_VALUE_DOUBLE, {.d = 0.1}}, "0.1"},
        {{HG_VALUE_DOUBLE, {.d = -2.5e-7}}, "-2.5e-07"},
        {{HG_VALUE_DOUBLE, {.d = 1.0 / 3}}, "0.3333333333333333"},
        {{HG_VALUE_DOUBLE, {.d = 0.1 + 0.2}}, "0.30000000000000004"},
        {{HG_VALUE_DOUBLE, {.d = DBL_MAX}}, "1.7976931348623157e+308"},
        {{HG_VALUE_DOUBLE, {.d = NAN}}, "nan"},
        {{HG_VALUE_DOUBLE, {.d = -INFINITY}}, "-inf"},
        {{HG_VALUE_STRING, {.bytes = {(const uint8_t *)"a b", 3}}}, "a b"},
        {{HG_VALUE_JSON, {.bytes = {(const uint8_t *)"{\"a\":[1]}", 9}}}, "{\"a\":[1]}"},
        {{HG_VALUE_BINARY, {.bytes = {(const uint8_t *)"\xff\x00\x01", 3}}}, "/wAB"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer w = {0};
        hg_value_write_text(&w, &rows[i].value);
        assert_text(hg_writer_view(&w), rows[i].text);
        hg_writer_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_outlives_its_parts),
        cmocka_unit_test(a_body_in_a_buffer_is_shared),
        cmocka_unit_test(the_cost_grows_with_what_is_kept),
        cmocka_unit_test(no_memory_takes_no_reference),
        cmocka_unit_test(reserved_headers_are_known_in_any_case),
        cmocka_unit_test(values_read_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
