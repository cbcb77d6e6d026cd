/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, publishing and leaving. */
#include "adapters/mqtt/mqtt_session.h"

#include "adapters/mqtt/mqtt_session_priv.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "message/topic.h"

#include <inttypes.h>
#include <stdio.h>

/* An idle connection, its handle and its one subscription included, is to cost 1 KiB. */
_Static_assert(sizeof(struct mqtt_session) <= 288, "keep the session small");
_Static_assert(sizeof(struct mqtt_sub) <= 136, "keep the subscription small");

void mqtt_send(struct mqtt_session *m, struct hg_bytes packet)
{
    if (hg_conn_send_bytes(m->session.conn, packet) == HG_NO_MEMORY) {
        hg_conn_close(m->session.conn, HG_NO_MEMORY);
    }
}

/* ---- CONNECT ---- */

static void send_connack(struct mqtt_session *m, uint8_t code)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    mqtt_send(m, hg_mqtt_encode_connack(out, m->decoder.level, false, code));
}

/* CONNACK with a code other than 0, then the end (section 3.2.2.3). */
static void refuse(struct mqtt_session *m, uint8_t code, enum hg_status why)
{
    send_connack(m, code);
    m->state = MQTT_LEAVING;
    hg_conn_finish(m->session.conn, why);
}

static bool keep_will(struct mqtt_session *m, const struct hg_mqtt_connect *c)
{
    if (!c->has_will) {
        return true;
    }
    m->will = hg_alloc(sizeof(*m->will) + c->will_topic.n + c->will_payload.n);
    if (m->will == NULL) {
        return false;
    }
    m->will->topic_n = (uint16_t)c->will_topic.n;
    m->will->message_n = (uint32_t)c->will_payload.n;
    m->will->qos = c->will_qos;
    m->will->is_retained = c->will_retain;
    memcpy(m->will->bytes, c->will_topic.p, c->will_topic.n);
    if (c->will_payload.n > 0) {
        memcpy(m->will->bytes + c->will_topic.n, c->will_payload.p, c->will_payload.n);
    }
    return true;
}

static bool keep_client_id(struct mqtt_session *m, struct hg_bytes id)
{
    char made[24];
    if (id.n == 0) { /* the server chooses one, section 3.1.3.1 */
        int n = snprintf(made, sizeof(made), "hg-%016" PRIx64, hg_random_u64());
        id = hg_bytes(made, (size_t)n);
    }
    m->client_id = hg_bytes_dup(id);
    m->client_id_n = (uint16_t)id.n;
    return m->client_id != NULL;
}

static void on_granted(struct hg_claim *claim)
{
    struct mqtt_session *m = HG_CONTAINER_OF(claim, struct mqtt_session, claim);
    if (m->state != MQTT_CLAIMING) {
        return;
    }
    m->state = MQTT_CONNECTED;
    send_connack(m, HG_MQTT_ACCEPTED);
    if (m->keep_alive_s > 0) {
        hg_worker_timer(m->session.worker, &m->timer, (uint64_t)m->keep_alive_s * 1500);
    } else {
        hg_timer_stop(&m->timer);
    }
    hg_conn_release(m->session.conn, HG_HOLD_SESSION);
}

/* Section 3.1.4-2: the newer connection disconnects the older. The claim is given up when this one
 * has ended. */
static void on_lost(struct hg_claim *claim)
{
    struct mqtt_session *m = HG_CONTAINER_OF(claim, struct mqtt_session, claim);
    hg_conn_close(m->session.conn, HG_TAKEN_OVER);
}

static const struct hg_claim_ops claim_ops = {.on_granted = on_granted, .on_lost = on_lost};

static const char *check_connect(const struct hg_mqtt_connect *c, const struct hg_config *config)
{
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    return c->has_will ? hg_topic_check_address(c->will_topic, &limits) : NULL;
}

static enum hg_status on_connect(struct mqtt_session *m, const struct hg_mqtt_connect *c,
                                 const char **rule)
{
    if (c->level != HG_MQTT_V31 && c->level != HG_MQTT_V311) {
        uint8_t code =
            c->level == HG_MQTT_V50 ? hg_status_info(HG_BAD_VERSION)->connack : HG_MQTT_BAD_VERSION;
        refuse(m, code, HG_BAD_VERSION);
        return HG_OK;
    }
    if (c->client_id.n == 0 && (!c->is_clean || c->level == HG_MQTT_V31)) {
        refuse(m, HG_MQTT_BAD_CLIENT_ID, HG_BAD_CLIENT_ID); /* [MQTT-3.1.3-8] */
        return HG_OK;
    }
    *rule = check_connect(c, m->session.worker->config);
    if (*rule != NULL) {
        return HG_BAD_ADDRESS;
    }
    m->keep_alive_s = c->keep_alive_s;
    m->state = MQTT_CLAIMING;
    if (!keep_client_id(m, c->client_id) || !keep_will(m, c) ||
        !hg_claim_open(m->session.worker, &m->claim, mqtt_client_id(m), &claim_ops)) {
        hg_free(m->will);
        m->will = NULL;
        refuse(m, HG_MQTT_UNAVAILABLE, HG_NO_MEMORY);
        return HG_OK;
    }
    hg_conn_hold(m->session.conn, HG_HOLD_SESSION);
    return HG_OK;
}

