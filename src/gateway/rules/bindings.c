/* SPDX-License-Identifier: Apache-2.0 */
/* From a filter to the bindings that bring everything it matches.
 *
 * Whoever subscribes is promised what clients publish to the addresses that the filter matches.
 * That goes through the rules that the filter meets, in table order, up to the first that takes
 * every such address: its *owner*; later rules see only what others publish to their exchanges. So
 * a wildcard is refused when a rule up to the owner cannot express it, except that a filter which
 * begins with a wildcard asks for whatever there is: it is not refused because of one rule among
 * many (only because of its owner). Later rules that cannot express it are left out. A queue is
 * consumed whole: only by a filter with the literals of its rule and wildcards for all its
 * captures, so that `#` does not empty every queue.
 *
 * A rule that the subscriber may not use is left out. If it is the owner, so is all behind it:
 * what that brought, the owner's addresses, would not be shown.
 *
 * Rules behind the owner are widened along with it, to what of its addresses could come through
 * them: else each subscriber would cost RabbitMQ a binding all the same. Where that is the owner's
 * own binding, they need none. */
#include "base/mem.h"
#include "message/topic.h"
#include "rules/access_priv.h"
#include "rules/key.h"

#include <stdlib.h>

struct meeting {
    uint32_t rule;
    bool is_covering;
};

struct meetings {
    struct meeting *items;
    size_t n, cap;
};

static bool add_meeting(void *ctx, uint32_t rule, bool is_covering)
{
    struct meetings *all = ctx;
    if (all->n == all->cap) {
        size_t cap = all->cap == 0 ? 16 : all->cap * 2;
        struct meeting *items = hg_realloc(all->items, cap * sizeof(*items));
        if (items == NULL) {
            return false;
        }
        all->items = items;
        all->cap = cap;
    }
    all->items[all->n++] = (struct meeting){rule, is_covering};
    return true;
}

static int by_table_order(const void *a, const void *b)
{
    const struct meeting *x = a;
    const struct meeting *y = b;
    return (x->rule > y->rule) - (x->rule < y->rule);
}

enum { OWNER_TEXT_MAX = 2 * HG_KEY_MAX };

struct subscription {
    const struct hg_rules *r;
    const struct hg_rule_who *who;
    enum hg_protocol proto;
    struct hg_cut filter;
    /* The owner's binding once it has been given, if it has one only; its kind is QUEUE until then. */
    struct hg_binding_plan owner;
    uint8_t owner_key[HG_KEY_MAX], owner_wide[HG_KEY_MAX];
};

/* What a rule makes of a filter. */
enum verdict {
    PLANNED,
    IMPOSSIBLE,   /* no message can come through this rule: its key would be too long, or empty */
    WITHOUT,      /* a wildcard met a queue's literal */
    FORBIDDEN,    /* the subscriber may not */
    ONE_WAY,      /* nothing comes back */
    INEXPRESSIBLE /* its exchange or queue cannot select this */
};

static bool is_wild(const struct hg_cut *filter, size_t level)
{
    return level >= filter->open ||
           (level < filter->n && hg_bytes_eq(filter->parts[level], HG_BYTES("+")));
}

static enum verdict judge_queue(const struct hg_rule *rule, enum hg_protocol proto,
                                const struct hg_cut *filter)
{
    const struct hg_template *pattern = &rule->pattern[proto];
    for (uint8_t i = 0; i < pattern->n; i++) {
        bool is_literal = pattern->parts[i].kind == HG_PART_LITERAL;
        if (is_literal && is_wild(filter, i)) {
            return WITHOUT;
        }
    }
    if (pattern->captures_n > 0 && !rule->has_address_header) {
        return ONE_WAY;
    }
    for (uint8_t i = 0; i < pattern->n; i++) {
        uint8_t kind = pattern->parts[i].kind;
        bool is_whole = kind == HG_PART_REST ? filter->open < filter->n && i >= filter->open
                                             : is_wild(filter, i);
        if (kind != HG_PART_LITERAL && !is_whole) {
            return INEXPRESSIBLE;
        }
    }
    return PLANNED;
}

