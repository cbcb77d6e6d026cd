/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBEs and UNSUBSCRIBEs whose answer waits: for RabbitMQ, for what is retained, then for the
 * session's record. */
#ifndef HG_MQTT_SUBACK_H
#define HG_MQTT_SUBACK_H

#include "adapters/mqtt/mqtt_subscribe.h"

enum { HG_MQTT_SUBACKS_MAX = 16 }; /* without an answer; then the client is held */

struct hg_mqtt_place {       /* of one filter in a SUBSCRIBE or UNSUBSCRIBE */
    struct hg_mqtt_sub *sub; /* NULL: the code is final, and nothing is to be done for it */
    uint8_t code;
    bool is_waiting;     /* for RabbitMQ's answer */
    bool wants_retained; /* once it is answered */
    bool is_looking;     /* for what is retained */
};

struct hg_mqtt_suback {
    struct hg_chain_link link; /* in hg_mqtt_session.subacks */
    const char *why;           /* static text about the first refusal, or NULL */
    enum hg_mqtt_type answer;
    uint16_t packet_id;
    bool must_save;  /* the session's subscriptions have changed */
    uint32_t number; /* of hg_mqtt_save; 0: not asked yet */
    uint32_t n, waiting_n;
    uint32_t first; /* nothing before it waits */
    struct hg_mqtt_place places[];
};

/* A packet with all of its places still empty, under way; NULL: no memory. answer: SUBACK,
 * UNSUBACK. */
struct hg_mqtt_suback *hg_mqtt_suback_new(struct hg_mqtt_session *s, enum hg_mqtt_type answer,
                                          const struct hg_mqtt_subscribe *packet);
/* The code for a refusal in the client's version. */
uint8_t hg_mqtt_suback_code(const struct hg_mqtt_session *s, enum hg_status status);
/* A place whose subscription is live: begins to serve it what is retained. */
void hg_mqtt_suback_serve(struct hg_mqtt_session *s, struct hg_mqtt_place *place);
/* None of its places waits: it is answered, now or when the record is saved, and freed. */
void hg_mqtt_suback_complete(struct hg_mqtt_session *s, struct hg_mqtt_suback *p);
/* Every place that waits for this subscription learns its outcome. */
void hg_mqtt_suback_resolve(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                            enum hg_status outcome);
/* No place knows it any more, or all of them know `heir` instead. */
void hg_mqtt_suback_pass(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                         struct hg_mqtt_sub *heir);

#endif
