/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread, one event loop, and everything on it. Workers share nothing but what struct
 * hg_gateway lists, and talk through mailboxes only. */
#ifndef HG_CORE_WORKER_H
#define HG_CORE_WORKER_H

#include "base/map.h"
#include "base/random.h"
#include "base/wheel.h"
#include "core/adapter.h"
#include "core/directory.h"
#include "core/mailbox.h"
#include "core/metrics.h"
#include "core/realm.h"
#include "core/rule_counts.h"
#include "stream/net.h"

#include <uv.h>

struct hg_allowances;
struct hg_reload;
struct hg_login_port;
struct hg_logins;
struct hg_worker;

struct hg_listener_state { /* of one [[listener]], for all workers */
    uint16_t port;         /* the one that the first worker got; read by the others after that */
    struct hg_gate gate;
};

struct hg_gateway { /* shared by all workers; frozen after start but for what says otherwise */
    /* What it was started with, for what cannot change while it runs; else ask the worker's. */
    const struct hg_config *config;
    struct hg_reload *reload;           /* core/reload.c */
    struct hg_rule_counts *rule_counts; /* the supervisor's, of what is in force; a reference */
    const struct hg_adapter *const *adapters;
    struct hg_log *log;      /* thread-safe */
    struct hg_vhost *vhosts; /* the first is the default one */
    unsigned vhosts_n;
    struct hg_logins *logins;            /* locked; core/login.c */
    struct hg_allowances *allowances;    /* core/allowance.h */
    struct hg_mailbox *supervisor;       /* takes HG_MAIL_REPORT */
    struct hg_listener_state *listeners; /* as many as the configuration's, in its order */
    struct hg_bridge_metrics *bridges;   /* likewise; each is counted by the worker that runs it */
    struct hg_webhook_metrics *webhooks; /* likewise */
    struct hg_worker **workers;
    unsigned workers_n;
    uint64_t boot_id;    /* random */
    uint64_t started_ms; /* hg_clock_ms: the wall clock may jump */
    _Atomic uint64_t next_conn_id;
    _Atomic bool is_draining;
};

enum hg_worker_state {
    HG_WORKER_STARTING,
    HG_WORKER_READY,    /* its listeners are open */
    HG_WORKER_DRAINING, /* its listeners are closed, its clients are told to go */
    HG_WORKER_DRAINED,  /* no client and no link is left */
    HG_WORKER_STOPPED,
    HG_WORKER_FAILED /* could not start: waits to be stopped */
};

struct hg_acceptor { /* a listener of one worker */
    struct hg_worker *worker;
    const struct hg_adapter *adapter;
    const struct hg_listener_spec *spec;
    struct hg_listener *listener; /* NULL: not open */
};

/* What stays for a moment after its connection has gone, until RabbitMQ has heard the last of it.
 * Draining waits for it. */
struct hg_leaver {
    struct hg_list link;
    /* The loop ends: it closes and frees what it has, and leaves the list. */
    void (*abandon)(struct hg_leaver *leaver);
};

struct hg_conn_walk {   /* all of a worker's connections in turn, some at each step */
    struct hg_list *at; /* in hg_worker.conns: who is next; NULL: not begun */
    struct hg_timer timer;
};

struct hg_kept { /* what the sessions of a protocol leave for others: memory to be used again */
    void *what;  /* NULL: nothing */
    void (*free)(void *what);
};

