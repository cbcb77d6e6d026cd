/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers by the handful, for who needs one a message: as good as hg_random_u64 (map.h), a
 * system call for 256 of them. Belongs to one worker. */
#ifndef HG_BASE_RANDOM_H
#define HG_BASE_RANDOM_H

#include <stdint.h>

enum { HG_RANDOM_N = 256 };

struct hg_random { /* zero-initialise */
    uint64_t numbers[HG_RANDOM_N];
    unsigned left_n; /* not handed out yet */
};

/* Each number once. */
uint64_t hg_random_next(struct hg_random *r);

#endif
