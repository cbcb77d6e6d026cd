/* SPDX-License-Identifier: Apache-2.0 */
/* The core's functions as an HTTP session sees them. */
#include "world.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/allowance.h"
#include "core/login.h"
#include "core/reload.h"
#include "core/slow.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

struct world world;
static char out_text[1 << 16];

/* ---- Rules: "orders/…" and "sold/…" are the user's, the rest is the built-in one ---- */

static const struct hg_rule_spec specs[] = {
    {.name = "orders",
     .pattern = {NULL, NULL, "/orders/{id}"},
     .exchange = "shop",
     .key = "order.{id}",
     .is_mandatory = true},
    {.name = "sold",
     .pattern = {NULL, NULL, "/sold/{id}"},
     .exchange = "shop",
     .key = "sold.{id}.{query.region}.{header.X-Shop}"},
    {.name = "built-in",
     .pattern = {"{path...}", "{path...}", "{path...}"},
     .exchange = "amq.topic",
     .key = "{path...}",
     .escape = HG_ESCAPE_PLAIN,
     .is_builtin = true},
};

const struct hg_rule_spec *hg_rules_spec(const struct hg_rules *r, size_t index)
{
    (void)r;
    return &specs[index];
}

size_t hg_rules_n(const struct hg_rules *r)
{
    (void)r;
    return sizeof(specs) / sizeof(specs[0]);
}

const char *hg_slow_name(enum hg_slow slow)
{
    (void)slow;
    return "drop-new";
}

const char *hg_protocol_name(enum hg_protocol p)
{
    static const char *const names[] = {"mqtt", "stomp", "http"};
    return names[p];
}

enum hg_status hg_rules_publish(const struct hg_rules *r, enum hg_protocol proto,
                                struct hg_bytes address, struct hg_route *route_out)
{
    (void)r;
    assert_int_equal(proto, HG_PROTO_HTTP);
    route_out->rule = hg_bytes_starts(address, HG_BYTES("orders/")) ? 0
                      : hg_bytes_starts(address, HG_BYTES("sold/")) ? 1
                                                                    : 2;
    route_out->exchange = hg_bytes_str(specs[route_out->rule].exchange);
    memcpy(route_out->key_buf, address.p, address.n);
    route_out->key = hg_bytes(route_out->key_buf, address.n);
    return HG_OK;
}

enum hg_status hg_access_queue(struct hg_session *s, enum hg_access_action action,
                               struct hg_bytes queue, const char **why_out)
{
    (void)s;
    (void)queue;
    (void)why_out;
    assert_int_equal(action, HG_ACCESS_SUBSCRIBE);
    return HG_OK;
}

const struct hg_rule_who *hg_session_who(struct hg_session *s, struct hg_rule_who *room)
{
    (void)s;
    (void)room;
    return NULL;
}

bool hg_rules_request_name(const struct hg_rules *r, size_t rule, size_t i,
                           struct hg_request_name *out)
{
    (void)r;
    *out = i == 0 ? (struct hg_request_name){HG_BYTES("region"), false}
                  : (struct hg_request_name){HG_BYTES("X-Shop"), true};
    return rule == 1 && i < 2;
}

/* Values as a key of words; false: the request lacks one. */
static bool find_values(const struct hg_publish_args *args, struct hg_route *route)
{
    struct hg_request_name name;
    size_t n = 0;
    for (size_t i = 0; hg_rules_request_name(NULL, route->rule, i, &name); i++) {
        struct hg_bytes value;
        if (!args->request->find(args->request->ctx, &name, &value)) {
            return false;
        }
        n += (size_t)snprintf((char *)route->key_buf + n, HG_KEY_MAX - n, ".%.*s",
                              HG_BYTES_FMT(value));
        route->key = hg_bytes(route->key_buf, n);
    }
    return true;
}

enum hg_status hg_rules_subscribe(const struct hg_rules *r, const struct hg_rule_who *who,
                                  enum hg_protocol proto, struct hg_bytes filter, hg_plan_fn *each,
                                  void *ctx, const char **why_out)
{
    (void)r;
    assert_null(who);
    (void)filter;
    assert_int_equal(proto, HG_PROTO_HTTP);
    each(ctx, &(struct hg_binding_plan){0});
    *why_out = "told to";
    return world.subscribe_status;
}

