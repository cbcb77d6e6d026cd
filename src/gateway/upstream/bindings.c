/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/bindings.h"

#include "base/check.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

/* Methods without an answer at once: enough to keep RabbitMQ busy, few enough to resend after a
 * refusal. */
enum { INFLIGHT_MAX = 256 };

/* Many: one for each topic of each idle client. */
struct hg_binding {
    struct hg_binding *next;       /* in its queue */
    struct hg_bindings *of;        /* NULL: nobody looks after its queue any more */
    struct hg_binding_wait *waits; /* newest first */
    uint32_t *made_n;              /* counts it while it has users; NULL: nobody counts */
    uint32_t users_n;
    bool is_bound : 1;     /* RabbitMQ said so since the queue was declared */
    bool is_binding : 1;   /* the method in flight is a bind, not an unbind */
    bool is_busy : 1;      /* in a queue, or its users are being told: not to be freed */
    bool is_pending : 1;   /* counted in of->pending_n */
    bool is_relied_on : 1; /* a user has been told that it is there */
    uint8_t exchange_n, key_n;
    uint8_t names[]; /* exchange, NUL, key: the map's key */
};

struct hg_binding_wait {
    struct hg_binding_wait *next;
    struct hg_binding_user *user; /* NULL: it has gone */
};

static struct hg_bytes exchange_of(const struct hg_binding *b)
{
    return hg_bytes(b->names, b->exchange_n);
}

static struct hg_bytes key_of(const struct hg_binding *b)
{
    return hg_bytes(b->names + b->exchange_n + 1, b->key_n);
}

static struct hg_bytes names_of(const struct hg_binding *b)
{
    return hg_bytes(b->names, (size_t)b->exchange_n + 1 + b->key_n);
}

static bool is_wanted(const struct hg_binding *b)
{
    return b->users_n > 0;
}

static bool needs_method(const struct hg_binding *b)
{
    return b->of != NULL && b->of->is_declared && b->is_bound != is_wanted(b);
}

/* ---- Queues ---- */

static void put_last(struct hg_binding_queue *q, struct hg_binding *b)
{
    b->is_busy = true;
    b->next = NULL;
    if (q->first == NULL) {
        q->first = b;
    } else {
        q->last->next = b;
    }
    q->last = b;
}

/* NULL when it is empty. */
static struct hg_binding *take_first(struct hg_binding_queue *q)
{
    struct hg_binding *b = q->first;
    if (b != NULL) {
        q->first = b->next;
        b->is_busy = false;
    }
    return b;
}

/* ---- One binding ---- */

static void set_pending(struct hg_binding *b, bool is_pending)
{
    struct hg_bindings *of = b->of;
    if (of == NULL || b->is_pending == is_pending) {
        return;
    }
    b->is_pending = is_pending;
    if (is_pending) {
        of->pending_n++;
    } else if (--of->pending_n == 0) {
        hg_net_defer(of->binder->link->net, &of->whole);
    }
}

static struct hg_binding_wait *take_waits(struct hg_binding *b)
{
    struct hg_binding_wait *oldest = NULL;
    while (b->waits != NULL) {
        struct hg_binding_wait *wait = b->waits;
        b->waits = wait->next;
        wait->next = oldest;
        oldest = wait;
    }
    return oldest;
}

static void free_binding(struct hg_binding *b)
{
    set_pending(b, false);
    if (b->of != NULL) {
        hg_map_remove(&b->of->map, names_of(b));
        if (b->of->gauge != NULL) {
            hg_uncount(b->of->gauge, 1);
        }
    }
    struct hg_binding_wait *next = NULL;
    for (struct hg_binding_wait *wait = take_waits(b); wait != NULL; wait = next) {
        next = wait->next;
        hg_free(wait);
    }
    hg_free(b);
}

/* Puts the binding where it belongs now: to be sent, told, or freed. */
static void review(struct hg_binding *b)
{
    if (b->is_busy) {
        return; /* when that is over */
    }
    if (needs_method(b)) {
        set_pending(b, is_wanted(b));
        put_last(&b->of->binder->todo, b);
        hg_net_defer(b->of->binder->link->net, &b->of->binder->work);
    } else if (!is_wanted(b)) {
        free_binding(b);
    } else if (b->of != NULL && b->is_bound) {
        set_pending(b, false);
        if (b->waits != NULL) {
            put_last(&b->of->binder->told, b);
            hg_net_defer(b->of->binder->link->net, &b->of->binder->work);
        }
    }
}

