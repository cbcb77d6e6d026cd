/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/queues/{queue}/ack, nack and extend: what becomes of messages that were leased. */
#include "adapters/http/http_json.h"
#include "adapters/http/http_message.h"
#include "adapters/http/http_uri.h"
#include "adapters/http/publish.h"
#include "adapters/http/pull.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/config.h"

struct answering { /* what a request says; kept as req->data until it is answered */
    struct hg_lease_call *call;
    json_t *json;
    const json_t *leases;
    struct hg_writer queue;
    struct hg_lease_order order;
};

static void free_answering(struct answering *a)
{
    json_decref(a->json);
    hg_writer_close(&a->queue);
    hg_free(a);
}

static void on_gone(struct hg_http_request *req)
{
    struct answering *a = req->data;
    if (a->call != NULL) {
        hg_lease_forget(a->call);
    }
    free_answering(a);
}

static void on_answered(void *ctx, const uint8_t *answers, size_t n)
{
    static const char *const words[] = {
        [HG_LEASE_DONE] = "done", [HG_LEASE_GONE] = "gone", [HG_LEASE_UNKNOWN] = "unknown"};
    struct hg_http_request *req = ctx;
    struct answering *a = req->data;
    bool is_all = true;
    hg_writer_str(&req->note, "{\"leases\":[");
    for (size_t i = 0; i < n; i++) {
        is_all = is_all && answers[i] == HG_LEASE_DONE;
        hg_writer_str(&req->note, i == 0 ? "{\"lease\":" : ",{\"lease\":");
        hg_http_message_string(&req->note, hg_http_json_text(json_array_get(a->leases, i)));
        hg_writer_printf(&req->note, ",\"status\":\"%s\"}", words[answers[i]]);
    }
    hg_writer_str(&req->note, "]}\n");
    req->data = NULL;
    req->on_gone = NULL;
    free_answering(a);
    hg_http_answer(req, &(struct hg_http_answer){.status = is_all ? 200 : 207,
                                                 .type = "application/json",
                                                 .body = &req->note});
}

/* Each NULL or what is wrong. */

static const char *read_body(const struct hg_http_request *req, struct answering *a)
{
    const char *why = NULL;
    const char *name;
    json_t *value;
    size_t i;
    bool is_nack = a->order.act != HG_LEASE_DO_ACK && a->order.act != HG_LEASE_DO_EXTEND;
    if ((a->json = hg_http_json_read(hg_http_body(&req->in), &why)) == NULL) {
        return why;
    }
    json_object_foreach(a->json, name, value)
    {
        if (strcmp(name, "leases") == 0) {
            a->leases = value;
        } else if (strcmp(name, "requeue") != 0 || !is_nack) {
            return is_nack ? "the members here are leases and requeue"
                           : "the member here is leases";
        } else if (!json_is_boolean(value)) {
            return "requeue must be true or false";
        } else {
            a->order.act = json_is_true(value) ? HG_LEASE_DO_REQUEUE : HG_LEASE_DO_REJECT;
        }
    }
    a->order.ids_n = json_array_size(a->leases);
    if (a->order.ids_n == 0 || a->order.ids_n > req->session->worker->config->lease_max) {
        return "leases must be an array of 1 to [http] lease_max strings";
    }
    json_array_foreach(a->leases, i, value)
    {
        if (!json_is_string(value)) {
            return "leases must be an array of strings";
        }
    }
    return NULL;
}

/* ?lease=1m, where they are extended. */
static const char *read_query(const struct hg_http_request *req, struct answering *a)
{
    const struct hg_config *config = req->session->worker->config;
    struct hg_bytes query = req->in.head.query;
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    bool is_extend = a->order.act == HG_LEASE_DO_EXTEND;
    a->order.lease_ms = hg_http_pull_usual_ms(config);
    while (why == NULL && hg_http_next_parameter(&query, &name, &value, &why)) {
        if (why != NULL) {
            break;
        }
        if (!is_extend || !hg_bytes_eq(hg_writer_view(&name), HG_BYTES("lease"))) {
            why = is_extend ? "the query parameter here is lease"
                            : "there are no query parameters here";
        } else if (!hg_http_pull_duration(hg_writer_view(&value), 1, config->lease_time_ms,
                                          &a->order.lease_ms)) {
            why = "lease must be a duration such as 30s, up to [http] lease_time";
        }
    }
    hg_writer_close(&name);
    hg_writer_close(&value);
    return why;
}

static const char *begin(struct hg_http_request *req, struct answering *a)
{
    const char *why = hg_http_pull_queue(req, &a->queue);
    why = why != NULL ? why : read_query(req, a);
    return why != NULL ? why : read_body(req, a);
}

static void refuse(struct hg_http_request *req, unsigned status, const char *why)
{
    hg_http_refuse(
        req,
        &(struct hg_http_answer){.status = status,
                                 .retry_after_s = status == 503 ? HG_HTTP_RETRY_AFTER_S : 0},
        hg_bytes_str(why), NULL);
}

static bool ask(struct hg_http_request *req, struct answering *a)
{
    struct hg_bytes *ids = hg_alloc((a->order.ids_n + 1) * sizeof(*ids));
    struct hg_lease_call *call = NULL;
    if (ids == NULL) {
        return false;
    }
    for (size_t i = 0; i < a->order.ids_n; i++) {
        ids[i] = hg_http_json_text(json_array_get(a->leases, i));
    }
    a->order.queue = hg_writer_view(&a->queue);
    a->order.ids = ids;
    req->data = a;
    req->on_gone = on_gone;
    bool is_asked = hg_lease_answer(hg_realm_of(req->session), &a->order, on_answered, req, &call);
    if (call != NULL) { /* else it has been answered, and `a` is gone */
        a->call = call;
    }
    hg_free(ids);
    return is_asked;
}

static bool answer(struct hg_http_request *req, enum hg_lease_act act)
{
    struct answering *a = hg_zalloc(sizeof(*a));
    if (a == NULL) {
        refuse(req, 503, "out of memory");
        return true;
    }
    a->order.act = act;
    const char *why = begin(req, a);
    const char *denied = NULL;
    enum hg_status status = why != NULL ? HG_OK
                                        : hg_access_queue(req->session, HG_ACCESS_SUBSCRIBE,
                                                          hg_writer_view(&a->queue), &denied);
    if (why == NULL && status == HG_OK && ask(req, a)) {
        return true;
    }
    req->data = NULL;
    req->on_gone = NULL;
    free_answering(a);
    if (status != HG_OK) {
        hg_http_publish_refuse(req, status, hg_bytes_str(denied));
        return true;
    }
    refuse(req, why != NULL ? 400 : 503, why != NULL ? why : "the gateway is shutting down");
    return true;
}

bool hg_http_pull_ack_takes(const struct hg_http_request *req)
{
    return hg_http_pull_path_is(req, "ack");
}

bool hg_http_pull_nack_takes(const struct hg_http_request *req)
{
    return hg_http_pull_path_is(req, "nack");
}

bool hg_http_pull_extend_takes(const struct hg_http_request *req)
{
    return hg_http_pull_path_is(req, "extend");
}

bool hg_http_pull_ack(struct hg_http_request *req)
{
    return answer(req, HG_LEASE_DO_ACK);
}

bool hg_http_pull_nack(struct hg_http_request *req)
{
    return answer(req, HG_LEASE_DO_REQUEUE);
}

bool hg_http_pull_extend(struct hg_http_request *req)
{
    return answer(req, HG_LEASE_DO_EXTEND);
}
