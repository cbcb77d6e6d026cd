/* SPDX-License-Identifier: Apache-2.0 */
/* What a protocol adapter implements, and what the gateway does for it. A session is one client's
 * protocol state; it knows neither sockets nor AMQP frames. All calls come on its own worker. */
#ifndef HG_CORE_SESSION_H
#define HG_CORE_SESSION_H

#include "base/chain.h"
#include "base/list.h"
#include "base/status.h"
#include "core/delivery.h"
#include "core/fanout.h"
#include "core/publish.h"

#include <sys/types.h>

struct hg_conn;
struct hg_identity;
struct hg_login;
struct hg_queue;
struct hg_rare;
struct hg_worker;
struct hg_session;
struct hg_sub;

/* for /api/connections and log lines; borrowed until the session is called again */
struct hg_session_info {
    const char *version; /* "3.1.1", "1.2", "1.1" */
    struct hg_bytes client_id, user;
};

struct hg_session_ops {
    /* Bytes came. Returns how many were used (the rest comes again, with more behind it, once there
     * is more or the session is released); < 0: *err says why, the connection ends after what is
     * queued has been written. After a call below returned HELD it must return at once, without
     * having used the packet that was held: the same bytes come again later. */
    ssize_t (*feed)(struct hg_session *s, struct hg_bytes in, struct hg_error *err);
    /* A message for subscriptions of this session, joined by hg_sub.next_match; NULL from a queue
     * whose options named none. Never blocks, never closes synchronously (use hg_conn_finish). */
    void (*deliver)(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches);
    /* Publish `id` has its one outcome: OK (confirmed), UNROUTABLE, REJECTED, NO_EXCHANGE,
     * TIMED_OUT, BROKER_AWAY, …; reason is text for people (RabbitMQ's own where there is one),
     * valid during the call. */
    void (*settled)(struct hg_session *s, uint64_t id, enum hg_status outcome,
                    struct hg_bytes reason);
    /* A subscription is live in RabbitMQ (OK) or failed; after a failure it is unsubscribed
     * already. Also called later with a failure if a live one is ended from outside (its queue was
     * deleted). */
    void (*subscribed)(struct hg_session *s, struct hg_sub *sub, enum hg_status outcome,
                       struct hg_bytes reason);
    /* hg_declare_queue or hg_delete_queue `id` is done. NULL where never used. */
    void (*declared)(struct hg_session *s, uint64_t id, enum hg_status outcome,
                     struct hg_bytes reason);
    /* Whether retained messages may go on coming; NULL: as long as the connection has room. */
    bool (*wants_more)(struct hg_session *s);
    /* Output fell below the low watermark after having been above the high one; NULL: no matter. */
    void (*drained)(struct hg_session *s);
    /* A message was dropped because the client is slow; NULL: no matter. */
    void (*dropped)(struct hg_session *s);
    /* The client is to go because it is slow: say so in the protocol's way and hg_conn_finish. NULL:
     * there is no such way. From inside deliver. */
    void (*too_slow)(struct hg_session *s);
    /* The client may not stay: the time of its token is over (EXPIRED), or by the configuration that
     * holds now it could not come in (NOT_ALLOWED). Say so in the protocol's way and
     * hg_conn_finish. NULL: the session looks itself, at each request. */
    void (*expired)(struct hg_session *s, enum hg_status why);
    /* The gateway shuts down: say goodbye in the protocol's way and hg_conn_finish (now, or when
     * what is under way is settled). */
    void (*drain)(struct hg_session *s);
    /* The connection is gone for `why` (CLOSED: the client closed it; TAKEN_OVER, KEEP_ALIVE, …):
     * publish a will, unsubscribe everything, free the session. The last call; but a session that
     * has something to write down may stay for a while, with conn set to NULL: then it is still
     * told what becomes of its publishes, and what its queues bring. */
    void (*closed)(struct hg_session *s, enum hg_status why);
    void (*describe)(struct hg_session *s, struct hg_session_info *out);
};

