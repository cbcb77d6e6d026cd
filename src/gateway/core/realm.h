/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual host of RabbitMQ: what the process knows of it, and what each worker has of it. Nothing
 * of one is seen from another: neither messages nor retained ones, client identifiers or queues. */
#ifndef HG_CORE_REALM_H
#define HG_CORE_REALM_H

#include "core/config.h"

struct hg_directory;
struct hg_gateway;
struct hg_idempotency;
struct hg_leases;
struct hg_routing;
struct hg_state;
struct hg_state_port;
struct hg_worker;

enum { HG_OWN_REALMS_MAX = 4096 }; /* of a worker, whatever the configuration says */

struct hg_vhost { /* the process's; frozen after start but for what says otherwise */
    struct hg_gateway *gateway;
    const struct hg_vhost_spec *spec; /* as the gateway was started */
    unsigned index;                   /* in hg_gateway.vhosts, and of its realm in each worker's */
    struct hg_directory *directory;   /* locked */
    struct hg_state *state;           /* locked; NULL: [state] log = "off" */
    struct hg_idempotency *idempotency; /* locked; NULL: [http] idempotency_max = 0 */
    _Atomic uint32_t feeds_behind;      /* workers whose feed was lost and is not whole again */
};

struct hg_realm { /* a worker's; in place as long as the worker is, but for a user's own */
    struct hg_worker *worker;
    struct hg_vhost *vhost;
    /* Where this is a user's own (core/own.h), the gateway's of the same virtual host, which has the
     * state; else NULL. See hg_realm_home. */
    struct hg_realm *home;
    uint16_t index; /* in hg_worker.realms */
    const struct hg_vhost_spec
        *spec;                    /* in force on this worker; its name and endpoints never change */
    const struct hg_rules *rules; /* of it */
    struct hg_routing *routing;   /* links, subscription indexes and deliveries; NULL: not open */
    struct hg_state_port *state_port; /* NULL: no state */
    struct hg_leases *leases;         /* NULL: not open; core/lease.h */
    _Atomic bool is_up;               /* publishing and feed links are open, for /readyz */
};

/* ---- The process's ---- */

/* Makes gateway->vhosts from the configuration, before the workers. False when there is no memory. */
bool hg_vhosts_open(struct hg_gateway *gateway);
void hg_vhosts_close(struct hg_gateway *gateway); /* after the workers have been freed */
/* Declares what is configured for each and waits for it, for limit_ms (0: for ever): before any
 * worker starts, or before they get this configuration. 0; the process's exit code (logged); or
 * HG_TOPOLOGY_STOPPED, HG_TOPOLOGY_AWAY. */
int hg_vhosts_declare(const struct hg_config *config, uint64_t limit_ms, struct hg_log *log);
/* Each knows whether it has a state log, and if so, has read it once: clients may come. Any thread. */
bool hg_vhosts_are_settled(const struct hg_gateway *gateway);

/* Every worker has its publishing and feed links to it. Any thread. */
bool hg_vhost_is_up(const struct hg_vhost *vhost);

/* The one whose links are the gateway's own: it has state, leases and claims for all. */
static inline struct hg_realm *hg_realm_home(struct hg_realm *realm)
{
    return realm->home != NULL ? realm->home : realm;
}

/* ---- A worker's, on its thread but for hg_realms_new and _free ---- */

/* Makes w->realms, one for each of the gateway's. False when there is no memory. */
bool hg_realms_new(struct hg_worker *w);
void hg_realms_free(struct hg_worker *w);
/* Begins to connect. False when there is no memory: close them all the same. */
bool hg_realms_open(struct hg_worker *w);
/* Nothing is unconfirmed, unacknowledged or waited for. */
bool hg_realms_are_idle(const struct hg_worker *w);
/* Ends what they share with other workers and instances, politely; true once that is over. */
bool hg_realms_stop(struct hg_worker *w);
/* Then the links; `done` comes from the loop when all are gone. Sessions must be gone already. */
void hg_realms_drain(struct hg_worker *w, void (*done)(struct hg_worker *w));
/* Frees everything, polite or not; the loop has to run once more for streams to go. */
void hg_realms_close(struct hg_worker *w);

#endif
