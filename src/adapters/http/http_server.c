/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, answers out, in order; time limits; CORS. */
#include "adapters/http/http_server.h"

#include "adapters/http/http_encode.h"
#include "adapters/http/http_kept.h"
#include "adapters/http/http_login.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/conn.h"
#include "core/own.h"
#include "core/worker.h"

#define MAGIC     0x48545450u /* "HTTP" */
#define PART_MASK (((uint64_t)1 << HG_HTTP_PART_BITS) - 1)

/* Of a body that is taken as it comes, so much has to arrive within the request's time limit. */
enum { PART_BYTES = 1 << 20, ROOM_BYTES = 512 };

/* What the one timer waits for. */
enum phase {
    PHASE_IDLE,      /* a request */
    PHASE_READING,   /* the rest of a request */
    PHASE_PAUSED,    /* its handler to take more of the body; that has a time limit of its own */
    PHASE_HELD,      /* room towards RabbitMQ */
    PHASE_ANSWERING, /* answers under way; they have time limits of their own */
    PHASE_ENDED      /* nothing: the connection closes */
};

struct hg_http_session {
    struct hg_session base;
    uint32_t magic;
    const struct hg_http_site *site;
    struct hg_leaver leaver;         /* once the connection has gone */
    struct hg_list requests;         /* hg_http_request.link, as they came */
    struct hg_http_request *current; /* the last of them, while it is being read */
    struct hg_http_request *waiting; /* complete, its handler wants to be called again */
    uint32_t complete_n;             /* requests without `current` */
    uint64_t next_id;
    struct hg_bytes rest;  /* during feed: input behind the request that is handled */
    struct hg_timer timer; /* set lazily: may fire before deadline_ms, never after */
    uint64_t deadline_ms;
    uint64_t phase_request; /* id of the request that the phase is about, */
    uint64_t phase_part;    /* and how far it has got */
    size_t pending_bytes;   /* of output, when the idle time was last up */
    uint8_t phase;          /* enum phase */
    struct hg_http_known known;
    bool is_feeding, is_held, is_draining;
    bool is_last_read; /* no request is read any more */
    bool is_finished;  /* hg_conn_finish has been called */
    bool is_closed;    /* during feed: freed when it returns */
};

static struct hg_http_session *session_of(struct hg_session *base)
{
    struct hg_http_session *s = (struct hg_http_session *)base;
    HG_CHECK(s != NULL && s->magic == MAGIC);
    return s;
}

static const struct hg_config *config_of(const struct hg_http_session *s)
{
    return s->base.worker->config;
}

/* ---- Requests ------------------------------------------------------------------------------ */

static struct hg_http_request *request_new(struct hg_http_session *s)
{
    struct hg_http_request *req = hg_http_kept_take(s->base.worker);
    const struct hg_config *config = config_of(s);
    if (req == NULL) {
        return NULL;
    }
    req->session = &s->base;
    req->id = ++s->next_id;
    req->limits = (struct hg_http_limits){
        .max_url_bytes = (size_t)config->http_max_url_bytes,
        .max_header_bytes = (size_t)config->http_max_header_bytes,
        .max_headers_n = config->http_max_headers,
        .max_body_bytes = config->http_max_body_bytes,
    };
    hg_http_decoder_again(&req->in, &req->limits);
    hg_list_add_last(&s->requests, &req->link);
    return req;
}

static void request_free(struct hg_http_request *req)
{
    hg_list_remove(&req->link);
    if (req->realm != NULL) {
        hg_own_release(req->realm);
    }
    hg_http_kept_put(req->session->worker, req);
}

static struct hg_http_request *first_of(struct hg_http_session *s)
{
    return hg_list_is_empty(&s->requests)
               ? NULL
               : HG_LIST_ENTRY(s->requests.next, struct hg_http_request, link);
}

/* ---- Answers ------------------------------------------------------------------------------- */

static void go_on(struct hg_http_session *s);
static void leave(struct hg_http_session *s);

