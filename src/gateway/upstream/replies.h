/* SPDX-License-Identifier: Apache-2.0 */
/* Where replies to this worker's requests come: RabbitMQ's direct reply-to, consumed on one channel
 * of the publisher's link. RabbitMQ names the address that leads there when it sees a publish of the
 * same channel; with that name in reply_to a request may go out on any channel, so that none that
 * RabbitMQ refuses can close this one. */
#ifndef HG_UPSTREAM_REPLIES_H
#define HG_UPSTREAM_REPLIES_H

#include "amqp/amqp_channel.h"
#include "upstream/link.h"

struct hg_log;

struct hg_replies_ops {
    /* OK: the address is known, replies come. Else: it is not, or no longer, and replies to it are
     * lost. From the loop. */
    void (*on_state)(void *ctx, enum hg_status status, struct hg_bytes reason);
    /* Borrowed message. */
    void (*on_reply)(void *ctx, struct hg_message *message);
};

struct hg_replies {
    struct hg_link *link; /* borrowed */
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
    const struct hg_replies_ops *ops;
    void *ctx;
    struct hg_amqp_channel *channel; /* NULL: closed */
    uint64_t refused_until_ms;       /* RabbitMQ's no is believed for so long */
    enum hg_status refused_as;
    bool is_wanted;
    uint8_t address_n; /* 0: not known */
    uint8_t address[255];
};

/* Opens in place; nothing is asked of RabbitMQ before somebody wants it. */
void hg_replies_open(struct hg_replies *r, struct hg_link *link, struct hg_log *log,
                     struct hg_upstream_metrics *metrics, const struct hg_replies_ops *ops,
                     void *ctx);
/* OK: *address_out, borrowed, may be used until on_state says otherwise. HELD: on_state follows, once
 * the link is up. Else RabbitMQ refused a moment ago. */
enum hg_status hg_replies_address(struct hg_replies *r, struct hg_bytes *address_out);
/* The link is up: it is asked for again if it was ever wanted. */
void hg_replies_up(struct hg_replies *r);
/* The link is gone, and the channel with it. on_state comes from inside. */
void hg_replies_lost(struct hg_replies *r);
/* While the link is there; without events. */
void hg_replies_close(struct hg_replies *r);

#endif
