/* SPDX-License-Identifier: Apache-2.0 */
/* What the client publishes. Sections are those of MQTT 5.0 unless they say 3.1.1. */
#include "adapters/mqtt/mqtt_message.h"
#include "adapters/mqtt/mqtt_session_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    REASON_TEXT_MAX = 255, /* kept of what RabbitMQ says */
    MESSAGE_ID_MAX = 255,
    MESSAGE_ID_CLIENT_MAX = 200, /* of the client identifier in it */
    PARK_MARKS = 4
};

/* ---- Acknowledgements ---- */

bool hg_mqtt_is_settled(const struct hg_mqtt_session *s)
{
    return s->in == NULL || hg_mqtt_in_is_empty(s->in);
}

static void acknowledge(struct hg_mqtt_session *s, const struct hg_mqtt_in_entry *entry)
{
    hg_mqtt_send_ack(s, entry->qos == 2 ? HG_MQTT_PUBREC : HG_MQTT_PUBACK, entry->packet_id,
                     entry->reason,
                     entry->text_own == NULL ? HG_BYTES("") : hg_buf_bytes(entry->text_own));
}

/* Acknowledges, in the order in which they came, the publishes that are settled. */
static void flush_acks(struct hg_mqtt_session *s)
{
    struct hg_mqtt_in_entry entry;
    bool is_leaving = s->state == HG_MQTT_LEAVING;
    while (s->in != NULL && hg_mqtt_in_pop(s->in, &entry)) {
        if (entry.state == HG_MQTT_IN_ACK && !is_leaving) {
            acknowledge(s, &entry);
        }
        hg_buf_unref(entry.text_own);
        hg_message_unref(entry.spare_own);
    }
    if (!hg_mqtt_is_settled(s)) {
        return;
    }
    if (is_leaving) {
        hg_mqtt_persist_settled(s);
    } else if (s->is_draining) {
        hg_mqtt_end(s, 0, HG_SHUTTING_DOWN, NULL);
    }
}

