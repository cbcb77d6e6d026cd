/* SPDX-License-Identifier: Apache-2.0 */
/* The management API's publish (POST /api/exchanges/{vhost}/{exchange}/publish) with its JSON, so
 * that scripts move by changing a port. As there, members besides the four are passed over. */
#include "adapters/http/http_json.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "base/base64.h"
#include "core/config.h"
#include "core/identity.h"
#include "core/worker.h"

#define EXCHANGES        "/api/exchanges/"
#define DEFAULT_EXCHANGE "amq.default" /* as a path has it, where the name is empty */

struct order { /* what a request says, borrowed from `json` and from here */
    struct hg_writer vhost, exchange, decoded;
    json_t *json;
    struct hg_http_json_props props;
    struct hg_bytes key, body;
};

static struct hg_bytes take_level(struct hg_bytes *path)
{
    struct hg_bytes level = hg_bytes(path->p, hg_bytes_index(*path, '/'));
    *path = hg_bytes_skip(*path, level.n < path->n ? level.n + 1 : level.n);
    return level;
}

bool hg_http_manage_publish_takes(const struct hg_http_request *req)
{
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, sizeof(EXCHANGES) - 1);
    size_t vhost_n = take_level(&path).n;
    size_t exchange_n = take_level(&path).n;
    return req->session->worker->config->http_management_paths && vhost_n > 0 && exchange_n > 0 &&
           hg_bytes_eq(path, HG_BYTES("publish"));
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
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, sizeof(EXCHANGES) - 1);
    const char *rule = hg_http_decode_level(take_level(&path), &o->vhost);
    rule = rule != NULL ? rule : hg_http_decode_level(take_level(&path), &o->exchange);
    *status_out = 400;
    if (rule == NULL &&
        !hg_bytes_eq(hg_writer_view(&o->vhost),
                     hg_bytes_str(req->session->worker->config->endpoints[0].vhost))) {
        *status_out = 404;
        rule = "it is not this gateway's virtual host";
    }
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
    } else if (hg_http_repeat_begin(req)) {
        req->on_gone = hg_http_repeat_forget;
        is_done = publish(req, &o);
    }
    close_order(&o);
    hg_writer_close(&why);
    return is_done;
}
