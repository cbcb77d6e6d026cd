/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/copy.h"

#include "base/check.h"

size_t hg_copy_headers_bytes(const struct hg_header *headers, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const struct hg_header *h = &headers[i];
        bytes += h->name.n + (h->value.kind >= HG_VALUE_STRING ? h->value.u.bytes.n : 0);
    }
    return bytes;
}

struct hg_bytes hg_copy_bytes(struct hg_buf *buf, struct hg_bytes b)
{
    uint8_t *at = buf->data + buf->n;
    HG_CHECK(b.n <= buf->cap - buf->n);
    if (b.n > 0) {
        memcpy(at, b.p, b.n);
        buf->n += (uint32_t)b.n;
    }
    return hg_bytes(at, b.n);
}

void hg_copy_headers(struct hg_buf *buf, const struct hg_header *headers, size_t n,
                     struct hg_header *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct hg_header){hg_copy_bytes(buf, headers[i].name), headers[i].value};
        if (out[i].value.kind >= HG_VALUE_STRING) {
            out[i].value.u.bytes = hg_copy_bytes(buf, headers[i].value.u.bytes);
        }
    }
}
