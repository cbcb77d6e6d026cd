/* SPDX-License-Identifier: Apache-2.0 */
/* A crowd of clients in one thread. */
#include "peer.h"

#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STARTED_MAX = 256, /* that are not ready */
    /* Of these, that have no answer yet: under mosquitto's backlog of 100, or the kernel drops a SYN and
     * the next try a second later is what is measured. */
    UNANSWERED_MAX = 90,
    FILTER_MAX = 160
};

static struct peer *peer_of(struct conn *c)
{
    return (struct peer *)c;
}

/* ---- Packets out */

/* Room for n bytes of a packet that is being put together, at *at_n of it. */
static uint8_t *unit_room(struct crowd *c, size_t at_n, size_t n)
{
    if (c->unit_cap < at_n + n) {
        c->unit_cap = (at_n + n) * 2;
        c->unit = realloc(c->unit, c->unit_cap);
        if (c->unit == NULL) {
            bench_die("no memory for a packet");
        }
    }
    return c->unit + at_n;
}

static size_t unit_add(struct crowd *c, size_t at_n, const void *bytes, size_t n)
{
    memcpy(unit_room(c, at_n, n), bytes, n);
    return at_n + n;
}

static size_t unit_add_str(struct crowd *c, size_t at_n, const char *s)
{
    size_t n = strlen(s);
    uint8_t length[] = {(uint8_t)(n >> 8), (uint8_t)n};
    return unit_add(c, unit_add(c, at_n, length, 2), s, n);
}

/* Sends a head and the packet that was put together: a WebSocket message, or as they are. */
static void send_behind(struct peer *p, const uint8_t *head, size_t head_n, size_t n)
{
    struct crowd *c = p->crowd;
    if (c->wire->is_ws) {
        uint8_t frame[WS_HEAD_MAX];
        uint8_t opcode = c->wire->proto == PROTO_MQTT ? WS_BINARY : WS_TEXT;
        conn_put(&p->conn, frame, ws_head(frame, opcode, head_n + n, true));
    }
    conn_put(&p->conn, head, head_n);
    conn_put(&p->conn, c->unit, n);
}

static void unit_send(struct peer *p, size_t n)
{
    send_behind(p, NULL, 0, n);
}

static void send_mqtt(struct peer *p, uint8_t first, size_t n)
{
    uint8_t head[MQTT_HEAD_MAX];
    send_behind(p, head, mqtt_head(head, first, n), n);
}

