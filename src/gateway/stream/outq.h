/* SPDX-License-Identifier: Apache-2.0 */
/* The outbound queue of one stream: an array of slices of reference-counted buffers, in the order
 * they leave. It owns memory only while something is queued, and none while that is a single slice
 * of somebody's buffer. Small parts are joined in a chunk of the queue's own, large shared ones are
 * referenced, and so are those that lie behind each other in one buffer: a thousand small messages
 * leave as one slice, and what a thousand clients get exists once. Pure bookkeeping: no socket. */
#ifndef HG_STREAM_OUTQ_H
#define HG_STREAM_OUTQ_H

#include "base/buf.h"
#include "stream/stream.h"

#include <sys/uio.h>

/* Shared parts up to this size are copied, unless they are the first or lie right behind the last:
 * a slice costs more than the bytes. */
enum { HG_OUTQ_COPY_BYTES = 512 };

struct hg_outq_body;

struct hg_outq { /* zero-initialise to start; an idle connection pays for two words */
    union {
        struct hg_outq_body *body; /* of any number of slices; NULL while empty */
        struct hg_buf *buf;        /* of the only slice, a reference */
    };
    uint32_t at, n; /* the only slice, of buf; n 0: there is a body, or nothing */
};

static inline bool hg_outq_is_empty(const struct hg_outq *q)
{
    return q->body == NULL;
}
size_t hg_outq_bytes(const struct hg_outq *q);
/* Queues all parts or, when there is no memory, none. */
bool hg_outq_push(struct hg_outq *q, const struct hg_part *parts, size_t parts_n);
/* The first slices, at most `max`, borrowed until they are consumed; pushing meanwhile does not
 * move them. Returns how many. */
unsigned hg_outq_peek(const struct hg_outq *q, struct iovec *out, unsigned max);
/* The first n bytes have left; n <= hg_outq_bytes(q). */
void hg_outq_consume(struct hg_outq *q, size_t n);
/* It will take a while until the rest can leave: small pieces of large buffers that others share
 * are copied, so that nobody who does not read keeps more memory than a few times what waits. */
void hg_outq_own(struct hg_outq *q);
/* Drops everything. */
void hg_outq_close(struct hg_outq *q);

#endif
