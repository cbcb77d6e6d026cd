/* SPDX-License-Identifier: Apache-2.0 */
/* A whole STOMP session over a WebSocket, between a client that sends anything and a RabbitMQ that
 * does anything it may: nothing is read outside its bounds, nothing is left behind, and what the
 * client gets are whole frames that a server sends, in WebSocket frames that a server sends. */
#include "adapters/stomp/stomp_codec.h"
#include "adapters/stomp/stomp_session.h"
#include "base/check.h"
#include "message/topic.h"
#include "seam/core_fake.h"
#include "seam/seam.h"
#include "stream/net.h"
#include "unit/stream/fake_stream.h"

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return setenv("CMOCKA_TEST_ABORT", "1", 1); /* the fake core's assertions */
}

/* The next byte of the input, 0 at its end. */
static uint8_t next(struct hg_bytes *in)
{
    uint8_t byte = in->n == 0 ? 0 : in->p[0];
    *in = hg_bytes_skip(*in, in->n == 0 ? 0 : 1);
    return byte;
}

static struct hg_bytes next_n(struct hg_bytes *in, size_t n)
{
    struct hg_bytes some = hg_bytes(in->p, n < in->n ? n : in->n);
    *in = hg_bytes_skip(*in, some.n);
    return some;
}

static enum hg_status next_outcome(struct hg_bytes *in)
{
    static const enum hg_status outcomes[] = {HG_OK,          HG_OK,         HG_UNROUTABLE,
                                              HG_REJECTED,    HG_TIMED_OUT,  HG_BROKER_AWAY,
                                              HG_NO_EXCHANGE, HG_NOT_ALLOWED};
    return outcomes[next(in) % (sizeof(outcomes) / sizeof(outcomes[0]))];
}

/* ---- The WebSocket between the client and the session ---- */

struct play {
    struct core_fake f;
    struct hg_bytes in; /* what is left of the input */
    uv_loop_t loop;
    struct hg_wheel wheel;
    struct hg_net net;
    struct fake_stream lower;
    struct hg_stream *ws; /* NULL once it has closed */
    enum hg_stomp_version version;
    bool has_error; /* the session's last frame has been sent */
    bool is_closed; /* the WebSocket's, too */
};

static void on_read(void *ctx, struct hg_bytes in)
{
    struct play *p = ctx;
    HG_CHECK(in.n > 0);
    core_feed(&p->f, in);
}

static void on_open(void *ctx)
{
    (void)ctx;
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct play *p = ctx;
    p->ws = NULL;
    if (!hg_conn_is_closing(p->f.conn)) {
        hg_conn_close(p->f.conn, why);
    }
}

static void on_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct play *p = ctx;
    HG_CHECK(rule != NULL);
    if (!hg_conn_is_closing(p->f.conn)) {
        hg_conn_finish(p->f.conn, why);
    }
}

static const struct hg_stream_user user = {
    .on_read = on_read, .on_open = on_open, .on_closed = on_closed, .on_broken = on_broken};

static void open_play(struct play *p)
{
    core_open(&p->f);
    (void)core_connect(&p->f, &hg_stomp_adapter, "v12.stomp");
    HG_CHECK(uv_loop_init(&p->loop) == 0);
    hg_wheel_open(&p->wheel, seam_now_ms);
    HG_CHECK(hg_net_open(&p->net, &p->loop, &p->wheel, NULL));
    fake_stream_open(&p->lower);
    p->ws = hg_ws_accept(&p->net, &p->lower.stream, hg_bytes(NULL, 0),
                         &(struct hg_ws_limits){.max_message_bytes = 1000}, &user, p);
    HG_CHECK(p->ws != NULL);
    p->ws->ops->read_start(p->ws);
}

static void close_play(struct play *p)
{
    if (p->ws != NULL && !p->lower.is_finished && !p->lower.is_closed) {
        p->ws->ops->close(p->ws, HG_CLOSED);
    }
    fake_stream_run(&p->lower);
    HG_CHECK(p->ws == NULL);
    core_close(&p->f);
    hg_net_close(&p->net);
    hg_net_run(&p->net);
    hg_net_free(&p->net);
    HG_CHECK(uv_loop_close(&p->loop) == 0);
    fake_stream_close(&p->lower);
    HG_CHECK(seam_live() == 0);
}

/* ---- What the client gets ---- */

