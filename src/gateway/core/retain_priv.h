/* SPDX-License-Identifier: Apache-2.0 */
/* What session.c, subscribe.c and routing.c ask of retain.c. */
#ifndef HG_CORE_RETAIN_PRIV_H
#define HG_CORE_RETAIN_PRIV_H

#include "core/session.h"

struct hg_routing;

/* OK, or why a retained publish is refused now: NO_RETAIN, TOO_MANY. */
enum hg_status hg_retain_check(struct hg_session *s, const struct hg_published *to, size_t bytes,
                               const char **why_out);
/* The header BCC, which sends a copy to the log: into `text`, valid as long as that. False: this
 * exchange takes two publishes. */
bool hg_retain_bcc(struct hg_session *s, struct hg_bytes exchange, struct hg_writer *text,
                   struct hg_header *out);
/* The message for the log where BCC cannot bring it there; NULL when there is no memory. */
struct hg_message *hg_retain_log_message(struct hg_session *s,
                                         const struct hg_message_parts *parts);
/* Publishes `to_log` (NULL: BCC does that), then the message; settles the session's publish when
 * this process knows it. Both are consumed whatever is returned. As hg_publisher_publish. */
enum hg_status hg_retain_publish(struct hg_session *s, const struct hg_publish_args *args,
                                 struct hg_message **to_log_own, struct hg_message **message_own);

/* A live message is shown to the session: what was retained under its name before must not follow,
 * or the subscriber would end with the older one. */
void hg_retain_saw(struct hg_session *s, const struct hg_message *m);
/* No retained message comes for this subscription any more. */
void hg_retain_end(struct hg_sub *sub);
/* The session is going: nothing is served or settled any more, what is half published goes on. */
void hg_retain_detach(struct hg_session *s);
/* Frees what went on; after the publisher was closed. */
void hg_retain_close(struct hg_routing *r);

#endif
