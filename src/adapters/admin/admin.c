/* SPDX-License-Identifier: Apache-2.0 */
/* A site of the HTTP server of adapters/http. What it reads of other workers is atomic (states,
 * counters) or asked for (connections). */
#include "adapters/admin/admin.h"

#include "adapters/http/http_server.h"
#include "base/base64.h"
#include "base/clock.h"
#include "core/conn.h"
#include "core/gather.h"
#include "core/reload.h"
#include "core/state.h"
#include "core/worker.h"

#include <openssl/crypto.h>

#include <stdio.h>
#include <strings.h>

static const struct hg_gateway *gateway_of(const struct hg_http_request *req)
{
    return req->session->worker->gateway;
}

static void answer(struct hg_http_request *req, unsigned status, const char *type,
                   struct hg_writer *body)
{
    const struct hg_http_answer_field field = {"Cache-Control", HG_BYTES("no-store")};
    hg_http_answer(
        req, &(struct hg_http_answer){
                 .status = status, .type = type, .body = body, .fields = &field, .fields_n = 1});
}

static void answer_json(struct hg_http_request *req, struct hg_writer *body)
{
    hg_writer_str(body, "\n");
    answer(req, 200, "application/json", body);
}

/* "text" or null. */
static void write_string(struct hg_writer *w, const char *text)
{
    if (text == NULL) {
        hg_writer_str(w, "null");
        return;
    }
    hg_writer_u8(w, '"');
    hg_writer_json(w, hg_bytes_str(text));
    hg_writer_u8(w, '"');
}

static enum hg_worker_state state_of(const struct hg_worker *w)
{
    return (enum hg_worker_state)atomic_load_explicit(&w->state, memory_order_relaxed);
}

static const char *state_name(const struct hg_worker *w)
{
    static const char *const names[] = {"starting", "ready", "draining", "stopped"};
    return names[state_of(w)];
}

static bool is_up(const struct hg_worker *w)
{
    bool is_up = true;
    for (unsigned i = 0; i < w->realms_n; i++) {
        is_up = is_up && atomic_load_explicit(&w->realms[i]->is_up, memory_order_relaxed);
    }
    return is_up;
}

static bool is_draining(const struct hg_gateway *g)
{
    return atomic_load_explicit(&g->is_draining, memory_order_relaxed);
}

/* ---- The token ----------------------------------------------------------------------------- */

/* As Bearer, or, for browsers, as Basic's password. */
static bool shows(const struct hg_http_request *req, struct hg_bytes token)
{
    struct hg_bytes field = hg_http_field(&req->in.head, HG_BYTES("Authorization"));
    size_t scheme_n = hg_bytes_index(field, ' ');
    bool is_basic = scheme_n == 5 && strncasecmp((const char *)field.p, "Basic", 5) == 0;
    bool is_bearer = scheme_n == 6 && strncasecmp((const char *)field.p, "Bearer", 6) == 0;
    struct hg_writer decoded = {0};
    struct hg_bytes shown = {0};
    if (is_bearer) {
        shown = hg_bytes_skip(field, scheme_n + 1);
    } else if (is_basic && hg_base64_decode(&decoded, hg_bytes_skip(field, scheme_n + 1))) {
        shown = hg_writer_view(&decoded);
        size_t colon = hg_bytes_index(shown, ':');
        shown = hg_bytes_skip(shown, colon < shown.n ? colon + 1 : colon);
    }
    bool is_it = shown.n == token.n && CRYPTO_memcmp(shown.p, token.p, token.n) == 0;
    hg_writer_close(&decoded);
    return is_it;
}

/* False: 401 has been answered. */
static bool is_let_in(struct hg_http_request *req)
{
    const char *token = hg_conn_listener(req->session->conn)->token;
    if (token == NULL || shows(req, hg_bytes_str(token))) {
        return true;
    }
    const struct hg_http_answer_field field = {"WWW-Authenticate",
                                               HG_BYTES("Basic realm=\"headgate\"")};
    hg_http_refuse(req, &(struct hg_http_answer){.status = 401, .fields = &field, .fields_n = 1},
                   HG_BYTES("this listener wants its token, as Bearer or as Basic's password"),
                   NULL);
    return false;
}

/* ---- Health -------------------------------------------------------------------------------- */

