/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/feed.h"

#include "rig.h"

enum { WAITS = 8 };

struct wait {
    struct hg_binding_user user;
    enum hg_status status; /* HG_STATUS_N: not told */
    unsigned told_n;
    bool leaves; /* gives its binding back at once when it is told, as a subscription does */
};

struct bench {
    struct seam_net sn;
    struct hg_feed feed;
    struct hg_upstream_metrics metrics;
    struct wait waits[WAITS];
    unsigned deliveries_n, redelivered_n, whole_n;
    uint32_t made_n; /* bindings that want() made */
    bool is_up;
    bool is_repeatable; /* what is delivered */
};

static bool on_delivery(void *ctx, struct hg_message *message, bool is_redelivered)
{
    struct bench *t = ctx;
    (void)message;
    t->deliveries_n++;
    t->redelivered_n += is_redelivered;
    return t->is_repeatable;
}

static void on_state(void *ctx, bool is_up)
{
    ((struct bench *)ctx)->is_up = is_up;
}

static void on_whole(void *ctx)
{
    ((struct bench *)ctx)->whole_n++;
}

static const struct hg_feed_ops ops = {
    .on_delivery = on_delivery, .on_state = on_state, .on_whole = on_whole};

static void on_bound(struct hg_binding_user *user, enum hg_status status, struct hg_bytes reason)
{
    struct wait *w = HG_CONTAINER_OF(user, struct wait, user);
    (void)reason;
    w->status = status;
    w->told_n++;
    if (w->leaves) {
        hg_bindings_remove(user);
    }
}

static const struct hg_bindings_ops bindings_ops = {.on_bound = on_bound};

static struct bench *open_bench(void (*prepare)(struct broker *b))
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    for (size_t i = 0; i < WAITS; i++) {
        t->waits[i].status = HG_STATUS_N;
    }
    const struct hg_feed_config config = {
        .link = rig_link(&t->metrics),
        .instance = "test",
        .boot_id = 0xabc,
        .max_bytes = 1 << 20,
        .expires_ms = 60000,
        .prefetch = 100,
        .metrics = &t->metrics,
    };
    hg_feed_open(&t->feed, &t->sn.net, &config, &ops, &bindings_ops, t);
    return t;
}

static void close_bench(struct bench *t)
{
    hg_feed_close(&t->feed);
    seam_net_close(&t->sn);
    free(t);
}

static bool want(struct bench *t, size_t wait, const char *exchange, const char *key)
{
    return hg_bindings_add(&t->feed.bindings, hg_bytes_str(exchange), hg_bytes_str(key),
                           &t->waits[wait].user, &t->made_n);
}

static void leave(struct bench *t, size_t wait)
{
    hg_bindings_remove(&t->waits[wait].user);
}

static void equal_subscriptions_cost_one_binding(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    want(t, 0, "x", "k.*");
    want(t, 1, "x", "k.*");
    assert_ptr_equal(t->waits[0].user.binding, t->waits[1].user.binding);
    assert_int_equal(t->waits[0].told_n, 0); /* never from inside */
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[0].status, HG_OK);
    assert_int_equal(t->waits[1].status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "exchange.bind"), 1);
    want(t, 2, "x", "k.*"); /* bound long since */
    assert_int_equal(t->waits[2].told_n, 0);
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[2].status, HG_OK);
    leave(t, 0);
    leave(t, 2);
    assert_int_equal(t->made_n, 1);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "exchange.unbind"), 0);
    leave(t, 1);
    assert_int_equal(t->made_n, 0);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "exchange.unbind"), 1);
    assert_int_equal(hg_counted(&t->metrics.bindings), 0);
    close_bench(t);
}

static void miss(struct broker *b)
{
    b->missing[0] = "nowhere";
}

static void a_refused_binding_fails_its_own_subscribers_only(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss);
    want(t, 0, "x", "a");
    want(t, 1, "nowhere", "b");
    want(t, 2, "x", "c");
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[0].status, HG_OK);
    assert_int_equal(t->waits[1].status, HG_NO_EXCHANGE);
    assert_int_equal(t->waits[2].status, HG_OK);
    assert_int_equal(t->made_n, 3);
    leave(t, 1);
    assert_int_equal(t->made_n, 2);
    seam_net_run(&t->sn);
    assert_int_equal(hg_counted(&t->metrics.bindings), 2);
    close_bench(t);
}

