/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that a client takes out of a queue for a while, over a protocol whose connections come and
 * go: each is a lease until it is answered or its time runs out, and then goes back. A lease is held
 * by the worker that took it; any worker of any instance can be asked about it. */
#ifndef HG_CORE_LEASE_H
#define HG_CORE_LEASE_H

#include "core/lease_id.h"
#include "core/worker.h"
#include "message/message.h"

/* RabbitMQ closes the channel of a consumer that keeps a message for 30 minutes. */
enum { HG_LEASE_MAX_MS = 25 * 60 * 1000 };

/* On the worker's thread, once the routing is open: makes realm->leases, a service of the worker's.
 * False when there is no memory. */
bool hg_leases_open(struct hg_realm *realm);
/* A user's own realm has none: its queues are consumed over its links, and the gateway's realm of the same
 * virtual host keeps its leases. */

/* ---- Taking ------------------------------------------------------------------------------------ */

/* What becomes of the messages. */
enum hg_lease_end {
    HG_LEASE_KEEP,    /* leases: the taker answers for each */
    HG_LEASE_ACK,     /* acknowledged once they were handed over */
    HG_LEASE_REQUEUE, /* put back */
    HG_LEASE_REJECT   /* dead-lettered, where the queue says how, or dropped */
};

struct hg_lease_poll;

struct hg_leased {
    struct hg_message *message; /* borrowed: take a reference to keep it */
    bool is_redelivered;
    char id[HG_LEASE_ID_SIZE]; /* with KEEP */
    uint64_t tag;              /* lease.c's own */
};

struct hg_lease_result { /* borrowed during the call */
    /* OK, also where nothing came in time; NO_QUEUE, UNFIT_QUEUE, NOT_ALLOWED, BROKER_AWAY, … */
    enum hg_status status;
    struct hg_bytes reason; /* RabbitMQ's or ours, where it failed */
    const struct hg_leased *messages;
    size_t n;
    uint32_t left_n; /* with wants_left: messages that waited in the queue then */
};

struct hg_lease_spec { /* copied */
    struct hg_bytes queue;
    uint32_t max;      /* messages; fewer where a limit leaves less room */
    uint64_t wait_ms;  /* for the first of them; 0: what is there now */
    uint64_t lease_ms; /* with KEEP */
    enum hg_lease_end end;
    bool wants_left;
    /* Exactly once, from the loop, unless the poll is cancelled before; it is gone then. */
    void (*done)(void *ctx, const struct hg_lease_result *result);
    void *ctx;
};

/* OK: *poll_out is under way. Else refused, with static text in *why_out: TOO_MANY (the limits are
 * reached), NOT_ALLOWED (a queue of the gateway's own), SHUTTING_DOWN, NO_MEMORY. */
enum hg_status hg_lease_take(struct hg_realm *realm, const struct hg_lease_spec *spec,
                             struct hg_lease_poll **poll_out, const char **why_out);
/* What it got goes back at once. */
void hg_lease_cancel(struct hg_lease_poll *poll);

/* ---- Answering --------------------------------------------------------------------------------- */

enum hg_lease_act { HG_LEASE_DO_ACK, HG_LEASE_DO_REQUEUE, HG_LEASE_DO_REJECT, HG_LEASE_DO_EXTEND };

enum hg_lease_answer {
    HG_LEASE_DONE,
    HG_LEASE_GONE,   /* answered before, run out, or lost with its link or its gateway */
    HG_LEASE_UNKNOWN /* who holds it has not answered in time: it may or may not be done */
};

struct hg_lease_order { /* read during the call only */
    enum hg_lease_act act;
    uint64_t lease_ms;     /* EXTEND: from now; never past HG_LEASE_MAX_MS from when it was taken */
    struct hg_bytes queue; /* leases of another one are gone */
    const struct hg_bytes *ids;
    size_t ids_n;
};

struct hg_lease_call;
/* enum hg_lease_answer for each id, in their order; borrowed. */
typedef void hg_lease_answered_fn(void *ctx, const uint8_t *answers, size_t n);

/* Asks whoever holds them. True: `answered` is called once, perhaps before this returns, and then
 * *call_out is NULL. False: no memory, or the worker is ending. */
bool hg_lease_answer(struct hg_realm *realm, const struct hg_lease_order *order,
                     hg_lease_answered_fn *answered, void *ctx, struct hg_lease_call **call_out);
/* `answered` will not be called; what was asked is done all the same. */
void hg_lease_forget(struct hg_lease_call *call);

/* For the worker's mailbox: HG_MAIL_LEASE_ASK, HG_MAIL_LEASE_DONE. */
void hg_lease_on_mail(struct hg_worker *w, struct hg_mail *mail);

#endif