/* ---- Sessions ---- */

void hg_session_init(struct hg_session *s, const struct hg_session_ops *ops, enum hg_protocol proto,
                     struct hg_conn *conn, struct hg_worker *worker)
{
    *s = (struct hg_session){.ops = ops, .conn = conn, .worker = worker, .proto = (uint8_t)proto};
}

enum hg_status hg_session_login(struct hg_session *s, const struct hg_credentials *c,
                                const char **why_out)
{
    const bool is_right = hg_bytes_eq(c->secret, HG_BYTES("secret"));
    world.logins_n++;
    *why_out = NULL;
    if (world.login_status == HG_HELD) {
        hg_conn_hold(s->conn, HG_HOLD_LOGIN);
        return HG_HELD;
    }
    if (c->secret.n == 0 || !is_right) {
        return c->secret.n == 0 ? world.login_status : HG_BAD_LOGIN;
    }
    s->identity = hg_identity_new(&(struct hg_identity_parts){.user = c->user});
    return s->identity == NULL ? HG_NO_MEMORY : HG_OK;
}

bool hg_session_inherit(struct hg_session *s, const struct hg_session *from)
{
    s->identity = hg_identity_ref(from->identity);
    return true;
}

void hg_session_logout(struct hg_session *s)
{
    hg_identity_unref(s->identity);
    s->identity = NULL;
}

bool hg_session_is_expired(const struct hg_session *s)
{
    return hg_identity_expires_wall_ms(s->identity) != 0;
}

void hg_session_mac(const struct hg_session *s, const struct hg_credentials *c,
                    uint8_t out[HG_LOGIN_MAC_BYTES])
{
    (void)s;
    memset(out, c->is_token, HG_LOGIN_MAC_BYTES);
    for (size_t i = 0; i < c->user.n && i < 15; i++) {
        out[1 + i] = c->user.p[i];
    }
    for (size_t i = 0; i < c->secret.n && i < 16; i++) {
        out[16 + i] = c->secret.p[i];
    }
}

void hg_session_detach(struct hg_session *s)
{
    hg_session_logout(s);
    for (size_t i = 0; i < world.publishes_n; i++) {
        world.publishes[i].is_open = false;
    }
    for (size_t i = 0; i < world.subs_n; i++) {
        if (world.subs[i].sub != NULL && world.subs[i].sub->session == s) {
            hg_unsubscribe(world.subs[i].sub);
        }
    }
}

static void copy(char *to, size_t n, struct hg_bytes from)
{
    assert_true(from.n < n);
    snprintf(to, n, "%.*s", HG_BYTES_FMT(from));
}

bool hg_publish_has_room(const struct hg_session *s)
{
    (void)s;
    return world.publish_status != HG_HELD;
}

enum hg_status hg_publish(struct hg_session *s, const struct hg_publish_args *args,
                          struct hg_published *published_out, const char **why_out)
{
    struct world_publish *p = &world.publishes[world.publishes_n];
    *why_out = world.publish_status == HG_OK ? NULL : "told to";
    if (world.publish_status == HG_HELD && (args->never_held || args->upload != NULL)) {
        return HG_BUSY;
    }
    if (world.publish_status == HG_HELD) {
        hg_conn_hold(s->conn, HG_HOLD_UPSTREAM);
    }
    if (world.publish_status != HG_OK) {
        return world.publish_status;
    }
    if (!args->is_direct) {
        hg_rules_publish(NULL, HG_PROTO_HTTP, args->address, &published_out->route);
        published_out->exchange = published_out->route.exchange;
        if (!find_values(args, &published_out->route)) {
            return HG_NO_VALUE;
        }
        published_out->key = published_out->route.key;
    }
    assert_true(world.publishes_n++ < WORLD_PUBLISHES && args->wants_outcome);
    p->session = s;
    p->id = args->id;
    copy(p->address, sizeof(p->address), args->address);
    assert_true(args->body.n < sizeof(p->body));
    memcpy(p->body, args->body.n == 0 ? (const uint8_t *)"" : args->body.p, args->body.n);
    p->body_n = args->body.n;
    copy(p->message_id, sizeof(p->message_id), args->properties.message_id);
    p->delivery_mode = args->properties.delivery_mode;
    p->headers_n = args->properties.headers_n;
    if (p->headers_n > 0) {
        p->header_kind = args->properties.headers[0].value.kind;
    }
    copy(p->content_type, sizeof(p->content_type), args->properties.content_type);
    copy(p->expiration, sizeof(p->expiration), args->properties.expiration);
    if (args->is_direct) {
        copy(p->exchange, sizeof(p->exchange), args->exchange);
        copy(p->address, sizeof(p->address), args->key);
    }
    p->is_mandatory = args->is_mandatory;
    p->is_retained = args->is_retained;
    if (args->upload != NULL) {
        assert_int_equal(args->body.n, 0);
        hg_writer_close(&world.upload.body);
        world.upload = (struct hg_upload){.body_bytes = args->upload->body_bytes,
                                          .on_room = args->upload->on_room,
                                          .has_room = true};
        args->upload->upload = &world.upload;
    }
    p->is_open = true;
    return HG_OK;
}

