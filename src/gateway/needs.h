/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway must be permitted in RabbitMQ for a configuration to work, and no more. */
#ifndef HG_NEEDS_H
#define HG_NEEDS_H

#include "core/config.h"

enum hg_need_verb { HG_NEED_CONFIGURE, HG_NEED_WRITE, HG_NEED_READ, HG_NEED_N };
enum hg_need_match { HG_NEED_NAME, HG_NEED_PREFIX, HG_NEED_GLOB };

struct hg_need {
    enum hg_need_verb verb;
    bool is_queue;
    enum hg_need_match match;
    const char *name; /* the configuration's or static; "amq.default": the default exchange */
};

/* Routing keys that are used with a topic exchange, as regular expressions. */
struct hg_need_topic {
    const char *exchange;
    struct hg_writer
        keys[HG_NEED_N]; /* of WRITE and READ: alternatives joined by `|`; empty: none */
    bool is_any[HG_NEED_N];
};

struct hg_needs {
    struct hg_need *at; /* each once */
    size_t n, cap;
    struct hg_need_topic *topics; /* one for each topic exchange that the configuration knows */
    size_t topics_n;
    /* clients may name exchanges, queues that are not written down */
    bool names_exchanges, names_queues;
    bool failed; /* no memory */
};

void hg_needs_open(struct hg_needs *needs, const struct hg_config *c);
void hg_needs_close(struct hg_needs *needs);

/* The verb's regular expression, as set_permissions takes it: "^$" where nothing is needed. */
void hg_needs_write_regex(const struct hg_needs *needs, enum hg_need_verb verb,
                          struct hg_writer *out);
/* The same for a topic exchange's routing keys. */
void hg_need_topic_write_regex(const struct hg_need_topic *topic, enum hg_need_verb verb,
                               struct hg_writer *out);

#endif
