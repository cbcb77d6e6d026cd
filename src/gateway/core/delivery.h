/* SPDX-License-Identifier: Apache-2.0 */
/* One message on its way to many subscribers, and what is made for one of them and used for the
 * next. */
#ifndef HG_CORE_DELIVERY_H
#define HG_CORE_DELIVERY_H

#include "message/message.h"
#include "rules/rules.h"
#include "stream/joint.h"
#include "upstream/ticket.h"

struct hg_queue;
struct hg_session;

enum { HG_DELIVERY_CACHES = 8 };
struct hg_delivery {
    struct hg_message *message; /* borrowed: take a reference to keep it */
    /* in the session's protocol; empty for subscriptions made with hg_subscribe_source */
    struct hg_bytes address;
    const struct hg_rule_spec *rule; /* that maps a live message back; NULL: none is known */
    /* from a queue that the subscriber consumes: not dropped for a full connection */
    bool must_keep;
    /* QoS 0 and ack:auto are not shown these; the gateway takes care of that */
    bool is_redelivered;
    bool is_retained; /* kept from before, and served because of a new subscription */
    /* Not NULL: from a queue of the session's own, to be answered with hg_queue_ack or _nack. */
    struct hg_queue *queue;
    struct hg_ticket ticket;
    /* Encodings made for one subscriber and used for the next: an adapter stores a buffer under a
     * slot of its own choosing (slots are per protocol), the gateway drops the reference when the
     * delivery is over. */
    struct hg_buf *cache[HG_DELIVERY_CACHES];
    struct hg_part joint[HG_DELIVERY_CACHES]; /* hg_delivery_join; likewise */
    uint64_t at_ms;                           /* hg_delivery_ms; 0: nobody has asked */
};

/* `bytes`, which subscribers get alike, beside those that came under this slot earlier in the turn;
 * under the slot from now on, where there must be none yet. What it returns is sent as the only part. NULL: too large, or no
 * memory: send what you have. */
const struct hg_part *hg_delivery_join(struct hg_delivery *d, const struct hg_session *s,
                                       unsigned slot, struct hg_bytes bytes);
/* hg_clock_ms, read once for all of its subscribers. */
uint64_t hg_delivery_ms(struct hg_delivery *d);
/* Drops what was made for it. */
void hg_delivery_end(struct hg_delivery *d);

#endif
