/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of unconfirmed publishes: a ring indexed by delivery tag. */
#include "amqp/amqp_window.h"

#include "base/check.h"
#include "base/mem.h"

enum { FIRST_CAP = 64 };

void hg_window_open(struct hg_window *w)
{
    *w = (struct hg_window){.first_tag = 1, .next_tag = 1};
}

void hg_window_close(struct hg_window *w)
{
    hg_free(w->items);
    hg_window_open(w);
}

void hg_window_reset(struct hg_window *w)
{
    w->first_tag = w->next_tag = 1;
    w->unsettled_n = 0;
}

static void **slot(const struct hg_window *w, uint64_t tag)
{
    return &w->items[tag & (w->cap - 1)];
}

static bool grow(struct hg_window *w)
{
    struct hg_window larger = *w;
    larger.cap = w->cap == 0 ? FIRST_CAP : w->cap * 2;
    if (larger.cap > SIZE_MAX / sizeof(void *) ||
        (larger.items = hg_alloc(larger.cap * sizeof(void *))) == NULL) {
        return false;
    }
    for (uint64_t tag = w->first_tag; tag < w->next_tag; tag++) {
        *slot(&larger, tag) = *slot(w, tag);
    }
    hg_free(w->items);
    *w = larger;
    return true;
}

bool hg_window_push(struct hg_window *w, void *item)
{
    HG_CHECK(item != NULL);
    if (w->next_tag - w->first_tag == w->cap && !grow(w)) {
        return false;
    }
    *slot(w, w->next_tag) = item;
    w->next_tag++;
    w->unsettled_n++;
    return true;
}

/* Everything is up to date when settle is called, so that it may push. */
static size_t settle_first(struct hg_window *w, void (*settle)(void *ctx, void *item), void *ctx)
{
    void *item = *slot(w, w->first_tag);
    w->first_tag++;
    if (item == NULL) {
        return 0;
    }
    w->unsettled_n--;
    settle(ctx, item);
    return 1;
}

static size_t settle_one(struct hg_window *w, uint64_t tag, void (*settle)(void *ctx, void *item),
                         void *ctx)
{
    if (tag < w->first_tag || tag >= w->next_tag || *slot(w, tag) == NULL) {
        return 0;
    }
    void *item = *slot(w, tag);
    *slot(w, tag) = NULL;
    w->unsettled_n--;
    while (w->first_tag < w->next_tag && *slot(w, w->first_tag) == NULL) {
        w->first_tag++;
    }
    settle(ctx, item);
    return 1;
}

size_t hg_window_settle(struct hg_window *w, uint64_t tag, bool is_multiple,
                        void (*settle)(void *ctx, void *item), void *ctx)
{
    if (!is_multiple) {
        return settle_one(w, tag, settle, ctx);
    }
    uint64_t last = tag == 0 || tag >= w->next_tag ? w->next_tag - 1 : tag;
    size_t n = 0;
    while (w->first_tag <= last && w->first_tag < w->next_tag) {
        n += settle_first(w, settle, ctx);
    }
    return n;
}

void *hg_window_next(const struct hg_window *w, uint64_t *tag)
{
    uint64_t at = *tag < w->first_tag ? w->first_tag : *tag + 1;
    for (; at < w->next_tag; at++) {
        if (*slot(w, at) != NULL) {
            *tag = at;
            return *slot(w, at);
        }
    }
    return NULL;
}
