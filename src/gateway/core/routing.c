/* SPDX-License-Identifier: Apache-2.0 */
#include "core/routing.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/own.h"
#include "core/retain_priv.h"
#include "core/routing_priv.h"

enum {
    HELD_EVERY_MS = 256,
    DRAIN_EVERY_MS = 64,
    BEHIND_EVERY_MS = 64,
    BEHIND_MAX_MS = 10000, /* then publishers go on without the bindings of others */
    /* RabbitMQ's own upper limit: a delivery that was refused for its size would come again for
     * ever. max_message bounds what clients publish; what a subscriber has no room for is its slow
     * policy's business. */
    BODY_MAX_BYTES = 512 << 20
};

/* ---- Deliveries: feed -> address -> index -> sessions ---- */

bool hg_routing_map(struct hg_routing *r, enum hg_protocol proto, const struct hg_message *m,
                    struct hg_bytes *address_out, size_t *rule_out)
{
    const struct hg_value *header = hg_message_header(m, HG_BYTES("x-headgate-address"));
    bool has_original = header != NULL && header->kind == HG_VALUE_STRING;
    struct hg_bytes original = has_original ? header->u.bytes : HG_BYTES("");
    hg_writer_reset(&r->text);
    if (!hg_rules_deliver(r->realm->rules, proto, hg_message_exchange(m), hg_message_routing_key(m),
                          original, &r->text, rule_out) ||
        r->text.failed) {
        return false;
    }
    *address_out = hg_writer_view(&r->text);
    return true;
}

bool hg_routing_address(struct hg_routing *r, enum hg_protocol proto, const struct hg_message *m,
                        struct hg_bytes *address_out, size_t *rule_out)
{
    bool is_mapped = hg_routing_map(r, proto, m, address_out, rule_out);
    if (is_mapped) {
        hg_rule_counts_add(r->worker->rule_counts, r->realm->spec->first_rule + *rule_out,
                           HG_RULE_OUT, r->worker->index);
    }
    return is_mapped;
}

struct collecting {
    struct hg_routing *r;
    const struct hg_message *message;
    const struct hg_rule_spec *rule; /* NULL: matched by RabbitMQ's names */
    const struct hg_rule_gate *gate; /* NULL: likewise */
    bool is_redelivered;
    bool is_guarded;    /* not every subscriber may see everything */
    bool is_repeatable; /* somebody among those collected is shown redelivered messages */
    bool is_partial;    /* what was collected is not all, or of several subscriptions in one */
};

static bool may_see(const struct collecting *c, struct hg_session *s)
{
    return !c->is_guarded || (c->gate == NULL ? hg_access_may_see_source(s, c->message)
                                              : hg_access_may_see_gate(s, c->gate));
}

static bool has_room_for_match(struct hg_routing *r)
{
    if (r->matches_n < r->matches_cap) {
        return true;
    }
    size_t cap = r->matches_cap == 0 ? 64 : r->matches_cap * 2;
    struct match *matches = hg_realloc(r->matches, cap * sizeof(*matches));
    if (matches == NULL) {
        return false;
    }
    r->matches = matches;
    r->matches_cap = cap;
    return true;
}

static void collect(void *ctx, struct hg_fanout_entry *entry)
{
    struct collecting *c = ctx;
    struct hg_routing *r = c->r;
    struct hg_sub *sub = HG_CONTAINER_OF(entry, struct hg_sub, entry);
    struct hg_session *s = sub->session;
    if (c->is_redelivered && !sub->takes_redelivered) {
        hg_count(&r->worker->metrics.upstream.redelivered_skipped, 1);
        return;
    }
    sub->next_match = NULL;
    if (s->merges_overlaps && s->match_at > 0) { /* so it may see it */
        struct match *m = &r->matches[s->match_at - 1];
        sub->next_match = m->subs;
        m->subs = sub;
        c->is_partial = true;
    } else if (!may_see(c, s)) {
        return;
    } else if (has_room_for_match(r)) {
        r->matches[r->matches_n++] = (struct match){s, sub};
        s->match_at = (uint32_t)r->matches_n;
    } else {
        hg_count(&r->worker->metrics.proto[s->proto].dropped, 1);
        c->is_partial = true;
        return;
    }
    c->is_repeatable = c->is_repeatable || sub->takes_redelivered;
}

