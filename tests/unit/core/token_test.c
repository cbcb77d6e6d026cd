/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: made here with OpenSSL, good ones, stale ones, and the ways in which they are forged. */
#include "core/token.h"

#include "base/base64.h"
#include "core/password.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW_MS UINT64_C(1700000000000)
#define CLAIMS \
    "{\"sub\":\"carol\",\"exp\":1700000100,\"roles\":[\"a\",\"b\"],\"site\":\"x\",\"n\":7"

enum { KEY_RSA, KEY_EC, KINDS };

static struct {
    char folder[32];
    char secret[64], pem[KINDS][64], jwks[64];
    EVP_PKEY *key[KINDS];
    struct hg_bytes pem_text; /* of the RSA key */
} world;

static void write_file(char path[64], const char *name, struct hg_bytes text)
{
    snprintf(path, 64, "%s/%s", world.folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
    assert_int_equal(fclose(f), 0);
}

static void write_base64url(struct hg_writer *w, struct hg_bytes b)
{
    struct hg_writer plain = {0};
    hg_base64_encode(&plain, b);
    struct hg_bytes text = hg_writer_view(&plain);
    for (size_t i = 0; i < text.n && text.p[i] != '='; i++) {
        uint8_t c = text.p[i];
        hg_writer_u8(w, c == '+' ? '-' : c == '/' ? '_' : c);
    }
    hg_writer_close(&plain);
}

static void write_number(struct hg_writer *w, EVP_PKEY *key, const char *name, int n)
{
    uint8_t bytes[512];
    BIGNUM *number = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    n = n > 0 ? BN_bn2binpad(number, bytes, n) : BN_bn2bin(number, bytes);
    write_base64url(w, hg_bytes(bytes, (size_t)n));
    BN_free(number);
}

static int open_world(void **state)
{
    (void)state;
    strcpy(world.folder, "/tmp/headgate-token-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    world.key[KEY_RSA] = EVP_RSA_gen(2048);
    world.key[KEY_EC] = EVP_EC_gen("P-256");
    write_file(world.secret, "secret", HG_BYTES(SECRET "\n"));
    for (int kind = 0; kind < KINDS; kind++) {
        char *text;
        BIO *out = BIO_new(BIO_s_mem());
        assert_int_equal(PEM_write_bio_PUBKEY(out, world.key[kind]), 1);
        long n = BIO_get_mem_data(out, &text);
        write_file(world.pem[kind], kind == KEY_RSA ? "rsa.pem" : "ec.pem",
                   hg_bytes(text, (size_t)n));
        if (kind == KEY_RSA) {
            world.pem_text = hg_bytes(strndup(text, (size_t)n), (size_t)n);
        }
        BIO_free(out);
    }
    struct hg_writer set = {0};
    hg_writer_str(&set, "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"},"
                        "{\"kty\":\"RSA\",\"kid\":\"r\",\"use\":\"sig\",\"n\":\"");
    write_number(&set, world.key[KEY_RSA], OSSL_PKEY_PARAM_RSA_N, 0);
    hg_writer_str(&set,
                  "\",\"e\":\"AQAB\"},{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"x\":\"");
    write_number(&set, world.key[KEY_EC], OSSL_PKEY_PARAM_EC_PUB_X, 32);
    hg_writer_str(&set, "\",\"y\":\"");
    write_number(&set, world.key[KEY_EC], OSSL_PKEY_PARAM_EC_PUB_Y, 32);
    hg_writer_str(&set, "\"},{\"kty\":\"oct\",\"kid\":\"h\",\"k\":\"");
    write_base64url(&set, HG_BYTES(SECRET));
    hg_writer_str(&set, "\"}]}");
    write_file(world.jwks, "jwks", hg_writer_view(&set));
    hg_writer_close(&set);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    const char *files[] = {world.secret, world.pem[KEY_RSA], world.pem[KEY_EC], world.jwks};
    for (size_t i = 0; i < 4; i++) {
        unlink(files[i]);
    }
    rmdir(world.folder);
    EVP_PKEY_free(world.key[KEY_RSA]);
    EVP_PKEY_free(world.key[KEY_EC]);
    free((void *)(uintptr_t)world.pem_text.p);
    return 0;
}

static struct hg_token_spec spec_of(bool is_set)
{
    static const char *secrets[1];
    static const char *pems[2];
    secrets[0] = world.secret;
    pems[0] = world.pem[KEY_RSA];
    pems[1] = world.pem[KEY_EC];
    struct hg_token_spec spec = {.user_claim = "sub", .roles_claim = "roles"};
    if (is_set) {
        spec.jwks = world.jwks;
    } else {
        spec.secrets = secrets;
        spec.secrets_n = 1;
        spec.pems = pems;
        spec.pems_n = 2;
    }
    struct hg_writer problem = {0};
    spec.keys = hg_token_keys_new(&spec, &problem);
    if (spec.keys == NULL) {
        fail_msg("%.*s", HG_BYTES_FMT(hg_writer_view(&problem)));
    }
    hg_writer_close(&problem);
    return spec;
}

enum signer { BY_SECRET, BY_RSA, BY_EC, BY_EC_IN_DER, BY_PEM_AS_SECRET, BY_NOBODY, BY_ZEROES };

static void sign(enum signer by, struct hg_bytes text, struct hg_writer *out)
{
    uint8_t bytes[512];
    size_t n = sizeof(bytes);
    unsigned mac_n = 0;
    struct hg_bytes secret = by == BY_SECRET ? HG_BYTES(SECRET) : world.pem_text;
    if (by == BY_NOBODY) {
        return;
    }
    if (by == BY_ZEROES) { /* of which a careless check of ECDSA makes a good signature */
        memset(bytes, 0, n = 64);
    } else if (by == BY_SECRET || by == BY_PEM_AS_SECRET) {
        assert_non_null(HMAC(EVP_sha256(), secret.p, (int)secret.n, text.p, text.n, bytes, &mac_n));
        n = mac_n;
    } else {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_PKEY *key = world.key[by == BY_RSA ? KEY_RSA : KEY_EC];
        assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
        assert_int_equal(EVP_DigestSign(ctx, bytes, &n, text.p, text.n), 1);
        EVP_MD_CTX_free(ctx);
    }
    if (by == BY_EC) {
        const uint8_t *der = bytes;
        ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
        BN_bn2binpad(ECDSA_SIG_get0_r(sig), bytes, 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(sig), bytes + 32, 32);
        ECDSA_SIG_free(sig);
        n = 64;
    }
    write_base64url(out, hg_bytes(bytes, n));
}

static struct hg_writer make(const char *header, const char *claims, enum signer by)
{
    struct hg_writer w = {0};
    struct hg_writer signature = {0};
    write_base64url(&w, hg_bytes_str(header));
    hg_writer_u8(&w, '.');
    write_base64url(&w, hg_bytes_str(claims));
    sign(by, hg_writer_view(&w), &signature);
    hg_writer_u8(&w, '.');
    hg_writer_bytes(&w, hg_writer_view(&signature));
    hg_writer_close(&signature);
    return w;
}

/* NULL: it is good. */
static const char *check(const struct hg_token_spec *spec, const char *header, const char *claims,
                         enum signer by, bool *is_expired)
{
    struct hg_writer text = make(header, claims, by);
    struct hg_token t;
    const char *why = hg_token_check(spec, hg_writer_view(&text), NOW_MS, &t, is_expired);
    hg_token_close(&t);
    hg_writer_close(&text);
    return why;
}

#define NO_KEY "no key verifies the token"
#define ALIEN  "the token's algorithm is none of HS256, RS256, ES256"

static void a_key_verifies_its_own_algorithm_only(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        enum signer by;
        const char *why, *why_by_set; /* NULL: good */
    } rows[] = {
        {"{\"alg\":\"HS256\"}", BY_SECRET, NULL, NULL},
        {"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", BY_RSA, NULL, NULL},
        {"{\"alg\":\"ES256\"}", BY_EC, NULL, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"r\"}", BY_RSA, NULL, NULL},
        {"{\"alg\":\"ES256\",\"kid\":\"e\"}", BY_EC, NULL, NULL},
        {"{\"alg\":\"HS256\",\"kid\":\"h\"}", BY_SECRET, NULL, NULL},
        /* another key's identifier; keys from PEM files have none, and are tried */
        {"{\"alg\":\"RS256\",\"kid\":\"e\"}", BY_RSA, NULL, NO_KEY},
        {"{\"alg\":\"RS256\",\"kid\":\"../../rsa\"}", BY_RSA, NULL, NO_KEY},
        /* none, in the ways in which it is written */
        {"{\"alg\":\"none\"}", BY_NOBODY, ALIEN, ALIEN},
        {"{\"alg\":\"None\"}", BY_SECRET, ALIEN, ALIEN},
        {"{\"alg\":\"\"}", BY_NOBODY, ALIEN, ALIEN},
        {"{\"alg\":null}", BY_NOBODY, ALIEN, ALIEN},
        {"{}", BY_NOBODY, ALIEN, ALIEN},
        {"{\"alg\":\"HS256\"}", BY_NOBODY, NO_KEY, NO_KEY},
        {"{\"alg\":\"ES256\"}", BY_NOBODY, NO_KEY, NO_KEY},
        {"{\"alg\":\"HS512\"}", BY_SECRET, ALIEN, ALIEN},
        /* the public key as if it were a secret */
        {"{\"alg\":\"HS256\"}", BY_PEM_AS_SECRET, NO_KEY, NO_KEY},
        {"{\"alg\":\"HS256\",\"kid\":\"r\"}", BY_PEM_AS_SECRET, NO_KEY, NO_KEY},
        /* another algorithm than that of the signature */
        {"{\"alg\":\"RS256\"}", BY_SECRET, NO_KEY, NO_KEY},
        {"{\"alg\":\"ES256\"}", BY_RSA, NO_KEY, NO_KEY},
        {"{\"alg\":\"RS256\"}", BY_EC, NO_KEY, NO_KEY},
        {"{\"alg\":\"ES256\"}", BY_EC_IN_DER, NO_KEY, NO_KEY},
        {"{\"alg\":\"ES256\"}", BY_ZEROES, NO_KEY, NO_KEY},
        /* a key of the token's own */
        {"{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"},\"jku\":\"http://x/\"}",
         BY_PEM_AS_SECRET, NO_KEY, NO_KEY},
        {"{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", BY_SECRET,
         "the token asks for an extension (crit)", "the token asks for an extension (crit)"},
        {"{\"alg\":\"none\",\"alg\":\"HS256\"}", BY_SECRET, "the token is malformed",
         "the token is malformed"},
        {"[\"HS256\"]", BY_SECRET, "the token is malformed", "the token is malformed"},
    };
    for (int is_set = 0; is_set < 2; is_set++) {
        struct hg_token_spec spec = spec_of(is_set);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            bool is_expired;
            const char *want = is_set ? rows[i].why_by_set : rows[i].why;
            const char *why = check(&spec, rows[i].header, CLAIMS "}", rows[i].by, &is_expired);
            if ((why == NULL) != (want == NULL) || (why != NULL && strcmp(why, want) != 0)) {
                fail_msg("%s by %d: %s", rows[i].header, rows[i].by, why == NULL ? "good" : why);
            }
            assert_false(is_expired);
        }
        hg_token_keys_free(spec.keys);
    }
}

