/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as the Standard Webhooks specification has them: HMAC-SHA256 over id, timestamp and
 * body, `v1`. */
#ifndef HG_WEBHOOK_SIGN_H
#define HG_WEBHOOK_SIGN_H

#include "base/buf.h"

/* Appends "v1,BASE64", one for each secret, with blanks between; `secrets` are "whsec_" and base64,
 * checked by the configuration. False when there is no memory. */
bool hg_webhook_sign(struct hg_writer *out, const char *const *secrets, size_t secrets_n,
                     struct hg_bytes id, uint64_t timestamp_s, struct hg_bytes body);

/* The webhook-id of a message. Its message_id where that fits into a header (a hash of it where it
 * does not), so that it is the same whenever RabbitMQ delivers the message; without one a random
 * one. */
enum { HG_WEBHOOK_ID_SIZE = 256 };
bool hg_webhook_id(struct hg_bytes message_id, char out[HG_WEBHOOK_ID_SIZE]);

#endif
