/* SPDX-License-Identifier: Apache-2.0 */
/* The hash map against an array that remembers, and SipHash against numbers made elsewhere. */
#include "base/map.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

enum { KEYS = 3000 };

struct item {
    char key[16];
    bool is_in;
};

static void siphash_1_3_is_what_others_compute(void **state)
{
    /* Inputs 00 01 02 …; CPython 3.11's hash() of them, under the key that PYTHONHASHSEED=1 gives it. */
    static const struct {
        size_t n;
        uint64_t hash;
    } rows[] = {
        {1, 0xecd3e5afcecda4b9},  {7, 0xfd15e78052a69ddf},  {8, 0xc0b5739e7e28dd01},
        {9, 0x208a1a5a0cbbf778},  {15, 0xfa87985f39e97a53}, {16, 0x12e9d283f9f37002},
        {17, 0x9f5bb4237f61907f}, {63, 0x542052345bc68274},
    };
    const uint64_t seed[2] = {0xaed66ce184be2329, 0xebe9bbf1f1499052};
    uint8_t in[64];
    (void)state;
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(hg_siphash(seed, hg_bytes(in, rows[i].n)) == rows[i].hash);
    }
}

static void assert_same(const struct hg_map *m, struct item items[], size_t in_n)
{
    size_t at = 0;
    size_t seen_n = 0;
    struct hg_bytes key;
    void *value;
    assert_int_equal(m->n, in_n);
    while (hg_map_next(m, &at, &key, &value)) {
        struct item *item = value;
        assert_true(item->is_in);
        assert_text(key, item->key);
        seen_n++;
    }
    assert_int_equal(seen_n, in_n);
    for (size_t i = 0; i < KEYS; i++) {
        void *found = hg_map_find(m, hg_bytes_str(items[i].key));
        assert_ptr_equal(found, items[i].is_in ? &items[i] : NULL);
    }
}

static void random_operations_agree_with_a_model(void **state)
{
    struct item *items = hg_zalloc(KEYS * sizeof(*items));
    struct hg_map m;
    size_t in_n = 0;
    uint64_t seed = 42;
    (void)state;
    hg_map_open(&m);
    for (size_t i = 0; i < KEYS; i++) {
        (void)snprintf(items[i].key, sizeof(items[i].key), "%zu", i);
    }
    for (size_t step = 0; step < 60000; step++) {
        /* Phases that grow and phases that shrink, so that removal meets full and sparse tables. */
        bool is_put = unit_random_below(&seed, 10) < (step / 10000 % 2 == 0 ? 7 : 3);
        struct item *item = &items[unit_random_below(&seed, KEYS)];
        if (is_put) {
            assert_true(hg_map_put(&m, hg_bytes_str(item->key), item));
        } else {
            assert_ptr_equal(hg_map_remove(&m, hg_bytes_str(item->key)), item->is_in ? item : NULL);
        }
        in_n = in_n + (is_put && !item->is_in) - (!is_put && item->is_in);
        item->is_in = is_put;
        if (step % 5000 == 0) {
            assert_same(&m, items, in_n);
        }
    }
    assert_same(&m, items, in_n);
    hg_map_close(&m);
    hg_free(items);
    assert_int_equal(seam_live(), 0);
}

static void a_put_replaces_key_and_value(void **state)
{
    char first[] = "key";
    char second[] = "key";
    int a;
    int b;
    struct hg_map m;
    (void)state;
    hg_map_open(&m);
    assert_true(hg_map_put(&m, hg_bytes_str(first), &a));
    assert_true(hg_map_put(&m, hg_bytes_str(second), &b));
    first[0] = 'X'; /* the first key may be gone now */
    assert_int_equal(m.n, 1);
    assert_ptr_equal(hg_map_find(&m, HG_BYTES("key")), &b);
    assert_true(hg_map_put(&m, HG_BYTES(""), &a));
    assert_ptr_equal(hg_map_find(&m, HG_BYTES("")), &a);
    hg_map_close(&m);
}

static void no_memory_changes_nothing(void **state)
{
    static char keys[100][4];
    struct hg_map m;
    (void)state;
    hg_map_open(&m);
    assert_null(hg_map_find(&m, HG_BYTES("0")));
    assert_null(hg_map_remove(&m, HG_BYTES("0")));
    for (size_t i = 0; i < 100; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        seam_fail_alloc(1);
        if (!hg_map_put(&m, hg_bytes_str(keys[i]), keys[i])) {
            assert_int_equal(m.n, i);
            for (size_t j = 0; j <= i; j++) {
                assert_ptr_equal(hg_map_find(&m, hg_bytes_str(keys[j])), j < i ? keys[j] : NULL);
            }
            assert_true(hg_map_put(&m, hg_bytes_str(keys[i]), keys[i]));
        }
    }
    seam_fail_alloc(0);
    hg_map_close(&m);
    assert_int_equal(seam_live(), 0);
}

static void random_numbers_differ(void **state)
{
    (void)state;
    assert_true(hg_random_u64() != hg_random_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_1_3_is_what_others_compute),
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(a_put_replaces_key_and_value),
        cmocka_unit_test(no_memory_changes_nothing),
        cmocka_unit_test(random_numbers_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
