/* SPDX-License-Identifier: Apache-2.0 */
/* A batch (POST /v1/topics): a message a line, each published as soon as there is room for it and
 * answered by a line of its own, in their order, once all have an outcome. */
#include "adapters/http/http_encode.h"
#include "adapters/http/http_event.h"
#include "adapters/http/http_json.h"
#include "adapters/http/http_props.h"
#include "adapters/http/publish.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/config.h"
#include "core/identity.h"
#include "core/worker.h"

enum {
    WINDOW = 256, /* lines of one batch under way: others have room besides it */
    RETRY_MS = 20
};
_Static_assert(1 << HG_HTTP_PART_BITS > 100000, "max_batch lines are parts of one request");

struct batch {
    struct hg_http_request *req;
    struct hg_timer timer; /* there was no room, and nothing is under way that could make some */
    struct hg_bytes rest;  /* not published yet; of the request's body */
    struct hg_http_publish_options options;
    uint64_t stuck_since_ms; /* 0: it goes on */
    enum hg_status stuck_why;
    uint32_t next; /* line */
    uint32_t open_n, failed_n;
    uint32_t lines_n;
    struct hg_writer answers[]; /* a line each */
};

struct line { /* what it says, borrowed from `json` and from here */
    json_t *json;
    struct hg_http_json_props props;
    struct hg_http_publish_options options;
    struct hg_bytes address, body;
    struct hg_writer decoded;
    char uuid[HG_HTTP_UUID_SIZE];
};

/* ---- Lines ---- */

/* Takes the next line with something in it; false at the end. */
static bool take_line(struct hg_bytes *rest, struct hg_bytes *line_out)
{
    while (rest->n > 0) {
        size_t n = hg_bytes_index(*rest, '\n');
        struct hg_bytes line = hg_bytes(rest->p, n);
        *rest = hg_bytes_skip(*rest, n < rest->n ? n + 1 : n);
        for (size_t i = 0; i < line.n; i++) {
            if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r') {
                *line_out = line;
                return true;
            }
        }
    }
    return false;
}

static uint32_t count_lines(struct hg_bytes body, uint32_t max_n)
{
    struct hg_bytes line;
    uint32_t n = 0;
    while (n <= max_n && take_line(&body, &line)) {
        n++;
    }
    return n;
}

static bool read_flag(const json_t *value, bool *out)
{
    if (value != NULL) {
        *out = json_is_true(value);
    }
    return value == NULL || json_is_boolean(value);
}

/* NULL or what is wrong. */
static const char *read_body(struct line *l, const json_t *body, const json_t *base64)
{
    if (body != NULL && base64 != NULL) {
        return "body and base64 exclude each other";
    }
    if ((body != NULL && !json_is_string(body)) || (base64 != NULL && !json_is_string(base64))) {
        return "body and base64 must be strings";
    }
    l->body = hg_http_json_text(body);
    if (base64 != NULL) {
        if (!hg_base64_decode(&l->decoded, hg_http_json_text(base64))) {
            return "base64 must be base64 with padding";
        }
        l->body = hg_writer_view(&l->decoded);
    }
    return NULL;
}

static const char *unknown_member(const json_t *object)
{
    static const char *const known[] = {"address", "body",      "base64", "properties",
                                        "headers", "mandatory", "retain"};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        size_t i = 0;
        while (i < sizeof(known) / sizeof(known[0]) && strcmp(name, known[i]) != 0) {
            i++;
        }
        if (i == sizeof(known) / sizeof(known[0])) {
            return name;
        }
    }
    return NULL;
}

/* False: `why` says what is wrong. Close it either way. */
static bool read_line(struct line *l, struct hg_bytes text, struct hg_random *random,
                      struct hg_writer *why)
{
    const char *rule;
    l->json = hg_http_json_read(text, &rule);
    if (l->json == NULL) {
        hg_writer_str(why, rule);
        return false;
    }
    const char *unknown = unknown_member(l->json);
    const json_t *address = json_object_get(l->json, "address");
    l->address = hg_http_json_text(address);
    l->props.properties.delivery_mode = 2;
    if (unknown != NULL) {
        hg_writer_printf(why, "\"%s\" is not known", unknown);
    } else if (!json_is_string(address)) {
        hg_writer_str(why, "address must be there, a string");
    } else if (!read_flag(json_object_get(l->json, "mandatory"), &l->options.is_mandatory) ||
               !read_flag(json_object_get(l->json, "retain"), &l->options.is_retained)) {
        hg_writer_str(why, "mandatory and retain must be true or false");
    } else if ((rule = read_body(l, json_object_get(l->json, "body"),
                                 json_object_get(l->json, "base64"))) != NULL) {
        hg_writer_str(why, rule);
    } else if (hg_http_json_properties(&l->props, json_object_get(l->json, "properties"), why) &&
               hg_http_json_headers(&l->props, json_object_get(l->json, "headers"), why)) {
        if (l->props.properties.message_id.n == 0) {
            hg_http_uuid(random, l->uuid);
            l->props.properties.message_id = hg_bytes_str(l->uuid);
        }
        return true;
    }
    return false;
}

