/* SPDX-License-Identifier: Apache-2.0 */
/* The workers' counters as Prometheus text. */
#include "core/metrics.h"

#include "base/clock.h"
#include "core/allowance.h"
#include "core/identity.h"
#include "core/reload.h"
#include "core/state.h"
#include "core/worker.h"

#include <stdio.h>
#include <sys/resource.h>

/* ---- The Prometheus text format, version 0.0.4 ---- */

struct metric {
    const char *name, *type, *help;
    size_t at; /* in struct hg_worker; in a protocol's row, where there is one per protocol */
};

/* Prometheus wants the names of counters to end so. */
static void write_name(struct hg_writer *out, const struct metric *m)
{
    static const char suffix[] = "_total";
    size_t n = strlen(m->name);
    bool has_suffix =
        n >= sizeof(suffix) - 1 && strcmp(m->name + n - sizeof(suffix) + 1, suffix) == 0;
    hg_writer_printf(out, "headgate_%s%s", m->name,
                     strcmp(m->type, "counter") == 0 && !has_suffix ? suffix : "");
}

static void write_head(struct hg_writer *out, const struct metric *m)
{
    hg_writer_str(out, "# HELP ");
    write_name(out, m);
    hg_writer_printf(out, " %s\n# TYPE ", m->help);
    write_name(out, m);
    hg_writer_printf(out, " %s\n", m->type);
}

static void write_label(struct hg_writer *out, const char *value)
{
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '\\' || *p == '"') {
            hg_writer_u8(out, '\\');
        }
        if (*p == '\n') {
            hg_writer_str(out, "\\n");
        } else {
            hg_writer_u8(out, (uint8_t)*p);
        }
    }
}

static void write_value(struct hg_writer *out, const struct metric *m, const char *label,
                        const char *label_value, uint64_t value)
{
    write_name(out, m);
    if (label != NULL) {
        hg_writer_printf(out, "{%s=\"", label);
        write_label(out, label_value);
        hg_writer_str(out, "\"}");
    }
    hg_writer_printf(out, " %llu\n", (unsigned long long)value);
}

/* The same with the virtual host as a label, where there are several. */
static void write_of_vhost(struct hg_writer *out, const struct metric *m,
                           const struct hg_vhost *vhost, const char *label, const char *label_value,
                           uint64_t value)
{
    if (vhost->gateway->vhosts_n == 1) {
        write_value(out, m, label, label_value, value);
        return;
    }
    write_name(out, m);
    hg_writer_str(out, "{vhost=\"");
    write_label(out, vhost->spec->name);
    if (label != NULL) {
        hg_writer_printf(out, "\",%s=\"", label);
        write_label(out, label_value);
    }
    hg_writer_printf(out, "\"} %llu\n", (unsigned long long)value);
}

/* The counter `at` bytes into every worker, added up. */
static uint64_t sum(const struct hg_gateway *g, size_t at)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < g->workers_n; i++) {
        n += hg_counted((const hg_counter *)(const void *)((const char *)g->workers[i] + at));
    }
    return n;
}

#define AT_PROTO(field)    (offsetof(struct hg_proto_metrics, field))
#define AT_UPSTREAM(field) (offsetof(struct hg_worker, metrics.upstream.field))
#define AT_STATE(field)    (offsetof(struct hg_worker, metrics.state.field))
#define AT_LEASE(field)    (offsetof(struct hg_worker, metrics.lease.field))
#define AT_STOMP(field)    (offsetof(struct hg_worker, metrics.stomp.field))
#define AT_LOGIN(field)    (offsetof(struct hg_worker, metrics.login.field))
#define AT_CALL(field)     (offsetof(struct hg_worker, metrics.call.field))
#define AT_RATE(field)     (offsetof(struct hg_worker, metrics.rate.field))
#define AT_NET(field)      (offsetof(struct hg_worker, net.counters.field))

static const struct metric proto_metrics[] = {
#define X(name, type, help) {#name, #type, help, AT_PROTO(name)},
    HG_PROTO_METRICS(X)
#undef X
};

static const struct metric worker_metrics[] = {
#define X(name, type, help) {#name, #type, help, AT_UPSTREAM(name)},
    HG_UPSTREAM_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_STATE(name)},
        HG_STATE_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_LEASE(name)},
            HG_LEASE_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_STOMP(name)},
                HG_STOMP_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_LOGIN(name)},
                    HG_LOGIN_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_CALL(name)},
                        HG_CALL_METRICS(X)
#undef X
#define X(name, type, help) {#name, #type, help, AT_RATE(name)},
                            HG_RATE_METRICS(X)
