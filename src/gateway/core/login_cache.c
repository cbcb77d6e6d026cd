/* SPDX-License-Identifier: Apache-2.0 */
#include "core/login_cache.h"

#include "base/mem.h"

struct entry {
    struct hg_list link;
    struct hg_identity *identity;
    uint64_t until_ms;
    uint8_t mac[HG_LOGIN_MAC_BYTES];
};

void hg_login_cache_open(struct hg_login_cache *c, uint64_t keep_ms, size_t max_n)
{
    *c = (struct hg_login_cache){.keep_ms = keep_ms, .max_n = max_n};
    hg_map_open(&c->by_mac);
    hg_list_init(&c->entries);
}

static void drop(struct hg_login_cache *c, struct entry *e)
{
    hg_map_remove(&c->by_mac, hg_bytes(e->mac, sizeof(e->mac)));
    hg_list_remove(&e->link);
    hg_identity_unref(e->identity);
    hg_free(e);
}

static void drop_until(struct hg_login_cache *c, uint64_t now_ms, size_t most_n)
{
    while (!hg_list_is_empty(&c->entries)) {
        struct entry *oldest = HG_LIST_ENTRY(c->entries.next, struct entry, link);
        if (oldest->until_ms > now_ms && c->by_mac.n <= most_n) {
            return;
        }
        drop(c, oldest);
    }
}

void hg_login_cache_close(struct hg_login_cache *c)
{
    drop_until(c, UINT64_MAX, 0);
    hg_map_close(&c->by_mac);
}

struct hg_identity *hg_login_cache_find(struct hg_login_cache *c,
                                        const uint8_t mac[HG_LOGIN_MAC_BYTES], uint64_t now_ms)
{
    drop_until(c, now_ms, SIZE_MAX);
    struct entry *e = hg_map_find(&c->by_mac, hg_bytes(mac, HG_LOGIN_MAC_BYTES));
    return e == NULL ? NULL : e->identity;
}

void hg_login_cache_drop(struct hg_login_cache *c, struct hg_bytes user)
{
    HG_LIST_FOREACH_SAFE (it, &c->entries) {
        struct entry *e = HG_LIST_ENTRY(it, struct entry, link);
        if (hg_bytes_eq(hg_identity_user(e->identity), user)) {
            drop(c, e);
        }
    }
}

void hg_login_cache_put(struct hg_login_cache *c, const uint8_t mac[HG_LOGIN_MAC_BYTES],
                        struct hg_identity *identity, uint64_t now_ms)
{
    if (c->keep_ms == 0 || hg_login_cache_find(c, mac, now_ms) != NULL) {
        return; /* it keeps its time: else a client that comes often is never checked again */
    }
    drop_until(c, now_ms, c->max_n - 1);
    struct entry *e = hg_zalloc(sizeof(*e));
    if (e == NULL) {
        return;
    }
    memcpy(e->mac, mac, sizeof(e->mac));
    hg_list_init(&e->link);
    if (!hg_map_put(&c->by_mac, hg_bytes(e->mac, sizeof(e->mac)), e)) {
        hg_free(e);
        return;
    }
    e->identity = hg_identity_ref(identity);
    e->until_ms = now_ms + c->keep_ms;
    hg_list_add_last(&c->entries, &e->link);
}
