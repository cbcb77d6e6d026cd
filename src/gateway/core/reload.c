/* SPDX-License-Identifier: Apache-2.0 */
/* In three steps, so that no worker publishes to where another one's subscribers do not listen yet, or do
 * no longer: every worker has RabbitMQ bind what its subscriptions need by the new rules; then every
 * worker swaps, in one turn of its loop each; then old bindings are let go of. */
#include "core/reload.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/secret.h"
#include "core/allowance.h"
#include "core/conn.h"
#include "core/login.h"
#include "core/routing.h"
#include "core/state.h"
#include "core/systemd.h"
#include "core/worker.h"

#include <pthread.h>
#include <stdio.h>

enum {
    DECLARE_MS = 5000,  /* for RabbitMQ's answer to new exchanges and queues */
    PREPARE_MS = 10000, /* for its answers to new bindings; late ones come after the swap */
    RELEASE_MS = 1000,  /* what was published by the old rules has arrived */
    STEP_BITS = 3,
};

struct hg_reload {
    struct hg_gateway *gateway;
    const struct hg_config *first;   /* what cannot change stays as in this one; borrowed */
    const struct hg_config *current; /* in force; a reference, as the next */
    const struct hg_config *next;    /* on its way to the workers; NULL: none is */
    struct hg_rule_counts *next_counts;
    enum hg_reload_step step;
    uv_timer_t limit;
    uint64_t begun_ms;
    unsigned round;       /* counts reloads, so that a late word of an earlier one is known */
    unsigned kept_n;      /* keys that need a restart */
    bool wants_again;     /* SIGHUP came meanwhile */
    pthread_mutex_t lock; /* of what follows */
    struct hg_reload_stats stats;
};

