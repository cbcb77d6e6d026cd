/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing and delivering. */
#include "adapters/mqtt/mqtt_session_priv.h"
#include "base/map.h"
#include "base/mem.h"
#include "message/topic.h"

enum { PENDING = 0xff, QOS_MAX = 1 };

/* ---- Finding ---- */

static uint32_t hash_filter(struct hg_bytes filter)
{
    /* one client's own list: nobody else's table to flood */
    static const uint64_t seed[2] = {0x6d717474, 0x66696c74};
    return (uint32_t)hg_siphash(seed, filter);
}

static struct mqtt_sub *find_sub(struct mqtt_session *m, struct hg_bytes filter)
{
    uint32_t hash = hash_filter(filter);
    struct mqtt_sub *found = NULL;
    struct hg_writer text = {0};
    HG_LIST_FOREACH (it, &m->session.subs) {
        struct mqtt_sub *sub = (struct mqtt_sub *)HG_LIST_ENTRY(it, struct hg_sub, session_link);
        if (sub->filter_hash == hash) {
            hg_writer_reset(&text);
            hg_trie_write_pattern(sub->sub.index, &sub->sub.entry, &text);
            if (hg_bytes_eq(hg_writer_view(&text), filter)) {
                found = sub;
                break;
            }
        }
    }
    hg_writer_close(&text);
    return found;
}

/* ---- SUBSCRIBE ---- */

static void answer(struct mqtt_session *m, struct mqtt_suback *s)
{
    struct hg_writer w = {0};
    hg_mqtt_write_suback(&w, s->packet_id, hg_bytes(s->codes, s->n));
    hg_list_remove(&s->link);
    hg_free(s);
    if (w.failed) {
        hg_conn_close(m->session.conn, HG_NO_MEMORY);
    } else {
        mqtt_send(m, hg_writer_view(&w));
    }
    hg_writer_close(&w);
}

/* Every SUBSCRIBE that waits for this subscription learns its outcome (and forgets it: it may be
 * freed next). */
static void resolve(struct mqtt_session *m, struct mqtt_sub *sub, bool is_ok)
{
    HG_LIST_FOREACH_SAFE (it, &m->subacks) {
        struct mqtt_suback *s = HG_LIST_ENTRY(it, struct mqtt_suback, link);
        for (size_t i = 0; i < s->n; i++) {
            if (s->subs[i] == sub) {
                s->subs[i] = NULL;
                s->codes[i] = is_ok ? s->codes[i] : HG_MQTT_SUBACK_FAILURE;
                s->waiting_n--;
            }
        }
        if (s->waiting_n == 0) {
            answer(m, s);
        }
    }
}

