/* SPDX-License-Identifier: Apache-2.0 */
/* The block: the struct; the name (one byte of length, exchange, key); properties; body. Strings of
 * properties are preceded by their length in one byte, values of headers in four. */
#include "core/retained.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdatomic.h>

struct hg_retained {
    _Atomic uint32_t refs;
    uint32_t body_n;
    uint64_t ends_ms;
    uint32_t packed_n; /* of name, properties and body */
    uint16_t name_n, headers_n;
    uint8_t packed[];
};

/* clang-format off */
#define FOR_EACH_STRING(X)                                                     \
    X(content_type) X(content_encoding) X(correlation_id) X(reply_to)          \
    X(expiration) X(message_id) X(type) X(app_id)
/* clang-format on */

enum { HAS_TIMESTAMP = 1, HAS_PRIORITY = 2 };

/* ---- Packing ---- */

/* What the gateway says about the message stays, what it says to the log does not. */
static bool is_kept(struct hg_bytes header)
{
    static const char *const to_log[] = {"x-headgate-kind",     "x-headgate-retain",
                                         "x-headgate-exchange", "x-headgate-key",
                                         "x-headgate-as-of",    "x-stream-offset"};
    for (size_t i = 0; i < sizeof(to_log) / sizeof(to_log[0]); i++) {
        if (hg_bytes_eq(header, hg_bytes_str(to_log[i]))) {
            return false;
        }
    }
    return header.n <= UINT8_MAX &&
           (!hg_header_is_reserved(header) || hg_bytes_starts(header, HG_BYTES("x-headgate-")));
}

static void pack_short(struct hg_writer *w, struct hg_bytes text)
{
    hg_writer_u8(w, (uint8_t)text.n);
    hg_writer_bytes(w, text);
}

static void pack_value(struct hg_writer *w, const struct hg_value *v)
{
    uint64_t bits = 0;
    hg_writer_u8(w, (uint8_t)v->kind);
    switch (v->kind) {
    case HG_VALUE_NULL: break;
    case HG_VALUE_BOOL: hg_writer_u8(w, v->u.b); break;
    case HG_VALUE_INT: hg_writer_u64(w, (uint64_t)v->u.i); break;
    case HG_VALUE_DOUBLE:
        memcpy(&bits, &v->u.d, sizeof(bits));
        hg_writer_u64(w, bits);
        break;
    case HG_VALUE_TIMESTAMP: hg_writer_u64(w, v->u.timestamp_s); break;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
    case HG_VALUE_JSON:
        hg_writer_u32(w, (uint32_t)v->u.bytes.n);
        hg_writer_bytes(w, v->u.bytes);
        break;
    }
}

static uint16_t pack_properties(struct hg_writer *w, const struct hg_properties *p)
{
    uint16_t headers_n = 0;
#define X(field) pack_short(w, p->field.n <= UINT8_MAX ? p->field : HG_BYTES(""));
    FOR_EACH_STRING(X)
#undef X
    hg_writer_u8(w, (uint8_t)((p->has_timestamp ? HAS_TIMESTAMP : 0) |
                              (p->has_priority ? HAS_PRIORITY : 0)));
    hg_writer_u8(w, p->priority);
    hg_writer_u8(w, p->delivery_mode);
    if (p->has_timestamp) {
        hg_writer_u64(w, p->timestamp_s);
    }
    for (size_t i = 0; i < p->headers_n && headers_n < UINT16_MAX; i++) {
        if (is_kept(p->headers[i].name)) {
            pack_short(w, p->headers[i].name);
            pack_value(w, &p->headers[i].value);
            headers_n++;
        }
    }
    return headers_n;
}

/* As message/expiry.h counts; but without a date it never ends: a process that reads the log later
 * could not know when it began. */
static uint64_t ends_ms_of(const struct hg_message *m)
{
    const struct hg_properties *p = hg_message_properties(m);
    const struct hg_value *sent = hg_message_header(m, HG_BYTES("x-headgate-ms"));
    uint64_t ttl_ms;
    bool is_dated = p->has_timestamp && p->timestamp_s < INT64_MAX / 1000;
    uint64_t sent_ms = is_dated ? p->timestamp_s * 1000 + 999 : 0;
    if (sent != NULL && sent->kind == HG_VALUE_INT && sent->u.i >= 0) {
        sent_ms = (uint64_t)sent->u.i;
        is_dated = true;
    }
    if (!is_dated || !hg_bytes_to_u64(p->expiration, UINT32_MAX, &ttl_ms)) {
        return UINT64_MAX;
    }
    return sent_ms + (ttl_ms == 0 ? 1 : ttl_ms);
}

struct hg_bytes hg_retained_name_of(struct hg_bytes exchange, struct hg_bytes key,
                                    uint8_t out[HG_RETAINED_NAME_MAX])
{
    size_t exchange_n = exchange.n < UINT8_MAX ? exchange.n : UINT8_MAX;
    size_t key_n = key.n < UINT8_MAX ? key.n : UINT8_MAX;
    out[0] = (uint8_t)exchange_n;
    if (exchange_n > 0) {
        memcpy(out + 1, exchange.p, exchange_n);
    }
    if (key_n > 0) {
        memcpy(out + 1 + exchange_n, key.p, key_n);
    }
    return hg_bytes(out, 1 + exchange_n + key_n);
}

