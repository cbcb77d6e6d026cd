/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries to a client. Sections are those of MQTT 5.0. */
#include "adapters/mqtt/mqtt_deliver.h"

#include "adapters/mqtt/mqtt_alias.h"
#include "adapters/mqtt/mqtt_message.h"
#include "adapters/mqtt/mqtt_share.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/retain.h"
#include "core/slow.h"
#include "message/expiry.h"
#include "message/topic.h"

#include <stdio.h>

enum {
    /* identifiers that may have been used before a crash; in flight, expected and doubtful ones can
     * be up to so many times the number in flight */
    ID_FACTOR = 2,
    SUBSCRIPTION_ID_N = 1 + HG_MQTT_VARINT_MAX,
    REPLY_TOPIC_N = 32
};

static struct hg_mqtt_sub *sub_of(struct hg_sub *base)
{
    return HG_CONTAINER_OF(base, struct hg_mqtt_sub, base);
}

uint16_t hg_mqtt_inflight_max(const struct hg_mqtt_session *s)
{
    uint16_t client_max = s->v5 == NULL ? UINT16_MAX : s->v5->receive_maximum;
    uint32_t max = s->base.worker->config->mqtt_max_inflight;
    return max < client_max ? (uint16_t)max : client_max;
}

static struct hg_mqtt_out_limits limits_of(const struct hg_mqtt_session *s)
{
    return (struct hg_mqtt_out_limits){hg_mqtt_inflight_max(s),
                                       s->base.worker->config->mqtt_max_queued};
}

static void settle(struct hg_queue *queue, struct hg_ticket ticket)
{
    if (queue != NULL) {
        (void)hg_queue_ack(queue, ticket); /* a stale one is counted, and comes again */
    }
}

/* ---- Which subscriptions a delivery is for ---- */

static struct hg_bytes filter_of(const struct hg_mqtt_sub *sub)
{
    return hg_bytes(sub->filter, sub->filter_n);
}

/* Subscriptions of a kept session that its queue brings messages for: all but shared ones. */
static bool is_for_queue(const struct hg_mqtt_sub *sub, struct hg_bytes address)
{
    return !sub->is_shared && !sub->is_sys && hg_topic_matches(filter_of(sub), address);
}

/* What the session's own queue brings is for all of its filters. */
static struct hg_sub *match_all(struct hg_mqtt_session *s, const struct hg_delivery *d)
{
    struct hg_sub *first = NULL;
    struct hg_sub **last = &first;
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub, session_link);
        if (is_for_queue(sub_of(sub), d->address)) {
            *last = sub;
            last = &sub->next_match;
        }
    }
    *last = NULL;
    return first;
}

/* What the feed brings may come through the session's queue as well: then that copy counts. */
static bool comes_through_queue(const struct hg_mqtt_session *s, const struct hg_delivery *d)
{
    if (hg_mqtt_queue(s) == NULL) {
        return false;
    }
    HG_LIST_FOREACH (it, &s->base.subs) {
        const struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (sub->is_on_queue && sub->is_granted && is_for_queue(sub, d->address)) {
            return true;
        }
    }
    return false;
}

/* Without those that do not want what this client has published itself (section 3.8.3.1). */
static struct hg_sub *without_own(const struct hg_mqtt_session *s, const struct hg_delivery *d,
                                  struct hg_sub *matches)
{
    if (s->v5 == NULL || s->v5->no_local_n == 0) {
        return matches;
    }
    const struct hg_value *from = hg_message_header(d->message, HG_BYTES("x-headgate-from"));
    if (from == NULL || from->kind != HG_VALUE_STRING ||
        !hg_bytes_eq(from->u.bytes, hg_mqtt_client_id(s))) {
        return matches;
    }
    struct hg_sub *first = NULL;
    struct hg_sub **last = &first;
    for (struct hg_sub *sub = matches; sub != NULL; sub = sub->next_match) {
        if (!sub_of(sub)->is_no_local) {
            *last = sub;
            last = &sub->next_match;
        }
    }
    *last = NULL;
    return first;
}

