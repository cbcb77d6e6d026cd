/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/topics/{filter}: server-sent events (WHATWG HTML, section 9.2). The request is read and
 * refused as any other; once its subscriptions are under way, a session of its own takes the
 * connection over, so that an idle reader costs no buffer. The stream ends with the connection. */
#include "adapters/http/http_encode.h"
#include "adapters/http/http_kept.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "adapters/http/sse_event.h"
#include "adapters/http/sse_from.h"
#include "adapters/http/sse_query.h"
#include "adapters/http/web.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/login.h"
#include "core/queue.h"
#include "core/retain.h"
#include "core/slow.h"
#include "core/state.h"
#include "core/worker.h"
#include "message/topic.h"

#define TOPICS "/v1/topics/"
#define MAGIC  0x53534521u /* "SSE!" */

/* Readers whose gateway goes come back spread over this time. */
enum { RETRY_MIN_MS = 1000, RETRY_SPREAD_MS = 3000 };

/* What is on its way to a client that reads slowly, beside what waits in its connection. */
enum { REPLAY_PREFETCH = 32 };

struct sse {
    struct hg_session base;
    uint32_t magic;
    uint8_t mode; /* enum hg_sse_mode */
    bool wants_retained;
    bool has_begun;          /* the head is sent */
    uint32_t subs_n;         /* of `subs` */
    uint32_t waiting_n;      /* of them RabbitMQ has not answered yet */
    struct hg_writer fields; /* of the head, until it is sent */
    struct hg_queue *stream; /* whose offsets are the events' ids; NULL: there is none (any more) */
    uint64_t next_offset;    /* what is below has been sent */
    struct hg_timer timer;   /* before the head: the wait for RabbitMQ; then heart-beats */
    uint64_t sent_ms;        /* when something was last sent */
    uint64_t lost_n;         /* messages dropped since it was last told */
    struct hg_sub subs[];
};
_Static_assert(sizeof(struct sse) + sizeof(struct hg_sub) <= 400,
               "an idle connection has 1 KiB, its session included");

static struct sse *sse_of(struct hg_session *base)
{
    struct sse *s = (struct sse *)base;
    HG_CHECK(s != NULL && s->magic == MAGIC);
    return s;
}

static const struct hg_config *config_of(const struct sse *s)
{
    return s->base.worker->config;
}

/* ---- The stream ---------------------------------------------------------------------------- */

/* NO_MEMORY, CLOSED: the connection is at its end, or should be. */
static enum hg_status send_part(struct sse *s, const struct hg_part *part, uint64_t now_ms)
{
    enum hg_status status = hg_conn_send(s->base.conn, part, 1);
    if (status == HG_OK) {
        s->sent_ms = now_ms;
    }
    return status;
}

static enum hg_status send_bytes(struct sse *s, struct hg_bytes bytes)
{
    return send_part(s, &(struct hg_part){NULL, bytes}, hg_clock_ms());
}

static void send_text(struct sse *s, struct hg_writer *w)
{
    if (w->failed || send_bytes(s, hg_writer_view(w)) != HG_OK) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    hg_writer_close(w);
}

/* The head, and how long to wait before coming back once the stream has ended. */
static void begin(struct sse *s)
{
    struct hg_writer w = {0};
    if (s->has_begun) {
        return;
    }
    s->has_begun = true;
    hg_http_kept_status(s->base.worker, &w, 200);
    hg_writer_str(&w, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                      "X-Accel-Buffering: no\r\n");
    hg_writer_bytes(&w, hg_writer_view(&s->fields));
    hg_writer_printf(&w, "Connection: close\r\n\r\nretry: %u\n\n",
                     RETRY_MIN_MS + (unsigned)(hg_random_u64() % RETRY_SPREAD_MS));
    w.failed = w.failed || s->fields.failed;
    hg_writer_close(&s->fields);
    send_text(s, &w);
    hg_worker_timer(s->base.worker, &s->timer, config_of(s)->http_sse_heartbeat_ms);
}

