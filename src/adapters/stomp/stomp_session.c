/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a STOMP connection: which frame may come when, CONNECT, heart-beats, errors, and the
 * ways it ends. */
#include "adapters/stomp/stomp_session.h"

#include "adapters/stomp/stomp_priv.h"
#include "adapters/stomp/stomp_tx.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/conn.h"
#include "core/login.h"
#include "core/retain.h"
#include "core/worker.h"
#include "message/topic.h"

enum {
    LOGIN_MAX_BYTES = 255,
    NEW_FRAME_MAX_BYTES = 64 * 1024, /* before CONNECT: a stranger gets no more memory */
    HEARTBEAT_FLOOR_MS = 1000,
    /* The wheel fires up to a tick late, and what is written has to reach the client in time. */
    HEARTBEAT_EARLY_MS = 2 * HG_WHEEL_TICK_MS
};

#define TOKEN_DESTINATION HG_BYTES("/headgate/token")

static const struct hg_session_ops ops;

static const char *const version_names[HG_STOMP_VERSION_N] = {"1.0", "1.1", "1.2"};
static const char all_versions[] = "1.0,1.1,1.2";

struct hg_stomp_session *hg_stomp_session_of(struct hg_session *base)
{
    HG_CHECK(base->ops == &ops);
    return HG_CONTAINER_OF(base, struct hg_stomp_session, base);
}

static struct hg_proto_metrics *metrics_of(struct hg_stomp_session *s)
{
    return &s->base.worker->metrics.proto[HG_PROTO_STOMP];
}

/* ---- Sending ---- */

void hg_stomp_send(struct hg_stomp_session *s, struct hg_writer *frame)
{
    struct hg_buf *buf = hg_writer_take(frame);
    if (buf == NULL || hg_conn_send_buf(s->base.conn, buf) == HG_NO_MEMORY) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    s->sent_ms = hg_clock_ms();
    hg_buf_unref(buf);
}

void hg_stomp_send_answer(struct hg_stomp_session *s, struct hg_bytes receipt, bool is_stale)
{
    if (receipt.n == 0) {
        return;
    }
    struct hg_writer w = {0};
    hg_stomp_write_command(&w, HG_STOMP_RECEIPT);
    hg_stomp_write_header(&w, s->version, HG_BYTES("receipt-id"), receipt);
    if (is_stale) {
        hg_stomp_write_header(&w, s->version, HG_BYTES("stale"), HG_BYTES("true"));
    }
    hg_stomp_write_end(&w);
    hg_stomp_send(s, &w);
}

const char *hg_stomp_topic_exchange(const struct hg_stomp_session *s)
{
    const struct hg_config *config = s->base.worker->config;
    return config->stomp_rabbitmq_destinations ? config->stomp_topic_exchange : NULL;
}

void hg_stomp_send_receipt(struct hg_stomp_session *s, struct hg_bytes receipt)
{
    hg_stomp_send_answer(s, receipt, false);
}

const char *hg_stomp_check_receipt(const struct hg_stomp_frame *frame)
{
    return hg_stomp_get(frame, "receipt").n > HG_STOMP_LABEL_MAX
               ? "the header receipt is over 1024 bytes"
               : NULL;
}

/* ---- Errors ---- */

enum hg_stomp_verdict hg_stomp_fails(struct hg_stomp_failure *f, enum hg_status status,
                                     const char *rule)
{
    f->status = status;
    f->rule = rule;
    return HG_STOMP_FAILED;
}

