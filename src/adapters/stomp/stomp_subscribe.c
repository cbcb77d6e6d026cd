/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE, UNSUBSCRIBE, and the MESSAGE frames that come of them. What all subscribers of a
 * delivery get alike is encoded once for each protocol version. */
#include "adapters/stomp/stomp_message.h"
#include "adapters/stomp/stomp_sub.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/conn.h"
#include "core/retain.h"
#include "core/slow.h"
#include "core/worker.h"
#include "message/topic.h"

#include <stdio.h>

/* ---- MESSAGE ---- */

/* The shared rest of a MESSAGE, behind one byte that says which WebSocket frame may carry it: text
 * has to be UTF-8. */
static struct hg_buf *encode(enum hg_stomp_version version, const struct hg_delivery *d)
{
    uint8_t room[HG_STOMP_DEST_MAX_BYTES];
    struct hg_writer w = {0};
    hg_writer_u8(&w, HG_FRAME_BINARY);
    if (d->address.n > 0) {
        hg_writer_str(&w, "destination:/");
        hg_stomp_write_escaped(&w, version, d->address);
        hg_writer_u8(&w, '\n');
    } else {
        hg_stomp_write_header(&w, version, HG_BYTES("destination"),
                              hg_stomp_dest_of(hg_message_exchange(d->message),
                                               hg_message_routing_key(d->message), room));
    }
    if (d->is_redelivered) {
        hg_writer_str(&w, "redelivered:true\n");
    }
    if (d->is_retained) {
        hg_writer_str(&w, "retained:true\n");
    }
    hg_stomp_message_write(&w, version, d->message);
    struct hg_buf *buf = hg_writer_take(&w);
    if (buf != NULL && hg_utf8_is_valid(hg_bytes_skip(hg_buf_bytes(buf), 1))) {
        buf->data[0] = HG_FRAME_TEXT;
    }
    return buf;
}

/* What came out of a queue comes again to the next connection. */
static void give_up(struct hg_stomp_session *s, const struct hg_delivery *d, enum hg_status why)
{
    const char *peer = hg_conn_peer(s->base.conn);
    if (d->must_keep) {
        hg_conn_close(s->base.conn, why);
        return;
    }
    hg_count(&s->base.worker->metrics.proto[HG_PROTO_STOMP].dropped, 1);
    HG_LOG_LIMITED(s->base.worker->log, HG_LOG_INFO, "stomp.dropped", hg_bytes_str(peer),
                   HG_F_STR("peer", peer), HG_F_STR("user", s->user_own),
                   HG_F_STR("why", hg_status_text(why)));
}

static const char command[] = "MESSAGE\n";
static const char id_name[] = "message-id:";
enum { COMMAND_N = sizeof(command) - 1, ID_NAME_N = sizeof(id_name) - 1, ID_MAX = 128 };

/* Whether the frame is for subscriptions with this line. */
static bool has_line(struct hg_bytes frame, struct hg_bytes line)
{
    return frame.n > COMMAND_N + line.n + ID_NAME_N &&
           memcmp(frame.p + COMMAND_N, line.p, line.n) == 0 &&
           memcmp(frame.p + COMMAND_N + line.n, id_name, ID_NAME_N) == 0;
}

/* Of the first who gets it: later ones find it under the slot. NULL: they cannot have it alike. */
static const struct hg_part *make_frame(struct hg_stomp_session *s, struct hg_bytes line,
                                        unsigned slot, struct hg_delivery *d,
                                        const struct hg_buf *rest)
{
    if (d->queue != NULL || d->is_retained ||
        COMMAND_N + line.n + ID_MAX + rest->n > HG_JOINT_PART_MAX) {
        return NULL;
    }
    struct hg_writer w = {0};
    hg_writer_str(&w, command);
    hg_writer_bytes(&w, line);
    hg_writer_str(&w, id_name);
    hg_writer_str(&w, "0-"); /* which no connection has */
    hg_writer_dec(&w, ++s->base.worker->alike_n);
    hg_writer_u8(&w, '\n');
    hg_writer_bytes(&w, hg_bytes_skip(hg_buf_bytes(rest), 1));
    const struct hg_part *part =
        w.failed ? NULL : hg_delivery_join(d, &s->base, slot, hg_writer_view(&w));
    hg_writer_close(&w);
    return part;
}

