/* SPDX-License-Identifier: Apache-2.0 */
/* The subscription index against asking every pattern, for random patterns of both kinds. */
#include "core/fanout.h"

#include "base/buf.h"
#include "base/mem.h"
#include "message/topic.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

struct sub {
    struct hg_fanout_entry entry;
    char pattern[600];
    unsigned called_n;
};

static void on_match(void *ctx, struct hg_fanout_entry *entry)
{
    size_t *matches_n = ctx;
    HG_CONTAINER_OF(entry, struct sub, entry)->called_n++;
    (*matches_n)++;
}

static size_t count_matches(const struct hg_trie *t, const char *subject)
{
    size_t n = 0;
    hg_trie_match(t, hg_bytes_str(subject), on_match, &n);
    return n;
}

static void add(struct hg_trie *t, struct sub *sub, const char *pattern)
{
    *sub = (struct sub){0};
    (void)snprintf(sub->pattern, sizeof(sub->pattern), "%s", pattern);
    assert_true(hg_trie_add(t, hg_bytes_str(pattern), &sub->entry));
}

struct alphabet {
    enum hg_trie_kind kind;
    const char *separator;
    const char *words[8]; /* the first `plain_n` of them may stand in a subject */
    size_t plain_n, words_n;
    bool (*matches)(struct hg_bytes pattern, struct hg_bytes subject);
};

static const struct alphabet alphabets[] = {
    {HG_TRIE_ADDRESS, "/", {"a", "b", "", "$s", "ab", "+", "+"}, 5, 7, hg_topic_matches},
    {HG_TRIE_BINDING, ".", {"a", "b", "", "ab", "*", "#", "#"}, 4, 7, hg_binding_matches},
};

static void write_random(uint64_t *seed, const struct alphabet *a, bool is_pattern, char out[64])
{
    size_t n = unit_random_below(seed, 6) + (a->kind == HG_TRIE_ADDRESS);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        strcat(out, i == 0 ? "" : a->separator);
        strcat(out, a->words[unit_random_below(seed, is_pattern ? a->words_n : a->plain_n)]);
    }
    if (is_pattern && a->kind == HG_TRIE_ADDRESS && unit_random_below(seed, 4) == 0) {
        strcat(out, "/#");
    } else if (is_pattern && a->kind == HG_TRIE_ADDRESS && unit_random_below(seed, 30) == 0) {
        strcpy(out, "#");
    }
}

enum { SUBS = 300 };

static void check_match(const struct hg_trie *t, const struct alphabet *a, struct sub subs[],
                        const char *subject)
{
    (void)count_matches(t, subject);
    for (size_t i = 0; i < SUBS; i++) {
        bool is_wanted = subs[i].entry.node != NULL &&
                         a->matches(hg_bytes_str(subs[i].pattern), hg_bytes_str(subject));
        if (subs[i].called_n != (is_wanted ? 1U : 0U)) {
            fail_msg("\"%s\" and \"%s\": called %u times", subs[i].pattern, subject,
                     subs[i].called_n);
        }
        subs[i].called_n = 0;
    }
}

/* Subscriptions come and go; subjects are asked in between; nothing is left at the end. */
static void run_against_brute_force(const struct alphabet *a)
{
    struct sub *subs = hg_zalloc(SUBS * sizeof(*subs));
    uint64_t seed = 2026;
    size_t in_n = 0;
    size_t live_before = seam_live();
    struct hg_trie *t = hg_trie_new(a->kind);
    size_t live_empty = seam_live();
    for (int step = 0; step < 12000; step++) {
        struct sub *sub = &subs[unit_random_below(&seed, SUBS)];
        if (sub->entry.node == NULL) {
            char pattern[64];
            write_random(&seed, a, true, pattern);
            add(t, sub, pattern);
            in_n++;
        } else if (unit_random_below(&seed, 3) == 0) {
            hg_trie_remove(t, &sub->entry);
            in_n--;
        }
        assert_int_equal(hg_trie_n(t), in_n);
        if (step % 2 == 0) {
            char subject[64];
            write_random(&seed, a, false, subject);
            check_match(t, a, subs, subject);
        }
    }
    for (size_t i = 0; i < SUBS; i++) {
        size_t at = (i * 77) % SUBS; /* 77 and 300 share no factor: each once, out of order */
        hg_trie_remove(t, &subs[at].entry);
        hg_trie_remove(t, &subs[at].entry);
    }
    assert_int_equal(hg_trie_n(t), 0);
    assert_int_equal(seam_live(), live_empty);
    hg_trie_free(t);
    assert_int_equal(seam_live(), live_before);
    hg_free(subs);
}

