/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of what goes to a site. Lists are searched from their old end: sites acknowledge, and
 * RabbitMQ delivers again, in order. */
#include "adapters/bridge/bridge_outbox.h"

#include "base/map.h"
#include "base/mem.h"

void hg_bridge_outbox_open(struct hg_bridge_outbox *o)
{
    *o = (struct hg_bridge_outbox){.seed = {hg_random_u64(), hg_random_u64()}};
    hg_list_init(&o->letters);
}

static void drop(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter)
{
    o->sent_n -= letter->state == HG_BRIDGE_SENT ? 1 : 0;
    hg_list_remove(&letter->link);
    hg_message_unref(letter->message);
    hg_free(letter->topic);
    hg_free(letter);
}

void hg_bridge_outbox_close(struct hg_bridge_outbox *o)
{
    HG_LIST_FOREACH_SAFE (it, &o->letters) {
        drop(o, HG_LIST_ENTRY(it, struct hg_bridge_letter, link));
    }
}

static uint64_t print_of(const struct hg_bridge_outbox *o, const struct hg_message *m)
{
    uint64_t seed[2] = {o->seed[0], o->seed[1]};
    seed[0] = hg_siphash(seed, hg_message_properties(m)->message_id);
    seed[0] = hg_siphash(seed, hg_message_exchange(m));
    seed[0] = hg_siphash(seed, hg_message_routing_key(m));
    return hg_siphash(seed, hg_message_body(m));
}

static struct hg_bridge_letter *find_stale(struct hg_bridge_outbox *o, uint64_t print)
{
    HG_LIST_FOREACH (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->is_stale && letter->print == print) {
            return letter;
        }
    }
    return NULL;
}

/* What is delivered again comes before what is new, so those not seen by now went elsewhere. */
static void forget_done(struct hg_bridge_outbox *o)
{
    HG_LIST_FOREACH_SAFE (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->state == HG_BRIDGE_DONE) {
            drop(o, letter);
        }
    }
}

enum hg_status hg_bridge_outbox_take(struct hg_bridge_outbox *o, struct hg_message *m,
                                     struct hg_ticket ticket, bool is_redelivered,
                                     struct hg_bytes topic, uint8_t qos)
{
    uint64_t print = print_of(o, m);
    struct hg_bridge_letter *letter = is_redelivered ? find_stale(o, print) : NULL;
    if (letter != NULL && letter->state == HG_BRIDGE_DONE) {
        drop(o, letter);
        return HG_STALE;
    }
    if (letter != NULL) {
        letter->ticket = ticket;
        letter->is_stale = false;
        return HG_HELD;
    }
    if (!is_redelivered) {
        forget_done(o);
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

static struct hg_bridge_letter *find(struct hg_bridge_outbox *o, enum hg_bridge_letter_state state,
                                     const uint16_t *mid)
{
    HG_LIST_FOREACH (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->state == state && (mid == NULL || letter->mid == *mid)) {
            return letter;
        }
    }
    return NULL;
}

struct hg_bridge_letter *hg_bridge_outbox_next(struct hg_bridge_outbox *o)
{
    return find(o, HG_BRIDGE_WAITING, NULL);
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
    return find(o, HG_BRIDGE_SENT, &mid);
}

void hg_bridge_outbox_end(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter)
{
    if (letter->is_stale && letter->state == HG_BRIDGE_SENT) {
        letter->state = HG_BRIDGE_DONE;
        o->sent_n--;
    } else {
        drop(o, letter);
    }
}

void hg_bridge_outbox_relinked(struct hg_bridge_outbox *o)
{
    HG_LIST_FOREACH_SAFE (it, &o->letters) {
        struct hg_bridge_letter *letter = HG_LIST_ENTRY(it, struct hg_bridge_letter, link);
        if (letter->state == HG_BRIDGE_WAITING) {
            drop(o, letter);
        } else {
            letter->is_stale = true;
        }
    }
}
