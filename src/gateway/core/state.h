/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway must not forget and keeps in RabbitMQ: one log (a stream queue) per virtual host
 * that every process replays and follows. The first worker reads it into the virtual host's index
 * (state_index.h), which all workers look into. */
#ifndef HG_CORE_STATE_H
#define HG_CORE_STATE_H

#include "core/session_record.h"
#include "core/state_index.h"
#include "core/worker.h"

struct hg_state;      /* a virtual host's; NULL where [state] log = "off" */
struct hg_state_port; /* a realm's end of it */

/* Before the workers start, and after they have been joined. NULL when there is no memory. */
struct hg_state *hg_state_new(struct hg_vhost *vhost);
void hg_state_free(struct hg_state *state); /* NULL is fine */

/* On each worker's thread, once the routing is open; the first worker's also opens the link. False
 * when there is no memory. Without a state they do nothing. */
bool hg_state_open(struct hg_realm *realm);
/* Nothing is waited for any more in this realm. */
bool hg_state_is_idle(const struct hg_realm *realm);
/* Closes the link politely. See hg_state_is_stopped. */
void hg_state_stop(struct hg_realm *realm);
bool hg_state_is_stopped(const struct hg_realm *realm);
void hg_state_close(struct hg_realm *realm); /* frees; nobody is told any more */
/* For the worker's mailbox: HG_MAIL_STATE_ASK, HG_MAIL_STATE_DONE. */
void hg_state_on_mail(struct hg_mail *mail);

/* Retained messages and sessions can be kept at all: any thread. */
bool hg_state_is_enabled(const struct hg_vhost *vhost);
/* The log has been replayed, and its link is up: any thread. */
bool hg_state_is_ready(const struct hg_vhost *vhost);
/* It is decided whether it is enabled, and if it is, the log was replayed once: clients may come.
 * Any thread. */
bool hg_state_is_settled(const struct hg_vhost *vhost);
/* NULL where it is not enabled. Looked up anew for each use: it is replaced where the log was lost. */
struct hg_state_index *hg_state_index_of(const struct hg_vhost *vhost);

/* Someone who waits; inside its owner, zero-initialised but for `done`, in place until it was told
 * or cancelled. */
struct hg_state_wait {
    struct hg_list link;
    uint64_t number; /* of the barrier that ends it; state.c's own */
    uint64_t since_ms;
    struct hg_realm *realm;
    /* Waits no longer than that while RabbitMQ takes no publishes (away, or short of memory); 0:
     * unavailable_timeout. Set by the owner. */
    uint64_t patience_ms;
    /* OK; or BROKER_AWAY, and what else hg_publisher says of a write. From the loop. */
    void (*done)(struct hg_state_wait *wait, enum hg_status status);
    struct hg_chain publishes; /* of a write: under way */
};

/* Done when everything that was confirmed before this call, by anybody, is in this process's
 * index. Only where there is a state. */
void hg_state_barrier(struct hg_realm *realm, struct hg_state_wait *wait);
/* Writes a session record (all of it is encoded before this returns), then a barrier. `wait` may be
 * NULL. OK: done follows; else NO_MEMORY, TOO_LARGE, BROKER_AWAY, and it does not. */
enum hg_status hg_state_write(struct hg_realm *realm, enum hg_session_act act,
                              const struct hg_session_record *record, struct hg_state_wait *wait);
/* The same for a request's record; BUSY too: the publisher has no room. */
enum hg_status hg_state_write_request(struct hg_realm *realm,
                                      const struct hg_request_record *record,
                                      struct hg_state_wait *wait);
/* The waiter is not told any more; a write goes on. Safe on a zeroed or told one. */
void hg_state_cancel(struct hg_state_wait *wait);

/* A client with this identifier, whose session ends with its connection, has connected here: other
 * processes end theirs if it is older, or tell this one if it is another user's. Sent for all who
 * come within a sixteenth of a second; nobody is told when. */
void hg_state_announce(struct hg_realm *realm, struct hg_bytes client_id);

/* Whether messages to this exchange are retained by one publish (its key `headgate.retain`, or the
 * log's name for the default exchange, in BCC); false: by two. */
bool hg_state_is_bound(const struct hg_vhost *vhost, struct hg_bytes exchange);

struct hg_state_stats {
    struct hg_state_index_stats index;
    uint64_t replay_ms; /* what the last replay took, connecting included */
    bool is_enabled, is_ready, is_leader;
};
/* For the metrics and /api/status: any thread. */
void hg_state_stats(const struct hg_vhost *vhost, struct hg_state_stats *out);

/* The realm has other rules, or the same in another place: retained messages are found by them. Of
 * the first worker; of another nothing is done. */
void hg_state_take_rules(struct hg_realm *realm, bool have_changed);

#endif
