/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and filters. The wildcard rules are libmosquitto's public checks; it allows 65,535
 * bytes and 200 slashes. Its mosquitto_validate_utf8 is not used: it may read up to three bytes
 * past a string that is cut inside a character, and our slices do not end in NUL. */
#include "message/topic.h"

#include "base/utf8.h"

#include <mosquitto.h>

/* Bytes of ASCII at the front of b, eight at a time: bodies are mostly that. */
static size_t ascii_prefix(struct hg_bytes b)
{
    size_t n = 0;
    for (uint64_t word; b.n - n >= sizeof(word); n += sizeof(word)) {
        memcpy(&word, b.p + n, sizeof(word));
        if ((word & 0x8080808080808080) != 0) {
            break;
        }
    }
    while (n < b.n && b.p[n] < 0x80) {
        n++;
    }
    return n;
}

bool hg_utf8_is_valid(struct hg_bytes b)
{
    while (b.n > 0) {
        b = hg_bytes_skip(b, ascii_prefix(b));
        if (b.n == 0) {
            return true;
        }
        uint32_t code;
        size_t n = hg_utf8_step(b, &code);
        if (n == 0) {
            return false;
        }
        b = hg_bytes_skip(b, n);
    }
    return true;
}

bool hg_utf8_is_clean(struct hg_bytes b)
{
    while (b.n > 0) {
        uint32_t code;
        size_t n = hg_utf8_step(b, &code);
        bool is_control = code < 0x20 || (code >= 0x7f && code <= 0x9f);
        bool is_noncharacter = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe;
        if (n == 0 || is_control || is_noncharacter) {
            return false;
        }
        b = hg_bytes_skip(b, n);
    }
    return true;
}

static const char *check_common(struct hg_bytes b, const struct hg_topic_limits *limits)
{
    if (b.n == 0) {
        return "is empty";
    }
    if (b.n > limits->max_bytes || b.n > HG_TOPIC_MAX_BYTES) {
        return "is too long";
    }
    if (hg_bytes_index(b, '\0') < b.n) {
        return "holds a NUL character";
    }
    if (!hg_utf8_is_valid(b)) {
        return "is not valid UTF-8";
    }
    size_t levels_n = 1;
    for (size_t i = 0; i < b.n; i++) {
        levels_n += b.p[i] == '/';
    }
    return levels_n > limits->max_levels || levels_n > HG_TOPIC_MAX_LEVELS ? "has too many levels"
                                                                           : NULL;
}

const char *hg_topic_check_address(struct hg_bytes address, const struct hg_topic_limits *limits)
{
    const char *wrong = check_common(address, limits);
    if (wrong == NULL && mosquitto_pub_topic_check2((const char *)address.p, address.n) != 0) {
        wrong = "holds a wildcard (+ or #)";
    }
    return wrong;
}

const char *hg_topic_check_filter(struct hg_bytes filter, const struct hg_topic_limits *limits)
{
    const char *wrong = check_common(filter, limits);
    if (wrong == NULL && mosquitto_sub_topic_check2((const char *)filter.p, filter.n) != 0) {
        wrong = "has a wildcard that is not alone in its level, or # before the end";
    }
    return wrong;
}

bool hg_topic_has_wildcard(struct hg_bytes filter)
{
    return hg_bytes_index(filter, '+') < filter.n || hg_bytes_index(filter, '#') < filter.n;
}

bool hg_topic_matches(struct hg_bytes filter, struct hg_bytes address)
{
    struct hg_bytes want;
    struct hg_bytes got;
    bool want_more = true;
    bool got_more = true;
    bool is_hidden = address.n > 0 && address.p[0] == '$'; /* from a wildcard in the first level */
    while (hg_topic_next(&filter, &want_more, '/', &want)) {
        if (hg_bytes_eq(want, HG_BYTES("#"))) {
            return !is_hidden;
        }
        if (!hg_topic_next(&address, &got_more, '/', &got)) {
            return false;
        }
        bool is_met = hg_bytes_eq(want, HG_BYTES("+")) ? !is_hidden : hg_bytes_eq(want, got);
        if (!is_met) {
            return false;
        }
        is_hidden = false;
    }
    return !got_more;
}

/* A place in a key: the words that are left. A key of no bytes has no words. */
struct words {
    struct hg_bytes rest;
    bool has_more;
};

static bool next_word(struct words *at, struct hg_bytes *word)
{
    return hg_topic_next(&at->rest, &at->has_more, '.', word);
}

bool hg_binding_matches(struct hg_bytes binding_key, struct hg_bytes routing_key)
{
    struct words want = {binding_key, binding_key.n > 0};
    struct words got = {routing_key, routing_key.n > 0};
    struct words after_hash = {0}; /* what follows the last `#` … */
    struct words taken = {0};      /* … and where in the routing key that `#` ends for now */
    bool has_hash = false;
    struct hg_bytes w;
    struct hg_bytes g;
    for (;;) {
        bool is_left = next_word(&want, &w);
        if (is_left && hg_bytes_eq(w, HG_BYTES("#"))) {
            after_hash = want;
            taken = got;
            has_hash = true;
            continue;
        }
        if (!is_left && !got.has_more) {
            return true;
        }
        if (is_left && next_word(&got, &g) &&
            (hg_bytes_eq(w, HG_BYTES("*")) || hg_bytes_eq(w, g))) {
            continue;
        }
        /* Let the last `#` take one word more; an earlier one taking more could not help. */
        if (!has_hash || !next_word(&taken, &g)) {
            return false;
        }
        want = after_hash;
        got = taken;
    }
}
