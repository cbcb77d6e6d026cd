/* SPDX-License-Identifier: Apache-2.0 */
/* Users' own realms: opened once, shared, closed when unused, and ended when RabbitMQ refuses the
 * user. The broker takes the password "guest", whoever says it. */
#include "core/own.h"

#include "core/login_priv.h"
#include "routing_world.h"

#include <stdlib.h>

enum { SESSIONS = 4, IDLE_MS = 5000 };

static struct {
    struct routing_world core;
    struct hg_session sessions[SESSIONS];
    struct hg_sub sub;
    const struct hg_sub *refused; /* another one, which will be */
    unsigned expired_n, forgotten_n;
    enum hg_status subscribed;
    bool is_feed_refused, is_binding_refused;
} * the;

/* ---- What is called of the rest of the core ---- */

void hg_login_forget_user(struct hg_worker *w, struct hg_bytes user)
{
    assert_ptr_equal(w, &the->core.worker);
    assert_text(user, "alice");
    the->forgotten_n++;
}

void hg_conn_each(struct hg_worker *w, hg_conn_each_fn *each, void *ctx)
{
    assert_ptr_equal(w, &the->core.worker);
    for (size_t i = 0; i < SESSIONS; i++) {
        each(ctx, &the->sessions[i]);
    }
}

static void on_expired(struct hg_session *s, enum hg_status why)
{
    assert_int_equal(why, HG_NOT_ALLOWED);
    the->expired_n++;
    hg_session_detach(s);
    hg_own_leave(s);
}

static void on_subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                          struct hg_bytes reason)
{
    (void)s;
    (void)reason;
    assert_true(sub == &the->sub || sub == the->refused);
    if (sub == &the->sub) {
        the->subscribed = outcome;
    }
}

static const struct hg_session_ops session_ops = {.expired = on_expired,
                                                  .subscribed = on_subscribed};

/* ---- The world ---- */

static const struct hg_rule_spec rules[] = {
    {.where = "1",
     .name = "all",
     .pattern = {"{rest...}", NULL, NULL},
     .exchange = "amq.topic",
     .key = "{rest...}",
     .persistent = HG_UNSET},
};

/* As RabbitMQ does who may not declare that. */
static bool on_method(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id == AMQP_QUEUE_DECLARE_METHOD && the->is_feed_refused) {
        broker_close_channel(b, method->channel, 403, "ACCESS_REFUSED - access to queue refused",
                             AMQP_QUEUE_DECLARE_METHOD);
        return true;
    }
    if (method->id == AMQP_EXCHANGE_BIND_METHOD && the->is_binding_refused) {
        broker_close_channel(b, method->channel, 403, "ACCESS_REFUSED - access to exchange refused",
                             AMQP_EXCHANGE_BIND_METHOD);
        return true;
    }
    return false;
}

static void prepare(struct broker *b)
{
    confirm_all(b);
    b->on_method = on_method;
}

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    routing_world_init(&the->core, rules, 1);
    the->core.config.users.own_connection_idle_ms = IDLE_MS;
    the->core.config.users.own_connections_max = 2;
    routing_world_open(&the->core, prepare);
    for (size_t i = 0; i < SESSIONS; i++) {
        hg_session_init(&the->sessions[i], &session_ops, HG_PROTO_MQTT, NULL, &the->core.worker);
    }
    the->subscribed = HG_STATUS_N;
    seam_net_run(&the->core.sn);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    for (size_t i = 0; i < SESSIONS; i++) {
        hg_session_detach(&the->sessions[i]);
        hg_own_leave(&the->sessions[i]);
    }
    hg_own_close(&the->core.worker);
    routing_world_close(&the->core);
    assert_int_equal(hg_counted(&the->core.worker.metrics.login.own_realms), 0);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static enum hg_status enter(size_t i, const char *user, const char *password, bool is_fresh)
{
    const char *why = NULL;
    enum hg_status status =
        hg_own_enter(&the->sessions[i], hg_bytes_str(user), hg_bytes_str(password), is_fresh, &why);
    assert_true(why != NULL || status == HG_OK || status == HG_NO_MEMORY);
    seam_net_run(&the->core.sn);
    return status;
}

static struct hg_realm *realm_of(size_t i)
{
    return hg_realm_of(&the->sessions[i]);
}

static size_t open_links(void)
{
    size_t n = 0;
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        n += the->core.sn.links[i]->is_open && !the->core.sn.links[i]->is_closed;
    }
    return n;
}

