/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions: from a filter or a source to bindings, consumers and a place in the index. */
#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/identity.h"
#include "core/queue.h"
#include "core/retain_priv.h"
#include "core/routing_priv.h"
#include "core/slow.h"
#include "core/subscribe_priv.h"
#include "message/topic.h"

enum { POOL_SLAB_N = 64 };

/* Most subscriptions have a single link: no allocation of its own for each. */
void hg_subscribe_pool_open(struct hg_pool *pool)
{
    hg_pool_open(pool, sizeof(struct hg_sub_link), POOL_SLAB_N);
}

/* A declaration or deletion that a session waits for. */
struct declare {
    struct hg_chain_link link; /* in hg_session.declares */
    struct hg_session *session;
    struct hg_consumer *consumer;
    uint64_t id;
};

static struct hg_routing *routing_of(const struct hg_session *s)
{
    return hg_realm_of(s)->routing;
}

/* ---- Answers ---- */

static void fail(struct hg_sub *sub, enum hg_status status, struct hg_bytes reason)
{
    struct hg_session *s = sub->session;
    hg_unsubscribe(sub);
    s->ops->subscribed(s, sub, status, reason);
}

void hg_subscribe_end(struct hg_sub *sub, enum hg_status status, const char *why)
{
    const struct hg_session *s = sub->session;
    const char *peer = s->conn == NULL ? NULL : hg_conn_peer(s->conn);
    why = why != NULL ? why : hg_status_text(status);
    HG_LOG_LIMITED(s->worker->log, HG_LOG_WARN, "reload.unsubscribed", hg_bytes_str(peer),
                   HG_F_STR("protocol", hg_protocol_name((enum hg_protocol)s->proto)),
                   HG_F_STR("peer", peer), HG_F_BYTES("user", hg_identity_user(s->identity)),
                   HG_F_STR("reason", why));
    fail(sub, status, hg_bytes_str(why));
}

static void answer_holder(struct hg_holder *holder)
{
    if (holder->link.is_waiting) {
        holder->link.is_waiting = false;
        holder->on_answer(holder->worker);
    }
}

static void answered(struct hg_sub_link *link, enum hg_status status, struct hg_bytes reason)
{
    struct hg_sub *sub = link->sub;
    if (sub == NULL) {
        answer_holder(HG_CONTAINER_OF(link, struct hg_holder, link));
        return;
    }
    if (status != HG_OK) {
        fail(sub, status, reason);
        return;
    }
    if (!link->is_waiting) {
        return; /* again, after a reconnect */
    }
    link->is_waiting = false;
    sub->waiting_n--;
    if (sub->waiting_n == 0 && !sub->is_live) { /* else it has changed under new rules */
        sub->is_live = true;
        sub->session->ops->subscribed(sub->session, sub, HG_OK, HG_BYTES(""));
    }
}

static void on_bound(struct hg_binding_user *user, enum hg_status status, struct hg_bytes reason)
{
    answered(HG_CONTAINER_OF(user, struct hg_sub_link, u.bound), status, reason);
}

const struct hg_bindings_ops hg_subscribe_bindings_ops = {.on_bound = on_bound};

static void on_consumer_state(void *ctx, enum hg_status status, struct hg_bytes reason)
{
    struct hg_sub_link *link = ctx;
    if (status != HG_OK) {
        link->u.consumer.handle = NULL;
    }
    answered(link, status, reason);
}

/* The address for a delivery from a queue: the first rule's that fits, if the filter matches it;
 * for a queue consumed whole, else the address of the rule that names the queue. */
static bool address_for(const struct hg_sub_link *link, const struct hg_message *m,
                        struct hg_bytes *address_out, size_t *rule_out)
{
    struct hg_session *s = link->sub->session;
    struct hg_routing *r = routing_of(s);
    struct hg_bytes filter = hg_bytes_str(link->u.consumer.filter);
    if (hg_routing_address(r, s->proto, m, address_out, rule_out) &&
        hg_topic_matches(filter, *address_out)) {
        return true;
    }
    if (!link->is_whole_queue) {
        return false;
    }
    if (link->rule >= hg_rules_n(hg_realm_of(s)->rules)) { /* it was subscribed by other rules, */
        return false;                                      /* and its session is leaving */
    }
    const char *queue = hg_rules_spec(hg_realm_of(s)->rules, link->rule)->queue;
    *rule_out = link->rule;
    hg_writer_reset(&r->text);
    size_t rule = 0;
    if (hg_rules_deliver(hg_realm_of(s)->rules, s->proto, HG_BYTES(""), hg_bytes_str(queue),
                         HG_BYTES(""), &r->text, &rule)) {
        *address_out = hg_writer_view(&r->text);
    } else {
        *address_out = filter; /* has no wildcard: hg_subscribe_plan saw to it */
    }
    return true;
}

