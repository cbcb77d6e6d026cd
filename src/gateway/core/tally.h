/* SPDX-License-Identifier: Apache-2.0 */
/* How many there are of each: connections by address, by user. One table for all workers, in parts
 * with a lock each; it has the keys that count at least one, and no others. Any thread. */
#ifndef HG_CORE_TALLY_H
#define HG_CORE_TALLY_H

#include "base/bytes.h"
#include "base/status.h"

struct hg_tally;
struct hg_tally_entry; /* one that is counted */

/* NULL when there is no memory. */
struct hg_tally *hg_tally_new(void);
/* When nothing is counted any more. NULL is fine. */
void hg_tally_free(struct hg_tally *t);

/* Counts one more for the key, which has at most 255 bytes. OK and an entry; TOO_MANY: it has max_n
 * already; NO_MEMORY. */
enum hg_status hg_tally_add(struct hg_tally *t, struct hg_bytes key, uint32_t max_n,
                            struct hg_tally_entry **entry_out);
/* NULL is fine. */
void hg_tally_remove(struct hg_tally *t, struct hg_tally_entry *entry);
bool hg_tally_is_of(const struct hg_tally_entry *entry, struct hg_bytes key);
size_t hg_tally_n(struct hg_tally *t); /* keys */

#endif
