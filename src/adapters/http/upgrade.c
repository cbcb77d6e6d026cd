/* SPDX-License-Identifier: Apache-2.0 */
/* GET /ws and /mqtt: from HTTP to a WebSocket that speaks what the client offers. */
#include "adapters/http/web.h"
#include "base/base64.h"
#include "core/adapter.h"
#include "core/conn.h"
#include "core/worker.h"

#include <openssl/evp.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

bool hg_http_upgrade_accept(struct hg_bytes key, struct hg_writer *out)
{
    struct hg_writer w = {0};
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_n = 0;
    bool is_fine = hg_base64_decode(&w, key) && hg_writer_n(&w) == 16;
    if (is_fine) {
        hg_writer_reset(&w);
        hg_writer_bytes(&w, key);
        hg_writer_str(&w, GUID);
        struct hg_bytes in = hg_writer_view(&w);
        is_fine = !w.failed && EVP_Digest(in.p, in.n, digest, &digest_n, EVP_sha1(), NULL) == 1;
    }
    if (is_fine) {
        hg_base64_encode(out, hg_bytes(digest, digest_n));
    }
    hg_writer_close(&w);
    return is_fine;
}

/* What a WebSocket session is opened with. */
struct choice {
    const struct hg_adapter *adapter; /* NULL: nothing fits */
    const char *subprotocol;          /* NULL: the client offered none */
};

static bool is_offered(const struct hg_http_head *h, struct hg_bytes wanted)
{
    const struct hg_http_field *f;
    size_t at = 0;
    while ((f = hg_http_next_field(h, HG_BYTES("Sec-WebSocket-Protocol"), &at)) != NULL) {
        struct hg_bytes list = f->value;
        struct hg_bytes name;
        while (hg_http_next_element(&list, &name)) {
            if (hg_bytes_eq(name, wanted)) {
                return true;
            }
        }
    }
    return false;
}

/* Of the protocol that the client names first, what its adapter likes best [MQTT-6.0.0-4]. */
static struct choice choose_by_name(const struct hg_adapter *const *adapters,
                                    const struct hg_http_head *h, struct hg_bytes first)
{
    for (; *adapters != NULL; adapters++) {
        const char *best = NULL;
        bool is_named = false;
        for (const char *const *p = (*adapters)->subprotocols; p != NULL && *p != NULL; p++) {
            is_named = is_named || hg_bytes_eq(hg_bytes_str(*p), first);
            best = best == NULL && is_offered(h, hg_bytes_str(*p)) ? *p : best;
        }
        if (is_named) {
            return (struct choice){*adapters, best};
        }
    }
    return (struct choice){0};
}

/* By the client's sub-protocols; if it offers none, what the path stands for. */
static struct choice choose(const struct hg_http_request *req)
{
    const struct hg_adapter *const *adapters = req->session->worker->gateway->adapters;
    const struct hg_http_head *h = &req->in.head;
    const struct hg_http_field *f;
    bool has_offer = false;
    size_t at = 0;
    while ((f = hg_http_next_field(h, HG_BYTES("Sec-WebSocket-Protocol"), &at)) != NULL) {
        struct hg_bytes list = f->value;
        struct hg_bytes name;
        has_offer = true;
        while (hg_http_next_element(&list, &name)) {
            struct choice c = choose_by_name(adapters, h, name);
            if (c.adapter != NULL) {
                return c;
            }
        }
    }
    for (; !has_offer && *adapters != NULL; adapters++) {
        const char *path = (*adapters)->default_ws_path;
        if (path != NULL && hg_bytes_eq(hg_bytes_str(path), h->path)) {
            return (struct choice){*adapters, NULL};
        }
    }
    return (struct choice){0};
}

static void refuse_upgrade(struct hg_http_request *req, const char *detail)
{
    const struct hg_http_answer_field fields[] = {
        {"Upgrade", HG_BYTES("websocket")},
        {"Connection", HG_BYTES("Upgrade")},
        {"Sec-WebSocket-Version", HG_BYTES("13")},
    };
    hg_http_refuse(req, &(struct hg_http_answer){.status = 426, .fields = fields, .fields_n = 3},
                   hg_bytes_str(detail), NULL);
}

static void refuse_handshake(struct hg_http_request *req, const char *detail)
{
    hg_http_refuse(req, &(struct hg_http_answer){.status = 400}, hg_bytes_str(detail), NULL);
}

/* A WebSocket message may hold whatever one packet or frame of the protocols above may. */
static size_t max_message_bytes(const struct hg_config *config)
{
    uint64_t mqtt = config->mqtt_max_packet_bytes;
    uint64_t stomp = config->stomp_max_frame_bytes + config->stomp_max_header_bytes;
    return (size_t)(mqtt > stomp ? mqtt : stomp);
}

static void switch_protocols(struct hg_http_request *req, const struct choice *c,
                             struct hg_writer *accept)
{
    struct hg_conn *conn = req->session->conn;
    struct hg_writer w = {0};
    hg_writer_str(&w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    hg_writer_bytes(&w, hg_writer_view(accept));
    if (c->subprotocol != NULL) {
        hg_writer_printf(&w, "\r\nSec-WebSocket-Protocol: %s", c->subprotocol);
    }
    hg_writer_str(&w, "\r\n\r\n");
    if (w.failed || accept->failed || hg_conn_send_bytes(conn, hg_writer_view(&w)) != HG_OK) {
        hg_conn_close(conn, HG_NO_MEMORY);
    } else {
        /* Ends this session, and the request with it. */
        hg_conn_upgrade(conn, hg_http_rest(req), c->adapter, c->subprotocol,
                        max_message_bytes(req->session->worker->config));
    }
    hg_writer_close(&w);
}

bool hg_http_upgrade(struct hg_http_request *req)
{
    const struct hg_http_head *h = &req->in.head;
    struct hg_bytes version = hg_http_field(h, HG_BYTES("Sec-WebSocket-Version"));
    size_t at = 0;
    const struct hg_http_field *key = hg_http_next_field(h, HG_BYTES("Sec-WebSocket-Key"), &at);
    struct choice c = choose(req);
    struct hg_writer accept = {0};
    if (h->is_http_10 || !hg_http_lists(h, HG_BYTES("Upgrade"), HG_BYTES("websocket")) ||
        !hg_http_lists(h, HG_BYTES("Connection"), HG_BYTES("Upgrade"))) {
        refuse_upgrade(req, "only WebSocket handshakes are answered here");
    } else if (!hg_bytes_eq(version, HG_BYTES("13"))) {
        refuse_upgrade(req, "Sec-WebSocket-Version must be 13");
    } else if (h->method != HG_HTTP_GET || req->in.body_n > 0) {
        refuse_handshake(req, "a WebSocket handshake is a GET without a body");
    } else if (key == NULL || hg_http_next_field(h, key->name, &at) != NULL ||
               !hg_http_upgrade_accept(key->value, &accept)) {
        refuse_handshake(req, "there must be one Sec-WebSocket-Key, the base64 of 16 bytes");
    } else if (c.adapter == NULL) {
        refuse_handshake(req, "Sec-WebSocket-Protocol offers nothing that is spoken here");
    } else {
        switch_protocols(req, &c, &accept);
    }
    hg_writer_close(&accept);
    return true;
}
