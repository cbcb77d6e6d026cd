/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations about queues: how SUBSCRIBE and SEND have them declared, consumed, bound and
 * deleted; each with the input cut everywhere. */
#include "adapters/stomp/stomp_session.h"
#include "seam/core_fake.h"
#include "seam/seam.h"
#include "seam/unit.h"

#define OPENED                                                \
    {SEND_TEXT, "CONNECT\naccept-version:1.2\nhost:/\n\n^@"}, \
    {                                                         \
        FORGET, ""                                            \
    }
#define SUBSCRIBE(destination, headers) \
    "SUBSCRIBE\nid:1\ndestination:" destination "\n" headers "\n^@"
#define ERROR_END(text, status)           \
    {EXPECT_LIKE, "ERROR\n…" text "…^@"}, \
    {                                     \
        CLOSED, status                    \
    }
#define NAMED_A "stomp-subscription-iGm_jejZmoeZexMnqCi_Aw"

static void by_hand(struct core_fake *f)
{
    f->is_answering = false;
    f->config.unavailable_timeout_ms = 30000;
}

static void other_topics(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_topic_exchange = "events";
}

static void rule_queue(struct core_fake *f)
{
    by_hand(f);
    f->rule_queue = "jobs";
}

/* clang-format off */
static const struct core_script scripts[] = {
    /* ---- /queue and /amq/queue ---- */
    {"a queue's properties are those of its declaration", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "x-max-length:5\nx-overflow:reject-publish\nauto-delete:true\nx-priority:7\nprefetch-count:3\n")},
        {CALLS, "open q prefetch=3 by-name auto matching auto-delete x-max-length:5 x-overflow:reject-publish consume x-priority:7"}}},
    {"one that is not durable is exclusive", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "durable:false\n")},
        {CALLS, "open q prefetch=100 exclusive by-name auto matching transient private auto-delete"},
        {QUEUE_IS, ""}, {SEND_TEXT, "UNSUBSCRIBE\nid:1\n\n^@"}, {CALLS, "close q delete"}}},
    {"unless it says otherwise", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "durable:false\nexclusive:false\nauto-delete:false\n")},
        {CALLS, "open q prefetch=100 by-name auto matching transient"}, {LEAVE, ""}, {CALLS, "close q keep"}}},
    {"a foreign queue is consumed as it is", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/amq/queue/q", "durable:false\nexclusive:true\nx-max-length:5\nx-stream-offset:first\nack:client\n")},
        {CALLS, "open q prefetch=1024 exclusive existing by-name consume x-stream-offset:first"}}},
    {"a stream is consumed from where it ends, and goes on from there", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "x-queue-type:stream\n")},
        {CALLS, "open q prefetch=100 by-name auto matching x-queue-type:stream consume x-stream-offset:next"}}},
    {"what is acknowledged by itself has the gateway's limit", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "prefetch-count:60000\n") "SUBSCRIBE\nid:2\ndestination:r\nprefetch-count:0\n\n^@"},
        {CALLS, "open q prefetch=1024 by-name auto matching; open r prefetch=100 by-name auto matching"}}},
    {"a refusal is told with rabbitmq's reason", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "receipt:r\n")}, {QUEUE_IS, "REFUSED"},
        ERROR_END("receipt-id:r\n…RabbitMQ refused the request: as told", "REFUSED")}},
    {"a bad value is told with name and value", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "x-stream-offset:bogus\n")},
        ERROR_END("the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, "
                  "or a number and a unit (Y, M, D, h, m, s): bogus\n", "BAD_PROPERTY")}},

    /* ---- SEND ---- */
    {"send declares as its headers say", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\ndurable:false\npersistent:false\nx-max-length:5\n\n^@"},
        {CALLS, " declare name=q auto-delete x-max-length:5"}}},
    {"but nothing that is its own", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\nexclusive:true\n\n^@"},
        ERROR_END("an exclusive queue is declared by SUBSCRIBE with exclusive\\ctrue", "BAD_PROPERTY")}},
    {"what is consumed is not declared again", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "exclusive:true\n")}, {QUEUE_IS, ""}, {FORGET, ""},
        {SEND_TEXT, "SEND\ndestination:/queue/q\n\n1^@"}, {CALLS, "publish  q mandatory [1]"}}},
    {"and waited for", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "") "SEND\ndestination:/queue/q\n\n1^@SEND\ndestination:/a\n\n2^@"},
        {CALLS, "open q prefetch=100 by-name auto matching"}, {QUEUE_IS, ""},
        {CALLS, "publish  q mandatory [1]; publish a [2]"}}},
    {"topics are in the configured exchange", other_topics, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "") "SEND\ndestination:/topic/b\n\n1^@"},
        {CALLS, "subscribe exchange=events key=a; publish events b [1]"}}},

    /* ---- Durable subscriptions ---- */
    {"a durable subscription's queue is there before and after it", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:true\nauto-delete:false\nreceipt:r\nack:client\n")},
        {CALLS, "open " NAMED_A " prefetch=1024 by-name matching; subscribe exchange=amq.topic key=a on " NAMED_A},
        {SUBSCRIBED, ""}, {SILENCE, ""}, {QUEUE_IS, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:r\n\n^@"},
        {DELIVER, "from=" NAMED_A " exchange=amq.topic key=a body=x"}, {FORGET, ""},
        {SEND_TEXT, "ACK\nid:1-1\n\n^@"}, {CALLS, "ack 1"}, {LEAVE, ""},
        {CALLS, "close " NAMED_A " keep; unsubscribe exchange=amq.topic key=a"}}},
    {"unsubscribe deletes it when it says durable", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "persistent:true\n")}, {QUEUE_IS, ""}, {SUBSCRIBED, ""},
        {CALLS, "open " NAMED_A " prefetch=100 by-name auto matching auto-delete; subscribe exchange=amq.topic key=a on " NAMED_A},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\ndurable:true\nreceipt:u\n\n^@"},
        {CALLS, "close " NAMED_A " keep; unsubscribe exchange=amq.topic key=a; delete " NAMED_A}, {SILENCE, ""},
        {DECLARED, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:u\n\n^@"}}},
    {"a deletion that is refused is told", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:true\n")}, {QUEUE_IS, ""}, {SUBSCRIBED, ""},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\ndurable:true\nreceipt:u\n\n^@"}, {DECLARED, "NOT_ALLOWED"},
        ERROR_END("receipt-id:u\n…not permitted: as told", "NOT_ALLOWED")}},
    {"disconnect waits for it", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:true\n")}, {QUEUE_IS, ""}, {SUBSCRIBED, ""},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\ndurable:true\n\n^@DISCONNECT\nreceipt:d\n\n^@"}, {SILENCE, ""}, {DECLARED, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:d\n\n^@"}, {CLOSED, "CLOSED"}}},
    {"it keeps the queue when it does not", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:true\n")}, {QUEUE_IS, ""}, {SUBSCRIBED, ""}, {FORGET, ""},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\n\n^@"}, {CALLS, "close " NAMED_A " keep; unsubscribe exchange=amq.topic key=a"}}},
    {"another queue is not deleted", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/queue/q", "durable:true\n")}, {QUEUE_IS, ""}, {FORGET, ""},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\ndurable:true\nreceipt:u\n\n^@"}, {CALLS, "close q keep"},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:u\n\n^@"}}},
    {"its name may be given", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/exchange/x/k", "durable:true\nauto-delete:false\nx-queue-name:mine\nx-max-length:9\n")},
        {CALLS, "open mine prefetch=100 by-name auto matching x-max-length:9; subscribe exchange=x key=k on mine"}}},
    {"an address has them too", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/a/*", "durable:true\nauto-delete:false\nx-queue-name:mine\n")},
        {CALLS, "open mine prefetch=100 auto matching filter=a/+; subscribe a/+ on mine"}}},
    {"by another name than a topic", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/a", "durable:true\n")},
        {CALLS, "open stomp-subscription-l3GG6Rqi9L0Lz5pQQYm1Eg prefetch=100 auto matching auto-delete filter=a; "
                "subscribe a on stomp-subscription-l3GG6Rqi9L0Lz5pQQYm1Eg"}}},
    {"it needs an id", by_hand, {
        {SEND_TEXT, "CONNECT\n\n^@SUBSCRIBE\ndestination:/topic/a\ndurable:true\n\n^@"},
        {EXPECT_LIKE, "CONNECTED\n…^@ERROR\nmessage:a durable subscription needs the header id\n…^@"}, {CLOSED, "PROTOCOL_ERROR"}}},
    {"without its exchange it leaves nothing behind", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:true\nauto-delete:false\n")}, {FORGET, ""}, {SUBSCRIBED, "NO_EXCHANGE"},
        {CALLS, "unsubscribe exchange=amq.topic key=a; close " NAMED_A " delete-if-idle"}, ERROR_END("no such exchange", "NO_EXCHANGE")}},
    {"one with a queue of a rule is that queue's", rule_queue, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/jobs/a", "durable:true\n")},
        {CALLS, "open jobs prefetch=100 existing whole auto filter=jobs/a"},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\ndurable:true\n\n^@"}, {CALLS, "close jobs keep"}}},
    {"as is one that says how to consume it", rule_queue, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/jobs/a", "prefetch-count:5\nexclusive:true\n")},
        {CALLS, "open jobs prefetch=5 exclusive existing whole auto filter=jobs/a"}}},

    /* ---- Subscriptions that are special ---- */
    {"a plain one comes by way of the feed", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "durable:false\nauto-delete:true\nexclusive:true\nprefetch-count:5\nfoo:bar\n")},
        {CALLS, "subscribe exchange=amq.topic key=a"}}},
    {"properties of a queue make one", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/topic/a", "x-max-length:5\nx-expires:7000\n")},
        {CALLS, "open headgate.stomp.0.1.1 prefetch=100 by-name auto x-expires:7000 x-max-length:5 x-queue-type:classic; "
                "subscribe exchange=amq.topic key=a on headgate.stomp.0.1.1"}}},
    {"headers are matched by arguments of the binding", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/exchange/amq.headers", "x-match:all\ncolour:red\nsize:int:5\n")},
        {CALLS, "open headgate.stomp.0.1.1 prefetch=100 by-name auto x-queue-type:classic x-expires:60000 "
                "match x-match:all colour:red size:5; subscribe exchange=amq.headers on headgate.stomp.0.1.1"}}},
    {"retained messages come by way of the feed", by_hand, {
        OPENED, {SEND_TEXT, SUBSCRIBE("/a", "durable:true\nretained:true\n")},
        ERROR_END("retained messages come with ack:auto, and not to durable subscriptions or with the properties of a queue",
                  "BAD_PROPERTY")}},
};
/* clang-format on */

