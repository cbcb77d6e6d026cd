/* SPDX-License-Identifier: Apache-2.0 */
/* RabbitMQ's side of one AMQP 0-9-1 connection. */
#include "seam/broker.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdio.h>

void broker_open(struct broker *b)
{
    *b = (struct broker){
        .heartbeat_s = 60,
        .channel_max = 2047,
        .frame_max = 131072,
        .vhost = "/",
        .password = "guest",
        .in.frame_max = 131072,
        .in.has_frame =
            true, /* what is unlike a client comes before the first frame: see take_head */
    };
    init_amqp_pool(&b->pool, 4096);
    init_amqp_pool(&b->out_pool, 4096);
}

static void drop_content(struct broker_channel *ch)
{
    hg_writer_close(&ch->content);
    hg_buf_unref(ch->body);
    ch->body = NULL;
    ch->method_n = 0;
}

void broker_forget(struct broker *b)
{
    for (size_t i = 0; i < b->publishes_n; i++) {
        hg_message_unref(b->publishes[i].message);
    }
    b->publishes_n = b->confirmed_n = 0;
    hg_writer_reset(&b->log);
}

void broker_close(struct broker *b)
{
    broker_forget(b);
    hg_free(b->publishes);
    for (size_t i = 0; i < BROKER_CHANNELS; i++) {
        drop_content(&b->channels[i]);
    }
    hg_amqp_decoder_close(&b->in);
    hg_writer_close(&b->head);
    hg_writer_close(&b->out);
    hg_writer_close(&b->log);
    hg_writer_close(&b->json);
    empty_amqp_pool(&b->pool);
    empty_amqp_pool(&b->out_pool);
}

struct hg_buf *broker_take_output(struct broker *b)
{
    return hg_writer_n(&b->out) == 0 ? NULL : hg_writer_take(&b->out);
}

/* -- what it says ----------------------------------------------------------------------------- */

void broker_send(struct broker *b, uint16_t channel, amqp_method_number_t id, void *method)
{
    HG_CHECK(hg_amqp_encode_method(&b->out, channel, id, method, b->frame_max) == HG_OK);
}

static void send_content(struct broker *b, uint16_t channel, const struct hg_message *m)
{
    HG_CHECK(hg_amqp_encode_content(&b->out, channel, m, b->frame_max, &b->out_pool) == HG_OK);
    recycle_amqp_pool(&b->out_pool);
}

void broker_ack(struct broker *b, uint16_t channel, uint64_t tag, bool is_multiple)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = is_multiple};
    broker_send(b, channel, AMQP_BASIC_ACK_METHOD, &ack);
}

void broker_nack(struct broker *b, uint16_t channel, uint64_t tag, bool is_multiple)
{
    amqp_basic_nack_t nack = {.delivery_tag = tag, .multiple = is_multiple};
    broker_send(b, channel, AMQP_BASIC_NACK_METHOD, &nack);
}

void broker_return(struct broker *b, uint16_t channel, const struct hg_message *m)
{
    amqp_basic_return_t ret = {.reply_code = 312,
                               .reply_text = amqp_cstring_bytes("NO_ROUTE"),
                               .exchange = hg_amqp_bytes(hg_message_exchange(m)),
                               .routing_key = hg_amqp_bytes(hg_message_routing_key(m))};
    broker_send(b, channel, AMQP_BASIC_RETURN_METHOD, &ret);
    send_content(b, channel, m);
}

void broker_deliver(struct broker *b, uint16_t channel, const char *consumer_tag, uint64_t tag,
                    bool is_redelivered, const struct hg_message *m)
{
    amqp_basic_deliver_t deliver = {.consumer_tag = amqp_cstring_bytes(consumer_tag),
                                    .delivery_tag = tag,
                                    .redelivered = is_redelivered,
                                    .exchange = hg_amqp_bytes(hg_message_exchange(m)),
                                    .routing_key = hg_amqp_bytes(hg_message_routing_key(m))};
    broker_send(b, channel, AMQP_BASIC_DELIVER_METHOD, &deliver);
    send_content(b, channel, m);
}

