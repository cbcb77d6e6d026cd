/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that counts and fails as told; linked in place of base/mem.c. */
#include "base/mem.h"

#include "seam/seam.h"

#include <stdatomic.h>
#include <stdlib.h>

static atomic_size_t asked_n, live_n;
static atomic_size_t fail_first, fail_last; /* 0: none */
static atomic_bool is_sparing;

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
    void *q = is_denied() ? NULL : realloc(p, n == 0 ? 1 : n);
    live_n += p == NULL && q != NULL;
    return q;
}

void hg_free(void *p)
{
    live_n -= p != NULL;
    free(p);
}
