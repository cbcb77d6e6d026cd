/* SPDX-License-Identifier: Apache-2.0 */
/* One worker with the real routing and upstream, a scripted RabbitMQ, and of the rest of the core only
 * what those call: no session has a connection. */
#ifndef HG_UNIT_CORE_ROUTING_WORLD_H
#define HG_UNIT_CORE_ROUTING_WORLD_H

#include "base/clock.h"
#include "core/routing_priv.h"
#include "seam/net.h"
#include "seam/seam.h"
#include "seam/unit.h"

struct routing_world {
    struct seam_net sn;
    struct hg_gateway gateway;
    struct hg_config config;
    struct hg_worker worker;
    struct hg_vhost_spec spec;
    struct hg_vhost vhost;
    struct hg_realm realm;
    struct hg_realm *realms[8]; /* and room for those of users */
    struct hg_rules *rules;
};

/* With these rules and a configuration that the caller may change before it opens. */
void routing_world_init(struct routing_world *rw, const struct hg_rule_spec *rules, size_t rules_n);
/* Opens the routing; `prepare` (or NULL) is done to every broker that is connected to. Nothing has
 * been turned yet. */
void routing_world_open(struct routing_world *rw, void (*prepare)(struct broker *b));
/* Everything of the world's must be gone, but for `rw` itself. */
void routing_world_close(struct routing_world *rw);

/* A broker that confirms what it gets, and has no exchange "nowhere". */
void confirm_all(struct broker *b);

#endif
