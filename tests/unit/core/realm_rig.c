/* SPDX-License-Identifier: Apache-2.0 */
#include "realm_rig.h"

#include "core/login.h"
#include "core/slow.h"

/* ---- What the routing calls of the rest of the core ---- */

void hg_session_logout(struct hg_session *s)
{
    (void)s;
}

void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms)
{
    hg_wheel_set(w->net.wheel, t, hg_clock_ms() + delay_ms);
}

void hg_worker_report(struct hg_worker *w, enum hg_worker_state state)
{
    atomic_store(&w->state, state);
}

void hg_slow_forget(struct hg_sub *sub)
{
    (void)sub;
}

bool hg_conn_is_closing(const struct hg_conn *c)
{
    assert_null(c);
    return false;
}

struct hg_allowance **hg_conn_allowance(struct hg_conn *c)
{
    static struct hg_allowance *none;
    (void)c;
    return &none;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    (void)c;
    return "peer";
}

bool hg_conn_is_full(const struct hg_conn *c, size_t n)
{
    (void)n;
    assert_null(c);
    return false;
}

void hg_conn_hold(struct hg_conn *c, enum hg_hold bit)
{
    (void)bit;
    assert_non_null(c);
}

void hg_conn_release(struct hg_conn *c, enum hg_hold bit)
{
    (void)bit;
    assert_non_null(c);
}

/* ---- The realm ---- */

static const struct hg_endpoint endpoint = {
    .host = "broker", .port = 5672, .user = "guest", .password = "guest", .vhost = "/"};

static struct hg_rules *compile(const struct hg_rule_spec *rules, size_t rules_n)
{
    struct hg_writer errors = {0};
    struct hg_rules *table = hg_rules_new(rules, rules_n, NULL, 0, &errors);
    if (table == NULL) {
        print_error("%.*s", HG_BYTES_FMT(hg_writer_view(&errors)));
    }
    assert_non_null(table);
    hg_writer_close(&errors);
    return table;
}

void rig_open(struct rig *rig, const struct hg_rule_spec *rules, size_t rules_n)
{
    struct hg_worker *w = &rig->worker;
    rig->rules = compile(rules, rules_n);
    rig->config = (struct hg_config){.name = "gw",
                                     .workers = 1,
                                     .heartbeat_ms = 30000,
                                     .connect_timeout_ms = 5000,
                                     .unavailable_timeout_ms = 5000,
                                     .publish_timeout_ms = 5000,
                                     .buffer_bytes = 1 << 20,
                                     .confirm_window = 10,
                                     .max_message_bytes = 1 << 20,
                                     .max_topic_bytes = 1000,
                                     .max_topic_levels = 20,
                                     .max_subscriptions = 10,
                                     .widen_after = 10,
                                     .prefetch = 100};
    rig->gateway.config = &rig->config;
    rig->spec = (struct hg_vhost_spec){
        .name = "/", .endpoints = &endpoint, .endpoints_n = 1, .table = rig->rules};
    rig->vhost = (struct hg_vhost){.gateway = &rig->gateway, .spec = &rig->spec};
    rig->realm = (struct hg_realm){
        .worker = w, .vhost = &rig->vhost, .spec = &rig->spec, .rules = rig->rules};
    rig->realms[0] = &rig->realm;
    w->gateway = &rig->gateway;
    w->config = &rig->config;
    w->realms = rig->realms;
    w->realms_n = 1;
    seam_net_open(&rig->sn);
    seam_net_adopt(&rig->sn, &w->net);
    w->net.wheel = &rig->sn.wheel;
}

void rig_start(struct rig *rig, void (*prepare)(struct broker *b))
{
    rig->sn.prepare = prepare;
    assert_true(hg_routing_open(&rig->realm));
}

void rig_close(struct rig *rig)
{
    hg_routing_close(&rig->realm);
    seam_net_close(&rig->sn);
    hg_rules_free(rig->rules);
}
