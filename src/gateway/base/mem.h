/* SPDX-License-Identifier: Apache-2.0 */
/* The memory seam: every allocation of ours goes through here, so that a test can fail each in
 * turn. */
#ifndef HG_BASE_MEM_H
#define HG_BASE_MEM_H

#include "base/bytes.h"

#include <stddef.h>

/* As malloc, calloc, realloc, free. NULL when there is no memory; hg_free takes NULL. */
void *hg_alloc(size_t n);
void *hg_zalloc(size_t n);
void *hg_realloc(void *p, size_t n);
void hg_free(void *p);

/* Overwrites what was secret; the compiler leaves it in. p may be NULL where n is 0. */
void hg_forget(void *p, size_t n);

/* NUL-terminated copies; NULL when there is no memory. */
char *hg_strdup(const char *s);
char *hg_bytes_dup(struct hg_bytes b);

/* Many small blocks are about to be allocated by this thread: its heap grows in one step, where the C
 * library would take a page at a time from the kernel, each with a system call. */
void hg_mem_expect(void);

#endif
