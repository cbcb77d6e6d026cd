/* SPDX-License-Identifier: Apache-2.0 */
/* Connections over a stream without a socket, with a toy protocol: packets of one length byte and as many bytes. */
#include "core/conn.h"

#include "../stream/fake_stream.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/worker.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <string.h>

struct bench;

/* ---- The toy ---- */

struct toy {
    struct hg_session base; /* first member */
    struct bench *bench;
};

struct bench {
    struct hg_gateway gateway;
    struct hg_config config;
    struct hg_worker worker;
    uv_async_t alive; /* a loop without handles does not turn */
    struct fake_stream stream;
    struct hg_conn *conn;  /* NULL once the session is closed and the stream too */
    struct hg_writer seen; /* the packets' contents, joined by "|" */
    unsigned opened_n, closed_n, drained_n, drain_n, feeds_n;
    enum hg_status why;
    const char *subprotocol;
    bool holds;      /* HELD at a packet "h" */
    bool is_inside;  /* a call of ours is under way: no callback may come */
    bool no_session; /* open fails */
};

static struct bench *the_bench; /* an adapter's open function has no other way to the test */

static const struct hg_adapter toy_adapter, ws_adapter;

/* What a packet asks for. Returns false if it may not be used yet. */
static bool obey(struct toy *t, struct hg_bytes packet, struct hg_bytes rest)
{
    struct bench *b = t->bench;
    struct hg_conn *c = t->base.conn;
    if (hg_bytes_eq(packet, HG_BYTES("h")) && b->holds) {
        hg_conn_hold(c, HG_HOLD_UPSTREAM);
        return false;
    }
    hg_writer_bytes(&b->seen, packet);
    hg_writer_str(&b->seen, "|");
    if (hg_bytes_eq(packet, HG_BYTES("finish"))) {
        hg_conn_send_bytes(c, HG_BYTES("bye"));
        hg_conn_finish(c, HG_CLOSED);
    } else if (hg_bytes_eq(packet, HG_BYTES("close"))) {
        hg_conn_close(c, HG_NOT_ALLOWED);
    } else if (hg_bytes_eq(packet, HG_BYTES("upgrade"))) {
        hg_conn_send_bytes(c, HG_BYTES("101"));
        hg_conn_upgrade(c, rest, &ws_adapter, "toy", 1000);
    } else if (hg_bytes_eq(packet, HG_BYTES("handover"))) {
        hg_conn_hold(c, HG_HOLD_SESSION);
        hg_conn_hand_over(c, toy_adapter.open(&b->worker, c, NULL, NULL));
    }
    return true;
}

static ssize_t feed(struct hg_session *s, struct hg_bytes in, struct hg_error *err)
{
    struct toy *t = (struct toy *)s;
    struct bench *b = t->bench;
    size_t used = 0;
    assert_false(b->is_inside);
    b->feeds_n++;
    while (in.n > used && in.n - used > in.p[used]) {
        struct hg_bytes packet = {in.p + used + 1, in.p[used]};
        if (packet.n == 0) {
            return hg_error_set(err, HG_MALFORMED, "a packet has at least one byte", used);
        }
        bool is_last =
            hg_bytes_eq(packet, HG_BYTES("upgrade")) || hg_bytes_eq(packet, HG_BYTES("handover")) ||
            hg_bytes_eq(packet, HG_BYTES("finish")) || hg_bytes_eq(packet, HG_BYTES("close"));
        if (!obey(t, packet, hg_bytes_skip(in, used + 1 + packet.n))) {
            break;
        }
        used += 1 + packet.n;
        if (is_last) {
            break; /* t may be gone */
        }
    }
    return (ssize_t)used;
}

static void drained(struct hg_session *s)
{
    ((struct toy *)s)->bench->drained_n++;
}

static void drain(struct hg_session *s)
{
    ((struct toy *)s)->bench->drain_n++;
    hg_conn_finish(s->conn, HG_SHUTTING_DOWN);
}

