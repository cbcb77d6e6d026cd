/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties: where each may stand, which values it may have, and that what is written
 * reads back. */
#include "adapters/mqtt/mqtt_property.h"

#include "adapters/mqtt/mqtt_codec.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>

/* ---- Where they may stand (section 2.2.2.2, table 2-4) ---- */

enum { WILL = 0 }; /* as hg_mqtt_property_check has it: commands are packet types << 4 */

struct home {
    uint8_t id;
    const char *value; /* hex of one that is fine */
    uint16_t packets;  /* bit: packet type; WILL is bit 0 */
};
#define IN(type) (1U << HG_MQTT_##type)
#define ANSWERS                                                                      \
    (IN(CONNACK) | IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) | \
     IN(UNSUBACK) | IN(DISCONNECT) | IN(AUTH))

/* clang-format off */
static const struct home homes[] = {
    {0x01, "01",             IN(PUBLISH) | 1U << WILL},
    {0x02, "00000000",       IN(PUBLISH) | 1U << WILL},
    {0x03, "0001 78",        IN(PUBLISH) | 1U << WILL},
    {0x08, "0001 78",        IN(PUBLISH) | 1U << WILL},
    {0x09, "0002 00ff",      IN(PUBLISH) | 1U << WILL},
    {0x0b, "ffffff7f",       IN(SUBSCRIBE)}, /* and in a server's PUBLISH */
    {0x11, "ffffffff",       IN(CONNECT) | IN(CONNACK) | IN(DISCONNECT)},
    {0x12, "0001 78",        IN(CONNACK)},
    {0x13, "0000",           IN(CONNACK)},
    {0x15, "0001 78",        IN(CONNECT) | IN(CONNACK) | IN(AUTH)},
    {0x17, "00",             IN(CONNECT)},
    {0x18, "00000000",       1U << WILL},
    {0x19, "01",             IN(CONNECT)},
    {0x1a, "0001 78",        IN(CONNACK)},
    {0x1c, "0001 78",        IN(CONNACK) | IN(DISCONNECT)},
    {0x1f, "0001 78",        ANSWERS},
    {0x21, "0001",           IN(CONNECT) | IN(CONNACK)},
    {0x22, "0000",           IN(CONNECT) | IN(CONNACK)},
    {0x23, "ffff",           IN(PUBLISH)},
    {0x24, "01",             IN(CONNACK)},
    {0x25, "00",             IN(CONNACK)},
    {0x26, "0000 0000",      ANSWERS | IN(CONNECT) | IN(PUBLISH) | IN(SUBSCRIBE) | IN(UNSUBSCRIBE) | 1U << WILL},
    {0x27, "00000001",       IN(CONNECT) | IN(CONNACK)},
    {0x28, "01",             IN(CONNACK)},
    {0x29, "01",             IN(CONNACK)},
    {0x2a, "01",             IN(CONNACK)},
};
/* clang-format on */

static const struct home *home_of(unsigned id)
{
    for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
        if (homes[i].id == id) {
            return &homes[i];
        }
    }
    return NULL;
}

/* Checks bytes in a block of exactly their size, so that reading past them is found. */
static int check(uint8_t command, struct hg_bytes properties, struct hg_error *err)
{
    uint8_t *block = malloc(properties.n + 1);
    assert_non_null(block);
    memcpy(block, properties.p, properties.n);
    int rc = hg_mqtt_property_check(command, hg_bytes(block, properties.n), err);
    free(block);
    return rc;
}

static void every_property_stands_where_the_table_says(void **state)
{
    (void)state;
    for (unsigned id = 0; id < 256; id++) {
        const struct home *home = home_of(id);
        for (unsigned type = 0; type < 16; type++) {
            if (type == HG_MQTT_PINGREQ || type == HG_MQTT_PINGRESP) {
                continue; /* have none at all */
            }
            struct hg_writer w = {0};
            struct hg_error err;
            hg_writer_u8(&w, (uint8_t)id);
            hex_read(&w, home == NULL ? "00000000" : home->value);
            bool is_home = home != NULL && (home->packets >> type & 1) != 0;
            int rc = check((uint8_t)(type << 4), hg_writer_view(&w), &err);
            if ((rc == 0) != is_home) {
                fail_msg("property 0x%02x in packet %u: %d", id, type, rc);
            }
            bool is_special = id == HG_MQTT_SUBSCRIPTION_ID && type == HG_MQTT_PUBLISH;
            assert_true(rc == 0 || err.status == (is_special ? HG_PROTOCOL_ERROR : HG_MALFORMED));
            hg_writer_close(&w);
        }
    }
}

