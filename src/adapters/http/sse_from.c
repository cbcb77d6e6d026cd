/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/http/sse_from.h"

#include <time.h>

static struct hg_value word(const char *text)
{
    return (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(text)};
}

static struct hg_value number(uint64_t offset)
{
    return (struct hg_value){.kind = HG_VALUE_INT, .u.i = (int64_t)offset};
}

/* Digits where the pattern has 0, else what it has. */
static bool has_shape(struct hg_bytes text, const char *pattern)
{
    for (size_t i = 0; i < text.n && pattern[i] != '\0'; i++) {
        bool is_digit = text.p[i] >= '0' && text.p[i] <= '9';
        if (pattern[i] == '0' ? !is_digit : text.p[i] != (uint8_t)pattern[i]) {
            return false;
        }
    }
    return text.n == strlen(pattern);
}

/* The n digits at `at`, which are there. */
static int digits(struct hg_bytes text, size_t at, size_t n)
{
    int value = 0;
    for (size_t i = at; i < at + n; i++) {
        value = value * 10 + (text.p[i] - '0');
    }
    return value;
}

static bool read_time(struct hg_bytes text, struct hg_value *out)
{
    if (!has_shape(text, "0000-00-00T00:00:00Z")) {
        return false;
    }
    struct tm t = {
        .tm_year = digits(text, 0, 4) - 1900,
        .tm_mon = digits(text, 5, 2) - 1,
        .tm_mday = digits(text, 8, 2),
        .tm_hour = digits(text, 11, 2),
        .tm_min = digits(text, 14, 2),
        .tm_sec = digits(text, 17, 2),
    };
    struct tm given = t;
    time_t at = timegm(&t); /* which brings a 30th of February to the 1st or 2nd of March */
    if (at < 0 || t.tm_mon != given.tm_mon || t.tm_mday != given.tm_mday ||
        t.tm_hour != given.tm_hour || t.tm_min != given.tm_min || t.tm_sec != given.tm_sec) {
        return false;
    }
    *out = (struct hg_value){.kind = HG_VALUE_TIMESTAMP, .u.timestamp_s = (uint64_t)at};
    return true;
}

bool hg_sse_from_read(struct hg_bytes text, struct hg_value *out)
{
    uint64_t offset;
    if (hg_bytes_eq(text, HG_BYTES("first")) || hg_bytes_eq(text, HG_BYTES("next"))) {
        *out = word(text.p[0] == 'f' ? "first" : "next");
        return true;
    }
    if (hg_bytes_to_u64(text, INT64_MAX, &offset)) {
        *out = number(offset);
        return true;
    }
    return read_time(text, out);
}

bool hg_sse_from_read_id(struct hg_bytes id, struct hg_value *out)
{
    uint64_t offset;
    if (!hg_bytes_to_u64(id, INT64_MAX - 1, &offset)) {
        return false;
    }
    *out = number(offset + 1);
    return true;
}

bool hg_sse_from_offset(const struct hg_message *m, uint64_t *out)
{
    const struct hg_value *offset = hg_message_header(m, HG_BYTES("x-stream-offset"));
    if (offset == NULL || offset->kind != HG_VALUE_INT || offset->u.i < 0) {
        return false;
    }
    *out = (uint64_t)offset->u.i;
    return true;
}
