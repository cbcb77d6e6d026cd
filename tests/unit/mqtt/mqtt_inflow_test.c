/* SPDX-License-Identifier: Apache-2.0 */
/* The ledgers of acknowledged flows, against simple models that know every identifier by heart. */
#include "adapters/mqtt/mqtt_flow.h"

#include "seam/seam.h"
#include "seam/unit.h"

/* ---- In ---- */

static void acknowledgements_leave_in_the_order_of_the_publishes(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    uint32_t seqs[3];
    (void)state;
    for (uint16_t i = 0; i < 3; i++) {
        assert_true(hg_mqtt_in_reserve(&in));
        seqs[i] = hg_mqtt_in_push(&in, (uint16_t)(100 + i), 1, 0);
    }
    hg_mqtt_in_find(&in, seqs[2])->state = HG_MQTT_IN_ACK;
    hg_mqtt_in_find(&in, seqs[1])->state = HG_MQTT_IN_WITHHOLD;
    assert_false(hg_mqtt_in_pop(&in, &entry));
    hg_mqtt_in_find(&in, seqs[0])->state = HG_MQTT_IN_ACK;
    for (uint16_t i = 0; i < 3; i++) {
        assert_int_equal(hg_mqtt_in_use(&in, (uint16_t)(100 + i)), HG_MQTT_UNDER_WAY);
        assert_true(hg_mqtt_in_pop(&in, &entry));
        assert_int_equal(entry.packet_id, 100 + i);
        assert_int_equal(hg_mqtt_in_use(&in, entry.packet_id), HG_MQTT_FREE);
        assert_null(hg_mqtt_in_find(&in, seqs[i]));
    }
    assert_true(hg_mqtt_in_is_empty(&in));
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

static void a_qos_2_identifier_is_remembered_until_pubrel(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    (void)state;
    assert_int_equal(hg_mqtt_in_use(&in, 7), HG_MQTT_FREE);
    for (int withheld = 0; withheld < 2; withheld++) {
        assert_true(hg_mqtt_in_reserve(&in));
        uint32_t seq = hg_mqtt_in_push(&in, 7, 2, 0);
        hg_mqtt_in_release(&in, 7); /* not yet */
        assert_int_equal(hg_mqtt_in_use(&in, 7), HG_MQTT_UNDER_WAY);
        hg_mqtt_in_find(&in, seq)->state = withheld ? HG_MQTT_IN_WITHHOLD : HG_MQTT_IN_ACK;
        assert_true(hg_mqtt_in_pop(&in, &entry));
        assert_int_equal(hg_mqtt_in_use(&in, 7), withheld ? HG_MQTT_FREE : HG_MQTT_RECEIVED);
        hg_mqtt_in_release(&in, 7);
        hg_mqtt_in_release(&in, 8);
        assert_int_equal(hg_mqtt_in_use(&in, 7), HG_MQTT_FREE);
    }
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

/* Identifiers that all want the same places come and go: the table says of each what the model
 * says. */
static void identifiers_are_found_however_they_collide(void **state)
{
    static uint8_t model[UINT16_MAX + 1];
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    uint64_t seed = 1;
    (void)state;
    for (int i = 0; i < 200000; i++) {
        bool is_growing = i % 40000 < 20000;
        uint16_t id = (uint16_t)(1 + unit_random_below(&seed, 300) * 64 % UINT16_MAX);
        assert_int_equal(hg_mqtt_in_use(&in, id), model[id]);
        if (model[id] == HG_MQTT_RECEIVED && unit_random_below(&seed, 3) > (is_growing ? 1 : 0)) {
            hg_mqtt_in_release(&in, id);
            model[id] = HG_MQTT_FREE;
        } else if (model[id] == HG_MQTT_FREE) {
            assert_true(hg_mqtt_in_reserve(&in));
            uint32_t seq = hg_mqtt_in_push(&in, id, 1 + unit_random_below(&seed, 2) % 2, 0);
            hg_mqtt_in_find(&in, seq)->state = HG_MQTT_IN_ACK;
            model[id] = HG_MQTT_UNDER_WAY;
        }
        if (unit_random_below(&seed, 4) > (is_growing ? 2 : 0) && hg_mqtt_in_pop(&in, &entry)) {
            assert_int_equal(model[entry.packet_id], HG_MQTT_UNDER_WAY);
            model[entry.packet_id] = entry.qos == 2 ? HG_MQTT_RECEIVED : HG_MQTT_FREE;
        }
    }
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

static void all_identifiers_may_be_in_use(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    (void)state;
    for (uint32_t id = 1; id <= UINT16_MAX; id++) {
        assert_true(hg_mqtt_in_reserve(&in));
        uint32_t seq = hg_mqtt_in_push(&in, (uint16_t)id, 1, 0);
        hg_mqtt_in_find(&in, seq)->state = HG_MQTT_IN_ACK;
    }
    assert_int_equal(in.ids_n, UINT16_MAX);
    for (uint32_t id = 1; id <= UINT16_MAX; id++) {
        assert_true(hg_mqtt_in_pop(&in, &entry));
        assert_int_equal(entry.packet_id, id);
    }
    assert_int_equal(in.ids_n, 0);
    assert_int_equal(seam_live(), 0); /* a burst's memory is given back when it is over */
}

static void without_memory_nothing_changes(void **state)
{
    struct hg_mqtt_in in = {0};
    (void)state;
    for (size_t n = 1; n <= 2; n++) {
        seam_fail_alloc(n);
        assert_false(hg_mqtt_in_reserve(&in));
    }
    seam_fail_alloc(0);
    assert_true(hg_mqtt_in_reserve(&in));
    assert_true(hg_mqtt_in_is_empty(&in));
    assert_int_equal(hg_mqtt_in_use(&in, 1), HG_MQTT_FREE);
    hg_mqtt_in_close(&in);

    struct hg_mqtt_out out = {0};
    const struct hg_mqtt_out_limits limits = {1, 1};
    struct hg_buf *packet = hg_buf_new(10);
    seam_fail_alloc(1);
    assert_int_equal(hg_mqtt_out_push(&out, &limits, packet, false), HG_NO_MEMORY);
    seam_fail_alloc(0);
    assert_int_equal(packet->refs, 1);
    assert_int_equal(out.waiting_bytes, 0);
    hg_mqtt_out_close(&out);
    hg_buf_unref(packet);
    assert_int_equal(seam_live(), 0);
}

/* ---- Out ---- */

struct outgoing {
    struct hg_mqtt_out out;
    struct hg_mqtt_out_limits limits;
    struct hg_buf *packet;
};

static void open_outgoing(struct outgoing *o, uint32_t inflight_max, uint32_t queued_max)
{
    *o = (struct outgoing){.limits = {inflight_max, queued_max}, .packet = hg_buf_new(10)};
    assert_non_null(o->packet);
    o->packet->n = 10;
}

/* Its identifier, 0 if none may be sent. */
static uint16_t send_next(struct outgoing *o)
{
    struct hg_mqtt_out_entry entry;
    uint16_t id = 0;
    if (hg_mqtt_out_next(&o->out, &o->limits, &entry, &id)) {
        assert_ptr_equal(entry.packet, o->packet);
        hg_buf_unref(entry.packet);
    }
    return id;
}

static void close_outgoing(struct outgoing *o)
{
    hg_mqtt_out_close(&o->out);
    assert_int_equal(o->packet->refs, 1);
    hg_buf_unref(o->packet);
    assert_int_equal(seam_live(), 0);
}

static void what_exceeds_the_inflight_limit_waits(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 2, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
        assert_int_equal(send_next(&o), i + 1);
    }
    assert_int_equal(o.packet->refs,
                     1); /* what is in flight is not kept: the session ends with the connection */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
        assert_int_equal(send_next(&o), 0);
    }
    assert_int_equal(o.out.waiting_bytes, 20);
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_TOO_MANY);
    assert_true(hg_mqtt_out_ack(&o.out, 1));
    assert_int_equal(send_next(&o), 3);
    assert_int_equal(send_next(&o), 0);
    assert_int_equal(o.out.waiting_bytes, 10);
    close_outgoing(&o);
}

