/* SPDX-License-Identifier: Apache-2.0 */
/* A request that becomes a message: answered 202 once RabbitMQ has confirmed it. */
#include "adapters/http/publish.h"

#include "adapters/http/http_event.h"
#include "adapters/http/http_kept.h"
#include "adapters/http/http_props.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/web.h"
#include "core/allowance.h"
#include "core/config.h"
#include "core/identity.h"
#include "core/upload.h"
#include "core/worker.h"
#include "message/topic.h"

#define TOPICS "/v1/topics/"

/* A small body goes into the message's own block, and the buffer it came in to another request. */
enum { NOTE_ROOM_BYTES = 192, COPIED_BYTES = 4096 };

void hg_http_publish_detail(enum hg_status status, struct hg_bytes reason, struct hg_writer *out)
{
    struct hg_bytes text = hg_bytes_str(hg_status_text(status));
    hg_writer_bytes(out, text);
    if (reason.n > 0 && !hg_bytes_eq(reason, text)) {
        hg_writer_str(out, ": ");
        hg_writer_bytes(out, reason);
    }
}

void hg_http_publish_refuse(struct hg_http_request *req, enum hg_status status,
                            struct hg_bytes reason)
{
    const struct hg_status_info *info = hg_status_info(status);
    struct hg_http_answer answer = {.status = info->http};
    struct hg_writer detail = {0};
    if (status == HG_TOO_FAST) {
        answer.retry_after_s = hg_allowance_retry_after_s(req->session);
    } else if (answer.status == 429 || answer.status == 503) {
        answer.retry_after_s = HG_HTTP_RETRY_AFTER_S;
    }
    hg_http_publish_detail(status, reason, &detail);
    hg_http_refuse(req, &answer, hg_writer_view(&detail), info->name);
    hg_writer_close(&detail);
}

bool hg_http_publish_takes_encoding(struct hg_http_request *req)
{
    const struct hg_http_answer_field field = {"Accept-Encoding", HG_BYTES("identity")};
    if (hg_http_field(&req->in.head, HG_BYTES("Content-Encoding")).n == 0) {
        return true;
    }
    hg_http_refuse(req, &(struct hg_http_answer){.status = 415, .fields = &field, .fields_n = 1},
                   HG_BYTES("this body is read here, so it must come without a Content-Encoding"),
                   NULL);
    return false;
}

static void on_settled(struct hg_http_request *req, uint32_t part, enum hg_status outcome,
                       struct hg_bytes reason)
{
    (void)part;
    if (outcome == HG_OK) {
        hg_http_answer(req, &(struct hg_http_answer){
                                .status = 202, .type = "application/json", .body = &req->note});
    } else {
        hg_http_publish_refuse(req, outcome, reason);
    }
}

void hg_http_publish_note(struct hg_writer *w, struct hg_bytes id, const struct hg_published *p)
{
    hg_writer_str(w, "\"id\":\"");
    hg_writer_json(w, id);
    hg_writer_str(w, "\",\"exchange\":\"");
    hg_writer_json(w, p->exchange);
    hg_writer_str(w, "\",\"key\":\"");
    hg_writer_json(w, p->key);
    hg_writer_str(w, "\"}\n");
}

const char *hg_http_publish_query(struct hg_bytes query, hg_http_knows_fn *knows, const void *ctx,
                                  struct hg_http_publish_options *out)
{
    if (query.n == 0) {
        return NULL;
    }
    const struct {
        const char *name, *why;
        bool *is_set;
    } known[] = {{"mandatory", "mandatory must be true or false", &out->is_mandatory},
                 {"retain", "retain must be true or false", &out->is_retained}};
    enum { KNOWN_N = sizeof(known) / sizeof(known[0]) };
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    while (why == NULL && hg_http_next_parameter(&query, &name, &value, &why)) {
        struct hg_bytes v = hg_writer_view(&value);
        if (why != NULL) {
            break;
        }
        size_t i = 0;
        while (i < KNOWN_N && !hg_bytes_eq(hg_writer_view(&name), hg_bytes_str(known[i].name))) {
            i++;
        }
        if (i == KNOWN_N) {
            bool is_known = knows != NULL && knows(ctx, hg_writer_view(&name));
            why = is_known ? NULL : "the query parameters here are mandatory and retain";
        } else if (hg_bytes_eq(v, HG_BYTES("true")) || hg_bytes_eq(v, HG_BYTES("false"))) {
            *known[i].is_set = v.p[0] == 't';
        } else {
            why = known[i].why;
        }
    }
    hg_writer_close(&name);
    hg_writer_close(&value);
    return why;
}