static void closed(struct hg_session *s, enum hg_status why)
{
    struct bench *b = ((struct toy *)s)->bench;
    assert_false(b->is_inside);
    b->closed_n++;
    b->why = why;
    hg_free(s);
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    (void)s;
    *out = (struct hg_session_info){"1", HG_BYTES("toy \"1\""), HG_BYTES("anna")};
}

static const struct hg_session_ops ops = {
    .feed = feed,
    .drained = drained,
    .drain = drain,
    .closed = closed,
    .describe = describe,
};

static struct hg_session *open_toy(struct hg_worker *worker, struct hg_conn *conn,
                                   const struct hg_listener_spec *listener, const char *subprotocol)
{
    (void)listener;
    the_bench->conn = conn;
    if (the_bench->no_session) {
        return NULL;
    }
    struct toy *t = hg_zalloc(sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->base.ops = &ops;
    t->base.conn = conn;
    t->base.worker = worker;
    t->base.proto = subprotocol == NULL ? HG_PROTO_HTTP : HG_PROTO_STOMP;
    t->bench = the_bench;
    the_bench->opened_n++;
    the_bench->subprotocol = subprotocol;
    return &t->base;
}

static const struct hg_adapter toy_adapter = {.name = "toy", .open = open_toy};
static const struct hg_adapter ws_adapter = {
    .name = "toyws", .open = open_toy, .ws_frame_kind = HG_FRAME_TEXT};

static const struct hg_listener_spec listener = {
    .where = "here", .serve = HG_SERVE_WEB, .host = "127.0.0.1"};

/* ---- The bench ---- */

static void turn(struct bench *b)
{
    (void)hg_net_turn(&b->worker.net, false);
}

static void prepare(struct bench *b)
{
    struct hg_worker *w = &b->worker;
    memset(b, 0, sizeof(*b));
    the_bench = b;
    b->config.outbound_low_bytes = 1000;
    b->config.outbound_high_bytes = 10000;
    w->gateway = &b->gateway;
    w->config = &b->config;
    uv_loop_init(&w->loop);
    uv_async_init(&w->loop, &b->alive, NULL);
    hg_wheel_open(&w->wheel, hg_clock_ms());
    assert_true(hg_net_open(&w->net, &w->loop, &w->wheel, NULL));
    hg_list_init(&w->conns);
    hg_conn_pool_open(&w->conn_pool);
    fake_stream_open(&b->stream);
}

static void bench_open(struct bench *b)
{
    prepare(b);
    hg_conn_accept(&b->worker, &b->stream.stream, &toy_adapter, &listener);
    assert_int_equal(b->opened_n, 1);
    assert_true(b->stream.is_reading);
}

static void bench_close(struct bench *b)
{
    struct hg_worker *w = &b->worker;
    hg_conn_close_all(w, HG_CLOSED);
    turn(b);
    fake_stream_run(&b->stream);
    assert_int_equal(w->conns_n, 0);
    assert_int_equal(b->closed_n, b->opened_n);
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        assert_int_equal(hg_counted(&w->metrics.proto[p].connections), 0);
    }
    uv_close((uv_handle_t *)&b->alive, NULL);
    hg_net_close(&w->net);
    hg_net_run(&w->net);
    hg_net_free(&w->net);
    hg_pool_close(&w->conn_pool);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    fake_stream_close(&b->stream);
    hg_writer_close(&b->seen);
    assert_int_equal(seam_live(), 0);
}

static struct hg_bytes seen(const struct bench *b)
{
    return hg_writer_view(&b->seen);
}

static void push(struct bench *b, const char *text)
{
    fake_stream_push(&b->stream, hg_bytes_str(text));
}

/* ---- Input ---- */

