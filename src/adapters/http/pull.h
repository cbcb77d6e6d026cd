/* SPDX-License-Identifier: Apache-2.0 */
/* What taking messages out of queues (pull.c), answering for them (pull_answer.c) and the management
 * API's get (manage.c) have in common. */
#ifndef HG_HTTP_PULL_H
#define HG_HTTP_PULL_H

#include "adapters/http/web.h"
#include "core/lease.h"

/* "/v1/queues/{queue}/ACTION": whether the path is this, of a queue whose name is not empty. */
bool hg_http_pull_path_is(const struct hg_http_request *req, const char *action);
/* The queue's name, decoded. NULL or what is wrong. */
const char *hg_http_pull_queue(const struct hg_http_request *req, struct hg_writer *out);

/* "30s": from `least` to `most` milliseconds. */
bool hg_http_pull_duration(struct hg_bytes text, uint64_t least, uint64_t most, uint64_t *ms_out);

/* How long a lease is where the client does not say. */
uint64_t hg_http_pull_usual_ms(const struct hg_config *config);

/* The poll of a request, which `write` turns into an answer: req->data, and what forgets it with its
 * client. False: refused, and answered. */
bool hg_http_pull_begin(struct hg_http_request *req, const struct hg_lease_spec *spec);
/* For spec->done: the poll has had its result. True where it is messages to be answered, which are
 * counted; false: it has been answered with the refusal. */
bool hg_http_pull_end(struct hg_http_request *req, const struct hg_lease_result *result);

#endif
