/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents: attributes in HTTP headers (binary mode of the HTTP protocol binding 1.0.2) -> the
 * same attributes in AMQP headers (AMQP protocol binding 1.0.2), as their canonical strings. An
 * event in structured mode is a body like any other. */
#ifndef HG_HTTP_EVENT_H
#define HG_HTTP_EVENT_H

#include "adapters/http/http_codec.h"

/* In AMQP `cloudEvents:id` is what `ce-id` is in HTTP. */
#define HG_HTTP_EVENT_PREFIX "cloudEvents:"

/* Whether a header of this name is an attribute: ce-… */
bool hg_http_event_is_attribute(struct hg_bytes name);
/* Whether the request has any. Only if so, there is more to do for the next two. */
bool hg_http_event_is_there(const struct hg_http_head *head);
/* Reserves room in `text` for all attributes of the request, so that none moves when the next is
 * read. False when there is no memory. */
bool hg_http_event_open(const struct hg_http_head *head, struct hg_writer *text);
/* Reads an attribute into `text`, unquoted and percent-decoded once. NULL, or static text that says
 * what is wrong with this header. */
const char *hg_http_event_read(const struct hg_http_field *f, struct hg_writer *text,
                               struct hg_bytes *name_out, struct hg_bytes *value_out);
/* The header that a request with attributes lacks to be an event in binary mode; NULL: it is one,
 * or claims to be none. */
const char *hg_http_event_missing(const struct hg_http_head *head);
/* Whether this media type is a batch of events, for which AMQP has no binding. */
bool hg_http_event_is_batch(struct hg_bytes content_type);

#endif
