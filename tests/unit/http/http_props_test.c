/* SPDX-License-Identifier: Apache-2.0 */
/* Which request headers become which AMQP properties, and which are refused. */
#include "adapters/http/http_props.h"

#include "seam/seam.h"
#include "seam/unit.h"

static const struct hg_http_limits limits = {
    .max_url_bytes = 100, .max_header_bytes = 4096, .max_headers_n = 50, .max_body_bytes = 0};

/* Opens d over a request with these header lines, and props over that. */
static bool open_props(struct hg_http_decoder *d, struct hg_http_props *props, const char *lines,
                       struct hg_writer *why)
{
    struct hg_writer w = {0};
    struct hg_error err;
    hg_writer_printf(&w, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    hg_http_decoder_open(d, &limits);
    assert_true(hg_http_decode(d, hg_writer_view(&w), &err) > 0);
    hg_writer_close(&w);
    struct hg_random random = {.left_n = 0};
    return hg_http_props_open(props, &d->head, &random, why);
}

static void every_property_has_its_header(void **state)
{
    (void)state;
    struct hg_http_decoder d;
    struct hg_http_props props;
    struct hg_writer why = {0};
    assert_true(open_props(&d, &props,
                           "Content-Type: text/plain\r\ncontent-encoding: gzip\r\n"
                           "Correlation-Id: c\r\nReply-To: r\r\nMessage-Id: m\r\nAmqp-Type: t\r\n"
                           "Amqp-App-Id: a\r\nAmqp-User-Id: u\r\nAmqp-Priority: 9\r\n"
                           "Amqp-Expiration: 60000\r\nAmqp-Persistent: false\r\n"
                           "Amqp-Timestamp: 1700000000\r\ntraceparent: 00-1\r\nTraceState: x=y\r\n"
                           "AMQP-header-Device-Name: caf\xc3\xa9\r\nX-Other: no\r\n",
                           &why));
    const struct hg_properties *p = &props.properties;
    assert_text(p->content_type, "text/plain");
    assert_text(p->content_encoding, "gzip");
    assert_text(p->correlation_id, "c");
    assert_text(p->reply_to, "r");
    assert_text(p->message_id, "m");
    assert_text(p->type, "t");
    assert_text(p->app_id, "a");
    assert_text(p->user_id, "u");
    assert_text(p->expiration, "60000");
    assert_true(p->has_priority && p->priority == 9);
    assert_true(p->has_timestamp && p->timestamp_s == 1700000000);
    assert_int_equal(p->delivery_mode, 1);
    assert_int_equal(p->headers_n, 3);
    assert_text(p->headers[0].name, "traceparent");
    assert_text(p->headers[1].name, "tracestate");
    assert_text(p->headers[2].name, "Device-Name");
    assert_text(p->headers[2].value.u.bytes, "caf\xc3\xa9");
    hg_http_props_close(&props);
    hg_http_decoder_close(&d);
}

static void a_bare_request_is_persistent_and_gets_an_id(void **state)
{
    (void)state;
    struct hg_http_decoder d;
    struct hg_http_props props;
    struct hg_writer why = {0};
    assert_true(open_props(&d, &props, "", &why));
    assert_int_equal(props.properties.delivery_mode, 2);
    assert_int_equal(props.properties.message_id.n, 36);
    assert_int_equal(props.uuid[14], '4');
    assert_non_null(strchr("89ab", props.uuid[19]));
    assert_int_equal(props.properties.headers_n, 0);
    hg_http_props_close(&props);
    hg_http_decoder_close(&d);
}

static void an_idempotency_key_is_the_message_id(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *id; /* NULL: refused */
    } table[] = {
        {"Idempotency-Key: k1\r\n", "k1"},
        {"Idempotency-Key: \"k1\"\r\n", "k1"},
        {"Idempotency-Key: k1\r\nMessage-Id: k1\r\n", "k1"},
        {"Message-Id: m\r\nIdempotency-Key: k\r\n", NULL},
        {"Idempotency-Key: k\r\nIdempotency-Key: k\r\n", NULL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_http_decoder d;
        struct hg_http_props props;
        struct hg_writer why = {0};
        bool is_fine = open_props(&d, &props, table[i].lines, &why);
        assert_int_equal(is_fine, table[i].id != NULL);
        if (is_fine) {
            assert_text(props.properties.message_id, table[i].id);
        }
        hg_writer_close(&why);
        hg_http_props_close(&props);
        hg_http_decoder_close(&d);
    }
}

#define TEXT_64  "0123456789012345678901234567890123456789012345678901234567890123"
#define TEXT_256 TEXT_64 TEXT_64 TEXT_64 TEXT_64

static void a_value_that_does_not_parse_is_named(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"Amqp-Priority: 256\r\n", "Amqp-Priority must be a number from 0 to 255"},
        {"amqp-priority: -1\r\n", "amqp-priority must be a number from 0 to 255"},
        {"Amqp-Expiration: abc\r\n", "Amqp-Expiration must be a number of milliseconds"},
        {"Amqp-Expiration: -1\r\n", "Amqp-Expiration must be a number of milliseconds"},
        {"Amqp-Expiration:\r\n", "Amqp-Expiration must be a number of milliseconds"},
        {"Amqp-Persistent: yes\r\n", "Amqp-Persistent must be true or false"},
        {"Amqp-Timestamp: now\r\n", "Amqp-Timestamp must be a number of seconds since 1970"},
        {"Amqp-Type: " TEXT_256 "\r\n", "Amqp-Type must not be longer than 255 bytes"},
        {"Amqp-Type: \xff\r\n", "Amqp-Type must be UTF-8"},
        {"Amqp-Header-x: \xff\r\n", "Amqp-Header-x must be UTF-8"},
        {"Amqp-Header-: a\r\n", "Amqp-Header- must be followed by a name of 1 to 255 bytes"},
        {"Amqp-Header-x: a\r\nAmqp-Header-x: b\r\n", "Amqp-Header-x is given twice"},
        {"Content-Type: a\r\nContent-Type: a\r\n", "Content-Type is given twice"},
        {"Amqp-Prio: 1\r\n", "Amqp-Prio is not known"},
        {"Content-Encoding: gzip br\r\n", "Content-Encoding must be a list of codings: gzip, br"},
        {"Content-Encoding: gzip, \"br\"\r\n",
         "Content-Encoding must be a list of codings: gzip, br"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_http_decoder d;
        struct hg_http_props props;
        struct hg_writer why = {0};
        assert_false(open_props(&d, &props, table[i][0], &why));
        assert_text(hg_writer_view(&why), table[i][1]);
        hg_writer_close(&why);
        hg_http_props_close(&props);
        hg_http_decoder_close(&d);
    }
}

