/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/queue_consumer.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/copy.h"
#include "upstream/unanswered.h"
#include "upstream/upstream_metrics.h"

enum { AGAIN_MS = 100 }; /* between attempts to consume what somebody else has, or to start over */

#define CONSUMER_TAG  HG_BYTES("headgate") /* tags are a channel's own */
#define STREAM_OFFSET HG_BYTES("x-stream-offset")

struct hg_queue_consumer {
    struct hg_seat seat;
    const struct hg_queue_consumer_ops *ops;
    struct hg_bindings bindings;
    void *ctx;
    struct hg_unanswered unanswered;
    struct hg_timer again;
    struct hg_defer ack;
    uint64_t patience_ms, give_up_ms; /* the latter 0: nobody was in the way yet */
    uint32_t epoch;                   /* of the channel */
    uint16_t prefetch;
    bool is_transient, is_auto_delete, is_private;
    bool is_exclusive;
    bool must_exist, must_match;
    bool was_lost;    /* the link, while it was live; and is not live again */
    bool is_fresh;    /* still to be deleted */
    bool is_absent;   /* RabbitMQ does not know it: to be declared, not only looked for */
    bool is_known;    /* has_existed says something */
    bool has_existed; /* when it was looked for after the last loss of the link */
    bool is_asking;   /* consume was sent on this channel */
    bool is_live;     /* … and answered */
    bool has_offset;  /* next_offset says where a stream goes on */
    uint64_t next_offset;
    struct hg_bytes queue;
    struct hg_buf *text; /* what the slices point into */
    struct hg_header *consumer_arguments, *binding_arguments;
    size_t arguments_n, consumer_arguments_n;
    struct hg_header arguments[]; /* and those two behind them */
};

enum cookie {
    COOKIE_OPEN,
    COOKIE_DELETE,
    COOKIE_DECLARE,
    COOKIE_QOS,
    COOKIE_CONSUME,
    COOKIE_CANCEL
};

static struct hg_queue_consumer *consumer_of(struct hg_seat *seat)
{
    return HG_CONTAINER_OF(seat, struct hg_queue_consumer, seat);
}

static struct hg_upstream_metrics *metrics_of(const struct hg_queue_consumer *q)
{
    return q->seat.of->config.metrics;
}

/* Without closing the channel: for one that RabbitMQ closed, too. */
static void free_consumer(struct hg_queue_consumer *q)
{
    hg_bindings_forget(&q->bindings);
    hg_seat_leave(&q->seat);
    hg_timer_stop(&q->again);
    hg_net_undefer(&q->ack);
    hg_unanswered_close(&q->unanswered);
    hg_buf_unref(q->text);
    hg_free(q);
}

/* Ends the consumer and tells its owner, who must not use the handle any more. */
static void end(struct hg_queue_consumer *q, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_queue_consumer_ops *ops = q->ops;
    void *ctx = q->ctx;
    struct hg_amqp_channel *channel = q->seat.channel;
    free_consumer(q);
    ops->on_state(ctx, status, false, reason); /* before the channel goes: `reason` may be its */
    if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}

static void end_by_status(struct hg_queue_consumer *q, enum hg_status status)
{
    if (status != HG_OK) {
        end(q, status, hg_bytes_str(hg_status_text(status)));
    }
}

/* ---- Starting: declare, bind, consume ---- */

static enum hg_status send_declare(struct hg_queue_consumer *q)
{
    enum hg_status status = HG_OK;
    if (q->is_fresh) { /* RabbitMQ agrees where there is none */
        status = hg_amqp_queue_delete(q->seat.channel, COOKIE_DELETE, q->queue, false, false);
    }
    struct hg_amqp_queue_declare args = {.name = q->queue,
                                         .is_durable = !q->is_transient,
                                         .is_auto_delete = q->is_auto_delete,
                                         .is_exclusive = q->is_private};
    if (q->is_fresh || q->is_absent || q->must_match) {
        args.arguments = q->arguments;
        args.arguments_n = q->arguments_n;
    } else {
        args.is_passive = true;
    }
    return status != HG_OK ? status : hg_amqp_queue_declare(q->seat.channel, COOKIE_DECLARE, &args);
}

