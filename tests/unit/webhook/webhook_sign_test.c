/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures are the ones that the Standard Webhooks libraries compute, and ids last. */
#include "adapters/webhook/webhook_sign.h"

#include "seam/seam.h"
#include "seam/unit.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* The specification's example. */
#define EXAMPLE_ID   HG_BYTES("msg_p5jXN8AQM9LWM0D4loKWxJek")
#define EXAMPLE_BODY HG_BYTES("{\"test\": 2432232314}")
enum { EXAMPLE_TIME_S = 1614265330 };
#define EXAMPLE_SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static void the_published_vector_comes_out(void **state)
{
    static const char *const one[] = {SECRET};
    static const char *const two[] = {SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"};
    struct hg_writer out = {0};
    (void)state;
    assert_true(hg_webhook_sign(&out, one, 1, EXAMPLE_ID, EXAMPLE_TIME_S, EXAMPLE_BODY));
    assert_true(hg_bytes_eq(hg_writer_view(&out), HG_BYTES(EXAMPLE_SIGNATURE)));
    hg_writer_reset(&out);
    assert_true(hg_webhook_sign(&out, two, 2, EXAMPLE_ID, EXAMPLE_TIME_S, EXAMPLE_BODY));
    assert_true(hg_bytes_starts(hg_writer_view(&out), HG_BYTES(EXAMPLE_SIGNATURE " v1,")));
    assert_int_equal(hg_writer_n(&out), 2 * strlen(EXAMPLE_SIGNATURE) + 1);
    hg_writer_reset(&out);
    assert_true(hg_webhook_sign(&out, NULL, 0, EXAMPLE_ID, EXAMPLE_TIME_S, EXAMPLE_BODY));
    assert_int_equal(hg_writer_n(&out), 0);
    hg_writer_close(&out);
    assert_int_equal(seam_live(), 0);
}

static void an_id_is_the_messages_own_where_a_header_can_hold_it(void **state)
{
    static const struct {
        const char *message_id;
        const char *id; /* NULL: a hash of it */
    } rows[] = {
        {"m1", "m1"},          {"urn:uuid:1-2", "urn:uuid:1-2"},
        {"two words", NULL},   {"caf\xc3\xa9", NULL},
        {"line\nbreak", NULL},
    };
    char id[HG_WEBHOOK_ID_SIZE];
    char again[HG_WEBHOOK_ID_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(hg_webhook_id(hg_bytes_str(rows[i].message_id), id));
        assert_true(hg_webhook_id(hg_bytes_str(rows[i].message_id), again));
        assert_string_equal(id, again);
        if (rows[i].id != NULL) {
            assert_string_equal(id, rows[i].id);
        } else {
            assert_int_equal(strlen(id), strlen("msg_") + 32);
            assert_memory_equal(id, "msg_", 4);
        }
    }
}

static void two_messages_without_an_id_differ(void **state)
{
    char one[HG_WEBHOOK_ID_SIZE];
    char two[HG_WEBHOOK_ID_SIZE];
    (void)state;
    assert_true(hg_webhook_id(HG_BYTES(""), one));
    assert_true(hg_webhook_id(HG_BYTES(""), two));
    assert_string_not_equal(one, two);
}

static void no_memory_is_told(void **state)
{
    static const char *const one[] = {SECRET};
    (void)state;
    for (size_t i = 1;; i++) {
        struct hg_writer out = {0};
        seam_fail_alloc(i);
        bool is_signed = hg_webhook_sign(&out, one, 1, EXAMPLE_ID, EXAMPLE_TIME_S, EXAMPLE_BODY);
        bool has_failed = seam_allocs() >= i;
        seam_fail_alloc(0);
        hg_writer_close(&out);
        assert_int_equal(seam_live(), 0);
        assert_true(is_signed != has_failed);
        if (is_signed) {
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vector_comes_out),
        cmocka_unit_test(an_id_is_the_messages_own_where_a_header_can_hold_it),
        cmocka_unit_test(two_messages_without_an_id_differ),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
