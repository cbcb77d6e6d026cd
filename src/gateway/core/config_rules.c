/* SPDX-License-Identifier: Apache-2.0 */
/* [[rule]]: one entry of the rule table as written. What patterns and keys may be is for
 * hg_rules_new to say. */
#include "core/config_schema.h"

#define RATE_MAX_BYTES (UINT64_C(64) << 30)

const struct hg_rule_spec hg_config_schema_builtin_rule = {
    .where = "built-in",
    .name = "built-in",
    .pattern = {"{path...}", "{path...}", "{path...}"},
    .exchange = "amq.topic",
    .key = "{path...}",
    .persistent = HG_UNSET,
    .is_builtin = true,
    .escape = HG_ESCAPE_PLAIN,
};

/* The address for all three protocols; mqtt, stomp and http come later in the table of fields and
 * override it. */
static void read_topic(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_rule_spec *spec = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    for (int p = 0; p < HG_PROTO_N; p++) {
        spec->pattern[p] = node->u.string.p;
    }
}

static void read_persistent(struct hg_config_reader *r, const struct hg_config_node *node,
                            void *into)
{
    struct hg_rule_spec *spec = into;
    spec->persistent = HG_UNSET;
    if (hg_config_read_kind(r, node, HG_CONFIG_BOOL) != NULL) {
        spec->persistent = node->u.b ? HG_YES : HG_NO;
    }
}

static void read_headers(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_rule_spec *spec = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_TABLE) == NULL || node->u.first == NULL) {
        return;
    }
    size_t n = hg_config_tree_n(node);
    const char **names = hg_config_arena_get(&r->arena, n * sizeof(const char *));
    const char **values = hg_config_arena_get(&r->arena, n * sizeof(const char *));
    if (names == NULL || values == NULL) {
        return;
    }
    for (const struct hg_config_node *h = node->u.first; h != NULL; h = h->next) {
        if (hg_config_read_kind(r, h, HG_CONFIG_STRING) == NULL) {
            continue;
        }
        if (h->key[0] == '\0' || strlen(h->key) > 255) {
            hg_config_read_error(r, &h->key_at, "a header's name has 1 to 255 bytes");
        } else if (hg_header_is_reserved(hg_bytes_str(h->key)) &&
                   strcmp(h->key, "x-headgate-address") != 0) {
            hg_config_read_error(r, &h->key_at,
                                 "the header %s is RabbitMQ's or Headgate's own, a rule cannot set "
                                 "it",
                                 h->key);
        }
        names[spec->headers_n] = h->key;
        values[spec->headers_n++] = h->u.string.p;
    }
    spec->header_names = names;
    spec->header_values = values;
}

static const char *const escapes[] = {"lossless", "plain", NULL};
static const char *const overlongs[] = {"refuse", "hash", NULL};
static const char *const on_rejects[] = {"close", "withhold", "park", NULL};
static const char *const scopes[] = {"auto", "exact", "wide", NULL};
static const char *const slows[] = {"drop-new", "drop-oldest", "latest", "disconnect", NULL};
_Static_assert(sizeof(slows) / sizeof(slows[0]) == HG_SLOW_N + 1, "a word for each");

/* clang-format off */
static const struct hg_config_field allow_fields[] = {
    {.key = "publish",   .kind = HG_READ_ROLES, HG_CONFIG_MEMBER(hg_rule_spec, publish_roles)},
    {.key = "subscribe", .kind = HG_READ_ROLES, HG_CONFIG_MEMBER(hg_rule_spec, subscribe_roles)},
    {.key = NULL},
};

