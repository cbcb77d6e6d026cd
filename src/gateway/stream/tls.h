/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a stream on a stream. Between records it holds no buffer: OpenSSL reads from the lower
 * stream's input and writes into its output, and what is written in a loop turn shares records. */
#ifndef HG_STREAM_TLS_H
#define HG_STREAM_TLS_H

#include "stream/net.h"
#include "stream/tls_context.h"

/* The server's side over an accepted stream, whose user it becomes. It is open from the start: what
 * is written waits for the end of the handshake, which may take timeout_ms. NULL when there is no
 * memory: then the lower stream closes. */
struct hg_stream *hg_tls_accept(struct hg_net *net, struct hg_stream *lower_own,
                                struct hg_tls_context *context, uint64_t timeout_ms,
                                const struct hg_stream_user *user, void *ctx);

/* hg_tcp_connect, and TLS on it; timeout_ms covers the handshake too. The server's certificate must
 * be for `host`. */
struct hg_stream *hg_tls_connect(struct hg_net *net, struct hg_tls_context *context,
                                 const char *host, uint16_t port, uint64_t timeout_ms,
                                 const struct hg_stream_user *user, void *ctx);

/* What the streams of a net shared; after the last of them. */
void hg_tls_close(struct hg_net *net);

#endif
