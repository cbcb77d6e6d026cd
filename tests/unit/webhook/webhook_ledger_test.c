/* SPDX-License-Identifier: Apache-2.0 */
/* What a webhook holds: its order by key, its times, and what a lost link does to it. */
#include "adapters/webhook/webhook_ledger.h"

#include "seam/seam.h"
#include "seam/unit.h"

enum { CAP = 4 };

static struct hg_webhook_ledger ledger;
static uint64_t next_tag;

static int open_ledger(void **state)
{
    (void)state;
    hg_webhook_ledger_open(&ledger, CAP);
    next_tag = 1;
    return 0;
}

static int close_ledger(void **state)
{
    (void)state;
    hg_webhook_ledger_close(&ledger);
    assert_int_equal(ledger.n, 0);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static struct hg_webhook_letter *take(const char *key, const char *body, uint64_t now_ms)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                           .routing_key = HG_BYTES("k"),
                                           .body = hg_bytes_str(body)};
    struct hg_message *m = hg_message_new(&parts);
    assert_non_null(m);
    struct hg_webhook_letter *letter = hg_webhook_ledger_take(
        &ledger, m, (struct hg_ticket){next_tag++, 1}, hg_bytes_str(key), now_ms);
    hg_message_unref(m);
    return letter;
}

static void assert_next(const char *body, uint64_t now_ms)
{
    struct hg_webhook_letter *letter = hg_webhook_ledger_next(&ledger, now_ms);
    if (body == NULL) {
        assert_null(letter);
        return;
    }
    assert_non_null(letter);
    assert_true(hg_bytes_eq(hg_message_body(letter->message), hg_bytes_str(body)));
}

static void without_keys_nothing_waits_for_anything(void **state)
{
    (void)state;
    struct hg_webhook_letter *one = take("", "1", 0);
    struct hg_webhook_letter *two = take("", "2", 0);
    assert_next("1", 0);
    one->state = HG_WEBHOOK_SENT;
    assert_next("2", 0);
    one->state = HG_WEBHOOK_WAITING; /* it failed */
    one->due_ms = 50;
    two->state = HG_WEBHOOK_SENT;
    assert_next(NULL, 49);
    assert_int_equal(hg_webhook_ledger_due_ms(&ledger, 0), 50);
    assert_next("1", 50);
    assert_int_equal(hg_webhook_ledger_due_ms(&ledger, 50), HG_WEBHOOK_NEVER);
}

static void of_a_key_one_is_under_way(void **state)
{
    (void)state;
    struct hg_webhook_letter *a1 = take("a", "a1", 0);
    (void)take("a", "a2", 0);
    struct hg_webhook_letter *b1 = take("b", "b1", 0);
    a1->state = HG_WEBHOOK_SENT;
    assert_next("b1", 0);
    b1->state = HG_WEBHOOK_SENT;
    assert_next(NULL, 0);
    a1->state = HG_WEBHOOK_WAITING; /* it failed: its key waits with it */
    a1->due_ms = 50;
    assert_next(NULL, 49);
    assert_int_equal(hg_webhook_ledger_due_ms(&ledger, 0), 50);
    assert_next("a1", 50);
    hg_webhook_ledger_end(&ledger, a1);
    assert_next("a2", 0);
}

static void a_letter_that_leaves_keeps_its_keys_place(void **state)
{
    (void)state;
    struct hg_webhook_letter *a1 = take("a", "a1", 0);
    (void)take("a", "a2", 0);
    a1->state = HG_WEBHOOK_LEAVING;
    a1->due_ms = 10;
    assert_null(hg_webhook_ledger_leaving(&ledger, 9));
    assert_ptr_equal(hg_webhook_ledger_leaving(&ledger, 10), a1);
    a1->state = HG_WEBHOOK_LEFT;
    assert_null(hg_webhook_ledger_leaving(&ledger, 10));
    assert_next(NULL, 10);
    assert_ptr_equal(hg_webhook_ledger_find(&ledger, a1->number), a1);
    uint64_t number = a1->number;
    hg_webhook_ledger_end(&ledger, a1);
    assert_null(hg_webhook_ledger_find(&ledger, number));
    assert_next("a2", 10);
}

