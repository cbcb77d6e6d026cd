/* SPDX-License-Identifier: Apache-2.0 */
/* The file, read again while the gateway runs: what may change is taken from it, all else stays as it
 * was at the start. Fields that say `is_live` are the former; a field without it is safe. */
#include "core/config_schema.h"

#include <stdio.h>

enum { PATH_MAX_BYTES = 160 };

struct settling {
    struct hg_config_arena *arena;
    hg_config_kept_fn *kept;
    void *ctx;
};

/* A table, or an element of an array, in both readings. */
struct pair {
    const struct hg_config_node *first, *next; /* NULL: absent */
    const void *from;                          /* the struct that `next` was read into */
    void *into;                                /* has what `first` was read into */
};

/* ---- What stands in the files ---- */

static bool is_same(const struct hg_config_node *a, const struct hg_config_node *b);

static bool is_same_table(const struct hg_config_node *a, const struct hg_config_node *b)
{
    bool is = hg_config_tree_n(a) == hg_config_tree_n(b);
    for (const struct hg_config_node *it = a->u.first; is && it != NULL; it = it->next) {
        const struct hg_config_node *other = hg_config_tree_find(b, it->key);
        is = other != NULL && is_same(it, other);
    }
    return is;
}

static bool is_same_array(const struct hg_config_node *a, const struct hg_config_node *b)
{
    const struct hg_config_node *x = a->u.first;
    const struct hg_config_node *y = b->u.first;
    while (x != NULL && y != NULL && is_same(x, y)) {
        x = x->next;
        y = y->next;
    }
    return x == NULL && y == NULL;
}

static bool is_same(const struct hg_config_node *a, const struct hg_config_node *b)
{
    if (a == NULL || b == NULL || a->kind != b->kind) {
        return a == b;
    }
    switch (a->kind) {
    case HG_CONFIG_TABLE: return is_same_table(a, b);
    case HG_CONFIG_ARRAY: return is_same_array(a, b);
    case HG_CONFIG_STRING:
        return a->u.string.n == b->u.string.n &&
               memcmp(a->u.string.p, b->u.string.p, a->u.string.n) == 0;
    case HG_CONFIG_INT: return a->u.i == b->u.i;
    case HG_CONFIG_FLOAT: return memcmp(&a->u.d, &b->u.d, sizeof(a->u.d)) == 0;
    case HG_CONFIG_BOOL: return a->u.b == b->u.b;
    default: return false; /* a date: no key takes one */
    }
}

bool hg_config_says_same(const struct hg_config *a, const struct hg_config *b, const char *key)
{
    return is_same(hg_config_tree_find(a->document, key), hg_config_tree_find(b->document, key));
}

/* ---- Field by field ---- */

static const void *at(const void *base, size_t offset)
{
    return (const uint8_t *)base + offset;
}

/* A key that says what is the default anyway changes nothing. */
static bool has_same_value(const struct hg_config_field *f, const struct pair *p)
{
    const char *a;
    const char *b;
    switch (f->kind) {
    case HG_READ_BOOLEAN:
    case HG_READ_NUMBER:
    case HG_READ_DURATION:
    case HG_READ_SIZE:
    case HG_READ_WORD: return memcmp(at(p->from, f->offset), at(p->into, f->offset), f->bytes) == 0;
    case HG_READ_TEXT:
        memcpy(&a, at(p->from, f->offset), sizeof(const char *));
        memcpy(&b, at(p->into, f->offset), sizeof(const char *));
        return a != NULL && b != NULL && strcmp(a, b) == 0;
    default: return false;
    }
}

static void take(const struct hg_config_field *f, const struct pair *p)
{
    memcpy((uint8_t *)p->into + f->offset, at(p->from, f->offset), f->bytes);
    if (f->kind == HG_READ_TEXTS || f->kind == HG_READ_TABLES) {
        memcpy((uint8_t *)p->into + f->n_offset, at(p->from, f->n_offset), sizeof(size_t));
    }
}

static void note(const struct settling *s, const char *path, const struct pair *p)
{
    char where[PATH_MAX_BYTES] = "";
    const struct hg_config_node *node = p->next != NULL ? p->next : p->first;
    if (node != NULL) {
        snprintf(where, sizeof(where), "%s:%u:%u", node->at.source, node->at.line, node->at.column);
    }
    s->kept(s->ctx, path, where);
}

static void settle_table(const struct settling *s, const struct hg_config_field *fields,
                         const struct pair *table, const char *path, bool is_live);

/* An array of tables that is not live as a whole; each element may have something that is. */
static void settle_tables(const struct settling *s, const struct hg_config_field *f,
                          const struct pair *p, const char *path)
{
    size_t n = p->first == NULL ? 0 : hg_config_tree_n(p->first);
    uint8_t *elements = hg_config_arena_get(s->arena, (n + 1) * f->element_bytes);
    const uint8_t *read;
    const uint8_t *had;
    if (n != (p->next == NULL ? 0 : hg_config_tree_n(p->next))) {
        note(s, path, p);
        return;
    }
    memcpy(&read, at(p->from, f->offset), sizeof(read));
    memcpy(&had, at(p->into, f->offset), sizeof(had));
    if (elements == NULL || n == 0) {
        return;
    }
    memcpy(elements, had, n * f->element_bytes);
    const struct hg_config_node *first = p->first->u.first;
    const struct hg_config_node *next = p->next->u.first;
    for (size_t i = 0; i < n; i++, first = first->next, next = next->next) {
        char element[PATH_MAX_BYTES];
        const struct pair pair = {first, next, read + i * f->element_bytes,
                                  elements + i * f->element_bytes};
        snprintf(element, sizeof(element), "%.80s[%zu].", path, i);
        settle_table(s, f->fields, &pair, element, false);
    }
    memcpy((uint8_t *)p->into + f->offset, &elements, sizeof(uint8_t *));
}

