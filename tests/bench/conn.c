/* SPDX-License-Identifier: Apache-2.0 */
/* Many connections in one thread. */
#include "conn.h"

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 4 << 20,
    READ_BYTES = 1 << 16,
    EVENTS_MAX = 512,
    ACCEPT_MAX = 64,
    PORTS_PER_ADDRESS = 20000,
    FIRST_PORT =
        10000,    /* below those that the kernel gives: whoever else starts a server has them */
    NO_ROOM = -1, /* of send_some() */
    BROKEN = -2
};

static void watch(struct conn *c, int operation)
{
    bool wants_room = c->waits_for_room || c->state == CONN_CONNECTING;
    struct epoll_event event = {.events = (c->is_deaf ? 0U : (unsigned)EPOLLIN) |
                                          (wants_room ? (unsigned)EPOLLOUT : 0U),
                                .data.ptr = c};
    if (epoll_ctl(c->loop->epoll, operation, c->fd, &event) != 0) {
        bench_die("epoll_ctl: %s", strerror(errno));
    }
}

static void set_waits_for_room(struct conn *c, bool waits)
{
    if (c->waits_for_room != waits) {
        c->waits_for_room = waits;
        watch(c, EPOLL_CTL_MOD);
    }
}

void conn_close(struct conn *c)
{
    if (c->fd >= 0) {
        SSL_free(c->tls);
        (void)close(c->fd);
    }
    free(c->out);
    free(c->rest);
    c->tls = NULL;
    c->fd = -1;
    c->state = CONN_LOST;
    c->out = c->rest = NULL;
    c->out_n = c->out_cap = c->rest_n = 0;
}

static void lose(struct conn *c, const char *why)
{
    if (c->state != CONN_LOST) {
        conn_close(c);
        c->ops->on_lost(c, why);
    }
}

/* Bytes that the socket took, NO_ROOM or BROKEN. */
static ssize_t send_some(struct conn *c, const uint8_t *bytes, size_t n)
{
    if (c->tls == NULL) {
        ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
        return sent >= 0 ? sent : errno == EAGAIN ? NO_ROOM : BROKEN;
    }
    int sent = SSL_write(c->tls, bytes, n > INT32_MAX ? INT32_MAX : (int)n);
    if (sent > 0) {
        return sent;
    }
    int why = SSL_get_error(c->tls, sent);
    return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? NO_ROOM : BROKEN;
}

static void flush(struct conn *c)
{
    size_t sent_n = 0;
    while (c->state == CONN_OPEN && sent_n < c->out_n) {
        ssize_t n = send_some(c, c->out + sent_n, c->out_n - sent_n);
        if (n == BROKEN) {
            lose(c, strerror(errno));
            return;
        }
        if (n == NO_ROOM) {
            break;
        }
        sent_n += (size_t)n;
    }
    if (c->state == CONN_OPEN) {
        c->out_n -= sent_n;
        if (c->out_n > 0) {
            memmove(c->out, c->out + sent_n, c->out_n);
        }
        set_waits_for_room(c, c->out_n > 0);
    }
}

static void become_dirty(struct conn *c)
{
    struct loop *l = c->loop;
    if (c->is_dirty || c->waits_for_room) {
        return;
    }
    if (l->dirty_n == l->dirty_cap) {
        l->dirty_cap = l->dirty_cap * 2 + 64;
        l->dirty = realloc(l->dirty, l->dirty_cap * sizeof(struct conn *));
        if (l->dirty == NULL) {
            bench_die("no memory");
        }
    }
    c->is_dirty = true;
    l->dirty[l->dirty_n++] = c;
}

void conn_put(struct conn *c, const void *bytes, size_t n)
{
    if (c->state == CONN_LOST || n == 0) {
        return;
    }
    if (c->out_cap - c->out_n < n) {
        c->out_cap = (c->out_n + n) * 2;
        c->out = realloc(c->out, c->out_cap);
        if (c->out == NULL) {
            bench_die("no memory to write");
        }
    }
    memcpy(c->out + c->out_n, bytes, n);
    c->out_n += n;
    become_dirty(c);
}

