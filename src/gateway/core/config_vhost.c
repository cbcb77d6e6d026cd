/* SPDX-License-Identifier: Apache-2.0 */
/* [[vhost]], the endpoints by which RabbitMQ is reached, and what of the other sections belongs to
 * which virtual host: put together once everything has been read. */
#include "core/config_schema.h"
#include "core/config_value.h"

enum { NAME_MAX_BYTES = 255 };

/* ---- Names ---------------------------------------------------------------------------------------- */

static struct hg_config_node *first_of(const struct hg_config_node *root, const char *section)
{
    const struct hg_config_node *array = hg_config_tree_find(root, section);
    return array == NULL || array->kind != HG_CONFIG_ARRAY ? NULL : array->u.first;
}

static const struct hg_config_node *member(const struct hg_config_node *element, const char *key,
                                           enum hg_config_kind kind)
{
    const struct hg_config_node *node =
        element->kind == HG_CONFIG_TABLE ? hg_config_tree_find(element, key) : NULL;
    return node == NULL || node->kind != kind ? NULL : node;
}

void hg_config_schema_name_vhosts(struct hg_config_reader *r, const struct hg_config_node *root)
{
    const struct hg_config_node *first_default = NULL;
    for (const struct hg_config_node *e = first_of(root, "vhost"); e != NULL; e = e->next) {
        const struct hg_config_node *name = member(e, "name", HG_CONFIG_STRING);
        const struct hg_config_node *is_default = member(e, "default", HG_CONFIG_BOOL);
        if (name == NULL) {
            continue;
        }
        if (r->vhosts_n == HG_VHOSTS_MAX) {
            hg_config_read_error(r, &e->at, "one virtual host too many: there can be %d",
                                 HG_VHOSTS_MAX);
            return;
        }
        size_t at = r->vhosts_n++;
        r->vhosts[at] = name->u.string.p;
        if (is_default == NULL || !is_default->u.b) {
            continue;
        }
        if (first_default != NULL) {
            hg_config_read_error(r, &is_default->at, "the default one is named already at %s:%u:%u",
                                 first_default->at.source, first_default->at.line,
                                 first_default->at.column);
            continue;
        }
        first_default = is_default;
        memmove(&r->vhosts[1], &r->vhosts[0], at * sizeof(r->vhosts[0]));
        r->vhosts[0] = name->u.string.p;
    }
}

void hg_config_schema_read_vhost(struct hg_config_reader *r, const struct hg_config_node *node,
                                 void *into)
{
    (void)into; /* hg_config_schema_vhost_of looks again, when all has been read */
    if (node != NULL) {
        (void)hg_config_read_vhost(r, node);
    }
}

size_t hg_config_schema_vhost_of(const struct hg_config_reader *r,
                                 const struct hg_config_node *element)
{
    const struct hg_config_node *name = member(element, "vhost", HG_CONFIG_STRING);
    for (size_t i = 0; name != NULL && i < r->vhosts_n; i++) {
        if (strcmp(r->vhosts[i], name->u.string.p) == 0) {
            return i;
        }
    }
    return 0;
}

static bool is_called(const struct hg_vhost_spec *v, struct hg_bytes name)
{
    bool is = hg_bytes_eq(name, hg_bytes_str(v->name));
    for (size_t i = 0; i < v->aliases_n; i++) {
        is = is || hg_bytes_eq(name, hg_bytes_str(v->aliases[i]));
    }
    return is;
}

const struct hg_vhost_spec *hg_vhost_find(const struct hg_config *c, struct hg_bytes name)
{
    for (size_t i = 0; i < c->vhosts_n; i++) {
        if (is_called(&c->vhosts[i], name)) {
            return &c->vhosts[i];
        }
    }
    return NULL;
}

void hg_vhost_split(const struct hg_config *c, struct hg_bytes text, struct hg_bytes *vhost_out,
                    struct hg_bytes *user_out)
{
    size_t colon = text.n;
    while (c->has_vhosts && colon > 0 && text.p[colon - 1] != ':') {
        colon--;
    }
    struct hg_bytes before = hg_bytes(text.p, colon == 0 ? 0 : colon - 1);
    bool is_split = c->has_vhosts && colon > 0 &&
                    (c->refuses_unknown_vhosts || hg_vhost_find(c, before) != NULL);
    *vhost_out = is_split ? before : HG_BYTES("");
    *user_out = is_split ? hg_bytes_skip(text, colon) : text;
}

