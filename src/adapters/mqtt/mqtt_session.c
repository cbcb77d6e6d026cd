/* SPDX-License-Identifier: Apache-2.0 */
/* An MQTT session as the gateway sees it: packets in, time, the end. Sections are those of MQTT 3.1.1
 * unless they say 5.0. */
#include "adapters/mqtt/mqtt_session.h"

#include "adapters/mqtt/mqtt_deliver.h"
#include "adapters/mqtt/mqtt_persist_priv.h"
#include "adapters/mqtt/mqtt_session_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"

enum {
    NEW_PACKET_MAX_BYTES = 64 * 1024 /* before CONNECT: a stranger gets no more memory */
};

static const struct hg_session_ops session_ops, leaving_ops;

struct hg_mqtt_session *hg_mqtt_session_of(struct hg_session *base)
{
    HG_CHECK(base->ops == &session_ops || base->ops == &leaving_ops);
    return HG_CONTAINER_OF(base, struct hg_mqtt_session, base);
}

struct hg_bytes hg_mqtt_client_id(const struct hg_mqtt_session *s)
{
    return hg_claim_id(&s->claim);
}

struct hg_bytes hg_mqtt_user(const struct hg_mqtt_session *s)
{
    return hg_bytes_str(s->user);
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

void hg_mqtt_send_written(struct hg_mqtt_session *s, struct hg_writer *w_own)
{
    if (w_own->failed) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    } else {
        hg_mqtt_send(s, hg_writer_view(w_own));
    }
    hg_writer_close(w_own);
}

struct reasoned { /* DISCONNECT or an acknowledgement */
    enum hg_mqtt_type type;
    uint16_t packet_id;
    uint8_t reason;
};

static void write_reasoned(struct hg_writer *w, const struct reasoned *r,
                           struct hg_bytes properties)
{
    if (r->type == HG_MQTT_DISCONNECT) {
        hg_mqtt_write_end(w, r->type, r->reason, properties);
    } else {
        hg_mqtt_write_ack(w, r->type, r->packet_id, r->reason, properties);
    }
}

/* With a reason string, or without it where the client does not want one or the packet would be
 * larger than it takes. */
static void send_reasoned(struct hg_mqtt_session *s, const struct reasoned *r, struct hg_bytes text)
{
    struct hg_writer properties = {0};
    struct hg_writer w = {0};
    if (text.n > 0 && s->v5->wants_problem_information) {
        hg_mqtt_property_bytes(&properties, HG_MQTT_REASON_STRING, text);
    }
    write_reasoned(&w, r, hg_writer_view(&properties));
    if (hg_writer_n(&w) > s->v5->max_packet_bytes) { /* [MQTT-3.14.2-3] and its like */
        hg_writer_reset(&w);
        write_reasoned(&w, r, HG_BYTES(""));
    }
    w.failed = w.failed || properties.failed;
    hg_writer_close(&properties);
    if (hg_writer_n(&w) <= s->v5->max_packet_bytes) {
        hg_mqtt_send_written(s, &w);
    } else {
        hg_writer_close(&w);
    }
}

void hg_mqtt_send_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type, uint16_t packet_id,
                      uint8_t reason, struct hg_bytes text)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    if (s->v5 != NULL && text.n > 0) {
        send_reasoned(s, &(struct reasoned){type, packet_id, reason}, text);
        return;
    }
    hg_mqtt_send(s, hg_mqtt_encode_ack(out, s->decoder.level, type, packet_id, reason));
}

/* ---- The end of the connection ---- */

static void send_disconnect(struct hg_mqtt_session *s, uint8_t reason, enum hg_status why,
                            const char *text)
{
    if (s->v5 == NULL || s->state != HG_MQTT_CONNECTED) {
        return;
    }
    if (reason == HG_MQTT_SUCCESS) {
        reason = hg_mqtt_reason_for(HG_MQTT_DISCONNECT, why);
    }
    send_reasoned(s, &(struct reasoned){HG_MQTT_DISCONNECT, 0, reason},
                  hg_bytes_str(text != NULL ? text : hg_status_text(why)));
}

void hg_mqtt_end(struct hg_mqtt_session *s, uint8_t reason, enum hg_status why, const char *text)
{
    if (!hg_conn_is_closing(s->base.conn)) {
        send_disconnect(s, reason, why, text);
        hg_conn_finish(s->base.conn, why);
    }
}

/* ---- Packets ---- */

static void on_pingreq(struct hg_mqtt_session *s)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    hg_mqtt_send(s, hg_mqtt_encode_pingresp(out));
}

/* 5.0 section 3.14.2.2.2. */
static enum hg_status change_expiry(struct hg_mqtt_session *s, uint32_t asked_s, const char **rule)
{
    if (asked_s > 0 && s->v5->session_expiry_s == 0) {
        *rule = "a session that was to end with its connection cannot be kept";
        return HG_PROTOCOL_ERROR;
    }
    s->v5->session_expiry_s = asked_s;
    if (s->persist != NULL) {
        hg_mqtt_persist_set_expiry(s, hg_mqtt_expiry_s(s, asked_s));
    }
    return HG_OK;
}

