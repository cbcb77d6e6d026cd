/* SPDX-License-Identifier: Apache-2.0 */
/* The bindings of a queue: counted per (exchange, binding key), made, undone, and made again when
 * the queue is declared anew. A binder does the asking, for all queues of one connection over one
 * channel of its own, so that a binding which RabbitMQ refuses costs nobody else anything. */
#ifndef HG_UPSTREAM_BINDINGS_H
#define HG_UPSTREAM_BINDINGS_H

#include "amqp/amqp_channel.h"
#include "base/counter.h"
#include "base/map.h"
#include "upstream/binding_user.h"
#include "upstream/link.h"

struct hg_upstream_metrics;

struct hg_binding_queue { /* a binding is in one at most */
    struct hg_binding *first, *last;
};

struct hg_binder {
    struct hg_link *link; /* borrowed */
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
    struct hg_amqp_channel *channel;  /* NULL: closed; opened when there is something to do */
    struct hg_binding_queue todo;     /* that wait for a method to be sent */
    struct hg_binding_queue inflight; /* sent, oldest first: RabbitMQ answers in order */
    struct hg_binding_queue told;     /* with somebody to tell at the end of the turn */
    size_t inflight_n;
    struct hg_defer work;
};

/* Opens in place. */
void hg_binder_open(struct hg_binder *b, struct hg_link *link, struct hg_log *log,
                    struct hg_upstream_metrics *metrics);
/* The connection is gone. */
void hg_binder_lost(struct hg_binder *b);
/* What was asked is of no interest any more: its queue is gone. */
void hg_binder_reset(struct hg_binder *b);
/* After hg_link_close; before or after the bindings of its queues are closed. */
void hg_binder_close(struct hg_binder *b);

struct hg_bindings_ops {
    /* OK: the binding exists in RabbitMQ. NO_EXCHANGE, NOT_ALLOWED, REFUSED, …: it does not, and
     * the user is still to be removed. Once for each user, from the loop, never from inside a
     * call. */
    void (*on_bound)(struct hg_binding_user *user, enum hg_status status, struct hg_bytes reason);
};

struct hg_bindings { /* of one queue */
    struct hg_binder *binder;
    const struct hg_bindings_ops *ops;
    /* For the queue's owner to set: since hg_bindings_declared every binding that is wanted has been
     * answered. From the loop; NULL: nobody asks. */
    void (*on_whole)(void *ctx);
    /* Likewise: a binding that somebody relies on is to be made again, and not permitted any more;
     * they are told nothing. NULL: it is made when it may be again. */
    void (*on_forbidden)(void *ctx, const struct hg_amqp_close *why);
    void *ctx;             /* of both */
    struct hg_bytes queue; /* borrowed */
    /* For the queue's owner to set, too: what is bound is the exchange of that name, from which the
     * queue gets everything. */
    bool is_exchange;
    /* Likewise: of every binding; borrowed. */
    const struct hg_header *arguments;
    size_t arguments_n;
    struct hg_map map; /* exchange, NUL, key -> struct hg_binding */
    hg_counter *gauge; /* counts them; NULL: nobody does */
    size_t pending_n;  /* wanted, and not answered since the queue was declared */
    struct hg_defer whole;
    bool is_declared;
};

void hg_bindings_open(struct hg_bindings *b, struct hg_binder *binder, struct hg_bytes queue,
                      const struct hg_bindings_ops *ops);
/* The queue is there, perhaps under a new name: every binding that is wanted is made (again: it
 * costs nothing where it exists). on_whole follows. */
void hg_bindings_declared(struct hg_bindings *b, struct hg_bytes queue);
/* It may be gone: nothing is asked until it is declared again. */
void hg_bindings_undeclared(struct hg_bindings *b);
/* The queue is nobody's concern here any more: what is bound stays bound, and what was to be bound
 * or unbound still is where the queue is there. Users are told nothing more, and are still to be
 * removed. */
void hg_bindings_forget(struct hg_bindings *b);
/* The queue cannot be had: whoever waits is told so. Of the only queue of its binder. */
void hg_bindings_refuse(struct hg_bindings *b, enum hg_status status, struct hg_bytes reason);
/* Everything ends, users included. */
void hg_bindings_close(struct hg_bindings *b);

/* The binding of the queue to exchange with key, at most 255 bytes each. If it is the first user,
 * the binding is made and counted in *made_n (may be NULL; must outlive it) until the last one is
 * removed. False when there is no memory. */
bool hg_bindings_add(struct hg_bindings *b, struct hg_bytes exchange, struct hg_bytes key,
                     struct hg_binding_user *user, uint32_t *made_n);
/* As hg_bindings_add, for a user who is told nothing. */
bool hg_bindings_keep(struct hg_bindings *b, struct hg_bytes exchange, struct hg_bytes key,
                      struct hg_binding_user *user);
/* What the user's binding binds; false: it has none, or its queue is nobody's any more. Lives as long
 * as the user's binding. */
bool hg_bindings_names(const struct hg_binding_user *user, struct hg_bytes *exchange_out,
                       struct hg_bytes *key_out);
/* Of which queue; NULL as above. */
struct hg_bindings *hg_bindings_of(const struct hg_binding_user *user);
/* From now on no binding is counted; then again those that are named, once each. */
void hg_bindings_count_none(struct hg_bindings *b);
void hg_bindings_count(const struct hg_binding_user *user, uint32_t *made_n);
/* The user is told nothing more; with the last one the binding goes. Safe on one without. */
void hg_bindings_remove(struct hg_binding_user *user);

#endif
