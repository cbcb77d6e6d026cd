/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-encoding (RFC 3986 section 2.1), one byte at a time: which bytes need it is each format's
 * own. */
#ifndef HG_BASE_PERCENT_H
#define HG_BASE_PERCENT_H

#include "base/hex.h"

enum { HG_PERCENT_N = 3 }; /* bytes of "%2F" */

/* Writes c as HG_PERCENT_N bytes, in capitals; returns what is behind them. */
static inline uint8_t *hg_percent_write(uint8_t *at, uint8_t c)
{
    static const char digits[] = "0123456789ABCDEF";
    *at++ = '%';
    *at++ = (uint8_t)digits[c >> 4];
    *at++ = (uint8_t)digits[c & 15];
    return at;
}

/* What `in` begins with, from its `%` on. False: not two hex digits. */
static inline bool hg_percent_read(struct hg_bytes in, uint8_t *out)
{
    int high = in.n < HG_PERCENT_N ? -1 : hg_hex_value(in.p[1]);
    int low = in.n < HG_PERCENT_N ? -1 : hg_hex_value(in.p[2]);
    *out = (uint8_t)(high * 16 + low);
    return high >= 0 && low >= 0;
}

#endif
