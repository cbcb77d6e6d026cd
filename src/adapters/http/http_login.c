/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/http/http_login.h"

#include "adapters/http/http_uri.h"
#include "base/base64.h"
#include "core/worker.h"

#define BEARER "bearer."

enum { S_PER_MINUTE = 60, RETRY_S = 1 };

struct said {
    struct hg_credentials credentials;
    struct hg_writer text;  /* decoded; the credentials borrow from it, as from the next */
    struct hg_writer vhost; /* that the path names, if there is one of this name */
    bool is_there;          /* it said something, right or wrong */
    bool is_malformed;
};

static const struct hg_users_config *users_of(const struct hg_http_request *req)
{
    return &req->session->worker->config->users;
}

/* ---- What a request says ---- */

static struct hg_bytes after_blanks(struct hg_bytes b, size_t n)
{
    b = hg_bytes_skip(b, n);
    while (b.n > 0 && b.p[0] == ' ') {
        b = hg_bytes_skip(b, 1);
    }
    return b;
}

static void read_basic(struct said *said, struct hg_bytes base64)
{
    said->is_malformed = !hg_base64_decode(&said->text, base64);
    struct hg_bytes both = hg_writer_view(&said->text);
    size_t colon = hg_bytes_index(both, ':');
    if (said->is_malformed || colon == both.n) {
        said->is_malformed = true;
        return;
    }
    said->credentials.user = hg_bytes(both.p, colon);
    said->credentials.secret = hg_bytes_skip(both, colon + 1);
}

static void read_token(struct said *said, struct hg_bytes token)
{
    said->credentials.secret = token;
    said->credentials.is_token = true;
}

static void read_authorization(const struct hg_http_head *h, struct said *said)
{
    size_t at = 0;
    const struct hg_http_field *f = hg_http_next_field(h, HG_BYTES("Authorization"), &at);
    if (f == NULL) {
        return;
    }
    size_t scheme_n = hg_bytes_index(f->value, ' ');
    struct hg_bytes scheme = hg_bytes(f->value.p, scheme_n);
    struct hg_bytes rest = after_blanks(f->value, scheme_n);
    said->is_there = true;
    if (hg_http_next_field(h, HG_BYTES("Authorization"), &at) != NULL) {
        said->is_malformed = true;
    } else if (hg_bytes_eq_nocase(scheme, HG_BYTES("Basic"))) {
        read_basic(said, rest);
    } else if (hg_bytes_eq_nocase(scheme, HG_BYTES("Bearer"))) {
        read_token(said, rest);
    } else {
        said->is_malformed = true;
    }
}

/* `Sec-WebSocket-Protocol: v12.stomp, bearer.TOKEN`: all that a page's WebSocket can send. */
static void read_subprotocol(const struct hg_http_head *h, struct said *said)
{
    const struct hg_http_field *f;
    size_t at = 0;
    while ((f = hg_http_next_field(h, HG_BYTES("Sec-WebSocket-Protocol"), &at)) != NULL) {
        struct hg_bytes list = f->value;
        struct hg_bytes name;
        while (!said->is_there && hg_http_next_element(&list, &name)) {
            if (hg_bytes_starts(name, HG_BYTES(BEARER))) {
                said->is_there = true;
                read_token(said, hg_bytes_skip(name, sizeof(BEARER) - 1));
            }
        }
    }
}

/* RFC 6265 section 4.2.1: "a=b; c=d" */
static void read_cookie(const struct hg_http_head *h, const char *wanted, struct said *said)
{
    const struct hg_http_field *f;
    size_t at = 0;
    while ((f = hg_http_next_field(h, HG_BYTES("Cookie"), &at)) != NULL) {
        struct hg_bytes rest = f->value;
        while (!said->is_there && rest.n > 0) {
            struct hg_bytes pair = hg_bytes(rest.p, hg_bytes_index(rest, ';'));
            rest = after_blanks(rest, pair.n + (pair.n < rest.n));
            size_t name_n = hg_bytes_index(pair, '=');
            if (name_n < pair.n && hg_bytes_eq(hg_bytes(pair.p, name_n), hg_bytes_str(wanted))) {
                said->is_there = true;
                read_token(said, hg_bytes_skip(pair, name_n + 1));
            }
        }
    }
}

static void read_query(const struct hg_http_head *h, const char *wanted, struct said *said)
{
    struct hg_writer name = {0};
    struct hg_bytes query = h->query;
    const char *why = NULL;
    while (!said->is_there && hg_http_next_parameter(&query, &name, &said->text, &why)) {
        if (why == NULL && hg_bytes_eq(hg_writer_view(&name), hg_bytes_str(wanted))) {
            said->is_there = true;
            read_token(said, hg_writer_view(&said->text));
        }
    }
    hg_writer_close(&name);
}

