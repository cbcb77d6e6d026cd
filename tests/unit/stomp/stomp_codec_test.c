/* SPDX-License-Identifier: Apache-2.0 */
/* STOMP frames: what is read from which bytes at every split point, what is refused where, and that
 * what is written reads back. */
#include "adapters/stomp/stomp_codec.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>

#define V10 HG_STOMP_V10
#define V11 HG_STOMP_V11
#define V12 HG_STOMP_V12

static const struct hg_stomp_limits limits = {
    .max_frame_bytes = 200, .max_header_bytes = 120, .max_headers_n = 4};

/* ---- Wire cases ---- */

/* A literal with its NULs inside. */
#define WIRE(literal)                                      \
    {                                                      \
        (const uint8_t *)("" literal), sizeof(literal) - 1 \
    }

struct wire_case {
    const char *title;
    enum hg_stomp_version version;
    struct hg_bytes in;
    const char *out; /* a line per frame: COMMAND name=value … [body]; an error ends it: "status at:
                        rule" */
};

/* clang-format off */
static const struct wire_case wire_cases[] = {
    /* STOMP 1.2 "STOMP Frames": command EOL *(header EOL) EOL *OCTET NULL *(EOL) */
    {"a frame without headers or body", V12, WIRE("DISCONNECT\n\n\0"), "DISCONNECT []\n"},
    {"a body up to the NUL", V12, WIRE("SEND\n" "destination:/a\n" "\n" "hello\0"),
     "SEND destination=/a [hello]\n"},
    {"a body by content-length may hold NULs", V12,
     WIRE("SEND\n" "destination:/a\n" "content-length:5\n" "\n" "a\0b\0c" "\0"),
     "SEND destination=/a content-length=5 [a\\0b\\0c]\n"},
    {"content-length of nothing", V12, WIRE("SEND\n" "content-length:0\n" "\n" "\0"), "SEND content-length=0 []\n"},
    {"lines end in CR LF as well as in LF", V12, WIRE("SEND\r\n" "a:1\n" "b:2\r\n" "\r\n" "x\0"), "SEND a=1 b=2 [x]\n"},
    {"a body keeps its line ends", V12, WIRE("SEND\n\n" "\r\n\n\0"), "SEND [\\r\\n\\n]\n"},
    {"frames follow each other with or without line ends between", V12,
     WIRE("BEGIN\n\n\0" "ABORT\n\n\0" "\n\r\n" "COMMIT\n\n\0" "\n"),
     "BEGIN []\nABORT []\nheart-beat\nCOMMIT []\nheart-beat\n"},
    {"heart-beats alone", V12, WIRE("\n\r\n\n"), "heart-beat\n"},
    /* "Repeated Header Entries": the first one is used */
    {"the first of repeated headers counts", V12, WIRE("SEND\n" "a:1\n" "b:2\n" "a:3\n" "\n" "\0"), "SEND a=1 b=2 []\n"},
    {"the first of repeated content-lengths counts", V12,
     WIRE("SEND\n" "content-length:1\n" "content-length:9\n" "\n" "x" "\0"), "SEND content-length=1 [x]\n"},
    {"a value may be empty, and may hold colons and blanks", V12, WIRE("SEND\n" "a:\n" "b: x:y \n" "\n" "\0"),
     "SEND a= b= x:y  []\n"},
    /* "Value Encoding" */
    {"1.2 unescapes names and values", V12, WIRE("SEND\n" "a\\cb:\\r\\n\\c\\\\n\n" "\n" "\\n\0"),
     "SEND a:b=\\r\\n:\\n [\\n]\n"},
    {"a backslash at the end is no escape", V12, WIRE("SEND\n" "a:b\\\n" "\n" "\0"),
     "MALFORMED 8: a header has an escape that is not defined\n"},
    {"undefined escapes are errors", V12, WIRE("SEND\n" "a:1\n" "bb:x\\ty\n" "\n" "\0"),
     "MALFORMED 13: a header has an escape that is not defined\n"},
    {"1.1 has no escape for CR", V11, WIRE("SEND\n" "a:\\r\n" "\n" "\0"),
     "MALFORMED 7: a header has an escape that is not defined\n"},
    {"1.1 unescapes the other three", V11, WIRE("SEND\n" "a:\\n\\c\\\\\n" "\n" "\0"), "SEND a=\\n:\\ []\n"},
    {"1.0 has no escapes", V10, WIRE("SEND\n" "a:\\n\\t\n" "\n" "\0"), "SEND a=\\n\\t []\n"},
    {"1.0 leaves out blanks before a value", V10, WIRE("SEND\n" "a:  x y \n" "content-length: 1\n" "\n" "\0" "\0"),
     "SEND a=x y  content-length=1 [\\0]\n"},
    {"also in CONNECT", V10, WIRE("CONNECT\n" "login: a\n" "\n" "\0"), "CONNECT login=a []\n"},
    {"unless that may be of a later version", V10, WIRE("CONNECT\n" "login: a\n" "accept-version:1.1\n" "\n" "\0"),
     "CONNECT login= a accept-version=1.1 []\n"},
    {"CONNECT is not unescaped", V12, WIRE("CONNECT\n" "passcode:a\\b:c\n" "\n" "\0"), "CONNECT passcode=a\\b:c []\n"},
    {"STOMP neither", V12, WIRE("STOMP\n" "passcode:\\t\n" "\n" "\0"), "STOMP passcode=\\t []\n"},
    {"headers are UTF-8", V12, WIRE("SEND\n" "a:\xc3\xa9\n" "\n" "\xff\0"), "SEND a=\xc3\xa9 [\xff]\n"},
    {"and nothing else", V12, WIRE("SEND\n" "a:\xe9\n" "\n" "\0"), "MALFORMED 0: the headers are not UTF-8\n"},
    {"a bare CR is refused by 1.2", V12, WIRE("SEND\n" "a:x\ry\n" "\n" "\0"),
     "MALFORMED 8: a header has a bare carriage return\n"},
    {"a bare CR is a character in 1.1", V11, WIRE("SEND\n" "a:x\ry\n" "\n" "\0"), "SEND a=x\\ry []\n"},
    /* "Body": only SEND, MESSAGE and ERROR have one */
    {"no body where none belongs", V12, WIRE("ACK\n" "id:1\n" "\n" "x\0"),
     "MALFORMED 10: only SEND, MESSAGE and ERROR frames have a body\n"},
    {"nor by content-length", V12, WIRE("ACK\n" "content-length:1\n" "\n" "x\0"),
     "MALFORMED 22: only SEND, MESSAGE and ERROR frames have a body\n"},
    {"the server's frames are read too", V12, WIRE("MESSAGE\n" "message-id:1\n" "\n" "x\0" "RECEIPT\n" "receipt-id:2\n" "\n" "\0"),
     "MESSAGE message-id=1 [x]\nRECEIPT receipt-id=2 []\n"},
    /* Not STOMP */
    {"an unknown command", V12, WIRE("SENT\n" "\n" "\0"), "MALFORMED 0: the frame does not start with a STOMP command\n"},
    {"commands have their case", V12, WIRE("send\n" "\n" "\0"), "MALFORMED 0: the frame does not start with a STOMP command\n"},
    {"another protocol, without waiting for a line end", V12, WIRE("GET / HTTP/1.1"),
     "MALFORMED 0: the frame does not start with a STOMP command\n"},
    {"a header without a colon", V12, WIRE("SEND\n" "a:1\n" "bc\n" "\n" "\0"), "MALFORMED 9: a header has no colon\n"},
    {"a header without a name", V12, WIRE("SEND\n" ":1\n" "\n" "\0"), "MALFORMED 5: a header has no name\n"},
    {"a head that ends in NUL", V12, WIRE("SEND\n" "a:1\0"), "MALFORMED 8: the frame ends before its empty line\n"},
    {"a command that ends in NUL", V12, WIRE("SEND\0"), "MALFORMED 4: the frame ends before its empty line\n"},
    {"a CR between frames that is no line end", V12, WIRE("\n\rSEND\n\n\0"),
     "heart-beat\nMALFORMED 0: the frame does not start with a STOMP command\n"},
    {"content-length too short", V12, WIRE("SEND\n" "content-length:1\n" "\n" "xy\0"),
     "MALFORMED 24: no NUL where content-length says the body ends\n"},
    {"content-length that is no number", V12, WIRE("SEND\n" "content-length:-1\n" "\n" "\0"),
     "MALFORMED 5: content-length is not a number\n"},
    /* Limits: 200 bytes a frame, 120 the head, 4 headers */
    {"headers up to the limit", V12, WIRE("SEND\n" "a:1\n" "b:1\n" "c:1\n" "d:1\n" "\n" "\0"), "SEND a=1 b=1 c=1 d=1 []\n"},
    {"one header too many, told before the frame is complete", V12, WIRE("SEND\n" "a:1\n" "b:1\n" "c:1\n" "d:1\n" "a:1\n"),
     "TOO_MANY 21: too many headers\n"},
    {"content-length past the limit, told at once", V12, WIRE("SEND\n" "content-length:200\n"),
     "TOO_LARGE 5: content-length exceeds the limit on frames\n"},
    {"head and content-length together past it", V12, WIRE("SEND\n" "content-length:180\n" "\n"),
     "TOO_LARGE 200: the frame exceeds the limit on frames\n"},
};
/* clang-format on */

