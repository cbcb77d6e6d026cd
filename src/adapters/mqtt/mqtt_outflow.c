/* SPDX-License-Identifier: Apache-2.0 */
/* Its memory grows by doubling and, once a burst is over, is given back. */
#include "adapters/mqtt/mqtt_outflow.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>

enum {
    FIRST_N = 4,
    KEPT_N = 16, /* memory for up to so many is not given back */
    IDS_N = UINT16_MAX
};

enum slot_state {
    FREE,
    EXPECTED, /* sent on an earlier connection: RabbitMQ will deliver it again */
    RESERVED, /* it has, and the delivery waits */
    SENT,     /* PUBACK or PUBREC is to come */
    RELEASED, /* PUBREL is sent, PUBCOMP is to come */
    CLEARING  /* the same, for nothing but to make the client forget the identifier */
};

struct hg_mqtt_out_slot {
    struct hg_queue *queue; /* NULL: no answer is owed */
    struct hg_ticket ticket;
    uint64_t fingerprint;
    uint32_t order; /* when it was sent */
    uint8_t state;  /* enum slot_state */
    uint8_t qos;
    bool is_stale; /* SENT: its ticket is of a link that was lost */
    /* a client may hold it as received (QoS 2), and would take a new delivery for a repeat */
    bool is_doubtful;
};

struct hg_mqtt_out_answered {
    struct hg_queue *queue;
    uint64_t fingerprint;
};

/* ---- The ring ---- */

/* The i-th oldest. */
static struct hg_mqtt_out_item *nth(const struct hg_mqtt_out *out, uint32_t i)
{
    return &out->items[(out->at + i) & (out->items_cap - 1)];
}

static void unref_item(struct hg_mqtt_out_item *item)
{
    hg_buf_unref(item->packet);
    hg_buf_unref(item->own);
}

static bool has_room_for_item(struct hg_mqtt_out *out)
{
    if (out->items_n < out->items_cap) {
        return true;
    }
    uint32_t cap = out->items_cap == 0 ? FIRST_N : out->items_cap * 2;
    struct hg_mqtt_out_item *items = hg_alloc(cap * sizeof(*items));
    if (items == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < out->items_n; i++) {
        items[i] = *nth(out, i);
    }
    hg_free(out->items);
    out->items = items;
    out->items_cap = cap;
    out->at = 0;
    return true;
}

static void count_item(struct hg_mqtt_out *out, const struct hg_mqtt_out_item *item, bool is_in)
{
    if (item->queue == NULL && is_in) {
        out->fed_n++;
        out->fed_bytes += item->packet->n;
    } else if (item->queue == NULL) {
        out->fed_n--;
        out->fed_bytes -= item->packet->n;
    }
}

static void give_back_items(struct hg_mqtt_out *out)
{
    if (out->items_n == 0 && out->items_cap > KEPT_N) {
        hg_free(out->items);
        out->items = NULL;
        out->items_cap = 0;
    }
}

static void pop_item(struct hg_mqtt_out *out, struct hg_mqtt_out_item *item_own)
{
    *item_own = *nth(out, 0);
    count_item(out, item_own, false);
    out->at = (out->at + 1) & (out->items_cap - 1);
    out->items_n--;
    give_back_items(out);
}

enum hg_status hg_mqtt_out_push(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                                const struct hg_mqtt_out_item *item)
{
    if (item->queue == NULL && !hg_mqtt_out_is_open(out, limits) &&
        out->fed_n >= limits->queued_max) {
        return HG_TOO_MANY;
    }
    if (!has_room_for_item(out)) {
        return HG_NO_MEMORY;
    }
    struct hg_mqtt_out_item *place = nth(out, out->items_n++);
    *place = *item;
    hg_buf_ref(place->packet);
    if (place->own != NULL) {
        hg_buf_ref(place->own);
    }
    count_item(out, place, true);
    return HG_OK;
}

bool hg_mqtt_out_is_open(const struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits)
{
    return out->items_n == 0 && out->sent_n < limits->inflight_max && out->used_n < IDS_N;
}

/* ---- The slots ---- */

static struct hg_mqtt_out_slot *slot_of(const struct hg_mqtt_out *out, uint16_t packet_id)
{
    return packet_id == 0 || packet_id > out->slots_cap ? NULL : &out->slots[packet_id - 1];
}

