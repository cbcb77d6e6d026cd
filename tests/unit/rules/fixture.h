/* SPDX-License-Identifier: Apache-2.0 */
/* Rule tables for tests, written in few words. */
#ifndef HG_TESTS_RULES_FIXTURE_H
#define HG_TESTS_RULES_FIXTURE_H

#include "rules/rules.h"
#include "seam/unit.h"

static const struct hg_exchange_spec fixture_exchanges[] = {
    {"f:1:1", "telemetry", HG_EXCHANGE_TOPIC}, {"f:2:1", "events", HG_EXCHANGE_TOPIC},
    {"f:3:1", "orders", HG_EXCHANGE_DIRECT},   {"f:4:1", "news", HG_EXCHANGE_FANOUT},
    {"f:5:1", "typed", HG_EXCHANGE_HEADERS},   {"f:6:1", "spread", HG_EXCHANGE_OTHER},
    {"f:7:1", "dead", HG_EXCHANGE_TOPIC},
};
enum { FIXTURE_EXCHANGES_N = sizeof(fixture_exchanges) / sizeof(fixture_exchanges[0]) };

/* The same pattern for all three protocols. */
#define ALL(text)              \
    {                          \
        (text), (text), (text) \
    }

#define BUILTIN                                                                             \
    {                                                                                       \
        .name = "builtin", .pattern = ALL("{path...}"), .exchange = "amq.topic",            \
        .key = "{path...}", .escape = HG_ESCAPE_PLAIN, .is_builtin = true, .persistent = -1 \
    }

static inline struct hg_rules *fixture_new(const struct hg_rule_spec *specs, size_t n)
{
    struct hg_writer err = {0};
    struct hg_rules *r = hg_rules_new(specs, n, fixture_exchanges, FIXTURE_EXCHANGES_N, &err);
    if (r == NULL) {
        fail_msg("%.*s", HG_BYTES_FMT(hg_writer_view(&err)));
    }
    hg_writer_close(&err);
    return r;
}

#endif
