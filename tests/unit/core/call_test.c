/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and their replies, over the real routing and a scripted RabbitMQ. */
#include "core/call.h"

#include "core/config_schema.h"
#include "routing_world.h"

#include <stdlib.h>

enum { CALLS = 4 };

#define ADDRESS "amq.rabbitmq.reply-to.here"

struct world {
    struct routing_world core;
    struct hg_session session; /* has no connection, so it is never held */
    struct hg_call *calls[CALLS];
    enum hg_status outcomes[CALLS]; /* HG_STATUS_N: none yet */
    char replies[CALLS][16];
    bool is_silent; /* new brokers do not name an address */
};

static struct world *the;

/* ---- RabbitMQ ---- */

static struct broker *broker(void)
{
    struct broker *last = NULL; /* of the publishing link, which is opened first */
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        struct broker *b = &the->core.sn.links[i]->broker;
        last = the->core.sn.links[i]->is_open && (last == NULL || b->publishes_n > 0) ? b : last;
    }
    assert_non_null(last);
    return last;
}

/* What was published to this key, the newest. */
static struct broker_publish *published(const char *key)
{
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        struct broker *b = &the->core.sn.links[the->core.sn.links_n - 1 - i]->broker;
        for (size_t k = b->publishes_n; k > 0; k--) {
            struct broker_publish *p = &b->publishes[k - 1];
            if (hg_bytes_starts(hg_message_routing_key(p->message), hg_bytes_str(key))) {
                return p;
            }
        }
    }
    return NULL;
}

static const struct hg_properties *asked(const char *key)
{
    assert_non_null(published(key));
    return hg_message_properties(published(key)->message);
}

/* Gives back the request that asks for the address, as RabbitMQ does. */
static void name_address(const char *address)
{
    struct broker_publish *probe = published("headgate.nobody.");
    assert_non_null(probe);
    const struct hg_message_parts parts = {.routing_key = hg_message_routing_key(probe->message),
                                           .properties = {.reply_to = hg_bytes_str(address)}};
    struct hg_message *m = hg_message_new(&parts);
    broker_return(broker(), probe->channel, m);
    hg_message_unref(m);
    seam_net_run(&the->core.sn);
}

static void reply(struct hg_bytes id, const char *body)
{
    const struct hg_message_parts parts = {.properties = {.correlation_id = id},
                                           .body = hg_bytes_str(body)};
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(broker(), published("headgate.nobody.")->channel, "c", 1, false, m);
    hg_message_unref(m);
    seam_net_run(&the->core.sn);
}

/* ---- The world ---- */

static const struct hg_rule_spec rules[] = {
    {.where = "1",
     .name = "all",
     .pattern = {NULL, NULL, "{rest...}"},
     .exchange = "amq.topic",
     .key = "{rest...}",
     .persistent = HG_UNSET},
};

static const struct hg_session_ops session_ops = {.settled = NULL};

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    routing_world_init(&the->core, rules, 1);
    the->core.config.http_rpc_max = CALLS - 1;
    routing_world_open(&the->core, confirm_all);
    hg_session_init(&the->session, &session_ops, HG_PROTO_HTTP, NULL, &the->core.worker);
    seam_net_run(&the->core.sn);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    hg_session_detach(&the->session);
    routing_world_close(&the->core);
    assert_int_equal(hg_counted(&the->core.worker.metrics.call.calls), 0);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static void on_done(void *ctx, enum hg_status outcome, struct hg_bytes reason,
                    struct hg_message *message)
{
    size_t i = (size_t)((struct hg_call **)ctx - the->calls);
    (void)reason;
    assert_int_equal(the->outcomes[i], HG_STATUS_N);
    assert_int_equal(message != NULL, outcome == HG_OK);
    the->outcomes[i] = outcome;
    the->calls[i] = NULL;
    if (message != NULL) {
        snprintf(the->replies[i], sizeof(the->replies[i]), "%.*s",
                 HG_BYTES_FMT(hg_message_body(message)));
    }
}

