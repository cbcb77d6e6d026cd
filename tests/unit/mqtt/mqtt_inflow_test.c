/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of a client's publishes, against a simple model that knows every identifier by
 * heart. */
#include "adapters/mqtt/mqtt_inflow.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

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
    assert_int_equal(seam_live(), 0);
}

static void what_is_refused_in_5_frees_its_identifier(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    static const uint8_t reasons[] = {0x00, 0x10, 0x80, 0x97};
    (void)state;
    for (size_t i = 0; i < sizeof(reasons); i++) {
        assert_true(hg_mqtt_in_reserve(&in));
        uint32_t seq = hg_mqtt_in_push(&in, 7, 2, 0);
        hg_mqtt_in_find(&in, seq)->state = HG_MQTT_IN_ACK;
        hg_mqtt_in_find(&in, seq)->reason = reasons[i];
        assert_true(hg_mqtt_in_pop(&in, &entry));
        assert_int_equal(hg_mqtt_in_use(&in, 7),
                         reasons[i] < 0x80 ? HG_MQTT_RECEIVED : HG_MQTT_FREE);
        hg_mqtt_in_release(&in, 7);
    }
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

static void what_was_received_goes_on_in_another_ledger(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in other = {0};
    struct hg_mqtt_in_entry entry;
    uint16_t *ids = NULL;
    size_t n = 1;
    (void)state;
    assert_true(hg_mqtt_in_list(&in, &ids, &n));
    assert_int_equal(n, 0);
    assert_null(ids);
    for (uint16_t id = 1; id <= 10; id++) { /* the later ones are under way */
        assert_true(hg_mqtt_in_reserve(&in));
        uint32_t seq = hg_mqtt_in_push(&in, id, 2, 0);
        hg_mqtt_in_find(&in, seq)->state = id <= 5 ? HG_MQTT_IN_ACK : HG_MQTT_IN_WAITING;
    }
    while (hg_mqtt_in_pop(&in, &entry)) {
    }
    seam_fail_alloc(1);
    assert_false(hg_mqtt_in_list(&in, &ids, &n));
    seam_fail_alloc(0);
    assert_true(hg_mqtt_in_list(&in, &ids, &n));
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_true(hg_mqtt_in_restore(&other, ids[i]));
    }
    hg_free(ids);
    assert_int_equal(other.restored_n, 5);
    for (uint16_t id = 1; id <= 10; id++) {
        assert_int_equal(hg_mqtt_in_use(&other, id), id <= 5 ? HG_MQTT_RECEIVED : HG_MQTT_FREE);
    }
    hg_mqtt_in_close(&other);
    seam_fail_alloc(1);
    assert_false(hg_mqtt_in_restore(&other, 1));
    seam_fail_alloc(0);
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

static void what_an_entry_owns_goes_with_it(void **state)
{
    struct hg_mqtt_in in = {0};
    struct hg_mqtt_in_entry entry;
    const struct hg_message_parts parts = {.body = HG_BYTES("x")};
    (void)state;
    for (uint16_t id = 1; id <= 2; id++) {
        assert_true(hg_mqtt_in_reserve(&in));
        uint32_t seq = hg_mqtt_in_push(&in, id, 1, 0);
        hg_mqtt_in_find(&in, seq)->text_own = hg_buf_copy(HG_BYTES("why"));
        hg_mqtt_in_find(&in, seq)->spare_own = hg_message_new(&parts);
        hg_mqtt_in_find(&in, seq)->state = HG_MQTT_IN_ACK;
    }
    assert_true(hg_mqtt_in_pop(&in, &entry));
    hg_buf_unref(entry.text_own);
    hg_message_unref(entry.spare_own);
    hg_mqtt_in_close(&in);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledgements_leave_in_the_order_of_the_publishes),
        cmocka_unit_test(a_qos_2_identifier_is_remembered_until_pubrel),
        cmocka_unit_test(identifiers_are_found_however_they_collide),
        cmocka_unit_test(all_identifiers_may_be_in_use),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(what_is_refused_in_5_frees_its_identifier),
        cmocka_unit_test(what_was_received_goes_on_in_another_ledger),
        cmocka_unit_test(what_an_entry_owns_goes_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
