/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive list for where there are many and most are empty: its head is one pointer. The one added
 * last comes first. Zeroed, a head is an empty chain and a link is in none. */
#ifndef HG_BASE_CHAIN_H
#define HG_BASE_CHAIN_H

#include "base/check.h"

struct hg_chain_link {
    struct hg_chain_link *next; /* NULL: it is the last */
    struct hg_chain_link **at;  /* what points at this one; NULL: it is in no chain */
};

struct hg_chain {
    struct hg_chain_link *first; /* NULL: empty */
};

static inline void hg_chain_insert(struct hg_chain_link **at, struct hg_chain_link *link)
{
    link->next = *at;
    link->at = at;
    if (link->next != NULL) {
        link->next->at = &link->next;
    }
    *at = link;
}

static inline void hg_chain_add_first(struct hg_chain *c, struct hg_chain_link *link)
{
    hg_chain_insert(&c->first, link);
}

/* Looks at each link: for short chains. */
static inline void hg_chain_add_last(struct hg_chain *c, struct hg_chain_link *link)
{
    struct hg_chain_link **at = &c->first;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    hg_chain_insert(at, link);
}

/* Safe to call on a link that is in no chain. */
static inline void hg_chain_remove(struct hg_chain_link *link)
{
    if (link->at == NULL) {
        return;
    }
    *link->at = link->next;
    if (link->next != NULL) {
        link->next->at = link->at;
    }
    *link = (struct hg_chain_link){0};
}

#define HG_CHAIN_ENTRY(link, type, member) HG_CONTAINER_OF(link, type, member)
#define HG_CHAIN_FOREACH(it, chain) \
    for (struct hg_chain_link *it = (chain)->first; it != NULL; it = it->next)
/* The current link may be removed inside the loop; no other one may. */
#define HG_CHAIN_FOREACH_SAFE(it, chain)                                                       \
    for (struct hg_chain_link *it = (chain)->first, *it##_next = it == NULL ? NULL : it->next; \
         it != NULL; it = it##_next, it##_next = it == NULL ? NULL : it->next)

#endif
