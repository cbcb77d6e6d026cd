/* SPDX-License-Identifier: Apache-2.0 */
/* Shared subscriptions (MQTT 5.0 section 4.8.2): `$share/NAME/FILTER`, and the queue in RabbitMQ
 * that the members of a group consume together, on whichever gateway they are. */
#ifndef HG_MQTT_GROUP_H
#define HG_MQTT_GROUP_H

#include "base/bytes.h"

struct hg_mqtt_group { /* borrowed from what was read */
    struct hg_bytes name, filter;
};

bool hg_mqtt_group_is(struct hg_bytes filter); /* begins as one */
/* False: not well-formed. The filter's own form is checked by the codec. */
bool hg_mqtt_group_read(struct hg_bytes filter, struct hg_mqtt_group *out);

/* `share.NAME/FILTER` behind the prefix ("headgate.", or a user's own), unambiguous as a name has no
 * `/`; where that is too long for a queue, `share.` and its SHA-256. Written to `out`. */
enum { HG_MQTT_GROUP_QUEUE_MAX = 255 };
struct hg_bytes hg_mqtt_group_queue(const struct hg_mqtt_group *group, const char *prefix,
                                    uint8_t out[HG_MQTT_GROUP_QUEUE_MAX]);

#endif
