/* SPDX-License-Identifier: Apache-2.0 */
/* The deliveries of one channel that have no answer yet, and the acknowledgements to be sent: those
 * of one turn together, as one `multiple` where nothing older is without an answer. Bookkeeping
 * only. */
#ifndef HG_UPSTREAM_UNANSWERED_H
#define HG_UPSTREAM_UNANSWERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hg_unanswered_entry;

struct hg_unanswered {                   /* zeroed: empty */
    struct hg_unanswered_entry *entries; /* by tag; the first one is never settled */
    size_t head, n, cap;
    size_t open_n;  /* no answer yet */
    size_t acked_n; /* to be sent */
};

/* Forgets them: a new channel counts anew. */
void hg_unanswered_reset(struct hg_unanswered *u);
void hg_unanswered_close(struct hg_unanswered *u);

/* A delivery; tags grow. `mark` is the caller's, for hg_unanswered_oldest. False when there is no
 * memory. */
bool hg_unanswered_add(struct hg_unanswered *u, uint64_t tag, uint64_t mark);
/* The mark of the oldest without an answer; false: there is none. */
bool hg_unanswered_oldest(const struct hg_unanswered *u, uint64_t *mark_out);
/* Its acknowledgement is to be sent. False: it has its answer, or there is none of this tag. */
bool hg_unanswered_ack(struct hg_unanswered *u, uint64_t tag);
/* Those of all that have no answer are. */
void hg_unanswered_ack_all(struct hg_unanswered *u);
/* It was answered in another way. False as above. */
bool hg_unanswered_settle(struct hg_unanswered *u, uint64_t tag);
/* The next acknowledgement to send; false: there is none (left). */
bool hg_unanswered_take(struct hg_unanswered *u, uint64_t *tag_out, bool *is_multiple_out);

#endif
