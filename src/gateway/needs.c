/* SPDX-License-Identifier: Apache-2.0 */
#include "needs.h"

#include "base/mem.h"
#include "rules/access.h"

static const char default_exchange[] = "amq.default"; /* as RabbitMQ's permissions call it */
static const char topic_exchange[] = "amq.topic";
static const char own_prefix[] = "headgate.";

static void add(struct hg_needs *needs, enum hg_need_verb verb, bool is_queue,
                enum hg_need_match match, const char *name)
{
    for (size_t i = 0; i < needs->n; i++) {
        const struct hg_need *n = &needs->at[i];
        if (n->verb == verb && n->is_queue == is_queue && n->match == match &&
            strcmp(n->name, name) == 0) {
            return;
        }
    }
    if (needs->n == needs->cap) {
        size_t cap = needs->cap == 0 ? 32 : needs->cap * 2;
        struct hg_need *at = hg_realloc(needs->at, cap * sizeof(*at));
        if (at == NULL) {
            needs->failed = true;
            return;
        }
        needs->at = at;
        needs->cap = cap;
    }
    needs->at[needs->n++] = (struct hg_need){verb, is_queue, match, name};
}

static void add_exchange(struct hg_needs *needs, enum hg_need_verb verb, const char *name)
{
    add(needs, verb, false, HG_NEED_NAME, name[0] == '\0' ? default_exchange : name);
}

static void add_queue(struct hg_needs *needs, enum hg_need_verb verb, const char *name)
{
    if (strncmp(name, own_prefix, sizeof(own_prefix) - 1) != 0) { /* those are ours anyway */
        add(needs, verb, true, HG_NEED_NAME, name);
    }
}

static void add_queues(struct hg_needs *needs, const char *prefix)
{
    for (enum hg_need_verb v = 0; v < HG_NEED_N; v++) {
        add(needs, v, true, HG_NEED_PREFIX, prefix);
    }
}

/* ---- What is declared ---- */

static const char *text_argument(const struct hg_header *arguments, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (hg_bytes_eq(arguments[i].name, hg_bytes_str(name)) &&
            arguments[i].value.kind == HG_VALUE_STRING) {
            return (const char *)arguments[i]
                .value.u.bytes.p; /* the configuration's: ends in NUL */
        }
    }
    return NULL;
}

static void add_exchange_decl(struct hg_needs *needs, const struct hg_exchange_decl *x)
{
    const char *name = x->spec.name;
    const char *alternate = text_argument(x->arguments, x->arguments_n, "alternate-exchange");
    if (!x->is_passive) {
        add_exchange(needs, HG_NEED_CONFIGURE, name);
    }
    if (!x->is_passive && alternate != NULL) {
        add_exchange(needs, HG_NEED_READ, name);
        add_exchange(needs, HG_NEED_WRITE, alternate);
    }
    for (size_t i = 0; i < x->bindings_n; i++) {
        add_exchange(needs, HG_NEED_WRITE, name);
        add_exchange(needs, HG_NEED_READ, x->bindings[i].exchange);
    }
}

static void add_queue_decl(struct hg_needs *needs, const struct hg_queue_decl *q)
{
    const char *dead = text_argument(q->arguments, q->arguments_n, "x-dead-letter-exchange");
    if (!q->is_passive) {
        add_queue(needs, HG_NEED_CONFIGURE, q->name);
    }
    if (!q->is_passive && dead != NULL) {
        add_queue(needs, HG_NEED_READ, q->name);
        add_exchange(needs, HG_NEED_WRITE, dead);
    }
    for (size_t i = 0; i < q->bindings_n; i++) {
        add_queue(needs, HG_NEED_WRITE, q->name);
        add_exchange(needs, HG_NEED_READ, q->bindings[i].exchange);
    }
}

/* ---- What clients are let do ---- */

static void add_rule(struct hg_needs *needs, const struct hg_config *c,
                     const struct hg_rule_spec *rule)
{
    bool may_publish = !c->has_identities || rule->publish_roles != 0;
    bool may_subscribe = !c->has_identities || rule->subscribe_roles != 0;
    if (may_publish && rule->queue == NULL) {
        add_exchange(needs, HG_NEED_WRITE, rule->exchange);
    }
    if (may_subscribe && rule->queue != NULL) {
        add_queue(needs, HG_NEED_READ, rule->queue);
    } else if (may_subscribe || (may_publish && rule->queue == NULL)) {
        add_exchange(needs, HG_NEED_READ, rule->exchange); /* also what is retained there */
    }
    for (size_t i = 0; may_subscribe && i < rule->via_n; i++) {
        add_exchange(needs, HG_NEED_READ, rule->via[i]);
    }
    if (may_subscribe && rule->replay != NULL) {
        add_queue(needs, HG_NEED_READ, rule->replay);
    }
}

