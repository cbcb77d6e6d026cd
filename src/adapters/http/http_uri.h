/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and queries of request targets (RFC 3986). */
#ifndef HG_HTTP_URI_H
#define HG_HTTP_URI_H

#include "base/buf.h"

/* Appends the path, percent-decoded level by level: NULL, or static text that says what is wrong. A
 * level cannot hold a slash of its own, so %2F is refused, as are %00 and a % without two hex
 * digits. */
const char *hg_http_decode_path(struct hg_bytes path, struct hg_writer *out);

/* The same of one level by itself, in which %2F is a slash. */
const char *hg_http_decode_level(struct hg_bytes level, struct hg_writer *out);
/* The same in place; *n becomes what is left of p's n bytes. */
const char *hg_http_decode_value(uint8_t *p, size_t *n);
/* Takes the first level, as it is, off a path, and the slash behind it. */
struct hg_bytes hg_http_take_level(struct hg_bytes *path);

/* Takes the next name=value off a query, decoded (`+` is a blank) into the two writers, which it
 * resets first. False at the end. *why_out: NULL, or static text that says what is wrong with this
 * pair. */
bool hg_http_next_parameter(struct hg_bytes *query, struct hg_writer *name, struct hg_writer *value,
                            const char **why_out);

#endif
