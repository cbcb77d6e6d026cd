/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from getrandom, 32 at a time. */
#include "base/random.h"

#include "base/check.h"

#include <sys/random.h>

uint64_t hg_random_next(struct hg_random *r)
{
    if (r->left_n == 0) {
        HG_CHECK(getrandom(r->numbers, sizeof(r->numbers), 0) == sizeof(r->numbers));
        r->left_n = HG_RANDOM_N;
    }
    uint64_t x = r->numbers[--r->left_n];
    r->numbers[r->left_n] = 0; /* nobody reads it again */
    return x;
}
