/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of AMQP 0-9-1: bytes into frames, methods and messages into bytes. */
#include "amqp/amqp_codec.h"

enum {
    HEAD_BYTES = 7,
    FRAME_BYTES = 8, /* head and end octet */
    FIRST_ROOM_BYTES =
        256 /* most methods and properties fit; others are encoded again with twice the room */
};

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* -- decoding --------------------------------------------------------------------------------- */

/* What answers instead of RabbitMQ, by its first bytes; NULL if it may be AMQP 0-9-1. */
static const char *stranger(const uint8_t *head)
{
    if (memcmp(head, "AMQP", 4) == 0) {
        return "the server answered with another AMQP version's header: it does not speak 0-9-1";
    }
    if (memcmp(head, "HTTP/", 5) == 0) {
        return "this is not an AMQP server: it answered in HTTP";
    }
    if ((head[0] == 0x15 || head[0] == 0x16) && head[1] == 3) {
        return "this is not a plain AMQP port: it answered in TLS";
    }
    bool is_start = head[0] == AMQP_FRAME_METHOD && be16(head + 1) == 0;
    return is_start ? NULL : "this is not an AMQP server: it answered with something else";
}

static const char *check_head(const struct hg_amqp_decoder *d)
{
    const char *who = d->has_frame ? NULL : stranger(d->head);
    if (who != NULL) {
        return who;
    }
    uint32_t payload_n = be32(d->head + 3);
    if (payload_n > d->frame_max - FRAME_BYTES) {
        return "a frame is larger than the negotiated frame-max";
    }
    switch (d->head[0]) {
    case AMQP_FRAME_METHOD: return payload_n < 4 ? "a method frame is too short" : NULL;
    case AMQP_FRAME_HEADER: return payload_n < 14 ? "a content header frame is too short" : NULL;
    case AMQP_FRAME_BODY: return NULL;
    case AMQP_FRAME_HEARTBEAT:
        return payload_n > 0 || be16(d->head + 1) != 0 ? "a heartbeat frame is not empty" : NULL;
    default: return "a frame has an unknown type";
    }
}

static struct hg_bytes take(struct hg_bytes *in, size_t n)
{
    struct hg_bytes taken = hg_bytes(in->p, n < in->n ? n : in->n);
    *in = hg_bytes_skip(*in, taken.n);
    return taken;
}

static enum hg_amqp_step fail(struct hg_error *err, enum hg_status status, const char *rule)
{
    (void)hg_error_set(err, status, rule, 0);
    return HG_AMQP_STEP_FAILED;
}

static enum hg_amqp_step end_frame(struct hg_amqp_decoder *d, uint8_t octet,
                                   struct hg_amqp_frame *out, struct hg_error *err)
{
    if (octet != AMQP_FRAME_END) {
        return fail(err, HG_PROTOCOL_ERROR, "a frame does not end in 0xCE");
    }
    out->is_end = true;
    d->head_n = 0;
    d->has_frame = true;
    return HG_AMQP_STEP_FRAME;
}

/* A frame other than a body frame: borrowed from the input if it lies there in one piece, gathered
 * otherwise. */
static enum hg_amqp_step next_whole(struct hg_amqp_decoder *d, struct hg_bytes *in,
                                    struct hg_amqp_frame *out, struct hg_error *err)
{
    size_t whole_n = (size_t)d->left + 1;
    size_t part_n = hg_writer_n(&d->part);
    struct hg_bytes got = take(in, whole_n - part_n);
    if (got.n < whole_n) {
        hg_writer_bytes(&d->part, got);
        if (d->part.failed) {
            return fail(err, HG_NO_MEMORY, "no memory for a frame");
        }
        got = hg_writer_view(&d->part);
        if (got.n < whole_n) {
            return HG_AMQP_STEP_MORE;
        }
    }
    out->payload = hg_bytes(got.p, d->left);
    return end_frame(d, got.p[d->left], out, err);
}

static enum hg_amqp_step next_piece(struct hg_amqp_decoder *d, struct hg_bytes *in,
                                    struct hg_amqp_frame *out, struct hg_error *err)
{
    out->payload = take(in, d->left);
    out->is_end = false;
    d->left -= (uint32_t)out->payload.n;
    if (d->left == 0 && in->n > 0) {
        return end_frame(d, take(in, 1).p[0], out, err);
    }
    return out->payload.n > 0 ? HG_AMQP_STEP_FRAME : HG_AMQP_STEP_MORE;
}

