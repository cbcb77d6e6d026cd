/* SPDX-License-Identifier: Apache-2.0 */
/* The management API's publish (POST /api/exchanges/{vhost}/{exchange}/publish) and get (POST
 * /api/queues/{vhost}/{queue}/get) with its JSON, so that scripts move by changing a port. As there,
 * members besides those that are needed are passed over. */
#include "adapters/http/http_json.h"
#include "adapters/http/http_message.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "adapters/http/pull.h"
#include "base/base64.h"
#include "core/config.h"
#include "core/identity.h"
#include "core/worker.h"
#include "message/topic.h"

#define EXCHANGES        "/api/exchanges/"
#define QUEUES           "/api/queues/"
#define DEFAULT_EXCHANGE "amq.default" /* as a path has it, where the name is empty */

struct order { /* what a request says, borrowed from `json` and from here */
    struct hg_writer vhost, exchange, decoded;
    json_t *json;
    struct hg_http_json_props props;
    struct hg_bytes key, body;
};

/* PREFIX{vhost}/{name}/ACTION */
static bool is_path(const struct hg_http_request *req, size_t prefix_n, const char *action)
{
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, prefix_n);
    size_t vhost_n = hg_http_take_level(&path).n;
    size_t name_n = hg_http_take_level(&path).n;
    return req->session->worker->config->http_management_paths && vhost_n > 0 && name_n > 0 &&
           hg_bytes_eq(path, hg_bytes_str(action));
}

/* Decodes vhost and name. NULL, or what is wrong, for *status_out. */
static const char *read_path(const struct hg_http_request *req, size_t prefix_n,
                             struct hg_writer *vhost, struct hg_writer *name, unsigned *status_out)
{
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, prefix_n);
    const char *rule = hg_http_decode_level(hg_http_take_level(&path), vhost);
    rule = rule != NULL ? rule : hg_http_decode_level(hg_http_take_level(&path), name);
    *status_out = 400;
    if (rule == NULL &&
        hg_vhost_find(req->session->worker->config, hg_writer_view(vhost)) != req->realm->spec) {
        *status_out = 404;
        rule = "it is no virtual host of this gateway";
    }
    return rule;
}

/* ---- Publish ---- */

bool hg_http_manage_publish_takes(const struct hg_http_request *req)
{
    return is_path(req, sizeof(EXCHANGES) - 1, "publish");
}

static void on_settled(struct hg_http_request *req, uint32_t part, enum hg_status outcome,
                       struct hg_bytes reason)
{
    (void)part;
    if (outcome == HG_OK || outcome == HG_UNROUTABLE) {
        hg_writer_str(&req->note, outcome == HG_OK ? "{\"routed\":true}" : "{\"routed\":false}");
        hg_http_answer(req, &(struct hg_http_answer){
                                .status = 200, .type = "application/json", .body = &req->note});
    } else {
        hg_http_publish_refuse(req, outcome, reason);
    }
}

/* NULL or what is wrong. */
static const char *read_payload(struct order *o)
{
    const json_t *payload = json_object_get(o->json, "payload");
    struct hg_bytes encoding = hg_http_json_text(json_object_get(o->json, "payload_encoding"));
    const json_t *key = json_object_get(o->json, "routing_key");
    o->key = hg_http_json_text(key);
    o->body = hg_http_json_text(payload);
    if (!json_is_string(key) || !json_is_string(payload)) {
        return "routing_key and payload must be there, as strings";
    }
    if (hg_bytes_eq(encoding, HG_BYTES("base64"))) {
        if (!hg_base64_decode(&o->decoded, o->body)) {
            return "payload must be base64 with padding";
        }
        o->body = hg_writer_view(&o->decoded);
        return NULL;
    }
    return hg_bytes_eq(encoding, HG_BYTES("string"))
               ? NULL
               : "payload_encoding must be there, \"string\" or \"base64\"";
}

/* False: `why` says what is wrong, for *status_out. Close it either way. */
static bool read_order(const struct hg_http_request *req, struct order *o, unsigned *status_out,
                       struct hg_writer *why)
{
    const char *rule = read_path(req, sizeof(EXCHANGES) - 1, &o->vhost, &o->exchange, status_out);
    if (rule == NULL) {
        o->json = hg_http_json_read(hg_http_body(&req->in), &rule);
    }
    if (rule == NULL) {
        rule = read_payload(o);
    }
    if (rule == NULL && json_object_get(o->json, "properties") == NULL) {
        rule = "properties must be there, if only {}";
    }
    if (rule != NULL) {
        hg_writer_str(why, rule);
        return false;
    }
    return hg_http_json_properties(&o->props, json_object_get(o->json, "properties"), why);
}

