/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/mqtt/mqtt_flow.h"

#include "base/mem.h"

/* ---- In ---- */

static struct hg_mqtt_in_entry *entry_at(const struct hg_mqtt_in *in, uint32_t seq)
{
    return &in->entries[seq & (in->cap - 1)];
}

void hg_mqtt_in_close(struct hg_mqtt_in *in)
{
    hg_free(in->entries);
    hg_free(in->received);
    *in = (struct hg_mqtt_in){0};
}

bool hg_mqtt_in_reserve(struct hg_mqtt_in *in)
{
    if (in->next - in->first < in->cap) {
        return true;
    }
    struct hg_mqtt_in larger = *in;
    larger.cap = in->cap == 0 ? 4 : in->cap * 2;
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

uint32_t hg_mqtt_in_push(struct hg_mqtt_in *in, uint16_t packet_id, uint8_t qos, uint8_t on_reject)
{
    *entry_at(in, in->next) = (struct hg_mqtt_in_entry){
        .packet_id = packet_id, .qos = qos, .state = HG_MQTT_IN_WAITING, .on_reject = on_reject};
    return in->next++;
}

struct hg_mqtt_in_entry *hg_mqtt_in_find(struct hg_mqtt_in *in, uint32_t seq)
{
    return seq - in->first < in->next - in->first ? entry_at(in, seq) : NULL;
}

bool hg_mqtt_in_has(const struct hg_mqtt_in *in, uint16_t packet_id)
{
    for (uint32_t seq = in->first; seq != in->next; seq++) {
        if (entry_at(in, seq)->packet_id == packet_id) {
            return true;
        }
    }
    return false;
}

bool hg_mqtt_in_pop(struct hg_mqtt_in *in, struct hg_mqtt_in_entry *out)
{
    if (in->first == in->next || entry_at(in, in->first)->state == HG_MQTT_IN_WAITING) {
        return false;
    }
    *out = *entry_at(in, in->first++);
    return true;
}

bool hg_mqtt_in_is_empty(const struct hg_mqtt_in *in)
{
    return in->first == in->next;
}

bool hg_mqtt_in_remember(struct hg_mqtt_in *in, uint16_t packet_id)
{
    if (in->received_n == HG_MQTT_RECEIVED_MAX) {
        return false;
    }
    if (in->received_n == in->received_cap) {
        uint32_t cap = in->received_cap == 0 ? 4 : in->received_cap * 2;
        uint16_t *received = hg_realloc(in->received, cap * sizeof(*received));
        if (received == NULL) {
            return false;
        }
        in->received = received;
        in->received_cap = cap;
    }
    in->received[in->received_n++] = packet_id;
    return true;
}

bool hg_mqtt_in_remembers(const struct hg_mqtt_in *in, uint16_t packet_id)
{
    for (uint32_t i = 0; i < in->received_n; i++) {
        if (in->received[i] == packet_id) {
            return true;
        }
    }
    return false;
}

void hg_mqtt_in_release(struct hg_mqtt_in *in, uint16_t packet_id)
{
    for (uint32_t i = 0; i < in->received_n; i++) {
        if (in->received[i] == packet_id) {
            in->received[i] = in->received[--in->received_n];
            return;
        }
    }
}

/* ---- Out ---- */

static bool is_in_use(const struct hg_mqtt_out *out, uint16_t id)
{
    for (uint32_t i = 0; i < out->inflight_n; i++) {
        if (out->inflight[i] == id) {
            return true;
        }
    }
    return false;
}

/* Puts the next free identifier in flight. 0 when there is no memory. */
static uint16_t take_id(struct hg_mqtt_out *out)
{
    if (out->inflight_n == out->inflight_cap) {
        uint32_t cap = out->inflight_cap == 0 ? 8 : out->inflight_cap * 2;
        uint16_t *inflight = hg_realloc(out->inflight, cap * sizeof(*inflight));
        if (inflight == NULL) {
            return 0;
        }
        out->inflight = inflight;
        out->inflight_cap = cap;
    }
    do {
        out->last_id = out->last_id == UINT16_MAX ? 1 : (uint16_t)(out->last_id + 1);
    } while (is_in_use(out, out->last_id));
    out->inflight[out->inflight_n++] = out->last_id;
    return out->last_id;
}

static bool has_room_in_queue(struct hg_mqtt_out *out)
{
    if (out->queue_n < out->queue_cap) {
        return true;
    }
    uint32_t cap = out->queue_cap == 0 ? 8 : out->queue_cap * 2;
    struct hg_mqtt_out_item *queue = hg_alloc(cap * sizeof(*queue));
    if (queue == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < out->queue_n; i++) {
        queue[i] = out->queue[(out->queue_first + i) & (out->queue_cap - 1)];
    }
    hg_free(out->queue);
    out->queue = queue;
    out->queue_cap = cap;
    out->queue_first = 0;
    return true;
}

void hg_mqtt_out_close(struct hg_mqtt_out *out)
{
    for (uint32_t i = 0; i < out->queue_n; i++) {
        hg_buf_unref(out->queue[(out->queue_first + i) & (out->queue_cap - 1)].packet);
    }
    hg_free(out->queue);
    hg_free(out->inflight);
    *out = (struct hg_mqtt_out){0};
}

enum hg_mqtt_out_verdict hg_mqtt_out_offer(struct hg_mqtt_out *out,
                                           const struct hg_mqtt_out_item *item,
                                           uint32_t inflight_max, uint32_t queued_max,
                                           uint16_t *packet_id_out)
{
    if (out->queue_n == 0 && out->inflight_n < inflight_max) {
        *packet_id_out = take_id(out);
        return *packet_id_out == 0 ? HG_MQTT_OUT_NO_MEMORY : HG_MQTT_OUT_SEND;
    }
    if (out->queue_n >= queued_max) {
        return HG_MQTT_OUT_FULL;
    }
    if (!has_room_in_queue(out)) {
        return HG_MQTT_OUT_NO_MEMORY;
    }
    hg_buf_ref(item->packet);
    out->queue[(out->queue_first + out->queue_n++) & (out->queue_cap - 1)] = *item;
    return HG_MQTT_OUT_QUEUED;
}

bool hg_mqtt_out_ack(struct hg_mqtt_out *out, uint16_t packet_id)
{
    for (uint32_t i = 0; i < out->inflight_n; i++) {
        if (out->inflight[i] == packet_id) {
            out->inflight_n--;
            memmove(&out->inflight[i], &out->inflight[i + 1],
                    (out->inflight_n - i) * sizeof(out->inflight[0]));
            return true;
        }
    }
    return false;
}

bool hg_mqtt_out_next(struct hg_mqtt_out *out, uint32_t inflight_max,
                      struct hg_mqtt_out_item *item_out, uint16_t *packet_id_out)
{
    if (out->queue_n == 0 || out->inflight_n >= inflight_max) {
        return false;
    }
    *packet_id_out = take_id(out);
    if (*packet_id_out == 0) {
        return false;
    }
    *item_out = out->queue[out->queue_first];
    out->queue_first = (out->queue_first + 1) & (out->queue_cap - 1);
    out->queue_n--;
    return true;
}
