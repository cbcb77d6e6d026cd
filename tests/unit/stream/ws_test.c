/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames (RFC 6455) by hand, at every split point, over a stream without a socket. */
#include "seam/seam.h"
#include "seam/unit.h"
#include "ws_bench.h"

#include <stdlib.h>
#include <string.h>

struct wire {
    const char *name;
    const char *in;      /* hex; masks are zero where not noted, which is a mask like any other */
    const char *payload; /* what the user sees */
    const char *out;     /* hex of what we answer; NULL: nothing */
    int why;             /* how it ends; -1: it stays open */
};

/* clang-format off */
static const struct wire wires[] = {
    {"one text message", "81 85 00000000 48656c6c6f", "Hello", NULL, -1},
    {"masked: section 5.7's example", "81 85 37fa213d 7f9f4d5158", "Hello", NULL, -1},
    {"fragments", "01 83 00000000 48656c  00 80 00000000  80 82 00000000 6c6f", "Hello", NULL, -1},
    {"ping between fragments", "01 83 00000000 48656c  89 82 00000000 6869  80 82 00000000 6c6f",
     "Hello", "8a 02 6869", -1},
    {"ping with a mask", "89 85 37fa213d 7f9f4d5158", "", "8a 05 48656c6c6f", -1},
    {"pong is swallowed", "8a 81 00000000 78", "", NULL, -1},
    {"two messages", "82 81 00000000 61  82 81 00000000 62", "ab", NULL, -1},
    {"empty message", "82 80 00000000", "", NULL, -1},
    {"text cut inside a letter (two bytes of UTF-8)", "01 81 00000000 c3  80 81 00000000 a4", "\xc3\xa4", NULL, -1},
    {"close 1000", "88 82 00000000 03e8", "", "88 02 03e8", HG_CLOSED},
    {"close with a reason", "88 85 00000000 03e8 627965", "", "88 05 03e8 627965", HG_CLOSED},
    {"close without a code", "88 80 00000000", "", "88 00", HG_CLOSED},
    {"message, then close, then ignored bytes", "81 81 00000000 61  88 82 00000000 03e9  81 81 00000000 62", "a",
     "88 02 03e9", HG_CLOSED},
    {"close with half a code", "88 81 00000000 03", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"close with a code that never travels (1005)", "88 82 00000000 03ed", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"close with a reason in UTF-8", "88 84 00000000 03e8 c3a4", "", "88 04 03e8 c3a4", HG_CLOSED},
    {"close with a reason that is not UTF-8", "88 83 00000000 03e8 ff", "", "88 * 03ef", HG_MALFORMED},
    {"unmasked", "81 05 48656c6c6f", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"reserved bit", "c1 85 00000000 48656c6c6f", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"unknown opcode", "83 81 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"unknown control opcode", "8b 80 00000000", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"continuation of nothing", "80 81 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"message inside a message", "01 81 00000000 61  81 81 00000000 62", "a", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"fragmented ping", "09 81 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"ping over 125 bytes", "89 fe 007e 00000000", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"length in more bytes than needed", "82 fe 0001 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"length in eight bytes where two do", "82 ff 000000000000ffff 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"length with the first bit", "82 ff 8000000000000000 00000000 61", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"the largest length", "82 ff 7fffffffffffffff 00000000 61", "", "88 * 03f1", HG_TOO_LARGE},
    {"ping without payload", "89 80 00000000", "", "8a 00", -1},
    {"three pings at once", "89 80 00000000 89 81 00000000 61 89 80 00000000", "", "8a 00 8a 01 61 8a 00", -1},
    {"pong inside a letter", "01 81 00000000 c3  8a 81 00000000 ff  80 81 00000000 a4", "\xc3\xa4", NULL, -1},
    {"close between fragments", "01 81 00000000 61  88 82 00000000 03e8", "a", "88 02 03e8", HG_CLOSED},
    {"unmasked ping", "89 00", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"unmasked close", "88 00", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"continuation behind a message", "01 81 00000000 61 80 80 00000000 80 80 00000000", "a", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"nothing after a mistake", "83 80 00000000 81 81 00000000 61 88 80 00000000", "", "88 * 03ea", HG_PROTOCOL_ERROR},
    {"text that is not UTF-8", "81 82 00000000 61ff", NULL, "88 * 03ef", HG_MALFORMED},
    {"text that ends inside a letter", "81 81 00000000 c3", NULL, "88 * 03ef", HG_MALFORMED},
    {"fragments that break a letter", "01 81 00000000 c3  80 81 00000000 41", NULL, "88 * 03ef", HG_MALFORMED},
    {"binary may be anything", "82 82 00000000 61ff", "a\xff", NULL, -1},
    {"a message over the limit", "82 ff 0000000000011171 00000000 61", "", "88 * 03f1", HG_TOO_LARGE},
};
/* clang-format on */

/* `*` in the expectation stands for one byte, and what follows a close code is text for people. */
static void check_output(const struct wire *w, struct hg_bytes got)
{
    struct hg_writer want = {0};
    const char *star = w->out == NULL ? NULL : strchr(w->out, '*');
    if (w->out == NULL) {
        assert_int_equal(got.n, 0);
    } else if (star == NULL) {
        put_hex(&want, w->out);
        assert_bytes(got, hg_writer_n(&want), hg_writer_view(&want).p);
    } else {
        put_hex(&want, star + 1);
        assert_true(got.n >= 4);
        assert_int_equal(got.p[0], 0x88);
        assert_int_equal(got.p[1], got.n - 2);
        assert_memory_equal(got.p + 2, hg_writer_view(&want).p, 2);
    }
    hg_writer_close(&want);
}

static void run_wire(const struct wire *w, size_t split, size_t step)
{
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_hex(&in, w->in);
    struct hg_bytes rest = hg_writer_view(&in);
    for (size_t n = split; rest.n > 0; n = step) {
        n = n < rest.n ? n : rest.n;
        fake_stream_push(&b.lower, hg_bytes(rest.p, n));
        rest = hg_bytes_skip(rest, n);
    }
    if (w->payload != NULL) {
        assert_text(hg_writer_view(&b.seen), w->payload);
    }
    check_output(w, hg_writer_view(&b.lower.written));
    assert_int_equal(b.lower.is_finished, w->why != -1);
    assert_int_equal(b.broken_rule != NULL, w->why != -1 && w->why != HG_CLOSED);
    if (w->why != -1) {
        fake_stream_run(&b.lower);
        assert_int_equal(b.why, w->why);
    } else {
        assert_int_equal(b.net.ws_decoders_n, 1); /* given back */
    }
    hg_writer_close(&in);
    bench_close(&b);
}

static void every_frame_is_understood_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct hg_writer in = {0};
        put_hex(&in, wires[i].in);
        size_t n = hg_writer_n(&in);
        hg_writer_close(&in);
        for (size_t split = 1; split <= n; split++) {
            run_wire(&wires[i], split, n);
        }
        run_wire(&wires[i], 1, 1);
    }
}

