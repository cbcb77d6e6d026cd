/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways to publish by HTTP have in common: options of the query, and words for an outcome. */
#ifndef HG_HTTP_PUBLISH_H
#define HG_HTTP_PUBLISH_H

#include "adapters/http/web.h"

struct hg_http_publish_options {
    bool is_mandatory, is_retained;
};

/* `?mandatory=true&retain=true`, into options that have their values for where it says nothing; of
 * other parameters those are let through that `knows` knows (NULL: none). NULL or what is wrong. */
typedef bool hg_http_knows_fn(const void *ctx, struct hg_bytes name);
const char *hg_http_publish_query(struct hg_bytes query, hg_http_knows_fn *knows, const void *ctx,
                                  struct hg_http_publish_options *out);
/* "id","exchange","key", the end of the object and of its line. */
void hg_http_publish_note(struct hg_writer *w, struct hg_bytes id, const struct hg_published *p);
/* The status's own text, and behind it RabbitMQ's reason or the rule that was broken, if that says
 * more. */
void hg_http_publish_detail(enum hg_status status, struct hg_bytes reason, struct hg_writer *out);
/* Answers with that. */
void hg_http_publish_refuse(struct hg_http_request *req, enum hg_status status,
                            struct hg_bytes reason);

/* For resources that read their body as text: refuses one with a Content-Encoding, 415. True: it has
 * none. */
bool hg_http_publish_takes_encoding(struct hg_http_request *req);

/* repeat.c. Idempotency-Key. To be asked again when the same request comes again. */
enum hg_http_repeat {
    HG_HTTP_REPEAT_NONE,     /* it is to be done, now that its answer will be kept */
    HG_HTTP_REPEAT_ANSWERED, /* as the first with this key was, or refused */
    HG_HTTP_REPEAT_WAITS     /* for the state log: the handler returns false */
};
enum hg_http_repeat hg_http_repeat_begin(struct hg_http_request *req);
/* Whether a repeat of this request would be known, by its body. */
bool hg_http_repeat_applies(const struct hg_http_request *req);
/* It came to nothing: the key is free again. Fine without one. For on_gone. */
void hg_http_repeat_forget(struct hg_http_request *req);

#endif
