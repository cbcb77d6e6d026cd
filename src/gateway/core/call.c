/* SPDX-License-Identifier: Apache-2.0 */
/* Matches replies with calls. The correlation_id on the wire is ours, 128 random bits: clients may
 * use one twice, and a responder could answer the calls of others if it could guess theirs. */
#include "core/call.h"

#include "base/mem.h"
#include "core/config.h"
#include "core/routing_priv.h"

#include <stdio.h>

#define CORRELATION HG_BYTES("x-correlation-id")

struct hg_call {
    struct hg_routing *routing;
    struct hg_list link; /* in hg_calls.all */
    struct hg_timer timer;
    struct hg_chain publishes; /* the request, until it has its outcome */
    hg_call_done_fn *done;
    void *ctx;
    enum hg_protocol proto;
    char id[33]; /* correlation_id */
};

static struct hg_call_metrics *metrics_of(const struct hg_call *call)
{
    return &call->routing->worker->metrics.call;
}

static void free_call(struct hg_call *call)
{
    struct hg_calls *calls = &call->routing->calls;
    hg_publisher_forget(&call->publishes);
    hg_timer_stop(&call->timer);
    hg_list_remove(&call->link);
    hg_map_remove(&calls->by_id, hg_bytes_str(call->id));
    calls->n--;
    hg_uncount(&metrics_of(call)->calls, 1);
    hg_free(call);
}

static void end(struct hg_call *call, enum hg_status outcome, struct hg_bytes reason,
                struct hg_message *reply)
{
    hg_call_done_fn *done = call->done;
    void *ctx = call->ctx;
    free_call(call);
    done(ctx, outcome, reason, reply);
}

/* ---- What may happen to a call ---- */

static void on_settled(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_call *call = owner;
    struct hg_proto_metrics *metrics = &call->routing->worker->metrics.proto[call->proto];
    (void)id;
    hg_count(outcome == HG_OK ? &metrics->confirmed : &metrics->refused, 1);
    if (outcome == HG_TIMED_OUT) {
        hg_count(&metrics_of(call)->call_losses, 1);
    }
    if (outcome != HG_OK) { /* else a queue has it, and the reply may come */
        end(call, outcome, reason, NULL);
    }
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_call *call = HG_CONTAINER_OF(timer, struct hg_call, timer);
    enum hg_status status = HG_BROKER_AWAY;
    if (!hg_publisher_withdraw(&call->publishes)) {
        status = HG_NO_REPLY;
        hg_count(&metrics_of(call)->call_timeouts, 1);
    }
    end(call, status, hg_bytes_str(hg_status_text(status)), NULL);
}

static void on_reply(void *ctx, struct hg_message *message)
{
    struct hg_routing *r = ctx;
    struct hg_bytes id = hg_message_properties(message)->correlation_id;
    struct hg_call *call = hg_map_find(&r->calls.by_id, id);
    if (call == NULL) {
        hg_count(&r->worker->metrics.call.call_late_replies, 1);
        return;
    }
    hg_count(&metrics_of(call)->call_replies, 1);
    end(call, HG_OK, HG_BYTES(""), message);
}

static void on_state(void *ctx, enum hg_status status, struct hg_bytes reason)
{
    struct hg_routing *r = ctx;
    while (status != HG_OK && !hg_list_is_empty(&r->calls.all)) {
        struct hg_call *call = HG_LIST_ENTRY(r->calls.all.next, struct hg_call, link);
        bool is_unsent = hg_publisher_withdraw(&call->publishes);
        hg_count(&metrics_of(call)->call_losses, !is_unsent);
        end(call, is_unsent ? HG_BROKER_AWAY : HG_TIMED_OUT, reason, NULL);
    }
    hg_session_release_held(r, false); /* those who waited for the address, too */
}

static const struct hg_replies_ops replies_ops = {.on_state = on_state, .on_reply = on_reply};

/* ---- Beginning ---- */