/* What the person who reads the ERROR can do about it. */
static const char *advice(enum hg_status status)
{
    switch (status) {
    case HG_NO_RULE:
        return "Add a [[rule]] for this destination to the gateway's configuration, or correct it; "
               "`headgate route` shows what the rules make of a destination.";
    case HG_KEY_TOO_LONG:
        return "Shorten the destination; RabbitMQ takes names and routing keys of 255 bytes.";
    case HG_BAD_LOGIN:
    case HG_EXPIRED:
        return "Connect again with a login and passcode, or a token as the passcode, that are good "
               "now.";
    case HG_BAD_PROPERTY: return "Correct the header and send the frame again.";
    case HG_NO_WILDCARD: return "Subscribe without a wildcard, or to a topic exchange.";
    case HG_NO_EXCHANGE:
        return "Declare the exchange in RabbitMQ or in the gateway's configuration.";
    case HG_NO_QUEUE: return "Declare the queue, or use /queue/NAME, which declares it.";
    case HG_UNROUTABLE:
        return "Bind a queue to the exchange for this key, then send the message again.";
    case HG_REJECTED:
        return "A queue that is full, for one, rejects messages: send it again later.";
    case HG_TIMED_OUT:
        return "The message may have arrived: send it again only if a repeat does no harm.";
    case HG_BROKER_AWAY:
    case HG_BUSY: return "Connect again and repeat what was not receipted.";
    case HG_SHUTTING_DOWN: return "Connect again.";
    case HG_TOO_FAST: return "Send more slowly, or raise the rate in the gateway's configuration.";
    case HG_TOO_LARGE:
    case HG_TOO_MANY: return "Send less, or raise the limit in the gateway's configuration.";
    default: return "Correct the client and connect again.";
    }
}

static void send_error(struct hg_stomp_session *s, const struct hg_stomp_failure *f)
{
    const char *what = f->rule != NULL ? f->rule : hg_status_text(f->status);
    struct hg_writer body = {0};
    hg_writer_str(&body, what);
    if (f->detail != NULL) {
        hg_writer_printf(&body, ": %s", f->detail);
    }
    if (f->reason.n > 0) {
        hg_writer_str(&body, ": ");
        hg_writer_bytes(&body, hg_utf8_is_valid(f->reason) ? f->reason : HG_BYTES("(not UTF-8)"));
    }
    hg_writer_printf(&body, "\n%s\n", advice(f->status));
    struct hg_writer w = {0};
    hg_stomp_write_command(&w, HG_STOMP_ERROR);
    hg_stomp_write_header(&w, s->version, HG_BYTES("message"), hg_bytes_str(what));
    if (f->status == HG_BAD_VERSION) {
        hg_stomp_write_header(&w, s->version, HG_BYTES("version"), hg_bytes_str(all_versions));
    }
    if (f->receipt.n > 0) {
        hg_stomp_write_header(&w, s->version, HG_BYTES("receipt-id"), f->receipt);
    }
    if (f->subscription.n > 0) {
        hg_stomp_write_header(&w, s->version, HG_BYTES("subscription"), f->subscription);
    }
    hg_stomp_write_header(&w, s->version, HG_BYTES("content-type"), HG_BYTES("text/plain"));
    hg_stomp_write_body(&w, hg_writer_view(&body));
    w.failed = w.failed || body.failed;
    hg_writer_close(&body);
    s->state = HG_STOMP_ENDED;
    hg_stomp_send(s, &w);
}

void hg_stomp_end(struct hg_stomp_session *s, const struct hg_stomp_failure *f)
{
    const char *why = f->rule != NULL ? f->rule : hg_status_text(f->status);
    HG_LOG_LIMITED_BY(s->base.worker->log, HG_LOG_INFO, "stomp.ended", why, hg_bytes_str(why),
                      HG_F_STR("peer", hg_conn_peer(s->base.conn)), HG_F_STR("user", s->user_own),
                      HG_F_STR("why", why), HG_F_BYTES("reason", f->reason));
    send_error(s, f);
    hg_conn_finish(s->base.conn, f->status);
}

/* ---- Time ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When a client on plain TCP that agreed to no heart-beats has been idle for too long. A WebSocket
 * is pinged instead. */
