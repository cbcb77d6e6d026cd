/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that outlive their connection: what is written to the state log when, what the queue is
 * asked for, and what the client hears, in 3.1.1 and 5.0, alone and against other processes. */
#include "adapters/mqtt/mqtt_session.h"
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

/* clang-format off */
#define QUEUE "mqtt-subscription-cqos1"
#define OPENS "open " QUEUE " prefetch=64 exclusive x-queue-type:classic x-expires:86400000"
#define OPENS_FIRST "announce c; " OPENS /* nothing was kept before */
#define OPENS_FRESH "open " QUEUE " prefetch=64 fresh exclusive x-queue-type:classic x-expires:86400000"
#define KEEPS "close " QUEUE " keep"
#define CLAIMS "barrier; claim c expiry=86400 inherits"

/* 3.1.1 without clean session, client identifier "c"; a session is not there, is there. */
#define CONNECT "10 0d 0004 4d515454 04 00 0000 0001 63"
#define CONNECT_CLEAN "10 0d 0004 4d515454 04 02 0000 0001 63"
#define HELLO   {SEND, CONNECT}, {EXPECT, "20 02 00 00"}, {CALLS, CLAIMS "; " OPENS_FIRST}
#define AGAIN   {SEND, CONNECT}, {EXPECT, "20 02 01 00"}
/* 5.0, Session Expiry Interval 60 s. */
#define CONNECT_5(flags) "10 13 0004 4d515454 05 " flags " 0000 05 11 0000003c 0001 63"
#define CONNACK_5(present) "20 0e " present " 00 0b 21 0400 27 01000000 22 0010"
/* Subscribes to "t" with QoS 1. */
#define TAKES_QOS1 \
    {SEND, "82 06 0001 0001 74 01"}, {EXPECT, "90 03 0001 01"}, \
    {CALLS, "subscribe t on " QUEUE "; serve t; update c expiry=86400 filter=t:1"}
#define LEAVES  {LEAVE, ""}, {CALLS, "update c expiry=86400 gone; " KEEPS}
#define LEAVES_QOS1 {LEAVE, ""}, {CALLS, "update c expiry=86400 gone filter=t:1; " KEEPS "; unsubscribe t"}
#define OPENS_QOS1 {CALLS, CLAIMS "; " OPENS "; subscribe t on " QUEUE}

static void has_state(struct core_fake *f)
{
    core_state_open(f);
}

static void answers_by_hand(struct core_fake *f)
{
    core_state_open(f);
    f->is_answering = false;
    f->is_state_held = true;
}

static void state_is_away(struct core_fake *f)
{
    core_state_open(f);
    f->is_state_away = true;
}

static void keeps_none(struct core_fake *f)
{
    core_state_open(f);
    f->config.mqtt_max_session_expiry_ms = 0;
}

static void keeps_30s(struct core_fake *f)
{
    core_state_open(f);
    f->config.mqtt_max_session_expiry_ms = 30000;
}

static void quorum(struct core_fake *f)
{
    core_state_open(f);
    f->config.mqtt_session_queue_is_quorum = true;
}

static void is_kept(struct core_fake *f)
{
    core_state_open(f);
    core_state_write(f, "claim c expiry=86400 gone filter=t:1 rx=5");
    f->has_queues = true;
}

static void is_elsewhere(struct core_fake *f)
{
    core_state_open(f);
    core_state_write(f, "claim c expiry=86400 filter=t:1");
    f->has_queues = true;
    f->is_answering = false; /* the queue is theirs for a while */
}

static void has_ended(struct core_fake *f)
{
    core_state_open(f);
    core_state_write(f, "claim c expiry=60 gone=61 filter=t:1 rx=5");
}

static void has_will_due(struct core_fake *f)
{
    core_state_open(f);
    core_state_write(f, "claim c expiry=60 gone will=w");
    f->has_queues = true;
}

static void had_a_queue(struct core_fake *f)
{
    core_state_open(f);
    f->has_queues = true;
}

static void is_u(struct core_fake *f)
{
    seam_spare(true);
    f->config.has_identities = true;
    f->identity = hg_identity_new(&(struct hg_identity_parts){.user = HG_BYTES("u")});
    seam_spare(false);
}

static void is_kept_for_nobody(struct core_fake *f)
{
    is_kept(f);
    is_u(f);
}

static void is_u_with_state(struct core_fake *f)
{
    core_state_open(f);
    is_u(f);
}

