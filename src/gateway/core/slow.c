/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing of this costs a client that keeps up more than a comparison: what a slow one needs is made
 * when it becomes slow. */
#include "core/slow.h"

#include "base/mem.h"
#include "core/access.h"
#include "core/backlog.h"
#include "core/conn.h"
#include "core/routing_priv.h"
#include "core/worker.h"

/* What waits is handed on until there is so much above the low mark: enough for the socket until the
 * next time, and little enough for the others' turn; and what still waits may yet be replaced. */
enum { STEP_BYTES = 64 << 10 };

struct hg_slow_client {
    struct hg_session *session;
    struct hg_backlog backlog;
    size_t shown_n, shown_bytes; /* of the backlog, in the metrics */
    uint64_t dropped_n;
    bool is_handing_on; /* the delivery under way is the backlog's first */
    bool is_put_off;    /* there was no room for it */
};

static struct hg_proto_metrics *metrics_of(const struct hg_session *s)
{
    return &s->worker->metrics.proto[s->proto];
}

static struct hg_slow_client *slow_of(const struct hg_session *s)
{
    return s->rare == NULL ? NULL : s->rare->slow;
}

static const char *name_of(const struct hg_rule_spec *rule)
{
    return rule == NULL ? "" : rule->name;
}

/* ---- What is lost ---- */

static void lose(struct hg_session *s, enum hg_slow policy)
{
    hg_count(&metrics_of(s)->dropped, 1);
    hg_count(&metrics_of(s)->slow_dropped[policy], 1);
    if (slow_of(s) != NULL) {
        slow_of(s)->dropped_n++;
    }
}

static void tell_lost(struct hg_session *s)
{
    if (s->ops->dropped != NULL) {
        s->ops->dropped(s);
    }
}

static void on_dropped(void *ctx, bool is_latest, bool is_replaced)
{
    struct hg_session *s = ctx;
    lose(s, is_latest ? HG_SLOW_LATEST : HG_SLOW_DROP_OLDEST);
    if (!is_replaced) { /* a newer one of its address says what it would have said */
        tell_lost(s);
    }
}

/* ---- From slow to drained ---- */

static void note(struct hg_session *s, enum hg_log_level level, const char *event,
                 const struct hg_rule_spec *rule)
{
    struct hg_session_info info = {0};
    s->ops->describe(s, &info);
    const char *policy = hg_slow_name(rule == NULL ? HG_SLOW_DROP_NEW : rule->slow);
    HG_LOG_LIMITED_BY(
        s->worker->log, level, event, name_of(rule), hg_bytes_str(name_of(rule)),
        HG_F_STR("protocol", hg_protocol_name(s->proto)), HG_F_BYTES("client", info.client_id),
        HG_F_BYTES("user", info.user), HG_F_STR("peer", hg_conn_peer(s->conn)),
        HG_F_UINT("conn", hg_conn_id(s->conn)), HG_F_STR("rule", name_of(rule)),
        HG_F_STR("policy", policy), HG_F_UINT("pending_bytes", hg_conn_pending(s->conn)));
}

/* Without memory it is not slow: then its messages are dropped, and that is all. */
static struct hg_slow_client *become_slow(struct hg_session *s, const struct hg_rule_spec *rule)
{
    struct hg_slow_client *c = slow_of(s);
    if (c != NULL) {
        return c;
    }
    struct hg_rare *rare = hg_session_rare(s);
    c = rare == NULL ? NULL : hg_zalloc(sizeof(*c));
    if (c == NULL) {
        hg_session_trim(s);
        return NULL;
    }
    rare->slow = c;
    c->session = s;
    hg_backlog_open(&c->backlog);
    c->backlog.limit_bytes = s->worker->config->slow_backlog_bytes;
    c->backlog.on_dropped = on_dropped;
    c->backlog.ctx = s;
    hg_count(&metrics_of(s)->slow_clients, 1);
    note(s, HG_LOG_INFO, "client.slow", rule);
    hg_conn_await_drained(s->conn);
    return c;
}

