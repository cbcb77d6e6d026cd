/* SPDX-License-Identifier: Apache-2.0 */
/* RabbitMQ's side of one AMQP 0-9-1 connection over byte buffers, for tests without sockets. It
 * answers what it is asked by itself; what it must not do by itself (confirm, deliver, return,
 * close, say nothing) the test tells it to do. */
#ifndef HG_SEAM_BROKER_H
#define HG_SEAM_BROKER_H

#include "amqp/amqp_codec.h"
#include "message/message.h"

enum { BROKER_CHANNELS = 256, BROKER_NAMES = 8, BROKER_UPDATE_SECRET = 0x000A0046 };

struct broker_method { /* from the client; borrowed during the call */
    uint16_t channel;
    amqp_method_number_t id;
    void *decoded; /* librabbitmq's struct of this method */
};

struct broker_publish {
    uint16_t channel;
    uint64_t delivery_tag;      /* counts from 1 on each channel; 0 without confirm.select */
    struct hg_message *message; /* the broker's reference */
};

struct broker_channel {
    enum { BROKER_CLOSED, BROKER_OPEN, BROKER_WAITS_CLOSE_OK } state;
    bool is_confirming;
    uint64_t published_n;
    struct hg_writer
        content;     /* basic.publish's payload, then the header's, of a message under way */
    size_t method_n; /* bytes of the former; 0: no message under way */
    struct hg_buf *body;
};

struct broker {
    /* The test's to set, before or while it talks. */
    uint16_t heartbeat_s, channel_max;
    uint32_t frame_max;
    /* "/" and "guest"; anything else is refused, the latter also where it is renewed */
    const char *vhost, *password;
    /* exchanges and queues that do not exist: 404 closes the channel */
    const char *missing[BROKER_NAMES];
    bool has_auto_confirm; /* confirms each publish, one by one, at the end of broker_feed */
    bool is_mute;          /* takes everything in, answers nothing */
    /* Sees every method first (a publish: once its body is there); true: dealt with, no answer by
     * the broker. */
    bool (*on_method)(void *ctx, struct broker *b, const struct broker_method *method);
    void *ctx;

    /* The test's to look at. */
    bool is_open; /* between connection.open and connection.close */
    bool is_done; /* connection.close-ok was sent or has come */
    /* a line a method: channel, name as in AMQP's specification, name of the thing */
    struct hg_writer log;
    struct broker_publish *publishes; /* all since broker_open or broker_forget */
    size_t publishes_n;
    size_t heartbeats_n;

    /* Its own. */
    struct broker_channel channels[BROKER_CHANNELS];
    struct hg_amqp_decoder in;
    struct hg_writer head; /* the protocol header, until complete */
    struct hg_writer out;
    amqp_pool_t pool, out_pool;
    struct hg_writer json;
    size_t publishes_cap;
    size_t confirmed_n; /* publishes that has_auto_confirm has dealt with */
    uint64_t names_n;   /* of queues and consumers, made up */
};

void broker_open(struct broker *b);
void broker_close(struct broker *b);

/* Bytes from the client, split anywhere. Aborts the test where they are not AMQP 0-9-1 in an order
 * that RabbitMQ takes. */
void broker_feed(struct broker *b, struct hg_bytes in);
/* What it has to say, now the caller's; NULL if nothing. */
struct hg_buf *broker_take_output(struct broker *b);
/* Forgets the publishes and the log. */
void broker_forget(struct broker *b);

/* Each says one thing on a channel. */
void broker_send(struct broker *b, uint16_t channel, amqp_method_number_t id, void *method);
void broker_ack(struct broker *b, uint16_t channel, uint64_t tag, bool is_multiple);
void broker_nack(struct broker *b, uint16_t channel, uint64_t tag, bool is_multiple);
/* basic.return of a message (312, NO_ROUTE). */
void broker_return(struct broker *b, uint16_t channel, const struct hg_message *m);
void broker_deliver(struct broker *b, uint16_t channel, const char *consumer_tag, uint64_t tag,
                    bool is_redelivered, const struct hg_message *m);
void broker_get_ok(struct broker *b, uint16_t channel, uint64_t tag, uint32_t left_n,
                   const struct hg_message *m);
/* basic.cancel: the consumer's queue is gone. */
void broker_cancel(struct broker *b, uint16_t channel, const char *consumer_tag);
/* channel.close; `culprit`: the method that is blamed, 0 for none. */
void broker_close_channel(struct broker *b, uint16_t channel, uint16_t code, const char *text,
                          amqp_method_number_t culprit);
void broker_close_connection(struct broker *b, uint16_t code, const char *text,
                             amqp_method_number_t culprit);
void broker_block(struct broker *b, const char *reason); /* NULL: unblocks */
void broker_heartbeat(struct broker *b);

#endif
