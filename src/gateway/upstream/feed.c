/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/feed.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

/* Methods without an answer at once: enough to keep RabbitMQ busy, few enough to resend after a
 * refusal. */
enum { INFLIGHT_MAX = 256 };

struct hg_feed_binding {
    struct hg_list link;  /* in todo or inflight, or in none */
    struct hg_list waits; /* struct hg_feed_wait */
    uint32_t *made_n;     /* counts it while refs > 0; NULL: nobody counts */
    uint32_t refs;
    bool is_bound;   /* RabbitMQ said so on this connection */
    bool is_binding; /* the method in flight is a bind, not an unbind */
    bool is_sent;    /* in inflight */
    uint8_t exchange_n;
    uint16_t key_n;
    uint8_t names[]; /* exchange, NUL, key: the map's key */
};

enum cookie { COOKIE_OPEN, COOKIE_DECLARE, COOKIE_QOS, COOKIE_CONSUME, COOKIE_BIND, COOKIE_DELETE };

static struct hg_bytes exchange_of(const struct hg_feed_binding *b)
{
    return hg_bytes(b->names, b->exchange_n);
}

static struct hg_bytes key_of(const struct hg_feed_binding *b)
{
    return hg_bytes(b->names + b->exchange_n + 1, b->key_n);
}

static struct hg_bytes names_of(const struct hg_feed_binding *b)
{
    return hg_bytes(b->names, (size_t)b->exchange_n + 1 + b->key_n);
}

static void start(struct hg_feed *f);

/* ---- Bindings ---- */

static void free_binding(struct hg_feed *f, struct hg_feed_binding *b)
{
    hg_list_remove(&b->link);
    hg_map_remove(&f->bindings, names_of(b));
    hg_uncount(&f->config.metrics->bindings, 1);
    hg_free(b);
}

/* Moves those who wait to the list of those told at the end of the turn (all were told the same:
 * OK). */
static void tell_bound(struct hg_feed *f, struct hg_feed_binding *b)
{
    if (!hg_list_is_empty(&b->waits)) {
        hg_list_take_all(&f->told, &b->waits);
        hg_net_defer(f->net, &f->work);
    }
}

static void take_ref(struct hg_feed_binding *b, uint32_t *made_n)
{
    if (b->refs++ == 0) {
        b->made_n = made_n;
        if (made_n != NULL) {
            ++*made_n;
        }
    }
}

/* True if it was the last. */
static bool drop_ref(struct hg_feed_binding *b)
{
    if (--b->refs > 0) {
        return false;
    }
    if (b->made_n != NULL) {
        --*b->made_n;
    }
    return true;
}

static void tell_refused(struct hg_feed_binding *b, enum hg_status status, struct hg_bytes reason)
{
    struct hg_list waits;
    hg_list_init(&waits);
    hg_list_take_all(&waits, &b->waits);
    take_ref(b, NULL); /* the waits' owners give theirs back meanwhile */
    while (!hg_list_is_empty(&waits)) {
        struct hg_feed_wait *wait = HG_LIST_ENTRY(waits.next, struct hg_feed_wait, link);
        hg_list_remove(&wait->link);
        wait->on_bound(wait, status, reason);
    }
    (void)drop_ref(b); /* the caller looks whether anybody is left */
}

static bool needs_method(const struct hg_feed_binding *b)
{
    return !b->is_sent && b->is_bound != (b->refs > 0);
}

/* Puts the binding where it belongs now: to be sent, told, or freed. */
static void review(struct hg_feed *f, struct hg_feed_binding *b)
{
    if (b->is_sent) {
        return; /* when its answer comes */
    }
    hg_list_remove(&b->link);
    if (b->refs == 0 && (!b->is_bound || !f->is_declared)) {
        free_binding(f, b);
    } else if (needs_method(b)) {
        hg_list_add_last(&f->todo, &b->link);
        hg_net_defer(f->net, &f->work);
    } else if (b->is_bound) {
        tell_bound(f, b);
    }
}

static bool send_method(struct hg_feed *f, struct hg_feed_binding *b)
{
    const struct hg_amqp_binding args = {
        .queue = hg_bytes_str(f->queue), .exchange = exchange_of(b), .routing_key = key_of(b)};
    b->is_binding = b->refs > 0;
    enum hg_status status = b->is_binding ? hg_amqp_queue_bind(f->binding, COOKIE_BIND, &args)
                                          : hg_amqp_queue_unbind(f->binding, COOKIE_BIND, &args);
    if (status != HG_OK) {
        return false;
    }
    hg_list_remove(&b->link);
    hg_list_add_last(&f->inflight, &b->link);
    f->inflight_n++;
    b->is_sent = true;
    return true;
}

