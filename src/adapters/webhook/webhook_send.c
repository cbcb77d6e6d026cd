/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, and what their answers mean for the message. */
#include "adapters/http/http_fields.h"
#include "adapters/webhook/webhook_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "message/expiry.h"

#include <stdio.h>

enum { GONE = 410, WHY_MAX = 64 };

/* ---- What a message says of itself ---- */

const struct hg_value *hg_webhook_header(const struct hg_webhook *h, const struct hg_message *m,
                                         struct hg_bytes name)
{
    const struct hg_value *of = hg_message_header(m, HG_BYTES(HG_WEBHOOK_HEADER));
    bool is_ours = of != NULL && of->kind == HG_VALUE_STRING &&
                   hg_bytes_eq(of->u.bytes, hg_bytes_str(h->spec->name));
    return is_ours ? hg_message_header(m, name) : NULL;
}

static struct hg_bytes text_header(const struct hg_webhook *h, const struct hg_message *m,
                                   struct hg_bytes name, struct hg_bytes otherwise)
{
    const struct hg_value *v = hg_webhook_header(h, m, name);
    bool is_text = v != NULL && (v->kind == HG_VALUE_STRING || v->kind == HG_VALUE_BINARY);
    return is_text ? v->u.bytes : otherwise;
}

static uint64_t number_header(const struct hg_webhook *h, const struct hg_message *m,
                              struct hg_bytes name, uint64_t otherwise)
{
    const struct hg_value *v = hg_webhook_header(h, m, name);
    return v != NULL && v->kind == HG_VALUE_INT && v->u.i >= 0 ? (uint64_t)v->u.i : otherwise;
}

struct hg_bytes hg_webhook_exchange(const struct hg_webhook *h, const struct hg_message *m)
{
    return text_header(h, m, HG_BYTES(HG_WEBHOOK_EXCHANGE), hg_message_exchange(m));
}

struct hg_bytes hg_webhook_key(const struct hg_webhook *h, const struct hg_message *m)
{
    return text_header(h, m, HG_BYTES(HG_WEBHOOK_KEY), hg_message_routing_key(m));
}

/* Since 1970. What RabbitMQ had left of the message's time counts from now. */
static uint64_t expires_ms(const struct hg_webhook *h, const struct hg_message *m)
{
    uint64_t now_ms = hg_clock_wall_ms();
    uint64_t left_ms = hg_message_expiry_left_ms(m, now_ms);
    uint64_t otherwise = left_ms == HG_EXPIRY_NONE ? HG_WEBHOOK_NEVER : now_ms + left_ms;
    return number_header(h, m, HG_BYTES(HG_WEBHOOK_EXPIRES), otherwise);
}

/* ---- Deliveries ---- */

/* Empty: it has no order. */
static struct hg_bytes order_key(const struct hg_webhook *h, const struct hg_message *m,
                                 struct hg_writer *text)
{
    if (h->spec->order == HG_WEBHOOK_UNORDERED) {
        return hg_bytes(NULL, 0);
    }
    if (h->spec->order == HG_WEBHOOK_BY_ROUTING_KEY) {
        return hg_webhook_key(h, m);
    }
    const struct hg_value *v = hg_message_header(m, hg_bytes_str(h->spec->order_header));
    if (v != NULL) {
        hg_value_write_text(text, v);
    }
    return hg_writer_view(text);
}

static void set_progress(const struct hg_webhook *h, struct hg_webhook_letter *letter)
{
    const struct hg_message *m = letter->message;
    uint64_t attempts = number_header(h, m, HG_BYTES(HG_WEBHOOK_ATTEMPTS), 0);
    uint64_t due_ms = number_header(h, m, HG_BYTES(HG_WEBHOOK_DUE), 0);
    uint64_t now_ms = hg_clock_wall_ms();
    letter->expires_ms = expires_ms(h, m);
    if (attempts > letter->attempts) {
        letter->attempts = attempts > UINT32_MAX ? UINT32_MAX : (uint32_t)attempts;
    }
    if (due_ms <= now_ms) {
        return;
    }
    /* Its delay queue was too short. A clock that has been put back puts nothing off for long. */
    uint64_t left_ms = due_ms - now_ms;
    left_ms = left_ms > h->spec->most_ms ? h->spec->most_ms : left_ms;
    if (left_ms <= h->spec->max_hold_ms || h->spec->order != HG_WEBHOOK_UNORDERED) {
        letter->due_ms += left_ms;
    } else {
        letter->state = HG_WEBHOOK_LEAVING;
        letter->pause_ms = left_ms;
    }
}