static void packets_are_whole_however_they_are_split(void **state)
{
    (void)state;
    static const char wire[] = "\1a\3bcd\6efghij\2kl";
    size_t n = sizeof(wire) - 1;
    for (size_t step = 1; step <= n; step++) {
        for (size_t first = 1; first <= n; first++) {
            struct bench b;
            bench_open(&b);
            size_t at = 0;
            for (size_t size = first; at < n; size = step) {
                size = size < n - at ? size : n - at;
                fake_stream_push(&b.stream, hg_bytes(wire + at, size));
                at += size;
            }
            assert_text(seen(&b), "a|bcd|efghij|kl|");
            bench_close(&b);
        }
    }
}

static void nothing_is_kept_between_packets(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    push(&b, "\1a");
    size_t idle = seam_live();
    push(&b, "\3b");
    assert_int_equal(seam_live(), idle + 1);
    push(&b, "cd\2e");
    push(&b, "f");
    assert_int_equal(seam_live(), idle);
    assert_text(seen(&b), "a|bcd|ef|");
    bench_close(&b);
}

static void a_held_packet_comes_again_from_the_loop(void **state)
{
    (void)state;
    static const char wire[] = "\1a\1h\1b\1h\1c";
    size_t n = sizeof(wire) - 1;
    for (size_t split = 0; split <= n; split++) {
        struct bench b;
        bench_open(&b);
        b.holds = true;
        if (split > 0) {
            fake_stream_push(&b.stream, hg_bytes(wire, split));
        }
        bool is_early = split >= 4;
        assert_int_equal(hg_conn_is_held(b.conn), is_early);
        assert_int_equal(b.stream.is_reading, !is_early);
        if (split < n && is_early) {
            /* A layer below had this already when it was told to stop. */
            b.stream.is_reading = true;
            fake_stream_push(&b.stream, hg_bytes(wire + split, n - split));
            b.stream.is_reading = false;
        } else if (split < n) {
            fake_stream_push(&b.stream, hg_bytes(wire + split, n - split));
        }
        assert_text(seen(&b), "a|");
        b.holds = false;
        b.is_inside = true;
        hg_conn_release(b.conn, HG_HOLD_UPSTREAM);
        b.is_inside = false;
        assert_text(seen(&b), "a|");
        turn(&b);
        assert_text(seen(&b), "a|h|b|h|c|");
        assert_true(b.stream.is_reading);
        bench_close(&b);
    }
}

static void reading_goes_on_when_every_reason_is_gone(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    hg_conn_hold(b.conn, HG_HOLD_UPSTREAM);
    hg_conn_hold(b.conn, HG_HOLD_SESSION);
    assert_false(b.stream.is_reading);
    hg_conn_release(b.conn, HG_HOLD_UPSTREAM);
    turn(&b);
    assert_false(b.stream.is_reading);
    hg_conn_release(b.conn, HG_HOLD_SESSION);
    hg_conn_hold(b.conn, HG_HOLD_UPSTREAM); /* held again before the loop came round */
    turn(&b);
    assert_false(b.stream.is_reading);
    hg_conn_release(b.conn, HG_HOLD_UPSTREAM);
    turn(&b);
    assert_true(b.stream.is_reading);
    bench_close(&b);
}

static void a_client_that_does_not_read_is_not_listened_to(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    b.stream.pending = 10001;
    push(&b, "\1a");
    assert_false(b.stream.is_reading);
    assert_false(hg_conn_is_held(b.conn)); /* its keep-alive goes on */
    assert_true(hg_conn_is_full(b.conn, 0));
    b.stream.pending = 9000;
    assert_false(hg_conn_is_full(b.conn, 1000));
    assert_true(hg_conn_is_full(b.conn, 1001));
    b.stream.stream.user->on_drained(b.stream.stream.user_ctx);
    assert_int_equal(b.drained_n, 1);
    turn(&b);
    assert_true(b.stream.is_reading);
    bench_close(&b);
}

/* ---- The end ---- */

