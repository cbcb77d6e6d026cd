/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a table of the document into a struct by a table of fields, and collects everything that is
 * wrong on the way. For config*.c and their tests only. */
#ifndef HG_CORE_CONFIG_READ_H
#define HG_CORE_CONFIG_READ_H

#include "base/buf.h"
#include "core/config_tree.h"
#include "core/identity.h"

struct hg_config_problem;
struct hg_config_reader {
    struct hg_config_arena arena;
    struct hg_config_problem *problems; /* newest first */
    size_t problems_n;
    const char *roles[HG_ROLES_MAX]; /* their bits are their places; the first is "*" */
    size_t roles_n;
    const char *vhosts[HG_VHOSTS_MAX]; /* their names, the default one first; none: no [[vhost]] */
    size_t vhosts_n;
};

/* Notes what is wrong, without the position and without a full stop. */
void hg_config_read_error(struct hg_config_reader *r, const struct hg_config_at *at,
                          const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* All of it, one line "source:line:column: text" each, in the order of the document. */
void hg_config_read_report(struct hg_config_reader *r, struct hg_writer *out);
/* "source:line:column", for struct members called `where`. */
const char *hg_config_read_where(struct hg_config_reader *r, const struct hg_config_at *at);

enum hg_config_field_kind {
    HG_READ_BOOLEAN,
    HG_READ_NUMBER,
    HG_READ_DURATION, /* stored in milliseconds */
    HG_READ_SIZE,     /* stored in bytes */
    /* const char *; min and max are its length in bytes; `words`, if any, all it may be */
    HG_READ_TEXT,
    HG_READ_TEXTS,  /* const char *const *, and a size_t at n_offset */
    HG_READ_ROLES,  /* names of roles: a uint64_t, the bits of core/identity.h */
    HG_READ_VHOST,  /* the name of a [[vhost]]: a uint8_t, its place (core/identity.h), or 0 */
    HG_READ_VHOSTS, /* names of them, "*" for all: a uint64_t, their bits */
    HG_READ_WORD,   /* index of one of `words` */
    HG_READ_TABLE,  /* a table within, filled into the same struct by `fields` */
    /* an array of tables: an array of structs of `element_bytes`, each filled by `fields` and then
     * seen by `check` */
    HG_READ_TABLES,
    HG_READ_OTHER /* whatever `read` makes of it */
};

/* A key: where its value goes, what it may be, what it is when absent. One end-marker (key NULL)
 * closes a list. */
struct hg_config_field {
    const char *key;
    enum hg_config_field_kind kind;
    const char
        *preset;       /* the default as the file would have it, less quotes; NULL: left as it is */
    uint64_t min, max; /* of what is stored; max 0: no limit but the member's size */
    size_t offset, bytes, n_offset, element_bytes; /* in the struct to fill */
    const char *const *words;                      /* NULL-terminated */
    const struct hg_config_field *fields;
    /* node is NULL where the key is absent. */
    void (*read)(struct hg_config_reader *r, const struct hg_config_node *node, void *into);
    void (*check)(struct hg_config_reader *r, const struct hg_config_node *element, void *into);
    bool is_required;
    bool is_live; /* it, and all below it, may change while the gateway runs */
};
#define HG_CONFIG_MEMBER(type, member) \
    .offset = offsetof(struct type, member), .bytes = sizeof(((struct type *)NULL)->member)

/* table: NULL for one that is absent, so that every member gets its default. */
void hg_config_read_table(struct hg_config_reader *r, const struct hg_config_node *table,
                          const struct hg_config_at *at, const struct hg_config_field *fields,
                          void *into);

/* The node if it has this kind, else NULL and a problem noted; node may be NULL. */
const struct hg_config_node *hg_config_read_kind(struct hg_config_reader *r,
                                                 const struct hg_config_node *node,
                                                 enum hg_config_kind kind);
/* The place of the [[vhost]] that the node names; 0, and a problem noted, where none is called so. */
unsigned hg_config_read_vhost(struct hg_config_reader *r, const struct hg_config_node *node);
/* As HG_READ_TEXTS reads it. */
const char *const *hg_config_read_texts(struct hg_config_reader *r,
                                        const struct hg_config_node *node, size_t *n_out);

/* The words' nearest to `word` that could be meant, NULL if none is near. next(ctx, i) gives the
 * i-th word, NULL at the end. */
const char *hg_config_read_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                                   const void *ctx);

#endif
