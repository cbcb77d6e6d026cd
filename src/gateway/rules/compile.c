/* SPDX-License-Identifier: Apache-2.0 */
/* From the rules as written to the frozen table. Every problem is reported, not only the first. */
#include "base/mem.h"
#include "message/message.h"
#include "rules/rules_priv.h"

struct compiler {
    struct hg_rules *r;
    struct hg_writer *err;
    size_t parts_n; /* of r->parts, used */
    size_t problems_n;
    const struct hg_rule_spec *spec; /* at work on */
};

static const struct {
    const char *name;
    enum hg_exchange_type type;
} standard_exchanges[] = {
    {"", HG_EXCHANGE_DIRECT},
    {"amq.direct", HG_EXCHANGE_DIRECT},
    {"amq.fanout", HG_EXCHANGE_FANOUT},
    {"amq.topic", HG_EXCHANGE_TOPIC},
    {"amq.headers", HG_EXCHANGE_HEADERS},
    {"amq.match", HG_EXCHANGE_HEADERS},
};
enum { STANDARD_N = sizeof(standard_exchanges) / sizeof(standard_exchanges[0]) };

static void begin_problem(struct compiler *c, const char *where)
{
    c->problems_n++;
    if (where != NULL) {
        hg_writer_printf(c->err, "%s: ", where);
    }
}

static void problem(struct compiler *c, const char *what)
{
    begin_problem(c, c->spec->where);
    hg_writer_printf(c->err, "rule %s: %s\n", c->spec->name, what);
}

/* `field` "part" why */
static void problem_with(struct compiler *c, const char *field, struct hg_bytes part,
                         const char *why)
{
    begin_problem(c, c->spec->where);
    hg_writer_printf(c->err, "rule %s: %s: \"%.*s\" %s\n", c->spec->name, field, HG_BYTES_FMT(part),
                     why);
}

static bool add_exchange(struct hg_rules *r, const char *where, const char *name,
                         enum hg_exchange_type type)
{
    struct hg_exchange *x = &r->exchanges[r->exchanges_n];
    *x = (struct hg_exchange){.where = where, .name = hg_bytes_str(name), .type = type};
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        x->fallback[p] = HG_NO_RULE_INDEX;
    }
    r->exchanges_n++;
    return hg_map_put(&r->by_name, x->name, x);
}

/* False when there is no memory. */
static bool add_exchanges(struct compiler *c, const struct hg_exchange_spec *specs, size_t n)
{
    struct hg_rules *r = c->r;
    r->exchanges = hg_alloc((STANDARD_N + n) * sizeof(*r->exchanges));
    if (r->exchanges == NULL) {
        return false;
    }
    for (size_t i = 0; i < STANDARD_N; i++) {
        if (!add_exchange(r, NULL, standard_exchanges[i].name, standard_exchanges[i].type)) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const struct hg_exchange *known = hg_map_find(&r->by_name, hg_bytes_str(specs[i].name));
        if (known == NULL) {
            if (!add_exchange(r, specs[i].where, specs[i].name, specs[i].type)) {
                return false;
            }
        } else if (known->where != NULL || known->type != specs[i].type) {
            begin_problem(c, specs[i].where);
            hg_writer_printf(c->err, "exchange %s: %s\n", specs[i].name,
                             known->where == NULL ? "exists in every RabbitMQ, with another type"
                                                  : "is declared twice");
        }
    }
    return true;
}

/* What a pattern is once the `/` that STOMP and HTTP put in front of every address is gone. */
static struct hg_bytes pattern_text(const struct hg_rule_spec *spec, unsigned proto)
{
    struct hg_bytes text = hg_bytes_str(spec->pattern[proto]);
    return proto != HG_PROTO_MQTT && text.n > 0 && text.p[0] == '/' ? hg_bytes_skip(text, 1) : text;
}

/* The first protocol with the same pattern as this one: they share its parts. */
static unsigned same_pattern(const struct hg_rule_spec *spec, unsigned proto)
{
    unsigned p = 0;
    while (p < proto && (spec->pattern[p] == NULL ||
                         !hg_bytes_eq(pattern_text(spec, p), pattern_text(spec, proto)))) {
        p++;
    }
    return p;
}

static struct hg_bytes key_text(const struct hg_rule_spec *spec)
{
    const char *text = spec->queue != NULL ? spec->queue : spec->key;
    return text == NULL ? HG_BYTES("") : hg_bytes_str(text);
}

