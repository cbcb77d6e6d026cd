/* SPDX-License-Identifier: Apache-2.0 */
/* What a request for server-sent events asks for: its path and query. */
#ifndef HG_HTTP_SSE_QUERY_H
#define HG_HTTP_SSE_QUERY_H

#include "base/buf.h"
#include "message/message.h"

struct hg_sse_query {         /* zero-initialised */
    struct hg_writer filters; /* each ends in NUL; see hg_sse_next_filter */
    uint32_t filters_n;
    bool is_envelope, is_retained;
    bool has_from;        /* it says where to begin */
    struct hg_value from; /* where a stream is read from */
    /* x-match: arguments for bindings to headers exchanges, itself the first; n == 0: none. */
    struct hg_header *match;
    size_t match_n;
    struct hg_writer texts; /* what they point into */
    struct hg_bytes stream; /* sse.c's: the one to read; empty: there is none */
};

/* NULL, or static text that says what is wrong. To be closed in any case. */
const char *hg_sse_query_read(struct hg_sse_query *q, struct hg_bytes query);
/* The path's filter, unless the path is empty because the query has them all. After the query. */
const char *hg_sse_query_read_path(struct hg_sse_query *q, struct hg_bytes path);
/* There was no memory for all of it. */
bool hg_sse_query_has_failed(const struct hg_sse_query *q);
void hg_sse_query_close(struct hg_sse_query *q);

/* The next of the filters; start with a view of all of them. */
struct hg_bytes hg_sse_next_filter(struct hg_bytes *filters);

#endif
