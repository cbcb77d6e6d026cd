/* SPDX-License-Identifier: Apache-2.0 */
/* The status table holds only codes that MQTT 5.0 defines for the packet, and final HTTP codes. */
#include "base/status.h"

#include "seam/unit.h"

/* MQTT 5.0, tables 3.2.2.2, 3.4.2.1, 3.9.3, 3.14.2.1: what a server may send. 0 in our table means "not sent there". */
static const uint8_t connack_codes[] = {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86,
                                        0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
                                        0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f};
static const uint8_t puback_codes[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99};
static const uint8_t suback_codes[] = {0x00, 0x01, 0x02, 0x80, 0x83, 0x87,
                                       0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2};
static const uint8_t disconnect_codes[] = {
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2};

static void assert_among(uint8_t code, const uint8_t codes[], size_t n, const char *name)
{
    if (memchr(codes, code, n) == NULL) {
        fail_msg("%s: 0x%02x is not a code of that packet", name, code);
    }
}

static void every_code_exists_in_its_packet(void **state)
{
    (void)state;
    for (unsigned s = 0; s < HG_STATUS_N; s++) {
        const struct hg_status_info *info = hg_status_info((enum hg_status)s);
        assert_among(info->connack, connack_codes, sizeof(connack_codes), info->name);
        assert_among(info->puback, puback_codes, sizeof(puback_codes), info->name);
        assert_among(info->suback, suback_codes, sizeof(suback_codes), info->name);
        assert_among(info->disconnect, disconnect_codes, sizeof(disconnect_codes), info->name);
        assert_true(info->http == 200 || (info->http >= 400 && info->http <= 599));
        assert_true(info->text[0] != '\0');
    }
}

static void rows_are_found_by_their_own_name(void **state)
{
    (void)state;
    assert_string_equal(hg_status_info(HG_OK)->name, "OK");
    assert_string_equal(hg_status_info(HG_PEER_LOST)->name, "PEER_LOST");
    assert_string_equal(hg_status_text(HG_NO_RULE), "no rule takes this address");
    struct hg_error err;
    assert_int_equal(hg_error_set(&err, HG_MALFORMED, "flags must be 0010", 3), -1);
    assert_int_equal(err.status, HG_MALFORMED);
    assert_int_equal(err.at, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_exists_in_its_packet),
        cmocka_unit_test(rows_are_found_by_their_own_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
