/* SPDX-License-Identifier: Apache-2.0 */
/* What joins sessions and RabbitMQ on one worker: publishes out through the rule table, deliveries
 * in through it to the subscription indexes. Opens and closes the worker's upstream. */
#ifndef HG_CORE_ROUTING_H
#define HG_CORE_ROUTING_H

#include "core/worker.h"

/* Declares the configured topology and waits for it, before any worker starts. 0; the process's
 * exit code (logged); or HG_TOPOLOGY_STOPPED. */
int hg_routing_declare(const struct hg_config *config, struct hg_log *log);

/* Makes w->routing and w->upstream and starts connecting; on the worker's thread. False when there
 * is no memory. */
bool hg_routing_open(struct hg_worker *w);
/* Nothing unconfirmed, nothing to acknowledge. */
bool hg_routing_is_idle(const struct hg_worker *w);
/* Closes the links politely; `done` comes from the loop when they are gone. Sessions must be gone
 * already. */
void hg_routing_drain(struct hg_worker *w, void (*done)(struct hg_worker *w));
/* Frees everything, polite or not; the loop has to run once more for streams to go. */
void hg_routing_close(struct hg_worker *w);

#endif
