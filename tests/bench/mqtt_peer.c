/* SPDX-License-Identifier: Apache-2.0 */
/* Many MQTT 3.1.1 clients in one thread. */
#include "mqtt_peer.h"

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 4 << 20,
    READ_BYTES = 1 << 16,
    CONNECTING_MAX = 256,
    PORTS_PER_ADDRESS = 20000
};

static uint8_t *out_room(struct mqtt_peer *p, size_t n)
{
    if (p->out_cap - p->out_n < n) {
        p->out_cap = (p->out_n + n) * 2;
        p->out = realloc(p->out, p->out_cap);
        if (p->out == NULL) {
            bench_die("no memory to write");
        }
    }
    if (!p->is_dirty && !p->waits_for_room) {
        p->is_dirty = true;
        p->load->dirty[p->load->dirty_n++] = p;
    }
    return p->out + p->out_n;
}

static void put(struct mqtt_peer *p, const void *bytes, size_t n)
{
    memcpy(out_room(p, n), bytes, n);
    p->out_n += n;
}

static void put_u16(struct mqtt_peer *p, size_t v)
{
    put(p, (uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static void put_str(struct mqtt_peer *p, const char *s)
{
    put_u16(p, strlen(s));
    put(p, s, strlen(s));
}

/* Fixed header: type and flags, remaining length (MQTT 3.1.1 section 2.2). */
static void put_head(struct mqtt_peer *p, uint8_t first, size_t remaining_n)
{
    uint8_t head[5] = {first};
    size_t n = 1;
    do {
        head[n] = (uint8_t)(remaining_n & 0x7f);
        remaining_n >>= 7;
        head[n++] |= remaining_n > 0 ? 0x80 : 0;
    } while (remaining_n > 0);
    put(p, head, n);
}

static void put_connect(struct mqtt_peer *p)
{
    char id[40];
    (void)snprintf(id, sizeof(id), "load-%d-%zu", (int)getpid(), p->index);
    put_head(p, 0x10, 10 + 2 + strlen(id));
    put(p, "\0\4MQTT\4\2\0\0", 10); /* level 4, clean session, keep-alive 0 */
    put_str(p, id);
}

static void put_subscribe(struct mqtt_peer *p, const char *filter)
{
    put_head(p, 0x82, 2 + 2 + strlen(filter) + 1);
    put_u16(p, 1);
    put_str(p, filter);
    put(p, &p->load->subscribe_qos, 1);
}

void mqtt_peer_publish(struct mqtt_peer *p, const char *topic, const void *body, size_t n,
                       uint8_t qos, uint16_t id)
{
    put_head(p, (uint8_t)(0x30 | qos << 1), 2 + strlen(topic) + (qos > 0 ? 2 : 0) + n);
    put_str(p, topic);
    if (qos > 0) {
        put_u16(p, id);
    }
    put(p, body, n);
}

static void lose(struct mqtt_peer *p, const char *why)
{
    if (p->state != PEER_READY) {
        bench_die("peer %zu was refused: %s", p->index, why);
    }
    (void)close(p->fd);
    p->state = PEER_LOST;
    p->out_n = 0;
    p->load->lost_n++;
    p->load->ready_n--;
}

static void become_ready(struct mqtt_peer *p)
{
    p->state = PEER_READY;
    p->load->ready_n++;
    if (p->load->ops->on_ready != NULL) {
        p->load->ops->on_ready(p);
    }
}

static void on_publish(struct mqtt_peer *p, uint8_t flags, const uint8_t *at, size_t n)
{
    size_t topic_n = n < 2 ? SIZE_MAX : (size_t)at[0] << 8 | at[1];
    size_t head_n = 2 + topic_n + ((flags & 6) != 0 ? 2 : 0);
    if (topic_n == SIZE_MAX || n < head_n) {
        bench_die("malformed PUBLISH");
    }
    p->load->deliveries_n++;
    if (p->load->ops->on_message != NULL) {
        p->load->ops->on_message(p, at + head_n, n - head_n);
    }
    if ((flags & 6) != 0) {
        put(p, (uint8_t[]){0x40, 2, at[head_n - 2], at[head_n - 1]}, 4);
    }
}

static void on_packet(struct mqtt_peer *p, uint8_t first, const uint8_t *at, size_t n)
{
    char filter[128];
    switch (first >> 4) {
    case 2: /* CONNACK */
        if (n != 2 || at[1] != 0) {
            lose(p, "CONNACK says no");
        } else if (p->load->ops->filter_of != NULL &&
                   p->load->ops->filter_of(p, filter, sizeof(filter))) {
            p->state = PEER_SUBACK;
            put_subscribe(p, filter);
        } else {
            become_ready(p);
        }
        break;
    case 3: on_publish(p, first, at, n); break;
    case 4: /* PUBACK */
        if (n == 2 && p->load->ops->on_puback != NULL) {
            p->load->ops->on_puback(p, (uint16_t)(at[0] << 8 | at[1]));
        }
        break;
    case 9: /* SUBACK */
        if (n != 3 || at[2] > 1) {
            lose(p, "SUBACK says no");
        } else {
            become_ready(p);
        }
        break;
    default: bench_die("unexpected packet 0x%02x", first);
    }
}

/* Bytes of the first packet in at[0 … n), with the length of its fixed header; 0 if it is not complete. */
static size_t packet_bytes(const uint8_t *at, size_t n, size_t *head_n)
{
    size_t remaining_n = 0;
    for (size_t i = 1; i < 5; i++) {
        if (i >= n) {
            return 0;
        }
        remaining_n |= (size_t)(at[i] & 0x7f) << (7 * (i - 1));
        if ((at[i] & 0x80) == 0) {
            *head_n = i + 1;
            return n < i + 1 + remaining_n ? 0 : i + 1 + remaining_n;
        }
    }
    bench_die("malformed remaining length");
}

static void keep_rest(struct mqtt_peer *p, const uint8_t *at, size_t n)
{
    if (n == 0) {
        free(p->rest);
        p->rest = NULL;
    } else {
        uint8_t *rest = bench_alloc(n);
        memcpy(rest, at, n);
        free(p->rest);
        p->rest = rest;
    }
    p->rest_n = n;
}

static void on_readable(struct mqtt_peer *p)
{
    uint8_t *at = p->load->scratch;
    if (p->rest_n + READ_BYTES > SCRATCH_BYTES) {
        bench_die("a packet of more than %d bytes", SCRATCH_BYTES - READ_BYTES);
    }
    if (p->rest_n > 0) {
        memcpy(at, p->rest, p->rest_n);
    }
    ssize_t got = read(p->fd, at + p->rest_n, READ_BYTES);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            lose(p, got == 0 ? "closed" : strerror(errno));
        }
        return;
    }
    size_t n = p->rest_n + (size_t)got;
    size_t head_n;
    size_t packet_n;
    while (p->state != PEER_LOST && (packet_n = packet_bytes(at, n, &head_n)) > 0) {
        on_packet(p, at[0], at + head_n, packet_n - head_n);
        at += packet_n;
        n -= packet_n;
    }
    keep_rest(p, at, n);
}

static void watch(struct mqtt_peer *p, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = p};
    if (epoll_ctl(p->load->epoll, op, p->fd, &ev) != 0) {
        bench_die("epoll_ctl: %s", strerror(errno));
    }
}

