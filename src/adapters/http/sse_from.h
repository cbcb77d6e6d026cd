/* SPDX-License-Identifier: Apache-2.0 */
/* Where a reader of a stream begins. */
#ifndef HG_HTTP_SSE_FROM_H
#define HG_HTTP_SSE_FROM_H

#include "message/message.h"

/* ?from= as a consumer's x-stream-offset: "first", "next", an offset, or a time as RFC 3339 has it, in
 * UTC and without a fraction ("2026-01-31T08:00:00Z"). False: it is none of them. The value borrows
 * nothing. */
bool hg_sse_from_read(struct hg_bytes text, struct hg_value *out);
/* Last-Event-ID: what comes behind that offset. False: it is none. */
bool hg_sse_from_read_id(struct hg_bytes id, struct hg_value *out);
/* The offset of a message that comes out of a stream; false: it has none. */
bool hg_sse_from_offset(const struct hg_message *m, uint64_t *out);

#endif
