/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/state_log.h"

#include "base/clock.h"
#include "base/log.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

#define LEADER_QUEUE "headgate.state.leader"

enum {
    PREFETCH = 500,
    RETRY_MS = 3000,   /* what somebody else has now may be free later */
    REBIND_MS = 60000, /* an exchange that was deleted and made again has lost its bindings */
    SEGMENT_BYTES_MAX = 16 << 20,
    SEGMENTS_N = 8, /* at least, in the log's size: RabbitMQ truncates by whole ones */
    NOT_FOUND = 404,
    LOCKED = 405, /* AMQP reply codes: somebody has it to himself */
    NOT_IMPLEMENTED = 540
};

enum cookie {
    COOKIE_OPEN,
    COOKIE_EXCHANGE,
    COOKIE_DECLARE,
    COOKIE_BIND,
    COOKIE_QOS,
    COOKIE_CONSUME,
    COOKIE_CHECK,
    COOKIE_DELETE
};

static void drop_channel(struct hg_amqp_channel **channel)
{
    if (*channel != NULL) {
        hg_amqp_channel_close(*channel);
        *channel = NULL;
    }
}

static void no_memory(struct hg_state_log *l)
{
    hg_link_reset(&l->link, "out of memory on the state link");
}

/* ---- Up, down and refused ---- */

static void review_up(struct hg_state_log *l)
{
    if (!l->is_up && l->is_consuming && l->is_being_tried &&
        l->binding_at == l->config.exchanges_n) {
        l->is_up = l->was_up = true;
        l->ops->on_up(l->ctx);
    }
}

static void become_down(struct hg_state_log *l)
{
    l->is_consuming = false;
    l->unacked_tag = 0;
    if (l->is_up) {
        l->is_up = false;
        l->ops->on_down(l->ctx);
    }
}

static void set_leader(struct hg_state_log *l, bool is_leader)
{
    if (l->is_leader != is_leader) {
        l->is_leader = is_leader;
        l->ops->on_leader(l->ctx, is_leader);
    }
}

static void refuse(struct hg_state_log *l, struct hg_bytes reason)
{
    if (!l->is_refused) {
        l->is_refused = true;
        l->ops->on_refused(l->ctx, reason);
        hg_state_log_stop(l);
    }
}

/* ---- Bindings of the stream, one after another so that a refusal names its exchange ---- */

static const struct hg_amqp_channel_ops binding_ops;

static void bind_next(struct hg_state_log *l)
{
    if (l->binding_at == l->config.exchanges_n) {
        drop_channel(&l->binding);
        review_up(l);
        return;
    }
    struct hg_amqp_conn *conn = hg_link_conn(&l->link);
    if (l->binding == NULL && conn != NULL) {
        l->binding = hg_amqp_channel_open(conn, &binding_ops, l, COOKIE_OPEN);
    }
    const struct hg_amqp_binding binding = {.queue = hg_bytes_str(l->config.name),
                                            .exchange =
                                                hg_bytes_str(l->config.exchanges[l->binding_at]),
                                            .routing_key = HG_BYTES(HG_STATE_RETAIN_KEY)};
    if (l->binding == NULL || hg_amqp_queue_bind(l->binding, COOKIE_BIND, &binding) != HG_OK) {
        no_memory(l);
    }
}

static void bind_all(struct hg_state_log *l)
{
    l->binding_at = 0;
    l->bound_ms = hg_clock_ms();
    bind_next(l);
}

static void on_binding_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_state_log *l = ctx;
    (void)reply;
    if (cookie == COOKIE_BIND) {
        l->ops->on_bound(l->ctx, l->binding_at++, NULL);
        bind_next(l);
    }
}

static void on_binding_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_log *l = ctx;
    l->binding = NULL;
    l->ops->on_bound(l->ctx, l->binding_at++, why);
    bind_next(l);
}

static const struct hg_amqp_channel_ops binding_ops = {.on_reply = on_binding_reply,
                                                       .on_close = on_binding_close};

/* ---- The stream ---- */