/* The subscriptions cannot be had. Who has heard the head already comes back and hears it then. */
static void refuse(struct sse *s, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_status_info *info = hg_status_info(status);
    struct hg_writer detail = {0};
    struct hg_writer body = {0};
    struct hg_writer w = {0};
    if (!s->has_begun) {
        s->has_begun = true;
        hg_http_publish_detail(status, reason, &detail);
        hg_http_write_problem(&body, info->http, hg_writer_view(&detail), info->name);
        hg_http_kept_status(s->base.worker, &w, info->http);
        hg_http_write_field(&w, "Content-Type", HG_BYTES("application/problem+json"));
        if (info->http == 429 || info->http == 503) {
            hg_writer_printf(&w, "Retry-After: %u\r\n", HG_HTTP_RETRY_AFTER_S);
        }
        hg_writer_bytes(&w, hg_writer_view(&s->fields));
        hg_writer_printf(&w, "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                         hg_writer_n(&body));
        hg_writer_bytes(&w, hg_writer_view(&body));
        w.failed = w.failed || body.failed || s->fields.failed;
        send_text(s, &w);
    }
    hg_writer_close(&body);
    hg_writer_close(&detail);
    hg_conn_finish(s->base.conn, HG_OK);
}

static void on_dropped(struct hg_session *base)
{
    sse_of(base)->lost_n++;
}

/* There is no memory for it. */
static void give_up(struct sse *s, const struct hg_delivery *d)
{
    const char *peer = hg_conn_peer(s->base.conn);
    if (d->must_keep) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
        return;
    }
    on_dropped(&s->base);
    hg_count(&s->base.worker->metrics.proto[HG_PROTO_HTTP].dropped, 1);
    HG_LOG_LIMITED(s->base.worker->log, HG_LOG_INFO, "http.dropped", hg_bytes_str(peer),
                   HG_F_STR("peer", peer), HG_F_STR("why", hg_status_text(HG_NO_MEMORY)));
}

/* Tells of what was dropped, as soon as there is room for more than this. */
static void send_lost(struct sse *s)
{
    struct hg_writer w = {0};
    if (s->lost_n == 0 || !s->has_begun || hg_conn_is_closing(s->base.conn)) {
        return;
    }
    hg_writer_printf(&w, "event: " HG_SSE_EVENT_LOST "\ndata: %llu\n\n",
                     (unsigned long long)s->lost_n);
    if (!hg_conn_is_full(s->base.conn, hg_writer_n(&w))) {
        s->lost_n = 0;
        send_text(s, &w);
    }
    hg_writer_close(&w);
}

/* As one part with the events before it, where others get the same. */
static enum hg_status send_alike(struct sse *s, struct hg_delivery *d, struct hg_buf *event)
{
    const struct hg_part own = {event, hg_buf_bytes(event)};
    const struct hg_part *part = &d->joint[s->mode];
    if (d->queue != NULL) {
        part = &own;
    } else if (part->buf == NULL) {
        part = hg_delivery_join(d, &s->base, s->mode, own.bytes);
    }
    return send_part(s, part == NULL ? &own : part, hg_delivery_ms(d));
}

static void send_event(struct sse *s, struct hg_delivery *d, struct hg_sub *matches,
                       struct hg_bytes id)
{
    struct hg_proto_metrics *metrics = &s->base.worker->metrics.proto[HG_PROTO_HTTP];
    struct hg_buf **event = &d->cache[s->mode];
    if (*event == NULL) {
        struct hg_writer w = {0};
        hg_sse_write_event(&w, (enum hg_sse_mode)s->mode, d->message, id, d->address,
                           d->is_retained);
        *event = hg_writer_take(&w);
    }
    begin(s); /* one of several subscriptions may be live before the others */
    size_t n = *event == NULL ? 0 : (*event)->n;
    if (!hg_slow_admits(&s->base, d, matches, n)) {
        return;
    }
    send_lost(s);
    enum hg_status status = *event == NULL ? HG_NO_MEMORY : send_alike(s, d, *event);
    if (status == HG_CLOSED) { /* the reader has gone, which will be told in a moment */
        return;
    }
    if (status != HG_OK) {
        give_up(s, d);
        return;
    }
    hg_count(&metrics->messages_out, 1);
    hg_count(&metrics->bytes_out, hg_message_body(d->message).n);
}

