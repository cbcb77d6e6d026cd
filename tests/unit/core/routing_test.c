/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the feed's messages are handed to, over the real routing and a scripted RabbitMQ: whom the one
 * before it was for, as long as nobody has come or gone. */
#include "routing_world.h"

#include <stdlib.h>

enum { SESSIONS = 3, SUBS = 4 };

struct world {
    struct routing_world core;
    struct hg_session sessions[SESSIONS]; /* without a connection */
    struct hg_sub subs[SUBS];
    uint64_t tag;
    char heard[64]; /* by whom, and of which subscriptions: "0:a 1:b" */
};

static struct world *the;

static void hear(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    size_t n = strlen(the->heard);
    (void)d;
    snprintf(the->heard + n, sizeof(the->heard) - n, "%s%td:", n > 0 ? " " : "", s - the->sessions);
    for (struct hg_sub *it = matches; it != NULL; it = it->next_match) {
        n = strlen(the->heard);
        snprintf(the->heard + n, sizeof(the->heard) - n, "%c", (char)('a' + (it - the->subs)));
    }
}

static void subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                       struct hg_bytes reason)
{
    (void)s;
    (void)sub;
    (void)reason;
    assert_int_equal(outcome, HG_OK);
}

static const struct hg_session_ops session_ops = {.deliver = hear, .subscribed = subscribed};

static const struct hg_rule_spec rules[] = {
    {.where = "1",
     .name = "events",
     .pattern = {"event/{rest...}", NULL, NULL},
     .exchange = "amq.topic",
     .key = "event.{rest...}",
     .persistent = HG_UNSET},
};

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    routing_world_init(&the->core, rules, 1);
    the->core.config.max_subscriptions = SUBS;
    routing_world_open(&the->core, confirm_all);
    for (size_t i = 0; i < SESSIONS; i++) {
        hg_session_init(&the->sessions[i], &session_ops, HG_PROTO_MQTT, NULL, &the->core.worker);
        the->sessions[i].merges_overlaps = true;
    }
    seam_net_run(&the->core.sn);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    for (size_t i = 0; i < SESSIONS; i++) {
        hg_session_detach(&the->sessions[i]);
    }
    routing_world_close(&the->core);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static void subscribe(size_t session, size_t sub, const char *filter)
{
    const char *why = NULL;
    assert_int_equal(
        hg_subscribe_filter(&the->sessions[session], &the->subs[sub], hg_bytes_str(filter), &why),
        HG_OK);
    seam_net_run(&the->core.sn);
}

static struct broker *feeding(void)
{
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        struct hg_bytes log = hg_writer_view(&the->core.sn.links[i]->broker.log);
        if (memmem(log.p, log.n, "basic.consume", 13) != NULL) {
            return &the->core.sn.links[i]->broker;
        }
    }
    fail_msg("nobody consumes");
    return NULL;
}

/* Who hears of one more message. */
static const char *heard_of(const char *key, bool is_redelivered)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                           .routing_key = hg_bytes_str(key),
                                           .body = HG_BYTES("body")};
    struct hg_message *m = hg_message_new(&parts);
    the->heard[0] = '\0';
    broker_deliver(feeding(), 1, "headgate", ++the->tag, is_redelivered, m);
    hg_message_unref(m);
    seam_net_run(&the->core.sn);
    return the->heard;
}

static void it_is_for_whom_the_last_one_was_until_somebody_comes_or_goes(void **state)
{
    (void)state;
    subscribe(0, 0, "event/x");
    subscribe(1, 1, "event/+");
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    assert_string_equal(heard_of("event.y", false), "1:b");
    assert_string_equal(heard_of("event.y", false), "1:b");
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    subscribe(2, 2, "event/x");
    assert_string_equal(heard_of("event.x", false), "0:a 2:c 1:b");
    hg_unsubscribe(&the->subs[0]);
    assert_string_equal(heard_of("event.x", false), "2:c 1:b");
    assert_string_equal(heard_of("event.x", false), "2:c 1:b");
    hg_unsubscribe(&the->subs[1]);
    hg_unsubscribe(&the->subs[2]);
    assert_string_equal(heard_of("event.x", false), "");
}

static void what_is_delivered_again_is_for_those_who_want_it_and_changes_nothing_for_the_next(
    void **state)
{
    (void)state;
    subscribe(0, 0, "event/x");
    subscribe(1, 1, "event/x");
    the->subs[1].takes_redelivered = true;
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    assert_string_equal(heard_of("event.x", true), "1:b");
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    the->subs[0].takes_redelivered = true;
    assert_string_equal(heard_of("event.x", true), "0:a 1:b");
}

static void overlapping_subscriptions_are_joined_each_time(void **state)
{
    (void)state;
    subscribe(0, 0, "event/x");
    subscribe(0, 1, "event/#");
    subscribe(1, 2, "event/x");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(heard_of("event.x", false), "0:ba 1:c");
    }
}

/* A session's queue brings what it matches itself, by the same link of each subscription. */
static void what_else_a_session_matched_meanwhile_is_not_taken_for_this(void **state)
{
    (void)state;
    subscribe(0, 0, "event/x");
    subscribe(0, 1, "event/y");
    assert_string_equal(heard_of("event.x", false), "0:a");
    the->subs[0].next_match = &the->subs[1];
    assert_string_equal(heard_of("event.x", false), "0:a");
}

static void rights_are_asked_for_each_message(void **state)
{
    (void)state;
    subscribe(0, 0, "event/x");
    subscribe(1, 1, "event/x");
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
    the->core.config.has_identities = true; /* and nobody is known */
    the->sessions[1].is_trusted = true;
    assert_string_equal(heard_of("event.x", false), "1:b");
    the->sessions[1].is_trusted = false;
    assert_string_equal(heard_of("event.x", false), "");
    the->core.config.has_identities = false;
    assert_string_equal(heard_of("event.x", false), "0:a 1:b");
}

static void an_address_too_long_to_be_kept_is_matched_each_time(void **state)
{
    (void)state;
    char key[220] = "event.";
    memset(key + 6, 'k', sizeof(key) - 7);
    subscribe(0, 0, "event/+");
    assert_string_equal(heard_of(key, false), "0:a");
    key[sizeof(key) - 2] = 'l';
    assert_string_equal(heard_of(key, false), "0:a");
    assert_string_equal(heard_of("event.x", false), "0:a");
}

#define IN_THE_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_THE_WORLD(it_is_for_whom_the_last_one_was_until_somebody_comes_or_goes),
        IN_THE_WORLD(
            what_is_delivered_again_is_for_those_who_want_it_and_changes_nothing_for_the_next),
        IN_THE_WORLD(overlapping_subscriptions_are_joined_each_time),
        IN_THE_WORLD(what_else_a_session_matched_meanwhile_is_not_taken_for_this),
        IN_THE_WORLD(rights_are_asked_for_each_message),
        IN_THE_WORLD(an_address_too_long_to_be_kept_is_matched_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
