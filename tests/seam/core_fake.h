/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's core without loop, sockets or RabbitMQ, for wire tests of a session. It knows no
 * protocol: it keeps what core/session.h, core/conn.h, core/directory.h and core/worker.h promise
 * to an adapter, and the test is everything behind them: client, RabbitMQ, other workers, time.
 * Linked in place of the core library, with seam/clock.c as the clock.
 *
 * A test is a script, as a table:
 *
 *     static const struct core_script scripts[] = {
 *         {"puback waits for the confirm", NULL, {
 *             {SEND, "32 06 0001 74 1234 00"},
 *             {CALLS, "publish t mode=2 [\\x00]"},
 *             {SILENCE, ""},
 *             {CONFIRM, ""},
 *             {EXPECT, "40 02 1234"}}},
 *     };
 *     core_play(&hg_mqtt_adapter, NULL, &scripts[i]);
 *
 * core_play runs it once with every piece of input whole, once byte by byte, and once for every
 * point at which the client's bytes can be cut in two; each time in a new core, which must end
 * without a leak. What scripts cannot say, tests say with the functions further down. */
#ifndef HG_SEAM_CORE_FAKE_H
#define HG_SEAM_CORE_FAKE_H

#include "core/conn.h"
#include "core/login.h"
#include "core/worker.h"

enum core_step_kind {
    CORE_END, /* of the steps */

    /* The client. */
    SEND,      /* its bytes, hex with blanks */
    SEND_TEXT, /* its bytes as they are, but for ^@, which is a NUL */
    EXPECT,    /* exactly this has been sent to it since the last look, hex */
    EXPECT_TEXT,
    EXPECT_LIKE, /* text in which … is whatever was there */
    SILENCE,     /* nothing has */
    FORGET,      /* what has been sent, and asked of the core, is another script's concern */
    ON,     /* "2": the steps from here on are about another connection, opened now if it is new */
    LEAVE,  /* it closes its end: CLOSED, or the status given */
    CLOSED, /* it has been disconnected, for the status given */
    OPEN,   /* it has not */

    /* RabbitMQ. */
    CALLS, /* exactly this was asked of the core since the last look: calls, separated by "; " */
    /* the oldest publish without an outcome has one: OK, or what is given; "2 REJECTED": the second
     * oldest */
    CONFIRM,
    SUBSCRIBED, /* the same for the oldest subscription without an answer */
    DECLARED,   /* the same for a declaration */
    ENDED,      /* the oldest live subscription ends from outside, for the status given */
    QUEUE_IS, /* the oldest queue that the session consumes is told its state: OK, or what is given */
    LOST,     /* the oldest claim on a client identifier is, for the status given */
    STATE,    /* another process writes to the state log: see core_state_write */
    STATE_IS,   /* "AWAY": it cannot be reached from now on; "BACK"; else the status that its oldest
               * question is answered with, where is_state_held */
    PUBLISH_IS, /* what hg_publish returns from now on; OK after HELD releases who was held */
    LOGIN_IS,   /* what hg_session_login and _renew return from now on; after HELD it goes on */
    DELIVER, /* "address=a/b mode=2 body=hello world": to whoever subscribed; see core_delivery */
    SERVE,   /* the same, as a retained message, to the oldest hg_retained_serve of f->conn */

    /* The rest of the world. */
    WAIT,  /* so many milliseconds pass */
    DRAIN, /* the gateway shuts down */
    FULL,  /* so many bytes wait for the client to read; 0: it has read them */
};

struct core_fake;

struct core_step {
    enum core_step_kind kind;
    const char *text;
};

enum { CORE_STEPS_MAX = 32, CORE_CONNS_MAX = 4 };

struct core_script {
    const char *title;
    void (*prepare)(struct core_fake *f); /* before the first connection; may be NULL */
    struct core_step steps[CORE_STEPS_MAX];
};

void core_play(const struct hg_adapter *adapter, const char *subprotocol,
               const struct core_script *script);

/* ---- Without a script ---- */

struct core_fake {
    /* The test's to change. */
    struct hg_config config; /* the defaults of the shipped file, as far as sessions look at them */
    struct hg_gateway gateway;
    struct hg_worker worker;
    struct hg_vhost vhost;
    struct hg_realm realm;
    struct hg_realm *realms[1];
    enum hg_status publish_status;   /* of hg_publish: OK at first */
    enum hg_status login_status;     /* of hg_session_login and _renew: OK at first */
    struct hg_identity *identity;    /* a reference: what a login that is OK finds; NULL: none */
    enum hg_status subscribe_status; /* of hg_subscribe_…: OK at first */
    enum hg_on_reject on_reject;     /* of the rule that takes publishes */
    /* subscriptions, declarations and queues succeed by themselves, at the next turn */
    bool is_answering;
    bool has_queues;            /* queues that are opened have existed */
    bool is_withholding_claims; /* client identifiers are not granted */
    const char *rule_queue;     /* the queue that a rule has for every filter; NULL: none */
    enum hg_slow slow;          /* the policy of every rule */
    bool is_queue_stale;        /* answers to deliveries come too late */
    bool is_state_away;         /* the state log cannot be reached */
    bool is_state_held;         /* it answers only to STATE_IS, not by itself at the next turn */

