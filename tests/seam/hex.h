/* SPDX-License-Identifier: Apache-2.0 */
/* Annotated hex for wire cases: "32 06 0001 74" is five bytes, blanks are for the reader. */
#ifndef HG_SEAM_HEX_H
#define HG_SEAM_HEX_H

#include "base/buf.h"
#include "base/check.h"

static inline int hex_digit(char c)
{
    const char *at = c == '\0' ? NULL : strchr("0123456789abcdef", c);
    HG_CHECK(at != NULL);
    return (int)(at - "0123456789abcdef");
}

static inline void hex_read(struct hg_writer *out, const char *hex)
{
    while (*hex != '\0') {
        if (*hex == ' ') {
            hex++;
            continue;
        }
        int high = hex_digit(hex[0]);
        hg_writer_u8(out, (uint8_t)(high << 4 | hex_digit(hex[1])));
        hex += 2;
    }
}

static inline void hex_write(struct hg_writer *out, struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        hg_writer_printf(out, "%s%02x", i == 0 ? "" : " ", b.p[i]);
    }
}

#endif
