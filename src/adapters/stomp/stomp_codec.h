/* SPDX-License-Identifier: Apache-2.0 */
/* STOMP 1.0, 1.1 and 1.2 frames <-> bytes, sans-I/O. The versions differ only in what headers may
 * escape, so the version is an argument. */
#ifndef HG_STOMP_CODEC_H
#define HG_STOMP_CODEC_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

#include <sys/types.h>

enum hg_stomp_version { HG_STOMP_V10, HG_STOMP_V11, HG_STOMP_V12, HG_STOMP_VERSION_N };

/* name, sent by (C: client, S: server), whether it may have a body (STOMP 1.2 sections "Client
 * Frames", "Server Frames"). */
#define HG_STOMP_COMMAND_MAP(X) \
    X(CONNECT, C, false)        \
    X(STOMP, C, false)          \
    X(SEND, C, true)            \
    X(SUBSCRIBE, C, false)      \
    X(UNSUBSCRIBE, C, false)    \
    X(ACK, C, false)            \
    X(NACK, C, false)           \
    X(BEGIN, C, false)          \
    X(COMMIT, C, false)         \
    X(ABORT, C, false)          \
    X(DISCONNECT, C, false)     \
    X(CONNECTED, S, false)      \
    X(MESSAGE, S, true)         \
    X(RECEIPT, S, false)        \
    X(ERROR, S, true)

enum hg_stomp_command {
#define X(name, sender, has_body) HG_STOMP_##name,
    HG_STOMP_COMMAND_MAP(X)
#undef X
        HG_STOMP_COMMAND_N,
    HG_STOMP_HEARTBEAT = HG_STOMP_COMMAND_N /* line ends between frames: no headers, no body */
};
const char *hg_stomp_command_name(enum hg_stomp_command c); /* "SEND"; "heart-beat" */

struct hg_stomp_limits {
    size_t max_frame_bytes;  /* the whole frame with its NUL; at most 1 GiB */
    size_t max_header_bytes; /* command and all header lines together */
    size_t max_headers_n;    /* header lines, repeated ones included */
};

struct hg_stomp_header {
    struct hg_bytes name, value; /* unescaped; name is not empty */
};

/* A frame decoded. One struct serves any number of hg_stomp_decode calls; zero it before the first,
 * close it after the last. */
struct hg_stomp_frame {
    enum hg_stomp_command command;
    struct hg_bytes body;
    const struct hg_stomp_header *headers; /* in the order sent; of repeated ones the first only */
    size_t headers_n;
    void *block; /* holds `headers` and what had to be unescaped */
    size_t block_bytes;
};
void hg_stomp_frame_close(struct hg_stomp_frame *frame);

/* How far into a frame that is not complete yet the decoder has looked. Zero is the start of a
 * frame. */
struct hg_stomp_decoder {
    uint32_t scan_at; /* bytes searched */
    uint32_t line_at; /* start of the line that is not complete */
    uint32_t body_at; /* 0: the head is not complete */
    uint32_t body_n;  /* by content-length */
    uint32_t headers_n;
    uint8_t command;
    bool has_length;
    bool has_failed;
};

/* Decodes at most one frame, or the line ends before it (HG_STOMP_HEARTBEAT). The first frame, which
 * tells the version, is read as 1.0. No I/O, no globals;
 * allocates only out->block. Returns bytes used (> 0; *out borrows from `in` and from itself, until
 * the next call with either); 0 if incomplete: keep the bytes and call again with them and more;
 * < 0: *err says what is wrong, `at` counting from the start of the frame, and the decoder refuses
 * all that follows. Splitting the input costs nothing: what has been searched is not searched
 * again. */
ssize_t hg_stomp_decode(struct hg_stomp_decoder *dec, const struct hg_stomp_limits *limits,
                        enum hg_stomp_version version, struct hg_bytes in,
                        struct hg_stomp_frame *out, struct hg_error *err);

/* NULL if the frame has no such header; names compare exactly. */
const struct hg_bytes *hg_stomp_find(const struct hg_stomp_frame *frame, const char *name);
/* Its value, empty if absent. */
struct hg_bytes hg_stomp_get(const struct hg_stomp_frame *frame, const char *name);

/* A frame is written as its command, its headers, and one of the two ends. */
void hg_stomp_write_command(struct hg_writer *w, enum hg_stomp_command command);
/* Whether it can stand in a header: UTF-8 without a NUL, which clients take for the frame's end. */
bool hg_stomp_is_text(struct hg_bytes text);
/* Escapes as the version does; CONNECTED is not escaped, write it as 1.0. A line end inside a 1.0
 * header, which has no form there, is written as 1.1 would. Headers without a name, or that are no
 * text, are left out. */
void hg_stomp_write_header(struct hg_writer *w, enum hg_stomp_version version, struct hg_bytes name,
                           struct hg_bytes value);
/* The same for what goes into a header's value in pieces. */
void hg_stomp_write_escaped(struct hg_writer *w, enum hg_stomp_version version,
                            struct hg_bytes text);
void hg_stomp_write_end(struct hg_writer *w);
void hg_stomp_write_body(struct hg_writer *w, struct hg_bytes body); /* with content-length */

#endif
