/* SPDX-License-Identifier: Apache-2.0 */
/* Input to the session and what it left, output to the stream, and the one way a connection
 * ends. */
#include "core/conn.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/allowance.h"
#include "core/login.h"
#include "core/slow.h"
#include "core/worker.h"
#include "stream/tls.h"

#include <time.h>

enum conn_state {
    CONN_OPEN,
    CONN_FINISHING, /* output still goes out; the session is told from the loop */
    CONN_CLOSING,   /* on_closed comes from the loop */
};

/* Besides the public reasons: the client does not read what it is sent, so it is not listened to
 * either. */
enum { HOLD_OUTPUT = 4 };

enum { POOL_SLAB_N = 64 };

static const uint64_t ID_MASK = (1ULL << 48) - 1;

struct hg_conn {
    struct hg_worker *worker;
    struct hg_stream *stream;
    struct hg_session *session; /* NULL once it has been told that it is closed */
    const struct hg_adapter *adapter;
    const struct hg_listener_spec *listener;
    struct hg_list link;   /* in hg_worker.conns */
    struct hg_defer later; /* feeds what is kept, or tells the session that it is closed */
    struct hg_buf *input;  /* what the session has not used; NULL: nothing */
    uint32_t input_at;     /* bytes at its front that have been used since */
    uint8_t state;         /* enum conn_state */
    uint8_t why;           /* enum hg_status, once it is not OPEN */
    uint8_t held;          /* enum hg_hold, HOLD_OUTPUT */
    bool is_feeding : 1, is_upgraded : 1, is_websocket : 1;
    uint64_t id : 48;
    uint64_t moved_at : 16; /* when output was last seen to go, or none to wait; stall_clock */
    uint64_t opened_wall_ms, last_read_ms;
    struct hg_allowance *allowance; /* NULL: no limit needs one */
};
_Static_assert(sizeof(struct hg_conn) <= 128, "an idle connection has 1 KiB, its session included");

static struct hg_proto_metrics *metrics_of(const struct hg_conn *c, const struct hg_session *s)
{
    return &c->worker->metrics.proto[s->proto];
}

static size_t high_bytes(const struct hg_conn *c)
{
    return (size_t)c->worker->config->outbound_high_bytes;
}

/* ---- The end ---- */

/* True where a connection ends by what the client did wrong. */
static bool is_mistake(enum hg_status why)
{
    switch (why) {
    case HG_MALFORMED:
    case HG_PROTOCOL_ERROR:
    case HG_BAD_VERSION:
    case HG_BAD_CLIENT_ID:
    case HG_BAD_LOGIN:
    case HG_EXPIRED:
    case HG_NOT_ALLOWED:
    case HG_BAD_FILTER:
    case HG_BAD_ADDRESS:
    case HG_NO_RULE:
    case HG_KEY_TOO_LONG:
    case HG_NO_WILDCARD:
    case HG_TOO_LARGE:
    case HG_TOO_MANY:
    case HG_BAD_PROPERTY: return true;
    default: return false;
    }
}

static void note_mistake(struct hg_conn *c, enum hg_status why, const char *rule)
{
    struct hg_session *s = c->session;
    if (s == NULL || !is_mistake(why)) {
        return;
    }
    struct hg_session_info info = {0};
    s->ops->describe(s, &info);
    hg_count(&metrics_of(c, s)->errors, 1);
    rule = rule != NULL ? rule : hg_status_text(why);
    HG_LOG_LIMITED_BY(c->worker->log, HG_LOG_INFO, "client.refused", rule,
                      info.client_id.n > 0 ? info.client_id : hg_bytes_str(rule),
                      HG_F_STR("protocol", c->adapter->name), HG_F_BYTES("client", info.client_id),
                      HG_F_STR("peer", hg_conn_peer(c)), HG_F_UINT("conn", c->id),
                      HG_F_STR("reason", hg_status_text(why)), HG_F_STR("rule", rule));
}

