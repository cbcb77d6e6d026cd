/* SPDX-License-Identifier: Apache-2.0 */
/* A queue in RabbitMQ that one session consumes and acknowledges by itself: an MQTT persistent
 * session's, a shared subscription's, a client-acknowledged one. Its deliveries come through
 * hg_session_ops.deliver with `queue` and `ticket` set; everything from the loop, never from inside
 * a call. */
#ifndef HG_CORE_QUEUE_H
#define HG_CORE_QUEUE_H

#include "core/session.h"
#include "upstream/queue_consumer.h"

struct hg_queue;

struct hg_queue_ops {
    /* OK: it is consumed; told again after a lost link, when every ticket from before is stale and
     * what it stood for will come again. Else it has ended and the handle is invalid: NOT_ALLOWED
     * (somebody else consumed it exclusively for longer than the patience), NO_QUEUE (deleted by
     * others), … and its subscriptions hear nothing any more. `has_existed`: it was there
     * before. */
    void (*on_state)(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason);
};

struct hg_queue_options { /* copied */
    struct hg_bytes name;
    /* how to declare it if it is not there; one that is there is taken as it is */
    const struct hg_header *arguments;
    size_t arguments_n;
    bool is_transient, is_auto_delete; /* likewise; else durable, and kept */
    bool is_private; /* likewise: it goes with the link, and nobody else may use it */
    bool must_match; /* one that is there and differs is not taken: REFUSED */
    /* Of the consumer; with x-stream-offset a stream is read on after a lost link. */
    const struct hg_header *consumer_arguments;
    size_t consumer_arguments_n;
    const struct hg_header *binding_arguments; /* of each of its bindings */
    size_t binding_arguments_n;
    bool is_auto;         /* acknowledged by itself, once handed to a connection that has room */
    uint16_t prefetch;    /* deliveries without an answer at most; 0: no limit */
    bool is_fresh;        /* one that is there is deleted first */
    bool is_exclusive;    /* nobody else may consume it meanwhile */
    bool must_exist;      /* it is never declared: NO_QUEUE */
    uint64_t patience_ms; /* with is_exclusive: how long somebody else may still have it */
    struct hg_sub *sub;   /* what its deliveries are for; NULL: the session finds out */
    /* Deliveries whose address does not match are acknowledged, not shown; empty: all match. */
    struct hg_bytes filter;
    bool is_whole;   /* `filter`, without a wildcard, is the address of those that do not match */
    bool shows_all;  /* what has no address, or one that does not match, has an empty one */
    bool is_by_name; /* deliveries have no address: subscribed to by RabbitMQ's names */
};

/* NULL when there is no memory. ops->on_state follows. */
struct hg_queue *hg_queue_open(struct hg_session *s, const struct hg_queue_options *options,
                               const struct hg_queue_ops *ops, void *ctx);

/* Answers one delivery. STALE: its link was lost since, the message comes again. */
enum hg_status hg_queue_ack(struct hg_queue *q, struct hg_ticket ticket);
enum hg_status hg_queue_nack(struct hg_queue *q, struct hg_ticket ticket, bool is_requeue);

/* It is consumed now: not while its link is lost. NULL: false. */
bool hg_queue_is_live(const struct hg_queue *q);

/* enum hg_queue_end: HG_QUEUE_KEEP, HG_QUEUE_DELETE, HG_QUEUE_DELETE_IF_IDLE. */
/* Ends it: what has no answer yet goes back into the queue. Bindings made for subscriptions that
 * live on are kept with the queue. NULL is fine. */
void hg_queue_close(struct hg_queue *q, enum hg_queue_end how);

/* As hg_subscribe_filter, but what would be bound to the feed is bound to `q`, and the subscription
 * is in no index: the session matches q's deliveries itself (or they are all for options.sub).
 * hg_unsubscribe takes the bindings away again while the queue is open. */
enum hg_status hg_subscribe_queue_filter(struct hg_session *s, struct hg_sub *sub,
                                         struct hg_bytes filter, struct hg_queue *q,
                                         const char **why_out);
/* As hg_subscribe_source with an exchange, bound to `q` instead. */
enum hg_status hg_subscribe_queue_source(struct hg_session *s, struct hg_sub *sub,
                                         const struct hg_source *source, struct hg_queue *q,
                                         const char **why_out);

/* The queue of the first rule that takes the filter, to be consumed as it is. OK: *queue_out, empty
 * where it has none, lives as long as the rules. NO_WILDCARD where the filter has wildcards and such
 * a rule, or where only a later one has a queue; else as hg_subscribe_filter. */
enum hg_status hg_queue_of_filter(struct hg_session *s, struct hg_bytes filter,
                                  struct hg_bytes *queue_out, const char **why_out);
/* The stream that can be read for this filter, the `replay` of the rule which is the first to take
 * every address that the filter matches; empty: there is none. Lives as long as the rules. */
struct hg_bytes hg_replay_of_filter(const struct hg_session *s, struct hg_bytes filter);

#endif
