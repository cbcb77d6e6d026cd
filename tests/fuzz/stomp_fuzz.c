/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the frame decoder: however they are split, the frames are the same; what was read is
 * written so that it reads back the same; and headers, properties and destinations can be looked at
 * without fault. */
#include "adapters/stomp/stomp_dest.h"
#include "adapters/stomp/stomp_message.h"
#include "base/check.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct hg_stomp_limits limits = {
    .max_frame_bytes = 4096, .max_header_bytes = 1024, .max_headers_n = 16};

/* Decodes one frame from input that grows by piece_n bytes; every call gets a block of exactly what
 * has come. Returns what the last call did. */
static ssize_t decode(enum hg_stomp_version version, struct hg_bytes in, size_t piece_n,
                      struct hg_stomp_frame *frame, uint8_t **block_out)
{
    struct hg_stomp_decoder dec = {0};
    struct hg_error err = {0};
    ssize_t used = 0;
    size_t have_n = 0;
    *block_out = NULL;
    while (used == 0 && have_n < in.n) {
        have_n = in.n - have_n < piece_n ? in.n : have_n + piece_n;
        hg_free(*block_out);
        *block_out = hg_alloc(have_n);
        HG_CHECK(*block_out != NULL);
        memcpy(*block_out, in.p, have_n);
        used = hg_stomp_decode(&dec, &limits, version, hg_bytes(*block_out, have_n), frame, &err);
        HG_CHECK(used <= (ssize_t)have_n);
        HG_CHECK(used >= 0 || (err.rule != NULL && err.status != HG_OK && err.at <= 4096));
    }
    return used;
}

static void check_same(const struct hg_stomp_frame *a, const struct hg_stomp_frame *b)
{
    HG_CHECK(a->command == b->command && a->headers_n == b->headers_n);
    HG_CHECK(hg_bytes_eq(a->body, b->body));
    for (size_t i = 0; i < a->headers_n; i++) {
        HG_CHECK(hg_bytes_eq(a->headers[i].name, b->headers[i].name));
        HG_CHECK(hg_bytes_eq(a->headers[i].value, b->headers[i].value));
    }
}

/* Written as a MESSAGE, which unlike CONNECT is escaped, 1.2 style: there every header has a form.
 */
static void check_reads_back(const struct hg_stomp_frame *frame)
{
    const struct hg_stomp_limits wide = {1 << 20, 1 << 20, 100};
    struct hg_stomp_decoder dec = {0};
    struct hg_stomp_frame again = {0};
    struct hg_error err;
    struct hg_writer w = {0};
    hg_stomp_write_command(&w, HG_STOMP_MESSAGE);
    for (size_t i = 0; i < frame->headers_n; i++) {
        if (!hg_bytes_eq(frame->headers[i].name, HG_BYTES("content-length"))) {
            hg_stomp_write_header(&w, HG_STOMP_V12, frame->headers[i].name,
                                  frame->headers[i].value);
        }
    }
    hg_stomp_write_body(&w, frame->body);
    ssize_t used = hg_stomp_decode(&dec, &wide, HG_STOMP_V12, hg_writer_view(&w), &again, &err);
    HG_CHECK(used == (ssize_t)hg_writer_n(&w) && hg_bytes_eq(again.body, frame->body));
    for (size_t i = 0, k = 0; i < frame->headers_n; i++) {
        if (!hg_bytes_eq(frame->headers[i].name, HG_BYTES("content-length"))) {
            HG_CHECK(hg_bytes_eq(again.headers[k].name, frame->headers[i].name));
            HG_CHECK(hg_bytes_eq(again.headers[k++].value, frame->headers[i].value));
        }
    }
    hg_stomp_frame_close(&again);
    hg_writer_close(&w);
}

static void look_at(const struct hg_stomp_frame *frame)
{
    struct hg_stomp_properties p;
    struct hg_stomp_dest dest;
    const char *why;
    if (hg_stomp_properties_read(frame, &p, &why) == HG_OK) {
        struct hg_message *m =
            hg_message_new(&(struct hg_message_parts){.properties = p.amqp, .body = frame->body});
        struct hg_writer w = {0};
        HG_CHECK(m != NULL);
        hg_stomp_message_write(&w, HG_STOMP_V12, m);
        hg_writer_close(&w);
        hg_message_unref(m);
    }
    hg_stomp_properties_close(&p);
    if (hg_stomp_dest_parse(hg_stomp_get(frame, "destination"), "amq.topic", &dest, &why) == HG_OK &&
        dest.kind != HG_STOMP_DEST_ADDRESS) {
        uint8_t room[HG_STOMP_DEST_MAX_BYTES];
        (void)hg_stomp_dest_of(dest.exchange, dest.key, room);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    enum hg_stomp_version version = data[0] % HG_STOMP_VERSION_N;
    size_t piece_n = 1 + data[0] / HG_STOMP_VERSION_N % 16u;
    struct hg_bytes in = hg_bytes(data + 1, n - 1);
    ssize_t used = 1;
    while (used > 0 && in.n > 0) { /* one frame after another, as a connection would */
        struct hg_stomp_frame whole = {0};
        struct hg_stomp_frame split = {0};
        uint8_t *blocks[2];
        used = decode(version, in, in.n, &whole, &blocks[0]);
        ssize_t used_split = decode(version, in, piece_n, &split, &blocks[1]);
        bool is_heartbeat = used > 0 && whole.command == HG_STOMP_HEARTBEAT;
        HG_CHECK(is_heartbeat ? used_split > 0 && used_split <= used
                              : used == used_split || (used < 0 && used_split < 0));
        if (used > 0) {
            check_same(&whole, &split);
            check_reads_back(&whole);
            look_at(&whole);
            in = hg_bytes_skip(in, (size_t)used);
        }
        hg_stomp_frame_close(&whole);
        hg_stomp_frame_close(&split);
        hg_free(blocks[0]);
        hg_free(blocks[1]);
    }
    return 0;
}
