/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the configuration: file, overrides, environment, sections, and what holds between them. */
#include "core/config.h"

#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/secret.h"
#include "core/config_schema.h"
#include "core/config_value.h"

#include <uv.h>

#include <errno.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_MAX_BYTES = 64 * 1024 * 1024, NAME_MAX_BYTES = 64, VALUES_DEPTH_MAX = 64 };
#define MAX_MESSAGE_BYTES (UINT64_C(512) * 1024 * 1024) /* RabbitMQ's own largest */
#define MS_PER_HOUR       UINT64_C(3600000)
#define KIB               UINT64_C(1024)
#define MIB               (1024 * KIB)
#define GIB               (1024 * MIB)

struct owned_config {
    struct hg_config config;
    struct hg_config_arena arena;
    _Atomic unsigned refs;
    bool has_borrowed; /* TLS contexts are those of the configuration that the gateway began with */
};

/* ---- [gateway], [rabbitmq], … ------------------------------------------------------------------------------------------- */

static void read_endpoints(struct hg_config_reader *r, const struct hg_config_node *node,
                           void *into)
{
    static const char *const preset[] = {"amqp://guest:guest@127.0.0.1:5672/%2f"};
    struct hg_config *c = into;
    size_t n = 1;
    const char *const *urls = node == NULL ? preset : hg_config_read_texts(r, node, &n);
    struct hg_endpoint *endpoints = hg_config_arena_get(&r->arena, (n + 1) * sizeof *endpoints);
    if (endpoints == NULL || (node != NULL && node->kind != HG_CONFIG_ARRAY)) {
        return;
    }
    if (n == 0) {
        hg_config_read_error(r, &node->at, "endpoints must not be empty");
    }
    const struct hg_config_node *element = node == NULL ? NULL : node->u.first;
    for (size_t i = 0; i < n; i++, element = element == NULL ? NULL : element->next) {
        const struct hg_config_at *at = element == NULL ? NULL : &element->at;
        const char *problem = hg_config_value_endpoint(&r->arena, urls[i], &endpoints[i]);
        if (problem != NULL) {
            hg_config_read_error(r, at, "endpoint %zu: %s", i + 1, problem);
        } else if (strcmp(endpoints[0].vhost, endpoints[i].vhost) != 0) {
            hg_config_read_error(r, at,
                                 "endpoint %zu: all endpoints share one virtual host; more of "
                                 "them are not supported by this version",
                                 i + 1);
        }
    }
    c->endpoints = endpoints;
    c->endpoints_n = n;
}

static void read_password_file(struct hg_config_reader *r, const struct hg_config_node *node,
                               void *into)
{
    struct hg_config *c = into;
    const char *why;
    if (node == NULL || hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    c->rabbitmq_secret = hg_secret_new(node->u.string.p, &why);
    if (c->rabbitmq_secret == NULL) {
        hg_config_read_error(r, &node->at, "password_file \"%s\": %s", node->u.string.p, why);
    }
}

static void read_name(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_config *c = into;
    char host[NAME_MAX_BYTES + 1];
    size_t n = sizeof host;
    if (node == NULL) {
        c->name = uv_os_gethostname(host, &n) == 0
                      ? hg_config_arena_copy(&r->arena, host, strlen(host))
                      : "headgate";
    } else if (hg_config_read_kind(r, node, HG_CONFIG_STRING) != NULL) {
        c->name = node->u.string.p;
        if (node->u.string.n == 0 || node->u.string.n > NAME_MAX_BYTES) {
            hg_config_read_error(r, &node->at, "name has 1 to %d bytes", NAME_MAX_BYTES);
        }
    }
}

static void read_static(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_config *c = into;
    struct stat st;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL || node->u.string.n == 0) {
        return;
    }
    c->http_static_dir = node->u.string.p;
    if (stat(c->http_static_dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        hg_config_read_error(r, &node->at, "static: \"%s\" is not a directory", node->u.string.p);
    }
}

static void read_bind(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_listener_spec *l = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    const char *problem = hg_config_value_bind(&r->arena, node->u.string.p, &l->host, &l->port);
    if (problem != NULL) {
        hg_config_read_error(r, &node->at, "bind %s", problem);
    }
}

static const char *const serves[] = {"web", "mqtt", "stomp", "admin", NULL};

/* Browsers send scheme, host and port, and nothing behind them; a sandboxed page is "null". */
static bool is_origin(const char *text)
{
    const char *host = strstr(text, "://");
    return strcmp(text, "*") == 0 || strcmp(text, "null") == 0 ||
           (host != NULL && host > text && host[3] != '\0' &&
            host[3 + strcspn(host + 3, "/?#@ ")] == '\0');
}

static void check_origins(struct hg_config_reader *r, const struct hg_config_node *element,
                          const char *key, const char *const *origins, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_origin(origins[i])) {
            hg_config_read_error(
                r, &hg_config_tree_find(element, key)->at,
                "%s: \"%s\" is not \"https://HOST\", \"https://HOST:PORT\" or \"*\"", key,
                origins[i]);
        }
    }
}

static void check_websocket_paths(struct hg_config_reader *r, const struct hg_config_node *element,
                                  struct hg_listener_spec *l)
{
    static const char *const preset[] = {"/ws", "/mqtt"};
    const struct hg_config_node *node = hg_config_tree_find(element, "websocket_paths");
    if (node == NULL && l->serve == HG_SERVE_WEB) {
        l->websocket_paths = preset;
        l->websocket_paths_n = sizeof(preset) / sizeof(preset[0]);
    }
    for (size_t i = 0; i < l->websocket_paths_n; i++) {
        const char *path = l->websocket_paths[i];
        if (path[0] != '/' || path[strcspn(path, "?# ")] != '\0') {
            hg_config_read_error(r, &node->at, "websocket_paths: \"%s\" is not a path", path);
        }
    }
}

