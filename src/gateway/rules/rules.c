/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in the frozen table: publishes out, deliveries back. */
#include "rules/rules.h"

#include "message/topic.h"
#include "rules/key.h"

const char *hg_protocol_name(enum hg_protocol p)
{
    static const char *const names[HG_PROTO_N] = {"mqtt", "stomp", "http"};
    return names[p];
}

const char *hg_slow_name(enum hg_slow slow)
{
    static const char *const names[HG_SLOW_N] = {"drop-new", "drop-oldest", "latest", "disconnect"};
    return names[slow];
}

enum hg_exchange_type hg_exchange_type_of(struct hg_bytes type)
{
    if (hg_bytes_eq(type, HG_BYTES("direct"))) {
        return HG_EXCHANGE_DIRECT;
    }
    if (hg_bytes_eq(type, HG_BYTES("fanout"))) {
        return HG_EXCHANGE_FANOUT;
    }
    if (hg_bytes_eq(type, HG_BYTES("topic"))) {
        return HG_EXCHANGE_TOPIC;
    }
    return hg_bytes_eq(type, HG_BYTES("headers")) ? HG_EXCHANGE_HEADERS : HG_EXCHANGE_OTHER;
}

size_t hg_rules_n(const struct hg_rules *r)
{
    return r->rules_n;
}

const struct hg_rule_spec *hg_rules_spec(const struct hg_rules *r, size_t index)
{
    return r->rules[index].spec;
}

enum hg_exchange_type hg_rules_exchange_type(const struct hg_rules *r, struct hg_bytes exchange,
                                             bool *is_known_out)
{
    const struct hg_exchange *x = hg_map_find(&r->by_name, exchange);
    *is_known_out = x != NULL;
    return x == NULL ? HG_EXCHANGE_OTHER : x->type;
}

/* What the pattern's captures took; the pattern takes `levels`. */
static void set_captures(const struct hg_template *pattern, const struct hg_cut *levels,
                         struct hg_route *route)
{
    route->captures_n = 0;
    for (uint64_t left = pattern->captures; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        route->captures[route->captures_n++] =
            i == pattern->rest ? hg_cut_from(levels, i) : levels->parts[i];
    }
}

static bool find_values(const struct hg_rule *rule, const struct hg_request_source *source,
                        struct hg_route *route)
{
    for (uint8_t i = 0; i < rule->request_n; i++) {
        if (source == NULL || !source->find(source->ctx, &rule->request[i], &route->request[i])) {
            return false;
        }
    }
    return true;
}

/* has_request: what only headers name is needed as well. */
static enum hg_status publish(const struct hg_rules *r, enum hg_protocol proto,
                              struct hg_bytes address, const struct hg_request_source *source,
                              bool has_request, struct hg_route *route_out)
{
    if (address.n == 0 || hg_topic_has_wildcard(address)) {
        return HG_BAD_ADDRESS;
    }
    struct hg_bytes parts[HG_LEVELS_CUT];
    struct hg_cut levels = hg_cut_address(address, parts);
    uint32_t index = hg_matcher_find(&r->matcher, r->patterns, proto, &levels, 0);
    if (index == HG_NO_RULE_INDEX) {
        return HG_NO_RULE;
    }
    const struct hg_rule *rule = &r->rules[index];
    struct hg_key key = {.buf = route_out->key_buf, .request = route_out->request};
    route_out->rule = index;
    if ((has_request || rule->has_request_key) && !find_values(rule, source, route_out)) {
        return HG_NO_VALUE;
    }
    enum hg_status status = hg_key_make(rule, proto, &levels, &key);
    route_out->exchange = rule->exchange;
    route_out->key = key.bytes;
    route_out->is_hashed = key.is_hashed && !rule->has_address_header;
    set_captures(&rule->pattern[proto], &levels, route_out);
    return status;
}

enum hg_status hg_rules_publish_request(const struct hg_rules *r, enum hg_protocol proto,
                                        struct hg_bytes address,
                                        const struct hg_request_source *source,
                                        struct hg_route *route_out)
{
    return publish(r, proto, address, source, true, route_out);
}

enum hg_status hg_rules_publish(const struct hg_rules *r, enum hg_protocol proto,
                                struct hg_bytes address, struct hg_route *route_out)
{
    return publish(r, proto, address, NULL, false, route_out);
}

bool hg_rules_request_name(const struct hg_rules *r, size_t rule, size_t i,
                           struct hg_request_name *out)
{
    if (i >= r->rules[rule].request_n) {
        return false;
    }
    *out = r->rules[rule].request[i];
    return true;
}

struct hg_bytes hg_rules_capture_name(const struct hg_rules *r, size_t rule, enum hg_protocol proto,
                                      size_t i)
{
    const struct hg_template *pattern = &r->rules[rule].pattern[proto];
    for (uint8_t k = 0; k < pattern->n; k++) {
        if (pattern->parts[k].kind != HG_PART_LITERAL && i-- == 0) {
            return hg_part_text(&pattern->parts[k]);
        }
    }
    return (struct hg_bytes){0};
}

