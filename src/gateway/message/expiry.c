/* SPDX-License-Identifier: Apache-2.0 */
/* How long a message is still of use. */
#include "message/expiry.h"

static bool published_at(const struct hg_message *m, uint64_t *ms_out)
{
    const struct hg_properties *p = hg_message_properties(m);
    const struct hg_value *stamp = hg_message_header(m, HG_BYTES("x-headgate-ms"));
    if (stamp != NULL && stamp->kind == HG_VALUE_INT && stamp->u.i >= 0) {
        *ms_out = (uint64_t)stamp->u.i;
        return true;
    }
    if (p->has_timestamp && p->timestamp_s <= (UINT64_MAX - 999) / 1000) {
        *ms_out = p->timestamp_s * 1000 + 999;
        return true;
    }
    return false;
}

uint64_t hg_message_expiry_left_ms(const struct hg_message *m, uint64_t now_ms)
{
    uint64_t whole_ms;
    uint64_t from_ms;
    if (!hg_bytes_to_u64(hg_message_properties(m)->expiration, UINT64_MAX - 1, &whole_ms)) {
        return HG_EXPIRY_NONE;
    }
    whole_ms = whole_ms == 0 ? 1 : whole_ms;
    if (!published_at(m, &from_ms) || from_ms >= now_ms) { /* or our clock is behind */
        return whole_ms;
    }
    return now_ms - from_ms >= whole_ms ? 0 : whole_ms - (now_ms - from_ms);
}
