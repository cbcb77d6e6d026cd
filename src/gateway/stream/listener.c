/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets of one worker. We accept ourselves instead of through uv_listen: at the limit
 * of open files libuv would accept and drop, or spin; this way waiting connections stay in the
 * kernel's queue until there are descriptors again. */
#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/proxy.h"
#include "stream/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SOCKETS_MAX = 4,       /* addresses of one name */
    ACCEPTS_PER_TURN = 64, /* then the worker's other work has its turn, */
    ACCEPT_US = 200,       /* or after so long: TLS makes a connection dear */
    PAUSE_MS = 100,
    KEEPALIVE_S = 60, /* of silence, then these: a dead host is gone in two minutes */
    KEEPALIVE_EVERY_S = 15,
    KEEPALIVE_TRIES = 4,
};

struct listener_socket {
    struct hg_listener *listener;
    struct hg_watch watch;
    int fd;
    uint8_t watched;
};

struct hg_listener {
    struct hg_net *net;
    hg_accept_fn *accept;
    void *ctx;
    struct hg_gate *gate;
    uint16_t port;
    bool is_closing, has_proxy;
    struct hg_timer resume; /* set while out of descriptors or memory, and to see the end of it */
    struct hg_list starved; /* likewise in hg_net.starved */
    uint32_t pauses_n;      /* since all who waited had been accepted */
    struct hg_defer burial; /* once closed: this turn's events may still name a socket */
    unsigned sockets_n;
    struct listener_socket sockets[SOCKETS_MAX];
};

/* ---- Accepting ---- */

/* False when there is no memory. */
static bool watch_all(struct hg_listener *l, uint8_t events)
{
    bool are_watched = true;
    for (unsigned i = 0; i < l->sockets_n; i++) {
        struct listener_socket *s = &l->sockets[i];
        if (hg_net_watch(l->net, s->fd, &s->watch, s->watched, events)) {
            s->watched = events;
        } else {
            are_watched = false;
        }
    }
    return are_watched;
}

/* Looks once more in a moment: that nobody waits is no event, and accept says that descriptors are
 * used up before it says so. */
static void resume(struct hg_listener *l)
{
    hg_list_remove(&l->starved);
    (void)watch_all(l, EPOLLIN);
    hg_wheel_set(l->net->wheel, &l->resume, hg_clock_ms() + PAUSE_MS);
}

static void on_readable(struct hg_watch *watch, uint32_t events);

static void on_resume(struct hg_timer *timer)
{
    struct hg_listener *l = HG_CONTAINER_OF(timer, struct hg_listener, resume);
    resume(l);
    for (unsigned i = 0; i < l->sockets_n; i++) {
        on_readable(&l->sockets[i].watch, 0);
    }
}

void hg_listener_wake_all(struct hg_net *net)
{
    HG_LIST_FOREACH_SAFE (it, &net->starved) {
        resume(HG_LIST_ENTRY(it, struct hg_listener, starved));
    }
}

/* Until a connection of this worker closes, or, since others have descriptors too, for a moment. Said
 * once, until all who waited have been accepted. */
static void pause_accepting(struct hg_listener *l, int error)
{
    if (l->pauses_n++ == 0) {
        HG_LOG_LIMITED(l->net->log, HG_LOG_WARN, "listener.paused", HG_BYTES("accept"),
                       HG_F_UINT("port", l->port), HG_F_STR("reason", strerror(error)));
    }
    (void)watch_all(l, 0);
    hg_list_remove(&l->starved);
    hg_list_add_last(&l->net->starved, &l->starved);
    hg_wheel_set(l->net->wheel, &l->resume, hg_clock_ms() + PAUSE_MS);
}

/* Nobody waits any more. */
static void note_relief(struct hg_listener *l)
{
    if (l->pauses_n > 0 && watch_all(l, EPOLLIN)) {
        hg_timer_stop(&l->resume);
        HG_LOG_LIMITED(l->net->log, HG_LOG_INFO, "listener.resumed", HG_BYTES("accept"),
                       HG_F_UINT("port", l->port), HG_F_UINT("pauses", l->pauses_n));
        l->pauses_n = 0;
    }
}

static bool enter(struct hg_gate *gate)
{
    uint32_t max_n = atomic_load_explicit(&gate->max_n, memory_order_relaxed);
    uint32_t before = atomic_fetch_add_explicit(&gate->open_n, 1, memory_order_relaxed);
    if (max_n == 0 || before < max_n) {
        return true;
    }
    atomic_fetch_sub_explicit(&gate->open_n, 1, memory_order_relaxed);
    return false;
}

void hg_gate_leave(struct hg_gate *gate)
{
    for (; gate != NULL; gate = gate->outer) {
        atomic_fetch_sub_explicit(&gate->open_n, 1, memory_order_relaxed);
    }
}

/* The gate that lets nobody in; NULL: it is inside all of them. */
static struct hg_gate *enter_all(struct hg_gate *first)
{
    for (struct hg_gate *gate = first; gate != NULL; gate = gate->outer) {
        if (!enter(gate)) {
            for (; first != gate; first = first->outer) {
                atomic_fetch_sub_explicit(&first->open_n, 1, memory_order_relaxed);
            }
            return gate;
        }
    }
    return NULL;
}

static void turn_away(struct hg_listener *l, int fd, struct hg_gate *full)
{
    struct hg_net_counters *counters = &l->net->counters;
    bool is_own = full == l->gate;
    close(fd);
    hg_count(&counters->refused_limit, 1);
    hg_count(is_own ? &counters->refused_listener : &counters->refused_outer, 1);
    HG_LOG_LIMITED(
        l->net->log, HG_LOG_WARN, "listener.full", HG_BYTES("limit"), HG_F_UINT("port", l->port),
        HG_F_STR("limit", is_own ? "listener.max_connections" : "limits.max_connections"),
        HG_F_UINT("max_connections", atomic_load_explicit(&full->max_n, memory_order_relaxed)));
}

