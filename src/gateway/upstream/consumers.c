/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/consumers.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    PER_LINK_MAX = 1000, /* channels of one connection; RabbitMQ allows 2047 */
    PREFETCH =
        100, /* unacknowledged deliveries of one consumer: a fair share among competing ones */
    ACK_AGAIN_MS = 128 /* between questions to a receiver that is behind */
};

struct consumer_link {
    struct hg_link link;
    struct hg_list all_link; /* in hg_consumers.links */
    struct hg_list consumers;
    unsigned consumers_n;
};

struct hg_consumer {
    struct hg_list link; /* in its consumer_link */
    struct hg_consumers *owner;
    struct consumer_link *home;
    const struct hg_consumer_ops *ops;
    void *ctx;
    struct hg_amqp_channel *channel; /* NULL: closed */
    struct hg_timer ack_again;
    struct hg_defer first, ack;
    uint64_t unacked_tag; /* newest delivery handed on; 0: none */
    bool is_own, is_declare_only, has_declare;
    struct hg_amqp_queue_declare declare; /* slices below */
    struct hg_bytes queue, exchange, key;
    struct hg_buf *text; /* what the slices point into */
    struct hg_header arguments[];
};

enum cookie { COOKIE_OPEN, COOKIE_DECLARE, COOKIE_BIND, COOKIE_QOS, COOKIE_CONSUME, COOKIE_DELETE };

/* Without closing the channel: for one that RabbitMQ closed, too. */
static void free_consumer(struct hg_consumer *c)
{
    hg_list_remove(&c->link);
    c->home->consumers_n--;
    hg_timer_stop(&c->ack_again);
    hg_net_undefer(&c->first);
    hg_net_undefer(&c->ack);
    hg_buf_unref(c->text);
    hg_free(c);
}

