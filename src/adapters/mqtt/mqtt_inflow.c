/* SPDX-License-Identifier: Apache-2.0 */
/* Its memory grows by doubling and, once a burst is over, is given back. */
#include "adapters/mqtt/mqtt_inflow.h"

#include "base/check.h"
#include "base/mem.h"

enum {
    REFUSED = 0x80, /* reasons from here on: 5.0 section 2.4 */
    FIRST_N = 4,
    KEPT_N = 16 /* a ring up to this is not given back */
};

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
    for (uint32_t seq = in->first; seq != in->next; seq++) {
        hg_buf_unref(entry_at(in, seq)->text_own);
        hg_message_unref(entry_at(in, seq)->spare_own);
    }
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
    if (out->qos == 2 && out->state == HG_MQTT_IN_ACK && out->reason < REFUSED) {
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

/* ---- In: a session that goes on ---- */

bool hg_mqtt_in_restore(struct hg_mqtt_in *in, uint16_t packet_id)
{
    if (!has_room_for_id(in)) {
        return false;
    }
    set_use(in, packet_id, HG_MQTT_RECEIVED);
    in->restored_n++;
    return true;
}

bool hg_mqtt_in_list(const struct hg_mqtt_in *in, uint16_t **out_own, size_t *n_out)
{
    *n_out = 0;
    *out_own = in->ids_n == 0 ? NULL : hg_alloc(in->ids_n * sizeof(**out_own));
    if (*out_own == NULL) {
        return in->ids_n == 0;
    }
    for (uint32_t i = 0; i < in->ids_cap; i++) {
        if (in->ids[i] >> 16 == HG_MQTT_RECEIVED) {
            (*out_own)[(*n_out)++] = id_at(in, i);
        }
    }
    return true;
}
