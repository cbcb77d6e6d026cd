/* SPDX-License-Identifier: Apache-2.0 */
/* What comes back from a site is known again, once, and not for ever. */
#include "adapters/bridge/bridge_echo.h"

#include "seam/seam.h"
#include "seam/unit.h"

#define TOPIC HG_BYTES("cmd/stop")
#define BODY  HG_BYTES("now")

static void a_message_that_was_sent_is_taken_once(void **state)
{
    struct hg_bridge_echo e;
    (void)state;
    assert_true(hg_bridge_echo_open(&e, 4));
    assert_false(hg_bridge_echo_take(&e, TOPIC, BODY, 1000));
    hg_bridge_echo_sent(&e, TOPIC, BODY, 1000);
    assert_false(hg_bridge_echo_take(&e, TOPIC, HG_BYTES("never"), 1000));
    assert_false(hg_bridge_echo_take(&e, HG_BYTES("cmd/go"), BODY, 1000));
    assert_true(hg_bridge_echo_take(&e, TOPIC, BODY, 1000));
    assert_false(hg_bridge_echo_take(&e, TOPIC, BODY, 1000));
    hg_bridge_echo_close(&e);
}

static void each_of_two_equal_messages_has_its_echo(void **state)
{
    struct hg_bridge_echo e;
    (void)state;
    assert_true(hg_bridge_echo_open(&e, 4));
    hg_bridge_echo_sent(&e, TOPIC, BODY, 1000);
    hg_bridge_echo_sent(&e, TOPIC, BODY, 1000);
    assert_true(hg_bridge_echo_take(&e, TOPIC, BODY, 1001));
    assert_true(hg_bridge_echo_take(&e, TOPIC, BODY, 1002));
    assert_false(hg_bridge_echo_take(&e, TOPIC, BODY, 1003));
    hg_bridge_echo_close(&e);
}

static void an_echo_is_not_awaited_for_ever(void **state)
{
    struct hg_bridge_echo e;
    (void)state;
    assert_true(hg_bridge_echo_open(&e, 4));
    hg_bridge_echo_sent(&e, TOPIC, BODY, 1000);
    assert_false(hg_bridge_echo_take(&e, TOPIC, BODY, 1000 + HG_BRIDGE_ECHO_MS));
    hg_bridge_echo_close(&e);
}

static void the_oldest_of_too_many_is_forgotten(void **state)
{
    struct hg_bridge_echo e;
    (void)state;
    assert_true(hg_bridge_echo_open(&e, 2));
    hg_bridge_echo_sent(&e, HG_BYTES("1"), BODY, 1);
    hg_bridge_echo_sent(&e, HG_BYTES("2"), BODY, 1);
    hg_bridge_echo_sent(&e, HG_BYTES("3"), BODY, 1);
    assert_false(hg_bridge_echo_take(&e, HG_BYTES("1"), BODY, 1));
    assert_true(hg_bridge_echo_take(&e, HG_BYTES("2"), BODY, 1));
    assert_true(hg_bridge_echo_take(&e, HG_BYTES("3"), BODY, 1));
    hg_bridge_echo_close(&e);
}

static void one_that_is_not_open_knows_nothing(void **state)
{
    struct hg_bridge_echo e = {0};
    (void)state;
    hg_bridge_echo_sent(&e, TOPIC, BODY, 1);
    assert_false(hg_bridge_echo_take(&e, TOPIC, BODY, 1));
    hg_bridge_echo_close(&e);
    seam_fail_alloc(1);
    assert_false(hg_bridge_echo_open(&e, 2));
    seam_fail_alloc(0);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_was_sent_is_taken_once),
        cmocka_unit_test(each_of_two_equal_messages_has_its_echo),
        cmocka_unit_test(an_echo_is_not_awaited_for_ever),
        cmocka_unit_test(the_oldest_of_too_many_is_forgotten),
        cmocka_unit_test(one_that_is_not_open_knows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
