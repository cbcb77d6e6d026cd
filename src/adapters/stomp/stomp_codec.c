/* SPDX-License-Identifier: Apache-2.0 */
/* STOMP frames. The head is searched line by line as it comes; once the frame is complete its
 * headers are taken apart in one go. */
#include "adapters/stomp/stomp_codec.h"

#include "base/mem.h"
#include "message/topic.h"

enum { COMMAND_MAX_BYTES = 11 }; /* UNSUBSCRIBE */

static const struct command {
    const char *name;
    bool has_body;
} commands[HG_STOMP_COMMAND_N] = {
#define X(name, sender, has_body) [HG_STOMP_##name] = {#name, has_body},
    HG_STOMP_COMMAND_MAP(X)
#undef X
};

const char *hg_stomp_command_name(enum hg_stomp_command c)
{
    return c == HG_STOMP_HEARTBEAT ? "heart-beat" : commands[c].name;
}

/* ---- Decoding ---- */

/* Length of the line ends that `in` starts with. */
static size_t line_ends(struct hg_bytes in)
{
    size_t n = 0;
    for (;;) {
        if (n < in.n && in.p[n] == '\n') {
            n++;
        } else if (n + 1 < in.n && in.p[n] == '\r' && in.p[n + 1] == '\n') {
            n += 2;
        } else {
            return n;
        }
    }
}

static int scan_command(struct hg_stomp_decoder *dec, struct hg_bytes line, struct hg_error *err)
{
    for (size_t i = 0; i < HG_STOMP_COMMAND_N; i++) {
        if (hg_bytes_eq(line, hg_bytes_str(commands[i].name))) {
            dec->command = (uint8_t)i;
            return 1;
        }
    }
    return hg_error_set(err, HG_MALFORMED, "the frame does not start with a STOMP command", 0);
}

/* STOMP 1.0 shows its headers with a blank behind the colon, and its clients send one. */
static struct hg_bytes trim(struct hg_bytes value)
{
    size_t n = 0;
    while (n < value.n && value.p[n] == ' ') {
        n++;
    }
    return hg_bytes_skip(value, n);
}

/* The one header that decides where the frame ends; of repeated ones the first counts. */
static int scan_header(struct hg_stomp_decoder *dec, const struct hg_stomp_limits *limits,
                       enum hg_stomp_version version, struct hg_bytes line, struct hg_error *err)
{
    const struct hg_bytes length = HG_BYTES("content-length:");
    if (++dec->headers_n > limits->max_headers_n) {
        return hg_error_set(err, HG_TOO_MANY, "too many headers", dec->line_at);
    }
    if (dec->has_length || !hg_bytes_starts(line, length)) {
        return 1;
    }
    uint64_t body_n;
    struct hg_bytes value = hg_bytes_skip(line, length.n);
    if (!hg_bytes_to_u64(version == HG_STOMP_V10 ? trim(value) : value, UINT64_MAX, &body_n)) {
        return hg_error_set(err, HG_MALFORMED, "content-length is not a number", dec->line_at);
    }
    if (body_n >= limits->max_frame_bytes) {
        return hg_error_set(err, HG_TOO_LARGE, "content-length exceeds the limit on frames",
                            dec->line_at);
    }
    dec->has_length = true;
    dec->body_n = (uint32_t)body_n;
    return 1;
}