static uint64_t idle_due_ms(const struct hg_stomp_session *s)
{
    uint64_t limit_ms = s->base.worker->config->stomp_idle_timeout_ms;
    if (limit_ms == 0 || s->is_framed || s->in_ms > 0 || s->out_ms > 0 ||
        s->state != HG_STOMP_OPEN) {
        return UINT64_MAX;
    }
    return (s->heard_ms > s->sent_ms ? s->heard_ms : s->sent_ms) + limit_ms;
}

void hg_stomp_rearm(struct hg_stomp_session *s)
{
    uint64_t now = hg_clock_ms();
    uint64_t due = hg_stomp_declare_due_ms(s);
    if (s->state == HG_STOMP_NEW) {
        due = earlier(due, s->heard_ms + s->base.worker->config->stomp_connect_timeout_ms);
    }
    if (s->out_ms > 0) {
        due = earlier(due, s->sent_ms + s->out_ms - HEARTBEAT_EARLY_MS);
    }
    if (s->in_ms > 0) {
        due = earlier(due, s->heard_ms + 2 * (uint64_t)s->in_ms);
    }
    due = earlier(due, idle_due_ms(s));
    if (due == UINT64_MAX) {
        hg_timer_stop(&s->timer);
    } else {
        hg_worker_timer(s->base.worker, &s->timer, due > now ? due - now : 0);
    }
}

static void time_out(struct hg_stomp_session *s, enum hg_status status, const char *rule)
{
    const struct hg_stomp_failure f = {.status = status, .rule = rule};
    hg_count(&metrics_of(s)->keepalive_timeouts, status == HG_KEEP_ALIVE);
    hg_stomp_end(s, &f);
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_stomp_session *s = HG_CONTAINER_OF(timer, struct hg_stomp_session, timer);
    struct hg_conn *conn = s->base.conn;
    uint64_t now = hg_clock_ms();
    if (hg_stomp_is_over(s) || hg_conn_is_closing(conn)) {
        return;
    }
    if (now >= hg_stomp_declare_due_ms(s)) {
        time_out(s, HG_BROKER_AWAY, "the queue could not be declared in time");
        return;
    }
    if (hg_conn_is_held(conn)) {
        s->heard_ms = now; /* we are the ones who do not listen, or who find out who it is */
    } else if (s->state == HG_STOMP_NEW) {
        time_out(s, HG_KEEP_ALIVE, "no CONNECT frame came in time");
        return;
    }
    if (s->in_ms > 0 && now - s->heard_ms >= 2 * (uint64_t)s->in_ms) {
        time_out(s, HG_KEEP_ALIVE, "no heart-beat came in time");
        return;
    }
    if (now >= idle_due_ms(s)) {
        time_out(s, HG_KEEP_ALIVE, "idle for too long, without heart-beats");
        return;
    }
    if (s->out_ms > 0 && now - s->sent_ms >= s->out_ms - HEARTBEAT_EARLY_MS) {
        /* What still waits to be written will do as a sign of life. */
        if (hg_conn_pending(conn) == 0 &&
            hg_conn_send_bytes(conn, HG_BYTES("\n")) == HG_NO_MEMORY) {
            hg_conn_close(conn, HG_NO_MEMORY);
        }
        s->sent_ms = now;
    }
    hg_stomp_rearm(s);
}

/* ---- CONNECT ---- */

/* The best version in a comma-separated list; HG_STOMP_VERSION_N: none that we speak. */
static unsigned best_version(struct hg_bytes accepts)
{
    unsigned best = HG_STOMP_VERSION_N;
    struct hg_bytes one;
    bool has_more = true;
    while (hg_topic_next(&accepts, &has_more, ',', &one)) {
        for (unsigned v = 0; v < HG_STOMP_VERSION_N; v++) {
            if (hg_bytes_eq(one, hg_bytes_str(version_names[v])) &&
                (best == HG_STOMP_VERSION_N || v > best)) {
                best = v;
            }
        }
    }
    return best;
}

static uint32_t offered_ms(const struct hg_stomp_session *s)
{
    uint64_t ms = s->base.worker->config->stomp_heartbeat_ms;
    if (ms == 0) {
        return 0;
    }
    ms = ms < HEARTBEAT_FLOOR_MS ? HEARTBEAT_FLOOR_MS : ms;
    return (uint32_t)earlier(ms, UINT32_MAX);
}

