/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties to AMQP's and back, property by property. */
#include "adapters/mqtt/mqtt_message.h"

#include "adapters/mqtt/mqtt_codec.h"
#include "message/topic.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "unit/rules/fixture.h"

static const struct hg_rule_spec specs[] = {
    {.name = "sensors",
     .pattern = ALL("Sensor/{kind}"),
     .exchange = "telemetry",
     .key = "sensor.{kind}"},
    {.name = "work", .pattern = ALL("work"), .queue = "work.items"},
    {.name = "long",
     .pattern = ALL("long/{x}"),
     .exchange = "telemetry",
     .key = "long.{x}",
     .overlong = HG_OVERLONG_HASH},
    BUILTIN,
};

static struct hg_rules *rules;
static size_t live; /* blocks of memory that the rules take */

static int open_rules(void **state)
{
    (void)state;
    rules = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    live = seam_live();
    return 0;
}

static int close_rules(void **state)
{
    (void)state;
    hg_rules_free(rules);
    return 0;
}

/* ---- AMQP properties as a line of text, and the other way round ---- */

static void show_text(struct hg_writer *w, const char *name, struct hg_bytes text)
{
    if (text.n > 0) {
        hg_writer_printf(w, "%s=%.*s ", name, HG_BYTES_FMT(text));
    }
}

static void show_properties(struct hg_writer *w, const struct hg_properties *p)
{
    show_text(w, "content_type", p->content_type);
    show_text(w, "content_encoding", p->content_encoding);
    show_text(w, "correlation_id", p->correlation_id);
    show_text(w, "reply_to", p->reply_to);
    show_text(w, "expiration", p->expiration);
    show_text(w, "message_id", p->message_id);
    show_text(w, "type", p->type);
    show_text(w, "user_id", p->user_id);
    show_text(w, "app_id", p->app_id);
    if (p->has_timestamp) {
        hg_writer_printf(w, "timestamp=%llu ", (unsigned long long)p->timestamp_s);
    }
    if (p->has_priority) {
        hg_writer_printf(w, "priority=%u ", p->priority);
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        const struct hg_header *h = &p->headers[i];
        static const char *const kinds[] = {"null", "bool", "int",    "double",
                                            "time", "str",  "binary", "json"};
        hg_writer_printf(w, "[%.*s:%s ", HG_BYTES_FMT(h->name), kinds[h->value.kind]);
        hg_value_write_text(w, &h->value);
        hg_writer_str(w, "] ");
    }
}

static void show_mqtt(struct hg_writer *w, struct hg_bytes raw)
{
    struct hg_mqtt_properties p;
    struct hg_error err;
    struct hg_bytes name;
    struct hg_bytes value;
    assert_int_equal(hg_mqtt_property_check(HG_MQTT_PUBLISH << 4, raw, &err), 0);
    hg_mqtt_property_read(raw, &p);
    if (hg_mqtt_property_has(&p, HG_MQTT_PAYLOAD_FORMAT)) {
        hg_writer_printf(w, "format=%u ", p.payload_format);
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_MESSAGE_EXPIRY)) {
        hg_writer_printf(w, "expiry=%u ", p.message_expiry_s);
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_CONTENT_TYPE)) {
        hg_writer_printf(w, "content_type=%.*s ", HG_BYTES_FMT(p.content_type));
    }
    show_text(w, "response", p.response_topic);
    if (hg_mqtt_property_has(&p, HG_MQTT_CORRELATION_DATA)) {
        hg_writer_str(w, "correlation=");
        hex_write(w, p.correlation_data);
        hg_writer_str(w, " ");
    }
    while (hg_mqtt_property_next_user(&raw, &name, &value)) {
        hg_writer_printf(w, "[%.*s %.*s] ", HG_BYTES_FMT(name), HG_BYTES_FMT(value));
    }
}

static void assert_shows(struct hg_writer *w, const char *want, const char *title)
{
    hg_writer_u8(w, 0);
    if (strcmp((const char *)w->buf->data, want) != 0) {
        fail_msg("%s\nwant %s\ngot  %s", title, want, (const char *)w->buf->data);
    }
    hg_writer_close(w);
}

