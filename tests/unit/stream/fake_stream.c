/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_stream.h"

#include "base/check.h"

static struct fake_stream *fake(const struct hg_stream *s)
{
    return HG_CONTAINER_OF(s, struct fake_stream, stream);
}

static void read_start(struct hg_stream *s)
{
    fake(s)->is_reading = true;
}

static void read_stop(struct hg_stream *s)
{
    fake(s)->is_reading = false;
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct fake_stream *f = fake(s);
    (void)kind;
    if (f->is_finished || f->is_closed) {
        return HG_CLOSED;
    }
    if (f->fails_writes) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < parts_n; i++) {
        hg_writer_bytes(&f->written, parts[i].bytes);
    }
    f->writes_n++;
    return HG_OK;
}

static size_t pending(const struct hg_stream *s)
{
    return fake(s)->pending;
}

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct fake_stream *f = fake(s);
    if (!f->is_finished && !f->is_closed) {
        f->is_finished = true;
        f->why = why;
    }
}

static void close_now(struct hg_stream *s, enum hg_status why)
{
    struct fake_stream *f = fake(s);
    if (!f->is_closed) {
        f->is_closed = true;
        f->why = why;
    }
}

static const char *peer(struct hg_stream *s)
{
    (void)s;
    return "192.0.2.7:4711";
}

static void await_drained(struct hg_stream *s)
{
    fake(s)->awaits_n++;
}

static bool has_moved(struct hg_stream *s)
{
    struct fake_stream *f = fake(s);
    bool has = f->has_moved;
    f->has_moved = false;
    return has;
}

static const struct hg_stream_ops ops = {
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

void fake_stream_open(struct fake_stream *f)
{
    *f = (struct fake_stream){.stream.ops = &ops};
}

static void tell_closed(struct fake_stream *f, enum hg_status why)
{
    const struct hg_stream_user *user = f->stream.user;
    f->stream.user = NULL; /* once, and nothing after it */
    if (user != NULL) {
        user->on_closed(f->stream.user_ctx, why);
    }
}

void fake_stream_run(struct fake_stream *f)
{
    if (f->is_finished || f->is_closed) {
        tell_closed(f, f->why);
    }
}

void fake_stream_push(struct fake_stream *f, struct hg_bytes in)
{
    if (f->is_reading && !f->is_finished && !f->is_closed) {
        f->stream.user->on_read(f->stream.user_ctx, in);
    }
}

void fake_stream_hang_up(struct fake_stream *f, enum hg_status why)
{
    f->is_closed = true;
    tell_closed(f, why);
}

void fake_stream_forget(struct fake_stream *f)
{
    hg_writer_reset(&f->written);
    f->writes_n = 0;
}

void fake_stream_close(struct fake_stream *f)
{
    hg_writer_close(&f->written);
}
