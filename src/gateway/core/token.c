/* SPDX-License-Identifier: Apache-2.0 */
/* What a token says, and whether it may be believed. */
#include "core/token.h"

#include "base/base64.h"
#include "core/token_keys.h"
#include "message/topic.h"

#include <jansson.h>

/* ---- Its parts (RFC 7515 section 3.1) ---- */

struct parts {
    struct hg_bytes signed_text; /* header and payload with the dot between */
    struct hg_bytes header, payload, signature;
};

static bool split(struct hg_bytes text, struct parts *out)
{
    size_t first = hg_bytes_index(text, '.');
    if (first == text.n) {
        return false;
    }
    struct hg_bytes rest = hg_bytes_skip(text, first + 1);
    size_t second = hg_bytes_index(rest, '.');
    if (second == rest.n) {
        return false;
    }
    out->header = hg_bytes(text.p, first);
    out->payload = hg_bytes(rest.p, second);
    out->signature = hg_bytes_skip(rest, second + 1);
    out->signed_text = hg_bytes(text.p, first + 1 + second);
    return hg_bytes_index(out->signature, '.') == out->signature.n && first > 0 && second > 0;
}

static bool is_base64url(struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        uint8_t c = b.p[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!is_letter && !(c >= '0' && c <= '9') && c != '-' && c != '_') {
            return false;
        }
    }
    return true;
}

static bool read_parts(struct hg_bytes text, struct parts *out)
{
    return text.n <= HG_TOKEN_MAX_BYTES && split(text, out) && is_base64url(out->header) &&
           is_base64url(out->payload) && is_base64url(out->signature);
}

bool hg_token_is_like(struct hg_bytes text)
{
    struct parts p;
    return hg_bytes_starts(text, HG_BYTES("ey")) && read_parts(text, &p); /* {" */
}

