/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of buffers, first in, first out. */
#include "stream/outq.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum { SLICES_FIRST = 2, CHUNK_MIN_BYTES = 512, CHUNK_MAX_BYTES = 16 * 1024, OWN_MAX_BYTES = 4096 };

struct slice {
    struct hg_buf *buf; /* a reference */
    uint32_t at, n;     /* what is left of it to send; n > 0 */
};

struct hg_outq_body {
    size_t bytes;
    uint32_t first, n, cap; /* slices in use: [first, first + n) */
    bool is_tail_own; /* the last slice's buffer is a chunk that nobody else sees: it may grow */
    struct slice slices[];
};

static struct slice *tail_of(struct hg_outq_body *b)
{
    return &b->slices[b->first + b->n - 1];
}

static struct hg_outq_body *body_of(const struct hg_outq *q)
{
    return q->n > 0 ? NULL : q->body;
}

static bool make_room(struct hg_outq *q)
{
    struct hg_outq_body *b = body_of(q);
    if (b != NULL && b->first + b->n < b->cap) {
        return true;
    }
    if (b != NULL && b->first > 0 && b->first >= b->cap / 2) {
        memmove(b->slices, b->slices + b->first, b->n * sizeof(b->slices[0]));
        b->first = 0;
        return true;
    }
    uint32_t cap = b == NULL ? SLICES_FIRST : b->cap * 2;
    if (cap > UINT32_MAX / 2 / sizeof(struct slice)) {
        return false;
    }
    struct hg_outq_body *grown = hg_realloc(b, sizeof(*b) + cap * sizeof(struct slice));
    if (grown == NULL) {
        return false;
    }
    if (b == NULL) {
        *grown = (struct hg_outq_body){0};
    }
    if (q->n > 0) { /* the only slice becomes the first one */
        grown->slices[0] = (struct slice){q->buf, q->at, q->n};
        grown->n = 1;
        grown->bytes = q->n;
        q->at = q->n = 0;
    }
    grown->cap = cap;
    q->body = grown;
    return true;
}

/* The queue takes over one reference to buf. */
static bool push_slice(struct hg_outq *q, struct hg_buf *buf_own, size_t at, size_t n, bool is_own)
{
    if (!make_room(q)) {
        hg_buf_unref(buf_own);
        return false;
    }
    struct hg_outq_body *b = q->body;
    b->slices[b->first + b->n] = (struct slice){buf_own, (uint32_t)at, (uint32_t)n};
    b->n++;
    b->bytes += n;
    b->is_tail_own = is_own;
    return true;
}

/* Fills what is left of the own chunk at the end, and returns how much of `in` went there. */
static size_t fill_tail(struct hg_outq_body *b, struct hg_bytes in)
{
    if (b == NULL || !b->is_tail_own) {
        return 0;
    }
    struct slice *tail = tail_of(b);
    size_t room = tail->buf->cap - tail->buf->n;
    size_t n = in.n < room ? in.n : room;
    if (n > 0) {
        memcpy(tail->buf->data + tail->buf->n, in.p, n);
        tail->buf->n += (uint32_t)n;
        tail->n += (uint32_t)n;
        b->bytes += n;
    }
    return n;
}

/* A new chunk is as large as what is queued already: few messages cost little, many get few
 * slices. */
static size_t chunk_bytes(const struct hg_outq *q, size_t at_least)
{
    size_t n = hg_outq_bytes(q);
    n = n < CHUNK_MIN_BYTES ? CHUNK_MIN_BYTES : n > CHUNK_MAX_BYTES ? CHUNK_MAX_BYTES : n;
    return n < at_least ? at_least : n;
}

static bool push_copy(struct hg_outq *q, struct hg_bytes in)
{
    in = hg_bytes_skip(in, fill_tail(body_of(q), in));
    if (in.n == 0) {
        return true;
    }
    struct hg_buf *chunk = hg_buf_new(chunk_bytes(q, in.n));
    if (chunk == NULL) {
        return false;
    }
    memcpy(chunk->data, in.p, in.n);
    chunk->n = (uint32_t)in.n;
    return push_slice(q, chunk, 0, in.n, true);
}

/* What a fan-out comes to: the next message, in the block where the one before it lies. */
static bool continues_alone(const struct hg_outq *q, const struct hg_part *part)
{
    return q->n > 0 && part->buf == q->buf && part->bytes.p == q->buf->data + q->at + q->n &&
           part->bytes.n <= q->buf->n - q->at - q->n;
}

/* Whether it was queued with what is there already, or is now all there is: nothing was allocated. */
static bool joins(struct hg_outq *q, const struct hg_part *part)
{
    size_t at = (size_t)(part->bytes.p - part->buf->data);
    struct hg_outq_body *b = body_of(q);
    if (b != NULL) {
        struct slice *tail = tail_of(b);
        bool continues = tail->buf == part->buf && tail->at + tail->n == at;
        tail->n += continues ? (uint32_t)part->bytes.n : 0;
        b->bytes += continues ? part->bytes.n : 0;
        return continues;
    }
    if (q->n > 0) {
        bool continues = continues_alone(q, part);
        q->n += continues ? (uint32_t)part->bytes.n : 0;
        return continues;
    }
    *q = (struct hg_outq){
        .buf = hg_buf_ref(part->buf), .at = (uint32_t)at, .n = (uint32_t)part->bytes.n};
    return true;
}

