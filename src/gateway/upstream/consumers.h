/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that clients name, and queues of a subscriber's own: declared, bound and consumed on
 * connections apart from publishing and from the feed, since a client's words can end a whole
 * connection. A consumer has a channel of its own, so that what RabbitMQ refuses to one disturbs no
 * other; connections are added as channels run out. */
#ifndef HG_UPSTREAM_CONSUMERS_H
#define HG_UPSTREAM_CONSUMERS_H

#include "amqp/amqp_channel.h"
#include "upstream/link.h"

struct hg_upstream_metrics;

struct hg_consumers_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    uint64_t boot_id;
    uint64_t expires_ms; /* x-expires of a subscriber's own queue */
    uint64_t max_bytes;  /* x-max-length-bytes of it */
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

struct hg_consumers {
    struct hg_net *net;
    struct hg_consumers_config config;
    struct hg_list links; /* struct consumer_link; the first is opened when somebody needs it */
    unsigned links_n;
    uint64_t own_n; /* numbers the subscribers' own queues */
};

struct hg_consumer;

struct hg_consumer_ops {
    /* OK: consuming (or, for a mere declaration, declared, and the handle is invalid). Else it has
     * ended, now or after it was live, and the handle is invalid: NO_QUEUE, NO_EXCHANGE,
     * NOT_ALLOWED, REFUSED, … with RabbitMQ's reason. From the loop. Told again with OK after a
     * reconnect. */
    void (*on_state)(void *ctx, enum hg_status status, struct hg_bytes reason);
    /* Borrowed message. It is acknowledged after this returned and may_ack agrees. */
    void (*on_delivery)(void *ctx, struct hg_message *message, bool is_redelivered);
    /* False while the receiver is behind; asked again until it agrees. At most the prefetch is
     * outstanding meanwhile. */
    bool (*may_ack)(void *ctx);
};

struct hg_consumer_spec {  /* copied */
    struct hg_bytes queue; /* empty: a queue of the subscriber's own, deleted at the end */
    const struct hg_amqp_queue_declare
        *declare;                  /* declare `queue` like this first; NULL: it must exist */
    struct hg_bytes exchange, key; /* for a queue of one's own: what to bind it to */
    bool is_declare_only;          /* end after the declaration */
};

void hg_consumers_open(struct hg_consumers *c, struct hg_net *net,
                       const struct hg_consumers_config *config);
/* Closes the links politely; see hg_consumers_are_stopped. */
void hg_consumers_stop(struct hg_consumers *c);
bool hg_consumers_are_stopped(const struct hg_consumers *c);
/* Frees everything; nobody is told. */
void hg_consumers_close(struct hg_consumers *c);

/* NULL when there is no memory. */
struct hg_consumer *hg_consumer_open(struct hg_consumers *c, const struct hg_consumer_spec *spec,
                                     const struct hg_consumer_ops *ops, void *ctx);
/* Stops consuming; what was not acknowledged is requeued. Nothing is told any more. NULL is
 * fine. */
void hg_consumer_close(struct hg_consumer *consumer);

#endif
