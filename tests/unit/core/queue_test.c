/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of a session's own, subscriptions on them, and a session that has no connection, over the
 * real routing and a scripted RabbitMQ. */
#include "core/queue.h"

#include "core/config_schema.h"
#include "core/identity.h"
#include "routing_world.h"

#include <stdlib.h>

enum { SUBS = 4, RULES = 3 };

struct world {
    struct routing_world core;
    struct hg_session session; /* has no connection */
    struct hg_sub subs[SUBS];
    enum hg_status subscribed[SUBS]; /* HG_STATUS_N: not told */
    struct hg_queue *queue;          /* NULL once it has ended */
    enum hg_status status;           /* of it */
    /* The last delivery. */
    unsigned deliveries_n;
    struct hg_ticket ticket;
    char address[64];
    struct hg_sub *matches;
    bool was_from_queue;
    enum hg_status outcome; /* of the last publish */
    bool has_no_room;       /* the session takes no more for now */
};

static struct world *the;

/* ---- The session ---- */

static void deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    assert_ptr_equal(s, &the->session);
    the->deliveries_n++;
    the->ticket = d->ticket;
    the->was_from_queue = d->queue != NULL && d->queue == the->queue && d->must_keep;
    the->matches = matches;
    assert_true(d->address.n < sizeof(the->address));
    memcpy(the->address, d->address.p, d->address.n);
    the->address[d->address.n] = '\0';
}

static void settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                    struct hg_bytes reason)
{
    (void)s;
    (void)reason;
    assert_int_equal(id, 7);
    the->outcome = outcome;
}

static void subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                       struct hg_bytes reason)
{
    (void)s;
    (void)reason;
    the->subscribed[sub - the->subs] = outcome;
}

static bool wants_more(struct hg_session *s)
{
    (void)s;
    return !the->has_no_room;
}

static const struct hg_session_ops session_ops = {
    .deliver = deliver, .settled = settled, .subscribed = subscribed, .wants_more = wants_more};

static void on_state(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    (void)ctx;
    (void)has_existed;
    (void)reason;
    the->status = status;
    if (status != HG_OK) {
        the->queue = NULL;
    }
}

static const struct hg_queue_ops queue_ops = {.on_state = on_state};

/* ---- The world ---- */

static const struct hg_rule_spec rules[RULES] = {
    {.where = "1",
     .name = "events",
     .pattern = {"event/{rest...}", NULL, NULL},
     .exchange = "amq.topic",
     .key = "event.{rest...}",
     .persistent = HG_UNSET},
    {.where = "2",
     .name = "headers",
     .pattern = {"header/{rest...}", NULL, NULL},
     .exchange = "amq.headers",
     .key = "header.{rest...}",
     .persistent = HG_UNSET},
    {.where = "3",
     .name = "orders",
     .pattern = {"orders", NULL, NULL},
     .queue = "orders",
     .persistent = HG_UNSET},
};

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    routing_world_init(&the->core, rules, RULES);
    the->core.config.max_subscriptions = SUBS - 1;
    the->core.config.widen_after = 1;
    routing_world_open(&the->core, confirm_all);
    hg_session_init(&the->session, &session_ops, HG_PROTO_MQTT, NULL, &the->core.worker);
    the->status = the->outcome = HG_STATUS_N;
    for (size_t i = 0; i < SUBS; i++) {
        the->subscribed[i] = HG_STATUS_N;
    }
    seam_net_run(&the->core.sn);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    hg_queue_close(the->queue, HG_QUEUE_KEEP);
    hg_session_detach(&the->session);
    routing_world_close(&the->core);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static void open_queue_of(const struct hg_queue_options *options)
{
    the->queue = hg_queue_open(&the->session, options, &queue_ops, NULL);
    assert_non_null(the->queue);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->status, HG_OK);
}

static void open_queue(struct hg_sub *sub)
{
    const struct hg_queue_options options = {.name = HG_BYTES("mine"), .prefetch = 10, .sub = sub};
    open_queue_of(&options);
}

static void subscribe(size_t i, const char *filter)
{
    const char *why = NULL;
    assert_int_equal(hg_subscribe_queue_filter(&the->session, &the->subs[i], hg_bytes_str(filter),
                                               the->queue, &why),
                     HG_OK);
    assert_int_equal(the->subscribed[i], HG_STATUS_N); /* never from inside */
    seam_net_run(&the->core.sn);
    assert_int_equal(the->subscribed[i], HG_OK);
}

