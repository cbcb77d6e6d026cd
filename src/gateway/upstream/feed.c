/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/feed.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    ACCESS_REFUSED = 403,
    /* Deliveries that may wait together for their acknowledgement, and for how long. They stay in
     * RabbitMQ's memory meanwhile. */
    LATE_MAX = 64,
    LATE_BYTES = 256 << 10,
    LATE_MS = 64
};

enum cookie {
    COOKIE_OPEN,
    COOKIE_DECLARE,
    COOKIE_EXCHANGE,
    COOKIE_JOIN,
    COOKIE_QOS,
    COOKIE_CONSUME,
    COOKIE_DELETE
};

static void start(struct hg_feed *f);

/* ---- The queue and its consumer ---- */

static void name_queue(struct hg_feed *f)
{
    f->generation = f->config.numbers == NULL ? f->generation + 1 : ++*f->config.numbers;
    f->is_known = false;
    snprintf(f->queue, sizeof(f->queue), "%sfeed.%.48s.%016" PRIx64 ".%u.%" PRIu64,
             f->config.prefix, f->config.instance, f->config.boot_id, f->config.worker,
             f->generation);
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

/* The exchange in front of the queue goes when the queue does. */
static enum hg_status join(struct hg_feed *f)
{
    const struct hg_amqp_exchange_declare exchange = {.name = hg_bytes_str(f->queue),
                                                      .type = HG_BYTES("fanout"),
                                                      .is_auto_delete = true,
                                                      .is_internal = true};
    const struct hg_amqp_binding binding = {.queue = exchange.name, .exchange = exchange.name};
    enum hg_status status = hg_amqp_exchange_declare(f->consuming, COOKIE_EXCHANGE, &exchange);
    return status != HG_OK ? status : hg_amqp_queue_bind(f->consuming, COOKIE_JOIN, &binding);
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

static void on_declared(struct hg_feed *f)
{
    f->is_known = true;
    f->is_checking = false;
    if (join(f) != HG_OK || consume(f) != HG_OK) {
        hg_link_reset(&f->link, "out of memory while consuming");
    }
}

static void on_consume_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_feed *f = ctx;
    (void)reply;
    if (cookie == COOKIE_DECLARE) {
        on_declared(f);
    } else if (cookie == COOKIE_JOIN) {
        /* Every binding that is wanted is made (again: it costs nothing where it exists). */
        hg_bindings_declared(&f->bindings, hg_bytes_str(f->queue));
    } else if (cookie == COOKIE_CONSUME) {
        f->is_consuming = f->was_consuming = true;
        f->ops->on_state(f->ctx, true);
    }
}

static void forget_unacked(struct hg_feed *f)
{
    f->unacked_tag = 0;
    f->unacked_n = f->unacked_bytes = 0;
    hg_timer_stop(&f->ack_late);
}

static void forget_connection(struct hg_feed *f)
{
    hg_bindings_undeclared(&f->bindings);
    if (hg_defer_is_set(&f->ack) && f->unacked_tag != 0) {
        hg_count(&f->config.metrics->stale_acks, 1);
    }
    forget_unacked(f);
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
    hg_binder_reset(&f->binder);
    if (f->consuming != NULL) {
        hg_amqp_channel_close(f->consuming);
        f->consuming = NULL;
    }
    name_queue(f);
    start(f);
}

/* Who has subscribed hears nothing any more, and nobody knows who that is: that is as good as if the
 * user were not let in. */
static void on_forbidden(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_feed *f = ctx;
    const struct hg_link_config *link = &f->config.link;
    if (link->on_refused != NULL) {
        link->on_refused(link->refused_ctx, why);
    }
}

/* Until somebody wants a binding again. */
static void refuse(struct hg_feed *f, const struct hg_amqp_close *why)
{
    forget_connection(f);
    hg_binder_reset(&f->binder);
    if (f->was_consuming) {
        on_forbidden(f, why);
    }
    f->was_consuming = false;
    hg_bindings_refuse(&f->bindings, why->status, why->text);
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
    HG_LOG_LIMITED(f->config.log, f->config.is_lazy ? HG_LOG_WARN : HG_LOG_ERROR, "feed.refused",
                   hg_bytes_str(f->queue), HG_F_STR("queue", f->queue),
                   HG_F_UINT("code", why->code), HG_F_BYTES("reason", why->text));
    name_queue(f);
    if (f->config.is_lazy && why->code == ACCESS_REFUSED) {
        refuse(f, why);
    } else {
        hg_link_reset(&f->link, "the feed's channel was closed");
    }
}

/* Few enough for RabbitMQ never to wait for them. */
static size_t late_max(const struct hg_feed *f)
{
    size_t quarter = f->config.prefetch / 4U;
    return quarter < LATE_MAX ? quarter : LATE_MAX;
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_feed *f = ctx;
    hg_count(&f->config.metrics->deliveries, 1);
    f->unacked_tag = delivery->delivery_tag;
    f->unacked_n++;
    f->unacked_bytes += hg_message_body(delivery->message).n;
    if (f->ops->on_delivery(f->ctx, delivery->message, delivery->is_redelivered) ||
        f->unacked_n >= late_max(f) || f->unacked_bytes >= LATE_BYTES) {
        hg_net_defer_late(f->net, &f->ack);
    } else if (f->ack_late.due_ms == 0) {
        hg_wheel_set(f->net->wheel, &f->ack_late, hg_clock_ms() + LATE_MS);
    }
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    (void)consumer_tag;
    lose_queue(ctx, "feed.queue_deleted");
}

static void on_whole(void *ctx)
{
    struct hg_feed *f = ctx;
    f->ops->on_whole(f->ctx);
}

static const struct hg_amqp_channel_ops consuming_ops = {
    .on_reply = on_consume_reply,
    .on_close = on_consume_close,
    .on_delivery = on_delivery,
    .on_cancel = on_cancel,
};

static void acknowledge(struct hg_feed *f)
{
    if (f->unacked_tag != 0 && f->consuming != NULL) {
        if (hg_amqp_basic_ack(f->consuming, f->unacked_tag, true) == HG_OK) {
            forget_unacked(f);
        } else {
            hg_link_reset(&f->link, "out of memory while acknowledging");
        }
    }
}

static void run_ack(struct hg_defer *defer)
{
    acknowledge(HG_CONTAINER_OF(defer, struct hg_feed, ack));
}

static void fire_ack(struct hg_timer *timer)
{
    acknowledge(HG_CONTAINER_OF(timer, struct hg_feed, ack_late));
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
    f->is_checking = false;
    forget_connection(f);
    hg_binder_lost(&f->binder);
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

static void open_link(struct hg_feed *f)
{
    hg_link_open(&f->link, f->net, &f->config.link, f->config.instance, f->config.worker, "feed",
                 &link_ops, f);
}

/* ---- Public ---- */

void hg_feed_open(struct hg_feed *f, struct hg_net *net, const struct hg_feed_config *config,
                  const struct hg_feed_ops *ops, const struct hg_bindings_ops *bindings_ops,
                  void *ctx)
{
    *f = (struct hg_feed){.net = net, .config = *config, .ops = ops, .ctx = ctx};
    f->ack.run = run_ack;
    hg_timer_init(&f->ack_late, fire_ack);
    hg_binder_open(&f->binder, &f->link, config->log, config->metrics);
    hg_bindings_open(&f->bindings, &f->binder, HG_BYTES(""), bindings_ops);
    f->bindings.is_exchange = true;
    f->bindings.gauge = &config->metrics->bindings;
    f->bindings.on_whole = on_whole;
    f->bindings.on_forbidden = on_forbidden;
    f->bindings.ctx = f;
    name_queue(f);
    if (!config->is_lazy) {
        open_link(f);
    }
}

void hg_feed_want(struct hg_feed *f)
{
    if (f->link.net == NULL && !f->link.is_stopping) {
        open_link(f);
    } else if (f->consuming == NULL) {
        start(f); /* it was refused, or its link is down: then nothing happens */
    }
}

void hg_feed_stop(struct hg_feed *f)
{
    acknowledge(f);
    if (f->consuming != NULL && f->bindings.is_declared) {
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
    hg_timer_stop(&f->ack_late);
    hg_bindings_close(&f->bindings);
    hg_binder_close(&f->binder);
}
