/* SPDX-License-Identifier: Apache-2.0 */
/* What login.c, which decides, and login_broker.c, which asks RabbitMQ, share. */
#ifndef HG_CORE_LOGIN_PRIV_H
#define HG_CORE_LOGIN_PRIV_H

#include "core/login.h"
#include "core/login_cache.h"
#include "core/worker.h"

struct hg_logins;

struct hg_login_port { /* of a worker */
    struct hg_login_cache cache;
    struct hg_list asking; /* struct hg_login_question */
    size_t checks_n;       /* hashes and questions under way */
};

/* One login's check, under way. Its owner is told once, unless it has gone. */
struct hg_login_check {
    struct hg_login *login; /* NULL: nobody waits for it */
    struct hg_worker *worker;
    const struct hg_config *config;  /* by which it is judged; a reference */
    enum hg_identity_source source;  /* of the identity, should it be good */
    uint8_t mac[HG_LOGIN_MAC_BYTES]; /* of the credentials, for the cache */
    uint64_t roles;
    struct hg_vhost_limits vhosts;
};

/* At its beginning and its end: it is counted, and holds the worker's configuration. */
void hg_login_check_begin(struct hg_login_check *check, struct hg_worker *w, uint64_t roles);
void hg_login_check_end(struct hg_login_check *check);
/* Takes the identity over. False when there is no memory for its end's timer. */
bool hg_session_identify(struct hg_session *s, struct hg_identity *identity_own);
/* Tells the login its outcome. OK: it is that user, with check->roles. Where the worker has another
 * configuration by now, the client is asked again instead. */
void hg_login_checked(struct hg_login_check *check, struct hg_bytes user, enum hg_status outcome,
                      const char *why);

/* What this user said a moment ago is asked about again. */
void hg_login_forget_user(struct hg_worker *w, struct hg_bytes user);

/* enter.c: as hg_session_choose, for somebody with these limits. */
enum hg_status hg_login_choose(struct hg_session *s, struct hg_bytes named,
                               const struct hg_vhost_limits *limits, const char **why_out);
/* Whether such a client may be in the virtual host that the session is in. */
bool hg_login_may_stay(const struct hg_session *s, const struct hg_vhost_limits *limits);
/* What a [[user]] may enter; NULL: who is none. */
struct hg_vhost_limits hg_login_limits(const struct hg_config *c, const struct hg_user_spec *user);

/* login_broker.c: tries to log in to the realm's virtual host. The check, NULL without memory; it frees itself. */
struct hg_login_check *hg_login_ask(struct hg_realm *realm, const struct hg_credentials *c);
/* Ends all questions, unanswered. */
void hg_login_ask_close(struct hg_worker *w);

#endif
