/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/bindings.h"

#include "base/check.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

/* Methods without an answer at once: enough to keep RabbitMQ busy, few enough to resend after a
 * refusal. */
enum { INFLIGHT_MAX = 256 };

struct hg_binding {
    struct hg_list link;    /* in the binder's todo, inflight or told, or in none */
    struct hg_list users;   /* struct hg_binding_user: those who wait, then those who were told */
    struct hg_bindings *of; /* NULL: nobody looks after its queue any more */
    uint32_t *made_n;       /* counts it while it has users; NULL: nobody counts */
    bool is_bound : 1;      /* RabbitMQ said so since the queue was declared */
    bool is_binding : 1;    /* the method in flight is a bind, not an unbind */
    bool is_busy : 1;       /* in flight, or its users are being told: not to be freed */
    bool is_pending : 1;    /* counted in of->pending_n */
    uint8_t exchange_n, key_n;
    uint8_t names[]; /* exchange, NUL, key: the map's key */
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
    return !hg_list_is_empty(&b->users);
}

static bool needs_method(const struct hg_binding *b)
{
    return b->is_bound != is_wanted(b);
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

static void free_binding(struct hg_binding *b)
{
    hg_list_remove(&b->link);
    set_pending(b, false);
    if (b->of != NULL) {
        hg_map_remove(&b->of->map, names_of(b));
        if (b->of->gauge != NULL) {
            hg_uncount(b->of->gauge, 1);
        }
    }
    hg_free(b);
}

static struct hg_binding_user *first_waiting(const struct hg_binding *b)
{
    struct hg_binding_user *first = HG_LIST_ENTRY(b->users.next, struct hg_binding_user, link);
    return hg_list_is_empty(&b->users) || !first->is_waiting ? NULL : first;
}

/* Puts the binding where it belongs now: to be sent, told, or freed. */
static void review(struct hg_binding *b)
{
    if (b->is_busy) {
        return; /* when that is over */
    }
    struct hg_bindings *of = b->of;
    hg_list_remove(&b->link);
    if (of == NULL || (!is_wanted(b) && (!b->is_bound || !of->is_declared))) {
        free_binding(b);
        return;
    }
    struct hg_binder *binder = of->binder;
    if (needs_method(b) && of->is_declared) {
        set_pending(b, is_wanted(b));
        hg_list_add_last(&binder->todo, &b->link);
        hg_net_defer(binder->link->net, &binder->work);
    } else if (b->is_bound) {
        set_pending(b, false);
        if (first_waiting(b) != NULL) {
            hg_list_add_last(&binder->told, &b->link);
            hg_net_defer(binder->link->net, &binder->work);
        }
    }
}

/* The newest stands first, where it was added; the oldest is told first. */
static void turn_waiting(struct hg_binding *b)
{
    struct hg_list *node = b->users.next->next;
    while (node != &b->users && HG_LIST_ENTRY(node, struct hg_binding_user, link)->is_waiting) {
        struct hg_list *next = node->next;
        hg_list_remove(node);
        hg_list_add_first(&b->users, node);
        node = next;
    }
}

/* Tells those who wait. They may go meanwhile, and the queue with them. */
static void tell(struct hg_binding *b, enum hg_status status, struct hg_bytes reason)
{
    struct hg_binding_user *user;
    b->is_busy = true;
    turn_waiting(b);
    while (b->of != NULL && (user = first_waiting(b)) != NULL) {
        user->is_waiting = false;
        hg_list_remove(&user->link);
        hg_list_add_last(&b->users, &user->link);
        b->of->ops->on_bound(user, status, reason);
    }
    b->is_busy = false;
}

/* ---- Asking RabbitMQ ---- */

static struct hg_binding *take_oldest(struct hg_binder *binder)
{
    struct hg_binding *b = HG_LIST_ENTRY(binder->inflight.next, struct hg_binding, link);
    hg_list_remove(&b->link);
    b->is_busy = false;
    binder->inflight_n--;
    return b;
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
    bool was_bind = b->is_binding;
    b->is_bound = false;
    set_pending(b, false);
    if (was_bind) {
        tell(b, why->status, why->text);
    }
    if (b->of == NULL || !is_wanted(b) || !was_bind) {
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

static bool send_method(struct hg_binder *binder, struct hg_binding *b)
{
    const struct hg_amqp_binding args = {
        .queue = b->of->queue, .exchange = exchange_of(b), .routing_key = key_of(b)};
    b->is_binding = is_wanted(b);
    enum hg_status status = b->is_binding ? hg_amqp_queue_bind(binder->channel, false, &args)
                                          : hg_amqp_queue_unbind(binder->channel, false, &args);
    if (status != HG_OK) {
        return false;
    }
    hg_list_remove(&b->link);
    hg_list_add_last(&binder->inflight, &b->link);
    binder->inflight_n++;
    b->is_busy = true;
    return true;
}

static void send_methods(struct hg_binder *binder)
{
    while (hg_link_conn(binder->link) != NULL && binder->inflight_n < INFLIGHT_MAX &&
           !hg_list_is_empty(&binder->todo)) {
        struct hg_binding *b = HG_LIST_ENTRY(binder->todo.next, struct hg_binding, link);
        if (!b->of->is_declared || !needs_method(b)) {
            review(b); /* whoever wanted it changed their mind */
        } else if (!has_channel(binder) || !send_method(binder, b)) {
            hg_link_reset(binder->link, "out of memory while binding");
            return;
        }
    }
}

static void run_work(struct hg_defer *defer)
{
    struct hg_binder *binder = HG_CONTAINER_OF(defer, struct hg_binder, work);
    while (!hg_list_is_empty(&binder->told)) {
        struct hg_binding *b = HG_LIST_ENTRY(binder->told.next, struct hg_binding, link);
        hg_list_remove(&b->link);
        tell(b, HG_OK, HG_BYTES(""));
        review(b);
    }
    send_methods(binder);
}

/* ---- The binder ---- */

void hg_binder_open(struct hg_binder *b, struct hg_link *link, struct hg_log *log,
                    struct hg_upstream_metrics *metrics)
{
    *b = (struct hg_binder){.link = link, .log = log, .metrics = metrics, .work.run = run_work};
    hg_list_init(&b->todo);
    hg_list_init(&b->inflight);
    hg_list_init(&b->told);
}

void hg_binder_lost(struct hg_binder *binder)
{
    binder->channel = NULL;
    while (binder->inflight_n > 0) {
        struct hg_binding *b = take_oldest(binder);
        b->is_bound = false;
        if (b->of == NULL || !is_wanted(b)) {
            free_binding(b);
        }
    }
}

void hg_binder_reset(struct hg_binder *binder)
{
    if (binder->channel != NULL) {
        hg_amqp_channel_close(binder->channel);
    }
    hg_binder_lost(binder);
}

void hg_binder_close(struct hg_binder *binder)
{
    hg_binder_lost(binder);
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
        set_pending(it, is_wanted(it));
        it->is_bound = false;
        if (!it->is_busy) {
            hg_list_remove(&it->link);
            hg_list_add_last(&b->binder->todo, &it->link);
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

/* What its last users wanted is still asked for, if it can be. */
static bool send_last(struct hg_binding *b)
{
    return b->of->is_declared && needs_method(b) && has_channel(b->of->binder) &&
           send_method(b->of->binder, b);
}

static void release_users(struct hg_binding *b)
{
    while (!hg_list_is_empty(&b->users)) {
        struct hg_binding_user *user = HG_LIST_ENTRY(b->users.next, struct hg_binding_user, link);
        hg_list_remove(&user->link);
        user->binding = NULL;
        user->is_waiting = false;
    }
}

void hg_bindings_close(struct hg_bindings *b)
{
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes names;
    while (hg_map_next(&b->map, &at, &names, &value)) {
        struct hg_binding *it = value;
        bool is_kept = it->is_busy || send_last(it);
        release_users(it);
        it->of = NULL;
        if (b->gauge != NULL) {
            hg_uncount(b->gauge, 1);
        }
        if (!is_kept) {
            free_binding(it);
        }
    }
    hg_net_undefer(&b->whole);
    hg_map_close(&b->map);
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
    hg_list_init(&b->link);
    hg_list_init(&b->users);
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
    if (!is_wanted(b)) {
        b->made_n = made_n;
        if (made_n != NULL) {
            ++*made_n;
        }
    }
    user->binding = b;
    if (user->is_waiting) {
        hg_list_add_first(&b->users, &user->link);
    } else {
        hg_list_add_last(&b->users, &user->link);
    }
    review(b);
}

bool hg_bindings_add(struct hg_bindings *of, struct hg_bytes exchange, struct hg_bytes key,
                     struct hg_binding_user *user, uint32_t *made_n)
{
    struct hg_binding *b = get(of, exchange, key);
    if (b != NULL) {
        user->is_waiting = true;
        use(b, user, made_n);
    }
    return b != NULL;
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

void hg_bindings_remove(struct hg_binding_user *user)
{
    struct hg_binding *b = user->binding;
    if (b == NULL) {
        return;
    }
    hg_list_remove(&user->link);
    user->binding = NULL;
    if (is_wanted(b)) {
        return;
    }
    if (b->made_n != NULL) {
        --*b->made_n;
    }
    set_pending(b, false);
    review(b);
}