static void add_access(struct hg_needs *needs, const struct hg_access_spec *a)
{
    const char *name = a->exchange != NULL ? a->exchange : a->queue;
    enum hg_need_match match = strchr(name, '*') != NULL ? HG_NEED_GLOB : HG_NEED_NAME;
    if (a->exchange != NULL) {
        if (a->roles[HG_ACCESS_PUBLISH] != 0) {
            add(needs, HG_NEED_WRITE, false, match, name[0] == '\0' ? default_exchange : name);
        }
        if (a->roles[HG_ACCESS_SUBSCRIBE] != 0) {
            add(needs, HG_NEED_READ, false, match, name);
        }
        return;
    }
    if (a->roles[HG_ACCESS_SUBSCRIBE] != 0) {
        add(needs, HG_NEED_READ, true, match, name);
    }
    if (a->roles[HG_ACCESS_CONFIGURE] != 0) {
        add(needs, HG_NEED_CONFIGURE, true, match, name);
        add(needs, HG_NEED_WRITE, true, match, name); /* x-queue-name is bound */
    }
}

/* RabbitMQ's own names, where nobody can log in: whatever is written down, at least. */
static void add_anything(struct hg_needs *needs, const struct hg_config *c)
{
    for (size_t i = 0; needs->names_exchanges && i < c->exchanges_n; i++) {
        if (!c->exchanges[i].is_internal) {
            add_exchange(needs, HG_NEED_WRITE, c->exchanges[i].spec.name);
        }
        add_exchange(needs, HG_NEED_READ, c->exchanges[i].spec.name);
    }
    for (size_t i = 0; needs->names_queues && i < c->queues_n; i++) {
        add_queue(needs, HG_NEED_READ, c->queues[i].name);
    }
}

static bool serves(const struct hg_config *c, enum hg_serve serve)
{
    for (size_t i = 0; i < c->listeners_n; i++) {
        if (c->listeners[i].serve == serve || c->listeners[i].serve == HG_SERVE_WEB) {
            return true;
        }
    }
    return false;
}

static void add_clients(struct hg_needs *needs, const struct hg_config *c)
{
    bool has_stomp = serves(c, HG_SERVE_STOMP) && c->stomp_rabbitmq_destinations;
    bool has_api = serves(c, HG_SERVE_WEB) && c->http_management_paths;
    bool has_leases = serves(c, HG_SERVE_WEB) && c->lease_max > 0;
    bool has_state = strcmp(c->state_log, "off") != 0;
    needs->names_exchanges = !c->has_identities && (has_stomp || has_api);
    needs->names_queues = !c->has_identities && (has_stomp || has_api || has_leases);
    add_anything(needs, c);
    if (has_stomp) {
        add_queues(needs, "stomp-subscription-");
    }
    if (has_stomp && !c->has_identities) {
        add_exchange(needs, HG_NEED_WRITE, c->stomp_topic_exchange);
        add_exchange(needs, HG_NEED_READ, c->stomp_topic_exchange);
    }
    if (serves(c, HG_SERVE_MQTT) && has_state && c->mqtt_max_session_expiry_ms > 0) {
        add_queues(needs, "mqtt-subscription-");
    }
    for (size_t i = 0; c->has_identities && i < c->users.access_n; i++) {
        if (has_stomp || has_api || has_leases) {
            add_access(needs, &c->users.access[i]);
        }
    }
}

/* ---- Routing keys ---- */

static void quote(struct hg_writer *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strchr("\\^$.|?*+()[]{}", text[i]) != NULL) {
            hg_writer_u8(out, '\\');
        }
        hg_writer_u8(out, (uint8_t)text[i]);
    }
}

/* Any number of words, none included, and the dot that parts them from what is written already, or
 * else from what follows at *text. */
