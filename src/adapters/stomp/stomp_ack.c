/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions whose client answers each message: the queue that they consume, ACK and NACK. */
#include "adapters/stomp/stomp_queue.h"
#include "adapters/stomp/stomp_sub.h"
#include "adapters/stomp/stomp_tx.h"
#include "base/mem.h"
#include "core/conn.h"
#include "core/worker.h"

#include <stdio.h>

/* ---- The queue ---- */

static void on_queue_state(void *ctx, enum hg_status status, bool has_existed,
                           struct hg_bytes reason)
{
    struct hg_stomp_sub *sub = ctx;
    struct hg_stomp_acks *acks = sub->acks;
    (void)has_existed;
    if (status != HG_OK) {
        acks->queue = NULL; /* it has ended by itself */
        hg_stomp_sub_is(sub, status, reason);
    } else if (acks->is_consumed) { /* again, after a lost link: all of it comes again */
        hg_stomp_pending_reset(&acks->pending);
        acks->lost_to = hg_stomp_session_of(sub->base.session)->messages;
    } else {
        acks->is_consumed = true;
        if (acks->is_temp) {
            hg_stomp_queue_came(hg_stomp_session_of(sub->base.session));
        } else if (sub->base.is_live) {
            hg_stomp_sub_is(sub, HG_OK, HG_BYTES(""));
        }
    }
}

static const struct hg_queue_ops queue_ops = {.on_state = on_queue_state};

static enum hg_status open_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                 struct hg_queue_options *options)
{
    options->sub = &sub->base;
    options->prefetch = sub->acks->prefetch;
    sub->acks->queue = hg_queue_open(&s->base, options, &queue_ops, sub);
    return sub->acks->queue == NULL ? HG_NO_MEMORY : HG_OK;
}

/* A queue that others know, too; it is in no index, and there is nothing to bind. */
static enum hg_status consume(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                              struct hg_queue_options *options, const char **why)
{
    enum hg_status status = hg_subscribe_index(&s->base, &sub->base, NULL, HG_BYTES(""), why);
    return status != HG_OK ? status : open_queue(s, sub, options);
}

struct hg_bytes hg_stomp_acks_own_name(const struct hg_stomp_session *s,
                                       const struct hg_stomp_sub *sub,
                                       char room[static HG_STOMP_OWN_NAME_MAX])
{
    int n = snprintf(room, HG_STOMP_OWN_NAME_MAX, "headgate.stomp.%llx.%llx.%llx",
                     (unsigned long long)s->base.worker->gateway->boot_id,
                     (unsigned long long)hg_conn_id(s->base.conn),
                     (unsigned long long)sub->acks->own_number);
    return hg_bytes(room, (size_t)n);
}

/* A queue for this subscription alone. It is not exclusive, so that it outlives a lost link with
 * what is in it; x-expires sees to it when nobody is left to delete it. */
static enum hg_status open_own_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                     struct hg_queue_options *options)
{
    const struct hg_worker *w = s->base.worker;
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {HG_VALUE_STRING, {.bytes = HG_BYTES("classic")}}},
        {HG_BYTES("x-expires"), {HG_VALUE_INT, {.i = (int64_t)w->config->stomp_queue_expires_ms}}},
    };
    char name[HG_STOMP_OWN_NAME_MAX];
    sub->acks->own_number = ++s->messages;
    options->name = hg_stomp_acks_own_name(s, sub, name);
    options->arguments = arguments;
    options->arguments_n = sizeof(arguments) / sizeof(arguments[0]);
    sub->acks->is_own = true;
    return open_queue(s, sub, options);
}

static enum hg_status subscribe_address(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                        struct hg_bytes filter, const char **why)
{
    struct hg_queue_options options = {.filter = filter};
    enum hg_status status = hg_queue_of_filter(&s->base, filter, &options.name, why);
    if (status == HG_OK && options.name.n > 0) {
        options.is_whole = options.must_exist = true;
        return consume(s, sub, &options, why);
    }
    if (status == HG_OK) {
        status = open_own_queue(s, sub, &options);
    }
    return status != HG_OK
               ? status
               : hg_subscribe_queue_filter(&s->base, &sub->base, filter, sub->acks->queue, why);
}

static enum hg_status subscribe_exchange(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                         const struct hg_stomp_dest *dest, const char **why)
{
    const struct hg_source source = {.exchange = dest->exchange, .key = dest->key};
    struct hg_queue_options options = {.is_by_name = true};
    enum hg_status status = open_own_queue(s, sub, &options);
    return status != HG_OK
               ? status
               : hg_subscribe_queue_source(&s->base, &sub->base, &source, sub->acks->queue, why);
}