static void attempts_are_remembered_while_rabbitmq_has_it(void **state)
{
    (void)state;
    struct hg_webhook_letter *a1 = take("a", "a1", 0);
    (void)take("a", "a2", 0);
    a1->attempts = 3;
    a1->due_ms = 70;
    hg_webhook_ledger_void(&ledger);
    assert_int_equal(ledger.n, 0);
    a1 = take("a", "a1", 10);
    struct hg_webhook_letter *a2 = take("a", "a2", 10);
    assert_int_equal(a1->attempts, 3);
    assert_int_equal(a1->due_ms, 70);
    assert_int_equal(a2->attempts, 0);
    hg_webhook_ledger_void(&ledger);
    a2 = take("a", "a2", 10); /* a1 was taken by somebody else */
    assert_int_equal(a2->attempts, 0);
}

static void what_is_remembered_is_bounded(void **state)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f"};
    enum { KEYS_N = sizeof(keys) / sizeof(keys[0]) };
    (void)state;
    for (size_t i = 0; i < KEYS_N; i++) {
        take(keys[i], "x", 0)->attempts = 1;
        hg_webhook_ledger_void(&ledger);
    }
    assert_int_equal(ledger.remembered_n, CAP);
    assert_int_equal(ledger.keys.n, CAP);
    for (size_t i = 0; i < KEYS_N; i++) {
        assert_int_equal(take(keys[i], "x", 0)->attempts, i < KEYS_N - CAP ? 0 : 1);
    }
}

static void a_lost_link_drops_what_waits_and_marks_what_does_not(void **state)
{
    (void)state;
    struct hg_webhook_letter *one = take("a", "1", 0);
    (void)take("", "2", 0);
    struct hg_webhook_letter *three = take("", "3", 0);
    one->state = HG_WEBHOOK_SENT;
    three->state = HG_WEBHOOK_LEFT;
    hg_webhook_ledger_void(&ledger);
    assert_int_equal(ledger.n, 2);
    assert_true(one->is_stale && three->is_stale);
    (void)take("a", "1", 0); /* again, behind the one that is under way */
    assert_next(NULL, 0);
    hg_webhook_ledger_end(&ledger, one);
    assert_next("1", 0);
}

static void the_oldest_that_waits_is_overdue_first(void **state)
{
    (void)state;
    take("", "1", 10)->state = HG_WEBHOOK_SENT;
    struct hg_webhook_letter *two = take("", "2", 20);
    (void)take("", "3", 30);
    assert_null(hg_webhook_ledger_overdue(&ledger, 20));
    assert_ptr_equal(hg_webhook_ledger_overdue(&ledger, 21), two);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    for (size_t i = 1;; i++) {
        const struct hg_message_parts parts = {.body = HG_BYTES("x")};
        struct hg_message *m = hg_message_new(&parts);
        seam_fail_alloc(i);
        struct hg_webhook_letter *letter =
            hg_webhook_ledger_take(&ledger, m, (struct hg_ticket){1, 1}, HG_BYTES("key"), 0);
        bool has_failed = seam_allocs() >= i;
        seam_fail_alloc(0);
        hg_message_unref(m);
        assert_true((letter == NULL) == has_failed);
        assert_int_equal(ledger.n, letter == NULL ? 0 : 1);
        if (letter != NULL) {
            return;
        }
        assert_int_equal(ledger.keys.n, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_ledger, close_ledger)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_keys_nothing_waits_for_anything),
        TEST(of_a_key_one_is_under_way),
        TEST(a_letter_that_leaves_keeps_its_keys_place),
        TEST(attempts_are_remembered_while_rabbitmq_has_it),
        TEST(what_is_remembered_is_bounded),
        TEST(a_lost_link_drops_what_waits_and_marks_what_does_not),
        TEST(the_oldest_that_waits_is_overdue_first),
        TEST(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
