/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing and delivering. Sections are those of MQTT 3.1.1. */
#include "adapters/mqtt/mqtt_session_priv.h"
#include "base/mem.h"
#include "message/topic.h"

enum {
    QOS_MAX = 1,     /* what is granted at most */
    FEW_SUBS = 16,   /* up to so many are found by looking at each */
    SUBACKS_MAX = 16 /* SUBSCRIBEs without an answer; then the client is held */
};

/* A SUBSCRIBE whose subscriptions RabbitMQ has not all answered. */
struct suback {
    struct hg_list link; /* in hg_mqtt_session.subacks */
    uint16_t packet_id;
    uint32_t n, waiting_n;
    uint32_t first;             /* nothing before it waits */
    uint8_t *codes;             /* n, behind subs */
    struct hg_mqtt_sub *subs[]; /* n; NULL where the code is final */
};

static struct hg_mqtt_sub *sub_of(struct hg_sub *base)
{
    return HG_CONTAINER_OF(base, struct hg_mqtt_sub, base);
}

static struct hg_bytes filter_of(const struct hg_mqtt_sub *sub)
{
    return hg_bytes(sub->filter, sub->filter_n);
}

/* ---- The client's subscriptions by filter ---- */

static struct hg_mqtt_sub *find_sub(struct hg_mqtt_session *s, struct hg_bytes filter)
{
    if (s->by_filter != NULL) {
        return hg_map_find(s->by_filter, filter);
    }
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (hg_bytes_eq(filter_of(sub), filter)) {
            return sub;
        }
    }
    return NULL;
}

static void free_map(struct hg_mqtt_session *s)
{
    if (s->by_filter != NULL) {
        hg_map_close(s->by_filter);
        hg_free(s->by_filter);
        s->by_filter = NULL;
    }
}

/* Every subscription is in session.subs, and in the map once there is one. */
static bool has_room_in_map(struct hg_mqtt_session *s)
{
    if (s->by_filter != NULL || s->base.subs_n < FEW_SUBS) {
        return true;
    }
    s->by_filter = hg_zalloc(sizeof(*s->by_filter));
    if (s->by_filter == NULL) {
        return false;
    }
    hg_map_open(s->by_filter);
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (!hg_map_put(s->by_filter, filter_of(sub), sub)) {
            free_map(s);
            return false;
        }
    }
    return true;
}

/* Of a subscription that has been ended. */
static void free_sub(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub)
{
    if (s->by_filter != NULL) {
        hg_map_remove(s->by_filter, filter_of(sub));
    }
    if (s->base.subs_n == 0) {
        free_map(s);
    }
    hg_free(sub);
}

/* ---- SUBSCRIBE (section 3.8) ---- */

static void answer(struct hg_mqtt_session *s, struct suback *a)
{
    struct hg_writer w = {0};
    hg_mqtt_write_suback(&w, a->packet_id, hg_bytes(a->codes, a->n));
    if (w.failed) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    } else {
        hg_mqtt_send(s, hg_writer_view(&w));
    }
    hg_writer_close(&w);
    hg_list_remove(&a->link);
    hg_free(a);
    if (s->subacks_n-- == SUBACKS_MAX && !s->is_draining) {
        hg_conn_release(s->base.conn, HG_HOLD_SESSION);
    }
}

/* The places of one SUBSCRIBE that wait for this subscription learn its outcome. */
static void resolve_in(struct suback *a, struct hg_mqtt_sub *sub, bool is_ok)
{
    for (uint32_t i = a->first; i < a->n && sub->waiting_n > 0; i++) {
        if (a->subs[i] == sub) {
            a->subs[i] = NULL;
            a->codes[i] = is_ok ? a->codes[i] : HG_MQTT_SUBACK_FAILURE;
            a->waiting_n--;
            sub->waiting_n--;
        }
    }
    while (a->first < a->n && a->subs[a->first] == NULL) {
        a->first++; /* RabbitMQ answers in order: the next is found at once */
    }
}

