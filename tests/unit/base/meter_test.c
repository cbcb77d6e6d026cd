/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets with a clock that stands: who passes when, and that the rate is kept over any time. */
#include "base/meter.h"

#include "seam/unit.h"

#define MS(n) ((n)*UINT64_C(1000000))

struct step {
    uint64_t at_ms, bytes;
    uint64_t wait_ns; /* said and, if taken, told again */
    bool is_taken;
};

static const struct {
    const char *name;
    struct hg_rates rates;
    struct step steps[8];
} cases[] = {
    {"no rate lets everything pass",
     {0, 0, 1000},
     {{0, 1, 0, true}, {0, UINT64_MAX, 0, true}, {0, 1, 0, true}}},
    {"a burst passes, then one at a time",
     {10, 0, 300},
     {{1000, 0, 0, true},
      {1000, 0, 0, true},
      {1000, 0, 0, true},
      {1000, 0, MS(100), false},
      {1099, 0, MS(1), false},
      {1100, 0, 0, true},
      {1100, 0, MS(100), false}}},
    {"who takes what is not there yet has a place: the next waits behind it",
     {10, 0, 100},
     {{0, 0, 0, true},
      {0, 0, MS(100), true},
      {0, 0, MS(200), true},
      {150, 0, MS(150), true},
      {400, 0, 0, true}}},
    {"a bucket fills up, and no further",
     {10, 0, 200},
     {{0, 0, 0, true}, {1000000, 0, 0, true}, {1000000, 0, 0, true}, {1000000, 0, MS(100), false}}},
    {"bytes count by themselves",
     {0, 1000, 1000},
     {{0, 400, 0, true}, {0, 600, 0, true}, {0, 1, MS(1), false}, {500, 500, 0, true}}},
    {"what is larger than the burst passes when the bucket is full, and is paid for later",
     {0, 1000, 100},
     {{0, 5000, 0, true}, {4899, 100, MS(101), false}, {4900, 0, 0, true}, {5000, 100, 0, true}}},
    {"a message waits for whichever is slower",
     {10, 1000, 100},
     {{0, 100, 0, true}, {0, 50, MS(100), true}, {0, 100, MS(200), false}}},
    {"a burst shorter than a message lets one at a time pass",
     {1, 0, 100},
     {{5000, 0, 0, true}, {5999, 0, MS(1), false}, {6000, 0, 0, true}}},
    {"numbers that would run over do not", /* 2^64 ns at one byte a second */
     {0, 1, 1000},
     {{0, UINT64_MAX, 0, true}, {1000, 1, UINT64_MAX / 1000000000 * 1000000000 - MS(1000), false}}},
};

static void a_message_passes_when_its_bucket_says(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct hg_meters m = {{0}, {0}};
        for (size_t i = 0; i < 8; i++) {
            const struct step *s = &cases[c].steps[i];
            uint64_t said = hg_meters_wait_ns(&m, &cases[c].rates, s->bytes, s->at_ms);
            uint64_t told =
                s->is_taken ? hg_meters_take(&m, &cases[c].rates, s->bytes, s->at_ms) : said;
            if (i > 0 && s->at_ms + s->bytes + s->wait_ns == 0 && !s->is_taken) {
                break; /* past the last */
            }
            if (said != s->wait_ns || told != s->wait_ns) {
                fail_msg("%s, step %zu: said %llu, told %llu", cases[c].name, i,
                         (unsigned long long)said, (unsigned long long)told);
            }
        }
    }
}

/* Whoever asks every `step`, as the timer wheel does, gets the rate and not less. */
static void a_rate_is_kept_whatever_the_clock_ticks(void **state)
{
    (void)state;
    static const uint64_t ticks_ms[] = {1, 7, 64, 99};
    const struct hg_rates rates = {.messages_per_s = 1000, .burst_ms = 100};
    for (size_t t = 0; t < sizeof(ticks_ms) / sizeof(ticks_ms[0]); t++) {
        struct hg_meters m = {{0}, {0}};
        uint64_t passed_n = 0;
        uint64_t end_ms = 20000;
        for (uint64_t now = 0; now <= end_ms; now += ticks_ms[t]) {
            while (hg_meters_wait_ns(&m, &rates, 0, now) == 0) {
                hg_meters_take(&m, &rates, 0, now);
                passed_n++;
            }
        }
        assert_in_range(passed_n, end_ms - ticks_ms[t], end_ms + rates.burst_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_passes_when_its_bucket_says),
        cmocka_unit_test(a_rate_is_kept_whatever_the_clock_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
