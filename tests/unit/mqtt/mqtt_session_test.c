/* SPDX-License-Identifier: Apache-2.0 */
/* An MQTT session on the wire: what the client hears for what it says and for what RabbitMQ does.
 * Sections and conformance statements are those of MQTT 3.1.1. */
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
/* The same with a will: topic "w", payload "x", QoS 1. */
#define HELLO_WILL {SEND, "10 13 0004 4d515454 04 0e 0000 0001 63 0001 77 0001 78"}, {EXPECT, "20 02 00 00"}
/* The same with a keep-alive of 10 s. */
#define HELLO_10S {SEND, "10 0d 0004 4d515454 04 02 000a 0001 63"}, {EXPECT, "20 02 00 00"}
/* Subscribes to "t" with QoS 1; with QoS 0. */
#define TAKES_QOS1 {SEND, "82 06 0001 0001 74 01"}, {EXPECT, "90 03 0001 01"}
#define TAKES_QOS0 {SEND, "82 06 0001 0001 74 00"}, {EXPECT, "90 03 0001 00"}
/* clang-format on */

static void withholds_claims(struct core_fake *f)
{
    f->is_withholding_claims = true;
}

static void rule_withholds(struct core_fake *f)
{
    f->on_reject = HG_REJECT_WITHHOLD;
}

static void rule_parks(struct core_fake *f)
{
    f->on_reject = HG_REJECT_PARK;
    f->config.mqtt_park_queue = "parked";
}

static void denied_is_close(struct core_fake *f)
{
    f->config.mqtt_denied_is_close = true;
}

