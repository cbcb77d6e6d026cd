/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/openapi.json: what the routes are, built from their table; each brings its own words. */
#include "adapters/http/web.h"

#define PROBLEM "\"default\":{\"$ref\":\"#/components/responses/Problem\"}}"
/* A parameter of the path, with the value that the test of the examples takes. */
#define EXAMPLE_OF(name, value)                                             \
    "{\"name\":\"" name "\",\"in\":\"path\",\"required\":true,\"schema\":{" \
    "\"type\":\"string\"},\"example\":\"" value "\"}"
#define FLAGS                                           \
    "{\"$ref\":\"#/components/parameters/mandatory\"}," \
    "{\"$ref\":\"#/components/parameters/retain\"},"    \
    "{\"$ref\":\"#/components/parameters/key\"}],"
#define MESSAGE_IN                                                                    \
    "\"requestBody\":{\"description\":\"The message's body.\",\"content\":{\"*/*\":{" \
    "\"example\":\"21.5\"}}},"
#define PUBLISHED                                                                          \
    "\"responses\":{\"202\":{\"description\":\"RabbitMQ has confirmed it.\",\"content\":{" \
    "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Published\"}}}}," PROBLEM

const struct hg_http_doc hg_http_doc_topic = {
    "{address}", "\"summary\":\"Publish a message\",\"parameters\":[" EXAMPLE_OF(
                     "address", "Sensor/Temperature/Room1") "," FLAGS MESSAGE_IN PUBLISHED};

const struct hg_http_doc hg_http_doc_subscribe = {
    "{address}",
    "\"summary\":\"What is published to addresses that the filter matches\",\"parameters\":[" EXAMPLE_OF(
        "address",
        "Sensor/*/Room1") ","
                          "{\"name\":\"filter\",\"in\":\"query\",\"description\":\"Further filters\",\"schema\":{\"type\":"
                          "\"array\",\"items\":{\"type\":\"string\"}}},"
                          "{\"name\":\"envelope\",\"in\":\"query\",\"description\":\"All of the message, as JSON\","
                          "\"schema\":{\"type\":\"boolean\"}},"
                          "{\"name\":\"retained\",\"in\":\"query\",\"description\":\"What is retained comes first\","
                          "\"schema\":{\"type\":\"boolean\"}},"
                          "{\"name\":\"from\",\"in\":\"query\",\"description\":\"Where the rule's stream is read from: "
                          "first, next, an offset or a time\",\"schema\":{\"type\":\"string\"}},"
                          "{\"name\":\"x-match\",\"in\":\"query\",\"description\":\"Of a headers exchange, what has these headers: every other "
                          "parameter is one, its value text, int:5 or bool:true\",\"schema\":{\"enum\":[\"all\",\"any\",\"all-with-x\",\"any-with-x\"]}},"
                          "{\"name\":\"Last-Event-ID\",\"in\":\"header\",\"description\":\"Read on behind this offset of "
                          "the rule's stream\",\"schema\":{\"type\":\"string\"}}],\"responses\":{\"200\":{"
                          "\"description\":\"Server-sent events.\",\"content\":{\"text/event-stream\":{}}}," PROBLEM};

const struct hg_http_doc hg_http_doc_rule = {
    "{path}",
    "\"summary\":\"Publish a message, on a path that a rule of the configuration "
    "takes\",\"parameters\":[" EXAMPLE_OF("path", "orders/17") "," FLAGS MESSAGE_IN PUBLISHED};

const struct hg_http_doc hg_http_doc_batch = {
    "",
    "\"summary\":\"Publish many messages, a JSON object a line\",\"parameters\":[" FLAGS
    "\"requestBody\":{\"required\":true,\"content\":{\"application/x-ndjson\":{\"schema\":{"
    "\"$ref\":\"#/components/schemas/Line\"},\"example\":\"{\\\"address\\\":\\\"orders/17\\\","
    "\\\"body\\\":\\\"a\\\"}\\n{\\\"address\\\":\\\"orders/18\\\",\\\"base64\\\":\\\"AP8=\\\","
    "\\\"properties\\\":{\\\"priority\\\":3}}\\n\"}}},"
    "\"responses\":{\"202\":{\"description\":\"Every line was published.\",\"content\":{"
    "\"application/x-ndjson\":{\"schema\":{\"$ref\":\"#/components/schemas/LineAnswer\"}}}},"
    "\"207\":{\"description\":\"Some lines were not: each has its status.\",\"content\":{"
    "\"application/x-ndjson\":{\"schema\":{\"$ref\":\"#/components/schemas/LineAnswer\"}}}}," PROBLEM};

