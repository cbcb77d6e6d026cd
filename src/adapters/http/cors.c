/* SPDX-License-Identifier: Apache-2.0 */
/* CORS (WHATWG Fetch, section 3.2): which pages of other origins may read an answer. */
#include "adapters/http/http_encode.h"
#include "adapters/http/http_server.h"
#include "core/conn.h"

struct hg_bytes hg_http_allowed_origin(const struct hg_http_request *req)
{
    const struct hg_listener_spec *listener = hg_conn_listener(req->session->conn);
    struct hg_bytes origin = {0};
    if (listener->cors_origins_n > 0) {
        origin = hg_http_field(&req->in.head, HG_BYTES("Origin"));
    }
    for (size_t i = 0; origin.n > 0 && i < listener->cors_origins_n; i++) {
        struct hg_bytes allowed = hg_bytes_str(listener->cors_origins[i]);
        if (hg_bytes_eq(allowed, HG_BYTES("*")) || hg_bytes_eq(allowed, origin)) {
            return allowed;
        }
    }
    return (struct hg_bytes){0};
}

void hg_http_write_cors(const struct hg_http_request *req, struct hg_writer *w)
{
    struct hg_bytes origin = hg_http_allowed_origin(req);
    if (origin.n > 0) {
        hg_http_write_field(w, "Access-Control-Allow-Origin", origin);
        hg_http_write_field(w, "Access-Control-Expose-Headers",
                            HG_BYTES("Idempotency-Replayed, Retry-After, *"));
    }
    if (hg_conn_listener(req->session->conn)->cors_origins_n > 0) {
        hg_http_write_field(w, "Vary", HG_BYTES("Origin"));
    }
}