static void check_frame(struct play *p, const struct hg_stomp_frame *frame)
{
    HG_CHECK(!p->has_error);
    switch (frame->command) {
    case HG_STOMP_HEARTBEAT: break;
    case HG_STOMP_CONNECTED:
        HG_CHECK(hg_stomp_find(frame, "version") != NULL &&
                 hg_stomp_find(frame, "session") != NULL);
        break;
    case HG_STOMP_MESSAGE:
        HG_CHECK(hg_stomp_get(frame, "destination").n > 0 &&
                 hg_stomp_get(frame, "message-id").n > 0);
        break;
    case HG_STOMP_RECEIPT: HG_CHECK(hg_stomp_get(frame, "receipt-id").n > 0); break;
    case HG_STOMP_ERROR:
        HG_CHECK(hg_stomp_get(frame, "message").n > 0);
        p->has_error = true;
        break;
    default: HG_CHECK(false);
    }
}

/* Whatever the session has sent since the last look; it goes on over the WebSocket. */
static void check_session(struct play *p)
{
    const struct hg_stomp_limits wide = {1 << 20, 1 << 20, 1000};
    struct hg_session *s = core_session(p->f.conn);
    struct hg_session_info info = {.version = ""};
    if (s != NULL) {
        s->ops->describe(s, &info);
    }
    if (info.version[0] != '\0') {
        p->version = (enum hg_stomp_version)(info.version[2] - '0');
    }
    struct hg_bytes sent = core_sent(&p->f);
    bool is_text = hg_utf8_is_valid(sent);
    if (p->ws != NULL && sent.n > 0) {
        (void)p->ws->ops->write(p->ws, is_text ? HG_FRAME_TEXT : HG_FRAME_BINARY,
                                &(struct hg_part){NULL, sent}, 1);
    }
    struct hg_stomp_frame frame = {0};
    while (sent.n > 0) {
        struct hg_stomp_decoder dec = {0};
        struct hg_error err;
        ssize_t n = hg_stomp_decode(&dec, &wide, p->version, sent, &frame, &err);
        HG_CHECK(n > 0);
        check_frame(p, &frame);
        sent = hg_bytes_skip(sent, (size_t)n);
    }
    hg_stomp_frame_close(&frame);
    core_forget(&p->f);
}

/* A server's: whole messages, not masked, lengths as short as can be; nothing behind a close. */
static void check_websocket(struct play *p)
{
    struct hg_bytes out = hg_writer_view(&p->lower.written);
    while (out.n > 0) {
        HG_CHECK(out.n >= 2 && !p->is_closed && (out.p[0] & 0xf0) == 0x80 && out.p[1] < 0x80);
        uint8_t opcode = out.p[0] & 0x0f;
        size_t head_n = out.p[1] < 126 ? 2 : out.p[1] == 126 ? 4 : 10;
        HG_CHECK(out.n >= head_n);
        uint64_t n = head_n == 2 ? out.p[1] : 0;
        for (size_t i = 2; i < head_n; i++) {
            n = n << 8 | out.p[i];
        }
        HG_CHECK(n >= (head_n == 2 ? 0U : head_n == 4 ? 126U : 65536U) && n <= out.n - head_n);
        HG_CHECK(opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10 && n <= 125));
        HG_CHECK(opcode != 1 || hg_utf8_is_valid(hg_bytes(out.p + head_n, n)));
        p->is_closed = opcode == 8;
        out = hg_bytes_skip(out, head_n + n);
    }
    fake_stream_forget(&p->lower);
}

/* What core/conn.c does for a session and its stream. */
static void look(struct play *p)
{
    check_session(p);
    if (p->ws == NULL) {
        return;
    }
    if (hg_conn_is_closing(p->f.conn)) {
        p->ws->ops->finish(p->ws, core_why(p->f.conn));
    } else if (hg_conn_is_held(p->f.conn)) {
        p->ws->ops->read_stop(p->ws);
    } else {
        p->ws->ops->read_start(p->ws);
    }
    check_websocket(p);
}

/* ---- What happens ---- */

static void push(struct play *p, struct hg_bytes bytes)
{
    if (p->ws != NULL) {
        fake_stream_push(&p->lower, bytes);
    }
}

/* Bytes as they come; or a frame around them, in two pieces. */
static void feed(struct play *p, bool is_framed)
{
    struct hg_writer w = {0};
    uint8_t first = next(&p->in);
    uint8_t mask = next(&p->in);
    struct hg_bytes payload = next_n(&p->in, next(&p->in));
    if (is_framed) {
        hg_writer_u8(&w, first);
        hg_writer_u8(&w, (uint8_t)(0x80 | (payload.n < 126 ? payload.n : 126)));
        if (payload.n >= 126) {
            hg_writer_u16(&w, (uint16_t)payload.n);
        }
        for (size_t i = 0; i < 4; i++) {
            hg_writer_u8(&w, mask);
        }
    }
    for (size_t i = 0; i < payload.n; i++) {
        hg_writer_u8(&w, is_framed ? payload.p[i] ^ mask : payload.p[i]);
    }
    struct hg_bytes all = hg_writer_view(&w);
    size_t cut = all.n == 0 ? 0 : mask % all.n;
    if (cut > 0) {
        push(p, hg_bytes(all.p, cut));
    }
    if (all.n > cut) {
        push(p, hg_bytes_skip(all, cut));
    }
    hg_writer_close(&w);
}

