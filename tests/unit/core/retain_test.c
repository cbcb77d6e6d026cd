/* SPDX-License-Identifier: Apache-2.0 */
/* Retaining over the real routing and a scripted RabbitMQ; the state log is the test's. */
#include "core/retain.h"

#include "core/retain_priv.h"
#include "core/state.h"
#include "routing_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { RULES = 3, WAITS = 8 };

struct world {
    struct routing_world core;
    struct hg_session session;
    struct hg_sub sub;
    struct hg_state_index *index; /* NULL: switched off */
    uint64_t offset;
    struct hg_state_wait *waits[WAITS]; /* NULL: told or cancelled */
    size_t waits_n;
    size_t room_n; /* deliveries that the session still wants */
    struct hg_writer delivered;
    enum hg_status outcome; /* of the last publish; HG_STATUS_N: none */
};

static struct world *the;

struct hg_state_index *hg_state_index_of(const struct hg_vhost *vhost)
{
    (void)vhost;
    return the->index;
}

bool hg_state_is_bound(const struct hg_vhost *vhost, struct hg_bytes exchange)
{
    (void)vhost;
    return exchange.n == 0 || hg_bytes_eq(exchange, HG_BYTES("amq.topic"));
}

void hg_state_barrier(struct hg_realm *realm, struct hg_state_wait *wait)
{
    assert_ptr_equal(realm, &the->core.realm);
    assert_true(the->waits_n < WAITS);
    wait->realm = realm;
    the->waits[the->waits_n++] = wait;
}

void hg_state_cancel(struct hg_state_wait *wait)
{
    for (size_t i = 0; i < the->waits_n; i++) {
        the->waits[i] = the->waits[i] == wait ? NULL : the->waits[i];
    }
}

/* Everybody who waits is told. */
static size_t reach_barrier(enum hg_status status)
{
    size_t told_n = 0;
    for (size_t i = 0; i < the->waits_n; i++) {
        struct hg_state_wait *wait = the->waits[i];
        the->waits[i] = NULL;
        if (wait != NULL) {
            wait->done(wait, status);
            told_n++;
        }
    }
    the->waits_n = 0;
    seam_net_run(&the->core.sn);
    return told_n;
}

/* ---- The session ---- */

static void deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    assert_ptr_equal(s, &the->session);
    assert_ptr_equal(matches, &the->sub);
    assert_true(d->is_retained && d->must_keep && the->room_n > 0);
    the->room_n--;
    hg_writer_str(&the->delivered, hg_writer_n(&the->delivered) == 0 ? "" : " ");
    hg_writer_bytes(&the->delivered, d->address);
    hg_writer_str(&the->delivered, "=");
    hg_writer_bytes(&the->delivered, hg_message_body(d->message));
}

static bool wants_more(struct hg_session *s)
{
    (void)s;
    return the->room_n > 0;
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
    (void)sub;
    (void)reason;
    assert_int_equal(outcome, HG_OK);
}

static const struct hg_session_ops session_ops = {
    .deliver = deliver, .settled = settled, .subscribed = subscribed, .wants_more = wants_more};

/* ---- The world ---- */

