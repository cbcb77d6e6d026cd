/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/pull.h"

#include "rig.h"

#include <stdio.h>

enum { PULLS = 4 };

struct taker {
    struct hg_pull pull;
    enum hg_status status; /* HG_STATUS_N: not over */
    uint32_t left_n;
    unsigned got_n, again_n;
    uint64_t tags[16];
};

struct bench {
    struct seam_net sn;
    struct hg_seats seats;
    struct hg_upstream_metrics metrics;
    struct hg_puller *puller;
    struct taker takers[PULLS];
    unsigned lost_n;
};

static void on_delivery(struct hg_pull *pull, struct hg_message *message, uint64_t tag,
                        bool is_redelivered)
{
    struct taker *t = HG_CONTAINER_OF(pull, struct taker, pull);
    (void)message;
    (void)is_redelivered;
    assert_int_equal(t->status, HG_STATUS_N);
    t->tags[t->got_n++] = tag;
}

static void on_again(struct hg_pull *pull)
{
    struct taker *t = HG_CONTAINER_OF(pull, struct taker, pull);
    t->again_n++;
    t->got_n = 0;
}

static void on_over(struct hg_pull *pull, enum hg_status status, struct hg_bytes reason,
                    uint32_t left_n)
{
    struct taker *t = HG_CONTAINER_OF(pull, struct taker, pull);
    (void)reason;
    assert_int_equal(t->status, HG_STATUS_N); /* once */
    assert_false(hg_pull_is_on(pull));
    t->status = status;
    t->left_n = left_n;
}

static const struct hg_pull_ops pull_ops = {
    .on_delivery = on_delivery, .on_again = on_again, .on_over = on_over};

static void on_lost(void *ctx)
{
    ((struct bench *)ctx)->lost_n++;
}

static const struct hg_puller_ops puller_ops = {.on_lost = on_lost};

/* ---- RabbitMQ ---- */

static bool has_offset(const struct broker_method *method)
{
    const amqp_basic_consume_t *consume = method->decoded;
    return method->id == AMQP_BASIC_CONSUME_METHOD && consume->arguments.num_entries > 0;
}

/* Its queues are no streams: they take no offset. */
static bool refuse_offset(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (!has_offset(method)) {
        return false;
    }
    broker_close_channel(b, method->channel, 406,
                         "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in "
                         "vhost '/' of queue type rabbit_classic_queue",
                         method->id);
    return true;
}

static void plain(struct broker *b)
{
    b->on_method = refuse_offset;
}

static struct bench *open_bench(void (*prepare)(struct broker *b))
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    const struct hg_seats_config config = {
        .link = rig_link(&t->metrics), .instance = "test", .metrics = &t->metrics};
    hg_seats_open(&t->seats, &t->sn.net, &config);
    t->puller = hg_puller_open(&t->seats, HG_BYTES("q"), &puller_ops, t);
    assert_non_null(t->puller);
    return t;
}

static void close_bench(struct bench *t)
{
    for (size_t i = 0; i < PULLS; i++) {
        hg_pull_stop(&t->takers[i].pull);
    }
    hg_puller_close(t->puller);
    seam_net_run(&t->sn);
    hg_seats_close(&t->seats);
    seam_net_close(&t->sn);
    free(t);
    assert_int_equal(seam_live(), 0);
}

static struct taker *start(struct bench *t, size_t i, uint16_t max)
{
    struct taker *taker = &t->takers[i];
    *taker = (struct taker){.pull = {.ops = &pull_ops, .max = max}, .status = HG_STATUS_N};
    assert_true(hg_pull_start(t->puller, &taker->pull));
    assert_int_equal(taker->status, HG_STATUS_N); /* never from inside */
    return taker;
}

static struct taker *run(struct bench *t, size_t i, uint16_t max)
{
    struct taker *taker = start(t, i, max);
    seam_net_run(&t->sn);
    return taker;
}

/* What the consumer with this number gets; on the channel that was opened last. */
static void deliver(struct bench *t, unsigned consumer, uint64_t tag, bool is_stream)
{
    const struct hg_header offset = {HG_BYTES("x-stream-offset"), {.kind = HG_VALUE_INT, .u.i = 7}};
    const struct hg_message_parts parts = {
        .routing_key = HG_BYTES("q"),
        .body = HG_BYTES("body"),
        .properties = {.headers = &offset, .headers_n = is_stream ? 1 : 0}};
    struct broker *b = rig_broker(&t->sn);
    char name[24];
    uint16_t channel = 0;
    for (uint16_t i = 1; i < BROKER_CHANNELS; i++) {
        channel = b->channels[i].state == BROKER_OPEN ? i : channel;
    }
    snprintf(name, sizeof(name), "%u", consumer);
    seam_spare(true);
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(b, channel, name, tag, false, m);
    hg_message_unref(m);
    seam_spare(false);
}

