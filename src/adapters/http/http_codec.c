/* SPDX-License-Identifier: Apache-2.0 */
/* The request decoder: scans lines strictly, splits and checks the complete head, counts the bytes of
 * a body or has llhttp read its chunks. */
#include "adapters/http/http_codec.h"

#include "base/eights.h"
#include "base/mem.h"

#include <llhttp.h>

/* Method and version around the target: "OPTIONS " and " HTTP/1.1" and CR LF. A longer unknown
 * method is cut off with 414. */
enum { REQUEST_LINE_REST = 32, CRLF_N = 2 };

enum scan { SCAN_START, SCAN_LINE, SCAN_CR, SCAN_BLANK_CR };

static const struct {
    const char *name;
    enum hg_http_method method;
} methods[HG_HTTP_METHOD_N] = {
    {"GET", HG_HTTP_GET},         {"HEAD", HG_HTTP_HEAD},     {"POST", HG_HTTP_POST},
    {"PUT", HG_HTTP_PUT},         {"DELETE", HG_HTTP_DELETE}, {"PATCH", HG_HTTP_PATCH},
    {"OPTIONS", HG_HTTP_OPTIONS},
};

const char *hg_http_method_name(enum hg_http_method m)
{
    return methods[m].name;
}

static int refuse(struct hg_http_decoder *d, uint16_t http, const char *rule, struct hg_error *err)
{
    enum hg_status status = HG_MALFORMED;
    switch (http) {
    case 413:
    case 414:
    case 431: status = HG_TOO_LARGE; break;
    case 417:
    case 501: status = HG_PROTOCOL_ERROR; break;
    case 503: status = HG_NO_MEMORY; break;
    case 505: status = HG_BAD_VERSION; break;
    default: break;
    }
    d->state = HG_HTTP_STATE_FAILED;
    d->refusal = http;
    return hg_error_set(err, status, rule, d->scan_n);
}

/* ---- Fields -------------------------------------------------------------------------------- */

static struct hg_bytes trim(struct hg_bytes b)
{
    while (b.n > 0 && (b.p[0] == ' ' || b.p[0] == '\t')) {
        b = hg_bytes_skip(b, 1);
    }
    while (b.n > 0 && (b.p[b.n - 1] == ' ' || b.p[b.n - 1] == '\t')) {
        b.n--;
    }
    return b;
}

const struct hg_http_field *hg_http_next_field(const struct hg_http_head *head,
                                               struct hg_bytes name, size_t *at)
{
    while (*at < head->fields_n) {
        const struct hg_http_field *f = &head->fields[(*at)++];
        if (hg_bytes_eq_nocase(f->name, name)) {
            return f;
        }
    }
    return NULL;
}

struct hg_bytes hg_http_field(const struct hg_http_head *head, struct hg_bytes name)
{
    size_t at = 0;
    const struct hg_http_field *f = hg_http_next_field(head, name, &at);
    return f == NULL ? (struct hg_bytes){0} : f->value;
}

bool hg_http_next_element(struct hg_bytes *list, struct hg_bytes *element_out)
{
    while (list->n > 0) {
        size_t at = hg_bytes_index(*list, ',');
        *element_out = trim(hg_bytes(list->p, at));
        *list = hg_bytes_skip(*list, at < list->n ? at + 1 : at);
        if (element_out->n > 0) {
            return true;
        }
    }
    return false;
}

bool hg_http_lists(const struct hg_http_head *head, struct hg_bytes name, struct hg_bytes element)
{
    size_t at = 0;
    const struct hg_http_field *f;
    while ((f = hg_http_next_field(head, name, &at)) != NULL) {
        struct hg_bytes list = f->value;
        struct hg_bytes e;
        while (hg_http_next_element(&list, &e)) {
            if (hg_bytes_eq_nocase(e, element)) {
                return true;
            }
        }
    }
    return false;
}

/* Of ASCII, a bit for each character; the others are in no set. */
struct char_set {
    uint64_t low, high;
};
/* Letters, digits and !#$%&'*+-.^_`|~ */
static const struct char_set token_chars = {0x03ff6cfa00000000, 0x57ffffffc7fffffe};
/* What is visible but for /?#@\"<>^`{|} */
static const struct char_set host_chars = {0x2fff7ff200000000, 0x47fffffeaffffffe};

