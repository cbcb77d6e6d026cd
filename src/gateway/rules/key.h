/* SPDX-License-Identifier: Apache-2.0 */
/* Keys out of addresses, binding keys out of filters, addresses out of keys, for one rule. */
#ifndef HG_RULES_KEY_H
#define HG_RULES_KEY_H

#include "rules/escape.h"
#include "rules/rules_priv.h"

struct hg_key {
    struct hg_bytes bytes; /* in buf, or in the configuration */
    bool has_wildcard;
    bool is_hashed;
    size_t prefix_n;                /* bytes before the first word that is a wildcard, or all */
    uint8_t *buf;                   /* HG_KEY_MAX bytes, the caller's */
    const struct hg_bytes *request; /* values, as the rule counts them; not for a filter */
};

/* The key that an address becomes, or the binding key that a filter becomes; the rule's pattern
 * takes `levels`. OK; KEY_TOO_LONG; BAD_ADDRESS where the key would be one empty word, which
 * RabbitMQ and a way back read as no word. */
enum hg_status hg_key_make(const struct hg_rule *rule, enum hg_protocol proto,
                           const struct hg_cut *levels, struct hg_key *out);
/* Replaces all after the literal words that a binding key (one that has a wildcard) begins with, as
 * far as hashed keys keep them. */
void hg_key_cut_to_prefix(struct hg_key *key, const char *tail);
/* Catches, as tail, hashed keys and little else. */
#define HG_HASHED_KEYS "#.~.*"

/* Most bytes that hg_address_make writes. */
size_t hg_address_bound(const struct hg_template *pattern, size_t key_bytes);
/* The address that a key becomes; the rule's key template takes its words. False if no address of
 * the pattern becomes this key. */
bool hg_address_make(const struct hg_rule *rule, enum hg_protocol proto, const struct hg_cut *words,
                     struct hg_sink *out);

#endif
