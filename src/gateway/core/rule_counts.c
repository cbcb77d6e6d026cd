/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rule_counts.h"

#include "base/mem.h"

#include <stdatomic.h>

struct count { /* a worker's */
    hg_counter ways[HG_RULE_WAYS];
    uint8_t apart[48]; /* from another worker's */
};

struct counter { /* of one name */
    _Atomic unsigned refs;
    char *name_own;
    struct count by_worker[];
};

struct hg_rule_counts {
    _Atomic unsigned refs;
    unsigned workers_n;
    struct hg_map by_name; /* struct counter */
    size_t n;
    struct counter *by_rule[];
};

static void unref_counter(struct counter *c)
{
    if (c != NULL && atomic_fetch_sub(&c->refs, 1) == 1) {
        hg_free(c->name_own);
        hg_free(c);
    }
}

static struct counter *counter_new(const char *name, unsigned workers_n)
{
    struct counter *c = hg_zalloc(sizeof(*c) + workers_n * sizeof(c->by_worker[0]));
    if (c != NULL && (c->name_own = hg_bytes_dup(hg_bytes_str(name))) == NULL) {
        hg_free(c);
        return NULL;
    }
    if (c != NULL) {
        atomic_store(&c->refs, 1);
    }
    return c;
}

/* The one that it had, or a new one; rules of two virtual hosts may have one name. */
static bool add(struct hg_rule_counts *c, const char *name, const struct hg_rule_counts *before)
{
    struct hg_bytes key = hg_bytes_str(name);
    struct counter *it = hg_map_find(&c->by_name, key);
    bool is_known = it != NULL;
    it = is_known || before == NULL ? it : hg_map_find(&before->by_name, key);
    if (it != NULL) {
        atomic_fetch_add(&it->refs, 1);
    } else {
        it = counter_new(name, c->workers_n);
    }
    if (it == NULL || (!is_known && !hg_map_put(&c->by_name, hg_bytes_str(it->name_own), it))) {
        unref_counter(it);
        return false;
    }
    c->by_rule[c->n++] = it;
    return true;
}

struct hg_rule_counts *hg_rule_counts_new(const struct hg_config *config,
                                          struct hg_rule_counts *before)
{
    struct hg_rule_counts *c =
        hg_zalloc(sizeof(*c) + config->all_rules_n * sizeof(struct counter *));
    bool is_whole = c != NULL;
    if (!is_whole) {
        return NULL;
    }
    atomic_store(&c->refs, 1);
    c->workers_n = config->workers;
    hg_map_open(&c->by_name);
    for (size_t v = 0; is_whole && v < config->vhosts_n; v++) {
        for (size_t i = 0; is_whole && i < config->vhosts[v].rules_n; i++) {
            is_whole = add(c, config->vhosts[v].rules[i].name, before);
        }
    }
    if (!is_whole) {
        hg_rule_counts_unref(c);
        return NULL;
    }
    return c;
}

struct hg_rule_counts *hg_rule_counts_ref(struct hg_rule_counts *c)
{
    if (c != NULL) {
        atomic_fetch_add(&c->refs, 1);
    }
    return c;
}

void hg_rule_counts_unref(struct hg_rule_counts *c)
{
    if (c == NULL || atomic_fetch_sub(&c->refs, 1) > 1) {
        return;
    }
    for (size_t i = 0; i < c->n; i++) {
        unref_counter(c->by_rule[i]);
    }
    hg_map_close(&c->by_name);
    hg_free(c);
}

void hg_rule_counts_add(const struct hg_rule_counts *c, size_t rule, enum hg_rule_way way,
                        unsigned worker)
{
    if (c != NULL) {
        hg_count(&c->by_rule[rule]->by_worker[worker].ways[way], 1);
    }
}

uint64_t hg_rule_counts_sum(const struct hg_rule_counts *c, size_t rule, enum hg_rule_way way)
{
    uint64_t n = 0;
    for (unsigned i = 0; c != NULL && i < c->workers_n; i++) {
        n += hg_counted(&c->by_rule[rule]->by_worker[i].ways[way]);
    }
    return n;
}
