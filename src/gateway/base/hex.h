/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as text, two lower-case digits each; and digits of either case as numbers. */
#ifndef HG_BASE_HEX_H
#define HG_BASE_HEX_H

#include "base/bytes.h"

/* out: 2 * b.n bytes; no NUL is added. Returns it as a slice. */
static inline struct hg_bytes hg_hex_write(void *out, struct hg_bytes b)
{
    static const char digits[] = "0123456789abcdef";
    char *at = out;
    for (size_t i = 0; i < b.n; i++) {
        *at++ = digits[b.p[i] >> 4];
        *at++ = digits[b.p[i] & 15];
    }
    return hg_bytes(out, 2 * b.n);
}

/* -1: no hex digit. */
static inline int hg_hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
