/* SPDX-License-Identifier: Apache-2.0 */
/* First-match tries.
 *
 * A node knows its literal children (one hash table for all nodes), its child for any one part, and
 * its child for any number of parts. Below the latter, parts are matched from the end of the text
 * backwards, since a key template may go on after `{name...}`.
 *
 * A text has at most two ways on at each node, literal or capture, so a look-up visits no more
 * nodes than there are distinct template prefixes that take the text's own prefix; tables that mix
 * literals and captures at every depth could make that 2^depth. Hence each node stores the lowest
 * rule beneath it: the more promising child goes first and a subtree that cannot win is not
 * entered. Ordinary tables, where the specific comes first, are walked straight down. Only the
 * operator can make a table, so no client can make it slow. */
#include "rules/matcher.h"

#include "base/mem.h"

struct hg_matcher_entry {
    uint32_t rule;
    uint32_t next; /* index of the next higher rule with the same template, or NO_ENTRY */
};

#define NO_ENTRY UINT32_MAX

struct hg_matcher_slot {
    uint32_t parent;
    uint32_t id;    /* HG_NO_NODE: empty */
    uint64_t label; /* short_of it: all of most labels, so that only the slot is read */
};

/* A node is two: in a large table each cache line that a look-up reads is a miss. */
struct hg_matcher_node { /* what a look-up reads */
    uint32_t one, rest;
    uint32_t lowest[HG_PROTO_N]; /* rule, here or beneath */
    uint8_t ends;                /* bit 1 << proto: the lowest one ends here */
    bool has_literals;
};

struct hg_matcher_detail {
    const uint8_t *label; /* of a literal child */
    uint16_t label_n;
    uint32_t first_literal, next_literal; /* children; siblings */
    uint32_t entry[HG_PROTO_N];           /* rules that end here, rising */
};

/* Room for one more in an array that doubles. */
static bool grow(void **array, uint32_t n, uint32_t *cap, size_t each_bytes)
{
    if (n < *cap) {
        return true;
    }
    if (n > UINT32_MAX / 2 - 1) {
        return false;
    }
    uint32_t more = n == 0 ? 64 : n * 2;
    void *p = hg_realloc(*array, more * each_bytes);
    if (p == NULL) {
        return false;
    }
    *array = p;
    *cap = more;
    return true;
}

static uint32_t node_new(struct hg_matcher *m)
{
    void *nodes = m->nodes;
    void *details = m->details;
    if (!grow(&nodes, m->nodes_n, &m->nodes_cap, sizeof(*m->nodes))) {
        return HG_NO_NODE;
    }
    m->nodes = nodes;
    if (!grow(&details, m->nodes_n, &m->details_cap, sizeof(*m->details))) {
        return HG_NO_NODE;
    }
    m->details = details;
    struct hg_matcher_node *node = &m->nodes[m->nodes_n];
    struct hg_matcher_detail *detail = &m->details[m->nodes_n];
    *node = (struct hg_matcher_node){0};
    *detail = (struct hg_matcher_detail){0};
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        node->lowest[p] = HG_NO_RULE_INDEX;
        detail->entry[p] = NO_ENTRY;
    }
    return m->nodes_n++;
}

bool hg_matcher_open(struct hg_matcher *m)
{
    *m = (struct hg_matcher){0};
    node_new(m); /* id 0: no rule beneath it, so a walk may step on it and turns back */
    return m->nodes_n == 1;
}

void hg_matcher_close(struct hg_matcher *m)
{
    hg_free(m->nodes);
    hg_free(m->details);
    hg_free(m->slots);
    hg_free(m->entries);
    *m = (struct hg_matcher){0};
}

uint32_t hg_matcher_root(struct hg_matcher *m)
{
    return node_new(m);
}

/* How long a label is and how it begins. Equal for two labels: they are equal where it holds them
 * whole, which it does up to SHORT_MAX bytes. */
enum { SHORT_MAX = 7 };

static uint64_t short_of(struct hg_bytes label)
{
    uint64_t out = label.n < UINT8_MAX ? label.n : UINT8_MAX;
    for (size_t i = 0; i < label.n && i < SHORT_MAX; i++) {
        out = out << 8 | label.p[i];
    }
    return out;
}

/* Unseeded: peers choose what is looked up, but only the configuration what is stored. */
static uint32_t literal_hash(uint32_t parent, uint64_t label, struct hg_bytes text)
{
    uint64_t h = label ^ (parent * 0x9e3779b97f4a7c15);
    for (size_t i = SHORT_MAX; i < text.n; i++) {
        h = (h ^ text.p[i]) * 0x100000001b3;
    }
    return (uint32_t)(h * 0x9e3779b97f4a7c15 >> 32);
}