static void settle_table(const struct settling *s, const struct hg_config_field *fields,
                         const struct pair *table, const char *path, bool is_live)
{
    for (const struct hg_config_field *f = fields; f->key != NULL; f++) {
        char name[PATH_MAX_BYTES];
        struct pair p = *table;
        p.first = table->first == NULL ? NULL : hg_config_tree_find(table->first, f->key);
        p.next = table->next == NULL ? NULL : hg_config_tree_find(table->next, f->key);
        snprintf(name, sizeof(name), "%.100s%.40s%s", path, f->key,
                 f->kind == HG_READ_TABLE ? "." : "");
        if (f->kind == HG_READ_TABLE) {
            settle_table(s, f->fields, &p, name, is_live || f->is_live);
        } else if (is_live || f->is_live) {
            take(f, &p);
        } else if (f->kind == HG_READ_TABLES) {
            settle_tables(s, f, &p, name);
        } else if (!is_same(p.first, p.next) && !has_same_value(f, &p)) {
            note(s, name, &p);
        }
    }
}

/* ---- What no field describes ---- */

/* The listeners are those that are open, whatever the file says of them now. */
static bool settle_listeners(struct hg_config_arena *arena, struct hg_config *next,
                             struct hg_writer *errors_out)
{
    struct hg_listener_spec *l = hg_config_arena_get(arena, (next->listeners_n + 1) * sizeof(*l));
    if (l == NULL) {
        return false;
    }
    memcpy(l, next->listeners, next->listeners_n * sizeof(*l));
    next->listeners = l;
    for (size_t i = 0; i < next->listeners_n; i++) {
        l[i].takes_anonymous = hg_config_schema_takes_anonymous(next, &l[i]);
        if (l[i].serve != HG_SERVE_ADMIN && !l[i].takes_anonymous && !next->has_identities) {
            hg_writer_printf(errors_out,
                             "%s:1:1: nobody could log in any more, and everybody could use the "
                             "listener that is open at %s:%u: this needs a restart\n",
                             next->file, l[i].host, (unsigned)l[i].port);
            return false;
        }
    }
    return true;
}

/* Each has what the file says of it now, and is reached as before. */
static bool settle_vhosts(struct hg_config_arena *arena, struct hg_config *next,
                          const struct hg_config *read, struct hg_writer *errors_out)
{
    struct hg_vhost_spec *v = hg_config_arena_get(arena, (next->vhosts_n + 1) * sizeof(*v));
    bool are_same = v != NULL && next->vhosts_n == read->vhosts_n;
    for (size_t i = 0; are_same && i < next->vhosts_n; i++) {
        v[i] = read->vhosts[i];
        v[i].name = next->vhosts[i].name;
        v[i].endpoints = next->vhosts[i].endpoints;
        v[i].endpoints_n = next->vhosts[i].endpoints_n;
        are_same = strcmp(v[i].name, read->vhosts[i].name) == 0;
    }
    next->vhosts = v;
    next->all_rules_n = read->all_rules_n;
    if (!are_same && v != NULL) {
        hg_writer_printf(errors_out, "%s:1:1: other virtual hosts need a restart\n", read->file);
    }
    return are_same;
}

bool hg_config_schema_settle(struct hg_config_arena *arena, struct hg_config *next,
                             const struct hg_config *first, hg_config_kept_fn *kept, void *ctx,
                             struct hg_writer *errors_out)
{
    const struct settling s = {arena, kept, ctx};
    const struct hg_config read = *next;
    const struct pair root = {first->document, read.document, &read, next};
    *next = *first;
    settle_table(&s, hg_config_schema, &root, "", false);
    next->file = read.file;
    next->sets = read.sets;
    next->sets_n = read.sets_n;
    next->document = read.document;
    next->users = read.users;
    next->has_identities = read.has_identities;
    next->roles = read.roles;
    next->roles_n = read.roles_n;
    bool is_settled =
        settle_vhosts(arena, next, &read, errors_out) && settle_listeners(arena, next, errors_out);
    if (arena->is_exhausted) {
        hg_writer_str(errors_out, "out of memory\n");
    }
    return is_settled && !arena->is_exhausted;
}

/* ---- Roles ---- */

uint64_t hg_config_translate_roles(const struct hg_config *from, const struct hg_config *to,
                                   uint64_t roles)
{
    uint64_t bits = roles & HG_ROLE_EVERYBODY;
    for (size_t i = 1; i < from->roles_n; i++) {
        for (size_t j = 1; (roles >> i & 1) != 0 && j < to->roles_n; j++) {
            bits |= (uint64_t)(strcmp(from->roles[i], to->roles[j]) == 0) << j;
        }
    }
    return bits;
}
