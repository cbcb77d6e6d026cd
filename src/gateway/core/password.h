/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords as argon2id lines ("$argon2id$v=19$m=…"), by libsodium. */
#ifndef HG_CORE_PASSWORD_H
#define HG_CORE_PASSWORD_H

#include "base/bytes.h"

enum { HG_PASSWORD_LINE_SIZE = 128, HG_PASSWORD_MAX_BYTES = 1024 };

/* Whether the text is such a line, with costs that one check may have (up to 1 GiB, 64 rounds). */
bool hg_password_is_line(const char *line);
/* Takes tens of milliseconds and as much memory as the line says. Any thread. */
bool hg_password_is(const char *line, struct hg_bytes password);
/* A new line for the password, 19 MiB and two rounds. False when there is no memory. */
bool hg_password_make(struct hg_bytes password, char line_out[HG_PASSWORD_LINE_SIZE]);

#endif
