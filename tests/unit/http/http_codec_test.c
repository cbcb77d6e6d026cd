/* SPDX-License-Identifier: Apache-2.0 */
/* The request decoder at every split of its input: what is a request, what is refused with which status, and what is left over. */
#include "adapters/http/http_codec.h"

#include "adapters/http/http_encode.h"
#include "adapters/http/http_uri.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

#define H       "Host: a\r\n"
#define CHUNKED "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"

static const struct hg_http_limits limits = {
    .max_url_bytes = 40, .max_header_bytes = 120, .max_headers_n = 6, .max_body_bytes = 20};

struct request_case {
    const char *in;
    unsigned refusal; /* 0: a complete request */
    const char *body; /* of a complete request */
    const char *left; /* what follows it, untouched */
};

static const struct request_case cases[] = {
    /* Bodies */
    {"GET / HTTP/1.1\r\n" H "\r\nNEXT", 0, "", "NEXT"},
    {"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 0, "", ""},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhelloNEXT", 0, "hello", "NEXT"},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\nNEXT", 0, "", "NEXT"},
    {"POST / HTTP/1.1\r\n" H "Content-Length:\t5 \r\n\r\nhello", 0, "hello", ""},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 005\r\n\r\nhello", 0, "hello", ""},
    {CHUNKED "5\r\nhello\r\n0\r\n\r\nNEXT", 0, "hello", "NEXT"},
    {CHUNKED "5\r\nhello\r\n00A\r\n 0123 567 \r\n0\r\nX: y\r\n\r\nN", 0, "hello 0123 567 ", "N"},
    {CHUNKED "5;a=\"b\";c\r\nhello\r\n0\r\n\r\n", 0, "hello", ""},
    {CHUNKED "0\r\n\r\nNEXT", 0, "", "NEXT"},
    {"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nabc", 0, "ab", "c"},
    {"GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80", 0, "",
     "\x81\x80"},
    {"POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nabN",
     0, "ab", "N"},
    /* Two ways to read one length */
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\nhello", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
     400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
     400, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 501, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", 400, 0, 0},
    {"POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400, 0, 0},
    /* Lines */
    {"GET / HTTP/1.1\n" H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "\rX", 400, 0, 0},
    {"\nGET / HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X y: a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X : a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H ": a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "X(y): a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "\x80: a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "Ab-C_9~abcdefgh:  b : c \r\n\r\n", 0, "", ""},
    {"GET / HTTP/1.1\r\n" H "abcdefgh\xe1: a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "abcdefgh{: a\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H "abcdefgh@: a\r\n\r\n", 400, 0, 0},
    /* Chunks */
    {CHUNKED "5\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5\rXhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5\r\nhello\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5\r\nhelloXX0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5 \r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED " 5\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "+5\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "-5\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "g\r\n", 400, 0, 0},
    {CHUNKED "\r\nhello", 400, 0, 0},
    {CHUNKED "5;\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5;a\nxx\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5;\nxx\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5;a\rxx\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n", 400, 0, 0},
    {CHUNKED "0\n\r\n", 400, 0, 0},
    {CHUNKED "0\r\n\n", 400, 0, 0},
    {CHUNKED "0\r\n\rN", 400, 0, 0},
    {CHUNKED "0\r\nX: y\n\r\n", 400, 0, 0},
    {CHUNKED "0\r\nX: y\r\n z\r\n\r\n", 400, 0, 0},
    {CHUNKED "FFFFFFFFFFFFFFFFF\r\n", 400, 0, 0},
    {CHUNKED "FFFFFFFFFFFFFFFF\r\n", 413, 0, 0},
    /* Request lines */
    {"GET  / HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET /  HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.1 \r\n" H "\r\n", 400, 0, 0},
    {" GET / HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET /\r\n" H "\r\n", 400, 0, 0},
    {"GET / http/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.1x\r\n" H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.2\r\n" H "\r\n", 505, 0, 0},
    {"GET / HTTP/0.9\r\n" H "\r\n", 505, 0, 0},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 0, 0},
    {"get / HTTP/1.1\r\n" H "\r\n", 501, 0, 0},
    {"BREW / HTTP/1.1\r\n" H "\r\n", 501, 0, 0},
    {"CONNECT a:80 HTTP/1.1\r\n" H "\r\n", 501, 0, 0},
    {"TRACE / HTTP/1.1\r\n" H "\r\n", 501, 0, 0},
    {"G(T / HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET a HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET * HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET /a#b HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET /a\x80 HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET /a\tb HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET http:///a HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET http:// HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET http://a@b/ HTTP/1.1\r\n" H "\r\n", 400, 0, 0},
    {"GET http://[::1]:8/ HTTP/1.1\r\n" H "\r\n", 0, "", ""},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, "", ""},
    {"\x16\x03\x01\x02\x01\x01", 400, 0, 0}, /* a TLS ClientHello */
    /* Heads */
    {"GET / HTTP/1.1\r\n\r\n", 400, 0, 0},
    {"GET / HTTP/1.1\r\n" H H "\r\n", 400, 0, 0},
    {"GET / HTTP/1.0\r\n\r\n", 0, "", ""},
    {"GET / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", 417, 0, 0},
    /* Limits */
    {"GET /234567890123456789012345678901234567890 HTTP/1.1\r\n" H "\r\n", 0, "", ""},
    {"GET /2345678901234567890123456789012345678901 HTTP/1.1\r\n" H "\r\n", 414, 0, 0},
    {"GET /234567890123456789012345678901234567890123456789012345678901234567890123456789", 414, 0,
     0},
    {"GET / HTTP/1.1\r\n" H "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n", 0, "", ""},
    {"GET / HTTP/1.1\r\n" H "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\n\r\n", 431, 0, 0},
    {"GET / HTTP/1.1\r\n" H
     "A: 1234567890123456789012345678901234567890123456789012345678901234567890"
     "12345678901234567890123456789012345678901234567890",
     431, 0, 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 20\r\n\r\n01234567890123456789", 0,
     "01234567890123456789", ""},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 21\r\n\r\n", 413, 0, 0},
    {CHUNKED "a\r\n0123456789\r\nb\r\n", 413, 0, 0},
    {CHUNKED "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 0, "01234567890123456789", ""},
    {CHUNKED
     "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     431, 0, 0},
    {CHUNKED
     "0\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     431, 0, 0},
};

/* Feeds one piece; false once the request is complete or refused. *used counts what was taken. */
static bool feed(struct hg_http_decoder *d, struct hg_bytes piece, size_t *used)
{
    struct hg_error err = {0};
    while (piece.n > 0 && d->state < HG_HTTP_STATE_DONE) {
        ssize_t n = hg_http_decode(d, piece, &err);
        if (n < 0) {
            assert_non_null(err.rule);
            return false;
        }
        assert_true((size_t)n <= piece.n);
        assert_true(n > 0);
        *used += (size_t)n;
        piece = hg_bytes_skip(piece, (size_t)n);
    }
    return d->state < HG_HTTP_STATE_DONE;
}

static void check(const struct request_case *c, size_t split, bool is_dribbled)
{
    struct hg_bytes in = hg_bytes_str(c->in);
    struct hg_http_decoder d;
    hg_http_decoder_open(&d, &limits);
    size_t used = 0;
    if (is_dribbled) {
        for (size_t i = 0; i < in.n && feed(&d, hg_bytes(in.p + i, 1), &used); i++) {
        }
    } else if (feed(&d, hg_bytes(in.p, split), &used)) {
        feed(&d, hg_bytes_skip(in, split), &used);
    }
    unsigned refusal = d.state == HG_HTTP_STATE_FAILED ? d.refusal : 0;
    if (refusal != c->refusal || (refusal == 0 && d.state != HG_HTTP_STATE_DONE)) {
        fail_msg("split %zu of %s: got %u, state %d, not %u", split, c->in, refusal, (int)d.state,
                 c->refusal);
    }
    if (refusal == 0) {
        assert_true(hg_bytes_eq(hg_http_body(&d), hg_bytes_str(c->body)));
        assert_string_equal(c->in + used, c->left);
    }
    hg_http_decoder_close(&d);
}

static void every_split_of_a_request_decodes_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t split = 0; split <= strlen(cases[i].in); split++) {
            check(&cases[i], split, false);
        }
        check(&cases[i], 0, true);
    }
}

static void a_decoder_that_failed_takes_no_more(void **state)
{
    (void)state;
    struct hg_http_decoder d;
    struct hg_error err;
    hg_http_decoder_open(&d, &limits);
    assert_int_equal(hg_http_decode(&d, HG_BYTES("GET / HTTP/1.1\n"), &err), -1);
    assert_int_equal(hg_http_decode(&d, HG_BYTES("GET / HTTP/1.1\r\n" H "\r\n"), &err), -1);
    assert_int_equal(d.refusal, 400);
    hg_http_decoder_close(&d);
}

static void the_head_is_there_before_the_body(void **state)
{
    (void)state;
    struct hg_bytes in = HG_BYTES("PUT /a/b?c=d HTTP/1.1\r\nhost:  h \r\nExpect: 100-Continue\r\n"
                                  "X: 1\r\nx: , 2,,3 \r\nContent-Length: 3\r\n\r\nabc");
    struct hg_http_decoder d;
    struct hg_error err;
    hg_http_decoder_open(&d, &limits);
    assert_int_equal(hg_http_decode(&d, in, &err), in.n - 3);
    assert_int_equal(d.state, HG_HTTP_STATE_BODY);
    const struct hg_http_head *h = &d.head;
    assert_int_equal(h->method, HG_HTTP_PUT);
    assert_true(hg_bytes_eq(h->path, HG_BYTES("/a/b")));
    assert_true(hg_bytes_eq(h->query, HG_BYTES("c=d")));
    assert_true(hg_bytes_eq(hg_http_field(h, HG_BYTES("HOST")), HG_BYTES("h")));
    assert_true(h->wants_continue);
    assert_true(h->keeps_alive);
    assert_int_equal(h->body_bytes, 3);
    assert_int_equal(h->fields_n, 5);
    assert_true(hg_http_lists(h, HG_BYTES("X"), HG_BYTES("3")));
    assert_true(hg_http_lists(h, HG_BYTES("X"), HG_BYTES("1")));
    assert_false(hg_http_lists(h, HG_BYTES("X"), HG_BYTES("")));
    assert_int_equal(hg_http_decode(&d, HG_BYTES("abcdef"), &err), 3);
    assert_true(hg_bytes_eq(hg_http_body(&d), HG_BYTES("abc")));
    hg_http_decoder_close(&d);
}

static void an_idle_decoder_holds_no_memory(void **state)
{
    (void)state;
    struct hg_http_decoder d;
    hg_http_decoder_open(&d, &limits);
    assert_null(d.parser);
    assert_null(d.raw.buf);
    hg_http_decoder_close(&d);
}

static void a_token_and_a_host_are_made_of_these_characters_only(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char text[64];
        uint8_t byte = (uint8_t)c;
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool is_token = is_alnum || strchr("!#$%&'*+-.^_`|~", c) != NULL;
        assert_int_equal(hg_http_is_token(hg_bytes(&byte, 1)), is_token);
        bool is_host = c > ' ' && c < 0x7f && strchr("/?#@\\\"<>^`{|}", c) == NULL;
        struct hg_http_decoder d;
        size_t used = 0;
        hg_http_decoder_open(&d, &limits);
        int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a%cb\r\n\r\n", c);
        feed(&d, hg_bytes(text, (size_t)n), &used);
        if ((d.state == HG_HTTP_STATE_DONE) != is_host) {
            fail_msg("byte %d in a host", c);
        }
        hg_http_decoder_close(&d);
    }
}

