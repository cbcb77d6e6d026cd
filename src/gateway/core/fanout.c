/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns without a wildcard are one node each, found by one look-up of the whole subject, however
 * deep it is; only patterns with wildcards are cut into levels. All nodes of a trie are in one hash
 * table, keyed by (parent, text), so that a node has no table of its own: an idle client's
 * subscription has to fit in a few dozen bytes. */
#include "core/fanout.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"
#include "message/topic.h"

enum { FIRST_CAP = 16, MAX_WORDS = 256 /* of a routing key of 255 bytes */ };
enum { HAS_ONE = 1, HAS_HASH = 2 }; /* there is a child for `+` or `*`; for `#` */

struct hg_trie_node {
    struct hg_trie_node *parent; /* NULL: the root, or a whole pattern without wildcards */
    struct hg_trie_node *next;   /* in its bucket */
    struct hg_list *first;       /* entries in the order of their coming; NULL: none */
    uint32_t hash;
    uint32_t children_n;
    uint16_t text_n;
    uint8_t wildcards; /* HAS_* bits, counted in children_n too */
    uint8_t text[];
};

struct hg_trie {
    enum hg_trie_kind kind;
    uint8_t separator;
    struct hg_bytes one; /* the wildcard of one level */
    uint64_t seed[2];
    uint64_t one_hash, hash_hash; /* of the two wildcards */
    struct hg_trie_node *root;    /* of patterns with wildcards; not in the table */
    struct hg_trie_node **buckets;
    size_t cap; /* a power of two */
    size_t nodes_n;
    size_t entries_n;
    uint64_t changes_n;
};

static const struct hg_bytes hash_text = {(const uint8_t *)"#", 1};

static struct hg_bytes text_of(const struct hg_trie_node *node)
{
    return hg_bytes(node->text, node->text_n);
}

static bool is_wildcard(const struct hg_trie *t, struct hg_bytes level)
{
    return hg_bytes_eq(level, t->one) || hg_bytes_eq(level, hash_text);
}

static uint8_t wildcard_bit(const struct hg_trie *t, struct hg_bytes level)
{
    return hg_bytes_eq(level, hash_text) ? HAS_HASH : hg_bytes_eq(level, t->one) ? HAS_ONE : 0;
}

/* text_hash is secret, so nobody can choose what comes out; the parent only spreads it. */
static uint32_t key_hash(const struct hg_trie_node *parent, uint64_t text_hash)
{
    return (uint32_t)((text_hash + (uintptr_t)parent) * 0x9e3779b97f4a7c15 >> 32);
}

static struct hg_trie_node *find_node(const struct hg_trie *t, const struct hg_trie_node *parent,
                                      struct hg_bytes text, uint64_t text_hash)
{
    uint32_t hash = key_hash(parent, text_hash);
    struct hg_trie_node *node = t->buckets[hash & (t->cap - 1)];
    while (node != NULL &&
           (node->hash != hash || node->parent != parent || !hg_bytes_eq(text_of(node), text))) {
        node = node->next;
    }
    return node;
}

/* Without memory the old table stays: slower, not wrong. */
static void resize_table(struct hg_trie *t, size_t cap)
{
    struct hg_trie_node **buckets = hg_zalloc(cap * sizeof(struct hg_trie_node *));
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < t->cap; i++) {
        for (struct hg_trie_node *node = t->buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            node->next = buckets[node->hash & (cap - 1)];
            buckets[node->hash & (cap - 1)] = node;
        }
    }
    hg_free(t->buckets);
    t->buckets = buckets;
    t->cap = cap;
}

static struct hg_trie_node *node_new(struct hg_trie_node *parent, struct hg_bytes text)
{
    HG_CHECK(text.n <= UINT16_MAX);
    struct hg_trie_node *node;
    size_t n = offsetof(struct hg_trie_node, text) + text.n; /* the padding at the end holds text */
    node = hg_alloc(n < sizeof(*node) ? sizeof(*node) : n);
    if (node != NULL) {
        *node = (struct hg_trie_node){.parent = parent, .text_n = (uint16_t)text.n};
        if (text.n > 0) {
            memcpy(node->text, text.p, text.n);
        }
    }
    return node;
}