static void check_listener(struct hg_config_reader *r, const struct hg_config_node *element,
                           void *into)
{
    static const struct {
        const char *key;
        enum hg_serve serve;
    } owners[] = {{"token", HG_SERVE_ADMIN},
                  {"cors_origins", HG_SERVE_WEB},
                  {"origins", HG_SERVE_WEB},
                  {"websocket_paths", HG_SERVE_WEB}};
    struct hg_listener_spec *l = into;
    l->where = hg_config_read_where(r, &element->at);
    hg_config_schema_check_listener_tls(r, element, l);
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        const struct hg_config_node *node = hg_config_tree_find(element, owners[i].key);
        if (node != NULL && l->serve != owners[i].serve) {
            hg_config_read_error(r, &node->key_at, "%s belongs to a listener that serves \"%s\"",
                                 owners[i].key, serves[owners[i].serve]);
        }
    }
    check_origins(r, element, "cors_origins", l->cors_origins, l->cors_origins_n);
    check_origins(r, element, "origins", l->origins, l->origins_n);
    check_websocket_paths(r, element, l);
}

static void read_run_as(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_config *c = into;
    if (node == NULL || hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    const struct passwd *user = getpwnam(node->u.string.p);
    if (user == NULL) {
        hg_config_read_error(r, &node->at, "run_as: there is no \"%s\" here", node->u.string.p);
        return;
    }
    c->run_as = node->u.string.p;
    c->user_id = user->pw_uid;
    c->group_id = user->pw_gid;
}

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const queue_types[] = {"classic", "quorum", NULL};
static const char *const denials[] = {"acknowledge", "close", NULL};

/* clang-format off */
#define CONFIG(member) HG_CONFIG_MEMBER(hg_config, member)

static const struct hg_config_field log_fields[] = {
    {.key = "level",  .kind = HG_READ_WORD, CONFIG(log_level),   .words = log_levels,  .preset = "info", .is_live = true},
    {.key = "format", .kind = HG_READ_WORD, CONFIG(log_is_json), .words = log_formats, .preset = "text"},
    {.key = NULL},
};

static const struct hg_config_field gateway_fields[] = {
    {.key = "name",          .kind = HG_READ_OTHER,    .read = read_name},
    {.key = "workers",       .kind = HG_READ_NUMBER,   CONFIG(workers), .preset = "0", .max = 256},
    {.key = "log",           .kind = HG_READ_TABLE,    .fields = log_fields},
    {.key = "run_as",        .kind = HG_READ_OTHER,    .read = read_run_as},
    {.key = "drain_timeout", .kind = HG_READ_DURATION, CONFIG(drain_timeout_ms), .preset = "20s", .max = MS_PER_HOUR, .is_live = true},
    {.key = NULL},
};

static const struct hg_config_field rabbitmq_fields[] = {
    {.key = "endpoints",           .kind = HG_READ_OTHER,    .read = read_endpoints},
    {.key = "tls",                 .kind = HG_READ_TABLE,    .fields = hg_config_schema_rabbitmq_tls},
    {.key = "password_file",       .kind = HG_READ_OTHER,    .read = read_password_file},
    {.key = "heartbeat",           .kind = HG_READ_DURATION, CONFIG(heartbeat_ms), .preset = "30s", .min = 1000, .max = MS_PER_HOUR},
    {.key = "connect_timeout",     .kind = HG_READ_DURATION, CONFIG(connect_timeout_ms), .preset = "5s", .min = 100, .max = MS_PER_HOUR},
    {.key = "confirm_window",      .kind = HG_READ_NUMBER,   CONFIG(confirm_window), .preset = "8192", .min = 1, .max = 1000000},
    {.key = "buffer",              .kind = HG_READ_SIZE,     CONFIG(buffer_bytes), .preset = "64MiB", .min = 64 * KIB, .max = 64 * GIB},
    {.key = "publish_timeout",     .kind = HG_READ_DURATION, CONFIG(publish_timeout_ms), .preset = "2m", .min = 100, .max = 24 * MS_PER_HOUR},
    {.key = "unavailable_timeout", .kind = HG_READ_DURATION, CONFIG(unavailable_timeout_ms), .preset = "1m", .min = 100, .max = 24 * MS_PER_HOUR},
    {.key = "max_message",         .kind = HG_READ_SIZE,     CONFIG(max_message_bytes), .preset = "16MiB", .min = KIB, .max = MAX_MESSAGE_BYTES},
    {.key = "feed_max",            .kind = HG_READ_SIZE,     CONFIG(feed_max_bytes), .preset = "64MiB", .min = KIB, .max = 64 * GIB},
    {.key = "feed_expires",        .kind = HG_READ_DURATION, CONFIG(feed_expires_ms), .preset = "1m", .min = 1000, .max = 24 * MS_PER_HOUR},
    {.key = "prefetch",            .kind = HG_READ_NUMBER,   CONFIG(prefetch), .preset = "1024", .min = 1, .max = UINT16_MAX},
    {.key = "widen_after",         .kind = HG_READ_NUMBER,   CONFIG(widen_after), .preset = "1000", .min = 1, .max = 1000000},
    {.key = NULL},
};

static const struct hg_config_field limits_fields[] = {
    {.key = "outbound_low",      .kind = HG_READ_SIZE,   CONFIG(outbound_low_bytes), .preset = "256KiB", .max = GIB},
    {.key = "outbound_high",     .kind = HG_READ_SIZE,   CONFIG(outbound_high_bytes), .preset = "4MiB", .min = KIB, .max = GIB},
    {.key = "slow_backlog",      .kind = HG_READ_SIZE,   CONFIG(slow_backlog_bytes), .preset = "1MiB", .min = KIB, .max = GIB},
    {.key = "stalled_timeout",   .kind = HG_READ_DURATION, CONFIG(stalled_timeout_ms), .preset = "2m", .max = 24 * MS_PER_HOUR},
    {.key = "max_subscriptions", .kind = HG_READ_NUMBER, CONFIG(max_subscriptions), .preset = "1000", .min = 1, .max = 1000000},
    {.key = "max_topic",         .kind = HG_READ_SIZE,   CONFIG(max_topic_bytes), .preset = "1KiB", .min = 1, .max = 65535},
    {.key = "max_topic_levels",  .kind = HG_READ_NUMBER, CONFIG(max_topic_levels), .preset = "64", .min = 1, .max = 65535},
    {.key = "tls_handshake_timeout", .kind = HG_READ_DURATION, CONFIG(tls_handshake_timeout_ms), .preset = "10s", .min = 100, .max = MS_PER_HOUR},
    {.key = "max_tls_handshakes",    .kind = HG_READ_NUMBER,   CONFIG(max_tls_handshakes), .preset = "1000", .min = 1, .max = 1000000},
    {.key = "tls_handshake_rate",    .kind = HG_READ_NUMBER,   CONFIG(tls_handshake_rate), .preset = "0", .max = 1000000},
    {.key = "max_connections",             .kind = HG_READ_NUMBER, CONFIG(max_connections), .preset = "0"},
    {.key = "max_connections_per_address", .kind = HG_READ_NUMBER, CONFIG(max_connections_per_address), .preset = "0"},
    {.key = "max_connections_per_user",    .kind = HG_READ_NUMBER, CONFIG(max_connections_per_user), .preset = "0"},
    {.key = "message_rate", .kind = HG_READ_NUMBER,   CONFIG(client_rates.messages_per_s), .preset = "0", .max = 1000000000},
    {.key = "byte_rate",    .kind = HG_READ_SIZE,     CONFIG(client_rates.bytes_per_s), .preset = "0B", .max = 64 * GIB},
    {.key = "rate_burst",   .kind = HG_READ_DURATION, CONFIG(client_rates.burst_ms), .preset = "1s", .min = 100, .max = MS_PER_HOUR},
    {.key = "rate_wait",    .kind = HG_READ_DURATION, CONFIG(rate_wait_ms), .preset = "5s", .max = MS_PER_HOUR},
    {.key = NULL},
};

static const struct hg_config_field mqtt_fields[] = {
    {.key = "max_packet",      .kind = HG_READ_SIZE,     CONFIG(mqtt_max_packet_bytes), .preset = "16MiB", .min = KIB, .max = 256 * MIB},
    {.key = "connect_timeout", .kind = HG_READ_DURATION, CONFIG(mqtt_connect_timeout_ms), .preset = "10s", .min = 100, .max = MS_PER_HOUR},
    {.key = "max_inflight",    .kind = HG_READ_NUMBER,   CONFIG(mqtt_max_inflight), .preset = "64", .min = 1, .max = 65535},
    {.key = "max_queued",      .kind = HG_READ_NUMBER,   CONFIG(mqtt_max_queued), .preset = "1000", .max = 1000000},
    {.key = "receive_max",        .kind = HG_READ_NUMBER,   CONFIG(mqtt_receive_max), .preset = "1024", .min = 1, .max = 65535},
    {.key = "topic_alias_max",    .kind = HG_READ_NUMBER,   CONFIG(mqtt_topic_alias_max), .preset = "16", .max = 65535},
    {.key = "max_keepalive",      .kind = HG_READ_DURATION, CONFIG(mqtt_max_keepalive_ms), .preset = "0s", .max = 65535000},
    {.key = "max_session_expiry", .kind = HG_READ_DURATION, CONFIG(mqtt_max_session_expiry_ms), .preset = "24h", .max = 49 * 24 * MS_PER_HOUR},
    {.key = "session_queue",      .kind = HG_READ_WORD,     CONFIG(mqtt_session_queue_is_quorum), .words = queue_types, .preset = "classic"},
    {.key = "shared_expires",     .kind = HG_READ_DURATION, CONFIG(mqtt_shared_expires_ms), .preset = "1h", .min = 1000, .max = 49 * 24 * MS_PER_HOUR},
    {.key = "sys_interval",       .kind = HG_READ_DURATION, CONFIG(mqtt_sys_interval_ms), .preset = "10s", .max = MS_PER_HOUR},
    {.key = "sys_roles",          .kind = HG_READ_ROLES,    CONFIG(mqtt_sys_roles), .preset = "*", .is_live = true},
    {.key = "denied",             .kind = HG_READ_WORD,     CONFIG(mqtt_denied_is_close), .words = denials, .preset = "acknowledge", .is_live = true},
    {.key = "park_queue",         .kind = HG_READ_TEXT,     CONFIG(mqtt_park_queue), .preset = "headgate.parked", .min = 1, .max = 255},
    {.key = NULL},
};

static const struct hg_config_field state_fields[] = {
    {.key = "log",          .kind = HG_READ_TEXT,     CONFIG(state_log), .preset = "headgate.state", .min = 1, .max = 255},
    {.key = "required",     .kind = HG_READ_BOOLEAN,  CONFIG(state_required), .preset = "false"},
    {.key = "max_bytes",    .kind = HG_READ_SIZE,     CONFIG(state_max_bytes), .preset = "256MiB", .min = MIB, .max = 64 * GIB},
    {.key = "max_retained", .kind = HG_READ_NUMBER,   CONFIG(state_max_retained), .preset = "200000", .min = 1, .max = 100000000},
    {.key = "dead_after",   .kind = HG_READ_DURATION, CONFIG(state_dead_after_ms), .preset = "30s", .min = 100, .max = MS_PER_HOUR},
    {.key = NULL},
};

static const struct hg_config_field stomp_fields[] = {
    {.key = "rabbitmq_destinations", .kind = HG_READ_BOOLEAN,  CONFIG(stomp_rabbitmq_destinations), .preset = "true"},
    {.key = "default_topic_exchange", .kind = HG_READ_TEXT,    CONFIG(stomp_topic_exchange), .preset = "amq.topic", .min = 1, .max = 255},
    {.key = "max_frame",             .kind = HG_READ_SIZE,     CONFIG(stomp_max_frame_bytes), .preset = "16MiB", .min = KIB, .max = MAX_MESSAGE_BYTES},
    {.key = "max_header",            .kind = HG_READ_SIZE,     CONFIG(stomp_max_header_bytes), .preset = "100KiB", .min = 128, .max = MIB},
    {.key = "max_headers",           .kind = HG_READ_NUMBER,   CONFIG(stomp_max_headers), .preset = "100", .min = 8, .max = 10000},
    {.key = "heartbeat",             .kind = HG_READ_DURATION, CONFIG(stomp_heartbeat_ms), .preset = "10s", .max = MS_PER_HOUR},
    {.key = "queue_expires",         .kind = HG_READ_DURATION, CONFIG(stomp_queue_expires_ms), .preset = "1m", .min = 1000, .max = 49 * 24 * MS_PER_HOUR},
    {.key = "idle_timeout",          .kind = HG_READ_DURATION, CONFIG(stomp_idle_timeout_ms), .preset = "1h", .max = 49 * 24 * MS_PER_HOUR},
    {.key = "max_transactions",      .kind = HG_READ_NUMBER,   CONFIG(stomp_max_transactions), .preset = "16", .max = 10000},
    {.key = "max_transaction_frames", .kind = HG_READ_NUMBER,  CONFIG(stomp_max_transaction_frames), .preset = "10000", .min = 1, .max = 1000000},
    {.key = "transaction_buffer",    .kind = HG_READ_SIZE,     CONFIG(stomp_transaction_buffer_bytes), .preset = "32MiB", .min = KIB, .max = GIB},
    {.key = "max_temp_queues",       .kind = HG_READ_NUMBER,   CONFIG(stomp_max_temp_queues), .preset = "64", .max = 10000},
    {.key = "connect_timeout",       .kind = HG_READ_DURATION, CONFIG(stomp_connect_timeout_ms), .preset = "10s", .min = 100, .max = MS_PER_HOUR},
    {.key = NULL},
};

static const struct hg_config_field http_fields[] = {
    {.key = "static",          .kind = HG_READ_OTHER,    .read = read_static},
    {.key = "max_body",        .kind = HG_READ_SIZE,     CONFIG(http_max_body_bytes), .preset = "16MiB", .max = MAX_MESSAGE_BYTES},
    {.key = "stream_from",     .kind = HG_READ_SIZE,     CONFIG(http_stream_from_bytes), .preset = "1MiB", .min = KIB, .max = MAX_MESSAGE_BYTES},
    {.key = "uploads",         .kind = HG_READ_NUMBER,   CONFIG(http_uploads), .preset = "16", .min = 1, .max = 1000},
    {.key = "max_header",      .kind = HG_READ_SIZE,     CONFIG(http_max_header_bytes), .preset = "16KiB", .min = KIB, .max = MIB},
    {.key = "max_headers",     .kind = HG_READ_NUMBER,   CONFIG(http_max_headers), .preset = "100", .min = 8, .max = 10000},
    {.key = "max_url",         .kind = HG_READ_SIZE,     CONFIG(http_max_url_bytes), .preset = "8KiB", .min = 128, .max = MIB},
    {.key = "max_pipelined",   .kind = HG_READ_NUMBER,   CONFIG(http_max_pipelined), .preset = "16", .min = 1, .max = 1000},
    {.key = "idempotency_max",    .kind = HG_READ_NUMBER,   CONFIG(http_idempotency_max), .preset = "100000", .max = 10000000},
    {.key = "idempotency_window", .kind = HG_READ_DURATION, CONFIG(http_idempotency_window_ms), .preset = "10m", .min = 1000, .max = 24 * MS_PER_HOUR},
    {.key = "idempotency_buffer", .kind = HG_READ_SIZE,     CONFIG(http_idempotency_buffer_bytes), .preset = "64MiB", .max = GIB},
    {.key = "idempotency_shared", .kind = HG_READ_BOOLEAN,  CONFIG(http_idempotency_shared), .preset = "false"},
    {.key = "idempotency_claim",  .kind = HG_READ_DURATION, CONFIG(http_idempotency_claim_ms), .preset = "1m", .min = 1000, .max = MS_PER_HOUR},
    {.key = "management_paths", .kind = HG_READ_BOOLEAN,  CONFIG(http_management_paths), .preset = "true"},
    {.key = "max_batch",       .kind = HG_READ_NUMBER,   CONFIG(http_max_batch), .preset = "1000", .min = 1, .max = 100000},
    {.key = "lease_max",       .kind = HG_READ_NUMBER,   CONFIG(lease_max), .preset = "1000", .max = 10000},
    {.key = "lease_wait",      .kind = HG_READ_DURATION, CONFIG(lease_wait_ms), .preset = "1m", .max = MS_PER_HOUR},
    {.key = "lease_time",      .kind = HG_READ_DURATION, CONFIG(lease_time_ms), .preset = "25m", .min = 1000, .max = 25 * 60000},
    {.key = "lease_bytes",     .kind = HG_READ_SIZE,     CONFIG(lease_bytes), .preset = "16MiB", .min = KIB, .max = GIB / 4},
    {.key = "leases_per_queue",  .kind = HG_READ_NUMBER, CONFIG(leases_per_queue), .preset = "50000", .min = 1, .max = 1000000},
    {.key = "leases_per_worker", .kind = HG_READ_NUMBER, CONFIG(leases_per_worker), .preset = "100000", .min = 1, .max = 1000000},
    {.key = "idle_timeout",    .kind = HG_READ_DURATION, CONFIG(http_idle_timeout_ms), .preset = "1m", .min = 100, .max = 24 * MS_PER_HOUR},
    {.key = "request_timeout", .kind = HG_READ_DURATION, CONFIG(http_request_timeout_ms), .preset = "30s", .min = 100, .max = MS_PER_HOUR},
    {.key = "publish_timeout", .kind = HG_READ_DURATION, CONFIG(http_publish_timeout_ms), .preset = "30s", .min = 100, .max = MS_PER_HOUR},
    {.key = "rpc_max",         .kind = HG_READ_NUMBER,   CONFIG(http_rpc_max), .preset = "10000", .min = 1, .max = 1000000},
    {.key = "rpc_timeout",     .kind = HG_READ_DURATION, CONFIG(http_rpc_timeout_ms), .preset = "10s", .min = 1, .max = 24 * MS_PER_HOUR},
    {.key = "rpc_max_timeout", .kind = HG_READ_DURATION, CONFIG(http_rpc_max_timeout_ms), .preset = "5m", .min = 1, .max = 24 * MS_PER_HOUR},
    {.key = "rpc_max_reply",   .kind = HG_READ_SIZE,     CONFIG(http_rpc_max_reply_bytes), .preset = "16MiB", .max = MAX_MESSAGE_BYTES},
    {.key = "sse_heartbeat",   .kind = HG_READ_DURATION, CONFIG(http_sse_heartbeat_ms), .preset = "15s", .min = 100, .max = MS_PER_HOUR},
    {.key = "websocket_ping",  .kind = HG_READ_DURATION, CONFIG(http_websocket_ping_ms), .preset = "30s", .max = MS_PER_HOUR},
    {.key = NULL},
};

static const struct hg_config_field listener_fields[] = {
    {.key = "serve",           .kind = HG_READ_WORD,   HG_CONFIG_MEMBER(hg_listener_spec, serve), .words = serves, .is_required = true},
    {.key = "bind",            .kind = HG_READ_OTHER,  .read = read_bind, .is_required = true},
    {.key = "max_connections", .kind = HG_READ_NUMBER, HG_CONFIG_MEMBER(hg_listener_spec, max_connections), .preset = "100000", .min = 1, .is_live = true},
    {.key = "token",           .kind = HG_READ_TEXT,   HG_CONFIG_MEMBER(hg_listener_spec, token), .min = 16, .is_live = true},
    {.key = "cors_origins",    .kind = HG_READ_TEXTS,  HG_CONFIG_MEMBER(hg_listener_spec, cors_origins), .n_offset = offsetof(struct hg_listener_spec, cors_origins_n), .is_live = true},
    {.key = "origins",         .kind = HG_READ_TEXTS,  HG_CONFIG_MEMBER(hg_listener_spec, origins), .n_offset = offsetof(struct hg_listener_spec, origins_n), .is_live = true},
    {.key = "websocket_paths", .kind = HG_READ_TEXTS,  HG_CONFIG_MEMBER(hg_listener_spec, websocket_paths), .n_offset = offsetof(struct hg_listener_spec, websocket_paths_n), .is_live = true},
    {.key = "tls",             .kind = HG_READ_TABLE,  .fields = hg_config_schema_listener_tls},
    {.key = "proxy_protocol",  .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_listener_spec, has_proxy), .preset = "false"},
    {.key = NULL},
};

