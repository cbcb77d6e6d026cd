/* SPDX-License-Identifier: Apache-2.0 */
/* One table of the headers that are properties, each with its parser. */
#include "adapters/http/http_props.h"

#include "adapters/http/http_encode.h"
#include "adapters/http/http_event.h"
#include "base/hex.h"
#include "base/mem.h"
#include "message/topic.h"

#include <stdio.h>

enum { SHORT_MAX = 255 }; /* an AMQP short string, a header's name */

#define HEADER_PREFIX "Amqp-Header-"

/* Puts a value where it belongs; NULL, or what is wrong with it. */
typedef const char *read_fn(struct hg_http_props *props, struct hg_bytes value, size_t offset);

static void add_header(struct hg_http_props *props, struct hg_bytes name, struct hg_bytes text)
{
    struct hg_header *h = &props->headers[props->properties.headers_n++];
    *h = (struct hg_header){.name = name, .value = {.kind = HG_VALUE_STRING, .u = {.bytes = text}}};
}

static const char *add_unique(struct hg_http_props *props, struct hg_bytes name,
                              struct hg_bytes text)
{
    for (size_t i = 0; i < props->properties.headers_n; i++) {
        if (hg_bytes_eq(props->headers[i].name, name)) {
            return "is given twice";
        }
    }
    add_header(props, name, text);
    return NULL;
}

static const char *read_text(struct hg_http_props *props, struct hg_bytes value, size_t offset)
{
    if (value.n > SHORT_MAX) {
        return "must not be longer than 255 bytes";
    }
    memcpy((char *)&props->properties + offset, &value, sizeof(value));
    return NULL;
}

static const char *read_correlation(struct hg_http_props *props, struct hg_bytes value,
                                    size_t offset)
{
    if (value.n <= SHORT_MAX) {
        return read_text(props, value, offset);
    }
    add_header(props, HG_BYTES("x-correlation-id"), value);
    return NULL;
}

struct hg_bytes hg_http_unquoted(struct hg_bytes value)
{
    bool is_quoted = value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"';
    return is_quoted ? hg_bytes(value.p + 1, value.n - 2) : value;
}

static const char *read_message_id(struct hg_http_props *props, struct hg_bytes value,
                                   size_t offset)
{
    struct hg_bytes present = props->properties.message_id;
    value = hg_http_unquoted(value);
    if (present.n > 0 && !hg_bytes_eq(present, value)) {
        return "differs from Message-Id, and both become the message_id";
    }
    return read_text(props, value, offset);
}

static const char *read_encoding(struct hg_http_props *props, struct hg_bytes value, size_t offset)
{
    struct hg_bytes list = value;
    struct hg_bytes coding;
    while (hg_http_next_element(&list, &coding)) {
        if (!hg_http_is_token(coding)) {
            return "must be a list of codings: gzip, br";
        }
    }
    return read_text(props, value, offset);
}

static const char *read_priority(struct hg_http_props *props, struct hg_bytes value, size_t offset)
{
    uint64_t n;
    (void)offset;
    if (!hg_bytes_to_u64(value, UINT8_MAX, &n)) {
        return "must be a number from 0 to 255";
    }
    props->properties.has_priority = true;
    props->properties.priority = (uint8_t)n;
    return NULL;
}

static const char *read_expiration(struct hg_http_props *props, struct hg_bytes value,
                                   size_t offset)
{
    uint64_t ms;
    (void)offset;
    if (!hg_bytes_to_u64(value, UINT64_MAX, &ms)) {
        return "must be a number of milliseconds";
    }
    int n = snprintf(props->expiration, sizeof(props->expiration), "%u",
                     ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms);
    props->properties.expiration = hg_bytes(props->expiration, (size_t)n);
    return NULL;
}

