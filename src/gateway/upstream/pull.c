/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/pull.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/copy.h"
#include "upstream/upstream_metrics.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    AGAIN_MS = 100
}; /* before a channel that RabbitMQ closed for no pull's sake is opened anew */

enum cookie { COOKIE_OTHER, COOKIE_COUNT, COOKIE_KINDS }; /* the latter: plus the pull's number */

#define OFFSET    "x-stream-offset"
#define EXCLUSIVE "exclusive use"

struct hg_puller {
    struct hg_seat seat;
    const struct hg_puller_ops *ops;
    void *ctx;
    struct hg_list pulls; /* hg_pull.link, in the order they came */
    struct hg_map by_number;
    struct hg_timer again;
    uint64_t numbers_n;
    uint16_t prefetch; /* of the next consumer, as RabbitMQ knows it; 0: not told */
    bool is_known;     /* it is no stream */
    bool is_probing;   /* the first pull's consumer finds out */
    bool is_checked;   /* … and did so again: an offset in a message says nothing */
    struct hg_bytes queue;
    struct hg_buf *text; /* what `queue` points into */
};

static struct hg_puller *puller_of(struct hg_seat *seat)
{
    return HG_CONTAINER_OF(seat, struct hg_puller, seat);
}

static struct hg_pull *find(const struct hg_puller *p, uint64_t number)
{
    return hg_map_find(&p->by_number, hg_bytes(&number, sizeof(number)));
}

static struct hg_pull *find_tag(const struct hg_puller *p, struct hg_bytes tag)
{
    uint64_t number;
    return hg_bytes_to_u64(tag, UINT64_MAX, &number) ? find(p, number) : NULL;
}

static bool has_text(struct hg_bytes text, struct hg_bytes what)
{
    return text.n > 0 && memmem(text.p, text.n, what.p, what.n) != NULL;
}

/* Memory ended in the middle of what RabbitMQ has to be told. */
static void must(struct hg_puller *p, enum hg_status status)
{
    if (status != HG_OK) {
        hg_link_reset(&p->seat.home->link, "out of memory while taking messages");
    }
}

/* ---- A pull's consumer ---- */

static struct hg_bytes tag_of(const struct hg_pull *pull, char out[24])
{
    return hg_bytes(out, (size_t)snprintf(out, 24, "%" PRIu64, pull->number));
}

/* A queue that is no stream refuses an offset, which costs nothing but this channel. A stream would
 * take it, and can thus be told before anybody has got a message. */
static void send_consume(struct hg_puller *p, struct hg_pull *pull)
{
    static const struct hg_header offset = {
        .name = {(const uint8_t *)OFFSET, sizeof(OFFSET) - 1},
        .value = {.kind = HG_VALUE_STRING, .u.bytes = {(const uint8_t *)"next", 4}}};
    char tag[24];
    const struct hg_amqp_consume args = {.queue = p->queue,
                                         .consumer_tag = tag_of(pull, tag),
                                         .arguments = &offset,
                                         .arguments_n = p->is_known ? 0 : 1};
    p->is_probing = !p->is_known;
    pull->is_asking = true;
    if (p->prefetch != pull->max) {
        p->prefetch = pull->max;
        must(p, hg_amqp_basic_qos(p->seat.channel, COOKIE_OTHER, pull->max));
    }
    if (p->seat.channel != NULL) {
        must(p, hg_amqp_basic_consume(p->seat.channel, COOKIE_OTHER, &args));
    }
}

static void send_cancel(struct hg_puller *p, struct hg_pull *pull)
{
    char tag[24];
    pull->is_ending = true;
    must(p, hg_amqp_basic_cancel(p->seat.channel, COOKIE_OTHER, tag_of(pull, tag)));
}

/* Not before cancel-ok, which declare-ok would overtake. */
static void send_count(struct hg_puller *p, const struct hg_pull *pull)
{
    const struct hg_amqp_queue_declare args = {.name = p->queue, .is_passive = true};
    must(p,
         hg_amqp_queue_declare(p->seat.channel, COOKIE_COUNT + COOKIE_KINDS * pull->number, &args));
}

/* Whatever can be asked for now. */
static void ask(struct hg_puller *p)
{
    HG_LIST_FOREACH (it, &p->pulls) {
        struct hg_pull *pull = HG_LIST_ENTRY(it, struct hg_pull, link);
        if (p->seat.channel == NULL || p->is_probing) {
            return;
        }
        if (!pull->is_asking) {
            send_consume(p, pull);
        }
    }
}

static void take_off(struct hg_pull *pull)
{
    hg_map_remove(&pull->of->by_number, hg_bytes(&pull->number, sizeof(pull->number)));
    hg_list_remove(&pull->link);
    pull->of = NULL;
}

