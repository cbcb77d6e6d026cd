/* SPDX-License-Identifier: Apache-2.0 */
/* The one way in which workers (and the supervisor) talk. A mail lives inside what it is about and
 * goes to one mailbox only; sending it while it still waits there does nothing more. So nothing is
 * copied, nothing can be refused for want of memory, and a mailbox never holds more than the things
 * there are to talk about. */
#ifndef HG_CORE_MAILBOX_H
#define HG_CORE_MAILBOX_H

#include "stream/net.h"

#include <uv.h>

#include <stdbool.h>

/* The whole protocol between threads. */
enum hg_mail_kind {
    HG_MAIL_CLAIM,       /* in a directory record: granted, lost, or both */
    HG_MAIL_GATHER_ASK,  /* in a gather, one per worker: run its question */
    HG_MAIL_GATHER_DONE, /* in a gather: every answer is there */
    HG_MAIL_STATE_ASK,   /* in a state port, to the first worker: a barrier is wanted */
    HG_MAIL_STATE_DONE,  /* in a state port, to its worker: barriers have come back */
    HG_MAIL_LEASE_ASK,   /* in a part of a call, to the worker that holds the leases */
    HG_MAIL_LEASE_DONE,  /* the same, back: answered */
    HG_MAIL_OWN_SECRET,  /* in a password that is a user's from here on; freed there */
    HG_MAIL_LISTEN,      /* supervisor to worker: open the listeners */
    HG_MAIL_DRAIN,       /* supervisor to worker: end politely */
    HG_MAIL_STOP,        /* supervisor to worker: end now */
    HG_MAIL_PING,        /* supervisor to worker: do you still turn? */
    HG_MAIL_RELOAD,      /* supervisor to worker: the next step towards another configuration */
    HG_MAIL_RELOADED,    /* worker to supervisor: that is done */
    HG_MAIL_REPORT,      /* worker to supervisor: my state has changed */
};

struct hg_mail { /* zero-initialised but for its kind */
    enum hg_mail_kind kind;
    bool is_queued; /* the mailbox's own */
    struct hg_mail *next;
};

struct hg_mailbox;
/* On the mailbox's thread; the mail is out of the mailbox and may be freed or sent again. */
typedef void hg_mail_fn(void *ctx, struct hg_mail *mail);

/* Before its loop runs, on any thread. NULL when there is no memory. */
struct hg_mailbox *hg_mailbox_new(uv_loop_t *loop, hg_mail_fn *on_mail, void *ctx);
/* On its thread: what that sends itself comes at the end of the loop's turn, which costs no wake-up. */
void hg_mailbox_belongs(struct hg_mailbox *mailbox, struct hg_net *net);
/* Any thread. False if the mailbox is closed: the mail stays the sender's. */
bool hg_mailbox_send(struct hg_mailbox *mailbox, struct hg_mail *mail);
/* On its thread: takes no more mail, delivers what is there, closes its handle. */
void hg_mailbox_close(struct hg_mailbox *mailbox);
/* After the loop has ended and nobody sends any more. NULL is fine. */
void hg_mailbox_free(struct hg_mailbox *mailbox);

#endif
