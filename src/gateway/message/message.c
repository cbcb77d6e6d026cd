/* SPDX-License-Identifier: Apache-2.0 */
/* A message is one block: the struct, its headers, then every byte of text, then the body unless
 * that is shared. */
#include "message/message.h"

#include "base/base64.h"
#include "base/check.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

struct hg_message {
    uint32_t refs;
    bool is_mandatory;
    size_t block_bytes;
    struct hg_buf *body_buf; /* ours, or NULL: the body lies in the block */
    struct hg_bytes exchange, routing_key, body;
    struct hg_properties properties;
    struct hg_header headers[];
};

/* The short strings of the properties, for loops over all of them. */
/* clang-format off */
#define FOR_EACH_STRING(X)                                                     \
    X(content_type) X(content_encoding) X(correlation_id) X(reply_to)          \
    X(expiration) X(message_id) X(type) X(user_id) X(app_id)
/* clang-format on */

static bool has_bytes(const struct hg_value *v)
{
    return v->kind == HG_VALUE_STRING || v->kind == HG_VALUE_BINARY || v->kind == HG_VALUE_JSON;
}

static size_t text_bytes(const struct hg_message_parts *parts)
{
    const struct hg_properties *p = &parts->properties;
    size_t n = parts->exchange.n + parts->routing_key.n;
#define X(field) n += p->field.n;
    FOR_EACH_STRING(X)
#undef X
    for (size_t i = 0; i < p->headers_n; i++) {
        n += p->headers[i].name.n +
             (has_bytes(&p->headers[i].value) ? p->headers[i].value.u.bytes.n : 0);
    }
    return n;
}

/* Copies b to *at, moves *at behind it. */
static struct hg_bytes put(uint8_t **at, struct hg_bytes b)
{
    struct hg_bytes copy = hg_bytes(*at, b.n);
    if (b.n > 0) {
        memcpy(*at, b.p, b.n);
        *at += b.n;
    }
    return copy;
}

static void copy_properties(struct hg_message *m, const struct hg_properties *from, uint8_t **at)
{
    struct hg_properties *p = &m->properties;
    *p = *from;
    p->headers = m->headers;
#define X(field) p->field = put(at, from->field);
    FOR_EACH_STRING(X)
#undef X
    for (size_t i = 0; i < from->headers_n; i++) {
        struct hg_header *h = &m->headers[i];
        *h = from->headers[i];
        h->name = put(at, h->name);
        if (has_bytes(&h->value)) {
            h->value.u.bytes = put(at, h->value.u.bytes);
        }
    }
}

struct hg_message *hg_message_new(const struct hg_message_parts *parts)
{
    bool is_shared = parts->body_buf != NULL;
    size_t head_bytes =
        sizeof(struct hg_message) + parts->properties.headers_n * sizeof(struct hg_header);
    size_t block_bytes = head_bytes + text_bytes(parts) + (is_shared ? 0 : parts->body.n);
    struct hg_message *m = hg_alloc(block_bytes);
    if (m == NULL) {
        return NULL;
    }
    *m = (struct hg_message){
        .refs = 1, .is_mandatory = parts->is_mandatory, .block_bytes = block_bytes};
    uint8_t *at = (uint8_t *)m + head_bytes;
    m->exchange = put(&at, parts->exchange);
    m->routing_key = put(&at, parts->routing_key);
    copy_properties(m, &parts->properties, &at);
    if (is_shared) {
        m->body_buf = hg_buf_ref(parts->body_buf);
        m->body = parts->body;
    } else {
        m->body = put(&at, parts->body);
    }
    return m;
}

struct hg_message *hg_message_ref(struct hg_message *m)
{
    HG_CHECK(m->refs > 0 && m->refs < UINT32_MAX);
    m->refs++;
    return m;
}

void hg_message_unref(struct hg_message *m)
{
    if (m == NULL) {
        return;
    }
    HG_CHECK(m->refs > 0);
    if (--m->refs == 0) {
        hg_buf_unref(m->body_buf);
        hg_free(m);
    }
}

struct hg_bytes hg_message_exchange(const struct hg_message *m)
{
    return m->exchange;
}

struct hg_bytes hg_message_routing_key(const struct hg_message *m)
{
    return m->routing_key;
}

const struct hg_properties *hg_message_properties(const struct hg_message *m)
{
    return &m->properties;
}

struct hg_bytes hg_message_body(const struct hg_message *m)
{
    return m->body;
}

bool hg_message_is_mandatory(const struct hg_message *m)
{
    return m->is_mandatory;
}

size_t hg_message_cost_bytes(const struct hg_message *m)
{
    /* A shared body counts in full: whoever holds this message holds that buffer. */
    return m->block_bytes + (m->body_buf == NULL ? 0 : sizeof(*m->body_buf) + m->body_buf->cap);
}

const struct hg_value *hg_message_header(const struct hg_message *m, struct hg_bytes name)
{
    for (size_t i = 0; i < m->properties.headers_n; i++) {
        if (hg_bytes_eq(m->headers[i].name, name)) {
            return &m->headers[i].value;
        }
    }
    return NULL;
}

bool hg_header_is_reserved(struct hg_bytes name)
{
    static const char *const whole[] = {"CC", "BCC", "x-death", "x-delivery-count", "x-match"};
    const struct hg_bytes prefix = HG_BYTES("x-headgate-");
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        if (hg_bytes_eq_nocase(name, hg_bytes_str(whole[i]))) {
            return true;
        }
    }
    return name.n >= prefix.n && hg_bytes_eq_nocase(hg_bytes(name.p, prefix.n), prefix);
}

/* The fewest digits that read back as the same double. */
static void write_double(struct hg_writer *w, double d)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, d);
        if (strtod(text, NULL) == d) {
            break;
        }
    }
    hg_writer_str(w, text);
}

void hg_value_write_text(struct hg_writer *w, const struct hg_value *value)
{
    switch (value->kind) {
    case HG_VALUE_NULL: break;
    case HG_VALUE_BOOL: hg_writer_str(w, value->u.b ? "true" : "false"); break;
    case HG_VALUE_INT: hg_writer_printf(w, "%lld", (long long)value->u.i); break;
    case HG_VALUE_DOUBLE: write_double(w, value->u.d); break;
    case HG_VALUE_TIMESTAMP: hg_writer_dec(w, value->u.timestamp_s); break;
    case HG_VALUE_STRING:
    case HG_VALUE_JSON: hg_writer_bytes(w, value->u.bytes); break;
    case HG_VALUE_BINARY: hg_base64_encode(w, value->u.bytes); break;
    }
}