/* After a lost link some of what was sent comes again. */
static void replay(struct sse *s, struct hg_delivery *d)
{
    struct hg_writer id = {0};
    uint64_t offset = 0;
    if (hg_sse_from_offset(d->message, &offset) && offset >= s->next_offset) {
        s->next_offset = offset + 1;
        hg_writer_dec(&id, offset);
        send_event(s, d, NULL, hg_writer_view(&id));
        hg_writer_close(&id);
    }
}

static void on_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches)
{
    struct sse *s = sse_of(base);
    if (d->queue != NULL) {
        replay(s, d);
    } else {
        send_event(s, d, matches, hg_message_properties(d->message)->message_id);
    }
}

static void on_stream_state(void *ctx, enum hg_status status, bool has_existed,
                            struct hg_bytes reason)
{
    struct sse *s = ctx;
    (void)has_existed;
    if (status != HG_OK) {
        s->stream = NULL;
    }
    if (hg_conn_is_closing(s->base.conn)) {
        return;
    }
    if (status == HG_OK) {
        begin(s);
    } else {
        refuse(s, status, reason);
    }
}

static const struct hg_queue_ops stream_ops = {.on_state = on_stream_state};
_Static_assert((int)HG_SSE_MODE_N <= (int)HG_DELIVERY_CACHES, "a slot for each mode");

static void on_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                          struct hg_bytes reason)
{
    struct sse *s = sse_of(base);
    struct hg_writer filter = {0};
    if (hg_conn_is_closing(base->conn)) {
        return;
    }
    if (outcome == HG_OK && s->wants_retained) {
        hg_trie_write_pattern(sub->index, &sub->entry, &filter);
        outcome =
            filter.failed ? HG_NO_MEMORY : hg_retained_serve(base, sub, hg_writer_view(&filter));
        hg_writer_close(&filter);
    }
    if (outcome != HG_OK) {
        refuse(s, outcome, reason);
    } else if (--s->waiting_n == 0) {
        begin(s);
    }
}

static void on_drained(struct hg_session *base)
{
    send_lost(sse_of(base));
    hg_retained_resume(base);
}

/* ---- Time ---------------------------------------------------------------------------------- */

static void on_timer(struct hg_timer *timer)
{
    struct sse *s = HG_CONTAINER_OF(timer, struct sse, timer);
    uint64_t now = hg_clock_ms();
    uint64_t every_ms = config_of(s)->http_sse_heartbeat_ms;
    if (hg_conn_is_closing(s->base.conn)) {
        return;
    }
    if (!s->has_begun) {
        refuse(s, HG_BROKER_AWAY, HG_BYTES("it has not answered the subscription"));
        return;
    }
    send_lost(s);
    if (now - s->sent_ms >= every_ms && hg_conn_pending(s->base.conn) == 0) {
        (void)send_bytes(s, HG_BYTES(":\n\n"));
    }
    uint64_t quiet_ms = now - s->sent_ms;
    hg_worker_timer(s->base.worker, &s->timer,
                    quiet_ms < every_ms ? every_ms - quiet_ms : every_ms);
}

/* ---- The session --------------------------------------------------------------------------- */

/* Requests behind this one are not answered: the connection ends with the stream. */
static ssize_t on_feed(struct hg_session *base, struct hg_bytes in, struct hg_error *err)
{
    (void)base;
    (void)err;
    return (ssize_t)in.n;
}

/* An EventSource gives up on anything but 200, and comes back when its stream ends. */
static void on_drain(struct hg_session *base)
{
    struct sse *s = sse_of(base);
    if (!hg_conn_is_closing(base->conn)) {
        begin(s);
        hg_conn_finish(base->conn, HG_SHUTTING_DOWN);
    }
}

/* An EventSource comes back by itself: with a newer token, if its page has one by then. */
static void on_expired(struct hg_session *base, enum hg_status why)
{
    struct sse *s = sse_of(base);
    begin(s);
    (void)send_bytes(
        s, why == HG_EXPIRED
               ? HG_BYTES("event: " HG_SSE_EVENT_EXPIRED "\ndata: the token has expired\n\n")
               : HG_BYTES("event: " HG_SSE_EVENT_ENDED
                          "\ndata: the login does not hold any more\n\n"));
    hg_conn_finish(base->conn, why);
}