#define TABLES(member, element) \
    .kind = HG_READ_TABLES, CONFIG(member), .n_offset = offsetof(struct hg_config, member##_n), .element_bytes = sizeof(struct element)
const struct hg_config_field hg_config_schema[] = {
    {.key = "gateway",  .kind = HG_READ_TABLE, .fields = gateway_fields},
    {.key = "rabbitmq", .kind = HG_READ_TABLE, .fields = rabbitmq_fields},
    {.key = "limits",   .kind = HG_READ_TABLE, .fields = limits_fields, .is_live = true},
    {.key = "mqtt",     .kind = HG_READ_TABLE, .fields = mqtt_fields},
    {.key = "stomp",    .kind = HG_READ_TABLE, .fields = stomp_fields},
    {.key = "http",     .kind = HG_READ_TABLE, .fields = http_fields},
    {.key = "listener", TABLES(listeners, hg_listener_spec), .fields = listener_fields, .check = check_listener, .is_required = true},
    {.key = "exchange", TABLES(exchanges, hg_exchange_decl), .fields = hg_config_schema_exchange, .check = hg_config_schema_check_exchange, .is_live = true},
    {.key = "queue",    TABLES(queues, hg_queue_decl), .fields = hg_config_schema_queue, .check = hg_config_schema_check_queue, .is_live = true},
    {.key = "rule",     TABLES(rules, hg_rule_spec), .fields = hg_config_schema_rule, .check = hg_config_schema_check_rule, .is_live = true},
    {.key = "state",    .kind = HG_READ_TABLE, .fields = state_fields},
    {.key = "vhost",    .kind = HG_READ_LATER},
    {.key = "user",     TABLES(users.users, hg_user_spec), .fields = hg_config_schema_user, .check = hg_config_schema_check_user, .is_live = true},
    {.key = "access",   TABLES(users.access, hg_access_spec), .fields = hg_config_schema_access, .check = hg_config_schema_check_access, .is_live = true},
    {.key = "users",    .kind = HG_READ_TABLE, .fields = hg_config_schema_users, .is_live = true},
    {.key = "webhook",  TABLES(webhooks, hg_webhook_spec), .fields = hg_config_schema_webhook, .check = hg_config_schema_check_webhook},
    {.key = "bridge",   TABLES(bridges, hg_bridge_spec), .fields = hg_config_schema_bridge, .check = hg_config_schema_check_bridge},
    {.key = NULL},
};
/* clang-format on */

/* ---- The file and the overrides ----------------------------------------------------------------------------------------- */

static char *read_file(struct hg_config_reader *r, const char *file, size_t *n_out)
{
    const struct hg_config_at start = {file, 1, 1};
    char *text = NULL;
    struct stat st;
    FILE *f = fopen(file, "rbe");
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        hg_config_read_error(r, &start, "cannot be read: %s", strerror(errno));
    } else if (S_ISDIR(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
        hg_config_read_error(r, &start, "is %s",
                             S_ISDIR(st.st_mode) ? "a directory" : "larger than 64 MiB");
    } else if ((text = hg_config_arena_get(&r->arena, (size_t)st.st_size + 1)) != NULL) {
        *n_out = fread(text, 1, (size_t)st.st_size, f);
    }
    if (f != NULL) {
        fclose(f);
    }
    return text;
}

/* "key=value" as a document of its own; a value that is no TOML is taken as a string. */
static struct hg_config_node *parse_set(struct hg_config_reader *r, const char *set)
{
    struct hg_config_syntax_error error = {0};
    size_t key_n = strcspn(set, "=");
    const char *source = hg_config_arena_printf(&r->arena, "--set %.*s", (int)key_n, set);
    if (source == NULL) {
        return NULL;
    }
    if (set[key_n] == '\0') {
        hg_config_read_error(r, &(struct hg_config_at){source, 1, 1}, "must be key=value");
        return NULL;
    }
    struct hg_config_node *root = hg_config_toml_parse(&r->arena, set, strlen(set), source, &error);
    if (root == NULL && !r->arena.is_exhausted) {
        struct hg_writer quoted = {0};
        hg_writer_printf(&quoted, "%.*s=\"", (int)key_n, set);
        hg_writer_json(&quoted, hg_bytes_str(set + key_n + 1)); /* TOML escapes are JSON's */
        hg_writer_str(&quoted, "\"");
        struct hg_bytes text = hg_writer_view(&quoted);
        root = hg_config_toml_parse(&r->arena, (const char *)text.p, text.n, source, &error);
        hg_writer_close(&quoted);
    }
    if (root == NULL && !r->arena.is_exhausted) {
        hg_config_read_error(r, &error.at, "%s", error.text);
    }
    return root;
}

static struct hg_config_node *parse_all(struct hg_config_reader *r, const char *file,
                                        const char *const *sets, size_t sets_n)
{
    size_t n = 0;
    struct hg_config_syntax_error error = {0};
    char *text = read_file(r, file, &n);
    struct hg_config_node *root =
        text == NULL ? NULL : hg_config_toml_parse(&r->arena, text, n, file, &error);
    hg_forget(text, n); /* what it held is in the values */
    if (root == NULL && text != NULL && !r->arena.is_exhausted) {
        hg_config_read_error(r, &error.at, "%s", error.text);
    }
    for (size_t i = 0; i < sets_n; i++) {
        struct hg_config_node *over = parse_set(r, sets[i]);
        if (over == NULL || root == NULL) {
            continue;
        }
        const struct hg_config_node *misfit = hg_config_tree_merge(root, over);
        if (misfit != NULL) {
            hg_config_read_error(r, &misfit->key_at,
                                 "\"%s\" is not the number of an element (from 0; one past the "
                                 "last appends)",
                                 misfit->key);
        }
    }
    return root;
}

static void expand_all(struct hg_config_reader *r, struct hg_config_node *node, unsigned depth)
{
    if (depth > VALUES_DEPTH_MAX) {
        hg_config_read_error(r, &node->at, "nested too deeply");
        return;
    }
    if (node->kind == HG_CONFIG_TABLE || node->kind == HG_CONFIG_ARRAY) {
        for (struct hg_config_node *n = node->u.first; n != NULL; n = n->next) {
            expand_all(r, n, depth + 1);
        }
    } else if (node->kind == HG_CONFIG_STRING && strstr(node->u.string.p, "${") != NULL) {
        const char *problem = hg_config_value_expand(&r->arena, node->u.string.p, node->u.string.n,
                                                     &node->u.string.p, &node->u.string.n);
        if (problem != NULL) {
            hg_config_read_error(r, &node->at, "%s", problem);
        }
    }
}

/* ---- What holds between sections ---------------------------------------------------------------------------------------- */

/* The value of `key` names each element of the array `section`, and no two alike. */
static void refuse_twice(struct hg_config_reader *r, const struct hg_config_node *root,
                         const char *section, const char *key)
{
    struct hg_map seen;
    const struct hg_config_node *array = hg_config_tree_find(root, section);
    if (array == NULL || array->kind != HG_CONFIG_ARRAY) {
        return;
    }
    hg_map_open(&seen);
    for (struct hg_config_node *e = array->u.first; e != NULL; e = e->next) {
        struct hg_config_node *name =
            e->kind == HG_CONFIG_TABLE ? hg_config_tree_find(e, key) : NULL;
        if (name == NULL || name->kind != HG_CONFIG_STRING) {
            continue;
        }
        struct hg_bytes text = hg_bytes(name->u.string.p, name->u.string.n);
        bool is_any_port = text.n > 2 && memcmp(text.p + text.n - 2, ":0", 2) == 0;
        const struct hg_config_node *first = hg_map_find(&seen, text);
        if (first != NULL && !is_any_port) {
            hg_config_read_error(r, &name->at, "%s \"%s\" is taken already at %s:%u:%u", key,
                                 name->u.string.p, first->at.source, first->at.line,
                                 first->at.column);
        } else if (first == NULL && !hg_map_put(&seen, text, name)) {
            r->arena.is_exhausted = true;
        }
    }
    hg_map_close(&seen);
}

static void check_together(struct hg_config_reader *r, const struct hg_config_node *root,
                           struct hg_config *c)
{
    refuse_twice(r, root, "listener", "bind");
    refuse_twice(r, root, "exchange", "name");
    refuse_twice(r, root, "queue", "name");
    refuse_twice(r, root, "rule", "name");
    refuse_twice(r, root, "bridge", "name");
    refuse_twice(r, root, "user", "name");
    refuse_twice(r, root, "webhook", "name");
    hg_config_schema_check_users(r, root, c);
    hg_config_schema_check_rabbitmq_tls(r, root, c);
    if (c->http_idempotency_shared && r->problems_n == 0 &&
        (strcmp(c->state_log, "off") == 0 || c->http_idempotency_max == 0)) {
        hg_config_read_error(r, &hg_config_tree_find(root, "http")->at,
                             "idempotency_shared needs the state log, and idempotency_max");
    }
    if (c->outbound_low_bytes >= c->outbound_high_bytes && r->problems_n == 0) {
        hg_config_read_error(r, &hg_config_tree_find(root, "limits")->at,
                             "outbound_low must be less than outbound_high");
    }
}

/* Only who logged in has a name to be counted by. */
static void check_user_limit(struct hg_config_reader *r, const struct hg_config_node *root,
                             const struct hg_config *c)
{
    if (c->max_connections_per_user > 0 && !c->has_identities && r->problems_n == 0) {
        const struct hg_config_node *limits = hg_config_tree_find(root, "limits");
        hg_config_read_error(r, &hg_config_tree_find(limits, "max_connections_per_user")->at,
                             "max_connections_per_user: nobody can log in; configure [[user]], "
                             "[users] token, certificate or broker");
    }
}

static void append_builtin_rule(struct hg_config_reader *r, struct hg_config *c)
{
    struct hg_rule_spec *rules =
        hg_config_arena_get(&r->arena, (c->rules_n + 1) * sizeof(struct hg_rule_spec));
    if (rules != NULL) {
        if (c->rules_n > 0) {
            memcpy(rules, c->rules, c->rules_n * sizeof *rules);
        }
        rules[c->rules_n++] = hg_config_schema_builtin_rule;
        c->rules = rules;
    }
}

static void keep_roles(struct hg_config_reader *r, struct hg_config *c)
{
    const char **roles = hg_config_arena_get(&r->arena, sizeof(r->roles));
    if (roles != NULL) {
        memcpy(roles, r->roles, sizeof(r->roles));
        c->roles = roles;
        c->roles_n = r->roles_n;
    }
}

/* What [[queue]] declares under a rule's `replay` must be a stream; others are RabbitMQ's to know. */
static void check_replays(struct hg_config_reader *r, const struct hg_config_node *root,
                          const struct hg_config *c)
{
    const struct hg_config_node *rule = hg_config_tree_find(root, "rule");
    rule = rule == NULL || rule->kind != HG_CONFIG_ARRAY ? NULL : rule->u.first;
    for (; rule != NULL; rule = rule->next) {
        const struct hg_config_node *replay =
            rule->kind == HG_CONFIG_TABLE ? hg_config_tree_find(rule, "replay") : NULL;
        for (size_t i = 0; replay != NULL && replay->kind == HG_CONFIG_STRING && i < c->queues_n;
             i++) {
            if (strcmp(c->queues[i].name, replay->u.string.p) == 0 && !c->queues[i].is_passive &&
                strcmp(c->queues[i].type, "stream") != 0) {
                hg_config_read_error(r, &replay->at, "%s is declared, and it is no stream",
                                     c->queues[i].name);
            }
        }
    }
}

/* The queue that a rule with on_reject = "park" fills; [[queue]] may declare it otherwise. */
static void append_park_queue(struct hg_config_reader *r, struct hg_config *c)
{
    const struct hg_rule_spec *parking = NULL;
    for (size_t i = 0; i < c->rules_n && parking == NULL; i++) {
        parking = c->rules[i].on_reject == HG_REJECT_PARK ? &c->rules[i] : NULL;
    }
    for (size_t i = 0; i < c->queues_n && parking != NULL; i++) {
        if (strcmp(c->queues[i].name, c->mqtt_park_queue) == 0) {
            return;
        }
    }
    if (parking == NULL) {
        return;
    }
    struct hg_header *type = hg_config_arena_get(&r->arena, sizeof *type);
    struct hg_queue_decl *queues =
        hg_config_arena_get(&r->arena, (c->queues_n + 1) * sizeof(struct hg_queue_decl));
    if (type == NULL || queues == NULL) {
        return;
    }
    *type = (struct hg_header){HG_BYTES("x-queue-type"),
                               {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}};
    if (c->queues_n > 0) {
        memcpy(queues, c->queues, c->queues_n * sizeof *queues);
    }
    queues[c->queues_n++] = (struct hg_queue_decl){.where = parking->where,
                                                   .name = c->mqtt_park_queue,
                                                   .type = "classic",
                                                   .is_durable = true,
                                                   .arguments = type,
                                                   .arguments_n = 1};
    c->queues = queues;
}

static void free_contexts(const struct hg_config *c)
{
    for (size_t i = 0; i < c->listeners_n; i++) {
        hg_tls_context_free(c->listeners[i].tls_context);
    }
    hg_tls_context_free(c->rabbitmq_tls);
    hg_secret_free(c->rabbitmq_secret);
}

static void free_keys(struct hg_config *c, bool has_borrowed)
{
    hg_map_close(&c->users.by_name);
    hg_token_keys_free(c->users.token.keys);
    if (!has_borrowed) {
        free_contexts(c);
    }
}

/* Where it came from, to be read again. */
static void keep_source(struct hg_config_reader *r, struct hg_config *c, const char *file,
                        const char *const *sets, size_t sets_n)
{
    const char **copies = hg_config_arena_get(&r->arena, (sets_n + 1) * sizeof(const char *));
    c->file = hg_config_arena_copy(&r->arena, file, strlen(file));
    for (size_t i = 0; copies != NULL && i < sets_n; i++) {
        copies[i] = hg_config_arena_copy(&r->arena, sets[i], strlen(sets[i]));
    }
    c->sets = copies;
    c->sets_n = sets_n;
}

struct hg_config *hg_config_load(const char *file, const char *const *sets, size_t sets_n,
                                 struct hg_writer *errors_out)
{
    struct hg_config_reader r = {.roles = {"*"}, .roles_n = 1};
    struct owned_config *owned = hg_zalloc(sizeof *owned);
    bool is_whole = false;
    struct hg_config_node *root = owned == NULL ? NULL : parse_all(&r, file, sets, sets_n);
    if (root != NULL) {
        struct hg_config *c = &owned->config;
        keep_source(&r, c, file, sets, sets_n);
        expand_all(&r, root, 0);
        hg_config_read_table(&r, root, &root->at, hg_config_schema, c);
        check_together(&r, root, c);
        check_replays(&r, root, c);
        c->document = root;
        check_user_limit(&r, root, c);
        c->workers = c->workers == 0 ? uv_available_parallelism() : c->workers;
        append_builtin_rule(&r, c);
        keep_roles(&r, c);
        if (r.problems_n == 0 && !r.arena.is_exhausted) {
            append_park_queue(&r, c);
            is_whole = hg_config_schema_make_vhosts(&r, c, errors_out);
        }
    }
    if (is_whole) {
        owned->arena = r.arena;
        atomic_store(&owned->refs, 1);
        return &owned->config;
    }
    if (owned == NULL || r.arena.is_exhausted) {
        hg_writer_str(errors_out, "out of memory\n");
    } else {
        hg_config_read_report(&r, errors_out);
    }
    if (owned != NULL) {
        hg_config_schema_free_vhosts(&owned->config);
        free_keys(&owned->config, false);
    }
    hg_config_arena_close(&r.arena);
    hg_free(owned);
    return NULL;
}

static struct owned_config *owned_of(const struct hg_config *c)
{
    return (struct owned_config *)(uintptr_t)HG_CONTAINER_OF(c, const struct owned_config, config);
}

struct hg_config *hg_config_reload(const struct hg_config *first, hg_config_kept_fn *kept,
                                   void *ctx, struct hg_writer *errors_out)
{
    struct hg_config *c = hg_config_load(first->file, first->sets, first->sets_n, errors_out);
    if (c == NULL) {
        return NULL;
    }
    struct owned_config *owned = owned_of(c);
    const struct hg_config read = *c;
    owned->has_borrowed = hg_config_schema_settle(&owned->arena, c, first, kept, ctx, errors_out);
    if (owned->has_borrowed) {
        free_contexts(&read);
        return c;
    }
    *c = read;
    hg_config_free(c);
    return NULL;
}

const struct hg_config *hg_config_ref(const struct hg_config *c)
{
    atomic_fetch_add(&owned_of(c)->refs, 1);
    return c;
}

void hg_config_free(const struct hg_config *c)
{
    if (c == NULL || atomic_fetch_sub(&owned_of(c)->refs, 1) > 1) {
        return;
    }
    struct owned_config *owned = owned_of(c);
    hg_config_schema_free_vhosts(&owned->config);
    free_keys(&owned->config, owned->has_borrowed);
    hg_config_arena_close(&owned->arena);
    hg_free(owned);
}
