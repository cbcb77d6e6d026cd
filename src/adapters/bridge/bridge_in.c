/* SPDX-License-Identifier: Apache-2.0 */
/* From the site to RabbitMQ. libmosquitto acknowledges a message before it shows it, so the site
 * has forgotten it by now: it is kept in the inbox until RabbitMQ confirms it, whatever happens to
 * the links, and nothing more is read while the inbox is full. */
#include "adapters/bridge/bridge_map.h"
#include "adapters/bridge/bridge_priv.h"
#include "adapters/bridge/bridge_property.h"
#include "base/clock.h"

#include <stdio.h>

enum { RETRY_MS = 100, MESSAGE_ID_MAX = 128, TRANSIENT = 1, PERSISTENT = 2 };

bool hg_bridge_may_read(void *bridge)
{
    struct hg_bridge *b = bridge;
    return b->inbox.waiting_n == 0 && b->inbox.n < b->spec->window;
}

/* ---- Arriving ---- */

/* For those who look for repetitions: QoS 2 is exactly once only as far as the site goes. */
static struct hg_bytes make_message_id(const struct hg_bridge *b, char out[MESSAGE_ID_MAX])
{
    int n = snprintf(out, MESSAGE_ID_MAX, "bridge.%s/%llx/%llu", b->spec->name,
                     (unsigned long long)b->worker->gateway->boot_id,
                     (unsigned long long)b->inbox.last_id + 1);
    return hg_bytes(out, (size_t)n);
}

static struct hg_message *make_message(struct hg_bridge *b, const struct mosquitto_message *m,
                                       uint8_t qos, const mosquitto_property *list)
{
    struct hg_bridge_inbound in;
    char id[MESSAGE_ID_MAX];
    struct hg_buf *body = hg_buf_copy(hg_bytes(m->payload, (size_t)m->payloadlen));
    if (body == NULL) {
        return NULL;
    }
    hg_bridge_property_read(&in, list);
    in.properties.delivery_mode = qos > 0 ? PERSISTENT : TRANSIENT;
    if (qos == 2) {
        in.properties.message_id = make_message_id(b, id);
    }
    const struct hg_message_parts parts = {.routing_key = hg_writer_view(&b->address),
                                           .properties = in.properties,
                                           .body = hg_buf_bytes(body),
                                           .body_buf = body};
    struct hg_message *message = hg_message_new(&parts);
    hg_bridge_property_close(&in);
    hg_buf_unref(body);
    return message;
}

void hg_bridge_on_message(void *bridge, const struct mosquitto_message *m,
                          const mosquitto_property *properties)
{
    struct hg_bridge *b = bridge;
    struct hg_bytes topic = hg_bytes_str(m->topic);
    struct hg_bytes body = hg_bytes(m->payload, (size_t)m->payloadlen);
    if (hg_bridge_echo_take(&b->echo, topic, body, hg_clock_ms())) {
        hg_count(&b->metrics->bridge_echoes, 1);
        return;
    }
    const struct hg_bridge_route *route = hg_bridge_map_in(b->spec, topic, &b->address);
    if (route == NULL) {
        hg_bridge_refuse(b, "in", topic, HG_BYTES("no filter of the bridge takes it"));
        return;
    }
    /* bridge_site.c asks for QoS 1 where the route says 2 */
    uint8_t qos = m->qos > 0 && route->qos == 2 ? 2 : (uint8_t)m->qos;
    if (b->address.failed ||
        !hg_bridge_inbox_add(&b->inbox, make_message(b, m, qos, properties), qos, m->retain)) {
        hg_bridge_refuse(b, "in", topic, hg_bytes_str(hg_status_text(HG_NO_MEMORY)));
        return;
    }
    hg_count(&b->metrics->bridge_messages_in, 1);
    hg_count(&b->metrics->bridge_bytes_in, body.n);
    hg_bridge_publish_waiting(b);
}

/* ---- Publishing ---- */

static enum hg_status publish(struct hg_bridge *b, const struct hg_bridge_arrival *a,
                              const char **why_out)
{
    const struct hg_header marks[] = {
        {HG_BRIDGE_HEADER, {.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(b->spec->name)}},
        {HG_BYTES("x-headgate-qos"), {.kind = HG_VALUE_INT, .u.i = 2}},
    };
    struct hg_publish_args args = {
        .address = hg_message_routing_key(a->message),
        .properties = *hg_message_properties(a->message),
        .body = hg_message_body(a->message),
        .client_id = hg_bytes_str(b->spec->client_id),
        .id = a->id,
        .marks = marks,
        .marks_n = a->qos == 2 ? 2 : 1,
        .is_retained = a->is_retained,
        .wants_outcome = a->qos > 0,
        .never_held = true,
    };
    enum hg_status status = hg_publish(&b->session, &args, NULL, why_out);
    if (status == HG_NO_RETAIN) { /* its value is of use without being kept */
        args.is_retained = false;
        status = hg_publish(&b->session, &args, NULL, why_out);
    }
    return status;
}

static bool is_passing(enum hg_status status)
{
    return status == HG_BUSY || status == HG_BROKER_AWAY || status == HG_TIMED_OUT ||
           status == HG_NO_MEMORY;
}

void hg_bridge_publish_waiting(struct hg_bridge *b)
{
    struct hg_bridge_arrival *a;
    while ((a = hg_bridge_inbox_next(&b->inbox)) != NULL) {
        const char *why = NULL;
        enum hg_status status = publish(b, a, &why);
        if (is_passing(status)) {
            hg_worker_timer(b->worker, &b->retry_timer, RETRY_MS);
            break;
        }
        if (status != HG_OK) {
            hg_bridge_refuse(b, "in", hg_message_routing_key(a->message),
                             hg_bytes_str(why != NULL ? why : hg_status_text(status)));
        }
        if (status == HG_OK && a->qos > 0) {
            hg_bridge_inbox_sent(&b->inbox, a);
        } else {
            hg_bridge_inbox_end(&b->inbox, a);
        }
    }
    hg_bridge_show_windows(b);
}

void hg_bridge_on_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                          struct hg_bytes reason)
{
    struct hg_bridge *b = HG_CONTAINER_OF(s, struct hg_bridge, session);
    struct hg_bridge_arrival *a = hg_bridge_inbox_find(&b->inbox, id);
    if (a == NULL) {
        return;
    }
    if (is_passing(outcome)) {
        hg_bridge_inbox_again(&b->inbox, a);
        hg_worker_timer(b->worker, &b->retry_timer, RETRY_MS);
    } else {
        if (outcome != HG_OK) {
            hg_bridge_refuse(b, "in", hg_message_routing_key(a->message), reason);
        }
        hg_bridge_inbox_end(&b->inbox, a);
    }
    hg_bridge_show_windows(b);
    hg_bridge_look_later(b);
}
