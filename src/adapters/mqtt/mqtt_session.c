/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, publishing and leaving. Sections are those of MQTT 3.1.1. */
#include "adapters/mqtt/mqtt_session.h"

#include "adapters/mqtt/mqtt_session_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "message/topic.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    NEW_PACKET_MAX_BYTES = 64 * 1024, /* before CONNECT: a stranger gets no more memory */
    CLIENT_ID_MAX_BYTES = 1024
};

static const struct hg_session_ops session_ops;

struct hg_mqtt_session *hg_mqtt_session_of(struct hg_session *base)
{
    HG_CHECK(base->ops == &session_ops);
    return HG_CONTAINER_OF(base, struct hg_mqtt_session, base);
}

struct hg_bytes hg_mqtt_client_id(const struct hg_mqtt_session *s)
{
    return s->client == NULL ? HG_BYTES("") : hg_bytes(s->client->text, s->client->id_n);
}

static struct hg_bytes user_of(const struct hg_mqtt_session *s)
{
    return s->client == NULL ? HG_BYTES("")
                             : hg_bytes(s->client->text + s->client->id_n, s->client->user_n);
}

struct hg_proto_metrics *hg_mqtt_metrics(const struct hg_mqtt_session *s)
{
    return &s->base.worker->metrics.proto[HG_PROTO_MQTT];
}

void hg_mqtt_send(struct hg_mqtt_session *s, struct hg_bytes packet)
{
    if (hg_conn_send_bytes(s->base.conn, packet) == HG_NO_MEMORY) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
}

/* ---- CONNECT (section 3.1) ---- */

static void send_connack(struct hg_mqtt_session *s, uint8_t code)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    hg_mqtt_send(s, hg_mqtt_encode_connack(out, s->decoder.level, false, code));
}

/* CONNACK with a code other than 0, then the end (section 3.2.2.3). */
static void refuse(struct hg_mqtt_session *s, uint8_t code, enum hg_status why)
{
    send_connack(s, code);
    hg_conn_finish(s->base.conn, why);
}

static void put(uint8_t **at, struct hg_bytes b)
{
    if (b.n > 0) {
        memcpy(*at, b.p, b.n);
        *at += b.n;
    }
}

static bool keep_will(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    if (!c->has_will) {
        return true;
    }
    s->will = hg_alloc(sizeof(*s->will) + c->will_topic.n + c->will_payload.n);
    if (s->will == NULL) {
        return false;
    }
    *s->will = (struct hg_mqtt_will){.topic_n = (uint16_t)c->will_topic.n,
                                     .payload_n = (uint32_t)c->will_payload.n,
                                     .qos = c->will_qos};
    uint8_t *at = s->will->text;
    put(&at, c->will_topic);
    put(&at, c->will_payload);
    return true;
}

static bool keep_client(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    char made[24];
    struct hg_bytes id = c->client_id;
    if (id.n == 0) { /* the server chooses one, section 3.1.3.1 */
        int n = snprintf(made, sizeof(made), "hg-%016" PRIx64, hg_random_u64());
        id = hg_bytes(made, (size_t)n);
    }
    s->client = hg_alloc(sizeof(*s->client) + id.n + c->user.n);
    if (s->client == NULL) {
        return false;
    }
    *s->client = (struct hg_mqtt_client){.id_n = (uint16_t)id.n, .user_n = (uint16_t)c->user.n};
    uint8_t *at = s->client->text;
    put(&at, id);
    put(&at, c->user);
    return true;
}

static void log_connect(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    HG_LOG(s->base.worker->log, HG_LOG_DEBUG, "mqtt.connect",
           HG_F_BYTES("client", hg_mqtt_client_id(s)), HG_F_STR("peer", hg_conn_peer(s->base.conn)),
           HG_F_UINT("level", c->level), HG_F_UINT("keep_alive_s", c->keep_alive_s),
           HG_F_STR("session",
                    c->is_clean ? "clean" : "asked to be kept, but ends with the connection"));
}

