/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and their answers: what is kept, what is forgotten, what is refused. */
#include "core/idempotency.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

static struct hg_idempotency *open_table(size_t max_n, uint64_t max_bytes)
{
    return hg_idempotency_new(&(struct hg_idempotency_limits){max_n, max_bytes, 1000});
}

static enum hg_idempotency_state begin(struct hg_idempotency *x, const char *key,
                                       struct hg_idempotency_entry **entry_out)
{
    struct hg_idempotency_answer answer = {.status = 0};
    enum hg_idempotency_state state = hg_idempotency_begin(x, hg_bytes_str(key), HG_BYTES("/a"),
                                                           HG_BYTES("body"), entry_out, &answer);
    hg_writer_close(&answer.body);
    return state;
}

static void end(struct hg_idempotency *x, struct hg_idempotency_entry *e, const char *body)
{
    struct hg_bytes b = hg_bytes_str(body);
    hg_idempotency_end(x, e, 202, "text/plain", &b);
}

static void what_is_under_way_is_never_forgotten(void **state)
{
    (void)state;
    struct hg_idempotency *x = open_table(2, 100);
    struct hg_idempotency_entry *a, *b, *c;
    assert_int_equal(begin(x, "a", &a), HG_IDEMPOTENCY_FIRST);
    assert_int_equal(begin(x, "b", &b), HG_IDEMPOTENCY_FIRST);
    seam_now_ms += 5000;
    assert_int_equal(begin(x, "a", &c), HG_IDEMPOTENCY_UNDER_WAY);
    assert_int_equal(begin(x, "c", &c), HG_IDEMPOTENCY_FULL);
    end(x, a, "");
    assert_int_equal(begin(x, "c", &c), HG_IDEMPOTENCY_FIRST);
    assert_int_equal(begin(x, "b", &a), HG_IDEMPOTENCY_UNDER_WAY);
    hg_idempotency_end(x, b, 0, NULL, NULL);
    hg_idempotency_end(x, c, 0, NULL, NULL);
    hg_idempotency_free(x);
    assert_int_equal(seam_live(), 0);
}

static void old_answers_make_room_for_new_ones(void **state)
{
    (void)state;
    struct hg_idempotency *x = open_table(10, 10);
    struct hg_idempotency_entry *e;
    static const char *const bodies[] = {"aaaa", "bbbb", "cccc"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(begin(x, bodies[i], &e), HG_IDEMPOTENCY_FIRST);
        end(x, e, bodies[i]);
    }
    assert_int_equal(begin(x, "bbbb", &e), HG_IDEMPOTENCY_DONE);
    assert_int_equal(begin(x, "cccc", &e), HG_IDEMPOTENCY_DONE);
    assert_int_equal(begin(x, "aaaa", &e), HG_IDEMPOTENCY_FIRST);
    end(x, e, "more than ten bytes"); /* too large to keep */
    assert_int_equal(begin(x, "aaaa", &e), HG_IDEMPOTENCY_FIRST);
    hg_idempotency_end(x, e, 0, NULL, NULL);
    hg_idempotency_free(x);
    assert_int_equal(seam_live(), 0);
}

static void no_allocation_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (size_t nth = 1; nth < 10; nth++) {
        struct hg_idempotency_entry *e;
        seam_fail_alloc(nth);
        struct hg_idempotency *x = open_table(2, 100);
        if (x != NULL && begin(x, "a", &e) == HG_IDEMPOTENCY_FIRST) {
            end(x, e, "answer");
            if (begin(x, "a", &e) == HG_IDEMPOTENCY_FIRST) {
                hg_idempotency_end(x, e, 0, NULL, NULL);
            }
        }
        seam_fail_alloc(0);
        hg_idempotency_free(x);
        assert_int_equal(seam_live(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_under_way_is_never_forgotten),
        cmocka_unit_test(old_answers_make_room_for_new_ones),
        cmocka_unit_test(no_allocation_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