static struct hg_bytes label_of(const struct hg_matcher *m, uint32_t id)
{
    return hg_bytes(m->details[id].label, m->details[id].label_n);
}

static uint32_t literal_find(const struct hg_matcher *m, uint32_t parent, struct hg_bytes text)
{
    if (!m->nodes[parent].has_literals) {
        return HG_NO_NODE;
    }
    uint64_t label = short_of(text);
    for (uint32_t i = literal_hash(parent, label, text);; i++) {
        const struct hg_matcher_slot *slot = &m->slots[i & (m->slots_cap - 1)];
        if (slot->id == HG_NO_NODE ||
            (slot->label == label && slot->parent == parent &&
             (text.n <= SHORT_MAX || hg_bytes_eq(label_of(m, slot->id), text)))) {
            return slot->id;
        }
    }
}

static void slot_put(struct hg_matcher_slot *slots, uint32_t cap, uint32_t hash,
                     struct hg_matcher_slot slot)
{
    uint32_t i = hash & (cap - 1);
    while (slots[i].id != HG_NO_NODE) {
        i = (i + 1) & (cap - 1);
    }
    slots[i] = slot;
}

/* At most half full. */
static bool slots_reserve(struct hg_matcher *m)
{
    if (m->literals_n < m->slots_cap / 2) {
        return true;
    }
    uint32_t cap = m->slots_cap == 0 ? 64 : m->slots_cap * 2;
    struct hg_matcher_slot *slots = cap == 0 ? NULL : hg_zalloc(cap * sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < m->slots_cap; i++) {
        const struct hg_matcher_slot *slot = &m->slots[i];
        if (slot->id != HG_NO_NODE) {
            slot_put(slots, cap, literal_hash(slot->parent, slot->label, label_of(m, slot->id)),
                     *slot);
        }
    }
    hg_free(m->slots);
    m->slots = slots;
    m->slots_cap = cap;
    return true;
}

static uint32_t literal_get(struct hg_matcher *m, uint32_t parent, const struct hg_part *part)
{
    uint32_t id = literal_find(m, parent, hg_part_text(part));
    if (id != HG_NO_NODE) {
        return id;
    }
    if (!slots_reserve(m) || (id = node_new(m)) == HG_NO_NODE) {
        return HG_NO_NODE;
    }
    struct hg_matcher_detail *detail = &m->details[id];
    detail->label = part->text;
    detail->label_n = part->n;
    detail->next_literal = m->details[parent].first_literal;
    m->details[parent].first_literal = id;
    m->nodes[parent].has_literals = true;
    struct hg_matcher_slot slot = {parent, id, short_of(hg_part_text(part))};
    slot_put(m->slots, m->slots_cap, literal_hash(parent, slot.label, hg_part_text(part)), slot);
    m->literals_n++;
    return id;
}

static uint32_t child_get(struct hg_matcher *m, uint32_t parent, const struct hg_part *part)
{
    if (part->kind == HG_PART_LITERAL) {
        return literal_get(m, parent, part);
    }
    bool is_one = part->kind != HG_PART_REST;
    uint32_t id = is_one ? m->nodes[parent].one : m->nodes[parent].rest;
    if (id == HG_NO_NODE && (id = node_new(m)) != HG_NO_NODE) {
        *(is_one ? &m->nodes[parent].one : &m->nodes[parent].rest) = id;
    }
    return id;
}

static void mark(struct hg_matcher *m, uint32_t id, unsigned protos, uint32_t rule)
{
    m->nodes[id].ends &= (uint8_t)~protos;
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        if ((protos & (1U << p)) != 0) {
            m->nodes[id].lowest[p] = rule;
        }
    }
}

static bool end_here(struct hg_matcher *m, uint32_t id, unsigned protos, uint32_t rule)
{
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        if ((protos & (1U << p)) == 0) {
            continue;
        }
        void *entries = m->entries;
        if (!grow(&entries, m->entries_n, &m->entries_cap, sizeof(*m->entries))) {
            return false;
        }
        m->entries = entries;
        m->entries[m->entries_n] = (struct hg_matcher_entry){rule, m->details[id].entry[p]};
        m->details[id].entry[p] = m->entries_n++;
    }
    m->nodes[id].ends |= (uint8_t)protos;
    return true;
}