/* Control characters as \0 \n \r, so that a case reads as it is typed. */
static void show(struct hg_writer *w, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        switch (text.p[i]) {
        case '\0': hg_writer_str(w, "\\0"); break;
        case '\n': hg_writer_str(w, "\\n"); break;
        case '\r': hg_writer_str(w, "\\r"); break;
        default: hg_writer_u8(w, text.p[i]);
        }
    }
}

static void show_frame(struct hg_writer *w, const struct hg_stomp_frame *f)
{
    hg_writer_str(w, hg_stomp_command_name(f->command));
    for (size_t i = 0; i < f->headers_n; i++) {
        hg_writer_u8(w, ' ');
        show(w, f->headers[i].name);
        hg_writer_u8(w, '=');
        show(w, f->headers[i].value);
    }
    if (f->command != HG_STOMP_HEARTBEAT) {
        hg_writer_str(w, " [");
        show(w, f->body);
        hg_writer_u8(w, ']');
    }
    hg_writer_u8(w, '\n');
}

/* Input on its way through a decoder: arrives in pieces, unused bytes come again. */
struct reader {
    struct hg_stomp_decoder dec;
    struct hg_stomp_frame frame;
    enum hg_stomp_version version;
    struct hg_writer out;
    size_t used;
    bool is_over, was_heartbeat;
};

