/* SPDX-License-Identifier: Apache-2.0 */
/* Reference-counted buffers and the growing writer. */
#include "base/buf.h"

#include "base/check.h"
#include "base/eights.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

enum { MAX_BYTES = 1 << 30, FIRST_BYTES = 64 };

struct hg_buf *hg_buf_new(size_t cap)
{
    if (cap > MAX_BYTES) {
        return NULL;
    }
    struct hg_buf *buf = hg_alloc(sizeof(*buf) + cap);
    if (buf != NULL) {
        buf->refs = 1;
        buf->cap = (uint32_t)cap;
        buf->n = 0;
    }
    return buf;
}

struct hg_buf *hg_buf_copy(struct hg_bytes b)
{
    struct hg_buf *buf = hg_buf_new(b.n);
    if (buf != NULL && b.n > 0) {
        memcpy(buf->data, b.p, b.n);
        buf->n = (uint32_t)b.n;
    }
    return buf;
}

struct hg_buf *hg_buf_ref(struct hg_buf *buf)
{
    HG_CHECK(buf->refs > 0 && buf->refs < UINT32_MAX);
    buf->refs++;
    return buf;
}

void hg_buf_unref(struct hg_buf *buf)
{
    if (buf == NULL) {
        return;
    }
    HG_CHECK(buf->refs > 0);
    if (--buf->refs == 0) {
        hg_free(buf);
    }
}

/* Its bytes are nobody's any more. */
static void let_go(struct hg_buf *buf, bool is_secret)
{
    if (is_secret && buf != NULL && buf->refs == 1) {
        hg_forget(buf->data, buf->n);
    }
    hg_buf_unref(buf);
}

/* A buffer of ours alone with the same content and cap bytes of room; NULL leaves everything as it
 * is. */
static struct hg_buf *regrow(struct hg_buf *old, size_t cap, bool is_secret)
{
    if (old != NULL && old->refs == 1 && !is_secret) {
        struct hg_buf *buf = hg_realloc(old, sizeof(*buf) + cap);
        if (buf != NULL) {
            buf->cap = (uint32_t)cap;
        }
        return buf;
    }
    struct hg_buf *buf = hg_buf_new(cap);
    if (buf != NULL && old != NULL) {
        memcpy(buf->data, old->data, old->n);
        buf->n = old->n;
        let_go(old, is_secret);
    }
    return buf;
}

uint8_t *hg_writer_grow(struct hg_writer *w, size_t n)
{
    if (w->failed) {
        return NULL;
    }
    size_t used = hg_writer_n(w);
    if (n > MAX_BYTES - used) {
        w->failed = true;
        return NULL;
    }
    if (w->buf == NULL || w->buf->refs > 1 || w->buf->cap - used < n) {
        size_t cap = w->buf == NULL || w->buf->cap < FIRST_BYTES ? FIRST_BYTES : w->buf->cap;
        while (cap < used + n) {
            cap *= 2;
        }
        struct hg_buf *buf = regrow(w->buf, cap, w->is_secret);
        if (buf == NULL) {
            w->failed = true;
            return NULL;
        }
        w->buf = buf;
    }
    return w->buf->data + used;
}

void hg_writer_commit(struct hg_writer *w, size_t n)
{
    if (w->failed) {
        return;
    }
    HG_CHECK(w->buf != NULL && n <= w->buf->cap - w->buf->n);
    w->buf->n += (uint32_t)n;
}

void hg_writer_printf(struct hg_writer *w, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    /* at first into the room that is there; not if it is secret: what did not fit would stay there */
    bool has_room = w->buf != NULL && w->buf->refs == 1 && !w->is_secret;
    size_t room_n = has_room ? w->buf->cap - w->buf->n : 0;
    uint8_t *p = room_n == 0 ? NULL : w->buf->data + w->buf->n;
    int n = vsnprintf((char *)p, room_n, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n >= room_n) {
        p = hg_writer_reserve(w, (size_t)n + 1); /* and its NUL */
        if (p != NULL) {
            (void)vsnprintf((char *)p, (size_t)n + 1, fmt, again);
        }
    }
    if (p != NULL && n >= 0) {
        hg_writer_commit(w, (size_t)n);
    }
    va_end(again);
    w->failed = w->failed || n < 0;
}

