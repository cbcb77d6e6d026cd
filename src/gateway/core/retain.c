/* SPDX-License-Identifier: Apache-2.0 */
/* Retaining: a publish that the log gets as well, and what the index has for a new subscription. */
#include "core/retain.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/retain_priv.h"
#include "core/retained.h"
#include "core/routing_priv.h"
#include "core/state.h"

enum {
    RESUME_EVERY_MS = 256, /* should nobody say when there is room */
    PATIENCE_MS = 1000,    /* then what is known is served, while RabbitMQ takes no barrier */
    ROOM_BYTES = 32 << 10  /* in a connection's output, left for what is not retained */
};

struct job { /* first in both kinds; in hg_session.servings or hg_routing.retaining */
    struct hg_chain_link link;
    bool is_publish;
};

/* A retained publish that has no outcome yet. */
struct publish {
    struct job job;
    struct hg_session *session; /* NULL: nobody is to be told */
    struct hg_realm *realm;
    uint64_t id, timeout_ms;
    struct hg_chain under_way;      /* of the publisher */
    struct hg_message *message_own; /* to be published when the first has been; NULL: it has been */
    bool is_unroutable;             /* the first was */
    struct hg_state_wait until_read; /* by this process */
};

/* Retained messages on their way to a subscription. */
struct serving {
    struct job job;
    struct hg_session *session;
    struct hg_sub *sub;
    struct hg_state_wait until_read;
    void (*tell)(struct hg_session *s, struct hg_sub *sub); /* NULL: nobody waits for `found` */
    struct hg_retained **found;                             /* NULL: not looked for yet */
    size_t n, next;
    struct hg_map newer; /* name -> struct newer */
    struct hg_timer timer;
    struct hg_defer resume;
    size_t filter_n;
    uint8_t filter[];
};

/* The name of a retained message that came live while older ones were on their way. */
struct newer {
    size_t name_n;
    uint8_t name[];
};

/* ---- Publishing ---- */

enum hg_status hg_retain_check(struct hg_session *s, const struct hg_published *to, size_t bytes,
                               const char **why_out)
{
    struct hg_state_index *index = hg_state_index_of(hg_realm_of(s)->vhost);
    if (index == NULL) {
        return HG_NO_RETAIN;
    }
    enum hg_status status =
        bytes == 0 ? HG_OK : hg_state_index_admits(index, to->exchange, to->key, bytes);
    if (status != HG_OK) {
        hg_count(&s->worker->metrics.state.retained_refused, 1);
        *why_out = "the quotas for retained messages ([state] max_bytes, max_retained) are used up";
    }
    return status;
}

bool hg_retain_bcc(struct hg_session *s, struct hg_bytes exchange, struct hg_writer *text,
                   struct hg_header *out)
{
    struct hg_bytes key =
        exchange.n > 0 ? HG_BYTES("headgate.retain") : hg_bytes_str(s->worker->config->state_log);
    if (!hg_state_is_bound(hg_realm_of(s)->vhost, exchange)) {
        return false;
    }
    hg_writer_str(text, "[\"");
    hg_writer_json(text, key);
    hg_writer_str(text, "\"]");
    *out = (struct hg_header){HG_BYTES("BCC"),
                              {.kind = HG_VALUE_JSON, .u.bytes = hg_writer_view(text)}};
    return true;
}

