/* SPDX-License-Identifier: Apache-2.0 */
/* Request headers -> AMQP properties: Content-Type, Content-Encoding, Correlation-Id, Reply-To,
 * Message-Id, Idempotency-Key, Amqp-*, traceparent, tracestate, and a CloudEvent's ce-*. */
#ifndef HG_HTTP_PROPS_H
#define HG_HTTP_PROPS_H

#include "adapters/http/http_codec.h"
#include "base/random.h"
#include "message/message.h"

enum { HG_HTTP_UUID_SIZE = 37, HG_HTTP_HEADERS_INSIDE = 16 };

struct hg_http_props {
    struct hg_properties properties; /* borrows from the head and from this struct */
    struct hg_header *headers;       /* `inside` or, where those are too few, headers_own */
    struct hg_header *headers_own;
    struct hg_header inside[HG_HTTP_HEADERS_INSIDE];
    struct hg_writer event;       /* names and values of a CloudEvent's attributes */
    char expiration[12];          /* clamped, below 2^32 */
    char uuid[HG_HTTP_UUID_SIZE]; /* message_id where the request has none */
    bool is_retained;             /* Amqp-Header-retain: true, which is no header of the message */
};

/* Persistent and with a message_id unless the headers say otherwise. False: `why` says which header
 * is wrong, and how. Close it either way. */
bool hg_http_props_open(struct hg_http_props *props, const struct hg_http_head *head,
                        struct hg_random *random, struct hg_writer *why);
void hg_http_props_close(struct hg_http_props *props);

/* Idempotency-Key is a structured string, "quoted"; most clients leave the quotes out. */
struct hg_bytes hg_http_unquoted(struct hg_bytes value);

/* A random UUID (RFC 9562 section 5.4) and a NUL. */
void hg_http_uuid(struct hg_random *random, char out[HG_HTTP_UUID_SIZE]);

#endif