static void finish_lets_output_go_and_tells_the_session_in_the_same_turn(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    push(&b, "\6finish\1x");
    assert_true(b.stream.is_finished);
    assert_true(hg_conn_is_closing(b.conn));
    assert_text(hg_writer_view(&b.stream.written), "bye");
    assert_text(seen(&b), "finish|");
    assert_int_equal(b.closed_n, 0);
    assert_int_equal(hg_conn_send_bytes(b.conn, HG_BYTES("late")), HG_CLOSED);
    hg_conn_finish(b.conn, HG_SERVER_ERROR);
    turn(&b);
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_CLOSED);
    assert_int_equal(b.worker.conns_n, 1); /* the stream still writes */
    fake_stream_run(&b.stream);
    assert_int_equal(b.worker.conns_n, 0);
    bench_close(&b);
}

static void close_after_finish_drops_what_is_left(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    hg_conn_finish(b.conn, HG_SHUTTING_DOWN);
    hg_conn_close(b.conn, HG_SERVER_ERROR);
    assert_true(b.stream.is_closed);
    fake_stream_run(&b.stream); /* before the loop has come round */
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_SHUTTING_DOWN);
    turn(&b);
    assert_int_equal(b.closed_n, 1);
    bench_close(&b);
}

static void close_from_inside_feed_ends_it_once(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    push(&b, "\5close\1x");
    assert_true(b.stream.is_closed);
    assert_int_equal(b.closed_n, 0);
    hg_conn_close(b.conn, HG_SERVER_ERROR);
    turn(&b);
    turn(&b);
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_NOT_ALLOWED);
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].errors), 1);
    bench_close(&b);
}

static void the_peer_ends_it_once(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    push(&b, "\5half");
    fake_stream_hang_up(&b.stream, HG_PEER_LOST);
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_PEER_LOST);
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].errors), 0);
    bench_close(&b);
}

static void a_mistake_is_counted_and_ends_it_politely(void **state)
{
    (void)state;
    struct bench b;
    int fds[2];
    char line[1024] = "";
    bench_open(&b);
    assert_int_equal(pipe(fds), 0);
    b.worker.log = hg_log_new(fds[1], HG_LOG_INFO, false);
    push(&b, "\1a");
    fake_stream_push(&b.stream, hg_bytes("\0\1b", 3));
    assert_true(b.stream.is_finished);
    turn(&b);
    assert_int_equal(b.why, HG_MALFORMED);
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].errors), 1);
    assert_true(read(fds[0], line, sizeof(line) - 1) > 0);
    assert_non_null(strstr(line, "client.refused"));
    assert_non_null(strstr(line, "a packet has at least one byte"));
    assert_non_null(strstr(line, "192.0.2.7:4711"));
    hg_log_free(b.worker.log);
    b.worker.log = NULL;
    close(fds[0]);
    close(fds[1]);
    bench_close(&b);
}

static void a_session_that_cannot_open_closes_the_stream(void **state)
{
    (void)state;
    struct bench b;
    prepare(&b);
    b.no_session = true;
    hg_conn_accept(&b.worker, &b.stream.stream, &toy_adapter, &listener);
    assert_true(b.stream.is_closed);
    turn(&b);
    fake_stream_run(&b.stream);
    assert_int_equal(b.worker.conns_n, 0);
    bench_close(&b);
}

static void drain_asks_every_open_session_once(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    hg_conn_drain_all(&b.worker);
    hg_conn_drain_all(&b.worker);
    assert_int_equal(b.drain_n, 1);
    turn(&b);
    assert_int_equal(b.why, HG_SHUTTING_DOWN);
    bench_close(&b);
}

/* ---- Upgrade ---- */

