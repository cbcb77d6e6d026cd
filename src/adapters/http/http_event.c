/* SPDX-License-Identifier: Apache-2.0 */
/* Names in lower case behind the other prefix, values decoded. */
#include "adapters/http/http_event.h"

#include "adapters/http/http_uri.h"
#include "message/topic.h"

#define PREFIX "ce-"

enum { NAME_MAX_N = 255 - (sizeof(HG_HTTP_EVENT_PREFIX) - 1) };

static bool starts_nocase(struct hg_bytes b, struct hg_bytes prefix)
{
    return b.n >= prefix.n && hg_bytes_eq_nocase(hg_bytes(b.p, prefix.n), prefix);
}

bool hg_http_event_is_attribute(struct hg_bytes name)
{
    return starts_nocase(name, HG_BYTES(PREFIX));
}

bool hg_http_event_is_batch(struct hg_bytes content_type)
{
    return starts_nocase(content_type, HG_BYTES("application/cloudevents-batch"));
}

bool hg_http_event_is_there(const struct hg_http_head *head)
{
    for (size_t i = 0; i < head->fields_n; i++) {
        if (hg_http_event_is_attribute(head->fields[i].name)) {
            return true;
        }
    }
    return false;
}

bool hg_http_event_open(const struct hg_http_head *head, struct hg_writer *text)
{
    size_t n = 0;
    for (size_t i = 0; i < head->fields_n; i++) {
        const struct hg_http_field *f = &head->fields[i];
        if (hg_http_event_is_attribute(f->name)) {
            n += sizeof(HG_HTTP_EVENT_PREFIX) + f->name.n + f->value.n; /* decoding adds nothing */
        }
    }
    return n == 0 || hg_writer_reserve(text, n) != NULL;
}

/* Binding, section 3.1.3.1: attribute names are lower-case letters and digits, in HTTP any case. */
static const char *read_name(struct hg_bytes name, struct hg_writer *text)
{
    hg_writer_str(text, HG_HTTP_EVENT_PREFIX);
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9')) {
            return "is no attribute: its name is made of letters and digits";
        }
        hg_writer_u8(text, c);
    }
    if (name.n == 0 || name.n > NAME_MAX_N) {
        return "must be followed by an attribute's name";
    }
    return hg_bytes_eq_nocase(name, HG_BYTES("datacontenttype"))
               ? "must not be there: Content-Type says it"
               : NULL;
}

/* Takes quotes and their backslashes out of `in` (RFC 9110 section 5.6.4), which older senders
 * write. False: a quote is not closed. */
static bool unquote(struct hg_bytes in, uint8_t *out, size_t *n_out)
{
    bool is_quoted = false;
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        uint8_t c = in.p[i];
        if (c == '"') {
            is_quoted = !is_quoted;
            continue;
        }
        if (c == '\\' && is_quoted && ++i < in.n) {
            c = in.p[i];
        }
        out[n++] = c;
    }
    *n_out = n;
    return !is_quoted;
}

/* No control characters, C1 ones included (CloudEvents 1.0.2, section 3.1). */
static bool is_string(struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        bool is_c1 = b.p[i] == 0xc2 && i + 1 < b.n && b.p[i + 1] >= 0x80 && b.p[i + 1] <= 0x9f;
        if (b.p[i] < 0x20 || b.p[i] == 0x7f || is_c1) {
            return false;
        }
    }
    return hg_utf8_is_valid(b);
}

static const char *read_value(struct hg_bytes value, struct hg_writer *text)
{
    uint8_t *p = hg_writer_reserve(text, value.n);
    size_t n = 0;
    if (p == NULL) {
        return "out of memory";
    }
    if (!unquote(value, p, &n)) {
        return "opens a quote that is not closed";
    }
    if (hg_http_decode_value(p, &n) != NULL) {
        return "must have two hex digits, other than 00, behind each %";
    }
    hg_writer_commit(text, n);
    if (n == 0) {
        return "must not be empty";
    }
    return is_string(hg_bytes(p, n)) ? NULL : "must be UTF-8 without control characters";
}

const char *hg_http_event_read(const struct hg_http_field *f, struct hg_writer *text,
                               struct hg_bytes *name_out, struct hg_bytes *value_out)
{
    size_t start = hg_writer_n(text);
    const char *wrong = read_name(hg_bytes_skip(f->name, sizeof(PREFIX) - 1), text);
    size_t middle = hg_writer_n(text);
    if (wrong == NULL) {
        wrong = read_value(f->value, text);
    }
    struct hg_bytes all = hg_bytes_skip(hg_writer_view(text), start);
    *name_out = hg_bytes(all.p, middle - start);
    *value_out = hg_bytes_skip(all, middle - start);
    return wrong;
}

const char *hg_http_event_missing(const struct hg_http_head *head)
{
    static const char *const required[] = {"ce-id", "ce-source", "ce-specversion", "ce-type"};
    struct hg_bytes type = hg_http_field(head, HG_BYTES("Content-Type"));
    if (starts_nocase(type, HG_BYTES("application/cloudevents"))) {
        return NULL; /* in structured mode headers may repeat some of what the body says */
    }
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        if (hg_http_field(head, hg_bytes_str(required[i])).n == 0) {
            return required[i];
        }
    }
    return NULL;
}