/* ---- Tests ---- */

static void a_pull_is_over_when_rabbitmq_has_heard_that_it_wants_no_more(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    struct taker *taker = run(t, 0, 10);
    deliver(t, 1, 1, false);
    deliver(t, 1, 2, false);
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_OK);
    assert_int_equal(taker->got_n, 2);
    assert_int_equal(rig_asked(&t->sn, "basic.cancel"), 1);
    hg_puller_ack(t->puller, 1);
    hg_puller_nack(t->puller, 2, false);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    assert_int_equal(rig_asked(&t->sn, "basic.nack"), 1);
    close_bench(t);
}

static bool keep_cancel_waiting(void *ctx, struct broker *b, const struct broker_method *method)
{
    return method->id == AMQP_BASIC_CANCEL_METHOD || refuse_offset(ctx, b, method);
}

static void waits(struct broker *b)
{
    b->on_method = keep_cancel_waiting;
}

static void the_last_message_ends_it_without_a_further_word(void **state)
{
    (void)state;
    struct bench *t = open_bench(waits);
    struct taker *taker = run(t, 0, 2);
    deliver(t, 1, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_STATUS_N);
    deliver(t, 1, 2, false);
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_OK);
    close_bench(t);
}

static void one_that_waits_no_longer_ends_with_nothing(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    struct taker *early = start(t, 0, 1);
    hg_pull_finish(&early->pull); /* takes what there is, which takes a consumer */
    struct taker *late = run(t, 1, 1);
    assert_int_equal(early->status, HG_OK);
    assert_int_equal(late->status, HG_STATUS_N);
    hg_pull_finish(&late->pull);
    seam_net_run(&t->sn);
    assert_int_equal(late->status, HG_OK);
    assert_int_equal(late->got_n, 0);
    close_bench(t);
}

static void a_queue_is_asked_once_whether_it_is_a_stream(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    for (unsigned i = 0; i < PULLS; i++) {
        start(t, i, 5);
    }
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.consume"), 1 + PULLS);
    assert_int_equal(rig_asked(&t->sn, "channel.open\n") + rig_asked(&t->sn, "channel.open "), 2);
    for (unsigned i = 0; i < PULLS; i++) {
        deliver(t, i + 1, i + 1, false); /* a channel for all, but a consumer each */
    }
    seam_net_run(&t->sn);
    for (unsigned i = 0; i < PULLS; i++) {
        assert_int_equal(t->takers[i].status, HG_OK);
        assert_int_equal(t->takers[i].tags[0], i + 1);
    }
    close_bench(t);
}

static void a_stream_is_refused_before_it_delivers_and_when_it_came_later(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL); /* takes the offset */
    struct taker *one = start(t, 0, 1);
    struct taker *two = run(t, 1, 1);
    assert_int_equal(one->status, HG_UNFIT_QUEUE);
    assert_int_equal(two->status, HG_UNFIT_QUEUE);
    assert_int_equal(one->got_n, 0);
    close_bench(t);
    t = open_bench(plain);
    one = run(t, 0, 5);
    rig_broker(&t->sn)->on_method = NULL; /* it is another queue now */
    deliver(t, 1, 1, true);
    seam_net_run(&t->sn);
    assert_int_equal(one->status, HG_UNFIT_QUEUE);
    assert_int_equal(t->lost_n, 3); /* each time it was asked, and with the message */
    close_bench(t);
}

static void a_message_that_was_in_a_stream_once_is_one_like_others(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    struct taker *taker = run(t, 0, 2);
    deliver(t, 1, 1, true);
    seam_net_run(&t->sn);
    assert_int_equal(taker->got_n, 0); /* until it is certain */
    deliver(t, 1, 1, true);
    deliver(t, 1, 2, true);
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_OK);
    assert_int_equal(taker->got_n, 2);
    close_bench(t);
}

static const struct refusal {
    const char *text;
    uint16_t code;
    enum hg_status status;
} refusals[] = {
    {"NOT_FOUND - no queue 'q' in vhost '/'", 404, HG_NO_QUEUE},
    {"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'", 405, HG_UNFIT_QUEUE},
    {"ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", 403, HG_UNFIT_QUEUE},
    {"ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'u'", 403,
     HG_NOT_ALLOWED},
    {"PRECONDITION_FAILED - something else", 406, HG_REFUSED},
};
static const struct refusal *refusal;