static void every_conversation_goes_as_written_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        core_play(&hg_stomp_adapter, NULL, &scripts[i]);
    }
}

static void talk(struct core_fake *f)
{
    static const char *const frames[] = {
        "CONNECT\naccept-version:1.2\n\n",
        "SUBSCRIBE\nid:1\ndestination:/topic/a\ndurable:true\nx-match:any\ncolour:red\nreceipt:1\n\n",
        "SUBSCRIBE\nid:2\ndestination:/a/*\nack:client\nx-max-length:5\n\n",
        "SUBSCRIBE\nid:3\ndestination:/queue/q\n\n",
        "SEND\ndestination:/queue/q\n\nx",
        "UNSUBSCRIBE\nid:1\ndurable:true\nreceipt:2\n\n",
        "UNSUBSCRIBE\nid:2\n\n",
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        core_feed(f, hg_bytes(frames[i], strlen(frames[i]) + 1));
        core_turn(f);
    }
}

static void any_allocation_may_fail(void **state)
{
    size_t asked_n;
    size_t n = 0;
    (void)state;
    do { /* until a run gets by without the one that would have failed */
        struct core_fake f;
        core_open(&f);
        (void)core_connect(&f, &hg_stomp_adapter, NULL);
        seam_fail_alloc(++n);
        talk(&f);
        asked_n = seam_allocs();
        seam_fail_alloc(0);
        core_close(&f);
        assert_int_equal(seam_live(), 0);
    } while (asked_n >= n);
    assert_in_range(n, 20, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversation_goes_as_written_at_every_split),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
