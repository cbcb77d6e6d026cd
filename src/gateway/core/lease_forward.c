/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds a lease is asked: this worker by a call, another one of the process by mail, another
 * instance over RabbitMQ. There each worker that leases has a queue headgate.lease.BOOT.WORKER, which
 * goes with the connection that holds its leases; so a question that no queue takes means that they
 * are gone. All three get the same request and give the same answer, a byte for each lease. */
#include "base/mem.h"
#include "core/lease_priv.h"
#include "core/routing_priv.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    ANSWER_MS = 5000,
    REMOTE_MAX = 16, /* other instances that one call may ask */
    PATIENCE_MS = 60000,
    PREFETCH = 1000
};

#define QUEUE_PREFIX "headgate.lease."
#define TYPE_ASK     "headgate.lease.ask"
#define TYPE_ANSWER  "headgate.lease.answer"

/* What one worker is asked in a call. As a mail it comes back, whether anybody waits or not. */
struct part {
    struct hg_mail mail;
    struct hg_list link;        /* in hg_lease_call.parts; in none where nobody waits */
    struct hg_lease_call *call; /* NULL: nobody waits any more */
    struct hg_realm *home;
    uint64_t boot_id;
    uint64_t number; /* in hg_lease_forward.asked; 0: not asked over RabbitMQ (yet) */
    struct hg_chain publishes;
    struct hg_buf *request, *answers; /* the latter NULL: none */
    uint16_t worker;
    size_t ids_n;
    size_t at[]; /* of each of its leases, in the call */
};

struct hg_lease_call {
    struct hg_list link; /* in hg_lease_forward.calls */
    struct hg_leases *leases;
    hg_lease_answered_fn *answered;
    void *ctx;
    struct hg_list parts;
    struct hg_timer timer;
    size_t ids_n;
    uint8_t answers[];
};

/* ---- Parts and calls ---- */

static void free_part(struct part *part)
{
    hg_buf_unref(part->request);
    hg_buf_unref(part->answers);
    hg_free(part);
}

/* Nobody waits for it: freed now, or when the mail is back. */
static void leave_part(struct part *part)
{
    struct hg_leases *leases = part->call->leases;
    bool is_mail = part->boot_id == leases->worker->gateway->boot_id;
    if (part->number != 0) {
        hg_map_remove(&leases->forward.asked, hg_bytes(&part->number, sizeof(part->number)));
    }
    hg_publisher_forget(&part->publishes);
    hg_list_remove(&part->link);
    part->call = NULL;
    if (!is_mail) {
        free_part(part);
    }
}

void hg_lease_forget(struct hg_lease_call *call)
{
    while (!hg_list_is_empty(&call->parts)) {
        leave_part(HG_LIST_ENTRY(call->parts.next, struct part, link));
    }
    hg_timer_stop(&call->timer);
    hg_list_remove(&call->link);
    hg_free(call);
}

static void finish(struct hg_lease_call *call)
{
    call->answered(call->ctx, call->answers, call->ids_n);
    hg_lease_forget(call);
}

static void fire_overdue(struct hg_timer *timer)
{
    finish(HG_CONTAINER_OF(timer, struct hg_lease_call, timer));
}

/* Without an answer (n: 0), `otherwise` is it. */
static void settle_part(struct part *part, struct hg_bytes answers, enum hg_lease_answer otherwise)
{
    struct hg_lease_call *call = part->call;
    for (size_t i = 0; i < part->ids_n; i++) {
        uint8_t answer = (uint8_t)otherwise;
        if (answers.n == part->ids_n && answers.p[i] <= HG_LEASE_GONE) {
            answer = answers.p[i];
        }
        call->answers[part->at[i]] = answer;
    }
    leave_part(part);
    if (hg_list_is_empty(&call->parts)) {
        finish(call);
    }
}

/* ---- By mail ---- */

void hg_lease_on_mail(struct hg_worker *w, struct hg_mail *mail)
{
    struct part *part = HG_CONTAINER_OF(mail, struct part, mail);
    if (mail->kind == HG_MAIL_LEASE_ASK) {
        struct hg_writer answers = {0};
        struct hg_leases *leases = w->realms[part->home->vhost->index]->leases;
        if (leases != NULL) {
            hg_leases_apply(leases, hg_buf_bytes(part->request), &answers);
        }
        part->answers = hg_writer_n(&answers) == 0 ? NULL : hg_writer_take(&answers);
        hg_writer_close(&answers);
        mail->kind = HG_MAIL_LEASE_DONE;
        if (!hg_mailbox_send(part->home->worker->mailbox, mail)) {
            free_part(part);
        }
        return;
    }
    if (part->call != NULL) {
        struct hg_bytes answers =
            part->answers == NULL ? HG_BYTES("") : hg_buf_bytes(part->answers);
        settle_part(part, answers, HG_LEASE_GONE);
    }
    free_part(part);
}

