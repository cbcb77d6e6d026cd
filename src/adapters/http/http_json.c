/* SPDX-License-Identifier: Apache-2.0 */
/* Names, each with its reader and what it wants. */
#include "adapters/http/http_json.h"

#include "adapters/http/http_message.h"
#include "base/mem.h"

#include <stdio.h>

enum { SHORT_MAX = 255 }; /* an AMQP short string, a header's name */

json_t *hg_http_json_read(struct hg_bytes text, const char **why_out)
{
    json_error_t err;
    json_t *value = json_loadb(text.n == 0 ? "" : (const char *)text.p, text.n,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &err);
    *why_out = NULL;
    if (value == NULL) {
        *why_out = json_error_code(&err) == json_error_out_of_memory      ? "out of memory"
                   : json_error_code(&err) == json_error_duplicate_key    ? "a name comes twice"
                   : json_error_code(&err) == json_error_numeric_overflow ? "a number is too large"
                   : json_error_code(&err) == json_error_invalid_utf8     ? "it is not UTF-8"
                                                                          : "it is not JSON";
    } else if (!json_is_object(value)) {
        *why_out = "it is not a JSON object";
        json_decref(value);
        value = NULL;
    }
    return value;
}

struct hg_bytes hg_http_json_text(const json_t *value)
{
    return json_is_string(value) ? hg_bytes(json_string_value(value), json_string_length(value))
                                 : (struct hg_bytes){0};
}

/* ---- Properties ---- */

typedef bool read_fn(struct hg_http_json_props *props, const json_t *value);

static bool read_text(struct hg_http_json_props *props, const json_t *value, size_t offset)
{
    struct hg_bytes text = hg_http_json_text(value);
    memcpy((char *)&props->properties + offset, &text, sizeof(text));
    return json_is_string(value) && text.n <= SHORT_MAX;
}

static bool read_delivery_mode(struct hg_http_json_props *props, const json_t *value)
{
    json_int_t n = json_integer_value(value);
    props->properties.delivery_mode = n == 2 ? 2 : 1;
    return n == 1 || n == 2;
}

static bool read_priority(struct hg_http_json_props *props, const json_t *value)
{
    json_int_t n = json_integer_value(value);
    props->properties.has_priority = true;
    props->properties.priority = (uint8_t)n;
    return json_is_integer(value) && n >= 0 && n <= UINT8_MAX;
}

static bool read_timestamp(struct hg_http_json_props *props, const json_t *value)
{
    props->properties.has_timestamp = true;
    props->properties.timestamp_s = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool read_expiration(struct hg_http_json_props *props, const json_t *value)
{
    struct hg_bytes text = hg_http_json_text(value);
    uint64_t ms;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        int n = snprintf(props->expiration, sizeof(props->expiration), "%lld",
                         (long long)json_integer_value(value));
        text = hg_bytes(props->expiration, (size_t)n);
    }
    props->properties.expiration = text;
    return hg_bytes_to_u64(text, UINT64_MAX, &ms);
}

#define SHORT_TEXT "must be a string of at most 255 bytes"
/* clang-format off */
static const struct prop {
    const char *name;
    read_fn *read;
    const char *wants;
} props_table[] = {
    {"delivery_mode",    read_delivery_mode, "must be 1 (transient) or 2 (persistent)"},
    {"priority",         read_priority, "must be a number from 0 to 255"},
    {"timestamp",        read_timestamp, "must be a number of seconds since 1970"},
    {"expiration",       read_expiration, "must be a number of milliseconds"},
};
/* clang-format on */

static bool complain(struct hg_writer *why, const char *name, const char *wants)
{
    hg_writer_printf(why, "%s %s", name, wants);
    return false;
}

/* One that is text, whose name is its own; false: `why` says what is wrong. The user_id's fate is the
 * gateway's to decide. */
static bool read_named_text(struct hg_http_json_props *props, const char *name, const json_t *value,
                            struct hg_writer *why)
{
    for (size_t i = 0; i < HG_HTTP_TEXT_PROPERTIES_N; i++) {
        if (strcmp(name, hg_http_text_properties[i].name) == 0) {
            return read_text(props, value, hg_http_text_properties[i].offset) ||
                   complain(why, name, SHORT_TEXT);
        }
    }
    return complain(why, name, "is not a property");
}