bool hg_upload_write(struct hg_upload *up, struct hg_bytes piece)
{
    assert_true(!up->is_forgotten && hg_writer_n(&up->body) + piece.n <= up->body_bytes);
    hg_writer_bytes(&up->body, piece);
    return up->has_room;
}

void hg_upload_forget(struct hg_upload *up)
{
    assert_false(up->is_forgotten);
    up->is_forgotten = true;
}

enum hg_status hg_call_begin(struct hg_session *s, const struct hg_publish_args *args,
                             hg_call_done_fn *done, void *ctx, struct hg_call **call_out,
                             const char **why_out)
{
    struct world_call *c = &world.calls[world.calls_n];
    *why_out = world.publish_status == HG_OK ? NULL : "told to";
    if (world.publish_status == HG_HELD) {
        hg_conn_hold(s->conn, HG_HOLD_UPSTREAM);
    }
    if (world.publish_status != HG_OK) {
        return world.publish_status;
    }
    assert_true(world.calls_n++ < WORLD_CALLS);
    c->done = done;
    c->ctx = ctx;
    c->timeout_ms = args->timeout_ms;
    c->delivery_mode = args->properties.delivery_mode;
    copy(c->address, sizeof(c->address), args->address);
    copy(c->body, sizeof(c->body), args->body);
    copy(c->correlation_id, sizeof(c->correlation_id), args->properties.correlation_id);
    copy(c->expiration, sizeof(c->expiration), args->properties.expiration);
    *call_out = (struct hg_call *)c;
    return HG_OK;
}

void hg_call_forget(struct hg_call *call)
{
    if (call != NULL) {
        ((struct world_call *)call)->done = NULL;
    }
}

enum hg_status hg_subscribe_filter(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter,
                                   const char **why_out)
{
    *why_out = "told to";
    if (world.subscribe_status != HG_OK) {
        return world.subscribe_status;
    }
    if (world.trie == NULL) {
        world.trie = hg_trie_new(HG_TRIE_ADDRESS);
    }
    assert_true(world.subs_n < WORLD_SUBS);
    struct world_sub *known = &world.subs[world.subs_n++];
    known->sub = sub;
    copy(known->filter, sizeof(known->filter), filter);
    sub->session = s;
    sub->index = world.trie;
    assert_true(hg_trie_add(world.trie, filter, &sub->entry));
    world.live_n++;
    return HG_OK;
}

enum hg_status hg_subscribe_matching(struct hg_session *s, struct hg_sub *sub,
                                     struct hg_bytes filter, const struct hg_match *match,
                                     const char **why_out)
{
    enum hg_status status = hg_subscribe_filter(s, sub, filter, why_out);
    size_t n = 0;
    for (size_t i = 0; i < match->n && status == HG_OK; i++) {
        const struct hg_value *v = &match->items[i].value;
        char *to = world.subs[world.subs_n - 1].match + n;
        size_t room = sizeof(world.subs[0].match) - n;
        const char *name = (const char *)match->items[i].name.p;
        int name_n = (int)match->items[i].name.n;
        n += (size_t)(v->kind == HG_VALUE_INT
                          ? snprintf(to, room, "%.*s=int %lld ", name_n, name, (long long)v->u.i)
                      : v->kind == HG_VALUE_BOOL
                          ? snprintf(to, room, "%.*s=bool %d ", name_n, name, v->u.b)
                          : snprintf(to, room, "%.*s=%.*s ", name_n, name,
                                     HG_BYTES_FMT(v->u.bytes)));
    }
    return status;
}

