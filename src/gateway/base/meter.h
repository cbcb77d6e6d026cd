/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets, for rates with a burst. A bucket is one number, the time at which it is full again:
 * taking moves that time on, and nothing has to refill it. Any thread. */
#ifndef HG_BASE_METER_H
#define HG_BASE_METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hg_rates {
    uint64_t messages_per_s, bytes_per_s; /* 0: any number */
    uint64_t burst_ms;                    /* so much time's worth may come at once */
};

static inline bool hg_rates_are_set(const struct hg_rates *r)
{
    return (r->messages_per_s | r->bytes_per_s) != 0;
}

struct hg_meter { /* zero-initialise: full */
    _Atomic uint64_t full_ns;
};

/* A bucket for each; both let a message pass, or none. */
struct hg_meters {
    struct hg_meter messages, bytes;
};

/* Of a rule with a rate, over all workers. The one part of a rule that is not frozen; it belongs to
 * the configuration as the rule does. */
struct hg_rule_meter {
    struct hg_meters meters;
    _Atomic uint64_t held_n, refused_n;
};

/* How long a message of so many bytes has to wait, in ns; 0: it may pass now. One that is larger than
 * the burst passes when the bucket is full. */
uint64_t hg_meters_wait_ns(const struct hg_meters *m, const struct hg_rates *rates, uint64_t bytes,
                           uint64_t now_ms);
/* Takes what it needs, there or not: whoever takes next waits behind it. Returns the wait, which may
 * be longer than what was said a moment ago if another thread took meanwhile. */
uint64_t hg_meters_take(struct hg_meters *m, const struct hg_rates *rates, uint64_t bytes,
                        uint64_t now_ms);

#endif
