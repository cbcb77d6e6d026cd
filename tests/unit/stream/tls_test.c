/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS stream over one without a socket, against OpenSSL's own client, at every split point. */
#include "stream/tls.h"

#include "base/check.h"
#include "fake_stream.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, RECORD_HEADER = 5 };

/* ---- A certificate of our own, made once ---- */

struct files {
    char cert[64], key[64];
};

static void write_pem(char path[64], EVP_PKEY *key, X509 *cert)
{
    strcpy(path, "/tmp/headgate-tls-test-XXXXXX");
    FILE *f = fdopen(mkstemp(path), "w");
    assert_non_null(f);
    assert_int_equal(cert != NULL ? PEM_write_X509(f, cert)
                                  : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL),
                     1);
    fclose(f);
}

static int make_files(void **state)
{
    static struct files files;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"gateway", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(files.cert, key, cert);
    write_pem(files.key, key, NULL);
    X509_free(cert);
    EVP_PKEY_free(key);
    *state = &files;
    return 0;
}

static int remove_files(void **state)
{
    const struct files *files = *state;
    unlink(files->cert);
    unlink(files->key);
    return 0;
}

/* ---- A TLS stream on a fake one, its client, and what its user saw ---- */

struct bench {
    uv_loop_t loop;
    uv_async_t alive; /* a loop without handles does not turn */
    struct hg_wheel wheel;
    struct hg_net net;
    struct fake_stream lower;
    struct hg_tls_certificate certificate;
    struct hg_tls_spec spec;
    struct hg_tls_context *context;
    struct hg_stream *tls; /* NULL: no memory */
    struct hg_writer seen;
    unsigned reads_n, drained_n, closed_n;
    enum hg_status why;
    char broken_rule[160];
    SSL_CTX *client_context;
    SSL *client;
    BIO *to_client, *from_client;
};

static void on_read(void *ctx, struct hg_bytes in)
{
    struct bench *b = ctx;
    hg_writer_bytes(&b->seen, in);
    b->reads_n++;
}

static void on_open(void *ctx)
{
    (void)ctx;
    fail_msg("an accepted stream is open from the start");
}

static void on_drained(void *ctx)
{
    ((struct bench *)ctx)->drained_n++;
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct bench *b = ctx;
    b->closed_n++;
    b->why = why;
}

static void on_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct bench *b = ctx;
    assert_int_equal(why, HG_PROTOCOL_ERROR);
    snprintf(b->broken_rule, sizeof(b->broken_rule), "%s", rule);
}

static const struct hg_stream_user user = {on_read,   on_open,   on_drained,
                                           on_closed, on_broken, NULL};

static void bench_open(struct bench *b, void **state, int version)
{
    const struct files *files = *state;
    struct hg_writer problem = {0};
    memset(b, 0, sizeof(*b));
    uv_loop_init(&b->loop);
    uv_async_init(&b->loop, &b->alive, NULL);
    hg_wheel_open(&b->wheel, seam_now_ms);
    assert_true(hg_net_open(&b->net, &b->loop, &b->wheel, NULL));
    fake_stream_open(&b->lower);
    b->certificate = (struct hg_tls_certificate){files->cert, files->key};
    b->spec = (struct hg_tls_spec){.certificates = &b->certificate, .certificates_n = 1};
    b->context = hg_tls_context_server(&b->spec, &problem);
    assert_non_null(b->context);
    b->client_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(b->client_context, version);
    SSL_CTX_set_max_proto_version(b->client_context, version);
    b->client = SSL_new(b->client_context);
    b->to_client = BIO_new(BIO_s_mem());
    b->from_client = BIO_new(BIO_s_mem());
    SSL_set_bio(b->client, b->to_client, b->from_client);
    SSL_set_connect_state(b->client);
}

static void accept_now(struct bench *b)
{
    b->tls = hg_tls_accept(&b->net, &b->lower.stream, b->context, TIMEOUT_MS, &user, b);
    if (b->tls != NULL) {
        b->tls->ops->read_start(b->tls);
    }
}

static void turn(struct bench *b)
{
    (void)hg_net_turn(&b->net, false);
}

static void bench_close(struct bench *b)
{
    if (b->tls != NULL && b->closed_n == 0 && !b->lower.is_finished && !b->lower.is_closed) {
        b->tls->ops->close(b->tls, HG_CLOSED);
    }
    fake_stream_run(&b->lower);
    assert_int_equal(b->closed_n, b->tls != NULL);
    SSL_free(b->client);
    SSL_CTX_free(b->client_context);
    uv_close((uv_handle_t *)&b->alive, NULL);
    hg_net_close(&b->net);
    hg_net_run(&b->net);
    hg_net_free(&b->net);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    hg_tls_context_free(b->context);
    fake_stream_close(&b->lower);
    hg_writer_close(&b->seen);
    assert_int_equal(seam_live(), 0);
}

