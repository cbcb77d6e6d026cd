/* SPDX-License-Identifier: Apache-2.0 */
/* Writing keys and addresses after templates.
 *
 * A key that is too long, under overlong = "hash", becomes as many whole words of it as fit, then
 * the word `~`, then a hash of all of it: whole words, so that a binding that begins with literal
 * words still catches it, as `<words>.#.~.*`. */
#include "rules/key.h"

#include "message/topic.h"

enum { HASHED_TAIL_N = 2 + HG_FNV128_HEX_N, HASHED_PREFIX_MAX = HG_KEY_MAX - HASHED_TAIL_N };

struct key_writer {
    struct hg_sink sink;
    enum hg_escape escape;
    size_t words_n;
    size_t prefix_n;
    bool has_wildcard;
};

static void begin_word(struct key_writer *w)
{
    if (w->words_n++ > 0) {
        hg_sink_byte(&w->sink, '.');
    }
}

static void put_wildcard(struct key_writer *w, uint8_t c)
{
    begin_word(w);
    if (!w->has_wildcard) {
        w->prefix_n = w->sink.n;
        w->has_wildcard = true;
    }
    hg_sink_byte(&w->sink, c);
}

/* One level, or several joined by `/`. */
static void put_levels(struct key_writer *w, struct hg_bytes levels)
{
    begin_word(w);
    if (w->escape == HG_ESCAPE_PLAIN) {
        hg_plain_levels(&w->sink, levels);
    } else {
        hg_escape_levels(&w->sink, levels); /* callers let no `+` or `#` come here */
    }
}

static void put_filter_levels(struct key_writer *w, struct hg_bytes levels)
{
    struct hg_bytes level;
    bool has_more = true;
    while (hg_topic_next(&levels, &has_more, '/', &level)) {
        if (hg_bytes_eq(level, HG_BYTES("+"))) {
            put_wildcard(w, '*');
        } else if (hg_bytes_eq(level, HG_BYTES("#"))) {
            put_wildcard(w, '#');
        } else {
            put_levels(w, level);
        }
    }
}

static void put_capture(struct key_writer *w, const struct hg_part *part, size_t level,
                        const struct hg_cut *levels)
{
    bool is_one = part->kind == HG_PART_ONE;
    if (levels->is_filter && levels->open < levels->n && level >= levels->open) {
        put_wildcard(w, is_one ? '*' : '#');
        return;
    }
    if (level >= levels->n) {
        return; /* a rest of no levels */
    }
    struct hg_bytes taken = is_one ? levels->parts[level] : hg_cut_from(levels, level);
    if (levels->is_filter) {
        put_filter_levels(w, taken);
    } else {
        put_levels(w, taken);
    }
}

static void put_value(struct key_writer *w, struct hg_bytes value)
{
    begin_word(w);
    if (w->escape == HG_ESCAPE_PLAIN) {
        hg_sink_bytes(&w->sink, value);
    } else {
        hg_escape_value(&w->sink, value);
    }
}

static void put_key(struct key_writer *w, const struct hg_rule *rule, enum hg_protocol proto,
                    const struct hg_cut *levels, const struct hg_bytes *request)
{
    for (uint8_t i = 0; i < rule->key.n; i++) {
        const struct hg_part *part = &rule->key.parts[i];
        if (part->kind == HG_PART_LITERAL) {
            begin_word(w);
            hg_sink_bytes(&w->sink, hg_part_text(part));
        } else if (part->kind == HG_PART_REQUEST) {
            put_value(w, request[part->at[0]]);
        } else {
            put_capture(w, part, part->at[proto], levels);
        }
    }
}

/* Bytes of the longest run of whole words at the start of buf[0..n), their dots included, that fits
 * before a hashed tail. */
static size_t whole_words(const uint8_t *buf, size_t n)
{
    size_t i = n < HASHED_PREFIX_MAX ? n : HASHED_PREFIX_MAX;
    while (i > 0 && buf[i - 1] != '.') {
        i--;
    }
    return i;
}