/* STOMP 1.2 section "Heart-beating": the longer of what one side can do and the other wants; 0 on
 * either side is none. */
static uint32_t agreed_ms(uint32_t ours, uint64_t theirs)
{
    return ours == 0 || theirs == 0 ? 0 : theirs > ours ? (uint32_t)theirs : ours;
}

static bool read_heart_beat(struct hg_stomp_session *s, struct hg_bytes header)
{
    uint64_t can_ms;
    uint64_t wants_ms;
    size_t comma = hg_bytes_index(header, ',');
    if (comma == header.n || !hg_bytes_to_u64(hg_bytes(header.p, comma), UINT32_MAX, &can_ms) ||
        !hg_bytes_to_u64(hg_bytes_skip(header, comma + 1), UINT32_MAX, &wants_ms)) {
        return false;
    }
    s->in_ms = agreed_ms(offered_ms(s), can_ms);
    s->out_ms = agreed_ms(offered_ms(s), wants_ms);
    return true;
}

static void send_connected(struct hg_stomp_session *s)
{
    struct hg_writer w = {0};
    uint32_t heart_beat_ms = s->version == HG_STOMP_V10 ? 0 : offered_ms(s);
    hg_stomp_write_command(&w, HG_STOMP_CONNECTED);
    hg_writer_printf(&w, "version:%s\n", version_names[s->version]);
    hg_writer_str(&w, "server:Headgate/" HG_VERSION "\n");
    hg_writer_printf(&w, "session:session-%llx\n", (unsigned long long)hg_conn_id(s->base.conn));
    hg_writer_printf(&w, "heart-beat:%u,%u\n", heart_beat_ms, heart_beat_ms);
    if (s->user_own != NULL) {
        hg_stomp_write_header(&w, HG_STOMP_V10, HG_BYTES("user-name"), hg_bytes_str(s->user_own));
    }
    hg_stomp_write_end(&w);
    hg_stomp_send(s, &w);
}

/* Who it is, or, where nobody is known, who it says it is. */
static bool keep_user(struct hg_stomp_session *s, struct hg_bytes login)
{
    bool is_known = s->base.worker->config->has_identities;
    struct hg_bytes user = is_known ? hg_identity_user(s->base.identity) : login;
    s->user_own = user.n == 0 ? NULL : hg_bytes_dup(user);
    return user.n == 0 || s->user_own != NULL;
}

static enum hg_stomp_verdict on_connect(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame,
                                        struct hg_stomp_failure *f)
{
    const struct hg_bytes *accepts = hg_stomp_find(frame, "accept-version");
    const struct hg_bytes *heart_beat = hg_stomp_find(frame, "heart-beat");
    const struct hg_credentials credentials = {.user = hg_stomp_get(frame, "login"),
                                               .secret = hg_stomp_get(frame, "passcode"),
                                               .vhost = hg_stomp_get(frame, "host")};
    const char *why;
    unsigned version = accepts == NULL ? HG_STOMP_V10 : best_version(*accepts);
    if (version == HG_STOMP_VERSION_N) {
        return hg_stomp_fails(f, HG_BAD_VERSION, "accept-version names no version from 1.0 to 1.2");
    }
    if (heart_beat != NULL && version != HG_STOMP_V10 && !read_heart_beat(s, *heart_beat)) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR,
                              "heart-beat is not two numbers of milliseconds joined by a comma");
    }
    if (credentials.user.n > LOGIN_MAX_BYTES) {
        return hg_stomp_fails(f, HG_BAD_LOGIN, "login is over 255 bytes");
    }
    enum hg_status status = hg_session_login(&s->base, &credentials, &why);
    if (status == HG_HELD) {
        return HG_STOMP_HELD;
    }
    if (status != HG_OK) {
        return hg_stomp_fails(f, status, why);
    }
    if (!keep_user(s, credentials.user)) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    s->version = (uint8_t)version;
    s->state = HG_STOMP_OPEN;
    s->heard_ms = hg_clock_ms();
    send_connected(s);
    hg_stomp_rearm(s);
    return HG_STOMP_USED;
}

