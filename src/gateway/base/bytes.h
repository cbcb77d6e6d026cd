/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed slice of bytes: never owns, may be empty, need not end in NUL. */
#ifndef HG_BASE_BYTES_H
#define HG_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hg_bytes {
    const uint8_t *p; /* may be NULL only when n is 0 */
    size_t n;
};

/* For a string literal: "abc" without its NUL. */
#define HG_BYTES(literal) ((struct hg_bytes){(const uint8_t *)("" literal), sizeof(literal) - 1})

/* For "%.*s". */
#define HG_BYTES_FMT(b) (int)(b).n, (const char *)(b).p

static inline struct hg_bytes hg_bytes(const void *p, size_t n)
{
    return (struct hg_bytes){p, n};
}

static inline struct hg_bytes hg_bytes_str(const char *s)
{
    return (struct hg_bytes){(const uint8_t *)s, s == NULL ? 0 : strlen(s)};
}

static inline bool hg_bytes_eq(struct hg_bytes a, struct hg_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII letters compare without case; every other byte as it is. */
static inline bool hg_bytes_eq_nocase(struct hg_bytes a, struct hg_bytes b)
{
    if (a.n != b.n || (a.n > 0 && ((a.p[0] ^ b.p[0]) & 0xdf) != 0)) {
        return false;
    }
    if (hg_bytes_eq(a, b)) { /* mostly it is written alike */
        return true;
    }
    for (size_t i = 0; i < a.n; i++) {
        uint8_t x = a.p[i];
        uint8_t y = b.p[i];
        x = (uint8_t)(x >= 'A' && x <= 'Z' ? x + 32 : x);
        y = (uint8_t)(y >= 'A' && y <= 'Z' ? y + 32 : y);
        if (x != y) {
            return false;
        }
    }
    return true;
}

static inline bool hg_bytes_starts(struct hg_bytes b, struct hg_bytes prefix)
{
    return b.n >= prefix.n && (prefix.n == 0 || memcmp(b.p, prefix.p, prefix.n) == 0);
}

/* The slice without its first n bytes; n <= b.n. */
static inline struct hg_bytes hg_bytes_skip(struct hg_bytes b, size_t n)
{
    return (struct hg_bytes){n == 0 ? b.p : b.p + n, b.n - n};
}

/* Index of the first c, or b.n if there is none. */
static inline size_t hg_bytes_index(struct hg_bytes b, uint8_t c)
{
    const uint8_t *hit = b.n == 0 ? NULL : memchr(b.p, c, b.n);
    return hit == NULL ? b.n : (size_t)(hit - b.p);
}

/* Takes the first n bytes off *in; false, and *in empty, if there are fewer. */
static inline bool hg_bytes_take(struct hg_bytes *in, size_t n, struct hg_bytes *out)
{
    if (in->n < n) {
        *in = (struct hg_bytes){0};
        return false;
    }
    *out = hg_bytes(in->p, n);
    *in = hg_bytes_skip(*in, n);
    return true;
}

/* The same as a number of n bytes (at most 8), big-endian. */
static inline bool hg_bytes_take_number(struct hg_bytes *in, size_t n, uint64_t *out)
{
    struct hg_bytes b;
    if (!hg_bytes_take(in, n, &b)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        *out = *out << 8 | b.p[i];
    }
    return true;
}

/* Decimal digits only, no sign, no blank; false if empty, malformed or over max. */
static inline bool hg_bytes_to_u64(struct hg_bytes b, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (b.n == 0) {
        return false;
    }
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] < '0' || b.p[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(b.p[i] - '0');
        if (v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *out = v;
    return v <= max;
}

#endif
