/* SPDX-License-Identifier: Apache-2.0 */
/* SEND: into the rules or to RabbitMQ's own destinations, and what becomes of the receipt. */
#include "adapters/stomp/stomp_message.h"
#include "adapters/stomp/stomp_priv.h"
#include "adapters/stomp/stomp_queue.h"
#include "adapters/stomp/stomp_receipt.h"
#include "adapters/stomp/stomp_sub.h"
#include "adapters/stomp/stomp_tx.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/worker.h"

/* ---- Receipts ---- */

/* Refusals that the frame itself brought about: told even where no receipt was asked for. */
static bool is_senders_fault(enum hg_status status)
{
    switch (status) {
    case HG_NO_RULE:
    case HG_BAD_ADDRESS:
    case HG_KEY_TOO_LONG:
    case HG_BAD_PROPERTY:
    case HG_TOO_LARGE:
    case HG_TOO_FAST:
    case HG_NOT_ALLOWED:
    case HG_NO_RETAIN:
    case HG_NO_EXCHANGE:
    case HG_REFUSED: return true;
    default: return false;
    }
}

static void log_lost(struct hg_stomp_session *s, enum hg_status status, struct hg_bytes reason)
{
    const char *peer = hg_conn_peer(s->base.conn);
    HG_LOG_LIMITED_BY(s->base.worker->log, HG_LOG_WARN, "stomp.lost", hg_status_text(status),
                      hg_bytes_str(peer), HG_F_STR("peer", peer), HG_F_STR("user", s->user_own),
                      HG_F_STR("why", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

void hg_stomp_send_if_due(struct hg_stomp_session *s, struct hg_stomp_receipt *r)
{
    if (r != NULL && hg_stomp_receipt_is_due(r)) {
        hg_stomp_send_answer(s, hg_stomp_receipt_text(r), r->is_stale);
        hg_stomp_receipt_free(r);
    }
}

void hg_stomp_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                      struct hg_bytes reason)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    struct hg_stomp_receipt *r = hg_stomp_receipt_settle(&s->receipts, id);
    s->unsettled_n--;
    if (hg_stomp_is_over(s)) {
        /* Nobody to tell. */
    } else if (outcome == HG_OK) {
        hg_stomp_send_if_due(s, r);
    } else if (r != NULL || is_senders_fault(outcome)) {
        const struct hg_stomp_failure f = {.status = outcome,
                                           .reason = reason,
                                           .receipt = r == NULL ? hg_bytes(NULL, 0)
                                                                : hg_stomp_receipt_text(r)};
        hg_stomp_end(s, &f);
    } else {
        log_lost(s, outcome, reason);
    }
    hg_stomp_leave_if_settled(s);
}

/* ---- Queues that SEND declares ---- */

enum { DECLARED_MAX = 16, REASON_MAX_BYTES = 255 };

#define DECLARE_ID UINT64_MAX /* publishes, and deletions, have others */

/* The queues declared last, so that a SEND to /queue/NAME declares it once; one that has been
 * forgotten is declared again. */
struct hg_stomp_queues {
    char *names_own[DECLARED_MAX];
    unsigned next; /* to be replaced */
    /* The one that is being declared, or that could not be and whose SEND is still to be told. */
    char *asked_own;
    bool is_waiting;
    uint64_t since_ms;
    enum hg_status outcome;
    uint8_t reason_n;
    uint8_t reason[REASON_MAX_BYTES];
};

static bool names(const char *text, struct hg_bytes name)
{
    return text != NULL && hg_bytes_eq(hg_bytes_str(text), name);
}

static bool is_declared(const struct hg_stomp_queues *q, struct hg_bytes name)
{
    for (size_t i = 0; q != NULL && i < DECLARED_MAX; i++) {
        if (names(q->names_own[i], name)) {
            return true;
        }
    }
    return false;
}

static struct hg_stomp_queues *queues_of(struct hg_stomp_session *s)
{
    if (s->queues == NULL) {
        s->queues = hg_zalloc(sizeof(*s->queues));
    }
    return s->queues;
}

enum hg_stomp_verdict hg_stomp_await_queue(struct hg_stomp_session *s, struct hg_stomp_failure *f)
{
    struct hg_stomp_queues *q = queues_of(s);
    if (q == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    q->is_waiting = true;
    q->since_ms = hg_clock_ms();
    hg_stomp_rearm(s);
    hg_conn_hold(s->base.conn, HG_HOLD_SESSION);
    return HG_STOMP_HELD;
}

void hg_stomp_queue_came(struct hg_stomp_session *s)
{
    if (s->queues == NULL) {
        return; /* there was no memory to wait, and the connection ends */
    }
    s->queues->is_waiting = false;
    hg_stomp_rearm(s);
    hg_conn_release(s->base.conn, HG_HOLD_SESSION); /* the frame comes again */
}

static enum hg_stomp_verdict declare(struct hg_stomp_session *s, const struct hg_stomp_frame *frame,
                                     struct hg_bytes name, struct hg_stomp_failure *f)
{
    struct hg_stomp_queue queue;
    struct hg_stomp_misfit misfit;
    if (hg_stomp_queue_read(frame, &queue, &misfit) != HG_OK) {
        f->reason = misfit.value;
        return hg_stomp_fails(f, HG_BAD_PROPERTY, misfit.why);
    }
    if (queue.exclusive == HG_STOMP_TRUE) {
        return hg_stomp_fails(f, HG_BAD_PROPERTY,
                              "an exclusive queue is declared by SUBSCRIBE with exclusive:true");
    }
    bool is_durable = queue.durable != HG_STOMP_FALSE;
    struct hg_stomp_queues *q = queues_of(s);
    if (q == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    if (q->outcome != HG_OK && names(q->asked_own, name)) {
        f->reason = hg_bytes(q->reason, q->reason_n);
        return hg_stomp_fails(f, q->outcome, "the queue cannot be declared");
    }
    const struct hg_queue_spec spec = {.name = name,
                                       .is_durable = is_durable,
                                       .is_auto_delete =
                                           queue.auto_delete == HG_STOMP_TRUE ||
                                           (!is_durable && queue.auto_delete == HG_STOMP_UNSAID),
                                       .arguments = queue.queue.items,
                                       .arguments_n = queue.queue.n};
    hg_free(q->asked_own);
    q->asked_own = hg_bytes_dup(name);
    enum hg_status status =
        q->asked_own == NULL ? HG_NO_MEMORY : hg_declare_queue(&s->base, &spec, DECLARE_ID);
    if (status != HG_OK) {
        return hg_stomp_fails(f, status, "the queue cannot be declared");
    }
    return hg_stomp_await_queue(s, f);
}

void hg_stomp_declared(struct hg_session *base, uint64_t id, enum hg_status outcome,
                       struct hg_bytes reason)
{
    struct hg_stomp_session *s = hg_stomp_session_of(base);
    struct hg_stomp_queues *q = s->queues;
    if (id != DECLARE_ID) {
        hg_stomp_settled(base, id, outcome, reason);
        return;
    }
    q->outcome = outcome;
    if (outcome == HG_OK) {
        hg_free(q->names_own[q->next]);
        q->names_own[q->next] = q->asked_own;
        q->next = (q->next + 1) % DECLARED_MAX;
        q->asked_own = NULL;
    } else if (reason.n > 0) {
        q->reason_n = (uint8_t)(reason.n < REASON_MAX_BYTES ? reason.n : REASON_MAX_BYTES);
        memcpy(q->reason, reason.p, q->reason_n);
    }
    hg_stomp_queue_came(s);
}

enum hg_status hg_stomp_delete_queue(struct hg_stomp_session *s, struct hg_bytes name,
                                     struct hg_bytes receipt)
{
    struct hg_stomp_receipt *r = NULL;
    if (receipt.n > 0 && (r = hg_stomp_receipt_new(receipt, s->publishes)) == NULL) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = hg_delete_queue(&s->base, name, s->publishes);
    if (status != HG_OK) {
        hg_stomp_receipt_free(r);
        return status;
    }
    s->publishes++;
    s->unsettled_n++;
    if (r != NULL) {
        hg_stomp_receipt_add(r);
        hg_list_add_last(&s->receipts, &r->link);
    }
    return HG_OK;
}

void hg_stomp_resume_send(struct hg_stomp_session *s)
{
    if (s->is_waiting_for_queue) {
        s->is_waiting_for_queue = false;
        hg_stomp_queue_came(s);
    }
}

/* It is there: declared before, or consumed. */
static enum hg_stomp_verdict have_queue(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame, struct hg_bytes name,
                                        struct hg_stomp_failure *f)
{
    if (is_declared(s->queues, name)) {
        return HG_STOMP_USED;
    }
    switch (hg_stomp_consumes(s, name)) {
    case HG_STOMP_CONSUMES: return HG_STOMP_USED;
    case HG_STOMP_WAITING: s->is_waiting_for_queue = true; return hg_stomp_await_queue(s, f);
    case HG_STOMP_NOT: break;
    }
    return declare(s, frame, name, f);
}

uint64_t hg_stomp_declare_due_ms(const struct hg_stomp_session *s)
{
    return s->queues == NULL || !s->queues->is_waiting
               ? UINT64_MAX
               : s->queues->since_ms + s->base.worker->config->unavailable_timeout_ms;
}

void hg_stomp_free_publishes(struct hg_stomp_session *s)
{
    hg_stomp_receipt_free_all(&s->receipts);
    for (size_t i = 0; s->queues != NULL && i < DECLARED_MAX; i++) {
        hg_free(s->queues->names_own[i]);
    }
    if (s->queues != NULL) {
        hg_free(s->queues->asked_own);
    }
    hg_free(s->queues);
}

/* ---- SEND ---- */

/* On its own, or as a part of `commit`. A transaction that cannot be carried out whole is told,
 * whether or not a receipt was asked for. */
static enum hg_stomp_verdict publish(struct hg_stomp_session *s, const struct hg_publish_args *args,
                                     struct hg_stomp_receipt *commit, struct hg_stomp_failure *f)
{
    struct hg_stomp_receipt *r = commit;
    const char *why = NULL;
    if (r == NULL && f->receipt.n > 0 &&
        (r = hg_stomp_receipt_new(f->receipt, s->publishes)) == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    enum hg_status status = hg_publish(&s->base, args, NULL, &why);
    if (status == HG_OK) {
        s->publishes++;
        s->unsettled_n++;
        if (r != NULL) {
            hg_stomp_receipt_add(r);
        }
        if (r != commit) {
            hg_list_add_last(&s->receipts, &r->link);
        }
        return HG_STOMP_USED;
    }
    if (r != commit) {
        hg_stomp_receipt_free(r);
    }
    if (status == HG_HELD) {
        return HG_STOMP_HELD;
    }
    if (commit == NULL && f->receipt.n == 0 && !is_senders_fault(status)) {
        log_lost(s, status, hg_bytes_str(why));
        return HG_STOMP_USED;
    }
    f->detail = why;
    return hg_stomp_fails(f, status, NULL);
}

static enum hg_stomp_verdict check(struct hg_stomp_session *s, const struct hg_publish_args *args,
                                   struct hg_stomp_failure *f)
{
    enum hg_status status = hg_publish_check(&s->base, args, &f->detail);
    return status == HG_OK ? HG_STOMP_USED : hg_stomp_fails(f, status, NULL);
}

/* Destination and properties of a frame, and then what is to be done with it: check it for its
 * transaction, or publish it. */
static enum hg_stomp_verdict use(struct hg_stomp_session *s, const struct hg_stomp_frame *frame,
                                 struct hg_buf *body_buf, bool is_checked_only,
                                 struct hg_stomp_receipt *commit, struct hg_stomp_failure *f)
{
    const char *topic_exchange = hg_stomp_topic_exchange(s);
    struct hg_stomp_dest dest;
    const char *why = NULL;
    enum hg_status status =
        hg_stomp_dest_parse(hg_stomp_get(frame, "destination"), topic_exchange, &dest, &why);
    if (status != HG_OK) {
        f->detail = why;
        return hg_stomp_fails(f, status, "the destination cannot be read");
    }
    char room[HG_STOMP_OWN_NAME_MAX];
    struct hg_bytes reply_to;
    enum hg_stomp_verdict verdict =
        hg_stomp_reply_queue(s, hg_stomp_get(frame, "reply-to"), room, &reply_to, f);
    if (verdict != HG_STOMP_USED) {
        return verdict;
    }
    if (dest.kind == HG_STOMP_DEST_QUEUE) {
        status = hg_access_queue(&s->base, HG_ACCESS_PUBLISH, dest.key, &f->detail);
        if (status == HG_OK) {
            status = hg_access_queue(&s->base, HG_ACCESS_CONFIGURE, dest.key, &f->detail);
        }
        if (status != HG_OK) {
            return hg_stomp_fails(f, status, NULL);
        }
        enum hg_stomp_verdict has = have_queue(s, frame, dest.key, f);
        if (has != HG_STOMP_USED) {
            return has;
        }
    }
    struct hg_stomp_properties properties;
    status = hg_stomp_properties_read(frame, &properties, &why);
    properties.amqp.reply_to = reply_to;
    const struct hg_publish_args args = {
        .address = dest.address,
        .exchange = dest.exchange,
        .key = dest.key,
        .properties = properties.amqp,
        .body = frame->body,
        .body_buf = body_buf,
        .user = hg_bytes_str(s->user_own),
        .id = s->publishes,
        .is_direct = dest.kind != HG_STOMP_DEST_ADDRESS,
        /* It was declared once in this session; that it has been deleted since must not be silent. */
        .is_mandatory = dest.kind == HG_STOMP_DEST_QUEUE,
        .is_retained = hg_bytes_eq(hg_stomp_get(frame, "retain"), HG_BYTES("true")),
        .wants_outcome = true, /* also without a receipt: DISCONNECT waits for it */
    };
    verdict = status != HG_OK   ? hg_stomp_fails(f, status, why)
              : is_checked_only ? check(s, &args, f)
                                : publish(s, &args, commit, f);
    hg_stomp_properties_close(&properties);
    return verdict;
}

enum hg_stomp_verdict hg_stomp_send_in(struct hg_stomp_session *s,
                                       const struct hg_stomp_frame *frame, struct hg_buf *body_buf,
                                       struct hg_stomp_receipt *commit, struct hg_stomp_failure *f)
{
    return use(s, frame, body_buf, false, commit, f);
}

enum hg_stomp_verdict hg_stomp_on_send(struct hg_stomp_session *s,
                                       const struct hg_stomp_frame *frame,
                                       struct hg_stomp_failure *f)
{
    if (!hg_stomp_is_in_tx(frame)) {
        return use(s, frame, NULL, false, NULL, f);
    }
    enum hg_stomp_verdict verdict = hg_stomp_tx_admits(s, frame, f);
    if (verdict == HG_STOMP_USED) {
        verdict = use(s, frame, NULL, true, NULL, f);
    }
    return verdict == HG_STOMP_USED ? hg_stomp_tx_add(s, frame, f) : verdict;
}
