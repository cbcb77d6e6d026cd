/* SPDX-License-Identifier: Apache-2.0 */
/* The two tables behind a login: what was good a moment ago, and who was wrong too often. */
#include "core/failures.h"
#include "core/login_cache.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

static struct hg_identity *somebody(const char *name)
{
    struct hg_identity *i =
        hg_identity_new(&(struct hg_identity_parts){.user = hg_bytes_str(name)});
    assert_non_null(i);
    return i;
}

static void put(struct hg_login_cache *c, uint8_t n, uint64_t now_ms)
{
    uint8_t mac[HG_LOGIN_MAC_BYTES] = {n};
    char name[8];
    snprintf(name, sizeof(name), "u%u", n);
    struct hg_identity *i = somebody(name);
    hg_login_cache_put(c, mac, i, now_ms);
    hg_identity_unref(i);
}

static bool has(struct hg_login_cache *c, uint8_t n, uint64_t now_ms)
{
    uint8_t mac[HG_LOGIN_MAC_BYTES] = {n};
    char name[8];
    snprintf(name, sizeof(name), "u%u", n);
    const struct hg_identity *i = hg_login_cache_find(c, mac, now_ms);
    assert_true(i == NULL || hg_bytes_eq(hg_identity_user(i), hg_bytes_str(name)));
    return i != NULL;
}

static void a_login_is_known_for_its_time_however_often_it_comes(void **state)
{
    (void)state;
    struct hg_login_cache c;
    hg_login_cache_open(&c, 1000, 10);
    put(&c, 1, 5000);
    assert_true(has(&c, 1, 5999));
    put(&c, 1, 5999); /* does not begin anew */
    assert_false(has(&c, 1, 6000));
    assert_false(has(&c, 2, 5000));
    put(&c, 1, 7000);
    assert_true(has(&c, 1, 7999));
    hg_login_cache_close(&c);
    assert_int_equal(seam_live(), 0);
}

static void the_oldest_login_makes_room(void **state)
{
    (void)state;
    struct hg_login_cache c;
    hg_login_cache_open(&c, 1000, 3);
    for (uint8_t n = 1; n <= 5; n++) {
        put(&c, n, 100 + n);
    }
    assert_false(has(&c, 2, 200));
    assert_true(has(&c, 3, 200) && has(&c, 4, 200) && has(&c, 5, 200));
    hg_login_cache_close(&c);
    hg_login_cache_open(&c, 0, 3); /* switched off */
    put(&c, 1, 100);
    assert_false(has(&c, 1, 100));
    hg_login_cache_close(&c);
    assert_int_equal(seam_live(), 0);
}

static void a_bucket_fills_and_empties_by_address(void **state)
{
    (void)state;
    static const struct {
        const char *wrong, *other;
        bool is_same;
    } rows[] = {
        {"192.0.2.1:1", "192.0.2.1:2", true},
        {"192.0.2.1:1", "192.0.2.2:1", false},
        {"[2001:db8::1]:1", "[2001:db8::ffff]:7", true}, /* one network */
        {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
        {"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
        {"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", false},
        {"?", "what", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_failures *f = hg_failures_new(3);
        uint64_t now = 1000000;
        for (int n = 0; n < 3; n++) {
            assert_false(hg_failures_is_full(f, rows[i].wrong, now));
            hg_failures_add(f, rows[i].wrong, now);
        }
        assert_true(hg_failures_is_full(f, rows[i].wrong, now));
        assert_int_equal(hg_failures_is_full(f, rows[i].other, now), rows[i].is_same);
        assert_true(hg_failures_is_full(f, rows[i].wrong, now + 19999));
        assert_false(hg_failures_is_full(f, rows[i].wrong, now + 20000)); /* one has run out */
        hg_failures_add(f, rows[i].wrong, now + 20000);
        assert_true(hg_failures_is_full(f, rows[i].wrong, now + 20000));
        assert_false(hg_failures_is_full(f, rows[i].wrong, now + 10 * 60000));
        hg_failures_free(f);
    }
    assert_int_equal(seam_live(), 0);
}

static void many_addresses_need_no_more_room(void **state)
{
    (void)state;
    struct hg_failures *f = hg_failures_new(1);
    size_t before = 0;
    for (unsigned n = 0; n < HG_FAILURES_ADDRESSES + 100; n++) {
        char peer[32];
        snprintf(peer, sizeof(peer), "10.%u.%u.%u:1", n >> 16, n >> 8 & 255, n & 255);
        hg_failures_add(f, peer, 1000 + n);
        before = n == HG_FAILURES_ADDRESSES - 1 ? seam_live() : before;
    }
    assert_int_equal(seam_live(), before);
    assert_false(hg_failures_is_full(f, "10.0.0.0:1", 2000)); /* the first had to go */
    hg_failures_free(f);
    struct hg_failures *off = hg_failures_new(0);
    for (int n = 0; n < 100; n++) {
        hg_failures_add(off, "192.0.2.1:1", 1);
    }
    assert_false(hg_failures_is_full(off, "192.0.2.1:1", 1));
    hg_failures_free(off);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_login_is_known_for_its_time_however_often_it_comes),
        cmocka_unit_test(the_oldest_login_makes_room),
        cmocka_unit_test(a_bucket_fills_and_empties_by_address),
        cmocka_unit_test(many_addresses_need_no_more_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