static void end(struct hg_pull *pull, enum hg_status status, struct hg_bytes reason,
                uint32_t left_n)
{
    take_off(pull);
    pull->ops->on_over(pull, status, reason, left_n);
}

/* Those that wait for RabbitMQ's answer, or all. */
static void fail(struct hg_puller *p, bool is_all, enum hg_status status, struct hg_bytes reason)
{
    struct hg_list failed;
    hg_list_init(&failed);
    HG_LIST_FOREACH_SAFE (it, &p->pulls) {
        struct hg_pull *pull = HG_LIST_ENTRY(it, struct hg_pull, link);
        if (is_all || (pull->is_asking && !pull->is_live)) {
            hg_list_remove(it);
            hg_list_add_last(&failed, it);
        }
    }
    while (!hg_list_is_empty(&failed)) { /* who is told may stop another one */
        end(HG_LIST_ENTRY(failed.next, struct hg_pull, link), status, reason, 0);
    }
}

/* The channel is gone: all of them start over on the next one. */
static void forget_channel(struct hg_puller *p)
{
    p->prefetch = 0;
    p->is_probing = false;
    p->ops->on_lost(p->ctx);
    HG_LIST_FOREACH (it, &p->pulls) {
        struct hg_pull *pull = HG_LIST_ENTRY(it, struct hg_pull, link);
        pull->is_asking = pull->is_live = pull->is_ending = false;
        if (pull->got_n > 0) {
            pull->got_n = 0;
            pull->ops->on_again(pull);
        }
    }
}

/* What was on the channel goes back into the queue. */
static void drop_channel(struct hg_puller *p)
{
    struct hg_amqp_channel *channel = p->seat.channel;
    p->seat.channel = NULL;
    hg_amqp_channel_close(channel);
    p->is_known = false;
    forget_channel(p);
}

static void refuse_stream(struct hg_puller *p)
{
    drop_channel(p);
    fail(p, true, HG_UNFIT_QUEUE,
         HG_BYTES("it is a stream, which is read by offset: nothing can be taken out of it"));
}

/* A message has an offset: the queue is another one than before, and a stream; or the message was in
 * a stream once. */
static void check_again(struct hg_puller *p)
{
    p->is_checked = true;
    drop_channel(p);
    hg_seat_start(&p->seat);
}

/* ---- Events of the channel ---- */

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_puller *p = ctx;
    struct hg_pull *pull = NULL;
    if (cookie % COOKIE_KINDS == COOKIE_COUNT) {
        pull = find(p, cookie / COOKIE_KINDS);
    } else if (reply->kind == HG_AMQP_CONSUME_OK || reply->kind == HG_AMQP_CANCEL_OK) {
        pull = find_tag(p, reply->name);
    }
    if (reply->kind == HG_AMQP_CONSUME_OK && p->is_probing) {
        refuse_stream(p);
    } else if (pull == NULL) {
        return;
    } else if (reply->kind == HG_AMQP_CONSUME_OK) {
        pull->is_live = true;
        if (pull->must_end) {
            send_cancel(p, pull);
        }
    } else if (reply->kind == HG_AMQP_CANCEL_OK && pull->wants_left) {
        send_count(p, pull);
    } else {
        end(pull, HG_OK, HG_BYTES(""), reply->message_n);
    }
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_puller *p = ctx;
    bool is_plain = p->is_probing && why->code == 406 && has_text(why->text, HG_BYTES(OFFSET));
    bool has_culprit = false;
    HG_LIST_FOREACH (it, &p->pulls) {
        const struct hg_pull *pull = HG_LIST_ENTRY(it, struct hg_pull, link);
        has_culprit = has_culprit || (pull->is_asking && !pull->is_live);
    }
    p->seat.channel = NULL;
    if (is_plain) {
        p->is_known = true;
    } else {
        bool is_taken =
            why->code == 405 || (why->code == 403 && has_text(why->text, HG_BYTES(EXCLUSIVE)));
        hg_count(&p->seat.of->config.metrics->upstream_channel_closes, 1);
        p->is_known = false;
        fail(p, false, is_taken ? HG_UNFIT_QUEUE : why->status, why->text);
    }
    forget_channel(p);
    if (is_plain || has_culprit) {
        hg_seat_start(&p->seat);
    } else {
        hg_wheel_set(p->seat.of->net->wheel, &p->again, hg_clock_ms() + AGAIN_MS);
    }
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct hg_puller *p = ctx;
    struct hg_pull *pull = find_tag(p, delivery->consumer_tag);
    hg_count(&p->seat.of->config.metrics->deliveries, 1);
    if (!p->is_checked && hg_message_header(delivery->message, HG_BYTES(OFFSET)) != NULL) {
        check_again(p);
        return;
    }
    if (pull == NULL) { /* it was stopped meanwhile */
        hg_puller_nack(p, delivery->delivery_tag, true);
        return;
    }
    pull->got_n++;
    pull->ops->on_delivery(pull, delivery->message, delivery->delivery_tag,
                           delivery->is_redelivered);
    if (!pull->is_ending) {
        send_cancel(p, pull);
    }
    if (pull->got_n == pull->max && !pull->wants_left) {
        end(pull, HG_OK, HG_BYTES(""), 0);
    }
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    struct hg_pull *pull = find_tag(ctx, consumer_tag);
    if (pull != NULL) {
        end(pull, HG_NO_QUEUE, HG_BYTES("the queue was deleted"), 0);
    }
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply, .on_close = on_close, .on_delivery = on_delivery, .on_cancel = on_cancel};

