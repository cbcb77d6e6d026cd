/* SPDX-License-Identifier: Apache-2.0 */
/* What a site repeats after a lost connection is known again; what only looks like it is not. */
#include "adapters/bridge/bridge_repeat.h"

#include "seam/seam.h"
#include "seam/unit.h"

static struct hg_bridge_repeat repeat;

static int open_repeat(void **state)
{
    (void)state;
    return hg_bridge_repeat_open(&repeat, 3) ? 0 : -1;
}

static int close_repeat(void **state)
{
    (void)state;
    hg_bridge_repeat_close(&repeat);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static bool came(uint16_t mid, const char *body, bool is_dup)
{
    return hg_bridge_repeat_came(&repeat, mid, HG_BYTES("t"), hg_bytes_str(body), is_dup);
}

static void a_repetition_is_known(void **state)
{
    (void)state;
    assert_false(came(1, "a", false));
    assert_true(came(1, "a", true));
    assert_true(came(1, "a", true)); /* as often as it is repeated */
}

static void what_is_no_repetition_is_new(void **state)
{
    (void)state;
    assert_false(came(1, "a", true));  /* it never arrived */
    assert_false(came(1, "a", false)); /* the same again, under an identifier that is free */
    assert_false(came(2, "a", true));
    assert_false(came(1, "b", true));
    assert_false(hg_bridge_repeat_came(&repeat, 1, HG_BYTES("u"), HG_BYTES("b"), true));
}

static void the_oldest_is_forgotten(void **state)
{
    (void)state;
    assert_false(came(1, "a", false));
    assert_false(came(2, "b", false));
    assert_false(came(3, "c", false));
    assert_false(came(4, "d", false));
    assert_true(came(4, "d", true));
    assert_true(came(2, "b", true));
    assert_false(came(1, "a", true));
}

static void a_new_session_repeats_nothing(void **state)
{
    (void)state;
    assert_false(came(1, "a", false));
    hg_bridge_repeat_clear(&repeat);
    assert_false(came(1, "a", true));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_repeat, close_repeat)
    const struct CMUnitTest tests[] = {
        T(a_repetition_is_known),
        T(what_is_no_repetition_is_new),
        T(the_oldest_is_forgotten),
        T(a_new_session_repeats_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
