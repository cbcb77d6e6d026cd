/* SPDX-License-Identifier: Apache-2.0 */
/* GET /ws, /mqtt, or whichever paths are configured: from HTTP to a WebSocket that speaks what the
 * client offers, for pages that may. */
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

static bool is_for_mqtt(struct hg_bytes path)
{
    struct hg_bytes end = HG_BYTES("/mqtt");
    return path.n >= end.n && hg_bytes_eq(hg_bytes_skip(path, path.n - end.n), end);
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
    for (; !has_offer && !is_for_mqtt(h->path) && *adapters != NULL; adapters++) {
        if ((*adapters)->is_websocket_default) {
            return (struct choice){*adapters, NULL};
        }
    }
    return (struct choice){0};
}

/* ---- Who may, and where ---- */

/* Without the port that its scheme has anyway. */
static struct hg_bytes plain_authority(struct hg_bytes authority, bool is_https)
{
    struct hg_bytes port = is_https ? HG_BYTES(":443") : HG_BYTES(":80");
    if (authority.n > port.n && hg_bytes_eq(hg_bytes_skip(authority, authority.n - port.n), port)) {
        authority.n -= port.n;
    }
    return authority;
}

/* The scheme is not compared: behind a proxy that ends TLS it is another one here. */
static bool is_same_origin(struct hg_bytes origin, struct hg_bytes host)
{
    size_t colon = hg_bytes_index(origin, ':');
    struct hg_bytes scheme = hg_bytes(origin.p, colon);
    struct hg_bytes rest = hg_bytes_skip(origin, colon);
    if (!hg_bytes_starts(rest, HG_BYTES("://"))) {
        return false;
    }
    bool is_https = hg_bytes_eq_nocase(scheme, HG_BYTES("https"));
    return hg_bytes_eq_nocase(plain_authority(hg_bytes_skip(rest, 3), is_https),
                              plain_authority(host, is_https));
}

/* Section 10.2. Who is no browser sends no Origin, or whichever it likes. */
static bool is_welcome(const struct hg_http_request *req, struct hg_bytes *origin_out)
{
    const struct hg_listener_spec *listener = hg_conn_listener(req->session->conn);
    const struct hg_http_head *h = &req->in.head;
    size_t at = 0;
    const struct hg_http_field *f = hg_http_next_field(h, HG_BYTES("Origin"), &at);
    if (f == NULL) {
        return true;
    }
    *origin_out = f->value;
    if (hg_http_next_field(h, f->name, &at) != NULL) {
        return false;
    }
    for (size_t i = 0; i < listener->origins_n; i++) {
        struct hg_bytes allowed = hg_bytes_str(listener->origins[i]);
        if (hg_bytes_eq(allowed, HG_BYTES("*")) || hg_bytes_eq_nocase(allowed, f->value)) {
            return true;
        }
    }
    return listener->origins_n == 0 && is_same_origin(f->value, hg_http_field(h, HG_BYTES("Host")));
}

bool hg_http_upgrade_takes(const struct hg_http_request *req)
{
    const struct hg_listener_spec *listener = hg_conn_listener(req->session->conn);
    const struct hg_http_head *h = &req->in.head;
    for (size_t i = 0; i < listener->websocket_paths_n; i++) {
        if (hg_bytes_eq(h->path, hg_bytes_str(listener->websocket_paths[i]))) {
            /* A page may live at the root as well. */
            return h->path.n > 1 || hg_http_lists(h, HG_BYTES("Upgrade"), HG_BYTES("websocket"));
        }
    }
    return false;
}

/* ---- Grammar: a handshake that breaks it gets a 400 (section 4.2.1) ---- */

static void skip_blanks(struct hg_bytes *b)
{
    while (b->n > 0 && (b->p[0] == ' ' || b->p[0] == '\t')) {
        *b = hg_bytes_skip(*b, 1);
    }
}

static bool take(struct hg_bytes *b, uint8_t c)
{
    skip_blanks(b);
    bool is_there = b->n > 0 && b->p[0] == c;
    *b = hg_bytes_skip(*b, is_there);
    return is_there;
}

/* A token; in quotes, each of its characters may have a backslash in front. */
static bool take_token(struct hg_bytes *b, bool is_quoted)
{
    size_t n = 0;
    if (!is_quoted) {
        skip_blanks(b);
    }
    for (;; n++) {
        *b = hg_bytes_skip(*b, is_quoted && b->n > 0 && b->p[0] == '\\');
        if (b->n == 0 || !hg_http_is_token(hg_bytes(b->p, 1))) {
            return n > 0;
        }
        *b = hg_bytes_skip(*b, 1);
    }
}

static bool take_parameter(struct hg_bytes *b)
{
    if (!take_token(b, false)) {
        return false;
    }
    if (!take(b, '=')) {
        return true;
    }
    return take(b, '"') ? take_token(b, true) && take(b, '"') : take_token(b, false);
}