/* And those of all; afterwards none knows it, and it may be freed. */
static void resolve(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, bool is_ok)
{
    HG_LIST_FOREACH_SAFE (it, &s->subacks) {
        struct suback *a = HG_LIST_ENTRY(it, struct suback, link);
        resolve_in(a, sub, is_ok);
        if (a->waiting_n == 0) {
            answer(s, a);
        }
    }
}

static void log_refused(struct hg_mqtt_session *s, struct hg_bytes filter, enum hg_status status,
                        struct hg_bytes reason)
{
    HG_LOG_LIMITED(s->base.worker->log, HG_LOG_WARN, "mqtt.subscribe_refused", hg_mqtt_client_id(s),
                   HG_F_BYTES("client", hg_mqtt_client_id(s)),
                   HG_F_STR("peer", hg_conn_peer(s->base.conn)), HG_F_BYTES("filter", filter),
                   HG_F_STR("status", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

void hg_mqtt_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                        struct hg_bytes reason)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    struct hg_mqtt_sub *mine = sub_of(sub);
    resolve(s, mine, outcome == HG_OK);
    if (outcome == HG_OK) {
        mine->is_granted = true;
        return;
    }
    log_refused(s, filter_of(mine), outcome, reason);
    if (mine->is_granted) { /* 3.1.1 cannot tell the client that it has lost it, but for this */
        hg_conn_finish(base->conn, outcome);
    }
    free_sub(s, mine);
}

static void grant(struct hg_mqtt_sub *sub, uint8_t qos)
{
    sub->qos = qos;
    sub->base.takes_redelivered = qos > 0;
}

static struct hg_mqtt_sub *new_sub(struct hg_bytes filter, uint8_t qos)
{
    struct hg_mqtt_sub *sub = hg_zalloc(sizeof(*sub) + filter.n);
    if (sub != NULL) {
        grant(sub, qos);
        sub->filter_n = (uint16_t)filter.n;
        memcpy(sub->filter, filter.p, filter.n);
    }
    return sub;
}

/* The subscription for a filter, new or already there (then only its QoS changes [MQTT-3.8.4-3]).
 * NULL: refused. */
static struct hg_mqtt_sub *subscribe(struct hg_mqtt_session *s, struct hg_bytes filter, uint8_t qos)
{
    struct hg_mqtt_sub *sub = find_sub(s, filter);
    if (sub != NULL) {
        grant(sub, qos);
        return sub;
    }
    const char *why = NULL;
    enum hg_status status = HG_NO_MEMORY;
    sub = has_room_in_map(s) ? new_sub(filter, qos) : NULL;
    if (sub != NULL) {
        status = hg_subscribe_filter(&s->base, &sub->base, filter, &why);
    }
    if (status == HG_OK && s->by_filter != NULL && !hg_map_put(s->by_filter, filter_of(sub), sub)) {
        hg_unsubscribe(&sub->base);
        status = HG_NO_MEMORY;
    }
    if (status != HG_OK) {
        log_refused(s, filter, status, hg_bytes_str(why));
        hg_free(sub);
        return NULL;
    }
    return sub;
}

enum hg_status hg_mqtt_on_subscribe(struct hg_mqtt_session *s,
                                    const struct hg_mqtt_subscribe *packet, const char **rule)
{
    size_t n = packet->filters_n;
    if (n > s->base.worker->config->max_subscriptions) {
        *rule = "SUBSCRIBE has more topic filters than [limits] max_subscriptions allows";
        return HG_TOO_MANY;
    }
    if (s->subacks_n == SUBACKS_MAX) {
        hg_conn_hold(s->base.conn, HG_HOLD_SESSION);
        return HG_HELD;
    }
    struct suback *a = hg_zalloc(sizeof(*a) + n * (sizeof(a->subs[0]) + 1));
    if (a == NULL) {
        return HG_NO_MEMORY;
    }
    a->packet_id = packet->packet_id;
    a->n = (uint32_t)n;
    a->codes = (uint8_t *)&a->subs[n];
    hg_list_add_last(&s->subacks, &a->link);
    s->subacks_n++;
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    for (size_t i = 0; hg_mqtt_next_filter(&rest, HG_MQTT_SUBSCRIBE, &f); i++) {
        uint8_t qos = f.qos > QOS_MAX ? QOS_MAX : f.qos;
        struct hg_mqtt_sub *sub = subscribe(s, f.filter, qos);
        a->codes[i] = sub == NULL ? HG_MQTT_SUBACK_FAILURE : qos;
        if (sub != NULL && !sub->is_granted) {
            a->subs[i] = sub;
            a->waiting_n++;
            sub->waiting_n++;
        }
    }
    if (a->waiting_n == 0) {
        answer(s, a);
    }
    return HG_OK;
}

/* Section 3.10. */
void hg_mqtt_on_unsubscribe(struct hg_mqtt_session *s, const struct hg_mqtt_subscribe *packet)
{
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    while (hg_mqtt_next_filter(&rest, HG_MQTT_UNSUBSCRIBE, &f)) {
        struct hg_mqtt_sub *sub = find_sub(s, f.filter);
        if (sub != NULL) {
            hg_unsubscribe(&sub->base);
            resolve(s, sub, false); /* a SUBSCRIBE still waiting for it */
            free_sub(s, sub);
        }
    }
    uint8_t out[HG_MQTT_SMALL_MAX];
    hg_mqtt_send(s, hg_mqtt_encode_ack(out, HG_MQTT_UNSUBACK, packet->packet_id));
}

void hg_mqtt_unsubscribe_all(struct hg_mqtt_session *s)
{
    free_map(s);
    HG_LIST_FOREACH_SAFE (it, &s->base.subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        hg_unsubscribe(sub);
        hg_free(sub_of(sub));
    }
    HG_LIST_FOREACH_SAFE (it, &s->subacks) {
        struct suback *a = HG_LIST_ENTRY(it, struct suback, link);
        hg_list_remove(&a->link);
        hg_free(a);
    }
}

/* ---- Delivering (section 3.3) ---- */

/* Whether MQTT can show this address: another AMQP publisher may have used any bytes. */
static bool is_showable(struct hg_bytes address)
{
    return address.n > 0 && address.n <= HG_TOPIC_MAX_BYTES && hg_utf8_is_clean(address) &&
           !hg_topic_has_wildcard(address);
}

/* The QoS 0 PUBLISH, which every subscriber of a delivery shares, whatever its QoS. NULL: no
 * memory. */
static struct hg_buf *shared_packet(struct hg_delivery *d)
{
    if (d->cache[0] == NULL) {
        struct hg_writer w = {0};
        const struct hg_mqtt_publish publish = {.topic = d->address,
                                                .payload = hg_message_body(d->message)};
        if (hg_mqtt_write_publish(&w, &publish)) {
            d->cache[0] = hg_writer_take(&w);
        }
        hg_writer_close(&w);
    }
    return d->cache[0];
}

static void count_out(struct hg_mqtt_session *s, size_t body_n)
{
    hg_count(&hg_mqtt_metrics(s)->messages_out, 1);
    hg_count(&hg_mqtt_metrics(s)->bytes_out, body_n);
}

static void close_slow(struct hg_mqtt_session *s)
{
    hg_count(&hg_mqtt_metrics(s)->slow_closed, 1);
    HG_LOG_LIMITED(s->base.worker->log, HG_LOG_WARN, "mqtt.too_slow", hg_mqtt_client_id(s),
                   HG_F_BYTES("client", hg_mqtt_client_id(s)),
                   HG_F_STR("peer", hg_conn_peer(s->base.conn)),
                   HG_F_UINT("pending_bytes", hg_conn_pending(s->base.conn)),
                   HG_F_UINT("unacknowledged", s->out->sent_n),
                   HG_F_UINT("waiting", s->out->n - s->out->sent_n));
    hg_conn_close(s->base.conn, HG_TOO_SLOW);
}

static void deliver_qos0(struct hg_mqtt_session *s, struct hg_delivery *d, struct hg_buf *packet)
{
    bool is_full = !d->must_keep && hg_conn_is_full(s->base.conn, packet->n);
    if (is_full || hg_conn_send_buf(s->base.conn, packet) != HG_OK) {
        hg_count(&hg_mqtt_metrics(s)->dropped, 1);
    } else {
        count_out(s, hg_message_body(d->message).n);
    }
}

/* The shared packet's topic and payload, with a fixed header and a packet identifier of this
 * subscriber's own. */
static void send_qos1(struct hg_mqtt_session *s, const struct hg_mqtt_out_entry *entry,
                      uint16_t packet_id)
{
    const uint8_t id[2] = {(uint8_t)(packet_id >> 8), (uint8_t)packet_id};
    struct hg_mqtt_shared shared = hg_mqtt_share(hg_buf_bytes(entry->packet));
    uint8_t out[HG_MQTT_HEAD_MAX];
    struct hg_bytes head;
    enum hg_status status = HG_TOO_LARGE;
    if (hg_mqtt_encode_head(out, &shared, 1, entry->is_dup, &head)) {
        const struct hg_part parts[] = {{NULL, head},
                                        {entry->packet, shared.topic},
                                        {NULL, hg_bytes(id, 2)},
                                        {entry->packet, shared.payload}};
        status = hg_conn_send(s->base.conn, parts, sizeof(parts) / sizeof(parts[0]));
    }
    if (status == HG_OK) {
        count_out(s, shared.payload.n);
    } else {
        hg_conn_close(s->base.conn, status); /* QoS 1 is never dropped */
    }
}

static struct hg_mqtt_out_limits out_limits(const struct hg_mqtt_session *s)
{
    const struct hg_config *config = s->base.worker->config;
    return (struct hg_mqtt_out_limits){config->mqtt_max_inflight, config->mqtt_max_queued};
}

static void send_waiting(struct hg_mqtt_session *s)
{
    const struct hg_mqtt_out_limits limits = out_limits(s);
    struct hg_mqtt_out_entry entry;
    uint16_t packet_id = 0;
    while (hg_mqtt_out_next(s->out, &limits, &entry, &packet_id)) {
        send_qos1(s, &entry, packet_id);
        hg_buf_unref(entry.packet);
    }
}

static void deliver_qos1(struct hg_mqtt_session *s, struct hg_delivery *d, struct hg_buf *packet)
{
    if (s->out == NULL) {
        s->out = hg_zalloc(sizeof(*s->out));
    }
    if (s->out == NULL) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
        return;
    }
    const struct hg_mqtt_out_limits limits = out_limits(s);
    bool is_full =
        !d->must_keep && hg_conn_is_full(s->base.conn, s->out->waiting_bytes + packet->n);
    enum hg_status status =
        is_full ? HG_TOO_MANY : hg_mqtt_out_push(s->out, &limits, packet, d->is_redelivered);
    if (status == HG_OK) {
        send_waiting(s);
    } else if (status == HG_TOO_MANY) {
        close_slow(s);
    } else {
        hg_conn_close(s->base.conn, status);
    }
}

