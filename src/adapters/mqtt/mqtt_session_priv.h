/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of an MQTT session share. Connecting, keeping and leaving: mqtt_connect.c,
 * mqtt_persist.c, mqtt_session.c. The client's publishes: mqtt_publish.c. Subscribing and
 * delivering: mqtt_subscribe.c, mqtt_deliver.c, mqtt_sys.c. */
#ifndef HG_MQTT_SESSION_PRIV_H
#define HG_MQTT_SESSION_PRIV_H

#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/mqtt/mqtt_inflow.h"
#include "adapters/mqtt/mqtt_outflow.h"
#include "adapters/mqtt/mqtt_property.h"
#include "adapters/mqtt/mqtt_reason.h"
#include "base/map.h"
#include "base/wheel.h"
#include "core/conn.h"
#include "core/directory.h"
#include "core/queue.h"
#include "core/state.h"
#include "core/worker.h"

/* What CONNECT said and later packets need. Client identifier and user name stand behind each
 * other. */
struct hg_mqtt_client {
    uint16_t id_n, user_n;
    bool is_id_made; /* by the gateway: the client said none */
    uint8_t text[];
};

/* Topic, properties (as on the wire) and payload stand behind each other. */
struct hg_mqtt_will {
    uint32_t properties_n, payload_n, delay_s;
    uint16_t topic_n;
    uint8_t qos;
    bool is_retained;
    uint8_t text[];
};

struct hg_mqtt_inbound;
struct hg_mqtt_persist;   /* mqtt_persist.c: of a session that outlives its connection */
struct hg_mqtt_aliases;   /* the client's topic aliases; mqtt_publish.c */
struct hg_mqtt_alias_out; /* those towards it; mqtt_alias.h */

enum { HG_MQTT_REPLIES = 64 };

/* What only a 5.0 client has. */
struct hg_mqtt_v5 {
    uint16_t receive_maximum;  /* the client's: deliveries with QoS > 0 in flight at most */
    uint16_t alias_max_out;    /* topic aliases that the client takes */
    uint32_t max_packet_bytes; /* that the client takes; UINT32_MAX: any */
    uint32_t session_expiry_s; /* as CONNECT, or DISCONNECT, asked for */
    uint32_t no_local_n;       /* subscriptions that do not want their own messages */
    bool wants_problem_information;
    bool is_keep_alive_ours;    /* shorter than what the client asked for */
    struct hg_mqtt_aliases *in; /* NULL until one is used, as is the next */
    struct hg_mqtt_alias_out *out;
    /* reply queues shown to this client as `$reply/<n>`, n counting up, the last HG_MQTT_REPLIES of
     * them; NULL until the first */
    struct hg_buf **replies;
    uint64_t replies_n;
};

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

enum hg_mqtt_state {
    HG_MQTT_NEW,
    HG_MQTT_CLAIMING,
    HG_MQTT_CONNECTED,
    HG_MQTT_LEAVING /* the connection is gone (no conn), the session writes down where it stood */
};

struct hg_mqtt_session {
    struct hg_session base;
    struct hg_claim claim;           /* on the client identifier */
    struct hg_timer timer;           /* the time for CONNECT, then keep-alive */
    struct hg_list subacks;          /* SUBSCRIBEs that RabbitMQ has not answered */
    struct hg_map *by_filter;        /* NULL while the subscriptions are few */
    struct hg_mqtt_client *client;   /* NULL until CONNECT */
    struct hg_mqtt_will *will;       /* NULL: none (any more) */
    struct hg_mqtt_in *in;           /* NULL until the first publish with QoS > 0 */
    struct hg_mqtt_out *out;         /* NULL until the first delivery with QoS > 0 */
    struct hg_mqtt_v5 *v5;           /* NULL below 5.0 */
    struct hg_mqtt_persist *persist; /* NULL: ends with its connection */
    uint16_t keep_alive_s;           /* 0: none */
    struct hg_mqtt_decoder decoder;
    uint8_t state; /* enum hg_mqtt_state */
    uint8_t subacks_n;
    bool is_draining;
    bool was_held; /* since the keep-alive timer was last set */
};

