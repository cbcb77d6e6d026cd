/* SPDX-License-Identifier: Apache-2.0 */
/* Many MQTT 3.1.1 clients in one thread, over epoll, for load: they connect with keep-alive 0, may subscribe to one filter, publish. */
#ifndef HG_BENCH_MQTT_PEER_H
#define HG_BENCH_MQTT_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mqtt_peer_state {
    PEER_NEW,
    PEER_CONNECTING,
    PEER_CONNACK,
    PEER_SUBACK,
    PEER_READY,
    PEER_LOST
};

struct mqtt_peer {
    struct mqtt_load *load;
    size_t index;
    int fd;
    enum mqtt_peer_state state;
    bool is_dirty; /* in load->dirty: has bytes to write */
    bool waits_for_room;
    uint8_t *out; /* bytes not written yet */
    size_t out_n, out_cap;
    uint8_t *rest; /* of a packet not complete yet */
    size_t rest_n;
    void *user; /* the caller's */
};

struct mqtt_load_ops {
    /* Connected, and subscribed if it has a filter. */
    void (*on_ready)(struct mqtt_peer *p);
    void (*on_puback)(struct mqtt_peer *p, uint16_t id);
    /* A delivery; QoS 1 is acknowledged after the call. */
    void (*on_message)(struct mqtt_peer *p, const uint8_t *body, size_t n);
    /* Writes the filter that a peer subscribes to; false: none. */
    bool (*filter_of)(const struct mqtt_peer *p, char *out, size_t out_n);
};

struct mqtt_load {
    const struct mqtt_load_ops *ops;
    void *ctx; /* the caller's */
    const char *host;
    uint16_t port;
    uint8_t subscribe_qos;
    int epoll;
    struct mqtt_peer *peers;
    size_t peers_n, started_n, ready_n, lost_n;
    struct mqtt_peer **dirty;
    size_t dirty_n;
    uint8_t *scratch; /* where every socket is read into */
    uint64_t deliveries_n;
};

/* n peers that connect as turns go by, a few hundred at a time. */
void mqtt_load_open(struct mqtt_load *load, size_t n);
/* Waits for sockets at most wait_ms, reads, calls, writes. */
void mqtt_load_turn(struct mqtt_load *load, int wait_ms);
/* Turns until all are ready; ends the program after limit_s seconds, or if one is refused. */
void mqtt_load_wait_ready(struct mqtt_load *load, unsigned limit_s);
/* Puts a PUBLISH into the peer's buffer; id is ignored at QoS 0. */
void mqtt_peer_publish(struct mqtt_peer *p, const char *topic, const void *body, size_t n,
                       uint8_t qos, uint16_t id);
void mqtt_load_close(struct mqtt_load *load);

#endif
