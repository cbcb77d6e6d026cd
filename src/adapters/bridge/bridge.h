/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges: Headgate as a client of sites' MQTT brokers ([[bridge]]). */
#ifndef HG_BRIDGE_BRIDGE_H
#define HG_BRIDGE_BRIDGE_H

#include "core/adapter.h"

extern const struct hg_adapter hg_bridge_adapter;

#endif
