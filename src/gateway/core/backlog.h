/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that wait for one slow client, the one to go next first. Bounded in bytes: what comes
 * pushes out what has waited longest. Pure bookkeeping: it knows no connection and no protocol. */
#ifndef HG_CORE_BACKLOG_H
#define HG_CORE_BACKLOG_H

#include "base/list.h"
#include "base/map.h"
#include "base/status.h"

struct hg_message;
struct hg_sub;

struct hg_backlog { /* zeroed, then opened */
    struct hg_list entries;
    struct hg_map latest; /* key -> entry, of those that a newer one takes the place of */
    size_t n, bytes;
    uint64_t limit_bytes;
    /* A message goes for another: a newer one of its key, or to make room. is_latest: it had a key.
     * NULL: nobody asks. */
    void (*on_dropped)(void *ctx, bool is_latest, bool is_replaced);
    void *ctx;
};

struct hg_backlog_item { /* borrowed during the call; the message gets a reference */
    struct hg_message *message;
    struct hg_sub *subs; /* of one session, joined by hg_sub.next_match; at least one */
    bool takes_only_one; /* of them */
    struct hg_bytes key; /* what a newer one replaces an older one by; n == 0: nothing does */
};

struct hg_backlog_entry; /* opaque */

/* on_dropped, ctx and limit_bytes are the caller's to set. Allocates nothing. */
void hg_backlog_open(struct hg_backlog *b);
/* Drops everything, silently. */
void hg_backlog_close(struct hg_backlog *b);
/* OK; TOO_LARGE: it alone exceeds the limit; NO_MEMORY. But for OK nothing has changed. An item with
 * a key takes the place in the order of the one that had this key. */
enum hg_status hg_backlog_push(struct hg_backlog *b, const struct hg_backlog_item *item);
/* NULL: it is empty. */
const struct hg_backlog_entry *hg_backlog_first(const struct hg_backlog *b);
struct hg_message *hg_backlog_message(const struct hg_backlog_entry *e); /* borrowed */
/* Its subscriptions that are left, joined by hg_sub.next_match. */
struct hg_sub *hg_backlog_subs(const struct hg_backlog_entry *e);
/* The first one is done with. */
void hg_backlog_pop(struct hg_backlog *b);
/* No message waits for this subscription any more. */
void hg_backlog_forget(struct hg_backlog *b, const struct hg_sub *sub);

#endif
