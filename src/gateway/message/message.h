/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical message: body and AMQP 0-9-1 basic properties (AMQP 0-9-1 section 1.8), immutable,
 * reference-counted. Every protocol's packet becomes one on the way in and is made from one on the
 * way out. Belongs to one worker. */
#ifndef HG_MESSAGE_MESSAGE_H
#define HG_MESSAGE_MESSAGE_H

#include "base/buf.h"
#include "base/bytes.h"

/* What a header of the headers table holds. Nested tables and arrays are carried as JSON text, so
 * that no type is lost. */
enum hg_value_kind {
    HG_VALUE_NULL,
    HG_VALUE_BOOL,
    HG_VALUE_INT,       /* any AMQP integer type that fits 64 bits signed */
    HG_VALUE_DOUBLE,    /* float, double, decimal */
    HG_VALUE_TIMESTAMP, /* seconds since 1970 */
    HG_VALUE_STRING,    /* AMQP longstr that is valid UTF-8 */
    HG_VALUE_BINARY,    /* AMQP byte array, or longstr that is not UTF-8 */
    HG_VALUE_JSON       /* text of a table {…} or an array […] */
};

struct hg_value {
    enum hg_value_kind kind;
    union {
        bool b;
        int64_t i;
        double d;
        uint64_t timestamp_s;
        struct hg_bytes bytes; /* STRING, BINARY, JSON */
    } u;
};

struct hg_header {
    struct hg_bytes name; /* at most 255 bytes on the wire */
    struct hg_value value;
};

struct hg_properties {
    /* n == 0: absent. Each at most 255 bytes on the wire. */
    struct hg_bytes content_type, content_encoding, correlation_id, reply_to, expiration,
        message_id, type, user_id, app_id;
    uint64_t timestamp_s;
    bool has_timestamp;
    bool has_priority;
    uint8_t priority;
    uint8_t delivery_mode; /* 0: absent, 1: transient, 2: persistent */
    const struct hg_header *headers;
    size_t headers_n;
};

struct hg_message; /* opaque */

/* What a message is made from; everything is copied but body_buf. */
struct hg_message_parts {
    struct hg_bytes exchange, routing_key;
    struct hg_properties properties;
    struct hg_bytes body;
    /* if not NULL, body lies inside it and the message takes a reference of its own instead of a
     * copy */
    struct hg_buf *body_buf;
    bool is_mandatory;
};

/* One reference, one allocation. NULL when there is no memory. */
struct hg_message *hg_message_new(const struct hg_message_parts *parts);
struct hg_message *hg_message_ref(struct hg_message *m);
void hg_message_unref(struct hg_message *m); /* NULL is fine */

/* Borrowed while you hold a reference. */
struct hg_bytes hg_message_exchange(const struct hg_message *m);
struct hg_bytes hg_message_routing_key(const struct hg_message *m);
const struct hg_properties *hg_message_properties(const struct hg_message *m);
struct hg_bytes hg_message_body(const struct hg_message *m);
bool hg_message_is_mandatory(const struct hg_message *m);
/* Bytes that this message keeps in memory, for the limits on buffers. */
size_t hg_message_cost_bytes(const struct hg_message *m);
/* NULL if absent; names compare exactly. */
const struct hg_value *hg_message_header(const struct hg_message *m, struct hg_bytes name);

/* True for headers that are never taken from a client: CC, BCC, x-death, x-delivery-count, x-match,
 * x-headgate-* (any letter case). */
bool hg_header_is_reserved(struct hg_bytes name);

/* The value as text the way STOMP, MQTT and HTTP headers show it: true/false, decimal integer,
 * shortest double that reads back the same, timestamp as decimal seconds, strings and JSON as they
 * are, binary as base64, null as "". */
void hg_value_write_text(struct hg_writer *w, const struct hg_value *value);

#endif
