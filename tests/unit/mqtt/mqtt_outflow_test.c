/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of deliveries, step by step, and against a model of both sides: a queue that delivers
 * again what nobody has answered, and a client that remembers QoS 2 identifiers. */
#include "adapters/mqtt/mqtt_outflow.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>

#define QUEUE ((struct hg_queue *)(uintptr_t)0x1000) /* only told apart */
#define OTHER ((struct hg_queue *)(uintptr_t)0x2000)

struct outgoing {
    struct hg_mqtt_out out;
    struct hg_mqtt_out_limits limits;
    struct hg_buf *packet;
    struct hg_mqtt_out_item last; /* of what next() gave; its references are given back */
    struct hg_queue *settled;     /* of the last answer */
    uint64_t settled_tag;
};

static void open_outgoing(struct outgoing *o, uint32_t inflight_max, uint32_t queued_max)
{
    *o = (struct outgoing){.limits = {inflight_max, queued_max}, .packet = hg_buf_new(10)};
    assert_non_null(o->packet);
    o->packet->n = 10;
}

static void close_outgoing(struct outgoing *o)
{
    hg_mqtt_out_close(&o->out);
    assert_int_equal(o->packet->refs, 1);
    hg_buf_unref(o->packet);
    assert_int_equal(seam_live(), 0);
}

static enum hg_mqtt_out_step step(struct outgoing *o, bool has_room, uint16_t *id)
{
    *id = 0;
    enum hg_mqtt_out_step s =
        hg_mqtt_out_next(&o->out, &o->limits, seam_now_ms, has_room, &o->last, id);
    if (s == HG_MQTT_OUT_SEND || s == HG_MQTT_OUT_EXPIRED) {
        hg_buf_unref(o->last.packet);
        hg_buf_unref(o->last.own);
    }
    return s;
}

/* Its identifier, 0 if none may be sent. */
static uint16_t send_next(struct outgoing *o)
{
    uint16_t id;
    enum hg_mqtt_out_step s = step(o, true, &id);
    assert_true(s == HG_MQTT_OUT_SEND || s == HG_MQTT_OUT_IDLE);
    return id;
}

static enum hg_status feed(struct outgoing *o, uint8_t qos)
{
    const struct hg_mqtt_out_item item = {
        .packet = o->packet, .expires_ms = UINT64_MAX, .qos = qos};
    return hg_mqtt_out_push(&o->out, &o->limits, &item);
}

/* Out of a queue; its fingerprint is its tag. */
static enum hg_mqtt_out_met queued(struct outgoing *o, struct hg_queue *queue, uint8_t qos,
                                   uint64_t fingerprint, bool is_redelivered)
{
    static uint64_t tags;
    struct hg_mqtt_out_item item = {.packet = o->packet,
                                    .queue = queue,
                                    .ticket = {.tag = ++tags},
                                    .fingerprint = fingerprint,
                                    .expires_ms = UINT64_MAX,
                                    .qos = qos,
                                    .is_dup = is_redelivered};
    enum hg_mqtt_out_met met =
        qos > 0 ? hg_mqtt_out_meet(&o->out, &item, is_redelivered) : HG_MQTT_OUT_NEW;
    if (met == HG_MQTT_OUT_NEW || met == HG_MQTT_OUT_AGAIN) {
        assert_int_equal(hg_mqtt_out_push(&o->out, &o->limits, &item), HG_OK);
    }
    return met;
}

static enum hg_mqtt_out_answer hear(struct outgoing *o, enum hg_mqtt_type type, uint16_t id)
{
    struct hg_ticket ticket = {0};
    enum hg_mqtt_out_answer a = hg_mqtt_out_hear(&o->out, type, id, false, &o->settled, &ticket);
    o->settled_tag = ticket.tag;
    return a;
}

/* ---- What goes out ---- */

static void what_exceeds_the_inflight_limit_waits(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 2, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(hg_mqtt_out_is_open(&o.out, &o.limits));
        assert_int_equal(feed(&o, 1), HG_OK);
        assert_int_equal(send_next(&o), i + 1);
    }
    assert_false(hg_mqtt_out_is_open(&o.out, &o.limits));
    assert_int_equal(o.packet->refs, 1); /* what is in flight is not kept: RabbitMQ has it */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(feed(&o, 1), HG_OK);
        assert_int_equal(send_next(&o), 0);
    }
    assert_int_equal(o.out.fed_bytes, 20);
    assert_int_equal(feed(&o, 1), HG_TOO_MANY);
    assert_int_equal(queued(&o, QUEUE, 1, 1, false), HG_MQTT_OUT_NEW); /* bounded by its prefetch */
    assert_int_equal(o.out.fed_bytes, 20);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_null(o.settled);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(send_next(&o), 0);
    assert_int_equal(o.out.fed_bytes, 10);
    close_outgoing(&o);
}