void broker_get_ok(struct broker *b, uint16_t channel, uint64_t tag, uint32_t left_n,
                   const struct hg_message *m)
{
    amqp_basic_get_ok_t ok = {.delivery_tag = tag,
                              .exchange = hg_amqp_bytes(hg_message_exchange(m)),
                              .routing_key = hg_amqp_bytes(hg_message_routing_key(m)),
                              .message_count = left_n};
    broker_send(b, channel, AMQP_BASIC_GET_OK_METHOD, &ok);
    send_content(b, channel, m);
}

void broker_cancel(struct broker *b, uint16_t channel, const char *consumer_tag)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(consumer_tag), .nowait = 1};
    broker_send(b, channel, AMQP_BASIC_CANCEL_METHOD, &cancel);
}

void broker_close_channel(struct broker *b, uint16_t channel, uint16_t code, const char *text,
                          amqp_method_number_t culprit)
{
    amqp_channel_close_t close = {.reply_code = code,
                                  .reply_text = amqp_cstring_bytes(text),
                                  .class_id = (uint16_t)(culprit >> 16),
                                  .method_id = (uint16_t)culprit};
    broker_send(b, channel, AMQP_CHANNEL_CLOSE_METHOD, &close);
    drop_content(&b->channels[channel]);
    b->channels[channel].state = BROKER_WAITS_CLOSE_OK;
}