bool hg_plan_matches_headers(const struct hg_binding_plan *plan)
{
    return plan->kind == HG_PLAN_OWN_QUEUE;
}

enum hg_status hg_subscribe_index(struct hg_session *s, struct hg_sub *sub, struct hg_trie *index,
                                  struct hg_bytes filter, const char **why_out)
{
    assert_null(index);
    seam_spare(true);
    enum hg_status status = hg_subscribe_filter(s, sub, filter, why_out);
    seam_spare(false);
    return status;
}

struct hg_bytes hg_replay_of_filter(const struct hg_session *s, struct hg_bytes filter)
{
    (void)s;
    (void)filter;
    return hg_bytes_str(world.replay == NULL ? "" : world.replay);
}

struct hg_queue *hg_queue_open(struct hg_session *s, const struct hg_queue_options *options,
                               const struct hg_queue_ops *ops, void *ctx)
{
    struct world_queue *q = &world.queue;
    assert_true(options->must_exist && options->is_auto && options->prefetch > 0);
    assert_int_equal(options->consumer_arguments_n, 1);
    *q = (struct world_queue){.ops = ops,
                              .ctx = ctx,
                              .session = s,
                              .sub = options->sub,
                              .offset = options->consumer_arguments[0].value,
                              .is_open = true};
    copy(q->name, sizeof(q->name), options->name);
    copy(q->filter, sizeof(q->filter), options->filter);
    return (struct hg_queue *)q;
}

void hg_queue_close(struct hg_queue *q, enum hg_queue_end how)
{
    assert_int_equal(how, HG_QUEUE_KEEP);
    if (q != NULL) {
        ((struct world_queue *)q)->is_open = false;
    }
}

void hg_unsubscribe(struct hg_sub *sub)
{
    for (size_t i = 0; i < world.subs_n; i++) {
        if (world.subs[i].sub == sub) {
            world.subs[i].sub = NULL;
            hg_trie_remove(sub->index, &sub->entry);
            world.live_n--;
        }
    }
    if (world.live_n == 0) {
        hg_trie_free(world.trie);
        world.trie = NULL;
    }
}

enum hg_status hg_retained_serve(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter)
{
    assert_ptr_equal(s, sub->session);
    for (size_t i = 0; i < world.subs_n; i++) {
        if (world.subs[i].sub == sub) {
            assert_true(hg_bytes_eq(filter, hg_bytes_str(world.subs[i].filter)));
            world.subs[i].is_served = true;
        }
    }
    return HG_OK;
}

void hg_retained_resume(struct hg_session *s)
{
    assert_ptr_equal(s, world.conn.session);
    world.resumes++;
}

/* ---- The connection ---- */

static void feed(void)
{
    struct hg_conn *c = &world.conn;
    struct hg_error err;
    while (c->session != NULL && !c->is_ended && c->held == 0 && hg_writer_n(&c->in) > 0) {
        struct hg_buf *in = hg_writer_take(&c->in);
        struct hg_session *before = c->session;
        ssize_t used = before->ops->feed(before, hg_buf_bytes(in), &err);
        assert_true(used >= 0 && (size_t)used <= in->n);
        if (c->session == before) {
            hg_writer_bytes(&c->in, hg_bytes_skip(hg_buf_bytes(in), (size_t)used));
        }
        hg_buf_unref(in);
        if (used == 0) {
            break;
        }
    }
}

void hg_conn_hold(struct hg_conn *c, enum hg_hold bit)
{
    c->held |= bit;
}

void hg_conn_release(struct hg_conn *c, enum hg_hold bit)
{
    c->held &= ~(unsigned)bit; /* the rest comes with the next world_ call, as from the loop */
}

enum hg_status hg_conn_send(struct hg_conn *c, const struct hg_part *parts, size_t parts_n)
{
    if (c->is_ended) {
        return HG_CLOSED;
    }
    for (size_t i = 0; i < parts_n; i++) {
        hg_writer_bytes(&c->out, parts[i].bytes);
    }
    return c->out.failed ? HG_NO_MEMORY : HG_OK;
}

