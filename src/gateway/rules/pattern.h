/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of addresses and keys: literals, `{name}` for one part, `{name...}` for any number of
 * them; and addresses, filters and keys cut into the parts that templates speak of. Borrows
 * everything, allocates nothing. */
#ifndef HG_RULES_PATTERN_H
#define HG_RULES_PATTERN_H

#include "rules/rules.h"

enum {
    HG_PARTS_MAX = 64, /* levels of a pattern, words of a key template: bits of a number */
    HG_NO_PART = 0xff
};

enum hg_part_kind {
    HG_PART_LITERAL,
    HG_PART_ONE,
    HG_PART_REST,
    HG_PART_REQUEST /* of a key only: {query.NAME} or {header.NAME} */
};
/* What a capture with this name must equal for a client that has an identity. */
enum hg_part_own { HG_OWN_NOTHING, HG_OWN_USER, HG_OWN_CLIENT_ID, HG_OWN_CLAIM };
#define HG_CLAIM_PREFIX "claim."

/* A level of a pattern or a word of a key template. */
struct hg_part {
    const uint8_t *text; /* the literal, or the capture's name; belongs to the configuration */
    uint16_t n;
    uint8_t kind;
    uint8_t own; /* enum hg_part_own */
    /* Where the same capture stands on the other side. In a key: the level of each protocol's
     * pattern that it comes from; of a REQUEST at[0] is its index among the rule's. In a pattern:
     * at[0] is the word of the key that it becomes. HG_NO_PART: nowhere. */
    uint8_t at[HG_PROTO_N];
};

struct hg_template {
    struct hg_part *parts; /* NULL: there is no template */
    uint8_t n;
    uint8_t rest; /* index of the part of kind REST, or HG_NO_PART */
    uint8_t captures_n;
    uint64_t captures; /* bit 1 << index: the part is no literal */
};

static inline struct hg_bytes hg_part_text(const struct hg_part *part)
{
    return hg_bytes(part->text, part->n);
}

/* Whether the inside of braces names a value of the HTTP request: query.NAME, header.NAME. */
bool hg_request_name_parse(struct hg_bytes text, struct hg_request_name *out);

/* How many parts there are at most. */
size_t hg_template_count(struct hg_bytes text, uint8_t sep);
/* Fills t and parts (room for hg_template_count). sep is `/` for a pattern, where the rest comes
 * last, `.` for a key; an empty text has no parts. NULL if fine, or static text that says what is
 * wrong with *part_out. */
const char *hg_template_parse(struct hg_template *t, struct hg_part *parts, struct hg_bytes text,
                              uint8_t sep, struct hg_bytes *part_out);
/* Index of the part that captures `name`, or HG_NO_PART. */
uint8_t hg_template_find(const struct hg_template *t, struct hg_bytes name);

/* Where part `at`, a capture, stands among the captures. */
size_t hg_template_capture_index(const struct hg_template *t, uint8_t at);

/* Text cut into parts as far as templates reach. */
struct hg_cut {
    struct hg_bytes text;
    const struct hg_bytes *parts;
    size_t n;
    size_t open; /* of a filter: the level that is `#`; n if none is */
    bool is_filter;
};

enum { HG_LEVELS_CUT = HG_PARTS_MAX + 1, HG_WORDS_CUT = HG_KEY_MAX + 1 };

/* parts: room for HG_LEVELS_CUT. Deeper levels, which no literal or `{name}` reaches, stay
 * uncut. */
struct hg_cut hg_cut_address(struct hg_bytes address, struct hg_bytes *parts);
struct hg_cut hg_cut_filter(struct hg_bytes filter, struct hg_bytes *parts);
/* parts: room for HG_WORDS_CUT; key.n <= HG_KEY_MAX. An empty key has no word: RabbitMQ reads it
 * so, too. */
struct hg_cut hg_cut_key(struct hg_bytes key, struct hg_bytes *parts);

/* What is left of the text from part i on; p is NULL when there is no part i. */
struct hg_bytes hg_cut_from(const struct hg_cut *cut, size_t i);
/* Parts i to j - 1 with the separators between them; p is NULL when i == j. */
struct hg_bytes hg_cut_slice(const struct hg_cut *cut, size_t i, size_t j);

#endif