static void nothing_needs_to_wait_where_nothing_may(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 1, 0);
    assert_int_equal(feed(&o, 1), HG_OK);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(feed(&o, 1), HG_TOO_MANY);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_int_equal(feed(&o, 1), HG_OK);
    close_outgoing(&o);
}

static void an_old_delivery_without_an_answer_blocks_nobody(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 3, 9);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(feed(&o, 1), HG_OK);
    }
    for (uint16_t id = 1; id <= 3; id++) {
        assert_int_equal(send_next(&o), id);
    }
    assert_int_equal(send_next(&o), 0);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 4), HG_MQTT_OUT_UNKNOWN);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 0), HG_MQTT_OUT_UNKNOWN);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 3), HG_MQTT_OUT_SETTLED);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 2), HG_MQTT_OUT_SETTLED);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 2), HG_MQTT_OUT_UNKNOWN);
    assert_int_equal(send_next(&o), 2); /* the lowest that is free */
    assert_int_equal(send_next(&o), 3);
    close_outgoing(&o);
}

static void at_most_all_identifiers_are_in_flight(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, UINT32_MAX, 10);
    for (uint32_t i = 1; i <= UINT16_MAX; i++) {
        assert_int_equal(feed(&o, 1), HG_OK);
        assert_int_equal(send_next(&o), i);
    }
    assert_false(hg_mqtt_out_is_open(&o.out, &o.limits));
    assert_int_equal(feed(&o, 1), HG_OK);
    assert_int_equal(send_next(&o), 0);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 40000), HG_MQTT_OUT_SETTLED);
    assert_int_equal(send_next(&o), 40000);
    for (uint32_t i = 1; i <= UINT16_MAX; i++) {
        assert_int_equal(hear(&o, HG_MQTT_PUBACK, (uint16_t)i), HG_MQTT_OUT_SETTLED);
    }
    assert_null(o.out.slots); /* a burst's memory is given back when it is over */
    close_outgoing(&o);
}

static void qos_2_ends_with_pubcomp_and_settles_at_pubrec(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 1, 0);
    queued(&o, QUEUE, 2, 7, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_WRONG);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 1), HG_MQTT_OUT_WRONG);
    assert_null(o.settled);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_RELEASE);
    assert_ptr_equal(o.settled, QUEUE);
    queued(&o, QUEUE, 2, 8, false);
    assert_int_equal(send_next(&o), 0); /* still in flight: section 4.9 */
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_RELEASE);
    assert_null(o.settled); /* once */
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_WRONG);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 1), HG_MQTT_OUT_SETTLED);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 9), HG_MQTT_OUT_UNKNOWN);
    close_outgoing(&o);
}

static void a_refusal_ends_a_delivery(void **state)
{
    struct outgoing o;
    struct hg_ticket ticket;
    (void)state;
    open_outgoing(&o, 1, 0);
    queued(&o, QUEUE, 2, 7, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hg_mqtt_out_hear(&o.out, HG_MQTT_PUBREC, 1, true, &o.settled, &ticket),
                     HG_MQTT_OUT_SETTLED);
    assert_ptr_equal(o.settled, QUEUE);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 1), HG_MQTT_OUT_UNKNOWN);
    queued(&o, QUEUE, 1, 8, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hg_mqtt_out_hear(&o.out, HG_MQTT_PUBACK, 1, true, &o.settled, &ticket),
                     HG_MQTT_OUT_SETTLED);
    assert_ptr_equal(o.settled, QUEUE);
    close_outgoing(&o);
}

