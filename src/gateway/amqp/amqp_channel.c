/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: their numbers and ends, replies to requests, messages put together from their
 * frames. */
#include "amqp/amqp_channel.h"

#include "amqp/amqp_priv.h"
#include "base/mem.h"

enum {
    FIRST_CHANNELS = 16,
    FIRST_REQUESTS = 4,
    /* a body up to this is copied into the message rather than shared with it: that costs less than
     * a buffer of its own */
    SMALL_BODY_BYTES = 1024,
    META_BYTES_KEPT =
        2048 /* between messages; one with large headers must not cost memory for ever */
};

/* -- numbers and lives ------------------------------------------------------------------------ */

static bool grow_table(struct hg_amqp_conn *c)
{
    size_t most = (size_t)c->channel_max + 1;
    size_t cap = c->channels_cap == 0 ? FIRST_CHANNELS : c->channels_cap * 2;
    cap = cap < most ? cap : most;
    struct hg_amqp_channel **channels =
        hg_realloc(c->channels, cap * sizeof(struct hg_amqp_channel *));
    if (channels == NULL) {
        return false;
    }
    for (size_t i = c->channels_cap; i < cap; i++) {
        channels[i] = NULL;
    }
    c->channels = channels;
    c->channels_cap = cap;
    return true;
}

/* The lowest free number, in a table large enough for it; 0 if there is none. */
static uint16_t free_number(struct hg_amqp_conn *c)
{
    size_t number = c->free_hint;
    while (number < c->channels_cap && c->channels[number] != NULL) {
        number++;
    }
    if (number > c->channel_max || (number >= c->channels_cap && !grow_table(c))) {
        return 0;
    }
    return (uint16_t)number;
}

static void detach(struct hg_amqp_channel *ch)
{
    struct hg_amqp_conn *c = ch->conn;
    c->channels[ch->number] = NULL;
    c->free_hint = ch->number < c->free_hint ? ch->number : c->free_hint;
}

static void release(struct hg_amqp_channel *ch)
{
    hg_free(ch->requests);
    hg_writer_close(&ch->content.meta);
    hg_buf_unref(ch->content.body);
    hg_free(ch);
}

void hg_amqp_channels_free(struct hg_amqp_conn *c)
{
    for (size_t i = 0; i < c->channels_cap; i++) {
        if (c->channels[i] != NULL) {
            release(c->channels[i]);
        }
    }
    hg_free(c->channels);
    c->channels = NULL;
    c->channels_cap = 0;
}

static struct hg_amqp_channel *find(const struct hg_amqp_conn *c, uint16_t number)
{
    return number < c->channels_cap ? c->channels[number] : NULL;
}

struct hg_amqp_channel *hg_amqp_channel_open(struct hg_amqp_conn *c,
                                             const struct hg_amqp_channel_ops *ops, void *ctx,
                                             uint64_t cookie)
{
    uint16_t number = c->state == HG_AMQP_OPEN ? free_number(c) : 0;
    struct hg_amqp_channel *ch = number == 0 ? NULL : hg_zalloc(sizeof *ch);
    if (ch == NULL) {
        return NULL;
    }
    *ch = (struct hg_amqp_channel){.conn = c, .ops = ops, .ctx = ctx, .number = number};
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};
    if (hg_amqp_channel_request(ch, cookie, AMQP_CHANNEL_OPEN_METHOD, &open) != HG_OK) {
        release(ch);
        return NULL;
    }
    c->channels[number] = ch;
    c->free_hint = number < UINT16_MAX ? (uint16_t)(number + 1) : number;
    return ch;
}

void hg_amqp_channel_close(struct hg_amqp_channel *ch)
{
    if (!hg_amqp_channel_is_usable(ch)) {
        return; /* its end, or the connection's, is being told just now */
    }
    ch->is_closing = true;
    amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
                                  .reply_text = amqp_cstring_bytes("")};
    hg_amqp_conn_must_send(ch->conn, ch->number, AMQP_CHANNEL_CLOSE_METHOD, &close);
}

void hg_amqp_channel_drop_bodies(struct hg_amqp_channel *ch)
{
    ch->drops_bodies = true;
}

uint16_t hg_amqp_channel_number(const struct hg_amqp_channel *ch)
{
    return ch->number;
}

/* -- requests waiting for their replies ------------------------------------------------------- */