/* clang-format off */
static const struct core_script scripts[] = {
    /* ---- 3.1 CONNECT, 3.2 CONNACK ---- */
    {"connect and disconnect", NULL, {
        HELLO,
        {SEND, "e0 00"},
        {CLOSED, "CLOSED"}}},
    {"3.1 is spoken too", NULL, {
        {SEND, "10 0f 0006 4d5149736470 03 02 0000 0001 63"},
        {EXPECT, "20 02 00 00"},
        {SEND, "c0 00"},
        {EXPECT, "d0 00"}}},
    {"what follows CONNECT at once is dealt with after CONNACK", NULL, {
        {SEND, CONNECT "c0 00" "30 03 0001 74"},
        {EXPECT, "20 02 00 00" "d0 00"},
        {CALLS, "publish t mode=1 client=c []"}}},
    {"and waits for it", withholds_claims, {
        {SEND, CONNECT "c0 00"},
        {SILENCE, ""}}},
    {"it has to come in time, all of it", NULL, {
        {SEND, "10 0d 0004 4d515454 04 02 0000 0001"},
        {WAIT, "9900"},
        {OPEN, ""},
        {WAIT, "200"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"but that time ends with it: who it is may take longer", NULL, {
        {LOGIN_IS, "HELD"},
        {SEND, CONNECT},
        {WAIT, "30000"},
        {OPEN, ""},
        {LOGIN_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {FORGET, ""}}},
    {"and so may CONNACK, for as long as RabbitMQ may be away", withholds_claims, {
        {SEND, CONNECT},
        {WAIT, "59900"},
        {OPEN, ""},
        {SILENCE, ""},
        {WAIT, "200"},
        {EXPECT, "20 02 00 03"},
        {CLOSED, "BROKER_AWAY"}}},
    {"a level that is too low is refused with 1 [MQTT-3.1.2-2]", NULL, {
        {SEND, "10 0d 0004 4d515454 02 02 0000 0001 63"},
        {EXPECT, "20 02 00 01"},
        {CLOSED, "BAD_VERSION"}}},
    {"an empty client identifier is replaced", NULL, {
        {SEND, "10 0c 0004 4d515454 04 02 0000 0000"},
        {EXPECT, "20 02 00 00"}}},
    {"but not without clean session [MQTT-3.1.3-8]", NULL, {
        {SEND, "10 0c 0004 4d515454 04 00 0000 0000"},
        {EXPECT, "20 02 00 02"},
        {CLOSED, "BAD_CLIENT_ID"}}},
    {"nor in 3.1", NULL, {
        {SEND, "10 0e 0006 4d5149736470 03 02 0000 0000"},
        {EXPECT, "20 02 00 02"},
        {CLOSED, "BAD_CLIENT_ID"}}},
    {"without clean session there is no session present", NULL, {
        {SEND, "10 0d 0004 4d515454 04 00 0000 0001 63"},
        {EXPECT, "20 02 00 00"}}},
    {"user and password are taken", NULL, {
        {SEND, "10 13 0004 4d515454 04 c2 0000 0001 63 0001 75 0001 70" "30 03 0001 74"},
        {EXPECT, "20 02 00 00"},
        {CALLS, "publish t mode=1 client=c user=u []"}}},
    {"a will that no rule could take ends the connection", NULL, {
        {SEND, "10 13 0004 4d515454 04 0e 0000 0001 63 0001 2b 0001 78"},
        {CLOSED, "BAD_ADDRESS"}}},
    {"something else than MQTT is not answered", NULL, {
        {SEND, "47 45 54 20"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a second CONNECT ends the connection [MQTT-3.1.0-2]", NULL, {
        HELLO,
        {SEND, CONNECT},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a CONNECT over 64 KiB is refused by its header", NULL, {
        {SEND, "10 fe ff 03"},
        {CLOSED, "TOO_LARGE"}}},
    {"CONNECT must come in time", NULL, {
        {SEND, "10 0d 0004"},
        {WAIT, "9900"},
        {OPEN, ""},
        {WAIT, "200"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"and with it the time is over", NULL, {
        {WAIT, "9000"},
        HELLO,
        {WAIT, "100000"},
        {OPEN, ""}}},

    /* ---- Taking over [MQTT-3.1.4-2] ---- */
    {"the later connection wins, after the earlier one's will", NULL, {
        HELLO_WILL,
        {ON, "2"},
        {SEND, CONNECT "30 03 0001 74"},
        {EXPECT, "20 02 00 00"},
        {CALLS, "publish w mode=2 client=c [x]; publish t mode=1 client=c []"},
        {ON, "1"},
        {CLOSED, "TAKEN_OVER"}}},
    {"three in a row leave the last", NULL, {
        HELLO,
        {ON, "2"},
        HELLO,
        {ON, "3"},
        HELLO,
        {OPEN, ""},
        {ON, "2"},
        {CLOSED, "TAKEN_OVER"},
        {ON, "1"},
        {CLOSED, "TAKEN_OVER"}}},

    /* ---- 3.1.2.10 Keep alive ---- */
    {"silence for one and a half times the keep-alive ends the connection [MQTT-3.1.2-24]", NULL, {
        HELLO_10S,
        {WAIT, "14900"},
        {OPEN, ""},
        {WAIT, "200"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"PINGREQ keeps it", NULL, {
        HELLO_10S,
        {WAIT, "10000"},
        {SEND, "c0 00"},
        {EXPECT, "d0 00"},
        {WAIT, "14900"},
        {OPEN, ""},
        {WAIT, "300"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"a client that the gateway does not listen to is not silent", NULL, {
        HELLO_10S,
        {PUBLISH_IS, "HELD"},
        {SEND, "30 03 0001 74"},
        {WAIT, "100000"},
        {OPEN, ""},
        {PUBLISH_IS, "OK"},
        {CALLS, "publish t mode=1 client=c []"},
        {WAIT, "14900"},
        {OPEN, ""},
        {WAIT, "15200"},
        {CLOSED, "KEEP_ALIVE"}}},

    {"nor is one that it has just begun to listen to again", NULL, {
        HELLO_10S,
        {PUBLISH_IS, "HELD"},
        {SEND, "30 03 0001 74"},
        {WAIT, "14000"},
        {PUBLISH_IS, "OK"},
        {CALLS, "publish t mode=1 client=c []"},
        {WAIT, "15000"},
        {OPEN, ""},
        {WAIT, "1200"},
        {CLOSED, "KEEP_ALIVE"}}},

    /* ---- 3.3 PUBLISH ---- */
    {"QoS 0 is transient and not answered", NULL, {
        HELLO,
        {SEND, "30 06 0003 612f62 78"},
        {CALLS, "publish a/b mode=1 client=c [x]"},
        {SILENCE, ""}}},
    {"puback waits for the confirm", NULL, {
        HELLO,
        {SEND, "32 06 0001 74 1234 00"},
        {CALLS, "publish t mode=2 client=c [\\x00]"},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 1234"}}},
    {"pubacks keep the order of the publishes [MQTT-4.6.0-2]", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "32 05 0001 74 0002" "32 05 0001 74 0003"},
        {CONFIRM, "2"},
        {CONFIRM, "2"},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "40 02 0002" "40 02 0003"}}},
    {"a message that no queue takes is acknowledged", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {CONFIRM, "UNROUTABLE"},
        {EXPECT, "40 02 0001"}}},
    {"a repeat of one under way is not published again", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "3a 05 0001 74 0001"},
        {CALLS, "publish t mode=2 client=c []"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"}}},
    {"after the acknowledgement an identifier is a new publish [MQTT-4.3.2-2]", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"},
        {SEND, "3a 05 0001 75 0001"},
        {CALLS, "publish t mode=2 client=c []; publish u mode=2 client=c []"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"}}},
    {"another message with an identifier under way ends the connection [MQTT-2.3.1-2]", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "32 05 0001 75 0001"},
        {CALLS, "publish t mode=2 client=c []"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"retain is published as well, and not kept", NULL, {
        HELLO,
        {SEND, "31 03 0001 74"},
        {CALLS, "publish t mode=1 client=c []"}}},
    {"a publish without room is held, and what follows it", NULL, {
        HELLO,
        {PUBLISH_IS, "HELD"},
        {SEND, "32 05 0001 74 0001" "c0 00"},
        {SILENCE, ""},
        {CALLS, ""},
        {PUBLISH_IS, "OK"},
        {EXPECT, "d0 00"},
        {CALLS, "publish t mode=2 client=c []"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"}}},
    {"held past the limit it ends the connection", NULL, {
        HELLO,
        {PUBLISH_IS, "HELD"},
        {SEND, "32 05 0001 74 0001"},
        {PUBLISH_IS, "BROKER_AWAY"},
        {CLOSED, "BROKER_AWAY"}}},
    {"with QoS 0 too", NULL, {
        HELLO,
        {PUBLISH_IS, "HELD"},
        {SEND, "30 03 0001 74"},
        {PUBLISH_IS, "BUSY"},
        {CLOSED, "BUSY"}}},
    {"too fast for too long it ends the connection, with QoS 0 too", NULL, {
        HELLO,
        {PUBLISH_IS, "HELD"},
        {SEND, "30 03 0001 74"},
        {PUBLISH_IS, "TOO_FAST"},
        {CLOSED, "TOO_FAST"}}},

    /* ---- Refusals: semantics.md ---- */
    {"a rejected publish ends the connection", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "32 05 0001 74 0002"},
        {CONFIRM, "REJECTED"},
        {CLOSED, "REJECTED"},
        {SILENCE, ""}}},
    {"or is not acknowledged, where the rule says so", rule_withholds, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "32 05 0001 74 0002"},
        {CONFIRM, "REJECTED"},
        {OPEN, ""},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0002"}}},
    {"and its identifier is free", rule_withholds, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {CONFIRM, "NO_EXCHANGE"},
        {SEND, "3a 05 0001 74 0001"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"}}},
    {"or is parked, and acknowledged when it lies there", rule_parks, {
        HELLO,
        {SEND, "32 06 0001 74 0001 78" "32 05 0001 75 0002"},
        {CALLS, "publish t mode=2 client=c [x]; publish u mode=2 client=c []"},
        {CONFIRM, "REJECTED"},
        {CALLS, "publish  parked mode=2 x-headgate-refused-exchange:x x-headgate-refused-key:k "
                "x-headgate-refused-reason:as told x-headgate-refused-client:c client=c mandatory [x]"},
        {CONFIRM, ""},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "40 02 0002"}}},
    {"unless there is no place to park", rule_parks, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {CONFIRM, "REJECTED"},
        {CONFIRM, "UNROUTABLE"},
        {SILENCE, ""},
        {CLOSED, "UNROUTABLE"}}},
    {"or no room", rule_parks, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {PUBLISH_IS, "BUSY"},
        {CONFIRM, "REJECTED"},
        {CLOSED, "REJECTED"}}},
    {"what is not permitted may end the connection, as configured", denied_is_close, {
        HELLO,
        {PUBLISH_IS, "NOT_ALLOWED"},
        {SEND, "30 03 0001 74"},
        {OPEN, ""},
        {SEND, "32 05 0001 74 0001"},
        {CLOSED, "NOT_ALLOWED"}}},
    {"an exchange that does not exist, told at once", rule_withholds, {
        HELLO,
        {PUBLISH_IS, "NO_EXCHANGE"},
        {SEND, "32 05 0001 74 0001" "c0 00"},
        {EXPECT, "d0 00"}}},
    {"what is not permitted is dropped and acknowledged [MQTT-3.3.5-2]", NULL, {
        HELLO,
        {PUBLISH_IS, "NOT_ALLOWED"},
        {SEND, "32 05 0001 74 0001" "30 03 0001 74"},
        {CALLS, ""},
        {EXPECT, "40 02 0001"}}},
    {"behind those that came before", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {PUBLISH_IS, "NOT_ALLOWED"},
        {SEND, "32 05 0001 74 0002"},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "40 02 0002"}}},
    {"no rule: QoS 0 is dropped", NULL, {
        HELLO,
        {PUBLISH_IS, "NO_RULE"},
        {SEND, "30 03 0001 74" "c0 00"},
        {EXPECT, "d0 00"}}},
    {"no rule: QoS 1 ends the connection", NULL, {
        HELLO,
        {PUBLISH_IS, "NO_RULE"},
        {SEND, "32 05 0001 74 0001"},
        {CLOSED, "NO_RULE"}}},
    {"an outcome that is not known ends the connection", rule_withholds, {
        HELLO,
        {SEND, "32 05 0001 74 0001"},
        {CONFIRM, "TIMED_OUT"},
        {CLOSED, "TIMED_OUT"}}},
    {"a wildcard in the topic ends the connection [MQTT-3.3.2-2]", NULL, {
        HELLO,
        {SEND, "30 03 0001 23"},
        {CLOSED, "BAD_ADDRESS"}}},

    /* ---- 4.3.3 QoS 2 ---- */
    {"QoS 2: pubrec after the confirm, pubcomp after pubrel", NULL, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"},
        {SEND, "62 02 0001"},
        {EXPECT, "70 02 0001"}}},
    {"QoS 2: a repeat before the confirm, and one after it, are published once [MQTT-4.3.3-2]", NULL, {
        HELLO,
        {SEND, "34 05 0001 74 0001" "3c 05 0001 74 0001"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"},
        {SEND, "3c 05 0001 74 0001"},
        {EXPECT, "50 02 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {SEND, "62 02 0001"},
        {EXPECT, "70 02 0001"},
        {SEND, "34 05 0001 74 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"}}},
    {"QoS 2: an identifier that is still in use is none for QoS 1", NULL, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"},
        {SEND, "3a 05 0001 74 0001"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"QoS 2: pubrel of what is not known", NULL, {
        HELLO,
        {SEND, "62 02 0007"},
        {EXPECT, "70 02 0007"}}},
    {"QoS 2: pubrel before pubrec ends the connection", NULL, {
        HELLO,
        {SEND, "34 05 0001 74 0001" "62 02 0001"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"QoS 2: what was withheld may be sent again", rule_withholds, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CONFIRM, "REJECTED"},
        {SEND, "3c 05 0001 74 0001"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"}}},
    {"QoS 2: PUBREC of what is not known is answered, so that the client forgets it", NULL, {
        HELLO,
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {OPEN, ""}}},
    /* ---- 3.1.2.5 Will, 3.14 DISCONNECT ---- */
    {"the will is published when the connection breaks [MQTT-3.1.2-8]", NULL, {
        HELLO_WILL,
        {CALLS, ""},
        {LEAVE, "PEER_LOST"},
        {CALLS, "publish w mode=2 client=c [x]"}}},
    {"when the client only closes", NULL, {
        HELLO_WILL,
        {LEAVE, ""},
        {CALLS, "publish w mode=2 client=c [x]"}}},
    {"when it breaks the protocol", NULL, {
        HELLO_WILL,
        {SEND, "ff"},
        {CALLS, "publish w mode=2 client=c [x]"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"when it is silent", NULL, {
        {SEND, "10 13 0004 4d515454 04 06 000a 0001 63 0001 77 0001 78"},
        {EXPECT, "20 02 00 00"},
        {WAIT, "15200"},
        {CLOSED, "KEEP_ALIVE"},
        {CALLS, "publish w mode=1 client=c [x]"}}},
    {"but not after DISCONNECT [MQTT-3.14.4-3]", NULL, {
        HELLO_WILL,
        {SEND, "e0 00"},
        {CLOSED, "CLOSED"},
        {CALLS, ""}}},
    {"nor when it was never connected", withholds_claims, {
        {SEND, "10 13 0004 4d515454 04 0e 0000 0001 63 0001 77 0001 78"},
        {LEAVE, ""},
        {CALLS, ""}}},
    {"a will without room towards RabbitMQ is not waited for", NULL, {
        HELLO_WILL,
        {PUBLISH_IS, "HELD"},
        {LEAVE, ""},
        {CALLS, ""}}},
    {"what comes after DISCONNECT is not looked at", NULL, {
        HELLO,
        {SEND, "e0 00" "30 03 0001 74"},
        {CALLS, ""},
        {CLOSED, "CLOSED"}}},
    {"subscriptions end with the connection", NULL, {
        HELLO,
        TAKES_QOS1,
        {LEAVE, ""},
        {CALLS, "subscribe t; serve t; unsubscribe t"}}},

    /* ---- The gateway shuts down ---- */
    {"a drain ends an idle connection at once", NULL, {
        HELLO,
        {DRAIN, ""},
        {CLOSED, "SHUTTING_DOWN"}}},
    {"a busy one when its publishes are settled", NULL, {
        HELLO,
        {SEND, "32 05 0001 74 0001" "34 05 0001 74 0002"},
        {DRAIN, ""},
        {OPEN, ""},
        {SEND, "30 03 0001 74"},
        {CALLS, "publish t mode=2 client=c []; publish t mode=2 message_id=c/2/1 x-headgate-numbered:true once client=c []"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0002"},
        {CLOSED, "SHUTTING_DOWN"}}},
    {"and one that is not connected yet", withholds_claims, {
        {SEND, CONNECT},
        {DRAIN, ""},
        {CLOSED, "SHUTTING_DOWN"}}},
};
/* clang-format on */

static void scripts_hold_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        core_play(&hg_mqtt_adapter, NULL, &scripts[i]);
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

static void a_client_identifier_has_a_limit(void **state)
{
    struct core_fake f;
    (void)state;
    for (size_t id_n = 1024; id_n <= 1025; id_n++) {
        char id[1025];
        memset(id, 'i', sizeof(id));
        struct hg_writer w = {0};
        hg_writer_u8(&w, 0x10);
        hg_writer_u8(&w, (uint8_t)((12 + id_n) % 128 | 128));
        hg_writer_u8(&w, (uint8_t)((12 + id_n) / 128));
        hex_read(&w, "0004 4d515454 04 02 0000");
        hg_writer_u16(&w, (uint16_t)id_n);
        hg_writer_bytes(&w, hg_bytes(id, id_n));
        core_open(&f);
        core_connect(&f, &hg_mqtt_adapter, NULL);
        core_feed(&f, hg_writer_view(&w));
        core_turn(&f);
        assert_bytes(core_sent(&f), 4, id_n == 1024 ? "\x20\x02\x00\x00" : "\x20\x02\x00\x02");
        core_close(&f);
        hg_writer_close(&w);
    }
}

static void a_session_describes_itself(void **state)
{
    struct core_fake f;
    struct hg_session_info info = {0};
    (void)state;
    core_open(&f);
    core_connect(&f, &hg_mqtt_adapter, "mqttv3.1");
    struct hg_session *s = core_session(f.conn);
    s->ops->describe(s, &info);
    assert_int_equal(info.client_id.n, 0);
    feed_hex(&f, "10 12 0006 4d5149736470 03 82 0000 0001 63 0001 75");
    s->ops->describe(s, &info);
    assert_string_equal(info.version, "3.1");
    assert_text(info.client_id, "c");
    assert_text(info.user, "u");
    core_close(&f);
}

/* Whatever allocation fails, the connection ends or goes on; nothing leaks, and nothing waits for
 * ever. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    size_t allocs = 1;
    for (size_t n = 1; n <= allocs; n++) {
        struct core_fake f;
        core_open(&f);
        f.is_answering = false;
        core_connect(&f, &hg_mqtt_adapter, NULL);
        seam_fail_alloc(n);
        feed_hex(&f, "10 13 0004 4d515454 04 0e 0000 0001 63 0001 77 0001 78");
        feed_hex(&f, "82 0a 0001 0001 74 00 0001 75 01"
                     "82 06 0002 0001 75 01");
        while (core_has_waiting(&f)) {
            core_answer(&f, 0, HG_OK, "");
        }
        feed_hex(&f, "32 05 0001 74 0001"
                     "34 05 0001 74 0002"
                     "30 03 0001 74");
        if (!hg_list_is_empty(&f.publishes)) {
            core_settle(&f, 0, HG_OK, "");
        }
        const struct core_delivery d = {.address = "u", .properties = {.delivery_mode = 2}};
        for (int i = 0; i < 3; i++) {
            core_deliver(&f, &d);
        }
        feed_hex(&f, "40 02 0001"
                     "a2 05 0002 0001 74"
                     "c0 00");
        allocs = seam_allocs();
        seam_fail_alloc(0);
        core_close(&f);
        assert_int_equal(seam_live(), 0);
    }
    assert_true(allocs > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
        cmocka_unit_test(a_client_identifier_has_a_limit),
        cmocka_unit_test(a_session_describes_itself),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
