/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries, on the wire: what the client gets for what comes out of RabbitMQ, and what RabbitMQ is
 * answered for what the client says. Sections and conformance statements are those of MQTT 3.1.1 in
 * the first table, of 5.0 in the second. */
#include "adapters/mqtt/mqtt_session.h"
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

/* clang-format off */
/* Clean session, keep-alive 0, client identifier "c"; and its answer. */
#define CONNECT "10 0d 0004 4d515454 04 02 0000 0001 63"
#define HELLO   {SEND, CONNECT}, {EXPECT, "20 02 00 00"}
/* Subscribes to "t" with QoS 1; with QoS 0; with QoS 2. */
#define TAKES_QOS1 {SEND, "82 06 0001 0001 74 01"}, {EXPECT, "90 03 0001 01"}
#define TAKES_QOS0 {SEND, "82 06 0001 0001 74 00"}, {EXPECT, "90 03 0001 00"}
#define TAKES_QOS2 {SEND, "82 06 0001 0001 74 02"}, {EXPECT, "90 03 0001 02"}
/* The same in 5.0; with properties of CONNECT. */
#define HELLO5 {SEND, "10 0e 0004 4d515454 05 02 0000 00 0001 63"}, {FORGET, ""}
#define HELLO5_3(properties) {SEND, "10 11 0004 4d515454 05 02 0000 03 " properties " 0001 63"}, {FORGET, ""}
#define TAKES5(options) {SEND, "82 07 0001 00 0001 74 " options}, {FORGET, ""}
/* Joins the group "g" of "t", whose queue is Q. */
#define SHARES5(qos) {SEND, "82 10 0001 00 000a 2473686172652f672f74 " qos}, {FORGET, ""}
#define Q "headgate.share.g/t"
#define Q2 "from=" Q " address=t mode=2 x-headgate-qos=2 "
/* clang-format on */

static void few_in_flight(struct core_fake *f)
{
    f->config.mqtt_max_inflight = 2;
    f->config.mqtt_max_queued = 2;
}

static void one_in_flight(struct core_fake *f)
{
    f->config.mqtt_max_inflight = 1;
}

static void small_output(struct core_fake *f)
{
    f->config.outbound_high_bytes = 100;
    f->config.outbound_low_bytes = 50;
    f->config.mqtt_max_inflight = 1;
}

static void must_keep_up(struct core_fake *f)
{
    small_output(f);
    f->slow = HG_SLOW_DISCONNECT;
}

