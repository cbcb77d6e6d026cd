/* SPDX-License-Identifier: Apache-2.0 */
/* The process's file descriptors: a connection takes one each. */
#ifndef HG_CORE_FILES_H
#define HG_CORE_FILES_H

#include "core/config.h"

/* How many the configuration asks for at most: its connections, and what the gateway needs itself. */
uint64_t hg_files_needed(const struct hg_config *config);
/* Raises the soft limit as far as it goes, and says in the log if that is less. Once, at the start. */
void hg_files_raise(const struct hg_config *config, struct hg_log *log);

#endif