/* All that is visible. */
static const struct char_set visible_chars = {0xfffffffe00000000, 0x7fffffffffffffff};

static bool is_all_in(const struct char_set *set, struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        uint8_t c = b.p[i];
        uint64_t half = c < 64 ? set->low : set->high;
        if (c >= 128 || (half >> (c & 63) & 1) == 0) {
            return false;
        }
    }
    return true;
}

static bool is_visible(struct hg_bytes b)
{
    for (uint64_t v; b.n >= 8; b = hg_bytes_skip(b, 8)) {
        v = hg_eight(b.p);
        if (((v & HG_EIGHT_TOPS) | hg_eight_below(v, ' ' + 1) | hg_eight_has(v, 0x7f)) != 0) {
            return false;
        }
    }
    return is_all_in(&visible_chars, b);
}

bool hg_http_is_token(struct hg_bytes b)
{
    return b.n > 0 && is_all_in(&token_chars, b);
}

/* ---- Chunks, as llhttp reports them -------------------------------------------------------- */

static int callback_failed(struct hg_http_decoder *d, uint16_t http, const char *rule)
{
    d->refusal = http;
    d->rule = rule;
    return HPE_USER;
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t n)
{
    struct hg_http_decoder *d = parser->data;
    (void)at;
    d->extension_bytes += n;
    return d->extension_bytes <= d->limits->max_header_bytes
               ? 0
               : callback_failed(d, 431, "the chunk extensions exceed the limit");
}

static int on_chunk_header(llhttp_t *parser)
{
    struct hg_http_decoder *d = parser->data;
    if (parser->content_length ==
        0) { /* the trailer is the scanner's: llhttp takes a bare LF there */
        d->is_in_trailer = true;
        d->scan = SCAN_START;
        d->scan_n = 0;
        d->scan_max = d->limits->max_header_bytes;
        return HPE_PAUSED;
    }
    return parser->content_length <= d->limits->max_body_bytes - d->body_n
               ? 0
               : callback_failed(d, 413, "the body exceeds the limit");
}

/* Checked against the limit with the head or the chunk's size. False: no memory. */
static bool take_body(struct hg_http_decoder *d, struct hg_bytes in)
{
    d->body_n += in.n;
    if (!d->is_body_unwanted) {
        hg_writer_bytes(&d->body, in);
    }
    return !d->body.failed;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    struct hg_http_decoder *d = parser->data;
    return take_body(d, hg_bytes(at, n)) ? 0 : callback_failed(d, 503, "out of memory");
}

static const llhttp_settings_t settings = {
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
};

/* Runs llhttp over `in`; bytes used, or -1. */
static ssize_t parse_chunks(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    const char *p = (const char *)in.p;
    llhttp_errno_t e = llhttp_execute(d->parser, p, in.n);
    if (e == HPE_OK) {
        return (ssize_t)in.n;
    }
    if (e == HPE_PAUSED) {
        return llhttp_get_error_pos(d->parser) - p;
    }
    if (d->rule !=
        NULL) { /* a callback of ours said no; llhttp's code for that differs by callback */
        return refuse(d, d->refusal, d->rule, err);
    }
    const char *reason = llhttp_get_error_reason(d->parser); /* static text */
    return refuse(d, 400, reason == NULL || *reason == '\0' ? "malformed request" : reason, err);
}

/* ---- Lines --------------------------------------------------------------------------------- */

/* How many bytes at the front of eight are no control characters. */
static size_t before_control_n(const uint8_t *p)
{
    return hg_eight_first(hg_eight_controls(hg_eight(p)));
}

/* How many bytes at the front of a line's rest can be nothing but its inside. */
static size_t plain_n(struct hg_bytes in)
{
    size_t n = 0;
    while (in.n - n >= 8) {
        size_t more_n = before_control_n(in.p + n);
        n += more_n;
        if (more_n < 8 && in.p[n] != '\t') {
            return n;
        }
        n += more_n < 8;
    }
    while (n < in.n && ((in.p[n] >= 0x20 && in.p[n] != 0x7f) || in.p[n] == '\t')) {
        n++;
    }
    return n;
}