/* ---- The seat ---- */

static void start(struct hg_seat *seat)
{
    struct hg_puller *p = puller_of(seat);
    if (hg_list_is_empty(&p->pulls)) {
        return;
    }
    seat->channel =
        hg_amqp_channel_open(hg_link_conn(&seat->home->link), &channel_ops, p, COOKIE_OTHER);
    if (seat->channel == NULL) {
        fail(p, true, HG_NO_MEMORY, hg_bytes_str(hg_status_text(HG_NO_MEMORY)));
    }
    ask(p);
}

static void fire_again(struct hg_timer *timer)
{
    hg_seat_start(&HG_CONTAINER_OF(timer, struct hg_puller, again)->seat);
}

static void lost(struct hg_seat *seat)
{
    struct hg_puller *p = puller_of(seat);
    p->is_known = p->is_checked = false; /* when the link is back it may be another queue */
    forget_channel(p);
}

static void free_puller(struct hg_puller *p)
{
    hg_seat_leave(&p->seat);
    hg_timer_stop(&p->again);
    hg_map_close(&p->by_number);
    hg_buf_unref(p->text);
    hg_free(p);
}

static void abandon(struct hg_seat *seat)
{
    free_puller(puller_of(seat));
}

static const struct hg_seat_ops seat_ops = {.start = start, .lost = lost, .abandon = abandon};

/* ---- Public ---- */

struct hg_puller *hg_puller_open(struct hg_seats *seats, struct hg_bytes queue,
                                 const struct hg_puller_ops *ops, void *ctx)
{
    struct hg_puller *p = hg_zalloc(sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->text = hg_buf_new(queue.n + 1);
    if (p->text == NULL || !hg_seat_take(&p->seat, seats, &seat_ops)) {
        hg_buf_unref(p->text);
        hg_free(p);
        return NULL;
    }
    p->queue = hg_copy_bytes(p->text, queue);
    p->ops = ops;
    p->ctx = ctx;
    hg_list_init(&p->pulls);
    hg_map_open(&p->by_number);
    hg_timer_init(&p->again, fire_again);
    return p;
}

void hg_puller_close(struct hg_puller *p)
{
    if (p == NULL) {
        return;
    }
    HG_CHECK(hg_list_is_empty(&p->pulls));
    struct hg_amqp_channel *channel = p->seat.channel;
    free_puller(p);
    if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}

void hg_puller_ack(struct hg_puller *p, uint64_t tag)
{
    if (p->seat.channel != NULL) {
        must(p, hg_amqp_basic_ack(p->seat.channel, tag, false));
    }
}

void hg_puller_nack(struct hg_puller *p, uint64_t tag, bool is_requeue)
{
    if (p->seat.channel != NULL) {
        must(p, hg_amqp_basic_nack(p->seat.channel, tag, false, is_requeue));
    }
}

bool hg_pull_start(struct hg_puller *p, struct hg_pull *pull)
{
    pull->number = ++p->numbers_n;
    if (!hg_map_put(&p->by_number, hg_bytes(&pull->number, sizeof(pull->number)), pull)) {
        return false;
    }
    pull->of = p;
    hg_list_add_last(&p->pulls, &pull->link);
    if (p->seat.channel == NULL) {
        hg_seat_start(&p->seat);
    } else {
        ask(p);
    }
    return true;
}

void hg_pull_finish(struct hg_pull *pull)
{
    pull->must_end = true;
    if (pull->is_live && !pull->is_ending) {
        send_cancel(pull->of, pull);
    }
}

void hg_pull_stop(struct hg_pull *pull)
{
    struct hg_puller *p = pull->of;
    if (p == NULL) {
        return;
    }
    take_off(pull);
    if (pull->is_asking && !pull->is_ending && p->seat.channel != NULL) {
        send_cancel(p, pull);
    }
}