struct hg_reload *hg_reload_new(struct hg_gateway *gateway, uv_loop_t *loop)
{
    struct hg_reload *r = hg_zalloc(sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->gateway = gateway;
    r->first = gateway->config;
    r->current = hg_config_ref(gateway->config);
    uv_timer_init(loop, &r->limit);
    r->limit.data = r;
    pthread_mutex_init(&r->lock, NULL);
    r->stats.loaded_wall_ms = hg_clock_wall_ms();
    return r;
}

void hg_reload_start(struct hg_reload *r)
{
    r->step = HG_RELOAD_IDLE;
    if (r->wants_again) {
        hg_reload_begin(r);
    }
}

void hg_reload_stop(struct hg_reload *r)
{
    uv_timer_stop(&r->limit);
    r->step = HG_RELOAD_OFF;
}

void hg_reload_close(struct hg_reload *r)
{
    hg_reload_stop(r);
    uv_close((uv_handle_t *)&r->limit, NULL);
}

void hg_reload_free(struct hg_reload *r)
{
    if (r != NULL) {
        hg_config_free(r->next);
        hg_rule_counts_unref(r->next_counts);
        hg_config_free(r->current);
        pthread_mutex_destroy(&r->lock);
        hg_free(r);
    }
}

const struct hg_config *hg_reload_current(const struct hg_reload *r)
{
    return r->current;
}

void hg_reload_stats(const struct hg_gateway *gateway, struct hg_reload_stats *out)
{
    struct hg_reload *r = gateway->reload;
    pthread_mutex_lock(&r->lock);
    *out = r->stats;
    pthread_mutex_unlock(&r->lock);
}

/* ---- The end of a reload ---- */

static void end(struct hg_reload *r)
{
    r->step = HG_RELOAD_IDLE;
    hg_systemd_notify("READY=1");
    if (r->wants_again) {
        hg_reload_begin(r);
    }
}

static void give_up(struct hg_reload *r, const char *problem)
{
    hg_config_free(r->next);
    hg_rule_counts_unref(r->next_counts);
    r->next = NULL;
    r->next_counts = NULL;
    pthread_mutex_lock(&r->lock);
    r->stats.refused_n++;
    r->stats.refused_wall_ms = hg_clock_wall_ms();
    snprintf(r->stats.problem, sizeof(r->stats.problem), "%s", problem);
    uint64_t age_ms = r->stats.refused_wall_ms - r->stats.loaded_wall_ms;
    pthread_mutex_unlock(&r->lock);
    HG_LOG(r->gateway->log, HG_LOG_ERROR, "reload.refused", HG_F_STR("file", r->first->file),
           HG_F_STR("reason", "the old configuration stays in force, whole"),
           HG_F_UINT("read_s_ago", age_ms / 1000));
    end(r);
}

/* ---- Step by step ---- */

static unsigned word(unsigned round, enum hg_reload_step step)
{
    return round << STEP_BITS | step;
}

static void order(struct hg_reload *r, enum hg_reload_step step)
{
    r->round += step == HG_RELOAD_PREPARE;
    for (unsigned i = 0; i < r->gateway->workers_n; i++) {
        struct hg_worker *w = r->gateway->workers[i];
        if (step == HG_RELOAD_PREPARE) {
            w->reload.next = r->next; /* no order is under way: nobody reads them */
            w->reload.next_counts = r->next_counts;
        }
        atomic_store(&w->reload.wanted, word(r->round, step));
        hg_mailbox_send(w->mailbox, &w->reload.order_mail);
    }
}

static void copy(_Atomic uint64_t *to, const _Atomic uint64_t *from)
{
    atomic_store_explicit(to, atomic_load_explicit(from, memory_order_relaxed),
                          memory_order_relaxed);
}

/* A rule's rate goes on where it was, by the rule's name. */
static void carry_meters(const struct hg_config *from, const struct hg_config *to)
{
    for (size_t i = 0; i < to->rules_n; i++) {
        struct hg_rule_meter *now = to->rules[i].meter;
        for (size_t j = 0; now != NULL && j < from->rules_n; j++) {
            const struct hg_rule_meter *was = from->rules[j].meter;
            if (was != NULL && strcmp(from->rules[j].name, to->rules[i].name) == 0) {
                copy(&now->meters.messages.full_ns, &was->meters.messages.full_ns);
                copy(&now->meters.bytes.full_ns, &was->meters.bytes.full_ns);
                copy(&now->held_n, &was->held_n);
                copy(&now->refused_n, &was->refused_n);
            }
        }
    }
}

static void swap(struct hg_reload *r)
{
    const struct hg_config *next = r->next;
    uv_timer_stop(&r->limit);
    hg_log_set_level(r->gateway->log, next->log_level);
    carry_meters(r->current, next);
    hg_logins_limit(r->gateway->logins, next);
    hg_allowances_apply(r->gateway, next);
    r->step = HG_RELOAD_SWAP;
    order(r, HG_RELOAD_SWAP);
}

static void on_limit(uv_timer_t *timer)
{
    struct hg_reload *r = timer->data;
    if (r->step == HG_RELOAD_PREPARE) {
        swap(r);
    } else {
        order(r, HG_RELOAD_RELEASE);
    }
}

static void finish(struct hg_reload *r)
{
    hg_config_free(r->current);
    hg_rule_counts_unref(r->gateway->rule_counts);
    r->current = r->next;
    r->gateway->rule_counts = r->next_counts;
    r->next = NULL;
    r->next_counts = NULL;
    pthread_mutex_lock(&r->lock);
    r->stats.done_n++;
    r->stats.loaded_wall_ms = hg_clock_wall_ms();
    r->stats.problem[0] = '\0';
    pthread_mutex_unlock(&r->lock);
    HG_LOG(r->gateway->log, HG_LOG_INFO, "reload.done", HG_F_STR("file", r->first->file),
           HG_F_UINT("rules", r->current->rules_n), HG_F_UINT("users", r->current->users.users_n),
           HG_F_UINT("need_restart", r->kept_n), HG_F_UINT("ms", hg_clock_ms() - r->begun_ms));
    uv_timer_start(&r->limit, on_limit, RELEASE_MS, 0);
    end(r);
}

void hg_reload_on_report(struct hg_reload *r)
{
    bool are_done = r->step == HG_RELOAD_PREPARE || r->step == HG_RELOAD_SWAP;
    bool has_failed = false;
    for (unsigned i = 0; i < r->gateway->workers_n; i++) {
        unsigned done = atomic_load(&r->gateway->workers[i]->reload.done);
        has_failed = has_failed || done == word(r->round, HG_RELOAD_FAILED);
        are_done = are_done && done == word(r->round, r->step);
    }
    if (has_failed && r->step == HG_RELOAD_PREPARE) {
        give_up(r, hg_status_text(HG_NO_MEMORY));
    } else if (are_done && r->step == HG_RELOAD_PREPARE) {
        swap(r);
    } else if (are_done) {
        finish(r);
    }
}

/* ---- Reading ---- */

static void on_kept(void *ctx, const char *key, const char *where)
{
    struct hg_reload *r = ctx;
    r->kept_n++;
    HG_LOG(r->gateway->log, HG_LOG_WARN, "reload.kept", HG_F_STR("key", key),
           HG_F_STR("where", where), HG_F_STR("reason", "needs a restart; the old value stays"));
}

/* A log line each; the first is what /api/status shows. */
static void log_problems(struct hg_reload *r, struct hg_bytes lines, char first[static 512])
{
    first[0] = '\0';
    while (lines.n > 0) {
        struct hg_bytes line = hg_bytes(lines.p, hg_bytes_index(lines, '\n'));
        lines = hg_bytes_skip(lines, line.n + (line.n < lines.n));
        HG_LOG(r->gateway->log, HG_LOG_ERROR, "reload.problem", HG_F_BYTES("reason", line));
        if (first[0] == '\0') {
            snprintf(first, 512, "%.*s", HG_BYTES_FMT(line));
        }
    }
}

/* NULL, or why what RabbitMQ is to have cannot be had. */
static const char *declare(const struct hg_reload *r)
{
    if (hg_config_says_same(r->current, r->next, "exchange") &&
        hg_config_says_same(r->current, r->next, "queue")) {
        return NULL;
    }
    switch (hg_vhosts_declare(r->next, DECLARE_MS, r->gateway->log)) {
    case 0: return NULL;
    case 1: return "RabbitMQ refused a declaration of an exchange or a queue (topology.refused)";
    case HG_TOPOLOGY_AWAY:
        return "exchanges or queues are new, and RabbitMQ cannot be reached to declare them";
    case HG_TOPOLOGY_STOPPED: return "the gateway is being stopped";
    default: return hg_status_text(HG_NO_MEMORY);
    }
}

static void renew_certificates(const struct hg_reload *r, struct hg_tls_context *context,
                               const char *where)
{
    struct hg_writer problem = {0};
    if (context == NULL) {
        return;
    }
    bool is_good = hg_tls_context_reload(context, &problem);
    HG_LOG(r->gateway->log, is_good ? HG_LOG_INFO : HG_LOG_ERROR,
           is_good ? "certificates.reloaded" : "certificates.kept", HG_F_STR("of", where),
           HG_F_BYTES("reason", hg_writer_view(&problem)));
    hg_writer_close(&problem);
}

static void renew_files(const struct hg_reload *r)
{
    for (size_t i = 0; i < r->first->listeners_n; i++) {
        renew_certificates(r, r->first->listeners[i].tls_context, r->first->listeners[i].where);
    }
    renew_certificates(r, r->first->rabbitmq_tls, "rabbitmq");
    if (r->first->rabbitmq_secret != NULL) {
        hg_secret_look(r->first->rabbitmq_secret, hg_clock_ms(), true, r->gateway->log);
    }
}

void hg_reload_begin(struct hg_reload *r)
{
    struct hg_writer problems = {0};
    char problem[512];
    r->wants_again = r->step != HG_RELOAD_IDLE;
    if (r->wants_again || r->step == HG_RELOAD_OFF) {
        return;
    }
    hg_systemd_notify_reloading();
    r->begun_ms = hg_clock_ms();
    r->kept_n = 0;
    r->next = hg_config_reload(r->first, on_kept, r, &problems);
    log_problems(r, hg_writer_view(&problems), problem);
    hg_writer_close(&problems);
    const char *why = r->next == NULL ? problem : declare(r);
    if (why == NULL) {
        r->next_counts = hg_rule_counts_new(r->next, r->gateway->rule_counts);
        why = r->next_counts == NULL ? hg_status_text(HG_NO_MEMORY) : NULL;
    }
    if (why != NULL) {
        give_up(r, why);
        return;
    }
    renew_files(r);
    uv_timer_start(&r->limit, on_limit, PREPARE_MS, 0);
    r->step = HG_RELOAD_PREPARE;
    order(r, HG_RELOAD_PREPARE);
}

/* ---- A worker's part ---- */

static void report(struct hg_worker *w, enum hg_reload_step step)
{
    atomic_store(&w->reload.done, word(w->reload.round, step));
    hg_mailbox_send(w->gateway->supervisor, &w->reload.report_mail);
}

void hg_reload_is_prepared(struct hg_worker *w)
{
    report(w, HG_RELOAD_PREPARE);
}

/* In this turn everything is judged by the old configuration, then everything by the new one. */
static void reconfigure(struct hg_worker *w, const struct hg_config *next)
{
    const struct hg_config *before = w->config;
    w->config = hg_config_ref(next);
    w->net.limits = (struct hg_stream_limits){(size_t)next->outbound_low_bytes,
                                              (size_t)next->outbound_high_bytes};
    for (size_t i = 0; i < next->listeners_n; i++) {
        w->acceptors[i].spec = &next->listeners[i];
    }
    hg_rule_counts_unref(w->rule_counts);
    w->rule_counts = hg_rule_counts_ref(w->reload.next_counts);
    hg_conn_reconfigure(w, before);
    hg_login_review(w, before);
    hg_resubscribe(w, before);
    hg_config_free(before);
}

/* Prepared for this round, by now. False when there is no memory. */
static bool prepare(struct hg_worker *w, unsigned round)
{
    if (w->reload.round == round) {
        return w->reload.is_prepared;
    }
    w->reload.round = round;
    w->reload.is_prepared = hg_resubscribe_prepare(w, w->reload.next);
    return w->reload.is_prepared;
}

void hg_reload_on_order(struct hg_worker *w)
{
    unsigned wanted = atomic_load(&w->reload.wanted);
    bool must_swap = wanted == word(wanted >> STEP_BITS, HG_RELOAD_SWAP);
    if (wanted == word(wanted >> STEP_BITS, HG_RELOAD_RELEASE)) {
        hg_resubscribe_release(w);
        return;
    }
    if (!prepare(w, wanted >> STEP_BITS)) {
        HG_LOG(w->log, HG_LOG_ERROR, "reload.failed", HG_F_UINT("worker", w->index),
               HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
        report(w, must_swap ? HG_RELOAD_SWAP : HG_RELOAD_FAILED);
    } else if (must_swap) {
        reconfigure(w, w->reload.next);
        report(w, HG_RELOAD_SWAP);
    }
}