static void end_session(struct hg_conn *c, enum hg_status why)
{
    struct hg_session *s = c->session;
    if (s != NULL) {
        hg_uncount(&metrics_of(c, s)->connections, 1);
        c->session = NULL;
        hg_slow_end(s);
        s->ops->closed(s, why);
    }
}

static void begin_session(struct hg_conn *c, struct hg_session *s)
{
    c->session = s;
    hg_count(&metrics_of(c, s)->connections, 1);
    hg_count(&metrics_of(c, s)->connections_total, 1);
}

static void leave_walk(struct hg_conn_walk *walk, const struct hg_conn *c)
{
    if (walk->at == &c->link) {
        walk->at = c->link.next;
    }
}

/* Who the client is has not been settled: what it says may be how it shows it. */
static bool may_be_secret(const struct hg_conn *c)
{
    return c->worker->config->has_identities &&
           (c->session == NULL || c->session->identity == NULL);
}

static void drop_input(struct hg_conn *c, bool is_secret)
{
    struct hg_writer w = {.buf = c->input, .is_secret = is_secret};
    hg_writer_close(&w);
    c->input = NULL;
    c->input_at = 0;
}

/* The only place that frees c. */
static void on_closed(void *ctx, enum hg_status why)
{
    struct hg_conn *c = ctx;
    struct hg_worker *worker = c->worker;
    if (c->state == CONN_OPEN) {
        note_mistake(c, why, NULL); /* of a layer below: a broken WebSocket frame */
        c->why = (uint8_t)why;
    }
    c->state = CONN_CLOSING;
    hg_net_undefer(&c->later);
    bool was_secret = may_be_secret(c);
    end_session(c, (enum hg_status)c->why);
    hg_allowance_leave(c->allowance);
    drop_input(c, was_secret);
    leave_walk(&worker->probes, c);
    leave_walk(&worker->stalls, c);
    hg_list_remove(&c->link);
    worker->conns_n--;
    hg_pool_put(&worker->conn_pool, c);
}

static void end(struct hg_conn *c, enum conn_state state, enum hg_status why, const char *rule)
{
    if (c->state == CONN_OPEN) {
        note_mistake(c, why, rule);
        c->why = (uint8_t)why;
        hg_net_defer(&c->worker->net, &c->later);
    }
    c->state = (uint8_t)state;
    if (state == CONN_FINISHING) {
        c->stream->ops->finish(c->stream, why);
    } else {
        c->stream->ops->close(c->stream, why);
    }
}

void hg_conn_finish(struct hg_conn *c, enum hg_status why)
{
    if (c->state == CONN_OPEN) {
        end(c, CONN_FINISHING, why, NULL);
    }
}

void hg_conn_close(struct hg_conn *c, enum hg_status why)
{
    if (c->state != CONN_CLOSING) {
        end(c, CONN_CLOSING, why, NULL);
    }
}

bool hg_conn_is_closing(const struct hg_conn *c)
{
    return c != NULL && c->state != CONN_OPEN;
}

/* ---- Input ---- */

/* Keeps what the session did not use. Bounded: codecs refuse what is over their limits, and a held
 * connection is not read. */
static void keep_input(struct hg_conn *c, struct hg_bytes in)
{
    struct hg_writer w = {.buf = c->input, .is_secret = may_be_secret(c)};
    if (c->input_at > 0 && c->input_at >= w.buf->n / 2) {
        w.buf->n -= c->input_at;
        memmove(w.buf->data, w.buf->data + c->input_at, w.buf->n);
        c->input_at = 0;
    }
    hg_writer_bytes(&w, in);
    c->input = w.buf;
    if (w.failed) {
        hg_conn_close(c, HG_NO_MEMORY);
    }
}

/* Returns the bytes that need not be kept. */
static size_t feed_session(struct hg_conn *c, struct hg_bytes in)
{
    struct hg_error err = {.status = HG_OK};
    c->is_feeding = true;
    c->is_upgraded = false;
    ssize_t used = c->session->ops->feed(c->session, in, &err);
    c->is_feeding = false;
    if (c->is_upgraded || c->state != CONN_OPEN) {
        return in.n; /* the WebSocket has its share, or nobody wants it */
    }
    if (used < 0) {
        end(c, CONN_FINISHING, err.status, err.rule);
        return in.n;
    }
    HG_CHECK((size_t)used <= in.n);
    if (hg_conn_pending(c) > high_bytes(c)) {
        hg_conn_hold(c, (enum hg_hold)HOLD_OUTPUT);
    }
    return (size_t)used;
}

