/* SPDX-License-Identifier: Apache-2.0 */
/* The subscription index: which subscriptions of this worker want a message. A trie over levels
 * (addresses, `/`, `+`, `#`) or words (AMQP binding keys, `.`, `*`, `#` anywhere); a match costs
 * what it finds, not how many subscriptions there are. */
#ifndef HG_CORE_FANOUT_H
#define HG_CORE_FANOUT_H

#include "base/bytes.h"
#include "base/list.h"

struct hg_trie;
struct hg_trie_node;

struct hg_fanout_entry {
    struct hg_list link;       /* in its node */
    struct hg_trie_node *node; /* NULL: in no index */
};

enum hg_trie_kind {
    /* `/`; `+` one level, `#` the rest (also none, "a/#" matches "a"); a first level that starts
     * with `$` is not met by wildcards there (MQTT 3.1.1 section 4.7.2) */
    HG_TRIE_ADDRESS,
    /* `.`; `*` one word, `#` zero or more anywhere: a topic exchange's binding keys */
    HG_TRIE_BINDING
};

/* NULL when there is no memory. */
struct hg_trie *hg_trie_new(enum hg_trie_kind kind);
void hg_trie_free(struct hg_trie *t); /* every entry must have been removed */
/* Adds an entry under a pattern, which is copied (equal patterns, and equal prefixes of those with
 * wildcards, are kept once). The pattern has passed hg_topic_check_filter, or is a binding key of
 * at most 255 bytes. False when there is no memory. */
bool hg_trie_add(struct hg_trie *t, struct hg_bytes pattern, struct hg_fanout_entry *entry);
void hg_trie_remove(struct hg_trie *t,
                    struct hg_fanout_entry *entry); /* safe if entry->node is NULL */
/* Calls each entry that matches, exactly once; entries of one pattern in the order they were added.
 * `each` must not change the trie. */
typedef void hg_trie_match_fn(void *ctx, struct hg_fanout_entry *entry);
void hg_trie_match(const struct hg_trie *t, struct hg_bytes subject, hg_trie_match_fn *each,
                   void *ctx);
size_t hg_trie_n(const struct hg_trie *t); /* entries */
/* Counts those that came and went: while it is the same, a match finds the same. */
uint64_t hg_trie_changes(const struct hg_trie *t);
/* The pattern an entry was added under, written out again. */
struct hg_writer;
void hg_trie_write_pattern(const struct hg_trie *t, const struct hg_fanout_entry *entry,
                           struct hg_writer *out);

#endif
