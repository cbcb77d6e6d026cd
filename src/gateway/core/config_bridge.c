/* SPDX-License-Identifier: Apache-2.0 */
/* [[bridge]]: a site's MQTT broker that Headgate connects to as a client. */
#include "core/config_schema.h"
#include "core/config_value.h"
#include "message/topic.h"

#include <unistd.h>

enum { NAME_MAX_BYTES = 64, MS_PER_S = 1000, KEEPALIVE_MAX_MS = 65535 * MS_PER_S };

static void read_address(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_bridge_spec *spec = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    const char *problem =
        hg_config_value_site(&r->arena, node->u.string.p, &spec->host, &spec->port, &spec->is_tls);
    if (problem != NULL) {
        hg_config_read_error(r, &node->at, "address %s", problem);
    }
}

static const char *const versions[] = {"3.1.1", "5", NULL};

/* clang-format off */
#define MEMBER(name) HG_CONFIG_MEMBER(hg_bridge_spec, name)
#define ROUTE(name)  HG_CONFIG_MEMBER(hg_bridge_route, name)

static const struct hg_config_field route_fields[] = {
    {.key = "filter",        .kind = HG_READ_TEXT,   ROUTE(filter), .min = 1, .max = 65535, .is_required = true},
    {.key = "local_prefix",  .kind = HG_READ_TEXT,   ROUTE(local_prefix), .preset = "", .max = 1024},
    {.key = "remote_prefix", .kind = HG_READ_TEXT,   ROUTE(remote_prefix), .preset = "", .max = 1024},
    {.key = "qos",           .kind = HG_READ_NUMBER, ROUTE(qos), .preset = "1", .max = 2},
    {.key = NULL},
};

static const struct hg_config_field tls_fields[] = {
    {.key = "ca",       .kind = HG_READ_TEXT,    MEMBER(ca), .min = 1},
    {.key = "cert",     .kind = HG_READ_TEXT,    MEMBER(cert), .min = 1},
    {.key = "key",      .kind = HG_READ_TEXT,    MEMBER(key), .min = 1},
    {.key = "insecure", .kind = HG_READ_BOOLEAN, MEMBER(is_insecure), .preset = "false"},
    {.key = NULL},
};

static const struct hg_config_field will_fields[] = {
    {.key = "topic",   .kind = HG_READ_TEXT,    MEMBER(will_topic), .min = 1, .max = 65535},
    {.key = "payload", .kind = HG_READ_TEXT,    MEMBER(will_payload), .preset = "", .max = 65535},
    {.key = "qos",     .kind = HG_READ_NUMBER,  MEMBER(will_qos), .preset = "0", .max = 2},
    {.key = "retain",  .kind = HG_READ_BOOLEAN, MEMBER(will_is_retained), .preset = "false"},
    {.key = NULL},
};

#define ROUTES(name) \
    .kind = HG_READ_TABLES, MEMBER(name), .n_offset = offsetof(struct hg_bridge_spec, name##_n), \
    .element_bytes = sizeof(struct hg_bridge_route), .fields = route_fields
const struct hg_config_field hg_config_schema_bridge[] = {
    {.key = "vhost",     .kind = HG_READ_VHOST,    MEMBER(vhost)},
    {.key = "name",      .kind = HG_READ_TEXT,     MEMBER(name), .min = 1, .max = NAME_MAX_BYTES, .is_required = true},
    {.key = "address",   .kind = HG_READ_OTHER,    .read = read_address, .is_required = true},
    {.key = "tls",       .kind = HG_READ_TABLE,    .fields = tls_fields},
    {.key = "username",  .kind = HG_READ_TEXT,     MEMBER(username), .min = 1, .max = 65535},
    {.key = "password",  .kind = HG_READ_TEXT,     MEMBER(password), .max = 65535},
    {.key = "client_id", .kind = HG_READ_TEXT,     MEMBER(client_id), .min = 1, .max = 65535},
    {.key = "clean",     .kind = HG_READ_BOOLEAN,  MEMBER(is_clean), .preset = "false"},
    {.key = "keepalive", .kind = HG_READ_DURATION, MEMBER(keepalive_ms), .preset = "60s", .min = 5 * MS_PER_S, .max = KEEPALIVE_MAX_MS},
    {.key = "version",   .kind = HG_READ_WORD,     MEMBER(is_v5), .words = versions, .preset = "5"},
    {.key = "will",      .kind = HG_READ_TABLE,    .fields = will_fields},
    {.key = "in",        ROUTES(in)},
    {.key = "out",       ROUTES(out)},
    {.key = "window",    .kind = HG_READ_NUMBER,   MEMBER(window), .preset = "100", .min = 1, .max = 65535},
    {.key = NULL},
};
/* clang-format on */

static const struct hg_topic_limits limits = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};

