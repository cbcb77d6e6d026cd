/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_pending.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum { FIRST_CAP = 16 };

static bool make_room(struct hg_stomp_pending *p)
{
    if (p->head + p->n < p->cap) {
        return true;
    }
    if (p->head > p->cap / 2) { /* each was passed over once: moving costs no more than adding */
        memmove(p->items, p->items + p->head, p->n * sizeof(p->items[0]));
        p->head = 0;
        return true;
    }
    size_t cap = p->cap == 0 ? FIRST_CAP : p->cap * 2;
    struct hg_stomp_unanswered *items = hg_alloc(cap * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    if (p->n > 0) {
        memcpy(items, p->items + p->head, p->n * sizeof(*items));
    }
    hg_free(p->items);
    p->items = items;
    p->cap = cap;
    p->head = 0;
    return true;
}

bool hg_stomp_pending_add(struct hg_stomp_pending *p, uint64_t number, struct hg_ticket ticket)
{
    if (!make_room(p)) {
        return false;
    }
    p->items[p->head + p->n++] = (struct hg_stomp_unanswered){number, ticket};
    return true;
}

size_t hg_stomp_pending_find(const struct hg_stomp_pending *p, uint64_t number)
{
    size_t low = 0;
    size_t high = p->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->items[p->head + middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < p->n && p->items[p->head + low].number == number ? low : p->n;
}

struct hg_ticket hg_stomp_pending_take(struct hg_stomp_pending *p, size_t place)
{
    HG_CHECK(place < p->n);
    struct hg_stomp_unanswered *first = p->items + p->head;
    struct hg_ticket ticket = first[place].ticket;
    if (place == 0) {
        p->head++;
    } else {
        memmove(first + place, first + place + 1, (p->n - place - 1) * sizeof(*first));
    }
    p->n--;
    return ticket;
}

void hg_stomp_pending_reset(struct hg_stomp_pending *p)
{
    hg_free(p->items);
    *p = (struct hg_stomp_pending){0};
}
