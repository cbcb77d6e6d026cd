/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, filters, binding keys and UTF-8: tables from the specifications, and libmosquitto as a second opinion. */
#include "message/topic.h"

#include "seam/unit.h"

#include <mosquitto.h>

static const struct hg_topic_limits wide = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};

static void addresses_follow_mqtt_4_7(void **state)
{
    static const struct {
        const char *address;
        bool is_good;
    } rows[] = {
        {"a", true},
        {"/", true},
        {"/finance", true},
        {"a//b", true},
        {"Accounts payable", true},
        {"$SYS/x", true},
        {"gr\xc3\xbc\xc3\x9f", true},
        {"a/*/b", true},
        {"", false},
        {"a/+", false},
        {"a/#", false},
        {"a+", false},
        {"#a", false},
        {"\xff", false},
        {"a\xc3", false},
        {"\xed\xa0\x80", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *wrong = hg_topic_check_address(hg_bytes_str(rows[i].address), &wide);
        if ((wrong == NULL) != rows[i].is_good) {
            fail_msg("\"%s\": %s", rows[i].address, wrong == NULL ? "accepted" : wrong);
        }
    }
    assert_string_equal(hg_topic_check_address(hg_bytes("a\0b", 3), &wide),
                        "holds a NUL character");
}

static void filters_follow_mqtt_4_7_1(void **state)
{
    static const struct {
        const char *filter;
        bool is_good;
    } rows[] = {
        {"#", true},
        {"sport/tennis/#", true},
        {"sport/tennis#", false},
        {"sport/tennis/#/ranking", false},
        {"+", true},
        {"+/tennis/#", true},
        {"sport+", false},
        {"sport/+/player1", true},
        {"/+", true},
        {"+/+", true},
        {"sport/+a", false},
        {"#/", false},
        {"##", false},
        {"++", false},
        {"", false},
        {"/#", true},
        {"$SYS/#", true},
        {"a\xff/#", false},
        {"plain", true},
        {"a/+#", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *wrong = hg_topic_check_filter(hg_bytes_str(rows[i].filter), &wide);
        if ((wrong == NULL) != rows[i].is_good) {
            fail_msg("\"%s\": %s", rows[i].filter, wrong == NULL ? "accepted" : wrong);
        }
    }
    assert_true(hg_topic_has_wildcard(HG_BYTES("a/+")));
    assert_true(hg_topic_has_wildcard(HG_BYTES("#")));
    assert_false(hg_topic_has_wildcard(HG_BYTES("a/*")));
}

static void limits_hold_to_the_byte_and_the_level(void **state)
{
    static char text[70000];
    const struct hg_topic_limits narrow = {10, 3};
    (void)state;
    assert_null(hg_topic_check_address(HG_BYTES("a/b/c67890"), &narrow));
    assert_string_equal(hg_topic_check_address(HG_BYTES("a/b/c678901"), &narrow), "is too long");
    assert_null(hg_topic_check_filter(HG_BYTES("//"), &narrow));
    assert_string_equal(hg_topic_check_filter(HG_BYTES("///"), &narrow), "has too many levels");
    memset(text, 'a', sizeof(text));
    assert_null(hg_topic_check_address(hg_bytes(text, 65535), &wide));
    assert_string_equal(hg_topic_check_address(hg_bytes(text, 65536),
                                               &(struct hg_topic_limits){SIZE_MAX, SIZE_MAX}),
                        "is too long");
    memset(text, '/', sizeof(text));
    assert_null(hg_topic_check_address(hg_bytes(text, 200), &wide));
    assert_null(hg_topic_check_filter(hg_bytes(text, 200), &wide));
    assert_string_equal(
        hg_topic_check_address(hg_bytes(text, 201), &(struct hg_topic_limits){SIZE_MAX, SIZE_MAX}),
        "has too many levels");
}

static void filters_match_as_mqtt_4_7_says(void **state)
{
    static const struct {
        const char *filter, *address;
        bool is_match;
    } rows[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player12", false},
        {"sport/#", "sport", true},
        {"#", "a", true},
        {"#", "/", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},
        {"a/b", "a/B", false},
        {"a/b", "a", false},
        {"a", "a/b", false},
        {"a/", "a", false},
        {"a", "a/", false},
        {"#", "$SYS/x", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"$SYS/#", "$SYS/x", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"+/#", "$SYS", false},
        {"a/#", "a/$b", true},
        {"a/+", "a/$b", true},
        {"/#", "/$b", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool is_match =
            hg_topic_matches(hg_bytes_str(rows[i].filter), hg_bytes_str(rows[i].address));
        if (is_match != rows[i].is_match) {
            fail_msg("\"%s\" and \"%s\"", rows[i].filter, rows[i].address);
        }
    }
}

/* Up to `max_n` levels, each one of `levels`, joined by sep. */
static size_t random_levels(uint64_t *seed, char *out, const char *const levels[], size_t levels_n,
                            size_t max_n, char sep)
{
    size_t at = 0;
    size_t n = 1 + unit_random_below(seed, max_n);
    for (size_t i = 0; i < n; i++) {
        const char *level = levels[unit_random_below(seed, levels_n)];
        if (i > 0) {
            out[at++] = sep;
        }
        memcpy(out + at, level, strlen(level));
        at += strlen(level);
    }
    out[at] = '\0';
    return at;
}

static void libmosquitto_agrees_on_filters(void **state)
{
    static const char *const filter_levels[] = {"a", "b", "", "+", "+", "$x", "ab"};
    static const char *const address_levels[] = {"a", "b", "", "$x", "ab"};
    uint64_t seed = 3;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        char filter[64];
        char address[64];
        size_t filter_n = random_levels(&seed, filter, filter_levels, 7, 4, '/');
        if (unit_random_below(&seed, 3) == 0) {
            strcpy(filter + filter_n, "/#");
            filter_n += 2;
        }
        size_t address_n = random_levels(&seed, address, address_levels, 5, 5, '/');
        if (filter_n == 0 || address_n == 0) {
            continue; /* neither is one */
        }
        bool theirs = false;
        assert_int_equal(
            mosquitto_topic_matches_sub2(filter, filter_n, address, address_n, &theirs), 0);
        bool ours = hg_topic_matches(hg_bytes(filter, filter_n), hg_bytes(address, address_n));
        if (ours != theirs) {
            fail_msg("\"%s\" and \"%s\": %d", filter, address, ours);
        }
    }
}

static void binding_keys_match_as_rabbitmq_does(void **state)
{
    static const struct {
        const char *binding, *key;
        bool is_match;
    } rows[] = {
        {"a.b", "a.b", true},
        {"a.b", "a.c", false},
        {"a.*", "a.b", true},
        {"a.*", "a", false},
        {"a.*", "a.b.c", false},
        {"a.#", "a", true},
        {"a.#", "a.b.c", true},
        {"#", "", true},
        {"#", "a.b", true},
        {"", "", true},
        {"", "a", false},
        {"*", "", false},
        {"*", "a", true},
        {"*", ".", false},
        {"*.*", ".", true},
        {"a.*", "a.", true},
        {"#.a", "a", true},
        {"#.a", "b.c.a", true},
        {"#.a", "a.b", false},
        {"#.a.#", "x.a.y.a.z", true},
        {"a.#.b", "a.b", true},
        {"a.#.b", "a.x.y.b", true},
        {"a.#.b", "a.x", false},
        {"#.#", "", true},
        {"#.*", "", false},
        {"#.*", "a", true},
        {"*.#", "a.b", true},
        {"*.#.*", "a", false},
        {"*.#.*", "a.b", true},
        {"a.#.#.b", "a.b", true},
        {"a*", "ab", false},
        {"a#", "ab", false},
        {"a/b", "a/b", true},
        {"#.a.b", "a.a.b", true},
        {"#.a.#.b.#.c", "a.b.a.c.b.c", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool is_match =
            hg_binding_matches(hg_bytes_str(rows[i].binding), hg_bytes_str(rows[i].key));
        if (is_match != rows[i].is_match) {
            fail_msg("\"%s\" and \"%s\"", rows[i].binding, rows[i].key);
        }
    }
}

static void a_binding_full_of_hashes_is_not_slow(void **state)
{
    char binding[400];
    char key[400];
    size_t n = 0;
    size_t m = 0;
    (void)state;
    while (n < 240) {
        n += (size_t)(stpcpy(binding + n, "#.a.") - (binding + n));
    }
    strcpy(binding + n, "b");
    while (m < 250) {
        m += (size_t)(stpcpy(key + m, "a.") - (key + m));
    }
    strcpy(key + m, "a");
    for (int i = 0; i < 1000; i++) { /* for ever, if it went back for each # */
        assert_false(hg_binding_matches(hg_bytes_str(binding), hg_bytes_str(key)));
    }
}

static size_t encode_utf8(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6) {
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    }
    out[0] = (uint8_t)(0xf0U << (4 - n) | code);
    return n;
}

static void every_code_point_is_judged_as_libmosquitto_does(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        uint8_t text[4];
        size_t n = encode_utf8(code, text);
        bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
        bool theirs = mosquitto_validate_utf8((const char *)text, (int)n) == MOSQ_ERR_SUCCESS;
        assert_int_equal(hg_utf8_is_valid(hg_bytes(text, n)), !is_surrogate);
        assert_int_equal(hg_utf8_is_clean(hg_bytes(text, n)), theirs);
    }
}

static void malformed_utf8_is_found_wherever_it_stands(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"\x80", 1},
        {"\xbf", 1},
        {"\xc0\x80", 2},
        {"\xc1\xbf", 2},
        {"\xc3", 1},
        {"\xe2\x82", 2},
        {"\xf0\x9f\x98", 3},
        {"\xe0\x80\x80", 3},
        {"\xe0\x9f\xbf", 3},
        {"\xed\xa0\x80", 3},
        {"\xf0\x80\x80\x80", 4},
        {"\xf0\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 4},
        {"\xf5\x80\x80\x80", 4},
        {"\xfe", 1},
        {"\xff", 1},
        {"\xc3"
         "a",
         2},
        {"\xe2\x82"
         "a",
         3},
        {"\xf8\x88\x80\x80\x80", 5},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t text[16] = "ab";
        memcpy(text + 2, rows[i].bytes, rows[i].n);
        assert_false(hg_utf8_is_valid(hg_bytes(rows[i].bytes, rows[i].n)));
        assert_false(hg_utf8_is_clean(hg_bytes(text, 2 + rows[i].n)));
        text[2 + rows[i].n] = 'z';
        assert_false(hg_utf8_is_valid(hg_bytes(text, 3 + rows[i].n)));
    }
    assert_true(hg_utf8_is_clean(hg_bytes(NULL, 0)));
    assert_true(hg_utf8_is_valid(hg_bytes("a\0b", 3)));
    assert_false(hg_utf8_is_clean(hg_bytes("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_follow_mqtt_4_7),
        cmocka_unit_test(filters_follow_mqtt_4_7_1),
        cmocka_unit_test(limits_hold_to_the_byte_and_the_level),
        cmocka_unit_test(filters_match_as_mqtt_4_7_says),
        cmocka_unit_test(libmosquitto_agrees_on_filters),
        cmocka_unit_test(binding_keys_match_as_rabbitmq_does),
        cmocka_unit_test(a_binding_full_of_hashes_is_not_slow),
        cmocka_unit_test(every_code_point_is_judged_as_libmosquitto_does),
        cmocka_unit_test(malformed_utf8_is_found_wherever_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
