/* SPDX-License-Identifier: Apache-2.0 */
/* The limits that turn something away, each counted by its name. docs/operating.md has all of them in a table. */
#ifndef HG_CORE_LIMIT_H
#define HG_CORE_LIMIT_H

#include "base/counter.h"

/* Name, and the label of headgate_limit_refusals_total, which is its key in the configuration. What is
 * refused before there is a worker's session (a full listener) is counted by stream/listener.c. */
/* clang-format off */
#define HG_LIMITS(X) \
    X(CONNECTIONS_PER_ADDRESS, "limits.max_connections_per_address") \
    X(CONNECTIONS_PER_USER,    "limits.max_connections_per_user") \
    X(OWN_CONNECTIONS,         "users.own_connections_max") \
    X(TLS_HANDSHAKES,          "limits.max_tls_handshakes") \
    X(TLS_HANDSHAKE_RATE,      "limits.tls_handshake_rate") \
    X(MESSAGE_RATE,            "limits.message_rate") \
    X(BYTE_RATE,               "limits.byte_rate") \
    X(RULE_RATE,               "rule.rate") \
    X(SUBSCRIPTIONS,           "limits.max_subscriptions") \
    X(TOPIC,                   "limits.max_topic") \
    X(TOPIC_LEVELS,            "limits.max_topic_levels") \
    X(MESSAGE,                 "rabbitmq.max_message") \
    X(MQTT_PACKET,             "mqtt.max_packet") \
    X(MQTT_RECEIVE,            "mqtt.receive_max") \
    X(MQTT_QUEUED,             "mqtt.max_queued") \
    X(STOMP_FRAME,             "stomp.max_frame") \
    X(STOMP_HEADER,            "stomp.max_header") \
    X(STOMP_HEADERS,           "stomp.max_headers") \
    X(STOMP_TRANSACTIONS,      "stomp.max_transactions") \
    X(STOMP_FRAMES,            "stomp.max_transaction_frames") \
    X(STOMP_BUFFER,            "stomp.transaction_buffer") \
    X(STOMP_TEMP_QUEUES,       "stomp.max_temp_queues") \
    X(HTTP_BODY,               "http.max_body") \
    X(HTTP_HEADER,             "http.max_header") \
    X(HTTP_HEADERS,            "http.max_headers") \
    X(HTTP_URL,                "http.max_url") \
    X(HTTP_BATCH,              "http.max_batch") \
    X(HTTP_RPC,                "http.rpc_max")

/* Of clients that are faster than they may be. */
#define HG_RATE_METRICS(X) \
    X(rate_waiting, gauge,   "Clients held because they, or all clients of a rule, are too fast") \
    X(rate_held,    counter, "Times a client was held for that")
/* clang-format on */

struct hg_rate_metrics {
#define X(name, type, help) hg_counter name;
    HG_RATE_METRICS(X)
#undef X
};

enum hg_limit {
#define X(name, label) HG_LIMIT_##name,
    HG_LIMITS(X)
#undef X
        HG_LIMIT_N
};

const char *hg_limit_name(enum hg_limit limit); /* "limits.message_rate" */

#endif