static void feed_kept(struct hg_conn *c)
{
    struct hg_bytes in = hg_bytes_skip(hg_buf_bytes(c->input), c->input_at);
    bool was_secret = may_be_secret(c);
    size_t used = feed_session(c, in);
    if (was_secret) {
        hg_forget(c->input->data + c->input_at, used);
    }
    c->input_at += (uint32_t)used;
    if (c->input_at == c->input->n) {
        drop_input(c, was_secret);
    }
}

static void on_read(void *ctx, struct hg_bytes in)
{
    struct hg_conn *c = ctx;
    if (c->state != CONN_OPEN) {
        return;
    }
    c->last_read_ms = hg_clock_ms();
    if (c->held == 0 && c->input == NULL) {
        in = hg_bytes_skip(in, feed_session(c, in));
        if (in.n > 0) {
            keep_input(c, in);
        }
        return;
    }
    keep_input(c, in);
    if (c->held == 0 && c->state == CONN_OPEN) {
        feed_kept(c);
    }
}

static void on_drained(void *ctx)
{
    struct hg_conn *c = ctx;
    hg_conn_release(c, (enum hg_hold)HOLD_OUTPUT);
    if (c->state == CONN_OPEN) {
        hg_slow_resume(c->session);
    }
    if (c->state == CONN_OPEN && c->session->ops->drained != NULL) {
        c->session->ops->drained(c->session);
    }
}

static void on_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct hg_conn *c = ctx;
    if (c->state == CONN_OPEN) {
        end(c, CONN_FINISHING, why, rule);
    }
}

static enum hg_status enter(struct hg_conn *c)
{
    return c->listener->serve == HG_SERVE_ADMIN ? HG_OK : hg_allowance_enter(c->worker, c);
}

/* TOO_MANY has been logged; for the session's metrics it is a client's mistake. */
static void on_peer(void *ctx)
{
    struct hg_conn *c = ctx;
    if (c->state == CONN_OPEN) {
        enum hg_status status = enter(c);
        if (status != HG_OK) {
            hg_conn_close(c, status);
        }
    }
}

static void on_open(void *ctx)
{
    (void)ctx; /* accepted streams are open from the start */
}

static const struct hg_stream_user stream_user = {
    .on_read = on_read,
    .on_open = on_open,
    .on_drained = on_drained,
    .on_closed = on_closed,
    .on_broken = on_broken,
    .on_peer = on_peer,
};

static void run_later(struct hg_defer *defer)
{
    struct hg_conn *c = HG_CONTAINER_OF(defer, struct hg_conn, later);
    if (c->state != CONN_OPEN) {
        end_session(c, (enum hg_status)c->why);
        return;
    }
    if (c->held == 0 && c->input != NULL) {
        feed_kept(c);
    }
    if (c->held == 0 && c->state == CONN_OPEN) {
        c->stream->ops->read_start(c->stream);
    }
}

void hg_conn_hold(struct hg_conn *c, enum hg_hold bit)
{
    if (c->held == 0 && c->state == CONN_OPEN) {
        c->stream->ops->read_stop(c->stream);
    }
    c->held |= (uint8_t)bit;
}

void hg_conn_release(struct hg_conn *c, enum hg_hold bit)
{
    if ((c->held & bit) == 0) {
        return;
    }
    c->held &= (uint8_t)~bit;
    if (c->held == 0 && c->state == CONN_OPEN) {
        hg_net_defer(&c->worker->net, &c->later);
    }
}

bool hg_conn_is_held(const struct hg_conn *c)
{
    return (c->held & (HG_HOLD_UPSTREAM | HG_HOLD_SESSION | HG_HOLD_LOGIN | HG_HOLD_RATE)) != 0;
}

/* ---- Output ---- */

