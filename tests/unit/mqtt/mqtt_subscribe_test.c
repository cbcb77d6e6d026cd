/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing, on the wire: what the client hears and what is asked of RabbitMQ, in 3.1.1 and 5.0.
 * Sections and conformance statements are those of MQTT 3.1.1 in the first table, of 5.0 in the
 * second. */
#include "adapters/mqtt/mqtt_group.h"
#include "adapters/mqtt/mqtt_session.h"
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

/* clang-format off */
/* Clean session, keep-alive 0, client identifier "c"; and its answer. */
#define CONNECT "10 0d 0004 4d515454 04 02 0000 0001 63"
#define HELLO   {SEND, CONNECT}, {EXPECT, "20 02 00 00"}
/* Subscribes to "t" with QoS 1; with QoS 0. */
#define TAKES_QOS1 {SEND, "82 06 0001 0001 74 01"}, {EXPECT, "90 03 0001 01"}
#define TAKES_QOS0 {SEND, "82 06 0001 0001 74 00"}, {EXPECT, "90 03 0001 00"}
/* The same in 5.0, without problem information. */
#define HELLO5 {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"}, {FORGET, ""}
#define TAKES5(options) {SEND, "82 07 0001 00 0001 74 " options}, {EXPECT, "90 04 0001 00 " options}
/* clang-format on */

static void answers_by_hand(struct core_fake *f)
{
    f->is_answering = false;
}

static void refuses_filters(struct core_fake *f)
{
    f->subscribe_status = HG_NO_RULE;
}

static void few_subscriptions(struct core_fake *f)
{
    f->config.max_subscriptions = 2;
}

