/* SPDX-License-Identifier: Apache-2.0 */
/* The arguments with which a frame to /queue/NAME wants the queue declared, by the headers of
 * RabbitMQ's STOMP plugin. */
#ifndef HG_STOMP_QUEUE_H
#define HG_STOMP_QUEUE_H

#include "adapters/stomp/stomp_codec.h"
#include "message/message.h"

enum { HG_STOMP_QUEUE_ARGUMENTS_MAX = 11 };

struct hg_stomp_queue {
    struct hg_header arguments[HG_STOMP_QUEUE_ARGUMENTS_MAX]; /* borrow from the frame */
    size_t arguments_n;
};

/* OK, or BAD_PROPERTY with *why_out, static text. */
enum hg_status hg_stomp_queue_read(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                   const char **why_out);

#endif
