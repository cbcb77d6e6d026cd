/* SPDX-License-Identifier: Apache-2.0 */
/* What `headgate check` says about a table that is valid but perhaps not what was meant.
 *
 * A collision is shown, not guessed: two rules whose key templates overlap get a key that both
 * take; it counts if the address that the later rule makes of it is really published through that
 * rule and comes back as another one. */
#include "base/buf.h"
#include "rules/key.h"

enum { PAIRS_MAX = 2000000 }; /* compared in one report; a bound for tables made of overlaps */

struct report {
    const struct hg_rules *r;
    struct hg_writer *out;
    size_t findings_n;
    size_t pairs_n;
};

static void begin_finding(struct report *rep, const struct hg_rule *rule)
{
    rep->findings_n++;
    if (rule->spec->where != NULL) {
        hg_writer_printf(rep->out, "%s: ", rule->spec->where);
    }
    hg_writer_printf(rep->out, "rule %s: ", rule->spec->name);
}

/* " over mqtt, http", or nothing if these are all that the rule serves. */
static void write_protocols(struct report *rep, const struct hg_rule *rule, unsigned protos)
{
    const char *before = " over ";
    unsigned served = 0;
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        served |= hg_rule_serves(rule, p) ? 1U << p : 0;
    }
    for (unsigned p = 0; p < HG_PROTO_N && protos != served; p++) {
        if ((protos & (1U << p)) != 0) {
            hg_writer_printf(rep->out, "%s%s", before, hg_protocol_name(p));
            before = ", ";
        }
    }
}

/* The gateway's own paths, and the destinations that RabbitMQ's STOMP plugin has: taken before any
 * rule. */
static const struct {
    enum hg_protocol proto;
    const char *text;
} reserved[] = {
    {HG_PROTO_HTTP, "/v1"},          {HG_PROTO_HTTP, "/api"},
    {HG_PROTO_HTTP, "/ws"},          {HG_PROTO_HTTP, "/mqtt"},
    {HG_PROTO_STOMP, "/exchange"},   {HG_PROTO_STOMP, "/queue"},
    {HG_PROTO_STOMP, "/amq/queue"},  {HG_PROTO_STOMP, "/topic"},
    {HG_PROTO_STOMP, "/temp-queue"}, {HG_PROTO_STOMP, "/reply-queue"},
};

const char *hg_rules_reserved(enum hg_protocol proto, struct hg_bytes address)
{
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        struct hg_bytes prefix = hg_bytes_str(reserved[i].text + 1);
        if (reserved[i].proto == proto && hg_bytes_starts(address, prefix) &&
            (address.n == prefix.n || address.p[prefix.n] == '/')) {
            return reserved[i].text;
        }
    }
    return NULL;
}

static void report_reserved(struct report *rep, const struct hg_rule *rule)
{
    for (unsigned p = HG_PROTO_STOMP; p < HG_PROTO_N; p++) {
        struct hg_bytes text = hg_bytes_str(rule->spec->pattern[p]);
        text = text.n > 0 && text.p[0] == '/' ? hg_bytes_skip(text, 1) : text;
        const char *prefix = hg_rules_reserved(p, text);
        if (prefix != NULL) {
            begin_finding(rep, rule);
            hg_writer_printf(rep->out, "%s takes %s for itself%s\n", hg_protocol_name(p), prefix,
                             p == HG_PROTO_STOMP ? ", unless [stomp] rabbitmq_destinations = false"
                                                 : ": only /v1/topics/ reaches this rule");
        }
    }
}

static void report_one_way(struct report *rep, const struct hg_rule *rule)
{
    if (rule->has_request_key) {
        begin_finding(rep, rule);
        hg_writer_str(rep->out, "its key holds what only a request says: publish-only, nothing "
                                "comes back through it\n");
        return;
    }
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        const struct hg_template *pattern = &rule->pattern[p];
        if (pattern->parts == NULL || (rule->reversible & (1U << p)) != 0 ||
            rule->has_address_header) {
            continue;
        }
        begin_finding(rep, rule);
        bool is_queue = rule->spec->queue != NULL;
        hg_writer_str(rep->out,
                      is_queue ? "its queue's name does not hold" : "its key does not hold");
        for (uint8_t i = 0; i < pattern->n; i++) {
            const struct hg_part *part = &pattern->parts[i];
            if (part->kind != HG_PART_LITERAL && part->at[0] == HG_NO_PART) {
                hg_writer_printf(rep->out, " {%.*s%s}", HG_BYTES_FMT(hg_part_text(part)),
                                 part->kind == HG_PART_REST ? "..." : "");
            }
        }
        hg_writer_printf(rep->out,
                         ": %s; a header " HG_ADDRESS_HEADER " = \"{address}\" would carry it\n",
                         is_queue ? "its consumers do not learn the address"
                                  : "publish-only, nothing comes back through it");
        return; /* once, whatever the protocol */
    }
}

