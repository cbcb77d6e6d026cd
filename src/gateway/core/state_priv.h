/* SPDX-License-Identifier: Apache-2.0 */
/* What state.c (reading, barriers, writes), state_announce.c and janitor.c share. */
#ifndef HG_CORE_STATE_PRIV_H
#define HG_CORE_STATE_PRIV_H

#include "base/wheel.h"
#include "core/state.h"
#include "upstream/publisher.h"
#include "upstream/state_log.h"

struct hg_janitor;

struct hg_state_port { /* its worker's, but for what says otherwise */
    struct hg_state *state;
    struct hg_realm *realm;
    struct hg_list writes; /* struct hg_state_wait whose record is not confirmed yet */
    struct hg_list waits;  /* those for a barrier, in the order of their numbers */
    struct hg_timer overdue;
    struct hg_defer ask, announce;
    struct hg_writer announcement; /* to be broadcast; empty: nothing */
    struct hg_timer announce_later;
    uint64_t announced_ms; /* when the last was sent */
    struct hg_mail ask_mail, done_mail;
    bool is_open, is_stopped;
    _Atomic uint64_t asked; /* the last barrier that is waited for here; read by the first worker */
    uint64_t told;          /* the last that this port was sent done_mail for; the first worker's */
};

struct hg_state {
    struct hg_vhost *vhost;
    struct hg_gateway *gateway; /* the vhost's */
    const char **exchanges;     /* that the log is to be bound to */
    _Atomic bool *is_bound;     /* of each: it is */
    size_t exchanges_n;
    /* Read by any thread, replaced by the first worker. What was replaced is kept until the next
     * time, so that nobody who looks into it right now falls. */
    struct hg_state_index *_Atomic index;
    struct hg_state_index *retired;
    /* Barriers: one is under way where in_flight; a number counts once it was asked of RabbitMQ, so
     * a wait that begins when n were sent is ended by number n + 1. */
    _Atomic uint64_t sent, done, wanted;
    /* is_settled: was ready once, or was refused */
    _Atomic bool is_refused, is_ready, is_settled, is_leader;
    _Atomic bool is_away;      /* RabbitMQ is there, but has not got the log ready: nobody waits */
    _Atomic unsigned ports_n;  /* open ones */
    _Atomic unsigned asking_n; /* waits begun since the last barrier was sent */
    _Atomic uint64_t replay_ms;
    /* The first worker's own. */
    struct hg_realm *realm;
    struct hg_worker *home; /* the realm's worker */
    struct hg_state_log log;
    struct hg_janitor *janitor;
    struct hg_timer watch;
    struct hg_chain barriers; /* the barrier's publish, for hg_publisher_forget */
    uv_timer_t pause;         /* set while the next one is wanted, and not due */
    uint64_t sent_us;         /* when the last was */
    unsigned crowd_n;         /* waits that it was sent for */
    uint64_t ready_number; /* the log has been read up to now once this barrier is back; 0: none */
    uint64_t reading_ms;   /* since when: up, or the last record; for `watch` */
    uint64_t started_ms;   /* of the replay */
    uint64_t records_n;    /* of the replay */
    uint64_t down_ms;      /* since when the log is not read; 0: it is */
    uint64_t swept_ms;
    unsigned away_n; /* times in a row that `watch` found it away */
    bool in_flight, is_confirmed, is_up;
    struct hg_state_port ports[]; /* one per worker */
};

/* Publishes a message of the log, which is consumed; what else the order says but the message is
 * the caller's. As hg_publisher_publish. */
enum hg_status hg_state_publish(struct hg_realm *realm, struct hg_message *message_own,
                                struct hg_publish_order order);

/* Broadcasts what the port has collected. */
void hg_state_send_announcement(struct hg_state_port *port);
/* A broadcast came. */
void hg_state_on_broadcast(struct hg_state *state, struct hg_bytes body);

#endif
