/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of one channel's unconfirmed publishes: which delivery tag is which item. Pure
 * bookkeeping. */
#ifndef HG_AMQP_AMQP_WINDOW_H
#define HG_AMQP_AMQP_WINDOW_H

#include "base/bytes.h"

struct hg_window {
    void **items;       /* ring; NULL where already settled */
    size_t cap;         /* 0 or a power of two */
    uint64_t first_tag; /* of the oldest not yet dropped */
    uint64_t next_tag;  /* of the next push; the first is 1 */
    size_t unsettled_n;
};

void hg_window_open(struct hg_window *w);
void hg_window_close(struct hg_window *w);
/* Gives `item` (not NULL) the next delivery tag. False when there is no memory; then no tag is
 * used. */
bool hg_window_push(struct hg_window *w, void *item);
/* Calls settle for each item that `tag` settles (all up to it if is_multiple, of those not yet
 * settled), oldest first; tags never given or settled before are ignored. Tag 0 with is_multiple
 * means all (AMQP 0-9-1, basic.ack). Returns how many. settle may push. */
size_t hg_window_settle(struct hg_window *w, uint64_t tag, bool is_multiple,
                        void (*settle)(void *ctx, void *item), void *ctx);
/* The oldest unsettled item, or NULL; and the one after *tag (start with 0), for walking in
 * order. */
void *hg_window_next(const struct hg_window *w, uint64_t *tag);
/* Forgets all items and starts at tag 1 again. */
void hg_window_reset(struct hg_window *w);

#endif
