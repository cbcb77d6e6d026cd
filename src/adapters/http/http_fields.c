/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/http/http_fields.h"

#include "adapters/http/http_codec.h"
#include "base/percent.h"

#include <stdio.h>

enum { NAME_MAX_BYTES = 255 };

#define HEADER_PREFIX "Amqp-Header-"
#define CLOUD_EVENTS  HG_BYTES("cloudEvents:") /* their AMQP binding 1.0.2, section 3.1.3.1 */

struct writing {
    hg_http_field_fn *field;
    void *ctx;
};

static bool is_value(struct hg_bytes value)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < ' ' || value.p[i] == 0x7f) {
            return false;
        }
    }
    return value.n == 0 || (value.p[0] != ' ' && value.p[value.n - 1] != ' ');
}

static void write_text(const struct writing *w, struct hg_bytes name, struct hg_bytes value)
{
    if (value.n > 0 && is_value(value)) {
        w->field(w->ctx, name, value);
    }
}

static void write_number(const struct writing *w, struct hg_bytes name, uint64_t n)
{
    char text[24];
    int text_n = snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    w->field(w->ctx, name, hg_bytes(text, (size_t)text_n));
}

/* traceparent and tracestate are fields of their own (W3C Trace Context). */
static bool is_trace(struct hg_bytes name)
{
    return hg_bytes_eq(name, HG_BYTES("traceparent")) || hg_bytes_eq(name, HG_BYTES("tracestate"));
}

/* As the HTTP binding of CloudEvents has it (1.0.2, section 3.1.3.2). */
static void write_percent_encoded(struct hg_writer *w, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c > 0x20 && c < 0x7f && c != '"' && c != '%') {
            hg_writer_u8(w, c);
        } else {
            uint8_t escape[HG_PERCENT_N];
            (void)hg_percent_write(escape, c);
            hg_writer_bytes(w, hg_bytes(escape, sizeof(escape)));
        }
    }
}

/* An attribute of a CloudEvent. */
static bool write_attribute(const struct writing *w, const struct hg_header *h)
{
    struct hg_bytes attribute = hg_bytes_skip(h->name, CLOUD_EVENTS.n);
    struct hg_writer text = {0};
    struct hg_writer value = {0};
    char name[NAME_MAX_BYTES + 4];
    if (h->name.n <= NAME_MAX_BYTES && hg_http_is_token(attribute)) {
        hg_value_write_text(&text, &h->value);
        write_percent_encoded(&value, hg_writer_view(&text));
        int n = snprintf(name, sizeof(name), "ce-%.*s", HG_BYTES_FMT(attribute));
        value.failed = value.failed || text.failed;
        if (!value.failed) {
            w->field(w->ctx, hg_bytes(name, (size_t)n), hg_writer_view(&value));
        }
    }
    bool is_whole = !value.failed;
    hg_writer_close(&value);
    hg_writer_close(&text);
    return is_whole;
}

static bool write_header(const struct writing *w, const struct hg_header *h)
{
    if (hg_bytes_starts(h->name, CLOUD_EVENTS)) {
        return write_attribute(w, h);
    }
    struct hg_writer value = {0};
    char name[sizeof(HEADER_PREFIX) + NAME_MAX_BYTES];
    if (hg_header_is_reserved(h->name) || h->name.n > NAME_MAX_BYTES ||
        !hg_http_is_token(h->name)) {
        return true;
    }
    hg_value_write_text(&value, &h->value);
    bool is_whole = !value.failed;
    struct hg_bytes text = hg_writer_view(&value);
    if (is_whole && is_value(text)) {
        int n = snprintf(name, sizeof(name), "%s%.*s", is_trace(h->name) ? "" : HEADER_PREFIX,
                         HG_BYTES_FMT(h->name));
        w->field(w->ctx, hg_bytes(name, (size_t)n), text);
    }
    hg_writer_close(&value);
    return is_whole;
}

bool hg_http_fields_write(const struct hg_message *m, hg_http_field_fn *field, void *ctx)
{
    const struct hg_properties *p = hg_message_properties(m);
    const struct writing w = {field, ctx};
    bool has_type = p->content_type.n > 0 && is_value(p->content_type);
    field(ctx, HG_BYTES("Content-Type"),
          has_type ? p->content_type : HG_BYTES("application/octet-stream"));
    write_text(&w, HG_BYTES("Content-Encoding"), p->content_encoding);
    write_text(&w, HG_BYTES("Correlation-Id"), p->correlation_id);
    write_text(&w, HG_BYTES("Reply-To"), p->reply_to);
    write_text(&w, HG_BYTES("Message-Id"), p->message_id);
    write_text(&w, HG_BYTES("Amqp-Type"), p->type);
    write_text(&w, HG_BYTES("Amqp-App-Id"), p->app_id);
    write_text(&w, HG_BYTES("Amqp-User-Id"), p->user_id);
    write_text(&w, HG_BYTES("Amqp-Expiration"), p->expiration);
    if (p->has_priority) {
        write_number(&w, HG_BYTES("Amqp-Priority"), p->priority);
    }
    if (p->delivery_mode != 0) {
        field(ctx, HG_BYTES("Amqp-Persistent"),
              p->delivery_mode == 2 ? HG_BYTES("true") : HG_BYTES("false"));
    }
    if (p->has_timestamp) {
        write_number(&w, HG_BYTES("Amqp-Timestamp"), p->timestamp_s);
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        if (!write_header(&w, &p->headers[i])) {
            return false;
        }
    }
    return true;
}

struct lines {
    struct hg_writer *out;
    struct hg_bytes except;
};

static void write_line(void *ctx, struct hg_bytes name, struct hg_bytes value)
{
    const struct lines *lines = ctx;
    if (!hg_bytes_eq(name, lines->except)) {
        hg_writer_bytes(lines->out, name);
        hg_writer_str(lines->out, ": ");
        hg_writer_bytes(lines->out, value);
        hg_writer_str(lines->out, "\r\n");
    }
}

void hg_http_fields_lines(const struct hg_message *m, struct hg_bytes except, struct hg_writer *out)
{
    struct lines lines = {out, except};
    out->failed = !hg_http_fields_write(m, write_line, &lines) || out->failed;
}
