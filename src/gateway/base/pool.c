/* SPDX-License-Identifier: Apache-2.0 */
/* Slabs of equal objects; free ones are chained through their own first bytes. */
#include "base/pool.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/asan_interface.h>
#else
#    define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#    define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* Of pointers and of the integers that objects are made of. */
enum { OBJECT_ALIGN = _Alignof(uint64_t) };

struct link {
    struct link *next;
};

struct slab {
    struct slab *next;
    _Alignas(OBJECT_ALIGN) uint8_t objects[];
};

/* A free object is only its link; AddressSanitizer reports who touches the rest. */
static void chain(struct hg_pool *pool, void *object)
{
    struct link *link = object;
    link->next = pool->free_list;
    pool->free_list = link;
    ASAN_POISON_MEMORY_REGION((uint8_t *)object + sizeof(*link),
                              pool->object_bytes - sizeof(*link));
}

void hg_pool_open(struct hg_pool *pool, size_t object_bytes, size_t slab_n)
{
    HG_CHECK(object_bytes > 0 && slab_n > 0);
    *pool = (struct hg_pool){.object_bytes =
                                 (object_bytes + OBJECT_ALIGN - 1) / OBJECT_ALIGN * OBJECT_ALIGN,
                             .slab_n = slab_n};
}

void hg_pool_close(struct hg_pool *pool)
{
    HG_CHECK(pool->used_n == 0);
    for (struct slab *slab = pool->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        ASAN_UNPOISON_MEMORY_REGION(slab->objects, pool->slab_n * pool->object_bytes);
        hg_free(slab);
    }
    pool->slabs = pool->free_list = NULL;
}

void *hg_pool_get(struct hg_pool *pool)
{
    if (pool->free_list == NULL) {
        struct slab *slab = hg_alloc(sizeof(*slab) + pool->slab_n * pool->object_bytes);
        if (slab == NULL) {
            return NULL;
        }
        slab->next = pool->slabs;
        pool->slabs = slab;
        for (size_t i = pool->slab_n; i-- > 0;) {
            chain(pool, slab->objects + i * pool->object_bytes);
        }
    }
    struct link *object = pool->free_list;
    pool->free_list = object->next;
    pool->used_n++;
    ASAN_UNPOISON_MEMORY_REGION(object, pool->object_bytes);
    return memset(object, 0, pool->object_bytes);
}

void hg_pool_put(struct hg_pool *pool, void *object)
{
    HG_CHECK(object != NULL && pool->used_n > 0);
    pool->used_n--;
    chain(pool, object);
}
