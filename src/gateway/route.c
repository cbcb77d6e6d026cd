/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate route` as text and as JSON. */
#include "route.h"

#include "core/identity.h"
#include "message/topic.h"
#include "rules/access.h"

enum { FINE = 0, GIVEN_WRONG = 1, CANNOT_ANSWER = 2 };

struct query {
    const struct hg_config *config;
    const struct hg_vhost_spec *vhost;
    bool is_json;
    const struct hg_rule_who *who; /* NULL: about somebody who may everything */
    enum hg_protocol proto;
    struct hg_writer out;
    FILE *err;
};

/* ---- JSON ---- */

static void json_text(struct hg_writer *w, struct hg_bytes text)
{
    hg_writer_u8(w, '"');
    hg_writer_json(w, text);
    hg_writer_u8(w, '"');
}

/* `,"name":"text"`, without the comma after `{`. */
static void json_member(struct hg_writer *w, struct hg_bytes name, struct hg_bytes text)
{
    struct hg_bytes so_far = hg_writer_view(w);
    if (so_far.n > 0 && so_far.p[so_far.n - 1] != '{') {
        hg_writer_u8(w, ',');
    }
    json_text(w, name);
    hg_writer_u8(w, ':');
    json_text(w, text);
}

static void json_flag(struct hg_writer *w, const char *name, bool is_set)
{
    hg_writer_printf(w, ",\"%s\":%s", name, is_set ? "true" : "false");
}

/* ---- Shared ---- */

static int fail(struct query *q, enum hg_status status, struct hg_bytes subject, const char *why)
{
    why = why == NULL ? hg_status_text(status) : why;
    if (q->is_json) {
        hg_writer_u8(&q->out, '{');
        json_member(&q->out, HG_BYTES("error"), hg_bytes_str(hg_status_info(status)->name));
        json_member(&q->out, HG_BYTES("reason"), hg_bytes_str(why));
        hg_writer_str(&q->out, "}\n");
    }
    fprintf(q->err, "headgate: %.*s: %s\n", HG_BYTES_FMT(subject), why);
    return GIVEN_WRONG;
}

/* Which rule says no, and why. */
static int deny(struct query *q, size_t rule, bool is_publish, struct hg_bytes subject)
{
    const struct hg_rule_spec *spec = hg_rules_spec(q->vhost->table, rule);
    uint64_t roles = is_publish ? spec->publish_roles : spec->subscribe_roles;
    const char *what = is_publish ? "publish" : "subscribe";
    char why[512];
    if ((roles & q->who->roles) == 0) {
        snprintf(why, sizeof(why), "rule %s (%s) lets %s", spec->name, spec->where,
                 roles == 0 ? "nobody " : "other roles ");
        strncat(why, what, sizeof(why) - strlen(why) - 1);
    } else {
        snprintf(why, sizeof(why),
                 "rule %s (%s) lets everybody %s only what is their own: {user}, {client_id} or "
                 "{claim.…} is not this one's",
                 spec->name, spec->where, what);
    }
    return fail(q, HG_NOT_ALLOWED, subject, why);
}

static const char *type_name(const struct query *q, struct hg_bytes exchange)
{
    static const char *const names[] = {"direct", "fanout", "topic", "headers", NULL};
    bool is_known;
    enum hg_exchange_type type = hg_rules_exchange_type(q->vhost->table, exchange, &is_known);
    for (size_t i = 0; i < q->vhost->exchanges_n && names[type] == NULL; i++) {
        if (hg_bytes_eq(hg_bytes_str(q->vhost->exchanges[i].spec.name), exchange)) {
            return q->vhost->exchanges[i].type;
        }
    }
    return names[type] == NULL ? "other" : names[type];
}

/* `label` and what stands behind it, in columns. */
static void text_line(struct query *q, const char *label, struct hg_bytes text)
{
    hg_writer_printf(&q->out, "%-10s", label);
    hg_writer_bytes(&q->out, text);
    hg_writer_u8(&q->out, '\n');
}

static void text_rule(struct query *q, size_t rule)
{
    const struct hg_rule_spec *spec = hg_rules_spec(q->vhost->table, rule);
    hg_writer_printf(&q->out, "%-10s%s", "rule", spec->name);
    if (spec->where != NULL) {
        hg_writer_printf(&q->out, " (%s)", spec->where);
    }
    hg_writer_u8(&q->out, '\n');
}

static void text_exchange(struct query *q, struct hg_bytes exchange)
{
    hg_writer_printf(&q->out, "%-10s", "exchange");
    if (exchange.n == 0) {
        hg_writer_str(&q->out, "the default one\n");
        return;
    }
    hg_writer_bytes(&q->out, exchange);
    hg_writer_printf(&q->out, " (%s)\n", type_name(q, exchange));
}

/* Everybody, or the roles; nothing about it where there is no restriction. */
static void text_roles(struct query *q, uint64_t roles)
{
    size_t n = 0;
    if (!q->config->has_identities || (roles & HG_ROLE_EVERYBODY) != 0) {
        return;
    }
    hg_writer_printf(&q->out, "%-10s", "allowed");
    for (size_t i = 0; i < q->config->roles_n; i++) {
        if ((roles >> i & 1) != 0) {
            hg_writer_printf(&q->out, "%s%s", n++ > 0 ? ", " : "", q->config->roles[i]);
        }
    }
    hg_writer_str(&q->out, n == 0 ? "nobody\n" : "\n");
}

/* STOMP destinations and HTTP paths are written with a `/` that the address does not have. */
static struct hg_bytes address_of(const struct query *q, const char *subject)
{
    struct hg_bytes b = hg_bytes_str(subject);
    if (q->proto == HG_PROTO_HTTP && hg_bytes_starts(b, HG_BYTES("/v1/topics/"))) {
        return hg_bytes_skip(b, sizeof("/v1/topics/") - 1);
    }
    return q->proto != HG_PROTO_MQTT && b.n > 0 && b.p[0] == '/' ? hg_bytes_skip(b, 1) : b;
}

/* The prefix of RabbitMQ's STOMP destinations or of the gateway's own paths that takes this before
 * any rule. */
static const char *reserved_by(const struct query *q, const char *subject)
{
    bool is_off = q->proto == HG_PROTO_STOMP && !q->config->stomp_rabbitmq_destinations;
    return is_off || subject[0] != '/' ||
                   hg_bytes_starts(hg_bytes_str(subject), HG_BYTES("/v1/topics/"))
               ? NULL
               : hg_rules_reserved(q->proto, address_of(q, subject));
}

static struct hg_topic_limits limits_of(const struct query *q)
{
    return (struct hg_topic_limits){(size_t)q->config->max_topic_bytes,
                                    (size_t)q->config->max_topic_levels};
}

/* ---- publish ---- */

/* Header i as it would be set; what only a connection knows stays as written. */
static void expand_header(struct query *q, const struct hg_route *route, size_t i,
                          struct hg_bytes address, struct hg_writer *value)
{
    const struct hg_rule_vars vars = {.client_id = HG_BYTES("{client_id}"),
                                      .user = HG_BYTES("{user}"),
                                      .address = address,
                                      .protocol = q->proto};
    hg_writer_reset(value);
    hg_rules_header(q->vhost->table, route, i, &vars, value);
}

static void publish_text(struct query *q, const struct hg_route *route, struct hg_bytes address)
{
    const struct hg_rules *table = q->vhost->table;
    const struct hg_rule_spec *spec = hg_rules_spec(table, route->rule);
    struct hg_writer value = {0};
    text_rule(q, route->rule);
    text_exchange(q, route->exchange);
    text_line(q, "key", route->key);
    for (size_t i = 0; i < route->captures_n; i++) {
        struct hg_bytes name = hg_rules_capture_name(table, route->rule, q->proto, i);
        hg_writer_printf(&q->out, "%-10s%.*s = %.*s\n", "capture", HG_BYTES_FMT(name),
                         HG_BYTES_FMT(route->captures[i]));
    }
    for (size_t i = 0; i < spec->headers_n; i++) {
        expand_header(q, route, i, address, &value);
        hg_writer_printf(&q->out, "%-10s%s = %.*s\n", "header", spec->header_names[i],
                         HG_BYTES_FMT(hg_writer_view(&value)));
    }
    if (route->is_hashed) {
        hg_writer_printf(&q->out, "%-10sx-headgate-address = %.*s (the key is hashed)\n", "header",
                         HG_BYTES_FMT(address));
    }
    if (spec->persistent != HG_UNSET) {
        text_line(q, "delivery",
                  spec->persistent == HG_YES ? HG_BYTES("persistent") : HG_BYTES("transient"));
    }
    if (spec->is_mandatory) {
        text_line(q, "mandatory", HG_BYTES("yes"));
    }
    text_roles(q, spec->publish_roles);
    q->out.failed = q->out.failed || value.failed;
    hg_writer_close(&value);
}

static void publish_json(struct query *q, const struct hg_route *route, struct hg_bytes address)
{
    const struct hg_rules *table = q->vhost->table;
    const struct hg_rule_spec *spec = hg_rules_spec(table, route->rule);
    struct hg_writer value = {0};
    struct hg_writer *w = &q->out;
    hg_writer_u8(w, '{');
    json_member(w, HG_BYTES("address"), address);
    json_member(w, HG_BYTES("rule"), hg_bytes_str(spec->name));
    json_member(w, HG_BYTES("where"), hg_bytes_str(spec->where));
    json_member(w, HG_BYTES("exchange"), route->exchange);
    json_member(w, HG_BYTES("type"), hg_bytes_str(type_name(q, route->exchange)));
    json_member(w, HG_BYTES("key"), route->key);
    json_flag(w, "hashed", route->is_hashed);
    json_flag(w, "mandatory", spec->is_mandatory);
    hg_writer_str(w, ",\"captures\":{");
    for (size_t i = 0; i < route->captures_n; i++) {
        json_member(w, hg_rules_capture_name(table, route->rule, q->proto, i), route->captures[i]);
    }
    hg_writer_str(w, "},\"headers\":{");
    for (size_t i = 0; i < spec->headers_n; i++) {
        expand_header(q, route, i, address, &value);
        json_member(w, hg_bytes_str(spec->header_names[i]), hg_writer_view(&value));
    }
    if (route->is_hashed) {
        json_member(w, HG_BYTES("x-headgate-address"), address);
    }
    hg_writer_str(w, "}}\n");
    w->failed = w->failed || value.failed;
    hg_writer_close(&value);
}

/* What only a request knows stands in key and headers as its name in braces. */
struct placeholders {
    char text[HG_REQUEST_MAX][HG_KEY_MAX + 3];
    size_t n;
};

static bool find_placeholder(void *ctx, const struct hg_request_name *name,
                             struct hg_bytes *value_out)
{
    struct placeholders *all = ctx;
    char *text = all->text[all->n++];
    int n = snprintf(text, sizeof(all->text[0]), "{%.*s}", HG_BYTES_FMT(name->name));
    *value_out = hg_bytes(text, (size_t)n);
    return true;
}

static int publish(struct query *q, const char *subject)
{
    struct hg_bytes address = address_of(q, subject);
    const struct hg_topic_limits limits = limits_of(q);
    const char *wrong = hg_topic_check_address(address, &limits);
    if (wrong != NULL) {
        return fail(q, HG_BAD_ADDRESS, hg_bytes_str(subject), wrong);
    }
    struct hg_route route;
    struct placeholders placeholders = {.n = 0};
    const struct hg_request_source source = {find_placeholder, &placeholders};
    enum hg_status status =
        hg_rules_publish_request(q->vhost->table, q->proto, address, &source, &route);
    if (status == HG_BAD_ADDRESS) {
        return fail(q, status, hg_bytes_str(subject),
                    "its key would be a single empty word, which RabbitMQ takes for none");
    }
    if (status != HG_OK) {
        return fail(q, status, hg_bytes_str(subject), NULL);
    }
    if (!hg_rules_may_publish(q->vhost->table, q->who, q->proto, &route)) {
        return deny(q, route.rule, true, hg_bytes_str(subject));
    }
    if (q->is_json) {
        publish_json(q, &route, address);
    } else {
        publish_text(q, &route, address);
    }
    return FINE;
}

/* ---- subscribe ---- */

static const char *const kinds[] = {
    [HG_PLAN_FEED] = "feed", [HG_PLAN_OWN_QUEUE] = "own", [HG_PLAN_QUEUE] = "queue"};

static void plan_json(void *ctx, const struct hg_binding_plan *plan)
{
    struct query *q = ctx;
    struct hg_writer *w = &q->out;
    const struct hg_rule_spec *spec = hg_rules_spec(q->vhost->table, plan->rule);
    struct hg_bytes so_far = hg_writer_view(w);
    hg_writer_str(w, so_far.n > 0 && so_far.p[so_far.n - 1] == '}' ? ",{" : "{");
    json_member(w, HG_BYTES("rule"), hg_bytes_str(spec->name));
    json_member(w, HG_BYTES("where"), hg_bytes_str(spec->where));
    json_member(w, HG_BYTES("kind"), hg_bytes_str(kinds[plan->kind]));
    if (plan->kind == HG_PLAN_QUEUE) {
        json_member(w, HG_BYTES("queue"), plan->queue);
    } else {
        json_member(w, HG_BYTES("exchange"), plan->exchange);
        json_member(w, HG_BYTES("type"), hg_bytes_str(type_name(q, plan->exchange)));
        json_member(w, HG_BYTES("key"), plan->key);
    }
    if (plan->is_widenable) {
        json_member(w, HG_BYTES("wide_key"), plan->wide_key);
        json_flag(w, "is_wide", plan->scope == HG_SCOPE_WIDE);
    }
    hg_writer_u8(w, '}');
}

static void plan_text(void *ctx, const struct hg_binding_plan *plan)
{
    struct query *q = ctx;
    const struct hg_rule_spec *spec = hg_rules_spec(q->vhost->table, plan->rule);
    if (hg_writer_n(&q->out) > 0) {
        hg_writer_u8(&q->out, '\n');
    }
    text_rule(q, plan->rule);
    if (plan->kind == HG_PLAN_QUEUE) {
        text_line(q, "consumes", plan->queue);
    } else {
        text_exchange(q, plan->exchange);
        text_line(q, "binding", plan->key);
        text_line(q, "queue",
                  plan->kind == HG_PLAN_FEED ? HG_BYTES("the worker's feed")
                                             : HG_BYTES("one of the subscriber's own"));
    }
    if (plan->is_widenable) {
        text_line(q, plan->scope == HG_SCOPE_WIDE ? "wide as" : "may widen", plan->wide_key);
    }
    text_roles(q, spec->subscribe_roles);
}

/* STOMP and HTTP have `*` for `+`. */
static void translate_filter(const struct query *q, struct hg_bytes filter, struct hg_writer *out)
{
    struct hg_bytes level;
    bool has_more = true;
    bool has_star = q->proto != HG_PROTO_MQTT;
    while (hg_topic_next(&filter, &has_more, '/', &level)) {
        bool is_star = has_star && hg_bytes_eq(level, HG_BYTES("*"));
        hg_writer_bytes(out, is_star ? HG_BYTES("+") : level);
        if (has_more) {
            hg_writer_u8(out, '/');
        }
    }
}

static void note_first(void *ctx, const struct hg_binding_plan *plan)
{
    size_t *first = ctx;
    *first = *first == SIZE_MAX ? plan->rule : *first;
}

static int subscribe(struct query *q, const char *subject)
{
    const struct hg_topic_limits limits = limits_of(q);
    struct hg_writer filter = {0};
    const char *why = NULL;
    translate_filter(q, address_of(q, subject), &filter);
    const char *wrong = hg_topic_check_filter(hg_writer_view(&filter), &limits);
    if (wrong != NULL) {
        hg_writer_close(&filter);
        return fail(q, HG_BAD_FILTER, hg_bytes_str(subject), wrong);
    }
    if (q->is_json) {
        hg_writer_u8(&q->out, '{');
        json_member(&q->out, HG_BYTES("filter"), hg_writer_view(&filter));
        hg_writer_str(&q->out, ",\"plans\":[");
    }
    enum hg_status status =
        hg_rules_subscribe(q->vhost->table, q->who, q->proto, hg_writer_view(&filter),
                           q->is_json ? plan_json : plan_text, q, &why);
    size_t denying = SIZE_MAX;
    if (status == HG_NOT_ALLOWED) {
        hg_writer_reset(&q->out);
        (void)hg_rules_subscribe(q->vhost->table, NULL, q->proto, hg_writer_view(&filter),
                                 note_first, &denying, &why);
    }
    q->out.failed = q->out.failed || filter.failed;
    hg_writer_close(&filter);
    if (denying != SIZE_MAX) {
        return deny(q, denying, false, hg_bytes_str(subject));
    }
    if (status != HG_OK) {
        hg_writer_reset(&q->out);
        return fail(q, status, hg_bytes_str(subject), why);
    }
    hg_writer_str(&q->out, q->is_json ? "]}\n" : "");
    return FINE;
}

/* ---- deliver ---- */

/* What the delivery is for this protocol; has: there is an address. */
static void write_delivery(struct query *q, enum hg_protocol p, bool has, struct hg_bytes address,
                           const char *rule)
{
    struct hg_writer *w = &q->out;
    if (!q->is_json) {
        hg_writer_printf(w, "%-10s%.*s", hg_protocol_name(p), HG_BYTES_FMT(address));
        if (has) {
            hg_writer_printf(w, " (rule %s)\n", rule);
        } else {
            hg_writer_str(w, "-\n");
        }
        return;
    }
    hg_writer_printf(w, "%s\"%s\":%s", p > 0 ? "," : "", hg_protocol_name(p), has ? "{" : "null");
    if (has) {
        json_member(w, HG_BYTES("address"), address);
        json_member(w, HG_BYTES("rule"), hg_bytes_str(rule));
        hg_writer_u8(w, '}');
    }
}

static int deliver(struct query *q, struct hg_bytes exchange, struct hg_bytes key)
{
    const struct hg_rules *table = q->vhost->table;
    struct hg_writer address = {0};
    bool is_known;
    size_t found_n = 0;
    (void)hg_rules_exchange_type(table, exchange, &is_known);
    if (!is_known) {
        return fail(q, HG_NO_EXCHANGE, exchange, "is no exchange of the configuration");
    }
    if (key.n > HG_KEY_MAX) {
        return fail(q, HG_KEY_TOO_LONG, key, NULL);
    }
    if (q->is_json) {
        hg_writer_u8(&q->out, '{');
        json_member(&q->out, HG_BYTES("exchange"), exchange);
        json_member(&q->out, HG_BYTES("key"), key);
        hg_writer_str(&q->out, ",\"addresses\":{");
    }
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        size_t rule;
        hg_writer_reset(&address);
        bool has = hg_rules_deliver(table, p, exchange, key, HG_BYTES(""), &address, &rule);
        found_n += has;
        write_delivery(q, p, has, hg_writer_view(&address),
                       has ? hg_rules_spec(table, rule)->name : NULL);
    }
    hg_writer_str(&q->out, q->is_json ? "}}\n" : "");
    q->out.failed = q->out.failed || address.failed;
    hg_writer_close(&address);
    if (found_n == 0) {
        fprintf(q->err, "headgate: no rule maps exchange \"%.*s\", key \"%.*s\" back\n",
                HG_BYTES_FMT(exchange), HG_BYTES_FMT(key));
    }
    return found_n == 0 ? GIVEN_WRONG : FINE;
}

/* ---- The command ---- */

static int ask(struct query *q, const char *proto, const char *verb, const char *subject,
               const char *key_or_null)
{
    if (strcmp(proto, "amqp") == 0 && strcmp(verb, "deliver") == 0 && key_or_null != NULL) {
        return deliver(q, hg_bytes_str(subject), hg_bytes_str(key_or_null));
    }
    bool is_publish = strcmp(verb, "publish") == 0;
    bool is_proto = false;
    for (enum hg_protocol p = 0; p < HG_PROTO_N && !is_proto; p++) {
        is_proto = strcmp(proto, hg_protocol_name(p)) == 0;
        q->proto = p;
    }
    if (!is_proto || (!is_publish && strcmp(verb, "subscribe") != 0) || key_or_null != NULL) {
        fprintf(q->err, "headgate: route takes mqtt, stomp or http with publish ADDRESS or "
                        "subscribe FILTER, or amqp deliver EXCHANGE KEY\n");
        return GIVEN_WRONG;
    }
    const char *prefix = reserved_by(q, subject);
    if (prefix != NULL) {
        fprintf(q->err, "headgate: note: %s takes %s before any rule; this is what the rules say\n",
                proto, prefix);
    }
    return is_publish ? publish(q, subject) : subscribe(q, subject);
}

int hg_route_command(const struct hg_config *config, const struct hg_rule_who *who, bool is_json,
                     const char *proto, const char *verb, const char *subject,
                     const char *key_or_null, FILE *out, FILE *err)
{
    struct query q = {
        .config = config, .vhost = &config->vhosts[0], .who = who, .is_json = is_json, .err = err};
    int code = ask(&q, proto, verb, subject, key_or_null);
    struct hg_bytes text = hg_writer_view(&q.out);
    bool is_written = !q.out.failed && (text.n == 0 || fwrite(text.p, 1, text.n, out) == text.n);
    is_written = fflush(out) == 0 && is_written;
    hg_writer_close(&q.out);
    return is_written ? code : CANNOT_ANSWER;
}