static void on_too_slow(struct hg_session *base)
{
    struct sse *s = sse_of(base);
    begin(s);
    (void)send_bytes(s, HG_BYTES(": the client reads too slowly\n\n"));
    hg_conn_finish(base->conn, HG_TOO_SLOW);
}

static void free_sse(struct sse *s)
{
    hg_timer_stop(&s->timer);
    hg_queue_close(s->stream, HG_QUEUE_KEEP);
    hg_session_detach(&s->base);
    hg_writer_close(&s->fields);
    hg_free(s);
}

static void on_closed(struct hg_session *base, enum hg_status why)
{
    (void)why;
    free_sse(sse_of(base));
}

static void on_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                       struct hg_bytes reason)
{
    (void)base; /* it publishes nothing */
    (void)id;
    (void)outcome;
    (void)reason;
}

static void on_describe(struct hg_session *base, struct hg_session_info *out)
{
    *out = (struct hg_session_info){.version = "1.1", .user = hg_identity_user(base->identity)};
}

static const struct hg_session_ops session_ops = {
    .feed = on_feed,
    .deliver = on_deliver,
    .settled = on_settled,
    .subscribed = on_subscribed,
    .drained = on_drained,
    .dropped = on_dropped,
    .too_slow = on_too_slow,
    .expired = on_expired,
    .drain = on_drain,
    .closed = on_closed,
    .describe = on_describe,
};

/* ---- The request --------------------------------------------------------------------------- */

static struct hg_bytes trimmed(struct hg_bytes b)
{
    while (b.n > 0 && (b.p[0] == ' ' || b.p[0] == '\t')) {
        b = hg_bytes_skip(b, 1);
    }
    while (b.n > 0 && (b.p[b.n - 1] == ' ' || b.p[b.n - 1] == '\t')) {
        b.n--;
    }
    return b;
}

/* Whether a media range's parameters say q=0. */
static bool is_unwanted(struct hg_bytes parameters)
{
    while (parameters.n > 0) {
        struct hg_bytes one = hg_bytes(parameters.p, hg_bytes_index(parameters, ';'));
        parameters = hg_bytes_skip(parameters, one.n + (one.n < parameters.n));
        one = trimmed(one);
        if (one.n > 2 && (one.p[0] | 0x20) == 'q' && one.p[1] == '=') {
            for (size_t i = 2; i < one.n; i++) {
                if (one.p[i] != '0' && one.p[i] != '.') {
                    return false;
                }
            }
            return true;
        }
    }
    return false;
}

/* Whether Accept lets us answer with text/event-stream: the most specific range that fits decides,
 * and q=0 is a no (RFC 9110 section 12.5.1). No Accept, or an empty one, takes everything. */
static bool accepts_events(const struct hg_http_head *head)
{
    static const char *const ranges[] = {"*/*", "text/*", "text/event-stream"};
    const struct hg_http_field *field;
    int best = -1;
    bool is_fine = true;
    size_t at = 0;
    while ((field = hg_http_next_field(head, HG_BYTES("Accept"), &at)) != NULL) {
        struct hg_bytes list = field->value;
        struct hg_bytes element;
        while (hg_http_next_element(&list, &element)) {
            size_t name_n = hg_bytes_index(element, ';');
            struct hg_bytes name = trimmed(hg_bytes(element.p, name_n));
            is_fine = best >= 0 && is_fine; /* something is asked for */
            for (int i = 0; i < 3; i++) {
                if (i >= best && hg_bytes_eq_nocase(name, hg_bytes_str(ranges[i]))) {
                    best = i;
                    is_fine = !is_unwanted(hg_bytes_skip(element, name_n));
                }
            }
        }
    }
    return is_fine;
}

static void note_plan(void *ctx, const struct hg_binding_plan *plan)
{
    bool *can_match = ctx;
    *can_match = *can_match || hg_plan_matches_headers(plan);
}