bool hg_config_schema_is_name(const char *text)
{
    return text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

const struct hg_config_node *hg_config_schema_or_table(const struct hg_config_node *table,
                                                       const char *key)
{
    const struct hg_config_node *node = hg_config_tree_find(table, key);
    return node != NULL ? node : table;
}

/* The whole filter on one side, NULL if it cannot be one. */
static const char *join(struct hg_config_reader *r, const struct hg_config_node *element,
                        const struct hg_bridge_route *route, bool is_local)
{
    const char *key = is_local ? "local_prefix" : "remote_prefix";
    const char *prefix = is_local ? route->local_prefix : route->remote_prefix;
    const struct hg_config_at *at = &hg_config_schema_or_table(element, key)->at;
    if (prefix == NULL) { /* noted already */
        return NULL;
    }
    if (hg_topic_has_wildcard(hg_bytes_str(prefix))) {
        hg_config_read_error(r, at, "%s must not hold + or #", key);
        return NULL;
    }
    char *filter = hg_config_arena_printf(&r->arena, "%s%s", prefix, route->filter);
    if (filter == NULL) {
        return NULL;
    }
    const char *problem = hg_topic_check_filter(hg_bytes_str(filter), &limits);
    if (problem != NULL) {
        hg_config_read_error(r, at, "%s and filter make \"%.200s\", which %s", key, filter,
                             problem);
    } else if (strncmp(filter, "$share/", 7) == 0) {
        hg_config_read_error(r, at, "a bridge cannot carry a shared subscription");
    } else if (is_local && filter[0] == '$') {
        hg_config_read_error(r, at,
                             "addresses here that begin with $ are Headgate's own; give them a "
                             "local_prefix");
    }
    return filter;
}

static void check_routes(struct hg_config_reader *r, const struct hg_config_node *element,
                         const char *key, const struct hg_bridge_route *routes, size_t n)
{
    const struct hg_config_node *array = hg_config_tree_find(element, key);
    const struct hg_config_node *node = array == NULL ? NULL : array->u.first;
    struct hg_bridge_route *filled = (struct hg_bridge_route *)(uintptr_t)routes;
    for (size_t i = 0; i < n && node != NULL; i++, node = node->next) {
        if (node->kind != HG_CONFIG_TABLE || filled[i].filter == NULL) {
            return; /* noted already */
        }
        const char *problem = hg_topic_check_filter(hg_bytes_str(filled[i].filter), &limits);
        if (problem != NULL) {
            hg_config_read_error(r, &hg_config_schema_or_table(node, "filter")->at, "filter %s",
                                 problem);
            continue;
        }
        filled[i].local_filter = join(r, node, &filled[i], true);
        filled[i].remote_filter = join(r, node, &filled[i], false);
    }
}

void hg_config_schema_check_file(struct hg_config_reader *r, const struct hg_config_node *table,
                                 const char *key, const char *file)
{
    if (file != NULL && access(file, R_OK) != 0) {
        hg_config_read_error(r, &hg_config_schema_or_table(table, key)->at,
                             "%s: \"%s\" cannot be read", key, file);
    }
}

static void check_tls(struct hg_config_reader *r, const struct hg_config_node *element,
                      const struct hg_bridge_spec *spec)
{
    const struct hg_config_node *tls = hg_config_tree_find(element, "tls");
    if (tls == NULL || tls->kind != HG_CONFIG_TABLE || spec->host == NULL) {
        return;
    }
    if (!spec->is_tls) {
        hg_config_read_error(r, &tls->key_at,
                             "tls belongs to an address that begins with mqtts://");
    }
    if ((spec->cert == NULL) != (spec->key == NULL)) {
        hg_config_read_error(r, &tls->at, "cert and key go together");
    }
    hg_config_schema_check_file(r, tls, "ca", spec->ca);
    hg_config_schema_check_file(r, tls, "cert", spec->cert);
    hg_config_schema_check_file(r, tls, "key", spec->key);
}

static void check_will(struct hg_config_reader *r, const struct hg_config_node *element,
                       const struct hg_bridge_spec *spec)
{
    const struct hg_config_node *will = hg_config_tree_find(element, "will");
    if (will == NULL || will->kind != HG_CONFIG_TABLE) {
        return;
    }
    if (hg_config_tree_find(will, "topic") == NULL) {
        hg_config_read_error(r, &will->at, "topic is missing");
    } else if (spec->will_topic != NULL) {
        const char *problem = hg_topic_check_address(hg_bytes_str(spec->will_topic), &limits);
        if (problem != NULL) {
            hg_config_read_error(r, &hg_config_schema_or_table(will, "topic")->at, "topic %s",
                                 problem);
        }
    }
}

/* An MQTT string of CONNECT: neither control characters nor what is not UTF-8. */
static void check_string(struct hg_config_reader *r, const struct hg_config_node *element,
                         const char *key, const char *text)
{
    if (text != NULL && !hg_utf8_is_clean(hg_bytes_str(text))) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, key)->at,
                             "%s holds control characters", key);
    }
}

void hg_config_schema_check_bridge(struct hg_config_reader *r, const struct hg_config_node *element,
                                   void *into)
{
    struct hg_bridge_spec *spec = into;
    spec->where = hg_config_read_where(r, &element->at);
    if (!HG_HAS_BRIDGE) {
        hg_config_read_error(r, &element->at, "this Headgate was built without bridges");
    }
    if (spec->name != NULL && !hg_config_schema_is_name(spec->name)) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "name")->at,
                             "name holds letters, digits, and . _ - only");
    }
    if (spec->client_id == NULL && spec->name != NULL) {
        spec->client_id = hg_config_arena_printf(&r->arena, "headgate.%s", spec->name);
    }
    if (spec->password != NULL && spec->username == NULL) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "password")->key_at,
                             "a password needs a username");
    }
    if (spec->keepalive_ms % MS_PER_S != 0) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "keepalive")->at,
                             "keepalive is a number of whole seconds");
    }
    if (hg_config_tree_find(element, "in") == NULL && hg_config_tree_find(element, "out") == NULL) {
        hg_config_read_error(r, &element->at, "the bridge carries nothing: give it in or out");
    }
    check_string(r, element, "client_id", spec->client_id);
    check_string(r, element, "username", spec->username);
    check_tls(r, element, spec);
    check_will(r, element, spec);
    check_routes(r, element, "in", spec->in, spec->in_n);
    check_routes(r, element, "out", spec->out, spec->out_n);
}
