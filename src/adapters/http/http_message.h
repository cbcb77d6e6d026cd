/* SPDX-License-Identifier: Apache-2.0 */
/* A message as JSON, by the names that AMQP and RabbitMQ's management API give its properties. */
#ifndef HG_HTTP_MESSAGE_H
#define HG_HTTP_MESSAGE_H

#include "message/message.h"

/* The properties that are text. */
struct hg_http_text_property {
    const char *name;
    size_t offset; /* in struct hg_properties */
};
enum { HG_HTTP_TEXT_PROPERTIES_N = 9 };
extern const struct hg_http_text_property hg_http_text_properties[HG_HTTP_TEXT_PROPERTIES_N];

/* "text", with its quotes. */
void hg_http_message_string(struct hg_writer *w, struct hg_bytes text);
/* Each the members of an object, without its braces: properties but for the headers; headers, typed,
 * binary as base64 and what JSON has no number for as null; "body" as text, or "base64" where it is
 * not UTF-8. */
void hg_http_message_properties(struct hg_writer *w, const struct hg_properties *p);
void hg_http_message_headers(struct hg_writer *w, const struct hg_properties *p);
void hg_http_message_body(struct hg_writer *w, struct hg_bytes body);

#endif
