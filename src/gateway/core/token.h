/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens (RFC 7519, RFC 7515): HS256, RS256 and ES256. A key verifies the one algorithm
 * that it is for, whatever a token's header says, and nothing verifies "none". */
#ifndef HG_CORE_TOKEN_H
#define HG_CORE_TOKEN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HG_TOKEN_MAX_BYTES = 16 * 1024,
    HG_TOKEN_KEYS_MAX = 64,
    HG_TOKEN_CLAIMS_MAX = 32, /* that are texts; more of them are not seen */
    HG_TOKEN_USER_MAX = 255
};

struct hg_token_keys; /* may be used by several threads */

struct hg_token_spec {
    const char *const *secrets; /* files: the bytes of an HS256 key, less a line's end */
    size_t secrets_n;
    const char *const *pems; /* files: a public key or a certificate, RSA or P-256 */
    size_t pems_n;
    const char *jwks;              /* file: a JSON Web Key Set (RFC 7517); NULL: none */
    const char *issuer, *audience; /* NULL: any; none that names an audience */
    const char *user_claim;        /* its text is the user's name */
    const char *roles_claim;       /* "a.b": b within the object a */
    uint64_t leeway_ms;            /* for clocks that differ */
    struct hg_token_keys *keys;    /* made from the files */
};

/* Reads the files. NULL, and in *problem_out what is wrong with which of them. */
struct hg_token_keys *hg_token_keys_new(const struct hg_token_spec *spec,
                                        struct hg_writer *problem_out);
void hg_token_keys_free(struct hg_token_keys *keys); /* NULL is fine */

struct json_t;

/* What a token says, once it is verified; slices borrow from `claims`. */
struct hg_token {
    struct json_t *claims; /* the caller's, for hg_token_close */
    struct hg_bytes user;
    uint64_t expires_wall_ms; /* the leeway included */
};

/* NULL, and *out is filled; else static text that says why it is not good, and is_expired_out
 * whether only its time is over. */
const char *hg_token_check(const struct hg_token_spec *spec, struct hg_bytes text,
                           uint64_t now_wall_ms, struct hg_token *out, bool *is_expired_out);
void hg_token_close(struct hg_token *t);

/* Hands out each role that the token names. */
void hg_token_roles(const struct hg_token_spec *spec, const struct hg_token *t,
                    void (*each)(void *ctx, struct hg_bytes role), void *ctx);
/* The n-th claim that is a text. False: there are no more. */
bool hg_token_next_claim(const struct hg_token *t, void **at, struct hg_bytes *name_out,
                         struct hg_bytes *value_out);

/* Whether it looks like one: three parts of base64url, the first an object. */
bool hg_token_is_like(struct hg_bytes text);

#endif
