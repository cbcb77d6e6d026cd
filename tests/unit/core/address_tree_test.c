/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of addresses against asking every address, for random filters. */
#include "core/address_tree.h"

#include "base/mem.h"
#include "message/topic.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

enum { NODES = 400 };

struct seen {
    struct hg_address_node *last;
    size_t n;
};

static void on_node(void *ctx, struct hg_address_node *node)
{
    struct seen *seen = ctx;
    if (seen->last != NULL) {
        assert_true(hg_address_order(hg_bytes(seen->last->text, seen->last->n),
                                     hg_bytes(node->text, node->n)) <= 0);
    }
    seen->last = node;
    seen->n++;
    node->protocols++; /* how often it was called */
}

static void write_random(uint64_t *seed, bool is_filter, char out[64])
{
    static const char *const words[] = {"a", "b", "", "$s", "ab", "a!", "b.", "+", "+", "+"};
    size_t n = unit_random_below(seed, 5) + 1;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        strcat(out, i == 0 ? "" : "/");
        strcat(out, words[unit_random_below(seed, is_filter ? 10 : 7)]);
    }
    if (is_filter && unit_random_below(seed, 3) == 0) {
        strcat(out, "/#");
    } else if (is_filter && unit_random_below(seed, 30) == 0) {
        strcpy(out, "#");
    } else if (out[0] == '\0') {
        strcpy(out, "a");
    }
}

static void check_filter(const struct hg_address_tree *t, struct hg_address_node *const nodes[],
                         const char *filter)
{
    struct seen seen = {0};
    hg_address_tree_match(t, hg_bytes_str(filter), on_node, &seen);
    for (size_t i = 0; i < NODES; i++) {
        struct hg_address_node *node = nodes[i];
        if (node == NULL) {
            continue;
        }
        bool is_wanted = hg_topic_matches(hg_bytes_str(filter), hg_bytes(node->text, node->n));
        if (node->protocols != (is_wanted ? 1 : 0)) {
            fail_msg("\"%s\" and \"%.*s\": called %u times", filter, node->n,
                     (const char *)node->text, node->protocols);
        }
        node->protocols = 0;
    }
}

static void a_filter_finds_what_matches_and_nothing_else(void **state)
{
    struct hg_address_node *nodes[NODES] = {NULL};
    struct hg_address_tree t;
    uint64_t seed = 2026;
    char text[64];
    size_t live = seam_live();
    (void)state;
    hg_address_tree_open(&t);
    for (int step = 0; step < 20000; step++) {
        struct hg_address_node **node = &nodes[unit_random_below(&seed, NODES)];
        if (*node == NULL) {
            write_random(&seed, false, text);
            *node = hg_address_node_new(hg_bytes_str(text), NULL);
            hg_address_tree_add(&t, *node);
        } else if (unit_random_below(&seed, 2) == 0) {
            hg_address_tree_remove(&t, *node);
            hg_free(*node);
            *node = NULL;
        }
        if (step % 3 == 0) {
            write_random(&seed, unit_random_below(&seed, 4) != 0, text);
            check_filter(&t, nodes, text);
        }
    }
    for (size_t i = 0; i < NODES; i++) {
        if (nodes[i] != NULL) {
            hg_address_tree_remove(&t, nodes[i]);
            hg_free(nodes[i]);
        }
    }
    assert_null(t.root);
    assert_true(hg_list_is_empty(&t.in_order));
    assert_int_equal(seam_live(), live);
}

static unsigned depth_of(const struct hg_address_node *node)
{
    if (node == NULL) {
        return 0;
    }
    unsigned left = depth_of(node->left);
    unsigned right = depth_of(node->right);
    return 1 + (left > right ? left : right);
}

/* Addresses that come in order are a peer's easiest attack. */
static void the_tree_stays_flat(void **state)
{
    enum { N = 10000 };
    struct hg_address_node **nodes = hg_zalloc(N * sizeof(*nodes));
    struct hg_address_tree t;
    (void)state;
    hg_address_tree_open(&t);
    for (size_t i = 0; i < N; i++) {
        char text[16];
        int n = snprintf(text, sizeof(text), "dev/%05zu", i);
        nodes[i] = hg_address_node_new(hg_bytes(text, (size_t)n), NULL);
        hg_address_tree_add(&t, nodes[i]);
    }
    assert_true(depth_of(t.root) < 60); /* 2 * log2(n) is 27 */
    for (size_t i = 0; i < N; i++) {
        hg_address_tree_remove(&t, nodes[i]);
        hg_free(nodes[i]);
    }
    hg_free(nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_finds_what_matches_and_nothing_else),
        cmocka_unit_test(the_tree_stays_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
