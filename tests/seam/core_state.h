/* SPDX-License-Identifier: Apache-2.0 */
/* The part of core_fake that stands for core/state.h. */
#ifndef HG_SEAM_CORE_STATE_H
#define HG_SEAM_CORE_STATE_H

#include "seam/core_fake.h"

void core_state_close(struct core_fake *f);
bool core_state_is_asked(const struct core_fake *f);

/* In core_fake.c, for this part. */
void core_log(struct core_fake *f, const char *call); /* begins the next one of f->calls */
/* Another process has the client now. */
void core_evict(struct core_fake *f, uint64_t epoch);

#endif
