/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries to an MQTT client. */
#ifndef HG_MQTT_DELIVER_H
#define HG_MQTT_DELIVER_H

#include "adapters/mqtt/mqtt_session_priv.h"

/* Deliveries with QoS > 0 that may be in flight: the prefetch of the session's queues. At least 1. */
uint16_t hg_mqtt_inflight_max(const struct hg_mqtt_session *s);

/* PUBACK, PUBREC, PUBCOMP. OK, or what ends the connection, and *rule says why. */
enum hg_status hg_mqtt_on_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type,
                              const struct hg_mqtt_ack *ack, const char **rule);
/* A kept session goes on: what was in flight when its connection ended. is_unclean: nobody could
 * write that down, so the client may remember identifiers that are not in the list. Sends PUBREL for
 * the released ones. */
enum hg_status hg_mqtt_resume_deliveries(struct hg_mqtt_session *s, const struct hg_session_tx *tx,
                                         size_t n, bool is_unclean);
/* For the record, an array of hg_alloc; false: no memory. */
bool hg_mqtt_list_deliveries(const struct hg_mqtt_session *s, struct hg_session_tx **out_own,
                             size_t *n_out);
/* The session's queue was consumed anew: tickets from before are stale. */
void hg_mqtt_deliveries_are_stale(struct hg_mqtt_session *s, struct hg_queue *queue);
/* The queue of a shared subscription is given up: what is not answered goes to others. */
void hg_mqtt_forget_queue(struct hg_mqtt_session *s, struct hg_queue *queue);
void hg_mqtt_forget_deliveries(struct hg_mqtt_session *s); /* frees s->out and out aliases */
/* As in struct hg_session_ops. */
void hg_mqtt_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches);
bool hg_mqtt_wants_more(struct hg_session *base);
void hg_mqtt_drained(struct hg_session *base);

#endif
