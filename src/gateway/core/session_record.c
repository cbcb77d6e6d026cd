/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of a session record. Members that are zero, empty or false are left out; unknown ones
 * are passed over, so that versions of the gateway mix. Bytes that are not UTF-8 are written
 * {"base64": …}, numbers of 64 bits that are no counts in hex. */
#include "core/session_record.h"

#include "base/base64.h"
#include "base/check.h"
#include "base/hex.h"
#include "base/mem.h"
#include "message/topic.h"

#include <openssl/evp.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

/* ---- The queue's name ---- */

struct hg_bytes hg_session_record_queue_name(struct hg_bytes client_id,
                                             uint8_t out[HG_SESSION_QUEUE_NAME_MAX])
{
    static const char before[] = "mqtt-subscription-";
    static const char after[] = "qos1";
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned sum_n = 0;
    char hex[2 * EVP_MAX_MD_SIZE];
    if (client_id.n > HG_SESSION_QUEUE_NAME_MAX - (sizeof(before) - 1) - (sizeof(after) - 1)) {
        HG_CHECK(EVP_Digest(client_id.p, client_id.n, sum, &sum_n, EVP_sha256(), NULL) == 1);
        client_id = hg_hex_write(hex, hg_bytes(sum, sum_n));
    }
    size_t n = sizeof(before) - 1;
    memcpy(out, before, n);
    if (client_id.n > 0) {
        memcpy(out + n, client_id.p, client_id.n);
    }
    n += client_id.n;
    memcpy(out + n, after, sizeof(after) - 1);
    return hg_bytes(out, n + sizeof(after) - 1);
}

/* ---- Writing ---- */

/* "name": with what separates it from the member before. */
static void write_name(struct hg_writer *w, const char *name)
{
    struct hg_bytes so_far = hg_writer_view(w);
    uint8_t last = so_far.n == 0 ? '{' : so_far.p[so_far.n - 1];
    if (last != '{' && last != '[') {
        hg_writer_u8(w, ',');
    }
    hg_writer_printf(w, "\"%s\":", name);
}

static void write_text(struct hg_writer *w, const char *name, struct hg_bytes text)
{
    if (text.n == 0) {
        return;
    }
    write_name(w, name);
    if (hg_utf8_is_valid(text)) {
        hg_writer_u8(w, '"');
        hg_writer_json(w, text);
        hg_writer_u8(w, '"');
    } else {
        hg_writer_str(w, "{\"base64\":\"");
        hg_base64_encode(w, text);
        hg_writer_str(w, "\"}");
    }
}

static void write_number(struct hg_writer *w, const char *name, uint64_t n)
{
    if (n != 0) {
        write_name(w, name);
        hg_writer_dec(w, n < INT64_MAX ? n : INT64_MAX); /* as far as JSON readers go */
    }
}

static void write_true(struct hg_writer *w, const char *name, bool is_true)
{
    if (is_true) {
        write_name(w, name);
        hg_writer_str(w, "true");
    }
}

static const char *const kind_names[] = {
    [HG_VALUE_NULL] = "null",     [HG_VALUE_BOOL] = "bool",     [HG_VALUE_INT] = "int",
    [HG_VALUE_DOUBLE] = "double", [HG_VALUE_STRING] = "string", [HG_VALUE_TIMESTAMP] = "timestamp",
    [HG_VALUE_JSON] = "json",     [HG_VALUE_BINARY] = "binary",
};
enum { KINDS_N = sizeof(kind_names) / sizeof(kind_names[0]) };

static void write_header(struct hg_writer *w, const struct hg_header *h)
{
    struct hg_bytes so_far = hg_writer_view(w);
    hg_writer_str(w, so_far.p != NULL && so_far.p[so_far.n - 1] == '[' ? "{" : ",{");
    write_text(w, "name", h->name);
    write_name(w, "kind");
    hg_writer_printf(w, "\"%s\"", kind_names[h->value.kind]);
    switch (h->value.kind) {
    case HG_VALUE_NULL: break;
    case HG_VALUE_BOOL: write_true(w, "value", h->value.u.b); break;
    case HG_VALUE_INT:
        write_name(w, "value");
        hg_writer_printf(w, "%" PRId64, h->value.u.i);
        break;
    case HG_VALUE_DOUBLE:
        write_name(w, "value");
        hg_writer_printf(w, "\"%.17g\"", h->value.u.d);
        break;
    case HG_VALUE_TIMESTAMP: write_number(w, "value", h->value.u.timestamp_s); break;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
    case HG_VALUE_JSON: write_text(w, "value", h->value.u.bytes); break;
    }
    hg_writer_u8(w, '}');
}

/* The short strings of the properties, for loops over all of them; user_id is RabbitMQ's to
 * check. */
