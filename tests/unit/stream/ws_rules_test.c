/* SPDX-License-Identifier: Apache-2.0 */
/* What RFC 6455 says of every opcode, code and byte of text, and how the gateway finds out that a
 * peer has gone. */
#include "seam/seam.h"
#include "seam/unit.h"
#include "ws_bench.h"

#include <string.h>

/* ---- What there is a rule for each value of ---- */

/* The frame alone, or behind the first fragment of a message; the code it ends with, 0: it is fine.
 */
static uint16_t code_of_frame(const char *before, uint8_t first, struct hg_bytes payload)
{
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_hex(&in, before);
    put_frame(&in, first, payload.p, payload.n);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    struct hg_bytes out = hg_writer_view(&b.lower.written);
    uint16_t code = 0;
    if (out.n >= 4 && out.p[0] == 0x88 && b.broken_rule != NULL) {
        code = (uint16_t)(out.p[2] << 8 | out.p[3]);
    }
    assert_int_equal(b.lower.is_finished, code != 0 || (first & 0x0f) == 8);
    hg_writer_close(&in);
    bench_close(&b);
    return code;
}

static void every_first_byte_of_a_frame_is_taken_or_refused(void **state)
{
    (void)state;
    for (unsigned first = 0; first <= 0xff; first++) {
        for (unsigned is_inside = 0; is_inside <= 1; is_inside++) {
            unsigned opcode = first & 0x0f;
            bool is_final = (first & 0x80) != 0;
            bool is_fine = (first & 0x70) == 0; /* no extension was agreed on */
            is_fine = is_fine && (opcode <= 2 || (opcode >= 8 && opcode <= 10));
            is_fine = is_fine && (opcode >= 8 ? is_final : (opcode == 0) == (is_inside != 0));
            uint16_t code = code_of_frame(is_inside ? "01 80 00000000" : "", (uint8_t)first,
                                          opcode == 8 ? HG_BYTES("") : HG_BYTES("x"));
            if (code != (is_fine ? 0 : 1002)) {
                fail_msg("first byte %02x, %s: %u", first, is_inside ? "inside" : "outside", code);
            }
        }
    }
}

static void every_close_code_is_taken_or_refused(void **state)
{
    (void)state;
    for (unsigned code = 0; code <= 5000; code += code < 1100 ? 1 : 100) {
        uint8_t payload[] = {(uint8_t)(code >> 8), (uint8_t)code, 'o', 'k'};
        bool is_fine = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                       (code >= 3000 && code < 5000);
        uint16_t got = code_of_frame("", 0x88, hg_bytes(payload, sizeof(payload)));
        if (got != (is_fine ? 0 : 1002)) {
            fail_msg("close code %u: %u", code, got);
        }
    }
}

static void control_frames_hold_125_bytes(void **state)
{
    (void)state;
    static const uint8_t bytes[126] = {0x03, 0xe8};
    for (uint8_t first = 0x88; first <= 0x8a; first++) {
        assert_int_equal(code_of_frame("", first, hg_bytes(bytes, 125)), 0);
        assert_int_equal(code_of_frame("", first, hg_bytes(bytes, 126)), 1002);
    }
}

/* RFC 3629 section 4: text, how many of its bytes may be followed by something valid (as many as it
 * has: all), whether it may end there. */
