/* SPDX-License-Identifier: Apache-2.0 */
/* The time seam: tests link their own clock in place of clock.c. */
#ifndef HG_BASE_CLOCK_H
#define HG_BASE_CLOCK_H

#include <stdint.h>

uint64_t hg_clock_ms(void);      /* monotonic, milliseconds */
uint64_t hg_clock_us(void);      /* the same in microseconds */
uint64_t hg_clock_wall_ms(void); /* since 1970-01-01 UTC, milliseconds */

#endif
