/* SPDX-License-Identifier: Apache-2.0 */
/* A list in the order of going, and a map for those that replace one another. */
#include "core/backlog.h"

#include "base/check.h"
#include "base/mem.h"
#include "core/session.h"

struct hg_backlog_entry {
    struct hg_list link;
    struct hg_message *message; /* a reference */
    size_t bytes;               /* what it counts */
    struct hg_bytes key;        /* lies behind subs */
    size_t subs_n;              /* that are left */
    struct hg_sub *subs[];
};

static struct hg_backlog_entry *entry_of(struct hg_list *link)
{
    return HG_LIST_ENTRY(link, struct hg_backlog_entry, link);
}

void hg_backlog_open(struct hg_backlog *b)
{
    hg_list_init(&b->entries);
    hg_map_open(&b->latest);
}

/* A key that had no memory for its place in the map may be another entry's by now. */
static void remove_entry(struct hg_backlog *b, struct hg_backlog_entry *e)
{
    if (e->key.n > 0 && hg_map_find(&b->latest, e->key) == e) {
        hg_map_remove(&b->latest, e->key);
    }
    hg_list_remove(&e->link);
    b->n--;
    b->bytes -= e->bytes;
    hg_message_unref(e->message);
    hg_free(e);
}

static void drop(struct hg_backlog *b, struct hg_backlog_entry *e, bool is_replaced)
{
    bool is_latest = e->key.n > 0;
    remove_entry(b, e);
    if (b->on_dropped != NULL) {
        b->on_dropped(b->ctx, is_latest, is_replaced);
    }
}

void hg_backlog_close(struct hg_backlog *b)
{
    HG_LIST_FOREACH_SAFE (it, &b->entries) {
        remove_entry(b, entry_of(it));
    }
    hg_map_close(&b->latest);
}

static struct hg_backlog_entry *new_entry(const struct hg_backlog_item *item, size_t size)
{
    struct hg_backlog_entry *e = hg_alloc(size);
    if (e == NULL) {
        return NULL;
    }
    *e = (struct hg_backlog_entry){.message = hg_message_ref(item->message)};
    struct hg_sub *sub = item->subs;
    for (; sub != NULL; sub = item->takes_only_one ? NULL : sub->next_match) {
        e->subs[e->subs_n++] = sub;
    }
    uint8_t *key = (uint8_t *)(e->subs + e->subs_n);
    if (item->key.n > 0) {
        memcpy(key, item->key.p, item->key.n);
    }
    e->key = hg_bytes(key, item->key.n);
    return e;
}

/* Where its predecessor was, which goes, or at the end. Without memory for its place in the map it
 * will have no successor, that is all. */
static void enter(struct hg_backlog *b, struct hg_backlog_entry *e)
{
    struct hg_backlog_entry *older = e->key.n > 0 ? hg_map_find(&b->latest, e->key) : NULL;
    hg_list_add_last(older != NULL ? &older->link : &b->entries, &e->link);
    b->n++;
    b->bytes += e->bytes;
    if (older != NULL) {
        drop(b, older, true);
    }
    if (e->key.n > 0) {
        (void)hg_map_put(&b->latest, e->key, e);
    }
}

enum hg_status hg_backlog_push(struct hg_backlog *b, const struct hg_backlog_item *item)
{
    size_t subs_n = 0;
    struct hg_sub *sub = item->subs;
    for (; sub != NULL; sub = item->takes_only_one ? NULL : sub->next_match) {
        subs_n++;
    }
    HG_CHECK(subs_n > 0);
    struct hg_backlog_entry *e;
    size_t size = sizeof(*e) + subs_n * sizeof(e->subs[0]) + item->key.n;
    size_t in_map = item->key.n > 0 ? 2 * sizeof(struct hg_map_slot) : 0;
    size_t bytes = size + in_map + hg_message_cost_bytes(item->message);
    if (bytes > b->limit_bytes) {
        return HG_TOO_LARGE;
    }
    e = new_entry(item, size);
    if (e == NULL) {
        return HG_NO_MEMORY;
    }
    e->bytes = bytes;
    enter(b, e);
    while (b->bytes > b->limit_bytes) { /* then there are others */
        struct hg_backlog_entry *first = entry_of(b->entries.next);
        drop(b, first != e ? first : entry_of(first->link.next), false);
    }
    return HG_OK;
}

const struct hg_backlog_entry *hg_backlog_first(const struct hg_backlog *b)
{
    return hg_list_is_empty(&b->entries) ? NULL : entry_of(b->entries.next);
}

struct hg_message *hg_backlog_message(const struct hg_backlog_entry *e)
{
    return e->message;
}

struct hg_sub *hg_backlog_subs(const struct hg_backlog_entry *e)
{
    for (size_t i = 0; i < e->subs_n; i++) {
        e->subs[i]->next_match = i + 1 < e->subs_n ? e->subs[i + 1] : NULL;
    }
    return e->subs[0];
}

void hg_backlog_pop(struct hg_backlog *b)
{
    HG_CHECK(!hg_list_is_empty(&b->entries));
    remove_entry(b, entry_of(b->entries.next));
}

static void forget(struct hg_backlog_entry *e, const struct hg_sub *sub)
{
    size_t n = 0;
    for (size_t i = 0; i < e->subs_n; i++) {
        if (e->subs[i] != sub) {
            e->subs[n++] = e->subs[i];
        }
    }
    e->subs_n = n;
}

void hg_backlog_forget(struct hg_backlog *b, const struct hg_sub *sub)
{
    HG_LIST_FOREACH_SAFE (it, &b->entries) {
        struct hg_backlog_entry *e = entry_of(it);
        forget(e, sub);
        if (e->subs_n == 0) {
            remove_entry(b, e);
        }
    }
}
