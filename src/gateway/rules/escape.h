/* SPDX-License-Identifier: Apache-2.0 */
/* Levels of an address <-> words of a routing key, so that nothing is lost on the way and no
 * address becomes a wildcard.
 *
 * An escape is `%`, any number of `25`, two hex digits. Towards a key `.` and `*` become `%2E` and
 * `%2A`, and `%2F`, `%2B`, `%23` become `/`, `+`, `#`; towards an address it is the mirror image.
 * An escape that would be read as one that the other direction wrote carries one `25` more on that
 * side. Upper-case digits only; every other byte stays as it is. */
#ifndef HG_RULES_ESCAPE_H
#define HG_RULES_ESCAPE_H

#include "base/bytes.h"

/* A 128-bit FNV-1a hash under way. Names overlong keys; not a defence: what it names is always
 * verified. */
struct hg_fnv128 {
    uint64_t hi, lo;
};

void hg_fnv128_init(struct hg_fnv128 *h);
void hg_fnv128_add(struct hg_fnv128 *h, struct hg_bytes b);

enum { HG_FNV128_HEX_N = 32 };
void hg_fnv128_hex(const struct hg_fnv128 *h, uint8_t out[HG_FNV128_HEX_N]);

/* Bounded output. Counts on past its capacity, so that one pass tells whether all fits; `hash`, if
 * given, sees every byte. */
struct hg_sink {
    uint8_t *out;
    size_t cap;
    size_t n; /* bytes given, of which the first `cap` are in out */
    struct hg_fnv128 *hash;
};

void hg_sink_byte(struct hg_sink *s, uint8_t c);
void hg_sink_bytes(struct hg_sink *s, struct hg_bytes b);

/* Levels joined by `/` -> words joined by `.`. False if a level holds `+` or `#`: those never stand
 * in an address. */
bool hg_escape_levels(struct hg_sink *out, struct hg_bytes levels);
/* What is no level, and may hold `/`, `+` and `#`, -> one word; no two values become the same. */
void hg_escape_value(struct hg_sink *out, struct hg_bytes value);
/* Words joined by `.` -> levels joined by `/`. False if a word holds `*`: no level becomes that. */
bool hg_unescape_words(struct hg_sink *out, struct hg_bytes words);
/* The RabbitMQ plugins' way: `/` becomes `.`, and back; lossy where a level holds `.` or a word
 * `/`. */
void hg_plain_levels(struct hg_sink *out, struct hg_bytes levels);
/* False if a word holds `+` or `#`. */
bool hg_plain_words(struct hg_sink *out, struct hg_bytes words);

#endif
