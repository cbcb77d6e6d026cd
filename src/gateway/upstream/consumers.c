/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/consumers.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/copy.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    /* unacknowledged deliveries of one consumer: a fair share among competing ones */
    PREFETCH = 100,
    ACK_AGAIN_MS = 128 /* between questions to a receiver that is behind */
};

struct hg_consumer {
    struct hg_seat seat;
    struct hg_consumers *owner;
    const struct hg_consumer_ops *ops;
    void *ctx;
    struct hg_timer ack_again;
    struct hg_defer ack;
    uint64_t unacked_tag; /* newest delivery handed on; 0: none */
    bool is_own, is_declare_only, is_delete_only, has_declare;
    struct hg_amqp_queue_declare declare; /* slices below */
    struct hg_bytes queue, exchange, key;
    struct hg_buf *text; /* what the slices point into */
    size_t arguments_n;
    struct hg_header arguments[]; /* of `declare`, or of an own queue's binding */
};

enum cookie { COOKIE_OPEN, COOKIE_DECLARE, COOKIE_BIND, COOKIE_QOS, COOKIE_CONSUME, COOKIE_DELETE };

static struct hg_consumer *consumer_of(struct hg_seat *seat)
{
    return HG_CONTAINER_OF(seat, struct hg_consumer, seat);
}

static struct hg_upstream_metrics *metrics_of(const struct hg_consumer *c)
{
    return c->seat.of->config.metrics;
}

/* Without closing the channel: for one that RabbitMQ closed, too. */
static void free_consumer(struct hg_consumer *c)
{
    hg_seat_leave(&c->seat);
    hg_timer_stop(&c->ack_again);
    hg_net_undefer(&c->ack);
    hg_buf_unref(c->text);
    hg_free(c);
}

/* Ends the consumer and tells its owner, who must not use the handle any more. */
static void end(struct hg_consumer *c, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_consumer_ops *ops = c->ops;
    void *ctx = c->ctx;
    struct hg_amqp_channel *channel = c->seat.channel;
    free_consumer(c);
    ops->on_state(ctx, status, reason); /* before the channel goes: `reason` may be its memory */
    if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}

/* ---- Events of the channel ---- */

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_consumer *c = ctx;
    (void)reply;
    if (cookie == COOKIE_CONSUME) {
        c->ops->on_state(c->ctx, HG_OK, HG_BYTES(""));
    } else if ((cookie == COOKIE_DECLARE && c->is_declare_only) || cookie == COOKIE_DELETE) {
        end(c, HG_OK, HG_BYTES(""));
    }
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_consumer *c = ctx;
    c->seat.channel = NULL;
    hg_count(&metrics_of(c)->upstream_channel_closes, 1);
    HG_LOG_LIMITED(c->seat.of->config.log, HG_LOG_WARN, "consumer.refused", c->queue,
                   HG_F_BYTES("queue", c->queue), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    end(c, why->status, why->text);
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_consumer *c = ctx;
    hg_count(&metrics_of(c)->deliveries, 1);
    c->unacked_tag = delivery->delivery_tag;
    hg_net_defer(c->seat.of->net, &c->ack);
    c->ops->on_delivery(c->ctx, delivery->message, delivery->is_redelivered);
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    (void)consumer_tag;
    end(ctx, HG_NO_QUEUE, HG_BYTES("the queue was deleted"));
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply, .on_close = on_close, .on_delivery = on_delivery, .on_cancel = on_cancel};

static void ack(struct hg_consumer *c)
{
    if (c->unacked_tag == 0 || c->seat.channel == NULL) {
        return;
    }
    if (!c->ops->may_ack(c->ctx)) {
        hg_wheel_set(c->seat.of->net->wheel, &c->ack_again, hg_clock_ms() + ACK_AGAIN_MS);
    } else if (hg_amqp_basic_ack(c->seat.channel, c->unacked_tag, true) == HG_OK) {
        c->unacked_tag = 0;
    } else {
        hg_link_reset(&c->seat.home->link, "out of memory while acknowledging");
    }
}

static void run_ack(struct hg_defer *defer)
{
    ack(HG_CONTAINER_OF(defer, struct hg_consumer, ack));
}

