/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of one worker's upstream; core/metrics.h has the rest. */
#ifndef HG_UPSTREAM_UPSTREAM_METRICS_H
#define HG_UPSTREAM_UPSTREAM_METRICS_H

#include "base/counter.h"

/* clang-format off */
/* name, type, help; a worker's upstream and feed. */
#define HG_UPSTREAM_METRICS(X)                                                                   \
    X(upstream_connects,      counter, "AMQP connections opened")                                \
    X(upstream_disconnects,   counter, "AMQP connections lost")                                  \
    X(upstream_blocked,       counter, "connection.blocked notices")                             \
    X(upstream_channel_closes, counter, "Channels closed by RabbitMQ")                           \
    X(secrets_taken,          counter, "Renewed secrets that RabbitMQ took, per connection")     \
    X(secrets_refused,        counter, "Connections that RabbitMQ closed over a renewed secret") \
    X(published,              counter, "basic.publish sent, repeats included")                   \
    X(republished,            counter, "Publishes sent again after a lost link or channel")      \
    X(confirms,               counter, "Publishes confirmed")                                    \
    X(nacks,                  counter, "Publishes rejected by RabbitMQ")                         \
    X(returns,                counter, "Publishes returned as unroutable")                       \
    X(publish_timeouts,       counter, "Publishes whose outcome stayed unknown")                 \
    X(window_messages,        gauge,   "Unconfirmed publishes")                                  \
    X(window_bytes,           gauge,   "Bytes of unconfirmed publishes")                         \
    X(uploads,                gauge,   "Bodies that go to RabbitMQ while they arrive, and their confirms") \
    X(upload_bytes,           counter, "Body bytes written to RabbitMQ as they arrived")         \
    X(uploads_refused,        counter, "Uploads that ended in anything but a confirm, or found no place") \
    X(deliveries,             counter, "Deliveries received from RabbitMQ")                      \
    X(unmapped,               counter, "Deliveries that no rule maps to an address")             \
    X(unwanted,               counter, "Deliveries that no subscription here matched")           \
    X(redelivered_skipped,    counter, "Redelivered messages not shown to QoS 0 and ack:auto")   \
    X(stale_acks,             counter, "Acknowledgements of deliveries whose link was lost")     \
    X(feed_dropped,           counter, "Feed queues lost or redeclared: messages may be missing") \
    X(bindings,               gauge,   "Bindings on the feed queue")                             \
    X(widened,                counter, "Rules that went from exact to wide bindings")
/* clang-format on */

struct hg_upstream_metrics {
#define X(name, type, help) hg_counter name;
    HG_UPSTREAM_METRICS(X)
#undef X
};

#endif