static bool is_matched(const struct hg_routing *r, const struct hg_trie *trie,
                       struct hg_bytes subject)
{
    const struct matched *m = &r->matched;
    return m->trie == trie && m->changes == hg_trie_changes(trie) &&
           hg_bytes_eq(subject, hg_bytes(m->subject, m->subject_n));
}

/* They are kept where each is one subscription's, which can be renewed without asking the others;
 * not where rights count, which end with time, nor of what came again, which is not for all. */
static void note_matched(struct hg_routing *r, const struct collecting *c,
                         const struct hg_trie *trie, struct hg_bytes subject)
{
    struct matched *m = &r->matched;
    bool is_whole = !c->is_partial && !c->is_guarded && !c->is_redelivered;
    m->trie = is_whole && subject.n <= sizeof(m->subject) ? trie : NULL;
    if (m->trie != NULL) {
        m->changes = hg_trie_changes(trie);
        m->subject_n = subject.n;
        memcpy(m->subject, subject.p, subject.n);
    }
}

static void match(struct collecting *c, const struct hg_trie *trie, struct hg_bytes subject)
{
    struct hg_routing *r = c->r;
    c->is_partial = false;
    r->matches_n = 0;
    hg_trie_match(trie, subject, collect, c);
    for (size_t i = 0; i < r->matches_n; i++) {
        r->matches[i].session->match_at = 0;
    }
    note_matched(r, c, trie, subject);
}

/* What match() would have made of this one. */
static void renew(struct collecting *c, struct match *m)
{
    m->session = m->subs->session;
    m->subs->next_match = NULL; /* somebody may have had another use for it */
    c->is_repeatable = c->is_repeatable || m->subs->takes_redelivered;
}

/* Hands one delivery to everybody whom it is for. Returns to how many. */
static size_t deliver_by_trie(struct collecting *c, const struct hg_trie *trie,
                              struct hg_bytes subject, struct hg_message *m,
                              struct hg_bytes address)
{
    struct hg_routing *r = c->r;
    struct hg_delivery d = {
        .message = m, .address = address, .rule = c->rule, .is_redelivered = c->is_redelivered};
    bool is_again = !c->is_redelivered && !c->is_guarded && is_matched(r, trie, subject);
    if (!is_again) {
        match(c, trie, subject);
    }
    for (size_t i = 0; i < r->matches_n; i++) {
        if (is_again) {
            renew(c, &r->matches[i]);
        }
        struct hg_session *s = r->matches[i].session;
        if (!hg_session_is_closing(s)) {
            hg_session_deliver(s, &d, r->matches[i].subs);
        }
    }
    hg_delivery_end(&d);
    return r->matches_n;
}

static bool on_feed_delivery(void *ctx, struct hg_message *m, bool is_redelivered)
{
    struct hg_routing *r = ctx;
    struct collecting c = {.r = r,
                           .message = m,
                           .is_redelivered = is_redelivered,
                           .is_guarded = r->worker->config->has_identities};
    struct hg_rule_gate gate;
    bool is_mapped = false;
    size_t handed_n = 0;
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        struct hg_bytes address;
        size_t rule;
        if (hg_trie_n(r->by_address[p]) > 0 && hg_routing_address(r, p, m, &address, &rule)) {
            is_mapped = true;
            c.rule = hg_rules_spec(r->realm->rules, rule);
            if (c.is_guarded) {
                hg_rule_gate_open(&gate, r->realm->rules, p, address, rule);
                c.gate = &gate;
            }
            handed_n += deliver_by_trie(&c, r->by_address[p], address, m, address);
        }
    }
    struct source_index *source = hg_map_find(&r->by_exchange, hg_message_exchange(m));
    if (source != NULL) {
        c.rule = NULL;
        c.gate = NULL;
        handed_n += deliver_by_trie(&c, source->trie, hg_message_routing_key(m), m, HG_BYTES(""));
    }
    if (handed_n == 0) {
        hg_count(is_mapped || source != NULL ? &r->worker->metrics.upstream.unwanted
                                             : &r->worker->metrics.upstream.unmapped,
                 1);
    }
    return c.is_repeatable;
}