/* 1: the head is complete; 0: not yet; -1: wrong. */
static int scan_head(struct hg_stomp_decoder *dec, const struct hg_stomp_limits *limits,
                     enum hg_stomp_version version, struct hg_bytes in, struct hg_error *err)
{
    while (dec->body_at == 0) {
        size_t at = dec->scan_at;
        while (at < in.n && in.p[at] != '\n' && in.p[at] != '\0') {
            at++;
        }
        dec->scan_at = (uint32_t)at;
        if (at >= limits->max_header_bytes) {
            return hg_error_set(err, HG_TOO_LARGE, "the headers exceed the limit on them", at);
        }
        if (dec->line_at == 0 && at > COMMAND_MAX_BYTES + 1) { /* and a CR */
            return scan_command(dec, hg_bytes(in.p, at), err);
        }
        if (at == in.n) {
            return 0;
        }
        if (in.p[at] == '\0') {
            return hg_error_set(err, HG_MALFORMED, "the frame ends before its empty line", at);
        }
        size_t has_cr = at > dec->line_at && in.p[at - 1] == '\r';
        struct hg_bytes line = hg_bytes(in.p + dec->line_at, at - dec->line_at - has_cr);
        int rc = 1;
        if (dec->line_at == 0) {
            rc = scan_command(dec, line, err);
        } else if (line.n > 0) {
            rc = scan_header(dec, limits, version, line, err);
        } else {
            dec->body_at = (uint32_t)at + 1;
        }
        if (rc < 0) {
            return rc;
        }
        dec->scan_at = dec->line_at = (uint32_t)at + 1;
    }
    return 1;
}

/* 1: the body is complete, dec->body_n long; 0: not yet; -1: wrong. */
static int scan_body(struct hg_stomp_decoder *dec, const struct hg_stomp_limits *limits,
                     struct hg_bytes in, struct hg_error *err)
{
    bool is_wrong =
        dec->has_length ? dec->body_n > 0 : in.n > dec->body_at && in.p[dec->body_at] != '\0';
    if (is_wrong && !commands[dec->command].has_body) {
        return hg_error_set(err, HG_MALFORMED, "only SEND, MESSAGE and ERROR frames have a body",
                            dec->body_at);
    }
    size_t end; /* where the NUL is */
    if (dec->has_length) {
        end = (size_t)dec->body_at + dec->body_n;
    } else {
        end = dec->scan_at + hg_bytes_index(hg_bytes_skip(in, dec->scan_at), '\0');
        dec->scan_at = (uint32_t)end;
    }
    if (end >= limits->max_frame_bytes) {
        return hg_error_set(err, HG_TOO_LARGE, "the frame exceeds the limit on frames",
                            limits->max_frame_bytes);
    }
    if (end >= in.n) {
        return 0;
    }
    if (in.p[end] != '\0') {
        return hg_error_set(err, HG_MALFORMED, "no NUL where content-length says the body ends",
                            end);
    }
    dec->body_n = (uint32_t)(end - dec->body_at);
    return 1;
}

/* Takes the escapes out of `text` (STOMP 1.2 section "Value Encoding"), which lies `at` bytes into
 * the frame. What it had to copy goes to *room, which it moves on. */
static int unescape(struct hg_bytes *text, enum hg_stomp_version version, size_t at, uint8_t **room,
                    struct hg_error *err)
{
    size_t plain_n = hg_bytes_index(*text, '\\');
    if (plain_n == text->n) {
        return 0;
    }
    uint8_t *to = *room;
    for (size_t i = 0; i < text->n; i++) {
        uint8_t c = text->p[i];
        if (c == '\\') {
            uint8_t escaped = i + 1 < text->n ? text->p[i + 1] : 0;
            if (escaped == 'n') {
                c = '\n';
            } else if (escaped == 'c') {
                c = ':';
            } else if (escaped == 'r' && version >= HG_STOMP_V12) {
                c = '\r';
            } else if (escaped != '\\') {
                return hg_error_set(err, HG_MALFORMED, "a header has an escape that is not defined",
                                    at + i);
            }
            i++;
        }
        *to++ = c;
    }
    *text = hg_bytes(*room, (size_t)(to - *room));
    *room = to;
    return 0;
}

