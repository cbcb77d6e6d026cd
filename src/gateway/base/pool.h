/* SPDX-License-Identifier: Apache-2.0 */
/* Slab allocator for many objects of one size; belongs to one worker. */
#ifndef HG_BASE_POOL_H
#define HG_BASE_POOL_H

#include <stddef.h>

struct hg_pool {
    size_t object_bytes; /* rounded up to 8 */
    size_t slab_n;       /* objects in a slab */
    void *free_list;
    void *slabs;
    size_t used_n; /* objects handed out */
};

void hg_pool_open(struct hg_pool *pool, size_t object_bytes, size_t slab_n);
/* Every object must have been given back. */
void hg_pool_close(struct hg_pool *pool);
void *hg_pool_get(struct hg_pool *pool); /* zeroed; NULL when there is no memory */
void hg_pool_put(struct hg_pool *pool, void *object);

#endif