/* clang-format off */
static const struct core_script scripts[] = {
    /* ---- Deliveries: 4.3, 3.8.4 ---- */
    {"a transient message is QoS 0, a persistent one QoS 1", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=1 body=x"},
        {EXPECT, "30 04 0001 74 78"},
        {DELIVER, "address=t body=x"},
        {EXPECT, "30 04 0001 74 78"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {DELIVER, "address=t mode=2"},
        {EXPECT, "32 05 0001 74 0002"}}},
    {"but never more than was granted", NULL, {
        HELLO,
        TAKES_QOS0,
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "30 04 0001 74 78"}}},
    {"overlapping filters get one copy with the highest QoS [MQTT-3.3.5-1]", NULL, {
        HELLO,
        {SEND, "82 0e 0001 0001 74 00 0001 2b 01 0001 23 00"},
        {EXPECT, "90 05 0001 00 01 00"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"}}},
    {"wildcards do not meet what begins with $ [MQTT-4.7.2-1]", NULL, {
        HELLO,
        {SEND, "82 06 0001 0001 23 00"},
        {EXPECT, "90 03 0001 00"},
        {DELIVER, "address=$x mode=1 body=x"},
        {SILENCE, ""}}},
    {"many share one encoding, each with its own identifier", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {ON, "2"},
        {SEND, "10 0d 0004 4d515454 04 02 0000 0001 64"},
        {EXPECT, "20 02 00 00"},
        TAKES_QOS1,
        {ON, "3"},
        {SEND, "10 0d 0004 4d515454 04 02 0000 0001 65"},
        {EXPECT, "20 02 00 00"},
        TAKES_QOS0,
        {DELIVER, "address=t mode=2 body=y"},
        {EXPECT, "30 04 0001 74 79"},
        {ON, "2"},
        {EXPECT, "32 06 0001 74 0001 79"},
        {ON, "1"},
        {EXPECT, "32 06 0001 74 0002 79"}}},
    {"in flight up to the limit, the rest in order after acknowledgements", few_in_flight, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=a"},
        {DELIVER, "address=t mode=2 body=b"},
        {DELIVER, "address=t mode=2 body=c"},
        {DELIVER, "address=t mode=2 body=d"},
        {EXPECT, "32 06 0001 74 0001 61" "32 06 0001 74 0002 62"},
        {SEND, "40 02 0002"},
        {EXPECT, "32 06 0001 74 0002 63"},
        {SEND, "40 02 0001" "40 02 0002"},
        {EXPECT, "32 06 0001 74 0001 64"},
        {SEND, "40 02 0001"},
        {SILENCE, ""}}},
    {"QoS 0 does not wait for them", few_in_flight, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=a"},
        {DELIVER, "address=t mode=2 body=b"},
        {DELIVER, "address=t mode=2 body=c"},
        {DELIVER, "address=t mode=1 body=d"},
        {EXPECT, "32 06 0001 74 0001 61" "32 06 0001 74 0002 62" "30 04 0001 74 64"}}},
    {"one more than may wait, and the client is too slow", few_in_flight, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=a"},
        {DELIVER, "address=t mode=2 body=b"},
        {DELIVER, "address=t mode=2 body=c"},
        {DELIVER, "address=t mode=2 body=d"},
        {OPEN, ""},
        {DELIVER, "address=t mode=2 body=e"},
        {CLOSED, "TOO_SLOW"},
        {EXPECT, "32 06 0001 74 0001 61" "32 06 0001 74 0002 62"}}},
    {"an acknowledgement of nothing is harmless", NULL, {
        HELLO,
        {SEND, "40 02 0001"},
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=a"},
        {EXPECT, "32 06 0001 74 0001 61"},
        {SEND, "40 02 0002" "40 02 0001" "40 02 0001"},
        {DELIVER, "address=t mode=2 body=b"},
        {EXPECT, "32 06 0001 74 0001 62"}}},
    {"a redelivered message says so with QoS 1 [MQTT-3.3.1-3]", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 redelivered body=x"},
        {EXPECT, "3a 06 0001 74 0001 78"}}},
    {"and is not shown with QoS 0, unless it is the only one there is", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=1 redelivered body=x"},
        {SILENCE, ""},
        {DELIVER, "address=t mode=1 redelivered keep body=x"},
        {EXPECT, "30 04 0001 74 78"}}},
    {"full output: QoS 0 is dropped", small_output, {
        HELLO,
        TAKES_QOS0,
        {FULL, "97"},
        {DELIVER, "address=t mode=2 body=x"},
        {SILENCE, ""},
        {FULL, "94"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "30 04 0001 74 78"}}},
    {"full output: or ends the connection, where the rule says so", must_keep_up, {
        HELLO,
        TAKES_QOS0,
        {FULL, "97"},
        {DELIVER, "address=t mode=1 body=x"},
        {SILENCE, ""},
        {CLOSED, "TOO_SLOW"}}},
    {"full output: a message out of a queue of its own is not", small_output, {
        HELLO,
        TAKES_QOS1,
        {FULL, "1000"},
        {DELIVER, "address=t mode=1 keep body=x"},
        {DELIVER, "address=t mode=2 keep body=y"},
        {EXPECT, "30 04 0001 74 78" "32 06 0001 74 0001 79"}}},
    {"full output: QoS 1 ends the connection", small_output, {
        HELLO,
        TAKES_QOS1,
        {FULL, "97"},
        {DELIVER, "address=t mode=2 body=x"},
        {CLOSED, "TOO_SLOW"}}},
    {"what waits counts as output", small_output, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=0123456789012345678901234567890123456789"},
        {DELIVER, "address=t mode=2 body=0123456789012345678901234567890123456789"},
        {DELIVER, "address=t mode=2 body=0123456789012345678901234567890123456789"},
        {OPEN, ""},
        {DELIVER, "address=t mode=2 body=0123456789012345678901234567890123456789"},
        {CLOSED, "TOO_SLOW"},
        {EXPECT, "32 2d 0001 74 0001 30313233343536373839 30313233343536373839 30313233343536373839 30313233343536373839"}}},
    {"an address that MQTT cannot show is not delivered", NULL, {
        HELLO,
        {SEND, "82 06 0001 0001 23 01"},
        {EXPECT, "90 03 0001 01"},
        {DELIVER, "address=a/+ mode=2 body=x"},
        {DELIVER, "address=a\x07 mode=2 body=x"},
        {DELIVER, "address=a\xff mode=2 body=x"},
        {SILENCE, ""},
        {DELIVER, "address=a/\xc3\xa9 mode=1 body=x"},
        {EXPECT, "30 07 0004 612fc3a9 78"}}},

    /* ---- 4.3.3 QoS 2 ---- */
    {"QoS 2 ends with pubcomp", NULL, {
        HELLO,
        TAKES_QOS2,
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=x"},
        {EXPECT, "34 06 0001 74 0001 78"},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=y"},
        {EXPECT, "34 06 0001 74 0002 79"},
        {SEND, "70 02 0001"},
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=z"},
        {EXPECT, "34 06 0001 74 0001 7a"}}},
    {"a persistent message of somebody else's is QoS 1", NULL, {
        HELLO,
        TAKES_QOS2,
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"}}},
    {"and one published with QoS 2 no more than was granted", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"}}},
    {"a released delivery is still in flight", one_in_flight, {
        HELLO,
        TAKES_QOS2,
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=x"},
        {DELIVER, "address=t mode=2 body=y"},
        {EXPECT, "34 06 0001 74 0001 78"},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {SEND, "70 02 0001"},
        {EXPECT, "32 06 0001 74 0001 79"}}},
    {"QoS 2 is not answered with puback", NULL, {
        HELLO,
        TAKES_QOS2,
        {DELIVER, "address=t mode=2 x-headgate-qos=2 body=x"},
        {EXPECT, "34 06 0001 74 0001 78"},
        {SEND, "40 02 0001"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"nor QoS 1 with pubrec", NULL, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {SEND, "50 02 0001"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"pubrec of what is not known is released, so that the client goes on", NULL, {
        HELLO,
        {SEND, "50 02 0007"},
        {EXPECT, "62 02 0007"},
        {SEND, "70 02 0007"},
        {OPEN, ""}}},

    /* ---- 3.3.1.3 RETAIN ---- */
    {"what was retained says so [MQTT-3.3.1-8]", NULL, {
        HELLO,
        TAKES_QOS2,
        {SERVE, "address=t mode=1 body=x"},
        {EXPECT, "31 04 0001 74 78"},
        {SERVE, "address=t mode=2 body=x"},
        {EXPECT, "33 06 0001 74 0001 78"}}},
    {"what is live does not [MQTT-3.3.1-9]", NULL, {
        HELLO,
        TAKES_QOS0,
        {DELIVER, "address=t mode=1 x-headgate-retain=true body=x"},
        {EXPECT, "30 04 0001 74 78"}}},
    {"a retained message is not dropped for a full connection", small_output, {
        HELLO,
        TAKES_QOS0,
        {FULL, "1000"},
        {SERVE, "address=t mode=1 body=x"},
        {EXPECT, "31 04 0001 74 78"}}},
};

static const struct core_script scripts5[] = {
    /* ---- 3.3.2.3 Properties ---- */
    {"QoS 0 with properties", NULL, {
        HELLO5,
        TAKES5("00"),
        {DELIVER, "address=t mode=1 body=x"},
        {EXPECT, "30 05 0001 74 00 78"},
        {DELIVER, "address=t mode=1 content_type=j body=x"},
        {EXPECT, "30 09 0001 74 04 03 0001 6a 78"}}},
    {"QoS 1 and 2", NULL, {
        HELLO5,
        TAKES5("02"),
        {DELIVER, "address=t mode=2 content_type=j body=x"},
        {EXPECT, "32 0b 0001 74 0001 04 03 0001 6a 78"},
        {DELIVER, "address=t mode=2 x-headgate-qos=2 redelivered body=x"},
        {EXPECT, "3c 07 0001 74 0002 00 78"}}},
    {"3.1.1 and 5.0 side by side", NULL, {
        HELLO5,
        TAKES5("00"),
        {ON, "2"},
        {SEND, "10 0d 0004 4d515454 04 02 0000 0001 64"},
        {EXPECT, "20 02 00 00"},
        TAKES_QOS0,
        {ON, "3"},
        {SEND, "10 0e 0004 4d515454 05 02 0000 00 0001 65"},
        {FORGET, ""},
        TAKES5("01"),
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 07 0001 74 0001 00 78"},
        {ON, "2"},
        {EXPECT, "30 04 0001 74 78"},
        {ON, "1"},
        {EXPECT, "30 05 0001 74 00 78"}}},
    {"the subscription identifier comes with the message [MQTT-3.3.4-3]", NULL, {
        HELLO5,
        {SEND, "82 09 0001 02 0b 07 0001 74 01"},
        {FORGET, ""},
        {DELIVER, "address=t mode=1 body=x"},
        {EXPECT, "30 07 0001 74 02 0b 07 78"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 09 0001 74 0001 02 0b 07 78"}}},
    {"overlapping subscriptions: one copy, all identifiers [MQTT-3.3.4-4]", NULL, {
        HELLO5,
        {SEND, "82 0a 0001 03 0b 8001 0001 74 00"},
        {SEND, "82 09 0001 02 0b 07 0001 2b 01"},
        {SEND, "82 07 0001 00 0001 23 00"},
        {FORGET, ""},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 0c 0001 74 0001 05 0b 8001 0b 07 78"}}},
    {"subscribing again changes the identifier", NULL, {
        HELLO5,
        {SEND, "82 09 0001 02 0b 07 0001 74 01" "82 07 0001 00 0001 74 00"},
        {FORGET, ""},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "30 05 0001 74 00 78"}}},
    {"no-local keeps away what the client has sent itself [MQTT-3.8.3-3]", NULL, {
        HELLO5,
        TAKES5("05"),
        {DELIVER, "address=t mode=2 x-headgate-from=c body=x"},
        {SILENCE, ""},
        {DELIVER, "address=t mode=2 x-headgate-from=d body=x"},
        {EXPECT, "32 07 0001 74 0001 00 78"},
        {DELIVER, "address=t mode=2 body=y"},
        {EXPECT, "32 07 0001 74 0002 00 79"}}},
    {"but not from another subscription", NULL, {
        HELLO5,
        TAKES5("05"),
        {SEND, "82 07 0001 00 0001 2b 00"},
        {FORGET, ""},
        {DELIVER, "address=t mode=2 x-headgate-from=c body=x"},
        {EXPECT, "30 05 0001 74 00 78"}}},
    {"retain as published [MQTT-3.3.1-13]", NULL, {
        HELLO5,
        TAKES5("09"),
        {DELIVER, "address=t mode=2 x-headgate-retain=true body=x"},
        {EXPECT, "33 07 0001 74 0001 00 78"},
        {DELIVER, "address=t mode=2 body=x"},
        {EXPECT, "32 07 0001 74 0002 00 78"}}},

    /* ---- 3.3.2.3.3 Message expiry; the wall clock says 1767323045678 ---- */
    {"what is left of an expiry [MQTT-3.3.2-6]", NULL, {
        HELLO5,
        TAKES5("01"),
        {DELIVER, "address=t mode=1 expiration=10000 x-headgate-ms=1767323045678 body=x"},
        {EXPECT, "30 0a 0001 74 05 02 0000000a 78"},
        {DELIVER, "address=t mode=2 expiration=10000 x-headgate-ms=1767323042678 body=x"},
        {EXPECT, "32 0c 0001 74 0001 05 02 00000007 78"},
        {DELIVER, "address=t mode=2 expiration=10000 x-headgate-ms=1767323035678 body=x"},
        {SILENCE, ""}}},
    {"it goes on while the delivery waits", one_in_flight, {
        HELLO5,
        TAKES5("01"),
        {DELIVER, "address=t mode=2 body=a"},
        {DELIVER, "address=t mode=2 expiration=10000 x-headgate-ms=1767323045678 body=b"},
        {DELIVER, "address=t mode=2 expiration=2000 x-headgate-ms=1767323045678 body=c"},
        {DELIVER, "address=t mode=2 body=d"},
        {EXPECT, "32 07 0001 74 0001 00 61"},
        {WAIT, "4000"},
        {SEND, "40 02 0001"},
        {EXPECT, "32 0c 0001 74 0001 05 02 00000006 62"},
        {SEND, "40 02 0001"},
        {EXPECT, "32 07 0001 74 0001 00 64"}}},

    /* ---- 3.3.2.3.4 Topic aliases ---- */
    {"a topic that comes again has an alias", NULL, {
        HELLO5_3("22 0001"),
        {SEND, "82 0a 0001 00 0004 61626364 01"},
        {FORGET, ""},
        {DELIVER, "address=abcd mode=1 body=x"},
        {EXPECT, "30 08 0004 61626364 00 78"},
        {DELIVER, "address=abcd mode=1 body=x"},
        {EXPECT, "30 0b 0004 61626364 03 23 0001 78"},
        {DELIVER, "address=abcd mode=1 content_type=j body=x"},
        {EXPECT, "30 0b 0000 07 23 0001 03 0001 6a 78"},
        {DELIVER, "address=abcd mode=2 body=x"},
        {EXPECT, "32 09 0000 0001 03 23 0001 78"}}},
    {"not for a client that takes none [MQTT-3.1.2-27]", NULL, {
        HELLO5,
        {SEND, "82 0a 0001 00 0004 61626364 01"},
        {FORGET, ""},
        {DELIVER, "address=abcd mode=1 body=x"},
        {DELIVER, "address=abcd mode=1 body=x"},
        {EXPECT, "30 08 0004 61626364 00 78" "30 08 0004 61626364 00 78"}}},

    /* ---- 3.1.2.11 What the client can take ---- */
    {"receive maximum [MQTT-3.3.4-9]", NULL, {
        HELLO5_3("21 0001"),
        TAKES5("01"),
        {DELIVER, "address=t mode=2 body=x"},
        {DELIVER, "address=t mode=2 body=y"},
        {EXPECT, "32 07 0001 74 0001 00 78"},
        {DELIVER, "address=t mode=1 body=z"},
        {EXPECT, "30 05 0001 74 00 7a"},
        {SEND, "40 02 0001"},
        {EXPECT, "32 07 0001 74 0001 00 79"}}},
    {"maximum packet size: as if it had been sent [MQTT-3.1.2-25]", NULL, {
        {SEND, "10 13 0004 4d515454 05 02 0000 05 27 00000018 0001 63"},
        {FORGET, ""},
        SHARES5("01"),
        {DELIVER, "from=" Q " address=t mode=2 body=123"},
        {EXPECT, "32 09 0001 74 0001 00 313233"},
        {SEND, "40 02 0001"},
        {CALLS, "ack 1"},
        {DELIVER, "from=" Q " address=t mode=2 body=12345678901234567"},
        {SILENCE, ""},
        {CALLS, "ack 2"}}},
    {"an alias does not make a packet too large", NULL, {
        {SEND, "10 16 0004 4d515454 05 02 0000 08 27 00000018 22 0001 0001 63"},
        {FORGET, ""},
        {SEND, "82 0a 0001 00 0004 61626364 00"},
        {FORGET, ""},
        {DELIVER, "address=abcd mode=1 body=1234567890123"},
        {EXPECT, "30 14 0004 61626364 00 31323334353637383930313233"},
        {DELIVER, "address=abcd mode=1 body=1234567890123"},
        {EXPECT, "30 14 0004 61626364 00 31323334353637383930313233"}}},

    /* ---- 4.10 Request and response ---- */
    {"a reply queue is shown as a topic of this session's own", NULL, {
        HELLO5,
        TAKES5("01"),
        {DELIVER, "address=t mode=1 reply_to=amq.gen-1 body=x"},
        {EXPECT, "30 10 0001 74 0b 08 0008 247265706c792f30 78"},
        {DELIVER, "address=t mode=1 reply_to=amq.gen-2 body=x"},
        {EXPECT, "30 10 0001 74 0b 08 0008 247265706c792f31 78"},
        {DELIVER, "address=t mode=2 reply_to=amq.gen-1 body=x"},
        {EXPECT, "32 12 0001 74 0001 0b 08 0008 247265706c792f30 78"}}},

    /* ---- Answers ---- */
    {"pubrec with an error ends the delivery: section 4.3.3", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, Q2 "body=x"},
        {EXPECT, "34 07 0001 74 0001 00 78"},
        {SEND, "50 03 0001 97"},
        {SILENCE, ""},
        {CALLS, "ack 1"},
        {DELIVER, Q2 "body=x"},
        {EXPECT, "34 07 0001 74 0001 00 78"}}},
    {"pubrec of what is not known [MQTT-4.3.3-…]", NULL, {
        HELLO5,
        {SEND, "50 02 0007"},
        {EXPECT, "62 03 0007 92"}}},

    /* ---- 4.8.2 Out of a group's queue ---- */
    {"RabbitMQ is answered when the client has answered", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, "from=" Q " address=t mode=2 body=x"},
        {EXPECT, "32 07 0001 74 0001 00 78"},
        {DELIVER, Q2 "body=y"},
        {EXPECT, "34 07 0001 74 0002 00 79"},
        {CALLS, ""},
        {SEND, "50 02 0002"},
        {EXPECT, "62 02 0002"},
        {CALLS, "ack 2"},
        {SEND, "40 02 0001" "70 02 0002"},
        {CALLS, "ack 1"}}},
    {"with QoS 0 when it is on its way", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, "from=" Q " address=t mode=1 body=x"},
        {EXPECT, "30 05 0001 74 00 78"},
        {CALLS, "ack 1"}}},
    {"which it is in its turn and not before there is room", small_output, {
        HELLO5,
        SHARES5("00"),
        {FULL, "101"},
        {DELIVER, "from=" Q " address=t mode=2 body=x"},
        {DELIVER, "from=" Q " address=t mode=1 body=y"},
        {SILENCE, ""},
        {CALLS, ""},
        {FULL, "0"},
        {EXPECT, "30 05 0001 74 00 78" "30 05 0001 74 00 79"},
        {CALLS, "ack 1; ack 2"}}},
    {"what has expired, or cannot be shown, is answered too", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, "from=" Q " address=t mode=2 expiration=10000 x-headgate-ms=1767323035678 body=x"},
        {CALLS, "ack 1"},
        {DELIVER, "from=" Q " address=t/+ mode=2 body=x"},
        {CALLS, "ack 2"}}},
    {"after a lost link nothing is sent twice", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, Q2 "body=x"},
        {DELIVER, Q2 "body=y"},
        {EXPECT, "34 07 0001 74 0001 00 78" "34 07 0001 74 0002 00 79"},
        {QUEUE_IS, ""},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {CALLS, ""},
        {DELIVER, Q2 "redelivered body=x"},
        {CALLS, "ack 3"},
        {DELIVER, Q2 "redelivered body=y"},
        {DELIVER, Q2 "redelivered body=z"},
        {EXPECT, "34 07 0001 74 0003 00 7a"},
        {SEND, "50 02 0002"},
        {EXPECT, "62 02 0002"},
        {CALLS, "ack 4"}}},
    {"who leaves the group answers nothing more for it", NULL, {
        HELLO5,
        SHARES5("02"),
        {DELIVER, Q2 "body=x"},
        {EXPECT, "34 07 0001 74 0001 00 78"},
        {SEND, "a2 0f 0002 00 000a 2473686172652f672f74"},
        {FORGET, ""},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {CALLS, ""}}},
    {"a group's message and one's own are two copies", NULL, {
        HELLO5,
        SHARES5("00"),
        TAKES5("00"),
        {DELIVER, "address=t mode=1 body=x"},
        {EXPECT, "30 05 0001 74 00 78"},
        {DELIVER, "from=" Q " address=t mode=1 body=x"},
        {EXPECT, "30 05 0001 74 00 78"}}},
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

