/* SPDX-License-Identifier: Apache-2.0 */
/* A TOML document as plain C nodes that know where they stand, and the memory that a configuration
 * lives in. For config*.c only; plain enough for C++, since config_toml.cc fills it. */
#ifndef HG_CORE_CONFIG_TREE_H
#define HG_CORE_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Memory that is freed all at once. After a failed allocation `is_exhausted` stays set, so a
 * builder checks once, at its end. */
struct hg_config_arena {
    struct hg_config_chunk *chunks; /* newest first */
    bool is_exhausted;
};
/* Zeroed, aligned for any type; NULL when there is no memory. */
void *hg_config_arena_get(struct hg_config_arena *a, size_t n);
/* NUL-terminated copy; NULL when there is no memory. */
char *hg_config_arena_copy(struct hg_config_arena *a, const char *p, size_t n);
char *hg_config_arena_printf(struct hg_config_arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void hg_config_arena_close(struct hg_config_arena *a);

enum hg_config_kind {
    HG_CONFIG_TABLE,
    HG_CONFIG_ARRAY,
    HG_CONFIG_STRING,
    HG_CONFIG_INT,
    HG_CONFIG_FLOAT,
    HG_CONFIG_BOOL,
    HG_CONFIG_DATE /* any of TOML's four; no key takes one */
};
const char *hg_config_kind_name(enum hg_config_kind kind); /* "a string" */

struct hg_config_at {
    const char *source;    /* the file, or "--set key" */
    uint32_t line, column; /* from 1 */
};

struct hg_config_node {
    enum hg_config_kind kind;
    struct hg_config_at at;      /* of the value */
    struct hg_config_at key_at;  /* of the key; of the value itself inside an array */
    const char *key;             /* NULL inside an array and for the root */
    struct hg_config_node *next; /* sibling, in the order of the document */
    union {
        struct hg_config_node *first; /* TABLE, ARRAY */
        struct {
            const char *p; /* a NUL follows; none is inside */
            size_t n;
        } string;
        int64_t i;
        double d;
        bool b;
    } u;
};

struct hg_config_syntax_error {
    struct hg_config_at at;
    const char *text; /* in the arena */
};

/* The document's root table. NULL: syntax error, or no memory (the arena is exhausted then). In
 * config_toml.cc; throws nothing. */
struct hg_config_node *hg_config_toml_parse(struct hg_config_arena *a, const char *text, size_t n,
                                            const char *source,
                                            struct hg_config_syntax_error *err_out);

/* NULL if absent. */
struct hg_config_node *hg_config_tree_find(const struct hg_config_node *table, const char *key);
size_t hg_config_tree_n(const struct hg_config_node *table_or_array);

/* Lays `over` on `base`, table by table; a number as a key in `over` names an element of an array
 * in `base`, one past the last appends. NULL, or the node of `over` that fits nowhere. */
const struct hg_config_node *hg_config_tree_merge(struct hg_config_node *base,
                                                  struct hg_config_node *over);

#ifdef __cplusplus
}
#endif

#endif