void hg_mqtt_on_puback(struct hg_mqtt_session *s, uint16_t packet_id)
{
    /* One of nothing that is in flight is harmless. */
    if (s->out != NULL && hg_mqtt_out_ack(s->out, packet_id)) {
        send_waiting(s);
    }
}

void hg_mqtt_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    uint8_t qos = 0;
    for (struct hg_sub *sub = matches; sub != NULL; sub = sub->next_match) {
        qos = sub_of(sub)->qos > qos ? sub_of(sub)->qos : qos;
    }
    /* What was published as transient is QoS 0, as RabbitMQ's plugin has it. */
    if (hg_message_properties(d->message)->delivery_mode != 2) {
        qos = 0;
    }
    if (qos == 0 && d->is_redelivered && !d->must_keep) {
        return; /* at most once */
    }
    if (d->cache[0] == NULL && !is_showable(d->address)) {
        hg_count(&base->worker->metrics.upstream.unmapped, 1);
        return;
    }
    struct hg_buf *packet = shared_packet(d);
    if (packet == NULL && qos > 0) {
        hg_conn_close(base->conn, HG_NO_MEMORY);
    } else if (packet == NULL) {
        hg_count(&hg_mqtt_metrics(s)->dropped, 1);
    } else if (qos == 0) {
        deliver_qos0(s, d, packet);
    } else {
        deliver_qos1(s, d, packet);
    }
}
