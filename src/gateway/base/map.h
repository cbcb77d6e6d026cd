/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded hash map from bytes to a pointer (SipHash-1-3: peers choose keys). Open addressing; keys
 * are borrowed from the values, which must keep them alive and unchanged while they are in the
 * map. */
#ifndef HG_BASE_MAP_H
#define HG_BASE_MAP_H

#include "base/bytes.h"

struct hg_map_slot {
    uint32_t hash; /* 0: empty */
    uint32_t key_n;
    const uint8_t *key;
    void *value;
};

struct hg_map {
    struct hg_map_slot *slots;
    size_t cap; /* 0 or a power of two */
    size_t n;
    uint64_t seed[2];
};

/* Allocates nothing until the first put. */
void hg_map_open(struct hg_map *m);
/* Frees the table, not the values. */
void hg_map_close(struct hg_map *m);
void *hg_map_find(const struct hg_map *m, struct hg_bytes key); /* NULL if absent */
/* Adds or replaces. False when there is no memory, and then nothing changed. value is not NULL. */
bool hg_map_put(struct hg_map *m, struct hg_bytes key, void *value);
/* The value that was there, or NULL. */
void *hg_map_remove(struct hg_map *m, struct hg_bytes key);
/* Iterates: start with *at = 0; false at the end. No put or remove meanwhile. */
bool hg_map_next(const struct hg_map *m, size_t *at, struct hg_bytes *key_out, void **value_out);

/* SipHash-1-3: a hash that nobody can make collide without the seed. */
uint64_t hg_siphash(const uint64_t seed[2], struct hg_bytes b);

/* A number of the process's random source (getrandom). */
uint64_t hg_random_u64(void);

#endif
