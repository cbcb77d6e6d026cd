/* SPDX-License-Identifier: Apache-2.0 */
/* The two-way escape between addresses and routing keys, and the hash that shortens a key. */
#include "rules/escape.h"

#include "base/percent.h"

void hg_fnv128_init(struct hg_fnv128 *h)
{
    *h = (struct hg_fnv128){0x6c62272e07bb0142, 0x62b821756295c58d};
}

/* h = (h ^ byte) * (2^88 + 0x13b), mod 2^128. */
static void fnv128_byte(struct hg_fnv128 *h, uint8_t c)
{
    uint64_t lo = h->lo ^ c;
    uint64_t low = (lo & 0xffffffff) * 0x13b;
    uint64_t high = (lo >> 32) * 0x13b + (low >> 32);
    h->hi = h->hi * 0x13b + (high >> 32) + (lo << 24);
    h->lo = (high << 32) | (low & 0xffffffff);
}

void hg_fnv128_add(struct hg_fnv128 *h, struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        fnv128_byte(h, b.p[i]);
    }
}

void hg_fnv128_hex(const struct hg_fnv128 *h, uint8_t out[HG_FNV128_HEX_N])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < HG_FNV128_HEX_N; i++) {
        uint64_t half = i < 16 ? h->hi : h->lo;
        out[i] = (uint8_t)digits[(half >> (60 - 4 * (i % 16))) & 15];
    }
}

void hg_sink_byte(struct hg_sink *s, uint8_t c)
{
    if (s->n < s->cap) {
        s->out[s->n] = c;
    }
    s->n++;
    if (s->hash != NULL) {
        fnv128_byte(s->hash, c);
    }
}

void hg_sink_bytes(struct hg_sink *s, struct hg_bytes b)
{
    if (s->n < s->cap && b.n > 0) {
        size_t room = s->cap - s->n;
        memcpy(s->out + s->n, b.p, b.n < room ? b.n : room);
    }
    s->n += b.n;
    if (s->hash != NULL) {
        hg_fnv128_add(s->hash, b);
    }
}

/* The character that the two hex digits of an escape stand for, 0 if it is none of ours. */
static uint8_t escaped_char(const uint8_t hex[2])
{
    if (hex[0] != '2') {
        return 0;
    }
    switch (hex[1]) {
    case 'E': return '.';
    case 'A': return '*';
    case 'F': return '/';
    case 'B': return '+';
    case '3': return '#';
    default: return 0;
    }
}

/* Whether keys, rather than addresses, cannot hold the character in a word of theirs. */
static bool is_special_in_keys(uint8_t c)
{
    return c == '.' || c == '*';
}

static void put_escape(struct hg_sink *out, uint8_t c)
{
    uint8_t text[HG_PERCENT_N];
    (void)hg_percent_write(text, c);
    hg_sink_bytes(out, hg_bytes(text, sizeof(text)));
}

/* What the escape that `in` begins with stands for, 0 if it is none of ours; *n_out: its bytes before
 * the last two digits. */
static uint8_t escape_at(struct hg_bytes in, size_t *n_out)
{
    size_t k = 1; /* past `%` and every `25` */
    while (in.n - k >= 2 && in.p[k] == '2' && in.p[k + 1] == '5') {
        k += 2;
    }
    *n_out = k;
    return in.n - k >= 2 ? escaped_char(in.p + k) : 0;
}

/* What stands at a `%`: returns how many bytes of it are dealt with. */
static size_t put_percent(struct hg_sink *out, struct hg_bytes in, bool is_to_key)
{
    size_t k;
    uint8_t c = escape_at(in, &k);
    if (c == 0) {
        hg_sink_byte(out, '%');
        return 1;
    }
    if (is_special_in_keys(c) == is_to_key) { /* we write such escapes ourselves: keep it apart */
        hg_sink_bytes(out, HG_BYTES("%25"));
        hg_sink_bytes(out, hg_bytes(in.p + 1, k + 1));
    } else if (k == 1) {
        hg_sink_byte(out, c);
    } else {
        hg_sink_byte(out, '%');
        hg_sink_bytes(out, hg_bytes(in.p + 3, k - 1));
    }
    return k + 2;
}

/* Both directions. False at a character that the source side cannot hold in a level or word. */
static bool transcode(struct hg_sink *out, struct hg_bytes in, bool is_to_key)
{
    const uint8_t from = is_to_key ? '/' : '.';
    const uint8_t to = is_to_key ? '.' : '/';
    size_t done = 0; /* everything before is written */
    for (size_t i = 0; i < in.n;) {
        uint8_t c = in.p[i];
        bool is_special = c == '.' || c == '*' || c == '/' || c == '+' || c == '#';
        if (!is_special && c != '%') {
            i++;
            continue;
        }
        hg_sink_bytes(out, hg_bytes(in.p + done, i - done));
        if (c == '%') {
            i += put_percent(out, hg_bytes_skip(in, i), is_to_key);
        } else if (c == from) {
            hg_sink_byte(out, to);
            i++;
        } else if (is_special_in_keys(c) == is_to_key) {
            put_escape(out, c);
            i++;
        } else {
            return false;
        }
        done = i;
    }
    hg_sink_bytes(out, hg_bytes_skip(in, done));
    return true;
}

bool hg_escape_levels(struct hg_sink *out, struct hg_bytes levels)
{
    return transcode(out, levels, true);
}

void hg_escape_value(struct hg_sink *out, struct hg_bytes value)
{
    for (size_t i = 0; i < value.n;) {
        uint8_t c = value.p[i];
        struct hg_bytes rest = hg_bytes_skip(value, i);
        size_t n;
        if (c == '%' && is_special_in_keys(escape_at(rest, &n))) {
            i += put_percent(out, rest, true);
            continue;
        }
        if (is_special_in_keys(c)) {
            put_escape(out, c);
        } else {
            hg_sink_byte(out, c);
        }
        i++;
    }
}

bool hg_unescape_words(struct hg_sink *out, struct hg_bytes words)
{
    return transcode(out, words, false);
}

void hg_plain_levels(struct hg_sink *out, struct hg_bytes levels)
{
    while (levels.n > 0) {
        struct hg_bytes level = hg_bytes(levels.p, hg_bytes_index(levels, '/'));
        hg_sink_bytes(out, level);
        levels = hg_bytes_skip(levels, level.n);
        if (levels.n > 0) {
            hg_sink_byte(out, '.');
            levels = hg_bytes_skip(levels, 1);
        }
    }
}

bool hg_plain_words(struct hg_sink *out, struct hg_bytes words)
{
    for (size_t i = 0; i < words.n; i++) {
        if (words.p[i] == '+' || words.p[i] == '#') {
            return false;
        }
        hg_sink_byte(out, words.p[i] == '.' ? '/' : words.p[i]);
    }
    return true;
}