/* Tells those who wait, the oldest first. They may go meanwhile, and the queue with them: then the
 * others are told nothing. */
static void tell(struct hg_binding *b, enum hg_status status, struct hg_bytes reason)
{
    struct hg_binding_wait *next = NULL;
    b->is_busy = true;
    for (struct hg_binding_wait *wait = take_waits(b); wait != NULL; wait = next) {
        struct hg_binding_user *user = wait->user;
        next = wait->next;
        hg_free(wait);
        if (user != NULL) {
            user->wait = NULL;
            b->is_relied_on = b->is_relied_on || status == HG_OK;
            if (b->of != NULL) {
                b->of->ops->on_bound(user, status, reason);
            }
        }
    }
    b->is_busy = false;
}

/* ---- Asking RabbitMQ ---- */

static struct hg_binding *take_oldest(struct hg_binder *binder)
{
    binder->inflight_n--;
    return take_first(&binder->inflight);
}

static void on_reply(void *ctx, uint64_t is_opening, const struct hg_amqp_reply *reply)
{
    struct hg_binder *binder = ctx;
    (void)reply;
    if (!is_opening) {
        struct hg_binding *b = take_oldest(binder);
        b->is_bound = b->is_binding;
        review(b);
        hg_net_defer(binder->link->net, &binder->work);
    }
}

static void refused(struct hg_binding *b, const struct hg_amqp_close *why)
{
    struct hg_bindings *of = b->of;
    bool was_bind = b->is_binding;
    b->is_bound = false;
    set_pending(b, false);
    if (was_bind && b->is_relied_on && of != NULL && of->on_forbidden != NULL &&
        why->status == HG_NOT_ALLOWED) {
        of->on_forbidden(of->ctx, why);
    }
    if (was_bind) {
        tell(b, why->status, why->text);
    }
    if (!is_wanted(b) || !was_bind) {
        review(b);
    }
    /* else: somebody's binding went with its exchange; it is tried with the next subscriber or
     * connection */
}

/* RabbitMQ works through a channel in order, so the one it refused is the oldest without an answer.
 * The others go again. */
static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_binder *binder = ctx;
    binder->channel = NULL;
    hg_count(&binder->metrics->upstream_channel_closes, 1);
    struct hg_binding *culprit = binder->inflight_n == 0 ? NULL : take_oldest(binder);
    while (binder->inflight_n > 0) {
        review(take_oldest(binder));
    }
    hg_net_defer(binder->link->net, &binder->work);
    if (culprit != NULL) {
        HG_LOG_LIMITED(binder->log, HG_LOG_WARN, "binding.refused", exchange_of(culprit),
                       HG_F_BYTES("exchange", exchange_of(culprit)),
                       HG_F_BYTES("key", key_of(culprit)), HG_F_UINT("code", why->code),
                       HG_F_BYTES("reason", why->text));
        refused(culprit, why);
    }
}

static const struct hg_amqp_channel_ops channel_ops = {.on_reply = on_reply, .on_close = on_close};

static bool has_channel(struct hg_binder *binder)
{
    struct hg_amqp_conn *conn = hg_link_conn(binder->link);
    if (conn != NULL && binder->channel == NULL) {
        binder->channel = hg_amqp_channel_open(conn, &channel_ops, binder, true);
    }
    return conn != NULL && binder->channel != NULL;
}

typedef enum hg_status method_fn(struct hg_amqp_channel *ch, uint64_t cookie,
                                 const struct hg_amqp_binding *args);

static bool send_method(struct hg_binder *binder, struct hg_binding *b)
{
    const struct hg_amqp_binding args = {
        .queue = b->of->queue,
        .exchange = exchange_of(b),
        .routing_key = key_of(b),
        .arguments = b->of->arguments,
        .arguments_n = b->of->arguments_n,
    };
    b->is_binding = is_wanted(b);
    bool to_exchange = b->of->is_exchange;
    method_fn *send = b->is_binding
                          ? (to_exchange ? hg_amqp_exchange_bind : hg_amqp_queue_bind)
                          : (to_exchange ? hg_amqp_exchange_unbind : hg_amqp_queue_unbind);
    if (send(binder->channel, false, &args) != HG_OK) {
        return false;
    }
    put_last(&binder->inflight, b);
    binder->inflight_n++;
    return true;
}

