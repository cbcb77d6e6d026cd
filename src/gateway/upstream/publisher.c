/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/publisher.h"

#include "amqp/amqp_window.h"
#include "base/clock.h"
#include "base/mem.h"
#include "upstream/refused_keys.h"
#include "upstream/upstream_metrics.h"

enum {
    EXCHANGES_MAX = 1024,  /* channels of the link in use at once; RabbitMQ allows 2047 */
    REFUSED_FOR_MS = 1000, /* RabbitMQ's no to an exchange is believed for so long */
    RENEW_EVERY_MS = 1000, /* a channel that rejects, at most */
    STUCK_MS = 5000,       /* without a confirm, for a channel that rejects */
    DEADLINES_EVERY_MS = 256
};

/* A publish under way. */
struct outgoing {
    struct hg_list link;             /* in its exchange's pending or sent list */
    struct hg_chain_link owner_link; /* in the owner's list */
    struct hg_message *message;
    void *owner; /* NULL: nobody is told */
    void (*on_settled)(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
    uint64_t id;
    uint64_t deadline_ms;      /* for an answer, once it is written */
    uint64_t away_deadline_ms; /* for being written at all */
    bool is_written;           /* at least once: RabbitMQ may have it */
    bool is_returned;          /* basic.return came; the confirm follows */
    /* its outcome was told (time-out); waits for the channel to forget it, is never sent again */
    bool is_over;
    bool is_once; /* see struct hg_publish_order */
};

/* An exchange that is published to, with a channel of its own. */
struct pub_exchange {
    struct hg_list link;
    struct hg_list dirty_link; /* in the publisher's list of those with something new to send */
    struct hg_publisher *publisher;
    struct hg_amqp_channel *channel; /* NULL: closed */
    struct hg_window window;         /* of the channel's delivery tags */
    struct hg_list pending, sent;    /* struct outgoing, oldest first */
    uint64_t refused_until_ms;       /* 0: RabbitMQ takes publishes to it, as far as is known */
    struct hg_refused_keys *refused_keys; /* NULL: none was */
    enum hg_status refused_as;            /* until then: NO_EXCHANGE, NOT_ALLOWED … */
    size_t replay_n;       /* so many of `pending`, from its head, go one at a time */
    uint64_t renewed_ms;   /* when the channel was given up for its rejections */
    uint64_t confirmed_ms; /* when anything was confirmed, or the channel was opened */
    bool is_ready;         /* confirm.select answered */
    bool has_rejected;     /* since the channel was opened */
    bool is_replaying;     /* what was sent last was a replay */
    uint8_t name_n;
    uint8_t name[];
};

enum { COOKIE_OPEN, COOKIE_DECLARE, COOKIE_CONFIRM };

static struct hg_bytes name_of(const struct pub_exchange *x)
{
    return hg_bytes(x->name, x->name_n);
}

/* ---- Outcomes ---- */

/* An eighth of room before anybody is woken: a crowd of held clients is not woken for one place. */
static void ask_for_room(struct hg_publisher *p)
{
    if (p->wants_room && p->held_n <= p->config.window_n - p->config.window_n / 8 &&
        p->held_bytes <= p->config.window_bytes - p->config.window_bytes / 8) {
        hg_net_defer(p->net, &p->room);
    }
}

/* Tells the outcome, once. */
static void tell(struct hg_publisher *p, struct outgoing *out, enum hg_status outcome,
                 struct hg_bytes reason)
{
    if (out->is_over) {
        return;
    }
    out->is_over = true;
    hg_chain_remove(&out->owner_link);
    if (out->owner != NULL) {
        void *owner = out->owner;
        out->owner = NULL;
        p->telling_n++; /* the owner may publish: no exchange is let go meanwhile */
        out->on_settled(owner, out->id, outcome, reason);
        p->telling_n--;
    }
}

static void drop(struct hg_publisher *p, struct outgoing *out)
{
    size_t cost = hg_message_cost_bytes(out->message);
    hg_list_remove(&out->link);
    hg_chain_remove(&out->owner_link);
    hg_message_unref(out->message);
    hg_pool_put(&p->pool, out);
    p->held_n--;
    p->held_bytes -= cost;
    hg_uncount(&p->config.metrics->window_messages, 1);
    hg_uncount(&p->config.metrics->window_bytes, cost);
    ask_for_room(p);
}

static void settle(struct hg_publisher *p, struct outgoing *out, enum hg_status outcome,
                   struct hg_bytes reason)
{
    tell(p, out, outcome, reason);
    drop(p, out);
}

static void settle_pending(struct pub_exchange *x, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_list all;
    hg_list_init(&all);
    hg_list_take_all(&all, &x->pending);
    x->replay_n = 0;
    while (!hg_list_is_empty(&all)) {
        settle(x->publisher, HG_LIST_ENTRY(all.next, struct outgoing, link), outcome, reason);
    }
}

/* ---- Sending ---- */

static bool may_send(const struct pub_exchange *x)
{
    if (!x->is_ready || x->publisher->is_blocked || x->publisher->is_held_back ||
        hg_list_is_empty(&x->pending)) {
        return false;
    }
    bool one_at_a_time = x->replay_n > 0 || x->is_replaying;
    return !one_at_a_time || x->window.unsettled_n == 0;
}

static void send_one(struct pub_exchange *x)
{
    struct hg_publisher *p = x->publisher;
    struct outgoing *out = HG_LIST_ENTRY(x->pending.next, struct outgoing, link);
    if (out->is_over) { /* withdrawn */
        drop(p, out);
        return;
    }
    x->is_replaying = x->replay_n > 0;
    x->replay_n -= x->is_replaying;
    enum hg_status status = hg_amqp_basic_publish(x->channel, out->message);
    if (status != HG_OK) {
        settle(p, out, status, hg_bytes_str(hg_status_text(status)));
        return;
    }
    hg_list_remove(&out->link);
    hg_list_add_last(&x->sent, &out->link);
    hg_count(&p->config.metrics->published, 1);
    if (out->is_written) {
        hg_count(&p->config.metrics->republished, 1);
    }
    out->is_written = true;
    out->is_returned = false;
    if (!hg_window_push(&x->window, out)) {
        hg_link_reset(&p->link, "out of memory for the confirm ledger");
    }
}

static void start(struct pub_exchange *x);

/* RabbitMQ's channels know where each queue is led. One that learned it in the moment when that node
 * died may go on rejecting for ever (seen with 3.10), so a channel that has rejected is given up,
 * once it owes nothing. */
static bool may_renew(const struct pub_exchange *x)
{
    return x->has_rejected && x->is_ready && x->window.unsettled_n == 0 &&
           hg_clock_ms() >= x->renewed_ms + RENEW_EVERY_MS;
}

static void give_up_channel(struct pub_exchange *x)
{
    struct hg_amqp_channel *channel = x->channel;
    x->channel = NULL;
    x->is_ready = false;
    x->is_replaying = false;
    x->renewed_ms = hg_clock_ms();
    hg_window_reset(&x->window);
    hg_amqp_channel_close(channel);
    if (!hg_list_is_empty(&x->pending)) {
        start(x);
    }
}

static void pump(struct pub_exchange *x)
{
    if (may_renew(x)) {
        give_up_channel(x);
    }
    while (may_send(x)) {
        send_one(x);
    }
}

/* Moves what was sent and not confirmed back to the head of `pending`, in order, but for what is
 * over, and for what is sent once, which goes to `once`. Returns how many were moved back. */
static size_t take_back(struct pub_exchange *x, struct hg_list *once)
{
    size_t n = 0;
    HG_LIST_FOREACH_SAFE (it, &x->sent) {
        struct outgoing *out = HG_LIST_ENTRY(it, struct outgoing, link);
        if (out->is_over) {
            drop(x->publisher, out);
        } else if (out->is_once) {
            hg_list_remove(&out->link);
            hg_list_add_last(once, &out->link);
        } else {
            n++;
        }
    }
    struct hg_list later;
    hg_list_init(&later);
    hg_list_take_all(&later, &x->pending);
    hg_list_take_all(&x->pending, &x->sent);
    hg_list_take_all(&x->pending, &later);
    hg_window_reset(&x->window);
    return n;
}

/* Of those that are sent once: which of them RabbitMQ may have is not known. */
static void end_once(struct hg_publisher *p, struct hg_list *once)
{
    while (!hg_list_is_empty(once)) {
        struct outgoing *out = HG_LIST_ENTRY(once->next, struct outgoing, link);
        enum hg_status status = out->is_written ? HG_TIMED_OUT : HG_BROKER_AWAY;
        settle(p, out, status, HG_BYTES("the link or channel was lost"));
    }
}

/* ---- Events of the channel ---- */

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct pub_exchange *x = ctx;
    (void)reply;
    if (cookie == COOKIE_CONFIRM) {
        x->is_ready = true;
        x->confirmed_ms = hg_clock_ms();
        pump(x);
    }
}