static void a_binding_leaves_the_count_that_it_was_made_in_whoever_leaves_last(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    uint32_t other_n = 0;
    want(t, 0, "x", "k");
    assert_true(hg_bindings_add(&t->feed.bindings, HG_BYTES("x"), HG_BYTES("k"), &t->waits[1].user,
                                &other_n));
    leave(t, 0);
    assert_int_equal(t->made_n, 1);
    leave(t, 1);
    assert_int_equal(t->made_n, 0);
    assert_int_equal(other_n, 0);
    close_bench(t);
}

static void a_refused_binding_leaves_its_count(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss);
    want(t, 0, "nowhere", "k");
    want(t, 1, "nowhere", "k");
    t->waits[0].leaves = t->waits[1].leaves = true;
    assert_int_equal(t->made_n, 1);
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[1].status, HG_NO_EXCHANGE);
    assert_int_equal(t->made_n, 0);
    assert_int_equal(hg_counted(&t->metrics.bindings), 0);
    close_bench(t);
}

static bool keep_bind_waiting(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    (void)b;
    return method->id == AMQP_EXCHANGE_BIND_METHOD;
}

static void a_change_of_mind_in_flight_is_carried_out(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    want(t, 0, "x", "other");
    want(t, 1, "x", "k");
    leave(t, 1); /* before it was sent */
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[1].told_n, 0);
    assert_int_equal(rig_asked(&t->sn, "exchange.bind"), 1);
    rig_broker(&t->sn)->on_method = keep_bind_waiting;
    want(t, 2, "x", "k");
    seam_net_run(&t->sn);
    leave(t, 2); /* while its answer is on the way */
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "exchange.unbind"), 0);
    rig_broker(&t->sn)->on_method = NULL;
    amqp_exchange_bind_ok_t ok = {0};
    broker_send(rig_broker(&t->sn), hg_amqp_channel_number(t->feed.binder.channel),
                AMQP_EXCHANGE_BIND_OK_METHOD, &ok);
    seam_net_run(&t->sn);
    assert_int_equal(t->waits[2].told_n, 0);
    assert_int_equal(rig_asked(&t->sn, "exchange.unbind"), 1);
    close_bench(t);
}

static void after_a_cut_the_same_queue_is_consumed_and_bound_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    want(t, 0, "x", "a");
    want(t, 1, "y", "b");
    seam_net_run(&t->sn);
    assert_true(t->is_up);
    char queue[sizeof(t->feed.queue)];
    memcpy(queue, t->feed.queue, sizeof(queue));
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_false(t->is_up);
    seam_net_pass(&t->sn, 2000);
    assert_true(t->is_up);
    assert_string_equal(t->feed.queue, queue);
    assert_int_equal(rig_asked(&t->sn, "exchange.bind"), 2);
    assert_int_equal(rig_asked(&t->sn, "basic.consume"), 1);
    assert_int_equal(t->waits[0].told_n, 1);              /* not again */
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 1); /* the queue to the exchange before it */
    assert_int_equal(hg_counted(&t->metrics.feed_dropped), 0);
    close_bench(t);
}

static unsigned binds_n;

static bool keep_second_bind_waiting(void *ctx, struct broker *b,
                                     const struct broker_method *method)
{
    (void)ctx;
    (void)b;
    return method->id == AMQP_EXCHANGE_BIND_METHOD && ++binds_n == 2;
}

static void answer_no_second_bind(struct broker *b)
{
    binds_n = 0;
    b->on_method = keep_second_bind_waiting;
}

static void a_feed_is_whole_when_its_last_binding_is_there_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    want(t, 0, "x", "a");
    want(t, 1, "y", "b");
    seam_net_run(&t->sn);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    t->whole_n = 0;
    t->sn.prepare = answer_no_second_bind;
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(binds_n, 2);
    assert_true(t->is_up);
    assert_int_equal(t->whole_n, 0);
    amqp_exchange_bind_ok_t ok = {0};
    broker_send(rig_broker(&t->sn), hg_amqp_channel_number(t->feed.binder.channel),
                AMQP_EXCHANGE_BIND_OK_METHOD, &ok);
    seam_net_run(&t->sn);
    assert_int_equal(t->whole_n, 1);
    close_bench(t);
}

static char expired[160]; /* the queue that the broker does not know any more */

static void lose(struct broker *b)
{
    b->missing[0] = expired[0] == '\0' ? NULL : expired;
}

