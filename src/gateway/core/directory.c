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
    bool is_owned;
    uint16_t id_n, user_n;
    enum hg_status why; /* it is lost */
    uint8_t text[];     /* the identifier, and the user */
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
    return hg_bytes(r->text, r->id_n);
}

static bool is_others(const struct hg_claim_record *r, const struct hg_claim_who *who)
{
    return r->is_owned && who->is_owned &&
           !hg_bytes_eq(hg_bytes(r->text + r->id_n, r->user_n), who->user);
}

/* The latest of its ring. */
static struct hg_claim_record *last_of(const struct hg_claim_record *first)
{
    return HG_LIST_ENTRY(first->link.prev, struct hg_claim_record, link);
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

static void lose(struct hg_claim_record *r, enum hg_status why)
{
    if (!r->is_lost) {
        r->is_lost = true;
        r->why = why;
        notify(r);
    }
}

static void settle(struct hg_claim_record *first)
{
    for (struct hg_claim_record *r = first; next_of(r) != first; r = next_of(r)) {
        lose(r, HG_TAKEN_OVER);
    }
    if (!first->is_lost && !first->is_granted) {
        first->is_granted = true;
        notify(first);
    }
}

static enum hg_status add(struct hg_directory *d, struct hg_claim_record *r,
                          const struct hg_claim_who *who)
{
    struct hg_claim_record *first = hg_map_find(&d->firsts, id_of(r));
    if (first != NULL && !last_of(first)->is_lost && is_others(last_of(first), who)) {
        return HG_NOT_ALLOWED;
    }
    if (first != NULL) {
        hg_list_add_last(&first->link, &r->link);
        settle(first);
        return HG_OK;
    }
    if (!hg_map_put(&d->firsts, id_of(r), r)) {
        return HG_NO_MEMORY;
    }
    settle(r);
    return HG_OK;
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

static struct hg_claim_record *new_record(const struct hg_claim_who *who)
{
    struct hg_bytes id = who->client_id, user = who->user;
    bool is_valid = id.n <= UINT16_MAX && user.n <= UINT16_MAX;
    struct hg_claim_record *r = is_valid ? hg_zalloc(sizeof(*r) + id.n + user.n) : NULL;
    if (r == NULL) {
        return NULL;
    }
    hg_list_init(&r->link);
    r->is_owned = who->is_owned;
    r->id_n = (uint16_t)id.n;
    r->user_n = (uint16_t)user.n;
    if (id.n > 0) {
        memcpy(r->text, id.p, id.n);
    }
    if (user.n > 0) {
        memcpy(r->text + id.n, user.p, user.n);
    }
    return r;
}

enum hg_status hg_claim_open(struct hg_realm *realm, struct hg_claim *claim,
                             const struct hg_claim_who *who, const struct hg_claim_ops *ops)
{
    struct hg_directory *d = realm->vhost->directory;
    struct hg_claim_record *r = new_record(who);
    if (r == NULL) {
        return HG_NO_MEMORY;
    }
    r->mail.kind = HG_MAIL_CLAIM;
    r->claim = claim;
    r->realm = hg_realm_home(realm);
    r->opened_ms = hg_clock_wall_ms();
    uv_mutex_lock(&d->lock);
    uint64_t epoch = r->epoch = ++d->epochs;
    enum hg_status status = add(d, r, who);
    uv_mutex_unlock(&d->lock);
    if (status != HG_OK) {
        hg_free(r);
        return status;
    }
    *claim = (struct hg_claim){.ops = ops, .record = r, .epoch = epoch};
    return HG_OK;
}

struct hg_bytes hg_claim_id(const struct hg_claim *claim)
{
    return claim->record == NULL ? HG_BYTES("") : id_of(claim->record);
}

void hg_claim_yield(struct hg_claim *claim)
{
    struct hg_directory *d = claim->record->realm->vhost->directory;
    uv_mutex_lock(&d->lock);
    claim->record->is_owned = false;
    uv_mutex_unlock(&d->lock);
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
    enum hg_status why = r->why;
    uv_mutex_unlock(&d->lock);
    if (tells_lost) {
        claim->ops->on_lost(claim, why);
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

struct hg_claimed hg_directory_claimed(struct hg_directory *d, struct hg_bytes client_id,
                                       struct hg_writer *user)
{
    struct hg_claimed claimed = {0};
    uv_mutex_lock(&d->lock);
    const struct hg_claim_record *first = hg_map_find(&d->firsts, client_id);
    if (first != NULL) {
        const struct hg_claim_record *last = last_of(first);
        claimed = (struct hg_claimed){.at_ms = last->opened_ms, .is_owned = last->is_owned};
        hg_writer_bytes(user, hg_bytes(last->text + last->id_n, last->user_n));
    }
    uv_mutex_unlock(&d->lock);
    return claimed;
}

/* The one after r in its ring; NULL behind the last. */
static struct hg_claim_record *after(const struct hg_claim_record *first,
                                     const struct hg_claim_record *r)
{
    return next_of(r) == first ? NULL : next_of(r);
}

void hg_directory_evict(struct hg_directory *d, struct hg_bytes client_id, uint64_t epoch)
{
    uv_mutex_lock(&d->lock);
    struct hg_claim_record *first = hg_map_find(&d->firsts, client_id);
    for (struct hg_claim_record *r = first; r != NULL; r = after(first, r)) {
        if (r->epoch == epoch) {
            lose(r, HG_TAKEN_OVER);
        }
    }
    uv_mutex_unlock(&d->lock);
}

bool hg_directory_meet(struct hg_directory *d, const struct hg_claim_who *who, uint64_t wall_ms,
                       bool is_ours_first)
{
    bool is_contested = false;
    uv_mutex_lock(&d->lock);
    struct hg_claim_record *first = hg_map_find(&d->firsts, who->client_id);
    for (struct hg_claim_record *r = first; r != NULL; r = after(first, r)) {
        bool was_before = r->opened_ms < wall_ms || (r->opened_ms == wall_ms && is_ours_first);
        bool is_anothers = is_others(r, who);
        if (is_anothers != was_before) {
            lose(r, was_before ? HG_TAKEN_OVER : HG_NOT_ALLOWED);
        }
        is_contested = is_contested || (is_anothers && was_before && !r->is_lost);
    }
    uv_mutex_unlock(&d->lock);
    return is_contested;
}