static enum hg_status declare_stream(struct hg_state_log *l)
{
    uint64_t segment_bytes = l->config.max_bytes / SEGMENTS_N;
    if (segment_bytes > SEGMENT_BYTES_MAX) {
        segment_bytes = SEGMENT_BYTES_MAX;
    }
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("stream")}},
        {HG_BYTES("x-max-length-bytes"),
         {.kind = HG_VALUE_INT, .u.i = (int64_t)l->config.max_bytes}},
        {HG_BYTES("x-stream-max-segment-size-bytes"),
         {.kind = HG_VALUE_INT, .u.i = (int64_t)segment_bytes}},
    };
    struct hg_amqp_queue_declare args = {.name = hg_bytes_str(l->config.name),
                                         .is_passive = l->step == HG_STATE_LOG_ADOPTING};
    if (!args.is_passive) {
        args.is_durable = true;
        args.arguments = arguments;
        args.arguments_n = sizeof(arguments) / sizeof(arguments[0]);
    }
    return hg_amqp_queue_declare(l->reading, COOKIE_DECLARE, &args);
}

static enum hg_status consume_stream(struct hg_state_log *l)
{
    struct hg_header from = {HG_BYTES("x-stream-offset"),
                             {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("first")}};
    l->is_resuming = l->next_offset != UINT64_MAX;
    if (l->is_resuming) {
        from.value = (struct hg_value){.kind = HG_VALUE_INT, .u.i = (int64_t)l->next_offset};
    }
    const struct hg_amqp_consume args = {
        .queue = hg_bytes_str(l->config.name), .arguments = &from, .arguments_n = 1};
    enum hg_status status = hg_amqp_basic_qos(l->reading, COOKIE_QOS, PREFETCH);
    return status != HG_OK ? status : hg_amqp_basic_consume(l->reading, COOKIE_CONSUME, &args);
}

static const struct hg_amqp_channel_ops reading_ops;

static void start_reading(struct hg_state_log *l)
{
    struct hg_amqp_conn *conn = hg_link_conn(&l->link);
    if (conn == NULL || l->reading != NULL || l->is_refused) {
        return;
    }
    l->reading = hg_amqp_channel_open(conn, &reading_ops, l, COOKIE_OPEN);
    if (l->reading == NULL || declare_stream(l) != HG_OK) {
        no_memory(l);
    }
}

static void on_reading_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_state_log *l = ctx;
    (void)reply;
    if (cookie == COOKIE_DECLARE) {
        if (l->step == HG_STATE_LOG_ADOPTING && !l->was_up) {
            HG_LOG(l->config.log, HG_LOG_WARN, "state.log_differs",
                   HG_F_STR("queue", l->config.name), HG_F_STR("rabbitmq_says", l->why));
        }
        l->step = HG_STATE_LOG_READING;
        if (consume_stream(l) != HG_OK) {
            no_memory(l);
        } else if (l->binding == NULL) {
            bind_all(l);
        }
    } else if (cookie == COOKIE_CONSUME) {
        l->is_consuming = true;
        review_up(l);
    }
}

static void on_reading_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_log *l = ctx;
    l->reading = NULL;
    hg_count(&l->config.metrics->upstream_channel_closes, 1);
    if (l->step == HG_STATE_LOG_DECLARING && why->code == NOT_FOUND) {
        /* It is there, but a RabbitMQ that has just started has not opened it yet. */
        HG_LOG_LIMITED(l->config.log, HG_LOG_WARN, "state.log_away", hg_bytes_str(l->config.name),
                       HG_F_STR("queue", l->config.name), HG_F_BYTES("rabbitmq_says", why->text));
        become_down(l); /* `retry` tries again */
        return;
    }
    if (l->step == HG_STATE_LOG_DECLARING) {
        snprintf(l->why, sizeof(l->why), "%.*s", HG_BYTES_FMT(why->text));
        l->step = HG_STATE_LOG_ADOPTING;
        start_reading(l);
        return;
    }
    if (!l->was_up) {
        refuse(l, l->step == HG_STATE_LOG_ADOPTING ? hg_bytes_str(l->why) : why->text);
        return;
    }
    HG_LOG_LIMITED(l->config.log, HG_LOG_ERROR, "state.log_refused", hg_bytes_str(l->config.name),
                   HG_F_STR("queue", l->config.name), HG_F_UINT("code", why->code),
                   HG_F_BYTES("rabbitmq_says", why->text));
    l->step = HG_STATE_LOG_DECLARING;
    become_down(l); /* `retry` tries again */
}

