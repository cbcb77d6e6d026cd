/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: what waits, what is refused at once, and what COMMIT says and when. */
#include "adapters/stomp/stomp_session.h"
#include "seam/core_fake.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "stomp_words.h"

#define BEGIN(name)             "BEGIN\ntransaction:" name "\n\n^@"
#define COMMIT(name, receipt)   "COMMIT\ntransaction:" name "\nreceipt:" receipt "\n\n^@"
#define SEND_IN(name, to, body) "SEND\ndestination:" to "\ntransaction:" name "\n\n" body "^@"
#define ACK_IN(name, id)        "ACK\nid:" id "\ntransaction:" name "\n\n^@"
#define RECEIPT(id)             "RECEIPT\nreceipt-id:" id "\n\n^@"
#define HELD_THREE \
    OPENED, {SEND_TEXT, QUEUE_SUB("client-individual") "\n^@"}, {QUEUE_IS, "OK"}, THREE

static void by_hand(struct core_fake *f)
{
    f->is_answering = false;
    f->config.unavailable_timeout_ms = 30000;
}

static void stale_queues(struct core_fake *f)
{
    by_hand(f);
    f->is_queue_stale = true;
}

static void two_at_once(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_max_transactions = 2;
    f->config.stomp_max_transaction_frames = 3;
    f->config.stomp_transaction_buffer_bytes = 2000;
}

