/* SPDX-License-Identifier: Apache-2.0 */
/* A client's WebSocket frames (RFC 6455), sans-I/O: bytes in, events out. wslay parses and unmasks
 * frames; what makes messages of them, control frames, UTF-8 and limits is here, because at the
 * level of messages wslay 1.1 checks close frames wrongly when they arrive in pieces, and keeps
 * twice the memory. */
#ifndef HG_STREAM_WS_DECODER_H
#define HG_STREAM_WS_DECODER_H

#include "stream/net.h"

struct hg_ws_decoder;

enum hg_ws_event {
    HG_WS_MORE,    /* all input is used up */
    HG_WS_PAYLOAD, /* a piece of a message */
    HG_WS_PING,    /* to be answered with the same payload */
    HG_WS_CLOSE,   /* likewise, and then nothing more is said */
    HG_WS_BROKEN   /* *code_out says how (section 7.4.1); the decoder is of no further use */
};

/* About 4.5 KB. NULL when there is no memory. */
struct hg_ws_decoder *hg_ws_decoder_new(void);
void hg_ws_decoder_free(struct hg_ws_decoder *d);

/* The next event in *in, which is moved on. *payload_out is borrowed until the next call and never
 * larger than what `in` held. However the input is split, no byte is looked at more than twice. */
enum hg_ws_event hg_ws_decoder_next(struct hg_ws_decoder *d, struct hg_bytes *in,
                                    const struct hg_ws_limits *limits, struct hg_bytes *payload_out,
                                    uint16_t *code_out);

/* Whether the last payload was of a text message. */
bool hg_ws_decoder_is_text(const struct hg_ws_decoder *d);

/* Nothing is incomplete: the decoder holds no state, and may go on with another connection's
 * bytes. */
bool hg_ws_decoder_is_idle(const struct hg_ws_decoder *d);

#endif