static void on_granted(struct hg_claim *claim)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(claim, struct hg_mqtt_session, claim);
    if (hg_conn_is_closing(s->base.conn)) {
        return; /* it was never connected: its will stays unsaid */
    }
    s->state = HG_MQTT_CONNECTED;
    s->was_held = false;
    send_connack(s, HG_MQTT_ACCEPTED);
    if (s->keep_alive_s > 0) {
        hg_worker_timer(s->base.worker, &s->timer, (uint64_t)s->keep_alive_s * 1500);
    } else {
        hg_timer_stop(&s->timer);
    }
    if (!s->is_draining) {
        hg_conn_release(s->base.conn, HG_HOLD_SESSION);
    }
}

/* [MQTT-3.1.4-2]: the newer connection disconnects the older. The claim is given up when this one
 * has ended and its will is published, so that the newer client speaks after it. */
static void on_lost(struct hg_claim *claim)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(claim, struct hg_mqtt_session, claim);
    hg_conn_close(s->base.conn, HG_TAKEN_OVER);
}

static const struct hg_claim_ops claim_ops = {.on_granted = on_granted, .on_lost = on_lost};

static const char *check_will(const struct hg_mqtt_connect *c, const struct hg_config *config)
{
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    return c->has_will ? hg_topic_check_address(c->will_topic, &limits) : NULL;
}

static enum hg_status on_connect(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                                 const char **rule)
{
    if (!c->is_supported) {
        uint8_t code = c->level == HG_MQTT_V50 ? hg_status_info(HG_BAD_VERSION)->connack
                                               : (uint8_t)HG_MQTT_BAD_VERSION;
        refuse(s, code, HG_BAD_VERSION);
        return HG_OK;
    }
    bool may_be_empty = c->is_clean && c->level != HG_MQTT_V31; /* [MQTT-3.1.3-8] */
    if ((c->client_id.n == 0 && !may_be_empty) || c->client_id.n > CLIENT_ID_MAX_BYTES) {
        refuse(s, HG_MQTT_BAD_CLIENT_ID, HG_BAD_CLIENT_ID);
        return HG_OK;
    }
    *rule = check_will(c, s->base.worker->config);
    if (*rule != NULL) {
        return HG_BAD_ADDRESS;
    }
    s->keep_alive_s = c->keep_alive_s;
    s->state = HG_MQTT_CLAIMING;
    if (!keep_client(s, c) || !keep_will(s, c) ||
        !hg_claim_open(s->base.worker, &s->claim, hg_mqtt_client_id(s), &claim_ops)) {
        refuse(s, HG_MQTT_UNAVAILABLE, HG_NO_MEMORY);
        return HG_OK;
    }
    log_connect(s, c);
    hg_conn_hold(s->base.conn, HG_HOLD_SESSION);
    return HG_OK;
}

/* ---- Publishing (section 3.3) ---- */

static void send_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type, uint16_t packet_id)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    hg_mqtt_send(s, hg_mqtt_encode_ack(out, type, packet_id));
}

/* Acknowledges, in the order in which they came, the publishes that are settled. */
static void flush_acks(struct hg_mqtt_session *s)
{
    struct hg_mqtt_in_entry entry;
    while (s->in != NULL && hg_mqtt_in_pop(s->in, &entry)) {
        if (entry.state == HG_MQTT_IN_ACK) {
            send_ack(s, entry.qos == 2 ? HG_MQTT_PUBREC : HG_MQTT_PUBACK, entry.packet_id);
        }
    }
    if (s->is_draining && (s->in == NULL || hg_mqtt_in_is_empty(s->in))) {
        hg_conn_finish(s->base.conn, HG_SHUTTING_DOWN);
    }
}

/* topic: empty where it is not known any more; then the packet identifier tells which it was. */
static void log_refused(struct hg_mqtt_session *s, struct hg_bytes topic, uint16_t packet_id,
                        enum hg_status status, struct hg_bytes reason)
{
    HG_LOG_LIMITED(s->base.worker->log, HG_LOG_WARN, "mqtt.publish_refused", hg_mqtt_client_id(s),
                   HG_F_BYTES("client", hg_mqtt_client_id(s)),
                   HG_F_STR("peer", hg_conn_peer(s->base.conn)), HG_F_BYTES("topic", topic),
                   HG_F_UINT("packet_id", packet_id), HG_F_STR("status", hg_status_text(status)),
                   HG_F_BYTES("reason", reason));
}