static void a_message_over_the_limit_in_fragments_is_refused(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), 10);
    put_frame(&in, 0x02, "123456", 6);
    put_frame(&in, 0x80, "78901", 5);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_text(hg_writer_view(&b.seen), "123456");
    assert_true(b.lower.is_finished);
    assert_memory_equal(hg_writer_view(&b.lower.written).p + 2, "\x03\xf1", 2);
    fake_stream_run(&b.lower);
    assert_int_equal(b.why, HG_TOO_LARGE);
    hg_writer_close(&in);
    bench_close(&b);
}

static void text_ends_a_socket_for_binary_messages(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open_with(&b, HG_BYTES(""),
                    &(struct hg_ws_limits){.max_message_bytes = 10, .is_binary_only = true});
    put_frame(&in, 0x82, "ab", 2);
    put_frame(&in, 0x89, "", 0);
    put_frame(&in, 0x81, "cd", 2);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_text(hg_writer_view(&b.seen), "ab");
    assert_string_equal(b.broken_rule, "WebSocket messages must be binary here");
    assert_memory_equal(hg_writer_view(&b.lower.written).p + 4, "\x03\xeb", 2);
    fake_stream_run(&b.lower);
    assert_int_equal(b.why, HG_PROTOCOL_ERROR);
    hg_writer_close(&in);
    bench_close(&b);
}

static void no_decoder_is_held_between_frames_and_one_inside(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    size_t idle = seam_live();
    put_frame(&in, 0x82, "abcdef", 6);
    size_t n = hg_writer_n(&in);
    put_frame(&in, 0x02, "ghi", 3);
    size_t fragment_n = hg_writer_n(&in);
    put_frame(&in, 0x80, "jkl", 3);
    const uint8_t *p = hg_writer_view(&in).p;
    fake_stream_push(&b.lower, hg_bytes(p, 1));
    assert_int_equal(b.net.ws_decoders_n, 0); /* half a header */
    fake_stream_push(&b.lower, hg_bytes(p + 1, n - 1));
    assert_int_equal(b.net.ws_decoders_n, 1);
    fake_stream_push(&b.lower, hg_bytes(p + n, fragment_n - n));
    assert_int_equal(b.net.ws_decoders_n, 0); /* the message goes on */
    fake_stream_push(&b.lower, hg_bytes(p + fragment_n, hg_writer_n(&in) - fragment_n));
    assert_int_equal(b.net.ws_decoders_n, 1);
    hg_writer_close(&in);
    hg_writer_close(&b.seen);
    assert_int_equal(seam_live(), idle + 1); /* the idle decoder, which the next one takes */
    bench_close(&b);
}

