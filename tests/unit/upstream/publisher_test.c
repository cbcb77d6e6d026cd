/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/publisher.h"

#include "rig.h"

#include <stdio.h>

enum { MOST = 64 };

struct bench {
    struct seam_net sn;
    struct hg_publisher publisher;
    struct hg_upstream_metrics metrics;
    struct hg_chain owners;
    enum hg_status outcomes[MOST]; /* by id; HG_STATUS_N: none yet */
    unsigned told[MOST];           /* times */
    unsigned rooms_n;
};

static struct bench *open_now; /* on_settled gets the owner, which is this */

static void on_settled(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct bench *t = owner;
    (void)reason;
    assert_ptr_equal(t, open_now);
    t->outcomes[id] = outcome;
    t->told[id]++;
}

static void on_room(void *ctx)
{
    ((struct bench *)ctx)->rooms_n++;
}

static void on_state(void *ctx, bool is_up)
{
    (void)ctx;
    (void)is_up;
}

static const struct hg_publisher_ops ops = {
    .on_settled = on_settled, .on_room = on_room, .on_state = on_state};

static struct bench *open_bench(void (*prepare)(struct broker *b))
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    open_now = t;
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    for (size_t i = 0; i < MOST; i++) {
        t->outcomes[i] = HG_STATUS_N;
    }
    const struct hg_publisher_config config = {
        .link = rig_link(&t->metrics),
        .instance = "test",
        .window_n = 32,
        .window_bytes = 1 << 20,
        .timeout_ms = 10000,
        .away_timeout_ms = 4000,
        .metrics = &t->metrics,
    };
    hg_publisher_open(&t->publisher, &t->sn.net, &config, &ops, t);
    seam_net_run(&t->sn);
    return t;
}

static void close_bench(struct bench *t)
{
    hg_publisher_close(&t->publisher);
    seam_net_close(&t->sn);
    free(t);
}

static enum hg_status publish(struct bench *t, uint64_t id, const char *exchange, const char *body)
{
    const struct hg_message_parts parts = {.exchange = hg_bytes_str(exchange),
                                           .routing_key = HG_BYTES("k"),
                                           .body = hg_bytes_str(body),
                                           .is_mandatory = true};
    struct hg_message *m = hg_message_new(&parts);
    if (m == NULL) {
        return HG_NO_MEMORY;
    }
    const struct hg_publish_order order = {
        .message_own = &m, .owner = t, .owners = &t->owners, .id = id};
    return hg_publisher_publish(&t->publisher, &order);
}

static void publish_all(struct bench *t, const char *exchange, unsigned n)
{
    char body[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(body, sizeof(body), "%u", i);
        assert_int_equal(publish(t, i, exchange, body), HG_OK);
    }
    seam_net_run(&t->sn);
}

/* The bodies that this broker was sent, joined by blanks. */
static const char *bodies(const struct broker *b, char *text, size_t cap)
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < b->publishes_n; i++) {
        struct hg_bytes body = hg_message_body(b->publishes[i].message);
        n += (size_t)snprintf(text + n, cap - n, "%s%.*s", i == 0 ? "" : " ", HG_BYTES_FMT(body));
    }
    return text;
}

static void expect_outcomes(const struct bench *t, unsigned n, const enum hg_status *want)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(t->outcomes[i], want[i]);
        assert_int_equal(t->told[i], want[i] == HG_STATUS_N ? 0 : 1);
    }
}

/* ---- Outcomes ---- */

static void a_multiple_ack_confirms_the_whole_prefix(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 5);
    broker_ack(rig_broker(&t->sn), 1, 3, true);
    seam_net_run(&t->sn);
    expect_outcomes(t, 5, (enum hg_status[]){HG_OK, HG_OK, HG_OK, HG_STATUS_N, HG_STATUS_N});
    broker_nack(rig_broker(&t->sn), 1, 5, false);
    broker_ack(rig_broker(&t->sn), 1, 4, false);
    seam_net_run(&t->sn);
    expect_outcomes(t, 5, (enum hg_status[]){HG_OK, HG_OK, HG_OK, HG_OK, HG_REJECTED});
    close_bench(t);
}