enum hg_amqp_step hg_amqp_decoder_next(struct hg_amqp_decoder *d, struct hg_bytes *in,
                                       struct hg_amqp_frame *out, struct hg_error *err)
{
    if (d->head_n < HEAD_BYTES) {
        if (d->head_n == 0) {
            hg_writer_close(&d->part); /* until now the caller may have looked at it */
        }
        struct hg_bytes got = take(in, (size_t)HEAD_BYTES - d->head_n);
        if (got.n > 0) {
            memcpy(d->head + d->head_n, got.p, got.n);
            d->head_n = (uint8_t)(d->head_n + got.n);
        }
        if (d->head_n < HEAD_BYTES) {
            return HG_AMQP_STEP_MORE;
        }
        const char *rule = check_head(d);
        if (rule != NULL) {
            return fail(err, HG_PROTOCOL_ERROR, rule);
        }
        d->left = be32(d->head + 3);
    }
    out->type = d->head[0];
    out->channel = be16(d->head + 1);
    return out->type == AMQP_FRAME_BODY ? next_piece(d, in, out, err) : next_whole(d, in, out, err);
}

void hg_amqp_decoder_close(struct hg_amqp_decoder *d)
{
    hg_writer_close(&d->part);
}

/* Looks at the headers table before librabbitmq does: *in loses it if it is nested too deep. */
static enum hg_status check_headers(struct hg_bytes *in, amqp_pool_t *pool)
{
    uint16_t flags = in->n < 2 ? 1 : be16(in->p);
    if ((flags & 1) != 0) { /* a second word of flags: basic has none (section 4.2.6.1) */
        return HG_PROTOCOL_ERROR;
    }
    if ((flags & AMQP_BASIC_HEADERS_FLAG) == 0) {
        return HG_OK;
    }
    size_t at = 2;
    for (unsigned flag = AMQP_BASIC_CONTENT_TYPE_FLAG; flag > AMQP_BASIC_HEADERS_FLAG; flag >>= 1) {
        if ((flags & flag) != 0) {
            at += at < in->n ? (size_t)1 + in->p[at] : 1;
        }
    }
    size_t table_n = 0;
    enum hg_amqp_table_shape shape =
        at > in->n ? HG_AMQP_TABLE_BROKEN : hg_amqp_table_check(hg_bytes_skip(*in, at), &table_n);
    if (shape != HG_AMQP_TABLE_DEEP) {
        return shape == HG_AMQP_TABLE_SOUND ? HG_OK : HG_PROTOCOL_ERROR;
    }
    uint8_t *p = amqp_pool_alloc(pool, in->n - table_n);
    if (p == NULL) {
        return HG_NO_MEMORY;
    }
    memcpy(p, in->p, at);
    memcpy(p + at, in->p + at + table_n, in->n - at - table_n);
    p[0] &= (uint8_t) ~(AMQP_BASIC_HEADERS_FLAG >> 8);
    *in = hg_bytes(p, in->n - table_n);
    return HG_OK;
}

static struct hg_bytes property(const amqp_basic_properties_t *from, amqp_flags_t flag,
                                amqp_bytes_t value)
{
    return (from->_flags & flag) != 0 ? hg_amqp_view(value) : (struct hg_bytes){NULL, 0};
}