void hg_routing_drop_source(struct hg_routing *r, struct hg_trie *trie)
{
    size_t at = 0;
    struct hg_bytes name;
    void *value = NULL;
    while (hg_trie_n(trie) == 0 && hg_map_next(&r->by_exchange, &at, &name, &value)) {
        struct source_index *index = value;
        if (index->trie == trie) {
            r->matched.trie = NULL;
            hg_map_remove(&r->by_exchange, name);
            hg_trie_free(index->trie);
            hg_free(index);
            return;
        }
    }
}

/* ---- State of the links ---- */

static void review_state(struct hg_routing *r)
{
    atomic_store(&r->realm->is_up, r->is_feed_up && r->is_publisher_up);
}

static void set_feed_behind(struct hg_routing *r, bool is_behind)
{
    /* Others do not wait for a user whom RabbitMQ may not let have a feed any more. */
    if (r->realm->home == NULL && r->is_feed_behind != is_behind) {
        r->is_feed_behind = is_behind;
        if (is_behind) {
            atomic_fetch_add(&r->realm->vhost->feeds_behind, 1);
        } else {
            atomic_fetch_sub(&r->realm->vhost->feeds_behind, 1);
        }
    }
}

static void on_feed_state(void *ctx, bool is_up)
{
    struct hg_routing *r = ctx;
    r->is_feed_up = is_up;
    if (!is_up && r->drained == NULL) {
        set_feed_behind(r, true);
    }
    review_state(r);
}

static void on_feed_whole(void *ctx)
{
    set_feed_behind(ctx, false);
}

/* A RabbitMQ that was restarted has the feeds' queues, and not what they were bound to: what clients
 * published meanwhile waits until every worker's subscribers are there again to get it. */
static void fire_behind(struct hg_timer *timer)
{
    struct hg_routing *r = HG_CONTAINER_OF(timer, struct hg_routing, behind_timer);
    bool must_wait = r->is_publisher_up && hg_clock_ms() < r->behind_until_ms &&
                     atomic_load(&r->realm->vhost->feeds_behind) > 0;
    hg_publisher_hold_back(&r->publisher, must_wait);
    if (must_wait) {
        hg_worker_timer(r->worker, timer, BEHIND_EVERY_MS);
    }
}

static void on_publisher_state(void *ctx, bool is_up)
{
    struct hg_routing *r = ctx;
    r->is_publisher_up = is_up;
    r->behind_until_ms = hg_clock_ms() + BEHIND_MAX_MS;
    fire_behind(&r->behind_timer);
    review_state(r);
    hg_calls_on_link(r, is_up);
}

static void on_room(void *ctx)
{
    hg_session_release_held(ctx, false);
}

static void fire_held(struct hg_timer *timer)
{
    struct hg_routing *r = HG_CONTAINER_OF(timer, struct hg_routing, held_timer);
    hg_session_release_held(r, true);
    if (!hg_list_is_empty(&r->held)) {
        hg_worker_timer(r->worker, timer, HELD_EVERY_MS);
    }
}

static const struct hg_publisher_ops publisher_ops = {
    .on_settled = hg_session_settle, .on_room = on_room, .on_state = on_publisher_state};
static const struct hg_feed_ops feed_ops = {
    .on_delivery = on_feed_delivery, .on_state = on_feed_state, .on_whole = on_feed_whole};

/* ---- Life ---- */

