/* SPDX-License-Identifier: Apache-2.0 */
/* Frames events so that whatever a message holds, it cannot write a line of its own. */
#include "adapters/http/sse_event.h"

#include "adapters/http/http_message.h"
#include "base/base64.h"
#include "message/topic.h"

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

static void write_envelope(struct hg_writer *w, const struct hg_message *m, struct hg_bytes address,
                           bool is_retained)
{
    const struct hg_properties *p = hg_message_properties(m);
    hg_writer_str(w, "data: {\"address\":");
    hg_http_message_string(w, address);
    hg_writer_str(w, is_retained ? ",\"retained\":true" : "");
    hg_writer_str(w, ",\"properties\":{");
    hg_http_message_properties(w, p);
    hg_writer_str(w, "},\"headers\":{");
    hg_http_message_headers(w, p);
    hg_writer_str(w, "},");
    hg_http_message_body(w, hg_message_body(m));
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