static bool grow_requests(struct hg_amqp_channel *ch)
{
    uint32_t cap = ch->requests_cap == 0 ? FIRST_REQUESTS : ch->requests_cap * 2;
    struct hg_amqp_request *ring = hg_alloc(cap * sizeof *ring);
    if (ring == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < ch->requests_n; i++) {
        ring[i] = ch->requests[(ch->requests_head + i) & (ch->requests_cap - 1)];
    }
    hg_free(ch->requests);
    ch->requests = ring;
    ch->requests_cap = cap;
    ch->requests_head = 0;
    return true;
}

/* RabbitMQ numbers a reply one above its request, but for this one. */
static amqp_method_number_t reply_of(amqp_method_number_t request)
{
    return request == AMQP_EXCHANGE_UNBIND_METHOD ? AMQP_EXCHANGE_UNBIND_OK_METHOD : request + 1;
}

enum hg_status hg_amqp_channel_request(struct hg_amqp_channel *ch, uint64_t cookie,
                                       amqp_method_number_t id, void *method)
{
    if (!hg_amqp_channel_is_usable(ch)) {
        return HG_BROKER_AWAY;
    }
    if (ch->requests_n == HG_AMQP_REQUESTS_MAX) {
        return HG_TOO_MANY;
    }
    if (ch->requests_n == ch->requests_cap && !grow_requests(ch)) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = hg_amqp_conn_send(ch->conn, ch->number, id, method);
    if (status == HG_OK) {
        uint32_t at = (ch->requests_head + ch->requests_n) & (ch->requests_cap - 1);
        ch->requests[at] = (struct hg_amqp_request){cookie, reply_of(id)};
        ch->requests_n++;
    }
    return status;
}

static struct hg_amqp_request *request_at(const struct hg_amqp_channel *ch, uint32_t i)
{
    return &ch->requests[(ch->requests_head + i) & (ch->requests_cap - 1)];
}

/* The cookie of the oldest request that this answers; false after having ended the connection, where
 * there is none. It need not be the oldest of all: cancel-ok and consume-ok come from the queue, and
 * what the channel itself answers may overtake them. */
static bool take_request(struct hg_amqp_channel *ch, amqp_method_number_t reply,
                         uint64_t *cookie_out)
{
    uint32_t i = 0;
    while (i < ch->requests_n && request_at(ch, i)->reply != reply) {
        i++;
    }
    if (i == ch->requests_n) {
        hg_amqp_conn_fail(
            ch->conn, AMQP_COMMAND_INVALID,
            "RabbitMQ answered on channel %u with method 0x%08x, which was not asked for",
            ch->number, (unsigned)reply);
        return false;
    }
    *cookie_out = request_at(ch, i)->cookie;
    for (; i > 0; i--) {
        *request_at(ch, i) = *request_at(ch, i - 1);
    }
    ch->requests_head = (ch->requests_head + 1) & (ch->requests_cap - 1);
    ch->requests_n--;
    return true;
}

static void tell_reply(struct hg_amqp_channel *ch, amqp_method_number_t id,
                       const struct hg_amqp_reply *reply)
{
    uint64_t cookie;
    if (take_request(ch, id, &cookie) && ch->ops->on_reply != NULL) {
        ch->ops->on_reply(ch->ctx, cookie, reply);
    }
}

/* -- methods without content ------------------------------------------------------------------ */

static void on_plain_reply(struct hg_amqp_channel *ch, struct hg_bytes payload,
                           enum hg_amqp_reply_kind kind)
{
    tell_reply(ch, hg_amqp_method_id(payload), &(struct hg_amqp_reply){.kind = kind});
}

static void on_declare_ok(struct hg_amqp_channel *ch, struct hg_bytes payload,
                          enum hg_amqp_reply_kind kind)
{
    const amqp_queue_declare_ok_t *ok = hg_amqp_conn_decode(ch->conn, payload);
    if (ok != NULL) {
        tell_reply(ch, AMQP_QUEUE_DECLARE_OK_METHOD,
                   &(struct hg_amqp_reply){.kind = kind,
                                           .name = hg_amqp_view(ok->queue),
                                           .message_n = ok->message_count,
                                           .consumer_n = ok->consumer_count});
    }
}