/* The client's bytes to the stream, `split` at a time, and back, until neither has more. */
static void pump(struct bench *b, size_t split)
{
    uint8_t bytes[4096];
    for (int rounds = 0; rounds < 20; rounds++) {
        SSL_do_handshake(b->client);
        int n;
        while ((n = BIO_read(b->from_client, bytes,
                             (int)(split < sizeof(bytes) ? split : sizeof(bytes)))) > 0) {
            fake_stream_push(&b->lower, hg_bytes(bytes, (size_t)n));
        }
        turn(b);
        struct hg_bytes out = hg_writer_view(&b->lower.written);
        if (out.n == 0) {
            return;
        }
        BIO_write(b->to_client, out.p, (int)out.n);
        fake_stream_forget(&b->lower);
    }
}

static void assert_client_reads(struct bench *b, const char *text)
{
    char got[64] = "";
    size_t n = 0;
    int more;
    while (n < sizeof(got) && (more = SSL_read(b->client, got + n, (int)(sizeof(got) - n))) > 0) {
        n += (size_t)more;
    }
    assert_text(hg_bytes(got, n), text);
}

static void write_text(struct bench *b, const char *text)
{
    const struct hg_part part = {NULL, hg_bytes_str(text)};
    assert_int_equal(b->tls->ops->write(b->tls, HG_FRAME_BINARY, &part, 1), HG_OK);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* ---- Tests ---- */

static void bytes_pass_both_ways_at_every_split(void **state)
{
    static const size_t splits[] = {1, 2, 3, 5, 7, 16, 64, 100, 517, 4096};
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
            struct bench b;
            bench_open(&b, state, versions[v]);
            accept_now(&b);
            write_text(&b, "before the handshake");
            pump(&b, splits[i]);
            assert_true(SSL_is_init_finished(b.client));
            assert_int_equal(SSL_write(b.client, "hello", 5), 5);
            assert_int_equal(SSL_write(b.client, " there", 6), 6);
            pump(&b, splits[i]);
            assert_text(hg_writer_view(&b.seen), "hello there");
            assert_client_reads(&b, "before the handshake");
            assert_int_equal(b.net.counters.tls_handshakes, 1);
            assert_int_equal(b.net.tls_shaking_n, 0);
            bench_close(&b);
        }
    }
}

static void one_read_is_handed_up_at_once(void **state)
{
    struct bench b;
    uint8_t bytes[1024];
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    pump(&b, 4096);
    for (int i = 0; i < 10; i++) {
        SSL_write(b.client, "record", 6);
    }
    int n = BIO_read(b.from_client, bytes, sizeof(bytes));
    fake_stream_push(&b.lower, hg_bytes(bytes, (size_t)n));
    assert_int_equal(b.reads_n, 1);
    assert_int_equal(hg_writer_n(&b.seen), 60);
    bench_close(&b);
}

static void what_a_turn_writes_shares_records(void **state)
{
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    pump(&b, 4096);
    for (int i = 0; i < 50; i++) {
        write_text(&b, "x");
    }
    assert_int_equal(b.tls->ops->pending(b.tls), 50);
    turn(&b);
    struct hg_bytes out = hg_writer_view(&b.lower.written);
    assert_int_equal((out.p[3] << 8 | out.p[4]) + RECORD_HEADER, out.n);
    BIO_write(b.to_client, out.p, (int)out.n);
    assert_client_reads(&b, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    bench_close(&b);
}

/* Half of it waits here until the lower stream has drained. */
static void a_slow_peer_holds_back_what_is_not_encrypted(void **state)
{
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    b.net.limits = (struct hg_stream_limits){.low_bytes = 100, .high_bytes = 1000};
    accept_now(&b);
    pump(&b, 4096);
    b.lower.pending = 1001;
    write_text(&b, "not yet");
    turn(&b);
    assert_int_equal(hg_writer_n(&b.lower.written), 0);
    assert_int_equal(b.drained_n, 0);
    b.lower.pending = 0;
    b.lower.stream.user->on_drained(b.lower.stream.user_ctx);
    assert_true(hg_writer_n(&b.lower.written) > 7);
    assert_int_equal(b.drained_n, 1);
    bench_close(&b);
}

/* Though it was never over the high watermark. */
static void who_asks_is_told_when_the_lower_stream_has_drained_too(void **state)
{
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    b.net.limits = (struct hg_stream_limits){.low_bytes = 100, .high_bytes = 1000};
    accept_now(&b);
    pump(&b, 4096);
    write_text(&b, "some");
    b.tls->ops->await_drained(b.tls);
    assert_int_equal(b.lower.awaits_n, 1);
    b.lower.has_moved = true;
    assert_true(b.tls->ops->has_moved(b.tls));
    assert_false(b.tls->ops->has_moved(b.tls));
    turn(&b);
    b.lower.pending = 101;
    b.lower.stream.user->on_drained(b.lower.stream.user_ctx);
    assert_int_equal(b.drained_n, 0);
    assert_int_equal(b.lower.awaits_n, 2);
    b.lower.pending = 100;
    b.lower.stream.user->on_drained(b.lower.stream.user_ctx);
    assert_int_equal(b.drained_n, 1);
    b.lower.stream.user->on_drained(b.lower.stream.user_ctx);
    assert_int_equal(b.drained_n, 1);
    bench_close(&b);
}

static void finish_says_close_notify_behind_the_last_bytes(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct bench b;
        bench_open(&b, state, versions[v]);
        accept_now(&b);
        pump(&b, 4096);
        write_text(&b, "bye");
        b.tls->ops->finish(b.tls, HG_SHUTTING_DOWN);
        assert_true(b.lower.is_finished);
        struct hg_bytes out = hg_writer_view(&b.lower.written);
        BIO_write(b.to_client, out.p, (int)out.n);
        assert_client_reads(&b, "bye");
        assert_true((SSL_get_shutdown(b.client) & SSL_RECEIVED_SHUTDOWN) != 0);
        bench_close(&b);
        assert_int_equal(b.why, HG_SHUTTING_DOWN);
    }
}

