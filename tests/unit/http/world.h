/* SPDX-License-Identifier: Apache-2.0 */
/* Everything around an HTTP session, played by the test: one connection whose bytes are text, a worker without a loop, rules by
 * prefix, and a publisher that does what it is told. */
#ifndef HG_TEST_HTTP_WORLD_H
#define HG_TEST_HTTP_WORLD_H

#include "core/call.h"
#include "core/conn.h"
#include "core/gather.h"
#include "core/lease.h"
#include "core/once.h"
#include "core/queue.h"
#include "core/retain.h"
#include "core/state.h"
#include "core/upload.h"
#include "core/worker.h"

enum { WORLD_PUBLISHES = 64, WORLD_SUBS = 8, WORLD_CALLS = 8 };

#define assert_has(text, what)                               \
    do {                                                     \
        const char *has_ = (text);                           \
        if (strstr(has_, (what)) == NULL) {                  \
            fail_msg("\"%s\" is not in:\n%s", (what), has_); \
        }                                                    \
    } while (0)

/* What hg_publish was called with, and accepted. */
struct world_publish {
    struct hg_session *session;
    uint64_t id;
    char address[128], body[128], message_id[64], content_type[64], expiration[24];
    char exchange[64];              /* with is_direct, and then the address is the key */
    enum hg_value_kind header_kind; /* of the first one */
    size_t body_n;
    uint8_t delivery_mode;
    size_t headers_n;
    bool is_mandatory, is_retained, is_open; /* open: not settled yet */
};

/* The body of a publish that was begun before it. */
struct hg_upload {
    uint64_t body_bytes;
    struct hg_writer body;
    void (*on_room)(void *owner, uint64_t id);
    bool has_room; /* what hg_upload_write returns */
    bool is_forgotten;
};

/* What hg_subscribe_filter was called with, and accepted. */
struct world_sub {
    struct hg_sub *sub;           /* NULL: unsubscribed */
    char filter[128], match[256]; /* arguments, "name=value " each */
    bool is_served;               /* with what is retained */
};

/* What hg_queue_open was called with. */
struct world_queue {
    const struct hg_queue_ops *ops;
    void *ctx;
    struct hg_session *session;
    struct hg_sub *sub;
    char name[64], filter[128];
    struct hg_value offset; /* x-stream-offset */
    bool is_open;
};

/* What hg_call_begin was called with, and accepted. */
struct world_call {
    hg_call_done_fn *done; /* NULL: it has ended, or was forgotten */
    void *ctx;
    char address[128], body[128], correlation_id[64], expiration[24];
    uint64_t timeout_ms;
    uint8_t delivery_mode;
};

/* The poll or the call about leases that there is. */
struct world_lease {
    enum hg_status status; /* what hg_lease_take returns */
    struct hg_lease_spec spec;
    struct hg_lease_order order;
    char queue[64], ids[256]; /* of either; ids with a blank behind each */
    hg_lease_answered_fn *answered;
    void *ctx;
    bool is_polling, is_calling;
    bool is_here; /* calls are answered at once: done */
};

/* The request that is claimed among all instances; ask.ctx NULL: there is none. */
struct world_once {
    enum hg_once_state state; /* what hg_once_begin and _look return */
    struct hg_once_ask ask;
    char key[64];
    char end[256]; /* "status type body" of the last hg_once_end; body "-": it came to nothing */
};

struct hg_conn {
    struct hg_session *session; /* NULL: closed */
    struct hg_listener_spec listener;
    struct hg_writer in;  /* not used by the session yet */
    struct hg_writer out; /* since the last world_out */
    unsigned held;
    bool is_ended, is_finished; /* hg_conn_close or _finish; _finish */
    enum hg_status why;
    size_t pending; /* what hg_conn_pending says */
    const struct hg_adapter *upgraded;
    const char *subprotocol;
    char early[64];
};

struct world {
    struct hg_config config;
    enum hg_slow slow; /* the policy of every rule */
    struct hg_gateway gateway;
    struct hg_worker worker;
    struct hg_worker *workers[1];
    struct hg_vhost vhost;
    struct hg_realm realm;
    struct hg_realm *realms[1];
    struct hg_conn conn;
    struct world_publish publishes[WORLD_PUBLISHES];
    size_t publishes_n;
    struct hg_upload upload;  /* of the last publish that has one */
    struct world_queue queue; /* the last one */
    const char *replay;       /* what hg_replay_of_filter says; NULL: there is none */
    struct world_call calls[WORLD_CALLS];
    size_t calls_n;
    enum hg_status
        publish_status; /* what hg_publish and hg_call_begin return; HELD holds the connection */
    struct world_sub subs[WORLD_SUBS];
    size_t subs_n, live_n;           /* ever, and not unsubscribed */
    enum hg_status login_status;     /* of a login without a secret; HELD holds the connection */
    unsigned logins_n;               /* calls of hg_session_login */
    enum hg_status subscribe_status; /* what hg_subscribe_filter and hg_rules_subscribe return */
    unsigned resumes;                /* calls of hg_retained_resume */
    struct hg_trie *trie;            /* of the subscriptions; NULL while there is none */
    struct world_lease lease;
    struct world_once once;
    struct hg_state_stats state;  /* what hg_state_stats and its like say */
    hg_gather_ask_fn *gather_ask; /* NULL: none under way */
    hg_gather_done_fn *gather_done;
    void *gather_ctx;
};

/* The world there is; functions of the core that are not given one use it. */
extern struct world world;

/* How often `what` is in `text`. */
unsigned world_count(const char *text, const char *what);
/* Anew, with a connection of this adapter. */
void world_open(const struct hg_adapter *adapter);
/* Closes the connection and checks that nothing is left in memory. */
void world_close(void);
/* Bytes from the client, as one read. */
void world_send_bytes(struct hg_bytes in);
void world_send(const char *text);
/* What came back since the last call, up to the next call; without Date lines. */
const char *world_out(void);
/* The outcome of the i-th publish. */
void world_settle(size_t i, enum hg_status outcome, const char *reason);
/* The i-th publish, an upload, may go on. */
void world_room(size_t i);
/* The outcome of the i-th call; parts: of the reply, NULL: there is none. */
void world_reply(size_t i, enum hg_status outcome, const struct hg_message_parts *parts);
/* RabbitMQ answers the i-th subscription. */
void world_subscribed(size_t i, enum hg_status outcome, const char *reason);
/* A message comes for the i-th subscription. */
void world_deliver(size_t i, const struct hg_message_parts *parts, const char *address,
                   bool is_retained);
/* The state of the queue, as hg_queue_ops.on_state; and a message out of it at this offset. */
void world_queue_state(enum hg_status status);
void world_queue_deliver(int64_t offset, const char *body);
/* The poll has its result, or the call its answers, "dgu", a letter each. */
void world_leased(const struct hg_lease_result *result);
void world_answered(const char *letters);
/* Lets go of a hold; what is kept is fed again. */
void world_release(enum hg_hold bit);
/* Time passes. */
void world_wait(uint64_t ms);
/* The client is gone. */
void world_hang_up(void);
/* The claim has come back from the log, and this is how it stands. */
void world_once(enum hg_once_state state);
/* hg_gather comes to its end. */
void world_gather(void);

#endif