enum hg_status hg_conn_send_bytes(struct hg_conn *c, struct hg_bytes bytes)
{
    return hg_conn_send(c, &(struct hg_part){.bytes = bytes}, 1);
}

void hg_conn_finish(struct hg_conn *c, enum hg_status why)
{
    if (!c->is_ended) {
        c->is_ended = c->is_finished = true;
        c->why = why;
    }
}

void hg_conn_close(struct hg_conn *c, enum hg_status why)
{
    if (!c->is_ended) {
        c->is_ended = true;
        c->why = why;
    }
}

bool hg_conn_is_closing(const struct hg_conn *c)
{
    return c->is_ended;
}

size_t hg_conn_pending(const struct hg_conn *c)
{
    return c->pending;
}

bool hg_conn_is_full(const struct hg_conn *c, size_t n)
{
    return c->pending + n > world.config.outbound_high_bytes;
}

unsigned hg_allowance_retry_after_s(const struct hg_session *s)
{
    (void)s;
    return 7;
}

/* Without a backlog: what would wait there is dropped. */
bool hg_slow_admits(struct hg_session *s, const struct hg_delivery *d, struct hg_sub *matches,
                    size_t n)
{
    (void)matches;
    if (d->must_keep || d->is_retained || d->queue != NULL || !hg_conn_is_full(s->conn, n)) {
        return true;
    }
    hg_count(&s->worker->metrics.proto[s->proto].dropped, 1);
    if (world.slow == HG_SLOW_DISCONNECT) {
        s->ops->too_slow(s);
    } else {
        s->ops->dropped(s);
    }
    return false;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    (void)c;
    return "127.0.0.1:40000";
}

uint64_t hg_conn_id(const struct hg_conn *c)
{
    (void)c;
    return 1;
}

const struct hg_listener_spec *hg_conn_listener(const struct hg_conn *c)
{
    return &c->listener;
}

bool hg_conn_upgrade(struct hg_conn *c, struct hg_bytes early, const struct hg_adapter *adapter,
                     const char *subprotocol, uint32_t max_message_bytes)
{
    struct hg_session *s = c->session;
    assert_true(max_message_bytes > 0);
    copy(c->early, sizeof(c->early), early);
    c->upgraded = adapter;
    c->subprotocol = subprotocol;
    c->session = NULL;
    s->ops->closed(s, HG_OK);
    return true;
}

void hg_conn_hand_over(struct hg_conn *c, struct hg_session *s)
{
    struct hg_session *before = c->session;
    c->session = s;
    before->ops->closed(before, HG_OK);
}

void hg_conn_write_all(struct hg_worker *worker, struct hg_writer *out)
{
    hg_writer_printf(out, "{\"worker\":%u}", worker->index);
}

/* ---- Leases ---- */

enum hg_status hg_lease_take(struct hg_realm *realm, const struct hg_lease_spec *spec,
                             struct hg_lease_poll **poll_out, const char **why_out)
{
    assert_ptr_equal(realm, &world.realm);
    assert_false(world.lease.is_polling);
    world.lease.spec = *spec;
    copy(world.lease.queue, sizeof(world.lease.queue), spec->queue);
    *poll_out = (struct hg_lease_poll *)&world;
    *why_out = "told to";
    world.lease.is_polling = world.lease.status == HG_OK;
    return world.lease.status;
}

void hg_lease_cancel(struct hg_lease_poll *poll)
{
    assert_ptr_equal(poll, &world);
    assert_true(world.lease.is_polling);
    world.lease.is_polling = false;
}

void world_leased(const struct hg_lease_result *result)
{
    assert_true(world.lease.is_polling);
    world.lease.is_polling = false;
    world.lease.spec.done(world.lease.spec.ctx, result);
}

