/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of AMQP 0-9-1 (section 4.2): bytes into frames, methods and messages into bytes. Sans-I/O.
 * Methods and properties are librabbitmq's to decode and encode (amqp_framing.h); frames are ours,
 * so that nothing is kept that is not needed, no length is believed before it was checked, and a
 * body reaches its buffer in one copy. */
#ifndef HG_AMQP_AMQP_CODEC_H
#define HG_AMQP_AMQP_CODEC_H

#include "amqp/amqp_table.h"

#include <amqp_framing.h>

struct hg_amqp_decoder {   /* zero-initialise, then set frame_max */
    uint32_t frame_max;    /* bytes, with frame header and end */
    uint32_t left;         /* of the current frame's payload, not yet seen; body frames only */
    uint8_t head[7];       /* type, channel, size */
    uint8_t head_n;        /* bytes of it seen */
    bool has_frame;        /* the peer has shown that it speaks AMQP 0-9-1 */
    struct hg_writer part; /* the start of a frame that was split; empty between frames */
};

struct hg_amqp_frame {
    uint8_t type; /* AMQP_FRAME_METHOD, _HEADER, _BODY, _HEARTBEAT */
    bool is_end;  /* false: a body frame of which more is to come */
    uint16_t channel;
    struct hg_bytes payload; /* borrowed until the next call */
};

enum hg_amqp_step {
    HG_AMQP_STEP_MORE,  /* all input is taken: call again with more */
    HG_AMQP_STEP_FRAME, /* *out is a frame, or a piece of a body frame */
    /* *err says why (PROTOCOL_ERROR or NO_MEMORY); the decoder is of no further use */
    HG_AMQP_STEP_FAILED
};

/* Takes bytes off the front of *in, up to the end of one frame. Body frames come in pieces, as they
 * arrive; others whole. */
enum hg_amqp_step hg_amqp_decoder_next(struct hg_amqp_decoder *d, struct hg_bytes *in,
                                       struct hg_amqp_frame *out, struct hg_error *err);
void hg_amqp_decoder_close(struct hg_amqp_decoder *d);

/* The properties in a header frame, behind its body size; everything is borrowed from `in`, `pool`
 * and `json`. A headers table nested deeper than HG_AMQP_TABLE_DEPTH is left out: RabbitMQ takes
 * any depth, and to refuse the message would mean to get it again for ever. OK, PROTOCOL_ERROR,
 * NO_MEMORY. */
enum hg_status hg_amqp_decode_properties(struct hg_bytes in, amqp_pool_t *pool,
                                         struct hg_writer *json, struct hg_properties *out);

/* The bytes of a header frame with these properties, at most. *has_json_out: nested headers are
 * among them, whose text has to be parsed to know. */
size_t hg_amqp_header_bytes(const struct hg_properties *p, bool *has_json_out);

/* Each appends whole frames to w. OK; NO_MEMORY; BAD_PROPERTY where a string is over 255 bytes or
 * the frame over frame_max. After a failure w may hold a part: hg_amqp_rollback takes it away. */
enum hg_status hg_amqp_encode_method(struct hg_writer *w, uint16_t channel, amqp_method_number_t id,
                                     void *method, uint32_t frame_max);
/* Header and body frames; `pool` is scratch. */
enum hg_status hg_amqp_encode_content(struct hg_writer *w, uint16_t channel,
                                      const struct hg_message *m, uint32_t frame_max,
                                      amqp_pool_t *pool);
/* The same behind basic.publish. */
enum hg_status hg_amqp_encode_publish(struct hg_writer *w, uint16_t channel,
                                      const struct hg_message *m, uint32_t frame_max,
                                      amqp_pool_t *pool);
/* basic.publish and a header that announces body_bytes; the body follows in pieces. */
enum hg_status hg_amqp_encode_begin(struct hg_writer *w, uint16_t channel,
                                    const struct hg_message *m, uint64_t body_bytes,
                                    uint32_t frame_max, amqp_pool_t *pool);
/* Body frames; w->failed says whether there was memory. */
void hg_amqp_encode_body(struct hg_writer *w, uint16_t channel, struct hg_bytes body,
                         uint32_t frame_max);
void hg_amqp_encode_heartbeat(struct hg_writer *w);

/* w as it was when it held n bytes, failed or not. */
void hg_amqp_rollback(struct hg_writer *w, size_t n);

#endif
