/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP connection as a stream: connect or accept, read into the worker's one buffer, write at most
 * once per loop turn, and end in one place (bury). The system calls are our own, because a libuv
 * handle takes three times the memory of all else here. */
#include "stream/tcp.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/outq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FINISH_MS = 5000,     /* from finish to the end, at most */
    LINGER_MS = 1000,     /* for the peer to close after all was sent */
    SLICES_MAX = 64,      /* in one write */
    READS_PER_EVENT = 32, /* while each fills the buffer; then the others have their turn */
};

enum tcp_state {
    ST_CONNECTING,
    ST_OPEN,
    ST_FINISHING, /* finish was called: output is still going out */
    ST_LINGERING, /* all is out and our side is shut: waiting for the peer's end */
    ST_CLOSING,   /* on_closed comes from the loop */
};

struct tcp_connect {
    struct hg_tcp *tcp; /* NULL: it closed while the name was being resolved */
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses, *next;
};

struct tcp_deadline { /* what only a beginning or ending connection needs */
    struct hg_tcp *tcp;
    struct hg_timer timer;
    struct tcp_connect *connect; /* while CONNECTING */
};

struct hg_tcp {
    struct hg_stream stream;
    struct hg_watch watch; /* its function says, too, that this is one of ours */
    struct hg_net *net;
    struct hg_list link; /* in the net's dirty streams or, once CLOSING, in its ended ones */
    struct hg_outq out;
    struct tcp_deadline *deadline; /* while CONNECTING, FINISHING, LINGERING */
    struct hg_gate *gate;          /* the listener's; NULL: none */
    int fd;                        /* -1: none */
    uint8_t state;                 /* enum tcp_state */
    uint8_t why;                   /* enum hg_status, for on_closed */
    uint8_t watched;               /* EPOLLIN, EPOLLOUT as the set has them; 0: not in the set */
    bool is_reading : 1, is_over_high : 1, has_eof : 1, is_resolving : 1;
    bool is_outgoing : 1; /* to a server: what many wait for, as publishes to RabbitMQ */
    bool is_blocked : 1;  /* the kernel's buffer is full */
    bool has_moved : 1;   /* output, since somebody asked */
};
_Static_assert(sizeof(struct hg_tcp) <= 96, "an idle connection has 1 KiB, its session included");

static void on_event(struct hg_watch *watch, uint32_t events);

static struct hg_tcp *of_stream(const struct hg_stream *s)
{
    struct hg_tcp *t = HG_CONTAINER_OF(s, struct hg_tcp, stream);
    HG_CHECK(t->watch.on_event == on_event);
    return t;
}

/* ---- The end ---- */

static void drop_connect(const struct hg_tcp *t, struct tcp_connect *c)
{
    if (c != NULL && t->is_resolving) {
        c->tcp = NULL; /* on_resolved frees it, whenever the resolver is done */
        uv_cancel((uv_req_t *)&c->resolve);
    } else if (c != NULL) {
        uv_freeaddrinfo(c->addresses);
        hg_free(c);
    }
}

static void drop_deadline(struct hg_tcp *t)
{
    if (t->deadline != NULL) {
        hg_timer_stop(&t->deadline->timer);
        drop_connect(t, t->deadline->connect);
        hg_free(t->deadline);
        t->deadline = NULL;
    }
}

/* Nothing can name it any more: its socket is closed, and the turn's events are handled. */
static void bury(struct hg_tcp *t)
{
    hg_outq_close(&t->out);
    drop_deadline(t);
    hg_gate_leave(t->gate);
    if (t->stream.user != NULL) {
        t->stream.user->on_closed(t->stream.user_ctx, (enum hg_status)t->why);
    }
    t->watch.on_event = NULL;
    hg_pool_put(&t->net->tcp_pool, t);
}

void hg_tcp_bury_ended(struct hg_net *net)
{
    struct hg_list ended;
    hg_list_init(&ended);
    hg_list_take_all(&ended, &net->ended); /* who ends from here on is for the next time */
    while (!hg_list_is_empty(&ended)) {
        struct hg_tcp *t = HG_LIST_ENTRY(ended.next, struct hg_tcp, link);
        hg_list_remove(&t->link);
        bury(t);
    }
}

static void close_socket(struct hg_tcp *t)
{
    if (t->fd >= 0) {
        close(t->fd); /* leaves the epoll set by that */
        if (!hg_list_is_empty(&t->net->starved)) {
            hg_listener_wake_all(t->net);
        }
    }
    t->fd = -1;
    t->watched = 0;
}

static void end(struct hg_tcp *t, enum hg_status why)
{
    if (t->state == ST_CLOSING) {
        return;
    }
    t->state = ST_CLOSING;
    t->why = (uint8_t)why;
    close_socket(t);
    if (t->deadline != NULL) {
        hg_timer_stop(&t->deadline->timer);
    }
    hg_list_remove(&t->link);
    hg_list_add_last(&t->net->ended, &t->link);
}

