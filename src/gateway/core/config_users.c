/* SPDX-License-Identifier: Apache-2.0 */
/* [users] and [[user]]: who may come in, and how they show who they are. */
#include "core/config_schema.h"
#include "core/password.h"
#include "message/topic.h"

enum { MS_PER_HOUR = 3600 * 1000 };

static const char *const anonymous_words[] = {"loopback", NULL};
static const char *const certificate_names[] = {"off", "common_name", "dns", "email", "uri", NULL};

/* true, false or "loopback" */
static void read_anonymous(struct hg_config_reader *r, const struct hg_config_node *node,
                           void *into)
{
    struct hg_config *c = into;
    if (node == NULL) {
        return;
    }
    if (node->kind == HG_CONFIG_BOOL) {
        c->users.anonymous = node->u.b ? HG_ANONYMOUS_YES : HG_ANONYMOUS_NO;
    } else if (node->kind == HG_CONFIG_STRING &&
               strcmp(node->u.string.p, anonymous_words[0]) == 0) {
        c->users.anonymous = HG_ANONYMOUS_LOOPBACK;
    } else {
        hg_config_read_error(r, &node->at, "anonymous must be true, false or \"loopback\"");
    }
}

/* clang-format off */
#define USERS(member) HG_CONFIG_MEMBER(hg_config, users.member)
#define USER(member)  HG_CONFIG_MEMBER(hg_user_spec, member)

