/* SPDX-License-Identifier: Apache-2.0 */
/* Reading keys, and verifying by them: OpenSSL does the arithmetic. */
#include "core/token_keys.h"

#include "base/base64.h"
#include "base/check.h"
#include "base/mem.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

enum {
    FILE_MAX_BYTES = 256 * 1024,
    SECRET_MIN_BYTES = 32, /* RFC 7518 section 3.2 */
    RSA_MIN_BITS = 2048,   /* section 3.3 */
    HALF_BYTES = 32,       /* of an ES256 signature: R, then S; section 3.4 */
    DER_MAX_BYTES = 80,
    KID_MAX_BYTES = 255
};

struct key {
    enum hg_token_algorithm algorithm;
    char *id;         /* NULL: it has none */
    EVP_PKEY *public; /* RS256, ES256 */
    uint8_t *secret;  /* HS256 */
    size_t secret_n;
};

struct hg_token_keys {
    size_t n;
    struct key at[HG_TOKEN_KEYS_MAX];
};

enum hg_token_algorithm hg_token_algorithm(struct hg_bytes name)
{
    static const char *const names[HG_TOKEN_ALGORITHM_N] = {"HS256", "RS256", "ES256"};
    for (unsigned a = 0; a < HG_TOKEN_ALGORITHM_N; a++) {
        if (hg_bytes_eq(name, hg_bytes_str(names[a]))) {
            return (enum hg_token_algorithm)a;
        }
    }
    return HG_TOKEN_ALGORITHM_N;
}

/* ---- Adding ---- */

static void key_close(struct key *k)
{
    EVP_PKEY_free(k->public);
    if (k->secret != NULL) {
        OPENSSL_cleanse(k->secret, k->secret_n);
    }
    hg_free(k->secret);
    hg_free(k->id);
}

/* NULL or what is wrong; the key is taken in either case. */
static const char *add(struct hg_token_keys *keys, struct key *k)
{
    if (keys->n == HG_TOKEN_KEYS_MAX) {
        key_close(k);
        return "there are more than 64 keys";
    }
    keys->at[keys->n++] = *k;
    return NULL;
}

static const char *add_secret(struct hg_token_keys *keys, struct hg_bytes secret, const char *id)
{
    struct key k = {.algorithm = HG_TOKEN_HS256, .secret_n = secret.n};
    if (secret.n < SECRET_MIN_BYTES) {
        return "an HS256 secret has at least 32 bytes";
    }
    k.secret = hg_alloc(secret.n);
    k.id = id == NULL ? NULL : hg_strdup(id);
    if (k.secret == NULL || (id != NULL && k.id == NULL)) {
        key_close(&k);
        return "out of memory";
    }
    memcpy(k.secret, secret.p, secret.n);
    return add(keys, &k);
}

/* Takes the key over. */
static const char *add_public(struct hg_token_keys *keys, EVP_PKEY *public_own, const char *id)
{
    struct key k = {.public = public_own};
    char group[32] = "";
    const char *why = NULL;
    if (EVP_PKEY_is_a(public_own, "RSA")) {
        k.algorithm = HG_TOKEN_RS256;
        why = EVP_PKEY_get_bits(public_own) < RSA_MIN_BITS ? "an RSA key has at least 2048 bits"
                                                           : NULL;
    } else {
        k.algorithm = HG_TOKEN_ES256;
        bool is_p256 = EVP_PKEY_is_a(public_own, "EC") &&
                       EVP_PKEY_get_utf8_string_param(public_own, OSSL_PKEY_PARAM_GROUP_NAME, group,
                                                      sizeof(group), NULL) == 1 &&
                       strcmp(group, "prime256v1") == 0;
        why = is_p256 ? NULL : "keys are RSA, or elliptic curve P-256";
    }
    if (why == NULL && id != NULL && (k.id = hg_strdup(id)) == NULL) {
        why = "out of memory";
    }
    if (why != NULL) {
        key_close(&k);
        return why;
    }
    return add(keys, &k);
}

/* ---- Files ---- */

/* NULL, or static text. */
static const char *read_file(const char *file, struct hg_writer *out)
{
    FILE *f = fopen(file, "rbe");
    if (f == NULL) {
        return strerror(errno);
    }
    uint8_t *at = hg_writer_reserve(out, FILE_MAX_BYTES);
    size_t n = at == NULL ? 0 : fread(at, 1, FILE_MAX_BYTES, f);
    bool is_whole = at != NULL && feof(f) && !ferror(f);
    if (at != NULL) {
        hg_writer_commit(out, n);
    }
    fclose(f);
    return is_whole ? NULL : "it cannot be read, or has more than 256 KiB";
}

