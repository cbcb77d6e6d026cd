/* SPDX-License-Identifier: Apache-2.0 */
/* A number that one worker writes and anybody reads (relaxed). */
#ifndef HG_BASE_COUNTER_H
#define HG_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t hg_counter;

static inline void hg_count(hg_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
/* For gauges. */
static inline void hg_uncount(hg_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) - n,
                          memory_order_relaxed);
}
static inline uint64_t hg_counted(const hg_counter *c)
{
    return atomic_load_explicit((hg_counter *)c, memory_order_relaxed);
}

#endif
