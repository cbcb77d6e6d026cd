/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on their way to a site: from RabbitMQ's delivery until the site has acknowledged it and
 * RabbitMQ has been told. A pure ledger, as large as the queue's prefetch; it also recognises what
 * RabbitMQ delivers again after a lost link, so that the site does not get it twice: what is under
 * way, and what was done, but whose acknowledgement may have been lost with the link. */
#ifndef HG_BRIDGE_OUTBOX_H
#define HG_BRIDGE_OUTBOX_H

#include "base/list.h"
#include "base/status.h"
#include "message/message.h"
#include "upstream/ticket.h"

enum hg_bridge_letter_state {
    HG_BRIDGE_WAITING, /* for the site to be connected */
    HG_BRIDGE_SENT,    /* the MQTT library has it and sends it until it is acknowledged */
    HG_BRIDGE_DONE     /* the site has it; RabbitMQ may not have heard of it */
};

struct hg_bridge_letter {
    struct hg_list link;
    struct hg_message *message; /* WAITING: a reference */
    char *topic;                /* WAITING: at the site */
    struct hg_ticket ticket;
    uint64_t print;
    uint16_t mid; /* SENT: the library's number */
    uint8_t qos;  /* at the site */
    uint8_t state;
    bool is_stale; /* the ticket is of a lost link */
};

struct hg_bridge_outbox {
    struct hg_list letters; /* oldest first */
    struct hg_list done;    /* the latest, as many as RabbitMQ may have without an answer */
    size_t cap, sent_n, done_n;
    uint64_t seed[2];
};

/* cap: the queue's prefetch. */
void hg_bridge_outbox_open(struct hg_bridge_outbox *o, size_t cap);
/* Drops everything; those that wait lose their messages' references. */
void hg_bridge_outbox_close(struct hg_bridge_outbox *o);

/* A delivery came that is to go out as `topic`. OK: it waits to be sent; HELD: it does so already, or the library has it, and
 * that goes on under the new ticket; STALE: the site has it already, so acknowledge the ticket; NO_MEMORY. */
enum hg_status hg_bridge_outbox_take(struct hg_bridge_outbox *o, struct hg_message *m,
                                     struct hg_ticket ticket, bool is_redelivered,
                                     struct hg_bytes topic, uint8_t qos);
/* The oldest that waits, NULL: none does. */
struct hg_bridge_letter *hg_bridge_outbox_next(struct hg_bridge_outbox *o);
void hg_bridge_outbox_sent(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter,
                           uint16_t mid);
/* The one that was sent under this number, NULL: none was. */
struct hg_bridge_letter *hg_bridge_outbox_find(struct hg_bridge_outbox *o, uint16_t mid);
/* It is over, and RabbitMQ has been told: which it may not hear, so the letter is remembered. */
void hg_bridge_outbox_end(struct hg_bridge_outbox *o, struct hg_bridge_letter *letter);
/* RabbitMQ's link is a new one: it delivers again, before all else, what it has no answer to. What
 * waits is not sent until then. */
void hg_bridge_outbox_relinked(struct hg_bridge_outbox *o);

#endif
