/* SPDX-License-Identifier: Apache-2.0 */
/* One step of UTF-8 decoding (RFC 3629). */
#ifndef HG_BASE_UTF8_H
#define HG_BASE_UTF8_H

#include "base/bytes.h"

/* Bytes of the code point that b starts with, 1 to 4; 0 if b is empty or does not start with a
 * well-formed one (overlong, surrogate, past U+10FFFF, cut off). */
size_t hg_utf8_step(struct hg_bytes b, uint32_t *code_out);

#endif