static enum hg_status send_consume(struct hg_queue_consumer *q)
{
    const struct hg_amqp_consume args = {
        .queue = q->queue,
        .consumer_tag = CONSUMER_TAG,
        .is_exclusive = q->is_exclusive,
        .arguments = q->consumer_arguments,
        .arguments_n = q->consumer_arguments_n,
    };
    q->is_asking = true;
    enum hg_status status = hg_amqp_basic_qos(q->seat.channel, COOKIE_QOS, q->prefetch);
    return status != HG_OK ? status : hg_amqp_basic_consume(q->seat.channel, COOKIE_CONSUME, &args);
}

/* The bindings are there, so nothing is consumed before what came with them. */
static void on_whole(void *ctx)
{
    struct hg_queue_consumer *q = ctx;
    if (q->seat.channel != NULL && !q->is_asking) {
        end_by_status(q, send_consume(q));
    }
}

/* ---- Events of the channel ---- */

static void on_declared(struct hg_queue_consumer *q)
{
    if (!q->is_known) {
        q->is_known = true;
        q->has_existed = !q->is_fresh && !q->is_absent;
    }
    q->is_fresh = q->is_absent = false;
    hg_bindings_declared(&q->bindings, q->queue); /* on_whole follows */
}

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_queue_consumer *q = ctx;
    (void)reply;
    if (cookie == COOKIE_DECLARE) {
        on_declared(q);
    } else if (cookie == COOKIE_CONSUME) {
        q->is_live = true;
        q->was_lost = false;
        q->give_up_ms = 0;
        q->ops->on_state(q->ctx, HG_OK, q->has_existed, HG_BYTES(""));
    }
}

static struct hg_header *offset_of(struct hg_queue_consumer *q)
{
    for (size_t i = 0; i < q->consumer_arguments_n; i++) {
        if (hg_bytes_eq(q->consumer_arguments[i].name, STREAM_OFFSET)) {
            return &q->consumer_arguments[i];
        }
    }
    return NULL;
}

/* Forgets what was under way on the channel that is gone. */
static void leave_channel(struct hg_queue_consumer *q)
{
    uint64_t offset = q->next_offset;
    if (q->has_offset) {
        (void)hg_unanswered_oldest(&q->unanswered, &offset);
        offset_of(q)->value = (struct hg_value){.kind = HG_VALUE_INT, .u.i = (int64_t)offset};
    }
    hg_count(&metrics_of(q)->stale_acks, q->unanswered.acked_n);
    hg_unanswered_reset(&q->unanswered);
    q->is_asking = q->is_live = false;
}