static void qos_0_out_of_a_queue_waits_for_its_turn_and_for_room(void **state)
{
    struct outgoing o;
    uint16_t id;
    (void)state;
    open_outgoing(&o, 1, 0);
    queued(&o, QUEUE, 0, 1, false);
    assert_int_equal(step(&o, false, &id), HG_MQTT_OUT_IDLE);
    queued(&o, QUEUE, 1, 2, false);
    queued(&o, QUEUE, 1, 3, false);
    queued(&o, QUEUE, 0, 4, false);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_SEND);
    assert_int_equal(id, 0);
    assert_int_equal(step(&o, false, &id), HG_MQTT_OUT_SEND); /* QoS 1 needs no room */
    assert_int_equal(o.last.fingerprint, 2);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_IDLE);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, id = 1), HG_MQTT_OUT_SETTLED);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_SEND);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_SEND);
    assert_int_equal(o.last.fingerprint, 4);
    close_outgoing(&o);
}

static void what_has_expired_meanwhile_is_handed_back(void **state)
{
    struct outgoing o;
    uint16_t id;
    (void)state;
    open_outgoing(&o, 1, 9);
    assert_int_equal(feed(&o, 1), HG_OK);
    struct hg_mqtt_out_item item = {
        .packet = o.packet, .queue = QUEUE, .expires_ms = seam_now_ms + 5, .qos = 1};
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, &item), HG_OK);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_IDLE);
    seam_now_ms += 5;
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_EXPIRED);
    assert_ptr_equal(o.last.queue, QUEUE);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_IDLE);
    close_outgoing(&o);
}

/* ---- A session that goes on ---- */

static void what_comes_again_keeps_its_identifier(void **state)
{
    struct outgoing o;
    const struct hg_session_tx tx[] = {{.fingerprint = 70, .packet_id = 3},
                                       {.fingerprint = 80, .packet_id = 1},
                                       {.fingerprint = 70, .packet_id = 4},
                                       {.packet_id = 2, .is_released = true}};
    (void)state;
    open_outgoing(&o, 9, 9);
    assert_int_equal(hg_mqtt_out_resume(&o.out, QUEUE, tx, 4, false), HG_OK);
    assert_int_equal(queued(&o, QUEUE, 1, 70, true), HG_MQTT_OUT_AGAIN);
    assert_int_equal(queued(&o, QUEUE, 1, 60, true), HG_MQTT_OUT_NEW); /* never sent before */
    assert_int_equal(queued(&o, QUEUE, 1, 70, true), HG_MQTT_OUT_AGAIN);
    assert_int_equal(queued(&o, QUEUE, 1, 70, true), HG_MQTT_OUT_NEW);
    assert_int_equal(send_next(&o), 3);
    assert_true(o.last.is_dup);
    assert_int_equal(send_next(&o), 5); /* none of the list */
    assert_false(o.last.is_dup);
    assert_int_equal(send_next(&o), 4);
    assert_int_equal(send_next(&o), 6);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_SETTLED); /* too early */
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 2), HG_MQTT_OUT_SETTLED);
    assert_int_equal(queued(&o, QUEUE, 2, 80, true), HG_MQTT_OUT_AGAIN);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_RELEASE);
    close_outgoing(&o);
}

static void what_does_not_come_again_leaves_an_identifier_to_be_cleared(void **state)
{
    struct outgoing o;
    const struct hg_session_tx tx[] = {{.fingerprint = 70, .packet_id = 1},
                                       {.fingerprint = 80, .packet_id = 2},
                                       {.fingerprint = 80, .packet_id = 3},
                                       {.fingerprint = 80, .packet_id = 4}};
    uint16_t id;
    (void)state;
    open_outgoing(&o, 9, 9);
    assert_int_equal(hg_mqtt_out_resume(&o.out, QUEUE, tx, 4, true), HG_OK);
    assert_int_equal(queued(&o, QUEUE, 1, 70, false), HG_MQTT_OUT_NEW); /* all has come again */
    assert_int_equal(send_next(&o), 1);                                 /* QoS 1 does not mind */
    queued(&o, QUEUE, 2, 81, false);
    queued(&o, QUEUE, 2, 82, false);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_CLEAR);
    assert_int_equal(id, 2);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_CLEAR);
    assert_int_equal(id, 3);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_IDLE); /* as many as wait */
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 3), HG_MQTT_OUT_SETTLED);
    assert_int_equal(send_next(&o), 3);
    assert_int_equal(o.last.fingerprint, 81);
    assert_int_equal(send_next(&o), 0);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 2), HG_MQTT_OUT_SETTLED);
    assert_int_equal(send_next(&o), 2);
    close_outgoing(&o);
}