static void a_queue_that_expired_is_followed_by_a_new_generation(void **state)
{
    (void)state;
    expired[0] = '\0';
    struct bench *t = open_bench(lose);
    want(t, 0, "x", "a");
    seam_net_run(&t->sn);
    memcpy(expired, t->feed.queue, sizeof(expired));
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_true(t->is_up);
    assert_string_not_equal(t->feed.queue, expired);
    assert_int_equal(rig_asked(&t->sn, "exchange.bind"), 1);
    assert_int_equal(hg_counted(&t->metrics.feed_dropped), 1);
    close_bench(t);
}

static void a_queue_that_was_deleted_is_followed_by_a_new_generation(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    want(t, 0, "x", "a");
    seam_net_run(&t->sn);
    broker_forget(rig_broker(&t->sn));
    broker_cancel(rig_broker(&t->sn), hg_amqp_channel_number(t->feed.consuming), "feed");
    seam_net_run(&t->sn);
    assert_true(t->is_up);
    assert_int_equal(t->feed.generation, 2);
    assert_int_equal(rig_asked(&t->sn, "exchange.bind"), 1);
    assert_int_equal(t->sn.links_n, 1);
    close_bench(t);
}

/* Deliveries `first` to `last`, in one turn. */
static void deliver(struct bench *t, uint64_t first, uint64_t last)
{
    for (uint64_t tag = first; tag <= last; tag++) {
        rig_deliver(&t->sn, hg_amqp_channel_number(t->feed.consuming), tag, tag == 5);
    }
    seam_net_run(&t->sn);
}

static void what_would_be_shown_again_is_acknowledged_in_its_turn(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    seam_net_run(&t->sn);
    t->is_repeatable = true;
    deliver(t, 1, 5);
    assert_int_equal(t->deliveries_n, 5);
    assert_int_equal(t->redelivered_n, 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1); /* for all of them */
    deliver(t, 6, 6);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 2);
    close_bench(t);
}

static void what_nobody_would_be_shown_again_is_acknowledged_late(void **state)
{
    (void)state;
    enum { LATE_MAX = 25 }; /* a quarter of the prefetch */
    struct bench *t = open_bench(NULL);
    seam_net_run(&t->sn);
    deliver(t, 1, LATE_MAX - 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0);
    deliver(t, LATE_MAX, LATE_MAX);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    deliver(t, LATE_MAX + 1, LATE_MAX + 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    seam_net_pass(&t->sn, 200);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 2);
    seam_net_pass(&t->sn, 200);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 2); /* there is nothing to acknowledge */
    deliver(t, LATE_MAX + 2, LATE_MAX + 2);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_true(t->is_up);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0); /* of the new link: that one is not its */
    assert_int_equal(hg_counted(&t->metrics.stale_acks), 0);
    deliver(t, 1, 1);
    const struct broker *broker = rig_broker(&t->sn);
    hg_feed_stop(&t->feed);
    seam_net_run(&t->sn);
    struct hg_bytes log = hg_writer_view(&broker->log);
    assert_non_null(memmem(log.p, log.n, "basic.ack", 9)); /* nothing is left behind */
    close_bench(t);
}

static void no_failed_allocation_leaves_anybody_waiting(void **state)
{
    (void)state;
    size_t before = seam_live();
    for (size_t n = 1; n < 60; n++) {
        struct bench *t = open_bench(NULL);
        seam_fail_alloc(n);
        bool is_wanted = want(t, 0, "x", "k");
        seam_net_pass(&t->sn, 3000);
        seam_fail_alloc(0);
        seam_net_pass(&t->sn, 3000);
        if (is_wanted) {
            assert_int_equal(t->waits[0].status, HG_OK);
        }
        close_bench(t);
        assert_int_equal(seam_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_subscriptions_cost_one_binding),
        cmocka_unit_test(a_refused_binding_fails_its_own_subscribers_only),
        cmocka_unit_test(a_binding_leaves_the_count_that_it_was_made_in_whoever_leaves_last),
        cmocka_unit_test(a_refused_binding_leaves_its_count),
        cmocka_unit_test(a_change_of_mind_in_flight_is_carried_out),
        cmocka_unit_test(after_a_cut_the_same_queue_is_consumed_and_bound_again),
        cmocka_unit_test(a_feed_is_whole_when_its_last_binding_is_there_again),
        cmocka_unit_test(a_queue_that_expired_is_followed_by_a_new_generation),
        cmocka_unit_test(a_queue_that_was_deleted_is_followed_by_a_new_generation),
        cmocka_unit_test(what_would_be_shown_again_is_acknowledged_in_its_turn),
        cmocka_unit_test(what_nobody_would_be_shown_again_is_acknowledged_late),
        cmocka_unit_test(no_failed_allocation_leaves_anybody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