static const char *add_secret_file(struct hg_token_keys *keys, struct hg_bytes text)
{
    while (text.n > 0 && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r')) {
        text.n--;
    }
    if (hg_bytes_starts(text, HG_BYTES("-----BEGIN"))) {
        return "this is a PEM file: it belongs to keys"; /* public text is no secret */
    }
    return add_secret(keys, text, NULL);
}

static const char *add_pem_file(struct hg_token_keys *keys, struct hg_bytes text)
{
    BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
    EVP_PKEY *public = in == NULL ? NULL : PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
    if (public == NULL && in != NULL) {
        BIO *again = BIO_new_mem_buf(text.p, (int)text.n);
        X509 *certificate = again == NULL ? NULL : PEM_read_bio_X509(again, NULL, NULL, NULL);
        public = certificate == NULL ? NULL : X509_get_pubkey(certificate);
        X509_free(certificate);
        BIO_free(again);
    }
    BIO_free(in);
    return public == NULL ? "it holds neither a public key nor a certificate in PEM"
                          : add_public(keys, public, NULL);
}

/* ---- JSON Web Keys (RFC 7517, RFC 7518 section 6) ---- */

/* A member's bytes; false: absent or not base64url. */
static bool read_bytes(const json_t *jwk, const char *name, struct hg_writer *out)
{
    const json_t *value = json_object_get(jwk, name);
    hg_writer_reset(out);
    return json_is_string(value) &&
           hg_base64url_decode(out,
                               hg_bytes(json_string_value(value), json_string_length(value))) &&
           hg_writer_n(out) > 0 && !out->failed;
}

/* From parameters; takes the builder. NULL: they make no key. */
static EVP_PKEY *make_public(const char *type, OSSL_PARAM_BLD *builder_own)
{
    EVP_PKEY *public = NULL;
    OSSL_PARAM *params = builder_own == NULL ? NULL : OSSL_PARAM_BLD_to_param(builder_own);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &public, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        public = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder_own);
    return public;
}

static EVP_PKEY *rsa_of(const json_t *jwk, struct hg_writer *w)
{
    BIGNUM *n = read_bytes(jwk, "n", w) ? BN_bin2bn(w->buf->data, (int)w->buf->n, NULL) : NULL;
    BIGNUM *e = read_bytes(jwk, "e", w) ? BN_bin2bn(w->buf->data, (int)w->buf->n, NULL) : NULL;
    OSSL_PARAM_BLD *b = n == NULL || e == NULL ? NULL : OSSL_PARAM_BLD_new();
    EVP_PKEY *public = NULL;
    if (b != NULL) {
        (void)OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n);
        (void)OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e);
        public = make_public("RSA", b);
    }
    BN_free(n);
    BN_free(e);
    return public;
}

static EVP_PKEY *p256_of(const json_t *jwk, struct hg_writer *w)
{
    uint8_t point[1 + 2 * HALF_BYTES] = {0x04}; /* uncompressed */
    const char *const names[] = {"x", "y"};
    const char *curve = json_string_value(json_object_get(jwk, "crv"));
    if (curve == NULL || strcmp(curve, "P-256") != 0) {
        return NULL;
    }
    for (size_t i = 0; i < 2; i++) {
        if (!read_bytes(jwk, names[i], w) || hg_writer_n(w) != HALF_BYTES) {
            return NULL;
        }
        memcpy(point + 1 + i * HALF_BYTES, w->buf->data, HALF_BYTES);
    }
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (b != NULL) {
        (void)OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
        (void)OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point));
    }
    return make_public("EC", b);
}

/* Whether the key is to verify signatures of an algorithm that we know. */
static bool is_for_us(const json_t *jwk)
{
    const char *use = json_string_value(json_object_get(jwk, "use"));
    const char *alg = json_string_value(json_object_get(jwk, "alg"));
    return (use == NULL || strcmp(use, "sig") == 0) &&
           (alg == NULL || hg_token_algorithm(hg_bytes_str(alg)) != HG_TOKEN_ALGORITHM_N);
}

/* Keys of other kinds are passed over (RFC 7517 section 5). */
static const char *add_jwk(struct hg_token_keys *keys, const json_t *jwk)
{
    struct hg_writer w = {.is_secret = true};
    const char *type = json_string_value(json_object_get(jwk, "kty"));
    const char *id = json_string_value(json_object_get(jwk, "kid"));
    EVP_PKEY *public = NULL;
    const char *why = NULL;
    if (type == NULL || !is_for_us(jwk) || (id != NULL && strlen(id) > KID_MAX_BYTES)) {
        return NULL;
    }
    if (strcmp(type, "oct") == 0) {
        why = read_bytes(jwk, "k", &w) ? add_secret(keys, hg_writer_view(&w), id)
                                       : "a key of type oct has no k";
    } else if (strcmp(type, "RSA") == 0) {
        public = rsa_of(jwk, &w);
        why = public == NULL ? "a key of type RSA has no n and e" : add_public(keys, public, id);
    } else if (strcmp(type, "EC") == 0) {
        public = p256_of(jwk, &w);
        why = public == NULL ? NULL : add_public(keys, public, id); /* else of another curve */
    }
    hg_writer_close(&w);
    return why;
}