static bool refuse_consume(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id != AMQP_BASIC_CONSUME_METHOD) {
        return false;
    }
    broker_close_channel(b, method->channel, refusal->code, refusal->text, method->id);
    return true;
}

static void refuse(struct broker *b)
{
    b->on_method = refuse_consume;
}

static void a_refusal_ends_each_with_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        refusal = &refusals[i];
        struct bench *t = open_bench(refuse);
        struct taker *one = start(t, 0, 1);
        struct taker *two = run(t, 1, 2);
        assert_int_equal(one->status, refusal->status);
        assert_int_equal(two->status, refusal->status);
        rig_broker(&t->sn)->on_method = refuse_offset; /* later it is there */
        one = run(t, 0, 1);
        assert_int_equal(one->status, HG_STATUS_N);
        close_bench(t);
    }
}

static void what_comes_for_one_that_was_stopped_goes_back(void **state)
{
    (void)state;
    struct bench *t = open_bench(waits);
    struct taker *taker = run(t, 0, 5);
    hg_pull_stop(&taker->pull);
    deliver(t, 1, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(taker->got_n, 0);
    assert_int_equal(taker->status, HG_STATUS_N);
    assert_int_equal(rig_asked(&t->sn, "basic.nack"), 1);
    close_bench(t);
}

static void a_lost_link_begins_anew_what_is_not_over(void **state)
{
    (void)state;
    struct bench *t = open_bench(waits);
    struct taker *whole = run(t, 0, 1);
    struct taker *part = run(t, 1, 5);
    struct taker *none = run(t, 2, 5);
    deliver(t, 1, 1, false);
    deliver(t, 2, 2, false);
    seam_net_run(&t->sn);
    assert_int_equal(whole->status, HG_OK);
    unsigned lost_n = t->lost_n;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_run(&t->sn);
    assert_int_equal(t->lost_n, lost_n + 1);
    assert_int_equal(part->again_n, 1);
    assert_int_equal(none->again_n, 0);
    hg_puller_ack(t->puller, 1); /* too late: says nothing */
    seam_net_pass(&t->sn, 2000);
    deliver(t, 2, 1, false);
    deliver(t, 3, 2, false);
    seam_net_run(&t->sn);
    assert_int_equal(part->got_n, 1);
    assert_int_equal(none->got_n, 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0);
    close_bench(t);
}

static void the_rest_is_counted_after_the_last_one_came(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    struct taker *taker = start(t, 0, 1);
    taker->pull.wants_left = true;
    seam_net_run(&t->sn);
    deliver(t, 1, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    close_bench(t);
}

static void a_deleted_queue_ends_who_waits(void **state)
{
    (void)state;
    struct bench *t = open_bench(plain);
    struct taker *taker = run(t, 0, 1);
    broker_cancel(rig_broker(&t->sn), 1, "1");
    seam_net_run(&t->sn);
    assert_int_equal(taker->status, HG_NO_QUEUE);
    close_bench(t);
}

static void no_allocation_that_fails_is_a_leak(void **state)
{
    (void)state;
    for (size_t n = 1; n < 60; n++) {
        struct bench *t = open_bench(plain);
        seam_net_run(&t->sn);
        struct taker *taker = &t->takers[0];
        *taker = (struct taker){.pull = {.ops = &pull_ops, .max = 2}, .status = HG_STATUS_N};
        seam_fail_alloc(n);
        if (hg_pull_start(t->puller, &taker->pull)) {
            seam_net_pass(&t->sn, 2000);
        }
        seam_fail_alloc(0);
        close_bench(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pull_is_over_when_rabbitmq_has_heard_that_it_wants_no_more),
        cmocka_unit_test(the_last_message_ends_it_without_a_further_word),
        cmocka_unit_test(one_that_waits_no_longer_ends_with_nothing),
        cmocka_unit_test(a_queue_is_asked_once_whether_it_is_a_stream),
        cmocka_unit_test(a_stream_is_refused_before_it_delivers_and_when_it_came_later),
        cmocka_unit_test(a_message_that_was_in_a_stream_once_is_one_like_others),
        cmocka_unit_test(a_refusal_ends_each_with_its_reason),
        cmocka_unit_test(what_comes_for_one_that_was_stopped_goes_back),
        cmocka_unit_test(a_lost_link_begins_anew_what_is_not_over),
        cmocka_unit_test(the_rest_is_counted_after_the_last_one_came),
        cmocka_unit_test(a_deleted_queue_ends_who_waits),
        cmocka_unit_test(no_allocation_that_fails_is_a_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
