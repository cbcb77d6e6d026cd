/* SPDX-License-Identifier: Apache-2.0 */
/* Which session of a virtual host owns a client identifier, across workers: the later claim wins
 * (MQTT 3.1.1 section 3.1.4-2). The process's, locked, touched on connect and disconnect only. */
#ifndef HG_CORE_DIRECTORY_H
#define HG_CORE_DIRECTORY_H

#include "base/bytes.h"
#include "base/list.h"

struct hg_realm;
struct hg_directory;
struct hg_claim;
struct hg_claim_record;
struct hg_mail;

struct hg_claim_ops { /* on the claim's worker, from the loop: never from inside a call below */
    /* It is yours: whoever had it before has closed its claim. */
    void (*on_granted)(struct hg_claim *claim);
    /* Somebody claimed it after you, perhaps before it was granted: end the session, then
     * hg_claim_close, which lets the other go on. */
    void (*on_lost)(struct hg_claim *claim);
};

struct hg_claim { /* inside the session that claims; stays in place until hg_claim_close */
    const struct hg_claim_ops *ops;
    struct hg_claim_record *record; /* the directory's own; NULL: not claimed */
    uint64_t epoch;                 /* differs from that of every other claim of this process */
};

/* NULL when there is no memory. */
struct hg_directory *hg_directory_new(void);
/* Every claim must have been closed. NULL is fine. */
void hg_directory_free(struct hg_directory *d);
/* Claims client_id (copied) for a session in `realm`. At most 65,535 bytes. False when there is no
 * memory. */
bool hg_claim_open(struct hg_realm *realm, struct hg_claim *claim, struct hg_bytes client_id,
                   const struct hg_claim_ops *ops);
/* The identifier; empty where there is no claim. Borrowed until hg_claim_close. */
struct hg_bytes hg_claim_id(const struct hg_claim *claim);
/* Gives it up, granted or not; no callback comes any more. Safe on a zeroed claim. */
void hg_claim_close(struct hg_claim *claim);
/* A number that no claim has or will have. Any thread. */
uint64_t hg_directory_epoch(struct hg_directory *d);
/* When (ms since 1970) the latest claim of this client that is still open was made; 0: none is. Any
 * thread. */
uint64_t hg_directory_claimed_ms(struct hg_directory *d, struct hg_bytes client_id);
/* Another process has the client now: local claims of it with this epoch are lost. Any thread. */
void hg_directory_evict(struct hg_directory *d, struct hg_bytes client_id, uint64_t epoch);
/* A client with this identifier connected to another process at wall_ms (since 1970): local claims
 * that were opened before are lost; at the same time, those of the process whose name comes first.
 * Any thread. */
void hg_directory_evict_older(struct hg_directory *d, struct hg_bytes client_id, uint64_t wall_ms,
                              bool is_ours_first);
/* For the worker's mailbox: HG_MAIL_CLAIM came. */
void hg_claim_on_mail(struct hg_mail *mail);

#endif
