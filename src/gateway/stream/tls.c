/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS connection. OpenSSL is given the input of one read at a time and takes all of it; what it
 * wants to send goes into the lower stream's output at once, so that neither side needs memory of
 * its own between records. */
#include "stream/tls.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/outq.h"
#include "stream/tls_certificate.h"
#include "stream/tls_context_priv.h"

#include <openssl/err.h>

#include <arpa/inet.h>
#include <stdio.h>

enum {
    TLS_MAGIC = 0x746c7331,
    RECORD_BYTES = 16 * 1024, /* the most that one record carries */
    SLICES_MAX = 64,
    /* One read's plaintext: with it a record that had come in part before may end. */
    PLAIN_BYTES = HG_NET_READ_BYTES + 2 * RECORD_BYTES,
};

enum tls_state {
    TLS_CONNECTING, /* a client's lower stream is not open yet */
    TLS_SHAKING,    /* hands */
    TLS_OPEN,
    TLS_ENDING /* the lower stream has been told to finish or close */
};

struct shaking { /* what only a beginning connection needs */
    struct hg_tls *tls;
    struct hg_timer timer;
};

struct hg_tls {
    struct hg_stream stream;
    uint32_t magic;
    uint8_t state; /* enum tls_state */
    bool is_client, is_over_high, is_awaited;
    struct hg_net *net;
    struct hg_stream *lower;
    SSL *ssl;
    struct hg_tls_files *files;
    struct hg_bytes in; /* of this read, what OpenSSL has not taken yet */
    struct hg_outq out; /* not encrypted yet */
    struct hg_defer encrypt;
    struct shaking *shaking; /* NULL once the handshake is over */
};

static struct hg_tls *of_stream(const struct hg_stream *s)
{
    struct hg_tls *t = HG_CONTAINER_OF(s, struct hg_tls, stream);
    HG_CHECK(t->magic == TLS_MAGIC);
    return t;
}

static struct hg_tls *of_ctx(void *ctx)
{
    struct hg_tls *t = ctx;
    HG_CHECK(t != NULL && t->magic == TLS_MAGIC);
    return t;
}

/* ---- What OpenSSL reads and writes ---- */

static int bio_read(BIO *bio, char *out, int n)
{
    struct hg_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->in.n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = t->in.n < (size_t)n ? t->in.n : (size_t)n;
    memcpy(out, t->in.p, taken);
    t->in = hg_bytes_skip(t->in, taken);
    return (int)taken;
}

static int bio_write(BIO *bio, const char *in, int n)
{
    struct hg_tls *t = BIO_get_data(bio);
    const struct hg_part part = {NULL, hg_bytes(in, (size_t)n)};
    BIO_clear_retry_flags(bio);
    return t->lower->ops->write(t->lower, HG_FRAME_BINARY, &part, 1) == HG_OK ? n : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* What all TLS streams of a worker share, with its first one. */
static bool open_shared(struct hg_net *net)
{
    if (net->tls_buf == NULL) {
        net->tls_buf = hg_alloc(PLAIN_BYTES);
    }
    if (net->tls_method == NULL) {
        net->tls_method =
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "headgate stream");
        if (net->tls_method != NULL) {
            BIO_meth_set_read(net->tls_method, bio_read);
            BIO_meth_set_write(net->tls_method, bio_write);
            BIO_meth_set_ctrl(net->tls_method, bio_ctrl);
        }
    }
    return net->tls_buf != NULL && net->tls_method != NULL;
}

void hg_tls_close(struct hg_net *net)
{
    hg_free(net->tls_buf);
    BIO_meth_free(net->tls_method);
    net->tls_buf = NULL;
    net->tls_method = NULL;
}

/* ---- The end ---- */

static void stop_shaking(struct hg_tls *t)
{
    if (t->shaking != NULL) {
        hg_timer_stop(&t->shaking->timer);
        hg_free(t->shaking);
        t->shaking = NULL;
        t->net->tls_shaking_n--;
    }
}

static void tls_free(struct hg_tls *t)
{
    stop_shaking(t);
    hg_net_undefer(&t->encrypt);
    hg_outq_close(&t->out);
    SSL_free(t->ssl);
    hg_tls_files_unref(t->files);
    t->magic = 0;
    hg_free(t);
}

static void close_lower(struct hg_tls *t, enum hg_status why)
{
    t->state = TLS_ENDING;
    t->lower->ops->close(t->lower, why);
}

