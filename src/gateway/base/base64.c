/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, RFC 4648 sections 4 and 5. */
#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hg_base64_encode(struct hg_writer *w, struct hg_bytes b)
{
    size_t out_n =
        b.n > SIZE_MAX / 4 ? SIZE_MAX : (b.n + 2) / 3 * 4; /* SIZE_MAX: the writer fails */
    uint8_t *out = out_n == 0 ? NULL : hg_writer_reserve(w, out_n);
    if (out == NULL) {
        return;
    }
    for (size_t i = 0; i < b.n; i += 3, out += 4) {
        size_t left = b.n - i;
        uint32_t v = (uint32_t)b.p[i] << 16;
        v |= left > 1 ? (uint32_t)b.p[i + 1] << 8 : 0;
        v |= left > 2 ? b.p[i + 2] : 0;
        out[0] = (uint8_t)alphabet[v >> 18];
        out[1] = (uint8_t)alphabet[v >> 12 & 63];
        out[2] = left > 1 ? (uint8_t)alphabet[v >> 6 & 63] : '=';
        out[3] = left > 2 ? (uint8_t)alphabet[v & 63] : '=';
    }
    hg_writer_commit(w, out_n);
}

/* 0..63, or 64 for what is not of the alphabet. */
static uint32_t value_of(uint8_t c)
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
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

bool hg_base64_decode(struct hg_writer *w, struct hg_bytes text)
{
    if (text.n % 4 != 0) {
        return false;
    }
    if (text.n == 0) {
        return true;
    }
    size_t pad = text.p[text.n - 1] != '=' ? 0 : text.p[text.n - 2] != '=' ? 1 : 2;
    uint8_t *out = hg_writer_reserve(w, text.n / 4 * 3);
    if (out == NULL) {
        return true; /* nothing wrong with the text; the writer says that it failed */
    }
    uint32_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        bool is_pad = i >= text.n - pad;
        uint32_t digit = is_pad ? 0 : value_of(text.p[i]);
        if (digit == 64) {
            return false;
        }
        v = v << 6 | digit;
        if (i % 4 == 3) {
            *out++ = (uint8_t)(v >> 16);
            *out++ = (uint8_t)(v >> 8);
            *out++ = (uint8_t)v;
        }
    }
    /* One text for one content: the bits that padding leaves over are zero (section 3.5). */
    if ((pad > 0 && (v & 0xff) != 0) || (pad > 1 && (v & 0xffff) != 0)) {
        return false;
    }
    hg_writer_commit(w, text.n / 4 * 3 - pad);
    return true;
}

bool hg_base64url_decode(struct hg_writer *w, struct hg_bytes text)
{
    struct hg_writer plain = {0};
    size_t pad = (4 - text.n % 4) % 4;
    bool is_fine = pad < 3;
    for (size_t i = 0; i < text.n && is_fine; i++) {
        uint8_t c = text.p[i];
        is_fine = c != '+' && c != '/' && c != '=';
        hg_writer_u8(&plain, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    hg_writer_str(&plain, pad == 0 ? "" : pad == 1 ? "=" : "==");
    if (plain.failed) {
        w->failed = true;
    } else {
        is_fine = is_fine && hg_base64_decode(w, hg_writer_view(&plain));
    }
    hg_writer_close(&plain);
    return is_fine;
}