/* key_out is set where the verdict is PLANNED, and only for exchanges that look at it. */
static enum verdict judge(const struct subscription *s, const struct hg_rule *rule,
                          struct hg_key *key_out)
{
    if (!hg_rule_admits(rule, s->who, rule->spec->subscribe_roles, s->proto, &s->filter)) {
        return FORBIDDEN;
    }
    if (rule->spec->queue != NULL) {
        return judge_queue(rule, s->proto, &s->filter);
    }
    bool is_told = rule->has_address_header && !rule->has_request_key;
    if ((rule->reversible & (1U << s->proto)) == 0 && !is_told) {
        return ONE_WAY;
    }
    if (hg_exchange_ignores_key(rule->type)) {
        return PLANNED;
    }
    enum hg_status status = hg_key_make(rule, s->proto, &s->filter, key_out);
    if (key_out->has_wildcard && rule->type == HG_EXCHANGE_DIRECT) {
        return INEXPRESSIBLE;
    }
    bool has_hashed = key_out->has_wildcard && rule->spec->overlong == HG_OVERLONG_HASH;
    return status == HG_OK || has_hashed ? PLANNED : IMPOSSIBLE;
}

static void set_wide_key(const struct subscription *s, const struct hg_rule *rule,
                         struct hg_binding_plan *plan, struct hg_key *wide)
{
    const struct hg_rule_spec *spec = rule->spec;
    if (spec->scope == HG_SCOPE_AUTO && rule->key.parts[0].kind != HG_PART_LITERAL) {
        return;
    }
    struct hg_bytes parts[HG_LEVELS_CUT];
    struct hg_cut everything = hg_cut_filter(HG_BYTES("#"), parts);
    enum hg_status status = hg_key_make(rule, s->proto, &everything, wide);
    if (spec->overlong == HG_OVERLONG_HASH) {
        hg_key_cut_to_prefix(wide, "#");
    } else if (status != HG_OK) {
        return;
    }
    plan->wide_key = wide->bytes;
    plan->is_widenable = true;
}

/* All addresses of a pattern as a filter; empty where that is too long. */
static struct hg_bytes filter_of(const struct hg_template *pattern, char text[OWNER_TEXT_MAX])
{
    size_t n = 0;
    for (uint8_t i = 0; i < pattern->n; i++) {
        const struct hg_part *part = &pattern->parts[i];
        struct hg_bytes level = part->kind == HG_PART_LITERAL ? hg_part_text(part)
                                : part->kind == HG_PART_REST  ? HG_BYTES("#")
                                                              : HG_BYTES("+");
        if (n + 1 + level.n > OWNER_TEXT_MAX) {
            return HG_BYTES("");
        }
        if (i > 0) {
            text[n++] = '/';
        }
        memcpy(text + n, level.p, level.n);
        n += level.n;
    }
    return hg_bytes(text, n);
}

static void follow_owner(const struct subscription *s, const struct hg_rule *rule,
                         struct hg_binding_plan *plan, struct hg_key *wide)
{
    char text[OWNER_TEXT_MAX];
    struct hg_bytes parts[HG_LEVELS_CUT];
    if (s->owner.kind != HG_PLAN_FEED || !s->owner.is_widenable ||
        rule->spec->overlong == HG_OVERLONG_HASH) {
        return;
    }
    struct hg_bytes filter = filter_of(&s->r->rules[s->owner.rule].pattern[s->proto], text);
    if (filter.n == 0) {
        return;
    }
    struct hg_cut all = hg_cut_filter(filter, parts);
    bool is_made = hg_key_make(rule, s->proto, &all, wide) == HG_OK;
    if (is_made && (s->owner.scope == HG_SCOPE_WIDE || wide->prefix_n > 0)) {
        plan->wide_key = wide->bytes;
        plan->is_widenable = true;
        plan->scope = s->owner.scope;
        plan->widened_with = s->owner.rule;
    }
}

/* Whether the owner's binding brings all that this one would, widened or not. */
static bool is_owners(const struct subscription *s, const struct hg_binding_plan *plan)
{
    const struct hg_binding_plan *owner = &s->owner;
    return owner->kind == HG_PLAN_FEED && plan->kind == HG_PLAN_FEED &&
           hg_bytes_eq(plan->exchange, owner->exchange) && hg_bytes_eq(plan->key, owner->key) &&
           plan->is_widenable == owner->is_widenable &&
           plan->widened_with == (plan->is_widenable ? owner->rule : plan->rule) &&
           hg_bytes_eq(plan->wide_key, owner->wide_key);
}

