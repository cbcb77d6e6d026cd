/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread, one event loop, and everything on it. Workers share nothing but what struct hg_gateway lists, and talk
 * through mailboxes only. */
#ifndef HG_CORE_WORKER_H
#define HG_CORE_WORKER_H

#include "base/wheel.h"
#include "core/adapter.h"
#include "core/directory.h"
#include "core/metrics.h"
#include "stream/net.h"

#include <uv.h>

struct hg_mailbox;
struct hg_upstream;
struct hg_routing;
struct hg_worker;

struct hg_gateway { /* shared by all workers; frozen after start but for what says otherwise */
    const struct hg_config *config;
    const struct hg_adapter *const *adapters;
    struct hg_log *log;             /* thread-safe */
    struct hg_directory *directory; /* locked */
    struct hg_worker **workers;
    unsigned workers_n;
    uint64_t boot_id; /* random */
    uint64_t started_wall_ms;
    _Atomic uint64_t next_conn_id;
    _Atomic bool is_draining;
};

enum hg_worker_state { HG_WORKER_STARTING, HG_WORKER_READY, HG_WORKER_DRAINING, HG_WORKER_STOPPED };

struct hg_worker {
    struct hg_gateway *gateway;
    const struct hg_config *config;
    const struct hg_rules *rules;
    struct hg_log *log;
    unsigned index; /* 0 … workers_n - 1 */
    uv_loop_t loop;
    uv_timer_t wheel_timer; /* drives `wheel`; runs only while a timer is set */
    struct hg_wheel wheel;
    struct hg_net net;
    struct hg_metrics metrics;
    struct hg_mailbox *mailbox;
    struct hg_upstream *upstream;
    struct hg_routing *routing; /* subscription indexes and deliveries, core/session.c */
    struct hg_listener **listeners;
    struct hg_list conns;
    size_t conns_n;
    struct hg_pool conn_pool;
    _Atomic int state;           /* enum hg_worker_state */
    _Atomic bool is_upstream_up; /* publishing and feed links are open, for /readyz */
};

/* Sets t to fire in delay_ms from now. */
void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms);

/* Asks every worker, this one included, for text (`ask` runs there), and hands all of it, joined by `separator` in worker order and leaving out
 * empty ones, to `done` on this worker; from the loop, never from inside. Returns a handle for hg_gather_cancel, NULL when there is no memory. */
struct hg_gather;
typedef void hg_gather_ask_fn(struct hg_worker *worker, struct hg_writer *out);
typedef void hg_gather_done_fn(void *ctx, struct hg_bytes text);
struct hg_gather *hg_gather(struct hg_worker *w, hg_gather_ask_fn *ask, const char *separator,
                            hg_gather_done_fn *done, void *ctx);
void hg_gather_cancel(struct hg_gather *g); /* done will not be called */

#endif