/* ---- Both ways ---- */

/* User Property: 26, length, name, length, value. */
#define USER(a, b) "26 0001 " a " 0001 " b " "

/* clang-format off */
static const struct {
    const char *title, *hex, *amqp;
    const char *mqtt; /* NULL: not accepted */
} cases[] = {
    {"nothing", "", "", ""},
    {"content type", "03 0003 612f62", "content_type=a/b ", "content_type=a/b "},
    {"an empty content type", "03 0000", "[x-content-type:str ] ", "content_type= "},
    {"payload format, unspecified", "01 00", "[x-payload-format:int 0] ", "format=0 "},
    {"payload format, UTF-8", "01 01", "[x-payload-format:int 1] ", "format=1 "},
    {"expiry", "02 0000003c", "expiration=60000 ", ""},
    {"expiry 0", "02 00000000", "expiration=0 ", ""},
    {"expiry that AMQP cannot express", "02 ffffffff", "expiration=4294967295 ", ""},
    {"correlation, text", "09 0002 c3a9", "correlation_id=\xc3\xa9 ", "correlation=c3 a9 "},
    {"correlation, binary", "09 0002 00ff", "[x-correlation-id:binary AP8=] ", "correlation=00 ff "},
    {"correlation, empty", "09 0000", "[x-correlation-id:str ] ", "correlation= "},
    {"response topic", "08 0003 612f62", "[x-reply-to-topic:str a.b] ", "response=a/b "},
    {"response topic of another exchange", "08 0008 53656e736f722f74", "[x-reply-to-topic:str sensor.t] [x-reply-to-exchange:str telemetry] ", "response=Sensor/t "},
    {"response topic that is a queue", "08 0004 776f726b", "reply_to=work.items ", "response=work "},
    {"user properties in order, repeated names too", USER("62", "31") USER("61", "32") USER("62", "33"),
     "[b:str 1] [a:str 2] [b:str 3] ", "[b 1] [a 2] [b 3] "},
    {"one without name and value", "26 0000 0000", "[:str ] ", "[ ] "},
    {"content-encoding", "26 0010 636f6e74656e742d656e636f64696e67 0002 677a", "content_encoding=gz ", "[content-encoding gz] "},
    {"priority", "26 0008 7072696f72697479 0001 37", "priority=7 ", "[priority 7] "},
    {"priority that is none", "26 0008 7072696f72697479 0003 323536", "[priority:str 256] ", "[priority 256] "},
    {"message-id", "26 000a 6d6573736167652d6964 0001 31", "message_id=1 ", "[message-id 1] "},
    {"message-id twice", "26 000a 6d6573736167652d6964 0001 31 26 000a 6d6573736167652d6964 0001 32", "message_id=1 [message-id:str 2] ", "[message-id 1] [message-id 2] "},
    {"timestamp", "26 0009 74696d657374616d70 0002 3939", "timestamp=99 ", "[timestamp 99] "},
    {"timestamp that is none", "26 0009 74696d657374616d70 0003 6e6f77", "[timestamp:str now] ", "[timestamp now] "},
    {"type", "26 0004 74797065 0001 74", "type=t ", "[type t] "},
    {"user-id", "26 0007 757365722d6964 0001 75", "user_id=u ", "[user-id u] "},
    {"app-id", "26 0006 6170702d6964 0001 61", "app_id=a ", "[app-id a] "},
    {"reserved: CC", "26 0002 4343 0001 61", "", ""},
    {"reserved: bcc", "26 0003 626363 0001 61", "", ""},
    {"reserved: x-headgate-a", "26 000c 782d68656164676174652d61 0001 61", "", ""},
    {"reserved: x-payload-format", "26 0010 782d7061796c6f61642d666f726d6174 0001 31", "", ""},
    {"reserved: x-correlation-id", "26 0010 782d636f7272656c6174696f6e2d6964 0001 31", "", ""},
};
/* clang-format on */