bool hg_lease_answer(struct hg_realm *realm, const struct hg_lease_order *order,
                     hg_lease_answered_fn *answered, void *ctx, struct hg_lease_call **call_out)
{
    struct world_lease *lease = &world.lease;
    assert_ptr_equal(realm, &world.realm);
    lease->order = *order;
    copy(lease->queue, sizeof(lease->queue), order->queue);
    int n = 0;
    for (size_t i = 0; i < order->ids_n; i++) {
        n += snprintf(lease->ids + n, sizeof(lease->ids) - (size_t)n, "%.*s ",
                      HG_BYTES_FMT(order->ids[i]));
    }
    lease->answered = answered;
    lease->ctx = ctx;
    lease->is_calling = true;
    *call_out = (struct hg_lease_call *)&world;
    if (lease->is_here) {
        *call_out = NULL;
        world_answered("ddddddddd");
    }
    return true;
}

void hg_lease_forget(struct hg_lease_call *call)
{
    assert_ptr_equal(call, &world);
    assert_true(world.lease.is_calling);
    world.lease.is_calling = false;
}

void world_answered(const char *letters)
{
    uint8_t answers[16] = {0};
    size_t n = world.lease.order.ids_n;
    assert_true(world.lease.is_calling && n <= strlen(letters));
    for (size_t i = 0; i < n; i++) {
        answers[i] = (uint8_t)(strchr("dgu", letters[i]) - "dgu");
    }
    world.lease.is_calling = false;
    world.lease.answered(world.lease.ctx, answers, n);
}

/* ---- The worker ---- */

void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms)
{
    hg_wheel_set(&w->wheel, t, hg_clock_ms() + delay_ms);
}

struct hg_gather *hg_gather(struct hg_worker *w, hg_gather_ask_fn *ask, const char *separator,
                            hg_gather_done_fn *done, void *ctx)
{
    (void)w;
    (void)separator;
    world.gather_ask = ask;
    world.gather_done = done;
    world.gather_ctx = ctx;
    return (struct hg_gather *)&world;
}

void hg_gather_cancel(struct hg_gather *g)
{
    assert_ptr_equal(g, &world);
    world.gather_ask = NULL;
}

bool hg_vhost_is_up(const struct hg_vhost *vhost)
{
    assert_ptr_equal(vhost, &world.vhost);
    return world.realm.is_up;
}

void hg_metrics_write(const struct hg_worker *worker, struct hg_writer *out)
{
    (void)worker;
    hg_writer_str(out, "headgate_connections 1\n");
}

void hg_reload_stats(const struct hg_gateway *gateway, struct hg_reload_stats *out)
{
    (void)gateway;
    *out = (struct hg_reload_stats){.loaded_wall_ms = hg_clock_wall_ms()};
}

bool hg_state_is_enabled(const struct hg_vhost *vhost)
{
    (void)vhost;
    return world.state.is_enabled;
}

bool hg_state_is_ready(const struct hg_vhost *vhost)
{
    (void)vhost;
    return world.state.is_ready;
}

enum hg_once_state hg_once_begin(const struct hg_once_ask *ask, struct hg_once **once_out,
                                 struct hg_request_answer *answer_out)
{
    assert_null(world.once.ask.ctx);
    *once_out = world.once.state == HG_ONCE_WAITING ? (struct hg_once *)&world : NULL;
    if (*once_out != NULL) {
        world.once.ask = *ask;
        snprintf(world.once.key, sizeof(world.once.key), "%.*s", HG_BYTES_FMT(ask->key));
    }
    return hg_once_look((struct hg_once *)&world, answer_out);
}

enum hg_once_state hg_once_look(struct hg_once *once, struct hg_request_answer *answer_out)
{
    assert_ptr_equal(once, &world);
    if (world.once.state == HG_ONCE_ANSWERED) {
        *answer_out = (struct hg_request_answer){.status = 207, .type = "text/plain"};
        hg_writer_str(&answer_out->body, "elsewhere");
    }
    return world.once.state;
}

void hg_once_end(struct hg_once *once_own, unsigned status, const char *type,
                 const struct hg_bytes *body)
{
    assert_ptr_equal(once_own, &world);
    snprintf(world.once.end, sizeof(world.once.end), "%u %s %.*s", status,
             type == NULL ? "-" : type, body == NULL ? 1 : (int)body->n,
             body == NULL ? "-" : (const char *)body->p);
    world.once.ask.ctx = NULL;
}

struct hg_state_index *hg_state_index_of(const struct hg_vhost *vhost)
{
    (void)vhost;
    return world.state.is_enabled ? (struct hg_state_index *)&world : NULL;
}

