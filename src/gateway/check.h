/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate check`: what a configuration that is right amounts to. */
#ifndef HG_CHECK_COMMAND_H
#define HG_CHECK_COMMAND_H

#include "core/config.h"

/* Appends a summary with every rule and its mode, then the table's findings. Shows no password. */
void hg_check_command(const struct hg_config *c, struct hg_writer *out);

#endif
