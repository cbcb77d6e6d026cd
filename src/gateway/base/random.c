/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from getrandom, many at a time. */
#include "base/random.h"

#include "base/check.h"

#include <errno.h>
#include <sys/random.h>

static void refill(struct hg_random *r)
{
    uint8_t *p = (uint8_t *)r->numbers;
    size_t n = 0;
    while (n < sizeof(r->numbers)) { /* past 256 bytes a signal may cut it short */
        ssize_t got = getrandom(p + n, sizeof(r->numbers) - n, 0);
        HG_CHECK(got > 0 || errno == EINTR);
        n += got > 0 ? (size_t)got : 0;
    }
    r->left_n = HG_RANDOM_N;
}

uint64_t hg_random_next(struct hg_random *r)
{
    if (r->left_n == 0) {
        refill(r);
    }
    uint64_t x = r->numbers[--r->left_n];
    r->numbers[r->left_n] = 0; /* nobody reads it again */
    return x;
}
