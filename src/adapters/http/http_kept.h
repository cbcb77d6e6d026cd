/* SPDX-License-Identifier: Apache-2.0 */
/* What one request leaves for the next on its worker: memory, and the text of the date. So a message
 * by HTTP costs no allocation for its request, and an idle connection has none. */
#ifndef HG_HTTP_KEPT_H
#define HG_HTTP_KEPT_H

#include "adapters/http/http_server.h"

/* Makes it where the worker has none yet; it goes with the worker. False when there is no memory. */
bool hg_http_kept_open(struct hg_worker *worker);
/* A request as new, but that its decoder may have memory. NULL when there is none. */
struct hg_http_request *hg_http_kept_take(struct hg_worker *worker);
/* Frees what it has, but for memory that another can use. */
void hg_http_kept_put(struct hg_worker *worker, struct hg_http_request *req);
/* The answer's body has been copied: its memory is where the next request's note is written. */
void hg_http_kept_body(struct hg_http_request *req);
/* hg_http_write_status, now. Under load the last answer's is the next one's. */
void hg_http_kept_status(struct hg_worker *worker, struct hg_writer *w, unsigned status);
/* An empty writer for the time of a call; not to be closed. */
struct hg_writer *hg_http_kept_scratch(struct hg_worker *worker);

#endif