struct hg_worker {
    struct hg_gateway *gateway;
    const struct hg_config *config; /* in force here; a reference, another one after a reload */
    struct hg_log *log;
    unsigned index; /* 0 … workers_n - 1 */
    uv_loop_t loop;
    struct hg_wheel wheel;
    struct hg_net net; /* drives `wheel` */
    struct hg_metrics metrics;
    uint64_t alike_n; /* numbers what many clients get alike */
    struct hg_random random;
    struct hg_rule_counts *rule_counts; /* of its configuration's rules; a reference */
    struct hg_mailbox *mailbox;
    /* One per virtual host, in the order of the gateway's, for any thread to look at; behind them
     * those of users, on the worker's thread only, with gaps (NULL). See hg_realm_next. */
    struct hg_realm **realms;
    unsigned realms_n;         /* the former */
    unsigned realms_end;       /* of all */
    struct hg_map own_by_user; /* core/own.c's: struct hg_own */
    unsigned own_n;            /* of the latter, those that close included */
    uint64_t own_queues_n;     /* numbers what is declared for users, over all of their realms */
    void (*own_drained)(struct hg_worker *w); /* one has gone; NULL: nobody waits for that */
    unsigned realms_draining_n;               /* core/realm.c's own, as the next */
    void (*realms_drained)(struct hg_worker *w);
    struct hg_login_port *logins;  /* NULL: not open; core/login.c */
    struct hg_acceptor *acceptors; /* one per [[listener]], in its order */
    struct hg_list services;       /* struct hg_service */
    struct hg_list conns;
    size_t conns_n;
    struct hg_conn_walk probes, stalls; /* core/conn.c's own */
    struct hg_list leavers;
    struct hg_pool conn_pool;
    struct hg_kept kept[HG_PROTO_N]; /* their adapters' own; freed with the worker */
    struct hg_timer drain_timer;
    struct hg_mail listen_mail, drain_mail, stop_mail, ping_mail; /* the supervisor's orders */
    struct hg_mail report_mail;
    struct {
        struct hg_mail order_mail, report_mail;
        const struct hg_config *next; /* borrowed until it is this worker's, as the next */
        struct hg_rule_counts *next_counts;
        _Atomic unsigned wanted, done; /* round and enum hg_reload_step */
        unsigned round;
        bool is_prepared;
        size_t waiting_n; /* RabbitMQ's answers that it takes */
    } reload;             /* core/reload.c's */
    bool must_stop;       /* the supervisor's order to end now has come */
    uv_thread_t thread;
    _Atomic int state;       /* enum hg_worker_state */
    _Atomic bool has_turned; /* since the supervisor asked last */
};

/* Everything that can be made before its thread runs. NULL when there is no memory (or no
 * descriptor). */
struct hg_worker *hg_worker_new(struct hg_gateway *gateway, unsigned index);
/* Starts its thread, which opens the realms and then obeys its mailbox, until HG_MAIL_STOP. False
 * if there can be no thread. */
bool hg_worker_start(struct hg_worker *w);
/* Waits until a started worker's thread has ended: no handle of its is left. */
void hg_worker_join(struct hg_worker *w);
/* After every worker has been joined. NULL is fine. */
void hg_worker_free(struct hg_worker *w);

/* Sets its state and tells the supervisor. On its thread. */
void hg_worker_report(struct hg_worker *w, enum hg_worker_state state);
/* Sets t to fire in delay_ms from now. */
void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms);

/* A limit has turned something away. */
static inline void hg_worker_refused(struct hg_worker *w, enum hg_limit limit)
{
    hg_count(&w->metrics.limits[limit], 1);
}

/* Which virtual host a session is in: the default one, until it enters another, before it publishes,
 * subscribes or claims anything. */
static inline struct hg_realm *hg_realm_of(const struct hg_session *s)
{
    return s->worker->realms[s->realm];
}
static inline void hg_session_enter(struct hg_session *s, const struct hg_realm *realm)
{
    s->realm = realm->index;
}
/* All realms of a worker in turn, users' own included: *at is 0 at first. NULL: that was the last. */
static inline struct hg_realm *hg_realm_next(const struct hg_worker *w, unsigned *at)
{
    struct hg_realm *realm = NULL;
    while (realm == NULL && (*at < w->realms_n || *at < w->realms_end)) {
        realm = w->realms[(*at)++];
    }
    return realm;
}

/* Frees what is kept: when there are no sessions any more. */
static inline void hg_worker_free_kept(struct hg_worker *w)
{
    for (unsigned i = 0; i < HG_PROTO_N; i++) {
        if (w->kept[i].what != NULL) {
            w->kept[i].free(w->kept[i].what);
            w->kept[i].what = NULL;
        }
    }
}

/* "web", "mqtt", "stomp", "admin" */
const char *hg_serve_name(enum hg_serve serve);

#endif