static void nothing_needs_to_wait_where_nothing_may(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 1, 0);
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_TOO_MANY);
    assert_true(hg_mqtt_out_ack(&o.out, 1));
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
    close_outgoing(&o);
}

static void acknowledgements_may_come_in_any_order(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, 3, 9);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, i == 4), HG_OK);
    }
    assert_int_equal(send_next(&o), 1);
    assert_int_equal(send_next(&o), 2);
    assert_int_equal(send_next(&o), 3);
    assert_false(hg_mqtt_out_ack(&o.out, 4)); /* waits: its identifier is not in use */
    assert_false(hg_mqtt_out_ack(&o.out, UINT16_MAX));
    assert_true(hg_mqtt_out_ack(&o.out, 3));
    assert_true(hg_mqtt_out_ack(&o.out, 2));
    assert_false(hg_mqtt_out_ack(&o.out, 2));
    assert_int_equal(send_next(&o), 0); /* 1 is the oldest */
    assert_true(hg_mqtt_out_ack(&o.out, 1));
    assert_int_equal(o.out.sent_n, 0);
    assert_int_equal(send_next(&o), 4);
    struct hg_mqtt_out_entry entry;
    uint16_t id;
    assert_true(hg_mqtt_out_next(&o.out, &o.limits, &entry, &id));
    assert_int_equal(id, 5);
    assert_true(entry.is_dup);
    hg_buf_unref(entry.packet);
    close_outgoing(&o);
}

