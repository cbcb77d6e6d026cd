/* SPDX-License-Identifier: Apache-2.0 */
/* An MQTT session's subscriptions: mqtt_subscribe.c, and those to `$SYS/#`: mqtt_sys.c. */
#ifndef HG_MQTT_SUBSCRIBE_H
#define HG_MQTT_SUBSCRIBE_H

#include "adapters/mqtt/mqtt_session_priv.h"

struct hg_mqtt_sub {
    struct hg_sub base;
    union {
        struct hg_queue
            *queue; /* is_shared: the group's, consumed for this subscription; or NULL */
        /* else: of the same filter, bound in another place; ended when this one is live */
        struct hg_mqtt_sub *replaces;
    } u;
    uint32_t subscription_id; /* 0: none */
    uint32_t waiting_n;       /* places in SUBSCRIBEs that wait with it */
    uint16_t filter_n;
    uint8_t qos; /* granted */
    uint8_t retain_handling;
    bool is_no_local : 1, is_retain_as_published : 1;
    bool is_shared : 1;
    bool is_sys : 1;      /* values of this process, nothing in RabbitMQ */
    bool is_on_queue : 1; /* bound to the kept session's queue, not to the feed */
    bool is_granted : 1;  /* a SUBACK said so */
    bool is_restored : 1; /* came back with its session, and RabbitMQ has not answered yet */
    bool is_served : 1;   /* the queue of a shared one is consumed */
    bool is_replaced : 1; /* another one with this filter is to take its place */
    uint8_t filter[];     /* as the client wrote it, $share/… included */
};

/* Part of what an idle connection costs. */
_Static_assert(sizeof(struct hg_mqtt_sub) <= 104, "part of the 1 KiB for an idle connection");

enum hg_status hg_mqtt_on_subscribe(struct hg_mqtt_session *s,
                                    const struct hg_mqtt_subscribe *packet, const char **rule);
enum hg_status hg_mqtt_on_unsubscribe(struct hg_mqtt_session *s,
                                      const struct hg_mqtt_subscribe *packet, const char **rule);
/* Everything up to this number of hg_mqtt_save is in RabbitMQ (OK), or could not be written. */
void hg_mqtt_saved(struct hg_mqtt_session *s, uint32_t number, enum hg_status status);
/* Subscriptions of a kept session come back with it; the queue is open. While is_restoring they are
 * not all live; hg_mqtt_restored follows. */
enum hg_status hg_mqtt_restore_filters(struct hg_mqtt_session *s,
                                       const struct hg_session_filter *filters, size_t n);
bool hg_mqtt_is_restoring(const struct hg_mqtt_session *s);
/* Whether any of them is of QoS 2. */
bool hg_mqtt_takes_exactly_once(const struct hg_mqtt_session *s);
/* All of them for the record: an array of hg_alloc whose texts are the subscriptions'; false: no
 * memory. */
bool hg_mqtt_list_filters(struct hg_mqtt_session *s, struct hg_session_filter **out_own,
                          size_t *n_out);
/* The connection is gone, and the session is kept: ends and frees what waits for an answer and the
 * subscriptions that are not on its queue. */
void hg_mqtt_unsubscribe_fed(struct hg_mqtt_session *s);
/* Ends and frees all subscriptions and what waits for them. */
void hg_mqtt_unsubscribe_all(struct hg_mqtt_session *s);
/* As in struct hg_session_ops. */
void hg_mqtt_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                        struct hg_bytes reason);
/* The same of a session whose connection is gone: nobody is told. */
void hg_mqtt_subscribed_leaving(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                                struct hg_bytes reason);

/* ---- mqtt_sys.c: `$SYS/#`, values of this process ---- */

bool hg_mqtt_sys_is_filter(struct hg_bytes filter); /* can only match $SYS topics */
bool hg_mqtt_sys_is_topic(struct hg_bytes topic);
/* Puts a subscription whose filter is one of $SYS in this worker's index and nowhere else: it is
 * live with OK, subscribed() is not called, hg_unsubscribe ends it. Values follow through
 * hg_mqtt_deliver every mqtt.sys_interval. */
enum hg_status hg_mqtt_sys_subscribe(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                                     const char **why_out);
/* The present values to this one, as retained messages; to be called where hg_retained_serve is
 * for others, when SUBACK is on its way. */
void hg_mqtt_sys_serve(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub);

#endif
