/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that counts and fails as told; linked in place of base/mem.c. */
#include "base/mem.h"

#include "seam/seam.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t asked_n, live_n;
static atomic_size_t fail_first, fail_last; /* 0: none */
static atomic_bool is_sparing;
static const char *needle; /* NULL: none is looked for */
static size_t left_n;

void seam_watch(const char *text)
{
    needle = text;
    left_n = 0;
}

size_t seam_left_behind(void)
{
    return left_n;
}

static void look_at(const void *p)
{
    if (p != NULL && needle != NULL &&
        memmem(p, malloc_usable_size((void *)(uintptr_t)p), needle, strlen(needle)) != NULL) {
        left_n++;
    }
}

void seam_fail_alloc(size_t n)
{
    asked_n = 0;
    fail_first = fail_last = n;
}

void seam_fail_allocs_from(size_t n)
{
    asked_n = 0;
    fail_first = n;
    fail_last = n == 0 ? 0 : SIZE_MAX;
}

size_t seam_allocs(void)
{
    return asked_n;
}

size_t seam_live(void)
{
    return live_n;
}

void seam_spare(bool is_on)
{
    is_sparing = is_on;
}

static bool is_denied(void)
{
    if (is_sparing) {
        return false;
    }
    size_t i = ++asked_n;
    return fail_first != 0 && i >= fail_first && i <= fail_last;
}

void *hg_alloc(size_t n)
{
    void *p = is_denied() ? NULL : malloc(n == 0 ? 1 : n);
    live_n += p != NULL;
    return p;
}

void *hg_zalloc(size_t n)
{
    void *p = is_denied() ? NULL : calloc(1, n == 0 ? 1 : n);
    live_n += p != NULL;
    return p;
}

void *hg_realloc(void *p, size_t n)
{
    bool is_moved = needle != NULL && p != NULL; /* it may, so then it does */
    void *q = is_denied() ? NULL : is_moved ? malloc(n == 0 ? 1 : n) : realloc(p, n == 0 ? 1 : n);
    if (is_moved && q != NULL) {
        size_t old_n = malloc_usable_size(p);
        memcpy(q, p, old_n < n ? old_n : n);
        look_at(p);
        free(p);
    }
    live_n += p == NULL && q != NULL;
    return q;
}

void hg_free(void *p)
{
    live_n -= p != NULL;
    look_at(p);
    free(p);
}

void hg_mem_expect(void)
{
}
