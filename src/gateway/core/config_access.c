/* SPDX-License-Identifier: Apache-2.0 */
/* [[access]]: who may use RabbitMQ's own names. */
#include "core/config_schema.h"
#include "rules/access.h"

#define ACCESS(member) HG_CONFIG_MEMBER(hg_access_spec, member)

/* clang-format off */
const struct hg_config_field hg_config_schema_access[] = {
    {.key = "vhost",     .kind = HG_READ_VHOST, ACCESS(vhost)},
    {.key = "exchange",  .kind = HG_READ_TEXT,  ACCESS(exchange), .min = 1, .max = 255},
    {.key = "queue",     .kind = HG_READ_TEXT,  ACCESS(queue), .min = 1, .max = 255},
    {.key = "key",       .kind = HG_READ_TEXT,  ACCESS(key), .min = 1, .max = 255},
    {.key = "publish",   .kind = HG_READ_ROLES, ACCESS(roles[HG_ACCESS_PUBLISH])},
    {.key = "subscribe", .kind = HG_READ_ROLES, ACCESS(roles[HG_ACCESS_SUBSCRIBE])},
    {.key = "configure", .kind = HG_READ_ROLES, ACCESS(roles[HG_ACCESS_CONFIGURE])},
    {.key = NULL},
};
/* clang-format on */

void hg_config_schema_check_access(struct hg_config_reader *r, const struct hg_config_node *element,
                                   void *into)
{
    struct hg_access_spec *a = into;
    const struct hg_config_node *key = hg_config_tree_find(element, "key");
    const struct hg_config_node *configure = hg_config_tree_find(element, "configure");
    a->where = hg_config_read_where(r, &element->at);
    if ((a->exchange == NULL) == (a->queue == NULL)) {
        hg_config_read_error(r, &element->at, "access is to an exchange or to a queue");
    } else if (a->queue != NULL && key != NULL) {
        hg_config_read_error(r, &key->key_at, "a queue has no keys");
    } else if (a->exchange != NULL && configure != NULL) {
        hg_config_read_error(r, &configure->key_at, "clients declare no exchanges");
    }
}

/* ---- Who may ---- */

static bool is_in(const struct hg_access_spec *a, unsigned vhost)
{
    return (a->vhost == 0 ? 0 : a->vhost - 1U) == vhost;
}

uint64_t hg_access_queue_roles(const struct hg_config *c, unsigned vhost,
                               enum hg_access_action action, struct hg_bytes queue)
{
    for (size_t i = 0; i < c->users.access_n; i++) {
        const struct hg_access_spec *a = &c->users.access[i];
        if (is_in(a, vhost) && a->queue != NULL &&
            hg_access_name_matches(hg_bytes_str(a->queue), queue)) {
            return a->roles[action];
        }
    }
    return 0;
}

static bool key_matches(const struct hg_access_spec *a, struct hg_bytes key)
{
    return a->key == NULL || hg_access_key_matches(hg_bytes_str(a->key), key);
}

uint64_t hg_access_exchange_roles(const struct hg_config *c, unsigned vhost,
                                  enum hg_access_action action, struct hg_bytes exchange,
                                  struct hg_bytes key)
{
    for (size_t i = 0; i < c->users.access_n; i++) {
        const struct hg_access_spec *a = &c->users.access[i];
        if (is_in(a, vhost) && a->exchange != NULL &&
            hg_access_name_matches(hg_bytes_str(a->exchange), exchange) && key_matches(a, key)) {
            return a->roles[action];
        }
    }
    return 0;
}

uint64_t hg_access_exchange_roles_for_some_key(const struct hg_config *c, unsigned vhost,
                                               struct hg_bytes exchange)
{
    uint64_t roles = 0;
    bool is_last = false;
    for (size_t i = 0; i < c->users.access_n && !is_last; i++) {
        const struct hg_access_spec *a = &c->users.access[i];
        if (is_in(a, vhost) && a->exchange != NULL &&
            hg_access_name_matches(hg_bytes_str(a->exchange), exchange)) {
            roles |= a->roles[HG_ACCESS_SUBSCRIBE];
            is_last = a->key == NULL;
        }
    }
    return roles;
}
