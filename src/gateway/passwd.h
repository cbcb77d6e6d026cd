/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate passwd`: a password becomes the line that [[user]] wants. */
#ifndef HG_PASSWD_H
#define HG_PASSWD_H

#include "base/buf.h"

/* From a terminal, twice and without echo, or the first line of standard input. False: *why_out,
 * static text, says why there is no line in `out`. */
bool hg_passwd_command(struct hg_writer *out, const char **why_out);

#endif
