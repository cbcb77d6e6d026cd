/* SPDX-License-Identifier: Apache-2.0 */
/* [[exchange]] and [[queue]]. */
#include "core/config_schema.h"

#include <math.h>

/* An array or a table inside arguments, as JSON text (hg_value_kind JSON). */
static void write_json(struct hg_config_reader *r, const struct hg_config_node *node,
                       struct hg_writer *out)
{
    switch (node->kind) {
    case HG_CONFIG_TABLE:
    case HG_CONFIG_ARRAY: {
        bool is_table = node->kind == HG_CONFIG_TABLE;
        hg_writer_str(out, is_table ? "{" : "[");
        for (const struct hg_config_node *n = node->u.first; n != NULL; n = n->next) {
            hg_writer_str(out, n == node->u.first ? "" : ",");
            if (is_table) {
                hg_writer_str(out, "\"");
                hg_writer_json(out, hg_bytes_str(n->key));
                hg_writer_str(out, "\":");
            }
            write_json(r, n, out);
        }
        hg_writer_str(out, is_table ? "}" : "]");
        break;
    }
    case HG_CONFIG_STRING:
        hg_writer_str(out, "\"");
        hg_writer_json(out, hg_bytes(node->u.string.p, node->u.string.n));
        hg_writer_str(out, "\"");
        break;
    case HG_CONFIG_INT: hg_writer_printf(out, "%lld", (long long)node->u.i); break;
    case HG_CONFIG_FLOAT:
        if (!isfinite(node->u.d)) {
            hg_config_read_error(r, &node->at, "JSON has no infinity and no NaN");
        }
        hg_writer_printf(out, "%.17g", node->u.d);
        break;
    case HG_CONFIG_BOOL: hg_writer_str(out, node->u.b ? "true" : "false"); break;
    case HG_CONFIG_DATE: hg_config_read_error(r, &node->at, "an argument cannot be a date"); break;
    }
}

static struct hg_value value_of(struct hg_config_reader *r, const struct hg_config_node *node)
{
    struct hg_value v = {.kind = HG_VALUE_NULL};
    switch (node->kind) {
    case HG_CONFIG_STRING:
        v.kind = HG_VALUE_STRING;
        v.u.bytes = hg_bytes(node->u.string.p, node->u.string.n);
        break;
    case HG_CONFIG_INT:
        v.kind = HG_VALUE_INT;
        v.u.i = node->u.i;
        break;
    case HG_CONFIG_FLOAT:
        v.kind = HG_VALUE_DOUBLE;
        v.u.d = node->u.d;
        break;
    case HG_CONFIG_BOOL:
        v.kind = HG_VALUE_BOOL;
        v.u.b = node->u.b;
        break;
    default: {
        struct hg_writer json = {0};
        write_json(r, node, &json);
        struct hg_bytes text = hg_writer_view(&json);
        v.kind = HG_VALUE_JSON;
        v.u.bytes = hg_bytes(hg_config_arena_copy(&r->arena, (const char *)text.p, text.n), text.n);
        r->arena.is_exhausted |= json.failed;
        hg_writer_close(&json);
    }
    }
    return v;
}

/* The table `node` (or NULL) as headers, after `spare_n` that the caller fills in. */
static struct hg_header *read_arguments(struct hg_config_reader *r,
                                        const struct hg_config_node *node, size_t spare_n,
                                        size_t *n_out)
{
    *n_out = 0;
    node = hg_config_read_kind(r, node, HG_CONFIG_TABLE);
    size_t n = spare_n + (node == NULL ? 0 : hg_config_tree_n(node));
    struct hg_header *headers =
        n == 0 ? NULL : hg_config_arena_get(&r->arena, n * sizeof(struct hg_header));
    if (headers == NULL) {
        return NULL;
    }
    *n_out = spare_n;
    for (const struct hg_config_node *c = node == NULL ? NULL : node->u.first; c != NULL;
         c = c->next) {
        if (strlen(c->key) == 0 || strlen(c->key) > 255) {
            hg_config_read_error(r, &c->key_at, "an argument's name has 1 to 255 bytes");
        }
        headers[(*n_out)++] = (struct hg_header){hg_bytes_str(c->key), value_of(r, c)};
    }
    return headers;
}

static void read_binding_arguments(struct hg_config_reader *r, const struct hg_config_node *node,
                                   void *into)
{
    struct hg_binding_decl *b = into;
    b->arguments = read_arguments(r, node, 0, &b->arguments_n);
}

static void read_exchange_arguments(struct hg_config_reader *r, const struct hg_config_node *node,
                                    void *into)
{
    struct hg_exchange_decl *e = into;
    e->arguments = read_arguments(r, node, 0, &e->arguments_n);
}

/* `type` stands before `arguments` in the table of fields, so it is known here. */
static void read_queue_arguments(struct hg_config_reader *r, const struct hg_config_node *node,
                                 void *into)
{
    struct hg_queue_decl *q = into;
    struct hg_header *headers = read_arguments(r, node, 1, &q->arguments_n);
    if (headers != NULL) {
        headers[0] = (struct hg_header){
            HG_BYTES("x-queue-type"),
            {.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(q->type)},
        };
    }
    q->arguments = headers;
}