/* The whole frame, for all who answer nothing and whose subscription has the same id: then nothing
 * in it has to be the connection's own. NULL: there is none. Two for each version of STOMP are enough:
 * one program mostly gives one id. */
static const struct hg_part *frame_for_all(struct hg_stomp_session *s,
                                           const struct hg_stomp_sub *sub, struct hg_delivery *d,
                                           const struct hg_buf *rest)
{
    const struct hg_bytes line = hg_bytes(sub->text + sub->id_n, sub->line_n);
    unsigned slot = s->version * 2U + (sub->id_n > 0 ? sub->text[sub->id_n - 1] & 1U : 0);
    const struct hg_part *part = &d->joint[slot];
    if (part->buf == NULL) {
        return make_frame(s, line, slot, d, rest);
    }
    return has_line(part->bytes, line) ? part : NULL;
}
_Static_assert(2 * (int)HG_STOMP_VERSION_N <= (int)HG_DELIVERY_CACHES,
               "two slots for each version");

static void count_sent(struct hg_stomp_session *s, struct hg_delivery *d)
{
    struct hg_proto_metrics *metrics = &s->base.worker->metrics.proto[HG_PROTO_STOMP];
    s->sent_ms = hg_delivery_ms(d);
    hg_count(&metrics->messages_out, 1);
    hg_count(&metrics->bytes_out, hg_message_body(d->message).n);
}

/* False: it has to be sent by itself. */
static bool send_for_all(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                         struct hg_delivery *d, const struct hg_buf *rest)
{
    const struct hg_part *part = hg_stomp_is_answered(sub) ? NULL : frame_for_all(s, sub, d, rest);
    if (part == NULL) {
        return false;
    }
    if (hg_slow_admits(&s->base, d, &sub->base, part->bytes.n)) {
        enum hg_status status = hg_conn_send_kind(s->base.conn, rest->data[0], part, 1);
        if (status == HG_OK) {
            count_sent(s, d);
        } else if (status == HG_NO_MEMORY) {
            give_up(s, d, status);
        }
    }
    return true;
}

/* Not part of its caller, which rarely needs a frame as large as this. */
__attribute__((noinline)) static void send_message(struct hg_stomp_session *s,
                                                   struct hg_stomp_sub *sub, struct hg_delivery *d,
                                                   struct hg_buf *rest)
{
    bool is_answered = hg_stomp_is_answered(sub);
    struct hg_conn *conn = s->base.conn;
    const struct hg_config *config = s->base.worker->config;
    char id[ID_MAX];
    unsigned long long conn_id = hg_conn_id(conn);
    unsigned long long number = ++s->messages;
    int id_n = snprintf(id, sizeof(id), "%s%llx-%llu\n", id_name, conn_id, number);
    if (is_answered && s->version == HG_STOMP_V12) {
        id_n += snprintf(id + id_n, sizeof(id) - (size_t)id_n, "ack:%llx-%llu\n", conn_id, number);
    }
    const struct hg_part parts[] = {
        {NULL, hg_bytes_str(command)},
        {NULL, hg_bytes(sub->text + sub->id_n, sub->line_n)},
        {NULL, hg_bytes(id, (size_t)id_n)},
        {rest, hg_bytes_skip(hg_buf_bytes(rest), 1)},
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        n += parts[i].bytes.n;
    }
    bool must_read = is_answered && sub->acks->prefetch > config->prefetch;
    if (must_read && hg_conn_is_full(conn, n)) {
        give_up(s, d, HG_TOO_SLOW); /* who asked for more than others has to read as much */
        return;
    }
    if (!hg_slow_admits(&s->base, d, &sub->base, n)) {
        return;
    }
    if (is_answered && !hg_stomp_pending_add(&sub->acks->pending, number, d->ticket)) {
        give_up(s, d, HG_NO_MEMORY);
        return;
    }
    enum hg_status status =
        hg_conn_send_kind(conn, rest->data[0], parts, sizeof(parts) / sizeof(parts[0]));
    if (status == HG_NO_MEMORY) {
        give_up(s, d, status);
    } else if (status == HG_OK) {
        count_sent(s, d);
    }
}