void hg_vhost_view(const struct hg_config *c, size_t index, struct hg_config *out)
{
    const struct hg_vhost_spec *v = &c->vhosts[index];
    *out = *c;
    out->vhosts = v;
    out->vhosts_n = 1;
    out->endpoints = v->endpoints;
    out->endpoints_n = v->endpoints_n;
    out->rabbitmq_secret = v->has_own_endpoints ? NULL : c->rabbitmq_secret;
    out->exchanges = v->exchanges;
    out->exchanges_n = v->exchanges_n;
    out->queues = v->queues;
    out->queues_n = v->queues_n;
    out->rules = v->rules;
    out->rules_n = v->rules_n;
    out->users.access = v->access;
    out->users.access_n = v->access_n;
    out->webhooks = v->webhooks;
    out->webhooks_n = v->webhooks_n;
}

/* ---- Endpoints ------------------------------------------------------------------------------------ */

static bool has_path(const char *url)
{
    const char *authority = strstr(url, "://");
    return authority != NULL && strchr(authority + 3, '/') != NULL;
}

/* vhost: whose they are; NULL: of all that have none of their own, and so they agree on one. */
static const struct hg_endpoint *read_endpoints(struct hg_config_reader *r,
                                                const struct hg_config_node *node,
                                                const char *const *urls, size_t n,
                                                const char *vhost)
{
    struct hg_endpoint *endpoints = hg_config_arena_get(&r->arena, (n + 1) * sizeof *endpoints);
    const struct hg_config_node *element = node == NULL ? NULL : node->u.first;
    for (size_t i = 0; endpoints != NULL && i < n; i++) {
        const struct hg_config_at *at = element == NULL ? NULL : &element->at;
        const char *problem = hg_config_value_endpoint(&r->arena, urls[i], &endpoints[i]);
        if (problem != NULL) {
            hg_config_read_error(r, at, "endpoint %zu: %s", i + 1, problem);
        } else if (vhost == NULL && strcmp(endpoints[0].vhost, endpoints[i].vhost) != 0) {
            hg_config_read_error(r, at,
                                 "endpoint %zu: all endpoints share one virtual host; [[vhost]] "
                                 "configures more of them",
                                 i + 1);
        } else if (vhost != NULL && has_path(urls[i]) && strcmp(endpoints[i].vhost, vhost) != 0) {
            hg_config_read_error(r, at, "endpoint %zu leads to the virtual host \"%.200s\"", i + 1,
                                 endpoints[i].vhost);
        } else if (vhost != NULL) {
            endpoints[i].vhost = vhost;
        }
        element = element == NULL ? NULL : element->next;
    }
    return endpoints;
}

void hg_config_schema_read_endpoints(struct hg_config_reader *r, const struct hg_config_node *node,
                                     void *into)
{
    static const char *const preset[] = {"amqp://guest:guest@127.0.0.1:5672/%2f"};
    struct hg_config *c = into;
    size_t n = 1;
    const char *const *urls = node == NULL ? preset : hg_config_read_texts(r, node, &n);
    if (node != NULL && node->kind != HG_CONFIG_ARRAY) {
        return;
    }
    if (n == 0) {
        hg_config_read_error(r, &node->at, "endpoints must not be empty");
    }
    c->endpoints = read_endpoints(r, node, urls, n, NULL);
    c->endpoints_n = n;
}

/* ---- [[vhost]] ------------------------------------------------------------------------------------ */

static void read_own_endpoints(struct hg_config_reader *r, const struct hg_config_node *node,
                               void *into)
{
    struct hg_vhost_spec *v = into; /* its name has been read: it comes first in the table below */
    size_t n = 0;
    const char *const *urls = node == NULL ? NULL : hg_config_read_texts(r, node, &n);
    if (node != NULL && node->kind == HG_CONFIG_ARRAY && n == 0) {
        hg_config_read_error(r, &node->at, "endpoints must not be empty");
    }
    if (n > 0 && v->name != NULL) {
        v->endpoints = read_endpoints(r, node, urls, n, v->name);
        v->endpoints_n = n;
        v->has_own_endpoints = true;
    }
}

