/* SPDX-License-Identifier: Apache-2.0 */
/* The outbound queue against a plain array of bytes. */
#include "stream/outq.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>
#include <string.h>

static struct hg_part text(const char *s)
{
    return (struct hg_part){NULL, hg_bytes_str(s)};
}

static struct hg_part shared(struct hg_buf *buf)
{
    return (struct hg_part){buf, hg_buf_bytes(buf)};
}

static struct hg_buf *filled(size_t n, uint8_t with)
{
    struct hg_buf *buf = hg_buf_new(n);
    memset(buf->data, with, n);
    buf->n = (uint32_t)n;
    return buf;
}

static void small_messages_join_into_one_slice(void **state)
{
    (void)state;
    struct hg_outq q = {0};
    struct iovec bufs[8];
    for (int i = 0; i < 50; i++) {
        struct hg_part parts[] = {text("ab"), text(""), text("c")};
        assert_true(hg_outq_push(&q, parts, 3));
    }
    assert_int_equal(hg_outq_bytes(&q), 150);
    assert_int_equal(hg_outq_peek(&q, bufs, 8), 1);
    assert_int_equal(bufs[0].iov_len, 150);
    assert_memory_equal(bufs[0].iov_base, "abcabc", 6);
    hg_outq_close(&q);
    assert_int_equal(seam_live(), 0);
}

static void a_large_shared_buffer_is_referenced_and_a_small_one_copied(void **state)
{
    (void)state;
    struct hg_outq q = {0};
    struct hg_buf *large = filled(HG_OUTQ_COPY_BYTES + 1, 'L');
    struct hg_buf *small = filled(HG_OUTQ_COPY_BYTES, 's');
    struct hg_part parts[] = {text("head"), shared(large), shared(small), text("tail")};
    struct iovec bufs[8];
    assert_true(hg_outq_push(&q, parts, 4));
    assert_int_equal(large->refs, 2);
    assert_int_equal(small->refs, 1);
    assert_int_equal(hg_outq_peek(&q, bufs, 8), 3);
    assert_ptr_equal(bufs[1].iov_base, large->data);
    assert_int_equal(bufs[2].iov_len, HG_OUTQ_COPY_BYTES + 4);
    hg_outq_consume(&q, 4 + 1);
    assert_int_equal(hg_outq_peek(&q, bufs, 8), 2);
    assert_ptr_equal(bufs[0].iov_base, large->data + 1);
    hg_outq_consume(&q, hg_outq_bytes(&q));
    assert_int_equal(large->refs, 1);
    assert_true(hg_outq_is_empty(&q));
    hg_buf_unref(large);
    hg_buf_unref(small);
    assert_int_equal(seam_live(), 0);
}

/* Pieces of one buffer, as they are pushed, and what the kernel is offered. */
static void what_lies_behind_what_waits_is_of_the_same_slice(void **state)
{
    (void)state;
    static const struct {
        struct {
            size_t at, n;
        } pieces[4];
        size_t slices[4];
    } cases[] = {
        {{{0, 10}}, {10}},
        {{{0, 10}, {10, 5}, {15, 5}}, {20}},
        {{{0, 10}, {20, 10}, {30, 5}}, {10, 15}},        /* a gap: it is copied, as is the rest */
        {{{0, 10}, {5, 10}}, {10, 10}},                  /* before it */
        {{{0, 600}, {600, 600}, {1200, 1}}, {1201}},     /* whatever the size */
        {{{0, 600}, {700, 600}, {1300, 1}}, {600, 601}}, /* the last one counts */
        {{{100, 1}, {101, 1}, {0, 600}, {600, 1}}, {2, 601}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_outq q = {0};
        struct hg_buf *block = filled(2000, 'b');
        struct iovec bufs[4];
        size_t n = 0;
        while (n < 4 && cases[i].slices[n] > 0) {
            n++;
        }
        for (size_t k = 0; k < 4 && cases[i].pieces[k].n > 0; k++) {
            const struct hg_part part = {
                block, hg_bytes(block->data + cases[i].pieces[k].at, cases[i].pieces[k].n)};
            assert_true(hg_outq_push(&q, &part, 1));
        }
        assert_int_equal(hg_outq_peek(&q, bufs, 4), n);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(bufs[k].iov_len, cases[i].slices[k]);
        }
        hg_outq_close(&q);
        assert_int_equal(block->refs, 1);
        hg_buf_unref(block);
    }
    assert_int_equal(seam_live(), 0);
}

