/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a proxy says first whose
 * connection it forwards. The decoder is sans-I/O; the stream takes the header off a connection. */
#ifndef HG_STREAM_PROXY_H
#define HG_STREAM_PROXY_H

#include "stream/stream.h"

#include <sys/types.h>

enum { HG_PROXY_V1_MAX = 107, HG_PROXY_PEER_SIZE = 56 };

/* Zero-initialise to start. */
struct hg_proxy_decoder {
    uint8_t buf[HG_PROXY_V1_MAX];
    uint8_t n;
    uint32_t skip_n; /* bytes of the header still to come that say nothing to us */
    bool is_done;
    /* "192.0.2.7:1234", "[2001:db8::1]:1234"; empty: the connection is the proxy's own */
    char peer[HG_PROXY_PEER_SIZE];
};

/* Takes bytes of the header; returns how many were used: less than all only once is_done. < 0: it is
 * no header, and *err says why. However the input is split, the outcome is the same. */
ssize_t hg_proxy_decode(struct hg_proxy_decoder *d, struct hg_bytes in, struct hg_error *err);

/* A stream over `lower` whose input begins behind the header, and whose peer is the one that the
 * header names. What begins otherwise ends it: on_broken, then on_closed(MALFORMED). NULL when there
 * is no memory: then the lower stream closes. */
struct hg_stream *hg_proxy_accept(struct hg_stream *lower_own);

#endif
