/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual host of RabbitMQ, as configured: how it is reached, and what of the configuration
 * belongs to it. */
#ifndef HG_CORE_CONFIG_VHOST_H
#define HG_CORE_CONFIG_VHOST_H

#include "rules/rules.h"
#include "upstream/link.h"
#include "upstream/topology.h"

struct hg_vhost_spec {
    const char *name; /* RabbitMQ's */
    const struct hg_endpoint *endpoints;
    size_t endpoints_n;
    const struct hg_exchange_decl *exchanges;
    size_t exchanges_n;
    const struct hg_queue_decl *queues;
    size_t queues_n;
    const struct hg_rule_spec *rules; /* the built-in rule last */
    size_t rules_n;
    size_t first_rule;      /* where they begin among those of all virtual hosts, for metrics */
    struct hg_rules *table; /* made from rules and exchanges */
};

#endif