/* The node for text below parent, made if there is none. NULL when there is no memory. */
static struct hg_trie_node *get_node(struct hg_trie *t, struct hg_trie_node *parent,
                                     struct hg_bytes text)
{
    uint64_t text_hash = hg_siphash(t->seed, text);
    struct hg_trie_node *node = find_node(t, parent, text, text_hash);
    if (node != NULL) {
        return node;
    }
    node = node_new(parent, text);
    if (node == NULL) {
        return NULL;
    }
    if (t->nodes_n >= t->cap) {
        resize_table(t, t->cap * 2);
    }
    node->hash = key_hash(parent, text_hash);
    node->next = t->buckets[node->hash & (t->cap - 1)];
    t->buckets[node->hash & (t->cap - 1)] = node;
    t->nodes_n++;
    if (parent != NULL) {
        parent->children_n++;
        parent->wildcards |= wildcard_bit(t, text);
    }
    return node;
}

/* Frees node and what above it carried nothing else. */
static void prune(struct hg_trie *t, struct hg_trie_node *node)
{
    while (node != NULL && node != t->root && node->first == NULL && node->children_n == 0) {
        struct hg_trie_node *parent = node->parent;
        struct hg_trie_node **at = &t->buckets[node->hash & (t->cap - 1)];
        while (*at != node) {
            at = &(*at)->next;
        }
        *at = node->next;
        t->nodes_n--;
        if (parent != NULL) {
            parent->children_n--;
            parent->wildcards &= (uint8_t)~wildcard_bit(t, text_of(node));
        }
        hg_free(node);
        node = parent;
    }
    if (t->cap > FIRST_CAP && t->nodes_n < t->cap / 8) {
        resize_table(t, t->cap / 2);
    }
}

