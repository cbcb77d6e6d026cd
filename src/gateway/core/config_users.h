/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in: [users], [[user]] and [[access]] of the configuration, typed. */
#ifndef HG_CORE_CONFIG_USERS_H
#define HG_CORE_CONFIG_USERS_H

#include "base/map.h"
#include "core/config_access.h"
#include "core/token.h"
#include "stream/stream.h"

struct hg_user_spec {
    const char *name;
    const char *password; /* an argon2id line; NULL: cannot log in with one */
    uint64_t roles;
    uint8_t vhost;   /* place of the one for who names none; 0: unsaid */
    uint64_t vhosts; /* bits: all that it may enter; 0: as others */
};

enum hg_anonymous {
    HG_ANONYMOUS_UNSAID, /* on loopback, as long as there are no identities */
    HG_ANONYMOUS_NO,
    HG_ANONYMOUS_YES,
    HG_ANONYMOUS_LOOPBACK /* at listeners that are bound there */
};

struct hg_users_config {
    enum hg_anonymous anonymous;
    uint64_t anonymous_roles;
    uint64_t vhosts; /* bits: which ones those may enter whose [[user]] does not say */
    const struct hg_user_spec *users;
    size_t users_n;
    struct hg_map by_name; /* of these */
    const char *dummy;     /* a line that names which are none of them are checked against */
    const struct hg_access_spec *access; /* [[access]] */
    size_t access_n;
    struct hg_token_spec token; /* keys NULL: tokens are not taken */
    const char *cookie, *query; /* that carry a token at a WebSocket's handshake; NULL: none does */
    enum hg_certificate_name certificate; /* the name in it that is the user's */
    uint64_t certificate_roles;
    bool asks_broker; /* names that are none of [[user]] log in at RabbitMQ */
    uint64_t broker_roles;
    bool has_own_connection;         /* those go over connections of their own: core/own.h */
    uint64_t own_connection_idle_ms; /* how long these stay when nobody uses them */
    uint32_t own_connections_max;    /* users who have them, per worker */
    uint64_t cache_ms;   /* how long a password that was good is good; 0: until it is said again */
    uint32_t max_cached; /* of these, per worker */
    uint32_t max_hashes; /* passwords being checked or waiting for it, per worker */
    uint32_t max_failures; /* per address and minute; 0: any number */
};

/* NULL: nobody has that name. */
const struct hg_user_spec *hg_config_find_user(const struct hg_users_config *users,
                                               struct hg_bytes name);

#endif
