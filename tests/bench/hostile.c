/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that mean harm: connections that never finish, and come back when they are closed. Prints a line once all have been open,
 * another when its standard input ends.
 *
 *   hostile tls    the beginning of a TLS handshake, then silence
 *   hostile http   a request's head, a byte a second (slow loris) */
#include "bench.h"
#include "conn.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPENING_MAX = 256, TURN_NS = 10000000, BYTE_NS = 1000000000 };

struct hostile {
    const char *host;
    uint64_t port, n, reopen_per_s;
    bool is_tls;
    struct loop loop;
    struct conn *conns;
    size_t *closed; /* indexes of those to open again: a ring of n */
    size_t closed_at, closed_n;
    size_t opened_n, opening_n, dripped_n;
    uint64_t closed_total_n;
};

static struct hostile *self(const struct conn *c)
{
    return (struct hostile *)((char *)c->loop - offsetof(struct hostile, loop));
}

static void on_open(struct conn *c)
{
    /* A handshake record of 512 bytes, of which these are the first. */
    static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    static const char post[] = "POST /v1/topics/bench/load HTTP/1.1\r\nHost: bench\r\nX-Slow: ";
    struct hostile *h = self(c);
    conn_put(c, h->is_tls ? hello : post, h->is_tls ? sizeof(hello) - 1 : sizeof(post) - 1);
    h->opened_n++;
    h->opening_n--;
}

static size_t on_bytes(struct conn *c, uint8_t *at, size_t n)
{
    (void)c;
    (void)at;
    return n;
}

static void on_lost(struct conn *c, const char *why)
{
    struct hostile *h = self(c);
    (void)why;
    h->closed[(h->closed_at + h->closed_n++) % h->n] = (size_t)(c - h->conns);
    h->closed_total_n++;
}

static const struct conn_ops conn_ops = {on_open, on_bytes, on_lost};

static void open_next(struct hostile *h)
{
    size_t i = h->closed[h->closed_at];
    h->closed_at = (h->closed_at + 1) % h->n;
    h->closed_n--;
    h->opening_n++;
    conn_open(&h->loop, &h->conns[i], &conn_ops);
}

/* A byte to as many as are due: each gets one a second. */
static void drip(struct hostile *h, uint64_t since_ns)
{
    uint64_t due_n = (bench_now_ns() - since_ns) * h->n / BYTE_NS;
    for (; h->dripped_n < due_n; h->dripped_n++) {
        struct conn *c = &h->conns[h->dripped_n % h->n];
        if (c->state == CONN_OPEN) {
            conn_put(c, "x", 1);
        }
    }
}

static void print_counts(const struct hostile *h)
{
    printf("{\"connections\":%llu,\"opened\":%zu,\"closed\":%llu}\n", (unsigned long long)h->n,
           h->opened_n, (unsigned long long)h->closed_total_n);
    (void)fflush(stdout);
}

static void run(struct hostile *h)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    uint64_t started_ns = bench_now_ns();
    uint64_t all_ns = 0;
    size_t reopened_n = 0;
    while (poll(&in, 1, 0) == 0) {
        uint64_t now_ns = bench_now_ns();
        while (h->closed_n > 0 && h->opening_n < OPENING_MAX &&
               (all_ns == 0 || reopened_n < (now_ns - all_ns) * h->reopen_per_s / BYTE_NS)) {
            reopened_n += all_ns != 0;
            open_next(h);
        }
        if (!h->is_tls) {
            drip(h, started_ns);
        }
        loop_turn(&h->loop, TURN_NS);
        if (all_ns == 0 && h->opened_n >= h->n) {
            all_ns = bench_now_ns();
            print_counts(h);
        }
    }
    print_counts(h);
}

int main(int argc, char **argv)
{
    static struct hostile h = {.host = "127.0.0.1", .port = 8883, .n = 10000, .reopen_per_s = 1000};
    static const struct bench_option options[] = {
        {"--host", NULL, &h.host, "IPv4 address"},
        {"--port", &h.port, NULL, "port"},
        {"--n", &h.n, NULL, "connections"},
        {"--reopen", &h.reopen_per_s, NULL,
         "closed ones opened again in a second, once all have been open"},
        {NULL, NULL, NULL, NULL},
    };
    if (argc < 2 || (strcmp(argv[1], "tls") != 0 && strcmp(argv[1], "http") != 0)) {
        bench_die("usage: hostile tls|http [--option value ...]; a wrong option lists them");
    }
    bench_options(argc, argv, 2, options);
    loop_raise_descriptors();
    h.is_tls = argv[1][0] == 't';
    h.conns = bench_alloc(h.n * sizeof(*h.conns));
    h.closed = bench_alloc(h.n * sizeof(*h.closed));
    for (; h.closed_n < h.n; h.closed_n++) {
        h.conns[h.closed_n].fd = -1;
        h.closed[h.closed_n] = h.closed_n;
    }
    loop_open(&h.loop, h.host, (uint16_t)h.port, false);
    run(&h);
    for (size_t i = 0; i < h.n; i++) {
        conn_close(&h.conns[i]);
    }
    loop_close(&h.loop);
    free(h.conns);
    free(h.closed);
    return 0;
}