/* How often a line of this ending stands in what RabbitMQ was asked on any link. */
static unsigned asked(const char *what)
{
    unsigned n = 0;
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        struct hg_bytes log = hg_writer_view(&the->core.sn.links[i]->broker.log);
        for (size_t at = 0; at + strlen(what) < log.n; at++) {
            n += memcmp(log.p + at, what, strlen(what)) == 0 && log.p[at + strlen(what)] == '\n';
        }
    }
    return n;
}

/* From the queue that is consumed on the link opened last. */
static void come(uint16_t channel, uint64_t tag, const char *exchange, const char *key)
{
    const struct hg_message_parts parts = {.exchange = hg_bytes_str(exchange),
                                           .routing_key = hg_bytes_str(key),
                                           .body = HG_BYTES("body")};
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(&seam_net_last(&the->core.sn)->broker, channel, "headgate", tag, false, m);
    hg_message_unref(m);
    seam_net_run(&the->core.sn);
}

/* ---- Subscriptions on a queue ---- */

static void filters_are_bound_to_the_queue_and_exactly(void **state)
{
    (void)state;
    open_queue(NULL);
    subscribe(0, "event/a/+");
    subscribe(1, "event/b"); /* past widen_after */
    subscribe(2, "header/#");
    assert_int_equal(asked("queue.bind event.a.*"), 1);
    assert_int_equal(asked("queue.bind event.b"), 1);
    assert_int_equal(hg_counted(&the->core.worker.metrics.upstream.widened), 0);
    assert_int_equal(hg_trie_n(the->core.realm.routing->by_address[HG_PROTO_MQTT]), 0);
    const char *why = NULL;
    assert_int_equal(hg_subscribe_queue_filter(&the->session, &the->subs[3], HG_BYTES("event/c"),
                                               the->queue, &why),
                     HG_TOO_MANY);
    hg_unsubscribe(&the->subs[0]);
    seam_net_run(&the->core.sn);
    assert_int_equal(asked("queue.unbind event.a.*"), 1);
    assert_int_equal(asked("queue.unbind event.b"), 0);
}

static void equal_bindings_of_two_filters_are_counted(void **state)
{
    (void)state;
    open_queue(NULL);
    subscribe(0, "event/a");
    subscribe(1, "event/a");
    assert_int_equal(asked("queue.bind event.a"), 1);
    hg_unsubscribe(&the->subs[0]);
    seam_net_run(&the->core.sn);
    assert_int_equal(asked("queue.unbind event.a"), 0);
    hg_unsubscribe(&the->subs[1]);
    seam_net_run(&the->core.sn);
    assert_int_equal(asked("queue.unbind event.a"), 1);
}

static void a_kept_queue_keeps_the_bindings_of_subscriptions_that_end_later(void **state)
{
    (void)state;
    open_queue(NULL);
    subscribe(0, "event/a");
    hg_queue_close(the->queue, HG_QUEUE_KEEP);
    the->queue = NULL;
    hg_unsubscribe(&the->subs[0]);
    seam_net_run(&the->core.sn);
    assert_int_equal(asked("queue.unbind event.a"), 0);
    assert_int_equal(asked("queue.delete mine"), 0);
}

static void a_queue_of_a_rule_is_consumed_besides(void **state)
{
    (void)state;
    open_queue(NULL);
    subscribe(0, "orders");
    assert_int_equal(asked("basic.consume orders"), 1);
    come(2, 1, "", "orders");
    assert_int_equal(the->deliveries_n, 1);
    assert_string_equal(the->address, "orders");
    assert_ptr_equal(the->matches, &the->subs[0]);
    assert_false(the->was_from_queue);
}

/* ---- Deliveries ---- */