static uint64_t realms(void)
{
    return hg_counted(&the->core.worker.metrics.login.own_realms);
}

/* ---- Tests ---- */

static void clients_of_one_user_share_what_the_first_has_opened(void **state)
{
    (void)state;
    size_t before = open_links();
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    assert_int_equal(enter(1, "alice", "guest", false), HG_OK);
    assert_int_equal(enter(2, "bob", "guest", true), HG_OK);
    assert_ptr_equal(realm_of(0), realm_of(1));
    assert_ptr_not_equal(realm_of(0), realm_of(2));
    assert_ptr_equal(realm_of(0)->home, &the->core.realm);
    assert_ptr_equal(realm_of(3), &the->core.realm);
    assert_int_equal(open_links(), before + 2); /* each publishes; nobody has subscribed */
    assert_int_equal(realms(), 2);
    assert_int_equal(hg_counted(&the->core.worker.metrics.login.own_realms_opened), 2);
    hg_own_follow(&the->sessions[3], &the->sessions[2]);
    assert_ptr_equal(realm_of(3), realm_of(2));
}

static void it_closes_when_nobody_has_used_it_for_a_while(void **state)
{
    (void)state;
    size_t before = open_links();
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    struct hg_realm *realm = realm_of(0);
    hg_own_leave(&the->sessions[0]);
    assert_ptr_equal(realm_of(0), &the->core.realm);
    seam_net_pass(&the->core.sn, IDLE_MS / 2);
    assert_int_equal(enter(1, "alice", "guest", true), HG_OK); /* it is still there */
    assert_ptr_equal(realm_of(1), realm);
    seam_net_pass(&the->core.sn, 2 * IDLE_MS);
    assert_int_equal(realms(), 1);
    hg_own_leave(&the->sessions[1]);
    seam_net_pass(&the->core.sn, 2 * IDLE_MS);
    assert_int_equal(realms(), 0);
    assert_int_equal(open_links(), before);
    assert_int_equal(the->core.worker.realms_end, the->core.worker.realms_n);
    assert_int_equal(enter(1, "alice", "guest", true), HG_OK);
    assert_int_equal(realms(), 1);
}

static void one_user_too_many_is_busy_until_another_has_gone(void **state)
{
    (void)state;
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    assert_int_equal(enter(1, "bob", "guest", true), HG_OK);
    assert_int_equal(enter(2, "carol", "guest", true), HG_BUSY);
    assert_ptr_equal(realm_of(2), &the->core.realm);
    assert_int_equal(hg_counted(&the->core.worker.metrics.limits[HG_LIMIT_OWN_CONNECTIONS]), 1);
    assert_int_equal(enter(2, "bob", "guest", true), HG_OK);
    hg_own_leave(&the->sessions[0]);
    seam_net_pass(&the->core.sn, 2 * IDLE_MS);
    assert_int_equal(enter(0, "carol", "guest", true), HG_OK); /* in the place that was left */
    assert_int_equal(the->core.worker.realms_end, 3);
}

static void only_a_password_that_rabbitmq_found_good_just_now_counts_later(void **state)
{
    (void)state;
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    const struct hg_own *own = hg_own_of(realm_of(0));
    assert_int_equal(enter(1, "alice", "of yesterday", false), HG_OK);
    assert_string_equal(own->password, "guest");
    assert_int_equal(enter(1, "alice", "new", true), HG_OK);
    assert_string_equal(own->password, "new");
    assert_ptr_equal(own->endpoints[0].password, own->password);
    assert_string_equal(own->endpoints[0].user, "alice");
}

static void whom_rabbitmq_refuses_later_is_ended_and_may_come_again(void **state)
{
    (void)state;
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    struct seam_link *link = seam_net_last(&the->core.sn);
    assert_int_equal(enter(1, "alice", "wrong", true), HG_OK);
    assert_int_equal(enter(2, "bob", "guest", true), HG_OK);
    seam_net_cut(&the->core.sn, link);
    seam_net_pass(&the->core.sn, 1000);
    assert_int_equal(the->expired_n, 2);
    assert_int_equal(the->forgotten_n, 1);
    assert_int_equal(hg_counted(&the->core.worker.metrics.login.own_realms_refused), 1);
    assert_int_equal(realms(), 1); /* bob's */
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    assert_int_equal(realms(), 2);
}

