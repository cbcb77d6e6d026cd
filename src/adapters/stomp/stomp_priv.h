/* SPDX-License-Identifier: Apache-2.0 */
/* What stomp_session.c (life of a connection), stomp_send.c (publishing) and stomp_subscribe.c
 * (deliveries) share. */
#ifndef HG_STOMP_PRIV_H
#define HG_STOMP_PRIV_H

#include "adapters/stomp/stomp_codec.h"
#include "adapters/stomp/stomp_dest.h"
#include "base/wheel.h"
#include "core/session.h"

enum { HG_STOMP_LABEL_MAX = 1024 }; /* bytes of a receipt or a subscription's id, which are kept */

enum hg_stomp_state {
    HG_STOMP_NEW,     /* CONNECT has not come */
    HG_STOMP_OPEN,    /* CONNECTED is sent */
    HG_STOMP_LEAVING, /* DISCONNECT or a shutdown: what was sent before is being settled */
    HG_STOMP_ENDED    /* the last frame is queued */
};

struct hg_stomp_queues;
struct hg_stomp_receipt;
struct hg_stomp_transactions;

struct hg_stomp_session {
    struct hg_session base;
    struct hg_stomp_decoder decoder;
    struct hg_timer timer; /* connect time-out, heart-beats, a declaration that takes too long */
    uint64_t sent_ms, heard_ms;
    uint64_t publishes;             /* counted for their ids */
    uint64_t messages;              /* likewise; queues of its own are counted with them */
    uint32_t out_ms, in_ms;         /* heart-beats agreed on; 0: none */
    uint32_t unsettled_n;           /* publishes without an outcome yet */
    uint8_t version;                /* enum hg_stomp_version */
    uint8_t state;                  /* enum hg_stomp_state */
    uint8_t leave_why;              /* enum hg_status, while LEAVING */
    bool is_framed : 1;             /* runs over a WebSocket */
    bool is_waiting_for_queue : 1;  /* that a subscription declares, before SEND goes on */
    char *user_own;                 /* login; NULL: none */
    char *leave_receipt_own;        /* of DISCONNECT; NULL: none */
    struct hg_list receipts;        /* of publishes without an outcome yet */
    struct hg_stomp_queues *queues; /* declared by SEND; NULL until there is one */
    struct hg_stomp_transactions *transactions; /* NULL: none has begun */
};
_Static_assert(sizeof(struct hg_stomp_session) <= 272,
               "an idle STOMP connection over WebSocket is to cost 1.5 KiB in all");

/* Why a frame, or the whole connection, failed: becomes an ERROR frame. */
struct hg_stomp_failure {
    enum hg_status status;
    const char *rule;                      /* what is wrong, static text; NULL: the status' own */
    const char *detail;                    /* more of it, static text, or NULL */
    struct hg_bytes reason;                /* RabbitMQ's words, or empty */
    struct hg_bytes receipt, subscription; /* of what failed, or empty */
};

/* Of /topic; NULL where every destination is an address: see hg_stomp_dest_parse. */
const char *hg_stomp_topic_exchange(const struct hg_stomp_session *s);

enum hg_stomp_verdict { HG_STOMP_USED, HG_STOMP_HELD, HG_STOMP_FAILED };

/* Fills *f; for `return hg_stomp_fails(f, …)`. */
enum hg_stomp_verdict hg_stomp_fails(struct hg_stomp_failure *f, enum hg_status status,
                                     const char *rule);

struct hg_stomp_session *hg_stomp_session_of(struct hg_session *base);
static inline bool hg_stomp_is_over(const struct hg_stomp_session *s)
{
    return s->state == HG_STOMP_ENDED;
}