/* A SEND to the reserved destination has a newer token in its body. */
static enum hg_stomp_verdict on_send(struct hg_stomp_session *s, const struct hg_stomp_frame *frame,
                                     struct hg_stomp_failure *f)
{
    const char *why;
    if (s->base.worker->config->users.token.keys == NULL ||
        !hg_bytes_eq(hg_stomp_get(frame, "destination"), TOKEN_DESTINATION)) {
        return hg_stomp_on_send(s, frame, f);
    }
    if (hg_stomp_find(frame, "transaction") != NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "a token is not renewed in a transaction");
    }
    enum hg_status status = hg_session_renew(&s->base, frame->body, &why);
    if (status != HG_OK) {
        return hg_stomp_fails(f, status, why);
    }
    hg_stomp_send_receipt(s, hg_stomp_get(frame, "receipt"));
    return HG_STOMP_USED;
}

static void end_for(struct hg_session *base, enum hg_status why)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    const struct hg_stomp_failure f = {.status = why};
    if (!hg_stomp_is_over(s)) {
        hg_stomp_end(s, &f);
    }
}

static void too_slow(struct hg_session *base)
{
    end_for(base, HG_TOO_SLOW);
}

/* ---- Leaving ---- */

void hg_stomp_leave_if_settled(struct hg_stomp_session *s)
{
    if (s->state != HG_STOMP_LEAVING || s->unsettled_n > 0) {
        return;
    }
    if (s->leave_why == HG_SHUTTING_DOWN &&
        !s->is_framed) { /* a WebSocket says so by its close code */
        const struct hg_stomp_failure f = {.status = HG_SHUTTING_DOWN};
        send_error(s, &f);
    }
    hg_stomp_send_receipt(s, hg_bytes_str(s->leave_receipt_own));
    s->state = HG_STOMP_ENDED;
    hg_conn_finish(s->base.conn, s->leave_why);
}

static enum hg_stomp_verdict on_disconnect(struct hg_stomp_session *s,
                                           const struct hg_stomp_frame *frame,
                                           struct hg_stomp_failure *f)
{
    const struct hg_bytes *receipt = hg_stomp_find(frame, "receipt");
    if (receipt != NULL) {
        s->leave_receipt_own = hg_bytes_dup(*receipt);
        if (s->leave_receipt_own == NULL) {
            return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
        }
    }
    hg_stomp_free_subscriptions(s);
    hg_stomp_free_transactions(s);
    s->state = HG_STOMP_LEAVING;
    s->leave_why = HG_CLOSED;
    hg_stomp_leave_if_settled(s);
    return HG_STOMP_USED;
}

static void drain(struct hg_session *base)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    if (s->state == HG_STOMP_NEW || s->state == HG_STOMP_OPEN) {
        s->state = HG_STOMP_LEAVING;
        s->leave_why = HG_SHUTTING_DOWN;
    }
    hg_stomp_leave_if_settled(s);
}

/* ---- Frames ---- */

typedef enum hg_stomp_verdict frame_fn(struct hg_stomp_session *s,
                                       const struct hg_stomp_frame *frame,
                                       struct hg_stomp_failure *f);

/* What a client may send. A handler returns HELD to be called again with the same frame, having
 * done nothing. */