struct hg_message *hg_retain_log_message(struct hg_session *s, const struct hg_message_parts *parts)
{
    const struct hg_header extra[] = {
        {HG_BYTES("x-headgate-kind"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("retained")}},
        {HG_BYTES("x-headgate-exchange"), {.kind = HG_VALUE_STRING, .u.bytes = parts->exchange}},
        {HG_BYTES("x-headgate-key"), {.kind = HG_VALUE_STRING, .u.bytes = parts->routing_key}},
    };
    enum { EXTRA_N = sizeof(extra) / sizeof(extra[0]) };
    struct hg_message_parts made = *parts;
    size_t n = parts->properties.headers_n;
    struct hg_header *headers = hg_alloc((n + EXTRA_N) * sizeof(*headers));
    if (headers == NULL) {
        return NULL;
    }
    if (n > 0) {
        memcpy(headers, parts->properties.headers, n * sizeof(*headers));
    }
    memcpy(headers + n, extra, sizeof(extra));
    made.exchange = HG_BYTES("");
    made.routing_key = hg_bytes_str(s->worker->config->state_log);
    made.is_mandatory = false;
    made.properties.headers = headers;
    made.properties.headers_n = n + EXTRA_N;
    struct hg_message *m = hg_message_new(&made);
    hg_free(headers);
    return m;
}

static void free_publish(struct publish *p)
{
    hg_publisher_forget(&p->under_way);
    hg_state_cancel(&p->until_read);
    hg_message_unref(p->message_own);
    hg_chain_remove(&p->job.link);
    hg_free(p);
}

static void settle(struct publish *p, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_session *s = p->session;
    uint64_t id = p->id;
    free_publish(p);
    if (s != NULL) {
        hg_session_settle(s, id, outcome, reason);
    }
}

static void on_publish_read(struct hg_state_wait *wait, enum hg_status status)
{
    settle(HG_CONTAINER_OF(wait, struct publish, until_read), status, HG_BYTES(""));
}

static void on_part_settled(void *owner, uint64_t id, enum hg_status outcome,
                            struct hg_bytes reason);

/* over: the one whose links take it. */
static enum hg_status order_part(struct publish *p, struct hg_realm *over,
                                 struct hg_message **message_own)
{
    const struct hg_publish_order order = {
        .message_own = message_own,
        .owner = p,
        .owners = &p->under_way,
        .on_settled = on_part_settled,
        .timeout_ms = p->timeout_ms,
    };
    return hg_publisher_publish(&over->routing->publisher, &order);
}

static void on_part_settled(void *owner, uint64_t id, enum hg_status outcome,
                            struct hg_bytes reason)
{
    struct publish *p = owner;
    bool is_taken = outcome == HG_OK || (p->realm->home != NULL && outcome == HG_UNROUTABLE);
    (void)id;
    if (is_taken && p->message_own != NULL) {
        p->is_unroutable = outcome == HG_UNROUTABLE;
        outcome = order_part(p, hg_realm_home(p->realm), &p->message_own);
        p->message_own = NULL;
        if (outcome == HG_OK) {
            return;
        }
    }
    if (outcome == HG_OK && p->is_unroutable) {
        outcome = HG_UNROUTABLE;
    }
    if (outcome == HG_OK && p->session != NULL) {
        p->until_read.done = on_publish_read;
        hg_state_barrier(p->realm, &p->until_read);
    } else {
        settle(p, outcome, reason);
    }
}

enum hg_status hg_retain_publish(struct hg_session *s, const struct hg_publish_args *args,
                                 struct hg_message **to_log_own, struct hg_message **message_own)
{
    struct publish *p = hg_zalloc(sizeof(*p));
    if (p == NULL) {
        hg_message_unref(*to_log_own);
        hg_message_unref(*message_own);
        return HG_NO_MEMORY;
    }
    p->job.is_publish = true;
    p->session = args->wants_outcome ? s : NULL;
    p->realm = hg_realm_of(s);
    p->id = args->id;
    p->timeout_ms = args->timeout_ms;
    hg_chain_add_first(args->wants_outcome ? &s->servings : &hg_realm_of(s)->routing->retaining,
                       &p->job.link);
    struct hg_message **first = message_own;
    if (*to_log_own != NULL && p->realm->home != NULL) { /* by its own user first: may it? */
        p->message_own = *to_log_own;
        *to_log_own = NULL;
    } else if (*to_log_own != NULL) {
        p->message_own = *message_own;
        first = to_log_own;
    }
    enum hg_status status = order_part(p, p->realm, first);
    if (status != HG_OK) {
        free_publish(p);
    }
    return status;
}