static bool get_healthz(struct hg_http_request *req)
{
    struct hg_writer body = {0};
    hg_writer_str(&body, "ok\n");
    answer(req, 200, "text/plain; charset=utf-8", &body);
    return true;
}

/* vhost: whose it is; NULL: no matter, or there is only one. */
static void add_reason(struct hg_writer *reasons, const struct hg_vhost *vhost, const char *text)
{
    hg_writer_str(reasons, hg_writer_n(reasons) == 0 ? "\"" : ",\"");
    if (vhost != NULL && vhost->gateway->vhosts_n > 1) {
        hg_writer_str(reasons, "virtual host ");
        hg_writer_json(reasons, hg_bytes_str(vhost->spec->name));
        hg_writer_str(reasons, ": ");
    }
    hg_writer_str(reasons, text);
    hg_writer_u8(reasons, '"');
}

static void add_worker(struct hg_writer *reasons, const struct hg_worker *w)
{
    char text[64];
    if (state_of(w) != HG_WORKER_READY) {
        snprintf(text, sizeof(text), "worker %u: %s", w->index, state_name(w));
        add_reason(reasons, NULL, text);
    }
    for (unsigned i = 0; i < w->realms_n; i++) {
        if (!atomic_load_explicit(&w->realms[i]->is_up, memory_order_relaxed)) {
            snprintf(text, sizeof(text), "worker %u: RabbitMQ is not connected", w->index);
            add_reason(reasons, w->realms[i]->vhost, text);
        }
    }
}

static bool get_readyz(struct hg_http_request *req)
{
    const struct hg_gateway *g = gateway_of(req);
    struct hg_writer reasons = {0};
    struct hg_writer body = {0};
    if (is_draining(g)) {
        add_reason(&reasons, NULL, "draining");
    }
    for (unsigned i = 0; i < g->workers_n; i++) {
        add_worker(&reasons, g->workers[i]);
    }
    for (unsigned i = 0; i < g->vhosts_n; i++) {
        if (hg_state_is_enabled(&g->vhosts[i]) && !hg_state_is_ready(&g->vhosts[i])) {
            add_reason(&reasons, &g->vhosts[i], "the state log is not read up to its end");
        }
    }
    bool is_ready = hg_writer_n(&reasons) == 0;
    hg_writer_printf(&body, "{\"ready\":%s,\"reasons\":[", is_ready ? "true" : "false");
    hg_writer_bytes(&body, hg_writer_view(&reasons));
    hg_writer_str(&body, "]}\n");
    body.failed = body.failed || reasons.failed;
    hg_writer_close(&reasons);
    answer(req, is_ready ? 200 : 503, "application/json", &body);
    return true;
}

static bool get_metrics(struct hg_http_request *req)
{
    if (!is_let_in(req)) {
        return true;
    }
    struct hg_writer body = {0};
    hg_metrics_write(req->session->worker, &body);
    answer(req, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
    return true;
}

/* ---- Status -------------------------------------------------------------------------------- */

static void write_worker(struct hg_writer *w, const struct hg_worker *worker)
{
    const struct hg_upstream_metrics *up = &worker->metrics.upstream;
    hg_writer_printf(w,
                     "{\"worker\":%u,\"state\":\"%s\",\"upstream_up\":%s,"
                     "\"window_messages\":%llu,\"window_bytes\":%llu,\"protocols\":{",
                     worker->index, state_name(worker), is_up(worker) ? "true" : "false",
                     (unsigned long long)hg_counted(&up->window_messages),
                     (unsigned long long)hg_counted(&up->window_bytes));
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        const struct hg_proto_metrics *m = &worker->metrics.proto[p];
        hg_writer_printf(w,
                         "%s\"%s\":{\"connections\":%llu,\"subscriptions\":%llu,"
                         "\"messages_in\":%llu,\"messages_out\":%llu}",
                         p == 0 ? "" : ",", hg_protocol_name((enum hg_protocol)p),
                         (unsigned long long)hg_counted(&m->connections),
                         (unsigned long long)hg_counted(&m->subscriptions),
                         (unsigned long long)hg_counted(&m->messages_in),
                         (unsigned long long)hg_counted(&m->messages_out));
    }
    hg_writer_str(w, "}}");
}

