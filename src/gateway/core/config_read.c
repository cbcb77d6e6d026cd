/* SPDX-License-Identifier: Apache-2.0 */
/* The table-driven reader of the configuration: types, defaults, ranges, unknown keys, and the list
 * of problems. */
#include "core/config_read.h"

#include "core/config_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct hg_config_problem {
    struct hg_config_problem *next;
    struct hg_config_at at;
    size_t order;
    const char *text;
};

enum { TEXT_MAX = 1024 };

void hg_config_read_error(struct hg_config_reader *r, const struct hg_config_at *at,
                          const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct hg_config_problem *p = hg_config_arena_get(&r->arena, sizeof *p);
    if (p == NULL || n < 0) {
        return;
    }
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?'; /* one line a problem, whatever a key is called */
        }
    }
    p->at = *at;
    p->order = r->problems_n++;
    p->text = hg_config_arena_copy(&r->arena, text, strlen(text));
    p->next = r->problems;
    r->problems = p;
}

/* The file comes before the overrides, and each in its own order. */
static int compare_problems(const void *left, const void *right)
{
    const struct hg_config_problem *a = *(struct hg_config_problem *const *)left;
    const struct hg_config_problem *b = *(struct hg_config_problem *const *)right;
    bool a_is_set = strncmp(a->at.source, "--set", 5) == 0;
    bool b_is_set = strncmp(b->at.source, "--set", 5) == 0;
    if (a_is_set != b_is_set) {
        return a_is_set ? 1 : -1;
    }
    if (!a_is_set && a->at.line != b->at.line) {
        return a->at.line < b->at.line ? -1 : 1;
    }
    if (!a_is_set && a->at.column != b->at.column) {
        return a->at.column < b->at.column ? -1 : 1;
    }
    return a->order < b->order ? -1 : a->order > b->order;
}

void hg_config_read_report(struct hg_config_reader *r, struct hg_writer *out)
{
    struct hg_config_problem **sorted =
        hg_config_arena_get(&r->arena, r->problems_n * sizeof(struct hg_config_problem *));
    if (r->arena.is_exhausted || sorted == NULL) {
        hg_writer_str(out, "out of memory\n");
        return;
    }
    size_t n = 0;
    for (struct hg_config_problem *p = r->problems; p != NULL; p = p->next) {
        sorted[n++] = p;
    }
    qsort(sorted, n, sizeof *sorted, compare_problems);
    for (size_t i = 0; i < n; i++) {
        hg_writer_printf(out, "%s:%u:%u: %s\n", sorted[i]->at.source, sorted[i]->at.line,
                         sorted[i]->at.column, sorted[i]->text);
    }
}

const char *hg_config_read_where(struct hg_config_reader *r, const struct hg_config_at *at)
{
    return hg_config_arena_printf(&r->arena, "%s:%u:%u", at->source, at->line, at->column);
}

/* Edit distance where swapping two neighbours counts once (optimal string alignment); at least
 * `limit` if it is not below. */
static unsigned distance(const char *a, const char *b, unsigned limit)
{
    enum { WORD_MAX = 32 };
    size_t a_n = strlen(a);
    size_t b_n = strlen(b);
    unsigned rows[3][WORD_MAX + 1];
    if (a_n > WORD_MAX || b_n > WORD_MAX) {
        return limit;
    }
    for (unsigned j = 0; j <= b_n; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= a_n; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *before = rows[(i + 2) % 3];
        const unsigned *before_that = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b_n; j++) {
            unsigned best = before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before_that[j - 2] + 1 < best) {
                best = before_that[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return rows[a_n % 3][b_n];
}

const char *hg_config_read_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                                   const void *ctx)
{
    const char *best = NULL;
    unsigned best_distance = strlen(word) <= 4 ? 2 : strlen(word) <= 8 ? 3 : 4;
    const char *candidate;
    for (size_t i = 0; (candidate = next(ctx, i)) != NULL; i++) {
        unsigned d = distance(word, candidate, best_distance);
        if (d < best_distance) {
            best_distance = d;
            best = candidate;
        }
    }
    return best;
}

static const char *next_field(const void *ctx, size_t i)
{
    const struct hg_config_field *fields = ctx;
    return fields[i].key;
}

static const char *next_word(const void *ctx, size_t i)
{
    const char *const *words = ctx;
    return words[i];
}

static void refuse_unknown_keys(struct hg_config_reader *r, const struct hg_config_node *table,
                                const struct hg_config_field *fields)
{
    for (const struct hg_config_node *n = table->u.first; n != NULL; n = n->next) {
        const struct hg_config_field *f = fields;
        while (f->key != NULL && strcmp(f->key, n->key) != 0) {
            f++;
        }
        if (f->key == NULL) {
            const char *near = hg_config_read_nearest(n->key, next_field, fields);
            hg_config_read_error(r, &n->key_at, "unknown key \"%.200s\"%s%s%s", n->key,
                                 near == NULL ? "" : ", did you mean \"", near == NULL ? "" : near,
                                 near == NULL ? "" : "\"?");
        }
    }
}

static void store(const struct hg_config_field *f, void *into, uint64_t v)
{
    uint8_t *at = (uint8_t *)into + f->offset;
    uint32_t v32 = (uint32_t)v;
    uint16_t v16 = (uint16_t)v;
    uint8_t v8 = (uint8_t)v;
    const void *from = f->bytes == 8   ? (const void *)&v
                       : f->bytes == 4 ? (const void *)&v32
                       : f->bytes == 2 ? (const void *)&v16
                                       : (const void *)&v8;
    memcpy(at, from, f->bytes);
}

static uint64_t max_of(const struct hg_config_field *f)
{
    uint64_t fits = f->bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * f->bytes)) - 1;
    return f->max == 0 || f->max > fits ? fits : f->max;
}