/* Ends the consumer and tells its owner, who must not use the handle any more. */
static void end(struct hg_consumer *c, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_consumer_ops *ops = c->ops;
    void *ctx = c->ctx;
    struct hg_amqp_channel *channel = c->channel;
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
    } else if (cookie == COOKIE_DECLARE && c->is_declare_only) {
        end(c, HG_OK, HG_BYTES(""));
    }
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_consumer *c = ctx;
    c->channel = NULL;
    hg_count(&c->owner->config.metrics->upstream_channel_closes, 1);
    HG_LOG_LIMITED(c->owner->config.log, HG_LOG_WARN, "consumer.refused", c->queue,
                   HG_F_BYTES("queue", c->queue), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    end(c, why->status, why->text);
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_consumer *c = ctx;
    hg_count(&c->owner->config.metrics->deliveries, 1);
    c->unacked_tag = delivery->delivery_tag;
    hg_net_defer(c->owner->net, &c->ack);
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
    if (c->unacked_tag == 0 || c->channel == NULL) {
        return;
    }
    if (!c->ops->may_ack(c->ctx)) {
        hg_wheel_set(c->owner->net->wheel, &c->ack_again, hg_clock_ms() + ACK_AGAIN_MS);
    } else if (hg_amqp_basic_ack(c->channel, c->unacked_tag, true) == HG_OK) {
        c->unacked_tag = 0;
    } else {
        hg_link_reset(&c->home->link, "out of memory while acknowledging");
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
        return hg_amqp_queue_declare(c->channel, COOKIE_DECLARE, &c->declare);
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
    return hg_amqp_queue_declare(c->channel, COOKIE_DECLARE, &args);
}

static enum hg_status send_all(struct hg_consumer *c)
{
    enum hg_status status = send_declare(c);
    if (status == HG_OK && c->is_own) {
        const struct hg_amqp_binding binding = {
            .queue = c->queue, .exchange = c->exchange, .routing_key = c->key};
        status = hg_amqp_queue_bind(c->channel, COOKIE_BIND, &binding);
    }
    if (status == HG_OK && !c->is_declare_only) {
        status = hg_amqp_basic_qos(c->channel, COOKIE_QOS, PREFETCH);
    }
    if (status == HG_OK && !c->is_declare_only) {
        /* RabbitMQ may go on for a while believing in the consumer of a link that broke: of an own
         * queue's it prefers the later one. */
        const struct hg_header priority = {HG_BYTES("x-priority"),
                                           {.kind = HG_VALUE_INT, .u.i = (int64_t)hg_clock_ms()}};
        /* Never no-ack: a stream would answer that by ending the connection (540). */
        const struct hg_amqp_consume consume = {
            .queue = c->queue, .arguments = &priority, .arguments_n = c->is_own ? 1 : 0};
        status = hg_amqp_basic_consume(c->channel, COOKIE_CONSUME, &consume);
    }
    return status;
}

static void start(struct hg_consumer *c)
{
    struct hg_amqp_conn *conn = hg_link_conn(&c->home->link);
    if (conn == NULL || c->channel != NULL) {
        return;
    }
    c->channel = hg_amqp_channel_open(conn, &channel_ops, c, COOKIE_OPEN);
    enum hg_status status = c->channel == NULL ? HG_NO_MEMORY : send_all(c);
    if (status != HG_OK) {
        end(c, status, hg_bytes_str(hg_status_text(status)));
    }
}

static void run_first(struct hg_defer *defer)
{
    start(HG_CONTAINER_OF(defer, struct hg_consumer, first));
}

/* ---- Links ---- */

static void on_link_up(void *ctx)
{
    struct consumer_link *home = ctx;
    HG_LIST_FOREACH (it, &home->consumers) {
        hg_net_defer(home->link.net, &HG_LIST_ENTRY(it, struct hg_consumer, link)->first);
    }
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct consumer_link *home = ctx;
    (void)why;
    HG_LIST_FOREACH (it, &home->consumers) {
        struct hg_consumer *c = HG_LIST_ENTRY(it, struct hg_consumer, link);
        c->channel = NULL; /* gone with the connection */
        if (c->unacked_tag != 0) {
            hg_count(&c->owner->config.metrics->stale_acks, 1);
            c->unacked_tag = 0;
        }
    }
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

static struct consumer_link *link_with_room(struct hg_consumers *c)
{
    HG_LIST_FOREACH (it, &c->links) {
        struct consumer_link *home = HG_LIST_ENTRY(it, struct consumer_link, all_link);
        if (home->consumers_n < PER_LINK_MAX) {
            return home;
        }
    }
    struct consumer_link *home = hg_zalloc(sizeof(*home));
    if (home == NULL) {
        return NULL;
    }
    hg_list_init(&home->consumers);
    hg_list_add_last(&c->links, &home->all_link);
    char what[32];
    snprintf(what, sizeof(what), "consume %u", c->links_n++);
    hg_link_open(&home->link, c->net, &c->config.link, c->config.instance, c->config.worker, what,
                 &link_ops, home);
    return home;
}

/* ---- Public ---- */

void hg_consumers_open(struct hg_consumers *c, struct hg_net *net,
                       const struct hg_consumers_config *config)
{
    *c = (struct hg_consumers){.net = net, .config = *config};
    hg_list_init(&c->links);
}

void hg_consumers_stop(struct hg_consumers *c)
{
    HG_LIST_FOREACH (it, &c->links) {
        hg_link_stop(&HG_LIST_ENTRY(it, struct consumer_link, all_link)->link);
    }
}

bool hg_consumers_are_stopped(const struct hg_consumers *c)
{
    HG_LIST_FOREACH (it, &c->links) {
        if (!hg_link_is_stopped(&HG_LIST_ENTRY(it, struct consumer_link, all_link)->link)) {
            return false;
        }
    }
    return true;
}

void hg_consumers_close(struct hg_consumers *c)
{
    while (!hg_list_is_empty(&c->links)) {
        struct consumer_link *home = HG_LIST_ENTRY(c->links.next, struct consumer_link, all_link);
        hg_link_close(&home->link);
        while (!hg_list_is_empty(&home->consumers)) {
            free_consumer(HG_LIST_ENTRY(home->consumers.next, struct hg_consumer, link));
        }
        hg_list_remove(&home->all_link);
        hg_free(home);
    }
}

static struct hg_bytes append(struct hg_buf *buf, struct hg_bytes b)
{
    uint8_t *at = buf->data + buf->n;
    if (b.n > 0) {
        memcpy(at, b.p, b.n);
        buf->n += (uint32_t)b.n;
    }
    return hg_bytes(at, b.n);
}

/* Copies every text of the spec into one buffer and points the consumer's slices at the copies. */
static bool copy_texts(struct hg_consumer *c, const struct hg_consumer_spec *spec)
{
    char own[160];
    struct hg_bytes queue = spec->queue;
    if (c->is_own) {
        int n = snprintf(own, sizeof(own), "headgate.own.%.48s.%016" PRIx64 ".%u.%" PRIu64,
                         c->owner->config.instance, c->owner->config.boot_id,
                         c->owner->config.worker, ++c->owner->own_n);
        queue = hg_bytes(own, (size_t)n);
    }
    size_t n = queue.n + spec->exchange.n + spec->key.n;
    for (size_t i = 0; i < c->declare.arguments_n; i++) {
        const struct hg_header *h = &spec->declare->arguments[i];
        n += h->name.n + (h->value.kind >= HG_VALUE_STRING ? h->value.u.bytes.n : 0);
    }
    c->text = hg_buf_new(n + 1);
    if (c->text == NULL) {
        return false;
    }
    struct hg_bytes *slices[] = {&c->queue, &c->exchange, &c->key};
    const struct hg_bytes sources[] = {queue, spec->exchange, spec->key};
    for (size_t i = 0; i < 3; i++) {
        *slices[i] = append(c->text, sources[i]);
    }
    for (size_t i = 0; i < c->declare.arguments_n; i++) {
        const struct hg_header *h = &spec->declare->arguments[i];
        c->arguments[i] = (struct hg_header){append(c->text, h->name), h->value};
        if (h->value.kind >= HG_VALUE_STRING) {
            c->arguments[i].value.u.bytes = append(c->text, h->value.u.bytes);
        }
    }
    c->declare.name = c->queue;
    c->declare.arguments = c->arguments;
    return true;
}

struct hg_consumer *hg_consumer_open(struct hg_consumers *owner,
                                     const struct hg_consumer_spec *spec,
                                     const struct hg_consumer_ops *ops, void *ctx)
{
    size_t arguments_n = spec->declare == NULL ? 0 : spec->declare->arguments_n;
    struct consumer_link *home = link_with_room(owner);
    struct hg_consumer *c =
        home == NULL ? NULL : hg_zalloc(sizeof(*c) + arguments_n * sizeof(c->arguments[0]));
    if (c == NULL) {
        return NULL;
    }
    c->owner = owner;
    c->home = home;
    c->ops = ops;
    c->ctx = ctx;
    c->is_own = spec->queue.n == 0;
    c->is_declare_only = spec->is_declare_only;
    c->has_declare = spec->declare != NULL;
    if (c->has_declare) {
        c->declare = *spec->declare;
    }
    if (!copy_texts(c, spec)) {
        hg_free(c);
        return NULL;
    }
    c->ack.run = run_ack;
    c->first.run = run_first;
    hg_timer_init(&c->ack_again, fire_ack);
    hg_list_add_last(&home->consumers, &c->link);
    home->consumers_n++;
    hg_net_defer(owner->net,
                 &c->first); /* a failure is told from the loop, never from inside this call */
    return c;
}

void hg_consumer_close(struct hg_consumer *c)
{
    if (c == NULL) {
        return;
    }
    struct hg_amqp_channel *channel = c->channel;
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