static void show_backlog(struct hg_slow_client *c)
{
    struct hg_proto_metrics *metrics = metrics_of(c->session);
    hg_count(&metrics->backlog_messages, c->backlog.n - c->shown_n); /* or less, modulo 2^64 */
    hg_count(&metrics->backlog_bytes, c->backlog.bytes - c->shown_bytes);
    c->shown_n = c->backlog.n;
    c->shown_bytes = c->backlog.bytes;
}

static void no_longer_slow(struct hg_session *s, const char *how)
{
    struct hg_slow_client *c = slow_of(s);
    struct hg_session_info info = {0};
    s->ops->describe(s, &info);
    HG_LOG_LIMITED_BY(s->worker->log, HG_LOG_INFO, "client.slow_end", how, hg_bytes_str(how),
                      HG_F_STR("protocol", hg_protocol_name(s->proto)),
                      HG_F_BYTES("client", info.client_id), HG_F_BYTES("user", info.user),
                      HG_F_UINT("conn", hg_conn_id(s->conn)), HG_F_STR("how", how),
                      HG_F_UINT("dropped", c->dropped_n), HG_F_UINT("unsent", c->backlog.n));
    hg_backlog_close(&c->backlog);
    show_backlog(c);
    hg_uncount(&metrics_of(s)->slow_clients, 1);
    hg_free(c);
    s->rare->slow = NULL;
    hg_session_trim(s);
}

/* ---- What becomes of a message ---- */

/* A subscription by RabbitMQ's names has the policy of the rule that maps the message back, if one
 * does. */
static const struct hg_rule_spec *rule_of(struct hg_session *s, const struct hg_delivery *d)
{
    struct hg_bytes address;
    size_t rule = 0;
    if (d->rule != NULL || d->address.n > 0) {
        return d->rule;
    }
    return hg_routing_map(hg_realm_of(s)->routing, s->proto, d->message, &address, &rule)
               ? hg_rules_spec(hg_realm_of(s)->rules, rule)
               : NULL;
}

/* What `latest` compares: the address, and the subscription where each gets a copy. */
static void write_key(struct hg_writer *w, const struct hg_session *s, const struct hg_delivery *d,
                      const struct hg_sub *sub)
{
    if (!s->merges_overlaps) {
        hg_writer_bytes(w, hg_bytes(&sub, sizeof(sub)));
    }
    hg_writer_bytes(w, d->address);
    if (d->address.n == 0) {
        struct hg_bytes exchange = hg_message_exchange(d->message);
        hg_writer_u8(w, (uint8_t)exchange.n); /* has 255 bytes at most */
        hg_writer_bytes(w, exchange);
        hg_writer_bytes(w, hg_message_routing_key(d->message));
    }
}

/* False: it cannot wait. */
static bool keep(struct hg_slow_client *c, const struct hg_delivery *d, struct hg_sub *matches,
                 enum hg_slow policy, size_t n)
{
    struct hg_session *s = c->session;
    const struct hg_config *config = s->worker->config;
    struct hg_writer key = {0};
    if (n > config->outbound_high_bytes - config->outbound_low_bytes) {
        return false; /* the drained output would have no room for it either */
    }
    if (policy == HG_SLOW_LATEST) {
        write_key(&key, s, d, matches);
    }
    const struct hg_backlog_item item = {
        .message = d->message,
        .subs = matches,
        .takes_only_one = !s->merges_overlaps,
        .key = hg_writer_view(&key),
    };
    bool is_kept = !key.failed && hg_backlog_push(&c->backlog, &item) == HG_OK;
    hg_writer_close(&key);
    show_backlog(c);
    return is_kept;
}

static void end_client(struct hg_session *s, const struct hg_rule_spec *rule)
{
    lose(s, HG_SLOW_DISCONNECT);
    hg_count(&metrics_of(s)->slow_closed, 1);
    note(s, HG_LOG_WARN, "client.too_slow", rule);
    if (s->ops->too_slow != NULL) {
        s->ops->too_slow(s);
    } else {
        hg_conn_finish(s->conn, HG_TOO_SLOW);
    }
}