static void a_feed_is_opened_for_the_first_binding_and_its_refusal_is_told(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    size_t before = open_links();
    the->is_feed_refused = true;
    assert_int_equal(hg_subscribe_filter(&the->sessions[0], &the->sub, HG_BYTES("a/b"), &why),
                     HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(open_links(), before + 1);
    assert_int_equal(the->subscribed, HG_NOT_ALLOWED);
    assert_null(the->sub.session);
    seam_net_pass(&the->core.sn, 10000);
    assert_int_equal(open_links(), before + 1); /* it is not asked for again by itself */
    the->is_feed_refused = false;
    assert_int_equal(hg_subscribe_filter(&the->sessions[0], &the->sub, HG_BYTES("a/b"), &why),
                     HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->subscribed, HG_OK);
    assert_true(strncmp(realm_of(0)->routing->feed.queue, "headgate.user.alice.feed.gw.", 28) == 0);
    assert_int_equal(the->core.realm.routing->feed.bindings.map.n, 0);
}

static void a_binding_that_may_not_be_made_again_ends_the_users_sessions(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_int_equal(enter(0, "alice", "guest", true), HG_OK);
    assert_int_equal(enter(1, "bob", "guest", true), HG_OK);
    assert_int_equal(hg_subscribe_filter(&the->sessions[0], &the->sub, HG_BYTES("a/b"), &why),
                     HG_OK);
    seam_net_run(&the->core.sn);
    assert_int_equal(the->subscribed, HG_OK);
    the->is_binding_refused = true;
    struct hg_sub another = {0};
    assert_int_equal(hg_subscribe_filter(&the->sessions[0], &another, HG_BYTES("c"), &why), HG_OK);
    the->refused = &another;
    seam_net_run(&the->core.sn);
    assert_null(another.session);
    assert_int_equal(the->expired_n, 0); /* what nobody relies on is refused to who wants it */
    seam_net_cut(&the->core.sn, seam_net_last(&the->core.sn)); /* the feed's */
    seam_net_pass(&the->core.sn, 1000);
    assert_int_equal(the->expired_n, 1);
    assert_int_equal(hg_counted(&the->core.worker.metrics.login.own_realms_refused), 1);
    assert_int_equal(realms(), 1); /* bob's */
}

static void names_do_not_meet(void **state)
{
    (void)state;
    static const struct {
        const char *user, *prefix; /* NULL: it is too long */
    } rows[] = {
        {"a-B_9@x", "headgate.user.a-B_9@x."},
        {"a.b", "headgate.user.a%2Eb."},
        {"%", "headgate.user.%25."},
        {"\xc3\xa9", "headgate.user.%C3%A9."},
        {"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
         "12345",
         "headgate.user.012345678901234567890123456789012345678901234567890123456789012345678901234"
         "567890123456789012345."},
        {"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
         "1234567",
         NULL},
        {"012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
         "01234.",
         NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum hg_status status = enter(0, rows[i].user, "guest", true);
        assert_int_equal(status, rows[i].prefix != NULL ? HG_OK : HG_BAD_LOGIN);
        if (rows[i].prefix != NULL) {
            assert_string_equal(hg_own_prefix(realm_of(0)), rows[i].prefix);
        }
        hg_own_leave(&the->sessions[0]);
        seam_net_pass(&the->core.sn, 2 * IDLE_MS);
    }
    assert_string_equal(hg_own_prefix(&the->core.realm), "headgate.");
}

static void without_memory_nobody_enters_and_nothing_is_left(void **state)
{
    (void)state;
    enum hg_status status = HG_NO_MEMORY;
    for (size_t n = 1; status != HG_OK; n++) {
        const char *why = NULL;
        seam_fail_allocs_from(n);
        status = hg_own_enter(&the->sessions[0], HG_BYTES("alice"), HG_BYTES("guest"), true, &why);
        seam_fail_allocs_from(0);
        assert_true(status == HG_OK || status == HG_NO_MEMORY);
        assert_int_equal(realms(), status == HG_OK);
        seam_net_run(&the->core.sn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
        TEST(clients_of_one_user_share_what_the_first_has_opened),
        TEST(it_closes_when_nobody_has_used_it_for_a_while),
        TEST(one_user_too_many_is_busy_until_another_has_gone),
        TEST(only_a_password_that_rabbitmq_found_good_just_now_counts_later),
        TEST(whom_rabbitmq_refuses_later_is_ended_and_may_come_again),
        TEST(a_feed_is_opened_for_the_first_binding_and_its_refusal_is_told),
        TEST(a_binding_that_may_not_be_made_again_ends_the_users_sessions),
        TEST(names_do_not_meet),
        TEST(without_memory_nobody_enters_and_nothing_is_left),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
