/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants that stay on in release builds, and the way from a member to its struct. */
#ifndef HG_BASE_CHECK_H
#define HG_BASE_CHECK_H

#include <stddef.h>

/* Prints what failed and aborts: a bug of ours, never a peer's doing. */
_Noreturn void hg_check_failed(const char *expression, const char *file, int line);

#define HG_CHECK(e) ((e) ? (void)0 : hg_check_failed(#e, __FILE__, __LINE__))

#define HG_CONTAINER_OF(ptr, type, member) \
    ((type *)(void *)((char *)(void *)(ptr)-offsetof(type, member)))

#define HG_UNUSED             __attribute__((unused))
#define HG_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#endif
