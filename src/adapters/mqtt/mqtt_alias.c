/* SPDX-License-Identifier: Apache-2.0 */
/* Memory grows with the aliases that are given away: a client may take 65,535 of them. */
#include "adapters/mqtt/mqtt_alias.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

enum {
    WORTH_N = 4,  /* an alias takes three bytes beside the topic's length */
    SEEN_CAP = 64 /* topics sent lately without an alias, by hash */
};

struct alias {
    struct hg_list link; /* the one used last is last */
    uint16_t number;
    uint16_t topic_n;
    uint8_t topic[];
};

struct hg_mqtt_alias_out {
    struct hg_map by_topic;
    struct hg_list used;
    uint16_t max, n;
    uint64_t seed[2];
    uint32_t seen[SEEN_CAP];
};

struct hg_mqtt_alias_out *hg_mqtt_alias_new(uint16_t max)
{
    struct hg_mqtt_alias_out *a = hg_zalloc(sizeof(*a));
    if (a != NULL) {
        hg_map_open(&a->by_topic);
        hg_list_init(&a->used);
        a->max = max;
        a->seed[0] = hg_random_u64();
        a->seed[1] = hg_random_u64();
    }
    return a;
}

void hg_mqtt_alias_free(struct hg_mqtt_alias_out *a)
{
    if (a == NULL) {
        return;
    }
    HG_LIST_FOREACH_SAFE (it, &a->used) {
        hg_free(HG_LIST_ENTRY(it, struct alias, link));
    }
    hg_map_close(&a->by_topic);
    hg_free(a);
}

/* Whether the topic was sent lately; if not, it is noted. */
static bool was_seen(struct hg_mqtt_alias_out *a, struct hg_bytes topic)
{
    uint64_t hash = hg_siphash(a->seed, topic);
    uint32_t *place = &a->seen[hash % SEEN_CAP];
    uint32_t mark = (uint32_t)(hash >> 32) | 1;
    bool is_same = *place == mark;
    *place = is_same ? 0 : mark;
    return is_same;
}

static struct hg_bytes topic_of(const struct alias *alias)
{
    return hg_bytes(alias->topic, alias->topic_n);
}

/* A number that no topic has; the topic that had it has none from now on. */
static uint16_t take_number(struct hg_mqtt_alias_out *a)
{
    if (a->n < a->max) {
        return ++a->n;
    }
    struct alias *oldest = HG_LIST_ENTRY(a->used.next, struct alias, link);
    uint16_t number = oldest->number;
    hg_map_remove(&a->by_topic, topic_of(oldest));
    hg_list_remove(&oldest->link);
    hg_free(oldest);
    return number;
}

static uint16_t give(struct hg_mqtt_alias_out *a, struct hg_bytes topic)
{
    struct alias *alias = hg_alloc(sizeof(*alias) + topic.n);
    if (alias == NULL) {
        return 0;
    }
    hg_list_init(&alias->link);
    alias->topic_n = (uint16_t)topic.n;
    memcpy(alias->topic, topic.p, topic.n);
    if (!hg_map_put(&a->by_topic, topic_of(alias), alias)) {
        hg_free(alias);
        return 0;
    }
    alias->number = take_number(a);
    hg_list_add_last(&a->used, &alias->link);
    return alias->number;
}

uint16_t hg_mqtt_alias_for(struct hg_mqtt_alias_out *a, struct hg_bytes topic, bool *is_known)
{
    *is_known = false;
    if (topic.n < WORTH_N) {
        return 0;
    }
    struct alias *alias = hg_map_find(&a->by_topic, topic);
    if (alias == NULL) {
        return was_seen(a, topic) ? give(a, topic) : 0;
    }
    *is_known = true;
    hg_list_remove(&alias->link);
    hg_list_add_last(&a->used, &alias->link);
    return alias->number;
}