static void read_request(const struct hg_http_request *req, struct said *said)
{
    const struct hg_http_head *h = &req->in.head;
    const struct hg_users_config *users = users_of(req);
    read_authorization(h, said);
    if (req->route->login != HG_HTTP_MAY_LOGIN) {
        return; /* what a browser sends by itself would let any page act for its user */
    }
    if (!said->is_there) {
        read_subprotocol(h, said);
    }
    if (!said->is_there && users->cookie != NULL) {
        read_cookie(h, users->cookie, said);
    }
    if (!said->is_there && users->query != NULL) {
        read_query(h, users->query, said);
    }
}

/* One that is not known here is the handler's to refuse. */
static void read_vhost(const struct hg_http_request *req, struct said *said)
{
    if (!req->route->has_vhost) {
        return;
    }
    struct hg_bytes path = hg_bytes_skip(req->in.head.path, strlen(req->route->path));
    if (hg_http_decode_level(hg_http_take_level(&path), &said->vhost) == NULL &&
        hg_vhost_find(req->session->worker->config, hg_writer_view(&said->vhost)) != NULL) {
        said->credentials.vhost = hg_writer_view(&said->vhost);
    }
}

/* ---- The answer ---- */

static void refuse(struct hg_http_request *req, enum hg_status status, const char *why,
                   bool was_token)
{
    const struct hg_status_info *info = hg_status_info(status);
    const struct hg_users_config *users = users_of(req);
    struct hg_http_answer_field fields[2];
    struct hg_http_answer answer = {.status = info->http, .fields = fields};
    bool has_passwords = users->users_n > 0 || users->asks_broker;
    if (info->http == 401 && users->token.keys != NULL) { /* RFC 6750 section 3 */
        fields[answer.fields_n++] = (struct hg_http_answer_field){
            "WWW-Authenticate", was_token
                                    ? HG_BYTES("Bearer realm=\"headgate\", error=\"invalid_token\"")
                                    : HG_BYTES("Bearer realm=\"headgate\"")};
    }
    if (info->http == 401 && (has_passwords || answer.fields_n == 0)) {
        fields[answer.fields_n++] = (struct hg_http_answer_field){
            "WWW-Authenticate", HG_BYTES("Basic realm=\"headgate\", charset=\"UTF-8\"")};
    }
    if (status == HG_TOO_MANY && users->max_failures > 0) {
        answer.retry_after_s = S_PER_MINUTE / users->max_failures + 1;
    } else if (status == HG_TOO_MANY || info->http == 503) {
        answer.retry_after_s = RETRY_S;
    }
    hg_http_refuse(req, &answer, hg_bytes_str(why != NULL ? why : info->text), info->name);
}

static enum hg_status log_in(struct hg_http_request *req, const struct said *said,
                             struct hg_http_known *known)
{
    struct hg_session *s = req->session;
    uint8_t mac[HG_LOGIN_MAC_BYTES];
    const char *why = NULL;
    if (!s->worker->config->has_identities) {
        enum hg_status status = hg_session_login(s, &said->credentials, &why);
        if (status != HG_OK) {
            refuse(req, status, why, false);
        }
        return status;
    }
    if (!said->is_there && req->route->login == HG_HTTP_MAY_LOGIN) {
        known->is_known = false; /* its CONNECT will say */
        hg_session_logout(s);
        return HG_OK;
    }
    hg_session_mac(s, &said->credentials, mac);
    if (known->is_known && s->identity != NULL && memcmp(known->mac, mac, sizeof(mac)) == 0 &&
        said->is_there && !hg_session_is_expired(s)) {
        return HG_OK;
    }
    if (!req->is_logging_in) {
        known->is_known = false;
        hg_session_logout(s); /* an earlier request's */
    }
    enum hg_status status =
        said->is_malformed ? HG_BAD_LOGIN : hg_session_login(s, &said->credentials, &why);
    req->is_logging_in = status == HG_HELD;
    if (status == HG_OK) {
        known->is_known = true;
        memcpy(known->mac, mac, sizeof(mac));
    } else if (status != HG_HELD) {
        refuse(req, status, said->is_malformed ? "Authorization is not understood" : why,
               said->credentials.is_token);
    }
    return status;
}

enum hg_status hg_http_login(struct hg_http_request *req, struct hg_http_known *known)
{
    struct said said = {.text.is_secret = true};
    if (req->session->worker->config->has_identities) {
        read_request(req, &said);
    }
    read_vhost(req, &said);
    bool has_failed = said.text.failed || said.vhost.failed;
    enum hg_status status = has_failed ? HG_NO_MEMORY : log_in(req, &said, known);
    if (has_failed) {
        refuse(req, status, NULL, false);
    }
    hg_writer_close(&said.vhost);
    hg_writer_close(&said.text);
    return status;
}