static void on_deadline(struct hg_timer *timer)
{
    struct hg_tcp *t = HG_CONTAINER_OF(timer, struct tcp_deadline, timer)->tcp;
    end(t, t->state == ST_CONNECTING ? HG_TIMED_OUT : (enum hg_status)t->why);
}

static bool set_deadline(struct hg_tcp *t, uint64_t in_ms)
{
    if (t->deadline == NULL) {
        t->deadline = hg_zalloc(sizeof(*t->deadline));
        if (t->deadline == NULL) {
            return false;
        }
        t->deadline->tcp = t;
        hg_timer_init(&t->deadline->timer, on_deadline);
    }
    hg_wheel_set(t->net->wheel, &t->deadline->timer, hg_clock_ms() + in_ms);
    return true;
}

/* ---- What the epoll set reports ---- */

static void watch(struct hg_tcp *t, uint8_t events)
{
    if (!hg_net_watch(t->net, t->fd, &t->watch, t->watched, events)) {
        end(t, HG_NO_MEMORY);
        return;
    }
    t->watched = events;
}

static bool wants_input(const struct hg_tcp *t)
{
    return t->state == ST_OPEN ? t->is_reading
                               : !t->has_eof; /* discarded, so that we hear of the end */
}

static uint8_t wanted(const struct hg_tcp *t)
{
    return (uint8_t)((wants_input(t) ? EPOLLIN : 0) | (t->is_blocked ? EPOLLOUT : 0));
}

/* ---- Writing ---- */

static void mark_dirty(struct hg_tcp *t)
{
    if (t->is_blocked || !hg_list_is_empty(&t->link)) {
        return;
    }
    if (t->is_outgoing) {
        hg_list_add_first(&t->net->dirty, &t->link);
    } else {
        hg_list_add_last(&t->net->dirty, &t->link);
    }
}

/* Everything is in the kernel's hands: close our side, and the whole at the peer's end of input. */
static void shut_down(struct hg_tcp *t)
{
    if (t->has_eof || shutdown(t->fd, SHUT_WR) != 0 || !set_deadline(t, LINGER_MS)) {
        end(t, (enum hg_status)t->why);
        return;
    }
    t->state = ST_LINGERING;
}

static size_t pending(const struct hg_stream *s)
{
    return hg_outq_bytes(&of_stream(s)->out);
}

static void after_progress(struct hg_tcp *t)
{
    if (hg_outq_is_empty(&t->out) && t->state == ST_FINISHING) {
        shut_down(t);
    }
    if (t->is_over_high && hg_outq_bytes(&t->out) <= t->net->limits.low_bytes) {
        t->is_over_high = false;
        if (t->state == ST_OPEN && t->stream.user->on_drained != NULL) {
            t->stream.user->on_drained(t->stream.user_ctx);
        }
    }
}

/* One write of the first slices. False if the kernel has not taken all that was offered. */
static bool write_some(struct hg_tcp *t)
{
    struct iovec slices[SLICES_MAX];
    struct msghdr message = {.msg_iov = slices};
    message.msg_iovlen = hg_outq_peek(&t->out, slices, SLICES_MAX);
    size_t offered = 0;
    for (size_t i = 0; i < message.msg_iovlen; i++) {
        offered += slices[i].iov_len;
    }
    hg_count(&t->net->counters.writes, 1);
    ssize_t written;
    do { /* mostly it is one slice, for which the kernel has a shorter way */
        written = message.msg_iovlen == 1
                      ? send(t->fd, slices[0].iov_base, slices[0].iov_len, MSG_NOSIGNAL)
                      : sendmsg(t->fd, &message, MSG_NOSIGNAL);
    } while (written < 0 && errno == EINTR);
    if (written < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) {
            end(t, HG_PEER_LOST);
        }
        return false;
    }
    t->has_moved = true;
    hg_count(&t->net->counters.bytes_out, (size_t)written);
    hg_outq_consume(&t->out, (size_t)written);
    return (size_t)written == offered;
}

static void flush(struct hg_tcp *t)
{
    while (!hg_outq_is_empty(&t->out) && !t->is_blocked && t->state != ST_CLOSING) {
        t->is_blocked = !write_some(t);
    }
    if (t->is_blocked) {
        hg_outq_own(&t->out);
    }
    if (t->state != ST_CLOSING) {
        watch(t, (uint8_t)((t->watched & ~EPOLLOUT) | (t->is_blocked ? EPOLLOUT : 0)));
    }
    if (t->state != ST_CLOSING) {
        after_progress(t);
    }
}

