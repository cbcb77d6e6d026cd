/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/webhook/webhook_ledger.h"

#include "base/mem.h"

struct hg_webhook_key {
    struct hg_list letters; /* hg_webhook_letter.key_link, oldest first */
    struct hg_list link;    /* in `remembered`, while it has no letters */
    uint64_t print;         /* of the message that the next two are about */
    uint64_t due_ms;
    uint32_t attempts; /* 0: nothing is remembered */
    struct hg_bytes name;
    uint8_t text[];
};

void hg_webhook_ledger_open(struct hg_webhook_ledger *l, size_t cap)
{
    *l = (struct hg_webhook_ledger){.cap = cap};
    hg_list_init(&l->letters);
    hg_list_init(&l->remembered);
    hg_map_open(&l->keys);
}

/* ---- Keys ---- */

static void free_key(struct hg_webhook_ledger *l, struct hg_webhook_key *key)
{
    if (!hg_list_is_empty(&key->link)) {
        hg_list_remove(&key->link);
        l->remembered_n--;
    }
    hg_map_remove(&l->keys, key->name);
    hg_free(key);
}

static struct hg_webhook_key *key_for(struct hg_webhook_ledger *l, struct hg_bytes name)
{
    struct hg_webhook_key *key = hg_map_find(&l->keys, name);
    if (key != NULL) {
        return key;
    }
    key = hg_zalloc(sizeof(*key) + name.n);
    if (key == NULL) {
        return NULL;
    }
    memcpy(key->text, name.p, name.n);
    key->name = hg_bytes(key->text, name.n);
    hg_list_init(&key->letters);
    hg_list_init(&key->link);
    if (!hg_map_put(&l->keys, key->name, key)) {
        hg_free(key);
        return NULL;
    }
    return key;
}

static uint64_t print_of(const struct hg_webhook_ledger *l, const struct hg_message *m)
{
    return hg_siphash(l->keys.seed, hg_message_body(m)) ^
           hg_siphash(l->keys.seed, hg_message_properties(m)->message_id);
}

/* The first letter of a key that had none. */
static void recall(struct hg_webhook_ledger *l, struct hg_webhook_key *key,
                   struct hg_webhook_letter *letter)
{
    if (!hg_list_is_empty(&key->link)) {
        hg_list_remove(&key->link);
        l->remembered_n--;
    }
    if (key->attempts > 0 && key->print == print_of(l, letter->message)) {
        letter->attempts = key->attempts;
        letter->due_ms = key->due_ms;
    }
    key->attempts = 0;
}

static void leave_key(struct hg_webhook_ledger *l, struct hg_webhook_key *key)
{
    if (!hg_list_is_empty(&key->letters)) {
        return;
    }
    if (key->attempts == 0) {
        free_key(l, key);
        return;
    }
    hg_list_add_last(&l->remembered, &key->link);
    if (++l->remembered_n > l->cap) {
        free_key(l, HG_LIST_ENTRY(l->remembered.next, struct hg_webhook_key, link));
    }
}

/* ---- Letters ---- */

static bool is_first(const struct hg_webhook_letter *letter)
{
    return letter->key == NULL || letter->key->letters.next == &letter->key_link;
}

struct hg_webhook_letter *hg_webhook_ledger_take(struct hg_webhook_ledger *l, struct hg_message *m,
                                                 struct hg_ticket ticket, struct hg_bytes key,
                                                 uint64_t now_ms)
{
    struct hg_webhook_letter *letter = hg_zalloc(sizeof(*letter));
    if (letter == NULL || (key.n > 0 && (letter->key = key_for(l, key)) == NULL)) {
        hg_free(letter);
        return NULL;
    }
    letter->message = hg_message_ref(m);
    letter->ticket = ticket;
    letter->number = ++l->last_number;
    letter->taken_ms = letter->due_ms = now_ms;
    hg_list_add_last(&l->letters, &letter->link);
    hg_list_init(&letter->key_link);
    if (letter->key != NULL) {
        if (hg_list_is_empty(&letter->key->letters)) {
            recall(l, letter->key, letter);
        }
        hg_list_add_last(&letter->key->letters, &letter->key_link);
    }
    l->n++;
    return letter;
}

