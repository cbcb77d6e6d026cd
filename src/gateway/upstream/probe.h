/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to RabbitMQ that change nothing in it: whether things are there and are what they should
 * be, and what the user may do. Permissions are asked for by requests that RabbitMQ must refuse for
 * another reason once it has looked at the permission. */
#ifndef HG_UPSTREAM_PROBE_H
#define HG_UPSTREAM_PROBE_H

#include "upstream/topology.h"

enum hg_probe_kind {
    HG_PROBE_EXCHANGE_THERE,     /* `name` */
    HG_PROBE_EXCHANGE_SAME,      /* `exchange`, which must be there: as declared */
    HG_PROBE_QUEUE_THERE,        /* `name` */
    HG_PROBE_QUEUE_SAME,         /* `queue`, which must be there */
    HG_PROBE_QUEUE_MADE,         /* `queue` is declared … */
    HG_PROBE_QUEUE_GONE,         /* … and `name` deleted; fine where it never was */
    HG_PROBE_CONFIGURE_EXCHANGE, /* `name` */
    HG_PROBE_WRITE_EXCHANGE,     /* `name`, `key`; "" is the default exchange */
    HG_PROBE_READ_EXCHANGE,      /* `name`, `key` of a binding */
    HG_PROBE_CONFIGURE_QUEUE,    /* `name` */
    HG_PROBE_WRITE_QUEUE,        /* bind it */
    HG_PROBE_READ_QUEUE,         /* consume it */
    HG_PROBE_BODY                /* whether a message may be of `body_bytes` */
};

enum { HG_PROBE_TEXT_MAX = 256 };

struct hg_probe {
    enum hg_probe_kind kind;
    bool only_if_fine; /* is skipped unless the one before it was fine */
    const char *name, *key;
    const struct hg_exchange_decl *exchange;
    const struct hg_queue_decl *queue;
    uint64_t body_bytes;
    /* -- the answer */
    enum { HG_PROBE_UNASKED, HG_PROBE_SKIPPED, HG_PROBE_FINE, HG_PROBE_REFUSED } outcome;
    uint16_t code; /* RabbitMQ's; 0 where there was no answer in time */
    char text[HG_PROBE_TEXT_MAX];
};

struct hg_probe_server { /* what the connection showed */
    bool is_connected;
    bool is_blocked; /* by an alarm: messages are not taken, nor questions that are messages */
    enum hg_status status; /* why it is not connected, with `text`; or why it broke, `text` empty
                            * where it did not */
    char text[HG_PROBE_TEXT_MAX], version[64];
    uint32_t frame_max_bytes;
    uint16_t channel_max, heartbeat_s;
};

/* One attempt at config's only endpoint, and the questions in turn, on a loop of its own. False when
 * there is no memory. */
bool hg_probe_run(const struct hg_link_config *config, struct hg_probe *probes, size_t n,
                  struct hg_probe_server *server_out);

#endif