static void properties_become_amqp_and_mqtt_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_writer raw = {0};
        struct hg_writer shown = {0};
        struct hg_writer back = {0};
        struct hg_mqtt_inbound in;
        const char *why = NULL;
        hex_read(&raw, cases[i].hex);
        assert_int_equal(
            hg_mqtt_message_in(&in, rules, hg_writer_view(&raw), HG_BYTES("body"), 1, &why), HG_OK);
        show_properties(&shown, &in.properties);
        assert_shows(&shown, cases[i].amqp, cases[i].title);
        const struct hg_message_parts parts = {.properties = in.properties};
        struct hg_message *m = hg_message_new(&parts);
        hg_mqtt_message_out(&back, rules, m, UINT32_MAX, HG_BYTES(""));
        show_mqtt(&shown, hg_writer_view(&back));
        assert_shows(&shown, cases[i].mqtt, cases[i].title);
        assert_false(hg_mqtt_message_has_private_reply(rules, m));
        hg_message_unref(m);
        hg_writer_close(&back);
        hg_writer_close(&raw);
    }
}

#define STR(name, text)                                \
    {                                                  \
        HG_BYTES(name),                                \
        {                                              \
            HG_VALUE_STRING, .u.bytes = HG_BYTES(text) \
        }                                              \
    }

static void assert_out(const struct hg_message_parts *parts, uint32_t left_s, const char *reply,
                       const char *want)
{
    struct hg_writer raw = {0};
    struct hg_writer shown = {0};
    struct hg_message *m = hg_message_new(parts);
    hg_mqtt_message_out(&raw, rules, m, left_s, hg_bytes_str(reply));
    assert_false(raw.failed);
    show_mqtt(&shown, hg_writer_view(&raw));
    assert_shows(&shown, want, want);
    hg_message_unref(m);
    hg_writer_close(&raw);
}

/* What a stream does to a table of headers. */
static void sort(struct hg_mqtt_inbound *in)
{
    for (size_t i = 1; i < in->properties.headers_n; i++) {
        for (size_t k = i; k > 0; k--) {
            struct hg_header *a = &in->headers[k - 1];
            struct hg_header *b = &in->headers[k];
            size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;
            int order = memcmp(a->name.p, b->name.p, n);
            if (order < 0 || (order == 0 && a->name.n <= b->name.n)) {
                break;
            }
            struct hg_header swapped = *a;
            *a = *b;
            *b = swapped;
        }
    }
}

static void a_retained_message_keeps_the_order_of_user_properties(void **state)
{
    static const char *const orders[] = {"a b c", "b a b", "c b a b c a", "aa a b a", "z", "b a"};
    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct hg_writer raw = {0};
        struct hg_mqtt_inbound in;
        const char *why;
        char number[2] = "0";
        struct hg_bytes rest = hg_bytes_str(orders[i]);
        struct hg_bytes word;
        bool has_more = true;
        while (hg_topic_next(&rest, &has_more, ' ', &word)) {
            number[0]++;
            hg_mqtt_property_user(&raw, word, hg_bytes_str(number));
        }
        assert_int_equal(
            hg_mqtt_message_in(&in, rules, hg_writer_view(&raw), HG_BYTES(""), 0, &why), HG_OK);
        hg_mqtt_message_keep_order(&in);
        for (int is_stored = 0; is_stored <= 1; is_stored++) {
            struct hg_writer back = {0};
            const struct hg_message_parts parts = {.properties = in.properties};
            struct hg_message *m = hg_message_new(&parts);
            hg_mqtt_message_out(&back, rules, m, UINT32_MAX, HG_BYTES(""));
            assert_bytes(hg_writer_view(&back), hg_writer_n(&raw), raw.buf->data);
            hg_message_unref(m);
            hg_writer_close(&back);
            sort(&in);
        }
        hg_writer_close(&raw);
    }
    assert_int_equal(seam_live(), live);
}

