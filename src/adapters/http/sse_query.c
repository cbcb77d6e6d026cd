/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/http/sse_query.h"

#include "adapters/http/http_uri.h"
#include "adapters/http/sse_from.h"
#include "base/mem.h"
#include "message/match.h"
#include "message/topic.h"

struct hg_bytes hg_sse_next_filter(struct hg_bytes *filters)
{
    struct hg_bytes filter = hg_bytes(filters->p, hg_bytes_index(*filters, 0));
    *filters = hg_bytes_skip(*filters, filter.n + 1);
    return filter;
}

/* `*` in a level of its own is `+`, which means a blank in a query. */
static void add_filter(struct hg_sse_query *q, struct hg_bytes filter)
{
    struct hg_bytes level;
    bool has_more = true;
    for (bool is_first = true; hg_topic_next(&filter, &has_more, '/', &level); is_first = false) {
        hg_writer_str(&q->filters, is_first ? "" : "/");
        hg_writer_bytes(&q->filters, hg_bytes_eq(level, HG_BYTES("*")) ? HG_BYTES("+") : level);
    }
    hg_writer_u8(&q->filters, 0);
    q->filters_n++;
}

static const char *read_switch(struct hg_bytes value, const char *why, bool *out)
{
    *out = hg_bytes_eq(value, HG_BYTES("1")) || hg_bytes_eq(value, HG_BYTES("true"));
    bool is_known =
        *out || hg_bytes_eq(value, HG_BYTES("0")) || hg_bytes_eq(value, HG_BYTES("false"));
    return is_known ? NULL : why;
}

/* *is_known_out false: not a parameter of ours. */
static const char *read_parameter(struct hg_sse_query *q, struct hg_bytes name,
                                  struct hg_bytes value, bool *is_known_out)
{
    *is_known_out = true;
    if (hg_bytes_eq(name, HG_BYTES("filter"))) {
        add_filter(q, value);
        return NULL;
    }
    if (hg_bytes_eq(name, HG_BYTES("envelope"))) {
        return read_switch(value, "envelope must be 1 or 0", &q->is_envelope);
    }
    if (hg_bytes_eq(name, HG_BYTES("retained"))) {
        return read_switch(value, "retained must be true or false", &q->is_retained);
    }
    if (hg_bytes_eq(name, HG_BYTES("from"))) {
        q->has_from = true;
        return hg_sse_from_read(value, &q->from)
                   ? NULL
                   : "from must be first, next, an offset, or a time like 2026-01-31T08:00:00Z";
    }
    *is_known_out = false;
    return NULL;
}

/* ---- x-match ---- */

/* Whatever else the query says is kept until x-match tells what it is: names and values, each with
 * its length before it. */
static void put(struct hg_writer *w, struct hg_bytes text)
{
    hg_writer_u32(w, (uint32_t)text.n);
    hg_writer_bytes(w, text);
}

static struct hg_bytes take(struct hg_bytes *texts)
{
    uint64_t n = 0;
    struct hg_bytes text = {0};
    (void)(hg_bytes_take_number(texts, 4, &n) && hg_bytes_take(texts, (size_t)n, &text));
    return text;
}

/* The texts stay where they are from now on. */
static const char *make_match(struct hg_sse_query *q, uint32_t others_n)
{
    const struct hg_bytes x_match = HG_BYTES("x-match");
    struct hg_bytes texts = hg_writer_view(&q->texts);
    q->match = q->texts.failed ? NULL : hg_zalloc((others_n + 1) * sizeof(*q->match));
    if (q->match == NULL) {
        q->texts.failed = true;
        return NULL;
    }
    size_t n = 1;
    for (uint32_t i = 0; i < others_n; i++) {
        struct hg_bytes name = take(&texts);
        struct hg_bytes value = take(&texts);
        if (!hg_bytes_eq(name, x_match)) {
            struct hg_header *h = &q->match[n++];
            h->name = name;
            if (name.n == 0 || name.n > HG_MATCH_NAME_MAX || !hg_utf8_is_valid(name) ||
                !hg_utf8_is_valid(value) || !hg_match_read_value(value, &h->value)) {
                return "a header to match by is not what int: or bool: before it says, is not "
                       "UTF-8, or its name is not 1 to 255 bytes";
            }
        } else if (q->match[0].name.n > 0) {
            return "x-match is given twice";
        } else if (!hg_match_is_word(value)) {
            return "x-match must be all, any, all-with-x or any-with-x";
        } else {
            q->match[0] = (struct hg_header){x_match, {HG_VALUE_STRING, {.bytes = value}}};
        }
    }
    q->match_n = n;
    return q->match[0].name.n > 0 ? NULL
                                  : "the query parameters here are filter, envelope, retained and "
                                    "from, and with x-match the headers to match by";
}

/* ---- For sse.c ---- */

const char *hg_sse_query_read(struct hg_sse_query *q, struct hg_bytes query)
{
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    const char *why = NULL;
    uint32_t others_n = 0;
    while (why == NULL && hg_http_next_parameter(&query, &name, &value, &why)) {
        bool is_known = true;
        if (why == NULL) {
            why = read_parameter(q, hg_writer_view(&name), hg_writer_view(&value), &is_known);
        }
        if (!is_known) {
            put(&q->texts, hg_writer_view(&name));
            put(&q->texts, hg_writer_view(&value));
            others_n++;
        }
    }
    hg_writer_close(&name);
    hg_writer_close(&value);
    return why == NULL && others_n > 0 ? make_match(q, others_n) : why;
}

const char *hg_sse_query_read_path(struct hg_sse_query *q, struct hg_bytes path)
{
    struct hg_writer text = {0};
    const char *why = hg_http_decode_path(path, &text);
    if (why == NULL && (path.n > 0 || q->filters_n == 0)) {
        add_filter(q, hg_writer_view(&text));
    }
    hg_writer_close(&text);
    return why;
}

bool hg_sse_query_has_failed(const struct hg_sse_query *q)
{
    return q->filters.failed || q->texts.failed;
}

void hg_sse_query_close(struct hg_sse_query *q)
{
    hg_writer_close(&q->filters);
    hg_writer_close(&q->texts);
    hg_free(q->match);
}
