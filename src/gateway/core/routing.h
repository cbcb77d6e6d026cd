/* SPDX-License-Identifier: Apache-2.0 */
/* What joins sessions and RabbitMQ in a realm: publishes out through the rule table, deliveries
 * in through it to the subscription indexes. Opens and closes the realm's upstream. */
#ifndef HG_CORE_ROUTING_H
#define HG_CORE_ROUTING_H

#include "core/worker.h"

/* Declares what is configured for a virtual host and waits for it. As hg_vhosts_declare. */
int hg_routing_declare(const struct hg_config *config, const struct hg_vhost_spec *vhost,
                       uint64_t limit_ms, struct hg_log *log);

/* Makes realm->routing and starts connecting; on the worker's thread. False when there is no
 * memory. */
bool hg_routing_open(struct hg_realm *realm);
/* Nothing unconfirmed, nothing to acknowledge. */
bool hg_routing_is_idle(const struct hg_realm *realm);
/* Closes the links politely; `done` comes from the loop when they are gone. Sessions must be gone
 * already. */
void hg_routing_drain(struct hg_realm *realm, void (*done)(struct hg_realm *realm));
/* Frees everything, polite or not; the loop has to run once more for streams to go. */
void hg_routing_close(struct hg_realm *realm);

#endif