static void a_decoder_takes_another_request_with_the_memory_of_the_last(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /first HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nContent-Length: 5\r\n\r\nfirst",
        "POST /other HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nno",
        "POST /again HTTP/1.1\r\nHost: a\r\nAuthorization: y\r\nContent-Length: 0\r\n\r\n"};
    struct hg_http_decoder d;
    hg_http_decoder_open(&d, &limits);
    size_t allocs_n = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t used = 0;
        struct hg_bytes in = hg_bytes_str(requests[i]);
        feed(&d, in, &used);
        assert_int_equal(d.state, HG_HTTP_STATE_DONE);
        assert_int_equal(used, in.n);
        assert_true(hg_bytes_eq(d.head.path, hg_bytes(in.p + 5, 6)));
        assert_int_equal(hg_http_body(&d).n, d.head.body_bytes);
        assert_int_equal(d.head.fields_n, i == 1 ? 2 : 3);
        assert_true(i == 0 || seam_allocs() == allocs_n);
        allocs_n = seam_allocs();
        hg_http_decoder_reset(&d, 4096);
        hg_http_decoder_again(&d, &limits);
        assert_int_equal(d.state, HG_HTTP_STATE_HEAD);
    }
    hg_http_decoder_reset(&d, 16); /* its buffers are larger */
    assert_null(d.raw.buf);
    assert_null(d.body.buf);
    hg_http_decoder_close(&d);
    assert_int_equal(seam_live(), 0);
}

