/* SPDX-License-Identifier: Apache-2.0 */
/* A SEND frame's headers as AMQP properties, and a message's properties as headers of MESSAGE, by
 * the names that RabbitMQ's STOMP plugin uses. */
#ifndef HG_STOMP_MESSAGE_H
#define HG_STOMP_MESSAGE_H

#include "adapters/stomp/stomp_codec.h"
#include "message/message.h"

struct hg_stomp_properties {
    struct hg_properties amqp; /* borrows from the frame and from headers_own */
    struct hg_header *headers_own;
};

/* OK, or NO_MEMORY, BAD_PROPERTY, PROTOCOL_ERROR with *why_out, static text. Close *out in every
 * case. Lengths and whatever else RabbitMQ is particular about is for hg_publish to check. */
enum hg_status hg_stomp_properties_read(const struct hg_stomp_frame *send,
                                        struct hg_stomp_properties *out, const char **why_out);
void hg_stomp_properties_close(struct hg_stomp_properties *p);

/* The rest of a MESSAGE frame: a header for each property, then content-length and body. */
void hg_stomp_message_write(struct hg_writer *w, enum hg_stomp_version version,
                            const struct hg_message *m);

#endif
