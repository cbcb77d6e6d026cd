/* SPDX-License-Identifier: Apache-2.0 */
/* What bindings.c asks of access.c. */
#ifndef HG_RULES_ACCESS_PRIV_H
#define HG_RULES_ACCESS_PRIV_H

#include "rules/access.h"
#include "rules/rules_priv.h"

/* Whether it has one of the roles, and every capture of its own is, or in a filter may be, what it
 * must be; the rule's pattern takes `levels`. who may be NULL: true. */
bool hg_rule_admits(const struct hg_rule *rule, const struct hg_rule_who *who, uint64_t roles,
                    enum hg_protocol proto, const struct hg_cut *levels);

#endif
