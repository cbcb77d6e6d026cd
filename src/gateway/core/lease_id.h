/* SPDX-License-Identifier: Apache-2.0 */
/* What names a lease: the process and worker that hold it, its place there, and a random part that
 * makes it a capability: whoever knows it may answer for the message. */
#ifndef HG_CORE_LEASE_ID_H
#define HG_CORE_LEASE_ID_H

#include "base/bytes.h"

enum { HG_LEASE_SECRET_BYTES = 16, HG_LEASE_ID_SIZE = 41 }; /* the latter with its NUL */

struct hg_lease_id {
    uint64_t boot_id;
    uint16_t worker;
    uint32_t slot;
    uint8_t secret[HG_LEASE_SECRET_BYTES];
};

/* As 40 letters, digits, - and _ (base64url), and a NUL. */
void hg_lease_id_write(const struct hg_lease_id *id, char out[HG_LEASE_ID_SIZE]);
/* False if it is none. */
bool hg_lease_id_read(struct hg_bytes text, struct hg_lease_id *out);
/* A new secret. */
void hg_lease_id_draw(uint8_t secret[HG_LEASE_SECRET_BYTES]);
/* In a time that does not tell how much of it was right. */
bool hg_lease_id_is(const uint8_t secret[HG_LEASE_SECRET_BYTES], const uint8_t *other);

#endif
