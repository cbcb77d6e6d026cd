/* SPDX-License-Identifier: Apache-2.0 */
/* The main thread: a loop of its own with the signals, the workers' reports and the drain's time
 * limit. */
#include "core/supervisor.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/allowance.h"
#include "core/files.h"
#include "core/login.h"
#include "core/reload.h"
#include "core/systemd.h"
#include "core/worker.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_GIVEN = 1, EXIT_RUNNING = 2 };

enum phase {
    PHASE_REPLAYING, /* the state log is read, or found to be unavailable */
    PHASE_STARTING,  /* the first worker opens its listeners and learns their ports */
    PHASE_JOINING,   /* the others open theirs on the same ports */
    PHASE_RUNNING,
    PHASE_DRAINING,
    PHASE_STOPPING,
};

enum { SIGNALS_N = 3 };
static const int signal_numbers[SIGNALS_N] = {SIGTERM, SIGINT, SIGHUP};

struct supervisor {
    struct hg_gateway gateway;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS_N];
    uv_timer_t drain_limit, watchdog;
    enum phase phase;
    unsigned started_n; /* workers whose threads run */
    int exit_code;
};

/* ---- Orders ---- */

static bool all_are(const struct supervisor *s, enum hg_worker_state state)
{
    for (unsigned i = 0; i < s->gateway.workers_n; i++) {
        if (atomic_load(&s->gateway.workers[i]->state) != (int)state) {
            return false;
        }
    }
    return true;
}

static void close_handles(struct supervisor *s)
{
    for (unsigned i = 0; i < SIGNALS_N; i++) {
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&s->drain_limit, NULL);
    uv_close((uv_handle_t *)&s->watchdog, NULL);
    if (s->gateway.reload != NULL) {
        hg_reload_close(s->gateway.reload);
    }
    hg_mailbox_close(s->gateway.supervisor);
}

/* With our handlers goes what keeps the loop alive; a signal from now on ends the process as
 * signals do. */
static void stop_all(struct supervisor *s)
{
    if (s->phase == PHASE_STOPPING) {
        return;
    }
    s->phase = PHASE_STOPPING;
    for (unsigned i = 0; i < s->started_n; i++) {
        hg_mailbox_send(s->gateway.workers[i]->mailbox, &s->gateway.workers[i]->stop_mail);
    }
    close_handles(s);
}

static void on_drain_limit(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    HG_LOG(s->gateway.log, HG_LOG_WARN, "drain.unfinished",
           HG_F_UINT("timeout_ms", hg_reload_current(s->gateway.reload)->drain_timeout_ms));
    stop_all(s);
}

