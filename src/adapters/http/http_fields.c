/* SPDX-License-Identifier: Apache-2.0 */
/* A message's properties as response fields. */
#include "adapters/http/http_fields.h"

#include "adapters/http/http_codec.h"
#include "adapters/http/http_encode.h"

#define CLOUD_EVENTS HG_BYTES("cloudEvents:") /* their AMQP binding 1.0.2, section 3.1.3.1 */

enum { NAME_MAX_BYTES = 255 };

static void write_texts(struct hg_writer *w, const struct hg_properties *p)
{
    const struct {
        const char *name;
        struct hg_bytes value;
    } texts[] = {
        {"Content-Type", p->content_type},
        {"Content-Encoding", p->content_encoding},
        {"Correlation-Id", p->correlation_id},
        {"Reply-To", p->reply_to},
        {"Message-Id", p->message_id},
        {"Amqp-Type", p->type},
        {"Amqp-App-Id", p->app_id},
        {"Amqp-User-Id", p->user_id},
        {"Amqp-Expiration", p->expiration},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].value.n > 0) {
            hg_http_write_field(w, texts[i].name, texts[i].value);
        }
    }
}

/* The name of a field for this header, NUL-terminated; false: it has none. */
static bool name_of(struct hg_bytes name, char out[NAME_MAX_BYTES + 16])
{
    const char *prefix = "Amqp-Header-";
    if (hg_bytes_eq(name, HG_BYTES("traceparent")) || hg_bytes_eq(name, HG_BYTES("tracestate"))) {
        prefix = "";
    } else if (hg_bytes_starts(name, CLOUD_EVENTS)) {
        prefix = "ce-";
        name = hg_bytes_skip(name, CLOUD_EVENTS.n);
    }
    if (!hg_http_is_token(name) || name.n > NAME_MAX_BYTES) {
        return false;
    }
    size_t prefix_n = strlen(prefix);
    memcpy(out, prefix, prefix_n);
    memcpy(out + prefix_n, name.p, name.n);
    out[prefix_n + name.n] = '\0';
    return true;
}

/* As their HTTP binding has it (1.0.2, section 3.1.3.2). */
static void write_percent_encoded(struct hg_writer *w, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c > 0x20 && c < 0x7f && c != '"' && c != '%') {
            hg_writer_u8(w, c);
        } else {
            hg_writer_printf(w, "%%%02X", c);
        }
    }
}

static void write_header(struct hg_writer *w, const struct hg_header *h, struct hg_writer *text)
{
    char name[NAME_MAX_BYTES + 16];
    if (!name_of(h->name, name)) {
        return;
    }
    hg_writer_reset(text);
    hg_value_write_text(text, &h->value);
    w->failed = w->failed || text->failed;
    if (strncmp(name, "ce-", 3) != 0) {
        hg_http_write_field(w, name, hg_writer_view(text));
        return;
    }
    hg_writer_printf(w, "%s: ", name);
    write_percent_encoded(w, hg_writer_view(text));
    hg_writer_str(w, "\r\n");
}

void hg_http_fields_write(struct hg_writer *w, const struct hg_properties *p)
{
    struct hg_writer text = {0};
    write_texts(w, p);
    if (p->has_priority) {
        hg_writer_printf(w, "Amqp-Priority: %u\r\n", p->priority);
    }
    if (p->has_timestamp) {
        hg_writer_printf(w, "Amqp-Timestamp: %llu\r\n", (unsigned long long)p->timestamp_s);
    }
    if (p->delivery_mode != 0) {
        hg_writer_printf(w, "Amqp-Persistent: %s\r\n", p->delivery_mode == 2 ? "true" : "false");
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        write_header(w, &p->headers[i], &text);
    }
    hg_writer_close(&text);
}
