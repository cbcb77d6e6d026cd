/* SPDX-License-Identifier: Apache-2.0 */
/* The window of what a site has sent and RabbitMQ has not confirmed. */
#include "adapters/bridge/bridge_inbox.h"

#include "seam/seam.h"
#include "seam/unit.h"

static struct hg_message *make(const char *address)
{
    const struct hg_message_parts parts = {.routing_key = hg_bytes_str(address)};
    return hg_message_new(&parts);
}

static void add(struct hg_bridge_inbox *i, const char *address)
{
    assert_true(hg_bridge_inbox_add(i, make(address), 1, false));
}

static void assert_next(struct hg_bridge_inbox *i, const char *address)
{
    struct hg_bridge_arrival *a = hg_bridge_inbox_next(i);
    assert_non_null(a);
    assert_text(hg_message_routing_key(a->message), address);
}

static void arrivals_go_out_in_their_order(void **state)
{
    struct hg_bridge_inbox i;
    (void)state;
    hg_bridge_inbox_open(&i);
    assert_null(hg_bridge_inbox_next(&i));
    add(&i, "1");
    add(&i, "2");
    assert_next(&i, "1");
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    assert_next(&i, "2");
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    assert_null(hg_bridge_inbox_next(&i));
    assert_int_equal(i.n, 2);
    assert_int_equal(i.waiting_n, 0);
    hg_bridge_inbox_close(&i);
    assert_int_equal(seam_live(), 0);
}

static void one_without_an_outcome_goes_again_before_what_came_later(void **state)
{
    struct hg_bridge_inbox i;
    (void)state;
    hg_bridge_inbox_open(&i);
    add(&i, "1");
    add(&i, "2");
    add(&i, "3");
    uint64_t id = hg_bridge_inbox_next(&i)->id;
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    hg_bridge_inbox_again(&i, hg_bridge_inbox_find(&i, id));
    assert_int_equal(i.waiting_n, 2);
    assert_null(hg_bridge_inbox_find(&i, id)); /* it is not under way */
    assert_next(&i, "1");
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    assert_next(&i, "3");
    hg_bridge_inbox_close(&i);
    assert_int_equal(seam_live(), 0);
}

static void a_settled_one_leaves_the_window(void **state)
{
    struct hg_bridge_inbox i;
    (void)state;
    hg_bridge_inbox_open(&i);
    add(&i, "1");
    add(&i, "2");
    hg_bridge_inbox_sent(&i, hg_bridge_inbox_next(&i));
    hg_bridge_inbox_end(&i, hg_bridge_inbox_find(&i, 1));
    assert_null(hg_bridge_inbox_find(&i, 1));
    assert_int_equal(i.n, 1);
    hg_bridge_inbox_end(&i, hg_bridge_inbox_next(&i)); /* refused at once */
    assert_int_equal(i.n, 0);
    assert_int_equal(i.waiting_n, 0);
    assert_int_equal(seam_live(), 0);
}

static void what_there_is_no_memory_for_is_not_leaked(void **state)
{
    struct hg_bridge_inbox i;
    (void)state;
    hg_bridge_inbox_open(&i);
    assert_false(hg_bridge_inbox_add(&i, NULL, 1, false));
    struct hg_message *m = make("1");
    seam_fail_alloc(1);
    assert_false(hg_bridge_inbox_add(&i, m, 1, false));
    seam_fail_alloc(0);
    assert_int_equal(i.n, 0);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals_go_out_in_their_order),
        cmocka_unit_test(one_without_an_outcome_goes_again_before_what_came_later),
        cmocka_unit_test(a_settled_one_leaves_the_window),
        cmocka_unit_test(what_there_is_no_memory_for_is_not_leaked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
