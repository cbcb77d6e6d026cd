/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers and the writer: every size, sharing, and memory that runs out. */
#include "base/buf.h"

#include "seam/seam.h"
#include "seam/unit.h"

static void a_copy_outlives_its_source(void **state)
{
    char source[] = "abc";
    (void)state;
    struct hg_buf *buf = hg_buf_copy(hg_bytes_str(source));
    source[0] = 'X';
    assert_ptr_equal(hg_buf_ref(buf), buf);
    hg_buf_unref(buf);
    assert_text(hg_buf_bytes(buf), "abc");
    hg_buf_unref(buf);
    hg_buf_unref(NULL);
    assert_int_equal(seam_live(), 0);
}

static void more_than_a_gibibyte_is_refused(void **state)
{
    (void)state;
    assert_null(hg_buf_new((1U << 30) + 1));
    struct hg_writer w = {0};
    hg_writer_u8(&w, 1);
    assert_null(hg_writer_reserve(&w, 1U << 30));
    assert_true(w.failed);
    assert_null(hg_writer_reserve(&w, SIZE_MAX));
    hg_writer_close(&w);
}

static void every_size_is_kept_in_every_piece_size(void **state)
{
    uint8_t data[600];
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t n = 0; n <= sizeof(data); n++) {
        for (size_t piece = 1; piece <= n + 1; piece = piece * 3 + 1) {
            struct hg_writer w = {0};
            for (size_t at = 0; at < n; at += piece) {
                hg_writer_bytes(&w, hg_bytes(data + at, piece < n - at ? piece : n - at));
            }
            struct hg_buf *buf = hg_writer_take(&w);
            assert_non_null(buf);
            assert_bytes(hg_buf_bytes(buf), n, data);
            assert_null(w.buf);
            hg_buf_unref(buf);
        }
    }
    assert_int_equal(seam_live(), 0);
}

static void a_failed_allocation_sticks_and_loses_nothing(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 5; nth++) { /* room for 64, 128, 256, 512, 1024 bytes */
        struct hg_writer w = {0};
        size_t written_n = 0;
        seam_fail_alloc(nth);
        while (!w.failed) {
            hg_writer_u8(&w, (uint8_t)written_n);
            written_n += !w.failed;
        }
        assert_int_equal(written_n, nth == 1 ? 0 : 32U << (nth - 1));
        hg_writer_str(&w, "ignored");
        hg_writer_printf(&w, "%d", 1);
        hg_writer_u64(&w, 1);
        hg_writer_commit(&w, 0);
        assert_int_equal(hg_writer_n(&w), written_n);
        for (size_t i = 0; i < written_n; i++) {
            assert_int_equal(hg_writer_view(&w).p[i], (uint8_t)i);
        }
        assert_null(hg_writer_take(&w));
        assert_false(w.failed);
    }
    seam_fail_alloc(0);
    assert_int_equal(seam_live(), 0);
}

static void taking_nothing_gives_an_empty_buffer(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    struct hg_buf *buf = hg_writer_take(&w);
    assert_non_null(buf);
    assert_int_equal(buf->n, 0);
    hg_buf_unref(buf);
    seam_fail_alloc(1);
    assert_null(hg_writer_take(&w));
    seam_fail_alloc(0);
}

static void a_shared_buffer_is_not_written_to(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    hg_writer_str(&w, "one");
    struct hg_buf *held = hg_buf_ref(w.buf);
    hg_writer_str(&w, " two");
    assert_text(hg_buf_bytes(held), "one");
    assert_text(hg_writer_view(&w), "one two");
    hg_buf_unref(held);
    held = hg_buf_ref(w.buf);
    hg_writer_reset(&w);
    assert_null(w.buf);
    assert_text(hg_buf_bytes(held), "one two");
    hg_buf_unref(held);
    hg_writer_close(&w);
    assert_int_equal(seam_live(), 0);
}

