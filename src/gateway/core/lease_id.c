/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease_id.h"

#include "base/base64.h"
#include "base/map.h"

enum { RAW_BYTES = 8 + 2 + 4 + HG_LEASE_SECRET_BYTES, TEXT_N = HG_LEASE_ID_SIZE - 1 };

_Static_assert(TEXT_N == HG_BASE64URL_N(RAW_BYTES), "an identifier is all of its bytes");

static uint8_t *put(uint8_t *at, uint64_t number, size_t n)
{
    for (size_t i = n; i-- > 0; number >>= 8) {
        at[i] = (uint8_t)number;
    }
    return at + n;
}

void hg_lease_id_write(const struct hg_lease_id *id, char out[HG_LEASE_ID_SIZE])
{
    uint8_t raw[RAW_BYTES];
    memcpy(put(put(put(raw, id->boot_id, 8), id->worker, 2), id->slot, 4), id->secret,
           sizeof(id->secret));
    hg_base64url_write(out, hg_bytes(raw, sizeof(raw)));
    out[TEXT_N] = '\0';
}

bool hg_lease_id_read(struct hg_bytes text, struct hg_lease_id *out)
{
    uint8_t raw[RAW_BYTES];
    if (!hg_base64url_read(text, raw, sizeof(raw))) {
        return false;
    }
    struct hg_bytes in = hg_bytes(raw, sizeof(raw));
    uint64_t worker = 0;
    uint64_t slot = 0;
    bool is_whole = hg_bytes_take_number(&in, 8, &out->boot_id) &&
                    hg_bytes_take_number(&in, 2, &worker) && hg_bytes_take_number(&in, 4, &slot);
    out->worker = (uint16_t)worker;
    out->slot = (uint32_t)slot;
    memcpy(out->secret, in.p, sizeof(out->secret));
    return is_whole;
}

void hg_lease_id_draw(uint8_t secret[HG_LEASE_SECRET_BYTES])
{
    put(put(secret, hg_random_u64(), 8), hg_random_u64(), 8);
}

bool hg_lease_id_is(const uint8_t secret[HG_LEASE_SECRET_BYTES], const uint8_t *other)
{
    unsigned differs = 0;
    for (size_t i = 0; i < HG_LEASE_SECRET_BYTES; i++) {
        differs |= (unsigned)(secret[i] ^ other[i]);
    }
    return differs == 0;
}
