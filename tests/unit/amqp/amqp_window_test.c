/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of unconfirmed publishes, against a model that looks at everything each time. */
#include "amqp/amqp_window.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

enum { MODEL_TAGS = 40000 };

static int items[MODEL_TAGS]; /* their addresses are the items */

struct seen {
    size_t index[MODEL_TAGS]; /* of the items settled, in order */
    size_t n;
    struct hg_window *push_to; /* pushes once per item settled, if not NULL */
    size_t next_item;
};

static void settled(void *ctx, void *item)
{
    struct seen *seen = ctx;
    seen->index[seen->n++] = (size_t)((int *)item - items);
    if (seen->push_to != NULL && seen->next_item < 100) {
        assert_true(hg_window_push(seen->push_to, &items[seen->next_item++]));
    }
}

static void random_operations_agree_with_the_model(void **state)
{
    (void)state;
    static struct seen seen;
    static bool is_open[MODEL_TAGS];
    uint64_t seed = 7;
    for (int round = 0; round < 20; round++) {
        struct hg_window w;
        hg_window_open(&w);
        memset(is_open, 0, sizeof is_open);
        size_t pushed = 0, unsettled = 0;
        for (int i = 0; i < 1000; i++) {
            for (size_t n = unit_random_below(&seed, 5); n > 0; n--) {
                assert_true(hg_window_push(&w, &items[pushed]));
                is_open[pushed++] = true;
                unsettled++;
            }
            uint64_t tag = unit_random_below(&seed, pushed + 4);
            tag = tag + 40 < pushed ? pushed - 40 + tag % 40 : tag; /* mostly among the latest */
            bool is_multiple = unit_random_below(&seed, 8) == 0;
            seen.n = 0;
            size_t n = hg_window_settle(&w, tag, is_multiple, settled, &seen);
            size_t want = 0;
            for (size_t k = 0; k < pushed; k++) {
                bool is_meant = is_multiple ? tag == 0 || k + 1 <= tag : k + 1 == tag;
                if (is_meant && is_open[k]) {
                    assert_true(want < seen.n);
                    assert_int_equal(seen.index[want++], k);
                    is_open[k] = false;
                    unsettled--;
                }
            }
            assert_int_equal(n, want);
            assert_int_equal(seen.n, want);
            assert_int_equal(w.unsettled_n, unsettled);
        }
        uint64_t tag = 0;
        for (size_t k = 0; k < pushed; k++) {
            if (is_open[k]) {
                assert_ptr_equal(hg_window_next(&w, &tag), &items[k]);
                assert_int_equal(tag, k + 1);
            }
        }
        assert_null(hg_window_next(&w, &tag));
        hg_window_close(&w);
    }
}

static void settle_may_push(void **state)
{
    (void)state;
    static struct seen seen;
    struct hg_window w;
    hg_window_open(&w);
    for (size_t i = 0; i < 64; i++) {
        assert_true(hg_window_push(&w, &items[i]));
    }
    seen = (struct seen){.push_to = &w, .next_item = 64};
    assert_int_equal(hg_window_settle(&w, 0, true, settled, &seen), 64); /* not the new ones */
    assert_int_equal(w.unsettled_n, 36);
    seen.push_to = NULL;
    assert_int_equal(hg_window_settle(&w, 100, true, settled, &seen), 36);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(seen.index[i], i);
    }
    hg_window_close(&w);
}

static void reset_starts_at_tag_one_again(void **state)
{
    (void)state;
    static struct seen seen;
    struct hg_window w;
    hg_window_open(&w);
    assert_true(hg_window_push(&w, &items[0]));
    assert_true(hg_window_push(&w, &items[1]));
    hg_window_reset(&w);
    assert_int_equal(w.unsettled_n, 0);
    assert_true(hg_window_push(&w, &items[5]));
    seen = (struct seen){0};
    assert_int_equal(hg_window_settle(&w, 2, false, settled, &seen), 0);
    assert_int_equal(hg_window_settle(&w, 1, false, settled, &seen), 1);
    assert_int_equal(seen.index[0], 5);
    hg_window_close(&w);
}

static void without_memory_no_tag_is_used(void **state)
{
    (void)state;
    struct hg_window w;
    hg_window_open(&w);
    seam_fail_alloc(1);
    assert_false(hg_window_push(&w, &items[0]));
    seam_fail_alloc(0);
    for (size_t i = 0; i < 64; i++) {
        assert_true(hg_window_push(&w, &items[i]));
    }
    seam_fail_alloc(1);
    assert_false(hg_window_push(&w, &items[64]));
    seam_fail_alloc(0);
    assert_int_equal(w.next_tag, 65);
    assert_int_equal(w.unsettled_n, 64);
    assert_true(hg_window_push(&w, &items[64]));
    hg_window_close(&w);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_the_model),
        cmocka_unit_test(settle_may_push),
        cmocka_unit_test(reset_starts_at_tag_one_again),
        cmocka_unit_test(without_memory_no_tag_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
