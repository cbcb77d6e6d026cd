/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties of a PUBLISH or a will <-> AMQP properties: the table in the documentation
 * (docs/compatibility.md), which is RabbitMQ's plugin's where that loses nothing. */
#ifndef HG_MQTT_MESSAGE_H
#define HG_MQTT_MESSAGE_H

#include "adapters/mqtt/mqtt_property.h"
#include "message/message.h"
#include "rules/rules.h"

/* AMQP properties from MQTT ones; slices borrow from both arguments and from itself. */
enum { HG_MQTT_HEADERS_MAX = 64 }; /* User Properties kept of one packet; more are refused */
struct hg_mqtt_inbound {
    struct hg_properties properties;
    struct hg_header headers[HG_MQTT_HEADERS_MAX + 4];
    char expiration[16];
    struct hg_route reply; /* where the Response Topic leads */
};
/* OK; BAD_ADDRESS, NO_RULE: the Response Topic; TOO_MANY: User Properties; PROTOCOL_ERROR: a payload
 * that is said to be UTF-8 and is not (0x99: *reason_out). `raw`: the packet's properties. */
enum hg_status hg_mqtt_message_in(struct hg_mqtt_inbound *out, const struct hg_rules *rules,
                                  struct hg_bytes raw, struct hg_bytes payload, uint8_t qos,
                                  const char **why_out);

/* The properties of a delivery, appended in MQTT's form, all but topic alias and subscription
 * identifiers. left_s: of its expiry, UINT32_MAX: none. `reply_topic`: text for a reply_to that no
 * rule explains ("$reply/3"); empty: left out. */
void hg_mqtt_message_out(struct hg_writer *w, const struct hg_rules *rules,
                         const struct hg_message *m, uint32_t left_s, struct hg_bytes reply_topic);
/* Whether the message has a reply_to that no rule explains (then the session finds a topic). */
bool hg_mqtt_message_has_private_reply(const struct hg_rules *rules, const struct hg_message *m);

#endif
