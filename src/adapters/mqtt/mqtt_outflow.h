/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of the deliveries to a client: which wait, which packet identifiers are in use and for
 * what, and which answer is owed to RabbitMQ. Pure bookkeeping: no socket, no timer, no callback.
 * Sections are those of MQTT 5.0.
 *
 * Deliveries leave in the order in which they came; each with QoS > 0 gets the lowest identifier
 * that is free, so that few are ever used. A delivery that came out of a queue carries a ticket,
 * which is given back by the client's PUBACK or PUBREC: from PUBREC on the message is the client's,
 * and what is left is between the two of them (section 4.3.3).
 *
 * Two things can come between. The client goes and comes again: its session goes on from a list, and
 * a message that RabbitMQ delivers again gets the identifier that it had, known by its fingerprint.
 * Or the link to RabbitMQ goes: what the client has already got is not sent to it again, but its
 * answer settles the new ticket. */
#ifndef HG_MQTT_OUTFLOW_H
#define HG_MQTT_OUTFLOW_H

#include "adapters/mqtt/mqtt_codec.h"
#include "base/buf.h"
#include "base/status.h"
#include "core/session_record.h"
#include "upstream/ticket.h"

struct hg_queue; /* only told apart here */

/* A delivery that waits, or is sent now. */
struct hg_mqtt_out_item {
    struct hg_buf *packet;  /* the PUBLISH that subscribers share: mqtt_share.h */
    struct hg_buf *own;     /* properties of this copy alone; NULL: none */
    struct hg_queue *queue; /* where it came from; NULL: nobody waits for an answer */
    struct hg_ticket ticket;
    uint64_t fingerprint;     /* of its message, where it came from a queue */
    uint64_t expires_ms;      /* hg_clock_ms; UINT64_MAX: never */
    uint32_t subscription_id; /* 0: none, or in `own` */
    uint16_t packet_id;       /* from hg_mqtt_out_meet; 0: a new one */
    uint8_t qos;              /* 0 only for what came out of a queue */
    bool is_dup, is_retained;
};

struct hg_mqtt_out_slot; /* of a packet identifier */

struct hg_mqtt_out {                /* zero-initialise to start */
    struct hg_mqtt_out_item *items; /* ring of those that wait */
    uint32_t items_cap;             /* 0 or a power of two */
    uint32_t at, items_n;           /* place of the oldest; how many */
    uint32_t fed_n;                 /* of these, not out of a queue */
    size_t fed_bytes;               /* of their packets */
    struct hg_mqtt_out_slot *slots; /* by identifier, less one */
    uint32_t slots_cap;
    uint32_t lowest; /* no slot before this one is free */
    uint32_t used_n; /* slots that are not free */
    uint32_t sent_n; /* of these, waiting for the client */
    uint32_t clearing_n;
    uint32_t doubtful_n;
    uint32_t awaited_n; /* slots and `answered` that a redelivery would match */
    uint32_t next_order;
    bool is_unclean; /* an identifier without a slot may be one that the client remembers */
    struct hg_mqtt_out_answered *answered; /* settled by the client while its ticket was stale */
    uint32_t answered_n, answered_cap;
};

struct hg_mqtt_out_limits {
    uint32_t inflight_max; /* deliveries with QoS > 0 that the client has not answered to the end */
    uint32_t queued_max;   /* that wait and are out of no queue */
};

/* Gives back every reference. */
void hg_mqtt_out_close(struct hg_mqtt_out *out);

/* Adds a delivery, taking references of its own. OK; TOO_MANY (as many wait as may); NO_MEMORY. */
enum hg_status hg_mqtt_out_push(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                                const struct hg_mqtt_out_item *item);
/* Whether a delivery pushed now would not wait behind others or for an answer. */
bool hg_mqtt_out_is_open(const struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits);

enum hg_mqtt_out_step {
    HG_MQTT_OUT_IDLE,    /* nothing may go out now */
    HG_MQTT_OUT_SEND,    /* *item_own, with *packet_id (0: QoS 0) */
    HG_MQTT_OUT_EXPIRED, /* *item_own is over before it could be sent: settle it */
    HG_MQTT_OUT_CLEAR,   /* send PUBREL for *packet_id: the client may still remember it */
    HG_MQTT_OUT_FAILED   /* no memory; nothing has changed */
};
/* What may go out next; call again until IDLE. The item's references become the caller's, who
 * settles a QoS 0 item out of a queue once it is sent. has_room: without it no QoS 0 goes out. */
enum hg_mqtt_out_step hg_mqtt_out_next(struct hg_mqtt_out *out,
                                       const struct hg_mqtt_out_limits *limits, uint64_t now_ms,
                                       bool has_room, struct hg_mqtt_out_item *item_own,
                                       uint16_t *packet_id_out);

enum hg_mqtt_out_answer {
    HG_MQTT_OUT_SETTLED, /* taken */
    HG_MQTT_OUT_RELEASE, /* taken; the answer is PUBREL */
    HG_MQTT_OUT_UNKNOWN, /* nothing is in flight under this identifier */
    HG_MQTT_OUT_WRONG    /* not what this delivery is answered with: a protocol error */
};
/* The client's PUBACK, PUBREC or PUBCOMP; is_refused: with a reason of 0x80 or more, which ends the
 * delivery. *queue_out (NULL: none) gets *ticket_out acknowledged, whatever is returned. */
enum hg_mqtt_out_answer hg_mqtt_out_hear(struct hg_mqtt_out *out, enum hg_mqtt_type type,
                                         uint16_t packet_id, bool is_refused,
                                         struct hg_queue **queue_out, struct hg_ticket *ticket_out);

/* ---- A session that goes on, a link that was lost ---- */

/* What was in flight when the client went, out of `queue`: nothing is in the ledger yet. The released
 * ones wait for PUBCOMP from now on: the caller sends PUBREL for each that has an identifier (0: the
 * message will come again, and the client has answered it already). OK, NO_MEMORY. */
enum hg_status hg_mqtt_out_resume(struct hg_mqtt_out *out, struct hg_queue *queue,
                                  const struct hg_session_tx *tx, size_t n, bool is_unclean);
/* What has to be remembered when the client goes: deliveries out of `queue`, and identifiers up to
 * id_max that the client may hold (0: it takes no QoS 2, and holds none that it was not seen to); in
 * an array of hg_alloc (NULL where there are none). False: no memory. */
bool hg_mqtt_out_list(const struct hg_mqtt_out *out, const struct hg_queue *queue, uint16_t id_max,
                      struct hg_session_tx **out_own, size_t *n_out);

enum hg_mqtt_out_met {
    HG_MQTT_OUT_NEW,     /* a delivery like any other */
    HG_MQTT_OUT_AGAIN,   /* to be sent again: item->packet_id is set */
    HG_MQTT_OUT_HAS,     /* the client has it and will answer: nothing is to be done */
    HG_MQTT_OUT_ANSWERED /* the client has answered it already: settle it */
};
/* A delivery with QoS > 0 has come out of a queue. item->is_dup is set: RabbitMQ delivers again also
 * what was on its way to us, or to another client of a group. */
enum hg_mqtt_out_met hg_mqtt_out_meet(struct hg_mqtt_out *out, struct hg_mqtt_out_item *item,
                                      bool is_redelivered);
/* Tickets of this queue are stale: what they stood for will come again. */
void hg_mqtt_out_stale(struct hg_mqtt_out *out, const struct hg_queue *queue);
/* The queue is consumed no more: what waits goes, what is in flight is answered to nobody. */
void hg_mqtt_out_forget(struct hg_mqtt_out *out, const struct hg_queue *queue);

#endif