/* Sends ERROR and finishes the connection; for what is found outside of feed. */
void hg_stomp_end(struct hg_stomp_session *s, const struct hg_stomp_failure *f);
/* Closes the connection when there is no memory for a frame that the client waits for. */
void hg_stomp_send(struct hg_stomp_session *s, struct hg_writer *frame);
/* receipt empty: nothing is sent. */
void hg_stomp_send_receipt(struct hg_stomp_session *s, struct hg_bytes receipt);
/* The same, saying whether an answer to a message had no effect. */
void hg_stomp_send_answer(struct hg_stomp_session *s, struct hg_bytes receipt, bool is_stale);
/* NULL if fine, else static text. */
const char *hg_stomp_check_receipt(const struct hg_stomp_frame *frame);
/* Sets the timer for whatever is due first. */
void hg_stomp_rearm(struct hg_stomp_session *s);
/* The last publish has been settled: if the session is leaving, it goes. */
void hg_stomp_leave_if_settled(struct hg_stomp_session *s);

/* stomp_send.c */
enum hg_stomp_verdict hg_stomp_on_send(struct hg_stomp_session *s,
                                       const struct hg_stomp_frame *frame,
                                       struct hg_stomp_failure *f);
/* As SEND outside of a transaction; `commit` is what the publish is part of. body_buf holds the
 * frame's body, if it is not NULL. */
enum hg_stomp_verdict hg_stomp_send_in(struct hg_stomp_session *s,
                                       const struct hg_stomp_frame *frame, struct hg_buf *body_buf,
                                       struct hg_stomp_receipt *commit, struct hg_stomp_failure *f);
/* Sends and frees a receipt for which nothing is waited any more. */
void hg_stomp_send_if_due(struct hg_stomp_session *s, struct hg_stomp_receipt *r);
void hg_stomp_settled(struct hg_session *base, uint64_t id, enum hg_status outcome,
                      struct hg_bytes reason);
void hg_stomp_declared(struct hg_session *base, uint64_t id, enum hg_status outcome,
                       struct hg_bytes reason);
/* HELD until the queue that the frame needs is there, or FAILED. */
enum hg_stomp_verdict hg_stomp_await_queue(struct hg_stomp_session *s, struct hg_stomp_failure *f);
void hg_stomp_queue_came(struct hg_stomp_session *s);
/* When a declaration has taken too long; UINT64_MAX: none is under way. */
uint64_t hg_stomp_declare_due_ms(const struct hg_stomp_session *s);
/* Deletes a queue; its outcome is told like a publish's. Not OK: nothing was asked. */
enum hg_status hg_stomp_delete_queue(struct hg_stomp_session *s, struct hg_bytes name,
                                     struct hg_bytes receipt);
/* The queue of a subscription is there now, or will not be. */
void hg_stomp_resume_send(struct hg_stomp_session *s);
void hg_stomp_free_publishes(struct hg_stomp_session *s);

/* stomp_subscribe.c */
enum hg_stomp_verdict hg_stomp_on_subscribe(struct hg_stomp_session *s,
                                            const struct hg_stomp_frame *frame,
                                            struct hg_stomp_failure *f);
enum hg_stomp_verdict hg_stomp_on_unsubscribe(struct hg_stomp_session *s,
                                              const struct hg_stomp_frame *frame,
                                              struct hg_stomp_failure *f);
void hg_stomp_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                         struct hg_bytes reason);
void hg_stomp_deliver(struct hg_session *base, struct hg_delivery *d, struct hg_sub *matches);
void hg_stomp_free_subscriptions(struct hg_stomp_session *s);

/* stomp_consume.c: whether a subscription consumes this queue. WAITING: it is not there yet. */
enum hg_stomp_consumes { HG_STOMP_NOT, HG_STOMP_WAITING, HG_STOMP_CONSUMES };
enum hg_stomp_consumes hg_stomp_consumes(const struct hg_stomp_session *s, struct hg_bytes queue);

/* stomp_ack.c: ACK and NACK. */
enum hg_stomp_verdict hg_stomp_on_ack(struct hg_stomp_session *s,
                                      const struct hg_stomp_frame *frame,
                                      struct hg_stomp_failure *f);
/* Carries out one that was checked before. STALE: it has no effect, since its message went with its
 * link to RabbitMQ or with its subscription, or has been answered otherwise. */
enum hg_status hg_stomp_answer(struct hg_stomp_session *s, const struct hg_stomp_frame *frame);

#endif