static void drain_all(struct supervisor *s)
{
    s->phase = PHASE_DRAINING;
    hg_systemd_notify("STOPPING=1");
    hg_reload_stop(s->gateway.reload);
    atomic_store(&s->gateway.is_draining, true);
    for (unsigned i = 0; i < s->gateway.workers_n; i++) {
        hg_mailbox_send(s->gateway.workers[i]->mailbox, &s->gateway.workers[i]->drain_mail);
    }
    uv_timer_start(&s->drain_limit, on_drain_limit,
                   hg_reload_current(s->gateway.reload)->drain_timeout_ms, 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct supervisor *s = signal->data;
    if (number == SIGHUP) {
        hg_reload_begin(s->gateway.reload);
        return;
    }
    bool is_second = s->phase == PHASE_DRAINING;
    HG_LOG(s->gateway.log, HG_LOG_INFO, is_second ? "stopping" : "draining",
           HG_F_STR("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    if (is_second) {
        stop_all(s);
    } else {
        drain_all(s);
    }
}

/* ---- Reports ---- */

/* listener.mqtt=127.0.0.1:1883 …, a second one of a kind as listener.mqtt.2. */
static void log_ready(const struct supervisor *s)
{
    const struct hg_config *config = s->gateway.config;
    size_t n = config->listeners_n;
    struct line {
        char key[40], value[300];
    } *lines = hg_zalloc((n + 1) * sizeof(*lines));
    struct hg_log_field *fields = hg_zalloc((n + 2) * sizeof(*fields));
    unsigned seen[HG_SERVE_ADMIN + 1] = {0};
    if (lines != NULL && fields != NULL) {
        fields[0] = HG_F_UINT("workers", s->gateway.workers_n);
        for (size_t i = 0; i < n; i++) {
            const struct hg_listener_spec *l = &config->listeners[i];
            bool is_v6 = strchr(l->host, ':') != NULL;
            unsigned nth = ++seen[l->serve];
            int key_n = snprintf(lines[i].key, sizeof(lines[i].key), "listener.%s",
                                 hg_serve_name(l->serve));
            if (nth > 1) {
                snprintf(lines[i].key + key_n, sizeof(lines[i].key) - (size_t)key_n, ".%u", nth);
            }
            snprintf(lines[i].value, sizeof(lines[i].value), is_v6 ? "[%s]:%u" : "%s:%u", l->host,
                     (unsigned)s->gateway.listeners[i].port);
            fields[i + 1] = HG_F_STR(lines[i].key, lines[i].value);
        }
        hg_log_event(s->gateway.log, HG_LOG_INFO, "ready", fields);
    }
    hg_free(lines);
    hg_free(fields);
}

static void order_listen(struct supervisor *s, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        hg_mailbox_send(s->gateway.workers[i]->mailbox, &s->gateway.workers[i]->listen_mail);
    }
}

/* Every worker has turned since the last time: systemd hears so, and they are asked again. */
static void on_watchdog(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    bool have_turned = true;
    for (unsigned i = 0; i < s->gateway.workers_n; i++) {
        have_turned &= atomic_load(&s->gateway.workers[i]->has_turned);
    }
    if (have_turned) {
        hg_systemd_notify("WATCHDOG=1");
    }
    for (unsigned i = 0; i < s->gateway.workers_n; i++) {
        struct hg_worker *w = s->gateway.workers[i];
        if (have_turned) {
            atomic_store(&w->has_turned, false);
        }
        hg_mailbox_send(w->mailbox, &w->ping_mail);
    }
}

/* From here on nothing needs root: the listeners are open. False, and a log line, if it cannot be
 * given up. */
static bool drop_root(const struct supervisor *s)
{
    const struct hg_config *config = s->gateway.config;
    if (config->run_as == NULL || config->user_id == geteuid()) {
        return true;
    }
    if (initgroups(config->run_as, config->group_id) == 0 && setgid(config->group_id) == 0 &&
        setuid(config->user_id) == 0) {
        HG_LOG(s->gateway.log, HG_LOG_INFO, "root.dropped", HG_F_STR("user", config->run_as));
        return true;
    }
    HG_LOG(s->gateway.log, HG_LOG_ERROR, "root.kept", HG_F_STR("user", config->run_as),
           HG_F_STR("reason", strerror(errno)));
    return false;
}

static void become_running(struct supervisor *s)
{
    s->phase = PHASE_RUNNING;
    if (!drop_root(s)) {
        s->exit_code = EXIT_GIVEN;
        stop_all(s);
        return;
    }
    log_ready(s);
    hg_systemd_notify("READY=1");
    hg_reload_start(s->gateway.reload);
}

static void on_report(void *ctx, struct hg_mail *mail)
{
    struct supervisor *s = ctx;
    if (mail->kind == HG_MAIL_RELOADED) {
        hg_reload_on_report(s->gateway.reload);
        return;
    }
    struct hg_worker *w = HG_CONTAINER_OF(mail, struct hg_worker, report_mail);
    if (atomic_load(&w->state) == HG_WORKER_FAILED && s->phase != PHASE_STOPPING) {
        s->exit_code = EXIT_GIVEN;
        stop_all(s);
        return;
    }
    if (s->phase == PHASE_REPLAYING && hg_vhosts_are_settled(&s->gateway)) {
        s->phase = PHASE_STARTING;
        order_listen(s, 0, 1);
    }
    if (s->phase == PHASE_STARTING &&
        atomic_load(&s->gateway.workers[0]->state) == HG_WORKER_READY) {
        s->phase = PHASE_JOINING;
        order_listen(s, 1, s->gateway.workers_n);
    }
    if (s->phase == PHASE_JOINING && all_are(s, HG_WORKER_READY)) {
        become_running(s);
    }
    if (s->phase == PHASE_DRAINING && all_are(s, HG_WORKER_DRAINED)) {
        stop_all(s);
    }
}

/* ---- Start and end ---- */

static bool prepare_adapters(const struct hg_gateway *g)
{
    for (const struct hg_adapter *const *a = g->adapters; *a != NULL; a++) {
        if ((*a)->prepare != NULL && !(*a)->prepare()) {
            return false;
        }
    }
    return true;
}

static void release_adapters(const struct hg_gateway *g)
{
    for (const struct hg_adapter *const *a = g->adapters; *a != NULL; a++) {
        if ((*a)->release != NULL) {
            (*a)->release();
        }
    }
}

static bool open_gateway(struct supervisor *s, const struct hg_config *config,
                         const struct hg_adapter *const *adapters, struct hg_log *log)
{
    struct hg_gateway *g = &s->gateway;
    g->config = config;
    g->adapters = adapters;
    g->log = log;
    g->boot_id = hg_random_u64();
    g->started_ms = hg_clock_ms();
    atomic_store(&g->next_conn_id, 1);
    g->logins = hg_logins_new(config);
    g->rule_counts = hg_rule_counts_new(config, NULL);
    g->listeners = hg_zalloc((config->listeners_n + 1) * sizeof(*g->listeners));
    g->bridges = hg_zalloc((config->bridges_n + 1) * sizeof(*g->bridges));
    g->webhooks = hg_zalloc((config->webhooks_n + 1) * sizeof(*g->webhooks));
    g->allowances = hg_allowances_new();
    g->workers = hg_zalloc(config->workers * sizeof(struct hg_worker *));
    g->supervisor = hg_mailbox_new(&s->loop, on_report, s);
    if (!hg_vhosts_open(g) || g->logins == NULL || g->rule_counts == NULL ||
        g->allowances == NULL || g->listeners == NULL || g->bridges == NULL ||
        g->webhooks == NULL || g->workers == NULL || g->supervisor == NULL ||
        !prepare_adapters(g)) {
        return false;
    }
    hg_allowances_apply(g, config);
    for (; g->workers_n < config->workers; g->workers_n++) {
        g->workers[g->workers_n] = hg_worker_new(g, g->workers_n);
        if (g->workers[g->workers_n] == NULL) {
            return false;
        }
    }
    return true;
}

/* Signals are the supervisor's alone. */
static bool start_workers(struct supervisor *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (s->started_n < s->gateway.workers_n &&
           hg_worker_start(s->gateway.workers[s->started_n])) {
        s->started_n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->started_n == s->gateway.workers_n;
}

static void supervise(struct supervisor *s)
{
    for (unsigned i = 0; i < SIGNALS_N; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, signal_numbers[i]);
    }
    uv_timer_init(&s->loop, &s->drain_limit);
    s->drain_limit.data = s;
    uv_timer_init(&s->loop, &s->watchdog);
    s->watchdog.data = s;
    uint64_t watchdog_ms = hg_systemd_watchdog_ms();
    if (watchdog_ms > 0) {
        uv_timer_start(&s->watchdog, on_watchdog, 0, watchdog_ms);
    }
    s->gateway.reload = hg_reload_new(&s->gateway, &s->loop);
    if (s->gateway.reload != NULL && start_workers(s)) {
        hg_mailbox_send(s->gateway.supervisor, &s->gateway.workers[0]->report_mail);
    } else {
        HG_LOG(s->gateway.log, HG_LOG_ERROR, "start.failed",
               HG_F_STR("reason", "no memory, or no thread"));
        s->exit_code = EXIT_RUNNING;
        stop_all(s);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < s->started_n; i++) {
        hg_worker_join(s->gateway.workers[i]);
    }
}

static void close_gateway(struct supervisor *s)
{
    struct hg_gateway *g = &s->gateway;
    for (unsigned i = 0; i < g->workers_n; i++) {
        hg_worker_free(g->workers[i]);
    }
    hg_reload_free(g->reload);
    hg_rule_counts_unref(g->rule_counts);
    release_adapters(g);
    hg_mailbox_free(g->supervisor);
    hg_vhosts_close(g);
    hg_logins_free(g->logins);
    hg_allowances_free(g->allowances);
    hg_free(g->workers);
    hg_free(g->bridges);
    hg_free(g->webhooks);
    hg_free(g->listeners);
}

int hg_supervisor_run(const struct hg_config *config, const struct hg_adapter *const *adapters,
                      struct hg_log *log)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* until the loop takes it */
    hg_files_raise(config, log);
    int code = hg_vhosts_declare(config, 0, log);
    if (code == HG_TOPOLOGY_STOPPED) {
        HG_LOG(log, HG_LOG_INFO, "stopped", HG_F_INT("code", EXIT_OK));
        return EXIT_OK;
    }
    if (code != EXIT_OK) {
        return code;
    }
    struct supervisor *s = hg_zalloc(sizeof(*s));
    if (s == NULL || uv_loop_init(&s->loop) != 0) {
        hg_free(s);
        return EXIT_RUNNING;
    }
    if (open_gateway(s, config, adapters, log)) {
        supervise(s);
        HG_LOG(log, HG_LOG_INFO, "stopped", HG_F_INT("code", s->exit_code));
    } else {
        HG_LOG(log, HG_LOG_ERROR, "start.failed", HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
        s->exit_code = EXIT_RUNNING;
        if (s->gateway.supervisor != NULL) {
            hg_mailbox_close(s->gateway.supervisor);
            uv_run(&s->loop, UV_RUN_DEFAULT);
        }
    }
    close_gateway(s);
    HG_CHECK(uv_loop_close(&s->loop) == 0);
    code = s->exit_code;
    hg_free(s);
    return code;
}
