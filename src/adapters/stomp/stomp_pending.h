/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of one subscription that the client has not answered yet, in the order sent. */
#ifndef HG_STOMP_PENDING_H
#define HG_STOMP_PENDING_H

#include "upstream/ticket.h"

#include <stdbool.h>
#include <stddef.h>

struct hg_stomp_unanswered {
    uint64_t number; /* of the message in its session; they grow */
    struct hg_ticket ticket;
};

struct hg_stomp_pending { /* zeroed: empty; as many as the prefetch lets through */
    struct hg_stomp_unanswered *items;
    size_t head, n, cap; /* n of them, from items[head] */
};

/* False when there is no memory. */
bool hg_stomp_pending_add(struct hg_stomp_pending *p, uint64_t number, struct hg_ticket ticket);
/* Its place, counted from the oldest; n: it is not there. */
size_t hg_stomp_pending_find(const struct hg_stomp_pending *p, uint64_t number);
/* Takes out the one at `place`. */
struct hg_ticket hg_stomp_pending_take(struct hg_stomp_pending *p, size_t place);
void hg_stomp_pending_reset(struct hg_stomp_pending *p); /* gives its memory back, too */

#endif