static bool has_slots(struct hg_mqtt_out *out, uint32_t n)
{
    if (n <= out->slots_cap) {
        return true;
    }
    uint32_t cap = out->slots_cap == 0 ? FIRST_N : out->slots_cap;
    while (cap < n) {
        cap = cap * 2 > IDS_N ? IDS_N : cap * 2;
    }
    struct hg_mqtt_out_slot *slots = hg_realloc(out->slots, cap * sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = out->slots_cap; i < cap; i++) {
        slots[i] = (struct hg_mqtt_out_slot){.is_doubtful = out->is_unclean};
        out->doubtful_n += out->is_unclean;
    }
    out->slots = slots;
    out->slots_cap = cap;
    return true;
}

static bool is_in_flight(uint8_t state)
{
    return state >= SENT;
}

static bool is_awaited(const struct hg_mqtt_out_slot *slot)
{
    return slot->state == EXPECTED || (slot->state == SENT && slot->is_stale);
}

/* Every change of a slot's state goes through here, for the counts. */
static void set_state(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot, enum slot_state state)
{
    uint32_t i = (uint32_t)(slot - out->slots);
    out->awaited_n -= is_awaited(slot);
    out->used_n -= slot->state != FREE;
    out->sent_n -= is_in_flight(slot->state);
    out->clearing_n -= slot->state == CLEARING;
    slot->state = (uint8_t)state;
    out->awaited_n += is_awaited(slot);
    out->used_n += state != FREE;
    out->sent_n += is_in_flight(slot->state);
    out->clearing_n += state == CLEARING;
    if (state == FREE) {
        slot->queue = NULL;
        slot->is_stale = false;
        out->lowest = i < out->lowest ? i : out->lowest;
    }
}

static void set_doubtful(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot, bool is_doubtful)
{
    out->doubtful_n -= slot->is_doubtful;
    slot->is_doubtful = is_doubtful;
    out->doubtful_n += is_doubtful;
}

static void set_stale(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot, bool is_stale)
{
    out->awaited_n -= is_awaited(slot);
    slot->is_stale = is_stale;
    out->awaited_n += is_awaited(slot);
}

static void give_back_slots(struct hg_mqtt_out *out)
{
    bool has_to_stay = out->used_n > 0 || out->doubtful_n > 0 || out->is_unclean;
    if (!has_to_stay && out->slots_cap > KEPT_N) {
        hg_free(out->slots);
        out->slots = NULL;
        out->slots_cap = out->lowest = 0;
    }
}

/* The lowest identifier that is free (and that the client surely does not hold); 0: none without
 * more slots. */
static uint32_t find_free(struct hg_mqtt_out *out, bool must_be_sure)
{
    while (out->lowest < out->slots_cap && out->slots[out->lowest].state != FREE) {
        out->lowest++;
    }
    for (uint32_t i = out->lowest; i < out->slots_cap; i++) {
        if (out->slots[i].state == FREE && !(must_be_sure && out->slots[i].is_doubtful)) {
            return i + 1;
        }
    }
    return 0;
}

/* An identifier for a new delivery. 0: none: *must_clear says that one must be cleared first, else
 * there is no memory. */
static uint16_t choose_id(struct hg_mqtt_out *out, uint8_t qos, bool *must_clear)
{
    bool must_be_sure = qos == 2 && (out->doubtful_n > 0 || out->is_unclean);
    uint32_t id = find_free(out, must_be_sure);
    bool may_grow = out->slots_cap < IDS_N && !(must_be_sure && out->is_unclean);
    if (id == 0 && may_grow) {
        uint32_t next = out->slots_cap + 1;
        id = has_slots(out, next) ? next : 0;
        *must_clear = false;
    } else {
        *must_clear = id == 0;
    }
    return (uint16_t)id;
}

/* The client is to forget one more identifier, if there are not enough on their way. */
static enum hg_mqtt_out_step clear_one(struct hg_mqtt_out *out, uint16_t *packet_id_out)
{
    if (out->clearing_n >= out->items_n) {
        return HG_MQTT_OUT_IDLE;
    }
    uint32_t id = find_free(out, false);
    if (id == 0 && out->slots_cap < IDS_N) {
        id = out->slots_cap + 1;
    }
    if (id == 0) {
        return HG_MQTT_OUT_IDLE; /* all are in use */
    }
    if (!has_slots(out, id)) {
        return HG_MQTT_OUT_FAILED;
    }
    *packet_id_out = (uint16_t)id;
    set_state(out, slot_of(out, *packet_id_out), CLEARING);
    return HG_MQTT_OUT_CLEAR;
}

/* ---- Sending ---- */