static void report_unreached(struct report *rep, uint32_t index)
{
    const struct hg_rule *rule = &rep->r->rules[index];
    uint32_t by[HG_PROTO_N];
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        by[p] = !hg_rule_serves(rule, p)
                    ? HG_NO_RULE_INDEX
                    : hg_matcher_cover(&rep->r->matcher, rep->r->patterns, p, &rule->pattern[p]);
    }
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        if (by[p] >= index) {
            continue;
        }
        unsigned same = 0;
        uint32_t other = by[p];
        for (unsigned q = p; q < HG_PROTO_N; q++) {
            same |= by[q] == other ? 1U << q : 0;
            by[q] = by[q] == other ? HG_NO_RULE_INDEX : by[q];
        }
        begin_finding(rep, rule);
        hg_writer_str(rep->out, "is never reached by a publish");
        write_protocols(rep, rule, same);
        hg_writer_printf(rep->out, ": rule %s before it takes every such address\n",
                         rep->r->rules[other].spec->name);
    }
}

/* The part of a template that takes word w of `words_n`; NULL inside its rest. */
static const struct hg_part *part_of(const struct hg_template *t, size_t w, size_t words_n)
{
    if (w < t->rest && w < t->n) { /* HG_NO_PART is above all */
        return &t->parts[w];
    }
    size_t behind = words_n - w;
    return behind < (size_t)(t->n - t->rest) ? &t->parts[t->n - behind] : NULL;
}

/* How many words a key has that both may take; 0 if none. */
static size_t common_words_n(const struct hg_template *a, const struct hg_template *b)
{
    bool has_a = a->rest != HG_NO_PART;
    bool has_b = b->rest != HG_NO_PART;
    if (has_a && has_b) {
        size_t head_n = a->rest > b->rest ? a->rest : b->rest;
        size_t a_tail_n = (size_t)(a->n - 1 - a->rest);
        size_t b_tail_n = (size_t)(b->n - 1 - b->rest);
        return head_n + 1 + (a_tail_n > b_tail_n ? a_tail_n : b_tail_n);
    }
    if (!has_a && !has_b) {
        return a->n == b->n ? a->n : 0;
    }
    size_t fixed_n = has_a ? b->n : a->n;
    return fixed_n + 1 >= (has_a ? a->n : b->n) ? fixed_n : 0;
}

/* A key that both templates take: their literals, the names of captures elsewhere. 0 if there is
 * none, or none short enough. */
static size_t write_common_key(const struct hg_template *a, const struct hg_template *b,
                               uint8_t key[HG_KEY_MAX])
{
    size_t words_n = common_words_n(a, b);
    struct hg_sink sink = {.out = key, .cap = HG_KEY_MAX};
    for (size_t w = 0; w < words_n; w++) {
        const struct hg_part *pa = part_of(a, w, words_n);
        const struct hg_part *pb = part_of(b, w, words_n);
        bool is_a_fixed = pa != NULL && pa->kind == HG_PART_LITERAL;
        bool is_b_fixed = pb != NULL && pb->kind == HG_PART_LITERAL;
        if (is_a_fixed && is_b_fixed && !hg_bytes_eq(hg_part_text(pa), hg_part_text(pb))) {
            return 0;
        }
        const struct hg_part *shown = is_b_fixed || pa == NULL ? pb : pa;
        if (w > 0) {
            hg_sink_byte(&sink, '.');
        }
        hg_sink_bytes(&sink, shown == NULL ? HG_BYTES("rest") : hg_part_text(shown));
    }
    return sink.n <= HG_KEY_MAX ? sink.n : 0;
}