enum hg_status hg_conn_send_kind(struct hg_conn *c, enum hg_frame_kind kind,
                                 const struct hg_part *parts, size_t parts_n)
{
    if (c->state != CONN_OPEN) {
        return HG_CLOSED;
    }
    return c->stream->ops->write(c->stream, kind, parts, parts_n);
}

enum hg_status hg_conn_send(struct hg_conn *c, const struct hg_part *parts, size_t parts_n)
{
    return hg_conn_send_kind(c, c->adapter->ws_frame_kind, parts, parts_n);
}

enum hg_status hg_conn_send_bytes(struct hg_conn *c, struct hg_bytes bytes)
{
    return hg_conn_send(c, &(struct hg_part){NULL, bytes}, 1);
}

enum hg_status hg_conn_send_buf(struct hg_conn *c, struct hg_buf *buf)
{
    return hg_conn_send(c, &(struct hg_part){buf, hg_buf_bytes(buf)}, 1);
}

size_t hg_conn_pending(const struct hg_conn *c)
{
    return c->stream->ops->pending(c->stream);
}

bool hg_conn_is_full(const struct hg_conn *c, size_t n)
{
    if (c == NULL) {
        return false;
    }
    size_t pending = hg_conn_pending(c);
    return pending > high_bytes(c) || n > high_bytes(c) - pending;
}

void hg_conn_await_drained(struct hg_conn *c)
{
    if (c->state == CONN_OPEN) {
        c->stream->ops->await_drained(c->stream);
    }
}

/* ---- The beginning, and the change to WebSocket ---- */

/* What looks for a stall counts in such parts of its time. */
enum { STALL_PARTS = 64 };

/* Cut off: nobody goes unseen for as long as it takes to come round. */
static uint16_t stall_clock(const struct hg_conn *c)
{
    uint64_t time_ms = c->worker->config->stalled_timeout_ms;
    if (time_ms == 0) {
        return 0;
    }
    return (uint16_t)(hg_clock_ms() * STALL_PARTS / time_ms);
}

void hg_conn_pool_open(struct hg_pool *pool)
{
    hg_pool_open(pool, sizeof(struct hg_conn), POOL_SLAB_N);
}

/* The stream that c is the user of; NULL: the accepted one closes. */
static struct hg_stream *secure(struct hg_conn *c, struct hg_stream *stream_own,
                                const struct hg_listener_spec *listener)
{
    struct hg_net *net = &c->worker->net;
    const struct hg_config *config = c->worker->config;
    if (listener->tls_context == NULL) {
        hg_stream_set_user(stream_own, &stream_user, c);
        return stream_own;
    }
    if (!hg_allowance_may_shake(c->worker)) {
        hg_count(&net->counters.refused_limit, 1);
        stream_own->ops->close(stream_own, HG_TOO_MANY);
        return NULL;
    }
    return hg_tls_accept(net, stream_own, listener->tls_context, config->tls_handshake_timeout_ms,
                         &stream_user, c);
}

/* False: it closes. What comes through a proxy has no address of its own yet. */
static bool admit(struct hg_conn *c, struct hg_stream *stream_own)
{
    c->stream = stream_own;
    enum hg_status status = c->listener->has_proxy ? HG_OK : enter(c);
    if (status != HG_OK) {
        hg_count(&c->worker->net.counters.refused_limit, status == HG_TOO_MANY);
        stream_own->ops->close(stream_own, status);
    }
    return status == HG_OK;
}

