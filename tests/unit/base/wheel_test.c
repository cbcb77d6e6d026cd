/* SPDX-License-Identifier: Apache-2.0 */
/* The timer wheel against a list of due times, and the things a timer's function may do. */
#include "base/wheel.h"

#include "base/mem.h"
#include "seam/unit.h"

enum { TIMERS = 100000, TICK = HG_WHEEL_TICK_MS };

struct probe {
    struct hg_timer timer;
    struct hg_wheel *wheel;
    uint64_t set_ms; /* the time it was set at */
    unsigned fired_n;
    uint64_t again_ms;    /* sets itself to this when it fires; 0: does not */
    struct probe *victim; /* stops this one when it fires */
};

static void on_fire(struct hg_timer *t)
{
    struct probe *p = HG_CONTAINER_OF(t, struct probe, timer);
    p->fired_n++;
    assert_int_equal(t->due_ms, 0);
    if (p->again_ms != 0) {
        hg_wheel_set(p->wheel, t, p->again_ms);
    }
    if (p->victim != NULL) {
        hg_timer_stop(&p->victim->timer);
    }
}

static struct probe probe_of(struct hg_wheel *w)
{
    return (struct probe){.wheel = w};
}

static void a_timer_is_32_bytes(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct hg_timer), 32);
}

/* Each due time from a tick before to a tick after, from every phase of the wheel. */
static void never_early_and_at_most_one_tick_late(void **state)
{
    static const uint64_t aheads[] = {0,      1,       63,      64,     65,    128,
                                      16383,  16384,   16385,   16448,  65535, 65536,
                                      999999, 4194303, 4194304, 4194368};
    struct hg_wheel w;
    (void)state;
    for (uint64_t start = 1; start < 40000; start += 1777) {
        for (size_t i = 0; i < sizeof(aheads) / sizeof(aheads[0]); i++) {
            struct probe p = probe_of(&w);
            uint64_t due = start + aheads[i];
            hg_wheel_open(&w, start);
            hg_timer_init(&p.timer, on_fire);
            hg_wheel_set(&w, &p.timer, due);
            hg_wheel_advance(&w, due - 1);
            assert_int_equal(p.fired_n, 0);
            hg_wheel_advance(&w, due + TICK);
            assert_int_equal(p.fired_n, 1);
            hg_wheel_advance(&w, due + 100 * TICK);
            assert_int_equal(p.fired_n, 1);
        }
    }
}

static void waking_when_told_misses_nothing(void **state)
{
    struct hg_wheel w;
    uint64_t now = 5;
    (void)state;
    for (uint64_t ahead = 1; ahead < 1ULL << 40; ahead = ahead * 3 + 7) {
        struct probe p = probe_of(&w);
        unsigned wakes_n = 0;
        hg_wheel_open(&w, now);
        assert_true(hg_wheel_next_ms(&w, now) == UINT64_MAX);
        hg_timer_init(&p.timer, on_fire);
        uint64_t due = now + ahead;
        hg_wheel_set(&w, &p.timer, due);
        while (p.fired_n == 0) {
            uint64_t next = hg_wheel_next_ms(&w, now);
            assert_true(next >= now && next < due + TICK);
            now = next;
            hg_wheel_advance(&w, now);
            wakes_n++;
        }
        assert_true(now >= due);
        assert_true(wakes_n <= HG_WHEEL_LEVELS + 1);
    }
}

/* What must hold for a timer still in the wheel, or just fired, after an advance from prev to now. */
static void check_probe(const struct probe *p, uint64_t due, uint64_t prev, uint64_t now)
{
    bool has_fired = p->fired_n > 0;
    if (has_fired) {
        uint64_t from = due > p->set_ms ? due : p->set_ms;
        assert_true(now >= due);
        assert_true(prev < from + TICK); /* else it had to fire at an earlier advance */
    } else {
        uint64_t from = due > p->set_ms ? due : p->set_ms;
        assert_true(now < from + TICK);
    }
}

static void random_timers_agree_with_a_model(void **state)
{
    struct probe *probes = hg_zalloc(TIMERS * sizeof(*probes));
    uint64_t *dues = hg_zalloc(TIMERS * sizeof(*dues)); /* 0: not set */
    struct hg_wheel w;
    uint64_t seed = 99;
    uint64_t now = 123456;
    (void)state;
    hg_wheel_open(&w, now);
    for (size_t i = 0; i < TIMERS; i++) {
        probes[i].wheel = &w;
        hg_timer_init(&probes[i].timer, on_fire);
    }
    for (int round = 0; round < 120; round++) {
        for (size_t op = 0; op < TIMERS / 20; op++) {
            size_t i = unit_random_below(&seed, TIMERS);
            if (unit_random_below(&seed, 5) == 0) {
                hg_timer_stop(&probes[i].timer);
                dues[i] = 0;
                continue;
            }
            /* Magnitudes from a millisecond to two years, now and then in the past. */
            uint64_t ahead = unit_random(&seed) % (1ULL << (1 + unit_random_below(&seed, 36)));
            dues[i] = unit_random_below(&seed, 50) == 0 ? now - 1000 : now + ahead;
            probes[i].set_ms = now;
            hg_wheel_set(&w, &probes[i].timer, dues[i]);
        }
        uint64_t prev = now;
        uint64_t next = hg_wheel_next_ms(&w, now);
        now += unit_random(&seed) %
               (1ULL << (1 + unit_random_below(&seed, round % 10 == 9 ? 33 : 18)));
        hg_wheel_advance(&w, now);
        for (size_t i = 0; i < TIMERS; i++) {
            if (dues[i] != 0) {
                check_probe(&probes[i], dues[i], prev, now);
                assert_true(next <= (dues[i] > prev ? dues[i] : prev) + TICK);
                dues[i] = probes[i].fired_n > 0 ? 0 : dues[i];
            }
            assert_true(dues[i] != 0 || probes[i].timer.due_ms == 0);
            probes[i].fired_n = 0;
        }
    }
    hg_free(probes);
    hg_free(dues);
}

