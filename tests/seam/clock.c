/* SPDX-License-Identifier: Apache-2.0 */
/* Time that stands until the test moves it; linked in place of base/clock.c. */
#include "base/clock.h"

#include "seam/seam.h"

uint64_t seam_now_ms = 1000000;
uint64_t seam_wall_ms = 1767323045678;

uint64_t hg_clock_ms(void)
{
    return seam_now_ms;
}

uint64_t hg_clock_us(void)
{
    return seam_now_ms * 1000;
}

uint64_t hg_clock_wall_ms(void)
{
    return seam_wall_ms;
}
