/* SPDX-License-Identifier: Apache-2.0 */
/* A subscription of a STOMP session; with ack:client or client-individual it consumes a queue of
 * its own accord and waits for the client's answers. */
#ifndef HG_STOMP_SUB_H
#define HG_STOMP_SUB_H

#include "adapters/stomp/stomp_pending.h"
#include "adapters/stomp/stomp_priv.h"
#include "core/queue.h"

struct hg_stomp_acks { /* of a subscription whose client answers */
    struct hg_queue *queue;
    struct hg_stomp_pending pending;
    uint64_t lost_to;    /* messages up to this number went with a lost link, if not answered */
    uint16_t prefetch;   /* deliveries without an answer at most */
    bool is_cumulative;  /* ack:client */
    uint64_t own_number; /* in the name of a queue of its own */
    bool is_own;         /* the queue: made for this subscription, and goes with it */
    bool is_temp;        /* /temp-queue: the queue for answers, which the gateway acknowledges */
    bool is_consumed;    /* the queue, at least once */
};

struct hg_stomp_sub {
    struct hg_sub base;
    struct hg_stomp_acks *acks; /* NULL: ack:auto */
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

enum { HG_STOMP_OWN_NAME_MAX = 80 };
/* The value for the property reply_to: what the header says, or, for /temp-queue/NAME, the name of
 * this session's queue for answers, which lies in room. HELD until that is consumed. */
enum hg_stomp_verdict hg_stomp_reply_queue(struct hg_stomp_session *s, struct hg_bytes reply_to,
                                           char room[static HG_STOMP_OWN_NAME_MAX],
                                           struct hg_bytes *queue_out, struct hg_stomp_failure *f);

/* stomp_ack.c */

/* Reads ack and prefetch-count into sub->acks, which stays NULL with ack:auto. NULL if fine, else
 * static text with *status_out. */
const char *hg_stomp_acks_read(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                               const struct hg_stomp_frame *subscribe, enum hg_status *status_out);
/* Subscribes: as hg_subscribe_source and hg_subscribe_filter. */
enum hg_status hg_stomp_acks_subscribe(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const struct hg_stomp_frame *frame,
                                       const struct hg_stomp_dest *dest, const char **why);
/* Message `number` of the session has gone out. False when there is no memory. */
bool hg_stomp_acks_add(struct hg_stomp_sub *sub, uint64_t number, struct hg_ticket ticket);
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
