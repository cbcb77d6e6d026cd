/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of two workers each, with the real state, index, janitor and upstream, and one RabbitMQ
 * that keeps a log for all of them; of the rest of the core only what those call. */
#ifndef HG_UNIT_CORE_STATE_WORLD_H
#define HG_UNIT_CORE_STATE_WORLD_H

#include "base/clock.h"
#include "core/routing_priv.h"
#include "core/state.h"
#include "core/state_priv.h"
#include "seam/net.h"
#include "seam/seam.h"
#include "seam/unit.h"

enum { PROCESSES_N = 2, WORKERS_N = 2, LOG_MAX = 4096, QUEUES_MAX = 32, WILLS_MAX = 8 };

struct worker {
    struct hg_worker w;
    struct hg_realm realm;
    struct hg_realm *realms[1];
    struct hg_routing routing;
    unsigned reports_n;
};

struct process {
    struct hg_gateway gateway;
    struct hg_vhost vhost;
    struct worker workers[WORKERS_N];
    struct hg_worker *all[WORKERS_N];
    bool is_open;
};

struct queue { /* exclusive */
    char name[64];
    const struct broker *owner;
    uint16_t channel; /* of its consumer; 0: none */
};

struct reader { /* of the log */
    struct broker *broker;
    uint16_t channel;
    size_t next;
    uint64_t tag;
};

struct world {
    struct seam_net sn;
    struct hg_config config;
    struct hg_vhost_spec spec;
    struct hg_rules *rules;
    struct hg_upstream_metrics metrics;
    struct process processes[PROCESSES_N];
    /* RabbitMQ */
    struct hg_message *log[LOG_MAX]; /* NULL: truncated */
    size_t log_n, broadcasts_n;
    size_t taken_n[SEAM_LINKS_MAX]; /* publishes of each link that have been dealt with */
    struct queue queues[QUEUES_MAX];
    struct reader readers[SEAM_LINKS_MAX + 1]; /* by link; the last is none */
    char deleted[128];                         /* the last queue deleted */
    bool has_no_streams;
    bool is_log_down; /* it is there, and cannot be used */
    bool is_hiding;   /* the queues by which processes are seen */
    /* Wills. */
    char wills[WILLS_MAX][64];
    size_t wills_n;
    struct hg_session *will_session;
    uint64_t will_id;
    enum hg_status will_status, will_outcome;
};

extern struct world *the; /* there is one at a time */

/* cmocka's set-up and tear-down: no process yet, none left. */
int open_world(void **state);
int close_world(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

/* Starts process i; nothing has happened yet. */
void open_process(size_t i);
/* As if it had been killed. */
void close_process(size_t i);
struct hg_vhost *vhost(size_t i);
struct hg_realm *realm(size_t process, size_t i);
/* The broker at the other end of a process's state link. */
struct seam_link *state_link(size_t process);

/* Turns everything until nothing happens any more. */
void run(void);
/* Lets time pass. */
void pass(uint64_t ms);

/* Messages of this kind (x-headgate-kind) in the log. */
size_t count(const char *kind);

struct waiter {
    struct hg_state_wait wait;
    unsigned told_n;
    enum hg_status status;
};

#define WAITER               \
    {                        \
        .wait.done = on_done \
    }

void on_done(struct hg_state_wait *wait, enum hg_status status);

/* A session of the process's, to be kept for an hour. */
struct hg_session_record record(const char *client_id, size_t process, uint64_t epoch);
/* Writes it to the log and waits. */
void claim(size_t process, struct hg_session_record *r);
/* What the process knows of it; the caller's, NULL: nothing. */
struct hg_session_record *find(size_t process, const char *client_id);
bool is_known(size_t process, const char *client_id);

struct client {
    struct hg_claim claim;
    unsigned lost_n;
    enum hg_status why;
};
/* Claims the client identifier, as anybody's; "c" as the user's own. */
void connect_client(size_t process, unsigned worker, struct client *c, const char *id);
void connect_user(size_t process, unsigned worker, struct client *c, const char *user);

#endif
