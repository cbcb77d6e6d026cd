/* SPDX-License-Identifier: Apache-2.0 */
/* AMQP properties -> response fields: the way back of http_props.h. */
#ifndef HG_HTTP_FIELDS_H
#define HG_HTTP_FIELDS_H

#include "message/message.h"

/* "Name: value" and CRLF for each: Content-Type, Content-Encoding, Correlation-Id, Reply-To,
 * Message-Id, Amqp-*, traceparent, tracestate, a CloudEvent's ce-*, and Amqp-Header-NAME for every
 * other header whose name can stand there; the rest is left out. Control characters in a value
 * become blanks. */
void hg_http_fields_write(struct hg_writer *w, const struct hg_properties *p);

#endif