static struct hg_sub *find_matches(struct hg_mqtt_session *s, const struct hg_delivery *d,
                                   struct hg_sub *matches)
{
    bool is_from_feed = d->queue == NULL && !d->is_retained;
    if (matches == NULL) {
        matches = match_all(s, d);
    } else if (is_from_feed && comes_through_queue(s, d)) {
        matches = NULL;
    }
    return without_own(s, d, matches);
}

/* ---- What is sent ---- */

/* The QoS that the message was published with, as far as AMQP tells: what is transient is QoS 0, as
 * RabbitMQ's plugin has it, and QoS 2 carries a header. */
static uint8_t published_qos(const struct hg_message *m)
{
    if (hg_message_properties(m)->delivery_mode != 2) {
        return 0;
    }
    const struct hg_value *qos = hg_message_header(m, HG_BYTES("x-headgate-qos"));
    return qos != NULL && qos->kind == HG_VALUE_INT && qos->u.i == 2 ? 2 : 1;
}

static bool was_published_retained(const struct hg_message *m)
{
    const struct hg_value *v = hg_message_header(m, HG_BYTES("x-headgate-retain"));
    return v != NULL && v->kind == HG_VALUE_BOOL && v->u.b;
}

/* One copy at the highest QoS for all (section 3.3.4). */
static void merge(struct hg_mqtt_out_item *item, const struct hg_delivery *d,
                  const struct hg_sub *matches, uint32_t *ids_n)
{
    bool keeps_retain = false;
    for (const struct hg_sub *it = matches; it != NULL; it = it->next_match) {
        const struct hg_mqtt_sub *sub = HG_CONTAINER_OF(it, struct hg_mqtt_sub, base);
        item->qos = sub->qos > item->qos ? sub->qos : item->qos;
        keeps_retain = keeps_retain || sub->is_retain_as_published;
        if (sub->subscription_id != 0) {
            item->subscription_id = sub->subscription_id;
            ++*ids_n;
        }
    }
    if (item->qos > 0) {
        uint8_t published = published_qos(d->message);
        item->qos = item->qos < published ? item->qos : published;
    }
    item->is_retained = d->is_retained || (keeps_retain && was_published_retained(d->message));
    item->is_dup = item->qos > 0 && d->is_redelivered;
}

/* The number that stands for a reply queue towards this client; false: no memory. */
static bool number_of_reply(struct hg_mqtt_v5 *v5, struct hg_bytes reply_to, uint64_t *number_out)
{
    if (v5->replies == NULL) {
        v5->replies = hg_zalloc(HG_MQTT_REPLIES * sizeof(v5->replies[0]));
    }
    if (v5->replies == NULL) {
        return false;
    }
    for (uint64_t back = 1; back <= v5->replies_n && back <= HG_MQTT_REPLIES; back++) {
        uint64_t number = v5->replies_n - back;
        if (hg_bytes_eq(hg_buf_bytes(v5->replies[number % HG_MQTT_REPLIES]), reply_to)) {
            *number_out = number;
            return true;
        }
    }
    struct hg_buf *copy = hg_buf_copy(reply_to);
    if (copy == NULL) {
        return false;
    }
    struct hg_buf **place = &v5->replies[v5->replies_n % HG_MQTT_REPLIES];
    hg_buf_unref(*place);
    *place = copy;
    *number_out = v5->replies_n++;
    return true;
}

/* A Response Topic for a reply queue that no rule leads to: the client answers to it, and this
 * session knows what it stands for. */
