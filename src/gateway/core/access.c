/* SPDX-License-Identifier: Apache-2.0 */
#include "core/access.h"

#include "core/conn.h"
#include "core/identity.h"
#include "core/worker.h"

static bool claim_of(const void *claims, struct hg_bytes name, struct hg_bytes *value_out)
{
    return hg_identity_claim(claims, name, value_out);
}

static unsigned vhost_of(const struct hg_session *s)
{
    return hg_realm_of(s)->vhost->index;
}

static bool is_guarded(const struct hg_session *s)
{
    return s->worker->config->has_identities && !s->is_trusted;
}

const struct hg_rule_who *hg_session_who(struct hg_session *s, struct hg_rule_who *room)
{
    if (!is_guarded(s)) {
        return NULL;
    }
    struct hg_session_info info = {.version = NULL};
    if (s->ops->describe != NULL) {
        s->ops->describe(s, &info);
    }
    *room = (struct hg_rule_who){
        .user = hg_identity_user(s->identity),
        .client_id = info.client_id,
        .roles = s->identity == NULL ? 0 : hg_identity_roles(s->identity), /* not let in yet */
        .claims = s->identity,
        .claim = claim_of,
    };
    return room;
}

enum hg_status hg_access_deny(struct hg_session *s, const char *action, struct hg_bytes subject,
                              const char *rule)
{
    const char *peer = s->conn == NULL ? "" : hg_conn_peer(s->conn);
    struct hg_bytes user = hg_identity_user(s->identity);
    hg_count(&s->worker->metrics.proto[s->proto].denied, 1);
    HG_LOG_LIMITED_BY(s->worker->log, HG_LOG_WARN, "access.denied", rule == NULL ? action : rule,
                      hg_bytes_str(peer), HG_F_STR("peer", peer), HG_F_BYTES("user", user),
                      HG_F_STR("action", action), HG_F_BYTES("subject", subject),
                      HG_F_STR("rule", rule));
    return HG_NOT_ALLOWED;
}

/* ---- RabbitMQ's names ---- */

static const char *const actions[HG_ACCESS_N] = {"publish", "subscribe", "declare"};

static enum hg_status judge(struct hg_session *s, enum hg_access_action action, uint64_t roles,
                            struct hg_bytes name, const char **why_out)
{
    if ((roles & (s->identity == NULL ? 0 : hg_identity_roles(s->identity))) != 0) {
        return HG_OK;
    }
    *why_out = "no [[access]] lets this user";
    return hg_access_deny(s, actions[action], name, "[[access]]");
}

enum hg_status hg_access_queue(struct hg_session *s, enum hg_access_action action,
                               struct hg_bytes queue, const char **why_out)
{
    return !is_guarded(s)
               ? HG_OK
               : judge(s, action,
                       hg_access_queue_roles(s->worker->config, vhost_of(s), action, queue), queue,
                       why_out);
}

static bool has_wildcard_word(struct hg_bytes key)
{
    return hg_bytes_index(key, '*') < key.n || hg_bytes_index(key, '#') < key.n;
}

enum hg_status hg_access_exchange(struct hg_session *s, enum hg_access_action action,
                                  struct hg_bytes exchange, struct hg_bytes key,
                                  const char **why_out)
{
    const struct hg_config *c = s->worker->config;
    if (!is_guarded(s)) {
        return HG_OK;
    }
    if (exchange.n == 0) { /* the default one, whose keys name queues */
        return hg_access_queue(s, action, key, why_out);
    }
    bool is_known = false;
    enum hg_exchange_type type = hg_rules_exchange_type(hg_realm_of(s)->rules, exchange, &is_known);
    bool is_exact = action != HG_ACCESS_SUBSCRIBE ||
                    (is_known && type == HG_EXCHANGE_TOPIC && !has_wildcard_word(key));
    uint64_t roles = is_exact ? hg_access_exchange_roles(c, vhost_of(s), action, exchange, key)
                              : hg_access_exchange_roles_for_some_key(c, vhost_of(s), exchange);
    return judge(s, action, roles, exchange, why_out);
}

/* ---- Deliveries ---- */

static bool count_if_not(struct hg_session *s, bool may)
{
    hg_count(&s->worker->metrics.proto[s->proto].withheld, !may);
    return may;
}

bool hg_access_may_see_gate(struct hg_session *s, const struct hg_rule_gate *gate)
{
    struct hg_rule_who room;
    return !is_guarded(s) || count_if_not(s, hg_rule_gate_admits(gate, hg_session_who(s, &room)));
}

bool hg_access_may_see(struct hg_session *s, struct hg_bytes address, size_t mapped_by)
{
    struct hg_rule_gate gate;
    if (!is_guarded(s)) {
        return true;
    }
    hg_rule_gate_open(&gate, hg_realm_of(s)->rules, s->proto, address, mapped_by);
    return hg_access_may_see_gate(s, &gate);
}

bool hg_access_may_see_source(struct hg_session *s, const struct hg_message *m)
{
    if (!is_guarded(s)) {
        return true;
    }
    uint64_t roles = hg_access_exchange_roles(s->worker->config, vhost_of(s), HG_ACCESS_SUBSCRIBE,
                                              hg_message_exchange(m), hg_message_routing_key(m));
    return count_if_not(s, s->identity != NULL && (roles & hg_identity_roles(s->identity)) != 0);
}