void hg_http_answer(struct hg_http_request *req, const struct hg_http_answer *answer)
{
    struct hg_http_session *s = session_of(req->session);
    struct hg_writer *w = &req->out;
    HG_CHECK(!req->is_answered);
    req->is_answered = true;
    /* what is left of a body that nobody takes is not waited for */
    bool has_begun = req->route != NULL && req->route->begin != NULL && !req->is_begin_due;
    req->closes = req->closes || (has_begun && req->in.state < HG_HTTP_STATE_DONE);
    req->in.is_body_unwanted = true;
    req->is_paused = false;
    if (req->on_answer != NULL) {
        req->on_answer(req, answer);
    }
    if (s->base.conn == NULL) { /* nobody waits for it any more */
        if (answer->body != NULL) {
            hg_writer_close(answer->body);
        }
        request_free(req);
        leave(s);
        return;
    }
    req->closes = req->closes || answer->closes;
    (void)hg_writer_reserve(w, ROOM_BYTES); /* grows once */
    hg_http_kept_status(s->base.worker, w, answer->status);
    if (answer->type != NULL) {
        hg_http_write_field(w, "Content-Type", hg_bytes_str(answer->type));
    }
    if (answer->retry_after_s > 0) {
        hg_writer_printf(w, "Retry-After: %u\r\n", answer->retry_after_s);
    }
    for (size_t i = 0; i < answer->fields_n; i++) {
        hg_http_write_field(w, answer->fields[i].name, answer->fields[i].value);
    }
    hg_writer_bytes(w, answer->lines);
    hg_http_write_cors(req, w);
    size_t body_n = answer->body == NULL ? 0 : hg_writer_n(answer->body);
    if (answer->status != 204 && answer->status != 304 && !answer->is_endless) {
        hg_writer_str(w, "Content-Length: ");
        hg_writer_dec(w, body_n);
        hg_writer_str(w, "\r\n");
    }
    if (answer->body != NULL) {
        w->failed = w->failed || answer->body->failed;
        if (req->in.head.method != HG_HTTP_HEAD && body_n > 0) {
            req->out_body = hg_writer_take(answer->body);
        }
        hg_writer_close(answer->body);
    }
    if (!s->is_feeding) {
        go_on(s);
    }
}

void hg_http_refuse(struct hg_http_request *req, const struct hg_http_answer *answer,
                    struct hg_bytes detail, const char *code)
{
    struct hg_http_answer full = *answer;
    struct hg_writer body = {0};
    hg_http_write_problem(&body, answer->status, detail, code);
    full.type = "application/problem+json";
    full.body = &body;
    hg_http_answer(req, &full);
}

struct hg_bytes hg_http_rest(const struct hg_http_request *req)
{
    return session_of(req->session)->rest;
}

static void finish(struct hg_http_session *s, enum hg_status why)
{
    s->is_last_read = true;
    s->is_finished = true;
    hg_conn_finish(s->base.conn, why);
}

/* A small body lies behind its head from here on. */
static void join_body(struct hg_http_request *req)
{
    struct hg_buf *body = req->out_body;
    if (body != NULL && hg_writer_n(&req->out) + body->n <= HG_JOINT_PART_MAX) {
        hg_writer_bytes(&req->out, hg_buf_bytes(body));
        hg_http_kept_body(req);
    }
}

/* Beside the other answers of this turn, or by itself. */
static bool send_parts(struct hg_http_session *s, struct hg_http_request *req)
{
    struct hg_joints *joints = &s->base.worker->net.joints;
    struct hg_bytes head = hg_writer_view(&req->out);
    struct hg_part parts[2] = {{req->out.buf, head}};
    if (req->out.failed) {
        return false;
    }
    if (req->out_body != NULL) {
        parts[1] = (struct hg_part){req->out_body, hg_buf_bytes(req->out_body)};
    } else {
        (void)hg_joint_put(joints, HG_JOINT_ANSWERS, head, &parts[0]);
    }
    return hg_conn_send(s->base.conn, parts, req->out_body == NULL ? 1 : 2) == HG_OK;
}

