/* SPDX-License-Identifier: Apache-2.0 */
/* Properties as header fields: all of them, and nothing that would break a header. */
#include "adapters/http/http_fields.h"

#include "seam/seam.h"
#include "seam/unit.h"

static void append(void *ctx, struct hg_bytes name, struct hg_bytes value)
{
    hg_writer_printf(ctx, "%.*s: %.*s\n", HG_BYTES_FMT(name), HG_BYTES_FMT(value));
}

static bool write(const struct hg_properties *properties, struct hg_writer *out)
{
    const struct hg_message_parts parts = {.properties = *properties};
    seam_spare(true);
    struct hg_message *m = hg_message_new(&parts);
    seam_spare(false);
    bool is_whole = hg_http_fields_write(m, append, out);
    hg_message_unref(m);
    return is_whole;
}

static struct hg_header text(const char *name, const char *value)
{
    return (struct hg_header){hg_bytes_str(name),
                              {.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(value)}};
}

static void every_property_is_a_field(void **state)
{
    const struct hg_header headers[] = {
        text("unit", "C"),
        {HG_BYTES("n"), {.kind = HG_VALUE_INT, .u.i = -7}},
        {HG_BYTES("t"), {.kind = HG_VALUE_JSON, .u.bytes = HG_BYTES("{\"a\":1}")}},
        text("traceparent", "00-ab"),
        text("empty", ""),
    };
    const struct hg_properties properties = {
        .content_type = HG_BYTES("a/b"),
        .content_encoding = HG_BYTES("gzip"),
        .correlation_id = HG_BYTES("c"),
        .reply_to = HG_BYTES("r"),
        .expiration = HG_BYTES("60000"),
        .message_id = HG_BYTES("m"),
        .type = HG_BYTES("ty"),
        .user_id = HG_BYTES("u"),
        .app_id = HG_BYTES("app"),
        .timestamp_s = 17,
        .has_timestamp = true,
        .priority = 3,
        .has_priority = true,
        .delivery_mode = 1,
        .headers = headers,
        .headers_n = sizeof(headers) / sizeof(headers[0]),
    };
    struct hg_writer out = {0};
    (void)state;
    assert_true(write(&properties, &out));
    hg_writer_u8(&out, '\0');
    assert_string_equal((const char *)hg_writer_view(&out).p, "Content-Type: a/b\n"
                                                              "Content-Encoding: gzip\n"
                                                              "Correlation-Id: c\n"
                                                              "Reply-To: r\n"
                                                              "Message-Id: m\n"
                                                              "Amqp-Type: ty\n"
                                                              "Amqp-App-Id: app\n"
                                                              "Amqp-User-Id: u\n"
                                                              "Amqp-Expiration: 60000\n"
                                                              "Amqp-Priority: 3\n"
                                                              "Amqp-Persistent: false\n"
                                                              "Amqp-Timestamp: 17\n"
                                                              "Amqp-Header-unit: C\n"
                                                              "Amqp-Header-n: -7\n"
                                                              "Amqp-Header-t: {\"a\":1}\n"
                                                              "traceparent: 00-ab\n"
                                                              "Amqp-Header-empty: \n");
    hg_writer_close(&out);
    assert_int_equal(seam_live(), 0);
}

static void what_no_field_can_say_is_left_out(void **state)
{
    const struct hg_header headers[] = {
        text("two words", "x"),   text("", "x"),       text("a:b", "x"),
        text("ok", "a\r\nX: y"),  text("ok", "a\x7f"), text("ok", " padded"),
        text("x-death", "x"),     text("CC", "x"),     text("x-headgate-from", "x"),
        text("caf\xc3\xa9", "x"),
    };
    const struct hg_properties properties = {
        .content_type = HG_BYTES("a\r\nb"),
        .correlation_id = HG_BYTES("c\nd"),
        .type = HG_BYTES("\x01"),
        .headers = headers,
        .headers_n = sizeof(headers) / sizeof(headers[0]),
    };
    struct hg_writer out = {0};
    (void)state;
    assert_true(write(&properties, &out));
    assert_true(
        hg_bytes_eq(hg_writer_view(&out), HG_BYTES("Content-Type: application/octet-stream\n")));
    hg_writer_close(&out);
}

static void attributes_of_an_event_are_percent_encoded(void **state)
{
    const struct hg_header headers[] = {text("cloudEvents:subject", "a b\"%\n\xe2\x82\xac/~"),
                                        text("cloudEvents:", "x"), text("cloudEvents:a b", "x")};
    const struct hg_properties properties = {.headers = headers, .headers_n = 3};
    struct hg_writer out = {0};
    (void)state;
    assert_true(write(&properties, &out));
    assert_text(hg_writer_view(&out), "Content-Type: application/octet-stream\n"
                                      "ce-subject: a%20b%22%25%0A%E2%82%AC/~\n");
    hg_writer_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_property_is_a_field),
        cmocka_unit_test(what_no_field_can_say_is_left_out),
        cmocka_unit_test(attributes_of_an_event_are_percent_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