static enum hg_status begin(size_t i, const char *exchange, const char *key)
{
    const struct hg_publish_args args = {.is_direct = true,
                                         .exchange = hg_bytes_str(exchange),
                                         .key = hg_bytes_str(key),
                                         .properties = {.correlation_id = HG_BYTES("theirs")},
                                         .timeout_ms = 3000};
    const char *why;
    the->outcomes[i] = HG_STATUS_N;
    return hg_call_begin(&the->session, &args, on_done, &the->calls[i], &the->calls[i], &why);
}

static void call(size_t i, const char *exchange, const char *key)
{
    assert_int_equal(begin(i, exchange, key), HG_OK);
    assert_int_equal(the->outcomes[i], HG_STATUS_N); /* never from inside */
    seam_net_run(&the->core.sn);
}

/* The first call asks where replies come, and its client is held, or told BUSY. */
static void get_ready(void)
{
    assert_int_equal(begin(0, "amq.topic", "k"), HG_BUSY);
    seam_net_run(&the->core.sn);
    name_address(ADDRESS);
}

static const struct hg_call_metrics *metrics(void)
{
    return &the->core.worker.metrics.call;
}

/* ---- Tests ---- */

static void a_reply_finds_its_call_whatever_the_order(void **state)
{
    (void)state;
    get_ready();
    call(0, "amq.topic", "a");
    call(1, "amq.topic", "b");
    assert_int_equal(the->outcomes[0], HG_STATUS_N); /* confirmed, and that is no reply */
    assert_text(asked("a")->reply_to, ADDRESS);
    assert_true(hg_message_is_mandatory(published("a")->message));
    assert_false(hg_bytes_eq(asked("a")->correlation_id, asked("b")->correlation_id));
    assert_text(asked("a")->headers[0].name, "x-correlation-id");
    assert_text(asked("a")->headers[0].value.u.bytes, "theirs");
    reply(asked("b")->correlation_id, "to b");
    assert_int_equal(the->outcomes[0], HG_STATUS_N);
    assert_string_equal(the->replies[1], "to b");
    reply(asked("a")->correlation_id, "to a");
    assert_string_equal(the->replies[0], "to a");
    reply(asked("a")->correlation_id, "again");
    reply(HG_BYTES("theirs"), "forged");
    reply(HG_BYTES(""), "");
    assert_int_equal(hg_counted(&metrics()->call_late_replies), 3);
    assert_int_equal(hg_counted(&metrics()->call_replies), 2);
}

static void a_call_ends_once_by_what_comes_first(void **state)
{
    (void)state;
    get_ready();
    call(0, "nowhere", "a"); /* no such exchange; the replies' channel notices nothing */
    assert_int_equal(the->outcomes[0], HG_NO_EXCHANGE);
    call(1, "amq.topic", "b");
    call(2, "amq.topic", "c");
    assert_int_equal(begin(3, "amq.topic", "d"), HG_OK);
    hg_call_forget(the->calls[3]); /* before it was written: it does not go out */
    seam_net_pass(&the->core.sn, 2900);
    assert_int_equal(the->outcomes[1], HG_STATUS_N);
    struct hg_bytes id = asked("b")->correlation_id;
    hg_call_forget(the->calls[2]);
    seam_net_pass(&the->core.sn, 300);
    assert_int_equal(the->outcomes[1], HG_NO_REPLY);
    assert_int_equal(the->outcomes[2], HG_STATUS_N);
    assert_int_equal(the->outcomes[3], HG_STATUS_N);
    assert_null(published("d"));
    reply(id, "late");
    assert_int_equal(hg_counted(&metrics()->call_timeouts), 1);
    assert_int_equal(hg_counted(&metrics()->call_late_replies), 1);
    assert_int_equal(the->core.realm.routing->publisher.held_n, 0);
}

static void no_more_than_so_many_are_under_way(void **state)
{
    (void)state;
    get_ready();
    for (size_t i = 0; i < CALLS - 1; i++) {
        call(i, "amq.topic", "k");
    }
    assert_int_equal(begin(CALLS - 1, "amq.topic", "k"), HG_TOO_MANY);
    reply(asked("k")->correlation_id, "x");
    call(CALLS - 1, "amq.topic", "k");
}