#undef X
    /* clang-format off */
    {"net_bytes_in",      "counter", "Bytes read from all sockets",                       AT_NET(bytes_in)},
    {"net_bytes_out",     "counter", "Bytes written to all sockets",                      AT_NET(bytes_out)},
    {"net_writes",        "counter", "System calls that wrote to a socket",               AT_NET(writes)},
    {"net_turns",         "counter", "Times the workers looked for sockets that are ready",  AT_NET(turns)},
    {"net_pauses",        "counter", "Times a worker full of publishes let more come first", AT_NET(pauses)},
    {"net_paused_us",     "counter", "Microseconds of it",                                AT_NET(paused_us)},
    {"net_accepted",      "counter", "Connections accepted",                              AT_NET(accepted)},
    {"net_accept_errors", "counter", "Connections that could not be accepted",            AT_NET(accept_errors)},
    {"net_refused",       "counter", "Connections closed at once: a limit on them is reached", AT_NET(refused_limit)},
    {"net_tls_handshakes", "counter", "TLS handshakes that succeeded",                    AT_NET(tls_handshakes)},
    {"net_tls_failures",  "counter", "TLS handshakes and connections that failed",        AT_NET(tls_failures)},
    /* clang-format on */
};

static void write_protocols(const struct hg_gateway *g, struct hg_writer *out)
{
    for (size_t i = 0; i < sizeof(proto_metrics) / sizeof(proto_metrics[0]); i++) {
        const struct metric *m = &proto_metrics[i];
        write_head(out, m);
        for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
            size_t at = offsetof(struct hg_worker, metrics.proto) +
                        (size_t)p * sizeof(struct hg_proto_metrics) + m->at;
            write_value(out, m, "protocol", hg_protocol_name(p), sum(g, at));
        }
    }
}

static void write_slow(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric metric = {"slow_dropped", "counter",
                                         "Messages dropped for a slow client, by the rule's policy",
                                         offsetof(struct hg_proto_metrics, slow_dropped)};
    write_head(out, &metric);
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        for (enum hg_slow policy = 0; policy < HG_SLOW_N; policy++) {
            size_t at = offsetof(struct hg_worker, metrics.proto) +
                        (size_t)p * sizeof(struct hg_proto_metrics) + metric.at +
                        (size_t)policy * sizeof(hg_counter);
            write_name(out, &metric);
            hg_writer_printf(out, "{protocol=\"%s\",policy=\"%s\"} %llu\n", hg_protocol_name(p),
                             hg_slow_name(policy), (unsigned long long)sum(g, at));
        }
    }
}

static void write_rules(const struct hg_worker *w, struct hg_writer *out, enum hg_rule_way way)
{
    static const struct metric metrics[HG_RULE_WAYS] = {
        {"rule_messages_in", "counter", "Publishes that the rule took", 0},
        {"rule_messages_out", "counter", "Deliveries that the rule mapped back", 0},
    };
    write_head(out, &metrics[way]);
    for (unsigned v = 0; v < w->realms_n; v++) {
        const struct hg_vhost_spec *vhost = w->realms[v]->spec;
        for (size_t r = 0; r < vhost->rules_n; r++) {
            write_of_vhost(out, &metrics[way], w->realms[v]->vhost, "rule", vhost->rules[r].name,
                           hg_rule_counts_sum(w->rule_counts, vhost->first_rule + r, way));
        }
    }
}

static const struct metric bridge_metrics[] = {
#define X(name, type, help) {#name, #type, help, offsetof(struct hg_bridge_metrics, name)},
    HG_BRIDGE_METRICS(X)
#undef X
};

static void write_bridges(const struct hg_gateway *g, struct hg_writer *out)
{
    size_t metrics_n = sizeof(bridge_metrics) / sizeof(bridge_metrics[0]);
    for (size_t i = 0; i < metrics_n && g->config->bridges_n > 0; i++) {
        const struct metric *m = &bridge_metrics[i];
        write_head(out, m);
        for (size_t b = 0; b < g->config->bridges_n; b++) {
            const char *at = (const char *)&g->bridges[b] + m->at;
            write_value(out, m, "bridge", g->config->bridges[b].name,
                        hg_counted((const hg_counter *)(const void *)at));
        }
    }
}

static const struct metric webhook_metrics[] = {
#define X(name, type, help) {#name, #type, help, offsetof(struct hg_webhook_metrics, name)},
    HG_WEBHOOK_METRICS(X)
#undef X
};