static bool write_private_reply(struct hg_mqtt_session *s, const struct hg_message *m,
                                struct hg_writer *w)
{
    if (!hg_mqtt_message_has_private_reply(hg_realm_of(&s->base)->rules, m)) {
        return true;
    }
    uint64_t number = 0;
    if (!number_of_reply(s->v5, hg_message_properties(m)->reply_to, &number)) {
        return false;
    }
    char text[REPLY_TOPIC_N];
    int n = snprintf(text, sizeof(text), "$reply/%llu", (unsigned long long)number);
    hg_mqtt_property_bytes(w, HG_MQTT_RESPONSE_TOPIC, hg_bytes(text, (size_t)n));
    return true;
}

/* Properties that only this copy has, beyond one subscription identifier. */
static bool make_own(struct hg_mqtt_session *s, const struct hg_delivery *d,
                     const struct hg_sub *matches, uint32_t ids_n, struct hg_mqtt_out_item *item)
{
    struct hg_writer w = {0};
    bool is_ok = write_private_reply(s, d->message, &w);
    bool has_all_ids = ids_n > 1 || hg_writer_n(&w) > 0;
    for (const struct hg_sub *it = matches; it != NULL && has_all_ids; it = it->next_match) {
        uint32_t id = HG_CONTAINER_OF(it, struct hg_mqtt_sub, base)->subscription_id;
        if (id != 0) {
            hg_mqtt_property_varint(&w, HG_MQTT_SUBSCRIPTION_ID, id);
        }
    }
    is_ok = is_ok && !w.failed;
    if (is_ok && has_all_ids) {
        item->own = hg_writer_take(&w);
        item->subscription_id = 0;
    }
    hg_writer_close(&w);
    return is_ok;
}

/* Whether MQTT can show this address: another AMQP publisher may have used any bytes. */
static bool is_showable(struct hg_bytes address)
{
    return address.n > 0 && address.n <= HG_TOPIC_MAX_BYTES && hg_utf8_is_clean(address) &&
           !hg_topic_has_wildcard(address);
}

enum slot { SLOT_V3, SLOT_V5 }; /* of hg_delivery.cache */

/* The packet that all subscribers of this delivery share, whatever their QoS. left_s: of its
 * expiry. NULL: no memory. */
static struct hg_buf *shared_packet(struct hg_mqtt_session *s, struct hg_delivery *d,
                                    uint32_t left_s)
{
    struct hg_buf **place = &d->cache[s->v5 == NULL ? SLOT_V3 : SLOT_V5];
    if (*place == NULL) {
        struct hg_writer properties = {0};
        if (s->v5 != NULL) {
            hg_mqtt_message_out(&properties, hg_realm_of(&s->base)->rules, d->message, UINT32_MAX,
                                HG_BYTES(""));
        }
        if (!properties.failed) {
            *place = hg_mqtt_share_encode(s->decoder.level, d->address, hg_writer_view(&properties),
                                          left_s, hg_message_body(d->message));
        }
        hg_writer_close(&properties);
    }
    return *place;
}

/* ---- Sending ---- */

static uint32_t seconds_left(const struct hg_mqtt_out_item *item)
{
    uint64_t now_ms = hg_clock_ms();
    uint64_t left_ms = item->expires_ms > now_ms ? item->expires_ms - now_ms : 0;
    uint64_t left_s = (left_ms + 999) / 1000;
    return left_s < UINT32_MAX ? (uint32_t)left_s : UINT32_MAX - 1;
}

struct copy { /* what hg_mqtt_share_copy needs, and where it lies */
    struct hg_mqtt_shared shared;
    struct hg_mqtt_copy own;
    uint8_t subscription_id[SUBSCRIPTION_ID_N];
};

