/* SPDX-License-Identifier: Apache-2.0 */
/* What amqp_conn.c, amqp_channel.c and amqp_request.c share; nobody else includes it. */
#ifndef HG_AMQP_AMQP_PRIV_H
#define HG_AMQP_AMQP_PRIV_H

#include "amqp/amqp_channel.h"
#include "amqp/amqp_codec.h"
#include "base/list.h"

enum hg_amqp_conn_state {
    HG_AMQP_NEW,
    HG_AMQP_WAIT_START,
    HG_AMQP_WAIT_TUNE,
    HG_AMQP_WAIT_OPEN_OK,
    HG_AMQP_OPEN,
    HG_AMQP_WAIT_CLOSE_OK, /* we asked for it; everything but the answer is ignored */
    HG_AMQP_ENDED          /* `why` says it; on_close is told by the outermost call */
};

struct hg_amqp_conn {
    const struct hg_amqp_conn_ops *ops;
    void *ctx;
    enum hg_amqp_conn_state state;
    uint16_t depth; /* calls under way that may tell on_close at their end */
    bool has_told;  /* on_close was called */

    uint32_t frame_max; /* bytes; the wish until negotiated, as are the next two */
    uint16_t channel_max, heartbeat_s;
    size_t max_body_bytes;
    bool is_external;
    char *vhost, *user, *password, *name;
    unsigned secrets_n; /* sent by update-secret and not answered */

    struct hg_amqp_decoder in;
    struct hg_writer out;
    size_t taken_n;        /* bytes of output that were taken last, at most TAKEN_MAX */
    amqp_pool_t in_pool;   /* what the frame being handled was decoded into */
    amqp_pool_t out_pool;  /* scratch of one encoding */
    struct hg_writer json; /* text of nested headers of the message being handled */

    struct hg_amqp_channel **channels; /* by number; [0] is never used */
    size_t channels_cap;
    uint16_t free_hint; /* no lower number is free; at least 1 */

    uint64_t now_ms;      /* the latest we were told */
    uint64_t heard_ms;    /* last input */
    uint64_t taken_ms;    /* last output taken */
    uint64_t deadline_ms; /* of the handshake or of close-ok; 0: none */

    struct hg_amqp_close why;
    char why_text[512];
    char server[64];
};

/* -- amqp_conn.c, for the channels ------------------------------------------------------------ */

/* Appends a method; after a failure the output is as before. BROKER_AWAY when the connection has
 * ended or is closing. */
enum hg_status hg_amqp_conn_send(struct hg_amqp_conn *c, uint16_t channel, amqp_method_number_t id,
                                 void *method);
/* For methods that must not get lost: no memory ends the connection. */
void hg_amqp_conn_must_send(struct hg_amqp_conn *c, uint16_t channel, amqp_method_number_t id,
                            void *method);
/* To be called around every use of c->out: rolls back unless OK, tells on_output if it was empty
 * before. */
enum hg_status hg_amqp_conn_sent(struct hg_amqp_conn *c, size_t n_before, enum hg_status status);
/* The broker broke the protocol: tells it (reply code), then ends with PROTOCOL_ERROR. */
void hg_amqp_conn_fail(struct hg_amqp_conn *c, uint16_t code, const char *fmt, ...) HG_PRINTF(3, 4);
void hg_amqp_conn_end(struct hg_amqp_conn *c, const struct hg_amqp_close *why);
void hg_amqp_conn_end_no_memory(struct hg_amqp_conn *c);
/* The method in a frame's payload, decoded into in_pool; NULL after having ended the connection. */
void *hg_amqp_conn_decode(struct hg_amqp_conn *c, struct hg_bytes payload);
enum hg_status hg_amqp_status_of_code(uint16_t code, struct hg_bytes text, uint16_t class_id,
                                      uint16_t method_id);

static inline amqp_method_number_t hg_amqp_method_id(struct hg_bytes payload)
{
    return (uint32_t)payload.p[0] << 24 | (uint32_t)payload.p[1] << 16 |
           (uint32_t)payload.p[2] << 8 | payload.p[3];
}

/* -- amqp_channel.c --------------------------------------------------------------------------- */

enum { HG_AMQP_REQUESTS_MAX = 65536 };

struct hg_amqp_request {
    uint64_t cookie;
    amqp_method_number_t reply; /* the method that answers it */
};

struct hg_amqp_content { /* a message under way: method, header and body frames */
    enum { HG_AMQP_CONTENT_NONE, HG_AMQP_CONTENT_HEADER, HG_AMQP_CONTENT_BODY } wait;
    struct hg_writer meta;     /* the method's payload, the header's, and a small body */
    size_t method_n, header_n; /* bytes of the former two */
    struct hg_buf *body;       /* a large one; NULL if empty, small, or not kept */
    uint64_t left;             /* bytes of it to come */
};

struct hg_amqp_channel {
    struct hg_amqp_conn *conn;
    const struct hg_amqp_channel_ops *ops;
    void *ctx;
    uint16_t number;
    bool is_closing; /* by us: no events any more, freed by close-ok */
    bool is_closed;  /* by RabbitMQ: on_close is under way */
    bool drops_bodies;

    struct hg_amqp_request *requests; /* ring, oldest at requests_head */
    uint32_t requests_cap;            /* 0 or a power of two */
    uint32_t requests_head, requests_n;

    struct hg_amqp_content content;
};

/* A frame with a channel number other than 0. */
void hg_amqp_channel_frame(struct hg_amqp_conn *c, const struct hg_amqp_frame *frame);
void hg_amqp_channels_free(struct hg_amqp_conn *c);
/* Sends a request that method id + 1 answers (its -ok, in all that we ask for). */
enum hg_status hg_amqp_channel_request(struct hg_amqp_channel *ch, uint64_t cookie,
                                       amqp_method_number_t id, void *method);
static inline bool hg_amqp_channel_is_usable(const struct hg_amqp_channel *ch)
{
    return ch->conn->state == HG_AMQP_OPEN && !ch->is_closing && !ch->is_closed;
}

#endif