static void reset_keeps_the_memory(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    hg_writer_printf(&w, "%0300d", 0);
    seam_fail_allocs_from(1);
    hg_writer_reset(&w);
    assert_int_equal(hg_writer_n(&w), 0);
    hg_writer_printf(&w, "%0300d", 0);
    assert_false(w.failed);
    seam_fail_alloc(0);
    hg_writer_close(&w);
}

static void numbers_are_big_endian_or_decimal(void **state)
{
    static const uint8_t want[] = {0x01, 0x12, 0x34, 0x12, 0x34, 0x56, 0x78, 0x12,
                                   0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0};
    struct hg_writer w = {0};
    (void)state;
    hg_writer_u8(&w, 1);
    hg_writer_u16(&w, 0x1234);
    hg_writer_u32(&w, 0x12345678);
    hg_writer_u64(&w, 0x123456789abcdef0);
    assert_bytes(hg_writer_view(&w), sizeof(want), want);
    hg_writer_reset(&w);
    hg_writer_dec(&w, 0);
    hg_writer_u8(&w, ' ');
    hg_writer_dec(&w, UINT64_MAX);
    assert_text(hg_writer_view(&w), "0 18446744073709551615");
    hg_writer_close(&w);
}

static void json_is_escaped_and_always_utf8(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"a\"b\\c", "a\\\"b\\\\c"},
        {"\b\f\n\r\t", "\\b\\f\\n\\r\\t"},
        {"\x01\x1f\x7f", "\\u0001\\u001f\\u007f"},
        {"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer w = {0};
        hg_writer_json(&w, hg_bytes_str(rows[i][0]));
        assert_text(hg_writer_view(&w), rows[i][1]);
        hg_writer_close(&w);
    }
    struct hg_writer w = {0};
    hg_writer_json(&w, hg_bytes("a\0b", 3));
    assert_text(hg_writer_view(&w), "a\\u0000b");
    hg_writer_close(&w);
}

/* It looks at eight bytes at once. */
static void a_byte_is_escaped_wherever_it_stands(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 128; c++) {
        bool is_plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
        for (size_t at = 0; at < 20; at++) {
            uint8_t in[20];
            struct hg_writer w = {0};
            memset(in, 'x', sizeof(in));
            in[at] = (uint8_t)c;
            hg_writer_json(&w, hg_bytes(in, sizeof(in)));
            struct hg_bytes out = hg_writer_view(&w);
            assert_true(out.n > at && (out.p[at] == '\\') == !is_plain);
            assert_true(is_plain ? out.n == sizeof(in) && out.p[at] == c : out.n > sizeof(in));
            hg_writer_close(&w);
        }
    }
}

static void a_secret_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int is_secret = 0; is_secret < 2; is_secret++) {
        struct hg_writer w = {.is_secret = is_secret != 0};
        seam_watch("open sesame");
        for (int i = 0; i < 100; i++) { /* it moves several times */
            hg_writer_str(&w, "open sesame ");
        }
        hg_writer_reset(&w);
        hg_writer_str(&w, "again: open sesame");
        hg_writer_close(&w);
        assert_true((seam_left_behind() == 0) == (is_secret != 0));
        seam_watch(NULL);
    }
    struct hg_writer shared = {.is_secret = true};
    hg_writer_str(&shared, "open sesame");
    struct hg_buf *others = hg_buf_ref(shared.buf);
    hg_writer_close(&shared);
    assert_text(hg_buf_bytes(others), "open sesame");
    hg_buf_unref(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_outlives_its_source),
        cmocka_unit_test(more_than_a_gibibyte_is_refused),
        cmocka_unit_test(every_size_is_kept_in_every_piece_size),
        cmocka_unit_test(a_failed_allocation_sticks_and_loses_nothing),
        cmocka_unit_test(taking_nothing_gives_an_empty_buffer),
        cmocka_unit_test(a_shared_buffer_is_not_written_to),
        cmocka_unit_test(reset_keeps_the_memory),
        cmocka_unit_test(numbers_are_big_endian_or_decimal),
        cmocka_unit_test(json_is_escaped_and_always_utf8),
        cmocka_unit_test(a_byte_is_escaped_wherever_it_stands),
        cmocka_unit_test(a_secret_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
