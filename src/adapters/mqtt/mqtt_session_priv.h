/* SPDX-License-Identifier: Apache-2.0 */
/* What mqtt_session.c (connecting, publishing, leaving) and mqtt_subscribe.c (subscribing,
 * delivering) share. */
#ifndef HG_MQTT_SESSION_PRIV_H
#define HG_MQTT_SESSION_PRIV_H

#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/mqtt/mqtt_flow.h"
#include "base/map.h"
#include "base/wheel.h"
#include "core/conn.h"
#include "core/directory.h"
#include "core/worker.h"

/* What CONNECT said and later packets need. Client identifier, user name, will topic and will
 * payload stand behind each other. */
struct hg_mqtt_will {
    uint32_t payload_n;
    uint16_t topic_n;
    uint8_t qos;
    uint8_t text[];
};
struct hg_mqtt_client {
    uint16_t id_n, user_n;
    uint8_t text[];
};

struct hg_mqtt_sub {
    struct hg_sub base;
    uint8_t qos;     /* granted */
    bool is_granted; /* a SUBACK said so */
    uint16_t filter_n;
    uint32_t waiting_n; /* places in SUBSCRIBEs that wait for it */
    uint8_t filter[];
};

enum hg_mqtt_state { HG_MQTT_NEW, HG_MQTT_CLAIMING, HG_MQTT_CONNECTED };

struct hg_mqtt_session {
    struct hg_session base;
    struct hg_claim claim;         /* on the client identifier */
    struct hg_timer timer;         /* the time for CONNECT, then keep-alive */
    struct hg_list subacks;        /* SUBSCRIBEs that RabbitMQ has not answered */
    struct hg_map *by_filter;      /* NULL while the subscriptions are few */
    struct hg_mqtt_client *client; /* NULL until CONNECT */
    struct hg_mqtt_will *will;     /* NULL: none (any more) */
    struct hg_mqtt_in *in;         /* NULL until the first publish with QoS > 0 */
    struct hg_mqtt_out *out;       /* NULL until the first delivery with QoS > 0 */
    uint16_t keep_alive_s;         /* 0: none */
    struct hg_mqtt_decoder decoder;
    uint8_t state; /* enum hg_mqtt_state */
    uint8_t subacks_n;
    bool is_draining;
    bool was_held; /* since the keep-alive timer was last set */
};

/* An idle connection with one subscription costs these two and the text of its filter, client
 * identifier and user name. */
_Static_assert(sizeof(struct hg_mqtt_session) <= 216, "part of the 1 KiB for an idle connection");
_Static_assert(sizeof(struct hg_mqtt_sub) <= 88, "part of the 1 KiB for an idle connection");

struct hg_mqtt_session *hg_mqtt_session_of(struct hg_session *base);
struct hg_bytes hg_mqtt_client_id(const struct hg_mqtt_session *s); /* empty before CONNECT */
struct hg_proto_metrics *hg_mqtt_metrics(const struct hg_mqtt_session *s);
/* Without memory for the answer that a client waits for, the connection ends. */
void hg_mqtt_send(struct hg_mqtt_session *s, struct hg_bytes packet);

/* ---- mqtt_subscribe.c ---- */

/* HELD: nothing was used; else anything but OK ends the connection, and *rule says why. */
enum hg_status hg_mqtt_on_subscribe(struct hg_mqtt_session *s,
                                    const struct hg_mqtt_subscribe *packet, const char **rule);
void hg_mqtt_on_unsubscribe(struct hg_mqtt_session *s, const struct hg_mqtt_subscribe *packet);
void hg_mqtt_on_puback(struct hg_mqtt_session *s, uint16_t packet_id);
/* Ends and frees all subscriptions and what waits for them. */
void hg_mqtt_unsubscribe_all(struct hg_mqtt_session *s);
/* As in struct hg_session_ops. */
void hg_mqtt_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                        struct hg_bytes reason);
void hg_mqtt_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches);

#endif
