/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of fingerprints. */
#include "adapters/bridge/bridge_echo.h"

#include "base/map.h"
#include "base/mem.h"

struct hg_bridge_echo_entry {
    uint64_t print;
    uint64_t until_ms; /* 0: empty */
};

bool hg_bridge_echo_open(struct hg_bridge_echo *e, size_t cap)
{
    *e = (struct hg_bridge_echo){.cap = cap, .seed = {hg_random_u64(), hg_random_u64()}};
    e->ring = hg_zalloc(cap * sizeof(*e->ring));
    return e->ring != NULL;
}

void hg_bridge_echo_close(struct hg_bridge_echo *e)
{
    hg_free(e->ring);
    e->ring = NULL;
}

static uint64_t print_of(const struct hg_bridge_echo *e, struct hg_bytes topic,
                         struct hg_bytes body)
{
    const uint64_t seed[2] = {hg_siphash(e->seed, topic), e->seed[1]};
    return hg_siphash(seed, body);
}

void hg_bridge_echo_sent(struct hg_bridge_echo *e, struct hg_bytes topic, struct hg_bytes body,
                         uint64_t now_ms)
{
    if (e->ring == NULL) {
        return;
    }
    e->ring[e->next] =
        (struct hg_bridge_echo_entry){print_of(e, topic, body), now_ms + HG_BRIDGE_ECHO_MS};
    e->next = (e->next + 1) % e->cap;
}

bool hg_bridge_echo_take(struct hg_bridge_echo *e, struct hg_bytes topic, struct hg_bytes body,
                         uint64_t now_ms)
{
    if (e->ring == NULL) {
        return false;
    }
    uint64_t print = print_of(e, topic, body);
    for (size_t i = 0; i < e->cap; i++) {
        struct hg_bridge_echo_entry *entry = &e->ring[(e->next + i) % e->cap];
        if (entry->print == print && entry->until_ms > now_ms) {
            entry->until_ms = 0;
            return true;
        }
    }
    return false;
}