static void each_comes_once_but_user_properties(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
        struct hg_writer w = {0};
        struct hg_error err;
        uint8_t type = 0;
        while ((homes[i].packets >> type & 1) == 0) {
            type++;
        }
        for (int n = 0; n < 2; n++) {
            hg_writer_u8(&w, homes[i].id);
            hex_read(&w, homes[i].value);
        }
        int rc = check((uint8_t)(type << 4), hg_writer_view(&w), &err);
        assert_int_equal(rc, homes[i].id == HG_MQTT_USER_PROPERTY ? 0 : -1);
        assert_true(rc == 0 || (err.status == HG_PROTOCOL_ERROR && err.at == hg_writer_n(&w) / 2));
        hg_writer_close(&w);
    }
}

static void no_property_is_read_from_half_of_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
        struct hg_writer w = {0};
        struct hg_error err;
        uint8_t type = 0;
        while ((homes[i].packets >> type & 1) == 0) {
            type++;
        }
        hg_writer_u8(&w, homes[i].id);
        hex_read(&w, homes[i].value);
        for (size_t n = 1; n < hg_writer_n(&w); n++) {
            assert_int_equal(check((uint8_t)(type << 4), hg_bytes(hg_writer_view(&w).p, n), &err),
                             -1);
            assert_int_equal(err.status, HG_MALFORMED);
        }
        hg_writer_close(&w);
    }
}

/* ---- Values ---- */

/* clang-format off */
static const struct {
    uint8_t type;
    const char *hex;
    int status; /* -1: fine */
    size_t at;
} values[] = {
    {HG_MQTT_PUBLISH,   "",                     -1, 0},
    {HG_MQTT_PUBLISH,   "01 00",                -1, 0},
    {HG_MQTT_PUBLISH,   "01 02",                HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_CONNECT,   "17 ff",                HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_CONNECT,   "19 02",                HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_CONNECT,   "21 0000",              HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_CONNECT,   "22 0000 27 00000000",  HG_PROTOCOL_ERROR, 3},
    {HG_MQTT_PUBLISH,   "23 0000",              HG_BAD_ALIAS, 0},
    {HG_MQTT_SUBSCRIBE, "0b 00",                HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_SUBSCRIBE, "0b 8000",              HG_MALFORMED, 0},
    {HG_MQTT_SUBSCRIBE, "0b ffffffff7f",        HG_MALFORMED, 0},
    {HG_MQTT_CONNECT,   "16 0000",              HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_CONNECT,   "16 0000 15 0001 78",   -1, 0},
    {HG_MQTT_AUTH,      "15 0001 78",           -1, 0},
    {HG_MQTT_PUBLISH,   "03 0001 00",           HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "03 0001 0a",           HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "03 0002 c3a9",         -1, 0},
    {HG_MQTT_PUBLISH,   "03 0001 c3",           HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "03 0003 eda080",       HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "26 0001 61 0001 ff",   HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "26 0001 ff 0001 61",   HG_MALFORMED, 0},
    {HG_MQTT_PUBLISH,   "09 0001 ff",           -1, 0},
    {HG_MQTT_PUBLISH,   "08 0000",              HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_PUBLISH,   "08 0003 612f2b",       HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_PUBLISH,   "08 0001 23",           HG_PROTOCOL_ERROR, 0},
    {HG_MQTT_PUBLISH,   "81 00",                HG_MALFORMED, 0}, /* a longer form of 0x01 */
};
/* clang-format on */

static void values_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct hg_writer w = {0};
        struct hg_error err = {0};
        hg_writer_u8(&w, 0); /* so that there is a buffer */
        hex_read(&w, values[i].hex);
        int rc = check((uint8_t)(values[i].type << 4), hg_bytes_skip(hg_writer_view(&w), 1), &err);
        if ((rc == 0) != (values[i].status == -1) ||
            (rc < 0 && ((int)err.status != values[i].status || err.at != values[i].at))) {
            fail_msg("%s: %d, %d at %zu", values[i].hex, rc, (int)err.status, err.at);
        }
        hg_writer_close(&w);
    }
}