static void what_is_claimed_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *issuer, *audience, *why;
        bool is_expired;
    } rows[] = {
        {CLAIMS "}", NULL, NULL, NULL, false},
        {CLAIMS ",\"iss\":\"i\",\"aud\":\"me\"}", "i", "me", NULL, false},
        {CLAIMS ",\"aud\":[\"you\",\"me\"]}", NULL, "me", NULL, false},
        {CLAIMS ",\"aud\":[]}", NULL, "me", "the token is for another audience (aud)", false},
        {CLAIMS ",\"aud\":\"me\"}", NULL, NULL, "the token is for another audience (aud)", false},
        {CLAIMS "}", NULL, "me", "the token is for another audience (aud)", false},
        {CLAIMS ",\"aud\":\"me2\"}", NULL, "me", "the token is for another audience (aud)", false},
        {CLAIMS ",\"iss\":\"j\"}", "i", NULL, "the token is of another issuer (iss)", false},
        {CLAIMS "}", "i", NULL, "the token is of another issuer (iss)", false},
        {CLAIMS ",\"nbf\":1700000009}", NULL, NULL, NULL, false},
        {CLAIMS ",\"nbf\":1700000011}", NULL, NULL, "the token is not valid yet (nbf)", false},
        {CLAIMS ",\"nbf\":\"soon\"}", NULL, NULL, "the token is not valid yet (nbf)", false},
        {"{\"sub\":\"c\",\"exp\":1699999990.5}", NULL, NULL, NULL, false},
        {"{\"sub\":\"c\",\"exp\":1699999990}", NULL, NULL, "the token has expired", true},
        {"{\"sub\":\"c\"}", NULL, NULL, "the token has no end (exp)", false},
        {"{\"sub\":\"c\",\"exp\":\"1700000100\"}", NULL, NULL, "the token has no end (exp)", false},
        {"{\"sub\":\"c\",\"exp\":1e300}", NULL, NULL, "the token has no end (exp)", false},
        {"{\"sub\":\"c\",\"exp\":-1}", NULL, NULL, "the token has no end (exp)", false},
        {"{\"exp\":1700000100}", NULL, NULL, "the token names no user", false},
        {"{\"sub\":\"\",\"exp\":1700000100}", NULL, NULL, "the token names no user", false},
        {"{\"sub\":7,\"exp\":1700000100}", NULL, NULL, "the token names no user", false},
        {"{\"sub\":\"a\\nb\",\"exp\":1700000100}", NULL, NULL, "the token names no user", false},
        {"{\"sub\":\"a\",\"sub\":\"b\",\"exp\":1700000100}", NULL, NULL, "the token is malformed",
         false},
        {"{\"sub\":\"a\\u0000b\",\"exp\":1700000100}", NULL, NULL, "the token is malformed", false},
    };
    struct hg_token_spec spec = spec_of(false);
    spec.leeway_ms = 10000;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool is_expired;
        spec.issuer = rows[i].issuer;
        spec.audience = rows[i].audience;
        const char *why =
            check(&spec, "{\"alg\":\"HS256\"}", rows[i].claims, BY_SECRET, &is_expired);
        if ((why == NULL) != (rows[i].why == NULL) ||
            (why != NULL && strcmp(why, rows[i].why) != 0)) {
            fail_msg("%s: %s", rows[i].claims, why == NULL ? "good" : why);
        }
        assert_int_equal(is_expired, rows[i].is_expired);
    }
    hg_token_keys_free(spec.keys);
}