static void prepare_copy(const struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item,
                         uint16_t packet_id, struct copy *out)
{
    out->shared = hg_mqtt_share(s->decoder.level, hg_buf_bytes(item->packet));
    out->own = (struct hg_mqtt_copy){.packet_id = packet_id,
                                     .qos = item->qos,
                                     .is_dup = item->is_dup,
                                     .is_retained = item->is_retained,
                                     .has_topic = true,
                                     .expiry_s = seconds_left(item)};
    if (item->own != NULL) {
        out->own.own = hg_buf_bytes(item->own);
    } else if (item->subscription_id != 0) {
        out->subscription_id[0] = HG_MQTT_SUBSCRIPTION_ID;
        size_t n = hg_mqtt_varint_encode(out->subscription_id + 1, item->subscription_id);
        out->own.own = hg_bytes(out->subscription_id, 1 + n);
    }
}

/* Whether the client takes a packet of this size. */
static bool fits(const struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item)
{
    if (s->v5 == NULL || s->v5->max_packet_bytes == UINT32_MAX) {
        return true;
    }
    struct copy copy;
    struct hg_mqtt_pieces pieces;
    prepare_copy(s, item, 1, &copy);
    return hg_mqtt_share_copy(&copy.shared, &copy.own, &pieces) &&
           pieces.n <= s->v5->max_packet_bytes;
}

static bool has_aliases(const struct hg_mqtt_session *s)
{
    return s->v5 != NULL && s->v5->alias_max_out > 0 &&
           s->base.worker->config->mqtt_topic_alias_max > 0;
}

/* The pieces, with a topic alias if the client takes one and it is of use. */
static bool cut(struct hg_mqtt_session *s, struct copy *copy, struct hg_mqtt_pieces *pieces)
{
    if (!hg_mqtt_share_copy(&copy->shared, &copy->own, pieces)) {
        return false;
    }
    if (!has_aliases(s) || pieces->n + 4 > s->v5->max_packet_bytes) { /* it may cost up to 4 */
        return true;
    }
    uint16_t configured = s->base.worker->config->mqtt_topic_alias_max;
    uint16_t max = s->v5->alias_max_out < configured ? s->v5->alias_max_out : configured;
    if (s->v5->out == NULL) {
        s->v5->out = hg_mqtt_alias_new(max);
    }
    if (s->v5->out == NULL) {
        return true; /* it goes without */
    }
    bool is_known = false;
    copy->own.topic_alias =
        hg_mqtt_alias_for(s->v5->out, hg_bytes_skip(copy->shared.topic, 2), &is_known);
    copy->own.has_topic = !is_known;
    return hg_mqtt_share_copy(&copy->shared, &copy->own, pieces);
}

static enum hg_status send_copy(struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item,
                                uint16_t packet_id)
{
    struct copy copy;
    struct hg_mqtt_pieces pieces;
    prepare_copy(s, item, packet_id, &copy);
    if (!cut(s, &copy, &pieces)) {
        return HG_TOO_LARGE;
    }
    const struct hg_part parts[] = {{NULL, pieces.head},
                                    {item->packet, pieces.topic},
                                    {NULL, pieces.middle},
                                    {item->own, pieces.own},
                                    {item->packet, pieces.rest}};
    enum hg_status status = hg_conn_send(s->base.conn, parts, sizeof(parts) / sizeof(parts[0]));
    if (status != HG_OK && copy.own.topic_alias != 0) {
        hg_conn_close(s->base.conn, status); /* it would not know what the alias stands for */
    }
    return status;
}

/* What all get who want nothing of their own in it, as one part with what came before it. */
static enum hg_status send_alike(struct hg_mqtt_session *s, struct hg_delivery *d,
                                 struct hg_buf *packet)
{
    enum slot slot = s->v5 == NULL ? SLOT_V3 : SLOT_V5;
    const struct hg_part *part = &d->joint[slot];
    if (part->buf == NULL) {
        part = hg_delivery_join(d, &s->base, slot, hg_buf_bytes(packet));
    }
    return part == NULL ? hg_conn_send_buf(s->base.conn, packet)
                        : hg_conn_send(s->base.conn, part, 1);
}

static size_t body_n(const struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item)
{
    struct hg_mqtt_shared shared = hg_mqtt_share(s->decoder.level, hg_buf_bytes(item->packet));
    return shared.rest.n - shared.properties_n;
}