static void deliveries_have_an_address_and_a_ticket(void **state)
{
    (void)state;
    open_queue(&the->subs[1]);
    come(1, 1, "amq.topic", "event.a.b");
    assert_int_equal(the->deliveries_n, 1);
    assert_string_equal(the->address, "event/a/b");
    assert_true(the->was_from_queue);
    assert_ptr_equal(the->matches, &the->subs[1]);
    assert_int_equal(asked("basic.ack 1"), 0);
    assert_int_equal(hg_queue_ack(the->queue, the->ticket), HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(asked("basic.ack 1"), 1);
    assert_int_equal(hg_queue_ack(the->queue, the->ticket), HG_STALE);
    assert_int_equal(hg_queue_nack(the->queue, the->ticket, true), HG_STALE);
}

static void what_no_rule_maps_back_is_acknowledged_and_counted(void **state)
{
    (void)state;
    open_queue(NULL);
    come(1, 1, "elsewhere", "k");
    assert_int_equal(the->deliveries_n, 0);
    assert_int_equal(asked("basic.ack 1"), 1);
    assert_int_equal(hg_counted(&the->core.worker.metrics.upstream.unmapped), 1);
}

static enum hg_status publish(void)
{
    const struct hg_publish_args args = {
        .address = HG_BYTES("event/a"), .body = HG_BYTES("body"), .id = 7, .wants_outcome = true};
    const char *why = NULL;
    return hg_publish(&the->session, &args, NULL, &why);
}

static void what_may_not_be_seen_is_acknowledged_and_counted(void **state)
{
    const struct hg_proto_metrics *m = &the->core.worker.metrics.proto[HG_PROTO_MQTT];
    struct hg_identity *nobody = hg_identity_new(&(struct hg_identity_parts){.roles = 0});
    const char *why = NULL;
    (void)state;
    assert_non_null(nobody);
    open_queue(&the->subs[0]);
    subscribe(0, "event/#");
    the->core.config.has_identities = true;
    come(1, 1, "amq.topic", "event.a"); /* it is not known yet who it is */
    the->session.identity = nobody;
    come(1, 2, "amq.topic", "event.a"); /* the rule lets nobody */
    assert_int_equal(the->deliveries_n, 0);
    assert_int_equal(asked("basic.ack 1") + asked("basic.ack 2"), 2);
    assert_int_equal(hg_counted(&m->withheld), 2);
    assert_int_equal(hg_subscribe_queue_filter(&the->session, &the->subs[1], HG_BYTES("event/#"),
                                               the->queue, &why),
                     HG_NOT_ALLOWED);
    assert_int_equal(publish(), HG_NOT_ALLOWED);
    assert_int_equal(hg_counted(&m->denied), 2);
    the->session.is_trusted = true;
    come(1, 3, "amq.topic", "event.a");
    assert_int_equal(the->deliveries_n, 1);
    assert_int_equal(publish(), HG_OK);
    the->session.identity = NULL;
    hg_identity_unref(nobody);
}

static void a_queue_that_shows_all_shows_what_does_not_match_without_an_address(void **state)
{
    (void)state;
    open_queue_of(&(struct hg_queue_options){.name = HG_BYTES("mine"),
                                             .prefetch = 10,
                                             .filter = HG_BYTES("event/a/#"),
                                             .shows_all = true});
    come(1, 1, "amq.topic", "event.a.b");
    assert_string_equal(the->address, "event/a/b");
    come(1, 2, "amq.topic", "event.b");
    assert_string_equal(the->address, "");
    come(1, 3, "", "mine");
    assert_string_equal(the->address, "");
    assert_int_equal(the->deliveries_n, 3);
    assert_int_equal(hg_counted(&the->core.worker.metrics.upstream.unmapped), 0);
}

static void a_queue_that_answers_itself_waits_for_room(void **state)
{
    const struct hg_queue_options options = {
        .name = HG_BYTES("mine"), .prefetch = 10, .is_auto = true};
    (void)state;
    open_queue_of(&options);
    come(1, 1, "amq.topic", "event.a");
    assert_int_equal(asked("basic.ack 1"), 1);
    the->has_no_room = true;
    come(1, 2, "amq.topic", "event.a");
    come(1, 3, "amq.topic", "event.a");
    seam_net_pass(&the->core.sn, 1000);
    assert_int_equal(the->deliveries_n, 3);
    assert_int_equal(asked("basic.ack 3 multiple"), 0);
    the->has_no_room = false;
    seam_net_pass(&the->core.sn, 1000);
    assert_int_equal(asked("basic.ack 3 multiple"), 1);
}

static void a_deleted_queue_is_told_and_leaves_nothing_behind(void **state)
{
    (void)state;
    open_queue(NULL);
    subscribe(0, "event/a");
    broker_cancel(&seam_net_last(&the->core.sn)->broker, 1, "headgate");
    seam_net_run(&the->core.sn);
    assert_int_equal(the->status, HG_NO_QUEUE);
    hg_unsubscribe(&the->subs[0]);
}

/* ---- Without a connection ---- */

static void what_is_checked_is_refused_like_a_publish_and_published_never(void **state)
{
    static const uint8_t large[(1 << 20) + 1];
    const struct {
        struct hg_publish_args args;
        enum hg_status status;
    } cases[] = {
        {{.address = HG_BYTES("event/a")}, HG_OK},
        {{.address = HG_BYTES("event/+")}, HG_BAD_ADDRESS},
        {{.address = HG_BYTES("nobody/takes/this")}, HG_NO_RULE},
        {{.address = HG_BYTES("event/a"), .body = hg_bytes(large, sizeof(large))}, HG_TOO_LARGE},
        {{.address = HG_BYTES("event/a"), .properties = {.expiration = HG_BYTES("soon")}},
         HG_BAD_PROPERTY},
        {{.address = HG_BYTES("event/a"), .is_retained = true}, HG_NO_RETAIN},
        {{.is_direct = true, .key = HG_BYTES("queue")}, HG_OK},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        assert_int_equal(hg_publish_check(&the->session, &cases[i].args, &why), cases[i].status);
    }
    seam_net_run(&the->core.sn);
    assert_int_equal(the->core.realm.routing->publisher.held_n, 0);
    const struct hg_proto_metrics *m = &the->core.worker.metrics.proto[HG_PROTO_MQTT];
    assert_int_equal(hg_counted(&m->refused), 5);
    assert_int_equal(hg_counted(&m->messages_in), 0);
}

static void a_session_without_a_connection_publishes_and_is_never_held(void **state)
{
    (void)state;
    assert_int_equal(publish(), HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->outcome, HG_OK);
    the->core.sn.is_refusing = true;
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        seam_net_cut(&the->core.sn, the->core.sn.links[i]);
    }
    enum hg_status status = HG_OK;
    for (size_t i = 0; i < 20 && status == HG_OK; i++) {
        status = publish();
    }
    assert_int_equal(status, HG_BROKER_AWAY);
    the->core.sn.is_refusing = false;
    seam_net_pass(&the->core.sn, 3000);
    assert_int_equal(publish(), HG_OK);
    seam_net_run(&the->core.sn);
}

