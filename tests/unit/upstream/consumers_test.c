/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/consumers.h"

#include "rig.h"

struct user {
    enum hg_status status; /* HG_STATUS_N: not told */
    unsigned told_n, deliveries_n;
    bool is_behind;
};

struct bench {
    struct seam_net sn;
    struct hg_consumers consumers;
    struct hg_upstream_metrics metrics;
    struct user users[4];
};

static void on_state(void *ctx, enum hg_status status, struct hg_bytes reason)
{
    struct user *u = ctx;
    (void)reason;
    u->status = status;
    u->told_n++;
}

static void on_delivery(void *ctx, struct hg_message *message, bool is_redelivered)
{
    (void)message;
    (void)is_redelivered;
    ((struct user *)ctx)->deliveries_n++;
}

static bool may_ack(void *ctx)
{
    return !((struct user *)ctx)->is_behind;
}

static const struct hg_consumer_ops ops = {
    .on_state = on_state, .on_delivery = on_delivery, .may_ack = may_ack};

static struct bench *open_bench(void (*prepare)(struct broker *b))
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    for (size_t i = 0; i < 4; i++) {
        t->users[i].status = HG_STATUS_N;
    }
    const struct hg_consumers_config config = {
        .seats = {.link = rig_link(&t->metrics), .instance = "test", .metrics = &t->metrics},
        .boot_id = 0xabc,
        .expires_ms = 60000,
        .max_bytes = 1 << 20,
    };
    hg_consumers_open(&t->consumers, &t->sn.net, &config);
    return t;
}

static void close_bench(struct bench *t)
{
    hg_consumers_close(&t->consumers);
    seam_net_close(&t->sn);
    free(t);
}

static struct hg_consumer *consume(struct bench *t, size_t user, const char *queue)
{
    const struct hg_consumer_spec spec = {.queue = hg_bytes_str(queue)};
    return hg_consumer_open(&t->consumers, &spec, &ops, &t->users[user]);
}

static void miss(struct broker *b)
{
    b->missing[0] = "gone";
}

static void a_missing_queue_fails_its_own_consumer_only(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss);
    assert_non_null(consume(t, 0, "there"));
    assert_non_null(consume(t, 1, "gone"));
    assert_int_equal(t->users[1].told_n, 0); /* never from inside */
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_OK);
    assert_int_equal(t->users[1].status, HG_NO_QUEUE);
    assert_int_equal(t->users[1].told_n, 1);
    rig_deliver(&t->sn, 1, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].deliveries_n, 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    close_bench(t);
}

static void nothing_is_acknowledged_while_the_receiver_is_behind(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    assert_non_null(consume(t, 0, "q"));
    seam_net_run(&t->sn);
    t->users[0].is_behind = true;
    rig_deliver(&t->sn, 1, 1, false);
    rig_deliver(&t->sn, 1, 2, false);
    seam_net_pass(&t->sn, 1000);
    assert_int_equal(t->users[0].deliveries_n, 2);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0);
    t->users[0].is_behind = false;
    seam_net_pass(&t->sn, 300);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    close_bench(t);
}

static void what_was_handed_on_is_acknowledged_before_the_end(void **state)
{
    (void)state;
    for (int is_behind = 0; is_behind < 2; is_behind++) {
        struct bench *t = open_bench(NULL);
        struct hg_consumer *c = consume(t, 0, "q");
        seam_net_run(&t->sn);
        t->users[0].is_behind = true;
        rig_deliver(&t->sn, 1, 1, false);
        seam_net_run(&t->sn);
        t->users[0].is_behind = is_behind;
        hg_consumer_close(c);
        seam_net_run(&t->sn);
        assert_int_equal(rig_asked(&t->sn, "basic.ack"), !is_behind);
        close_bench(t);
    }
}

static void consumers_start_again_after_a_cut(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    assert_non_null(consume(t, 0, "a"));
    assert_non_null(consume(t, 1, "b"));
    seam_net_run(&t->sn);
    t->users[0].is_behind = true;
    rig_deliver(&t->sn, 1, 1, false);
    seam_net_run(&t->sn);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(hg_counted(&t->metrics.stale_acks), 1);
    t->users[0].is_behind = false;
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(rig_asked(&t->sn, "basic.consume"), 2);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0); /* it has no effect any more */
    assert_int_equal(t->users[0].status, HG_OK);
    close_bench(t);
}

static void a_deleted_queue_ends_its_consumer(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    assert_non_null(consume(t, 0, "q"));
    seam_net_run(&t->sn);
    broker_cancel(rig_broker(&t->sn), 1, "c");
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_NO_QUEUE);
    close_bench(t);
}

static void a_queue_of_ones_own_is_bound_and_deleted_at_the_end(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    const struct hg_consumer_spec spec = {.exchange = HG_BYTES("amq.headers"),
                                          .key = HG_BYTES("k")};
    struct hg_consumer *c = hg_consumer_open(&t->consumers, &spec, &ops, &t->users[0]);
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 1);
    hg_consumer_close(c);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "queue.delete"), 1);
    close_bench(t);
}

static void a_declaration_ends_when_it_is_answered(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}}};
    const struct hg_amqp_queue_declare declare = {
        .name = HG_BYTES("q"), .is_durable = true, .arguments = arguments, .arguments_n = 1};
    const struct hg_consumer_spec spec = {
        .queue = HG_BYTES("q"), .declare = &declare, .is_declare_only = true};
    assert_non_null(hg_consumer_open(&t->consumers, &spec, &ops, &t->users[0]));
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    assert_int_equal(rig_asked(&t->sn, "basic.consume"), 0);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 1);
    close_bench(t);
}

static void no_failed_allocation_leaves_a_consumer_without_an_answer(void **state)
{
    (void)state;
    size_t before = seam_live();
    for (size_t n = 1; n < 60; n++) {
        struct bench *t = open_bench(NULL);
        seam_fail_alloc(n);
        struct hg_consumer *c = consume(t, 0, "q");
        seam_net_pass(&t->sn, 3000);
        seam_fail_alloc(0);
        seam_net_pass(&t->sn, 3000);
        assert_int_equal(t->users[0].told_n > 0, c != NULL);
        close_bench(t);
        assert_int_equal(seam_live(), before);
    }
}

static void a_deletion_is_told_and_repeated_after_a_lost_link(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    const struct hg_consumer_spec spec = {.queue = HG_BYTES("old"), .is_delete_only = true};
    assert_non_null(hg_consumer_open(&t->consumers, &spec, &ops, &t->users[0]));
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.delete old"), 1);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 0);
    assert_non_null(hg_consumer_open(&t->consumers, &spec, &ops, &t->users[1]));
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(t->users[1].told_n, 0);
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->users[1].told_n, 1);
    assert_int_equal(t->users[1].status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.delete old"), 1);
    close_bench(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_queue_fails_its_own_consumer_only),
        cmocka_unit_test(nothing_is_acknowledged_while_the_receiver_is_behind),
        cmocka_unit_test(what_was_handed_on_is_acknowledged_before_the_end),
        cmocka_unit_test(consumers_start_again_after_a_cut),
        cmocka_unit_test(a_deleted_queue_ends_its_consumer),
        cmocka_unit_test(a_queue_of_ones_own_is_bound_and_deleted_at_the_end),
        cmocka_unit_test(a_declaration_ends_when_it_is_answered),
        cmocka_unit_test(no_failed_allocation_leaves_a_consumer_without_an_answer),
        cmocka_unit_test(a_deletion_is_told_and_repeated_after_a_lost_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