/* What becomes of a publish that has its outcome. 3.1.1 has no word for a refusal: the answer is an
 * acknowledgement or the end [MQTT-3.3.5-2], or, where the rule says so, none. */
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

static void settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                    struct hg_bytes reason)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    struct hg_mqtt_in_entry *entry = hg_mqtt_in_find(s->in, (uint32_t)id);
    HG_CHECK(entry != NULL); /* it leaves the ring only once it is settled */
    bool must_close = false;
    entry->state = (uint8_t)verdict(outcome, entry->on_reject, &must_close);
    if (outcome != HG_OK) {
        log_refused(s, HG_BYTES(""), entry->packet_id, outcome, reason);
    }
    flush_acks(s);
    if (must_close) {
        hg_conn_finish(base->conn, outcome);
    }
}

/* QoS 0 promises nothing, so what is refused is dropped (and counted by hg_publish); but what
 * breaks the protocol, or waited in vain for RabbitMQ, ends the connection as with the other
 * QoS. */
static bool is_dropped(uint8_t qos, enum hg_status status)
{
    return qos == 0 && status != HG_BAD_ADDRESS && status != HG_BROKER_AWAY && status != HG_BUSY;
}

/* A PUBLISH that was refused before it was under way. HG_OK: the client goes on. */
static enum hg_status on_refused(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                 enum hg_status status, uint8_t on_reject, const char **rule)
{
    log_refused(s, p->topic, p->packet_id, status, hg_bytes_str(*rule));
    if (is_dropped(p->qos, status)) {
        return HG_OK;
    }
    bool must_close = false;
    enum hg_mqtt_in_state state = verdict(status, on_reject, &must_close);
    if (must_close) {
        return status;
    }
    uint32_t seq = hg_mqtt_in_push(s->in, p->packet_id, p->qos, on_reject);
    hg_mqtt_in_find(s->in, seq)->state = (uint8_t)state;
    flush_acks(s);
    return HG_OK;
}

/* Room in the ledger for a PUBLISH with QoS > 0, unless it is a repeat. OK: it is to be published;
 * if *is_repeat, it is not. */
static enum hg_status admit(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                            bool *is_repeat, const char **rule)
{
    if (s->in == NULL) {
        s->in = hg_zalloc(sizeof(*s->in));
    }
    if (s->in == NULL || !hg_mqtt_in_reserve(s->in)) {
        return HG_NO_MEMORY;
    }
    enum hg_mqtt_use use = hg_mqtt_in_use(s->in, p->packet_id);
    *is_repeat = use != HG_MQTT_FREE;
    if (use == HG_MQTT_RECEIVED && p->qos == 2) {
        send_ack(s, HG_MQTT_PUBREC, p->packet_id); /* [MQTT-4.3.3-2] */
    } else if (use == HG_MQTT_RECEIVED || (use == HG_MQTT_UNDER_WAY && p->qos == 1 && !p->is_dup)) {
        *rule = "a packet identifier must not be in use"; /* [MQTT-2.3.1-2] */
        return HG_PROTOCOL_ERROR;
    }
    return HG_OK; /* a repeat of one under way: its answer answers both */
}

/* HG_HELD: nothing was used. */
static enum hg_status on_publish(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                 const char **rule)
{
    bool is_repeat = false;
    enum hg_status status = p->qos > 0 ? admit(s, p, &is_repeat, rule) : HG_OK;
    if (status != HG_OK || is_repeat) {
        return status;
    }
    const struct hg_publish_args args = {
        .address = p->topic,
        .properties = {.delivery_mode = p->qos > 0 ? 2 : 1},
        .body = p->payload,
        .client_id = hg_mqtt_client_id(s),
        .user = user_of(s),
        .id = s->in == NULL ? 0 : s->in->next,
        .wants_outcome = p->qos > 0,
    };
    struct hg_published published = {.on_reject = HG_REJECT_CLOSE};
    status = hg_publish(&s->base, &args, &published, rule);
    if (status == HG_HELD) {
        return status;
    }
    if (status != HG_OK) {
        return on_refused(s, p, status, (uint8_t)published.on_reject, rule);
    }
    if (p->qos > 0) {
        hg_mqtt_in_push(s->in, p->packet_id, p->qos, (uint8_t)published.on_reject);
    }
    return HG_OK;
}

