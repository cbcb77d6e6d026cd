/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_receipt.h"

#include "base/mem.h"

struct hg_stomp_receipt *hg_stomp_receipt_new(struct hg_bytes text, uint64_t next)
{
    struct hg_stomp_receipt *r = hg_alloc(sizeof(*r) + text.n);
    if (r != NULL) {
        *r = (struct hg_stomp_receipt){.first = next, .next = next, .n = (uint16_t)text.n};
        hg_list_init(&r->link);
        if (text.n > 0) {
            memcpy(r->text, text.p, text.n);
        }
    }
    return r;
}

void hg_stomp_receipt_add(struct hg_stomp_receipt *r)
{
    r->next++;
    r->left_n++;
}

/* Most confirms come in the order of the publishes: it is mostly the first or none. */
struct hg_stomp_receipt *hg_stomp_receipt_settle(struct hg_list *receipts, uint64_t id)
{
    HG_LIST_FOREACH (it, receipts) {
        struct hg_stomp_receipt *r = HG_LIST_ENTRY(it, struct hg_stomp_receipt, link);
        if (id < r->first) {
            break;
        }
        if (id < r->next) {
            r->left_n--;
            return r;
        }
    }
    return NULL;
}

void hg_stomp_receipt_free(struct hg_stomp_receipt *r)
{
    if (r != NULL) {
        hg_list_remove(&r->link);
        hg_free(r);
    }
}

void hg_stomp_receipt_free_all(struct hg_list *receipts)
{
    HG_LIST_FOREACH_SAFE (it, receipts) {
        hg_stomp_receipt_free(HG_LIST_ENTRY(it, struct hg_stomp_receipt, link));
    }
}