/* Section 9.1. None is agreed to. */
static bool is_extension_list(struct hg_bytes b)
{
    do {
        bool has_name = take_token(&b, false);
        while (has_name && take(&b, ';')) {
            if (!take_parameter(&b)) {
                return false;
            }
        }
    } while (take(&b, ','));
    return b.n == 0;
}

static bool is_token_list(struct hg_bytes list)
{
    struct hg_bytes element;
    while (hg_http_next_element(&list, &element)) {
        if (!hg_http_is_token(element)) {
            return false;
        }
    }
    return true;
}

static bool has_only(const struct hg_http_head *h, struct hg_bytes name,
                     bool (*is_fine)(struct hg_bytes value))
{
    const struct hg_http_field *f;
    size_t at = 0;
    while ((f = hg_http_next_field(h, name, &at)) != NULL) {
        if (!is_fine(f->value)) {
            return false;
        }
    }
    return true;
}

/* The value, if there is one such field; NULL: none, or several. */
static const struct hg_bytes *only_field(const struct hg_http_head *h, struct hg_bytes name)
{
    size_t at = 0;
    const struct hg_http_field *f = hg_http_next_field(h, name, &at);
    return f == NULL || hg_http_next_field(h, name, &at) != NULL ? NULL : &f->value;
}

/* NULL: it is one that can be answered; else what is wrong with it. Appends Sec-WebSocket-Accept. */
static const char *check_handshake(const struct hg_http_request *req, struct hg_writer *accept)
{
    const struct hg_http_head *h = &req->in.head;
    const struct hg_bytes *key = only_field(h, HG_BYTES("Sec-WebSocket-Key"));
    if (h->method != HG_HTTP_GET || req->in.body_n > 0) {
        return "a WebSocket handshake is a GET without a body";
    }
    if (only_field(h, HG_BYTES("Sec-WebSocket-Version")) == NULL) {
        return "there must be one Sec-WebSocket-Version";
    }
    if (key == NULL || !hg_http_upgrade_accept(*key, accept)) {
        return "there must be one Sec-WebSocket-Key, the base64 of 16 bytes";
    }
    if (!has_only(h, HG_BYTES("Sec-WebSocket-Protocol"), is_token_list)) {
        return "Sec-WebSocket-Protocol is not a list of tokens";
    }
    if (!has_only(h, HG_BYTES("Sec-WebSocket-Extensions"), is_extension_list)) {
        return "Sec-WebSocket-Extensions is not a list of extensions";
    }
    return NULL;
}

/* ---- Answers ---- */

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

static void refuse_origin(struct hg_http_request *req, struct hg_bytes origin)
{
    struct hg_bytes host = hg_http_field(&req->in.head, HG_BYTES("Host"));
    HG_LOG_LIMITED(req->session->worker->log, HG_LOG_INFO, "websocket.refused", origin,
                   HG_F_STR("peer", hg_conn_peer(req->session->conn)), HG_F_BYTES("origin", origin),
                   HG_F_BYTES("host", host), HG_F_BYTES("path", req->in.head.path));
    hg_http_refuse(req, &(struct hg_http_answer){.status = 403},
                   HG_BYTES("pages of this origin may open no WebSocket here; see origins of the "
                            "gateway's [[listener]]"),
                   hg_status_info(HG_NOT_ALLOWED)->name);
}

/* A WebSocket message may hold whatever one packet or frame of the protocols above may. */
static uint32_t max_message_bytes(const struct hg_config *config)
{
    uint64_t mqtt = config->mqtt_max_packet_bytes;
    uint64_t stomp = config->stomp_max_frame_bytes + config->stomp_max_header_bytes;
    return (uint32_t)(mqtt > stomp ? mqtt : stomp);
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
    struct hg_writer accept = {0};
    struct hg_bytes origin = {0};
    if (h->is_http_10 || !hg_http_lists(h, HG_BYTES("Upgrade"), HG_BYTES("websocket")) ||
        !hg_http_lists(h, HG_BYTES("Connection"), HG_BYTES("Upgrade"))) {
        refuse_upgrade(req, "only WebSocket handshakes are answered here");
        return true;
    }
    if (!hg_bytes_eq(hg_http_field(h, HG_BYTES("Sec-WebSocket-Version")), HG_BYTES("13"))) {
        refuse_upgrade(req, "Sec-WebSocket-Version must be 13");
        return true;
    }
    const char *wrong = check_handshake(req, &accept);
    struct choice c = choose(req);
    if (wrong != NULL) {
        refuse_handshake(req, wrong);
    } else if (!is_welcome(req, &origin)) {
        refuse_origin(req, origin);
    } else if (c.adapter == NULL) {
        refuse_handshake(req, "Sec-WebSocket-Protocol offers nothing that is spoken here");
    } else {
        switch_protocols(req, &c, &accept);
    }
    hg_writer_close(&accept);
    return true;
}
