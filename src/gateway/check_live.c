/* SPDX-License-Identifier: Apache-2.0 */
/* Which questions a configuration has, and RabbitMQ's answers in words. */
#include "check_live.h"

#include "base/map.h"
#include "base/mem.h"
#include "needs.h"
#include "upstream/probe.h"

#include <stdio.h>

#define MIB (UINT64_C(1024) * 1024)
enum { NAME_SIZE = 300, KINDS_N = 3 };
#define BODY_TRIED_BYTES (64 * MIB) /* what is larger is not sent only to be asked about */

struct live {
    const struct hg_config *config;
    struct hg_needs needs;
    struct hg_probe *probes;
    size_t n;
    char (*names)[NAME_SIZE]; /* made-up ones, that a prefix or pattern stands for */
    struct hg_queue_decl kinds[KINDS_N];
    struct hg_header kind_types[KINDS_N];
    char kind_names[KINDS_N][64];
    struct hg_writer *out;
    enum hg_live worst;
};

static void note(struct live *l, enum hg_live outcome)
{
    if (outcome == HG_LIVE_REFUSED || l->worst == HG_LIVE_FINE) {
        l->worst = outcome;
    }
}

/* ---- Questions ---- */

static struct hg_probe *add(struct live *l, enum hg_probe_kind kind, const char *name)
{
    struct hg_probe *p = &l->probes[l->n++];
    *p = (struct hg_probe){.kind = kind, .name = name, .key = ""};
    return p;
}

/* Whatever begins with a prefix, or fits a pattern, is permitted alike: one name stands for all. */
static const char *name_of(struct live *l, const struct hg_need *need)
{
    char *name = l->names[need - l->needs.at];
    if (need->match == HG_NEED_NAME) {
        bool is_default = !need->is_queue && strcmp(need->name, "amq.default") == 0;
        return is_default ? "" : need->name;
    }
    size_t n = 0;
    for (const char *p = need->name; *p != '\0' && n < NAME_SIZE - 16; p++) {
        name[n++] = *p == '*' ? 'x' : *p;
    }
    (void)snprintf(name + n, NAME_SIZE - n, "%s", need->match == HG_NEED_PREFIX ? "check.x" : "");
    return name;
}

/* A key that the configuration's topic exchanges are used with: what comes first in each pattern, so
 * that topic permissions are asked about, too. */
static const char *key_of(const struct live *l, const char *exchange)
{
    const struct hg_config *c = l->config;
    for (size_t i = 0; i < c->rules_n; i++) {
        const struct hg_rule_spec *rule = &c->rules[i];
        if (rule->queue == NULL && rule->key != NULL && strcmp(rule->exchange, exchange) == 0 &&
            strchr(rule->key, '{') == NULL) {
            return rule->key;
        }
    }
    return "headgate.check";
}

static void ask_needs(struct live *l)
{
    static const enum hg_probe_kind kinds[2][HG_NEED_N] = {
        {HG_PROBE_CONFIGURE_EXCHANGE, HG_PROBE_WRITE_EXCHANGE, HG_PROBE_READ_EXCHANGE},
        {HG_PROBE_CONFIGURE_QUEUE, HG_PROBE_WRITE_QUEUE, HG_PROBE_READ_QUEUE}};
    for (size_t i = 0; i < l->needs.n; i++) {
        const struct hg_need *need = &l->needs.at[i];
        struct hg_probe *p = add(l, kinds[need->is_queue][need->verb], name_of(l, need));
        p->key = need->is_queue ? "" : key_of(l, need->name);
    }
}

static void ask_topology(struct live *l)
{
    const struct hg_config *c = l->config;
    for (size_t i = 0; i < c->exchanges_n; i++) {
        add(l, HG_PROBE_EXCHANGE_THERE, c->exchanges[i].spec.name)->exchange = &c->exchanges[i];
        struct hg_probe *same = add(l, HG_PROBE_EXCHANGE_SAME, c->exchanges[i].spec.name);
        same->exchange = &c->exchanges[i];
        same->only_if_fine = true;
    }
    for (size_t i = 0; i < c->queues_n; i++) {
        add(l, HG_PROBE_QUEUE_THERE, c->queues[i].name)->queue = &c->queues[i];
        struct hg_probe *same = add(l, HG_PROBE_QUEUE_SAME, c->queues[i].name);
        same->queue = &c->queues[i];
        same->only_if_fine = true;
    }
}