struct collision {
    struct report *rep;
    const struct hg_exchange *exchange; /* whose deliveries are looked at */
    enum hg_protocol proto;
    uint32_t index; /* of the rule that may be in for a surprise */
    bool is_found;
};

static void report_collision(const struct collision *c, size_t other, struct hg_bytes key,
                             struct hg_bytes address, struct hg_bytes back)
{
    begin_finding(c->rep, &c->rep->r->rules[c->index]);
    hg_writer_printf(c->rep->out,
                     "collides with rule %s: %s address %.*s becomes key %.*s, which comes back "
                     "from exchange \"%.*s\" as %.*s\n",
                     c->rep->r->rules[other].spec->name, hg_protocol_name(c->proto),
                     HG_BYTES_FMT(address), HG_BYTES_FMT(key), HG_BYTES_FMT(c->exchange->name),
                     HG_BYTES_FMT(back));
}

/* hg_matcher_fn: rule `other` may overlap. */
static bool try_pair(void *ctx, uint32_t other, bool is_covering)
{
    struct collision *c = ctx;
    const struct hg_rules *r = c->rep->r;
    const struct hg_rule *rule = &r->rules[c->index];
    struct hg_bytes parts[HG_WORDS_CUT];
    uint8_t key_buf[HG_KEY_MAX];
    struct hg_writer address = {0};
    struct hg_writer back = {0};
    struct hg_route route;
    size_t by;
    (void)is_covering;
    if (c->rep->pairs_n++ >= PAIRS_MAX) {
        return false;
    }
    struct hg_bytes key =
        hg_bytes(key_buf, write_common_key(&rule->key, &r->rules[other].key, key_buf));
    struct hg_cut words = hg_cut_key(key, parts);
    size_t bound = hg_address_bound(&rule->pattern[c->proto], key.n);
    struct hg_sink sink = {.out = hg_writer_reserve(&address, bound), .cap = bound};
    bool fits = (key.n > 0 || (rule->key.n == 0 && r->rules[other].key.n == 0)) &&
                sink.out != NULL && hg_address_make(rule, c->proto, &words, &sink);
    struct hg_bytes sent = hg_bytes(sink.out, fits ? sink.n : 0);
    if (hg_rules_publish(r, c->proto, sent, &route) == HG_OK && route.rule == c->index &&
        hg_bytes_eq(route.key, key) &&
        hg_rules_deliver(r, c->proto, c->exchange->name, key, HG_BYTES(""), &back, &by) &&
        by != c->index && !hg_bytes_eq(hg_writer_view(&back), sent)) {
        report_collision(c, by, key, sent, hg_writer_view(&back));
        c->is_found = true;
    }
    hg_writer_close(&address);
    hg_writer_close(&back);
    return !c->is_found;
}

static bool report_collisions_at(struct report *rep, struct hg_bytes exchange, uint32_t index)
{
    const struct hg_rule *rule = &rep->r->rules[index];
    const struct hg_exchange *x = hg_map_find(&rep->r->by_name, exchange);
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        struct collision c = {rep, x, p, index, false};
        if ((rule->reversible & (1U << p)) != 0) {
            hg_matcher_overlap(&rep->r->matcher, x->root, p, &rule->key, index, try_pair, &c);
        }
        if (c.is_found) {
            return true; /* one is enough to look into the rule */
        }
    }
    return false;
}

static void report_collisions(struct report *rep, uint32_t index)
{
    const struct hg_rule *rule = &rep->r->rules[index];
    bool is_found = rule->has_address_header || report_collisions_at(rep, rule->exchange, index);
    for (size_t i = 0; i < rule->spec->via_n && !is_found; i++) {
        is_found = report_collisions_at(rep, hg_bytes_str(rule->spec->via[i]), index);
    }
}

size_t hg_rules_report(const struct hg_rules *r, struct hg_writer *out)
{
    struct report rep = {.r = r, .out = out};
    for (uint32_t i = 0; i < r->rules_n; i++) {
        if (!r->rules[i].spec->is_builtin) {
            report_reserved(&rep, &r->rules[i]);
            report_one_way(&rep, &r->rules[i]);
            report_unreached(&rep, i);
            report_collisions(&rep, i);
        }
    }
    if (rep.pairs_n > PAIRS_MAX) {
        rep.findings_n++;
        hg_writer_str(out, "rules: too many keys overlap to look for every collision\n");
    }
    return rep.findings_n;
}