/* Looks at the lines of a head or trailer, each byte once; true in *is_end_out behind the empty
 * line that ends them. */
static ssize_t scan(struct hg_http_decoder *d, struct hg_bytes in, bool *is_end_out,
                    struct hg_error *err)
{
    for (size_t i = 0; i < in.n; i++) {
        if (d->scan == SCAN_LINE) {
            size_t left_n = in.n - i < d->scan_max - d->scan_n ? in.n - i : d->scan_max - d->scan_n;
            size_t n = plain_n(hg_bytes(in.p + i, left_n));
            i += n;
            d->scan_n += n;
            if (i == in.n) {
                break;
            }
        }
        uint8_t c = in.p[i];
        if (d->scan_n++ == d->scan_max) {
            return d->lines_n == 0 && !d->is_in_trailer
                       ? refuse(d, 414, "the request line exceeds the limit", err)
                       : refuse(d, 431, "the headers exceed the limit", err);
        }
        if (d->scan == SCAN_CR || d->scan == SCAN_BLANK_CR) {
            if (c != '\n') {
                return refuse(d, 400, "a CR without LF", err);
            }
            bool is_blank = d->scan == SCAN_BLANK_CR;
            d->scan = SCAN_START;
            if (is_blank && (d->lines_n > 0 || d->is_in_trailer)) {
                *is_end_out = true;
                return (ssize_t)(i + 1);
            }
            if (is_blank) { /* before the request line (RFC 9112 section 2.2) */
                d->line_at = d->scan_n;
            } else if (d->lines_n++ == 0 && !d->is_in_trailer) {
                d->scan_max = d->scan_n + d->limits->max_header_bytes;
            }
        } else if (c == '\r') {
            d->scan = d->scan == SCAN_START ? SCAN_BLANK_CR : SCAN_CR;
        } else if (c == '\n') {
            return refuse(d, 400, "a line must end in CR LF, not in LF alone", err);
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return refuse(d, 400, "a control character in the headers", err);
        } else if (d->scan == SCAN_START && (c == ' ' || c == '\t')) {
            return refuse(d, 400, "a line must not begin with a blank", err);
        } else {
            d->scan = SCAN_LINE;
        }
    }
    return (ssize_t)in.n;
}

/* Whether it can be a host with or without a port (RFC 9110 section 7.2, RFC 3986 section 3.2): no
 * blank, no delimiter that would end it in a URI. It may be empty. */
static bool is_host(struct hg_bytes b)
{
    return is_all_in(&host_chars, b);
}

/* Splits "http://host/path?query" and "/path?query"; RFC 9112 section 3.2. */
static int split_target(struct hg_http_decoder *d, struct hg_bytes target, struct hg_error *err)
{
    struct hg_http_head *h = &d->head;
    struct hg_bytes http = HG_BYTES("http://");
    struct hg_bytes https = HG_BYTES("https://");
    if (!is_visible(target)) {
        return refuse(d, 400, "a character that cannot be in a request target", err);
    }
    if (hg_bytes_eq(target, HG_BYTES("*"))) {
        h->path = target;
        return h->method == HG_HTTP_OPTIONS ? 0
                                            : refuse(d, 400, "the target * is for OPTIONS", err);
    }
    if (hg_bytes_index(target, '#') < target.n) {
        return refuse(d, 400, "a request target has no fragment", err);
    }
    bool is_http = target.n >= http.n && hg_bytes_eq_nocase(hg_bytes(target.p, http.n), http);
    bool is_https = target.n >= https.n && hg_bytes_eq_nocase(hg_bytes(target.p, https.n), https);
    if (is_http || is_https) {
        target = hg_bytes_skip(target, is_http ? http.n : https.n);
        size_t slash = hg_bytes_index(target, '/');
        size_t mark = hg_bytes_index(target, '?');
        size_t host_n = slash < mark ? slash : mark;
        if (host_n == 0 || !is_host(hg_bytes(target.p, host_n))) {
            return refuse(d, 400, "the request target names no host", err);
        }
        target = hg_bytes_skip(target, host_n);
    } else if (target.n == 0 || target.p[0] != '/') {
        return refuse(d, 400, "the request target must begin with /", err);
    }
    size_t mark = hg_bytes_index(target, '?');
    h->path = mark == 0 ? HG_BYTES("/") : hg_bytes(target.p, mark);
    h->query = hg_bytes_skip(target, mark < target.n ? mark + 1 : mark);
    return 0;
}

