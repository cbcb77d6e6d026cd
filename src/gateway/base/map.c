/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing; a removal shifts what follows back, so there are no tombstones and no
 * clean-up. */
#include "base/map.h"

#include "base/check.h"
#include "base/mem.h"

#include <sys/random.h>

enum { FIRST_CAP = 8 };

static uint64_t rotl(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* Up to 8 bytes, the first one lowest. */
static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) {
        x |= (uint64_t)p[i] << (8 * i);
    }
    return x;
}

uint64_t hg_siphash(const uint64_t seed[2], struct hg_bytes b)
{
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
                     seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573};
    size_t at = 0;
    for (; b.n - at >= 8; at += 8) {
        uint64_t m = load_le(b.p + at, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)b.n << 56;
    if (at < b.n) {
        last |= load_le(b.p + at, b.n - at);
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hg_random_u64(void)
{
    uint64_t x;
    HG_CHECK(getrandom(&x, sizeof(x), 0) == sizeof(x)); /* this few bytes never come cut */
    return x;
}

void hg_map_open(struct hg_map *m)
{
    *m = (struct hg_map){0};
}

void hg_map_close(struct hg_map *m)
{
    hg_free(m->slots);
    m->slots = NULL;
    m->cap = m->n = 0;
}

static uint32_t hash_of(const struct hg_map *m, struct hg_bytes key)
{
    uint32_t h = (uint32_t)hg_siphash(m->seed, key);
    return h == 0 ? 1 : h;
}

/* The slot that holds key, or the empty one where it would go. There is always an empty one. */
static size_t seek(const struct hg_map *m, struct hg_bytes key, uint32_t hash)
{
    size_t at = hash & (m->cap - 1);
    while (m->slots[at].hash != 0) {
        const struct hg_map_slot *s = &m->slots[at];
        if (s->hash == hash && hg_bytes_eq(hg_bytes(s->key, s->key_n), key)) {
            break;
        }
        at = (at + 1) & (m->cap - 1);
    }
    return at;
}

/* The first time it draws the seed: most maps of a session never hold anything. */
static bool grow(struct hg_map *m)
{
    struct hg_map bigger = *m;
    bigger.cap = m->cap == 0 ? FIRST_CAP : m->cap * 2;
    bigger.slots = hg_zalloc(bigger.cap * sizeof(*bigger.slots));
    if (bigger.slots == NULL) {
        return false;
    }
    if (m->cap == 0) {
        bigger.seed[0] = hg_random_u64();
        bigger.seed[1] = hg_random_u64();
    }
    for (size_t i = 0; i < m->cap; i++) {
        const struct hg_map_slot *s = &m->slots[i];
        if (s->hash != 0) {
            bigger.slots[seek(&bigger, hg_bytes(s->key, s->key_n), s->hash)] = *s;
        }
    }
    hg_free(m->slots);
    *m = bigger;
    return true;
}

void *hg_map_find(const struct hg_map *m, struct hg_bytes key)
{
    return m->n == 0 ? NULL : m->slots[seek(m, key, hash_of(m, key))].value;
}

bool hg_map_put(struct hg_map *m, struct hg_bytes key, void *value)
{
    HG_CHECK(value != NULL && key.n <= UINT32_MAX);
    if (m->cap == 0 && !grow(m)) {
        return false;
    }
    uint32_t hash = hash_of(m, key);
    size_t at = seek(m, key, hash);
    if (m->slots[at].hash == 0 && m->n >= m->cap - m->cap / 4) {
        if (!grow(m)) {
            return false;
        }
        at = seek(m, key, hash);
    }
    m->n += m->slots[at].hash == 0;
    /* The key of a replaced value may die with it, so the new one is taken. */
    m->slots[at] = (struct hg_map_slot){hash, (uint32_t)key.n, key.p, value};
    return true;
}

void *hg_map_remove(struct hg_map *m, struct hg_bytes key)
{
    if (m->n == 0) {
        return NULL;
    }
    size_t mask = m->cap - 1;
    size_t hole = seek(m, key, hash_of(m, key));
    void *value = m->slots[hole].value;
    if (m->slots[hole].hash == 0) {
        return NULL;
    }
    for (size_t at = (hole + 1) & mask; m->slots[at].hash != 0; at = (at + 1) & mask) {
        size_t home = m->slots[at].hash & mask;
        /* What lies at or before the hole on its way from home may fill it. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            m->slots[hole] = m->slots[at];
            hole = at;
        }
    }
    m->slots[hole] = (struct hg_map_slot){0};
    m->n--;
    return value;
}

bool hg_map_next(const struct hg_map *m, size_t *at, struct hg_bytes *key_out, void **value_out)
{
    while (*at < m->cap) {
        const struct hg_map_slot *s = &m->slots[(*at)++];
        if (s->hash != 0) {
            *key_out = hg_bytes(s->key, s->key_n);
            *value_out = s->value;
            return true;
        }
    }
    return false;
}