static void note_sent(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot,
                      const struct hg_mqtt_out_item *item)
{
    set_state(out, slot, SENT);
    slot->queue = item->queue;
    slot->ticket = item->ticket;
    slot->fingerprint = item->fingerprint;
    slot->qos = item->qos;
    slot->order = out->next_order++;
}

enum hg_mqtt_out_step hg_mqtt_out_next(struct hg_mqtt_out *out,
                                       const struct hg_mqtt_out_limits *limits, uint64_t now_ms,
                                       bool has_room, struct hg_mqtt_out_item *item_own,
                                       uint16_t *packet_id_out)
{
    if (out->items_n == 0) {
        return HG_MQTT_OUT_IDLE;
    }
    const struct hg_mqtt_out_item *item = nth(out, 0);
    uint16_t id = item->packet_id;
    if (item->expires_ms <= now_ms) {
        if (id != 0) { /* the client may have it since the first time */
            set_state(out, slot_of(out, id), FREE);
            set_doubtful(out, slot_of(out, id), true);
        }
        pop_item(out, item_own);
        return HG_MQTT_OUT_EXPIRED;
    }
    if (item->qos > 0) {
        if (out->sent_n >= limits->inflight_max) {
            return HG_MQTT_OUT_IDLE;
        }
        bool must_clear = false;
        id = id != 0 ? id : choose_id(out, item->qos, &must_clear);
        if (id == 0) {
            return must_clear ? clear_one(out, packet_id_out) : HG_MQTT_OUT_FAILED;
        }
        note_sent(out, slot_of(out, id), item);
    } else if (!has_room) {
        return HG_MQTT_OUT_IDLE;
    }
    *packet_id_out = id;
    pop_item(out, item_own);
    return HG_MQTT_OUT_SEND;
}

/* ---- Answers ---- */

/* The client has answered what RabbitMQ will deliver once more. */
static bool note_answered(struct hg_mqtt_out *out, struct hg_queue *queue, uint64_t fingerprint)
{
    if (out->answered_n == out->answered_cap) {
        uint32_t cap = out->answered_cap == 0 ? FIRST_N : out->answered_cap * 2;
        void *answered = hg_realloc(out->answered, cap * sizeof(out->answered[0]));
        if (answered == NULL) {
            return false;
        }
        out->answered = answered;
        out->answered_cap = cap;
    }
    out->answered[out->answered_n++] = (struct hg_mqtt_out_answered){queue, fingerprint};
    out->awaited_n++;
    return true;
}

static void drop_answered(struct hg_mqtt_out *out, uint32_t i)
{
    out->answered[i] = out->answered[--out->answered_n];
    out->awaited_n--;
    if (out->answered_n == 0) {
        hg_free(out->answered);
        out->answered = NULL;
        out->answered_cap = 0;
    }
}

/* RabbitMQ's part of a delivery is over. */
static void settle(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot,
                   struct hg_queue **queue_out, struct hg_ticket *ticket_out)
{
    if (slot->is_stale) {
        /* without memory the client will get it once more, too */
        (void)note_answered(out, slot->queue, slot->fingerprint);
    } else {
        *queue_out = slot->queue;
        *ticket_out = slot->ticket;
    }
    set_stale(out, slot, false);
    slot->queue = NULL;
}

static void free_slot(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot)
{
    set_state(out, slot, FREE);
    give_back_slots(out);
}

static enum hg_mqtt_out_answer hear_of_sent(struct hg_mqtt_out *out, struct hg_mqtt_out_slot *slot,
                                            enum hg_mqtt_type type, bool is_refused,
                                            struct hg_queue **queue_out,
                                            struct hg_ticket *ticket_out)
{
    if (type != (slot->qos == 2 ? HG_MQTT_PUBREC : HG_MQTT_PUBACK)) {
        return HG_MQTT_OUT_WRONG;
    }
    settle(out, slot, queue_out, ticket_out);
    if (slot->qos == 2) { /* answered now, the client holds no older one under this identifier */
        set_doubtful(out, slot, false);
    }
    if (slot->qos == 2 && !is_refused) {
        set_state(out, slot, RELEASED);
        return HG_MQTT_OUT_RELEASE;
    }
    free_slot(out, slot);
    return HG_MQTT_OUT_SETTLED;
}

static enum hg_mqtt_out_answer hear_of_released(struct hg_mqtt_out *out,
                                                struct hg_mqtt_out_slot *slot,
                                                enum hg_mqtt_type type, bool is_refused)
{
    if (type == HG_MQTT_PUBREC && !is_refused) {
        return HG_MQTT_OUT_RELEASE;
    }
    if (type == HG_MQTT_PUBACK) {
        return HG_MQTT_OUT_WRONG;
    }
    set_doubtful(out, slot, false);
    free_slot(out, slot);
    return HG_MQTT_OUT_SETTLED;
}