static void keep_owner(struct subscription *s, const struct hg_binding_plan *plan)
{
    s->owner = *plan;
    memcpy(s->owner_key, plan->key.p, plan->key.n);
    s->owner.key.p = s->owner_key;
    if (plan->is_widenable) {
        memcpy(s->owner_wide, plan->wide_key.p, plan->wide_key.n);
        s->owner.wide_key.p = s->owner_wide;
    }
}

static void give_binding_plans(struct subscription *s, struct hg_binding_plan *plan,
                               struct hg_key *key, bool is_owner, hg_plan_fn *each, void *ctx)
{
    const struct hg_rule *rule = &s->r->rules[plan->rule];
    uint8_t wide_buf[HG_KEY_MAX];
    struct hg_key wide = {.buf = wide_buf};
    bool may_widen = rule->type == HG_EXCHANGE_TOPIC && !rule->spec->is_mandatory &&
                     rule->spec->scope != HG_SCOPE_EXACT && rule->key.captures_n > 0;
    if (may_widen) {
        set_wide_key(s, rule, plan, &wide);
    }
    if (may_widen && !plan->is_widenable) {
        follow_owner(s, rule, plan, &wide);
    }
    bool has_hashed = key->has_wildcard && rule->spec->overlong == HG_OVERLONG_HASH;
    if (has_hashed && plan->kind == HG_PLAN_OWN_QUEUE) { /* one queue, so one binding for both */
        hg_key_cut_to_prefix(key, "#");
        has_hashed = false;
    }
    plan->key = key->bytes;
    if (is_owner && !has_hashed && plan->kind == HG_PLAN_FEED && key->bytes.n <= HG_KEY_MAX) {
        keep_owner(s, plan);
    }
    if (key->bytes.n <= HG_KEY_MAX && (is_owner || has_hashed || !is_owners(s, plan))) {
        each(ctx, plan);
    }
    if (has_hashed) {
        hg_key_cut_to_prefix(key, HG_HASHED_KEYS);
        plan->key = key->bytes;
        each(ctx, plan);
    }
}

static void give_plans(struct subscription *s, uint32_t index, struct hg_key *key, bool is_owner,
                       hg_plan_fn *each, void *ctx)
{
    const struct hg_rule *rule = &s->r->rules[index];
    struct hg_binding_plan plan = {.rule = index,
                                   .kind = HG_PLAN_FEED,
                                   .exchange = rule->exchange,
                                   .key = HG_BYTES(""),
                                   .scope = rule->spec->scope,
                                   .widened_with = index};
    if (rule->spec->queue != NULL) {
        plan.kind = HG_PLAN_QUEUE;
        plan.key = plan.queue = rule->key_text;
        each(ctx, &plan);
        return;
    }
    if (rule->type == HG_EXCHANGE_HEADERS || rule->type == HG_EXCHANGE_OTHER) {
        plan.kind = HG_PLAN_OWN_QUEUE;
    }
    if (hg_exchange_ignores_key(rule->type)) {
        each(ctx, &plan);
        return;
    }
    give_binding_plans(s, &plan, key, is_owner, each, ctx);
}

static const char *reason(const struct hg_rule *rule, enum verdict v)
{
    if (v == ONE_WAY && rule->spec->queue != NULL) {
        return "messages in the rule's queue do not tell what it captures, so they have no address";
    }
    if (v == ONE_WAY && rule->has_request_key) {
        return "the rule's key holds what only a request says, so nothing comes back through it";
    }
    if (v == ONE_WAY) {
        return "the rule's key does not hold every capture, so nothing comes back through it";
    }
    return rule->spec->queue != NULL
               ? "a queue is consumed whole: subscribe with wildcards for all that its rule captures"
               : "a direct exchange takes no wildcard: subscribe to whole addresses";
}