static void on_consumer_delivery(void *ctx, struct hg_message *m, bool is_redelivered)
{
    struct hg_sub_link *link = ctx;
    struct hg_session *s = link->sub->session;
    struct hg_delivery d = {.message = m, .is_redelivered = is_redelivered, .must_keep = true};
    size_t rule = SIZE_MAX;
    bool is_wanted = link->rule == HG_SUB_SOURCE || address_for(link, m, &d.address, &rule);
    bool may_see =
        is_wanted && (link->rule == HG_SUB_SOURCE ? hg_access_may_see_source(s, m)
                                                  : hg_access_may_see(s, d.address, rule));
    if (!is_wanted) {
        hg_count(&s->worker->metrics.upstream.unwanted, 1);
    } else if (may_see && !hg_session_is_closing(s)) {
        link->sub->next_match = NULL;
        hg_session_deliver(s, &d, link->sub);
    }
    hg_delivery_end(&d);
}

/* Who is leaving has not been shown what came since: that goes back into the queue. */
static bool may_ack(void *ctx)
{
    const struct hg_sub_link *link = ctx;
    return hg_session_has_room(link->sub->session, 0);
}

static const struct hg_consumer_ops consumer_ops = {
    .on_state = on_consumer_state, .on_delivery = on_consumer_delivery, .may_ack = may_ack};

/* ---- Making and giving back links ---- */

static void keep(struct hg_sub *sub)
{
    sub->links_n++;
    sub->waiting_n++;
}

static bool add_binding(struct hg_sub *sub, struct hg_bindings *to, struct hg_bytes exchange,
                        struct hg_bytes key, uint32_t rule, uint32_t *made_n)
{
    struct hg_sub_link *link = &sub->links[sub->links_n];
    *link = (struct hg_sub_link){.sub = sub, .rule = rule, .is_waiting = true};
    if (to == &routing_of(sub->session)->feed.bindings) {
        hg_feed_want(&routing_of(sub->session)->feed);
    }
    bool is_added = hg_bindings_add(to, exchange, key, &link->u.bound, made_n);
    if (is_added) {
        keep(sub);
    }
    return is_added;
}

/* filter: NULL where the subscription is by RabbitMQ's names. */
static bool add_consumer(struct hg_sub *sub, const struct hg_consumer_spec *spec,
                         const struct hg_bytes *filter, uint32_t rule)
{
    struct hg_sub_link *link = &sub->links[sub->links_n];
    *link = (struct hg_sub_link){.sub = sub,
                                 .rule = rule,
                                 .is_waiting = true,
                                 .is_consumer = true,
                                 .is_whole_queue = spec->queue.n > 0};
    if (filter != NULL && (link->u.consumer.filter = hg_bytes_dup(*filter)) == NULL) {
        return false;
    }
    link->u.consumer.handle =
        hg_consumer_open(&routing_of(sub->session)->consumers, spec, &consumer_ops, link);
    if (link->u.consumer.handle == NULL) {
        hg_free(link->u.consumer.filter);
        return false;
    }
    keep(sub);
    return true;
}

static void give_back(struct hg_sub_link *link)
{
    if (link->is_consumer) {
        hg_consumer_close(link->u.consumer.handle);
        hg_free(link->u.consumer.filter);
    } else {
        hg_bindings_remove(&link->u.bound);
    }
}

bool hg_subscribe_allot(struct hg_routing *r, struct hg_sub *sub, size_t n,
                        const struct hg_bytes *filter)
{
    struct hg_sub_links *kept = NULL;
    sub->has_filter = filter != NULL;
    sub->has_pooled_link = n == 1 && filter == NULL;
    sub->links_n = sub->waiting_n = 0;
    if (sub->has_pooled_link) {
        sub->links = hg_pool_get(&r->links);
    } else if (filter == NULL) {
        sub->links = hg_zalloc(n * sizeof(*sub->links));
    } else {
        kept = hg_zalloc(sizeof(*kept) + n * sizeof(kept->links[0]));
        if (kept != NULL && (kept->filter_own = hg_bytes_dup(*filter)) == NULL) {
            hg_free(kept);
            kept = NULL;
        }
        sub->links = kept == NULL ? NULL : kept->links;
    }
    return sub->links != NULL;
}