static void close_notify_of_the_peer_ends_it(void **state)
{
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    pump(&b, 4096);
    SSL_shutdown(b.client);
    pump(&b, 4096);
    assert_true(b.lower.is_finished);
    bench_close(&b);
    assert_int_equal(b.why, HG_CLOSED);
    assert_string_equal(b.broken_rule, "");
}

static void what_is_no_tls_is_refused(void **state)
{
    static const struct {
        const char *in, *rule;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", "TLS: http request"},
        {"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "TLS: "},
        {"CONNECT\n\n", "TLS: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        bench_open(&b, state, TLS1_3_VERSION);
        accept_now(&b);
        fake_stream_push(&b.lower, hg_bytes(cases[i].in, i == 1 ? 14 : strlen(cases[i].in)));
        assert_true(b.lower.is_finished);
        assert_int_equal(strncmp(b.broken_rule, cases[i].rule, strlen(cases[i].rule)), 0);
        assert_int_equal(b.net.counters.tls_failures, 1);
        bench_close(&b);
    }
}

static void a_broken_record_is_refused(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    pump(&b, 4096);
    SSL_write(b.client, "hello", 5);
    int n = BIO_read(b.from_client, bytes, sizeof(bytes));
    bytes[n - 1] ^= 1;
    fake_stream_push(&b.lower, hg_bytes(bytes, (size_t)n));
    assert_int_equal(hg_writer_n(&b.seen), 0);
    assert_string_equal(b.broken_rule, "TLS: decryption failed or bad record mac");
    bench_close(&b);
}

static void a_handshake_has_a_time_limit(void **state)
{
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    assert_int_equal(b.net.tls_shaking_n, 1);
    seam_now_ms += TIMEOUT_MS + HG_WHEEL_TICK_MS;
    hg_wheel_advance(&b.wheel, seam_now_ms);
    assert_true(b.lower.is_closed);
    assert_int_equal(b.lower.why, HG_TIMED_OUT);
    bench_close(&b);
}

static void no_memory_closes_the_connection(void **state)
{
    for (size_t n = 1; n <= 3; n++) {
        struct bench b;
        bench_open(&b, state, TLS1_3_VERSION);
        seam_fail_alloc(n);
        accept_now(&b);
        seam_fail_alloc(0);
        assert_null(b.tls);
        assert_true(b.lower.is_closed);
        assert_int_equal(b.net.tls_shaking_n, 0);
        bench_close(&b);
    }
    struct bench b;
    bench_open(&b, state, TLS1_3_VERSION);
    accept_now(&b);
    pump(&b, 4096);
    b.lower.fails_writes = true;
    write_text(&b, "a record with a hole");
    turn(&b);
    assert_true(b.lower.is_closed);
    assert_int_equal(b.lower.why, HG_NO_MEMORY);
    bench_close(&b);
}

static void files_that_are_not_good_are_named_and_change_nothing(void **state)
{
    struct bench b;
    struct hg_writer problem = {0};
    bench_open(&b, state, TLS1_3_VERSION);
    b.certificate.cert = "/nowhere.pem";
    assert_false(hg_tls_context_reload(b.context, &problem));
    assert_text(hg_writer_view(&problem), "\"/nowhere.pem\": No such file or directory");
    hg_writer_close(&problem);
    accept_now(&b);
    pump(&b, 4096);
    assert_true(SSL_is_init_finished(b.client));
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_both_ways_at_every_split),
        cmocka_unit_test(one_read_is_handed_up_at_once),
        cmocka_unit_test(what_a_turn_writes_shares_records),
        cmocka_unit_test(a_slow_peer_holds_back_what_is_not_encrypted),
        cmocka_unit_test(who_asks_is_told_when_the_lower_stream_has_drained_too),
        cmocka_unit_test(finish_says_close_notify_behind_the_last_bytes),
        cmocka_unit_test(close_notify_of_the_peer_ends_it),
        cmocka_unit_test(what_is_no_tls_is_refused),
        cmocka_unit_test(a_broken_record_is_refused),
        cmocka_unit_test(a_handshake_has_a_time_limit),
        cmocka_unit_test(no_memory_closes_the_connection),
        cmocka_unit_test(files_that_are_not_good_are_named_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
