/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that clients name, and queues of a subscriber's own: declared, bound and consumed, and
 * acknowledged as a whole once they were handed on. queue_consumer.h has those that are acknowledged
 * one by one. */
#ifndef HG_UPSTREAM_CONSUMERS_H
#define HG_UPSTREAM_CONSUMERS_H

#include "upstream/seats.h"

struct hg_consumers_config {
    struct hg_seats_config seats;
    const char *prefix; /* of the names of subscribers' own queues: "headgate." */
    uint64_t *numbers;  /* of these, shared with others of the same prefix; NULL: none are */
    uint64_t boot_id;
    uint64_t expires_ms; /* x-expires of a subscriber's own queue */
    uint64_t max_bytes;  /* x-max-length-bytes of it */
};

struct hg_consumers {
    struct hg_seats seats; /* for others as well */
    struct hg_consumers_config config;
    uint64_t own_n; /* numbers the subscribers' own queues */
};

struct hg_consumer;

struct hg_consumer_ops {
    /* OK: consuming (or, where that is all, declared or deleted, and the handle is invalid). Else it has
     * ended, now or after it was live, and the handle is invalid: NO_QUEUE, NO_EXCHANGE,
     * NOT_ALLOWED, REFUSED, … with RabbitMQ's reason. From the loop. Told again with OK after a
     * reconnect. */
    void (*on_state)(void *ctx, enum hg_status status, struct hg_bytes reason);
    /* Borrowed message. It is acknowledged after this returned and may_ack agrees. */
    void (*on_delivery)(void *ctx, struct hg_message *message, bool is_redelivered);
    /* False while the receiver is behind; asked again until it agrees. At most the prefetch is
     * outstanding meanwhile. */
    bool (*may_ack)(void *ctx);
};

struct hg_consumer_spec {  /* copied */
    struct hg_bytes queue; /* empty: a queue of the subscriber's own, deleted at the end */
    const struct hg_amqp_queue_declare
        *declare;                  /* declare `queue` like this first; NULL: it must exist */
    struct hg_bytes exchange, key; /* for a queue of one's own: what to bind it to, */
    const struct hg_header *binding_arguments; /* and how */
    size_t binding_arguments_n;
    bool is_declare_only; /* end after the declaration */
    bool is_delete_only;  /* `queue` is deleted, with what is in it, and that is all */
};

void hg_consumers_open(struct hg_consumers *c, struct hg_net *net,
                       const struct hg_consumers_config *config);
/* Frees everything; nobody is told. */
void hg_consumers_close(struct hg_consumers *c);

/* NULL when there is no memory. */
struct hg_consumer *hg_consumer_open(struct hg_consumers *c, const struct hg_consumer_spec *spec,
                                     const struct hg_consumer_ops *ops, void *ctx);
/* Whether it was opened for the same as this: by name, or for a queue of one's own. */
bool hg_consumer_is_for(const struct hg_consumer *consumer, const struct hg_consumer_spec *spec);
/* What a queue of one's own is bound to; lives as long as the consumer. */
void hg_consumer_source(const struct hg_consumer *consumer, struct hg_bytes *exchange_out,
                        struct hg_bytes *key_out);
/* And how; likewise. */
const struct hg_header *hg_consumer_arguments(const struct hg_consumer *consumer, size_t *n_out);
/* Another place is told from now on, by the same ops. */
void hg_consumer_tell(struct hg_consumer *consumer, void *ctx);
/* Stops consuming; what was not acknowledged is requeued. Nothing is told any more. NULL is
 * fine. */
void hg_consumer_close(struct hg_consumer *consumer);

#endif
