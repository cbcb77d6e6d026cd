/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tally.h"

#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"

#include <pthread.h>

enum { PARTS_N = 16 };

struct hg_tally_entry {
    uint32_t n;
    uint8_t part;
    uint8_t key_n;
    uint8_t key[];
};

struct hg_tally {
    uint64_t seed[2];
    struct part {
        pthread_mutex_t lock;
        struct hg_map by_key;
    } parts[PARTS_N];
};

struct hg_tally *hg_tally_new(void)
{
    struct hg_tally *t = hg_zalloc(sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->seed[0] = hg_random_u64();
    t->seed[1] = hg_random_u64();
    for (size_t i = 0; i < PARTS_N; i++) {
        pthread_mutex_init(&t->parts[i].lock, NULL);
        hg_map_open(&t->parts[i].by_key);
    }
    return t;
}

void hg_tally_free(struct hg_tally *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < PARTS_N; i++) {
        HG_CHECK(t->parts[i].by_key.n == 0);
        hg_map_close(&t->parts[i].by_key);
        pthread_mutex_destroy(&t->parts[i].lock);
    }
    hg_free(t);
}

static struct hg_tally_entry *add(struct part *part, size_t index, struct hg_bytes key)
{
    struct hg_tally_entry *e = hg_zalloc(sizeof(*e) + key.n);
    if (e == NULL) {
        return NULL;
    }
    e->part = (uint8_t)index;
    e->key_n = (uint8_t)key.n;
    if (key.n > 0) {
        memcpy(e->key, key.p, key.n);
    }
    if (!hg_map_put(&part->by_key, hg_bytes(e->key, e->key_n), e)) {
        hg_free(e);
        return NULL;
    }
    return e;
}

enum hg_status hg_tally_add(struct hg_tally *t, struct hg_bytes key, uint32_t max_n,
                            struct hg_tally_entry **entry_out)
{
    HG_CHECK(key.n <= UINT8_MAX);
    size_t index = hg_siphash(t->seed, key) % PARTS_N;
    struct part *part = &t->parts[index];
    enum hg_status status = HG_OK;
    pthread_mutex_lock(&part->lock);
    struct hg_tally_entry *e = hg_map_find(&part->by_key, key);
    if (e != NULL && e->n >= max_n) {
        status = HG_TOO_MANY;
    } else if (e == NULL && (e = add(part, index, key)) == NULL) {
        status = HG_NO_MEMORY;
    } else {
        e->n++;
        *entry_out = e;
    }
    pthread_mutex_unlock(&part->lock);
    return status;
}

void hg_tally_remove(struct hg_tally *t, struct hg_tally_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    struct part *part = &t->parts[entry->part];
    pthread_mutex_lock(&part->lock);
    bool is_last = --entry->n == 0;
    if (is_last) {
        hg_map_remove(&part->by_key, hg_bytes(entry->key, entry->key_n));
    }
    pthread_mutex_unlock(&part->lock);
    if (is_last) {
        hg_free(entry);
    }
}

bool hg_tally_is_of(const struct hg_tally_entry *entry, struct hg_bytes key)
{
    return hg_bytes_eq(hg_bytes(entry->key, entry->key_n), key);
}

size_t hg_tally_n(struct hg_tally *t)
{
    size_t n = 0;
    for (size_t i = 0; i < PARTS_N; i++) {
        pthread_mutex_lock(&t->parts[i].lock);
        n += t->parts[i].by_key.n;
        pthread_mutex_unlock(&t->parts[i].lock);
    }
    return n;
}