static void on_record(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_state_log *l = ctx;
    const struct hg_value *v = hg_message_header(delivery->message, HG_BYTES("x-stream-offset"));
    if (v == NULL || v->kind != HG_VALUE_INT || v->u.i < 0) {
        refuse(l, HG_BYTES("the queue of the state log's name is no stream"));
        return;
    }
    uint64_t offset = (uint64_t)v->u.i;
    if (l->is_resuming && offset > l->next_offset) {
        /* What was truncated meanwhile may have cleared or ended what is known here. */
        HG_LOG(l->config.log, HG_LOG_WARN, "state.gap", HG_F_UINT("expected", l->next_offset),
               HG_F_UINT("offset", offset));
        hg_state_log_restart(l);
        return;
    }
    l->is_resuming = false;
    l->unacked_tag = delivery->delivery_tag;
    hg_net_defer(l->net, &l->ack);
    if (l->next_offset != UINT64_MAX && offset < l->next_offset) {
        return;
    }
    if (l->ops->on_record(l->ctx, delivery->message, offset)) {
        l->next_offset = offset + 1;
    } else {
        l->step = HG_STATE_LOG_DECLARING;
        drop_channel(&l->reading);
        become_down(l); /* `retry` goes on from here */
    }
}

static void on_reading_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    struct hg_state_log *l = ctx;
    (void)consumer_tag;
    HG_LOG(l->config.log, HG_LOG_ERROR, "state.log_deleted", HG_F_STR("queue", l->config.name));
    hg_state_log_restart(l);
}

static const struct hg_amqp_channel_ops reading_ops = {.on_reply = on_reading_reply,
                                                       .on_close = on_reading_close,
                                                       .on_delivery = on_record,
                                                       .on_cancel = on_reading_cancel};

static void run_ack(struct hg_defer *defer)
{
    struct hg_state_log *l = HG_CONTAINER_OF(defer, struct hg_state_log, ack);
    if (l->unacked_tag == 0 || l->reading == NULL) {
        return;
    }
    if (hg_amqp_basic_ack(l->reading, l->unacked_tag, true) == HG_OK) {
        l->unacked_tag = 0;
    } else {
        no_memory(l);
    }
}

void hg_state_log_restart(struct hg_state_log *l)
{
    drop_channel(&l->reading);
    become_down(l);
    l->next_offset = UINT64_MAX;
    l->step = HG_STATE_LOG_DECLARING;
    l->ops->on_restart(l->ctx);
    start_reading(l);
}

/* ---- Being seen, and spoken to ---- */

void hg_state_log_presence(uint64_t boot_id, char out[64])
{
    snprintf(out, 64, "headgate.gateway.%016" PRIx64, boot_id);
}

static enum hg_status declare_exclusive(struct hg_amqp_channel *channel, const char *name)
{
    const struct hg_amqp_queue_declare args = {.name = hg_bytes_str(name), .is_exclusive = true};
    return hg_amqp_queue_declare(channel, COOKIE_DECLARE, &args);
}

static enum hg_status consume_exclusive(struct hg_amqp_channel *channel, const char *name)
{
    const struct hg_amqp_consume args = {.queue = hg_bytes_str(name), .is_no_ack = true};
    return hg_amqp_basic_consume(channel, COOKIE_CONSUME, &args);
}

static enum hg_status send_being(struct hg_state_log *l)
{
    const struct hg_amqp_exchange_declare exchange = {
        .name = HG_BYTES(HG_STATE_GATEWAYS), .type = HG_BYTES("fanout"), .is_durable = true};
    const struct hg_amqp_binding binding = {.queue = hg_bytes_str(l->presence),
                                            .exchange = HG_BYTES(HG_STATE_GATEWAYS)};
    enum hg_status status = hg_amqp_exchange_declare(l->being, COOKIE_EXCHANGE, &exchange);
    if (status == HG_OK) {
        status = declare_exclusive(l->being, l->presence);
    }
    if (status == HG_OK) {
        status = hg_amqp_queue_bind(l->being, COOKIE_BIND, &binding);
    }
    return status == HG_OK ? consume_exclusive(l->being, l->presence) : status;
}

static const struct hg_amqp_channel_ops being_ops;

static void start_being(struct hg_state_log *l)
{
    struct hg_amqp_conn *conn = hg_link_conn(&l->link);
    if (conn != NULL && l->being == NULL && !l->is_refused) {
        l->being = hg_amqp_channel_open(conn, &being_ops, l, COOKIE_OPEN);
        if (l->being == NULL || send_being(l) != HG_OK) {
            no_memory(l);
        }
    }
}

