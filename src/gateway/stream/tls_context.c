/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, keys and authorities, read from files and shared by all workers. */
#include "base/mem.h"
#include "stream/tls_context_priv.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <uv.h>

/* Forward secrecy and authenticated encryption; TLS 1.3 has nothing else. */
#define TLS_1_2_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

struct hg_tls_context {
    const struct hg_tls_spec *spec; /* borrowed */
    bool is_server;
    uv_mutex_t lock; /* of `files` */
    struct hg_tls_files *files;
    unsigned char alpn[256]; /* as the handshake has it: a length and the name */
    unsigned alpn_n;
};

const char *hg_tls_complaint(void)
{
    unsigned long code = ERR_peek_error(); /* the first says most */
    const char *text = code == 0                ? NULL
                       : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
                                                : ERR_reason_error_string(code);
    ERR_clear_error();
    return text != NULL ? text : "no reason given";
}

static bool fail(struct hg_writer *problem_out, const char *file)
{
    hg_writer_printf(problem_out, "\"%s\": %s", file, hg_tls_complaint());
    return false;
}

/* ---- Choices during a handshake ---- */

static bool is_for(SSL_CTX *context, const char *name)
{
    return X509_check_host(SSL_CTX_get0_certificate(context), name, 0, 0, NULL) == 1;
}

/* Nobody is turned away for a name: the default's certificate says who we are. */
static int choose_certificate(SSL *ssl, int *alert, void *arg)
{
    struct hg_tls_files *files = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    for (size_t i = 0; name != NULL && i < files->n; i++) {
        if (is_for(files->all[i], name)) {
            SSL_set_SSL_CTX(ssl, files->all[i]);
            break;
        }
    }
    return SSL_TLSEXT_ERR_OK;
}

/* RFC 7301 section 3.2: who offers only others is refused. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned in_n, void *arg)
{
    const struct hg_tls_context *c = arg;
    unsigned char *chosen = NULL;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_n, c->alpn, c->alpn_n, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- Reading the files ---- */

/* Instead of asking at the terminal. */
static int no_passphrase(char *out, int n, int is_writing, void *arg)
{
    (void)out;
    (void)n;
    (void)is_writing;
    (void)arg;
    return 0;
}

static bool read_certificate(SSL_CTX *ssl, const struct hg_tls_certificate *certificate,
                             struct hg_writer *problem_out)
{
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate->cert) != 1) {
        return fail(problem_out, certificate->cert);
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, certificate->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1) {
        return fail(problem_out, certificate->key);
    }
    return true;
}