static void count_sent(struct hg_mqtt_session *s, size_t body_bytes)
{
    hg_count(&hg_mqtt_metrics(s)->messages_out, 1);
    hg_count(&hg_mqtt_metrics(s)->bytes_out, body_bytes);
}

/* packet_id: 0 with QoS 0. d: which this is of; NULL: it has waited. */
static enum hg_status send_item(struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item,
                                uint16_t packet_id, struct hg_delivery *d)
{
    bool has_expiry = s->v5 != NULL && item->expires_ms != UINT64_MAX; /* it may have waited */
    bool is_plain = item->qos == 0 && !item->is_retained && item->own == NULL &&
                    item->subscription_id == 0 && !has_aliases(s) && !has_expiry;
    enum hg_status status = !is_plain   ? send_copy(s, item, packet_id)
                            : d == NULL ? hg_conn_send_buf(s->base.conn, item->packet)
                                        : send_alike(s, d, item->packet);
    if (status == HG_OK) {
        count_sent(s, d == NULL ? body_n(s, item) : hg_message_body(d->message).n);
    } else if (item->qos > 0 || item->queue != NULL) {
        hg_conn_close(s->base.conn, status); /* such a message is never dropped */
    } else {
        hg_count(&hg_mqtt_metrics(s)->dropped, 1);
    }
    return status;
}

/* Whatever may go out now. */
static void send_waiting(struct hg_mqtt_session *s)
{
    const struct hg_mqtt_out_limits limits = limits_of(s);
    struct hg_mqtt_out_item item;
    uint16_t packet_id = 0;
    while (s->out != NULL && !hg_conn_is_closing(s->base.conn)) {
        bool has_room = !hg_conn_is_full(s->base.conn, 0);
        enum hg_mqtt_out_step step =
            hg_mqtt_out_next(s->out, &limits, hg_clock_ms(), has_room, &item, &packet_id);
        if (step == HG_MQTT_OUT_IDLE) {
            return;
        }
        if (step == HG_MQTT_OUT_FAILED) {
            hg_conn_close(s->base.conn, HG_NO_MEMORY);
            return;
        }
        if (step == HG_MQTT_OUT_CLEAR) {
            hg_mqtt_send_ack(s, HG_MQTT_PUBREL, packet_id, HG_MQTT_SUCCESS, HG_BYTES(""));
            continue;
        }
        bool is_over = step == HG_MQTT_OUT_EXPIRED;
        if (is_over) {
            hg_count(&hg_mqtt_metrics(s)->expired, 1);
        } else {
            is_over = send_item(s, &item, packet_id, NULL) == HG_OK && item.qos == 0;
        }
        if (is_over) {
            settle(item.queue, item.ticket);
        }
        hg_buf_unref(item.packet);
        hg_buf_unref(item.own);
    }
}

/* ---- One delivery ---- */

/* 64 bits that are the same wherever and whenever this message comes again. */
static uint64_t fingerprint_of(const struct hg_message *m)
{
    uint64_t seed[2] = {0x6865616467617465, 0x6d65737361676521};
    const struct hg_bytes parts[] = {hg_message_exchange(m), hg_message_routing_key(m),
                                     hg_message_properties(m)->message_id, hg_message_body(m)};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        seed[0] = hg_siphash(seed, parts[i]);
    }
    return seed[0];
}

static void close_slow(struct hg_mqtt_session *s)
{
    hg_count(&hg_mqtt_metrics(s)->slow_closed, 1);
    HG_LOG_LIMITED(
        s->base.worker->log, HG_LOG_WARN, "mqtt.too_slow", hg_mqtt_client_id(s),
        HG_F_BYTES("client", hg_mqtt_client_id(s)), HG_F_STR("peer", hg_conn_peer(s->base.conn)),
        HG_F_UINT("pending_bytes", hg_conn_pending(s->base.conn)),
        HG_F_UINT("unacknowledged", s->out->sent_n), HG_F_UINT("waiting", s->out->items_n));
    hg_conn_close(s->base.conn, HG_TOO_SLOW);
}

