/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and control frames out of the frames that wslay reads. */
#include "stream/ws_decoder.h"

#include "base/mem.h"

#include <wslay/wslay.h>

enum { CONTROL_MAX = 125 };

struct utf8_state { /* inside a code point: bytes to come, and what the next may be */
    uint8_t need, low, high;
};

struct hg_ws_decoder {
    wslay_frame_context_ptr wslay;
    struct hg_bytes in;       /* during a call */
    uint64_t fed_n, framed_n; /* bytes given to wslay; bytes of the frames that began */
    uint64_t frame_left_n;    /* payload of the present frame that is to come */
    uint64_t message_n;       /* payload of the present message, by its frames' headers */
    bool is_in_frame, is_in_message, is_text;
    struct utf8_state utf8;
    uint8_t control_n;
    uint8_t control[CONTROL_MAX];
};

static ssize_t on_wslay_recv(uint8_t *out, size_t n, int flags, void *ctx)
{
    struct hg_ws_decoder *d = ctx;
    (void)flags;
    n = n < d->in.n ? n : d->in.n;
    if (n == 0) {
        return -1;
    }
    memcpy(out, d->in.p, n);
    d->in = hg_bytes_skip(d->in, n);
    d->fed_n += n;
    return (ssize_t)n;
}

/* How many of the bytes from `at` on are ASCII, as far as words of eight tell. */
static size_t ascii_words(struct hg_bytes b, size_t at)
{
    size_t i = at;
    for (uint64_t word; b.n - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, b.p + i, sizeof(word));
        if ((word & 0x8080808080808080) != 0) {
            break;
        }
    }
    return i - at;
}

/* Every byte string that may be followed by something valid passes (RFC 3629 section 4). */
static bool is_utf8_so_far(struct utf8_state *u, struct hg_bytes b)
{
    size_t i = u->need == 0 ? ascii_words(b, 0) : 0;
    for (; i < b.n; i++) {
        uint8_t c = b.p[i];
        if (u->need > 0) {
            if (c < u->low || c > u->high) {
                return false;
            }
            *u = (struct utf8_state){(uint8_t)(u->need - 1), 0x80, 0xbf};
            i += u->need == 0 ? ascii_words(b, i + 1) : 0;
        } else if (c >= 0x80) {
            if (c < 0xc2 || c > 0xf4) {
                return false;
            }
            u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;  /* overlong */
            u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf; /* surrogates, past U+10FFFF */
        }
    }
    return true;
}