/* clang-format off */
#define FOR_EACH_STRING(X)                                                     \
    X(content_type) X(content_encoding) X(correlation_id) X(reply_to)          \
    X(expiration) X(message_id) X(type) X(app_id)
/* clang-format on */

static void write_will(struct hg_writer *w, const struct hg_session_will *will)
{
    const struct hg_properties *p = &will->properties;
    write_name(w, "will");
    hg_writer_u8(w, '{');
    write_text(w, "topic", will->topic);
    write_text(w, "payload", will->payload);
    write_true(w, "retained", will->is_retained);
    write_true(w, "exactly_once", will->is_exactly_once);
    write_number(w, "delay_ms", will->delay_ms);
#define X(field) write_text(w, #field, p->field);
    FOR_EACH_STRING(X)
#undef X
    if (p->has_timestamp) {
        write_name(w, "timestamp_s");
        hg_writer_dec(w, p->timestamp_s < INT64_MAX ? p->timestamp_s : INT64_MAX);
    }
    if (p->has_priority) {
        write_name(w, "priority");
        hg_writer_dec(w, p->priority);
    }
    write_number(w, "delivery_mode", p->delivery_mode);
    if (p->headers_n > 0) {
        write_name(w, "headers");
        hg_writer_u8(w, '[');
        for (size_t i = 0; i < p->headers_n; i++) {
            write_header(w, &p->headers[i]);
        }
        hg_writer_u8(w, ']');
    }
    hg_writer_u8(w, '}');
}

static void write_filters(struct hg_writer *w, const struct hg_session_record *r)
{
    write_name(w, "filters");
    hg_writer_u8(w, '[');
    for (size_t i = 0; i < r->filters_n; i++) {
        const struct hg_session_filter *f = &r->filters[i];
        hg_writer_str(w, i == 0 ? "{" : ",{");
        write_text(w, "filter", f->filter);
        write_number(w, "id", f->subscription_id);
        write_number(w, "qos", f->qos);
        write_number(w, "retain_handling", f->retain_handling);
        write_true(w, "no_local", f->is_no_local);
        write_true(w, "as_published", f->is_retain_as_published);
        hg_writer_u8(w, '}');
    }
    hg_writer_u8(w, ']');
}

void hg_session_record_write(const struct hg_session_record *r, struct hg_writer *out)
{
    hg_writer_u8(out, '{');
    write_text(out, "user", r->user);
    write_text(out, "instance", r->instance);
    if (r->expiry_ms != UINT64_MAX) {
        write_name(out, "expiry_ms");
        hg_writer_dec(out, r->expiry_ms < INT64_MAX ? r->expiry_ms : INT64_MAX);
    }
    write_number(out, "disconnected_ms", r->disconnected_ms);
    write_number(out, "will_at_ms", r->will_at_ms);
    write_true(out, "inherits", r->inherits);
    if (r->has_will) {
        write_will(out, &r->will);
    }
    if (r->filters_n > 0) {
        write_filters(out, r);
    }
    if (r->rx_n > 0) {
        write_name(out, "rx");
        for (size_t i = 0; i < r->rx_n; i++) {
            hg_writer_printf(out, "%c%u", i == 0 ? '[' : ',', r->rx[i]);
        }
        hg_writer_u8(out, ']');
    }
    if (r->tx_n > 0) {
        write_name(out, "tx");
        for (size_t i = 0; i < r->tx_n; i++) {
            const struct hg_session_tx *tx = &r->tx[i];
            hg_writer_printf(out, "%c[%u,\"%" PRIx64 "\",%s]", i == 0 ? '[' : ',', tx->packet_id,
                             tx->fingerprint, tx->is_released ? "true" : "false");
        }
        hg_writer_u8(out, ']');
    }
    hg_writer_u8(out, '}');
}

/* ---- Copying: a record is one block ---- */

/* Counts with at == NULL, then places. */
struct block {
    uint8_t *at;
    size_t n;
};

static void *block_add(struct block *b, const void *from, size_t n)
{
    size_t start = b->n;
    b->n += n;
    if (b->at == NULL) {
        return NULL;
    }
    if (n > 0) {
        memcpy(b->at + start, from, n);
    }
    return b->at + start;
}

static void block_text(struct block *b, struct hg_bytes *text)
{
    text->p = block_add(b, text->p, text->n);
}

