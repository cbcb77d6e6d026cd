/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the WebSocket decoder: however they are split, the same payload and the same end come out, and the limit holds. */
#include "base/buf.h"
#include "base/check.h"
#include "stream/ws_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct hg_ws_limits limits = {.max_message_bytes = 1000};

struct result {
    struct hg_writer text; /* payload, and control frames as they came */
    enum hg_ws_event end;
    uint16_t code;
};

static void decode(struct result *r, struct hg_bytes in, size_t piece_n)
{
    struct hg_ws_decoder *d = hg_ws_decoder_new();
    HG_CHECK(d != NULL);
    *r = (struct result){.end = HG_WS_MORE};
    while (in.n > 0 && r->end != HG_WS_CLOSE && r->end != HG_WS_BROKEN) {
        struct hg_bytes piece = hg_bytes(in.p, in.n < piece_n ? in.n : piece_n);
        in = hg_bytes_skip(in, piece.n);
        do {
            struct hg_bytes payload = {0};
            r->end = hg_ws_decoder_next(d, &piece, &limits, &payload, &r->code);
            HG_CHECK(r->end != HG_WS_PAYLOAD || payload.n <= piece_n);
            HG_CHECK(r->end != HG_WS_PING || payload.n <= 125);
            hg_writer_bytes(&r->text, payload);
        } while (r->end == HG_WS_PAYLOAD || r->end == HG_WS_PING);
    }
    hg_ws_decoder_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct result whole, pieces;
    decode(&whole, hg_bytes(data, n), n);
    for (size_t piece_n = 1; piece_n < 8; piece_n += 3) {
        decode(&pieces, hg_bytes(data, n), piece_n);
        HG_CHECK(pieces.end == whole.end);
        HG_CHECK(pieces.end != HG_WS_BROKEN || pieces.code == whole.code);
        /* What comes before a mistake may be handed up in pieces or not at all. */
        HG_CHECK(pieces.end == HG_WS_BROKEN ||
                 hg_bytes_eq(hg_writer_view(&pieces.text), hg_writer_view(&whole.text)));
        hg_writer_close(&pieces.text);
    }
    hg_writer_close(&whole.text);
    return 0;
}
