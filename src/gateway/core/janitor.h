/* SPDX-License-Identifier: Apache-2.0 */
/* What one gateway does for all of them, whoever holds the leader's queue: it writes records of the
 * state log again before the log's truncation reaches them, looks whether the others are alive, and
 * ends what nobody is left to end: connections of an instance that died, sessions whose time is
 * over, and publishes the wills that come due. On the first worker. */
#ifndef HG_CORE_JANITOR_H
#define HG_CORE_JANITOR_H

#include "core/state_index.h"

#include <stdbool.h>

struct hg_state;
struct hg_janitor;

/* NULL when there is no memory. Idle until it leads. */
struct hg_janitor *hg_janitor_new(struct hg_state *state);
void hg_janitor_free(struct hg_janitor *j); /* NULL is fine */

void hg_janitor_lead(struct hg_janitor *j, bool is_leader);
/* The index is whole: there may be something to do. */
void hg_janitor_wake(struct hg_janitor *j);
/* While leading: a message of the log was applied. */
void hg_janitor_on_change(struct hg_janitor *j, const struct hg_state_change *change);
/* Begins nothing more and forgets what is under way. */
void hg_janitor_stop(struct hg_janitor *j);

#endif
