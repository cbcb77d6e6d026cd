/* SPDX-License-Identifier: Apache-2.0 */
/* The stream that takes the PROXY header off and then only passes on. */
#include "base/list.h"
#include "base/mem.h"
#include "stream/proxy.h"

struct proxied {
    struct hg_stream stream;
    struct hg_stream *lower;
    struct hg_proxy_decoder *decoder; /* NULL: the header has been read */
    char *peer;                       /* NULL: the lower stream's */
    bool is_over;                     /* finish or close was called */
};

static struct proxied *of_stream(const struct hg_stream *s)
{
    return HG_CONTAINER_OF(s, struct proxied, stream);
}

/* ---- From below ---- */

static void on_header(struct proxied *p)
{
    size_t n = strlen(p->decoder->peer) + 1;
    if (n > 1 && (p->peer = hg_alloc(n)) != NULL) { /* else the proxy's address has to do */
        memcpy(p->peer, p->decoder->peer, n);
    }
    hg_free(p->decoder);
    p->decoder = NULL;
}

static void on_read(void *ctx, struct hg_bytes in)
{
    struct proxied *p = ctx;
    struct hg_error err;
    if (p->decoder != NULL) {
        ssize_t used = hg_proxy_decode(p->decoder, in, &err);
        if (used < 0) {
            if (p->stream.user->on_broken != NULL) {
                p->stream.user->on_broken(p->stream.user_ctx, err.status, err.rule);
            }
            p->lower->ops->close(p->lower, err.status);
            return;
        }
        if (!p->decoder->is_done) {
            return;
        }
        on_header(p);
        in = hg_bytes_skip(in, (size_t)used);
        if (p->stream.user->on_peer != NULL) {
            p->stream.user->on_peer(p->stream.user_ctx);
        }
    }
    if (in.n > 0 && !p->is_over) {
        p->stream.user->on_read(p->stream.user_ctx, in);
    }
}

static void on_open(void *ctx)
{
    (void)ctx; /* accepted streams are open from the start */
}

static void on_drained(void *ctx)
{
    struct proxied *p = ctx;
    if (p->stream.user->on_drained != NULL) {
        p->stream.user->on_drained(p->stream.user_ctx);
    }
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct proxied *p = ctx;
    if (p->stream.user != NULL) {
        p->stream.user->on_closed(p->stream.user_ctx, why);
    }
    hg_free(p->decoder);
    hg_free(p->peer);
    hg_free(p);
}

static const struct hg_stream_user lower_user = {
    .on_read = on_read,
    .on_open = on_open,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

/* ---- From above ---- */

static void read_start(struct hg_stream *s)
{
    struct hg_stream *lower = of_stream(s)->lower;
    lower->ops->read_start(lower);
}

static void read_stop(struct hg_stream *s)
{
    struct hg_stream *lower = of_stream(s)->lower;
    lower->ops->read_stop(lower);
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct hg_stream *lower = of_stream(s)->lower;
    return lower->ops->write(lower, kind, parts, parts_n);
}

static size_t pending(const struct hg_stream *s)
{
    const struct hg_stream *lower = of_stream(s)->lower;
    return lower->ops->pending(lower);
}

static void await_drained(struct hg_stream *s)
{
    struct hg_stream *lower = of_stream(s)->lower;
    lower->ops->await_drained(lower);
}

static bool has_moved(struct hg_stream *s)
{
    struct hg_stream *lower = of_stream(s)->lower;
    return lower->ops->has_moved(lower);
}

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct proxied *p = of_stream(s);
    p->is_over = true;
    p->lower->ops->finish(p->lower, why);
}

static void close_now(struct hg_stream *s, enum hg_status why)
{
    struct proxied *p = of_stream(s);
    p->is_over = true;
    p->lower->ops->close(p->lower, why);
}

static const char *peer(struct hg_stream *s)
{
    struct proxied *p = of_stream(s);
    return p->peer != NULL ? p->peer : p->lower->ops->peer(p->lower);
}

static const struct hg_stream_ops proxied_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = finish,
    .close = close_now,
    .peer = peer,
    .await_drained = await_drained,
    .has_moved = has_moved,
};

struct hg_stream *hg_proxy_accept(struct hg_stream *lower_own)
{
    struct proxied *p = hg_zalloc(sizeof(*p));
    struct hg_proxy_decoder *decoder = hg_zalloc(sizeof(*decoder));
    if (p == NULL || decoder == NULL) {
        hg_free(p);
        hg_free(decoder);
        lower_own->ops->close(lower_own, HG_NO_MEMORY);
        return NULL;
    }
    p->stream.ops = &proxied_ops;
    p->lower = lower_own;
    p->decoder = decoder;
    hg_stream_set_user(lower_own, &lower_user, p);
    return &p->stream;
}