static void an_upgrade_changes_stream_and_session(void **state)
{
    (void)state;
    /* The request, then a masked text frame (zero mask) with the packet "\2hi", cut anywhere. */
    static const uint8_t wire[] = "\7upgrade\x81\x83\0\0\0\0\2hi";
    size_t n = sizeof(wire) - 1;
    for (size_t split = 1; split <= n; split++) {
        struct bench b;
        bench_open(&b);
        uint64_t id = hg_conn_id(b.conn);
        fake_stream_push(&b.stream, hg_bytes(wire, split));
        turn(&b); /* early bytes */
        if (split < n) {
            fake_stream_push(&b.stream, hg_bytes(wire + split, n - split));
        }
        turn(&b);
        assert_text(seen(&b), "upgrade|hi|");
        assert_int_equal(b.opened_n, 2);
        assert_int_equal(b.closed_n, 1);
        assert_int_equal(b.why, HG_OK);
        assert_string_equal(b.subprotocol, "toy");
        assert_int_equal(hg_conn_id(b.conn), id);
        assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].connections), 0);
        assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_STOMP].connections), 1);
        fake_stream_forget(&b.stream);
        hg_conn_send_bytes(b.conn, HG_BYTES("hello"));
        assert_bytes(hg_writer_view(&b.stream.written), 7, "\x81\x05hello");
        bench_close(&b);
    }
}

static void a_handover_goes_on_with_the_stream(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    fake_stream_push(&b.stream, hg_bytes("\1a\10handover\1b", 13));
    assert_int_equal(b.opened_n, 2);
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_OK);
    assert_text(seen(&b), "a|handover|"); /* what was read behind it is nobody's */
    assert_true(b.stream.is_reading);     /* the hold was the old session's */
    fake_stream_push(&b.stream, hg_bytes("\1c", 2));
    assert_text(seen(&b), "a|handover|c|");
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].connections), 1);
    bench_close(&b);
}

static void an_upgrade_without_memory_closes(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 3; nth++) {
        struct bench b;
        bench_open(&b);
        hg_writer_str(&b.seen, "room for what follows: 64 bytes are enough for this");
        hg_writer_reset(&b.seen);
        hg_writer_str(&b.stream.written, "and here");
        seam_fail_alloc(nth); /* the session, the stream, the early bytes */
        fake_stream_push(&b.stream, hg_bytes("\7upgrade\x81", 9));
        seam_fail_alloc(0);
        assert_true(b.stream.is_closed);
        turn(&b);
        fake_stream_run(&b.stream);
        assert_int_equal(b.closed_n, b.opened_n);
        assert_int_equal(b.why, HG_NO_MEMORY);
        bench_close(&b);
    }
}

/* ---- Silent WebSockets ---- */

/* So many steps of the probing: a second each, and a tick of the wheel. */
static void pass(struct bench *b, unsigned steps)
{
    for (; steps > 0; steps--) {
        seam_now_ms += 1000 + HG_WHEEL_TICK_MS;
        hg_wheel_advance(&b->worker.wheel, seam_now_ms);
    }
}

static void a_silent_websocket_is_asked_and_then_ended(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    b.config.http_websocket_ping_ms = 10000;
    hg_conn_watch_start(&b.worker);
    push(&b, "\7upgrade");
    fake_stream_forget(&b.stream);
    pass(&b, 9);
    assert_int_equal(b.stream.writes_n, 0);
    pass(&b, 4);
    assert_bytes(hg_writer_view(&b.stream.written), 2, "\x89\x00");
    fake_stream_push(&b.stream, hg_bytes("\x8a\x80\0\0\0\0", 6));
    pass(&b, 13);
    assert_int_equal(b.stream.writes_n, 2);
    assert_false(b.stream.is_finished);
    pass(&b, 13);
    assert_true(b.stream.is_finished);
    assert_int_equal(b.stream.why, HG_KEEP_ALIVE);
    turn(&b);
    assert_int_equal(b.why, HG_KEEP_ALIVE);
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_STOMP].keepalive_timeouts), 1);
    bench_close(&b);
}

static void only_websockets_are_asked_and_only_where_configured(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bench b;
        bench_open(&b);
        b.config.http_websocket_ping_ms = i == 0 ? 0 : 10000;
        hg_conn_watch_start(&b.worker);
        if (i == 0) {
            push(&b, "\7upgrade");
        }
        fake_stream_forget(&b.stream);
        pass(&b, 100);
        assert_int_equal(b.stream.writes_n, 0);
        assert_false(b.stream.is_finished);
        bench_close(&b);
    }
}

