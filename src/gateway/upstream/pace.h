/* SPDX-License-Identifier: Apache-2.0 */
/* How far apart the turns of a loop that publishes may be. A turn costs a wait, a read and a write
 * towards RabbitMQ and some for each client, however few messages it moves; where many are under
 * way, each waits for RabbitMQ anyway, and a small part of that time more lets one turn move many.
 * Pure bookkeeping. */
#ifndef HG_UPSTREAM_PACE_H
#define HG_UPSTREAM_PACE_H

#include <stddef.h>
#include <stdint.h>

struct hg_pace { /* zeroed: nothing is known */
    uint64_t since_us;
    uint64_t settled_n; /* since then */
    uint64_t each_ns;   /* from one settled publish to the next, when last measured; 0: not known */
};

/* So many publishes have their outcome. */
void hg_pace_settled(struct hg_pace *p, size_t n);
/* Once a turn that published or settled, with how many are unconfirmed: how long after its beginning
 * the next may begin, in microseconds; 0: there is no reason to wait. */
unsigned hg_pace_space_us(struct hg_pace *p, uint64_t now_us, size_t unconfirmed_n);

#endif