static const char *read_persistent(struct hg_http_props *props, struct hg_bytes value,
                                   size_t offset)
{
    (void)offset;
    if (hg_bytes_eq(value, HG_BYTES("false"))) {
        props->properties.delivery_mode = 1;
    } else if (!hg_bytes_eq(value, HG_BYTES("true"))) {
        return "must be true or false";
    }
    return NULL;
}

static const char *read_timestamp(struct hg_http_props *props, struct hg_bytes value, size_t offset)
{
    (void)offset;
    if (!hg_bytes_to_u64(value, INT64_MAX, &props->properties.timestamp_s)) {
        return "must be a number of seconds since 1970";
    }
    props->properties.has_timestamp = true;
    return NULL;
}

static const char *read_traceparent(struct hg_http_props *props, struct hg_bytes value,
                                    size_t offset)
{
    (void)offset;
    add_header(props, HG_BYTES("traceparent"), value);
    return NULL;
}

static const char *read_tracestate(struct hg_http_props *props, struct hg_bytes value,
                                   size_t offset)
{
    (void)offset;
    add_header(props, HG_BYTES("tracestate"), value);
    return NULL;
}

#define AT(member) offsetof(struct hg_properties, member)
#define NAME(text) (text), sizeof(text) - 1
/* clang-format off */
static const struct prop {
    const char *name;
    size_t name_n;
    read_fn *read;
    size_t offset; /* of the text in struct hg_properties */
} props_table[] = {
    {NAME("Content-Type"),     read_text,        AT(content_type)},
    {NAME("Content-Encoding"), read_encoding,    AT(content_encoding)},
    {NAME("Correlation-Id"),   read_correlation, AT(correlation_id)},
    {NAME("Reply-To"),         read_text,        AT(reply_to)},
    {NAME("Message-Id"),       read_message_id,  AT(message_id)},
    {NAME("Idempotency-Key"),  read_message_id,  AT(message_id)},
    {NAME("Amqp-Type"),        read_text,        AT(type)},
    {NAME("Amqp-App-Id"),      read_text,        AT(app_id)},
    {NAME("Amqp-User-Id"),     read_text,        AT(user_id)}, /* the gateway decides whether it is kept */
    {NAME("Amqp-Priority"),    read_priority,    0},
    {NAME("Amqp-Expiration"),  read_expiration,  0},
    {NAME("Amqp-Persistent"),  read_persistent,  0},
    {NAME("Amqp-Timestamp"),   read_timestamp,   0},
    {NAME("traceparent"),      read_traceparent, 0},
    {NAME("tracestate"),       read_tracestate,  0},
};
/* clang-format on */

static const char *read_header(struct hg_http_props *props, const struct hg_http_field *f)
{
    struct hg_bytes name = hg_bytes_skip(f->name, sizeof(HEADER_PREFIX) - 1);
    if (name.n == 0 || name.n > SHORT_MAX) {
        return "must be followed by a name of 1 to 255 bytes";
    }
    if (hg_bytes_eq_nocase(name, HG_BYTES("retain"))) {
        props->is_retained = hg_bytes_eq(f->value, HG_BYTES("true"));
        return props->is_retained || hg_bytes_eq(f->value, HG_BYTES("false"))
                   ? NULL
                   : "must be true or false";
    }
    return add_unique(props, name, f->value);
}

static bool has_prefix(struct hg_bytes name, struct hg_bytes prefix)
{
    return name.n >= prefix.n && hg_bytes_eq_nocase(hg_bytes(name.p, prefix.n), prefix);
}

static const char *read_event(struct hg_http_props *props, const struct hg_http_field *f)
{
    struct hg_bytes name;
    struct hg_bytes value;
    const char *wrong = hg_http_event_read(f, &props->event, &name, &value);
    return wrong != NULL ? wrong : add_unique(props, name, value);
}

/* By its first letter: a property, Amqp-… or ce-…; most headers are none of them. */
static bool may_matter(struct hg_bytes name)
{
    switch (name.n == 0 ? 0 : name.p[0] | 0x20) {
    case 'a':
    case 'c':
    case 'i':
    case 'm':
    case 'r':
    case 't': return true;
    default: return false;
    }
}

