/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/webhook/webhook_pace.h"

uint64_t hg_webhook_pause_ms(uint64_t first_ms, uint64_t most_ms, uint32_t attempts,
                             uint64_t retry_after_ms, uint64_t random)
{
    uint64_t pause_ms = first_ms;
    for (uint32_t i = 1; i < attempts && pause_ms < most_ms; i++) {
        pause_ms = pause_ms > most_ms / 2 ? most_ms : pause_ms * 2;
    }
    pause_ms = pause_ms > most_ms ? most_ms : pause_ms;
    uint64_t half_ms = pause_ms / 2;
    pause_ms = pause_ms - half_ms + random % (half_ms + 1);
    uint64_t asked_ms = retry_after_ms > most_ms ? most_ms : retry_after_ms;
    return pause_ms < asked_ms ? asked_ms : pause_ms;
}

size_t hg_webhook_delay(const uint64_t *delays_ms, size_t n, uint64_t pause_ms)
{
    size_t i = 0;
    while (i + 1 < n && delays_ms[i] < pause_ms) {
        i++;
    }
    return i;
}

bool hg_webhook_breaker_admits(const struct hg_webhook_breaker *b, uint64_t now_ms)
{
    return b->state == HG_WEBHOOK_CLOSED || (b->state == HG_WEBHOOK_OPEN && now_ms >= b->due_ms);
}

void hg_webhook_breaker_sent(struct hg_webhook_breaker *b)
{
    if (b->state == HG_WEBHOOK_OPEN) {
        b->state = HG_WEBHOOK_PROBING;
    }
}

bool hg_webhook_breaker_succeeded(struct hg_webhook_breaker *b)
{
    bool was_closed = b->state == HG_WEBHOOK_CLOSED;
    b->state = HG_WEBHOOK_CLOSED;
    b->failures_n = 0;
    return !was_closed;
}

bool hg_webhook_breaker_failed(struct hg_webhook_breaker *b, uint64_t now_ms)
{
    if (b->limit == 0 || b->state == HG_WEBHOOK_OPEN) { /* of before it opened */
        return false;
    }
    b->failures_n += b->failures_n < UINT32_MAX;
    if (b->state == HG_WEBHOOK_CLOSED && b->failures_n < b->limit) {
        return false;
    }
    b->state = HG_WEBHOOK_OPEN;
    b->due_ms = now_ms + b->pause_ms;
    return true;
}