static bool wants_kind(const struct hg_config *c, const char *type)
{
    for (size_t i = 0; i < c->queues_n; i++) {
        if (strcmp(c->queues[i].type, type) == 0) {
            return true;
        }
    }
    return strcmp(type, "classic") == 0 ||
           (strcmp(type, "quorum") == 0 && c->mqtt_session_queue_is_quorum) ||
           (strcmp(type, "stream") == 0 && strcmp(c->state_log, "off") != 0);
}

/* One of each kind of queue that is used is made and deleted. */
static void ask_kinds(struct live *l)
{
    static const char *const types[KINDS_N] = {"classic", "quorum", "stream"};
    for (size_t i = 0; i < KINDS_N; i++) {
        if (!wants_kind(l->config, types[i])) {
            continue;
        }
        (void)snprintf(l->kind_names[i], sizeof(l->kind_names[i]), "headgate.check.%s.%016llx",
                       types[i], (unsigned long long)hg_random_u64());
        l->kind_types[i] = (struct hg_header){
            HG_BYTES("x-queue-type"), {.kind = HG_VALUE_STRING, .u.bytes = hg_bytes_str(types[i])}};
        l->kinds[i] = (struct hg_queue_decl){.name = l->kind_names[i],
                                             .type = types[i],
                                             .is_durable = true,
                                             .arguments = &l->kind_types[i],
                                             .arguments_n = 1};
        add(l, HG_PROBE_QUEUE_MADE, l->kind_names[i])->queue = &l->kinds[i];
        add(l, HG_PROBE_QUEUE_GONE, l->kind_names[i])->queue = &l->kinds[i];
    }
}

/* False when there is no memory. */
static bool open_live(struct live *l, const struct hg_config *c, struct hg_writer *out)
{
    *l = (struct live){.config = c, .out = out};
    hg_needs_open(&l->needs, c);
    size_t most = l->needs.n + 2 * (c->exchanges_n + c->queues_n + KINDS_N) + 1;
    l->probes = hg_zalloc(most * sizeof(*l->probes));
    l->names = hg_zalloc((l->needs.n + 1) * sizeof(*l->names));
    if (l->needs.failed || l->probes == NULL || l->names == NULL) {
        return false;
    }
    ask_kinds(l);
    ask_topology(l);
    ask_needs(l);
    if (c->max_message_bytes <= BODY_TRIED_BYTES) {
        add(l, HG_PROBE_BODY, "")->body_bytes = c->max_message_bytes;
    }
    return true;
}

static void close_live(struct live *l)
{
    hg_needs_close(&l->needs);
    hg_free(l->probes);
    hg_free(l->names);
}

/* ---- Answers ---- */

static void say_problem(struct live *l, const char *what, const char *name,
                        const struct hg_probe *p)
{
    hg_writer_printf(l->out, "  PROBLEM %s %s: %s\n", what, name, p->text);
    note(l, p->code == 0 ? HG_LIVE_AWAY : HG_LIVE_REFUSED);
}

/* An exchange or queue of the configuration. */
static void say_declared(struct live *l, const struct hg_probe *p)
{
    enum { NOT_FOUND = 404 };
    bool is_exchange = p->exchange != NULL;
    const char *what = is_exchange ? "exchange" : "queue";
    bool must_exist = is_exchange ? p->exchange->is_passive : p->queue->is_passive;
    bool is_question = p->kind == HG_PROBE_EXCHANGE_THERE || p->kind == HG_PROBE_QUEUE_THERE;
    if (p->outcome == HG_PROBE_REFUSED && is_question && p->code == NOT_FOUND && !must_exist) {
        hg_writer_printf(l->out, "  %s %s is not there: the start declares it\n", what, p->name);
    } else if (p->outcome == HG_PROBE_REFUSED) {
        say_problem(l, what, p->name, p);
    } else if (p->outcome == HG_PROBE_FINE && !is_question) {
        hg_writer_printf(l->out, "  %s %s is there%s\n", what, p->name,
                         must_exist ? "" : ", as declared");
    }
}