/* seen: a bit for each row of the table. */
static const char *read_field(struct hg_http_props *props, const struct hg_http_field *f,
                              uint32_t *seen)
{
    if (!may_matter(f->name)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(props_table) / sizeof(props_table[0]); i++) {
        const struct prop *prop = &props_table[i];
        if (f->name.n != prop->name_n ||
            !hg_bytes_eq_nocase(f->name, hg_bytes(prop->name, prop->name_n))) {
            continue;
        }
        if ((*seen & (1u << i)) != 0) {
            return "is given twice";
        }
        *seen |= 1u << i;
        return hg_utf8_is_valid(f->value) ? prop->read(props, f->value, prop->offset)
                                          : "must be UTF-8";
    }
    if (has_prefix(f->name, HG_BYTES(HEADER_PREFIX))) {
        return hg_utf8_is_valid(f->value) ? read_header(props, f) : "must be UTF-8";
    }
    if (hg_http_event_is_attribute(f->name)) {
        return read_event(props, f);
    }
    return has_prefix(f->name, HG_BYTES("Amqp-")) ? "is not known" : NULL;
}

void hg_http_uuid(struct hg_random *random, char out[HG_HTTP_UUID_SIZE])
{
    uint64_t halves[2] = {hg_random_next(random), hg_random_next(random)};
    uint8_t bytes[16];
    char digits[32];
    memcpy(bytes, halves, sizeof(bytes));
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40); /* the version, and below the variant */
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    (void)hg_hex_write(digits, hg_bytes(bytes, sizeof(bytes)));
    memcpy(out, digits, 8);
    memcpy(out + 9, digits + 8, 4);
    memcpy(out + 14, digits + 12, 4);
    memcpy(out + 19, digits + 16, 4);
    memcpy(out + 24, digits + 20, 12);
    out[8] = out[13] = out[18] = out[23] = '-';
    out[HG_HTTP_UUID_SIZE - 1] = '\0';
}

bool hg_http_props_open(struct hg_http_props *props, const struct hg_http_head *head,
                        struct hg_random *random, struct hg_writer *why)
{
    props->properties = (struct hg_properties){.delivery_mode = 2};
    props->headers_own = NULL;
    props->event = (struct hg_writer){0};
    props->is_retained = false;
    if (head->fields_n + 1 > HG_HTTP_HEADERS_INSIDE) {
        props->headers_own = hg_alloc((head->fields_n + 1) * sizeof(*props->headers));
    }
    props->headers =
        head->fields_n + 1 > HG_HTTP_HEADERS_INSIDE ? props->headers_own : props->inside;
    bool has_event = hg_http_event_is_there(head);
    if (props->headers == NULL || (has_event && !hg_http_event_open(head, &props->event))) {
        hg_writer_str(why, "out of memory");
        return false;
    }
    uint32_t seen = 0;
    for (size_t i = 0; i < head->fields_n; i++) {
        const struct hg_http_field *f = &head->fields[i];
        const char *rule = read_field(props, f, &seen);
        if (rule != NULL) {
            hg_writer_bytes(why, f->name);
            hg_writer_printf(why, " %s", rule);
            return false;
        }
    }
    props->properties.headers = props->headers;
    const char *missing = has_event ? hg_http_event_missing(head) : NULL;
    if (missing != NULL) {
        hg_writer_printf(why,
                         "%s is missing: a CloudEvent has ce-id, ce-source, ce-specversion and "
                         "ce-type",
                         missing);
        return false;
    }
    if (props->properties.message_id.n == 0) {
        hg_http_uuid(random, props->uuid);
        props->properties.message_id = hg_bytes_str(props->uuid);
    }
    return true;
}

void hg_http_props_close(struct hg_http_props *props)
{
    hg_free(props->headers_own);
    hg_writer_close(&props->event);
    props->headers = props->headers_own = NULL;
}