static void add_role(void *ctx, struct hg_bytes role)
{
    struct hg_writer *w = ctx;
    hg_writer_bytes(w, role);
    hg_writer_u8(w, ',');
}

static void a_token_says_who_for_how_long_and_in_which_roles(void **state)
{
    (void)state;
    static const struct {
        const char *more, *claim, *roles;
    } rows[] = {
        {"}", "roles", "a,b,"},
        {",\"scope\":\"read write\"}", "scope", "read,write,"},
        {",\"realm\":{\"access\":{\"roles\":[\"x\"]}}}", "realm.access.roles", "x,"},
        {",\"realm.roles\":[\"y\"],\"realm\":{\"roles\":[\"z\"]}}", "realm.roles", "y,"},
        {"}", "realm.roles", ""},
        {"}", "sub.roles", ""},
        {"}", "n", ""},
    };
    struct hg_token_spec spec = spec_of(false);
    spec.leeway_ms = 1000;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char claims[256];
        struct hg_writer roles = {0};
        struct hg_bytes name, value;
        struct hg_token t;
        bool is_expired;
        void *at = NULL;
        snprintf(claims, sizeof(claims), "%s%s", CLAIMS, rows[i].more);
        spec.roles_claim = rows[i].claim;
        struct hg_writer text = make("{\"alg\":\"HS256\"}", claims, BY_SECRET);
        assert_null(hg_token_check(&spec, hg_writer_view(&text), NOW_MS, &t, &is_expired));
        assert_text(t.user, "carol");
        assert_int_equal(t.expires_wall_ms, NOW_MS + 101000);
        hg_token_roles(&spec, &t, add_role, &roles);
        assert_text(hg_writer_view(&roles), rows[i].roles);
        size_t texts_n = 0;
        for (; hg_token_next_claim(&t, &at, &name, &value); texts_n++) {
            assert_true(hg_bytes_eq(value, HG_BYTES("carol")) ||
                        hg_bytes_eq(name, HG_BYTES("site")) ||
                        hg_bytes_eq(name, HG_BYTES("scope")));
        }
        assert_in_range(texts_n, 2, 3);
        hg_token_close(&t);
        hg_writer_close(&roles);
        hg_writer_close(&text);
    }
    hg_token_keys_free(spec.keys);
}

