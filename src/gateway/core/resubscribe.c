/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions under other rules. Whatever a subscription has already and still needs is left alone,
 * so that nothing of it is lost or comes twice; what is new is bound before what is old is let go
 * of, and RabbitMQ works through both in that order. */
#include "base/check.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/reload.h"
#include "core/service.h"
#include "core/state.h"
#include "core/subscribe_priv.h"
#include "message/topic.h"

/* ---- What a subscription asked for ---- */

/* It is in no index, since it matches by headers: queues of its own bring what it gets. */
static const struct hg_sub_link *matching_link(const struct hg_sub *sub)
{
    const struct hg_sub_link *link = sub->links;
    bool is_matching = !sub->has_filter && sub->entry.node == NULL && sub->links_n > 0 &&
                       link->is_consumer && link->u.consumer.filter != NULL &&
                       link->u.consumer.handle != NULL;
    return is_matching ? link : NULL;
}

/* False: it has no filter, it is not about rules; or there is no memory. match_out: lives as long as
 * the links. */
static bool read_filter(const struct hg_sub *sub, struct hg_writer *out, struct hg_match *match_out)
{
    const struct hg_session *s = sub->session;
    const struct hg_routing *r = hg_realm_of(s)->routing;
    const struct hg_sub_link *matching = matching_link(sub);
    *match_out = (struct hg_match){.n = 0};
    if (matching != NULL) {
        match_out->items = hg_consumer_arguments(matching->u.consumer.handle, &match_out->n);
        hg_writer_str(out, matching->u.consumer.filter);
    } else if (sub->has_filter) {
        hg_writer_str(out, HG_CONTAINER_OF(sub->links, struct hg_sub_links, links)->filter_own);
    } else if (sub->entry.node != NULL && sub->index == r->by_address[s->proto]) {
        hg_trie_write_pattern(sub->index, &sub->entry, out);
    } else {
        return false;
    }
    return !out->failed;
}

/* Of the queue that it is bound to; NULL where that is the feed, or gone. */
static struct hg_bindings *queue_of(const struct hg_sub *sub)
{
    struct hg_bindings *found = NULL;
    for (size_t i = 0; sub->has_filter && found == NULL && i < sub->links_n; i++) {
        found = sub->links[i].is_consumer ? NULL : hg_bindings_of(&sub->links[i].u.bound);
    }
    return found;
}

static bool is_bound_so(const struct hg_sub_link *link, const struct hg_binding_plan *plan)
{
    struct hg_bytes exchange;
    struct hg_bytes key;
    bool is_fed = plan->kind == HG_PLAN_FEED;
    bool must_be_wide = is_fed && plan->is_widenable && plan->scope == HG_SCOPE_WIDE;
    return !link->is_consumer && hg_bindings_names(&link->u.bound, &exchange, &key) &&
           hg_bytes_eq(exchange, plan->exchange) &&
           ((!must_be_wide && hg_bytes_eq(key, plan->key)) ||
            (is_fed && plan->is_widenable && hg_bytes_eq(key, plan->wide_key)));
}

/* ---- Before: bindings that will be needed ---- */

struct preparing {
    struct hg_worker *worker;
    const struct hg_config *next;
    const struct hg_sub *sub; /* the one at hand, and its queue */
    struct hg_bindings *bindings;
};

static void on_answer(struct hg_worker *w)
{
    if (--w->reload.waiting_n == 0) {
        hg_reload_is_prepared(w);
    }
}

static void hold(void *ctx, const struct hg_binding_plan *plan)
{
    struct preparing *p = ctx;
    struct hg_routing *r = hg_realm_of(p->sub->session)->routing;
    bool is_fed = p->bindings == NULL;
    if (plan->kind == HG_PLAN_QUEUE || (is_fed && plan->kind == HG_PLAN_OWN_QUEUE)) {
        return; /* consumed from the swap on */
    }
    for (size_t i = 0; i < p->sub->links_n; i++) {
        if (is_bound_so(&p->sub->links[i], plan)) {
            return;
        }
    }
    struct hg_holder *holder = hg_zalloc(sizeof(*holder));
    uint32_t *exact_n = r->by_next_rule == NULL ? NULL : &r->by_next_rule[plan->rule].exact_n;
    bool is_wide = is_fed && hg_subscribe_is_wide(r->by_next_rule, plan, p->next);
    if (holder == NULL ||
        !hg_bindings_add(is_fed ? &r->feed.bindings : p->bindings, plan->exchange,
                         is_wide ? plan->wide_key : plan->key, &holder->link.u.bound,
                         is_fed && !is_wide ? exact_n : NULL)) {
        hg_free(holder); /* it is bound at the swap */
        return;
    }
    holder->link.is_waiting = true;
    holder->worker = p->worker;
    holder->on_answer = on_answer;
    holder->next = r->holders;
    r->holders = holder;
    p->worker->reload.waiting_n++;
}