/* One header line, `at` bytes into the frame, into *h. */
static int parse_header(struct hg_bytes line, size_t at, enum hg_stomp_version version,
                        bool is_escaped, uint8_t **room, struct hg_stomp_header *h,
                        struct hg_error *err)
{
    size_t colon = hg_bytes_index(line, ':');
    if (colon == line.n || colon == 0) {
        return hg_error_set(err, HG_MALFORMED,
                            colon == 0 ? "a header has no name" : "a header has no colon", at);
    }
    size_t cr = version < HG_STOMP_V12 ? line.n : hg_bytes_index(line, '\r');
    if (cr < line.n) {
        return hg_error_set(err, HG_MALFORMED, "a header has a bare carriage return", at + cr);
    }
    h->name = hg_bytes(line.p, colon);
    h->value = hg_bytes_skip(line, colon + 1);
    if (is_escaped && (unescape(&h->name, version, at, room, err) < 0 ||
                       unescape(&h->value, version, at + colon + 1, room, err) < 0)) {
        return -1;
    }
    return 0;
}

static bool is_repeated(const struct hg_stomp_header *headers, size_t n, struct hg_bytes name)
{
    for (size_t i = 0; i < n; i++) {
        if (hg_bytes_eq(headers[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* A CONNECT that may become another version than 1.0, as which it is read. */
static bool has_version(const struct hg_stomp_decoder *dec, const struct hg_stomp_frame *frame)
{
    return (dec->command == HG_STOMP_CONNECT || dec->command == HG_STOMP_STOMP) &&
           hg_stomp_find(frame, "accept-version") != NULL;
}

/* The headers of a complete frame. Unescaping only shortens, so that the head's own length is room
 * enough. */
static int parse_headers(const struct hg_stomp_decoder *dec, enum hg_stomp_version version,
                         struct hg_bytes in, struct hg_stomp_frame *out, struct hg_error *err)
{
    size_t table_bytes = dec->headers_n * sizeof(struct hg_stomp_header);
    bool is_escaped = version >= HG_STOMP_V11 && dec->command != HG_STOMP_CONNECT &&
                      dec->command != HG_STOMP_STOMP && dec->command != HG_STOMP_CONNECTED;
    if (out->block_bytes < table_bytes + dec->body_at) {
        hg_stomp_frame_close(out);
        out->block = hg_alloc(table_bytes + dec->body_at);
        if (out->block == NULL) {
            return hg_error_set(err, HG_NO_MEMORY, "no memory for a frame's headers", 0);
        }
        out->block_bytes = table_bytes + dec->body_at;
    }
    if (!hg_utf8_is_valid(hg_bytes(in.p, dec->body_at))) {
        return hg_error_set(err, HG_MALFORMED, "the headers are not UTF-8", 0);
    }
    struct hg_stomp_header *headers = out->block;
    uint8_t *room = (uint8_t *)out->block + table_bytes;
    size_t n = 0;
    size_t at = hg_bytes_index(in, '\n') + 1;
    for (uint32_t i = 0; i < dec->headers_n; i++) {
        size_t line_n = hg_bytes_index(hg_bytes_skip(in, at), '\n');
        struct hg_bytes line = hg_bytes(in.p + at, line_n - (in.p[at + line_n - 1] == '\r'));
        if (parse_header(line, at, version, is_escaped, &room, &headers[n], err) < 0) {
            return -1;
        }
        n += !is_repeated(headers, n, headers[n].name);
        at += line_n + 1;
    }
    out->headers = headers;
    out->headers_n = n;
    if (version == HG_STOMP_V10 && !has_version(dec, out)) {
        for (size_t i = 0; i < n; i++) {
            headers[i].value = trim(headers[i].value);
        }
    }
    return 1;
}

ssize_t hg_stomp_decode(struct hg_stomp_decoder *dec, const struct hg_stomp_limits *limits,
                        enum hg_stomp_version version, struct hg_bytes in,
                        struct hg_stomp_frame *out, struct hg_error *err)
{
    if (dec->has_failed) {
        return hg_error_set(err, HG_MALFORMED, "a frame before this one was malformed", 0);
    }
    if (dec->scan_at == 0) {
        size_t n = line_ends(in);
        out->command = HG_STOMP_HEARTBEAT;
        out->headers_n = 0;
        out->body = hg_bytes(NULL, 0);
        if (n > 0 || in.n == 0 || (in.n == 1 && in.p[0] == '\r')) {
            return (ssize_t)n;
        }
    }
    int rc = scan_head(dec, limits, version, in, err);
    rc = rc > 0 ? scan_body(dec, limits, in, err) : rc;
    rc = rc > 0 ? parse_headers(dec, version, in, out, err) : rc;
    if (rc <= 0) {
        dec->has_failed = rc < 0;
        return rc;
    }
    out->command = (enum hg_stomp_command)dec->command;
    out->body = hg_bytes(in.p + dec->body_at, dec->body_n);
    size_t used = (size_t)dec->body_at + dec->body_n + 1;
    *dec = (struct hg_stomp_decoder){0};
    return (ssize_t)used;
}

void hg_stomp_frame_close(struct hg_stomp_frame *frame)
{
    hg_free(frame->block);
    *frame = (struct hg_stomp_frame){0};
}

const struct hg_bytes *hg_stomp_find(const struct hg_stomp_frame *frame, const char *name)
{
    for (size_t i = 0; i < frame->headers_n; i++) {
        if (hg_bytes_eq(frame->headers[i].name, hg_bytes_str(name))) {
            return &frame->headers[i].value;
        }
    }
    return NULL;
}

struct hg_bytes hg_stomp_get(const struct hg_stomp_frame *frame, const char *name)
{
    const struct hg_bytes *value = hg_stomp_find(frame, name);
    return value == NULL ? hg_bytes(NULL, 0) : *value;
}

/* ---- Encoding ---- */

void hg_stomp_write_command(struct hg_writer *w, enum hg_stomp_command command)
{
    hg_writer_str(w, commands[command].name);
    hg_writer_u8(w, '\n');
}

/* The letter that stands for c behind a backslash, 0 if c goes out as it is. */
static uint8_t escape_of(uint8_t c, enum hg_stomp_version version)
{
    switch (c) {
    case '\n': return 'n';
    case '\r': return version >= HG_STOMP_V12 ? 'r' : 0;
    case ':': return version >= HG_STOMP_V11 ? 'c' : 0;
    case '\\': return version >= HG_STOMP_V11 ? '\\' : 0;
    default: return 0;
    }
}

void hg_stomp_write_escaped(struct hg_writer *w, enum hg_stomp_version version,
                            struct hg_bytes text)
{
    size_t plain_n = 0; /* bytes at the start of text that go out as they are */
    while (plain_n < text.n) {
        uint8_t letter = escape_of(text.p[plain_n], version);
        if (letter == 0) {
            plain_n++;
            continue;
        }
        const uint8_t escape[2] = {'\\', letter};
        hg_writer_bytes(w, hg_bytes(text.p, plain_n));
        hg_writer_bytes(w, hg_bytes(escape, sizeof(escape)));
        text = hg_bytes_skip(text, plain_n + 1);
        plain_n = 0;
    }
    hg_writer_bytes(w, text);
}

bool hg_stomp_is_text(struct hg_bytes text)
{
    return hg_bytes_index(text, '\0') == text.n && hg_utf8_is_valid(text);
}

void hg_stomp_write_header(struct hg_writer *w, enum hg_stomp_version version, struct hg_bytes name,
                           struct hg_bytes value)
{
    if (name.n == 0 || !hg_stomp_is_text(name) || !hg_stomp_is_text(value)) {
        return;
    }
    hg_stomp_write_escaped(w, version, name);
    hg_writer_u8(w, ':');
    hg_stomp_write_escaped(w, version, value);
    hg_writer_u8(w, '\n');
}

void hg_stomp_write_end(struct hg_writer *w)
{
    hg_writer_bytes(w, hg_bytes("\n", 2)); /* and the NUL */
}

void hg_stomp_write_body(struct hg_writer *w, struct hg_bytes body)
{
    hg_writer_str(w, "content-length:");
    hg_writer_dec(w, body.n);
    hg_writer_str(w, "\n\n");
    hg_writer_bytes(w, body);
    hg_writer_u8(w, '\0');
}