static const char *amount_text(struct hg_config_reader *r, const struct hg_config_field *f,
                               uint64_t v)
{
    const char *text = f->kind == HG_READ_DURATION ? hg_config_value_duration_text(&r->arena, v)
                       : f->kind == HG_READ_SIZE
                           ? hg_config_value_size_text(&r->arena, v)
                           : hg_config_arena_printf(&r->arena, "%llu", (unsigned long long)v);
    return text == NULL ? "" : text;
}

static void store_amount(struct hg_config_reader *r, const struct hg_config_field *f,
                         const struct hg_config_at *at, uint64_t v, void *into)
{
    if (v < f->min || v > max_of(f)) {
        hg_config_read_error(r, at, "%s must be between %s and %s", f->key,
                             amount_text(r, f, f->min), amount_text(r, f, max_of(f)));
        return;
    }
    store(f, into, v);
}

static bool parse_amount(const struct hg_config_field *f, const char *text, uint64_t *out)
{
    return f->kind == HG_READ_DURATION ? hg_config_value_duration(text, out)
           : f->kind == HG_READ_SIZE   ? hg_config_value_size(text, out)
                                       : hg_bytes_to_u64(hg_bytes_str(text), UINT64_MAX, out);
}

static void read_amount(struct hg_config_reader *r, const struct hg_config_field *f,
                        const struct hg_config_node *node, void *into)
{
    uint64_t v = 0;
    if (f->kind == HG_READ_NUMBER) {
        if (hg_config_read_kind(r, node, HG_CONFIG_INT) == NULL) {
            return;
        }
        if (node->u.i < 0) {
            hg_config_read_error(r, &node->at, "%s must not be negative", f->key);
            return;
        }
        v = (uint64_t)node->u.i;
    } else if (node->kind != HG_CONFIG_STRING || !parse_amount(f, node->u.string.p, &v)) {
        hg_config_read_error(r, &node->at, "%s must be a %s", f->key,
                             f->kind == HG_READ_DURATION
                                 ? "duration such as \"20s\" (units ms, s, m, h)"
                                 : "size such as \"64MiB\" (units B, KiB, MiB, GiB)");
        return;
    }
    store_amount(r, f, &node->at, v, into);
}

static bool find_word(const struct hg_config_field *f, const char *word, uint64_t *index_out)
{
    for (size_t i = 0; f->words[i] != NULL; i++) {
        if (strcmp(f->words[i], word) == 0) {
            *index_out = i;
            return true;
        }
    }
    return false;
}

static void refuse_word(struct hg_config_reader *r, const struct hg_config_field *f,
                        const struct hg_config_node *node)
{
    struct hg_writer list = {0};
    for (size_t i = 0; f->words[i] != NULL; i++) {
        hg_writer_printf(&list, "%s\"%s\"", i == 0 ? "" : ", ", f->words[i]);
    }
    const char *near = hg_config_read_nearest(node->u.string.p, next_word, f->words);
    hg_config_read_error(r, &node->at, "%s must be one of %.*s%s%s%s", f->key,
                         HG_BYTES_FMT(hg_writer_view(&list)),
                         near == NULL ? "" : "; did you mean \"", near == NULL ? "" : near,
                         near == NULL ? "" : "\"?");
    hg_writer_close(&list);
}

