/* SPDX-License-Identifier: Apache-2.0 */
/* Counts by key: up to the maximum and no further, forgotten at zero, right from many threads. */
#include "core/tally.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static void each_key_has_its_own_count(void **state)
{
    (void)state;
    struct hg_tally *t = hg_tally_new();
    struct hg_tally_entry *anna[3] = {NULL}, *bert = NULL, *empty = NULL;
    assert_int_equal(hg_tally_add(t, HG_BYTES("anna"), 2, &anna[0]), HG_OK);
    assert_int_equal(hg_tally_add(t, HG_BYTES("anna"), 2, &anna[1]), HG_OK);
    assert_int_equal(hg_tally_add(t, HG_BYTES("anna"), 2, &anna[2]), HG_TOO_MANY);
    assert_null(anna[2]);
    assert_int_equal(hg_tally_add(t, HG_BYTES("bert"), 1, &bert), HG_OK);
    assert_int_equal(hg_tally_add(t, HG_BYTES(""), 1, &empty), HG_OK);
    assert_int_equal(hg_tally_n(t), 3);
    assert_true(hg_tally_is_of(anna[1], HG_BYTES("anna")));
    assert_false(hg_tally_is_of(anna[1], HG_BYTES("ann")));
    hg_tally_remove(t, anna[0]);
    assert_int_equal(hg_tally_add(t, HG_BYTES("anna"), 2, &anna[2]), HG_OK);
    hg_tally_remove(t, anna[1]);
    hg_tally_remove(t, anna[2]);
    assert_int_equal(hg_tally_n(t), 2);
    hg_tally_remove(t, bert);
    hg_tally_remove(t, empty);
    hg_tally_remove(t, NULL);
    assert_int_equal(hg_tally_n(t), 0);
    hg_tally_free(t);
    hg_tally_free(NULL);
    assert_int_equal(seam_live(), 0);
}

static void without_memory_nothing_is_counted(void **state)
{
    (void)state;
    struct hg_tally_entry *entry = NULL;
    seam_fail_alloc(1);
    assert_null(hg_tally_new());
    seam_fail_alloc(0);
    struct hg_tally *t = hg_tally_new();
    for (size_t nth = 1; nth <= 2; nth++) { /* the entry, the table */
        seam_fail_alloc(nth);
        assert_int_equal(hg_tally_add(t, HG_BYTES("a"), 9, &entry), HG_NO_MEMORY);
        seam_fail_alloc(0);
        assert_int_equal(hg_tally_n(t), 0);
    }
    hg_tally_free(t);
    assert_int_equal(seam_live(), 0);
}

enum { THREADS_N = 4, ROUNDS_N = 5000, KEYS_N = 7, MOST_N = 3 };

struct crowd {
    struct hg_tally *tally;
    atomic_int inside[KEYS_N];
    atomic_bool is_over;
};

static void *come_and_go(void *arg)
{
    struct crowd *c = arg;
    for (int i = 0; i < ROUNDS_N; i++) {
        char name[8];
        struct hg_tally_entry *entry = NULL;
        int k = i % KEYS_N;
        snprintf(name, sizeof(name), "k%d", k);
        if (hg_tally_add(c->tally, hg_bytes_str(name), MOST_N, &entry) == HG_OK) {
            if (atomic_fetch_add(&c->inside[k], 1) >= MOST_N) {
                atomic_store(&c->is_over, true);
            }
            atomic_fetch_sub(&c->inside[k], 1);
            hg_tally_remove(c->tally, entry);
        }
    }
    return NULL;
}

static void threads_never_have_more_than_the_maximum(void **state)
{
    (void)state;
    struct crowd c = {.tally = hg_tally_new()};
    pthread_t threads[THREADS_N];
    seam_spare(true); /* its counts are one thread's */
    for (int i = 0; i < THREADS_N; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &c), 0);
    }
    for (int i = 0; i < THREADS_N; i++) {
        pthread_join(threads[i], NULL);
    }
    seam_spare(false);
    assert_false(atomic_load(&c.is_over));
    assert_int_equal(hg_tally_n(c.tally), 0);
    hg_tally_free(c.tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_has_its_own_count),
        cmocka_unit_test(without_memory_nothing_is_counted),
        cmocka_unit_test(threads_never_have_more_than_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
