/* SPDX-License-Identifier: Apache-2.0 */
#include "core/queue.h"

#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/own.h"
#include "core/routing_priv.h"
#include "core/subscribe_priv.h"
#include "message/topic.h"

struct hg_queue {
    struct hg_list link; /* in hg_routing.queues */
    struct hg_session *session;
    struct hg_sub *sub; /* NULL: the session matches its deliveries itself */
    const struct hg_queue_ops *ops;
    void *ctx;
    struct hg_queue_consumer *consumer;
    char *filter_own; /* NULL: every address matches */
    bool is_whole, shows_all, is_by_name, is_auto;
    struct hg_timer ack_again; /* with is_auto: the connection had no room */
};

enum { ACK_AGAIN_MS = 128 };

static void free_queue(struct hg_queue *q)
{
    hg_timer_stop(&q->ack_again);
    hg_list_remove(&q->link);
    hg_free(q->filter_own);
    hg_free(q);
}

/* Who is leaving has not been shown what came since: that goes back into the queue. */
static void ack_all(struct hg_queue *q)
{
    if (hg_session_has_room(q->session, 0)) {
        hg_queue_consumer_ack_all(q->consumer);
    } else {
        hg_worker_timer(q->session->worker, &q->ack_again, ACK_AGAIN_MS);
    }
}

static void fire_ack(struct hg_timer *timer)
{
    ack_all(HG_CONTAINER_OF(timer, struct hg_queue, ack_again));
}

static void on_state(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct hg_queue *q = ctx;
    const struct hg_queue_ops *ops = q->ops;
    void *ops_ctx = q->ctx;
    if (status != HG_OK) {
        free_queue(q);
    }
    ops->on_state(ops_ctx, status, has_existed, reason);
}

static bool address_for(const struct hg_queue *q, const struct hg_message *m,
                        struct hg_bytes *address_out, size_t *rule_out)
{
    struct hg_session *s = q->session;
    struct hg_bytes filter = hg_bytes_str(q->filter_own);
    if (q->is_by_name) {
        return true;
    }
    if (hg_routing_address(hg_realm_of(s)->routing, s->proto, m, address_out, rule_out) &&
        (filter.n == 0 || hg_topic_matches(filter, *address_out))) {
        return true;
    }
    *address_out = q->is_whole ? filter : HG_BYTES("");
    *rule_out = SIZE_MAX;
    return q->is_whole || q->shows_all;
}

/* A queue that is consumed by its name shows whatever is in it; one that was bound for the
 * subscription, what may be subscribed to. */
static bool may_see(const struct hg_queue *q, const struct hg_message *m,
                    const struct hg_delivery *d, size_t rule)
{
    if (!q->is_by_name) {
        return hg_access_may_see(q->session, d->address, rule);
    }
    return q->sub == NULL || q->sub->links_n == 0 || hg_access_may_see_source(q->session, m);
}

static void on_delivery(void *ctx, struct hg_message *m, struct hg_ticket ticket,
                        bool is_redelivered)
{
    struct hg_queue *q = ctx;
    struct hg_session *s = q->session;
    struct hg_worker *w = s->worker;
    struct hg_delivery d = {.message = m,
                            .must_keep = true,
                            .is_redelivered = is_redelivered,
                            .queue = q,
                            .ticket = ticket};
    size_t rule = SIZE_MAX;
    if (!address_for(q, m, &d.address, &rule)) {
        hg_count(&w->metrics.upstream.unmapped, 1);
        (void)hg_queue_ack(q, ticket);
    } else if (!may_see(q, m, &d, rule)) {
        (void)hg_queue_ack(q, ticket);
    } else if (!hg_session_is_closing(s)) { /* else it goes back into the queue with the end */
        if (q->sub != NULL) {
            q->sub->next_match = NULL;
        }
        hg_session_deliver(s, &d, q->sub);
        if (q->is_auto) {
            ack_all(q);
        }
    }
    hg_delivery_end(&d);
}

static const struct hg_queue_consumer_ops consumer_ops = {.on_state = on_state,
                                                          .on_delivery = on_delivery};