static void a_lost_link_ends_all_and_none_goes_out_again(void **state)
{
    (void)state;
    get_ready();
    call(0, "amq.topic", "confirmed");
    broker()->has_auto_confirm = false;
    call(1, "amq.topic", "unconfirmed");
    assert_int_equal(begin(2, "amq.topic", "unwritten"), HG_OK);
    struct seam_link *link = NULL;
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        link = &the->core.sn.links[i]->broker == broker() ? the->core.sn.links[i] : link;
    }
    size_t before = the->core.sn.links_n;
    seam_net_cut(&the->core.sn, link);
    seam_net_pass(&the->core.sn, 2000);
    assert_int_equal(the->outcomes[0], HG_TIMED_OUT);
    assert_int_equal(the->outcomes[1], HG_TIMED_OUT);
    assert_true(the->outcomes[2] == HG_BROKER_AWAY || the->outcomes[2] == HG_TIMED_OUT);
    assert_true(the->core.sn.links_n > before);
    struct broker *now = &the->core.sn.links[the->core.sn.links_n - 1]->broker;
    assert_int_equal(now->publishes_n, 1); /* the new question for an address, unasked */
    name_address(ADDRESS "2");
    call(3, "amq.topic", "new");
    assert_text(asked("new")->reply_to, ADDRESS "2");
    reply(asked("new")->correlation_id, "x");
    assert_int_equal(the->outcomes[3], HG_OK);
}

static void what_is_blocked_is_taken_back_and_not_sent_late(void **state)
{
    (void)state;
    get_ready();
    call(0, "amq.topic", "first");
    broker_block(broker(), "memory");
    seam_net_run(&the->core.sn);
    call(1, "amq.topic", "second");
    seam_net_pass(&the->core.sn, 3200);
    assert_int_equal(the->outcomes[0], HG_NO_REPLY);
    assert_int_equal(the->outcomes[1], HG_BROKER_AWAY);
    broker_block(broker(), NULL);
    seam_net_pass(&the->core.sn, 1000);
    assert_null(published("second"));
    assert_int_equal(the->core.realm.routing->publisher.held_n, 0);
}

static void an_address_that_cannot_be_had_refuses_for_a_second(void **state)
{
    (void)state;
    assert_int_equal(begin(0, "amq.topic", "k"), HG_BUSY);
    seam_net_run(&the->core.sn);
    name_address("amq.rabbitmq.reply-to"); /* as it was sent */
    assert_int_equal(begin(0, "amq.topic", "k"), HG_REFUSED);
    seam_net_pass(&the->core.sn, 1100);
    get_ready();
    call(0, "amq.topic", "k");
    broker_close_channel(broker(), published("headgate.nobody.")->channel, 403, "no", 0);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->outcomes[0], HG_TIMED_OUT);
    assert_int_equal(begin(0, "amq.topic", "k"), HG_NOT_ALLOWED);
}

static void no_failed_allocation_costs_an_outcome(void **state)
{
    (void)state;
    get_ready();
    for (size_t n = 1; n < 24; n++) {
        seam_fail_alloc(n);
        enum hg_status status = begin(0, "amq.topic", "k");
        seam_net_run(&the->core.sn);
        seam_fail_alloc(0);
        seam_net_pass(&the->core.sn, 6000);
        assert_int_equal(the->outcomes[0] != HG_STATUS_N, status == HG_OK);
        if (hg_replies_address(&the->core.realm.routing->calls.replies, &(struct hg_bytes){0}) !=
            HG_OK) {
            seam_net_run(&the->core.sn);
            name_address(ADDRESS);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reply_finds_its_call_whatever_the_order),
        TEST(a_call_ends_once_by_what_comes_first),
        TEST(no_more_than_so_many_are_under_way),
        TEST(a_lost_link_ends_all_and_none_goes_out_again),
        TEST(what_is_blocked_is_taken_back_and_not_sent_late),
        TEST(an_address_that_cannot_be_had_refuses_for_a_second),
        TEST(no_failed_allocation_costs_an_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
