/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of templates, cutting of addresses and keys. */
#include "rules/pattern.h"

#include "message/topic.h"

size_t hg_template_count(struct hg_bytes text, uint8_t sep)
{
    size_t n = 1;
    for (size_t i = 0; i < text.n; i++) {
        n += text.p[i] == sep;
    }
    return n;
}

static bool is_name(struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        uint8_t c = b.p[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!is_letter && !(c >= '0' && c <= '9') && c != '-') {
            return false;
        }
    }
    return b.n > 0 && b.n <= HG_KEY_MAX;
}

bool hg_request_name_parse(struct hg_bytes text, struct hg_request_name *out)
{
    struct hg_bytes query = HG_BYTES("query.");
    struct hg_bytes header = HG_BYTES("header.");
    out->is_header = hg_bytes_starts(text, header);
    if (!out->is_header && !hg_bytes_starts(text, query)) {
        return false;
    }
    out->name = hg_bytes_skip(text, out->is_header ? header.n : query.n);
    return is_name(out->name);
}

static const char *parse_literal(struct hg_part *part, struct hg_bytes text, uint8_t sep)
{
    bool has_plus = hg_bytes_index(text, '+') < text.n;
    bool has_hash = hg_bytes_index(text, '#') < text.n;
    if (hg_bytes_index(text, '{') < text.n || hg_bytes_index(text, '}') < text.n) {
        return sep == '/' ? "mixes text and braces: a level is a literal or one {name}"
                          : "mixes text and braces: a word is a literal or one {name}";
    }
    if (sep == '/' && (has_plus || has_hash)) {
        return "holds + or #, which stand in filters only: a pattern has {name} and {name...}";
    }
    if (sep == '.' && text.n == 1 && (text.p[0] == '*' || has_hash)) {
        return "would be a wildcard in a binding: a key has {name} and {name...}";
    }
    if (text.n > UINT16_MAX) {
        return "is too long";
    }
    *part = (struct hg_part){.text = text.p, .n = (uint16_t)text.n, .kind = HG_PART_LITERAL};
    return NULL;
}

static enum hg_part_own own_of(struct hg_bytes name)
{
    return hg_bytes_eq(name, HG_BYTES("user"))                ? HG_OWN_USER
           : hg_bytes_eq(name, HG_BYTES("client_id"))         ? HG_OWN_CLIENT_ID
           : hg_bytes_starts(name, HG_BYTES(HG_CLAIM_PREFIX)) ? HG_OWN_CLAIM
                                                              : HG_OWN_NOTHING;
}

static const char *parse_part(struct hg_part *part, struct hg_bytes text, uint8_t sep)
{
    if (text.n < 2 || text.p[0] != '{' || text.p[text.n - 1] != '}') {
        return parse_literal(part, text, sep);
    }
    struct hg_bytes name = hg_bytes(text.p + 1, text.n - 2);
    bool is_rest = name.n > 3 && memcmp(name.p + name.n - 3, "...", 3) == 0;
    name.n -= is_rest ? 3 : 0;
    struct hg_request_name request;
    bool is_request = sep == '.' && !is_rest && hg_request_name_parse(name, &request);
    enum hg_part_own own = own_of(name);
    struct hg_bytes plain =
        own == HG_OWN_CLAIM ? hg_bytes_skip(name, sizeof(HG_CLAIM_PREFIX) - 1) : name;
    if (!is_request && !is_name(plain)) {
        return own == HG_OWN_CLAIM
                   ? "names no claim: {claim.NAME}, made of letters, digits, _ and -"
               : sep == '/' ? "is no capture: its name is made of letters, digits, _ and -"
                            : "is neither a capture, whose name is made of letters, digits, _ and "
                              "-, nor {query.NAME} or {header.NAME}";
    }
    *part = (struct hg_part){name.p,
                             (uint16_t)name.n,
                             is_request ? HG_PART_REQUEST
                             : is_rest  ? HG_PART_REST
                                        : HG_PART_ONE,
                             (uint8_t)own,
                             {HG_NO_PART, HG_NO_PART, HG_NO_PART}};
    return NULL;
}