static void close_order(struct order *o)
{
    hg_http_json_close(&o->props);
    hg_writer_close(&o->vhost);
    hg_writer_close(&o->exchange);
    hg_writer_close(&o->decoded);
    json_decref(o->json);
}

/* False: held. */
static bool publish(struct hg_http_request *req, const struct order *o)
{
    const char *why = NULL;
    struct hg_bytes exchange = hg_writer_view(&o->exchange);
    const struct hg_publish_args args = {
        .is_direct = true,
        .exchange = hg_bytes_eq(exchange, HG_BYTES(DEFAULT_EXCHANGE)) ? HG_BYTES("") : exchange,
        .key = o->key,
        .properties = o->props.properties,
        .body = o->body,
        .id = hg_http_part(req, 0),
        .timeout_ms = req->session->worker->config->http_publish_timeout_ms,
        .user = hg_identity_user(req->session->identity),
        .is_mandatory = true,
        .wants_outcome = true,
    };
    enum hg_status status = hg_publish(req->session, &args, NULL, &why);
    if (status == HG_HELD) {
        return false;
    }
    if (status == HG_OK) {
        req->on_settled = on_settled;
    } else {
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
    }
    return true;
}

bool hg_http_manage_publish(struct hg_http_request *req)
{
    struct order o = {.json = NULL};
    struct hg_writer why = {0};
    struct hg_http_answer refusal = {.status = 400};
    bool is_done = true;
    if (!hg_http_publish_takes_encoding(req)) {
        return true;
    }
    if (!read_order(req, &o, &refusal.status, &why)) {
        hg_http_refuse(req, &refusal, hg_writer_view(&why), NULL);
    } else {
        enum hg_http_repeat repeat = hg_http_repeat_begin(req);
        is_done = repeat != HG_HTTP_REPEAT_WAITS;
        if (repeat == HG_HTTP_REPEAT_NONE) {
            req->on_gone = hg_http_repeat_forget;
            is_done = publish(req, &o);
        }
    }
    close_order(&o);
    hg_writer_close(&why);
    return is_done;
}

/* ---- Get ---- */

struct get { /* what a request says */
    uint64_t count, truncate_n;
    enum hg_lease_end end;
    bool is_base64;
};

bool hg_http_manage_get_takes(const struct hg_http_request *req)
{
    return is_path(req, sizeof(QUEUES) - 1, "get") && req->session->worker->config->lease_max > 0;
}

static const char *read_ackmode(const json_t *value, enum hg_lease_end *out)
{
    static const struct {
        const char *name;
        enum hg_lease_end end;
    } modes[] = {{"ack_requeue_true", HG_LEASE_REQUEUE},
                 {"reject_requeue_true", HG_LEASE_REQUEUE},
                 {"ack_requeue_false", HG_LEASE_ACK},
                 {"reject_requeue_false", HG_LEASE_REJECT}};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (hg_bytes_eq(hg_http_json_text(value), hg_bytes_str(modes[i].name))) {
            *out = modes[i].end;
            return NULL;
        }
    }
    return "ackmode must be there, ack_requeue_true or _false, reject_requeue_true or _false";
}

/* NULL or what is wrong. Read once to be checked, and again for the answer. */
static const char *read_get(const struct hg_http_request *req, struct get *out)
{
    const char *why = NULL;
    json_t *json = hg_http_json_read(hg_http_body(&req->in), &why);
    if (json == NULL) {
        return why;
    }
    const json_t *count = json_object_get(json, "count");
    const json_t *truncate = json_object_get(json, "truncate");
    struct hg_bytes encoding = hg_http_json_text(json_object_get(json, "encoding"));
    json_int_t n = json_integer_value(count);
    json_int_t truncate_n = json_integer_value(truncate);
    out->is_base64 = hg_bytes_eq(encoding, HG_BYTES("base64"));
    out->truncate_n = truncate == NULL || truncate_n < 0 ? UINT64_MAX : (uint64_t)truncate_n;
    out->count = (uint64_t)n;
    why = read_ackmode(json_object_get(json, "ackmode"), &out->end);
    if (n < 1) {
        why = "count must be there, a number from 1 on";
    } else if (!out->is_base64 && !hg_bytes_eq(encoding, HG_BYTES("auto"))) {
        why = "encoding must be there, \"auto\" or \"base64\"";
    } else if (truncate != NULL && (!json_is_integer(truncate) || truncate_n < 0)) {
        why = "truncate must be a number of bytes";
    }
    json_decref(json);
    return why;
}

