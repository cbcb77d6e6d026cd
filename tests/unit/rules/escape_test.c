/* SPDX-License-Identifier: Apache-2.0 */
/* The two-way escape: every short string over an alphabet of all that matters to it, both ways; and
 * the hash. */
#include "rules/escape.h"

#include "seam/unit.h"

#include <stdio.h>

typedef bool step_fn(struct hg_sink *out, struct hg_bytes in);

static struct hg_bytes run(step_fn *step, struct hg_bytes in, uint8_t *out, size_t cap)
{
    struct hg_sink sink = {.out = out, .cap = cap};
    assert_true(step(&sink, in));
    assert_true(sink.n <= cap);
    return hg_bytes(out, sink.n);
}

/* Every string of `n` characters of the alphabet goes there and back. */
static void round_trip_all(const char *alphabet, size_t n, step_fn *there, step_fn *back,
                           const char *never)
{
    size_t letters_n = strlen(alphabet);
    size_t at[8] = {0};
    uint8_t in[8];
    for (;;) {
        uint8_t out[64];
        uint8_t again[64];
        for (size_t i = 0; i < n; i++) {
            in[i] = (uint8_t)alphabet[at[i]];
        }
        struct hg_bytes x = hg_bytes(in, n);
        struct hg_bytes y = run(there, x, out, sizeof(out));
        struct hg_bytes z = run(back, y, again, sizeof(again));
        if (!hg_bytes_eq(x, z)) {
            fail_msg("%.*s -> %.*s -> %.*s", HG_BYTES_FMT(x), HG_BYTES_FMT(y), HG_BYTES_FMT(z));
        }
        for (const char *c = never; *c != '\0'; c++) {
            assert_int_equal(hg_bytes_index(y, (uint8_t)*c), y.n);
        }
        size_t i = 0;
        while (i < n && ++at[i] == letters_n) {
            at[i++] = 0;
        }
        if (i == n) {
            return;
        }
    }
}

static bool escape_value(struct hg_sink *out, struct hg_bytes in)
{
    hg_escape_value(out, in);
    return true;
}

static void a_value_becomes_one_word_of_its_own(void **state)
{
    static const char *const rows[][2] = {
        {"a/b", "a/b"}, {"+#", "+#"}, {"%2F", "%2F"}, {"a.b*", "a%2Eb%2A"}, {"%2e", "%2e"}};
    (void)state;
    for (size_t n = 0; n <= 5; n++) {
        round_trip_all("a.*%25EA", n, escape_value, hg_unescape_words, ".*");
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t out[64];
        assert_text(run(escape_value, hg_bytes_str(rows[i][0]), out, sizeof(out)), rows[i][1]);
    }
}

static void every_short_address_comes_back(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 5; n++) {
        round_trip_all("a.*%25EFBA3/", n, hg_escape_levels, hg_unescape_words, "*");
    }
    for (size_t n = 6; n <= 7; n++) {
        round_trip_all("%25EF.", n, hg_escape_levels, hg_unescape_words, "*");
    }
}

static void every_short_key_comes_back(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 5; n++) {
        round_trip_all("a.%25EFBA3/+#", n, hg_unescape_words, hg_escape_levels, "+#");
    }
    for (size_t n = 6; n <= 7; n++) {
        round_trip_all("%25EF/", n, hg_unescape_words, hg_escape_levels, "+#/");
    }
}

static void the_escape_is_what_is_written(void **state)
{
    static const struct {
        const char *levels, *words;
    } rows[] = {
        {"", ""},           {"plain", "plain"},   {"a/b", "a.b"},
        {"a//b/", "a..b."}, {"/", "."},           {"21.5", "21%2E5"},
        {"*", "%2A"},       {"100%", "100%"},     {"%41", "%41"},
        {"%2E", "%252E"},   {"%252E", "%25252E"}, {"%2A", "%252A"},
        {"%2F", "/"},       {"%2B", "+"},         {"%23", "#"},
        {"%252F", "%2F"},   {"%25252B", "%252B"}, {"%2523", "%23"},
        {"%25", "%25"},     {"%2525", "%2525"},   {"%2f", "%2f"}, /* upper-case digits only */
        {"%2e", "%2e"},     {"%", "%"},           {"%2", "%2"},
        {"%%2E", "%%252E"}, {"%2/E", "%2.E"},     {"\xc3\xa4.", "\xc3\xa4%2E"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t out[64];
        assert_text(run(hg_escape_levels, hg_bytes_str(rows[i].levels), out, sizeof(out)),
                    rows[i].words);
        assert_text(run(hg_unescape_words, hg_bytes_str(rows[i].words), out, sizeof(out)),
                    rows[i].levels);
    }
}

static void what_has_no_counterpart_is_refused(void **state)
{
    uint8_t out[16];
    struct hg_sink sink = {.out = out, .cap = sizeof(out)};
    (void)state;
    assert_false(hg_escape_levels(&sink, HG_BYTES("a/+")));
    assert_false(hg_escape_levels(&sink, HG_BYTES("#")));
    assert_false(hg_unescape_words(&sink, HG_BYTES("a.*")));
    assert_false(hg_plain_words(&sink, HG_BYTES("a.#")));
    assert_false(hg_plain_words(&sink, HG_BYTES("+")));
}

static void plain_exchanges_slash_and_dot_alone(void **state)
{
    uint8_t out[16];
    struct hg_sink sink = {.out = out, .cap = sizeof(out)};
    (void)state;
    hg_plain_levels(&sink, HG_BYTES("a.b/%2E"));
    assert_text(hg_bytes(out, sink.n), "a.b.%2E");
    sink.n = 0;
    assert_true(hg_plain_words(&sink, HG_BYTES("a.b/*")));
    assert_text(hg_bytes(out, sink.n), "a/b/*");
}

static void a_full_sink_still_counts(void **state)
{
    uint8_t out[3] = {0};
    struct hg_sink sink = {.out = out, .cap = 2};
    (void)state;
    assert_true(hg_escape_levels(&sink, HG_BYTES("a.b*")));
    assert_int_equal(sink.n, 8);
    assert_memory_equal(out, "a%\0", 3);
}

static void the_hash_is_fnv_1a_of_128_bits(void **state)
{
    static const struct {
        const char *text, *hex;
    } rows[] = {
        {"", "6c62272e07bb014262b821756295c58d"},
        {"a", "d228cb696f1a8caf78912b704e4a8964"},
        {"foobar", "343e1662793c64bf6f0d3597ba446f18"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_fnv128 h;
        uint8_t hex[HG_FNV128_HEX_N];
        hg_fnv128_init(&h);
        hg_fnv128_add(&h, hg_bytes_str(rows[i].text));
        hg_fnv128_hex(&h, hex);
        assert_memory_equal(hex, rows[i].hex, sizeof(hex));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_becomes_one_word_of_its_own),
        cmocka_unit_test(every_short_address_comes_back),
        cmocka_unit_test(every_short_key_comes_back),
        cmocka_unit_test(the_escape_is_what_is_written),
        cmocka_unit_test(what_has_no_counterpart_is_refused),
        cmocka_unit_test(plain_exchanges_slash_and_dot_alone),
        cmocka_unit_test(a_full_sink_still_counts),
        cmocka_unit_test(the_hash_is_fnv_1a_of_128_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
