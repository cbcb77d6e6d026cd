/* SPDX-License-Identifier: Apache-2.0 */
/* JSON -> AMQP properties, by the names that the management API gives them: {"content_type",
 * "priority", "headers": {…}, …}. */
#ifndef HG_HTTP_JSON_H
#define HG_HTTP_JSON_H

#include "message/message.h"

#include <jansson.h>

struct hg_http_json_props {
    struct hg_properties properties; /* borrows from the JSON and from this struct */
    struct hg_header *headers;
    struct hg_writer nested; /* headers that are objects or arrays, as text */
    char expiration[24];
};

/* Parses n bytes of JSON that must be one object; names that come twice are refused. NULL: *why_out
 * says what is wrong. The caller's, to json_decref. */
json_t *hg_http_json_read(struct hg_bytes text, const char **why_out);
/* A string's bytes; n == 0 and p == NULL where value is none, or is NULL. */
struct hg_bytes hg_http_json_text(const json_t *value);

/* Adds what `object` (NULL: nothing) says to *props, zeroed or preset by the caller. False: `why`
 * says what is wrong. Close props either way. */
bool hg_http_json_properties(struct hg_http_json_props *props, const json_t *object,
                             struct hg_writer *why);
/* Likewise the headers, once; typed, objects and arrays as they are. */
bool hg_http_json_headers(struct hg_http_json_props *props, const json_t *object,
                          struct hg_writer *why);
void hg_http_json_close(struct hg_http_json_props *props);

#endif
