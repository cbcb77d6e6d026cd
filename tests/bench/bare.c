/* SPDX-License-Identifier: Apache-2.0 */
/* What no server can beat: one epoll loop that understands just enough of each protocol to answer the load generator. It confirms
 * each publish where it stands (an echo), and hands each to all subscribers, joining what is pending for a socket in one write of
 * the same bytes for all: nothing is routed, checked or stored.
 *
 *   bare --port N               prints a line once it listens, runs until its standard input ends
 *   bare --port N --relay-to M  passes the bytes of each connection on to one of its own to port M, and back: a gateway that does nothing */
#include "bench.h"
#include "conn.h"
#include "wire.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DELIVERED_MAX = 4 << 20 };

struct client {
    struct conn conn; /* first: a conn is a client */
    struct client *next;
    struct client *relayed; /* relay: the other half of its way */
    size_t at;              /* in subscribers, or SIZE_MAX */
    enum proto proto;
    bool is_known, is_ws, is_waiting_for_upgrade;
};

static struct {
    struct loop loop;
    struct client *clients;
    struct client **subscribers;
    size_t subscribers_n, subscribers_cap;
    uint8_t *delivered; /* of this turn */
    size_t delivered_n;
} bare;

static struct client *client_of(struct conn *c)
{
    return (struct client *)c;
}

static void answer(struct client *k, const void *bytes, size_t n)
{
    if (k->is_ws) {
        uint8_t head[WS_HEAD_MAX];
        conn_put(&k->conn, head,
                 ws_head(head, k->proto == PROTO_MQTT ? WS_BINARY : WS_TEXT, n, false));
    }
    conn_put(&k->conn, bytes, n);
}

static void subscribe(struct client *k)
{
    if (k->at != SIZE_MAX) {
        return;
    }
    if (bare.subscribers_n == bare.subscribers_cap) {
        bare.subscribers_cap = bare.subscribers_cap * 2 + 64;
        bare.subscribers =
            realloc(bare.subscribers, bare.subscribers_cap * sizeof(struct client *));
        if (bare.subscribers == NULL) {
            bench_die("no memory");
        }
    }
    k->at = bare.subscribers_n;
    bare.subscribers[bare.subscribers_n++] = k;
}

static void unsubscribe(struct client *k)
{
    if (k->at != SIZE_MAX) {
        struct client *last = bare.subscribers[--bare.subscribers_n];
        bare.subscribers[k->at] = last;
        last->at = k->at;
        k->at = SIZE_MAX;
    }
}

/* Subscribers of one server speak one protocol: a packet as it goes to each of them. */
static void deliver(const struct client *k, const uint8_t *head, size_t head_n, const uint8_t *rest,
                    size_t rest_n)
{
    uint8_t frame[WS_HEAD_MAX];
    size_t frame_n = 0;
    if (bare.subscribers_n == 0) {
        return;
    }
    if (k->is_ws) {
        frame_n =
            ws_head(frame, k->proto == PROTO_MQTT ? WS_BINARY : WS_TEXT, head_n + rest_n, false);
    }
    if (bare.delivered_n + frame_n + head_n + rest_n > DELIVERED_MAX) {
        bench_die("more than %d bytes in a turn", DELIVERED_MAX);
    }
    uint8_t *to = bare.delivered + bare.delivered_n;
    memcpy(to, frame, frame_n);
    memcpy(to + frame_n, head, head_n);
    if (rest_n > 0) {
        memcpy(to + frame_n + head_n, rest, rest_n);
    }
    bare.delivered_n += frame_n + head_n + rest_n;
}

static size_t take_mqtt(struct client *k, const uint8_t *at, size_t n)
{
    size_t head_n;
    size_t all_n = mqtt_packet(at, n, &head_n);
    if (all_n == 0) {
        return 0;
    }
    const uint8_t *rest = at + head_n;
    size_t topic_n;
    switch (at[0] >> 4) {
    case 1: answer(k, "\x20\x02\0\0", 4); break;
    case 3:
        deliver(k, at, head_n, rest, all_n - head_n);
        topic_n = (size_t)rest[0] << 8 | rest[1];
        if ((at[0] & 6) != 0) {
            answer(k, (uint8_t[]){0x40, 2, rest[2 + topic_n], rest[3 + topic_n]}, 4);
        }
        break;
    case 8:
        subscribe(k);
        answer(k, (uint8_t[]){0x90, 3, rest[0], rest[1], 0}, 5);
        break;
    case 12: answer(k, "\xd0\0", 2); break;
    default: break; /* DISCONNECT: the close follows */
    }
    return all_n;
}

