/* SPDX-License-Identifier: Apache-2.0 */
/* The log's order decides: a claim is written, and when it has come back with all that was before it,
 * the index says whose it is. */
#include "core/once.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/config.h"
#include "core/state.h"
#include "core/worker.h"

enum { RENEWALS_N = 3 }; /* in a claim's time */

struct hg_once {
    struct hg_realm *realm;
    struct hg_request_record record;
    struct hg_state_wait wait;
    struct hg_timer renewal;
    void (*on_known)(void *ctx);
    void *ctx;
    uint64_t begun_ms;
    enum hg_status outcome; /* of the claim's write */
    bool is_waiting;
    bool is_ours; /* it was, when looked at last */
    uint8_t key[];
};

static uint64_t claim_ms(const struct hg_once *x)
{
    return x->realm->worker->config->http_idempotency_claim_ms;
}

static enum hg_status write_record(struct hg_once *x, uint64_t lasts_ms, struct hg_state_wait *wait)
{
    x->record.at_ms = hg_clock_wall_ms();
    x->record.ends_ms = x->record.at_ms + lasts_ms;
    return hg_state_write_request(x->realm, &x->record, wait);
}

static enum hg_once_state decided(struct hg_worker *w, enum hg_request_state state)
{
    static const enum hg_once_state states[] = {
        [HG_REQUEST_UNKNOWN] = HG_ONCE_FULL,        [HG_REQUEST_OURS] = HG_ONCE_OURS,
        [HG_REQUEST_OURS_AGAIN] = HG_ONCE_OURS,     [HG_REQUEST_ANSWERED] = HG_ONCE_ANSWERED,
        [HG_REQUEST_UNDER_WAY] = HG_ONCE_UNDER_WAY, [HG_REQUEST_DIFFERS] = HG_ONCE_DIFFERS,
    };
    struct hg_state_metrics *m = &w->metrics.state;
    enum hg_once_state at = states[state];
    hg_count(&m->requests_repeated, at == HG_ONCE_ANSWERED);
    hg_count(&m->requests_refused, at != HG_ONCE_OURS && at != HG_ONCE_ANSWERED);
    return at;
}

static enum hg_request_state look(struct hg_once *x, struct hg_request_answer *answer_out)
{
    struct hg_state_index *index = hg_state_index_of(x->realm->vhost);
    return index == NULL ? HG_REQUEST_UNKNOWN
                         : hg_state_index_look(index, &x->record, hg_clock_wall_ms(), answer_out);
}

static void warn(const struct hg_once *x, const char *event, const char *reason, const char *effect)
{
    HG_LOG_LIMITED(x->realm->worker->log, HG_LOG_WARN, event, HG_BYTES(""),
                   HG_F_BYTES("key", x->record.key), HG_F_STR("reason", reason),
                   HG_F_STR("effect", effect));
}

static void fire_renewal(struct hg_timer *timer)
{
    struct hg_once *x = HG_CONTAINER_OF(timer, struct hg_once, renewal);
    (void)write_record(x, claim_ms(x), NULL); /* if it is lost, the next one may not be */
    hg_worker_timer(x->realm->worker, timer, claim_ms(x) / RENEWALS_N);
}

/* The first time that it is seen to be ours. */
static void take(struct hg_once *x, bool is_again)
{
    x->is_ours = true;
    hg_worker_timer(x->realm->worker, &x->renewal, claim_ms(x) / RENEWALS_N);
    hg_count(&x->realm->worker->metrics.state.requests_claimed, 1);
    hg_count(&x->realm->worker->metrics.state.requests_again, is_again);
    if (is_again) {
        warn(x, "request.again", "the instance that had it is not heard of any more",
             "done again, perhaps a second time: consumers know it by its message_id");
    }
}

static void on_claimed(struct hg_state_wait *wait, enum hg_status status)
{
    struct hg_once *x = HG_CONTAINER_OF(wait, struct hg_once, wait);
    /* What was long on its way could run out before it is renewed. */
    bool is_late = hg_clock_ms() - x->begun_ms > claim_ms(x) / 2;
    x->is_waiting = false;
    x->outcome = status == HG_OK && is_late ? HG_TIMED_OUT : status;
    if (x->outcome != HG_OK) {
        hg_count(&x->realm->worker->metrics.state.requests_refused, 1);
        warn(x, "request.claim_failed", hg_status_text(x->outcome), "answered 503, and not done");
    }
    x->on_known(x->ctx);
}

