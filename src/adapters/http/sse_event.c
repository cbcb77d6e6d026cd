/* SPDX-License-Identifier: Apache-2.0 */
/* Frames events so that whatever a message holds, it cannot write a line of its own. */
#include "adapters/http/sse_event.h"

#include "base/base64.h"
#include "message/topic.h"

#include <math.h>

/* Bytes before the first CR or LF. */
static size_t line_n(struct hg_bytes text)
{
    size_t n = 0;
    while (n < text.n && text.p[n] != '\r' && text.p[n] != '\n') {
        n++;
    }
    return n;
}

/* Whether it can stand in a line, and be read back. */
static bool is_line(struct hg_bytes b)
{
    return line_n(b) == b.n && hg_bytes_index(b, 0) == b.n && hg_utf8_is_valid(b);
}

/* A line of data for each line of the text; the browser joins them with LF. */
static void write_data(struct hg_writer *w, struct hg_bytes text)
{
    for (;;) {
        size_t n = line_n(text);
        hg_writer_str(w, "data: ");
        hg_writer_bytes(w, hg_bytes(text.p, n));
        hg_writer_u8(w, '\n');
        if (n == text.n) {
            return;
        }
        bool is_crlf = text.p[n] == '\r' && n + 1 < text.n && text.p[n + 1] == '\n';
        text = hg_bytes_skip(text, n + (is_crlf ? 2 : 1));
    }
}

/* Names that mean something else to an EventSource, or to who reads our documentation. */
static bool is_taken(struct hg_bytes type)
{
    return hg_bytes_eq(type, HG_BYTES("open")) || hg_bytes_eq(type, HG_BYTES("error")) ||
           hg_bytes_starts(type, HG_BYTES("headgate."));
}

static void write_body(struct hg_writer *w, const struct hg_message *m)
{
    struct hg_bytes body = hg_message_body(m);
    struct hg_bytes type = hg_message_properties(m)->type;
    if (!hg_utf8_is_valid(body)) {
        hg_writer_str(w, "event: " HG_SSE_EVENT_BASE64 "\ndata: ");
        hg_base64_encode(w, body);
        hg_writer_u8(w, '\n');
        return;
    }
    if (type.n > 0 && is_line(type) && !is_taken(type)) {
        hg_writer_str(w, "event: ");
        hg_writer_bytes(w, type);
        hg_writer_u8(w, '\n');
    }
    write_data(w, body);
}

/* ---- The envelope ---- */

static void write_name(struct hg_writer *w, struct hg_bytes name, bool *is_first)
{
    hg_writer_str(w, *is_first ? "\"" : ",\"");
    hg_writer_json(w, name);
    hg_writer_str(w, "\":");
    *is_first = false;
}

static void write_string(struct hg_writer *w, struct hg_bytes text)
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

static void write_properties(struct hg_writer *w, const struct hg_properties *p)
{
    const struct {
        const char *name;
        struct hg_bytes value;
    } texts[] = {
        {"content_type", p->content_type},
        {"content_encoding", p->content_encoding},
        {"message_id", p->message_id},
        {"correlation_id", p->correlation_id},
        {"reply_to", p->reply_to},
        {"type", p->type},
        {"app_id", p->app_id},
        {"user_id", p->user_id},
        {"expiration", p->expiration},
    };
    bool is_first = true;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].value.n > 0) {
            write_name(w, hg_bytes_str(texts[i].name), &is_first);
            write_string(w, texts[i].value);
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
    case HG_VALUE_STRING: write_string(w, value->u.bytes); break;
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

static void write_envelope(struct hg_writer *w, const struct hg_message *m, struct hg_bytes address,
                           bool is_retained)
{
    const struct hg_properties *p = hg_message_properties(m);
    struct hg_bytes body = hg_message_body(m);
    bool is_first = true;
    hg_writer_str(w, "data: {\"address\":");
    write_string(w, address);
    hg_writer_str(w, is_retained ? ",\"retained\":true" : "");
    hg_writer_str(w, ",\"properties\":{");
    write_properties(w, p);
    hg_writer_str(w, "},\"headers\":{");
    for (size_t i = 0; i < p->headers_n; i++) {
        write_name(w, p->headers[i].name, &is_first);
        write_value(w, &p->headers[i].value);
    }
    if (hg_utf8_is_valid(body)) {
        hg_writer_str(w, "},\"body\":");
        write_string(w, body);
    } else {
        hg_writer_str(w, "},\"base64\":\"");
        hg_base64_encode(w, body);
        hg_writer_u8(w, '"');
    }
    hg_writer_str(w, "}\n");
}

void hg_sse_write_event(struct hg_writer *w, enum hg_sse_mode mode, const struct hg_message *m,
                        struct hg_bytes id, struct hg_bytes address, bool is_retained)
{
    hg_writer_str(w, "id: ");
    hg_writer_bytes(w, is_line(id) ? id : HG_BYTES(""));
    hg_writer_u8(w, '\n');
    if (mode == HG_SSE_ENVELOPE) {
        write_envelope(w, m, address, is_retained);
    } else {
        write_body(w, m);
    }
    hg_writer_u8(w, '\n');
}
