/* SPDX-License-Identifier: Apache-2.0 */
/* Every key of the configuration, as tables. For config*.c and their tests only. */
#ifndef HG_CORE_CONFIG_SCHEMA_H
#define HG_CORE_CONFIG_SCHEMA_H

#include "core/config.h"
#include "core/config_read.h"

extern const struct hg_config_field hg_config_schema[];              /* fills struct hg_config */
extern const struct hg_config_field hg_config_schema_exchange[];     /* struct hg_exchange_decl */
extern const struct hg_config_field hg_config_schema_queue[];        /* struct hg_queue_decl */
extern const struct hg_config_field hg_config_schema_rule[];         /* struct hg_rule_spec */
extern const struct hg_config_field hg_config_schema_bridge[];       /* struct hg_bridge_spec */
extern const struct hg_config_field hg_config_schema_users[];        /* struct hg_config */
extern const struct hg_config_field hg_config_schema_user[];         /* struct hg_user_spec */
extern const struct hg_config_field hg_config_schema_access[];       /* struct hg_access_spec */
extern const struct hg_config_field hg_config_schema_webhook[];      /* struct hg_webhook_spec */
extern const struct hg_config_field hg_config_schema_listener_tls[]; /* hg_listener_spec */
extern const struct hg_config_field hg_config_schema_rabbitmq_tls[]; /* struct hg_config */

/* What the fields alone cannot say about an element. */
void hg_config_schema_check_exchange(struct hg_config_reader *r,
                                     const struct hg_config_node *element, void *into);
void hg_config_schema_check_queue(struct hg_config_reader *r, const struct hg_config_node *element,
                                  void *into);
void hg_config_schema_check_rule(struct hg_config_reader *r, const struct hg_config_node *element,
                                 void *into);

/* It becomes part of a queue's name and of a metric's label: letters, digits, . _ - only. */
bool hg_config_schema_is_name(const char *text);
/* Notes it where a file that `key` of `table` names cannot be read; NULL is fine. */
void hg_config_schema_check_file(struct hg_config_reader *r, const struct hg_config_node *table,
                                 const char *key, const char *file);
/* What `key` stands for in `table`, or the table where it is absent. */
const struct hg_config_node *hg_config_schema_or_table(const struct hg_config_node *table,
                                                       const char *key);

void hg_config_schema_check_bridge(struct hg_config_reader *r, const struct hg_config_node *element,
                                   void *into);
void hg_config_schema_check_webhook(struct hg_config_reader *r,
                                    const struct hg_config_node *element, void *into);

/* Make the TLS contexts. */
void hg_config_schema_check_listener_tls(struct hg_config_reader *r,
                                         const struct hg_config_node *element,
                                         struct hg_listener_spec *l);
void hg_config_schema_check_rabbitmq_tls(struct hg_config_reader *r,
                                         const struct hg_config_node *root, struct hg_config *c);

void hg_config_schema_check_access(struct hg_config_reader *r, const struct hg_config_node *element,
                                   void *into);
void hg_config_schema_check_user(struct hg_config_reader *r, const struct hg_config_node *element,
                                 void *into);
/* Whether who says nothing may come in by this listener; of an admin listener never. */
bool hg_config_schema_takes_anonymous(const struct hg_config *c, const struct hg_listener_spec *l);
/* Reads the keys of tokens, and decides who may come without a name. */
void hg_config_schema_check_users(struct hg_config_reader *r, const struct hg_config_node *root,
                                  struct hg_config *c);

/* For the reading of a file that has been read before: takes over from `first` what cannot change
 * (config_reload.c). False, and what is wrong in *errors_out: it cannot be had while this gateway
 * runs. */
bool hg_config_schema_settle(struct hg_config_arena *arena, struct hg_config *next,
                             const struct hg_config *first, hg_config_kept_fn *kept, void *ctx,
                             struct hg_writer *errors_out);

/* Makes c->vhosts of what was read. False: no memory, or the rules are wrong (noted). */
bool hg_config_schema_make_vhosts(struct hg_config_reader *r, struct hg_config *c,
                                  struct hg_writer *errors_out);
void hg_config_schema_free_vhosts(struct hg_config *c);

/* The last rule of every table: what RabbitMQ's plugins do. */
extern const struct hg_rule_spec hg_config_schema_builtin_rule;

#endif