void hg_subscribe_release(struct hg_routing *r, struct hg_sub *sub)
{
    for (size_t i = 0; i < sub->links_n; i++) {
        give_back(&sub->links[i]);
    }
    if (sub->links == NULL) {
        return;
    }
    if (sub->has_filter) {
        struct hg_sub_links *kept = HG_CONTAINER_OF(sub->links, struct hg_sub_links, links);
        hg_free(kept->filter_own);
        hg_free(kept);
    } else if (sub->has_pooled_link) {
        hg_pool_put(&r->links, sub->links);
    } else {
        hg_free(sub->links);
    }
    sub->links = NULL;
    sub->links_n = sub->waiting_n = 0;
    sub->has_filter = sub->has_pooled_link = false;
}

void hg_unsubscribe(struct hg_sub *sub)
{
    struct hg_session *s = sub->session;
    if (s == NULL) {
        return;
    }
    struct hg_routing *r = routing_of(s);
    hg_retain_end(sub);
    hg_slow_forget(sub);
    if (sub->entry.node != NULL) {
        hg_trie_remove(sub->index, &sub->entry);
        if (sub->index != r->by_address[s->proto]) {
            hg_routing_drop_source(r, sub->index);
        }
    }
    hg_subscribe_release(r, sub);
    hg_list_remove(&sub->session_link);
    s->subs_n--;
    hg_uncount(&s->worker->metrics.proto[s->proto].subscriptions, 1);
    sub->session = NULL;
    sub->is_live = false;
    sub->refused = HG_OK;
}

/* filter: NULL unless it has to be kept, since it is in no index. */
static enum hg_status begin(struct hg_session *s, struct hg_sub *sub, size_t links_n,
                            const struct hg_bytes *filter, const char **why_out)
{
    if (s->subs_n >= s->worker->config->max_subscriptions) {
        *why_out = "the client has as many subscriptions as [limits] max_subscriptions allows";
        hg_worker_refused(s->worker, HG_LIMIT_SUBSCRIPTIONS);
        return HG_TOO_MANY;
    }
    if (!hg_subscribe_allot(routing_of(s), sub, links_n, filter)) {
        return HG_NO_MEMORY;
    }
    sub->session = s;
    sub->entry.node = NULL;
    sub->is_live = false;
    sub->refused = HG_OK;
    hg_list_add_last(&s->subs, &sub->session_link);
    s->subs_n++;
    hg_count(&s->worker->metrics.proto[s->proto].subscriptions, 1);
    return HG_OK;
}

/* ---- By filter ---- */

static void count_plan(void *ctx, const struct hg_binding_plan *plan)
{
    struct hg_subscribing *c = ctx;
    (void)plan;
    c->plans_n++;
}

bool hg_subscribe_is_wide(const struct rule_bindings *by_rule, const struct hg_binding_plan *plan,
                          const struct hg_config *config)
{
    const struct rule_bindings *of_rule = by_rule == NULL ? NULL : &by_rule[plan->widened_with];
    return of_rule != NULL && plan->is_widenable &&
           (plan->scope == HG_SCOPE_WIDE || of_rule->is_wide ||
            of_rule->exact_n >= config->widen_after);
}

void hg_subscribe_widen(struct hg_routing *r, const struct hg_binding_plan *plan)
{
    struct rule_bindings *of_rule = &r->by_rule[plan->rule];
    if (of_rule->wide.binding == NULL && plan->widened_with == plan->rule) {
        (void)hg_bindings_keep(&r->feed.bindings, plan->exchange, plan->wide_key, &of_rule->wide);
        hg_count(&r->worker->metrics.upstream.widened, !of_rule->is_wide);
        of_rule->is_wide = true;
    }
}