#define VHOST(member) HG_CONFIG_MEMBER(hg_vhost_spec, member)

/* clang-format off */
const struct hg_config_field hg_config_schema_vhost[] = {
    {.key = "name",      .kind = HG_READ_TEXT,    VHOST(name), .min = 1, .max = NAME_MAX_BYTES, .is_required = true},
    {.key = "default",   .kind = HG_READ_BOOLEAN, VHOST(is_default), .preset = "false"},
    {.key = "aliases",   .kind = HG_READ_TEXTS,   VHOST(aliases), .n_offset = offsetof(struct hg_vhost_spec, aliases_n)},
    {.key = "endpoints", .kind = HG_READ_OTHER,   .read = read_own_endpoints},
    {.key = NULL},
};
/* clang-format on */

void hg_config_schema_check_vhost(struct hg_config_reader *r, const struct hg_config_node *element,
                                  void *into)
{
    struct hg_vhost_spec *v = into;
    v->where = hg_config_read_where(r, &element->at);
}

/* No alias is another one's name or alias. */
void hg_config_schema_check_vhosts(struct hg_config_reader *r, const struct hg_config_node *root,
                                   const struct hg_config *c)
{
    const struct hg_config_node *e = first_of(root, "vhost");
    for (size_t i = 0; i < c->vhosts_n && e != NULL; i++, e = e->next) {
        const struct hg_config_node *aliases = member(e, "aliases", HG_CONFIG_ARRAY);
        const struct hg_config_node *alias = aliases == NULL ? NULL : aliases->u.first;
        for (; alias != NULL && alias->kind == HG_CONFIG_STRING; alias = alias->next) {
            for (size_t j = 0; j < c->vhosts_n; j++) {
                const struct hg_vhost_spec *other = &c->vhosts[j];
                if (j != i && other->name != NULL &&
                    is_called(other, hg_bytes_str(alias->u.string.p))) {
                    hg_config_read_error(r, &alias->at, "\"%.200s\" is a name of \"%.200s\" at %s",
                                         alias->u.string.p, other->name, other->where);
                }
            }
        }
    }
}

/* ---- What belongs to which ------------------------------------------------------------------------ */

/* A section's elements that belong to a virtual host, in their order, with room for one more. NULL
 * when there is no memory. */
static void *pick(struct hg_config_reader *r, const struct hg_config_node *root,
                  const char *section, const void *all, size_t bytes, size_t index, size_t *n_out)
{
    const struct hg_config_node *array = hg_config_tree_find(root, section);
    size_t all_n = array == NULL ? 0 : hg_config_tree_n(array);
    uint8_t *picked = hg_config_arena_get(&r->arena, (all_n + 1) * bytes);
    const uint8_t *from = all;
    *n_out = 0;
    for (const struct hg_config_node *e = first_of(root, section); e != NULL && picked != NULL;
         e = e->next, from += bytes) {
        if (hg_config_schema_vhost_of(r, e) == index) {
            memcpy(picked + bytes * (*n_out)++, from, bytes);
        }
    }
    return picked;
}

/* The queue that a rule with on_reject = "park" fills; [[queue]] may declare it otherwise. */
static void append_park_queue(struct hg_config_reader *r, const struct hg_config *c,
                              struct hg_queue_decl *queues, struct hg_vhost_spec *v)
{
    const struct hg_rule_spec *parking = NULL;
    for (size_t i = 0; i < v->rules_n && parking == NULL; i++) {
        parking = v->rules[i].on_reject == HG_REJECT_PARK ? &v->rules[i] : NULL;
    }
    for (size_t i = 0; i < v->queues_n && parking != NULL; i++) {
        if (strcmp(queues[i].name, c->mqtt_park_queue) == 0) {
            return;
        }
    }
    struct hg_header *type = parking == NULL ? NULL : hg_config_arena_get(&r->arena, sizeof *type);
    if (type == NULL) {
        return;
    }
    *type = (struct hg_header){HG_BYTES("x-queue-type"),
                               {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}};
    queues[v->queues_n++] = (struct hg_queue_decl){.where = parking->where,
                                                   .name = c->mqtt_park_queue,
                                                   .type = "classic",
                                                   .is_durable = true,
                                                   .arguments = type,
                                                   .arguments_n = 1};
}

