/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP session on a connection: reads requests, finds their route, writes answers in the order
 * of the requests. What a site serves is its table of routes; a handler answers at once or whenever
 * it likes. */
#ifndef HG_HTTP_SERVER_H
#define HG_HTTP_SERVER_H

#include "adapters/http/http_codec.h"
#include "core/session.h"

enum { HG_HTTP_RETRY_AFTER_S = 1 };

struct hg_http_answer;
struct hg_http_request;
struct hg_idempotency_entry;
struct hg_once;

/* What GET /v1/openapi.json says of a route. */
struct hg_http_doc {
    const char *rest;      /* the path behind a prefix, "{address}" */
    const char *operation; /* members of its Operation Object, JSON */
};

enum hg_http_login {
    HG_HTTP_NO_LOGIN,   /* everybody may */
    HG_HTTP_MUST_LOGIN, /* the request says who makes it */
    HG_HTTP_MAY_LOGIN   /* or what follows on the connection does */
};

struct hg_http_route {
    const char *path;
    bool is_prefix;
    bool runs_alone;  /* takes the connection over: waits until all before it is answered */
    bool has_vhost;   /* the level behind the prefix names the virtual host */
    uint8_t login;    /* enum hg_http_login */
    unsigned methods; /* bits 1 << enum hg_http_method; HEAD comes with GET, OPTIONS with all */
    /* Whether there is such a resource; NULL: always. Called once the head is there. */
    bool (*takes)(const struct hg_http_request *req);
    /* The whole request is there. Answers it, or keeps it to answer later. False: a call returned
     * HELD, or is_waiting is set; the same request comes again when the connection is released, or
     * hg_http_proceed called, or is answered 503 after the configured time. */
    bool (*handle)(struct hg_http_request *req);
    /* The head of a request with a body of known size is there: it may be answered already (and the
     * connection ends with that), or take the body piece by piece by setting on_body; else `handle`
     * gets it whole. NULL: always that. */
    void (*begin)(struct hg_http_request *req);
    const struct hg_http_doc *doc; /* NULL: only that it exists */
};

struct hg_http_site {
    const struct hg_http_route *routes; /* the first that takes path and method decides */
    size_t routes_n;
};

/* A request from its first byte to its answer; belongs to its session. */
struct hg_http_request {
    struct hg_list link;
    struct hg_session *session;
    uint64_t id; /* see hg_http_part */
    struct hg_http_limits limits;
    const struct hg_http_route *route;
    struct hg_realm *realm; /* once it is known who makes it: the virtual host that it is about */
    /* The handler's, zeroed at first. */
    void *data;
    struct hg_writer note;
    /* One of its publishes has its outcome. */
    void (*on_settled)(struct hg_http_request *req, uint32_t part, enum hg_status outcome,
                       struct hg_bytes reason);
    void (*on_gone)(struct hg_http_request *req); /* the client went before the answer: forget it */
    /* Is shown the answer. With publishes under way (on_settled is set) such a request outlives its
     * connection: it is answered, to nobody, once it is done. */
    void (*on_answer)(struct hg_http_request *req, const struct hg_http_answer *answer);
    /* The next piece of the body, instead of `handle`. */
    void (*on_body)(struct hg_http_request *req, struct hg_bytes piece);
    bool is_paused; /* no further piece is read, until hg_http_resume */
    /* The handler, having returned false, waits for something else than room: nothing behind the
     * request is read until hg_http_proceed. */
    bool is_waiting;
    struct hg_idempotency_entry *entry; /* repeat.c: of its Idempotency-Key, while under way */
    struct hg_once *once;               /* likewise, among all instances */
    /* The server's. */
    struct hg_writer out;    /* status line and fields of the answer */
    struct hg_buf *out_body; /* NULL: none */
    bool is_answered;
    bool is_login_due, is_logging_in; /* who makes it is to be found out, or being found out */
    bool awaits_continue, is_begin_due;
    bool is_continue_due;      /* 100 Continue is still to be sent */
    bool closes;               /* the connection ends with the answer */
    struct hg_http_decoder in; /* in.head, hg_http_body(&in); last, for http_kept.c */
};

struct hg_http_answer_field {
    const char *name;
    struct hg_bytes value;
};

struct hg_http_answer {
    unsigned status;
    bool closes;            /* end the connection behind it */
    bool is_endless;        /* to a HEAD: GET's body has no length */
    uint32_t retry_after_s; /* 0: none */
    const char *type;       /* Content-Type; NULL: no body */
    struct hg_writer *body; /* taken over; if it failed, the connection ends */
    const struct hg_http_answer_field *fields;
    size_t fields_n;
    struct hg_bytes lines; /* more of them, each as hg_http_write_field writes it */
};

/* For hg_publish_args.id, of a request's part-th publish: on_settled is called with it. */
enum { HG_HTTP_PART_BITS = 24 };
static inline uint64_t hg_http_part(const struct hg_http_request *req, uint32_t part)
{
    return req->id << HG_HTTP_PART_BITS | part;
}

/* Answers a request, once; copies everything but the body. From outside its handler the request is
 * gone afterwards. */
void hg_http_answer(struct hg_http_request *req, const struct hg_http_answer *answer);
/* The same with a body of application/problem+json; code: a stable word for programs, or NULL. */
void hg_http_refuse(struct hg_http_request *req, const struct hg_http_answer *answer,
                    struct hg_bytes detail, const char *code);
/* "*" or the request's origin if the listener allows it; n == 0: not allowed, or not asked. */
struct hg_bytes hg_http_allowed_origin(const struct hg_http_request *req);
/* Appends the fields that let a page of another origin read the answer, where the listener does. */
void hg_http_write_cors(const struct hg_http_request *req, struct hg_writer *w);
/* Goes on reading the body of the request that the part belongs to, if it is still there. */
void hg_http_resume(struct hg_session *s, uint64_t part);
/* What a request with is_waiting waited for has come: its handler is called again, from the loop. */
void hg_http_proceed(struct hg_http_request *req);
/* Input behind the request, for its handler to pass on when it takes the connection over. */
struct hg_bytes hg_http_rest(const struct hg_http_request *req);

/* A session that serves `site` (borrowed) with the limits and times of the worker's configuration.
 * NULL when there is no memory. */
struct hg_session *hg_http_open(struct hg_worker *worker, struct hg_conn *conn,
                                const struct hg_http_site *site);

#endif
