/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 requests, server side (RFC 9110, RFC 9112), sans-I/O: bytes in, one request out. What
 * parsers disagree on (bare LF, bare CR, folded lines, two lengths) is refused, so that nothing can be
 * smuggled past a proxy. llhttp decides the grammar of chunks. */
#ifndef HG_HTTP_CODEC_H
#define HG_HTTP_CODEC_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

#include <sys/types.h>

enum hg_http_method {
    HG_HTTP_GET,
    HG_HTTP_HEAD,
    HG_HTTP_POST,
    HG_HTTP_PUT,
    HG_HTTP_DELETE,
    HG_HTTP_PATCH,
    HG_HTTP_OPTIONS,
    HG_HTTP_METHOD_N
};
const char *hg_http_method_name(enum hg_http_method m);

struct hg_http_limits {
    size_t max_url_bytes; /* past it 414 */
    /* all header lines together, chunk extensions and trailers likewise; past it 431 */
    size_t max_header_bytes;
    size_t max_headers_n;    /* past it 431 */
    uint64_t max_body_bytes; /* past it 413 */
};

struct hg_http_field {
    struct hg_bytes name, value; /* value without blanks around it */
};

/* A request's head. Slices borrow from the decoder. */
struct hg_http_head {
    enum hg_http_method method;
    bool is_http_10;
    bool keeps_alive;    /* the client lets the connection live on */
    bool wants_continue; /* Expect: 100-continue */
    bool is_chunked;
    uint64_t body_bytes;   /* Content-Length; 0 if absent or chunked */
    struct hg_bytes path;  /* as sent; starts with '/', or is "*" (OPTIONS only) */
    struct hg_bytes query; /* as sent, without the '?' */
    const struct hg_http_field *fields;
    size_t fields_n;
};

enum hg_http_state {
    HG_HTTP_STATE_HEAD, /* the head is incomplete, and `head` not valid */
    HG_HTTP_STATE_BODY, /* the head is there, body bytes are to come */
    HG_HTTP_STATE_DONE, /* the request is complete */
    /* `refusal` is the status to answer; nothing more can be read from this connection */
    HG_HTTP_STATE_FAILED
};

struct llhttp__internal_s; /* llhttp_t */

/* What most requests have; more cost an allocation. */
enum { HG_HTTP_FIELDS_INSIDE = 12 };

/* Decodes exactly one request; between requests a connection has none of these. */
struct hg_http_decoder {
    const struct hg_http_limits *limits; /* borrowed */
    enum hg_http_state state;
    bool is_body_unwanted;        /* the caller sets it: body bytes are read and forgotten */
    uint8_t scan;                 /* where the scanner is in a line */
    bool is_in_trailer;           /* the last chunk has been read */
    bool has_too_many;            /* headers: that is why it was refused */
    uint16_t refusal;             /* HTTP status, once FAILED */
    uint32_t lines_n;             /* lines of the head or trailer so far */
    size_t scan_n, scan_max;      /* bytes scanned; how many may be */
    size_t line_at;               /* of the request line in the head: empty lines may come first */
    size_t extension_bytes;       /* of chunk extensions */
    struct hg_writer raw;         /* the head as received */
    struct hg_http_field *fields; /* fields_inside or, where those are too few, fields_own */
    struct hg_http_field *fields_own;
    struct hg_http_head head;
    uint64_t body_n; /* body bytes so far */
    struct hg_writer body;
    struct llhttp__internal_s *parser;                         /* NULL before the first chunk */
    const char *rule;                                          /* why a callback failed */
    struct hg_http_field fields_inside[HG_HTTP_FIELDS_INSIDE]; /* last: is not cleared */
};

/* Starts a new or closed one; allocates nothing yet. */
void hg_http_decoder_open(struct hg_http_decoder *d, const struct hg_http_limits *limits);
/* Forgets the request and keeps memory for another one, of each buffer at most so much. */
void hg_http_decoder_reset(struct hg_http_decoder *d, size_t most_bytes);
/* Starts a reset or zeroed one. */
void hg_http_decoder_again(struct hg_http_decoder *d, const struct hg_http_limits *limits);
void hg_http_decoder_close(struct hg_http_decoder *d);
/* Takes bytes of the request. Returns how many were used: it stops behind the head, for the caller
 * to look at it before the body is taken, and behind the request; d->state tells which. < 0:
 * FAILED, *err says why, and d->refusal is 400, 413, 414, 417, 431, 501, 503 (no memory) or 505.
 * However the input is split, the outcome is the same. */
ssize_t hg_http_decode(struct hg_http_decoder *d, struct hg_bytes in, struct hg_error *err);
/* The body so far, borrowed from the decoder. */
struct hg_bytes hg_http_body(const struct hg_http_decoder *d);

/* First field of that name (any letter case) at or after index *at, which it leaves behind it;
 * NULL: none. Start with 0. */
const struct hg_http_field *hg_http_next_field(const struct hg_http_head *head,
                                               struct hg_bytes name, size_t *at);
/* Value of the first such field; n == 0: absent or empty. */
struct hg_bytes hg_http_field(const struct hg_http_head *head, struct hg_bytes name);
/* Takes the next element off a comma-separated list (RFC 9110 section 5.6.1), skipping empty ones;
 * false at the end. */
bool hg_http_next_element(struct hg_bytes *list, struct hg_bytes *element_out);
/* Whether some field of that name lists the element (any letter case). */
bool hg_http_lists(const struct hg_http_head *head, struct hg_bytes name, struct hg_bytes element);
/* Whether b is a token (RFC 9110 section 5.6.2). */
bool hg_http_is_token(struct hg_bytes b);

#endif
