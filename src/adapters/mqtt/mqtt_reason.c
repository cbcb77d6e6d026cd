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
    uint16_t server, client; /* packets in which each of them may send it */
};

/* clang-format off */
static const struct reason reasons[] = {
    [0x00] = {ALL_ACKS | PUBREL | DISCONNECT | AUTH, PUBACK | PUBREL | DISCONNECT}, /* Success */
    [0x01] = {SUBACK, 0},                                                           /* Granted QoS 1 */
    [0x02] = {SUBACK, 0},                                                           /* Granted QoS 2 */
    [0x04] = {0, DISCONNECT},                                                       /* Disconnect with Will Message */
    [0x10] = {PUBACK, 0},                                                           /* No matching subscribers */
    [0x11] = {UNSUBACK, 0},                                                         /* No subscription existed */
    [0x18] = {AUTH, AUTH},                                                          /* Continue authentication */
    [0x19] = {0, AUTH},                                                             /* Re-authenticate */
    [0x80] = {ALL_ACKS | DISCONNECT, PUBACK | DISCONNECT},                          /* Unspecified error */
    [0x81] = {CONNACK | DISCONNECT, DISCONNECT},                                    /* Malformed Packet */
    [0x82] = {CONNACK | DISCONNECT, DISCONNECT},                                    /* Protocol Error */
    [0x83] = {ALL_ACKS | DISCONNECT, PUBACK | DISCONNECT},                          /* Implementation specific error */
    [0x84] = {CONNACK, 0},                                                          /* Unsupported Protocol Version */
    [0x85] = {CONNACK, 0},                                                          /* Client Identifier not valid */
    [0x86] = {CONNACK, 0},                                                          /* Bad User Name or Password */
    [0x87] = {ALL_ACKS | DISCONNECT, PUBACK},                                       /* Not authorized */
    [0x88] = {CONNACK, 0},                                                          /* Server unavailable */
    [0x89] = {CONNACK | DISCONNECT, 0},                                             /* Server busy */
    [0x8a] = {CONNACK, 0},                                                          /* Banned */
    [0x8b] = {DISCONNECT, 0},                                                       /* Server shutting down */
    [0x8c] = {CONNACK, 0},                                                          /* Bad authentication method */
    [0x8d] = {DISCONNECT, 0},                                                       /* Keep Alive timeout */
    [0x8e] = {DISCONNECT, 0},                                                       /* Session taken over */
    [0x8f] = {SUBACK | UNSUBACK | DISCONNECT, 0},                                   /* Topic Filter invalid */
    [0x90] = {CONNACK | PUBACK | DISCONNECT, PUBACK | DISCONNECT},                  /* Topic Name invalid */
    [0x91] = {PUBACK | SUBACK | UNSUBACK, PUBACK},                                  /* Packet Identifier in use */
    [0x92] = {PUBREL, PUBREL},                                                      /* Packet Identifier not found */
    [0x93] = {DISCONNECT, DISCONNECT},                                              /* Receive Maximum exceeded */
    [0x94] = {DISCONNECT, DISCONNECT},                                              /* Topic Alias invalid */
    [0x95] = {CONNACK | DISCONNECT, DISCONNECT},                                    /* Packet too large */
    [0x96] = {DISCONNECT, DISCONNECT},                                              /* Message rate too high */
    [0x97] = {CONNACK | PUBACK | SUBACK | DISCONNECT, PUBACK | DISCONNECT},         /* Quota exceeded */
    [0x98] = {DISCONNECT, DISCONNECT},                                              /* Administrative action */
    [0x99] = {CONNACK | PUBACK | DISCONNECT, PUBACK | DISCONNECT},                  /* Payload format invalid */
    [0x9a] = {CONNACK | DISCONNECT, 0},                                             /* Retain not supported */
    [0x9b] = {CONNACK | DISCONNECT, 0},                                             /* QoS not supported */
    [0x9c] = {CONNACK | DISCONNECT, 0},                                             /* Use another server */
    [0x9d] = {CONNACK | DISCONNECT, 0},                                             /* Server moved */
    [0x9e] = {SUBACK | DISCONNECT, 0},                                              /* Shared Subscriptions not supported */
    [0x9f] = {CONNACK | DISCONNECT, 0},                                             /* Connection rate exceeded */
    [0xa0] = {DISCONNECT, 0},                                                       /* Maximum connect time */
    [0xa1] = {SUBACK | DISCONNECT, 0},                                              /* Subscription Identifiers not supported */
    [0xa2] = {SUBACK | DISCONNECT, 0},                                              /* Wildcard Subscriptions not supported */
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
