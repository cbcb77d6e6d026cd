/* SPDX-License-Identifier: Apache-2.0 */
/* The server side of a WebSocket (RFC 6455) as a stream on a stream. wslay decodes and checks what comes; a decoder (9.4 KB) is lent to a
 * connection only while a frame or a fragmented message is incomplete. What goes out we frame ourselves, since a server does not mask:
 * a header in front of parts that are passed on as they are. */
#include "stream/ws.h"

#include "base/check.h"
#include "base/mem.h"

#include <wslay/wslay.h>

enum {
    WS_MAGIC = 0x77730a51,
    DECODERS_IDLE_MAX = 16,
    PARTS_MAX = 16, /* of one message, header included */
    CONTROL_PENDING_MAX =
        64 * 1024, /* pongs are dropped while this much is queued (section 5.5.3 allows it) */
    REASON_MAX = 123,
};

/* A wslay context and whom it works for now. */
struct ws_decoder {
    struct hg_list link; /* in hg_net.ws_decoders while idle */
    wslay_event_context_ptr wslay;
    struct hg_ws *ws;   /* NULL: idle */
    struct hg_bytes in; /* what is being fed */
    size_t payload_n;   /* unmasked so far, in hg_net.payload_buf */
    uint64_t fed_n,
        framed_n;       /* bytes given; bytes of the frames that began: equal between frames */
    uint64_t message_n; /* payload of the present message, by its frames' headers */
    bool is_control;    /* the present frame */
    bool is_in_message;
    bool is_mute;        /* pongs are dropped */
    uint16_t error_code; /* our own reason to end it; 0: none */
};

/* Input that came with the upgrade request, until reading starts. */
struct ws_early {
    struct hg_defer defer;
    struct hg_ws *ws;
    size_t n;
    uint8_t bytes[];
};

enum ws_state {
    WS_OPEN,
    WS_ENDING
}; /* ENDING: the lower stream has been told to finish or close */

struct hg_ws {
    struct hg_stream stream;
    uint32_t magic;
    uint8_t state; /* enum ws_state */
    bool is_reading;
    struct hg_net *net;
    struct hg_stream *lower;
    struct ws_decoder *decoder; /* NULL between frames */
    struct ws_early *early;     /* NULL once read */
    size_t max_message_bytes;
};

static struct hg_ws *of_stream(const struct hg_stream *s)
{
    struct hg_ws *ws = HG_CONTAINER_OF(s, struct hg_ws, stream);
    HG_CHECK(ws->magic == WS_MAGIC);
    return ws;
}

static struct hg_ws *of_ctx(void *ctx)
{
    struct hg_ws *ws = ctx;
    HG_CHECK(ws != NULL && ws->magic == WS_MAGIC);
    return ws;
}

/* ---- wslay's callbacks ---- */