/* Queues the answer for writing; false: no memory, the connection closes. */
static bool send_answer(struct hg_http_session *s, struct hg_http_request *req, bool closes)
{
    struct hg_writer *w = &req->out;
    if (closes) {
        hg_writer_str(w, "Connection: close\r\n");
    } else if (req->in.head.is_http_10) {
        hg_writer_str(w, "Connection: keep-alive\r\n");
    }
    hg_writer_str(w, "\r\n");
    join_body(req);
    bool is_sent = send_parts(s, req);
    if (!is_sent) {
        s->is_last_read = true;
        s->is_finished = true;
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    return is_sent;
}

/* Sends what is answered, as far as the order allows. */
static void flush(struct hg_http_session *s)
{
    while (!s->is_finished) {
        struct hg_http_request *req = first_of(s);
        if (req == NULL) {
            return;
        }
        if (req->is_continue_due && req->in.state == HG_HTTP_STATE_BODY && !req->is_paused &&
            !req->is_answered) {
            req->is_continue_due = false; /* now that nothing is before it any more */
            hg_conn_send_bytes(s->base.conn, HG_BYTES("HTTP/1.1 100 Continue\r\n\r\n"));
        }
        if (!req->is_answered || (req->in.state < HG_HTTP_STATE_DONE && !req->closes)) {
            return;
        }
        bool closes = req->closes || (s->is_draining && s->requests.next == s->requests.prev);
        if (!send_answer(s, req, closes)) {
            return;
        }
        if (req == s->current) {
            s->current = NULL;
        } else {
            s->complete_n--;
        }
        request_free(req);
        if (closes) { /* OK: a client's mistake has been counted and logged, with its rule */
            finish(s, s->is_draining ? HG_SHUTTING_DOWN : HG_OK);
        }
    }
}

/* ---- Routes -------------------------------------------------------------------------------- */

static bool has_method(const struct hg_http_route *route, enum hg_http_method m)
{
    return (route->methods & (1u << (m == HG_HTTP_HEAD ? HG_HTTP_GET : m))) != 0;
}

/* NULL: none; then *methods_out says what the resource would take, 0: there is no such resource. */
static const struct hg_http_route *find_route(const struct hg_http_site *site,
                                              const struct hg_http_request *req,
                                              unsigned *methods_out)
{
    const struct hg_http_head *h = &req->in.head;
    bool is_any = hg_bytes_eq(h->path, HG_BYTES("*"));
    *methods_out = 0;
    for (size_t i = 0; i < site->routes_n; i++) {
        const struct hg_http_route *route = &site->routes[i];
        struct hg_bytes path = hg_bytes_str(route->path);
        bool fits = route->is_prefix ? hg_bytes_starts(h->path, path) : hg_bytes_eq(h->path, path);
        if (!is_any && (!fits || (route->takes != NULL && !route->takes(req)))) {
            continue;
        }
        if (has_method(route, h->method)) {
            return route;
        }
        *methods_out |= route->methods;
    }
    return NULL;
}

static void write_methods(struct hg_writer *w, unsigned methods)
{
    methods |= 1u << HG_HTTP_OPTIONS;
    if ((methods & (1u << HG_HTTP_GET)) != 0) {
        methods |= 1u << HG_HTTP_HEAD;
    }
    for (unsigned m = 0; m < HG_HTTP_METHOD_N; m++) {
        if ((methods & (1u << m)) != 0) {
            hg_writer_str(w, hg_writer_n(w) == 0 ? "" : ", ");
            hg_writer_str(w, hg_http_method_name((enum hg_http_method)m));
        }
    }
}

/* OPTIONS, a CORS preflight among them, and 405: both name the methods. */
static void answer_methods(struct hg_http_request *req, unsigned methods)
{
    const struct hg_http_head *h = &req->in.head;
    struct hg_writer allow = {0};
    write_methods(&allow, methods);
    struct hg_bytes list = hg_writer_view(&allow);
    struct hg_http_answer answer = {.status = 405};
    struct hg_http_answer_field fields[4] = {{"Allow", list}};
    answer.fields = fields;
    answer.fields_n = 1;
    if (h->method != HG_HTTP_OPTIONS) {
        hg_http_refuse(req, &answer, HG_BYTES("the resource does not take this method"), NULL);
    } else {
        answer.status = 204;
        struct hg_bytes wanted = hg_http_field(h, HG_BYTES("Access-Control-Request-Headers"));
        if (hg_http_allowed_origin(req).n > 0) {
            fields[1] = (struct hg_http_answer_field){"Access-Control-Allow-Methods", list};
            fields[2] = (struct hg_http_answer_field){"Access-Control-Max-Age", HG_BYTES("600")};
            fields[3] = (struct hg_http_answer_field){"Access-Control-Allow-Headers", wanted};
            answer.fields_n = wanted.n > 0 ? 4 : 3;
        }
        hg_http_answer(req, &answer);
    }
    hg_writer_close(&allow);
}

/* The server answers in the place of who takes the body. */
static void give_up(struct hg_http_request *req)
{
    if (req->on_body != NULL && req->on_gone != NULL) {
        req->on_gone(req);
    }
}

/* ---- Reading ------------------------------------------------------------------------------- */

/* The head is there: finds who takes the request, or answers it already. */
static void on_head(struct hg_http_session *s, struct hg_http_request *req, bool has_more)
{
    const struct hg_http_head *h = &req->in.head;
    bool awaits_continue = h->wants_continue && req->in.state == HG_HTTP_STATE_BODY && !has_more;
    unsigned methods;
    req->closes = !h->keeps_alive;
    req->route = find_route(s->site, req, &methods);
    if (req->route != NULL) {
        req->awaits_continue = awaits_continue;
        req->is_login_due = req->route->login != HG_HTTP_NO_LOGIN;
        req->is_continue_due = awaits_continue && !req->is_login_due;
        req->is_begin_due = req->route->begin != NULL && h->body_bytes > 0;
        return;
    }
    req->in.is_body_unwanted = true;
    req->closes = req->closes || awaits_continue; /* the body may come or not: nobody could tell */
    if (methods != 0) {
        answer_methods(req, methods);
    } else {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 404},
                       HG_BYTES("nothing is served at this path"), NULL);
    }
}