static bool read_property(struct hg_http_json_props *props, const char *name, const json_t *value,
                          struct hg_writer *why)
{
    for (size_t i = 0; i < sizeof(props_table) / sizeof(props_table[0]); i++) {
        if (strcmp(name, props_table[i].name) == 0) {
            return props_table[i].read(props, value) || complain(why, name, props_table[i].wants);
        }
    }
    return read_named_text(props, name, value, why);
}

bool hg_http_json_properties(struct hg_http_json_props *props, const json_t *object,
                             struct hg_writer *why)
{
    const char *name;
    json_t *value;
    if (object != NULL && !json_is_object(object)) {
        return complain(why, "properties", "must be an object");
    }
    json_object_foreach((json_t *)object, name, value)
    {
        bool is_fine = strcmp(name, "headers") == 0 ? hg_http_json_headers(props, value, why)
                                                    : read_property(props, name, value, why);
        if (!is_fine) {
            return false;
        }
    }
    return true;
}

/* ---- Headers ---- */

static int append(const char *text, size_t n, void *writer)
{
    hg_writer_bytes(writer, hg_bytes(text, n));
    return 0;
}

/* Of a nested one only the length: the text may still move. */
static struct hg_value value_of(struct hg_http_json_props *props, const json_t *value)
{
    size_t start = hg_writer_n(&props->nested);
    switch (json_typeof(value)) {
    case JSON_STRING:
        return (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = hg_http_json_text(value)};
    case JSON_INTEGER:
        return (struct hg_value){.kind = HG_VALUE_INT, .u.i = json_integer_value(value)};
    case JSON_REAL:
        return (struct hg_value){.kind = HG_VALUE_DOUBLE, .u.d = json_real_value(value)};
    case JSON_TRUE:
    case JSON_FALSE: return (struct hg_value){.kind = HG_VALUE_BOOL, .u.b = json_is_true(value)};
    case JSON_NULL: return (struct hg_value){.kind = HG_VALUE_NULL};
    case JSON_OBJECT:
    case JSON_ARRAY: break;
    }
    if (json_dump_callback(value, append, &props->nested, JSON_COMPACT) != 0) {
        props->nested.failed = true;
    }
    struct hg_value nested = {.kind = HG_VALUE_JSON};
    nested.u.bytes.n = hg_writer_n(&props->nested) - start;
    return nested;
}

bool hg_http_json_headers(struct hg_http_json_props *props, const json_t *object,
                          struct hg_writer *why)
{
    const char *name;
    json_t *value;
    if (object == NULL) {
        return true;
    }
    if (!json_is_object(object) || props->headers != NULL) {
        return complain(why, "headers", "must be an object, and come once");
    }
    props->headers = hg_alloc((json_object_size(object) + 1) * sizeof(*props->headers));
    if (props->headers == NULL) {
        return complain(why, "headers", "out of memory");
    }
    size_t n = 0;
    json_object_foreach((json_t *)object, name, value)
    {
        if (strlen(name) == 0 || strlen(name) > SHORT_MAX) {
            return complain(why, "headers", "have names of 1 to 255 bytes");
        }
        props->headers[n++] = (struct hg_header){hg_bytes_str(name), value_of(props, value)};
    }
    struct hg_bytes text = hg_writer_view(&props->nested);
    for (size_t i = 0; i < n && !props->nested.failed; i++) {
        struct hg_value *v = &props->headers[i].value;
        if (v->kind == HG_VALUE_JSON) {
            v->u.bytes.p = text.p;
            text = hg_bytes_skip(text, v->u.bytes.n);
        }
    }
    props->properties.headers = props->headers;
    props->properties.headers_n = n;
    return !props->nested.failed || complain(why, "headers", "out of memory");
}

void hg_http_json_close(struct hg_http_json_props *props)
{
    hg_free(props->headers);
    hg_writer_close(&props->nested);
    props->headers = NULL;
}
