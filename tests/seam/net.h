/* SPDX-License-Identifier: Apache-2.0 */
/* The network seam: hg_tcp_connect leads to a scripted broker (seam/broker.h) instead of a socket,
 * and the test turns the loop. */
#ifndef HG_SEAM_NET_H
#define HG_SEAM_NET_H

#include "seam/broker.h"
#include "stream/net.h"

enum { SEAM_LINKS_MAX = 32, SEAM_NETS_MAX = 4 };

/* One connection attempt and, once open, the broker at its other end. */
struct seam_link {
    struct hg_stream stream;
    struct broker broker;
    bool is_open, is_reading, is_closed; /* is_closed: on_closed has been or will be called */
    bool is_told;                        /* on_closed has been called */
    bool is_awaited;                     /* on_drained is due */
    bool is_stalled;                     /* the broker does not read; set by seam_net_stall */
    struct hg_writer pending;            /* what it has not read */
    enum hg_status why;
};

struct seam_net {
    struct hg_net net;
    struct hg_wheel wheel;
    struct hg_net *others[SEAM_NETS_MAX]; /* that turn and pass time along with `net` */
    size_t others_n;
    struct seam_link *links[SEAM_LINKS_MAX]; /* all since the start, oldest first */
    size_t links_n;
    size_t chunk_n;                    /* bytes handed to on_read at once; 0: all */
    bool is_refusing;                  /* attempts fail */
    void (*prepare)(struct broker *b); /* sets up each new broker; may be NULL */
};

/* One at a time. */
void seam_net_open(struct seam_net *sn);
/* One more net, somebody else's, for tests with several workers. Its wheel is set and open. */
void seam_net_adopt(struct seam_net *sn, struct hg_net *net);
void seam_net_close(struct seam_net *sn);
/* Turns the loop until nothing happens any more. */
void seam_net_run(struct seam_net *sn);
/* Lets time pass, in steps of the wheel, running the loop in each. */
void seam_net_pass(struct seam_net *sn, uint64_t ms);
/* The newest link that is open; NULL if none is. */
struct seam_link *seam_net_last(struct seam_net *sn);
/* The broker stops reading, or goes on with what waits. */
void seam_net_stall(struct seam_net *sn, struct seam_link *link, bool is_stalled);
/* Breaks the connection. */
void seam_net_cut(struct seam_net *sn, struct seam_link *link);

#endif
