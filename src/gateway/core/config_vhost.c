/* SPDX-License-Identifier: Apache-2.0 */
/* What belongs to a virtual host is put together once everything has been read. */
#include "core/config_schema.h"

static void make_table(struct hg_config_reader *r, struct hg_vhost_spec *v,
                       struct hg_writer *errors_out)
{
    struct hg_exchange_spec *exchanges =
        hg_config_arena_get(&r->arena, (v->exchanges_n + 1) * sizeof *exchanges);
    if (exchanges == NULL) {
        return;
    }
    for (size_t i = 0; i < v->exchanges_n; i++) {
        exchanges[i] = v->exchanges[i].spec;
    }
    v->table = hg_rules_new(v->rules, v->rules_n, exchanges, v->exchanges_n, errors_out);
}

bool hg_config_schema_make_vhosts(struct hg_config_reader *r, struct hg_config *c,
                                  struct hg_writer *errors_out)
{
    struct hg_vhost_spec *v = hg_config_arena_get(&r->arena, sizeof *v);
    if (v == NULL) {
        return false;
    }
    *v = (struct hg_vhost_spec){.name = c->endpoints[0].vhost,
                                .endpoints = c->endpoints,
                                .endpoints_n = c->endpoints_n,
                                .exchanges = c->exchanges,
                                .exchanges_n = c->exchanges_n,
                                .queues = c->queues,
                                .queues_n = c->queues_n,
                                .rules = c->rules,
                                .rules_n = c->rules_n};
    make_table(r, v, errors_out);
    c->vhosts = v;
    c->vhosts_n = 1;
    c->all_rules_n = v->rules_n;
    return v->table != NULL;
}

void hg_config_schema_free_vhosts(struct hg_config *c)
{
    for (size_t i = 0; i < c->vhosts_n; i++) {
        hg_rules_free(c->vhosts[i].table);
    }
}