static const struct {
    const char *text;
    size_t good_n;
    bool is_whole;
} texts[] = {
    {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", 11, true},
    {"\x7f\xc2\x80\xdf\xbf", 5, true},
    {"\xe0\xa0\x80\xef\xbf\xbf", 6, true},
    {"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbe", 9, true},
    {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8, true},
    {"a\xc0\xaf", 1, false}, /* overlong */
    {"a\xc1\xbf", 1, false},
    {"a\xe0\x9f\xbf", 2, false},
    {"a\xf0\x8f\xbf\xbf", 2, false},
    {"a\xed\xa0\x80", 2, false},     /* a surrogate */
    {"a\xf4\x90\x80\x80", 2, false}, /* past U+10FFFF */
    {"a\xf5\x80\x80\x80", 1, false},
    {"a\xfe", 1, false},
    {"a\x80", 1, false},             /* the rest of nothing */
    {"a\xce\xba\xe1\xbd", 5, false}, /* cut off */
    {"a\xf0\x90\x80", 4, false},
    {"a\xe1\x61\xbd", 2, false},
};

static void utf_8_is_refused_at_the_first_byte_that_breaks_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size_t n = strlen(texts[i].text);
        struct bench b;
        struct hg_writer in = {0};
        bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
        for (size_t k = 0; k < n; k++) { /* fragments of a byte, and more to come */
            put_frame(&in, k == 0 ? 0x01 : 0x00, texts[i].text + k, 1);
            put_frame(&in, 0x89, "", 0);
            fake_stream_push(&b.lower, hg_writer_view(&in));
            hg_writer_reset(&in);
            assert_int_equal(b.lower.is_finished, k >= texts[i].good_n);
        }
        put_frame(&in, 0x80, "", 0);
        fake_stream_push(&b.lower, hg_writer_view(&in));
        assert_int_equal(b.lower.is_finished, !texts[i].is_whole);
        hg_writer_close(&in);
        bench_close(&b);
        struct hg_bytes whole = hg_bytes(texts[i].text, n);
        assert_int_equal(code_of_frame("", 0x81, whole), texts[i].is_whole ? 0 : 1007);
        assert_int_equal(code_of_frame("", 0x82, whole), 0);
        uint8_t reason[32] = {0x03, 0xe8};
        memcpy(reason + 2, texts[i].text, n);
        assert_int_equal(code_of_frame("", 0x88, hg_bytes(reason, n + 2)),
                         texts[i].is_whole ? 0 : 1007);
    }
}

/* ASCII is passed over in words. */
static void utf_8_is_checked_wherever_ascii_ends(void **state)
{
    (void)state;
    enum { TEXT_BYTES = 40 };
    for (size_t from = 0; from < 9; from++) {
        for (size_t at = from; at + 1 < TEXT_BYTES; at++) {
            char text[TEXT_BYTES];
            memset(text, 'a', sizeof(text));
            memcpy(text + from, "\xc3\xa4", 2);
            memcpy(text + at, "\xc3\xa4", 2);
            bool is_cut = at == from + 1; /* the first letter's second byte is gone */
            struct hg_bytes all = hg_bytes(text, sizeof(text));
            assert_int_equal(code_of_frame("", 0x81, all), is_cut ? 1007 : 0);
            text[at + 1] = 'a';
            assert_int_equal(code_of_frame("", 0x81, all), 1007);
            text[at] = '\xff';
            assert_int_equal(code_of_frame("", 0x81, all), 1007);
            assert_int_equal(code_of_frame("", 0x82, all), 0);
        }
    }
}

static void broken_utf_8_is_refused_before_the_frame_has_come(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_hex(&in, "81 fe 1000 00000000 61 ff");
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_true(b.lower.is_finished);
    assert_string_equal(b.broken_rule, "a WebSocket text is not UTF-8");
    hg_writer_close(&in);
    bench_close(&b);
}

static void a_thousand_empty_fragments_are_one_message(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), 10);
    put_frame(&in, 0x01, "ab", 2);
    for (size_t i = 0; i < 1000; i++) {
        put_frame(&in, 0x00, "", 0);
    }
    put_frame(&in, 0x80, "c", 1);
    put_frame(&in, 0x81, "next", 4);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_text(hg_writer_view(&b.seen), "abcnext");
    assert_int_equal(b.net.ws_decoders_n, 1);
    hg_writer_close(&in);
    bench_close(&b);
}

/* ---- Text or binary ---- */

static void a_peer_that_begins_in_binary_gets_binary(void **state)
{
    (void)state;
    static const struct {
        uint8_t first[3]; /* of the messages that it sends; the second is empty */
        uint8_t answer;   /* to a text that we write */
    } cases[] = {{{0x81, 0x82, 0x82}, 0x81}, {{0x82, 0x81, 0x81}, 0x82}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t k = 0; k < 3; k++) {
            struct bench b;
            struct hg_writer in = {0};
            bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
            put_frame(&in, cases[i].first[1], "", 0);
            for (size_t m = 0; m <= k; m++) {
                put_frame(&in, cases[i].first[m], "m", m == 1 ? 0 : 1);
            }
            fake_stream_push(&b.lower, hg_writer_view(&in));
            struct hg_part part = {NULL, HG_BYTES("hi")};
            assert_int_equal(b.ws->ops->write(b.ws, HG_FRAME_TEXT, &part, 1), HG_OK);
            assert_int_equal(hg_writer_view(&b.lower.written).p[0], cases[i].answer);
            hg_writer_close(&in);
            bench_close(&b);
        }
    }
}

