/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of strings and the end of secrets, apart from mem.c so that a test's own mem.c need not have
 * them. */
#include "base/mem.h"

void hg_forget(void *p, size_t n)
{
    if (n > 0) {
        explicit_bzero(p, n);
    }
}

char *hg_strdup(const char *s)
{
    return hg_bytes_dup(hg_bytes_str(s));
}

char *hg_bytes_dup(struct hg_bytes b)
{
    char *copy = hg_alloc(b.n + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (b.n > 0) {
        memcpy(copy, b.p, b.n);
    }
    copy[b.n] = '\0';
    return copy;
}
