/* SPDX-License-Identifier: Apache-2.0 */
/* The summary that `headgate check` prints. */
#include "check.h"

#include "core/identity.h"

static void write_listeners(const struct hg_config *c, struct hg_writer *out)
{
    static const char *const serves[] = {"web", "mqtt", "stomp", "admin"};
    for (size_t i = 0; i < c->listeners_n; i++) {
        const struct hg_listener_spec *l = &c->listeners[i];
        bool is_v6 = strchr(l->host, ':') != NULL;
        hg_writer_printf(out, "listener %s on %s%s%s:%u%s%s\n", serves[l->serve], is_v6 ? "[" : "",
                         l->host, is_v6 ? "]" : "", l->port, l->vhost == 0 ? "" : ", virtual host ",
                         l->vhost == 0 ? "" : c->vhosts[l->vhost - 1].name);
    }
}

static void write_users(const struct hg_config *c, struct hg_writer *out)
{
    static const char *const names[] = {"off", "common_name", "dns", "email", "uri"};
    size_t passwords_n = 0;
    for (size_t i = 0; i < c->users.users_n; i++) {
        passwords_n += c->users.users[i].password != NULL;
    }
    if (!c->has_identities) {
        return;
    }
    hg_writer_printf(out, "logins by %zu password%s", passwords_n, passwords_n == 1 ? "" : "s");
    hg_writer_str(out, c->users.token.keys != NULL ? ", tokens" : "");
    if (c->users.certificate != HG_CERTIFICATE_OFF) {
        hg_writer_printf(out, ", certificates (%s)", names[c->users.certificate]);
    }
    hg_writer_str(out, c->users.asks_broker ? ", RabbitMQ's users" : "");
    hg_writer_str(out, c->users.has_own_connection ? " by connections of their own\n" : "\n");
    for (size_t i = 0; i < c->listeners_n; i++) {
        if (c->listeners[i].takes_anonymous) {
            hg_writer_printf(out, "anonymous clients at %s:%u\n", c->listeners[i].host,
                             c->listeners[i].port);
        }
    }
}

/* As it is called, and what clients may call it. */
static void write_names(const struct hg_vhost_spec *c, struct hg_writer *out)
{
    hg_writer_printf(out, "virtual host %s%s", c->name, c->is_default ? " (default)" : "");
    for (size_t i = 0; i < c->aliases_n; i++) {
        hg_writer_printf(out, "%s%s", i == 0 ? ", also " : " and ", c->aliases[i]);
    }
    hg_writer_str(out, "\n");
}

static void write_topology(const struct hg_vhost_spec *c, struct hg_writer *out)
{
    for (size_t i = 0; i < c->endpoints_n; i++) {
        const struct hg_endpoint *e = &c->endpoints[i];
        hg_writer_printf(out, "rabbitmq %s:%u, virtual host %s, as %s\n", e->host, e->port,
                         e->vhost, e->is_external ? "EXTERNAL" : e->user);
    }
    for (size_t i = 0; i < c->exchanges_n; i++) {
        const struct hg_exchange_decl *e = &c->exchanges[i];
        hg_writer_printf(out, "exchange %s (%s%s)\n", e->spec.name, e->type,
                         e->is_passive ? ", must exist" : "");
    }
    for (size_t i = 0; i < c->queues_n; i++) {
        const struct hg_queue_decl *q = &c->queues[i];
        hg_writer_printf(out, "queue %s (%s)\n", q->name, q->is_passive ? "must exist" : q->type);
    }
}

static void write_patterns(const struct hg_rule_spec *rule, struct hg_writer *out)
{
    const char *first = rule->pattern[0];
    bool are_same = first != NULL;
    for (int p = 1; p < HG_PROTO_N; p++) {
        are_same = are_same && rule->pattern[p] != NULL && strcmp(first, rule->pattern[p]) == 0;
    }
    if (are_same) {
        hg_writer_printf(out, " %s", first);
        return;
    }
    for (enum hg_protocol p = 0; p < HG_PROTO_N; p++) {
        if (rule->pattern[p] != NULL) {
            hg_writer_printf(out, " %s %s", hg_protocol_name(p), rule->pattern[p]);
        }
    }
}

static void write_rule(const struct hg_rule_spec *rule, struct hg_writer *out)
{
    static const char *const scopes[] = {"auto", "exact", "wide"};
    hg_writer_printf(out, "rule %s:", rule->name);
    write_patterns(rule, out);
    if (rule->queue != NULL) {
        hg_writer_printf(out, " -> queue %s (", rule->queue);
    } else {
        hg_writer_printf(out, " -> exchange %s, key \"%s\" (", rule->exchange,
                         rule->key == NULL ? "" : rule->key);
    }
    hg_writer_str(out, rule->escape == HG_ESCAPE_PLAIN ? "plain" : "lossless");
    if (rule->queue == NULL) {
        hg_writer_printf(out, ", bindings %s", scopes[rule->scope]);
    }
    if (rule->slow != HG_SLOW_DROP_NEW) {
        hg_writer_printf(out, ", slow clients: %s", hg_slow_name(rule->slow));
    }
    hg_writer_printf(out, "%s%s%s%s)\n", rule->is_mandatory ? ", mandatory" : "",
                     rule->persistent == HG_YES  ? ", persistent"
                     : rule->persistent == HG_NO ? ", transient"
                                                 : "",
                     rule->overlong == HG_OVERLONG_HASH ? ", overlong keys hashed" : "",
                     rule->on_reject == HG_REJECT_WITHHOLD ? ", rejects withheld" : "");
}