/* At most until `most` have no answer. */
static void send_methods(struct hg_binder *binder, size_t most)
{
    while (hg_link_conn(binder->link) != NULL && binder->inflight_n < most &&
           binder->todo.first != NULL) {
        struct hg_binding *b = take_first(&binder->todo);
        if (!needs_method(b)) {
            review(b); /* whoever wanted it changed their mind */
        } else if (!has_channel(binder) || !send_method(binder, b)) {
            put_last(&binder->todo, b);
            hg_link_reset(binder->link, "out of memory while binding");
            return;
        }
    }
}

static void run_work(struct hg_defer *defer)
{
    struct hg_binder *binder = HG_CONTAINER_OF(defer, struct hg_binder, work);
    struct hg_binding *b;
    while ((b = take_first(&binder->told)) != NULL) {
        tell(b, HG_OK, HG_BYTES(""));
        review(b);
    }
    send_methods(binder, INFLIGHT_MAX);
}

/* ---- The binder ---- */

void hg_binder_open(struct hg_binder *b, struct hg_link *link, struct hg_log *log,
                    struct hg_upstream_metrics *metrics)
{
    *b = (struct hg_binder){.link = link, .log = log, .metrics = metrics, .work.run = run_work};
}

void hg_binder_lost(struct hg_binder *binder)
{
    binder->channel = NULL;
    while (binder->inflight_n > 0) {
        struct hg_binding *b = take_oldest(binder);
        b->is_bound = false;
        review(b);
    }
}

void hg_binder_reset(struct hg_binder *binder)
{
    if (binder->channel != NULL) {
        hg_amqp_channel_close(binder->channel);
    }
    hg_binder_lost(binder);
}

static void leave_queue(struct hg_binding_queue *q)
{
    struct hg_binding *b;
    while ((b = take_first(q)) != NULL) {
        if (b->of == NULL && !is_wanted(b)) {
            free_binding(b);
        }
    }
}

void hg_binder_close(struct hg_binder *binder)
{
    leave_queue(&binder->todo);
    leave_queue(&binder->inflight);
    leave_queue(&binder->told);
    binder->inflight_n = 0;
    hg_net_undefer(&binder->work);
}

/* ---- A queue's bindings ---- */

static void run_whole(struct hg_defer *defer)
{
    struct hg_bindings *b = HG_CONTAINER_OF(defer, struct hg_bindings, whole);
    if (b->is_declared && b->pending_n == 0 && b->on_whole != NULL) {
        b->on_whole(b->ctx);
    }
}

void hg_bindings_open(struct hg_bindings *b, struct hg_binder *binder, struct hg_bytes queue,
                      const struct hg_bindings_ops *ops)
{
    *b = (struct hg_bindings){.binder = binder, .ops = ops, .queue = queue, .whole.run = run_whole};
    hg_map_open(&b->map);
}

void hg_bindings_declared(struct hg_bindings *b, struct hg_bytes queue)
{
    struct hg_net *net = b->binder->link->net;
    b->queue = queue;
    b->is_declared = true;
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes names;
    while (hg_map_next(&b->map, &at, &names, &value)) {
        struct hg_binding *it = value;
        it->is_bound = false;
        set_pending(it, is_wanted(it));
        if (!it->is_busy) {
            put_last(&b->binder->todo, it); /* it is reviewed there */
        }
    }
    hg_net_defer(net, &b->binder->work);
    hg_net_defer(net, &b->whole);
}

void hg_bindings_undeclared(struct hg_bindings *b)
{
    b->is_declared = false;
    hg_net_undefer(&b->whole);
}

void hg_bindings_refuse(struct hg_bindings *b, enum hg_status status, struct hg_bytes reason)
{
    struct hg_binding_queue waiting = {0};
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes names;
    struct hg_binding *it;
    leave_queue(&b->binder->todo);
    leave_queue(&b->binder->told);
    while (hg_map_next(&b->map, &at, &names, &value)) {
        put_last(&waiting, value);
    }
    while ((it = take_first(&waiting)) != NULL) {
        tell(it, status, reason);
        review(it);
    }
}