void hg_conn_accept(struct hg_worker *worker, struct hg_stream *stream_own,
                    const struct hg_adapter *adapter, const struct hg_listener_spec *listener)
{
    struct hg_conn *c = hg_pool_get(&worker->conn_pool);
    if (c == NULL) {
        stream_own->ops->close(stream_own, HG_NO_MEMORY);
        return;
    }
    c->worker = worker;
    c->listener = listener;
    c->stream = admit(c, stream_own) ? secure(c, stream_own, listener) : NULL;
    if (c->stream == NULL) {
        hg_allowance_leave(c->allowance);
        hg_pool_put(&worker->conn_pool, c);
        return;
    }
    c->adapter = adapter;
    c->later.run = run_later;
    c->id = ID_MASK &
            atomic_fetch_add_explicit(&worker->gateway->next_conn_id, 1, memory_order_relaxed);
    c->moved_at = stall_clock(c);
    c->opened_wall_ms = hg_clock_wall_ms();
    c->last_read_ms = hg_clock_ms();
    hg_list_add_last(&worker->conns, &c->link);
    worker->conns_n++;
    struct hg_session *s = adapter->open(worker, c, listener, NULL);
    if (s == NULL) {
        hg_conn_close(c, HG_NO_MEMORY);
        return;
    }
    begin_session(c, s);
    if (c->held == 0) {
        c->stream->ops->read_start(c->stream);
    }
}

bool hg_conn_upgrade(struct hg_conn *c, struct hg_bytes early, const struct hg_adapter *adapter,
                     const char *subprotocol, uint32_t max_message_bytes)
{
    HG_CHECK(c->is_feeding && !c->is_upgraded);
    if (c->state != CONN_OPEN) {
        return false;
    }
    c->held = 0; /* its reasons were the old session's */
    struct hg_session *s = adapter->open(c->worker, c, c->listener, subprotocol);
    bool is_whole = s != NULL && hg_session_inherit(s, c->session);
    if (s != NULL) {
        end_session(c, HG_OK);
        begin_session(c, s);
    }
    if (!is_whole) {
        hg_conn_close(c, HG_NO_MEMORY);
        return false;
    }
    c->adapter = adapter;
    c->is_upgraded = c->is_websocket = true;
    const struct hg_ws_limits limits = {.max_message_bytes = max_message_bytes,
                                        .is_binary_only =
                                            adapter->ws_frame_kind == HG_FRAME_BINARY};
    struct hg_stream *ws =
        hg_ws_accept(&c->worker->net, c->stream, early, &limits, &stream_user, c);
    if (ws == NULL) { /* the lower stream closes, and tells us */
        c->state = CONN_CLOSING;
        c->why = HG_NO_MEMORY;
        return false;
    }
    c->stream = ws;
    ws->ops->read_start(ws);
    return true;
}

void hg_conn_hand_over(struct hg_conn *c, struct hg_session *s)
{
    HG_CHECK(c->is_feeding && !c->is_upgraded);
    c->held = 0; /* its reasons were the old session's */
    end_session(c, HG_OK);
    begin_session(c, s);
    c->is_upgraded = true;
    if (c->state == CONN_OPEN) {
        c->stream->ops->read_start(c->stream);
    }
}

/* ---- Those who are silent, and those who take nothing ---- */

/* All take turns, some at each step, and each is looked at so often in its time: a timer for each
 * would cost each its memory. */
enum { LOOKS = 4, WALK_STEP_MS = 1000 };
/* At the look before, perhaps nothing waited: as long as between two looks is added. */
enum { STALLED_PARTS = STALL_PARTS + STALL_PARTS / LOOKS };
static void set_walk(struct hg_worker *worker, struct hg_conn_walk *walk, uint64_t round_ms)
{
    hg_worker_timer(worker, &walk->timer, round_ms < WALK_STEP_MS ? round_ms : WALK_STEP_MS);
}

static uint64_t round_ms_of(uint64_t time_ms)
{
    uint64_t ms = time_ms / LOOKS;
    return ms < HG_WHEEL_TICK_MS ? HG_WHEEL_TICK_MS : ms;
}

/* time_ms: what is looked for must last so long. */
static void walk_on(struct hg_worker *worker, struct hg_conn_walk *walk, uint64_t time_ms,
                    void (*look)(struct hg_conn *c))
{
    uint64_t round_ms = round_ms_of(time_ms);
    uint64_t step_ms = round_ms < WALK_STEP_MS ? round_ms : WALK_STEP_MS;
    uint64_t n = (worker->conns_n * step_ms + round_ms - 1) / round_ms;
    for (; n > 0; n--) {
        if (walk->at == NULL || walk->at == &worker->conns) {
            walk->at = worker->conns.next;
        }
        struct hg_conn *c = HG_LIST_ENTRY(walk->at, struct hg_conn, link);
        walk->at = walk->at->next;
        if (c->state == CONN_OPEN) {
            look(c);
        }
    }
    set_walk(worker, walk, round_ms);
}

