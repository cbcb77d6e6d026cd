/* SPDX-License-Identifier: Apache-2.0 */
/* From the bridge's queue to the site: RabbitMQ is told when the site has acknowledged. */
#include "adapters/bridge/bridge_map.h"
#include "adapters/bridge/bridge_priv.h"
#include "adapters/bridge/bridge_property.h"
#include "base/clock.h"
#include "message/expiry.h"

enum { REASON_FAILURE = 0x80 }; /* the first MQTT 5.0 reason code that is one */

static bool came_over(const struct hg_bridge *b, const struct hg_message *m)
{
    const struct hg_value *v = hg_message_header(m, HG_BRIDGE_HEADER);
    return v != NULL && v->kind == HG_VALUE_STRING &&
           hg_bytes_eq(v->u.bytes, hg_bytes_str(b->spec->name));
}

static bool is_retained(const struct hg_message *m)
{
    const struct hg_value *v = hg_message_header(m, HG_BYTES("x-headgate-retain"));
    return v != NULL && v->kind == HG_VALUE_BOOL && v->u.b;
}

/* ---- The end of one ---- */

/* RabbitMQ is told; where its link was lost, it asks again by delivering it once more. */
static void finish(struct hg_bridge *b, struct hg_bridge_letter *letter, bool is_accepted)
{
    if (is_accepted) {
        (void)hg_queue_ack(b->queue, letter->ticket);
    } else {
        (void)hg_queue_nack(b->queue, letter->ticket, false);
    }
    hg_bridge_outbox_end(&b->outbox, letter);
}

void hg_bridge_on_acknowledged(void *bridge, uint16_t mid, uint8_t reason)
{
    struct hg_bridge *b = bridge;
    struct hg_bridge_letter *letter = hg_bridge_outbox_find(&b->outbox, mid);
    if (letter == NULL) { /* QoS 0 */
        return;
    }
    if (reason >= REASON_FAILURE) {
        hg_bridge_refuse(b, "out", HG_BYTES(""), hg_bytes_str(mosquitto_reason_string(reason)));
    }
    finish(b, letter, reason < REASON_FAILURE);
    hg_bridge_show_windows(b);
    hg_bridge_look_later(b);
}

/* ---- Sending ---- */

static enum hg_status hand_over(struct hg_bridge *b, const struct hg_message *m, uint64_t left_ms,
                                struct hg_bridge_publish *p, uint16_t *mid, const char **why)
{
    if (b->spec->is_v5 && !hg_bridge_property_write(m, left_ms, &p->properties)) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = hg_bridge_site_publish(b->site, p, mid, why);
    mosquitto_property_free_all(&p->properties);
    return status;
}

static void send_one(struct hg_bridge *b, struct hg_bridge_letter *letter)
{
    const struct hg_message *m = letter->message;
    uint64_t left_ms = hg_message_expiry_left_ms(m, hg_clock_wall_ms());
    if (left_ms == 0) {
        finish(b, letter, true);
        return;
    }
    struct hg_bytes topic = hg_bytes_str(letter->topic);
    struct hg_bridge_publish p = {.topic = letter->topic,
                                  .body = hg_message_body(m),
                                  .qos = letter->qos,
                                  .is_retained = is_retained(m)};
    uint16_t mid = 0;
    const char *why = hg_status_text(HG_NO_MEMORY);
    if (hand_over(b, m, left_ms, &p, &mid, &why) != HG_OK) {
        hg_bridge_refuse(b, "out", topic, hg_bytes_str(why));
        finish(b, letter, false);
        return;
    }
    if (!b->spec->is_v5 && hg_bridge_map_returns(b->spec, topic)) {
        hg_bridge_echo_sent(&b->echo, topic, p.body, hg_clock_ms());
    }
    hg_count(&b->metrics->bridge_messages_out, 1);
    hg_count(&b->metrics->bridge_bytes_out, p.body.n);
    if (p.qos == 0) {
        finish(b, letter, true);
    } else {
        hg_bridge_outbox_sent(&b->outbox, letter, mid);
    }
}

static bool may_send(const struct hg_bridge *b)
{
    return b->site != NULL && hg_bridge_site_is_up(b->site) && !b->is_draining;
}

void hg_bridge_send_waiting(struct hg_bridge *b)
{
    struct hg_bridge_letter *letter;
    while (may_send(b) && (letter = hg_bridge_outbox_next(&b->outbox)) != NULL) {
        send_one(b, letter);
    }
    hg_bridge_show_windows(b);
}

void hg_bridge_on_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_bridge *b = HG_CONTAINER_OF(s, struct hg_bridge, session);
    (void)matches;
    if (d->queue != b->queue || b->is_draining) {
        return; /* what has no answer goes back into the queue at the end */
    }
    const struct hg_bridge_route *route = hg_bridge_map_out(b->spec, d->address, &b->address);
    if (route == NULL || came_over(b, d->message)) {
        hg_queue_ack(d->queue, d->ticket); /* bindings may be wider than the filters */
        return;
    }
    enum hg_status status =
        b->address.failed
            ? HG_NO_MEMORY
            : hg_bridge_outbox_take(&b->outbox, d->message, d->ticket, d->is_redelivered,
                                    hg_writer_view(&b->address), route->qos);
    if (status == HG_STALE) {
        hg_queue_ack(d->queue, d->ticket);
    } else if (status == HG_NO_MEMORY) {
        hg_queue_nack(d->queue, d->ticket, true);
    } else {
        hg_bridge_send_waiting(b);
    }
}
