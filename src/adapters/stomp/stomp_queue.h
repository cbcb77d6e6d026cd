/* SPDX-License-Identifier: Apache-2.0 */
/* What a frame's headers want of a queue: how it is declared, consumed and bound, by the names of
 * RabbitMQ's STOMP plugin. Every value is checked here, because some of them would make RabbitMQ end
 * the whole connection. */
#ifndef HG_STOMP_QUEUE_H
#define HG_STOMP_QUEUE_H

#include "adapters/stomp/stomp_codec.h"
#include "message/message.h"

enum { HG_STOMP_ARGUMENTS_MAX = 16 };

struct hg_stomp_arguments {
    struct hg_header items[HG_STOMP_ARGUMENTS_MAX]; /* borrow from the frame */
    size_t n;
};

enum hg_stomp_flag { HG_STOMP_UNSAID, HG_STOMP_FALSE, HG_STOMP_TRUE };

struct hg_stomp_queue {
    struct hg_stomp_arguments queue, consumer;
    struct hg_bytes name; /* x-queue-name; empty: none */
    uint32_t prefetch;
    uint8_t durable, auto_delete, exclusive; /* enum hg_stomp_flag */
    bool has_prefetch;
    bool is_stream; /* x-queue-type says so */
};

struct hg_stomp_misfit { /* a header that cannot be taken */
    const char *why;     /* static text: its name, and what was expected */
    struct hg_bytes value;
};

/* OK; BAD_PROPERTY with *misfit_out. In SEND `persistent` is the message's, and of the consumer there
 * is nothing. */
enum hg_status hg_stomp_queue_read(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                   struct hg_stomp_misfit *misfit_out);

/* With x-match: every header of SUBSCRIBE that means nothing else, as arguments of a binding, to be
 * freed with hg_free. Without: none. OK, BAD_PROPERTY as above, NO_MEMORY. */
enum hg_status hg_stomp_match_read(const struct hg_stomp_frame *frame, struct hg_header **own_out,
                                   size_t *n_out, struct hg_stomp_misfit *misfit_out);

/* UNSUBSCRIBE, too: durable:true, or persistent:true. */
bool hg_stomp_says_durable(const struct hg_stomp_frame *frame);

enum { HG_STOMP_QUEUE_NAME_BYTES = 19 + 22 };
/* The name by which the plugin knows the durable subscription `id` to `key`. */
struct hg_bytes hg_stomp_durable_name(struct hg_bytes key, struct hg_bytes id,
                                      char room[static HG_STOMP_QUEUE_NAME_BYTES]);

#endif