/* ---- Serving ---- */

static void forget_newer(struct serving *v)
{
    size_t at = 0;
    struct hg_bytes name;
    void *value = NULL;
    while (hg_map_next(&v->newer, &at, &name, &value)) {
        hg_free(value);
    }
    hg_map_close(&v->newer);
}

static void free_serving(struct serving *v)
{
    while (v->next < v->n) {
        hg_retained_unref(v->found[v->next++]);
    }
    hg_free(v->found);
    forget_newer(v);
    hg_state_cancel(&v->until_read);
    hg_timer_stop(&v->timer);
    hg_net_undefer(&v->resume);
    hg_chain_remove(&v->job.link);
    hg_free(v);
}

static bool wants_more(struct hg_session *s)
{
    if (hg_session_is_closing(s)) {
        return false;
    }
    return s->ops->wants_more != NULL ? s->ops->wants_more(s) : hg_session_has_room(s, ROOM_BYTES);
}

static void deliver(struct serving *v, const struct hg_retained *r)
{
    struct hg_session *s = v->session;
    struct hg_message *m = hg_retained_message(r);
    struct hg_delivery d = {.message = m, .is_retained = true, .must_keep = true};
    size_t rule = SIZE_MAX;
    if (m == NULL) {
        hg_count(&s->worker->metrics.proto[s->proto].dropped, 1);
    } else if (hg_routing_address(hg_realm_of(s)->routing, s->proto, m, &d.address, &rule) &&
               hg_access_may_see(s, d.address, rule)) {
        v->sub->next_match = NULL;
        s->ops->deliver(s, &d, v->sub);
    }
    hg_delivery_end(&d);
    hg_message_unref(m);
}

static void go_on(struct serving *v)
{
    struct hg_session *s = v->session;
    uint64_t now_ms = hg_clock_wall_ms();
    while (v->next < v->n && wants_more(s)) {
        struct hg_retained *r = v->found[v->next++];
        if (hg_retained_ends_ms(r) > now_ms &&
            hg_map_find(&v->newer, hg_retained_name(r)) == NULL) {
            deliver(v, r);
        }
        hg_retained_unref(r);
    }
    if (v->next == v->n) {
        free_serving(v);
    } else {
        hg_worker_timer(s->worker, &v->timer, RESUME_EVERY_MS);
    }
}

static void fire(struct hg_timer *timer)
{
    go_on(HG_CONTAINER_OF(timer, struct serving, timer));
}

static void resume(struct hg_defer *defer)
{
    go_on(HG_CONTAINER_OF(defer, struct serving, resume));
}

/* Should the log not be reached, what is known of it is served all the same. */
static void on_serving_read(struct hg_state_wait *wait, enum hg_status status)
{
    struct serving *v = HG_CONTAINER_OF(wait, struct serving, until_read);
    struct hg_session *s = v->session;
    struct hg_state_index *index = hg_state_index_of(hg_realm_of(s)->vhost);
    bool has_failed = false;
    (void)status;
    if (index != NULL) {
        v->n = hg_state_index_match(index, s->proto, hg_bytes(v->filter, v->filter_n),
                                    hg_clock_wall_ms(), &v->found, &has_failed);
    }
    if (has_failed) {
        hg_count(&s->worker->metrics.proto[s->proto].dropped, 1);
    }
    if (v->tell != NULL) {
        v->tell(s, v->sub);
    }
    go_on(v);
}