struct hg_queue *hg_queue_open(struct hg_session *s, const struct hg_queue_options *options,
                               const struct hg_queue_ops *ops, void *ctx)
{
    struct hg_queue *q = hg_zalloc(sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    if (options->filter.n > 0 && (q->filter_own = hg_bytes_dup(options->filter)) == NULL) {
        hg_free(q);
        return NULL;
    }
    q->is_whole = options->is_whole;
    q->shows_all = options->shows_all;
    q->is_by_name = options->is_by_name;
    q->is_auto = options->is_auto;
    hg_timer_init(&q->ack_again, fire_ack);
    hg_list_init(&q->link);
    q->session = s;
    q->sub = options->sub;
    q->ops = ops;
    q->ctx = ctx;
    const struct hg_queue_consumer_spec spec = {
        .queue = options->name,
        .arguments = options->arguments,
        .arguments_n = options->arguments_n,
        .is_transient = options->is_transient,
        .is_auto_delete = options->is_auto_delete,
        .is_private = options->is_private,
        .must_match = options->must_match,
        .consumer_arguments = options->consumer_arguments,
        .consumer_arguments_n = options->consumer_arguments_n,
        .binding_arguments = options->binding_arguments,
        .binding_arguments_n = options->binding_arguments_n,
        .prefetch = options->prefetch,
        .is_fresh = options->is_fresh,
        .is_exclusive = options->is_exclusive,
        .patience_ms = options->patience_ms,
        .must_exist = options->must_exist,
    };
    q->consumer = hg_queue_consumer_open(&hg_realm_of(s)->routing->consumers.seats, &spec,
                                         &consumer_ops, &hg_subscribe_bindings_ops, q);
    if (q->consumer == NULL) {
        free_queue(q);
        return NULL;
    }
    hg_list_add_last(&hg_realm_of(s)->routing->queues, &q->link);
    return q;
}

enum hg_status hg_queue_ack(struct hg_queue *q, struct hg_ticket ticket)
{
    return hg_queue_consumer_ack(q->consumer, ticket);
}

enum hg_status hg_queue_nack(struct hg_queue *q, struct hg_ticket ticket, bool is_requeue)
{
    return hg_queue_consumer_nack(q->consumer, ticket, is_requeue);
}

bool hg_queue_is_live(const struct hg_queue *q)
{
    return q != NULL && hg_queue_consumer_is_live(q->consumer);
}

struct hg_bindings *hg_queue_bindings(struct hg_queue *q)
{
    return hg_queue_consumer_bindings(q->consumer);
}

void hg_queue_close(struct hg_queue *q, enum hg_queue_end how)
{
    if (q != NULL) {
        hg_queue_consumer_close(q->consumer, how);
        free_queue(q);
    }
}

struct hg_bytes hg_replay_of_filter(const struct hg_session *s, struct hg_bytes filter)
{
    const struct hg_rules *rules = hg_realm_of(s)->rules;
    size_t rule = 0;
    const char *replay = NULL;
    if (hg_rules_owner(rules, (enum hg_protocol)s->proto, filter, &rule)) {
        replay = hg_rules_spec(rules, rule)->replay;
    }
    return hg_bytes_str(replay == NULL ? "" : replay);
}

/* ---- Under another configuration ---- */

static const char another_queue[] = "the rules have changed, and lead to another queue";

/* What is bound for a subscription is subscribe.c's; here is what is consumed as it is. */
static enum hg_status review(struct hg_queue *q, const char **why)
{
    struct hg_session *s = q->session;
    struct hg_bytes name = hg_queue_consumer_name(q->consumer);
    struct hg_bytes filter = hg_bytes_str(q->filter_own);
    struct hg_bytes now;
    if (q->is_by_name) { /* queues for answers are the client's own */
        struct hg_bytes prefix = hg_bytes_str(hg_own_prefix(hg_realm_of(s)));
        bool is_own = hg_bytes_starts(name, prefix) &&
                      hg_bytes_starts(hg_bytes_skip(name, prefix.n), HG_BYTES("stomp."));
        return is_own ? HG_OK : hg_access_queue(s, HG_ACCESS_SUBSCRIBE, name, why);
    }
    enum hg_status status = hg_queue_of_filter(s, filter, &now, why);
    now = status == HG_OK && !q->is_whole ? hg_replay_of_filter(s, filter) : now;
    if (status == HG_OK && !hg_bytes_eq(now, name)) {
        *why = another_queue;
        status = HG_NO_RULE;
    }
    return status;
}

void hg_queue_review_all(struct hg_routing *r)
{
    HG_LIST_FOREACH_SAFE (it, &r->queues) {
        struct hg_queue *q = HG_LIST_ENTRY(it, struct hg_queue, link);
        struct hg_sub *sub = q->sub;
        const char *why = NULL;
        if (sub == NULL || sub->session == NULL || sub->links_n > 0 || q->session->conn == NULL ||
            hg_session_is_closing(q->session)) {
            continue;
        }
        enum hg_status status = review(q, &why);
        if (status != HG_OK) {
            hg_subscribe_end(sub, status, why);
        }
    }
}
