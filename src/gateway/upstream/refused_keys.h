/* SPDX-License-Identifier: Apache-2.0 */
/* The last few routing keys that RabbitMQ refused at an exchange (topic permissions). */
#ifndef HG_UPSTREAM_REFUSED_KEYS_H
#define HG_UPSTREAM_REFUSED_KEYS_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct hg_refused_keys;

/* Notes *key (at most 255 bytes), which is the note's copy then, in place of the oldest. *keys is made where
 * it is NULL, for hg_free. False when there is no memory. */
bool hg_refused_keys_add(struct hg_refused_keys **keys, struct hg_bytes *key, uint64_t until_ms);
bool hg_refused_keys_has(const struct hg_refused_keys *keys, struct hg_bytes key, uint64_t now_ms);

#endif
