/* SPDX-License-Identifier: Apache-2.0 */
/* One AMQP 0-9-1 client connection to RabbitMQ, sans-I/O: bytes and the time go in, bytes and
 * events come out. It knows the handshake (PLAIN, EXTERNAL), heartbeats both ways,
 * connection.blocked, renewed secrets and the channels (amqp_channel.h). librabbitmq decodes and encodes methods;
 * frames, bodies and memory are ours. Belongs to one worker.
 *
 * Life: new -> start (writes the protocol header) -> on_open -> … -> on_close (once, always the
 * last event) -> free. No event but on_output is delivered from inside a call other than feed,
 * tick, close and lost. An ops function may call anything but hg_amqp_conn_free and _feed; an end
 * that it causes is told when the outermost call returns. Where memory ends in a call that cannot
 * say so, the next feed or tick ends the connection with NO_MEMORY. */
#ifndef HG_AMQP_AMQP_CONN_H
#define HG_AMQP_AMQP_CONN_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

struct hg_amqp_conn;

/* Why a connection or a channel ended; texts are borrowed during the call. */
struct hg_amqp_close {
    /* BROKER_AWAY, BAD_LOGIN, PROTOCOL_ERROR, NO_MEMORY, CLOSED (asked by us), NO_EXCHANGE and
     * NO_QUEUE (404), NOT_ALLOWED (403), REFUSED (405, 406, 530, 540) */
    enum hg_status status;
    uint16_t code;                /* AMQP reply code, 0 if RabbitMQ sent none */
    struct hg_bytes text;         /* RabbitMQ's reason, or ours */
    uint16_t class_id, method_id; /* of the method that failed, 0 if unknown */
};

struct hg_amqp_conn_config { /* copied by hg_amqp_conn_new */
    const char *vhost, *user, *password;
    bool is_external;      /* SASL EXTERNAL instead of PLAIN */
    const char *name;      /* connection_name shown in RabbitMQ */
    uint16_t heartbeat_s;  /* wished for; RabbitMQ's, if smaller; 0 switches off */
    uint32_t frame_max;    /* bytes, wished for; 131072 is RabbitMQ's default */
    uint16_t channel_max;  /* wished for; 2047 is RabbitMQ's default */
    size_t max_body_bytes; /* a delivery over this is a protocol error */
};

struct hg_amqp_conn_ops {
    /* open-ok: channels may be opened now, not before. */
    void (*on_open)(void *ctx);
    /* The last event. The channels are gone too, without an event of their own: their pointers are
     * invalid when this returns. */
    void (*on_close)(void *ctx, const struct hg_amqp_close *why);
    void (*on_blocked)(void *ctx, bool is_blocked, struct hg_bytes reason);
    /* The oldest hg_amqp_conn_update_secret was taken; may be NULL. */
    void (*on_secret)(void *ctx);
    /* Output went from empty to not empty: take it before the loop sleeps. May come from any
     * call. */
    void (*on_output)(void *ctx);
};

/* NULL when there is no memory. ops and ctx must outlive the connection. */
struct hg_amqp_conn *hg_amqp_conn_new(const struct hg_amqp_conn_config *config,
                                      const struct hg_amqp_conn_ops *ops, void *ctx);
/* Frees it and its channels, without events. */
void hg_amqp_conn_free(struct hg_amqp_conn *c);

/* Writes the protocol header; call once, when the transport is connected. */
void hg_amqp_conn_start(struct hg_amqp_conn *c, uint64_t now_ms);
/* Bytes from RabbitMQ, split anywhere; all of them are taken. After on_close further input is
 * ignored. */
void hg_amqp_conn_feed(struct hg_amqp_conn *c, struct hg_bytes in, uint64_t now_ms);
/* Sends a heartbeat when one is due and ends the connection when nothing was heard for two
 * intervals (or the handshake took over 10 s). Returns the time of the next tick that is needed,
 * ms. */
uint64_t hg_amqp_conn_tick(struct hg_amqp_conn *c, uint64_t now_ms);
/* What is to be written, now the caller's; NULL if nothing. Every byte that was encoded since the
 * last call, in order. */
struct hg_buf *hg_amqp_conn_take_output(struct hg_amqp_conn *c);
/* Bytes waiting in output. */
size_t hg_amqp_conn_output_n(const struct hg_amqp_conn *c);

/* Sends connection.close; what still arrives is ignored. on_close (CLOSED) follows with close-ok,
 * or at the latest by tick after 5 s; at once where the connection was not open yet. */
void hg_amqp_conn_close(struct hg_amqp_conn *c, uint64_t now_ms);
/* The transport broke: on_close with BROKER_AWAY and `why`, now. */
void hg_amqp_conn_lost(struct hg_amqp_conn *c, const char *why);

/* Gives RabbitMQ a new password or token for what is logged in already (connection.update-secret):
 * on_secret, or on_close where it is refused. OK; BROKER_AWAY while not open; BAD_PROPERTY where it
 * exceeds a frame; NO_MEMORY. */
enum hg_status hg_amqp_conn_update_secret(struct hg_amqp_conn *c, struct hg_bytes secret);
/* Whether one has been given and neither taken nor refused; inside on_close: what it was about. */
bool hg_amqp_conn_awaits_secret(const struct hg_amqp_conn *c);

bool hg_amqp_conn_is_open(const struct hg_amqp_conn *c);
/* Negotiated; 0 before on_open. */
uint32_t hg_amqp_conn_frame_max(const struct hg_amqp_conn *c);
uint16_t hg_amqp_conn_channel_max(const struct hg_amqp_conn *c);
uint16_t hg_amqp_conn_heartbeat_s(const struct hg_amqp_conn *c);
/* server-properties' product and version, "RabbitMQ 3.10.8"; empty before on_open. */
struct hg_bytes hg_amqp_conn_server_version(const struct hg_amqp_conn *c);

#endif