static void a_list_says_what_the_client_may_hold(void **state)
{
    struct outgoing o;
    struct hg_session_tx *tx;
    size_t n;
    (void)state;
    open_outgoing(&o, 9, 9);
    assert_true(hg_mqtt_out_list(&o.out, QUEUE, 20, &tx, &n));
    assert_int_equal(n, 0);
    queued(&o, QUEUE, 1, 51, false);
    queued(&o, QUEUE, 2, 52, false);
    queued(&o, QUEUE, 2, 53, false);
    queued(&o, OTHER, 1, 54, false); /* goes to others of the group */
    queued(&o, OTHER, 2, 55, false); /* too, but its identifier is the client's */
    while (send_next(&o) != 0) {
    }
    queued(&o, QUEUE, 1, 56, false); /* waits: was never sent */
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 2), HG_MQTT_OUT_RELEASE);
    queued(&o, QUEUE, 1, 57, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(o.last.fingerprint, 56);
    assert_true(hg_mqtt_out_list(&o.out, QUEUE, 20, &tx, &n));
    const struct hg_session_tx want[] = {{.packet_id = 2, .is_released = true},
                                         {.packet_id = 3, .fingerprint = 53},
                                         {.packet_id = 5, .is_released = true},
                                         {.packet_id = 1, .fingerprint = 56}};
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tx[i].packet_id, want[i].packet_id);
        assert_int_equal(tx[i].fingerprint, want[i].fingerprint);
        assert_int_equal(tx[i].is_released, want[i].is_released);
    }
    hg_free(tx);
    close_outgoing(&o);
}

static void a_list_for_a_client_without_qos_2_has_no_doubts(void **state)
{
    struct outgoing o;
    struct hg_session_tx *tx;
    size_t n;
    (void)state;
    open_outgoing(&o, 9, 9);
    assert_int_equal(hg_mqtt_out_resume(&o.out, QUEUE, NULL, 0, true), HG_OK);
    queued(&o, QUEUE, 1, 1, false);
    queued(&o, QUEUE, 1, 2, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(send_next(&o), 2);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_true(hg_mqtt_out_list(&o.out, QUEUE, 0, &tx, &n));
    assert_int_equal(n, 1);
    assert_int_equal(tx[0].packet_id, 2);
    assert_false(tx[0].is_released);
    hg_free(tx);
    close_outgoing(&o);
}

static void a_list_after_an_unclean_end_has_all_that_was_not_cleared(void **state)
{
    struct outgoing o;
    struct hg_session_tx *tx;
    size_t n;
    uint16_t id;
    (void)state;
    open_outgoing(&o, 9, 9);
    assert_int_equal(hg_mqtt_out_resume(&o.out, QUEUE, NULL, 0, true), HG_OK);
    queued(&o, QUEUE, 2, 1, false);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_CLEAR);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, id), HG_MQTT_OUT_SETTLED);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_RELEASE);
    assert_int_equal(hear(&o, HG_MQTT_PUBCOMP, 1), HG_MQTT_OUT_SETTLED);
    assert_true(hg_mqtt_out_list(&o.out, QUEUE, 20, &tx, &n));
    assert_int_equal(n, 19);
    for (size_t i = 0; i < n; i++) {
        assert_true(tx[i].is_released);
        assert_in_range(tx[i].packet_id, 2, 20);
    }
    hg_free(tx);
    close_outgoing(&o);
}

/* ---- A link that was lost ---- */

static void what_the_client_has_is_not_sent_again_after_a_lost_link(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 2, 9);
    for (uint64_t f = 1; f <= 3; f++) {
        queued(&o, QUEUE, 2, f, false);
    }
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(send_next(&o), 2);
    hg_mqtt_out_stale(&o.out, QUEUE);
    assert_int_equal(o.out.items_n, 0); /* the third comes again, and was never sent */
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 1), HG_MQTT_OUT_RELEASE);
    assert_null(o.settled); /* its ticket is of no use */
    assert_int_equal(queued(&o, QUEUE, 2, 1, true), HG_MQTT_OUT_ANSWERED);
    assert_int_equal(queued(&o, QUEUE, 2, 2, true), HG_MQTT_OUT_HAS);
    assert_int_equal(queued(&o, QUEUE, 2, 3, true), HG_MQTT_OUT_NEW);
    assert_int_equal(hear(&o, HG_MQTT_PUBREC, 2), HG_MQTT_OUT_RELEASE);
    assert_ptr_equal(o.settled, QUEUE); /* with the new ticket */
    assert_int_equal(queued(&o, QUEUE, 2, 1, false), HG_MQTT_OUT_NEW);
    close_outgoing(&o);
}