/* METHOD SP target SP HTTP/1.x; each mistake has a status of its own. */
static int read_request_line(struct hg_http_decoder *d, struct hg_bytes line, struct hg_error *err)
{
    size_t at = hg_bytes_index(line, ' ');
    struct hg_bytes method = hg_bytes(line.p, at);
    struct hg_bytes rest = hg_bytes_skip(line, at < line.n ? at + 1 : at);
    at = hg_bytes_index(rest, ' ');
    struct hg_bytes target = hg_bytes(rest.p, at);
    struct hg_bytes version = hg_bytes_skip(rest, at < rest.n ? at + 1 : at);
    if (!hg_http_is_token(method) || target.n == 0 || version.n != 8 ||
        !hg_bytes_starts(version, HG_BYTES("HTTP/")) || version.p[6] != '.') {
        return refuse(d, 400, "the request line must be METHOD TARGET HTTP/1.1", err);
    }
    d->head.is_http_10 = hg_bytes_eq(version, HG_BYTES("HTTP/1.0"));
    if (!d->head.is_http_10 && !hg_bytes_eq(version, HG_BYTES("HTTP/1.1"))) {
        return refuse(d, 505, "HTTP/1.1 and HTTP/1.0 are spoken here", err);
    }
    if (target.n > d->limits->max_url_bytes) {
        return refuse(d, 414, "the request target exceeds the limit", err);
    }
    for (size_t i = 0; i < HG_HTTP_METHOD_N; i++) {
        if (hg_bytes_eq(method, hg_bytes_str(methods[i].name))) {
            d->head.method = methods[i].method;
            return split_target(d, target, err);
        }
    }
    return refuse(d, 501, "the method is not implemented", err);
}

/* Where chunked is not the last one, nobody could tell where the body ends (RFC 9112 section 6.3). */
static int read_codings(struct hg_http_decoder *d, struct hg_bytes codings, struct hg_error *err)
{
    struct hg_bytes list = codings;
    struct hg_bytes coding;
    size_t chunked_n = 0;
    bool is_last = true;
    while (hg_http_next_element(&list, &coding)) {
        is_last = hg_bytes_eq_nocase(coding, HG_BYTES("chunked"));
        chunked_n += is_last;
    }
    if (!is_last || chunked_n > 1) {
        return refuse(d, 400, "the last Transfer-Encoding must be chunked, and only the last", err);
    }
    d->head.is_chunked = hg_bytes_eq_nocase(codings, HG_BYTES("chunked"));
    return d->head.is_chunked ? 0 : refuse(d, 501, "chunked is the one transfer coding", err);
}