static ssize_t on_wslay_recv(wslay_event_context_ptr wslay, uint8_t *out, size_t n, int flags,
                             void *ctx)
{
    struct ws_decoder *d = ctx;
    (void)flags;
    if (d->in.n == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    n = n < d->in.n ? n : d->in.n;
    memcpy(out, d->in.p, n);
    d->in = hg_bytes_skip(d->in, n);
    d->fed_n += n;
    return (ssize_t)n;
}

static ssize_t on_wslay_send(wslay_event_context_ptr wslay, const uint8_t *data, size_t n,
                             int flags, void *ctx)
{
    struct ws_decoder *d = ctx;
    const struct hg_part part = {NULL, {data, n}};
    (void)flags;
    if (d->is_mute) {
        return (ssize_t)n;
    }
    if (d->ws->lower->ops->write(d->ws->lower, HG_FRAME_BINARY, &part, 1) != HG_OK) {
        wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)n;
}

static void fail(struct ws_decoder *d, uint16_t code)
{
    if (d->error_code == 0) {
        d->error_code = code;
    }
    wslay_event_shutdown_read(d->wslay);
}

static size_t header_bytes(uint64_t payload_n)
{
    return payload_n < 126 ? 2 : payload_n <= UINT16_MAX ? 4 : 10;
}

static void on_frame_start(wslay_event_context_ptr wslay,
                           const struct wslay_event_on_frame_recv_start_arg *frame, void *ctx)
{
    struct ws_decoder *d = ctx;
    (void)wslay;
    d->is_control = wslay_is_ctrl_frame(frame->opcode);
    d->framed_n += header_bytes(frame->payload_length) + 4 + frame->payload_length;
    if (d->is_control) {
        return;
    }
    d->is_in_message = true;
    d->message_n +=
        frame->payload_length; /* no overflow: wslay has checked each against the limit */
    if (d->message_n > d->ws->max_message_bytes) {
        fail(d, WSLAY_CODE_MESSAGE_TOO_BIG);
    }
}

/* wslay calls this for control frames too, but hands out their payload whole at their end. */
static void on_frame_chunk(wslay_event_context_ptr wslay,
                           const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *ctx)
{
    struct ws_decoder *d = ctx;
    (void)wslay;
    if (d->error_code == 0 && !d->is_control && chunk->data_length > 0) {
        memcpy(d->ws->net->payload_buf + d->payload_n, chunk->data, chunk->data_length);
        d->payload_n += chunk->data_length;
    }
}

static void on_message(wslay_event_context_ptr wslay,
                       const struct wslay_event_on_msg_recv_arg *message, void *ctx)
{
    struct ws_decoder *d = ctx;
    (void)wslay;
    if (message->opcode == WSLAY_CONNECTION_CLOSE && message->msg_length == 1) {
        fail(d, WSLAY_CODE_PROTOCOL_ERROR); /* section 5.5.1: a body holds at least the code */
    } else if (!wslay_is_ctrl_frame(message->opcode)) {
        d->is_in_message = false;
        d->message_n = 0;
    }
}

static const struct wslay_event_callbacks wslay_callbacks = {
    .recv_callback = on_wslay_recv,
    .send_callback = on_wslay_send,
    .on_frame_recv_start_callback = on_frame_start,
    .on_frame_recv_chunk_callback = on_frame_chunk,
    .on_msg_recv_callback = on_message,
};

/* ---- Decoders, lent ---- */

static void decoder_free(struct ws_decoder *d)
{
    wslay_event_context_free(d->wslay);
    hg_free(d);
}

static struct ws_decoder *decoder_new(void)
{
    struct ws_decoder *d = hg_zalloc(sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    if (wslay_event_context_server_init(&d->wslay, &wslay_callbacks, d) != 0) {
        hg_free(d);
        return NULL;
    }
    wslay_event_config_set_no_buffering(d->wslay, 1);
    hg_list_init(&d->link);
    return d;
}

static struct ws_decoder *borrow_decoder(struct hg_ws *ws)
{
    struct hg_net *net = ws->net;
    struct ws_decoder *d;
    if (hg_list_is_empty(&net->ws_decoders)) {
        d = decoder_new();
        if (d == NULL) {
            return NULL;
        }
    } else {
        d = HG_LIST_ENTRY(net->ws_decoders.next, struct ws_decoder, link);
        hg_list_remove(&d->link);
        net->ws_decoders_n--;
    }
    d->ws = ws;
    d->fed_n = d->framed_n = 0;
    /* Never below what a control frame may carry. */
    wslay_event_config_set_max_recv_msg_length(
        d->wslay, ws->max_message_bytes < 125 ? 125 : ws->max_message_bytes);
    ws->decoder = d;
    return d;
}

static bool is_between_messages(const struct ws_decoder *d)
{
    return d->fed_n == d->framed_n && !d->is_in_message;
}

static void return_decoder(struct hg_ws *ws)
{
    struct ws_decoder *d = ws->decoder;
    struct hg_net *net = ws->net;
    ws->decoder = NULL;
    d->ws = NULL;
    bool is_as_new = is_between_messages(d) && wslay_event_get_read_enabled(d->wslay) &&
                     !wslay_event_want_write(d->wslay);
    if (!is_as_new || net->ws_decoders_n >= DECODERS_IDLE_MAX) {
        decoder_free(d);
        return;
    }
    hg_list_add_first(&net->ws_decoders, &d->link);
    net->ws_decoders_n++;
}

void hg_ws_decoders_free(struct hg_net *net)
{
    HG_LIST_FOREACH_SAFE (it, &net->ws_decoders) {
        hg_list_remove(it);
        decoder_free(HG_LIST_ENTRY(it, struct ws_decoder, link));
    }
    net->ws_decoders_n = 0;
}

/* ---- Ending ---- */

/* Section 7.4.1. */
static uint16_t code_of(enum hg_status why)
{
    switch (why) {
    case HG_OK:
    case HG_CLOSED: return WSLAY_CODE_NORMAL_CLOSURE;
    case HG_SHUTTING_DOWN: return WSLAY_CODE_GOING_AWAY;
    case HG_MALFORMED:
    case HG_PROTOCOL_ERROR: return WSLAY_CODE_PROTOCOL_ERROR;
    case HG_TOO_LARGE: return WSLAY_CODE_MESSAGE_TOO_BIG;
    case HG_NOT_ALLOWED:
    case HG_BAD_LOGIN: return WSLAY_CODE_POLICY_VIOLATION;
    default: return WSLAY_CODE_INTERNAL_SERVER_ERROR;
    }
}

static enum hg_status status_of(uint16_t code)
{
    switch (code) {
    case WSLAY_CODE_PROTOCOL_ERROR: return HG_PROTOCOL_ERROR;
    case WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA: return HG_MALFORMED;
    case WSLAY_CODE_MESSAGE_TOO_BIG: return HG_TOO_LARGE;
    default: return HG_SERVER_ERROR;
    }
}

/* Writes a close frame and lets the lower stream finish. */
static void say_goodbye(struct hg_ws *ws, uint16_t code, enum hg_status why)
{
    struct hg_bytes reason = hg_bytes_str(hg_status_text(why));
    reason.n = reason.n > REASON_MAX ? REASON_MAX : reason.n;
    const uint8_t head[4] = {0x88, (uint8_t)(2 + reason.n), (uint8_t)(code >> 8), (uint8_t)code};
    const struct hg_part parts[] = {{NULL, {head, sizeof(head)}}, {NULL, reason}};
    ws->state = WS_ENDING;
    ws->lower->ops->write(ws->lower, HG_FRAME_BINARY, parts, 2); /* courtesy: it may fail */
    ws->lower->ops->finish(ws->lower, why);
}

/* ---- Input ---- */

/* What wslay wants to say: pongs, and the close frame that ends it. */
static void send_replies(struct hg_ws *ws, struct ws_decoder *d)
{
    if (d->error_code != 0) {
        say_goodbye(ws, d->error_code, status_of(d->error_code));
        return;
    }
    if (!wslay_event_want_write(d->wslay)) {
        return;
    }
    d->is_mute = wslay_event_get_read_enabled(d->wslay) &&
                 ws->lower->ops->pending(ws->lower) > CONTROL_PENDING_MAX;
    bool is_sent = wslay_event_send(d->wslay) == 0;
    d->is_mute = false;
    if (!is_sent) { /* perhaps half a frame is queued: nothing can follow it */
        ws->state = WS_ENDING;
        ws->lower->ops->close(ws->lower, HG_NO_MEMORY);
    } else if (wslay_event_get_close_sent(d->wslay)) {
        ws->state = WS_ENDING;
        ws->lower->ops->finish(ws->lower,
                               wslay_event_get_close_received(d->wslay)
                                   ? HG_CLOSED
                                   : status_of(wslay_event_get_status_code_sent(d->wslay)));
    }
}

static void feed_some(struct hg_ws *ws, struct hg_bytes in)
{
    struct ws_decoder *d = ws->decoder != NULL ? ws->decoder : borrow_decoder(ws);
    if (d == NULL) {
        say_goodbye(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR, HG_NO_MEMORY);
        return;
    }
    d->in = in;
    d->payload_n = 0;
    int result = wslay_event_recv(d->wslay);
    if (result != 0) {
        fail(d, result == WSLAY_ERR_NOMEM ? WSLAY_CODE_INTERNAL_SERVER_ERROR
                                          : WSLAY_CODE_PROTOCOL_ERROR);
    }
    if (d->payload_n > 0) {
        ws->stream.user->on_read(ws->stream.user_ctx, hg_bytes(ws->net->payload_buf, d->payload_n));
    }
    if (ws->state == WS_OPEN) {
        send_replies(ws, d);
    }
    if (is_between_messages(d)) {
        return_decoder(ws);
    }
}

static void feed(struct hg_ws *ws, struct hg_bytes in)
{
    while (in.n > 0 && ws->state == WS_OPEN) {
        size_t n = in.n < HG_NET_READ_BYTES ? in.n : HG_NET_READ_BYTES;
        feed_some(ws, hg_bytes(in.p, n));
        in = hg_bytes_skip(in, n);
    }
}

static void run_early(struct hg_defer *defer)
{
    struct ws_early *early = HG_CONTAINER_OF(defer, struct ws_early, defer);
    struct hg_ws *ws = early->ws;
    ws->early = NULL;
    feed(ws, hg_bytes(early->bytes, early->n));
    hg_free(early);
    if (ws->state == WS_OPEN && ws->is_reading) {
        ws->lower->ops->read_start(ws->lower);
    }
}

/* ---- The lower stream's user ---- */

static void on_lower_read(void *ctx, struct hg_bytes in)
{
    feed(of_ctx(ctx), in);
}

static void on_lower_open(void *ctx)
{
    (void)ctx; /* it was open when it came to us */
}

static void on_lower_drained(void *ctx)
{
    struct hg_ws *ws = of_ctx(ctx);
    if (ws->state == WS_OPEN && ws->stream.user->on_drained != NULL) {
        ws->stream.user->on_drained(ws->stream.user_ctx);
    }
}

static void on_lower_closed(void *ctx, enum hg_status why)
{
    struct hg_ws *ws = of_ctx(ctx);
    if (ws->decoder != NULL) {
        return_decoder(ws);
    }
    if (ws->early != NULL) {
        hg_net_undefer(&ws->early->defer);
        hg_free(ws->early);
    }
    ws->stream.user->on_closed(ws->stream.user_ctx, why);
    ws->magic = 0;
    hg_free(ws);
}

static const struct hg_stream_user lower_user = {
    .on_read = on_lower_read,
    .on_open = on_lower_open,
    .on_drained = on_lower_drained,
    .on_closed = on_lower_closed,
};

/* ---- The stream's own operations ---- */

static void read_start(struct hg_stream *s)
{
    struct hg_ws *ws = of_stream(s);
    ws->is_reading = true;
    if (ws->state != WS_OPEN) {
        return;
    }
    if (ws->early != NULL) {
        hg_net_defer(ws->net, &ws->early->defer);
    } else {
        ws->lower->ops->read_start(ws->lower);
    }
}

static void read_stop(struct hg_stream *s)
{
    struct hg_ws *ws = of_stream(s);
    ws->is_reading = false;
    if (ws->early != NULL) {
        hg_net_undefer(&ws->early->defer);
    }
    ws->lower->ops->read_stop(ws->lower);
}

static size_t write_header(uint8_t *out, enum hg_frame_kind kind, uint64_t payload_n)
{
    size_t n = header_bytes(payload_n);
    out[0] = kind == HG_FRAME_TEXT ? 0x81 : 0x82; /* FIN */
    out[1] = (uint8_t)(n == 2 ? payload_n : n == 4 ? 126 : 127);
    for (size_t i = n - 1; i >= 2; i--) {
        out[i] = (uint8_t)payload_n;
        payload_n >>= 8;
    }
    return n;
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct hg_ws *ws = of_stream(s);
    struct hg_part few[PARTS_MAX];
    struct hg_part *all = few;
    uint8_t header[10];
    uint64_t payload_n = 0;
    if (ws->state != WS_OPEN) {
        return HG_CLOSED;
    }
    if (parts_n >= PARTS_MAX && (all = hg_alloc((parts_n + 1) * sizeof(*all))) == NULL) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < parts_n; i++) {
        all[i + 1] = parts[i];
        payload_n += parts[i].bytes.n;
    }
    all[0] = (struct hg_part){NULL, {header, write_header(header, kind, payload_n)}};
    enum hg_status status = ws->lower->ops->write(ws->lower, kind, all, parts_n + 1);
    if (all != few) {
        hg_free(all);
    }
    return status;
}

static size_t pending(const struct hg_stream *s)
{
    const struct hg_ws *ws = of_stream(s);
    return ws->lower->ops->pending(ws->lower);
}

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct hg_ws *ws = of_stream(s);
    if (ws->state == WS_OPEN) {
        say_goodbye(ws, code_of(why), why);
    }
}