static void no_part_of_a_token_can_change(void **state)
{
    (void)state;
    struct hg_token_spec spec = spec_of(false);
    for (enum signer by = BY_SECRET; by <= BY_EC; by++) {
        static const char *const headers[] = {"{\"alg\":\"HS256\"}", "{\"alg\":\"RS256\"}",
                                              "{\"alg\":\"ES256\"}"};
        struct hg_writer text = make(headers[by], CLAIMS "}", by);
        for (size_t i = 0; i < hg_writer_n(&text); i++) {
            struct hg_token t;
            bool is_expired;
            uint8_t before = text.buf->data[i];
            text.buf->data[i] = before == 'A' ? 'B' : 'A';
            assert_non_null(hg_token_check(&spec, hg_writer_view(&text), NOW_MS, &t, &is_expired));
            text.buf->data[i] = before;
        }
        for (size_t n = 0; n < hg_writer_n(&text); n++) {
            struct hg_token t;
            bool is_expired;
            struct hg_bytes cut = hg_bytes(text.buf->data, n);
            assert_non_null(hg_token_check(&spec, cut, NOW_MS, &t, &is_expired));
        }
        hg_writer_close(&text);
    }
    hg_token_keys_free(spec.keys);
}

static void a_key_that_is_none_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
        bool is_secret;
    } rows[] = {
        {"too short", "an HS256 secret has at least 32 bytes", true},
        {"-----BEGIN PUBLIC KEY-----\nxxxxxxxxxxxxxxxxxxxxxxxxxx",
         "this is a PEM file: it belongs to keys", true},
        {"[]", "it is no JSON Web Key Set", false},
        {"{\"keys\":[{\"kty\":\"OKP\"}]}", "it has no key for HS256, RS256 or ES256", false},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
         "an RSA key has at least 2048 bits", false},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "an HS256 secret has at least 32 bytes",
         false},
        {"{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\"}]}", "a key of type RSA has no n and e",
         false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char path[64], want[256];
        struct hg_writer problem = {0};
        write_file(path, "wrong", hg_bytes_str(rows[i].text));
        const char *secrets[] = {path};
        struct hg_token_spec spec = {.secrets = secrets,
                                     .secrets_n = rows[i].is_secret,
                                     .jwks = rows[i].is_secret ? NULL : path};
        assert_null(hg_token_keys_new(&spec, &problem));
        snprintf(want, sizeof(want), "\"%s\": %s", path, rows[i].why);
        assert_text(hg_writer_view(&problem), want);
        hg_writer_close(&problem);
        unlink(path);
    }
}