bool hg_matcher_add(struct hg_matcher *m, uint32_t root, const struct hg_template *t,
                    unsigned protos, uint32_t rule)
{
    uint8_t head_n = t->rest == HG_NO_PART ? t->n : (uint8_t)(t->rest + 1);
    uint32_t id = root;
    mark(m, id, protos, rule);
    for (uint8_t i = 0; i < t->n; i++) {
        uint8_t at = i < head_n ? i : (uint8_t)(t->n - 1 - (i - head_n)); /* the tail backwards */
        id = child_get(m, id, &t->parts[at]);
        if (id == HG_NO_NODE) {
            return false;
        }
        mark(m, id, protos, rule);
    }
    return end_here(m, id, protos, rule);
}

struct search {
    const struct hg_matcher *m;
    const struct hg_bytes *parts;
    size_t n;
    enum hg_protocol proto;
    uint32_t from, best;
};

static void take_entries(struct search *s, uint32_t id)
{
    const struct hg_matcher_node *node = &s->m->nodes[id];
    uint32_t lowest = node->lowest[s->proto];
    if ((node->ends & (1U << s->proto)) != 0 && lowest >= s->from) { /* nearly always */
        s->best = lowest < s->best ? lowest : s->best;
        return;
    }
    uint32_t e = s->m->details[id].entry[s->proto];
    while (e != NO_ENTRY && s->m->entries[e].rule < s->from) {
        e = s->m->entries[e].next;
    }
    if (e != NO_ENTRY && s->m->entries[e].rule < s->best) {
        s->best = s->m->entries[e].rule;
    }
}

/* The two ways on, the one with the lower rule first. */
static void ways(const struct search *s, uint32_t id, struct hg_bytes part, uint32_t way[2])
{
    uint32_t literal = literal_find(s->m, id, part);
    uint32_t one = s->m->nodes[id].one;
    bool is_one_first = s->m->nodes[one].lowest[s->proto] < s->m->nodes[literal].lowest[s->proto];
    way[0] = is_one_first ? one : literal;
    way[1] = is_one_first ? literal : one;
}

/* Beneath `{name...}`: parts i to j - 1 are left, which it may take all. */
static void find_in_tail(struct search *s, uint32_t id, size_t i, size_t j)
{
    const struct hg_matcher_node *node = &s->m->nodes[id];
    if (node->lowest[s->proto] >= s->best) {
        return;
    }
    take_entries(s, id);
    if (i < j) {
        uint32_t way[2];
        ways(s, id, s->parts[j - 1], way);
        find_in_tail(s, way[0], i, j - 1);
        find_in_tail(s, way[1], i, j - 1);
    }
}

static void find_in_head(struct search *s, uint32_t id, size_t i)
{
    const struct hg_matcher_node *node = &s->m->nodes[id];
    if (node->lowest[s->proto] >= s->best) {
        return;
    }
    if (i == s->n) {
        take_entries(s, id);
    } else {
        uint32_t way[2];
        ways(s, id, s->parts[i], way);
        find_in_head(s, way[0], i + 1);
        find_in_head(s, way[1], i + 1);
    }
    find_in_tail(s, node->rest, i, s->n);
}

uint32_t hg_matcher_find(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                         const struct hg_cut *parts, uint32_t from)
{
    struct search s = {m, parts->parts, parts->n, proto, from, HG_NO_RULE_INDEX};
    find_in_head(&s, root, 0);
    return s.best;
}

struct visit {
    const struct hg_matcher *m;
    enum hg_protocol proto;
    uint32_t below; /* only rules below this one */
    hg_matcher_fn *each;
    void *ctx;
};

static bool visit_entries(const struct visit *v, uint32_t id, bool is_covering)
{
    for (uint32_t e = v->m->details[id].entry[v->proto]; e != NO_ENTRY; e = v->m->entries[e].next) {
        if (v->m->entries[e].rule >= v->below) {
            return true;
        }
        if (!v->each(v->ctx, v->m->entries[e].rule, is_covering)) {
            return false;
        }
    }
    return true;
}

static bool visit_all(const struct visit *v, uint32_t id)
{
    const struct hg_matcher_node *node = &v->m->nodes[id];
    if (node->lowest[v->proto] >= v->below) {
        return true;
    }
    if (!visit_entries(v, id, false) || !visit_all(v, node->one) || !visit_all(v, node->rest)) {
        return false;
    }
    for (uint32_t c = v->m->details[id].first_literal; c != HG_NO_NODE;
         c = v->m->details[c].next_literal) {
        if (!visit_all(v, c)) {
            return false;
        }
    }
    return true;
}

