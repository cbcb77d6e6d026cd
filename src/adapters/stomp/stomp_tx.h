/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: SEND, ACK and NACK wait in one, checked as far as they can be, and COMMIT carries
 * them out in their order. They are copied frames, and go the same way then as without a
 * transaction. */
#ifndef HG_STOMP_TX_H
#define HG_STOMP_TX_H

#include "adapters/stomp/stomp_priv.h"

/* BEGIN, COMMIT, ABORT (STOMP 1.2 sections of these names). */
enum hg_stomp_verdict hg_stomp_on_begin(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame,
                                        struct hg_stomp_failure *f);
enum hg_stomp_verdict hg_stomp_on_commit(struct hg_stomp_session *s,
                                         const struct hg_stomp_frame *frame,
                                         struct hg_stomp_failure *f);
enum hg_stomp_verdict hg_stomp_on_abort(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame,
                                        struct hg_stomp_failure *f);

static inline bool hg_stomp_is_in_tx(const struct hg_stomp_frame *frame)
{
    return hg_stomp_find(frame, "transaction") != NULL;
}
/* Whether the transaction that the frame names exists and has room for it; else FAILED. */
enum hg_stomp_verdict hg_stomp_tx_admits(struct hg_stomp_session *s,
                                         const struct hg_stomp_frame *frame,
                                         struct hg_stomp_failure *f);
/* Puts a checked frame into the transaction that it names, and sends its receipt: it stands for no
 * more than that. */
enum hg_stomp_verdict hg_stomp_tx_add(struct hg_stomp_session *s,
                                      const struct hg_stomp_frame *frame,
                                      struct hg_stomp_failure *f);
/* Aborts what is left of them. */
void hg_stomp_free_transactions(struct hg_stomp_session *s);

#endif
