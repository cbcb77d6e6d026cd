/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/probe.h"

#include "amqp/amqp_channel.h"
#include "base/clock.h"
#include "base/mem.h"
#include "upstream/own_loop.h"

#include <stdio.h>

enum {
    ANSWER_MS = 15000, /* a quorum queue takes its time */
    CODE_DENIED = 403
};

/* There is no such queue and no such exchange. */
#define NOWHERE "headgate.check.nowhere"

struct probing {
    struct hg_own_loop own;
    struct hg_link link;
    struct hg_timer timer;
    struct hg_amqp_channel *channel;
    struct hg_probe *probes;
    size_t n, at;
    struct hg_probe_server *server;
    bool is_over;
};

/* ---- Asking ---- */

static enum hg_status ask_configure_exchange(struct hg_amqp_channel *ch, const struct hg_probe *p)
{
    const struct hg_header odd = {HG_BYTES("alternate-exchange"),
                                  {.kind = HG_VALUE_INT, .u.i = 1}}; /* a name is wanted */
    const struct hg_amqp_exchange_declare args = {.name = hg_bytes_str(p->name),
                                                  .type = HG_BYTES("topic"),
                                                  .arguments = &odd,
                                                  .arguments_n = 1};
    return hg_amqp_exchange_declare(ch, 0, &args);
}

static enum hg_status ask_configure_queue(struct hg_amqp_channel *ch, const struct hg_probe *p)
{
    const struct hg_header odd = {HG_BYTES("x-message-ttl"),
                                  {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("a number")}};
    const struct hg_amqp_queue_declare args = {
        .name = hg_bytes_str(p->name), .arguments = &odd, .arguments_n = 1};
    return hg_amqp_queue_declare(ch, 0, &args);
}

static enum hg_status ask_bind(struct hg_amqp_channel *ch, const char *queue, const char *exchange,
                               const char *key)
{
    const struct hg_amqp_binding args = {.queue = hg_bytes_str(queue),
                                         .exchange = hg_bytes_str(exchange),
                                         .routing_key = hg_bytes_str(key)};
    return hg_amqp_queue_bind(ch, 0, &args);
}

static enum hg_status ask_read_queue(struct hg_amqp_channel *ch, const struct hg_probe *p)
{
    const struct hg_header odd = {HG_BYTES("x-priority"),
                                  {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("a number")}};
    const struct hg_amqp_consume args = {
        .queue = hg_bytes_str(p->name), .arguments = &odd, .arguments_n = 1};
    return hg_amqp_basic_consume(ch, 0, &args);
}

/* Its expiration is no number: it is refused, wherever it would have gone. The request behind it has
 * an answer where it is not. */
static enum hg_status ask_publish(struct hg_amqp_channel *ch, const char *exchange, const char *key,
                                  uint64_t body_bytes)
{
    struct hg_message_parts parts = {
        .exchange = hg_bytes_str(exchange),
        .routing_key = hg_bytes_str(key),
        .properties = {.expiration = HG_BYTES("headgate check")},
    };
    uint8_t *body = body_bytes == 0 ? NULL : hg_zalloc(body_bytes);
    if (body_bytes > 0 && body == NULL) {
        return HG_NO_MEMORY;
    }
    parts.body = hg_bytes(body, body_bytes);
    struct hg_message *m = hg_message_new(&parts);
    hg_free(body);
    enum hg_status status = m == NULL ? HG_NO_MEMORY : hg_amqp_basic_publish(ch, m);
    hg_message_unref(m);
    return status == HG_OK ? hg_amqp_basic_qos(ch, 0, 1) : status;
}

static enum hg_status ask_there(struct hg_amqp_channel *ch, const struct hg_probe *p)
{
    if (p->kind == HG_PROBE_QUEUE_THERE) {
        const struct hg_amqp_queue_declare args = {.name = hg_bytes_str(p->name),
                                                   .is_passive = true};
        return hg_amqp_queue_declare(ch, 0, &args);
    }
    const struct hg_amqp_exchange_declare args = {
        .name = hg_bytes_str(p->name), .type = HG_BYTES("topic"), .is_passive = true};
    return hg_amqp_exchange_declare(ch, 0, &args);
}

static enum hg_status ask(struct hg_amqp_channel *ch, const struct hg_probe *p)
{
    switch (p->kind) {
    case HG_PROBE_EXCHANGE_THERE:
    case HG_PROBE_QUEUE_THERE: return ask_there(ch, p);
    case HG_PROBE_EXCHANGE_SAME: return hg_topology_send_exchange(ch, p->exchange);
    case HG_PROBE_QUEUE_SAME:
    case HG_PROBE_QUEUE_MADE: return hg_topology_send_queue(ch, p->queue);
    case HG_PROBE_QUEUE_GONE:
        return hg_amqp_queue_delete(ch, 0, hg_bytes_str(p->name), false, false);
    case HG_PROBE_CONFIGURE_EXCHANGE: return ask_configure_exchange(ch, p);
    case HG_PROBE_WRITE_EXCHANGE: return ask_publish(ch, p->name, p->key, 0);
    case HG_PROBE_READ_EXCHANGE: return ask_bind(ch, NOWHERE, p->name, p->key);
    case HG_PROBE_CONFIGURE_QUEUE: return ask_configure_queue(ch, p);
    case HG_PROBE_WRITE_QUEUE: return ask_bind(ch, p->name, NOWHERE, "");
    case HG_PROBE_READ_QUEUE: return ask_read_queue(ch, p);
    case HG_PROBE_BODY: return ask_publish(ch, "", NOWHERE, p->body_bytes);
    }
    return HG_SERVER_ERROR;
}

/* ---- Answers ---- */

