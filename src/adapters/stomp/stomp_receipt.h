/* SPDX-License-Identifier: Apache-2.0 */
/* What a client is owed for its publishes: the receipt of a SEND waits for one outcome, that of a
 * COMMIT for one outcome of each message in the transaction. */
#ifndef HG_STOMP_RECEIPT_H
#define HG_STOMP_RECEIPT_H

#include "base/bytes.h"
#include "base/list.h"

struct hg_stomp_receipt {
    struct hg_list link;  /* in the order of the publishes */
    uint64_t first, next; /* publishes first … next - 1 are its own */
    uint64_t left_n;      /* of these, without an outcome */
    bool is_open;         /* further publishes will be its own */
    bool is_stale;        /* an answer in the transaction had no effect */
    uint16_t n;
    uint8_t text[]; /* of the header receipt; empty: the client wants none */
};

/* Owns no publish yet; the next one has the number `next`. NULL when there is no memory. */
struct hg_stomp_receipt *hg_stomp_receipt_new(struct hg_bytes text, uint64_t next);
/* Publish r->next is under way. */
void hg_stomp_receipt_add(struct hg_stomp_receipt *r);
/* Publish `id` has its outcome. Returns whose it is, NULL if nobody's. */
struct hg_stomp_receipt *hg_stomp_receipt_settle(struct hg_list *receipts, uint64_t id);
/* All outcomes are there. */
static inline bool hg_stomp_receipt_is_due(const struct hg_stomp_receipt *r)
{
    return r->left_n == 0 && !r->is_open;
}
static inline struct hg_bytes hg_stomp_receipt_text(const struct hg_stomp_receipt *r)
{
    return hg_bytes(r->text, r->n);
}
/* Takes it out of its list, if it is in one. NULL is fine. */
void hg_stomp_receipt_free(struct hg_stomp_receipt *r);
void hg_stomp_receipt_free_all(struct hg_list *receipts);

#endif
