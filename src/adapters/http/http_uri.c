/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-decoding. */
#include "adapters/http/http_uri.h"

#include "base/percent.h"

/* In a path an encoded slash is refused, in a query a `+` is a blank. */
enum part { PATH, LEVEL, QUERY };

/* Writes at most b.n bytes, so that p may be where b is. */
static const char *decode_to(struct hg_bytes b, enum part part, uint8_t *p, size_t *n_out)
{
    size_t n = part == QUERY ? 0 : hg_bytes_index(b, '%');
    if (n > 0) {
        memmove(p, b.p, n);
    }
    for (size_t i = n; i < b.n; i++) {
        uint8_t c = b.p[i];
        if (c == '%') {
            if (!hg_percent_read(hg_bytes_skip(b, i), &c)) {
                return "a % must be followed by two hex digits";
            }
            i += 2;
            if (c == 0) {
                return "%00 cannot stand here";
            }
            if (c == '/' && part == PATH) {
                return "%2F would hide a slash in a level; %252F puts one into the routing key";
            }
        } else if (c == '+' && part == QUERY) {
            c = ' ';
        }
        p[n++] = c;
    }
    *n_out = n;
    return NULL;
}

static const char *decode(struct hg_bytes b, enum part part, struct hg_writer *out)
{
    uint8_t *p = hg_writer_reserve(out, b.n);
    size_t n = 0;
    const char *wrong = p == NULL ? "out of memory" : decode_to(b, part, p, &n);
    if (wrong == NULL) {
        hg_writer_commit(out, n);
    }
    return wrong;
}

const char *hg_http_decode_path(struct hg_bytes path, struct hg_writer *out)
{
    return decode(path, PATH, out);
}

const char *hg_http_decode_level(struct hg_bytes level, struct hg_writer *out)
{
    return decode(level, LEVEL, out);
}

const char *hg_http_decode_value(uint8_t *p, size_t *n)
{
    return decode_to(hg_bytes(p, *n), LEVEL, p, n);
}

struct hg_bytes hg_http_take_level(struct hg_bytes *path)
{
    struct hg_bytes level = hg_bytes(path->p, hg_bytes_index(*path, '/'));
    *path = hg_bytes_skip(*path, level.n < path->n ? level.n + 1 : level.n);
    return level;
}

bool hg_http_next_parameter(struct hg_bytes *query, struct hg_writer *name, struct hg_writer *value,
                            const char **why_out)
{
    while (query->n > 0) {
        size_t at = hg_bytes_index(*query, '&');
        struct hg_bytes pair = hg_bytes(query->p, at);
        *query = hg_bytes_skip(*query, at < query->n ? at + 1 : at);
        if (pair.n == 0) {
            continue;
        }
        size_t mark = hg_bytes_index(pair, '=');
        hg_writer_reset(name);
        hg_writer_reset(value);
        *why_out = decode(hg_bytes(pair.p, mark), QUERY, name);
        if (*why_out == NULL) {
            *why_out = decode(hg_bytes_skip(pair, mark < pair.n ? mark + 1 : mark), QUERY, value);
        }
        return true;
    }
    return false;
}