static void answer(struct play *p)
{
    struct core_fake *f = &p->f;
    uint8_t what = next(&p->in);
    enum hg_status outcome = next_outcome(&p->in);
    if (what % 4 == 0 && core_has_waiting(f)) {
        core_answer(f, 0, outcome, "because");
    } else if (what % 4 == 1 && !hg_list_is_empty(&f->queues)) {
        core_queue_is(f, 0, outcome, "because");
    } else if (what % 4 == 2 && !hg_list_is_empty(&f->declares)) {
        core_declared(f, 0, outcome, "because");
    } else if (!hg_list_is_empty(&f->publishes)) {
        core_settle(f, 0, outcome, "\xff because");
    }
}

static void deliver(struct play *p)
{
    static const char *const addresses[] = {"t", "a/b", "a", "\xc3\xa9/", ""};
    static const char *const replies[] = {"", "amq.gen-1", "/queue/x", "\xff"};
    const struct hg_header headers[] = {
        {HG_BYTES("h\n:\\\r"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("\r\n:\\\t")}},
        {HG_BYTES("n"), {HG_VALUE_INT, .u.i = -2}},
        {HG_BYTES("b"), {HG_VALUE_BINARY, .u.bytes = HG_BYTES("\0\xff")}},
    };
    uint8_t kind = next(&p->in);
    uint8_t more = next(&p->in);
    struct core_delivery d = {
        .exchange = "amq.topic",
        .key = (more & 8) != 0 ? "k\xff" : "k",
        .from = (more & 1) != 0 ? core_queue(&p->f, kind / 8 % 2) : NULL,
        .must_keep = (more & 1) != 0,
        .properties = {.delivery_mode = (more & 2) != 0 ? 2 : 1,
                       .reply_to = hg_bytes_str(replies[more >> 4 & 3]),
                       .headers = headers,
                       .headers_n = more >> 6},
        .body = next_n(&p->in, kind),
        .is_redelivered = (more & 4) != 0,
    };
    if (d.from == NULL) {
        d.address = addresses[kind % (sizeof(addresses) / sizeof(addresses[0]))];
    }
    core_deliver(&p->f, &d);
}

static void change(struct play *p)
{
    static const enum hg_status statuses[] = {HG_OK, HG_HELD, HG_NO_RULE, HG_BROKER_AWAY};
    struct hg_session *s = core_session(p->f.conn);
    uint8_t what = next(&p->in);
    switch (what % 6) {
    case 0: p->f.publish_status = statuses[what / 6 % 4]; break;
    case 1: core_set_pending(p->f.conn, 1000U * next(&p->in)); break;
    case 2: p->lower.pending = 1000U * next(&p->in); break;
    case 3: fake_stream_hang_up(&p->lower, HG_PEER_LOST); break;
    case 4: hg_conn_close(p->f.conn, HG_PEER_LOST); break;
    default:
        p->f.gateway.is_draining = true;
        if (s != NULL && !hg_conn_is_closing(p->f.conn)) {
            s->ops->drain(s);
        }
        break;
    }
}

static void pass(struct play *p)
{
    core_pass(&p->f, 64U * next(&p->in));
    if (p->ws != NULL && !hg_ws_probe(p->ws, seam_now_ms, 10000) &&
        !hg_conn_is_closing(p->f.conn)) {
        hg_conn_finish(p->f.conn, HG_KEEP_ALIVE);
    }
}

static void step(struct play *p)
{
    switch (next(&p->in) % 8) {
    case 0: feed(p, false); break;
    case 1:
    case 2:
    case 3: feed(p, true); break;
    case 4: answer(p); break;
    case 5: deliver(p); break;
    case 6: pass(p); break;
    default: change(p); break;
    }
    look(p);
    core_turn(&p->f);
    look(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct play p = {.in = hg_bytes(data, n)};
    uint8_t how = next(&p.in);
    open_play(&p);
    p.f.is_answering = (how & 1) == 0;
    p.f.has_queues = (how & 2) != 0;
    p.f.is_queue_stale = (how & 4) != 0;
    p.f.rule_queue = (how & 8) != 0 ? "jobs" : NULL;
    for (size_t i = 0; i < 200 && p.in.n > 0; i++) {
        step(&p);
    }
    close_play(&p);
    return 0;
}
