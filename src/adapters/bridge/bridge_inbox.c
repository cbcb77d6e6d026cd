/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of what comes from a site. */
#include "adapters/bridge/bridge_inbox.h"

#include "base/mem.h"

void hg_bridge_inbox_open(struct hg_bridge_inbox *i)
{
    *i = (struct hg_bridge_inbox){0};
    hg_list_init(&i->arrivals);
}

void hg_bridge_inbox_close(struct hg_bridge_inbox *i)
{
    HG_LIST_FOREACH_SAFE (it, &i->arrivals) {
        hg_bridge_inbox_end(i, HG_LIST_ENTRY(it, struct hg_bridge_arrival, link));
    }
}

bool hg_bridge_inbox_add(struct hg_bridge_inbox *i, struct hg_message *message_own, uint8_t qos,
                         bool is_retained)
{
    struct hg_bridge_arrival *a = message_own == NULL ? NULL : hg_zalloc(sizeof(*a));
    if (a == NULL) {
        hg_message_unref(message_own);
        return false;
    }
    a->id = ++i->last_id;
    a->message = message_own;
    a->qos = qos;
    a->is_retained = is_retained;
    hg_list_add_last(&i->arrivals, &a->link);
    i->n++;
    i->waiting_n++;
    return true;
}

struct hg_bridge_arrival *hg_bridge_inbox_next(struct hg_bridge_inbox *i)
{
    if (i->waiting_n == 0) {
        return NULL;
    }
    HG_LIST_FOREACH (it, &i->arrivals) {
        struct hg_bridge_arrival *a = HG_LIST_ENTRY(it, struct hg_bridge_arrival, link);
        if (!a->is_under_way) {
            return a;
        }
    }
    return NULL;
}

void hg_bridge_inbox_sent(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a)
{
    a->is_under_way = true;
    i->waiting_n--;
}

struct hg_bridge_arrival *hg_bridge_inbox_find(struct hg_bridge_inbox *i, uint64_t id)
{
    HG_LIST_FOREACH (it, &i->arrivals) {
        struct hg_bridge_arrival *a = HG_LIST_ENTRY(it, struct hg_bridge_arrival, link);
        if (a->is_under_way && a->id == id) {
            return a;
        }
    }
    return NULL;
}

void hg_bridge_inbox_again(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a)
{
    a->is_under_way = false;
    i->waiting_n++;
}

void hg_bridge_inbox_end(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a)
{
    i->waiting_n -= a->is_under_way ? 0 : 1;
    i->n--;
    hg_list_remove(&a->link);
    hg_message_unref(a->message);
    hg_free(a);
}