void hg_mqtt_log_refused(struct hg_mqtt_session *s, struct hg_bytes topic, uint16_t packet_id,
                         enum hg_status status, struct hg_bytes reason)
{
    HG_LOG_LIMITED_BY(s->base.worker->log, HG_LOG_WARN, "mqtt.publish_refused",
                      hg_status_text(status), hg_mqtt_client_id(s),
                      HG_F_BYTES("client", hg_mqtt_client_id(s)),
                      HG_F_STR("peer", s->base.conn == NULL ? NULL : hg_conn_peer(s->base.conn)),
                      HG_F_BYTES("topic", topic), HG_F_UINT("packet_id", packet_id),
                      HG_F_STR("status", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

/* ---- Refusals ---- */

struct verdict {
    enum hg_mqtt_in_state state;
    bool must_close, must_park;
};

/* 5.0 has a word for all that is the publish's own fault; what is wrong between the gateway and
 * RabbitMQ ends the connection. */
static struct verdict judge_5(enum hg_status outcome)
{
    bool must_close = outcome == HG_BROKER_AWAY || outcome == HG_BUSY || outcome == HG_NO_RETAIN;
    return (struct verdict){.state = must_close ? HG_MQTT_IN_WITHHOLD : HG_MQTT_IN_ACK,
                            .must_close = must_close};
}

/* 3.1.1 has no word for a refusal: the answer is an acknowledgement or the end [MQTT-3.3.5-2], or,
 * where the rule says so, none, or an acknowledgement once the message lies elsewhere. */
static struct verdict judge_3(const struct hg_mqtt_session *s, enum hg_status outcome,
                              uint8_t on_reject)
{
    struct verdict v = {.state = HG_MQTT_IN_WITHHOLD, .must_close = true};
    switch (outcome) {
    case HG_OK:
    case HG_UNROUTABLE: v = (struct verdict){.state = HG_MQTT_IN_ACK}; break;
    case HG_NOT_ALLOWED:
        if (!s->base.worker->config->mqtt_denied_is_close) {
            v = (struct verdict){.state = HG_MQTT_IN_ACK};
        }
        break;
    case HG_REJECTED:
    case HG_TOO_MANY:
    case HG_NO_EXCHANGE:
        v.must_close = on_reject == HG_REJECT_CLOSE;
        v.must_park = on_reject == HG_REJECT_PARK;
        break;
    default: break;
    }
    return v;
}

static struct verdict judge(const struct hg_mqtt_session *s, enum hg_status outcome,
                            uint8_t on_reject)
{
    return s->v5 != NULL ? judge_5(outcome) : judge_3(s, outcome, on_reject);
}

static void set_outcome(const struct hg_mqtt_session *s, struct hg_mqtt_in_entry *entry,
                        const struct verdict *v, enum hg_status outcome, struct hg_bytes reason)
{
    entry->state = (uint8_t)v->state;
    if (s->v5 == NULL || outcome == HG_OK) {
        return;
    }
    entry->reason = hg_mqtt_reason_for(entry->qos == 2 ? HG_MQTT_PUBREC : HG_MQTT_PUBACK, outcome);
    if (s->v5->wants_problem_information && s->state != HG_MQTT_LEAVING) {
        struct hg_bytes text = reason.n > 0 ? reason : hg_bytes_str(hg_status_text(outcome));
        text.n = text.n < REASON_TEXT_MAX ? text.n : REASON_TEXT_MAX;
        entry->text_own = hg_buf_copy(text); /* without memory it goes without */
    }
}

/* ---- Parking: what RabbitMQ rejected goes into a queue for people to look at, and is acknowledged
 * then. A 5.0 client is told instead. ---- */

/* A copy of what is published, to be parked if it is rejected. Without memory for it the rejected
 * publish ends the connection. */
static struct hg_message *make_spare(const struct hg_mqtt_session *s,
                                     const struct hg_publish_args *args,
                                     const struct hg_published *published)
{
    if (s->v5 != NULL || published->on_reject != HG_REJECT_PARK) {
        return NULL;
    }
    const struct hg_message_parts parts = {.exchange = published->exchange,
                                           .routing_key = published->key,
                                           .properties = args->properties,
                                           .body = args->body};
    return hg_message_new(&parts);
}

static struct hg_header mark(struct hg_bytes name, struct hg_bytes text)
{
    return (struct hg_header){name, {.kind = HG_VALUE_STRING, .u.bytes = text}};
}

static enum hg_status park(struct hg_mqtt_session *s, uint64_t id, const struct hg_message *m,
                           enum hg_status outcome, struct hg_bytes reason)
{
    if (m == NULL) {
        return HG_NO_MEMORY;
    }
    if (reason.n == 0) {
        reason = hg_bytes_str(hg_status_text(outcome));
    }
    const struct hg_header marks[PARK_MARKS] = {
        mark(HG_BYTES("x-headgate-refused-exchange"), hg_message_exchange(m)),
        mark(HG_BYTES("x-headgate-refused-key"), hg_message_routing_key(m)),
        mark(HG_BYTES("x-headgate-refused-reason"), reason),
        mark(HG_BYTES("x-headgate-refused-client"), hg_mqtt_client_id(s)),
    };
    const struct hg_publish_args args = {
        .exchange = HG_BYTES(""),
        .key = hg_bytes_str(s->base.worker->config->mqtt_park_queue),
        .properties = *hg_message_properties(m),
        .body = hg_message_body(m),
        .client_id = hg_mqtt_client_id(s),
        .user = hg_mqtt_user(s),
        .id = id,
        .marks = marks,
        .marks_n = PARK_MARKS,
        .is_direct = true,
        .is_vouched = true,
        .is_mandatory = true, /* the queue may be gone */
        .is_free = true,
        .wants_outcome = true,
        .never_held = true,
    };
    const char *why = NULL;
    return hg_publish(&s->base, &args, NULL, &why);
}

void hg_mqtt_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                     struct hg_bytes reason)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    struct hg_mqtt_in_entry *entry = hg_mqtt_in_find(s->in, (uint32_t)id);
    HG_CHECK(entry != NULL); /* it leaves the ring only once it is settled */
    struct verdict v = judge(s, outcome, entry->on_reject);
    if (entry->is_parked && outcome != HG_OK) {
        v = (struct verdict){.state = HG_MQTT_IN_WITHHOLD, .must_close = true};
    }
    if (outcome != HG_OK) {
        hg_mqtt_log_refused(s, HG_BYTES(""), entry->packet_id, outcome, reason);
    }
    if (v.must_park && !v.must_close) {
        entry->is_parked = true;
        if (park(s, id, entry->spare_own, outcome, reason) == HG_OK) {
            return;
        }
        v.must_close = true;
    }
    set_outcome(s, entry, &v, outcome, reason);
    flush_acks(s);
    if (v.must_close && s->state != HG_MQTT_LEAVING) {
        hg_mqtt_end(s, 0, outcome, NULL);
    }
}

/* QoS 0 promises nothing, so what is refused is dropped (and counted by hg_publish); but what
 * breaks the protocol, or waited in vain for RabbitMQ or its turn, ends the connection as with the
 * other QoS. */
static bool is_dropped(uint8_t qos, enum hg_status status)
{
    return qos == 0 && status != HG_BAD_ADDRESS && status != HG_BROKER_AWAY && status != HG_BUSY &&
           status != HG_TOO_FAST;
}

/* A PUBLISH that was refused before it was under way. HG_OK: the client goes on. */
static enum hg_status on_refused(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                 enum hg_status status, uint8_t on_reject, const char **rule)
{
    hg_mqtt_log_refused(s, p->topic, p->packet_id, status, hg_bytes_str(*rule));
    if (is_dropped(p->qos, status)) {
        return HG_OK;
    }
    struct verdict v = judge(s, status, on_reject);
    if (v.must_close || p->qos == 0) {
        return status;
    }
    uint32_t seq = hg_mqtt_in_push(s->in, p->packet_id, p->qos, on_reject);
    set_outcome(s, hg_mqtt_in_find(s->in, seq), &v, status, hg_bytes_str(*rule));
    flush_acks(s);
    return HG_OK;
}

/* ---- Topic aliases (section 3.3.2.3.4) ---- */

struct hg_mqtt_aliases {
    uint16_t n;
    struct hg_buf *topics[]; /* n, by alias less one; NULL: not used yet */
};

/* The topic meant, in *topic_out. */
static enum hg_status resolve_alias(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                    uint16_t alias, struct hg_bytes *topic_out, const char **rule)
{
    uint16_t max = s->base.worker->config->mqtt_topic_alias_max;
    if (alias == 0 || alias > max) { /* [MQTT-3.3.2-8], [MQTT-3.3.2-9] */
        *rule = "the topic alias is none that the gateway takes";
        return HG_BAD_ALIAS;
    }
    if (s->v5->in == NULL) {
        s->v5->in = hg_zalloc(sizeof(*s->v5->in) + max * sizeof(s->v5->in->topics[0]));
        if (s->v5->in == NULL) {
            return HG_NO_MEMORY;
        }
        s->v5->in->n = max;
    }
    struct hg_buf **place = &s->v5->in->topics[alias - 1];
    if (p->topic.n > 0) {
        struct hg_buf *copy = hg_buf_copy(p->topic);
        if (copy == NULL) {
            return HG_NO_MEMORY;
        }
        hg_buf_unref(*place);
        *place = copy;
    }
    if (*place == NULL) {
        *rule = "the topic alias stands for no topic yet";
        return HG_PROTOCOL_ERROR;
    }
    *topic_out = hg_buf_bytes(*place);
    return HG_OK;
}

void hg_mqtt_forget_publishes(struct hg_mqtt_session *s)
{
    if (s->in != NULL) {
        hg_mqtt_in_close(s->in);
        hg_free(s->in);
        s->in = NULL;
    }
    if (s->v5 == NULL || s->v5->in == NULL) {
        return;
    }
    for (size_t i = 0; i < s->v5->in->n; i++) {
        hg_buf_unref(s->v5->in->topics[i]);
    }
    hg_free(s->v5->in);
    s->v5->in = NULL;
}

/* ---- PUBLISH (section 3.3) ---- */

/* A reply queue that was shown to this client as `$reply/<number>`. */
static enum hg_status find_reply(const struct hg_mqtt_session *s, struct hg_bytes number,
                                 struct hg_publish_args *args, const char **rule)
{
    const struct hg_mqtt_v5 *v5 = s->v5;
    uint64_t n = 0;
    bool is_known = v5 != NULL && hg_bytes_to_u64(number, UINT64_MAX, &n) && n < v5->replies_n &&
                    v5->replies_n - n <= HG_MQTT_REPLIES;
    if (!is_known) {
        *rule = "no request came with this reply topic";
        return HG_NOT_ALLOWED;
    }
    args->is_direct = true;
    args->is_vouched = true; /* whoever asked wants this client's answer */
    args->exchange = HG_BYTES("");
    args->key = hg_buf_bytes(v5->replies[n % HG_MQTT_REPLIES]);
    return HG_OK;
}

/* Where it goes, as far as the session decides that. */
static enum hg_status address(const struct hg_mqtt_session *s, struct hg_publish_args *args,
                              const char **rule)
{
    const struct hg_bytes reply = HG_BYTES("$reply/");
    if (hg_mqtt_sys_is_topic(args->address)) {
        *rule = "$SYS is the gateway's own";
        return HG_NOT_ALLOWED;
    }
    if (hg_bytes_starts(args->address, reply)) {
        return find_reply(s, hg_bytes_skip(args->address, reply.n), args, rule);
    }
    return HG_OK;
}

/* Tells a repeat after a crash from a new message with the same content. */
static struct hg_bytes make_message_id(const struct hg_mqtt_session *s, uint16_t packet_id,
                                       char out[MESSAGE_ID_MAX])
{
    struct hg_bytes id = hg_mqtt_client_id(s);
    id.n = id.n < MESSAGE_ID_CLIENT_MAX ? id.n : MESSAGE_ID_CLIENT_MAX;
    int n = snprintf(out, MESSAGE_ID_MAX, "%.*s/%u/%" PRIu64, HG_BYTES_FMT(id), packet_id,
                     s->claim.epoch);
    return hg_bytes(out, (size_t)n);
}

/* Makes the message and publishes it. HG_HELD: nothing was used. */
static enum hg_status publish(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                              struct hg_publish_args *args, struct hg_published *published,
                              const char **rule)
{
    const struct hg_header numbered = {HG_BYTES("x-headgate-numbered"),
                                       {.kind = HG_VALUE_BOOL, .u.b = true}};
    struct hg_mqtt_inbound inbound;
    char message_id[MESSAGE_ID_MAX];
    enum hg_status status = address(s, args, rule);
    if (status == HG_OK && s->v5 != NULL) {
        status = hg_mqtt_message_in(&inbound, hg_realm_of(&s->base)->rules, p->properties,
                                    p->payload, p->qos, rule);
        if (status == HG_OK && p->is_retained) {
            hg_mqtt_message_keep_order(&inbound);
        }
        args->properties = inbound.properties;
    }
    if (status != HG_OK) {
        return status;
    }
    args->is_exactly_once = p->qos == 2;
    if (p->qos == 2 && args->properties.message_id.n == 0) {
        args->properties.message_id = make_message_id(s, p->packet_id, message_id);
        args->marks = &numbered; /* so that MQTT clients are not shown it */
        args->marks_n = 1;
    }
    status = hg_publish(&s->base, args, published, rule);
    if (status == HG_OK && p->qos > 0) {
        uint32_t seq = hg_mqtt_in_push(s->in, p->packet_id, p->qos, (uint8_t)published->on_reject);
        hg_mqtt_in_find(s->in, seq)->spare_own = make_spare(s, args, published);
    }
    return status;
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
        hg_mqtt_send_ack(s, HG_MQTT_PUBREC, p->packet_id, HG_MQTT_SUCCESS,
                         HG_BYTES("")); /* [MQTT-4.3.3-10] */
    } else if (use == HG_MQTT_RECEIVED || (use == HG_MQTT_UNDER_WAY && p->qos == 1 && !p->is_dup)) {
        *rule = "a packet identifier must not be in use"; /* [MQTT-2.2.1-3] */
        return HG_PROTOCOL_ERROR;
    }
    /* A client counts anew with each connection; what it owes from before is not in its count. */
    uint32_t max = s->base.worker->config->mqtt_receive_max + s->in->restored_n;
    if (!*is_repeat && s->v5 != NULL && s->in->ids_n >= max) { /* section 4.9 */
        *rule = "more publishes are unacknowledged than the Receive Maximum allows";
        hg_worker_refused(s->base.worker, HG_LIMIT_MQTT_RECEIVE);
        return HG_TOO_MANY_INFLIGHT;
    }
    return HG_OK; /* a repeat of one under way: its answer answers both */
}