static const struct hg_rule_spec rules[RULES] = {
    {.where = "1",
     .name = "events",
     .pattern = {"e/{rest...}", NULL, NULL},
     .exchange = "amq.topic",
     .key = "{rest...}",
     .persistent = HG_UNSET},
    {.where = "2",
     .name = "news",
     .pattern = {"n/{rest...}", NULL, NULL},
     .exchange = "amq.fanout",
     .key = "{rest...}",
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
    const struct hg_state_limits limits = {.log_bytes = 1 << 16, .retained_n = 3};
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    routing_world_init(&the->core, rules, RULES);
    the->core.config.state_log = "the.log";
    the->core.config.state_max_retained = 3;
    the->index = hg_state_index_new(the->core.rules, "the.log", &limits, 1);
    routing_world_open(&the->core, NULL);
    hg_session_init(&the->session, &session_ops, HG_PROTO_MQTT, NULL, &the->core.worker);
    the->outcome = HG_STATUS_N;
    the->room_n = SIZE_MAX;
    seam_net_run(&the->core.sn);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    hg_session_detach(&the->session);
    routing_world_close(&the->core);
    hg_state_index_free(the->index);
    hg_writer_close(&the->delivered);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static enum hg_status publish(const char *address, const char *body, bool wants_outcome)
{
    const char *why = NULL;
    const struct hg_publish_args args = {.address = hg_bytes_str(address),
                                         .body = hg_bytes_str(body),
                                         .id = 7,
                                         .is_retained = true,
                                         .wants_outcome = wants_outcome};
    the->outcome = HG_STATUS_N;
    enum hg_status status = hg_publish(&the->session, &args, NULL, &why);
    seam_net_run(&the->core.sn);
    return status;
}

/* The broker that gets publishes. */
static struct broker *publishing(void)
{
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        if (the->core.sn.links[i]->broker.publishes_n > 0) {
            return &the->core.sn.links[i]->broker;
        }
    }
    return NULL;
}

static size_t publishes_n(void)
{
    return publishing() == NULL ? 0 : publishing()->publishes_n;
}

static const struct hg_message *published(size_t i)
{
    assert_true(i < publishes_n());
    return publishing()->publishes[i].message;
}

static void answer(size_t i, bool is_ack)
{
    struct broker *b = publishing();
    const struct broker_publish p = b->publishes[i];
    if (is_ack) {
        broker_ack(b, p.channel, p.delivery_tag, false);
    } else {
        broker_nack(b, p.channel, p.delivery_tag, false);
    }
    seam_net_run(&the->core.sn);
}

static void check_text(const struct hg_message *m, const char *header, const char *want)
{
    const struct hg_value *v = hg_message_header(m, hg_bytes_str(header));
    if (want == NULL) {
        assert_null(v);
    } else {
        assert_non_null(v);
        assert_text(v->u.bytes, want);
    }
}

/* As if it had been read from the log. */
static void put(const char *key, const char *body, const struct hg_properties *properties)
{
    struct hg_state_change change;
    struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                     .routing_key = hg_bytes_str(key),
                                     .body = hg_bytes_str(body)};
    if (properties != NULL) {
        parts.properties = *properties;
    }
    struct hg_message *m = hg_message_new(&parts);
    hg_state_index_apply(the->index, m, the->offset++, seam_wall_ms, &change);
    hg_message_unref(m);
}

/* ---- Publishing ---- */

static void one_publish_reaches_the_log_as_well(void **state)
{
    static const struct {
        const char *address, *exchange, *key, *bcc;
    } cases[] = {
        {"e/a/b", "amq.topic", "a.b", "[\"headgate.retain\"]"},
        {"orders", "", "orders", "[\"the.log\"]"},
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(publish(cases[i].address, "1", true), HG_OK);
        assert_int_equal(publishes_n(), i + 1);
        const struct hg_message *m = published(i);
        assert_text(hg_message_exchange(m), cases[i].exchange);
        assert_text(hg_message_routing_key(m), cases[i].key);
        check_text(m, "BCC", cases[i].bcc);
        assert_true(hg_message_header(m, HG_BYTES("x-headgate-retain"))->u.b);
        answer(i, true);
        assert_int_equal(the->outcome, HG_STATUS_N); /* this process has not read it */
        assert_int_equal(reach_barrier(HG_OK), 1);
        assert_int_equal(the->outcome, HG_OK);
    }
}

static void else_the_log_gets_it_first(void **state)
{
    (void)state;
    assert_int_equal(publish("n/a", "1", true), HG_OK);
    assert_int_equal(publishes_n(), 1);
    assert_text(hg_message_routing_key(published(0)), "the.log");
    check_text(published(0), "x-headgate-kind", "retained");
    check_text(published(0), "x-headgate-exchange", "amq.fanout");
    check_text(published(0), "x-headgate-key", "a");
    check_text(published(0), "BCC", NULL);
    answer(0, true);
    assert_int_equal(the->waits_n, 0);
    assert_int_equal(publishes_n(), 2);
    assert_text(hg_message_exchange(published(1)), "amq.fanout");
    assert_text(hg_message_body(published(1)), "1");
    check_text(published(1), "x-headgate-kind", NULL);
    answer(1, true);
    assert_int_equal(the->outcome, HG_STATUS_N);
    assert_int_equal(reach_barrier(HG_OK), 1);
    assert_int_equal(the->outcome, HG_OK);
}

static void what_the_log_refuses_is_not_published(void **state)
{
    (void)state;
    assert_int_equal(publish("n/a", "1", true), HG_OK);
    answer(0, false);
    assert_int_equal(the->outcome, HG_REJECTED);
    assert_int_equal(publishes_n(), 1);
    assert_int_equal(the->waits_n, 0);
}

static void a_barrier_that_fails_is_the_outcome(void **state)
{
    (void)state;
    assert_int_equal(publish("e/a", "1", true), HG_OK);
    answer(0, true);
    assert_int_equal(reach_barrier(HG_BROKER_AWAY), 1);
    assert_int_equal(the->outcome, HG_BROKER_AWAY);
}