static void finish(struct probing *run)
{
    run->is_over = true;
    hg_timer_stop(&run->timer);
    hg_link_stop(&run->link);
}

static void wait_for_answer(struct probing *run)
{
    hg_wheel_set(run->own.net.wheel, &run->timer, hg_clock_ms() + ANSWER_MS);
}

static const struct hg_amqp_channel_ops channel_ops;

/* The next question that is not to be skipped, on a new channel where the last one was closed. */
static void advance(struct probing *run)
{
    while (run->at < run->n && run->probes[run->at].only_if_fine && run->at > 0 &&
           run->probes[run->at - 1].outcome != HG_PROBE_FINE) {
        run->probes[run->at++].outcome = HG_PROBE_SKIPPED;
    }
    bool is_asked = false;
    if (run->at < run->n && run->channel == NULL) {
        run->channel = hg_amqp_channel_open(hg_link_conn(&run->link), &channel_ops, run, 0);
        is_asked = run->channel != NULL;
    } else if (run->at < run->n) {
        is_asked = ask(run->channel, &run->probes[run->at]) == HG_OK;
    }
    if (is_asked) {
        wait_for_answer(run);
    } else {
        finish(run);
    }
}

static void answered(struct probing *run, bool is_fine, uint16_t code, struct hg_bytes text)
{
    struct hg_probe *p = &run->probes[run->at++];
    p->outcome = is_fine ? HG_PROBE_FINE : HG_PROBE_REFUSED;
    p->code = code;
    (void)snprintf(p->text, sizeof(p->text), "%.*s", HG_BYTES_FMT(text));
    advance(run);
}

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct probing *run = ctx;
    (void)cookie;
    if (reply->kind == HG_AMQP_CHANNEL_OPEN_OK) {
        advance(run);
        return;
    }
    if (reply->kind == HG_AMQP_CONSUME_OK) { /* nothing shall stay with us */
        hg_amqp_channel_close(run->channel);
        run->channel = NULL;
    }
    answered(run, true, 0, HG_BYTES(""));
}

/* A question about a permission was refused: for the reason that it was made to have, or not. */
static bool is_expected(const struct hg_probe *p, const struct hg_amqp_close *why)
{
    static const char too_large[] = "larger than";
    if (p->kind == HG_PROBE_BODY) {
        return memmem(why->text.p, why->text.n, too_large, sizeof(too_large) - 1) == NULL;
    }
    return p->kind >= HG_PROBE_CONFIGURE_EXCHANGE && why->code != CODE_DENIED;
}

static void on_channel_close(void *ctx, const struct hg_amqp_close *why)
{
    struct probing *run = ctx;
    run->channel = NULL;
    answered(run, is_expected(&run->probes[run->at], why), why->code, why->text);
}

static void ignore_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    (void)ctx;
    (void)delivery;
}

static void ignore_cancel(void *ctx, struct hg_bytes tag)
{
    (void)ctx;
    (void)tag;
}

static const struct hg_amqp_channel_ops channel_ops = {.on_reply = on_reply,
                                                       .on_close = on_channel_close,
                                                       .on_delivery = ignore_delivery,
                                                       .on_cancel = ignore_cancel};

static void fire(struct hg_timer *timer)
{
    struct probing *run = HG_CONTAINER_OF(timer, struct probing, timer);
    if (run->channel != NULL) {
        hg_amqp_channel_close(run->channel);
        run->channel = NULL;
    }
    answered(run, false, 0,
             run->server->is_blocked ? HG_BYTES("RabbitMQ takes no messages: an alarm is raised")
                                     : HG_BYTES("no answer within 15 s"));
}

/* ---- The connection ---- */

static void on_up(void *ctx)
{
    struct probing *run = ctx;
    struct hg_amqp_conn *conn = hg_link_conn(&run->link);
    struct hg_bytes version = hg_amqp_conn_server_version(conn);
    run->server->is_connected = true;
    run->server->frame_max_bytes = hg_amqp_conn_frame_max(conn);
    run->server->channel_max = hg_amqp_conn_channel_max(conn);
    run->server->heartbeat_s = hg_amqp_conn_heartbeat_s(conn);
    (void)snprintf(run->server->version, sizeof(run->server->version), "%.*s",
                   HG_BYTES_FMT(version));
    advance(run);
}

static void on_down(void *ctx, const struct hg_amqp_close *why)
{
    struct probing *run = ctx;
    run->channel = NULL;
    if (!run->is_over) {
        run->server->status = why->status;
        (void)snprintf(run->server->text, sizeof(run->server->text), "%.*s",
                       HG_BYTES_FMT(why->text));
        finish(run);
    }
}

static void on_blocked(void *ctx, bool is_blocked)
{
    struct probing *run = ctx;
    run->server->is_blocked = is_blocked;
}

static const struct hg_link_ops link_ops = {
    .on_up = on_up, .on_down = on_down, .on_blocked = on_blocked};

bool hg_probe_run(const struct hg_link_config *config, struct hg_probe *probes, size_t n,
                  struct hg_probe_server *server_out)
{
    struct probing *run = hg_zalloc(sizeof(*run));
    *server_out = (struct hg_probe_server){.status = HG_OK};
    if (run == NULL || !hg_own_loop_open(&run->own, NULL)) {
        hg_free(run);
        return false;
    }
    run->probes = probes;
    run->n = n;
    run->server = server_out;
    hg_timer_init(&run->timer, fire);
    hg_link_open(&run->link, &run->own.net, config, "check", 0, "live", &link_ops, run);
    while (!run->is_over || !hg_link_is_stopped(&run->link)) {
        (void)hg_net_turn(&run->own.net, true);
    }
    hg_link_close(&run->link);
    hg_own_loop_close(&run->own);
    hg_free(run);
    return true;
}