/* Whether a wildcard in the first level leaves this literal out (MQTT 3.1.1 section 4.7.2). */
static bool is_hidden(const struct hg_matcher_detail *literal, size_t level)
{
    return level == 0 && literal->label_n > 0 && literal->label[0] == '$';
}

/* The filter's `#` stands at this node: all beneath it, and what ends here, since `a/#` matches
 * `a`. */
static bool meet_open(const struct visit *v, uint32_t id, size_t level, bool is_covering)
{
    const struct hg_matcher_node *node = &v->m->nodes[id];
    if (!visit_entries(v, id, false) || !visit_all(v, node->one) ||
        !visit_entries(v, node->rest, is_covering)) {
        return false;
    }
    for (uint32_t c = v->m->details[id].first_literal; c != HG_NO_NODE;
         c = v->m->details[c].next_literal) {
        if (!is_hidden(&v->m->details[c], level) && !visit_all(v, c)) {
            return false;
        }
    }
    return true;
}

static bool meet(const struct visit *v, uint32_t id, const struct hg_cut *filter, size_t i,
                 bool is_covering)
{
    const struct hg_matcher_node *node = &v->m->nodes[id];
    if (node->lowest[v->proto] == HG_NO_RULE_INDEX) {
        return true;
    }
    if (i == filter->open && i < filter->n) {
        return meet_open(v, id, i, is_covering);
    }
    if (!visit_entries(v, node->rest, is_covering)) {
        return false;
    }
    if (i == filter->n) {
        return visit_entries(v, id, is_covering);
    }
    if (!meet(v, node->one, filter, i + 1, is_covering)) {
        return false;
    }
    if (!hg_bytes_eq(filter->parts[i], HG_BYTES("+"))) {
        return meet(v, literal_find(v->m, id, filter->parts[i]), filter, i + 1, is_covering);
    }
    for (uint32_t c = v->m->details[id].first_literal; c != HG_NO_NODE;
         c = v->m->details[c].next_literal) {
        if (!is_hidden(&v->m->details[c], i) && !meet(v, c, filter, i + 1, false)) {
            return false;
        }
    }
    return true;
}

bool hg_matcher_meet(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                     const struct hg_cut *filter, hg_matcher_fn *each, void *ctx)
{
    struct visit v = {m, proto, HG_NO_RULE_INDEX, each, ctx};
    return meet(&v, root, filter, 0, true);
}

static void cover(struct search *s, uint32_t id, const struct hg_template *t, uint8_t i)
{
    const struct hg_matcher_node *node = &s->m->nodes[id];
    if (node->lowest[s->proto] >= s->best) {
        return;
    }
    take_entries(s, node->rest);
    if (i == t->n) {
        take_entries(s, id);
    } else if (t->parts[i].kind != HG_PART_REST) {
        cover(s, node->one, t, (uint8_t)(i + 1));
        if (t->parts[i].kind == HG_PART_LITERAL) {
            cover(s, literal_find(s->m, id, hg_part_text(&t->parts[i])), t, (uint8_t)(i + 1));
        }
    }
}

uint32_t hg_matcher_cover(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                          const struct hg_template *t)
{
    struct search s = {.m = m, .proto = proto, .from = 0, .best = HG_NO_RULE_INDEX};
    cover(&s, root, t, 0);
    return s.best;
}

static bool overlap(const struct visit *v, uint32_t id, const struct hg_template *t, uint8_t i)
{
    const struct hg_matcher_node *node = &v->m->nodes[id];
    if (node->lowest[v->proto] >= v->below) {
        return true;
    }
    if (i < t->n && t->parts[i].kind == HG_PART_REST) {
        return visit_all(v, id);
    }
    if (!visit_all(v, node->rest)) { /* what follows it is not looked at */
        return false;
    }
    if (i == t->n) {
        return visit_entries(v, id, false);
    }
    if (!overlap(v, node->one, t, (uint8_t)(i + 1))) {
        return false;
    }
    if (t->parts[i].kind == HG_PART_LITERAL) {
        return overlap(v, literal_find(v->m, id, hg_part_text(&t->parts[i])), t, (uint8_t)(i + 1));
    }
    for (uint32_t c = v->m->details[id].first_literal; c != HG_NO_NODE;
         c = v->m->details[c].next_literal) {
        if (!overlap(v, c, t, (uint8_t)(i + 1))) {
            return false;
        }
    }
    return true;
}

bool hg_matcher_overlap(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                        const struct hg_template *t, uint32_t below, hg_matcher_fn *each, void *ctx)
{
    struct visit v = {m, proto, below, each, ctx};
    return overlap(&v, root, t, 0);
}
