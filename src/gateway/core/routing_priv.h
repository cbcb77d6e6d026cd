/* SPDX-License-Identifier: Apache-2.0 */
/* What routing.c (deliveries), session.c (publishing) and subscribe.c share. */
#ifndef HG_CORE_ROUTING_PRIV_H
#define HG_CORE_ROUTING_PRIV_H

#include "core/conn.h"
#include "core/routing.h"
#include "upstream/consumers.h"
#include "upstream/feed.h"
#include "upstream/replies.h"
#include "upstream/upload.h"

struct rule_bindings { /* of one rule on the feed */
    uint32_t exact_n;
    bool is_wide;                /* it was widened: stays so while the process lives, */
    struct hg_binding_user wide; /* with this binding from the first subscriber on */
};

/* Subscriptions by RabbitMQ's own names to one exchange. */
struct source_index {
    struct hg_trie *trie; /* of binding keys */
    uint8_t name_n;
    uint8_t name[];
};

struct match { /* one deliver call to come */
    struct hg_session *session;
    struct hg_sub *subs;
};

/* What the matches at hand are of. Mostly a message is for whom the one before it was for. */
struct matched {
    const struct hg_trie *trie; /* NULL: they are not to be used again */
    uint64_t changes;           /* of the trie, then */
    size_t subject_n;
    uint8_t subject[128];
};

struct hg_calls { /* core/call.c's own */
    struct hg_replies replies;
    struct hg_map by_id; /* correlation_id -> struct hg_call */
    struct hg_list all;
    size_t n;
};

struct hg_routing {
    struct hg_realm *realm;
    struct hg_worker *worker; /* the realm's */
    struct hg_publisher publisher;
    struct hg_calls calls;
    struct hg_feed feed;
    struct hg_consumers consumers;
    struct hg_uploads uploads;
    struct hg_topology_spec topology;
    struct hg_trie *by_address[HG_PROTO_N];
    struct hg_map by_exchange;     /* exchange -> struct source_index */
    struct rule_bindings *by_rule; /* NULL, as the next: a user's own, nothing is widened */
    struct rule_bindings
        *by_next_rule;         /* of what is being prepared; core/resubscribe.c's own, as */
    struct hg_holder *holders; /* are these: bindings wanted before somebody has them */
    struct hg_list queues;     /* struct hg_queue */
    struct hg_pool links;      /* of the subscriptions that have one */
    bool is_feed_up, is_publisher_up;
    bool is_feed_behind;          /* it was lost, and its bindings are not all there again */
    struct hg_timer behind_timer; /* while the publisher waits for those of all workers … */
    uint64_t behind_until_ms;     /* … no longer than this */
    void (*drained)(struct hg_realm *realm); /* NULL: not draining */
    struct hg_timer drain_timer;
    /* Clients held for room, oldest first (struct hg_held), and the timer that ends their wait. */
    struct hg_list held;
    struct hg_timer held_timer;
    struct hg_chain retaining; /* publishes whose session is gone; core/retain.c's own */
    /* Scratch of one call. */
    struct match *matches;
    size_t matches_n, matches_cap;
    struct matched matched;
    struct hg_header *headers;
    size_t headers_cap;
    struct hg_writer text;
};

struct hg_rare {          /* each NULL: not now */
    struct hg_held *held; /* while it waits for room towards RabbitMQ; core/session.c's own */
    struct hg_slow_client *slow; /* while it reads too slowly; core/slow.c's own */
};
/* Makes it where there is none; NULL: no memory. */
struct hg_rare *hg_session_rare(struct hg_session *s);
/* One of its pointers is NULL again. */
void hg_session_trim(struct hg_session *s);

/* What RabbitMQ is to have, as configured. */
struct hg_topology_spec hg_routing_topology(const struct hg_vhost_spec *vhost);
/* How this realm's links reach RabbitMQ. */
struct hg_link_config hg_routing_link(struct hg_routing *r);
/* Wakes the held clients, all of them or only those past the limit. */
void hg_session_release_held(struct hg_routing *r, bool only_overdue);
/* HELD, or the refusal that ends the wait: RabbitMQ is away, or there is no room. */
enum hg_status hg_session_hold(struct hg_session *s, bool never_held);
/* An address or filter was refused for its form: if for its length, or depth, it is counted. */
void hg_session_note_topic(struct hg_worker *w, struct hg_bytes topic);
/* What it waited for has been done, or refused. */
void hg_session_end_hold(struct hg_session *s);
/* hg_publish for whoever wants to be told otherwise; `asked` without its message. */
enum hg_status hg_session_publish(struct hg_session *s, const struct hg_publish_args *args,
                                  const struct hg_publish_order *asked,
                                  struct hg_published *published_out, const char **why_out);
/* Before the publisher's opening, and before its end. */
void hg_calls_open(struct hg_routing *r);
void hg_calls_close(struct hg_routing *r);
/* The publisher's link. */
void hg_calls_on_link(struct hg_routing *r, bool is_up);
/* A publish of this session has its outcome. */
void hg_session_settle(void *session, uint64_t id, enum hg_status outcome, struct hg_bytes reason);
/* How subscriptions hear of their bindings, on the feed as on queues of their own. */
extern const struct hg_bindings_ops hg_subscribe_bindings_ops;
void hg_subscribe_pool_open(struct hg_pool *pool);
/* Of queues that sessions consume by themselves: whoever may not any more, by the configuration that
 * holds now, is told so. */
void hg_queue_review_all(struct hg_routing *r);
/* Bindings that are held, and what was prepared, are not wanted any more. */
void hg_subscribe_let_go(struct hg_routing *r);
/* Where subscriptions bind such a queue. */
struct hg_bindings *hg_queue_bindings(struct hg_queue *q);
/* Its connection is about to go: nothing is shown to it any more. False for one without a
 * connection. */
bool hg_session_is_closing(const struct hg_session *s);
/* Whether it may be shown n bytes more; one without a connection says so itself. */
bool hg_session_has_room(struct hg_session *s, size_t n);
/* Shows a live message to the session. */
void hg_session_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches);
/* Declarations under way are given up; nobody is told. */
void hg_session_forget_declares(struct hg_session *s);
/* Lets go of an exchange's index when nobody is in it. */
void hg_routing_drop_source(struct hg_routing *r, struct hg_trie *trie);
/* The address of a message for this protocol, in r->text until its next use, and the rule that maps
 * it back; false if none does. */
bool hg_routing_map(struct hg_routing *r, enum hg_protocol proto, const struct hg_message *m,
                    struct hg_bytes *address_out, size_t *rule_out);
/* The same for a message that is delivered now: it is counted. */
bool hg_routing_address(struct hg_routing *r, enum hg_protocol proto, const struct hg_message *m,
                        struct hg_bytes *address_out, size_t *rule_out);

#endif
