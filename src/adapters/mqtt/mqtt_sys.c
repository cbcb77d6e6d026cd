/* SPDX-License-Identifier: Apache-2.0 */
/* `$SYS/#`: values of this process under the names that mosquitto gives them. Each worker keeps the
 * subscriptions of its clients in an index of its own, made for the first of them, and sends all
 * values at every interval while there are any. Nothing of this is seen by RabbitMQ. */
#include "adapters/mqtt/mqtt_deliver.h"
#include "adapters/mqtt/mqtt_session_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/service.h"
#include "message/topic.h"

#include <stddef.h>

#define SYS_PREFIX HG_BYTES("$SYS/")

struct sys { /* of one worker */
    struct hg_service base;
    struct hg_worker *worker;
    struct hg_trie *subs; /* each matches one of the values */
    struct hg_timer timer;
};

/* ---- The values ---- */

struct value {
    const char *topic;
    void (*write)(const struct hg_gateway *g, size_t at, struct hg_writer *out);
    size_t at; /* of what `write` reads */
};

static void write_version(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    (void)g;
    (void)at;
    hg_writer_str(out, "headgate version " HG_VERSION);
}

static void write_uptime(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    (void)at;
    hg_writer_dec(out, (hg_clock_ms() - g->started_ms) / 1000);
    hg_writer_str(out, " seconds");
}

/* A counter of every worker, added up. */
static uint64_t sum(const struct hg_gateway *g, size_t at)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < g->workers_n; i++) {
        n += hg_counted((const hg_counter *)(const void *)((const char *)g->workers[i] + at));
    }
    return n;
}

static void write_sum(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    hg_writer_dec(out, sum(g, at));
}

/* A number of the state logs' indexes, which know all gateways. */
static uint64_t state_sum(const struct hg_gateway *g, size_t at)
{
    struct hg_state_stats stats;
    uint64_t sum = 0, n;
    for (unsigned i = 0; i < g->vhosts_n; i++) {
        hg_state_stats(&g->vhosts[i], &stats);
        memcpy(&n, (const char *)&stats.index + at, sizeof(n));
        sum += n;
    }
    return sum;
}

static void write_state(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    hg_writer_dec(out, state_sum(g, at));
}

#define PROTO(field) offsetof(struct hg_worker, metrics.proto[HG_PROTO_MQTT].field)
#define NET(field)   offsetof(struct hg_worker, net.counters.field)
#define STATE(field) offsetof(struct hg_state_index_stats, field)

/* Sessions that wait for their client, and those whose client is here. */
static uint64_t away_n(const struct hg_gateway *g)
{
    return state_sum(g, STATE(sessions_n)) - state_sum(g, STATE(sessions_connected_n));
}

static void write_away(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    (void)at;
    hg_writer_dec(out, away_n(g));
}

static void write_clients(const struct hg_gateway *g, size_t at, struct hg_writer *out)
{
    hg_writer_dec(out, sum(g, at) + away_n(g));
}

/* clang-format off */
static const struct value values[] = {
    {"$SYS/broker/version",                   write_version, 0},
    {"$SYS/broker/uptime",                    write_uptime,  0},
    {"$SYS/broker/clients/connected",         write_sum,     PROTO(connections)},
    {"$SYS/broker/clients/disconnected",      write_away,    0},
    {"$SYS/broker/clients/total",             write_clients, PROTO(connections)},
    {"$SYS/broker/messages/received",         write_sum,     PROTO(messages_in)},
    {"$SYS/broker/messages/sent",             write_sum,     PROTO(messages_out)},
    {"$SYS/broker/publish/messages/received", write_sum,     PROTO(messages_in)},
    {"$SYS/broker/publish/messages/sent",     write_sum,     PROTO(messages_out)},
    {"$SYS/broker/publish/messages/dropped",  write_sum,     PROTO(dropped)},
    {"$SYS/broker/publish/bytes/received",    write_sum,     PROTO(bytes_in)},
    {"$SYS/broker/publish/bytes/sent",        write_sum,     PROTO(bytes_out)},
    {"$SYS/broker/bytes/received",            write_sum,     NET(bytes_in)},
    {"$SYS/broker/bytes/sent",                write_sum,     NET(bytes_out)},
    {"$SYS/broker/subscriptions/count",       write_sum,     PROTO(subscriptions)},
    {"$SYS/broker/retained messages/count",   write_state,   STATE(retained_n)},
};
/* clang-format on */
enum { VALUES_N = sizeof(values) / sizeof(values[0]) };

static struct hg_message *make_message(const struct hg_worker *w, const struct value *v)
{
    struct hg_writer body = {0};
    struct hg_message *m = NULL;
    v->write(w->gateway, v->at, &body);
    if (!body.failed) {
        const struct hg_message_parts parts = {.properties = {.delivery_mode = 1},
                                               .body = hg_writer_view(&body)};
        m = hg_message_new(&parts);
    }
    hg_writer_close(&body);
    return m;
}

/* ---- To subscribers ---- */

static bool may_see(struct hg_session *s)
{
    struct hg_rule_who room;
    const struct hg_rule_who *who = hg_session_who(s, &room);
    return who == NULL || (who->roles & s->worker->config->mqtt_sys_roles) != 0;
}

