/* SPDX-License-Identifier: Apache-2.0 */
/* A webhook's life: its queue is consumed by every instance, unless order is asked for, when one of
 * them has it exclusively and the others ask again and again. */
#include "adapters/webhook/webhook.h"

#include "adapters/webhook/webhook_priv.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

enum { CLAIM_MS = 2000 };

static void set_gauge(hg_counter *gauge, uint64_t v)
{
    atomic_store_explicit(gauge, v, memory_order_relaxed);
}

static void refuse(struct hg_webhook *h, const char *what, struct hg_bytes why)
{
    HG_LOG_LIMITED(h->worker->log, HG_LOG_ERROR, "webhook.refused", hg_bytes_str(h->spec->name),
                   HG_F_STR("webhook", h->spec->name), HG_F_STR("way", what),
                   HG_F_BYTES("reason", why));
}

static struct hg_bytes text_or(struct hg_bytes reason, enum hg_status status)
{
    return reason.n > 0 ? reason : hg_bytes_str(hg_status_text(status));
}

void hg_webhook_look_later(struct hg_webhook *h)
{
    hg_net_defer(&h->worker->net, &h->later);
}

void hg_webhook_finish(struct hg_webhook *h, struct hg_webhook_letter *letter)
{
    if (!letter->is_stale) { /* else the queue may be another one by now, or none */
        (void)hg_queue_ack(h->queue, letter->ticket);
    }
    hg_webhook_ledger_end(&h->ledger, letter);
}

void hg_webhook_stop(struct hg_webhook *h)
{
    if (!h->is_gone) {
        h->is_gone = true;
        HG_LOG(h->worker->log, HG_LOG_ERROR, "webhook.gone", HG_F_STR("webhook", h->spec->name),
               HG_F_STR("url", h->spec->origin),
               HG_F_STR("reason", "HTTP 410: nothing is sent until the gateway is started again"));
    }
}

/* ---- The queue ---- */

static void ask_again(struct hg_webhook *h)
{
    if (!h->is_draining && !h->is_gone) {
        hg_worker_timer(h->worker, &h->claim_timer, CLAIM_MS + hg_random_u64() % (CLAIM_MS / 2));
    }
}

static void say_waiting(struct hg_webhook *h, struct hg_bytes why)
{
    if (!h->is_waiting_said) {
        h->is_waiting_said = true;
        HG_LOG(h->worker->log, HG_LOG_WARN, "webhook.waiting", HG_F_STR("webhook", h->spec->name),
               HG_F_BYTES("queue", h->source), HG_F_BYTES("reason", why));
    }
}

static void set_inactive(struct hg_webhook *h)
{
    h->queue = NULL;
    h->is_active = false;
    set_gauge(&h->metrics->webhook_active, 0);
    hg_unsubscribe(&h->sub);
    hg_webhook_ledger_void(&h->ledger);
    hg_webhook_look_later(h);
}

static void let_go_of_queue(struct hg_webhook *h)
{
    hg_timer_stop(&h->claim_timer);
    hg_queue_close(h->queue, HG_QUEUE_KEEP); /* before its subscription: the bindings stay */
    set_inactive(h);
}

static void set_active(struct hg_webhook *h)
{
    set_gauge(&h->metrics->webhook_active, 1);
    HG_LOG(h->worker->log, HG_LOG_INFO, "webhook.active", HG_F_STR("webhook", h->spec->name),
           HG_F_BYTES("queue", h->source), HG_F_STR("url", h->spec->origin));
}

static void subscribe(struct hg_webhook *h)
{
    const char *why = NULL;
    struct hg_bytes filter = hg_bytes_str(h->spec->filter);
    h->sub = (struct hg_sub){0};
    enum hg_status status = hg_subscribe_queue_filter(&h->session, &h->sub, filter, h->queue, &why);
    if (status != HG_OK) {
        refuse(h, "filter", text_or(hg_bytes_str(why), status));
        ask_again(h);
    }
}

static void on_queue(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct hg_webhook *h = ctx;
    (void)has_existed;
    if (status != HG_OK) {
        say_waiting(h, text_or(reason, status));
        set_inactive(h);
        ask_again(h);
    } else if (h->is_active) {
        hg_webhook_ledger_void(&h->ledger);
    } else {
        h->is_active = true;
        h->is_waiting_said = false;
        if (h->has_own_queue) {
            subscribe(h);
        } else {
            set_active(h);
        }
    }
    hg_webhook_look_later(h);
}

static const struct hg_queue_ops queue_ops = {on_queue};

static void consume(struct hg_webhook *h)
{
    bool is_own = h->has_own_queue;
    const struct hg_queue_options options = {
        .name = h->source,
        .prefetch = h->spec->prefetch,
        .is_exclusive = h->spec->order != HG_WEBHOOK_UNORDERED,
        .must_exist = !is_own,
        .is_by_name = !is_own,
        .filter = is_own ? hg_bytes_str(h->spec->filter) : hg_bytes(NULL, 0),
        .shows_all = true,
    };
    h->queue = hg_queue_open(&h->session, &options, &queue_ops, h);
    if (h->queue == NULL) {
        ask_again(h);
    }
}

