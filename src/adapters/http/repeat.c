/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is
 * answered as the first was. This instance's own table is asked first, then, where keys are shared,
 * the state log. */
#include "adapters/http/http_props.h"
#include "adapters/http/publish.h"
#include "core/config.h"
#include "core/idempotency.h"
#include "core/identity.h"
#include "core/once.h"
#include "core/worker.h"

#define UNDER_WAY "the first request with this Idempotency-Key is still under way"
#define DIFFERS   "this Idempotency-Key came with another address or body before"
#define FULL      "too many requests with an Idempotency-Key are under way"

enum { KEY_MAX = 255, USER_MAX = 255, SCOPED_MAX = KEY_MAX + 1 + USER_MAX };

static struct hg_idempotency *table_of(const struct hg_http_request *req)
{
    return hg_realm_of(req->session)->vhost->idempotency;
}

/* What a later try could change is not kept: then the repeat is a try of its own. */
static bool is_final(unsigned status)
{
    return status != 408 && status != 429 && status < 500;
}

static void end(struct hg_http_request *req, unsigned status, const char *type,
                const struct hg_bytes *body)
{
    if (req->entry != NULL) {
        hg_idempotency_end(table_of(req), req->entry, status, type, body);
        req->entry = NULL;
    }
    if (req->once != NULL) {
        hg_once_end(req->once, status, type, body);
        req->once = NULL;
    }
}

static void on_answer(struct hg_http_request *req, const struct hg_http_answer *answer)
{
    struct hg_bytes body = answer->body == NULL ? HG_BYTES("") : hg_writer_view(answer->body);
    bool is_kept = is_final(answer->status) && (answer->body == NULL || !answer->body->failed);
    end(req, answer->status, answer->type, is_kept ? &body : NULL);
}

void hg_http_repeat_forget(struct hg_http_request *req)
{
    end(req, 0, NULL, NULL);
}

/* NULL or what is wrong. Key n == 0: there is none. */
static const char *read_key(const struct hg_http_head *h, struct hg_bytes *key_out)
{
    size_t at = 0;
    const struct hg_http_field *f = hg_http_next_field(h, HG_BYTES("Idempotency-Key"), &at);
    *key_out = (struct hg_bytes){0};
    if (f == NULL) {
        return NULL;
    }
    *key_out = hg_http_unquoted(f->value);
    if (hg_http_next_field(h, HG_BYTES("Idempotency-Key"), &at) != NULL) {
        return "Idempotency-Key is given twice";
    }
    return key_out->n >= 1 && key_out->n <= KEY_MAX ? NULL
                                                    : "Idempotency-Key must have 1 to 255 bytes";
}

static void replay(struct hg_http_request *req, unsigned status, const char *type,
                   struct hg_writer *body_own)
{
    const struct hg_http_answer_field field = {"Idempotency-Replayed", HG_BYTES("true")};
    hg_http_answer(
        req,
        &(struct hg_http_answer){
            .status = status, .type = type, .body = body_own, .fields = &field, .fields_n = 1});
}

static void refuse(struct hg_http_request *req, unsigned status, const char *why)
{
    hg_http_refuse(req,
                   &(struct hg_http_answer){
                       .status = status,
                       .retry_after_s = status == 422 || status == 400 ? 0 : HG_HTTP_RETRY_AFTER_S},
                   hg_bytes_str(why), NULL);
}

bool hg_http_repeat_applies(const struct hg_http_request *req)
{
    return table_of(req) != NULL && hg_http_field(&req->in.head, HG_BYTES("Idempotency-Key")).n > 0;
}

/* Path and query, with what lies between them. */
static struct hg_bytes target_of(const struct hg_http_head *h)
{
    return h->query.n == 0 ? h->path
                           : hg_bytes(h->path.p, (size_t)(h->query.p + h->query.n - h->path.p));
}