static void read_properties(const amqp_basic_properties_t *from, struct hg_properties *out)
{
    out->content_type = property(from, AMQP_BASIC_CONTENT_TYPE_FLAG, from->content_type);
    out->content_encoding =
        property(from, AMQP_BASIC_CONTENT_ENCODING_FLAG, from->content_encoding);
    out->correlation_id = property(from, AMQP_BASIC_CORRELATION_ID_FLAG, from->correlation_id);
    out->reply_to = property(from, AMQP_BASIC_REPLY_TO_FLAG, from->reply_to);
    out->expiration = property(from, AMQP_BASIC_EXPIRATION_FLAG, from->expiration);
    out->message_id = property(from, AMQP_BASIC_MESSAGE_ID_FLAG, from->message_id);
    out->type = property(from, AMQP_BASIC_TYPE_FLAG, from->type);
    out->user_id = property(from, AMQP_BASIC_USER_ID_FLAG, from->user_id);
    out->app_id = property(from, AMQP_BASIC_APP_ID_FLAG, from->app_id);
    if ((from->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0) {
        out->has_timestamp = true;
        out->timestamp_s = from->timestamp;
    }
    if ((from->_flags & AMQP_BASIC_PRIORITY_FLAG) != 0) {
        out->has_priority = true;
        out->priority = from->priority;
    }
    if ((from->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) != 0) {
        out->delivery_mode = from->delivery_mode == 2 ? 2 : 1; /* RabbitMQ takes others as 1 */
    }
}

enum hg_status hg_amqp_decode_properties(struct hg_bytes in, amqp_pool_t *pool,
                                         struct hg_writer *json, struct hg_properties *out)
{
    *out = (struct hg_properties){0};
    enum hg_status status = check_headers(&in, pool);
    if (status != HG_OK) {
        return status;
    }
    void *decoded = NULL;
    int res = amqp_decode_properties(AMQP_BASIC_CLASS, pool, hg_amqp_bytes(in), &decoded);
    if (res != AMQP_STATUS_OK) {
        return res == AMQP_STATUS_NO_MEMORY ? HG_NO_MEMORY : HG_PROTOCOL_ERROR;
    }
    const amqp_basic_properties_t *from = decoded;
    read_properties(from, out);
    if ((from->_flags & AMQP_BASIC_HEADERS_FLAG) != 0) {
        if (!hg_amqp_table_read(&from->headers, pool, json, &out->headers)) {
            return HG_NO_MEMORY;
        }
        out->headers_n = (size_t)from->headers.num_entries;
    }
    return HG_OK;
}

/* -- encoding --------------------------------------------------------------------------------- */

static void write_head(struct hg_writer *w, uint8_t type, uint16_t channel, size_t payload_n)
{
    uint8_t *p = hg_writer_reserve(w, HEAD_BYTES);
    if (p != NULL) {
        p[0] = type;
        p[1] = (uint8_t)(channel >> 8);
        p[2] = (uint8_t)channel;
        for (int i = 0; i < 4; i++) {
            p[3 + i] = (uint8_t)(payload_n >> (24 - 8 * i));
        }
        hg_writer_commit(w, HEAD_BYTES);
    }
}

/* What a frame carries behind its head: 4 or 12 bytes of ours, and what librabbitmq encodes. */
struct payload {
    uint8_t type;
    uint8_t prefix_n;
    uint8_t prefix[12];
    amqp_method_number_t method; /* AMQP_FRAME_METHOD only */
    void *decoded;
};

/* librabbitmq cannot say how much room it needs: doubles it until it is enough, or more than a
 * frame may have. */
static enum hg_status write_frame(struct hg_writer *w, uint16_t channel,
                                  const struct payload *payload, uint32_t frame_max)
{
    size_t start = hg_writer_n(w);
    size_t most = frame_max - FRAME_BYTES - payload->prefix_n;
    for (size_t room = FIRST_ROOM_BYTES;; room *= 2) {
        room = room < most ? room : most;
        write_head(w, payload->type, channel, 0);
        hg_writer_bytes(w, hg_bytes(payload->prefix, payload->prefix_n));
        uint8_t *p = hg_writer_reserve(w, room + 1);
        if (p == NULL) {
            return HG_NO_MEMORY;
        }
        amqp_bytes_t to = {room, p};
        int n = payload->type == AMQP_FRAME_METHOD
                    ? amqp_encode_method(payload->method, payload->decoded, to)
                    : amqp_encode_properties(AMQP_BASIC_CLASS, payload->decoded, to);
        if (n >= 0) {
            p[n] = AMQP_FRAME_END;
            hg_writer_commit(w, (size_t)n + 1);
            uint8_t *size = w->buf->data + start + 3;
            size_t payload_n = payload->prefix_n + (size_t)n;
            for (int i = 0; i < 4; i++) {
                size[i] = (uint8_t)(payload_n >> (24 - 8 * i));
            }
            return HG_OK;
        }
        if (room == most) {
            return HG_BAD_PROPERTY;
        }
        hg_amqp_rollback(w, start);
    }
}

enum hg_status hg_amqp_encode_method(struct hg_writer *w, uint16_t channel, amqp_method_number_t id,
                                     void *method, uint32_t frame_max)
{
    struct payload payload = {
        .type = AMQP_FRAME_METHOD,
        .prefix_n = 4,
        .prefix = {(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id},
        .method = id,
        .decoded = method};
    return write_frame(w, channel, &payload, frame_max);
}

static void set_property(amqp_basic_properties_t *to, amqp_flags_t flag, amqp_bytes_t *field,
                         struct hg_bytes value)
{
    if (value.n > 0) {
        *field = hg_amqp_bytes(value);
        to->_flags |= flag;
    }
}

static enum hg_status make_properties(const struct hg_properties *from, amqp_pool_t *pool,
                                      amqp_basic_properties_t *to)
{
    set_property(to, AMQP_BASIC_CONTENT_TYPE_FLAG, &to->content_type, from->content_type);
    set_property(to, AMQP_BASIC_CONTENT_ENCODING_FLAG, &to->content_encoding,
                 from->content_encoding);
    set_property(to, AMQP_BASIC_CORRELATION_ID_FLAG, &to->correlation_id, from->correlation_id);
    set_property(to, AMQP_BASIC_REPLY_TO_FLAG, &to->reply_to, from->reply_to);
    set_property(to, AMQP_BASIC_EXPIRATION_FLAG, &to->expiration, from->expiration);
    set_property(to, AMQP_BASIC_MESSAGE_ID_FLAG, &to->message_id, from->message_id);
    set_property(to, AMQP_BASIC_TYPE_FLAG, &to->type, from->type);
    set_property(to, AMQP_BASIC_USER_ID_FLAG, &to->user_id, from->user_id);
    set_property(to, AMQP_BASIC_APP_ID_FLAG, &to->app_id, from->app_id);
    to->timestamp = from->timestamp_s;
    to->_flags |= from->has_timestamp ? AMQP_BASIC_TIMESTAMP_FLAG : 0;
    to->priority = from->priority;
    to->_flags |= from->has_priority ? AMQP_BASIC_PRIORITY_FLAG : 0;
    to->delivery_mode = from->delivery_mode;
    to->_flags |= from->delivery_mode != 0 ? AMQP_BASIC_DELIVERY_MODE_FLAG : 0;
    if (from->headers_n == 0) {
        return HG_OK;
    }
    to->_flags |= AMQP_BASIC_HEADERS_FLAG;
    return hg_amqp_table_make(pool, from->headers, from->headers_n, &to->headers);
}

static enum hg_status write_header(struct hg_writer *w, uint16_t channel,
                                   const struct hg_message *m, uint64_t body_n, uint32_t frame_max,
                                   amqp_pool_t *pool)
{
    amqp_basic_properties_t properties = {0};
    enum hg_status status = make_properties(hg_message_properties(m), pool, &properties);
    if (status != HG_OK) {
        return status;
    }
    struct payload payload = {.type = AMQP_FRAME_HEADER,
                              .prefix_n = 12,
                              .prefix = {0, AMQP_BASIC_CLASS}, /* weight 0 */
                              .decoded = &properties};
    for (int i = 0; i < 8; i++) {
        payload.prefix[4 + i] = (uint8_t)(body_n >> (56 - 8 * i));
    }
    return write_frame(w, channel, &payload, frame_max);
}

void hg_amqp_encode_body(struct hg_writer *w, uint16_t channel, struct hg_bytes body,
                         uint32_t frame_max)
{
    size_t most = frame_max - FRAME_BYTES;
    (void)hg_writer_reserve(w, body.n + (body.n / most + 1) * FRAME_BYTES); /* grows once */
    while (body.n > 0) {
        struct hg_bytes piece = take(&body, most);
        write_head(w, AMQP_FRAME_BODY, channel, piece.n);
        hg_writer_bytes(w, piece);
        hg_writer_u8(w, AMQP_FRAME_END);
    }
}

enum hg_status hg_amqp_encode_content(struct hg_writer *w, uint16_t channel,
                                      const struct hg_message *m, uint32_t frame_max,
                                      amqp_pool_t *pool)
{
    struct hg_bytes body = hg_message_body(m);
    enum hg_status status = write_header(w, channel, m, body.n, frame_max, pool);
    if (status == HG_OK) {
        hg_amqp_encode_body(w, channel, body, frame_max);
        status = w->failed ? HG_NO_MEMORY : HG_OK;
    }
    return status;
}

static enum hg_status write_publish(struct hg_writer *w, uint16_t channel,
                                    const struct hg_message *m, uint32_t frame_max)
{
    amqp_basic_publish_t publish = {
        .exchange = hg_amqp_bytes(hg_message_exchange(m)),
        .routing_key = hg_amqp_bytes(hg_message_routing_key(m)),
        .mandatory = hg_message_is_mandatory(m),
    };
    return hg_amqp_encode_method(w, channel, AMQP_BASIC_PUBLISH_METHOD, &publish, frame_max);
}

enum hg_status hg_amqp_encode_publish(struct hg_writer *w, uint16_t channel,
                                      const struct hg_message *m, uint32_t frame_max,
                                      amqp_pool_t *pool)
{
    enum hg_status status = write_publish(w, channel, m, frame_max);
    return status == HG_OK ? hg_amqp_encode_content(w, channel, m, frame_max, pool) : status;
}

enum hg_status hg_amqp_encode_begin(struct hg_writer *w, uint16_t channel,
                                    const struct hg_message *m, uint64_t body_bytes,
                                    uint32_t frame_max, amqp_pool_t *pool)
{
    enum hg_status status = write_publish(w, channel, m, frame_max);
    return status == HG_OK ? write_header(w, channel, m, body_bytes, frame_max, pool) : status;
}

void hg_amqp_encode_heartbeat(struct hg_writer *w)
{
    hg_writer_bytes(w, HG_BYTES("\x08\x00\x00\x00\x00\x00\x00\xCE"));
}

void hg_amqp_rollback(struct hg_writer *w, size_t n)
{
    w->failed = false;
    if (w->buf != NULL) {
        w->buf->n = (uint32_t)n;
    }
}
