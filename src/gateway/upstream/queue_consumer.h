/* SPDX-License-Identifier: Apache-2.0 */
/* The consumer of a named queue whose deliveries are acknowledged one by one, and whose bindings
 * come and go with subscriptions. It declares the queue, makes the bindings, then consumes, and does
 * so again whenever its channel or its link was lost. */
#ifndef HG_UPSTREAM_QUEUE_CONSUMER_H
#define HG_UPSTREAM_QUEUE_CONSUMER_H

#include "upstream/seats.h"
#include "upstream/ticket.h"

struct hg_queue_consumer;

struct hg_queue_consumer_ops {
    /* OK: it is consumed; told again after each loss, when every ticket from before is stale. Else
     * it has ended and the handle is invalid: NOT_ALLOWED (somebody else consumed it exclusively
     * for longer than the patience), NO_QUEUE (deleted by others), … with RabbitMQ's reason. From
     * the loop. `has_existed`: it was there before. */
    void (*on_state)(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason);
    /* Borrowed message; never before on_state. */
    void (*on_delivery)(void *ctx, struct hg_message *message, struct hg_ticket ticket,
                        bool is_redelivered);
};

struct hg_queue_consumer_spec { /* copied */
    struct hg_bytes queue;
    /* how to declare it if it is not there; one that is there is taken as it is */
    const struct hg_header *arguments;
    size_t arguments_n;
    bool is_transient, is_auto_delete; /* likewise; else durable, and kept */
    bool is_private;   /* likewise: nobody else may use it, and it goes with the connection */
    bool must_match;   /* one that is there and differs is not taken: REFUSED */
    uint16_t prefetch; /* deliveries without an answer at most; 0: no limit */
    bool is_fresh;     /* one that is there is deleted first */
    bool is_exclusive; /* nobody else may consume it meanwhile */
    bool must_exist;   /* it is never declared: NO_QUEUE */
    /* with is_exclusive, or is_private and must_match: how long somebody else may still have it */
    uint64_t patience_ms;
    /* Of the consumer. With x-stream-offset, which only a stream takes, it goes on after a lost link
     * with the oldest message that has no answer. */
    const struct hg_header *consumer_arguments;
    size_t consumer_arguments_n;
    const struct hg_header *binding_arguments; /* of each of its bindings */
    size_t binding_arguments_n;
};

/* What becomes of the queue. */
enum hg_queue_end {
    HG_QUEUE_KEEP,          /* with its bindings */
    HG_QUEUE_DELETE,        /* with what is in it */
    HG_QUEUE_DELETE_IF_IDLE /* only if nobody else consumes it and nothing is in it */
};

/* NULL when there is no memory. bindings_ops: how the users of its bindings are told. */
struct hg_queue_consumer *hg_queue_consumer_open(struct hg_seats *seats,
                                                 const struct hg_queue_consumer_spec *spec,
                                                 const struct hg_queue_consumer_ops *ops,
                                                 const struct hg_bindings_ops *bindings_ops,
                                                 void *ctx);
bool hg_queue_consumer_is_live(const struct hg_queue_consumer *q);
struct hg_bytes hg_queue_consumer_name(const struct hg_queue_consumer *q);
/* To add to and remove from while it is open. */
struct hg_bindings *hg_queue_consumer_bindings(struct hg_queue_consumer *q);
/* Answers one delivery. STALE: its channel was lost since and the message comes again, or it has
 * been answered. */
enum hg_status hg_queue_consumer_ack(struct hg_queue_consumer *q, struct hg_ticket ticket);
/* Acknowledges all that have no answer. */
void hg_queue_consumer_ack_all(struct hg_queue_consumer *q);
enum hg_status hg_queue_consumer_nack(struct hg_queue_consumer *q, struct hg_ticket ticket,
                                      bool is_requeue);
/* What has no answer yet goes back into the queue. Without a link the queue stays, whatever is
 * asked. Users of its bindings are still to be removed. NULL is fine. */
void hg_queue_consumer_close(struct hg_queue_consumer *q, enum hg_queue_end how);

#endif
