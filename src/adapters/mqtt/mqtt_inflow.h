/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of a client's publishes with QoS 1 and 2: packet identifiers and what each of them
 * waits for. Pure bookkeeping: no socket, no timer, no callback. Sections are those of MQTT
 * 3.1.1. */
#ifndef HG_MQTT_INFLOW_H
#define HG_MQTT_INFLOW_H

#include "base/buf.h"
#include "base/status.h"
#include "message/message.h"

/* ---- In: the client's publishes with QoS 1 and 2 (sections 4.3.2, 4.3.3) ----------------------------------------------
 * Acknowledgements go out in the order in which the publishes came [MQTT-4.6.0-2, -3], whatever order RabbitMQ confirms them
 * in. */

enum hg_mqtt_in_state {
    HG_MQTT_IN_WAITING, /* for its outcome */
    HG_MQTT_IN_ACK,     /* to be acknowledged when it is the oldest */
    HG_MQTT_IN_WITHHOLD /* to be passed over in silence */
};

struct hg_mqtt_in_entry {
    uint16_t packet_id;
    uint8_t qos;
    uint8_t state;           /* enum hg_mqtt_in_state */
    uint8_t on_reject;       /* enum hg_on_reject of the rule that took it */
    uint8_t reason;          /* of its acknowledgement, 5.0 */
    bool is_parked;          /* it was rejected, and waits for another place to take it */
    struct hg_buf *text_own; /* for people, goes with the reason; NULL: none */
    /* Kept where the rule parks what RabbitMQ rejects; NULL: nothing is. */
    struct hg_message *spare_own;
};

/* What an identifier is in use for. */
enum hg_mqtt_use {
    HG_MQTT_FREE,
    HG_MQTT_UNDER_WAY, /* its publish is in the ring */
    HG_MQTT_RECEIVED   /* QoS 2: answered with PUBREC, PUBREL is to come */
};

struct hg_mqtt_in {                   /* zero-initialise to start */
    struct hg_mqtt_in_entry *entries; /* ring */
    uint32_t cap;                     /* of the ring: 0 or a power of two */
    uint32_t first, next;             /* sequence numbers: the oldest entry's, the next push's */
    uint32_t *ids;           /* hash table of the identifiers in use: use << 16 | id; 0: empty */
    uint32_t ids_n, ids_cap; /* at most three quarters full */
    uint32_t restored_n;     /* identifiers that came with the session from an earlier connection */
};

void hg_mqtt_in_close(struct hg_mqtt_in *in);
enum hg_mqtt_use hg_mqtt_in_use(const struct hg_mqtt_in *in, uint16_t packet_id);
/* Room for one more push; false when there is no memory. */
bool hg_mqtt_in_reserve(struct hg_mqtt_in *in);
/* Notes a publish whose identifier is free, and returns its sequence number. hg_mqtt_in_reserve
 * said yes before. */
uint32_t hg_mqtt_in_push(struct hg_mqtt_in *in, uint16_t packet_id, uint8_t qos, uint8_t on_reject);
/* NULL if it is not under way (any more). */
struct hg_mqtt_in_entry *hg_mqtt_in_find(struct hg_mqtt_in *in, uint32_t seq);
/* Takes the oldest if it is settled, and what it owns; false if it is not, or there is none. Its
 * identifier is free afterwards, or RECEIVED where a QoS 2 publish is to be acknowledged with a
 * reason below 0x80. */
bool hg_mqtt_in_pop(struct hg_mqtt_in *in, struct hg_mqtt_in_entry *out);
/* PUBREL: a RECEIVED identifier is free. */
void hg_mqtt_in_release(struct hg_mqtt_in *in, uint16_t packet_id);
/* The session goes on: this identifier is RECEIVED. False when there is no memory. */
bool hg_mqtt_in_restore(struct hg_mqtt_in *in, uint16_t packet_id);
/* The identifiers that are RECEIVED, in an array of hg_alloc; NULL where there are none. False when
 * there is no memory. */
bool hg_mqtt_in_list(const struct hg_mqtt_in *in, uint16_t **out_own, size_t *n_out);
static inline bool hg_mqtt_in_is_empty(const struct hg_mqtt_in *in)
{
    return in->first == in->next; /* nothing is under way */
}

#endif