static void say_kind(struct live *l, const struct hg_probe *p)
{
    if (p->outcome == HG_PROBE_REFUSED) {
        say_problem(l, p->queue->type, "queues cannot be made and deleted", p);
    } else if (p->kind == HG_PROBE_QUEUE_GONE) {
        hg_writer_printf(l->out, "  %s queues can be made and deleted\n", p->queue->type);
    }
}

static void say_body(struct live *l, const struct hg_probe *p)
{
    unsigned long long mib = p->body_bytes / MIB;
    if (p->outcome == HG_PROBE_REFUSED) {
        say_problem(l, "max_message", "", p);
    } else {
        hg_writer_printf(l->out, "  messages of %llu MiB (max_message) are taken\n", mib);
    }
}

static void say_forbidden(struct live *l, const struct hg_probe *p)
{
    static const char *const verbs[] = {"may not configure exchange", "may not write to exchange",
                                        "may not read exchange",      "may not configure queue",
                                        "may not bind queue",         "may not read queue"};
    say_problem(l, verbs[p->kind - HG_PROBE_CONFIGURE_EXCHANGE],
                p->name[0] == '\0' ? "amq.default" : p->name, p);
}

static void say_answers(struct live *l)
{
    size_t permitted_n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct hg_probe *p = &l->probes[i];
        bool is_kind = p->kind == HG_PROBE_QUEUE_MADE || p->kind == HG_PROBE_QUEUE_GONE;
        if (p->outcome == HG_PROBE_UNASKED || p->outcome == HG_PROBE_SKIPPED) {
            continue;
        }
        if (p->kind == HG_PROBE_BODY) {
            say_body(l, p);
        } else if (is_kind) {
            say_kind(l, p);
        } else if (p->kind < HG_PROBE_QUEUE_MADE) {
            say_declared(l, p);
        } else if (p->outcome == HG_PROBE_REFUSED) {
            say_forbidden(l, p);
        } else {
            permitted_n++;
        }
    }
    hg_writer_printf(l->out, "  permissions: %zu of %zu are there\n", permitted_n, l->needs.n);
}

static void say_unchecked(struct live *l)
{
    const struct hg_config *c = l->config;
    if (c->max_message_bytes > BODY_TRIED_BYTES) {
        hg_writer_str(l->out,
                      "  not tried: whether messages of max_message are taken (over 64 MiB); "
                      "see RabbitMQ's max_message_size\n");
    }
    if (c->lease_max > 0) {
        hg_writer_printf(
            l->out,
            "  not shown by AMQP: consumer_timeout; it should be over the %llu s that a "
            "lease may last, as RabbitMQ's 30 minutes are\n",
            (unsigned long long)c->lease_time_ms / 1000);
    }
}

/* ---- The endpoints ---- */

static void say_connected(struct live *l, const struct hg_endpoint *e,
                          const struct hg_probe_server *s)
{
    const struct hg_config *c = l->config;
    const char *name = c->rabbitmq_tls_spec.is_insecure ? ", its name is not" : " for this name";
    hg_writer_printf(l->out, "%s, %s%s\n", s->version,
                     e->is_tls ? "TLS, its certificate is verified" : "no TLS",
                     e->is_tls ? name : "");
    hg_writer_printf(l->out, "  frame_max %u, channel_max %u, heartbeat %u s\n", s->frame_max_bytes,
                     s->channel_max, s->heartbeat_s);
    if (s->is_blocked) {
        hg_writer_str(l->out, "  PROBLEM an alarm is raised: RabbitMQ takes no messages\n");
        note(l, HG_LIVE_AWAY);
    }
}

static bool is_refusal(enum hg_status status)
{
    return status == HG_BAD_LOGIN || status == HG_NOT_ALLOWED || status == HG_REFUSED;
}

/* `questions` is 0 for endpoints of a cluster that was asked already. Whether it was reached; false
 * in *has_memory_out when there is no memory. */
