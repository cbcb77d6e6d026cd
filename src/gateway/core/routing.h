/* SPDX-License-Identifier: Apache-2.0 */
/* What joins sessions and RabbitMQ on one worker: publishes out through the rule table, deliveries
 * in through it to the subscription indexes. Opens and closes the worker's upstream. */
#ifndef HG_CORE_ROUTING_H
#define HG_CORE_ROUTING_H

#include "core/worker.h"

/* Declares the configured topology and waits for it, for limit_ms (0: for ever): before any worker
 * starts, or before they get this configuration. 0; the process's exit code (logged); or
 * HG_TOPOLOGY_STOPPED, HG_TOPOLOGY_AWAY. */
int hg_routing_declare(const struct hg_config *config, uint64_t limit_ms, struct hg_log *log);

/* Makes w->routing and w->upstream and starts connecting; on the worker's thread. False when there
 * is no memory. */
bool hg_routing_open(struct hg_worker *w);
/* For a reload (core/reload.c): has RabbitMQ bind what the subscriptions need by the rules of `next`,
 * then calls hg_reload_is_prepared, now or later. */
void hg_routing_prepare(struct hg_worker *w, const struct hg_config *next);
/* The worker's configuration is another one than `before`: its rules hold from here on, and every
 * subscription has what it needs by them, or has been ended. */
void hg_routing_swap(struct hg_worker *w, const struct hg_config *before);
/* Nothing unconfirmed, nothing to acknowledge. */
bool hg_routing_is_idle(const struct hg_worker *w);
/* Closes the links politely; `done` comes from the loop when they are gone. Sessions must be gone
 * already. */
void hg_routing_drain(struct hg_worker *w, void (*done)(struct hg_worker *w));
/* Frees everything, polite or not; the loop has to run once more for streams to go. */
void hg_routing_close(struct hg_worker *w);

#endif