/* A filter has a queue of its own, unless its rule has one. */
static enum hg_status find_source(struct hg_webhook *h, const char **why)
{
    if (h->spec->queue != NULL) {
        h->source = hg_bytes_str(h->spec->queue);
        return HG_OK;
    }
    struct hg_bytes filter = hg_bytes_str(h->spec->filter);
    struct hg_bytes queue;
    enum hg_status status = hg_queue_of_filter(&h->session, filter, &queue, why);
    if (status == HG_OK) { /* rules go with their configuration: the name is copied */
        h->has_own_queue = queue.n == 0;
        int n = h->has_own_queue
                    ? snprintf(h->source_name, sizeof(h->source_name), "headgate.webhook.%s",
                               h->spec->name)
                    : snprintf(h->source_name, sizeof(h->source_name), "%.*s", HG_BYTES_FMT(queue));
        h->source = hg_bytes(h->source_name, (size_t)n);
    }
    return status;
}

static void declare_all(struct hg_webhook *h)
{
    size_t n = hg_webhook_own_queues_n(h);
    for (size_t i = 0; i < n; i++) {
        h->declaring_n += hg_webhook_declare(h, i) == HG_OK;
    }
    if (h->declaring_n == 0) {
        consume(h);
    }
}

static void ask(struct hg_timer *timer)
{
    struct hg_webhook *h = HG_CONTAINER_OF(timer, struct hg_webhook, claim_timer);
    const char *why = NULL;
    if (h->source.n > 0) {
        if (h->queue != NULL) { /* its filter was refused */
            let_go_of_queue(h);
        }
        consume(h);
        return;
    }
    enum hg_status status = find_source(h, &why);
    if (status == HG_OK) {
        declare_all(h);
    } else { /* nothing but another configuration changes that */
        refuse(h, "filter", text_or(hg_bytes_str(why), status));
    }
}

/* ---- What there is to do ---- */

/* RabbitMQ gives a consumer half an hour for an answer. What has waited for too long is put off, or
 * where that would change the order, all that waits is given back. */
static void answer_overdue(struct hg_webhook *h, uint64_t now_ms)
{
    uint64_t wait_ms = h->spec->max_ack_wait_ms;
    uint64_t before_ms = now_ms > wait_ms ? now_ms - wait_ms : 0;
    struct hg_webhook_letter *letter;
    bool is_ordered = h->spec->order != HG_WEBHOOK_UNORDERED;
    if (is_ordered && hg_webhook_ledger_overdue(&h->ledger, before_ms) != NULL) {
        before_ms = HG_WEBHOOK_NEVER;
    }
    while ((letter = hg_webhook_ledger_overdue(&h->ledger, before_ms)) != NULL) {
        if (is_ordered) {
            (void)hg_queue_nack(h->queue, letter->ticket, true);
            hg_webhook_ledger_return(&h->ledger, letter);
        } else {
            letter->state = HG_WEBHOOK_LEAVING;
            letter->due_ms = now_ms;
            letter->pause_ms = h->spec->delays_ms[0];
        }
    }
}

static void wake_in_time(struct hg_webhook *h, uint64_t now_ms)
{
    uint64_t due_ms = hg_webhook_ledger_due_ms(&h->ledger, now_ms);
    const struct hg_webhook_letter *oldest =
        hg_webhook_ledger_overdue(&h->ledger, HG_WEBHOOK_NEVER);
    if (oldest != NULL && oldest->taken_ms + h->spec->max_ack_wait_ms < due_ms) {
        due_ms = oldest->taken_ms + h->spec->max_ack_wait_ms + 1;
    }
    if (oldest != NULL && h->breaker.state == HG_WEBHOOK_OPEN && h->breaker.due_ms < due_ms) {
        due_ms = h->breaker.due_ms;
    }
    if (due_ms == HG_WEBHOOK_NEVER) {
        hg_timer_stop(&h->timer);
    } else {
        hg_worker_timer(h->worker, &h->timer, due_ms > now_ms ? due_ms - now_ms : 1);
    }
}

static void show(struct hg_webhook *h)
{
    set_gauge(&h->metrics->webhook_in_flight, h->sent_n);
    set_gauge(&h->metrics->webhook_held, h->ledger.n);
    set_gauge(&h->metrics->webhook_breaker, (uint64_t)h->breaker.state);
    set_gauge(&h->metrics->webhook_gone, h->is_gone);
}

static void look(struct hg_defer *later)
{
    struct hg_webhook *h = HG_CONTAINER_OF(later, struct hg_webhook, later);
    uint64_t now_ms = hg_clock_ms();
    bool is_ending = h->is_draining || h->is_gone;
    if (hg_queue_is_live(h->queue)) { /* else what is held comes again */
        if (!is_ending) {
            answer_overdue(h, now_ms);
        }
        hg_webhook_leave_due(h, now_ms);
        if (!is_ending) {
            hg_webhook_send_waiting(h, now_ms);
        }
        wake_in_time(h, now_ms);
    }
    bool is_leaving = hg_webhook_ledger_leaving(&h->ledger, HG_WEBHOOK_NEVER) != NULL;
    if (is_ending && h->sent_n == 0 && h->left_n == 0 && (h->is_draining || !is_leaving) &&
        (h->queue != NULL || h->claim_timer.due_ms != 0)) {
        let_go_of_queue(h);
    }
    show(h);
}