/* The arrays first, which have to be aligned. */
static void place(struct block *b, const struct hg_session_record *from,
                  struct hg_session_record *r)
{
    const struct hg_properties *p = &from->will.properties;
    *r = *from;
    struct hg_session_filter *filters =
        block_add(b, from->filters, from->filters_n * sizeof(*filters));
    struct hg_header *headers = block_add(b, p->headers, p->headers_n * sizeof(*headers));
    r->tx = block_add(b, from->tx, from->tx_n * sizeof(*r->tx));
    r->rx = block_add(b, from->rx, from->rx_n * sizeof(*r->rx));
    r->filters = filters;
    r->will.properties.headers = headers;
    block_text(b, &r->client_id);
    block_text(b, &r->user);
    block_text(b, &r->instance);
    block_text(b, &r->will.topic);
    block_text(b, &r->will.payload);
#define X(field) block_text(b, &r->will.properties.field);
    FOR_EACH_STRING(X)
#undef X
    r->will.properties.user_id = hg_bytes(NULL, 0);
    for (size_t i = 0; i < from->filters_n; i++) {
        struct hg_bytes text = from->filters[i].filter;
        block_text(b, filters == NULL ? &text : &filters[i].filter);
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        struct hg_header h = p->headers[i];
        block_text(b, &h.name);
        if (h.value.kind == HG_VALUE_STRING || h.value.kind == HG_VALUE_BINARY ||
            h.value.kind == HG_VALUE_JSON) {
            block_text(b, &h.value.u.bytes);
        }
        if (headers != NULL) {
            headers[i] = h;
        }
    }
}

struct hg_session_record *hg_session_record_copy(const struct hg_session_record *r)
{
    struct hg_session_record counted;
    struct block b = {0};
    place(&b, r, &counted);
    struct hg_session_record *copy = hg_alloc(sizeof(*copy) + b.n);
    if (copy != NULL) {
        b = (struct block){.at = (uint8_t *)(copy + 1)};
        place(&b, r, copy);
    }
    return copy;
}

void hg_session_record_free(struct hg_session_record *r)
{
    hg_free(r);
}

/* ---- Reading ---- */

/* What is read before it is copied into one block. */
struct reading {
    struct hg_session_record r;
    struct hg_session_filter *filters;
    struct hg_header *headers;
    struct hg_session_tx *tx;
    uint16_t *rx;
    struct hg_writer text; /* what was base64; reserved at once, so that views of it stay put */
    bool has_failed;       /* no memory */
};

/* Absent, or of another type: empty. */
static struct hg_bytes read_text(struct reading *in, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_string(value)) {
        return hg_bytes(json_string_value(value), json_string_length(value));
    }
    value = json_object_get(value, "base64");
    size_t start = hg_writer_n(&in->text);
    struct hg_bytes base64 = hg_bytes(json_string_value(value), json_string_length(value));
    if (!json_is_string(value) || !hg_base64_decode(&in->text, base64)) {
        return hg_bytes(NULL, 0);
    }
    return hg_bytes_skip(hg_writer_view(&in->text), start);
}

static uint64_t read_number(const json_t *object, const char *name, uint64_t max)
{
    const json_t *value = json_object_get(object, name);
    json_int_t n = json_integer_value(value);
    return n < 0 ? 0 : (uint64_t)n < max ? (uint64_t)n : max;
}

static bool read_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static void *array_for(struct reading *in, const json_t *array, size_t each_n)
{
    void *p = hg_zalloc(json_array_size(array) * each_n);
    in->has_failed = in->has_failed || p == NULL;
    return p;
}

static void read_header(struct reading *in, const json_t *from, struct hg_header *h)
{
    const char *kind = json_string_value(json_object_get(from, "kind"));
    const json_t *value = json_object_get(from, "value");
    size_t at = 0;
    while (at < KINDS_N && (kind == NULL || strcmp(kind, kind_names[at]) != 0)) {
        at++;
    }
    h->name = read_text(in, from, "name");
    h->value.kind = at == KINDS_N ? HG_VALUE_NULL : (enum hg_value_kind)at;
    switch (h->value.kind) {
    case HG_VALUE_NULL: break;
    case HG_VALUE_BOOL: h->value.u.b = json_is_true(value); break;
    case HG_VALUE_INT: h->value.u.i = json_integer_value(value); break;
    case HG_VALUE_DOUBLE:
        h->value.u.d = json_is_string(value) ? strtod(json_string_value(value), NULL) : 0;
        break;
    case HG_VALUE_TIMESTAMP: h->value.u.timestamp_s = read_number(from, "value", INT64_MAX); break;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
    case HG_VALUE_JSON: h->value.u.bytes = read_text(in, from, "value"); break;
    }
}

