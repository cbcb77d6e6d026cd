/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to a TLS listener, from the ClientHello on, split at the place that the first byte says. Nobody gets through, and
 * nothing is left. */
#include "../unit/stream/fake_stream.h"
#include "base/check.h"
#include "base/clock.h"
#include "stream/tls.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, NAMES = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct world {
    uv_loop_t loop;
    uv_async_t alive; /* a loop without handles does not turn */
    struct hg_wheel wheel;
    struct hg_net net;
    char paths[NAMES][2][32];
    struct hg_tls_certificate certificates[NAMES];
    struct hg_tls_spec spec;
    struct hg_tls_context *context;
} world;

static void write_pem(char path[32], EVP_PKEY *key, X509 *cert)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    BIO *out = BIO_new_fd(fd, BIO_NOCLOSE);
    HG_CHECK((cert != NULL ? PEM_write_bio_X509(out, cert)
                           : PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL)) == 1);
    BIO_free(out);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
}

static void make_certificate(size_t i, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    HG_CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(world.paths[i][0], key, cert);
    write_pem(world.paths[i][1], key, NULL);
    world.certificates[i] = (struct hg_tls_certificate){world.paths[i][0], world.paths[i][1]};
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void open_world(void)
{
    struct hg_writer problem = {0};
    if (world.context != NULL) {
        return;
    }
    uv_loop_init(&world.loop);
    uv_async_init(&world.loop, &world.alive, NULL);
    hg_wheel_open(&world.wheel, hg_clock_ms());
    HG_CHECK(hg_net_open(&world.net, &world.loop, &world.wheel, NULL));
    make_certificate(0, "one.example");
    make_certificate(1, "two.example");
    world.spec = (struct hg_tls_spec){
        .certificates = world.certificates, .certificates_n = NAMES, .alpn = "mqtt"};
    world.context = hg_tls_context_server(&world.spec, &problem);
    HG_CHECK(world.context != NULL);
}

static void on_read(void *ctx, struct hg_bytes in)
{
    (void)ctx;
    HG_CHECK(in.n == 0); /* nobody has shaken hands */
}

static void on_event(void *ctx)
{
    (void)ctx;
}

static void on_closed(void *ctx, enum hg_status why)
{
    (void)why;
    ++*(unsigned *)ctx;
}

static const struct hg_stream_user user = {
    .on_read = on_read, .on_open = on_event, .on_drained = on_event, .on_closed = on_closed};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fake_stream lower;
    unsigned closed_n = 0;
    open_world();
    struct hg_bytes in = hg_bytes(n > 0 ? data + 1 : data, n > 0 ? n - 1 : 0);
    size_t split = n > 0 && data[0] < in.n ? data[0] : in.n;
    fake_stream_open(&lower);
    struct hg_stream *tls =
        hg_tls_accept(&world.net, &lower.stream, world.context, TIMEOUT_MS, &user, &closed_n);
    HG_CHECK(tls != NULL);
    tls->ops->read_start(tls);
    fake_stream_push(&lower, hg_bytes(in.p, split));
    (void)hg_net_turn(&world.net, false);
    fake_stream_push(&lower, hg_bytes_skip(in, split));
    (void)hg_net_turn(&world.net, false);
    if (!lower.is_finished && !lower.is_closed) {
        tls->ops->close(tls, HG_CLOSED);
    }
    fake_stream_run(&lower);
    (void)hg_net_turn(&world.net, false);
    fake_stream_close(&lower);
    HG_CHECK(closed_n == 1 && world.net.tls_shaking_n == 0);
    return 0;
}
