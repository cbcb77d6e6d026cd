/* SPDX-License-Identifier: Apache-2.0 */
/* One webhook on its worker, for webhook.c (its life), webhook_send.c (requests, and what their
 * answers mean) and webhook_leave.c (what goes back to RabbitMQ: delays and dead letters). */
#ifndef HG_WEBHOOK_PRIV_H
#define HG_WEBHOOK_PRIV_H

#include "adapters/webhook/webhook_client.h"
#include "adapters/webhook/webhook_ledger.h"
#include "core/queue.h"
#include "core/service.h"

/* The headers of a message that was put off or is a dead letter. */
#define HG_WEBHOOK_HEADER   "x-headgate-webhook" /* the webhook's name; the others begin with it */
#define HG_WEBHOOK_ATTEMPTS HG_WEBHOOK_HEADER "-attempts"
#define HG_WEBHOOK_ID       HG_WEBHOOK_HEADER "-id"
#define HG_WEBHOOK_EXCHANGE HG_WEBHOOK_HEADER "-exchange" /* where it was published first … */
#define HG_WEBHOOK_KEY      HG_WEBHOOK_HEADER "-key"      /* … and with which key */
#define HG_WEBHOOK_DUE      HG_WEBHOOK_HEADER "-due"      /* ms since 1970: not before */
#define HG_WEBHOOK_EXPIRES  HG_WEBHOOK_HEADER "-expires"  /* ms since 1970 */
#define HG_WEBHOOK_URL      HG_WEBHOOK_HEADER "-url"
#define HG_WEBHOOK_STATUS   HG_WEBHOOK_HEADER "-status"
#define HG_WEBHOOK_ERROR    HG_WEBHOOK_HEADER "-error"

struct hg_webhook {
    struct hg_session session; /* publishes and subscribes; it has no connection */
    struct hg_service service;
    struct hg_worker *worker;
    const struct hg_webhook_spec *spec;
    struct hg_webhook_metrics *metrics;
    struct hg_webhook_client *client;
    struct hg_webhook_ledger ledger;
    struct hg_webhook_breaker breaker;
    struct hg_queue *queue; /* NULL: not asked for */
    struct hg_sub sub;      /* of the filter */
    struct hg_bytes source; /* the queue's name: in source_name, or the configuration's */
    char source_name[256];
    bool has_own_queue;   /* made for its filter: nobody else's */
    unsigned declaring_n; /* queues of its own that are being declared, at the start */
    unsigned sent_n;      /* requests under way */
    unsigned left_n;      /* publishes under way */
    bool is_active;       /* the queue is consumed */
    bool is_waiting_said; /* in the log, that it is not */
    bool is_gone;         /* 410: it begins nothing any more */
    bool is_draining;
    struct hg_timer timer, claim_timer;
    struct hg_defer later; /* looks what there is to do, at the end of the loop's turn */
};

/* webhook.c */
/* Tells RabbitMQ that it is done, and forgets it. */
void hg_webhook_finish(struct hg_webhook *h, struct hg_webhook_letter *letter);
void hg_webhook_look_later(struct hg_webhook *h);
void hg_webhook_stop(struct hg_webhook *h); /* 410: finishes what is under way, begins nothing */

/* webhook_send.c */
void hg_webhook_on_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches);
void hg_webhook_send_waiting(struct hg_webhook *h, uint64_t now_ms);
void hg_webhook_on_done(void *webhook, uint64_t id, const struct hg_webhook_result *result);
/* The webhook's own header; NULL: the message has been through none of this name. */
const struct hg_value *hg_webhook_header(const struct hg_webhook *h, const struct hg_message *m,
                                         struct hg_bytes name);
/* Where it was published first. */
struct hg_bytes hg_webhook_exchange(const struct hg_webhook *h, const struct hg_message *m);
struct hg_bytes hg_webhook_key(const struct hg_webhook *h, const struct hg_message *m);

/* webhook_leave.c */
enum hg_status hg_webhook_declare(struct hg_webhook *h, size_t i); /* of its own queues; id: i */
size_t hg_webhook_own_queues_n(const struct hg_webhook *h);
void hg_webhook_leave_due(struct hg_webhook *h, uint64_t now_ms);
void hg_webhook_on_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                           struct hg_bytes reason);

#endif
