/* SPDX-License-Identifier: Apache-2.0 */
/* Channels of an AMQP connection: requests with replies, publishing, consuming (AMQP 0-9-1 with
 * RabbitMQ's publisher confirms, basic.nack, consumer cancel notification). Requests may be sent
 * one after another without waiting; replies come in order, but for those of consume and cancel, which
 * others may overtake. */
#ifndef HG_AMQP_AMQP_CHANNEL_H
#define HG_AMQP_AMQP_CHANNEL_H

#include "amqp/amqp_conn.h"
#include "message/message.h"

struct hg_amqp_channel;

struct hg_amqp_reply { /* to a request; borrowed during the call */
    enum hg_amqp_reply_kind {
        HG_AMQP_CHANNEL_OPEN_OK,
        HG_AMQP_CONFIRM_OK,
        HG_AMQP_EXCHANGE_OK, /* declare, delete, bind, unbind */
        /* declare: name, message_n, consumer_n; purge, delete: message_n; bind, unbind */
        HG_AMQP_QUEUE_OK,
        HG_AMQP_QOS_OK,
        HG_AMQP_CONSUME_OK, /* name: consumer tag */
        HG_AMQP_CANCEL_OK,  /* name: consumer tag */
        HG_AMQP_GET_OK, /* message, delivery_tag, is_redelivered, message_n: left in the queue */
        HG_AMQP_GET_EMPTY
    } kind;
    struct hg_bytes name;
    uint32_t message_n, consumer_n;
    uint64_t delivery_tag;
    bool is_redelivered;
    struct hg_message *message; /* borrowed: take a reference to keep it */
};

struct hg_amqp_delivery { /* borrowed during the call; exchange and routing key are the message's */
    struct hg_bytes consumer_tag;
    uint64_t delivery_tag;
    bool is_redelivered;
    struct hg_message *message; /* borrowed: take a reference to keep it */
};

struct hg_amqp_return { /* basic.return: came back because `mandatory` found no queue */
    uint16_t code;
    struct hg_bytes text;
    struct hg_message *message; /* borrowed; everything as published */
};

/* Slots may be NULL where a channel's user can never see the event. */
struct hg_amqp_channel_ops {
    /* cookie: the request's. */
    void (*on_reply)(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply);
    /* RabbitMQ closed the channel (close-ok is already in the output); the channel is freed when
     * this returns, its outstanding requests get no reply. */
    void (*on_close)(void *ctx, const struct hg_amqp_close *why);
    void (*on_confirm)(void *ctx, uint64_t delivery_tag, bool is_multiple, bool is_ack);
    /* Before the confirm of the same publish. */
    void (*on_return)(void *ctx, const struct hg_amqp_return *ret);
    void (*on_delivery)(void *ctx, const struct hg_amqp_delivery *delivery);
    /* The consumer's queue is gone. */
    void (*on_cancel)(void *ctx, struct hg_bytes consumer_tag);
};

/* Opens the lowest free channel number and sends channel.open (reply: CHANNEL_OPEN_OK). NULL: no
 * memory or no channel left. */
struct hg_amqp_channel *hg_amqp_channel_open(struct hg_amqp_conn *c,
                                             const struct hg_amqp_channel_ops *ops, void *ctx,
                                             uint64_t cookie);
/* Sends channel.close; no further event comes, the number is free again after close-ok. The pointer
 * is invalid at once. */
void hg_amqp_channel_close(struct hg_amqp_channel *ch);
uint16_t hg_amqp_channel_number(const struct hg_amqp_channel *ch);

struct hg_amqp_exchange_declare {
    struct hg_bytes name, type;
    bool is_passive, is_durable, is_auto_delete, is_internal;
    const struct hg_header *arguments;
    size_t arguments_n;
};
struct hg_amqp_queue_declare {
    struct hg_bytes name; /* empty: RabbitMQ chooses one */
    bool is_passive, is_durable, is_exclusive, is_auto_delete;
    const struct hg_header *arguments; /* a JSON value becomes a nested table or array */
    size_t arguments_n;
};
struct hg_amqp_binding {
    struct hg_bytes queue; /* for exchange bindings the destination exchange */
    struct hg_bytes exchange, routing_key;
    const struct hg_header *arguments;
    size_t arguments_n;
};
struct hg_amqp_consume {
    struct hg_bytes queue, consumer_tag; /* empty tag: RabbitMQ chooses */
    bool is_no_ack, is_exclusive;
    const struct hg_header *arguments;
    size_t arguments_n;
};

