/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what it must have been given before it, and small things that unit tests share. */
#ifndef HG_SEAM_UNIT_H
#define HG_SEAM_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/bytes.h"

/* xorshift64*: the same numbers in every run from the same seed, which is not 0. */
static inline uint64_t unit_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

/* 0 <= result < n */
static inline size_t unit_random_below(uint64_t *state, size_t n)
{
    return (size_t)((unit_random(state) >> 16) % n);
}

#define assert_bytes(got, want_n, want_p)                                    \
    do {                                                                     \
        struct hg_bytes assert_bytes_ = (got);                               \
        assert_int_equal(assert_bytes_.n, (want_n));                         \
        if (assert_bytes_.n > 0) {                                           \
            assert_memory_equal(assert_bytes_.p, (want_p), assert_bytes_.n); \
        }                                                                    \
    } while (0)
#define assert_text(got, text) assert_bytes((got), strlen(text), (text))

#endif
