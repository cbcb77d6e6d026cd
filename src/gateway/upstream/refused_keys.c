/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/refused_keys.h"

#include "base/mem.h"

#include <string.h>

enum { KEYS_N = 4 };

struct hg_refused_keys {
    struct {
        uint64_t until_ms;
        uint8_t n, key[UINT8_MAX];
    } at[KEYS_N];
    unsigned next;
};

bool hg_refused_keys_add(struct hg_refused_keys **keys, struct hg_bytes *key, uint64_t until_ms)
{
    struct hg_refused_keys *k = *keys;
    if (k == NULL && (k = *keys = hg_zalloc(sizeof(*k))) == NULL) {
        return false;
    }
    unsigned slot = k->next++ % KEYS_N;
    k->at[slot].until_ms = until_ms;
    k->at[slot].n = (uint8_t)key->n;
    if (key->n > 0) {
        memcpy(k->at[slot].key, key->p, key->n);
    }
    key->p = k->at[slot].key;
    return true;
}

bool hg_refused_keys_has(const struct hg_refused_keys *keys, struct hg_bytes key, uint64_t now_ms)
{
    for (size_t i = 0; i < KEYS_N; i++) {
        if (keys->at[i].until_ms > now_ms &&
            hg_bytes_eq(hg_bytes(keys->at[i].key, keys->at[i].n), key)) {
            return true;
        }
    }
    return false;
}