/* ---- Values that the rule names ---- */

struct place {
    const struct hg_rules *rules;
    struct hg_bytes address;
};

struct values {
    const struct hg_http_request *req;
    struct hg_writer decoded[HG_REQUEST_MAX]; /* out of the query */
    size_t decoded_n;
    struct hg_request_name lacking; /* what find_value did not find, */
    const char *why;                /* and why */
};

static bool is_value(struct hg_bytes value)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < 0x20 || value.p[i] == 0x7f) {
            return false;
        }
    }
    return hg_utf8_is_valid(value);
}

/* How often the query has it; `out` is the last. */
static unsigned find_parameter(struct hg_bytes query, struct hg_bytes name, struct hg_writer *out)
{
    struct hg_writer other = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    unsigned n = 0;
    while (hg_http_next_parameter(&query, &other, &value, &why) && why == NULL) {
        if (hg_bytes_eq(hg_writer_view(&other), name)) {
            struct hg_writer swap = *out;
            *out = value;
            value = swap;
            n++;
        }
    }
    hg_writer_close(&other);
    hg_writer_close(&value);
    return n;
}

static unsigned find_header(const struct hg_http_head *head, struct hg_bytes name,
                            struct hg_bytes *out)
{
    size_t at = 0;
    unsigned n = 0;
    const struct hg_http_field *f;
    while ((f = hg_http_next_field(head, name, &at)) != NULL) {
        *out = f->value;
        n++;
    }
    return n;
}

static bool find_value(void *ctx, const struct hg_request_name *name, struct hg_bytes *value_out)
{
    struct values *v = ctx;
    const struct hg_http_head *head = &v->req->in.head;
    unsigned n;
    *value_out = (struct hg_bytes){0};
    if (name->is_header) {
        n = find_header(head, name->name, value_out);
    } else {
        struct hg_writer *decoded = &v->decoded[v->decoded_n++];
        n = find_parameter(head->query, name->name, decoded);
        *value_out = hg_writer_view(decoded);
    }
    v->lacking = *name;
    v->why = n > 1                   ? "is given twice"
             : value_out->n == 0     ? "is missing"
             : !is_value(*value_out) ? "must be UTF-8 without control characters"
                                     : NULL;
    return v->why == NULL;
}

static void refuse_value(struct hg_http_request *req, const struct values *v)
{
    struct hg_writer why = {0};
    hg_writer_printf(&why, "the rule needs the %s %.*s, which %s",
                     v->lacking.is_header ? "header" : "query parameter",
                     HG_BYTES_FMT(v->lacking.name), v->why);
    hg_http_refuse(req, &(struct hg_http_answer){.status = 400}, hg_writer_view(&why),
                   hg_status_info(HG_NO_VALUE)->name);
    hg_writer_close(&why);
}

static void close_values(struct values *v)
{
    for (size_t i = 0; i < v->decoded_n; i++) {
        hg_writer_close(&v->decoded[i]);
    }
}