static void large_messages_arrive_whole(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, MAX_MESSAGE};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t step = 997; step < 200000; step *= 13) {
            struct bench b;
            struct hg_writer in = {0}, payload = {0};
            bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
            for (size_t k = 0; k < sizes[i]; k++) {
                hg_writer_u8(&payload, (uint8_t)(k * 7));
            }
            put_frame(&in, 0x82, hg_writer_view(&payload).p, sizes[i]);
            struct hg_bytes rest = hg_writer_view(&in);
            while (rest.n > 0) {
                size_t n = step < rest.n ? step : rest.n;
                fake_stream_push(&b.lower, hg_bytes(rest.p, n));
                rest = hg_bytes_skip(rest, n);
            }
            assert_bytes(hg_writer_view(&b.seen), sizes[i], hg_writer_view(&payload).p);
            assert_int_equal(b.net.ws_decoders_n, 1);
            hg_writer_close(&in);
            hg_writer_close(&payload);
            bench_close(&b);
        }
    }
}

static void a_message_leaves_as_one_frame_in_one_write(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *header;
    } cases[] = {
        {0, "82 00"},        {1, "82 01"},          {125, "82 7d"},
        {126, "82 7e 007e"}, {65535, "82 7e ffff"}, {65536, "82 7f 0000000000010000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        struct hg_writer want = {0};
        bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
        uint8_t *payload = calloc(1, cases[i].n + 1);
        struct hg_part parts[20];
        size_t each = cases[i].n / 20;
        for (size_t k = 0; k < 20; k++) { /* more parts than fit on the stack */
            parts[k] = (struct hg_part){NULL, {payload, k == 0 ? cases[i].n - 19 * each : each}};
        }
        assert_int_equal(b.ws->ops->write(b.ws, HG_FRAME_BINARY, parts, 20), HG_OK);
        put_hex(&want, cases[i].header);
        hg_writer_bytes(&want, hg_bytes(payload, cases[i].n));
        assert_int_equal(b.lower.writes_n, 1);
        assert_bytes(hg_writer_view(&b.lower.written), hg_writer_n(&want), hg_writer_view(&want).p);
        hg_writer_close(&want);
        free(payload);
        bench_close(&b);
    }
}

static void text_is_marked_as_text(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    struct hg_part part = {NULL, HG_BYTES("hi")};
    assert_int_equal(b.ws->ops->write(b.ws, HG_FRAME_TEXT, &part, 1), HG_OK);
    assert_bytes(hg_writer_view(&b.lower.written), 4, "\x81\x02hi");
    bench_close(&b);
}

static void finish_tells_the_reason_by_its_code(void **state)
{
    (void)state;
    static const struct {
        enum hg_status why;
        uint16_t code;
    } cases[] = {
        {HG_OK, 1000},        {HG_CLOSED, 1000},         {HG_SHUTTING_DOWN, 1001},
        {HG_MALFORMED, 1002}, {HG_PROTOCOL_ERROR, 1002}, {HG_TOO_LARGE, 1009},
        {HG_BAD_LOGIN, 1008}, {HG_NOT_ALLOWED, 1008},    {HG_NO_MEMORY, 1011},
        {HG_NO_RULE, 1008},   {HG_KEEP_ALIVE, 1008},     {HG_SERVER_ERROR, 1011},
        {HG_BUSY, 1013},      {HG_BROKER_AWAY, 1013},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
        b.ws->ops->finish(b.ws, cases[i].why);
        b.ws->ops->finish(b.ws, HG_SERVER_ERROR);
        struct hg_bytes out = hg_writer_view(&b.lower.written);
        assert_int_equal(out.p[0], 0x88);
        assert_int_equal(out.p[2] << 8 | out.p[3], cases[i].code);
        assert_text(hg_bytes_skip(out, 4), hg_status_text(cases[i].why));
        assert_int_equal(b.closed_n, 0); /* not from inside */
        struct hg_part part = {NULL, HG_BYTES("late")};
        assert_int_equal(b.ws->ops->write(b.ws, HG_FRAME_TEXT, &part, 1), HG_CLOSED);
        fake_stream_run(&b.lower);
        assert_int_equal(b.why, cases[i].why);
        bench_close(&b);
    }
}