/* Section 7.4.1, and 1012 to 1014 of IANA's registry. */
static bool may_travel(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static size_t frame_bytes(uint64_t payload_n)
{
    size_t header_n = payload_n < 126 ? 2 : payload_n <= UINT16_MAX ? 4 : 10;
    return header_n + 4 + payload_n;
}

/* The functions below return 0, or the code of what is wrong. */

static uint16_t begin_data(struct hg_ws_decoder *d, const struct wslay_frame_iocb *f,
                           const struct hg_ws_limits *limits)
{
    if (d->is_in_message != (f->opcode == WSLAY_CONTINUATION_FRAME)) {
        return WSLAY_CODE_PROTOCOL_ERROR;
    }
    if (!d->is_in_message) {
        d->is_in_message = true;
        d->is_text = f->opcode == WSLAY_TEXT_FRAME;
        d->message_n = 0;
    }
    if (d->is_text && limits->is_binary_only) {
        return WSLAY_CODE_UNSUPPORTED_DATA;
    }
    if (f->payload_length > limits->max_message_bytes - d->message_n) {
        return WSLAY_CODE_MESSAGE_TOO_BIG;
    }
    d->message_n += f->payload_length;
    return 0;
}

static uint16_t begin_frame(struct hg_ws_decoder *d, const struct wslay_frame_iocb *f,
                            const struct hg_ws_limits *limits)
{
    if (f->rsv != 0 || f->mask == 0) { /* sections 5.2 and 5.1 */
        return WSLAY_CODE_PROTOCOL_ERROR;
    }
    d->is_in_frame = true;
    d->frame_left_n = f->payload_length;
    d->framed_n += frame_bytes(f->payload_length);
    d->control_n = 0;
    switch (f->opcode) {
    case WSLAY_CONTINUATION_FRAME:
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME: return begin_data(d, f, limits);
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG: return 0;
    default: return WSLAY_CODE_PROTOCOL_ERROR;
    }
}

static uint16_t take_payload(struct hg_ws_decoder *d, const struct wslay_frame_iocb *f)
{
    d->frame_left_n -= f->data_length;
    if (wslay_is_ctrl_frame(f->opcode)) { /* wslay has refused longer ones, and fragments */
        memcpy(d->control + d->control_n, f->data, f->data_length);
        d->control_n = (uint8_t)(d->control_n + f->data_length);
        return 0;
    }
    if (!d->is_text) {
        return 0;
    }
    bool is_last = f->fin != 0 && d->frame_left_n == 0;
    if (!is_utf8_so_far(&d->utf8, hg_bytes(f->data, f->data_length)) ||
        (is_last && d->utf8.need > 0)) {
        return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
    }
    return 0;
}

static uint16_t check_close(const struct hg_ws_decoder *d)
{
    struct utf8_state utf8 = {0};
    if (d->control_n == 0) {
        return 0;
    }
    if (d->control_n == 1 || !may_travel((uint16_t)(d->control[0] << 8 | d->control[1]))) {
        return WSLAY_CODE_PROTOCOL_ERROR;
    }
    bool is_text = is_utf8_so_far(&utf8, hg_bytes(d->control + 2, d->control_n - 2u));
    return is_text && utf8.need == 0 ? 0 : WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
}

/* What this piece of a frame amounts to; MORE: nothing yet. */
static enum hg_ws_event take_piece(struct hg_ws_decoder *d, const struct wslay_frame_iocb *f,
                                   const struct hg_ws_limits *limits, struct hg_bytes *payload,
                                   uint16_t *code)
{
    *code = d->is_in_frame ? 0 : begin_frame(d, f, limits);
    if (*code == 0) {
        *code = take_payload(d, f);
    }
    d->is_in_frame = *code == 0 && d->frame_left_n > 0;
    bool is_whole = *code == 0 && d->frame_left_n == 0;
    if (is_whole && f->opcode == WSLAY_CONNECTION_CLOSE) {
        *code = check_close(d);
    }
    if (*code != 0) {
        return HG_WS_BROKEN;
    }
    if (wslay_is_ctrl_frame(f->opcode)) {
        if (!is_whole || f->opcode == WSLAY_PONG) {
            return HG_WS_MORE;
        }
        *payload = hg_bytes(d->control, d->control_n);
        return f->opcode == WSLAY_PING ? HG_WS_PING : HG_WS_CLOSE;
    }
    if (is_whole && f->fin != 0) {
        d->is_in_message = false;
    }
    if (f->data_length == 0) {
        return HG_WS_MORE;
    }
    *payload = hg_bytes(f->data, f->data_length);
    return HG_WS_PAYLOAD;
}

enum hg_ws_event hg_ws_decoder_next(struct hg_ws_decoder *d, struct hg_bytes *in,
                                    const struct hg_ws_limits *limits, struct hg_bytes *payload_out,
                                    uint16_t *code_out)
{
    enum hg_ws_event event = HG_WS_MORE;
    *payload_out = HG_BYTES("");
    d->in = *in;
    while (event == HG_WS_MORE) {
        struct wslay_frame_iocb frame = {0};
        ssize_t n = wslay_frame_recv(d->wslay, &frame);
        if (n == WSLAY_ERR_WANT_READ) {
            break;
        }
        if (n < 0) {
            *code_out = WSLAY_CODE_PROTOCOL_ERROR;
            event = HG_WS_BROKEN;
            break;
        }
        event = take_piece(d, &frame, limits, payload_out, code_out);
    }
    *in = d->in;
    return event;
}

bool hg_ws_decoder_is_text(const struct hg_ws_decoder *d)
{
    return d->is_text;
}

bool hg_ws_decoder_is_idle(const struct hg_ws_decoder *d)
{
    return d->fed_n == d->framed_n && !d->is_in_message;
}

struct hg_ws_decoder *hg_ws_decoder_new(void)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = on_wslay_recv};
    struct hg_ws_decoder *d = hg_zalloc(sizeof(*d));
    if (d != NULL && wslay_frame_context_init(&d->wslay, &callbacks, d) != 0) {
        hg_free(d);
        return NULL;
    }
    return d;
}

void hg_ws_decoder_free(struct hg_ws_decoder *d)
{
    if (d != NULL) {
        wslay_frame_context_free(d->wslay);
        hg_free(d);
    }
}