    /* The test's to look at. */
    struct hg_writer calls; /* as CALLS has them, until core_forget */
    struct hg_conn *conns[CORE_CONNS_MAX];
    struct hg_conn *conn; /* the one that functions without a conn of their own mean */

    /* Its own. */
    const struct hg_adapter *adapter;
    const char *subprotocol;
    struct hg_list publishes, subs, declares, claims, queues, servings;
    struct hg_trie *index;
    struct hg_rules *rules;   /* the built-in rule */
    struct core_state *state; /* NULL: there is none */
    uint64_t epoch;           /* of the last claim of a client identifier */
};

void core_open(struct core_fake *f);
/* Ends every connection. */
void core_close(struct core_fake *f);
/* A new connection, which becomes f->conn. */
struct hg_conn *core_connect(struct core_fake *f, const struct hg_adapter *adapter,
                             const char *subprotocol);
void core_feed(struct core_fake *f, struct hg_bytes in);
/* What a turn of the loop does: due timers, grants, answers, input after a hold, ends of
 * connections. */
void core_turn(struct core_fake *f);
/* Lets time pass, turning at every tick of the wheel. */
void core_pass(struct core_fake *f, uint64_t ms);
/* What was sent to f->conn, joined, until core_forget. */
struct hg_bytes core_sent(const struct core_fake *f);
/* Forgets what was sent to f->conn. */
void core_forget_sent(struct core_fake *f);
/* Forgets that, and the calls. */
void core_forget(struct core_fake *f);

/* The n-th (0: the oldest) publish, subscription, declaration without an outcome gets one. */
void core_settle(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason);
void core_answer(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason);
bool core_has_waiting(const struct core_fake *f); /* a subscription without an answer */
void core_declared(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason);
/* Ends a live subscription from outside: its queue is gone. */
void core_end_sub(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason);
/* A queue that a session has opened is told its state (again). */
void core_queue_is(struct core_fake *f, size_t n, enum hg_status status, const char *reason);
/* The oldest claim on a client identifier that is not lost is. */
void core_lose(struct core_fake *f, enum hg_status why);
/* Name of the n-th that is consumed; NULL: there is none. */
const char *core_queue(const struct core_fake *f, size_t n);

enum { CORE_BOOT_ID = 1 };
/* There is a state log, for a script to `prepare`. What sessions write to it is in the calls: "update
 * c expiry=60 gone filter=t:1 rx=5 tx=6r will=w due=10", r: released, due: in seconds. */
void core_state_open(struct core_fake *f);
/* The oldest question to it is answered. */
void core_state_answer(struct core_fake *f, enum hg_status status);
/* "claim c boot=2 epoch=3 expiry=60 inherits gone=5 filter=t:1 rx=5 released=6 will=w": of another
 * process; gone: five seconds ago, a will is due in one second. */
void core_state_write(struct core_fake *f, const char *text);

/* In a script: words NAME=VALUE, or NAME alone for `redelivered` and `keep`; `body` takes the rest of
 * the text. */
struct core_delivery {
    const char *address;        /* to filters that match, and to them only; or: */
    const char *exchange, *key; /* to sources that match */
    /* with an address: out of this queue of a session's own, with tickets 1, 2, … */
    const char *from;
    /* delivery_mode is `mode` in a script; content_type, correlation_id, reply_to … by name; headers
     * are words that begin with `x-`, values are integers, `true` or texts */
    struct hg_properties properties;
    struct hg_bytes body;
    bool is_redelivered, must_keep;
    bool is_retained; /* SERVE */
};
void core_deliver(struct core_fake *f, const struct core_delivery *d);
/* The property of that name ("content_type") if it is a string; NULL: none is. */
struct hg_bytes *core_property(struct hg_properties *p, struct hg_bytes name);

/* Of a connection. */
struct hg_session *core_session(const struct hg_conn *c);
enum hg_status core_why(const struct hg_conn *c); /* OK: it is not closing */
const char *core_rule(const struct hg_conn *c);   /* of the error that feed returned; NULL: none */
size_t core_messages_n(const struct hg_conn *c);  /* hg_conn_send… calls since core_forget */
enum hg_frame_kind core_last_kind(const struct hg_conn *c); /* of the last one */
void core_set_pending(struct hg_conn *c, size_t bytes);

#endif
