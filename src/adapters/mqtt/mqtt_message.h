/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties of a PUBLISH or a will <-> AMQP properties: the table in the documentation
 * (docs/compatibility.md), which is RabbitMQ's plugin's where that loses nothing. */
#ifndef HG_MQTT_MESSAGE_H
#define HG_MQTT_MESSAGE_H

#include "adapters/mqtt/mqtt_property.h"
#include "message/message.h"
#include "rules/rules.h"

/* AMQP properties from MQTT ones; slices borrow from both arguments and from itself. */
enum {
    HG_MQTT_USERS_MAX = 64,      /* User Properties of one packet; more are refused */
    HG_MQTT_HEADERS_MAX = 64 + 6 /* with what has no AMQP property of its own */
};
struct hg_mqtt_inbound {
    struct hg_properties properties;
    struct hg_header headers[HG_MQTT_HEADERS_MAX];
    char expiration[16];
    char order[HG_MQTT_USERS_MAX];
    struct hg_route reply; /* where the Response Topic leads */
};
/* `raw`: the packet's properties, empty below 5.0. OK; BAD_ADDRESS, NO_RULE, KEY_TOO_LONG: the
 * Response Topic leads nowhere; TOO_MANY: User Properties; BAD_PROPERTY: one whose name exceeds 255
 * bytes; BAD_PAYLOAD: is said to be UTF-8 and is not. *why_out: static text. */
enum hg_status hg_mqtt_message_in(struct hg_mqtt_inbound *out, const struct hg_rules *rules,
                                  struct hg_bytes raw, struct hg_bytes payload, uint8_t qos,
                                  const char **why_out);

/* For what is retained: the log sorts headers by name, so a header tells their order where it is
 * another one. */
void hg_mqtt_message_keep_order(struct hg_mqtt_inbound *in);

/* The properties of a delivery, appended in MQTT's form, all but topic alias and subscription
 * identifiers. left_s: of its expiry, UINT32_MAX: none. `reply_topic`: text for a reply_to that no
 * rule explains ("$reply/3"); empty: left out. Characters that MQTT clients may refuse (section
 * 1.5.4) become U+FFFD; what exceeds 65,535 bytes is left out. */
void hg_mqtt_message_out(struct hg_writer *w, const struct hg_rules *rules,
                         const struct hg_message *m, uint32_t left_s, struct hg_bytes reply_topic);
/* Whether the message has a reply_to that no rule explains (then the session finds a topic). */
bool hg_mqtt_message_has_private_reply(const struct hg_rules *rules, const struct hg_message *m);

#endif
