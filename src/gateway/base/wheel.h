/* SPDX-License-Identifier: Apache-2.0 */
/* Hierarchical timer wheel with a resolution of 64 ms, driven by the time it is given; a timer
 * costs 32 bytes inside its owner and O(1) to set, move and stop. Belongs to one worker. */
#ifndef HG_BASE_WHEEL_H
#define HG_BASE_WHEEL_H

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

struct hg_timer;
typedef void hg_timer_fn(struct hg_timer *timer);

struct hg_timer {
    struct hg_list link;
    hg_timer_fn *fire;
    uint64_t due_ms; /* 0: not set */
};

enum { HG_WHEEL_TICK_MS = 64, HG_WHEEL_SLOTS = 256, HG_WHEEL_LEVELS = 4 };

struct hg_wheel {
    uint64_t tick;      /* ticks done */
    struct hg_list due; /* not fired yet */
    struct hg_list slots[HG_WHEEL_LEVELS][HG_WHEEL_SLOTS];
};

void hg_wheel_open(struct hg_wheel *w, uint64_t now_ms);
/* Once, before its first use. */
void hg_timer_init(struct hg_timer *t, hg_timer_fn *fire);
/* Fires once, at the first advance at or after due_ms (never early, at most one tick late); moves
 * it if it was set. */
void hg_wheel_set(struct hg_wheel *w, struct hg_timer *t, uint64_t due_ms);
/* Safe on a timer that is not set. */
void hg_timer_stop(struct hg_timer *t);
/* Fires what is due. A timer's function may set and stop any timer, itself included. */
void hg_wheel_advance(struct hg_wheel *w, uint64_t now_ms);
/* The same for at most n timers, those first that have been due for longest; the rest is for the
 * next time, which hg_wheel_next_ms wants at once. */
void hg_wheel_advance_some(struct hg_wheel *w, uint64_t now_ms, size_t n);
/* When the wheel wants its next advance (may be early, never late, never before now_ms); UINT64_MAX
 * if no timer is set. */
uint64_t hg_wheel_next_ms(const struct hg_wheel *w, uint64_t now_ms);

#endif