static void a_channel_that_rejected_is_given_up_once_it_is_at_rest(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 2);
    broker_forget(rig_broker(&t->sn));
    broker_nack(rig_broker(&t->sn), 1, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(publish(t, 2, "amq.topic", "2"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.publish"), 1); /* nobody waits for that */
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 0);
    broker_ack(rig_broker(&t->sn), 1, 3, true);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 1);
    assert_int_equal(publish(t, 3, "amq.topic", "3"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "channel.open"), 1);
    const struct broker *b = rig_broker(&t->sn);
    uint16_t channel = b->publishes[b->publishes_n - 1].channel;
    broker_nack(rig_broker(&t->sn), channel, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(publish(t, 4, "amq.topic", "4"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "channel.open"), 1); /* not again at once */
    broker_ack(rig_broker(&t->sn), channel, 2, false);
    seam_net_run(&t->sn);
    expect_outcomes(t, 5, (enum hg_status[]){HG_REJECTED, HG_OK, HG_OK, HG_REJECTED, HG_OK});
    close_bench(t);
}

static void a_channel_that_rejected_and_confirms_nothing_is_left(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 3);
    seam_net_pass(&t->sn, 7000);
    broker_forget(rig_broker(&t->sn));
    broker_ack(rig_broker(&t->sn), 1, 1, false);
    seam_net_run(&t->sn);
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 0); /* slow is not stuck */
    broker_nack(rig_broker(&t->sn), 1, 2, false);
    seam_net_pass(&t->sn, 2500);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 0);
    close_bench(t);
    t = open_bench(NULL);
    publish_all(t, "amq.topic", 3);
    broker_forget(rig_broker(&t->sn));
    broker_nack(rig_broker(&t->sn), 1, 1, false);
    seam_net_pass(&t->sn, 5500);
    char text[64];
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 1);
    assert_string_equal(bodies(rig_broker(&t->sn), text, sizeof(text)), "1 2");
    expect_outcomes(t, 3, (enum hg_status[]){HG_REJECTED, HG_STATUS_N, HG_STATUS_N});
    const struct broker *b = rig_broker(&t->sn);
    broker_ack(rig_broker(&t->sn), b->publishes[1].channel, 2, true);
    seam_net_run(&t->sn);
    expect_outcomes(t, 3, (enum hg_status[]){HG_REJECTED, HG_OK, HG_OK});
    close_bench(t);
}

static void a_return_belongs_to_the_oldest_equal_publish(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    const char *texts[] = {"same", "other", "same"};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(publish(t, i, "amq.topic", texts[i]), HG_OK);
    }
    seam_net_run(&t->sn);
    struct broker *b = rig_broker(&t->sn);
    broker_return(b, 1, b->publishes[0].message);
    broker_ack(b, 1, 3, true);
    seam_net_run(&t->sn);
    expect_outcomes(t, 3, (enum hg_status[]){HG_UNROUTABLE, HG_OK, HG_OK});
    close_bench(t);
}

static void miss(struct broker *b)
{
    b->missing[0] = "nowhere";
    b->has_auto_confirm = true;
}

static void a_missing_exchange_refuses_its_own_publishes_only(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss);
    assert_int_equal(publish(t, 0, "nowhere", "a"), HG_OK);
    assert_int_equal(publish(t, 1, "amq.topic", "b"), HG_OK);
    seam_net_run(&t->sn);
    expect_outcomes(t, 2, (enum hg_status[]){HG_NO_EXCHANGE, HG_OK});
    assert_int_equal(publish(t, 2, "nowhere", "c"), HG_NO_EXCHANGE); /* believed for a second */
    rig_broker(&t->sn)->missing[0] = NULL;
    seam_net_pass(&t->sn, 1100);
    assert_int_equal(publish(t, 3, "nowhere", "d"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[3], HG_OK);
    close_bench(t);
}