/* Into the ledger, and out of it if it may go now. */
static void deliver_in_order(struct hg_mqtt_session *s, const struct hg_delivery *d,
                             struct hg_mqtt_out_item *item)
{
    if (s->out == NULL) {
        s->out = hg_zalloc(sizeof(*s->out));
    }
    if (s->out == NULL) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
        return;
    }
    if (item->queue != NULL && item->qos > 0) {
        item->fingerprint = fingerprint_of(d->message);
        switch (hg_mqtt_out_meet(s->out, item, d->is_redelivered)) {
        case HG_MQTT_OUT_HAS: return;
        case HG_MQTT_OUT_ANSWERED: settle(item->queue, item->ticket); return;
        case HG_MQTT_OUT_NEW:
        case HG_MQTT_OUT_AGAIN: break;
        }
    }
    const struct hg_mqtt_out_limits limits = limits_of(s);
    bool is_bounded = item->queue == NULL && !d->must_keep && !d->is_retained;
    bool is_full = is_bounded && hg_conn_is_full(s->base.conn, s->out->fed_bytes + item->packet->n);
    enum hg_status status = is_full ? HG_TOO_MANY : hg_mqtt_out_push(s->out, &limits, item);
    if (status == HG_OK) {
        send_waiting(s);
    } else if (status == HG_TOO_MANY) {
        if (!is_full) {
            hg_worker_refused(s->base.worker, HG_LIMIT_MQTT_QUEUED);
        }
        close_slow(s);
    } else {
        hg_conn_close(s->base.conn, status);
    }
}

static void deliver_qos0(struct hg_mqtt_session *s, struct hg_delivery *d, struct hg_sub *matches,
                         struct hg_mqtt_out_item *item)
{
    if (item->queue != NULL && (hg_conn_is_full(s->base.conn, item->packet->n) ||
                                (s->out != NULL && s->out->items_n > 0))) {
        deliver_in_order(s, d, item);
    } else if (hg_slow_admits(&s->base, d, matches, item->packet->n) &&
               send_item(s, item, 0, d) == HG_OK) {
        settle(item->queue, item->ticket);
    }
}

/* What is to become of a delivery: OK: *item is to be sent; else it is over, and counted. */
static enum hg_status make_item(struct hg_mqtt_session *s, struct hg_delivery *d,
                                const struct hg_sub *matches, struct hg_mqtt_out_item *item)
{
    struct hg_buf *cached = d->cache[s->v5 == NULL ? SLOT_V3 : SLOT_V5];
    if (cached == NULL && !is_showable(d->address)) {
        hg_count(&s->base.worker->metrics.upstream.unmapped, 1);
        return HG_BAD_ADDRESS;
    }
    uint64_t left_ms = HG_EXPIRY_NONE;
    if (hg_message_properties(d->message)->expiration.n > 0) {
        left_ms = hg_message_expiry_left_ms(d->message, hg_clock_wall_ms());
    }
    if (left_ms == 0) {
        hg_count(&hg_mqtt_metrics(s)->expired, 1);
        return HG_TIMED_OUT;
    }
    uint32_t ids_n = 0;
    bool has_end = left_ms != HG_EXPIRY_NONE;
    item->expires_ms = has_end ? hg_clock_ms() + left_ms : UINT64_MAX;
    item->packet = shared_packet(s, d, has_end ? seconds_left(item) : UINT32_MAX);
    merge(item, d, matches, &ids_n);
    if (item->packet == NULL || (s->v5 != NULL && !make_own(s, d, matches, ids_n, item))) {
        return HG_NO_MEMORY;
    }
    if (!fits(s, item)) { /* as if it had been sent [MQTT-3.1.2-25] */
        hg_count(&hg_mqtt_metrics(s)->too_large, 1);
        return HG_TOO_LARGE;
    }
    return HG_OK;
}