static void fire_ack(struct hg_timer *timer)
{
    ack(HG_CONTAINER_OF(timer, struct hg_consumer, ack_again));
}

/* ---- Starting: all methods at once, RabbitMQ answers in order ---- */

static enum hg_status send_declare(struct hg_consumer *c)
{
    if (c->has_declare) {
        return hg_amqp_queue_declare(c->seat.channel, COOKIE_DECLARE, &c->declare);
    }
    struct hg_header own[] = {
        {HG_BYTES("x-queue-type"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}},
        {HG_BYTES("x-expires"),
         {.kind = HG_VALUE_INT, .u.i = (int64_t)c->owner->config.expires_ms}},
        {HG_BYTES("x-max-length-bytes"),
         {.kind = HG_VALUE_INT, .u.i = (int64_t)c->owner->config.max_bytes}},
    };
    struct hg_amqp_queue_declare args = {.name = c->queue, .is_passive = !c->is_own};
    if (c->is_own) {
        args.is_durable = true;
        args.arguments = own;
        args.arguments_n = sizeof(own) / sizeof(own[0]);
    }
    return hg_amqp_queue_declare(c->seat.channel, COOKIE_DECLARE, &args);
}

static enum hg_status send_all(struct hg_consumer *c)
{
    enum hg_status status = send_declare(c);
    if (status == HG_OK && c->is_own) {
        const struct hg_amqp_binding binding = {.queue = c->queue,
                                                .exchange = c->exchange,
                                                .routing_key = c->key,
                                                .arguments = c->arguments,
                                                .arguments_n = c->arguments_n};
        status = hg_amqp_queue_bind(c->seat.channel, COOKIE_BIND, &binding);
    }
    if (status == HG_OK && !c->is_declare_only) {
        status = hg_amqp_basic_qos(c->seat.channel, COOKIE_QOS, PREFETCH);
    }
    if (status == HG_OK && !c->is_declare_only) {
        /* RabbitMQ may go on for a while believing in the consumer of a link that broke: of an own
         * queue's it prefers the later one. */
        const struct hg_header priority = {HG_BYTES("x-priority"),
                                           {.kind = HG_VALUE_INT, .u.i = (int64_t)hg_clock_ms()}};
        /* Never no-ack: a stream would answer that by ending the connection (540). */
        const struct hg_amqp_consume consume = {
            .queue = c->queue, .arguments = &priority, .arguments_n = c->is_own ? 1 : 0};
        status = hg_amqp_basic_consume(c->seat.channel, COOKIE_CONSUME, &consume);
    }
    return status;
}

static void start(struct hg_seat *seat)
{
    struct hg_consumer *c = consumer_of(seat);
    struct hg_amqp_conn *conn = hg_link_conn(&seat->home->link);
    seat->channel = hg_amqp_channel_open(conn, &channel_ops, c, COOKIE_OPEN);
    enum hg_status status = HG_NO_MEMORY;
    if (seat->channel != NULL && c->is_delete_only) { /* RabbitMQ agrees where there is none */
        status = hg_amqp_queue_delete(seat->channel, COOKIE_DELETE, c->queue, false, false);
    } else if (seat->channel != NULL) {
        status = send_all(c);
    }
    if (status != HG_OK) {
        end(c, status, hg_bytes_str(hg_status_text(status)));
    }
}

static void lost(struct hg_seat *seat)
{
    struct hg_consumer *c = consumer_of(seat);
    if (c->unacked_tag != 0) {
        hg_count(&metrics_of(c)->stale_acks, 1);
        c->unacked_tag = 0;
    }
}

static void abandon(struct hg_seat *seat)
{
    free_consumer(consumer_of(seat));
}

static const struct hg_seat_ops seat_ops = {.start = start, .lost = lost, .abandon = abandon};

/* ---- Public ---- */

void hg_consumers_open(struct hg_consumers *c, struct hg_net *net,
                       const struct hg_consumers_config *config)
{
    *c = (struct hg_consumers){.config = *config};
    hg_seats_open(&c->seats, net, &config->seats);
}

void hg_consumers_close(struct hg_consumers *c)
{
    hg_seats_close(&c->seats);
}