static bool alloc_rules(struct hg_rules *r, const struct hg_rule_spec *specs, size_t n)
{
    size_t parts_n = 1;
    for (size_t i = 0; i < n; i++) {
        parts_n += hg_template_count(key_text(&specs[i]), '.');
        for (unsigned p = 0; p < HG_PROTO_N; p++) {
            bool is_new = specs[i].pattern[p] != NULL && same_pattern(&specs[i], p) == p;
            parts_n += is_new ? hg_template_count(pattern_text(&specs[i], p), '/') : 0;
        }
    }
    r->parts = hg_alloc(parts_n * sizeof(*r->parts));
    r->rules = hg_zalloc((n + 1) * sizeof(*r->rules));
    r->rules_n = n;
    return r->parts != NULL && r->rules != NULL;
}

static bool parse(struct compiler *c, struct hg_template *t, const char *field,
                  struct hg_bytes text, uint8_t sep)
{
    struct hg_bytes part;
    const char *wrong = hg_template_parse(t, c->r->parts + c->parts_n, text, sep, &part);
    if (wrong != NULL) {
        problem_with(c, field, part, wrong);
        *t = (struct hg_template){.rest = HG_NO_PART};
        return false;
    }
    c->parts_n += t->n;
    return true;
}

static bool parse_patterns(struct compiler *c, struct hg_rule *rule)
{
    bool is_fine = true;
    bool has_any = false;
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        struct hg_template *t = &rule->pattern[p];
        t->rest = HG_NO_PART;
        if (c->spec->pattern[p] == NULL) {
            continue;
        }
        has_any = true;
        struct hg_bytes text = pattern_text(c->spec, p);
        unsigned same = same_pattern(c->spec, p);
        if (text.n == 0) {
            problem_with(c, hg_protocol_name(p), text, "is an empty pattern");
            is_fine = false;
        } else if (same < p) {
            *t = rule->pattern[same];
        } else {
            is_fine = parse(c, t, hg_protocol_name(p), text, '/') && is_fine;
        }
    }
    if (!has_any) {
        problem(c, "has no pattern: set topic, or one of mqtt, stomp and http");
    }
    return has_any && is_fine;
}

static void parse_key(struct compiler *c, struct hg_rule *rule)
{
    rule->key_text = key_text(c->spec);
    const char *field = c->spec->queue != NULL ? "queue" : "key";
    if (!parse(c, &rule->key, field, rule->key_text, '.')) {
        return;
    }
    if (c->spec->queue != NULL && rule->key.captures_n > 0) {
        problem_with(c, field, rule->key_text, "is a queue's name and takes no captures");
    } else if (rule->key.captures_n == 0 && rule->key_text.n > HG_KEY_MAX) {
        problem_with(c, field, rule->key_text, "is longer than 255 bytes");
    }
}

/* With its braces. */
static struct hg_bytes as_written(const struct hg_part *capture)
{
    return hg_bytes(capture->text - 1, capture->n + (capture->kind == HG_PART_REST ? 5U : 2U));
}

/* Notes a value of the HTTP request that key or headers name. Its index, or HG_NO_PART and a problem
 * noted. */
static uint8_t add_request(struct compiler *c, struct hg_rule *rule, const char *field,
                           struct hg_bytes piece, const struct hg_request_name *name)
{
    const char *wrong = NULL;
    if (hg_rule_serves(rule, HG_PROTO_MQTT) || hg_rule_serves(rule, HG_PROTO_STOMP)) {
        wrong = "is known over HTTP only: give the rule http = \"…\" and no other pattern";
    } else if (rule->request == NULL &&
               (rule->request = hg_zalloc(HG_REQUEST_MAX * sizeof(*name))) == NULL) {
        wrong = "found no memory";
    }
    uint8_t at = hg_rule_request_find(rule, name);
    if (wrong == NULL && at == HG_REQUEST_MAX) {
        wrong = "is the 9th value of the request, and a rule may name 8";
    }
    if (wrong != NULL) {
        problem_with(c, field, piece, wrong);
        return HG_NO_PART;
    }
    if (at == rule->request_n) {
        rule->request[rule->request_n++] = *name;
    }
    return at;
}

/* From each pattern to the key. */
static void link_levels(struct hg_rule *rule)
{
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        const struct hg_template *pattern = &rule->pattern[p];
        size_t held_n = 0;
        for (uint8_t i = 0; i < pattern->n; i++) {
            struct hg_part *level = &pattern->parts[i];
            if (level->kind != HG_PART_LITERAL) {
                level->at[0] = hg_template_find(&rule->key, hg_part_text(level));
                held_n += level->at[0] != HG_NO_PART;
            }
        }
        if (pattern->parts != NULL && held_n == pattern->captures_n) {
            rule->reversible |= (uint8_t)(1U << p);
        }
    }
}