static void who_cannot_send_keeps_no_large_buffer_for_little(void **state)
{
    (void)state;
    static const struct {
        size_t cap, waits;
        bool is_copied;
    } cases[] = {
        {16384, 100, true},     {16384, 4096, false}, {16384, 4095, true},
        {1 << 20, 5000, false}, {400, 100, false},    {404, 100, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_outq q = {0};
        struct hg_buf *block = filled(cases[i].cap, 'b');
        const struct hg_part part = {block, hg_bytes(block->data, cases[i].waits)};
        const struct hg_part behind = {block, hg_bytes(block->data + cases[i].waits, 1)};
        struct iovec bufs[4];
        assert_true(hg_outq_push(&q, &part, 1));
        seam_fail_alloc(1); /* then it stays as it is */
        hg_outq_own(&q);
        seam_fail_alloc(0);
        assert_int_equal(block->refs, 2);
        hg_outq_own(&q);
        assert_int_equal(block->refs, cases[i].is_copied ? 1 : 2);
        assert_true(hg_outq_push(&q, &behind, 1));
        assert_int_equal(hg_outq_bytes(&q), cases[i].waits + 1);
        assert_int_equal(hg_outq_peek(&q, bufs, 4), cases[i].is_copied ? 2 : 1);
        assert_int_equal(*(uint8_t *)bufs[0].iov_base, 'b');
        hg_outq_close(&q);
        assert_int_equal(block->refs, 1);
        hg_buf_unref(block);
    }
    assert_int_equal(seam_live(), 0);
}

static void memory_is_held_only_while_something_is_queued(void **state)
{
    (void)state;
    struct hg_outq q = {0};
    struct hg_part none[] = {text("")};
    assert_true(hg_outq_push(&q, none, 1));
    assert_int_equal(seam_live(), 0);
    struct hg_part one[] = {text("x")};
    assert_true(hg_outq_push(&q, one, 1));
    assert_true(seam_live() > 0);
    hg_outq_consume(&q, 1);
    assert_int_equal(seam_live(), 0);
}

static void a_push_that_fails_queues_nothing(void **state)
{
    (void)state;
    struct hg_buf *large = filled(4000, 'L');
    struct hg_part first[] = {text("first")};
    struct hg_part parts[] = {text("second"), shared(large), text("third"), shared(large),
                              shared(large),  shared(large), text("fourth")};
    for (size_t n = 1; n < 20; n++) {
        struct hg_outq q = {0};
        struct iovec bufs[8];
        assert_true(hg_outq_push(&q, first, 1));
        seam_fail_alloc(n);
        bool is_pushed = hg_outq_push(&q, parts, 7);
        bool was_failed = seam_allocs() >= n;
        seam_fail_alloc(0);
        assert_int_equal(is_pushed, !was_failed);
        if (!is_pushed) {
            assert_int_equal(hg_outq_bytes(&q), 5);
            assert_int_equal(large->refs, 1);
            assert_true(hg_outq_push(&q, first, 1));
            assert_int_equal(hg_outq_peek(&q, bufs, 8), 1);
            assert_memory_equal(bufs[0].iov_base, "firstfirst", 10);
        }
        hg_outq_close(&q);
    }
    hg_buf_unref(large);
    assert_int_equal(seam_live(), 0);
}

/* Slices that were lent to the kernel stay where they are while more is pushed. */
static void what_was_peeked_does_not_move(void **state)
{
    (void)state;
    struct hg_outq q = {0};
    struct iovec bufs[4];
    struct hg_part parts[] = {text("held by the kernel")};
    assert_true(hg_outq_push(&q, parts, 1));
    assert_int_equal(hg_outq_peek(&q, bufs, 4), 1);
    for (int i = 0; i < 5000; i++) {
        assert_true(hg_outq_push(&q, parts, 1));
    }
    assert_memory_equal(bufs[0].iov_base, "held by the kernel", 18);
    hg_outq_consume(&q, 18);
    assert_int_equal(hg_outq_bytes(&q), 5000 * 18);
    hg_outq_close(&q);
    assert_int_equal(seam_live(), 0);
}

static void pop_some(struct hg_outq *q, uint64_t *random, const uint8_t *model, size_t *at)
{
    struct iovec bufs[3];
    unsigned n = hg_outq_peek(q, bufs, 3);
    size_t seen = 0;
    for (unsigned i = 0; i < n; i++) {
        assert_memory_equal(bufs[i].iov_base, model + *at + seen, bufs[i].iov_len);
        seen += bufs[i].iov_len;
    }
    size_t taken = unit_random_below(random, seen + 1);
    hg_outq_consume(q, taken);
    *at += taken;
}

static void bytes_leave_in_the_order_they_came(void **state)
{
    (void)state;
    enum { MODEL_BYTES = 4 << 20 };
    uint8_t *model = malloc(MODEL_BYTES);
    size_t model_n = 0, at = 0;
    uint64_t random = 42;
    struct hg_outq q = {0};
    for (int round = 0; round < 20000 && model_n + 12000 < MODEL_BYTES; round++) {
        struct hg_part parts[3];
        struct hg_buf *bufs[3] = {NULL};
        size_t parts_n = 1 + unit_random_below(&random, 3);
        for (size_t i = 0; i < parts_n; i++) {
            size_t n = unit_random_below(&random, unit_random_below(&random, 10) == 0 ? 4000 : 40);
            bufs[i] = filled(n, (uint8_t)unit_random(&random));
            memcpy(model + model_n, bufs[i]->data, n);
            model_n += n;
            parts[i] = shared(bufs[i]);
            if (unit_random_below(&random, 2) == 0) {
                parts[i].buf = NULL;
            }
        }
        assert_true(hg_outq_push(&q, parts, parts_n));
        for (size_t i = 0; i < parts_n; i++) {
            hg_buf_unref(bufs[i]);
        }
        if (unit_random_below(&random, 8) == 0) {
            hg_outq_own(&q);
        }
        assert_int_equal(hg_outq_bytes(&q), model_n - at);
        pop_some(&q, &random, model, &at);
    }
    while (hg_outq_bytes(&q) > 0) {
        pop_some(&q, &random, model, &at);
    }
    assert_int_equal(at, model_n);
    free(model);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_join_into_one_slice),
        cmocka_unit_test(a_large_shared_buffer_is_referenced_and_a_small_one_copied),
        cmocka_unit_test(what_lies_behind_what_waits_is_of_the_same_slice),
        cmocka_unit_test(who_cannot_send_keeps_no_large_buffer_for_little),
        cmocka_unit_test(memory_is_held_only_while_something_is_queued),
        cmocka_unit_test(a_push_that_fails_queues_nothing),
        cmocka_unit_test(what_was_peeked_does_not_move),
        cmocka_unit_test(bytes_leave_in_the_order_they_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
