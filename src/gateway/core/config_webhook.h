/* SPDX-License-Identifier: Apache-2.0 */
/* [[webhook]], typed. */
#ifndef HG_CORE_CONFIG_WEBHOOK_H
#define HG_CORE_CONFIG_WEBHOOK_H

#include "base/inet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hg_webhook_order { HG_WEBHOOK_UNORDERED, HG_WEBHOOK_BY_ROUTING_KEY, HG_WEBHOOK_BY_HEADER };

struct hg_webhook_spec {
    uint8_t vhost; /* place; 0: the default one */
    const char *where, *name;
    const char *url, *host, *origin; /* origin: the URL as far as its host and port */
    uint16_t port;
    bool is_tls;
    const char *queue, *filter;  /* one of them is NULL */
    const char *const *secrets;  /* "whsec_…"; none: not signed */
    const char *const *headers;  /* "Name: value" */
    const char *ca, *cert, *key; /* files; NULL: the system's authorities, no certificate */
    uint16_t concurrency;        /* requests at a time */
    uint16_t prefetch;           /* messages held at a time, those included */
    uint64_t timeout_ms;         /* of an attempt */
    uint32_t max_attempts;       /* then it is dead-lettered */
    uint64_t first_ms, most_ms;  /* between attempts: doubled from one to the other */
    uint64_t max_hold_ms;        /* a longer pause is spent in a delay queue of RabbitMQ's */
    uint64_t max_ack_wait_ms;    /* how long a message may be held altogether */
    const uint64_t *delays_ms;   /* of the delay queues, rising */
    const char *dead_exchange;   /* NULL: the webhook's own dead-letter queue */
    const char *dead_key;        /* NULL: the message's own */
    enum hg_webhook_order order;
    const char *order_header;  /* BY_HEADER */
    uint32_t breaker_failures; /* in succession; 0: no breaker */
    uint64_t breaker_pause_ms;
    const struct hg_inet_net *allowed; /* addresses that may be connected to whatever they are */
    bool allows_private;
    uint64_t max_answer_bytes;
    size_t secrets_n, headers_n, delays_n, allowed_n;
};
/* Whether it may connect to the address. */
bool hg_webhook_spec_allows(const struct hg_webhook_spec *spec, const struct hg_inet *address);

#endif