static void an_order_of_somebody_else_is_passed_over(void **state)
{
    static const char *const orders[] = {"", "0", "00", "02", "0/", "01x"};
    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        const struct hg_header headers[] = {
            STR("a", "1"),
            STR("b", "2"),
            {HG_BYTES("x-user-property-order"),
             {HG_VALUE_STRING, .u.bytes = hg_bytes_str(orders[i])}}};
        const struct hg_message_parts parts = {.properties = {.headers = headers, .headers_n = 3}};
        assert_out(&parts, UINT32_MAX, "", "[a 1] [b 2] ");
    }
}

static void quality_of_service_is_the_delivery_mode(void **state)
{
    (void)state;
    for (uint8_t qos = 0; qos <= 2; qos++) {
        struct hg_mqtt_inbound in;
        const char *why;
        assert_int_equal(hg_mqtt_message_in(&in, rules, HG_BYTES(""), HG_BYTES("\xff"), qos, &why),
                         HG_OK);
        assert_int_equal(in.properties.delivery_mode, qos == 0 ? 1 : 2);
    }
}

/* n bytes of text as a property. */
static void write_long(struct hg_writer *w, enum hg_mqtt_property_id id, size_t n)
{
    static char text[65536];
    memset(text, 'x', n);
    if (id == HG_MQTT_USER_PROPERTY) {
        hg_mqtt_property_user(w, hg_bytes(text, n), HG_BYTES("v"));
    } else {
        hg_mqtt_property_bytes(w, id, hg_bytes(text, n));
    }
}

static void what_amqp_has_no_room_for_travels_in_headers(void **state)
{
    static const enum hg_mqtt_property_id ids[] = {HG_MQTT_CONTENT_TYPE, HG_MQTT_CORRELATION_DATA};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 255; n <= 256; n++) {
            struct hg_writer raw = {0};
            struct hg_writer back = {0};
            struct hg_mqtt_inbound in;
            const char *why;
            write_long(&raw, ids[i], n);
            assert_int_equal(
                hg_mqtt_message_in(&in, rules, hg_writer_view(&raw), HG_BYTES(""), 0, &why), HG_OK);
            assert_int_equal(in.properties.headers_n, n == 255 ? 0 : 1);
            const struct hg_message_parts parts = {.properties = in.properties};
            struct hg_message *m = hg_message_new(&parts);
            hg_mqtt_message_out(&back, rules, m, UINT32_MAX, HG_BYTES(""));
            assert_bytes(hg_writer_view(&back), hg_writer_n(&raw), raw.buf->data);
            hg_message_unref(m);
            hg_writer_close(&back);
            hg_writer_close(&raw);
        }
    }
}

static enum hg_status in_status(struct hg_writer *raw_own, struct hg_bytes payload)
{
    struct hg_mqtt_inbound in;
    const char *why = NULL;
    enum hg_status status =
        hg_mqtt_message_in(&in, rules, hg_writer_view(raw_own), payload, 0, &why);
    assert_true(status == HG_OK || why != NULL);
    hg_writer_close(raw_own);
    return status;
}