static struct hg_feed_binding *take_oldest(struct hg_feed *f)
{
    struct hg_feed_binding *b = HG_LIST_ENTRY(f->inflight.next, struct hg_feed_binding, link);
    hg_list_remove(&b->link);
    b->is_sent = false;
    f->inflight_n--;
    return b;
}

static void on_bind_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_feed *f = ctx;
    (void)reply;
    if (cookie == COOKIE_BIND) {
        struct hg_feed_binding *b = take_oldest(f);
        b->is_bound = b->is_binding;
        review(f, b);
        hg_net_defer(f->net, &f->work);
    }
}

/* RabbitMQ works through a channel in order, so the one it refused is the oldest without an answer.
 * The others go again. */
static void on_bind_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_feed *f = ctx;
    f->binding = NULL;
    hg_count(&f->config.metrics->upstream_channel_closes, 1);
    if (f->inflight_n > 0) {
        struct hg_feed_binding *culprit = take_oldest(f);
        HG_LOG_LIMITED(f->config.log, HG_LOG_WARN, "feed.bind_refused", exchange_of(culprit),
                       HG_F_BYTES("exchange", exchange_of(culprit)),
                       HG_F_BYTES("key", key_of(culprit)), HG_F_UINT("code", why->code),
                       HG_F_BYTES("reason", why->text));
        bool was_bind = culprit->is_binding;
        culprit->is_bound = false;
        if (was_bind) {
            tell_refused(culprit, why->status, why->text);
        }
        if (culprit->refs == 0) {
            free_binding(f, culprit);
        } else if (!was_bind) {
            review(f, culprit);
            /* else: somebody's binding went with its exchange; it is tried with the next subscriber
             * or connection */
        }
    }
    while (f->inflight_n > 0) {
        review(f, take_oldest(f));
    }
    hg_net_defer(f->net, &f->work);
}

static const struct hg_amqp_channel_ops binding_ops = {.on_reply = on_bind_reply,
                                                       .on_close = on_bind_close};

static void send_methods(struct hg_feed *f)
{
    struct hg_amqp_conn *conn = hg_link_conn(&f->link);
    if (!f->is_declared || conn == NULL || hg_list_is_empty(&f->todo)) {
        return;
    }
    if (f->binding == NULL) {
        f->binding = hg_amqp_channel_open(conn, &binding_ops, f, COOKIE_OPEN);
        if (f->binding == NULL) {
            hg_link_reset(&f->link, "out of memory for a channel");
            return;
        }
    }
    while (f->inflight_n < INFLIGHT_MAX && !hg_list_is_empty(&f->todo)) {
        struct hg_feed_binding *b = HG_LIST_ENTRY(f->todo.next, struct hg_feed_binding, link);
        if (!needs_method(b)) {
            review(f, b); /* whoever wanted it changed their mind */
        } else if (!send_method(f, b)) {
            hg_link_reset(&f->link, "out of memory while binding");
            return;
        }
    }
}

static void run_work(struct hg_defer *defer)
{
    struct hg_feed *f = HG_CONTAINER_OF(defer, struct hg_feed, work);
    while (!hg_list_is_empty(&f->told)) {
        struct hg_feed_wait *wait = HG_LIST_ENTRY(f->told.next, struct hg_feed_wait, link);
        hg_list_remove(&wait->link);
        wait->on_bound(wait, HG_OK, HG_BYTES(""));
    }
    send_methods(f);
}

/* ---- The queue and its consumer ---- */

static void name_queue(struct hg_feed *f)
{
    f->generation++;
    f->is_known = false;
    snprintf(f->queue, sizeof(f->queue), "headgate.feed.%.48s.%016" PRIx64 ".%u.%u",
             f->config.instance, f->config.boot_id, f->config.worker, f->generation);
}

static struct hg_header integer(const char *name, uint64_t value)
{
    return (struct hg_header){hg_bytes_str(name), {.kind = HG_VALUE_INT, .u.i = (int64_t)value}};
}