static void write_bridge(struct hg_writer *w, const struct hg_bridge_spec *spec,
                         const struct hg_bridge_metrics *m)
{
    hg_writer_str(w, "{\"name\":");
    write_string(w, spec->name);
    hg_writer_str(w, ",\"site\":");
    write_string(w, spec->host);
    hg_writer_printf(w,
                     ",\"port\":%u,\"active\":%s,\"connected\":%s,\"messages_in\":%llu,"
                     "\"messages_out\":%llu,\"window_in\":%llu,\"window_out\":%llu}",
                     spec->port, hg_counted(&m->bridge_active) != 0 ? "true" : "false",
                     hg_counted(&m->bridge_connected) != 0 ? "true" : "false",
                     (unsigned long long)hg_counted(&m->bridge_messages_in),
                     (unsigned long long)hg_counted(&m->bridge_messages_out),
                     (unsigned long long)hg_counted(&m->bridge_window_in),
                     (unsigned long long)hg_counted(&m->bridge_window_out));
}

static void write_webhook(struct hg_writer *w, const struct hg_webhook_spec *spec,
                          const struct hg_webhook_metrics *m)
{
    static const char *const breakers[] = {"closed", "open", "probing"};
    hg_writer_str(w, "{\"name\":");
    write_string(w, spec->name);
    hg_writer_str(w, ",\"url\":"); /* without path and query: they may hold secrets */
    write_string(w, spec->origin);
    hg_writer_printf(w,
                     ",\"active\":%s,\"gone\":%s,\"breaker\":\"%s\",\"in_flight\":%llu,"
                     "\"held\":%llu,\"attempts\":%llu,\"delivered\":%llu,\"delayed\":%llu,"
                     "\"dead_lettered\":%llu}",
                     hg_counted(&m->webhook_active) != 0 ? "true" : "false",
                     hg_counted(&m->webhook_gone) != 0 ? "true" : "false",
                     breakers[hg_counted(&m->webhook_breaker)],
                     (unsigned long long)hg_counted(&m->webhook_in_flight),
                     (unsigned long long)hg_counted(&m->webhook_held),
                     (unsigned long long)hg_counted(&m->webhook_attempts),
                     (unsigned long long)hg_counted(&m->webhook_delivered),
                     (unsigned long long)hg_counted(&m->webhook_delayed),
                     (unsigned long long)hg_counted(&m->webhook_dead_lettered));
}

static void write_state(struct hg_writer *w, const struct hg_vhost *vhost)
{
    struct hg_state_stats stats;
    struct hg_state_index *index = hg_state_index_of(vhost);
    hg_state_stats(vhost, &stats);
    if (index == NULL) {
        hg_writer_str(w, "null");
        return;
    }
    hg_writer_str(w, "{\"log\":");
    write_string(w, vhost->gateway->config->state_log);
    hg_writer_printf(
        w,
        ",\"ready\":%s,\"leader\":%s,\"offset\":%llu,\"replay_ms\":%llu,\"retained\":%llu,"
        "\"sessions\":%llu,\"sessions_connected\":%llu,\"digest\":\"%016llx\"}",
        stats.is_ready ? "true" : "false", stats.is_leader ? "true" : "false",
        (unsigned long long)stats.index.last_offset, (unsigned long long)stats.replay_ms,
        (unsigned long long)stats.index.retained_n, (unsigned long long)stats.index.sessions_n,
        (unsigned long long)stats.index.sessions_connected_n,
        (unsigned long long)hg_state_index_digest(index));
}

static void write_vhost(struct hg_writer *w, const struct hg_realm *realm)
{
    const struct hg_vhost *vhost = realm->vhost;
    hg_writer_str(w, "{\"name\":");
    write_string(w, vhost->spec->name);
    hg_writer_printf(w, ",\"default\":%s,\"up\":%s,\"rules\":%zu,\"state\":",
                     vhost->index == 0 ? "true" : "false", hg_vhost_is_up(vhost) ? "true" : "false",
                     hg_rules_n(realm->rules));
    write_state(w, vhost);
    hg_writer_str(w, "}");
}