void hg_stomp_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    struct hg_buf **rest = &d->cache[s->version];
    if (*rest == NULL) {
        *rest = encode(s->version, d);
    }
    for (struct hg_sub *it = matches; it != NULL && !hg_stomp_is_over(s); it = it->next_match) {
        if (*rest == NULL) {
            give_up(s, d, HG_NO_MEMORY);
        } else if (!send_for_all(s, hg_stomp_sub_of(it), d, *rest)) {
            send_message(s, hg_stomp_sub_of(it), d, *rest);
        }
    }
}
_Static_assert((int)HG_STOMP_VERSION_N <= (int)HG_DELIVERY_CACHES, "a slot for each version");

/* ---- SUBSCRIBE ---- */

static struct hg_stomp_sub *find(const struct hg_stomp_session *s, struct hg_bytes id)
{
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_stomp_sub *sub = hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (hg_bytes_eq(hg_stomp_sub_id(sub), id)) {
            return sub;
        }
    }
    return NULL;
}

static void free_subscription(struct hg_stomp_sub *sub)
{
    hg_stomp_acks_free(sub); /* before its bindings go, which are its queue's */
    hg_unsubscribe(&sub->base);
    hg_free(sub->receipt_own);
    hg_free(sub);
}

static struct hg_stomp_sub *new_subscription(enum hg_stomp_version version, struct hg_bytes id,
                                             bool has_line, struct hg_bytes receipt)
{
    struct hg_writer line = {0};
    if (has_line) {
        hg_stomp_write_header(&line, version, HG_BYTES("subscription"), id);
    }
    struct hg_bytes text = hg_writer_view(&line);
    struct hg_stomp_sub *sub = line.failed ? NULL : hg_zalloc(sizeof(*sub) + id.n + text.n);
    if (sub != NULL) {
        sub->id_n = (uint16_t)id.n;
        sub->line_n = (uint16_t)text.n;
        memcpy(sub->text, id.p, id.n);
        if (text.n > 0) {
            memcpy(sub->text + id.n, text.p, text.n);
        }
        sub->receipt_own = receipt.n > 0 ? hg_bytes_dup(receipt) : NULL;
        if (receipt.n > 0 && sub->receipt_own == NULL) {
            hg_free(sub);
            sub = NULL;
        }
    }
    hg_writer_close(&line);
    return sub;
}

static bool is_for_answers(const struct hg_stomp_session *s, struct hg_bytes id)
{
    return s->base.worker->config->stomp_rabbitmq_destinations &&
           hg_bytes_starts(id, HG_BYTES("/temp-queue/"));
}

/* The id; in STOMP 1.0, which does not ask for one, else the destination. */
static struct hg_bytes read_id(const struct hg_stomp_session *s, const struct hg_stomp_frame *frame,
                               struct hg_stomp_failure *f)
{
    const struct hg_bytes *id = hg_stomp_find(frame, "id");
    struct hg_bytes key = id == NULL && s->version == HG_STOMP_V10
                              ? hg_stomp_get(frame, "destination")
                              : hg_stomp_get(frame, "id");
    if (key.n == 0) {
        (void)hg_stomp_fails(f, HG_PROTOCOL_ERROR, "the header id is missing or empty");
    } else if (key.n > HG_STOMP_LABEL_MAX) {
        (void)hg_stomp_fails(f, HG_TOO_LARGE, "the header id is over 1024 bytes");
        key.n = 0;
    } else if (is_for_answers(s, key)) {
        (void)hg_stomp_fails(f, HG_PROTOCOL_ERROR,
                             "/temp-queue/ begins the ids of subscriptions for answers, which "
                             "SEND's header reply-to makes");
        key.n = 0;
    }
    return key;
}

