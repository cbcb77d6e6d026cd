/* SPDX-License-Identifier: Apache-2.0 */
/* A map of keys, and a list of those that have their answer, oldest first. */
#include "core/idempotency.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#include <uv.h>

struct hg_idempotency_entry {
    struct hg_list link; /* in `done`, once it has its answer */
    uint64_t fingerprint[2];
    uint64_t done_ms; /* 0: under way */
    unsigned status;
    const char *type;
    uint8_t *body;
    size_t body_n, key_n;
    uint8_t key[];
};

struct hg_idempotency {
    uv_mutex_t lock;
    struct hg_idempotency_limits limits;
    uint64_t seed[2]; /* of fingerprints */
    struct hg_map entries;
    struct hg_list done;
    uint64_t bytes; /* of answers */
};

struct hg_idempotency *hg_idempotency_new(const struct hg_idempotency_limits *limits)
{
    struct hg_idempotency *x = hg_zalloc(sizeof(*x));
    if (x == NULL) {
        return NULL;
    }
    if (uv_mutex_init(&x->lock) != 0) {
        hg_free(x);
        return NULL;
    }
    x->limits = *limits;
    x->seed[0] = hg_random_u64();
    x->seed[1] = hg_random_u64();
    hg_map_open(&x->entries);
    hg_list_init(&x->done);
    return x;
}

/* ---- Under the lock ---- */

static void drop(struct hg_idempotency *x, struct hg_idempotency_entry *e)
{
    hg_map_remove(&x->entries, hg_bytes(e->key, e->key_n));
    hg_list_remove(&e->link);
    x->bytes -= e->body_n;
    hg_free(e->body);
    hg_free(e);
}

static struct hg_idempotency_entry *oldest(struct hg_idempotency *x)
{
    return hg_list_is_empty(&x->done)
               ? NULL
               : HG_LIST_ENTRY(x->done.next, struct hg_idempotency_entry, link);
}

static void drop_old(struct hg_idempotency *x)
{
    struct hg_idempotency_entry *e;
    uint64_t now = hg_clock_ms();
    while ((e = oldest(x)) != NULL && now - e->done_ms >= x->limits.window_ms) {
        drop(x, e);
    }
}

/* NULL: no room, or no memory. */
static struct hg_idempotency_entry *add(struct hg_idempotency *x, struct hg_bytes key,
                                        const uint64_t fingerprint[2])
{
    while (x->entries.n >= x->limits.max_n) {
        struct hg_idempotency_entry *e = oldest(x);
        if (e == NULL) {
            return NULL;
        }
        drop(x, e);
    }
    struct hg_idempotency_entry *e = hg_zalloc(sizeof(*e) + key.n);
    if (e == NULL) {
        return NULL;
    }
    hg_list_init(&e->link);
    e->fingerprint[0] = fingerprint[0];
    e->fingerprint[1] = fingerprint[1];
    e->key_n = key.n;
    memcpy(e->key, key.p, key.n);
    if (!hg_map_put(&x->entries, hg_bytes(e->key, e->key_n), e)) {
        hg_free(e);
        return NULL;
    }
    return e;
}

/* False: no memory, or too large to keep. */
static bool keep(struct hg_idempotency *x, struct hg_idempotency_entry *e, struct hg_bytes body)
{
    if (body.n > x->limits.max_bytes || (e->body = hg_alloc(body.n + 1)) == NULL) {
        return false;
    }
    if (body.n > 0) {
        memcpy(e->body, body.p, body.n);
    }
    e->body_n = body.n;
    x->bytes += body.n;
    while (x->bytes > x->limits.max_bytes) { /* e is in no list yet: it stays */
        drop(x, oldest(x));
    }
    return true;
}

/* ---- For everybody ---- */

void hg_idempotency_free(struct hg_idempotency *x)
{
    struct hg_idempotency_entry *e;
    if (x == NULL) {
        return;
    }
    while ((e = oldest(x)) != NULL) {
        drop(x, e);
    }
    HG_CHECK(x->entries.n == 0);
    hg_map_close(&x->entries);
    uv_mutex_destroy(&x->lock);
    hg_free(x);
}

enum hg_idempotency_state hg_idempotency_begin(struct hg_idempotency *x, struct hg_bytes key,
                                               struct hg_bytes target, struct hg_bytes body,
                                               struct hg_idempotency_entry **entry_out,
                                               struct hg_idempotency_answer *answer_out)
{
    const uint64_t fingerprint[2] = {hg_siphash(x->seed, target), hg_siphash(x->seed, body)};
    enum hg_idempotency_state state = HG_IDEMPOTENCY_DONE;
    uv_mutex_lock(&x->lock);
    drop_old(x);
    struct hg_idempotency_entry *e = hg_map_find(&x->entries, key);
    if (e == NULL) {
        *entry_out = add(x, key, fingerprint);
        state = *entry_out == NULL ? HG_IDEMPOTENCY_FULL : HG_IDEMPOTENCY_FIRST;
    } else if (memcmp(e->fingerprint, fingerprint, sizeof(fingerprint)) != 0) {
        state = HG_IDEMPOTENCY_DIFFERS;
    } else if (e->done_ms == 0) {
        state = HG_IDEMPOTENCY_UNDER_WAY;
    } else {
        *answer_out = (struct hg_idempotency_answer){.status = e->status, .type = e->type};
        hg_writer_bytes(&answer_out->body, hg_bytes(e->body, e->body_n));
    }
    uv_mutex_unlock(&x->lock);
    return state;
}

void hg_idempotency_end(struct hg_idempotency *x, struct hg_idempotency_entry *entry_own,
                        unsigned status, const char *type, const struct hg_bytes *body)
{
    struct hg_idempotency_entry *e = entry_own;
    uv_mutex_lock(&x->lock);
    if (body == NULL || !keep(x, e, *body)) {
        drop(x, e);
    } else {
        e->status = status;
        e->type = type;
        e->done_ms = hg_clock_ms();
        hg_list_add_last(&x->done, &e->link);
    }
    uv_mutex_unlock(&x->lock);
}