uint64_t hg_state_index_digest(struct hg_state_index *x)
{
    assert_ptr_equal(x, &world);
    return 0xabc;
}

void hg_state_stats(const struct hg_vhost *vhost, struct hg_state_stats *out)
{
    (void)vhost;
    *out = world.state;
}

/* ---- What tests call ---- */

static const char *const stomp_protocols[] = {"v12.stomp", "v11.stomp", NULL};
static const char *const mqtt_protocols[] = {"mqtt", "mqttv3.1", NULL};
static const struct hg_adapter stomp = {
    .name = "stomp", .subprotocols = stomp_protocols, .is_websocket_default = true};
static const struct hg_adapter mqtt = {.name = "mqtt", .subprotocols = mqtt_protocols};
static const struct hg_adapter plain = {.name = "plain"};
static const struct hg_adapter *const adapters[] = {&plain, &stomp, &mqtt, NULL};

static const struct hg_vhost_spec vhost_spec = {.name = "/"};

unsigned world_count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) {
        n++;
    }
    return n;
}

void world_open(const struct hg_adapter *adapter)
{
    world = (struct world){
        .config = {.name = "gw-test",
                   .outbound_high_bytes = 1000,
                   .mqtt_max_packet_bytes = 1000,
                   .http_max_body_bytes = 100,
                   .http_stream_from_bytes = SIZE_MAX,
                   .http_max_header_bytes = 2000,
                   .http_max_headers = 100,
                   .http_max_url_bytes = 200,
                   .http_idle_timeout_ms = 60000,
                   .http_request_timeout_ms = 10000,
                   .http_publish_timeout_ms = 20000,
                   .http_max_pipelined = 4,
                   .http_max_batch = 4,
                   .http_management_paths = true,
                   .lease_max = 9,
                   .lease_wait_ms = 60000,
                   .lease_time_ms = 1500000,
                   .vhosts = &vhost_spec,
                   .vhosts_n = 1,
                   .all_rules_n = sizeof(specs) / sizeof(specs[0]),
                   .http_sse_heartbeat_ms = 15000,
                   .unavailable_timeout_ms = 5000,
                   .max_subscriptions = 4,
                   .max_topic_bytes = 1000,
                   .max_topic_levels = 20},
    };
    world.workers[0] = &world.worker;
    world.gateway.config = &world.config;
    world.gateway.adapters = adapters;
    world.gateway.workers = world.workers;
    world.gateway.workers_n = 1;
    world.gateway.started_ms = hg_clock_ms() - 5000;
    world.worker.gateway = &world.gateway;
    world.worker.config = &world.config;
    world.worker.state = HG_WORKER_READY;
    world.vhost = (struct hg_vhost){.gateway = &world.gateway, .spec = &vhost_spec};
    world.gateway.vhosts = &world.vhost;
    world.gateway.vhosts_n = 1;
    world.realm.worker = &world.worker;
    world.realm.vhost = &world.vhost;
    world.realm.is_up = true;
    world.realms[0] = &world.realm;
    world.worker.realms = world.realms;
    world.worker.realms_n = 1;
    world.realm.spec = &vhost_spec;
    static const char *const websocket_paths[] = {"/ws", "/mqtt"};
    world.conn.listener.websocket_paths = websocket_paths;
    world.conn.listener.websocket_paths_n = 2;
    hg_list_init(&world.worker.leavers);
    hg_wheel_open(&world.worker.wheel, hg_clock_ms());
    world.conn.session = adapter->open(&world.worker, &world.conn, &world.conn.listener, NULL);
}

void world_hang_up(void)
{
    struct hg_session *s = world.conn.session;
    world.conn.session = NULL;
    if (s != NULL) {
        s->ops->closed(s, HG_CLOSED);
    }
}

void world_close(void)
{
    world_hang_up();
    hg_writer_close(&world.conn.in);
    hg_writer_close(&world.upload.body);
    hg_writer_close(&world.conn.out);
    hg_joints_close(&world.worker.net.joints);
    hg_worker_free_kept(&world.worker);
    assert_int_equal(seam_live(), 0);
}

void world_send_bytes(struct hg_bytes in)
{
    hg_writer_bytes(&world.conn.in, in);
    feed();
}

