/* SPDX-License-Identifier: Apache-2.0 */
/* A stream without a socket: what is written to it is recorded, what is to be read from it is pushed by the test. */
#ifndef HG_TESTS_FAKE_STREAM_H
#define HG_TESTS_FAKE_STREAM_H

#include "base/buf.h"
#include "stream/stream.h"

struct fake_stream {
    struct hg_stream stream; /* first member */
    struct hg_writer written;
    unsigned writes_n;
    size_t pending;    /* what pending() says */
    unsigned awaits_n; /* calls of await_drained */
    bool is_reading;
    bool has_moved;    /* output: until it is asked for */
    bool fails_writes; /* write says NO_MEMORY */
    bool is_finished, is_closed;
    enum hg_status why; /* of finish or close */
};

void fake_stream_open(struct fake_stream *f);
/* Delivers on_closed, as the loop would, if finish or close was called. */
void fake_stream_run(struct fake_stream *f);
/* Input arrives, unless nobody reads. */
void fake_stream_push(struct fake_stream *f, struct hg_bytes in);
/* The peer ends it. */
void fake_stream_hang_up(struct fake_stream *f, enum hg_status why);
/* Forgets what was written. */
void fake_stream_forget(struct fake_stream *f);
/* Also after on_closed. */
void fake_stream_close(struct fake_stream *f);

#endif