/* OK if there are plans to give; *met is cut where nothing counts any more. */
static enum hg_status decide(const struct subscription *s, struct meetings *met,
                             const char **why_out)
{
    uint8_t buf[HG_KEY_MAX];
    struct hg_key key = {.buf = buf};
    bool begins_wild = is_wild(&s->filter, 0);
    bool is_owned = false;
    size_t planned_n = 0;
    enum hg_status none = HG_NO_RULE;
    for (size_t i = 0; i < met->n; i++) {
        const struct hg_rule *rule = &s->r->rules[met->items[i].rule];
        enum verdict v = judge(s, rule, &key);
        bool is_owner = !is_owned && met->items[i].is_covering;
        planned_n += v == PLANNED;
        if (v == FORBIDDEN) {
            none = none == HG_NO_RULE ? HG_NOT_ALLOWED : none;
            met->n = is_owner ? i : met->n;
        } else if (v == INEXPRESSIBLE || v == ONE_WAY) {
            enum hg_status refusal = v == ONE_WAY ? HG_NO_RULE : HG_NO_WILDCARD;
            none = none == HG_NO_WILDCARD ? none : refusal;
            *why_out = none == refusal ? reason(rule, v) : *why_out;
            if (is_owner || (v == INEXPRESSIBLE && !is_owned && !begins_wild)) {
                return refusal;
            }
        } else if (v == IMPOSSIBLE && none == HG_NO_RULE) {
            none = HG_KEY_TOO_LONG;
        } else if (v == WITHOUT) {
            none = HG_NO_WILDCARD;
            *why_out = reason(rule, INEXPRESSIBLE);
        }
        is_owned = is_owned || is_owner;
    }
    if (planned_n > 0) {
        *why_out = NULL;
    }
    return planned_n > 0 ? HG_OK : none;
}

static bool is_filter(struct hg_bytes filter)
{
    bool has_more = filter.n > 0;
    bool is_ended = false;
    struct hg_bytes level;
    while (hg_topic_next(&filter, &has_more, '/', &level)) {
        if (is_ended || (level.n > 1 && hg_topic_has_wildcard(level))) {
            return false;
        }
        is_ended = hg_bytes_eq(level, HG_BYTES("#"));
    }
    return true;
}

/* All rules that the filter meets, in table order. False when there is no memory. */
static bool meet(const struct subscription *s, struct meetings *met)
{
    const struct hg_rules *r = s->r;
    if (!hg_matcher_meet(&r->matcher, r->patterns, s->proto, &s->filter, add_meeting, met)) {
        return false;
    }
    if (met->n > 1) {
        qsort(met->items, met->n, sizeof(met->items[0]), by_table_order);
    }
    return true;
}

enum hg_status hg_rules_subscribe(const struct hg_rules *r, const struct hg_rule_who *who,
                                  enum hg_protocol proto, struct hg_bytes filter, hg_plan_fn *each,
                                  void *ctx, const char **why_out)
{
    struct hg_bytes parts[HG_LEVELS_CUT];
    struct subscription s = {.r = r, .who = who, .proto = proto, .owner = {.kind = HG_PLAN_QUEUE}};
    struct meetings met = {0};
    bool is_owned = false;
    *why_out = NULL;
    if (filter.n == 0 || !is_filter(filter)) {
        return HG_BAD_FILTER;
    }
    s.filter = hg_cut_filter(filter, parts);
    enum hg_status status = HG_NO_MEMORY;
    if (meet(&s, &met)) {
        status = decide(&s, &met, why_out);
    }
    for (size_t i = 0; status == HG_OK && i < met.n; i++) {
        uint8_t buf[HG_KEY_MAX];
        struct hg_key key = {.buf = buf};
        bool is_owner = !is_owned && met.items[i].is_covering;
        if (judge(&s, &r->rules[met.items[i].rule], &key) == PLANNED) {
            give_plans(&s, met.items[i].rule, &key, is_owner, each, ctx);
        }
        is_owned = is_owned || is_owner;
    }
    hg_free(met.items);
    return status;
}

bool hg_rules_owner(const struct hg_rules *r, enum hg_protocol proto, struct hg_bytes filter,
                    size_t *rule_out)
{
    struct hg_bytes parts[HG_LEVELS_CUT];
    struct subscription s = {.r = r, .proto = proto};
    struct meetings met = {0};
    if (filter.n == 0 || !is_filter(filter)) {
        return false;
    }
    s.filter = hg_cut_filter(filter, parts);
    bool is_owned = meet(&s, &met) && met.n > 0 && met.items[0].is_covering;
    *rule_out = is_owned ? met.items[0].rule : 0;
    hg_free(met.items);
    return is_owned;
}