/* ---- Pings of our own ---- */

static size_t pings_n(const struct bench *b)
{
    struct hg_bytes out = hg_writer_view(&b->lower.written);
    size_t n = 0;
    for (; out.n >= 2 && out.p[0] == 0x89 && out.p[1] == 0; out = hg_bytes_skip(out, 2)) {
        n++;
    }
    return n;
}

static bool probe(struct bench *b, uint64_t pass_ms)
{
    seam_now_ms += pass_ms;
    return hg_ws_probe(b->ws, seam_now_ms, 1000);
}

static void a_silent_peer_is_pinged_and_given_up(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    assert_true(probe(&b, 999));
    assert_int_equal(pings_n(&b), 0);
    assert_true(probe(&b, 1));
    assert_int_equal(pings_n(&b), 1);
    assert_true(probe(&b, 999));
    assert_int_equal(pings_n(&b), 1);
    assert_false(probe(&b, 1));
    bench_close(&b);
}

static void whatever_it_sends_is_a_sign_of_life(void **state)
{
    (void)state;
    static const char *const signs[] = {"8a 80 00000000", "89 80 00000000", "82 81 00000000 61",
                                        "8a"}; /* half a frame */
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        struct bench b;
        struct hg_writer in = {0};
        bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
        put_hex(&in, signs[i]);
        assert_true(probe(&b, 1000));
        seam_now_ms += 900;
        fake_stream_push(&b.lower, hg_writer_view(&in));
        fake_stream_forget(&b.lower);
        assert_true(probe(&b, 999));
        assert_int_equal(pings_n(&b), 0);
        assert_true(probe(&b, 1));
        assert_int_equal(pings_n(&b), 1);
        hg_writer_close(&in);
        bench_close(&b);
    }
}

static void no_time_passes_while_nobody_reads(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    b.ws->ops->read_stop(b.ws);
    for (size_t i = 0; i < 5; i++) {
        assert_true(probe(&b, 5000));
    }
    assert_int_equal(pings_n(&b), 0);
    b.ws->ops->read_start(b.ws);
    assert_true(probe(&b, 999));
    assert_int_equal(pings_n(&b), 0);
    bench_close(&b);
}

static void who_takes_what_waits_for_it_is_alive(void **state)
{
    (void)state;
    struct bench b;
    struct hg_part part = {NULL, HG_BYTES("0123456789")};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    for (size_t i = 0; i < 5; i++) { /* as much comes as it takes: what waits stays the same */
        assert_int_equal(b.ws->ops->write(b.ws, HG_FRAME_TEXT, &part, 1), HG_OK);
        b.lower.pending = 10000;
        assert_true(probe(&b, 5000));
    }
    b.ws->ops->read_stop(b.ws); /* the gateway listens to nobody who does not read */
    assert_true(probe(&b, 1000));
    b.lower.pending += 31; /* the ping, in a record of TLS */
    assert_true(probe(&b, 999));
    assert_false(probe(&b, 1));
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_first_byte_of_a_frame_is_taken_or_refused),
        cmocka_unit_test(every_close_code_is_taken_or_refused),
        cmocka_unit_test(control_frames_hold_125_bytes),
        cmocka_unit_test(utf_8_is_refused_at_the_first_byte_that_breaks_it),
        cmocka_unit_test(utf_8_is_checked_wherever_ascii_ends),
        cmocka_unit_test(broken_utf_8_is_refused_before_the_frame_has_come),
        cmocka_unit_test(a_thousand_empty_fragments_are_one_message),
        cmocka_unit_test(a_peer_that_begins_in_binary_gets_binary),
        cmocka_unit_test(a_silent_peer_is_pinged_and_given_up),
        cmocka_unit_test(whatever_it_sends_is_a_sign_of_life),
        cmocka_unit_test(no_time_passes_while_nobody_reads),
        cmocka_unit_test(who_takes_what_waits_for_it_is_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
