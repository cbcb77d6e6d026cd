/* SPDX-License-Identifier: Apache-2.0 */
/* The window of what RabbitMQ has delivered and the site has not acknowledged, and what a lost link
 * to RabbitMQ does to it. */
#include "adapters/bridge/bridge_outbox.h"

#include "seam/seam.h"
#include "seam/unit.h"

static struct hg_bridge_outbox box;
static uint64_t next_tag;
static uint32_t epoch;

static int open_box(void **state)
{
    (void)state;
    hg_bridge_outbox_open(&box, 3);
    next_tag = 1;
    epoch = 1;
    return 0;
}

static int close_box(void **state)
{
    (void)state;
    hg_bridge_outbox_close(&box);
    assert_int_equal(box.sent_n, 0);
    assert_int_equal(box.done_n, 0);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static enum hg_status deliver(const char *body, bool is_redelivered)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                           .routing_key = HG_BYTES("k"),
                                           .body = hg_bytes_str(body)};
    struct hg_message *m = hg_message_new(&parts);
    assert_non_null(m);
    enum hg_status status = hg_bridge_outbox_take(&box, m, (struct hg_ticket){next_tag++, epoch},
                                                  is_redelivered, HG_BYTES("t"), 2);
    hg_message_unref(m);
    return status;
}

static struct hg_bridge_letter *send(uint16_t mid)
{
    struct hg_bridge_letter *letter = hg_bridge_outbox_next(&box);
    assert_non_null(letter);
    assert_string_equal(letter->topic, "t");
    assert_int_equal(letter->qos, 2);
    hg_bridge_outbox_sent(&box, letter, mid);
    return letter;
}

static void relink(void)
{
    hg_bridge_outbox_relinked(&box);
    epoch++;
    next_tag = 1;
}

static void letters_wait_in_order_and_are_found_by_their_number(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    assert_int_equal(deliver("b", false), HG_OK);
    assert_null(hg_bridge_outbox_find(&box, 7));
    struct hg_bridge_letter *a = send(7);
    struct hg_bridge_letter *b = send(8);
    assert_null(hg_bridge_outbox_next(&box));
    assert_int_equal(box.sent_n, 2);
    assert_ptr_equal(hg_bridge_outbox_find(&box, 8), b);
    assert_int_equal(b->ticket.tag, 2);
    hg_bridge_outbox_end(&box, b);
    assert_null(hg_bridge_outbox_find(&box, 8));
    assert_ptr_equal(hg_bridge_outbox_find(&box, 7), a);
    assert_int_equal(box.sent_n, 1);
}

static void one_under_way_that_is_delivered_again_is_not_sent_again(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    send(7);
    relink();
    assert_true(hg_bridge_outbox_find(&box, 7)->is_stale);
    assert_int_equal(deliver("a", true), HG_HELD);
    struct hg_bridge_letter *a = hg_bridge_outbox_find(&box, 7);
    assert_false(a->is_stale);
    assert_int_equal(a->ticket.epoch, 2);
    assert_null(hg_bridge_outbox_next(&box));
    hg_bridge_outbox_end(&box, a);
}

static void one_that_the_site_acknowledged_meanwhile_is_not_sent_again(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    send(7);
    relink();
    hg_bridge_outbox_end(&box, hg_bridge_outbox_find(&box, 7));
    assert_int_equal(box.sent_n, 0);
    assert_null(hg_bridge_outbox_find(&box, 7));
    assert_int_equal(deliver("a", true), HG_STALE);
}

static void one_whose_acknowledgement_was_lost_with_the_link_is_not_sent_again(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    hg_bridge_outbox_end(&box, send(7));
    relink();
    assert_int_equal(deliver("a", true), HG_STALE);
    assert_int_equal(deliver("a", true), HG_OK); /* another one that looks the same */
}

static void of_equal_messages_the_one_that_is_not_done_comes_first(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    assert_int_equal(deliver("a", false), HG_OK);
    assert_int_equal(deliver("a", false), HG_OK);
    hg_bridge_outbox_end(&box, send(7));
    send(8); /* and the third waits */
    relink();
    assert_null(hg_bridge_outbox_next(&box));
    assert_int_equal(deliver("a", true), HG_HELD);
    assert_int_equal(hg_bridge_outbox_find(&box, 8)->ticket.tag, 1);
    assert_int_equal(deliver("a", true), HG_HELD);
    assert_int_equal(hg_bridge_outbox_next(&box)->ticket.tag, 2);
    assert_int_equal(deliver("a", true), HG_STALE);
}

static void what_waits_goes_on_only_under_a_new_ticket(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    relink();
    assert_null(hg_bridge_outbox_next(&box));
    assert_int_equal(deliver("a", true), HG_HELD);
    assert_int_equal(send(7)->ticket.epoch, 2);
}

static void a_new_message_ends_the_wait_for_old_ones(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    assert_int_equal(deliver("b", false), HG_OK);
    hg_bridge_outbox_end(&box, send(7));
    relink();
    assert_int_equal(deliver("c", false), HG_OK);
    assert_int_equal(send(8)->ticket.tag, 1);
    assert_null(hg_bridge_outbox_next(&box)); /* b went elsewhere */
    assert_int_equal(deliver("a", true), HG_OK);
}

static void a_new_message_is_never_taken_for_an_old_one(void **state)
{
    (void)state;
    assert_int_equal(deliver("a", false), HG_OK);
    send(7);
    relink();
    assert_int_equal(deliver("a", false), HG_OK);
    assert_non_null(hg_bridge_outbox_next(&box));
    assert_true(hg_bridge_outbox_find(&box, 7)->is_stale);
}

static void only_the_latest_are_remembered(void **state)
{
    static const char *const bodies[] = {"a", "b", "c", "d"};
    (void)state;
    for (size_t i = 0; i < 4; i++) { /* one more than the prefetch */
        assert_int_equal(deliver(bodies[i], false), HG_OK);
        hg_bridge_outbox_end(&box, send(7));
    }
    assert_int_equal(box.done_n, 3);
    relink();
    assert_int_equal(deliver("b", true), HG_STALE);
    assert_int_equal(deliver("d", true), HG_STALE);
    assert_int_equal(deliver("a", true), HG_OK);
}

static void what_there_is_no_memory_for_is_not_leaked(void **state)
{
    (void)state;
    for (size_t n = 2; n <= 3; n++) { /* the first is the test's own message */
        seam_fail_alloc(n);
        assert_int_equal(deliver("a", false), HG_NO_MEMORY);
    }
    seam_fail_alloc(0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_box, close_box)
    const struct CMUnitTest tests[] = {
        T(letters_wait_in_order_and_are_found_by_their_number),
        T(one_under_way_that_is_delivered_again_is_not_sent_again),
        T(one_that_the_site_acknowledged_meanwhile_is_not_sent_again),
        T(one_whose_acknowledgement_was_lost_with_the_link_is_not_sent_again),
        T(of_equal_messages_the_one_that_is_not_done_comes_first),
        T(what_waits_goes_on_only_under_a_new_ticket),
        T(a_new_message_ends_the_wait_for_old_ones),
        T(a_new_message_is_never_taken_for_an_old_one),
        T(only_the_latest_are_remembered),
        T(what_there_is_no_memory_for_is_not_leaked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
