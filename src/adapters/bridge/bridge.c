/* SPDX-License-Identifier: Apache-2.0 */
/* A bridge's life. Its queue in RabbitMQ decides who runs it: it is consumed exclusively, and
 * whoever has it connects to the site; the others ask again and again. */
#include "adapters/bridge/bridge.h"

#include "adapters/bridge/bridge_priv.h"
#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/conn.h"

#include <stdio.h>

enum { CLAIM_MS = 2000, QUEUE_NAME_MAX = 128, ECHOES_PER_WINDOW = 4 };

/* ---- For all of it ---- */

void hg_bridge_refuse(struct hg_bridge *b, const char *what, struct hg_bytes address,
                      struct hg_bytes why)
{
    hg_count(&b->metrics->bridge_refused, 1);
    HG_LOG_LIMITED(b->worker->log, HG_LOG_WARN, "bridge.refused", hg_bytes_str(b->spec->name),
                   HG_F_STR("bridge", b->spec->name), HG_F_STR("way", what),
                   HG_F_BYTES("address", address), HG_F_BYTES("reason", why));
}

static void set_gauge(hg_counter *gauge, uint64_t v)
{
    atomic_store_explicit(gauge, v, memory_order_relaxed);
}

void hg_bridge_show_windows(struct hg_bridge *b)
{
    set_gauge(&b->metrics->bridge_window_in, b->inbox.n);
    set_gauge(&b->metrics->bridge_window_out, b->outbox.sent_n);
}

void hg_bridge_look_later(struct hg_bridge *b)
{
    hg_net_defer(&b->worker->net, &b->later);
}

/* ---- The site ---- */

static bool may_connect(void *ctx)
{
    const struct hg_bridge *b = ctx;
    /* Without RabbitMQ, another gateway may have the queue by now; and nothing could be taken. */
    return hg_queue_is_live(b->queue) &&
           atomic_load_explicit(&hg_realm_of(&b->session)->is_up, memory_order_relaxed) &&
           b->subs_left == 0 && b->inbox.waiting_n == 0;
}

static void on_up(void *ctx)
{
    struct hg_bridge *b = ctx;
    set_gauge(&b->metrics->bridge_connected, 1);
    hg_count(&b->metrics->bridge_connects, 1);
    HG_LOG(b->worker->log, HG_LOG_INFO, "bridge.connected", HG_F_STR("bridge", b->spec->name),
           HG_F_STR("site", b->spec->host), HG_F_UINT("port", b->spec->port));
    hg_bridge_send_waiting(b);
}

static void on_down(void *ctx, bool was_up, const char *why)
{
    struct hg_bridge *b = ctx;
    set_gauge(&b->metrics->bridge_connected, 0);
    hg_count(&b->metrics->bridge_failures, 1);
    HG_LOG(b->worker->log, HG_LOG_WARN, was_up ? "bridge.lost" : "bridge.failed",
           HG_F_STR("bridge", b->spec->name), HG_F_STR("site", b->spec->host),
           HG_F_UINT("port", b->spec->port), HG_F_STR("reason", why));
}

static void on_filter_refused(void *ctx, const char *filter, const char *why)
{
    hg_bridge_refuse(ctx, "subscribe", hg_bytes_str(filter), hg_bytes_str(why));
}

static void free_bridge(struct hg_bridge *b)
{
    hg_net_undefer(&b->later);
    hg_list_remove(&b->service.link);
    hg_bridge_inbox_close(&b->inbox);
    hg_bridge_outbox_close(&b->outbox);
    hg_bridge_echo_close(&b->echo);
    hg_writer_close(&b->address);
    hg_free(b->subs);
    hg_free(b);
}

static void on_site_closed(void *ctx)
{
    struct hg_bridge *b = ctx;
    b->sites_n--;
    if (b->is_closed && b->sites_n == 0) {
        free_bridge(b);
    }
}

static const struct hg_bridge_site_ops site_ops = {
    .may_connect = may_connect,
    .may_read = hg_bridge_may_read,
    .on_up = on_up,
    .on_down = on_down,
    .on_filter_refused = on_filter_refused,
    .on_message = hg_bridge_on_message,
    .on_acknowledged = hg_bridge_on_acknowledged,
    .on_closed = on_site_closed,
};

static void leave_site(struct hg_bridge *b)
{
    if (b->site != NULL) {
        hg_bridge_site_close(b->site);
        b->site = NULL;
        set_gauge(&b->metrics->bridge_connected, 0);
    }
}

