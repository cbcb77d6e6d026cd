/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual host of RabbitMQ, as configured: how clients and the gateway call it, how it is reached,
 * and what of the configuration belongs to it. */
#ifndef HG_CORE_CONFIG_VHOST_H
#define HG_CORE_CONFIG_VHOST_H

#include "rules/rules.h"
#include "upstream/link.h"
#include "upstream/topology.h"

struct hg_access_spec;
struct hg_config;
struct hg_webhook_spec;

struct hg_vhost_spec {
    const char *where;          /* NULL: there is no [[vhost]], and this is the endpoints' */
    const char *name;           /* RabbitMQ's */
    const char *const *aliases; /* other names by which clients may call it */
    size_t aliases_n;
    bool is_default;
    bool has_own_endpoints;
    const struct hg_endpoint *endpoints; /* else those of [rabbitmq], and their password_file */
    size_t endpoints_n;
    const struct hg_exchange_decl *exchanges;
    size_t exchanges_n;
    const struct hg_queue_decl *queues;
    size_t queues_n;
    const struct hg_rule_spec *rules; /* the built-in rule last */
    size_t rules_n;
    const struct hg_access_spec *access;
    size_t access_n;
    const struct hg_webhook_spec *webhooks;
    size_t webhooks_n;
    size_t first_rule;      /* where they begin among those of all virtual hosts, for metrics */
    struct hg_rules *table; /* made from rules and exchanges */
};

/* The one that is called so, by name or alias; NULL: none is. */
const struct hg_vhost_spec *hg_vhost_find(const struct hg_config *c, struct hg_bytes name);

/* The configuration as if the index-th virtual host were all there is; borrows from c. */
void hg_vhost_view(const struct hg_config *c, size_t index, struct hg_config *out);

/* "vhost:user", as RabbitMQ's MQTT plugin has it: what is before the last colon, where it names one
 * of them or where those are refused that name none of them; else all of it is the user. */
void hg_vhost_split(const struct hg_config *c, struct hg_bytes text, struct hg_bytes *vhost_out,
                    struct hg_bytes *user_out);

#endif