/* ---- Lost links ---- */

static enum hg_status publish_once(struct bench *t, uint64_t id, const char *body)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                           .routing_key = HG_BYTES("k"),
                                           .body = hg_bytes_str(body)};
    struct hg_message *m = hg_message_new(&parts);
    const struct hg_publish_order order = {
        .message_own = &m, .owner = t, .owners = &t->owners, .id = id, .is_once = true};
    return hg_publisher_publish(&t->publisher, &order);
}

static void what_is_sent_once_is_not_sent_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    assert_int_equal(publish_once(t, 0, "once"), HG_OK);
    assert_int_equal(publish(t, 1, "amq.topic", "again"), HG_OK);
    seam_net_run(&t->sn);
    broker_block(rig_broker(&t->sn), "memory");
    seam_net_run(&t->sn);
    assert_int_equal(publish_once(t, 2, "unwritten"), HG_OK);
    seam_net_run(&t->sn);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    char text[64];
    assert_string_equal(bodies(rig_broker(&t->sn), text, sizeof(text)), "again");
    broker_ack(rig_broker(&t->sn), 1, 1, false);
    seam_net_run(&t->sn);
    expect_outcomes(t, 3, (enum hg_status[]){HG_TIMED_OUT, HG_OK, HG_BROKER_AWAY});
    close_bench(t);
}

static void what_is_sent_once_hears_why_its_channel_was_closed(void **state)
{
    (void)state;
    for (unsigned others_n = 0; others_n < 2; others_n++) {
        struct bench *t = open_bench(NULL);
        assert_int_equal(publish_once(t, 0, "once"), HG_OK);
        if (others_n == 1) {
            assert_int_equal(publish(t, 1, "amq.topic", "other"), HG_OK);
        }
        seam_net_run(&t->sn);
        broker_close_channel(rig_broker(&t->sn), 1, 406, "PRECONDITION_FAILED", 0);
        seam_net_run(&t->sn);
        assert_int_equal(t->outcomes[0], others_n == 0 ? HG_REFUSED : HG_TIMED_OUT);
        if (others_n == 1) {
            broker_ack(rig_broker(&t->sn), 1, 1, false);
            seam_net_run(&t->sn);
            assert_int_equal(t->outcomes[1], HG_OK);
        }
        assert_int_equal(t->publisher.held_n, 0);
        close_bench(t);
    }
}

static void what_is_withdrawn_in_time_is_not_sent(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 1);
    assert_false(hg_publisher_withdraw(&t->owners)); /* it is too late for that one */
    broker_block(rig_broker(&t->sn), "memory");
    seam_net_run(&t->sn);
    assert_int_equal(publish(t, 1, "amq.topic", "1"), HG_OK);
    seam_net_run(&t->sn);
    assert_true(hg_publisher_withdraw(&t->owners));
    assert_int_equal(publish(t, 2, "amq.topic", "2"), HG_OK);
    broker_block(rig_broker(&t->sn), NULL);
    seam_net_run(&t->sn);
    broker_ack(rig_broker(&t->sn), 1, 2, true);
    seam_net_run(&t->sn);
    char text[64];
    assert_string_equal(bodies(rig_broker(&t->sn), text, sizeof(text)), "0 2");
    expect_outcomes(t, 3, (enum hg_status[]){HG_STATUS_N, HG_STATUS_N, HG_OK});
    assert_int_equal(t->publisher.held_n, 0);
    close_bench(t);
}

static void the_unconfirmed_go_out_again_in_order_after_a_cut(void **state)
{
    (void)state;
    for (unsigned confirmed_n = 0; confirmed_n <= 5; confirmed_n++) {
        struct bench *t = open_bench(NULL);
        publish_all(t, "amq.topic", 5);
        if (confirmed_n > 0) {
            broker_ack(rig_broker(&t->sn), 1, confirmed_n, true);
            seam_net_run(&t->sn);
        }
        seam_net_cut(&t->sn, seam_net_last(&t->sn));
        assert_int_equal(publish(t, 5, "amq.topic", "5"), HG_OK); /* while nobody is there */
        seam_net_pass(&t->sn, 2000);
        char text[64];
        assert_string_equal(bodies(rig_broker(&t->sn), text, sizeof(text)),
                            &"0 1 2 3 4 5"[confirmed_n * 2]);
        broker_ack(rig_broker(&t->sn), 1, 6 - confirmed_n, true);
        seam_net_run(&t->sn);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(t->outcomes[i], HG_OK);
            assert_int_equal(t->told[i], 1);
        }
        close_bench(t);
    }
}

