/* SPDX-License-Identifier: Apache-2.0 */
#include "message/topic.h"
#include "rules/access_priv.h"

/* ---- Captures that must be the client's own ---- */

/* What the capture must be; false: the client has no such thing. */
static bool own_value(const struct hg_part *part, const struct hg_rule_who *who,
                      struct hg_bytes *value_out)
{
    struct hg_bytes name = hg_part_text(part);
    *value_out = part->own == HG_OWN_USER ? who->user : who->client_id;
    if (part->own != HG_OWN_CLAIM) {
        return value_out->n > 0;
    }
    return who->claim != NULL &&
           who->claim(who->claims, hg_bytes_skip(name, sizeof(HG_CLAIM_PREFIX) - 1), value_out) &&
           value_out->n > 0;
}

/* Whether the level, or for a {name...} all from there on, is the client's own; a wildcard of a
 * filter may be. */
static bool may_be_own(const struct hg_part *part, const struct hg_cut *levels, uint8_t i,
                       const struct hg_rule_who *who)
{
    struct hg_bytes own;
    if (!own_value(part, who, &own)) {
        return false;
    }
    if (levels->is_filter && i >= levels->open) {
        return true;
    }
    if (i >= levels->n) {
        return false;
    }
    if (part->kind == HG_PART_REST) {
        struct hg_bytes rest = hg_cut_from(levels, i);
        return hg_bytes_eq(rest, own) || (levels->is_filter && hg_topic_matches(rest, own));
    }
    struct hg_bytes level = levels->parts[i];
    return hg_bytes_eq(level, own) || (levels->is_filter && hg_bytes_eq(level, HG_BYTES("+")));
}

bool hg_rule_admits(const struct hg_rule *rule, const struct hg_rule_who *who, uint64_t roles,
                    enum hg_protocol proto, const struct hg_cut *levels)
{
    if (who == NULL) {
        return true;
    }
    if ((roles & who->roles) == 0) {
        return false;
    }
    const struct hg_template *pattern = &rule->pattern[proto];
    for (uint8_t i = 0; i < pattern->n; i++) {
        const struct hg_part *part = &pattern->parts[i];
        if (part->own != HG_OWN_NOTHING && !may_be_own(part, levels, i, who)) {
            return false;
        }
    }
    return true;
}

bool hg_rules_may_publish(const struct hg_rules *r, const struct hg_rule_who *who,
                          enum hg_protocol proto, const struct hg_route *route)
{
    if (who == NULL) {
        return true;
    }
    const struct hg_rule *rule = &r->rules[route->rule];
    const struct hg_template *pattern = &rule->pattern[proto];
    if ((rule->spec->publish_roles & who->roles) == 0) {
        return false;
    }
    size_t captured_n = 0;
    for (uint8_t i = 0; i < pattern->n; i++) {
        const struct hg_part *part = &pattern->parts[i];
        struct hg_bytes own;
        if (part->kind == HG_PART_LITERAL) {
            continue;
        }
        struct hg_bytes is =
            captured_n < route->captures_n ? route->captures[captured_n] : (struct hg_bytes){0};
        captured_n++;
        if (part->own != HG_OWN_NOTHING && (!own_value(part, who, &own) || !hg_bytes_eq(is, own))) {
            return false;
        }
    }
    return true;
}

/* ---- Deliveries ---- */

static void add_rule(struct hg_rule_gate *g, const struct hg_rule *rule, enum hg_protocol proto,
                     const struct hg_cut *levels)
{
    const struct hg_template *pattern = &rule->pattern[proto];
    g->roles[g->roles_n++] = rule->spec->subscribe_roles;
    for (uint8_t i = 0; i < pattern->n; i++) {
        const struct hg_part *part = &pattern->parts[i];
        if (part->own != HG_OWN_NOTHING) {
            struct hg_bytes is = part->kind == HG_PART_REST || i >= levels->n
                                     ? hg_cut_from(levels, i)
                                     : levels->parts[i];
            g->own[g->own_n++] = (struct hg_rule_own){part, is};
        }
    }
}

void hg_rule_gate_open(struct hg_rule_gate *g, const struct hg_rules *r, enum hg_protocol proto,
                       struct hg_bytes address, size_t mapped_by)
{
    struct hg_bytes parts[HG_LEVELS_CUT];
    struct hg_cut levels = hg_cut_address(address, parts);
    uint32_t first = hg_matcher_find(&r->matcher, r->patterns, proto, &levels, 0);
    g->roles_n = 0;
    g->own_n = 0;
    if (first != HG_NO_RULE_INDEX) {
        add_rule(g, &r->rules[first], proto, &levels);
    }
    if (mapped_by < r->rules_n && mapped_by != first) {
        add_rule(g, &r->rules[mapped_by], proto, &levels);
    }
}

bool hg_rule_gate_admits(const struct hg_rule_gate *g, const struct hg_rule_who *who)
{
    if (who == NULL) {
        return true;
    }
    for (unsigned i = 0; i < g->roles_n; i++) {
        if ((g->roles[i] & who->roles) == 0) {
            return false;
        }
    }
    for (size_t i = 0; i < g->own_n; i++) {
        struct hg_bytes own;
        if (!own_value(g->own[i].part, who, &own) || !hg_bytes_eq(g->own[i].is, own)) {
            return false;
        }
    }
    return g->roles_n > 0;
}

/* ---- RabbitMQ's names ---- */

static bool glob(struct hg_bytes pattern, struct hg_bytes name)
{
    size_t p = 0;
    size_t n = 0;
    size_t star = SIZE_MAX; /* the last one, and how much of the name it has taken */
    size_t taken = 0;
    while (n < name.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            taken = n;
        } else if (p < pattern.n && pattern.p[p] == name.p[n]) {
            p++;
            n++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            n = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*') {
        p++;
    }
    return p == pattern.n;
}

bool hg_access_name_matches(struct hg_bytes pattern, struct hg_bytes name)
{
    const struct hg_bytes ours = HG_BYTES("headgate.");
    return glob(pattern, name) && (!hg_bytes_starts(name, ours) || hg_bytes_starts(pattern, ours));
}

/* reach[j]: the words of the pattern so far take the first j words of the key. */
bool hg_access_key_matches(struct hg_bytes pattern, struct hg_bytes key)
{
    struct hg_bytes words[HG_WORDS_CUT];
    bool reach[HG_WORDS_CUT + 1] = {true};
    struct hg_bytes word;
    bool has_more = pattern.n > 0;
    if (key.n > HG_KEY_MAX) {
        return false;
    }
    struct hg_cut cut = hg_cut_key(key, words);
    while (hg_topic_next(&pattern, &has_more, '.', &word)) {
        bool is_rest = hg_bytes_eq(word, HG_BYTES("#"));
        bool is_any = hg_bytes_eq(word, HG_BYTES("*"));
        for (size_t j = cut.n + 1; !is_rest && j-- > 0;) {
            reach[j] = j > 0 && reach[j - 1] && (is_any || hg_bytes_eq(word, cut.parts[j - 1]));
        }
        for (size_t j = 1; is_rest && j <= cut.n; j++) {
            reach[j] = reach[j] || reach[j - 1];
        }
    }
    return reach[cut.n];
}