static bool read_authorities(const struct hg_tls_context *c, SSL_CTX *ssl,
                             struct hg_writer *problem_out)
{
    const struct hg_tls_spec *spec = c->spec;
    if (spec->ca != NULL && SSL_CTX_load_verify_locations(ssl, spec->ca, NULL) != 1) {
        return fail(problem_out, spec->ca);
    }
    if (!c->is_server) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        return spec->ca != NULL || SSL_CTX_set_default_verify_paths(ssl) == 1 ||
               fail(problem_out, "the system's authorities");
    }
    if (spec->ca != NULL) {
        SSL_CTX_set_client_CA_list(ssl, SSL_load_client_CA_file(spec->ca));
        SSL_CTX_set_verify(
            ssl, SSL_VERIFY_PEER | (spec->is_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
    }
    return true;
}

static void set_up_server(struct hg_tls_context *c, SSL_CTX *ssl, struct hg_tls_files *files)
{
    static const unsigned char session_context[] = "headgate";
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_id_context(ssl, session_context, sizeof(session_context) - 1);
    SSL_CTX_set_num_tickets(ssl, 1); /* sessions are resumed by tickets, nothing is kept here */
    SSL_CTX_set_tlsext_servername_callback(ssl, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(ssl, files);
    if (c->alpn_n > 0) {
        SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, c);
    }
}

static SSL_CTX *read_one(struct hg_tls_context *c, const struct hg_tls_certificate *certificate,
                         struct hg_tls_files *files, struct hg_writer *problem_out)
{
    SSL_CTX *ssl = SSL_CTX_new(c->is_server ? TLS_server_method() : TLS_client_method());
    if (ssl == NULL) {
        hg_writer_str(problem_out, "no memory");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ssl, TLS_1_2_CIPHERS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    if (c->is_server) {
        set_up_server(c, ssl, files);
    }
    if ((certificate != NULL && !read_certificate(ssl, certificate, problem_out)) ||
        !read_authorities(c, ssl, problem_out)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    return ssl;
}

static struct hg_tls_files *read_files(struct hg_tls_context *c, struct hg_writer *problem_out)
{
    size_t n = c->spec->certificates_n == 0 ? 1 : c->spec->certificates_n;
    struct hg_tls_files *files = hg_zalloc(sizeof(*files) + n * sizeof(files->all[0]));
    if (files == NULL) {
        hg_writer_str(problem_out, "no memory");
        return NULL;
    }
    atomic_init(&files->refs, 1);
    for (; files->n < n; files->n++) {
        const struct hg_tls_certificate *certificate =
            c->spec->certificates_n == 0 ? NULL : &c->spec->certificates[files->n];
        files->all[files->n] = read_one(c, certificate, files, problem_out);
        if (files->all[files->n] == NULL) {
            hg_tls_files_unref(files);
            return NULL;
        }
    }
    return files;
}

void hg_tls_files_unref(struct hg_tls_files *files)
{
    if (files == NULL || atomic_fetch_sub(&files->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < files->n; i++) {
        SSL_CTX_free(files->all[i]);
    }
    hg_free(files);
}

/* ---- Life ---- */

static struct hg_tls_context *context_new(const struct hg_tls_spec *spec, bool is_server,
                                          struct hg_writer *problem_out)
{
    struct hg_tls_context *c = hg_zalloc(sizeof(*c));
    if (c == NULL || uv_mutex_init(&c->lock) != 0) {
        hg_free(c);
        hg_writer_str(problem_out, "no memory");
        return NULL;
    }
    c->spec = spec;
    c->is_server = is_server;
    size_t alpn_n = spec->alpn == NULL ? 0 : strlen(spec->alpn);
    if (alpn_n > 0 && alpn_n < sizeof(c->alpn)) {
        c->alpn[0] = (unsigned char)alpn_n;
        memcpy(c->alpn + 1, spec->alpn, alpn_n);
        c->alpn_n = (unsigned)alpn_n + 1;
    }
    c->files = read_files(c, problem_out);
    if (c->files == NULL) {
        hg_tls_context_free(c);
        return NULL;
    }
    return c;
}

struct hg_tls_context *hg_tls_context_server(const struct hg_tls_spec *spec,
                                             struct hg_writer *problem_out)
{
    return context_new(spec, true, problem_out);
}

struct hg_tls_context *hg_tls_context_client(const struct hg_tls_spec *spec,
                                             struct hg_writer *problem_out)
{
    return context_new(spec, false, problem_out);
}

bool hg_tls_context_reload(struct hg_tls_context *c, struct hg_writer *problem_out)
{
    struct hg_tls_files *files = read_files(c, problem_out);
    if (files == NULL) {
        return false;
    }
    uv_mutex_lock(&c->lock);
    struct hg_tls_files *before = c->files;
    c->files = files;
    uv_mutex_unlock(&c->lock);
    hg_tls_files_unref(before);
    return true;
}

void hg_tls_context_free(struct hg_tls_context *c)
{
    if (c != NULL) {
        hg_tls_files_unref(c->files);
        uv_mutex_destroy(&c->lock);
        hg_free(c);
    }
}

SSL *hg_tls_context_begin(struct hg_tls_context *c, struct hg_tls_files **files_out)
{
    uv_mutex_lock(&c->lock);
    struct hg_tls_files *files = c->files;
    atomic_fetch_add(&files->refs, 1);
    uv_mutex_unlock(&c->lock);
    SSL *ssl = SSL_new(files->all[0]);
    if (ssl == NULL) {
        hg_tls_files_unref(files);
        return NULL;
    }
    *files_out = files;
    return ssl;
}

bool hg_tls_context_is_insecure(const struct hg_tls_context *c)
{
    return c->spec->is_insecure;
}
