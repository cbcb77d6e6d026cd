/* SPDX-License-Identifier: Apache-2.0 */
/* STOMP 1.0 to 1.2, over plain TCP and over WebSocket, as a session of the gateway. */
#ifndef HG_STOMP_SESSION_H
#define HG_STOMP_SESSION_H

#include "core/adapter.h"

extern const struct hg_adapter hg_stomp_adapter;

#endif
