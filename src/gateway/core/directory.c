/* SPDX-License-Identifier: Apache-2.0 */
/* Per client identifier a queue of claims, oldest first. Only the last may be alive: every claim that is not the last has been told that it
 * is lost. The first one owns the identifier; the last is granted it when it has become the first. */
#include "core/directory.h"

#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/worker.h"

struct entry { /* of one client identifier */
    struct hg_list claims;
    size_t id_n;
    uint8_t id[];
};

struct hg_claim_record {
    struct hg_mail mail;    /* first member: what the mailbox gives back */
    struct hg_claim *claim; /* NULL: closed while mail was under way */
    struct hg_worker *worker;
    struct entry *entry;
    struct hg_list link;            /* in entry->claims */
    bool is_granted, is_lost;       /* decided */
    bool knows_granted, knows_lost; /* told */
};

struct hg_directory {
    uv_mutex_t lock;
    struct hg_map entries;
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
    hg_map_open(&d->entries);
    return d;
}

void hg_directory_free(struct hg_directory *d)
{
    if (d == NULL) {
        return;
    }
    HG_CHECK(d->entries.n == 0);
    hg_map_close(&d->entries);
    uv_mutex_destroy(&d->lock);
    hg_free(d);
}

/* ---- Under the lock ---- */

static struct entry *find_or_make(struct hg_directory *d, struct hg_bytes id)
{
    struct entry *e = hg_map_find(&d->entries, id);
    if (e != NULL) {
        return e;
    }
    e = hg_alloc(sizeof(*e) + id.n);
    if (e == NULL) {
        return NULL;
    }
    hg_list_init(&e->claims);
    e->id_n = id.n;
    if (id.n > 0) {
        memcpy(e->id, id.p, id.n);
    }
    if (!hg_map_put(&d->entries, hg_bytes(e->id, id.n), e)) {
        hg_free(e);
        return NULL;
    }
    return e;
}

static void notify(struct hg_claim_record *r)
{
    /* A worker whose mailbox is closed has no sessions left to tell. */
    hg_mailbox_send(r->worker->mailbox, &r->mail);
}

static struct hg_claim_record *record_at(struct hg_list *link)
{
    return HG_LIST_ENTRY(link, struct hg_claim_record, link);
}

static void settle(struct entry *e)
{
    struct hg_claim_record *first = record_at(e->claims.next);
    HG_LIST_FOREACH (it, &e->claims) {
        struct hg_claim_record *r = record_at(it);
        if (it->next != &e->claims && !r->is_lost) {
            r->is_lost = true;
            notify(r);
        }
    }
    if (!first->is_lost && !first->is_granted) {
        first->is_granted = true;
        notify(first);
    }
}

static bool add(struct hg_directory *d, struct hg_claim_record *r, struct hg_bytes id)
{
    struct entry *e = find_or_make(d, id);
    if (e == NULL) {
        return false;
    }
    r->entry = e;
    hg_list_add_last(&e->claims, &r->link);
    settle(e);
    return true;
}

static void drop(struct hg_directory *d, struct hg_claim_record *r)
{
    struct entry *e = r->entry;
    hg_list_remove(&r->link);
    if (hg_list_is_empty(&e->claims)) {
        hg_map_remove(&d->entries, hg_bytes(e->id, e->id_n));
        hg_free(e);
    } else {
        settle(e);
    }
}

/* ---- From a session's thread ---- */

bool hg_claim_open(struct hg_worker *worker, struct hg_claim *claim, struct hg_bytes client_id,
                   const struct hg_claim_ops *ops)
{
    struct hg_directory *d = worker->gateway->directory;
    struct hg_claim_record *r = hg_zalloc(sizeof(*r));
    if (r == NULL) {
        return false;
    }
    r->mail.kind = HG_MAIL_CLAIM;
    r->claim = claim;
    r->worker = worker;
    uv_mutex_lock(&d->lock);
    bool is_added = add(d, r, client_id);
    uv_mutex_unlock(&d->lock);
    if (!is_added) {
        hg_free(r);
        return false;
    }
    *claim = (struct hg_claim){.worker = worker, .ops = ops, .record = r};
    return true;
}

void hg_claim_close(struct hg_claim *claim)
{
    struct hg_claim_record *r = claim->record;
    if (r == NULL) {
        return;
    }
    struct hg_directory *d = claim->worker->gateway->directory;
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
    struct hg_directory *d = claim->worker->gateway->directory;
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
