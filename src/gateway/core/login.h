/* SPDX-License-Identifier: Apache-2.0 */
/* From what a client says to who it is: users with passwords, tokens, certificates, RabbitMQ. What
 * takes time happens elsewhere (hashing in libuv's pool), while the client is held. */
#ifndef HG_CORE_LOGIN_H
#define HG_CORE_LOGIN_H

#include "core/identity.h"
#include "core/session.h"

struct hg_config;
struct hg_logins;

enum { HG_LOGIN_MAC_BYTES = 32 };

struct hg_credentials { /* empty: it said nothing */
    struct hg_bytes user;
    struct hg_bytes
        secret;    /* a password; or, where it looks like one and they are taken, a token */
    bool is_token; /* the secret must be one */
};

/* Sets s->identity: by the credentials; without a secret by the client's certificate, by what its
 * WebSocket's handshake said, or as an anonymous one. OK; HELD: later, and the connection is held
 * (HG_HOLD_LOGIN): return from feed without using the packet, and call again with the same
 * credentials; else it is refused (BAD_LOGIN, EXPIRED, TOO_MANY, BUSY, BROKER_AWAY, …), counted and
 * logged, and *why_out is static text. OK with identity NULL in a gateway without identities. */
enum hg_status hg_session_login(struct hg_session *s, const struct hg_credentials *c,
                                const char **why_out);
/* A session whose client has logged in with a token has a newer one, of the same user: its
 * identity and its end are that one's from here on. OK or a refusal, as above. */
enum hg_status hg_session_renew(struct hg_session *s, struct hg_bytes token, const char **why_out);
/* What another session on this connection has found out: before its first input. False when there
 * is no memory. */
bool hg_session_inherit(struct hg_session *s, const struct hg_session *from);
/* Forgets who it is, and what is under way. */
void hg_session_logout(struct hg_session *s);
/* Whether the time of its token is over. */
bool hg_session_is_expired(const struct hg_session *s);

/* Of what was said, keyed: equal for the same only, worthless to others. */
void hg_session_mac(const struct hg_session *s, const struct hg_credentials *c,
                    uint8_t out[HG_LOGIN_MAC_BYTES]);

/* ---- For the gateway ---- */

/* What all workers share. NULL when there is no memory. */
struct hg_logins *hg_logins_new(const struct hg_config *config);
void hg_logins_free(struct hg_logins *logins); /* NULL is fine */

/* [users] max_failures may be another now. Any thread. */
void hg_logins_limit(struct hg_logins *logins, const struct hg_config *config);

/* Of a worker, on its thread, before its listeners and after its connections. False when there is
 * no memory. */
bool hg_login_open(struct hg_worker *w);
void hg_login_close(struct hg_worker *w);

/* The worker has another configuration than `before`: whoever that one let in is judged anew, by
 * what it proved then. Roles may be others; who could not come in like that any more is ended.
 * Passwords that were good a moment ago are forgotten. */
void hg_login_review(struct hg_worker *w, const struct hg_config *before);

#endif