static struct hg_link_config link_config(const struct hg_config *config,
                                         const struct hg_vhost_spec *vhost,
                                         struct hg_upstream_metrics *metrics)
{
    return (struct hg_link_config){
        .endpoints = vhost->endpoints,
        .endpoints_n = vhost->endpoints_n,
        .tls = config->rabbitmq_tls,
        .secret = vhost->has_own_endpoints ? NULL : config->rabbitmq_secret,
        .heartbeat_ms = config->heartbeat_ms,
        .connect_timeout_ms = config->connect_timeout_ms,
        .max_body_bytes = BODY_MAX_BYTES,
        .metrics = metrics,
    };
}

struct hg_topology_spec hg_routing_topology(const struct hg_vhost_spec *vhost)
{
    return (struct hg_topology_spec){
        .exchanges = vhost->exchanges,
        .exchanges_n = vhost->exchanges_n,
        .queues = vhost->queues,
        .queues_n = vhost->queues_n,
    };
}

int hg_routing_declare(const struct hg_config *config, const struct hg_vhost_spec *vhost,
                       uint64_t limit_ms, struct hg_log *log)
{
    struct hg_topology_spec spec = hg_routing_topology(vhost);
    struct hg_link_config link = link_config(config, vhost, NULL);
    return hg_topology_declare(&spec, &link, limit_ms, log);
}

/* As the gateway was started: nothing of it changes, and this lives as long. A user of its own has
 * nothing to do with what is configured to be there. */
struct hg_link_config hg_routing_link(struct hg_routing *r)
{
    struct hg_own *own = hg_own_of(r->realm);
    struct hg_link_config link = link_config(r->worker->gateway->config, r->realm->vhost->spec,
                                             &r->worker->metrics.upstream);
    if (own == NULL) {
        link.topology = &r->topology;
    } else {
        link.endpoints = own->endpoints;
        link.secret = NULL;
        link.user = own->user;
        link.on_refused = own->on_refused;
        link.refused_ctx = own;
    }
    return link;
}

/* False when there is no memory. */
static bool open_upstream(struct hg_routing *r)
{
    struct hg_worker *w = r->worker;
    const struct hg_config *config = w->gateway->config;
    struct hg_upstream_metrics *metrics = &w->metrics.upstream;
    r->topology = hg_routing_topology(r->realm->spec);
    struct hg_link_config link = hg_routing_link(r);
    const struct hg_publisher_config publisher = {
        .link = link,
        .instance = config->name,
        .worker = w->index,
        .window_n = config->confirm_window,
        .window_bytes = config->buffer_bytes,
        .timeout_ms = config->publish_timeout_ms,
        .away_timeout_ms = config->unavailable_timeout_ms,
        .log = w->log,
        .metrics = metrics,
    };
    hg_calls_open(r);
    hg_publisher_open(&r->publisher, &w->net, &publisher, &publisher_ops, r);
    const struct hg_feed_config feed = {
        .link = link,
        .instance = config->name,
        .worker = w->index,
        .prefix = hg_own_prefix(r->realm),
        .boot_id = w->gateway->boot_id,
        .numbers = r->realm->home == NULL ? NULL : &w->own_queues_n,
        .is_lazy = r->realm->home != NULL,
        .max_bytes = config->feed_max_bytes,
        .expires_ms = config->feed_expires_ms,
        .prefetch = config->prefetch,
        .log = w->log,
        .metrics = metrics,
    };
    hg_feed_open(&r->feed, &w->net, &feed, &feed_ops, &hg_subscribe_bindings_ops, r);
    const struct hg_consumers_config consumers = {
        .seats = {.link = link,
                  .instance = config->name,
                  .worker = w->index,
                  .log = w->log,
                  .metrics = metrics},
        .prefix = hg_own_prefix(r->realm),
        .numbers = r->realm->home == NULL ? NULL : &w->own_queues_n,
        .boot_id = w->gateway->boot_id,
        .expires_ms = config->feed_expires_ms,
        .max_bytes = config->feed_max_bytes,
    };
    hg_consumers_open(&r->consumers, &w->net, &consumers);
    const struct hg_uploads_config uploads = {
        .link = hg_routing_link(r),
        .instance = config->name,
        .worker = w->index,
        .most_n = config->http_uploads,
        .metrics = metrics,
    };
    return hg_uploads_open(&r->uploads, &w->net, &uploads);
}

