/* SPDX-License-Identifier: Apache-2.0 */
/* What any thread may ask of the index. */
#include "base/mem.h"
#include "core/state_index.h"
#include "core/state_index_priv.h"

enum { LIVE_SHARE = 4 }; /* of the log, which live records may fill */

struct hg_session_record *hg_state_index_find(struct hg_state_index *x, struct hg_bytes client_id,
                                              bool *has_failed)
{
    struct hg_session_record *copy = NULL;
    uv_rwlock_rdlock(&x->lock);
    const struct session *s = hg_map_find(&x->sessions, client_id);
    bool is_live = s != NULL && s->record != NULL;
    if (is_live) {
        copy = hg_session_record_copy(s->record);
    }
    uv_rwlock_rdunlock(&x->lock);
    *has_failed = is_live && copy == NULL;
    return copy;
}

void hg_state_index_each_session(struct hg_state_index *x, hg_state_record_fn *each, void *ctx)
{
    struct hg_bytes id;
    void *value;
    uv_rwlock_rdlock(&x->lock);
    for (size_t at = 0; hg_map_next(&x->sessions, &at, &id, &value);) {
        const struct session *s = value;
        if (s->record != NULL) {
            each(ctx, s->record);
        }
    }
    uv_rwlock_rdunlock(&x->lock);
}

enum hg_status hg_state_index_admits(struct hg_state_index *x, struct hg_bytes exchange,
                                     struct hg_bytes key, size_t bytes)
{
    uint8_t room[HG_RETAINED_NAME_MAX];
    struct hg_bytes name = hg_retained_name_of(exchange, key, room);
    uv_rwlock_rdlock(&x->lock);
    const struct retained *entry = hg_map_find(&x->retained, name);
    bool is_live = entry != NULL && !entry->item.is_gone;
    uint64_t live_bytes = x->stats.live_bytes - (is_live ? entry->item.bytes : 0);
    bool fits = live_bytes + bytes + HG_STATE_MESSAGE_EXTRA <= x->limits.log_bytes / LIVE_SHARE &&
                (is_live || x->stats.retained_n < x->limits.retained_n);
    uv_rwlock_rdunlock(&x->lock);
    return fits ? HG_OK : HG_TOO_MANY;
}

struct matching {
    uint64_t now_ms;
    uint8_t protocol;
    struct hg_retained **found;
    size_t n, cap;
    bool has_failed;
};

static void on_address(void *ctx, struct hg_address_node *node)
{
    struct matching *c = ctx;
    struct hg_retained *blob = ((const struct retained *)node->value)->blob;
    if ((node->protocols & c->protocol) == 0 || hg_retained_ends_ms(blob) <= c->now_ms ||
        c->has_failed) {
        return;
    }
    if (c->n == c->cap) {
        size_t cap = c->cap == 0 ? 8 : c->cap * 2;
        struct hg_retained **found = hg_realloc(c->found, cap * sizeof(struct hg_retained *));
        c->has_failed = found == NULL;
        if (c->has_failed) {
            return;
        }
        c->found = found;
        c->cap = cap;
    }
    c->found[c->n++] = hg_retained_ref(blob);
}

size_t hg_state_index_match(struct hg_state_index *x, enum hg_protocol proto,
                            struct hg_bytes filter, uint64_t now_ms, struct hg_retained ***out_own,
                            bool *has_failed)
{
    struct matching c = {.now_ms = now_ms, .protocol = (uint8_t)(1U << proto)};
    uv_rwlock_rdlock(&x->lock);
    hg_address_tree_match(&x->addresses, filter, on_address, &c);
    uv_rwlock_rdunlock(&x->lock);
    while (c.has_failed && c.n > 0) {
        hg_retained_unref(c.found[--c.n]);
    }
    if (c.has_failed) {
        hg_free(c.found);
        c.found = NULL;
    }
    *out_own = c.found;
    *has_failed = c.has_failed;
    return c.n;
}

void hg_state_index_stats(struct hg_state_index *x, struct hg_state_index_stats *out)
{
    uv_rwlock_rdlock(&x->lock);
    *out = x->stats;
    uv_rwlock_rdunlock(&x->lock);
}

uint64_t hg_state_index_digest(struct hg_state_index *x)
{
    uv_rwlock_rdlock(&x->lock);
    uint64_t digest = x->digest;
    uv_rwlock_rdunlock(&x->lock);
    return digest;
}
