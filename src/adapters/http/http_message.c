/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/http/http_message.h"

#include "base/base64.h"
#include "message/topic.h"

#include <math.h>

#define AT(member) offsetof(struct hg_properties, member)
const struct hg_http_text_property hg_http_text_properties[HG_HTTP_TEXT_PROPERTIES_N] = {
    {"content_type", AT(content_type)},
    {"content_encoding", AT(content_encoding)},
    {"message_id", AT(message_id)},
    {"correlation_id", AT(correlation_id)},
    {"reply_to", AT(reply_to)},
    {"type", AT(type)},
    {"app_id", AT(app_id)},
    {"user_id", AT(user_id)},
    {"expiration", AT(expiration)},
};

static void write_name(struct hg_writer *w, struct hg_bytes name, bool *is_first)
{
    hg_writer_str(w, *is_first ? "\"" : ",\"");
    hg_writer_json(w, name);
    hg_writer_str(w, "\":");
    *is_first = false;
}

void hg_http_message_string(struct hg_writer *w, struct hg_bytes text)
{
    hg_writer_u8(w, '"');
    hg_writer_json(w, text);
    hg_writer_u8(w, '"');
}

static void write_number(struct hg_writer *w, const char *name, uint64_t n, bool *is_first)
{
    write_name(w, hg_bytes_str(name), is_first);
    hg_writer_dec(w, n);
}

void hg_http_message_properties(struct hg_writer *w, const struct hg_properties *p)
{
    bool is_first = true;
    for (size_t i = 0; i < HG_HTTP_TEXT_PROPERTIES_N; i++) {
        const struct hg_http_text_property *property = &hg_http_text_properties[i];
        struct hg_bytes value;
        memcpy(&value, (const char *)p + property->offset, sizeof(value));
        if (value.n > 0) {
            write_name(w, hg_bytes_str(property->name), &is_first);
            hg_http_message_string(w, value);
        }
    }
    if (p->delivery_mode != 0) {
        write_number(w, "delivery_mode", p->delivery_mode, &is_first);
    }
    if (p->has_priority) {
        write_number(w, "priority", p->priority, &is_first);
    }
    if (p->has_timestamp) {
        write_number(w, "timestamp", p->timestamp_s, &is_first);
    }
}

/* As nested tables have it: binary is base64, what JSON has no number for is null. */
static void write_value(struct hg_writer *w, const struct hg_value *value)
{
    switch (value->kind) {
    case HG_VALUE_NULL: hg_writer_str(w, "null"); break;
    case HG_VALUE_STRING: hg_http_message_string(w, value->u.bytes); break;
    case HG_VALUE_BINARY:
        hg_writer_u8(w, '"');
        hg_base64_encode(w, value->u.bytes);
        hg_writer_u8(w, '"');
        break;
    case HG_VALUE_DOUBLE:
        if (!isfinite(value->u.d)) {
            hg_writer_str(w, "null");
            break;
        }
        hg_value_write_text(w, value);
        break;
    case HG_VALUE_BOOL:
    case HG_VALUE_INT:
    case HG_VALUE_TIMESTAMP:
    case HG_VALUE_JSON: hg_value_write_text(w, value); break;
    }
}

void hg_http_message_headers(struct hg_writer *w, const struct hg_properties *p)
{
    bool is_first = true;
    for (size_t i = 0; i < p->headers_n; i++) {
        write_name(w, p->headers[i].name, &is_first);
        write_value(w, &p->headers[i].value);
    }
}

void hg_http_message_body(struct hg_writer *w, struct hg_bytes body)
{
    if (hg_utf8_is_valid(body)) {
        hg_writer_str(w, "\"body\":");
        hg_http_message_string(w, body);
    } else {
        hg_writer_str(w, "\"base64\":\"");
        hg_base64_encode(w, body);
        hg_writer_u8(w, '"');
    }
}