static void close_line(struct line *l)
{
    hg_http_json_close(&l->props);
    hg_writer_close(&l->decoded);
    json_decref(l->json);
}

/* ---- Answers ---- */

static void refuse_line(struct batch *b, uint32_t at, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_status_info *info = hg_status_info(status);
    struct hg_writer *w = &b->answers[at];
    struct hg_writer detail = {0};
    hg_writer_reset(w);
    hg_http_publish_detail(status, reason, &detail);
    hg_writer_printf(w, "{\"status\":%u,\"title\":\"%s\",\"detail\":\"", info->http,
                     hg_http_phrase(info->http));
    hg_writer_json(w, hg_writer_view(&detail));
    hg_writer_printf(w, "\",\"code\":\"%s\"}\n", info->name);
    w->failed = w->failed || detail.failed;
    hg_writer_close(&detail);
    b->failed_n++;
}

static void free_batch(struct batch *b)
{
    hg_timer_stop(&b->timer);
    for (uint32_t i = 0; i < b->lines_n; i++) {
        hg_writer_close(&b->answers[i]);
    }
    hg_free(b);
}

static void finish(struct batch *b)
{
    struct hg_http_request *req = b->req;
    struct hg_http_answer answer = {
        .status = b->failed_n == 0 ? 202 : 207, .type = "application/x-ndjson", .body = &req->note};
    for (uint32_t i = 0; i < b->lines_n; i++) {
        hg_writer_bytes(&req->note, hg_writer_view(&b->answers[i]));
        req->note.failed = req->note.failed || b->answers[i].failed;
    }
    req->data = NULL;
    free_batch(b);
    hg_http_answer(req, &answer);
}

/* ---- Publishing ---- */

/* OK: the line is under way, or refused and done with. HELD: there is no room. */
static enum hg_status publish_line(struct batch *b, struct hg_bytes text, uint32_t at)
{
    struct hg_session *s = b->req->session;
    struct line l = {.options = b->options};
    struct hg_writer bad = {0};
    struct hg_published published;
    const char *why = NULL;
    enum hg_status status = HG_BAD_PAYLOAD;
    if (read_line(&l, text, &s->worker->random, &bad)) {
        const struct hg_publish_args args = {
            .address = l.address,
            .properties = l.props.properties,
            .body = l.body,
            .id = hg_http_part(b->req, at),
            .timeout_ms = s->worker->config->http_publish_timeout_ms,
            .user = hg_identity_user(s->identity),
            .is_mandatory = l.options.is_mandatory,
            .is_retained = l.options.is_retained,
            .wants_outcome = true,
            .never_held = true,
        };
        status = hg_publish(s, &args, &published, &why);
        hg_writer_str(&bad, why == NULL ? "" : why);
    }
    if (status == HG_OK) {
        hg_writer_str(&b->answers[at], "{\"status\":202,");
        hg_http_publish_note(&b->answers[at], l.props.properties.message_id, &published);
        b->open_n++;
    } else if (status == HG_BUSY || status == HG_BROKER_AWAY || status == HG_TOO_FAST) {
        b->stuck_why = status;
        status = HG_HELD;
    } else {
        refuse_line(b, at, status, hg_writer_view(&bad));
        status = HG_OK;
    }
    close_line(&l);
    hg_writer_close(&bad);
    return status;
}

/* As many lines as there is room for. False: there is none. */
static bool publish_lines(struct batch *b)
{
    struct hg_bytes line;
    struct hg_bytes rest = b->rest;
    while (b->open_n < WINDOW && take_line(&rest, &line)) {
        if (!hg_publish_has_room(b->req->session)) {
            b->stuck_why = HG_BROKER_AWAY;
            return false;
        }
        if (publish_line(b, line, b->next) == HG_HELD) {
            return false;
        }
        b->next++;
        b->rest = rest;
    }
    return true;
}

static void give_up(struct batch *b)
{
    for (; b->next < b->lines_n; b->next++) {
        refuse_line(b, b->next, b->stuck_why, HG_BYTES("nothing was published of this line"));
    }
}

/* Goes on after whatever has happened; the batch may be gone afterwards. */
static void go_on(struct batch *b)
{
    struct hg_worker *w = b->req->session->worker;
    bool is_stuck = !publish_lines(b) && b->open_n == 0;
    if (!is_stuck) {
        b->stuck_since_ms = 0;
    } else if (b->stuck_since_ms == 0) {
        b->stuck_since_ms = hg_clock_ms();
    } else if (hg_clock_ms() - b->stuck_since_ms >= w->config->http_publish_timeout_ms) {
        give_up(b);
    }
    if (b->next == b->lines_n && b->open_n == 0) {
        finish(b);
    } else if (is_stuck) {
        hg_worker_timer(w, &b->timer, RETRY_MS);
    }
}

