/* SPDX-License-Identifier: Apache-2.0 */
/* What was sent to a site and will come back from it, where MQTT 3.1.1 cannot say "no local": a
 * bounded memory of fingerprints, each good for one message. */
#ifndef HG_BRIDGE_ECHO_H
#define HG_BRIDGE_ECHO_H

#include "base/bytes.h"

enum { HG_BRIDGE_ECHO_MS = 30000 }; /* how long one is awaited */

struct hg_bridge_echo_entry;

struct hg_bridge_echo {
    struct hg_bridge_echo_entry *ring; /* the oldest is overwritten; NULL: not open */
    size_t cap, next;
    uint64_t seed[2];
};

/* cap: at least 1. False when there is no memory. */
bool hg_bridge_echo_open(struct hg_bridge_echo *e, size_t cap);
void hg_bridge_echo_close(struct hg_bridge_echo *e); /* a zeroed one is fine */
/* Both do nothing on one that is not open. */
void hg_bridge_echo_sent(struct hg_bridge_echo *e, struct hg_bytes topic, struct hg_bytes body,
                         uint64_t now_ms);
/* True: it was sent from here, and is forgotten now. */
bool hg_bridge_echo_take(struct hg_bridge_echo *e, struct hg_bytes topic, struct hg_bytes body,
                         uint64_t now_ms);

#endif