static bool take(struct hg_webhook *h, const struct hg_delivery *d)
{
    struct hg_writer text = {0};
    struct hg_message *m = d->message;
    struct hg_bytes id =
        text_header(h, m, HG_BYTES(HG_WEBHOOK_ID), hg_message_properties(m)->message_id);
    struct hg_bytes key = order_key(h, m, &text);
    struct hg_webhook_letter *letter =
        text.failed ? NULL : hg_webhook_ledger_take(&h->ledger, m, d->ticket, key, hg_clock_ms());
    hg_writer_close(&text);
    if (letter == NULL) {
        return false;
    }
    if (!hg_webhook_id(id, letter->id)) {
        hg_webhook_ledger_end(&h->ledger, letter);
        return false;
    }
    set_progress(h, letter);
    return true;
}

void hg_webhook_on_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_webhook *h = HG_CONTAINER_OF(s, struct hg_webhook, session);
    (void)matches;
    if (d->queue != h->queue || h->is_draining || h->is_gone) {
        return; /* what has no answer goes back into the queue at the end */
    }
    bool was_here = hg_webhook_header(h, d->message, HG_BYTES(HG_WEBHOOK_HEADER)) != NULL;
    if (h->has_own_queue && d->address.n == 0 && !was_here) {
        hg_queue_ack(d->queue, d->ticket); /* bindings may be wider than the filter */
    } else if (!take(h, d)) {
        hg_queue_nack(d->queue, d->ticket, true);
    }
    hg_webhook_look_later(h);
}

/* ---- Sending ---- */

static void add_field(void *call, struct hg_bytes name, struct hg_bytes value)
{
    hg_webhook_call_field(call, name, value);
}

static void add_text(struct hg_webhook_call *call, struct hg_bytes name, struct hg_bytes value)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < ' ' || value.p[i] == 0x7f) {
            return;
        }
    }
    hg_webhook_call_field(call, name, value);
}

static bool add_signature(const struct hg_webhook *h, struct hg_webhook_call *call,
                          const struct hg_webhook_letter *letter)
{
    struct hg_writer text = {0};
    struct hg_bytes id = hg_bytes_str(letter->id);
    uint64_t now_s = hg_clock_wall_ms() / 1000;
    hg_writer_dec(&text, now_s);
    hg_webhook_call_field(call, HG_BYTES("webhook-id"), id);
    hg_webhook_call_field(call, HG_BYTES("webhook-timestamp"), hg_writer_view(&text));
    hg_writer_reset(&text);
    bool is_signed = hg_webhook_sign(&text, h->spec->secrets, h->spec->secrets_n, id, now_s,
                                     hg_message_body(letter->message));
    if (is_signed && h->spec->secrets_n > 0) {
        hg_webhook_call_field(call, HG_BYTES("webhook-signature"), hg_writer_view(&text));
    }
    hg_writer_close(&text);
    return is_signed;
}

static bool post(struct hg_webhook *h, struct hg_webhook_letter *letter)
{
    const struct hg_message *m = letter->message;
    struct hg_webhook_call *call = hg_webhook_client_call(h->client);
    if (call == NULL) {
        return false;
    }
    bool is_whole = hg_http_fields_write(m, add_field, call) && add_signature(h, call, letter);
    add_text(call, HG_BYTES("Amqp-Exchange"), hg_webhook_exchange(h, m));
    add_text(call, HG_BYTES("Amqp-Routing-Key"), hg_webhook_key(h, m));
    if (!is_whole) {
        hg_webhook_call_drop(call);
        return false;
    }
    return hg_webhook_call_send(call, letter->number, hg_message_body(m));
}

static void end_expired(struct hg_webhook *h, struct hg_webhook_letter *letter)
{
    hg_count(&h->metrics->webhook_expired, 1);
    hg_webhook_finish(h, letter);
}

void hg_webhook_send_waiting(struct hg_webhook *h, uint64_t now_ms)
{
    struct hg_webhook_letter *letter;
    while (h->sent_n < h->spec->concurrency && hg_webhook_breaker_admits(&h->breaker, now_ms) &&
           (letter = hg_webhook_ledger_next(&h->ledger, now_ms)) != NULL) {
        if (letter->expires_ms <= hg_clock_wall_ms()) {
            end_expired(h, letter);
            continue;
        }
        if (!post(h, letter)) {
            letter->due_ms = now_ms + h->spec->first_ms; /* no memory */
            continue;
        }
        letter->state = HG_WEBHOOK_SENT;
        h->sent_n++;
        hg_webhook_breaker_sent(&h->breaker);
        hg_count(&h->metrics->webhook_attempts, 1);
    }
}

/* ---- Answers ---- */

static hg_counter *failures_of(struct hg_webhook_metrics *m, const struct hg_webhook_result *r)
{
    switch (r->outcome) {
    case HG_WEBHOOK_TIMED_OUT: return &m->webhook_failed_timeout;
    case HG_WEBHOOK_NO_ANSWER: return &m->webhook_failed_connection;
    case HG_WEBHOOK_FORBIDDEN: return &m->webhook_failed_address;
    case HG_WEBHOOK_ANSWERED: break;
    }
    return r->status >= 500   ? &m->webhook_failed_5xx
           : r->status >= 400 ? &m->webhook_failed_4xx
                              : &m->webhook_failed_3xx;
}