static void early_bytes_come_first_and_from_the_loop(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    put_frame(&in, 0x82, "early", 5);
    struct hg_bytes early = hg_writer_view(&in);
    bench_open(&b, hg_bytes(early.p, early.n - 2), MAX_MESSAGE);
    assert_false(b.lower.is_reading);
    assert_int_equal(hg_writer_n(&b.seen), 0);
    turn(&b);
    assert_true(b.lower.is_reading);
    fake_stream_push(&b.lower, hg_bytes_skip(early, early.n - 2));
    assert_text(hg_writer_view(&b.seen), "early");
    hg_writer_close(&in);
    bench_close(&b);
}

static void early_bytes_wait_while_nobody_reads(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    put_frame(&in, 0x82, "early", 5);
    bench_open(&b, hg_writer_view(&in), MAX_MESSAGE);
    hg_writer_close(&in);
    b.ws->ops->read_stop(b.ws);
    turn(&b);
    assert_int_equal(hg_writer_n(&b.seen), 0);
    b.ws->ops->read_start(b.ws);
    b.stops_after_read = true;
    turn(&b);
    assert_text(hg_writer_view(&b.seen), "early");
    assert_false(b.lower.is_reading);
    bench_close(&b);
}

static void a_user_that_finishes_inside_on_read_gets_no_more(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    b.finishes_after_read = true;
    put_frame(&in, 0x82, "one", 3);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_text(hg_writer_view(&b.seen), "one");
    put_frame(&in, 0x82, "two", 3);
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_text(hg_writer_view(&b.seen), "one");
    assert_int_equal(hg_writer_view(&b.lower.written).p[0], 0x88);
    assert_int_equal(b.lower.writes_n, 1);
    hg_writer_close(&in);
    bench_close(&b);
}

static void pongs_do_not_pile_up_for_a_peer_that_does_not_read(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_frame(&in, 0x89, "ping", 4);
    b.lower.pending = 1 << 20;
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_int_equal(b.lower.writes_n, 0);
    b.lower.pending = 0;
    fake_stream_push(&b.lower, hg_writer_view(&in));
    assert_bytes(hg_writer_view(&b.lower.written), 6, "\x8a\x04ping");
    hg_writer_close(&in);
    bench_close(&b);
}

static void how_the_lower_stream_gets_on_is_asked_of_it(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    b.ws->ops->await_drained(b.ws);
    assert_int_equal(b.lower.awaits_n, 1);
    b.lower.stream.user->on_drained(b.lower.stream.user_ctx);
    assert_int_equal(b.drained_n, 1);
    b.lower.has_moved = true;
    assert_true(b.ws->ops->has_moved(b.ws));
    assert_false(b.ws->ops->has_moved(b.ws));
    bench_close(&b);
}

static void the_lower_stream_ends_it_once(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_frame(&in, 0x82, "half", 4);
    fake_stream_push(&b.lower, hg_bytes(hg_writer_view(&in).p, 7));
    fake_stream_hang_up(&b.lower, HG_PEER_LOST);
    assert_int_equal(b.closed_n, 1);
    assert_int_equal(b.why, HG_PEER_LOST);
    hg_writer_close(&in);
    bench_close(&b);
}

static void without_memory_it_closes_politely(void **state)
{
    (void)state;
    struct bench b;
    struct hg_writer in = {0};
    bench_open(&b, HG_BYTES(""), MAX_MESSAGE);
    put_frame(&in, 0x82, "message", 7);
    struct hg_bytes all = hg_writer_view(&in);
    seam_fail_alloc(1);
    fake_stream_push(&b.lower, all);
    seam_fail_alloc(0);
    assert_true(b.lower.is_finished);
    assert_int_equal(b.lower.why, HG_NO_MEMORY);
    hg_writer_close(&in);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_understood_at_every_split),
        cmocka_unit_test(a_message_over_the_limit_in_fragments_is_refused),
        cmocka_unit_test(text_ends_a_socket_for_binary_messages),
        cmocka_unit_test(no_decoder_is_held_between_frames_and_one_inside),
        cmocka_unit_test(large_messages_arrive_whole),
        cmocka_unit_test(a_message_leaves_as_one_frame_in_one_write),
        cmocka_unit_test(text_is_marked_as_text),
        cmocka_unit_test(finish_tells_the_reason_by_its_code),
        cmocka_unit_test(early_bytes_come_first_and_from_the_loop),
        cmocka_unit_test(early_bytes_wait_while_nobody_reads),
        cmocka_unit_test(a_user_that_finishes_inside_on_read_gets_no_more),
        cmocka_unit_test(pongs_do_not_pile_up_for_a_peer_that_does_not_read),
        cmocka_unit_test(how_the_lower_stream_gets_on_is_asked_of_it),
        cmocka_unit_test(the_lower_stream_ends_it_once),
        cmocka_unit_test(without_memory_it_closes_politely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
