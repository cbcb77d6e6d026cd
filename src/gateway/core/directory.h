/* SPDX-License-Identifier: Apache-2.0 */
/* Which session of a virtual host owns a client identifier, across workers: of one user's claims the
 * later wins (MQTT 3.1.1 section 3.1.4-2), of two users' the earlier. The process's, locked, touched
 * on connect and disconnect only. */
#ifndef HG_CORE_DIRECTORY_H
#define HG_CORE_DIRECTORY_H

#include "base/buf.h"
#include "base/list.h"
#include "base/status.h"

struct hg_realm;
struct hg_directory;
struct hg_claim;
struct hg_claim_record;
struct hg_mail;

struct hg_claim_ops { /* on the claim's worker, from the loop: never from inside a call below */
    /* It is yours: whoever had it before has closed its claim. */
    void (*on_granted)(struct hg_claim *claim);
    /* Somebody else has it, perhaps before it was granted: end the session, then hg_claim_close,
     * which lets the other go on. TAKEN_OVER: it was claimed after you; NOT_ALLOWED: another user
     * had claimed it at another process before. */
    void (*on_lost)(struct hg_claim *claim, enum hg_status why);
};

struct hg_claim { /* inside the session that claims; stays in place until hg_claim_close */
    const struct hg_claim_ops *ops;
    struct hg_claim_record *record; /* the directory's own; NULL: not claimed */
    uint64_t epoch;                 /* differs from that of every other claim of this process */
};

struct hg_claim_who {
    struct hg_bytes client_id, user; /* at most 65,535 bytes each */
    bool is_owned; /* by the user, empty: the anonymous one; false: it is anybody's, who says it */
};

/* NULL when there is no memory. */
struct hg_directory *hg_directory_new(void);
/* Every claim must have been closed. NULL is fine. */
void hg_directory_free(struct hg_directory *d);
/* Claims an identifier (copied, as the user is) for a session in `realm`. OK; NOT_ALLOWED: it is
 * another user's; NO_MEMORY. */
enum hg_status hg_claim_open(struct hg_realm *realm, struct hg_claim *claim,
                             const struct hg_claim_who *who, const struct hg_claim_ops *ops);
/* The identifier; empty where there is no claim. Borrowed until hg_claim_close. */
struct hg_bytes hg_claim_id(const struct hg_claim *claim);
/* The session is still there, but its client has gone: others may claim it now, and wait. */
void hg_claim_yield(struct hg_claim *claim);
/* Gives it up, granted or not; no callback comes any more. Safe on a zeroed claim. */
void hg_claim_close(struct hg_claim *claim);
/* A number that no claim has or will have. Any thread. */
uint64_t hg_directory_epoch(struct hg_directory *d);
struct hg_claimed {
    uint64_t at_ms; /* since 1970; 0: nobody has claimed it */
    bool is_owned;
};
/* The latest claim of this client that is still open; its user is appended to *user. Any thread. */
struct hg_claimed hg_directory_claimed(struct hg_directory *d, struct hg_bytes client_id,
                                       struct hg_writer *user);
/* Another process has the client now: local claims of it with this epoch are lost. Any thread. */
void hg_directory_evict(struct hg_directory *d, struct hg_bytes client_id, uint64_t epoch);
/* A client connected to another process at wall_ms (since 1970): local claims of the same user that
 * were opened before are lost, and those of other users that were opened after; of two at the same
 * time that of the process whose name comes first was before. True: another user's was before and is
 * still here, which the other process should be told. Any thread. */
bool hg_directory_meet(struct hg_directory *d, const struct hg_claim_who *who, uint64_t wall_ms,
                       bool is_ours_first);
/* For the worker's mailbox: HG_MAIL_CLAIM came. */
void hg_claim_on_mail(struct hg_mail *mail);

#endif