/* An idle connection with one subscription costs these two and the text of its filter, client
 * identifier and user name. */
_Static_assert(sizeof(struct hg_mqtt_session) <= 248, "part of the 1 KiB for an idle connection");
_Static_assert(sizeof(struct hg_mqtt_sub) <= 104, "part of the 1 KiB for an idle connection");

/* ---- mqtt_session.c ---- */

struct hg_mqtt_session *hg_mqtt_session_of(struct hg_session *base);
struct hg_bytes hg_mqtt_client_id(const struct hg_mqtt_session *s); /* empty before CONNECT */
struct hg_bytes hg_mqtt_user(const struct hg_mqtt_session *s);
struct hg_proto_metrics *hg_mqtt_metrics(const struct hg_mqtt_session *s);
/* Without memory for the answer that a client waits for, the connection ends. */
void hg_mqtt_send(struct hg_mqtt_session *s, struct hg_bytes packet);
/* Sends what a writer holds, and closes it. */
void hg_mqtt_send_written(struct hg_mqtt_session *s, struct hg_writer *w_own);
/* The time until the client must be heard starts anew. */
void hg_mqtt_start_keep_alive(struct hg_mqtt_session *s);
/* Frees the session, which no connection has any more. */
void hg_mqtt_free(struct hg_mqtt_session *s);
/* Ends the connection: to a 5.0 client with DISCONNECT, `reason` (0: the one for `why`) and a
 * reason string (NULL: none). The will is published unless it is forgotten. */
void hg_mqtt_end(struct hg_mqtt_session *s, uint8_t reason, enum hg_status why, const char *text);
/* PUBACK, PUBREC, PUBREL, PUBCOMP; the reason and its string (may be empty) to 5.0 clients only. */
void hg_mqtt_send_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type, uint16_t packet_id,
                      uint8_t reason, struct hg_bytes text);

/* ---- mqtt_connect.c ---- */

/* HELD: nothing was used; else anything but OK ends the connection, and *rule says why. */
enum hg_status hg_mqtt_on_connect(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                                  const char **rule);
/* CONNACK with success: the client may begin. */
void hg_mqtt_accept(struct hg_mqtt_session *s, bool is_present);
/* CONNACK with the code for `status`, then the end; text is for people, NULL: the status's. */
void hg_mqtt_refuse(struct hg_mqtt_session *s, enum hg_status status, const char *text);
void hg_mqtt_forget_will(struct hg_mqtt_session *s);
/* The connection has ended: publishes the will if there is one. */
void hg_mqtt_publish_will(struct hg_mqtt_session *s);
/* The will for the record; slices borrow from the session and from *scratch. False: there is none. */
bool hg_mqtt_will_for_record(const struct hg_mqtt_session *s, struct hg_mqtt_inbound *scratch,
                             struct hg_session_will *out);

/* ---- mqtt_persist.c ---- */

/* How long the session is kept after its connection, as the configuration has it. 3.x:
 * asked_s is 0 or UINT32_MAX. */
uint32_t hg_mqtt_expiry_s(const struct hg_mqtt_session *s, uint32_t asked_s);
/* For CONNECT: this session goes on from an earlier one, or is kept after its connection, or both.
 * False when there is no memory. */
bool hg_mqtt_persist_open(struct hg_mqtt_session *s, uint32_t expiry_s, bool is_clean);
/* The client identifier is ours: finds, claims and opens what is kept, then accepts or refuses. */
void hg_mqtt_persist_start(struct hg_mqtt_session *s);
/* A session that begins anew and ends with its connection: an earlier one that is kept goes first,
 * and the client is accepted then. False: there is none. */
