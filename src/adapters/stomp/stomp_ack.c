/* SPDX-License-Identifier: Apache-2.0 */
/* ACK and NACK: a client's answers to what it was sent. */
#include "adapters/stomp/stomp_sub.h"
#include "adapters/stomp/stomp_tx.h"
#include "core/conn.h"
#include "core/worker.h"

#include <stdio.h>

/* The message that an answer is about; at->sub NULL: there is none. */
struct place {
    struct hg_stomp_sub *sub;
    size_t at; /* in sub->acks->pending; its n: it went with a lost link */
};

/* From message-id, which 1.2 calls ack and id: see send_message. */
static bool read_number(const struct hg_stomp_session *s, struct hg_bytes id, uint64_t *number_out)
{
    char prefix[32];
    int n = snprintf(prefix, sizeof(prefix), "%llx-", (unsigned long long)hg_conn_id(s->base.conn));
    return hg_bytes_starts(id, hg_bytes(prefix, (size_t)n)) &&
           hg_bytes_to_u64(hg_bytes_skip(id, (size_t)n), s->messages, number_out);
}

/* subscription: NULL: any. */
static struct place find(const struct hg_stomp_session *s, uint64_t number,
                         const struct hg_bytes *subscription)
{
    struct place stale = {0};
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_stomp_sub *sub = hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (!hg_stomp_is_answered(sub) ||
            (subscription != NULL && !hg_bytes_eq(hg_stomp_sub_id(sub), *subscription))) {
            continue;
        }
        size_t n = sub->acks->pending.n;
        size_t at = hg_stomp_pending_find(&sub->acks->pending, number);
        if (at < n) {
            return (struct place){sub, at};
        }
        if (number <= sub->acks->lost_to) {
            stale = (struct place){sub, n};
        }
    }
    return stale;
}

static enum hg_status answer(struct hg_queue *queue, struct hg_ticket ticket, bool is_nack,
                             bool is_requeue)
{
    return is_nack ? hg_queue_nack(queue, ticket, is_requeue) : hg_queue_ack(queue, ticket);
}

/* STALE if any of them was. */
static enum hg_status settle(struct place place, bool is_nack, bool is_requeue)
{
    struct hg_stomp_acks *acks = place.sub->acks;
    enum hg_status status = HG_OK;
    if (place.at == acks->pending.n) {
        return HG_STALE;
    }
    size_t n = acks->is_cumulative ? place.at + 1 : 1;
    size_t from = acks->is_cumulative ? 0 : place.at;
    for (size_t i = 0; i < n; i++) {
        struct hg_ticket ticket = hg_stomp_pending_take(&acks->pending, from);
        enum hg_status one = answer(acks->queue, ticket, is_nack, is_requeue);
        status = one != HG_OK ? one : status;
    }
    return status;
}

/* NULL if fine. */
static const char *check(const struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    const struct hg_bytes *requeue = hg_stomp_find(frame, "requeue");
    bool is_nack = frame->command == HG_STOMP_NACK;
    if (is_nack && s->version == HG_STOMP_V10) {
        return "STOMP 1.0 has no NACK";
    }
    if (hg_stomp_find(frame, s->version == HG_STOMP_V12 ? "id" : "message-id") == NULL) {
        return s->version == HG_STOMP_V12 ? "the header id is missing"
                                          : "the header message-id is missing";
    }
    if (s->version == HG_STOMP_V11 && hg_stomp_find(frame, "subscription") == NULL) {
        return "the header subscription is missing";
    }
    if (is_nack && requeue != NULL && !hg_bytes_eq(*requeue, HG_BYTES("true")) &&
        !hg_bytes_eq(*requeue, HG_BYTES("false"))) {
        return "the header requeue is neither true nor false";
    }
    return NULL;
}

static struct place place_of(const struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    bool is_v12 = s->version == HG_STOMP_V12;
    uint64_t number = 0;
    if (!read_number(s, hg_stomp_get(frame, is_v12 ? "id" : "message-id"), &number)) {
        return (struct place){0};
    }
    return find(s, number, is_v12 ? NULL : hg_stomp_find(frame, "subscription"));
}

enum hg_status hg_stomp_answer(struct hg_stomp_session *s, const struct hg_stomp_frame *frame)
{
    struct place place = place_of(s, frame);
    bool is_requeue = !hg_bytes_eq(hg_stomp_get(frame, "requeue"), HG_BYTES("false"));
    return place.sub == NULL ? HG_STALE
                             : settle(place, frame->command == HG_STOMP_NACK, is_requeue);
}

enum hg_stomp_verdict hg_stomp_on_ack(struct hg_stomp_session *s,
                                      const struct hg_stomp_frame *frame,
                                      struct hg_stomp_failure *f)
{
    bool is_in_tx = hg_stomp_is_in_tx(frame);
    const char *wrong = check(s, frame);
    if (wrong != NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, wrong);
    }
    if (is_in_tx && hg_stomp_tx_admits(s, frame, f) != HG_STOMP_USED) {
        return HG_STOMP_FAILED;
    }
    if (place_of(s, frame).sub == NULL) {
        return hg_stomp_fails(f, HG_PROTOCOL_ERROR, "no message with this id waits for an answer");
    }
    if (is_in_tx) {
        return hg_stomp_tx_add(s, frame, f);
    }
    hg_stomp_send_answer(s, f->receipt, hg_stomp_answer(s, frame) == HG_STALE);
    return HG_STOMP_USED;
}
