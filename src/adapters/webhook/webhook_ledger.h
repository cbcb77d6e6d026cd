/* SPDX-License-Identifier: Apache-2.0 */
/* The messages that a webhook holds: from RabbitMQ's delivery until it has been told what became of
 * them. A pure ledger, as large as the queue's prefetch. Messages with the same key go one after the
 * other; how often the first of a key was tried is remembered while RabbitMQ has the message back. */
#ifndef HG_WEBHOOK_LEDGER_H
#define HG_WEBHOOK_LEDGER_H

#include "adapters/webhook/webhook_pace.h"
#include "adapters/webhook/webhook_sign.h"
#include "base/list.h"
#include "base/map.h"
#include "message/message.h"
#include "upstream/ticket.h"

enum hg_webhook_letter_state {
    HG_WEBHOOK_WAITING, /* for its time, its turn, room */
    HG_WEBHOOK_SENT,    /* the request is under way */
    HG_WEBHOOK_LEAVING, /* to be published to a delay queue or as a dead letter, at due_ms */
    HG_WEBHOOK_LEFT     /* which has been done and waits for the confirm */
};

struct hg_webhook_letter {
    struct hg_list link;
    struct hg_list key_link;
    struct hg_webhook_key *key; /* NULL: none */
    struct hg_message *message;
    struct hg_ticket ticket;
    uint64_t number;     /* of all that this ledger took */
    uint64_t taken_ms;   /* when it came */
    uint64_t due_ms;     /* not before */
    uint64_t expires_ms; /* since 1970; HG_WEBHOOK_NEVER */
    uint32_t attempts;   /* made */
    enum hg_webhook_letter_state state;
    bool is_stale;     /* the ticket is of a lost link: it comes again */
    bool is_dead;      /* LEAVING, LEFT: a dead letter */
    uint64_t pause_ms; /* LEAVING, LEFT: else, for how long it is put off */
    char *why_own;     /* LEAVING, LEFT: the last error; may be NULL */
    unsigned status;   /* … and HTTP status; 0: no answer */
    char id[HG_WEBHOOK_ID_SIZE];
};

struct hg_webhook_ledger {
    struct hg_list letters;    /* oldest first */
    struct hg_map keys;        /* struct hg_webhook_key */
    struct hg_list remembered; /* keys without letters */
    size_t cap, n, remembered_n;
    uint64_t last_number;
};

void hg_webhook_ledger_open(struct hg_webhook_ledger *l, size_t cap);
/* Drops everything. */
void hg_webhook_ledger_close(struct hg_webhook_ledger *l);

/* WAITING, with a reference of its own; an empty key is none. What is remembered of the key's first
 * message counts for it, if it is that one. NULL when there is no memory. */
struct hg_webhook_letter *hg_webhook_ledger_take(struct hg_webhook_ledger *l, struct hg_message *m,
                                                 struct hg_ticket ticket, struct hg_bytes key,
                                                 uint64_t now_ms);
/* The oldest that may be sent now: due, and the first of its key. NULL: none. */
struct hg_webhook_letter *hg_webhook_ledger_next(const struct hg_webhook_ledger *l,
                                                 uint64_t now_ms);
/* The oldest that is to be published now. NULL: none. */
struct hg_webhook_letter *hg_webhook_ledger_leaving(const struct hg_webhook_ledger *l,
                                                    uint64_t now_ms);
/* The oldest of those that wait to be sent and came before then; NULL: none did. */
struct hg_webhook_letter *hg_webhook_ledger_overdue(const struct hg_webhook_ledger *l,
                                                    uint64_t before_ms);
/* When the next one is due to be sent or published that is not due now; HG_WEBHOOK_NEVER: none. */
uint64_t hg_webhook_ledger_due_ms(const struct hg_webhook_ledger *l, uint64_t now_ms);
/* NULL: it is not there any more. */
struct hg_webhook_letter *hg_webhook_ledger_find(const struct hg_webhook_ledger *l,
                                                 uint64_t number);
/* It is over. */
void hg_webhook_ledger_end(struct hg_webhook_ledger *l, struct hg_webhook_letter *letter);
/* RabbitMQ gets it back; what is known of a key's first message is remembered. */
void hg_webhook_ledger_return(struct hg_webhook_ledger *l, struct hg_webhook_letter *letter);
/* The tickets are void: RabbitMQ has taken everything back. What waits is dropped as by return, what
 * is under way goes on and is stale. */
void hg_webhook_ledger_void(struct hg_webhook_ledger *l);

#endif