static struct hg_once *once_new(const struct hg_once_ask *ask)
{
    static const uint64_t seed[2] = {0x6865616467617465, 0x7265717565737473}; /* everywhere */
    struct hg_once *x = hg_zalloc(sizeof(*x) + ask->key.n);
    if (x == NULL) {
        return NULL;
    }
    memcpy(x->key, ask->key.p, ask->key.n);
    x->realm = hg_realm_home(ask->realm);
    x->on_known = ask->on_known;
    x->ctx = ask->ctx;
    x->begun_ms = hg_clock_ms();
    x->wait.done = on_claimed;
    hg_timer_init(&x->renewal, fire_renewal);
    x->record = (struct hg_request_record){
        .act = HG_REQUEST_CLAIM,
        .key = hg_bytes(x->key, ask->key.n),
        .boot_id = ask->realm->worker->gateway->boot_id,
        .number = hg_random_u64() >> 1,
        .fingerprint = {hg_siphash(seed, ask->target), hg_siphash(seed, ask->body)},
    };
    return x;
}

enum hg_once_state hg_once_begin(const struct hg_once_ask *ask, struct hg_once **once_out,
                                 struct hg_request_answer *answer_out)
{
    struct hg_once *x = once_new(ask);
    *once_out = NULL;
    if (x == NULL) {
        return HG_ONCE_AWAY;
    }
    enum hg_request_state known = look(x, answer_out);
    if (known != HG_REQUEST_UNKNOWN) {
        hg_free(x);
        return decided(ask->realm->worker, known);
    }
    enum hg_status status = write_record(x, claim_ms(x), &x->wait);
    if (status != HG_OK) {
        hg_count(&ask->realm->worker->metrics.state.requests_refused, 1);
        warn(x, "request.claim_failed", hg_status_text(status), "answered 503, and not done");
        hg_free(x);
        return HG_ONCE_AWAY;
    }
    x->is_waiting = true;
    *once_out = x;
    return HG_ONCE_WAITING;
}

enum hg_once_state hg_once_look(struct hg_once *x, struct hg_request_answer *answer_out)
{
    if (x->is_waiting) {
        return HG_ONCE_WAITING;
    }
    if (x->outcome != HG_OK) {
        return HG_ONCE_AWAY;
    }
    enum hg_request_state state = look(x, answer_out);
    bool is_ours = state == HG_REQUEST_OURS || state == HG_REQUEST_OURS_AGAIN;
    if (is_ours && !x->is_ours) {
        take(x, state == HG_REQUEST_OURS_AGAIN);
    }
    x->is_ours = is_ours;
    return decided(x->realm->worker, state);
}

static void write_answer(struct hg_once *x, unsigned status, const char *type,
                         const struct hg_bytes *body)
{
    struct hg_writer w = {0};
    struct hg_request_record *r = &x->record;
    bool is_short = body->n <= HG_REQUEST_BODY_MAX;
    if (!is_short) {
        hg_writer_printf(&w,
                         "{\"title\":\"Conflict\",\"status\":409,\"detail\":\"another instance did "
                         "this request and answered it %u; that answer is too long to be given "
                         "again\"}\n",
                         status);
    }
    r->act = HG_REQUEST_ANSWER;
    r->status = is_short ? status : 409;
    r->type =
        is_short ? hg_bytes_str(type == NULL ? "" : type) : HG_BYTES("application/problem+json");
    r->body = is_short ? *body : hg_writer_view(&w);
    enum hg_status written =
        w.failed ? HG_NO_MEMORY
                 : write_record(x, x->realm->worker->config->http_idempotency_window_ms, NULL);
    if (written != HG_OK) {
        warn(x, "request.answer_lost", hg_status_text(written),
             "another instance does a repeat again once the claim has run out");
    }
    hg_writer_close(&w);
}

void hg_once_end(struct hg_once *once_own, unsigned status, const char *type,
                 const struct hg_bytes *body)
{
    struct hg_once *x = once_own;
    bool may_be_ours = x->is_waiting || x->outcome != HG_OK || x->is_ours;
    hg_timer_stop(&x->renewal);
    hg_state_cancel(&x->wait);
    if (body != NULL && x->is_ours) {
        write_answer(x, status, type, body);
    } else if (may_be_ours) {
        x->record.act = HG_REQUEST_FREE;
        (void)write_record(x, claim_ms(x), NULL); /* else it runs out */
    }
    hg_free(x);
}