struct settling {
    struct pub_exchange *x;
    bool is_ack;
};

static void settle_item(void *ctx, void *item)
{
    const struct settling *s = ctx;
    struct outgoing *out = item;
    struct hg_upstream_metrics *metrics = s->x->publisher->config.metrics;
    if (!s->is_ack) {
        s->x->has_rejected = true;
        hg_count(&metrics->nacks, 1);
        settle(s->x->publisher, out, HG_REJECTED,
               HG_BYTES("RabbitMQ rejected the message (basic.nack)"));
    } else if (out->is_returned) {
        hg_count(&metrics->returns, 1);
        settle(s->x->publisher, out, HG_UNROUTABLE,
               HG_BYTES("no queue is bound for this routing key"));
    } else {
        hg_count(&metrics->confirms, 1);
        settle(s->x->publisher, out, HG_OK, HG_BYTES(""));
    }
}

static void on_confirm(void *ctx, uint64_t delivery_tag, bool is_multiple, bool is_ack)
{
    struct settling s = {.x = ctx, .is_ack = is_ack};
    struct hg_publisher *p = s.x->publisher;
    size_t n = hg_window_settle(&s.x->window, delivery_tag, is_multiple, settle_item, &s);
    s.x->confirmed_ms = is_ack ? hg_clock_ms() : s.x->confirmed_ms;
    hg_pace_settled(&p->pace, n);
    hg_net_defer(p->net, &p->spacing);
    pump(s.x);
}