static void forget(struct hg_bindings *b, bool has_users)
{
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes names;
    while (hg_map_next(&b->map, &at, &names, &value)) {
        struct hg_binding *it = value;
        it->of = NULL;
        it->made_n = NULL;
        it->users_n = has_users ? it->users_n : 0;
        if (b->gauge != NULL) {
            hg_uncount(b->gauge, 1);
        }
        review(it);
    }
    b->is_declared = false;
    hg_net_undefer(&b->whole);
    hg_map_close(&b->map);
}

void hg_bindings_forget(struct hg_bindings *b)
{
    if (b->is_declared) {
        send_methods(b->binder, SIZE_MAX); /* what its users wanted last */
    }
    forget(b, true);
}

void hg_bindings_close(struct hg_bindings *b)
{
    forget(b, false);
}

/* The one that is there, or a new one; NULL when there is no memory. */
static struct hg_binding *get(struct hg_bindings *of, struct hg_bytes exchange, struct hg_bytes key)
{
    uint8_t names[256 + 1 + 256];
    size_t names_n = exchange.n + 1 + key.n;
    HG_CHECK(exchange.n <= 255 && key.n <= 255);
    memcpy(names, exchange.p, exchange.n);
    names[exchange.n] = 0;
    if (key.n > 0) {
        memcpy(names + exchange.n + 1, key.p, key.n);
    }
    struct hg_binding *b = hg_map_find(&of->map, hg_bytes(names, names_n));
    if (b != NULL) {
        return b;
    }
    b = hg_zalloc(sizeof(*b) + names_n);
    if (b == NULL) {
        return NULL;
    }
    b->of = of;
    b->exchange_n = (uint8_t)exchange.n;
    b->key_n = (uint8_t)key.n;
    memcpy(b->names, names, names_n);
    if (!hg_map_put(&of->map, names_of(b), b)) {
        hg_free(b);
        return NULL;
    }
    if (of->gauge != NULL) {
        hg_count(of->gauge, 1);
    }
    return b;
}

static void use(struct hg_binding *b, struct hg_binding_user *user, uint32_t *made_n)
{
    user->binding = b;
    if (b->users_n++ == 0) {
        b->made_n = made_n;
        if (made_n != NULL) {
            ++*made_n;
        }
    }
    review(b);
}

bool hg_bindings_add(struct hg_bindings *of, struct hg_bytes exchange, struct hg_bytes key,
                     struct hg_binding_user *user, uint32_t *made_n)
{
    struct hg_binding_wait *wait = hg_alloc(sizeof(*wait));
    struct hg_binding *b = wait == NULL ? NULL : get(of, exchange, key);
    if (b == NULL) {
        hg_free(wait);
        return false;
    }
    *wait = (struct hg_binding_wait){.next = b->waits, .user = user};
    b->waits = wait;
    user->wait = wait;
    use(b, user, made_n);
    return true;
}

bool hg_bindings_keep(struct hg_bindings *of, struct hg_bytes exchange, struct hg_bytes key,
                      struct hg_binding_user *user)
{
    struct hg_binding *b = get(of, exchange, key);
    if (b != NULL) {
        use(b, user, NULL);
    }
    return b != NULL;
}

struct hg_bindings *hg_bindings_of(const struct hg_binding_user *user)
{
    return user->binding == NULL ? NULL : user->binding->of;
}

bool hg_bindings_names(const struct hg_binding_user *user, struct hg_bytes *exchange_out,
                       struct hg_bytes *key_out)
{
    if (hg_bindings_of(user) == NULL) {
        return false;
    }
    *exchange_out = exchange_of(user->binding);
    *key_out = key_of(user->binding);
    return true;
}

void hg_bindings_count_none(struct hg_bindings *b)
{
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes names;
    while (hg_map_next(&b->map, &at, &names, &value)) {
        ((struct hg_binding *)value)->made_n = NULL;
    }
}

void hg_bindings_count(const struct hg_binding_user *user, uint32_t *made_n)
{
    struct hg_binding *b = user->binding;
    if (b != NULL && b->of != NULL && b->made_n == NULL) {
        b->made_n = made_n;
        ++*made_n;
    }
}

void hg_bindings_remove(struct hg_binding_user *user)
{
    struct hg_binding *b = user->binding;
    if (b == NULL) {
        return;
    }
    if (user->wait != NULL) {
        user->wait->user = NULL;
    }
    *user = (struct hg_binding_user){0};
    if (--b->users_n > 0) {
        return;
    }
    if (b->made_n != NULL) {
        --*b->made_n;
    }
    set_pending(b, false);
    review(b);
}
