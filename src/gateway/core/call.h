/* SPDX-License-Identifier: Apache-2.0 */
/* A call: a publish whose answer is a message, the reply that its receiver sends to the request's
 * reply_to with the request's correlation_id. */
#ifndef HG_CORE_CALL_H
#define HG_CORE_CALL_H

#include "core/session.h"

struct hg_call;

/* The call's one outcome, from the loop; its handle is invalid. OK: with the reply, borrowed. Else
 * NULL, and NO_REPLY; TIMED_OUT: the link was lost, nobody knows; BROKER_AWAY: it was not sent; or as
 * hg_session_ops.settled. `reason` is borrowed. */
typedef void hg_call_done_fn(void *ctx, enum hg_status outcome, struct hg_bytes reason,
                             struct hg_message *reply);

/* Publishes as hg_publish does, mandatory, once, with a reply_to and a correlation_id of the
 * gateway's own; what the args have for the latter travels in the header x-correlation-id. Their
 * timeout_ms (not 0) is the wait for the reply; id, wants_outcome and is_retained say nothing here.
 * OK: `done` follows. HELD as there. Else refused now; TOO_MANY past [http] rpc_max. */
enum hg_status hg_call_begin(struct hg_session *s, const struct hg_publish_args *args,
                             hg_call_done_fn *done, void *ctx, struct hg_call **call_out,
                             const char **why_out);
/* Nobody waits for it any more: `done` is not called, its reply is dropped and counted. NULL is
 * fine. The session may go before its calls, not its worker. */
void hg_call_forget(struct hg_call *call);

#endif