/* basic.return carries no tag: it belongs to the oldest equal publish that waits for its confirm
 * (architecture, decision 4). */
static bool is_same(const struct hg_message *a, const struct hg_message *b)
{
    const struct hg_properties *p = hg_message_properties(a);
    const struct hg_properties *q = hg_message_properties(b);
    return hg_bytes_eq(hg_message_routing_key(a), hg_message_routing_key(b)) &&
           hg_bytes_eq(hg_message_body(a), hg_message_body(b)) &&
           hg_bytes_eq(p->message_id, q->message_id) &&
           hg_bytes_eq(p->correlation_id, q->correlation_id) &&
           hg_bytes_eq(p->reply_to, q->reply_to) && hg_bytes_eq(p->content_type, q->content_type) &&
           hg_bytes_eq(p->content_encoding, q->content_encoding) && hg_bytes_eq(p->type, q->type) &&
           hg_bytes_eq(p->expiration, q->expiration) && hg_bytes_eq(p->app_id, q->app_id) &&
           p->has_timestamp == q->has_timestamp && p->timestamp_s == q->timestamp_s &&
           p->has_priority == q->has_priority && p->priority == q->priority &&
           p->delivery_mode == q->delivery_mode && p->headers_n == q->headers_n;
}

static void on_return(void *ctx, const struct hg_amqp_return *ret)
{
    struct pub_exchange *x = ctx;
    HG_LIST_FOREACH (it, &x->sent) {
        struct outgoing *out = HG_LIST_ENTRY(it, struct outgoing, link);
        if (!out->is_returned && hg_message_is_mandatory(out->message) &&
            is_same(out->message, ret->message)) {
            out->is_returned = true;
            return;
        }
    }
}

