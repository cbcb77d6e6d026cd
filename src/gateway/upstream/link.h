/* SPDX-License-Identifier: Apache-2.0 */
/* An AMQP connection that keeps itself alive: a TCP stream below an hg_amqp_conn, endpoints tried
 * in turn from a random start, exponential back-off with jitter between attempts, heartbeats driven
 * by the wheel, output written once per loop turn. */
#ifndef HG_UPSTREAM_LINK_H
#define HG_UPSTREAM_LINK_H

#include "amqp/amqp_conn.h"
#include "stream/net.h"
#include "stream/tls_context.h"

struct hg_secret;
struct hg_upstream_metrics;
struct hg_topology_spec;
struct hg_topology_run;

struct hg_endpoint {
    const char *host;
    uint16_t port;
    bool is_tls;      /* amqps:// */
    bool is_external; /* ?auth=external: SASL EXTERNAL */
    const char *user, *password, *vhost;
};

struct hg_link_config {
    const struct hg_endpoint *endpoints; /* borrowed */
    size_t endpoints_n;
    struct hg_tls_context *tls; /* for endpoints that want it; borrowed */
    /* in place of the endpoints' passwords, and given to RabbitMQ whenever it changes; borrowed, may
     * be NULL */
    struct hg_secret *secret;
    const char *user; /* for its name, where it is a client's own; borrowed, may be NULL */
    /* RabbitMQ does not let the endpoint's user in, or not into the virtual host; before on_down.
     * May be NULL. */
    void (*on_refused)(void *ctx, const struct hg_amqp_close *why);
    void *refused_ctx;
    uint64_t heartbeat_ms, connect_timeout_ms;
    uint64_t max_body_bytes;
    /* declared again on every reconnect before the link is up; borrowed, may be NULL */
    const struct hg_topology_spec *topology;
    struct hg_upstream_metrics *metrics; /* may be NULL */
    bool is_quiet;                       /* its ups and downs are only told at level debug */
};

struct hg_link_ops {
    void (*on_up)(void *ctx); /* open, the topology is there: channels may be opened */
    void (*on_down)(void *ctx,
                    const struct hg_amqp_close
                        *why); /* every channel is gone; also after an attempt that failed */
    void (*on_blocked)(void *ctx, bool is_blocked); /* may be NULL */
    void (*on_room)(void *ctx); /* after hg_link_has_room said no; may be NULL */
};

struct hg_link {
    struct hg_net *net;
    struct hg_link_config config;
    const struct hg_link_ops *ops;
    void *ctx;
    char name[96];            /* shown in RabbitMQ and in log lines */
    struct hg_stream *stream; /* NULL: between attempts */
    struct hg_amqp_conn *conn;
    struct hg_timer timer;             /* tick while connected, next attempt otherwise */
    struct hg_defer flush;             /* output -> stream */
    struct hg_defer reaper;            /* frees a connection outside of its own events */
    struct hg_timer secret_timer;      /* looks whether there is a new one */
    uint64_t secret_version;           /* the one that RabbitMQ was given last */
    size_t endpoint;                   /* index of the present or next attempt */
    unsigned failures_n;               /* attempts in a row without success */
    struct hg_topology_run *restoring; /* under way after a reconnect */
    bool is_up, was_up, is_stopping;
    bool was_open;  /* the present attempt's stream got connected */
    bool is_closed; /* the connection has ended and waits for the reaper */
    bool is_polite; /* what is queued still goes out before the stream closes */
    bool wants_room;
    char broken[128]; /* what TLS said of the present stream; empty: nothing */
};

/* Opens in place and makes the first attempt at once. `what`: "publish", "feed", … for the
 * connection's name. */
void hg_link_open(struct hg_link *link, struct hg_net *net, const struct hg_link_config *config,
                  const char *instance, unsigned worker, const char *what,
                  const struct hg_link_ops *ops, void *ctx);
/* The connection while it is up and not being stopped, else NULL. */
struct hg_amqp_conn *hg_link_conn(const struct hg_link *link);
/* Ends the present connection as if it had broken: on_down, then a new attempt. Nothing happens to
 * one that is being stopped. */
void hg_link_reset(struct hg_link *link, const char *why);
/* Whether output that waits is at most the low watermark. After a `no`, on_room comes when it is. */
bool hg_link_has_room(struct hg_link *link);
/* Ends the present connection politely, whatever is half sent on its channels, and makes another:
 * on_down follows, from inside or later. It counts as down at once. */
void hg_link_renew(struct hg_link *link);
/* Closes politely and makes no further attempt; on_down follows if it was up. */
void hg_link_stop(struct hg_link *link);
/* True once a stopped link has no stream any more. */
bool hg_link_is_stopped(const struct hg_link *link);
/* Closes at once, without events. The loop must run once more for the stream to go. */
void hg_link_close(struct hg_link *link);

#endif
