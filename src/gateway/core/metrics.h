/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of one worker. Only the worker writes them; anybody reads (relaxed), the admin listener adds up. */
#ifndef HG_CORE_METRICS_H
#define HG_CORE_METRICS_H

#include "base/counter.h"
#include "rules/rules.h"
#include "upstream/upstream_metrics.h"

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

/* clang-format on */

struct hg_proto_metrics {
#define X(name, help) hg_counter name;
    HG_PROTO_METRICS(X)
#undef X
};

struct hg_metrics {
    struct hg_proto_metrics proto[HG_PROTO_N];
    struct hg_upstream_metrics upstream;
    hg_counter *rule_in;  /* by rule index: publishes that the rule took */
    hg_counter *rule_out; /* deliveries that the rule mapped back */
};

#endif
