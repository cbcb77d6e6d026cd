/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/pace.h"

#include "stream/net.h"

enum {
    MEASURE_US = 5000, /* the rate is that of so long */
    FORGET_US = 50000, /* what is older says nothing of now */
    SETTLED_MIN = 8,   /* in that time, for a rate */
    PART = 6,          /* of what a publish takes: so much is added each way at most */
    GATHER_MIN = 8     /* messages that come meanwhile: fewer are not worth it */
};

void hg_pace_settled(struct hg_pace *p, size_t n)
{
    p->settled_n += n;
}

static void measure(struct hg_pace *p, uint64_t now_us)
{
    uint64_t passed_us = now_us - p->since_us;
    if (passed_us < MEASURE_US) {
        return;
    }
    bool is_known = passed_us < FORGET_US && p->settled_n >= SETTLED_MIN;
    p->each_ns = is_known ? passed_us * 1000 / p->settled_n : 0;
    p->since_us = now_us;
    p->settled_n = 0;
}

unsigned hg_pace_space_us(struct hg_pace *p, uint64_t now_us, size_t unconfirmed_n)
{
    measure(p, now_us);
    uint64_t space_ns = unconfirmed_n * p->each_ns / PART; /* by Little's law */
    uint64_t most_ns = (uint64_t)HG_NET_SPACE_MAX_US * 1000;
    space_ns = space_ns < most_ns ? space_ns : most_ns;
    return space_ns < GATHER_MIN * p->each_ns ? 0 : (unsigned)(space_ns / 1000);
}