/* After a loss RabbitMQ may go on for two heartbeats believing in our own former consumer. */
static bool has_patience(struct hg_queue_consumer *q)
{
    uint64_t now = hg_clock_ms();
    if (q->give_up_ms == 0) {
        uint64_t believed_ms = q->was_lost ? 2 * q->seat.of->config.link.heartbeat_ms : 0;
        q->give_up_ms = now + q->patience_ms + believed_ms;
    }
    return now < q->give_up_ms;
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_queue_consumer *q = ctx;
    bool was_asking = q->is_asking;
    bool was_live = q->is_live;
    q->seat.channel = NULL;
    leave_channel(q);
    bool was_looked_for = !q->is_absent && !q->must_exist && !q->must_match;
    if (why->code == 404 && !q->bindings.is_declared && was_looked_for) {
        q->is_absent = true;
        hg_seat_start(&q->seat);
        return;
    }
    hg_count(&metrics_of(q)->upstream_channel_closes, 1);
    bool is_taken = (why->code == 403 && was_asking && q->is_exclusive && !was_live) ||
                    (why->code == 405 && q->is_private);
    if (was_live || (is_taken && has_patience(q))) {
        hg_wheel_set(q->seat.of->net->wheel, &q->again, hg_clock_ms() + AGAIN_MS);
        return;
    }
    HG_LOG_LIMITED(q->seat.of->config.log, HG_LOG_WARN, "consumer.refused", q->queue,
                   HG_F_BYTES("queue", q->queue), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    end(q, why->status, why->text);
}

/* Of a message out of a stream that is consumed by offset. */
static uint64_t note_offset(struct hg_queue_consumer *q, const struct hg_message *m)
{
    const struct hg_value *offset =
        offset_of(q) == NULL ? NULL : hg_message_header(m, STREAM_OFFSET);
    if (offset == NULL || offset->kind != HG_VALUE_INT) {
        return 0;
    }
    q->has_offset = true;
    q->next_offset = (uint64_t)offset->u.i + 1;
    return (uint64_t)offset->u.i;
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_queue_consumer *q = ctx;
    hg_count(&metrics_of(q)->deliveries, 1);
    uint64_t offset = note_offset(q, delivery->message);
    if (!hg_unanswered_add(&q->unanswered, delivery->delivery_tag, offset)) {
        end_by_status(q, HG_NO_MEMORY);
        return;
    }
    const struct hg_ticket ticket = {.tag = delivery->delivery_tag, .epoch = q->epoch};
    q->ops->on_delivery(q->ctx, delivery->message, ticket, delivery->is_redelivered);
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    (void)consumer_tag;
    end(ctx, HG_NO_QUEUE, HG_BYTES("the queue was deleted"));
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply, .on_close = on_close, .on_delivery = on_delivery, .on_cancel = on_cancel};

/* ---- The seat ---- */

static void start(struct hg_seat *seat)
{
    struct hg_queue_consumer *q = consumer_of(seat);
    seat->channel =
        hg_amqp_channel_open(hg_link_conn(&seat->home->link), &channel_ops, q, COOKIE_OPEN);
    q->epoch++;
    if (seat->channel == NULL) {
        end_by_status(q, HG_NO_MEMORY);
    } else if (!q->bindings.is_declared) {
        end_by_status(q, send_declare(q));
    } else if (q->bindings.pending_n == 0) { /* else: on_whole */
        end_by_status(q, send_consume(q));
    }
}

static void fire_again(struct hg_timer *timer)
{
    struct hg_queue_consumer *q = HG_CONTAINER_OF(timer, struct hg_queue_consumer, again);
    hg_seat_start(&q->seat);
}

static void lost(struct hg_seat *seat)
{
    struct hg_queue_consumer *q = consumer_of(seat);
    q->was_lost = q->was_lost || q->is_live;
    q->is_known = q->is_absent = false;
    hg_timer_stop(&q->again);
    hg_bindings_undeclared(&q->bindings);
    leave_channel(q);
}

static void abandon(struct hg_seat *seat)
{
    struct hg_queue_consumer *q = consumer_of(seat);
    hg_bindings_close(&q->bindings);
    free_consumer(q);
}

static const struct hg_seat_ops seat_ops = {.start = start, .lost = lost, .abandon = abandon};

/* ---- Answers ---- */

static void send_acks(struct hg_queue_consumer *q)
{
    uint64_t tag = 0;
    bool is_multiple = false;
    while (q->seat.channel != NULL && hg_unanswered_take(&q->unanswered, &tag, &is_multiple)) {
        if (hg_amqp_basic_ack(q->seat.channel, tag, is_multiple) != HG_OK) {
            hg_link_reset(&q->seat.home->link, "out of memory while acknowledging");
        }
    }
}

static void run_ack(struct hg_defer *defer)
{
    send_acks(HG_CONTAINER_OF(defer, struct hg_queue_consumer, ack));
}

static enum hg_status stale(struct hg_queue_consumer *q)
{
    hg_count(&metrics_of(q)->stale_acks, 1);
    return HG_STALE;
}

enum hg_status hg_queue_consumer_ack(struct hg_queue_consumer *q, struct hg_ticket ticket)
{
    if (ticket.epoch != q->epoch || !hg_unanswered_ack(&q->unanswered, ticket.tag)) {
        return stale(q);
    }
    hg_net_defer(q->seat.of->net, &q->ack);
    return HG_OK;
}

void hg_queue_consumer_ack_all(struct hg_queue_consumer *q)
{
    hg_unanswered_ack_all(&q->unanswered);
    hg_net_defer(q->seat.of->net, &q->ack);
}

enum hg_status hg_queue_consumer_nack(struct hg_queue_consumer *q, struct hg_ticket ticket,
                                      bool is_requeue)
{
    if (ticket.epoch != q->epoch || !hg_unanswered_settle(&q->unanswered, ticket.tag)) {
        return stale(q);
    }
    if (hg_amqp_basic_nack(q->seat.channel, ticket.tag, false, is_requeue) != HG_OK) {
        hg_link_reset(&q->seat.home->link, "out of memory while acknowledging");
    }
    return HG_OK;
}

/* ---- Life ---- */

/* Copies every text of the spec into one buffer and points the consumer's slices at the copies. */
static bool copy_texts(struct hg_queue_consumer *q, const struct hg_queue_consumer_spec *spec)
{
    q->text =
        hg_buf_new(1 + spec->queue.n + hg_copy_headers_bytes(spec->arguments, spec->arguments_n) +
                   hg_copy_headers_bytes(spec->consumer_arguments, spec->consumer_arguments_n) +
                   hg_copy_headers_bytes(spec->binding_arguments, spec->binding_arguments_n));
    if (q->text == NULL) {
        return false;
    }
    q->queue = hg_copy_bytes(q->text, spec->queue);
    q->arguments_n = spec->arguments_n;
    hg_copy_headers(q->text, spec->arguments, spec->arguments_n, q->arguments);
    q->consumer_arguments = q->arguments + spec->arguments_n;
    q->consumer_arguments_n = spec->consumer_arguments_n;
    hg_copy_headers(q->text, spec->consumer_arguments, spec->consumer_arguments_n,
                    q->consumer_arguments);
    q->binding_arguments = q->consumer_arguments + spec->consumer_arguments_n;
    hg_copy_headers(q->text, spec->binding_arguments, spec->binding_arguments_n,
                    q->binding_arguments);
    return true;
}

static void copy_flags(struct hg_queue_consumer *q, const struct hg_queue_consumer_spec *spec)
{
    q->is_transient = spec->is_transient;
    q->is_auto_delete = spec->is_auto_delete;
    q->is_private = spec->is_private;
    q->must_match = spec->must_match;
    q->is_fresh = spec->is_fresh;
    q->is_exclusive = spec->is_exclusive;
    q->must_exist = spec->must_exist;
}

struct hg_queue_consumer *hg_queue_consumer_open(struct hg_seats *seats,
                                                 const struct hg_queue_consumer_spec *spec,
                                                 const struct hg_queue_consumer_ops *ops,
                                                 const struct hg_bindings_ops *bindings_ops,
                                                 void *ctx)
{
    size_t arguments_n = spec->arguments_n + spec->consumer_arguments_n + spec->binding_arguments_n;
    struct hg_queue_consumer *q = hg_zalloc(sizeof(*q) + arguments_n * sizeof(q->arguments[0]));
    if (q == NULL) {
        return NULL;
    }
    if (!copy_texts(q, spec) || !hg_seat_take(&q->seat, seats, &seat_ops)) {
        hg_buf_unref(q->text);
        hg_free(q);
        return NULL;
    }
    copy_flags(q, spec);
    q->ops = ops;
    q->ctx = ctx;
    q->prefetch = spec->prefetch;
    q->patience_ms = spec->patience_ms;
    q->ack.run = run_ack;
    hg_timer_init(&q->again, fire_again);
    hg_bindings_open(&q->bindings, &q->seat.home->binder, q->queue, bindings_ops);
    q->bindings.arguments = q->binding_arguments;
    q->bindings.arguments_n = spec->binding_arguments_n;
    q->bindings.on_whole = on_whole;
    q->bindings.ctx = q;
    return q;
}

bool hg_queue_consumer_is_live(const struct hg_queue_consumer *q)
{
    return q->is_live;
}

struct hg_bytes hg_queue_consumer_name(const struct hg_queue_consumer *q)
{
    return q->queue;
}

struct hg_bindings *hg_queue_consumer_bindings(struct hg_queue_consumer *q)
{
    return &q->bindings;
}

static void send_delete(struct hg_queue_consumer *q, enum hg_queue_end how)
{
    bool is_only_idle = how == HG_QUEUE_DELETE_IF_IDLE;
    struct hg_amqp_channel *channel = q->seat.channel;
    if (is_only_idle && q->is_asking) { /* it counts as a user, and what it has as taken out */
        (void)hg_amqp_basic_cancel(channel, COOKIE_CANCEL, CONSUMER_TAG);
        if (q->unanswered.open_n > 0) {
            (void)hg_amqp_basic_nack(channel, 0, true, true); /* all */
        }
    }
    (void)hg_amqp_queue_delete(channel, COOKIE_DELETE, q->queue, is_only_idle, is_only_idle);
}

void hg_queue_consumer_close(struct hg_queue_consumer *q, enum hg_queue_end how)
{
    if (q == NULL) {
        return;
    }
    struct hg_amqp_channel *channel = q->seat.channel;
    if (channel != NULL) {
        send_acks(q);
    }
    if (channel != NULL && how != HG_QUEUE_KEEP) {
        send_delete(q, how);
    }
    free_consumer(q);
    if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}
