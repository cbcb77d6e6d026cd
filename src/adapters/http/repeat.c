/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is
 * answered as the first was. */
#include "adapters/http/http_props.h"
#include "adapters/http/publish.h"
#include "core/idempotency.h"
#include "core/identity.h"
#include "core/worker.h"

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

static void on_answer(struct hg_http_request *req, const struct hg_http_answer *answer)
{
    struct hg_bytes body = answer->body == NULL ? HG_BYTES("") : hg_writer_view(answer->body);
    bool is_kept = is_final(answer->status) && (answer->body == NULL || !answer->body->failed);
    hg_idempotency_end(table_of(req), req->entry, answer->status, answer->type,
                       is_kept ? &body : NULL);
    req->entry = NULL;
}

void hg_http_repeat_forget(struct hg_http_request *req)
{
    if (req->entry != NULL) {
        hg_idempotency_end(table_of(req), req->entry, 0, NULL, NULL);
        req->entry = NULL;
    }
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

static void replay(struct hg_http_request *req, struct hg_idempotency_answer *known)
{
    const struct hg_http_answer_field field = {"Idempotency-Replayed", HG_BYTES("true")};
    hg_http_answer(req, &(struct hg_http_answer){.status = known->status,
                                                 .type = known->type,
                                                 .body = &known->body,
                                                 .fields = &field,
                                                 .fields_n = 1});
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

bool hg_http_repeat_begin(struct hg_http_request *req)
{
    uint8_t scope[SCOPED_MAX];
    struct hg_bytes key;
    struct hg_idempotency_answer known = {.status = 0};
    const char *why = read_key(&req->in.head, &key);
    if (why != NULL) {
        refuse(req, 400, why);
        return false;
    }
    if (key.n == 0 || table_of(req) == NULL || req->entry != NULL) {
        return true;
    }
    switch (hg_idempotency_begin(table_of(req), scoped(req, key, scope), target_of(&req->in.head),
                                 hg_http_body(&req->in), &req->entry, &known)) {
    case HG_IDEMPOTENCY_FIRST: req->on_answer = on_answer; return true;
    case HG_IDEMPOTENCY_DONE: replay(req, &known); break;
    case HG_IDEMPOTENCY_UNDER_WAY:
        refuse(req, 409, "the first request with this Idempotency-Key is still under way");
        break;
    case HG_IDEMPOTENCY_DIFFERS:
        refuse(req, 422, "this Idempotency-Key came with another address or body before");
        break;
    case HG_IDEMPOTENCY_FULL:
        refuse(req, 503, "too many requests with an Idempotency-Key are under way");
        break;
    }
    return false;
}
