/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/rpc/{address}: a request that is answered with its receiver's reply. */
#include "adapters/http/http_encode.h"
#include "adapters/http/http_fields.h"
#include "adapters/http/http_props.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "adapters/http/web.h"
#include "core/call.h"
#include "core/config.h"
#include "core/config_value.h"
#include "core/identity.h"
#include "core/worker.h"

#include <stdio.h>

#define RPC            "/v1/rpc/"
#define CORRELATION_ID HG_BYTES("Correlation-Id")

const struct hg_http_doc hg_http_doc_rpc = {
    "{address}",
    "\"summary\":\"Publish a request and wait for its reply\",\"parameters\":[{\"name\":"
    "\"timeout\",\"in\":\"query\",\"description\":\"How long to wait for the reply\",\"schema\":{"
    "\"type\":\"string\",\"pattern\":\"^[0-9]+(ms|s|m|h)$\",\"example\":\"10s\"}}],"
    "\"requestBody\":{\"description\":\"The request's body.\",\"content\":{\"*/*\":{}}},"
    "\"responses\":{\"200\":{\"description\":\"The reply: its body, and its properties as "
    "headers.\",\"content\":{\"*/*\":{}}},\"default\":{\"$ref\":\"#/components/responses/Problem\"}"
    "}"};

/* ---- The reply ---- */

static void answer(struct hg_http_request *req, const struct hg_message *reply)
{
    struct hg_bytes correlation_id = hg_http_field(&req->in.head, CORRELATION_ID);
    struct hg_writer fields = {0};
    hg_http_fields_lines(reply, CORRELATION_ID, &fields); /* which is the gateway's own */
    if (correlation_id.n > 0) {                           /* the client's */
        hg_http_write_field(&fields, "Correlation-Id", correlation_id);
    }
    hg_writer_bytes(&req->note, hg_message_body(reply));
    req->note.failed = req->note.failed || fields.failed;
    hg_http_answer(req, &(struct hg_http_answer){
                            .status = 200, .lines = hg_writer_view(&fields), .body = &req->note});
    hg_writer_close(&fields);
}

static void on_done(void *ctx, enum hg_status outcome, struct hg_bytes reason,
                    struct hg_message *reply)
{
    struct hg_http_request *req = ctx;
    req->data = NULL;
    if (outcome != HG_OK) {
        hg_http_publish_refuse(req, outcome, reason);
    } else if (hg_message_body(reply).n > req->session->worker->config->http_rpc_max_reply_bytes) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 502},
                       HG_BYTES("the reply is larger than [http] rpc_max_reply"), "TOO_LARGE");
    } else {
        answer(req, reply);
    }
}

static void on_gone(struct hg_http_request *req)
{
    hg_call_forget(req->data);
    req->data = NULL;
}

/* ---- The request ---- */

/* NULL or what is wrong. */
static const char *read_timeout(struct hg_bytes text, uint64_t max_ms, uint64_t *ms_out)
{
    char z[32];
    if (text.n >= sizeof(z)) {
        return "timeout is a number and a unit: 500ms, 10s, 1m";
    }
    snprintf(z, sizeof(z), "%.*s", HG_BYTES_FMT(text));
    if (strlen(z) != text.n || !hg_config_value_duration(z, ms_out) || *ms_out == 0) {
        return "timeout is a number and a unit: 500ms, 10s, 1m";
    }
    return *ms_out <= max_ms ? NULL : "timeout is longer than [http] rpc_max_timeout";
}

static const char *read_query(struct hg_bytes query, uint64_t max_ms, uint64_t *ms_out)
{
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    while (why == NULL && hg_http_next_parameter(&query, &name, &value, &why)) {
        if (why == NULL && !hg_bytes_eq(hg_writer_view(&name), HG_BYTES("timeout"))) {
            why = "the query parameter here is timeout";
        } else if (why == NULL) {
            why = read_timeout(hg_writer_view(&value), max_ms, ms_out);
        }
    }
    hg_writer_close(&name);
    hg_writer_close(&value);
    return why;
}

/* What publishing takes, and a call does not. */
static const char *check(const struct hg_http_props *props)
{
    if (props->properties.reply_to.n > 0) {
        return "Reply-To: the reply is the answer to this request";
    }
    return props->is_retained ? "Amqp-Header-retain: a call is not retained" : NULL;
}

/* A request that waits for longer than its caller is of no use to anybody: it expires with the call,
 * and need not outlive the broker, unless it says otherwise. */
static void make_transient(const struct hg_http_request *req, struct hg_properties *p,
                           uint64_t timeout_ms, char expiration[24])
{
    if (p->expiration.n == 0) {
        snprintf(expiration, 24, "%llu", (unsigned long long)timeout_ms);
        p->expiration = hg_bytes_str(expiration);
    }
    if (hg_http_field(&req->in.head, HG_BYTES("Amqp-Persistent")).n == 0) {
        p->delivery_mode = 1;
    }
}

/* False: held. */
static bool call(struct hg_http_request *req, struct hg_bytes address, struct hg_properties *p,
                 uint64_t timeout_ms)
{
    char expiration[24];
    const char *why = NULL;
    struct hg_call *begun = NULL;
    make_transient(req, p, timeout_ms, expiration);
    const struct hg_publish_args args = {
        .address = address,
        .properties = *p,
        .body = hg_http_body(&req->in),
        .body_buf = req->in.body.buf,
        .timeout_ms = timeout_ms,
        .user = hg_identity_user(req->session->identity),
    };
    enum hg_status status = hg_call_begin(req->session, &args, on_done, req, &begun, &why);
    if (status == HG_HELD) {
        return false;
    }
    if (status == HG_OK) {
        req->data = begun;
        req->on_gone = on_gone;
    } else {
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
    }
    return true;
}

bool hg_http_rpc(struct hg_http_request *req)
{
    const struct hg_config *config = req->session->worker->config;
    const struct hg_http_head *head = &req->in.head;
    const struct hg_http_answer bad_request = {.status = 400};
    struct hg_writer address = {0};
    struct hg_writer bad_header = {0};
    struct hg_http_props props = {0};
    uint64_t timeout_ms = config->http_rpc_timeout_ms;
    bool is_done = true;
    const char *why = hg_http_decode_path(hg_bytes_skip(head->path, sizeof(RPC) - 1), &address);
    if (why != NULL) {
        hg_http_publish_refuse(req, HG_BAD_ADDRESS, hg_bytes_str(why));
    } else if ((why = read_query(head->query, config->http_rpc_max_timeout_ms, &timeout_ms)) !=
               NULL) {
        hg_http_refuse(req, &bad_request, hg_bytes_str(why), NULL);
    } else if (!hg_http_props_open(&props, head, &req->session->worker->random, &bad_header)) {
        hg_http_refuse(req, &bad_request, hg_writer_view(&bad_header), "BAD_PROPERTY");
    } else if ((why = check(&props)) != NULL) {
        hg_http_refuse(req, &bad_request, hg_bytes_str(why), "BAD_PROPERTY");
    } else {
        is_done = call(req, hg_writer_view(&address), &props.properties, timeout_ms);
    }
    hg_http_props_close(&props);
    hg_writer_close(&bad_header);
    hg_writer_close(&address);
    return is_done;
}
