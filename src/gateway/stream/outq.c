/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/outq.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum { SLICES_FIRST = 4, CHUNK_MIN_BYTES = 512, CHUNK_MAX_BYTES = 16 * 1024 };

static struct hg_outq_slice *tail_of(struct hg_outq *q)
{
    return &q->slices[q->first + q->n - 1];
}

static bool make_room(struct hg_outq *q)
{
    if (q->first + q->n < q->cap) {
        return true;
    }
    if (q->first >= q->cap / 2 && q->first > 0) {
        memmove(q->slices, q->slices + q->first, q->n * sizeof(*q->slices));
        q->first = 0;
        return true;
    }
    if (q->cap > UINT32_MAX / 2 / sizeof(*q->slices)) {
        return false;
    }
    uint32_t cap = q->cap == 0 ? SLICES_FIRST : q->cap * 2;
    struct hg_outq_slice *slices = hg_realloc(q->slices, cap * sizeof(*slices));
    if (slices == NULL) {
        return false;
    }
    q->slices = slices;
    q->cap = cap;
    return true;
}

/* The queue takes over one reference to buf. */
static bool push_slice(struct hg_outq *q, struct hg_buf *buf_own, size_t at, size_t n)
{
    if (!make_room(q)) {
        hg_buf_unref(buf_own);
        return false;
    }
    q->slices[q->first + q->n] = (struct hg_outq_slice){buf_own, (uint32_t)at, (uint32_t)n};
    q->n++;
    q->bytes += n;
    return true;
}

/* Fills what is left of the own chunk at the end, and returns how much of b went there. */
static size_t fill_tail(struct hg_outq *q, struct hg_bytes b)
{
    if (!q->is_tail_own) {
        return 0;
    }
    struct hg_outq_slice *tail = tail_of(q);
    size_t room = tail->buf->cap - tail->buf->n;
    size_t n = b.n < room ? b.n : room;
    if (n > 0) {
        memcpy(tail->buf->data + tail->buf->n, b.p, n);
        tail->buf->n += (uint32_t)n;
        tail->n += (uint32_t)n;
        q->bytes += n;
    }
    return n;
}

/* A new chunk is as large as what is queued already: few messages cost little, many get few slices. */
static size_t chunk_bytes(const struct hg_outq *q, size_t at_least)
{
    size_t n = q->bytes < CHUNK_MIN_BYTES ? CHUNK_MIN_BYTES : q->bytes;
    n = n > CHUNK_MAX_BYTES ? CHUNK_MAX_BYTES : n;
    return n < at_least ? at_least : n;
}

static bool push_copy(struct hg_outq *q, struct hg_bytes b)
{
    b = hg_bytes_skip(b, fill_tail(q, b));
    if (b.n == 0) {
        return true;
    }
    struct hg_buf *chunk = hg_buf_new(chunk_bytes(q, b.n));
    if (chunk == NULL) {
        return false;
    }
    memcpy(chunk->data, b.p, b.n);
    chunk->n = (uint32_t)b.n;
    q->is_tail_own = push_slice(q, chunk, 0, b.n);
    return q->is_tail_own;
}

static bool push_part(struct hg_outq *q, const struct hg_part *part)
{
    if (part->bytes.n == 0) {
        return true;
    }
    if (part->buf == NULL || part->bytes.n <= HG_OUTQ_COPY_BYTES) {
        return push_copy(q, part->bytes);
    }
    HG_CHECK(part->bytes.p >= part->buf->data &&
             part->bytes.p + part->bytes.n <= part->buf->data + part->buf->n);
    size_t at = (size_t)(part->bytes.p - part->buf->data);
    q->is_tail_own = false;
    return push_slice(q, hg_buf_ref(part->buf), at, part->bytes.n);
}

/* Back to the first n slices, the last of which held tail_n bytes. */
static void roll_back(struct hg_outq *q, uint32_t n, uint32_t tail_n, bool is_tail_own)
{
    while (q->n > n) {
        struct hg_outq_slice *tail = tail_of(q);
        q->bytes -= tail->n;
        hg_buf_unref(tail->buf);
        q->n--;
    }
    q->is_tail_own = is_tail_own;
    if (n == 0) {
        hg_outq_close(q);
        return;
    }
    struct hg_outq_slice *tail = tail_of(q);
    if (tail->n > tail_n) { /* only an own chunk ever grew */
        tail->buf->n -= tail->n - tail_n;
        q->bytes -= tail->n - tail_n;
        tail->n = tail_n;
    }
}

bool hg_outq_push(struct hg_outq *q, const struct hg_part *parts, size_t parts_n)
{
    uint32_t n = q->n;
    uint32_t tail_n = n == 0 ? 0 : tail_of(q)->n;
    bool is_tail_own = q->is_tail_own;
    for (size_t i = 0; i < parts_n; i++) {
        if (!push_part(q, &parts[i])) {
            roll_back(q, n, tail_n, is_tail_own);
            return false;
        }
    }
    return true;
}

unsigned hg_outq_peek(const struct hg_outq *q, uv_buf_t *out, unsigned max)
{
    unsigned n = q->n < max ? q->n : max;
    for (unsigned i = 0; i < n; i++) {
        const struct hg_outq_slice *s = &q->slices[q->first + i];
        out[i] = uv_buf_init((char *)s->buf->data + s->at, s->n);
    }
    return n;
}

void hg_outq_consume(struct hg_outq *q, size_t n)
{
    HG_CHECK(n <= q->bytes);
    q->bytes -= n;
    while (n > 0) {
        struct hg_outq_slice *s = &q->slices[q->first];
        if (n < s->n) {
            s->at += (uint32_t)n;
            s->n -= (uint32_t)n;
            return;
        }
        n -= s->n;
        hg_buf_unref(s->buf);
        q->first++;
        q->n--;
    }
    if (q->n == 0) {
        hg_outq_close(q);
    }
}

void hg_outq_close(struct hg_outq *q)
{
    for (uint32_t i = 0; i < q->n; i++) {
        hg_buf_unref(q->slices[q->first + i].buf);
    }
    hg_free(q->slices);
    *q = (struct hg_outq){0};
}
