/* SPDX-License-Identifier: Apache-2.0 */
/* A stream moves bytes both ways for the user above it and knows no messaging protocol. TCP is at
 * the bottom; TLS and WebSocket stack on another stream and look the same from above. Everything
 * happens on one worker's loop. */
#ifndef HG_STREAM_STREAM_H
#define HG_STREAM_STREAM_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

struct hg_stream;

/* One piece of a write. With a buffer, the stream takes a reference of its own and `bytes` lies
 * inside it; without, the bytes are copied. */
struct hg_part {
    struct hg_buf *buf;
    struct hg_bytes bytes;
};

/* How a WebSocket marks the message; other streams ignore it. */
enum hg_frame_kind { HG_FRAME_BINARY, HG_FRAME_TEXT };

/* What the user above a stream provides. None is called from inside a call of the user's into the
 * stream, and after finish or close only on_closed is. */
struct hg_stream_user {
    /* Bytes came, borrowed during the call; all of them are the user's to keep or use. After
     * read_stop, what had been read already (one read's worth) may still come. */
    void (*on_read)(void *ctx, struct hg_bytes in);
    /* Connected, handshakes of all layers included. Streams that are open from the start (accepted
     * ones) never call it. */
    void (*on_open)(void *ctx);
    /* Pending output fell to the low watermark after having been over the high one. May be NULL. */
    void (*on_drained)(void *ctx);
    /* The last event, exactly once: the peer closed (CLOSED), the connection broke (PEER_LOST), a
     * layer's protocol was broken, or close was called. The stream is freed when this returns. */
    void (*on_closed)(void *ctx, enum hg_status why);
    /* The peer broke a layer's protocol, and `rule` (borrowed during the call) says how. The layer
     * says goodbye in its way; on_closed(why) follows. May be NULL. */
    void (*on_broken)(void *ctx, enum hg_status why, const char *rule);
    /* A PROXY header has said whose connection it is: from here on `peer` does. May be NULL. */
    void (*on_peer)(void *ctx);
};

/* What of a client's certificate is its name. */
enum hg_certificate_name {
    HG_CERTIFICATE_OFF,
    HG_CERTIFICATE_COMMON_NAME,
    HG_CERTIFICATE_DNS, /* the first subject alternative name of that kind, as the next two */
    HG_CERTIFICATE_EMAIL,
    HG_CERTIFICATE_URI
};

struct hg_stream_ops {
    void (*read_start)(struct hg_stream *s); /* idempotent, as is the next */
    void (*read_stop)(struct hg_stream *s);
    /* Queues one message of n parts; it leaves with everything else that is queued by then in one
     * system call, at the end of this loop turn or, when many have output, of one soon after. Never blocks, never closes, never calls back. OK, NO_MEMORY (nothing queued) or
     * CLOSED. */
    enum hg_status (*write)(struct hg_stream *s, enum hg_frame_kind kind,
                            const struct hg_part *parts, size_t parts_n);
    /* Bytes queued and not yet taken by the kernel. */
    size_t (*pending)(const struct hg_stream *s);
    /* Writes out what is queued, says goodbye in the layer's way (TLS close_notify, WebSocket close
     * frame with the code for `why`), waits a moment for the peer to close so that it surely reads
     * all of it, closes; at the latest after 5 s. Input is discarded meanwhile. Idempotent;
     * on_closed(why) follows. */
    void (*finish)(struct hg_stream *s, enum hg_status why);
    /* Drops what is queued and closes now; on_closed follows from the loop, never from inside. */
    void (*close)(struct hg_stream *s, enum hg_status why);
    /* on_drained comes, from the loop, once pending output is at most the low watermark, whether or
     * not it has been over the high one. */
    void (*await_drained)(struct hg_stream *s);
    /* Whether the kernel has taken any output since this was last asked. */
    bool (*has_moved)(struct hg_stream *s);
    /* "127.0.0.1:41234"; valid until the next such call on this worker. */
    const char *(*peer)(struct hg_stream *s);
    /* Appends the name in the peer's certificate, which is checked; false: there is none, or it is
     * ambiguous. NULL: the stream has no certificates. */
    bool (*certificate)(struct hg_stream *s, enum hg_certificate_name which, struct hg_writer *out);
};

struct hg_stream {
    const struct hg_stream_ops *ops;
    const struct hg_stream_user *user;
    void *user_ctx;
};

static inline void hg_stream_set_user(struct hg_stream *s, const struct hg_stream_user *user,
                                      void *ctx)
{
    s->user = user;
    s->user_ctx = ctx;
}

#endif