static bool is_delivered(const struct hg_webhook_result *r)
{
    return r->outcome == HG_WEBHOOK_ANSWERED && r->status >= 200 && r->status < 300;
}

static void write_why(char out[WHY_MAX], const struct hg_webhook_result *r)
{
    bool is_redirect = r->status >= 300 && r->status < 400;
    snprintf(out, WHY_MAX, "HTTP %u%s", r->status,
             is_redirect ? ", redirects are not followed" : "");
}

static void deliver(struct hg_webhook *h, struct hg_webhook_letter *letter)
{
    hg_count(&h->metrics->webhook_delivered, 1);
    if (hg_webhook_breaker_succeeded(&h->breaker)) {
        HG_LOG(h->worker->log, HG_LOG_INFO, "webhook.closed", HG_F_STR("webhook", h->spec->name));
    }
    hg_webhook_finish(h, letter);
}

static void note_failure(struct hg_webhook *h, const struct hg_webhook_letter *letter,
                         const struct hg_webhook_result *r, uint64_t now_ms, const char *why)
{
    hg_count(failures_of(h->metrics, r), 1);
    HG_LOG_LIMITED(h->worker->log, HG_LOG_WARN, "webhook.failed", hg_bytes_str(h->spec->name),
                   HG_F_STR("webhook", h->spec->name), HG_F_STR("url", h->spec->origin),
                   HG_F_STR("id", letter->id), HG_F_UINT("attempts", letter->attempts),
                   HG_F_STR("reason", why));
    if (hg_webhook_breaker_failed(&h->breaker, now_ms)) {
        HG_LOG_LIMITED(h->worker->log, HG_LOG_WARN, "webhook.opened", hg_bytes_str(h->spec->name),
                       HG_F_STR("webhook", h->spec->name), HG_F_STR("url", h->spec->origin),
                       HG_F_UINT("failures", h->breaker.failures_n));
    }
}

/* In the gateway for as long as max_hold and max_ack_wait allow, else in RabbitMQ. */
static void put_off(struct hg_webhook *h, struct hg_webhook_letter *letter, uint64_t asked_ms,
                    uint64_t now_ms)
{
    const struct hg_webhook_spec *spec = h->spec;
    uint64_t pause_ms = hg_webhook_pause_ms(spec->first_ms, spec->most_ms, letter->attempts,
                                            asked_ms, hg_random_u64());
    bool is_ordered = spec->order != HG_WEBHOOK_UNORDERED;
    if (is_ordered && pause_ms > spec->max_hold_ms) {
        pause_ms = spec->max_hold_ms;
    }
    bool is_held = is_ordered || (pause_ms <= spec->max_hold_ms &&
                                  now_ms + pause_ms < letter->taken_ms + spec->max_ack_wait_ms);
    letter->state = is_held ? HG_WEBHOOK_WAITING : HG_WEBHOOK_LEAVING;
    letter->due_ms = is_held ? now_ms + pause_ms : now_ms;
    letter->pause_ms = pause_ms;
}

static void fail(struct hg_webhook *h, struct hg_webhook_letter *letter,
                 const struct hg_webhook_result *r)
{
    char text[WHY_MAX];
    const char *why = r->error;
    uint64_t now_ms = hg_clock_ms();
    bool is_gone = r->outcome == HG_WEBHOOK_ANSWERED && r->status == GONE;
    if (r->outcome == HG_WEBHOOK_ANSWERED) {
        write_why(text, r);
        why = text;
    }
    letter->attempts += letter->attempts < UINT32_MAX;
    note_failure(h, letter, r, now_ms, why);
    if (is_gone) {
        hg_webhook_stop(h);
    }
    if (letter->is_stale) { /* RabbitMQ delivers it again */
        hg_webhook_ledger_end(&h->ledger, letter);
        return;
    }
    hg_free(letter->why_own);
    letter->why_own = hg_strdup(why);
    letter->status = r->status;
    letter->is_dead = is_gone || letter->attempts >= h->spec->max_attempts;
    if (letter->is_dead) {
        letter->state = HG_WEBHOOK_LEAVING;
        letter->due_ms = now_ms;
    } else {
        put_off(h, letter, r->retry_after_ms, now_ms);
    }
}

void hg_webhook_on_done(void *webhook, uint64_t id, const struct hg_webhook_result *result)
{
    struct hg_webhook *h = webhook;
    struct hg_webhook_letter *letter = hg_webhook_ledger_find(&h->ledger, id);
    h->sent_n--;
    hg_count(&h->metrics->webhook_duration_ms, result->took_ms);
    if (is_delivered(result)) {
        deliver(h, letter);
    } else {
        fail(h, letter, result);
    }
    hg_webhook_look_later(h);
}