static void prepare_session(void *ctx, struct hg_session *s)
{
    struct preparing *p = ctx;
    const struct hg_realm *realm = hg_realm_of(s);
    const struct hg_rules *rules = p->next->vhosts[realm->vhost->index].table;
    struct hg_rule_who room;
    const struct hg_rule_who *who = hg_session_who(s, &room);
    if (!realm->routing->is_feed_up) {
        return; /* bindings are made when it comes back */
    }
    HG_LIST_FOREACH (it, &s->subs) {
        struct hg_writer filter = {0};
        struct hg_match match;
        const char *why;
        p->sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        p->bindings = queue_of(p->sub);
        if (read_filter(p->sub, &filter, &match) && match.n == 0 &&
            (p->bindings != NULL || !p->sub->has_filter)) {
            (void)hg_rules_subscribe(rules, who, s->proto, hg_writer_view(&filter), hold, p, &why);
        }
        hg_writer_close(&filter);
    }
}

static void each_session(struct hg_worker *w, hg_conn_each_fn *each, void *ctx)
{
    hg_conn_each(w, each, ctx);
    HG_LIST_FOREACH (it, &w->services) {
        struct hg_service *service = HG_LIST_ENTRY(it, struct hg_service, link);
        if (service->session != NULL) {
            each(ctx, service->session);
        }
    }
}

/* A rule keeps its name through changes, and what it was widened for. */
static void carry_widened(const struct hg_realm *realm, const struct hg_rules *next,
                          struct rule_bindings *by_next_rule)
{
    for (size_t i = 0; i < hg_rules_n(realm->rules); i++) {
        const char *name = hg_rules_spec(realm->rules, i)->name;
        for (size_t j = 0; realm->routing->by_rule[i].is_wide && j < hg_rules_n(next); j++) {
            if (strcmp(name, hg_rules_spec(next, j)->name) == 0) {
                by_next_rule[j].is_wide = true;
            }
        }
    }
}

static bool prepare_realm(struct hg_realm *realm, const struct hg_config *next)
{
    struct hg_routing *r = realm->routing;
    const struct hg_rules *rules = next->vhosts[realm->vhost->index].table;
    hg_subscribe_let_go(r);
    if (r->by_rule == NULL) {
        return true;
    }
    r->by_next_rule = hg_zalloc((hg_rules_n(rules) + 1) * sizeof(*r->by_next_rule));
    if (r->by_next_rule != NULL) {
        carry_widened(realm, rules, r->by_next_rule);
    }
    return r->by_next_rule != NULL;
}

/* Who may subscribe to what is as it was. */
static bool is_same(const struct hg_config *a, const struct hg_config *b)
{
    return !a->has_identities && !b->has_identities && hg_config_says_same(a, b, "rule") &&
           hg_config_says_same(a, b, "exchange");
}

bool hg_resubscribe_prepare(struct hg_worker *w, const struct hg_config *next)
{
    struct preparing p = {.worker = w, .next = next};
    bool is_whole = true;
    w->reload.waiting_n = 1; /* this */
    struct hg_realm *realm;
    for (unsigned at = 0; is_whole && (realm = hg_realm_next(w, &at)) != NULL;) {
        is_whole = prepare_realm(realm, next);
    }
    if (is_whole && !is_same(w->config, next)) {
        each_session(w, prepare_session, &p);
    }
    if (is_whole && --w->reload.waiting_n == 0) {
        hg_reload_is_prepared(w);
    }
    return is_whole;
}

/* ---- The swap: one subscription ---- */

/* Goes through the plans and the links side by side, as long as they agree. */
struct comparing {
    const struct hg_sub *sub;
    struct hg_bytes filter;
    struct hg_match match;
    struct hg_bindings *bindings;
    size_t plans_n, at;
    bool is_same;
};

