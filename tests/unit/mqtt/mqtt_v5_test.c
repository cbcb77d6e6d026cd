/* SPDX-License-Identifier: Apache-2.0 */
/* What only 5.0 has, on the wire: CONNECT and what CONNACK announces, publishes with properties and
 * their reasons, the end of the connection both ways. Sections are those of MQTT 5.0. */
#include "adapters/mqtt/mqtt_session.h"
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

/* clang-format off */
/* Clean start, client identifier "c"; CONNACK announces Receive Maximum 1024, that nothing is
 * retained, packets up to 16 MiB, 16 topic aliases. */
#define CONNECT "10 0e 0004 4d515454 05 02 0000 00 0001 63"
#define CONNACK "20 10 00 00 0d 21 0400 25 00 27 01000000 22 0010"
#define HELLO   {SEND, CONNECT}, {EXPECT, CONNACK}
/* Without reason strings. */
#define HELLO_CURT {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"}, {EXPECT, CONNACK}
/* Where messages are retained, with reason strings and without. */
#define HELLO_STATE {SEND, CONNECT}, {EXPECT, "20 0e 00 00 0b 21 0400 27 01000000 22 0010"}, {CALLS, "announce c"}

static void has_state(struct core_fake *f)
{
    core_state_open(f);
}

static void short_keep_alive(struct core_fake *f)
{
    f->config.mqtt_max_keepalive_ms = 10000;
}

static void few_aliases(struct core_fake *f)
{
    f->config.mqtt_topic_alias_max = 2;
}

static void no_aliases(struct core_fake *f)
{
    f->config.mqtt_topic_alias_max = 0;
    f->config.mqtt_receive_max = 65535;
}

static void receives_two(struct core_fake *f)
{
    f->config.mqtt_receive_max = 2;
    f->config.mqtt_topic_alias_max = 0;
}

static void small_packets(struct core_fake *f)
{
    f->config.mqtt_max_packet_bytes = 64;
}

/* Somebody can log in, with tokens too; whoever does is u. */
static void must_keep_up(struct core_fake *f)
{
    f->slow = HG_SLOW_DISCONNECT;
}

static void logs_in(struct core_fake *f)
{
    static uint8_t keys;
    seam_spare(true);
    f->config.has_identities = true;
    f->config.users.token.keys = (struct hg_token_keys *)(void *)&keys;
    f->identity = hg_identity_new(&(struct hg_identity_parts){.user = HG_BYTES("u")});
    seam_spare(false);
}

/* With user name "x" and password "p"; with method "bearer" and data "t". */
#define CONNECT_BY_PASSWORD "10 14 0004 4d515454 05 c2 0000 00 0001 63 0001 78 0001 70"
#define METHOD              "15 0006 626561726572"
#define CONNECT_BY_TOKEN    "10 1b 0004 4d515454 05 02 0000 0d " METHOD "16 0001 74 0001 63"
#define CONNACK_BY_TOKEN    "20 19 00 00 16 21 0400 25 00 27 01000000 22 0010" METHOD
#define HELLO_BY_TOKEN      {SEND, CONNECT_BY_TOKEN}, {EXPECT, CONNACK_BY_TOKEN}, {CALLS, "login secret=t token"}

