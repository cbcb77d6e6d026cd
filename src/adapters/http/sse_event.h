/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as server-sent events (WHATWG HTML, section 9.2). */
#ifndef HG_HTTP_SSE_EVENT_H
#define HG_HTTP_SSE_EVENT_H

#include "message/message.h"

enum hg_sse_mode {
    HG_SSE_BODY,     /* data is the body, base64 in an event of that name if it is not UTF-8 */
    HG_SSE_ENVELOPE, /* data is a JSON object: all that is known of the message */
    HG_SSE_MODE_N
};

/* Names of events that are not the type of a message. */
#define HG_SSE_EVENT_BASE64  "headgate.base64"
#define HG_SSE_EVENT_LOST    "headgate.lost"
#define HG_SSE_EVENT_EXPIRED "headgate.token-expired"
/* The configuration was changed, and would not let the reader in any more. */
#define HG_SSE_EVENT_ENDED   "headgate.login-ended"

/* Appends one event: `id` (empty where it is none, or could not stand in a line: a missing one would
 * leave the browser with the id of the event before), `event` (unless it is "message") and `data`. */
void hg_sse_write_event(struct hg_writer *w, enum hg_sse_mode mode, const struct hg_message *m,
                        struct hg_bytes id, struct hg_bytes address, bool is_retained);

#endif