static void on_delete_ok(struct hg_amqp_channel *ch, struct hg_bytes payload,
                         enum hg_amqp_reply_kind kind)
{
    const amqp_queue_delete_ok_t *ok = hg_amqp_conn_decode(ch->conn, payload);
    if (ok != NULL) {
        tell_reply(ch, AMQP_QUEUE_DELETE_OK_METHOD,
                   &(struct hg_amqp_reply){.kind = kind, .message_n = ok->message_count});
    }
}

/* consume-ok and cancel-ok have the same single field. */
static void on_tag_ok(struct hg_amqp_channel *ch, struct hg_bytes payload,
                      enum hg_amqp_reply_kind kind)
{
    const amqp_basic_consume_ok_t *ok = hg_amqp_conn_decode(ch->conn, payload);
    if (ok != NULL) {
        tell_reply(ch, hg_amqp_method_id(payload),
                   &(struct hg_amqp_reply){.kind = kind, .name = hg_amqp_view(ok->consumer_tag)});
    }
}

static void on_get_empty(struct hg_amqp_channel *ch, struct hg_bytes payload,
                         enum hg_amqp_reply_kind kind)
{
    (void)payload;
    tell_reply(ch, AMQP_BASIC_GET_OK_METHOD, &(struct hg_amqp_reply){.kind = kind});
}

/* Both begin alike: the tag, then bits of which the first is `multiple`. Read by hand: there is one
 * for every few publishes. */
static void on_settled(struct hg_amqp_channel *ch, struct hg_bytes payload, bool is_ack)
{
    enum { METHOD_BYTES = 4, TAG_BYTES = 8, MULTIPLE = 1 };
    struct hg_bytes in = hg_bytes_skip(payload, METHOD_BYTES);
    uint64_t tag;
    uint64_t bits;
    if (!hg_bytes_take_number(&in, TAG_BYTES, &tag) || !hg_bytes_take_number(&in, 1, &bits)) {
        (void)hg_amqp_conn_decode(ch->conn, payload); /* says what is wrong with it */
        return;
    }
    if (ch->ops->on_confirm != NULL) {
        ch->ops->on_confirm(ch->ctx, tag, (bits & MULTIPLE) != 0, is_ack);
    }
}

static void on_ack(struct hg_amqp_channel *ch, struct hg_bytes payload,
                   enum hg_amqp_reply_kind kind)
{
    (void)kind;
    on_settled(ch, payload, true);
}

static void on_nack(struct hg_amqp_channel *ch, struct hg_bytes payload,
                    enum hg_amqp_reply_kind kind)
{
    (void)kind;
    on_settled(ch, payload, false);
}

