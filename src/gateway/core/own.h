/* SPDX-License-Identifier: Apache-2.0 */
/* Realms of users: whom RabbitMQ itself let in (HG_IDENTITY_BROKER) is, with [users] own_connection, in
 * a realm whose links log in with that user's name and password, so that RabbitMQ's permissions bind
 * what is published, declared, bound and consumed. One per (virtual host, user) and worker, shared by
 * that user's clients, opened by the first of them and closed when it was unused for a while. The state
 * log, claims on client identifiers and leases stay with the gateway's own realm (hg_realm_home). */
#ifndef HG_CORE_OWN_H
#define HG_CORE_OWN_H

#include "core/session.h"
#include "core/worker.h"
#include "upstream/link.h"

/* What begins the name of everything that the gateway declares for itself ("headgate."), and for a
 * user: "headgate.user.NAME.", where NAME has %xx for every byte but A-Z a-z 0-9 - _ @ so that nobody's
 * pattern meets another's. */
enum { HG_OWN_USER_MAX = 96, HG_OWN_PREFIX_MAX = 112 }; /* NAME; all of it with its NUL */

/* A user's realm, and what it has beyond the gateway's; core/own.c's, others read. */
struct hg_own {
    struct hg_realm realm;
    struct hg_endpoint *endpoints; /* the virtual host's, with this user and password */
    char *password;                /* overwritten before it is freed; NULL: there was no memory */
    const char *user;
    char prefix[HG_OWN_PREFIX_MAX];
    /* For its links: RabbitMQ refuses the login. ctx: this. */
    void (*on_refused)(void *ctx, const struct hg_amqp_close *why);
    void (*on_unused)(struct hg_own *own); /* nobody holds it any more */
    uint32_t holds_n;                      /* sessions in it, and HTTP requests that began there */
    struct hg_timer idle;                  /* until it closes */
    struct hg_defer ender;                 /* RabbitMQ does not let the user in any more */
    bool is_over;                          /* it is that, or closes: nobody enters */
    bool is_draining;                      /* the links are being closed */
    uint8_t key_n;
    uint8_t key[]; /* in hg_worker.own_by_user: place of the virtual host, and the name */
};

/* NULL: a realm of the gateway's. */
static inline struct hg_own *hg_own_of(struct hg_realm *realm)
{
    return realm->home == NULL ? NULL : HG_CONTAINER_OF(realm, struct hg_own, realm);
}
/* "headgate.", or the user's; lives as long as the realm. */
static inline const char *hg_own_prefix(struct hg_realm *realm)
{
    return realm->home == NULL ? "headgate." : hg_own_of(realm)->prefix;
}

/* The session, whose login RabbitMQ has found good, goes from the gateway's realm, or another, into
 * its user's in the same virtual host, opened where there is none. is_fresh: RabbitMQ said so just now,
 * so that this is the password from here on, for that user's realms on other workers as well. OK; or
 * BUSY (own_connections_max), BAD_LOGIN, NO_MEMORY, with static text. */
enum hg_status hg_own_enter(struct hg_session *s, struct hg_bytes user, struct hg_bytes password,
                            bool is_fresh, const char **why_out);
/* Back into the gateway's, of the same virtual host; nothing happens to a session that is there. */
void hg_own_leave(struct hg_session *s);
/* As from, in whatever realm that is. */
void hg_own_follow(struct hg_session *s, const struct hg_session *from);

/* The realm stays in place until it is released; of the gateway's nothing is noted. */
static inline void hg_own_hold(struct hg_realm *realm)
{
    struct hg_own *own = hg_own_of(realm);
    if (own != NULL) {
        own->holds_n++;
        hg_timer_stop(&own->idle);
    }
}
static inline void hg_own_release(struct hg_realm *realm)
{
    struct hg_own *own = hg_own_of(realm);
    if (own != NULL && --own->holds_n == 0) {
        own->on_unused(own);
    }
}

/* For the worker's mailbox: HG_MAIL_OWN_SECRET. */
void hg_own_on_mail(struct hg_worker *w, struct hg_mail *mail);

/* ---- For core/realm.c ---- */

/* Begins to close all of a worker's; hg_worker.own_drained is called whenever one has gone. */
void hg_own_drain(struct hg_worker *w);
void hg_own_close(struct hg_worker *w); /* at once */

#endif
