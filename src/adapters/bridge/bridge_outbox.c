/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of what goes to a site. Lists are searched from their old end: sites acknowledge, and
 * RabbitMQ delivers again, in order. */
#include "adapters/bridge/bridge_outbox.h"

#include "base/map.h"
#include "base/mem.h"

void hg_bridge_outbox_open(struct hg_bridge_outbox *o, size_t cap)
{
    *o = (struct hg_bridge_outbox){.cap = cap, .seed = {hg_random_u64(), hg_random_u64()}};
    hg_list_init(&o->letters);
    hg_list_init(&o->done);
}

static void drop(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter)
{
    o->sent_n -= letter->state == HG_BRIDGE_SENT ? 1 : 0;
    o->done_n -= letter->state == HG_BRIDGE_DONE ? 1 : 0;
    hg_list_remove(&letter->link);
    hg_message_unref(letter->message);
    hg_free(letter->topic);
    hg_free(letter);
}

static void drop_all(struct hg_bridge_outbox *o, struct hg_list *letters, bool only_lost)
{
    HG_LIST_FOREACH_SAFE (it, letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (!only_lost || (letter->is_stale && letter->state != HG_BRIDGE_SENT)) {
            drop(o, letter);
        }
    }
}

void hg_bridge_outbox_close(struct hg_bridge_outbox *o)
{
    drop_all(o, &o->letters, false);
    drop_all(o, &o->done, false);
}

static uint64_t print_of(const struct hg_bridge_outbox *o, const struct hg_message *m)
{
    uint64_t seed[2] = {o->seed[0], o->seed[1]};
    seed[0] = hg_siphash(seed, hg_message_properties(m)->message_id);
    seed[0] = hg_siphash(seed, hg_message_exchange(m));
    seed[0] = hg_siphash(seed, hg_message_routing_key(m));
    return hg_siphash(seed, hg_message_body(m));
}

static struct hg_bridge_letter *find_stale(struct hg_list *letters, uint64_t print)
{
    HG_LIST_FOREACH (it, letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->is_stale && letter->print == print) {
            return letter;
        }
    }
    return NULL;
}

/* What is not done comes again for certain; so, of messages that look alike, it is taken for that
 * first: none is ever left out. */
static struct hg_bridge_letter *find_again(struct hg_bridge_outbox *o, uint64_t print)
{
    struct hg_bridge_letter *letter = find_stale(&o->letters, print);
    return letter != NULL ? letter : find_stale(&o->done, print);
}

enum hg_status hg_bridge_outbox_take(struct hg_bridge_outbox *o, struct hg_message *m,
                                     struct hg_ticket ticket, bool is_redelivered,
                                     struct hg_bytes topic, uint8_t qos)
{
    uint64_t print = print_of(o, m);
    struct hg_bridge_letter *letter = is_redelivered ? find_again(o, print) : NULL;
    if (letter != NULL && letter->state == HG_BRIDGE_DONE) {
        drop(o, letter);
        return HG_STALE;
    }
    if (letter != NULL) {
        letter->ticket = ticket;
        letter->is_stale = false;
        return HG_HELD;
    }
    if (!is_redelivered) { /* all that comes again has come: the rest went elsewhere */
        drop_all(o, &o->letters, true);
        drop_all(o, &o->done, true);
    }
    letter = hg_zalloc(sizeof(*letter));
    char *copy = hg_bytes_dup(topic);
    if (letter == NULL || copy == NULL) {
        hg_free(letter);
        hg_free(copy);
        return HG_NO_MEMORY;
    }
    letter->message = hg_message_ref(m);
    letter->topic = copy;
    letter->qos = qos;
    letter->ticket = ticket;
    letter->print = print;
    hg_list_add_last(&o->letters, &letter->link);
    return HG_OK;
}

struct hg_bridge_letter *hg_bridge_outbox_next(struct hg_bridge_outbox *o)
{
    HG_LIST_FOREACH (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->state == HG_BRIDGE_WAITING && !letter->is_stale) {
            return letter;
        }
    }
    return NULL;
}

void hg_bridge_outbox_sent(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter,
                           uint16_t mid)
{
    hg_message_unref(letter->message); /* the library has its own copy */
    hg_free(letter->topic);
    letter->message = NULL;
    letter->topic = NULL;
    letter->mid = mid;
    letter->state = HG_BRIDGE_SENT;
    o->sent_n++;
}

struct hg_bridge_letter *hg_bridge_outbox_find(struct hg_bridge_outbox *o, uint16_t mid)
{
    HG_LIST_FOREACH (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->state == HG_BRIDGE_SENT && letter->mid == mid) {
            return letter;
        }
    }
    return NULL;
}

void hg_bridge_outbox_end(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter)
{
    o->sent_n -= letter->state == HG_BRIDGE_SENT ? 1 : 0;
    hg_message_unref(letter->message);
    hg_free(letter->topic);
    letter->message = NULL;
    letter->topic = NULL;
    letter->state = HG_BRIDGE_DONE;
    hg_list_remove(&letter->link);
    hg_list_add_last(&o->done, &letter->link);
    if (o->done_n++ == o->cap) {
        drop(o, HG_LIST_ENTRY(o->done.next, struct hg_bridge_letter, link));
    }
}

static void make_stale(struct hg_list *letters)
{
    HG_LIST_FOREACH (it, letters) {
        HG_LIST_ENTRY(it, struct hg_bridge_letter, link)->is_stale = true;
    }
}

void hg_bridge_outbox_relinked(struct hg_bridge_outbox *o)
{
    make_stale(&o->letters);
    make_stale(&o->done);
}