/* False: that worker has ended, and what it held is gone. */
static bool send_mail(struct part *part)
{
    const struct hg_gateway *g = part->home->vhost->gateway;
    part->mail.kind = HG_MAIL_LEASE_ASK;
    return part->worker < g->workers_n &&
           hg_mailbox_send(g->workers[part->worker]->mailbox, &part->mail);
}

/* ---- Over RabbitMQ ---- */

static struct hg_bytes queue_name(char out[64], uint64_t boot_id, unsigned worker)
{
    int n = snprintf(out, 64, QUEUE_PREFIX "%016" PRIx64 ".%u", boot_id, worker);
    return hg_bytes(out, (size_t)n);
}

static enum hg_status send_message(struct hg_leases *leases, const struct hg_message_parts *parts,
                                   struct hg_publish_order order)
{
    struct hg_publisher *p = &leases->realm->routing->publisher;
    struct hg_message *message = hg_message_new(parts);
    if (message == NULL) {
        return HG_NO_MEMORY;
    }
    if (!hg_publisher_admits(p, hg_message_cost_bytes(message))) {
        hg_message_unref(message);
        return HG_BUSY;
    }
    order.message_own = &message;
    return hg_publisher_publish(p, &order);
}

static void on_settled(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct part *part = owner;
    (void)id;
    (void)reason;
    if (outcome == HG_UNROUTABLE) {
        settle_part(part, HG_BYTES(""), HG_LEASE_GONE);
    } else if (outcome != HG_OK) {
        settle_part(part, HG_BYTES(""), HG_LEASE_UNKNOWN);
    } /* else the answer is to come */
}

/* False: it could not be asked. */
static bool send_ask(struct hg_leases *leases, struct part *part)
{
    struct hg_lease_forward *f = &leases->forward;
    char to[64], reply_to[64], number[24];
    part->number = ++f->numbers_n;
    if (!hg_map_put(&f->asked, hg_bytes(&part->number, sizeof(part->number)), part)) {
        part->number = 0;
        return false;
    }
    const struct hg_worker *w = leases->worker;
    int n = snprintf(number, sizeof(number), "%" PRIu64, part->number);
    const struct hg_message_parts parts = {
        .routing_key = queue_name(to, part->boot_id, part->worker),
        .properties = {.type = HG_BYTES(TYPE_ASK),
                       .reply_to = queue_name(reply_to, w->gateway->boot_id, w->index),
                       .correlation_id = hg_bytes(number, (size_t)n)},
        .body = hg_buf_bytes(part->request),
        .is_mandatory = true,
    };
    const struct hg_publish_order order = {.owner = part,
                                           .owners = &part->publishes,
                                           .on_settled = on_settled,
                                           .timeout_ms = ANSWER_MS};
    return send_message(leases, &parts, order) == HG_OK;
}

static void answer_ask(struct hg_leases *leases, const struct hg_message *m)
{
    const struct hg_properties *asked = hg_message_properties(m);
    struct hg_writer answers = {0};
    hg_leases_apply(leases, hg_message_body(m), &answers);
    const struct hg_message_parts parts = {
        .routing_key = asked->reply_to,
        .properties = {.type = HG_BYTES(TYPE_ANSWER), .correlation_id = asked->correlation_id},
        .body = hg_writer_view(&answers),
    };
    /* Where it cannot be sent, who asks is told that nobody knows. */
    if (!answers.failed && hg_bytes_starts(asked->reply_to, HG_BYTES(QUEUE_PREFIX))) {
        (void)send_message(leases, &parts, (struct hg_publish_order){.owner = NULL});
    }
    hg_writer_close(&answers);
}