/* Each user has keys of its own: an answer is not for others who guess its key. */
static struct hg_bytes scoped(const struct hg_http_request *req, struct hg_bytes key,
                              uint8_t out[SCOPED_MAX])
{
    struct hg_bytes user = hg_identity_user(req->session->identity);
    if (user.n == 0 || user.n > USER_MAX) {
        return key;
    }
    memcpy(out, user.p, user.n);
    out[user.n] = 0;
    memcpy(out + user.n + 1, key.p, key.n);
    return hg_bytes(out, user.n + 1 + key.n);
}

/* ---- Among all instances ---- */

static void on_known(void *ctx)
{
    hg_http_proceed(ctx);
}

static enum hg_http_repeat settle(struct hg_http_request *req, enum hg_once_state state,
                                  struct hg_request_answer *known)
{
    if (state == HG_ONCE_OURS) {
        return HG_HTTP_REPEAT_NONE;
    }
    if (state == HG_ONCE_WAITING) {
        req->is_waiting = true;
        req->on_gone = hg_http_repeat_forget;
        return HG_HTTP_REPEAT_WAITS;
    }
    req->on_answer = NULL; /* what this instance says is not kept: the log has it */
    end(req, 0, NULL, NULL);
    switch (state) {
    case HG_ONCE_ANSWERED:
        replay(req, known->status, known->type[0] == '\0' ? NULL : known->type, &known->body);
        break;
    case HG_ONCE_UNDER_WAY: refuse(req, 409, UNDER_WAY); break;
    case HG_ONCE_DIFFERS: refuse(req, 422, DIFFERS); break;
    case HG_ONCE_FULL: refuse(req, 503, FULL); break;
    case HG_ONCE_AWAY:
    case HG_ONCE_OURS:
    case HG_ONCE_WAITING:
        refuse(req, 503,
               "keys are shared through the state log, which cannot be had; nothing was published");
        break;
    }
    return HG_HTTP_REPEAT_ANSWERED;
}

static enum hg_http_repeat claim(struct hg_http_request *req, struct hg_bytes key)
{
    struct hg_request_answer known = {.status = 0};
    const struct hg_once_ask ask = {
        .realm = hg_realm_of(req->session),
        .key = key,
        .target = target_of(&req->in.head),
        .body = hg_http_body(&req->in),
        .on_known = on_known,
        .ctx = req,
    };
    if (!req->session->worker->config->http_idempotency_shared) {
        return HG_HTTP_REPEAT_NONE;
    }
    enum hg_once_state state = hg_once_begin(&ask, &req->once, &known);
    return settle(req, state, &known);
}

/* ---- For those who publish ---- */

enum hg_http_repeat hg_http_repeat_begin(struct hg_http_request *req)
{
    uint8_t scope[SCOPED_MAX];
    struct hg_bytes key;
    struct hg_idempotency_answer known = {.status = 0};
    struct hg_request_answer shared = {.status = 0};
    const char *why = read_key(&req->in.head, &key);
    if (why != NULL) {
        refuse(req, 400, why);
        return HG_HTTP_REPEAT_ANSWERED;
    }
    if (req->once != NULL) {
        enum hg_once_state state = hg_once_look(req->once, &shared);
        return settle(req, state, &shared);
    }
    if (key.n == 0 || table_of(req) == NULL || req->entry != NULL) {
        return HG_HTTP_REPEAT_NONE;
    }
    key = scoped(req, key, scope);
    switch (hg_idempotency_begin(table_of(req), key, target_of(&req->in.head),
                                 hg_http_body(&req->in), &req->entry, &known)) {
    case HG_IDEMPOTENCY_FIRST: req->on_answer = on_answer; return claim(req, key);
    case HG_IDEMPOTENCY_DONE: replay(req, known.status, known.type, &known.body); break;
    case HG_IDEMPOTENCY_UNDER_WAY: refuse(req, 409, UNDER_WAY); break;
    case HG_IDEMPOTENCY_DIFFERS: refuse(req, 422, DIFFERS); break;
    case HG_IDEMPOTENCY_FULL: refuse(req, 503, FULL); break;
    }
    return HG_HTTP_REPEAT_ANSWERED;
}