static const char *add_jwks_file(struct hg_token_keys *keys, struct hg_bytes text)
{
    json_t *set = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(set, "keys");
    const char *why = json_is_array(list) ? NULL : "it is no JSON Web Key Set";
    size_t before = keys->n;
    for (size_t i = 0; why == NULL && i < json_array_size(list); i++) {
        why = add_jwk(keys, json_array_get(list, i));
    }
    if (why == NULL && keys->n == before) {
        why = "it has no key for HS256, RS256 or ES256";
    }
    json_decref(set);
    return why;
}

/* ---- The set ---- */

static bool add_file(struct hg_token_keys *keys, const char *file,
                     const char *add_text(struct hg_token_keys *, struct hg_bytes),
                     struct hg_writer *problem_out)
{
    struct hg_writer text = {.is_secret = true};
    const char *why = read_file(file, &text);
    if (why == NULL) {
        why = add_text(keys, hg_writer_view(&text));
    }
    if (why != NULL) {
        hg_writer_printf(problem_out, "\"%s\": %s", file, why);
    }
    hg_writer_close(&text);
    return why == NULL;
}

struct hg_token_keys *hg_token_keys_new(const struct hg_token_spec *spec,
                                        struct hg_writer *problem_out)
{
    struct hg_token_keys *keys = hg_zalloc(sizeof(*keys));
    if (keys == NULL) {
        hg_writer_str(problem_out, "out of memory");
        return NULL;
    }
    bool is_fine = true;
    for (size_t i = 0; is_fine && i < spec->secrets_n; i++) {
        is_fine = add_file(keys, spec->secrets[i], add_secret_file, problem_out);
    }
    for (size_t i = 0; is_fine && i < spec->pems_n; i++) {
        is_fine = add_file(keys, spec->pems[i], add_pem_file, problem_out);
    }
    if (is_fine && spec->jwks != NULL) {
        is_fine = add_file(keys, spec->jwks, add_jwks_file, problem_out);
    }
    if (!is_fine) {
        hg_token_keys_free(keys);
        return NULL;
    }
    return keys;
}

void hg_token_keys_free(struct hg_token_keys *keys)
{
    for (size_t i = 0; keys != NULL && i < keys->n; i++) {
        key_close(&keys->at[i]);
    }
    hg_free(keys);
}

/* ---- Verifying ---- */

static bool verify_secret(const struct key *k, const struct hg_token_signed *what)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    return HMAC(EVP_sha256(), k->secret, (int)k->secret_n, what->text.p, what->text.n, mac, &n) !=
               NULL &&
           what->signature.n == n && CRYPTO_memcmp(mac, what->signature.p, n) == 0;
}

/* R and S behind each other, as OpenSSL wants them. Bytes used; 0: that is no signature. */
static size_t to_der(struct hg_bytes raw, uint8_t out[DER_MAX_BYTES])
{
    uint8_t *at = out;
    int n = -1;
    if (raw.n != 2 * HALF_BYTES) {
        return 0;
    }
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw.p, HALF_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(raw.p + HALF_BYTES, HALF_BYTES, NULL);
    if (sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
        n = i2d_ECDSA_SIG(sig, &at);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(sig);
    return n > 0 ? (size_t)n : 0;
}

static bool verify_public(const struct key *k, const struct hg_token_signed *what)
{
    uint8_t der[DER_MAX_BYTES];
    struct hg_bytes signature = what->signature;
    if (k->algorithm == HG_TOKEN_ES256) {
        signature = hg_bytes(der, to_der(what->signature, der));
    }
    EVP_MD_CTX *ctx = signature.n == 0 ? NULL : EVP_MD_CTX_new();
    bool is_good = ctx != NULL &&
                   EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->public) == 1 &&
                   EVP_DigestVerify(ctx, signature.p, signature.n, what->text.p, what->text.n) == 1;
    EVP_MD_CTX_free(ctx);
    return is_good;
}

bool hg_token_keys_verify(const struct hg_token_keys *keys, const struct hg_token_signed *what)
{
    for (size_t i = 0; i < keys->n; i++) {
        const struct key *k = &keys->at[i];
        bool may_be_it =
            what->key_id.n == 0 || k->id == NULL || hg_bytes_eq(what->key_id, hg_bytes_str(k->id));
        if (k->algorithm == what->algorithm && may_be_it &&
            (k->algorithm == HG_TOKEN_HS256 ? verify_secret(k, what) : verify_public(k, what))) {
            return true;
        }
    }
    ERR_clear_error(); /* else the next TLS stream of this thread finds it */
    return false;
}