static void what_is_written_reads_back(void **state)
{
    struct hg_writer w = {0};
    struct hg_mqtt_properties p;
    struct hg_error err;
    (void)state;
    hg_mqtt_property_u8(&w, HG_MQTT_REQUEST_PROBLEM, 1);
    hg_mqtt_property_user(&w, HG_BYTES("a"), HG_BYTES("1"));
    hg_mqtt_property_u32(&w, HG_MQTT_SESSION_EXPIRY, 0x01020304);
    hg_mqtt_property_u16(&w, HG_MQTT_RECEIVE_MAXIMUM, 0x0506);
    hg_mqtt_property_u32(&w, HG_MQTT_MAXIMUM_PACKET_SIZE, UINT32_MAX);
    hg_mqtt_property_u16(&w, HG_MQTT_TOPIC_ALIAS_MAXIMUM, 7);
    hg_mqtt_property_bytes(&w, HG_MQTT_AUTH_METHOD, HG_BYTES("m"));
    hg_mqtt_property_user(&w, HG_BYTES("a"), HG_BYTES(""));
    hg_mqtt_property_bytes(&w, HG_MQTT_AUTH_DATA, HG_BYTES("\0\xff"));
    struct hg_bytes all = hg_writer_view(&w);
    assert_int_equal(hg_mqtt_property_check(HG_MQTT_CONNECT << 4, all, &err), 0);
    hg_mqtt_property_read(all, &p);
    assert_int_equal(p.request_problem, 1);
    assert_int_equal(p.session_expiry_s, 0x01020304);
    assert_int_equal(p.receive_maximum, 0x0506);
    assert_int_equal(p.max_packet_bytes, UINT32_MAX);
    assert_int_equal(p.topic_alias_maximum, 7);
    assert_text(p.auth_method, "m");
    assert_bytes(p.auth_data, 2, "\0\xff");
    assert_int_equal(p.users_n, 2);
    assert_true(hg_mqtt_property_has(&p, HG_MQTT_REQUEST_PROBLEM));
    assert_true(hg_mqtt_property_has(&p, HG_MQTT_USER_PROPERTY));
    assert_false(hg_mqtt_property_has(&p, HG_MQTT_REQUEST_RESPONSE));
    struct hg_bytes name;
    struct hg_bytes value;
    assert_true(hg_mqtt_property_next_user(&all, &name, &value));
    assert_text(name, "a");
    assert_text(value, "1");
    assert_true(hg_mqtt_property_next_user(&all, &name, &value));
    assert_text(value, "");
    assert_false(hg_mqtt_property_next_user(&all, &name, &value));
    hg_writer_close(&w);
    assert_int_equal(seam_live(), 0);
}

static void an_identifier_keeps_its_28_bits(void **state)
{
    static const uint32_t ids[] = {1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455};
    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct hg_writer w = {0};
        struct hg_mqtt_properties p;
        hg_mqtt_property_varint(&w, HG_MQTT_SUBSCRIPTION_ID, ids[i]);
        assert_int_equal(hg_writer_n(&w), 2 + i / 2);
        hg_mqtt_property_read(hg_writer_view(&w), &p);
        assert_int_equal(p.subscription_id, ids[i]);
        hg_writer_close(&w);
    }
}

static void a_reason_string_is_cut_at_a_character(void **state)
{
    static uint8_t text[65540];
    struct hg_writer w = {0};
    struct hg_mqtt_properties p;
    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + 65534, "\xc3\xa9", 2); /* the 65,535th byte starts a character */
    hg_mqtt_property_bytes(&w, HG_MQTT_REASON_STRING, hg_bytes(text, sizeof(text)));
    hg_mqtt_property_read(hg_writer_view(&w), &p);
    assert_int_equal(p.reason_string.n, 65534);
    hg_writer_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_property_stands_where_the_table_says),
        cmocka_unit_test(each_comes_once_but_user_properties),
        cmocka_unit_test(no_property_is_read_from_half_of_it),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(an_identifier_keeps_its_28_bits),
        cmocka_unit_test(a_reason_string_is_cut_at_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