static void everybody_has_a_turn_whoever_leaves(void **state)
{
    (void)state;
    enum { N = 9 };
    struct bench b;
    struct fake_stream streams[N];
    prepare(&b);
    b.config.http_websocket_ping_ms = 20000;
    hg_conn_watch_start(&b.worker);
    for (unsigned i = 0; i < N; i++) {
        fake_stream_open(&streams[i]);
        hg_conn_accept(&b.worker, &streams[i].stream, &toy_adapter, &listener);
        fake_stream_push(&streams[i], HG_BYTES("\7upgrade"));
        fake_stream_forget(&streams[i]);
    }
    pass(&b, 18);
    for (unsigned i = 0; i < N; i += 2) { /* one of them is the next */
        fake_stream_hang_up(&streams[i], HG_PEER_LOST);
    }
    pass(&b, 8);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(streams[i].writes_n, i % 2);
        fake_stream_hang_up(&streams[i], HG_PEER_LOST);
        fake_stream_close(&streams[i]);
    }
    assert_int_equal(b.worker.conns_n, 0);
    pass(&b, 100);
    bench_close(&b);
}

/* ---- Those who take nothing ---- */

static void who_takes_nothing_of_what_waits_is_closed(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    b.config.stalled_timeout_ms = 10000;
    hg_conn_watch_start(&b.worker);
    pass(&b, 40); /* nothing waits: it may be idle for ever */
    assert_false(b.stream.is_closed);
    b.stream.pending = 500;
    for (unsigned i = 0; i < 8; i++) { /* it takes some, now and then */
        pass(&b, 9);
        assert_false(b.stream.is_closed);
        b.stream.has_moved = true;
    }
    pass(&b, 9);
    b.stream.pending = 0; /* all of it, and there is more at once */
    pass(&b, 3);
    b.stream.pending = 500;
    pass(&b, 9);
    assert_false(b.stream.is_closed);
    pass(&b, 6);
    assert_true(b.stream.is_closed);
    assert_int_equal(b.stream.why, HG_TOO_SLOW);
    turn(&b);
    assert_int_equal(b.why, HG_TOO_SLOW);
    assert_int_equal(hg_counted(&b.worker.metrics.proto[HG_PROTO_HTTP].slow_closed), 1);
    bench_close(&b);
}

static void nobody_is_closed_for_it_where_the_time_is_0(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    hg_conn_watch_start(&b.worker);
    b.stream.pending = 500;
    pass(&b, 1000);
    assert_false(b.stream.is_closed);
    bench_close(&b);
}

/* ---- For people ---- */

static void connections_are_listed_as_json(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer out = {0};
    bench_open(&b);
    hg_conn_hold(b.conn, HG_HOLD_SESSION);
    hg_conn_write_all(&b.worker, &out);
    assert_text(
        hg_writer_view(&out),
        "{\"id\":0,\"protocol\":\"toy\",\"version\":\"1\",\"transport\":\"tcp\","
        "\"peer\":\"192.0.2.7:4711\",\"listener\":\"web\",\"client_id\":\"toy \\\"1\\\"\","
        "\"user\":\"anna\",\"tls\":false,\"worker\":0,\"subscriptions\":0,\"pending_bytes\":0,"
        "\"slow\":false,\"backlog_messages\":0,\"backlog_bytes\":0,\"dropped\":0,"
        "\"held\":\"session\",\"connected_at\":\"2026-01-02T03:04:05.678Z\"}");
    hg_writer_close(&out);
    bench_close(&b);
}

static void a_session_without_a_connection_is_neither_closing_nor_full(void **state)
{
    (void)state;
    assert_false(hg_conn_is_closing(NULL));
    assert_false(hg_conn_is_full(NULL, SIZE_MAX));
}