static void read_text(struct hg_config_reader *r, const struct hg_config_field *f,
                      const struct hg_config_node *node, void *into)
{
    uint64_t index;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    if (node->u.string.n < f->min) {
        hg_config_read_error(r, &node->at, "%s must not be empty", f->key);
    } else if (f->max > 0 && node->u.string.n > f->max) {
        hg_config_read_error(r, &node->at, "%s must not be longer than %llu bytes", f->key,
                             (unsigned long long)f->max);
    } else if (f->words != NULL && !find_word(f, node->u.string.p, &index)) {
        refuse_word(r, f, node);
    } else {
        memcpy((uint8_t *)into + f->offset, &node->u.string.p, sizeof(const char *));
    }
}

static void read_word(struct hg_config_reader *r, const struct hg_config_field *f,
                      const struct hg_config_node *node, void *into)
{
    uint64_t index;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    if (find_word(f, node->u.string.p, &index)) {
        store(f, into, index);
    } else {
        refuse_word(r, f, node);
    }
}

static void store_preset(const struct hg_config_field *f, void *into)
{
    uint64_t v = 0;
    if (f->preset == NULL) {
        return;
    }
    if (f->kind == HG_READ_TEXT) {
        memcpy((uint8_t *)into + f->offset, &f->preset, sizeof f->preset);
        return;
    }
    if (f->kind == HG_READ_ROLES) {
        store(f, into, 1); /* "*", the first of all: there is no other that is always known */
        return;
    }
    bool is_known = f->kind == HG_READ_BOOLEAN ? (v = strcmp(f->preset, "true") == 0, true)
                    : f->kind == HG_READ_WORD  ? find_word(f, f->preset, &v)
                                               : parse_amount(f, f->preset, &v);
    if (is_known) {
        store(f, into, v);
    }
}

const struct hg_config_node *hg_config_read_kind(struct hg_config_reader *r,
                                                 const struct hg_config_node *node,
                                                 enum hg_config_kind kind)
{
    if (node == NULL || node->kind == kind) {
        return node;
    }
    hg_config_read_error(r, &node->at, "%s%smust be %s, not %s", node->key == NULL ? "" : node->key,
                         node->key == NULL ? "" : " ", hg_config_kind_name(kind),
                         hg_config_kind_name(node->kind));
    return NULL;
}

const char *const *hg_config_read_texts(struct hg_config_reader *r,
                                        const struct hg_config_node *node, size_t *n_out)
{
    *n_out = 0;
    if (hg_config_read_kind(r, node, HG_CONFIG_ARRAY) == NULL || node->u.first == NULL) {
        return NULL;
    }
    const char **texts =
        hg_config_arena_get(&r->arena, hg_config_tree_n(node) * sizeof(const char *));
    for (const struct hg_config_node *n = node->u.first; n != NULL && texts != NULL; n = n->next) {
        if (hg_config_read_kind(r, n, HG_CONFIG_STRING) != NULL) {
            texts[(*n_out)++] = n->u.string.p;
        }
    }
    return texts;
}

/* Its bit; 0, and a problem noted: it can have none. */
static uint64_t role_of(struct hg_config_reader *r, const struct hg_config_node *node)
{
    const char *name = node->u.string.p;
    for (size_t i = 0; i < r->roles_n; i++) {
        if (strcmp(r->roles[i], name) == 0) {
            return UINT64_C(1) << i;
        }
    }
    if (name[0] == '\0' || strpbrk(name, " \t\r\n*") != NULL) {
        hg_config_read_error(r, &node->at,
                             "a role has a name without blanks and asterisks, or is \"*\"");
        return 0;
    }
    if (r->roles_n == HG_ROLES_MAX) {
        hg_config_read_error(r, &node->at, "\"%.200s\" is one role too many: %d can have names",
                             name, HG_ROLES_MAX - 1);
        return 0;
    }
    r->roles[r->roles_n] = name;
    return UINT64_C(1) << r->roles_n++;
}

static void read_roles(struct hg_config_reader *r, const struct hg_config_field *f,
                       const struct hg_config_node *node, void *into)
{
    uint64_t roles = 0;
    if (hg_config_read_kind(r, node, HG_CONFIG_ARRAY) == NULL) {
        return;
    }
    for (const struct hg_config_node *n = node->u.first; n != NULL; n = n->next) {
        if (hg_config_read_kind(r, n, HG_CONFIG_STRING) != NULL) {
            roles |= role_of(r, n);
        }
    }
    store(f, into, roles);
}

static const char *next_vhost(const void *ctx, size_t i)
{
    const struct hg_config_reader *r = ctx;
    return i < r->vhosts_n ? r->vhosts[i] : NULL;
}

