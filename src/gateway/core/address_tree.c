/* SPDX-License-Identifier: Apache-2.0 */
/* A treap whose nodes are in a list as well. `/` counts as the lowest byte, so that an address and
 * all below it are neighbours: a run that cannot match is left with one look-up. */
#include "core/address_tree.h"

#include "base/map.h"
#include "base/mem.h"
#include "message/topic.h"

static struct hg_bytes text_of(const struct hg_address_node *node)
{
    return hg_bytes(node->text, node->n);
}

int hg_address_order(struct hg_bytes a, struct hg_bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    size_t i = 0;
    while (i < n && a.p[i] == b.p[i]) {
        i++;
    }
    if (i == n) {
        return a.n < b.n ? -1 : a.n > b.n;
    }
    return a.p[i] == '/' ? -1 : b.p[i] == '/' ? 1 : a.p[i] - b.p[i];
}

/* Nodes of one address are ordered by where they lie. */
static bool is_before(const struct hg_address_node *a, const struct hg_address_node *b)
{
    int order = hg_address_order(text_of(a), text_of(b));
    return order < 0 || (order == 0 && (uintptr_t)a < (uintptr_t)b);
}

void hg_address_tree_open(struct hg_address_tree *t)
{
    *t = (struct hg_address_tree){.random = hg_random_u64() | 1};
    hg_list_init(&t->in_order);
}

struct hg_address_node *hg_address_node_new(struct hg_bytes address, void *value)
{
    HG_CHECK(address.n <= UINT16_MAX);
    size_t n = offsetof(struct hg_address_node, text) + address.n;
    struct hg_address_node *node = hg_alloc(n < sizeof(*node) ? sizeof(*node) : n);
    if (node != NULL) {
        *node = (struct hg_address_node){.value = value, .n = (uint16_t)address.n};
        hg_list_init(&node->link);
        if (address.n > 0) {
            memcpy(node->text, address.p, address.n);
        }
    }
    return node;
}

/* xorshift64*: peers choose the addresses, and cannot guess these. */
static uint32_t next_priority(struct hg_address_tree *t)
{
    t->random ^= t->random >> 12;
    t->random ^= t->random << 25;
    t->random ^= t->random >> 27;
    return (uint32_t)(t->random * 0x2545f4914f6cdd1d >> 32);
}

/* Everything below `from` goes to *left (before node) or *right. */
static void split(struct hg_address_node *from, const struct hg_address_node *node,
                  struct hg_address_node **left, struct hg_address_node **right)
{
    while (from != NULL) {
        if (is_before(from, node)) {
            *left = from;
            left = &from->right;
            from = from->right;
        } else {
            *right = from;
            right = &from->left;
            from = from->left;
        }
    }
    *left = *right = NULL;
}

void hg_address_tree_add(struct hg_address_tree *t, struct hg_address_node *node)
{
    struct hg_address_node **at = &t->root;
    struct hg_list *after = &t->in_order; /* the nearest one before node */
    node->priority = next_priority(t);
    while (*at != NULL && (*at)->priority >= node->priority) {
        bool is_right = is_before(*at, node);
        after = is_right ? &(*at)->link : after;
        at = is_right ? &(*at)->right : &(*at)->left;
    }
    split(*at, node, &node->left, &node->right);
    *at = node;
    for (struct hg_address_node *last = node->left; last != NULL; last = last->right) {
        after = &last->link;
    }
    hg_list_add_last(after->next, &node->link);
}

void hg_address_tree_remove(struct hg_address_tree *t, struct hg_address_node *node)
{
    struct hg_address_node **at = &t->root;
    while (*at != node) {
        at = is_before(*at, node) ? &(*at)->right : &(*at)->left;
    }
    struct hg_address_node *left = node->left;
    struct hg_address_node *right = node->right;
    while (left != NULL && right != NULL) {
        if (left->priority >= right->priority) {
            *at = left;
            at = &left->right;
            left = left->right;
        } else {
            *at = right;
            at = &right->left;
            right = right->left;
        }
    }
    *at = left != NULL ? left : right;
    node->left = node->right = NULL;
    hg_list_remove(&node->link);
}

/* ---- Matching ---- */

/* Where to go on: at the first address not before `prefix` and `level` written together, or behind
 * `prefix` and all below it. */