static void write_webhooks(const struct hg_gateway *g, struct hg_writer *out)
{
    size_t metrics_n = sizeof(webhook_metrics) / sizeof(webhook_metrics[0]);
    for (size_t i = 0; i < metrics_n && g->config->webhooks_n > 0; i++) {
        const struct metric *m = &webhook_metrics[i];
        write_head(out, m);
        for (size_t k = 0; k < g->config->webhooks_n; k++) {
            const char *at = (const char *)&g->webhooks[k] + m->at;
            write_value(out, m, "webhook", g->config->webhooks[k].name,
                        hg_counted((const hg_counter *)(const void *)at));
        }
    }
}

/* ---- Limits ---- */

static void write_refusals(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric metric = {
        "limit_refusals", "counter",
        "What a limit turned away, by the limit's key in the configuration", 0};
    write_head(out, &metric);
    write_value(out, &metric, "limit", "listener.max_connections",
                sum(g, AT_NET(refused_listener)));
    write_value(out, &metric, "limit", "limits.max_connections", sum(g, AT_NET(refused_outer)));
    for (enum hg_limit limit = 0; limit < HG_LIMIT_N; limit++) {
        size_t at = offsetof(struct hg_worker, metrics.limits) + (size_t)limit * sizeof(hg_counter);
        write_value(out, &metric, "limit", hg_limit_name(limit), sum(g, at));
    }
}

static uint64_t open_n(const struct hg_gate *gate)
{
    return atomic_load_explicit((_Atomic uint32_t *)&gate->open_n, memory_order_relaxed);
}

/* Labelled as the log line `ready` names them. */
static void write_listeners(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric metric = {"listener_connections", "gauge",
                                         "Open connections of a listener", 0};
    unsigned seen[HG_SERVE_ADMIN + 1] = {0};
    write_head(out, &metric);
    for (size_t i = 0; i < g->config->listeners_n; i++) {
        enum hg_serve serve = g->config->listeners[i].serve;
        char label[32];
        unsigned nth = ++seen[serve];
        snprintf(label, sizeof(label), nth > 1 ? "%s.%u" : "%s", hg_serve_name(serve), nth);
        write_value(out, &metric, "listener", label, open_n(&g->listeners[i].gate));
    }
}

static void write_rule_rates(const struct hg_worker *w, struct hg_writer *out)
{
    static const struct metric metrics[] = {
        {"rule_rate_held", "counter", "Times a client was held for the rule's rate", 0},
        {"rule_rate_refused", "counter", "Publishes refused for the rule's rate", 0},
    };
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        write_head(out, &metrics[i]);
        for (size_t r = 0; r < w->config->rules_n; r++) {
            const struct hg_rule_spec *spec = &w->config->rules[r];
            if (spec->meter != NULL) {
                _Atomic uint64_t *n = i == 0 ? &spec->meter->held_n : &spec->meter->refused_n;
                write_value(out, &metrics[i], "rule", spec->name,
                            atomic_load_explicit(n, memory_order_relaxed));
            }
        }
    }
}

static void write_limits(const struct hg_gateway *g, struct hg_writer *out)
{
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    /* clang-format off */
    const struct {
        struct metric metric;
        uint64_t value;
    } rows[] = {
        {{"open_connections", "gauge", "Open connections of all listeners but the admin ones",                        0}, open_n(&g->allowances->connections)},
        {{"client_addresses", "gauge", "Addresses with a connection, where they are limited by address",              0}, hg_tally_n(g->allowances->addresses)},
        {{"client_users",     "gauge", "Users with a connection, where they are limited by user",                     0}, hg_tally_n(g->allowances->users)},
        {{"files_max",        "gauge", "File descriptors that the process may have open, a connection takes one each", 0}, files.rlim_cur},
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_head(out, &rows[i].metric);
        write_value(out, &rows[i].metric, NULL, NULL, rows[i].value);
    }
    write_listeners(g, out);
    write_refusals(g, out);
}

/* ---- All of it ---- */

static void write_process(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric build = {"build_info", "gauge", "Always 1; the version is the label",
                                        0};
    static const struct metric workers = {"workers", "gauge", "Worker threads", 0};
    static const struct metric uptime = {"uptime_seconds", "gauge", "Seconds since the start", 0};
    static const struct metric left_out = {
        "log_suppressed", "counter", "Log lines left out because there were too many alike", 0};
    write_head(out, &build);
    write_value(out, &build, "version", HG_VERSION, 1);
    write_head(out, &workers);
    write_value(out, &workers, NULL, NULL, g->workers_n);
    write_head(out, &uptime);
    write_value(out, &uptime, NULL, NULL, (hg_clock_ms() - g->started_ms) / 1000);
    write_head(out, &left_out);
    write_value(out, &left_out, NULL, NULL, hg_log_suppressed_n(g->log));
}