static void input_before_the_login_leaves_nothing_behind(void **state)
{
    (void)state;
    static const char wire[] = "\1h\13open sesame\1z";
    size_t n = sizeof(wire) - 1;
    for (size_t first = 1; first < n; first++) {
        for (size_t step = 1; step < 12; step += 5) {
            struct bench b;
            bench_open(&b);
            b.config.has_identities = b.holds = true;
            seam_watch("open sesam");
            fake_stream_push(&b.stream, hg_bytes(wire, first));
            b.holds = false;
            hg_conn_release(b.conn, HG_HOLD_UPSTREAM);
            turn(&b);
            for (size_t at = first; at < n; at += step) {
                fake_stream_push(&b.stream, hg_bytes(wire + at, step < n - at ? step : n - at));
            }
            assert_text(seen(&b), "h|open sesame|z|");
            hg_writer_reset(&b.seen);
            memset(b.seen.buf->data, 0, b.seen.buf->cap);
            fake_stream_push(&b.stream, HG_BYTES("\15open sesame")); /* one byte is missing */
            bench_close(&b);
            assert_int_equal(seam_left_behind(), 0);
            seam_watch(NULL);
        }
    }
}

static void what_was_read_is_overwritten_at_the_end_of_the_turn(void **state)
{
    (void)state;
    static const char secret[] = "open sesame";
    struct bench b;
    bench_open(&b);
    struct hg_net *net = &b.worker.net;
    memcpy(net->read_buf, secret, sizeof(secret));
    memcpy(net->payload_buf, secret, sizeof(secret));
    hg_net_note(&net->read_n, sizeof(secret));
    hg_net_note(&net->read_n, 1); /* a shorter read behind it */
    hg_net_note(&net->payload_n, sizeof(secret));
    hg_net_forget_input(net);
    assert_string_equal((const char *)net->read_buf, secret); /* somebody may be reading it */
    turn(&b);
    for (size_t i = 0; i < sizeof(secret); i++) {
        assert_int_equal(net->read_buf[i] | net->payload_buf[i], 0);
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_are_whole_however_they_are_split),
        cmocka_unit_test(nothing_is_kept_between_packets),
        cmocka_unit_test(a_held_packet_comes_again_from_the_loop),
        cmocka_unit_test(reading_goes_on_when_every_reason_is_gone),
        cmocka_unit_test(a_client_that_does_not_read_is_not_listened_to),
        cmocka_unit_test(finish_lets_output_go_and_tells_the_session_in_the_same_turn),
        cmocka_unit_test(close_after_finish_drops_what_is_left),
        cmocka_unit_test(close_from_inside_feed_ends_it_once),
        cmocka_unit_test(the_peer_ends_it_once),
        cmocka_unit_test(a_mistake_is_counted_and_ends_it_politely),
        cmocka_unit_test(a_session_that_cannot_open_closes_the_stream),
        cmocka_unit_test(drain_asks_every_open_session_once),
        cmocka_unit_test(an_upgrade_changes_stream_and_session),
        cmocka_unit_test(a_handover_goes_on_with_the_stream),
        cmocka_unit_test(an_upgrade_without_memory_closes),
        cmocka_unit_test(a_silent_websocket_is_asked_and_then_ended),
        cmocka_unit_test(only_websockets_are_asked_and_only_where_configured),
        cmocka_unit_test(everybody_has_a_turn_whoever_leaves),
        cmocka_unit_test(who_takes_nothing_of_what_waits_is_closed),
        cmocka_unit_test(nobody_is_closed_for_it_where_the_time_is_0),
        cmocka_unit_test(connections_are_listed_as_json),
        cmocka_unit_test(a_session_without_a_connection_is_neither_closing_nor_full),
        cmocka_unit_test(input_before_the_login_leaves_nothing_behind),
        cmocka_unit_test(what_was_read_is_overwritten_at_the_end_of_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