static void on_being_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_state_log *l = ctx;
    (void)reply;
    if (cookie == COOKIE_CONSUME) {
        l->is_being_tried = true;
        review_up(l);
    }
}

static void on_being_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_log *l = ctx;
    l->being = NULL;
    l->is_being_tried = true;
    HG_LOG_LIMITED(l->config.log, HG_LOG_WARN, "state.presence_refused", hg_bytes_str(l->presence),
                   HG_F_STR("queue", l->presence), HG_F_UINT("code", why->code),
                   HG_F_BYTES("rabbitmq_says", why->text));
    review_up(l);
}

static void on_broadcast(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_state_log *l = ctx;
    l->ops->on_broadcast(l->ctx, delivery->message);
}

static void on_being_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    struct hg_state_log *l = ctx;
    (void)consumer_tag;
    drop_channel(&l->being); /* `retry` declares it again */
}

static const struct hg_amqp_channel_ops being_ops = {.on_reply = on_being_reply,
                                                     .on_close = on_being_close,
                                                     .on_delivery = on_broadcast,
                                                     .on_cancel = on_being_cancel};

/* ---- Leading ---- */

static const struct hg_amqp_channel_ops leading_ops;

static void start_leading(struct hg_state_log *l)
{
    struct hg_amqp_conn *conn = hg_link_conn(&l->link);
    if (conn != NULL && l->leading == NULL && !l->is_refused) {
        l->leading = hg_amqp_channel_open(conn, &leading_ops, l, COOKIE_OPEN);
        if (l->leading == NULL || declare_exclusive(l->leading, LEADER_QUEUE) != HG_OK ||
            consume_exclusive(l->leading, LEADER_QUEUE) != HG_OK) {
            no_memory(l);
        }
    }
}

static void on_leading_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    (void)reply;
    if (cookie == COOKIE_CONSUME) {
        set_leader(ctx, true);
    }
}

static void on_leading_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_log *l = ctx;
    l->leading = NULL;
    set_leader(l, false);
    if (why->code != LOCKED) {
        HG_LOG_LIMITED(l->config.log, HG_LOG_WARN, "state.leader_refused", HG_BYTES(LEADER_QUEUE),
                       HG_F_STR("queue", LEADER_QUEUE), HG_F_UINT("code", why->code),
                       HG_F_BYTES("rabbitmq_says", why->text));
    }
}

static void on_leading_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    struct hg_state_log *l = ctx;
    (void)consumer_tag;
    drop_channel(&l->leading);
    set_leader(l, false);
}

static const struct hg_amqp_channel_ops leading_ops = {
    .on_reply = on_leading_reply, .on_close = on_leading_close, .on_cancel = on_leading_cancel};

/* ---- Errands ---- */

static void end_errand(struct hg_state_errand *e, enum hg_status status)
{
    hg_list_remove(&e->link);
    hg_net_undefer(&e->failed);
    drop_channel(&e->channel);
    e->log = NULL;
    e->done(e, status);
}

static void on_errand_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    (void)reply;
    if (cookie == COOKIE_CHECK || cookie == COOKIE_DELETE) {
        end_errand(ctx, HG_OK);
    }
}

static void on_errand_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_errand *e = ctx;
    e->channel = NULL;
    end_errand(e, why->code == LOCKED ? HG_OK : why->status);
}

static const struct hg_amqp_channel_ops errand_ops = {.on_reply = on_errand_reply,
                                                      .on_close = on_errand_close};

static void run_failed(struct hg_defer *defer)
{
    struct hg_state_errand *e = HG_CONTAINER_OF(defer, struct hg_state_errand, failed);
    end_errand(e, hg_link_conn(&e->log->link) == NULL ? HG_BROKER_AWAY : HG_NO_MEMORY);
}

/* With a channel of its own, or NULL and the failure on its way. */
static struct hg_amqp_channel *start_errand(struct hg_state_log *l, struct hg_state_errand *e)
{
    struct hg_amqp_conn *conn = hg_link_conn(&l->link);
    e->log = l;
    e->failed.run = run_failed;
    hg_list_add_last(&l->errands, &e->link);
    e->channel = conn == NULL ? NULL : hg_amqp_channel_open(conn, &errand_ops, e, COOKIE_OPEN);
    if (e->channel == NULL) {
        hg_net_defer(l->net, &e->failed);
    }
    return e->channel;
}

