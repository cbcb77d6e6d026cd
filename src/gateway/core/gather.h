/* SPDX-License-Identifier: Apache-2.0 */
/* A question to every worker of the process, answered with text. */
#ifndef HG_CORE_GATHER_H
#define HG_CORE_GATHER_H

#include "core/worker.h"

/* Asks every worker, this one included, for text (`ask` runs there), and hands all of it, joined by
 * `separator` in worker order and leaving out empty ones, to `done` on this worker; from the loop,
 * never from inside. Returns a handle for hg_gather_cancel, NULL when there is no memory. */
struct hg_gather;
typedef void hg_gather_ask_fn(struct hg_worker *worker, struct hg_writer *out);
typedef void hg_gather_done_fn(void *ctx, struct hg_bytes text);
struct hg_gather *hg_gather(struct hg_worker *w, hg_gather_ask_fn *ask, const char *separator,
                            hg_gather_done_fn *done, void *ctx);
void hg_gather_cancel(struct hg_gather *g); /* done will not be called */
/* For the worker's mailbox: HG_MAIL_GATHER_ASK and HG_MAIL_GATHER_DONE. */
void hg_gather_on_ask(struct hg_worker *w, struct hg_mail *mail);
void hg_gather_on_done(struct hg_mail *mail);

#endif
