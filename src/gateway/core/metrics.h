/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of one worker. Only the worker writes them; anybody reads (relaxed), the admin listener adds up. */
#ifndef HG_CORE_METRICS_H
#define HG_CORE_METRICS_H

#include "rules/rules.h"

#include <stdatomic.h>

typedef _Atomic uint64_t hg_counter;

static inline void hg_count(hg_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void hg_uncount(hg_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) - n,
                          memory_order_relaxed);
}
static inline uint64_t hg_counted(const hg_counter *c)
{
    return atomic_load_explicit((hg_counter *)c, memory_order_relaxed);
}

/* name, help; for each protocol. `connections` and `subscriptions` are gauges. */
/* clang-format off */
#define HG_PROTO_METRICS(X)                                                        \
    X(connections,        "Open client sessions")                                  \
    X(connections_total,  "Client sessions opened")                                \
    X(subscriptions,      "Live subscriptions")                                    \
    X(messages_in,        "Messages accepted from clients")                        \
    X(messages_out,       "Messages handed to clients")                            \
    X(bytes_in,           "Body bytes accepted from clients")                      \
    X(bytes_out,          "Body bytes handed to clients")                          \
    X(confirmed,          "Publishes that RabbitMQ confirmed")                     \
    X(refused,            "Publishes that ended in anything but a confirm")        \
    X(dropped,            "Messages dropped for a slow client")                    \
    X(slow_closed,        "Clients closed because they read too slowly")           \
    X(errors,             "Connections ended by a client's mistake")               \
    X(keepalive_timeouts, "Connections ended by silence")                          \
    X(held,               "Times a client was held for room towards RabbitMQ")

/* name, type, help; a worker's upstream and feed. */
#define HG_UPSTREAM_METRICS(X)                                                                   \
    X(upstream_connects,      counter, "AMQP connections opened")                                \
    X(upstream_disconnects,   counter, "AMQP connections lost")                                  \
    X(upstream_blocked,       counter, "connection.blocked notices")                             \
    X(upstream_channel_closes, counter, "Channels closed by RabbitMQ")                           \
    X(published,              counter, "basic.publish sent, repeats included")                   \
    X(republished,            counter, "Publishes sent again after a lost link or channel")      \
    X(confirms,               counter, "Publishes confirmed")                                    \
    X(nacks,                  counter, "Publishes rejected by RabbitMQ")                         \
    X(returns,                counter, "Publishes returned as unroutable")                       \
    X(publish_timeouts,       counter, "Publishes whose outcome stayed unknown")                 \
    X(window_messages,        gauge,   "Unconfirmed publishes")                                  \
    X(window_bytes,           gauge,   "Bytes of unconfirmed publishes")                         \
    X(deliveries,             counter, "Deliveries received from RabbitMQ")                      \
    X(unmapped,               counter, "Deliveries that no rule maps to an address")             \
    X(unwanted,               counter, "Deliveries that no subscription here matched")           \
    X(redelivered_skipped,    counter, "Redelivered messages not shown to QoS 0 and ack:auto")   \
    X(stale_acks,             counter, "Acknowledgements of deliveries whose link was lost")     \
    X(feed_dropped,           counter, "Feed queues lost or redeclared: messages may be missing") \
    X(bindings,               gauge,   "Bindings on the feed queue")                             \
    X(widened,                counter, "Rules that went from exact to wide bindings")
/* clang-format on */

struct hg_proto_metrics {
#define X(name, help) hg_counter name;
    HG_PROTO_METRICS(X)
#undef X
};

struct hg_metrics {
    struct hg_proto_metrics proto[HG_PROTO_N];
#define X(name, type, help) hg_counter name;
    HG_UPSTREAM_METRICS(X)
#undef X
    hg_counter *rule_in;  /* by rule index: publishes that the rule took */
    hg_counter *rule_out; /* deliveries that the rule mapped back */
};

#endif
