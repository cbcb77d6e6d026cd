/* SPDX-License-Identifier: Apache-2.0 */
/* Reference-counted buffers, and the writer that fills one. Both belong to one worker: counts are
 * not atomic. */
#ifndef HG_BASE_BUF_H
#define HG_BASE_BUF_H

#include "base/bytes.h"

struct hg_buf {
    uint32_t refs;
    uint32_t cap; /* bytes of data[] */
    uint32_t n;   /* bytes used */
    uint8_t data[];
};

/* One reference, n = 0. NULL when there is no memory or cap is over 1 GiB. */
struct hg_buf *hg_buf_new(size_t cap);
struct hg_buf *hg_buf_copy(struct hg_bytes b);
struct hg_buf *hg_buf_ref(struct hg_buf *buf);
void hg_buf_unref(struct hg_buf *buf); /* NULL is fine */
static inline struct hg_bytes hg_buf_bytes(const struct hg_buf *buf)
{
    return (struct hg_bytes){buf->data, buf->n};
}

/* Appends into a growing buffer (doubling). After a failed allocation `failed` stays set and every
 * further call does nothing, so an encoder checks once, at its end. Zero-initialise to start. */
struct hg_writer {
    struct hg_buf *buf; /* NULL until the first byte */
    bool failed;
    bool is_secret; /* what it holds is overwritten when it moves or goes, unless others hold it */
};

/* hg_writer_reserve where the room that is there will not do. */
uint8_t *hg_writer_grow(struct hg_writer *w, size_t n);
/* Room for n more bytes at the returned place, not yet counted; NULL if failed. */
static inline uint8_t *hg_writer_reserve(struct hg_writer *w, size_t n)
{
    struct hg_buf *buf = w->buf;
    bool has_room = buf != NULL && buf->refs == 1 && buf->cap - buf->n >= n && !w->failed;
    return has_room ? buf->data + buf->n : hg_writer_grow(w, n);
}
/* Counts n bytes, written where hg_writer_reserve said. */
void hg_writer_commit(struct hg_writer *w, size_t n);
static inline void hg_writer_bytes(struct hg_writer *w, struct hg_bytes b)
{
    uint8_t *p = b.n == 0 ? NULL : hg_writer_reserve(w, b.n);
    if (p != NULL) {
        memcpy(p, b.p, b.n);
        w->buf->n += (uint32_t)b.n;
    }
}
static inline void hg_writer_str(struct hg_writer *w, const char *s)
{
    hg_writer_bytes(w, hg_bytes_str(s));
}
void hg_writer_printf(struct hg_writer *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void hg_writer_u8(struct hg_writer *w, uint8_t v);
void hg_writer_u16(struct hg_writer *w, uint16_t v); /* big-endian, as are the next two */
void hg_writer_u32(struct hg_writer *w, uint32_t v);
void hg_writer_u64(struct hg_writer *w, uint64_t v);
/* Decimal. */
void hg_writer_dec(struct hg_writer *w, uint64_t v);
/* b as the inside of a JSON string (RFC 8259), without the quotes; bytes that are not UTF-8 become
 * U+FFFD. */
void hg_writer_json(struct hg_writer *w, struct hg_bytes b);

static inline size_t hg_writer_n(const struct hg_writer *w)
{
    return w->buf == NULL ? 0 : w->buf->n;
}
/* What was written, borrowed until the next call. */
struct hg_bytes hg_writer_view(const struct hg_writer *w);
/* The buffer, now the caller's (never NULL unless failed); the writer is as new afterwards. */
struct hg_buf *hg_writer_take(struct hg_writer *w);
/* Forgets the content, keeps the memory where nobody else holds it. */
void hg_writer_reset(struct hg_writer *w);
void hg_writer_close(struct hg_writer *w);
/* hg_writer_reset, but memory of more than most_bytes goes. */
static inline void hg_writer_reset_to(struct hg_writer *w, size_t most_bytes)
{
    hg_writer_reset(w);
    if (w->buf != NULL && w->buf->cap > most_bytes) {
        hg_writer_close(w);
    }
}

#endif
