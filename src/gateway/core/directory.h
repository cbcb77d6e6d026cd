/* SPDX-License-Identifier: Apache-2.0 */
/* Which session owns a client identifier, across workers: the later claim wins (MQTT 3.1.1 section 3.1.4-2). Process-wide, locked,
 * touched on connect and disconnect only. */
#ifndef HG_CORE_DIRECTORY_H
#define HG_CORE_DIRECTORY_H

#include "base/bytes.h"
#include "base/list.h"

struct hg_worker;
struct hg_directory;
struct hg_claim;

struct hg_claim_ops {
    void (*on_granted)(
        struct hg_claim *claim); /* yours; from the loop, never from inside hg_claim_open */
    void (*on_lost)(
        struct hg_claim *
            claim); /* somebody claimed it after you: end the session, then hg_claim_close, which lets the other go on */
};

struct hg_claim { /* inside the session that claims; stays in place until hg_claim_close */
    struct hg_worker *worker;
    const struct hg_claim_ops *ops;
    uint64_t token; /* 0: not claimed */
};

struct hg_directory *hg_directory_new(void);
void hg_directory_free(struct hg_directory *d);
/* Claims client_id (copied) for a session on `worker`. False when there is no memory. */
bool hg_claim_open(struct hg_worker *worker, struct hg_claim *claim, struct hg_bytes client_id,
                   const struct hg_claim_ops *ops);
/* Gives it up, granted or not; no callback comes any more. Safe on a zeroed claim. */
void hg_claim_close(struct hg_claim *claim);

#endif