struct hg_retained *hg_retained_new(struct hg_bytes exchange, struct hg_bytes key,
                                    const struct hg_message *m)
{
    uint8_t room[HG_RETAINED_NAME_MAX];
    struct hg_bytes name = hg_retained_name_of(exchange, key, room);
    struct hg_bytes body = hg_message_body(m);
    struct hg_writer w = {0};
    uint16_t headers_n = 0;
    hg_writer_bytes(&w, name);
    if (body.n > 0) {
        headers_n = pack_properties(&w, hg_message_properties(m));
        hg_writer_bytes(&w, body);
    }
    struct hg_bytes packed = hg_writer_view(&w);
    struct hg_retained *r = w.failed ? NULL : hg_alloc(sizeof(*r) + packed.n);
    if (r != NULL) {
        *r = (struct hg_retained){.body_n = (uint32_t)body.n,
                                  .ends_ms = ends_ms_of(m),
                                  .packed_n = (uint32_t)packed.n,
                                  .name_n = (uint16_t)name.n,
                                  .headers_n = headers_n};
        atomic_init(&r->refs, 1);
        memcpy(r->packed, packed.p, packed.n);
    }
    hg_writer_close(&w);
    return r;
}

struct hg_retained *hg_retained_ref(struct hg_retained *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void hg_retained_unref(struct hg_retained *r)
{
    if (r != NULL && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) {
        hg_free(r);
    }
}

struct hg_bytes hg_retained_name(const struct hg_retained *r)
{
    return hg_bytes(r->packed, r->name_n);
}

struct hg_bytes hg_retained_exchange(const struct hg_retained *r)
{
    return hg_bytes(r->packed + 1, r->packed[0]);
}

struct hg_bytes hg_retained_key(const struct hg_retained *r)
{
    return hg_bytes_skip(hg_retained_name(r), 1U + r->packed[0]);
}

size_t hg_retained_body_n(const struct hg_retained *r)
{
    return r->body_n;
}

uint64_t hg_retained_ends_ms(const struct hg_retained *r)
{
    return r->ends_ms;
}

struct hg_bytes hg_retained_bytes(const struct hg_retained *r)
{
    return hg_bytes(r->packed, r->packed_n);
}

/* ---- Unpacking: what is read was written above ---- */

static struct hg_bytes take(struct hg_bytes *from, size_t n)
{
    HG_CHECK(n <= from->n);
    struct hg_bytes taken = hg_bytes(from->p, n);
    *from = hg_bytes_skip(*from, n);
    return taken;
}

static uint64_t take_number(struct hg_bytes *from, size_t n)
{
    struct hg_bytes bytes = take(from, n);
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v = v << 8 | bytes.p[i];
    }
    return v;
}

static struct hg_bytes take_short(struct hg_bytes *from)
{
    return take(from, take_number(from, 1));
}

static void take_value(struct hg_bytes *from, struct hg_value *out)
{
    *out = (struct hg_value){.kind = (enum hg_value_kind)take_number(from, 1)};
    uint64_t bits;
    switch (out->kind) {
    case HG_VALUE_NULL: break;
    case HG_VALUE_BOOL: out->u.b = take_number(from, 1) != 0; break;
    case HG_VALUE_INT: out->u.i = (int64_t)take_number(from, 8); break;
    case HG_VALUE_DOUBLE:
        bits = take_number(from, 8);
        memcpy(&out->u.d, &bits, sizeof(bits));
        break;
    case HG_VALUE_TIMESTAMP: out->u.timestamp_s = take_number(from, 8); break;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
    case HG_VALUE_JSON: out->u.bytes = take(from, take_number(from, 4)); break;
    }
}

static void take_properties(struct hg_bytes *from, struct hg_properties *p)
{
#define X(field) p->field = take_short(from);
    FOR_EACH_STRING(X)
#undef X
    uint64_t flags = take_number(from, 1);
    p->has_timestamp = (flags & HAS_TIMESTAMP) != 0;
    p->has_priority = (flags & HAS_PRIORITY) != 0;
    p->priority = (uint8_t)take_number(from, 1);
    p->delivery_mode = (uint8_t)take_number(from, 1);
    if (p->has_timestamp) {
        p->timestamp_s = take_number(from, 8);
    }
}

struct hg_message *hg_retained_unpack(const struct hg_retained *r, struct hg_bytes exchange,
                                      struct hg_bytes key, const struct hg_header *extra,
                                      size_t extra_n)
{
    struct hg_message_parts parts = {.exchange = exchange, .routing_key = key};
    struct hg_bytes rest = hg_bytes_skip(hg_bytes(r->packed, r->packed_n), r->name_n);
    struct hg_header *headers = hg_alloc((r->headers_n + extra_n) * sizeof(*headers));
    if (headers == NULL) {
        return NULL;
    }
    if (r->body_n > 0) {
        take_properties(&rest, &parts.properties);
    }
    for (size_t i = 0; i < r->headers_n; i++) {
        headers[i].name = take_short(&rest);
        take_value(&rest, &headers[i].value);
    }
    if (extra_n > 0) {
        memcpy(headers + r->headers_n, extra, extra_n * sizeof(*headers));
    }
    parts.properties.headers = headers;
    parts.properties.headers_n = r->headers_n + extra_n;
    parts.body = rest;
    struct hg_message *m = hg_message_new(&parts);
    hg_free(headers);
    return m;
}

struct hg_message *hg_retained_message(const struct hg_retained *r)
{
    return hg_retained_unpack(r, hg_retained_exchange(r), hg_retained_key(r), NULL, 0);
}