/* Exact, until the rule has more bindings on this feed than is good (architecture, decision 3). */
static bool bind_plan(struct hg_sub *sub, const struct hg_binding_plan *plan)
{
    struct hg_session *s = sub->session;
    struct hg_routing *r = routing_of(s);
    bool is_wide = hg_subscribe_is_wide(r->by_rule, plan, s->worker->config);
    if (is_wide) {
        hg_subscribe_widen(r, plan);
    }
    uint32_t *exact_n = is_wide || r->by_rule == NULL ? NULL : &r->by_rule[plan->rule].exact_n;
    return add_binding(sub, &r->feed.bindings, plan->exchange, is_wide ? plan->wide_key : plan->key,
                       (uint32_t)plan->rule, exact_n);
}

bool hg_subscribe_has_address(const struct hg_session *s, struct hg_bytes queue)
{
    struct hg_writer text = {0};
    size_t rule = 0;
    bool has = hg_rules_deliver(hg_realm_of(s)->rules, s->proto, HG_BYTES(""), queue, HG_BYTES(""),
                                &text, &rule);
    hg_writer_close(&text);
    return has;
}

bool hg_subscribe_has_queue_at(const struct hg_sub *sub, size_t links_n, struct hg_bytes exchange)
{
    const struct hg_rules *rules = hg_realm_of(sub->session)->rules;
    bool is_known = false;
    if (hg_rules_exchange_type(rules, exchange, &is_known) != HG_EXCHANGE_HEADERS) {
        return false;
    }
    for (size_t i = 0; i < links_n; i++) {
        const char *other = hg_rules_spec(rules, sub->links[i].rule)->exchange;
        if (other != NULL && hg_bytes_eq(hg_bytes_str(other), exchange)) {
            return true;
        }
    }
    return false;
}

/* What the subscription consumed before it was made anew is not let go of, or messages would come
 * twice or not at all. */
static bool take_over(struct hg_subscribing *c, const struct hg_consumer_spec *spec, uint32_t rule)
{
    for (size_t i = 0; i < c->before_n; i++) {
        struct hg_sub_link *old = &c->before[i];
        if (old->is_consumer && hg_consumer_is_for(old->u.consumer.handle, spec)) {
            struct hg_sub_link *link = &c->sub->links[c->sub->links_n++];
            *link = *old;
            link->rule = rule;
            c->sub->waiting_n = (uint16_t)(c->sub->waiting_n + link->is_waiting);
            hg_consumer_tell(link->u.consumer.handle, link);
            old->u.consumer.handle = NULL;
            old->u.consumer.filter = NULL;
            return true;
        }
    }
    return false;
}

static bool follow_plan(struct hg_subscribing *c, const struct hg_binding_plan *plan)
{
    if (plan->kind != HG_PLAN_QUEUE && c->bindings != NULL) {
        return add_binding(c->sub, c->bindings, plan->exchange, plan->key, (uint32_t)plan->rule,
                           NULL);
    }
    if (plan->kind == HG_PLAN_FEED) {
        return bind_plan(c->sub, plan);
    }
    const struct hg_consumer_spec spec = {.queue = plan->queue,
                                          .exchange = plan->exchange,
                                          .key = plan->key,
                                          .binding_arguments = c->match.items,
                                          .binding_arguments_n = c->match.n};
    return take_over(c, &spec, (uint32_t)plan->rule) ||
           add_consumer(c->sub, &spec, &c->filter, (uint32_t)plan->rule);
}

void hg_subscribe_plan(void *ctx, const struct hg_binding_plan *plan)
{
    struct hg_subscribing *c = ctx;
    bool is_had_already = plan->kind == HG_PLAN_OWN_QUEUE && c->bindings == NULL &&
                          hg_subscribe_has_queue_at(c->sub, c->sub->links_n, plan->exchange);
    bool cannot_match = c->match.n > 0 && !hg_plan_matches_headers(plan);
    if (c->status != HG_OK || is_had_already || cannot_match) {
        return;
    }
    if (plan->kind == HG_PLAN_QUEUE && hg_topic_has_wildcard(c->filter) &&
        !hg_subscribe_has_address(c->sub->session, plan->queue)) {
        c->status = HG_NO_WILDCARD;
        c->why = "a rule with a queue has no address for a wildcard: subscribe to one address";
    } else if (!follow_plan(c, plan)) {
        c->status = HG_NO_MEMORY;
    }
}

