/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses grow, have a limit and obey the receiver; the breaker opens, tries with one, and closes. */
#include "adapters/webhook/webhook_pace.h"

#include "seam/unit.h"

static void pauses_double_up_to_the_most(void **state)
{
    static const struct {
        uint32_t attempts;
        uint64_t asked_ms, least_ms, most_ms;
    } rows[] = {
        {1, 0, 500, 1000},
        {2, 0, 1000, 2000},
        {3, 0, 2000, 4000},
        {12, 0, 1024000, 2048000},
        {13, 0, 1800000, 3600000},
        {100, 0, 1800000, 3600000},
        {UINT32_MAX, 0, 1800000, 3600000},
        {1, 700, 700, 1000}, /* Retry-After */
        {1, 30000, 30000, 30000},
        {1, 86400000, 3600000, 3600000},
        {1, UINT64_MAX, 3600000, 3600000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t n = rows[i].attempts;
        uint64_t least = hg_webhook_pause_ms(1000, 3600000, n, rows[i].asked_ms, 0);
        uint64_t last = rows[i].most_ms - rows[i].most_ms / 2; /* the random part's largest */
        uint64_t most = hg_webhook_pause_ms(1000, 3600000, n, rows[i].asked_ms, last);
        assert_int_equal(least, rows[i].least_ms);
        assert_true(most <= rows[i].most_ms && most >= least);
        for (uint64_t random = 1; random < UINT64_MAX / 3; random *= 3) {
            uint64_t pause = hg_webhook_pause_ms(1000, 3600000, n, rows[i].asked_ms, random);
            assert_in_range(pause, rows[i].least_ms, rows[i].most_ms);
        }
    }
    assert_int_equal(hg_webhook_pause_ms(1, 1, 5, 0, 12345), 1);
}

static void both_ends_of_the_jitter_are_reached(void **state)
{
    (void)state;
    assert_int_equal(hg_webhook_pause_ms(1000, 3600000, 1, 0, 0), 500);
    assert_int_equal(hg_webhook_pause_ms(1000, 3600000, 1, 0, 500), 1000);
    assert_int_equal(hg_webhook_pause_ms(1000, 3600000, 1, 0, 501), 500);
}

static void the_shortest_delay_that_is_long_enough_is_taken(void **state)
{
    static const uint64_t delays_ms[] = {60000, 300000, 3600000};
    static const struct {
        uint64_t pause_ms;
        size_t delay;
    } rows[] = {{0, 0},      {1, 0},      {60000, 0},   {60001, 1},
                {300000, 1}, {300001, 2}, {3600001, 2}, {UINT64_MAX, 2}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(hg_webhook_delay(delays_ms, 3, rows[i].pause_ms), rows[i].delay);
    }
    assert_int_equal(hg_webhook_delay(delays_ms, 1, 7200000), 0);
}

static void a_breaker_opens_after_failures_in_succession(void **state)
{
    struct hg_webhook_breaker b = {.limit = 3, .pause_ms = 100};
    (void)state;
    assert_false(hg_webhook_breaker_failed(&b, 0));
    assert_false(hg_webhook_breaker_failed(&b, 0));
    assert_false(hg_webhook_breaker_succeeded(&b)); /* in succession */
    assert_false(hg_webhook_breaker_failed(&b, 0));
    assert_false(hg_webhook_breaker_failed(&b, 0));
    assert_true(hg_webhook_breaker_admits(&b, 0));
    assert_true(hg_webhook_breaker_failed(&b, 10));
    assert_false(hg_webhook_breaker_admits(&b, 109));
    assert_true(hg_webhook_breaker_admits(&b, 110));
}

static struct hg_webhook_breaker opened(void)
{
    struct hg_webhook_breaker b = {.limit = 1, .pause_ms = 100};
    assert_true(hg_webhook_breaker_failed(&b, 0));
    return b;
}

static void one_request_tries_an_open_breaker(void **state)
{
    struct hg_webhook_breaker b = opened();
    (void)state;
    hg_webhook_breaker_sent(&b);
    assert_int_equal(b.state, HG_WEBHOOK_PROBING);
    assert_false(hg_webhook_breaker_admits(&b, 1000));
    assert_true(hg_webhook_breaker_failed(&b, 1000)); /* for another pause */
    assert_false(hg_webhook_breaker_admits(&b, 1099));
    assert_true(hg_webhook_breaker_admits(&b, 1100));
    hg_webhook_breaker_sent(&b);
    assert_true(hg_webhook_breaker_succeeded(&b));
    assert_true(hg_webhook_breaker_admits(&b, 1100));
    hg_webhook_breaker_sent(&b);
    assert_int_equal(b.state, HG_WEBHOOK_CLOSED);
}

static void what_was_under_way_does_not_keep_it_open_for_longer(void **state)
{
    struct hg_webhook_breaker b = opened();
    (void)state;
    assert_false(hg_webhook_breaker_failed(&b, 90));
    assert_true(hg_webhook_breaker_admits(&b, 100));
    assert_true(hg_webhook_breaker_succeeded(&b)); /* but it closes it */
}

static void without_a_limit_it_stays_closed(void **state)
{
    struct hg_webhook_breaker b = {.limit = 0, .pause_ms = 100};
    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_false(hg_webhook_breaker_failed(&b, 0));
    }
    assert_true(hg_webhook_breaker_admits(&b, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_the_most),
        cmocka_unit_test(both_ends_of_the_jitter_are_reached),
        cmocka_unit_test(the_shortest_delay_that_is_long_enough_is_taken),
        cmocka_unit_test(a_breaker_opens_after_failures_in_succession),
        cmocka_unit_test(one_request_tries_an_open_breaker),
        cmocka_unit_test(what_was_under_way_does_not_keep_it_open_for_longer),
        cmocka_unit_test(without_a_limit_it_stays_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
