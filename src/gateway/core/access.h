/* SPDX-License-Identifier: Apache-2.0 */
/* What a session may do, by the rules' allow and, for RabbitMQ's own names, by [[access]]. In a
 * gateway without identities everybody may everything. */
#ifndef HG_CORE_ACCESS_H
#define HG_CORE_ACCESS_H

#include "core/config_access.h"
#include "core/session.h"
#include "rules/access.h"

/* Who it is to the rules; NULL: somebody who may everything. */
const struct hg_rule_who *hg_session_who(struct hg_session *s, struct hg_rule_who *room);

/* OK; or NOT_ALLOWED, counted and logged, *why_out is static text. */
enum hg_status hg_access_queue(struct hg_session *s, enum hg_access_action action,
                               struct hg_bytes queue, const char **why_out);
/* The same; key: for SUBSCRIBE a binding key, whose wildcards may meet more than is allowed: then
 * each delivery is asked about. */
enum hg_status hg_access_exchange(struct hg_session *s, enum hg_access_action action,
                                  struct hg_bytes exchange, struct hg_bytes key,
                                  const char **why_out);

/* ---- For the core ---- */

/* Counts and logs that it may not; NOT_ALLOWED. */
enum hg_status hg_access_deny(struct hg_session *s, const char *action, struct hg_bytes subject,
                              const char *rule);
/* Whether it may be shown a message: by an address, and by the rule that mapped it back (SIZE_MAX:
 * none did); by RabbitMQ's names. Counts those that it may not. */
bool hg_access_may_see(struct hg_session *s, struct hg_bytes address, size_t mapped_by);
bool hg_access_may_see_gate(struct hg_session *s, const struct hg_rule_gate *gate);
bool hg_access_may_see_source(struct hg_session *s, const struct hg_message *m);

#endif