static void take_answer(struct hg_leases *leases, const struct hg_message *m)
{
    uint64_t number;
    struct part *part = NULL;
    if (hg_bytes_to_u64(hg_message_properties(m)->correlation_id, UINT64_MAX, &number)) {
        part = hg_map_find(&leases->forward.asked, hg_bytes(&number, sizeof(number)));
    }
    if (part != NULL) {
        settle_part(part, hg_message_body(m), HG_LEASE_UNKNOWN);
    }
}

static void on_delivery(void *ctx, struct hg_message *m, struct hg_ticket ticket,
                        bool is_redelivered)
{
    struct hg_leases *leases = ctx;
    struct hg_bytes type = hg_message_properties(m)->type;
    (void)is_redelivered;
    (void)hg_queue_consumer_ack(leases->forward.consumer, ticket);
    if (hg_bytes_eq(type, HG_BYTES(TYPE_ASK))) {
        answer_ask(leases, m);
    } else if (hg_bytes_eq(type, HG_BYTES(TYPE_ANSWER))) {
        take_answer(leases, m);
    }
}

/* Parts that waited for a queue to be answered at. */
static struct part *next_unasked(const struct hg_leases *leases)
{
    HG_LIST_FOREACH (it, &leases->forward.calls) {
        const struct hg_lease_call *call = HG_LIST_ENTRY(it, struct hg_lease_call, link);
        HG_LIST_FOREACH (at, &call->parts) {
            struct part *part = HG_LIST_ENTRY(at, struct part, link);
            if (part->number == 0 && part->boot_id != leases->worker->gateway->boot_id) {
                return part;
            }
        }
    }
    return NULL;
}

static void on_state(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct hg_leases *leases = ctx;
    struct hg_lease_forward *f = &leases->forward;
    struct part *part;
    (void)has_existed;
    if (status != HG_OK) {
        f->consumer = NULL;
    }
    while ((part = next_unasked(leases)) != NULL) {
        if (status != HG_OK || !send_ask(leases, part)) {
            settle_part(part, HG_BYTES(""), HG_LEASE_UNKNOWN);
        }
    }
    hg_leases_reachable(leases, status, reason);
}

static const struct hg_bindings_ops no_bindings = {.on_bound = NULL};
static const struct hg_queue_consumer_ops consumer_ops = {.on_state = on_state,
                                                          .on_delivery = on_delivery};

bool hg_lease_forward_listen(struct hg_leases *leases)
{
    const struct hg_worker *w = leases->worker;
    char name[64];
    if (leases->forward.consumer == NULL) {
        const struct hg_queue_consumer_spec spec = {
            .queue = queue_name(name, w->gateway->boot_id, w->index),
            .prefetch = PREFETCH,
            .patience_ms = PATIENCE_MS,
            .is_transient = true,
            .is_private = true,
            .must_match = true};
        leases->forward.consumer = hg_queue_consumer_open(
            &leases->realm->routing->consumers.seats, &spec, &consumer_ops, &no_bindings, leases);
    }
    return leases->forward.consumer != NULL;
}

bool hg_lease_forward_is_live(const struct hg_leases *leases)
{
    const struct hg_queue_consumer *consumer = leases->forward.consumer;
    return consumer != NULL && hg_queue_consumer_is_live(consumer);
}

/* ---- A call ---- */

/* The leases of one worker, from the first of them on, which are taken out of `ids`. NULL when there
 * is no memory. */
static struct part *gather(struct hg_lease_call *call, const struct hg_lease_order *order,
                           struct hg_lease_id *ids, bool *is_taken, size_t first)
{
    struct part *part = hg_zalloc(sizeof(*part) + (call->ids_n - first) * sizeof(part->at[0]));
    struct hg_writer w = {0};
    if (part == NULL) {
        return NULL;
    }
    hg_writer_u8(&w, HG_LEASE_VERSION);
    hg_writer_u8(&w, (uint8_t)order->act);
    hg_writer_u64(&w, order->lease_ms);
    hg_writer_u16(&w, (uint16_t)order->queue.n);
    hg_writer_bytes(&w, order->queue);
    part->boot_id = ids[first].boot_id;
    part->worker = ids[first].worker;
    for (size_t i = first; i < call->ids_n; i++) {
        if (!is_taken[i] && ids[i].boot_id == part->boot_id && ids[i].worker == part->worker) {
            is_taken[i] = true;
            part->at[part->ids_n++] = i;
            hg_writer_u32(&w, ids[i].slot);
            hg_writer_bytes(&w, hg_bytes(ids[i].secret, sizeof(ids[i].secret)));
        }
    }
    part->request = hg_writer_take(&w);
    hg_writer_close(&w);
    if (part->request == NULL) {
        hg_free(part);
        return NULL;
    }
    part->home = call->leases->realm;
    part->call = call;
    hg_list_add_last(&call->parts, &part->link);
    return part;
}