static void write_reload(struct hg_writer *w, const struct hg_gateway *g)
{
    struct hg_reload_stats stats;
    hg_reload_stats(g, &stats);
    hg_writer_printf(w,
                     "{\"loaded_unix_s\":%llu,\"done\":%llu,\"refused\":%llu,\"refused_unix_s\":",
                     (unsigned long long)(stats.loaded_wall_ms / 1000),
                     (unsigned long long)stats.done_n, (unsigned long long)stats.refused_n);
    if (stats.refused_wall_ms > 0) {
        hg_writer_printf(w, "%llu", (unsigned long long)(stats.refused_wall_ms / 1000));
    } else {
        hg_writer_str(w, "null");
    }
    hg_writer_str(w, ",\"problem\":");
    write_string(w, stats.problem[0] == '\0' ? NULL : stats.problem);
    hg_writer_str(w, "}");
}

static bool get_status(struct hg_http_request *req)
{
    if (!is_let_in(req)) {
        return true;
    }
    const struct hg_gateway *g = gateway_of(req);
    struct hg_writer body = {0};
    hg_writer_str(&body, "{\"name\":");
    write_string(&body, g->config->name);
    hg_writer_printf(&body,
                     ",\"version\":\"" HG_VERSION "\",\"uptime_s\":%llu,\"draining\":%s,"
                     "\"rules\":%zu,\"workers\":[",
                     (unsigned long long)((hg_clock_ms() - g->started_ms) / 1000),
                     is_draining(g) ? "true" : "false", req->session->worker->config->all_rules_n);
    for (unsigned i = 0; i < g->workers_n; i++) {
        hg_writer_str(&body, i == 0 ? "" : ",");
        write_worker(&body, g->workers[i]);
    }
    hg_writer_str(&body, "],\"bridges\":[");
    for (size_t i = 0; i < g->config->bridges_n; i++) {
        hg_writer_str(&body, i == 0 ? "" : ",");
        write_bridge(&body, &g->config->bridges[i], &g->bridges[i]);
    }
    hg_writer_str(&body, "],\"webhooks\":[");
    for (size_t i = 0; i < g->config->webhooks_n; i++) {
        hg_writer_str(&body, i == 0 ? "" : ",");
        write_webhook(&body, &g->config->webhooks[i], &g->webhooks[i]);
    }
    hg_writer_str(&body, "],\"state\":");
    write_state(&body, &g->vhosts[0]);
    hg_writer_str(&body, ",\"configuration\":");
    write_reload(&body, g);
    hg_writer_str(&body, ",\"vhosts\":[");
    for (unsigned i = 0; i < g->vhosts_n; i++) {
        hg_writer_str(&body, i == 0 ? "" : ",");
        write_vhost(&body, req->session->worker->realms[i]);
    }
    hg_writer_str(&body, "]}");
    answer_json(req, &body);
    return true;
}

/* ---- Connections: every worker is asked ---------------------------------------------------- */

static void on_connections(void *ctx, struct hg_bytes text)
{
    struct hg_http_request *req = ctx;
    struct hg_writer body = {0};
    hg_writer_str(&body, "[");
    hg_writer_bytes(&body, text);
    hg_writer_str(&body, "]");
    answer_json(req, &body);
}

static void on_gone(struct hg_http_request *req)
{
    hg_gather_cancel(req->data);
}

static bool get_connections(struct hg_http_request *req)
{
    if (!is_let_in(req)) {
        return true;
    }
    struct hg_gather *gather =
        hg_gather(req->session->worker, hg_conn_write_all, ",", on_connections, req);
    if (gather == NULL) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 503}, HG_BYTES("out of memory"),
                       "NO_MEMORY");
        return true;
    }
    req->data = gather;
    req->on_gone = on_gone;
    return true;
}

/* ---- Rules --------------------------------------------------------------------------------- */

/* Names; null where nobody is asked for a role. */
static void write_roles(struct hg_writer *w, const struct hg_config *c, uint64_t roles)
{
    const char *separator = "";
    if (!c->has_identities) {
        hg_writer_str(w, "null");
        return;
    }
    hg_writer_str(w, "[");
    for (size_t i = 0; i < c->roles_n; i++) {
        if ((roles >> i & 1) != 0) {
            hg_writer_str(w, separator);
            write_string(w, c->roles[i]);
            separator = ",";
        }
    }
    hg_writer_str(w, "]");
}

