/* SPDX-License-Identifier: Apache-2.0 */
/* Ledgers of one session's acknowledged flows, both ways. Pure bookkeeping: no socket, no timer, no
 * callback. */
#ifndef HG_MQTT_FLOW_H
#define HG_MQTT_FLOW_H

#include "base/buf.h"

/* ---- In: publishes of the client with QoS 1 and 2 (sections 4.3.2, 4.3.3) ----
 * Acknowledgements go out in the order in which the publishes came [MQTT-4.6.0-2, MQTT-4.6.0-3], whatever order RabbitMQ
 * confirms them in. */

enum hg_mqtt_in_state {
    HG_MQTT_IN_WAITING,  /* for its outcome */
    HG_MQTT_IN_ACK,      /* to be acknowledged when it is the oldest */
    HG_MQTT_IN_WITHHOLD, /* to be passed over in silence */
};

struct hg_mqtt_in_entry {
    uint16_t packet_id;
    uint8_t qos;
    uint8_t state;     /* enum hg_mqtt_in_state */
    uint8_t on_reject; /* enum hg_on_reject of the rule that took it */
};

struct hg_mqtt_in {
    struct hg_mqtt_in_entry *entries; /* ring */
    uint32_t cap;                     /* 0 or a power of two */
    uint32_t first, next;             /* sequence numbers: oldest, and of the next push */
    /* packet identifiers of QoS 2 publishes that were answered PUBREC, PUBREL to come */
    uint16_t *received;
    uint32_t received_n, received_cap;
};

enum { HG_MQTT_RECEIVED_MAX = 4096 };

void hg_mqtt_in_close(struct hg_mqtt_in *in);
/* Room for one more push; false when there is no memory. */
bool hg_mqtt_in_reserve(struct hg_mqtt_in *in);
/* Notes a publish under way and returns its sequence number; hg_mqtt_in_reserve said yes before. */
uint32_t hg_mqtt_in_push(struct hg_mqtt_in *in, uint16_t packet_id, uint8_t qos, uint8_t on_reject);
/* NULL if it is not under way (any more). */
struct hg_mqtt_in_entry *hg_mqtt_in_find(struct hg_mqtt_in *in, uint32_t seq);
/* Whether a publish with this packet identifier is under way: then a repeat is not published
 * again. */
bool hg_mqtt_in_has(const struct hg_mqtt_in *in, uint16_t packet_id);
/* Takes the oldest if it is settled; false if it is not, or there is none. */
bool hg_mqtt_in_pop(struct hg_mqtt_in *in, struct hg_mqtt_in_entry *out);
bool hg_mqtt_in_is_empty(const struct hg_mqtt_in *in);

/* QoS 2: remembered from PUBREC until PUBREL, so that a repeat is answered and not published.
 * False: no memory, or more than HG_MQTT_RECEIVED_MAX. */
bool hg_mqtt_in_remember(struct hg_mqtt_in *in, uint16_t packet_id);
bool hg_mqtt_in_remembers(const struct hg_mqtt_in *in, uint16_t packet_id);
void hg_mqtt_in_release(struct hg_mqtt_in *in, uint16_t packet_id);

/* ---- Out: deliveries to the client with QoS 1 (section 4.3.2) ----
 * At most `inflight_max` unacknowledged; what comes meanwhile waits in order, at most `queued_max`. */

struct hg_mqtt_out_item {
    struct hg_buf *packet; /* the QoS 0 PUBLISH that everybody shares; a reference */
    bool is_dup;
};

struct hg_mqtt_out {
    uint16_t *inflight; /* packet identifiers in use, in order of sending */
    uint32_t inflight_n, inflight_cap;
    struct hg_mqtt_out_item *queue; /* ring */
    uint32_t queue_cap, queue_first, queue_n;
    uint16_t last_id;
};

enum hg_mqtt_out_verdict {
    HG_MQTT_OUT_SEND,
    HG_MQTT_OUT_QUEUED,
    HG_MQTT_OUT_FULL,
    HG_MQTT_OUT_NO_MEMORY
};

/* Gives back every reference. */
void hg_mqtt_out_close(struct hg_mqtt_out *out);
/* SEND: *packet_id_out is its identifier, send it now; QUEUED: a reference of its own was taken,
 * hg_mqtt_out_next hands it out later; FULL. */
enum hg_mqtt_out_verdict hg_mqtt_out_offer(struct hg_mqtt_out *out,
                                           const struct hg_mqtt_out_item *item,
                                           uint32_t inflight_max, uint32_t queued_max,
                                           uint16_t *packet_id_out);
/* PUBACK. False if the identifier is not in use. */
bool hg_mqtt_out_ack(struct hg_mqtt_out *out, uint16_t packet_id);
/* The next that may be sent now; its reference becomes the caller's. False if none. */
bool hg_mqtt_out_next(struct hg_mqtt_out *out, uint32_t inflight_max,
                      struct hg_mqtt_out_item *item_out, uint16_t *packet_id_out);

#endif
