/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's feed: one queue of its own in RabbitMQ whose bindings are shared by all local
 * subscriptions and counted per (exchange, binding key). Durable with x-expires, so that it
 * outlives a lost link, and never inherited by another process. Deliveries are acknowledged in
 * multiples once they have been handed on. */
#ifndef HG_UPSTREAM_FEED_H
#define HG_UPSTREAM_FEED_H

#include "amqp/amqp_channel.h"
#include "base/map.h"
#include "upstream/link.h"

struct hg_upstream_metrics;

struct hg_feed_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    uint64_t boot_id;
    uint64_t max_bytes;  /* x-max-length-bytes; past it RabbitMQ drops the oldest */
    uint64_t expires_ms; /* x-expires */
    uint16_t prefetch;
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

struct hg_feed_ops {
    /* Borrowed message. The delivery counts as handled when this returns. */
    void (*on_delivery)(void *ctx, struct hg_message *message, bool is_redelivered);
    void (*on_state)(void *ctx, bool is_up); /* consuming, or not any more */
};

struct hg_feed {
    struct hg_link link;
    struct hg_net *net;
    struct hg_feed_config config;
    const struct hg_feed_ops *ops;
    void *ctx;
    char queue[160];
    /* a part of the queue's name: a queue that was lost is not made again under the same */
    unsigned generation;
    struct hg_amqp_channel *consuming, *binding; /* NULL: closed */
    bool is_declared; /* the queue exists on this connection's watch: bindings may be made */
    bool is_known;    /* the present generation was declared before: it should still be there */
    bool is_checking; /* the passive declare is under way */
    bool is_consuming;
    struct hg_map bindings;  /* exchange, NUL, key -> struct hg_feed_binding */
    struct hg_list todo;     /* bindings that wait for a method to be sent */
    struct hg_list inflight; /* sent, oldest first: RabbitMQ answers in order */
    size_t inflight_n;
    struct hg_list told;  /* struct hg_feed_wait whose answer is due at the end of the turn */
    uint64_t unacked_tag; /* newest delivery handed on and not acknowledged; 0: none */
    struct hg_defer ack, work;
};

struct hg_feed_binding;

/* Someone who waits for a binding; inside its owner, in place until it was told or cancelled. */
struct hg_feed_wait {
    struct hg_list link;
    /* OK: the binding exists in RabbitMQ. NO_EXCHANGE, NOT_ALLOWED, REFUSED: it does not, the
     * reference is still to be given back. From the loop, never from inside hg_feed_bind. */
    void (*on_bound)(struct hg_feed_wait *wait, enum hg_status status, struct hg_bytes reason);
};

/* Opens in place and starts connecting. */
void hg_feed_open(struct hg_feed *f, struct hg_net *net, const struct hg_feed_config *config,
                  const struct hg_feed_ops *ops, void *ctx);
/* Deletes the queue and closes the link politely; see hg_link_is_stopped(&f->link). */
void hg_feed_stop(struct hg_feed *f);
/* Frees everything; no wait is told any more. */
void hg_feed_close(struct hg_feed *f);

/* A reference to the binding of the feed's queue to exchange with key. If it is the first, the
 * binding is made and counted in *made_n (may be NULL; must outlive it) until the last reference is
 * given back, whoever gives it. `wait` may be NULL. NULL when there is no memory. */
struct hg_feed_binding *hg_feed_bind(struct hg_feed *f, struct hg_bytes exchange,
                                     struct hg_bytes key, struct hg_feed_wait *wait,
                                     uint32_t *made_n);
/* Gives a reference back; with the last one the binding goes. */
void hg_feed_unbind(struct hg_feed *f, struct hg_feed_binding *binding);
/* The wait is not told any more. Safe on one that was told. */
void hg_feed_cancel(struct hg_feed_wait *wait);

#endif
