/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams, as the other files of this folder see them. */
#ifndef HG_STREAM_TCP_H
#define HG_STREAM_TCP_H

#include "stream/net.h"

/* Where the net's TCP streams come from, so many at a time. */
void hg_tcp_pool_open(struct hg_pool *pool, size_t slab_n);

/* A stream on an accepted, non-blocking socket, which the gate (it may be NULL) has let in and which
 * leaves it when it closes. NULL when there is no memory; fd and gate are taken care of in either
 * case. */
struct hg_stream *hg_tcp_accept(struct hg_net *net, int fd_own, struct hg_gate *gate);

/* Writes what dirty streams have queued, as far as the kernel takes it: at most n of them, those to
 * servers first, then the longest waiting. Returns how many it was. */
size_t hg_tcp_flush_dirty(struct hg_net *net, size_t n);
/* Tells the users of those that have ended; who ends meanwhile is for the next time. Once this turn's
 * events have been handled, any of which may name them. */
void hg_tcp_bury_ended(struct hg_net *net);

/* A socket has been closed: listeners that lack descriptors try again. */
void hg_listener_wake_all(struct hg_net *net);

#endif