void conn_write(struct conn *c, const void *bytes, size_t n)
{
    size_t sent_n = 0;
    if (c->state == CONN_OPEN && c->out_n == 0) {
        ssize_t sent = send_some(c, bytes, n);
        if (sent == BROKEN) {
            lose(c, strerror(errno));
            return;
        }
        sent_n = sent == NO_ROOM ? 0 : (size_t)sent;
    }
    if (sent_n < n) {
        conn_put(c, (const uint8_t *)bytes + sent_n, n - sent_n);
    }
}

void conn_only_listens(struct conn *c)
{
    static const int on = 1;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

void conn_be_deaf(struct conn *c)
{
    int least = 1;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
    c->is_deaf = true;
    watch(c, EPOLL_CTL_MOD);
}

static void become_open(struct conn *c)
{
    c->state = CONN_OPEN;
    set_waits_for_room(c, false);
    c->ops->on_open(c);
    flush(c);
}

static void shake_hands(struct conn *c)
{
    int done = SSL_connect(c->tls);
    if (done == 1) {
        become_open(c);
        return;
    }
    int why = SSL_get_error(c->tls, done);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        lose(c, "the TLS handshake failed");
        return;
    }
    set_waits_for_room(c, why == SSL_ERROR_WANT_WRITE);
}

static void keep_rest(struct conn *c, const uint8_t *at, size_t n)
{
    uint8_t *rest = NULL;
    if (n > 0) {
        rest = bench_alloc(n);
        memcpy(rest, at, n);
    }
    free(c->rest);
    c->rest = rest;
    c->rest_n = n;
}

/* Bytes read, 0 at the end of the stream, NO_ROOM when there are none now. */
static ssize_t read_some(struct conn *c, uint8_t *to)
{
    if (c->tls == NULL) {
        ssize_t n = read(c->fd, to, READ_BYTES);
        return n >= 0 ? n : errno == EAGAIN ? NO_ROOM : 0;
    }
    int n = SSL_read(c->tls, to, READ_BYTES);
    if (n > 0) {
        return n;
    }
    return SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ ? NO_ROOM : 0;
}

static void on_readable(struct conn *c)
{
    uint8_t *at = c->loop->scratch;
    ssize_t n;
    do {
        size_t kept_n = c->rest_n;
        if (kept_n + READ_BYTES > SCRATCH_BYTES) {
            bench_die("a peer sends more than %d bytes without an end", SCRATCH_BYTES);
        }
        if (kept_n > 0) {
            memcpy(at, c->rest, kept_n);
        }
        n = read_some(c, at + kept_n);
        if (n == 0) {
            lose(c, "it closed the connection");
        }
        if (n <= 0) {
            return;
        }
        c->loop->read_bytes += (uint64_t)n;
        c->loop->reads_n++;
        size_t all_n = kept_n + (size_t)n;
        size_t used_n = c->ops->on_bytes(c, at, all_n);
        if (c->state == CONN_LOST) {
            return;
        }
        if (kept_n > 0 || used_n < all_n) {
            keep_rest(c, at + used_n, all_n - used_n);
        }
        /* OpenSSL may hold bytes that epoll does not know of. */
    } while (n == READ_BYTES || c->tls != NULL);
}

static void on_writable(struct conn *c)
{
    if (c->state == CONN_CONNECTING) {
        int wrong = 0;
        socklen_t n = sizeof(wrong);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &wrong, &n) != 0 || wrong != 0) {
            lose(c, strerror(wrong));
            return;
        }
        if (c->loop->tls == NULL) {
            c->waits_for_room = true; /* it watches for room: become_open() ends that */
            become_open(c);
            return;
        }
        c->tls = SSL_new(c->loop->tls);
        if (c->tls == NULL || SSL_set_fd(c->tls, c->fd) != 1) {
            bench_die("no memory for TLS");
        }
        c->state = CONN_HANDSHAKE;
        c->waits_for_room = true;
    }
    if (c->state == CONN_HANDSHAKE) {
        shake_hands(c);
    } else {
        flush(c);
    }
}

