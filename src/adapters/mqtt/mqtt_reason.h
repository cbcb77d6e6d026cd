/* SPDX-License-Identifier: Apache-2.0 */
/* Reason codes of MQTT 5.0 (section 2.4), and in which packets a server may send each. */
#ifndef HG_MQTT_REASON_H
#define HG_MQTT_REASON_H

#include "adapters/mqtt/mqtt_codec.h"

/* clang-format off */
enum hg_mqtt_reason {
    HG_MQTT_SUCCESS = 0x00, /* also: normal disconnection, granted QoS 0 */
    HG_MQTT_DISCONNECT_WITH_WILL = 0x04,
    HG_MQTT_NO_MATCHING_SUBSCRIBERS = 0x10,
    HG_MQTT_NO_SUBSCRIPTION_EXISTED = 0x11,
    HG_MQTT_CONTINUE_AUTHENTICATION = 0x18,
    HG_MQTT_RE_AUTHENTICATE = 0x19,
    HG_MQTT_UNSPECIFIED = 0x80,
    HG_MQTT_MALFORMED_PACKET = 0x81,
    HG_MQTT_PROTOCOL_ERROR = 0x82,
    HG_MQTT_IMPLEMENTATION_SPECIFIC = 0x83,
    HG_MQTT_UNSUPPORTED_VERSION = 0x84,
    HG_MQTT_CLIENT_ID_NOT_VALID = 0x85,
    HG_MQTT_BAD_USER_OR_PASSWORD = 0x86,
    HG_MQTT_NOT_AUTHORIZED = 0x87,
    HG_MQTT_SERVER_UNAVAILABLE = 0x88,
    HG_MQTT_SERVER_BUSY = 0x89,
    HG_MQTT_SERVER_SHUTTING_DOWN = 0x8b,
    HG_MQTT_BAD_AUTH_METHOD = 0x8c,
    HG_MQTT_KEEP_ALIVE_TIMEOUT = 0x8d,
    HG_MQTT_SESSION_TAKEN_OVER = 0x8e,
    HG_MQTT_FILTER_INVALID = 0x8f,
    HG_MQTT_TOPIC_NAME_INVALID = 0x90,
    HG_MQTT_PACKET_ID_IN_USE = 0x91,
    HG_MQTT_PACKET_ID_NOT_FOUND = 0x92,
    HG_MQTT_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    HG_MQTT_TOPIC_ALIAS_INVALID = 0x94,
    HG_MQTT_PACKET_TOO_LARGE = 0x95,
    HG_MQTT_QUOTA_EXCEEDED = 0x97,
    HG_MQTT_PAYLOAD_FORMAT_INVALID = 0x99,
    HG_MQTT_RETAIN_NOT_SUPPORTED = 0x9a,
    HG_MQTT_SHARED_NOT_SUPPORTED = 0x9e,
    HG_MQTT_WILDCARD_NOT_SUPPORTED = 0xa2
};
/* clang-format on */

/* Whether a server may send the code in this packet (CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP,
 * SUBACK, UNSUBACK, DISCONNECT, AUTH): the specification's tables. */
bool hg_mqtt_reason_is_allowed(enum hg_mqtt_type type, uint8_t reason);
/* Whether a client may (PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH). */
bool hg_mqtt_reason_is_from_client(enum hg_mqtt_type type, uint8_t reason);
/* The code for an outcome in a packet of this type: always one that is allowed there, Unspecified
 * error where there is no better one. */
uint8_t hg_mqtt_reason_for(enum hg_mqtt_type type, enum hg_status status);

#endif