/* in[0, n) has arrived. The bytes are a block of exactly their size, so that reading past them is
 * found. */
static void arrive(struct reader *r, struct hg_bytes in, size_t n)
{
    uint8_t *block = malloc(n - r->used + 1);
    assert_non_null(block);
    memcpy(block, in.p + r->used, n - r->used);
    struct hg_bytes rest = hg_bytes(block, n - r->used);
    while (!r->is_over) {
        struct hg_error err = {0};
        ssize_t rc = hg_stomp_decode(&r->dec, &limits, r->version, rest, &r->frame, &err);
        if (rc < 0) {
            hg_writer_printf(&r->out, "%s %zu: %s\n", hg_status_info(err.status)->name, err.at,
                             err.rule);
            r->is_over = true;
            assert_true(hg_stomp_decode(&r->dec, &limits, r->version, rest, &r->frame, &err) < 0);
        }
        if (rc <= 0) {
            break;
        }
        bool is_heartbeat = r->frame.command == HG_STOMP_HEARTBEAT;
        if (!is_heartbeat || !r->was_heartbeat) { /* a split run of them counts as one */
            show_frame(&r->out, &r->frame);
        }
        r->was_heartbeat = is_heartbeat;
        r->used += (size_t)rc;
        rest = hg_bytes_skip(rest, (size_t)rc);
    }
    free(block);
}

static void assert_reads(const struct wire_case *c, const size_t *ends, size_t ends_n)
{
    struct reader r = {.version = c->version};
    for (size_t i = 0; i < ends_n; i++) {
        arrive(&r, c->in, ends[i]);
    }
    arrive(&r, c->in, c->in.n);
    hg_writer_u8(&r.out, 0);
    if (strcmp((const char *)r.out.buf->data, c->out) != 0) {
        print_error("%s, split at %zu\nwant %sgot  %s", c->title, ends_n > 0 ? ends[0] : 0, c->out,
                    (const char *)r.out.buf->data);
        fail();
    }
    hg_writer_close(&r.out);
    hg_stomp_frame_close(&r.frame);
}