/* Takes the next part off *rest. What stands in braces is one part though it holds dots. */
static bool next_part(struct hg_bytes *rest, bool *has_more, uint8_t sep, struct hg_bytes *part)
{
    if (!hg_topic_next(rest, has_more, sep, part)) {
        return false;
    }
    struct hg_bytes tail;
    bool is_open = sep == '.' && part->n > 0 && part->p[0] == '{';
    while (is_open && hg_bytes_index(*part, '}') == part->n &&
           hg_topic_next(rest, has_more, sep, &tail)) {
        part->n = (size_t)(tail.p + tail.n - part->p);
    }
    return true;
}

const char *hg_template_parse(struct hg_template *t, struct hg_part *parts, struct hg_bytes text,
                              uint8_t sep, struct hg_bytes *part_out)
{
    bool has_more = sep == '/' || text.n > 0;
    *t = (struct hg_template){.parts = parts, .rest = HG_NO_PART};
    while (next_part(&text, &has_more, sep, part_out)) {
        if (t->n == HG_PARTS_MAX) {
            return "comes after 64 others, the most that a rule may have";
        }
        struct hg_part *part = &parts[t->n];
        const char *wrong = parse_part(part, *part_out, sep);
        if (wrong != NULL) {
            return wrong;
        }
        if (part->kind != HG_PART_LITERAL) {
            if (hg_template_find(t, hg_part_text(part)) != HG_NO_PART) {
                return "is captured twice";
            }
            if (t->captures_n++ == HG_CAPTURES_MAX) {
                return "is the 17th capture, and a rule may have 16";
            }
            t->captures |= (uint64_t)1 << t->n;
        }
        if (t->rest != HG_NO_PART && sep == '/') {
            return "follows a {name...}, which has to be the last level";
        }
        if (part->kind == HG_PART_REST) {
            if (t->rest != HG_NO_PART) {
                return "is a second {name...}";
            }
            t->rest = t->n;
        }
        t->n++;
    }
    return NULL;
}

uint8_t hg_template_find(const struct hg_template *t, struct hg_bytes name)
{
    for (uint8_t i = 0; i < t->n; i++) {
        if (t->parts[i].kind != HG_PART_LITERAL && hg_bytes_eq(hg_part_text(&t->parts[i]), name)) {
            return i;
        }
    }
    return HG_NO_PART;
}

size_t hg_template_capture_index(const struct hg_template *t, uint8_t at)
{
    size_t n = 0;
    for (uint8_t i = 0; i < at; i++) {
        n += t->parts[i].kind != HG_PART_LITERAL;
    }
    return n;
}

static struct hg_cut cut(struct hg_bytes text, uint8_t sep, struct hg_bytes *parts, size_t max)
{
    struct hg_bytes rest = text;
    bool has_more = true;
    size_t n = 0;
    while (n < max && hg_topic_next(&rest, &has_more, sep, &parts[n])) {
        n++;
    }
    return (struct hg_cut){.text = text, .parts = parts, .n = n, .open = n};
}

struct hg_cut hg_cut_address(struct hg_bytes address, struct hg_bytes *parts)
{
    return cut(address, '/', parts, HG_LEVELS_CUT);
}

struct hg_cut hg_cut_filter(struct hg_bytes filter, struct hg_bytes *parts)
{
    struct hg_cut c = cut(filter, '/', parts, HG_LEVELS_CUT);
    c.is_filter = true;
    if (hg_bytes_eq(parts[c.n - 1], HG_BYTES("#"))) {
        c.open = c.n - 1;
    }
    return c;
}

struct hg_cut hg_cut_key(struct hg_bytes key, struct hg_bytes *parts)
{
    return key.n == 0 ? (struct hg_cut){.text = key, .parts = parts}
                      : cut(key, '.', parts, HG_WORDS_CUT);
}

struct hg_bytes hg_cut_from(const struct hg_cut *cut, size_t i)
{
    if (i >= cut->n) {
        return (struct hg_bytes){0};
    }
    const uint8_t *end = cut->text.p + cut->text.n;
    return hg_bytes(cut->parts[i].p, (size_t)(end - cut->parts[i].p));
}

struct hg_bytes hg_cut_slice(const struct hg_cut *cut, size_t i, size_t j)
{
    if (i >= j) {
        return (struct hg_bytes){0};
    }
    const uint8_t *end = cut->parts[j - 1].p + cut->parts[j - 1].n;
    return hg_bytes(cut->parts[i].p, (size_t)(end - cut->parts[i].p));
}
