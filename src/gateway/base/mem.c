/* SPDX-License-Identifier: Apache-2.0 */
/* Memory from the C library; the only file that may call malloc. */
#include "base/mem.h"

#include <stdlib.h>

/* Less than glibc maps by itself or gives back to the kernel when it is free. */
enum { STEP_BYTES = 96 * 1024 };

void *hg_alloc(size_t n)
{
    return malloc(n == 0 ? 1 : n); /* so that NULL means one thing */
}

void *hg_zalloc(size_t n)
{
    return calloc(1, n == 0 ? 1 : n);
}

void *hg_realloc(void *p, size_t n)
{
    return realloc(p, n == 0 ? 1 : n);
}

void hg_free(void *p)
{
    free(p);
}

void hg_mem_expect(void)
{
    void *volatile step = malloc(STEP_BYTES); /* volatile: a compiler may leave the pair out */
    free(step);
}
