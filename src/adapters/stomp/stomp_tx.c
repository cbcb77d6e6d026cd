/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_tx.h"

#include "adapters/stomp/stomp_receipt.h"
#include "base/mem.h"
#include "core/worker.h"

struct step { /* a frame that waits for COMMIT */
    struct hg_list link;
    struct hg_stomp_frame frame; /* borrows from what is below */
    struct hg_buf *body;         /* NULL: empty */
    size_t bytes;
    struct hg_stomp_header headers[]; /* and their text */
};

struct transaction {
    struct hg_list link;
    struct hg_list steps;
    struct hg_stomp_receipt *commit; /* in the session's list; NULL: COMMIT has not come */
    uint16_t name_n;
    uint8_t name[];
};

struct hg_stomp_transactions {
    struct hg_list open;
    uint32_t n, steps_n;
    uint64_t bytes;
};

static struct hg_stomp_metrics *metrics_of(const struct hg_stomp_session *s)
{
    return &s->base.worker->metrics.stomp;
}

/* ---- Steps ---- */

static struct hg_bytes copy_text(uint8_t **room, struct hg_bytes text)
{
    struct hg_bytes copy = hg_bytes(*room, text.n);
    if (text.n > 0) {
        memcpy(*room, text.p, text.n);
    }
    *room += text.n;
    return copy;
}

static size_t bytes_of(const struct hg_stomp_frame *frame)
{
    size_t n = sizeof(struct step) + frame->headers_n * sizeof(frame->headers[0]);
    for (size_t i = 0; i < frame->headers_n; i++) {
        n += frame->headers[i].name.n + frame->headers[i].value.n;
    }
    return n;
}

static struct step *new_step(const struct hg_stomp_frame *frame)
{
    size_t n = bytes_of(frame);
    struct step *step = hg_alloc(n);
    if (step == NULL) {
        return NULL;
    }
    *step = (struct step){.frame = {.command = frame->command,
                                    .headers = step->headers,
                                    .headers_n = frame->headers_n},
                          .bytes = n + frame->body.n};
    hg_list_init(&step->link);
    uint8_t *room = (uint8_t *)(step->headers + frame->headers_n);
    for (size_t i = 0; i < frame->headers_n; i++) {
        step->headers[i] = (struct hg_stomp_header){copy_text(&room, frame->headers[i].name),
                                                    copy_text(&room, frame->headers[i].value)};
    }
    if (frame->body.n > 0) {
        step->body = hg_buf_copy(frame->body);
        if (step->body == NULL) {
            hg_free(step);
            return NULL;
        }
        step->frame.body = hg_buf_bytes(step->body);
    }
    return step;
}

static void free_step(struct hg_stomp_session *s, struct step *step)
{
    s->transactions->steps_n--;
    s->transactions->bytes -= step->bytes;
    hg_uncount(&metrics_of(s)->stomp_transaction_bytes, step->bytes);
    hg_list_remove(&step->link);
    hg_buf_unref(step->body);
    hg_free(step);
}

/* ---- Transactions ---- */

static struct transaction *find(const struct hg_stomp_session *s, struct hg_bytes name)
{
    if (s->transactions == NULL) {
        return NULL;
    }
    HG_LIST_FOREACH (it, &s->transactions->open) {
        struct transaction *tx = HG_LIST_ENTRY(it, struct transaction, link);
        if (hg_bytes_eq(hg_bytes(tx->name, tx->name_n), name)) {
            return tx;
        }
    }
    return NULL;
}

/* The one that the frame names; NULL: *f says that there is none. */
static struct transaction *named(const struct hg_stomp_session *s,
                                 const struct hg_stomp_frame *frame, struct hg_stomp_failure *f)
{
    struct transaction *tx = find(s, hg_stomp_get(frame, "transaction"));
    if (tx == NULL) {
        (void)hg_stomp_fails(f, HG_PROTOCOL_ERROR, "there is no transaction with this name");
    }
    return tx;
}

static void free_transaction(struct hg_stomp_session *s, struct transaction *tx)
{
    HG_LIST_FOREACH_SAFE (it, &tx->steps) {
        free_step(s, HG_LIST_ENTRY(it, struct step, link));
    }
    hg_list_remove(&tx->link);
    hg_free(tx);
    hg_uncount(&metrics_of(s)->stomp_transactions, 1);
    if (--s->transactions->n == 0) {
        hg_free(s->transactions);
        s->transactions = NULL;
    }
}

void hg_stomp_free_transactions(struct hg_stomp_session *s)
{
    while (s->transactions != NULL) {
        struct hg_list *first = s->transactions->open.next;
        hg_count(&metrics_of(s)->stomp_aborts, 1);
        free_transaction(s, HG_LIST_ENTRY(first, struct transaction, link));
    }
}

static struct transaction *new_transaction(struct hg_stomp_session *s, struct hg_bytes name)
{
    struct transaction *tx = hg_zalloc(sizeof(*tx) + name.n);
    if (tx == NULL) {
        return NULL;
    }
    if (s->transactions == NULL) {
        s->transactions = hg_zalloc(sizeof(*s->transactions));
        if (s->transactions == NULL) {
            hg_free(tx);
            return NULL;
        }
        hg_list_init(&s->transactions->open);
    }
    hg_list_init(&tx->steps);
    hg_list_init(&tx->link);
    tx->name_n = (uint16_t)name.n;
    memcpy(tx->name, name.p, name.n);
    hg_list_add_last(&s->transactions->open, &tx->link);
    s->transactions->n++;
    hg_count(&metrics_of(s)->stomp_transactions, 1);
    return tx;
}