static bool push_part(struct hg_outq *q, const struct hg_part *part)
{
    if (part->bytes.n == 0) {
        return true;
    }
    if (part->buf == NULL) {
        return push_copy(q, part->bytes);
    }
    HG_CHECK(part->bytes.p >= part->buf->data &&
             part->bytes.p + part->bytes.n <= part->buf->data + part->buf->n);
    if (joins(q, part)) {
        return true;
    }
    if (part->bytes.n <= HG_OUTQ_COPY_BYTES) {
        return push_copy(q, part->bytes);
    }
    size_t at = (size_t)(part->bytes.p - part->buf->data);
    return push_slice(q, hg_buf_ref(part->buf), at, part->bytes.n, false);
}

/* What a queue was before parts were pushed of which one had no room. */
struct mark {
    uint32_t slices_n, tail_n;
    bool is_tail_own;
};

static struct mark mark_of(const struct hg_outq *q)
{
    struct hg_outq_body *b = body_of(q);
    if (b == NULL) {
        return (struct mark){.slices_n = q->n > 0, .tail_n = q->n};
    }
    return (struct mark){b->n, tail_of(b)->n, b->is_tail_own};
}

static void roll_back(struct hg_outq *q, struct mark to)
{
    struct hg_outq_body *b = body_of(q);
    if (to.slices_n == 0) {
        hg_outq_close(q);
        return;
    }
    if (b == NULL) {
        q->n = to.tail_n;
        return;
    }
    while (b->n > to.slices_n) {
        struct slice *tail = tail_of(b);
        b->bytes -= tail->n;
        hg_buf_unref(tail->buf);
        b->n--;
    }
    b->is_tail_own = to.is_tail_own;
    struct slice *tail = tail_of(b);
    if (tail->n > to.tail_n) {
        tail->buf->n -= to.is_tail_own ? tail->n - to.tail_n : 0;
        b->bytes -= tail->n - to.tail_n;
        tail->n = to.tail_n;
    }
}

bool hg_outq_push(struct hg_outq *q, const struct hg_part *parts, size_t parts_n)
{
    if (parts_n == 1 && continues_alone(q, parts)) {
        q->n += (uint32_t)parts->bytes.n;
        return true;
    }
    struct mark before = mark_of(q);
    for (size_t i = 0; i < parts_n; i++) {
        if (!push_part(q, &parts[i])) {
            roll_back(q, before);
            return false;
        }
    }
    return true;
}

size_t hg_outq_bytes(const struct hg_outq *q)
{
    return q->n > 0 || q->body == NULL ? q->n : q->body->bytes;
}

unsigned hg_outq_peek(const struct hg_outq *q, struct iovec *out, unsigned max)
{
    const struct hg_outq_body *b = body_of(q);
    if (q->n > 0 && max > 0) {
        out[0] = (struct iovec){q->buf->data + q->at, q->n};
        return 1;
    }
    unsigned n = b == NULL ? 0 : b->n < max ? b->n : max;
    for (unsigned i = 0; i < n; i++) {
        const struct slice *s = &b->slices[b->first + i];
        out[i] = (struct iovec){s->buf->data + s->at, s->n};
    }
    return n;
}

void hg_outq_consume(struct hg_outq *q, size_t n)
{
    HG_CHECK(n <= hg_outq_bytes(q));
    if (q->n > n) {
        q->at += (uint32_t)n;
        q->n -= (uint32_t)n;
        return;
    }
    if (q->n > 0) {
        hg_outq_close(q);
        return;
    }
    struct hg_outq_body *b = q->body;
    while (n > 0) {
        struct slice *s = &b->slices[b->first];
        uint32_t taken = n < s->n ? (uint32_t)n : s->n;
        n -= taken;
        b->bytes -= taken;
        s->at += taken;
        s->n -= taken;
        if (s->n == 0) {
            hg_buf_unref(s->buf);
            b->first++;
            b->n--;
        }
    }
    if (b != NULL && b->n == 0) {
        hg_outq_close(q);
    }
}

static void own(struct hg_buf **buf, uint32_t *at, uint32_t n)
{
    bool is_wasteful = n <= OWN_MAX_BYTES && n < (*buf)->cap / 4 && (*buf)->refs > 1;
    struct hg_buf *copy = is_wasteful ? hg_buf_copy(hg_bytes((*buf)->data + *at, n)) : NULL;
    if (copy != NULL) {
        hg_buf_unref(*buf);
        *buf = copy;
        *at = 0;
    }
}

void hg_outq_own(struct hg_outq *q)
{
    struct hg_outq_body *b = body_of(q);
    if (q->n > 0) {
        own(&q->buf, &q->at, q->n);
    }
    for (uint32_t i = 0; b != NULL && i < b->n; i++) {
        struct slice *s = &b->slices[b->first + i];
        own(&s->buf, &s->at, s->n);
    }
}

void hg_outq_close(struct hg_outq *q)
{
    struct hg_outq_body *b = body_of(q);
    if (q->n > 0) {
        hg_buf_unref(q->buf);
    }
    for (uint32_t i = 0; b != NULL && i < b->n; i++) {
        hg_buf_unref(b->slices[b->first + i].buf);
    }
    hg_free(b);
    *q = (struct hg_outq){0};
}
