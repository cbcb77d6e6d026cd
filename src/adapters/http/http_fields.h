/* SPDX-License-Identifier: Apache-2.0 */
/* A message's properties as HTTP header fields, by the names that http_props.h reads: for whoever
 * hands a message out as the body of a request or an answer. */
#ifndef HG_HTTP_FIELDS_H
#define HG_HTTP_FIELDS_H

#include "message/message.h"

/* name and value are borrowed during the call; the value has neither control characters nor blanks
 * around it. */
typedef void hg_http_field_fn(void *ctx, struct hg_bytes name, struct hg_bytes value);

/* Content-Type is always among them. Left out are reserved headers, and what no header field can
 * say: names that are no tokens, values with control characters. False when there is no memory. */
bool hg_http_fields_write(const struct hg_message *m, hg_http_field_fn *field, void *ctx);
/* The same as lines of an answer's head, without the field `except` (empty: with all). */
void hg_http_fields_lines(const struct hg_message *m, struct hg_bytes except,
                          struct hg_writer *out);

#endif