static void deliver(void *delivery, struct hg_fanout_entry *entry)
{
    struct hg_sub *sub = HG_CONTAINER_OF(entry, struct hg_sub, entry);
    sub->next_match = NULL;
    if (!hg_conn_is_closing(sub->session->conn) && may_see(sub->session)) { /* a newer token */
        hg_mqtt_deliver(sub->session, delivery, sub);
    }
}

/* Hands one value to everybody who wants it, or to `only`. Without memory it is left out: there
 * will be a next one. */
static void send_value(struct sys *sys, const struct value *v, struct hg_sub *only)
{
    struct hg_message *m = make_message(sys->worker, v);
    if (m == NULL) {
        return;
    }
    struct hg_delivery d = {
        .message = m, .address = hg_bytes_str(v->topic), .is_retained = only != NULL};
    if (only != NULL) {
        deliver(&d, &only->entry);
    } else {
        hg_trie_match(sys->subs, d.address, deliver, &d);
    }
    hg_delivery_end(&d);
    hg_message_unref(m);
}

static void on_timer(struct hg_timer *timer)
{
    struct sys *sys = HG_CONTAINER_OF(timer, struct sys, timer);
    if (hg_trie_n(sys->subs) == 0) {
        return; /* the next subscription sets it again */
    }
    for (size_t i = 0; i < VALUES_N; i++) {
        send_value(sys, &values[i], NULL);
    }
    hg_worker_timer(sys->worker, timer, sys->worker->config->mqtt_sys_interval_ms);
}

/* ---- As a service of the worker ---- */

static struct sys *sys_of(struct hg_service *service)
{
    return HG_CONTAINER_OF(service, struct sys, base);
}

static void on_drain(struct hg_service *service)
{
    hg_timer_stop(&sys_of(service)->timer);
}

static bool is_idle(const struct hg_service *service)
{
    (void)service;
    return true;
}

static void take_one(void *ctx, struct hg_fanout_entry *entry)
{
    struct hg_fanout_entry **taken = ctx;
    *taken = entry;
}

/* Clients may outlive it: their subscriptions leave the index first. */
static void on_close(struct hg_service *service)
{
    struct sys *sys = sys_of(service);
    for (size_t i = 0; i < VALUES_N; i++) {
        for (;;) {
            struct hg_fanout_entry *entry = NULL;
            hg_trie_match(sys->subs, hg_bytes_str(values[i].topic), take_one, &entry);
            if (entry == NULL) {
                break;
            }
            hg_trie_remove(sys->subs, entry);
        }
    }
    hg_trie_free(sys->subs);
    hg_timer_stop(&sys->timer);
    hg_list_remove(&service->link);
    hg_free(sys);
}

static const struct hg_service_ops service_ops = {
    .drain = on_drain, .is_idle = is_idle, .close = on_close};

/* The worker's; NULL if it has none yet. */
static struct sys *find(struct hg_worker *w)
{
    HG_LIST_FOREACH (it, &w->services) {
        struct hg_service *service = HG_LIST_ENTRY(it, struct hg_service, link);
        if (service->ops == &service_ops) {
            return sys_of(service);
        }
    }
    return NULL;
}

static struct sys *find_or_make(struct hg_worker *w)
{
    struct sys *sys = find(w);
    if (sys != NULL) {
        return sys;
    }
    sys = hg_zalloc(sizeof(*sys));
    if (sys == NULL || (sys->subs = hg_trie_new(HG_TRIE_ADDRESS)) == NULL) {
        hg_free(sys);
        return NULL;
    }
    sys->base.ops = &service_ops;
    sys->worker = w;
    hg_timer_init(&sys->timer, on_timer);
    hg_list_add_last(&w->services, &sys->base.link);
    return sys;
}

/* ---- What sessions call ---- */

bool hg_mqtt_sys_is_filter(struct hg_bytes filter)
{
    return hg_bytes_eq(filter, HG_BYTES("$SYS")) || hg_bytes_starts(filter, SYS_PREFIX);
}

bool hg_mqtt_sys_is_topic(struct hg_bytes topic)
{
    return hg_mqtt_sys_is_filter(topic);
}

static struct hg_bytes filter_of(const struct hg_mqtt_sub *sub)
{
    return hg_bytes(sub->filter, sub->filter_n);
}

enum hg_status hg_mqtt_sys_subscribe(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                                     const char **why_out)
{
    struct hg_worker *w = s->base.worker;
    struct hg_trie *index = NULL;
    if (!may_see(&s->base)) {
        return hg_access_deny(&s->base, "subscribe", filter_of(sub), "[mqtt] sys_roles");
    }
    for (size_t i = 0; i < VALUES_N && w->config->mqtt_sys_interval_ms > 0; i++) {
        if (hg_topic_matches(filter_of(sub), hg_bytes_str(values[i].topic))) {
            struct sys *sys = find_or_make(w);
            if (sys == NULL) {
                return HG_NO_MEMORY;
            }
            if (sys->timer.due_ms == 0) {
                hg_worker_timer(w, &sys->timer, w->config->mqtt_sys_interval_ms);
            }
            index = sys->subs;
            break;
        }
    }
    return hg_subscribe_index(&s->base, &sub->base, index, filter_of(sub), why_out);
}

void hg_mqtt_sys_serve(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub)
{
    struct sys *sys = find(s->base.worker);
    for (size_t i = 0; i < VALUES_N && sub->base.entry.node != NULL; i++) {
        if (hg_topic_matches(filter_of(sub), hg_bytes_str(values[i].topic))) {
            send_value(sys, &values[i], &sub->base);
        }
    }
}