static void what_does_not_come_again_after_a_lost_link_is_answered_to_nobody(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 9, 9);
    for (uint64_t f = 1; f <= 3; f++) {
        queued(&o, QUEUE, 1, f, false);
        (void)send_next(&o);
    }
    hg_mqtt_out_stale(&o.out, QUEUE);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_int_equal(queued(&o, QUEUE, 1, 4, false), HG_MQTT_OUT_NEW);
    assert_int_equal(o.out.awaited_n, 0);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 2), HG_MQTT_OUT_SETTLED);
    assert_null(o.settled);
    assert_int_equal(queued(&o, QUEUE, 1, 1, true), HG_MQTT_OUT_NEW);
    close_outgoing(&o);
}

static void a_queue_that_is_given_up_leaves_others_alone(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 2, 9);
    queued(&o, OTHER, 1, 1, false);
    queued(&o, QUEUE, 1, 2, false);
    queued(&o, OTHER, 1, 3, false);
    queued(&o, QUEUE, 1, 4, false);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(send_next(&o), 2);
    hg_mqtt_out_forget(&o.out, OTHER);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 1), HG_MQTT_OUT_SETTLED);
    assert_null(o.settled);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(o.last.fingerprint, 4);
    assert_int_equal(hear(&o, HG_MQTT_PUBACK, 2), HG_MQTT_OUT_SETTLED);
    assert_ptr_equal(o.settled, QUEUE);
    close_outgoing(&o);
}

static void without_memory_nothing_changes(void **state)
{
    struct outgoing o;
    uint16_t id;
    (void)state;
    open_outgoing(&o, 1, 1);
    seam_fail_alloc(1);
    assert_int_equal(feed(&o, 1), HG_NO_MEMORY);
    seam_fail_alloc(0);
    assert_int_equal(o.packet->refs, 1);
    assert_int_equal(feed(&o, 1), HG_OK);
    seam_fail_alloc(1);
    assert_int_equal(step(&o, true, &id), HG_MQTT_OUT_FAILED);
    seam_fail_alloc(0);
    assert_int_equal(send_next(&o), 1);
    const struct hg_session_tx tx = {.packet_id = 60};
    seam_fail_alloc(1);
    assert_int_equal(hg_mqtt_out_resume(&o.out, QUEUE, &tx, 1, false), HG_NO_MEMORY);
    struct hg_session_tx *list;
    size_t n;
    for (size_t i = 1; i <= 2; i++) {
        seam_fail_alloc(i);
        assert_false(hg_mqtt_out_list(&o.out, QUEUE, 20, &list, &n));
    }
    seam_fail_alloc(0);
    close_outgoing(&o);
}

/* ---- The model ---- */

enum { MESSAGES = 400, PREFETCH = 6, WIRE_MAX = 4096 };

enum message_state { QUEUED, UNACKED, ACKED };

struct wire { /* packets under way in one direction, in order */
    struct {
        enum hg_mqtt_type type;
        uint16_t id;
        uint16_t message;
    } packets[WIRE_MAX];
    size_t first, n;
};

struct model {
    struct outgoing o;
    uint64_t seed;
    /* RabbitMQ */
    enum message_state states[MESSAGES];
    bool is_redelivered[MESSAGES];
    uint64_t tags[MESSAGES];
    uint64_t next_tag;
    /* the client */
    int holds[64]; /* by identifier: the QoS 2 message received under it; -1: none */
    int seen[MESSAGES];
    bool may_repeat[MESSAGES]; /* was in flight when the gateway crashed */
    struct wire to_client, to_gateway;
    /* what happened */
    size_t acked_n, crashes_n, losses_n, returns_n, clears_n, answered_n, has_n, again_n;
};

static uint8_t qos_of(size_t message)
{
    return message % 3 == 0 ? 1 : 2;
}

static void transmit(struct wire *w, enum hg_mqtt_type type, uint16_t id, size_t message)
{
    assert_in_range(w->n, 0, WIRE_MAX - 1);
    w->packets[w->n].type = type;
    w->packets[w->n].id = id;
    w->packets[w->n].message = (uint16_t)message;
    w->n++;
}

static void cut_wire(struct wire *w)
{
    w->first = w->n = 0;
}

