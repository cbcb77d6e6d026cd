/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/upload.h"

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/upstream_metrics.h"

enum upload_state {
    UPLOAD_IDLE,
    UPLOAD_WAITING,  /* for the connection */
    UPLOAD_CHECKING, /* whether the exchange is there, on a channel just opened */
    UPLOAD_READY,    /* for RabbitMQ to lift connection.blocked */
    UPLOAD_WRITING,
    UPLOAD_WHOLE /* the last byte is written, the confirm is to come */
};

enum { COOKIE_OPEN, COOKIE_DECLARE, COOKIE_CONFIRM };

struct hg_upload {
    struct hg_uploads *of;
    struct hg_link link;
    struct hg_amqp_channel *channel; /* NULL: closed; each upload has a new one */
    struct hg_message *message;
    uint64_t left; /* bytes of the body to come */
    void *owner;   /* NULL: nobody is told */
    void (*on_room)(void *owner, uint64_t id);
    void (*on_settled)(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
    uint64_t id, timeout_ms;
    struct hg_timer timer; /* whatever RabbitMQ is waited for */
    uint8_t state;         /* enum upload_state */
    bool is_linked;        /* the connection has been opened once */
    bool is_blocked, is_returned, is_paused;
};

static struct hg_upstream_metrics *metrics_of(const struct hg_upload *up)
{
    return up->of->config.metrics;
}

static void wait_for_broker(struct hg_upload *up)
{
    hg_wheel_set(up->of->net->wheel, &up->timer, hg_clock_ms() + up->timeout_ms);
}

/* ---- The end ---- */

/* The place is free again. What is half written takes the connection with it. */
static void leave(struct hg_upload *up)
{
    struct hg_amqp_channel *channel = up->channel;
    bool is_half = up->state == UPLOAD_WRITING;
    hg_timer_stop(&up->timer);
    hg_message_unref(up->message);
    up->message = NULL;
    up->channel = NULL;
    up->owner = NULL;
    up->state = UPLOAD_IDLE;
    up->of->busy_n--;
    hg_uncount(&metrics_of(up)->uploads, 1);
    if (is_half) {
        hg_link_renew(&up->link);
    } else if (channel != NULL) {
        hg_amqp_channel_close(channel);
    }
}

static void settle(struct hg_upload *up, enum hg_status outcome, struct hg_bytes reason)
{
    void *owner = up->owner;
    hg_count(&metrics_of(up)->uploads_refused, outcome != HG_OK);
    up->owner = NULL;
    if (owner != NULL) { /* before the channel goes: `reason` may be its memory */
        up->on_settled(owner, up->id, outcome, reason);
    }
    leave(up);
}

void hg_upload_forget(struct hg_upload *up)
{
    up->owner = NULL;
    if (up->state != UPLOAD_WHOLE) {
        hg_count(&metrics_of(up)->uploads_refused, 1);
        leave(up);
    }
}

static void fire(struct hg_timer *timer)
{
    struct hg_upload *up = HG_CONTAINER_OF(timer, struct hg_upload, timer);
    if (up->state == UPLOAD_WHOLE) {
        hg_count(&metrics_of(up)->publish_timeouts, 1);
        settle(up, HG_TIMED_OUT, hg_bytes_str(hg_status_text(HG_TIMED_OUT)));
    } else if (up->state == UPLOAD_WRITING) {
        settle(up, HG_BROKER_AWAY, HG_BYTES("RabbitMQ takes no more of the body"));
    } else {
        settle(up, HG_BROKER_AWAY, hg_bytes_str(hg_status_text(HG_BROKER_AWAY)));
    }
}

/* ---- The body ---- */

/* Whether a piece may be written now; else on_room will be told when. */
static bool has_room(struct hg_upload *up)
{
    bool is_free = !up->is_blocked && hg_link_has_room(&up->link);
    if (is_free) {
        hg_timer_stop(&up->timer);
    } else if (!up->is_paused) {
        wait_for_broker(up);
    }
    up->is_paused = !is_free;
    return is_free;
}

static void resume(struct hg_upload *up)
{
    if (up->state == UPLOAD_WRITING && up->is_paused && has_room(up)) {
        up->on_room(up->owner, up->id);
    }
}

/* Method and header, once RabbitMQ listens. */
static void begin_body(struct hg_upload *up)
{
    if (up->state != UPLOAD_READY || up->is_blocked) {
        return;
    }
    enum hg_status status = hg_amqp_publish_begin(up->channel, up->message, up->left);
    if (status != HG_OK) {
        settle(up, status, hg_bytes_str(hg_status_text(status)));
        return;
    }
    hg_count(&metrics_of(up)->published, 1);
    hg_message_unref(up->message);
    up->message = NULL;
    up->state = UPLOAD_WRITING;
    up->is_paused = true;
    resume(up);
}

bool hg_upload_write(struct hg_upload *up, struct hg_bytes piece)
{
    HG_CHECK(up->state == UPLOAD_WRITING && piece.n <= up->left);
    enum hg_status status = hg_amqp_publish_piece(up->channel, piece);
    if (status != HG_OK) {
        settle(up, status, hg_bytes_str(hg_status_text(status)));
        return false;
    }
    hg_count(&metrics_of(up)->upload_bytes, piece.n);
    up->left -= piece.n;
    if (up->left == 0) {
        up->state = UPLOAD_WHOLE;
        wait_for_broker(up);
        return false;
    }
    return has_room(up);
}

/* ---- Events of the channel ---- */

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_upload *up = ctx;
    (void)reply;
    if (cookie == COOKIE_CONFIRM) {
        up->state = UPLOAD_READY;
        begin_body(up);
    }
}

