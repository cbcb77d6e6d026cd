/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/unanswered.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <string.h>

/* Everything that is to be sent, as "3* 7 9": tags, those with `multiple` starred. */
static const char *taken(struct hg_unanswered *u, char text[256])
{
    uint64_t tag = 0;
    bool is_multiple = false;
    size_t n = 0;
    text[0] = '\0';
    while (hg_unanswered_take(u, &tag, &is_multiple)) {
        n += (size_t)snprintf(text + n, 256 - n, "%s%u%s", n > 0 ? " " : "", (unsigned)tag,
                              is_multiple ? "*" : "");
    }
    return text;
}

static void add(struct hg_unanswered *u, uint64_t from, uint64_t to)
{
    for (uint64_t tag = from; tag <= to; tag++) {
        assert_true(hg_unanswered_add(u, tag, tag + 1000));
    }
}

static void acks_of_a_turn_go_out_together_where_nothing_older_is_open(void **state)
{
    static const struct {
        const char *acks, *sent;
    } cases[] = {
        {"1", "1"},     {"1 2 3", "3*"},       {"3 1 2", "3*"},     {"2 3", "2 3"},
        {"1 3", "1 3"}, {"1 2 4 5", "2* 4 5"}, {"5 4 3 2 1", "5*"}, {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_unanswered u = {0};
        char text[256];
        add(&u, 1, 5);
        for (const char *p = cases[i].acks; *p != '\0'; p++) {
            if (*p != ' ') {
                assert_true(hg_unanswered_ack(&u, (uint64_t)(*p - '0')));
            }
        }
        assert_string_equal(taken(&u, text), cases[i].sent);
        hg_unanswered_close(&u);
    }
}

static void all_that_is_open_is_acknowledged_at_once(void **state)
{
    struct hg_unanswered u = {0};
    char text[256];
    (void)state;
    add(&u, 1, 4);
    assert_true(hg_unanswered_settle(&u, 2));
    hg_unanswered_ack_all(&u);
    assert_false(hg_unanswered_ack(&u, 3));
    assert_string_equal(taken(&u, text), "4*");
    assert_int_equal(u.n, 0);
    hg_unanswered_close(&u);
}

static void what_was_acknowledged_alone_is_no_gap_later(void **state)
{
    struct hg_unanswered u = {0};
    char text[256];
    (void)state;
    add(&u, 1, 6);
    hg_unanswered_ack(&u, 2);
    hg_unanswered_ack(&u, 3);
    assert_string_equal(taken(&u, text), "2 3");
    hg_unanswered_ack(&u, 1);
    hg_unanswered_ack(&u, 4);
    assert_string_equal(taken(&u, text), "4*");
    assert_true(hg_unanswered_settle(&u, 5));
    hg_unanswered_ack(&u, 6);
    assert_string_equal(taken(&u, text), "6");
    assert_int_equal(u.n, 0);
    hg_unanswered_close(&u);
}

static void all_that_are_open_are_acknowledged_at_once(void **state)
{
    struct hg_unanswered u = {0};
    char text[256];
    (void)state;
    hg_unanswered_ack_all(&u);
    assert_string_equal(taken(&u, text), "");
    add(&u, 1, 5);
    assert_true(hg_unanswered_settle(&u, 2));
    assert_true(hg_unanswered_ack(&u, 3));
    hg_unanswered_ack_all(&u);
    assert_int_equal(u.open_n, 0);
    assert_string_equal(taken(&u, text), "5*");
    add(&u, 6, 6);
    hg_unanswered_ack_all(&u);
    assert_string_equal(taken(&u, text), "6");
    assert_int_equal(u.n, 0);
    hg_unanswered_close(&u);
}

static void the_oldest_without_an_answer_is_known_by_its_mark(void **state)
{
    struct hg_unanswered u = {0};
    uint64_t mark = 0;
    (void)state;
    assert_false(hg_unanswered_oldest(&u, &mark));
    add(&u, 1, 4);
    hg_unanswered_ack(&u, 1);
    hg_unanswered_settle(&u, 2);
    assert_true(hg_unanswered_oldest(&u, &mark));
    assert_int_equal(mark, 1003);
    hg_unanswered_ack_all(&u);
    assert_false(hg_unanswered_oldest(&u, &mark));
    hg_unanswered_close(&u);
}

static void a_delivery_has_one_answer(void **state)
{
    struct hg_unanswered u = {0};
    char text[256];
    (void)state;
    add(&u, 1, 3);
    assert_true(hg_unanswered_ack(&u, 2));
    assert_false(hg_unanswered_ack(&u, 2));
    assert_false(hg_unanswered_settle(&u, 2));
    assert_string_equal(taken(&u, text), "2");
    assert_false(hg_unanswered_ack(&u, 2));
    assert_false(hg_unanswered_ack(&u, 0));
    assert_false(hg_unanswered_ack(&u, 4));
    assert_true(hg_unanswered_settle(&u, 1));
    assert_false(hg_unanswered_ack(&u, 1));
    assert_int_equal(u.open_n, 1);
    hg_unanswered_close(&u);
}

static void one_that_waits_for_ever_costs_no_memory_for_the_others(void **state)
{
    struct hg_unanswered u = {0};
    char text[256];
    (void)state;
    add(&u, 1, 1);
    for (uint64_t tag = 2; tag < 10000; tag++) {
        add(&u, tag, tag);
        assert_true(hg_unanswered_ack(&u, tag));
        (void)taken(&u, text);
    }
    assert_true(u.cap <= 64);
    assert_true(hg_unanswered_ack(&u, 1));
    assert_string_equal(taken(&u, text), "1");
    hg_unanswered_close(&u);
}

/* Against the plain truth: each tag acknowledged goes out once, alone or below a multiple, and no
 * multiple is above an open one. */
static void random_answers_are_sent_exactly_once(void **state)
{
    enum { TAGS = 400 };
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct hg_unanswered u = {0};
        enum { NEW, OPEN, ACKED, SENT, SETTLED } is[TAGS + 1] = {NEW};
        uint64_t random = seed;
        uint64_t last = 0;
        for (size_t step = 0; step < 2000; step++) {
            size_t tag = 1 + unit_random_below(&random, TAGS);
            switch (unit_random_below(&random, 4)) {
            case 0:
                if (last < TAGS) {
                    add(&u, last + 1, last + 1);
                    is[++last] = OPEN;
                }
                break;
            case 1:
                assert_int_equal(hg_unanswered_ack(&u, tag), is[tag] == OPEN);
                is[tag] = is[tag] == OPEN ? ACKED : is[tag];
                break;
            case 2:
                if (unit_random_below(&random, 4) == 0) {
                    assert_int_equal(hg_unanswered_settle(&u, tag), is[tag] == OPEN);
                    is[tag] = is[tag] == OPEN ? SETTLED : is[tag];
                }
                break;
            default: {
                uint64_t sent = 0;
                bool is_multiple = false;
                while (hg_unanswered_take(&u, &sent, &is_multiple)) {
                    assert_int_equal(is[sent], ACKED);
                    for (uint64_t t = is_multiple ? 1 : sent; t <= sent; t++) {
                        assert_int_not_equal(is[t], OPEN);
                        is[t] = is[t] == ACKED ? SENT : is[t];
                    }
                }
                for (uint64_t t = 1; t <= last; t++) {
                    assert_int_not_equal(is[t], ACKED);
                }
            }
            }
        }
        hg_unanswered_close(&u);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_of_a_turn_go_out_together_where_nothing_older_is_open),
        cmocka_unit_test(all_that_is_open_is_acknowledged_at_once),
        cmocka_unit_test(what_was_acknowledged_alone_is_no_gap_later),
        cmocka_unit_test(all_that_are_open_are_acknowledged_at_once),
        cmocka_unit_test(the_oldest_without_an_answer_is_known_by_its_mark),
        cmocka_unit_test(a_delivery_has_one_answer),
        cmocka_unit_test(one_that_waits_for_ever_costs_no_memory_for_the_others),
        cmocka_unit_test(random_answers_are_sent_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