/* ---- The queue: who runs the bridge ---- */

static void ask_again(struct hg_bridge *b)
{
    if (!b->is_draining) {
        hg_worker_timer(b->worker, &b->claim_timer, CLAIM_MS + hg_random_u64() % (CLAIM_MS / 2));
    }
}

static void subscribe_all(struct hg_bridge *b)
{
    b->subs_left = 0;
    for (size_t i = 0; i < b->spec->out_n; i++) {
        struct hg_bridge_sub *sub = &b->subs[i];
        const char *why = NULL;
        struct hg_bytes filter = hg_bytes_str(b->spec->out[i].local_filter);
        *sub = (struct hg_bridge_sub){.bridge = b, .route = &b->spec->out[i]};
        enum hg_status status =
            hg_subscribe_queue_filter(&b->session, &sub->base, filter, b->queue, &why);
        if (status == HG_OK) {
            b->subs_left++;
        } else {
            hg_bridge_refuse(b, "subscribe", filter,
                             hg_bytes_str(why != NULL ? why : hg_status_text(status)));
        }
    }
}

static void take_over(struct hg_bridge *b)
{
    const char *why = NULL;
    b->is_active = true;
    b->is_standby = false;
    set_gauge(&b->metrics->bridge_active, 1);
    subscribe_all(b);
    b->site = hg_bridge_site_new(b->worker, b->spec, &site_ops, b, &why);
    if (b->site == NULL) {
        HG_LOG(b->worker->log, HG_LOG_ERROR, "bridge.failed", HG_F_STR("bridge", b->spec->name),
               HG_F_STR("site", b->spec->host), HG_F_STR("reason", why));
        return;
    }
    b->sites_n++;
}

/* What the library has under way is another gateway's now: with the client goes its memory of
 * it. The queue's handle is gone already. */
static void stand_by(struct hg_bridge *b, struct hg_bytes why)
{
    b->queue = NULL;
    b->is_active = false;
    set_gauge(&b->metrics->bridge_active, 0);
    leave_site(b);
    hg_bridge_outbox_close(&b->outbox);
    HG_LIST_FOREACH_SAFE (it, &b->session.subs) {
        hg_unsubscribe(HG_LIST_ENTRY(it, struct hg_sub, session_link));
    }
    if (!b->is_standby) {
        b->is_standby = true;
        HG_LOG(b->worker->log, HG_LOG_INFO, "bridge.standby", HG_F_STR("bridge", b->spec->name),
               HG_F_BYTES("reason", why));
    }
    hg_bridge_show_windows(b);
    hg_bridge_look_later(b);
    ask_again(b);
}

static void on_queue(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct hg_bridge *b = ctx;
    (void)has_existed;
    if (status != HG_OK) {
        stand_by(b, reason.n > 0 ? reason : hg_bytes_str(hg_status_text(status)));
    } else if (b->is_active) {
        hg_bridge_outbox_relinked(&b->outbox);
    } else {
        take_over(b);
    }
}

static const struct hg_queue_ops queue_ops = {on_queue};

static void ask(struct hg_timer *timer)
{
    struct hg_bridge *b = HG_CONTAINER_OF(timer, struct hg_bridge, claim_timer);
    char name[QUEUE_NAME_MAX];
    int n = snprintf(name, sizeof(name), "headgate.bridge.%s", b->spec->name);
    const struct hg_queue_options options = {
        .name = hg_bytes(name, (size_t)n), .prefetch = b->spec->window, .is_exclusive = true};
    b->queue = hg_queue_open(&b->session, &options, &queue_ops, b);
    if (b->queue == NULL) {
        ask_again(b);
    }
}

/* ---- Its session in the gateway ---- */

static struct hg_bridge *bridge_of(struct hg_session *s)
{
    return HG_CONTAINER_OF(s, struct hg_bridge, session);
}

static void on_subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                          struct hg_bytes reason)
{
    struct hg_bridge_sub *it = HG_CONTAINER_OF(sub, struct hg_bridge_sub, base);
    if (!it->is_answered) { /* a live one may fail later */
        it->is_answered = true;
        bridge_of(s)->subs_left--;
    }
    if (outcome != HG_OK) {
        hg_bridge_refuse(bridge_of(s), "subscribe", hg_bytes_str(it->route->local_filter), reason);
    }
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    const struct hg_bridge_spec *spec = bridge_of(s)->spec;
    *out = (struct hg_session_info){.version = spec->is_v5 ? "5" : "3.1.1",
                                    .client_id = hg_bytes_str(spec->client_id)};
}