static void write_rest(struct hg_writer *out, const char **text)
{
    struct hg_bytes so_far = hg_writer_view(out);
    if (so_far.n > 1 && memcmp(so_far.p + so_far.n - 2, "\\.", 2) == 0) {
        out->buf->n -= 2;
        hg_writer_str(out, "(\\..*)?");
    } else if (**text == '.') {
        ++*text;
        hg_writer_str(out, "(.*\\.)?");
    } else {
        hg_writer_str(out, ".*");
    }
}

/* A rule's key, "a.{b}.{c...}", or a topic exchange's, "a.*.#": captures and what clients ask for in
 * their place are a word, the last may be the rest. */
static void write_key(struct hg_writer *out, const char *key)
{
    while (*key != '\0') {
        size_t n = *key == '{' ? strcspn(key, "}") : 0;
        bool is_rest = *key == '#' || (n > 3 && strncmp(key + n - 3, "...", 3) == 0);
        bool is_word = *key == '*' || n > 0;
        const char *next = key + n + 1;
        if (is_rest) {
            write_rest(out, &next);
        } else if (is_word) {
            hg_writer_str(out, "[^.]*");
        } else {
            quote(out, key, 1);
        }
        key = next;
    }
}

static void add_key(struct hg_need_topic *t, enum hg_need_verb verb, const char *key)
{
    struct hg_writer one = {0};
    write_key(&one, key == NULL ? "" : key);
    hg_writer_str(&t->keys[verb], hg_writer_n(&t->keys[verb]) > 0 ? "|" : "");
    hg_writer_bytes(&t->keys[verb], hg_writer_view(&one));
    t->keys[verb].failed = t->keys[verb].failed || one.failed;
    hg_writer_close(&one);
}

static bool comes_from(const struct hg_rule_spec *rule, const char *exchange)
{
    for (size_t i = 0; i < rule->via_n; i++) {
        if (strcmp(rule->via[i], exchange) == 0) {
            return true;
        }
    }
    return rule->queue == NULL && strcmp(rule->exchange, exchange) == 0;
}

static void add_rule_keys(struct hg_need_topic *t, const struct hg_config *c,
                          const struct hg_rule_spec *rule)
{
    bool is_hashed = rule->overlong == HG_OVERLONG_HASH;
    if ((!c->has_identities || rule->publish_roles != 0) && rule->queue == NULL &&
        strcmp(rule->exchange, t->exchange) == 0) {
        t->is_any[HG_NEED_WRITE] |= is_hashed;
        add_key(t, HG_NEED_WRITE, rule->key);
    }
    if ((!c->has_identities || rule->subscribe_roles != 0) && comes_from(rule, t->exchange)) {
        t->is_any[HG_NEED_READ] |= is_hashed;
        add_key(t, HG_NEED_READ, rule->key);
    }
}

/* A subscription's key is its client's to choose: what it shows is the gateway's to judge. */
static void add_access_keys(struct hg_need_topic *t, const struct hg_access_spec *a)
{
    if (a->exchange == NULL ||
        !hg_access_name_matches(hg_bytes_str(a->exchange), hg_bytes_str(t->exchange))) {
        return;
    }
    t->is_any[HG_NEED_READ] |= a->roles[HG_ACCESS_SUBSCRIBE] != 0;
    if (a->roles[HG_ACCESS_PUBLISH] != 0) {
        add_key(t, HG_NEED_WRITE, a->key == NULL ? "#" : a->key);
    }
}

static void add_binding_keys(struct hg_need_topic *t, const struct hg_binding_decl *bindings,
                             size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(bindings[i].exchange, t->exchange) == 0) {
            add_key(t, HG_NEED_READ, bindings[i].key);
        }
    }
}

static void add_topic(struct hg_needs *needs, const struct hg_config *c, const char *exchange)
{
    struct hg_need_topic *t = &needs->topics[needs->topics_n++];
    t->exchange = exchange;
    t->is_any[HG_NEED_WRITE] = t->is_any[HG_NEED_READ] = needs->names_exchanges;
    if (strcmp(c->state_log, "off") != 0) {
        add_key(t, HG_NEED_READ, "headgate.retain");
    }
    for (size_t i = 0; i < c->rules_n; i++) {
        add_rule_keys(t, c, &c->rules[i]);
    }
    for (size_t i = 0; i < c->users.access_n; i++) {
        add_access_keys(t, &c->users.access[i]);
    }
    for (size_t i = 0; i < c->queues_n; i++) {
        add_binding_keys(t, c->queues[i].bindings, c->queues[i].bindings_n);
    }
    for (size_t i = 0; i < c->exchanges_n; i++) {
        add_binding_keys(t, c->exchanges[i].bindings, c->exchanges[i].bindings_n);
    }
    needs->failed |= t->keys[HG_NEED_WRITE].failed || t->keys[HG_NEED_READ].failed;
}

