/* SPDX-License-Identifier: Apache-2.0 */
/* The index inside, for state_index.c (the writer) and state_lookup.c (the readers). */
#ifndef HG_CORE_STATE_INDEX_PRIV_H
#define HG_CORE_STATE_INDEX_PRIV_H

#include "base/map.h"
#include "core/address_tree.h"
#include "core/retained.h"
#include "core/state_message.h"

#include <uv.h>

enum { HG_STATE_MESSAGE_EXTRA = 160 }; /* bytes of a message in a stream besides its texts, about */

struct item {            /* what both kinds of keys are to the log */
    struct hg_list link; /* in live or copying, by position; or in gone, by time */
    uint64_t version;
    uint64_t at; /* position, in bytes read by this process; of what is gone: when, in ms */
    uint64_t hash;
    uint32_t bytes; /* of its message in the log */
    bool is_retained, is_gone, is_copying;
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
    struct hg_map retained, sessions;
    struct hg_address_tree addresses;
    struct hg_list live, copying, gone;
    uint64_t read_bytes; /* of the log */
    uint64_t digest;     /* the sum over what is live */
    size_t swept_at;
    struct hg_state_index_stats stats;
};

#endif
