/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clocks. */
#include "base/clock.h"

#include <time.h>

static uint64_t read_ms(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts); /* fails only for a clock that does not exist */
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t hg_clock_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

uint64_t hg_clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}