static void counters_say_what_happened(void **state)
{
    struct core_fake f;
    (void)state;
    core_open(&f);
    f.config.mqtt_max_inflight = 1;
    f.config.mqtt_max_queued = 0;
    struct hg_proto_metrics *metrics = &f.worker.metrics.proto[HG_PROTO_MQTT];
    core_connect(&f, &hg_mqtt_adapter, NULL);
    feed_hex(&f, CONNECT "82 06 0001 0001 23 01");
    struct core_delivery d = {
        .address = "a", .properties = {.delivery_mode = 1}, .body = HG_BYTES("hello")};
    core_deliver(&f, &d);
    assert_int_equal(hg_counted(&metrics->messages_out), 1);
    assert_int_equal(hg_counted(&metrics->bytes_out), 5);
    d.properties.delivery_mode = 2;
    core_deliver(&f, &d);
    assert_int_equal(hg_counted(&metrics->messages_out), 2);
    assert_int_equal(hg_counted(&metrics->bytes_out), 10);
    d.address = "a+";
    core_deliver(&f, &d);
    assert_int_equal(hg_counted(&f.worker.metrics.upstream.unmapped), 1);
    d.address = "a";
    d.properties.delivery_mode = 1;
    core_set_pending(f.conn, 5 << 20);
    core_deliver(&f, &d);
    assert_int_equal(hg_counted(&metrics->dropped), 1);
    d.properties.delivery_mode = 2;
    core_set_pending(f.conn, 0);
    core_deliver(&f, &d);
    assert_int_equal(hg_counted(&metrics->slow_closed), 1);
    assert_int_equal(hg_counted(&metrics->messages_out), 2);
    core_connect(&f, &hg_mqtt_adapter, NULL);
    core_pass(&f, 11000);
    assert_int_equal(hg_counted(&metrics->keepalive_timeouts), 1);
    core_close(&f);
    assert_int_equal(seam_live(), 0);
}