static void a_password_is_its_lines_only(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "secret",
        "$argon2id$",
        "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
        "$2b$12$abcdefghijklmnopqrstuuWnZ2yGzq5Jm6pH9w6v2CqK7y5yPWy1e",
        "$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$0Y7TEQLQMCKYlU2NWkxxzZXHdAwbYf2LWgNdC0XIWkU",
        "$argon2id$v=19$m=19456,t=999,p=1$c29tZXNhbHRzb21lc2FsdA$0Y7TEQLQMCKYlU2NWkxxzZXHdAwbYf2LWgNdC0XIWkU",
        "$argon2id$v=19$m=19456,t=2,p=1$***$0Y7TEQLQMCKYlU2NWkxxzZXHdAwbYf2LWgNdC0XIWkU",
    };
    char line[HG_PASSWORD_LINE_SIZE], other[HG_PASSWORD_LINE_SIZE];
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(hg_password_is_line(wrong[i]));
    }
    assert_true(hg_password_make(HG_BYTES("correct horse"), line));
    assert_true(hg_password_make(HG_BYTES("correct horse"), other));
    assert_string_not_equal(line, other);
    assert_true(hg_password_is_line(line));
    assert_true(hg_password_is(line, HG_BYTES("correct horse")));
    assert_false(hg_password_is(line, HG_BYTES("correct hors")));
    assert_false(hg_password_is(line, HG_BYTES("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_verifies_its_own_algorithm_only),
        cmocka_unit_test(what_is_claimed_is_checked),
        cmocka_unit_test(a_token_says_who_for_how_long_and_in_which_roles),
        cmocka_unit_test(no_part_of_a_token_can_change),
        cmocka_unit_test(a_key_that_is_none_is_named),
        cmocka_unit_test(a_password_is_its_lines_only),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
