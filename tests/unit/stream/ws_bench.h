/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket on a stream without a socket, and what its user saw. */
#ifndef HG_UNIT_STREAM_WS_BENCH_H
#define HG_UNIT_STREAM_WS_BENCH_H

#include "base/wheel.h"
#include "fake_stream.h"
#include "stream/net.h"

enum { MAX_MESSAGE = 70000 };

struct bench {
    uv_loop_t loop;
    uv_async_t alive; /* a loop without handles does not turn */
    struct hg_wheel wheel;
    struct hg_net net;
    struct fake_stream lower;
    struct hg_stream *ws;
    struct hg_writer seen; /* payload */
    unsigned closed_n, drained_n;
    enum hg_status why;
    bool stops_after_read, finishes_after_read;
    const char *broken_rule; /* NULL: not told */
};

void bench_open_with(struct bench *b, struct hg_bytes early, const struct hg_ws_limits *limits);
void bench_open(struct bench *b, struct hg_bytes early, uint32_t max_message);
/* The loop turns once. */
void turn(struct bench *b);
/* Ends it if nothing else has, and checks that it ended once and left nothing. */
void bench_close(struct bench *b);

/* Appends a frame as a client sends it, masked; the first byte has flags and opcode. */
void put_frame(struct hg_writer *w, uint8_t first, const void *payload, size_t n);
/* Appends bytes in hex, with blanks. */
void put_hex(struct hg_writer *w, const char *hex);

#endif
