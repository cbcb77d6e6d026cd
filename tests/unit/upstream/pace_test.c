/* SPDX-License-Identifier: Apache-2.0 */
/* How far apart turns may be: only where a pause gathers enough and adds little. */
#include "upstream/pace.h"

#include "seam/unit.h"
#include "stream/net.h"

/* What it says after 10 ms in which so many publishes settled, with so many unconfirmed. */
static unsigned after(size_t settled_n, size_t unconfirmed_n)
{
    struct hg_pace p = {0};
    (void)hg_pace_space_us(&p, 1000000, 0); /* nothing is known of what was before */
    hg_pace_settled(&p, settled_n);
    return hg_pace_space_us(&p, 1010000, unconfirmed_n);
}

static void a_pause_is_a_sixth_of_what_a_publish_takes(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t per_s, unconfirmed_n;
        unsigned us;
    } cases[] = {
        {"nothing is under way", 50000, 0, 0},
        {"1,000/s, each takes 1 ms", 1000, 1, 0},
        {"5,000/s, each takes 1 ms", 5000, 5, 0},
        {"20,000/s, 2.4 ms: a sixth gathers 8", 20000, 48, 400},
        {"the same, a little faster: 7 are too few", 20000, 42, 0},
        {"50,000/s, 2.4 ms", 50000, 120, 400},
        {"25,000/s, 9 ms: as much as there is at most", 25000, 225, 1500},
        {"25,000/s, 80 ms: not more", 25000, 2000, 1500},
        {"5,000/s, 100 ms: the most there is gathers 7", 5000, 500, 0},
        {"a few that say nothing about a rate", 700, 20000, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned got = after(cases[i].per_s / 100, cases[i].unconfirmed_n);
        if (got != cases[i].us) {
            fail_msg("%s: %u µs, not %u", cases[i].what, got, cases[i].us);
        }
    }
}

static void a_rate_is_forgotten_with_the_load(void **state)
{
    (void)state;
    struct hg_pace p = {0};
    (void)hg_pace_space_us(&p, 1000000, 0);
    hg_pace_settled(&p, 500);
    assert_int_equal(hg_pace_space_us(&p, 1010000, 120), 400);
    assert_int_equal(hg_pace_space_us(&p, 1014999, 120), 400); /* what was measured last */
    assert_int_equal(hg_pace_space_us(&p, 1015000, 120), 0);   /* 5 ms in which nothing settled */
    hg_pace_settled(&p, 5000);
    assert_int_equal(hg_pace_space_us(&p, 1115000, 120), 0); /* a second ago, or just now? */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_is_a_sixth_of_what_a_publish_takes),
        cmocka_unit_test(a_rate_is_forgotten_with_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