/* What a GET would be told at once, without a subscription. */
static enum hg_status check_filter(struct hg_session *s, struct hg_bytes filter, bool must_match,
                                   const char **why)
{
    const struct hg_config *config = s->worker->config;
    struct hg_rule_who room;
    bool can_match = false;
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    *why = hg_topic_check_filter(filter, &limits);
    enum hg_status status =
        *why != NULL ? HG_BAD_FILTER
                     : hg_rules_subscribe(hg_realm_of(s)->rules, hg_session_who(s, &room),
                                          HG_PROTO_HTTP, filter, note_plan, &can_match, why);
    if (status == HG_OK && must_match && !can_match) {
        *why = HG_MATCH_MISPLACED;
        status = HG_BAD_FILTER;
    }
    return status;
}

static void answer_head(struct hg_http_request *req, const struct hg_sse_query *wanted)
{
    const struct hg_http_answer_field no_store = {"Cache-Control", HG_BYTES("no-store")};
    struct hg_bytes filters = hg_writer_view(&wanted->filters);
    enum hg_status status = HG_OK;
    const char *why = NULL;
    while (status == HG_OK && filters.n > 0) {
        status =
            check_filter(req->session, hg_sse_next_filter(&filters), wanted->match_n > 0, &why);
    }
    if (status != HG_OK) {
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
        return;
    }
    hg_http_answer(req, &(struct hg_http_answer){.status = 200,
                                                 .is_endless = true,
                                                 .type = "text/event-stream",
                                                 .fields = &no_store,
                                                 .fields_n = 1});
}

static struct sse *make(const struct hg_http_request *req, const struct hg_sse_query *wanted)
{
    struct hg_session *session = req->session;
    struct sse *s = hg_zalloc(sizeof(*s) + wanted->filters_n * sizeof(s->subs[0]));
    if (s == NULL) {
        return NULL;
    }
    hg_session_init(&s->base, &session_ops, HG_PROTO_HTTP, session->conn, session->worker);
    s->base.merges_overlaps = true;
    s->magic = MAGIC;
    s->mode = wanted->is_envelope ? HG_SSE_ENVELOPE : HG_SSE_BODY;
    s->wants_retained = wanted->is_retained;
    hg_timer_init(&s->timer, on_timer);
    hg_http_write_cors(req, &s->fields);
    return s;
}

/* Which stream to read, and from where: Last-Event-ID is newer than the query of a reader who comes
 * back. NULL or what is wrong. */
static const char *find_stream(const struct hg_http_request *req, struct hg_sse_query *wanted)
{
    struct hg_bytes filters = hg_writer_view(&wanted->filters);
    struct hg_bytes last_id = hg_http_field(&req->in.head, HG_BYTES("Last-Event-ID"));
    if (wanted->match_n > 0 && (wanted->is_retained || wanted->has_from)) {
        return "x-match goes with what is published from now on: not with retained, nor with from";
    }
    if (wanted->filters_n == 1 && !wanted->is_retained && wanted->match_n == 0) {
        wanted->stream = hg_replay_of_filter(req->session, hg_sse_next_filter(&filters));
    }
    if (wanted->has_from && wanted->stream.n == 0) {
        return "from: there is no stream to read. It takes one filter, without retained, and a rule "
               "with `replay` that is the first to take every address which the filter matches";
    }
    if (!hg_sse_from_read_id(last_id, &wanted->from) && !wanted->has_from) {
        (void)hg_sse_from_read(HG_BYTES("next"), &wanted->from);
    }
    return NULL;
}