/* Each sends one method. OK; NO_MEMORY; BAD_PROPERTY where a name is over 255 bytes, the tables
 * exceed a frame or a JSON argument is none; BROKER_AWAY where the channel or the connection is
 * ending; TOO_MANY where 65,536 requests of this channel wait for their replies. Unless OK nothing
 * was sent. */
enum hg_status hg_amqp_confirm_select(struct hg_amqp_channel *ch, uint64_t cookie);
enum hg_status hg_amqp_exchange_declare(struct hg_amqp_channel *ch, uint64_t cookie,
                                        const struct hg_amqp_exchange_declare *args);
enum hg_status hg_amqp_exchange_bind(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_binding *args);
enum hg_status hg_amqp_exchange_unbind(struct hg_amqp_channel *ch, uint64_t cookie,
                                       const struct hg_amqp_binding *args);
enum hg_status hg_amqp_queue_declare(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_queue_declare *args);
enum hg_status hg_amqp_queue_bind(struct hg_amqp_channel *ch, uint64_t cookie,
                                  const struct hg_amqp_binding *args);
enum hg_status hg_amqp_queue_unbind(struct hg_amqp_channel *ch, uint64_t cookie,
                                    const struct hg_amqp_binding *args);
enum hg_status hg_amqp_queue_delete(struct hg_amqp_channel *ch, uint64_t cookie,
                                    struct hg_bytes queue, bool if_unused, bool if_empty);
/* Per consumer. */
enum hg_status hg_amqp_basic_qos(struct hg_amqp_channel *ch, uint64_t cookie, uint16_t prefetch);
enum hg_status hg_amqp_basic_consume(struct hg_amqp_channel *ch, uint64_t cookie,
                                     const struct hg_amqp_consume *args);
enum hg_status hg_amqp_basic_cancel(struct hg_amqp_channel *ch, uint64_t cookie,
                                    struct hg_bytes consumer_tag);
enum hg_status hg_amqp_basic_get(struct hg_amqp_channel *ch, uint64_t cookie, struct hg_bytes queue,
                                 bool is_no_ack);
enum hg_status hg_amqp_basic_ack(struct hg_amqp_channel *ch, uint64_t delivery_tag,
                                 bool is_multiple);
enum hg_status hg_amqp_basic_nack(struct hg_amqp_channel *ch, uint64_t delivery_tag,
                                  bool is_multiple, bool is_requeue);
/* Sends method, header and as many body frames as frame_max asks for. After confirm_select the n-th
 * publish of the channel has delivery tag n, from 1. */
enum hg_status hg_amqp_basic_publish(struct hg_amqp_channel *ch, const struct hg_message *m);
/* The same in pieces: method and header of a message without a body, then body_bytes in as many
 * calls as one likes. Until then nothing else may be sent on the channel, not even its end: RabbitMQ
 * closes the connection over it (505), so who gives up half-way closes that. */
enum hg_status hg_amqp_publish_begin(struct hg_amqp_channel *ch, const struct hg_message *m,
                                     uint64_t body_bytes);
enum hg_status hg_amqp_publish_piece(struct hg_amqp_channel *ch, struct hg_bytes piece);
/* Messages that come on this channel are shown without their bodies, which are not kept. */
void hg_amqp_channel_drop_bodies(struct hg_amqp_channel *ch);

/* NULL if RabbitMQ will take this publish, else static text: what would make it close the channel
 * or the connection (expiration not digits or past 2^32 - 1 ms, names over 255 bytes, a property
 * too long, headers that do not fit one frame, CC or BCC that is no array, a body over
 * max_body_bytes, user_id other than `user`, which may be empty for "never allowed"). */
const char *hg_amqp_check_publish(const struct hg_message_parts *parts, struct hg_bytes user,
                                  uint32_t frame_max, uint64_t max_body_bytes);

#endif
