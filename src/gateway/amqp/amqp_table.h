/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables (AMQP 0-9-1 section 4.2.5.5, with RabbitMQ's types): between librabbitmq's
 * amqp_table_t and our headers. */
#ifndef HG_AMQP_AMQP_TABLE_H
#define HG_AMQP_AMQP_TABLE_H

#include "base/buf.h"
#include "base/status.h"
#include "message/message.h"

#include <amqp.h>

/* Tables within tables, the outermost being 1. librabbitmq recurses without a limit of its own. */
enum { HG_AMQP_TABLE_DEPTH = 32 };

enum hg_amqp_table_shape {
    HG_AMQP_TABLE_SOUND,
    HG_AMQP_TABLE_DEEP,  /* well-formed as far as was looked, but nested too deep */
    HG_AMQP_TABLE_BROKEN /* a length that runs over its surroundings, or an unknown type */
};

/* To be asked before librabbitmq decodes a table. `in` starts at the table's length; *n_out says
 * how many bytes of it the table takes up (unless broken). */
enum hg_amqp_table_shape hg_amqp_table_check(struct hg_bytes in, size_t *n_out);

/* The table as headers, an array in `pool`; strings are borrowed from the table, JSON text from
 * `json`, which is reset. Unsigned 64-bit numbers past INT64_MAX become decimal strings, decimals
 * doubles. Inside JSON, timestamps are numbers, and bytes that are not UTF-8 are base64. False when
 * there is no memory. */
bool hg_amqp_table_read(const amqp_table_t *table, amqp_pool_t *pool, struct hg_writer *json,
                        const struct hg_header **headers_out);

/* Headers as a table in `pool`; strings are borrowed, nested JSON is copied. OK; NO_MEMORY;
 * BAD_PROPERTY: a name over 255 bytes, or a JSON value that is no table or array, is nested too
 * deep or has a number past 64 bits. */
enum hg_status hg_amqp_table_make(amqp_pool_t *pool, const struct hg_header *headers, size_t n,
                                  amqp_table_t *out);

static inline amqp_bytes_t hg_amqp_bytes(struct hg_bytes b)
{
    return (amqp_bytes_t){b.n, (void *)(uintptr_t)b.p};
}

static inline struct hg_bytes hg_amqp_view(amqp_bytes_t b)
{
    return (struct hg_bytes){b.bytes, b.len};
}

#endif
