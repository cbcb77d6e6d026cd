/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that read more slowly than messages come: what becomes of messages that may be lost (QoS
 * 0, ack:auto, server-sent events), by the `slow` of the rule that maps them back. A session is slow
 * from the first message that its output has no room for until the output has drained. */
#ifndef HG_CORE_SLOW_H
#define HG_CORE_SLOW_H

#include "core/session.h"

/* For an adapter's deliver, before it sends n bytes: true: it is to send them. False: the message is
 * done with: it waits and is delivered again, or is lost, or the client is told to go. What must not
 * be lost (must_keep, is_retained, of a queue) is always to be sent. */
bool hg_slow_admits(struct hg_session *s, const struct hg_delivery *d, struct hg_sub *matches,
                    size_t n);

/* ---- For the core ---- */

struct hg_slow_stats {
    size_t waiting_n, waiting_bytes; /* now */
    uint64_t dropped_n;              /* since it became slow */
};
/* False, and all zero: it is not slow. */
bool hg_slow_stats(const struct hg_session *s, struct hg_slow_stats *out);
/* Its output has drained: what waits goes out, as far as there is room. */
void hg_slow_resume(struct hg_session *s);
/* The subscription ends, and what waits for it with it. */
void hg_slow_forget(struct hg_sub *sub);
/* The connection ends. Nothing waits any more. */
void hg_slow_end(struct hg_session *s);

#endif
