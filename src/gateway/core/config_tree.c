/* SPDX-License-Identifier: Apache-2.0 */
/* Arena and tree of the configuration reader. */
#include "core/config_tree.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>

struct hg_config_chunk {
    struct hg_config_chunk *next;
    size_t used, cap;
    alignas(max_align_t) uint8_t data[];
};

enum { CHUNK_BYTES = 16 * 1024 };

void *hg_config_arena_get(struct hg_config_arena *a, size_t n)
{
    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct hg_config_chunk *c = a->chunks;
    if (c == NULL || c->cap - c->used < n) {
        size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = hg_zalloc(sizeof *c + cap);
        if (c == NULL) {
            a->is_exhausted = true;
            return NULL;
        }
        c->cap = cap;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->used;
    c->used += n;
    return p;
}

char *hg_config_arena_copy(struct hg_config_arena *a, const char *p, size_t n)
{
    char *s = hg_config_arena_get(a, n + 1);
    if (s != NULL && n > 0) {
        memcpy(s, p, n);
    }
    return s;
}

char *hg_config_arena_printf(struct hg_config_arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *s = n < 0 ? NULL : hg_config_arena_get(a, (size_t)n + 1);
    if (s != NULL) {
        vsnprintf(s, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    va_end(args);
    return s;
}

void hg_config_arena_close(struct hg_config_arena *a)
{
    while (a->chunks != NULL) {
        struct hg_config_chunk *c = a->chunks;
        a->chunks = c->next;
        hg_forget(c->data, c->used); /* passwords among it */
        hg_free(c);
    }
}

const char *hg_config_kind_name(enum hg_config_kind kind)
{
    static const char *const names[] = {"a table",          "an array",  "a string", "an integer",
                                        "a floating point", "a boolean", "a date"};
    return names[kind];
}

struct hg_config_node *hg_config_tree_find(const struct hg_config_node *table, const char *key)
{
    for (struct hg_config_node *n = table->u.first; n != NULL; n = n->next) {
        if (strcmp(n->key, key) == 0) {
            return n;
        }
    }
    return NULL;
}

size_t hg_config_tree_n(const struct hg_config_node *table_or_array)
{
    size_t n = 0;
    for (const struct hg_config_node *c = table_or_array->u.first; c != NULL; c = c->next) {
        n++;
    }
    return n;
}

/* Where in base's list of children `over` belongs: the link to the child it names, or the link at
 * the end. NULL: nowhere. */
static struct hg_config_node **place_for(struct hg_config_node *base,
                                         const struct hg_config_node *over)
{
    struct hg_config_node **link = &base->u.first;
    uint64_t index = UINT64_MAX;
    if (base->kind == HG_CONFIG_ARRAY &&
        !hg_bytes_to_u64(hg_bytes_str(over->key), UINT32_MAX, &index)) {
        return NULL;
    }
    for (; *link != NULL; link = &(*link)->next, index--) {
        if (base->kind == HG_CONFIG_ARRAY ? index == 0 : strcmp((*link)->key, over->key) == 0) {
            return link;
        }
    }
    return base->kind == HG_CONFIG_TABLE || index == 0 ? link : NULL;
}

const struct hg_config_node *hg_config_tree_merge(struct hg_config_node *base,
                                                  struct hg_config_node *over)
{
    struct hg_config_node *next;
    for (struct hg_config_node *child = over->u.first; child != NULL; child = next) {
        next = child->next;
        struct hg_config_node **link = place_for(base, child);
        if (link == NULL) {
            return child;
        }
        struct hg_config_node *old = *link;
        bool goes_deeper = old != NULL && child->kind == HG_CONFIG_TABLE &&
                           (old->kind == HG_CONFIG_TABLE || old->kind == HG_CONFIG_ARRAY);
        if (goes_deeper) {
            const struct hg_config_node *misfit = hg_config_tree_merge(old, child);
            if (misfit != NULL) {
                return misfit;
            }
            continue;
        }
        child->next = old == NULL ? NULL : old->next;
        child->key = base->kind == HG_CONFIG_ARRAY ? NULL : child->key;
        *link = child;
    }
    return NULL;
}
