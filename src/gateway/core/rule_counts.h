/* SPDX-License-Identifier: Apache-2.0 */
/* What each rule has carried. Counted by each worker for itself, and by the rule's name, so that a
 * reload does not begin at zero: configurations share the counters of rules that both have. */
#ifndef HG_CORE_RULE_COUNTS_H
#define HG_CORE_RULE_COUNTS_H

#include "base/counter.h"
#include "core/config.h"

enum hg_rule_way {
    HG_RULE_IN,  /* publishes that the rule took */
    HG_RULE_OUT, /* deliveries that it mapped back */
    HG_RULE_WAYS
};

struct hg_rule_counts;

/* For the rules of a configuration, in the order of hg_vhost_spec.first_rule; `before`: of the one
 * that it follows, NULL for the first. NULL when there is no memory. */
struct hg_rule_counts *hg_rule_counts_new(const struct hg_config *config,
                                          struct hg_rule_counts *before);
/* Any thread; NULL is fine. */
struct hg_rule_counts *hg_rule_counts_ref(struct hg_rule_counts *c);
void hg_rule_counts_unref(struct hg_rule_counts *c);

/* One more, by this worker. NULL: nobody counts. */
void hg_rule_counts_add(const struct hg_rule_counts *c, size_t rule, enum hg_rule_way way,
                        unsigned worker);
/* All workers' together; any thread. */
uint64_t hg_rule_counts_sum(const struct hg_rule_counts *c, size_t rule, enum hg_rule_way way);

#endif