static const struct hg_config_field token_fields[] = {
    {.key = "secrets",     .kind = HG_READ_TEXTS,    USERS(token.secrets), .n_offset = offsetof(struct hg_config, users.token.secrets_n)},
    {.key = "keys",        .kind = HG_READ_TEXTS,    USERS(token.pems), .n_offset = offsetof(struct hg_config, users.token.pems_n)},
    {.key = "jwks",        .kind = HG_READ_TEXT,     USERS(token.jwks), .min = 1},
    {.key = "issuer",      .kind = HG_READ_TEXT,     USERS(token.issuer), .min = 1},
    {.key = "audience",    .kind = HG_READ_TEXT,     USERS(token.audience), .min = 1},
    {.key = "user_claim",  .kind = HG_READ_TEXT,     USERS(token.user_claim), .preset = "sub", .min = 1},
    {.key = "roles_claim", .kind = HG_READ_TEXT,     USERS(token.roles_claim), .preset = "roles", .min = 1},
    {.key = "leeway",      .kind = HG_READ_DURATION, USERS(token.leeway_ms), .preset = "30s", .max = MS_PER_HOUR},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_users[] = {
    {.key = "anonymous",         .kind = HG_READ_OTHER,    .read = read_anonymous},
    {.key = "anonymous_roles",   .kind = HG_READ_ROLES,    USERS(anonymous_roles)},
    {.key = "vhosts",            .kind = HG_READ_VHOSTS,   USERS(vhosts)},
    {.key = "token",             .kind = HG_READ_TABLE,    .fields = token_fields},
    {.key = "cookie",            .kind = HG_READ_TEXT,     USERS(cookie), .min = 1, .max = 64},
    {.key = "query",             .kind = HG_READ_TEXT,     USERS(query), .min = 1, .max = 64},
    {.key = "certificate",       .kind = HG_READ_WORD,     USERS(certificate), .words = certificate_names, .preset = "off"},
    {.key = "certificate_roles", .kind = HG_READ_ROLES,    USERS(certificate_roles)},
    {.key = "broker",            .kind = HG_READ_BOOLEAN,  USERS(asks_broker), .preset = "false"},
    {.key = "own_connection",    .kind = HG_READ_BOOLEAN,  USERS(has_own_connection), .preset = "false"},
    {.key = "own_connection_idle", .kind = HG_READ_DURATION, USERS(own_connection_idle_ms), .preset = "1m", .min = 1000, .max = 24 * MS_PER_HOUR},
    {.key = "own_connections_max", .kind = HG_READ_NUMBER, USERS(own_connections_max), .preset = "100", .min = 1, .max = 4096},
    {.key = "broker_roles",      .kind = HG_READ_ROLES,    USERS(broker_roles)},
    {.key = "cache",             .kind = HG_READ_DURATION, USERS(cache_ms), .preset = "1m", .max = 24 * MS_PER_HOUR},
    {.key = "max_cached",        .kind = HG_READ_NUMBER,   USERS(max_cached), .preset = "10000", .min = 1, .max = 10000000},
    {.key = "max_hashes",        .kind = HG_READ_NUMBER,   USERS(max_hashes), .preset = "256", .min = 1, .max = 100000},
    {.key = "max_failures",      .kind = HG_READ_NUMBER,   USERS(max_failures), .preset = "10", .max = 1000000},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_user[] = {
    {.key = "name",     .kind = HG_READ_TEXT,  USER(name), .min = 1, .max = 255, .is_required = true},
    {.key = "password", .kind = HG_READ_TEXT,  USER(password), .min = 1},
    {.key = "roles",    .kind = HG_READ_ROLES, USER(roles)},
    {.key = "vhost",    .kind = HG_READ_VHOST, USER(vhost)},
    {.key = "vhosts",   .kind = HG_READ_VHOSTS, USER(vhosts)},
    {.key = NULL},
};
/* clang-format on */

void hg_config_schema_check_user(struct hg_config_reader *r, const struct hg_config_node *element,
                                 void *into)
{
    struct hg_user_spec *user = into;
    user->vhosts |= user->vhost == 0 ? 0 : UINT64_C(1) << (user->vhost - 1);
    if (user->name != NULL && !hg_utf8_is_clean(hg_bytes_str(user->name))) {
        hg_config_read_error(r, &hg_config_tree_find(element, "name")->at,
                             "name holds control characters");
    }
    if (user->password != NULL && !hg_password_is_line(user->password)) {
        hg_config_read_error(
            r, &hg_config_tree_find(element, "password")->at,
            "password must be a line \"$argon2id$…\": `headgate passwd` makes one");
    }
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "::ffff:127.", 11) == 0;
}

static void make_keys(struct hg_config_reader *r, const struct hg_config_node *token,
                      struct hg_config *c)
{
    struct hg_token_spec *spec = &c->users.token;
    struct hg_writer problem = {0};
    if (token == NULL || token->kind != HG_CONFIG_TABLE) {
        return;
    }
    if (spec->secrets_n + spec->pems_n == 0 && spec->jwks == NULL) {
        hg_config_read_error(r, &token->at, "token needs secrets, keys or jwks");
        return;
    }
    spec->keys = hg_token_keys_new(spec, &problem);
    if (spec->keys == NULL) {
        struct hg_bytes text = hg_writer_view(&problem);
        hg_config_read_error(r, &token->at, "token: %.*s", HG_BYTES_FMT(text));
    }
    hg_writer_close(&problem);
}

static void index_users(struct hg_config_reader *r, struct hg_users_config *users)
{
    hg_map_open(&users->by_name);
    for (size_t i = 0; i < users->users_n; i++) {
        const struct hg_user_spec *u = &users->users[i];
        users->dummy = users->dummy == NULL ? u->password : users->dummy;
        if (u->name != NULL &&
            !hg_map_put(&users->by_name, hg_bytes_str(u->name), (void *)(uintptr_t)u)) {
            r->arena.is_exhausted = true;
        }
    }
}

const struct hg_user_spec *hg_config_find_user(const struct hg_users_config *users,
                                               struct hg_bytes name)
{
    return hg_map_find(&users->by_name, name);
}

/* Anonymous clients: where nothing is said, on loopback, and only while nobody could log in. */
static bool takes_anonymous(const struct hg_config *c, const struct hg_listener_spec *l)
{
    switch (c->users.anonymous) {
    case HG_ANONYMOUS_YES: return true;
    case HG_ANONYMOUS_LOOPBACK: return is_loopback(l->host);
    case HG_ANONYMOUS_NO: return false;
    default: return !c->has_identities && is_loopback(l->host);
    }
}

bool hg_config_schema_takes_anonymous(const struct hg_config *c, const struct hg_listener_spec *l)
{
    bool shows_certificate = l->tls.ca != NULL && !l->tls.is_optional;
    return l->host != NULL && l->serve != HG_SERVE_ADMIN &&
           (takes_anonymous(c, l) || (!c->has_identities && shows_certificate));
}

static void check_anonymous(struct hg_config_reader *r, const struct hg_config_node *users,
                            const struct hg_config_node *listeners, struct hg_config *c)
{
    struct hg_listener_spec *l = (struct hg_listener_spec *)(uintptr_t)c->listeners;
    const struct hg_config_node *node = listeners == NULL ? NULL : listeners->u.first;
    if (c->users.anonymous == HG_ANONYMOUS_NO && !c->has_identities) {
        hg_config_read_error(r, &hg_config_tree_find(users, "anonymous")->at,
                             "nobody could log in: configure [[user]], [users] token, certificate "
                             "or broker");
        return;
    }
    for (size_t i = 0; i < c->listeners_n && node != NULL; i++, node = node->next) {
        bool is_known = l[i].host != NULL && l[i].serve != HG_SERVE_ADMIN;
        l[i].takes_anonymous = hg_config_schema_takes_anonymous(c, &l[i]);
        if (is_known && !l[i].takes_anonymous && !c->has_identities) {
            hg_config_read_error(
                r, &hg_config_tree_find(node, "bind")->at,
                "everybody could use this listener: configure [[user]], [users] "
                "token, certificate or broker, or say anonymous = true in [users]");
        }
    }
}

void hg_config_schema_check_users(struct hg_config_reader *r, const struct hg_config_node *root,
                                  struct hg_config *c)
{
    const struct hg_config_node *users = hg_config_tree_find(root, "users");
    const struct hg_config_node *listeners = hg_config_tree_find(root, "listener");
    c->users.vhosts = c->users.vhosts == 0 ? 1 : c->users.vhosts; /* the default one */
    if (users != NULL && users->kind == HG_CONFIG_TABLE) {
        make_keys(r, hg_config_tree_find(users, "token"), c);
    }
    index_users(r, &c->users);
    c->has_identities = c->users.dummy != NULL || c->users.token.keys != NULL ||
                        c->users.asks_broker || c->users.certificate != HG_CERTIFICATE_OFF;
    if (c->users.has_own_connection && !c->users.asks_broker) {
        hg_config_read_error(r, &hg_config_tree_find(users, "own_connection")->at,
                             "own_connection is for those whom RabbitMQ lets in: it needs broker = "
                             "true");
    }
    if (r->problems_n == 0) {
        check_anonymous(r, users, listeners, c);
    }
}
