/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong passwords by address: a bucket each that empties with time. One table for all workers,
 * locked; bounded: the address that was heard of longest ago makes room. */
#ifndef HG_CORE_FAILURES_H
#define HG_CORE_FAILURES_H

#include "base/bytes.h"

enum { HG_FAILURES_ADDRESSES = 16384 };

struct hg_failures;
/* per_minute: how many an address may have; all of them at once, then as many a minute. NULL when
 * there is no memory. */
struct hg_failures *hg_failures_new(uint32_t per_minute);
void hg_failures_free(struct hg_failures *f); /* NULL is fine */
/* Another number from now on. Any thread. */
void hg_failures_limit(struct hg_failures *f, uint32_t per_minute);

/* peer: "192.0.2.1:4711", "[2001:db8::1]:4711", counted as hg_inet_client says. Any thread. */
bool hg_failures_is_full(struct hg_failures *f, const char *peer, uint64_t now_ms);
void hg_failures_add(struct hg_failures *f, const char *peer, uint64_t now_ms);

#endif
