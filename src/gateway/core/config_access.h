/* SPDX-License-Identifier: Apache-2.0 */
/* [[access]]: who may use RabbitMQ's own names, and who is that for a name. */
#ifndef HG_CORE_CONFIG_ACCESS_H
#define HG_CORE_CONFIG_ACCESS_H

#include "base/bytes.h"

struct hg_config;

enum hg_access_action {
    HG_ACCESS_PUBLISH,
    HG_ACCESS_SUBSCRIBE, /* of an exchange: bind to it; of a queue: consume it */
    HG_ACCESS_CONFIGURE, /* of a queue: declare it */
    HG_ACCESS_N
};

/* An [[access]] as written; the first whose names match decides. */
struct hg_access_spec {
    const char *where;
    uint8_t vhost;                /* place; 0: the default one */
    const char *exchange, *queue; /* patterns, see rules/access.h; one of them is NULL */
    const char *key;              /* with an exchange; NULL: any */
    uint64_t roles[HG_ACCESS_N];
};

/* The roles that may in a virtual host (its place less 1); none where no entry matches. */
uint64_t hg_access_queue_roles(const struct hg_config *c, unsigned vhost,
                               enum hg_access_action action, struct hg_bytes queue);
uint64_t hg_access_exchange_roles(const struct hg_config *c, unsigned vhost,
                                  enum hg_access_action action, struct hg_bytes exchange,
                                  struct hg_bytes key);
/* Who may subscribe with some key: of every entry for the exchange, up to one for all its keys. A
 * binding key brings messages with other keys than its own. */
uint64_t hg_access_exchange_roles_for_some_key(const struct hg_config *c, unsigned vhost,
                                               struct hg_bytes exchange);

#endif
