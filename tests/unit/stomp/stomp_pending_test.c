/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_pending.h"

#include "seam/seam.h"
#include "seam/unit.h"

static void fill(struct hg_stomp_pending *p, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        assert_true(hg_stomp_pending_add(p, 2 * i, (struct hg_ticket){.tag = i, .epoch = 1}));
    }
}

static void messages_are_found_by_their_number(void **state)
{
    struct hg_stomp_pending p = {0};
    (void)state;
    assert_int_equal(hg_stomp_pending_find(&p, 2), 0);
    fill(&p, 1, 100);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(hg_stomp_pending_find(&p, 2 * i), i - 1);
        assert_int_equal(hg_stomp_pending_find(&p, 2 * i + 1), p.n);
    }
    hg_stomp_pending_reset(&p);
    assert_int_equal(seam_live(), 0);
}

static void what_is_taken_out_is_gone_and_the_rest_stays_in_order(void **state)
{
    struct hg_stomp_pending p = {0};
    (void)state;
    fill(&p, 1, 5);
    assert_int_equal(hg_stomp_pending_take(&p, 2).tag, 3);
    assert_int_equal(hg_stomp_pending_take(&p, 0).tag, 1);
    assert_int_equal(hg_stomp_pending_take(&p, 2).tag, 5);
    assert_int_equal(hg_stomp_pending_find(&p, 6), p.n);
    assert_int_equal(hg_stomp_pending_find(&p, 4), 0);
    assert_int_equal(hg_stomp_pending_find(&p, 8), 1);
    assert_int_equal(p.n, 2);
    hg_stomp_pending_reset(&p);
}

static void memory_grows_with_what_is_unanswered_not_with_what_was_sent(void **state)
{
    struct hg_stomp_pending p = {0};
    (void)state;
    fill(&p, 1, 10);
    for (uint64_t i = 11; i <= 10000; i++) {
        fill(&p, i, i);
        (void)hg_stomp_pending_take(&p, i % 3 == 0 ? 4 : 0); /* the oldest few stay for long */
        assert_int_equal(p.n, 10);
    }
    assert_in_range(p.cap, 10, 32);
    hg_stomp_pending_reset(&p);
}

static void without_memory_nothing_is_lost(void **state)
{
    struct hg_stomp_pending p = {0};
    (void)state;
    fill(&p, 1, 16);
    seam_fail_alloc(1);
    assert_false(hg_stomp_pending_add(&p, 34, (struct hg_ticket){.tag = 17}));
    seam_fail_alloc(0);
    assert_int_equal(p.n, 16);
    assert_int_equal(hg_stomp_pending_find(&p, 32), 15);
    hg_stomp_pending_reset(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_found_by_their_number),
        cmocka_unit_test(what_is_taken_out_is_gone_and_the_rest_stays_in_order),
        cmocka_unit_test(memory_grows_with_what_is_unanswered_not_with_what_was_sent),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
