/* SPDX-License-Identifier: Apache-2.0 */
/* Requests with a reply-to of /temp-queue/NAME, and where their answers come out. */
#include "adapters/stomp/stomp_session.h"
#include "seam/core_fake.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "stomp_words.h"

#define ASK(to, name) "SEND\ndestination:" to "\nreply-to:/temp-queue/" name "\n\n?^@"
#define OPEN_QUEUE(n) \
    "open headgate.stomp.0.1." n " prefetch=1024 by-name auto x-queue-type:classic x-expires:60000"
#define PUBLISH(to, n) "publish " to " reply_to=headgate.stomp.0.1." n " [?]"
#define OPENED_TEMP                                      \
    OPENED, {SEND_TEXT, ASK("/a", "x")}, {QUEUE_IS, ""}, \
    {                                                    \
        CALLS, OPEN_QUEUE("1") "; " PUBLISH("a", "1")    \
    }

static void by_hand(struct core_fake *f)
{
    f->is_answering = false;
    f->config.unavailable_timeout_ms = 30000;
    f->config.stomp_max_temp_queues = 2;
}

static void no_own_destinations(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_rabbitmq_destinations = false;
}

/* clang-format off */
static const struct core_script scripts[] = {
    {"a request waits for its queue, and nothing overtakes it", by_hand, {
        OPENED, {SEND_TEXT, ASK("/a", "x") "SEND\ndestination:/b\n\n^@"}, {CALLS, OPEN_QUEUE("1")}, {QUEUE_IS, ""},
        {CALLS, PUBLISH("a", "1") "; publish b []"}, {SILENCE, ""}}},
    {"further requests use the same queue, other names have their own", by_hand, {
        OPENED_TEMP, {SEND_TEXT, ASK("/b", "x")}, {CALLS, PUBLISH("b", "1")}, {SEND_TEXT, ASK("/b", "y")}, {CALLS, OPEN_QUEUE("2")},
        {QUEUE_IS, "2 OK"}, {CALLS, PUBLISH("b", "2")}}},
    {"an answer is a message of the subscription that nobody made", by_hand, {
        OPENED_TEMP, {DELIVER, "from=headgate.stomp.0.1.1 key=headgate.stomp.0.1.1 correlation_id=c body=!"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:/temp-queue/x\nmessage-id:1-2\ndestination:/queue/headgate.stomp.0.1.1\n"
                      "correlation-id:c\ncontent-length:1\n\n!^@"}, {CALLS, ""}}},
    {"it is not for the client to acknowledge", by_hand, {
        OPENED_TEMP, {DELIVER, "from=headgate.stomp.0.1.1 key=q body=!"}, {QUEUE_IS, ""}, {FORGET, ""}, {SEND_TEXT, "ACK\nid:1-2\n\n^@"},
        ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"a lost link changes nothing", by_hand, {
        OPENED_TEMP, {QUEUE_IS, ""}, {SILENCE, ""}, {SEND_TEXT, ASK("/a", "x")}, {CALLS, PUBLISH("a", "1")}}},
    {"the queues go with the client", by_hand, {
        OPENED_TEMP, {SEND_TEXT, "DISCONNECT\nreceipt:d\n\n^@"}, {CALLS, "close headgate.stomp.0.1.1 delete"}, {CONFIRM, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:d\n\n^@"}, {CLOSED, "CLOSED"}}},
    {"also while one is being made", by_hand, {
        OPENED, {SEND_TEXT, ASK("/a", "x")}, {CALLS, OPEN_QUEUE("1")}, {LEAVE, ""}, {CALLS, "close headgate.stomp.0.1.1 delete"}}},
    {"a queue that cannot be had ends the connection", by_hand, {
        OPENED, {SEND_TEXT, ASK("/a", "x")}, {QUEUE_IS, "NOT_ALLOWED"},
        ERROR_END("not permitted\nsubscription:/temp-queue/x", "NOT_ALLOWED")}},
    {"and is not waited for for ever", by_hand, {
        OPENED, {SEND_TEXT, ASK("/a", "x")}, {WAIT, "29900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("the queue could not be declared in time", "BROKER_AWAY")}},
    {"there are so many", by_hand, {
        OPENED_TEMP, {SEND_TEXT, ASK("/a", "y")}, {QUEUE_IS, "2 OK"},
        {SEND_TEXT, "SEND\ndestination:/a\nreply-to:/temp-queue/z\nreceipt:r\n\n^@"},
        ERROR_END("as many temporary queues are in use as [stomp] max_temp_queues allows\nreceipt-id:r", "TOO_MANY")}},
    {"a name is not empty", by_hand, {
        OPENED, {SEND_TEXT, ASK("/a", "")},
        {EXPECT_LIKE, "ERROR\nmessage:a reply-to of /temp-queue/ is followed by a name…^@"}, {CLOSED, "BAD_PROPERTY"}}},
    {"the ids are the gateway's", by_hand, {
        OPENED_TEMP, {SEND_TEXT, "UNSUBSCRIBE\nid:/temp-queue/x\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:/temp-queue/ begins the ids…^@"}, {CLOSED, "PROTOCOL_ERROR"}}},
    {"and are not subscribed with", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:/temp-queue/x\ndestination:/a\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:/temp-queue/ begins the ids…^@"}, {CLOSED, "PROTOCOL_ERROR"}}},
    {"nobody subscribes to one", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/temp-queue/x\n\n^@"},
        {EXPECT_LIKE, "ERROR\n…/temp-queue is for the header reply-to of SEND alone…^@"}, {CLOSED, "BAD_ADDRESS"}}},
    {"another reply-to is passed on", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\nreply-to:/queue/mine\n\n?^@"}, {CALLS, "publish a reply_to=/queue/mine [?]"}}},
    {"so is this one where RabbitMQ's destinations are switched off", no_own_destinations, {
        OPENED, {SEND_TEXT, ASK("/a", "x") "SUBSCRIBE\nid:/temp-queue/x\ndestination:/a\n\n^@"},
        {CALLS, "publish a reply_to=/temp-queue/x [?]; subscribe a"}}},
    {"a request in a transaction has its queue before COMMIT", by_hand, {
        OPENED, {SEND_TEXT, "BEGIN\ntransaction:t\n\n^@SEND\ndestination:/a\ntransaction:t\nreply-to:/temp-queue/x\n\n?^@"},
        {CALLS, OPEN_QUEUE("1")}, {QUEUE_IS, ""}, {CALLS, ""}, {SEND_TEXT, "COMMIT\ntransaction:t\n\n^@"}, {CALLS, PUBLISH("a", "1")}}},
    {"answers go to queues, and to RabbitMQ's direct reply-to", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/reply-queue/headgate.stomp.0.7.1\n\n!^@"
                    "SEND\ndestination:/reply-queue/amq.rabbitmq.reply-to.g1h2AA5yZXBseUA/x+y==.Kz0\n\n!^@"},
        {CALLS, "publish  headgate.stomp.0.7.1 [!]; publish  amq.rabbitmq.reply-to.g1h2AA5yZXBseUA/x+y==.Kz0 [!]"}}},
};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void every_request_goes_as_written_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        core_play(&hg_stomp_adapter, NULL, &scripts[i]);
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
        feed_text(&f, CONNECT ASK("/a", "x"));
        core_turn(&f);
        if (core_queue(&f, 0) != NULL) {
            core_deliver(&f, &(struct core_delivery){.from = core_queue(&f, 0), .key = "k"});
        }
        core_turn(&f);
        asked_n = seam_allocs();
        seam_fail_alloc(0);
        core_close(&f);
        assert_int_equal(seam_live(), 0);
        assert_int_equal(hg_counted(&f.worker.metrics.stomp.stomp_temp_queues), 0);
    } while (asked_n >= n);
    assert_in_range(n, 10, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_goes_as_written_at_every_split),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