static void addresses_agree_with_brute_force(void **state)
{
    (void)state;
    run_against_brute_force(&alphabets[0]);
}

static void binding_keys_agree_with_brute_force(void **state)
{
    (void)state;
    run_against_brute_force(&alphabets[1]);
}

static void a_binding_reached_by_many_ways_is_called_once(void **state)
{
    static const char *const patterns[] = {"#",   "#.#", "#.a.#", "#.a.#.a.#",
                                           "*.#", "#.*", "a.#.a", "#.*.#.*.#"};
    struct sub subs[8];
    (void)state;
    struct hg_trie *t = hg_trie_new(HG_TRIE_BINDING);
    for (size_t i = 0; i < 8; i++) {
        add(t, &subs[i], patterns[i]);
    }
    assert_int_equal(count_matches(t, "a.a.a.a.a"), 8);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(subs[i].called_n, 1);
    }
    assert_int_equal(count_matches(t, ""), 2);
    for (size_t i = 0; i < 8; i++) {
        hg_trie_remove(t, &subs[i].entry);
    }
    hg_trie_free(t);
}

static void a_wildcard_in_a_subject_is_only_text(void **state)
{
    static const char *const patterns[][4] = {{"a/+", "a/#", "+/+", "a/b/+"},
                                              {"a.*", "a.#", "#.*", "a.b.*"}};
    static const char *const subjects[][2] = {{"a/+", "a/#"}, {"a.*", "a.#"}};
    struct sub
        subs[4]; /* the last does not match, but makes the index look for plain levels there */
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct hg_trie *t = hg_trie_new(kind == 0 ? HG_TRIE_ADDRESS : HG_TRIE_BINDING);
        for (size_t i = 0; i < 4; i++) {
            add(t, &subs[i], patterns[kind][i]);
        }
        assert_int_equal(count_matches(t, subjects[kind][0]), 3);
        assert_int_equal(count_matches(t, subjects[kind][1]), 3);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(subs[i].called_n, i < 3 ? 2 : 0);
            hg_trie_remove(t, &subs[i].entry);
        }
        hg_trie_free(t);
    }
}

static void hashes_everywhere_cost_no_more_than_the_nodes(void **state)
{
    struct sub *subs = hg_zalloc(64 * sizeof(*subs));
    char key[256] = "a";
    (void)state;
    struct hg_trie *t = hg_trie_new(HG_TRIE_BINDING);
    for (size_t i = 0; i < 64; i++) {
        char pattern[300] = "";
        for (size_t j = 0; j <= i; j++) {
            strcat(pattern, "#.a.");
        }
        strcat(pattern, "b");
        add(t, &subs[i], pattern);
    }
    while (strlen(key) < 254) {
        strcat(key, ".a");
    }
    for (int i = 0; i < 200; i++) { /* for ever, if every way of dividing the key were walked */
        assert_int_equal(count_matches(t, key), 0);
    }
    for (size_t i = 0; i < 64; i++) {
        hg_trie_remove(t, &subs[i].entry);
    }
    hg_trie_free(t);
    hg_free(subs);
}

static void the_longest_key_and_the_longest_filter_work(void **state)
{
    static struct sub subs[3];
    char dots[256];
    char slashes[201];
    (void)state;
    struct hg_trie *t = hg_trie_new(HG_TRIE_BINDING);
    memset(dots, '.', 255); /* 256 empty words */
    dots[255] = '\0';
    add(t, &subs[0], "#");
    add(t, &subs[1], dots);
    add(t, &subs[2], "*.#.*");
    assert_int_equal(count_matches(t, dots), 3);
    for (size_t i = 0; i < 3; i++) {
        hg_trie_remove(t, &subs[i].entry);
    }
    hg_trie_free(t);

    t = hg_trie_new(HG_TRIE_ADDRESS);
    memset(slashes, '/', 200);
    slashes[200] = '\0';
    add(t, &subs[0], slashes);
    slashes[199] = '\0';
    strcpy(subs[1].pattern, slashes);
    strcat(subs[1].pattern, "/+");
    assert_true(hg_trie_add(t, hg_bytes_str(subs[1].pattern), &subs[1].entry));
    strcat(slashes, "/");
    assert_int_equal(count_matches(t, slashes), 2);
    hg_trie_remove(t, &subs[0].entry);
    hg_trie_remove(t, &subs[1].entry);
    hg_trie_free(t);
}

