/* SPDX-License-Identifier: Apache-2.0 */
/* A stack of requests that are over. */
#include "adapters/http/http_kept.h"

#include "adapters/http/http_encode.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/worker.h"

/* As many as may be answered in one turn under load; and of each of a request's buffers so much.
 * Larger messages have an allocation of their own. */
enum { REQUESTS_MAX = 256, BUFFER_BYTES = 4096, SMALL_BYTES = 1024 };

struct kept {
    struct hg_list requests; /* hg_http_request.link; the last to come is the first to go */
    size_t requests_n;
    struct hg_writer scratch;
    struct hg_http_date date;
    struct hg_writer start;  /* of an answer, */
    unsigned start_status;   /* with this status, */
    uint64_t start_until_ms; /* in the second before this */
};

static struct kept *kept_of(const struct hg_worker *worker)
{
    return worker->kept[HG_PROTO_HTTP].what;
}

static void free_request(struct hg_http_request *req)
{
    hg_http_decoder_close(&req->in);
    hg_writer_close(&req->note);
    hg_writer_close(&req->out);
    hg_free(req);
}

static void free_kept(void *what)
{
    struct kept *k = what;
    HG_LIST_FOREACH_SAFE (it, &k->requests) {
        free_request(HG_LIST_ENTRY(it, struct hg_http_request, link));
    }
    hg_writer_close(&k->scratch);
    hg_writer_close(&k->start);
    hg_free(k);
}

bool hg_http_kept_open(struct hg_worker *worker)
{
    struct hg_kept *place = &worker->kept[HG_PROTO_HTTP];
    if (place->what == NULL) {
        struct kept *k = hg_zalloc(sizeof(*k));
        if (k == NULL) {
            return false;
        }
        hg_list_init(&k->requests);
        *place = (struct hg_kept){.what = k, .free = free_kept};
    }
    return true;
}

struct hg_http_request *hg_http_kept_take(struct hg_worker *worker)
{
    struct kept *k = kept_of(worker);
    if (hg_list_is_empty(&k->requests)) {
        return hg_zalloc(sizeof(struct hg_http_request));
    }
    struct hg_http_request *req = HG_LIST_ENTRY(k->requests.next, struct hg_http_request, link);
    k->requests_n--;
    hg_list_remove(&req->link);
    return req;
}

void hg_http_kept_put(struct hg_worker *worker, struct hg_http_request *req)
{
    struct kept *k = kept_of(worker);
    hg_buf_unref(req->out_body);
    if (k->requests_n == REQUESTS_MAX) {
        free_request(req);
        return;
    }
    hg_http_decoder_reset(&req->in, BUFFER_BYTES);
    hg_writer_reset_to(&req->note, SMALL_BYTES);
    hg_writer_reset_to(&req->out, SMALL_BYTES);
    struct hg_writer note = req->note;
    struct hg_writer out = req->out;
    memset(req, 0, offsetof(struct hg_http_request, in));
    req->note = note;
    req->out = out;
    hg_list_add_first(&k->requests, &req->link);
    k->requests_n++;
}

void hg_http_kept_body(struct hg_http_request *req)
{
    if (req->note.buf == NULL) {
        req->note.buf = req->out_body;
    } else {
        hg_buf_unref(req->out_body);
    }
    req->out_body = NULL;
}

void hg_http_kept_status(struct hg_worker *worker, struct hg_writer *w, unsigned status)
{
    struct kept *k = kept_of(worker);
    struct hg_bytes date = hg_http_date(&k->date, hg_clock_wall_ms());
    if (k->start.failed || k->start_status != status || k->start_until_ms != k->date.until_ms) {
        k->start_status = status;
        k->start_until_ms = k->date.until_ms;
        hg_writer_reset(&k->start);
        hg_http_write_status(&k->start, status, date);
    }
    hg_writer_bytes(w, hg_writer_view(&k->start));
    w->failed = w->failed || k->start.failed;
}

struct hg_writer *hg_http_kept_scratch(struct hg_worker *worker)
{
    struct kept *k = kept_of(worker);
    hg_writer_reset_to(&k->scratch, SMALL_BYTES);
    return &k->scratch;
}
