/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with padding (RFC 4648 section 4), and base64url without (section 5). */
#ifndef HG_BASE_BASE64_H
#define HG_BASE_BASE64_H

#include "base/buf.h"

void hg_base64_encode(struct hg_writer *w, struct hg_bytes b);
/* Strict: no blanks, padding required. False if malformed, and then nothing was appended. */
bool hg_base64_decode(struct hg_writer *w, struct hg_bytes text);
/* The same of base64url, which must have no padding. */
bool hg_base64url_decode(struct hg_writer *w, struct hg_bytes text);

/* Letters that n bytes are in base64url. */
#define HG_BASE64URL_N(n) (((n)*4 + 2) / 3)
/* Writes HG_BASE64URL_N(b.n) letters. */
void hg_base64url_write(void *out, struct hg_bytes b);
/* Fills `out`. False: malformed, or not of so many bytes; what is in `out` then means nothing. */
bool hg_base64url_read(struct hg_bytes text, uint8_t *out, size_t out_n);

#endif