/* The next of our addresses and ports; any port where somebody has that. */
static void bind_source(struct loop *l, int fd)
{
    static const int on = 1;
    unsigned source = 2 + (unsigned)(l->connected_n / PORTS_PER_ADDRESS);
    unsigned port = FIRST_PORT + (unsigned)(l->connected_n % PORTS_PER_ADDRESS);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    l->connected_n++;
    from.sin_addr.s_addr = htonl(127U << 24 | (1 + (unsigned)getpid() % 250U) << 16 | source);
    if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) == 0) {
        return;
    }
    from.sin_port = 0;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0) {
        bench_die("bind: %s", strerror(errno));
    }
}

void conn_open(struct loop *l, struct conn *c, const struct conn_ops *ops)
{
    static const int on = 1;
    *c = (struct conn){.loop = l, .ops = ops, .is_dirty = c->is_dirty};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        bench_die("socket: %s", strerror(errno));
    }
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bind_source(l, c->fd);
    if (connect(c->fd, (const struct sockaddr *)&l->to, sizeof(l->to)) != 0 &&
        errno != EINPROGRESS) {
        bench_die("connect: %s", strerror(errno));
    }
    c->state = CONN_CONNECTING;
    watch(c, EPOLL_CTL_ADD);
}

static void accept_some(struct loop *l)
{
    static const int on = 1;
    for (int i = 0; i < ACCEPT_MAX; i++) {
        int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        struct conn *c = l->on_accept(l);
        c->loop = l;
        c->ops = l->accepted_ops;
        c->fd = fd;
        c->state = CONN_OPEN;
        watch(c, EPOLL_CTL_ADD);
        c->ops->on_open(c);
    }
}

void loop_turn(struct loop *l, uint64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {(time_t)(wait_ns / 1000000000), (long)(wait_ns % 1000000000)};
    if (l->dirty_n > 0) {
        wait = (struct timespec){0, 0};
    }
    int n = epoll_pwait2(l->epoll, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c == NULL) {
            accept_some(l);
            continue;
        }
        if ((events[i].events & EPOLLOUT) != 0) {
            on_writable(c);
        }
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 || c->state == CONN_LOST ||
            c->state == CONN_CONNECTING) {
            continue;
        }
        if (c->state == CONN_HANDSHAKE) {
            shake_hands(c);
        } else if (c->is_deaf) {
            lose(c, "it was closed");
        }
        if (c->state == CONN_OPEN && !c->is_deaf) {
            on_readable(c);
        }
    }
    for (size_t i = 0; i < l->dirty_n; i++) {
        l->dirty[i]->is_dirty = false;
        flush(l->dirty[i]);
    }
    l->dirty_n = 0;
}

static void open_epoll(struct loop *l, const char *host, uint16_t port)
{
    l->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &l->to.sin_addr) != 1) {
        bench_die("%s is no IPv4 address", host);
    }
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        bench_die("epoll_create1: %s", strerror(errno));
    }
    l->listener = -1;
    l->scratch = bench_alloc(SCRATCH_BYTES);
}

void loop_open(struct loop *l, const char *host, uint16_t port, bool is_tls)
{
    open_epoll(l, host, port);
    if (is_tls) {
        l->tls = SSL_CTX_new(TLS_client_method());
        if (l->tls == NULL) {
            bench_die("no TLS");
        }
        (void)SSL_CTX_set_mode(l->tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                           SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                           SSL_MODE_RELEASE_BUFFERS);
    }
}

void loop_listen(struct loop *l, const char *host, uint16_t port,
                 struct conn *(*on_accept)(struct loop *l), const struct conn_ops *ops)
{
    static const int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    open_epoll(l, host, port);
    l->on_accept = on_accept;
    l->accepted_ops = ops;
    l->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->listener < 0 ||
        setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(l->listener, (const struct sockaddr *)&l->to, sizeof(l->to)) != 0 ||
        listen(l->listener, SOMAXCONN) != 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &event) != 0) {
        bench_die("cannot listen on %s:%u: %s", host, port, strerror(errno));
    }
}

void loop_close(struct loop *l)
{
    if (l->listener >= 0) {
        (void)close(l->listener);
    }
    (void)close(l->epoll);
    SSL_CTX_free(l->tls);
    free(l->dirty);
    free(l->scratch);
}

void loop_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}