static struct hg_call *make(struct hg_session *s, hg_call_done_fn *done, void *ctx)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_call *call = hg_zalloc(sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    *call = (struct hg_call){
        .routing = r, .done = done, .ctx = ctx, .proto = (enum hg_protocol)s->proto};
    snprintf(call->id, sizeof(call->id), "%016llx%016llx", (unsigned long long)hg_random_u64(),
             (unsigned long long)hg_random_u64());
    if (!hg_map_put(&r->calls.by_id, hg_bytes_str(call->id), call)) {
        hg_free(call);
        return NULL;
    }
    hg_timer_init(&call->timer, on_timer);
    hg_list_init(&call->link);
    hg_list_add_last(&r->calls.all, &call->link);
    r->calls.n++;
    hg_count(&metrics_of(call)->calls, 1);
    return call;
}

static bool has_header(const struct hg_properties *p, struct hg_bytes name)
{
    for (size_t i = 0; i < p->headers_n; i++) {
        if (hg_bytes_eq(p->headers[i].name, name)) {
            return true;
        }
    }
    return false;
}

static enum hg_status send_request(struct hg_session *s, const struct hg_publish_args *args,
                                   struct hg_bytes address, struct hg_call *call,
                                   const char **why_out)
{
    struct hg_publish_args request = *args;
    struct hg_bytes theirs = args->properties.correlation_id;
    const struct hg_header mark = {CORRELATION, {.kind = HG_VALUE_STRING, .u.bytes = theirs}};
    request.properties.correlation_id = hg_bytes_str(call->id);
    request.properties.reply_to = address;
    request.is_mandatory = true;
    request.is_retained = false;
    request.marks = &mark;
    request.marks_n = theirs.n > 0 && !has_header(&args->properties, CORRELATION);
    const struct hg_publish_order asked = {
        .owner = call,
        .owners = &call->publishes,
        .on_settled = on_settled,
        .timeout_ms = args->timeout_ms,
        .is_once = true,
    };
    return hg_session_publish(s, &request, &asked, NULL, why_out);
}

enum hg_status hg_call_begin(struct hg_session *s, const struct hg_publish_args *args,
                             hg_call_done_fn *done, void *ctx, struct hg_call **call_out,
                             const char **why_out)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_bytes address;
    *why_out = NULL;
    enum hg_status status = HG_TOO_MANY;
    if (r->calls.n < s->worker->config->http_rpc_max) {
        status = hg_replies_address(&r->calls.replies, &address);
    } else {
        hg_worker_refused(s->worker, HG_LIMIT_HTTP_RPC);
    }
    if (status == HG_HELD) {
        return hg_session_hold(s, args->never_held);
    }
    struct hg_call *call = status == HG_OK ? make(s, done, ctx) : NULL;
    if (call == NULL) {
        hg_session_end_hold(s);
        hg_count(&s->worker->metrics.proto[s->proto].refused, 1);
        return status == HG_OK ? HG_NO_MEMORY : status;
    }
    status = send_request(s, args, address, call, why_out);
    if (status != HG_OK) {
        free_call(call);
        return status;
    }
    hg_count(&metrics_of(call)->calls_total, 1);
    hg_worker_timer(s->worker, &call->timer, args->timeout_ms);
    *call_out = call;
    return HG_OK;
}

void hg_call_forget(struct hg_call *call)
{
    if (call != NULL) {
        (void)hg_publisher_withdraw(&call->publishes);
        free_call(call);
    }
}

/* ---- Life ---- */

void hg_calls_open(struct hg_routing *r)
{
    hg_map_open(&r->calls.by_id);
    hg_list_init(&r->calls.all);
    hg_replies_open(&r->calls.replies, &r->publisher.link, r->worker->log,
                    &r->worker->metrics.upstream, &replies_ops, r);
}

void hg_calls_on_link(struct hg_routing *r, bool is_up)
{
    (is_up ? hg_replies_up : hg_replies_lost)(&r->calls.replies);
}

void hg_calls_close(struct hg_routing *r)
{
    while (!hg_list_is_empty(&r->calls.all)) {
        hg_call_forget(HG_LIST_ENTRY(r->calls.all.next, struct hg_call, link));
    }
    hg_replies_close(&r->calls.replies);
    hg_map_close(&r->calls.by_id);
}