static void every_split_of_what_rabbitmq_says_gives_the_same(void **state)
{
    (void)state;
    for (size_t chunk_n = 1; chunk_n < 24; chunk_n++) {
        struct bench *t = open_bench(NULL);
        t->sn.chunk_n = chunk_n;
        publish_all(t, "amq.topic", 4);
        struct broker *b = rig_broker(&t->sn);
        broker_return(b, 1, b->publishes[1].message);
        broker_ack(b, 1, 3, true);
        broker_nack(b, 1, 4, false);
        seam_net_run(&t->sn);
        expect_outcomes(t, 4, (enum hg_status[]){HG_OK, HG_UNROUTABLE, HG_OK, HG_REJECTED});
        close_bench(t);
    }
}

static void silence_ends_as_timed_out_and_is_not_sent_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 2);
    seam_net_pass(&t->sn, 11000);
    expect_outcomes(t, 2, (enum hg_status[]){HG_TIMED_OUT, HG_TIMED_OUT});
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(publish(t, 2, "amq.topic", "later"), HG_OK);
    seam_net_run(&t->sn);
    char text[64];
    assert_string_equal(bodies(rig_broker(&t->sn), text, sizeof(text)), "later");
    close_bench(t);
}

static void what_was_never_written_ends_as_away(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    t->sn.is_refusing = true;
    assert_int_equal(publish(t, 0, "amq.topic", "a"), HG_OK);
    seam_net_pass(&t->sn, 3500);
    assert_int_equal(t->told[0], 0);
    seam_net_pass(&t->sn, 1000);
    assert_int_equal(t->outcomes[0], HG_BROKER_AWAY);
    close_bench(t);
}

static void nothing_is_sent_while_rabbitmq_says_blocked(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 1);
    broker_block(rig_broker(&t->sn), "low on memory");
    seam_net_run(&t->sn);
    assert_false(hg_publisher_is_available(&t->publisher));
    assert_int_equal(publish(t, 1, "amq.topic", "held"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_broker(&t->sn)->publishes_n, 1);
    broker_block(rig_broker(&t->sn), NULL);
    seam_net_run(&t->sn);
    assert_int_equal(rig_broker(&t->sn)->publishes_n, 2);
    close_bench(t);
}

/* ---- The culprit of a closed channel ---- */

static bool close_on_poison(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id != AMQP_BASIC_PUBLISH_METHOD) {
        return false;
    }
    struct hg_bytes body = hg_message_body(b->publishes[b->publishes_n - 1].message);
    if (body.p[0] != 'p') {
        return false;
    }
    broker_close_channel(b, method->channel, 406, "PRECONDITION_FAILED - poison", method->id);
    return true;
}

static void poison(struct broker *b)
{
    b->on_method = close_on_poison;
    b->has_auto_confirm = true;
}

static void the_culprit_of_a_closed_channel_is_found_and_the_others_notice_nothing(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 6; at++) {
        struct bench *t = open_bench(poison);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(publish(t, i, "amq.topic", i == at ? "poison" : "fine"), HG_OK);
        }
        assert_int_equal(publish(t, 6, "amq.direct", "other exchange"), HG_OK);
        seam_net_run(&t->sn);
        for (unsigned i = 0; i < 7; i++) {
            assert_int_equal(t->outcomes[i], i == at ? HG_REFUSED : HG_OK);
            assert_int_equal(t->told[i], 1);
        }
        assert_int_equal(t->sn.links_n, 1); /* no connection was lost for it */
        close_bench(t);
    }
}

