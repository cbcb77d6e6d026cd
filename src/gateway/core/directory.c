/* SPDX-License-Identifier: Apache-2.0 */
/* Per client identifier a ring of claims, oldest first. Only the last may be alive: every claim
 * that is not the last has been told that it is lost; the last one, too, where another process has
 * the client. The first one owns the identifier; the last is granted it when it has become the
 * first. */
#include "core/directory.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/worker.h"

struct hg_claim_record {
    struct hg_mail mail;
    struct hg_claim *claim; /* NULL: closed while mail was under way */
    struct hg_realm *realm;
    struct hg_list link;            /* the ring; no head: the map knows the first */
    uint64_t epoch, opened_ms;      /* since 1970 */
    bool is_granted, is_lost;       /* decided */
    bool knows_granted, knows_lost; /* told */
    uint16_t id_n;
    uint8_t id[];
};

struct hg_directory {
    uv_mutex_t lock;
    struct hg_map firsts; /* identifier -> the first record of its ring, whose id is the key */
    uint64_t epochs;      /* the last one given out */
};

struct hg_directory *hg_directory_new(void)
{
    struct hg_directory *d = hg_zalloc(sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    if (uv_mutex_init(&d->lock) != 0) {
        hg_free(d);
        return NULL;
    }
    hg_map_open(&d->firsts);
    return d;
}

void hg_directory_free(struct hg_directory *d)
{
    if (d == NULL) {
        return;
    }
    HG_CHECK(d->firsts.n == 0);
    hg_map_close(&d->firsts);
    uv_mutex_destroy(&d->lock);
    hg_free(d);
}

/* ---- Under the lock ---- */

static struct hg_bytes id_of(const struct hg_claim_record *r)
{
    return hg_bytes(r->id, r->id_n);
}

static struct hg_claim_record *next_of(const struct hg_claim_record *r)
{
    return HG_LIST_ENTRY(r->link.next, struct hg_claim_record, link);
}

static void notify(struct hg_claim_record *r)
{
    /* A worker whose mailbox is closed has no sessions left to tell. */
    hg_mailbox_send(r->realm->worker->mailbox, &r->mail);
}

static void lose(struct hg_claim_record *r)
{
    if (!r->is_lost) {
        r->is_lost = true;
        notify(r);
    }
}

static void settle(struct hg_claim_record *first)
{
    for (struct hg_claim_record *r = first; next_of(r) != first; r = next_of(r)) {
        lose(r);
    }
    if (!first->is_lost && !first->is_granted) {
        first->is_granted = true;
        notify(first);
    }
}

static bool add(struct hg_directory *d, struct hg_claim_record *r)
{
    struct hg_claim_record *first = hg_map_find(&d->firsts, id_of(r));
    if (first != NULL) {
        hg_list_add_last(&first->link, &r->link);
        settle(first);
        return true;
    }
    if (!hg_map_put(&d->firsts, id_of(r), r)) {
        return false;
    }
    settle(r);
    return true;
}

static void drop(struct hg_directory *d, struct hg_claim_record *r)
{
    struct hg_claim_record *first = hg_map_find(&d->firsts, id_of(r));
    if (first == r && next_of(r) == r) {
        hg_map_remove(&d->firsts, id_of(r));
        return;
    }
    if (first == r) {
        first = next_of(r);
        HG_CHECK(hg_map_put(&d->firsts, id_of(first), first)); /* replaces: takes no memory */
    }
    hg_list_remove(&r->link);
    settle(first);
}

/* ---- From a session's thread ---- */

bool hg_claim_open(struct hg_realm *realm, struct hg_claim *claim, struct hg_bytes client_id,
                   const struct hg_claim_ops *ops)
{
    struct hg_directory *d = realm->vhost->directory;
    struct hg_claim_record *r =
        client_id.n > UINT16_MAX ? NULL : hg_zalloc(sizeof(*r) + client_id.n);
    if (r == NULL) {
        return false;
    }
    hg_list_init(&r->link);
    r->id_n = (uint16_t)client_id.n;
    if (client_id.n > 0) {
        memcpy(r->id, client_id.p, client_id.n);
    }
    r->mail.kind = HG_MAIL_CLAIM;
    r->claim = claim;
    r->realm = hg_realm_home(realm);
    r->opened_ms = hg_clock_wall_ms();
    uv_mutex_lock(&d->lock);
    uint64_t epoch = r->epoch = ++d->epochs;
    bool is_added = add(d, r);
    uv_mutex_unlock(&d->lock);
    if (!is_added) {
        hg_free(r);
        return false;
    }
    *claim = (struct hg_claim){.ops = ops, .record = r, .epoch = epoch};
    return true;
}

struct hg_bytes hg_claim_id(const struct hg_claim *claim)
{
    return claim->record == NULL ? HG_BYTES("") : id_of(claim->record);
}

void hg_claim_close(struct hg_claim *claim)
{
    struct hg_claim_record *r = claim->record;
    if (r == NULL) {
        return;
    }
    struct hg_directory *d = r->realm->vhost->directory;
    claim->record = NULL;
    r->claim = NULL;
    uv_mutex_lock(&d->lock);
    drop(d, r);
    /* Nobody sends it any more, and only this thread takes it out of the mailbox. */
    bool is_under_way = r->mail.is_queued;
    uv_mutex_unlock(&d->lock);
    if (!is_under_way) {
        hg_free(r);
    }
}

void hg_claim_on_mail(struct hg_mail *mail)
{
    struct hg_claim_record *r = HG_CONTAINER_OF(mail, struct hg_claim_record, mail);
    struct hg_claim *claim = r->claim;
    if (claim == NULL) {
        hg_free(r);
        return;
    }
    struct hg_directory *d = r->realm->vhost->directory;
    uv_mutex_lock(&d->lock);
    /* Superseded before it heard of the grant: it hears of the loss alone. */
    bool tells_granted = r->is_granted && !r->is_lost && !r->knows_granted;
    bool tells_lost = r->is_lost && !r->knows_lost;
    r->knows_granted = r->knows_granted || tells_granted;
    r->knows_lost = r->knows_lost || tells_lost;
    uv_mutex_unlock(&d->lock);
    if (tells_lost) {
        claim->ops->on_lost(claim);
    } else if (tells_granted) {
        claim->ops->on_granted(claim);
    }
}

/* ---- From any thread ---- */

uint64_t hg_directory_epoch(struct hg_directory *d)
{
    uv_mutex_lock(&d->lock);
    uint64_t epoch = ++d->epochs;
    uv_mutex_unlock(&d->lock);
    return epoch;
}

uint64_t hg_directory_claimed_ms(struct hg_directory *d, struct hg_bytes client_id)
{
    uv_mutex_lock(&d->lock);
    const struct hg_claim_record *first = hg_map_find(&d->firsts, client_id);
    uint64_t opened_ms =
        first == NULL ? 0
                      : HG_LIST_ENTRY(first->link.prev, struct hg_claim_record, link)->opened_ms;
    uv_mutex_unlock(&d->lock);
    return opened_ms;
}

struct eviction {
    uint64_t epoch;   /* 0: by time */
    uint64_t wall_ms; /* claims made before it, or at it, are meant */
    bool is_inclusive;
};

static bool concerns(const struct eviction *e, const struct hg_claim_record *r)
{
    if (e->epoch != 0) {
        return r->epoch == e->epoch;
    }
    return r->opened_ms < e->wall_ms || (r->opened_ms == e->wall_ms && e->is_inclusive);
}

static void evict(struct hg_directory *d, struct hg_bytes client_id, const struct eviction *e)
{
    uv_mutex_lock(&d->lock);
    struct hg_claim_record *first = hg_map_find(&d->firsts, client_id);
    struct hg_claim_record *r = first;
    while (r != NULL) {
        if (concerns(e, r)) {
            lose(r);
        }
        r = next_of(r) == first ? NULL : next_of(r);
    }
    uv_mutex_unlock(&d->lock);
}

void hg_directory_evict(struct hg_directory *d, struct hg_bytes client_id, uint64_t epoch)
{
    const struct eviction e = {.epoch = epoch};
    evict(d, client_id, &e);
}

void hg_directory_evict_older(struct hg_directory *d, struct hg_bytes client_id, uint64_t wall_ms,
                              bool is_ours_first)
{
    const struct eviction e = {.wall_ms = wall_ms, .is_inclusive = is_ours_first};
    evict(d, client_id, &e);
}
