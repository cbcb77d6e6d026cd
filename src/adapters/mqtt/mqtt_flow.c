/* SPDX-License-Identifier: Apache-2.0 */
/* The ledgers. Their memory grows by doubling and, once a burst is over, is given back. */
#include "adapters/mqtt/mqtt_flow.h"

#include "base/check.h"
#include "base/mem.h"

enum {
    FIRST_N = 4,
    KEPT_N = 16,
    IDS_N = UINT16_MAX
}; /* KEPT_N: a ring up to this is not given back */

/* ---- In: identifiers ----
 * Open addressing by the identifier itself: clients count upwards, so places do not collide. */

static uint16_t id_at(const struct hg_mqtt_in *in, uint32_t place)
{
    return (uint16_t)in->ids[place];
}

/* Where the identifier is, or the empty place where it would be. ids_cap > 0. */
static uint32_t place_of(const struct hg_mqtt_in *in, uint16_t id)
{
    uint32_t place = id & (in->ids_cap - 1);
    while (in->ids[place] != 0 && id_at(in, place) != id) {
        place = (place + 1) & (in->ids_cap - 1);
    }
    return place;
}

enum hg_mqtt_use hg_mqtt_in_use(const struct hg_mqtt_in *in, uint16_t packet_id)
{
    return in->ids_cap == 0 ? HG_MQTT_FREE
                            : (enum hg_mqtt_use)(in->ids[place_of(in, packet_id)] >> 16);
}

static bool has_room_for_id(struct hg_mqtt_in *in)
{
    if (in->ids_n + 1 <= in->ids_cap / 4 * 3) {
        return true;
    }
    struct hg_mqtt_in larger = *in;
    larger.ids_cap = in->ids_cap == 0 ? FIRST_N : in->ids_cap * 2;
    larger.ids = hg_zalloc(larger.ids_cap * sizeof(*larger.ids));
    if (larger.ids == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < in->ids_cap; i++) {
        if (in->ids[i] != 0) {
            larger.ids[place_of(&larger, id_at(in, i))] = in->ids[i];
        }
    }
    hg_free(in->ids);
    *in = larger;
    return true;
}

static void set_use(struct hg_mqtt_in *in, uint16_t id, enum hg_mqtt_use use)
{
    uint32_t place = place_of(in, id);
    in->ids_n += in->ids[place] == 0;
    in->ids[place] = (uint32_t)use << 16 | id;
}

/* Empties a place, and moves up what stands behind it only because it was taken. */
static void free_id(struct hg_mqtt_in *in, uint16_t id)
{
    uint32_t mask = in->ids_cap - 1;
    uint32_t hole = place_of(in, id);
    HG_CHECK(in->ids[hole] != 0);
    for (uint32_t i = (hole + 1) & mask; in->ids[i] != 0; i = (i + 1) & mask) {
        uint32_t wanted = id_at(in, i) & mask;
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            in->ids[hole] = in->ids[i];
            hole = i;
        }
    }
    in->ids[hole] = 0;
    in->ids_n--;
    if (in->ids_n == 0 && in->ids_cap > KEPT_N) {
        hg_free(in->ids);
        in->ids = NULL;
        in->ids_cap = 0;
    }
}

/* ---- In: the ring ---- */

static struct hg_mqtt_in_entry *entry_at(const struct hg_mqtt_in *in, uint32_t seq)
{
    return &in->entries[seq & (in->cap - 1)];
}

void hg_mqtt_in_close(struct hg_mqtt_in *in)
{
    hg_free(in->entries);
    hg_free(in->ids);
    *in = (struct hg_mqtt_in){0};
}

static bool has_room_in_ring(struct hg_mqtt_in *in)
{
    if (in->next - in->first < in->cap) {
        return true;
    }
    struct hg_mqtt_in larger = *in;
    larger.cap = in->cap == 0 ? FIRST_N : in->cap * 2;
    larger.entries = hg_alloc(larger.cap * sizeof(*larger.entries));
    if (larger.entries == NULL) {
        return false;
    }
    for (uint32_t seq = in->first; seq != in->next; seq++) {
        *entry_at(&larger, seq) = *entry_at(in, seq);
    }
    hg_free(in->entries);
    *in = larger;
    return true;
}

bool hg_mqtt_in_reserve(struct hg_mqtt_in *in)
{
    return has_room_for_id(in) && has_room_in_ring(in);
}

uint32_t hg_mqtt_in_push(struct hg_mqtt_in *in, uint16_t packet_id, uint8_t qos, uint8_t on_reject)
{
    set_use(in, packet_id, HG_MQTT_UNDER_WAY);
    *entry_at(in, in->next) = (struct hg_mqtt_in_entry){
        .packet_id = packet_id, .qos = qos, .state = HG_MQTT_IN_WAITING, .on_reject = on_reject};
    return in->next++;
}