struct hg_session { /* first member of an adapter's session */
    const struct hg_session_ops *ops;
    struct hg_conn *conn;
    struct hg_worker *worker;
    struct hg_identity *identity; /* a reference; NULL: not known, core/identity.h */
    struct hg_list subs;          /* hg_sub.session_link */
    struct hg_chain publishes;    /* under way, see upstream/publisher.h */
    struct hg_chain declares;     /* under way */
    struct hg_chain servings;     /* retained messages on their way; core/retain.c's own */
    struct hg_login *login; /* while it waits to be known, or is known for a time; core/login.c's */
    struct hg_rare *rare;   /* what few sessions need at a time; core/session.c's own */
    uint32_t match_at;      /* fan-out's scratch during one delivery */
    uint32_t subs_n;
    uint16_t realm; /* which of its worker's it is in: hg_realm_of */
    uint8_t proto;  /* enum hg_protocol */
    /* one deliver call with all matching subscriptions (MQTT) rather than one each (STOMP) */
    bool merges_overlaps;
    bool is_trusted; /* the gateway's own: it may everything */
};

/* A subscription; first member of an adapter's own, which allocates and frees it. */
struct hg_sub {
    struct hg_session *session; /* NULL: not subscribed */
    struct hg_list session_link;
    struct hg_fanout_entry entry; /* place in the local index */
    struct hg_trie *index;        /* which one */
    struct hg_sub *next_match;    /* during a deliver call */
    struct hg_sub_link *links; /* what it holds in RabbitMQ; core/subscribe.c's own, as the next */
    uint16_t links_n, waiting_n;
    bool has_pooled_link : 1;
    bool has_filter : 1;    /* kept with its links: it is in no index */
    uint8_t refused;        /* by new rules, enum hg_status; subscribed() is about to be told */
    bool takes_redelivered; /* QoS 1 and up: is shown redelivered messages */
    bool is_live;           /* subscribed() has been told OK */
};

/* Once, by the adapter's open function. */
void hg_session_init(struct hg_session *s, const struct hg_session_ops *ops, enum hg_protocol proto,
                     struct hg_conn *conn, struct hg_worker *worker);
/* Ends every subscription and forgets outstanding publishes (they still go out; settled is not
 * called any more). For closed(). */
void hg_session_detach(struct hg_session *s);

/* ---- Subscribing ---------------------------------------------------------------------------------------------------- */

/* Through the rules. OK: subscribed() comes later, never from inside. Else refused now with
 * *why_out (static text, may be NULL); TOO_MANY past the configured number. sub is zeroed by the
 * caller and stays in place until hg_unsubscribe or a failure. The filter is copied into the
 * index. */
enum hg_status hg_subscribe_filter(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter,
                                   const char **why_out);

#define HG_MATCH_MISPLACED \
    "x-match is for addresses whose rules lead to an exchange of type headers"
struct
    hg_match { /* arguments for bindings to exchanges that match by headers, x-match among them */
    const struct hg_header *items;
    size_t n;
};
/* As hg_subscribe_filter, of what comes through exchanges that match by headers (copied), and nothing
 * else. BAD_FILTER where the filter leads to none. */
enum hg_status hg_subscribe_matching(struct hg_session *s, struct hg_sub *sub,
                                     struct hg_bytes filter, const struct hg_match *match,
                                     const char **why_out);
/* Whether bindings made by this plan can match by headers. */
bool hg_plan_matches_headers(const struct hg_binding_plan *plan);

struct hg_source { /* what to subscribe to, by RabbitMQ's own names */
    struct hg_bytes exchange, key;
};
/* As hg_subscribe_filter. Topic, direct and fanout exchanges are coalesced on the worker's feed,
 * others get a queue of their own. */
enum hg_status hg_subscribe_source(struct hg_session *s, struct hg_sub *sub,
                                   const struct hg_source *source, const char **why_out);
/* In an address trie of the adapter's (NULL: in none), not in RabbitMQ. OK: live, without a call. */
enum hg_status hg_subscribe_index(struct hg_session *s, struct hg_sub *sub, struct hg_trie *index,
                                  struct hg_bytes filter, const char **why_out);
/* At once: no deliver call after it. Safe on a zeroed or failed sub. */
void hg_unsubscribe(struct hg_sub *sub);

struct hg_queue_spec { /* how to declare a queue; arguments are validated already */
    struct hg_bytes name;
    bool is_durable, is_exclusive, is_auto_delete;
    const struct hg_header *arguments;
    size_t arguments_n;
};
/* Declares a queue, on a channel where a refusal disturbs nobody; declared() comes later. */
enum hg_status hg_declare_queue(struct hg_session *s, const struct hg_queue_spec *spec,
                                uint64_t id);
/* Deletes one, with what is in it, likewise; there need not be one. */
enum hg_status hg_delete_queue(struct hg_session *s, struct hg_bytes name, uint64_t id);

#endif