static void long_values_keep_within_amqp(void **state)
{
    (void)state;
    struct hg_http_decoder d;
    struct hg_http_props props;
    struct hg_writer why = {0};
    assert_true(open_props(
        &d, &props, "Correlation-Id: " TEXT_256 "\r\nAmqp-Expiration: 99999999999\r\n", &why));
    assert_int_equal(props.properties.correlation_id.n, 0);
    assert_int_equal(props.properties.headers_n, 1);
    assert_text(props.headers[0].name, "x-correlation-id");
    assert_int_equal(props.headers[0].value.u.bytes.n, 256);
    assert_text(props.properties.expiration, "4294967295");
    hg_http_props_close(&props);
    hg_http_decoder_close(&d);
    assert_int_equal(seam_live(), 0);
}

/* Each row: what the request says, then name and value of its first AMQP header, or what is wrong. */
#define EVENT "ce-id: 1\r\nce-source: /s\r\nce-specversion: 1.0\r\nce-type: t\r\n"
static void an_attribute_of_an_event_is_unquoted_and_decoded_once(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *name, *value; /* name NULL: refused, for `value` */
    } table[] = {
        {"ce-subject: a\r\n" EVENT, "cloudEvents:subject", "a"},
        {"CE-MyExt2: a\r\n" EVENT, "cloudEvents:myext2", "a"},
        {"ce-subject: Euro%20%E2%82%AC%20%f0%9f%98%80\r\n" EVENT, "cloudEvents:subject",
         "Euro \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"ce-subject: \"a b\"\r\n" EVENT, "cloudEvents:subject", "a b"},
        {"ce-subject: \"a\\\"\\%2541\"\r\n" EVENT, "cloudEvents:subject", "a\"%41"},
        {"ce-subject: a+b%2Fc\r\n" EVENT, "cloudEvents:subject", "a+b/c"},
        {"ce-subject: caf\xc3\xa9\r\n" EVENT, "cloudEvents:subject", "caf\xc3\xa9"},
        {"ce-subject: a\r\nContent-Type: application/cloudevents+json\r\n", "cloudEvents:subject",
         "a"},
        {"Content-Type: application/CloudEvents+json; charset=utf-8\r\n", "", ""},
        {"ce-subject: a\r\n", NULL,
         "ce-id is missing: a CloudEvent has ce-id, ce-source, ce-specversion and ce-type"},
        {"ce-id: 1\r\nce-source: s\r\nce-type: t\r\nContent-Type: application/json\r\n", NULL,
         "ce-specversion is missing: a CloudEvent has ce-id, ce-source, ce-specversion and ce-type"},
        {EVENT "ce-datacontenttype: a/b\r\n", NULL,
         "ce-datacontenttype must not be there: Content-Type says it"},
        {EVENT "ce-: a\r\n", NULL, "ce- must be followed by an attribute's name"},
        {EVENT "ce-a_b: a\r\n", NULL,
         "ce-a_b is no attribute: its name is made of letters and digits"},
        {EVENT "ce-subject:\r\n", NULL, "ce-subject must not be empty"},
        {EVENT "ce-subject: \"\"\r\n", NULL, "ce-subject must not be empty"},
        {EVENT "ce-subject: \"a\r\n", NULL, "ce-subject opens a quote that is not closed"},
        {EVENT "ce-subject: 100%\r\n", NULL,
         "ce-subject must have two hex digits, other than 00, behind each %"},
        {EVENT "ce-subject: a%00\r\n", NULL,
         "ce-subject must have two hex digits, other than 00, behind each %"},
        {EVENT "ce-subject: %C0%A0\r\n", NULL,
         "ce-subject must be UTF-8 without control characters"},
        {EVENT "ce-subject: a%0d%0ab\r\n", NULL,
         "ce-subject must be UTF-8 without control characters"},
        {EVENT "ce-subject: %C2%85\r\n", NULL,
         "ce-subject must be UTF-8 without control characters"},
        {EVENT "CE-ID: 2\r\n", NULL, "CE-ID is given twice"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_http_decoder d;
        struct hg_http_props props;
        struct hg_writer why = {0};
        bool is_fine = open_props(&d, &props, table[i].lines, &why);
        if (is_fine != (table[i].name != NULL)) {
            fail_msg("%s: %.*s", table[i].lines, HG_BYTES_FMT(hg_writer_view(&why)));
        }
        if (!is_fine) {
            assert_text(hg_writer_view(&why), table[i].value);
        } else if (table[i].name[0] == '\0') {
            assert_int_equal(props.properties.headers_n, 0);
        } else {
            assert_text(props.headers[0].name, table[i].name);
            assert_text(props.headers[0].value.u.bytes, table[i].value);
        }
        hg_writer_close(&why);
        hg_http_props_close(&props);
        hg_http_decoder_close(&d);
    }
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_property_has_its_header),
        cmocka_unit_test(a_bare_request_is_persistent_and_gets_an_id),
        cmocka_unit_test(an_idempotency_key_is_the_message_id),
        cmocka_unit_test(a_value_that_does_not_parse_is_named),
        cmocka_unit_test(long_values_keep_within_amqp),
        cmocka_unit_test(an_attribute_of_an_event_is_unquoted_and_decoded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