static bool is_for(const struct comparing *c, const struct hg_sub_link *link,
                   const struct hg_binding_plan *plan)
{
    const struct hg_session *s = c->sub->session;
    bool is_queue = plan->kind == HG_PLAN_QUEUE;
    if (!is_queue && (plan->kind == HG_PLAN_FEED || c->bindings != NULL)) {
        return is_bound_so(link, plan);
    }
    const struct hg_consumer_spec spec = {
        .queue = plan->queue, .exchange = plan->exchange, .key = plan->key};
    return link->is_consumer && hg_consumer_is_for(link->u.consumer.handle, &spec) &&
           (!is_queue || !hg_topic_has_wildcard(c->filter) ||
            hg_subscribe_has_address(s, plan->queue));
}

static void count_link(const struct comparing *c, const struct hg_sub_link *link,
                       const struct hg_binding_plan *plan)
{
    struct hg_routing *r = hg_realm_of(c->sub->session)->routing;
    struct hg_bytes exchange;
    struct hg_bytes key;
    if (link->is_consumer || c->bindings != NULL ||
        !hg_bindings_names(&link->u.bound, &exchange, &key)) {
        return;
    }
    if (r->by_rule == NULL) {
        return;
    }
    if (plan->is_widenable && hg_bytes_eq(key, plan->wide_key)) {
        hg_subscribe_widen(r, plan);
    } else {
        hg_bindings_count(&link->u.bound, &r->by_rule[plan->rule].exact_n);
    }
}

static void compare(void *ctx, const struct hg_binding_plan *plan)
{
    struct comparing *c = ctx;
    c->plans_n++;
    if (!c->is_same || (c->match.n > 0 && !hg_plan_matches_headers(plan)) ||
        (plan->kind == HG_PLAN_OWN_QUEUE && c->bindings == NULL &&
         hg_subscribe_has_queue_at(c->sub, c->at, plan->exchange))) {
        return;
    }
    struct hg_sub_link *link = c->at < c->sub->links_n ? &c->sub->links[c->at] : NULL;
    c->is_same = link != NULL && is_for(c, link, plan);
    if (c->is_same) {
        link->rule = (uint32_t)plan->rule;
        count_link(c, link, plan);
        c->at++;
    }
}

/* Other workers may publish by the old rules for a moment yet. */
static void keep_a_while(struct hg_routing *r, const struct hg_binding_user *user)
{
    struct hg_bytes exchange;
    struct hg_bytes key;
    struct hg_holder *holder = NULL;
    if (hg_bindings_names(user, &exchange, &key)) {
        holder = hg_zalloc(sizeof(*holder));
    }
    if (holder != NULL &&
        !hg_bindings_keep(hg_bindings_of(user), exchange, key, &holder->link.u.bound)) {
        hg_free(holder);
    } else if (holder != NULL) {
        holder->next = r->holders;
        r->holders = holder;
    }
}

/* Its links are made anew, by the same way as at first, and then the old ones given back. */
static enum hg_status make_anew(struct hg_sub *sub, const struct comparing *c,
                                const struct hg_rule_who *who, const char **why)
{
    struct hg_session *s = sub->session;
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_sub before = *sub;
    struct hg_subscribing making = {.sub = sub,
                                    .filter = c->filter,
                                    .match = c->match,
                                    .bindings = c->bindings,
                                    .before = before.links,
                                    .before_n = before.links_n};
    if (before.has_filter && c->bindings == NULL) {
        *why = "its queue has no bindings: subscribe again";
        return HG_NO_QUEUE;
    }
    if (!hg_subscribe_allot(r, sub, c->plans_n, before.has_filter ? &c->filter : NULL)) {
        hg_subscribe_release(r, &before);
        return HG_NO_MEMORY;
    }
    enum hg_status status = hg_rules_subscribe(hg_realm_of(s)->rules, who, s->proto, c->filter,
                                               hg_subscribe_plan, &making, why);
    for (size_t i = 0; i < before.links_n; i++) {
        if (!before.links[i].is_consumer) {
            keep_a_while(r, &before.links[i].u.bound);
        }
    }
    hg_subscribe_release(r, &before);
    if (status == HG_OK) {
        *why = making.why;
        status = making.status == HG_OK && sub->links_n == 0 ? HG_BAD_FILTER : making.status;
    }
    return status;
}

static enum hg_status resubscribe(struct hg_sub *sub, struct hg_bytes filter,
                                  const struct hg_match *match, const struct hg_rule_who *who,
                                  const char **why)
{
    const struct hg_session *s = sub->session;
    struct comparing c = {
        .sub = sub, .filter = filter, .match = *match, .bindings = queue_of(sub), .is_same = true};
    enum hg_status status =
        hg_rules_subscribe(hg_realm_of(s)->rules, who, s->proto, filter, compare, &c, why);
    if (status != HG_OK || (c.is_same && c.at == sub->links_n)) {
        return status;
    }
    return make_anew(sub, &c, who, why);
}

