/* SPDX-License-Identifier: Apache-2.0 */
/* A secret that is a file's content and changes while the process runs: a password or token that
 * somebody else renews. One object for all threads. */
#ifndef HG_BASE_SECRET_H
#define HG_BASE_SECRET_H

#include "base/log.h"

/* Also the longest time after which a change is seen (twice it, where the file is written in
 * place: what was seen changing is read at the look after). */
enum { HG_SECRET_LOOK_MS = 1000, HG_SECRET_MAX_BYTES = 64 * 1024 };

struct hg_secret;

/* NULL: *why_out says what is wrong with the file (static text). One line end behind the secret is
 * not part of it. */
struct hg_secret *hg_secret_new(const char *path, const char **why_out);
void hg_secret_free(struct hg_secret *s); /* NULL is fine */

/* Looks whether the file has changed, unless somebody did within HG_SECRET_LOOK_MS, and reads it
 * then; `is_asked`: in any case, and at once. What cannot be read changes nothing, and is logged.
 * Any thread. */
void hg_secret_look(struct hg_secret *s, uint64_t now_ms, bool is_asked, struct hg_log *log);
/* Grows with every change; never 0. */
uint64_t hg_secret_version(struct hg_secret *s);
/* A copy, for hg_forget and hg_free, and which version it is. NULL when there is no memory. */
char *hg_secret_copy(struct hg_secret *s, uint64_t *version_out);

#endif
