/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 against RFC 4648 section 10, all short inputs and malformed text. */
#include "base/base64.h"

#include "seam/seam.h"
#include "seam/unit.h"

static void rfc_vectors_hold_both_ways(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer w = {0};
        hg_base64_encode(&w, hg_bytes_str(rows[i][0]));
        assert_text(hg_writer_view(&w), rows[i][1]);
        hg_writer_reset(&w);
        assert_true(hg_base64_decode(&w, hg_bytes_str(rows[i][1])));
        assert_text(hg_writer_view(&w), rows[i][0]);
        hg_writer_close(&w);
    }
}

static void every_length_comes_back(void **state)
{
    uint8_t in[70];
    uint64_t seed = 7;
    (void)state;
    for (size_t n = 0; n < sizeof(in); n++) {
        struct hg_writer text = {0};
        struct hg_writer back = {0};
        for (size_t i = 0; i < n; i++) {
            in[i] = (uint8_t)unit_random(&seed);
        }
        hg_base64_encode(&text, hg_bytes(in, n));
        assert_int_equal(hg_writer_n(&text), (n + 2) / 3 * 4);
        assert_true(hg_base64_decode(&back, hg_writer_view(&text)));
        assert_bytes(hg_writer_view(&back), n, in);
        hg_writer_close(&text);
        hg_writer_close(&back);
    }
}

static void malformed_text_appends_nothing(void **state)
{
    static const char *const rows[] = {
        "Z",    "Zg",   "Zg=",  "Zg==Zg==", "Zm9v\n", "Zm 9",  "====",      "=AAA",
        "A===", "Zh==", "Zm9=", "Z=g=",     "-_-_",   "Zm9vY", "Zg==\n===", "\x80\x80\x80\x80",
    };
    struct hg_writer w = {0};
    (void)state;
    hg_writer_str(&w, "kept");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(hg_base64_decode(&w, hg_bytes_str(rows[i])));
        assert_text(hg_writer_view(&w), "kept");
    }
    assert_false(w.failed);
    hg_writer_close(&w);
}

static void base64url_has_its_own_alphabet_and_no_padding(void **state)
{
    (void)state;
    static const char *const wrong[] = {"-_8=", "+/8", "a", "aaaaa", "a b", "_x"};
    struct hg_writer w = {0};
    char letters[HG_BASE64URL_N(4)];
    uint8_t back[4];
    hg_base64url_write(letters, HG_BYTES("\xfb\xff\xfe"
                                         "f"));
    assert_text(hg_bytes(letters, sizeof(letters)), "-__-Zg");
    assert_true(hg_base64url_read(hg_bytes(letters, sizeof(letters)), back, sizeof(back)));
    assert_text(hg_bytes(back, sizeof(back)), "\xfb\xff\xfe"
                                              "f");
    assert_false(hg_base64url_read(HG_BYTES("-__-"), back, sizeof(back)));
    assert_false(hg_base64url_read(HG_BYTES("-__-Zh"), back, sizeof(back)));
    assert_true(hg_base64url_decode(&w, HG_BYTES("-_8")));
    assert_text(hg_writer_view(&w), "\xfb\xff");
    assert_true(hg_base64url_decode(&w, HG_BYTES("Zm9vYg")));
    assert_text(hg_writer_view(&w), "\xfb\xff"
                                    "foob");
    hg_writer_reset(&w);
    assert_true(hg_base64url_decode(&w, HG_BYTES("")));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(hg_base64url_decode(&w, hg_bytes_str(wrong[i])));
    }
    assert_int_equal(hg_writer_n(&w), 0);
    hg_writer_close(&w);
}

static void no_memory_is_the_writers_failure(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    seam_fail_alloc(1);
    assert_true(hg_base64_decode(&w, HG_BYTES("Zm9v")));
    assert_true(w.failed);
    hg_writer_close(&w);
    seam_fail_alloc(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_vectors_hold_both_ways),
        cmocka_unit_test(every_length_comes_back),
        cmocka_unit_test(malformed_text_appends_nothing),
        cmocka_unit_test(base64url_has_its_own_alphabet_and_no_padding),
        cmocka_unit_test(no_memory_is_the_writers_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