/* Which body follows (RFC 9112 section 6), and all that must be said at most once. */
static int check_head(struct hg_http_decoder *d, struct hg_error *err)
{
    struct hg_http_head *h = &d->head;
    struct hg_bytes length = {0};
    struct hg_bytes codings = {0};
    size_t hosts_n = 0;
    size_t lengths_n = 0;
    size_t codings_n = 0;
    for (size_t i = 0; i < h->fields_n; i++) {
        const struct hg_http_field *f = &d->fields[i];
        if (hg_bytes_eq_nocase(f->name, HG_BYTES("Host"))) {
            hosts_n += is_host(f->value) ? 1 : 2;
        } else if (hg_bytes_eq_nocase(f->name, HG_BYTES("Content-Length"))) {
            lengths_n++;
            length = f->value;
        } else if (hg_bytes_eq_nocase(f->name, HG_BYTES("Transfer-Encoding"))) {
            codings_n++;
            codings = f->value;
        } else if (hg_bytes_eq_nocase(f->name, HG_BYTES("Expect"))) {
            if (!hg_bytes_eq_nocase(f->value, HG_BYTES("100-continue"))) {
                return refuse(d, 417, "100-continue is all that can be expected", err);
            }
            h->wants_continue = !h->is_http_10;
        }
    }
    if (hosts_n > 1 || (hosts_n == 0 && !h->is_http_10)) {
        return refuse(d, 400, "HTTP/1.1 requires exactly one Host, a host name", err);
    }
    if (lengths_n > 1 || codings_n > 1 || (lengths_n > 0 && codings_n > 0)) {
        return refuse(d, 400, "more than one of Content-Length and Transfer-Encoding", err);
    }
    if (codings_n > 0 && h->is_http_10) {
        return refuse(d, 400, "HTTP/1.0 has no Transfer-Encoding", err);
    }
    if (codings_n > 0 && read_codings(d, codings, err) < 0) {
        return -1;
    }
    if (lengths_n > 0 && !hg_bytes_to_u64(length, UINT64_MAX, &h->body_bytes)) {
        return refuse(d, 400, "Content-Length is not a number", err);
    }
    h->keeps_alive = h->is_http_10
                         ? hg_http_lists(h, HG_BYTES("Connection"), HG_BYTES("keep-alive"))
                         : !hg_http_lists(h, HG_BYTES("Connection"), HG_BYTES("close"));
    return h->body_bytes > d->limits->max_body_bytes
               ? refuse(d, 413, "the body exceeds the limit", err)
               : 0;
}

/* How many bytes at the front of a line can be its field's name. */
static size_t name_n(struct hg_bytes line)
{
    size_t n = 0;
    for (;;) {
        size_t letters_n =
            line.n - n < 8
                ? 0
                : hg_eight_first(~hg_eight_letters(hg_eight(line.p + n)) & HG_EIGHT_TOPS);
        n += letters_n;
        if (letters_n == 8) {
            continue;
        }
        if (n == line.n || !is_all_in(&token_chars, hg_bytes(line.p + n, 1))) {
            return n;
        }
        n++;
    }
}

/* Name and value of each line (RFC 9112 section 5); the scanner has seen that each ends in CR LF, the
 * last one empty, and that none goes on in the next. */
static int split_fields(struct hg_http_decoder *d, struct hg_bytes lines, struct hg_error *err)
{
    struct hg_http_head *h = &d->head;
    while (lines.p[0] != '\r') {
        struct hg_http_field *f = &d->fields[h->fields_n++];
        f->name = hg_bytes(lines.p, name_n(lines));
        if (f->name.n == 0 || lines.p[f->name.n] != ':') {
            return refuse(d, 400, "a header line must be a name, a colon and a value", err);
        }
        lines = hg_bytes_skip(lines, f->name.n + 1);
        size_t value_n = hg_bytes_index(lines, '\r');
        f->value = trim(hg_bytes(lines.p, value_n));
        lines = hg_bytes_skip(lines, value_n + CRLF_N);
    }
    return 0;
}

/* llhttp reads chunks only behind a head; ours has been read, so it gets another. */
static int begin_chunks(struct hg_http_decoder *d, struct hg_error *err)
{
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (d->parser == NULL) {
        d->parser = hg_alloc(sizeof(*d->parser));
    }
    if (d->parser == NULL) {
        return refuse(d, 503, "out of memory", err);
    }
    llhttp_init(d->parser, HTTP_REQUEST, &settings);
    d->parser->data = d;
    return parse_chunks(d, hg_bytes(head, sizeof(head) - 1), err) < 0 ? -1 : 0;
}