static void write_payload(struct hg_writer *w, struct hg_bytes body, const struct get *get)
{
    struct hg_bytes shown =
        body.n > get->truncate_n ? hg_bytes(body.p, (size_t)get->truncate_n) : body;
    hg_writer_str(w, ",\"payload\":");
    if (!get->is_base64 && hg_utf8_is_valid(shown)) {
        hg_http_message_string(w, shown);
        hg_writer_str(w, ",\"payload_encoding\":\"string\"}");
    } else {
        hg_writer_u8(w, '"');
        hg_base64_encode(w, shown);
        hg_writer_str(w, "\",\"payload_encoding\":\"base64\"}");
    }
}

/* No properties at all are an empty array there. */
static void write_properties(struct hg_writer *w, const struct hg_properties *p)
{
    struct hg_writer members = {0};
    hg_http_message_properties(&members, p);
    if (p->headers_n > 0) {
        hg_writer_str(&members, hg_writer_n(&members) > 0 ? ",\"headers\":{" : "\"headers\":{");
        hg_http_message_headers(&members, p);
        hg_writer_str(&members, "}");
    }
    bool is_empty = hg_writer_n(&members) == 0;
    hg_writer_str(w, is_empty ? "[" : "{");
    hg_writer_bytes(w, hg_writer_view(&members));
    hg_writer_str(w, is_empty ? "]" : "}");
    w->failed = w->failed || members.failed;
    hg_writer_close(&members);
}

static void on_got(void *ctx, const struct hg_lease_result *result)
{
    struct hg_http_request *req = ctx;
    struct hg_writer *w = &req->note;
    struct get get = {.is_base64 = true};
    if (!hg_http_pull_end(req, result)) {
        return;
    }
    w->failed = read_get(req, &get) != NULL; /* no memory this time */
    hg_writer_str(w, "[");
    for (size_t i = 0; i < result->n; i++) {
        const struct hg_leased *got = &result->messages[i];
        struct hg_bytes body = hg_message_body(got->message);
        hg_writer_printf(w, "%s{\"payload_bytes\":%zu,\"redelivered\":%s,\"exchange\":",
                         i == 0 ? "" : ",", body.n, got->is_redelivered ? "true" : "false");
        hg_http_message_string(w, hg_message_exchange(got->message));
        hg_writer_str(w, ",\"routing_key\":");
        hg_http_message_string(w, hg_message_routing_key(got->message));
        hg_writer_printf(
            w, ",\"message_count\":%zu,\"properties\":", result->left_n + result->n - 1 - i);
        write_properties(w, hg_message_properties(got->message));
        write_payload(w, body, &get);
    }
    hg_writer_str(w, "]");
    hg_http_answer(req,
                   &(struct hg_http_answer){.status = 200, .type = "application/json", .body = w});
}

bool hg_http_manage_get(struct hg_http_request *req)
{
    const struct hg_config *config = req->session->worker->config;
    struct hg_writer vhost = {0};
    struct hg_writer queue = {0};
    struct hg_http_answer refusal = {.status = 400};
    struct get get;
    const char *why = read_path(req, sizeof(QUEUES) - 1, &vhost, &queue, &refusal.status);
    why = why != NULL ? why : read_get(req, &get);
    if (why == NULL && hg_writer_n(&queue) > UINT8_MAX) {
        why = "the name of a queue has 255 bytes at most";
    }
    if (why != NULL) {
        hg_http_refuse(req, &refusal, hg_bytes_str(why), NULL);
    } else {
        const struct hg_lease_spec spec = {
            .queue = hg_writer_view(&queue),
            .max = get.count < config->lease_max ? (uint32_t)get.count : config->lease_max,
            .end = get.end,
            .wants_left = true,
            .done = on_got,
            .ctx = req,
        };
        (void)hg_http_pull_begin(req, &spec);
    }
    hg_writer_close(&vhost);
    hg_writer_close(&queue);
    return true;
}