static enum hg_status on_disconnect(struct hg_mqtt_session *s, const struct hg_mqtt_end *end,
                                    const char **rule)
{
    enum hg_status status = HG_OK;
    if (s->v5 != NULL) {
        struct hg_mqtt_properties properties;
        hg_mqtt_property_read(end->properties, &properties);
        if (hg_mqtt_property_has(&properties, HG_MQTT_SESSION_EXPIRY)) {
            status = change_expiry(s, properties.session_expiry_s, rule);
        }
    }
    if (status != HG_OK) {
        return status;
    }
    if (end->reason == HG_MQTT_SUCCESS) {
        hg_mqtt_forget_will(s); /* [MQTT-3.14.4-3] */
    }
    hg_conn_finish(s->base.conn, HG_CLOSED);
    return HG_OK;
}

/* HG_OK; HG_HELD: nothing was used; else the connection ends, *rule says why. */
static enum hg_status on_packet(struct hg_mqtt_session *s, const struct hg_mqtt_packet *packet,
                                const char **rule)
{
    switch (packet->type) {
    case HG_MQTT_CONNECT: return hg_mqtt_on_connect(s, &packet->u.connect, rule);
    case HG_MQTT_PUBLISH: return hg_mqtt_on_publish(s, &packet->u.publish, rule);
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC:
    case HG_MQTT_PUBCOMP: return hg_mqtt_on_ack(s, packet->type, &packet->u.ack, rule);
    case HG_MQTT_PUBREL: return hg_mqtt_on_pubrel(s, &packet->u.ack, rule);
    case HG_MQTT_SUBSCRIBE: return hg_mqtt_on_subscribe(s, &packet->u.subscribe, rule);
    case HG_MQTT_UNSUBSCRIBE: return hg_mqtt_on_unsubscribe(s, &packet->u.subscribe, rule);
    case HG_MQTT_PINGREQ: on_pingreq(s); return HG_OK;
    case HG_MQTT_DISCONNECT: return on_disconnect(s, &packet->u.end, rule);
    default: return hg_mqtt_on_auth(s, &packet->u.end, rule);
    }
}

static size_t packet_limit(const struct hg_mqtt_session *s)
{
    size_t limit = (size_t)s->base.worker->config->mqtt_max_packet_bytes;
    return s->state == HG_MQTT_NEW && limit > NEW_PACKET_MAX_BYTES ? NEW_PACKET_MAX_BYTES : limit;
}

/* What the client is told when its bytes end the connection; the core closes it. */
static void say_why(struct hg_mqtt_session *s, const struct hg_error *err)
{
    if (s->state == HG_MQTT_NEW && s->decoder.level >= HG_MQTT_V50) {
        hg_mqtt_refuse(s, err->status, err->rule); /* 5.0 section 4.13.2 */
    } else {
        send_disconnect(s, 0, err->status, err->rule);
    }
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
            if (err->status == HG_TOO_LARGE) {
                hg_worker_refused(base->worker, HG_LIMIT_MQTT_PACKET);
            }
            say_why(s, err);
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
            (void)hg_error_set(err, status, rule != NULL ? rule : hg_status_text(status), used);
            say_why(s, err);
            return -1;
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
    if (s->v5 != NULL && s->state == HG_MQTT_CONNECTED) {
        hg_mqtt_end(s, 0, HG_KEEP_ALIVE, NULL);
    } else {
        hg_conn_close(s->base.conn, HG_KEEP_ALIVE);
    }
}

/* The client has done its part, and RabbitMQ not: it may try again. */
static void on_unanswered(struct hg_mqtt_session *s)
{
    if (s->persist != NULL) {
        hg_mqtt_persist_log(s->persist, "mqtt.session_refused", HG_BROKER_AWAY,
                            HG_BYTES("it took longer than rabbitmq.unavailable_timeout"));
    }
    hg_mqtt_refuse(s, HG_BROKER_AWAY, "RabbitMQ has not answered in time");
}

/* Before CONNACK: a stranger has its time for CONNECT, but not while it waits for us (to find out
 * who it is), which has limits of its own. */
static void fire_early(struct hg_mqtt_session *s)
{
    if (s->state == HG_MQTT_CLAIMING) {
        on_unanswered(s);
    } else if (hg_conn_is_held(s->base.conn)) {
        hg_worker_timer(s->base.worker, &s->timer, s->base.worker->config->mqtt_connect_timeout_ms);
    } else {
        on_silence(s);
    }
}

/* The time for CONNECT and for CONNACK, then one and a half times the keep-alive [MQTT-3.1.2-24].
 * Input only notes the time; the timer looks at it when it fires. While the gateway does not listen
 * it does not time out either, nor before the client has had the whole time again. */