static void on_cancel(struct hg_amqp_channel *ch, struct hg_bytes payload,
                      enum hg_amqp_reply_kind kind)
{
    (void)kind;
    const amqp_basic_cancel_t *cancel = hg_amqp_conn_decode(ch->conn, payload);
    if (cancel == NULL) {
        return;
    }
    if (!cancel->nowait) {
        amqp_basic_cancel_ok_t ok = {.consumer_tag = cancel->consumer_tag};
        hg_amqp_conn_must_send(ch->conn, ch->number, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
    }
    if (ch->ops->on_cancel != NULL) {
        ch->ops->on_cancel(ch->ctx, hg_amqp_view(cancel->consumer_tag));
    }
}

/* RabbitMQ holds publishers back by not reading and by connection.blocked, never by channel.flow:
 * answered, not obeyed. */
static void on_flow(struct hg_amqp_channel *ch, struct hg_bytes payload,
                    enum hg_amqp_reply_kind kind)
{
    (void)kind;
    const amqp_channel_flow_t *flow = hg_amqp_conn_decode(ch->conn, payload);
    if (flow != NULL) {
        amqp_channel_flow_ok_t ok = {.active = flow->active};
        hg_amqp_conn_must_send(ch->conn, ch->number, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
    }
}

/* Also for a channel that we are closing: then both asked at once, and close-ok is still to
 * come. */
static void on_channel_close(struct hg_amqp_channel *ch, struct hg_bytes payload,
                             enum hg_amqp_reply_kind kind)
{
    (void)kind;
    const amqp_channel_close_t *close = hg_amqp_conn_decode(ch->conn, payload);
    if (close == NULL) {
        return;
    }
    amqp_channel_close_ok_t ok = {0};
    hg_amqp_conn_must_send(ch->conn, ch->number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    if (ch->is_closing) {
        return;
    }
    struct hg_bytes text = hg_amqp_view(close->reply_text);
    struct hg_amqp_close why = {
        .status =
            hg_amqp_status_of_code(close->reply_code, text, close->class_id, close->method_id),
        .code = close->reply_code,
        .text = text,
        .class_id = close->class_id,
        .method_id = close->method_id,
    };
    ch->is_closed = true;
    detach(ch); /* the number may be taken again by what on_close does */
    if (ch->ops->on_close != NULL) {
        ch->ops->on_close(ch->ctx, &why);
    }
    release(ch);
}

/* -- methods with content --------------------------------------------------------------------- */

static void on_content(struct hg_amqp_channel *ch, struct hg_bytes payload,
                       enum hg_amqp_reply_kind kind)
{
    (void)kind;
    ch->content.wait = HG_AMQP_CONTENT_HEADER;
    ch->content.method_n = payload.n;
    hg_writer_bytes(&ch->content.meta, payload);
}

static void reset_content(struct hg_amqp_content *content)
{
    hg_writer_reset_to(&content->meta, META_BYTES_KEPT);
    hg_buf_unref(content->body);
    content->body = NULL;
    content->wait = HG_AMQP_CONTENT_NONE;
}

static void tell_delivery(struct hg_amqp_channel *ch, const amqp_basic_deliver_t *from,
                          struct hg_message *m)
{
    if (ch->ops->on_delivery != NULL) {
        ch->ops->on_delivery(ch->ctx, &(struct hg_amqp_delivery){
                                          .consumer_tag = hg_amqp_view(from->consumer_tag),
                                          .delivery_tag = from->delivery_tag,
                                          .is_redelivered = from->redelivered != 0,
                                          .message = m,
                                      });
    }
}

static void tell_return(struct hg_amqp_channel *ch, const amqp_basic_return_t *from,
                        struct hg_message *m)
{
    if (ch->ops->on_return != NULL) {
        ch->ops->on_return(ch->ctx, &(struct hg_amqp_return){
                                        .code = from->reply_code,
                                        .text = hg_amqp_view(from->reply_text),
                                        .message = m,
                                    });
    }
}

static void tell_get_ok(struct hg_amqp_channel *ch, const amqp_basic_get_ok_t *from,
                        struct hg_message *m)
{
    tell_reply(ch, AMQP_BASIC_GET_OK_METHOD,
               &(struct hg_amqp_reply){.kind = HG_AMQP_GET_OK,
                                       .message_n = from->message_count,
                                       .delivery_tag = from->delivery_tag,
                                       .is_redelivered = from->redelivered != 0,
                                       .message = m});
}

static void set_route(struct hg_message_parts *parts, amqp_bytes_t exchange, amqp_bytes_t key)
{
    parts->exchange = hg_amqp_view(exchange);
    parts->routing_key = hg_amqp_view(key);
}

/* Everything but the route, which each method holds in a struct of its own; false after having
 * ended the connection. */
static bool read_parts(struct hg_amqp_channel *ch, struct hg_message_parts *parts)
{
    struct hg_amqp_conn *c = ch->conn;
    struct hg_bytes rest = hg_bytes_skip(hg_writer_view(&ch->content.meta), ch->content.method_n);
    struct hg_bytes header = hg_bytes(rest.p, ch->content.header_n);
    enum hg_status status = hg_amqp_decode_properties(hg_bytes_skip(header, 12), &c->in_pool,
                                                      &c->json, &parts->properties);
    if (status == HG_NO_MEMORY) {
        hg_amqp_conn_end_no_memory(c);
    } else if (status != HG_OK) {
        hg_amqp_conn_fail(c, AMQP_SYNTAX_ERROR, "RabbitMQ sent malformed properties");
    }
    parts->body_buf = ch->content.body;
    parts->body =
        parts->body_buf == NULL ? hg_bytes_skip(rest, header.n) : hg_buf_bytes(parts->body_buf);
    return status == HG_OK;
}

static void tell_message(struct hg_amqp_channel *ch)
{
    struct hg_amqp_conn *c = ch->conn;
    struct hg_bytes method = hg_bytes(hg_writer_view(&ch->content.meta).p, ch->content.method_n);
    amqp_method_number_t id = hg_amqp_method_id(method);
    struct hg_message_parts parts = {0};
    const void *from = hg_amqp_conn_decode(c, method);
    if (from == NULL || !read_parts(ch, &parts)) {
        return;
    }
    if (id == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *deliver = from;
        set_route(&parts, deliver->exchange, deliver->routing_key);
    } else if (id == AMQP_BASIC_RETURN_METHOD) {
        const amqp_basic_return_t *ret = from;
        set_route(&parts, ret->exchange, ret->routing_key);
        parts.is_mandatory = true;
    } else {
        const amqp_basic_get_ok_t *get = from;
        set_route(&parts, get->exchange, get->routing_key);
    }
    struct hg_message *m = hg_message_new(&parts);
    if (m == NULL) {
        hg_amqp_conn_end_no_memory(c);
        return;
    }
    if (id == AMQP_BASIC_DELIVER_METHOD) {
        tell_delivery(ch, from, m);
    } else if (id == AMQP_BASIC_RETURN_METHOD) {
        tell_return(ch, from, m);
    } else {
        tell_get_ok(ch, from, m);
    }
    hg_message_unref(m);
}

static void end_message(struct hg_amqp_channel *ch)
{
    tell_message(ch);
    reset_content(&ch->content);
}

static void on_header(struct hg_amqp_channel *ch, struct hg_bytes payload)
{
    struct hg_amqp_conn *c = ch->conn;
    struct hg_bytes in = payload;
    uint64_t class_id, weight, body_n;
    if (!hg_bytes_take_number(&in, 2, &class_id) || !hg_bytes_take_number(&in, 2, &weight) ||
        !hg_bytes_take_number(&in, 8, &body_n) || class_id != AMQP_BASIC_CLASS) {
        hg_amqp_conn_fail(c, AMQP_FRAME_ERROR, "RabbitMQ sent content of an unknown class");
        return;
    }
    if (body_n > c->max_body_bytes && !ch->drops_bodies) {
        hg_amqp_conn_fail(c, AMQP_CONTENT_TOO_LARGE,
                          "RabbitMQ sent a body of %llu bytes, over the limit of %zu",
                          (unsigned long long)body_n, c->max_body_bytes);
        return;
    }
    hg_writer_bytes(&ch->content.meta, payload);
    ch->content.wait = HG_AMQP_CONTENT_BODY;
    ch->content.header_n = payload.n;
    ch->content.left = body_n;
    bool is_large = body_n > SMALL_BODY_BYTES && !ch->drops_bodies;
    if (is_large) {
        ch->content.body = hg_buf_new((size_t)body_n);
    }
    if (ch->content.meta.failed || (is_large && ch->content.body == NULL)) {
        hg_amqp_conn_end_no_memory(c);
    } else if (body_n == 0) {
        end_message(ch);
    }
}

static void on_body(struct hg_amqp_channel *ch, const struct hg_amqp_frame *frame)
{
    struct hg_buf *body = ch->content.body;
    if (frame->payload.n > ch->content.left) {
        hg_amqp_conn_fail(ch->conn, AMQP_FRAME_ERROR, "RabbitMQ sent more body than it announced");
        return;
    }
    ch->content.left -= frame->payload.n;
    if (frame->payload.n > 0 && body != NULL) {
        memcpy(body->data + body->n, frame->payload.p, frame->payload.n);
        body->n += (uint32_t)frame->payload.n;
    } else if (!ch->drops_bodies) {
        hg_writer_bytes(&ch->content.meta, frame->payload);
    }
    if (ch->content.meta.failed) {
        hg_amqp_conn_end_no_memory(ch->conn);
    } else if (frame->is_end && ch->content.left == 0) {
        end_message(ch);
    }
}

/* -- dispatch --------------------------------------------------------------------------------- */

static const struct channel_method {
    amqp_method_number_t id;
    enum hg_amqp_reply_kind kind; /* replies only */
    void (*handle)(struct hg_amqp_channel *ch, struct hg_bytes payload,
                   enum hg_amqp_reply_kind kind);
} methods[] = {
    {AMQP_BASIC_DELIVER_METHOD, 0, on_content}, /* the most frequent first */
    {AMQP_BASIC_ACK_METHOD, 0, on_ack},
    {AMQP_BASIC_RETURN_METHOD, 0, on_content},
    {AMQP_BASIC_NACK_METHOD, 0, on_nack},
    {AMQP_BASIC_GET_OK_METHOD, 0, on_content},
    {AMQP_BASIC_GET_EMPTY_METHOD, HG_AMQP_GET_EMPTY, on_get_empty},
    {AMQP_QUEUE_BIND_OK_METHOD, HG_AMQP_QUEUE_OK, on_plain_reply},
    {AMQP_QUEUE_UNBIND_OK_METHOD, HG_AMQP_QUEUE_OK, on_plain_reply},
    {AMQP_QUEUE_DECLARE_OK_METHOD, HG_AMQP_QUEUE_OK, on_declare_ok},
    {AMQP_QUEUE_DELETE_OK_METHOD, HG_AMQP_QUEUE_OK, on_delete_ok},
    {AMQP_BASIC_CONSUME_OK_METHOD, HG_AMQP_CONSUME_OK, on_tag_ok},
    {AMQP_BASIC_CANCEL_OK_METHOD, HG_AMQP_CANCEL_OK, on_tag_ok},
    {AMQP_BASIC_QOS_OK_METHOD, HG_AMQP_QOS_OK, on_plain_reply},
    {AMQP_BASIC_CANCEL_METHOD, 0, on_cancel},
    {AMQP_EXCHANGE_DECLARE_OK_METHOD, HG_AMQP_EXCHANGE_OK, on_plain_reply},
    {AMQP_EXCHANGE_BIND_OK_METHOD, HG_AMQP_EXCHANGE_OK, on_plain_reply},
    {AMQP_EXCHANGE_UNBIND_OK_METHOD, HG_AMQP_EXCHANGE_OK, on_plain_reply},
    {AMQP_CONFIRM_SELECT_OK_METHOD, HG_AMQP_CONFIRM_OK, on_plain_reply},
    {AMQP_CHANNEL_OPEN_OK_METHOD, HG_AMQP_CHANNEL_OPEN_OK, on_plain_reply},
    {AMQP_CHANNEL_CLOSE_METHOD, 0, on_channel_close},
    {AMQP_CHANNEL_FLOW_METHOD, 0, on_flow},
};

static void handle_method(struct hg_amqp_channel *ch, struct hg_bytes payload)
{
    amqp_method_number_t id = hg_amqp_method_id(payload);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (methods[i].id == id) {
            methods[i].handle(ch, payload, methods[i].kind);
            return;
        }
    }
    hg_amqp_conn_fail(ch->conn, AMQP_COMMAND_INVALID, "RabbitMQ sent method 0x%08x on channel %u",
                      (unsigned)id, ch->number);
}

/* Only the two ways of ending are of interest (AMQP 0-9-1 section 1.5.2.5). */
static void handle_closing(struct hg_amqp_channel *ch, const struct hg_amqp_frame *frame)
{
    if (frame->type != AMQP_FRAME_METHOD) {
        return;
    }
    amqp_method_number_t id = hg_amqp_method_id(frame->payload);
    if (id == AMQP_CHANNEL_CLOSE_OK_METHOD) {
        detach(ch);
        release(ch);
    } else if (id == AMQP_CHANNEL_CLOSE_METHOD) {
        on_channel_close(ch, frame->payload, 0);
    }
}

void hg_amqp_channel_frame(struct hg_amqp_conn *c, const struct hg_amqp_frame *frame)
{
    struct hg_amqp_channel *ch = find(c, frame->channel);
    if (ch == NULL) {
        hg_amqp_conn_fail(c, AMQP_CHANNEL_ERROR, "RabbitMQ used channel %u, which is not open",
                          frame->channel);
    } else if (ch->is_closing) {
        handle_closing(ch, frame);
    } else if (frame->type == AMQP_FRAME_METHOD && ch->content.wait == HG_AMQP_CONTENT_NONE) {
        handle_method(ch, frame->payload);
    } else if (frame->type == AMQP_FRAME_HEADER && ch->content.wait == HG_AMQP_CONTENT_HEADER) {
        on_header(ch, frame->payload);
    } else if (frame->type == AMQP_FRAME_BODY && ch->content.wait == HG_AMQP_CONTENT_BODY) {
        on_body(ch, frame);
    } else {
        hg_amqp_conn_fail(c, AMQP_UNEXPECTED_FRAME,
                          "RabbitMQ sent frames of a message out of order");
    }
}