static enum hg_status subscribe(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                const struct hg_stomp_wish *wish, const char **why)
{
    const struct hg_stomp_dest *dest = &wish->dest;
    bool needs_queue = hg_stomp_wish_needs_queue(s, wish);
    if (dest->kind == HG_STOMP_DEST_REPLY_QUEUE) {
        *why = "/reply-queue is for sending answers, not for subscribing";
        return HG_BAD_ADDRESS;
    }
    if (sub->wants_retained && dest->kind != HG_STOMP_DEST_ADDRESS) {
        *why = "retained messages are kept by address, not by RabbitMQ's destinations";
        return HG_BAD_PROPERTY;
    }
    if (sub->wants_retained && needs_queue) {
        *why = "retained messages come with ack:auto, and not to durable subscriptions or with the "
               "properties of a queue";
        return HG_BAD_PROPERTY;
    }
    if (needs_queue) {
        return hg_stomp_consume(s, sub, wish, why);
    }
    if (dest->kind == HG_STOMP_DEST_EXCHANGE) {
        const struct hg_source source = {.exchange = dest->exchange, .key = dest->key};
        return hg_subscribe_source(&s->base, &sub->base, &source, why);
    }
    struct hg_writer filter = {0};
    hg_stomp_dest_write_filter(&filter, dest->address);
    enum hg_status status =
        filter.failed ? HG_NO_MEMORY
                      : hg_subscribe_filter(&s->base, &sub->base, hg_writer_view(&filter), why);
    hg_writer_close(&filter);
    return status;
}

static enum hg_stomp_verdict subscribe_as(struct hg_stomp_session *s,
                                          const struct hg_stomp_frame *frame, struct hg_bytes id,
                                          const struct hg_stomp_wish *wish,
                                          struct hg_stomp_failure *f)
{
    struct hg_stomp_sub *sub =
        new_subscription(s->version, id, hg_stomp_find(frame, "id") != NULL, f->receipt);
    if (sub == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    sub->wants_retained = hg_bytes_eq(hg_stomp_get(frame, "retained"), HG_BYTES("true"));
    enum hg_status status = subscribe(s, sub, wish, &f->detail);
    if (status != HG_OK) {
        free_subscription(sub);
        return hg_stomp_fails(f, status, NULL);
    }
    return HG_STOMP_USED;
}

enum hg_stomp_verdict hg_stomp_on_subscribe(struct hg_stomp_session *s,
                                            const struct hg_stomp_frame *frame,
                                            struct hg_stomp_failure *f)
{
    struct hg_bytes id = read_id(s, frame, f);
    if (id.n == 0) {
        return HG_STOMP_FAILED;
    }
    f->subscription = id;
    if (find(s, id) != NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "a subscription with this id exists already");
    }
    struct hg_stomp_wish wish;
    enum hg_stomp_verdict verdict = HG_STOMP_FAILED;
    if (hg_stomp_wish_read(s, frame, &wish, f)) {
        verdict = subscribe_as(s, frame, id, &wish, f);
    }
    hg_stomp_wish_free(&wish);
    return verdict;
}

static void serve_retained(struct hg_stomp_session *s, struct hg_stomp_sub *sub)
{
    struct hg_writer filter = {0};
    if (!sub->wants_retained || hg_stomp_is_over(s)) {
        return;
    }
    hg_trie_write_pattern(sub->base.index, &sub->base.entry, &filter);
    if (filter.failed ||
        hg_retained_serve(&s->base, &sub->base, hg_writer_view(&filter)) != HG_OK) {
        const struct hg_stomp_failure f = {.status = HG_NO_MEMORY,
                                           .subscription = hg_stomp_sub_id(sub)};
        hg_stomp_end(s, &f);
    }
    hg_writer_close(&filter);
}

static void tell(struct hg_stomp_session *s, struct hg_stomp_sub *sub, enum hg_status outcome,
                 struct hg_bytes reason)
{
    struct hg_bytes receipt = hg_bytes_str(sub->receipt_own);
    if (outcome == HG_OK) {
        hg_stomp_send_receipt(s, hg_stomp_is_over(s) ? hg_bytes(NULL, 0) : receipt);
        hg_free(sub->receipt_own);
        sub->receipt_own = NULL;
        serve_retained(s, sub);
        return;
    }
    if (!hg_stomp_is_over(s)) {
        const struct hg_stomp_failure f = {.status = outcome,
                                           .reason = reason,
                                           .receipt = receipt,
                                           .subscription = hg_stomp_sub_id(sub)};
        hg_stomp_end(s, &f);
    }
    free_subscription(sub);
}

void hg_stomp_sub_is(struct hg_stomp_sub *sub, enum hg_status outcome, struct hg_bytes reason)
{
    tell(hg_stomp_session_of(sub->base.session), sub, outcome, reason);
}