bool hg_mqtt_persist_discard(struct hg_mqtt_session *s);
/* DISCONNECT changed it. */
void hg_mqtt_persist_set_expiry(struct hg_mqtt_session *s, uint32_t expiry_s);
/* The connection is gone. True: the session stays, and frees itself when RabbitMQ has its record.
 * Decides about the will. */
bool hg_mqtt_persist_leave(struct hg_mqtt_session *s);
/* Of a leaving session: nothing of what the client published is under way any more. */
void hg_mqtt_persist_settled(struct hg_mqtt_session *s);
/* A delivery that came before CONNACK waits for it: true. */
bool hg_mqtt_persist_keeps(struct hg_mqtt_session *s, const struct hg_delivery *d);
void hg_mqtt_persist_free(struct hg_mqtt_session *s);
/* The session's queue; NULL where it has none. */
struct hg_queue *hg_mqtt_queue(const struct hg_mqtt_session *s);
/* Its subscriptions have changed: writes its record (once per turn). Returns the number that
 * hg_mqtt_saved (mqtt_subscribe.c) is told when RabbitMQ has it; 0: there is nothing to wait for. */
uint32_t hg_mqtt_save(struct hg_mqtt_session *s);

/* The last subscription that came back with the session has RabbitMQ's answer. */
void hg_mqtt_restored(struct hg_mqtt_session *s);

/* ---- mqtt_publish.c ---- */

enum hg_status hg_mqtt_on_publish(struct hg_mqtt_session *s, const struct hg_mqtt_publish *p,
                                  const char **rule);
enum hg_status hg_mqtt_on_pubrel(struct hg_mqtt_session *s, const struct hg_mqtt_ack *ack,
                                 const char **rule);
void hg_mqtt_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                     struct hg_bytes reason);
/* Of this client's publishes none is under way. */
bool hg_mqtt_is_settled(const struct hg_mqtt_session *s);
void hg_mqtt_forget_publishes(struct hg_mqtt_session *s); /* frees s->in and its aliases */
void hg_mqtt_log_refused(struct hg_mqtt_session *s, struct hg_bytes topic, uint16_t packet_id,
                         enum hg_status status, struct hg_bytes reason);

/* ---- mqtt_subscribe.c ---- */

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

/* ---- mqtt_deliver.c ---- */

/* Deliveries with QoS > 0 that may be in flight: the prefetch of the session's queues. At least 1. */
uint16_t hg_mqtt_inflight_max(const struct hg_mqtt_session *s);

/* PUBACK, PUBREC, PUBCOMP. OK, or what ends the connection, and *rule says why. */
enum hg_status hg_mqtt_on_ack(struct hg_mqtt_session *s, enum hg_mqtt_type type,
                              const struct hg_mqtt_ack *ack, const char **rule);
/* A kept session goes on: what was in flight when its connection ended. is_unclean: nobody could
 * write that down, so the client may remember identifiers that are not in the list. Sends PUBREL for
 * the released ones. */
enum hg_status hg_mqtt_resume_deliveries(struct hg_mqtt_session *s, const struct hg_session_tx *tx,
                                         size_t n, bool is_unclean);
/* For the record, an array of hg_alloc; false: no memory. */
bool hg_mqtt_list_deliveries(const struct hg_mqtt_session *s, struct hg_session_tx **out_own,
                             size_t *n_out);
/* The session's queue was consumed anew: tickets from before are stale. */
void hg_mqtt_deliveries_are_stale(struct hg_mqtt_session *s, struct hg_queue *queue);
/* The queue of a shared subscription is given up: what is not answered goes to others. */
void hg_mqtt_forget_queue(struct hg_mqtt_session *s, struct hg_queue *queue);
void hg_mqtt_forget_deliveries(struct hg_mqtt_session *s); /* frees s->out and out aliases */
/* As in struct hg_session_ops. */
void hg_mqtt_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches);
bool hg_mqtt_wants_more(struct hg_session *base);
void hg_mqtt_drained(struct hg_session *base);

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