static void note_limit(const struct hg_http_request *req)
{
    struct hg_worker *w = req->session->worker;
    switch (req->in.refusal) {
    case 413: hg_worker_refused(w, HG_LIMIT_HTTP_BODY); break;
    case 414: hg_worker_refused(w, HG_LIMIT_HTTP_URL); break;
    case 431:
        hg_worker_refused(w, req->in.has_too_many ? HG_LIMIT_HTTP_HEADERS : HG_LIMIT_HTTP_HEADER);
        break;
    default: break;
    }
}

/* What came is no request that could be read to its end. */
static void refuse_input(struct hg_http_session *s, struct hg_http_request *req,
                         const struct hg_error *err)
{
    struct hg_worker *worker = s->base.worker;
    const char *peer = hg_conn_peer(s->base.conn);
    hg_count(&worker->metrics.proto[HG_PROTO_HTTP].errors, 1);
    note_limit(req);
    HG_LOG_LIMITED_BY(worker->log, HG_LOG_INFO, "http.refused", err->rule, hg_bytes_str(err->rule),
                      HG_F_UINT("conn", hg_conn_id(s->base.conn)), HG_F_STR("peer", peer),
                      HG_F_UINT("status", req->in.refusal), HG_F_STR("rule", err->rule),
                      HG_F_UINT("at", err->at));
    s->is_last_read = true;
    req->closes = true;
    if (!req->is_answered) {
        give_up(req);
        hg_http_refuse(req, &(struct hg_http_answer){.status = req->in.refusal},
                       hg_bytes_str(err->rule), hg_status_info(err->status)->name);
    }
}

/* Calls the handler of a complete request; false: it waits for its turn, or for room. */
static bool handle(struct hg_http_session *s, struct hg_http_request *req, struct hg_bytes rest)
{
    if (req->is_answered || req->on_body != NULL) {
        return true;
    }
    s->waiting = req;
    if (req->route->runs_alone && first_of(s) != req) {
        return false;
    }
    s->rest = rest;
    if (!req->route->handle(req)) {
        return false;
    }
    s->waiting = NULL;
    return true;
}

