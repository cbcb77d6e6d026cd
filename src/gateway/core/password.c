/* SPDX-License-Identifier: Apache-2.0 */
#include "core/password.h"

#include "base/check.h"

#include <sodium.h>

/* What OWASP asks for at least: a gateway checks many at once. */
static const unsigned long long ROUNDS = 2;
static const size_t MEMORY_BYTES = (size_t)19 * 1024 * 1024;

enum { COST_KIB_MAX = 1024 * 1024, ROUNDS_MAX = 64 };

_Static_assert(HG_PASSWORD_LINE_SIZE == crypto_pwhash_argon2id_STRBYTES, "as libsodium has it");

/* The number behind `name` in the line's parameters. */
static uint64_t parameter(const char *line, const char *name)
{
    const char *at = strstr(line, name);
    struct hg_bytes digits = hg_bytes_str(at == NULL ? NULL : at + strlen(name));
    uint64_t v = UINT64_MAX;
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9') {
            digits.n = i;
        }
    }
    return hg_bytes_to_u64(digits, UINT64_MAX, &v) ? v : UINT64_MAX;
}

bool hg_password_is_line(const char *line)
{
    char padded[HG_PASSWORD_LINE_SIZE] = {0}; /* libsodium reads all of it */
    size_t n = strlen(line);
    if (n >= sizeof(padded) || strncmp(line, "$argon2id$", 10) != 0 ||
        parameter(line, "$m=") > COST_KIB_MAX || parameter(line, ",t=") > ROUNDS_MAX) {
        return false;
    }
    memcpy(padded, line, n);
    return crypto_pwhash_argon2id_str_needs_rehash(padded, ROUNDS, MEMORY_BYTES) >= 0;
}

bool hg_password_is(const char *line, struct hg_bytes password)
{
    char padded[HG_PASSWORD_LINE_SIZE] = {0};
    size_t n = strlen(line);
    HG_CHECK(n < sizeof(padded));
    memcpy(padded, line, n);
    return password.n <= HG_PASSWORD_MAX_BYTES &&
           crypto_pwhash_argon2id_str_verify(
               padded, password.n == 0 ? "" : (const char *)password.p, password.n) == 0;
}

bool hg_password_make(struct hg_bytes password, char line_out[HG_PASSWORD_LINE_SIZE])
{
    return sodium_init() >= 0 &&
           crypto_pwhash_argon2id_str(line_out, password.n == 0 ? "" : (const char *)password.p,
                                      password.n, ROUNDS, MEMORY_BYTES) == 0;
}
