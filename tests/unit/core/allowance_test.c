/* SPDX-License-Identifier: Apache-2.0 */
/* Who comes in, who waits for how long and who is refused, with connections that are only a name and a clock that stands. */
#include "core/allowance.h"

#include "base/mem.h"
#include "core/conn.h"
#include "core/files.h"
#include "seam/seam.h"
#include "seam/unit.h"

struct hg_conn {
    const char *peer;
    struct hg_allowance *allowance;
    unsigned held;
};

struct client { /* a connection and its session */
    struct hg_conn conn;
    struct hg_session session;
};

enum { CLIENTS_N = 4 };

struct world {
    struct hg_config config;
    struct hg_listener_state listeners[2];
    struct hg_listener_spec specs[2];
    struct hg_gateway gateway;
    struct hg_worker worker;
    struct client clients[CLIENTS_N];
    struct hg_rule_meter meter;
    struct hg_rule_spec rule;
};

/* ---- In place of conn.c ---- */

struct hg_allowance **hg_conn_allowance(struct hg_conn *c)
{
    return &c->allowance;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    return c->peer;
}

void hg_conn_hold(struct hg_conn *c, enum hg_hold bit)
{
    c->held |= bit;
}

void hg_conn_release(struct hg_conn *c, enum hg_hold bit)
{
    c->held &= ~(unsigned)bit;
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    (void)s;
    *out = (struct hg_session_info){"1", HG_BYTES("client"), HG_BYTES("anna")};
}

static const struct hg_session_ops ops = {.describe = describe};

/* ---- The world ---- */

static void world_open(struct world *w)
{
    *w = (struct world){.config = {.rate_wait_ms = 5000, .max_tls_handshakes = 100},
                        .rule = {.name = "slow", .meter = &w->meter, .rates = {10, 0, 100}}};
    w->config.listeners = w->specs;
    w->gateway.config = &w->config;
    w->gateway.listeners = w->listeners;
    w->gateway.allowances = hg_allowances_new();
    w->worker.gateway = &w->gateway;
    w->worker.config = &w->config;
    hg_wheel_open(&w->worker.wheel, seam_now_ms);
    for (int i = 0; i < CLIENTS_N; i++) {
        struct client *c = &w->clients[i];
        c->conn.peer = "192.0.2.1:4711";
        c->session = (struct hg_session){.ops = &ops, .conn = &c->conn, .worker = &w->worker};
    }
}

static void leave(struct client *c)
{
    hg_allowance_leave(c->conn.allowance);
    c->conn.allowance = NULL;
}

static void world_close(struct world *w)
{
    for (int i = 0; i < CLIENTS_N; i++) {
        leave(&w->clients[i]);
    }
    assert_int_equal(hg_counted(&w->worker.metrics.rate.rate_waiting), 0);
    hg_allowances_free(w->gateway.allowances);
    assert_int_equal(seam_live(), 0);
}

static void pass_ms(struct world *w, uint64_t ms)
{
    seam_now_ms += ms;
    hg_wheel_advance(&w->worker.wheel, seam_now_ms);
}

static uint64_t refusals(const struct world *w, enum hg_limit limit)
{
    return hg_counted(&w->worker.metrics.limits[limit]);
}

/* ---- Connections ---- */