static void fire(struct hg_timer *timer)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(timer, struct hg_mqtt_session, timer);
    uint64_t limit_ms = (uint64_t)s->keep_alive_s * 1500;
    uint64_t silent_ms = hg_clock_ms() - hg_conn_last_read_ms(s->base.conn);
    bool is_held = hg_conn_is_held(s->base.conn);
    if (hg_conn_is_closing(s->base.conn)) {
        return; /* which has a limit of its own */
    }
    if (s->state != HG_MQTT_CONNECTED) {
        fire_early(s);
    } else if (is_held || s->was_held) {
        s->was_held = is_held;
        hg_worker_timer(s->base.worker, timer, limit_ms);
    } else if (silent_ms < limit_ms) {
        hg_worker_timer(s->base.worker, timer, limit_ms - silent_ms);
    } else {
        on_silence(s);
    }
}

void hg_mqtt_start_keep_alive(struct hg_mqtt_session *s)
{
    s->was_held = false;
    if (s->keep_alive_s > 0) {
        hg_worker_timer(s->base.worker, &s->timer, (uint64_t)s->keep_alive_s * 1500);
    } else {
        hg_timer_stop(&s->timer);
    }
}

/* ---- The end ---- */

static void drain(struct hg_session *base)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    s->is_draining = true;
    hg_conn_hold(base->conn, HG_HOLD_SESSION);
    if (hg_mqtt_is_settled(s)) {
        hg_mqtt_end(s, 0, HG_SHUTTING_DOWN, NULL);
    }
}

void hg_mqtt_free(struct hg_mqtt_session *s)
{
    hg_timer_stop(&s->timer);
    hg_mqtt_persist_free(s); /* first: bindings of a queue that is kept stay */
    hg_mqtt_unsubscribe_all(s);
    hg_mqtt_forget_deliveries(s);
    hg_mqtt_forget_publishes(s);
    hg_session_detach(&s->base);
    hg_claim_close(&s->claim);
    hg_mqtt_forget_will(s);
    hg_free(s->v5);
    hg_free(s->user);
    hg_free(s);
}

static void closed(struct hg_session *base, enum hg_status why)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    (void)why; /* only DISCONNECT, which took the will with it, is a normal end [MQTT-3.1.2-8] */
    if (s->persist != NULL && hg_mqtt_persist_leave(s)) {
        hg_timer_stop(&s->timer);
        hg_mqtt_unsubscribe_fed(s);
        hg_mqtt_forget_deliveries(s);
        base->ops = &leaving_ops;
        base->conn = NULL;
        return;
    }
    if (s->state == HG_MQTT_CONNECTED) {
        hg_mqtt_publish_will(s);
    }
    hg_mqtt_free(s);
}

static void deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    if (s->state == HG_MQTT_CONNECTED) {
        hg_mqtt_deliver(base, d, matches);
    } else {
        (void)hg_mqtt_persist_keeps(s, d); /* what the feed brings before CONNACK is not for it */
    }
}

static void describe(struct hg_session *base, struct hg_session_info *out)
{
    static const char *const versions[] = {
        [HG_MQTT_V31] = "3.1", [HG_MQTT_V311] = "3.1.1", [HG_MQTT_V50] = "5.0"};
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    uint8_t level = s->decoder.level;
    bool is_known = level >= HG_MQTT_V31 && level <= HG_MQTT_V50;
    *out = (struct hg_session_info){.version = versions[is_known ? level : HG_MQTT_V311],
                                    .client_id = hg_mqtt_client_id(s),
                                    .user = hg_mqtt_user(s)};
}

static void expired(struct hg_session *base, enum hg_status why)
{
    hg_mqtt_end(hg_mqtt_session_of(base), 0, why, NULL);
}

static void too_slow(struct hg_session *base)
{
    hg_mqtt_end(hg_mqtt_session_of(base), 0, HG_TOO_SLOW, NULL);
}

static const struct hg_session_ops session_ops = {
    .feed = feed,
    .deliver = deliver,
    .settled = hg_mqtt_settled,
    .subscribed = hg_mqtt_subscribed,
    .wants_more = hg_mqtt_wants_more,
    .drained = hg_mqtt_drained,
    .too_slow = too_slow,
    .expired = expired,
    .drain = drain,
    .closed = closed,
    .describe = describe,
};

/* ---- After the connection ---- */

static void deliver_to_nobody(struct hg_session *base, struct hg_delivery *d,
                              struct hg_sub *matches)
{
    (void)base;
    (void)d; /* not acknowledged: it goes back into its queue */
    (void)matches;
}

static bool wants_nothing(struct hg_session *base)
{
    (void)base;
    return false;
}

static const struct hg_session_ops leaving_ops = {
    .wants_more = wants_nothing,
    .deliver = deliver_to_nobody,
    .settled = hg_mqtt_settled,
    .subscribed = hg_mqtt_subscribed_leaving,
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