static void wire_cases_read_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wire_cases) / sizeof(wire_cases[0]); i++) {
        const struct wire_case *c = &wire_cases[i];
        size_t every[256];
        assert_true(c->in.n <= 256);
        for (size_t at = 0; at < c->in.n; at++) {
            assert_reads(c, &at, 1);
            every[at] = at;
        }
        assert_reads(c, every, c->in.n); /* byte by byte */
    }
    assert_int_equal(seam_live(), 0);
}

/* ---- Limits and cost ---- */

static struct hg_error refusal_of(struct hg_bytes in)
{
    struct hg_stomp_decoder dec = {0};
    struct hg_stomp_frame frame = {0};
    struct hg_error err = {0};
    if (hg_stomp_decode(&dec, &limits, V12, in, &frame, &err) >= 0) {
        err.status = HG_OK;
    }
    hg_stomp_frame_close(&frame);
    return err;
}

/* "SEND\na:xxx…" of n bytes. */
static struct hg_bytes head_of(char *room, size_t n)
{
    memset(room, 'x', n);
    memcpy(room, "SEND\na:", 7);
    return hg_bytes(room, n);
}

static void limits_hold_to_the_byte(void **state)
{
    char room[256];
    (void)state;
    struct hg_bytes head = head_of(room, 120);
    memcpy(room + 118, "\n\n", 2);
    assert_int_equal(refusal_of(head).status, HG_OK);
    head = head_of(room, 119);
    assert_int_equal(refusal_of(head).status, HG_OK);
    head = head_of(room, 120);
    assert_int_equal(refusal_of(head).status, HG_TOO_LARGE);
    memset(room, 'x', sizeof(room));
    memcpy(room, "SEND\n\n", 6);
    assert_int_equal(refusal_of(hg_bytes(room, 199)).status, HG_OK);
    assert_int_equal(refusal_of(hg_bytes(room, 200)).status, HG_TOO_LARGE);
    room[199] = '\0';
    assert_int_equal(refusal_of(hg_bytes(room, 256)).status, HG_OK);
    room[200] = '\0';
    room[199] = 'x';
    assert_int_equal(refusal_of(hg_bytes(room, 256)).status, HG_TOO_LARGE);
}

static void what_has_been_searched_is_not_searched_again(void **state)
{
    char in[] = "SEND\na:bcd\n\nhello world";
    struct hg_stomp_decoder dec = {0};
    struct hg_stomp_frame frame = {0};
    struct hg_error err;
    (void)state;
    assert_int_equal(hg_stomp_decode(&dec, &limits, V12, hg_bytes(in, 9), &frame, &err), 0);
    in[8] = '\n'; /* would end the head */
    assert_int_equal(hg_stomp_decode(&dec, &limits, V12, hg_bytes(in, 20), &frame, &err), 0);
    in[8] = 'c';
    in[15] = '\0'; /* would end the body */
    assert_int_equal(hg_stomp_decode(&dec, &limits, V12, hg_bytes(in, sizeof(in)), &frame, &err),
                     sizeof(in));
    assert_int_equal(frame.body.n, 11);
    hg_stomp_frame_close(&frame);
}

static void no_memory_is_an_error_like_any_other(void **state)
{
    struct hg_stomp_decoder dec = {0};
    struct hg_stomp_frame frame = {0};
    struct hg_error err;
    (void)state;
    seam_fail_alloc(1);
    assert_true(hg_stomp_decode(&dec, &limits, V12, HG_BYTES("SEND\n\n\0"), &frame, &err) < 0);
    assert_int_equal(err.status, HG_NO_MEMORY);
    seam_fail_alloc(0);
    assert_int_equal(seam_live(), 0);
}

/* ---- Writing ---- */