/* Below /v1/topics the query is Headgate's, but for what the rule names. */
static bool knows_parameter(const void *ctx, struct hg_bytes name)
{
    const struct place *place = ctx;
    struct hg_route route;
    struct hg_request_name known;
    enum hg_status status = hg_rules_publish(place->rules, HG_PROTO_HTTP, place->address, &route);
    for (size_t i = 0; (status == HG_OK || status == HG_NO_VALUE || status == HG_KEY_TOO_LONG) &&
                       hg_rules_request_name(place->rules, route.rule, i, &known);
         i++) {
        if (!known.is_header && hg_bytes_eq(known.name, name)) {
            return true;
        }
    }
    return false;
}

static bool knows_all(const void *ctx, struct hg_bytes name)
{
    (void)ctx;
    (void)name;
    return true;
}

/* ---- Bodies that go on while they arrive ---- */

/* What is sent again is known by its body, so that is gathered, as is what will be retained. */
static bool may_stream(const struct hg_http_request *req)
{
    return req->in.head.body_bytes > req->session->worker->config->http_stream_from_bytes &&
           !hg_http_repeat_applies(req);
}

static void on_room(void *session, uint64_t part)
{
    hg_http_resume(session, part);
}

static void forget_upload(struct hg_http_request *req)
{
    if (req->data != NULL) {
        hg_upload_forget(req->data);
        req->data = NULL;
    }
}

static void on_upload_settled(struct hg_http_request *req, uint32_t part, enum hg_status outcome,
                              struct hg_bytes reason)
{
    req->data = NULL;
    on_settled(req, part, outcome, reason);
}

static void on_body(struct hg_http_request *req, struct hg_bytes piece)
{
    req->is_paused = !hg_upload_write(req->data, piece) && !req->is_answered;
}

static void take_body(struct hg_http_request *req, struct hg_upload *upload)
{
    req->data = upload;
    req->is_paused = true;
    req->on_body = on_body;
    req->on_gone = forget_upload;
    req->on_settled = on_upload_settled;
}

/* ---- Publishing ---- */

/* False: held. */
static bool publish_with(struct hg_http_request *req, struct hg_bytes address,
                         const struct hg_http_publish_options *options,
                         const struct hg_properties *properties)
{
    struct hg_published published;
    const char *why = NULL;
    struct values values = {.req = req};
    const struct hg_request_source source = {find_value, &values};
    struct hg_upload_ask ask = {.body_bytes = req->in.head.body_bytes, .on_room = on_room};
    bool is_upload = req->in.state < HG_HTTP_STATE_DONE;
    struct hg_publish_args args = {
        .address = address,
        .upload = is_upload ? &ask : NULL,
        .request = &source,
        .properties = *properties,
        .body = hg_http_body(&req->in),
        .body_buf = req->in.body_n > COPIED_BYTES ? req->in.body.buf : NULL,
        .id = hg_http_part(req, 0),
        .timeout_ms = req->session->worker->config->http_publish_timeout_ms,
        .user = hg_identity_user(req->session->identity),
        .is_mandatory = options->is_mandatory,
        .is_retained = options->is_retained,
        .wants_outcome = true,
    };
    enum hg_status status = hg_publish(req->session, &args, &published, &why);
    if (status == HG_OK) {
        (void)hg_writer_reserve(&req->note, NOTE_ROOM_BYTES); /* grows once */
        hg_writer_str(&req->note, "{");
        hg_http_publish_note(&req->note, properties->message_id, &published);
        req->on_settled = on_settled;
        if (is_upload) {
            take_body(req, ask.upload);
        }
    } else if (status == HG_NO_VALUE) {
        refuse_value(req, &values);
    } else if (status != HG_HELD) {
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
    }
    close_values(&values);
    return status != HG_HELD;
}

static bool has_rule(const struct hg_rules *rules, struct hg_bytes address)
{
    struct hg_route route;
    enum hg_status status = hg_rules_publish(rules, HG_PROTO_HTTP, address, &route);
    return (status == HG_OK || status == HG_KEY_TOO_LONG || status == HG_NO_VALUE) &&
           !hg_rules_spec(rules, route.rule)->is_builtin;
}