/* clang-format off */
static const struct core_script scripts[] = {
    /* ---- 3.8 SUBSCRIBE, 3.9 SUBACK ---- */
    {"suback waits for the binding", answers_by_hand, {
        HELLO,
        {SEND, "82 08 000a 0003 612f2b 00"},
        {CALLS, "subscribe a/+"},
        {SILENCE, ""},
        {SUBSCRIBED, ""},
        {EXPECT, "90 03 000a 00"}}},
    {"one suback for all filters of a packet, in their order", answers_by_hand, {
        HELLO,
        {SEND, "82 0e 0001 0001 61 00 0001 62 01 0001 63 02"},
        {CALLS, "subscribe a; subscribe b; subscribe c"},
        {SUBSCRIBED, "3"},
        {SUBSCRIBED, "2 NO_EXCHANGE"},
        {SILENCE, ""},
        {SUBSCRIBED, ""},
        {EXPECT, "90 05 0001 00 80 02"},
        {CALLS, "serve c; unsubscribe b; serve a"}}},
    {"a filter that no rule meets fails, and only it", refuses_filters, {
        HELLO,
        {SEND, "82 06 0001 0001 61 00"},
        {EXPECT, "90 03 0001 80"},
        {OPEN, ""}}},
    {"past the number of subscriptions they fail", few_subscriptions, {
        HELLO,
        {SEND, "82 0a 0001 0001 61 00 0001 62 01"},
        {EXPECT, "90 04 0001 00 01"},
        {SEND, "82 0a 0002 0001 63 00 0001 62 00"},
        {EXPECT, "90 04 0002 80 00"}}},
    {"more filters than that in one packet end the connection", few_subscriptions, {
        HELLO,
        {SEND, "82 0e 0001 0001 61 00 0001 62 01 0001 63 02"},
        {CLOSED, "TOO_MANY"}}},
    {"the same filter again only changes its QoS [MQTT-3.8.4-3]", NULL, {
        HELLO,
        TAKES_QOS0,
        {SEND, "82 06 0002 0001 74 01"},
        {EXPECT, "90 03 0002 01"},
        {CALLS, "subscribe t; serve t; serve t"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"}}},
    {"also while the first waits: both are answered by one binding", answers_by_hand, {
        HELLO,
        {SEND, "82 06 0001 0001 74 00" "82 0a 0002 0001 74 01 0001 74 00"},
        {CALLS, "subscribe t"},
        {SILENCE, ""},
        {SUBSCRIBED, ""},
        {EXPECT, "90 03 0001 00" "90 04 0002 01 00"}}},
    {"or refused together", answers_by_hand, {
        HELLO,
        {SEND, "82 06 0001 0001 74 00" "82 06 0002 0001 74 01"},
        {SUBSCRIBED, "NO_EXCHANGE"},
        {EXPECT, "90 03 0001 80" "90 03 0002 80"}}},
    {"sixteen may wait; then the client does", answers_by_hand, {
        HELLO,
        {SEND, "82 06 0001 0001 74 00" "82 06 0002 0001 74 00" "82 06 0003 0001 74 00" "82 06 0004 0001 74 00"
               "82 06 0005 0001 74 00" "82 06 0006 0001 74 00" "82 06 0007 0001 74 00" "82 06 0008 0001 74 00"
               "82 06 0009 0001 74 00" "82 06 000a 0001 74 00" "82 06 000b 0001 74 00" "82 06 000c 0001 74 00"
               "82 06 000d 0001 74 00" "82 06 000e 0001 74 00" "82 06 000f 0001 74 00" "82 06 0010 0001 74 00"
               "c0 00" "82 06 0011 0001 75 00" "c0 00"},
        {EXPECT, "d0 00"},
        {CALLS, "subscribe t"},
        {SUBSCRIBED, ""},
        {EXPECT, "90 03 0001 00" "90 03 0002 00" "90 03 0003 00" "90 03 0004 00" "90 03 0005 00" "90 03 0006 00"
                 "90 03 0007 00" "90 03 0008 00" "90 03 0009 00" "90 03 000a 00" "90 03 000b 00" "90 03 000c 00"
                 "90 03 000d 00" "90 03 000e 00" "90 03 000f 00" "90 03 0010 00" "d0 00"},
        {CALLS, "serve t; serve t; serve t; serve t; serve t; serve t; serve t; serve t; serve t; serve t; serve t; "
                "serve t; serve t; serve t; serve t; serve t; subscribe u"}}},
    {"a subscription that RabbitMQ ends later ends the connection: 3.1.1 has no other word for it", NULL, {
        HELLO,
        TAKES_QOS1,
        {ENDED, "NO_QUEUE"},
        {CLOSED, "NO_QUEUE"}}},

    /* ---- 3.10 UNSUBSCRIBE ---- */
    {"unsubscribe ends deliveries [MQTT-3.10.4-2]", NULL, {
        HELLO,
        TAKES_QOS1,
        {SEND, "a2 05 0002 0001 74"},
        {CALLS, "subscribe t; serve t; unsubscribe t"},
        {EXPECT, "b0 02 0002"},
        {DELIVER, "address=t mode=2 body=x"},
        {SILENCE, ""}}},
    {"unsubscribe compares filters character by character [MQTT-3.10.4-1]", NULL, {
        HELLO,
        TAKES_QOS1,
        {SEND, "a2 08 0002 0001 2b 0001 54"},
        {CALLS, "subscribe t; serve t"},
        {EXPECT, "b0 02 0002"}}},
    {"unsubscribe before the binding is there", answers_by_hand, {
        HELLO,
        {SEND, "82 0a 0001 0001 74 00 0001 75 00" "a2 05 0002 0001 74"},
        {CALLS, "subscribe t; subscribe u; unsubscribe t"},
        {EXPECT, "b0 02 0002"},
        {SUBSCRIBED, ""},
        {EXPECT, "90 04 0001 80 00"}}},
    {"and subscribe again", answers_by_hand, {
        HELLO,
        {SEND, "82 06 0001 0001 74 00" "a2 05 0002 0001 74" "82 06 0003 0001 74 01"},
        {CALLS, "subscribe t; unsubscribe t; subscribe t"},
        {EXPECT, "90 03 0001 80" "b0 02 0002"},
        {SUBSCRIBED, ""},
        {EXPECT, "90 03 0003 01"}}},
};

static const struct core_script scripts5[] = {
    /* ---- 3.8 SUBSCRIBE, 3.9 SUBACK ---- */
    {"each filter has its reason code", answers_by_hand, {
        HELLO5,
        {SEND, "82 0f 0001 00 0001 61 00 0001 62 01 0001 63 02"},
        {CALLS, "subscribe a; subscribe b; subscribe c"},
        {SUBSCRIBED, "2 NO_RULE"},
        {SUBSCRIBED, "2 NOT_ALLOWED"},
        {SILENCE, ""},
        {SUBSCRIBED, ""},
        {EXPECT, "90 06 0001 00 00 8f 87"},
        {CALLS, "unsubscribe b; unsubscribe c; serve a"}}},
    {"the reason is told in words to those who want them", refuses_filters, {
        {SEND, "10 0e 0004 4d515454 05 02 0000 00 0001 63"},
        {FORGET, ""},
        {SEND, "82 07 0001 00 0001 61 00"},
        {EXPECT, "90 21 0001 1d 1f 001a 6e6f2072756c652074616b657320746869732061646472657373 8f"}}},
    {"but not where the packet would be too large [MQTT-3.9.2-1]", refuses_filters, {
        {SEND, "10 13 0004 4d515454 05 02 0000 05 27 00000020 0001 63"},
        {FORGET, ""},
        {SEND, "82 07 0001 00 0001 61 00"},
        {EXPECT, "90 04 0001 00 8f"}}},
    {"too many subscriptions: quota exceeded", few_subscriptions, {
        HELLO5,
        {SEND, "82 0b 0001 00 0001 61 00 0001 62 01"},
        {EXPECT, "90 05 0001 00 00 01"},
        {SEND, "82 07 0002 00 0001 63 00"},
        {EXPECT, "90 04 0002 00 97"}}},
    {"retain handling 0: retained messages with every SUBSCRIBE", NULL, {
        HELLO5,
        TAKES5("00"),
        {CALLS, "subscribe t; serve t"},
        TAKES5("00"),
        {CALLS, "serve t"}}},
    {"retain handling 1: with the first", NULL, {
        HELLO5,
        {SEND, "82 07 0001 00 0001 74 10"},
        {EXPECT, "90 04 0001 00 00"},
        {CALLS, "subscribe t; serve t"},
        {SEND, "82 07 0001 00 0001 74 10"},
        {EXPECT, "90 04 0001 00 00"},
        {CALLS, ""}}},
    {"retain handling 2: never", NULL, {
        HELLO5,
        {SEND, "82 07 0001 00 0001 74 20"},
        {EXPECT, "90 04 0001 00 00"},
        {CALLS, "subscribe t"}}},
    {"what is refused is served nothing", answers_by_hand, {
        HELLO5,
        {SEND, "82 07 0001 00 0001 74 00"},
        {SUBSCRIBED, "NO_RULE"},
        {EXPECT, "90 04 0001 00 8f"},
        {CALLS, "subscribe t; unsubscribe t"}}},
    {"a subscription that is lost ends the connection, in words", NULL, {
        {SEND, "10 0e 0004 4d515454 05 02 0000 00 0001 63"},
        {FORGET, ""},
        TAKES5("01"),
        {ENDED, "NO_QUEUE"},
        {FORGET, ""},
        {CLOSED, "NO_QUEUE"}}},

    /* ---- 3.10 UNSUBSCRIBE, 3.11 UNSUBACK ---- */
    {"unsuback says what there was [MQTT-3.11.3-2]", NULL, {
        HELLO5,
        TAKES5("01"),
        {SEND, "a2 09 0002 00 0001 74 0001 75"},
        {EXPECT, "b0 05 0002 00 00 11"},
        {CALLS, "subscribe t; serve t; unsubscribe t"}}},

    /* ---- 4.8.2 Shared subscriptions ---- */
    {"suback waits for the queue and for the binding", answers_by_hand, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {CALLS, "open headgate.share.g/a/+ prefetch=64 x-queue-type:classic x-expires:3600000; "
                "subscribe a/+ on headgate.share.g/a/+"},
        {SUBSCRIBED, ""},
        {SILENCE, ""},
        {QUEUE_IS, ""},
        {EXPECT, "90 04 0001 00 01"},
        {CALLS, ""}}},
    {"in either order", answers_by_hand, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {QUEUE_IS, ""},
        {SILENCE, ""},
        {SUBSCRIBED, ""},
        {EXPECT, "90 04 0001 00 01"}}},
    {"a queue that cannot be consumed is a refusal", answers_by_hand, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {FORGET, ""},
        {QUEUE_IS, "NOT_ALLOWED"},
        {EXPECT, "90 04 0001 00 87"},
        {CALLS, "unsubscribe a/+"}}},
    {"so is a binding that cannot be made", answers_by_hand, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {FORGET, ""},
        {SUBSCRIBED, "NO_RULE"},
        {EXPECT, "90 04 0001 00 8f"},
        {CALLS, "unsubscribe a/+; close headgate.share.g/a/+ delete-if-idle"}}},
    {"a filter that no rule meets leaves no queue behind", refuses_filters, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {EXPECT, "90 04 0001 00 8f"},
        {CALLS, "open headgate.share.g/a/+ prefetch=64 x-queue-type:classic x-expires:3600000; "
                "close headgate.share.g/a/+ delete-if-idle"}}},
    {"leaving the group leaves the bindings to the others", NULL, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {EXPECT, "90 04 0001 00 01"},
        {FORGET, ""},
        {SEND, "a2 11 0002 00 000c 2473686172652f672f612f2b"},
        {EXPECT, "b0 04 0002 00 00"},
        {CALLS, "close headgate.share.g/a/+ delete-if-idle; unsubscribe a/+"}}},
    {"and so does the end of the connection", NULL, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {EXPECT, "90 04 0001 00 01"},
        {FORGET, ""},
        {LEAVE, ""},
        {CALLS, "close headgate.share.g/a/+ delete-if-idle; unsubscribe a/+"}}},
    {"a queue that somebody deletes ends the connection", NULL, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {FORGET, ""},
        {QUEUE_IS, "NO_QUEUE"},
        {FORGET, ""},
        {CLOSED, "NO_QUEUE"}}},
    {"no-local with a group is a protocol error [MQTT-3.8.3-4]", NULL, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 05"},
        {FORGET, ""},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"the same group again only changes the options", NULL, {
        HELLO5,
        {SEND, "82 12 0001 00 000c 2473686172652f672f612f2b 01"},
        {FORGET, ""},
        {SEND, "82 12 0002 00 000c 2473686172652f672f612f2b 02"},
        {EXPECT, "90 04 0002 00 02"},
        {CALLS, ""}}},
};
/* clang-format on */

