/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of MQTT 5.0 packets (section 2.2.2) <-> bytes. */
#ifndef HG_MQTT_PROPERTY_H
#define HG_MQTT_PROPERTY_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

enum hg_mqtt_property_id { /* section 2.2.2.2 */
                           HG_MQTT_PAYLOAD_FORMAT = 0x01,
                           HG_MQTT_MESSAGE_EXPIRY = 0x02,
                           HG_MQTT_CONTENT_TYPE = 0x03,
                           HG_MQTT_RESPONSE_TOPIC = 0x08,
                           HG_MQTT_CORRELATION_DATA = 0x09,
                           HG_MQTT_SUBSCRIPTION_ID = 0x0b,
                           HG_MQTT_SESSION_EXPIRY = 0x11,
                           HG_MQTT_ASSIGNED_CLIENT_ID = 0x12,
                           HG_MQTT_SERVER_KEEP_ALIVE = 0x13,
                           HG_MQTT_AUTH_METHOD = 0x15,
                           HG_MQTT_AUTH_DATA = 0x16,
                           HG_MQTT_REQUEST_PROBLEM = 0x17,
                           HG_MQTT_WILL_DELAY = 0x18,
                           HG_MQTT_REQUEST_RESPONSE = 0x19,
                           HG_MQTT_RESPONSE_INFORMATION = 0x1a,
                           HG_MQTT_SERVER_REFERENCE = 0x1c,
                           HG_MQTT_REASON_STRING = 0x1f,
                           HG_MQTT_RECEIVE_MAXIMUM = 0x21,
                           HG_MQTT_TOPIC_ALIAS_MAXIMUM = 0x22,
                           HG_MQTT_TOPIC_ALIAS = 0x23,
                           HG_MQTT_MAXIMUM_QOS = 0x24,
                           HG_MQTT_RETAIN_AVAILABLE = 0x25,
                           HG_MQTT_USER_PROPERTY = 0x26,
                           HG_MQTT_MAXIMUM_PACKET_SIZE = 0x27,
                           HG_MQTT_WILDCARD_AVAILABLE = 0x28,
                           HG_MQTT_SUBSCRIPTION_IDS_AVAILABLE = 0x29,
                           HG_MQTT_SHARED_AVAILABLE = 0x2a
};

/* Properties of one packet. `has`: bit number = identifier. Slices borrow from the bytes read. */
struct hg_mqtt_properties {
    uint64_t has;
    uint32_t message_expiry_s, session_expiry_s, will_delay_s, max_packet_bytes, subscription_id;
    uint16_t server_keep_alive_s, receive_maximum, topic_alias_maximum, topic_alias;
    uint8_t payload_format, request_problem, request_response, maximum_qos, retain_available,
        wildcard_available, subscription_ids_available, shared_available;
    struct hg_bytes content_type, response_topic, correlation_data, assigned_client_id, auth_method,
        auth_data, response_information, server_reference, reason_string;
    uint32_t users_n; /* User Properties, for hg_mqtt_property_next_user */
};
static inline bool hg_mqtt_property_has(const struct hg_mqtt_properties *p,
                                        enum hg_mqtt_property_id id)
{
    return (p->has >> id & 1) != 0;
}

/* For the codec: checks the properties of a packet (`command`: its type shifted left by four as in
 * the fixed header, or 0 for a will's): each allowed there, at most once where the standard says so,
 * well-formed. 0, or < 0 with *err (at: offset in `properties`). */
int hg_mqtt_property_check(uint8_t command, struct hg_bytes properties, struct hg_error *err);

/* Reads properties that have been checked: cannot fail. Absent ones are 0. Also for several
 * subscription identifiers (only servers send those) the last one counts. */
void hg_mqtt_property_read(struct hg_bytes properties, struct hg_mqtt_properties *out);
/* Takes the next User Property off *rest, which starts as the packet's properties. */
bool hg_mqtt_property_next_user(struct hg_bytes *rest, struct hg_bytes *name_out,
                                struct hg_bytes *value_out);

/* Each appends one property. Texts of at most 65,535 bytes: longer ones are cut off at a character
 * (reason strings) or must not come (everything else). */
void hg_mqtt_property_u8(struct hg_writer *w, enum hg_mqtt_property_id id, uint8_t v);
void hg_mqtt_property_u16(struct hg_writer *w, enum hg_mqtt_property_id id, uint16_t v);
void hg_mqtt_property_u32(struct hg_writer *w, enum hg_mqtt_property_id id, uint32_t v);
void hg_mqtt_property_varint(struct hg_writer *w, enum hg_mqtt_property_id id, uint32_t v);
void hg_mqtt_property_bytes(struct hg_writer *w, enum hg_mqtt_property_id id, struct hg_bytes v);
void hg_mqtt_property_user(struct hg_writer *w, struct hg_bytes name, struct hg_bytes value);

/* Variable byte integers, section 1.5.5. */
enum { HG_MQTT_VARINT_MAX = 4 };
size_t hg_mqtt_varint_encode(uint8_t out[HG_MQTT_VARINT_MAX], uint32_t v); /* bytes used */
/* 1 to 4: bytes used; 0: incomplete; < 0: not one. */
int hg_mqtt_varint_decode(struct hg_bytes in, uint32_t *out);

#endif