/* The subscription is in no index: what it gets comes from the queue. */
static enum hg_status open_stream(struct sse *s, const struct hg_sse_query *wanted,
                                  const char **why)
{
    struct hg_bytes filters = hg_writer_view(&wanted->filters);
    struct hg_bytes filter = hg_sse_next_filter(&filters);
    const struct hg_header from = {HG_BYTES("x-stream-offset"), wanted->from};
    enum hg_status status = check_filter(&s->base, filter, false, why);
    if (status == HG_OK) {
        status = hg_subscribe_index(&s->base, &s->subs[0], NULL, filter, why);
        s->subs_n = status == HG_OK;
    }
    if (status != HG_OK) {
        return status;
    }
    const struct hg_queue_options options = {
        .name = wanted->stream,
        .consumer_arguments = &from,
        .consumer_arguments_n = 1,
        .prefetch = REPLAY_PREFETCH,
        .must_exist = true,
        .is_auto = true, /* without room in the connection nothing is, and RabbitMQ sends no more */
        .sub = &s->subs[0],
        .filter = filter,
    };
    s->stream = hg_queue_open(&s->base, &options, &stream_ops, s);
    return s->stream == NULL ? HG_NO_MEMORY : HG_OK;
}

static enum hg_status open_filters(struct sse *s, const struct hg_sse_query *wanted,
                                   const char **why)
{
    const struct hg_match match = {wanted->match, wanted->match_n};
    struct hg_bytes filters = hg_writer_view(&wanted->filters);
    enum hg_status status = HG_OK;
    while (status == HG_OK && filters.n > 0) {
        struct hg_sub *sub = &s->subs[s->subs_n];
        struct hg_bytes filter = hg_sse_next_filter(&filters);
        status = match.n > 0 ? hg_subscribe_matching(&s->base, sub, filter, &match, why)
                             : hg_subscribe_filter(&s->base, sub, filter, why);
        s->subs_n += status == HG_OK;
    }
    s->waiting_n = s->subs_n;
    return status;
}

static void subscribe(struct hg_http_request *req, const struct hg_sse_query *wanted)
{
    struct hg_conn *conn = req->session->conn;
    const char *why = NULL;
    if (wanted->filters_n > req->session->worker->config->max_subscriptions) {
        hg_http_publish_refuse(req, HG_TOO_MANY,
                               hg_bytes_str("more filters than [limits] max_subscriptions"));
        return;
    }
    struct sse *s = make(req, wanted);
    bool is_whole = s != NULL && hg_session_inherit(&s->base, req->session);
    enum hg_status status = is_whole ? HG_OK : HG_NO_MEMORY;
    if (status == HG_OK) {
        status =
            wanted->stream.n > 0 ? open_stream(s, wanted, &why) : open_filters(s, wanted, &why);
    }
    if (status != HG_OK) {
        if (s != NULL) {
            free_sse(s);
        }
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
        return;
    }
    hg_worker_timer(s->base.worker, &s->timer, config_of(s)->unavailable_timeout_ms);
    hg_conn_hand_over(conn, &s->base); /* ends the HTTP session, and the request with it */
    if (s->base.worker->gateway->is_draining) {
        on_drain(&s->base); /* the HTTP session has been told, this one has not */
    }
}

bool hg_http_subscribe(struct hg_http_request *req)
{
    const struct hg_http_head *head = &req->in.head;
    struct hg_sse_query wanted = {.filters_n = 0};
    const char *why = hg_sse_query_read(&wanted, head->query);
    if (!accepts_events(head)) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 406},
                       HG_BYTES("only text/event-stream is served here"), NULL);
    } else if (why != NULL) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 400}, hg_bytes_str(why), NULL);
    } else if ((why = hg_sse_query_read_path(
                    &wanted, hg_bytes_skip(head->path, sizeof(TOPICS) - 1))) != NULL) {
        hg_http_publish_refuse(req, HG_BAD_FILTER, hg_bytes_str(why));
    } else if (hg_sse_query_has_failed(&wanted)) {
        hg_http_publish_refuse(req, HG_NO_MEMORY, HG_BYTES(""));
    } else if (wanted.is_retained && !hg_state_is_enabled(hg_realm_of(req->session)->vhost)) {
        hg_http_publish_refuse(req, HG_NO_RETAIN, HG_BYTES(""));
    } else if ((why = find_stream(req, &wanted)) != NULL) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 400}, hg_bytes_str(why), NULL);
    } else if (head->method == HG_HTTP_HEAD) {
        answer_head(req, &wanted);
    } else {
        subscribe(req, &wanted);
    }
    hg_sse_query_close(&wanted);
    return true;
}