static void read_will(struct reading *in, const json_t *from)
{
    struct hg_session_will *will = &in->r.will;
    struct hg_properties *p = &will->properties;
    const json_t *headers = json_object_get(from, "headers");
    in->r.has_will = true;
    will->topic = read_text(in, from, "topic");
    will->payload = read_text(in, from, "payload");
    will->is_retained = read_true(from, "retained");
    will->is_exactly_once = read_true(from, "exactly_once");
    will->delay_ms = read_number(from, "delay_ms", UINT64_MAX);
#define X(field) p->field = read_text(in, from, #field);
    FOR_EACH_STRING(X)
#undef X
    p->has_timestamp = json_is_integer(json_object_get(from, "timestamp_s"));
    p->timestamp_s = read_number(from, "timestamp_s", INT64_MAX);
    p->has_priority = json_is_integer(json_object_get(from, "priority"));
    p->priority = (uint8_t)read_number(from, "priority", UINT8_MAX);
    p->delivery_mode = (uint8_t)read_number(from, "delivery_mode", 2);
    in->headers = array_for(in, headers, sizeof(*in->headers));
    for (size_t i = 0; in->headers != NULL && i < json_array_size(headers); i++) {
        read_header(in, json_array_get(headers, i), &in->headers[i]);
    }
    p->headers = in->headers;
    p->headers_n = in->headers == NULL ? 0 : json_array_size(headers);
}

static void read_filters(struct reading *in, const json_t *from)
{
    in->filters = array_for(in, from, sizeof(*in->filters));
    for (size_t i = 0; in->filters != NULL && i < json_array_size(from); i++) {
        const json_t *f = json_array_get(from, i);
        in->filters[i] = (struct hg_session_filter){
            .filter = read_text(in, f, "filter"),
            .subscription_id = (uint32_t)read_number(f, "id", UINT32_MAX),
            .qos = (uint8_t)read_number(f, "qos", 2),
            .retain_handling = (uint8_t)read_number(f, "retain_handling", 2),
            .is_no_local = read_true(f, "no_local"),
            .is_retain_as_published = read_true(f, "as_published"),
        };
    }
    in->r.filters = in->filters;
    in->r.filters_n = in->filters == NULL ? 0 : json_array_size(from);
}

static uint16_t packet_id_of(const json_t *value)
{
    json_int_t n = json_integer_value(value);
    return n < 0 || n > UINT16_MAX ? 0 : (uint16_t)n;
}

static void read_in_flight(struct reading *in, const json_t *rx, const json_t *tx)
{
    in->rx = array_for(in, rx, sizeof(*in->rx));
    in->tx = array_for(in, tx, sizeof(*in->tx));
    if (in->has_failed) {
        return;
    }
    in->r.rx = in->rx;
    in->r.rx_n = json_array_size(rx);
    in->r.tx = in->tx;
    in->r.tx_n = json_array_size(tx);
    for (size_t i = 0; i < in->r.rx_n; i++) {
        in->rx[i] = packet_id_of(json_array_get(rx, i));
    }
    for (size_t i = 0; i < in->r.tx_n; i++) {
        const json_t *from = json_array_get(tx, i);
        const char *fingerprint = json_string_value(json_array_get(from, 1));
        in->tx[i] = (struct hg_session_tx){
            .packet_id = packet_id_of(json_array_get(from, 0)),
            .fingerprint = fingerprint == NULL ? 0 : strtoull(fingerprint, NULL, 16),
            .is_released = json_is_true(json_array_get(from, 2)),
        };
    }
}

static struct hg_session_record *read_all(const json_t *root, size_t body_n)
{
    struct reading in = {0};
    struct hg_session_record *r = NULL;
    in.has_failed = hg_writer_reserve(&in.text, body_n) == NULL;
    in.r.user = read_text(&in, root, "user");
    in.r.instance = read_text(&in, root, "instance");
    in.r.expiry_ms = json_object_get(root, "expiry_ms") == NULL
                         ? UINT64_MAX
                         : read_number(root, "expiry_ms", UINT64_MAX);
    in.r.disconnected_ms = read_number(root, "disconnected_ms", UINT64_MAX);
    in.r.will_at_ms = read_number(root, "will_at_ms", UINT64_MAX);
    in.r.inherits = read_true(root, "inherits");
    if (json_is_object(json_object_get(root, "will"))) {
        read_will(&in, json_object_get(root, "will"));
    }
    read_filters(&in, json_object_get(root, "filters"));
    read_in_flight(&in, json_object_get(root, "rx"), json_object_get(root, "tx"));
    if (!in.has_failed && !in.text.failed) {
        r = hg_session_record_copy(&in.r);
    }
    hg_free(in.filters);
    hg_free(in.headers);
    hg_free(in.tx);
    hg_free(in.rx);
    hg_writer_close(&in.text);
    return r;
}

struct hg_session_record *hg_session_record_read(struct hg_bytes body, const char **why_out)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)body.p, body.n, JSON_ALLOW_NUL, &error);
    bool has_memory = root != NULL || json_error_code(&error) != json_error_out_of_memory;
    *why_out = !json_is_object(root) && has_memory ? "it is not a JSON object" : NULL;
    struct hg_session_record *r = json_is_object(root) ? read_all(root, body.n) : NULL;
    json_decref(root);
    return r;
}