static void who_wants_no_outcome_waits_for_nothing(void **state)
{
    (void)state;
    assert_int_equal(publish("e/a", "1", false), HG_OK);
    assert_int_equal(publish("n/a", "2", false), HG_OK);
    answer(0, true);
    answer(1, true);
    assert_int_equal(publishes_n(), 3);
    answer(2, true);
    assert_int_equal(the->waits_n, 0);
    assert_int_equal(the->outcome, HG_STATUS_N);
}

static void a_session_that_goes_leaves_nothing_half_published(void **state)
{
    (void)state;
    assert_int_equal(publish("n/a", "1", true), HG_OK);
    assert_int_equal(publish("e/a", "2", true), HG_OK);
    answer(1, true);
    assert_int_equal(the->waits_n, 1);
    hg_session_detach(&the->session);
    answer(0, true);
    assert_int_equal(publishes_n(), 3);
    assert_text(hg_message_exchange(published(2)), "amq.fanout");
    answer(2, true);
    assert_int_equal(reach_barrier(HG_OK), 0);
    assert_int_equal(the->outcome, HG_STATUS_N);
    assert_int_equal(publish("n/b", "3", true), HG_OK); /* and one that the end of all cuts short */
    hg_session_detach(&the->session);
}

static void past_the_quota_it_is_refused(void **state)
{
    (void)state;
    put("a", "1", NULL);
    put("b", "1", NULL);
    put("c", "1", NULL);
    assert_int_equal(publish("e/d", "1", true), HG_TOO_MANY);
    assert_int_equal(publish("e/a", "2", true), HG_OK);
    assert_int_equal(publish("e/d", "", true), HG_OK); /* nothing is kept of it */
    assert_int_equal(publishes_n(), 2);
}

static void switched_off_it_is_refused(void **state)
{
    (void)state;
    hg_state_index_free(the->index);
    the->index = NULL;
    assert_int_equal(publish("e/a", "1", true), HG_NO_RETAIN);
    assert_int_equal(publishes_n(), 0);
    assert_int_equal(hg_retained_serve(&the->session, &the->sub, HG_BYTES("e/#")), HG_OK);
}

static void clients_do_not_write_the_gateways_headers(void **state)
{
    const struct hg_header headers[] = {
        {HG_BYTES("BCC"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("the.log")}},
        {HG_BYTES("X-Headgate-Retain"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("true")}},
        {HG_BYTES("x-headgate-ms"), {.kind = HG_VALUE_INT, .u.i = 1}},
        {HG_BYTES("mine"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("1")}},
    };
    const struct hg_publish_args args = {
        .address = HG_BYTES("e/a"),
        .properties = {.expiration = HG_BYTES("1000"), .headers = headers, .headers_n = 4},
        .sender = HG_BYTES("me")};
    const char *why = NULL;
    (void)state;
    assert_int_equal(hg_publish(&the->session, &args, NULL, &why), HG_OK);
    seam_net_run(&the->core.sn);
    const struct hg_message *m = published(0);
    const struct hg_properties *p = hg_message_properties(m);
    assert_int_equal(p->headers_n, 4);
    check_text(m, "mine", "1");
    check_text(m, "x-headgate-from", "me");
    assert_int_equal(hg_message_header(m, HG_BYTES("x-headgate-ms"))->u.i, seam_wall_ms);
    assert_true(p->has_timestamp && p->timestamp_s == seam_wall_ms / 1000);
    assert_true(hg_message_header(m, HG_BYTES("x-headgate-dated"))->u.b); /* not by the client */
}

/* ---- Serving ---- */

static void subscribe(const char *filter)
{
    const char *why = NULL;
    assert_int_equal(hg_subscribe_filter(&the->session, &the->sub, hg_bytes_str(filter), &why),
                     HG_OK);
    assert_int_equal(hg_retained_serve(&the->session, &the->sub, hg_bytes_str(filter)), HG_OK);
    seam_net_run(&the->core.sn);
}

static void check_delivered(const char *want)
{
    assert_text(hg_writer_view(&the->delivered), want);
}