static void a_moved_timer_fires_at_its_last_due_only(void **state)
{
    struct hg_wheel w;
    (void)state;
    hg_wheel_open(&w, 1000);
    struct probe p = probe_of(&w);
    hg_timer_init(&p.timer, on_fire);
    hg_wheel_set(&w, &p.timer, 2000);
    hg_wheel_set(&w, &p.timer, 90000);
    hg_wheel_advance(&w, 80000);
    assert_int_equal(p.fired_n, 0);
    hg_wheel_set(&w, &p.timer, 80100);
    hg_wheel_advance(&w, 80200);
    assert_int_equal(p.fired_n, 1);
    hg_wheel_advance(&w, 95000);
    assert_int_equal(p.fired_n, 1);
    hg_timer_stop(&p.timer);
    hg_timer_stop(&p.timer);
}

static void a_function_may_stop_one_that_is_due_too(void **state)
{
    struct hg_wheel w;
    (void)state;
    hg_wheel_open(&w, 1000);
    struct probe first = probe_of(&w);
    struct probe second = probe_of(&w);
    hg_timer_init(&first.timer, on_fire);
    hg_timer_init(&second.timer, on_fire);
    first.victim = &second;
    second.victim = &first;
    hg_wheel_set(&w, &first.timer, 1500);
    hg_wheel_set(&w, &second.timer, 1500);
    hg_wheel_advance(&w, 5000);
    assert_int_equal(first.fired_n + second.fired_n, 1);
}

static void a_function_that_sets_itself_to_the_past_fires_once_an_advance(void **state)
{
    struct hg_wheel w;
    (void)state;
    hg_wheel_open(&w, 1000);
    struct probe p = probe_of(&w);
    hg_timer_init(&p.timer, on_fire);
    p.again_ms = 1;
    hg_wheel_set(&w, &p.timer, 1001);
    hg_wheel_advance(&w, 50000);
    assert_int_equal(p.fired_n, 1);
    hg_wheel_advance(&w, 50000 + TICK);
    assert_int_equal(p.fired_n, 2);
}

static void of_many_that_are_due_some_fire_and_the_rest_at_once_afterwards(void **state)
{
    enum { TIMERS_N = 10 };
    struct hg_wheel w;
    struct probe probes[TIMERS_N];
    (void)state;
    hg_wheel_open(&w, 1000);
    for (size_t i = 0; i < TIMERS_N; i++) {
        probes[i] = probe_of(&w);
        hg_timer_init(&probes[i].timer, on_fire);
        hg_wheel_set(&w, &probes[i].timer, i < 6 ? 2000 : 3000);
    }
    hg_wheel_advance_some(&w, 2000 + TICK, 4);
    for (size_t i = 0; i < TIMERS_N; i++) {
        assert_int_equal(probes[i].fired_n, i < 4);
    }
    assert_int_equal(hg_wheel_next_ms(&w, 2000 + TICK), 2000 + TICK);
    hg_timer_stop(&probes[4].timer); /* due or not */
    hg_wheel_advance_some(&w, 3000 + TICK, 3);
    assert_int_equal(probes[4].fired_n, 0);
    assert_int_equal(probes[5].fired_n + probes[6].fired_n + probes[7].fired_n, 3);
    hg_wheel_advance_some(&w, 3000 + TICK, 3);
    assert_int_equal(probes[8].fired_n + probes[9].fired_n, 2);
    assert_int_equal(hg_wheel_next_ms(&w, 3000 + TICK), UINT64_MAX);
}

static void a_clock_that_leaps_or_goes_back_is_survived(void **state)
{
    const uint64_t year_ms = 365ULL * 86400 * 1000;
    struct hg_wheel w;
    (void)state;
    hg_wheel_open(&w, 1000000);
    struct probe soon = probe_of(&w);
    struct probe late = probe_of(&w);
    struct probe never = probe_of(&w);
    hg_timer_init(&soon.timer, on_fire);
    hg_timer_init(&late.timer, on_fire);
    hg_timer_init(&never.timer, on_fire);
    hg_wheel_set(&w, &soon.timer, 1001000);
    hg_wheel_set(&w, &late.timer, 20 * year_ms); /* further than the levels reach */
    hg_wheel_set(&w, &never.timer, UINT64_MAX);
    hg_wheel_advance(&w, 500000);
    assert_int_equal(soon.fired_n, 0);
    hg_wheel_advance(&w, 19 * year_ms);
    assert_int_equal(soon.fired_n, 1);
    assert_int_equal(late.fired_n, 0);
    hg_wheel_advance(&w, 20 * year_ms - 1);
    assert_int_equal(late.fired_n, 0);
    hg_wheel_advance(&w, 20 * year_ms + TICK);
    assert_int_equal(late.fired_n, 1);
    assert_int_equal(never.fired_n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_is_32_bytes),
        cmocka_unit_test(never_early_and_at_most_one_tick_late),
        cmocka_unit_test(waking_when_told_misses_nothing),
        cmocka_unit_test(random_timers_agree_with_a_model),
        cmocka_unit_test(a_moved_timer_fires_at_its_last_due_only),
        cmocka_unit_test(a_function_may_stop_one_that_is_due_too),
        cmocka_unit_test(a_function_that_sets_itself_to_the_past_fires_once_an_advance),
        cmocka_unit_test(of_many_that_are_due_some_fire_and_the_rest_at_once_afterwards),
        cmocka_unit_test(a_clock_that_leaps_or_goes_back_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