/* NULL: it is no object. A name that comes twice could be read in two ways: refused. */
static json_t *read_object(struct hg_bytes base64)
{
    struct hg_writer w = {0};
    json_t *object = NULL;
    if (hg_base64url_decode(&w, base64) && !w.failed) {
        struct hg_bytes text = hg_writer_view(&w);
        object = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
    }
    hg_writer_close(&w);
    if (!json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static struct hg_bytes text_of(const json_t *value)
{
    return json_is_string(value) ? hg_bytes(json_string_value(value), json_string_length(value))
                                 : (struct hg_bytes){0};
}

/* ---- The signature ---- */

/* NULL or why not. */
static const char *check_signature(const struct hg_token_keys *keys, const struct parts *p)
{
    json_t *header = read_object(p->header);
    struct hg_writer signature = {0};
    const char *why = "the token is malformed";
    if (header != NULL && hg_base64url_decode(&signature, p->signature) && !signature.failed) {
        const struct hg_token_signed what = {
            .algorithm = hg_token_algorithm(text_of(json_object_get(header, "alg"))),
            .key_id = text_of(json_object_get(header, "kid")),
            .text = p->signed_text,
            .signature = hg_writer_view(&signature)};
        if (what.algorithm == HG_TOKEN_ALGORITHM_N) {
            why = "the token's algorithm is none of HS256, RS256, ES256";
        } else if (json_object_get(header, "crit") != NULL) {
            why = "the token asks for an extension (crit)"; /* RFC 7515 section 4.1.11 */
        } else {
            why = hg_token_keys_verify(keys, &what) ? NULL : "no key verifies the token";
        }
    }
    hg_writer_close(&signature);
    json_decref(header);
    return why;
}

/* ---- What it claims (RFC 7519 section 4.1) ---- */

/* Milliseconds of a NumericDate; false: it is none. */
static bool read_date(const json_t *value, uint64_t *ms_out)
{
    double s = json_number_value(value);
    if (!json_is_number(value) || !(s >= 0) || s > 253402300799.0) { /* the year 9999 */
        return false;
    }
    *ms_out = (uint64_t)(s * 1000);
    return true;
}

static bool names_audience(const json_t *aud, const char *audience)
{
    struct hg_bytes wanted = hg_bytes_str(audience);
    size_t n = json_is_array(aud) ? json_array_size(aud) : 1;
    for (size_t i = 0; i < n && audience != NULL; i++) {
        if (hg_bytes_eq(text_of(json_is_array(aud) ? json_array_get(aud, i) : aud), wanted)) {
            return true;
        }
    }
    return aud == NULL && audience == NULL;
}

static const char *check_times(const struct hg_token_spec *spec, const json_t *claims, uint64_t now,
                               uint64_t *expires_ms_out, bool *is_expired_out)
{
    const json_t *begins = json_object_get(claims, "nbf");
    uint64_t ms;
    if (!read_date(json_object_get(claims, "exp"), &ms)) {
        return "the token has no end (exp)";
    }
    *expires_ms_out = ms + spec->leeway_ms;
    if (now >= *expires_ms_out) {
        *is_expired_out = true;
        return "the token has expired";
    }
    if (begins != NULL && (!read_date(begins, &ms) || now + spec->leeway_ms < ms)) {
        return "the token is not valid yet (nbf)";
    }
    return NULL;
}

static const char *check_claims(const struct hg_token_spec *spec, uint64_t now, struct hg_token *t,
                                bool *is_expired_out)
{
    const char *why = check_times(spec, t->claims, now, &t->expires_wall_ms, is_expired_out);
    if (why != NULL) {
        return why;
    }
    if (spec->issuer != NULL &&
        !hg_bytes_eq(text_of(json_object_get(t->claims, "iss")), hg_bytes_str(spec->issuer))) {
        return "the token is of another issuer (iss)";
    }
    if (!names_audience(json_object_get(t->claims, "aud"), spec->audience)) {
        return "the token is for another audience (aud)";
    }
    t->user = text_of(json_object_get(t->claims, spec->user_claim));
    if (t->user.n == 0 || t->user.n > HG_TOKEN_USER_MAX || !hg_utf8_is_clean(t->user)) {
        return "the token names no user";
    }
    return NULL;
}

const char *hg_token_check(const struct hg_token_spec *spec, struct hg_bytes text,
                           uint64_t now_wall_ms, struct hg_token *out, bool *is_expired_out)
{
    struct parts parts;
    *out = (struct hg_token){0};
    *is_expired_out = false;
    if (!read_parts(text, &parts)) {
        return "the token is malformed";
    }
    const char *why = check_signature(spec->keys, &parts);
    if (why == NULL) {
        out->claims = read_object(parts.payload);
        why = out->claims == NULL ? "the token is malformed"
                                  : check_claims(spec, now_wall_ms, out, is_expired_out);
    }
    if (why != NULL) {
        hg_token_close(out);
    }
    return why;
}

void hg_token_close(struct hg_token *t)
{
    json_decref(t->claims);
    *t = (struct hg_token){0};
}

/* The claim itself, or what its dotted path leads to. */
static const json_t *claim_at(const json_t *claims, const char *path)
{
    const json_t *found = json_object_get(claims, path);
    const json_t *at = claims;
    while (found == NULL && at != NULL) {
        size_t n = strcspn(path, ".");
        json_t *inner = NULL;
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)at, key, value)
        {
            inner = strlen(key) == n && memcmp(key, path, n) == 0 ? value : inner;
        }
        if (path[n] == '\0') {
            return inner;
        }
        at = inner;
        path += n + 1;
    }
    return found;
}

void hg_token_roles(const struct hg_token_spec *spec, const struct hg_token *t,
                    void (*each)(void *ctx, struct hg_bytes role), void *ctx)
{
    const json_t *roles = claim_at(t->claims, spec->roles_claim);
    struct hg_bytes list = text_of(roles); /* "a b c", as OAuth's scope is */
    for (size_t i = 0; json_is_array(roles) && i < json_array_size(roles); i++) {
        each(ctx, text_of(json_array_get(roles, i)));
    }
    while (list.n > 0) {
        struct hg_bytes role = hg_bytes(list.p, hg_bytes_index(list, ' '));
        list = hg_bytes_skip(list, role.n + (role.n < list.n));
        each(ctx, role);
    }
}

bool hg_token_next_claim(const struct hg_token *t, void **at, struct hg_bytes *name_out,
                         struct hg_bytes *value_out)
{
    *at = *at == NULL ? json_object_iter(t->claims) : json_object_iter_next(t->claims, *at);
    while (*at != NULL && !json_is_string(json_object_iter_value(*at))) {
        *at = json_object_iter_next(t->claims, *at);
    }
    if (*at == NULL) {
        return false;
    }
    *name_out = hg_bytes_str(json_object_iter_key(*at));
    *value_out = text_of(json_object_iter_value(*at));
    return true;
}
