/* SPDX-License-Identifier: Apache-2.0 */
/* One step of UTF-8 decoding. */
#include "base/utf8.h"

size_t hg_utf8_step(struct hg_bytes b, uint32_t *code_out)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800,
                                        0x10000}; /* by length: less is overlong */
    if (b.n == 0) {
        return 0;
    }
    uint32_t code = b.p[0];
    if (code < 0x80) {
        *code_out = code;
        return 1;
    }
    size_t n = code >= 0xf0 ? 4 : code >= 0xe0 ? 3 : 2;
    if (code < 0xc2 || code > 0xf4 || b.n < n) {
        return 0;
    }
    code &= 0x7fU >> n;
    for (size_t i = 1; i < n; i++) {
        if ((b.p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (b.p[i] & 0x3fU);
    }
    if (code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    *code_out = code;
    return n;
}