/* OpenSSL has queued its alert. */
static void refuse(struct hg_tls *t)
{
    char *text = t->net->tls_text;
    long verdict = SSL_get_verify_result(t->ssl);
    const char *complaint = hg_tls_complaint();
    snprintf(text, sizeof(t->net->tls_text), "TLS: %s%s%s", complaint,
             verdict == X509_V_OK ? "" : ": ",
             verdict == X509_V_OK ? "" : X509_verify_cert_error_string(verdict));
    hg_count(&t->net->counters.tls_failures, 1);
    t->state = TLS_ENDING;
    t->lower->ops->finish(t->lower, HG_PROTOCOL_ERROR);
    if (t->stream.user->on_broken != NULL) {
        t->stream.user->on_broken(t->stream.user_ctx, HG_PROTOCOL_ERROR, text);
    }
}

static void fire_shaking(struct hg_timer *timer)
{
    struct hg_tls *t = HG_CONTAINER_OF(timer, struct shaking, timer)->tls;
    hg_count(&t->net->counters.tls_failures, 1);
    close_lower(t, HG_TIMED_OUT);
}

/* ---- Output ---- */

/* The first slices in one piece, as far as a record takes them. */
static struct hg_bytes next_record(const struct hg_tls *t, uint8_t joined[RECORD_BYTES])
{
    struct iovec slices[SLICES_MAX];
    unsigned slices_n = hg_outq_peek(&t->out, slices, SLICES_MAX);
    size_t n = 0;
    if (slices_n == 1 || slices[0].iov_len >= RECORD_BYTES) {
        return hg_bytes(slices[0].iov_base, slices[0].iov_len);
    }
    for (unsigned i = 0; i < slices_n && n < RECORD_BYTES; i++) {
        size_t room = RECORD_BYTES - n;
        size_t taken = slices[i].iov_len < room ? slices[i].iov_len : room;
        memcpy(joined + n, slices[i].iov_base, taken);
        n += taken;
    }
    return hg_bytes(joined, n);
}

/* Until the lower stream has `limit` bytes to write. False if the connection has failed. */
static bool encrypt(struct hg_tls *t, size_t limit)
{
    uint8_t joined[RECORD_BYTES];
    while (!hg_outq_is_empty(&t->out) && t->lower->ops->pending(t->lower) <= limit) {
        struct hg_bytes record = next_record(t, joined);
        int n = record.n < RECORD_BYTES ? (int)record.n : RECORD_BYTES;
        int written = SSL_write(t->ssl, record.p, n);
        if (written <= 0) { /* no memory: what a record is missing cannot be mended */
            ERR_clear_error();
            close_lower(t, HG_NO_MEMORY);
            return false;
        }
        hg_outq_consume(&t->out, (size_t)written);
    }
    hg_outq_own(&t->out);
    return true;
}

static void run_encrypt(struct hg_defer *defer)
{
    struct hg_tls *t = HG_CONTAINER_OF(defer, struct hg_tls, encrypt);
    if (t->state == TLS_OPEN) {
        encrypt(t, t->net->limits.high_bytes);
    }
}

/* Section 6.1 of RFC 8446: everything, then close_notify. */
static void say_goodbye(struct hg_tls *t, enum hg_status why)
{
    bool was_open = t->state == TLS_OPEN;
    if (was_open && !encrypt(t, SIZE_MAX)) {
        return;
    }
    if (was_open) {
        SSL_shutdown(t->ssl);
        ERR_clear_error();
    }
    t->state = TLS_ENDING;
    t->lower->ops->finish(t->lower, why);
}

/* ---- Input ---- */

static void become_open(struct hg_tls *t)
{
    t->state = TLS_OPEN;
    stop_shaking(t);
    hg_count(&t->net->counters.tls_handshakes, 1);
    if (!hg_outq_is_empty(&t->out)) {
        hg_net_defer(t->net, &t->encrypt);
    }
    if (t->is_client) {
        t->stream.user->on_open(t->stream.user_ctx);
    }
}

static void shake_hands(struct hg_tls *t)
{
    hg_mem_expect(); /* a handshake takes OpenSSL a dozen pages */
    int done = SSL_do_handshake(t->ssl);
    if (done == 1) {
        become_open(t);
    } else if (SSL_get_error(t->ssl, done) != SSL_ERROR_WANT_READ) {
        refuse(t);
    }
}

