/* SPDX-License-Identifier: Apache-2.0 */
/* Who is counted where, and who waits until a bucket has filled up. */
#include "core/allowance.h"

#include "base/clock.h"
#include "base/inet.h"
#include "base/mem.h"
#include "core/conn.h"

enum { NS_PER_MS = 1000000, MS_PER_S = 1000, USER_MAX_BYTES = 255 };

/* How far the message at hand has come with one of its two rates. */
enum toll {
    TOLL_DUE,
    TOLL_QUEUED, /* taken from the bucket, and waits for its turn */
    TOLL_VAIN,   /* its turn would come too late: it waits, and is refused */
    TOLL_PAID
};

struct hg_allowance {
    struct hg_worker *worker;
    struct hg_conn *conn;
    struct hg_tally_entry *address, *user; /* NULL: not counted */
    struct hg_meters meters;               /* the client's own */
    struct hg_timer timer;
    uint64_t due_ms;        /* of the one toll that is QUEUED or VAIN */
    uint32_t retry_after_s; /* of the last that was refused */
    uint8_t tolls[2];       /* enum toll: the client's, the rule's */
};

/* ---- The process's part ---- */

struct hg_allowances *hg_allowances_new(void)
{
    struct hg_allowances *all = hg_zalloc(sizeof(*all));
    if (all == NULL) {
        return NULL;
    }
    all->addresses = hg_tally_new();
    all->users = hg_tally_new();
    if (all->addresses == NULL || all->users == NULL) {
        hg_allowances_free(all);
        return NULL;
    }
    return all;
}

void hg_allowances_free(struct hg_allowances *all)
{
    if (all != NULL) {
        hg_tally_free(all->addresses);
        hg_tally_free(all->users);
        hg_free(all);
    }
}

void hg_allowances_apply(struct hg_gateway *g, const struct hg_config *config)
{
    atomic_store_explicit(&g->allowances->connections.max_n, config->max_connections,
                          memory_order_relaxed);
    for (size_t i = 0; i < config->listeners_n; i++) {
        bool is_counted = config->listeners[i].serve != HG_SERVE_ADMIN;
        struct hg_gate *gate = &g->listeners[i].gate;
        atomic_store_explicit(&gate->max_n, config->listeners[i].max_connections,
                              memory_order_relaxed);
        if (is_counted && gate->outer == NULL) { /* at the start: others read it later on */
            gate->outer = &g->allowances->connections;
        }
    }
}

/* ---- A connection's part ---- */

static void end_wait(struct hg_allowance *a)
{
    hg_uncount(&a->worker->metrics.rate.rate_waiting, 1);
    hg_conn_release(a->conn, HG_HOLD_RATE);
}

static void on_timer(struct hg_timer *timer)
{
    end_wait(HG_CONTAINER_OF(timer, struct hg_allowance, timer));
}

static void stop_waiting(struct hg_allowance *a)
{
    if (a->timer.due_ms != 0) {
        hg_timer_stop(&a->timer);
        end_wait(a);
    }
}

static struct hg_allowance *allowance_of(struct hg_worker *w, struct hg_conn *c)
{
    struct hg_allowance **place = hg_conn_allowance(c);
    if (*place == NULL && (*place = hg_zalloc(sizeof(**place))) != NULL) {
        (*place)->worker = w;
        (*place)->conn = c;
        hg_timer_init(&(*place)->timer, on_timer);
    }
    return *place;
}

void hg_allowance_leave(struct hg_allowance *allowance_own)
{
    struct hg_allowance *a = allowance_own;
    if (a != NULL) {
        const struct hg_allowances *all = a->worker->gateway->allowances;
        stop_waiting(a);
        hg_tally_remove(all->addresses, a->address);
        hg_tally_remove(all->users, a->user);
        hg_free(a);
    }
}

/* ---- Connections ---- */