#define NEEDS(header) header, "the header " header " is missing"
/* clang-format off */
static const struct frame_rule {
    enum hg_stomp_state allowed_in;
    const char *needs, *missing; /* a header, in every version, and what to say without it */
    frame_fn *handler;           /* NULL: a server's frame */
} frame_rules[HG_STOMP_COMMAND_N] = {
    [HG_STOMP_CONNECT]     = {HG_STOMP_NEW,  NULL, NULL,           on_connect},
    [HG_STOMP_STOMP]       = {HG_STOMP_NEW,  NULL, NULL,           on_connect},
    [HG_STOMP_SEND]        = {HG_STOMP_OPEN, NEEDS("destination"), on_send},
    [HG_STOMP_SUBSCRIBE]   = {HG_STOMP_OPEN, NEEDS("destination"), hg_stomp_on_subscribe},
    [HG_STOMP_UNSUBSCRIBE] = {HG_STOMP_OPEN, NULL, NULL,           hg_stomp_on_unsubscribe},
    [HG_STOMP_DISCONNECT]  = {HG_STOMP_OPEN, NULL, NULL,           on_disconnect},
    [HG_STOMP_ACK]         = {HG_STOMP_OPEN, NULL, NULL,           hg_stomp_on_ack},
    [HG_STOMP_NACK]        = {HG_STOMP_OPEN, NULL, NULL,           hg_stomp_on_ack},
    [HG_STOMP_BEGIN]       = {HG_STOMP_OPEN, NEEDS("transaction"), hg_stomp_on_begin},
    [HG_STOMP_COMMIT]      = {HG_STOMP_OPEN, NEEDS("transaction"), hg_stomp_on_commit},
    [HG_STOMP_ABORT]       = {HG_STOMP_OPEN, NEEDS("transaction"), hg_stomp_on_abort},
};
/* clang-format on */

static enum hg_stomp_verdict take(struct hg_stomp_session *s, const struct hg_stomp_frame *frame,
                                  struct hg_stomp_failure *f)
{
    if (frame->command == HG_STOMP_HEARTBEAT) {
        return HG_STOMP_USED;
    }
    const struct frame_rule *rule = &frame_rules[frame->command];
    f->receipt = hg_stomp_get(frame, "receipt");
    if (rule->handler == NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "this frame is only for servers to send");
    }
    if (rule->allowed_in != s->state) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR,
                              s->state == HG_STOMP_NEW ? "the first frame is not CONNECT or STOMP"
                                                       : "CONNECT came a second time");
    }
    if (rule->needs != NULL && hg_stomp_find(frame, rule->needs) == NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, rule->missing);
    }
    const char *wrong = hg_stomp_check_receipt(frame);
    if (wrong != NULL) {
        f->receipt = hg_bytes(NULL, 0);
        return hg_stomp_fails(f, HG_TOO_LARGE, wrong);
    }
    return rule->handler(s, frame, f);
}

static struct hg_stomp_limits limits_of(const struct hg_stomp_session *s)
{
    const struct hg_config *config = s->base.worker->config;
    uint64_t frame_bytes = config->stomp_max_frame_bytes;
    if (s->state == HG_STOMP_NEW) {
        frame_bytes = earlier(frame_bytes, NEW_FRAME_MAX_BYTES);
    }
    return (struct hg_stomp_limits){
        .max_frame_bytes = (size_t)frame_bytes,
        .max_header_bytes = (size_t)earlier(config->stomp_max_header_bytes, frame_bytes),
        .max_headers_n = config->stomp_max_headers,
    };
}

/* The decoder found a frame to be too large, or to have too many headers. */
static void note_limit(struct hg_stomp_session *s, const struct hg_stomp_limits *limits,
                       const struct hg_error *err)
{
    bool is_head = s->decoder.body_at == 0 && err->at >= limits->max_header_bytes;
    if (err->status == HG_TOO_MANY) {
        hg_worker_refused(s->base.worker, HG_LIMIT_STOMP_HEADERS);
    } else if (err->status == HG_TOO_LARGE) {
        hg_worker_refused(s->base.worker, is_head ? HG_LIMIT_STOMP_HEADER : HG_LIMIT_STOMP_FRAME);
    }
}