/* The fast paths: what is sent to one more subscriber costs no memory. */
static void a_delivery_costs_no_allocation_but_the_shared_packet(void **state)
{
    static const struct {
        const char *connect, *subscribe;
        uint8_t mode;
        size_t allocs; /* the message, the packet, and one of the fake core */
    } cases[] = {
        {CONNECT, "82 06 0001 0001 74 00", 1, 3},
        {CONNECT, "82 06 0001 0001 74 01", 2, 3},
        {"10 0e 0004 4d515454 05 02 0000 00 0001 63", "82 07 0001 00 0001 74 00", 1, 3},
        {"10 0e 0004 4d515454 05 02 0000 00 0001 63", "82 09 0001 02 0b 07 0001 74 01", 2, 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct core_fake f;
        core_open(&f);
        core_connect(&f, &hg_mqtt_adapter, NULL);
        feed_hex(&f, cases[i].connect);
        feed_hex(&f, cases[i].subscribe);
        const struct core_delivery d = {
            .address = "t", .properties = {.delivery_mode = cases[i].mode}, .body = HG_BYTES("x")};
        core_deliver(&f, &d); /* a ledger is made once */
        core_forget(&f);
        seam_fail_alloc(0);
        core_deliver(&f, &d);
        assert_int_equal(seam_allocs(), cases[i].allocs);
        core_close(&f);
    }
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
        cmocka_unit_test(counters_say_what_happened),
        cmocka_unit_test(a_delivery_costs_no_allocation_but_the_shared_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