void hg_stomp_subscribed(struct hg_session *base, struct hg_sub *base_sub, enum hg_status outcome,
                         struct hg_bytes reason)
{
    struct hg_stomp_sub *sub = hg_stomp_sub_of(base_sub);
    if (outcome == HG_NO_EXCHANGE && sub->acks != NULL && sub->acks->is_durable) {
        sub->acks->end = HG_QUEUE_DELETE_IF_IDLE; /* nobody will come back for it */
    }
    if (outcome != HG_OK || sub->acks == NULL || sub->acks->is_consumed) {
        tell(hg_stomp_session_of(base), sub, outcome, reason);
    }
}

/* With its queue, and what is in it. */
static enum hg_stomp_verdict forget_durable(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                            struct hg_stomp_failure *f)
{
    char *name_own = sub->acks->name_own;
    sub->acks->name_own = NULL;
    free_subscription(sub);
    enum hg_status status = hg_stomp_delete_queue(s, hg_bytes_str(name_own), f->receipt);
    hg_free(name_own);
    return status == HG_OK ? HG_STOMP_USED : hg_stomp_fails(f, status, NULL);
}

enum hg_stomp_verdict hg_stomp_on_unsubscribe(struct hg_stomp_session *s,
                                              const struct hg_stomp_frame *frame,
                                              struct hg_stomp_failure *f)
{
    struct hg_bytes id = read_id(s, frame, f);
    if (id.n == 0) {
        return HG_STOMP_FAILED;
    }
    struct hg_stomp_sub *sub = find(s, id);
    if (sub == NULL) {
        f->subscription = id;
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "there is no subscription with this id");
    }
    hg_stomp_send_receipt(s, hg_bytes_str(sub->receipt_own)); /* RabbitMQ had not answered yet */
    if (hg_stomp_says_durable(frame) && sub->acks != NULL && sub->acks->is_durable) {
        return forget_durable(s, sub, f);
    }
    free_subscription(sub);
    hg_stomp_send_receipt(s, f->receipt);
    return HG_STOMP_USED;
}

void hg_stomp_free_subscriptions(struct hg_stomp_session *s)
{
    HG_LIST_FOREACH_SAFE (it, &s->base.subs) {
        free_subscription(hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link)));
    }
}

/* ---- Answers ---- */

static struct hg_stomp_sub *open_temp(struct hg_stomp_session *s, struct hg_bytes id,
                                      struct hg_stomp_failure *f)
{
    uint32_t temps_n = 0;
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_stomp_sub *sub = hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        temps_n += sub->acks != NULL && sub->acks->is_temp;
    }
    if (temps_n >= s->base.worker->config->stomp_max_temp_queues) {
        hg_worker_refused(s->base.worker, HG_LIMIT_STOMP_TEMP_QUEUES);
        (void)hg_stomp_fails(
            f, HG_TOO_MANY,
            "as many temporary queues are in use as [stomp] max_temp_queues allows");
        return NULL;
    }
    struct hg_stomp_sub *sub = new_subscription(s->version, id, true, HG_BYTES(""));
    enum hg_status status =
        sub == NULL ? HG_NO_MEMORY : hg_stomp_acks_open_temp(s, sub, &f->detail);
    if (status == HG_OK) {
        return sub;
    }
    if (sub != NULL) {
        free_subscription(sub);
    }
    (void)hg_stomp_fails(f, status, NULL);
    return NULL;
}

enum hg_stomp_verdict hg_stomp_reply_queue(struct hg_stomp_session *s, struct hg_bytes reply_to,
                                           char room[static HG_STOMP_OWN_NAME_MAX],
                                           struct hg_bytes *queue_out, struct hg_stomp_failure *f)
{
    *queue_out = reply_to;
    if (!is_for_answers(s, reply_to)) {
        return HG_STOMP_USED;
    }
    if (reply_to.n == sizeof("/temp-queue/") - 1 || reply_to.n > HG_STOMP_LABEL_MAX) {
        return hg_stomp_fails(f, HG_BAD_PROPERTY,
                              "a reply-to of /temp-queue/ is followed by a name, and has at most "
                              "1024 bytes");
    }
    struct hg_stomp_sub *sub = find(s, reply_to);
    if (sub == NULL && (sub = open_temp(s, reply_to, f)) == NULL) {
        return HG_STOMP_FAILED;
    }
    *queue_out = hg_stomp_acks_own_name(s, sub, room);
    return sub->acks->is_consumed ? HG_STOMP_USED : hg_stomp_await_queue(s, f);
}