static enum hg_status check_filter(struct hg_session *s, struct hg_subscribing *c, hg_plan_fn *each)
{
    const struct hg_config *config = s->worker->config;
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    c->why = hg_topic_check_filter(c->filter, &limits);
    if (c->why != NULL) {
        hg_session_note_topic(s->worker, c->filter);
        return HG_BAD_FILTER;
    }
    struct hg_rule_who room;
    enum hg_status status = hg_rules_subscribe(hg_realm_of(s)->rules, hg_session_who(s, &room),
                                               s->proto, c->filter, each, c, &c->why);
    return status == HG_NOT_ALLOWED ? hg_access_deny(s, "subscribe", c->filter, NULL) : status;
}

/* Into the session's protocol's index, unless what it gets comes from queues alone. */
static bool enter_index(struct hg_subscribing *c)
{
    struct hg_sub *sub = c->sub;
    if (c->bindings != NULL || c->match.n > 0) {
        return true;
    }
    sub->index = routing_of(sub->session)->by_address[sub->session->proto];
    if (!hg_trie_add(sub->index, c->filter, &sub->entry)) {
        sub->entry.node = NULL;
        return false;
    }
    return true;
}

static enum hg_status subscribe(struct hg_session *s, struct hg_subscribing *c,
                                const char **why_out)
{
    enum hg_status status = check_filter(s, c, count_plan);
    if (status == HG_OK) {
        status = begin(s, c->sub, c->plans_n, c->bindings == NULL ? NULL : &c->filter, &c->why);
    }
    if (status != HG_OK) {
        *why_out = c->why;
        return status;
    }
    status = enter_index(c) ? HG_OK : HG_NO_MEMORY;
    if (status == HG_OK) {
        struct hg_rule_who room;
        status = hg_rules_subscribe(hg_realm_of(s)->rules, hg_session_who(s, &room), s->proto,
                                    c->filter, hg_subscribe_plan, c, &c->why);
    }
    status = status == HG_OK ? c->status : status;
    if (status == HG_OK && c->sub->links_n == 0) { /* nothing of it matches by headers */
        status = HG_BAD_FILTER;
        c->why = HG_MATCH_MISPLACED;
    }
    if (status != HG_OK) {
        hg_unsubscribe(c->sub);
    }
    *why_out = c->why;
    return status;
}

enum hg_status hg_subscribe_filter(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter,
                                   const char **why_out)
{
    struct hg_subscribing c = {.sub = sub, .filter = filter};
    return subscribe(s, &c, why_out);
}

enum hg_status hg_subscribe_queue_filter(struct hg_session *s, struct hg_sub *sub,
                                         struct hg_bytes filter, struct hg_queue *q,
                                         const char **why_out)
{
    struct hg_subscribing c = {.sub = sub, .filter = filter, .bindings = hg_queue_bindings(q)};
    return subscribe(s, &c, why_out);
}

bool hg_plan_matches_headers(const struct hg_binding_plan *plan)
{
    return plan->kind == HG_PLAN_OWN_QUEUE;
}

enum hg_status hg_subscribe_matching(struct hg_session *s, struct hg_sub *sub,
                                     struct hg_bytes filter, const struct hg_match *match,
                                     const char **why_out)
{
    struct hg_subscribing c = {.sub = sub, .filter = filter, .match = *match};
    return subscribe(s, &c, why_out);
}

static void note_queue(void *ctx, const struct hg_binding_plan *plan)
{
    struct hg_subscribing *c = ctx;
    if (plan->kind == HG_PLAN_QUEUE && c->plans_n == 0) {
        c->queue_rule = plan->rule;
    }
    c->has_later_queue = c->has_later_queue || (plan->kind == HG_PLAN_QUEUE && c->plans_n > 0);
    c->plans_n++;
}

enum hg_status hg_queue_of_filter(struct hg_session *s, struct hg_bytes filter,
                                  struct hg_bytes *queue_out, const char **why_out)
{
    const struct hg_rules *rules = hg_realm_of(s)->rules;
    struct hg_subscribing c = {.filter = filter, .queue_rule = HG_SUB_SOURCE};
    *queue_out = hg_bytes(NULL, 0);
    enum hg_status status = check_filter(s, &c, note_queue);
    bool has_queue = status == HG_OK && c.queue_rule != HG_SUB_SOURCE;
    if (has_queue && !hg_topic_has_wildcard(filter)) {
        *queue_out = hg_bytes_str(hg_rules_spec(rules, c.queue_rule)->queue);
    } else if (has_queue || (status == HG_OK && c.has_later_queue)) {
        c.why = "a rule's queue is acknowledged by an address which that rule is the first to take";
        status = HG_NO_WILDCARD;
    }
    *why_out = c.why;
    return status;
}