static void scripts_hold_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        core_play(&hg_mqtt_adapter, NULL, &scripts[i]);
    }
    for (size_t i = 0; i < sizeof(scripts5) / sizeof(scripts5[0]); i++) {
        core_play(&hg_mqtt_adapter, NULL, &scripts5[i]);
    }
}

/* ---- Without a script ---- */

static void feed_hex(struct core_fake *f, const char *hex)
{
    struct hg_writer bytes = {0};
    hex_read(&bytes, hex);
    core_feed(f, hg_writer_view(&bytes));
    core_turn(f);
    hg_writer_close(&bytes);
}

/* "SUBSCRIBE n; identifier 1; filter fNNNN, QoS 0". */
static void feed_subscribe(struct core_fake *f, unsigned n, bool is_subscribe)
{
    struct hg_writer w = {0};
    char filter[8];
    (void)snprintf(filter, sizeof(filter), "f%05u", n);
    hg_writer_u16(&w, is_subscribe ? 0x820b : 0xa20a);
    hg_writer_u32(&w, 0x00010006);
    hg_writer_str(&w, filter);
    if (is_subscribe) {
        hg_writer_u8(&w, 0);
    }
    core_feed(f, hg_writer_view(&w));
    core_turn(f);
    hg_writer_close(&w);
}

