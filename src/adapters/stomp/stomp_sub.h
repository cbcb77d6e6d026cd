/* SPDX-License-Identifier: Apache-2.0 */
/* A subscription of a STOMP session. Most are served out of the worker's feed; one whose client
 * answers, or that is about a queue, consumes that queue of its own accord. */
#ifndef HG_STOMP_SUB_H
#define HG_STOMP_SUB_H

#include "adapters/stomp/stomp_pending.h"
#include "adapters/stomp/stomp_priv.h"
#include "adapters/stomp/stomp_queue.h"
#include "core/queue.h"

struct hg_stomp_acks { /* of a subscription that consumes a queue of its own accord */
    struct hg_queue *queue;
    char *name_own; /* of a queue that clients know; NULL: made for this subscription alone */
    struct hg_stomp_pending pending;
    uint64_t lost_to;    /* messages up to this number went with a lost link, if not answered */
    uint64_t own_number; /* in the name of a queue of its own */
    uint16_t prefetch;   /* deliveries without an answer at most */
    uint8_t end;         /* enum hg_queue_end: what becomes of the queue with the subscription */
    bool is_temp;        /* /temp-queue: the queue for answers, which SEND makes */
    bool is_auto;        /* ack:auto: the client answers nothing */
    bool is_cumulative;  /* ack:client */
    bool is_durable;     /* a subscription that outlives its session: UNSUBSCRIBE can delete it */
    bool is_consumed;    /* the queue, at least once */
};

struct hg_stomp_sub {
    struct hg_sub base;
    struct hg_stomp_acks *acks; /* NULL: out of the worker's feed, ack:auto */
    char *receipt_own;          /* owed for SUBSCRIBE; NULL: none */
    uint16_t id_n;
    uint16_t line_n;
    bool wants_retained;
    uint8_t text[]; /* the id, then the header line of each MESSAGE: none if SUBSCRIBE gave no id */
};

static inline struct hg_bytes hg_stomp_sub_id(const struct hg_stomp_sub *sub)
{
    return hg_bytes(sub->text, sub->id_n);
}

static inline struct hg_stomp_sub *hg_stomp_sub_of(struct hg_sub *base)
{
    return HG_CONTAINER_OF(base, struct hg_stomp_sub, base);
}

/* It is live (OK), or has failed and is freed; the client is told. */
void hg_stomp_sub_is(struct hg_stomp_sub *sub, enum hg_status outcome, struct hg_bytes reason);

enum { HG_STOMP_OWN_NAME_MAX = 192 };
/* The value for the property reply_to: what the header says, or, for /temp-queue/NAME, the name of
 * this session's queue for answers, which lies in room. HELD until that is consumed. */
enum hg_stomp_verdict hg_stomp_reply_queue(struct hg_stomp_session *s, struct hg_bytes reply_to,
                                           char room[static HG_STOMP_OWN_NAME_MAX],
                                           struct hg_bytes *queue_out, struct hg_stomp_failure *f);

static inline bool hg_stomp_is_answered(const struct hg_stomp_sub *sub)
{
    return sub->acks != NULL && !sub->acks->is_auto;
}

/* stomp_consume.c */

enum hg_stomp_ack_mode { HG_STOMP_AUTO, HG_STOMP_CUMULATIVE, HG_STOMP_INDIVIDUAL };

struct hg_stomp_wish { /* what SUBSCRIBE asks for; borrows from its frame */
    struct hg_stomp_dest dest;
    struct hg_stomp_queue queue;
    struct hg_header *match_own; /* arguments of its bindings */
    size_t match_n;
    enum hg_stomp_ack_mode ack;
    struct hg_bytes id; /* as in the frame: may be empty in STOMP 1.0 */
};

/* False: *f says why. Free it in every case. */
bool hg_stomp_wish_read(struct hg_stomp_session *s, const struct hg_stomp_frame *subscribe,
                        struct hg_stomp_wish *out, struct hg_stomp_failure *f);
void hg_stomp_wish_free(struct hg_stomp_wish *wish);
/* It cannot be had out of the worker's feed. */
bool hg_stomp_wish_needs_queue(struct hg_stomp_session *s, const struct hg_stomp_wish *wish);
/* Subscribes: as hg_subscribe_source and hg_subscribe_filter. Unless OK, sub->acks is still to be
 * freed. */
enum hg_status hg_stomp_consume(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                const struct hg_stomp_wish *wish, const char **why);
/* Opens the queue for answers of a subscription that SEND made; hg_stomp_queue_came follows. */
enum hg_status hg_stomp_acks_open_temp(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const char **why);
/* The name of the queue of its own; lies in room. */
struct hg_bytes hg_stomp_acks_own_name(const struct hg_stomp_session *s,
                                       const struct hg_stomp_sub *sub,
                                       char room[static HG_STOMP_OWN_NAME_MAX]);
/* What has no answer goes back into the queue. */
void hg_stomp_acks_free(struct hg_stomp_sub *sub);

#endif