static void flush(struct mqtt_peer *p)
{
    if (p->state == PEER_LOST || p->state == PEER_CONNECTING) {
        return;
    }
    ssize_t n = write(p->fd, p->out, p->out_n);
    if (n < 0 && errno != EAGAIN) {
        lose(p, strerror(errno));
        return;
    }
    size_t left_n = p->out_n - (n < 0 ? 0 : (size_t)n);
    memmove(p->out, p->out + (p->out_n - left_n), left_n);
    p->out_n = left_n;
    if (p->waits_for_room != (left_n > 0)) {
        p->waits_for_room = left_n > 0;
        watch(p, EPOLL_CTL_MOD, left_n > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

/* The system has some 28,000 local ports for each address, so source addresses change along 127.0.0.0/8. */
static void start_connect(struct mqtt_peer *p)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(p->load->port)};
    if (inet_pton(AF_INET, p->load->host, &to.sin_addr) != 1) {
        bench_die("%s is not an IPv4 address", p->load->host);
    }
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (p->fd < 0) {
        bench_die("socket: %s", strerror(errno));
    }
    size_t source = p->index / PORTS_PER_ADDRESS;
    if (source > 0) {
        struct sockaddr_in from = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(0x7f000001 + (uint32_t)source)};
        if (bind(p->fd, (struct sockaddr *)&from, sizeof(from)) != 0) {
            bench_die("bind: %s", strerror(errno));
        }
    }
    (void)setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(p->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) {
        bench_die("connect: %s", strerror(errno));
    }
    p->state = PEER_CONNECTING;
    watch(p, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    p->waits_for_room = true;
}

static void on_writable(struct mqtt_peer *p)
{
    if (p->state == PEER_CONNECTING) {
        int wrong = 0;
        socklen_t n = sizeof(wrong);
        if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &wrong, &n) != 0 || wrong != 0) {
            bench_die("peer %zu cannot connect: %s", p->index, strerror(wrong));
        }
        p->state = PEER_CONNACK;
        put_connect(p);
    }
    flush(p);
}

