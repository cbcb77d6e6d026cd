/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of a message's expiration. */
#include "message/expiry.h"

#include "seam/seam.h"
#include "seam/unit.h"

enum { NOW_MS = 1000000 };

static const struct {
    const char *expiration;
    int64_t stamp_ms;     /* x-headgate-ms; -1: none */
    uint64_t timestamp_s; /* 0: none */
    uint64_t left_ms;
} cases[] = {
    {"", -1, 0, HG_EXPIRY_NONE},
    {"", 1, 1, HG_EXPIRY_NONE},
    {"soon", -1, 0, HG_EXPIRY_NONE},
    {"-1", -1, 0, HG_EXPIRY_NONE},
    {"60000", -1, 0, 60000},
    {"60000", NOW_MS, 0, 60000},
    {"60000", NOW_MS - 1, 0, 59999},
    {"60000", NOW_MS - 59999, 0, 1},
    {"60000", NOW_MS - 60000, 0, 0},
    {"60000", 0, 0, 0},
    {"60000", NOW_MS + 5000, 0, 60000}, /* somebody's clock is ahead of ours */
    {"60000", -1, NOW_MS / 1000, 60000},
    {"60000", -1, NOW_MS / 1000 - 2, 60000 - 1001},
    {"60000", -1, NOW_MS / 1000 - 61, 0},
    {"60000", NOW_MS - 7, 1, 59993}, /* the finer one counts */
    {"60000", -1, UINT64_MAX, 60000},
    {"0", -1, 0, 1},
    {"0", NOW_MS - 1, 0, 0},
    {"18446744073709551614", NOW_MS - 1, 0, UINT64_MAX - 2},
    {"18446744073709551615", NOW_MS, 0, HG_EXPIRY_NONE},
};

static void what_is_left_is_counted_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct hg_header stamp = {HG_BYTES("x-headgate-ms"),
                                        {.kind = HG_VALUE_INT, .u.i = cases[i].stamp_ms}};
        const struct hg_message_parts parts = {
            .properties = {.expiration = hg_bytes_str(cases[i].expiration),
                           .has_timestamp = cases[i].timestamp_s != 0,
                           .timestamp_s = cases[i].timestamp_s,
                           .headers = &stamp,
                           .headers_n = cases[i].stamp_ms >= 0}};
        struct hg_message *m = hg_message_new(&parts);
        if (hg_message_expiry_left_ms(m, NOW_MS) != cases[i].left_ms) {
            fail_msg("case %zu", i);
        }
        hg_message_unref(m);
    }
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_left_is_counted_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