/* at_root: by a rule's own path, not below /v1/topics. */
static bool publish(struct hg_http_request *req, struct hg_bytes path, hg_http_knows_fn *knows,
                    bool at_root)
{
    struct place place = {.rules = req->realm->rules};
    struct hg_writer *address = hg_http_kept_scratch(req->session->worker);
    struct hg_writer bad_header = {0};
    struct hg_http_props props; /* large: what closing it looks at is enough */
    props.headers_own = NULL;
    props.event = (struct hg_writer){0};
    struct hg_http_publish_options options = {.is_mandatory = false};
    bool is_early = req->in.state < HG_HTTP_STATE_DONE;
    bool is_done = true;
    const struct hg_http_answer bad_request = {.status = 400};
    enum hg_http_repeat repeat = HG_HTTP_REPEAT_ANSWERED;
    const char *why = hg_http_decode_path(path, address);
    place.address = hg_writer_view(address);
    if (why != NULL) {
        hg_http_publish_refuse(req, HG_BAD_ADDRESS, hg_bytes_str(why));
    } else if (at_root && req->session->worker->realms_n > 1 &&
               !has_rule(place.rules, place.address)) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 404},
                       HG_BYTES("no rule of this virtual host serves this path"), NULL);
    } else if ((why = hg_http_publish_query(req->in.head.query, knows, &place, &options)) != NULL) {
        hg_http_refuse(req, &bad_request, hg_bytes_str(why), NULL);
    } else if (hg_http_event_is_batch(hg_http_field(&req->in.head, HG_BYTES("Content-Type")))) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 415},
                       HG_BYTES("AMQP has no batches of events: send one a request, or lines to "
                                "/v1/topics"),
                       NULL);
    } else if (!hg_http_props_open(&props, &req->in.head, &req->session->worker->random,
                                   &bad_header)) {
        hg_http_refuse(req, &bad_request, hg_writer_view(&bad_header), "BAD_PROPERTY");
    } else if (is_early && (options.is_retained || props.is_retained)) {
        is_done = true; /* it comes again with its body */
    } else if ((repeat = hg_http_repeat_begin(req)) == HG_HTTP_REPEAT_NONE) {
        req->on_gone = hg_http_repeat_forget;
        options.is_retained = options.is_retained || props.is_retained;
        is_done = publish_with(req, place.address, &options, &props.properties);
    }
    hg_http_props_close(&props);
    hg_writer_close(&bad_header);
    return is_done && repeat != HG_HTTP_REPEAT_WAITS;
}

void hg_http_publish_topic_begin(struct hg_http_request *req)
{
    if (may_stream(req)) {
        (void)hg_http_publish_topic(req); /* an upload is never held */
    }
}

bool hg_http_publish_topic(struct hg_http_request *req)
{
    return publish(req, hg_bytes_skip(req->in.head.path, sizeof(TOPICS) - 1), knows_parameter,
                   false);
}

/* Which virtual host it is for is known only with the login: some one's rules take it. */
bool hg_http_publish_rule_takes(const struct hg_http_request *req)
{
    const struct hg_worker *w = req->session->worker;
    struct hg_writer address = {0};
    bool takes = false;
    if (hg_http_decode_path(hg_bytes_skip(req->in.head.path, 1), &address) == NULL &&
        !hg_http_path_is_reserved(hg_writer_view(&address))) {
        for (unsigned i = 0; i < w->realms_n && !takes; i++) {
            takes = has_rule(w->realms[i]->rules, hg_writer_view(&address));
        }
    }
    hg_writer_close(&address);
    return takes;
}

void hg_http_publish_rule_begin(struct hg_http_request *req)
{
    if (may_stream(req)) {
        (void)hg_http_publish_rule(req); /* an upload is never held */
    }
}

bool hg_http_publish_rule(struct hg_http_request *req)
{
    return publish(req, hg_bytes_skip(req->in.head.path, 1), knows_all, true);
}