/* Section 4.3.3. Of an identifier that is not known, PUBCOMP says so too. */
static enum hg_status on_pubrel(struct hg_mqtt_session *s, uint16_t packet_id, const char **rule)
{
    if (s->in != NULL && hg_mqtt_in_use(s->in, packet_id) == HG_MQTT_UNDER_WAY) {
        *rule = "PUBREL must wait for PUBREC";
        return HG_PROTOCOL_ERROR;
    }
    if (s->in != NULL) {
        hg_mqtt_in_release(s->in, packet_id);
    }
    send_ack(s, HG_MQTT_PUBCOMP, packet_id);
    return HG_OK;
}

static void publish_will(struct hg_mqtt_session *s)
{
    const struct hg_mqtt_will *will = s->will;
    const struct hg_publish_args args = {
        .address = hg_bytes(will->text, will->topic_n),
        .properties = {.delivery_mode = will->qos > 0 ? 2 : 1},
        .body = hg_bytes(will->text + will->topic_n, will->payload_n),
        .client_id = hg_mqtt_client_id(s),
        .user = user_of(s),
        .never_held = true,
    };
    const char *why = NULL;
    enum hg_status status = hg_publish(&s->base, &args, NULL, &why);
    if (status != HG_OK) {
        log_refused(s, args.address, 0, status, hg_bytes_str(why));
    }
}

/* ---- Packets ---- */

static void on_pingreq(struct hg_mqtt_session *s)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    hg_mqtt_send(s, hg_mqtt_encode_pingresp(out));
}

static void forget_will(struct hg_mqtt_session *s)
{
    hg_free(s->will);
    s->will = NULL;
}

static void on_disconnect(struct hg_mqtt_session *s)
{
    forget_will(s); /* [MQTT-3.14.4-3] */
    hg_conn_finish(s->base.conn, HG_CLOSED);
}

/* HG_OK; HG_HELD: nothing was used; else the connection ends, *rule says why. */
static enum hg_status on_packet(struct hg_mqtt_session *s, const struct hg_mqtt_packet *packet,
                                const char **rule)
{
    switch (packet->type) {
    case HG_MQTT_CONNECT: return on_connect(s, &packet->u.connect, rule);
    case HG_MQTT_PUBLISH: return on_publish(s, &packet->u.publish, rule);
    case HG_MQTT_PUBACK: hg_mqtt_on_puback(s, packet->u.ack.packet_id); return HG_OK;
    case HG_MQTT_PUBREL: return on_pubrel(s, packet->u.ack.packet_id, rule);
    case HG_MQTT_SUBSCRIBE: return hg_mqtt_on_subscribe(s, &packet->u.subscribe, rule);
    case HG_MQTT_UNSUBSCRIBE: hg_mqtt_on_unsubscribe(s, &packet->u.subscribe); return HG_OK;
    case HG_MQTT_PINGREQ: on_pingreq(s); return HG_OK;
    case HG_MQTT_DISCONNECT: on_disconnect(s); return HG_OK;
    default: /* PUBREC, PUBCOMP */
        *rule = "an acknowledgement of a QoS 2 delivery, of which there are none";
        return HG_PROTOCOL_ERROR;
    }
}

static size_t packet_limit(const struct hg_mqtt_session *s)
{
    size_t limit = (size_t)s->base.worker->config->mqtt_max_packet_bytes;
    return s->state == HG_MQTT_NEW && limit > NEW_PACKET_MAX_BYTES ? NEW_PACKET_MAX_BYTES : limit;
}

static ssize_t feed(struct hg_session *base, struct hg_bytes in, struct hg_error *err)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    size_t used = 0;
    while (used < in.n && !hg_conn_is_held(base->conn) && !hg_conn_is_closing(base->conn)) {
        const struct hg_mqtt_limits limits = {.max_packet_bytes = packet_limit(s)};
        struct hg_mqtt_packet packet;
        ssize_t n = hg_mqtt_decode(&s->decoder, &limits, hg_bytes_skip(in, used), &packet, err);
        if (n < 0) {
            err->at += used;
            return n;
        }
        if (n == 0) {
            break;
        }
        const char *rule = NULL;
        enum hg_status status = on_packet(s, &packet, &rule);
        if (status == HG_HELD) {
            break;
        }
        if (status != HG_OK) {
            return hg_error_set(err, status, rule != NULL ? rule : hg_status_text(status), used);
        }
        used += (size_t)n;
    }
    s->was_held = s->was_held || hg_conn_is_held(base->conn);
    return (ssize_t)used;
}