void hg_state_log_check(struct hg_state_log *l, struct hg_state_errand *e, struct hg_bytes queue)
{
    const struct hg_amqp_queue_declare args = {.name = queue, .is_passive = true};
    if (start_errand(l, e) != NULL &&
        hg_amqp_queue_declare(e->channel, COOKIE_CHECK, &args) != HG_OK) {
        hg_net_defer(l->net, &e->failed);
    }
}

void hg_state_log_delete(struct hg_state_log *l, struct hg_state_errand *e, struct hg_bytes queue)
{
    if (start_errand(l, e) != NULL &&
        hg_amqp_queue_delete(e->channel, COOKIE_DELETE, queue, true, false) != HG_OK) {
        hg_net_defer(l->net, &e->failed);
    }
}

void hg_state_log_cancel(struct hg_state_errand *e)
{
    if (e->log != NULL) {
        hg_list_remove(&e->link);
        hg_net_undefer(&e->failed);
        drop_channel(&e->channel);
        e->log = NULL;
    }
}

/* ---- The link ---- */

static void start_all(struct hg_state_log *l)
{
    start_reading(l);
    start_being(l);
    start_leading(l);
}

static void fire_retry(struct hg_timer *timer)
{
    struct hg_state_log *l = HG_CONTAINER_OF(timer, struct hg_state_log, retry);
    if (hg_link_conn(&l->link) != NULL && !l->is_refused) {
        start_all(l);
        if (l->is_up && l->binding == NULL && hg_clock_ms() - l->bound_ms >= REBIND_MS) {
            bind_all(l);
        }
        hg_wheel_set(l->net->wheel, &l->retry, hg_clock_ms() + RETRY_MS);
    }
}

static void on_link_up(void *ctx)
{
    struct hg_state_log *l = ctx;
    l->step = HG_STATE_LOG_DECLARING;
    l->is_being_tried = false;
    l->binding_at = 0;
    start_all(l);
    hg_wheel_set(l->net->wheel, &l->retry, hg_clock_ms() + RETRY_MS);
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_state_log *l = ctx;
    bool was_declaring = l->reading != NULL && l->step == HG_STATE_LOG_DECLARING;
    l->reading = l->being = l->leading = l->binding = NULL; /* gone with the connection */
    hg_timer_stop(&l->retry);
    become_down(l);
    set_leader(l, false);
    struct hg_list errands;
    hg_list_init(&errands);
    hg_list_take_all(&errands, &l->errands);
    while (!hg_list_is_empty(&errands)) {
        struct hg_state_errand *e = HG_LIST_ENTRY(errands.next, struct hg_state_errand, link);
        e->channel = NULL;
        end_errand(e, HG_BROKER_AWAY);
    }
    if (was_declaring && why->code == NOT_IMPLEMENTED && !l->was_up) {
        refuse(l, why->text);
    }
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

void hg_state_log_open(struct hg_state_log *l, struct hg_net *net,
                       const struct hg_state_log_config *config, const struct hg_state_log_ops *ops,
                       void *ctx)
{
    *l = (struct hg_state_log){
        .net = net, .config = *config, .ops = ops, .ctx = ctx, .next_offset = UINT64_MAX};
    hg_state_log_presence(config->boot_id, l->presence);
    hg_list_init(&l->errands);
    l->ack.run = run_ack;
    hg_timer_init(&l->retry, fire_retry);
    hg_link_open(&l->link, net, &config->link, config->instance, 0, "state", &link_ops, l);
}

void hg_state_log_stop(struct hg_state_log *l)
{
    hg_timer_stop(&l->retry);
    hg_link_stop(&l->link);
}

void hg_state_log_close(struct hg_state_log *l)
{
    if (l->net == NULL) {
        return; /* never opened */
    }
    hg_timer_stop(&l->retry);
    hg_link_close(&l->link);
    hg_net_undefer(&l->ack);
    HG_LIST_FOREACH_SAFE (it, &l->errands) {
        struct hg_state_errand *e = HG_LIST_ENTRY(it, struct hg_state_errand, link);
        e->channel = NULL;
        hg_state_log_cancel(e);
    }
}
