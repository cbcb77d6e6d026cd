/* SPDX-License-Identifier: Apache-2.0 */
/* The web site: its routes and its adapter. */
#include "adapters/http/web.h"

#include "core/adapter.h"

enum { MUST = HG_HTTP_MUST_LOGIN };
enum { READS = 1 << HG_HTTP_GET, WRITES = 1 << HG_HTTP_POST | 1 << HG_HTTP_PUT };

/* clang-format off */
static const struct hg_http_route routes[] = {
    {.path = "/v1/topics/", .is_prefix = true, .methods = WRITES, .login = MUST,
     .begin = hg_http_publish_topic_begin, .handle = hg_http_publish_topic, .doc = &hg_http_doc_topic},
    {.path = "/v1/topics/", .is_prefix = true, .runs_alone = true, .methods = READS,
     .login = MUST, .handle = hg_http_subscribe, .doc = &hg_http_doc_subscribe},
    {.path = "/v1/topics", .methods = 1 << HG_HTTP_POST, .login = MUST, .handle = hg_http_publish_batch,
     .doc = &hg_http_doc_batch},
    {.path = "/v1/rpc/", .is_prefix = true, .methods = 1 << HG_HTTP_POST, .login = MUST, .handle = hg_http_rpc,
     .doc = &hg_http_doc_rpc},
    {.path = "/api/exchanges/", .is_prefix = true, .has_vhost = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_manage_publish_takes, .login = MUST, .handle = hg_http_manage_publish,
     .doc = &hg_http_doc_manage},
    {.path = "/api/queues/", .is_prefix = true, .has_vhost = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_manage_get_takes, .login = MUST, .handle = hg_http_manage_get,
     .doc = &hg_http_doc_manage_get},
    {.path = "/v1/queues/", .is_prefix = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_pull_takes, .login = MUST, .handle = hg_http_pull, .doc = &hg_http_doc_pull},
    {.path = "/v1/queues/", .is_prefix = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_pull_ack_takes, .login = MUST, .handle = hg_http_pull_ack,
     .doc = &hg_http_doc_pull_ack},
    {.path = "/v1/queues/", .is_prefix = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_pull_nack_takes, .login = MUST, .handle = hg_http_pull_nack,
     .doc = &hg_http_doc_pull_nack},
    {.path = "/v1/queues/", .is_prefix = true, .methods = 1 << HG_HTTP_POST,
     .takes = hg_http_pull_extend_takes, .login = MUST, .handle = hg_http_pull_extend,
     .doc = &hg_http_doc_pull_extend},
    {.path = "/v1/openapi.json", .methods = READS, .handle = hg_http_openapi,
     .doc = &hg_http_doc_openapi},
    {.path = "/ws",   .runs_alone = true, .methods = READS,
     .takes = hg_http_upgrade_takes, .login = HG_HTTP_MAY_LOGIN, .handle = hg_http_upgrade,
     .doc = &hg_http_doc_upgrade},
    {.path = "/mqtt", .runs_alone = true, .methods = READS,
     .takes = hg_http_upgrade_takes, .login = HG_HTTP_MAY_LOGIN, .handle = hg_http_upgrade,
     .doc = &hg_http_doc_upgrade},
    {.path = "/", .is_prefix = true, .runs_alone = true, .methods = READS,
     .takes = hg_http_upgrade_takes, .login = HG_HTTP_MAY_LOGIN, .handle = hg_http_upgrade,
     .doc = &hg_http_doc_static},
    {.path = "/", .is_prefix = true, .methods = WRITES,
     .takes = hg_http_publish_rule_takes, .login = MUST,
     .begin = hg_http_publish_rule_begin, .handle = hg_http_publish_rule, .doc = &hg_http_doc_rule},
    {.path = "/", .is_prefix = true, .methods = READS,
     .takes = hg_http_static_takes, .handle = hg_http_static,
     .doc = &hg_http_doc_static},
};
/* clang-format on */

const struct hg_http_site hg_http_site = {routes, sizeof(routes) / sizeof(routes[0])};

bool hg_http_path_is_reserved(struct hg_bytes path)
{
    static const char *const reserved[] = {"v1", "api", "ws", "mqtt"};
    struct hg_bytes level = path.n > 0 && path.p[0] == '/' ? hg_bytes_skip(path, 1) : path;
    level.n = hg_bytes_index(level, '/');
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (hg_bytes_eq(level, hg_bytes_str(reserved[i]))) {
            return true;
        }
    }
    return false;
}

static struct hg_session *open_session(struct hg_worker *worker, struct hg_conn *conn,
                                       const struct hg_listener_spec *listener,
                                       const char *subprotocol)
{
    (void)listener;
    (void)subprotocol;
    return hg_http_open(worker, conn, &hg_http_site);
}

const struct hg_adapter hg_http_adapter = {
    .name = "http",
    .serves = 1u << HG_SERVE_WEB,
    .open = open_session,
};