static bool judge(struct hg_session *s, const struct hg_delivery *d, struct hg_sub *matches,
                  size_t n, bool is_full)
{
    const struct hg_rule_spec *rule = rule_of(s, d);
    enum hg_slow policy = rule == NULL ? HG_SLOW_DROP_NEW : rule->slow;
    bool may_wait = policy == HG_SLOW_DROP_OLDEST || policy == HG_SLOW_LATEST;
    bool is_behind = may_wait && slow_of(s) != NULL && slow_of(s)->backlog.n > 0;
    if (!is_full && !is_behind) {
        return true;
    }
    if (policy == HG_SLOW_DISCONNECT) {
        end_client(s, rule);
        return false;
    }
    struct hg_slow_client *c = become_slow(s, rule);
    if (!may_wait || c == NULL || !keep(c, d, matches, policy, n)) {
        lose(s, policy);
        tell_lost(s);
    }
    return false;
}

bool hg_slow_admits(struct hg_session *s, const struct hg_delivery *d, struct hg_sub *matches,
                    size_t n)
{
    bool is_full = hg_conn_is_full(s->conn, n);
    if (!is_full && s->rare == NULL) {
        return true;
    }
    struct hg_slow_client *c = slow_of(s);
    if (d->must_keep || d->is_retained || d->queue != NULL) {
        return true;
    }
    if (c != NULL && c->is_handing_on) {
        /* At the low mark at the latest: it counted n for what it would take then. */
        c->is_put_off = is_full && hg_conn_pending(s->conn) > s->worker->config->outbound_low_bytes;
        return !c->is_put_off;
    }
    return (!is_full && c == NULL) || judge(s, d, matches, n, is_full);
}

/* ---- Handing on ---- */

/* As if it came now: what its client may see, and by which address, may have changed. */
static void hand_on(struct hg_slow_client *c, const struct hg_backlog_entry *first)
{
    struct hg_session *s = c->session;
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_sub *subs = hg_backlog_subs(first);
    struct hg_delivery d = {.message = hg_backlog_message(first)};
    bool may_see;
    if (subs->index == r->by_address[s->proto]) {
        size_t rule = 0;
        may_see = hg_routing_map(r, s->proto, d.message, &d.address, &rule) &&
                  hg_access_may_see(s, d.address, rule);
        d.rule = may_see ? hg_rules_spec(hg_realm_of(s)->rules, rule) : NULL;
    } else {
        may_see = hg_access_may_see_source(s, d.message);
    }
    c->is_handing_on = true;
    c->is_put_off = false;
    if (may_see) {
        s->ops->deliver(s, &d, subs);
    }
    c->is_handing_on = false;
    hg_delivery_end(&d);
}

void hg_slow_resume(struct hg_session *s)
{
    struct hg_slow_client *c = slow_of(s);
    const struct hg_backlog_entry *first;
    if (c == NULL) {
        return;
    }
    size_t enough = (size_t)s->worker->config->outbound_low_bytes + STEP_BYTES;
    while ((first = hg_backlog_first(&c->backlog)) != NULL && hg_conn_pending(s->conn) <= enough) {
        hand_on(c, first);
        if (c->is_put_off || hg_conn_is_closing(s->conn)) {
            break;
        }
        hg_backlog_pop(&c->backlog);
    }
    show_backlog(c);
    if (hg_conn_is_closing(s->conn)) {
        return; /* and hg_slow_end comes */
    }
    if (c->backlog.n > 0) {
        hg_conn_await_drained(s->conn);
    } else {
        no_longer_slow(s, "caught up");
    }
}

/* ---- Ends ---- */

void hg_slow_forget(struct hg_sub *sub)
{
    struct hg_slow_client *c = slow_of(sub->session);
    if (c != NULL) {
        hg_backlog_forget(&c->backlog, sub);
        show_backlog(c);
    }
}

void hg_slow_end(struct hg_session *s)
{
    if (slow_of(s) != NULL) {
        no_longer_slow(s, "gone");
    }
}

bool hg_slow_stats(const struct hg_session *s, struct hg_slow_stats *out)
{
    const struct hg_slow_client *c = slow_of(s);
    *out = (struct hg_slow_stats){0};
    if (c != NULL) {
        *out = (struct hg_slow_stats){c->backlog.n, c->backlog.bytes, c->dropped_n};
    }
    return c != NULL;
}
