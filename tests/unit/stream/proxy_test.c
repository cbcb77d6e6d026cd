/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers of both versions at every split: whose connection it is, and what is none; and the stream behind one. */
#include "stream/proxy.h"

#include "fake_stream.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#define V2         "0d0a0d0a 000d0a51 5549540a "
#define IP4        "c0000207 c6336401 04d2 0050 " /* 192.0.2.7:1234 to 198.51.100.1:80 */
#define IP6        "20010db8000000000000000000000001 00000000000000000000000000000001 04d2 0050 "
#define TEXT       "PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n"
#define ADDRESS_39 "1111:1111:1111:1111:1111:1111:1111:1111"

struct header_case {
    const char *in;   /* text; or bytes as hex, if it begins with a digit */
    const char *peer; /* NULL: refused */
    size_t left_n;    /* bytes behind it */
};

static const struct header_case cases[] = {
    {TEXT, "192.0.2.7:1234", 0},
    {TEXT "GET /", "192.0.2.7:1234", 5},
    {"PROXY TCP6 2001:db8::1 ::1 65535 0\r\nx", "[2001:db8::1]:65535", 1},
    {"PROXY TCP6 2001:DB8:0::1 ::1 1 2\r\n", "[2001:db8::1]:1", 0},
    {"PROXY TCP6 " ADDRESS_39 " " ADDRESS_39 " 65535 65535\r\n", "[" ADDRESS_39 "]:65535", 0},
    {"PROXY UNKNOWN\r\nx", "", 1},
    {"PROXY UNKNOWN ::1 ::1 1 2\r\n", "", 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\n\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\rx", NULL, 0},
    {"PROXY TCP4  192.0.2.7 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80 \r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80 9\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 1234\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 01 80\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.7 198.51.100.1 -1 80\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY TCP4 192.0.2.256 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY TCP4 ::1 ::1 1234 80\r\n", NULL, 0},
    {"PROXY TCP6 192.0.2.7 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY UDP4 192.0.2.7 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY \r\n", NULL, 0},
    {"PROXY\r\n", NULL, 0},
    {"proxy TCP4 192.0.2.7 198.51.100.1 1234 80\r\n", NULL, 0},
    {"PROXY UNKNOWN 01234567890123456789012345678901234567890123456789012345678901234567890123456789"
     "0123456789012\r\n",
     NULL, 0},
    {"GET / HTTP/1.1\r\n\r\n", NULL, 0},
    {"CONNECT\n", NULL, 0},
    {V2 "21 11 000c " IP4, "192.0.2.7:1234", 0},
    {V2 "21 11 000c " IP4 "1020", "192.0.2.7:1234", 2},
    {V2 "21 11 0010 " IP4 "04 0001 00"
        "10",
     "192.0.2.7:1234", 1}, /* a TLV is passed over */
    {V2 "21 21 0024 " IP6 "10", "[2001:db8::1]:1234", 1},
    {V2 "20 00 0000 10", "", 1}, /* LOCAL: the proxy looks whether we live */
    {V2 "20 11 000c " IP4 "10", "", 1},
    {V2 "21 00 0003 aabbcc 10", "", 1}, /* UNSPEC */
    {V2 "21 12 000c " IP4 "10", "", 1}, /* datagrams */
    {V2 "21 31 0002 aabb 10", "", 1},   /* a UNIX socket */
    {V2 "21 11 000b " IP4, NULL, 0},
    {V2 "21 21 000c " IP4, NULL, 0},
    {V2 "22 11 000c " IP4, NULL, 0},
    {V2 "11 11 000c " IP4, NULL, 0},
    {V2 "21 41 000c " IP4, NULL, 0},
    {V2 "21 13 000c " IP4, NULL, 0},
    {"0d0a0d0a 000d0a51 5549540d 21 11 000c " IP4, NULL, 0},
    {"16030102 00", NULL, 0}, /* TLS */
    {"1010 0004", NULL, 0},   /* MQTT */
};

/* Feeds one piece; false once it is over. */
static bool feed(struct hg_proxy_decoder *d, struct hg_bytes piece, size_t *used, bool *is_refused)
{
    struct hg_error err = {0};
    ssize_t n = hg_proxy_decode(d, piece, &err);
    *is_refused = n < 0;
    if (n < 0) {
        assert_non_null(err.rule);
        return false;
    }
    *used += (size_t)n;
    assert_true(d->is_done || (size_t)n == piece.n);
    return !d->is_done;
}

static void check(const struct header_case *c, struct hg_bytes in, size_t split, bool is_dribbled)
{
    struct hg_proxy_decoder d = {.n = 0};
    size_t used = 0;
    bool is_refused = false;
    if (is_dribbled) {
        for (size_t i = 0; i < in.n && feed(&d, hg_bytes(in.p + i, 1), &used, &is_refused); i++) {
        }
    } else if (feed(&d, hg_bytes(in.p, split), &used, &is_refused)) {
        feed(&d, hg_bytes_skip(in, split), &used, &is_refused);
    }
    if (is_refused != (c->peer == NULL)) {
        fail_msg("split %zu of %s: %s", split, c->in, is_refused ? "refused" : "taken");
    }
    if (c->peer != NULL) {
        assert_true(d.is_done);
        assert_string_equal(d.peer, c->peer);
        assert_int_equal(in.n - used, c->left_n);
    }
}

static void every_split_of_a_header_decodes_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hg_writer hex = {0};
        struct hg_bytes in = hg_bytes_str(cases[i].in);
        if (cases[i].in[0] >= '0' && cases[i].in[0] <= '9') {
            hex_read(&hex, cases[i].in);
            in = hg_writer_view(&hex);
        }
        for (size_t split = 0; split <= in.n; split++) {
            check(&cases[i], in, split, false);
        }
        check(&cases[i], in, 0, true);
        hg_writer_close(&hex);
    }
}

