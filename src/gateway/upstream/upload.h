/* SPDX-License-Identifier: Apache-2.0 */
/* Publishes whose bodies go to RabbitMQ while they still arrive, so that a large one costs a window
 * of memory and not its size. RabbitMQ takes nothing between the frames of a body, not even the
 * channel's end, without closing the whole connection; so each upload has a connection to itself,
 * kept for the next one, and one that is given up half-way costs no other publish anything. */
#ifndef HG_UPSTREAM_UPLOAD_H
#define HG_UPSTREAM_UPLOAD_H

#include "upstream/publisher.h"

struct hg_upload;

struct hg_uploads_config {
    struct hg_link_config link;
    const char *instance;
    unsigned worker;
    uint32_t most_n; /* uploads at once, and so connections; opened when they are needed */
    struct hg_upstream_metrics *metrics;
};

struct hg_uploads {
    struct hg_net *net;
    struct hg_uploads_config config;
    struct hg_upload *slots; /* most_n, each with its connection */
    size_t open_n;           /* of them that have been used */
    size_t busy_n;
};

struct hg_upload_order {
    struct hg_message **message_own; /* all but the body; consumed whatever is returned */
    uint64_t body_bytes;             /* to come; at least 1 */
    void *owner;
    uint64_t id;
    /* Pieces may be written: the exchange is there, or there is room again. From the loop. */
    void (*on_room)(void *owner, uint64_t id);
    /* The one outcome, as hg_publisher_ops.on_settled; BROKER_AWAY where the body was not whole:
     * then RabbitMQ has no message. From the loop, or from inside hg_upload_write; the handle is
     * invalid then. */
    void (*on_settled)(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
    uint64_t
        timeout_ms; /* for RabbitMQ to be ready, to make room, and to confirm: each by itself */
};

/* False when there is no memory. */
bool hg_uploads_open(struct hg_uploads *u, struct hg_net *net,
                     const struct hg_uploads_config *config);
/* Closes the connections politely. */
void hg_uploads_stop(struct hg_uploads *u);
bool hg_uploads_are_stopped(const struct hg_uploads *u);
/* Closes and frees everything; uploads under way get no outcome any more. */
void hg_uploads_close(struct hg_uploads *u);

/* OK: write nothing before on_room. Else refused: BUSY (most_n are under way), NO_MEMORY. */
enum hg_status hg_upload_begin(struct hg_uploads *u, const struct hg_upload_order *order,
                               struct hg_upload **upload_out);
/* The next bytes of the body, never more than are missing. False: wait for on_room before the next
 * (or it has its outcome, or is whole). */
bool hg_upload_write(struct hg_upload *up, struct hg_bytes piece);
/* The owner is gone. A body that is not whole never becomes a message; one that is goes on, and
 * nobody is told. */
void hg_upload_forget(struct hg_upload *up);

#endif