/* The head is complete in d->raw. */
static int read_head(struct hg_http_decoder *d, struct hg_error *err)
{
    struct hg_bytes raw = hg_bytes_skip(hg_writer_view(&d->raw), d->line_at);
    size_t line_n = hg_bytes_index(raw, '\r');
    if (read_request_line(d, hg_bytes(raw.p, line_n), err) < 0) {
        return -1;
    }
    size_t fields_n = d->lines_n - 1;
    d->has_too_many = fields_n > d->limits->max_headers_n;
    if (d->has_too_many) {
        return refuse(d, 431, "too many headers", err);
    }
    d->fields = d->fields_inside;
    if (fields_n > HG_HTTP_FIELDS_INSIDE) {
        d->fields = d->fields_own = hg_alloc(fields_n * sizeof(*d->fields));
    }
    if (d->fields == NULL) {
        return refuse(d, 503, "out of memory", err);
    }
    d->head.fields = d->fields;
    if (split_fields(d, hg_bytes_skip(raw, line_n + CRLF_N), err) < 0 || check_head(d, err) < 0) {
        return -1;
    }
    bool has_body = d->head.is_chunked || d->head.body_bytes > 0;
    d->state = has_body ? HG_HTTP_STATE_BODY : HG_HTTP_STATE_DONE;
    return d->head.is_chunked ? begin_chunks(d, err) : 0;
}

/* ---- The decoder --------------------------------------------------------------------------- */

void hg_http_decoder_again(struct hg_http_decoder *d, const struct hg_http_limits *limits)
{
    struct hg_writer raw = d->raw;
    struct hg_writer body = d->body;
    struct llhttp__internal_s *parser = d->parser;
    memset(d, 0, offsetof(struct hg_http_decoder, fields_inside));
    d->raw = raw;
    d->raw.is_secret = true; /* Authorization */
    d->body = body;
    d->parser = parser;
    d->limits = limits;
    d->scan_max = limits->max_url_bytes + REQUEST_LINE_REST;
}

void hg_http_decoder_open(struct hg_http_decoder *d, const struct hg_http_limits *limits)
{
    d->raw = d->body = (struct hg_writer){0};
    d->parser = NULL;
    hg_http_decoder_again(d, limits);
}

void hg_http_decoder_reset(struct hg_http_decoder *d, size_t most_bytes)
{
    hg_free(d->fields_own);
    d->fields_own = NULL;
    hg_writer_reset_to(&d->raw, most_bytes);
    hg_writer_reset_to(&d->body, most_bytes);
}

void hg_http_decoder_close(struct hg_http_decoder *d)
{
    hg_free(d->parser);
    hg_free(d->fields_own);
    hg_writer_close(&d->raw);
    hg_writer_close(&d->body);
    *d = (struct hg_http_decoder){0};
}

struct hg_bytes hg_http_body(const struct hg_http_decoder *d)
{
    return hg_writer_view(&d->body);
}

static ssize_t decode_head(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    bool is_end = false;
    ssize_t used = scan(d, in, &is_end, err);
    if (used < 0) {
        return used;
    }
    hg_writer_bytes(&d->raw, hg_bytes(in.p, (size_t)used));
    if (d->raw.failed) {
        return refuse(d, 503, "out of memory", err);
    }
    return is_end && read_head(d, err) < 0 ? -1 : used;
}

static ssize_t decode_chunks(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    ssize_t used = d->is_in_trailer ? 0 : parse_chunks(d, in, err);
    if (used < 0 || !d->is_in_trailer) {
        return used;
    }
    bool is_end = false;
    ssize_t more = scan(d, hg_bytes_skip(in, (size_t)used), &is_end, err);
    if (is_end) {
        d->state = HG_HTTP_STATE_DONE;
    }
    return more < 0 ? more : used + more;
}

static ssize_t decode_body(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    uint64_t left_n = d->head.body_bytes - d->body_n;
    size_t n = in.n < left_n ? in.n : (size_t)left_n;
    if (!take_body(d, hg_bytes(in.p, n))) {
        return refuse(d, 503, "out of memory", err);
    }
    if (n == left_n) {
        d->state = HG_HTTP_STATE_DONE;
    }
    return (ssize_t)n;
}

ssize_t hg_http_decode(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    ssize_t used = 0;
    if (in.n == 0) {
        return 0;
    }
    switch (d->state) {
    case HG_HTTP_STATE_HEAD: used = decode_head(d, in, err); break;
    case HG_HTTP_STATE_BODY:
        used = d->head.is_chunked ? decode_chunks(d, in, err) : decode_body(d, in, err);
        break;
    case HG_HTTP_STATE_DONE: break;
    case HG_HTTP_STATE_FAILED: return refuse(d, d->refusal, "the request was refused before", err);
    }
    return used;
}