static bool check_endpoint(struct live *l, const struct hg_endpoint *e, size_t questions,
                           bool *has_memory_out)
{
    const struct hg_config *c = l->config;
    struct hg_probe_server server;
    const struct hg_link_config link = {.endpoints = e,
                                        .endpoints_n = 1,
                                        .tls = c->rabbitmq_tls,
                                        .secret = c->rabbitmq_secret,
                                        .heartbeat_ms = c->heartbeat_ms,
                                        .connect_timeout_ms = c->connect_timeout_ms,
                                        .max_body_bytes = c->max_message_bytes};
    *has_memory_out = hg_probe_run(&link, l->probes, questions, &server);
    if (!*has_memory_out) {
        return false;
    }
    hg_writer_printf(l->out, "rabbitmq %s:%u, virtual host %s, as %s: ", e->host, e->port, e->vhost,
                     e->is_external ? "EXTERNAL" : e->user);
    if (!server.is_connected) {
        hg_writer_printf(l->out, "PROBLEM %s\n", server.text);
        note(l, is_refusal(server.status) ? HG_LIVE_REFUSED : HG_LIVE_AWAY);
        return false;
    }
    say_connected(l, e, &server);
    if (questions > 0) {
        say_answers(l);
        say_unchecked(l);
    }
    if (server.text[0] != '\0') {
        hg_writer_printf(l->out, "  PROBLEM the connection broke: %s\n", server.text);
        note(l, HG_LIVE_AWAY);
    }
    return true;
}

/* ---- Least privilege ---- */

/* Inside a shell's single quotes. */
static void quote(struct hg_writer *out, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\'') {
            hg_writer_str(out, "'\\''");
        } else {
            hg_writer_u8(out, text.p[i]);
        }
    }
}

static void write_regexes(struct live *l, const struct hg_need_topic *topic, enum hg_need_verb from)
{
    for (enum hg_need_verb v = from; v < HG_NEED_N; v++) {
        struct hg_writer regex = {0};
        if (topic == NULL) {
            hg_needs_write_regex(&l->needs, v, &regex);
        } else {
            hg_need_topic_write_regex(topic, v, &regex);
        }
        hg_writer_str(l->out, " '");
        quote(l->out, hg_writer_view(&regex));
        hg_writer_str(l->out, "'");
        l->out->failed = l->out->failed || regex.failed;
        hg_writer_close(&regex);
    }
    hg_writer_u8(l->out, '\n');
}

static void write_command(struct live *l, const char *command, const struct hg_endpoint *e,
                          const char *exchange)
{
    hg_writer_printf(l->out, "rabbitmqctl %s -p '", command);
    quote(l->out, hg_bytes_str(e->vhost));
    hg_writer_str(l->out, "' '");
    quote(l->out, hg_bytes_str(e->user));
    if (exchange != NULL) {
        hg_writer_str(l->out, "' '");
        quote(l->out, hg_bytes_str(exchange));
    }
    hg_writer_u8(l->out, '\'');
}

static void write_least_privilege(struct live *l)
{
    const struct hg_endpoint *e = &l->config->endpoints[0];
    hg_writer_str(l->out, "least privilege, to paste (add_user asks for the password):\n"
                          "rabbitmqctl add_user '");
    quote(l->out, hg_bytes_str(e->user));
    hg_writer_str(l->out, "'\n");
    write_command(l, "set_permissions", e, NULL);
    write_regexes(l, NULL, HG_NEED_CONFIGURE);
    for (size_t i = 0; i < l->needs.topics_n; i++) {
        const struct hg_need_topic *t = &l->needs.topics[i];
        if (!t->is_any[HG_NEED_WRITE] || !t->is_any[HG_NEED_READ]) {
            write_command(l, "set_topic_permissions", e, t->exchange);
            write_regexes(l, t, HG_NEED_WRITE);
        }
    }
    if (l->needs.names_queues) {
        hg_writer_printf(
            l->out,
            "nobody can log in, so clients may name any %s of RabbitMQ (%s): add those "
            "that they are to reach\n",
            l->needs.names_exchanges ? "exchange and queue" : "queue",
            l->needs.names_exchanges ? "STOMP destinations, /v1/queues, /api" : "/v1/queues");
    }
}

enum hg_live hg_check_live_command(const struct hg_config *c, struct hg_writer *out)
{
    struct live l;
    bool has_memory = open_live(&l, c, out);
    bool is_asked = false;
    for (size_t i = 0; has_memory && i < c->endpoints_n; i++) {
        is_asked |= check_endpoint(&l, &c->endpoints[i], is_asked ? 0 : l.n, &has_memory);
    }
    if (has_memory) {
        write_least_privilege(&l);
    } else {
        hg_writer_str(out, "out of memory\n");
        l.worst = HG_LIVE_AWAY;
    }
    close_live(&l);
    return l.worst;
}