/* Who makes it? False: that is being found out. */
static bool log_in(struct hg_http_session *s, struct hg_http_request *req)
{
    if (!req->is_login_due) {
        return true;
    }
    s->waiting = req;
    enum hg_status status = hg_http_login(req, &s->known);
    if (status == HG_HELD) {
        return false;
    }
    s->waiting = NULL;
    req->is_login_due = false;
    req->realm = hg_realm_of(&s->base);
    hg_own_hold(req->realm); /* the next request may be somebody else's */
    if (status == HG_OK) {
        req->is_continue_due = req->awaits_continue;
    } else {
        req->in.is_body_unwanted = true;
        req->closes = req->closes || req->awaits_continue;
    }
    return true;
}

/* The head is there, and perhaps the body. False: the request waits for something. */
static bool proceed(struct hg_http_session *s, struct hg_http_request *req, struct hg_bytes rest)
{
    if (!log_in(s, req)) {
        return false;
    }
    if (req->is_begin_due && !req->is_answered) {
        req->is_begin_due = false;
        req->route->begin(req);
    }
    if (req->in.state != HG_HTTP_STATE_DONE) {
        return true;
    }
    if (req == s->current) {
        s->current = NULL;
        s->complete_n++;
        s->is_last_read = req->closes;
    }
    return handle(s, req, rest);
}

/* Reads on in the present request, or begins one; returns bytes used. */
static size_t read_some(struct hg_http_session *s, struct hg_bytes in)
{
    struct hg_http_request *req = s->current;
    if (req == NULL && (req = s->current = request_new(s)) == NULL) {
        s->is_last_read = true;
        s->is_finished = true;
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
        return in.n;
    }
    enum hg_http_state before = req->in.state;
    struct hg_error err;
    ssize_t n = hg_http_decode(&req->in, in, &err);
    if (n < 0) {
        refuse_input(s, req, &err);
        flush(s);
        return in.n;
    }
    size_t used = (size_t)n;
    if (before == HG_HTTP_STATE_HEAD && req->in.state != before) {
        on_head(s, req, used < in.n);
    } else if (req->on_body != NULL && !req->is_answered) {
        struct hg_bytes piece = hg_http_body(&req->in);
        if (piece.n > 0) {
            req->on_body(req, piece);
        }
        hg_writer_reset(&req->in.body);
    }
    /* Where it waits, the last byte stays, so that feed is called again for this request. */
    return proceed(s, req, hg_bytes_skip(in, used)) ? used : used - 1;
}

/* Stops the input between two requests while there are enough of them, and within one that asks for
 * it. */
static void update_hold(struct hg_http_session *s)
{
    struct hg_conn *conn = s->base.conn;
    bool must_wait =
        s->waiting != NULL &&
        (s->waiting->is_waiting || (first_of(s) != s->waiting && s->waiting->route->runs_alone));
    bool is_enough =
        must_wait || s->complete_n >= config_of(s)->http_max_pipelined || hg_conn_is_full(conn, 0);
    bool is_held = !s->is_finished && (s->current == NULL ? is_enough : s->current->is_paused);
    if (is_held != s->is_held) {
        s->is_held = is_held;
        (is_held ? hg_conn_hold : hg_conn_release)(conn, HG_HOLD_SESSION);
    }
}

static ssize_t on_feed(struct hg_session *base, struct hg_bytes in, struct hg_error *err)
{
    struct hg_http_session *s = session_of(base);
    size_t used = 0;
    (void)err; /* mistakes are answered, in order, before the connection ends */
    s->is_feeding = true;
    if (s->waiting != NULL && in.n > 0 && proceed(s, s->waiting, hg_bytes_skip(in, 1))) {
        used = 1;
        if (!s->is_closed) {
            update_hold(s); /* what has begun may have to wait for its connection */
        }
    }
    while (!s->is_closed && s->waiting == NULL && !s->is_held && !s->is_last_read && used < in.n) {
        used += read_some(s, hg_bytes_skip(in, used));
        if (!s->is_closed && used < in.n) { /* else go_on does */
            flush(s);
            update_hold(s);
        }
    }
    s->is_feeding = false;
    if (s->is_closed) { /* upgraded: the rest has been passed on */
        hg_free(s);
        return (ssize_t)in.n;
    }
    go_on(s);
    return (ssize_t)(s->is_last_read && s->waiting == NULL ? in.n : used);
}

