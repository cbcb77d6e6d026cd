/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP connection as a stream: connect or accept, read into the worker's one buffer, write once
 * per loop turn, and end in one place (on_handle_closed). */
#include "stream/tcp.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/outq.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TCP_MAGIC = 0x7463701d,
    FINISH_MS = 5000, /* from finish to the end, at most */
    LINGER_MS = 1000, /* for the peer to close after all was sent */
    TRY_SLICES = 64,
    WAIT_SLICES = 4, /* as many as fit into a uv_write_t without an allocation */
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
    uv_connect_t request;
    struct addrinfo *addresses, *next;
};

struct tcp_deadline { /* what only a beginning or ending connection needs */
    struct hg_tcp *tcp;
    struct hg_timer timer;
    struct tcp_connect *connect; /* while CONNECTING */
};

struct tcp_request {
    uv_write_t write;
    size_t n; /* bytes of the queue that it covers */
};

struct hg_tcp {
    struct hg_stream stream;
    uint32_t magic;
    uint8_t state; /* enum tcp_state */
    uint8_t why;   /* enum hg_status, for on_closed */
    bool is_reading : 1, is_over_high : 1, has_eof : 1, is_resolving : 1;
    struct hg_list dirty_link;
    struct hg_outq out;
    struct tcp_request *request;   /* NULL: the kernel takes more */
    struct tcp_deadline *deadline; /* while CONNECTING, FINISHING, LINGERING */
    _Atomic uint32_t *open_n;      /* the listener's count; NULL: none */
    uv_tcp_t handle;
};
_Static_assert(sizeof(struct hg_tcp) - sizeof(uv_tcp_t) <= 80,
               "an idle connection has 1 KiB, its session included");

static struct hg_tcp *tcp_of(const uv_handle_t *handle)
{
    struct hg_tcp *t = handle->data;
    HG_CHECK(t != NULL && t->magic == TCP_MAGIC);
    return t;
}

static struct hg_tcp *of_stream(const struct hg_stream *s)
{
    struct hg_tcp *t = HG_CONTAINER_OF(s, struct hg_tcp, stream);
    HG_CHECK(t->magic == TCP_MAGIC);
    return t;
}

static struct hg_net *net_of(const struct hg_tcp *t)
{
    return t->handle.loop->data;
}

