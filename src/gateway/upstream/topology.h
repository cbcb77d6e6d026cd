/* SPDX-License-Identifier: Apache-2.0 */
/* The exchanges, queues and bindings of the configuration, declared in RabbitMQ: once before anything listens, where a mismatch
 * stops the start, and again after every reconnect, so that a RabbitMQ that lost them gets them back. */
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
};

/* Declares all of it on a loop of its own and returns when RabbitMQ has answered; while RabbitMQ cannot be reached it tries on, with a log line
 * an attempt. 0: all there; 1: RabbitMQ refused a declaration or the login (logged with its reason and `where`); 2: no memory. */
int hg_topology_declare(const struct hg_topology_spec *spec,
                        const struct hg_link_config *link_config, struct hg_log *log);

/* The same on an open connection, without waiting: refusals are logged. The steps run on a channel of their own and free themselves. */
void hg_topology_restore(const struct hg_topology_spec *spec, struct hg_amqp_conn *conn,
                         struct hg_log *log);

#endif
