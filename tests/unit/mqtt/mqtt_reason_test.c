/* SPDX-License-Identifier: Apache-2.0 */
/* Reason codes against the tables of MQTT 5.0, written down here packet by packet. */
#include "adapters/mqtt/mqtt_reason.h"

#include "seam/unit.h"

struct codes {
    enum hg_mqtt_type type;
    size_t n;
    const uint8_t *codes;
};
/* clang-format off */
#define CODES(type, ...) {type, sizeof((uint8_t[]){__VA_ARGS__}), (const uint8_t[]){__VA_ARGS__}}

/* What a server may send. */
static const struct codes from_server[] = {
    CODES(HG_MQTT_CONNACK, /* 3.2.2.2 */
          0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f),
    CODES(HG_MQTT_PUBACK, /* 3.4.2.1 */
          0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    CODES(HG_MQTT_PUBREC, /* 3.5.2.1 */
          0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    CODES(HG_MQTT_PUBREL, 0x00, 0x92),  /* 3.6.2.1 */
    CODES(HG_MQTT_PUBCOMP, 0x00, 0x92), /* 3.7.2.1 */
    CODES(HG_MQTT_SUBACK, /* 3.9.3 */
          0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2),
    CODES(HG_MQTT_UNSUBACK, /* 3.11.3 */
          0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91),
    CODES(HG_MQTT_DISCONNECT, /* 3.14.2.1 */
          0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
          0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2),
    CODES(HG_MQTT_AUTH, 0x00, 0x18), /* 3.15.2.1 */
};

/* What a client may send. */
static const struct codes from_client[] = {
    CODES(HG_MQTT_PUBACK, 0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99), /* 0x10: "sent only by the Server" */
    CODES(HG_MQTT_PUBREC, 0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    CODES(HG_MQTT_PUBREL, 0x00, 0x92),
    CODES(HG_MQTT_PUBCOMP, 0x00, 0x92),
    CODES(HG_MQTT_DISCONNECT, /* "Client", "Client or Server" */
          0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99),
    CODES(HG_MQTT_AUTH, 0x18, 0x19),
};
/* clang-format on */

static void assert_table(const struct codes *tables, size_t tables_n,
                         bool is_allowed(enum hg_mqtt_type, uint8_t), const char *sender)
{
    for (int type = 0; type < 16; type++) {
        for (unsigned code = 0; code < 256; code++) {
            bool is_listed = false;
            for (size_t i = 0; i < tables_n; i++) {
                is_listed = is_listed || ((int)tables[i].type == type &&
                                          memchr(tables[i].codes, (int)code, tables[i].n) != NULL);
            }
            if (is_allowed((enum hg_mqtt_type)type, (uint8_t)code) != is_listed) {
                fail_msg("type %d, code 0x%02x from the %s", type, code, sender);
            }
        }
    }
}

static void a_server_may_send_what_the_tables_say(void **state)
{
    (void)state;
    assert_table(from_server, sizeof(from_server) / sizeof(from_server[0]),
                 hg_mqtt_reason_is_allowed, "server");
}

static void a_client_may_send_what_the_tables_say(void **state)
{
    (void)state;
    assert_table(from_client, sizeof(from_client) / sizeof(from_client[0]),
                 hg_mqtt_reason_is_from_client, "client");
}

static void every_outcome_has_an_allowed_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(from_server) / sizeof(from_server[0]); i++) {
        enum hg_mqtt_type type = from_server[i].type;
        for (unsigned s = 0; s < HG_STATUS_N; s++) {
            uint8_t reason = hg_mqtt_reason_for(type, (enum hg_status)s);
            assert_true(hg_mqtt_reason_is_allowed(type, reason));
            bool is_failure = s != HG_OK && type != HG_MQTT_AUTH &&
                              !(s == HG_CLOSED && type == HG_MQTT_DISCONNECT);
            assert_int_equal(reason != HG_MQTT_SUCCESS, is_failure);
        }
    }
}

static void codes_are_the_ones_that_semantics_promise(void **state)
{
    static const struct {
        enum hg_mqtt_type type;
        enum hg_status status;
        uint8_t reason;
    } cases[] = {
        {HG_MQTT_DISCONNECT, HG_MALFORMED, 0x81},
        {HG_MQTT_DISCONNECT, HG_PROTOCOL_ERROR, 0x82},
        {HG_MQTT_DISCONNECT, HG_TOO_LARGE, 0x95},
        {HG_MQTT_DISCONNECT, HG_BAD_ADDRESS, 0x90},
        {HG_MQTT_DISCONNECT, HG_BAD_FILTER, 0x8f},
        {HG_MQTT_DISCONNECT, HG_BAD_ALIAS, 0x94},
        {HG_MQTT_DISCONNECT, HG_TOO_MANY_INFLIGHT, 0x93},
        {HG_MQTT_DISCONNECT, HG_BROKER_AWAY, 0x89},
        {HG_MQTT_CONNACK, HG_BROKER_AWAY, 0x88},
        {HG_MQTT_CONNACK, HG_MALFORMED, 0x81},
        {HG_MQTT_CONNACK, HG_BAD_LOGIN, 0x86},
        {HG_MQTT_PUBACK, HG_UNROUTABLE, 0x10},
        {HG_MQTT_PUBREC, HG_REJECTED, 0x97},
        {HG_MQTT_PUBACK, HG_NOT_ALLOWED, 0x87},
        {HG_MQTT_PUBACK, HG_NO_EXCHANGE, 0x83},
        {HG_MQTT_PUBACK, HG_BAD_PAYLOAD, 0x99},
        {HG_MQTT_PUBACK, HG_NO_RETAIN, 0x80},
        {HG_MQTT_SUBACK, HG_NOT_ALLOWED, 0x87},
        {HG_MQTT_SUBACK, HG_TOO_MANY, 0x97},
        {HG_MQTT_UNSUBACK, HG_TOO_MANY, 0x80},
        {HG_MQTT_PUBCOMP, HG_STALE, 0x92},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(hg_mqtt_reason_for(cases[i].type, cases[i].status), cases[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_may_send_what_the_tables_say),
        cmocka_unit_test(a_client_may_send_what_the_tables_say),
        cmocka_unit_test(every_outcome_has_an_allowed_code),
        cmocka_unit_test(codes_are_the_ones_that_semantics_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
