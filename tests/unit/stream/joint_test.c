/* SPDX-License-Identifier: Apache-2.0 */
/* What many streams get alike, and where it lies. */
#include "stream/joint.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <string.h>

static struct hg_part put(struct hg_joints *j, unsigned lane, const char *text)
{
    struct hg_part part;
    assert_true(hg_joint_put(j, lane, hg_bytes_str(text), &part));
    assert_true(hg_bytes_eq(part.bytes, hg_bytes_str(text)));
    return part;
}

static bool follows(struct hg_part a, struct hg_part b)
{
    return a.buf == b.buf && a.bytes.p + a.bytes.n == b.bytes.p;
}

static void parts_of_one_lane_lie_behind_each_other(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    struct hg_part a = put(&j, 0, "first");
    struct hg_part other = put(&j, 1, "other");
    struct hg_part b = put(&j, 0, "second");
    assert_true(follows(a, b));
    assert_ptr_not_equal(a.buf, other.buf);
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

static void what_somebody_still_sends_is_not_overwritten(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    struct hg_part a = put(&j, 0, "first");
    hg_joints_reset(&j);
    struct hg_part b = put(&j, 0, "again");
    assert_ptr_equal(a.bytes.p, b.bytes.p);
    hg_buf_ref(b.buf);
    hg_joints_reset(&j);
    struct hg_part c = put(&j, 0, "other");
    assert_ptr_not_equal(b.buf, c.buf);
    assert_memory_equal(b.bytes.p, "again", 5);
    hg_buf_unref(b.buf);
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

static void a_full_block_is_left_to_who_sends_of_it(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    uint8_t bytes[HG_JOINT_PART_MAX + 1] = {'x'};
    struct hg_part first, next;
    assert_false(hg_joint_put(&j, 0, hg_bytes(bytes, 0), &first));
    assert_false(hg_joint_put(&j, 0, hg_bytes(bytes, sizeof(bytes)), &first));
    assert_true(hg_joint_put(&j, 0, hg_bytes(bytes, HG_JOINT_PART_MAX), &first));
    hg_buf_ref(first.buf);
    for (size_t n = HG_JOINT_PART_MAX; n < HG_JOINT_BLOCK_BYTES; n += HG_JOINT_PART_MAX) {
        assert_true(hg_joint_put(&j, 0, hg_bytes(bytes, HG_JOINT_PART_MAX), &next));
        assert_ptr_equal(next.buf, first.buf);
    }
    assert_true(hg_joint_put(&j, 0, hg_bytes(bytes, 1), &next));
    assert_ptr_not_equal(next.buf, first.buf);
    assert_int_equal(first.buf->refs, 1);
    hg_buf_unref(first.buf);
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

static void a_part_is_framed_once_for_all(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    struct hg_part a = put(&j, 0, "one"), b = put(&j, 0, "two");
    struct hg_part fa, again, fb, text;
    const struct hg_bytes header = HG_BYTES("\x82\x03");
    assert_true(hg_joint_frame(&j, &a, 2, header, &fa));
    assert_true(hg_joint_frame(&j, &a, 2, header, &again));
    assert_ptr_equal(fa.bytes.p, again.bytes.p);
    assert_true(hg_joint_frame(&j, &a, 1, HG_BYTES("\x81\x03"), &text));
    assert_true(hg_joint_frame(&j, &b, 2, header, &fb));
    assert_true(follows(fa, fb));
    assert_true(hg_bytes_eq(fa.bytes, HG_BYTES("\x82\x03one")));
    assert_true(hg_bytes_eq(text.bytes, HG_BYTES("\x81\x03one")));
    assert_true(hg_bytes_eq(fb.bytes, HG_BYTES("\x82\x03two")));
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

/* More blocks than there are frames: the oldest is forgotten, and nobody gets another's bytes. */
static void many_blocks_take_turns_in_being_framed(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    char text[2] = "a";
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned lane = 0; lane < 2 * HG_JOINT_FRAMES; lane++) {
            text[0] = (char)('a' + round * 8 + lane);
            struct hg_part part = put(&j, lane, text), framed;
            assert_true(hg_joint_frame(&j, &part, 2, HG_BYTES("\x82\x01"), &framed));
            assert_int_equal(framed.bytes.n, 3);
            assert_int_equal(framed.bytes.p[2], text[0]);
        }
        hg_joints_reset(&j);
    }
    const struct hg_part own = {NULL, HG_BYTES("x")};
    struct hg_part framed;
    assert_false(hg_joint_frame(&j, &own, 2, HG_BYTES("\x82\x01"), &framed));
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

static void without_memory_it_is_not_joined(void **state)
{
    (void)state;
    struct hg_joints j = {0};
    struct hg_part part, framed;
    seam_fail_alloc(1);
    assert_false(hg_joint_put(&j, 0, HG_BYTES("x"), &part));
    seam_fail_alloc(0);
    part = put(&j, 0, "x");
    seam_fail_alloc(1);
    assert_false(hg_joint_frame(&j, &part, 2, HG_BYTES("\x82\x01"), &framed));
    seam_fail_alloc(0);
    assert_true(hg_joint_frame(&j, &part, 2, HG_BYTES("\x82\x01"), &framed));
    hg_joints_close(&j);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_one_lane_lie_behind_each_other),
        cmocka_unit_test(what_somebody_still_sends_is_not_overwritten),
        cmocka_unit_test(a_full_block_is_left_to_who_sends_of_it),
        cmocka_unit_test(a_part_is_framed_once_for_all),
        cmocka_unit_test(many_blocks_take_turns_in_being_framed),
        cmocka_unit_test(without_memory_it_is_not_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
