/* SPDX-License-Identifier: Apache-2.0 */
/* What all streams of one worker share: its loop (a turn of which is in turn.c), the one read
 * buffer, pools, and the list of streams with output. Of these some are written at the end of each
 * turn, and there is another turn at once while there are more: what comes meanwhile is read, and
 * goes out in one write with what a stream has yet to send. */
#ifndef HG_STREAM_NET_H
#define HG_STREAM_NET_H

#include "base/counter.h"
#include "base/list.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/wheel.h"
#include "stream/joint.h"
#include "stream/stream.h"

#include <uv.h>

enum { HG_NET_READ_BYTES = 64 * 1024, HG_NET_WS_DECODERS = 16, HG_NET_SPACE_MAX_US = 1500 };

struct hg_ws_decoder;

/* A descriptor of the set that a turn waits in; part of its owner, with on_event set (events as
 * epoll has them). Its owner lives until the end of the turn in which the descriptor leaves the
 * set. */
struct hg_watch {
    void (*on_event)(struct hg_watch *watch, uint32_t events);
};

/* Work put off to the end of the loop turn: run once, before this turn's output is written and the
 * loop sleeps. What is deferred while deferred work runs, runs in the same turn. Zero-initialised
 * with `run` set; may be taken back with hg_net_undefer. */
struct hg_defer {
    struct hg_list link;
    void (*run)(struct hg_defer *defer);
};

static inline bool hg_defer_is_set(const struct hg_defer *defer)
{
    return defer->link.next != NULL && defer->link.next != &defer->link;
}

struct hg_net_counters {
    hg_counter bytes_in, bytes_out, writes, accepted, accept_errors;
    hg_counter turns, pauses, paused_us; /* of the loop; see hg_net_space */
    /* closed at once: all of them; those for a listener's gate, and those for one around it */
    hg_counter refused_limit, refused_listener, refused_outer;
    hg_counter tls_handshakes, tls_failures;
};

struct hg_stream_limits {
    size_t low_bytes, high_bytes; /* watermarks for on_drained */
};

struct hg_net {
    uv_loop_t *loop;                  /* borrowed */
    struct hg_wheel *wheel;           /* borrowed; advanced once a turn */
    struct hg_log *log;               /* borrowed */
    struct hg_stream_limits limits;   /* of every stream; hg_net_open sets defaults */
    unsigned connect_user_timeout_ms; /* of connections made from here: how long sent bytes may
                                       * stay unacknowledged (TCP_USER_TIMEOUT); 0: the kernel's */
    uint8_t *read_buf;                /* HG_NET_READ_BYTES; lent to one read callback at a time */
    uint8_t *payload_buf;             /* as large; a WebSocket's unmasked input, lent likewise */
    uint8_t *tls_buf;                 /* decrypted input, lent likewise; NULL before the first */
    size_t read_n, payload_n, tls_n;  /* most that was in each since it was overwritten */
    struct hg_defer forget;           /* overwrites them */
    struct bio_method_st *tls_method; /* OpenSSL's way to a stream; NULL before the first */
    size_t tls_shaking_n;             /* TLS handshakes under way */
    char peer_text[64];               /* what the last call of a stream's `peer` returned */
    char tls_text[160];               /* what was wrong with the last TLS connection that failed */
    int epoll_fd;                     /* what a turn waits in: every socket of the worker, */
    struct hg_watch libuv;            /* and libuv's own set */
    uv_prepare_t alive;               /* keeps libuv's loop from ending before hg_net_close */
    bool is_libuv_due;
    uint64_t turn_us;        /* when the last wait ended */
    unsigned space_us;       /* from there to the next turn, at least */
    size_t events_n;         /* of TCP streams, in this turn */
    size_t heard_bytes;      /* from servers since `dirty` was empty */
    size_t flushed_n;        /* streams, likewise */
    struct hg_list dirty;    /* streams with output that has not been tried yet */
    struct hg_list ended;    /* TCP streams whose on_closed is due */
    struct hg_list deferred; /* struct hg_defer */
    struct hg_list late;     /* likewise, once output has been written */
    struct hg_list starved;  /* listeners without descriptors; listener.c's own */
    struct hg_pool tcp_pool;
    struct hg_joints joints;                               /* of this turn */
    struct hg_ws_decoder *ws_decoders[HG_NET_WS_DECODERS]; /* idle ones, to be lent again */
    unsigned ws_decoders_n;
    struct hg_net_counters counters;
};

/* False when there is no memory or descriptor; then nothing is open. Keeps the loop alive until
 * hg_net_close. From now on nobody runs the loop but the two functions below. */
bool hg_net_open(struct hg_net *net, uv_loop_t *loop, struct hg_wheel *wheel, struct hg_log *log);
/* A turn: waits, if it may and there is nothing to do, until a socket, libuv or a timer has
 * something; handles that; writes. False: neither the net nor its loop has anything left. */
