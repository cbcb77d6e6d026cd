/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of packet identifiers and fingerprints. */
#include "adapters/bridge/bridge_repeat.h"

#include "base/map.h"
#include "base/mem.h"

struct hg_bridge_repeat_entry {
    uint64_t print;
    uint16_t mid; /* 0: empty */
};

bool hg_bridge_repeat_open(struct hg_bridge_repeat *r, size_t cap)
{
    *r = (struct hg_bridge_repeat){.cap = cap, .seed = {hg_random_u64(), hg_random_u64()}};
    r->ring = hg_zalloc(cap * sizeof(*r->ring));
    return r->ring != NULL;
}

void hg_bridge_repeat_close(struct hg_bridge_repeat *r)
{
    hg_free(r->ring);
    r->ring = NULL;
}

void hg_bridge_repeat_clear(struct hg_bridge_repeat *r)
{
    memset(r->ring, 0, r->cap * sizeof(*r->ring));
}

bool hg_bridge_repeat_came(struct hg_bridge_repeat *r, uint16_t mid, struct hg_bytes topic,
                           struct hg_bytes body, bool is_dup)
{
    const uint64_t seed[2] = {hg_siphash(r->seed, topic), r->seed[1]};
    const struct hg_bridge_repeat_entry came = {hg_siphash(seed, body), mid};
    for (size_t i = 0; is_dup && i < r->cap; i++) {
        if (r->ring[i].mid == came.mid && r->ring[i].print == came.print) {
            return true; /* and may be so once more */
        }
    }
    r->ring[r->next] = came;
    r->next = (r->next + 1) % r->cap;
    return false;
}
