/* SPDX-License-Identifier: Apache-2.0 */
/* Which properties become which response fields. */
#include "adapters/http/http_fields.h"

#include "seam/seam.h"
#include "seam/unit.h"

static struct hg_header header(const char *name, const char *text)
{
    return (struct hg_header){hg_bytes_str(name),
                              {.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(text)}};
}

static void expect(const struct hg_properties *p, const char *text)
{
    struct hg_writer w = {0};
    hg_http_fields_write(&w, p);
    assert_text(hg_writer_view(&w), text);
    hg_writer_close(&w);
}

static void every_property_has_its_field(void **state)
{
    (void)state;
    const struct hg_header headers[] = {
        header("traceparent", "00-1"),
        header("tracestate", "x=y"),
        header("Tenant", "caf\xc3\xa9"),
        {HG_BYTES("n"), {.kind = HG_VALUE_INT, .u.i = -5}},
        {HG_BYTES("b"), {.kind = HG_VALUE_BINARY, .u.bytes = HG_BYTES("\xff")}},
        {HG_BYTES("x-death"), {.kind = HG_VALUE_JSON, .u.bytes = HG_BYTES("[{}]")}},
    };
    const struct hg_properties p = {
        .content_type = HG_BYTES("text/plain"),
        .content_encoding = HG_BYTES("gzip"),
        .correlation_id = HG_BYTES("c"),
        .reply_to = HG_BYTES("r"),
        .expiration = HG_BYTES("60"),
        .message_id = HG_BYTES("m"),
        .type = HG_BYTES("t"),
        .user_id = HG_BYTES("u"),
        .app_id = HG_BYTES("a"),
        .timestamp_s = 7,
        .has_timestamp = true,
        .has_priority = true,
        .priority = 9,
        .delivery_mode = 2,
        .headers = headers,
        .headers_n = sizeof(headers) / sizeof(headers[0]),
    };
    expect(&p, "Content-Type: text/plain\r\nContent-Encoding: gzip\r\nCorrelation-Id: c\r\n"
               "Reply-To: r\r\nMessage-Id: m\r\nAmqp-Type: t\r\nAmqp-App-Id: a\r\n"
               "Amqp-User-Id: u\r\nAmqp-Expiration: 60\r\nAmqp-Priority: 9\r\nAmqp-Timestamp: 7\r\n"
               "Amqp-Persistent: true\r\ntraceparent: 00-1\r\ntracestate: x=y\r\n"
               "Amqp-Header-Tenant: caf\xc3\xa9\r\nAmqp-Header-n: -5\r\nAmqp-Header-b: /w==\r\n"
               "Amqp-Header-x-death: [{}]\r\n");
    expect(&(struct hg_properties){.delivery_mode = 1}, "Amqp-Persistent: false\r\n");
    expect(&(struct hg_properties){0}, "");
}

static void nothing_in_a_message_writes_a_line_of_its_own(void **state)
{
    (void)state;
    char long_name[257];
    memset(long_name, 'n', 256);
    long_name[256] = '\0';
    const struct hg_header headers[] = {
        header("a\r\nSet-Cookie", "x"),
        header("", "x"),
        header("with blank", "x"),
        header("colon:", "x"),
        header("caf\xc3\xa9", "x"),
        header(long_name, "x"),
        {HG_BYTES("nul\0"), {.kind = HG_VALUE_NULL}},
        header("good", "1\r\nSet-Cookie: 2\t"),
    };
    const struct hg_properties p = {.type = HG_BYTES("a\r\nb"),
                                    .headers = headers,
                                    .headers_n = sizeof(headers) / sizeof(headers[0])};
    expect(&p, "Amqp-Type: a  b\r\nAmqp-Header-good: 1  Set-Cookie: 2 \r\n");
}

static void attributes_of_an_event_are_percent_encoded(void **state)
{
    (void)state;
    const struct hg_header headers[] = {header("cloudEvents:subject", "a b\"%\n\xe2\x82\xac/~"),
                                        header("cloudEvents:", "x"),
                                        header("cloudEvents:a b", "x")};
    const struct hg_properties p = {.headers = headers, .headers_n = 3};
    expect(&p, "ce-subject: a%20b%22%25%0A%E2%82%AC/~\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_property_has_its_field),
        cmocka_unit_test(nothing_in_a_message_writes_a_line_of_its_own),
        cmocka_unit_test(attributes_of_an_event_are_percent_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