const struct hg_http_doc hg_http_doc_manage = {
    "{vhost}/{exchange}/publish",
    "\"summary\":\"Publish as RabbitMQ's management API does\","
    "\"parameters\":[" EXAMPLE_OF("vhost", "/") "," EXAMPLE_OF(
        "exchange",
        "amq.topic") ",{\"$ref\":\"#/components/parameters/key\"}],"
                     "\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"example\":{"
                     "\"properties\":{\"delivery_mode\":2},\"routing_key\":\"orders.17\",\"payload\":\"a\","
                     "\"payload_encoding\":\"string\"},\"schema\":{"
                     "\"type\":\"object\","
                     "\"required\":[\"properties\",\"routing_key\",\"payload\",\"payload_encoding\"],\"properties\":{"
                     "\"properties\":{\"$ref\":\"#/components/schemas/Properties\"},"
                     "\"routing_key\":{\"type\":\"string\"},\"payload\":{\"type\":\"string\"},"
                     "\"payload_encoding\":{\"enum\":[\"string\",\"base64\"]}}}}}},"
                     "\"responses\":{\"200\":{\"description\":\"Whether a queue took it.\",\"content\":{"
                     "\"application/json\":{\"schema\":{\"type\":\"object\",\"properties\":{\"routed\":{\"type\":"
                     "\"boolean\"}}}}}}," PROBLEM};

const struct hg_http_doc hg_http_doc_upgrade = {
    "", "\"summary\":\"STOMP or MQTT over a WebSocket\",\"responses\":{\"101\":{\"description\":"
        "\"The sub-protocol that was agreed on follows.\"}," PROBLEM};

const struct hg_http_doc hg_http_doc_static = {
    "{path}",
    "\"summary\":\"A file of the configured folder, or a WebSocket on a configured "
    "path\",\"responses\":{\"200\":{\"description\":\"The file.\",\"content\":{\"*/*\":{}}}," PROBLEM};

const struct hg_http_doc hg_http_doc_openapi = {
    "", "\"summary\":\"This document\",\"responses\":{\"200\":{\"description\":\"OpenAPI 3.1.\","
        "\"content\":{\"application/json\":{}}}," PROBLEM};

#define LEASES_ANSWERED                                                                       \
    "\"responses\":{\"200\":{\"description\":\"All of them are done.\",\"content\":{"         \
    "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/LeasesAnswered\"}}}}," \
    "\"207\":{\"description\":\"Some are gone, or nobody knows in time.\",\"content\":{"      \
    "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/LeasesAnswered\"}}}}," PROBLEM