struct hg_mqtt_in_entry *hg_mqtt_in_find(struct hg_mqtt_in *in, uint32_t seq)
{
    return seq - in->first < in->next - in->first ? entry_at(in, seq) : NULL;
}

bool hg_mqtt_in_pop(struct hg_mqtt_in *in, struct hg_mqtt_in_entry *out)
{
    if (in->first == in->next || entry_at(in, in->first)->state == HG_MQTT_IN_WAITING) {
        return false;
    }
    *out = *entry_at(in, in->first++);
    if (out->qos == 2 && out->state == HG_MQTT_IN_ACK) {
        set_use(in, out->packet_id, HG_MQTT_RECEIVED);
    } else {
        free_id(in, out->packet_id);
    }
    if (in->first == in->next && in->cap > KEPT_N) {
        hg_free(in->entries);
        in->entries = NULL;
        in->cap = 0;
    }
    return true;
}

void hg_mqtt_in_release(struct hg_mqtt_in *in, uint16_t packet_id)
{
    if (hg_mqtt_in_use(in, packet_id) == HG_MQTT_RECEIVED) {
        free_id(in, packet_id);
    }
}

/* ---- Out ---- */

/* The i-th oldest. */
static struct hg_mqtt_out_entry *nth(const struct hg_mqtt_out *out, uint32_t i)
{
    return &out->entries[(out->at + i) & (out->cap - 1)];
}

void hg_mqtt_out_close(struct hg_mqtt_out *out)
{
    for (uint32_t i = out->sent_n; i < out->n; i++) {
        hg_buf_unref(nth(out, i)->packet);
    }
    hg_free(out->entries);
    *out = (struct hg_mqtt_out){0};
}

static bool has_room(struct hg_mqtt_out *out)
{
    if (out->n < out->cap) {
        return true;
    }
    struct hg_mqtt_out larger = *out;
    larger.cap = out->cap == 0 ? FIRST_N : out->cap * 2;
    larger.at = 0;
    larger.entries = hg_alloc(larger.cap * sizeof(*larger.entries));
    if (larger.entries == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < out->n; i++) {
        larger.entries[i] = *nth(out, i);
    }
    hg_free(out->entries);
    *out = larger;
    return true;
}

static bool may_send(const struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits)
{
    return out->sent_n < limits->inflight_max && out->sent_n < IDS_N;
}

enum hg_status hg_mqtt_out_push(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                                struct hg_buf *packet, bool is_dup)
{
    uint32_t waiting_n = out->n - out->sent_n;
    bool is_next = waiting_n == 0 && may_send(out, limits); /* it will not wait */
    if (!is_next && waiting_n >= limits->queued_max) {
        return HG_TOO_MANY;
    }
    if (!has_room(out)) {
        return HG_NO_MEMORY;
    }
    *nth(out, out->n++) =
        (struct hg_mqtt_out_entry){hg_buf_ref(packet), HG_MQTT_OUT_WAITING, is_dup};
    out->waiting_bytes += packet->n;
    return HG_OK;
}

bool hg_mqtt_out_next(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                      struct hg_mqtt_out_entry *out_own, uint16_t *packet_id_out)
{
    if (out->sent_n == out->n || !may_send(out, limits)) {
        return false;
    }
    struct hg_mqtt_out_entry *entry = nth(out, out->sent_n);
    *out_own = *entry;
    *packet_id_out = (uint16_t)((out->used_ids + out->sent_n) % IDS_N + 1);
    out->waiting_bytes -= entry->packet->n;
    out->sent_n++;
    entry->packet = NULL;
    entry->state = HG_MQTT_OUT_SENT;
    return true;
}

bool hg_mqtt_out_ack(struct hg_mqtt_out *out, uint16_t packet_id)
{
    uint32_t i = (packet_id + (uint32_t)IDS_N - 1 - out->used_ids) % IDS_N;
    if (i >= out->sent_n || nth(out, i)->state != HG_MQTT_OUT_SENT) {
        return false;
    }
    nth(out, i)->state = HG_MQTT_OUT_DONE;
    while (out->sent_n > 0 && nth(out, 0)->state == HG_MQTT_OUT_DONE) {
        out->at = (out->at + 1) & (out->cap - 1);
        out->used_ids = (uint16_t)((out->used_ids + 1) % IDS_N);
        out->n--;
        out->sent_n--;
    }
    if (out->n == 0 && out->cap > KEPT_N) {
        hg_free(out->entries);
        out->entries = NULL;
        out->cap = 0;
    }
    return true;
}