void mqtt_load_open(struct mqtt_load *load, size_t n)
{
    load->epoll = epoll_create1(0);
    if (load->epoll < 0) {
        bench_die("epoll_create1: %s", strerror(errno));
    }
    load->peers = bench_alloc(n * sizeof(*load->peers));
    load->dirty = bench_alloc(n * sizeof(struct mqtt_peer *));
    load->scratch = bench_alloc(SCRATCH_BYTES);
    load->peers_n = n;
    for (size_t i = 0; i < n; i++) {
        load->peers[i] = (struct mqtt_peer){.load = load, .index = i, .fd = -1};
    }
}

void mqtt_load_turn(struct mqtt_load *load, int wait_ms)
{
    struct epoll_event events[512];
    while (load->started_n < load->peers_n &&
           load->started_n - load->ready_n - load->lost_n < CONNECTING_MAX) {
        start_connect(&load->peers[load->started_n++]);
    }
    int n = epoll_wait(load->epoll, events, 512, load->dirty_n > 0 ? 0 : wait_ms);
    for (int i = 0; i < n; i++) {
        struct mqtt_peer *p = events[i].data.ptr;
        if ((events[i].events & EPOLLOUT) != 0) {
            on_writable(p);
        }
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && p->state != PEER_LOST) {
            on_readable(p);
        }
    }
    for (size_t i = 0; i < load->dirty_n; i++) {
        load->dirty[i]->is_dirty = false;
        flush(load->dirty[i]);
    }
    load->dirty_n = 0;
}

void mqtt_load_wait_ready(struct mqtt_load *load, unsigned limit_s)
{
    uint64_t end_ns = bench_now_ns() + limit_s * 1000000000ULL;
    while (load->ready_n < load->peers_n) {
        mqtt_load_turn(load, 100);
        if (load->lost_n > 0 || bench_now_ns() > end_ns) {
            bench_die("%zu of %zu connections are ready, %zu lost", load->ready_n, load->peers_n,
                      load->lost_n);
        }
    }
}

void mqtt_load_close(struct mqtt_load *load)
{
    for (size_t i = 0; i < load->peers_n; i++) {
        struct mqtt_peer *p = &load->peers[i];
        if (p->state == PEER_READY) {
            /* DISCONNECT */
            (void)!write(p->fd, "\xe0\x00", 2);
            (void)close(p->fd);
        }
        free(p->out);
        free(p->rest);
    }
    free(load->peers);
    free(load->dirty);
    free(load->scratch);
    (void)close(load->epoll);
}