/* clang-format off */
static const struct hg_config_field binding_fields[] = {
    {.key = "exchange",  .kind = HG_READ_TEXT, HG_CONFIG_MEMBER(hg_binding_decl, exchange), .min = 1, .max = 255, .is_required = true},
    {.key = "key",       .kind = HG_READ_TEXT, HG_CONFIG_MEMBER(hg_binding_decl, key), .preset = "", .max = 255},
    {.key = "arguments", .kind = HG_READ_OTHER, .read = read_binding_arguments},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_exchange[] = {
    {.key = "vhost", .kind = HG_READ_OTHER, .read = hg_config_schema_read_vhost},
    {.key = "name",        .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_exchange_decl, spec.name), .min = 1, .max = 255, .is_required = true},
    {.key = "type",        .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_exchange_decl, type), .min = 1, .max = 255, .is_required = true},
    {.key = "durable",     .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_exchange_decl, is_durable), .preset = "true"},
    {.key = "auto_delete", .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_exchange_decl, is_auto_delete), .preset = "false"},
    {.key = "internal",    .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_exchange_decl, is_internal), .preset = "false"},
    {.key = "passive",     .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_exchange_decl, is_passive), .preset = "false"},
    {.key = "arguments",   .kind = HG_READ_OTHER,   .read = read_exchange_arguments},
    {.key = "bindings",    .kind = HG_READ_TABLES,  HG_CONFIG_MEMBER(hg_exchange_decl, bindings), .n_offset = offsetof(struct hg_exchange_decl, bindings_n),
     .element_bytes = sizeof(struct hg_binding_decl), .fields = binding_fields},
    {.key = NULL},
};

static const char *const queue_types[] = {"classic", "quorum", "stream", NULL};
const struct hg_config_field hg_config_schema_queue[] = {
    {.key = "vhost", .kind = HG_READ_OTHER, .read = hg_config_schema_read_vhost},
    {.key = "name",        .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_queue_decl, name), .min = 1, .max = 255, .is_required = true},
    {.key = "type",        .kind = HG_READ_TEXT,    HG_CONFIG_MEMBER(hg_queue_decl, type), .words = queue_types, .preset = "classic"},
    {.key = "durable",     .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_queue_decl, is_durable), .preset = "true"},
    {.key = "auto_delete", .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_queue_decl, is_auto_delete), .preset = "false"},
    {.key = "passive",     .kind = HG_READ_BOOLEAN, HG_CONFIG_MEMBER(hg_queue_decl, is_passive), .preset = "false"},
    {.key = "arguments",   .kind = HG_READ_OTHER,   .read = read_queue_arguments},
    {.key = "bindings",    .kind = HG_READ_TABLES,  HG_CONFIG_MEMBER(hg_queue_decl, bindings), .n_offset = offsetof(struct hg_queue_decl, bindings_n),
     .element_bytes = sizeof(struct hg_binding_decl), .fields = binding_fields},
    {.key = NULL},
};
/* clang-format on */

/* Keys that a passive declaration does not look at would be parsed and ignored. */
static void refuse_beside_passive(struct hg_config_reader *r, const struct hg_config_node *element,
                                  const char *const *keys)
{
    for (; *keys != NULL; keys++) {
        const struct hg_config_node *n = hg_config_tree_find(element, *keys);
        if (n != NULL) {
            hg_config_read_error(r, &n->key_at,
                                 "%s means nothing beside passive = true, which only checks that "
                                 "the name exists",
                                 *keys);
        }
    }
}

static const char *next_exchange_type(const void *ctx, size_t i)
{
    static const char *const types[] = {"direct", "fanout", "topic", "headers", NULL};
    (void)ctx;
    return types[i];
}

void hg_config_schema_check_exchange(struct hg_config_reader *r,
                                     const struct hg_config_node *element, void *into)
{
    static const char *const not_passive[] = {"durable", "auto_delete", "internal", "arguments",
                                              NULL};
    struct hg_exchange_decl *e = into;
    e->spec.where = hg_config_read_where(r, &element->at);
    if (e->is_passive) {
        refuse_beside_passive(r, element, not_passive);
    } else if (e->spec.name != NULL && strncmp(e->spec.name, "amq.", 4) == 0) {
        hg_config_read_error(r, &hg_config_tree_find(element, "name")->at,
                             "exchanges named amq.* are RabbitMQ's own and need no declaration");
    }
    if (e->type == NULL) {
        return;
    }
    e->spec.type = hg_exchange_type_of(hg_bytes_str(e->type));
    if (e->spec.type == HG_EXCHANGE_OTHER && strncmp(e->type, "x-", 2) != 0) {
        const char *near = hg_config_read_nearest(e->type, next_exchange_type, NULL);
        hg_config_read_error(r, &hg_config_tree_find(element, "type")->at,
                             "type must be direct, fanout, topic, headers or x-…%s%s%s",
                             near == NULL ? "" : "; did you mean \"", near == NULL ? "" : near,
                             near == NULL ? "" : "\"?");
    }
}

void hg_config_schema_check_queue(struct hg_config_reader *r, const struct hg_config_node *element,
                                  void *into)
{
    static const char *const not_passive[] = {"type", "durable", "auto_delete", "arguments", NULL};
    struct hg_queue_decl *q = into;
    q->where = hg_config_read_where(r, &element->at);
    for (size_t i = 1; i < q->arguments_n; i++) {
        if (hg_bytes_eq(q->arguments[i].name, HG_BYTES("x-queue-type"))) {
            hg_config_read_error(r, &hg_config_tree_find(element, "arguments")->at,
                                 "say type = \"…\" rather than the argument x-queue-type");
        }
    }
    if (q->is_passive) {
        refuse_beside_passive(r, element, not_passive);
    } else if (strcmp(q->type, "classic") != 0 && (!q->is_durable || q->is_auto_delete)) {
        const struct hg_config_node *why =
            hg_config_tree_find(element, q->is_durable ? "auto_delete" : "durable");
        hg_config_read_error(r, &why->at, "a %s queue is always durable and never auto_delete",
                             q->type);
    }
}