/* A header's value in a frame's head. */
static const char *header_of(const char *head, const char *name, int *n)
{
    const char *at = strstr(head, name);
    *n = at == NULL ? 0 : (int)strcspn(at + strlen(name), "\n");
    return at == NULL ? "" : at + strlen(name);
}

/* The headers of a MESSAGE are those that Headgate writes, as long as they are there. */
static void deliver_stomp(const struct client *k, const char *head, const uint8_t *body,
                          size_t body_n)
{
    static uint64_t number;
    char message[512];
    int key_n;
    const char *key = header_of(head, "\ndestination:", &key_n);
    int n = snprintf(
        message, sizeof(message),
        "MESSAGE\nsubscription:0\nmessage-id:0-%llu\ndestination:%.*s\ncontent-length:%zu\n\n",
        (unsigned long long)++number, key_n, key, body_n - 1);
    deliver(k, (const uint8_t *)message, (size_t)n, body, body_n);
}

static size_t take_stomp(struct client *k, const uint8_t *at, size_t n)
{
    char head[512];
    char receipt[128];
    static const char connected[] = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n";
    size_t head_n;
    size_t all_n = stomp_frame(at, n, &head_n);
    if (all_n == 0) {
        return 0;
    }
    if (head_n >= sizeof(head)) {
        bench_die("a frame's head is too long");
    }
    memcpy(head, at, head_n);
    head[head_n] = '\0';
    if (strstr(head, "CONNECT\n") == head) {
        answer(k, connected, sizeof(connected));
    } else if (strstr(head, "SUBSCRIBE\n") == head) {
        subscribe(k);
    } else if (strstr(head, "SEND\n") == head) {
        deliver_stomp(k, head, at + head_n, all_n - head_n);
    }
    int id_n;
    const char *id = header_of(head, "\nreceipt:", &id_n);
    if (id_n > 0) {
        int said_n = snprintf(receipt, sizeof(receipt), "RECEIPT\nreceipt-id:%.*s\n\n", id_n, id);
        answer(k, receipt, (size_t)said_n + 1);
    }
    return all_n;
}

