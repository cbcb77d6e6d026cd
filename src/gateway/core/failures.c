/* SPDX-License-Identifier: Apache-2.0 */
#include "core/failures.h"

#include "base/inet.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#include <pthread.h>

enum { MS_PER_MINUTE = 60000 };

struct address {
    struct hg_list link;  /* the one heard of last is last */
    uint64_t empty_at_ms; /* its bucket, if nothing comes to it */
    uint8_t key_n;
    uint8_t key[HG_INET_CLIENT_BYTES];
};

struct hg_failures {
    pthread_mutex_t lock;
    struct hg_map by_key;
    struct hg_list all;
    uint64_t each_ms, full_ms; /* what one weighs, and what a bucket holds */
};

void hg_failures_limit(struct hg_failures *f, uint32_t per_minute)
{
    pthread_mutex_lock(&f->lock);
    f->each_ms = per_minute == 0 ? 0 : MS_PER_MINUTE / per_minute;
    f->each_ms += per_minute > MS_PER_MINUTE;
    f->full_ms = f->each_ms * per_minute;
    pthread_mutex_unlock(&f->lock);
}

struct hg_failures *hg_failures_new(uint32_t per_minute)
{
    struct hg_failures *f = hg_zalloc(sizeof(*f));
    if (f != NULL) {
        pthread_mutex_init(&f->lock, NULL);
        hg_map_open(&f->by_key);
        hg_list_init(&f->all);
        hg_failures_limit(f, per_minute);
    }
    return f;
}

static void drop(struct hg_failures *f, struct address *a)
{
    hg_map_remove(&f->by_key, hg_bytes(a->key, a->key_n));
    hg_list_remove(&a->link);
    hg_free(a);
}

void hg_failures_free(struct hg_failures *f)
{
    if (f == NULL) {
        return;
    }
    HG_LIST_FOREACH_SAFE (it, &f->all) {
        drop(f, HG_LIST_ENTRY(it, struct address, link));
    }
    hg_map_close(&f->by_key);
    pthread_mutex_destroy(&f->lock);
    hg_free(f);
}

static struct address *find(struct hg_failures *f, struct hg_bytes key)
{
    return hg_map_find(&f->by_key, key);
}

bool hg_failures_is_full(struct hg_failures *f, const char *peer, uint64_t now_ms)
{
    uint8_t bytes[HG_INET_CLIENT_BYTES];
    struct hg_bytes key = hg_bytes(bytes, hg_inet_client(peer, bytes));
    pthread_mutex_lock(&f->lock);
    const struct address *a = f->each_ms == 0 ? NULL : find(f, key);
    bool is_full =
        a != NULL && a->empty_at_ms > now_ms && a->empty_at_ms - now_ms + f->each_ms > f->full_ms;
    pthread_mutex_unlock(&f->lock);
    return is_full;
}

static struct address *add(struct hg_failures *f, struct hg_bytes key)
{
    if (f->by_key.n == HG_FAILURES_ADDRESSES) {
        drop(f, HG_LIST_ENTRY(f->all.next, struct address, link));
    }
    struct address *a = hg_zalloc(sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->key_n = (uint8_t)key.n;
    if (key.n > 0) {
        memcpy(a->key, key.p, key.n);
    }
    hg_list_init(&a->link);
    if (!hg_map_put(&f->by_key, hg_bytes(a->key, a->key_n), a)) {
        hg_free(a);
        return NULL;
    }
    return a;
}

void hg_failures_add(struct hg_failures *f, const char *peer, uint64_t now_ms)
{
    uint8_t bytes[HG_INET_CLIENT_BYTES];
    struct hg_bytes key = hg_bytes(bytes, hg_inet_client(peer, bytes));
    pthread_mutex_lock(&f->lock);
    struct address *a = find(f, key);
    a = a == NULL && f->each_ms > 0 ? add(f, key) : a;
    if (a != NULL && f->each_ms > 0) {
        a->empty_at_ms = (a->empty_at_ms > now_ms ? a->empty_at_ms : now_ms) + f->each_ms;
        hg_list_remove(&a->link);
        hg_list_add_last(&f->all, &a->link);
    }
    pthread_mutex_unlock(&f->lock);
}