static void headers_are_written_as_the_version_can(void **state)
{
    static const struct {
        enum hg_stomp_version version;
        const char *name, *value, *out;
    } cases[] = {
        {V12, "a:b", "\r\n:\\", "a\\cb:\\r\\n\\c\\\\\n"},
        {V11, "a:b", "x\ry\n:\\", "a\\cb:x\ry\\n\\c\\\\\n"},
        {V10, "a", "b:c\\d", "a:b:c\\d\n"},
        {V10, "a", "b\nc", "a:b\\nc\n"}, /* never as a line of its own */
        {V12, "", "x", ""},
        {V12, "a", "\xff", ""}, /* headers are UTF-8 */
        {V10, "\xc3", "a", ""},
        {V12, "plain", "", "plain:\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_writer w = {0};
        hg_stomp_write_header(&w, cases[i].version, hg_bytes_str(cases[i].name),
                              hg_bytes_str(cases[i].value));
        assert_text(hg_writer_view(&w), cases[i].out);
        hg_writer_close(&w);
    }
    struct hg_writer w = {0};
    hg_stomp_write_header(&w, V12, HG_BYTES("a"), HG_BYTES("b\0c"));
    hg_stomp_write_header(&w, V12, HG_BYTES("a\0b"), HG_BYTES("c"));
    assert_int_equal(hg_writer_n(&w), 0);
}

/* Any name and value at all, but for what a version has no form for. */
static void what_is_written_reads_back(void **state)
{
    static const char alphabet[] = "ab:\\nrc\r\n\t \xc3\xa9";
    const struct hg_stomp_limits wide = {4096, 4096, 100};
    uint64_t seed = 1;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        enum hg_stomp_version version = round % 2 == 0 ? V12 : V11;
        char text[3][24];
        size_t n[3];
        for (int i = 0; i < 3; i++) {
            n[i] = unit_random_below(&seed, sizeof(text[i]));
            for (size_t k = 0; k < n[i]; k++) {
                text[i][k] = alphabet[unit_random_below(&seed, 11)];
            }
        }
        text[0][0] = 'a';
        n[0] += n[0] == 0;
        if (version == V11 && n[1] > 0 && text[1][n[1] - 1] == '\r') {
            text[1][n[1] - 1] = 'a';
        }
        struct hg_writer w = {0};
        hg_stomp_write_command(&w, HG_STOMP_MESSAGE);
        hg_stomp_write_header(&w, version, hg_bytes(text[0], n[0]), hg_bytes(text[1], n[1]));
        hg_stomp_write_body(&w, hg_bytes(text[2], n[2]));
        struct hg_stomp_decoder dec = {0};
        struct hg_stomp_frame frame = {0};
        struct hg_error err;
        assert_int_equal(hg_stomp_decode(&dec, &wide, version, hg_writer_view(&w), &frame, &err),
                         hg_writer_n(&w));
        assert_int_equal(frame.command, HG_STOMP_MESSAGE);
        assert_int_equal(frame.headers_n, 2);
        assert_bytes(frame.headers[0].name, n[0], text[0]);
        assert_bytes(frame.headers[0].value, n[1], text[1]);
        assert_bytes(frame.body, n[2], text[2]);
        hg_stomp_frame_close(&frame);
        hg_writer_close(&w);
    }
}

static void headers_are_found_by_name(void **state)
{
    struct hg_stomp_decoder dec = {0};
    struct hg_stomp_frame frame = {0};
    struct hg_error err;
    (void)state;
    assert_true(hg_stomp_decode(&dec, &limits, V12, HG_BYTES("SEND\na:1\nb:\n\n\0"), &frame, &err) >
                0);
    assert_text(hg_stomp_get(&frame, "a"), "1");
    assert_non_null(hg_stomp_find(&frame, "b"));
    assert_int_equal(hg_stomp_get(&frame, "b").n, 0);
    assert_null(hg_stomp_find(&frame, "A"));
    assert_int_equal(hg_stomp_get(&frame, "A").n, 0);
    hg_stomp_frame_close(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire_cases_read_the_same_at_every_split),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(what_has_been_searched_is_not_searched_again),
        cmocka_unit_test(no_memory_is_an_error_like_any_other),
        cmocka_unit_test(headers_are_written_as_the_version_can),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(headers_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