enum hg_mqtt_out_answer hg_mqtt_out_hear(struct hg_mqtt_out *out, enum hg_mqtt_type type,
                                         uint16_t packet_id, bool is_refused,
                                         struct hg_queue **queue_out, struct hg_ticket *ticket_out)
{
    struct hg_mqtt_out_slot *slot = slot_of(out, packet_id);
    *queue_out = NULL;
    switch (slot == NULL ? FREE : (enum slot_state)slot->state) {
    case SENT: return hear_of_sent(out, slot, type, is_refused, queue_out, ticket_out);
    case RELEASED:
    case CLEARING: return hear_of_released(out, slot, type, is_refused);
    case EXPECTED:
    case RESERVED: return HG_MQTT_OUT_SETTLED; /* too early: it is answered when it comes again */
    default: return HG_MQTT_OUT_UNKNOWN;
    }
}

/* ---- A session that goes on ---- */

enum hg_status hg_mqtt_out_resume(struct hg_mqtt_out *out, struct hg_queue *queue,
                                  const struct hg_session_tx *tx, size_t n, bool is_unclean)
{
    out->is_unclean = is_unclean;
    for (size_t i = 0; i < n; i++) {
        if (tx[i].packet_id == 0 ? !note_answered(out, queue, tx[i].fingerprint)
                                 : !has_slots(out, tx[i].packet_id)) {
            return HG_NO_MEMORY;
        }
        if (tx[i].packet_id == 0) {
            continue;
        }
        struct hg_mqtt_out_slot *slot = slot_of(out, tx[i].packet_id);
        set_state(out, slot, tx[i].is_released ? RELEASED : EXPECTED);
        slot->queue = tx[i].is_released ? NULL : queue;
        slot->fingerprint = tx[i].fingerprint;
        set_doubtful(out, slot, true); /* its QoS is not known */
        slot->order = out->next_order++;
    }
    return HG_OK;
}

/* What a record says of an identifier; false: nothing. */
static bool list_slot(const struct hg_mqtt_out_slot *slot, const struct hg_queue *queue,
                      bool doubts_count, struct hg_session_tx *tx)
{
    bool comes_again = slot->queue != NULL && slot->queue == queue &&
                       (slot->state == SENT || slot->state == EXPECTED || slot->state == RESERVED);
    bool is_held = slot->state == RELEASED || slot->state == CLEARING ||
                   (slot->state == SENT && slot->qos == 2) || (doubts_count && slot->is_doubtful);
    tx->fingerprint = comes_again ? slot->fingerprint : 0;
    tx->is_released = !comes_again;
    return comes_again || is_held;
}

struct listed { /* for the order */
    struct hg_session_tx tx;
    uint32_t order;
};

static int by_order(const void *a, const void *b)
{
    int32_t diff = (int32_t)(((const struct listed *)a)->order - ((const struct listed *)b)->order);
    return diff < 0 ? -1 : diff > 0;
}

bool hg_mqtt_out_list(const struct hg_mqtt_out *out, const struct hg_queue *queue, uint16_t id_max,
                      struct hg_session_tx **out_own, size_t *n_out)
{
    uint32_t ids_n = out->is_unclean && id_max > out->slots_cap ? id_max : out->slots_cap;
    size_t n_max = ids_n + out->answered_n;
    *out_own = NULL;
    *n_out = 0;
    if (n_max == 0) {
        return true;
    }
    struct listed *all = hg_alloc(n_max * sizeof(*all));
    struct hg_session_tx *tx = hg_alloc(n_max * sizeof(*tx));
    if (all == NULL || tx == NULL) {
        hg_free(all);
        hg_free(tx);
        return false;
    }
    const struct hg_mqtt_out_slot unknown = {.is_doubtful = true, .order = out->next_order};
    size_t n = 0;
    for (uint32_t i = 0; i < ids_n; i++) {
        const struct hg_mqtt_out_slot *slot = i < out->slots_cap ? &out->slots[i] : &unknown;
        all[n] = (struct listed){.tx = {.packet_id = (uint16_t)(i + 1)}, .order = slot->order};
        n += list_slot(slot, queue, id_max > 0, &all[n].tx);
    }
    qsort(all, n, sizeof(*all), by_order);
    for (size_t i = 0; i < n; i++) {
        tx[i] = all[i].tx;
    }
    for (uint32_t i = 0; i < out->answered_n; i++) {
        if (out->answered[i].queue == queue) {
            tx[n++] = (struct hg_session_tx){.fingerprint = out->answered[i].fingerprint,
                                             .is_released = true};
        }
    }
    hg_free(all);
    *out_own = tx;
    *n_out = n;
    return true;
}

