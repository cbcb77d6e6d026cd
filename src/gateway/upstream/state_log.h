/* SPDX-License-Identifier: Apache-2.0 */
/* The state log's side towards RabbitMQ, one a process: a stream that is read from its first message
 * to the last and then followed, and on the same connection what tells the gateways of one RabbitMQ
 * apart: an exclusive queue by which each is seen and spoken to, and one that whoever leads holds.
 * What the log means is core/state.c's business; writing to it is the publishers'. */
#ifndef HG_UPSTREAM_STATE_LOG_H
#define HG_UPSTREAM_STATE_LOG_H

#include "amqp/amqp_channel.h"
#include "upstream/link.h"

/* Durable, fanout: what is published to it, every gateway gets. */
#define HG_STATE_GATEWAYS   "headgate.gateways"
/* A publish with this key in BCC goes to the log as well, where the log is bound. */
#define HG_STATE_RETAIN_KEY "headgate.retain"

struct hg_upstream_metrics;

struct hg_state_log_config { /* what it points to is borrowed */
    struct hg_link_config link;
    const char *instance;
    uint64_t boot_id;
    const char *name;             /* of the stream */
    uint64_t max_bytes;           /* x-max-length-bytes of it */
    const char *const *exchanges; /* to bind it to, with HG_STATE_RETAIN_KEY */
    size_t exchanges_n;
    struct hg_log *log;
    struct hg_upstream_metrics *metrics;
};

/* All from the loop. */
struct hg_state_log_ops {
    /* The log is being read, and every exchange was asked for its binding. */
    void (*on_up)(void *ctx);
    void (*on_down)(void *ctx);
    /* There is no stream to be had; nothing but hg_state_log_stop and _close follows. */
    void (*on_refused)(void *ctx, struct hg_bytes reason);
    /* The log is read from its first message again: it has lost messages that were not read. Before
     * on_up. */
    void (*on_restart)(void *ctx);
    /* Borrowed message. False: no memory; it comes again, after on_down and on_up. */
    bool (*on_record)(void *ctx, struct hg_message *message, uint64_t offset);
    void (*on_broadcast)(void *ctx, struct hg_message *message);
    /* Exchange `index` is bound (why: NULL), or RabbitMQ refused it. Once a minute for each. */
    void (*on_bound)(void *ctx, size_t index, const struct hg_amqp_close *why);
    void (*on_leader)(void *ctx, bool is_leader);
};

struct hg_state_log {
    struct hg_link link;
    struct hg_net *net;
    struct hg_state_log_config config;
    const struct hg_state_log_ops *ops;
    void *ctx;
    char presence[64]; /* the queue by which this process is seen */
    struct hg_amqp_channel *reading, *being, *leading, *binding; /* NULL: closed */
    enum {
        HG_STATE_LOG_DECLARING,
        HG_STATE_LOG_ADOPTING, /* refused; now as it is */
        HG_STATE_LOG_READING
    } step;
    char why[256];        /* the declaration was refused */
    uint64_t next_offset; /* to be read; UINT64_MAX: from the first */
    uint64_t unacked_tag; /* 0: none */
    size_t binding_at;    /* index of the exchange that is being asked */
    uint64_t bound_ms;    /* when the first of them was asked last */
    bool is_consuming, is_up, was_up, is_refused;
    bool is_resuming;    /* the next record may show a gap */
    bool is_being_tried; /* presence was granted or refused on this connection */
    bool is_leader;
    struct hg_list errands;
    struct hg_defer ack;
    struct hg_timer retry;
};

void hg_state_log_open(struct hg_state_log *l, struct hg_net *net,
                       const struct hg_state_log_config *config, const struct hg_state_log_ops *ops,
                       void *ctx);
/* Closes the link politely; see hg_link_is_stopped(&l->link). */
void hg_state_log_stop(struct hg_state_log *l);
/* Frees everything; nobody is told, of no errand either. */
void hg_state_log_close(struct hg_state_log *l);

/* Reads from the first message again: on_restart, then on_up. */
void hg_state_log_restart(struct hg_state_log *l);

/* The queue by which the process with this boot id is seen, while it lives. */
void hg_state_log_presence(uint64_t boot_id, char out[64]);

/* Something asked of RabbitMQ on a channel of its own, where a refusal disturbs nobody; inside its
 * owner, zero-initialised but for `done`, in place until it was told or cancelled. */
struct hg_state_errand {
    struct hg_list link;
    struct hg_state_log *log;
    struct hg_amqp_channel *channel;
    /* OK, NO_QUEUE, BROKER_AWAY, NOT_ALLOWED, REFUSED, NO_MEMORY. From the loop. */
    void (*done)(struct hg_state_errand *errand, enum hg_status status);
    struct hg_defer failed;
};
/* Is the queue there? OK, also where somebody else has it to himself. */
void hg_state_log_check(struct hg_state_log *l, struct hg_state_errand *errand,
                        struct hg_bytes queue);
/* Deletes the queue, with what is in it, unless somebody consumes it. OK, also where it is not
 * there. */
void hg_state_log_delete(struct hg_state_log *l, struct hg_state_errand *errand,
                         struct hg_bytes queue);
/* Nobody is told any more. Safe on a zeroed or told one. */
void hg_state_log_cancel(struct hg_state_errand *errand);

#endif
