/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of the deliveries to a client with QoS 1 and 2. Pure bookkeeping: no socket, no timer,
 * no callback. Sections are those of MQTT 3.1.1. */
#ifndef HG_MQTT_OUTFLOW_H
#define HG_MQTT_OUTFLOW_H

#include "base/buf.h"
#include "base/status.h"

/* ---- Out: deliveries to the client with QoS 1 (section 4.3.2) ---------------------------------------------------------
 * One ring: first those in flight, then those that wait. Identifiers are given in the order of the ring, so an entry's
 * identifier is its place. The limit on what is in flight counts from the oldest that is not acknowledged: a client acknowledges
 * in order [MQTT-4.6.0-2]; one that does not gets its next delivery when it has come to the oldest. */

enum hg_mqtt_out_state {
    HG_MQTT_OUT_WAITING,
    HG_MQTT_OUT_SENT, /* PUBACK is to come; QoS 2 would add PUBREC and PUBCOMP here */
    HG_MQTT_OUT_DONE  /* acknowledged before an older one */
};

struct hg_mqtt_out_entry {
    struct hg_buf
        *packet;   /* the QoS 0 PUBLISH that all subscribers share, a reference; NULL once sent */
    uint8_t state; /* enum hg_mqtt_out_state */
    bool is_dup;
};

struct hg_mqtt_out { /* zero-initialise to start */
    struct hg_mqtt_out_entry *entries;
    uint32_t cap;         /* 0 or a power of two */
    uint32_t at;          /* place of the oldest */
    uint32_t n, sent_n;   /* entries; how many of them are in flight, at most 65535 */
    uint16_t used_ids;    /* identifier of the oldest, less one */
    size_t waiting_bytes; /* of packets that wait */
};

struct hg_mqtt_out_limits {
    uint32_t inflight_max, queued_max;
};

/* Gives back every reference. */
void hg_mqtt_out_close(struct hg_mqtt_out *out);
/* Adds a delivery, taking a reference. OK, TOO_MANY (as many wait as may), NO_MEMORY. */
enum hg_status hg_mqtt_out_push(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                                struct hg_buf *packet, bool is_dup);
/* The next that may be sent now, which is in flight from now on; its reference becomes the
 * caller's. False: none may. */
bool hg_mqtt_out_next(struct hg_mqtt_out *out, const struct hg_mqtt_out_limits *limits,
                      struct hg_mqtt_out_entry *out_own, uint16_t *packet_id_out);
/* PUBACK. False if the identifier is not in flight. */
bool hg_mqtt_out_ack(struct hg_mqtt_out *out, uint16_t packet_id);

#endif
