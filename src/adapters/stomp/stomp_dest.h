/* SPDX-License-Identifier: Apache-2.0 */
/* Where a STOMP destination leads: to RabbitMQ's own names as its STOMP plugin has them, or through
 * the rules. */
#ifndef HG_STOMP_DEST_H
#define HG_STOMP_DEST_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum { HG_STOMP_NAME_MAX = 255 }; /* of an exchange, a queue, a routing key (AMQP 0-9-1 shortstr) */

enum hg_stomp_dest_kind {
    HG_STOMP_DEST_ADDRESS,    /* through the rules */
    HG_STOMP_DEST_EXCHANGE,   /* /exchange/NAME[/KEY], /topic/KEY */
    HG_STOMP_DEST_QUEUE,      /* /queue/NAME, and NAME: declared by whoever names it */
    HG_STOMP_DEST_AMQ_QUEUE,  /* /amq/queue/NAME: must exist */
    HG_STOMP_DEST_REPLY_QUEUE /* /reply-queue/NAME: where answers go; nobody subscribes to it */
};

struct hg_stomp_dest {
    enum hg_stomp_dest_kind kind;
    struct hg_bytes address; /* ADDRESS only; borrows from the destination */
    struct hg_bytes
        exchange;        /* of the others; "" is the default exchange, whose keys name queues */
    struct hg_bytes key; /* routing key, binding key, or queue */
    uint8_t text[2][HG_STOMP_NAME_MAX];
};

/* topic_exchange: of /topic; NULL: every destination is an address. OK; BAD_ADDRESS or KEY_TOO_LONG
 * with *why_out, static text. Fills *out, whose slices point into itself: do not copy it. */
enum hg_status hg_stomp_dest_parse(struct hg_bytes destination, const char *topic_exchange,
                                   struct hg_stomp_dest *out, const char **why_out);

/* The address as a filter: STOMP's `*` for one level becomes `+`. */
void hg_stomp_dest_write_filter(struct hg_writer *w, struct hg_bytes address);

enum { HG_STOMP_DEST_MAX_BYTES = 10 + 3 * HG_STOMP_NAME_MAX + 1 + 3 * HG_STOMP_NAME_MAX };
/* The destination of a message by its exchange and key, as the plugin names it; lies in room. */
struct hg_bytes hg_stomp_dest_of(struct hg_bytes exchange, struct hg_bytes key,
                                 uint8_t room[static HG_STOMP_DEST_MAX_BYTES]);

#endif