static struct hg_webhook_letter *first_of(const struct hg_webhook_ledger *l,
                                          enum hg_webhook_letter_state state, uint64_t now_ms)
{
    HG_LIST_FOREACH (it, &l->letters) {
        struct hg_webhook_letter *letter = HG_LIST_ENTRY(it, struct hg_webhook_letter, link);
        if (letter->state == state && letter->due_ms <= now_ms && is_first(letter)) {
            return letter;
        }
    }
    return NULL;
}

struct hg_webhook_letter *hg_webhook_ledger_next(const struct hg_webhook_ledger *l, uint64_t now_ms)
{
    return first_of(l, HG_WEBHOOK_WAITING, now_ms);
}

struct hg_webhook_letter *hg_webhook_ledger_leaving(const struct hg_webhook_ledger *l,
                                                    uint64_t now_ms)
{
    return first_of(l, HG_WEBHOOK_LEAVING, now_ms);
}

struct hg_webhook_letter *hg_webhook_ledger_overdue(const struct hg_webhook_ledger *l,
                                                    uint64_t before_ms)
{
    HG_LIST_FOREACH (it, &l->letters) {
        struct hg_webhook_letter *letter = HG_LIST_ENTRY(it, struct hg_webhook_letter, link);
        if (letter->taken_ms >= before_ms) { /* so do all behind it */
            return NULL;
        }
        if (letter->state == HG_WEBHOOK_WAITING) {
            return letter;
        }
    }
    return NULL;
}

uint64_t hg_webhook_ledger_due_ms(const struct hg_webhook_ledger *l, uint64_t now_ms)
{
    uint64_t due_ms = HG_WEBHOOK_NEVER;
    HG_LIST_FOREACH (it, &l->letters) {
        const struct hg_webhook_letter *letter = HG_LIST_ENTRY(it, struct hg_webhook_letter, link);
        bool is_asleep = letter->state == HG_WEBHOOK_WAITING || letter->state == HG_WEBHOOK_LEAVING;
        if (is_asleep && is_first(letter) && letter->due_ms > now_ms && letter->due_ms < due_ms) {
            due_ms = letter->due_ms;
        }
    }
    return due_ms;
}

struct hg_webhook_letter *hg_webhook_ledger_find(const struct hg_webhook_ledger *l, uint64_t number)
{
    HG_LIST_FOREACH (it, &l->letters) {
        struct hg_webhook_letter *letter = HG_LIST_ENTRY(it, struct hg_webhook_letter, link);
        if (letter->number == number) {
            return letter;
        }
    }
    return NULL;
}

void hg_webhook_ledger_end(struct hg_webhook_ledger *l, struct hg_webhook_letter *letter)
{
    hg_list_remove(&letter->link);
    hg_list_remove(&letter->key_link);
    l->n--;
    if (letter->key != NULL) {
        leave_key(l, letter->key);
    }
    hg_message_unref(letter->message);
    hg_free(letter->why_own);
    hg_free(letter);
}

void hg_webhook_ledger_return(struct hg_webhook_ledger *l, struct hg_webhook_letter *letter)
{
    struct hg_webhook_key *key = letter->key;
    if (key != NULL && letter->attempts > 0 && is_first(letter)) {
        key->attempts = letter->attempts;
        key->due_ms = letter->due_ms;
        key->print = print_of(l, letter->message);
    }
    hg_webhook_ledger_end(l, letter);
}

void hg_webhook_ledger_void(struct hg_webhook_ledger *l)
{
    HG_LIST_FOREACH_SAFE (it, &l->letters) {
        struct hg_webhook_letter *letter = HG_LIST_ENTRY(it, struct hg_webhook_letter, link);
        if (letter->state == HG_WEBHOOK_SENT || letter->state == HG_WEBHOOK_LEFT) {
            letter->is_stale = true;
        } else {
            hg_webhook_ledger_return(l, letter);
        }
    }
}

void hg_webhook_ledger_close(struct hg_webhook_ledger *l)
{
    HG_LIST_FOREACH_SAFE (it, &l->letters) {
        hg_webhook_ledger_end(l, HG_LIST_ENTRY(it, struct hg_webhook_letter, link));
    }
    HG_LIST_FOREACH_SAFE (it, &l->remembered) {
        free_key(l, HG_LIST_ENTRY(it, struct hg_webhook_key, link));
    }
    hg_map_close(&l->keys);
}
