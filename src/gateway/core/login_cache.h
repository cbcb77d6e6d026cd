/* SPDX-License-Identifier: Apache-2.0 */
/* Logins that were good a moment ago, by a MAC of what was said: neither a password nor its hash is
 * in memory. Of one worker. What was not good is not in it. */
#ifndef HG_CORE_LOGIN_CACHE_H
#define HG_CORE_LOGIN_CACHE_H

#include "base/list.h"
#include "base/map.h"
#include "core/login.h"

struct hg_login_cache {
    struct hg_map by_mac;
    struct hg_list entries; /* the oldest first: all of them live equally long */
    uint64_t keep_ms;       /* 0: nothing is kept */
    size_t max_n;           /* past it the oldest goes */
};

void hg_login_cache_open(struct hg_login_cache *c, uint64_t keep_ms, size_t max_n);
void hg_login_cache_close(struct hg_login_cache *c);
/* Borrowed; NULL: not known, or not any more. */
struct hg_identity *hg_login_cache_find(struct hg_login_cache *c,
                                        const uint8_t mac[HG_LOGIN_MAC_BYTES], uint64_t now_ms);
/* Everything of this user is forgotten. */
void hg_login_cache_drop(struct hg_login_cache *c, struct hg_bytes user);
/* Takes a reference. Without memory it is not kept. */
void hg_login_cache_put(struct hg_login_cache *c, const uint8_t mac[HG_LOGIN_MAC_BYTES],
                        struct hg_identity *identity, uint64_t now_ms);

#endif
