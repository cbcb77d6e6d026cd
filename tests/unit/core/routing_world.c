/* SPDX-License-Identifier: Apache-2.0 */
/* A worker without connections, for tests of what stands on the routing. */
#include "routing_world.h"

#include "core/login.h"
#include "core/slow.h"

/* ---- What is called of the rest of the core ---- */

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
    (void)sub; /* nobody is slow */
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

/* ---- The world ---- */

static const struct hg_endpoint endpoint = {
    .host = "broker", .port = 5672, .user = "guest", .password = "guest", .vhost = "/"};

void confirm_all(struct broker *b)
{
    b->has_auto_confirm = true;
    b->missing[0] = "nowhere";
}

void routing_world_init(struct routing_world *rw, const struct hg_rule_spec *rules, size_t rules_n)
{
    struct hg_writer errors = {0};
    *rw = (struct routing_world){.config = {.name = "gw",
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
                                            .prefetch = 100}};
    rw->rules = hg_rules_new(rules, rules_n, NULL, 0, &errors);
    if (rw->rules == NULL) {
        print_error("%.*s", HG_BYTES_FMT(hg_writer_view(&errors)));
    }
    assert_non_null(rw->rules);
    hg_writer_close(&errors);
}

void routing_world_open(struct routing_world *rw, void (*prepare)(struct broker *b))
{
    struct hg_worker *w = &rw->worker;
    seam_net_open(&rw->sn);
    rw->sn.prepare = prepare;
    w->gateway = &rw->gateway;
    w->config = rw->gateway.config = &rw->config;
    rw->spec = (struct hg_vhost_spec){
        .name = "/", .endpoints = &endpoint, .endpoints_n = 1, .table = rw->rules};
    rw->vhost = (struct hg_vhost){.gateway = &rw->gateway, .spec = &rw->spec};
    rw->realm =
        (struct hg_realm){.worker = w, .vhost = &rw->vhost, .spec = &rw->spec, .rules = rw->rules};
    rw->realms[0] = &rw->realm;
    w->realms = rw->realms;
    w->realms_n = 1;
    hg_list_init(&w->services);
    seam_net_adopt(&rw->sn, &w->net);
    w->net.wheel = &rw->sn.wheel;
    assert_true(hg_routing_open(&rw->realm));
}

void routing_world_close(struct routing_world *rw)
{
    hg_routing_close(&rw->realm);
    seam_net_close(&rw->sn);
    hg_rules_free(rw->rules);
}
