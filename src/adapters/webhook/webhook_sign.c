/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/webhook/webhook_sign.h"

#include "base/base64.h"
#include "base/hex.h"
#include "base/map.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { DIGEST_BYTES = 32, ID_DIGEST_BYTES = 16 };

#define SECRET_PREFIX "whsec_"

static bool sign(struct hg_writer *out, const char *secret, struct hg_bytes text)
{
    struct hg_writer key = {0};
    uint8_t digest[DIGEST_BYTES];
    unsigned digest_n = 0;
    struct hg_bytes base64 = hg_bytes_str(secret + strlen(SECRET_PREFIX));
    bool is_signed = hg_base64_decode(&key, base64) && !key.failed &&
                     HMAC(EVP_sha256(), hg_writer_view(&key).p, (int)hg_writer_n(&key), text.p,
                          text.n, digest, &digest_n) != NULL;
    hg_writer_close(&key);
    if (is_signed) {
        hg_writer_str(out, "v1,");
        hg_base64_encode(out, hg_bytes(digest, digest_n));
    }
    return is_signed;
}

bool hg_webhook_sign(struct hg_writer *out, const char *const *secrets, size_t secrets_n,
                     struct hg_bytes id, uint64_t timestamp_s, struct hg_bytes body)
{
    struct hg_writer text = {0};
    hg_writer_bytes(&text, id);
    hg_writer_printf(&text, ".%llu.", (unsigned long long)timestamp_s);
    hg_writer_bytes(&text, body);
    bool is_signed = !text.failed;
    for (size_t i = 0; i < secrets_n && is_signed; i++) {
        hg_writer_str(out, i == 0 ? "" : " ");
        is_signed = sign(out, secrets[i], hg_writer_view(&text));
    }
    hg_writer_close(&text);
    return is_signed && !out->failed;
}

static bool is_plain(struct hg_bytes id)
{
    for (size_t i = 0; i < id.n; i++) {
        if (id.p[i] <= ' ' || id.p[i] > '~') {
            return false;
        }
    }
    return id.n > 0 && id.n < HG_WEBHOOK_ID_SIZE;
}

bool hg_webhook_id(struct hg_bytes message_id, char out[HG_WEBHOOK_ID_SIZE])
{
    static const char prefix[] = "msg_";
    if (is_plain(message_id)) {
        memcpy(out, message_id.p, message_id.n);
        out[message_id.n] = '\0';
        return true;
    }
    uint8_t digest[DIGEST_BYTES];
    uint64_t random[2] = {hg_random_u64(), hg_random_u64()};
    memcpy(out, prefix, sizeof(prefix));
    if (message_id.n > 0 &&
        EVP_Digest(message_id.p, message_id.n, digest, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    struct hg_bytes from =
        message_id.n > 0 ? hg_bytes(digest, ID_DIGEST_BYTES) : hg_bytes(random, sizeof(random));
    out[strlen(prefix) + hg_hex_write(out + strlen(prefix), from).n] = '\0';
    return true;
}
