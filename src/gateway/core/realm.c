/* SPDX-License-Identifier: Apache-2.0 */
#include "core/realm.h"

#include "base/mem.h"
#include "core/idempotency.h"
#include "core/lease.h"
#include "core/own.h"
#include "core/routing.h"
#include "core/state.h"
#include "core/worker.h"

/* ---- The process's ---- */

static bool open_vhost(struct hg_vhost *v)
{
    const struct hg_config *config = v->gateway->config;
    const struct hg_idempotency_limits limits = {.max_n = config->http_idempotency_max,
                                                 .max_bytes = config->http_idempotency_buffer_bytes,
                                                 .window_ms = config->http_idempotency_window_ms};
    bool has_state = strcmp(config->state_log, "off") != 0;
    v->directory = hg_directory_new();
    v->state = has_state ? hg_state_new(v) : NULL;
    v->idempotency = limits.max_n == 0 ? NULL : hg_idempotency_new(&limits);
    return v->directory != NULL && (v->state != NULL || !has_state) &&
           (v->idempotency != NULL || limits.max_n == 0);
}

bool hg_vhosts_open(struct hg_gateway *gateway)
{
    const struct hg_config *config = gateway->config;
    gateway->vhosts = hg_zalloc(config->vhosts_n * sizeof(*gateway->vhosts));
    bool is_whole = gateway->vhosts != NULL;
    for (unsigned i = 0; is_whole && i < config->vhosts_n; i++) {
        gateway->vhosts[i] =
            (struct hg_vhost){.gateway = gateway, .spec = &config->vhosts[i], .index = i};
        gateway->vhosts_n = i + 1;
        is_whole = open_vhost(&gateway->vhosts[i]);
    }
    return is_whole;
}

void hg_vhosts_close(struct hg_gateway *gateway)
{
    for (unsigned i = 0; i < gateway->vhosts_n; i++) {
        hg_state_free(gateway->vhosts[i].state);
        hg_directory_free(gateway->vhosts[i].directory);
        hg_idempotency_free(gateway->vhosts[i].idempotency);
    }
    hg_free(gateway->vhosts);
}

int hg_vhosts_declare(const struct hg_config *config, uint64_t limit_ms, struct hg_log *log)
{
    int code = 0;
    for (unsigned i = 0; i < config->vhosts_n && code == 0; i++) {
        code = hg_routing_declare(config, &config->vhosts[i], limit_ms, log);
    }
    return code;
}

bool hg_vhosts_are_settled(const struct hg_gateway *gateway)
{
    for (unsigned i = 0; i < gateway->vhosts_n; i++) {
        if (!hg_state_is_settled(&gateway->vhosts[i])) {
            return false;
        }
    }
    return true;
}

bool hg_vhost_is_up(const struct hg_vhost *vhost)
{
    const struct hg_gateway *g = vhost->gateway;
    bool is_up = true;
    for (unsigned i = 0; i < g->workers_n; i++) {
        is_up = is_up && atomic_load_explicit(&g->workers[i]->realms[vhost->index]->is_up,
                                              memory_order_relaxed);
    }
    return is_up;
}

/* ---- A worker's ---- */

bool hg_realms_new(struct hg_worker *w)
{
    struct hg_gateway *g = w->gateway;
    /* It never moves: other threads look at the first ones. */
    w->realms = hg_zalloc((g->vhosts_n + HG_OWN_REALMS_MAX) * sizeof(struct hg_realm *));
    bool is_whole = w->realms != NULL;
    for (unsigned i = 0; is_whole && i < g->vhosts_n; i++) {
        struct hg_realm *realm = hg_zalloc(sizeof(*realm));
        is_whole = realm != NULL;
        if (is_whole) {
            realm->worker = w;
            realm->vhost = &g->vhosts[i];
            realm->index = (uint16_t)i;
            realm->spec = realm->vhost->spec;
            realm->rules = realm->spec->table;
            w->realms[w->realms_n++] = realm;
        }
    }
    return is_whole;
}

void hg_realms_free(struct hg_worker *w)
{
    for (unsigned i = 0; i < w->realms_n; i++) {
        hg_free(w->realms[i]);
    }
    hg_free(w->realms);
}

bool hg_realms_open(struct hg_worker *w)
{
    for (unsigned i = 0; i < w->realms_n; i++) {
        struct hg_realm *realm = w->realms[i];
        if (!hg_routing_open(realm) || !hg_leases_open(realm) || !hg_state_open(realm)) {
            return false;
        }
    }
    return true;
}

bool hg_realms_are_idle(const struct hg_worker *w)
{
    struct hg_realm *realm;
    for (unsigned at = 0; (realm = hg_realm_next(w, &at)) != NULL;) {
        if (!hg_routing_is_idle(realm) || !hg_state_is_idle(realm)) {
            return false;
        }
    }
    return true;
}

bool hg_realms_stop(struct hg_worker *w)
{
    bool are_stopped = true;
    for (unsigned i = 0; i < w->realms_n; i++) {
        hg_state_stop(w->realms[i]);
        are_stopped = are_stopped && hg_state_is_stopped(w->realms[i]);
    }
    return are_stopped;
}

static void on_one_drained(struct hg_worker *w)
{
    if (--w->realms_draining_n == 0) {
        w->realms_drained(w);
    }
}

static void on_drained(struct hg_realm *realm)
{
    on_one_drained(realm->worker);
}

void hg_realms_drain(struct hg_worker *w, void (*done)(struct hg_worker *w))
{
    w->realms_drained = done;
    w->realms_draining_n = w->realms_n + w->own_n;
    w->own_drained = on_one_drained;
    hg_own_drain(w);
    for (unsigned i = 0; i < w->realms_n; i++) {
        hg_routing_drain(w->realms[i], on_drained);
    }
}

void hg_realms_close(struct hg_worker *w)
{
    hg_own_close(w);
    for (unsigned i = 0; i < w->realms_n; i++) {
        hg_state_close(w->realms[i]);
    }
    for (unsigned i = 0; i < w->realms_n; i++) {
        hg_routing_close(w->realms[i]);
    }
}