/* From a word of the key to each pattern. NULL, or what is wrong. */
static const char *link_word(struct hg_rule *rule, struct hg_part *word)
{
    bool is_capture = word->kind == HG_PART_ONE || word->kind == HG_PART_REST;
    for (unsigned p = 0; p < HG_PROTO_N && is_capture; p++) {
        const struct hg_template *pattern = &rule->pattern[p];
        if (pattern->parts == NULL) {
            continue;
        }
        word->at[p] = hg_template_find(pattern, hg_part_text(word));
        if (word->at[p] == HG_NO_PART) {
            return "is not captured by every pattern";
        }
        if (pattern->parts[word->at[p]].kind != word->kind) {
            return word->kind == HG_PART_REST
                       ? "captures one level: write it {name}, without the dots"
                       : "captures the rest: write it {name...}";
        }
    }
    return NULL;
}

static void link_captures(struct compiler *c, struct hg_rule *rule)
{
    link_levels(rule);
    for (uint8_t i = 0; i < rule->key.n; i++) {
        struct hg_part *word = &rule->key.parts[i];
        struct hg_request_name request;
        const char *wrong = link_word(rule, word);
        if (wrong != NULL) {
            problem_with(c, "key", as_written(word), wrong);
        } else if (word->kind == HG_PART_REQUEST) {
            hg_request_name_parse(hg_part_text(word), &request);
            word->at[0] = add_request(c, rule, "key", as_written(word), &request);
            rule->has_request_key = true;
            rule->reversible = 0; /* what the request said is in no address */
        }
    }
}

static void link_header(struct compiler *c, struct hg_rule *rule, size_t i)
{
    struct hg_bytes rest = hg_bytes_str(c->spec->header_values[i]);
    struct hg_bytes piece;
    struct hg_bytes name;
    struct hg_request_name request;
    while (hg_header_next(&rest, &piece, &name)) {
        if (name.p != NULL && hg_request_name_parse(name, &request)) {
            add_request(c, rule, "headers", piece, &request);
        }
    }
}

static void check_headers(struct compiler *c, struct hg_rule *rule)
{
    for (size_t i = 0; i < c->spec->headers_n; i++) {
        struct hg_bytes name = hg_bytes_str(c->spec->header_names[i]);
        bool is_address = hg_bytes_eq(name, HG_BYTES(HG_ADDRESS_HEADER)) &&
                          strcmp(c->spec->header_values[i], "{address}") == 0;
        struct hg_bytes piece;
        const char *wrong = hg_header_check(rule, i, &piece);
        rule->has_address_header = rule->has_address_header || is_address;
        if (name.n == 0 || name.n > HG_KEY_MAX) {
            problem_with(c, "headers", name, "is not a name of 1 to 255 bytes");
        } else if (hg_header_is_reserved(name) && !is_address) {
            problem_with(c, "headers", name, "is reserved");
        } else if (wrong != NULL) {
            problem_with(c, "headers", piece, wrong);
        } else {
            link_header(c, rule, i);
        }
    }
}

static const struct hg_exchange *find_exchange(struct compiler *c, const char *field,
                                               const char *name)
{
    const struct hg_exchange *x =
        name[0] == '\0' ? NULL : hg_map_find(&c->r->by_name, hg_bytes_str(name));
    if (x == NULL) {
        problem_with(c, field, hg_bytes_str(name),
                     "is not declared: add an [[exchange]] with this name");
    }
    return x;
}

static void check_target(struct compiler *c, struct hg_rule *rule)
{
    const struct hg_rule_spec *spec = c->spec;
    rule->exchange = HG_BYTES("");
    rule->type = HG_EXCHANGE_DIRECT;
    if (spec->exchange == NULL && spec->queue == NULL) {
        problem(c, "leads nowhere: set exchange or queue");
    } else if (spec->exchange != NULL && spec->queue != NULL) {
        problem(c, "has both exchange and queue: one of them decides");
    } else if (spec->queue != NULL && (spec->queue[0] == '\0' || spec->key != NULL)) {
        problem(c, spec->key != NULL ? "has a queue, whose name is the key: remove key"
                                     : "has a queue with an empty name");
    } else if (spec->exchange != NULL) {
        const struct hg_exchange *x = find_exchange(c, "exchange", spec->exchange);
        if (x != NULL) {
            rule->exchange = x->name;
            rule->type = x->type;
        }
    }
    for (size_t i = 0; i < spec->via_n; i++) {
        find_exchange(c, "via", spec->via[i]);
    }
}