/* ---- What goes into one ---- */

enum hg_stomp_verdict hg_stomp_tx_admits(struct hg_stomp_session *s,
                                         const struct hg_stomp_frame *frame,
                                         struct hg_stomp_failure *f)
{
    const struct hg_config *config = s->base.worker->config;
    if (named(s, frame, f) == NULL) {
        return HG_STOMP_FAILED;
    }
    if (s->transactions->steps_n >= config->stomp_max_transaction_frames) {
        hg_worker_refused(s->base.worker, HG_LIMIT_STOMP_FRAMES);
        return hg_stomp_fails(
            f, HG_TOO_MANY,
            "the transactions hold as many frames as [stomp] max_transaction_frames allows");
    }
    uint64_t bytes = bytes_of(frame) + frame->body.n;
    if (s->transactions->bytes + bytes > config->stomp_transaction_buffer_bytes) {
        hg_worker_refused(s->base.worker, HG_LIMIT_STOMP_BUFFER);
        return hg_stomp_fails(
            f, HG_TOO_LARGE,
            "the transactions hold as many bytes as [stomp] transaction_buffer allows");
    }
    return HG_STOMP_USED;
}

enum hg_stomp_verdict hg_stomp_tx_add(struct hg_stomp_session *s,
                                      const struct hg_stomp_frame *frame,
                                      struct hg_stomp_failure *f)
{
    struct transaction *tx = named(s, frame, f);
    if (tx == NULL) {
        return HG_STOMP_FAILED;
    }
    struct step *step = new_step(frame);
    if (step == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    hg_list_add_last(&tx->steps, &step->link);
    s->transactions->steps_n++;
    s->transactions->bytes += step->bytes;
    hg_count(&metrics_of(s)->stomp_transaction_bytes, step->bytes);
    hg_stomp_send_receipt(s, f->receipt);
    return HG_STOMP_USED;
}

/* ---- BEGIN, COMMIT, ABORT ---- */

enum hg_stomp_verdict hg_stomp_on_begin(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame,
                                        struct hg_stomp_failure *f)
{
    struct hg_bytes name = hg_stomp_get(frame, "transaction");
    if (name.n == 0) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "the header transaction is empty");
    }
    if (name.n > HG_STOMP_LABEL_MAX) {
        return hg_stomp_fails(f, HG_TOO_LARGE, "the header transaction is over 1024 bytes");
    }
    if (find(s, name) != NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR,
                              "a transaction with this name has begun already");
    }
    uint32_t open_n = s->transactions == NULL ? 0 : s->transactions->n;
    if (open_n >= s->base.worker->config->stomp_max_transactions) {
        hg_worker_refused(s->base.worker, HG_LIMIT_STOMP_TRANSACTIONS);
        return hg_stomp_fails(f, HG_TOO_MANY,
                              "as many transactions have begun as [stomp] max_transactions allows");
    }
    if (new_transaction(s, name) == NULL) {
        return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
    }
    hg_stomp_send_receipt(s, f->receipt);
    return HG_STOMP_USED;
}

static enum hg_stomp_verdict carry_out(struct hg_stomp_session *s, struct transaction *tx,
                                       const struct step *step, struct hg_stomp_failure *f)
{
    if (step->frame.command == HG_STOMP_SEND) {
        return hg_stomp_send_in(s, &step->frame, step->body, tx->commit, f);
    }
    tx->commit->is_stale = hg_stomp_answer(s, &step->frame) != HG_OK || tx->commit->is_stale;
    return HG_STOMP_USED;
}

/* Held, it comes again and goes on where it was: what is done has left the list. */
enum hg_stomp_verdict hg_stomp_on_commit(struct hg_stomp_session *s,
                                         const struct hg_stomp_frame *frame,
                                         struct hg_stomp_failure *f)
{
    struct transaction *tx = named(s, frame, f);
    if (tx == NULL) {
        return HG_STOMP_FAILED;
    }
    if (tx->commit == NULL) {
        tx->commit = hg_stomp_receipt_new(f->receipt, s->publishes);
        if (tx->commit == NULL) {
            return hg_stomp_fails(f, HG_NO_MEMORY, NULL);
        }
        tx->commit->is_open = true;
        hg_list_add_last(&s->receipts, &tx->commit->link);
    }
    while (!hg_list_is_empty(&tx->steps)) {
        struct step *step = HG_LIST_ENTRY(tx->steps.next, struct step, link);
        enum hg_stomp_verdict verdict = carry_out(s, tx, step, f);
        if (verdict != HG_STOMP_USED) {
            return verdict;
        }
        free_step(s, step);
    }
    tx->commit->is_open = false;
    hg_stomp_send_if_due(s, tx->commit);
    free_transaction(s, tx);
    hg_count(&metrics_of(s)->stomp_commits, 1);
    return HG_STOMP_USED;
}

enum hg_stomp_verdict hg_stomp_on_abort(struct hg_stomp_session *s,
                                        const struct hg_stomp_frame *frame,
                                        struct hg_stomp_failure *f)
{
    struct transaction *tx = named(s, frame, f);
    if (tx == NULL) {
        return HG_STOMP_FAILED;
    }
    free_transaction(s, tx);
    hg_count(&metrics_of(s)->stomp_aborts, 1);
    hg_stomp_send_receipt(s, f->receipt);
    return HG_STOMP_USED;
}
