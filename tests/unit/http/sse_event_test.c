/* SPDX-License-Identifier: Apache-2.0 */
/* What a message looks like as an event, and that no message can forge another one. */
#include "adapters/http/sse_event.h"

#include "seam/unit.h"

#include <stdio.h>

static struct hg_writer w;

static const char *event(enum hg_sse_mode mode, const struct hg_message_parts *parts,
                         bool is_retained)
{
    struct hg_message *m = hg_message_new(parts);
    hg_writer_reset(&w);
    hg_sse_write_event(&w, mode, m, hg_message_properties(m)->message_id, HG_BYTES("a/b"),
                       is_retained);
    hg_writer_u8(&w, 0);
    hg_message_unref(m);
    return (const char *)hg_writer_view(&w).p;
}

static void every_line_of_a_text_is_a_line_of_data(void **state)
{
    (void)state;
    const struct {
        struct hg_bytes body;
        const char *data;
    } table[] = {
        {{NULL, 0}, "data: \n"},
        {HG_BYTES("x"), "data: x\n"},
        {HG_BYTES(" x"), "data:  x\n"},
        {HG_BYTES("a\nb"), "data: a\ndata: b\n"},
        {HG_BYTES("a\rb"), "data: a\ndata: b\n"},
        {HG_BYTES("a\r\nb"), "data: a\ndata: b\n"},
        {HG_BYTES("a\n\rb"), "data: a\ndata: \ndata: b\n"},
        {HG_BYTES("a\n"), "data: a\ndata: \n"},
        {HG_BYTES("a\r"), "data: a\ndata: \n"},
        {HG_BYTES("\r\n\r\n"), "data: \ndata: \ndata: \n"},
        {HG_BYTES("x\n\nevent: forged\nid: 7"),
         "data: x\ndata: \ndata: event: forged\ndata: id: 7\n"},
        {HG_BYTES("gr\xc3\xbc\xc3\x9f"), "data: gr\xc3\xbc\xc3\x9f\n"},
        {HG_BYTES("\xff\n"), "event: headgate.base64\ndata: /wo=\n"},
        {HG_BYTES("\xc3"), "event: headgate.base64\ndata: ww==\n"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char wanted[200];
        snprintf(wanted, sizeof(wanted), "id: \n%s\n", table[i].data);
        const struct hg_message_parts parts = {.body = table[i].body};
        assert_string_equal(event(HG_SSE_BODY, &parts, false), wanted);
    }
}

static void the_type_is_the_name_unless_it_means_something_else(void **state)
{
    (void)state;
    const struct {
        struct hg_bytes type;
        const char *line;
    } table[] = {
        {HG_BYTES("order.paid"), "event: order.paid\n"},
        {HG_BYTES("errors"), "event: errors\n"},
        {HG_BYTES("error"), ""},
        {HG_BYTES("open"), ""},
        {HG_BYTES("headgate.lost"), ""},
        {HG_BYTES("a\nid: 7"), ""},
        {HG_BYTES("a\rid: 7"), ""},
        {HG_BYTES("\xff"), ""},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char wanted[200];
        snprintf(wanted, sizeof(wanted), "id: \n%sdata: x\n\n", table[i].line);
        const struct hg_message_parts parts = {.body = HG_BYTES("x"),
                                               .properties.type = table[i].type};
        assert_string_equal(event(HG_SSE_BODY, &parts, false), wanted);
    }
}

static void an_id_that_is_no_line_is_empty(void **state)
{
    (void)state;
    const struct {
        struct hg_bytes id;
        const char *line;
    } table[] = {
        {HG_BYTES("7"), "id: 7\n"},   {HG_BYTES("a b"), "id: a b\n"}, {HG_BYTES("a\nb"), "id: \n"},
        {HG_BYTES("a\rb"), "id: \n"}, {HG_BYTES("a\0b"), "id: \n"},   {HG_BYTES("\xff"), "id: \n"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char wanted[200];
        snprintf(wanted, sizeof(wanted), "%sdata: x\n\n", table[i].line);
        const struct hg_message_parts parts = {.body = HG_BYTES("x"),
                                               .properties.message_id = table[i].id};
        assert_string_equal(event(HG_SSE_BODY, &parts, false), wanted);
    }
}

static void the_envelope_has_all_of_it_in_one_line(void **state)
{
    (void)state;
    const struct hg_header headers[] = {
        {HG_BYTES("n"), {.kind = HG_VALUE_NULL}},
        {HG_BYTES("b"), {.kind = HG_VALUE_BOOL, .u.b = true}},
        {HG_BYTES("i"), {.kind = HG_VALUE_INT, .u.i = -5}},
        {HG_BYTES("d"), {.kind = HG_VALUE_DOUBLE, .u.d = 0.5}},
        {HG_BYTES("inf"), {.kind = HG_VALUE_DOUBLE, .u.d = __builtin_inf()}},
        {HG_BYTES("t"), {.kind = HG_VALUE_TIMESTAMP, .u.timestamp_s = 9}},
        {HG_BYTES("s\n"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("\"x\r\n")}},
        {HG_BYTES("x"), {.kind = HG_VALUE_BINARY, .u.bytes = HG_BYTES("\xff")}},
        {HG_BYTES("j"), {.kind = HG_VALUE_JSON, .u.bytes = HG_BYTES("[1,{}]")}},
    };
    const struct hg_message_parts parts = {
        .body = HG_BYTES("a\r\nb"),
        .properties = {.content_type = HG_BYTES("text/plain"),
                       .message_id = HG_BYTES("m1"),
                       .type = HG_BYTES("t"),
                       .expiration = HG_BYTES("100"),
                       .delivery_mode = 2,
                       .has_priority = true,
                       .has_timestamp = true,
                       .timestamp_s = 1700000000,
                       .headers = headers,
                       .headers_n = sizeof(headers) / sizeof(headers[0])}};
    assert_string_equal(
        event(HG_SSE_ENVELOPE, &parts, true),
        "id: m1\n"
        "data: {\"address\":\"a/b\",\"retained\":true,\"properties\":{"
        "\"content_type\":\"text/plain\",\"message_id\":\"m1\",\"type\":\"t\","
        "\"expiration\":\"100\",\"delivery_mode\":2,\"priority\":0,\"timestamp\":1700000000},"
        "\"headers\":{\"n\":null,\"b\":true,\"i\":-5,\"d\":0.5,\"inf\":null,\"t\":9,"
        "\"s\\n\":\"\\\"x\\r\\n\",\"x\":\"/w==\",\"j\":[1,{}]},\"body\":\"a\\r\\nb\"}\n\n");
    const struct hg_message_parts binary = {.body = HG_BYTES("\xff")};
    assert_string_equal(event(HG_SSE_ENVELOPE, &binary, false),
                        "id: \ndata: {\"address\":\"a/b\",\"properties\":{},\"headers\":{},"
                        "\"base64\":\"/w==\"}\n\n");
}

static int close_writer(void **state)
{
    (void)state;
    hg_writer_close(&w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_of_a_text_is_a_line_of_data),
        cmocka_unit_test(the_type_is_the_name_unless_it_means_something_else),
        cmocka_unit_test(an_id_that_is_no_line_is_empty),
        cmocka_unit_test(the_envelope_has_all_of_it_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, close_writer);
}