/* An option that never has an effect would be a lie. */
static void check_slow(struct compiler *c, const struct hg_rule *rule)
{
    bool has_way_back = rule->reversible != 0 || rule->has_address_header;
    bool has_own_queues = rule->type == HG_EXCHANGE_HEADERS || rule->type == HG_EXCHANGE_OTHER;
    if (c->spec->slow == HG_SLOW_DROP_NEW) {
        return;
    }
    if (rule->has_request_key || !has_way_back) {
        problem(c, "has slow, but its key does not hold its address: nothing comes back");
    } else if (has_own_queues && c->spec->via_n == 0) {
        problem(c,
                "has slow, but its exchange's subscribers have a queue each: messages wait there");
    }
}

static void compile_rule(struct compiler *c, struct hg_rule *rule)
{
    rule->spec = c->spec;
    check_target(c, rule);
    bool has_patterns = parse_patterns(c, rule);
    parse_key(c, rule);
    if (has_patterns) { /* or every capture would be reported as unknown */
        link_captures(c, rule);
        check_headers(c, rule);
        check_slow(c, rule);
    }
}

/* Deliveries of `x` may be mapped back by the rule. */
static bool add_reverse(struct hg_rules *r, struct hg_exchange *x, uint32_t index)
{
    const struct hg_rule *rule = &r->rules[index];
    if (x->root == HG_NO_NODE && (x->root = hg_matcher_root(&r->matcher)) == HG_NO_NODE) {
        return false;
    }
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        bool is_fixed = hg_rule_serves(rule, p) && rule->pattern[p].captures_n == 0;
        if (is_fixed && (hg_exchange_ignores_key(x->type) || hg_exchange_ignores_key(rule->type))) {
            x->fallback[p] = index;
        }
    }
    return hg_matcher_add(&r->matcher, x->root, &rule->key, rule->reversible, index);
}

static bool add_patterns(struct hg_rules *r, uint32_t index)
{
    const struct hg_rule *rule = &r->rules[index];
    unsigned done = 0;
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        if (!hg_rule_serves(rule, p) || (done & (1U << p)) != 0) {
            continue;
        }
        unsigned same = 0;
        for (unsigned q = p; q < HG_PROTO_N; q++) {
            same |= rule->pattern[q].parts == rule->pattern[p].parts ? 1U << q : 0;
        }
        done |= same;
        if (!hg_matcher_add(&r->matcher, r->patterns, &rule->pattern[p], same, index)) {
            return false;
        }
    }
    return true;
}

/* From the last rule to the first: hg_matcher_add wants it so. */
static bool build_tries(struct hg_rules *r)
{
    if (!hg_matcher_open(&r->matcher) ||
        (r->patterns = hg_matcher_root(&r->matcher)) == HG_NO_NODE) {
        return false;
    }
    for (uint32_t i = (uint32_t)r->rules_n; i-- > 0;) {
        const struct hg_rule *rule = &r->rules[i];
        if (!add_patterns(r, i) || !add_reverse(r, hg_map_find(&r->by_name, rule->exchange), i)) {
            return false;
        }
        for (size_t v = 0; v < rule->spec->via_n; v++) {
            struct hg_exchange *x = hg_map_find(&r->by_name, hg_bytes_str(rule->spec->via[v]));
            if (!hg_bytes_eq(x->name, rule->exchange) && !add_reverse(r, x, i)) {
                return false;
            }
        }
    }
    return true;
}

struct hg_rules *hg_rules_new(const struct hg_rule_spec *specs, size_t specs_n,
                              const struct hg_exchange_spec *exchanges, size_t exchanges_n,
                              struct hg_writer *err_out)
{
    struct hg_rules *r = hg_zalloc(sizeof(*r));
    struct compiler c = {.r = r, .err = err_out};
    if (r == NULL) {
        goto no_memory;
    }
    hg_map_open(&r->by_name);
    if (!add_exchanges(&c, exchanges, exchanges_n) || !alloc_rules(r, specs, specs_n)) {
        goto no_memory;
    }
    for (size_t i = 0; i < specs_n; i++) {
        c.spec = &specs[i];
        compile_rule(&c, &r->rules[i]);
    }
    if (c.problems_n > 0) {
        hg_rules_free(r);
        return NULL;
    }
    if (!build_tries(r)) {
        goto no_memory;
    }
    return r;
no_memory:
    hg_writer_str(err_out, "out of memory\n");
    hg_rules_free(r);
    return NULL;
}

void hg_rules_free(struct hg_rules *r)
{
    if (r == NULL) {
        return;
    }
    hg_matcher_close(&r->matcher);
    hg_map_close(&r->by_name);
    for (size_t i = 0; r->rules != NULL && i < r->rules_n; i++) {
        hg_free(r->rules[i].request);
    }
    hg_free(r->exchanges);
    hg_free(r->parts);
    hg_free(r->rules);
    hg_free(r);
}
