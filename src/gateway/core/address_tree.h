/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses in order, asked by filters: which addresses match, the other way round from fanout.h.
 * A balanced tree rather than a trie: an address costs one node however many levels it has, and
 * what matches comes in order. */
#ifndef HG_CORE_ADDRESS_TREE_H
#define HG_CORE_ADDRESS_TREE_H

#include "base/bytes.h"
#include "base/list.h"

struct hg_address_node {
    struct hg_address_node *left, *right;
    struct hg_list link;          /* in order */
    struct hg_address_node *next; /* the caller's */
    void *value;                  /* the caller's */
    uint32_t priority;            /* random: over that of both children */
    uint16_t n;
    uint8_t protocols; /* the caller's */
    uint8_t text[];
};

struct hg_address_tree {
    struct hg_address_node *root;
    struct hg_list in_order;
    uint64_t random;
};

void hg_address_tree_open(struct hg_address_tree *t);
/* For an address of at most 65,535 bytes; in no tree yet, hg_free frees it. NULL when there is no
 * memory. */
struct hg_address_node *hg_address_node_new(struct hg_bytes address, void *value);
/* Several may have one address. */
void hg_address_tree_add(struct hg_address_tree *t, struct hg_address_node *node);
void hg_address_tree_remove(struct hg_address_tree *t, struct hg_address_node *node);

/* Calls each node whose address the filter matches (MQTT 5.0 section 4.7, `$` rule included), in
 * order: level by level, levels compared as bytes, an address before those below it. Costs what
 * matches, and a look-up for each run of addresses in between that does not. `each` must not change
 * the tree. */
typedef void hg_address_fn(void *ctx, struct hg_address_node *node);
void hg_address_tree_match(const struct hg_address_tree *t, struct hg_bytes filter,
                           hg_address_fn *each, void *ctx);

/* The order: < 0, 0, > 0. */
int hg_address_order(struct hg_bytes a, struct hg_bytes b);

#endif