struct target {
    struct hg_bytes prefix, level;
    bool is_behind;
};

static bool is_at_or_below(struct hg_bytes address, struct hg_bytes prefix)
{
    return hg_bytes_starts(address, prefix) &&
           (address.n == prefix.n || address.p[prefix.n] == '/');
}

static bool is_short_of(const struct hg_address_node *node, const struct target *to)
{
    struct hg_bytes address = text_of(node);
    if (to->is_behind) {
        return is_at_or_below(address, to->prefix) || hg_address_order(address, to->prefix) < 0;
    }
    if (!hg_bytes_starts(address, to->prefix)) {
        return hg_address_order(address, to->prefix) < 0;
    }
    return hg_address_order(hg_bytes_skip(address, to->prefix.n), to->level) < 0;
}

static struct hg_list *seek(const struct hg_address_tree *t, const struct target *to)
{
    const struct hg_list *found = &t->in_order;
    for (struct hg_address_node *node = t->root; node != NULL;) {
        bool is_short = is_short_of(node, to);
        found = is_short ? found : &node->link;
        node = is_short ? node->right : node->left;
    }
    return (struct hg_list *)found;
}

enum verdict { MATCHES, NEXT, SEEK, END };

/* The address's level differs from the filter's: where could it still match? */
static enum verdict pass_level(struct hg_bytes address, size_t at, struct hg_bytes level,
                               struct hg_bytes wanted, struct target *to)
{
    if (hg_address_order(level, wanted) < 0) {
        *to = (struct target){.prefix = hg_bytes(address.p, at), .level = wanted};
        return SEEK;
    }
    *to = (struct target){.prefix = hg_bytes(address.p, at == 0 ? 0 : at - 1), .is_behind = true};
    return at == 0 ? END : SEEK;
}

static enum verdict compare(struct hg_bytes filter, struct hg_bytes address, struct target *to)
{
    struct hg_bytes wanted;
    struct hg_bytes level;
    struct hg_bytes rest = address;
    bool filter_has_more = true;
    bool has_more = true;
    while (hg_topic_next(&filter, &filter_has_more, '/', &wanted)) {
        size_t at = address.n - rest.n;
        bool is_hash = hg_bytes_eq(wanted, HG_BYTES("#"));
        bool is_wildcard = is_hash || hg_bytes_eq(wanted, HG_BYTES("+"));
        if (is_hash && at > 0) {
            return MATCHES;
        }
        if (!hg_topic_next(&rest, &has_more, '/', &level)) {
            return is_hash ? MATCHES : NEXT;
        }
        if (is_wildcard && at == 0 && level.n > 0 && level.p[0] == '$') {
            *to = (struct target){.prefix = level, .is_behind = true};
            return SEEK;
        }
        if (is_hash) {
            return MATCHES;
        }
        if (!is_wildcard && !hg_bytes_eq(level, wanted)) {
            return pass_level(address, at, level, wanted, to);
        }
    }
    if (has_more) { /* and so has every address below this part of it */
        *to = (struct target){.prefix = hg_bytes(address.p, address.n - rest.n - 1),
                              .is_behind = true};
        return SEEK;
    }
    return MATCHES;
}

void hg_address_tree_match(const struct hg_address_tree *t, struct hg_bytes filter,
                           hg_address_fn *each, void *ctx)
{
    size_t literal_n = 0; /* bytes of the levels before the first wildcard */
    struct hg_bytes rest = filter;
    struct hg_bytes level;
    bool has_more = true;
    while (hg_topic_next(&rest, &has_more, '/', &level) && !hg_topic_has_wildcard(level)) {
        literal_n = (size_t)(level.p - filter.p) + level.n;
    }
    struct target to = {.prefix = hg_bytes(filter.p, literal_n)};
    struct hg_list *it = seek(t, &to);
    while (it != &t->in_order) {
        struct hg_address_node *node = HG_LIST_ENTRY(it, struct hg_address_node, link);
        enum verdict verdict = compare(filter, text_of(node), &to);
        if (verdict == END) {
            return;
        }
        if (verdict == MATCHES) {
            each(ctx, node);
        }
        it = it->next;
        if (verdict == SEEK && it != &t->in_order &&
            is_short_of(HG_LIST_ENTRY(it, struct hg_address_node, link), &to)) {
            it = seek(t, &to);
        }
    }
}