void broker_close_connection(struct broker *b, uint16_t code, const char *text,
                             amqp_method_number_t culprit)
{
    amqp_connection_close_t close = {.reply_code = code,
                                     .reply_text = amqp_cstring_bytes(text),
                                     .class_id = (uint16_t)(culprit >> 16),
                                     .method_id = (uint16_t)culprit};
    broker_send(b, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    b->is_open = false;
}

void broker_block(struct broker *b, const char *reason)
{
    if (reason == NULL) {
        amqp_connection_unblocked_t unblocked = {0};
        broker_send(b, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    } else {
        amqp_connection_blocked_t blocked = {.reason = amqp_cstring_bytes(reason)};
        broker_send(b, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    }
}

void broker_heartbeat(struct broker *b)
{
    hg_amqp_encode_heartbeat(&b->out);
}

/* -- answers to methods ----------------------------------------------------------------------- */

static bool is_missing(const struct broker *b, amqp_bytes_t name)
{
    for (size_t i = 0; i < BROKER_NAMES && b->missing[i] != NULL; i++) {
        if (hg_bytes_eq(hg_amqp_view(name), hg_bytes_str(b->missing[i]))) {
            return true;
        }
    }
    return false;
}

/* 404 as RabbitMQ words it; true: the channel is closed. */
static bool refuse_missing(struct broker *b, const struct broker_method *m, const char *kind,
                           amqp_bytes_t name)
{
    if (!is_missing(b, name)) {
        return false;
    }
    char text[128];
    (void)snprintf(text, sizeof text, "NOT_FOUND - no %s '%.*s' in vhost '/'", kind, (int)name.len,
                   (const char *)name.bytes);
    broker_close_channel(b, m->channel, AMQP_NOT_FOUND, text, m->id);
    return true;
}

/* The name that the client chose, or one made up; `made` must outlive the answer. */
static amqp_bytes_t name_or_made(struct broker *b, amqp_bytes_t name, const char *prefix,
                                 char made[32])
{
    if (name.len > 0) {
        return name;
    }
    (void)snprintf(made, 32, "%s%llu", prefix, (unsigned long long)++b->names_n);
    return amqp_cstring_bytes(made);
}

/* An -ok without fields: all those structs are one dummy byte. */
static void answer_plain(struct broker *b, const struct broker_method *m)
{
    char dummy[64] = {0};
    broker_send(b, m->channel, m->id + 1, dummy);
}

static void on_start_ok(struct broker *b, const struct broker_method *m)
{
    const amqp_connection_start_ok_t *ok = m->decoded;
    struct hg_bytes response = hg_amqp_view(ok->response);
    struct hg_bytes password = hg_bytes_str(b->password);
    bool is_external = hg_bytes_eq(hg_amqp_view(ok->mechanism), HG_BYTES("EXTERNAL"));
    if (!is_external &&
        (response.n < password.n ||
         !hg_bytes_eq(hg_bytes_skip(response, response.n - password.n), password))) {
        broker_close_connection(b, AMQP_ACCESS_REFUSED,
                                "ACCESS_REFUSED - Login was refused using authentication mechanism "
                                "PLAIN. For details see the broker logfile.",
                                0);
        return;
    }
    amqp_connection_tune_t tune = {
        .channel_max = b->channel_max, .frame_max = b->frame_max, .heartbeat = b->heartbeat_s};
    broker_send(b, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
}

static void on_tune_ok(struct broker *b, const struct broker_method *m)
{
    const amqp_connection_tune_ok_t *ok = m->decoded;
    HG_CHECK(b->frame_max == 0 || ok->frame_max <= b->frame_max);
    HG_CHECK(b->channel_max == 0 || ok->channel_max <= b->channel_max);
    b->frame_max = b->in.frame_max = ok->frame_max;
    b->channel_max = ok->channel_max;
    b->heartbeat_s = ok->heartbeat;
}

static void on_open(struct broker *b, const struct broker_method *m)
{
    const amqp_connection_open_t *open = m->decoded;
    if (!hg_bytes_eq(hg_amqp_view(open->virtual_host), hg_bytes_str(b->vhost))) {
        broker_close_connection(b, AMQP_NOT_ALLOWED, "NOT_ALLOWED - vhost not found", m->id);
        return;
    }
    b->is_open = true;
    amqp_connection_open_ok_t ok = {.known_hosts = amqp_empty_bytes};
    broker_send(b, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
}

static void on_close(struct broker *b, const struct broker_method *m)
{
    answer_plain(b, m);
    b->is_open = false;
    b->is_done = true;
}

static void on_close_ok(struct broker *b, const struct broker_method *m)
{
    (void)m;
    b->is_done = true;
}

static void on_channel_open(struct broker *b, const struct broker_method *m)
{
    struct broker_channel *ch = &b->channels[m->channel];
    HG_CHECK(ch->state == BROKER_CLOSED && m->channel <= b->channel_max);
    *ch = (struct broker_channel){.state = BROKER_OPEN};
    amqp_channel_open_ok_t ok = {.channel_id = amqp_empty_bytes};
    broker_send(b, m->channel, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
}

static void on_channel_close(struct broker *b, const struct broker_method *m)
{
    drop_content(&b->channels[m->channel]);
    if (b->channels[m->channel].state == BROKER_OPEN) {
        b->channels[m->channel].state = BROKER_CLOSED;
    }
    answer_plain(b, m);
}

static void on_channel_close_ok(struct broker *b, const struct broker_method *m)
{
    HG_CHECK(b->channels[m->channel].state == BROKER_WAITS_CLOSE_OK);
    b->channels[m->channel].state = BROKER_CLOSED;
}

static void on_confirm_select(struct broker *b, const struct broker_method *m)
{
    b->channels[m->channel].is_confirming = true;
    answer_plain(b, m);
}

static void on_exchange_declare(struct broker *b, const struct broker_method *m)
{
    const amqp_exchange_declare_t *declare = m->decoded;
    if (!declare->passive || !refuse_missing(b, m, "exchange", declare->exchange)) {
        answer_plain(b, m);
    }
}

static void on_exchange_bind(struct broker *b, const struct broker_method *m)
{
    const amqp_exchange_bind_t *bind = m->decoded;
    if (!refuse_missing(b, m, "exchange", bind->source)) {
        answer_plain(b, m);
    }
}

static void on_exchange_unbind(struct broker *b, const struct broker_method *m)
{
    amqp_exchange_unbind_ok_t ok = {0};
    broker_send(b, m->channel, AMQP_EXCHANGE_UNBIND_OK_METHOD, &ok); /* not m->id + 1 */
}

static void on_queue_declare(struct broker *b, const struct broker_method *m)
{
    const amqp_queue_declare_t *declare = m->decoded;
    if (declare->passive && refuse_missing(b, m, "queue", declare->queue)) {
        return;
    }
    char made[32];
    amqp_queue_declare_ok_t ok = {.queue = name_or_made(b, declare->queue, "amq.gen-", made)};
    broker_send(b, m->channel, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

static void on_queue_bind(struct broker *b, const struct broker_method *m)
{
    const amqp_queue_bind_t *bind = m->decoded;
    if (!refuse_missing(b, m, "queue", bind->queue) &&
        !refuse_missing(b, m, "exchange", bind->exchange)) {
        answer_plain(b, m);
    }
}

static void on_queue_delete(struct broker *b, const struct broker_method *m)
{
    amqp_queue_delete_ok_t ok = {.message_count = 0};
    broker_send(b, m->channel, m->id + 1, &ok);
}

static void on_consume(struct broker *b, const struct broker_method *m)
{
    const amqp_basic_consume_t *consume = m->decoded;
    if (refuse_missing(b, m, "queue", consume->queue)) {
        return;
    }
    char made[32];
    amqp_basic_consume_ok_t ok = {.consumer_tag =
                                      name_or_made(b, consume->consumer_tag, "amq.ctag-", made)};
    broker_send(b, m->channel, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
}

static void on_consumer_cancel(struct broker *b, const struct broker_method *m)
{
    const amqp_basic_cancel_t *cancel = m->decoded;
    amqp_basic_cancel_ok_t ok = {.consumer_tag = cancel->consumer_tag};
    broker_send(b, m->channel, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
}

static void on_get(struct broker *b, const struct broker_method *m)
{
    const amqp_basic_get_t *get = m->decoded;
    if (!refuse_missing(b, m, "queue", get->queue)) {
        amqp_basic_get_empty_t empty = {.cluster_id = amqp_empty_bytes};
        broker_send(b, m->channel, AMQP_BASIC_GET_EMPTY_METHOD, &empty);
    }
}

static void ignore(struct broker *b, const struct broker_method *m)
{
    (void)b, (void)m;
}

#define AT(type, field) (offsetof(type, field) + 1)
static const struct answer {
    amqp_method_number_t id;
    const char *name;
    void (*handle)(struct broker *b, const struct broker_method *m);
    size_t name_at; /* of the amqp_bytes_t that the log shows, plus one; 0: none */
} answers[] = {
    {AMQP_CONNECTION_START_OK_METHOD, "connection.start-ok", on_start_ok, 0},
    {AMQP_CONNECTION_TUNE_OK_METHOD, "connection.tune-ok", on_tune_ok, 0},
    {AMQP_CONNECTION_OPEN_METHOD, "connection.open", on_open, 0},
    {AMQP_CONNECTION_CLOSE_METHOD, "connection.close", on_close,
     AT(amqp_connection_close_t, reply_text)},
    {AMQP_CONNECTION_CLOSE_OK_METHOD, "connection.close-ok", on_close_ok, 0},
    {AMQP_CHANNEL_OPEN_METHOD, "channel.open", on_channel_open, 0},
    {AMQP_CHANNEL_CLOSE_METHOD, "channel.close", on_channel_close, 0},
    {AMQP_CHANNEL_CLOSE_OK_METHOD, "channel.close-ok", on_channel_close_ok, 0},
    {AMQP_CHANNEL_FLOW_OK_METHOD, "channel.flow-ok", ignore, 0},
    {AMQP_CONFIRM_SELECT_METHOD, "confirm.select", on_confirm_select, 0},
    {AMQP_EXCHANGE_DECLARE_METHOD, "exchange.declare", on_exchange_declare,
     AT(amqp_exchange_declare_t, exchange)},
    {AMQP_EXCHANGE_BIND_METHOD, "exchange.bind", on_exchange_bind,
     AT(amqp_exchange_bind_t, routing_key)},
    {AMQP_EXCHANGE_UNBIND_METHOD, "exchange.unbind", on_exchange_unbind,
     AT(amqp_exchange_unbind_t, routing_key)},
    {AMQP_QUEUE_DECLARE_METHOD, "queue.declare", on_queue_declare, AT(amqp_queue_declare_t, queue)},
    {AMQP_QUEUE_BIND_METHOD, "queue.bind", on_queue_bind, AT(amqp_queue_bind_t, routing_key)},
    {AMQP_QUEUE_UNBIND_METHOD, "queue.unbind", answer_plain, AT(amqp_queue_unbind_t, routing_key)},
    {AMQP_QUEUE_DELETE_METHOD, "queue.delete", on_queue_delete, AT(amqp_queue_delete_t, queue)},
    {AMQP_BASIC_QOS_METHOD, "basic.qos", answer_plain, 0},
    {AMQP_BASIC_CONSUME_METHOD, "basic.consume", on_consume, AT(amqp_basic_consume_t, queue)},
    {AMQP_BASIC_CANCEL_METHOD, "basic.cancel", on_consumer_cancel,
     AT(amqp_basic_cancel_t, consumer_tag)},
    {AMQP_BASIC_CANCEL_OK_METHOD, "basic.cancel-ok", ignore, 0},
    {AMQP_BASIC_GET_METHOD, "basic.get", on_get, AT(amqp_basic_get_t, queue)},
    {AMQP_BASIC_ACK_METHOD, "basic.ack", ignore, 0},
    {AMQP_BASIC_NACK_METHOD, "basic.nack", ignore, 0},
    {AMQP_BASIC_PUBLISH_METHOD, "basic.publish", ignore, AT(amqp_basic_publish_t, routing_key)},
};

static void log_method(struct broker *b, const struct broker_method *m, const struct answer *a)
{
    hg_writer_printf(&b->log, "%u %s", m->channel, a->name);
    if (a->name_at > 0) {
        amqp_bytes_t name;
        memcpy(&name, (const char *)m->decoded + a->name_at - 1, sizeof name);
        hg_writer_printf(&b->log, " %.*s", (int)name.len, (const char *)name.bytes);
    } else if (m->id == AMQP_BASIC_ACK_METHOD || m->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_ack_t *ack = m->decoded; /* a nack starts with the same fields */
        hg_writer_printf(&b->log, " %llu%s", (unsigned long long)ack->delivery_tag,
                         ack->multiple ? " multiple" : "");
    }
    hg_writer_u8(&b->log, '\n');
}

static void answer(struct broker *b, const struct broker_method *m)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (answers[i].id == m->id) {
            log_method(b, m, &answers[i]);
            if (!b->is_mute && (b->on_method == NULL || !b->on_method(b->ctx, b, m))) {
                answers[i].handle(b, m);
            }
            return;
        }
    }
    bool is_sent_by_clients = false;
    HG_CHECK(is_sent_by_clients);
}

/* -- publishes -------------------------------------------------------------------------------- */

static void keep_publish(struct broker *b, uint16_t channel, struct hg_message *m)
{
    if (b->publishes_n == b->publishes_cap) {
        b->publishes_cap = b->publishes_cap == 0 ? 16 : b->publishes_cap * 2;
        b->publishes = hg_realloc(b->publishes, b->publishes_cap * sizeof *b->publishes);
        HG_CHECK(b->publishes != NULL);
    }
    struct broker_channel *ch = &b->channels[channel];
    uint64_t tag = ch->is_confirming ? ++ch->published_n : 0;
    b->publishes[b->publishes_n++] = (struct broker_publish){channel, tag, m};
}

static void end_publish(struct broker *b, uint16_t channel)
{
    struct broker_channel *ch = &b->channels[channel];
    struct hg_bytes content = hg_writer_view(&ch->content);
    void *decoded = NULL;
    HG_CHECK(amqp_decode_method(AMQP_BASIC_PUBLISH_METHOD, &b->pool,
                                hg_amqp_bytes(hg_bytes(content.p + 4, ch->method_n - 4)),
                                &decoded) == AMQP_STATUS_OK);
    amqp_basic_publish_t *publish = decoded;
    struct hg_message_parts parts = {
        .exchange = hg_amqp_view(publish->exchange),
        .routing_key = hg_amqp_view(publish->routing_key),
        .body = ch->body == NULL ? HG_BYTES("") : hg_buf_bytes(ch->body),
        .body_buf = ch->body,
        .is_mandatory = publish->mandatory != 0,
    };
    HG_CHECK(hg_amqp_decode_properties(hg_bytes_skip(content, ch->method_n + 12), &b->pool,
                                       &b->json, &parts.properties) == HG_OK);
    struct hg_message *m = hg_message_new(&parts);
    HG_CHECK(m != NULL);
    struct broker_method method = {channel, AMQP_BASIC_PUBLISH_METHOD, publish};
    keep_publish(b, channel, m);
    answer(b, &method);
    if (ch->state == BROKER_OPEN && !b->is_mute) {
        (void)refuse_missing(b, &method, "exchange", publish->exchange);
    }
    drop_content(ch);
}

static void on_header(struct broker *b, uint16_t channel, struct hg_bytes payload)
{
    struct broker_channel *ch = &b->channels[channel];
    size_t body_n = 0;
    for (int i = 4; i < 12; i++) {
        body_n = body_n << 8 | payload.p[i];
    }
    HG_CHECK(ch->method_n > 0 && hg_writer_n(&ch->content) == ch->method_n);
    hg_writer_bytes(&ch->content, payload);
    if (body_n == 0) {
        end_publish(b, channel);
        return;
    }
    ch->body = hg_buf_new(body_n);
    HG_CHECK(ch->body != NULL);
}

static void on_body(struct broker *b, uint16_t channel, const struct hg_amqp_frame *frame)
{
    struct hg_buf *body = b->channels[channel].body;
    HG_CHECK(body != NULL && frame->payload.n <= body->cap - body->n);
    if (frame->payload.n > 0) {
        memcpy(body->data + body->n, frame->payload.p, frame->payload.n);
        body->n += (uint32_t)frame->payload.n;
    }
    if (frame->is_end && body->n == body->cap) {
        end_publish(b, channel);
    }
}

/* -- secrets: librabbitmq 0.11 does not know connection.update-secret ---------------------------- */

static void on_update_secret(struct broker *b, struct hg_bytes in)
{
    uint64_t secret_n;
    struct hg_bytes secret;
    struct hg_bytes reason;
    HG_CHECK(hg_bytes_take_number(&in, 4, &secret_n) && hg_bytes_take(&in, secret_n, &secret));
    HG_CHECK(in.n > 0 && hg_bytes_take(&in, in.p[0] + 1u, &reason) && in.n == 0);
    hg_writer_printf(&b->log, "0 connection.update-secret %.*s\n", HG_BYTES_FMT(secret));
    if (hg_bytes_eq(secret, hg_bytes_str(b->password))) {
        hg_writer_bytes(&b->out, HG_BYTES("\x01\0\0\0\0\0\x04\0\x0a\0\x47\xce"));
    } else {
        broker_close_connection(b, 530,
                                "NOT_ALLOWED - New secret was refused by one of the backends",
                                BROKER_UPDATE_SECRET);
    }
}

/* -- frames ----------------------------------------------------------------------------------- */

static void on_method_frame(struct broker *b, uint16_t channel, struct hg_bytes payload)
{
    amqp_method_number_t id = (uint32_t)payload.p[0] << 24 | (uint32_t)payload.p[1] << 16 |
                              (uint32_t)payload.p[2] << 8 | payload.p[3];
    struct broker_channel *ch = &b->channels[channel];
    if (ch->state == BROKER_WAITS_CLOSE_OK && id != AMQP_CHANNEL_CLOSE_METHOD &&
        id != AMQP_CHANNEL_CLOSE_OK_METHOD) {
        return;
    }
    HG_CHECK(channel == 0 || ch->state != BROKER_CLOSED || id == AMQP_CHANNEL_OPEN_METHOD);
    HG_CHECK(ch->method_n == 0); /* nothing comes between the frames of a message */
    if (id == AMQP_BASIC_PUBLISH_METHOD) {
        hg_writer_bytes(&ch->content, payload);
        ch->method_n = payload.n;
        return;
    }
    if (id == BROKER_UPDATE_SECRET) {
        on_update_secret(b, hg_bytes_skip(payload, 4));
        return;
    }
    struct broker_method m = {.channel = channel, .id = id};
    HG_CHECK(amqp_decode_method(id, &b->pool, hg_amqp_bytes(hg_bytes_skip(payload, 4)),
                                &m.decoded) == AMQP_STATUS_OK);
    answer(b, &m);
}

static void on_frame(struct broker *b, const struct hg_amqp_frame *frame)
{
    if (frame->type == AMQP_FRAME_HEARTBEAT) {
        b->heartbeats_n++;
        return;
    }
    HG_CHECK(frame->channel < BROKER_CHANNELS);
    bool is_ignored = b->channels[frame->channel].state == BROKER_WAITS_CLOSE_OK;
    if (frame->type == AMQP_FRAME_METHOD) {
        on_method_frame(b, frame->channel, frame->payload);
    } else if (frame->type == AMQP_FRAME_HEADER && !is_ignored) {
        on_header(b, frame->channel, frame->payload);
    } else if (!is_ignored) {
        on_body(b, frame->channel, frame);
    }
    recycle_amqp_pool(&b->pool);
}

static void send_start(struct broker *b)
{
    struct hg_header properties[] = {
        {HG_BYTES("product"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("RabbitMQ")}},
        {HG_BYTES("version"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("3.10.8")}},
        {HG_BYTES("capabilities"),
         {HG_VALUE_JSON, .u.bytes = HG_BYTES("{\"publisher_confirms\":true}")}},
    };
    amqp_connection_start_t start = {
        .version_major = 0,
        .version_minor = 9,
        .mechanisms = amqp_cstring_bytes("PLAIN AMQPLAIN"),
        .locales = amqp_cstring_bytes("en_US"),
    };
    HG_CHECK(hg_amqp_table_make(&b->out_pool, properties, 3, &start.server_properties) == HG_OK);
    broker_send(b, 0, AMQP_CONNECTION_START_METHOD, &start);
    recycle_amqp_pool(&b->out_pool);
}

/* The protocol header, the one thing that is not a frame. */
static struct hg_bytes take_head(struct broker *b, struct hg_bytes in)
{
    size_t missing_n = 8 - hg_writer_n(&b->head);
    size_t n = in.n < missing_n ? in.n : missing_n;
    if (n == 0) {
        return in;
    }
    hg_writer_bytes(&b->head, hg_bytes(in.p, n));
    if (hg_writer_n(&b->head) == 8) {
        HG_CHECK(hg_bytes_eq(hg_writer_view(&b->head), HG_BYTES("AMQP\x00\x00\x09\x01")));
        if (!b->is_mute) {
            send_start(b);
        }
    }
    return hg_bytes_skip(in, n);
}

static void confirm_all(struct broker *b)
{
    for (; b->confirmed_n < b->publishes_n; b->confirmed_n++) {
        const struct broker_publish *p = &b->publishes[b->confirmed_n];
        if (p->delivery_tag > 0 && b->channels[p->channel].state == BROKER_OPEN) {
            broker_ack(b, p->channel, p->delivery_tag, false);
        }
    }
}

void broker_feed(struct broker *b, struct hg_bytes in)
{
    in = take_head(b, in);
    for (;;) {
        struct hg_amqp_frame frame;
        struct hg_error err;
        enum hg_amqp_step step = hg_amqp_decoder_next(&b->in, &in, &frame, &err);
        HG_CHECK(step != HG_AMQP_STEP_FAILED);
        if (step == HG_AMQP_STEP_MORE) {
            break;
        }
        on_frame(b, &frame);
    }
    if (b->has_auto_confirm && !b->is_mute) {
        confirm_all(b);
    }
}
