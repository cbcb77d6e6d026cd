/* SPDX-License-Identifier: Apache-2.0 */
/* Retained messages, from a session's side: publishing one is hg_publish with is_retained; this is
 * how a new subscription gets what is retained already. */
#ifndef HG_CORE_RETAIN_H
#define HG_CORE_RETAIN_H

#include "core/session.h"

/* After the subscription is live: hands it every retained message that its filter matches, through
 * hg_session_ops.deliver with is_retained set, once all that was retained before this call is known
 * here, and only as fast as hg_session_ops.wants_more allows. Ended by hg_unsubscribe. OK also where
 * there is nothing to serve; NO_MEMORY. */
enum hg_status hg_retained_serve(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter);
/* The same, but with HELD instead of OK `found` is called once, not from inside this call: what is to
 * be served is settled then, and what is retained later comes as it is published, and only so. Not
 * called after hg_unsubscribe. OK: there is nothing to wait for. */
enum hg_status hg_retained_serve_then(struct hg_session *s, struct hg_sub *sub,
                                      struct hg_bytes filter,
                                      void (*found)(struct hg_session *s, struct hg_sub *sub));
/* wants_more would say yes again. */
void hg_retained_resume(struct hg_session *s);

#endif