static void write_reloads(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric reloads = {"reloads", "counter",
                                          "Times that SIGHUP had the configuration read again", 0};
    static const struct metric loaded = {
        "config_loaded_timestamp_seconds", "gauge",
        "When the configuration that is in force was read, in seconds since 1970", 0};
    struct hg_reload_stats stats;
    hg_reload_stats(g, &stats);
    write_head(out, &reloads);
    write_value(out, &reloads, "result", "done", stats.done_n);
    write_value(out, &reloads, "result", "refused", stats.refused_n);
    write_head(out, &loaded);
    write_value(out, &loaded, NULL, NULL, stats.loaded_wall_ms / 1000);
}

/* clang-format off */
static const struct metric state_metrics[] = {
    {"state_enabled",    "gauge", "1: there is a state log",                              0},
    {"state_ready",      "gauge", "1: the state log is read up to its end",               0},
    {"state_leader",     "gauge", "1: this instance cleans up for all",                   0},
    {"state_offset",     "gauge", "Offset of the last message read from the state log",   0},
    {"state_replay_ms",  "gauge", "What reading the state log up to its end took",        0},
    {"state_bytes",      "gauge", "Bytes of live records in the state log",               0},
    {"state_tombstones", "gauge", "Cleared or ended keys that are still remembered",      0},
    {"shared_requests",  "gauge", "Requests with an Idempotency-Key known to all instances", 0},
    {"shared_request_bytes", "gauge", "Bytes of their records in the state log",          0},
    {"retained_messages", "gauge", "Retained messages",                                   0},
    {"retained_bytes",   "gauge", "Bytes of retained messages",                           0},
    {"sessions",         "gauge", "Kept sessions, on all instances",                      0},
    {"sessions_connected", "gauge", "Kept sessions that have a connection, on all instances", 0},
};
/* clang-format on */
enum { STATE_N = sizeof(state_metrics) / sizeof(state_metrics[0]) };

/* In the order of the table above. */
static void read_state(const struct hg_vhost *vhost, uint64_t out[STATE_N])
{
    struct hg_state_stats s;
    hg_state_stats(vhost, &s);
    const uint64_t values[STATE_N] = {s.is_enabled,
                                      s.is_ready,
                                      s.is_leader,
                                      s.index.last_offset,
                                      s.replay_ms,
                                      s.index.live_bytes,
                                      s.index.tombstones_n,
                                      s.index.requests_n,
                                      s.index.request_bytes,
                                      s.index.retained_n,
                                      s.index.retained_bytes,
                                      s.index.sessions_n,
                                      s.index.sessions_connected_n};
    memcpy(out, values, sizeof(values));
}

static void write_state(const struct hg_gateway *g, struct hg_writer *out)
{
    uint64_t values[HG_VHOSTS_MAX][STATE_N];
    for (unsigned v = 0; v < g->vhosts_n; v++) {
        read_state(&g->vhosts[v], values[v]);
    }
    for (size_t i = 0; i < STATE_N; i++) {
        write_head(out, &state_metrics[i]);
        for (unsigned v = 0; v < g->vhosts_n; v++) {
            write_of_vhost(out, &state_metrics[i], &g->vhosts[v], NULL, NULL, values[v][i]);
        }
    }
}

static void write_vhosts(const struct hg_gateway *g, struct hg_writer *out)
{
    static const struct metric up = {"vhost_up", "gauge",
                                     "1: every worker is connected to the virtual host", 0};
    write_head(out, &up);
    for (unsigned v = 0; v < g->vhosts_n; v++) {
        write_value(out, &up, "vhost", g->vhosts[v].spec->name, hg_vhost_is_up(&g->vhosts[v]));
    }
}

void hg_metrics_write(const struct hg_worker *w, struct hg_writer *out)
{
    const struct hg_gateway *g = w->gateway;
    write_process(g, out);
    write_vhosts(g, out);
    write_reloads(g, out);
    write_state(g, out);
    write_limits(g, out);
    write_protocols(g, out);
    write_slow(g, out);
    for (size_t i = 0; i < sizeof(worker_metrics) / sizeof(worker_metrics[0]); i++) {
        const struct metric *m = &worker_metrics[i];
        write_head(out, m);
        write_value(out, m, NULL, NULL, sum(g, m->at));
    }
    write_rules(w, out, HG_RULE_IN);
    write_rules(w, out, HG_RULE_OUT);
    write_rule_rates(w, out);
    write_bridges(g, out);
    write_webhooks(g, out);
}
