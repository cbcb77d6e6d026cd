/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams, as the other files of this folder see them. */
#ifndef HG_STREAM_TCP_H
#define HG_STREAM_TCP_H

#include "stream/net.h"

/* What the net's TCP streams share. False when there is no memory or descriptor. */
bool hg_tcp_open(struct hg_net *net, size_t slab_n);
void hg_tcp_close(struct hg_net *net);

/* A stream on an accepted, non-blocking socket, which the gate (it may be NULL) has let in and which
 * leaves it when it closes. NULL when there is no memory; fd and gate are taken care of in either
 * case. */
struct hg_stream *hg_tcp_accept(struct hg_net *net, int fd_own, struct hg_gate *gate);

/* Writes what dirty streams have queued, as far as the kernel takes it: at most n of them, those to
 * servers first, then the longest waiting. Returns how many it was. */
size_t hg_tcp_flush_dirty(struct hg_net *net, size_t n);
/* The end of every turn: deferred work, then output, then, where none is left, the space that was
 * asked for. Flushing may call on_drained, whose output and deferred work belong to this turn too.
 * True: it slept. */
bool hg_net_end_turn(struct hg_net *net);

/* A socket has been closed: listeners that lack descriptors try again. */
void hg_listener_wake_all(struct hg_net *net);

#endif