static bool close_as_internal(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id == AMQP_BASIC_PUBLISH_METHOD) {
        broker_close_channel(
            b, method->channel, 403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'", method->id);
    }
    return method->id == AMQP_BASIC_PUBLISH_METHOD;
}

static void internal(struct broker *b)
{
    b->on_method = close_as_internal;
}

static void an_internal_exchange_is_not_tried_again_for_a_second(void **state)
{
    (void)state;
    struct bench *t = open_bench(internal);
    publish_all(t, "x", 3);
    expect_outcomes(t, 3, (enum hg_status[]){HG_NOT_ALLOWED, HG_NOT_ALLOWED, HG_NOT_ALLOWED});
    assert_int_equal(hg_counted(&t->metrics.upstream_channel_closes), 1);
    assert_int_equal(publish(t, 3, "x", "again"), HG_NOT_ALLOWED);
    seam_net_pass(&t->sn, 1100);
    assert_int_equal(publish(t, 4, "x", "later"), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[4], HG_NOT_ALLOWED);
    close_bench(t);
}

/* As for a user who may publish what begins with "ok." */
static bool close_by_topic(void *ctx, struct broker *b, const struct broker_method *method)
{
    const amqp_basic_publish_t *publish = method->decoded;
    (void)ctx;
    bool is_refused = method->id == AMQP_BASIC_PUBLISH_METHOD &&
                      memcmp(publish->routing_key.bytes, "ok.", 3) != 0;
    if (is_refused) {
        broker_close_channel(b, method->channel, 403,
                             "ACCESS_REFUSED - access to topic 'k' in exchange 'x' refused",
                             method->id);
    }
    return is_refused;
}

static void by_topic(struct broker *b)
{
    b->on_method = close_by_topic;
    b->has_auto_confirm = true;
}

static void publish_key(struct bench *t, uint64_t id, const char *key, enum hg_status wanted)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("x"),
                                           .routing_key = hg_bytes_str(key)};
    struct hg_message *message = hg_message_new(&parts);
    const struct hg_publish_order order = {
        .message_own = &message, .owner = t, .owners = &t->owners, .id = id};
    assert_int_equal(hg_publisher_publish(&t->publisher, &order), wanted);
}

static void a_refused_topic_is_refused_at_once_and_others_are_not(void **state)
{
    (void)state;
    struct bench *t = open_bench(by_topic);
    static const char *const keys[] = {"no.a", "ok.a", "no.a", "no.b", "ok.b", "no.a"};
    for (size_t i = 0; i < 6; i++) {
        publish_key(t, i, keys[i], HG_OK);
    }
    seam_net_run(&t->sn);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(t->outcomes[i], keys[i][0] == 'o' ? HG_OK : HG_NOT_ALLOWED);
    }
    /* The first finds the culprit among all, the second and third each a topic. */
    assert_int_equal(hg_counted(&t->metrics.upstream_channel_closes), 3);
    publish_key(t, 6, "no.b", HG_NOT_ALLOWED);
    publish_key(t, 6, "ok.b", HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[6], HG_OK);
    seam_net_pass(&t->sn, 1100);
    publish_key(t, 7, "no.b", HG_OK); /* it may be permitted by now */
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[7], HG_NOT_ALLOWED);
    close_bench(t);
}

static void replays_that_time_out_do_not_slow_down_those_after_them(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    struct broker *b = rig_broker(&t->sn);
    publish_all(t, "amq.topic", 3);
    broker_close_channel(b, b->publishes[0].channel, 406, "PRECONDITION_FAILED - whatever", 0);
    broker_forget(b);
    seam_net_run(&t->sn);
    assert_int_equal(b->publishes_n, 1); /* the first again, alone */
    seam_net_pass(&t->sn, 11000);
    expect_outcomes(t, 3, (enum hg_status[]){HG_TIMED_OUT, HG_TIMED_OUT, HG_TIMED_OUT});
    broker_ack(b, b->publishes[0].channel, 1, false);
    broker_forget(b);
    for (unsigned i = 3; i < 6; i++) {
        assert_int_equal(publish(t, i, "amq.topic", "new"), HG_OK);
    }
    seam_net_run(&t->sn);
    char text[64];
    assert_string_equal(bodies(b, text, sizeof(text)), "new new new");
    close_bench(t);
}

