/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, RFC 4648 sections 4 and 5. */
#include "base/base64.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
static const char plain[] = LETTERS "+/";
static const char url[] = LETTERS "-_";

/* Without padding; returns what is behind it. */
static uint8_t *encode(uint8_t *out, struct hg_bytes b, const char *alphabet)
{
    for (size_t i = 0; i < b.n; i += 3) {
        size_t left = b.n - i;
        uint32_t v = (uint32_t)b.p[i] << 16;
        v |= left > 1 ? (uint32_t)b.p[i + 1] << 8 : 0;
        v |= left > 2 ? b.p[i + 2] : 0;
        *out++ = (uint8_t)alphabet[v >> 18];
        *out++ = (uint8_t)alphabet[v >> 12 & 63];
        if (left > 1) {
            *out++ = (uint8_t)alphabet[v >> 6 & 63];
        }
        if (left > 2) {
            *out++ = (uint8_t)alphabet[v & 63];
        }
    }
    return out;
}

void hg_base64_encode(struct hg_writer *w, struct hg_bytes b)
{
    size_t out_n =
        b.n > SIZE_MAX / 4 ? SIZE_MAX : (b.n + 2) / 3 * 4; /* SIZE_MAX: the writer fails */
    uint8_t *out = out_n == 0 ? NULL : hg_writer_reserve(w, out_n);
    if (out == NULL) {
        return;
    }
    const uint8_t *end = out + out_n;
    for (out = encode(out, b, plain); out < end;) {
        *out++ = '=';
    }
    hg_writer_commit(w, out_n);
}

void hg_base64url_write(void *out, struct hg_bytes b)
{
    (void)encode(out, b, url);
}

/* 0..63, or 64 for what is not of the alphabet. */
static uint32_t value_of(uint8_t c, const char *alphabet)
{
    if (c >= 'A' && c <= 'Z') {
        return c - (uint32_t)'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - (uint32_t)'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - (uint32_t)'0' + 52;
    }
    return c == (uint8_t)alphabet[62] ? 62 : c == (uint8_t)alphabet[63] ? 63 : 64;
}

/* Bytes that so many letters are, without padding. */
static size_t decoded_n(size_t text_n)
{
    size_t rest = text_n % 4;
    return text_n / 4 * 3 + (rest > 0 ? rest - 1 : 0);
}

/* Text without padding. */
static bool decode(struct hg_bytes text, const char *alphabet, uint8_t *out)
{
    uint32_t v = 0;
    unsigned bits = 0; /* of v, that are not written yet */
    for (size_t i = 0; i < text.n; i++) {
        uint32_t digit = value_of(text.p[i], alphabet);
        if (digit == 64) {
            return false;
        }
        v = v << 6 | digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *out++ = (uint8_t)(v >> bits);
        }
    }
    /* One text for one content: the bits that are left over are zero (section 3.5). */
    return text.n % 4 != 1 && (v & ((1U << bits) - 1)) == 0;
}

static bool decode_to(struct hg_writer *w, struct hg_bytes text, const char *alphabet)
{
    size_t n = decoded_n(text.n);
    if (text.n % 4 == 1) {
        return false;
    }
    uint8_t *out = hg_writer_reserve(w, n);
    if (out == NULL) {
        return true; /* nothing wrong with the text; the writer says that it failed */
    }
    bool is_fine = decode(text, alphabet, out);
    hg_writer_commit(w, is_fine ? n : 0);
    return is_fine;
}

bool hg_base64_decode(struct hg_writer *w, struct hg_bytes text)
{
    if (text.n % 4 != 0) {
        return false;
    }
    if (text.n > 0 && text.p[text.n - 1] == '=') {
        text.n -= text.p[text.n - 2] == '=' ? 2 : 1;
    }
    return text.n == 0 || decode_to(w, text, plain);
}

bool hg_base64url_decode(struct hg_writer *w, struct hg_bytes text)
{
    return text.n == 0 || decode_to(w, text, url);
}

bool hg_base64url_read(struct hg_bytes text, uint8_t *out, size_t out_n)
{
    return decoded_n(text.n) == out_n && decode(text, url, out);
}
