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

#endif
