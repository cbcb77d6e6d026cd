/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/unanswered.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum { FIRST_CAP = 16 };

struct hg_unanswered_entry {
    uint64_t tag, mark;
    enum { OPEN, ACKED, SETTLED } state; /* ACKED: to be sent; SETTLED: RabbitMQ knows */
};

void hg_unanswered_reset(struct hg_unanswered *u)
{
    u->head = u->n = u->open_n = u->acked_n = 0;
}

void hg_unanswered_close(struct hg_unanswered *u)
{
    hg_free(u->entries);
    *u = (struct hg_unanswered){0};
}

static struct hg_unanswered_entry *first(const struct hg_unanswered *u)
{
    return u->entries + u->head;
}

static void drop_settled_front(struct hg_unanswered *u)
{
    while (u->n > 0 && first(u)->state == SETTLED) {
        u->head++;
        u->n--;
    }
    if (u->n == 0) {
        u->head = 0;
    }
}

/* Closes the gaps. What is left is at most what the prefetch allows, so that a table twice as large
 * is not packed again soon, however long the oldest one waits. */
static void pack(struct hg_unanswered *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->n; i++) {
        if (first(u)[i].state != SETTLED) {
            u->entries[n++] = first(u)[i];
        }
    }
    u->head = 0;
    u->n = n;
}

static bool grow(struct hg_unanswered *u)
{
    size_t cap = u->cap == 0 ? FIRST_CAP : u->cap * 2;
    struct hg_unanswered_entry *entries = hg_realloc(u->entries, cap * sizeof(*entries));
    if (entries == NULL) {
        return u->n < u->cap;
    }
    u->entries = entries;
    u->cap = cap;
    return true;
}

bool hg_unanswered_add(struct hg_unanswered *u, uint64_t tag, uint64_t mark)
{
    if (u->head + u->n == u->cap) {
        pack(u);
        if (u->n >= u->cap / 2 && !grow(u)) {
            return false;
        }
    }
    HG_CHECK(u->n == 0 || first(u)[u->n - 1].tag < tag);
    first(u)[u->n++] = (struct hg_unanswered_entry){tag, mark, OPEN};
    u->open_n++;
    return true;
}

bool hg_unanswered_oldest(const struct hg_unanswered *u, uint64_t *mark_out)
{
    for (size_t i = 0; i < u->n; i++) {
        if (first(u)[i].state == OPEN) {
            *mark_out = first(u)[i].mark;
            return true;
        }
    }
    return false;
}

/* The entry of this tag if it has no answer. */
static struct hg_unanswered_entry *find_open(const struct hg_unanswered *u, uint64_t tag)
{
    size_t low = 0;
    size_t high = u->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (first(u)[middle].tag < tag) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct hg_unanswered_entry *e = first(u) + low;
    return low < u->n && e->tag == tag && e->state == OPEN ? e : NULL;
}

bool hg_unanswered_ack(struct hg_unanswered *u, uint64_t tag)
{
    struct hg_unanswered_entry *e = find_open(u, tag);
    if (e == NULL) {
        return false;
    }
    e->state = ACKED;
    u->open_n--;
    u->acked_n++;
    return true;
}

void hg_unanswered_ack_all(struct hg_unanswered *u)
{
    for (size_t i = 0; i < u->n; i++) {
        if (first(u)[i].state == OPEN) {
            first(u)[i].state = ACKED;
        }
    }
    u->acked_n += u->open_n;
    u->open_n = 0;
}

bool hg_unanswered_settle(struct hg_unanswered *u, uint64_t tag)
{
    struct hg_unanswered_entry *e = find_open(u, tag);
    if (e == NULL) {
        return false;
    }
    e->state = SETTLED;
    u->open_n--;
    drop_settled_front(u);
    return true;
}

/* The longest run from the oldest on without an open one; its last ACKED is still RabbitMQ's to
 * settle, which an acknowledgement's tag must be. */
static bool take_run(struct hg_unanswered *u, uint64_t *tag_out, bool *is_multiple_out)
{
    size_t acked_n = 0;
    size_t i = 0;
    for (; i < u->n && first(u)[i].state != OPEN; i++) {
        if (first(u)[i].state == ACKED) {
            *tag_out = first(u)[i].tag;
            acked_n++;
        }
    }
    *is_multiple_out = acked_n > 1;
    u->acked_n -= acked_n;
    u->head += i;
    u->n -= i;
    return acked_n > 0;
}

bool hg_unanswered_take(struct hg_unanswered *u, uint64_t *tag_out, bool *is_multiple_out)
{
    if (u->acked_n == 0) {
        return false;
    }
    if (take_run(u, tag_out, is_multiple_out)) {
        return true;
    }
    struct hg_unanswered_entry *e = first(u);
    while (e->state != ACKED) {
        e++;
    }
    e->state = SETTLED;
    u->acked_n--;
    *tag_out = e->tag;
    *is_multiple_out = false;
    return true;
}
