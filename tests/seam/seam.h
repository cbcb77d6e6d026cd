/* SPDX-License-Identifier: Apache-2.0 */
/* What a test owns once it links base_seam_dep: memory and time. */
#ifndef HG_SEAM_SEAM_H
#define HG_SEAM_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The n-th allocation from now fails (1: the next one), and only that one; 0: none does. */
void seam_fail_alloc(size_t n);
/* Every allocation from the n-th on fails; 0: none does. */
void seam_fail_allocs_from(size_t n);
/* While on, allocations neither fail nor count: for what stands for the other side in a test. */
void seam_spare(bool is_on);
/* Allocations asked for since the last seam_fail_alloc or seam_fail_allocs_from. */
size_t seam_allocs(void);
/* Blocks not freed yet. */
size_t seam_live(void);

/* From now on looks for the text in every block that is given back or moves away. NULL: no more. */
void seam_watch(const char *text);
/* In how many it still was. */
size_t seam_left_behind(void);

/* Milliseconds that hg_clock_ms and hg_clock_wall_ms return. */
extern uint64_t seam_now_ms;  /* starts at 1,000,000 */
extern uint64_t seam_wall_ms; /* starts at 2026-01-02T03:04:05.678Z */

#endif