static size_t unit_text(struct crowd *c, size_t at_n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static size_t unit_text(struct crowd *c, size_t at_n, const char *fmt, ...)
{
    enum { TEXT_MAX = 1024 };
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf((char *)unit_room(c, at_n, TEXT_MAX), TEXT_MAX, fmt, args);
    va_end(args);
    if (n < 0 || n >= TEXT_MAX) {
        bench_die("a head is too long");
    }
    return at_n + (size_t)n;
}

static void send_connect(struct peer *p)
{
    struct crowd *c = p->crowd;
    p->state = PEER_CONNECTING;
    if (c->wire->proto == PROTO_MQTT) {
        char id[48];
        (void)snprintf(id, sizeof(id), "load-%09u-%08zu", (unsigned)c->client,
                       p->index); /* 23 bytes, as the standard recommends at most */
        size_t n = unit_add(c, 0, c->is_kept ? "\0\4MQTT\4\0\0\0" : "\0\4MQTT\4\2\0\0",
                            10); /* 2: clean session; keep-alive 0 */
        send_mqtt(p, 0x10, unit_add_str(c, n, id));
    } else {
        size_t n = unit_text(c, 0, "CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n\n");
        unit_send(p, unit_add(c, n, "", 1));
    }
}

static void send_upgrade(struct peer *p)
{
    struct crowd *c = p->crowd;
    p->state = PEER_UPGRADING;
    size_t n =
        unit_text(c, 0,
                  "GET /ws HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "Sec-WebSocket-Protocol: %s\r\n\r\n",
                  c->host, c->port, c->wire->proto == PROTO_MQTT ? "mqtt" : "v12.stomp");
    conn_put(&p->conn, c->unit, n);
}

/* STOMP's destination of an MQTT topic or filter, as RabbitMQ's plugin has it: /topic/ and a key. */
static void key_of(const char *topic, char out[FILTER_MAX])
{
    size_t i = 0;
    for (; topic[i] != '\0' && i < FILTER_MAX - 1; i++) {
        out[i] = topic[i] == '/' ? '.' : topic[i] == '+' ? '*' : topic[i];
    }
    out[i] = '\0';
}

/* One SUBSCRIBE of MQTT for all filters; of STOMP one for each, the last with a receipt. */
static bool send_subscribe(struct peer *p)
{
    struct crowd *c = p->crowd;
    char filter[FILTER_MAX];
    char key[FILTER_MAX];
    size_t n = c->wire->proto == PROTO_MQTT ? unit_add(c, 0, "\0\1", 2) : 0;
    size_t k = 0;
    for (; c->ops->filter_of != NULL && c->ops->filter_of(p, k, filter, sizeof(filter)); k++) {
        switch (c->wire->proto) {
        case PROTO_MQTT: n = unit_add(c, unit_add_str(c, n, filter), &c->subscribe_qos, 1); break;
        case PROTO_STOMP:
            key_of(filter, key);
            n = unit_text(c, 0,
                          "SUBSCRIBE\nid:%zu\ndestination:/topic/%s\nack:auto\nreceipt:s%zu\n\n", k,
                          key, k);
            unit_send(p, unit_add(c, n, "", 1));
            break;
        default:
            n = unit_text(
                c, 0, "GET /v1/topics/%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n",
                filter, c->host);
            unit_send(p, n);
        }
    }
    p->filters_n = k;
    if (k > 0) {
        p->state = PEER_SUBSCRIBING;
        if (c->wire->proto == PROTO_MQTT) {
            send_mqtt(p, 0x82, n);
        }
    }
    return k > 0;
}

void peer_publish(struct peer *p, const char *topic, const void *body, size_t n, uint32_t id)
{
    struct crowd *c = p->crowd;
    char key[FILTER_MAX];
    size_t head_n;
    switch (c->wire->proto) {
    case PROTO_MQTT:
        head_n = unit_add_str(c, 0, topic);
        if (id != 0) {
            head_n = unit_add(c, head_n, (uint8_t[]){(uint8_t)(id >> 8), (uint8_t)id}, 2);
        }
        send_mqtt(p, (uint8_t)(0x30 | (id != 0 ? 2 : 0) | (c->is_retaining ? 1 : 0)),
                  unit_add(c, head_n, body, n));
        return;
    case PROTO_STOMP:
        key_of(topic, key);
        head_n = unit_text(c, 0, "SEND\ndestination:/topic/%s\ncontent-length:%zu\npersistent:%s\n",
                           key, n, id != 0 ? "true" : "false");
        head_n =
            id != 0 ? unit_text(c, head_n, "receipt:%u\n\n", id) : unit_add(c, head_n, "\n", 1);
        head_n = unit_add(c, head_n, body, n);
        unit_send(p, unit_add(c, head_n, "", 1));
        return;
    default:
        head_n = c->path != NULL ? unit_text(c, 0, "POST %s HTTP/1.1\r\n", c->path)
                                 : unit_text(c, 0, "POST /v1/topics/%s HTTP/1.1\r\n", topic);
        if (c->authorization != NULL) {
            head_n = unit_text(c, head_n, "Authorization: %s\r\n", c->authorization);
        }
        head_n = unit_text(
            c, head_n, "Host: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
            c->host, n);
        unit_send(p, unit_add(c, head_n, body, n));
    }
}

void peer_ping(struct peer *p)
{
    unit_send(p, unit_add(p->crowd, 0, "\xc0\x00", 2));
}

/* ---- Packets in */

static void note_answer(struct peer *p)
{
    if (!p->is_answered) {
        p->is_answered = true;
        p->crowd->answered_n++;
    }
}

static void become_ready(struct peer *p)
{
    note_answer(p);
    p->state = PEER_READY;
    p->crowd->ready_n++;
    if (p->crowd->ops->on_ready != NULL) {
        p->crowd->ops->on_ready(p);
    }
}

static void on_connected(struct peer *p)
{
    note_answer(p);
    if (!send_subscribe(p)) {
        become_ready(p);
    }
}

static _Noreturn void refuse(const struct peer *p, const uint8_t *at, size_t n)
{
    bench_die("peer %zu was answered: %.*s", p->index, (int)(n < 300 ? n : 300), (const char *)at);
}

static void confirm(struct peer *p, uint32_t id)
{
    if (p->crowd->ops->on_confirm != NULL) {
        p->crowd->ops->on_confirm(p, id);
    }
}

static void deliver(struct peer *p, const uint8_t *body, size_t n)
{
    p->crowd->deliveries_n++;
    if (p->crowd->ops->on_message != NULL) {
        p->crowd->ops->on_message(p, body, n);
    }
}

static void on_mqtt_publish(struct peer *p, uint8_t flags, const uint8_t *at, size_t n)
{
    size_t topic_n = n < 2 ? SIZE_MAX : (size_t)at[0] << 8 | at[1];
    size_t head_n = 2 + topic_n + ((flags & 6) != 0 ? 2 : 0);
    if (topic_n == SIZE_MAX || n < head_n) {
        bench_die("malformed PUBLISH");
    }
    deliver(p, at + head_n, n - head_n);
    if ((flags & 6) != 0) {
        unit_send(p,
                  unit_add(p->crowd, 0, (uint8_t[]){0x40, 2, at[head_n - 2], at[head_n - 1]}, 4));
    }
}

static size_t take_mqtt(struct peer *p, const uint8_t *at, size_t n)
{
    size_t head_n;
    size_t all_n = mqtt_packet(at, n, &head_n);
    if (all_n == 0) {
        return 0;
    }
    const uint8_t *rest = at + head_n;
    switch (at[0] >> 4) {
    case 2: /* CONNACK */
        if (rest[1] != 0) {
            refuse(p, (const uint8_t *)"CONNACK says no", 15);
        }
        on_connected(p);
        break;
    case 3: on_mqtt_publish(p, at[0], rest, all_n - head_n); break;
    case 4: confirm(p, (uint32_t)(rest[0] << 8 | rest[1])); break;
    case 13: confirm(p, 0); break; /* PINGRESP */
    case 9:                        /* SUBACK */
        for (size_t i = 2; i < all_n - head_n; i++) {
            if (rest[i] > 2) {
                refuse(p, (const uint8_t *)"SUBACK says no", 14);
            }
        }
        become_ready(p);
        break;
    default: bench_die("unexpected packet 0x%02x", at[0]);
    }
    return all_n;
}

static size_t take_stomp(struct peer *p, const uint8_t *at, size_t n)
{
    size_t head_n;
    size_t all_n = stomp_frame(at, n, &head_n);
    if (all_n == 0) {
        return 0;
    }
    const uint8_t *command = at;
    while (*command == '\n' || *command == '\r') {
        command++;
    }
    if (memcmp(command, "MESSAGE", 7) == 0) {
        deliver(p, at + head_n, all_n - head_n - 1);
    } else if (memcmp(command, "RECEIPT", 7) == 0) {
        if (p->state == PEER_SUBSCRIBING) {
            if (++p->answered_n == p->filters_n) {
                become_ready(p);
            }
        } else {
            confirm(p, (uint32_t)head_number(command, head_n, "receipt-id:", 0));
        }
    } else if (memcmp(command, "CONNECTED", 9) == 0) {
        on_connected(p);
    } else {
        refuse(p, at, all_n);
    }
    return all_n;
}

static size_t take_http(struct peer *p, const uint8_t *at, size_t n)
{
    size_t head_n = head_bytes(at, n);
    size_t body_n = head_n == 0 ? 0 : head_number(at, head_n, "content-length:", 0);
    if (head_n == 0 || n - head_n < body_n) {
        return 0;
    }
    if (memcmp(at, "HTTP/1.1 2", 10) != 0) {
        refuse(p, at, head_n + body_n);
    }
    confirm(p, ++p->answered_n);
    return head_n + body_n;
}

/* The answer's head, then events. */
static size_t take_sse(struct peer *p, const uint8_t *at, size_t n)
{
    size_t event_n = head_bytes(at, n);
    if (event_n == 0) {
        return 0;
    }
    if (p->state == PEER_SUBSCRIBING) {
        if (memcmp(at, "HTTP/1.1 200", 12) != 0) {
            refuse(p, at, n);
        }
        become_ready(p);
        return event_n;
    }
    const uint8_t *data = memmem(at, event_n, "data: ", 6);
    if (data != NULL) {
        deliver(p, data + 6, event_n - 2 - (size_t)(data + 6 - at));
    }
    return event_n;
}

static size_t take(struct peer *p, const uint8_t *at, size_t n)
{
    static size_t (*const takers[])(struct peer * p, const uint8_t *at,
                                    size_t n) = {[PROTO_MQTT] = take_mqtt,
                                                 [PROTO_STOMP] = take_stomp,
                                                 [PROTO_HTTP] = take_http,
                                                 [PROTO_SSE] = take_sse};
    enum proto proto = p->crowd->wire->proto;
    size_t used_n = 0;
    size_t one_n;
    if (proto == PROTO_SSE && p->filters_n == 0) {
        proto = PROTO_HTTP; /* it publishes */
    }
    while (used_n < n && (one_n = takers[proto](p, at + used_n, n - used_n)) > 0) {
        used_n += one_n;
    }
    return used_n;
}

/* What WebSocket messages hold is a stream of packets, however it is cut. */
static void take_inner(struct peer *p, const uint8_t *at, size_t n)
{
    size_t used_n = p->inner_n == 0 ? take(p, at, n) : 0;
    if (used_n == n) {
        return;
    }
    p->inner = realloc(p->inner, p->inner_n + n - used_n);
    if (p->inner == NULL) {
        bench_die("no memory for a packet");
    }
    memcpy(p->inner + p->inner_n, at + used_n, n - used_n);
    p->inner_n += n - used_n;
    if (used_n == 0) {
        used_n = take(p, p->inner, p->inner_n);
        p->inner_n -= used_n;
        memmove(p->inner, p->inner + used_n, p->inner_n);
    }
}

static size_t take_frame(struct peer *p, uint8_t *at, size_t n)
{
    struct ws_frame frame;
    uint8_t head[WS_HEAD_MAX];
    if (!ws_read(at, n, &frame)) {
        return 0;
    }
    switch (frame.opcode) {
    case WS_CLOSE:
        bench_die("peer %zu got a Close: %u %.*s", p->index,
                  frame.n < 2 ? 0U : (unsigned)(at[frame.head_n] << 8 | at[frame.head_n + 1]),
                  frame.n < 2 ? 0 : (int)frame.n - 2, (const char *)at + frame.head_n + 2);
    case WS_PING:
        conn_put(&p->conn, head, ws_head(head, WS_PONG, frame.n, true));
        conn_put(&p->conn, at + frame.head_n, frame.n);
        break;
    case WS_PONG: break;
    default: take_inner(p, at + frame.head_n, frame.n);
    }
    return frame.head_n + frame.n;
}

static size_t take_upgrade(struct peer *p, const uint8_t *at, size_t n)
{
    size_t head_n = head_bytes(at, n);
    if (head_n > 0) {
        if (memcmp(at, "HTTP/1.1 101", 12) != 0) {
            refuse(p, at, n);
        }
        send_connect(p);
    }
    return head_n;
}

static size_t on_bytes(struct conn *c, uint8_t *at, size_t n)
{
    struct peer *p = peer_of(c);
    if (p->crowd->is_leaving) {
        return n; /* goodbyes */
    }
    size_t used_n = p->state == PEER_UPGRADING ? take_upgrade(p, at, n) : 0;
    if (!p->crowd->wire->is_ws) {
        return take(p, at, n);
    }
    size_t one_n;
    while (p->state != PEER_UPGRADING && used_n < n &&
           (one_n = take_frame(p, at + used_n, n - used_n)) > 0) {
        used_n += one_n;
    }
    return used_n;
}

static void on_open(struct conn *c)
{
    struct peer *p = peer_of(c);
    if (p->crowd->wire->is_ws) {
        send_upgrade(p);
    } else if (p->crowd->wire->proto == PROTO_HTTP) {
        become_ready(p);
    } else if (p->crowd->wire->proto == PROTO_SSE) {
        on_connected(p);
    } else {
        send_connect(p);
    }
}

static void on_lost(struct conn *c, const char *why)
{
    struct peer *p = peer_of(c);
    if (p->state != PEER_READY) {
        bench_die("peer %zu was refused: %s", p->index, why);
    }
    p->state = PEER_LOST;
    p->crowd->lost_n++;
    p->crowd->ready_n--;
}

static const struct conn_ops conn_ops = {on_open, on_bytes, on_lost};

/* ---- The crowd */

void crowd_open(struct crowd *c, size_t n)
{
    loop_open(&c->loop, c->host, c->port, c->wire->is_tls);
    c->peers = bench_alloc(n * sizeof(*c->peers));
    c->peers_n = n;
}

void crowd_turn(struct crowd *c, uint64_t wait_ns)
{
    while (c->started_n < c->peers_n && c->started_n - c->ready_n - c->lost_n < STARTED_MAX &&
           c->started_n - c->answered_n < UNANSWERED_MAX) {
        struct peer *p = &c->peers[c->started_n];
        p->crowd = c;
        p->index = c->started_n++;
        conn_open(&c->loop, &p->conn, &conn_ops);
    }
    loop_turn(&c->loop, wait_ns);
}

void crowd_wait_ready(struct crowd *c, unsigned limit_s)
{
    uint64_t end_ns = bench_now_ns() + limit_s * 1000000000ULL;
    while (c->ready_n < c->peers_n) {
        crowd_turn(c, 100000000);
        if (c->lost_n > 0 || bench_now_ns() > end_ns) {
            bench_die("%zu of %zu connections are ready, %zu lost", c->ready_n, c->peers_n,
                      c->lost_n);
        }
    }
}

void crowd_close(struct crowd *c)
{
    c->is_leaving = true;
    for (size_t i = 0; i < c->peers_n; i++) {
        struct peer *p = &c->peers[i];
        if (p->state == PEER_READY) {
            if (c->wire->proto == PROTO_MQTT) {
                unit_send(p, unit_add(c, 0, "\xe0\x00", 2)); /* DISCONNECT */
            } else if (c->wire->proto == PROTO_STOMP) {
                unit_send(p, unit_add(c, 0, "DISCONNECT\n\n", 13));
            }
        }
    }
    loop_turn(&c->loop, 0);
    for (size_t i = 0; i < c->peers_n; i++) {
        conn_close(&c->peers[i].conn);
        free(c->peers[i].inner);
    }
    loop_close(&c->loop);
    free(c->peers);
    free(c->unit);
}