static void the_pattern_is_written_out_again(void **state)
{
    static const char *const patterns[][5] = {
        {"a/b/c", "+/b/#", "#", "/", "/+"},
        {"a.b", "", "#.a.*", ".", "*"},
    };
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct hg_trie *t = hg_trie_new(kind == 0 ? HG_TRIE_ADDRESS : HG_TRIE_BINDING);
        for (size_t i = 0; i < 5; i++) {
            struct sub sub;
            struct hg_writer w = {0};
            add(t, &sub, patterns[kind][i]);
            hg_trie_write_pattern(t, &sub.entry, &w);
            assert_text(hg_writer_view(&w), patterns[kind][i]);
            hg_writer_close(&w);
            hg_trie_remove(t, &sub.entry);
        }
        hg_trie_free(t);
    }
}

static void entries_of_one_pattern_are_called_in_order(void **state)
{
    struct sub subs[4];
    (void)state;
    struct hg_trie *t = hg_trie_new(HG_TRIE_ADDRESS);
    for (size_t i = 0; i < 4; i++) {
        add(t, &subs[i], "t");
    }
    hg_trie_remove(t, &subs[0].entry);
    hg_trie_remove(t, &subs[2].entry);
    assert_int_equal(count_matches(t, "t"), 2);
    assert_ptr_equal(subs[1].entry.link.next, &subs[3].entry.link);
    hg_trie_remove(t, &subs[1].entry);
    hg_trie_remove(t, &subs[3].entry);
    assert_int_equal(count_matches(t, "t"), 0);
    hg_trie_free(t);
}

static void no_memory_leaves_the_trie_as_it_was(void **state)
{
    static const char *const patterns[] = {"a/+/c/#", "a/+/d", "x/y/z", "#"};
    (void)state;
    for (size_t nth = 1; nth <= 3; nth++) {
        seam_fail_alloc(nth);
        assert_null(hg_trie_new(HG_TRIE_ADDRESS));
        assert_int_equal(seam_live(), 0);
    }
    seam_fail_alloc(0);
    struct hg_trie *t = hg_trie_new(HG_TRIE_ADDRESS);
    struct sub kept;
    add(t, &kept, "a/+");
    size_t live_before = seam_live();
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct sub sub = {0};
        for (size_t nth = 1;; nth++) {
            seam_fail_alloc(nth);
            bool is_added = hg_trie_add(t, hg_bytes_str(patterns[i]), &sub.entry);
            seam_fail_alloc(0);
            if (is_added) {
                hg_trie_remove(t, &sub.entry);
            }
            assert_null(sub.entry.node);
            assert_int_equal(seam_live(), live_before);
            assert_int_equal(hg_trie_n(t), 1);
            assert_int_equal(count_matches(t, "a/b"), 1);
            if (is_added) {
                break;
            }
        }
    }
    hg_trie_remove(t, &kept.entry);
    hg_trie_free(t);
}

static void a_table_that_cannot_grow_still_finds_all(void **state)
{
    enum { N = 2000 };
    struct sub *subs = hg_zalloc(N * sizeof(*subs));
    (void)state;
    struct hg_trie *t = hg_trie_new(HG_TRIE_ADDRESS);
    for (size_t i = 0; i < N; i++) {
        char topic[24];
        (void)snprintf(topic, sizeof(topic), "t/%zu", i);
        seam_fail_alloc(2); /* the node comes first, then the bigger table */
        add(t, &subs[i], topic);
    }
    seam_fail_alloc(0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(count_matches(t, subs[i].pattern), 1);
    }
    for (size_t i = 0; i < N; i++) {
        hg_trie_remove(t, &subs[i].entry);
    }
    hg_trie_free(t);
    hg_free(subs);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_agree_with_brute_force),
        cmocka_unit_test(binding_keys_agree_with_brute_force),
        cmocka_unit_test(a_binding_reached_by_many_ways_is_called_once),
        cmocka_unit_test(a_wildcard_in_a_subject_is_only_text),
        cmocka_unit_test(hashes_everywhere_cost_no_more_than_the_nodes),
        cmocka_unit_test(the_longest_key_and_the_longest_filter_work),
        cmocka_unit_test(the_pattern_is_written_out_again),
        cmocka_unit_test(entries_of_one_pattern_are_called_in_order),
        cmocka_unit_test(no_memory_leaves_the_trie_as_it_was),
        cmocka_unit_test(a_table_that_cannot_grow_still_finds_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
