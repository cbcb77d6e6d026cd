/* SPDX-License-Identifier: Apache-2.0 */
/* Level L has slots of 256^L ticks. A slot of a higher level is dealt out to the lower ones at the
 * tick it starts. */
#include "base/wheel.h"

enum { SLOT_BITS = 8, SLOT_MASK = HG_WHEEL_SLOTS - 1 };
_Static_assert(1 << SLOT_BITS == HG_WHEEL_SLOTS, "a level is one byte of the tick");

/* The longest way ahead that the levels can hold; timers beyond it are dealt out again when that
 * time has come. */
static const uint64_t span_ticks = 1ULL << (SLOT_BITS * HG_WHEEL_LEVELS);
/* A step longer than this sorts every timer anew instead of walking the ticks. */
static const uint64_t walk_ticks = 1ULL << (SLOT_BITS * 2);

void hg_wheel_open(struct hg_wheel *w, uint64_t now_ms)
{
    w->tick = now_ms / HG_WHEEL_TICK_MS;
    hg_list_init(&w->due);
    for (int level = 0; level < HG_WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < HG_WHEEL_SLOTS; slot++) {
            hg_list_init(&w->slots[level][slot]);
        }
    }
}

void hg_timer_init(struct hg_timer *t, hg_timer_fn *fire)
{
    hg_list_init(&t->link);
    t->fire = fire;
    t->due_ms = 0;
}

/* The slot for a timer that may fire at `earliest` or later; earliest is the tick done or the one
 * after it. */
static struct hg_list *slot_of(struct hg_wheel *w, const struct hg_timer *t, uint64_t earliest)
{
    uint64_t due = t->due_ms / HG_WHEEL_TICK_MS + (t->due_ms % HG_WHEEL_TICK_MS != 0);
    due = due < earliest ? earliest : due;
    due = due - w->tick >= span_ticks ? w->tick + span_ticks - 1 : due;
    unsigned level = 0;
    while ((due - w->tick) >> (SLOT_BITS * (level + 1)) != 0) {
        level++;
    }
    return &w->slots[level][due >> (SLOT_BITS * level) & SLOT_MASK];
}

void hg_wheel_set(struct hg_wheel *w, struct hg_timer *t, uint64_t due_ms)
{
    hg_list_remove(&t->link);
    t->due_ms = due_ms == 0 ? 1 : due_ms;
    hg_list_add_last(slot_of(w, t, w->tick + 1), &t->link);
}

void hg_timer_stop(struct hg_timer *t)
{
    hg_list_remove(&t->link);
    t->due_ms = 0;
}

static void deal_out(struct hg_wheel *w, struct hg_list *from)
{
    struct hg_list timers;
    hg_list_init(&timers);
    hg_list_take_all(&timers, from);
    HG_LIST_FOREACH_SAFE (it, &timers) {
        hg_list_remove(it);
        hg_list_add_last(slot_of(w, HG_LIST_ENTRY(it, struct hg_timer, link), w->tick), it);
    }
}

/* One tick: slots of higher levels that start at it come down, then what is due goes to w->due. */
static void step(struct hg_wheel *w)
{
    w->tick++;
    unsigned level = 1;
    while (level < HG_WHEEL_LEVELS && (w->tick & ((1ULL << (SLOT_BITS * level)) - 1)) == 0) {
        level++;
    }
    while (--level > 0) {
        deal_out(w, &w->slots[level][w->tick >> (SLOT_BITS * level) & SLOT_MASK]);
    }
    hg_list_take_all(&w->due, &w->slots[0][w->tick & SLOT_MASK]);
}

/* After a long sleep: everything is dealt out as seen from the new time. */
static void jump(struct hg_wheel *w, uint64_t tick)
{
    struct hg_list timers;
    hg_list_init(&timers);
    for (int level = 0; level < HG_WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < HG_WHEEL_SLOTS; slot++) {
            hg_list_take_all(&timers, &w->slots[level][slot]);
        }
    }
    w->tick = tick;
    deal_out(w, &timers);
    hg_list_take_all(&w->due, &w->slots[0][tick & SLOT_MASK]);
}

void hg_wheel_advance_some(struct hg_wheel *w, uint64_t now_ms, size_t n)
{
    uint64_t now = now_ms / HG_WHEEL_TICK_MS;
    if (now > w->tick && now - w->tick > walk_ticks) { /* a clock set back fires nothing */
        jump(w, now);
    }
    while (w->tick < now) {
        step(w);
    }
    /* Collected first and fired after, so that a function that sets its timer anew cannot meet it
     * twice. */
    for (; n > 0 && !hg_list_is_empty(&w->due); n--) {
        struct hg_timer *t = HG_LIST_ENTRY(w->due.next, struct hg_timer, link);
        hg_timer_stop(t);
        t->fire(t);
    }
}

void hg_wheel_advance(struct hg_wheel *w, uint64_t now_ms)
{
    hg_wheel_advance_some(w, now_ms, SIZE_MAX);
}

uint64_t hg_wheel_next_ms(const struct hg_wheel *w, uint64_t now_ms)
{
    uint64_t best = UINT64_MAX;
    if (!hg_list_is_empty(&w->due)) {
        return now_ms;
    }
    for (unsigned level = 0; level < HG_WHEEL_LEVELS; level++) {
        uint64_t at = w->tick >> (SLOT_BITS * level);
        for (unsigned i = 1; i <= HG_WHEEL_SLOTS; i++) {
            uint64_t starts = (at + i) << (SLOT_BITS * level);
            if (starts >= best) {
                break;
            }
            if (!hg_list_is_empty(&w->slots[level][(at + i) & SLOT_MASK])) {
                best = starts;
            }
        }
    }
    if (best == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t next_ms = best * HG_WHEEL_TICK_MS;
    return next_ms < now_ms ? now_ms : next_ms;
}
