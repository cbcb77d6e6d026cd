/* SPDX-License-Identifier: Apache-2.0 */
/* What mqtt_session.c (connecting, publishing) and mqtt_subscribe.c (subscribing, delivering)
 * share. */
#ifndef HG_MQTT_SESSION_PRIV_H
#define HG_MQTT_SESSION_PRIV_H

#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/mqtt/mqtt_flow.h"
#include "base/wheel.h"
#include "core/conn.h"
#include "core/directory.h"
#include "core/worker.h"

struct mqtt_will {
    uint16_t topic_n;
    uint8_t qos;
    bool is_retained;
    uint32_t message_n;
    uint8_t bytes[]; /* topic, then message */
};

/* A subscription; the filter itself is in the index. */
struct mqtt_sub {
    struct hg_sub sub;
    uint32_t filter_hash; /* to find it by its filter */
    uint8_t qos;          /* granted */
};

/* A SUBSCRIBE whose bindings RabbitMQ has not all answered. */
struct mqtt_suback {
    struct hg_list link; /* in mqtt_session.subacks */
    uint16_t packet_id;
    uint32_t n, waiting_n;
    uint8_t *codes;          /* n, behind subs */
    struct mqtt_sub *subs[]; /* n: NULL where the code is final */
};

enum mqtt_state { MQTT_NEW, MQTT_CLAIMING, MQTT_CONNECTED, MQTT_LEAVING };

struct mqtt_session {
    struct hg_session session;
    struct hg_claim claim;
    struct hg_timer timer; /* connect time-out, then keep-alive */
    struct hg_list subacks;
    struct mqtt_will *will;  /* NULL: none (any more) */
    struct hg_mqtt_in *in;   /* NULL until the first publish with QoS > 0 */
    struct hg_mqtt_out *out; /* NULL until the first delivery with QoS 1 */
    char *client_id;
    uint16_t client_id_n, keep_alive_s;
    uint8_t state; /* enum mqtt_state */
    bool is_draining;
    struct hg_mqtt_decoder decoder;
};

static inline struct mqtt_session *mqtt_of(struct hg_session *s)
{
    return (struct mqtt_session *)s; /* its first member */
}

static inline struct hg_bytes mqtt_client_id(const struct mqtt_session *m)
{
    return hg_bytes(m->client_id, m->client_id_n);
}

static inline struct hg_proto_metrics *mqtt_metrics(const struct mqtt_session *m)
{
    return &m->session.worker->metrics.proto[HG_PROTO_MQTT];
}

/* Sends a small packet. A failed allocation ends the connection: the client would wait for ever. */
void mqtt_send(struct mqtt_session *m, struct hg_bytes packet);

/* mqtt_subscribe.c: the session's ops and packets that have to do with subscriptions. Each returns
 * HG_OK or why the connection ends (*rule: text). */
enum hg_status mqtt_on_subscribe(struct mqtt_session *m, const struct hg_mqtt_subscribe *packet,
                                 const char **rule);
enum hg_status mqtt_on_unsubscribe(struct mqtt_session *m, const struct hg_mqtt_subscribe *packet);
void mqtt_on_puback(struct mqtt_session *m, uint16_t packet_id);
void mqtt_subscribed(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                     struct hg_bytes reason);
void mqtt_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches);
/* Frees subscriptions and what waits for them. */
void mqtt_forget_subscriptions(struct mqtt_session *m);

#endif