/* The low n bytes of v, most significant first. */
static void write_be(struct hg_writer *w, uint64_t v, size_t n)
{
    uint8_t *p = hg_writer_reserve(w, n);
    if (p == NULL) {
        return;
    }
    for (size_t i = n; i-- > 0; v >>= 8) {
        p[i] = (uint8_t)v;
    }
    hg_writer_commit(w, n);
}

void hg_writer_u8(struct hg_writer *w, uint8_t v)
{
    write_be(w, v, 1);
}

void hg_writer_u16(struct hg_writer *w, uint16_t v)
{
    write_be(w, v, 2);
}

void hg_writer_u32(struct hg_writer *w, uint32_t v)
{
    write_be(w, v, 4);
}

void hg_writer_u64(struct hg_writer *w, uint64_t v)
{
    write_be(w, v, 8);
}

void hg_writer_dec(struct hg_writer *w, uint64_t v)
{
    uint8_t digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (uint8_t)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    hg_writer_bytes(w, hg_bytes(digits + at, sizeof(digits) - at));
}

static void write_json_escape(struct hg_writer *w, uint32_t code)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: character, letter */
    for (size_t i = 0; i + 1 < sizeof(short_forms); i += 2) {
        if (code == (uint32_t)short_forms[i]) {
            hg_writer_u8(w, '\\');
            hg_writer_u8(w, (uint8_t)short_forms[i + 1]);
            return;
        }
    }
    hg_writer_printf(w, "\\u%04x", (unsigned)code);
}

/* Whether none of eight bytes needs a second look. */
static bool is_plain_json(const uint8_t *p)
{
    uint64_t v = hg_eight(p);
    return ((v & HG_EIGHT_TOPS) | hg_eight_controls(v) | hg_eight_has(v, '"') |
            hg_eight_has(v, '\\')) == 0;
}

void hg_writer_json(struct hg_writer *w, struct hg_bytes b)
{
    size_t plain_n = 0; /* bytes at the start of b that go out as they are */
    while (plain_n < b.n) {
        size_t left_n = b.n - plain_n;
        if (left_n >= 8 && is_plain_json(b.p + plain_n)) {
            plain_n += 8;
            continue;
        }
        if (left_n < 8 && b.n >= 8 && is_plain_json(b.p + b.n - 8)) { /* some of it once more */
            plain_n = b.n;
            break;
        }
        uint8_t c = b.p[plain_n];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            plain_n++;
            continue;
        }
        uint32_t code = 0;
        size_t n = hg_utf8_step(hg_bytes_skip(b, plain_n), &code);
        if (n > 0 && code >= 0x20 && code != '"' && code != '\\' && code != 0x7f) {
            plain_n += n;
            continue;
        }
        hg_writer_bytes(w, hg_bytes(b.p, plain_n));
        if (n == 0) {
            hg_writer_str(w, "\xef\xbf\xbd"); /* U+FFFD */
        } else {
            write_json_escape(w, code);
        }
        b = hg_bytes_skip(b, plain_n + (n == 0 ? 1 : n));
        plain_n = 0;
    }
    hg_writer_bytes(w, b);
}

struct hg_bytes hg_writer_view(const struct hg_writer *w)
{
    return w->buf == NULL ? (struct hg_bytes){NULL, 0} : hg_buf_bytes(w->buf);
}

struct hg_buf *hg_writer_take(struct hg_writer *w)
{
    struct hg_buf *buf = w->buf;
    if (w->failed) {
        hg_buf_unref(buf);
        buf = NULL;
    } else if (buf == NULL) {
        buf = hg_buf_new(0);
    }
    *w = (struct hg_writer){0};
    return buf;
}

void hg_writer_reset(struct hg_writer *w)
{
    w->failed = false;
    if (w->buf != NULL && w->buf->refs > 1) {
        hg_buf_unref(w->buf);
        w->buf = NULL;
    } else if (w->buf != NULL) {
        if (w->is_secret) {
            hg_forget(w->buf->data, w->buf->n);
        }
        w->buf->n = 0;
    }
}

void hg_writer_close(struct hg_writer *w)
{
    let_go(w->buf, w->is_secret);
    *w = (struct hg_writer){0};
}