#define LEASES_IN                                                                                   \
    "\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":{"            \
    "\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"leases\"],\"properties\":{" \
    "\"leases\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}}"
#define LEASE_TIME                                                                        \
    "{\"name\":\"lease\",\"in\":\"query\",\"description\":\"For how long, 25m at most\"," \
    "\"schema\":{\"type\":\"string\",\"default\":\"30s\",\"examples\":[\"30s\"]}}"

const struct hg_http_doc hg_http_doc_pull = {
    "{queue}/lease",
    "\"summary\":\"Take messages out of a queue for a while\",\"parameters\":["
    "{\"name\":\"max\",\"in\":\"query\",\"description\":\"Messages at most\","
    "\"schema\":{\"type\":\"integer\",\"minimum\":1,\"default\":1}},"
    "{\"name\":\"wait\",\"in\":\"query\",\"description\":\"How long to wait for the first\","
    "\"schema\":{\"type\":\"string\",\"default\":\"0s\",\"examples\":[\"20s\"]}}," LEASE_TIME ","
    "{\"name\":\"ack\",\"in\":\"query\",\"description\":\"auto: acknowledged with the answer\","
    "\"schema\":{\"enum\":[\"auto\",\"manual\"],\"default\":\"manual\"}}],"
    "\"responses\":{\"200\":{\"description\":\"The messages; for max=1 and an Accept without JSON the "
    "message as it is, with its properties and Lease as fields.\",\"content\":{"
    "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Leased\"}},\"*/*\":{}}},"
    "\"204\":{\"description\":\"There was none, where it would have come as it is.\"}," PROBLEM};

const struct hg_http_doc hg_http_doc_pull_ack = {
    "{queue}/ack",
    "\"summary\":\"Leased messages are dealt with\"," LEASES_IN "}}}}}," LEASES_ANSWERED};

const struct hg_http_doc hg_http_doc_pull_nack = {
    "{queue}/nack", "\"summary\":\"Leased messages go back into the queue, or are "
                    "dead-lettered\"," LEASES_IN
                    ",\"requeue\":{\"type\":\"boolean\",\"default\":true}}}}}}," LEASES_ANSWERED};

const struct hg_http_doc hg_http_doc_pull_extend = {
    "{queue}/extend", "\"summary\":\"Leases run anew\",\"parameters\":[" LEASE_TIME "]," LEASES_IN
                      "}}}}}," LEASES_ANSWERED};

const struct hg_http_doc hg_http_doc_manage_get = {
    "{vhost}/{queue}/get",
    "\"summary\":\"Get messages as RabbitMQ's management API does\","
    "\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":{"
    "\"type\":\"object\",\"required\":[\"count\",\"ackmode\",\"encoding\"],\"properties\":{"
    "\"count\":{\"type\":\"integer\",\"minimum\":1},"
    "\"ackmode\":{\"enum\":[\"ack_requeue_true\",\"ack_requeue_false\",\"reject_requeue_true\","
    "\"reject_requeue_false\"]},\"encoding\":{\"enum\":[\"auto\",\"base64\"]},"
    "\"truncate\":{\"type\":\"integer\",\"minimum\":0}}}}}},"
    "\"responses\":{\"200\":{\"description\":\"The messages.\",\"content\":{\"application/json\":{"
    "\"schema\":{\"type\":\"array\"}}}}," PROBLEM};

static const struct hg_http_doc no_doc = {"{path}", "\"responses\":{" PROBLEM};

#define TEXT  "{\"type\":\"string\"}"
#define FLAG  "{\"type\":\"boolean\"}"
#define COUNT "{\"type\":\"integer\",\"minimum\":0}"
static const char components[] =
    "\"components\":{\"parameters\":{"
    "\"mandatory\":{\"name\":\"mandatory\",\"in\":\"query\",\"description\":\"404 if no queue takes "
    "it\",\"schema\":" FLAG "},"
    "\"retain\":{\"name\":\"retain\",\"in\":\"query\",\"description\":\"Keep it for later "
    "subscribers\",\"schema\":" FLAG "},"
    "\"key\":{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"description\":\"A repeat is answered "
    "as the first was, with Idempotency-Replayed: true; 409 while that is under way, 422 for "
    "another request\",\"schema\":{\"type\":\"string\",\"maxLength\":255}}},"
    "\"responses\":{\"Problem\":{\"description\":\"RFC 9457\",\"content\":{"
    "\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}},"
    "\"schemas\":{"
    "\"Problem\":{\"type\":\"object\",\"properties\":{\"type\":" TEXT ",\"title\":" TEXT
    ",\"status\":{\"type\":\"integer\"},\"detail\":" TEXT ",\"code\":" TEXT "}},"
    "\"Published\":{\"type\":\"object\",\"properties\":{\"id\":" TEXT ",\"exchange\":" TEXT
    ",\"key\":" TEXT "}},"
    "\"LineAnswer\":{\"type\":\"object\",\"required\":[\"status\"],\"properties\":{"
    "\"status\":{\"type\":\"integer\"},\"id\":" TEXT ",\"exchange\":" TEXT ",\"key\":" TEXT
    ",\"title\":" TEXT ",\"detail\":" TEXT ",\"code\":" TEXT "}},"
    "\"Leased\":{\"type\":\"object\",\"properties\":{\"messages\":{\"type\":\"array\",\"items\":{"
    "\"type\":\"object\",\"required\":[\"redelivered\",\"properties\",\"headers\"],\"properties\":{"
    "\"lease\":" TEXT ",\"redelivered\":" FLAG ",\"exchange\":" TEXT ",\"key\":" TEXT
    ",\"properties\":{\"$ref\":\"#/components/schemas/Properties\"},\"headers\":{\"type\":\"object\"},"
    "\"body\":" TEXT ",\"base64\":{\"type\":\"string\",\"contentEncoding\":\"base64\"}}}}}},"
    "\"LeasesAnswered\":{\"type\":\"object\",\"properties\":{\"leases\":{\"type\":\"array\",\"items\":{"
    "\"type\":\"object\",\"properties\":{\"lease\":" TEXT
    ",\"status\":{\"enum\":[\"done\",\"gone\",\"unknown\"]}}}}}},"
    "\"Line\":{\"type\":\"object\",\"required\":[\"address\"],\"additionalProperties\":false,"
    "\"properties\":{\"address\":" TEXT ",\"body\":" TEXT
    ",\"base64\":{\"type\":\"string\",\"contentEncoding\":\"base64\"},"
    "\"properties\":{\"$ref\":\"#/components/schemas/Properties\"},\"headers\":{\"type\":\"object\"},"
    "\"mandatory\":" FLAG ",\"retain\":" FLAG "}},"
    "\"Properties\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"content_type\":" TEXT ",\"content_encoding\":" TEXT ",\"correlation_id\":" TEXT
    ",\"reply_to\":" TEXT ",\"message_id\":" TEXT ",\"type\":" TEXT ",\"app_id\":" TEXT
    ",\"user_id\":" TEXT ",\"delivery_mode\":{\"enum\":[1,2]},"
    "\"priority\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":255},\"timestamp\":" COUNT
    ",\"expiration\":{\"type\":[\"string\",\"integer\"]},\"headers\":{\"type\":\"object\"}}}}}";

/* ---- Paths ---- */

/* The path behind a prefix. */
static const char *rest_of(const struct hg_http_route *r)
{
    if (!r->is_prefix) {
        return "";
    }
    return r->doc == NULL ? no_doc.rest : r->doc->rest;
}

static bool is_path_of(const struct hg_http_route *a, const struct hg_http_route *b)
{
    return hg_bytes_eq(hg_bytes_str(a->path), hg_bytes_str(b->path)) &&
           hg_bytes_eq(hg_bytes_str(rest_of(a)), hg_bytes_str(rest_of(b)));
}

/* {"name":…} for each {name} of the rest: one level of the path, or more where it is an address. */
static void write_parameters(struct hg_writer *w, const char *rest)
{
    struct hg_bytes b = hg_bytes_str(rest);
    const char *comma = "";
    hg_writer_str(w, "\"parameters\":[");
    for (size_t open; (open = hg_bytes_index(b, '{')) < b.n; comma = ",") {
        b = hg_bytes_skip(b, open + 1);
        struct hg_bytes name = hg_bytes(b.p, hg_bytes_index(b, '}'));
        hg_writer_printf(
            w, "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,\"schema\":" TEXT "}", comma,
            HG_BYTES_FMT(name));
    }
    hg_writer_str(w, "]");
}

/* What all routes with this path do, each method by the first that takes it. */
static void write_path(struct hg_writer *w, const struct hg_http_site *site,
                       const struct hg_http_route *first)
{
    static const char *const names[HG_HTTP_METHOD_N] = {
        [HG_HTTP_GET] = "get",       [HG_HTTP_POST] = "post",   [HG_HTTP_PUT] = "put",
        [HG_HTTP_DELETE] = "delete", [HG_HTTP_PATCH] = "patch",
    };
    const char *rest = rest_of(first);
    hg_writer_printf(w, "\"%s%s\":{", first->path, rest);
    write_parameters(w, rest);
    unsigned seen = 0;
    for (const struct hg_http_route *r = first; r < site->routes + site->routes_n; r++) {
        for (unsigned m = 0; is_path_of(r, first) && m < HG_HTTP_METHOD_N; m++) {
            if (names[m] != NULL && (r->methods & ~seen & (1u << m)) != 0) {
                seen |= 1u << m;
                hg_writer_printf(w, ",\"%s\":{", names[m]);
                hg_writer_str(w, r->doc == NULL ? no_doc.operation : r->doc->operation);
                hg_writer_str(w, "}");
            }
        }
    }
    hg_writer_str(w, "}");
}

static void write_paths(struct hg_writer *w, const struct hg_http_site *site)
{
    for (size_t i = 0; i < site->routes_n; i++) {
        bool is_new = true;
        for (size_t k = 0; k < i; k++) {
            is_new = is_new && !is_path_of(&site->routes[k], &site->routes[i]);
        }
        if (is_new) {
            hg_writer_str(w, i == 0 ? "" : ",");
            write_path(w, site, &site->routes[i]);
        }
    }
}

bool hg_http_openapi(struct hg_http_request *req)
{
    hg_writer_str(
        &req->note,
        "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Headgate\",\"version\":\"" HG_VERSION
        "\",\"description\":\"An {address} and a {path} may have several levels, with "
        "slashes between them.\"},\"servers\":[{\"url\":\"/\"}],\"paths\":{");
    write_paths(&req->note, &hg_http_site);
    hg_writer_str(&req->note, "},");
    hg_writer_str(&req->note, components);
    hg_writer_str(&req->note, "}\n");
    hg_http_answer(req, &(struct hg_http_answer){
                            .status = 200, .type = "application/json", .body = &req->note});
    return true;
}