static uv_stream_t *uv_of(struct hg_tcp *t)
{
    return (uv_stream_t *)&t->handle;
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

static void on_handle_closed(uv_handle_t *handle)
{
    struct hg_tcp *t = tcp_of(handle);
    HG_CHECK(t->request == NULL);
    hg_outq_close(&t->out);
    drop_deadline(t);
    if (t->open_n != NULL) {
        atomic_fetch_sub_explicit(t->open_n, 1, memory_order_relaxed);
    }
    if (t->stream.user != NULL) {
        t->stream.user->on_closed(t->stream.user_ctx, (enum hg_status)t->why);
    }
    t->magic = 0;
    hg_pool_put(&net_of(t)->tcp_pool, t);
}

static void end(struct hg_tcp *t, enum hg_status why)
{
    if (t->state == ST_CLOSING) {
        return;
    }
    t->state = ST_CLOSING;
    t->why = (uint8_t)why;
    hg_list_remove(&t->dirty_link);
    if (t->deadline != NULL) {
        hg_timer_stop(&t->deadline->timer);
    }
    if (!uv_is_closing((uv_handle_t *)&t->handle)) { /* it is between two addresses */
        uv_close((uv_handle_t *)&t->handle, on_handle_closed);
    }
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
    hg_wheel_set(net_of(t)->wheel, &t->deadline->timer, hg_clock_ms() + in_ms);
    return true;
}

/* ---- Writing ---- */

static void mark_dirty(struct hg_tcp *t)
{
    if (t->request == NULL && hg_list_is_empty(&t->dirty_link)) {
        hg_list_add_last(&net_of(t)->dirty, &t->dirty_link);
    }
}

/* Everything is in the kernel's hands: close our side, and the whole at the peer's end of input. */
static void shut_down(struct hg_tcp *t)
{
    uv_os_fd_t fd;
    if (t->has_eof || uv_fileno((uv_handle_t *)&t->handle, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0 || !set_deadline(t, LINGER_MS)) {
        end(t, (enum hg_status)t->why);
        return;
    }
    t->state = ST_LINGERING;
}

static size_t pending(const struct hg_stream *s)
{
    const struct hg_tcp *t = of_stream(s);
    size_t n = hg_outq_bytes(&t->out);
    if (t->request != NULL) { /* part of it may have left already */
        n -= t->request->n - uv_stream_get_write_queue_size((const uv_stream_t *)&t->handle);
    }
    return n;
}

static void after_progress(struct hg_tcp *t)
{
    if (hg_outq_is_empty(&t->out) && t->state == ST_FINISHING) {
        shut_down(t);
    }
    if (t->is_over_high && hg_outq_bytes(&t->out) <= net_of(t)->limits.low_bytes) {
        t->is_over_high = false;
        if (t->state == ST_OPEN && t->stream.user->on_drained != NULL) {
            t->stream.user->on_drained(t->stream.user_ctx);
        }
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct hg_tcp *t = tcp_of((const uv_handle_t *)write->handle);
    struct tcp_request *request = t->request;
    t->request = NULL;
    hg_outq_consume(&t->out, request->n);
    if (status == 0) {
        hg_count(&net_of(t)->counters.bytes_out, request->n);
    }
    hg_pool_put(&net_of(t)->request_pool, request);
    if (t->state == ST_CLOSING) {
        return;
    }
    if (status != 0) {
        end(t, HG_PEER_LOST);
        return;
    }
    if (!hg_outq_is_empty(&t->out)) {
        mark_dirty(t);
    }
    after_progress(t);
}

/* The kernel's buffer is full: one request at a time waits for room in it. */
static void wait_for_room(struct hg_tcp *t)
{
    uv_buf_t bufs[WAIT_SLICES];
    struct tcp_request *request = hg_pool_get(&net_of(t)->request_pool);
    if (request == NULL) {
        end(t, HG_NO_MEMORY);
        return;
    }
    unsigned n = hg_outq_peek(&t->out, bufs, WAIT_SLICES);
    request->n = 0;
    for (unsigned i = 0; i < n; i++) {
        request->n += bufs[i].len;
    }
    hg_count(&net_of(t)->counters.writes, 1);
    if (uv_write(&request->write, uv_of(t), bufs, n, on_written) != 0) {
        hg_pool_put(&net_of(t)->request_pool, request);
        end(t, HG_PEER_LOST);
        return;
    }
    t->request = request;
}

static void flush(struct hg_tcp *t)
{
    while (!hg_outq_is_empty(&t->out)) {
        uv_buf_t bufs[TRY_SLICES];
        unsigned n = hg_outq_peek(&t->out, bufs, TRY_SLICES);
        size_t offered = 0;
        for (unsigned i = 0; i < n; i++) {
            offered += bufs[i].len;
        }
        hg_count(&net_of(t)->counters.writes, 1);
        int written = uv_try_write(uv_of(t), bufs, n);
        if (written < 0 && written != UV_EAGAIN) {
            end(t, HG_PEER_LOST);
            return;
        }
        if (written > 0) {
            hg_count(&net_of(t)->counters.bytes_out, (size_t)written);
            hg_outq_consume(&t->out, (size_t)written);
        }
        if (written < 0 || (size_t)written < offered) {
            wait_for_room(t);
            break;
        }
    }
    if (t->state != ST_CLOSING) {
        after_progress(t);
    }
}

void hg_tcp_flush_dirty(struct hg_net *net)
{
    while (!hg_list_is_empty(&net->dirty)) {
        struct hg_tcp *t = HG_LIST_ENTRY(net->dirty.next, struct hg_tcp, dirty_link);
        hg_list_remove(&t->dirty_link);
        flush(t);
    }
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
    if (hg_outq_bytes(&t->out) > net_of(t)->limits.high_bytes) {
        t->is_over_high = true;
    }
    if (t->state == ST_OPEN && !hg_outq_is_empty(&t->out)) {
        mark_dirty(t);
    }
    return HG_OK;
}

/* ---- Reading ---- */

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    *buf = uv_buf_init((char *)net_of(tcp_of(handle))->read_buf, HG_NET_READ_BYTES);
}

static void on_end_of_input(struct hg_tcp *t)
{
    t->has_eof = true;
    uv_read_stop(uv_of(t));
    if (t->state == ST_OPEN &&
        !hg_outq_is_empty(&t->out)) { /* the peer may have closed its side only */
        t->stream.ops->finish(&t->stream, HG_CLOSED);
    } else if (t->state == ST_OPEN) {
        end(t, HG_CLOSED);
    } else if (t->state == ST_LINGERING) {
        end(t, (enum hg_status)t->why);
    }
}

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct hg_tcp *t = tcp_of((const uv_handle_t *)stream);
    if (n == UV_EOF) {
        on_end_of_input(t);
    } else if (n < 0) {
        end(t, t->state == ST_OPEN ? HG_PEER_LOST : (enum hg_status)t->why);
    } else if (n > 0) {
        hg_count(&net_of(t)->counters.bytes_in, (uint64_t)n);
        if (t->state == ST_OPEN) {
            t->stream.user->on_read(t->stream.user_ctx, hg_bytes(buf->base, (size_t)n));
        }
    }
}

static void read_start(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    t->is_reading = true;
    if (t->state == ST_OPEN) {
        uv_read_start(uv_of(t), lend_buffer, on_input);
    }
}

static void read_stop(struct hg_stream *s)
{
    struct hg_tcp *t = of_stream(s);
    t->is_reading = false;
    if (t->state == ST_OPEN) {
        uv_read_stop(uv_of(t));
    }
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
        uv_read_start(uv_of(t), lend_buffer, on_input);
    }
    if (hg_outq_is_empty(&t->out)) {
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
    int n = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    char *text = net_of(t)->peer_text;
    size_t text_n = sizeof(net_of(t)->peer_text);
    if (uv_tcp_getpeername(&t->handle, (struct sockaddr *)&address, &n) != 0) {
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
};

static struct hg_tcp *tcp_new(struct hg_net *net, enum tcp_state state)
{
    struct hg_tcp *t = hg_pool_get(&net->tcp_pool);
    if (t != NULL) {
        t->stream.ops = &tcp_ops;
        t->magic = TCP_MAGIC;
        t->state = (uint8_t)state;
        t->handle.loop = net->loop;
        hg_list_init(&t->dirty_link);
    }
    return t;
}

static void open_handle(struct hg_tcp *t)
{
    uv_tcp_init(t->handle.loop, &t->handle); /* makes no socket yet: cannot fail */
    t->handle.data = t;
}

/* ---- Connecting ---- */

static void connect_next(struct hg_tcp *t);

/* A handle takes one attempt only; the next address gets a fresh one. */
static void on_attempt_closed(uv_handle_t *handle)
{
    struct hg_tcp *t = tcp_of(handle);
    if (t->state == ST_CLOSING) {
        on_handle_closed(handle);
        return;
    }
    open_handle(t);
    connect_next(t);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct hg_tcp *t = tcp_of((const uv_handle_t *)request->handle);
    if (t->state == ST_CLOSING) {
        return;
    }
    if (status != 0) {
        uv_close((uv_handle_t *)&t->handle, on_attempt_closed);
        return;
    }
    t->state = ST_OPEN;
    drop_deadline(t);
    uv_tcp_nodelay(&t->handle, 1);
    if (t->is_reading) {
        uv_read_start(uv_of(t), lend_buffer, on_input);
    }
    if (!hg_outq_is_empty(&t->out)) {
        mark_dirty(t);
    }
    t->stream.user->on_open(t->stream.user_ctx);
}

static void connect_next(struct hg_tcp *t)
{
    struct tcp_connect *c = t->deadline->connect;
    struct addrinfo *address = c->next;
    if (address == NULL) {
        end(t, HG_PEER_LOST);
        return;
    }
    c->next = address->ai_next;
    if (uv_tcp_connect(&c->request, &t->handle, address->ai_addr, on_connected) != 0) {
        uv_close((uv_handle_t *)&t->handle, on_attempt_closed);
    }
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
    open_handle(t);
    hg_stream_set_user(&t->stream, user, ctx);
    return &t->stream;
fail:
    drop_deadline(t);
    hg_pool_put(&net->tcp_pool, t);
    return NULL;
}

struct hg_stream *hg_tcp_accept(struct hg_net *net, int fd_own, _Atomic uint32_t *open_n)
{
    struct hg_tcp *t = tcp_new(net, ST_OPEN);
    if (t == NULL) {
        close(fd_own);
        if (open_n != NULL) {
            atomic_fetch_sub_explicit(open_n, 1, memory_order_relaxed);
        }
        return NULL;
    }
    t->open_n = open_n;
    open_handle(t);
    if (uv_tcp_open(&t->handle, fd_own) != 0) {
        close(fd_own);
        end(t, HG_SERVER_ERROR); /* with no user: nobody hears of it */
        return NULL;
    }
    return &t->stream;
}

void hg_tcp_pools_open(struct hg_net *net, size_t tcp_slab_n, size_t request_slab_n)
{
    hg_pool_open(&net->tcp_pool, sizeof(struct hg_tcp), tcp_slab_n);
    hg_pool_open(&net->request_pool, sizeof(struct tcp_request), request_slab_n);
}