bool hg_net_turn(struct hg_net *net, bool may_wait);
/* Turns until then. */
void hg_net_run(struct hg_net *net);
/* After every stream and handle has been told to close; then hg_net_run and hg_net_free. */
void hg_net_close(struct hg_net *net);
void hg_net_free(struct hg_net *net);

/* Watches for EPOLLIN, EPOLLOUT or both, and by that for errors and, with EPOLLIN, for the peer's end
 * (EPOLLRDHUP). `has` is what was asked for last, 0: nothing. A descriptor leaves the set by 0 or by
 * being closed. False when there is no memory: all is as it was. */
bool hg_net_watch(struct hg_net *net, int fd, struct hg_watch *watch, uint8_t has, uint8_t wants);

/* Idempotent both ways. */
void hg_net_defer(struct hg_net *net, struct hg_defer *defer);
/* The same behind this turn's output, for what nobody waits for: a server that is woken first, by an
 * acknowledgement, keeps the client from what it does wait for. */
void hg_net_defer_late(struct hg_net *net, struct hg_defer *defer);
void hg_net_undefer(struct hg_defer *defer);

/* Under load: the next turn begins no sooner than so long after this one began, so that it finds
 * more at once. For this turn only; the largest wish counts, up to HG_NET_SPACE_MAX_US. */
void hg_net_space(struct hg_net *net, unsigned us);

/* What has been read was secret: at the end of the turn, when nobody has it on loan, all of it is
 * overwritten. */
void hg_net_forget_input(struct hg_net *net);
static inline void hg_net_note(size_t *most, size_t n)
{
    *most = n > *most ? n : *most;
}

/* Resolves host anew (uv_getaddrinfo), connects, tries each address in turn; on_open or on_closed
 * (TIMED_OUT, PEER_LOST) follows, never from inside. timeout_ms covers all of it. NULL when there
 * is no memory. TCP_NODELAY is set. */
struct hg_stream *hg_tcp_connect(struct hg_net *net, const char *host, uint16_t port,
                                 uint64_t timeout_ms, const struct hg_stream_user *user, void *ctx);

/* How many connections there may be at once; all workers count in it. Who is inside is inside the
 * outer one too. */
struct hg_gate {
    _Atomic uint32_t open_n;
    _Atomic uint32_t max_n; /* 0: any number */
    struct hg_gate *outer;  /* NULL: none */
};
/* A connection that was inside has gone. NULL is fine. */
void hg_gate_leave(struct hg_gate *gate);

struct hg_listener;
/* Called for each accepted connection; the callee sets the stream's user at once, or closes the
 * stream. The stream is open: no on_open comes. Reading starts with read_start. */
typedef void hg_accept_fn(void *ctx, struct hg_stream *stream);

struct hg_listener_config {
    const char *host; /* numeric IPv4 or IPv6 address, or a name: then every address it has */
    uint16_t port;    /* 0: the system chooses; see hg_listener_port */
    int backlog;
    /* fail if somebody else listens there; later workers share the first one's port */
    bool is_first;
    bool has_proxy; /* each connection begins with a PROXY header */
    /* Who is not let in is closed at once and counted. Outlives all connections; NULL: none. */
    struct hg_gate *gate;
};
/* An SO_REUSEPORT socket of this worker's own. NULL and *err_text (static or strerror text) on
 * failure. */
struct hg_listener *hg_listener_open(struct hg_net *net, const struct hg_listener_config *config,
                                     hg_accept_fn *accept, void *ctx, const char **err_text);
uint16_t hg_listener_port(const struct hg_listener *l);
/* Stops accepting; frees itself from the loop. Accepted streams live on. NULL is fine. */
void hg_listener_close(struct hg_listener *l);

struct hg_ws_limits {
    uint32_t max_message_bytes;
    bool is_binary_only; /* a text message ends it: 1003 */
};

/* Server side of a WebSocket (RFC 6455) over an established stream whose HTTP upgrade has been
 * answered; `early` are bytes that came after the request (copied). It becomes the lower stream's
 * user. User gets message payloads through on_read, joined or split anywhere; pings are answered,
 * close frames exchanged, UTF-8 of text checked, unmasked frames refused (1002), messages beyond
 * the limits too (1003, 1009). To a peer whose first message is binary everything goes out as
 * binary. No wslay context is held between frames. Reading starts with read_start. NULL when there
 * is no memory: then the lower stream closes, and its present user hears of it. */
struct hg_stream *hg_ws_accept(struct hg_net *net, struct hg_stream *lower_own,
                               struct hg_bytes early, const struct hg_ws_limits *limits,
                               const struct hg_stream_user *user, void *ctx);
/* Of such a stream, called now and then: pings a peer from which nothing has come for every_ms, not
 * even a control frame, and which takes nothing of what waits for it. False once it has not
 * answered for as long again. While nobody reads from the stream, no time passes. */
bool hg_ws_probe(struct hg_stream *ws, uint64_t now_ms, uint64_t every_ms);

#endif