static void a_subscription_gets_what_is_there_at_the_barrier(void **state)
{
    const struct hg_header at = {HG_BYTES("x-headgate-ms"),
                                 {.kind = HG_VALUE_INT, .u.i = (int64_t)seam_wall_ms}};
    const struct hg_properties soon = {
        .expiration = HG_BYTES("1000"), .headers = &at, .headers_n = 1};
    (void)state;
    put("a.b", "1", NULL);
    put("c", "over", &soon);
    subscribe("e/+/#");
    check_delivered("");
    put("a", "2", NULL);
    seam_wall_ms += 1000;
    assert_int_equal(reach_barrier(HG_OK), 1);
    check_delivered("e/a=2 e/a/b=1");
    assert_null(the->session.servings.first);
    seam_wall_ms -= 1000;
}

static void it_comes_as_fast_as_the_session_wants(void **state)
{
    (void)state;
    put("a", "1", NULL);
    put("b", "2", NULL);
    put("c", "3", NULL);
    the->room_n = 1;
    subscribe("e/#");
    hg_retained_resume(&the->session);                  /* too early: nothing is known yet */
    assert_int_equal(reach_barrier(HG_BROKER_AWAY), 1); /* what is known, is served */
    check_delivered("e/a=1");
    the->room_n = 1;
    hg_retained_resume(&the->session);
    seam_net_run(&the->core.sn);
    check_delivered("e/a=1 e/b=2");
    the->room_n = 5;
    seam_net_pass(&the->core.sn, 400); /* nobody said that there is room */
    check_delivered("e/a=1 e/b=2 e/c=3");
}

/* Else the subscriber would end with the older one. */
static void what_came_live_is_not_followed_by_what_was_before_it(void **state)
{
    const struct hg_header retain = {HG_BYTES("x-headgate-retain"),
                                     {.kind = HG_VALUE_BOOL, .u.b = true}};
    const struct hg_message_parts live = {.exchange = HG_BYTES("amq.topic"),
                                          .routing_key = HG_BYTES("b"),
                                          .body = HG_BYTES("3"),
                                          .properties = {.headers = &retain, .headers_n = 1}};
    (void)state;
    put("a", "1", NULL);
    put("b", "2", NULL);
    the->room_n = 1;
    subscribe("e/#");
    assert_int_equal(reach_barrier(HG_OK), 1);
    struct hg_message *m = hg_message_new(&live);
    hg_retain_saw(&the->session, m);
    hg_message_unref(m);
    the->room_n = 5;
    hg_retained_resume(&the->session);
    seam_net_run(&the->core.sn);
    check_delivered("e/a=1");
    assert_null(the->session.servings.first);
}

static void nothing_comes_after_unsubscribe(void **state)
{
    (void)state;
    put("a", "1", NULL);
    put("b", "2", NULL);
    subscribe("e/#");
    hg_unsubscribe(&the->sub);
    assert_int_equal(reach_barrier(HG_OK), 0);
    the->room_n = 1;
    subscribe("e/#");
    assert_int_equal(reach_barrier(HG_OK), 1);
    hg_retained_resume(&the->session);
    hg_unsubscribe(&the->sub);
    the->room_n = 5;
    seam_net_pass(&the->core.sn, 400);
    check_delivered("e/a=1");
}

static void without_memory_it_is_refused_whole(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        const char *why = NULL;
        const struct hg_publish_args args = {.address = HG_BYTES("n/a"),
                                             .body = HG_BYTES("1"),
                                             .id = 7,
                                             .is_retained = true,
                                             .wants_outcome = true};
        seam_fail_alloc(n);
        enum hg_status status = hg_publish(&the->session, &args, NULL, &why);
        bool has_failed = seam_allocs() >= n;
        seam_fail_alloc(0);
        seam_net_run(&the->core.sn);
        assert_int_equal(the->session.servings.first == NULL, status != HG_OK);
        if (!has_failed) {
            assert_int_equal(status, HG_OK);
            break;
        }
    }
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(one_publish_reaches_the_log_as_well),
        IN_WORLD(else_the_log_gets_it_first),
        IN_WORLD(what_the_log_refuses_is_not_published),
        IN_WORLD(a_barrier_that_fails_is_the_outcome),
        IN_WORLD(who_wants_no_outcome_waits_for_nothing),
        IN_WORLD(a_session_that_goes_leaves_nothing_half_published),
        IN_WORLD(past_the_quota_it_is_refused),
        IN_WORLD(switched_off_it_is_refused),
        IN_WORLD(clients_do_not_write_the_gateways_headers),
        IN_WORLD(a_subscription_gets_what_is_there_at_the_barrier),
        IN_WORLD(it_comes_as_fast_as_the_session_wants),
        IN_WORLD(what_came_live_is_not_followed_by_what_was_before_it),
        IN_WORLD(nothing_comes_after_unsubscribe),
        IN_WORLD(without_memory_it_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
