/* SPDX-License-Identifier: Apache-2.0 */
/* Eight bytes of text looked at in one word. A search comes back with a word that is 0 where none of
 * them is what was asked for; or-ed with others', hg_eight_first tells where the first one is. */
#ifndef HG_BASE_EIGHTS_H
#define HG_BASE_EIGHTS_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HG_EIGHT_ONES 0x0101010101010101ull
#define HG_EIGHT_TOPS 0x8080808080808080ull

static inline uint64_t hg_eight(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v); /* the first byte is the lowest: behind what is found, a search may err */
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

/* Control characters of ASCII. */
static inline uint64_t hg_eight_controls(uint64_t v)
{
    return hg_eight_below(v, 0x20) | hg_eight_has(v, 0x7f);
}

/* ASCII letters. Exact, behind what is found too. */
static inline uint64_t hg_eight_letters(uint64_t v)
{
    uint64_t low = (v | HG_EIGHT_ONES * 0x20) & ~HG_EIGHT_TOPS; /* no carry leaves a byte */
    uint64_t from_a = low + HG_EIGHT_ONES * (0x80 - 'a');
    uint64_t past_z = low + HG_EIGHT_ONES * (0x80 - 'z' - 1);
    return from_a & ~past_z & ~v & HG_EIGHT_TOPS;
}

/* How many bytes stand before the first that was found; 8: none was. */
static inline size_t hg_eight_first(uint64_t found)
{
    return found == 0 ? 8 : (size_t)__builtin_ctzll(found) / 8;
}

#endif