/* More deliveries than there are identifiers, with a random number in flight: each gets one that
 * nobody else has. */
static void identifiers_go_round(void **state)
{
    static bool in_use[UINT16_MAX + 1];
    static uint16_t sent[100];
    struct outgoing o;
    uint64_t seed = 3;
    size_t sent_n = 0;
    (void)state;
    open_outgoing(&o, 50, 50);
    for (int i = 0; i < 300000; i++) {
        if (unit_random_below(&seed, 2) == 0 && sent_n > 0) {
            size_t which = unit_random_below(&seed, sent_n);
            assert_true(hg_mqtt_out_ack(&o.out, sent[which]));
            in_use[sent[which]] = false;
            sent[which] = sent[--sent_n];
        } else {
            bool is_full = o.out.n - o.out.sent_n == 50;
            assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false),
                             is_full ? HG_TOO_MANY : HG_OK);
        }
        for (uint16_t id = send_next(&o); id != 0; id = send_next(&o)) {
            assert_false(in_use[id]);
            in_use[id] = true;
            sent[sent_n++] = id;
        }
    }
    close_outgoing(&o);
}

static void at_most_all_identifiers_are_in_flight(void **state)
{
    struct outgoing o;
    (void)state;
    open_outgoing(&o, UINT32_MAX, 10);
    for (uint32_t i = 1; i <= UINT16_MAX; i++) {
        assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
        assert_int_equal(send_next(&o), i);
    }
    assert_int_equal(hg_mqtt_out_push(&o.out, &o.limits, o.packet, false), HG_OK);
    assert_int_equal(send_next(&o), 0);
    assert_true(hg_mqtt_out_ack(&o.out, 1));
    assert_int_equal(send_next(&o), 1);
    for (uint32_t i = 2; i <= UINT16_MAX; i++) {
        assert_true(hg_mqtt_out_ack(&o.out, (uint16_t)i));
    }
    assert_true(hg_mqtt_out_ack(&o.out, 1));
    assert_null(o.out.entries); /* a burst's memory is given back when it is over */
    close_outgoing(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledgements_leave_in_the_order_of_the_publishes),
        cmocka_unit_test(a_qos_2_identifier_is_remembered_until_pubrel),
        cmocka_unit_test(identifiers_are_found_however_they_collide),
        cmocka_unit_test(all_identifiers_may_be_in_use),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(what_exceeds_the_inflight_limit_waits),
        cmocka_unit_test(nothing_needs_to_wait_where_nothing_may),
        cmocka_unit_test(acknowledgements_may_come_in_any_order),
        cmocka_unit_test(identifiers_go_round),
        cmocka_unit_test(at_most_all_identifiers_are_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