static void a_thousand_subscriptions_are_found_again(void **state)
{
    struct core_fake f;
    (void)state;
    core_open(&f);
    core_connect(&f, &hg_mqtt_adapter, NULL);
    feed_hex(&f, CONNECT);
    for (unsigned round = 0; round < 2; round++) {
        core_forget(&f);
        for (unsigned n = 0; n < 1000; n++) {
            feed_subscribe(&f, n, true);
        }
        assert_int_equal(core_session(f.conn)->subs_n, 1000);
        assert_int_equal(core_sent(&f).n, 5000); /* SUBACKs */
    }
    for (unsigned n = 0; n < 1000; n++) {
        feed_subscribe(&f, n * 7 % 1000, false);
        assert_int_equal(core_session(f.conn)->subs_n, 999 - n);
    }
    feed_subscribe(&f, 1, true);
    assert_int_equal(core_session(f.conn)->subs_n, 1);
    core_close(&f);
    assert_int_equal(seam_live(), 0);
}

static void a_group_has_one_queue_on_every_gateway(void **state)
{
    static const struct {
        const char *filter, *queue; /* NULL: not well-formed */
    } cases[] = {
        {"$share/g/a/+", "headgate.share.g/a/+"},
        {"$share/g.a/b", "headgate.share.g.a/b"},
        {"$share/g//", "headgate.share.g//"},
        {"$share/g/", NULL},
        {"$share/g", NULL},
        {"$share//a", NULL},
        {"$share/+/a", NULL},
        {"$share/#/a", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_mqtt_group group;
        uint8_t name[HG_MQTT_GROUP_QUEUE_MAX];
        assert_true(hg_mqtt_group_is(hg_bytes_str(cases[i].filter)));
        bool is_one = hg_mqtt_group_read(hg_bytes_str(cases[i].filter), &group);
        assert_int_equal(is_one, cases[i].queue != NULL);
        if (is_one) {
            assert_text(hg_mqtt_group_queue(&group, "headgate.", name), cases[i].queue);
        }
    }
    assert_false(hg_mqtt_group_is(HG_BYTES("$sharex/g/a")));
}

static void a_long_group_is_told_from_another(void **state)
{
    char filter[400] = "$share/g/";
    uint8_t names[3][HG_MQTT_GROUP_QUEUE_MAX];
    struct hg_bytes queues[3];
    struct hg_mqtt_group group;
    (void)state;
    size_t n = strlen(filter);
    memset(filter + n, 'x', 300);
    for (size_t i = 0; i < 3; i++) {
        filter[n + 299] = (char)('a' + i);
        /* the longest that is a name as it is, and two that are not */
        struct hg_bytes text = hg_bytes(filter, i == 0 ? n - 2 + 240 : n + 300);
        assert_true(hg_mqtt_group_read(text, &group));
        queues[i] = hg_mqtt_group_queue(&group, "headgate.", names[i]);
    }
    assert_int_equal(queues[0].n, HG_MQTT_GROUP_QUEUE_MAX);
    assert_int_equal(queues[1].n, sizeof("headgate.share.") - 1 + 64);
    assert_false(hg_bytes_eq(queues[1], queues[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
        cmocka_unit_test(a_thousand_subscriptions_are_found_again),
        cmocka_unit_test(a_group_has_one_queue_on_every_gateway),
        cmocka_unit_test(a_long_group_is_told_from_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