/* Ours is done now, others are asked. *remotes_n: how many other instances so far. */
static void send_part(struct part *part, unsigned *remotes_n)
{
    struct hg_lease_call *call = part->call;
    struct hg_leases *leases = call->leases;
    struct hg_worker *w = leases->worker;
    bool is_here = part->boot_id == w->gateway->boot_id;
    struct hg_writer answers = {0};
    if (is_here && part->worker == w->index) {
        hg_leases_apply(leases, hg_buf_bytes(part->request), &answers);
    } else {
        hg_count(&w->metrics.lease.leases_forwarded, part->ids_n);
    }
    bool is_sent = false;
    enum hg_lease_answer otherwise = HG_LEASE_GONE;
    if (is_here && part->worker != w->index) {
        is_sent = send_mail(part);
    } else if (!is_here) {
        otherwise = HG_LEASE_UNKNOWN;
        is_sent = ++*remotes_n <= REMOTE_MAX &&
                  (hg_lease_forward_is_live(leases) ? send_ask(leases, part)
                                                    : hg_lease_forward_listen(leases));
    }
    if (!is_sent) {
        struct hg_bytes view = hg_writer_view(&answers);
        for (size_t i = 0; i < part->ids_n; i++) {
            call->answers[part->at[i]] = view.n == part->ids_n ? view.p[i] : (uint8_t)otherwise;
        }
        leave_part(part);
        if (is_here) {
            free_part(part);
        }
    }
    hg_writer_close(&answers);
}

bool hg_lease_answer(struct hg_realm *realm, const struct hg_lease_order *order,
                     hg_lease_answered_fn *answered, void *ctx, struct hg_lease_call **call_out)
{
    struct hg_leases *leases = hg_realm_home(realm)->leases;
    struct hg_lease_call *call = leases == NULL ? NULL : hg_zalloc(sizeof(*call) + order->ids_n);
    struct hg_lease_id *ids = hg_zalloc((order->ids_n + 1) * sizeof(*ids));
    bool *is_taken = hg_zalloc(order->ids_n + 1);
    bool is_whole = call != NULL && ids != NULL && is_taken != NULL;
    unsigned remotes_n = 0;
    if (is_whole) {
        *call = (struct hg_lease_call){
            .leases = leases, .answered = answered, .ctx = ctx, .ids_n = order->ids_n};
        hg_list_init(&call->parts);
        hg_timer_init(&call->timer, fire_overdue);
        hg_list_add_last(&leases->forward.calls, &call->link);
        *call_out = call;
        for (size_t i = 0; i < order->ids_n; i++) {
            is_taken[i] = !hg_lease_id_read(order->ids[i], &ids[i]);
            call->answers[i] = is_taken[i] ? HG_LEASE_GONE : HG_LEASE_UNKNOWN;
        }
        for (size_t i = 0; i < order->ids_n; i++) {
            struct part *part = is_taken[i] ? NULL : gather(call, order, ids, is_taken, i);
            if (part != NULL) {
                send_part(part, &remotes_n);
            }
        }
        hg_worker_timer(realm->worker, &call->timer, ANSWER_MS);
        if (hg_list_is_empty(&call->parts)) {
            *call_out = NULL;
            finish(call);
        }
    } else {
        hg_free(call);
    }
    hg_free(ids);
    hg_free(is_taken);
    return is_whole;
}

/* ---- Life ---- */

void hg_lease_forward_open(struct hg_leases *leases)
{
    hg_list_init(&leases->forward.calls);
    hg_map_open(&leases->forward.asked);
}

bool hg_lease_forward_is_idle(const struct hg_leases *leases)
{
    return hg_list_is_empty(&leases->forward.calls);
}

void hg_lease_forward_close(struct hg_leases *leases)
{
    struct hg_lease_forward *f = &leases->forward;
    while (!hg_list_is_empty(&f->calls)) {
        finish(HG_LIST_ENTRY(f->calls.next, struct hg_lease_call, link));
    }
    hg_queue_consumer_close(f->consumer, HG_QUEUE_KEEP);
    hg_map_close(&f->asked);
}
