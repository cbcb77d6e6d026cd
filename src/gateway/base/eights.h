/* SPDX-License-Identifier: Apache-2.0 */
/* Eight bytes of text looked at in one word. What comes back is not 0 where at least one of them is
 * what was asked for; which one, it does not tell. */
#ifndef HG_BASE_EIGHTS_H
#define HG_BASE_EIGHTS_H

#include <stdint.h>
#include <string.h>

#define HG_EIGHT_ONES 0x0101010101010101ull
#define HG_EIGHT_TOPS 0x8080808080808080ull

static inline uint64_t hg_eight(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Below n, which is at most 128. */
static inline uint64_t hg_eight_below(uint64_t v, uint8_t n)
{
    return (v - HG_EIGHT_ONES * n) & ~v & HG_EIGHT_TOPS;
}

/* Equal to c. */
static inline uint64_t hg_eight_has(uint64_t v, uint8_t c)
{
    return hg_eight_below(v ^ HG_EIGHT_ONES * c, 1);
}

#endif