unsigned hg_config_read_vhost(struct hg_config_reader *r, const struct hg_config_node *node)
{
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return 0;
    }
    for (size_t i = 0; i < r->vhosts_n; i++) {
        if (strcmp(r->vhosts[i], node->u.string.p) == 0) {
            return (unsigned)i + 1;
        }
    }
    const char *near = hg_config_read_nearest(node->u.string.p, next_vhost, r);
    hg_config_read_error(r, &node->at, "no [[vhost]] is called \"%.200s\"%s%s%s", node->u.string.p,
                         near == NULL ? "" : ", did you mean \"", near == NULL ? "" : near,
                         near == NULL ? "" : "\"?");
    return 0;
}

static void read_vhosts(struct hg_config_reader *r, const struct hg_config_field *f,
                        const struct hg_config_node *node, void *into)
{
    uint64_t bits = 0;
    if (hg_config_read_kind(r, node, HG_CONFIG_ARRAY) == NULL) {
        return;
    }
    for (const struct hg_config_node *n = node->u.first; n != NULL; n = n->next) {
        if (n->kind == HG_CONFIG_STRING && strcmp(n->u.string.p, "*") == 0) {
            bits = UINT64_MAX;
            continue;
        }
        unsigned place = hg_config_read_vhost(r, n);
        bits |= place == 0 ? 0 : UINT64_C(1) << (place - 1);
    }
    if (node->u.first == NULL) {
        hg_config_read_error(r, &node->at, "%s must not be empty", f->key);
    }
    store(f, into, bits);
}

static void read_tables(struct hg_config_reader *r, const struct hg_config_field *f,
                        const struct hg_config_node *node, void *into)
{
    size_t n = 0;
    if (hg_config_read_kind(r, node, HG_CONFIG_ARRAY) == NULL || node->u.first == NULL) {
        return;
    }
    uint8_t *elements = hg_config_arena_get(&r->arena, hg_config_tree_n(node) * f->element_bytes);
    for (const struct hg_config_node *e = node->u.first; e != NULL && elements != NULL;
         e = e->next) {
        if (hg_config_read_kind(r, e, HG_CONFIG_TABLE) != NULL) {
            void *element = elements + n++ * f->element_bytes;
            hg_config_read_table(r, e, &e->at, f->fields, element);
            if (f->check != NULL) {
                f->check(r, e, element);
            }
        }
    }
    memcpy((uint8_t *)into + f->offset, &elements, sizeof elements);
    memcpy((uint8_t *)into + f->n_offset, &n, sizeof n);
}

static void read_field(struct hg_config_reader *r, const struct hg_config_field *f,
                       const struct hg_config_node *node, const struct hg_config_at *table_at,
                       void *into)
{
    switch (f->kind) {
    case HG_READ_BOOLEAN:
        if (hg_config_read_kind(r, node, HG_CONFIG_BOOL) != NULL) {
            store(f, into, node->u.b ? 1 : 0);
        }
        break;
    case HG_READ_NUMBER:
    case HG_READ_DURATION:
    case HG_READ_SIZE: read_amount(r, f, node, into); break;
    case HG_READ_TEXT: read_text(r, f, node, into); break;
    case HG_READ_TEXTS: {
        size_t n;
        const char *const *texts = hg_config_read_texts(r, node, &n);
        memcpy((uint8_t *)into + f->offset, &texts, sizeof texts);
        memcpy((uint8_t *)into + f->n_offset, &n, sizeof n);
        break;
    }
    case HG_READ_ROLES: read_roles(r, f, node, into); break;
    case HG_READ_VHOST: store(f, into, hg_config_read_vhost(r, node)); break;
    case HG_READ_VHOSTS: read_vhosts(r, f, node, into); break;
    case HG_READ_WORD: read_word(r, f, node, into); break;
    case HG_READ_TABLE: hg_config_read_table(r, node, table_at, f->fields, into); break;
    case HG_READ_TABLES: read_tables(r, f, node, into); break;
    case HG_READ_OTHER: f->read(r, node, into); break;
    }
}

void hg_config_read_table(struct hg_config_reader *r, const struct hg_config_node *table,
                          const struct hg_config_at *at, const struct hg_config_field *fields,
                          void *into)
{
    table = hg_config_read_kind(r, table, HG_CONFIG_TABLE);
    if (table != NULL) {
        at = &table->at;
        refuse_unknown_keys(r, table, fields);
    }
    for (const struct hg_config_field *f = fields; f->key != NULL; f++) {
        const struct hg_config_node *node =
            table == NULL ? NULL : hg_config_tree_find(table, f->key);
        store_preset(f, into);
        if (node == NULL && f->is_required) {
            hg_config_read_error(r, at, "%s is missing", f->key);
        } else if (node != NULL || f->kind == HG_READ_TABLE || f->kind == HG_READ_OTHER) {
            read_field(r, f, node, at, into);
        }
    }
}
