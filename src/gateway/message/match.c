/* SPDX-License-Identifier: Apache-2.0 */
#include "message/match.h"

bool hg_match_is_word(struct hg_bytes word)
{
    static const char *const words[] = {"all", "any", "all-with-x", "any-with-x"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (hg_bytes_eq(word, hg_bytes_str(words[i]))) {
            return true;
        }
    }
    return false;
}

static bool read_int(struct hg_bytes text, struct hg_value *out)
{
    bool is_negative = hg_bytes_starts(text, HG_BYTES("-"));
    uint64_t n;
    if (!hg_bytes_to_u64(hg_bytes_skip(text, is_negative), INT64_MAX, &n)) {
        return false;
    }
    *out = (struct hg_value){.kind = HG_VALUE_INT, .u.i = is_negative ? -(int64_t)n : (int64_t)n};
    return true;
}

static bool read_bool(struct hg_bytes text, struct hg_value *out)
{
    bool is_true = hg_bytes_eq(text, HG_BYTES("true")) || hg_bytes_eq(text, HG_BYTES("True"));
    *out = (struct hg_value){.kind = HG_VALUE_BOOL, .u.b = is_true};
    return is_true || hg_bytes_eq(text, HG_BYTES("false")) || hg_bytes_eq(text, HG_BYTES("False"));
}

bool hg_match_read_value(struct hg_bytes text, struct hg_value *out)
{
    const struct hg_bytes as_int = HG_BYTES("int:");
    const struct hg_bytes as_bool = HG_BYTES("bool:");
    const struct hg_bytes as_string = HG_BYTES("string:");
    if (hg_bytes_starts(text, as_int)) {
        return read_int(hg_bytes_skip(text, as_int.n), out);
    }
    if (hg_bytes_starts(text, as_bool)) {
        return read_bool(hg_bytes_skip(text, as_bool.n), out);
    }
    size_t skip = hg_bytes_starts(text, as_string) ? as_string.n : 0;
    *out = (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_skip(text, skip)};
    return true;
}
