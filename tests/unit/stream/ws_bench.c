/* SPDX-License-Identifier: Apache-2.0 */
#include "ws_bench.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>
#include <string.h>

static void on_read(void *ctx, struct hg_bytes in)
{
    struct bench *b = ctx;
    hg_writer_bytes(&b->seen, in);
    if (b->stops_after_read) {
        b->ws->ops->read_stop(b->ws);
    }
    if (b->finishes_after_read) {
        b->ws->ops->finish(b->ws, HG_CLOSED);
    }
}

static void on_open(void *ctx)
{
    (void)ctx;
    fail_msg("a WebSocket is open from the start");
}

static void on_drained(void *ctx)
{
    ((struct bench *)ctx)->drained_n++;
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct bench *b = ctx;
    b->closed_n++;
    b->why = why;
}

static void on_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct bench *b = ctx;
    assert_null(b->broken_rule);
    assert_int_equal(b->closed_n, 0);
    b->why = why;
    b->broken_rule = rule;
}

static const struct hg_stream_user user = {on_read,   on_open,   on_drained,
                                           on_closed, on_broken, NULL};

void bench_open_with(struct bench *b, struct hg_bytes early, const struct hg_ws_limits *limits)
{
    memset(b, 0, sizeof(*b));
    uv_loop_init(&b->loop);
    uv_async_init(&b->loop, &b->alive, NULL);
    hg_wheel_open(&b->wheel, seam_now_ms);
    assert_true(hg_net_open(&b->net, &b->loop, &b->wheel, NULL));
    fake_stream_open(&b->lower);
    b->ws = hg_ws_accept(&b->net, &b->lower.stream, early, limits, &user, b);
    assert_non_null(b->ws);
    b->ws->ops->read_start(b->ws);
}

void bench_open(struct bench *b, struct hg_bytes early, uint32_t max_message)
{
    bench_open_with(b, early, &(struct hg_ws_limits){.max_message_bytes = max_message});
}

void turn(struct bench *b)
{
    (void)hg_net_turn(&b->net, false);
}

void bench_close(struct bench *b)
{
    if (b->closed_n == 0 && !b->lower.is_finished && !b->lower.is_closed) {
        b->ws->ops->close(b->ws, HG_CLOSED);
    }
    fake_stream_run(&b->lower);
    assert_int_equal(b->closed_n, 1);
    uv_close((uv_handle_t *)&b->alive, NULL);
    hg_net_close(&b->net);
    hg_net_run(&b->net);
    hg_net_free(&b->net);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    fake_stream_close(&b->lower);
    hg_writer_close(&b->seen);
    assert_int_equal(seam_live(), 0);
}

/* ---- Annotated hex: bytes, blanks, and the client's masked frames as [flags+opcode, text] ---- */

static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};

void put_frame(struct hg_writer *w, uint8_t first, const void *payload, size_t n)
{
    hg_writer_u8(w, first);
    if (n < 126) {
        hg_writer_u8(w, (uint8_t)(0x80 | n));
    } else if (n <= UINT16_MAX) {
        hg_writer_u8(w, 0x80 | 126);
        hg_writer_u16(w, (uint16_t)n);
    } else {
        hg_writer_u8(w, 0x80 | 127);
        hg_writer_u64(w, n);
    }
    hg_writer_bytes(w, hg_bytes(mask, 4));
    for (size_t i = 0; i < n; i++) {
        hg_writer_u8(w, (uint8_t)(((const uint8_t *)payload)[i] ^ mask[i % 4]));
    }
}

void put_hex(struct hg_writer *w, const char *hex)
{
    for (const char *p = hex; *p != '\0';) {
        if (*p == ' ') {
            p++;
            continue;
        }
        char pair[3] = {p[0], p[1], '\0'};
        hg_writer_u8(w, (uint8_t)strtoul(pair, NULL, 16));
        p += 2;
    }
}