static void log_end(const struct hg_conn *c, const char *event)
{
    struct hg_session_info info = {0};
    c->session->ops->describe(c->session, &info);
    HG_LOG_LIMITED_BY(c->worker->log, HG_LOG_INFO, event, c->adapter->name,
                      hg_bytes_str(c->adapter->name), HG_F_STR("protocol", c->adapter->name),
                      HG_F_BYTES("client", info.client_id), HG_F_STR("peer", hg_conn_peer(c)),
                      HG_F_UINT("conn", c->id), HG_F_UINT("pending_bytes", hg_conn_pending(c)));
}

static void look_for_silence(struct hg_conn *c)
{
    if (!c->is_websocket ||
        hg_ws_probe(c->stream, hg_clock_ms(), c->worker->config->http_websocket_ping_ms)) {
        return;
    }
    hg_count(&metrics_of(c, c->session)->keepalive_timeouts, 1);
    log_end(c, "client.silent");
    hg_conn_finish(c, HG_KEEP_ALIVE);
}

static void look_for_stall(struct hg_conn *c)
{
    bool has_moved = c->stream->ops->has_moved(c->stream);
    uint16_t now = stall_clock(c);
    if (has_moved || hg_conn_pending(c) == 0) {
        c->moved_at = now;
    } else if ((uint16_t)(now - c->moved_at) > STALLED_PARTS) {
        hg_count(&metrics_of(c, c->session)->slow_closed, 1);
        log_end(c, "client.stalled");
        hg_conn_close(c, HG_TOO_SLOW); /* a goodbye would only wait, too */
    }
}

static void on_probe(struct hg_timer *timer)
{
    struct hg_worker *worker = HG_CONTAINER_OF(timer, struct hg_worker, probes.timer);
    walk_on(worker, &worker->probes, worker->config->http_websocket_ping_ms, look_for_silence);
}

static void on_stall_look(struct hg_timer *timer)
{
    struct hg_worker *worker = HG_CONTAINER_OF(timer, struct hg_worker, stalls.timer);
    walk_on(worker, &worker->stalls, worker->config->stalled_timeout_ms, look_for_stall);
}

void hg_conn_watch_start(struct hg_worker *worker)
{
    const struct hg_config *config = worker->config;
    hg_timer_init(&worker->probes.timer, on_probe);
    hg_timer_init(&worker->stalls.timer, on_stall_look);
    if (config->http_websocket_ping_ms > 0) {
        set_walk(worker, &worker->probes, round_ms_of(config->http_websocket_ping_ms));
    }
    if (config->stalled_timeout_ms > 0) {
        set_walk(worker, &worker->stalls, round_ms_of(config->stalled_timeout_ms));
    }
}

/* ---- For people ---- */

struct hg_allowance **hg_conn_allowance(struct hg_conn *c)
{
    return &c->allowance;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    return c->stream->ops->peer(c->stream);
}

bool hg_conn_certificate(const struct hg_conn *c, enum hg_certificate_name which,
                         struct hg_writer *out)
{
    return c->stream->ops->certificate != NULL &&
           c->stream->ops->certificate(c->stream, which, out);
}

uint64_t hg_conn_id(const struct hg_conn *c)
{
    return c->id;
}

const struct hg_listener_spec *hg_conn_listener(const struct hg_conn *c)
{
    return c->listener;
}

uint64_t hg_conn_last_read_ms(const struct hg_conn *c)
{
    return c->last_read_ms;
}

static void write_time(struct hg_writer *out, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    hg_writer_printf(out, "\"%s.%03uZ\"", text, (unsigned)(wall_ms % 1000));
}

static void write_string(struct hg_writer *out, const char *key, struct hg_bytes value)
{
    hg_writer_printf(out, "\"%s\":\"", key);
    hg_writer_json(out, value);
    hg_writer_str(out, "\",");
}

