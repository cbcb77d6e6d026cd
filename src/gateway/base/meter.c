/* SPDX-License-Identifier: Apache-2.0 */
#include "base/meter.h"

static const uint64_t NS_PER_MS = 1000000;
static const uint64_t NS_PER_S = 1000000000;

/* What n of them are worth in time. */
static uint64_t cost_ns(uint64_t n, uint64_t per_s)
{
    const uint64_t most = UINT64_MAX / NS_PER_S;
    return (n < most ? n : most) * NS_PER_S / per_s;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t wait_of(uint64_t full_ns, uint64_t cost, uint64_t burst_ns, uint64_t now_ns)
{
    uint64_t lacking = full_ns > now_ns ? full_ns - now_ns : 0;
    uint64_t needed = lacking + (cost < burst_ns ? cost : burst_ns);
    return needed > burst_ns ? needed - burst_ns : 0;
}

static uint64_t wait_ns(const struct hg_meter *m, uint64_t n, uint64_t per_s, uint64_t burst_ms,
                        uint64_t now_ms)
{
    if (per_s == 0) {
        return 0;
    }
    uint64_t full_ns = atomic_load_explicit((_Atomic uint64_t *)&m->full_ns, memory_order_relaxed);
    return wait_of(full_ns, cost_ns(n, per_s), burst_ms * NS_PER_MS, now_ms * NS_PER_MS);
}

static uint64_t take(struct hg_meter *m, uint64_t n, uint64_t per_s, uint64_t burst_ms,
                     uint64_t now_ms)
{
    if (per_s == 0) {
        return 0;
    }
    uint64_t now_ns = now_ms * NS_PER_MS;
    uint64_t cost = cost_ns(n, per_s);
    uint64_t full_ns = atomic_load_explicit(&m->full_ns, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->full_ns, &full_ns,
                                                  later(full_ns, now_ns) + cost,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return wait_of(full_ns, cost, burst_ms * NS_PER_MS, now_ns);
}

uint64_t hg_meters_wait_ns(const struct hg_meters *m, const struct hg_rates *rates, uint64_t bytes,
                           uint64_t now_ms)
{
    return later(wait_ns(&m->messages, 1, rates->messages_per_s, rates->burst_ms, now_ms),
                 wait_ns(&m->bytes, bytes, rates->bytes_per_s, rates->burst_ms, now_ms));
}

uint64_t hg_meters_take(struct hg_meters *m, const struct hg_rates *rates, uint64_t bytes,
                        uint64_t now_ms)
{
    return later(take(&m->messages, 1, rates->messages_per_s, rates->burst_ms, now_ms),
                 take(&m->bytes, bytes, rates->bytes_per_s, rates->burst_ms, now_ms));
}