static void fire(struct hg_timer *timer)
{
    hg_webhook_look_later(HG_CONTAINER_OF(timer, struct hg_webhook, timer));
}

/* ---- Its session in the gateway ---- */

static struct hg_webhook *webhook_of(struct hg_session *s)
{
    return HG_CONTAINER_OF(s, struct hg_webhook, session);
}

static void on_subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                          struct hg_bytes reason)
{
    struct hg_webhook *h = webhook_of(s);
    (void)sub;
    if (outcome == HG_OK) {
        set_active(h);
    } else {
        refuse(h, "filter", text_or(reason, outcome));
        ask_again(h);
    }
}

static void on_declared(struct hg_session *s, uint64_t id, enum hg_status outcome,
                        struct hg_bytes reason)
{
    struct hg_webhook *h = webhook_of(s);
    (void)id;
    if (outcome != HG_OK) {
        refuse(h, "declare", text_or(reason, outcome));
    }
    if (h->declaring_n > 0 && --h->declaring_n == 0 && !h->is_draining) {
        consume(h);
    }
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    *out = (struct hg_session_info){.version = "1.1",
                                    .client_id = hg_bytes_str(webhook_of(s)->spec->name)};
}

static const struct hg_session_ops session_ops = {
    .deliver = hg_webhook_on_deliver,
    .settled = hg_webhook_on_settled,
    .subscribed = on_subscribed,
    .declared = on_declared,
    .describe = describe,
};

/* ---- The end ---- */

static struct hg_webhook *of_service(const struct hg_service *service)
{
    return HG_CONTAINER_OF(service, struct hg_webhook, service);
}

static void drain(struct hg_service *service)
{
    struct hg_webhook *h = of_service(service);
    h->is_draining = true;
    hg_timer_stop(&h->claim_timer);
    hg_webhook_look_later(h);
}

static bool is_idle(const struct hg_service *service)
{
    const struct hg_webhook *h = of_service(service);
    return h->queue == NULL && h->sent_n == 0 && h->left_n == 0;
}

static void free_webhook(void *ctx)
{
    struct hg_webhook *h = ctx;
    hg_timer_stop(&h->timer);
    hg_net_undefer(&h->later);
    hg_list_remove(&h->service.link);
    hg_webhook_ledger_close(&h->ledger);
    hg_free(h);
}

static void close_webhook(struct hg_service *service)
{
    struct hg_webhook *h = of_service(service);
    h->is_draining = true;
    let_go_of_queue(h);
    hg_session_detach(&h->session);
    hg_net_undefer(&h->later);
    hg_timer_stop(&h->timer);
    hg_webhook_client_close(h->client, free_webhook);
}

static const struct hg_service_ops service_ops = {drain, is_idle, close_webhook};

/* ---- The beginning ---- */

static bool open_webhook(struct hg_worker *worker, size_t index)
{
    const struct hg_webhook_spec *spec = &worker->config->webhooks[index];
    struct hg_webhook *h = hg_zalloc(sizeof(*h));
    if (h == NULL) {
        return false;
    }
    h->worker = worker;
    h->spec = spec;
    h->metrics = &worker->gateway->webhooks[index];
    h->breaker = (struct hg_webhook_breaker){.limit = spec->breaker_failures,
                                             .pause_ms = spec->breaker_pause_ms};
    h->later.run = look;
    h->service.ops = &service_ops;
    h->service.session = &h->session;
    hg_session_init(&h->session, &session_ops, HG_PROTO_HTTP, NULL, worker);
    h->session.is_trusted = true;
    hg_webhook_ledger_open(&h->ledger, spec->prefetch);
    hg_timer_init(&h->timer, fire);
    hg_timer_init(&h->claim_timer, ask);
    hg_list_add_last(&worker->services, &h->service.link);
    h->client = hg_webhook_client_new(worker, spec, hg_webhook_on_done, h);
    if (h->client == NULL) {
        free_webhook(h);
        return false;
    }
    hg_worker_timer(worker, &h->claim_timer, 0);
    return true;
}

/* Each webhook has one worker, in turn from the last: bridges begin with the first. */
static bool start(struct hg_worker *worker)
{
    unsigned workers_n = worker->gateway->workers_n;
    for (size_t i = 0; i < worker->config->webhooks_n; i++) {
        if (workers_n - 1 - i % workers_n == worker->index && !open_webhook(worker, i)) {
            return false;
        }
    }
    return true;
}

const struct hg_adapter hg_webhook_adapter = {
    .name = "webhook",
    .prepare = hg_webhook_client_prepare,
    .release = hg_webhook_client_release,
    .start = start,
};