static bool rule_maps_exchange(const struct hg_rule *rule, struct hg_bytes exchange)
{
    if (hg_bytes_eq(rule->exchange, exchange)) {
        return true;
    }
    for (size_t i = 0; i < rule->spec->via_n; i++) {
        if (hg_bytes_eq(hg_bytes_str(rule->spec->via[i]), exchange)) {
            return true;
        }
    }
    return false;
}

static bool is_presentable(struct hg_bytes address)
{
    static const struct hg_topic_limits limits = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};
    return hg_topic_check_address(address, &limits) == NULL;
}

/* The address for `proto` that captures the same as the route's address did. */
static void write_alike(const struct hg_template *to, const struct hg_template *from,
                        const struct hg_route *route, struct hg_writer *out)
{
    for (uint8_t i = 0; i < to->n; i++) {
        struct hg_bytes text = hg_part_text(&to->parts[i]);
        if (to->parts[i].kind != HG_PART_LITERAL) {
            uint8_t at = hg_template_find(from, text);
            text = at == HG_NO_PART ? (struct hg_bytes){0}
                                    : route->captures[hg_template_capture_index(from, at)];
        }
        if (text.p == NULL) {
            continue;
        }
        if (i > 0) {
            hg_writer_u8(out, '/');
        }
        hg_writer_bytes(out, text);
    }
}

static bool leads_to(const struct hg_rules *r, enum hg_protocol proto, struct hg_bytes address,
                     struct hg_bytes exchange, struct hg_bytes key, struct hg_route *route)
{
    return hg_rules_publish(r, proto, address, route) == HG_OK && hg_bytes_eq(route->key, key) &&
           rule_maps_exchange(&r->rules[route->rule], exchange);
}

static void undo(struct hg_writer *out, size_t n)
{
    if (out->buf != NULL) {
        out->buf->n = (uint32_t)n;
    }
}

/* The address that travelled with the message, if publishing to it leads to this very exchange and
 * key; it may be of another protocol than the one asked for. */
static bool deliver_original(const struct hg_rules *r, enum hg_protocol proto,
                             struct hg_bytes exchange, struct hg_bytes key,
                             struct hg_bytes original, struct hg_writer *out, size_t *rule_out)
{
    struct hg_route route;
    if (!is_presentable(original)) {
        return false;
    }
    if (leads_to(r, proto, original, exchange, key, &route)) {
        hg_writer_bytes(out, original);
        *rule_out = route.rule;
        return !out->failed;
    }
    size_t start = hg_writer_n(out);
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        if (p == (unsigned)proto || !leads_to(r, p, original, exchange, key, &route) ||
            !hg_rule_serves(&r->rules[route.rule], proto)) {
            continue;
        }
        const struct hg_rule *rule = &r->rules[route.rule];
        write_alike(&rule->pattern[proto], &rule->pattern[p], &route, out);
        struct hg_bytes written = hg_bytes_skip(hg_writer_view(out), start);
        if (!out->failed && is_presentable(written) &&
            leads_to(r, proto, written, exchange, key, &route)) {
            *rule_out = route.rule;
            return true;
        }
        undo(out, start);
    }
    return false;
}

static bool write_address(const struct hg_rule *rule, enum hg_protocol proto,
                          const struct hg_cut *words, struct hg_writer *out)
{
    size_t bound = hg_address_bound(&rule->pattern[proto], words->text.n);
    struct hg_sink sink = {.out = hg_writer_reserve(out, bound), .cap = bound};
    if (sink.out == NULL || !hg_address_make(rule, proto, words, &sink) ||
        !is_presentable(hg_bytes(sink.out, sink.n))) {
        return false;
    }
    hg_writer_commit(out, sink.n);
    return true;
}

bool hg_rules_deliver(const struct hg_rules *r, enum hg_protocol proto, struct hg_bytes exchange,
                      struct hg_bytes key, struct hg_bytes original, struct hg_writer *out,
                      size_t *rule_out)
{
    const struct hg_exchange *x = hg_map_find(&r->by_name, exchange);
    if (x == NULL || x->root == HG_NO_NODE || key.n > HG_KEY_MAX) {
        return false;
    }
    if (original.n > 0 && deliver_original(r, proto, exchange, key, original, out, rule_out)) {
        return true;
    }
    struct hg_bytes parts[HG_WORDS_CUT];
    struct hg_cut words = hg_cut_key(key, parts);
    uint32_t from = 0;
    uint32_t index;
    while ((index = hg_matcher_find(&r->matcher, x->root, proto, &words, from)) !=
           HG_NO_RULE_INDEX) {
        *rule_out = index;
        if (write_address(&r->rules[index], proto, &words, out)) {
            return true;
        }
        if (out->failed) {
            return false;
        }
        from = index + 1; /* its address cannot be shown: the next that fits */
    }
    *rule_out = x->fallback[proto];
    return x->fallback[proto] != HG_NO_RULE_INDEX &&
           write_address(&r->rules[x->fallback[proto]], proto, &words, out);
}