static enum hg_status check_retain(const struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                   bool *is_retained, const char **rule)
{
    bool is_enabled = hg_state_is_enabled(hg_realm_of(&s->base)->vhost);
    *is_retained = p->is_retained && is_enabled;
    if (!p->is_retained || is_enabled || s->v5 == NULL) {
        return HG_OK;
    }
    *rule = "CONNACK said that retained messages are not available"; /* [MQTT-3.2.2-14] */
    return HG_NO_RETAIN;
}

/* HG_HELD: nothing was used. */
enum hg_status hg_mqtt_on_publish(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                  const char **rule)
{
    struct hg_mqtt_publish meant = *p;
    bool is_repeat = false;
    bool is_retained = false;
    enum hg_status status = HG_OK;
    if (s->v5 != NULL) {
        struct hg_mqtt_properties properties;
        hg_mqtt_property_read(p->properties, &properties);
        if (hg_mqtt_property_has(&properties, HG_MQTT_TOPIC_ALIAS)) {
            status = resolve_alias(s, p, properties.topic_alias, &meant.topic, rule);
        }
    }
    if (status == HG_OK) {
        status = check_retain(s, p, &is_retained, rule);
    }
    if (status == HG_OK && p->qos > 0) {
        status = admit(s, p, &is_repeat, rule);
    }
    if (status != HG_OK || is_repeat) {
        return status;
    }
    struct hg_publish_args args = {
        .address = meant.topic,
        .properties = {.delivery_mode = p->qos > 0 ? 2 : 1},
        .body = p->payload,
        .client_id = hg_mqtt_client_id(s),
        .user = hg_mqtt_user(s),
        .id = s->in == NULL ? 0 : s->in->next,
        .is_retained = is_retained,
        .wants_outcome = p->qos > 0,
    };
    if (s->v5 != NULL && s->v5->no_local_n > 0) {
        args.sender = args.client_id;
    }
    struct hg_published published = {.on_reject = HG_REJECT_CLOSE};
    status = publish(s, &meant, &args, &published, rule);
    return status == HG_OK || status == HG_HELD
               ? status
               : on_refused(s, &meant, status, (uint8_t)published.on_reject, rule);
}

/* Section 4.3.3. Of an identifier that is not known, PUBCOMP says so. */
enum hg_status hg_mqtt_on_pubrel(struct hg_mqtt_session *s, const struct hg_mqtt_ack *ack,
                                 const char **rule)
{
    enum hg_mqtt_use use = s->in == NULL ? HG_MQTT_FREE : hg_mqtt_in_use(s->in, ack->packet_id);
    if (use == HG_MQTT_UNDER_WAY) {
        *rule = "PUBREL must wait for PUBREC";
        return HG_PROTOCOL_ERROR;
    }
    if (use == HG_MQTT_RECEIVED) {
        hg_mqtt_in_release(s->in, ack->packet_id);
    }
    hg_mqtt_send_ack(s, HG_MQTT_PUBCOMP, ack->packet_id,
                     use == HG_MQTT_FREE ? HG_MQTT_PACKET_ID_NOT_FOUND : HG_MQTT_SUCCESS,
                     HG_BYTES(""));
    return HG_OK;
}
