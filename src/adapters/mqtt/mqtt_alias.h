/* SPDX-License-Identifier: Apache-2.0 */
/* Topic aliases towards a client (MQTT 5.0 section 3.3.2.3.4): which topics have one. A topic gets
 * one when it is sent for the second time within a while, so that topics which come once cost
 * nothing; the one that was not used for longest gives its alias away. Pure bookkeeping. */
#ifndef HG_MQTT_ALIAS_H
#define HG_MQTT_ALIAS_H

#include "base/bytes.h"

struct hg_mqtt_alias_out;

/* max: aliases that the client takes and the configuration allows, at least 1. NULL: no memory. */
struct hg_mqtt_alias_out *hg_mqtt_alias_new(uint16_t max);
void hg_mqtt_alias_free(struct hg_mqtt_alias_out *a); /* NULL is fine */
/* The alias to send with this topic; 0: none. *is_known: the client knows it, the topic may be left
 * out; else it is told now, so this packet must go out. */
uint16_t hg_mqtt_alias_for(struct hg_mqtt_alias_out *a, struct hg_bytes topic, bool *is_known);

#endif