static enum hg_status subscribe_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                      const struct hg_stomp_frame *frame,
                                      const struct hg_stomp_dest *dest, const char **why)
{
    struct hg_stomp_queue queue;
    if (hg_stomp_queue_read(frame, &queue, why) != HG_OK) {
        return HG_BAD_PROPERTY;
    }
    struct hg_queue_options options = {.name = dest->key,
                                       .arguments = queue.arguments,
                                       .arguments_n = queue.arguments_n,
                                       .must_exist = dest->kind == HG_STOMP_DEST_AMQ_QUEUE,
                                       .is_by_name = true};
    return consume(s, sub, &options, why);
}

enum hg_status hg_stomp_acks_subscribe(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const struct hg_stomp_frame *frame,
                                       const struct hg_stomp_dest *dest, const char **why)
{
    if (dest->kind == HG_STOMP_DEST_EXCHANGE) {
        return subscribe_exchange(s, sub, dest, why);
    }
    if (dest->kind != HG_STOMP_DEST_ADDRESS) {
        return subscribe_queue(s, sub, frame, dest, why);
    }
    struct hg_writer filter = {0};
    hg_stomp_dest_write_filter(&filter, dest->address);
    enum hg_status status =
        filter.failed ? HG_NO_MEMORY : subscribe_address(s, sub, hg_writer_view(&filter), why);
    hg_writer_close(&filter);
    return status;
}

enum hg_status hg_stomp_acks_open_temp(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const char **why)
{
    struct hg_queue_options options = {.is_by_name = true, .is_auto = true};
    enum hg_status status = hg_subscribe_index(&s->base, &sub->base, NULL, HG_BYTES(""), why);
    if (status != HG_OK) {
        return status;
    }
    sub->acks = hg_zalloc(sizeof(*sub->acks));
    if (sub->acks == NULL) {
        return HG_NO_MEMORY;
    }
    sub->acks->is_temp = true;
    sub->acks->prefetch = s->base.worker->config->prefetch;
    hg_count(&s->base.worker->metrics.stomp.stomp_temp_queues, 1);
    return open_own_queue(s, sub, &options);
}

/* ---- What a subscription keeps ---- */

const char *hg_stomp_acks_read(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                               const struct hg_stomp_frame *subscribe, enum hg_status *status_out)
{
    const struct hg_bytes *ack = hg_stomp_find(subscribe, "ack");
    const struct hg_bytes *count = hg_stomp_find(subscribe, "prefetch-count");
    uint64_t prefetch = s->base.worker->config->prefetch;
    *status_out = HG_PROTOCOL_ERROR;
    if (count != NULL && !hg_bytes_to_u64(*count, UINT16_MAX, &prefetch)) {
        return "the header prefetch-count is not a number from 0 to 65535";
    }
    if (ack == NULL || hg_bytes_eq(*ack, HG_BYTES("auto"))) {
        return NULL;
    }
    bool is_cumulative = hg_bytes_eq(*ack, HG_BYTES("client"));
    if (!is_cumulative && !hg_bytes_eq(*ack, HG_BYTES("client-individual"))) {
        return "the header ack is none of auto, client, client-individual";
    }
    if (sub->wants_retained) {
        return "retained messages are not acknowledged: subscribe with ack:auto";
    }
    sub->acks = hg_zalloc(sizeof(*sub->acks));
    if (sub->acks == NULL) {
        *status_out = HG_NO_MEMORY;
        return "out of memory";
    }
    sub->acks->is_cumulative = is_cumulative;
    sub->acks->prefetch = prefetch == 0 ? UINT16_MAX : (uint16_t)prefetch; /* 0: as many as AMQP
                                                                              can count */
    return NULL;
}

bool hg_stomp_acks_add(struct hg_stomp_sub *sub, uint64_t number, struct hg_ticket ticket)
{
    return hg_stomp_pending_add(&sub->acks->pending, number, ticket);
}

void hg_stomp_acks_free(struct hg_stomp_sub *sub)
{
    if (sub->acks == NULL) {
        return;
    }
    if (sub->acks->is_temp) {
        hg_uncount(&sub->base.session->worker->metrics.stomp.stomp_temp_queues, 1);
    }
    hg_queue_close(sub->acks->queue, sub->acks->is_own ? HG_QUEUE_DELETE : HG_QUEUE_KEEP);
    hg_stomp_pending_reset(&sub->acks->pending);
    hg_free(sub->acks);
    sub->acks = NULL;
}

/* ---- ACK and NACK ---- */

/* The message that an answer is about; at->sub NULL: there is none. */
struct place {
    struct hg_stomp_sub *sub;
    size_t at; /* in sub->acks->pending; its n: it went with a lost link */
};