/* All plaintext of this read is handed up at once, as a TCP stream would. */
static void decrypt(struct hg_tls *t)
{
    uint8_t *plain = t->net->tls_buf;
    size_t n = 0;
    int got;
    while (n < PLAIN_BYTES && (got = SSL_read(t->ssl, plain + n, (int)(PLAIN_BYTES - n))) > 0) {
        n += (size_t)got;
    }
    HG_CHECK(n < PLAIN_BYTES);
    int why = SSL_get_error(t->ssl, got);
    hg_net_note(&t->net->tls_n, n);
    if (n > 0) {
        t->stream.user->on_read(t->stream.user_ctx, hg_bytes(plain, n));
    }
    if (t->state != TLS_OPEN || why == SSL_ERROR_WANT_READ) {
        return;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
        say_goodbye(t, HG_CLOSED);
    } else {
        refuse(t);
    }
}

static void on_lower_read(void *ctx, struct hg_bytes in)
{
    struct hg_tls *t = of_ctx(ctx);
    t->in = in;
    if (t->state == TLS_SHAKING) {
        shake_hands(t);
    }
    if (t->state == TLS_OPEN) {
        decrypt(t);
    }
    t->in = hg_bytes(NULL, 0);
}

static void on_lower_open(void *ctx)
{
    struct hg_tls *t = of_ctx(ctx);
    t->state = TLS_SHAKING;
    t->lower->ops->read_start(t->lower);
    shake_hands(t);
}

static void on_lower_drained(void *ctx)
{
    struct hg_tls *t = of_ctx(ctx);
    if (t->state != TLS_OPEN || !encrypt(t, t->net->limits.high_bytes)) {
        return;
    }
    if (t->is_over_high && t->stream.ops->pending(&t->stream) <= t->net->limits.low_bytes) {
        t->is_over_high = false;
        t->is_awaited = false;
        if (t->stream.user->on_drained != NULL) {
            t->stream.user->on_drained(t->stream.user_ctx);
        }
    } else if (t->is_awaited) {
        t->lower->ops->await_drained(t->lower);
    }
}

static void on_lower_closed(void *ctx, enum hg_status why)
{
    struct hg_tls *t = of_ctx(ctx);
    t->stream.user->on_closed(t->stream.user_ctx, why);
    tls_free(t);
}

static void on_lower_broken(void *ctx, enum hg_status why, const char *rule)
{
    const struct hg_tls *t = of_ctx(ctx);
    if (t->stream.user->on_broken != NULL) {
        t->stream.user->on_broken(t->stream.user_ctx, why, rule);
    }
}

static void on_lower_peer(void *ctx)
{
    const struct hg_tls *t = ctx;
    if (t->stream.user->on_peer != NULL) {
        t->stream.user->on_peer(t->stream.user_ctx);
    }
}

static const struct hg_stream_user lower_user = {
    .on_read = on_lower_read,
    .on_open = on_lower_open,
    .on_drained = on_lower_drained,
    .on_closed = on_lower_closed,
    .on_broken = on_lower_broken,
    .on_peer = on_lower_peer,
};

/* ---- The stream's own operations ---- */

static void read_start(struct hg_stream *s)
{
    struct hg_tls *t = of_stream(s);
    t->lower->ops->read_start(t->lower);
}

static void read_stop(struct hg_stream *s)
{
    struct hg_tls *t = of_stream(s);
    t->lower->ops->read_stop(t->lower);
}

static size_t pending(const struct hg_stream *s)
{
    const struct hg_tls *t = of_stream(s);
    return hg_outq_bytes(&t->out) + t->lower->ops->pending(t->lower);
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct hg_tls *t = of_stream(s);
    (void)kind;
    if (t->state == TLS_ENDING) {
        return HG_CLOSED;
    }
    if (!hg_outq_push(&t->out, parts, parts_n)) {
        return HG_NO_MEMORY;
    }
    t->is_over_high |= pending(s) > t->net->limits.high_bytes;
    if (t->state == TLS_OPEN) {
        hg_net_defer(t->net, &t->encrypt);
    }
    return HG_OK;
}

static void await_drained(struct hg_stream *s)
{
    struct hg_tls *t = of_stream(s);
    t->is_over_high = t->is_awaited = true;
    t->lower->ops->await_drained(t->lower);
}

