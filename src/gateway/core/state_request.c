/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in the index. The first claim of a key in the log has it; a later one replaces it where
 * the first came to nothing, or had run out when the later one was written: by what the records say,
 * so that all who read them agree. Nothing here needs a tombstone: what is over has a time. */
#include "base/mem.h"
#include "core/state_index.h"
#include "core/state_index_priv.h"

struct request {
    struct item item;
    struct hg_list age;              /* in `answered` or `open` of the index, oldest first */
    struct hg_request_record record; /* its texts are in `text` */
    bool is_second; /* its claim replaced another's that ran out without an answer */
    uint8_t text[];
};

static struct request *request_of(struct item *item)
{
    return HG_CONTAINER_OF(item, struct request, item);
}

static struct request *oldest(struct hg_list *list)
{
    return hg_list_is_empty(list) ? NULL : HG_LIST_ENTRY(list->next, struct request, age);
}

/* ---- The writer ---- */

static void take_out(struct hg_state_index *x, struct request *r)
{
    hg_list_remove(&r->item.link);
    hg_list_remove(&r->age);
    x->stats.requests_n--;
    x->stats.request_bytes -= r->item.bytes;
}

void hg_state_request_forget(struct hg_state_index *x, struct item *item)
{
    struct request *r = request_of(item);
    hg_map_remove(&x->requests, r->record.key);
    take_out(x, r);
    hg_free(r);
}

static struct hg_bytes place(uint8_t **at, struct hg_bytes text)
{
    struct hg_bytes placed = hg_bytes(*at, text.n);
    if (text.n > 0) {
        memcpy(*at, text.p, text.n);
    }
    *at += text.n;
    return placed;
}

/* Room for one more; false: what is under way fills it. */
static bool make_room(struct hg_state_index *x, uint32_t bytes)
{
    while (x->stats.requests_n >= x->limits.requests_n ||
           x->stats.request_bytes + bytes > x->limits.request_bytes) {
        struct request *r = oldest(&x->answered);
        if (r == NULL) {
            return false;
        }
        hg_state_request_forget(x, &r->item);
    }
    return true;
}

/* The record is what is known from now on, in the place of `there` (NULL: nothing was). */
static void set(struct hg_state_index *x, struct request *there,
                const struct hg_request_record *what, uint64_t version, uint32_t bytes,
                bool is_second, struct hg_state_change *out)
{
    if (there == NULL && !make_room(x, bytes)) {
        return;
    }
    struct request *r = hg_zalloc(sizeof(*r) + what->key.n + what->type.n + what->body.n);
    uint8_t *at = r == NULL ? NULL : r->text;
    if (r != NULL) {
        r->record = *what;
        r->record.key = place(&at, what->key);
        r->record.type = place(&at, what->type);
        r->record.body = place(&at, what->body);
    }
    if (r == NULL || !hg_map_put(&x->requests, r->record.key, r)) {
        hg_free(r);
        out->has_failed = true;
        return;
    }
    if (there != NULL) {
        take_out(x, there);
        hg_free(there);
    }
    r->item.kind = ITEM_REQUEST;
    r->item.version = version;
    r->item.bytes = bytes;
    r->is_second = is_second;
    r->item.at = x->read_bytes;
    hg_list_add_last(&x->live, &r->item.link);
    hg_list_add_last(what->act == HG_REQUEST_ANSWER ? &x->answered : &x->open, &r->age);
    x->stats.requests_n++;
    x->stats.request_bytes += bytes;
    while (x->stats.request_bytes > x->limits.request_bytes && (r = oldest(&x->answered)) != NULL) {
        hg_state_request_forget(x, &r->item);
    }
}

static bool is_by(const struct hg_request_record *a, const struct hg_request_record *b)
{
    return a->boot_id == b->boot_id && a->number == b->number;
}

