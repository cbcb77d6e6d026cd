/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 and 3.1.1 (3.1 accepted), over plain TCP and over WebSocket, as a session of the gateway. */
#ifndef HG_MQTT_SESSION_H
#define HG_MQTT_SESSION_H

#include "core/adapter.h"

extern const struct hg_adapter hg_mqtt_adapter;

#endif