/* From message-id, which 1.2 calls ack and id: see send_message. */
static bool read_number(const struct hg_stomp_session *s, struct hg_bytes id, uint64_t *number_out)
{
    char prefix[32];
    int n = snprintf(prefix, sizeof(prefix), "%llx-", (unsigned long long)hg_conn_id(s->base.conn));
    return hg_bytes_starts(id, hg_bytes(prefix, (size_t)n)) &&
           hg_bytes_to_u64(hg_bytes_skip(id, (size_t)n), s->messages, number_out);
}

/* subscription: NULL: any. */
static struct place find(const struct hg_stomp_session *s, uint64_t number,
                         const struct hg_bytes *subscription)
{
    struct place stale = {0};
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_stomp_sub *sub = hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (sub->acks == NULL || sub->acks->is_temp ||
            (subscription != NULL && !hg_bytes_eq(hg_stomp_sub_id(sub), *subscription))) {
            continue;
        }
        size_t n = sub->acks->pending.n;
        size_t at = hg_stomp_pending_find(&sub->acks->pending, number);
        if (at < n) {
            return (struct place){sub, at};
        }
        if (number <= sub->acks->lost_to) {
            stale = (struct place){sub, n};
        }
    }
    return stale;
}

static enum hg_status answer(struct hg_queue *queue, struct hg_ticket ticket, bool is_nack,
                             bool is_requeue)
{
    return is_nack ? hg_queue_nack(queue, ticket, is_requeue) : hg_queue_ack(queue, ticket);
}

/* STALE if any of them was. */
static enum hg_status settle(struct place place, bool is_nack, bool is_requeue)
{
    struct hg_stomp_acks *acks = place.sub->acks;
    enum hg_status status = HG_OK;
    if (place.at == acks->pending.n) {
        return HG_STALE;
    }
    size_t n = acks->is_cumulative ? place.at + 1 : 1;
    size_t from = acks->is_cumulative ? 0 : place.at;
    for (size_t i = 0; i < n; i++) {
        struct hg_ticket ticket = hg_stomp_pending_take(&acks->pending, from);
        enum hg_status one = answer(acks->queue, ticket, is_nack, is_requeue);
        status = one != HG_OK ? one : status;
    }
    return status;
}

/* NULL if fine. */
static const char *check(const struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    const struct hg_bytes *requeue = hg_stomp_find(frame, "requeue");
    bool is_nack = frame->command == HG_STOMP_NACK;
    if (is_nack && s->version == HG_STOMP_V10) {
        return "STOMP 1.0 has no NACK";
    }
    if (hg_stomp_find(frame, s->version == HG_STOMP_V12 ? "id" : "message-id") == NULL) {
        return s->version == HG_STOMP_V12 ? "the header id is missing"
                                          : "the header message-id is missing";
    }
    if (s->version == HG_STOMP_V11 && hg_stomp_find(frame, "subscription") == NULL) {
        return "the header subscription is missing";
    }
    if (is_nack && requeue != NULL && !hg_bytes_eq(*requeue, HG_BYTES("true")) &&
        !hg_bytes_eq(*requeue, HG_BYTES("false"))) {
        return "the header requeue is neither true nor false";
    }
    return NULL;
}

static struct place place_of(const struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    bool is_v12 = s->version == HG_STOMP_V12;
    uint64_t number = 0;
    if (!read_number(s, hg_stomp_get(frame, is_v12 ? "id" : "message-id"), &number)) {
        return (struct place){0};
    }
    return find(s, number, is_v12 ? NULL : hg_stomp_find(frame, "subscription"));
}

enum hg_status hg_stomp_answer(struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    struct place place = place_of(s, frame);
    bool is_requeue = !hg_bytes_eq(hg_stomp_get(frame, "requeue"), HG_BYTES("false"));
    return place.sub == NULL ? HG_STALE
                             : settle(place, frame->command == HG_STOMP_NACK, is_requeue);
}

enum hg_stomp_verdict hg_stomp_on_ack(struct hg_stomp_session *s,
                                      const struct hg_stomp_frame *frame,
                                      struct hg_stomp_failure *f)
{
    bool is_in_tx = hg_stomp_is_in_tx(frame);
    const char *wrong = check(s, frame);
    if (wrong != NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, wrong);
    }
    if (is_in_tx && hg_stomp_tx_admits(s, frame, f) != HG_STOMP_USED) {
        return HG_STOMP_FAILED;
    }
    if (place_of(s, frame).sub == NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "no message with this id waits for an answer");
    }
    if (is_in_tx) {
        return hg_stomp_tx_add(s, frame, f);
    }
    hg_stomp_send_answer(s, f->receipt, hg_stomp_answer(s, frame) == HG_STALE);
    return HG_STOMP_USED;
}