size_t hg_tcp_flush_dirty(struct hg_net *net, size_t n)
{
    size_t flushed_n = 0;
    for (; flushed_n < n && !hg_list_is_empty(&net->dirty); flushed_n++) {
        struct hg_tcp *t = HG_LIST_ENTRY(net->dirty.next, struct hg_tcp, link);
        __builtin_prefetch(
            t->link.next); /* which the kernel's work for this one is long enough for */
        hg_list_remove(&t->link);
        flush(t);
    }
    return flushed_n;
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct hg_tcp *t = of_stream(s);
    (void)kind;
    if (t->state > ST_OPEN) {
        return HG_CLOSED;
    }
    if (!hg_outq_push(&t->out, parts, parts_n)) {
        return HG_NO_MEMORY;
    }
    if (hg_outq_bytes(&t->out) > t->net->limits.high_bytes) {
        t->is_over_high = true;
    }
    if (t->state == ST_OPEN && !hg_outq_is_empty(&t->out)) {
        mark_dirty(t);
    }
    return HG_OK;
}

static void await_drained(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    t->is_over_high = true;
    mark_dirty(t);
}

static bool has_moved(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    bool has = t->has_moved;
    t->has_moved = false;
    return has;
}

/* ---- Reading ---- */

static void on_end_of_input(struct hg_tcp *t)
{
    t->has_eof = true;
    if (t->state == ST_OPEN &&
        !hg_outq_is_empty(&t->out)) { /* the peer may have closed its side only */
        t->stream.ops->finish(&t->stream, HG_CLOSED);
    } else if (t->state == ST_OPEN) {
        end(t, HG_CLOSED);
    } else if (t->state == ST_LINGERING) {
        end(t, (enum hg_status)t->why);
    }
}

/* False if there is no more to read for now. */
static bool read_some(struct hg_tcp *t)
{
    uint8_t *buf = t->net->read_buf;
    ssize_t n;
    do {
        n = recv(t->fd, buf, HG_NET_READ_BYTES, 0);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        on_end_of_input(t);
        return false;
    }
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            end(t, t->state == ST_OPEN ? HG_PEER_LOST : (enum hg_status)t->why);
        }
        return false;
    }
    hg_count(&t->net->counters.bytes_in, (uint64_t)n);
    t->net->heard_bytes += t->is_outgoing ? (size_t)n : 0;
    hg_net_note(&t->net->read_n, (size_t)n);
    if (t->state == ST_OPEN) {
        t->stream.user->on_read(t->stream.user_ctx, hg_bytes(buf, (size_t)n));
    }
    return n == HG_NET_READ_BYTES;
}

/* Servers may be heard while clients still wait for what was heard before, but not for more than
 * what a client's queue has room for: nobody is slow because it was not its turn yet. */
static bool must_wait(const struct hg_tcp *t)
{
    const struct hg_net *net = t->net;
    return t->is_outgoing && net->heard_bytes > net->limits.high_bytes / 2 &&
           !hg_list_is_empty(&net->dirty);
}

static void read_input(struct hg_tcp *t)
{
    for (int i = 0; i < READS_PER_EVENT && !must_wait(t); i++) {
        if (!read_some(t) || t->state == ST_CLOSING || !wants_input(t)) {
            return;
        }
    }
}

static void start_input(struct hg_tcp *t)
{
    watch(t, t->watched | EPOLLIN);
}

static void read_start(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    t->is_reading = true;
    if (t->state == ST_OPEN) {
        start_input(t);
    }
}

/* The set is told only if input comes while nobody wants it: often reading goes on before. */
static void read_stop(struct hg_stream *s)
{
    of_stream(s)->is_reading = false;
}

/* ---- Closing ---- */

static void finish(struct hg_stream *s, enum hg_status why)
{
    struct hg_tcp *t = of_stream(s);
    if (t->state == ST_CONNECTING) {
        end(t, why);
    }
    if (t->state != ST_OPEN) {
        return;
    }
    t->state = ST_FINISHING;
    t->why = (uint8_t)why;
    if (!set_deadline(t, FINISH_MS)) {
        end(t, why);
        return;
    }
    if (!t->has_eof) { /* discarded; unread input would make the kernel reset the connection */
        start_input(t);
    }
    if (t->state != ST_CLOSING && hg_outq_is_empty(&t->out)) {
        shut_down(t);
    }
}

static void close_now(struct hg_stream *s, enum hg_status why)
{
    end(of_stream(s), why);
}

static const char *peer(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    struct sockaddr_storage address;
    socklen_t n = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    char *text = t->net->peer_text;
    size_t text_n = sizeof(t->net->peer_text);
    if (getpeername(t->fd, (struct sockaddr *)&address, &n) != 0) {
        return "unknown";
    }
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(in6, host, sizeof(host));
        snprintf(text, text_n, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        uv_ip4_name(in, host, sizeof(host));
        snprintf(text, text_n, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    }
    return text;
}

static const struct hg_stream_ops tcp_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = finish,
    .close = close_now,
    .peer = peer,
    .await_drained = await_drained,
    .has_moved = has_moved,
};

