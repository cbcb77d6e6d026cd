/* SPDX-License-Identifier: Apache-2.0 */
/* What a channel's user asks for: each call encodes one method, or one publish. */
#include "amqp/amqp_channel.h"
#include "amqp/amqp_priv.h"

enum {
    ENCODER_ROOM_BYTES = 512
}; /* what encoding a frame asks for at first is a little more than it takes */

/* Puts the arguments into the scratch pool of the connection, then sends the request: `to` is a
 * field of `method`. */
static enum hg_status request_with(struct hg_amqp_channel *ch, uint64_t cookie,
                                   amqp_method_number_t id, void *method, amqp_table_t *to,
                                   const struct hg_header *arguments, size_t arguments_n)
{
    recycle_amqp_pool(&ch->conn->out_pool);
    enum hg_status status = hg_amqp_table_make(&ch->conn->out_pool, arguments, arguments_n, to);
    return status == HG_OK ? hg_amqp_channel_request(ch, cookie, id, method) : status;
}

enum hg_status hg_amqp_confirm_select(struct hg_amqp_channel *ch, uint64_t cookie)
{
    amqp_confirm_select_t method = {0};
    return hg_amqp_channel_request(ch, cookie, AMQP_CONFIRM_SELECT_METHOD, &method);
}

enum hg_status hg_amqp_exchange_declare(struct hg_amqp_channel *ch, uint64_t cookie,
                                        const struct hg_amqp_exchange_declare *args)
{
    amqp_exchange_declare_t method = {
        .exchange = hg_amqp_bytes(args->name),
        .type = hg_amqp_bytes(args->type),
        .passive = args->is_passive,
        .durable = args->is_durable,
        .auto_delete = args->is_auto_delete,
        .internal = args->is_internal,
    };
    return request_with(ch, cookie, AMQP_EXCHANGE_DECLARE_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_exchange_bind(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_binding *args)
{
    amqp_exchange_bind_t method = {
        .destination = hg_amqp_bytes(args->queue),
        .source = hg_amqp_bytes(args->exchange),
        .routing_key = hg_amqp_bytes(args->routing_key),
    };
    return request_with(ch, cookie, AMQP_EXCHANGE_BIND_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_exchange_unbind(struct hg_amqp_channel *ch, uint64_t cookie,
                                       const struct hg_amqp_binding *args)
{
    amqp_exchange_unbind_t method = {
        .destination = hg_amqp_bytes(args->queue),
        .source = hg_amqp_bytes(args->exchange),
        .routing_key = hg_amqp_bytes(args->routing_key),
    };
    return request_with(ch, cookie, AMQP_EXCHANGE_UNBIND_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_queue_declare(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_queue_declare *args)
{
    amqp_queue_declare_t method = {
        .queue = hg_amqp_bytes(args->name),
        .passive = args->is_passive,
        .durable = args->is_durable,
        .exclusive = args->is_exclusive,
        .auto_delete = args->is_auto_delete,
    };
    return request_with(ch, cookie, AMQP_QUEUE_DECLARE_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_queue_bind(struct hg_amqp_channel *ch, uint64_t cookie,
                                  const struct hg_amqp_binding *args)
{
    amqp_queue_bind_t method = {
        .queue = hg_amqp_bytes(args->queue),
        .exchange = hg_amqp_bytes(args->exchange),
        .routing_key = hg_amqp_bytes(args->routing_key),
    };
    return request_with(ch, cookie, AMQP_QUEUE_BIND_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_queue_unbind(struct hg_amqp_channel *ch, uint64_t cookie,
                                    const struct hg_amqp_binding *args)
{
    amqp_queue_unbind_t method = {
        .queue = hg_amqp_bytes(args->queue),
        .exchange = hg_amqp_bytes(args->exchange),
        .routing_key = hg_amqp_bytes(args->routing_key),
    };
    return request_with(ch, cookie, AMQP_QUEUE_UNBIND_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_queue_delete(struct hg_amqp_channel *ch, uint64_t cookie,
                                    struct hg_bytes queue, bool if_unused, bool if_empty)
{
    amqp_queue_delete_t method = {
        .queue = hg_amqp_bytes(queue),
        .if_unused = if_unused,
        .if_empty = if_empty,
    };
    return hg_amqp_channel_request(ch, cookie, AMQP_QUEUE_DELETE_METHOD, &method);
}

enum hg_status hg_amqp_basic_qos(struct hg_amqp_channel *ch, uint64_t cookie, uint16_t prefetch)
{
    amqp_basic_qos_t method = {.prefetch_count = prefetch}; /* not global: per consumer */
    return hg_amqp_channel_request(ch, cookie, AMQP_BASIC_QOS_METHOD, &method);
}

enum hg_status hg_amqp_basic_consume(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_consume *args)
{
    amqp_basic_consume_t method = {
        .queue = hg_amqp_bytes(args->queue),
        .consumer_tag = hg_amqp_bytes(args->consumer_tag),
        .no_ack = args->is_no_ack,
        .exclusive = args->is_exclusive,
    };
    return request_with(ch, cookie, AMQP_BASIC_CONSUME_METHOD, &method, &method.arguments,
                        args->arguments, args->arguments_n);
}

enum hg_status hg_amqp_basic_cancel(struct hg_amqp_channel *ch, uint64_t cookie,
                                    struct hg_bytes consumer_tag)
{
    amqp_basic_cancel_t method = {.consumer_tag = hg_amqp_bytes(consumer_tag)};
    return hg_amqp_channel_request(ch, cookie, AMQP_BASIC_CANCEL_METHOD, &method);
}

enum hg_status hg_amqp_basic_get(struct hg_amqp_channel *ch, uint64_t cookie, struct hg_bytes queue,
                                 bool is_no_ack)
{
    amqp_basic_get_t method = {.queue = hg_amqp_bytes(queue), .no_ack = is_no_ack};
    return hg_amqp_channel_request(ch, cookie, AMQP_BASIC_GET_METHOD, &method);
}

static enum hg_status send(struct hg_amqp_channel *ch, amqp_method_number_t id, void *method)
{
    return hg_amqp_channel_is_usable(ch) ? hg_amqp_conn_send(ch->conn, ch->number, id, method)
                                         : HG_BROKER_AWAY;
}

enum hg_status hg_amqp_basic_ack(struct hg_amqp_channel *ch, uint64_t delivery_tag,
                                 bool is_multiple)
{
    amqp_basic_ack_t method = {.delivery_tag = delivery_tag, .multiple = is_multiple};
    return send(ch, AMQP_BASIC_ACK_METHOD, &method);
}

enum hg_status hg_amqp_basic_nack(struct hg_amqp_channel *ch, uint64_t delivery_tag,
                                  bool is_multiple, bool is_requeue)
{
    amqp_basic_nack_t method = {
        .delivery_tag = delivery_tag, .multiple = is_multiple, .requeue = is_requeue};
    return send(ch, AMQP_BASIC_NACK_METHOD, &method);
}

enum hg_status hg_amqp_basic_publish(struct hg_amqp_channel *ch, const struct hg_message *m)
{
    struct hg_amqp_conn *c = ch->conn;
    if (!hg_amqp_channel_is_usable(ch)) {
        return HG_BROKER_AWAY;
    }
    size_t n = hg_writer_n(&c->out);
    if (n == 0) { /* as much as the last turn needed, rather than doubling up to it */
        (void)hg_writer_reserve(&c->out, c->taken_n + ENCODER_ROOM_BYTES);
    }
    return hg_amqp_conn_sent(
        c, n, hg_amqp_encode_publish(&c->out, ch->number, m, c->frame_max, &c->out_pool));
}

enum hg_status hg_amqp_publish_begin(struct hg_amqp_channel *ch, const struct hg_message *m,
                                     uint64_t body_bytes)
{
    struct hg_amqp_conn *c = ch->conn;
    if (!hg_amqp_channel_is_usable(ch)) {
        return HG_BROKER_AWAY;
    }
    size_t n = hg_writer_n(&c->out);
    return hg_amqp_conn_sent(
        c, n, hg_amqp_encode_begin(&c->out, ch->number, m, body_bytes, c->frame_max, &c->out_pool));
}

enum hg_status hg_amqp_publish_piece(struct hg_amqp_channel *ch, struct hg_bytes piece)
{
    struct hg_amqp_conn *c = ch->conn;
    if (!hg_amqp_channel_is_usable(ch)) {
        return HG_BROKER_AWAY;
    }
    size_t n = hg_writer_n(&c->out);
    hg_amqp_encode_body(&c->out, ch->number, piece, c->frame_max);
    return hg_amqp_conn_sent(c, n, c->out.failed ? HG_NO_MEMORY : HG_OK);
}
