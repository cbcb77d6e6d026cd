/* SPDX-License-Identifier: Apache-2.0 */
/* Publishes with exactly one outcome each. One confirm channel per exchange, so that a refusal
 * stays within one exchange; what is unconfirmed is kept, and sent again in order after a lost
 * link. When RabbitMQ closes a channel it names no culprit: the unconfirmed are then replayed one
 * at a time until it is found. */
#ifndef HG_UPSTREAM_PUBLISHER_H
#define HG_UPSTREAM_PUBLISHER_H

#include "amqp/amqp_channel.h"
#include "base/chain.h"
#include "base/map.h"
#include "upstream/link.h"
#include "upstream/pace.h"

struct hg_upstream_metrics;

struct hg_publisher_ops {
    /* A publish has its outcome: OK, UNROUTABLE, REJECTED, NO_EXCHANGE, NOT_ALLOWED, TOO_LARGE,
     * REFUSED, BROKER_AWAY (never written), TIMED_OUT (written, outcome unknown). `reason` is
     * borrowed. */
    void (*on_settled)(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
    /* There is room again after hg_publisher_admits said no. From the loop. */
    void (*on_room)(void *ctx);
    /* The link came up or went down. */
    void (*on_state)(void *ctx, bool is_up);
};

struct hg_publisher_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    uint32_t window_n;        /* unconfirmed messages at most */
    uint64_t window_bytes;    /* bytes held for them at most */
    uint64_t timeout_ms;      /* a publish that was written and has no answer ends after this */
    uint64_t away_timeout_ms; /* one that could not be written */
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

struct hg_publisher {
    struct hg_link link;
    struct hg_net *net;
    struct hg_publisher_config config;
    const struct hg_publisher_ops *ops;
    void *ctx;
    struct hg_map by_name;    /* exchange name -> struct pub_exchange */
    struct hg_list exchanges; /* least recently used first */
    size_t exchanges_n;
    struct hg_pool pool; /* struct outgoing */
    size_t held_n;       /* publishes under way */
    uint64_t held_bytes;
    struct hg_list dirty; /* exchanges with something new to send at the end of the turn */
    struct hg_timer deadlines;
    struct hg_pace pace;
    struct hg_defer sending, room, spacing;
    unsigned telling_n; /* depth of on_settled calls */
    bool wants_room, is_blocked, is_held_back;
};

/* One publish to be made. The message is consumed whatever is returned. */
struct hg_publish_order {
    struct hg_message **message_own;
    void *owner;             /* NULL: nobody wants to know the outcome */
    struct hg_chain *owners; /* the owner's list of publishes under way, for hg_publisher_forget */
    uint64_t id;
    /* who is told instead of hg_publisher_ops.on_settled, for owners of another kind; may be NULL */
    void (*on_settled)(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
    uint64_t timeout_ms; /* 0: the configuration's two */
    /* Goes out once, on the channel and link that are there or not at all: when one is lost it ends
     * as TIMED_OUT if it was written, else as BROKER_AWAY. */
    bool is_once;
};

/* Opens in place and starts connecting. */
void hg_publisher_open(struct hg_publisher *p, struct hg_net *net,
                       const struct hg_publisher_config *config, const struct hg_publisher_ops *ops,
                       void *ctx);
/* Frees everything; publishes under way get no outcome any more. */
void hg_publisher_close(struct hg_publisher *p);

/* Whether a message of this cost may be published now. After a `no`, on_room comes when it is worth
 * asking again. */
bool hg_publisher_admits(struct hg_publisher *p, size_t cost_bytes);
bool hg_publisher_is_available(const struct hg_publisher *p); /* link up and not blocked */
/* Writes nothing, or goes on; from on_state and the loop. What waits is under way as while the link
 * is down. */
void hg_publisher_hold_back(struct hg_publisher *p, bool is_held_back);
/* OK: on_settled follows, from the loop. Else refused: NO_EXCHANGE, NOT_ALLOWED, REFUSED (RabbitMQ
 * said so of this exchange a moment ago), NO_MEMORY, BUSY (too many exchanges in use). */
enum hg_status hg_publisher_publish(struct hg_publisher *p, const struct hg_publish_order *order);
/* What RabbitMQ's closing of a channel means for the one publish that it is about. */
enum hg_status hg_publisher_refusal(const struct hg_amqp_close *why);
/* The owner of these publishes is gone: they go on, nobody is told. */
void hg_publisher_forget(struct hg_chain *owners);
/* The same, and what has not been written is not sent. True if there was such a one. */
bool hg_publisher_withdraw(struct hg_chain *owners);

#endif