static void pump(struct model *m)
{
    for (;;) {
        uint16_t id;
        enum hg_mqtt_out_step s = step(&m->o, true, &id);
        if (s == HG_MQTT_OUT_IDLE) {
            return;
        }
        assert_in_range(id, 1, 63);
        if (s == HG_MQTT_OUT_CLEAR) {
            transmit(&m->to_client, HG_MQTT_PUBREL, id, 0);
            m->clears_n++;
        } else {
            assert_int_equal(s, HG_MQTT_OUT_SEND);
            transmit(&m->to_client, HG_MQTT_PUBLISH, id, (size_t)m->o.last.fingerprint);
        }
    }
}

static void ack(struct model *m, struct hg_queue *queue, uint64_t tag)
{
    if (queue == NULL) {
        return;
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        if (m->states[i] == UNACKED && m->tags[i] == tag) {
            m->states[i] = ACKED;
            m->acked_n++;
            return;
        }
    }
    fail_msg("acknowledged what is not in flight");
}

static void deliver_one(struct model *m)
{
    size_t unacked_n = 0;
    size_t i = 0;
    for (size_t at = MESSAGES; at-- > 0;) {
        unacked_n += m->states[at] == UNACKED;
        i = m->states[at] == QUEUED ? at : i;
    }
    if (unacked_n >= PREFETCH || m->states[i] != QUEUED) {
        return;
    }
    m->states[i] = UNACKED;
    m->tags[i] = ++m->next_tag;
    struct hg_mqtt_out_item item = {.packet = m->o.packet,
                                    .queue = QUEUE,
                                    .ticket = {.tag = m->tags[i]},
                                    .fingerprint = i,
                                    .expires_ms = UINT64_MAX,
                                    .qos = qos_of(i)};
    enum hg_mqtt_out_met met = hg_mqtt_out_meet(&m->o.out, &item, m->is_redelivered[i]);
    m->has_n += met == HG_MQTT_OUT_HAS;
    m->again_n += met == HG_MQTT_OUT_AGAIN;
    if (met == HG_MQTT_OUT_ANSWERED) {
        m->answered_n++;
        ack(m, QUEUE, item.ticket.tag);
    } else if (met != HG_MQTT_OUT_HAS) {
        assert_int_equal(hg_mqtt_out_push(&m->o.out, &m->o.limits, &item), HG_OK);
        pump(m);
    }
}

static void requeue(struct model *m)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        if (m->states[i] == UNACKED) {
            m->states[i] = QUEUED;
            m->is_redelivered[i] = true;
        }
    }
}

static void client_reads(struct model *m)
{
    if (m->to_client.first == m->to_client.n) {
        return;
    }
    size_t at = m->to_client.first++;
    uint16_t id = m->to_client.packets[at].id;
    int message = m->to_client.packets[at].message;
    if (m->to_client.packets[at].type == HG_MQTT_PUBREL) {
        m->holds[id] = -1;
        transmit(&m->to_gateway, HG_MQTT_PUBCOMP, id, 0);
    } else if (qos_of((size_t)message) == 1) {
        m->seen[message]++;
        transmit(&m->to_gateway, HG_MQTT_PUBACK, id, 0);
    } else {
        if (m->holds[id] == -1) {
            m->seen[message]++;
            m->holds[id] = message;
        }
        assert_int_equal(m->holds[id], message); /* else a new message was taken for a repeat */
        transmit(&m->to_gateway, HG_MQTT_PUBREC, id, 0);
    }
}

static void gateway_reads(struct model *m)
{
    if (m->to_gateway.first == m->to_gateway.n) {
        return;
    }
    size_t at = m->to_gateway.first++;
    uint16_t id = m->to_gateway.packets[at].id;
    enum hg_mqtt_out_answer answer = hear(&m->o, m->to_gateway.packets[at].type, id);
    assert_int_not_equal(answer, HG_MQTT_OUT_WRONG);
    assert_int_not_equal(answer, HG_MQTT_OUT_UNKNOWN);
    ack(m, m->o.settled, m->o.settled_tag);
    if (answer == HG_MQTT_OUT_RELEASE) {
        transmit(&m->to_client, HG_MQTT_PUBREL, id, 0);
    }
    pump(m);
}

static void lose_link(struct model *m)
{
    m->losses_n++;
    hg_mqtt_out_stale(&m->o.out, QUEUE);
    requeue(m);
}

