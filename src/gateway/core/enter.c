/* SPDX-License-Identifier: Apache-2.0 */
/* Which virtual host a client gets into. */
#include "core/conn.h"
#include "core/login_priv.h"
#include "core/own.h"

/* Its place (core/identity.h); 0: none is called so. */
static unsigned place_of(const struct hg_config *c, struct hg_bytes name)
{
    const struct hg_vhost_spec *v = name.n == 0 ? NULL : hg_vhost_find(c, name);
    return v == NULL ? 0 : (unsigned)(v - c->vhosts) + 1;
}

static bool may_enter(const struct hg_vhost_limits *limits, unsigned place)
{
    return (limits->may >> (place - 1) & 1) != 0;
}

/* own: the place of its listener's. */
static bool may_be_in(const struct hg_vhost_limits *limits, unsigned place, unsigned own)
{
    return may_enter(limits, place) || (place == own && !limits->is_bound);
}

bool hg_login_may_stay(const struct hg_session *s, const struct hg_vhost_limits *limits)
{
    return may_be_in(limits, hg_realm_of(s)->vhost->index + 1, hg_conn_listener(s->conn)->vhost);
}

/* For who names none: what the user is configured with, or the first that it may enter. */
static unsigned preferred(const struct hg_config *c, const struct hg_vhost_limits *limits)
{
    unsigned place = limits->first != 0 ? limits->first : 1;
    while (limits->first == 0 && place < c->vhosts_n && !may_enter(limits, place)) {
        place++;
    }
    return place;
}

enum hg_status hg_login_choose(struct hg_session *s, struct hg_bytes named,
                               const struct hg_vhost_limits *limits, const char **why_out)
{
    const struct hg_config *config = s->worker->config;
    unsigned own = hg_conn_listener(s->conn)->vhost;
    unsigned wanted = place_of(config, named);
    if (named.n > 0 && wanted == 0 && config->refuses_unknown_vhosts) {
        *why_out = "no virtual host of that name is served here";
        return HG_NOT_ALLOWED;
    }
    if (own != 0 && wanted != 0 && own != wanted) {
        *why_out = "this listener is for another virtual host";
        return HG_NOT_ALLOWED;
    }
    unsigned place = own != 0 ? own : wanted != 0 ? wanted : preferred(config, limits);
    if (!may_be_in(limits, place, own)) {
        *why_out = "this user may not enter that virtual host";
        return HG_NOT_ALLOWED;
    }
    if (hg_realm_of(s)->vhost->index != place - 1) { /* else it may be in its user's own */
        hg_own_leave(s);
        hg_session_enter(s, s->worker->realms[place - 1]);
    }
    return HG_OK;
}

enum hg_status hg_session_choose(struct hg_session *s, struct hg_bytes named, const char **why_out)
{
    struct hg_vhost_limits limits = hg_identity_vhosts(s->identity);
    return hg_login_choose(s, named, &limits, why_out);
}

struct hg_vhost_limits hg_login_limits(const struct hg_config *c, const struct hg_user_spec *user)
{
    return user == NULL || user->vhosts == 0 ? (struct hg_vhost_limits){.may = c->users.vhosts}
                                             : (struct hg_vhost_limits){.may = user->vhosts,
                                                                        .first = user->vhost,
                                                                        .is_bound = true};
}