/* ---- The stream ---- */

struct listener {
    struct hg_writer in;
    const char *rule;
    struct hg_stream *leaves; /* when it hears whose connection it is */
    unsigned peers_n;
    bool is_closed;
    enum hg_status why;
};

static void on_read(void *ctx, struct hg_bytes in)
{
    struct listener *l = ctx;
    hg_writer_bytes(&l->in, in);
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct listener *l = ctx;
    l->is_closed = true;
    l->why = why;
}

static void on_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct listener *l = ctx;
    assert_int_equal(why, HG_MALFORMED);
    l->rule = rule;
}

static void on_peer(void *ctx)
{
    struct listener *l = ctx;
    assert_int_equal(hg_writer_n(&l->in), 0); /* before all input */
    l->peers_n++;
    if (l->leaves != NULL) {
        l->leaves->ops->close(l->leaves, HG_TOO_MANY);
    }
}

static const struct hg_stream_user user = {
    .on_read = on_read, .on_closed = on_closed, .on_broken = on_broken, .on_peer = on_peer};

static void a_stream_begins_behind_the_header(void **state)
{
    (void)state;
    struct fake_stream lower;
    struct listener l = {.rule = NULL};
    fake_stream_open(&lower);
    struct hg_stream *s = hg_proxy_accept(&lower.stream);
    hg_stream_set_user(s, &user, &l);
    s->ops->read_start(s);
    fake_stream_push(&lower, HG_BYTES("PROXY TCP4 192.0.2.7 198.51."));
    assert_int_equal(hg_writer_n(&l.in), 0);
    fake_stream_push(&lower, HG_BYTES("100.1 1234 80\r\nhe"));
    fake_stream_push(&lower, HG_BYTES("llo"));
    assert_text(hg_writer_view(&l.in), "hello");
    assert_int_equal(l.peers_n, 1);
    assert_string_equal(s->ops->peer(s), "192.0.2.7:1234");
    struct hg_part part = {.bytes = HG_BYTES("answer")};
    assert_int_equal(s->ops->write(s, HG_FRAME_BINARY, &part, 1), HG_OK);
    assert_text(hg_writer_view(&lower.written), "answer");
    s->ops->await_drained(s);
    assert_int_equal(lower.awaits_n, 1);
    lower.has_moved = true;
    assert_true(s->ops->has_moved(s));
    assert_false(s->ops->has_moved(s));
    fake_stream_hang_up(&lower, HG_PEER_LOST);
    assert_true(l.is_closed && l.why == HG_PEER_LOST);
    hg_writer_close(&l.in);
    fake_stream_close(&lower);
    assert_int_equal(seam_live(), 0);
}

static void who_may_not_come_from_there_is_not_heard(void **state)
{
    (void)state;
    struct fake_stream lower;
    fake_stream_open(&lower);
    struct hg_stream *s = hg_proxy_accept(&lower.stream);
    struct listener l = {.leaves = s};
    hg_stream_set_user(s, &user, &l);
    s->ops->read_start(s);
    fake_stream_push(&lower, HG_BYTES(TEXT "hello"));
    fake_stream_run(&lower);
    assert_int_equal(l.peers_n, 1);
    assert_int_equal(hg_writer_n(&l.in), 0);
    assert_true(l.is_closed && l.why == HG_TOO_MANY);
    fake_stream_close(&lower);
    assert_int_equal(seam_live(), 0);
}

static void what_begins_otherwise_is_closed(void **state)
{
    (void)state;
    struct fake_stream lower;
    struct listener l = {.rule = NULL};
    fake_stream_open(&lower);
    struct hg_stream *s = hg_proxy_accept(&lower.stream);
    hg_stream_set_user(s, &user, &l);
    s->ops->read_start(s);
    fake_stream_push(&lower, HG_BYTES("GET / HTTP/1.1\r\n\r\n"));
    assert_string_equal(l.rule, "the connection does not begin with a PROXY header");
    assert_true(lower.is_closed);
    fake_stream_run(&lower);
    assert_true(l.is_closed && l.why == HG_MALFORMED);
    assert_int_equal(hg_writer_n(&l.in), 0);
    fake_stream_close(&lower);
    assert_int_equal(seam_live(), 0);
}

static void without_memory_the_connection_is_closed(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 2; nth++) {
        struct fake_stream lower;
        fake_stream_open(&lower);
        seam_fail_alloc(nth);
        assert_null(hg_proxy_accept(&lower.stream));
        seam_fail_alloc(0);
        assert_true(lower.is_closed && lower.why == HG_NO_MEMORY);
        fake_stream_close(&lower);
        assert_int_equal(seam_live(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_a_header_decodes_alike),
        cmocka_unit_test(a_stream_begins_behind_the_header),
        cmocka_unit_test(who_may_not_come_from_there_is_not_heard),
        cmocka_unit_test(what_begins_otherwise_is_closed),
        cmocka_unit_test(without_memory_the_connection_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