/* ---- Limits and owners ---- */

static void a_full_window_admits_nobody_until_an_eighth_is_free(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 32);
    assert_false(hg_publisher_admits(&t->publisher, 100));
    broker_ack(rig_broker(&t->sn), 1, 3, true);
    seam_net_run(&t->sn);
    assert_int_equal(t->rooms_n, 0);
    broker_ack(rig_broker(&t->sn), 1, 4, false);
    seam_net_run(&t->sn);
    assert_int_equal(t->rooms_n, 1);
    assert_true(hg_publisher_admits(&t->publisher, 100));
    close_bench(t);
}

static void an_owner_that_is_gone_is_not_told(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    publish_all(t, "amq.topic", 3);
    hg_publisher_forget(&t->owners);
    broker_ack(rig_broker(&t->sn), 1, 3, true);
    seam_net_run(&t->sn);
    expect_outcomes(t, 3, (enum hg_status[]){HG_STATUS_N, HG_STATUS_N, HG_STATUS_N});
    assert_int_equal(t->publisher.held_n, 0);
    close_bench(t);
}

static void no_failed_allocation_costs_an_outcome_or_a_byte(void **state)
{
    (void)state;
    size_t before = seam_live();
    for (size_t n = 1; n < 80; n++) {
        struct bench *t = open_bench(NULL);
        seam_fail_alloc(n);
        bool is_accepted[4];
        for (unsigned i = 0; i < 4; i++) {
            is_accepted[i] = publish(t, i, "amq.topic", "x") == HG_OK;
        }
        seam_net_run(&t->sn);
        seam_net_pass(&t->sn, 3000); /* a link that was reset comes back */
        seam_fail_alloc(0);
        seam_net_pass(&t->sn, 12000);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(t->told[i], is_accepted[i] ? 1 : 0);
        }
        close_bench(t);
        assert_int_equal(seam_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_multiple_ack_confirms_the_whole_prefix),
        cmocka_unit_test(a_channel_that_rejected_is_given_up_once_it_is_at_rest),
        cmocka_unit_test(a_channel_that_rejected_and_confirms_nothing_is_left),
        cmocka_unit_test(a_return_belongs_to_the_oldest_equal_publish),
        cmocka_unit_test(a_missing_exchange_refuses_its_own_publishes_only),
        cmocka_unit_test(the_unconfirmed_go_out_again_in_order_after_a_cut),
        cmocka_unit_test(what_is_sent_once_is_not_sent_again),
        cmocka_unit_test(what_is_sent_once_hears_why_its_channel_was_closed),
        cmocka_unit_test(what_is_withdrawn_in_time_is_not_sent),
        cmocka_unit_test(every_split_of_what_rabbitmq_says_gives_the_same),
        cmocka_unit_test(silence_ends_as_timed_out_and_is_not_sent_again),
        cmocka_unit_test(what_was_never_written_ends_as_away),
        cmocka_unit_test(nothing_is_sent_while_rabbitmq_says_blocked),
        cmocka_unit_test(the_culprit_of_a_closed_channel_is_found_and_the_others_notice_nothing),
        cmocka_unit_test(an_internal_exchange_is_not_tried_again_for_a_second),
        cmocka_unit_test(a_refused_topic_is_refused_at_once_and_others_are_not),
        cmocka_unit_test(replays_that_time_out_do_not_slow_down_those_after_them),
        cmocka_unit_test(a_full_window_admits_nobody_until_an_eighth_is_free),
        cmocka_unit_test(an_owner_that_is_gone_is_not_told),
        cmocka_unit_test(no_failed_allocation_costs_an_outcome_or_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
