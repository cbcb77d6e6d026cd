/* SPDX-License-Identifier: Apache-2.0 */
/* The server side of a WebSocket (RFC 6455) as a stream on a stream. A decoder is lent to it only
 * while a frame or a fragmented message is incomplete. What goes out is framed here, since a server
 * does not mask: a header in front of parts that are passed on as they are. */
#include "stream/ws.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/ws_decoder.h"

enum {
    WS_MAGIC = 0x77730a51,
    PARTS_MAX = 16, /* of one message, header included */
    CONTROL_PENDING_MAX =
        64 * 1024, /* pings go unanswered while this much is queued (section 5.5.3 allows it) */
    CONTROL_MAX = 125,
    HEADER_MAX = 10,
};

enum opcode { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

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
    bool is_reading : 1;
    bool has_spoken : 1, speaks_binary : 1; /* the peer, in its first message */
    bool is_pinged : 1;                     /* and nothing has come since */
    struct hg_net *net;
    struct hg_stream *lower;
    struct hg_ws_decoder *decoder; /* NULL between frames */
    struct ws_early *early;        /* NULL once read */
    struct hg_ws_limits limits;
    uint32_t silent_since_ms; /* or pinged since; hg_clock_ms, cut off */
    uint32_t sent_n, taken_n; /* bytes given to the lower stream; those gone at the last probe */
};
_Static_assert(sizeof(struct hg_ws) <= 88, "what an allocation of 80 bytes has room for");

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

/* ---- Decoders, lent ---- */

static struct hg_ws_decoder *borrow_decoder(struct hg_ws *ws)
{
    struct hg_net *net = ws->net;
    if (ws->decoder == NULL) {
        ws->decoder =
            net->ws_decoders_n > 0 ? net->ws_decoders[--net->ws_decoders_n] : hg_ws_decoder_new();
    }
    return ws->decoder;
}

static void return_decoder(struct hg_ws *ws, bool is_as_new)
{
    struct hg_net *net = ws->net;
    if (is_as_new && net->ws_decoders_n < HG_NET_WS_DECODERS) {
        net->ws_decoders[net->ws_decoders_n++] = ws->decoder;
    } else {
        hg_ws_decoder_free(ws->decoder);
    }
    ws->decoder = NULL;
}

void hg_ws_decoders_free(struct hg_net *net)
{
    while (net->ws_decoders_n > 0) {
        hg_ws_decoder_free(net->ws_decoders[--net->ws_decoders_n]);
    }
}

/* ---- Frames out ---- */

/* Section 5.2: FIN, no mask. At most 10 bytes. */
static size_t write_header(uint8_t *out, enum opcode opcode, uint64_t payload_n)
{
    size_t n = payload_n < 126 ? 2 : payload_n <= UINT16_MAX ? 4 : 10;
    out[0] = (uint8_t)(0x80 | opcode);
    out[1] = (uint8_t)(n == 2 ? payload_n : n == 4 ? 126 : 127);
    for (size_t i = n - 1; i >= 2; i--) {
        out[i] = (uint8_t)payload_n;
        payload_n >>= 8;
    }
    return n;
}

static enum hg_status write_lower(struct hg_ws *ws, const struct hg_part *parts, size_t parts_n)
{
    enum hg_status status = ws->lower->ops->write(ws->lower, HG_FRAME_BINARY, parts, parts_n);
    for (size_t i = 0; i < parts_n && status == HG_OK; i++) {
        ws->sent_n += (uint32_t)parts[i].bytes.n;
    }
    return status;
}

/* Courtesy: it is no harm if there is no memory for it. */
static void write_control(struct hg_ws *ws, enum opcode opcode, struct hg_bytes a,
                          struct hg_bytes b)
{
    uint8_t header[HEADER_MAX];
    const struct hg_part parts[] = {
        {NULL, {header, write_header(header, opcode, a.n + b.n)}}, {NULL, a}, {NULL, b}};
    (void)write_lower(ws, parts, 3);
}

/* ---- Ending: section 7.4.1 ---- */

enum {
    CODE_NORMAL = 1000,
    CODE_GOING_AWAY = 1001,
    CODE_PROTOCOL_ERROR = 1002,
    CODE_BAD_KIND = 1003,
    CODE_BAD_PAYLOAD = 1007,
    CODE_POLICY = 1008,
    CODE_TOO_BIG = 1009,
    CODE_SERVER_ERROR = 1011,
    CODE_TRY_AGAIN_LATER = 1013,
};

/* Policy is for whatever the client could do otherwise and that has no code of its own. */
static uint16_t code_of(enum hg_status why)
{
    switch (why) {
    case HG_OK:
    case HG_CLOSED: return CODE_NORMAL;
    case HG_SHUTTING_DOWN: return CODE_GOING_AWAY;
    case HG_MALFORMED:
    case HG_PROTOCOL_ERROR: return CODE_PROTOCOL_ERROR;
    case HG_TOO_LARGE: return CODE_TOO_BIG;
    case HG_NO_MEMORY:
    case HG_SERVER_ERROR: return CODE_SERVER_ERROR;
    case HG_BUSY:
    case HG_BROKER_AWAY:
    case HG_TIMED_OUT: return CODE_TRY_AGAIN_LATER;
    default: return CODE_POLICY;
    }
}

