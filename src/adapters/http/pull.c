/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/queues/{queue}/lease: takes messages out of a queue for a while; as JSON, or one as it
 * is. */
#include "adapters/http/pull.h"

#include "adapters/http/http_encode.h"
#include "adapters/http/http_fields.h"
#include "adapters/http/http_message.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "core/access.h"
#include "core/config.h"
#include "core/config_value.h"

#define QUEUES "/v1/queues/"

enum { LEASE_MS = 30000, NAME_MAX_BYTES = 255 };

struct options { /* of the query */
    uint64_t max, wait_ms, lease_ms;
    bool is_auto;
};

bool hg_http_pull_path_is(const struct hg_http_request *req, const char *action)
{
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, sizeof(QUEUES) - 1);
    bool has_name = hg_http_take_level(&path).n > 0;
    return req->session->worker->config->lease_max > 0 && has_name &&
           hg_bytes_eq(path, hg_bytes_str(action));
}

const char *hg_http_pull_queue(const struct hg_http_request *req, struct hg_writer *out)
{
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, sizeof(QUEUES) - 1);
    const char *why = hg_http_decode_level(hg_http_take_level(&path), out);
    return why == NULL && hg_writer_n(out) > NAME_MAX_BYTES
               ? "the name of a queue has 255 bytes at most"
               : why;
}

bool hg_http_pull_duration(struct hg_bytes text, uint64_t least, uint64_t most, uint64_t *ms_out)
{
    char copy[24] = "";
    if (text.n >= sizeof(copy) || text.n == 0) {
        return false;
    }
    memcpy(copy, text.p, text.n);
    return hg_config_value_duration(copy, ms_out) && *ms_out >= least && *ms_out <= most;
}

uint64_t hg_http_pull_usual_ms(const struct hg_config *config)
{
    return config->lease_time_ms < LEASE_MS ? config->lease_time_ms : LEASE_MS;
}

/* NULL or what is wrong. */
static const char *read_option(const struct hg_config *config, struct hg_bytes name,
                               struct hg_bytes value, struct options *out)
{
    if (hg_bytes_eq(name, HG_BYTES("max"))) {
        return hg_bytes_to_u64(value, config->lease_max, &out->max) && out->max > 0
                   ? NULL
                   : "max must be a number from 1 to [http] lease_max";
    }
    if (hg_bytes_eq(name, HG_BYTES("wait"))) {
        return hg_http_pull_duration(value, 0, config->lease_wait_ms, &out->wait_ms)
                   ? NULL
                   : "wait must be a duration such as 20s, up to [http] lease_wait";
    }
    if (hg_bytes_eq(name, HG_BYTES("lease"))) {
        return hg_http_pull_duration(value, 1, config->lease_time_ms, &out->lease_ms)
                   ? NULL
                   : "lease must be a duration such as 30s, up to [http] lease_time";
    }
    if (hg_bytes_eq(name, HG_BYTES("ack"))) {
        out->is_auto = hg_bytes_eq(value, HG_BYTES("auto"));
        return out->is_auto || hg_bytes_eq(value, HG_BYTES("manual"))
                   ? NULL
                   : "ack must be auto or manual";
    }
    return "the query parameters here are max, wait, lease and ack";
}

static const char *read_options(const struct hg_http_request *req, struct options *out)
{
    const struct hg_config *config = req->session->worker->config;
    struct hg_bytes query = req->in.head.query;
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    *out = (struct options){.max = 1, .lease_ms = hg_http_pull_usual_ms(config)};
    while (why == NULL && hg_http_next_parameter(&query, &name, &value, &why)) {
        if (why == NULL) {
            why = read_option(config, hg_writer_view(&name), hg_writer_view(&value), out);
        }
    }
    hg_writer_close(&name);
    hg_writer_close(&value);
    return why;
}

/* ---- The poll of a request ---- */

static void on_gone(struct hg_http_request *req)
{
    hg_lease_cancel(req->data);
}

bool hg_http_pull_begin(struct hg_http_request *req, const struct hg_lease_spec *spec)
{
    struct hg_lease_poll *poll = NULL;
    const char *why = NULL;
    enum hg_status status = hg_access_queue(req->session, HG_ACCESS_SUBSCRIBE, spec->queue, &why);
    if (status == HG_OK) {
        status = hg_lease_take(hg_realm_of(req->session), spec, &poll, &why);
    }
    if (status != HG_OK) {
        hg_http_publish_refuse(req, status, hg_bytes_str(why));
        return false;
    }
    req->data = poll;
    req->on_gone = on_gone;
    return true;
}

bool hg_http_pull_end(struct hg_http_request *req, const struct hg_lease_result *result)
{
    struct hg_proto_metrics *metrics = &req->session->worker->metrics.proto[HG_PROTO_HTTP];
    req->data = NULL;
    req->on_gone = NULL;
    if (result->status != HG_OK) {
        hg_http_publish_refuse(req, result->status, result->reason);
        return false;
    }
    for (size_t i = 0; i < result->n; i++) {
        hg_count(&metrics->messages_out, 1);
        hg_count(&metrics->bytes_out, hg_message_body(result->messages[i].message).n);
    }
    return true;
}

/* ---- Answers ---- */