/* ---- Time ---------------------------------------------------------------------------------- */

static void arm(struct hg_http_session *s)
{
    if (s->deadline_ms != 0 && (s->timer.due_ms == 0 || s->timer.due_ms > s->deadline_ms)) {
        uint64_t now = hg_clock_ms();
        hg_worker_timer(s->base.worker, &s->timer, s->deadline_ms > now ? s->deadline_ms - now : 0);
    }
}

/* Whatever happened has happened: what is waited for now, and how long? */
static void plan(struct hg_http_session *s)
{
    const struct hg_config *config = config_of(s);
    enum phase phase = PHASE_ANSWERING;
    uint64_t request = 0;
    uint64_t part = 0;
    uint64_t limit_ms = 0;
    if (s->is_finished) {
        phase = PHASE_ENDED;
    } else if (s->waiting != NULL && s->waiting->is_login_due) {
        phase = PHASE_ANSWERING;
    } else if (s->waiting != NULL && !s->waiting->route->runs_alone) {
        phase = PHASE_HELD;
        request = s->waiting->id;
        limit_ms = config->http_publish_timeout_ms;
    } else if (s->current != NULL && s->current->is_paused) {
        phase = PHASE_PAUSED;
    } else if (s->current != NULL) {
        phase = PHASE_READING;
        part = s->current->on_body == NULL ? 0 : s->current->in.body_n / PART_BYTES;
        request = s->current->id;
        limit_ms = config->http_request_timeout_ms;
    } else if (hg_list_is_empty(&s->requests)) {
        phase = PHASE_IDLE;
        limit_ms = config->http_idle_timeout_ms;
        s->pending_bytes = SIZE_MAX;
    }
    if (phase != s->phase || request != s->phase_request || part != s->phase_part ||
        phase == PHASE_IDLE) {
        s->phase_part = part;
        s->phase = (uint8_t)phase;
        s->phase_request = request;
        s->deadline_ms = limit_ms == 0 ? 0 : hg_clock_ms() + limit_ms;
        arm(s);
    }
}

static void go_on(struct hg_http_session *s)
{
    flush(s);
    update_hold(s);
    plan(s);
}

/* An idle connection ends, unless its client still reads what was sent. */
static void end_idle(struct hg_http_session *s)
{
    size_t pending = hg_conn_pending(s->base.conn);
    if (pending == 0) {
        finish(s, HG_KEEP_ALIVE);
    } else if (pending < s->pending_bytes) {
        s->pending_bytes = pending;
        s->deadline_ms = hg_clock_ms() + config_of(s)->http_idle_timeout_ms;
        arm(s);
    } else {
        s->is_last_read = true;
        s->is_finished = true;
        hg_conn_close(s->base.conn, HG_TOO_SLOW);
    }
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_http_session *s = HG_CONTAINER_OF(timer, struct hg_http_session, timer);
    struct hg_http_request *req;
    if (s->deadline_ms == 0 || hg_clock_ms() < s->deadline_ms) {
        arm(s);
        return;
    }
    switch ((enum phase)s->phase) {
    case PHASE_IDLE: end_idle(s); break;
    case PHASE_READING:
        s->is_last_read = true;
        s->current->closes = true;
        if (!s->current->is_answered) {
            give_up(s->current);
            hg_http_refuse(s->current, &(struct hg_http_answer){.status = 408, .closes = true},
                           HG_BYTES("the request took too long to arrive"), "KEEP_ALIVE");
        }
        go_on(s);
        break;
    case PHASE_HELD: /* closes: while the connection is held, nothing more is read from it */
        req = s->waiting;
        s->waiting = NULL;
        s->is_last_read = true;
        hg_http_refuse(req,
                       &(struct hg_http_answer){
                           .status = 503, .closes = true, .retry_after_s = HG_HTTP_RETRY_AFTER_S},
                       HG_BYTES("RabbitMQ cannot be reached or has no room; nothing was published"),
                       "BROKER_AWAY");
        break;
    case PHASE_PAUSED:
    case PHASE_ANSWERING:
    case PHASE_ENDED: break;
    }
}