static size_t take_http(struct client *k, const uint8_t *at, size_t n)
{
    static const char id[] = "34bcad0c-7447-4845-814f-8e2e2965e005"; /* as long as a real one */
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    static const char events[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    size_t head_n = head_bytes(at, n);
    size_t body_n = head_n == 0 ? 0 : head_number(at, head_n, "content-length:", 0);
    if (head_n == 0 || n - head_n < body_n) {
        return 0;
    }
    if (at[0] == 'G') {
        subscribe(k);
        answer(k, events, sizeof(events) - 1);
        return head_n;
    }
    char event[128 + 1024];
    if (body_n < 1024) {
        int event_n = snprintf(event, sizeof(event), "id: %s\ndata: %.*s\n\n", id, (int)body_n,
                               (const char *)at + head_n);
        deliver(k, (const uint8_t *)event, (size_t)event_n, NULL, 0);
    }
    answer(k, accepted, sizeof(accepted) - 1);
    return head_n + body_n;
}

static size_t take(struct client *k, const uint8_t *at, size_t n)
{
    static size_t (*const takers[])(struct client * k, const uint8_t *at, size_t n) = {
        [PROTO_MQTT] = take_mqtt, [PROTO_STOMP] = take_stomp, [PROTO_HTTP] = take_http};
    size_t used_n = 0;
    size_t one_n;
    while (used_n < n && (one_n = takers[k->proto](k, at + used_n, n - used_n)) > 0) {
        used_n += one_n;
    }
    return used_n;
}

static size_t take_upgrade(struct client *k, const uint8_t *at, size_t n)
{
    size_t head_n = head_bytes(at, n);
    if (head_n == 0) {
        return 0;
    }
    k->proto = memmem(at, head_n, "v12.stomp", 9) != NULL ? PROTO_STOMP : PROTO_MQTT;
    const char *said =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    conn_put(&k->conn, said, strlen(said));
    k->is_waiting_for_upgrade = false;
    k->is_ws = true;
    return head_n;
}

/* Which protocol it is, from the first bytes. */
static bool know(struct client *k, const uint8_t *at, size_t n)
{
    if (n < 8) {
        return false;
    }
    k->is_known = true;
    k->is_waiting_for_upgrade = memcmp(at, "GET /ws ", 8) == 0;
    k->proto = at[0] == 0x10                                              ? PROTO_MQTT
               : memcmp(at, "GET ", 4) == 0 || memcmp(at, "POST", 4) == 0 ? PROTO_HTTP
                                                                          : PROTO_STOMP;
    return true;
}

static size_t on_bytes(struct conn *c, uint8_t *at, size_t n)
{
    struct client *k = client_of(c);
    struct ws_frame frame;
    size_t used_n = 0;
    if (!k->is_known && !know(k, at, n)) {
        return 0;
    }
    if (k->is_waiting_for_upgrade) {
        used_n = take_upgrade(k, at, n);
    }
    if (k->is_waiting_for_upgrade || !k->is_ws) {
        return used_n + (k->is_waiting_for_upgrade ? 0 : take(k, at, n));
    }
    while (used_n < n && ws_read(at + used_n, n - used_n, &frame)) {
        if (frame.opcode <= WS_BINARY && take(k, at + used_n + frame.head_n, frame.n) != frame.n) {
            bench_die("a WebSocket message holds a part of a packet");
        }
        used_n += frame.head_n + frame.n;
    }
    return used_n;
}

static struct client *new_client(void)
{
    struct client *k = bench_alloc(sizeof(*k));
    k->at = SIZE_MAX;
    k->next = bare.clients;
    bare.clients = k;
    return k;
}

static struct conn *on_accept(struct loop *l)
{
    (void)l;
    return &new_client()->conn;
}

static void on_open(struct conn *c)
{
    (void)c;
}

static void on_lost(struct conn *c, const char *why)
{
    (void)why;
    unsubscribe(client_of(c));
}

static size_t on_relayed_bytes(struct conn *c, uint8_t *at, size_t n)
{
    conn_write(&client_of(c)->relayed->conn, at, n);
    return n;
}

static void on_relayed_lost(struct conn *c, const char *why)
{
    (void)why;
    conn_close(&client_of(c)->relayed->conn);
}

static void on_relayed_open(struct conn *c)
{
    static const struct conn_ops onward = {on_open, on_relayed_bytes, on_relayed_lost};
    struct client *k = client_of(c);
    k->relayed = new_client();
    k->relayed->relayed = k;
    conn_open(c->loop, &k->relayed->conn, &onward);
}

int main(int argc, char **argv)
{
    static const struct conn_ops speaker = {on_open, on_bytes, on_lost};
    static const struct conn_ops relay = {on_relayed_open, on_relayed_bytes, on_relayed_lost};
    static uint64_t port = 1883;
    static uint64_t relay_to = 0;
    static const struct bench_option options[] = {
        {"--port", &port, NULL, "port"},
        {"--relay-to", &relay_to, NULL, "port that bytes are passed on to"},
        {NULL, NULL, NULL, NULL}};
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    bench_options(argc, argv, 1, options);
    loop_raise_descriptors();
    bare.delivered = bench_alloc(DELIVERED_MAX);
    loop_listen(&bare.loop, "127.0.0.1", (uint16_t)port, on_accept,
                relay_to == 0 ? &speaker : &relay);
    bare.loop.to.sin_port =
        htons((uint16_t)relay_to); /* it listens already: now where to connect */
    printf("{\"port\":%llu}\n", (unsigned long long)port);
    (void)fflush(stdout);
    uint64_t looked_ns = bench_now_ns();
    for (;;) {
        loop_turn(&bare.loop, 100000000);
        for (size_t i = bare.subscribers_n; i-- > 0 && bare.delivered_n > 0;) {
            conn_write(&bare.subscribers[i]->conn, bare.delivered, bare.delivered_n);
        }
        bare.delivered_n = 0;
        if (bench_now_ns() - looked_ns > 200000000) {
            looked_ns = bench_now_ns();
            if (poll(&in, 1, 0) != 0) {
                break;
            }
        }
    }
    for (struct client *k = bare.clients; k != NULL;) {
        struct client *next = k->next;
        conn_close(&k->conn);
        free(k);
        k = next;
    }
    free(bare.subscribers);
    free(bare.delivered);
    loop_close(&bare.loop);
    return 0;
}