static void on_confirm(void *ctx, uint64_t delivery_tag, bool is_multiple, bool is_ack)
{
    struct hg_upload *up = ctx;
    struct hg_upstream_metrics *metrics = metrics_of(up);
    (void)delivery_tag; /* it is the channel's only publish */
    (void)is_multiple;
    if (up->state != UPLOAD_WHOLE) {
        return;
    }
    if (!is_ack) {
        hg_count(&metrics->nacks, 1);
        settle(up, HG_REJECTED, HG_BYTES("RabbitMQ rejected the message (basic.nack)"));
    } else if (up->is_returned) {
        hg_count(&metrics->returns, 1);
        settle(up, HG_UNROUTABLE, HG_BYTES("no queue is bound for this routing key"));
    } else {
        hg_count(&metrics->confirms, 1);
        settle(up, HG_OK, HG_BYTES(""));
    }
}

static void on_return(void *ctx, const struct hg_amqp_return *ret)
{
    struct hg_upload *up = ctx;
    (void)ret;
    up->is_returned = true;
}

static void on_channel_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_upload *up = ctx;
    up->channel = NULL;
    hg_count(&metrics_of(up)->upstream_channel_closes, 1);
    settle(up, hg_publisher_refusal(why), why->text);
}

static const struct hg_amqp_channel_ops channel_ops = {
    .on_reply = on_reply,
    .on_close = on_channel_close,
    .on_confirm = on_confirm,
    .on_return = on_return,
};

/* Opens the channel and asks whether the exchange exists; the body begins with the
 * confirm.select-ok. */
static enum hg_status start(struct hg_upload *up)
{
    struct hg_bytes exchange = hg_message_exchange(up->message);
    up->channel = hg_amqp_channel_open(hg_link_conn(&up->link), &channel_ops, up, COOKIE_OPEN);
    if (up->channel == NULL) {
        return HG_NO_MEMORY;
    }
    up->state = UPLOAD_CHECKING;
    hg_amqp_channel_drop_bodies(up->channel); /* of what is returned */
    enum hg_status status = HG_OK;
    if (exchange.n > 0) {
        const struct hg_amqp_exchange_declare args = {
            .name = exchange, .type = HG_BYTES("direct"), .is_passive = true};
        status = hg_amqp_exchange_declare(up->channel, COOKIE_DECLARE, &args);
    }
    return status == HG_OK ? hg_amqp_confirm_select(up->channel, COOKIE_CONFIRM) : status;
}

/* ---- The connection ---- */