enum hg_status hg_allowance_enter(struct hg_worker *w, struct hg_conn *c)
{
    uint32_t max_n = w->config->max_connections_per_address;
    uint8_t bytes[HG_INET_CLIENT_BYTES];
    if (max_n == 0) {
        return HG_OK;
    }
    struct hg_allowance *a = allowance_of(w, c);
    if (a == NULL) {
        return HG_NO_MEMORY;
    }
    const char *peer = hg_conn_peer(c);
    struct hg_bytes client = hg_bytes(bytes, hg_inet_client(peer, bytes));
    enum hg_status status =
        hg_tally_add(w->gateway->allowances->addresses, client, max_n, &a->address);
    if (status == HG_TOO_MANY) {
        hg_worker_refused(w, HG_LIMIT_CONNECTIONS_PER_ADDRESS);
        HG_LOG_LIMITED(w->log, HG_LOG_WARN, "connection.refused", client, HG_F_STR("peer", peer),
                       HG_F_STR("limit", "limits.max_connections_per_address"),
                       HG_F_UINT("max", max_n));
    }
    return status;
}

bool hg_allowance_may_shake(struct hg_worker *w)
{
    const struct hg_rates rates = {.messages_per_s = w->config->tls_handshake_rate,
                                   .burst_ms = MS_PER_S};
    struct hg_meters *shared = &w->gateway->allowances->handshakes;
    if (w->net.tls_shaking_n >= w->config->max_tls_handshakes) {
        hg_worker_refused(w, HG_LIMIT_TLS_HANDSHAKES);
        return false;
    }
    if (!hg_rates_are_set(&rates)) {
        return true;
    }
    if (hg_meters_wait_ns(shared, &rates, 0, hg_clock_ms()) > 0) {
        hg_worker_refused(w, HG_LIMIT_TLS_HANDSHAKE_RATE);
        return false;
    }
    hg_meters_take(shared, &rates, 0, hg_clock_ms());
    return true;
}

enum hg_status hg_allowance_be_user(struct hg_session *s, struct hg_bytes user,
                                    const char **why_out)
{
    struct hg_worker *w = s->worker;
    struct hg_tally *users = w->gateway->allowances->users;
    uint32_t max_n = w->config->max_connections_per_user;
    if (max_n == 0 || s->conn == NULL) {
        return HG_OK;
    }
    struct hg_allowance *a = allowance_of(w, s->conn);
    if (a == NULL) {
        return HG_NO_MEMORY;
    }
    user.n = user.n < USER_MAX_BYTES ? user.n : USER_MAX_BYTES;
    if (a->user != NULL && hg_tally_is_of(a->user, user)) {
        return HG_OK;
    }
    hg_tally_remove(users, a->user);
    a->user = NULL;
    enum hg_status status = user.n == 0 ? HG_OK : hg_tally_add(users, user, max_n, &a->user);
    if (status == HG_TOO_MANY) {
        hg_worker_refused(w, HG_LIMIT_CONNECTIONS_PER_USER);
        *why_out = "the user has as many connections as limits.max_connections_per_user allows";
    }
    return status;
}

/* ---- Rates ---- */

/* Which of the two is to blame. */
static enum hg_limit limit_of(const struct hg_rule_spec *rule, const struct hg_meters *meters,
                              const struct hg_rates *rates, uint64_t now_ms)
{
    struct hg_rates messages = *rates;
    messages.bytes_per_s = 0;
    return rule != NULL                                          ? HG_LIMIT_RULE_RATE
           : hg_meters_wait_ns(meters, &messages, 0, now_ms) > 0 ? HG_LIMIT_MESSAGE_RATE
                                                                 : HG_LIMIT_BYTE_RATE;
}

static enum hg_status refuse(struct hg_session *s, struct hg_allowance *a,
                             const struct hg_rule_spec *rule, enum hg_limit limit, uint64_t wait_ns,
                             enum hg_patience patience, const char **why_out)
{
    struct hg_worker *w = s->worker;
    struct hg_session_info info = {0};
    const char *peer = hg_conn_peer(s->conn);
    a->retry_after_s = (uint32_t)(wait_ns / NS_PER_MS / MS_PER_S) + 1;
    *why_out = rule != NULL ? "all clients together publish faster than the rule's rate"
                            : "the client publishes faster than its rate";
    if (patience == HG_PATIENCE_ASKS) {
        return HG_TOO_FAST;
    }
    s->ops->describe(s, &info);
    hg_worker_refused(w, limit);
    if (rule != NULL) {
        atomic_fetch_add_explicit(&rule->meter->refused_n, 1, memory_order_relaxed);
    }
    HG_LOG_LIMITED_BY(
        w->log, HG_LOG_WARN, "rate.exceeded", rule == NULL ? "" : rule->name, hg_bytes_str(peer),
        HG_F_STR("protocol", hg_protocol_name((enum hg_protocol)s->proto)),
        HG_F_BYTES("client", info.client_id), HG_F_BYTES("user", info.user), HG_F_STR("peer", peer),
        HG_F_STR("limit", hg_limit_name(limit)), HG_F_STR("rule", rule == NULL ? "" : rule->name),
        HG_F_UINT("retry_after_s", a->retry_after_s));
    return HG_TOO_FAST;
}

