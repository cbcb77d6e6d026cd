/* SPDX-License-Identifier: Apache-2.0 */
/* What lease.c (polls and leases of this worker) and lease_forward.c (those of others) share. */
#ifndef HG_CORE_LEASE_PRIV_H
#define HG_CORE_LEASE_PRIV_H

#include "core/lease.h"
#include "core/service.h"
#include "upstream/pull.h"
#include "upstream/queue_consumer.h"

struct hg_lease;

/* A worker's connection to those of other instances: a queue that is its own, on the connection that
 * holds its leases, so that they go together. */
struct hg_lease_forward {
    struct hg_queue_consumer *consumer; /* NULL: nobody has needed it yet, or it was lost */
    struct hg_list calls;
    struct hg_map asked; /* parts of calls that another instance was asked for, by number */
    uint64_t numbers_n;
};

struct hg_leases {
    struct hg_service service;
    struct hg_realm *realm;
    struct hg_worker *worker;  /* the realm's */
    struct hg_map queues;      /* struct lease_queue by name */
    struct hg_lease **slots;   /* by an id's slot; NULL: free */
    uint32_t slots_n;          /* in use at some time; at most slots_cap */
    uint32_t slots_cap, first; /* where to look for a free one */
    uint32_t held_n;           /* leases, and what polls may still take */
    bool is_draining;
    struct hg_lease_forward forward;
};

/* Does what a request of another worker or instance, or of this one, says (see lease_forward.c), and
 * appends an answer for each lease in it. */
void hg_leases_apply(struct hg_leases *leases, struct hg_bytes request, struct hg_writer *answers);
/* Other instances can reach this worker now, or (status) never. */
void hg_leases_reachable(struct hg_leases *leases, enum hg_status status, struct hg_bytes reason);

void hg_lease_forward_open(struct hg_leases *leases);
/* Makes this worker reachable for other instances; hg_leases_reachable follows. False when there is
 * no memory. */
bool hg_lease_forward_listen(struct hg_leases *leases);
bool hg_lease_forward_is_live(const struct hg_leases *leases); /* it is reachable */
bool hg_lease_forward_is_idle(const struct hg_leases *leases);
/* Answers what is under way (UNKNOWN) and frees. */
void hg_lease_forward_close(struct hg_leases *leases);

/* A request: version, act, milliseconds, length of the queue's name and the name; then slot and
 * secret of each lease. Numbers are big-endian. */
enum { HG_LEASE_VERSION = 1, HG_LEASE_PART_BYTES = 4 + HG_LEASE_SECRET_BYTES };

#endif
