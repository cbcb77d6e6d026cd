/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes a request: Authorization (RFC 7617, RFC 6750), and what a WebSocket's handshake may
 * bring its token in. */
#ifndef HG_HTTP_LOGIN_H
#define HG_HTTP_LOGIN_H

#include "adapters/http/http_server.h"
#include "core/login.h"

/* Of a connection: what its last request said, if it was good. */
struct hg_http_known {
    uint8_t mac[HG_LOGIN_MAC_BYTES];
    bool is_known;
};

/* OK, and the session's identity is the request's. HELD: later, call again. Else the request has
 * been answered. */
enum hg_status hg_http_login(struct hg_http_request *req, struct hg_http_known *known);

#endif