static void come_back(struct model *m, bool is_crash)
{
    struct hg_session_tx *tx = NULL;
    size_t n = 0;
    if (is_crash) {
        m->crashes_n++;
        for (size_t i = 0; i < MESSAGES; i++) {
            m->may_repeat[i] = m->may_repeat[i] || m->states[i] != ACKED;
        }
    } else {
        m->returns_n++;
        assert_true(hg_mqtt_out_list(&m->o.out, QUEUE, 40, &tx, &n));
    }
    hg_mqtt_out_close(&m->o.out);
    cut_wire(&m->to_client);
    cut_wire(&m->to_gateway);
    requeue(m);
    assert_int_equal(hg_mqtt_out_resume(&m->o.out, QUEUE, tx, n, is_crash), HG_OK);
    for (size_t i = 0; i < n; i++) {
        if (tx[i].is_released && tx[i].packet_id != 0) {
            transmit(&m->to_client, HG_MQTT_PUBREL, tx[i].packet_id, 0);
        }
    }
    hg_free(tx);
}

static void move(struct model *m, size_t trouble)
{
    size_t what = unit_random_below(&m->seed, 1000);
    if (what < trouble) {
        come_back(m, what % 8 == 0);
    } else if (what < trouble * 2) {
        lose_link(m);
    } else if (what % 3 == 0) {
        deliver_one(m);
    } else if (what % 3 == 1) {
        client_reads(m);
    } else {
        gateway_reads(m);
    }
    if (m->to_client.first == m->to_client.n) {
        cut_wire(&m->to_client);
    }
    if (m->to_gateway.first == m->to_gateway.n) {
        cut_wire(&m->to_gateway);
    }
}

/* Whatever happens, each message reaches the client, with QoS 2 once; but after a crash, which is
 * the one thing that loses what the gateway knew. */
static void every_message_arrives_and_with_qos_2_once(void **state)
{
    size_t totals[7] = {0};
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct model *m = calloc(1, sizeof(*m));
        assert_non_null(m);
        m->seed = seed;
        open_outgoing(&m->o, PREFETCH, 0);
        for (size_t i = 0; i < 64; i++) {
            m->holds[i] = -1;
        }
        size_t moves = 0;
        for (; m->acked_n < MESSAGES && moves < 200000; moves++) {
            move(m, seed % 3 == 0 ? 0 : 4 + seed % 20);
        }
        assert_int_equal(m->acked_n, MESSAGES);
        for (size_t i = 0; i < MESSAGES; i++) {
            assert_true(m->seen[i] >= 1);
            assert_true(qos_of(i) == 1 || m->seen[i] == 1 || m->may_repeat[i]);
        }
        const size_t n[] = {m->crashes_n,  m->losses_n, m->returns_n, m->clears_n,
                            m->answered_n, m->has_n,    m->again_n};
        for (size_t i = 0; i < 7; i++) {
            totals[i] += n[i];
        }
        close_outgoing(&m->o);
        free(m);
    }
    for (size_t i = 0; i < 7; i++) {
        assert_true(totals[i] > 10); /* everything was tried */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_exceeds_the_inflight_limit_waits),
        cmocka_unit_test(nothing_needs_to_wait_where_nothing_may),
        cmocka_unit_test(an_old_delivery_without_an_answer_blocks_nobody),
        cmocka_unit_test(at_most_all_identifiers_are_in_flight),
        cmocka_unit_test(qos_2_ends_with_pubcomp_and_settles_at_pubrec),
        cmocka_unit_test(a_refusal_ends_a_delivery),
        cmocka_unit_test(qos_0_out_of_a_queue_waits_for_its_turn_and_for_room),
        cmocka_unit_test(what_has_expired_meanwhile_is_handed_back),
        cmocka_unit_test(what_comes_again_keeps_its_identifier),
        cmocka_unit_test(what_does_not_come_again_leaves_an_identifier_to_be_cleared),
        cmocka_unit_test(a_list_says_what_the_client_may_hold),
        cmocka_unit_test(a_list_for_a_client_without_qos_2_has_no_doubts),
        cmocka_unit_test(a_list_after_an_unclean_end_has_all_that_was_not_cleared),
        cmocka_unit_test(what_the_client_has_is_not_sent_again_after_a_lost_link),
        cmocka_unit_test(what_does_not_come_again_after_a_lost_link_is_answered_to_nobody),
        cmocka_unit_test(a_queue_that_is_given_up_leaves_others_alone),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(every_message_arrives_and_with_qos_2_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
