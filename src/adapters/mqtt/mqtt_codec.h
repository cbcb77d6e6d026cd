/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT control packets <-> bytes, sans-I/O, from the server's side: 3.1, 3.1.1 and 5.0 whole.
 * Sections are those of MQTT 3.1.1 unless they say 5.0. */
#ifndef HG_MQTT_CODEC_H
#define HG_MQTT_CODEC_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/status.h"

#include <sys/types.h>

enum hg_mqtt_level { HG_MQTT_V31 = 3, HG_MQTT_V311 = 4, HG_MQTT_V50 = 5 };

enum hg_mqtt_type { /* section 2.2.1 */
                    HG_MQTT_CONNECT = 1,
                    HG_MQTT_CONNACK,
                    HG_MQTT_PUBLISH,
                    HG_MQTT_PUBACK,
                    HG_MQTT_PUBREC,
                    HG_MQTT_PUBREL,
                    HG_MQTT_PUBCOMP,
                    HG_MQTT_SUBSCRIBE,
                    HG_MQTT_SUBACK,
                    HG_MQTT_UNSUBSCRIBE,
                    HG_MQTT_UNSUBACK,
                    HG_MQTT_PINGREQ,
                    HG_MQTT_PINGRESP,
                    HG_MQTT_DISCONNECT,
                    HG_MQTT_AUTH
};

enum {
    HG_MQTT_REMAINING_MAX = 268435455, /* section 2.2.3: four bytes of seven bits */
    HG_MQTT_HEAD_MAX = 5,              /* bytes of a fixed header */
    HG_MQTT_SMALL_MAX = 5,             /* bytes of any packet that hg_mqtt_encode_… makes */
    HG_MQTT_SUBACK_FAILURE = 0x80
};

enum hg_mqtt_connack { /* 3.1.1's return codes, section 3.2.2.3 */
                       HG_MQTT_ACCEPTED,
                       HG_MQTT_BAD_VERSION,
                       HG_MQTT_BAD_CLIENT_ID,
                       HG_MQTT_UNAVAILABLE,
                       HG_MQTT_BAD_LOGIN,
                       HG_MQTT_NOT_ALLOWED
};

/* Strings are UTF-8 without control characters. `properties` is empty below 5.0. */
struct hg_mqtt_connect {
    uint8_t level;
    /* false: the level is none that the decoder knows: what follows here is not filled in, and
     * no further packet is read */
    bool is_supported;
    bool is_clean, has_will, will_retain, has_user, has_password;
    uint8_t will_qos;
    uint16_t keep_alive_s; /* 0: none */
    struct hg_bytes client_id, will_topic, will_payload, user, password;
    struct hg_bytes properties, will_properties;
};

struct hg_mqtt_publish {
    struct hg_bytes topic; /* no wildcard; empty only in 5.0 beside a topic alias */
    struct hg_bytes payload;
    struct hg_bytes properties;
    uint16_t packet_id; /* 0 with QoS 0 */
    uint8_t qos;
    bool is_dup, is_retained;
};

struct hg_mqtt_ack { /* PUBACK, PUBREC, PUBREL, PUBCOMP */
    uint16_t packet_id;
    uint8_t reason; /* one that a client may send; 0 below 5.0 */
    struct hg_bytes properties;
};

struct hg_mqtt_filter {
    struct hg_bytes filter; /* well-formed: section 4.7.1; $share included (5.0, section 4.8.2) */
    uint8_t qos;            /* asked for; 0 in UNSUBSCRIBE */
    /* 5.0, section 3.8.3.1; 0 below */
    bool is_no_local, is_retain_as_published;
    uint8_t retain_handling;
};
struct hg_mqtt_subscribe { /* SUBSCRIBE, UNSUBSCRIBE */
    uint16_t packet_id;
    struct hg_bytes properties;
    struct hg_bytes filters; /* checked; for hg_mqtt_next_filter */
    size_t filters_n;        /* at least 1 */
};

struct hg_mqtt_end { /* DISCONNECT, AUTH */
    uint8_t reason;  /* 0 below 5.0 */
    struct hg_bytes properties;
};

struct hg_mqtt_packet {
    enum hg_mqtt_type type;
    union { /* PINGREQ has nothing */
        struct hg_mqtt_connect connect;
        struct hg_mqtt_publish publish;
        struct hg_mqtt_ack ack;
        struct hg_mqtt_subscribe subscribe;
        struct hg_mqtt_end end;
    } u;
};

struct hg_mqtt_limits {
    size_t max_packet_bytes; /* fixed header included */
};

/* What one connection's decoder remembers. Zero is a new connection. */
struct hg_mqtt_decoder {
    uint8_t level; /* 0 until CONNECT; a refused CONNECT sets it as well, if it came to that */
    bool has_failed;
};

/* Decodes at most one packet. No I/O, no allocation, no globals. Returns bytes used (> 0; *out
 * borrows from `in`); 0 if incomplete: keep the bytes and call again with them and more; < 0: *err
 * says which rule is broken and where, and the decoder refuses all that follows. A packet that is
 * too large or can never be right is refused by its fixed header, before the rest has come. However
 * the input is split, only a fixed header is looked at more than once. */
ssize_t hg_mqtt_decode(struct hg_mqtt_decoder *dec, const struct hg_mqtt_limits *limits,
                       struct hg_bytes in, struct hg_mqtt_packet *out, struct hg_error *err);

/* Takes the next filter off `rest`, which starts as subscribe.filters; false at the end. */
bool hg_mqtt_next_filter(struct hg_bytes *rest, enum hg_mqtt_type type, struct hg_mqtt_filter *out);

/* ---- Encoding: small packets into `out`, the result lies in it ---- */

/* type: PUBACK, PUBREC, PUBREL, PUBCOMP, and below 5.0 UNSUBACK. In 5.0 with a reason other than 0 a
 * byte longer. */
struct hg_bytes hg_mqtt_encode_ack(uint8_t out[HG_MQTT_SMALL_MAX], uint8_t level,
                                   enum hg_mqtt_type type, uint16_t packet_id, uint8_t reason);
struct hg_bytes hg_mqtt_encode_pingresp(uint8_t out[HG_MQTT_SMALL_MAX]);

/* ---- Encoding: appended. `properties`: as mqtt_property.h writes them, without their length;
 * ignored below 5.0. The form is that of `level`: 5.0 has properties, everything else looks like
 * 3.1.1. ---- */

void hg_mqtt_write_connack(struct hg_writer *w, uint8_t level, bool is_session_present,
                           uint8_t code, struct hg_bytes properties);
/* As hg_mqtt_encode_ack, 5.0 only, with properties. */
void hg_mqtt_write_ack(struct hg_writer *w, enum hg_mqtt_type type, uint16_t packet_id,
                       uint8_t reason, struct hg_bytes properties);
/* type: SUBACK, UNSUBACK. codes: a byte for each filter, in the order of the request; none in an
 * UNSUBACK below 5.0. */
void hg_mqtt_write_suback(struct hg_writer *w, uint8_t level, enum hg_mqtt_type type,
                          uint16_t packet_id, struct hg_bytes codes, struct hg_bytes properties);
/* 5.0 only. type: DISCONNECT, AUTH. */
void hg_mqtt_write_end(struct hg_writer *w, enum hg_mqtt_type type, uint8_t reason,
                       struct hg_bytes properties);
/* p->properties likewise without their length. Writes nothing and returns false for a topic over
 * 65,535 bytes or a packet over the protocol's 256 MiB. */
bool hg_mqtt_write_publish(struct hg_writer *w, uint8_t level, const struct hg_mqtt_publish *p);

#endif
