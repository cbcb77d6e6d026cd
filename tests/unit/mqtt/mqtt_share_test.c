/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of a shared packet, piece by piece, against what the codec writes for each of them whole;
 * topic aliases. */
#include "adapters/mqtt/mqtt_share.h"

#include "adapters/mqtt/mqtt_alias.h"
#include "adapters/mqtt/mqtt_codec.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

static void join(const struct hg_mqtt_pieces *pieces, struct hg_writer *out)
{
    const struct hg_bytes all[] = {pieces->head, pieces->topic, pieces->middle, pieces->own,
                                   pieces->rest};
    for (size_t i = 0; i < 5; i++) {
        hg_writer_bytes(out, all[i]);
    }
}

static void assert_copy(const struct hg_buf *packet, uint8_t level, const struct hg_mqtt_copy *copy,
                        const char *hex)
{
    struct hg_mqtt_shared shared = hg_mqtt_share(level, hg_buf_bytes(packet));
    struct hg_mqtt_pieces pieces;
    struct hg_writer got = {0};
    struct hg_writer want = {0};
    assert_true(hg_mqtt_share_copy(&shared, copy, &pieces));
    join(&pieces, &got);
    hex_read(&want, hex);
    assert_bytes(hg_writer_view(&got), hg_writer_n(&want), want.buf->data);
    assert_int_equal(pieces.n, hg_writer_n(&want));
    hg_writer_close(&got);
    hg_writer_close(&want);
}

static void a_copy_for_3_1_1_has_flags_and_an_identifier_of_its_own(void **state)
{
    (void)state;
    struct hg_buf *packet =
        hg_mqtt_share_encode(HG_MQTT_V311, HG_BYTES("t"), HG_BYTES("ignored"), 9, HG_BYTES("x"));
    assert_bytes(hg_buf_bytes(packet), 6, "\x30\x04\x00\x01tx");
    const struct {
        struct hg_mqtt_copy copy;
        const char *hex;
    } cases[] = {
        {{.has_topic = true}, "30 04 0001 74 78"},
        {{.has_topic = true, .is_retained = true}, "31 04 0001 74 78"},
        {{.has_topic = true, .qos = 1, .packet_id = 0x1234}, "32 06 0001 74 1234 78"},
        {{.has_topic = true, .qos = 2, .packet_id = 7, .is_dup = true}, "3c 06 0001 74 0007 78"},
        {{.qos = 1, .packet_id = 1, .topic_alias = 3, .expiry_s = 5, .own = HG_BYTES("no")},
         "32 06 0001 74 0001 78"}, /* what only 5.0 knows */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_copy(packet, HG_MQTT_V311, &cases[i].copy, cases[i].hex);
    }
    hg_buf_unref(packet);
    assert_int_equal(seam_live(), 0);
}

static void a_copy_for_5_0_keeps_the_properties_and_adds_its_own(void **state)
{
    (void)state;
    const struct hg_bytes type = HG_BYTES("\x03\x00\x01j"); /* Content Type "j" */
    const struct {
        uint32_t expiry_s;
        struct hg_bytes common;
        struct hg_mqtt_copy copy;
        const char *hex;
    } cases[] = {
        {UINT32_MAX, HG_BYTES(""), {.has_topic = true}, "30 05 0001 74 00 78"},
        {UINT32_MAX, type, {.has_topic = true}, "30 09 0001 74 04 03 0001 6a 78"},
        {60,
         type,
         {.has_topic = true, .expiry_s = 59},
         "30 0e 0001 74 09 02 0000003b 03 0001 6a 78"},
        {UINT32_MAX,
         type,
         {.has_topic = true, .own = HG_BYTES("\x0b\x07"), .qos = 1, .packet_id = 1},
         "32 0d 0001 74 0001 06 0b 07 03 0001 6a 78"},
        {UINT32_MAX,
         HG_BYTES(""),
         {.has_topic = true, .topic_alias = 2},
         "30 08 0001 74 03 23 0002 78"},
        {3,
         type,
         {.has_topic = false, .topic_alias = 2, .expiry_s = 1, .own = HG_BYTES("\x0b\x07")},
         "30 12 0000 0e 02 00000001 23 0002 0b 07 03 0001 6a 78"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_buf *packet = hg_mqtt_share_encode(HG_MQTT_V50, HG_BYTES("t"), cases[i].common,
                                                     cases[i].expiry_s, HG_BYTES("x"));
        assert_non_null(packet);
        assert_copy(packet, HG_MQTT_V50, &cases[i].copy, cases[i].hex);
        hg_buf_unref(packet);
    }
    assert_int_equal(seam_live(), 0);
}

/* At every length where a variable byte integer becomes longer, a copy is what the codec would have
 * written. */
static void lengths_of_every_size_are_right(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,   1,     100,   116,   120,   121,     122,    127,
                                   128, 16370, 16376, 16384, 70000, 2097140, 2097152};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t own_n = 0; own_n <= 200; own_n += 50) {
            uint8_t own[200];
            memset(own, 'o', sizeof(own));
            struct hg_writer body = {0};
            uint8_t *room = hg_writer_reserve(&body, sizes[i] + 1);
            memset(room, 'b', sizes[i] + 1);
            hg_writer_commit(&body, sizes[i]);
            struct hg_bytes payload = hg_bytes(body.buf->data, sizes[i]);
            struct hg_buf *packet = hg_mqtt_share_encode(HG_MQTT_V50, HG_BYTES("a/b"), HG_BYTES(""),
                                                         UINT32_MAX, payload);
            struct hg_mqtt_shared shared = hg_mqtt_share(HG_MQTT_V50, hg_buf_bytes(packet));
            const struct hg_mqtt_copy copy = {
                .has_topic = true, .qos = 2, .packet_id = 9, .own = hg_bytes(own, own_n)};
            struct hg_mqtt_pieces pieces;
            struct hg_writer got = {0};
            struct hg_writer want = {0};
            assert_true(hg_mqtt_share_copy(&shared, &copy, &pieces));
            join(&pieces, &got);
            const struct hg_mqtt_publish whole = {.topic = HG_BYTES("a/b"),
                                                  .payload = payload,
                                                  .properties = hg_bytes(own, own_n),
                                                  .packet_id = 9,
                                                  .qos = 2};
            assert_true(hg_mqtt_write_publish(&want, HG_MQTT_V50, &whole));
            assert_bytes(hg_writer_view(&got), hg_writer_n(&want), want.buf->data);
            assert_int_equal(pieces.n, hg_writer_n(&want));
            hg_writer_close(&got);
            hg_writer_close(&want);
            hg_writer_close(&body);
            hg_buf_unref(packet);
        }
    }
    assert_int_equal(seam_live(), 0);
}