static void log_refused(struct mqtt_session *m, struct hg_bytes filter, enum hg_status status,
                        struct hg_bytes reason)
{
    HG_LOG_LIMITED(m->session.worker->log, HG_LOG_WARN, "mqtt.subscribe_refused", mqtt_client_id(m),
                   HG_F_BYTES("client", mqtt_client_id(m)),
                   HG_F_STR("peer", hg_conn_peer(m->session.conn)), HG_F_BYTES("filter", filter),
                   HG_F_STR("status", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

void mqtt_subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                     struct hg_bytes reason)
{
    struct mqtt_session *m = mqtt_of(s);
    struct mqtt_sub *mine = (struct mqtt_sub *)sub;
    resolve(m, mine, outcome == HG_OK);
    if (outcome != HG_OK) {
        log_refused(m, HG_BYTES(""), outcome, reason);
        hg_free(mine);
    }
}

static void grant(struct mqtt_sub *sub, uint8_t qos)
{
    sub->qos = qos;
    sub->sub.takes_redelivered = qos > 0;
}

/* The subscription for a filter, new or already there (then only its QoS changes, section 3.8.4).
 * NULL: refused. */
static struct mqtt_sub *subscribe(struct mqtt_session *m, struct hg_bytes filter, uint8_t qos)
{
    struct mqtt_sub *sub = find_sub(m, filter);
    if (sub != NULL) {
        grant(sub, qos);
        return sub;
    }
    const char *why = NULL;
    enum hg_status status = HG_NO_MEMORY;
    sub = hg_zalloc(sizeof(*sub));
    if (sub != NULL) {
        sub->filter_hash = hash_filter(filter);
        grant(sub, qos);
        status = hg_subscribe_filter(&m->session, &sub->sub, filter, &why);
    }
    if (status != HG_OK) {
        log_refused(m, filter, status, hg_bytes_str(why));
        hg_free(sub);
        return NULL;
    }
    return sub;
}

enum hg_status mqtt_on_subscribe(struct mqtt_session *m, const struct hg_mqtt_subscribe *packet,
                                 const char **rule)
{
    size_t n = packet->filters_n;
    struct mqtt_suback *s = hg_zalloc(sizeof(*s) + n * (sizeof(s->subs[0]) + 1));
    if (s == NULL) {
        *rule = "out of memory";
        return HG_NO_MEMORY;
    }
    s->packet_id = packet->packet_id;
    s->n = (uint32_t)n;
    s->codes = (uint8_t *)&s->subs[n];
    hg_list_add_last(&m->subacks, &s->link);
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    for (size_t i = 0; hg_mqtt_next_filter(&rest, HG_MQTT_SUBSCRIBE, &f); i++) {
        uint8_t qos = f.qos > QOS_MAX ? QOS_MAX : f.qos;
        struct mqtt_sub *sub = subscribe(m, f.filter, qos);
        s->codes[i] = sub == NULL ? HG_MQTT_SUBACK_FAILURE : qos;
        if (sub != NULL && !sub->sub.is_live) {
            s->subs[i] = sub;
            s->waiting_n++;
        }
    }
    if (s->waiting_n == 0) {
        answer(m, s);
    }
    return HG_OK;
}

enum hg_status mqtt_on_unsubscribe(struct mqtt_session *m, const struct hg_mqtt_subscribe *packet)
{
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    while (hg_mqtt_next_filter(&rest, HG_MQTT_UNSUBSCRIBE, &f)) {
        struct mqtt_sub *sub = find_sub(m, f.filter);
        if (sub != NULL) {
            hg_unsubscribe(&sub->sub);
            resolve(m, sub, false); /* a SUBSCRIBE still waiting for it */
            hg_free(sub);
        }
    }
    uint8_t out[HG_MQTT_SMALL_MAX];
    mqtt_send(m, hg_mqtt_encode_ack(out, HG_MQTT_UNSUBACK, packet->packet_id));
    return HG_OK;
}

void mqtt_forget_subscriptions(struct mqtt_session *m)
{
    HG_LIST_FOREACH_SAFE (it, &m->session.subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        hg_unsubscribe(sub);
        hg_free(sub);
    }
    while (!hg_list_is_empty(&m->subacks)) {
        struct mqtt_suback *s = HG_LIST_ENTRY(m->subacks.next, struct mqtt_suback, link);
        hg_list_remove(&s->link);
        hg_free(s);
    }
}

/* ---- Delivering ---- */

/* The QoS 0 PUBLISH, which every subscriber of a delivery shares, whatever its QoS. NULL: no
 * memory, or too long for MQTT. */
static struct hg_buf *shared_packet(struct hg_delivery *d)
{
    if (d->cache[0] == NULL) {
        struct hg_writer w = {0};
        const struct hg_mqtt_publish publish = {.topic = d->address,
                                                .payload = hg_message_body(d->message)};
        if (hg_mqtt_write_publish(&w, &publish) && !w.failed) {
            d->cache[0] = hg_writer_take(&w);
        }
        hg_writer_close(&w);
    }
    return d->cache[0];
}

static void count_out(struct mqtt_session *m, size_t body_n)
{
    hg_count(&mqtt_metrics(m)->messages_out, 1);
    hg_count(&mqtt_metrics(m)->bytes_out, body_n);
}

static void close_slow(struct mqtt_session *m)
{
    hg_count(&mqtt_metrics(m)->slow_closed, 1);
    hg_conn_close(m->session.conn, HG_TOO_SLOW);
}

static void deliver_qos0(struct mqtt_session *m, struct hg_delivery *d, struct hg_buf *packet)
{
    bool is_full = !d->must_keep && hg_conn_is_full(m->session.conn, packet->n);
    if (is_full || hg_conn_send_buf(m->session.conn, packet) != HG_OK) {
        hg_count(&mqtt_metrics(m)->dropped, 1);
    } else {
        count_out(m, hg_message_body(d->message).n);
    }
}

/* The shared packet's topic and payload, with a fixed header and a packet identifier of this
 * subscriber's own. */
static void send_qos1(struct mqtt_session *m, const struct hg_mqtt_out_item *item,
                      uint16_t packet_id)
{
    const uint8_t id[2] = {(uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    struct hg_mqtt_shared shared = hg_mqtt_share(hg_buf_bytes(item->packet));
    uint8_t out[HG_MQTT_HEAD_MAX];
    struct hg_bytes head;
    enum hg_status status = HG_TOO_LARGE;
    if (hg_mqtt_encode_head(out, &shared, 1, item->is_dup, &head)) {
        const struct hg_part parts[] = {{NULL, head},
                                        {item->packet, shared.topic},
                                        {NULL, hg_bytes(id, 2)},
                                        {item->packet, shared.payload}};
        status = hg_conn_send(m->session.conn, parts, sizeof(parts) / sizeof(parts[0]));
    }
    if (status == HG_OK) {
        count_out(m, shared.payload.n);
    } else {
        hg_conn_close(m->session.conn, status); /* QoS 1 is never dropped */
    }
}

static void deliver_qos1(struct mqtt_session *m, struct hg_delivery *d, struct hg_buf *packet)
{
    const struct hg_config *config = m->session.worker->config;
    if (m->out == NULL) {
        m->out = hg_zalloc(sizeof(*m->out));
    }
    if (m->out == NULL) {
        hg_conn_close(m->session.conn, HG_NO_MEMORY);
        return;
    }
    if (!d->must_keep && hg_conn_is_full(m->session.conn, packet->n)) {
        close_slow(m);
        return;
    }
    const struct hg_mqtt_out_item item = {packet, d->is_redelivered};
    uint16_t packet_id = 0;
    switch (hg_mqtt_out_offer(m->out, &item, config->mqtt_max_inflight, config->mqtt_max_queued,
                              &packet_id)) {
    case HG_MQTT_OUT_SEND: send_qos1(m, &item, packet_id); break;
    case HG_MQTT_OUT_QUEUED: break;
    case HG_MQTT_OUT_FULL: close_slow(m); break;
    case HG_MQTT_OUT_NO_MEMORY: hg_conn_close(m->session.conn, HG_NO_MEMORY); break;
    }
}

void mqtt_on_puback(struct mqtt_session *m, uint16_t packet_id)
{
    if (m->out == NULL || !hg_mqtt_out_ack(m->out, packet_id)) {
        return; /* of nothing that is in flight: harmless */
    }
    struct hg_mqtt_out_item item;
    uint32_t inflight_max = m->session.worker->config->mqtt_max_inflight;
    while (hg_mqtt_out_next(m->out, inflight_max, &item, &packet_id)) {
        send_qos1(m, &item, packet_id);
        hg_buf_unref(item.packet);
    }
}

/* Whether MQTT can show this address: another AMQP publisher may have used any bytes. */
static bool is_showable(struct hg_bytes address)
{
    return address.n > 0 && address.n <= UINT16_MAX && hg_utf8_is_clean(address) &&
           !hg_topic_has_wildcard(address);
}

void mqtt_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    struct mqtt_session *m = mqtt_of(s);
    uint8_t qos = 0;
    for (const struct hg_sub *sub = matches; sub != NULL; sub = sub->next_match) {
        uint8_t granted = ((const struct mqtt_sub *)sub)->qos;
        qos = granted > qos ? granted : qos;
    }
    /* What was published as transient is QoS 0, as RabbitMQ's plugin has it. */
    if (hg_message_properties(d->message)->delivery_mode != 2) {
        qos = 0;
    }
    bool is_wanted = m->state == MQTT_CONNECTED && is_showable(d->address);
    struct hg_buf *packet = is_wanted ? shared_packet(d) : NULL;
    if (packet == NULL) {
        hg_count(&mqtt_metrics(m)->dropped, 1);
    } else if (qos == 0) {
        deliver_qos0(m, d, packet);
    } else {
        deliver_qos1(m, d, packet);
    }
}
