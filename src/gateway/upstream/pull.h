/* SPDX-License-Identifier: Apache-2.0 */
/* Taking messages out of a queue, so many at a time: a pull consumes until it has got something,
 * and then no more. (basic.get cannot wait, and on a stream it ends the whole connection.) All pulls
 * of one queue share a channel, on which every message is kept until it has its answer. */
#ifndef HG_UPSTREAM_PULL_H
#define HG_UPSTREAM_PULL_H

#include "upstream/seats.h"

struct hg_pull;
struct hg_puller;

struct hg_puller_ops {
    /* The channel is gone: what has no answer yet comes again, and its tag means nothing now. */
    void (*on_lost)(void *ctx);
};

struct hg_pull_ops { /* from the loop */
    /* At most `max` times. Borrowed message. */
    void (*on_delivery)(struct hg_pull *pull, struct hg_message *message, uint64_t tag,
                        bool is_redelivered);
    /* The channel is gone, with what was delivered to this pull: it begins anew by itself. */
    void (*on_again)(struct hg_pull *pull);
    /* It is over: OK, there is nothing more to come (left_n: messages that wait in the queue, if
     * that was asked for); or it failed, with RabbitMQ's reason: NO_QUEUE, UNFIT_QUEUE (a stream, or
     * somebody else has it exclusively), … */
    void (*on_over)(struct hg_pull *pull, enum hg_status status, struct hg_bytes reason,
                    uint32_t left_n);
};

struct hg_pull { /* inside its owner, zeroed but for the first three; not moved while it is on */
    const struct hg_pull_ops *ops;
    uint16_t max; /* messages; at least 1 */
    bool wants_left;
    /* pull.c's own. */
    struct hg_list link;
    struct hg_puller *of; /* NULL: it is not on */
    uint64_t number;      /* its consumer's tag, and a key */
    uint32_t got_n;
    bool is_asking, is_live;  /* consume was sent; and answered */
    bool must_end, is_ending; /* it is to be cancelled; cancel was sent */
};

/* NULL when there is no memory. */
struct hg_puller *hg_puller_open(struct hg_seats *seats, struct hg_bytes queue,
                                 const struct hg_puller_ops *ops, void *ctx);
/* What has no answer yet goes back into the queue. Its pulls have ended. NULL is fine. */
void hg_puller_close(struct hg_puller *p);
/* Each answers one delivery; without effect where the channel is gone. */
void hg_puller_ack(struct hg_puller *p, uint64_t tag);
void hg_puller_nack(struct hg_puller *p, uint64_t tag, bool is_requeue);

/* False when there is no memory. Waits for as long as it takes, for RabbitMQ too: time is the
 * owner's business. */
bool hg_pull_start(struct hg_puller *p, struct hg_pull *pull);
/* It shall wait no longer: on_over follows with what there is, once RabbitMQ has answered. */
void hg_pull_finish(struct hg_pull *pull);
/* Off at once, without on_over; what it got is the owner's to answer. Safe on one that is off. */
void hg_pull_stop(struct hg_pull *pull);
static inline bool hg_pull_is_on(const struct hg_pull *pull)
{
    return pull->of != NULL;
}

#endif
