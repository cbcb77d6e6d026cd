/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's feed: one queue of its own in RabbitMQ whose bindings are shared by all local
 * subscriptions and counted per (exchange, binding key). Durable with x-expires, so that it
 * outlives a lost link, and never inherited by another process. Deliveries are acknowledged in
 * multiples once they have been handed on: at the end of the turn where somebody would be shown a
 * repeat, else many together, as each acknowledgement wakes RabbitMQ's queue.
 *
 * What is bound is not the queue but a transient exchange of the same name in front of it: RabbitMQ
 * keeps such bindings in memory, where those of a durable queue to a durable exchange are written
 * to disk in a transaction each, four times as slowly. A RabbitMQ that restarts has forgotten them;
 * on_whole says when they are there again. */
#ifndef HG_UPSTREAM_FEED_H
#define HG_UPSTREAM_FEED_H

#include "amqp/amqp_channel.h"
#include "upstream/bindings.h"

struct hg_upstream_metrics;

struct hg_feed_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    const char *prefix; /* of the queue's name: "headgate." */
    uint64_t boot_id;
    uint64_t *numbers; /* shared by feeds of the same prefix; NULL: this is the only one */
    /* It connects when somebody wants a binding first (hg_feed_want), and what RabbitMQ refuses is
     * refused to those who want one now, not tried again and again. */
    bool is_lazy;
    uint64_t max_bytes;  /* x-max-length-bytes; past it RabbitMQ drops the oldest */
    uint64_t expires_ms; /* x-expires */
    uint16_t prefetch;
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

struct hg_feed_ops {
    /* Borrowed message. The delivery counts as handled when this returns. True: somebody it was
     * handed to would be shown it again, were it redelivered. */
    bool (*on_delivery)(void *ctx, struct hg_message *message, bool is_redelivered);
    void (*on_state)(void *ctx, bool is_up); /* consuming, or not any more */
    /* Every binding that is wanted is there: after on_state(true), and whenever the last of some
     * new ones is. */
    void (*on_whole)(void *ctx);
};

struct hg_feed {
    struct hg_link link;
    struct hg_net *net;
    struct hg_feed_config config;
    const struct hg_feed_ops *ops;
    void *ctx;
    char queue[256];
    /* a part of the queue's name: a queue that was lost is not made again under the same */
    uint64_t generation;
    struct hg_amqp_channel *consuming; /* NULL: closed */
    bool is_known;    /* the present generation was declared before: it should still be there */
    bool is_checking; /* the passive declare is under way */
    bool is_consuming;
    bool was_consuming; /* at some time */
    struct hg_binder binder;
    struct hg_bindings bindings; /* to be added to and removed from by whoever subscribes */
    uint64_t unacked_tag;        /* newest delivery handed on and not acknowledged; 0: none */
    size_t unacked_n, unacked_bytes;
    struct hg_defer ack;
    struct hg_timer ack_late;
};

/* Opens in place and starts connecting. */
void hg_feed_open(struct hg_feed *f, struct hg_net *net, const struct hg_feed_config *config,
                  const struct hg_feed_ops *ops, const struct hg_bindings_ops *bindings_ops,
                  void *ctx);
/* A binding is about to be added: a lazy feed gets up. */
void hg_feed_want(struct hg_feed *f);
/* Deletes the queue and closes the link politely; see hg_link_is_stopped(&f->link). */
void hg_feed_stop(struct hg_feed *f);
/* Frees everything; nobody is told any more. */
void hg_feed_close(struct hg_feed *f);

#endif