static const struct hg_config_field rate_fields[] = {
    {.key = "messages", .kind = HG_READ_NUMBER,   HG_CONFIG_MEMBER(hg_rule_spec, rates.messages_per_s), .preset = "0", .max = 1000000000},
    {.key = "bytes",    .kind = HG_READ_SIZE,     HG_CONFIG_MEMBER(hg_rule_spec, rates.bytes_per_s), .preset = "0B", .max = RATE_MAX_BYTES},
    {.key = "burst",    .kind = HG_READ_DURATION, HG_CONFIG_MEMBER(hg_rule_spec, rates.burst_ms), .preset = "1s", .min = 100, .max = 3600000},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_rule[] = {
    {.key = "name",          .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, name), .min = 1, .max = 255, .is_required = true},
    {.key = "topic",         .kind = HG_READ_OTHER,   .read = read_topic},
    {.key = "mqtt",          .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, pattern[HG_PROTO_MQTT]), .min = 1},
    {.key = "stomp",         .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, pattern[HG_PROTO_STOMP]), .min = 1},
    {.key = "http",          .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, pattern[HG_PROTO_HTTP]), .min = 1},
    {.key = "exchange",      .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, exchange), .min = 1, .max = 255},
    {.key = "queue",         .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, queue), .min = 1, .max = 255},
    {.key = "key",           .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, key)},
    {.key = "replay",        .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_rule_spec, replay), .min = 1, .max = 255},
    {.key = "headers",       .kind = HG_READ_OTHER,   .read = read_headers},
    {.key = "persistent",    .kind = HG_READ_OTHER,   .read = read_persistent},
    {.key = "mandatory",     .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_rule_spec, is_mandatory), .preset = "false"},
    {.key = "binding_scope", .kind = HG_READ_WORD,    HG_CONFIG_MEMBER(hg_rule_spec, scope), .words = scopes, .preset = "auto"},
    {.key = "escape",        .kind = HG_READ_WORD,    HG_CONFIG_MEMBER(hg_rule_spec, escape), .words = escapes, .preset = "lossless"},
    {.key = "overlong",      .kind = HG_READ_WORD,    HG_CONFIG_MEMBER(hg_rule_spec, overlong), .words = overlongs, .preset = "refuse"},
    {.key = "on_reject",     .kind = HG_READ_WORD,    HG_CONFIG_MEMBER(hg_rule_spec, on_reject), .words = on_rejects, .preset = "close"},
    {.key = "slow",          .kind = HG_READ_WORD,    HG_CONFIG_MEMBER(hg_rule_spec, slow), .words = slows, .preset = "drop-new"},
    {.key = "via",           .kind = HG_READ_TEXTS,   HG_CONFIG_MEMBER(hg_rule_spec, via), .n_offset = offsetof(struct hg_rule_spec, via_n)},
    {.key = "allow",         .kind = HG_READ_TABLE,   .fields = allow_fields},
    {.key = "rate",          .kind = HG_READ_TABLE,   .fields = rate_fields},
    {.key = NULL},
};
/* clang-format on */

void hg_config_schema_check_rule(struct hg_config_reader *r, const struct hg_config_node *element,
                                 void *into)
{
    struct hg_rule_spec *spec = into;
    spec->where = hg_config_read_where(r, &element->at);
    if (hg_rates_are_set(&spec->rates)) {
        spec->meter = hg_config_arena_get(&r->arena, sizeof(*spec->meter));
    }
    const struct hg_config_node *exchange = hg_config_tree_find(element, "exchange");
    const struct hg_config_node *queue = hg_config_tree_find(element, "queue");
    const struct hg_config_node *key = hg_config_tree_find(element, "key");
    if (hg_config_tree_find(element, "topic") == NULL &&
        hg_config_tree_find(element, "mqtt") == NULL &&
        hg_config_tree_find(element, "stomp") == NULL &&
        hg_config_tree_find(element, "http") == NULL) {
        hg_config_read_error(r, &element->at,
                             "the rule needs an address: topic, or mqtt, stomp, http");
    }
    if (exchange == NULL && queue == NULL) {
        hg_config_read_error(r, &element->at, "the rule needs an exchange or a queue");
    }
    if (exchange != NULL && queue != NULL) {
        hg_config_read_error(r, &queue->key_at, "a rule has an exchange or a queue, not both");
    }
    const struct hg_config_node *replay = hg_config_tree_find(element, "replay");
    if (queue != NULL && replay != NULL) {
        hg_config_read_error(r, &replay->key_at,
                             "a rule with a queue has no replay: its messages are in that queue");
    }
    const struct hg_config_node *slow = hg_config_tree_find(element, "slow");
    if (queue != NULL && slow != NULL) {
        hg_config_read_error(r, &slow->key_at,
                             "a rule with a queue has no slow: its messages wait in that queue");
    }
    if (queue != NULL && key != NULL) {
        hg_config_read_error(r, &key->key_at,
                             "a rule with a queue has no key: the queue's name is the key");
    }
}