static void what_cannot_be_carried_is_refused(void **state)
{
    struct hg_writer w = {0};
    (void)state;
    write_long(&w, HG_MQTT_USER_PROPERTY, 255);
    assert_int_equal(in_status(&w, HG_BYTES("")), HG_OK);
    write_long(&w, HG_MQTT_USER_PROPERTY, 256);
    assert_int_equal(in_status(&w, HG_BYTES("")), HG_BAD_PROPERTY);
    write_long(&w, HG_MQTT_RESPONSE_TOPIC, 300);
    assert_int_equal(in_status(&w, HG_BYTES("")), HG_KEY_TOO_LONG);
    char hashed[300] = "long/";
    memset(hashed + 5, 'x', sizeof(hashed) - 5);
    hg_mqtt_property_bytes(&w, HG_MQTT_RESPONSE_TOPIC, hg_bytes(hashed, sizeof(hashed)));
    assert_int_equal(in_status(&w, HG_BYTES("")), HG_KEY_TOO_LONG);
    hg_mqtt_property_u8(&w, HG_MQTT_PAYLOAD_FORMAT, 1);
    assert_int_equal(in_status(&w, HG_BYTES("\xc3\xa9")), HG_OK);
    hg_mqtt_property_u8(&w, HG_MQTT_PAYLOAD_FORMAT, 1);
    assert_int_equal(in_status(&w, HG_BYTES("\xc3")), HG_BAD_PAYLOAD);
    hg_mqtt_property_u8(&w, HG_MQTT_PAYLOAD_FORMAT, 0);
    assert_int_equal(in_status(&w, HG_BYTES("\xc3")), HG_OK);
    for (unsigned n = HG_MQTT_USERS_MAX; n <= HG_MQTT_USERS_MAX + 1; n++) {
        hg_mqtt_property_u8(&w, HG_MQTT_PAYLOAD_FORMAT, 1);
        write_long(&w, HG_MQTT_CONTENT_TYPE, 300);
        write_long(&w, HG_MQTT_CORRELATION_DATA, 300);
        hg_mqtt_property_bytes(&w, HG_MQTT_RESPONSE_TOPIC, HG_BYTES("Sensor/x"));
        for (unsigned i = 0; i < n; i++) {
            hg_mqtt_property_user(&w, HG_BYTES("a"), HG_BYTES("b"));
        }
        assert_int_equal(in_status(&w, HG_BYTES("")), n > HG_MQTT_USERS_MAX ? HG_TOO_MANY : HG_OK);
    }
    assert_int_equal(seam_live(), live);
}

/* ---- From AMQP publishers ---- */

static void headers_of_every_type_are_shown(void **state)
{
    const struct hg_header headers[] = {
        {HG_BYTES("i"), {HG_VALUE_INT, .u.i = -5}},
        {HG_BYTES("b"), {HG_VALUE_BOOL, .u.b = true}},
        {HG_BYTES("d"), {HG_VALUE_DOUBLE, .u.d = 0.1}},
        {HG_BYTES("t"), {HG_VALUE_TIMESTAMP, .u.timestamp_s = 1700000000}},
        {HG_BYTES("j"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("[1,{\"a\":2}]")}},
        {HG_BYTES("n"), {.kind = HG_VALUE_NULL}},
        {HG_BYTES("x"), {HG_VALUE_BINARY, .u.bytes = HG_BYTES("\0\xff")}},
        STR("x-headgate-ms", "1"),
        STR("x-death", "shown"),
    };
    const struct hg_message_parts parts = {
        .properties = {.headers = headers, .headers_n = sizeof(headers) / sizeof(headers[0])}};
    (void)state;
    assert_out(&parts, UINT32_MAX, "",
               "[i -5] [b true] [d 0.1] [t 1700000000] [j [1,{\"a\":2}]] [n ] [x AP8=] "
               "[x-death shown] ");
}

static void text_that_clients_refuse_is_made_clean(void **state)
{
    const struct hg_header headers[] = {STR("a\nb", "c\td"), STR("e", "\xef\xbf\xbf")};
    const struct hg_message_parts parts = {
        .properties = {.content_type = HG_BYTES("a\xff"), .headers = headers, .headers_n = 2}};
    (void)state;
    assert_out(&parts, UINT32_MAX, "",
               "content_type=a\xef\xbf\xbd [a\xef\xbf\xbd"
               "b c\xef\xbf\xbd"
               "d] [e \xef\xbf\xbd] ");
}

static void what_mqtt_has_no_room_for_is_left_out(void **state)
{
    static uint8_t text[65536];
    memset(text, 'x', sizeof(text));
    struct hg_header headers[] = {
        {HG_BYTES("long"), {HG_VALUE_STRING, .u.bytes = hg_bytes(text, sizeof(text))}},
        {HG_BYTES("x-correlation-id"), {HG_VALUE_STRING, .u.bytes = hg_bytes(text, sizeof(text))}},
        STR("a", "b")};
    const struct hg_message_parts parts = {.properties = {.headers = headers, .headers_n = 3}};
    (void)state;
    assert_out(&parts, UINT32_MAX, "", "[a b] ");
}

