/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease_id.h"

#include "base/map.h"

enum { RAW_BYTES = 8 + 2 + 4 + HG_LEASE_SECRET_BYTES, TEXT_N = HG_LEASE_ID_SIZE - 1 };

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

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
    for (size_t i = 0; i < RAW_BYTES; i += 3) { /* 30 bytes are 40 letters, without padding */
        uint32_t three = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (unsigned k = 0; k < 4; k++) {
            *out++ = letters[three >> (18 - 6 * k) & 63];
        }
    }
    *out = '\0';
}

bool hg_lease_id_read(struct hg_bytes text, struct hg_lease_id *out)
{
    uint8_t raw[RAW_BYTES];
    if (text.n != TEXT_N) {
        return false;
    }
    for (size_t i = 0; i < TEXT_N; i += 4) {
        uint32_t three = 0;
        for (size_t k = 0; k < 4; k++) {
            const char *letter = text.p[i + k] == '\0' ? NULL : strchr(letters, text.p[i + k]);
            if (letter == NULL) {
                return false;
            }
            three = three << 6 | (uint32_t)(letter - letters);
        }
        put(raw + i / 4 * 3, three, 3);
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
