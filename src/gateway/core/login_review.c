/* SPDX-License-Identifier: Apache-2.0 */
/* What a newer configuration makes of those whom an older one let in. Nobody's secret is kept, so a
 * password stays good as long as its line is the same, and a token until its time is over. */
#include "base/mem.h"
#include "core/conn.h"
#include "core/login_priv.h"

struct verdict {
    bool may_stay;
    uint64_t roles;
};

static struct verdict as_user(const struct hg_users_config *before,
                              const struct hg_users_config *now, struct hg_bytes name)
{
    const struct hg_user_spec *was = hg_config_find_user(before, name);
    const struct hg_user_spec *is = hg_config_find_user(now, name);
    bool has_same = was != NULL && is != NULL && was->password != NULL && is->password != NULL &&
                    strcmp(was->password, is->password) == 0;
    return (struct verdict){has_same, has_same ? is->roles : 0};
}

static struct verdict judge(const struct hg_session *s, const struct hg_config *before)
{
    const struct hg_config *now = s->worker->config;
    const struct hg_users_config *users = &now->users;
    struct hg_bytes name = hg_identity_user(s->identity);
    const struct hg_user_spec *user = hg_config_find_user(users, name);
    uint64_t own = user == NULL ? 0 : user->roles;
    switch (s->identity == NULL ? HG_IDENTITY_ANONYMOUS : hg_identity_source(s->identity)) {
    case HG_IDENTITY_PASSWORD: return as_user(&before->users, users, name);
    case HG_IDENTITY_BROKER:
        return (struct verdict){
            users->asks_broker && (user == NULL || user->password == NULL) &&
                users->has_own_connection ==
                    before->users.has_own_connection, /* else by others' links */
            users->broker_roles | own};
    case HG_IDENTITY_CERTIFICATE:
        return (struct verdict){users->certificate == before->users.certificate,
                                users->certificate_roles | own};
    case HG_IDENTITY_TOKEN:
        return (struct verdict){
            users->token.keys != NULL,
            hg_config_translate_roles(before, now, hg_identity_roles(s->identity))};
    default: break;
    }
    return (struct verdict){hg_conn_listener(s->conn)->takes_anonymous, users->anonymous_roles};
}

/* RabbitMQ's judgement is of one virtual host, and is not asked for again. */
static struct hg_vhost_limits limits_of(const struct hg_session *s)
{
    const struct hg_config *now = s->worker->config;
    struct hg_bytes name = hg_identity_user(s->identity);
    return s->identity != NULL && hg_identity_source(s->identity) == HG_IDENTITY_BROKER
               ? hg_identity_vhosts(s->identity)
               : hg_login_limits(now, hg_config_find_user(&now->users, name));
}

static void end(struct hg_session *s)
{
    struct hg_worker *w = s->worker;
    const char *peer = hg_conn_peer(s->conn);
    struct hg_bytes user = hg_identity_user(s->identity);
    hg_count(&w->metrics.login.logins_ended, 1);
    HG_LOG_LIMITED(w->log, HG_LOG_INFO, "login.ended", user, HG_F_BYTES("user", user),
                   HG_F_STR("protocol", hg_protocol_name((enum hg_protocol)s->proto)),
                   HG_F_STR("peer", peer),
                   HG_F_STR("reason", "the new configuration would not let it in"));
    if (s->ops->expired != NULL) {
        s->ops->expired(s, HG_NOT_ALLOWED);
    } else {
        hg_session_logout(s); /* its next request has to log in */
    }
}

static void review(struct hg_session *s, const struct hg_config *before)
{
    /* Who has not logged in yet is judged by what holds now; who came when nobody had to is not
     * known. */
    bool is_nobody = s->identity == NULL && (before->has_identities || s->ops->expired == NULL);
    if (is_nobody || hg_conn_is_closing(s->conn)) {
        return;
    }
    struct verdict v = judge(s, before);
    struct hg_vhost_limits had = hg_identity_vhosts(s->identity);
    struct hg_vhost_limits limits = limits_of(s);
    if (!v.may_stay || !hg_login_may_stay(s, &limits)) {
        end(s);
        return;
    }
    if (s->identity != NULL && hg_identity_roles(s->identity) == (v.roles | HG_ROLE_EVERYBODY) &&
        had.may == limits.may && had.first == limits.first && had.is_bound == limits.is_bound) {
        return;
    }
    struct hg_identity *identity =
        s->identity != NULL
            ? hg_identity_with_roles(s->identity, v.roles, limits)
            : hg_identity_new(&(struct hg_identity_parts){.roles = v.roles, .vhosts = limits});
    if (identity == NULL || !hg_session_identify(s, identity)) {
        hg_conn_close(s->conn, HG_NO_MEMORY);
    }
}

static void review_client(void *ctx, struct hg_session *s)
{
    const struct hg_config *before = ctx;
    if (hg_conn_listener(s->conn)->serve != HG_SERVE_ADMIN) {
        review(s, before);
    }
}

void hg_login_review(struct hg_worker *w, const struct hg_config *before)
{
    hg_login_cache_close(&w->logins->cache);
    hg_login_cache_open(&w->logins->cache, w->config->users.cache_ms, w->config->users.max_cached);
    if (w->config->has_identities) {
        hg_conn_each(w, review_client, (void *)(uintptr_t)before);
    }
}
