/* SPDX-License-Identifier: Apache-2.0 */
/* Posts to one URL: libcurl's multi interface on a worker's loop, with connections kept alive. Names
 * are resolved by libuv; what may be connected to, hg_webhook_spec_allows says, of each address
 * before libcurl hears of it, and again of each socket before it is opened. Redirects are not
 * followed, proxies of the environment not used. */
#ifndef HG_WEBHOOK_CLIENT_H
#define HG_WEBHOOK_CLIENT_H

#include "core/worker.h"

enum hg_webhook_outcome {
    HG_WEBHOOK_ANSWERED,  /* `status` says how */
    HG_WEBHOOK_TIMED_OUT, /* the attempt's time is over */
    HG_WEBHOOK_NO_ANSWER, /* no address, no connection, TLS, broken off, not HTTP */
    HG_WEBHOOK_FORBIDDEN  /* the host has no address that may be connected to */
};

struct hg_webhook_result {
    enum hg_webhook_outcome outcome;
    unsigned status;         /* 0: no answer */
    uint64_t retry_after_ms; /* 0: it did not ask */
    uint64_t took_ms;
    const char *error; /* not ANSWERED: why; valid during the call */
};
typedef void hg_webhook_done_fn(void *ctx, uint64_t id, const struct hg_webhook_result *result);

struct hg_webhook_client;
/* Both process-wide; prepare before any client. */
bool hg_webhook_client_prepare(void);
void hg_webhook_client_release(void);

/* spec stays. `done` comes from the loop, never from inside a call. NULL when there is no memory. */
struct hg_webhook_client *hg_webhook_client_new(struct hg_worker *worker,
                                                const struct hg_webhook_spec *spec,
                                                hg_webhook_done_fn *done, void *ctx);
/* Breaks off what is under way, without `done`; not from inside `done`. `closed` comes from the
 * loop, when the last handle has gone. */
void hg_webhook_client_close(struct hg_webhook_client *c, void (*closed)(void *ctx));

/* A request, for which header fields are added before it is sent. NULL when there is no memory. */
struct hg_webhook_call;
struct hg_webhook_call *hg_webhook_client_call(struct hg_webhook_client *c);
/* name and value are such as stand in a header; there may be no memory, as `send` tells. */
void hg_webhook_call_field(struct hg_webhook_call *call, struct hg_bytes name,
                           struct hg_bytes value);
/* Instead of sending it. */
void hg_webhook_call_drop(struct hg_webhook_call *call);
/* Sends it, and gives it up: `body` is borrowed until done(id). False when there is no memory; then
 * it is gone, and done will not be called. */
bool hg_webhook_call_send(struct hg_webhook_call *call, uint64_t id, struct hg_bytes body);

#endif
