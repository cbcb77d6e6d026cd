/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as text, two lower-case digits each; and digits of either case as numbers. */
#ifndef HG_BASE_HEX_H
#define HG_BASE_HEX_H

#include "base/bytes.h"

#include <endian.h>

/* The digits of four bytes, the first one's in the lowest. */
static inline uint64_t hg_hex_eight(uint32_t v)
{
    uint64_t x = v;
    x = (x << 16 | x) & 0x0000ffff0000ffff;
    x = (x << 8 | x) & 0x00ff00ff00ff00ff;
    x = (x >> 4 & 0x000f000f000f000f) | (x & 0x000f000f000f000f) << 8;
    uint64_t letters = (x + 0x0606060606060606) >> 4 & 0x0101010101010101; /* 10 and more */
    return x + 0x3030303030303030 + letters * ('a' - '9' - 1);
}

/* out: 2 * b.n bytes; no NUL is added. Returns it as a slice. */
static inline struct hg_bytes hg_hex_write(void *out, struct hg_bytes b)
{
    static const char digits[] = "0123456789abcdef";
    char *at = out;
    size_t i = 0;
    for (; b.n - i >= 4; i += 4, at += 8) {
        uint32_t four;
        memcpy(&four, b.p + i, sizeof(four));
        uint64_t eight = htole64(hg_hex_eight(le32toh(four)));
        memcpy(at, &eight, sizeof(eight));
    }
    for (; i < b.n; i++) {
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