/* Wherever it stands: bytes are looked at in eights. */
static void every_control_character_but_the_tab_is_refused(void **state)
{
    (void)state;
    static const char head[] = "GET / HTTP/1.1\r\n" H "X: 0123456789abcdefghijklmnop\r\n\r\n";
    enum { VALUE_AT = sizeof("GET / HTTP/1.1\r\n" H "X: ") - 1, VALUE_N = 26 };
    for (size_t at = 0; at < VALUE_N; at++) {
        for (unsigned c = 0; c < 256; c++) {
            uint8_t in[sizeof(head) - 1];
            struct hg_http_decoder d;
            size_t used = 0;
            memcpy(in, head, sizeof(in));
            in[VALUE_AT + at] = (uint8_t)c;
            hg_http_decoder_open(&d, &limits);
            feed(&d, hg_bytes(in, sizeof(in)), &used);
            bool is_control = (c < 0x20 && c != '\t') || c == 0x7f;
            assert_int_equal(d.state, is_control ? HG_HTTP_STATE_FAILED : HG_HTTP_STATE_DONE);
            hg_http_decoder_close(&d);
        }
    }
}

static void no_memory_is_answered_503(void **state)
{
    (void)state;
    size_t refused_n = 0;
    for (size_t nth = 1; nth < 100; nth++) {
        struct hg_http_decoder d;
        size_t used = 0;
        hg_http_decoder_open(&d, &limits);
        seam_fail_alloc(nth);
        feed(&d, HG_BYTES(CHUNKED "5\r\nhello\r\n0\r\n\r\n"), &used);
        bool was_hit = seam_allocs() >= nth;
        seam_fail_alloc(0);
        if (was_hit) {
            assert_int_equal(d.state, HG_HTTP_STATE_FAILED);
            assert_int_equal(d.refusal, 503);
            refused_n++;
        }
        hg_http_decoder_close(&d);
        assert_int_equal(seam_live(), 0);
    }
    assert_true(refused_n >= 3); /* head, parser, body */
}