/* By RabbitMQ's names: whether it may still. */
static enum hg_status check_source(struct hg_sub *sub, const char **why)
{
    struct hg_bytes exchange;
    struct hg_bytes key;
    const struct hg_sub_link *link = sub->links;
    if (sub->links_n == 0 || link->rule != HG_SUB_SOURCE) {
        return HG_OK;
    }
    if (link->is_consumer) {
        hg_consumer_source(link->u.consumer.handle, &exchange, &key);
    } else if (!hg_bindings_names(&link->u.bound, &exchange, &key)) {
        return HG_OK; /* its queue has ended, and it hears of that */
    }
    return hg_access_exchange(sub->session, HG_ACCESS_SUBSCRIBE, exchange, key, why);
}

/* ---- The swap: all of them ---- */

/* The next one that has something to be told: it is refused, or waited for what it needs no more. */
static struct hg_sub *find_untold(const struct hg_session *s)
{
    HG_LIST_FOREACH (it, &s->subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        if (sub->refused != HG_OK || (!sub->is_live && sub->links_n > 0 && sub->waiting_n == 0)) {
            return sub;
        }
    }
    return NULL;
}

/* Whoever is told may end others, too. */
static void tell_all(struct hg_session *s)
{
    struct hg_sub *sub;
    while ((sub = find_untold(s)) != NULL) {
        if (sub->refused != HG_OK) {
            hg_subscribe_end(sub, (enum hg_status)sub->refused, NULL);
        } else {
            sub->is_live = true;
            s->ops->subscribed(s, sub, HG_OK, HG_BYTES(""));
        }
    }
}

static void resubscribe_session(void *ctx, struct hg_session *s)
{
    struct hg_rule_who room;
    const struct hg_rule_who *who = hg_session_who(s, &room);
    (void)ctx;
    HG_LIST_FOREACH (it, &s->subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        struct hg_writer filter = {0};
        struct hg_match match;
        const char *why = NULL;
        enum hg_status status = read_filter(sub, &filter, &match)
                                    ? resubscribe(sub, hg_writer_view(&filter), &match, who, &why)
                                    : check_source(sub, &why);
        sub->refused = (uint8_t)status;
        hg_writer_close(&filter);
    }
    tell_all(s);
}

static void hold_config(const void *config)
{
    (void)hg_config_ref(config);
}

static void release_config(const void *config)
{
    hg_config_free(config);
}

/* The new rules take the place of the old, which wait in theirs for the end of the swap. */
static void swap_rules(struct hg_realm *realm, bool has_changed)
{
    struct hg_routing *r = realm->routing;
    struct rule_bindings *before = r->by_rule;
    realm->spec = &realm->worker->config->vhosts[realm->vhost->index];
    realm->rules = realm->spec->table;
    r->topology = hg_routing_topology(realm->spec);
    r->topology.owner = realm->worker->config;
    r->topology.hold = hold_config;
    r->topology.release = release_config;
    if (has_changed && before != NULL) {
        r->by_rule = r->by_next_rule;
        r->by_next_rule = before;
        hg_bindings_count_none(&r->feed.bindings);
    }
}

void hg_resubscribe(struct hg_worker *w, const struct hg_config *before)
{
    bool has_changed = !is_same(before, w->config);
    struct hg_realm *realm;
    for (unsigned at = 0; (realm = hg_realm_next(w, &at)) != NULL;) {
        swap_rules(realm, has_changed);
    }
    if (has_changed) {
        each_session(w, resubscribe_session, NULL);
    }
    for (unsigned at = 0; (realm = hg_realm_next(w, &at)) != NULL;) {
        struct hg_routing *r = realm->routing;
        const struct hg_rules *rules = before->vhosts[realm->vhost->index].table;
        if (has_changed) {
            hg_queue_review_all(r);
        }
        hg_state_take_rules(realm, has_changed);
        for (size_t k = 0; has_changed && r->by_rule != NULL && k < hg_rules_n(rules); k++) {
            keep_a_while(r, &r->by_next_rule[k].wide);
            hg_bindings_remove(&r->by_next_rule[k].wide);
        }
    }
}

void hg_resubscribe_release(struct hg_worker *w)
{
    struct hg_realm *realm;
    for (unsigned at = 0; (realm = hg_realm_next(w, &at)) != NULL;) {
        hg_subscribe_let_go(realm->routing);
    }
}
