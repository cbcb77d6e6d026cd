/* SPDX-License-Identifier: Apache-2.0 */
/* What a client may take of what all share: connections by address and user, TLS handshakes, and the
 * rates of what it publishes. Sizes are for those to judge who read them; what every limit has refused
 * is counted by its name. */
#ifndef HG_CORE_ALLOWANCE_H
#define HG_CORE_ALLOWANCE_H

#include "base/meter.h"
#include "core/session.h"
#include "core/tally.h"
#include "core/worker.h"

struct hg_allowances {          /* of the process, for all workers */
    struct hg_gate connections; /* of all listeners but the admin ones */
    struct hg_tally *addresses, *users;
    struct hg_meters handshakes;
};

/* NULL when there is no memory. */
struct hg_allowances *hg_allowances_new(void);
/* After all connections. NULL is fine. */
void hg_allowances_free(struct hg_allowances *all);
/* What is not read from the configuration each time: the gates of the process and the listeners. Of
 * the supervisor. */
void hg_allowances_apply(struct hg_gateway *g, const struct hg_config *config);

/* A connection's part in it, made when a limit first needs one. */
struct hg_allowance;

/* ---- Connections: TOO_MANY is counted and logged ---- */

/* It has come from there, or a PROXY header said so. */
enum hg_status hg_allowance_enter(struct hg_worker *w, struct hg_conn *c);
/* A TLS handshake may begin. */
bool hg_allowance_may_shake(struct hg_worker *w);
/* Its client is this user, from here on; "" is nobody. */
enum hg_status hg_allowance_be_user(struct hg_session *s, struct hg_bytes user,
                                    const char **why_out);
/* The connection ends. */
void hg_allowance_leave(struct hg_allowance *allowance_own); /* NULL is fine */

/* ---- Rates ---- */

/* What becomes of a message that is too fast. */
enum hg_patience {
    HG_PATIENCE_WAITS, /* for [limits] rate_wait at most */
    HG_PATIENCE_ASKS,  /* it is refused, and will be tried again: no log line, not counted */
    HG_PATIENCE_NONE   /* it is refused */
};

/* The message at hand is counted: by the client's rates where rule is NULL, by the rule's else. OK:
 * it may go on. HELD: too fast; the connection is held (HG_HOLD_RATE), as by hg_publish, and what has
 * been paid stays so until hg_allowance_paid. TOO_FAST: refused, and *why_out is static text. */
enum hg_status hg_allowance_charge(struct hg_session *s, const struct hg_rule_spec *rule,
                                   uint64_t bytes, enum hg_patience patience, const char **why_out);
static inline enum hg_status hg_allowance_pay(struct hg_session *s, const struct hg_rule_spec *rule,
                                              uint64_t bytes, enum hg_patience patience,
                                              const char **why_out)
{
    bool is_limited =
        rule == NULL ? hg_rates_are_set(&s->worker->config->client_rates) : rule->meter != NULL;
    return is_limited && s->conn != NULL ? hg_allowance_charge(s, rule, bytes, patience, why_out)
                                         : HG_OK;
}
/* What may wait has been published, or refused: the next message pays anew. */
void hg_allowance_paid(struct hg_session *s);
/* After TOO_FAST: when to come again, in seconds. */
unsigned hg_allowance_retry_after_s(const struct hg_session *s);

#endif
