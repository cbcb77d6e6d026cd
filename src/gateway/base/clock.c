/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clocks. */
#include "base/clock.h"

#include <time.h>

static struct timespec now_of(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts); /* fails only for a clock that does not exist */
    return ts;
}

static uint64_t ms_of(struct timespec ts)
{
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t hg_clock_ms(void)
{
    return ms_of(now_of(CLOCK_MONOTONIC));
}

uint64_t hg_clock_us(void)
{
    struct timespec ts = now_of(CLOCK_MONOTONIC);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t hg_clock_wall_ms(void)
{
    return ms_of(now_of(CLOCK_REALTIME));
}