static void write_rule(struct hg_writer *w, const struct hg_realm *realm,
                       const struct hg_rule_spec *rule, size_t index)
{
    const struct hg_worker *worker = realm->worker;
    hg_writer_str(w, "{\"name\":");
    write_string(w, rule->name);
    if (worker->realms_n > 1) {
        hg_writer_str(w, ",\"vhost\":");
        write_string(w, realm->vhost->spec->name);
    }
    hg_writer_str(w, ",\"patterns\":{");
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        hg_writer_printf(w, "%s\"%s\":", p == 0 ? "" : ",", hg_protocol_name((enum hg_protocol)p));
        write_string(w, rule->pattern[p]);
    }
    hg_writer_str(w, "},\"exchange\":");
    write_string(w, rule->exchange);
    hg_writer_str(w, ",\"queue\":");
    write_string(w, rule->queue);
    hg_writer_str(w, ",\"key\":");
    write_string(w, rule->key);
    hg_writer_str(w, ",\"publish_roles\":");
    write_roles(w, worker->config, rule->publish_roles);
    hg_writer_str(w, ",\"subscribe_roles\":");
    write_roles(w, worker->config, rule->subscribe_roles);
    hg_writer_printf(
        w,
        ",\"escape\":\"%s\",\"slow\":\"%s\",\"mandatory\":%s,\"builtin\":%s,"
        "\"messages_in\":%llu,\"messages_out\":%llu}",
        rule->escape == HG_ESCAPE_PLAIN ? "plain" : "lossless", hg_slow_name(rule->slow),
        rule->is_mandatory ? "true" : "false", rule->is_builtin ? "true" : "false",
        (unsigned long long)hg_rule_counts_sum(worker->rule_counts, index, HG_RULE_IN),
        (unsigned long long)hg_rule_counts_sum(worker->rule_counts, index, HG_RULE_OUT));
}

static bool get_rules(struct hg_http_request *req)
{
    if (!is_let_in(req)) {
        return true;
    }
    const struct hg_worker *w = req->session->worker;
    struct hg_writer body = {0};
    size_t index = 0;
    hg_writer_str(&body, "[");
    for (unsigned v = 0; v < w->realms_n; v++) {
        const struct hg_rules *rules = w->realms[v]->rules;
        for (size_t i = 0; i < hg_rules_n(rules); i++, index++) {
            hg_writer_str(&body, index == 0 ? "" : ",");
            write_rule(&body, w->realms[v], hg_rules_spec(rules, i), index);
        }
    }
    hg_writer_str(&body, "]");
    answer_json(req, &body);
    return true;
}

/* ---- The page ------------------------------------------------------------------------------ */

static bool get_page(struct hg_http_request *req)
{
    if (!is_let_in(req)) {
        return true;
    }
    const struct hg_http_answer_field field = {
        "Content-Security-Policy",
        HG_BYTES("default-src 'none'; connect-src 'self'; "
                 "script-src 'unsafe-inline'; style-src 'unsafe-inline'")};
    struct hg_writer body = {0};
    hg_writer_str(&body, hg_admin_page);
    hg_http_answer(req, &(struct hg_http_answer){.status = 200,
                                                 .type = "text/html; charset=utf-8",
                                                 .body = &body,
                                                 .fields = &field,
                                                 .fields_n = 1});
    return true;
}

static const struct hg_http_route routes[] = {
    {.path = "/healthz", .methods = 1u << HG_HTTP_GET, .handle = get_healthz},
    {.path = "/readyz", .methods = 1u << HG_HTTP_GET, .handle = get_readyz},
    {.path = "/metrics", .methods = 1u << HG_HTTP_GET, .handle = get_metrics},
    {.path = "/api/status", .methods = 1u << HG_HTTP_GET, .handle = get_status},
    {.path = "/api/connections", .methods = 1u << HG_HTTP_GET, .handle = get_connections},
    {.path = "/api/rules", .methods = 1u << HG_HTTP_GET, .handle = get_rules},
    {.path = "/", .methods = 1u << HG_HTTP_GET, .handle = get_page},
};

static const struct hg_http_site site = {routes, sizeof(routes) / sizeof(routes[0])};

static struct hg_session *open_session(struct hg_worker *worker, struct hg_conn *conn,
                                       const struct hg_listener_spec *listener,
                                       const char *subprotocol)
{
    (void)listener;
    (void)subprotocol;
    return hg_http_open(worker, conn, &site);
}

const struct hg_adapter hg_admin_adapter = {
    .name = "admin",
    .serves = 1u << HG_SERVE_ADMIN,
    .open = open_session,
};
