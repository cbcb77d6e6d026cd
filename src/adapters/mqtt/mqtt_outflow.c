/* SPDX-License-Identifier: Apache-2.0 */
/* Its memory grows by doubling and, once a burst is over, is given back. */
#include "adapters/mqtt/mqtt_outflow.h"

#include "base/mem.h"

enum {
    FIRST_N = 4,
    KEPT_N = 16, /* a ring up to this is not given back */
    IDS_N = UINT16_MAX
};

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