/* Whether the record has an effect on what is there. */
static bool is_entitled(const struct hg_request_record *there, const struct hg_request_record *what)
{
    if (there == NULL) {
        return true;
    }
    bool is_open = there->act == HG_REQUEST_CLAIM;
    if (what->act == HG_REQUEST_CLAIM) {
        return there->act == HG_REQUEST_FREE || there->ends_ms <= what->at_ms ||
               (is_open && is_by(there, what));
    }
    return is_open && is_by(there, what);
}

void hg_state_request_apply(struct hg_state_index *x, const struct hg_message *m,
                            const struct hg_state_message *message, uint64_t version,
                            struct hg_state_change *out)
{
    const struct hg_request_record *what = &message->request;
    if (what->key.n == 0 || what->key.n > HG_REQUEST_KEY_MAX ||
        what->type.n > HG_REQUEST_TYPE_MAX || what->body.n > HG_REQUEST_BODY_MAX) {
        return;
    }
    struct request *there = hg_map_find(&x->requests, what->key);
    if (message->is_copy && there != NULL && version < there->item.version) {
        hg_state_item_copy_again(x, &there->item);
        return;
    }
    if (!message->is_copy && !is_entitled(there == NULL ? NULL : &there->record, what)) {
        there->item.version = version;
        return;
    }
    bool was_open = there != NULL && there->record.act == HG_REQUEST_CLAIM;
    bool is_second = was_open && (is_by(&there->record, what) ? there->is_second : true);
    set(x, there, what, version, hg_state_log_bytes(m), is_second, out);
}

struct hg_message *hg_state_request_copy(struct hg_state_index *x, struct item *item)
{
    const struct hg_state_message what = {
        .request = request_of(item)->record, .is_copy = true, .as_of = item->version};
    return hg_state_message_request(x->log_name, &what);
}

/* Those under way have a shorter time than those answered, so each kind is in a list of its own. */
void hg_state_request_sweep(struct hg_state_index *x, uint64_t now_ms)
{
    struct hg_list *const lists[] = {&x->answered, &x->open};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct request *r;
        while ((r = oldest(lists[i])) != NULL && r->record.ends_ms <= now_ms) {
            hg_state_request_forget(x, &r->item);
        }
    }
}

struct hg_message *hg_state_index_request(struct hg_state_index *x,
                                          const struct hg_request_record *record)
{
    return hg_state_message_request(x->log_name, &(struct hg_state_message){.request = *record});
}

/* ---- Readers ---- */

static enum hg_request_state state_of(const struct request *r,
                                      const struct hg_request_record *asked, uint64_t now_ms)
{
    if (r == NULL || r->record.act == HG_REQUEST_FREE) {
        return HG_REQUEST_UNKNOWN;
    }
    if (r->record.act == HG_REQUEST_CLAIM && is_by(&r->record, asked)) {
        return r->is_second ? HG_REQUEST_OURS_AGAIN : HG_REQUEST_OURS;
    }
    if (r->record.ends_ms <= now_ms) {
        return HG_REQUEST_UNKNOWN;
    }
    if (memcmp(r->record.fingerprint, asked->fingerprint, sizeof(asked->fingerprint)) != 0) {
        return HG_REQUEST_DIFFERS;
    }
    return r->record.act == HG_REQUEST_CLAIM ? HG_REQUEST_UNDER_WAY : HG_REQUEST_ANSWERED;
}

enum hg_request_state hg_state_index_look(struct hg_state_index *x,
                                          const struct hg_request_record *asked, uint64_t now_ms,
                                          struct hg_request_answer *answer_out)
{
    uv_rwlock_rdlock(&x->lock);
    const struct request *r = hg_map_find(&x->requests, asked->key);
    enum hg_request_state state = state_of(r, asked, now_ms);
    if (state == HG_REQUEST_ANSWERED) {
        *answer_out = (struct hg_request_answer){.status = r->record.status};
        if (r->record.type.n > 0) {
            memcpy(answer_out->type, r->record.type.p, r->record.type.n);
        }
        hg_writer_bytes(&answer_out->body, r->record.body);
    }
    uv_rwlock_rdunlock(&x->lock);
    return state;
}
