/* SPDX-License-Identifier: Apache-2.0 */
/* How long a message is still of use: its `expiration`, counted down from when it was published. */
#ifndef HG_MESSAGE_EXPIRY_H
#define HG_MESSAGE_EXPIRY_H

#include "message/message.h"

#define HG_EXPIRY_NONE UINT64_MAX

/* Milliseconds that are left at now_ms (since 1970); HG_EXPIRY_NONE: it does not expire; 0: it has.
 * Published at header x-headgate-ms (since 1970), or, without it, at its timestamp (whole seconds,
 * taken as their end); without either the full value is left. An expiration that is no number is
 * none; one of 0 counts as 1: RabbitMQ gives such a message to those who wait for it. */
uint64_t hg_message_expiry_left_ms(const struct hg_message *m, uint64_t now_ms);

#endif