/* There is no memory for it: what must not be lost ends the connection, and comes again. */
static void on_no_memory(struct hg_mqtt_session *s, const struct hg_mqtt_out_item *item)
{
    if (item->qos > 0 || item->queue != NULL) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    } else {
        hg_count(&hg_mqtt_metrics(s)->dropped, 1);
    }
}

/* Whether this one gets what a subscriber before it got as it is: then all that was asked of the
 * message has been answered, and this session asks nothing more. */
static bool gets_alike(const struct hg_mqtt_session *s, const struct hg_delivery *d,
                       const struct hg_sub *matches)
{
    const struct hg_mqtt_v5 *v5 = s->v5;
    if (d->joint[v5 == NULL ? SLOT_V3 : SLOT_V5].buf == NULL || matches == NULL ||
        matches->next_match != NULL || hg_mqtt_queue(s) != NULL) {
        return false;
    }
    const struct hg_mqtt_sub *sub = HG_CONTAINER_OF(matches, struct hg_mqtt_sub, base);
    return sub->qos == 0 && (v5 == NULL || (sub->subscription_id == 0 &&
                                            !sub->is_retain_as_published && v5->no_local_n == 0 &&
                                            v5->max_packet_bytes == UINT32_MAX && !has_aliases(s)));
}

static void deliver_alike(struct hg_mqtt_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    const struct hg_part *part = &d->joint[s->v5 == NULL ? SLOT_V3 : SLOT_V5];
    if (!hg_slow_admits(&s->base, d, matches, part->bytes.n)) {
        return;
    }
    if (hg_conn_send(s->base.conn, part, 1) == HG_OK) {
        count_sent(s, hg_message_body(d->message).n);
    } else {
        hg_count(&hg_mqtt_metrics(s)->dropped, 1);
    }
}

/* Not part of its caller, which most deliveries are through with before they need a frame as large
 * as this. */
__attribute__((noinline)) static void deliver_own(struct hg_mqtt_session *s, struct hg_delivery *d,
                                                  struct hg_sub *matches)
{
    struct hg_mqtt_out_item item = {.queue = d->queue, .ticket = d->ticket};
    matches = find_matches(s, d, matches);
    enum hg_status status = HG_CLOSED; /* nobody wants it (any more) */
    if (matches != NULL) {
        status = make_item(s, d, matches, &item);
    }
    bool is_repeat = item.qos == 0 && d->is_redelivered && !d->must_keep && d->queue == NULL;
    if (status == HG_NO_MEMORY) {
        on_no_memory(s, &item);
    } else if (status != HG_OK) {
        settle(d->queue, d->ticket);
    } else if (item.qos > 0) {
        deliver_in_order(s, d, &item);
    } else if (!is_repeat) { /* at most once */
        deliver_qos0(s, d, matches, &item);
    }
    hg_buf_unref(item.own);
}

void hg_mqtt_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    if (gets_alike(s, d, matches)) {
        deliver_alike(s, d, matches);
    } else {
        deliver_own(s, d, matches);
    }
}

bool hg_mqtt_wants_more(struct hg_session *base)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    const struct hg_mqtt_out_limits limits = limits_of(s);
    return !hg_conn_is_full(base->conn, 0) &&
           (s->out == NULL || hg_mqtt_out_is_open(s->out, &limits));
}

static void go_on(struct hg_mqtt_session *s)
{
    send_waiting(s);
    if (!hg_conn_is_closing(s->base.conn) && hg_mqtt_wants_more(&s->base)) {
        hg_retained_resume(&s->base);
    }
}

void hg_mqtt_drained(struct hg_session *base)
{
    go_on(hg_mqtt_session_of(base));
}