static void write_routes(const char *way, const struct hg_bridge_route *routes, size_t n,
                         struct hg_writer *out)
{
    bool is_in = way[0] == 'i';
    for (size_t i = 0; i < n; i++) {
        const struct hg_bridge_route *r = &routes[i];
        hg_writer_printf(out, "  %-3s %s -> %s (QoS %u)\n", way,
                         is_in ? r->remote_filter : r->local_filter,
                         is_in ? r->local_filter : r->remote_filter, r->qos);
    }
}

static void write_bridges(const struct hg_config *c, struct hg_writer *out)
{
    for (size_t i = 0; i < c->bridges_n; i++) {
        const struct hg_bridge_spec *b = &c->bridges[i];
        hg_writer_printf(out, "bridge %s to %s port %u (MQTT %s%s)\n", b->name, b->host, b->port,
                         b->is_v5 ? "5" : "3.1.1", b->is_tls ? ", TLS" : "");
        write_routes("in", b->in, b->in_n, out);
        write_routes("out", b->out, b->out_n, out);
    }
}

static void write_webhooks(const struct hg_config *c, struct hg_writer *out)
{
    static const char *const orders[] = {"", ", in order by routing key", ", in order by header "};
    for (size_t i = 0; i < c->webhooks_n; i++) {
        const struct hg_webhook_spec *w = &c->webhooks[i];
        hg_writer_printf(out, "webhook %s: %s %s to %s (%s%s%s)\n", w->name,
                         w->queue != NULL ? "queue" : "filter",
                         w->queue != NULL ? w->queue : w->filter, w->origin,
                         w->secrets_n > 0 ? "signed" : "not signed", orders[w->order],
                         w->order_header != NULL ? w->order_header : "");
    }
}

/* ---- Permissions ---- */

static uint64_t mentioned_roles(const struct hg_config *c)
{
    uint64_t roles = c->mqtt_sys_roles & ~HG_ROLE_EVERYBODY;
    for (size_t i = 0; i < c->rules_n; i++) {
        roles |= c->rules[i].publish_roles | c->rules[i].subscribe_roles;
    }
    for (size_t i = 0; i < c->users.access_n; i++) {
        for (size_t a = 0; a < HG_ACCESS_N; a++) {
            roles |= c->users.access[i].roles[a];
        }
    }
    return roles;
}

/* Of tokens any may come. */
static uint64_t given_roles(const struct hg_config *c)
{
    const struct hg_users_config *u = &c->users;
    uint64_t roles =
        HG_ROLE_EVERYBODY | u->anonymous_roles | u->certificate_roles | u->broker_roles;
    for (size_t i = 0; i < u->users_n; i++) {
        roles |= u->users[i].roles;
    }
    return u->token.keys != NULL ? UINT64_MAX : roles;
}

/* Returns how many findings. */
static size_t report_roles(const struct hg_config *c, struct hg_writer *out)
{
    uint64_t mentioned = mentioned_roles(c);
    size_t n = 0;
    if (!c->has_identities && mentioned != 0) {
        hg_writer_str(out, "allow and [[access]] mean nothing: nobody can log in\n");
        return 1;
    }
    for (size_t i = 0; c->has_identities && i < c->roles_n; i++) {
        if ((mentioned & ~given_roles(c)) >> i & 1) {
            hg_writer_printf(out, "role %s: is permitted something, and nobody has it\n",
                             c->roles[i]);
            n++;
        }
    }
    return n;
}

void hg_check_command(const struct hg_config *c, struct hg_writer *out)
{
    hg_writer_printf(out, "%s: fine\ngateway %s, %u worker%s\n", c->file, c->name, c->workers,
                     c->workers == 1 ? "" : "s");
    write_listeners(c, out);
    write_users(c, out);
    for (size_t v = 0; v < c->vhosts_n; v++) {
        const struct hg_vhost_spec *vhost = &c->vhosts[v];
        if (c->has_vhosts) {
            write_names(vhost, out);
        }
        write_topology(vhost, out);
        for (size_t i = 0; i < vhost->rules_n; i++) {
            write_rule(&vhost->rules[i], out);
        }
    }
    write_bridges(c, out);
    write_webhooks(c, out);
    struct hg_writer findings = {0};
    size_t n = report_roles(c, &findings);
    for (size_t v = 0; v < c->vhosts_n; v++) {
        n += hg_rules_report(c->vhosts[v].table, &findings);
    }
    hg_writer_printf(out, "%zu finding%s\n", n, n == 1 ? "" : "s");
    hg_writer_bytes(out, hg_writer_view(&findings));
    out->failed = out->failed || findings.failed;
    hg_writer_close(&findings);
}