static void close_now(struct hg_stream *s, enum hg_status why)
{
    struct hg_ws *ws = of_stream(s);
    ws->state = WS_ENDING;
    ws->lower->ops->close(ws->lower, why);
}

static const char *peer(struct hg_stream *s)
{
    struct hg_ws *ws = of_stream(s);
    return ws->lower->ops->peer(ws->lower);
}

static const struct hg_stream_ops ws_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = finish,
    .close = close_now,
    .peer = peer,
};

static bool keep_early(struct hg_ws *ws, struct hg_bytes early)
{
    if (early.n == 0) {
        return true;
    }
    ws->early = hg_zalloc(sizeof(*ws->early) + early.n);
    if (ws->early == NULL) {
        return false;
    }
    ws->early->defer.run = run_early;
    ws->early->ws = ws;
    ws->early->n = early.n;
    memcpy(ws->early->bytes, early.p, early.n);
    return true;
}

struct hg_stream *hg_ws_accept(struct hg_net *net, struct hg_stream *lower_own,
                               struct hg_bytes early, size_t max_message_bytes,
                               const struct hg_stream_user *user, void *ctx)
{
    struct hg_ws *ws = hg_zalloc(sizeof(*ws));
    if (ws == NULL || !keep_early(ws, early)) {
        hg_free(ws);
        lower_own->ops->close(lower_own, HG_NO_MEMORY);
        return NULL;
    }
    ws->stream.ops = &ws_ops;
    ws->magic = WS_MAGIC;
    ws->net = net;
    ws->lower = lower_own;
    ws->max_message_bytes = max_message_bytes;
    hg_stream_set_user(&ws->stream, user, ctx);
    hg_stream_set_user(lower_own, &lower_user, ws);
    lower_own->ops->read_stop(lower_own);
    return &ws->stream;
}
