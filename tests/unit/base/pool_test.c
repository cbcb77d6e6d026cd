/* SPDX-License-Identifier: Apache-2.0 */
/* Slabs: aligned, zeroed, reused, given back. */
#include "base/pool.h"

#include "seam/seam.h"
#include "seam/unit.h"

static void objects_are_zeroed_aligned_and_apart(void **state)
{
    enum { N = 100, BYTES = 40 };
    uint8_t *objects[N];
    struct hg_pool pool;
    (void)state;
    hg_pool_open(&pool, BYTES, 8);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            objects[i] = hg_pool_get(&pool);
            assert_non_null(objects[i]);
            assert_int_equal((uintptr_t)objects[i] % sizeof(void *), 0);
            for (size_t b = 0; b < BYTES; b++) {
                assert_int_equal(objects[i][b], 0);
            }
            memset(objects[i], (int)i + 1, BYTES);
        }
        assert_int_equal(pool.used_n, N);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(objects[i][0], i + 1);
            assert_int_equal(objects[i][BYTES - 1], i + 1);
        }
        for (size_t i = N; i-- > 0;) {
            hg_pool_put(&pool, objects[i]);
        }
    }
    assert_int_equal(seam_live(), (N + 7) / 8); /* later rounds took no new slab */
    hg_pool_close(&pool);
    assert_int_equal(seam_live(), 0);
}

static void no_memory_is_null_and_can_be_tried_again(void **state)
{
    struct hg_pool pool;
    (void)state;
    hg_pool_open(&pool, 1, 1);
    seam_fail_alloc(1);
    assert_null(hg_pool_get(&pool));
    assert_int_equal(pool.used_n, 0);
    void *object = hg_pool_get(&pool);
    assert_non_null(object);
    hg_pool_put(&pool, object);
    hg_pool_close(&pool);
    seam_fail_alloc(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_zeroed_aligned_and_apart),
        cmocka_unit_test(no_memory_is_null_and_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
