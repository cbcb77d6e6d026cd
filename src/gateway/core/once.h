/* SPDX-License-Identifier: Apache-2.0 */
/* A request that is to be done once among all instances that share a state log: whoever's claim is
 * first in the log does it, and writes down how it was answered. A claim is renewed while its
 * request is under way; that of an instance which died runs out after [http] idempotency_claim, and
 * the next one to ask does it again. All on one worker, and in one virtual host. */
#ifndef HG_CORE_ONCE_H
#define HG_CORE_ONCE_H

#include "core/state_index.h"

struct hg_once;
struct hg_realm;

enum hg_once_state {
    HG_ONCE_WAITING,  /* for the log */
    HG_ONCE_OURS,     /* do it, then call hg_once_end */
    HG_ONCE_ANSWERED, /* elsewhere */
    HG_ONCE_UNDER_WAY,
    HG_ONCE_DIFFERS, /* the key belongs to another request */
    HG_ONCE_FULL,    /* no room for another request */
    HG_ONCE_AWAY     /* the log cannot be written or read; or no memory */
};

struct hg_once_ask {
    struct hg_realm *realm;
    struct hg_bytes key;          /* HG_REQUEST_KEY_MAX at most */
    struct hg_bytes target, body; /* what makes two requests the same one */
    /* It waits no more: see hg_once_look. From the loop. */
    void (*on_known)(void *ctx);
    void *ctx;
};

/* WAITING: sets *once_out; on_known follows. Else it is decided already, and *once_out is NULL.
 * ANSWERED fills *answer_out. */
enum hg_once_state hg_once_begin(const struct hg_once_ask *ask, struct hg_once **once_out,
                                 struct hg_request_answer *answer_out);
/* How it stands now; ANSWERED fills *answer_out. */
enum hg_once_state hg_once_look(struct hg_once *once, struct hg_request_answer *answer_out);
/* The answer, written to the log before this returns; one whose body is longer than
 * HG_REQUEST_BODY_MAX is kept as a 409 that says so. body NULL: the request came to nothing, and
 * somebody else may try it. Frees it; on_known is not called any more. */
void hg_once_end(struct hg_once *once_own, unsigned status, const char *type,
                 const struct hg_bytes *body);

#endif