static void use_endpoints(struct hg_config_reader *r, const struct hg_config *c,
                          struct hg_vhost_spec *v)
{
    struct hg_endpoint *endpoints =
        hg_config_arena_get(&r->arena, c->endpoints_n * sizeof *endpoints);
    for (size_t i = 0; i < c->endpoints_n && endpoints != NULL; i++) {
        endpoints[i] = c->endpoints[i];
        endpoints[i].vhost = v->name;
    }
    v->endpoints = endpoints;
    v->endpoints_n = c->endpoints_n;
}

/* False: no memory, or the rules are wrong. */
static bool fill(struct hg_config_reader *r, const struct hg_config_node *root,
                 const struct hg_config *c, size_t index, struct hg_vhost_spec *v,
                 struct hg_writer *errors_out)
{
    struct hg_exchange_decl *exchanges =
        pick(r, root, "exchange", c->exchanges, sizeof *exchanges, index, &v->exchanges_n);
    struct hg_queue_decl *queues =
        pick(r, root, "queue", c->queues, sizeof *queues, index, &v->queues_n);
    struct hg_rule_spec *rules = pick(r, root, "rule", c->rules, sizeof *rules, index, &v->rules_n);
    struct hg_exchange_spec *specs =
        hg_config_arena_get(&r->arena, (v->exchanges_n + 1) * sizeof *specs);
    if (v->endpoints == NULL) {
        use_endpoints(r, c, v);
    }
    if (exchanges == NULL || queues == NULL || rules == NULL || specs == NULL) {
        return false;
    }
    rules[v->rules_n++] = hg_config_schema_builtin_rule;
    v->access = pick(r, root, "access", c->users.access, sizeof *v->access, index, &v->access_n);
    v->webhooks = pick(r, root, "webhook", c->webhooks, sizeof *v->webhooks, index, &v->webhooks_n);
    v->exchanges = exchanges;
    v->queues = queues;
    v->rules = rules;
    append_park_queue(r, c, queues, v);
    for (size_t i = 0; i < v->exchanges_n; i++) {
        specs[i] = exchanges[i].spec;
    }
    v->table = hg_rules_new(rules, v->rules_n, specs, v->exchanges_n, errors_out);
    return v->table != NULL;
}

bool hg_config_schema_make_vhosts(struct hg_config_reader *r, const struct hg_config_node *root,
                                  struct hg_config *c, struct hg_writer *errors_out)
{
    size_t n = r->vhosts_n == 0 ? 1 : r->vhosts_n;
    struct hg_vhost_spec *made = hg_config_arena_get(&r->arena, n * sizeof *made);
    if (made == NULL) {
        return false;
    }
    made[0] = (struct hg_vhost_spec){.name = c->endpoints[0].vhost};
    for (size_t i = 0; i < r->vhosts_n; i++) {
        for (size_t j = 0; j < c->vhosts_n; j++) {
            if (strcmp(c->vhosts[j].name, r->vhosts[i]) == 0) {
                made[i] = c->vhosts[j];
            }
        }
    }
    bool is_whole = true;
    c->has_vhosts = r->vhosts_n > 0;
    c->vhosts = made;
    c->vhosts_n = n;
    for (size_t i = 0; i < n; i++) {
        made[i].is_default = i == 0;
        made[i].first_rule = c->all_rules_n;
        is_whole = fill(r, root, c, i, &made[i], errors_out) && is_whole;
        c->all_rules_n += made[i].rules_n;
    }
    return is_whole;
}

void hg_config_schema_free_vhosts(struct hg_config *c)
{
    for (size_t i = 0; i < c->vhosts_n; i++) {
        hg_rules_free(c->vhosts[i].table);
    }
}