static void say_goodbye(struct hg_ws *ws, uint16_t code, enum hg_status why, const char *rule)
{
    const uint8_t code_bytes[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    struct hg_bytes reason = hg_bytes_str(rule);
    reason.n = reason.n > CONTROL_MAX - 2 ? CONTROL_MAX - 2 : reason.n;
    ws->state = WS_ENDING;
    write_control(ws, OP_CLOSE, hg_bytes(code_bytes, 2), reason);
    ws->lower->ops->finish(ws->lower, why);
}

/* code: the decoder's, for what the client did wrong. */
static void refuse(struct hg_ws *ws, uint16_t code)
{
    enum hg_status why = HG_PROTOCOL_ERROR;
    const char *rule = "a WebSocket frame breaks RFC 6455";
    if (code == CODE_BAD_KIND) {
        rule = "WebSocket messages must be binary here";
    } else if (code == CODE_BAD_PAYLOAD) {
        why = HG_MALFORMED;
        rule = "a WebSocket text is not UTF-8";
    } else if (code == CODE_TOO_BIG) {
        why = HG_TOO_LARGE;
        rule = "the WebSocket message exceeds the limit";
    }
    say_goodbye(ws, code, why, rule);
    if (ws->stream.user->on_broken != NULL) {
        ws->stream.user->on_broken(ws->stream.user_ctx, why, rule);
    }
}

/* ---- Input ---- */

struct outcome { /* of one piece of input, after its payload has been handed up */
    enum hg_ws_event event;
    uint16_t code;
    struct hg_bytes close; /* the payload of a close frame */
};

/* Collects the payload in hg_net.payload_buf, whose size `in` does not exceed; returns how much. */
static size_t decode(struct hg_ws *ws, struct hg_bytes in, struct outcome *out)
{
    size_t n = 0;
    struct hg_bytes payload;
    for (;;) {
        out->event = hg_ws_decoder_next(ws->decoder, &in, &ws->limits, &payload, &out->code);
        if (out->event == HG_WS_PAYLOAD) {
            if (!ws->has_spoken) {
                ws->has_spoken = true;
                ws->speaks_binary = !hg_ws_decoder_is_text(ws->decoder);
            }
            memcpy(ws->net->payload_buf + n, payload.p, payload.n);
            n += payload.n;
        } else if (out->event != HG_WS_PING) {
            out->close = payload;
            return n;
        } else if (ws->lower->ops->pending(ws->lower) <= CONTROL_PENDING_MAX) {
            write_control(ws, OP_PONG, payload, HG_BYTES(""));
        }
    }
}

static void feed_some(struct hg_ws *ws, struct hg_bytes in)
{
    struct outcome outcome;
    if (borrow_decoder(ws) == NULL) {
        say_goodbye(ws, CODE_SERVER_ERROR, HG_NO_MEMORY, hg_status_text(HG_NO_MEMORY));
        return;
    }
    size_t n = decode(ws, in, &outcome);
    hg_net_note(&ws->net->payload_n, n);
    if (n > 0) {
        ws->stream.user->on_read(ws->stream.user_ctx, hg_bytes(ws->net->payload_buf, n));
    }
    if (outcome.event == HG_WS_MORE) {
        if (hg_ws_decoder_is_idle(ws->decoder)) {
            return_decoder(ws, true);
        }
        return;
    }
    if (ws->state == WS_OPEN && outcome.event == HG_WS_CLOSE) {
        ws->state = WS_ENDING;
        write_control(ws, OP_CLOSE, outcome.close, HG_BYTES(""));
        ws->lower->ops->finish(ws->lower, HG_CLOSED);
    } else if (ws->state == WS_OPEN) {
        refuse(ws, outcome.code);
    }
    return_decoder(ws, false);
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

static void note_life(struct hg_ws *ws, uint64_t now_ms)
{
    ws->silent_since_ms = (uint32_t)now_ms;
    ws->is_pinged = false;
}

static void on_lower_read(void *ctx, struct hg_bytes in)
{
    struct hg_ws *ws = of_ctx(ctx);
    note_life(ws, hg_clock_ms());
    feed(ws, in);
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
        return_decoder(ws, false);
    }
    if (ws->early != NULL) {
        hg_net_undefer(&ws->early->defer);
        hg_free(ws->early);
    }
    ws->stream.user->on_closed(ws->stream.user_ctx, why);
    ws->magic = 0;
    hg_free(ws);
}

static void on_lower_broken(void *ctx, enum hg_status why, const char *rule)
{
    const struct hg_ws *ws = of_ctx(ctx);
    if (ws->stream.user->on_broken != NULL) {
        ws->stream.user->on_broken(ws->stream.user_ctx, why, rule);
    }
}

static const struct hg_stream_user lower_user = {
    .on_read = on_lower_read,
    .on_open = on_lower_open,
    .on_drained = on_lower_drained,
    .on_closed = on_lower_closed,
    .on_broken = on_lower_broken,
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

/* With a header of its own. Not part of its callers, which rarely need a frame as large as this. */
__attribute__((noinline)) static enum hg_status write_framed(struct hg_ws *ws, enum opcode opcode,
                                                             const struct hg_part *parts,
                                                             size_t parts_n)
{
    struct hg_part few[PARTS_MAX];
    struct hg_part *all = few;
    uint8_t header[HEADER_MAX];
    uint64_t payload_n = 0;
    if (parts_n >= PARTS_MAX && (all = hg_alloc((parts_n + 1) * sizeof(*all))) == NULL) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < parts_n; i++) {
        all[i + 1] = parts[i];
        payload_n += parts[i].bytes.n;
    }
    all[0] = (struct hg_part){NULL, {header, write_header(header, opcode, payload_n)}};
    enum hg_status status = write_lower(ws, all, parts_n + 1);
    if (all != few) {
        hg_free(all);
    }
    return status;
}

/* Others may get the same: with the header of the one before, or one that is made for all. */
static enum hg_status write_joint(struct hg_ws *ws, enum opcode opcode, const struct hg_part *part)
{
    uint8_t header[HEADER_MAX];
    struct hg_part framed;
    const struct hg_bytes head = {header, write_header(header, opcode, part->bytes.n)};
    return hg_joint_frame(&ws->net->joints, part, (uint8_t)opcode, head, &framed)
               ? write_lower(ws, &framed, 1)
               : write_framed(ws, opcode, part, 1);
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct hg_ws *ws = of_stream(s);
    if (ws->state != WS_OPEN) {
        return HG_CLOSED;
    }
    enum opcode opcode = kind == HG_FRAME_TEXT && !ws->speaks_binary ? OP_TEXT : OP_BINARY;
    if (parts_n != 1) {
        return write_framed(ws, opcode, parts, parts_n);
    }
    const struct hg_part *framed = hg_joint_framed(&ws->net->joints, parts, (uint8_t)opcode);
    return framed != NULL ? write_lower(ws, framed, 1) : write_joint(ws, opcode, parts);
}

static size_t pending(const struct hg_stream *s)
{
    const struct hg_ws *ws = of_stream(s);
    return ws->lower->ops->pending(ws->lower);
}

static void await_drained(struct hg_stream *s)
{
    struct hg_ws *ws = of_stream(s);
    ws->lower->ops->await_drained(ws->lower);
}

static bool has_moved(struct hg_stream *s)
{
    struct hg_ws *ws = of_stream(s);
    return ws->lower->ops->has_moved(ws->lower);
}

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct hg_ws *ws = of_stream(s);
    if (ws->state == WS_OPEN) {
        say_goodbye(ws, code_of(why), why, hg_status_text(why));
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

static bool certificate(struct hg_stream *s, enum hg_certificate_name which, struct hg_writer *out)
{
    struct hg_ws *ws = of_stream(s);
    return ws->lower->ops->certificate != NULL &&
           ws->lower->ops->certificate(ws->lower, which, out);
}

static const struct hg_stream_ops ws_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = finish,
    .close = close_now,
    .peer = peer,
    .certificate = certificate,
    .await_drained = await_drained,
    .has_moved = has_moved,
};

bool hg_ws_probe(struct hg_stream *s, uint64_t now_ms, uint64_t every_ms)
{
    struct hg_ws *ws = of_stream(s);
    uint32_t waiting_n = (uint32_t)pending(s);
    uint32_t taken_n = ws->sent_n - waiting_n;
    /* What waits may count a layer's overhead: a write alone never looks as if something had gone. */
    bool is_taking = waiting_n > 0 && (int32_t)(taken_n - ws->taken_n) > 0;
    ws->taken_n = taken_n;
    if (is_taking || (waiting_n == 0 && !ws->is_reading)) {
        note_life(ws, now_ms);
    }
    if (ws->state != WS_OPEN || (uint32_t)now_ms - ws->silent_since_ms < every_ms) {
        return true;
    }
    if (ws->is_pinged) {
        return false;
    }
    note_life(ws, now_ms); /* from now on it may answer */
    ws->is_pinged = true;
    write_control(ws, OP_PING, HG_BYTES(""), HG_BYTES(""));
    return true;
}

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
                               struct hg_bytes early, const struct hg_ws_limits *limits,
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
    ws->limits = *limits;
    note_life(ws, hg_clock_ms());
    hg_stream_set_user(&ws->stream, user, ctx);
    hg_stream_set_user(lower_own, &lower_user, ws);
    lower_own->ops->read_stop(lower_own);
    return &ws->stream;
}