void world_send(const char *text)
{
    world_send_bytes(hg_bytes_str(text));
}

const char *world_out(void)
{
    struct hg_bytes out = hg_writer_view(&world.conn.out);
    assert_true(out.n < sizeof(out_text));
    memcpy(out_text, out.p == NULL ? (const uint8_t *)"" : out.p, out.n);
    out_text[out.n] = '\0';
    char *date;
    while ((date = strstr(out_text, "Date: ")) != NULL) {
        char *end = strstr(date, "\r\n") + 2;
        memmove(date, end, strlen(end) + 1);
    }
    hg_writer_close(&world.conn.out);
    return out_text;
}

void world_settle(size_t i, enum hg_status outcome, const char *reason)
{
    struct world_publish *p = &world.publishes[i];
    if (p->is_open) {
        p->is_open = false;
        p->session->ops->settled(p->session, p->id, outcome, hg_bytes_str(reason));
        feed();
    }
}

void world_room(size_t i)
{
    struct world_publish *p = &world.publishes[i];
    world.upload.on_room(p->session, p->id);
    feed();
}

void world_subscribed(size_t i, enum hg_status outcome, const char *reason)
{
    struct hg_sub *sub = world.subs[i].sub;
    if (outcome != HG_OK) {
        hg_unsubscribe(sub);
    }
    world.conn.session->ops->subscribed(world.conn.session, sub, outcome, hg_bytes_str(reason));
}

void world_deliver(size_t i, const struct hg_message_parts *parts, const char *address,
                   bool is_retained)
{
    struct hg_delivery d = {.message = hg_message_new(parts),
                            .address = hg_bytes_str(address),
                            .must_keep = is_retained,
                            .is_retained = is_retained};
    world.conn.session->ops->deliver(world.conn.session, &d, world.subs[i].sub);
    hg_delivery_end(&d);
    hg_message_unref(d.message);
}

void world_release(enum hg_hold bit)
{
    hg_conn_release(&world.conn, bit);
    feed();
}

void world_wait(uint64_t ms)
{
    for (uint64_t end = seam_now_ms + ms; seam_now_ms < end;) {
        seam_now_ms += end - seam_now_ms < 50 ? end - seam_now_ms : 50;
        hg_wheel_advance(&world.worker.wheel, seam_now_ms);
    }
    feed();
}

void world_once(enum hg_once_state state)
{
    world.once.state = state;
    world.once.ask.on_known(world.once.ask.ctx);
    feed();
}

void world_gather(void)
{
    struct hg_writer w = {0};
    assert_non_null(world.gather_ask);
    world.gather_ask(&world.worker, &w);
    world.gather_ask = NULL;
    world.gather_done(world.gather_ctx, hg_writer_view(&w));
    hg_writer_close(&w);
}

void world_reply(size_t i, enum hg_status outcome, const struct hg_message_parts *parts)
{
    struct world_call *c = &world.calls[i];
    hg_call_done_fn *done = c->done;
    struct hg_message *m = parts == NULL ? NULL : hg_message_new(parts);
    assert_non_null(done);
    c->done = NULL;
    done(c->ctx, outcome, HG_BYTES("RabbitMQ's reason"), m);
    hg_message_unref(m);
    feed();
}

void world_queue_state(enum hg_status status)
{
    world.queue.is_open = status == HG_OK;
    world.queue.ops->on_state(world.queue.ctx, status, true, HG_BYTES("RabbitMQ's reason"));
    feed();
}

void world_queue_deliver(int64_t offset, const char *body)
{
    const struct hg_header header = {HG_BYTES("x-stream-offset"),
                                     {.kind = HG_VALUE_INT, .u.i = offset}};
    const struct hg_message_parts parts = {
        .properties = {.message_id = HG_BYTES("theirs"), .headers = &header, .headers_n = 1},
        .body = hg_bytes_str(body)};
    struct hg_delivery d = {.message = hg_message_new(&parts),
                            .address = HG_BYTES("a"),
                            .must_keep = true,
                            .queue = (struct hg_queue *)&world.queue};
    assert_true(world.queue.is_open);
    world.queue.session->ops->deliver(world.queue.session, &d, world.queue.sub);
    hg_delivery_end(&d);
    hg_message_unref(d.message);
}
