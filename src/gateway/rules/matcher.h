/* SPDX-License-Identifier: Apache-2.0 */
/* Tries over parts (levels or words) whose leaves are rules: a look-up finds the lowest rule whose
 * template takes the text. Built once, then frozen. All tries of one matcher share their memory;
 * each begins at a root of its own. */
#ifndef HG_RULES_MATCHER_H
#define HG_RULES_MATCHER_H

#include "rules/pattern.h"

enum { HG_NO_NODE = 0 };
#define HG_NO_RULE_INDEX UINT32_MAX

struct hg_matcher_node;
struct hg_matcher_detail;
struct hg_matcher_entry;
struct hg_matcher_slot;

struct hg_matcher {
    struct hg_matcher_node *nodes; /* by id, as the next; id 0 is no node */
    struct hg_matcher_detail *details;
    uint32_t nodes_n, nodes_cap, details_cap;
    struct hg_matcher_slot *slots; /* open addressing: (parent, literal) -> id */
    uint32_t slots_cap, literals_n;
    struct hg_matcher_entry *entries;
    uint32_t entries_n, entries_cap;
};

/* False when there is no memory. */
bool hg_matcher_open(struct hg_matcher *m);
void hg_matcher_close(struct hg_matcher *m);
/* A new, empty trie; HG_NO_NODE when there is no memory. */
uint32_t hg_matcher_root(struct hg_matcher *m);
/* Adds a rule for the protocols in `protos` (bit 1 << proto). Rules must come in falling order:
 * then each is the lowest so far and a trie never has to be searched. False when there is no
 * memory. */
bool hg_matcher_add(struct hg_matcher *m, uint32_t root, const struct hg_template *t,
                    unsigned protos, uint32_t rule);

/* The lowest rule, not below `from`, whose template takes the parts, or HG_NO_RULE_INDEX. */
uint32_t hg_matcher_find(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                         const struct hg_cut *parts, uint32_t from);

/* Called with each rule found; returns false to end the walk. */
typedef bool hg_matcher_fn(void *ctx, uint32_t rule, bool is_covering);
/* Every rule whose pattern takes some address that the filter matches (MQTT 3.1.1 section 4.7);
 * is_covering: takes all of them. False if `each` ended it. */
bool hg_matcher_meet(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                     const struct hg_cut *filter, hg_matcher_fn *each, void *ctx);
/* The lowest rule whose pattern takes all that pattern t takes, or HG_NO_RULE_INDEX. */
uint32_t hg_matcher_cover(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                          const struct hg_template *t);
/* Every rule below `below` that may take something that t takes, and perhaps some that do not
 * (is_covering means nothing). */
bool hg_matcher_overlap(const struct hg_matcher *m, uint32_t root, enum hg_protocol proto,
                        const struct hg_template *t, uint32_t below, hg_matcher_fn *each,
                        void *ctx);

#endif
