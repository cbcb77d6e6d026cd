/* SPDX-License-Identifier: Apache-2.0 */
/* Seats for consumers: each has a channel of its own on a connection apart from publishing and from
 * the feed, so that what RabbitMQ refuses to one disturbs no other (a client's words can end a
 * whole connection). Connections are added as channels run out; the bindings of all queues that are
 * consumed on one share a further channel. */
#ifndef HG_UPSTREAM_SEATS_H
#define HG_UPSTREAM_SEATS_H

#include "amqp/amqp_channel.h"
#include "upstream/bindings.h"
#include "upstream/link.h"

struct hg_seat;

struct hg_seats_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

struct hg_seats {
    struct hg_net *net;
    struct hg_seats_config config;
    struct hg_list links; /* struct hg_seat_link; the first is opened when somebody needs it */
    unsigned links_n;
};

struct hg_seat_link { /* a connection */
    struct hg_link link;
    struct hg_list all_link; /* in hg_seats.links */
    struct hg_list seats;
    unsigned seats_n;
    struct hg_binder binder;
};

struct hg_seat_ops {
    /* The seat has no channel, and one can be opened: just taken, asked for, or the link is up
     * again. From the loop. */
    void (*start)(struct hg_seat *seat);
    /* The channel is gone with its connection; start follows. */
    void (*lost)(struct hg_seat *seat);
    /* hg_seats_close: leaves and frees its owner, telling nobody. */
    void (*abandon)(struct hg_seat *seat);
};

struct hg_seat { /* inside its owner */
    struct hg_list link;
    struct hg_seats *of;
    struct hg_seat_link *home;
    const struct hg_seat_ops *ops;
    struct hg_amqp_channel *channel; /* the owner's; NULL: closed */
    struct hg_defer first;
};

void hg_seats_open(struct hg_seats *s, struct hg_net *net, const struct hg_seats_config *config);
/* Closes the links politely; see hg_seats_are_stopped. */
void hg_seats_stop(struct hg_seats *s);
bool hg_seats_are_stopped(const struct hg_seats *s);
/* Closes and frees everything. */
void hg_seats_close(struct hg_seats *s);

/* False when there is no memory. ops->start follows. */
bool hg_seat_take(struct hg_seat *seat, struct hg_seats *of, const struct hg_seat_ops *ops);
/* ops->start follows, from the loop, if the link is up. */
void hg_seat_start(struct hg_seat *seat);
/* Its channel is closed or the owner's business. */
void hg_seat_leave(struct hg_seat *seat);

#endif
