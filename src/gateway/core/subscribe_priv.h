/* SPDX-License-Identifier: Apache-2.0 */
/* What subscribe.c and resubscribe.c, which does it again under other rules, share. */
#ifndef HG_CORE_SUBSCRIBE_PRIV_H
#define HG_CORE_SUBSCRIBE_PRIV_H

#include "core/routing_priv.h"

/* One thing that a subscription holds in RabbitMQ. */
struct hg_sub_link {
    struct hg_sub *sub; /* NULL: a holder's, of resubscribe.c */
    union {
        struct hg_binding_user bound; /* of the feed, or of a queue of the session's own */
        struct {                      /* is_consumer: a queue is consumed */
            struct hg_consumer *handle;
            char *filter; /* NULL: subscribed to by RabbitMQ's names */
        } consumer;
    } u;
    uint32_t rule;       /* of the plan, or HG_SUB_SOURCE */
    bool is_waiting;     /* RabbitMQ has not answered yet */
    bool is_consumer;    /* which of u */
    bool is_whole_queue; /* consumes a queue as it is: whatever is in it, is for the subscriber */
};

/* A binding that some subscription will need, or that is not let go of yet. */
struct hg_holder {
    struct hg_sub_link link; /* its answer comes like that of any other link */
    struct hg_holder *next;  /* in hg_routing.holders */
    struct hg_worker *worker;
    void (*on_answer)(struct hg_worker *w); /* once, refused or not: who needs it will hear */
};

static const uint32_t HG_SUB_SOURCE = UINT32_MAX; /* subscribed to by RabbitMQ's names */

struct hg_sub_links { /* of a subscription that is in no index */
    char *filter_own;
    struct hg_sub_link links[];
};

/* A subscription being made, plan by plan. */
struct hg_subscribing {
    struct hg_sub *sub;
    struct hg_bytes filter;
    struct hg_bindings *bindings; /* of a queue of the session's own; NULL: by way of the feed */
    struct hg_match match;        /* n == 0: whatever its headers */
    struct hg_sub_link *before;   /* what it had; consumers are taken over from there */
    size_t before_n;
    size_t plans_n, queue_rule; /* the latter: of the first plan, if that is a queue */
    bool has_later_queue;
    enum hg_status status;
    const char *why;
};

/* Room for n links, zeroed: one alone out of the pool. filter: kept with them; NULL: it is in an
 * index. False when there is no memory. */
bool hg_subscribe_allot(struct hg_routing *r, struct hg_sub *sub, size_t n,
                        const struct hg_bytes *filter);
/* Gives back what the links hold, and them; safe where there are none. */
void hg_subscribe_release(struct hg_routing *r, struct hg_sub *sub);
/* Binds or consumes for c->sub, which has room for it; an hg_plan_fn. */
void hg_subscribe_plan(void *ctx, const struct hg_binding_plan *plan);
/* New rules or permissions refuse it: subscribed() is told, and the log. why: NULL: the status says
 * all. */
void hg_subscribe_end(struct hg_sub *sub, enum hg_status status, const char *why);

/* Whether the plan's next binding is the wide one. by_rule: of all rules, as they are numbered;
 * NULL: nothing is widened. */
bool hg_subscribe_is_wide(const struct rule_bindings *by_rule, const struct hg_binding_plan *plan,
                          const struct hg_config *config);
/* Makes that, and keeps it; one that is widened with another rule goes with its last user. */
void hg_subscribe_widen(struct hg_routing *r, const struct hg_binding_plan *plan);
/* Whether messages of the queue have an address of its rule's, should they bring none. */
bool hg_subscribe_has_address(const struct hg_session *s, struct hg_bytes queue);
/* Whether one of the first links is a queue at this headers exchange: it gets all of it already, and
 * a second one would bring everything twice. */
bool hg_subscribe_has_queue_at(const struct hg_sub *sub, size_t links_n, struct hg_bytes exchange);

#endif
