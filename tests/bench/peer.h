/* SPDX-License-Identifier: Apache-2.0 */
/* A crowd of clients in one thread: MQTT 3.1.1 and STOMP 1.2 over TCP, TLS and WebSocket, HTTP POSTs, server-sent events. They
 * connect, may subscribe, publish, and say what comes back. */
#ifndef HG_BENCH_PEER_H
#define HG_BENCH_PEER_H

#include "conn.h"
#include "wire.h"

enum peer_state {
    PEER_OPENING,
    PEER_UPGRADING,
    PEER_CONNECTING,
    PEER_SUBSCRIBING,
    PEER_READY,
    PEER_LOST
};

struct peer {
    struct conn conn; /* first: a conn is a peer */
    struct crowd *crowd;
    size_t index;
    enum peer_state state;
    bool is_answered; /* the server has accepted the connection, and said something */
    uint8_t *inner;   /* of WebSocket messages: a packet that is not complete yet */
    size_t inner_n;
    size_t filters_n;
    uint32_t answered_n; /* HTTP: requests, in order; STOMP: filters */
    void *user;          /* the caller's */
};

struct crowd_ops {
    /* Connected, and subscribed if it has filters. */
    void (*on_ready)(struct peer *p);
    /* PUBACK, RECEIPT, or a POST's 202; the number is the one that peer_publish() was given. 0: the answer to peer_ping(). */
    void (*on_confirm)(struct peer *p, uint32_t id);
    /* A delivery; QoS 1 is acknowledged after the call. */
    void (*on_message)(struct peer *p, const uint8_t *body, size_t n);
    /* Writes the k-th filter of a peer; false: there are no more. */
    bool (*filter_of)(const struct peer *p, size_t k, char *out, size_t out_n);
};

struct crowd {
    const struct crowd_ops *ops;
    const struct wire *wire;
    void *ctx; /* the caller's */
    const char *host;
    uint16_t port;
    uint8_t subscribe_qos;
    bool is_retaining; /* MQTT: publishes ask to be retained */
    bool is_kept;      /* MQTT: sessions outlive their connections */
    uint32_t
        client; /* number in the client ids; who has them again takes up, or ends, the sessions */
    const char *path; /* HTTP: POSTs go here; NULL: to /v1/topics/ and the topic */
    const char *authorization;
    struct loop loop;
    struct peer *peers;
    size_t peers_n, started_n, answered_n, ready_n, lost_n;
    uint64_t deliveries_n;
    bool is_leaving; /* whatever comes now is not looked at */
    uint8_t *unit;   /* where packets are put together */
    size_t unit_cap;
};

/* n peers that connect as turns go by, a few hundred at a time. */
void crowd_open(struct crowd *c, size_t n);
void crowd_turn(struct crowd *c, uint64_t wait_ns);
/* Turns until all are ready; ends the program after limit_s seconds, or if one is refused. */
void crowd_wait_ready(struct crowd *c, unsigned limit_s);
void crowd_close(struct crowd *c);

/* Has the peer publish to a topic (a/b/c, whatever its protocol calls it). id: not 0, then the publish is confirmed; of HTTP
 * counted from 1 in order; of MQTT under 65,536. */
void peer_publish(struct peer *p, const char *topic, const void *body, size_t n, uint32_t id);
/* MQTT: asks for a sign that all before it was read. */
void peer_ping(struct peer *p);

#endif
