/* SPDX-License-Identifier: Apache-2.0 */
/* A client connection: a stream and the session on it, partial input, hold bits, and the one way it
 * ends. */
#ifndef HG_CORE_CONN_H
#define HG_CORE_CONN_H

#include "base/pool.h"
#include "core/adapter.h"
#include "core/session.h"

/* Why nothing is read from a client now; bits. */
enum hg_hold {
    HG_HOLD_UPSTREAM = 1, /* no room towards RabbitMQ; released by the upstream */
    HG_HOLD_SESSION =
        /* the session waits for something before it goes on (a declare, a claim, a full
         * pipeline) */
    2,
    HG_HOLD_LOGIN = 8, /* who the client is is being found out; core/login.c's own */
    HG_HOLD_RATE = 16  /* it publishes faster than it may; core/allowance.c's own */
};

/* The pool that a worker's connections come from. */
void hg_conn_pool_open(struct hg_pool *pool);

/* Takes an accepted stream and opens a session of `adapter` on it; on failure closes the stream. */
void hg_conn_accept(struct hg_worker *worker, struct hg_stream *stream_own,
                    const struct hg_adapter *adapter, const struct hg_listener_spec *listener);

/* Queues bytes; they leave once per loop turn. On a WebSocket each call is one message of the
 * adapter's frame kind. */
enum hg_status hg_conn_send(struct hg_conn *c, const struct hg_part *parts, size_t parts_n);
/* As hg_conn_send, for a message that must not go out as the adapter's frame kind (a STOMP body
 * that is not UTF-8 in a text frame). Other streams take no notice of the kind. */
enum hg_status hg_conn_send_kind(struct hg_conn *c, enum hg_frame_kind kind,
                                 const struct hg_part *parts, size_t parts_n);
enum hg_status hg_conn_send_bytes(struct hg_conn *c, struct hg_bytes bytes); /* copied */
enum hg_status hg_conn_send_buf(struct hg_conn *c, struct hg_buf *buf);      /* shared */
size_t hg_conn_pending(const struct hg_conn *c);                             /* bytes queued */
/* True when n more bytes would exceed the configured outbound limit: apply the slow policy instead
 * of sending. Never of NULL: a session without a connection. */
bool hg_conn_is_full(const struct hg_conn *c, size_t n);

/* The session hears that its output is drained once it is, also where it has not been over the limit. */
void hg_conn_await_drained(struct hg_conn *c);

/* Stops feeding the session (from inside feed: after it returns) until every bit is released; then
 * the rest of the input comes again, from the loop, never from inside hg_conn_release. */
void hg_conn_hold(struct hg_conn *c, enum hg_hold bit);
void hg_conn_release(struct hg_conn *c, enum hg_hold bit);
bool hg_conn_is_held(const struct hg_conn *c);

/* Writes what is queued, then closes; no feed or deliver comes any more. Session's closed(why)
 * follows from the loop at the end of this turn: it need not wait until the client has read
 * everything. A `why` that is the client's mistake is counted and logged. */
void hg_conn_finish(struct hg_conn *c, enum hg_status why);
/* Closes now, dropping output. closed(why) follows from the loop. */
void hg_conn_close(struct hg_conn *c, enum hg_status why);
bool hg_conn_is_closing(const struct hg_conn *c); /* NULL is not */

/* For the HTTP session, from inside feed, after its 101 answer has been queued: puts a WebSocket
 * between stream and conn and a session of `adapter` on it; the present session gets closed(OK) at
 * once, and what its feed returns is ignored. `early`: input after the request. False: no memory,
 * conn is closing. */
bool hg_conn_upgrade(struct hg_conn *c, struct hg_bytes early, const struct hg_adapter *adapter,
                     const char *subprotocol, uint32_t max_message_bytes);

/* From now on asks the worker's silent WebSockets whether they are there ([http] websocket_ping), and
 * ends those that do not answer: KEEP_ALIVE; and ends who takes nothing of what waits for it for
 * [limits] stalled_timeout: TOO_SLOW. */
void hg_conn_watch_start(struct hg_worker *worker);

/* For the HTTP session, from inside feed: `s` (initialised) is the session from here on, the present
 * one gets closed(OK) at once, and what its feed returns is ignored, as is the input behind it. */
void hg_conn_hand_over(struct hg_conn *c, struct hg_session *s);

struct hg_allowance **hg_conn_allowance(struct hg_conn *c); /* core/allowance.c's own */
const char *hg_conn_peer(const struct hg_conn *c);
/* Appends the name in the client's certificate; false: there is none. */
bool hg_conn_certificate(const struct hg_conn *c, enum hg_certificate_name which,
                         struct hg_writer *out);
uint64_t hg_conn_id(const struct hg_conn *c); /* unique in the process */
const struct hg_listener_spec *hg_conn_listener(const struct hg_conn *c);
/* Milliseconds (hg_clock_ms) of the last input. */
uint64_t hg_conn_last_read_ms(const struct hg_conn *c);

/* One JSON object per connection of this worker, comma-separated, for /api/connections: id,
 * protocol, version, transport ("tcp", "websocket"), tls, worker, peer, listener, client_id, user,
 * subscriptions, pending_bytes, slow (whether the session is), backlog_messages, backlog_bytes,
 * dropped (while it is slow), held ("", "upstream", "session", "login",
 * "rate", "output"), connected_at. */
void hg_conn_write_all(struct hg_worker *worker, struct hg_writer *out);

/* Every open session of this worker; it may end, in `each` too. */
typedef void hg_conn_each_fn(void *ctx, struct hg_session *s);
void hg_conn_each(struct hg_worker *worker, hg_conn_each_fn *each, void *ctx);
/* The worker has another configuration than `before`, with the same listeners. */
void hg_conn_reconfigure(struct hg_worker *worker, const struct hg_config *before);

/* Every open session of this worker is asked to say goodbye. */
void hg_conn_drain_all(struct hg_worker *worker);
void hg_conn_close_all(struct hg_worker *worker, enum hg_status why);

#endif