static void add_topics(struct hg_needs *needs, const struct hg_config *c)
{
    needs->topics = hg_zalloc((c->exchanges_n + 1) * sizeof(*needs->topics));
    if (needs->topics == NULL) {
        needs->failed = true;
        return;
    }
    for (size_t i = 0; i < needs->n; i++) {
        if (!needs->at[i].is_queue && strcmp(needs->at[i].name, topic_exchange) == 0) {
            add_topic(needs, c, topic_exchange);
            break;
        }
    }
    for (size_t i = 0; i < c->exchanges_n; i++) {
        if (c->exchanges[i].spec.type == HG_EXCHANGE_TOPIC) {
            add_topic(needs, c, c->exchanges[i].spec.name);
        }
    }
}

/* ---- */

void hg_needs_open(struct hg_needs *needs, const struct hg_config *c)
{
    *needs = (struct hg_needs){0};
    add_queues(needs, own_prefix); /* and the exchange headgate.gateways */
    add_exchange(needs, HG_NEED_WRITE, "");
    if (strcmp(c->state_log, "off") != 0) {
        add_queue(needs, HG_NEED_CONFIGURE, c->state_log);
        add_queue(needs, HG_NEED_WRITE, c->state_log);
        add_queue(needs, HG_NEED_READ, c->state_log);
    }
    for (size_t i = 0; i < c->exchanges_n; i++) {
        add_exchange_decl(needs, &c->exchanges[i]);
    }
    for (size_t i = 0; i < c->queues_n; i++) {
        add_queue_decl(needs, &c->queues[i]);
    }
    for (size_t i = 0; i < c->rules_n; i++) {
        add_rule(needs, c, &c->rules[i]);
    }
    for (size_t i = 0; i < c->webhooks_n; i++) {
        if (c->webhooks[i].queue != NULL) {
            add_queue(needs, HG_NEED_READ, c->webhooks[i].queue);
        }
        if (c->webhooks[i].dead_exchange != NULL) {
            add_exchange(needs, HG_NEED_WRITE, c->webhooks[i].dead_exchange);
        }
    }
    add_clients(needs, c);
    add_topics(needs, c);
}

void hg_needs_close(struct hg_needs *needs)
{
    for (size_t i = 0; i < needs->topics_n; i++) {
        hg_writer_close(&needs->topics[i].keys[HG_NEED_WRITE]);
        hg_writer_close(&needs->topics[i].keys[HG_NEED_READ]);
    }
    hg_free(needs->topics);
    hg_free(needs->at);
}

static void write_name(const struct hg_need *need, struct hg_writer *out)
{
    if (need->match == HG_NEED_GLOB) {
        for (const char *p = need->name; *p != '\0'; p++) {
            if (*p == '*') {
                hg_writer_str(out, ".*");
            } else {
                quote(out, p, 1);
            }
        }
    } else {
        quote(out, need->name, strlen(need->name));
    }
    hg_writer_str(out, need->match == HG_NEED_PREFIX ? ".*" : "");
}

void hg_needs_write_regex(const struct hg_needs *needs, enum hg_need_verb verb,
                          struct hg_writer *out)
{
    const char *before = "^(";
    for (size_t i = 0; i < needs->n; i++) {
        if (needs->at[i].verb == verb) {
            hg_writer_str(out, before);
            write_name(&needs->at[i], out);
            before = "|";
        }
    }
    hg_writer_str(out, before[0] == '|' ? ")$" : "^$");
}

void hg_need_topic_write_regex(const struct hg_need_topic *topic, enum hg_need_verb verb,
                               struct hg_writer *out)
{
    const struct hg_writer *keys = &topic->keys[verb];
    if (topic->is_any[verb]) {
        hg_writer_str(out, ".*");
    } else if (hg_writer_n(keys) == 0) {
        hg_writer_str(out, "^$");
    } else {
        hg_writer_str(out, "^(");
        hg_writer_bytes(out, hg_writer_view(keys));
        hg_writer_str(out, ")$");
    }
}
