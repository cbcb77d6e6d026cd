/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the request decoder: however they are split, the outcome is the same, and a complete request decodes without fault
 * in its path, query and lists. */
#include "adapters/http/http_codec.h"
#include "adapters/http/http_props.h"
#include "adapters/http/http_uri.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct hg_http_limits limits = {
    .max_url_bytes = 256, .max_header_bytes = 1024, .max_headers_n = 16, .max_body_bytes = 4096};

/* Decodes one request from pieces of at most piece_n bytes; returns the bytes it took. */
static size_t decode(struct hg_http_decoder *d, struct hg_bytes in, size_t piece_n)
{
    size_t used = 0;
    struct hg_error err;
    hg_http_decoder_open(d, &limits);
    while (used < in.n && d->state < HG_HTTP_STATE_DONE) {
        size_t left = in.n - used;
        ssize_t took =
            hg_http_decode(d, hg_bytes(in.p + used, left < piece_n ? left : piece_n), &err);
        if (took < 0) {
            HG_CHECK(err.rule != NULL && d->refusal >= 400);
            break;
        }
        HG_CHECK(took > 0 && (size_t)took <= left);
        used += (size_t)took;
    }
    return used;
}

static void look_at(const struct hg_http_head *h)
{
    struct hg_writer name = {0};
    struct hg_writer value = {0};
    struct hg_bytes query = h->query;
    const char *why;
    (void)hg_http_decode_path(h->path, &name);
    while (hg_http_next_parameter(&query, &name, &value, &why)) {
    }
    for (size_t i = 0; i < h->fields_n; i++) {
        HG_CHECK(hg_http_is_token(h->fields[i].name));
        (void)hg_http_lists(h, h->fields[i].name, HG_BYTES("x"));
    }
    struct hg_http_props props;
    struct hg_random random = {.left_n = 0};
    hg_writer_reset(&name);
    HG_CHECK(hg_http_props_open(&props, h, &random, &name) || hg_writer_n(&name) > 0);
    hg_http_props_close(&props);
    hg_writer_close(&name);
    hg_writer_close(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct hg_bytes in = hg_bytes(data, n);
    while (in.n > 0) { /* one request after another, as a connection would */
        struct hg_http_decoder whole;
        struct hg_http_decoder split;
        size_t used = decode(&whole, in, in.n);
        size_t used_split = decode(&split, in, 1 + data[0] % 7u);
        HG_CHECK(whole.state == split.state && whole.refusal == split.refusal);
        bool is_done = whole.state == HG_HTTP_STATE_DONE;
        if (is_done) {
            HG_CHECK(used == used_split);
            HG_CHECK(hg_bytes_eq(hg_http_body(&whole), hg_http_body(&split)));
            look_at(&whole.head);
        }
        hg_http_decoder_close(&whole);
        hg_http_decoder_close(&split);
        if (!is_done) {
            break;
        }
        in = hg_bytes_skip(in, used);
    }
    return 0;
}