/* ---- By an index of the adapter's ---- */

enum hg_status hg_subscribe_index(struct hg_session *s, struct hg_sub *sub, struct hg_trie *index,
                                  struct hg_bytes filter, const char **why_out)
{
    *why_out = NULL;
    enum hg_status status = begin(s, sub, 0, NULL, why_out);
    if (status != HG_OK) {
        return status;
    }
    sub->index = index;
    if (index != NULL && !hg_trie_add(index, filter, &sub->entry)) {
        sub->entry.node = NULL;
        hg_unsubscribe(sub);
        return HG_NO_MEMORY;
    }
    sub->is_live = true;
    return HG_OK;
}

/* ---- By source ---- */

static struct hg_trie *index_for(struct hg_routing *r, struct hg_bytes exchange)
{
    struct source_index *index = hg_map_find(&r->by_exchange, exchange);
    if (index != NULL) {
        return index->trie;
    }
    index = hg_zalloc(sizeof(*index) + exchange.n);
    if (index == NULL) {
        return NULL;
    }
    index->name_n = (uint8_t)exchange.n;
    memcpy(index->name, exchange.p, exchange.n);
    index->trie = hg_trie_new(HG_TRIE_BINDING);
    if (index->trie == NULL ||
        !hg_map_put(&r->by_exchange, hg_bytes(index->name, index->name_n), index)) {
        if (index->trie != NULL) {
            hg_trie_free(index->trie);
        }
        hg_free(index);
        return NULL;
    }
    return index->trie;
}

static enum hg_status check_source(struct hg_session *s, const struct hg_source *source,
                                   const char **why_out)
{
    *why_out = source->exchange.n > 255 || source->key.n > 255
                   ? "names and routing keys have at most 255 bytes"
               : source->exchange.n == 0
                   ? "the default exchange cannot be subscribed to: name a queue"
                   : NULL;
    return *why_out != NULL
               ? HG_BAD_ADDRESS
               : hg_access_exchange(s, HG_ACCESS_SUBSCRIBE, source->exchange, source->key, why_out);
}

static bool has_wildcard_word(struct hg_bytes key)
{
    struct hg_bytes word;
    bool has_more = true;
    while (hg_topic_next(&key, &has_more, '.', &word)) {
        if (hg_bytes_eq(word, HG_BYTES("*")) || hg_bytes_eq(word, HG_BYTES("#"))) {
            return true;
        }
    }
    return false;
}

static enum hg_status subscribe_exchange(struct hg_sub *sub, const struct hg_source *source,
                                         enum hg_exchange_type type, const char **why_out)
{
    struct hg_routing *r = routing_of(sub->session);
    if (type == HG_EXCHANGE_DIRECT && has_wildcard_word(source->key)) {
        *why_out = "a direct exchange knows no wildcards";
        return HG_NO_WILDCARD;
    }
    struct hg_bytes pattern = type == HG_EXCHANGE_FANOUT ? HG_BYTES("#") : source->key;
    sub->index = index_for(r, source->exchange);
    if (sub->index == NULL) {
        return HG_NO_MEMORY;
    }
    if (!hg_trie_add(sub->index, pattern, &sub->entry)) {
        sub->entry.node = NULL;
        hg_routing_drop_source(r, sub->index);
        return HG_NO_MEMORY;
    }
    struct hg_bytes key = type == HG_EXCHANGE_FANOUT ? HG_BYTES("") : source->key;
    return add_binding(sub, &r->feed.bindings, source->exchange, key, HG_SUB_SOURCE, NULL)
               ? HG_OK
               : HG_NO_MEMORY;
}