static void write_message(struct hg_writer *w, const struct hg_leased *leased)
{
    const struct hg_message *m = leased->message;
    hg_writer_str(w, "{");
    if (leased->id[0] != '\0') {
        hg_writer_printf(w, "\"lease\":\"%s\",", leased->id);
    }
    hg_writer_printf(w,
                     "\"redelivered\":%s,\"exchange\":", leased->is_redelivered ? "true" : "false");
    hg_http_message_string(w, hg_message_exchange(m));
    hg_writer_str(w, ",\"key\":");
    hg_http_message_string(w, hg_message_routing_key(m));
    hg_writer_str(w, ",\"properties\":{");
    hg_http_message_properties(w, hg_message_properties(m));
    hg_writer_str(w, "},\"headers\":{");
    hg_http_message_headers(w, hg_message_properties(m));
    hg_writer_str(w, "},");
    hg_http_message_body(w, hg_message_body(m));
    hg_writer_str(w, "}");
}

static const struct hg_http_answer_field no_store = {
    "Cache-Control", {(const uint8_t *)"no-store", sizeof("no-store") - 1}};

static void answer_json(void *ctx, const struct hg_lease_result *result)
{
    struct hg_http_request *req = ctx;
    if (!hg_http_pull_end(req, result)) {
        return;
    }
    hg_writer_str(&req->note, "{\"messages\":[");
    for (size_t i = 0; i < result->n; i++) {
        hg_writer_str(&req->note, i == 0 ? "" : ",");
        write_message(&req->note, &result->messages[i]);
    }
    hg_writer_str(&req->note, "]}\n");
    hg_http_answer(req, &(struct hg_http_answer){.status = 200,
                                                 .type = "application/json",
                                                 .body = &req->note,
                                                 .fields = &no_store,
                                                 .fields_n = 1});
}

static void answer_raw(void *ctx, const struct hg_lease_result *result)
{
    struct hg_http_request *req = ctx;
    struct hg_http_answer answer = {.status = 204, .fields = &no_store, .fields_n = 1};
    struct hg_writer lines = {0};
    if (!hg_http_pull_end(req, result)) {
        return;
    }
    if (result->n > 0) {
        const struct hg_leased *leased = &result->messages[0];
        const struct hg_message *m = leased->message;
        if (leased->id[0] != '\0') {
            hg_http_write_field(&lines, "Lease", hg_bytes_str(leased->id));
        }
        hg_http_write_field(&lines, "Amqp-Redelivered",
                            leased->is_redelivered ? HG_BYTES("true") : HG_BYTES("false"));
        hg_http_write_field(&lines, "Amqp-Exchange", hg_message_exchange(m));
        hg_http_write_field(&lines, "Amqp-Key", hg_message_routing_key(m));
        hg_http_fields_lines(m, HG_BYTES(""), &lines);
        hg_writer_bytes(&req->note, hg_message_body(m));
        req->note.failed = req->note.failed || lines.failed;
        answer.status = 200;
        answer.body = &req->note;
        answer.lines = hg_writer_view(&lines);
    }
    hg_http_answer(req, &answer);
    hg_writer_close(&lines);
}

/* A message as it is, for who asks for one and says that anything will do: curl does. */
static bool is_raw(const struct hg_http_head *head, const struct options *options)
{
    const struct hg_http_field *field;
    bool has_accept = false;
    size_t at = 0;
    while ((field = hg_http_next_field(head, HG_BYTES("Accept"), &at)) != NULL) {
        struct hg_bytes list = field->value;
        struct hg_bytes element;
        while (hg_http_next_element(&list, &element)) {
            struct hg_bytes range = HG_BYTES("application/");
            has_accept = true;
            if (element.n >= range.n && hg_bytes_eq_nocase(hg_bytes(element.p, range.n), range)) {
                struct hg_bytes sub = hg_bytes_skip(element, range.n);
                sub.n = hg_bytes_index(sub, ';');
                while (sub.n > 0 && sub.p[sub.n - 1] == ' ') {
                    sub.n--;
                }
                if (hg_bytes_eq_nocase(sub, HG_BYTES("json")) || hg_bytes_eq(sub, HG_BYTES("*"))) {
                    return false;
                }
            }
        }
    }
    return has_accept && options->max == 1;
}

bool hg_http_pull_takes(const struct hg_http_request *req)
{
    return hg_http_pull_path_is(req, "lease");
}

bool hg_http_pull(struct hg_http_request *req)
{
    struct hg_writer queue = {0};
    struct options options;
    const char *why = hg_http_pull_queue(req, &queue);
    why = why != NULL ? why : read_options(req, &options);
    if (why != NULL) {
        hg_http_refuse(req, &(struct hg_http_answer){.status = 400}, hg_bytes_str(why), NULL);
    } else {
        const struct hg_lease_spec spec = {
            .queue = hg_writer_view(&queue),
            .max = (uint32_t)options.max,
            .wait_ms = options.wait_ms,
            .lease_ms = options.lease_ms,
            .end = options.is_auto ? HG_LEASE_ACK : HG_LEASE_KEEP,
            .done = is_raw(&req->in.head, &options) ? answer_raw : answer_json,
            .ctx = req,
        };
        (void)hg_http_pull_begin(req, &spec);
    }
    hg_writer_close(&queue);
    return true;
}