static void on_link_up(void *ctx)
{
    struct hg_upload *up = ctx;
    enum hg_status status = up->state == UPLOAD_WAITING ? start(up) : HG_OK;
    if (status != HG_OK) {
        settle(up, status, hg_bytes_str(hg_status_text(status)));
    }
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_upload *up = ctx;
    (void)why;
    up->is_blocked = false;
    up->channel = NULL; /* gone with the connection */
    if (up->state == UPLOAD_WHOLE) {
        settle(up, HG_TIMED_OUT, HG_BYTES("the link to RabbitMQ was lost before the confirm"));
    } else if (up->state == UPLOAD_WRITING) {
        settle(up, HG_BROKER_AWAY,
               HG_BYTES("the link was lost within the body; nothing was published"));
    } else if (up->state != UPLOAD_IDLE) {
        up->state = UPLOAD_WAITING;
    }
}

static void on_link_blocked(void *ctx, bool is_blocked)
{
    struct hg_upload *up = ctx;
    up->is_blocked = is_blocked;
    begin_body(up);
    resume(up);
}

static void on_link_room(void *ctx)
{
    resume(ctx);
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up,
                                            .on_down = on_link_down,
                                            .on_blocked = on_link_blocked,
                                            .on_room = on_link_room};

/* ---- Public ---- */

bool hg_uploads_open(struct hg_uploads *u, struct hg_net *net,
                     const struct hg_uploads_config *config)
{
    *u = (struct hg_uploads){.net = net, .config = *config};
    u->slots = hg_zalloc(config->most_n * sizeof(*u->slots));
    for (size_t i = 0; u->slots != NULL && i < config->most_n; i++) {
        u->slots[i].of = u;
        hg_timer_init(&u->slots[i].timer, fire);
    }
    return u->slots != NULL;
}

void hg_uploads_stop(struct hg_uploads *u)
{
    for (size_t i = 0; i < u->open_n; i++) {
        hg_link_stop(&u->slots[i].link);
    }
}

bool hg_uploads_are_stopped(const struct hg_uploads *u)
{
    for (size_t i = 0; i < u->open_n; i++) {
        if (!hg_link_is_stopped(&u->slots[i].link)) {
            return false;
        }
    }
    return true;
}

void hg_uploads_close(struct hg_uploads *u)
{
    for (size_t i = 0; i < u->open_n; i++) {
        struct hg_upload *up = &u->slots[i];
        hg_timer_stop(&up->timer);
        hg_message_unref(up->message);
        hg_link_close(&up->link);
    }
    hg_free(u->slots);
    u->slots = NULL;
    u->open_n = 0;
}

/* One that is connected, a new one, or one that connects just now; NULL: all are busy. */
static struct hg_upload *free_slot(struct hg_uploads *u)
{
    struct hg_upload *found = NULL;
    for (size_t i = 0; i < u->open_n; i++) {
        struct hg_upload *up = &u->slots[i];
        if (up->state == UPLOAD_IDLE) {
            found = up;
            if (hg_link_conn(&up->link) != NULL && !up->is_blocked) {
                return up;
            }
        }
    }
    return u->open_n < u->config.most_n ? &u->slots[u->open_n] : found;
}

enum hg_status hg_upload_begin(struct hg_uploads *u, const struct hg_upload_order *order,
                               struct hg_upload **upload_out)
{
    struct hg_upload *up = free_slot(u);
    struct hg_message *message = *order->message_own;
    *order->message_own = NULL;
    if (up == NULL) {
        hg_count(&u->config.metrics->uploads_refused, 1);
        hg_message_unref(message);
        return HG_BUSY;
    }
    u->busy_n++;
    hg_count(&u->config.metrics->uploads, 1);
    up->message = message;
    up->left = order->body_bytes;
    up->owner = order->owner;
    up->on_room = order->on_room;
    up->on_settled = order->on_settled;
    up->id = order->id;
    up->timeout_ms = order->timeout_ms;
    up->is_returned = up->is_paused = false;
    up->state = UPLOAD_WAITING;
    wait_for_broker(up);
    enum hg_status status = HG_OK;
    if (!up->is_linked) {
        up->is_linked = true;
        u->open_n++;
        hg_link_open(&up->link, u->net, &u->config.link, u->config.instance, u->config.worker,
                     "upload", &link_ops, up);
    } else if (hg_link_conn(&up->link) != NULL) {
        status = start(up);
    }
    if (status != HG_OK) {
        hg_count(&u->config.metrics->uploads_refused, 1);
        leave(up);
    }
    *upload_out = up;
    return status;
}