enum hg_status hg_publisher_refusal(const struct hg_amqp_close *why)
{
    static const char too_large[] = "larger than";
    if (why->code == 406 &&
        memmem(why->text.p, why->text.n, too_large, sizeof(too_large) - 1) != NULL) {
        return HG_TOO_LARGE;
    }
    return why->code == 404 ? HG_NO_EXCHANGE : why->code == 403 ? HG_NOT_ALLOWED : HG_REFUSED;
}

/* RabbitMQ has one code for all that is not permitted; only its words tell what. */
static bool is_forbidden(const struct hg_amqp_close *why, const char *words)
{
    return why->code == 403 && memmem(why->text.p, why->text.n, words, strlen(words)) != NULL;
}

/* The refusals of a publish that are ones of every publish to the exchange: it is internal, or not for
 * this user (of a topic, RabbitMQ says "access to topic"). */
static bool is_of_exchange(const struct hg_amqp_close *why)
{
    return is_forbidden(why, "internal exchange") || is_forbidden(why, "access to exchange");
}

static bool is_of_key(const struct hg_amqp_close *why)
{
    return is_forbidden(why, "access to topic");
}

/* What is under way with this key, and what comes with it within a second, has the same answer: a client
 * that goes on does not make its user's others wait each time. */
static void refuse_key(struct pub_exchange *x, struct hg_bytes key, struct hg_bytes reason)
{
    size_t replays_n = 0; /* of the x->replay_n at the head, those that stay */
    size_t at = 0;
    if (!hg_refused_keys_add(&x->refused_keys, &key, hg_clock_ms() + REFUSED_FOR_MS)) {
        return;
    }
    HG_LIST_FOREACH_SAFE (it, &x->pending) {
        struct outgoing *out = HG_LIST_ENTRY(it, struct outgoing, link);
        bool is_it = hg_bytes_eq(hg_message_routing_key(out->message), key);
        replays_n += at++ < x->replay_n && !is_it;
        if (is_it) {
            settle(x->publisher, out, HG_NOT_ALLOWED, reason);
        }
    }
    x->replay_n = replays_n;
}

static void refuse(struct pub_exchange *x, enum hg_status status, struct hg_bytes reason)
{
    x->refused_until_ms = hg_clock_ms() + REFUSED_FOR_MS;
    x->refused_as = status;
    x->is_replaying = false;
    settle_pending(x, status, reason);
}

