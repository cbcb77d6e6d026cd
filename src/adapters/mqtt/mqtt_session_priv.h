/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of an MQTT session share. Connecting, keeping and leaving: mqtt_connect.c,
 * mqtt_persist.c, mqtt_session.c. The client's publishes: mqtt_publish.c. Subscribing:
 * mqtt_subscribe.h. Delivering: mqtt_deliver.h. */
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
#include "core/login.h"
#include "core/queue.h"
#include "core/state.h"
#include "core/worker.h"

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

/* The Authentication Method (5.0 section 4.12) whose data is a token. */
#define HG_MQTT_BEARER HG_BYTES("bearer")

/* What only a 5.0 client has. */
struct hg_mqtt_v5 {
    uint16_t receive_maximum;  /* the client's: deliveries with QoS > 0 in flight at most */
    uint16_t alias_max_out;    /* topic aliases that the client takes */
    uint32_t max_packet_bytes; /* that the client takes; UINT32_MAX: any */
    uint32_t session_expiry_s; /* as CONNECT, or DISCONNECT, asked for */
    uint32_t no_local_n;       /* subscriptions that do not want their own messages */
    bool wants_problem_information;
    bool is_bearer;             /* logged in by HG_MQTT_BEARER, and may do so again */
    bool is_keep_alive_ours;    /* shorter than what the client asked for */
    struct hg_mqtt_aliases *in; /* NULL until one is used, as is the next */
    struct hg_mqtt_alias_out *out;
    /* reply queues shown to this client as `$reply/<n>`, n counting up, the last HG_MQTT_REPLIES of
     * them; NULL until the first */
    struct hg_buf **replies;
    uint64_t replies_n;
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
    struct hg_chain subacks;         /* SUBSCRIBEs that RabbitMQ has not answered */
    struct hg_map *by_filter;        /* NULL while the subscriptions are few */
    char *user;                      /* of CONNECT; NULL: it said none */
    struct hg_mqtt_will *will;       /* NULL: none (any more) */
    struct hg_mqtt_in *in;           /* NULL until the first publish with QoS > 0 */
    struct hg_mqtt_out *out;         /* NULL until the first delivery with QoS > 0 */
    struct hg_mqtt_v5 *v5;           /* NULL below 5.0 */
    struct hg_mqtt_persist *persist; /* NULL: ends with its connection */
    uint16_t keep_alive_s;           /* 0: none */
    struct hg_mqtt_decoder decoder;
    uint8_t state; /* enum hg_mqtt_state */
    uint8_t subacks_n;
    bool is_id_made : 1; /* the client identifier, by the gateway: the client said none */
    bool is_draining : 1;
    bool was_held : 1; /* since the keep-alive timer was last set */
};

/* An idle connection with one subscription costs these two and the text of its filter and user
 * name. */
_Static_assert(sizeof(struct hg_mqtt_session) <= 232, "part of the 1 KiB for an idle connection");

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
/* AUTH (5.0 section 4.12.1): the client has a newer token. */
enum hg_status hg_mqtt_on_auth(struct hg_mqtt_session *s, const struct hg_mqtt_end *auth,
                               const char **rule);
/* CONNACK with success: the client may begin. */
void hg_mqtt_accept(struct hg_mqtt_session *s, bool is_present);
/* CONNACK with the code for `status`, then the end; text is for people, NULL: the status's. */
void hg_mqtt_refuse(struct hg_mqtt_session *s, enum hg_status status, const char *text);
/* Another user has the client identifier; text says how. The client is told, and has nothing kept. */
void hg_mqtt_refuse_anothers(struct hg_mqtt_session *s, struct hg_bytes client_id,
                             const char *text);
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
/* A session that begins anew and ends with its connection is announced to other processes; an earlier
 * one that is kept goes first, and the client is accepted then, or refused where that is another
 * user's. False: there is none. */
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

#endif