/* ---- Publishing ---- */

static void send_ack(struct mqtt_session *m, enum hg_mqtt_type type, uint16_t packet_id)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    mqtt_send(m, hg_mqtt_encode_ack(out, type, packet_id));
}

/* Acknowledges, in the order in which they came, the publishes that are settled. */
static void flush_acks(struct mqtt_session *m)
{
    struct hg_mqtt_in_entry entry;
    while (m->in != NULL && hg_mqtt_in_pop(m->in, &entry)) {
        if (entry.state != HG_MQTT_IN_ACK) {
            continue;
        }
        if (entry.qos == 2 && !hg_mqtt_in_remember(m->in, entry.packet_id)) {
            /* PUBREC without remembering would let a repeat through */
            hg_conn_close(m->session.conn, HG_TOO_MANY);
            return;
        }
        send_ack(m, entry.qos == 2 ? HG_MQTT_PUBREC : HG_MQTT_PUBACK, entry.packet_id);
    }
    if (m->is_draining && (m->in == NULL || hg_mqtt_in_is_empty(m->in))) {
        hg_conn_finish(m->session.conn, HG_SHUTTING_DOWN);
    }
}

static void log_refused(struct mqtt_session *m, struct hg_bytes topic, enum hg_status status,
                        struct hg_bytes reason)
{
    HG_LOG_LIMITED(m->session.worker->log, HG_LOG_WARN, "mqtt.publish_refused", mqtt_client_id(m),
                   HG_F_BYTES("client", mqtt_client_id(m)),
                   HG_F_STR("peer", hg_conn_peer(m->session.conn)), HG_F_BYTES("topic", topic),
                   HG_F_STR("status", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

/* What becomes of a publish that did not end in a confirm; MQTT 3.1.1 has no word for it. */
static enum hg_mqtt_in_state verdict(enum hg_status outcome, uint8_t on_reject, bool *must_close)
{
    *must_close = false;
    switch (outcome) {
    case HG_OK:
    case HG_UNROUTABLE:
    case HG_NOT_ALLOWED: return HG_MQTT_IN_ACK;
    case HG_REJECTED:
    case HG_NO_EXCHANGE: *must_close = on_reject != HG_REJECT_WITHHOLD; return HG_MQTT_IN_WITHHOLD;
    default: *must_close = true; return HG_MQTT_IN_WITHHOLD;
    }
}

static void on_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                       struct hg_bytes reason)
{
    struct mqtt_session *m = mqtt_of(s);
    struct hg_mqtt_in_entry *entry = hg_mqtt_in_find(m->in, (uint32_t)id);
    if (entry == NULL) {
        return;
    }
    bool must_close = false;
    entry->state = (uint8_t)verdict(outcome, entry->on_reject, &must_close);
    if (outcome != HG_OK) {
        log_refused(m, HG_BYTES(""), outcome, reason);
    }
    flush_acks(m);
    if (must_close) {
        hg_conn_finish(s->conn, outcome);
    }
}

/* A PUBLISH that was refused before it was under way. HG_OK: the client goes on. */
static enum hg_status on_refused(struct mqtt_session *m, const struct hg_mqtt_publish *p,
                                 enum hg_status status, uint8_t on_reject, const char **rule)
{
    log_refused(m, p->topic, status, hg_bytes_str(*rule));
    if (p->qos == 0 && status != HG_BAD_ADDRESS) {
        hg_count(&mqtt_metrics(m)->dropped, 1);
        return HG_OK;
    }
    bool must_close = false;
    enum hg_mqtt_in_state state = verdict(status, on_reject, &must_close);
    if (must_close) {
        *rule = *rule != NULL ? *rule : hg_status_text(status);
        return status;
    }
    if (p->qos > 0) { /* reserved by the caller */
        hg_mqtt_in_find(m->in, hg_mqtt_in_push(m->in, p->packet_id, p->qos, on_reject))->state =
            (uint8_t)state;
        flush_acks(m);
    }
    return HG_OK;
}

static bool has_ledger(struct mqtt_session *m)
{
    if (m->in == NULL) {
        m->in = hg_zalloc(sizeof(*m->in));
    }
    return m->in != NULL && hg_mqtt_in_reserve(m->in);
}

/* HG_HELD: nothing was used. */
static enum hg_status on_publish(struct mqtt_session *m, const struct hg_mqtt_publish *p,
                                 const char **rule)
{
    if (p->qos > 0) {
        if (!has_ledger(m)) {
            *rule = "out of memory";
            return HG_NO_MEMORY;
        }
        if (p->qos == 2 && hg_mqtt_in_remembers(m->in, p->packet_id)) {
            send_ack(m, HG_MQTT_PUBREC, p->packet_id);
            return HG_OK;
        }
        if (hg_mqtt_in_has(m->in, p->packet_id)) {
            return HG_OK; /* a repeat of one under way: its answer answers both */
        }
    }
    const struct hg_publish_args args = {
        .address = p->topic,
        .properties = {.delivery_mode = p->qos > 0 ? 2 : 1},
        .body = p->payload,
        .client_id = mqtt_client_id(m),
        .id = m->in == NULL ? 0 : m->in->next,
        .wants_outcome = p->qos > 0,
    };
    struct hg_published published = {.on_reject = HG_REJECT_CLOSE};
    enum hg_status status = hg_publish(&m->session, &args, &published, rule);
    if (status == HG_HELD) {
        return status;
    }
    if (status != HG_OK) {
        return on_refused(m, p, status, (uint8_t)published.on_reject, rule);
    }
    if (p->qos > 0) {
        hg_mqtt_in_push(m->in, p->packet_id, p->qos, (uint8_t)published.on_reject);
    }
    return HG_OK;
}

static void publish_will(struct mqtt_session *m)
{
    const struct mqtt_will *will = m->will;
    const struct hg_publish_args args = {
        .address = hg_bytes(will->bytes, will->topic_n),
        .properties = {.delivery_mode = will->qos > 0 ? 2 : 1},
        .body = hg_bytes(will->bytes + will->topic_n, will->message_n),
        .client_id = mqtt_client_id(m),
        .never_held = true,
    };
    const char *why = NULL;
    enum hg_status status = hg_publish(&m->session, &args, NULL, &why);
    if (status != HG_OK) {
        log_refused(m, args.address, status, hg_bytes_str(why));
    }
}

/* ---- Packets ---- */

static void on_pubrel(struct mqtt_session *m, uint16_t packet_id)
{
    if (m->in != NULL) {
        hg_mqtt_in_release(m->in, packet_id);
    }
    send_ack(m, HG_MQTT_PUBCOMP, packet_id);
}

static void on_pingreq(struct mqtt_session *m)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    mqtt_send(m, hg_mqtt_encode_pingresp(out));
}

static void on_disconnect(struct mqtt_session *m)
{
    hg_free(m->will); /* [MQTT-3.14.4-3] */
    m->will = NULL;
    m->state = MQTT_LEAVING;
    hg_conn_finish(m->session.conn, HG_CLOSED);
}

/* HG_OK; HG_HELD: nothing was used; else the connection ends, *rule says why. */
static enum hg_status on_packet(struct mqtt_session *m, const struct hg_mqtt_packet *packet,
                                const char **rule)
{
    switch (packet->type) {
    case HG_MQTT_CONNECT: return on_connect(m, &packet->u.connect, rule);
    case HG_MQTT_PUBLISH: return on_publish(m, &packet->u.publish, rule);
    case HG_MQTT_PUBACK: mqtt_on_puback(m, packet->u.ack.packet_id); return HG_OK;
    case HG_MQTT_PUBREL: on_pubrel(m, packet->u.ack.packet_id); return HG_OK;
    case HG_MQTT_SUBSCRIBE: return mqtt_on_subscribe(m, &packet->u.subscribe, rule);
    case HG_MQTT_UNSUBSCRIBE: return mqtt_on_unsubscribe(m, &packet->u.subscribe);
    case HG_MQTT_PINGREQ: on_pingreq(m); return HG_OK;
    case HG_MQTT_DISCONNECT: on_disconnect(m); return HG_OK;
    default: /* PUBREC, PUBCOMP */
        *rule = "an acknowledgement of a QoS 2 delivery, of which there are none";
        return HG_PROTOCOL_ERROR;
    }
}

static ssize_t feed(struct hg_session *s, struct hg_bytes in, struct hg_error *err)
{
    struct mqtt_session *m = mqtt_of(s);
    const struct hg_mqtt_limits limits = {.max_packet_bytes =
                                              (size_t)s->worker->config->mqtt_max_packet_bytes};
    size_t used = 0;
    while (used < in.n && !hg_conn_is_held(s->conn) && !hg_conn_is_closing(s->conn)) {
        struct hg_mqtt_packet packet;
        ssize_t n = hg_mqtt_decode(&m->decoder, &limits, hg_bytes_skip(in, used), &packet, err);
        if (n <= 0) {
            err->at += used;
            return n < 0 ? n : (ssize_t)used;
        }
        const char *rule = NULL;
        enum hg_status status = on_packet(m, &packet, &rule);
        if (status == HG_HELD) {
            break;
        }
        if (status != HG_OK) {
            return hg_error_set(err, status, rule != NULL ? rule : hg_status_text(status), used);
        }
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* ---- Time ---- */

/* The time-out for CONNECT, then one and a half times the keep-alive [MQTT-3.1.2-24]. Input only
 * notes the time; the timer looks at it when it fires. */
static void fire(struct hg_timer *timer)
{
    struct mqtt_session *m = HG_CONTAINER_OF(timer, struct mqtt_session, timer);
    struct hg_worker *w = m->session.worker;
    if (m->state != MQTT_CONNECTED) {
        hg_conn_close(m->session.conn, HG_KEEP_ALIVE);
        return;
    }
    uint64_t limit = (uint64_t)m->keep_alive_s * 1500;
    uint64_t silent = hg_clock_ms() - hg_conn_last_read_ms(m->session.conn);
    if (hg_conn_is_held(m->session.conn)) {
        hg_worker_timer(w, timer, limit); /* we are the ones who do not listen */
    } else if (silent < limit) {
        hg_worker_timer(w, timer, limit - silent);
    } else {
        hg_count(&mqtt_metrics(m)->keepalive_timeouts, 1);
        hg_conn_close(m->session.conn, HG_KEEP_ALIVE);
    }
}

/* ---- The end ---- */

static void drain(struct hg_session *s)
{
    struct mqtt_session *m = mqtt_of(s);
    m->is_draining = true;
    hg_conn_hold(s->conn, HG_HOLD_SESSION);
    flush_acks(m);
}

static void on_closed(struct hg_session *s, enum hg_status why)
{
    struct mqtt_session *m = mqtt_of(s);
    (void)why;
    if (m->will != NULL && m->state >= MQTT_CONNECTED) {
        publish_will(m);
    }
    hg_timer_stop(&m->timer);
    mqtt_forget_subscriptions(m);
    hg_session_detach(s);
    hg_claim_close(&m->claim);
    if (m->in != NULL) {
        hg_mqtt_in_close(m->in);
    }
    if (m->out != NULL) {
        hg_mqtt_out_close(m->out);
    }
    hg_free(m->in);
    hg_free(m->out);
    hg_free(m->will);
    hg_free(m->client_id);
    hg_free(m);
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    struct mqtt_session *m = mqtt_of(s);
    *out = (struct hg_session_info){.version = m->decoder.level == HG_MQTT_V31 ? "3.1" : "3.1.1",
                                    .client_id = mqtt_client_id(m)};
}

static const struct hg_session_ops session_ops = {
    .feed = feed,
    .deliver = mqtt_deliver,
    .settled = on_settled,
    .subscribed = mqtt_subscribed,
    .drain = drain,
    .closed = on_closed,
    .describe = describe,
};

static struct hg_session *open_session(struct hg_worker *worker, struct hg_conn *conn,
                                       const struct hg_listener_spec *listener,
                                       const char *subprotocol)
{
    (void)listener;
    (void)subprotocol;
    struct mqtt_session *m = hg_zalloc(sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    hg_session_init(&m->session, &session_ops, HG_PROTO_MQTT, conn, worker);
    m->session.merges_overlaps = true; /* one copy at the highest QoS, section 3.3.5 */
    hg_list_init(&m->subacks);
    hg_timer_init(&m->timer, fire);
    hg_worker_timer(worker, &m->timer, worker->config->mqtt_connect_timeout_ms);
    return &m->session;
}

static const char *const subprotocols[] = {"mqtt", "mqttv3.1", NULL};

const struct hg_adapter hg_mqtt_adapter = {
    .name = "mqtt",
    .serves = 1u << HG_SERVE_MQTT,
    .subprotocols = subprotocols,
    .ws_frame_kind = HG_FRAME_BINARY,
    .open = open_session,
};
