/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use a rule: the roles it names, and captures that must be the client's own: {user},
 * {client_id} and {claim.NAME} in patterns. */
#ifndef HG_RULES_ACCESS_H
#define HG_RULES_ACCESS_H

#include "rules/rules.h"

struct hg_rule_who {
    struct hg_bytes user, client_id; /* empty: it has none, and no capture equals that */
    uint64_t roles;
    const void *claims; /* for `claim`, which is false where there is no such claim */
    bool (*claim)(const void *claims, struct hg_bytes name, struct hg_bytes *value_out);
};

/* Where hg_rules_publish led: whether `who` may publish so. */
bool hg_rules_may_publish(const struct hg_rules *r, const struct hg_rule_who *who,
                          enum hg_protocol proto, const struct hg_route *route);

/* What a message with an address takes to be shown: the right to subscribe to the first rule that
 * takes the address, and to the one that it was mapped back by. Made once for a delivery, for any
 * number of subscribers; borrows from the address. */
struct hg_rule_gate {
    uint64_t roles[2]; /* one of each */
    unsigned roles_n;
    size_t own_n; /* captures that must be the subscriber's own */
    struct hg_rule_own {
        const struct hg_part *part;
        struct hg_bytes is;
    } own[2 * HG_CAPTURES_MAX];
};

/* mapped_by: the rule, or SIZE_MAX. */
void hg_rule_gate_open(struct hg_rule_gate *g, const struct hg_rules *r, enum hg_protocol proto,
                       struct hg_bytes address, size_t mapped_by);
bool hg_rule_gate_admits(const struct hg_rule_gate *g, const struct hg_rule_who *who);

/* Shell-like: `*` is any number of any bytes. What begins with "headgate." is the gateway's own, and
 * is met only by a pattern that begins so itself. */
bool hg_access_name_matches(struct hg_bytes pattern, struct hg_bytes name);
/* As a topic exchange would: `*` is a word, `#` any number of them. */
bool hg_access_key_matches(struct hg_bytes pattern, struct hg_bytes key);

#endif