enum hg_status hg_retained_serve_then(struct hg_session *s, struct hg_sub *sub,
                                      struct hg_bytes filter,
                                      void (*found)(struct hg_session *s, struct hg_sub *sub))
{
    if (hg_state_index_of(hg_realm_of(s)->vhost) == NULL) {
        return HG_OK;
    }
    struct serving *v = hg_zalloc(sizeof(*v) + filter.n);
    if (v == NULL) {
        return HG_NO_MEMORY;
    }
    v->session = s;
    v->sub = sub;
    v->tell = found;
    v->resume.run = resume;
    hg_map_open(&v->newer);
    v->filter_n = filter.n;
    memcpy(v->filter, filter.p, filter.n);
    hg_timer_init(&v->timer, fire);
    hg_chain_add_first(&s->servings, &v->job.link);
    v->until_read.done = on_serving_read;
    v->until_read.patience_ms = PATIENCE_MS;
    hg_state_barrier(hg_realm_of(s), &v->until_read);
    return HG_HELD;
}

enum hg_status hg_retained_serve(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter)
{
    enum hg_status status = hg_retained_serve_then(s, sub, filter, NULL);
    return status == HG_HELD ? HG_OK : status;
}

static struct serving *serving_of(struct hg_chain_link *link)
{
    struct job *job = HG_CHAIN_ENTRY(link, struct job, link);
    return job->is_publish ? NULL : HG_CONTAINER_OF(job, struct serving, job);
}

void hg_retained_resume(struct hg_session *s)
{
    HG_CHAIN_FOREACH (it, &s->servings) {
        struct serving *v = serving_of(it);
        if (v != NULL && v->found != NULL) {
            hg_net_defer(&s->worker->net, &v->resume);
        }
    }
}

/* Without memory for the note the older one is shown too. */
static void note_newer(struct serving *v, struct hg_bytes name)
{
    if (v->newer.n >= v->session->worker->config->state_max_retained ||
        hg_map_find(&v->newer, name) != NULL) {
        return;
    }
    struct newer *newer = hg_alloc(sizeof(*newer) + name.n);
    if (newer == NULL) {
        return;
    }
    newer->name_n = name.n;
    memcpy(newer->name, name.p, name.n);
    if (!hg_map_put(&v->newer, hg_bytes(newer->name, newer->name_n), newer)) {
        hg_free(newer);
    }
}

void hg_retain_saw(struct hg_session *s, const struct hg_message *m)
{
    if (hg_message_header(m, HG_BYTES("x-headgate-retain")) == NULL) {
        return;
    }
    uint8_t out[HG_RETAINED_NAME_MAX];
    struct hg_bytes name =
        hg_retained_name_of(hg_message_exchange(m), hg_message_routing_key(m), out);
    HG_CHAIN_FOREACH (it, &s->servings) {
        struct serving *v = serving_of(it);
        if (v != NULL) {
            note_newer(v, name);
        }
    }
}

/* ---- Ends ---- */

void hg_retain_end(struct hg_sub *sub)
{
    HG_CHAIN_FOREACH_SAFE (it, &sub->session->servings) {
        struct serving *v = serving_of(it);
        if (v != NULL && v->sub == sub) {
            free_serving(v);
        }
    }
}

void hg_retain_detach(struct hg_session *s)
{
    HG_CHAIN_FOREACH_SAFE (it, &s->servings) {
        struct serving *v = serving_of(it);
        if (v != NULL) {
            free_serving(v);
            continue;
        }
        struct publish *p =
            HG_CONTAINER_OF(HG_CHAIN_ENTRY(it, struct job, link), struct publish, job);
        p->session = NULL;
        if (p->message_own == NULL) {
            free_publish(p); /* RabbitMQ has it, or gets it */
        } else {
            hg_chain_remove(it);
            hg_chain_add_first(&p->realm->routing->retaining, it);
        }
    }
}

void hg_retain_close(struct hg_routing *r)
{
    HG_CHAIN_FOREACH_SAFE (it, &r->retaining) {
        free_publish(HG_CONTAINER_OF(HG_CHAIN_ENTRY(it, struct job, link), struct publish, job));
    }
}