static bool has_moved(struct hg_stream *s)
{
    struct hg_tls *t = of_stream(s);
    return t->lower->ops->has_moved(t->lower);
}

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct hg_tls *t = of_stream(s);
    if (t->state != TLS_ENDING) {
        say_goodbye(t, why);
    }
}

static void close_now(struct hg_stream *s, enum hg_status why)
{
    close_lower(of_stream(s), why);
}

static const char *peer(struct hg_stream *s)
{
    struct hg_tls *t = of_stream(s);
    return t->lower->ops->peer(t->lower);
}

static bool certificate(struct hg_stream *s, enum hg_certificate_name which, struct hg_writer *out)
{
    X509 *peer_certificate = SSL_get0_peer_certificate(of_stream(s)->ssl);
    return peer_certificate != NULL && hg_tls_certificate_name(peer_certificate, which, out);
}

static const struct hg_stream_ops tls_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = finish,
    .close = close_now,
    .peer = peer,
    .certificate = certificate,
    .await_drained = await_drained,
    .has_moved = has_moved,
};

/* ---- The beginning ---- */

static bool begin_shaking(struct hg_tls *t, uint64_t timeout_ms)
{
    t->shaking = hg_zalloc(sizeof(*t->shaking));
    if (t->shaking == NULL) {
        return false;
    }
    t->net->tls_shaking_n++;
    t->shaking->tls = t;
    hg_timer_init(&t->shaking->timer, fire_shaking);
    hg_wheel_set(t->net->wheel, &t->shaking->timer, hg_clock_ms() + timeout_ms);
    return true;
}

static bool begin_ssl(struct hg_tls *t, struct hg_tls_context *context)
{
    t->ssl = hg_tls_context_begin(context, &t->files);
    BIO *bio = t->ssl == NULL ? NULL : BIO_new(t->net->tls_method);
    if (bio == NULL) {
        return false;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return true;
}

static struct hg_tls *tls_new(struct hg_net *net, struct hg_tls_context *context,
                              uint64_t timeout_ms, const struct hg_stream_user *user, void *ctx)
{
    struct hg_tls *t = open_shared(net) ? hg_zalloc(sizeof(*t)) : NULL;
    if (t == NULL) {
        return NULL;
    }
    t->magic = TLS_MAGIC;
    t->stream.ops = &tls_ops;
    t->net = net;
    t->encrypt.run = run_encrypt;
    hg_stream_set_user(&t->stream, user, ctx);
    if (!begin_shaking(t, timeout_ms) || !begin_ssl(t, context)) {
        tls_free(t);
        return NULL;
    }
    return t;
}

struct hg_stream *hg_tls_accept(struct hg_net *net, struct hg_stream *lower_own,
                                struct hg_tls_context *context, uint64_t timeout_ms,
                                const struct hg_stream_user *user, void *ctx)
{
    struct hg_tls *t = tls_new(net, context, timeout_ms, user, ctx);
    if (t == NULL) {
        lower_own->ops->close(lower_own, HG_NO_MEMORY);
        return NULL;
    }
    t->state = TLS_SHAKING;
    t->lower = lower_own;
    SSL_set_accept_state(t->ssl);
    hg_stream_set_user(lower_own, &lower_user, t);
    return &t->stream;
}

static bool expect_name(struct hg_tls *t, const char *host, bool is_any_good)
{
    uint8_t address[sizeof(struct in6_addr)];
    bool is_address =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    if (!is_address && SSL_set_tlsext_host_name(t->ssl, host) != 1) {
        return false;
    }
    if (is_any_good) {
        return true;
    }
    return is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1
                      : SSL_set1_host(t->ssl, host) == 1;
}

struct hg_stream *hg_tls_connect(struct hg_net *net, struct hg_tls_context *context,
                                 const char *host, uint16_t port, uint64_t timeout_ms,
                                 const struct hg_stream_user *user, void *ctx)
{
    struct hg_tls *t = tls_new(net, context, timeout_ms, user, ctx);
    if (t == NULL) {
        return NULL;
    }
    t->is_client = true;
    SSL_set_connect_state(t->ssl);
    t->lower = expect_name(t, host, hg_tls_context_is_insecure(context))
                   ? hg_tcp_connect(net, host, port, timeout_ms, &lower_user, t)
                   : NULL;
    if (t->lower == NULL) {
        tls_free(t);
        return NULL;
    }
    return &t->stream;
}