static enum hg_status declare(struct hg_feed *f)
{
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}},
        integer("x-expires", f->config.expires_ms),
        integer("x-max-length-bytes", f->config.max_bytes),
    };
    const struct hg_amqp_queue_declare args = {
        .name = hg_bytes_str(f->queue),
        .is_passive = f->is_checking,
        .is_durable = true,
        .arguments = arguments,
        .arguments_n = sizeof(arguments) / sizeof(arguments[0]),
    };
    return hg_amqp_queue_declare(f->consuming, COOKIE_DECLARE, &args);
}

static enum hg_status consume(struct hg_feed *f)
{
    /* RabbitMQ may go on for a while believing in the consumer of a link that broke: it prefers the
     * later one. */
    const struct hg_header priority = integer("x-priority", hg_clock_ms());
    const struct hg_amqp_consume args = {
        .queue = hg_bytes_str(f->queue), .arguments = &priority, .arguments_n = 1};
    enum hg_status status = hg_amqp_basic_qos(f->consuming, COOKIE_QOS, f->config.prefetch);
    return status != HG_OK ? status : hg_amqp_basic_consume(f->consuming, COOKIE_CONSUME, &args);
}

/* The queue is there: every binding that is wanted is made (again: it costs nothing where it
 * exists). */
static void on_declared(struct hg_feed *f)
{
    f->is_declared = true;
    f->is_known = true;
    f->is_checking = false;
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes key;
    while (hg_map_next(&f->bindings, &at, &key, &value)) {
        struct hg_feed_binding *b = value;
        b->is_bound = false;
        hg_list_remove(&b->link);
        hg_list_add_last(&f->todo, &b->link);
    }
    hg_net_defer(f->net, &f->work);
    if (consume(f) != HG_OK) {
        hg_link_reset(&f->link, "out of memory while consuming");
    }
}

static void on_consume_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_feed *f = ctx;
    (void)reply;
    if (cookie == COOKIE_DECLARE) {
        on_declared(f);
    } else if (cookie == COOKIE_CONSUME) {
        f->is_consuming = true;
        f->ops->on_state(f->ctx, true);
    }
}

static void forget_connection(struct hg_feed *f)
{
    f->is_declared = false;
    if (f->unacked_tag != 0) {
        hg_count(&f->config.metrics->stale_acks, 1);
        f->unacked_tag = 0;
    }
    while (f->inflight_n > 0) {
        struct hg_feed_binding *b = take_oldest(f);
        if (b->refs == 0) {
            free_binding(f, b);
        }
    }
    if (f->is_consuming) {
        f->is_consuming = false;
        f->ops->on_state(f->ctx, false);
    }
}

/* The queue is gone, with whatever was in it: go on with a new one. */
static void lose_queue(struct hg_feed *f, const char *event)
{
    HG_LOG(f->config.log, HG_LOG_WARN, event, HG_F_STR("queue", f->queue));
    hg_count(&f->config.metrics->feed_dropped, 1);
    forget_connection(f);
    if (f->binding != NULL) {
        hg_amqp_channel_close(f->binding);
        f->binding = NULL;
    }
    if (f->consuming != NULL) {
        hg_amqp_channel_close(f->consuming);
        f->consuming = NULL;
    }
    name_queue(f);
    start(f);
}

static void on_consume_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_feed *f = ctx;
    bool was_checking = f->is_checking;
    f->consuming = NULL;
    f->is_checking = false;
    if (was_checking && why->code == 404) {
        lose_queue(f, "feed.queue_expired");
        return;
    }
    HG_LOG_LIMITED(f->config.log, HG_LOG_ERROR, "feed.refused", hg_bytes_str(f->queue),
                   HG_F_STR("queue", f->queue), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    name_queue(f);
    hg_link_reset(&f->link, "the feed's channel was closed");
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_feed *f = ctx;
    hg_count(&f->config.metrics->deliveries, 1);
    f->unacked_tag = delivery->delivery_tag;
    hg_net_defer(f->net, &f->ack);
    f->ops->on_delivery(f->ctx, delivery->message, delivery->is_redelivered);
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    (void)consumer_tag;
    lose_queue(ctx, "feed.queue_deleted");
}

static const struct hg_amqp_channel_ops consuming_ops = {
    .on_reply = on_consume_reply,
    .on_close = on_consume_close,
    .on_delivery = on_delivery,
    .on_cancel = on_cancel,
};