struct hg_trie *hg_trie_new(enum hg_trie_kind kind)
{
    struct hg_trie *t = hg_zalloc(sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->kind = kind;
    t->separator = kind == HG_TRIE_ADDRESS ? '/' : '.';
    t->one = kind == HG_TRIE_ADDRESS ? HG_BYTES("+") : HG_BYTES("*");
    t->seed[0] = hg_random_u64();
    t->seed[1] = hg_random_u64();
    t->one_hash = hg_siphash(t->seed, t->one);
    t->hash_hash = hg_siphash(t->seed, hash_text);
    t->cap = FIRST_CAP;
    t->buckets = hg_zalloc(t->cap * sizeof(struct hg_trie_node *));
    t->root = node_new(NULL, hg_bytes(NULL, 0));
    if (t->buckets == NULL || t->root == NULL) {
        hg_trie_free(t);
        return NULL;
    }
    return t;
}

void hg_trie_free(struct hg_trie *t)
{
    if (t == NULL) {
        return;
    }
    HG_CHECK(t->entries_n == 0 && t->nodes_n == 0);
    hg_free(t->root);
    hg_free(t->buckets);
    hg_free(t);
}

static bool has_wildcard(const struct hg_trie *t, struct hg_bytes pattern)
{
    struct hg_bytes level;
    bool has_more = true;
    while (hg_topic_next(&pattern, &has_more, t->separator, &level)) {
        if (is_wildcard(t, level)) {
            return true;
        }
    }
    return false;
}

bool hg_trie_add(struct hg_trie *t, struct hg_bytes pattern, struct hg_fanout_entry *entry)
{
    struct hg_trie_node *node;
    if (!has_wildcard(t, pattern)) {
        node = get_node(t, NULL, pattern);
        if (node == NULL) {
            return false;
        }
    } else {
        struct hg_bytes level;
        bool has_more = true;
        node = t->root;
        while (hg_topic_next(&pattern, &has_more, t->separator, &level)) {
            struct hg_trie_node *child = get_node(t, node, level);
            if (child == NULL) {
                prune(t, node);
                return false;
            }
            node = child;
        }
    }
    hg_list_init(&entry->link);
    if (node->first == NULL) {
        node->first = &entry->link;
    } else {
        hg_list_add_last(node->first, &entry->link);
    }
    entry->node = node;
    t->entries_n++;
    t->changes_n++;
    return true;
}

void hg_trie_remove(struct hg_trie *t, struct hg_fanout_entry *entry)
{
    struct hg_trie_node *node = entry->node;
    if (node == NULL) {
        return;
    }
    if (node->first == &entry->link) {
        node->first = hg_list_is_empty(&entry->link) ? NULL : entry->link.next;
    }
    hg_list_remove(&entry->link);
    entry->node = NULL;
    t->entries_n--;
    t->changes_n++;
    prune(t, node);
}

/* One match: what is looked for and who wants to know. */
struct search {
    const struct hg_trie *t;
    hg_trie_match_fn *each;
    void *ctx;
};

static void report(const struct search *s, const struct hg_trie_node *node)
{
    struct hg_list *it = node == NULL ? NULL : node->first;
    if (it == NULL) {
        return;
    }
    do {
        s->each(s->ctx, HG_LIST_ENTRY(it, struct hg_fanout_entry, link));
        it = it->next;
    } while (it != node->first);
}

static struct hg_trie_node *one_child(const struct hg_trie *t, const struct hg_trie_node *node)
{
    return (node->wildcards & HAS_ONE) == 0 ? NULL : find_node(t, node, t->one, t->one_hash);
}

static struct hg_trie_node *hash_child(const struct hg_trie *t, const struct hg_trie_node *node)
{
    return (node->wildcards & HAS_HASH) == 0 ? NULL : find_node(t, node, hash_text, t->hash_hash);
}

static bool has_literal_child(const struct hg_trie_node *node)
{
    return node->children_n > (node->wildcards & 1U) + (node->wildcards >> 1);
}

/* The levels of rest below node. is_hidden: wildcards do not see this level. */
static void match_levels(const struct search *s, const struct hg_trie_node *node,
                         struct hg_bytes rest, bool has_more, bool is_hidden)
{
    struct hg_bytes level;
    if (!is_hidden) {
        report(s, hash_child(s->t, node));
    }
    if (!hg_topic_next(&rest, &has_more, s->t->separator, &level)) {
        report(s, node);
        return;
    }
    struct hg_trie_node *child = is_hidden ? NULL : one_child(s->t, node);
    if (child != NULL) {
        match_levels(s, child, rest, has_more, false);
    }
    if (has_literal_child(node) && !is_wildcard(s->t, level)) {
        child = find_node(s->t, node, level, hg_siphash(s->t->seed, level));
        if (child != NULL) {
            match_levels(s, child, rest, has_more, false);
        }
    }
}

/* The words of a routing key. */
struct words {
    size_t n;
    struct {
        struct hg_bytes text;
        uint64_t hash;
        size_t next_same; /* the next word that is equal; n: none */
    } at[MAX_WORDS];
};

/* How many words of the key may have been taken when the walk is at a node; a `#` makes that
 * several numbers. */
struct places {
    uint64_t bits[MAX_WORDS / 64 + 1];
};

static bool has_place(const struct places *p, size_t i)
{
    return (p->bits[i / 64] >> (i % 64) & 1) != 0;
}

static void add_place(struct places *p, size_t i)
{
    p->bits[i / 64] |= 1ULL << (i % 64);
}

/* The first place at or after i, or n + 1. */
static size_t next_place(const struct places *p, size_t i, size_t n)
{
    while (i <= n) {
        uint64_t bits = p->bits[i / 64] >> (i % 64);
        if (bits != 0) {
            return i + (size_t)__builtin_ctzll(bits);
        }
        i = (i / 64 + 1) * 64;
    }
    return n + 1;
}

/* Every node is visited at most once, with all places at which it can be reached: a key costs no
 * more than the trie has nodes, whatever its `#`s, and no entry is called twice. */
static void match_words(const struct search *s, const struct hg_trie_node *node,
                        const struct words *w, const struct places *from)
{
    if (has_place(from, w->n)) {
        report(s, node);
    }
    struct hg_trie_node *child = hash_child(s->t, node);
    if (child != NULL) {
        struct places to = {{0}};
        for (size_t i = next_place(from, 0, w->n); i <= w->n; i++) {
            add_place(&to, i);
        }
        match_words(s, child, w, &to);
    }
    child = one_child(s->t, node);
    size_t first = next_place(from, 0, w->n);
    if (child != NULL && first < w->n) {
        struct places to = {{0}};
        for (size_t i = first; i < w->n; i = next_place(from, i + 1, w->n)) {
            add_place(&to, i + 1);
        }
        match_words(s, child, w, &to);
    }
    if (!has_literal_child(node)) {
        return;
    }
    struct places done = {
        {0}}; /* equal words lead to one child: it takes all their places at once */
    for (size_t i = first; i < w->n; i = next_place(from, i + 1, w->n)) {
        if (has_place(&done, i) || is_wildcard(s->t, w->at[i].text)) {
            continue;
        }
        child = find_node(s->t, node, w->at[i].text, w->at[i].hash);
        if (child == NULL) {
            continue;
        }
        struct places to = {{0}};
        for (size_t j = i; j < w->n; j = w->at[j].next_same) {
            if (has_place(from, j)) {
                add_place(&done, j);
                add_place(&to, j + 1);
            }
        }
        match_words(s, child, w, &to);
    }
}

static void match_routing_key(const struct search *s, struct hg_bytes key)
{
    struct words w;
    struct hg_bytes word;
    bool has_more = key.n > 0; /* no bytes, no words */
    w.n = 0;
    while (w.n < MAX_WORDS && hg_topic_next(&key, &has_more, s->t->separator, &word)) {
        w.at[w.n].text = word;
        w.at[w.n].hash = hg_siphash(s->t->seed, word);
        w.n++;
    }
    if (has_more) {
        return; /* longer than a routing key can be */
    }
    for (size_t i = 0; i < w.n; i++) {
        size_t j = i + 1;
        while (j < w.n &&
               (w.at[i].hash != w.at[j].hash || !hg_bytes_eq(w.at[i].text, w.at[j].text))) {
            j++;
        }
        w.at[i].next_same = j;
    }
    match_words(s, s->t->root, &w, &(struct places){{1}});
}

void hg_trie_match(const struct hg_trie *t, struct hg_bytes subject, hg_trie_match_fn *each,
                   void *ctx)
{
    const struct search s = {t, each, ctx};
    if (t->entries_n == 0) {
        return;
    }
    report(&s, find_node(t, NULL, subject, hg_siphash(t->seed, subject)));
    if (t->root->children_n == 0) {
        return;
    }
    if (t->kind == HG_TRIE_ADDRESS) {
        match_levels(&s, t->root, subject, true, subject.n > 0 && subject.p[0] == '$');
    } else {
        match_routing_key(&s, subject);
    }
}

size_t hg_trie_n(const struct hg_trie *t)
{
    return t->entries_n;
}

uint64_t hg_trie_changes(const struct hg_trie *t)
{
    return t->changes_n;
}

static void write_path(const struct hg_trie *t, const struct hg_trie_node *node,
                       struct hg_writer *out)
{
    if (node->parent != NULL && node->parent != t->root) {
        write_path(t, node->parent, out);
        hg_writer_u8(out, t->separator);
    }
    hg_writer_bytes(out, text_of(node));
}

void hg_trie_write_pattern(const struct hg_trie *t, const struct hg_fanout_entry *entry,
                           struct hg_writer *out)
{
    HG_CHECK(entry->node != NULL);
    write_path(t, entry->node, out);
}