static const struct core_script scripts[] = {
    /* ---- Logins: 3.1.3.5, 3.1.3.6, 4.12 ---- */
    {"what comes behind a login waits for it", logs_in, {
        {LOGIN_IS, "HELD"},
        {SEND, CONNECT_BY_PASSWORD "30 04 0001 61 00"},
        {CALLS, "login user=x secret=p"},
        {SILENCE, ""},
        {LOGIN_IS, "OK"},
        {EXPECT, CONNACK},
        {CALLS, "login user=x secret=p; publish a mode=1 client=c user=u []"}}},
    {"a login that is refused is told why", logs_in, {
        {LOGIN_IS, "BAD_LOGIN"},
        {SEND, CONNECT_BY_PASSWORD},
        {EXPECT, "20 0d 00 86 0a 1f 0007 746f6c6420746f"},
        {CLOSED, "BAD_LOGIN"}}},
    {"a login that is refused in the end is told why", logs_in, {
        {LOGIN_IS, "HELD"},
        {SEND, CONNECT_BY_PASSWORD "c000"},
        {LOGIN_IS, "TOO_MANY"},
        {EXPECT, "20 0d 00 97 0a 1f 0007 746f6c6420746f"},
        {CLOSED, "TOO_MANY"}}},
    {"a client that goes while it logs in is forgotten", logs_in, {
        {LOGIN_IS, "HELD"},
        {SEND, CONNECT_BY_PASSWORD},
        {LEAVE, ""}}},
    {"a token is renewed by the method of connect", logs_in, {
        HELLO_BY_TOKEN,
        {SEND, "f0 0f 19 0d" METHOD "16 0001 75"},
        {CALLS, "renew secret=u token"},
        {EXPECT, "f0 0b 00 09" METHOD}}},
    {"a token that is not good ends the connection", logs_in, {
        HELLO_BY_TOKEN,
        {LOGIN_IS, "BAD_LOGIN"},
        {SEND, "f0 0f 19 0d" METHOD "16 0001 75"},
        {EXPECT, "e0 0c 87 0a 1f 0007 746f6c6420746f"},
        {CLOSED, "BAD_LOGIN"}}},
    {"nobody asks the server to go on", logs_in, {
        HELLO_BY_TOKEN,
        {SEND, "f0 0f 18 0d" METHOD "16 0001 75"}, {FORGET, ""},
        {CLOSED, "PROTOCOL_ERROR"}}},
    /* ---- 3.1 CONNECT, 3.2 CONNACK ---- */
    {"connect and disconnect", NULL, {
        HELLO,
        {SEND, "e0 00"},
        {CLOSED, "CLOSED"}}},
    {"only what differs from the default is announced", no_aliases, {
        {SEND, CONNECT},
        {EXPECT, "20 0a 00 00 07 25 00 27 01000000"}}},
    {"a client identifier is assigned [MQTT-3.2.2-16]", NULL, {
        {SEND, "10 0d 0004 4d515454 05 02 0000 00 0000"},
        {EXPECT_LIKE, "\x20\x26^@^@\x23\x21\x04^@\x25^@\x27\x01^@^@^@\x12^@\x13hg-…\x22^@\x10"}}},
    {"a level of the future is refused in words that all levels understand", NULL, {
        {SEND, "10 0d 0004 4d515454 06 02 0000 0001 63"},
        {EXPECT, "20 02 00 01"},
        {CLOSED, "BAD_VERSION"}}},
    {"enhanced authentication is refused [MQTT-4.12.0-1]", NULL, {
        {SEND, "10 12 0004 4d515454 05 02 0000 04 15 0001 78 0001 63"},
        {EXPECT_LIKE, "\x20…^@\x8c…authentication method not supported"},
        {CLOSED, "BAD_AUTH_METHOD"}}},
    {"AUTH without it is a protocol error", NULL, {
        HELLO_CURT,
        {SEND, "f0 00"},
        {EXPECT, "e0 01 82"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a second CONNECT is a protocol error [MQTT-3.1.0-2]", NULL, {
        HELLO_CURT,
        {SEND, CONNECT},
        {EXPECT, "e0 01 82"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a CONNECT that is malformed is told so", NULL, {
        {SEND, "10 0e 0004 4d515454 05 03 0000 00 0001 63"},
        {EXPECT_LIKE, "\x20…\x81…"},
        {CLOSED, "MALFORMED"}}},
    {"a will that no rule could take is refused", NULL, {
        {SEND, "10 18 0004 4d515454 05 06 0000 00 0001 63 00 0004 24535953 0001 78"},
        {EXPECT_LIKE, "\x20…^@\x87…"},
        {CLOSED, "NOT_ALLOWED"}}},
    {"a retained will where nothing is retained [MQTT-3.2.2-13]", NULL, {
        {SEND, "10 15 0004 4d515454 05 26 0000 00 0001 63 00 0001 77 0001 78"},
        {EXPECT_LIKE, "\x20…^@\x9a…"},
        {CLOSED, "NO_RETAIN"}}},
    {"a longer keep-alive is shortened, and the client told [MQTT-3.1.2-21]", short_keep_alive, {
        {SEND, "10 0e 0004 4d515454 05 02 0064 00 0001 63"},
        {EXPECT, "20 13 00 00 10 21 0400 25 00 27 01000000 22 0010 13 000a"},
        {WAIT, "14900"},
        {OPEN, ""},
        {WAIT, "200"},
        {EXPECT_LIKE, "\xe0…\x8d…nothing heard within the keep-alive time"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"so is none", short_keep_alive, {
        {SEND, CONNECT},
        {EXPECT, "20 13 00 00 10 21 0400 25 00 27 01000000 22 0010 13 000a"}}},
    {"a shorter one is the client's", short_keep_alive, {
        {SEND, "10 0e 0004 4d515454 05 02 0005 00 0001 63"},
        {EXPECT, CONNACK},
        {WAIT, "7600"},
        {EXPECT_LIKE, "\xe0…\x8d…"},
        {CLOSED, "KEEP_ALIVE"}}},
    {"3.1.1 cannot be told, and keeps its own", short_keep_alive, {
        {SEND, "10 0d 0004 4d515454 04 02 0064 0001 63"},
        {EXPECT, "20 02 00 00"},
        {WAIT, "100000"},
        {OPEN, ""}}},

    /* ---- 3.3 PUBLISH ---- */
    {"properties become the message's", NULL, {
        HELLO,
        {SEND, "30 1b 0001 74 16 01 01 02 0000000a 03 0001 61 09 0001 62 26 0001 6b 0001 76 78"},
        {CALLS, "publish t mode=1 content_type=a correlation_id=b expiration=10000 x-payload-format:1 k:v client=c [x]"}}},
    {"a response topic is mapped through the rules", NULL, {
        HELLO,
        {SEND, "30 0c 0001 74 08 08 0005 722f 61 2f62"},
        {CALLS, "publish t mode=1 x-reply-to-topic:r.a.b client=c []"}}},
    {"a body that is not UTF-8 though it says so", NULL, {
        HELLO_CURT,
        {SEND, "32 09 0001 74 0001 02 01 01 ff"},
        {EXPECT, "40 03 0001 99"},
        {CALLS, ""}}},
    {"what is refused is told, with a reason string", NULL, {
        HELLO,
        {SEND, "32 06 0001 74 0001 00"},
        {CONFIRM, "REJECTED"},
        {EXPECT, "40 0e 0001 97 0a 1f 0007 617320746f6c64"},
        {OPEN, ""}}},
    {"without one, if the client wants none [MQTT-3.1.2-29]", NULL, {
        HELLO_CURT,
        {SEND, "32 06 0001 74 0001 00" "32 06 0001 74 0002 00" "32 06 0001 74 0003 00"},
        {CONFIRM, "UNROUTABLE"},
        {CONFIRM, "NO_EXCHANGE"},
        {CONFIRM, "TIMED_OUT"},
        {EXPECT, "40 03 0001 10" "40 03 0002 83" "40 03 0003 83"}}},
    {"or takes no packet so large", NULL, {
        {SEND, "10 13 0004 4d515454 05 02 0000 05 27 00000014 0001 63"},
        {EXPECT, CONNACK},
        {SEND, "32 06 0001 74 0001 00" "32 06 0001 74 0002 00"},
        {CONFIRM, "REJECTED"},
        {EXPECT, "40 0e 0001 97 0a 1f 0007 617320746f6c64"},
        {PUBLISH_IS, "NO_RULE"},
        {SEND, "32 06 0001 74 0003 00"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0002" "40 03 0003 90"}}},
    {"too fast for too long it is told, and goes on", NULL, {
        HELLO_CURT,
        {PUBLISH_IS, "TOO_FAST"},
        {SEND, "32 06 0001 74 0001 00" "34 06 0001 74 0002 00"},
        {EXPECT, "40 03 0001 97" "50 03 0002 97"},
        {OPEN, ""}}},
    {"with QoS 0 it is disconnected", NULL, {
        HELLO_CURT,
        {PUBLISH_IS, "TOO_FAST"},
        {SEND, "30 04 0001 74 00"},
        {EXPECT, "e0 01 96"},
        {CLOSED, "TOO_FAST"}}},
    {"QoS 2: a refusal frees the identifier [MQTT-4.3.3-8]", NULL, {
        HELLO_CURT,
        {SEND, "34 06 0001 74 0001 00"},
        {CONFIRM, "NOT_ALLOWED"},
        {EXPECT, "50 03 0001 87"},
        {SEND, "62 02 0001"},
        {EXPECT, "70 03 0001 92"},
        {SEND, "34 06 0001 75 0001 00"},
        {CONFIRM, "UNROUTABLE"},
        {EXPECT, "50 03 0001 10"},
        {SEND, "62 02 0001"},
        {EXPECT, "70 02 0001"}}},
    {"a refusal at once waits for its turn", NULL, {
        HELLO_CURT,
        {SEND, "32 06 0001 74 0001 00"},
        {PUBLISH_IS, "NOT_ALLOWED"},
        {SEND, "32 06 0001 74 0002 00" "30 04 0001 74 00"},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "40 03 0002 87"}}},
    {"RabbitMQ away for too long is no fault of the publish", NULL, {
        HELLO_CURT,
        {SEND, "32 06 0001 74 0001 00"},
        {CONFIRM, "BROKER_AWAY"},
        {EXPECT, "e0 01 89"},
        {CLOSED, "BROKER_AWAY"}}},
    {"more under way than the Receive Maximum [MQTT-3.3.4-9]", receives_two, {
        {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"},
        {EXPECT, "20 0d 00 00 0a 21 0002 25 00 27 01000000"},
        {SEND, "32 06 0001 74 0001 00" "34 06 0001 74 0002 00"},
        {CONFIRM, "2"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "50 02 0002"},
        {SEND, "32 06 0001 74 0003 00" "3c 06 0001 74 0002 00"},
        {EXPECT, "50 02 0002"},
        {OPEN, ""},
        {SEND, "32 06 0001 74 0004 00"},
        {EXPECT, "e0 01 93"},
        {CLOSED, "TOO_MANY_INFLIGHT"}}},
    {"a larger packet than was announced", small_packets, {
        {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"},
        {EXPECT, "20 10 00 00 0d 21 0400 25 00 27 00000040 22 0010"},
        {SEND, "30 3f"},
        {EXPECT, "e0 01 95"},
        {CLOSED, "TOO_LARGE"}}},
    {"$SYS is the gateway's own", NULL, {
        HELLO_CURT,
        {SEND, "32 0b 0006 24535953 2f61 0001 00" "30 09 0006 24535953 2f61 00"},
        {EXPECT, "40 03 0001 87"},
        {CALLS, ""}}},
    {"$reply/ leads only to who asked this client", NULL, {
        HELLO_CURT,
        {SEND, "32 0d 0008 247265706c792f30 0001 00"},
        {EXPECT, "40 03 0001 87"},
        {SEND, "82 07 0001 00 0001 71 00"},
        {EXPECT, "90 04 0001 00 00"},
        {DELIVER, "address=q mode=1 reply_to=amq.gen-x body=?"},
        {EXPECT, "30 10 0001 71 0b 08 0008 247265706c792f30 3f"},
        {SEND, "32 0e 0008 247265706c792f30 0002 00 21"},
        {CALLS, "subscribe q; serve q; publish  amq.gen-x mode=2 client=c [!]"},
        {CONFIRM, ""},
        {EXPECT, "40 02 0002"}}},

    /* ---- 3.3.2.3.4 Topic aliases ---- */
    {"an alias stands for the topic it came with", few_aliases, {
        {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"},
        {EXPECT, "20 10 00 00 0d 21 0400 25 00 27 01000000 22 0002"},
        {SEND, "30 07 0001 74 03 23 0001" "30 07 0001 75 03 23 0002" "30 06 0000 03 23 0001" "30 07 0001 76 03 23 0001" "30 06 0000 03 23 0001"},
        {CALLS, "publish t mode=1 client=c []; publish u mode=1 client=c []; publish t mode=1 client=c []; "
                "publish v mode=1 client=c []; publish v mode=1 client=c []"}}},
    {"one that is too high [MQTT-3.3.2-9]", few_aliases, {
        {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 63"},
        {EXPECT, "20 10 00 00 0d 21 0400 25 00 27 01000000 22 0002"},
        {SEND, "30 07 0001 74 03 23 0003"},
        {EXPECT, "e0 01 94"},
        {CLOSED, "BAD_ALIAS"}}},
    {"0 is none [MQTT-3.3.2-8]", NULL, {
        HELLO_CURT,
        {SEND, "30 07 0001 74 03 23 0000"},
        {EXPECT, "e0 01 94"},
        {CLOSED, "BAD_ALIAS"}}},
    {"one that stands for nothing yet", NULL, {
        HELLO_CURT,
        {SEND, "30 06 0000 03 23 0001"},
        {EXPECT, "e0 01 82"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"aliases work while RabbitMQ has no room", NULL, {
        HELLO,
        {PUBLISH_IS, "HELD"},
        {SEND, "32 09 0001 74 0001 03 23 0001" "32 08 0000 0002 03 23 0001"},
        {CALLS, ""},
        {PUBLISH_IS, "OK"},
        {CALLS, "publish t mode=2 client=c []; publish t mode=2 client=c []"}}},

    /* ---- A slow client ---- */
    {"who has to keep up is told 0x97", must_keep_up, {
        HELLO_CURT,
        {SEND, "82 07 0001 00 0001 74 00"},
        {EXPECT, "90 04 0001 00 00"},
        {FULL, "4194304"},
        {DELIVER, "address=t body=x"},
        {EXPECT, "e0 01 97"},
        {CLOSED, "TOO_SLOW"}}},

    /* ---- Retained ---- */
    {"where nothing is retained, retain is not supported [MQTT-3.2.2-14]", NULL, {
        HELLO_CURT,
        {SEND, "31 04 0001 74 00"},
        {EXPECT, "e0 01 9a"},
        {CLOSED, "NO_RETAIN"}}},
    {"where something is, it is published so", has_state, {
        HELLO_STATE,
        {SEND, "33 07 0001 74 0001 00 78"},
        {CALLS, "publish t mode=2 retained client=c [x]"},
        {CONFIRM, "TOO_MANY"},
        {EXPECT, "40 0e 0001 97 0a 1f 0007 617320746f6c64"}}},

    /* ---- 3.14 DISCONNECT, section 3.1.2.5 the will ---- */
    {"DISCONNECT with 0x04 leaves the will to be published", NULL, {
        {SEND, "10 15 0004 4d515454 05 0e 0000 00 0001 63 00 0001 77 0001 78"},
        {EXPECT, CONNACK},
        {SEND, "e0 01 04"},
        {CALLS, "publish w mode=2 client=c [x]"},
        {CLOSED, "CLOSED"}}},
    {"a will has properties", NULL, {
        {SEND, "10 20 0004 4d515454 05 0e 0000 00 0001 63 0b 03 0001 61 26 0001 6b 0001 76 0001 77 0001 78"},
        {EXPECT, CONNACK},
        {LEAVE, "PEER_LOST"},
        {CALLS, "publish w mode=2 content_type=a k:v client=c [x]"}}},
    {"the delay of a session that ends with its connection is none", NULL, {
        {SEND, "10 1a 0004 4d515454 05 0e 0000 00 0001 63 05 18 0000000a 0001 77 0001 78"},
        {EXPECT, CONNACK},
        {LEAVE, "PEER_LOST"},
        {CALLS, "publish w mode=2 client=c [x]"}}},
    {"DISCONNECT cannot keep a session that was to end [MQTT-3.14.2-2]", NULL, {
        HELLO_CURT,
        {SEND, "e0 07 00 05 11 00000001"},
        {EXPECT, "e0 01 82"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a newer connection with the same identifier [MQTT-3.1.4-3]", NULL, {
        HELLO_CURT,
        {ON, "2"},
        HELLO,
        {ON, "1"},
        {EXPECT, "e0 01 8e"},
        {CLOSED, "TAKEN_OVER"}}},
    {"a malformed packet", NULL, {
        HELLO,
        {SEND, "36 06 0001 74 0001 00"},
        {EXPECT_LIKE, "\xe0…\x81…"},
        {CLOSED, "MALFORMED"}}},
    {"the gateway shuts down", NULL, {
        HELLO_CURT,
        {SEND, "32 06 0001 74 0001 00"},
        {DRAIN, ""},
        {SILENCE, ""},
        {CONFIRM, ""},
        {EXPECT, "40 02 0001" "e0 01 8b"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
