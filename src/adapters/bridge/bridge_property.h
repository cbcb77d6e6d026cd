/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties of a message, as the MQTT library has them, and AMQP's: content type,
 * correlation data, expiry and User Properties. A Response Topic is an address of the other side
 * and is not carried. */
#ifndef HG_BRIDGE_PROPERTY_H
#define HG_BRIDGE_PROPERTY_H

#include "message/message.h"

#include <mosquitto.h>

enum { HG_BRIDGE_USERS_MAX = 64 }; /* User Properties that are carried; the rest is left out */

struct hg_bridge_inbound {
    struct hg_properties properties; /* borrows from the rest */
    struct hg_header headers[HG_BRIDGE_USERS_MAX + 1];
    char expiration[16];
    void *owned[2 * HG_BRIDGE_USERS_MAX + 2]; /* the library's copies */
    size_t owned_n;
};

/* list: NULL for none. */
void hg_bridge_property_read(struct hg_bridge_inbound *in, const mosquitto_property *list);
void hg_bridge_property_close(struct hg_bridge_inbound *in);

/* What the message carries, and left_ms of its expiry (HG_EXPIRY_NONE: it has none), in a list for
 * mosquitto_property_free_all. What MQTT cannot take (text that is not clean UTF-8) is left out.
 * False when there is no memory. */
bool hg_bridge_property_write(const struct hg_message *m, uint64_t left_ms,
                              mosquitto_property **list_out);

#endif