/* clang-format off */
static const struct core_script scripts[] = {
    {"commit publishes in order, and its receipt waits for every confirm", by_hand, {
        OPENED,
        {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1") SEND_IN("t", "/topic/b", "2") SEND_IN("t", "/a", "3")},
        {CALLS, ""}, {SILENCE, ""}, {SEND_TEXT, COMMIT("t", "c")},
        {CALLS, "publish a [1]; publish amq.topic b [2]; publish a [3]"},
        {CONFIRM, "3"}, {CONFIRM, ""}, {SILENCE, ""}, {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c")}}},
    {"receipts of commits and of what is sent beside them are their own", by_hand, {
        OPENED,
        {SEND_TEXT, BEGIN("t") BEGIN("u") SEND_IN("t", "/a", "1") SEND_IN("u", "/a", "2") SEND_IN("t", "/a", "3")
                    "SEND\ndestination:/a\nreceipt:s\n\n4^@" COMMIT("u", "u") COMMIT("t", "t")},
        {CALLS, "publish a [4]; publish a [2]; publish a [1]; publish a [3]"},
        {CONFIRM, "2"}, {EXPECT_TEXT, RECEIPT("u")}, {CONFIRM, "3"}, {CONFIRM, "2"}, {EXPECT_TEXT, RECEIPT("t")},
        {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("s")}}},
    {"headers travel as they would without it", by_hand, {
        OPENED,
        {SEND_TEXT, BEGIN("t") "SEND\ndestination:/a\ntransaction:t\npersistent:true\nretain:true\ncolour:b\\clue\ncontent-length:3\n\n^@x^@^@"
                    "COMMIT\ntransaction:t\n\n^@"},
        {CALLS, "publish a mode=2 colour:b:lue retained [\\x00x\\x00]"}, {CONFIRM, ""}, {SILENCE, ""}, {OPEN, ""}}},
    {"abort publishes none, and the name is free again", by_hand, {
        OPENED,
        {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1") "ABORT\ntransaction:t\nreceipt:a\n\n^@" BEGIN("t") SEND_IN("t", "/a", "2")
                    "COMMIT\ntransaction:t\n\n^@" BEGIN("t")},
        {CALLS, "publish a [2]"}, {EXPECT_TEXT, RECEIPT("a")}}},
    {"an empty transaction is committed at once", by_hand, {
        OPENED, {SEND_TEXT, "BEGIN\ntransaction:t\nreceipt:b\n\n^@" COMMIT("t", "c")}, {CALLS, ""},
        {EXPECT_TEXT, RECEIPT("b") RECEIPT("c")}}},
    {"a receipt within says that the frame has been taken", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") "SEND\ndestination:/a\ntransaction:t\nreceipt:s\n\n^@"}, {CALLS, ""},
        {EXPECT_TEXT, RECEIPT("s")}, {SEND_TEXT, COMMIT("t", "c")}, {CALLS, "publish a []"}, {SILENCE, ""},
        {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c")}}},
    {"transactions are the same in 1.0", by_hand, {
        {SEND_TEXT, "CONNECT\n\n^@" BEGIN("t:1\\c") SEND_IN("t:1\\c", "/a", "1") COMMIT("t:1\\c", "c")},
        {EXPECT_TEXT, CONNECTED_10("")}, {CALLS, "publish a [1]"}, {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c")}}},

    /* ---- What goes wrong ---- */
    {"one rejected message makes the commit an error, never a receipt", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1") SEND_IN("t", "/b", "2") SEND_IN("t", "/c", "3") COMMIT("t", "c")},
        {CONFIRM, ""}, {CONFIRM, "REJECTED"}, {CALLS, "publish a [1]; publish b [2]; publish c [3]"},
        {EXPECT_LIKE, "ERROR\nmessage:RabbitMQ rejected the message\nreceipt-id:c\n…as told\n…^@"}, {CLOSED, "REJECTED"}}},
    {"also the last one", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1") SEND_IN("t", "/b", "2") COMMIT("t", "c")},
        {CONFIRM, ""}, {CONFIRM, "UNROUTABLE"}, ERROR_END("no queue takes this message\nreceipt-id:c", "UNROUTABLE")}},
    {"also without a receipt", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1") "COMMIT\ntransaction:t\n\n^@"}, {CONFIRM, "TIMED_OUT"},
        ERROR_END("no answer in time, outcome unknown", "TIMED_OUT")}},
    {"and one that cannot be published any more", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1")}, {PUBLISH_IS, "BROKER_AWAY"}, {SEND_TEXT, "COMMIT\ntransaction:t\n\n^@"},
        ERROR_END("RabbitMQ cannot be reached", "BROKER_AWAY")}},
    {"a commit that is held goes on where it was", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/queue/q", "1") SEND_IN("t", "/a", "2")}, {CALLS, " declare name=q durable"},
        {DECLARED, ""}, {SEND_TEXT, SEND_IN("t", "/b", "3")}, {PUBLISH_IS, "HELD"},
        {SEND_TEXT, COMMIT("t", "c") "SEND\ndestination:/d\nreceipt:s\n\n4^@"}, {CALLS, ""}, {PUBLISH_IS, "OK"},
        {CALLS, "publish  q mandatory [1]; publish a [2]; publish b [3]; publish d [4]"},
        {CONFIRM, "4"}, {EXPECT_TEXT, RECEIPT("s")}, {CONFIRM, ""}, {CONFIRM, ""}, {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c")}}},
    {"a bad destination is refused at once", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") "SEND\ndestination:/queue/a/b\ntransaction:t\nreceipt:s\n\n^@"},
        ERROR_END("the destination cannot be read\nreceipt-id:s", "BAD_ADDRESS")}},
    {"so is a wildcard", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a/+", "")},
        {EXPECT_LIKE, "ERROR\nmessage:address not valid\n…holds a wildcard…^@"}, {CLOSED, "BAD_ADDRESS"}}},
    {"so is what no rule takes", by_hand, {
        OPENED, {PUBLISH_IS, "NO_RULE"}, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "")},
        ERROR_END("no rule takes this address", "NO_RULE")}},
    {"so is a bad property", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") "SEND\ndestination:/a\ntransaction:t\npriority:x\n\n^@"},
        ERROR_END("the header priority is not a number from 0 to 255", "BAD_PROPERTY")}},
    {"so is a queue that cannot be declared", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/queue/q", "1")}, {DECLARED, "REFUSED"},
        ERROR_END("the queue cannot be declared", "REFUSED")}},
    {"a name is used once at a time", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") BEGIN("t")},
        ERROR_END("a transaction with this name has begun already", "PROTOCOL_ERROR")}},
    {"a name is not empty", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("")}, ERROR_END("the header transaction is empty", "PROTOCOL_ERROR")}},
    {"begin names its transaction", by_hand, {
        OPENED, {SEND_TEXT, "BEGIN\nreceipt:b\n\n^@"},
        ERROR_END("the header transaction is missing\nreceipt-id:b", "PROTOCOL_ERROR")}},
    {"a transaction begins before it is used", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\ntransaction:t\nreceipt:s\n\n^@"}, {CALLS, ""},
        ERROR_END("there is no transaction with this name\nreceipt-id:s", "PROTOCOL_ERROR")}},
    {"and before it is committed", by_hand, {
        OPENED, {SEND_TEXT, COMMIT("t", "c")},
        ERROR_END("there is no transaction with this name\nreceipt-id:c", "PROTOCOL_ERROR")}},
    {"and is aborted once", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") "ABORT\ntransaction:t\n\n^@ABORT\ntransaction:t\n\n^@"},
        ERROR_END("there is no transaction with this name", "PROTOCOL_ERROR")}},
    {"so many may have begun", two_at_once, {
        OPENED, {SEND_TEXT, BEGIN("1") BEGIN("2") "ABORT\ntransaction:1\n\n^@" BEGIN("3")}, {OPEN, ""}, {SEND_TEXT, BEGIN("4")},
        ERROR_END("as many transactions have begun as [stomp] max_transactions allows", "TOO_MANY")}},
    {"so many frames may wait, in all of them", two_at_once, {
        OPENED, {SEND_TEXT, BEGIN("1") BEGIN("2") SEND_IN("1", "/a", "") SEND_IN("2", "/a", "") SEND_IN("1", "/a", "")
                            "ABORT\ntransaction:2\n\n^@" SEND_IN("1", "/a", "")}, {OPEN, ""},
        {SEND_TEXT, SEND_IN("1", "/a", "")},
        ERROR_END("the transactions hold as many frames as [stomp] max_transaction_frames allows", "TOO_MANY")}},

    /* ---- Answers in a transaction ---- */
    {"answers wait for the commit, and have their place in its order", by_hand, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-2") SEND_IN("t", "/a", "1") "NACK\nid:1-1\ntransaction:t\nrequeue:false\n\n^@"},
        {CALLS, ""}, {SEND_TEXT, COMMIT("t", "c")}, {CALLS, "ack 2; publish a [1]; reject 1"}, {SILENCE, ""},
        {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c")}}},
    {"an aborted answer is none", by_hand, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-1") "ABORT\ntransaction:t\n\n^@ACK\nid:1-1\n\n^@"}, {CALLS, "ack 1"}, {OPEN, ""}}},
    {"an answer in a transaction is to a message that waits for one", by_hand, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-4")},
        ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"and its transaction has begun", by_hand, {
        HELD_THREE, {SEND_TEXT, ACK_IN("t", "1-1")}, ERROR_END("there is no transaction with this name", "PROTOCOL_ERROR")}},
    {"what went with its link is told by the commit", by_hand, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-1")}, {QUEUE_IS, "OK"}, {SEND_TEXT, SEND_IN("t", "/a", "1") COMMIT("t", "c")},
        {CALLS, "publish a [1]"}, {CONFIRM, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:c\nstale:true\n\n^@"}}},
    {"what has just gone, too", stale_queues, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-1") COMMIT("t", "c")},
        {CALLS, "ack 1"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:c\nstale:true\n\n^@"}}},
    {"what went with its subscription, too", by_hand, {
        HELD_THREE, {SEND_TEXT, BEGIN("t") ACK_IN("t", "1-1") "UNSUBSCRIBE\nid:1\n\n^@" COMMIT("t", "c")},
        {CALLS, "close q keep"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:c\nstale:true\n\n^@"}}},

    /* ---- The end ---- */
    {"disconnect aborts, and waits for what was committed", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") BEGIN("u") SEND_IN("t", "/a", "1") SEND_IN("u", "/a", "2") COMMIT("t", "c")
                            "DISCONNECT\nreceipt:d\n\n^@"},
        {CALLS, "publish a [1]"}, {SILENCE, ""}, {CONFIRM, ""}, {EXPECT_TEXT, RECEIPT("c") RECEIPT("d")}, {CLOSED, "CLOSED"}}},
    {"who leaves aborts, also a commit that is held", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1")}, {PUBLISH_IS, "HELD"}, {SEND_TEXT, COMMIT("t", "c")}, {LEAVE, ""}, {CALLS, ""}}},
    {"a shutdown aborts", by_hand, {
        OPENED, {SEND_TEXT, BEGIN("t") SEND_IN("t", "/a", "1")}, {DRAIN, ""}, {CALLS, ""},
        ERROR_END("server is shutting down", "SHUTTING_DOWN")}},
};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void every_transaction_goes_as_written_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        core_play(&hg_stomp_adapter, NULL, &scripts[i]);
    }
}

static void open_connected(struct core_fake *f)
{
    core_open(f);
    by_hand(f);
    (void)core_connect(f, &hg_stomp_adapter, NULL);
    feed_text(f, CONNECT);
    core_forget(f);
}

static void the_buffer_is_limited_and_counted(void **state)
{
    struct core_fake f;
    (void)state;
    open_connected(&f);
    const struct hg_stomp_metrics *m = &f.worker.metrics.stomp;
    f.config.stomp_transaction_buffer_bytes = 1000;
    feed_text(&f, BEGIN("t") BEGIN("u") SEND_IN("t", "/a", "1") SEND_IN("u", "/a", "1"));
    assert_int_equal(hg_counted(&m->stomp_transactions), 2);
    assert_in_range(hg_counted(&m->stomp_transaction_bytes), 50, 1000);
    feed_text(&f, "ABORT\ntransaction:t\n\n^@COMMIT\ntransaction:u\n\n^@");
    assert_int_equal(hg_counted(&m->stomp_transactions), 0);
    assert_int_equal(hg_counted(&m->stomp_transaction_bytes), 0);
    assert_int_equal(hg_counted(&m->stomp_aborts), 1);
    assert_int_equal(hg_counted(&m->stomp_commits), 1);
    feed_text(&f, BEGIN("t"));
    for (int i = 0; i < 1000 && core_why(f.conn) == HG_OK; i++) {
        feed_text(&f, SEND_IN("t", "/a", "0123456789"));
        assert_in_range(hg_counted(&m->stomp_transaction_bytes), 0, 1000);
    }
    assert_int_equal(core_why(f.conn), HG_TOO_LARGE);
    core_close(&f);
    assert_int_equal(hg_counted(&m->stomp_transaction_bytes), 0);
    assert_int_equal(hg_counted(&m->stomp_aborts), 2);
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
        feed_text(&f,
                  CONNECT BEGIN("t") BEGIN("u") SEND_IN("t", "/a", "1") SEND_IN("t", "/b", "2"));
        feed_text(&f, SEND_IN("u", "/a", "3") COMMIT("t", "c"));
        core_turn(&f);
        asked_n = seam_allocs();
        seam_fail_alloc(0);
        core_close(&f);
        assert_int_equal(seam_live(), 0);
    } while (asked_n >= n);
    assert_in_range(n, 15, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_transaction_goes_as_written_at_every_split),
        cmocka_unit_test(the_buffer_is_limited_and_counted),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