static void keep_alive_follows_version_and_connection(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool keeps_alive;
    } table[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: x, Close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n" H "\r\n", false},
        {"GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_http_decoder d;
        struct hg_error err;
        hg_http_decoder_open(&d, &limits);
        assert_true(hg_http_decode(&d, hg_bytes_str(table[i].in), &err) > 0);
        assert_int_equal(d.head.keeps_alive, table[i].keeps_alive);
        hg_http_decoder_close(&d);
    }
}

static void an_absolute_target_is_its_path(void **state)
{
    (void)state;
    static const struct {
        const char *in, *path, *query;
    } table[] = {
        {"GET http://h:1/a?b HTTP/1.1\r\n" H "\r\n", "/a", "b"},
        {"GET HTTPS://h HTTP/1.1\r\n" H "\r\n", "/", ""},
        {"GET http://h?b/c HTTP/1.1\r\n" H "\r\n", "/", "b/c"},
        {"GET /?a?b HTTP/1.1\r\n" H "\r\n", "/", "a?b"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_http_decoder d;
        struct hg_error err;
        hg_http_decoder_open(&d, &limits);
        assert_true(hg_http_decode(&d, hg_bytes_str(table[i].in), &err) > 0);
        assert_true(hg_bytes_eq(d.head.path, hg_bytes_str(table[i].path)));
        assert_true(hg_bytes_eq(d.head.query, hg_bytes_str(table[i].query)));
        hg_http_decoder_close(&d);
    }
}

static void a_path_decodes_level_by_level(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out; /* NULL: refused */
    } table[] = {
        {"a/b", "a/b"},       {"a%20b%c3%A9", "a b\xc3\xa9"},
        {"a+b", "a+b"},       {"%2e%2E", ".."},
        {"a%252Fb", "a%2Fb"}, {"", ""},
        {"a%2Fb", NULL},      {"a%2fb", NULL},
        {"%00", NULL},        {"%", NULL},
        {"%4", NULL},         {"%zz", NULL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct hg_writer w = {0};
        const char *why = hg_http_decode_path(hg_bytes_str(table[i].in), &w);
        assert_int_equal(why == NULL, table[i].out != NULL);
        if (why == NULL) {
            assert_true(hg_bytes_eq(hg_writer_view(&w), hg_bytes_str(table[i].out)));
        }
        hg_writer_close(&w);
    }
}

static void a_query_gives_its_parameters_in_order(void **state)
{
    (void)state;
    struct hg_bytes query = HG_BYTES("a=1&&b=x+y%2Fz&c&d=%");
    static const char *const want[][2] = {{"a", "1"}, {"b", "x y/z"}, {"c", ""}, {"d", NULL}};
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why;
    for (size_t i = 0; i < 4; i++) {
        assert_true(hg_http_next_parameter(&query, &name, &value, &why));
        assert_true(hg_bytes_eq(hg_writer_view(&name), hg_bytes_str(want[i][0])));
        assert_int_equal(why == NULL, want[i][1] != NULL);
        if (why == NULL) {
            assert_true(hg_bytes_eq(hg_writer_view(&value), hg_bytes_str(want[i][1])));
        }
    }
    assert_false(hg_http_next_parameter(&query, &name, &value, &why));
    hg_writer_close(&name);
    hg_writer_close(&value);
}

static void a_value_cannot_write_a_header_of_its_own(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    struct hg_http_date date = {0};
    hg_http_write_status(&w, 404, hg_http_date(&date, 784111777000u));
    hg_http_write_field(&w, "X", HG_BYTES("a\r\nY: b"));
    assert_true(
        hg_bytes_eq(hg_writer_view(&w),
                    HG_BYTES("HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                             "X: a  Y: b\r\n")));
    hg_writer_reset(&w);
    hg_http_write_problem(&w, 404, HG_BYTES("no \"x\""), "NO_RULE");
    assert_true(
        hg_bytes_eq(hg_writer_view(&w),
                    HG_BYTES("{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,"
                             "\"detail\":\"no \\\"x\\\"\",\"code\":\"NO_RULE\"}\n")));
    hg_writer_close(&w);
}

static void a_head_leaves_nothing_behind(void **state)
{
    (void)state;
    static const char in[] = "GET / HTTP/1.1\r\n" H "Authorization: Bearer open.sesame\r\n\r\n";
    seam_watch("open.sesame");
    for (size_t split = 0; split < sizeof(in); split++) {
        struct hg_http_decoder d = {.limits = NULL};
        struct hg_error err;
        hg_http_decoder_open(&d, &limits);
        assert_int_equal(hg_http_decode(&d, hg_bytes(in, split), &err), split);
        (void)hg_http_decode(&d, hg_bytes(in + split, sizeof(in) - 1 - split), &err);
        hg_http_decoder_close(&d);
        assert_int_equal(seam_left_behind(), 0);
    }
    seam_watch(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_a_request_decodes_alike),
        cmocka_unit_test(a_decoder_that_failed_takes_no_more),
        cmocka_unit_test(the_head_is_there_before_the_body),
        cmocka_unit_test(an_idle_decoder_holds_no_memory),
        cmocka_unit_test(every_control_character_but_the_tab_is_refused),
        cmocka_unit_test(no_memory_is_answered_503),
        cmocka_unit_test(a_token_and_a_host_are_made_of_these_characters_only),
        cmocka_unit_test(a_decoder_takes_another_request_with_the_memory_of_the_last),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(an_absolute_target_is_its_path),
        cmocka_unit_test(a_path_decodes_level_by_level),
        cmocka_unit_test(a_query_gives_its_parameters_in_order),
        cmocka_unit_test(a_value_cannot_write_a_header_of_its_own),
        cmocka_unit_test(a_head_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