/* The key is written a second time, now for its hash; rare. */
static void shorten(const struct hg_rule *rule, enum hg_protocol proto, const struct hg_cut *levels,
                    struct hg_key *out)
{
    struct hg_fnv128 hash;
    hg_fnv128_init(&hash);
    struct key_writer all = {.sink = {.hash = &hash}, .escape = rule->spec->escape};
    put_key(&all, rule, proto, levels, out->request);
    size_t n = whole_words(out->buf, HG_KEY_MAX);
    memcpy(out->buf + n, "~.", 2);
    hg_fnv128_hex(&hash, out->buf + n + 2);
    out->bytes = hg_bytes(out->buf, n + HASHED_TAIL_N);
    out->is_hashed = true;
}

enum hg_status hg_key_make(const struct hg_rule *rule, enum hg_protocol proto,
                           const struct hg_cut *levels, struct hg_key *out)
{
    out->has_wildcard = false;
    out->is_hashed = false;
    if (rule->key.captures_n == 0) {
        out->bytes = rule->key_text;
        out->prefix_n = rule->key_text.n;
        return HG_OK;
    }
    struct key_writer w = {.sink = {out->buf, HG_KEY_MAX, 0, NULL}, .escape = rule->spec->escape};
    put_key(&w, rule, proto, levels, out->request);
    out->has_wildcard = w.has_wildcard;
    out->prefix_n = w.has_wildcard ? w.prefix_n : w.sink.n;
    out->bytes = hg_bytes(out->buf, w.sink.n);
    if (w.sink.n > HG_KEY_MAX) {
        if (w.has_wildcard || rule->spec->overlong != HG_OVERLONG_HASH) {
            return HG_KEY_TOO_LONG;
        }
        shorten(rule, proto, levels, out);
    }
    return w.sink.n == 0 && w.words_n > 0 ? HG_BAD_ADDRESS : HG_OK;
}

void hg_key_cut_to_prefix(struct hg_key *key, const char *tail)
{
    size_t n = whole_words(key->buf, key->prefix_n);
    size_t tail_n = strlen(tail);
    memcpy(key->buf + n, tail, tail_n);
    key->bytes = hg_bytes(key->buf, n + tail_n);
}

size_t hg_address_bound(const struct hg_template *pattern, size_t key_bytes)
{
    size_t n = 3 * key_bytes;
    for (uint8_t i = 0; i < pattern->n; i++) {
        n += 1U + (pattern->parts[i].kind == HG_PART_LITERAL ? pattern->parts[i].n : 0);
    }
    return n;
}

/* The words that part `at` of the key template takes; p is NULL where it is a rest of none. */
static struct hg_bytes captured_words(const struct hg_template *key, uint8_t at,
                                      const struct hg_cut *words)
{
    if (at < key->rest) { /* HG_NO_PART is above all */
        return words->parts[at];
    }
    size_t behind = (size_t)(key->n - 1 - at);
    if (at > key->rest) {
        return words->parts[words->n - 1 - behind];
    }
    return hg_cut_slice(words, at, words->n - behind);
}

static bool put_words(struct hg_sink *out, struct hg_bytes words, const struct hg_part *part,
                      enum hg_escape escape)
{
    if (escape == HG_ESCAPE_LOSSLESS) {
        return hg_unescape_words(out, words);
    }
    bool is_one_level = part->kind == HG_PART_REST || hg_bytes_index(words, '/') == words.n;
    return is_one_level && hg_plain_words(out, words);
}

bool hg_address_make(const struct hg_rule *rule, enum hg_protocol proto, const struct hg_cut *words,
                     struct hg_sink *out)
{
    const struct hg_template *pattern = &rule->pattern[proto];
    for (uint8_t i = 0; i < pattern->n; i++) {
        const struct hg_part *part = &pattern->parts[i];
        struct hg_bytes taken = part->kind == HG_PART_LITERAL
                                    ? hg_part_text(part)
                                    : captured_words(&rule->key, part->at[0], words);
        if (part->kind == HG_PART_REST && taken.p == NULL) {
            continue;
        }
        if (i > 0) {
            hg_sink_byte(out, '/');
        }
        if (part->kind == HG_PART_LITERAL) {
            hg_sink_bytes(out, taken);
        } else if (!put_words(out, taken, part, rule->spec->escape)) {
            return false;
        }
    }
    return true;
}