static void on_timer(struct hg_timer *timer)
{
    go_on(HG_CONTAINER_OF(timer, struct batch, timer));
}

static void on_settled(struct hg_http_request *req, uint32_t part, enum hg_status outcome,
                       struct hg_bytes reason)
{
    struct batch *b = req->data;
    b->open_n--;
    if (outcome != HG_OK) {
        refuse_line(b, part, outcome, reason);
    }
    go_on(b);
}

/* What is under way stays so; what is not is not begun. */
static void on_gone(struct hg_http_request *req)
{
    hg_http_repeat_forget(req);
    if (req->data != NULL) {
        free_batch(req->data);
    }
}

/* ---- The request ---- */

/* What is meant for one message has no place on a batch. NULL or its name. */
static const struct hg_http_field *find_misplaced(const struct hg_http_head *h)
{
    static const char *const names[] = {"Correlation-Id", "Reply-To", "Message-Id"};
    for (size_t i = 0; i < h->fields_n; i++) {
        const struct hg_http_field *f = &h->fields[i];
        bool is_amqp =
            f->name.n > 5 && hg_bytes_eq_nocase(hg_bytes(f->name.p, 5), HG_BYTES("Amqp-"));
        if (is_amqp || hg_http_event_is_attribute(f->name)) {
            return f;
        }
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            if (hg_bytes_eq_nocase(f->name, hg_bytes_str(names[k]))) {
                return f;
            }
        }
    }
    return NULL;
}

static bool is_ndjson(const struct hg_http_head *h)
{
    struct hg_bytes type = hg_http_field(h, HG_BYTES("Content-Type"));
    type.n = hg_bytes_index(type, ';');
    while (type.n > 0 && type.p[type.n - 1] == ' ') {
        type.n--;
    }
    return hg_bytes_eq_nocase(type, HG_BYTES("application/x-ndjson"));
}

/* False: it has been refused. */
static bool check(struct hg_http_request *req, uint32_t lines_n,
                  struct hg_http_publish_options *options)
{
    const struct hg_http_head *h = &req->in.head;
    uint32_t max_n = req->session->worker->config->http_max_batch;
    const struct hg_http_answer_field accept = {"Accept", HG_BYTES("application/x-ndjson")};
    struct hg_http_answer answer = {.status = 400};
    struct hg_writer why = {0};
    const struct hg_http_field *misplaced = find_misplaced(h);
    const char *bad_query = hg_http_publish_query(h->query, NULL, NULL, options);
    if (!is_ndjson(h)) {
        answer = (struct hg_http_answer){.status = 415, .fields = &accept, .fields_n = 1};
        hg_writer_str(&why, "a batch is application/x-ndjson: a JSON object a line");
    } else if (misplaced != NULL) {
        hg_writer_bytes(&why, misplaced->name);
        hg_writer_str(&why, " belongs to one message: say it in its line");
    } else if (bad_query != NULL) {
        hg_writer_str(&why, bad_query);
    } else if (lines_n == 0) {
        hg_writer_str(&why, "there is no line");
    } else if (lines_n > max_n) {
        answer.status = 413;
        hg_worker_refused(req->session->worker, HG_LIMIT_HTTP_BATCH);
        hg_writer_printf(&why, "a batch has at most %u lines; nothing was published",
                         (unsigned)max_n);
    } else {
        return true;
    }
    hg_http_refuse(req, &answer, hg_writer_view(&why), NULL);
    hg_writer_close(&why);
    return false;
}

bool hg_http_publish_batch(struct hg_http_request *req)
{
    struct hg_bytes body = hg_http_body(&req->in);
    uint32_t lines_n = count_lines(body, req->session->worker->config->http_max_batch);
    struct hg_http_publish_options options = {.is_mandatory = false};
    if (!hg_http_publish_takes_encoding(req) || !check(req, lines_n, &options)) {
        return true;
    }
    enum hg_http_repeat repeat = hg_http_repeat_begin(req);
    if (repeat != HG_HTTP_REPEAT_NONE) {
        return repeat == HG_HTTP_REPEAT_ANSWERED;
    }
    struct batch *b = hg_zalloc(sizeof(*b) + lines_n * sizeof(b->answers[0]));
    if (b == NULL) {
        hg_http_publish_refuse(req, HG_NO_MEMORY, HG_BYTES(""));
        return true;
    }
    b->req = req;
    b->rest = body;
    b->options = options;
    b->lines_n = lines_n;
    hg_timer_init(&b->timer, on_timer);
    req->data = b;
    req->on_settled = on_settled;
    req->on_gone = on_gone;
    go_on(b);
    return true;
}
