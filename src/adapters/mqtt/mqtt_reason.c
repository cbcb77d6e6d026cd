/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of reason codes of MQTT 5.0 (sections 2.4, 3.2.2.2, 3.4.2.1 to 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1,
 * 3.15.2.1) as one. 0x8c in DISCONNECT stands in section 2.4 only: it is not sent there. */
#include "adapters/mqtt/mqtt_reason.h"

/* Sets of packets. */
enum {
    CONNACK = 1 << HG_MQTT_CONNACK,
    PUBACK = 1 << HG_MQTT_PUBACK | 1 << HG_MQTT_PUBREC, /* their tables are equal */
    PUBREL = 1 << HG_MQTT_PUBREL | 1 << HG_MQTT_PUBCOMP,
    SUBACK = 1 << HG_MQTT_SUBACK,
    UNSUBACK = 1 << HG_MQTT_UNSUBACK,
    DISCONNECT = 1 << HG_MQTT_DISCONNECT,
    AUTH = 1 << HG_MQTT_AUTH,
    ALL_ACKS = CONNACK | PUBACK | SUBACK | UNSUBACK
};

struct reason {
    const char *text;
    uint16_t server, client; /* packets in which each of them may send it */
};

/* clang-format off */
static const struct reason reasons[] = {
    [0x00] = {"Success",                              ALL_ACKS | PUBREL | DISCONNECT | AUTH, PUBACK | PUBREL | DISCONNECT},
    [0x01] = {"Granted QoS 1",                        SUBACK, 0},
    [0x02] = {"Granted QoS 2",                        SUBACK, 0},
    [0x04] = {"Disconnect with Will Message",         0, DISCONNECT},
    [0x10] = {"No matching subscribers",              PUBACK, 0},
    [0x11] = {"No subscription existed",              UNSUBACK, 0},
    [0x18] = {"Continue authentication",              AUTH, AUTH},
    [0x19] = {"Re-authenticate",                      0, AUTH},
    [0x80] = {"Unspecified error",                    ALL_ACKS | DISCONNECT, PUBACK | DISCONNECT},
    [0x81] = {"Malformed Packet",                     CONNACK | DISCONNECT, DISCONNECT},
    [0x82] = {"Protocol Error",                       CONNACK | DISCONNECT, DISCONNECT},
    [0x83] = {"Implementation specific error",        ALL_ACKS | DISCONNECT, PUBACK | DISCONNECT},
    [0x84] = {"Unsupported Protocol Version",         CONNACK, 0},
    [0x85] = {"Client Identifier not valid",          CONNACK, 0},
    [0x86] = {"Bad User Name or Password",            CONNACK, 0},
    [0x87] = {"Not authorized",                       ALL_ACKS | DISCONNECT, PUBACK},
    [0x88] = {"Server unavailable",                   CONNACK, 0},
    [0x89] = {"Server busy",                          CONNACK | DISCONNECT, 0},
    [0x8a] = {"Banned",                               CONNACK, 0},
    [0x8b] = {"Server shutting down",                 DISCONNECT, 0},
    [0x8c] = {"Bad authentication method",            CONNACK, 0},
    [0x8d] = {"Keep Alive timeout",                   DISCONNECT, 0},
    [0x8e] = {"Session taken over",                   DISCONNECT, 0},
    [0x8f] = {"Topic Filter invalid",                 SUBACK | UNSUBACK | DISCONNECT, 0},
    [0x90] = {"Topic Name invalid",                   CONNACK | PUBACK | DISCONNECT, PUBACK | DISCONNECT},
    [0x91] = {"Packet Identifier in use",             PUBACK | SUBACK | UNSUBACK, PUBACK},
    [0x92] = {"Packet Identifier not found",          PUBREL, PUBREL},
    [0x93] = {"Receive Maximum exceeded",             DISCONNECT, DISCONNECT},
    [0x94] = {"Topic Alias invalid",                  DISCONNECT, DISCONNECT},
    [0x95] = {"Packet too large",                     CONNACK | DISCONNECT, DISCONNECT},
    [0x96] = {"Message rate too high",                DISCONNECT, DISCONNECT},
    [0x97] = {"Quota exceeded",                       CONNACK | PUBACK | SUBACK | DISCONNECT, PUBACK | DISCONNECT},
    [0x98] = {"Administrative action",                DISCONNECT, DISCONNECT},
    [0x99] = {"Payload format invalid",               CONNACK | PUBACK | DISCONNECT, PUBACK | DISCONNECT},
    [0x9a] = {"Retain not supported",                 CONNACK | DISCONNECT, 0},
    [0x9b] = {"QoS not supported",                    CONNACK | DISCONNECT, 0},
    [0x9c] = {"Use another server",                   CONNACK | DISCONNECT, 0},
    [0x9d] = {"Server moved",                         CONNACK | DISCONNECT, 0},
    [0x9e] = {"Shared Subscriptions not supported",   SUBACK | DISCONNECT, 0},
    [0x9f] = {"Connection rate exceeded",             CONNACK | DISCONNECT, 0},
    [0xa0] = {"Maximum connect time",                 DISCONNECT, 0},
    [0xa1] = {"Subscription Identifiers not supported", SUBACK | DISCONNECT, 0},
    [0xa2] = {"Wildcard Subscriptions not supported", SUBACK | DISCONNECT, 0},
};
/* clang-format on */

static const struct reason *find(uint8_t reason)
{
    static const struct reason none = {0};
    return reason < sizeof(reasons) / sizeof(reasons[0]) ? &reasons[reason] : &none;
}

bool hg_mqtt_reason_is_allowed(enum hg_mqtt_type type, uint8_t reason)
{
    return (find(reason)->server >> type & 1) != 0;
}

bool hg_mqtt_reason_is_from_client(enum hg_mqtt_type type, uint8_t reason)
{
    return (find(reason)->client >> type & 1) != 0;
}

const char *hg_mqtt_reason_text(uint8_t reason)
{
    return find(reason)->text;
}

uint8_t hg_mqtt_reason_for(enum hg_mqtt_type type, enum hg_status status)
{
    const struct hg_status_info *info = hg_status_info(status);
    uint8_t reason = HG_MQTT_SUCCESS;
    switch (type) {
    case HG_MQTT_CONNACK: reason = info->connack; break;
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC: reason = info->puback; break;
    case HG_MQTT_SUBACK:
    case HG_MQTT_UNSUBACK: reason = info->suback; break;
    case HG_MQTT_DISCONNECT: reason = info->disconnect; break;
    case HG_MQTT_PUBREL:
    case HG_MQTT_PUBCOMP: return status == HG_OK ? HG_MQTT_SUCCESS : HG_MQTT_PACKET_ID_NOT_FOUND;
    default: return HG_MQTT_SUCCESS; /* AUTH: a failure is told by DISCONNECT */
    }
    bool is_normal = status == HG_OK || (status == HG_CLOSED && type == HG_MQTT_DISCONNECT);
    bool is_told =
        (reason != HG_MQTT_SUCCESS || is_normal) && hg_mqtt_reason_is_allowed(type, reason);
    return is_told ? reason : HG_MQTT_UNSPECIFIED;
}
