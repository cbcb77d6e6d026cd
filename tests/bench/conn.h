/* SPDX-License-Identifier: Apache-2.0 */
/* Many TCP connections in one thread, over epoll, with TLS if asked: what the load generators and the bare loop stand on. */
#ifndef HG_BENCH_CONN_H
#define HG_BENCH_CONN_H

#include <openssl/ssl.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct conn;

enum conn_state { CONN_NEW, CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_LOST };

struct conn_ops {
    void (*on_open)(struct conn *c);
    /* Returns how many of the bytes it used; the others come again, with more behind them. It may write to at[0 … n). */
    size_t (*on_bytes)(struct conn *c, uint8_t *at, size_t n);
    void (*on_lost)(struct conn *c, const char *why);
};

struct conn {
    struct loop *loop;
    const struct conn_ops *ops;
    SSL *tls;
    int fd;
    enum conn_state state;
    bool is_dirty; /* in loop->dirty: has bytes to write */
    bool waits_for_room;
    bool is_deaf;
    uint8_t *out; /* bytes not written yet */
    size_t out_n, out_cap;
    uint8_t *rest; /* bytes that on_bytes did not use */
    size_t rest_n;
};

struct loop {
    int epoll, listener;
    struct sockaddr_in to;
    SSL_CTX *tls;
    struct conn *(*on_accept)(struct loop *l);
    const struct conn_ops *accepted_ops;
    struct conn **dirty;
    size_t dirty_n, dirty_cap;
    size_t connected_n;
    uint8_t *scratch;             /* where every socket is read into */
    uint64_t read_bytes, reads_n; /* reads that brought something */
};

/* Connections go to host (IPv4) and port. */
void loop_open(struct loop *l, const char *host, uint16_t port, bool is_tls);
/* Connections come in on host and port; on_accept gives each its memory, zeroed. */
void loop_listen(struct loop *l, const char *host, uint16_t port,
                 struct conn *(*on_accept)(struct loop *l), const struct conn_ops *ops);
/* Waits for sockets at most so long, reads, calls, writes. */
void loop_turn(struct loop *l, uint64_t wait_ns);
void loop_close(struct loop *l);
/* As many open files as the system lets us have. */
void loop_raise_descriptors(void);

/* Connects from 127.x.y.z, another one every 20,000 connections and for every process, so that ports do not run out, here and for
 * servers that others start: those find none that is free on all addresses where 20,000 clients have the kernel's. */
void conn_open(struct loop *l, struct conn *c, const struct conn_ops *ops);
/* Written when the turn ends. */
void conn_put(struct conn *c, const void *bytes, size_t n);
/* Written at once, as far as the socket takes it; the rest as conn_put() would. */
void conn_write(struct conn *c, const void *bytes, size_t n);
/* It sends nothing from now on. While the kernel takes a connection for a conversation it delays acknowledgements, and the server's
 * core makes them, one for two writes; after 40 ms of silence with one owing they are made as data is read, by the reader's core.
 * Which it is makes a third of the price of a write, and whether a run's writes were even or odd decided it, for all connections
 * together: so it is the latter from the start, as it is for who listens for long. */
void conn_only_listens(struct conn *c);
/* Reads nothing from now on, into a receive buffer that is as small as can be. */
void conn_be_deaf(struct conn *c);
void conn_close(struct conn *c);

#endif
