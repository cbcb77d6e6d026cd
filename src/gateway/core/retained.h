/* SPDX-License-Identifier: Apache-2.0 */
/* A retained message packed into one block, shared between threads by an atomic count
 * (state_index.h). What does not last is left out of it: user_id, CC, BCC, and the log's own
 * headers. Equal messages are packed equally, whether read as published or from a copy. */
#ifndef HG_CORE_RETAINED_H
#define HG_CORE_RETAINED_H

#include "core/state_index.h"

/* The properties and body of `m`, under the exchange and key given. A body that is empty makes what
 * stands for "cleared". One reference; NULL when there is no memory. */
struct hg_retained *hg_retained_new(struct hg_bytes exchange, struct hg_bytes key,
                                    const struct hg_message *m);
struct hg_retained *hg_retained_ref(struct hg_retained *r);

/* Borrowed while you hold a reference. */
struct hg_bytes hg_retained_name(const struct hg_retained *r); /* of exchange and key together */
struct hg_bytes hg_retained_exchange(const struct hg_retained *r);
struct hg_bytes hg_retained_key(const struct hg_retained *r);
size_t hg_retained_body_n(const struct hg_retained *r);
/* Since 1970: when its time is over; UINT64_MAX: never. */
uint64_t hg_retained_ends_ms(const struct hg_retained *r);
/* All that was packed. */
struct hg_bytes hg_retained_bytes(const struct hg_retained *r);

/* The name that a message of this exchange and key has, in `out`. */
enum { HG_RETAINED_NAME_MAX = 1 + 255 + 255 };
struct hg_bytes hg_retained_name_of(struct hg_bytes exchange, struct hg_bytes key,
                                    uint8_t out[HG_RETAINED_NAME_MAX]);

/* The message again, with `extra` headers behind its own; its exchange and key are those given.
 * NULL when there is no memory. */
struct hg_message *hg_retained_unpack(const struct hg_retained *r, struct hg_bytes exchange,
                                      struct hg_bytes key, const struct hg_header *extra,
                                      size_t extra_n);

#endif