static void expiry_is_what_is_left(void **state)
{
    const struct hg_message_parts parts = {.properties = {.expiration = HG_BYTES("60000")}};
    (void)state;
    assert_out(&parts, 7, "", "expiry=7 ");
    assert_out(&parts, 0, "", "expiry=0 ");
    assert_out(&parts, UINT32_MAX, "", "");
}

static void a_date_that_the_gateway_gave_is_not_shown(void **state)
{
    const struct hg_header dated = {HG_BYTES("x-headgate-dated"), {HG_VALUE_BOOL, .u.b = true}};
    struct hg_message_parts parts = {.properties = {.has_timestamp = true, .timestamp_s = 5}};
    (void)state;
    assert_out(&parts, UINT32_MAX, "", "[timestamp 5] ");
    parts.properties.headers = &dated;
    parts.properties.headers_n = 1;
    assert_out(&parts, UINT32_MAX, "", "");
}

static void payload_format_is_shown_only_if_it_is_true(void **state)
{
    const struct hg_header format = {HG_BYTES("x-payload-format"), {HG_VALUE_INT, .u.i = 1}};
    struct hg_message_parts parts = {.properties = {.headers = &format, .headers_n = 1},
                                     .body = HG_BYTES("\xff")};
    (void)state;
    assert_out(&parts, UINT32_MAX, "", "");
    parts.body = HG_BYTES("ok");
    assert_out(&parts, UINT32_MAX, "", "format=1 ");
}

static bool has_private_reply(const struct hg_message_parts *parts)
{
    struct hg_message *m = hg_message_new(parts);
    bool is_private = hg_mqtt_message_has_private_reply(rules, m);
    hg_message_unref(m);
    return is_private;
}

static void a_queue_that_no_rule_explains_needs_a_topic(void **state)
{
    struct hg_message_parts parts = {.properties = {.reply_to = HG_BYTES("amq.gen-1")}};
    (void)state;
    assert_true(has_private_reply(&parts));
    assert_out(&parts, UINT32_MAX, "$reply/3", "response=$reply/3 ");
    assert_out(&parts, UINT32_MAX, "", "");
    const struct hg_header topic =
        STR("x-reply-to-topic", "a.b"); /* wins: the publisher is MQTT's */
    parts.properties.headers = &topic;
    parts.properties.headers_n = 1;
    assert_false(has_private_reply(&parts));
    assert_out(&parts, UINT32_MAX, "$reply/3", "response=a/b ");
    parts = (struct hg_message_parts){.properties = {.reply_to = HG_BYTES("work.items")}};
    assert_false(has_private_reply(&parts));
    assert_out(&parts, UINT32_MAX, "$reply/3", "response=work ");
    parts = (struct hg_message_parts){0};
    assert_false(has_private_reply(&parts));
    assert_out(&parts, UINT32_MAX, "$reply/3", "");
    assert_int_equal(seam_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_become_amqp_and_mqtt_again),
        cmocka_unit_test(a_retained_message_keeps_the_order_of_user_properties),
        cmocka_unit_test(an_order_of_somebody_else_is_passed_over),
        cmocka_unit_test(quality_of_service_is_the_delivery_mode),
        cmocka_unit_test(what_amqp_has_no_room_for_travels_in_headers),
        cmocka_unit_test(what_cannot_be_carried_is_refused),
        cmocka_unit_test(headers_of_every_type_are_shown),
        cmocka_unit_test(text_that_clients_refuse_is_made_clean),
        cmocka_unit_test(what_mqtt_has_no_room_for_is_left_out),
        cmocka_unit_test(expiry_is_what_is_left),
        cmocka_unit_test(a_date_that_the_gateway_gave_is_not_shown),
        cmocka_unit_test(payload_format_is_shown_only_if_it_is_true),
        cmocka_unit_test(a_queue_that_no_rule_explains_needs_a_topic),
    };
    return cmocka_run_group_tests(tests, open_rules, close_rules);
}
