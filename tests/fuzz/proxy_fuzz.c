/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the PROXY decoder: however they are split, the same peer and as many bytes, or refused. */
#include "base/check.h"
#include "stream/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Bytes used, or -1. */
static ssize_t decode(struct hg_proxy_decoder *d, struct hg_bytes in, size_t piece_n)
{
    struct hg_error err;
    size_t used = 0;
    *d = (struct hg_proxy_decoder){.n = 0};
    while (used < in.n && !d->is_done) {
        size_t left = in.n - used;
        ssize_t n =
            hg_proxy_decode(d, hg_bytes(in.p + used, left < piece_n ? left : piece_n), &err);
        if (n < 0) {
            return -1;
        }
        HG_CHECK(n > 0);
        used += (size_t)n;
    }
    return (ssize_t)used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct hg_proxy_decoder whole;
    struct hg_proxy_decoder pieces;
    ssize_t used = decode(&whole, hg_bytes(data, n), n);
    for (size_t piece_n = 1; piece_n < 8; piece_n += 3) {
        HG_CHECK(decode(&pieces, hg_bytes(data, n), piece_n) == used);
        HG_CHECK(used < 0 ||
                 (pieces.is_done == whole.is_done && strcmp(pieces.peer, whole.peer) == 0));
    }
    return 0;
}
