/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/topology.h"

#include "amqp/amqp_channel.h"
#include "base/mem.h"
#include "upstream/own_loop.h"

#include <signal.h>

/* One declaration; the plan is a list of them, sent one after another so that a refusal names its
 * culprit. */
struct step {
    enum step_kind { STEP_EXCHANGE, STEP_QUEUE, STEP_QUEUE_BINDING, STEP_EXCHANGE_BINDING } kind;
    const struct hg_exchange_decl *exchange;
    const struct hg_queue_decl *queue;
    const struct hg_binding_decl *binding;
};

struct hg_topology_run {
    struct hg_log *log;
    const void *owner;
    void (*release)(const void *owner);
    struct hg_amqp_conn *conn;
    struct hg_amqp_channel *channel;
    size_t steps_n, at;
    unsigned refused_n;
    hg_topology_done_fn *done;
    void *ctx;
    struct step steps[];
};

static void free_run(struct hg_topology_run *run)
{
    if (run != NULL && run->owner != NULL) {
        run->release(run->owner);
    }
    hg_free(run);
}

static size_t count_steps(const struct hg_topology_spec *spec)
{
    size_t n = spec->exchanges_n + spec->queues_n;
    for (size_t i = 0; i < spec->exchanges_n; i++) {
        n += spec->exchanges[i].bindings_n;
    }
    for (size_t i = 0; i < spec->queues_n; i++) {
        n += spec->queues[i].bindings_n;
    }
    return n;
}

/* Exchanges and queues first, then what binds them. */
static struct hg_topology_run *new_run(const struct hg_topology_spec *spec,
                                       struct hg_amqp_conn *conn, struct hg_log *log)
{
    size_t n = count_steps(spec);
    struct hg_topology_run *run = hg_zalloc(sizeof(*run) + n * sizeof(run->steps[0]));
    if (run == NULL) {
        return NULL;
    }
    run->log = log;
    run->conn = conn;
    run->owner = spec->owner;
    run->release = spec->release;
    if (run->owner != NULL) {
        spec->hold(run->owner);
    }
    for (size_t i = 0; i < spec->exchanges_n; i++) {
        run->steps[run->steps_n++] =
            (struct step){.kind = STEP_EXCHANGE, .exchange = &spec->exchanges[i]};
    }
    for (size_t i = 0; i < spec->queues_n; i++) {
        run->steps[run->steps_n++] = (struct step){.kind = STEP_QUEUE, .queue = &spec->queues[i]};
    }
    for (size_t i = 0; i < spec->exchanges_n; i++) {
        const struct hg_exchange_decl *x = &spec->exchanges[i];
        for (size_t j = 0; j < x->bindings_n; j++) {
            run->steps[run->steps_n++] = (struct step){
                .kind = STEP_EXCHANGE_BINDING, .exchange = x, .binding = &x->bindings[j]};
        }
    }
    for (size_t i = 0; i < spec->queues_n; i++) {
        const struct hg_queue_decl *q = &spec->queues[i];
        for (size_t j = 0; j < q->bindings_n; j++) {
            run->steps[run->steps_n++] =
                (struct step){.kind = STEP_QUEUE_BINDING, .queue = q, .binding = &q->bindings[j]};
        }
    }
    return run;
}

enum hg_status hg_topology_send_exchange(struct hg_amqp_channel *ch,
                                         const struct hg_exchange_decl *x)
{
    const struct hg_amqp_exchange_declare args = {
        .name = hg_bytes_str(x->spec.name),
        .type = hg_bytes_str(x->type),
        .is_passive = x->is_passive,
        .is_durable = x->is_durable,
        .is_auto_delete = x->is_auto_delete,
        .is_internal = x->is_internal,
        .arguments = x->arguments,
        .arguments_n = x->arguments_n,
    };
    return hg_amqp_exchange_declare(ch, 0, &args);
}

enum hg_status hg_topology_send_queue(struct hg_amqp_channel *ch, const struct hg_queue_decl *q)
{
    const struct hg_amqp_queue_declare args = {
        .name = hg_bytes_str(q->name),
        .is_passive = q->is_passive,
        .is_durable = q->is_durable,
        .is_auto_delete = q->is_auto_delete,
        .arguments = q->arguments,
        .arguments_n = q->arguments_n,
    };
    return hg_amqp_queue_declare(ch, 0, &args);
}

static enum hg_status send_binding(struct hg_topology_run *run, const struct step *s)
{
    const struct hg_binding_decl *b = s->binding;
    bool is_queue = s->kind == STEP_QUEUE_BINDING;
    const struct hg_amqp_binding args = {
        .queue = hg_bytes_str(is_queue ? s->queue->name : s->exchange->spec.name),
        .exchange = hg_bytes_str(b->exchange),
        .routing_key = hg_bytes_str(b->key),
        .arguments = b->arguments,
        .arguments_n = b->arguments_n,
    };
    return is_queue ? hg_amqp_queue_bind(run->channel, 0, &args)
                    : hg_amqp_exchange_bind(run->channel, 0, &args);
}

static enum hg_status send_step(struct hg_topology_run *run)
{
    const struct step *s = &run->steps[run->at];
    switch (s->kind) {
    case STEP_EXCHANGE: return hg_topology_send_exchange(run->channel, s->exchange);
    case STEP_QUEUE: return hg_topology_send_queue(run->channel, s->queue);
    case STEP_QUEUE_BINDING:
    case STEP_EXCHANGE_BINDING: return send_binding(run, s);
    }
    return HG_SERVER_ERROR;
}

