/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of a spec, copied behind each other into one buffer. */
#ifndef HG_UPSTREAM_COPY_H
#define HG_UPSTREAM_COPY_H

#include "base/buf.h"
#include "message/message.h"

/* Bytes that hg_copy_headers will need. */
size_t hg_copy_headers_bytes(const struct hg_header *headers, size_t n);
/* The copy, in buf, which has the room. */
struct hg_bytes hg_copy_bytes(struct hg_buf *buf, struct hg_bytes b);
void hg_copy_headers(struct hg_buf *buf, const struct hg_header *headers, size_t n,
                     struct hg_header *out);

#endif