static const struct core_script scripts[] = {
    /* ---- Connecting ---- */
    {"the queue is consumed once the claim has come back, and then the client is told", answers_by_hand, {
        {SEND, CONNECT},
        {CALLS, "barrier"},
        {STATE_IS, "OK"},
        {CALLS, "claim c expiry=86400 inherits"},
        {STATE_IS, "OK"},
        {CALLS, OPENS_FIRST},
        {SILENCE, ""},
        {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {LEAVE, ""},
        {CALLS, "update c expiry=86400 gone"},
        {STATE_IS, "OK"},
        {CALLS, KEEPS}}},
    {"what the client sends meanwhile waits", answers_by_hand, {
        {SEND, CONNECT "c0 00"},
        {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00" "d0 00"}}},
    {"a session goes on with its subscriptions [MQTT-3.2.2-2]", has_state, {
        HELLO,
        TAKES_QOS1,
        LEAVES_QOS1,
        {ON, "2"},
        AGAIN,
        OPENS_QOS1,
        {DELIVER, "from=" QUEUE " address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {SEND, "40 02 0001"},
        {CALLS, "ack 1"}}},
    {"a queue that RabbitMQ's plugin left is a session that is present", had_a_queue, {
        {SEND, CONNECT},
        {EXPECT, "20 02 01 00"}}},
    {"clean start forgets what was there", is_kept, {
        {SEND, CONNECT_5("02")},
        {EXPECT, CONNACK_5("00")},
        {CALLS, "barrier; claim c expiry=60; " OPENS_FRESH}}},
    {"so does the end of its time", has_ended, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 00"},
        {CALLS, "barrier; claim c expiry=86400; " OPENS_FRESH}}},
    {"and the will that waited is published then [MQTT-3.1.3-9]", has_will_due, {
        {SEND, CONNECT_5("02")},
        {EXPECT, CONNACK_5("00")},
        {CALLS, "barrier; claim c expiry=60; publish w client=c [x]; " OPENS_FRESH}}},
    {"but not if the session goes on", has_will_due, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("01")},
        {CALLS, "barrier; claim c expiry=60 inherits; " OPENS}}},
    {"a clean session that is not kept discards one that is", is_kept, {
        {SEND, CONNECT_CLEAN},
        {EXPECT, "20 02 00 00"},
        {CALLS, "announce c; forget c; " OPENS_FRESH "; close " QUEUE " delete"},
        {LEAVE, ""},
        {ON, "2"},
        {SEND, CONNECT_CLEAN},
        {EXPECT, "20 02 00 00"},
        {CALLS, "announce c"}}},
    {"5.0: a session may go on once more and then end", is_kept, {
        {SEND, "10 0e 0004 4d515454 05 00 0000 00 0001 63"},
        {EXPECT, CONNACK_5("01")},
        {CALLS, "barrier; claim c inherits; " OPENS "; subscribe t on " QUEUE "; update c filter=t:1"},
        {SEND, "e0 00"},
        {CALLS, "end c gone filter=t:1 rx=5; close " QUEUE " delete; unsubscribe t"}}},
    {"5.0: and where none is there, nothing is kept", has_state, {
        {SEND, "10 0e 0004 4d515454 05 00 0000 00 0001 63"},
        {EXPECT, CONNACK_5("00")},
        {CALLS, "barrier; announce c"}}},
    {"the state log cannot be reached: a kept session is refused", state_is_away, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 03"},
        {CLOSED, "BROKER_AWAY"}}},
    {"in 5.0 with its reason", state_is_away, {
        {SEND, CONNECT_5("00")},
        {EXPECT, "20 20 00 88 1d 1f 001a 5261626269744d512063616e6e6f742062652072656163686564"},
        {CLOSED, "BROKER_AWAY"}}},
    {"but a clean one is accepted", state_is_away, {
        {SEND, CONNECT_CLEAN},
        {EXPECT, "20 02 00 00"}}},
    {"without a state log no session is kept, and 5.0 is told", NULL, {
        {SEND, CONNECT_5("00")},
        {EXPECT, "20 15 00 00 12 11 00000000 21 0400 25 00 27 01000000 22 0010"},
        {CALLS, ""}}},
    {"3.1.1 is not", NULL, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 00"},
        {CALLS, ""}}},
    {"with a cap of 0 none is kept either", keeps_none, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 00"},
        {CALLS, "barrier; announce c"}}},
    {"a shorter expiry is announced [MQTT-3.1.2-23]", keeps_30s, {
        {SEND, CONNECT_5("00")},
        {EXPECT, "20 13 00 00 10 11 0000001e 21 0400 27 01000000 22 0010"},
        {CALLS, "barrier; claim c expiry=30 inherits; announce c; open " QUEUE " prefetch=64 exclusive x-queue-type:classic x-expires:30000"}}},
    {"the queue's type and prefetch are configured", quorum, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 00"},
        {CALLS, CLAIMS "; announce c; open " QUEUE " prefetch=64 exclusive x-queue-type:quorum x-expires:86400000"}}},
    {"the prefetch is the client's Receive Maximum where that is smaller", has_state, {
        {SEND, "10 16 0004 4d515454 05 00 0000 08 11 0000003c 21 0003 0001 63"},
        {EXPECT, CONNACK_5("00")},
        {CALLS, "barrier; claim c expiry=60 inherits; announce c; open " QUEUE " prefetch=3 exclusive x-queue-type:classic x-expires:86400000"}}},
    {"each step may fail: the barrier", answers_by_hand, {
        {SEND, CONNECT},
        {STATE_IS, "BROKER_AWAY"},
        {EXPECT, "20 02 00 03"},
        {CLOSED, "BROKER_AWAY"},
        {CALLS, "barrier"}}},
    {"the claim", answers_by_hand, {
        {SEND, CONNECT},
        {STATE_IS, "OK"},
        {STATE_IS, "TIMED_OUT"},
        {EXPECT, "20 02 00 03"},
        {CLOSED, "BROKER_AWAY"},
        {CALLS, "barrier; claim c expiry=86400 inherits; update c expiry=86400 gone"},
        {STATE_IS, "OK"},
        {CALLS, ""}}},
    {"the queue, which somebody else consumes", answers_by_hand, {
        {SEND, CONNECT_5("00")},
        {STATE_IS, "OK"},
        {STATE_IS, "OK"},
        {QUEUE_IS, "NOT_ALLOWED"},
        {EXPECT, "20 2d 00 88 2a 1f 0027 7468652073657373696f6e277320717565756520697320696e2075736520656c73657768657265"},
        {CLOSED, "BROKER_AWAY"},
        {CALLS, "barrier; claim c expiry=60 inherits; announce c; open " QUEUE " prefetch=64 exclusive x-queue-type:classic x-expires:86400000; update c expiry=60 gone"},
        {STATE_IS, "OK"}}},
    {"a queue that RabbitMQ does not answer about is not waited for without end", answers_by_hand, {
        {SEND, CONNECT},
        {STATE_IS, "OK"},
        {STATE_IS, "OK"},
        {WAIT, "59900"},
        {OPEN, ""},
        {WAIT, "200"},
        {EXPECT, "20 02 00 03"},
        {CLOSED, "BROKER_AWAY"},
        {FORGET, ""},
        {STATE_IS, "OK"}}},
    {"another process claims it meanwhile", answers_by_hand, {
        {SEND, CONNECT},
        {STATE_IS, "OK"},
        {STATE, "claim c boot=2 expiry=86400"},
        {STATE_IS, "OK"},
        {STATE, "claim c boot=2 epoch=2 expiry=86400"},
        {CLOSED, "TAKEN_OVER"},
        {CALLS, "barrier; claim c expiry=86400 inherits; " OPENS_FIRST "; handover c expiry=86400 gone"},
        {STATE_IS, "OK"},
        {CALLS, KEEPS}}},
    {"a client that leaves before it is accepted leaves the session as it was", is_kept, {
        {STATE_IS, "BACK"},
        {SEND, "10 13 0004 4d515454 04 04 0000 0001 63 0001 77 0001 78"},
        {EXPECT, "20 02 01 00"},
        {LEAVE, ""},
        {CALLS, CLAIMS " will=w; " OPENS "; subscribe t on " QUEUE "; update c expiry=86400 filter=t:1 will=w; "
                "publish w mode=1 client=c [x]; update c expiry=86400 gone filter=t:1 rx=5; " KEEPS "; unsubscribe t"}}},

    /* ---- Subscriptions are saved ---- */
    {"suback waits until the record has come back", answers_by_hand, {
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {CALLS, CLAIMS "; " OPENS_FIRST},
        {SEND, "82 06 0001 0001 74 01"},
        {SUBSCRIBED, ""},
        {CALLS, "subscribe t on " QUEUE "; serve t; update c expiry=86400 filter=t:1"},
        {SEND, "82 06 0002 0001 75 01" "82 06 0003 0001 76 01"},
        {SUBSCRIBED, ""}, {SUBSCRIBED, ""},
        {CALLS, "subscribe u on " QUEUE "; subscribe v on " QUEUE "; serve u; serve v"},
        {SILENCE, ""},
        {STATE_IS, "OK"},
        {EXPECT, "90 03 0001 01"},
        {CALLS, "update c expiry=86400 filter=t:1 filter=u:1 filter=v:1"},
        {STATE_IS, "OK"},
        {EXPECT, "90 03 0002 01" "90 03 0003 01"},
        {CALLS, ""},
        {LEAVE, ""}, {STATE_IS, "OK"}}},
    {"what cannot be saved ends the connection", answers_by_hand, {
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {SEND, "82 06 0001 0001 74 01"},
        {SUBSCRIBED, ""},
        {STATE_IS, "BROKER_AWAY"},
        {CLOSED, "BROKER_AWAY"},
        {STATE_IS, "OK"}}},
    {"also where it is known at once", has_state, {
        HELLO,
        {STATE_IS, "AWAY"},
        {SEND, "82 06 0001 0001 74 01"},
        {WAIT, "64"},
        {CLOSED, "BROKER_AWAY"},
        {WAIT, "64"},
        {CALLS, "subscribe t on " QUEUE "; serve t; " KEEPS "; unsubscribe t"}}},
    {"RabbitMQ refuses a filter when the connection is gone", answers_by_hand, {
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {SEND, "82 06 0001 0001 74 01"},
        {LEAVE, "PEER_LOST"},
        {SUBSCRIBED, "NO_EXCHANGE"},
        {CALLS, CLAIMS "; " OPENS_FIRST "; subscribe t on " QUEUE "; update c expiry=86400 gone; unsubscribe t"},
        {STATE_IS, "OK"},
        {CALLS, KEEPS}}},
    {"unsuback too", answers_by_hand, {
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {SEND, "82 06 0001 0001 74 01"}, {SUBSCRIBED, ""}, {STATE_IS, "OK"},
        {EXPECT, "90 03 0001 01"},
        {SEND, "a2 05 0002 0001 74"},
        {SILENCE, ""},
        {STATE_IS, "OK"},
        {EXPECT, "b0 02 0002"},
        {CALLS, CLAIMS "; " OPENS_FIRST "; subscribe t on " QUEUE "; serve t; update c expiry=86400 filter=t:1; "
                "unsubscribe t; update c expiry=86400"},
        {LEAVE, ""}, {STATE_IS, "OK"}}},

    /* ---- In flight: QoS 2 in, QoS 1 and 2 out ---- */
    {"what was received is known again after a reconnect [MQTT-4.3.3-10]", has_state, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"},
        {LEAVE, ""},
        {CALLS, "update c expiry=86400 gone rx=1; " KEEPS},
        {ON, "2"},
        AGAIN,
        {CALLS, CLAIMS "; " OPENS "; update c expiry=86400"},
        {SEND, "3c 05 0001 74 0001"},
        {EXPECT, "50 02 0001"},
        {CALLS, ""},
        {SEND, "62 02 0001"},
        {EXPECT, "70 02 0001"}}},
    {"what was under way is settled first", has_state, {
        HELLO,
        {SEND, "34 05 0001 74 0001" "34 05 0001 75 0002" "34 05 0001 76 0003"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []; "
                "publish u mode=2 message_id=c/2/1 x-headgate-numbered:true once client=c []; "
                "publish v mode=2 message_id=c/3/1 x-headgate-numbered:true once client=c []"},
        {LEAVE, ""},
        {CALLS, ""},
        {CONFIRM, ""}, {CONFIRM, "REJECTED"}, {CONFIRM, ""},
        {WAIT, "64"},
        {CALLS, "update c expiry=86400 gone rx=1 rx=3; " KEEPS}}},
    {"but for four seconds at most", has_state, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {ON, "2"},
        {SEND, CONNECT},
        {WAIT, "3900"},
        {CALLS, ""},
        {WAIT, "200"},
        {CALLS, "update c expiry=86400 gone; " KEEPS "; " CLAIMS "; " OPENS},
        {EXPECT, "20 02 01 00"}}},
    {"a repeat during a takeover waits for the outcome of the first", has_state, {
        HELLO,
        {SEND, "34 05 0001 74 0001"},
        {CALLS, "publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {ON, "2"},
        {SEND, CONNECT "3c 05 0001 74 0001"},
        {CONFIRM, ""},
        {WAIT, "64"},
        {EXPECT, "20 02 01 00" "50 02 0001"},
        {CALLS, "update c expiry=86400 gone rx=1; " KEEPS "; " CLAIMS "; " OPENS "; update c expiry=86400"}}},
    {"a delivery in flight comes again under its identifier", has_state, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "from=" QUEUE " address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {LEAVE, ""},
        {CALLS, "update c expiry=86400 gone filter=t:1 tx=1; " KEEPS "; unsubscribe t"},
        {ON, "2"},
        AGAIN,
        {CALLS, CLAIMS "; " OPENS "; subscribe t on " QUEUE "; update c expiry=86400 filter=t:1"},
        {DELIVER, "from=" QUEUE " address=t mode=2 redelivered body=x"},
        {EXPECT, "3a 06 0001 74 0001 78"},
        {SEND, "40 02 0001"},
        {CALLS, "ack 1"}}},
    {"PUBREL is sent again [MQTT-4.4.0-1]", has_state, {
        HELLO,
        {SEND, "82 06 0001 0001 74 02"}, {EXPECT, "90 03 0001 02"},
        {DELIVER, "from=" QUEUE " address=t mode=2 x-headgate-qos=2 body=x"},
        {EXPECT, "34 06 0001 74 0001 78"},
        {SEND, "50 02 0001"},
        {EXPECT, "62 02 0001"},
        {CALLS, "subscribe t on " QUEUE "; serve t; update c expiry=86400 filter=t:2; ack 1"},
        {LEAVE, ""},
        {CALLS, "update c expiry=86400 gone filter=t:2 tx=1r; " KEEPS "; unsubscribe t"},
        {ON, "2"},
        {SEND, CONNECT},
        {EXPECT, "20 02 01 00" "62 02 0001"},
        {SEND, "70 02 0001"},
        {SILENCE, ""}}},
    {"a lost link: what was not answered comes again, and is not shown twice", has_state, {
        HELLO,
        TAKES_QOS1,
        {DELIVER, "from=" QUEUE " address=t mode=2 body=x"},
        {EXPECT, "32 06 0001 74 0001 78"},
        {QUEUE_IS, "OK"},
        {DELIVER, "from=" QUEUE " address=t mode=2 redelivered body=x"},
        {SILENCE, ""},
        {SEND, "40 02 0001"},
        {CALLS, "ack 2"}}},
    {"a queue that is lost ends the connection", has_state, {
        HELLO,
        {QUEUE_IS, "NO_QUEUE"},
        {CLOSED, "NO_QUEUE"},
        {CALLS, "update c expiry=86400 gone"}}},

    /* ---- Taking over ---- */
    {"the older connection writes, closes its queue, and then the newer begins", has_state, {
        HELLO,
        TAKES_QOS1,
        {ON, "2"},
        AGAIN,
        {CALLS, "update c expiry=86400 gone filter=t:1; " KEEPS "; unsubscribe t; " CLAIMS "; " OPENS "; subscribe t on " QUEUE},
        {ON, "1"},
        {CLOSED, "TAKEN_OVER"}}},
    {"by another process: what was in flight is handed over", has_state, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("00")},
        {SEND, "34 06 0001 74 0001 00"},
        {CONFIRM, ""},
        {EXPECT, "50 02 0001"},
        {CALLS, "barrier; claim c expiry=60 inherits; " OPENS_FIRST "; publish t mode=2 message_id=c/1/1 x-headgate-numbered:true once client=c []"},
        {STATE, "claim c boot=2 expiry=60 inherits"},
        {EXPECT, "e0 2f 8e 2d 1f 002a 616e6f7468657220636f6e6e656374696f6e20757365732074686520 73616d6520636c69656e74206964"},
        {CLOSED, "TAKEN_OVER"},
        {CALLS, "handover c expiry=60 gone rx=1; " KEEPS}}},
    {"not by another user", is_kept_for_nobody, {
        {SEND, CONNECT},
        {EXPECT, "20 02 00 05"},
        {CLOSED, "NOT_ALLOWED"},
        {CALLS, "login; barrier"},
        {ON, "2"},
        {SEND, CONNECT_CLEAN}, /* which other processes are not told either */
        {EXPECT, "20 02 00 05"},
        {CALLS, "login"}}},
    {"who finds at once that it is another user's leaves nothing", is_u_with_state, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("00")},
        {CALLS, "login; barrier; claim c expiry=60 inherits; " OPENS_FIRST},
        {LOST, "NOT_ALLOWED"},
        {EXPECT, "e0 43 87 41 1f 003e 616e6f746865722075736572277320636c69656e7420697320636f6e6e65637465642077697468207468697320636c69656e74206964656e746966696572"},
        {CLOSED, "NOT_ALLOWED"},
        {CALLS, "end c gone; close " QUEUE " delete"}}},
    {"and hears so in CONNACK if it had none", answers_by_hand, {
        {SEND, CONNECT},
        {CALLS, "barrier"},
        {LOST, "NOT_ALLOWED"},
        {EXPECT, "20 02 00 05"},
        {CLOSED, "NOT_ALLOWED"}}},
    {"by one that comes while the record is written", answers_by_hand, {
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {EXPECT, "20 02 00 00"},
        {LEAVE, ""},
        {CALLS, CLAIMS "; " OPENS_FIRST "; update c expiry=86400 gone"},
        {STATE, "claim c boot=2 expiry=60 inherits"},
        {STATE_IS, "OK"},
        {CALLS, "handover c expiry=86400 gone"},
        {STATE_IS, "OK"},
        {CALLS, KEEPS}}},
    {"from another process: its word is waited for", is_elsewhere, {
        {SEND, CONNECT},
        {CALLS, CLAIMS "; " OPENS},
        {STATE, "handover c rx=5 released=6"},
        {QUEUE_IS, "OK"}, {SUBSCRIBED, ""},
        {EXPECT, "20 02 01 00" "62 02 0006"},
        {CALLS, "subscribe t on " QUEUE "; barrier; update c expiry=86400 filter=t:1"},
        {SEND, "3c 05 0001 74 0005"},
        {EXPECT, "50 02 0005"}}},
    {"what the queue brings meanwhile comes after CONNACK", answers_by_hand, {
        {STATE, "claim c expiry=86400 filter=t:1"},
        {SEND, CONNECT}, {STATE_IS, "OK"}, {STATE_IS, "OK"}, {QUEUE_IS, "OK"},
        {CALLS, CLAIMS "; " OPENS "; subscribe t on " QUEUE "; barrier"},
        {DELIVER, "from=" QUEUE " address=t mode=2 body=x"},
        {DELIVER, "from=" QUEUE " address=t mode=1 body=y"},
        {SILENCE, ""},
        {STATE_IS, "OK"},
        {SILENCE, ""}, /* CONNACK promises that the subscription is live */
        {SUBSCRIBED, ""},
        {EXPECT, "20 02 01 00" "32 06 0001 74 0001 78" "30 04 0001 74 79"},
        {LEAVE, ""}, {STATE_IS, "OK"}}},
    {"one that died has written nothing down: identifiers are cleared before their first use", is_elsewhere, {
        {SEND, CONNECT},
        {QUEUE_IS, "OK"}, {SUBSCRIBED, ""},
        {EXPECT, "20 02 01 00"},
        {SEND, "82 06 0001 0001 74 02"},
        {EXPECT, "90 03 0001 02"},
        {DELIVER, "from=" QUEUE " address=t mode=2 x-headgate-qos=2 body=x"},
        {EXPECT, "62 02 0001"},
        {SEND, "70 02 0001"},
        {EXPECT, "34 06 0001 74 0001 78"}}},

    /* ---- The end ---- */
    {"5.0: DISCONNECT may end the session", has_state, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("00")},
        {SEND, "e0 07 00 05 11 00000000"},
        {CLOSED, "CLOSED"},
        {CALLS, "barrier; claim c expiry=60 inherits; " OPENS_FIRST "; end c gone; close " QUEUE " delete"}}},
    {"or change its time", has_state, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("00")},
        {SEND, "e0 07 00 05 11 0000000a"},
        {CALLS, "barrier; claim c expiry=60 inherits; " OPENS_FIRST "; update c expiry=10 gone; " KEEPS}}},
    {"a will without delay is published at once", has_state, {
        {SEND, "10 13 0004 4d515454 04 04 0000 0001 63 0001 77 0001 78"},
        {EXPECT, "20 02 00 00"},
        {LEAVE, "PEER_LOST"},
        {CALLS, CLAIMS " will=w; " OPENS_FIRST "; publish w mode=1 client=c [x]; update c expiry=86400 gone; " KEEPS}}},
    {"one with delay is left to the log [MQTT-3.1.3-9]", has_state, {
        {SEND, "10 1f 0004 4d515454 05 04 0000 05 11 0000003c 0001 63 05 18 0000000a 0001 77 0001 78"},
        {EXPECT, CONNACK_5("00")},
        {LEAVE, "PEER_LOST"},
        {CALLS, "barrier; claim c expiry=60 inherits will=w; " OPENS_FIRST "; update c expiry=60 gone will=w due=10; " KEEPS}}},
    {"but not beyond the session's end", has_state, {
        {SEND, "10 1f 0004 4d515454 05 04 0000 05 11 0000003c 0001 63 05 18 0000005a 0001 77 0001 78"},
        {EXPECT, CONNACK_5("00")},
        {SEND, "e0 01 04"},
        {CALLS, "barrier; claim c expiry=60 inherits will=w; " OPENS_FIRST "; update c expiry=60 gone will=w due=60; " KEEPS}}},
    {"and not after DISCONNECT", has_state, {
        {SEND, "10 1f 0004 4d515454 05 04 0000 05 11 0000003c 0001 63 05 18 0000000a 0001 77 0001 78"},
        {EXPECT, CONNACK_5("00")},
        {SEND, "e0 00"},
        {CALLS, "barrier; claim c expiry=60 inherits will=w; " OPENS_FIRST "; update c expiry=60 gone; " KEEPS}}},
    {"the gateway shuts down: the record is written", has_state, {
        {SEND, CONNECT_5("00")},
        {EXPECT, CONNACK_5("00")},
        {DRAIN, ""},
        {EXPECT, "e0 1c 8b 1a 1f 0017 736572766572206973207368757474696e6720646f776e"},
        {CLOSED, "SHUTTING_DOWN"},
        {CALLS, "barrier; claim c expiry=60 inherits; " OPENS_FIRST "; update c expiry=60 gone; " KEEPS}}},
    {"a record that cannot be written is not waited for", has_state, {
        HELLO,
        {STATE_IS, "AWAY"},
        {LEAVE, ""},
        {WAIT, "64"},
        {CALLS, KEEPS}}},
    {"nor does the queue of one that another has ended belong to it", has_state, {
        HELLO,
        {STATE, "forget c boot=2"},
        {CLOSED, "TAKEN_OVER"},
        {CALLS, "update c expiry=86400 gone; " KEEPS}}},
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
    seam_spare(true);
    hex_read(&bytes, hex);
    core_feed(f, hg_writer_view(&bytes));
    seam_spare(false);
    core_turn(f);
    hg_writer_close(&bytes);
}

