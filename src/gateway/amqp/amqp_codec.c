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

static uint8_t *put_be(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = n; i-- > 0; v >>= 8) {
        p[i] = (uint8_t)v;
    }
    return p + n;
}

static uint8_t *put_frame_head(uint8_t *p, uint8_t type, uint16_t channel, size_t payload_n)
{
    *p = type;
    return put_be(put_be(p + 1, channel, 2), payload_n, 4);
}

static void write_head(struct hg_writer *w, uint8_t type, uint16_t channel, size_t payload_n)
{
    uint8_t *p = hg_writer_reserve(w, HEAD_BYTES);
    if (p != NULL) {
        (void)put_frame_head(p, type, channel, payload_n);
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

/* By way of librabbitmq's tables. */
static enum hg_status write_nested_header(struct hg_writer *w, uint16_t channel,
                                          const struct hg_message *m, uint64_t body_n,
                                          uint32_t frame_max, amqp_pool_t *pool)
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

enum { NAME_MAX_BYTES = 255 };

static uint8_t *put_bytes(uint8_t *p, struct hg_bytes b)
{
    if (b.n > 0) {
        memcpy(p, b.p, b.n);
    }
    return p + b.n;
}

static uint8_t *put_name(uint8_t *p, struct hg_bytes name)
{
    *p = (uint8_t)name.n;
    return put_bytes(p + 1, name);
}

/* A property; absent where empty. The flags are known once all are written. */
static uint8_t *put_property(uint8_t *p, struct hg_bytes value, unsigned flag, unsigned *flags)
{
    if (value.n == 0) {
        return p;
    }
    *flags |= flag;
    return put_name(p, value);
}

/* A header's value with its type (section 4.2.5.5, RabbitMQ's types); JSON does not come here. */
static uint8_t *put_value(uint8_t *p, const struct hg_value *value)
{
    uint64_t bits = 0;
    switch (value->kind) {
    case HG_VALUE_NULL: *p = AMQP_FIELD_KIND_VOID; return p + 1;
    case HG_VALUE_BOOL:
        p[0] = AMQP_FIELD_KIND_BOOLEAN;
        p[1] = value->u.b;
        return p + 2;
    case HG_VALUE_INT: *p = AMQP_FIELD_KIND_I64; return put_be(p + 1, (uint64_t)value->u.i, 8);
    case HG_VALUE_TIMESTAMP:
        *p = AMQP_FIELD_KIND_TIMESTAMP;
        return put_be(p + 1, value->u.timestamp_s, 8);
    case HG_VALUE_DOUBLE:
        *p = AMQP_FIELD_KIND_F64;
        memcpy(&bits, &value->u.d, sizeof(bits));
        return put_be(p + 1, bits, 8);
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
        *p = value->kind == HG_VALUE_STRING ? AMQP_FIELD_KIND_UTF8 : AMQP_FIELD_KIND_BYTES;
        return put_bytes(put_be(p + 1, value->u.bytes.n, 4), value->u.bytes);
    case HG_VALUE_JSON: break;
    }
    return p;
}

static uint8_t *put_headers(uint8_t *p, const struct hg_properties *from, unsigned *flags)
{
    if (from->headers_n == 0) {
        return p;
    }
    uint8_t *size = p;
    p += 4;
    for (size_t i = 0; i < from->headers_n; i++) {
        p = put_value(put_name(p, from->headers[i].name), &from->headers[i].value);
    }
    (void)put_be(size, (uint64_t)(p - size - 4), 4);
    *flags |= AMQP_BASIC_HEADERS_FLAG;
    return p;
}

/* Flags, and the properties in their order (section 4.2.6.1). */
static uint8_t *put_properties(uint8_t *p, const struct hg_properties *from)
{
    uint8_t *start = p;
    unsigned flags = 0;
    p = put_property(p + 2, from->content_type, AMQP_BASIC_CONTENT_TYPE_FLAG, &flags);
    p = put_property(p, from->content_encoding, AMQP_BASIC_CONTENT_ENCODING_FLAG, &flags);
    p = put_headers(p, from, &flags);
    if (from->delivery_mode != 0) {
        *p++ = from->delivery_mode;
        flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    }
    if (from->has_priority) {
        *p++ = from->priority;
        flags |= AMQP_BASIC_PRIORITY_FLAG;
    }
    p = put_property(p, from->correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG, &flags);
    p = put_property(p, from->reply_to, AMQP_BASIC_REPLY_TO_FLAG, &flags);
    p = put_property(p, from->expiration, AMQP_BASIC_EXPIRATION_FLAG, &flags);
    p = put_property(p, from->message_id, AMQP_BASIC_MESSAGE_ID_FLAG, &flags);
    if (from->has_timestamp) {
        p = put_be(p, from->timestamp_s, 8);
        flags |= AMQP_BASIC_TIMESTAMP_FLAG;
    }
    p = put_property(p, from->type, AMQP_BASIC_TYPE_FLAG, &flags);
    p = put_property(p, from->user_id, AMQP_BASIC_USER_ID_FLAG, &flags);
    p = put_property(p, from->app_id, AMQP_BASIC_APP_ID_FLAG, &flags);
    (void)put_be(start, flags, 2);
    return p;
}

/* All names and short strings fit their length's octet. */
static bool has_short_names(const struct hg_properties *p)
{
    size_t longest = 0;
    const struct hg_bytes all[] = {p->content_type, p->content_encoding, p->correlation_id,
                                   p->reply_to,     p->expiration,       p->message_id,
                                   p->type,         p->user_id,          p->app_id};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        longest = all[i].n > longest ? all[i].n : longest;
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        longest = p->headers[i].name.n > longest ? p->headers[i].name.n : longest;
    }
    return longest <= NAME_MAX_BYTES;
}

/* Of a value in the table, with its type; for JSON, which is parsed to know it, at most that. */
static size_t value_bytes(const struct hg_value *value)
{
    enum { JSON_GROWTH = 5 }; /* "1," becomes 9 bytes */
    switch (value->kind) {
    case HG_VALUE_NULL: return 1;
    case HG_VALUE_BOOL: return 2;
    case HG_VALUE_INT:
    case HG_VALUE_DOUBLE:
    case HG_VALUE_TIMESTAMP: return 9;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY: return 5 + value->u.bytes.n;
    case HG_VALUE_JSON: return 5 + JSON_GROWTH * value->u.bytes.n;
    }
    return 0;
}

/* Properties of fixed size, the strings' lengths and the table's, which not every header has. */
enum { CONTENT_HEAD_BYTES = 14, PERHAPS_BYTES = 8 + 1 + 1 + 9 + 4 };

size_t hg_amqp_header_bytes(const struct hg_properties *p, bool *has_json_out)
{
    size_t n = FRAME_BYTES + CONTENT_HEAD_BYTES + PERHAPS_BYTES;
    n += p->content_type.n + p->content_encoding.n + p->correlation_id.n + p->reply_to.n +
         p->expiration.n + p->message_id.n + p->type.n + p->user_id.n + p->app_id.n;
    *has_json_out = false;
    for (size_t i = 0; i < p->headers_n; i++) {
        n += 1 + p->headers[i].name.n + value_bytes(&p->headers[i].value);
        *has_json_out = *has_json_out || p->headers[i].value.kind == HG_VALUE_JSON;
    }
    return n;
}

/* Closes the frame that was put down from `head` to `end`, in room reserved for it. */
static enum hg_status end_put_frame(struct hg_writer *w, uint8_t *head, uint8_t *end,
                                    uint32_t frame_max)
{
    *end = AMQP_FRAME_END;
    size_t n = (size_t)(end - head) + 1;
    (void)put_be(head + 3, n - FRAME_BYTES, 4);
    if (n > frame_max) {
        return HG_BAD_PROPERTY;
    }
    hg_writer_commit(w, n);
    return HG_OK;
}

/* What every publish has goes out by hand: two thirds less work, and no memory of librabbitmq's. */
static enum hg_status write_header(struct hg_writer *w, uint16_t channel,
                                   const struct hg_message *m, uint64_t body_n, uint32_t frame_max,
                                   amqp_pool_t *pool)
{
    const struct hg_properties *properties = hg_message_properties(m);
    bool has_json = false;
    size_t most_n = hg_amqp_header_bytes(properties, &has_json);
    if (has_json) {
        return write_nested_header(w, channel, m, body_n, frame_max, pool);
    }
    if (!has_short_names(properties) || most_n > (size_t)frame_max + PERHAPS_BYTES) {
        return HG_BAD_PROPERTY;
    }
    uint8_t *head = hg_writer_reserve(w, most_n);
    if (head == NULL) {
        return HG_NO_MEMORY;
    }
    uint8_t *p = put_frame_head(head, AMQP_FRAME_HEADER, channel, 0);
    p = put_be(p, (uint64_t)AMQP_BASIC_CLASS << 16, 4); /* weight 0 */
    p = put_properties(put_be(p, body_n, 8), properties);
    return end_put_frame(w, head, p, frame_max);
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
    enum { MANDATORY = 1, FIXED_BYTES = 4 + 2 + 1 + 1 + 1 }; /* method, ticket, two names, bits */
    struct hg_bytes exchange = hg_message_exchange(m);
    struct hg_bytes key = hg_message_routing_key(m);
    if (exchange.n > NAME_MAX_BYTES || key.n > NAME_MAX_BYTES) {
        return HG_BAD_PROPERTY;
    }
    uint8_t *head = hg_writer_reserve(w, FRAME_BYTES + FIXED_BYTES + exchange.n + key.n);
    if (head == NULL) {
        return HG_NO_MEMORY;
    }
    uint8_t *p = put_frame_head(head, AMQP_FRAME_METHOD, channel, 0);
    p = put_be(put_be(p, AMQP_BASIC_PUBLISH_METHOD, 4), 0, 2);
    p = put_name(put_name(p, exchange), key);
    *p++ = hg_message_is_mandatory(m) ? MANDATORY : 0;
    return end_put_frame(w, head, p, frame_max);
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