static void without_memory_there_is_no_packet(void **state)
{
    (void)state;
    size_t allocs = 1;
    for (size_t n = 1; n <= allocs; n++) {
        seam_fail_alloc(n);
        struct hg_buf *packet = hg_mqtt_share_encode(HG_MQTT_V50, HG_BYTES("t"),
                                                     HG_BYTES("\x01\x01"), 5, HG_BYTES("x"));
        allocs = seam_allocs();
        seam_fail_alloc(0);
        assert_true(n == allocs + 1 || packet == NULL);
        hg_buf_unref(packet);
    }
    assert_int_equal(seam_live(), 0);
}

/* ---- Aliases ---- */

static uint16_t alias(struct hg_mqtt_alias_out *a, const char *topic, bool *is_known)
{
    return hg_mqtt_alias_for(a, hg_bytes_str(topic), is_known);
}

static void a_topic_gets_an_alias_the_second_time(void **state)
{
    bool is_known;
    (void)state;
    struct hg_mqtt_alias_out *a = hg_mqtt_alias_new(2);
    assert_int_equal(alias(a, "long/topic", &is_known), 0);
    assert_int_equal(alias(a, "long/topic", &is_known), 1);
    assert_false(is_known);
    assert_int_equal(alias(a, "long/topic", &is_known), 1);
    assert_true(is_known);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(alias(a, "t/1", &is_known), 0); /* no shorter with one */
    }
    hg_mqtt_alias_free(a);
    assert_int_equal(seam_live(), 0);
}

static void the_alias_not_used_for_longest_is_given_away(void **state)
{
    bool is_known;
    (void)state;
    struct hg_mqtt_alias_out *a = hg_mqtt_alias_new(2);
    for (int i = 0; i < 2; i++) {
        (void)alias(a, "topic/1", &is_known);
        (void)alias(a, "topic/2", &is_known);
    }
    assert_int_equal(alias(a, "topic/1", &is_known), 1);
    assert_int_equal(alias(a, "topic/3", &is_known), 0);
    assert_int_equal(alias(a, "topic/3", &is_known), 2);
    assert_false(is_known);
    assert_int_equal(alias(a, "topic/2", &is_known), 0);
    assert_int_equal(alias(a, "topic/1", &is_known), 1);
    assert_true(is_known);
    hg_mqtt_alias_free(a);
    assert_int_equal(seam_live(), 0);
}

/* However many topics there are: the client that notes what it is told always has the right
 * topic. */
static void what_an_alias_stands_for_is_what_was_said_last(void **state)
{
    char told[9][16] = {{0}};
    uint64_t seed = 5;
    size_t saved = 0;
    (void)state;
    struct hg_mqtt_alias_out *a = hg_mqtt_alias_new(8);
    for (int i = 0; i < 100000; i++) {
        char topic[16];
        bool is_known;
        size_t which = unit_random_below(&seed, 20);
        which = which < 15 ? which % 5 : unit_random_below(&seed, 300);
        (void)snprintf(topic, sizeof(topic), "topic/%zu", which);
        uint16_t number = alias(a, topic, &is_known);
        assert_in_range(number, 0, 8);
        if (is_known) {
            assert_string_equal(told[number], topic);
            saved++;
        } else if (number != 0) {
            memcpy(told[number], topic, sizeof(topic));
        }
    }
    assert_true(saved > 50000);
    hg_mqtt_alias_free(a);
    assert_int_equal(seam_live(), 0);
}

static void without_memory_there_is_no_alias(void **state)
{
    bool is_known;
    (void)state;
    seam_fail_alloc(1);
    assert_null(hg_mqtt_alias_new(1));
    seam_fail_alloc(0);
    struct hg_mqtt_alias_out *a = hg_mqtt_alias_new(1);
    (void)alias(a, "long/topic", &is_known);
    for (size_t n = 1; n <= 2; n++) {
        seam_fail_alloc(n);
        assert_int_equal(alias(a, "long/topic", &is_known), 0);
        seam_fail_alloc(0);
    }
    assert_int_equal(alias(a, "long/topic", &is_known), 1);
    hg_mqtt_alias_free(a);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_for_3_1_1_has_flags_and_an_identifier_of_its_own),
        cmocka_unit_test(a_copy_for_5_0_keeps_the_properties_and_adds_its_own),
        cmocka_unit_test(lengths_of_every_size_are_right),
        cmocka_unit_test(without_memory_there_is_no_packet),
        cmocka_unit_test(a_topic_gets_an_alias_the_second_time),
        cmocka_unit_test(the_alias_not_used_for_longest_is_given_away),
        cmocka_unit_test(what_an_alias_stands_for_is_what_was_said_last),
        cmocka_unit_test(without_memory_there_is_no_alias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
