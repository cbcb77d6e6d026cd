/* SPDX-License-Identifier: Apache-2.0 */
/* When to try again: the pause behind a failure, the delay queue it is spent in, and the circuit
 * breaker. Pure arithmetic; times are in milliseconds of any clock. */
#ifndef HG_WEBHOOK_PACE_H
#define HG_WEBHOOK_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HG_WEBHOOK_NEVER UINT64_MAX

/* The pause behind attempt number `attempts` (from 1): first_ms doubled each time up to most_ms, of
 * which half is for certain and half up to chance (`random`, any number), but no less than what the
 * receiver asked for, as far as most_ms goes. */
uint64_t hg_webhook_pause_ms(uint64_t first_ms, uint64_t most_ms, uint32_t attempts,
                             uint64_t retry_after_ms, uint64_t random);

/* Which of the rising delays: the shortest that is long enough, else the longest. n > 0. */
size_t hg_webhook_delay(const uint64_t *delays_ms, size_t n, uint64_t pause_ms);

enum hg_webhook_breaker_state {
    HG_WEBHOOK_CLOSED,
    HG_WEBHOOK_OPEN,   /* nothing is sent until due_ms, and then one request */
    HG_WEBHOOK_PROBING /* which is under way */
};

struct hg_webhook_breaker {
    enum hg_webhook_breaker_state state;
    uint32_t limit; /* failures in succession that open it; 0: it stays closed */
    uint32_t failures_n;
    uint64_t pause_ms, due_ms; /* the latter while it is open */
};

bool hg_webhook_breaker_admits(const struct hg_webhook_breaker *b, uint64_t now_ms);
/* A request goes out that it admits. */
void hg_webhook_breaker_sent(struct hg_webhook_breaker *b);
/* True: this closed it. */
bool hg_webhook_breaker_succeeded(struct hg_webhook_breaker *b);
/* True: this opened it (or kept it from closing). */
bool hg_webhook_breaker_failed(struct hg_webhook_breaker *b, uint64_t now_ms);

#endif
