/* SPDX-License-Identifier: Apache-2.0 */
/* A worker with one realm: the real routing over a scripted RabbitMQ, and of the rest of the core
 * what that calls. Its sessions have no connections, and nobody is slow. */
#ifndef HG_UNIT_CORE_REALM_RIG_H
#define HG_UNIT_CORE_REALM_RIG_H

#include "base/clock.h"
#include "core/routing_priv.h"
#include "seam/net.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>

struct rig {
    struct seam_net sn;
    struct hg_gateway gateway;
    struct hg_config config;
    struct hg_worker worker;
    struct hg_vhost_spec spec;
    struct hg_vhost vhost;
    struct hg_realm realm;
    struct hg_realm *realms[1];
    struct hg_rules *rules;
};

/* Its rules, and limits that a test may change before rig_start. */
void rig_open(struct rig *rig, const struct hg_rule_spec *rules, size_t rules_n);
/* Begins to connect, each new broker being prepared (NULL: as it is). */
void rig_start(struct rig *rig, void (*prepare)(struct broker *b));
/* After the test's sessions and queues have been closed. */
void rig_close(struct rig *rig);

#endif
