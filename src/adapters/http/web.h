/* SPDX-License-Identifier: Apache-2.0 */
/* The web listener's resources, a file each. */
#ifndef HG_HTTP_WEB_H
#define HG_HTTP_WEB_H

#include "adapters/http/http_server.h"

/* Serves HG_SERVE_WEB. */
extern const struct hg_adapter hg_http_adapter;

extern const struct hg_http_site hg_http_site;

/* Paths that never belong to a rule or a file: /v1, /api, /ws, /mqtt and what is below them. */
bool hg_http_path_is_reserved(struct hg_bytes path);

/* publish.c: POST|PUT /v1/topics/{address}, and at the root the paths that rules take. */
void hg_http_publish_topic_begin(struct hg_http_request *req);
bool hg_http_publish_topic(struct hg_http_request *req);
bool hg_http_publish_rule_takes(const struct hg_http_request *req);
void hg_http_publish_rule_begin(struct hg_http_request *req);
bool hg_http_publish_rule(struct hg_http_request *req);

/* batch.c: POST /v1/topics, a message a line. */
bool hg_http_publish_batch(struct hg_http_request *req);

/* rpc.c: POST /v1/rpc/{address}, answered with the reply. */
bool hg_http_rpc(struct hg_http_request *req);

/* manage.c: POST /api/exchanges/{vhost}/{exchange}/publish */
bool hg_http_manage_publish_takes(const struct hg_http_request *req);
bool hg_http_manage_publish(struct hg_http_request *req);

/* manage.c: POST /api/queues/{vhost}/{queue}/get */
bool hg_http_manage_get_takes(const struct hg_http_request *req);
bool hg_http_manage_get(struct hg_http_request *req);

/* pull.c: POST /v1/queues/{queue}/lease; pull_answer.c: …/ack, …/nack, …/extend. */
bool hg_http_pull_takes(const struct hg_http_request *req);
bool hg_http_pull(struct hg_http_request *req);
bool hg_http_pull_ack_takes(const struct hg_http_request *req);
bool hg_http_pull_ack(struct hg_http_request *req);
bool hg_http_pull_nack_takes(const struct hg_http_request *req);
bool hg_http_pull_nack(struct hg_http_request *req);
bool hg_http_pull_extend_takes(const struct hg_http_request *req);
bool hg_http_pull_extend(struct hg_http_request *req);
extern const struct hg_http_doc hg_http_doc_manage_get, hg_http_doc_pull, hg_http_doc_pull_ack,
    hg_http_doc_pull_nack, hg_http_doc_pull_extend;

/* openapi.c: GET /v1/openapi.json, and what it says of each route. */
bool hg_http_openapi(struct hg_http_request *req);
extern const struct hg_http_doc hg_http_doc_topic, hg_http_doc_rule, hg_http_doc_batch,
    hg_http_doc_manage, hg_http_doc_upgrade, hg_http_doc_static, hg_http_doc_openapi,
    hg_http_doc_subscribe, hg_http_doc_rpc;

/* sse.c: GET /v1/topics/{filter}, which takes the connection over. */
bool hg_http_subscribe(struct hg_http_request *req);

/* upgrade.c: WebSocket handshakes (RFC 6455 section 4.2), on the listener's paths for them. */
bool hg_http_upgrade_takes(const struct hg_http_request *req);
bool hg_http_upgrade(struct hg_http_request *req);
/* Appends Sec-WebSocket-Accept for a key; false if it is not the base64 of 16 bytes. */
bool hg_http_upgrade_accept(struct hg_bytes key, struct hg_writer *out);

/* static.c: files of the configured folder, up to HG_HTTP_FILE_MAX each: they are read in one go on
 * the worker's loop. */
enum { HG_HTTP_FILE_MAX = 4 * 1024 * 1024 };
bool hg_http_static_takes(const struct hg_http_request *req);
bool hg_http_static(struct hg_http_request *req);

#endif