/* ---- The session --------------------------------------------------------------------------- */

/* The request that a part belongs to; NULL: it is answered. */
static struct hg_http_request *find_part(struct hg_http_session *s, uint64_t part)
{
    HG_LIST_FOREACH (it, &s->requests) {
        struct hg_http_request *req = HG_LIST_ENTRY(it, struct hg_http_request, link);
        if (hg_http_part(req, 0) == (part & ~PART_MASK) && !req->is_answered) {
            return req;
        }
    }
    return NULL;
}

static void on_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                       struct hg_bytes reason)
{
    struct hg_http_request *req = find_part(session_of(base), id);
    if (req != NULL && req->on_settled != NULL) {
        req->on_settled(req, (uint32_t)(id & PART_MASK), outcome, reason);
    }
}

void hg_http_resume(struct hg_session *s, uint64_t part)
{
    struct hg_http_request *req = find_part(session_of(s), part);
    if (req != NULL) {
        req->is_paused = false;
        go_on(session_of(s));
    }
}

void hg_http_proceed(struct hg_http_request *req)
{
    req->is_waiting = false;
    go_on(session_of(req->session));
}

static void on_drained(struct hg_session *base)
{
    go_on(session_of(base));
}

static void on_drain(struct hg_session *base)
{
    struct hg_http_session *s = session_of(base);
    s->is_draining = true;
    if (hg_list_is_empty(&s->requests) && !s->is_finished) {
        finish(s, HG_SHUTTING_DOWN);
    }
}

static void forget(struct hg_http_request *req)
{
    if (!req->is_answered && req->on_gone != NULL) {
        req->on_gone(req);
    }
    request_free(req);
}

/* Frees a session without a connection when nothing of it is under way any more. */
static void leave(struct hg_http_session *s)
{
    if (hg_list_is_empty(&s->requests)) {
        hg_list_remove(&s->leaver.link);
        hg_session_detach(&s->base);
        hg_free(s);
    }
}

static void abandon(struct hg_leaver *leaver)
{
    struct hg_http_session *s = HG_CONTAINER_OF(leaver, struct hg_http_session, leaver);
    while (!hg_list_is_empty(&s->requests)) {
        forget(first_of(s));
    }
    leave(s);
}

static void on_closed(struct hg_session *base, enum hg_status why)
{
    struct hg_http_session *s = session_of(base);
    (void)why;
    hg_timer_stop(&s->timer);
    HG_LIST_FOREACH_SAFE (it, &s->requests) {
        struct hg_http_request *req = HG_LIST_ENTRY(it, struct hg_http_request, link);
        if (req->is_answered || req->on_answer == NULL || req->on_settled == NULL) {
            forget(req);
        }
    }
    s->current = s->waiting = NULL;
    s->base.conn = NULL;
    if (!hg_list_is_empty(&s->requests)) {
        s->leaver.abandon = abandon;
        hg_list_add_last(&base->worker->leavers, &s->leaver.link);
        return;
    }
    hg_session_detach(base);
    if (s->is_feeding) {
        s->is_closed = true;
    } else {
        hg_free(s);
    }
}

static void on_describe(struct hg_session *base, struct hg_session_info *out)
{
    *out = (struct hg_session_info){.version = "1.1", .user = hg_identity_user(base->identity)};
}

static const struct hg_session_ops session_ops = {
    .feed = on_feed,
    .settled = on_settled,
    .drained = on_drained,
    .drain = on_drain,
    .closed = on_closed,
    .describe = on_describe,
};

struct hg_session *hg_http_open(struct hg_worker *worker, struct hg_conn *conn,
                                const struct hg_http_site *site)
{
    struct hg_http_session *s = hg_http_kept_open(worker) ? hg_zalloc(sizeof(*s)) : NULL;
    if (s == NULL) {
        return NULL;
    }
    hg_session_init(&s->base, &session_ops, HG_PROTO_HTTP, conn, worker);
    s->magic = MAGIC;
    s->site = site;
    s->phase = PHASE_ENDED;
    hg_list_init(&s->requests);
    hg_timer_init(&s->timer, on_timer);
    plan(s);
    return &s->base;
}
