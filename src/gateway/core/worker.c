/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's life: made on the supervisor's thread, run and taken down on its own. */
#include "core/worker.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/conn.h"
#include "core/gather.h"
#include "core/lease.h"
#include "core/login.h"
#include "core/own.h"
#include "core/reload.h"
#include "core/service.h"
#include "core/state.h"

enum { BACKLOG = 1024, DRAIN_EVERY_MS = 64 };

void hg_worker_report(struct hg_worker *w, enum hg_worker_state state)
{
    atomic_store(&w->state, state);
    hg_mailbox_send(w->gateway->supervisor, &w->report_mail);
}

/* ---- Services ---- */

static bool start_services(struct hg_worker *w)
{
    for (const struct hg_adapter *const *a = w->gateway->adapters; *a != NULL; a++) {
        if ((*a)->start != NULL && !(*a)->start(w)) {
            HG_LOG(w->log, HG_LOG_ERROR, "worker.failed", HG_F_UINT("worker", w->index),
                   HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
            return false;
        }
    }
    return true;
}

static void drain_services(struct hg_worker *w)
{
    HG_LIST_FOREACH (it, &w->services) {
        struct hg_service *s = HG_LIST_ENTRY(it, struct hg_service, link);
        s->ops->drain(s);
    }
}

static bool services_are_idle(const struct hg_worker *w)
{
    HG_LIST_FOREACH (it, &w->services) {
        const struct hg_service *s = HG_LIST_ENTRY(it, struct hg_service, link);
        if (!s->ops->is_idle(s)) {
            return false;
        }
    }
    return true;
}

static void close_services(struct hg_worker *w)
{
    HG_LIST_FOREACH_SAFE (it, &w->services) {
        struct hg_service *s = HG_LIST_ENTRY(it, struct hg_service, link);
        s->ops->close(s);
    }
    while (!hg_list_is_empty(&w->services)) {
        (void)hg_net_turn(&w->net, true);
    }
}

/* ---- Listeners ---- */

static const struct hg_adapter *adapter_for(const struct hg_gateway *g, enum hg_serve serve)
{
    for (size_t i = 0; g->adapters[i] != NULL; i++) {
        if ((g->adapters[i]->serves & (1u << serve)) != 0) {
            return g->adapters[i];
        }
    }
    return NULL;
}

static void on_accept(void *ctx, struct hg_stream *stream)
{
    const struct hg_acceptor *a = ctx;
    hg_conn_accept(a->worker, stream, a->adapter, a->spec);
}

static bool listen_on(struct hg_worker *w, struct hg_acceptor *a, struct hg_listener_state *shared)
{
    bool is_first = w->index == 0;
    const struct hg_listener_config config = {
        .host = a->spec->host,
        .port = is_first ? a->spec->port : shared->port,
        .backlog = BACKLOG,
        .is_first = is_first,
        .has_proxy = a->spec->has_proxy,
        .gate = &shared->gate,
    };
    const char *why = "this gateway has no adapter for it";
    if (a->adapter != NULL) {
        a->listener = hg_listener_open(&w->net, &config, on_accept, a, &why);
    }
    if (a->listener == NULL) {
        HG_LOG(w->log, HG_LOG_ERROR, "listener.failed", HG_F_STR("where", a->spec->where),
               HG_F_STR("serve", hg_serve_name(a->spec->serve)), HG_F_STR("host", config.host),
               HG_F_UINT("port", config.port), HG_F_STR("reason", why));
        return false;
    }
    if (is_first) {
        shared->port = hg_listener_port(a->listener);
    }
    return true;
}

static void open_listeners(struct hg_worker *w)
{
    for (size_t i = 0; i < w->config->listeners_n; i++) {
        if (!listen_on(w, &w->acceptors[i], &w->gateway->listeners[i])) {
            hg_worker_report(w, HG_WORKER_FAILED);
            return;
        }
    }
    hg_conn_watch_start(w);
    hg_worker_report(w, start_services(w) ? HG_WORKER_READY : HG_WORKER_FAILED);
}

static void close_listeners(struct hg_worker *w)
{
    for (size_t i = 0; i < w->config->listeners_n; i++) {
        hg_listener_close(w->acceptors[i].listener);
        w->acceptors[i].listener = NULL;
    }
}

/* ---- Draining: listeners, then clients, then what RabbitMQ still owes us, then the links: the
 * state's first, since what sessions wrote at their end is read back over it ---- */

static void on_links_closed(struct hg_worker *w)
{
    hg_worker_report(w, HG_WORKER_DRAINED);
}

static void fire_drain(struct hg_timer *timer)
{
    struct hg_worker *w = HG_CONTAINER_OF(timer, struct hg_worker, drain_timer);
    bool is_idle = w->conns_n == 0 && hg_list_is_empty(&w->leavers) && services_are_idle(w) &&
                   hg_realms_are_idle(w);
    if (is_idle && hg_realms_stop(w)) {
        hg_realms_drain(w, on_links_closed);
    } else {
        hg_worker_timer(w, timer, DRAIN_EVERY_MS);
    }
}

static void drain(struct hg_worker *w)
{
    close_listeners(w);
    hg_worker_report(w, HG_WORKER_DRAINING);
    hg_conn_drain_all(w);
    drain_services(w);
    hg_worker_timer(w, &w->drain_timer, 0);
}

/* ---- The thread ---- */

static void on_mail(void *ctx, struct hg_mail *mail)
{
    struct hg_worker *w = ctx;
    bool is_running = atomic_load(&w->state) <= HG_WORKER_READY;
    switch (mail->kind) {
    case HG_MAIL_CLAIM: hg_claim_on_mail(mail); break;
    case HG_MAIL_GATHER_ASK: hg_gather_on_ask(w, mail); break;
    case HG_MAIL_GATHER_DONE: hg_gather_on_done(mail); break;
    case HG_MAIL_STATE_ASK:
    case HG_MAIL_STATE_DONE: hg_state_on_mail(mail); break;
    case HG_MAIL_LEASE_ASK:
    case HG_MAIL_LEASE_DONE: hg_lease_on_mail(w, mail); break;
    case HG_MAIL_OWN_SECRET: hg_own_on_mail(w, mail); break;
    case HG_MAIL_LISTEN:
        if (is_running) {
            open_listeners(w);
        }
        break;
    case HG_MAIL_DRAIN:
        if (is_running) {
            drain(w);
        }
        break;
    case HG_MAIL_RELOAD:
        if (is_running) {
            hg_reload_on_order(w);
        }
        break;
    case HG_MAIL_PING: atomic_store(&w->has_turned, true); break;
    case HG_MAIL_STOP: w->must_stop = true; break;
    case HG_MAIL_RELOADED:
    case HG_MAIL_REPORT: break; /* never sent to a worker */
    }
}

/* What every worker has from hg_worker_new on. */
static void close_handles(struct hg_worker *w)
{
    hg_mailbox_close(w->mailbox);
    hg_net_close(&w->net);
    hg_net_run(&w->net);
}

/* What a drain that was given up had waited for. */
static void log_left(const struct hg_worker *w)
{
    unsigned leavers_n = 0;
    HG_LIST_FOREACH (it, &w->leavers) {
        leavers_n++;
    }
    HG_LOG(w->log, HG_LOG_WARN, "drain.left", HG_F_UINT("worker", w->index),
           HG_F_UINT("connections", w->conns_n), HG_F_UINT("sessions", leavers_n),
           HG_F_UINT("unconfirmed", hg_counted(&w->metrics.upstream.window_messages)),
           HG_F_UINT("leases", hg_counted(&w->metrics.lease.leases)),
           HG_F_STR("services", services_are_idle(w) ? "idle" : "busy"),
           HG_F_STR("rabbitmq", hg_realms_are_idle(w) ? "idle" : "busy"));
}

/* From the top of the house to the ground, so that nothing calls into what is gone. */
static void stop(struct hg_worker *w)
{
    if (atomic_load(&w->state) == HG_WORKER_DRAINING) {
        log_left(w);
    }
    atomic_store(&w->state, HG_WORKER_DRAINING); /* late orders are passed over */
    close_listeners(w);
    hg_timer_stop(&w->drain_timer);
    close_services(w);
    hg_conn_close_all(w, HG_SHUTTING_DOWN);
    while (w->conns_n > 0) {
        (void)hg_net_turn(&w->net, true);
    }
    while (!hg_list_is_empty(&w->leavers)) {
        struct hg_leaver *leaver = HG_LIST_ENTRY(w->leavers.next, struct hg_leaver, link);
        leaver->abandon(leaver);
    }
    hg_login_close(w);
    hg_realms_close(w);
    close_handles(w);
}

static void run(void *arg)
{
    struct hg_worker *w = arg;
    hg_mailbox_belongs(w->mailbox, &w->net);
    if (!hg_realms_open(w) || !hg_login_open(w)) {
        HG_LOG(w->log, HG_LOG_ERROR, "worker.failed", HG_F_UINT("worker", w->index),
               HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
        hg_worker_report(w, HG_WORKER_FAILED);
    }
    while (!w->must_stop) {
        (void)hg_net_turn(&w->net, true);
    }
    stop(w);
    hg_worker_report(w, HG_WORKER_STOPPED);
}

bool hg_worker_start(struct hg_worker *w)
{
    return uv_thread_create(&w->thread, run, w) == 0;
}

void hg_worker_join(struct hg_worker *w)
{
    uv_thread_join(&w->thread);
}

/* ---- Its memory ---- */

static bool open_parts(struct hg_worker *w)
{
    size_t listeners_n = w->config->listeners_n;
    w->acceptors = hg_zalloc((listeners_n + 1) * sizeof(*w->acceptors));
    if (w->acceptors == NULL || !hg_realms_new(w)) {
        return false;
    }
    for (size_t i = 0; i < listeners_n; i++) {
        const struct hg_listener_spec *spec = &w->config->listeners[i];
        w->acceptors[i] = (struct hg_acceptor){w, adapter_for(w->gateway, spec->serve), spec, NULL};
    }
    w->mailbox = hg_mailbox_new(&w->loop, on_mail, w);
    return w->mailbox != NULL && hg_net_open(&w->net, &w->loop, &w->wheel, w->log);
}

static void free_parts(struct hg_worker *w)
{
    hg_mailbox_free(w->mailbox);
    hg_rule_counts_unref(w->rule_counts);
    hg_realms_free(w);
    hg_free(w->acceptors);
    hg_config_free(w->config);
    hg_free(w);
}

struct hg_worker *hg_worker_new(struct hg_gateway *gateway, unsigned index)
{
    struct hg_worker *w = hg_zalloc(sizeof(*w));
    if (w == NULL || uv_loop_init(&w->loop) != 0) {
        hg_free(w);
        return NULL;
    }
    w->gateway = gateway;
    w->config = hg_config_ref(gateway->config);
    w->rule_counts = hg_rule_counts_ref(gateway->rule_counts);
    w->log = gateway->log;
    w->index = index;
    w->listen_mail.kind = HG_MAIL_LISTEN;
    w->drain_mail.kind = HG_MAIL_DRAIN;
    w->stop_mail.kind = HG_MAIL_STOP;
    w->ping_mail.kind = HG_MAIL_PING;
    w->reload.order_mail.kind = HG_MAIL_RELOAD;
    w->reload.report_mail.kind = HG_MAIL_RELOADED;
    w->report_mail.kind = HG_MAIL_REPORT;
    hg_list_init(&w->conns);
    hg_list_init(&w->services);
    hg_list_init(&w->leavers);
    hg_conn_pool_open(&w->conn_pool);
    hg_wheel_open(&w->wheel, hg_clock_ms());
    hg_timer_init(&w->drain_timer, fire_drain);
    if (!open_parts(w)) {
        if (w->mailbox != NULL) {
            hg_mailbox_close(w->mailbox);
        }
        uv_run(&w->loop, UV_RUN_DEFAULT);
        uv_loop_close(&w->loop);
        free_parts(w);
        return NULL;
    }
    w->net.limits = (struct hg_stream_limits){(size_t)w->config->outbound_low_bytes,
                                              (size_t)w->config->outbound_high_bytes};
    w->net.connect_user_timeout_ms = (unsigned)(2 * w->config->heartbeat_ms);
    return w;
}

void hg_worker_free(struct hg_worker *w)
{
    if (w == NULL) {
        return;
    }
    if (atomic_load(&w->state) != HG_WORKER_STOPPED) { /* it never ran */
        close_handles(w);
    }
    HG_CHECK(uv_loop_close(&w->loop) == 0); /* no handle was forgotten */
    hg_net_free(&w->net);
    hg_pool_close(&w->conn_pool);
    hg_worker_free_kept(w);
    free_parts(w);
}

/* ---- For the others ---- */

void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms)
{
    hg_wheel_set(&w->wheel, t, hg_clock_ms() + delay_ms);
}

const char *hg_serve_name(enum hg_serve serve)
{
    static const char *const names[] = {
        [HG_SERVE_WEB] = "web",
        [HG_SERVE_MQTT] = "mqtt",
        [HG_SERVE_STOMP] = "stomp",
        [HG_SERVE_ADMIN] = "admin",
    };
    return names[serve];
}