static void free_routing(struct hg_routing *r)
{
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        if (r->by_address[p] != NULL) {
            hg_trie_free(r->by_address[p]);
        }
    }
    hg_map_close(&r->by_exchange);
    hg_pool_close(&r->links);
    hg_writer_close(&r->text);
    hg_free(r->matches);
    hg_free(r->headers);
    hg_free(r->by_rule);
    hg_free(r);
}

static void fire_drain(struct hg_timer *timer)
{
    struct hg_routing *r = HG_CONTAINER_OF(timer, struct hg_routing, drain_timer);
    if (hg_link_is_stopped(&r->publisher.link) && hg_link_is_stopped(&r->feed.link) &&
        hg_seats_are_stopped(&r->consumers.seats) && hg_uploads_are_stopped(&r->uploads)) {
        r->drained(r->realm); /* may free it */
    } else {
        hg_worker_timer(r->worker, timer, DRAIN_EVERY_MS);
    }
}

bool hg_routing_open(struct hg_realm *realm)
{
    struct hg_routing *r = hg_zalloc(sizeof(*r));
    if (r == NULL) {
        return false;
    }
    r->realm = realm;
    r->worker = realm->worker;
    hg_map_open(&r->by_exchange);
    hg_subscribe_pool_open(&r->links);
    hg_list_init(&r->held);
    hg_list_init(&r->queues);
    hg_timer_init(&r->held_timer, fire_held);
    hg_timer_init(&r->drain_timer, fire_drain);
    hg_timer_init(&r->behind_timer, fire_behind);
    bool is_whole = true;
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        r->by_address[p] = hg_trie_new(HG_TRIE_ADDRESS);
        is_whole = is_whole && r->by_address[p] != NULL;
    }
    /* A user's bindings are never widened: RabbitMQ may let it have these, and not those. */
    if (realm->home == NULL) {
        r->by_rule = hg_zalloc((hg_rules_n(realm->rules) + 1) * sizeof(*r->by_rule));
        is_whole = is_whole && r->by_rule != NULL;
    }
    if (!is_whole) {
        free_routing(r);
        return false;
    }
    realm->routing = r;
    if (!open_upstream(r)) {
        hg_routing_close(realm);
        return false;
    }
    return true;
}

bool hg_routing_is_idle(const struct hg_realm *realm)
{
    const struct hg_routing *r = realm->routing;
    return r == NULL || (r->publisher.held_n == 0 && r->uploads.busy_n == 0 && r->calls.n == 0);
}

void hg_routing_drain(struct hg_realm *realm, void (*done)(struct hg_realm *realm))
{
    struct hg_routing *r = realm->routing;
    r->drained = done;
    hg_link_stop(&r->publisher.link);
    hg_feed_stop(&r->feed);
    hg_seats_stop(&r->consumers.seats);
    hg_uploads_stop(&r->uploads);
    hg_worker_timer(r->worker, &r->drain_timer, 1);
}

void hg_routing_close(struct hg_realm *realm)
{
    struct hg_routing *r = realm->routing;
    if (r == NULL) {
        return;
    }
    realm->routing = NULL;
    hg_timer_stop(&r->held_timer);
    hg_timer_stop(&r->drain_timer);
    hg_timer_stop(&r->behind_timer);
    set_feed_behind(r, false);
    hg_subscribe_let_go(r);
    hg_consumers_close(&r->consumers);
    hg_feed_close(&r->feed);
    hg_calls_close(r);
    hg_publisher_close(&r->publisher);
    hg_uploads_close(&r->uploads);
    hg_retain_close(r);
    free_routing(r);
}
