/* SPDX-License-Identifier: Apache-2.0 */
/* What RabbitMQ would close a channel over is refused before; what it takes is not. */
#include "amqp/amqp_channel.h"
#include "rig.h"
#include "seam/seam.h"
#include "seam/unit.h"

enum { FRAME_MAX = 4096, BODY_MAX = 1000 };

static const char *check(const struct hg_message_parts *parts)
{
    return hg_amqp_check_publish(parts, HG_BYTES("guest"), FRAME_MAX, BODY_MAX);
}

static void assert_refused(const struct hg_message_parts *parts, const char *why)
{
    const char *got = check(parts);
    assert_non_null(got);
    assert_string_equal(got, why);
}

static void an_expiration_is_digits_below_two_to_the_32(void **state)
{
    (void)state;
    static const struct {
        const char *expiration;
        bool is_fine;
    } cases[] = {
        {"", true}, /* absent */
        {"0", true},    {"60000", true},       {"4294967295", true},
        {"007", true},  {"4294967296", false}, {"99999999999999999999", false},
        {"-1", false},  {"+1", false},         {"abc", false},
        {"1.5", false}, {"1e3", false},        {" 1", false},
        {"1 ", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hg_message_parts parts = {.properties.expiration =
                                             hg_bytes_str(cases[i].expiration)};
        assert_int_equal(check(&parts) == NULL, cases[i].is_fine);
    }
}

static void a_user_id_is_the_login_or_none(void **state)
{
    (void)state;
    struct hg_message_parts parts = {.properties.user_id = HG_BYTES("guest")};
    assert_null(check(&parts));
    parts.properties.user_id = HG_BYTES("other");
    assert_refused(&parts, "user_id is not the user that is logged in");
    parts.properties.user_id = HG_BYTES("guest");
    assert_non_null(hg_amqp_check_publish(&parts, HG_BYTES(""), FRAME_MAX, BODY_MAX));
    parts.properties.user_id = HG_BYTES("");
    assert_null(hg_amqp_check_publish(&parts, HG_BYTES(""), FRAME_MAX, BODY_MAX));
}

static void short_strings_end_at_255_bytes(void **state)
{
    (void)state;
    static uint8_t text[256];
    struct hg_message_parts parts = {0};
    struct hg_bytes *const fields[] = {
        &parts.exchange,
        &parts.routing_key,
        &parts.properties.content_type,
        &parts.properties.content_encoding,
        &parts.properties.correlation_id,
        &parts.properties.reply_to,
        &parts.properties.message_id,
        &parts.properties.type,
        &parts.properties.app_id,
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i] = hg_bytes(text, 255);
        assert_null(check(&parts));
        *fields[i] = hg_bytes(text, 256);
        assert_non_null(check(&parts));
        *fields[i] = hg_bytes(NULL, 0);
    }
    struct hg_header h = {hg_bytes(text, 256), {.kind = HG_VALUE_NULL}};
    parts.properties.headers = &h;
    parts.properties.headers_n = 1;
    assert_refused(&parts, "a header's name is over 255 bytes");
}

static void other_values_are_checked(void **state)
{
    (void)state;
    static uint8_t body[BODY_MAX + 1];
    struct hg_message_parts parts = {.body = hg_bytes(body, BODY_MAX)};
    assert_null(check(&parts));
    parts.body.n++;
    assert_refused(&parts, "the body is over the size that RabbitMQ takes");
    parts.body.n = 0;
    parts.properties.delivery_mode = 3;
    assert_refused(&parts, "delivery_mode is neither 1 nor 2");
    parts.properties.delivery_mode = 2;
    parts.properties.has_priority = true;
    parts.properties.priority = 255;
    assert_null(check(&parts));
}

static void cc_and_bcc_are_arrays(void **state)
{
    (void)state;
    struct hg_header h = {HG_BYTES("CC"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("key")}};
    struct hg_message_parts parts = {.properties = {.headers = &h, .headers_n = 1}};
    assert_refused(&parts, "a CC or BCC header is not an array");
    h.name = HG_BYTES("BCC");
    h.value.kind = HG_VALUE_JSON;
    h.value.u.bytes = HG_BYTES("{\"a\":1}");
    assert_refused(&parts, "a CC or BCC header is not an array");
    h.value.u.bytes = HG_BYTES("[\"key\"]");
    assert_null(check(&parts));
    h.value.u.bytes = HG_BYTES("[\"key\"");
    assert_refused(&parts, "the headers do not fit one frame, or a nested one is not valid JSON");
}

/* What the check lets pass is encoded, and what it stops for its size is not: to the byte. */
static void headers_fit_one_frame_to_the_byte(void **state)
{
    (void)state;
    static struct broker b;
    static uint8_t text[FRAME_MAX + 1];
    static char json[FRAME_MAX + 1];
    struct rig r;
    rig_connect(&r, &b, 1);
    for (size_t kind = 0; kind < 2; kind++) {
        size_t fitting = 0;
        for (size_t n = 3; n <= FRAME_MAX; n++) {
            struct hg_header h = {HG_BYTES("h"), {HG_VALUE_STRING, .u.bytes = hg_bytes(text, n)}};
            if (kind == 1) {
                memset(json, '1', n);
                memcpy(json, "[\"", 2);
                memcpy(json + n - 2, "\"]", 2);
                h.value = (struct hg_value){HG_VALUE_JSON, .u.bytes = hg_bytes(json, n)};
                if (n == 3) {
                    continue;
                }
            }
            struct hg_message_parts parts = {
                .exchange = HG_BYTES("x"),
                .properties = {.headers = &h,
                               .headers_n = 1,
                               .content_type = HG_BYTES("text/plain"),
                               .expiration = HG_BYTES("1"),
                               .has_timestamp = true,
                               .has_priority = true,
                               .delivery_mode = 2},
            };
            if (n < FRAME_MAX - 200 && n % 97 != 0) {
                continue;
            }
            bool is_fine = check(&parts) == NULL;
            struct hg_message *m = hg_message_new(&parts);
            enum hg_status status = hg_amqp_basic_publish(r.ch[0], m);
            hg_message_unref(m);
            assert_int_equal(status, is_fine ? HG_OK : HG_BAD_PROPERTY);
            fitting += is_fine;
            hg_buf_unref(hg_amqp_conn_take_output(r.conn));
        }
        assert_true(fitting > 100);
    }
    rig_close(&r);
    broker_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_expiration_is_digits_below_two_to_the_32),
        cmocka_unit_test(a_user_id_is_the_login_or_none),
        cmocka_unit_test(short_strings_end_at_255_bytes),
        cmocka_unit_test(other_values_are_checked),
        cmocka_unit_test(cc_and_bcc_are_arrays),
        cmocka_unit_test(headers_fit_one_frame_to_the_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