/* ---- Answers ---- */

enum hg_status hg_mqtt_on_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type,
                              const struct hg_mqtt_ack *ack, const char **rule)
{
    struct hg_queue *queue = NULL;
    struct hg_ticket ticket = {0};
    enum hg_mqtt_out_answer answer = HG_MQTT_OUT_UNKNOWN;
    if (s->out != NULL) {
        answer =
            hg_mqtt_out_hear(s->out, type, ack->packet_id, ack->reason >= 0x80, &queue, &ticket);
    }
    settle(queue, ticket);
    if (answer == HG_MQTT_OUT_WRONG) {
        *rule = "the acknowledgement is not the one that this delivery waits for";
        return HG_PROTOCOL_ERROR;
    }
    bool is_unknown = answer == HG_MQTT_OUT_UNKNOWN;
    if (answer == HG_MQTT_OUT_RELEASE || (is_unknown && type == HG_MQTT_PUBREC)) {
        hg_mqtt_send_ack(s, HG_MQTT_PUBREL, ack->packet_id,
                         is_unknown ? HG_MQTT_PACKET_ID_NOT_FOUND : HG_MQTT_SUCCESS, HG_BYTES(""));
    }
    go_on(s); /* an unknown one is harmless */
    return HG_OK;
}

/* ---- Sessions that go on ---- */

enum hg_status hg_mqtt_resume_deliveries(struct hg_mqtt_session *s, const struct hg_session_tx *tx,
                                         size_t n, bool is_unclean)
{
    if (n == 0 && !is_unclean) {
        return HG_OK;
    }
    if (s->out == NULL) {
        s->out = hg_zalloc(sizeof(*s->out));
    }
    if (s->out == NULL ||
        hg_mqtt_out_resume(s->out, hg_mqtt_queue(s), tx, n, is_unclean) != HG_OK) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        if (tx[i].is_released && tx[i].packet_id != 0) { /* [MQTT-4.4.0-1] */
            hg_mqtt_send_ack(s, HG_MQTT_PUBREL, tx[i].packet_id, HG_MQTT_SUCCESS, HG_BYTES(""));
        }
    }
    return HG_OK;
}

bool hg_mqtt_list_deliveries(const struct hg_mqtt_session *s, struct hg_session_tx **out_own,
                             size_t *n_out)
{
    *out_own = NULL;
    *n_out = 0;
    uint32_t id_max = ID_FACTOR * s->base.worker->config->mqtt_max_inflight;
    id_max = id_max < UINT16_MAX ? id_max : UINT16_MAX;
    if (!hg_mqtt_takes_exactly_once(s)) { /* a client of QoS 1 may know nothing of PUBREL */
        id_max = 0;
    }
    return s->out == NULL ||
           hg_mqtt_out_list(s->out, hg_mqtt_queue(s), (uint16_t)id_max, out_own, n_out);
}

void hg_mqtt_deliveries_are_stale(struct hg_mqtt_session *s, struct hg_queue *queue)
{
    if (s->out != NULL) {
        hg_mqtt_out_stale(s->out, queue);
    }
}

void hg_mqtt_forget_queue(struct hg_mqtt_session *s, struct hg_queue *queue)
{
    if (s->out != NULL) {
        hg_mqtt_out_forget(s->out, queue);
    }
}

void hg_mqtt_forget_deliveries(struct hg_mqtt_session *s)
{
    if (s->out != NULL) {
        hg_mqtt_out_close(s->out);
        hg_free(s->out);
        s->out = NULL;
    }
    if (s->v5 == NULL) {
        return;
    }
    hg_mqtt_alias_free(s->v5->out);
    s->v5->out = NULL;
    for (size_t i = 0; s->v5->replies != NULL && i < HG_MQTT_REPLIES; i++) {
        hg_buf_unref(s->v5->replies[i]);
    }
    hg_free(s->v5->replies);
    s->v5->replies = NULL;
}
