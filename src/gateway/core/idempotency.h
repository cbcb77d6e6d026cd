/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a client numbered, so that one it sends again is answered and not done again: key ->
 * answer, for a time, up to a number and a size (draft-ietf-httpapi-idempotency-key-header).
 * Process-wide, locked: any thread. */
#ifndef HG_CORE_IDEMPOTENCY_H
#define HG_CORE_IDEMPOTENCY_H

#include "base/buf.h"

struct hg_idempotency;
struct hg_idempotency_entry; /* a request under way */

struct hg_idempotency_limits {
    size_t max_n;       /* keys, those under way included */
    uint64_t max_bytes; /* of answers; the oldest are forgotten first */
    uint64_t window_ms; /* from the answer on */
};

enum hg_idempotency_state {
    HG_IDEMPOTENCY_FIRST,     /* do it, then call _end with the entry */
    HG_IDEMPOTENCY_DONE,      /* the answer is known */
    HG_IDEMPOTENCY_UNDER_WAY, /* it is being done now */
    HG_IDEMPOTENCY_DIFFERS,   /* the key belongs to another request */
    HG_IDEMPOTENCY_FULL       /* no room for another key, or no memory */
};

struct hg_idempotency_answer {
    unsigned status;
    const char *type; /* static */
    struct hg_writer body;
};

/* NULL when there is no memory. */
struct hg_idempotency *hg_idempotency_new(const struct hg_idempotency_limits *limits);
/* Nothing is under way any more. NULL is fine. */
void hg_idempotency_free(struct hg_idempotency *x);
/* target and body: what makes two requests the same one. FIRST sets *entry_out; DONE fills
 * *answer_out, whose body is the caller's to close (if it failed, there was no memory). */
enum hg_idempotency_state hg_idempotency_begin(struct hg_idempotency *x, struct hg_bytes key,
                                               struct hg_bytes target, struct hg_bytes body,
                                               struct hg_idempotency_entry **entry_out,
                                               struct hg_idempotency_answer *answer_out);
/* The answer, or NULL: the request came to nothing and may be tried again. type must be static. */
void hg_idempotency_end(struct hg_idempotency *x, struct hg_idempotency_entry *entry_own,
                        unsigned status, const char *type, const struct hg_bytes *body);

#endif