/* Copies every text of the spec into one buffer and points the consumer's slices at the copies. */
static bool copy_texts(struct hg_consumer *c, const struct hg_consumer_spec *spec)
{
    char own[256];
    struct hg_bytes queue = spec->queue;
    if (c->is_own) {
        const struct hg_consumers_config *config = &c->owner->config;
        uint64_t number = config->numbers == NULL ? ++c->owner->own_n : ++*config->numbers;
        int n = snprintf(own, sizeof(own), "%sown.%.48s.%016" PRIx64 ".%u.%" PRIu64, config->prefix,
                         config->seats.instance, config->boot_id, config->seats.worker, number);
        queue = hg_bytes(own, (size_t)n);
    }
    const struct hg_header *arguments = c->is_own        ? spec->binding_arguments
                                        : c->has_declare ? spec->declare->arguments
                                                         : NULL;
    size_t n =
        queue.n + spec->exchange.n + spec->key.n + hg_copy_headers_bytes(arguments, c->arguments_n);
    c->text = hg_buf_new(n + 1);
    if (c->text == NULL) {
        return false;
    }
    c->queue = hg_copy_bytes(c->text, queue);
    c->exchange = hg_copy_bytes(c->text, spec->exchange);
    c->key = hg_copy_bytes(c->text, spec->key);
    hg_copy_headers(c->text, arguments, c->arguments_n, c->arguments);
    c->declare.name = c->queue;
    c->declare.arguments = c->arguments;
    return true;
}

struct hg_consumer *hg_consumer_open(struct hg_consumers *owner,
                                     const struct hg_consumer_spec *spec,
                                     const struct hg_consumer_ops *ops, void *ctx)
{
    bool is_own = spec->queue.n == 0;
    size_t arguments_n = is_own                  ? spec->binding_arguments_n
                         : spec->declare == NULL ? 0
                                                 : spec->declare->arguments_n;
    struct hg_consumer *c = hg_zalloc(sizeof(*c) + arguments_n * sizeof(c->arguments[0]));
    if (c == NULL) {
        return NULL;
    }
    c->owner = owner;
    c->ops = ops;
    c->ctx = ctx;
    c->is_own = is_own;
    c->arguments_n = arguments_n;
    c->is_declare_only = spec->is_declare_only;
    c->is_delete_only = spec->is_delete_only;
    c->has_declare = spec->declare != NULL;
    if (c->has_declare) {
        c->declare = *spec->declare;
    }
    c->ack.run = run_ack;
    hg_timer_init(&c->ack_again, fire_ack);
    if (!copy_texts(c, spec) || !hg_seat_take(&c->seat, &owner->seats, &seat_ops)) {
        hg_buf_unref(c->text);
        hg_free(c);
        return NULL;
    }
    return c;
}

bool hg_consumer_is_for(const struct hg_consumer *c, const struct hg_consumer_spec *spec)
{
    return c != NULL && c->is_own == (spec->queue.n == 0) &&
           (c->is_own ? hg_bytes_eq(c->exchange, spec->exchange) && hg_bytes_eq(c->key, spec->key)
                      : hg_bytes_eq(c->queue, spec->queue));
}

void hg_consumer_source(const struct hg_consumer *c, struct hg_bytes *exchange_out,
                        struct hg_bytes *key_out)
{
    *exchange_out = c->exchange;
    *key_out = c->key;
}

const struct hg_header *hg_consumer_arguments(const struct hg_consumer *c, size_t *n_out)
{
    *n_out = c->is_own ? c->arguments_n : 0;
    return c->arguments;
}

void hg_consumer_tell(struct hg_consumer *c, void *ctx)
{
    c->ctx = ctx;
}

void hg_consumer_close(struct hg_consumer *c)
{
    if (c == NULL) {
        return;
    }
    struct hg_amqp_channel *channel = c->seat.channel;
    if (channel != NULL && c->unacked_tag != 0 && c->ops->may_ack(c->ctx)) {
        /* Handed on in this turn: the next consumer is not to get it again. */
        (void)hg_amqp_basic_ack(channel, c->unacked_tag, true);
    }
    if (channel != NULL && c->is_own) {
        /* Refused or lost, x-expires does it a minute later. */
        (void)hg_amqp_queue_delete(channel, COOKIE_DELETE, c->queue, false, false);
    }
    free_consumer(c);
    if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}