/* ---- Time ---- */

static void on_silence(struct hg_mqtt_session *s)
{
    hg_count(&hg_mqtt_metrics(s)->keepalive_timeouts, 1);
    hg_conn_close(s->base.conn, HG_KEEP_ALIVE);
}

/* The time for CONNECT, then one and a half times the keep-alive [MQTT-3.1.2-24]. Input only notes
 * the time; the timer looks at it when it fires. While the gateway does not listen it does not
 * time out either, nor before the client has had the whole time again. */
static void fire(struct hg_timer *timer)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(timer, struct hg_mqtt_session, timer);
    uint64_t limit_ms = (uint64_t)s->keep_alive_s * 1500;
    uint64_t silent_ms = hg_clock_ms() - hg_conn_last_read_ms(s->base.conn);
    bool is_held = hg_conn_is_held(s->base.conn);
    if (s->state != HG_MQTT_CONNECTED) {
        on_silence(s);
    } else if (is_held || s->was_held) {
        s->was_held = is_held;
        hg_worker_timer(s->base.worker, timer, limit_ms);
    } else if (silent_ms < limit_ms) {
        hg_worker_timer(s->base.worker, timer, limit_ms - silent_ms);
    } else {
        on_silence(s);
    }
}

/* ---- The end ---- */

static void drain(struct hg_session *base)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    s->is_draining = true;
    hg_conn_hold(base->conn, HG_HOLD_SESSION);
    flush_acks(s);
}

static void closed(struct hg_session *base, enum hg_status why)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    (void)why; /* only DISCONNECT, which took the will with it, is a normal end [MQTT-3.1.2-8] */
    if (s->will != NULL && s->state == HG_MQTT_CONNECTED) {
        publish_will(s);
    }
    hg_timer_stop(&s->timer);
    hg_mqtt_unsubscribe_all(s);
    hg_session_detach(base);
    hg_claim_close(&s->claim);
    if (s->in != NULL) {
        hg_mqtt_in_close(s->in);
    }
    if (s->out != NULL) {
        hg_mqtt_out_close(s->out);
    }
    hg_free(s->in);
    hg_free(s->out);
    hg_free(s->will);
    hg_free(s->client);
    hg_free(s);
}

static void describe(struct hg_session *base, struct hg_session_info *out)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    *out = (struct hg_session_info){.version = s->decoder.level == HG_MQTT_V31 ? "3.1" : "3.1.1",
                                    .client_id = hg_mqtt_client_id(s),
                                    .user = user_of(s)};
}

static const struct hg_session_ops session_ops = {
    .feed = feed,
    .deliver = hg_mqtt_deliver,
    .settled = settled,
    .subscribed = hg_mqtt_subscribed,
    .drain = drain,
    .closed = closed,
    .describe = describe,
};

static struct hg_session *open_session(struct hg_worker *worker, struct hg_conn *conn,
                                       const struct hg_listener_spec *listener,
                                       const char *subprotocol)
{
    (void)listener;
    (void)subprotocol; /* both names stand for the versions that CONNECT tells apart */
    struct hg_mqtt_session *s = hg_zalloc(sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    hg_session_init(&s->base, &session_ops, HG_PROTO_MQTT, conn, worker);
    s->base.merges_overlaps = true; /* one copy at the highest QoS, section 3.3.5 */
    hg_list_init(&s->subacks);
    hg_timer_init(&s->timer, fire);
    hg_worker_timer(worker, &s->timer, worker->config->mqtt_connect_timeout_ms);
    return &s->base;
}

static const char *const subprotocols[] = {"mqtt", "mqttv3.1", NULL};

const struct hg_adapter hg_mqtt_adapter = {
    .name = "mqtt",
    .serves = 1u << HG_SERVE_MQTT,
    .subprotocols = subprotocols,
    .ws_frame_kind = HG_FRAME_BINARY,
    .open = open_session,
};