/* A session that comes back, with a subscription, something received and something sent, publishes
 * and leaves. */
static void live_through(struct core_fake *f)
{
    static const char *const acts[] = {
        "10 1f 0004 4d515454 05 04 0000 05 11 0000003c 0001 63 05 18 0000000a 0001 77 0001 78",
        "82 07 0001 00 0001 75 02",
        "34 06 0001 74 0001 00 32 09 0001 74 0002 03 23 0001",
        "a2 06 0003 00 0001 75",
    };
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        feed_hex(f, acts[i]);
        core_pass(f, 64);
    }
    while (!hg_list_is_empty(&f->publishes)) {
        core_settle(f, 0, HG_REJECTED, "full");
    }
    hg_conn_close(f->conn, HG_PEER_LOST);
    core_pass(f, 5000);
}

/* Whatever allocation fails, the session ends or goes on; nothing leaks, nothing is held for ever. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    size_t allocs = 1;
    for (size_t n = 1; n <= allocs; n++) {
        struct core_fake f;
        core_open(&f);
        is_kept(&f);
        core_connect(&f, &hg_mqtt_adapter, NULL);
        seam_fail_alloc(n);
        live_through(&f);
        allocs = seam_allocs();
        seam_fail_alloc(0);
        assert_true(hg_list_is_empty(&f.claims)); /* the identifier is free again */
        assert_true(hg_list_is_empty(&f.queues));
        core_close(&f);
        assert_int_equal(seam_live(), 0);
    }
    assert_true(allocs > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
