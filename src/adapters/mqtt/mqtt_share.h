/* SPDX-License-Identifier: Apache-2.0 */
/* One encoding for many subscribers: a PUBLISH with QoS 0 that is sent as it is to those who want
 * nothing of their own, and in pieces, around a few bytes of their own, to the others. Topic,
 * properties and payload are never copied. Pure; sections are those of MQTT 5.0. */
#ifndef HG_MQTT_SHARE_H
#define HG_MQTT_SHARE_H

#include "adapters/mqtt/mqtt_property.h"

/* The packet. properties: what all have in common, without expiry; expiry_s: what is left of the
 * message's, UINT32_MAX: none. Below 5.0 both are left out. NULL: no memory, or it is too large for
 * the protocol. */
struct hg_buf *hg_mqtt_share_encode(uint8_t level, struct hg_bytes topic,
                                    struct hg_bytes properties, uint32_t expiry_s,
                                    struct hg_bytes payload);

/* Where its parts are. Borrowed from the packet. */
struct hg_mqtt_shared {
    struct hg_bytes topic; /* with its length */
    struct hg_bytes rest;  /* the common properties, without length and expiry, then the payload */
    uint32_t properties_n; /* of `rest` */
    bool has_properties;   /* 5.0 */
    bool has_expiry;
};
struct hg_mqtt_shared hg_mqtt_share(uint8_t level, struct hg_bytes packet);

/* What one subscriber's copy has of its own. */
struct hg_mqtt_copy {
    uint16_t packet_id; /* 0 with QoS 0 */
    uint8_t qos;
    bool is_dup, is_retained;
    /* 5.0 only */
    bool has_topic;       /* false: topic_alias stands for it */
    uint16_t topic_alias; /* 0: none */
    uint32_t expiry_s;    /* where the message has one */
    struct hg_bytes own;  /* properties, encoded */
};

enum { HG_MQTT_PIECE_MAX = 16 };
struct hg_mqtt_pieces {     /* to be sent in this order; empty where there is nothing */
    struct hg_bytes head;   /* in head_bytes; with an empty topic where has_topic is false */
    struct hg_bytes topic;  /* in the packet */
    struct hg_bytes middle; /* in middle_bytes */
    struct hg_bytes own;    /* the copy's */
    struct hg_bytes rest;   /* in the packet */
    size_t n;               /* bytes of all of them: the size of this packet */
    uint8_t head_bytes[HG_MQTT_PIECE_MAX], middle_bytes[HG_MQTT_PIECE_MAX];
};
/* False: too large for the protocol. `out` must stay in place while its pieces are used. */
bool hg_mqtt_share_copy(const struct hg_mqtt_shared *shared, const struct hg_mqtt_copy *copy,
                        struct hg_mqtt_pieces *out);

#endif