enum hg_status hg_subscribe_source(struct hg_session *s, struct hg_sub *sub,
                                   const struct hg_source *source, const char **why_out)
{
    enum hg_status status = check_source(s, source, why_out);
    if (status == HG_OK) {
        status = begin(s, sub, 1, NULL, why_out);
    }
    if (status != HG_OK) {
        return status;
    }
    /* An exchange whose type is not known gets a queue of the subscriber's own: that is right for
     * every type. */
    bool is_known = false;
    enum hg_exchange_type type =
        hg_rules_exchange_type(hg_realm_of(s)->rules, source->exchange, &is_known);
    bool is_shared = is_known && (type == HG_EXCHANGE_TOPIC || type == HG_EXCHANGE_DIRECT ||
                                  type == HG_EXCHANGE_FANOUT);
    const struct hg_consumer_spec own = {.exchange = source->exchange, .key = source->key};
    if (is_shared) {
        status = subscribe_exchange(sub, source, type, why_out);
    } else {
        status = add_consumer(sub, &own, NULL, HG_SUB_SOURCE) ? HG_OK : HG_NO_MEMORY;
    }
    if (status != HG_OK) {
        hg_unsubscribe(sub);
    }
    return status;
}

enum hg_status hg_subscribe_queue_source(struct hg_session *s, struct hg_sub *sub,
                                         const struct hg_source *source, struct hg_queue *q,
                                         const char **why_out)
{
    bool is_known = false;
    enum hg_status status = check_source(s, source, why_out);
    if (status != HG_OK) {
        return status;
    }
    if (hg_rules_exchange_type(hg_realm_of(s)->rules, source->exchange, &is_known) ==
            HG_EXCHANGE_DIRECT &&
        is_known && has_wildcard_word(source->key)) {
        *why_out = "a direct exchange knows no wildcards";
        return HG_NO_WILDCARD;
    }
    status = begin(s, sub, 1, NULL, why_out);
    if (status == HG_OK && !add_binding(sub, hg_queue_bindings(q), source->exchange, source->key,
                                        HG_SUB_SOURCE, NULL)) {
        hg_unsubscribe(sub);
        status = HG_NO_MEMORY;
    }
    return status;
}

/* ---- Declaring and deleting ---- */

static void free_declare(struct declare *d)
{
    hg_chain_remove(&d->link);
    hg_free(d);
}

static void on_declare_state(void *ctx, enum hg_status status, struct hg_bytes reason)
{
    struct declare *d = ctx;
    struct hg_session *s = d->session;
    uint64_t id = d->id;
    free_declare(d);
    s->ops->declared(s, id, status, reason);
}

static const struct hg_consumer_ops declare_ops = {.on_state = on_declare_state};

static enum hg_status ask(struct hg_session *s, const struct hg_consumer_spec *spec, uint64_t id)
{
    struct declare *d = hg_zalloc(sizeof(*d));
    if (d == NULL) {
        return HG_NO_MEMORY;
    }
    d->session = s;
    d->id = id;
    d->consumer = hg_consumer_open(&routing_of(s)->consumers, spec, &declare_ops, d);
    if (d->consumer == NULL) {
        hg_free(d);
        return HG_NO_MEMORY;
    }
    hg_chain_add_first(&s->declares, &d->link);
    return HG_OK;
}

enum hg_status hg_declare_queue(struct hg_session *s, const struct hg_queue_spec *spec, uint64_t id)
{
    const struct hg_amqp_queue_declare declare = {
        .name = spec->name,
        .is_durable = spec->is_durable,
        .is_exclusive = spec->is_exclusive,
        .is_auto_delete = spec->is_auto_delete,
        .arguments = spec->arguments,
        .arguments_n = spec->arguments_n,
    };
    const struct hg_consumer_spec consumer = {
        .queue = spec->name, .declare = &declare, .is_declare_only = true};
    return ask(s, &consumer, id);
}

enum hg_status hg_delete_queue(struct hg_session *s, struct hg_bytes name, uint64_t id)
{
    const struct hg_consumer_spec consumer = {.queue = name, .is_delete_only = true};
    return ask(s, &consumer, id);
}

void hg_session_forget_declares(struct hg_session *s)
{
    HG_CHAIN_FOREACH_SAFE (it, &s->declares) {
        struct declare *d = HG_CHAIN_ENTRY(it, struct declare, link);
        hg_consumer_close(d->consumer);
        free_declare(d);
    }
}

/* ---- What is held for others ---- */

void hg_subscribe_let_go(struct hg_routing *r)
{
    while (r->holders != NULL) {
        struct hg_holder *holder = r->holders;
        r->holders = holder->next;
        hg_bindings_remove(&holder->link.u.bound);
        hg_free(holder);
    }
    hg_free(r->by_next_rule);
    r->by_next_rule = NULL;
}