static void end(struct hg_topology_run *run)
{
    hg_topology_done_fn *done = run->done;
    void *ctx = run->ctx;
    unsigned refused_n = run->refused_n;
    hg_topology_cancel(run);
    done(ctx, refused_n);
}

static const struct hg_amqp_channel_ops channel_ops;

/* Sends the next step, on a new channel if RabbitMQ closed the last one, or ends the run. */
static void advance(struct hg_topology_run *run)
{
    bool is_sent = false;
    if (run->at < run->steps_n && run->channel == NULL) {
        run->channel = hg_amqp_channel_open(run->conn, &channel_ops, run, 0);
        is_sent = run->channel != NULL;
    } else if (run->at < run->steps_n) {
        is_sent = send_step(run) == HG_OK;
    }
    if (!is_sent) {
        run->refused_n += run->at < run->steps_n; /* no memory */
        end(run);
    }
}

static void log_refusal(const struct hg_topology_run *run, const struct hg_amqp_close *why)
{
    const struct step *s = &run->steps[run->at];
    bool is_exchange = s->kind == STEP_EXCHANGE || s->kind == STEP_EXCHANGE_BINDING;
    HG_LOG(run->log, HG_LOG_ERROR, "topology.refused",
           HG_F_STR("where", is_exchange ? s->exchange->spec.where : s->queue->where),
           HG_F_STR(is_exchange ? "exchange" : "queue",
                    is_exchange ? s->exchange->spec.name : s->queue->name),
           HG_F_STR("bound_to", s->binding == NULL ? NULL : s->binding->exchange),
           HG_F_UINT("code", why->code), HG_F_BYTES("rabbitmq_says", why->text));
}

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    struct hg_topology_run *run = ctx;
    (void)cookie;
    run->at += reply->kind != HG_AMQP_CHANNEL_OPEN_OK;
    advance(run);
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_topology_run *run = ctx;
    run->channel = NULL;
    log_refusal(run, why);
    run->refused_n++;
    run->at++;
    advance(run);
}

static const struct hg_amqp_channel_ops channel_ops = {.on_reply = on_reply, .on_close = on_close};

struct hg_topology_run *hg_topology_start(const struct hg_topology_spec *spec,
                                          struct hg_amqp_conn *conn, struct hg_log *log,
                                          hg_topology_done_fn *done, void *ctx)
{
    struct hg_topology_run *run = new_run(spec, conn, log);
    if (run == NULL) {
        return NULL;
    }
    run->done = done;
    run->ctx = ctx;
    run->channel = hg_amqp_channel_open(conn, &channel_ops, run, 0);
    if (run->channel == NULL) {
        free_run(run);
        return NULL;
    }
    return run;
}

void hg_topology_cancel(struct hg_topology_run *run)
{
    if (run != NULL && run->channel != NULL) {
        hg_amqp_channel_close(run->channel);
    }
    free_run(run);
}

void hg_topology_lost(struct hg_topology_run *run)
{
    free_run(run); /* its channel went with the connection */
}

/* ---- Before the start, on a loop of its own ---- */

struct declaring {
    const struct hg_topology_spec *spec;
    struct hg_log *log;
    struct hg_topology_run *run;
    struct hg_link link;
    struct hg_own_loop own;
    uv_signal_t signals[2];
    uv_timer_t limit;
    int result; /* -1 while open */
};

static void finish(struct declaring *d, int result)
{
    if (d->result == -1) {
        d->result = result;
        hg_link_stop(&d->link);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    finish(handle->data, HG_TOPOLOGY_STOPPED);
}

static void on_limit(uv_timer_t *timer)
{
    finish(timer->data, HG_TOPOLOGY_AWAY);
}

static void on_declared(void *ctx, unsigned refused_n)
{
    struct declaring *d = ctx;
    d->run = NULL;
    finish(d, refused_n == 0 ? 0 : 1);
}

static void on_link_up(void *ctx)
{
    struct declaring *d = ctx;
    d->run = hg_topology_start(d->spec, hg_link_conn(&d->link), d->log, on_declared, d);
    if (d->run == NULL) {
        finish(d, 2);
    }
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct declaring *d = ctx;
    hg_topology_lost(d->run);
    d->run = NULL;
    bool may_change = d->link.config.secret != NULL && why->status == HG_BAD_LOGIN;
    if (d->result == -1 && !may_change && (why->status == HG_BAD_LOGIN || why->code == 530)) {
        finish(d, 1); /* logged by the link; trying again would not help */
    }
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

static int run_loop(struct declaring *d, const struct hg_link_config *link_config,
                    uint64_t limit_ms)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        uv_signal_init(&d->own.loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->own.loop, &d->limit);
    d->limit.data = d;
    if (limit_ms > 0) {
        uv_timer_start(&d->limit, on_limit, limit_ms, 0);
    }
    hg_link_open(&d->link, &d->own.net, link_config, "start", 0, "topology", &link_ops, d);
    while (d->result == -1 || !hg_link_is_stopped(&d->link)) {
        (void)hg_net_turn(&d->own.net, true);
    }
    hg_link_close(&d->link);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&d->limit, NULL);
    hg_own_loop_close(&d->own);
    return d->result;
}

int hg_topology_declare(const struct hg_topology_spec *spec,
                        const struct hg_link_config *link_config, uint64_t limit_ms,
                        struct hg_log *log)
{
    struct declaring *d = hg_zalloc(sizeof(*d));
    if (d == NULL || !hg_own_loop_open(&d->own, log)) {
        hg_free(d);
        return 2;
    }
    d->spec = spec;
    d->log = log;
    d->result = -1;
    int result = run_loop(d, link_config, limit_ms);
    hg_free(d);
    return result;
}