/* Its place in the queue is what it has taken: whoever comes later waits behind it. */
static enum hg_status wait_for(struct hg_session *s, struct hg_allowance *a,
                               const struct hg_rule_spec *rule, uint64_t wait_ns, uint64_t now_ms)
{
    struct hg_worker *w = s->worker;
    uint64_t most_ms = w->config->rate_wait_ms;
    uint64_t wait_ms = (wait_ns + NS_PER_MS - 1) / NS_PER_MS;
    hg_count(&w->metrics.rate.rate_held, 1);
    hg_count(&w->metrics.rate.rate_waiting, 1);
    if (rule != NULL) {
        atomic_fetch_add_explicit(&rule->meter->held_n, 1, memory_order_relaxed);
    }
    a->due_ms = now_ms + (wait_ms < most_ms ? wait_ms : most_ms);
    hg_wheel_set(&w->wheel, &a->timer, a->due_ms);
    hg_conn_hold(s->conn, HG_HOLD_RATE);
    return HG_HELD;
}

enum hg_status hg_allowance_charge(struct hg_session *s, const struct hg_rule_spec *rule,
                                   uint64_t bytes, enum hg_patience patience, const char **why_out)
{
    struct hg_worker *w = s->worker;
    const struct hg_rates *rates = rule == NULL ? &w->config->client_rates : &rule->rates;
    struct hg_allowance *a = allowance_of(w, s->conn);
    if (a == NULL) {
        return HG_NO_MEMORY;
    }
    struct hg_meters *meters = rule == NULL ? &a->meters : &rule->meter->meters;
    bool may_wait = patience == HG_PATIENCE_WAITS;
    uint8_t at_once = TOLL_DUE;
    uint8_t *toll = may_wait ? &a->tolls[rule != NULL] : &at_once;
    uint64_t now_ms = hg_clock_ms();
    if (*toll == TOLL_QUEUED || *toll == TOLL_VAIN) {
        if (now_ms < a->due_ms) { /* woken by something else: the timer is still set */
            hg_conn_hold(s->conn, HG_HOLD_RATE);
            return HG_HELD;
        }
        stop_waiting(a);
    }
    if (*toll == TOLL_DUE || *toll == TOLL_VAIN) {
        uint64_t wait_ns = hg_meters_wait_ns(meters, rates, bytes, now_ms);
        if (wait_ns > 0 && (*toll == TOLL_VAIN || !may_wait)) {
            *toll = TOLL_DUE;
            enum hg_limit limit = limit_of(rule, meters, rates, now_ms);
            return refuse(s, a, rule, limit, wait_ns, patience, why_out);
        }
        bool is_vain = wait_ns / NS_PER_MS > w->config->rate_wait_ms;
        wait_ns = is_vain ? wait_ns : hg_meters_take(meters, rates, bytes, now_ms);
        if (wait_ns > 0 && may_wait) {
            *toll = is_vain ? TOLL_VAIN : TOLL_QUEUED;
            return wait_for(s, a, rule, wait_ns, now_ms);
        }
    }
    *toll = TOLL_PAID;
    return HG_OK;
}

void hg_allowance_paid(struct hg_session *s)
{
    struct hg_allowance *a = s->conn == NULL ? NULL : *hg_conn_allowance(s->conn);
    if (a != NULL) {
        a->tolls[0] = a->tolls[1] = TOLL_DUE;
    }
}

unsigned hg_allowance_retry_after_s(const struct hg_session *s)
{
    const struct hg_allowance *a = s->conn == NULL ? NULL : *hg_conn_allowance(s->conn);
    return a == NULL ? 1 : a->retry_after_s;
}