static void run_ack(struct hg_defer *defer)
{
    struct hg_feed *f = HG_CONTAINER_OF(defer, struct hg_feed, ack);
    if (f->unacked_tag != 0 && f->consuming != NULL) {
        if (hg_amqp_basic_ack(f->consuming, f->unacked_tag, true) == HG_OK) {
            f->unacked_tag = 0;
        } else {
            hg_link_reset(&f->link, "out of memory while acknowledging");
        }
    }
}

static void start(struct hg_feed *f)
{
    struct hg_amqp_conn *conn = hg_link_conn(&f->link);
    if (conn == NULL) {
        return;
    }
    f->is_checking = f->is_known;
    f->consuming = hg_amqp_channel_open(conn, &consuming_ops, f, COOKIE_OPEN);
    if (f->consuming == NULL || declare(f) != HG_OK) {
        hg_link_reset(&f->link, "out of memory while declaring the feed");
    }
}

/* ---- The link ---- */

static void on_link_up(void *ctx)
{
    start(ctx);
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_feed *f = ctx;
    (void)why;
    f->consuming = NULL; /* gone with the connection */
    f->binding = NULL;
    f->is_checking = false;
    forget_connection(f);
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

/* ---- Public ---- */

void hg_feed_open(struct hg_feed *f, struct hg_net *net, const struct hg_feed_config *config,
                  const struct hg_feed_ops *ops, void *ctx)
{
    *f = (struct hg_feed){.net = net, .config = *config, .ops = ops, .ctx = ctx};
    hg_map_open(&f->bindings);
    hg_list_init(&f->todo);
    hg_list_init(&f->inflight);
    hg_list_init(&f->told);
    f->ack.run = run_ack;
    f->work.run = run_work;
    name_queue(f);
    hg_link_open(&f->link, net, &config->link, config->instance, config->worker, "feed", &link_ops,
                 f);
}

void hg_feed_stop(struct hg_feed *f)
{
    run_ack(&f->ack);
    if (f->consuming != NULL && f->is_declared) {
        f->is_known = false;
        /* Refused or lost, x-expires does it a minute later. */
        (void)hg_amqp_queue_delete(f->consuming, COOKIE_DELETE, hg_bytes_str(f->queue), false,
                                   false);
    }
    hg_link_stop(&f->link);
}

void hg_feed_close(struct hg_feed *f)
{
    hg_link_close(&f->link);
    hg_net_undefer(&f->ack);
    hg_net_undefer(&f->work);
    size_t at = 0;
    void *value = NULL;
    struct hg_bytes key;
    while (hg_map_next(&f->bindings, &at, &key, &value)) {
        struct hg_feed_binding *b = value;
        hg_list_remove(&b->link);
        hg_free(b);
    }
    hg_map_close(&f->bindings);
}

struct hg_feed_binding *hg_feed_bind(struct hg_feed *f, struct hg_bytes exchange,
                                     struct hg_bytes key, struct hg_feed_wait *wait,
                                     uint32_t *made_n)
{
    uint8_t names[256 + 1 + 256];
    size_t names_n = exchange.n + 1 + key.n;
    HG_CHECK(exchange.n <= 255 && key.n <= 255);
    memcpy(names, exchange.p, exchange.n);
    names[exchange.n] = 0;
    if (key.n > 0) {
        memcpy(names + exchange.n + 1, key.p, key.n);
    }
    struct hg_feed_binding *b = hg_map_find(&f->bindings, hg_bytes(names, names_n));
    if (b == NULL) {
        b = hg_zalloc(sizeof(*b) + names_n);
        if (b == NULL) {
            return NULL;
        }
        hg_list_init(&b->link);
        hg_list_init(&b->waits);
        b->exchange_n = (uint8_t)exchange.n;
        b->key_n = (uint16_t)key.n;
        memcpy(b->names, names, names_n);
        if (!hg_map_put(&f->bindings, names_of(b), b)) {
            hg_free(b);
            return NULL;
        }
        hg_count(&f->config.metrics->bindings, 1);
    }
    take_ref(b, made_n);
    if (wait != NULL) {
        hg_list_add_last(&b->waits, &wait->link);
    }
    review(f, b);
    return b;
}

void hg_feed_unbind(struct hg_feed *f, struct hg_feed_binding *binding)
{
    HG_CHECK(binding->refs > 0);
    if (drop_ref(binding)) {
        review(f, binding);
    }
}

void hg_feed_cancel(struct hg_feed_wait *wait)
{
    hg_list_remove(&wait->link);
}