/* One frame. Returns its length; 0: not complete, or held; < 0: *f and *err say why. */
static ssize_t feed_frame(struct hg_stomp_session *s, struct hg_bytes in,
                          struct hg_stomp_frame *frame, struct hg_stomp_failure *f,
                          struct hg_error *err)
{
    const struct hg_stomp_limits limits = limits_of(s);
    ssize_t n = hg_stomp_decode(&s->decoder, &limits, s->version, in, frame, err);
    if (n < 0) {
        note_limit(s, &limits, err);
        (void)hg_stomp_fails(f, err->status, err->rule);
    }
    if (n <= 0) {
        return n;
    }
    switch (take(s, frame, f)) {
    case HG_STOMP_USED: return n;
    case HG_STOMP_HELD: return 0;
    case HG_STOMP_FAILED: break;
    }
    const char *what = f->detail != NULL ? f->detail : f->rule;
    return hg_error_set(err, f->status, what != NULL ? what : hg_status_text(f->status), 0);
}

static ssize_t feed(struct hg_session *base, struct hg_bytes in, struct hg_error *err)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    struct hg_stomp_frame frame = {0};
    struct hg_stomp_failure f = {0};
    size_t used = 0;
    ssize_t n = 1;
    if (s->state != HG_STOMP_NEW) {
        s->heard_ms = hg_clock_ms();
    }
    while (n > 0 && used < in.n && s->state < HG_STOMP_LEAVING) {
        n = feed_frame(s, hg_bytes_skip(in, used), &frame, &f, err);
        used += n > 0 ? (size_t)n : 0;
    }
    if (n < 0) {
        send_error(s, &f);
    }
    hg_stomp_frame_close(&frame);
    if (n < 0) {
        return n;
    }
    return (ssize_t)(s->state < HG_STOMP_LEAVING ? used
                                                 : in.n); /* after the last frame nothing counts */
}

/* ---- Life ---- */

static void closed(struct hg_session *base, enum hg_status why)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    (void)why;
    hg_timer_stop(&s->timer);
    hg_stomp_free_subscriptions(s);
    hg_session_detach(base);
    hg_stomp_free_transactions(s);
    hg_stomp_free_publishes(s);
    hg_free(s->leave_receipt_own);
    hg_free(s->user_own);
    hg_free(s);
}

static void describe(struct hg_session *base, struct hg_session_info *out)
{
    const struct hg_stomp_session *s = hg_stomp_session_of(base);
    *out = (struct hg_session_info){
        .version = s->state == HG_STOMP_NEW ? "" : version_names[s->version],
        .user = hg_bytes_str(s->user_own),
    };
}

static const struct hg_session_ops ops = {
    .feed = feed,
    .deliver = hg_stomp_deliver,
    .settled = hg_stomp_settled,
    .subscribed = hg_stomp_subscribed,
    .declared = hg_stomp_declared,
    .drained = hg_retained_resume,
    .too_slow = too_slow,
    .expired = end_for,
    .drain = drain,
    .closed = closed,
    .describe = describe,
};

static struct hg_session *open_session(struct hg_worker *worker, struct hg_conn *conn,
                                       const struct hg_listener_spec *listener,
                                       const char *subprotocol)
{
    (void)subprotocol; /* accept-version decides */
    struct hg_stomp_session *s = hg_zalloc(sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    hg_session_init(&s->base, &ops, HG_PROTO_STOMP, conn, worker);
    s->is_framed = listener->serve == HG_SERVE_WEB;
    s->sent_ms = s->heard_ms = hg_clock_ms();
    hg_list_init(&s->receipts);
    hg_timer_init(&s->timer, on_timer);
    hg_stomp_rearm(s);
    return &s->base;
}

static const char *const subprotocols[] = {"v12.stomp", "v11.stomp", "v10.stomp", NULL};

const struct hg_adapter hg_stomp_adapter = {
    .name = "stomp",
    .serves = 1U << HG_SERVE_STOMP,
    .subprotocols = subprotocols,
    .is_websocket_default = true,
    .ws_frame_kind = HG_FRAME_TEXT,
    .open = open_session,
};
