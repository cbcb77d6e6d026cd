/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive circular doubly linked list. A node that is in no list points at itself. */
#ifndef HG_BASE_LIST_H
#define HG_BASE_LIST_H

#include "base/check.h"

#include <stdbool.h>

struct hg_list {
    struct hg_list *prev, *next;
};

static inline void hg_list_init(struct hg_list *l)
{
    l->prev = l->next = l;
}

static inline bool hg_list_is_empty(const struct hg_list *l)
{
    return l->next == l;
}

static inline void hg_list_add_last(struct hg_list *head, struct hg_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void hg_list_add_first(struct hg_list *head, struct hg_list *node)
{
    hg_list_add_last(head->next, node);
}

/* Safe to call on a node that is in no list. */
static inline void hg_list_remove(struct hg_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    hg_list_init(node);
}

/* Moves all of `from` to the end of `to`; `from` is empty afterwards. */
static inline void hg_list_take_all(struct hg_list *to, struct hg_list *from)
{
    if (hg_list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    hg_list_init(from);
}

#define HG_LIST_ENTRY(node, type, member) HG_CONTAINER_OF(node, type, member)
#define HG_LIST_FOREACH(it, head) \
    for (struct hg_list *it = (head)->next; it != (head); it = it->next)
/* The current node may be removed inside the loop; no other one may. */
#define HG_LIST_FOREACH_SAFE(it, head)                                           \
    for (struct hg_list *it = (head)->next, *it##_next = it->next; it != (head); \
         it = it##_next, it##_next = it->next)

#endif
