/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/replies.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "upstream/upstream_metrics.h"

#include <stdio.h>

enum { REFUSED_FOR_MS = 1000 };

#define PSEUDO_QUEUE HG_BYTES("amq.rabbitmq.reply-to")
#define ADDRESSES    HG_BYTES("amq.rabbitmq.reply-to.") /* what one begins with */

enum { COOKIE_OPEN, COOKIE_CONSUME };

/* The channel is gone, or about to be. */
static void end(struct hg_replies *r, enum hg_status status, struct hg_bytes reason)
{
    r->channel = NULL;
    r->address_n = 0;
    r->ops->on_state(r->ctx, status, reason);
}

static void refuse(struct hg_replies *r, enum hg_status status, struct hg_bytes reason)
{
    r->refused_until_ms = hg_clock_ms() + REFUSED_FOR_MS;
    r->refused_as = status;
    HG_LOG_LIMITED(r->log, HG_LOG_WARN, "replies.refused", HG_BYTES(""),
                   HG_F_BYTES("reason", reason));
    end(r, status, reason);
}

/* ---- Events of the channel ---- */

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    (void)ctx; /* the request that names the address is sent behind these */
    (void)cookie;
    (void)reply;
}

/* The request that nobody took, with reply_to as its receiver would have seen it. */
static void on_return(void *ctx, const struct hg_amqp_return *ret)
{
    struct hg_replies *r = ctx;
    struct hg_bytes name = hg_message_properties(ret->message)->reply_to;
    if (!hg_bytes_starts(name, ADDRESSES) || name.n > sizeof(r->address)) {
        struct hg_amqp_channel *channel = r->channel;
        refuse(r, HG_REFUSED, HG_BYTES("RabbitMQ does not name the address for replies"));
        hg_amqp_channel_close(channel);
        return;
    }
    memcpy(r->address, name.p, name.n);
    r->address_n = (uint8_t)name.n;
    r->ops->on_state(r->ctx, HG_OK, HG_BYTES(""));
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_replies *r = ctx;
    hg_count(&r->metrics->deliveries, 1);
    r->ops->on_reply(r->ctx, delivery->message);
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_replies *r = ctx;
    hg_count(&r->metrics->upstream_channel_closes, 1);
    refuse(r, why->status, why->text);
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply, .on_close = on_close, .on_return = on_return, .on_delivery = on_delivery};

/* ---- Asking ---- */

/* To no queue at all, so that it comes back. */
static enum hg_status ask(struct hg_replies *r)
{
    char key[48];
    snprintf(key, sizeof(key), "headgate.nobody.%016llx", (unsigned long long)hg_random_u64());
    const struct hg_message_parts parts = {.routing_key = hg_bytes_str(key),
                                           .properties = {.reply_to = PSEUDO_QUEUE},
                                           .is_mandatory = true};
    struct hg_message *m = hg_message_new(&parts);
    enum hg_status status = m == NULL ? HG_NO_MEMORY : hg_amqp_basic_publish(r->channel, m);
    hg_message_unref(m);
    return status;
}

static enum hg_status start(struct hg_replies *r)
{
    const struct hg_amqp_consume consume = {.queue = PSEUDO_QUEUE, .is_no_ack = true};
    struct hg_amqp_conn *conn = hg_link_conn(r->link);
    if (conn == NULL) {
        return HG_HELD;
    }
    r->channel = hg_amqp_channel_open(conn, &channel_ops, r, COOKIE_OPEN);
    enum hg_status status = r->channel == NULL
                                ? HG_NO_MEMORY
                                : hg_amqp_basic_consume(r->channel, COOKIE_CONSUME, &consume);
    if (status == HG_OK) {
        status = ask(r);
    }
    if (status != HG_OK) {
        hg_replies_close(r);
    }
    return status == HG_OK ? HG_HELD : status;
}

/* ---- Public ---- */

void hg_replies_open(struct hg_replies *r, struct hg_link *link, struct hg_log *log,
                     struct hg_upstream_metrics *metrics, const struct hg_replies_ops *ops,
                     void *ctx)
{
    *r = (struct hg_replies){.link = link, .log = log, .metrics = metrics, .ops = ops, .ctx = ctx};
}

enum hg_status hg_replies_address(struct hg_replies *r, struct hg_bytes *address_out)
{
    if (r->address_n > 0) {
        *address_out = hg_bytes(r->address, r->address_n);
        return HG_OK;
    }
    r->is_wanted = true;
    if (r->channel != NULL) {
        return HG_HELD;
    }
    return r->refused_until_ms > hg_clock_ms() ? r->refused_as : start(r);
}

void hg_replies_up(struct hg_replies *r)
{
    r->refused_until_ms = 0;
    if (r->is_wanted) {
        (void)start(r);
    }
}

void hg_replies_lost(struct hg_replies *r)
{
    if (r->channel != NULL) {
        end(r, HG_BROKER_AWAY, HG_BYTES("the link to RabbitMQ was lost"));
    }
}

void hg_replies_close(struct hg_replies *r)
{
    if (r->channel != NULL) {
        hg_amqp_channel_close(r->channel);
    }
    r->channel = NULL;
    r->address_n = 0;
}