/* ---- A message that comes again ---- */

/* The one sent first of those that wait to come again; NULL: none. */
static struct hg_mqtt_out_slot *find_awaited(const struct hg_mqtt_out *out,
                                             const struct hg_queue *queue, uint64_t fingerprint)
{
    struct hg_mqtt_out_slot *first = NULL;
    for (uint32_t i = 0; i < out->slots_cap; i++) {
        struct hg_mqtt_out_slot *slot = &out->slots[i];
        if (is_awaited(slot) && slot->queue == queue && slot->fingerprint == fingerprint &&
            (first == NULL || (int32_t)(slot->order - first->order) < 0)) {
            first = slot;
        }
    }
    return first;
}

/* All that would come again has come: queues keep their order. */
static void give_up_awaited(struct hg_mqtt_out *out, const struct hg_queue *queue)
{
    for (uint32_t i = 0; i < out->slots_cap; i++) {
        struct hg_mqtt_out_slot *slot = &out->slots[i];
        if (!is_awaited(slot) || slot->queue != queue) {
            continue;
        }
        if (slot->state == EXPECTED) {
            set_state(out, slot, FREE);
            set_doubtful(out, slot, true);
        } else {
            set_stale(out, slot, false);
            slot->queue = NULL;
        }
    }
    for (uint32_t i = out->answered_n; i > 0; i--) {
        if (out->answered[i - 1].queue == queue) {
            drop_answered(out, i - 1);
        }
    }
}

enum hg_mqtt_out_met hg_mqtt_out_meet(struct hg_mqtt_out *out, struct hg_mqtt_out_item *item,
                                      bool is_redelivered)
{
    /* what was sent to this client is known, unless nobody could write it down */
    item->is_dup = is_redelivered && out->is_unclean;
    if (out->awaited_n == 0) {
        return HG_MQTT_OUT_NEW;
    }
    if (!is_redelivered) {
        give_up_awaited(out, item->queue);
        return HG_MQTT_OUT_NEW;
    }
    for (uint32_t i = 0; i < out->answered_n; i++) {
        if (out->answered[i].queue == item->queue &&
            out->answered[i].fingerprint == item->fingerprint) {
            drop_answered(out, i);
            return HG_MQTT_OUT_ANSWERED;
        }
    }
    struct hg_mqtt_out_slot *slot = find_awaited(out, item->queue, item->fingerprint);
    if (slot == NULL) {
        return HG_MQTT_OUT_NEW;
    }
    if (slot->state == SENT) {
        set_stale(out, slot, false);
        slot->ticket = item->ticket;
        return HG_MQTT_OUT_HAS;
    }
    set_state(out, slot, RESERVED);
    item->is_dup = true;
    item->packet_id = (uint16_t)(slot - out->slots + 1);
    return HG_MQTT_OUT_AGAIN;
}

/* Takes the queue's items out of the ring. */
static void drop_items(struct hg_mqtt_out *out, const struct hg_queue *queue)
{
    uint32_t kept_n = 0;
    for (uint32_t i = 0; i < out->items_n; i++) {
        struct hg_mqtt_out_item *item = nth(out, i);
        if (item->queue != queue) {
            *nth(out, kept_n++) = *item;
            continue;
        }
        if (item->packet_id != 0) {
            set_state(out, slot_of(out, item->packet_id), EXPECTED);
        }
        unref_item(item);
    }
    out->items_n = kept_n;
    give_back_items(out);
}

void hg_mqtt_out_stale(struct hg_mqtt_out *out, const struct hg_queue *queue)
{
    drop_items(out, queue);
    for (uint32_t i = 0; i < out->slots_cap; i++) {
        if (out->slots[i].state == SENT && out->slots[i].queue == queue) {
            set_stale(out, &out->slots[i], true);
        }
    }
}

void hg_mqtt_out_forget(struct hg_mqtt_out *out, const struct hg_queue *queue)
{
    hg_mqtt_out_stale(out, queue);
    give_up_awaited(out, queue);
}

void hg_mqtt_out_close(struct hg_mqtt_out *out)
{
    for (uint32_t i = 0; i < out->items_n; i++) {
        unref_item(nth(out, i));
    }
    hg_free(out->items);
    hg_free(out->slots);
    hg_free(out->answered);
    *out = (struct hg_mqtt_out){0};
}