static void welcome(struct hg_listener *l, int fd)
{
    struct hg_gate *full = enter_all(l->gate);
    if (full != NULL) {
        turn_away(l, fd, full);
        return;
    }
    struct hg_stream *stream = hg_tcp_accept(l->net, fd, l->gate);
    if (stream != NULL && l->has_proxy) {
        stream = hg_proxy_accept(stream);
    }
    if (stream == NULL) {
        hg_count(&l->net->counters.accept_errors, 1);
        return;
    }
    hg_count(&l->net->counters.accepted, 1);
    l->accept(l->ctx, stream);
}

/* True if nothing more can be accepted for want of descriptors or memory. */
static bool is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_readable(struct hg_watch *watch, uint32_t events)
{
    struct listener_socket *s = HG_CONTAINER_OF(watch, struct listener_socket, watch);
    struct hg_listener *l = s->listener;
    (void)events;
    uint64_t began_us = hg_clock_us();
    hg_mem_expect();
    for (int i = 0; i < ACCEPTS_PER_TURN && !l->is_closing; i++) {
        if (hg_clock_us() - began_us >= ACCEPT_US) {
            break;
        }
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(l, fd);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            note_relief(l);
            return;
        }
        if (errno == EINTR || errno == ECONNABORTED) {
            continue;
        }
        hg_count(&l->net->counters.accept_errors, 1);
        if (is_exhausted(errno)) {
            pause_accepting(l, errno);
            return;
        }
    }
}

/* ---- Opening ---- */

static void set_port(struct sockaddr *address, uint16_t port)
{
    if (address->sa_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    }
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &n) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* Accepted sockets inherit these. */
static bool set_options(int fd)
{
    int on = 1;
    int idle_s = KEEPALIVE_S;
    int every_s = KEEPALIVE_EVERY_S;
    int tries = KEEPALIVE_TRIES;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries)) == 0;
}

static int bound_socket(const struct addrinfo *a, bool is_shared)
{
    int on = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (is_shared && !set_options(fd)) || bind(fd, a->ai_addr, a->ai_addrlen) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* SO_REUSEPORT would let a second gateway share the port in silence: without the option, bind says
 * so. */
static bool is_free(const struct addrinfo *a)
{
    int fd = bound_socket(a, false);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static int open_socket(struct hg_listener *l, const struct hg_listener_config *config,
                       const struct addrinfo *a)
{
    struct listener_socket *s = &l->sockets[l->sockets_n];
    set_port(a->ai_addr, l->port);
    if (config->is_first && l->port != 0 && !is_free(a)) {
        return errno;
    }
    s->fd = bound_socket(a, true);
    if (s->fd < 0) {
        return errno;
    }
    if (listen(s->fd, config->backlog) != 0) {
        int error = errno;
        close(s->fd);
        return error;
    }
    s->listener = l;
    s->watch.on_event = on_readable;
    l->port = bound_port(s->fd);
    l->sockets_n++;
    return 0;
}

/* Binds every address of the name. One that this machine does not have is passed over if another
 * works (localhost without IPv6). */
static const char *open_sockets(struct hg_listener *l, const struct hg_listener_config *config)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *addresses = NULL;
    int failed = getaddrinfo(config->host, NULL, &hints, &addresses);
    if (failed != 0) {
        return gai_strerror(failed);
    }
    int error = 0;
    for (const struct addrinfo *a = addresses; a != NULL && l->sockets_n < SOCKETS_MAX;
         a = a->ai_next) {
        int e = open_socket(l, config, a);
        if (e != 0) {
            error = e;
        }
        if (e != 0 && e != EADDRNOTAVAIL && e != EAFNOSUPPORT) {
            break;
        }
    }
    freeaddrinfo(addresses);
    bool is_fatal = error != 0 && error != EADDRNOTAVAIL && error != EAFNOSUPPORT;
    return is_fatal || l->sockets_n == 0 ? strerror(error) : NULL;
}

struct hg_listener *hg_listener_open(struct hg_net *net, const struct hg_listener_config *config,
                                     hg_accept_fn *accept, void *ctx, const char **err_text)
{
    struct hg_listener *l = hg_zalloc(sizeof(*l));
    if (l == NULL) {
        *err_text = hg_status_text(HG_NO_MEMORY);
        return NULL;
    }
    l->net = net;
    l->accept = accept;
    l->ctx = ctx;
    l->port = config->port;
    l->gate = config->gate;
    l->has_proxy = config->has_proxy;
    hg_timer_init(&l->resume, on_resume);
    hg_list_init(&l->starved);
    *err_text = open_sockets(l, config);
    if (*err_text == NULL && !watch_all(l, EPOLLIN)) {
        *err_text = hg_status_text(HG_NO_MEMORY);
    }
    if (*err_text != NULL) {
        hg_listener_close(l);
        return NULL;
    }
    return l;
}

uint16_t hg_listener_port(const struct hg_listener *l)
{
    return l->port;
}

/* ---- Closing ---- */

static void bury(struct hg_defer *burial)
{
    hg_free(HG_CONTAINER_OF(burial, struct hg_listener, burial));
}

void hg_listener_close(struct hg_listener *l)
{
    if (l == NULL || l->is_closing) {
        return;
    }
    l->is_closing = true;
    hg_timer_stop(&l->resume);
    hg_list_remove(&l->starved);
    for (unsigned i = 0; i < l->sockets_n; i++) {
        close(l->sockets[i].fd); /* leaves the set by that */
    }
    l->burial.run = bury;
    hg_net_defer(l->net, &l->burial);
}