static void on_channel_close(void *ctx, const struct hg_amqp_close *why)
{
    struct pub_exchange *x = ctx;
    struct hg_publisher *p = x->publisher;
    bool was_ready = x->is_ready;
    bool was_alone = x->window.unsettled_n == 1;
    x->channel = NULL;
    x->is_ready = false;
    hg_count(&p->config.metrics->upstream_channel_closes, 1);
    HG_LOG_LIMITED(p->config.log, HG_LOG_WARN, "rabbitmq.channel_closed", name_of(x),
                   HG_F_BYTES("exchange", name_of(x)), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    if (!was_ready) { /* the passive declare failed: nothing on this exchange can succeed */
        refuse(x, hg_publisher_refusal(why), why->text);
        return;
    }
    struct hg_list once;
    hg_list_init(&once);
    size_t unconfirmed_n = take_back(x, &once);
    if (is_of_exchange(why)) {
        hg_list_take_all(&x->pending, &once);
        refuse(x, HG_NOT_ALLOWED, why->text);
        return;
    }
    bool is_about_once = !hg_list_is_empty(&once);
    if (was_alone && (is_about_once || unconfirmed_n == 1) && why->code != 404) {
        struct hg_list *at = is_about_once ? &once : &x->pending;
        struct outgoing *culprit = HG_LIST_ENTRY(at->next, struct outgoing, link);
        if (is_of_key(why)) {
            hg_list_remove(&culprit->link);
            refuse_key(x, hg_message_routing_key(culprit->message), why->text);
        }
        settle(p, culprit, hg_publisher_refusal(why), why->text);
        unconfirmed_n = 0;
    }
    x->is_replaying = false;
    x->replay_n += unconfirmed_n;
    if (!hg_list_is_empty(&x->pending)) {
        start(x);
    }
    end_once(p, &once);
}

/* The same, while it waits for a node that is dead or frozen, for seconds with every message: what
 * is unconfirmed goes out again on another one. */
static void leave_stuck(struct pub_exchange *x)
{
    struct hg_publisher *p = x->publisher;
    bool is_stuck = x->has_rejected && x->is_ready && x->window.unsettled_n > 0 &&
                    hg_clock_ms() >= x->confirmed_ms + STUCK_MS;
    if (!is_stuck || p->is_blocked) {
        return;
    }
    struct hg_list once;
    hg_list_init(&once);
    size_t unconfirmed_n = take_back(x, &once);
    HG_LOG_LIMITED(p->config.log, HG_LOG_WARN, "rabbitmq.channel_stuck", name_of(x),
                   HG_F_BYTES("exchange", name_of(x)), HG_F_UINT("unconfirmed", unconfirmed_n));
    give_up_channel(x);
    end_once(p, &once);
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply,
    .on_close = on_channel_close,
    .on_confirm = on_confirm,
    .on_return = on_return,
};

/* Opens the exchange's channel and learns whether the exchange exists; publishing starts with the
 * confirm.select-ok. */
static void start(struct pub_exchange *x)
{
    struct hg_amqp_conn *conn = hg_link_conn(&x->publisher->link);
    if (conn == NULL || x->channel != NULL) {
        return;
    }
    x->has_rejected = false;
    x->channel = hg_amqp_channel_open(conn, &channel_ops, x, COOKIE_OPEN);
    enum hg_status status = x->channel == NULL ? HG_NO_MEMORY : HG_OK;
    if (status == HG_OK && x->name_n > 0) {
        const struct hg_amqp_exchange_declare args = {
            .name = name_of(x), .type = HG_BYTES("direct"), .is_passive = true};
        status = hg_amqp_exchange_declare(x->channel, COOKIE_DECLARE, &args);
    }
    if (status == HG_OK) {
        status = hg_amqp_confirm_select(x->channel, COOKIE_CONFIRM);
    }
    if (status != HG_OK) {
        if (x->channel != NULL) {
            hg_amqp_channel_close(x->channel);
            x->channel = NULL;
        }
        settle_pending(x, status, hg_bytes_str(hg_status_text(status)));
    }
}

/* ---- Exchanges in use ---- */

static void free_exchange(struct pub_exchange *x)
{
    struct hg_publisher *p = x->publisher;
    if (x->channel != NULL) {
        hg_amqp_channel_close(x->channel);
    }
    hg_list_remove(&x->link);
    hg_list_remove(&x->dirty_link);
    hg_map_remove(&p->by_name, name_of(x));
    p->exchanges_n--;
    hg_window_close(&x->window);
    hg_free(x->refused_keys);
    hg_free(x);
}

/* Makes room for one more by letting go of the one that has been idle longest. */
static bool evict(struct hg_publisher *p)
{
    if (p->telling_n > 0) {
        return false;
    }
    HG_LIST_FOREACH_SAFE (it, &p->exchanges) {
        struct pub_exchange *x = HG_LIST_ENTRY(it, struct pub_exchange, link);
        if (hg_list_is_empty(&x->pending) && hg_list_is_empty(&x->sent)) {
            free_exchange(x);
            return true;
        }
    }
    return false;
}

static enum hg_status exchange_for(struct hg_publisher *p, struct hg_bytes name,
                                   struct pub_exchange **out)
{
    struct pub_exchange *x = hg_map_find(&p->by_name, name);
    if (x == NULL) {
        if (p->exchanges_n >= EXCHANGES_MAX && !evict(p)) {
            return HG_BUSY;
        }
        x = hg_zalloc(sizeof(*x) + name.n);
        if (x == NULL) {
            return HG_NO_MEMORY;
        }
        x->publisher = p;
        x->name_n = (uint8_t)name.n;
        if (name.n > 0) {
            memcpy(x->name, name.p, name.n);
        }
        if (!hg_map_put(&p->by_name, name_of(x), x)) {
            hg_free(x);
            return HG_NO_MEMORY;
        }
        hg_window_open(&x->window);
        hg_list_init(&x->pending);
        hg_list_init(&x->sent);
        hg_list_init(&x->link);
        hg_list_init(&x->dirty_link);
        p->exchanges_n++;
    }
    hg_list_remove(&x->link);
    hg_list_add_last(&p->exchanges, &x->link);
    *out = x;
    return HG_OK;
}

/* ---- The link ---- */

static void on_link_up(void *ctx)
{
    struct hg_publisher *p = ctx;
    HG_LIST_FOREACH (it, &p->exchanges) {
        struct pub_exchange *x = HG_LIST_ENTRY(it, struct pub_exchange, link);
        x->refused_until_ms = 0;
        if (!hg_list_is_empty(&x->pending)) {
            start(x);
        }
    }
    p->ops->on_state(p->ctx, true);
}

/* Those that have not been written. */
static void take_once(struct pub_exchange *x, struct hg_list *once)
{
    HG_LIST_FOREACH_SAFE (it, &x->pending) {
        if (HG_LIST_ENTRY(it, struct outgoing, link)->is_once) {
            hg_list_remove(it);
            hg_list_add_last(once, it);
        }
    }
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_publisher *p = ctx;
    struct hg_list once;
    (void)why;
    p->is_blocked = false;
    hg_list_init(&once);
    HG_LIST_FOREACH (it, &p->exchanges) {
        struct pub_exchange *x = HG_LIST_ENTRY(it, struct pub_exchange, link);
        x->channel = NULL; /* gone with the connection */
        x->is_ready = false;
        x->is_replaying = false;
        x->replay_n = 0;
        take_back(x, &once);
        take_once(x, &once);
    }
    end_once(p, &once);
    p->ops->on_state(p->ctx, false);
}

static void pump_all(struct hg_publisher *p)
{
    HG_LIST_FOREACH (it, &p->exchanges) {
        pump(HG_LIST_ENTRY(it, struct pub_exchange, link));
    }
}

static void on_link_blocked(void *ctx, bool is_blocked)
{
    struct hg_publisher *p = ctx;
    p->is_blocked = is_blocked;
    pump_all(p);
}

void hg_publisher_hold_back(struct hg_publisher *p, bool is_held_back)
{
    p->is_held_back = is_held_back;
    pump_all(p);
}

static const struct hg_link_ops link_ops = {
    .on_up = on_link_up, .on_down = on_link_down, .on_blocked = on_link_blocked};

/* ---- Time ---- */

static void expire(struct hg_publisher *p, struct pub_exchange *x, uint64_t now)
{
    size_t replays_n = 0; /* of the x->replay_n at the head, those that stay */
    size_t at = 0;
    HG_LIST_FOREACH_SAFE (it, &x->pending) {
        struct outgoing *out = HG_LIST_ENTRY(it, struct outgoing, link);
        bool is_over = (out->is_written ? out->deadline_ms : out->away_deadline_ms) <= now;
        replays_n += at++ < x->replay_n && !is_over;
        if (is_over) {
            enum hg_status status = out->is_written ? HG_TIMED_OUT : HG_BROKER_AWAY;
            hg_count(&p->config.metrics->publish_timeouts, 1);
            settle(p, out, status, hg_bytes_str(hg_status_text(status)));
        }
    }
    x->replay_n = replays_n;
    HG_LIST_FOREACH (it, &x->sent) {
        struct outgoing *out = HG_LIST_ENTRY(it, struct outgoing, link);
        if (out->deadline_ms <= now && !out->is_over) {
            hg_count(&p->config.metrics->publish_timeouts, 1);
            tell(p, out, HG_TIMED_OUT, hg_bytes_str(hg_status_text(HG_TIMED_OUT)));
        }
    }
}

static void fire_deadlines(struct hg_timer *timer)
{
    struct hg_publisher *p = HG_CONTAINER_OF(timer, struct hg_publisher, deadlines);
    uint64_t now = hg_clock_ms();
    HG_LIST_FOREACH (it, &p->exchanges) {
        expire(p, HG_LIST_ENTRY(it, struct pub_exchange, link), now);
        leave_stuck(HG_LIST_ENTRY(it, struct pub_exchange, link));
    }
    if (p->held_n > 0) {
        hg_wheel_set(p->net->wheel, &p->deadlines, now + DEADLINES_EVERY_MS);
    }
}

static void run_room(struct hg_defer *defer)
{
    struct hg_publisher *p = HG_CONTAINER_OF(defer, struct hg_publisher, room);
    p->wants_room = false;
    p->ops->on_room(p->ctx);
}

/* What this loop turn's callers want published goes out together; a failure is thus never told from
 * inside their call. */
static void run_sending(struct hg_defer *defer)
{
    struct hg_publisher *p = HG_CONTAINER_OF(defer, struct hg_publisher, sending);
    while (!hg_list_is_empty(&p->dirty)) {
        struct pub_exchange *x = HG_LIST_ENTRY(p->dirty.next, struct pub_exchange, dirty_link);
        hg_list_remove(&x->dirty_link);
        if (x->channel == NULL) {
            start(x);
        } else {
            pump(x);
        }
    }
}

static void run_spacing(struct hg_defer *defer)
{
    struct hg_publisher *p = HG_CONTAINER_OF(defer, struct hg_publisher, spacing);
    hg_net_space(p->net, hg_pace_space_us(&p->pace, hg_clock_us(), p->held_n));
}

/* ---- Public ---- */

void hg_publisher_open(struct hg_publisher *p, struct hg_net *net,
                       const struct hg_publisher_config *config, const struct hg_publisher_ops *ops,
                       void *ctx)
{
    *p = (struct hg_publisher){.net = net, .config = *config, .ops = ops, .ctx = ctx};
    hg_map_open(&p->by_name);
    hg_list_init(&p->exchanges);
    hg_pool_open(&p->pool, sizeof(struct outgoing), 256);
    hg_timer_init(&p->deadlines, fire_deadlines);
    hg_list_init(&p->dirty);
    p->sending.run = run_sending;
    p->room.run = run_room;
    p->spacing.run = run_spacing;
    hg_link_open(&p->link, net, &config->link, config->instance, config->worker, "publish",
                 &link_ops, p);
}

void hg_publisher_close(struct hg_publisher *p)
{
    hg_timer_stop(&p->deadlines);
    p->wants_room = false;
    while (!hg_list_is_empty(&p->exchanges)) {
        struct pub_exchange *x = HG_LIST_ENTRY(p->exchanges.next, struct pub_exchange, link);
        hg_list_take_all(&x->pending, &x->sent);
        while (!hg_list_is_empty(&x->pending)) {
            drop(p, HG_LIST_ENTRY(x->pending.next, struct outgoing, link));
        }
        free_exchange(x);
    }
    hg_link_close(&p->link);
    hg_net_undefer(&p->sending);
    hg_net_undefer(&p->room);
    hg_net_undefer(&p->spacing);
    hg_map_close(&p->by_name);
    hg_pool_close(&p->pool);
}

bool hg_publisher_admits(struct hg_publisher *p, size_t cost_bytes)
{
    /* One message always fits, however large: the limit on a message's size is somebody else's. */
    bool fits = p->held_n == 0 || (p->held_n < p->config.window_n &&
                                   p->held_bytes + cost_bytes <= p->config.window_bytes);
    p->wants_room = p->wants_room || !fits;
    return fits;
}

bool hg_publisher_is_available(const struct hg_publisher *p)
{
    return hg_link_conn(&p->link) != NULL && !p->is_blocked;
}

enum hg_status hg_publisher_publish(struct hg_publisher *p, const struct hg_publish_order *order)
{
    struct hg_message *message = *order->message_own;
    *order->message_own = NULL;
    uint64_t now = hg_clock_ms();
    struct pub_exchange *x = NULL;
    enum hg_status status = exchange_for(p, hg_message_exchange(message), &x);
    if (status == HG_OK && x->refused_until_ms > now) {
        status = x->refused_as;
    }
    if (status == HG_OK && x->refused_keys != NULL &&
        hg_refused_keys_has(x->refused_keys, hg_message_routing_key(message), now)) {
        status = HG_NOT_ALLOWED;
    }
    struct outgoing *out = status == HG_OK ? hg_pool_get(&p->pool) : NULL;
    if (out == NULL) {
        hg_message_unref(message);
        return status == HG_OK ? HG_NO_MEMORY : status;
    }
    *out = (struct outgoing){.message = message, .owner = order->owner, .id = order->id};
    out->is_once = order->is_once;
    out->on_settled = order->on_settled != NULL ? order->on_settled : p->ops->on_settled;
    out->deadline_ms = now + (order->timeout_ms != 0 ? order->timeout_ms : p->config.timeout_ms);
    out->away_deadline_ms =
        now + (order->timeout_ms != 0 ? order->timeout_ms : p->config.away_timeout_ms);
    if (order->owner != NULL) {
        hg_chain_add_first(order->owners, &out->owner_link);
    }
    x->refused_until_ms = 0;
    hg_list_add_last(&x->pending, &out->link);
    size_t cost = hg_message_cost_bytes(message);
    p->held_n++;
    p->held_bytes += cost;
    hg_count(&p->config.metrics->window_messages, 1);
    hg_count(&p->config.metrics->window_bytes, cost);
    if (p->deadlines.due_ms == 0) {
        hg_wheel_set(p->net->wheel, &p->deadlines, now + DEADLINES_EVERY_MS);
    }
    hg_list_remove(&x->dirty_link);
    hg_list_add_last(&p->dirty, &x->dirty_link);
    hg_net_defer(p->net, &p->sending);
    hg_net_defer(p->net, &p->spacing);
    return HG_OK;
}

void hg_publisher_forget(struct hg_chain *owners)
{
    HG_CHAIN_FOREACH_SAFE (it, owners) {
        struct outgoing *out = HG_CHAIN_ENTRY(it, struct outgoing, owner_link);
        out->owner = NULL;
        hg_chain_remove(&out->owner_link);
    }
}

bool hg_publisher_withdraw(struct hg_chain *owners)
{
    bool has_any = false;
    HG_CHAIN_FOREACH (it, owners) {
        struct outgoing *out = HG_CHAIN_ENTRY(it, struct outgoing, owner_link);
        out->is_over = out->is_over || !out->is_written; /* dropped when its turn comes */
        has_any = has_any || !out->is_written;
    }
    hg_publisher_forget(owners);
    return has_any;
}
