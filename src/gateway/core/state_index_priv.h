/* SPDX-License-Identifier: Apache-2.0 */
/* The index inside, for state_index.c (the writer), state_request.c (requests) and state_lookup.c
 * (the readers). */
#ifndef HG_CORE_STATE_INDEX_PRIV_H
#define HG_CORE_STATE_INDEX_PRIV_H

#include "base/map.h"
#include "core/address_tree.h"
#include "core/retained.h"
#include "core/state_message.h"

#include <uv.h>

enum { HG_STATE_MESSAGE_EXTRA = 160 }; /* bytes of a message in a stream besides its texts, about */

enum item_kind { ITEM_SESSION, ITEM_RETAINED, ITEM_REQUEST };

struct item {            /* what every kind of key is to the log */
    struct hg_list link; /* in live or copying, by position; or in gone, by time */
    uint64_t version;
    uint64_t at; /* position, in bytes read by this process; of what is gone: when, in ms */
    uint64_t hash;
    uint32_t bytes; /* of its message in the log */
    uint8_t kind;   /* enum item_kind */
    bool is_gone, is_copying;
    /* Of what is gone: a copy came after it, and is not cleared yet. Who began to read the log in
     * between believes that copy. */
    bool is_haunted;
};

struct retained {
    struct item item;
    struct hg_retained *blob; /* its name is the key; without a body where it is gone */
    struct hg_address_node *nodes;
};

struct session {
    struct item item;
    struct hg_session_record *record; /* NULL: gone */
    struct hg_state_owner previous;
    uint16_t id_n;
    uint8_t id[];
};

struct hg_state_index {
    uv_rwlock_t lock; /* only the writer changes anything, and reads without it */
    const struct hg_rules *rules;
    struct hg_bytes log_name;
    struct hg_state_limits limits;
    uint64_t boot_id;
    struct hg_map retained, sessions, requests;
    struct hg_address_tree addresses;
    struct hg_list live, copying, gone;
    struct hg_list answered, open; /* requests, by age */
    uint64_t read_bytes;           /* of the log */
    uint64_t digest;               /* the sum over what is live */
    size_t swept_at;
    struct hg_state_index_stats stats;
};

/* state_index.c */
/* Bytes of the message in the log, about. */
uint32_t hg_state_log_bytes(const struct hg_message *m);
/* The copy on its way was overtaken: the next one is due at once. */
void hg_state_item_copy_again(struct hg_state_index *x, struct item *item);

/* state_request.c, for the writer; under the lock but for _copy. */
void hg_state_request_apply(struct hg_state_index *x, const struct hg_message *m,
                            const struct hg_state_message *message, uint64_t version,
                            struct hg_state_change *out);
void hg_state_request_forget(struct hg_state_index *x, struct item *item);
struct hg_message *hg_state_request_copy(struct hg_state_index *x, struct item *item);
void hg_state_request_sweep(struct hg_state_index *x, uint64_t now_ms);

#endif