static struct hg_tcp *tcp_new(struct hg_net *net, enum tcp_state state)
{
    struct hg_tcp *t = hg_pool_get(&net->tcp_pool);
    if (t != NULL) {
        t->stream.ops = &tcp_ops;
        t->watch.on_event = on_event;
        t->state = (uint8_t)state;
        t->net = net;
        t->fd = -1;
        hg_list_init(&t->link);
    }
    return t;
}

/* ---- Connecting ---- */

/* An attempt is under way. False if this address cannot be had. */
static bool attempt(struct hg_tcp *t, const struct addrinfo *address)
{
    int on = 1;
    t->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->fd < 0) {
        return false;
    }
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    unsigned patience_ms = t->net->connect_user_timeout_ms;
    if (patience_ms > 0) {
        setsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms));
    }
    if (connect(t->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS &&
        errno != EINTR) {
        close_socket(t);
        return false;
    }
    watch(t, EPOLLOUT);
    return true;
}

static void connect_next(struct hg_tcp *t)
{
    struct tcp_connect *c = t->deadline->connect;
    while (c->next != NULL) {
        const struct addrinfo *address = c->next;
        c->next = address->ai_next;
        if (attempt(t, address)) {
            return;
        }
    }
    end(t, HG_PEER_LOST);
}

static void on_attempted(struct hg_tcp *t)
{
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0 || error != 0) {
        close_socket(t);
        connect_next(t);
        return;
    }
    t->state = ST_OPEN;
    drop_deadline(t);
    watch(t, wanted(t));
    if (t->state == ST_CLOSING) {
        return;
    }
    if (!hg_outq_is_empty(&t->out)) {
        mark_dirty(t);
    }
    t->stream.user->on_open(t->stream.user_ctx);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *addresses)
{
    struct tcp_connect *c = HG_CONTAINER_OF(resolve, struct tcp_connect, resolve);
    struct hg_tcp *t = c->tcp;
    if (t == NULL) {
        uv_freeaddrinfo(addresses);
        hg_free(c);
        return;
    }
    t->is_resolving = false;
    c->addresses = c->next = status == 0 ? addresses : NULL;
    if (t->state == ST_CONNECTING) {
        connect_next(t);
    }
}

struct hg_stream *hg_tcp_connect(struct hg_net *net, const char *host, uint16_t port,
                                 uint64_t timeout_ms, const struct hg_stream_user *user, void *ctx)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char service[8];
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct hg_tcp *t = tcp_new(net, ST_CONNECTING);
    if (t == NULL) {
        return NULL;
    }
    t->is_outgoing = true;
    if (!set_deadline(t, timeout_ms)) {
        goto fail;
    }
    struct tcp_connect *c = t->deadline->connect = hg_zalloc(sizeof(*c));
    if (c == NULL) {
        goto fail;
    }
    c->tcp = t;
    if (uv_getaddrinfo(net->loop, &c->resolve, on_resolved, host, service, &hints) != 0) {
        goto fail;
    }
    t->is_resolving = true;
    hg_stream_set_user(&t->stream, user, ctx);
    return &t->stream;
fail:
    drop_deadline(t);
    hg_pool_put(&net->tcp_pool, t);
    return NULL;
}

struct hg_stream *hg_tcp_accept(struct hg_net *net, int fd_own, struct hg_gate *gate)
{
    struct hg_tcp *t = tcp_new(net, ST_OPEN);
    if (t == NULL) {
        close(fd_own);
        hg_gate_leave(gate);
        return NULL;
    }
    t->gate = gate;
    t->fd = fd_own;
    return &t->stream;
}

/* ---- Events ---- */

static void on_event(struct hg_watch *watched, uint32_t events)
{
    struct hg_tcp *t = HG_CONTAINER_OF(watched, struct hg_tcp, watch);
    HG_CHECK(t->watch.on_event == on_event);
    t->net->events_n++;
    if (t->state == ST_CLOSING) { /* by an earlier event of this turn */
        return;
    }
    if (t->state == ST_CONNECTING) {
        on_attempted(t);
        return;
    }
    uint8_t want = wanted(t);
    if ((events & want) == 0) {
        watch(t, want); /* errors are reported to those who are in the set at all */
    }
    if ((want & EPOLLIN) != 0 && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
        read_input(t);
    }
    if (t->state != ST_CLOSING && t->is_blocked &&
        (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        t->is_blocked = false;
        mark_dirty(t);
    }
}

void hg_tcp_pool_open(struct hg_pool *pool, size_t slab_n)
{
    hg_pool_open(pool, sizeof(struct hg_tcp), slab_n);
}
