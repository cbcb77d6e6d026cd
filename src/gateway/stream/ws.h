/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket streams, as the other files of this folder see them. */
#ifndef HG_STREAM_WS_H
#define HG_STREAM_WS_H

#include "stream/net.h"

void hg_ws_decoders_free(struct hg_net *net);

#endif