static void an_address_has_so_many_connections(void **state)
{
    (void)state;
    static const struct {
        const char *peers[3]; /* the third comes when there are two */
        bool is_one;          /* client */
    } rows[] = {
        {{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, true},
        {{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"}, false},
        {{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:0:ffff::]:1"}, true},
        {{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1"}, false},
        {{"[::ffff:192.0.2.1]:1", "192.0.2.1:2", "192.0.2.1:3"}, true},
        {{"here", "there", "elsewhere"}, true}, /* no addresses: all together */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        world_open(&w);
        w.config.max_connections_per_address = 2;
        for (int k = 0; k < 3; k++) {
            enum hg_status want = k == 2 && rows[i].is_one ? HG_TOO_MANY : HG_OK;
            w.clients[k].conn.peer = rows[i].peers[k];
            assert_int_equal(hg_allowance_enter(&w.worker, &w.clients[k].conn), want);
        }
        assert_int_equal(refusals(&w, HG_LIMIT_CONNECTIONS_PER_ADDRESS), rows[i].is_one);
        leave(&w.clients[0]);
        w.clients[3].conn.peer = rows[i].peers[0];
        assert_int_equal(hg_allowance_enter(&w.worker, &w.clients[3].conn), HG_OK);
        world_close(&w);
    }
}

static void what_is_not_limited_costs_nothing(void **state)
{
    (void)state;
    struct world w;
    const char *why = NULL;
    world_open(&w);
    struct client *c = &w.clients[0];
    w.rule.meter = NULL;
    assert_int_equal(hg_allowance_enter(&w.worker, &c->conn), HG_OK);
    assert_int_equal(hg_allowance_be_user(&c->session, HG_BYTES("anna"), &why), HG_OK);
    assert_int_equal(hg_allowance_pay(&c->session, NULL, 1, HG_PATIENCE_WAITS, &why), HG_OK);
    assert_int_equal(hg_allowance_pay(&c->session, &w.rule, 1, HG_PATIENCE_WAITS, &why), HG_OK);
    hg_allowance_paid(&c->session);
    assert_true(hg_allowance_may_shake(&w.worker));
    assert_null(c->conn.allowance);
    world_close(&w);
}

static void a_connection_counts_for_its_last_user(void **state)
{
    (void)state;
    struct world w;
    const char *why = NULL;
    world_open(&w);
    w.config.max_connections_per_user = 1;
    struct hg_session *first = &w.clients[0].session, *second = &w.clients[1].session;
    assert_int_equal(hg_allowance_be_user(first, HG_BYTES("anna"), &why), HG_OK);
    assert_int_equal(hg_allowance_be_user(first, HG_BYTES("anna"), &why), HG_OK);
    assert_int_equal(hg_allowance_be_user(second, HG_BYTES("anna"), &why), HG_TOO_MANY);
    assert_non_null(why);
    assert_int_equal(hg_allowance_be_user(second, HG_BYTES(""), &why), HG_OK);
    assert_int_equal(hg_allowance_be_user(first, HG_BYTES("bert"), &why), HG_OK);
    assert_int_equal(hg_allowance_be_user(second, HG_BYTES("anna"), &why), HG_OK);
    assert_int_equal(hg_tally_n(w.gateway.allowances->users), 2);
    leave(&w.clients[0]);
    assert_int_equal(hg_tally_n(w.gateway.allowances->users), 1);
    assert_int_equal(refusals(&w, HG_LIMIT_CONNECTIONS_PER_USER), 1);
    world_close(&w);
}

static void handshakes_are_limited_at_once_and_by_rate(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.config.tls_handshake_rate = 2;
    assert_true(hg_allowance_may_shake(&w.worker) && hg_allowance_may_shake(&w.worker));
    assert_false(hg_allowance_may_shake(&w.worker));
    pass_ms(&w, 500);
    assert_true(hg_allowance_may_shake(&w.worker));
    assert_false(hg_allowance_may_shake(&w.worker));
    assert_int_equal(refusals(&w, HG_LIMIT_TLS_HANDSHAKE_RATE), 2);
    pass_ms(&w, 5000);
    w.worker.net.tls_shaking_n = 100;
    assert_false(hg_allowance_may_shake(&w.worker));
    assert_int_equal(refusals(&w, HG_LIMIT_TLS_HANDSHAKES), 1);
    world_close(&w);
}

static void the_gates_follow_the_configuration(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.config.listeners_n = 2;
    w.config.max_connections = 7;
    w.specs[0] = (struct hg_listener_spec){.serve = HG_SERVE_MQTT, .max_connections = 5};
    w.specs[1] = (struct hg_listener_spec){.serve = HG_SERVE_ADMIN, .max_connections = 3};
    hg_allowances_apply(&w.gateway, &w.config);
    assert_int_equal(w.listeners[0].gate.max_n, 5);
    assert_ptr_equal(w.listeners[0].gate.outer, &w.gateway.allowances->connections);
    assert_int_equal(w.listeners[1].gate.max_n, 3);
    assert_null(w.listeners[1].gate.outer);
    assert_int_equal(w.gateway.allowances->connections.max_n, 7);
    world_close(&w);
}

static void files_are_needed_for_all_who_may_come(void **state)
{
    (void)state;
    static const struct hg_listener_spec listeners[] = {
        {.serve = HG_SERVE_WEB, .max_connections = UINT32_MAX},
        {.serve = HG_SERVE_MQTT, .max_connections = 500},
        {.serve = HG_SERVE_ADMIN, .max_connections = 30},
    };
    static const struct {
        uint32_t max_connections;
        uint64_t clients;
    } rows[] = {{0, (uint64_t)UINT32_MAX + 500 + 30}, {1000, 1000 + 30}, {1, 1 + 30}};
    struct hg_config config = {.workers = 1, .vhosts_n = 1};
    uint64_t own = hg_files_needed(&config);
    config.workers = 2;
    assert_true(hg_files_needed(&config) > own && own > 0);
    config.listeners = listeners;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        config.listeners_n = 0;
        own = hg_files_needed(&config);
        config.listeners_n = sizeof(listeners) / sizeof(listeners[0]);
        config.max_connections = rows[i].max_connections;
        assert_int_equal(hg_files_needed(&config) - own,
                         rows[i].clients + config.workers * config.listeners_n);
    }
}

/* ---- Rates ---- */

static enum hg_status charge(struct world *w, int client, bool is_rule)
{
    const char *why = NULL;
    return hg_allowance_pay(&w->clients[client].session, is_rule ? &w->rule : NULL, 0,
                            HG_PATIENCE_WAITS, &why);
}

static void a_client_is_held_until_its_turn_and_pays_once(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.config.client_rates = (struct hg_rates){.messages_per_s = 2, .burst_ms = 500};
    struct client *c = &w.clients[0];
    assert_int_equal(charge(&w, 0, false), HG_OK);
    assert_int_equal(charge(&w, 0, false), HG_OK); /* the same message, held by something else */
    hg_allowance_paid(&c->session);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(charge(&w, 0, false), HG_HELD);
        assert_int_equal(c->conn.held, HG_HOLD_RATE);
        assert_int_equal(hg_counted(&w.worker.metrics.rate.rate_waiting), 1);
        pass_ms(&w, 300);
        assert_int_equal(c->conn.held, HG_HOLD_RATE);
        assert_int_equal(charge(&w, 0, false), HG_HELD);
        pass_ms(&w, 200 + HG_WHEEL_TICK_MS);
        assert_int_equal(c->conn.held, 0);
        assert_int_equal(charge(&w, 0, false), HG_OK);
        hg_allowance_paid(&c->session);
    }
    assert_int_equal(charge(&w, 1, false), HG_OK); /* another has a bucket of its own */
    assert_int_equal(hg_counted(&w.worker.metrics.rate.rate_held), 3);
    assert_int_equal(refusals(&w, HG_LIMIT_MESSAGE_RATE), 0);
    world_close(&w);
}

static void clients_of_a_rule_pass_in_the_order_in_which_they_came(void **state)
{
    (void)state;
    struct world w;
    world_open(&w); /* 10 a second, one at once */
    assert_int_equal(charge(&w, 0, true), HG_OK);
    for (int i = 1; i < CLIENTS_N; i++) {
        assert_int_equal(charge(&w, i, true), HG_HELD);
    }
    for (int turn = 1; turn < CLIENTS_N; turn++) {
        pass_ms(&w, 100);
        for (int i = CLIENTS_N - 1; i >= turn; i--) { /* whoever is woken first */
            assert_int_equal(charge(&w, i, true), i == turn ? HG_OK : HG_HELD);
        }
    }
    assert_int_equal(w.meter.held_n, 3);
    assert_int_equal(w.meter.refused_n, 0);
    world_close(&w);
}

static void who_would_wait_too_long_waits_and_is_refused(void **state)
{
    (void)state;
    struct world w;
    const char *why = NULL;
    world_open(&w);
    w.config.rate_wait_ms = 1000;
    w.rule.rates = (struct hg_rates){.bytes_per_s = 10, .burst_ms = 1000};
    struct hg_session *s = &w.clients[0].session;
    assert_int_equal(hg_allowance_pay(s, &w.rule, 500, HG_PATIENCE_WAITS, &why), HG_OK);
    hg_allowance_paid(s);
    assert_int_equal(hg_allowance_pay(s, &w.rule, 1, HG_PATIENCE_WAITS, &why), HG_HELD);
    assert_null(why);
    pass_ms(&w, 1000 + HG_WHEEL_TICK_MS);
    assert_int_equal(w.clients[0].conn.held, 0);
    assert_int_equal(hg_allowance_pay(s, &w.rule, 1, HG_PATIENCE_WAITS, &why), HG_TOO_FAST);
    assert_non_null(why);
    assert_int_equal(hg_allowance_retry_after_s(s), 49);
    assert_int_equal(refusals(&w, HG_LIMIT_RULE_RATE), 1);
    assert_int_equal(w.meter.refused_n, 1);
    /* What was refused has taken nothing. */
    pass_ms(&w, 48000);
    assert_int_equal(hg_allowance_pay(s, &w.rule, 1, HG_PATIENCE_WAITS, &why), HG_HELD);
    pass_ms(&w, 1000);
    assert_int_equal(hg_allowance_pay(s, &w.rule, 1, HG_PATIENCE_WAITS, &why), HG_OK);
    world_close(&w);
}

static void who_may_not_wait_is_told_at_once(void **state)
{
    (void)state;
    static const struct {
        enum hg_patience patience;
        unsigned counted;
    } rows[] = {{HG_PATIENCE_ASKS, 0}, {HG_PATIENCE_NONE, 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        const char *why = NULL;
        world_open(&w);
        w.config.client_rates = (struct hg_rates){.messages_per_s = 1, .burst_ms = 1000};
        struct hg_session *s = &w.clients[0].session;
        assert_int_equal(hg_allowance_pay(s, NULL, 0, rows[i].patience, &why), HG_OK);
        assert_int_equal(hg_allowance_pay(s, NULL, 0, rows[i].patience, &why), HG_TOO_FAST);
        assert_int_equal(refusals(&w, HG_LIMIT_MESSAGE_RATE), rows[i].counted);
        assert_int_equal(w.clients[0].conn.held, 0);
        /* One that waits keeps its place whatever these do. */
        assert_int_equal(hg_allowance_pay(s, NULL, 0, HG_PATIENCE_WAITS, &why), HG_HELD);
        assert_int_equal(hg_allowance_pay(s, NULL, 0, rows[i].patience, &why), HG_TOO_FAST);
        pass_ms(&w, 1000);
        assert_int_equal(hg_allowance_pay(s, NULL, 0, HG_PATIENCE_WAITS, &why), HG_OK);
        world_close(&w);
    }
}

static void a_client_that_waits_for_a_rule_has_paid_its_own_rate(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.config.client_rates = (struct hg_rates){.messages_per_s = 1, .burst_ms = 2000};
    assert_int_equal(charge(&w, 1, true), HG_OK);
    for (int i = 0; i < 3; i++) { /* as often as the packet comes again */
        assert_int_equal(charge(&w, 0, false), HG_OK);
        assert_int_equal(charge(&w, 0, true), HG_HELD);
    }
    pass_ms(&w, 100);
    assert_int_equal(charge(&w, 0, false), HG_OK);
    assert_int_equal(charge(&w, 0, true), HG_OK);
    hg_allowance_paid(&w.clients[0].session);
    assert_int_equal(charge(&w, 0, false), HG_OK); /* the second of its two */
    world_close(&w);
}

static void a_session_without_a_connection_is_not_charged(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.clients[0].session.conn = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(charge(&w, 0, true), HG_OK);
        hg_allowance_paid(&w.clients[0].session);
    }
    assert_int_equal(hg_allowance_retry_after_s(&w.clients[0].session), 1);
    world_close(&w);
}

static void without_memory_nobody_comes_in(void **state)
{
    (void)state;
    const char *why = NULL;
    for (size_t nth = 1; nth <= 3; nth++) {
        seam_fail_alloc(nth);
        assert_null(hg_allowances_new());
        seam_fail_alloc(0);
        assert_int_equal(seam_live(), 0);
    }
    struct world w;
    world_open(&w);
    w.config.max_connections_per_address = w.config.max_connections_per_user = 1;
    seam_fail_allocs_from(1);
    assert_int_equal(hg_allowance_enter(&w.worker, &w.clients[0].conn), HG_NO_MEMORY);
    assert_int_equal(hg_allowance_be_user(&w.clients[0].session, HG_BYTES("a"), &why),
                     HG_NO_MEMORY);
    assert_int_equal(charge(&w, 0, true), HG_NO_MEMORY);
    seam_fail_allocs_from(0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_so_many_connections),
        cmocka_unit_test(what_is_not_limited_costs_nothing),
        cmocka_unit_test(a_connection_counts_for_its_last_user),
        cmocka_unit_test(handshakes_are_limited_at_once_and_by_rate),
        cmocka_unit_test(the_gates_follow_the_configuration),
        cmocka_unit_test(files_are_needed_for_all_who_may_come),
        cmocka_unit_test(a_client_is_held_until_its_turn_and_pays_once),
        cmocka_unit_test(clients_of_a_rule_pass_in_the_order_in_which_they_came),
        cmocka_unit_test(who_would_wait_too_long_waits_and_is_refused),
        cmocka_unit_test(who_may_not_wait_is_told_at_once),
        cmocka_unit_test(a_client_that_waits_for_a_rule_has_paid_its_own_rate),
        cmocka_unit_test(a_session_without_a_connection_is_not_charged),
        cmocka_unit_test(without_memory_nobody_comes_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