static const struct hg_session_ops session_ops = {
    .deliver = hg_bridge_on_deliver,
    .settled = hg_bridge_on_settled,
    .subscribed = on_subscribed,
    .describe = describe,
};

static void retry(struct hg_timer *timer)
{
    struct hg_bridge *b = HG_CONTAINER_OF(timer, struct hg_bridge, retry_timer);
    hg_bridge_publish_waiting(b);
    hg_bridge_look_later(b);
}

/* ---- The end ---- */

static void let_go_of_queue(struct hg_bridge *b)
{
    hg_timer_stop(&b->claim_timer);
    hg_queue_close(b->queue, HG_QUEUE_KEEP); /* before its subscriptions: the bindings stay */
    b->queue = NULL;
    b->is_active = false;
    set_gauge(&b->metrics->bridge_active, 0);
}

/* Draining: first the site acknowledges what it was sent, then RabbitMQ confirms what it sent. */
static void look(struct hg_defer *later)
{
    struct hg_bridge *b = HG_CONTAINER_OF(later, struct hg_bridge, later);
    if (b->site != NULL) {
        hg_bridge_site_update(b->site);
    }
    if (b->is_draining && b->outbox.sent_n == 0) {
        leave_site(b);
        if (b->inbox.n == 0 && b->queue != NULL) {
            let_go_of_queue(b);
        }
    }
}

static struct hg_bridge *of_service(const struct hg_service *service)
{
    return HG_CONTAINER_OF(service, struct hg_bridge, service);
}

static void drain(struct hg_service *service)
{
    struct hg_bridge *b = of_service(service);
    b->is_draining = true;
    hg_timer_stop(&b->claim_timer);
    hg_bridge_look_later(b);
}

static bool is_idle(const struct hg_service *service)
{
    const struct hg_bridge *b = of_service(service);
    return b->queue == NULL && b->inbox.n == 0 && b->sites_n == 0;
}

static void close_bridge(struct hg_service *service)
{
    struct hg_bridge *b = of_service(service);
    b->is_draining = true;
    leave_site(b);
    let_go_of_queue(b);
    hg_timer_stop(&b->retry_timer);
    hg_session_detach(&b->session);
    b->is_closed = true;
    if (b->sites_n == 0) {
        free_bridge(b);
    }
}

static const struct hg_service_ops service_ops = {drain, is_idle, close_bridge};

/* ---- The beginning ---- */

static bool open_bridge(struct hg_worker *worker, size_t index)
{
    const struct hg_bridge_spec *spec = &worker->config->bridges[index];
    struct hg_bridge *b = hg_zalloc(sizeof(*b));
    if (b == NULL) {
        return false;
    }
    b->worker = worker;
    b->spec = spec;
    b->metrics = &worker->gateway->bridges[index];
    b->subs = hg_zalloc((spec->out_n + 1) * sizeof(*b->subs));
    b->later.run = look;
    b->service.ops = &service_ops;
    b->service.session = &b->session;
    hg_session_init(&b->session, &session_ops, HG_PROTO_MQTT, NULL, worker);
    b->session.is_trusted = true;
    hg_bridge_inbox_open(&b->inbox);
    hg_bridge_outbox_open(&b->outbox, spec->window);
    hg_timer_init(&b->claim_timer, ask);
    hg_timer_init(&b->retry_timer, retry);
    hg_list_add_last(&worker->services, &b->service.link);
    size_t echoes = (size_t)spec->window * ECHOES_PER_WINDOW;
    if (b->subs == NULL || (!spec->is_v5 && !hg_bridge_echo_open(&b->echo, echoes))) {
        free_bridge(b);
        return false;
    }
    hg_worker_timer(worker, &b->claim_timer, 0);
    return true;
}

/* Each bridge has one worker, in turn. */
static bool start(struct hg_worker *worker)
{
    for (size_t i = 0; i < worker->config->bridges_n; i++) {
        if (i % worker->gateway->workers_n == worker->index && !open_bridge(worker, i)) {
            return false;
        }
    }
    return true;
}

static bool prepare(void)
{
    return mosquitto_lib_init() == MOSQ_ERR_SUCCESS;
}

static void release(void)
{
    mosquitto_lib_cleanup();
}

const struct hg_adapter hg_bridge_adapter = {
    .name = "bridge",
    .prepare = prepare,
    .release = release,
    .start = start,
};