static void write_conn(const struct hg_conn *c, struct hg_writer *out)
{
    struct hg_session *s = c->session;
    struct hg_session_info info = {0};
    s->ops->describe(s, &info);
    hg_writer_printf(out, "{\"id\":%llu,", (unsigned long long)c->id);
    write_string(out, "protocol", hg_bytes_str(c->adapter->name));
    write_string(out, "version", hg_bytes_str(info.version));
    write_string(out, "transport", c->is_websocket ? HG_BYTES("websocket") : HG_BYTES("tcp"));
    write_string(out, "peer", hg_bytes_str(hg_conn_peer(c)));
    write_string(out, "listener", hg_bytes_str(hg_serve_name(c->listener->serve)));
    write_string(out, "client_id", info.client_id);
    write_string(out, "user", info.user);
    if (c->worker->realms_n > 1) {
        write_string(out, "vhost", hg_bytes_str(hg_realm_of(s)->vhost->spec->name));
    }
    hg_writer_printf(out, "\"tls\":%s,\"worker\":%u,\"subscriptions\":%u,\"pending_bytes\":%zu,",
                     c->listener->tls_context != NULL ? "true" : "false", c->worker->index,
                     (unsigned)s->subs_n, hg_conn_pending(c));
    struct hg_slow_stats slow;
    bool is_slow = hg_slow_stats(s, &slow);
    hg_writer_printf(out,
                     "\"slow\":%s,\"backlog_messages\":%zu,\"backlog_bytes\":%zu,\"dropped\":%llu,",
                     is_slow ? "true" : "false", slow.waiting_n, slow.waiting_bytes,
                     (unsigned long long)slow.dropped_n);
    write_string(out, "held",
                 (c->held & HG_HOLD_UPSTREAM) != 0  ? HG_BYTES("upstream")
                 : (c->held & HG_HOLD_SESSION) != 0 ? HG_BYTES("session")
                 : (c->held & HG_HOLD_LOGIN) != 0   ? HG_BYTES("login")
                 : (c->held & HG_HOLD_RATE) != 0    ? HG_BYTES("rate")
                 : (c->held & HOLD_OUTPUT) != 0     ? HG_BYTES("output")
                                                    : HG_BYTES(""));
    hg_writer_str(out, "\"connected_at\":");
    write_time(out, c->opened_wall_ms);
    hg_writer_str(out, "}");
}

void hg_conn_write_all(struct hg_worker *worker, struct hg_writer *out)
{
    const char *separator = "";
    HG_LIST_FOREACH (it, &worker->conns) {
        const struct hg_conn *c = HG_LIST_ENTRY(it, struct hg_conn, link);
        if (c->session != NULL) {
            hg_writer_str(out, separator);
            write_conn(c, out);
            separator = ",";
        }
    }
}

void hg_conn_each(struct hg_worker *worker, hg_conn_each_fn *each, void *ctx)
{
    HG_LIST_FOREACH (it, &worker->conns) {
        struct hg_conn *c = HG_LIST_ENTRY(it, struct hg_conn, link);
        if (c->state == CONN_OPEN) {
            each(ctx, c->session);
        }
    }
}

void hg_conn_reconfigure(struct hg_worker *worker, const struct hg_config *before)
{
    HG_LIST_FOREACH (it, &worker->conns) {
        struct hg_conn *c = HG_LIST_ENTRY(it, struct hg_conn, link);
        c->listener = &worker->config->listeners[c->listener - before->listeners];
    }
}

static void drain_one(void *ctx, struct hg_session *s)
{
    (void)ctx;
    s->ops->drain(s);
}

void hg_conn_drain_all(struct hg_worker *worker)
{
    hg_conn_each(worker, drain_one, NULL);
}

void hg_conn_close_all(struct hg_worker *worker, enum hg_status why)
{
    HG_LIST_FOREACH (it, &worker->conns) {
        hg_conn_close(HG_LIST_ENTRY(it, struct hg_conn, link), why);
    }
}
