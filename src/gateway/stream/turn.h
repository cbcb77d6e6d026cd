/* SPDX-License-Identifier: Apache-2.0 */
/* What a net's turns need, as net.c sees it. */
#ifndef HG_STREAM_TURN_H
#define HG_STREAM_TURN_H

#include "stream/net.h"

/* False when there is no memory or descriptor. */
bool hg_turn_open(struct hg_net *net);
/* Turns go on until libuv's loop has nothing left. */
void hg_turn_close(struct hg_net *net);
/* After the last turn. */
void hg_turn_free(struct hg_net *net);

#endif