static void a_session_without_a_connection_subscribes(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_int_equal(hg_subscribe_filter(&the->session, &the->subs[0], HG_BYTES("event/#"), &why),
                     HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->subscribed[0], HG_OK);
    struct hg_feed *feed = &the->core.realm.routing->feed;
    come(hg_amqp_channel_number(feed->consuming), 1, "amq.topic", "event.a");
    assert_int_equal(the->deliveries_n, 1);
    assert_string_equal(the->address, "event/a");
    assert_false(the->was_from_queue);
}

static void a_feeds_delivery_is_acknowledged_at_once_where_a_repeat_would_be_shown(void **state)
{
    (void)state;
    static const char *const filters[] = {"event/a", "event/#"};
    const char *why = NULL;
    the->subs[1].takes_redelivered = true;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            hg_subscribe_filter(&the->session, &the->subs[i], hg_bytes_str(filters[i]), &why),
            HG_OK);
        seam_net_run(&the->core.sn);
        uint16_t channel = hg_amqp_channel_number(the->core.realm.routing->feed.consuming);
        come(channel, i + 1, "amq.topic", "event.a"); /* to the first; to both */
        assert_int_equal(asked("basic.ack 1 multiple"), 0);
        assert_int_equal(asked("basic.ack 2 multiple"), i);
    }
}

static void after_a_failed_allocation_the_subscription_or_its_queue_is_told(void **state)
{
    (void)state;
    for (size_t n = 1; n < 16; n++) {
        const char *why = NULL;
        if (the->queue == NULL) {
            open_queue(NULL);
        }
        the->subscribed[0] = HG_STATUS_N;
        seam_fail_alloc(n);
        enum hg_status status = hg_subscribe_queue_filter(&the->session, &the->subs[0],
                                                          HG_BYTES("event/#"), the->queue, &why);
        seam_net_pass(&the->core.sn, 3000);
        seam_fail_alloc(0);
        seam_net_pass(&the->core.sn, 3000);
        bool is_told = the->subscribed[0] != HG_STATUS_N || the->status != HG_OK;
        assert_int_equal(is_told, status == HG_OK);
        hg_unsubscribe(&the->subs[0]);
        seam_net_run(&the->core.sn);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(filters_are_bound_to_the_queue_and_exactly),
        TEST(equal_bindings_of_two_filters_are_counted),
        TEST(a_kept_queue_keeps_the_bindings_of_subscriptions_that_end_later),
        TEST(a_queue_of_a_rule_is_consumed_besides),
        TEST(deliveries_have_an_address_and_a_ticket),
        TEST(what_no_rule_maps_back_is_acknowledged_and_counted),
        TEST(what_may_not_be_seen_is_acknowledged_and_counted),
        TEST(a_queue_that_shows_all_shows_what_does_not_match_without_an_address),
        TEST(a_queue_that_answers_itself_waits_for_room),
        TEST(a_deleted_queue_is_told_and_leaves_nothing_behind),
        TEST(what_is_checked_is_refused_like_a_publish_and_published_never),
        TEST(a_session_without_a_connection_publishes_and_is_never_held),
        TEST(a_session_without_a_connection_subscribes),
        TEST(a_feeds_delivery_is_acknowledged_at_once_where_a_repeat_would_be_shown),
        TEST(after_a_failed_allocation_the_subscription_or_its_queue_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
