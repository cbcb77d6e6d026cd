/* SPDX-License-Identifier: Apache-2.0 */
/* What a site has sent already: after a lost connection it repeats, with DUP and the same packet
 * identifiers, what it has seen no acknowledgement of, though the acknowledgement may only have been
 * lost on its way. A bounded memory of what came last. */
#ifndef HG_BRIDGE_REPEAT_H
#define HG_BRIDGE_REPEAT_H

#include "base/bytes.h"

struct hg_bridge_repeat_entry;

struct hg_bridge_repeat {
    struct hg_bridge_repeat_entry *ring; /* the oldest is overwritten */
    size_t cap, next;
    uint64_t seed[2];
};

/* cap: messages that a site may have under way, at least 1. False when there is no memory. */
bool hg_bridge_repeat_open(struct hg_bridge_repeat *r, size_t cap);
void hg_bridge_repeat_close(struct hg_bridge_repeat *r); /* a zeroed one is fine */
/* A message with QoS 1 or 2 came. True: it has come before, and this is its repetition. */
bool hg_bridge_repeat_came(struct hg_bridge_repeat *r, uint16_t mid, struct hg_bytes topic,
                           struct hg_bytes body, bool is_dup);
/* The site has a new session: it repeats nothing. */
void hg_bridge_repeat_clear(struct hg_bridge_repeat *r);

#endif
