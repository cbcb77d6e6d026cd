/* SPDX-License-Identifier: Apache-2.0 */
/* The exchanges, queues and bindings of the configuration, declared in RabbitMQ: once before
 * anything listens, where a mismatch stops the start, and again after every reconnect, so that a
 * RabbitMQ that lost them gets them back. */
#ifndef HG_UPSTREAM_TOPOLOGY_H
#define HG_UPSTREAM_TOPOLOGY_H

#include "base/log.h"
#include "rules/rules.h"
#include "upstream/link.h"

struct hg_binding_decl {
    const char *exchange, *key; /* the source */
    const struct hg_header *arguments;
    size_t arguments_n;
};

struct hg_exchange_decl {
    struct hg_exchange_spec spec; /* name, type, where it stands in the configuration */
    const char *type;             /* as written, "x-consistent-hash" */
    bool is_durable, is_auto_delete, is_internal;
    bool is_passive; /* somebody else's: only checked for existence */
    const struct hg_header *arguments;
    size_t arguments_n;
    const struct hg_binding_decl *bindings; /* exchange-to-exchange: this one is the destination */
    size_t bindings_n;
};

struct hg_queue_decl {
    const char *where, *name;
    const char *type; /* "classic", "quorum", "stream" */
    bool is_durable, is_auto_delete, is_passive;
    const struct hg_header *arguments; /* x-queue-type included */
    size_t arguments_n;
    const struct hg_binding_decl *bindings;
    size_t bindings_n;
};

struct hg_topology_spec { /* borrowed for as long as it is used */
    const struct hg_exchange_decl *exchanges;
    size_t exchanges_n;
    const struct hg_queue_decl *queues;
    size_t queues_n;
    /* What it belongs to, held while a run uses it; NULL: it outlives every run. */
    const void *owner;
    void (*hold)(const void *owner);
    void (*release)(const void *owner);
};

enum { HG_TOPOLOGY_STOPPED = 3, HG_TOPOLOGY_AWAY = 4 };

/* Declares all of it on a loop of its own and returns when RabbitMQ has answered; while RabbitMQ
 * cannot be reached it tries on, with a log line an attempt, for limit_ms (0: for ever). 0: all
 * there; 1: RabbitMQ refused a declaration or the login (logged with its reason and `where`; a login
 * whose secret may change is tried on); 2: no memory; STOPPED: SIGTERM or SIGINT came meanwhile;
 * AWAY: no answer within the limit. */
int hg_topology_declare(const struct hg_topology_spec *spec,
                        const struct hg_link_config *link_config, uint64_t limit_ms,
                        struct hg_log *log);

/* One declaration, as it is sent. Statuses are hg_amqp_exchange_declare's and _queue_declare's. */
struct hg_amqp_channel;
enum hg_status hg_topology_send_exchange(struct hg_amqp_channel *ch,
                                         const struct hg_exchange_decl *x);
enum hg_status hg_topology_send_queue(struct hg_amqp_channel *ch, const struct hg_queue_decl *q);

/* The same on an open connection, without waiting, on a channel of its own. Refusals are logged;
 * `done` comes from the loop and the run is gone then. NULL when there is no memory. */
struct hg_topology_run;
typedef void hg_topology_done_fn(void *ctx, unsigned refused_n);
struct hg_topology_run *hg_topology_start(const struct hg_topology_spec *spec,
                                          struct hg_amqp_conn *conn, struct hg_log *log,
                                          hg_topology_done_fn *done, void *ctx);
/* Ends a run early, without `done`: while its connection lives, or after it was lost. NULL is
 * fine. */
void hg_topology_cancel(struct hg_topology_run *run);
void hg_topology_lost(struct hg_topology_run *run);

#endif
