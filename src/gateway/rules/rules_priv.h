/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder, and their tests, share: the compiled table. */
#ifndef HG_RULES_RULES_PRIV_H
#define HG_RULES_RULES_PRIV_H

#include "base/map.h"
#include "rules/matcher.h"

struct hg_rule {
    const struct hg_rule_spec *spec;
    struct hg_template pattern[HG_PROTO_N]; /* parts is NULL where it is not served */
    struct hg_template key;
    struct hg_bytes
        key_text; /* as written: the key itself when nothing is captured; the name of a queue */
    struct hg_bytes exchange; /* "" for a queue rule */
    enum hg_exchange_type type;
    uint8_t reversible;      /* bit 1 << proto: the key holds every capture of that pattern */
    bool has_address_header; /* sets x-headgate-address = "{address}" itself */
    bool has_request_key;    /* the key names some of these, so it says more than an address can */
    uint8_t request_n;
    struct hg_request_name *request; /* what key and headers name of the HTTP request */
};

struct hg_exchange {
    const char *where; /* NULL: a standard one */
    struct hg_bytes name;
    enum hg_exchange_type type;
    uint32_t root; /* of the trie over keys that maps its deliveries back */
    /* For exchanges that do not look at the key: the lowest rule of one address only, taken when no
     * key template fits. */
    uint32_t fallback[HG_PROTO_N];
};

struct hg_rules {
    struct hg_rule *rules;
    size_t rules_n;
    struct hg_part *parts; /* of all templates */
    struct hg_exchange *exchanges;
    size_t exchanges_n;
    struct hg_map by_name; /* exchange name -> struct hg_exchange */
    struct hg_matcher matcher;
    uint32_t patterns; /* root of the trie over levels */
};

#define HG_ADDRESS_HEADER "x-headgate-address"

static inline bool hg_exchange_ignores_key(enum hg_exchange_type type)
{
    return type == HG_EXCHANGE_FANOUT || type == HG_EXCHANGE_HEADERS;
}

static inline bool hg_rule_serves(const struct hg_rule *rule, enum hg_protocol proto)
{
    return rule->pattern[proto].parts != NULL;
}

/* Takes the next piece, as written, off a header template: text, or a {name} (then name_out->p is
 * not NULL; without the `...` of a rest). False at the end. */
bool hg_header_next(struct hg_bytes *rest, struct hg_bytes *text_out, struct hg_bytes *name_out);
/* Index of a value of the request among those that the rule names, rule->request_n if it does not. */
uint8_t hg_rule_request_find(const struct hg_rule *rule, const struct hg_request_name *name);
/* NULL if fine, else static text that says what is wrong with *piece_out. */
const char *hg_header_check(const struct hg_rule *rule, size_t i, struct hg_bytes *piece_out);

#endif
