/* SPDX-License-Identifier: Apache-2.0 */
/* The first worker reads the log into the index and sends barriers round; every worker's port
 * collects who waits for one. */
#include "core/state.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/janitor.h"
#include "core/routing_priv.h"
#include "core/state_priv.h"

enum {
    OVERDUE_EVERY_MS = 256,
    WATCH_EVERY_MS = 1000,
    CROWD_N = 16, /* waits that one barrier has served: they come faster than barriers do */
    CROWD_SPACE_US = 4000, /* then, from one to the next */
    AWAY_N = 5, /* looks of `watch` until nobody waits any more for a log that is not there */
    SWEEP_EVERY_MS = 10000,
    STUCK_MS = 15000,  /* without a record although a barrier was confirmed */
    REQUESTS_SHARE = 8 /* of the log, which records of requests may fill */
};

#define VHOST(state) HG_F_STR("vhost", (state)->vhost->spec->name)

/* ---- What anybody may ask ---- */

bool hg_state_is_enabled(const struct hg_vhost *vhost)
{
    return vhost->state != NULL && !atomic_load(&vhost->state->is_refused);
}

bool hg_state_is_ready(const struct hg_vhost *vhost)
{
    return vhost->state != NULL && atomic_load(&vhost->state->is_ready);
}

bool hg_state_is_settled(const struct hg_vhost *vhost)
{
    return vhost->state == NULL || atomic_load(&vhost->state->is_settled);
}

struct hg_state_index *hg_state_index_of(const struct hg_vhost *vhost)
{
    return hg_state_is_enabled(vhost) ? atomic_load(&vhost->state->index) : NULL;
}

bool hg_state_is_bound(const struct hg_vhost *vhost, struct hg_bytes exchange)
{
    const struct hg_state *s = vhost->state;
    for (size_t i = 0; s != NULL && i < s->exchanges_n; i++) {
        if (hg_bytes_eq(exchange, hg_bytes_str(s->exchanges[i]))) {
            return atomic_load(&s->is_bound[i]);
        }
    }
    return exchange.n == 0;
}

void hg_state_stats(const struct hg_vhost *vhost, struct hg_state_stats *out)
{
    struct hg_state_index *index = hg_state_index_of(vhost);
    *out = (struct hg_state_stats){.is_enabled = index != NULL};
    if (index != NULL) {
        hg_state_index_stats(index, &out->index);
        out->replay_ms = atomic_load(&vhost->state->replay_ms);
        out->is_ready = atomic_load(&vhost->state->is_ready);
        out->is_leader = atomic_load(&vhost->state->is_leader);
    }
}

/* ---- Barriers, on the first worker ---- */

enum hg_status hg_state_publish(struct hg_realm *realm, struct hg_message *message_own,
                                struct hg_publish_order order)
{
    order.message_own = &message_own;
    return hg_publisher_publish(&realm->routing->publisher, &order);
}

static void on_barrier_settled(void *owner, uint64_t number, enum hg_status outcome,
                               struct hg_bytes reason)
{
    struct hg_state *s = owner;
    (void)reason;
    if (number == atomic_load(&s->sent) && s->in_flight) {
        s->is_confirmed = outcome == HG_OK;
        s->in_flight = s->is_confirmed; /* else `watch` sends another */
    }
}

static void pump(struct hg_state *s);

static void on_pause_over(uv_timer_t *pause)
{
    pump(HG_CONTAINER_OF(pause, struct hg_state, pause));
}

/* Where many wait, a barrier serves more of them if it is sent a little later, and it costs RabbitMQ
 * more than ten subscriptions cost us. */
static bool is_too_soon(struct hg_state *s)
{
    uint64_t gone_us = hg_clock_us() - s->sent_us;
    if (s->crowd_n < CROWD_N || gone_us >= CROWD_SPACE_US) {
        return false;
    }
    if (!uv_is_active((uv_handle_t *)&s->pause)) {
        uv_timer_start(&s->pause, on_pause_over, (CROWD_SPACE_US - gone_us + 999) / 1000, 0);
    }
    return true;
}

/* Sends the next barrier if somebody waits for one and none is under way. */
static void pump(struct hg_state *s)
{
    if (s->in_flight || atomic_load(&s->wanted) <= atomic_load(&s->done) || is_too_soon(s)) {
        return;
    }
    s->sent_us = hg_clock_us();
    s->crowd_n = atomic_exchange(&s->asking_n, 0);
    /* Counted before it is sent: whoever sees the old number gets a barrier sent after that. */
    uint64_t number = atomic_load(&s->sent) + 1;
    atomic_store(&s->sent, number);
    struct hg_message *message = hg_state_index_barrier(atomic_load(&s->index), number);
    const struct hg_publish_order order = {
        .owner = s, .owners = &s->barriers, .id = number, .on_settled = on_barrier_settled};
    s->is_confirmed = false;
    s->in_flight = message != NULL && hg_state_publish(s->realm, message, order) == HG_OK;
    hg_count(&s->home->metrics.state.state_barriers, s->in_flight);
}

static void want(struct hg_state *s, uint64_t number)
{
    uint64_t wanted = atomic_load(&s->wanted);
    while (wanted < number && !atomic_compare_exchange_weak(&s->wanted, &wanted, number)) {
    }
}

static void end_waits(struct hg_state_port *port);

static void tell_ports(struct hg_state *s)
{
    const struct hg_gateway *g = s->gateway;
    uint64_t done = atomic_load(&s->done);
    for (unsigned i = 0; i < g->workers_n; i++) {
        struct hg_state_port *port = &s->ports[i];
        if (atomic_load(&port->asked) <= port->told || port->told == done) {
            continue;
        }
        port->told = done;
        if (g->workers[i] == s->home) {
            end_waits(port);
        } else {
            hg_mailbox_send(g->workers[i]->mailbox, &port->done_mail);
        }
    }
}

static void become_ready(struct hg_state *s);

static void on_barrier(struct hg_state *s, uint64_t number)
{
    if (number > atomic_load(&s->done)) {
        atomic_store(&s->done, number);
    }
    if (number == atomic_load(&s->sent)) {
        s->in_flight = false;
    }
    if (s->is_up && s->ready_number != 0 && number >= s->ready_number) {
        become_ready(s);
    }
    tell_ports(s);
    pump(s);
}

/* ---- Waits, on any worker ---- */

static void end_waits(struct hg_state_port *port)
{
    uint64_t done = atomic_load(&port->state->done);
    while (!hg_list_is_empty(&port->waits)) {
        struct hg_state_wait *wait = HG_LIST_ENTRY(port->waits.next, struct hg_state_wait, link);
        if (wait->number > done) {
            return;
        }
        hg_list_remove(&wait->link);
        wait->done(wait, HG_OK);
    }
}

/* How long a wait may last now. */
static uint64_t patience_of(const struct hg_state_wait *wait)
{
    const struct hg_realm *realm = wait->realm;
    if (!hg_state_is_enabled(realm->vhost) || atomic_load(&realm->vhost->state->is_away)) {
        return 0;
    }
    return wait->patience_ms > 0 && !hg_publisher_is_available(&realm->routing->publisher)
               ? wait->patience_ms
               : realm->worker->config->unavailable_timeout_ms;
}

static void fire_overdue(struct hg_timer *timer)
{
    struct hg_state_port *port = HG_CONTAINER_OF(timer, struct hg_state_port, overdue);
    uint64_t now = hg_clock_ms();
    struct hg_list overdue; /* first all of them: who is told may cancel others */
    hg_list_init(&overdue);
    HG_LIST_FOREACH_SAFE (it, &port->waits) {
        const struct hg_state_wait *wait = HG_LIST_ENTRY(it, struct hg_state_wait, link);
        if (now - wait->since_ms >= patience_of(wait)) {
            hg_list_remove(it);
            hg_list_add_last(&overdue, it);
        }
    }
    while (!hg_list_is_empty(&overdue)) {
        struct hg_state_wait *wait = HG_LIST_ENTRY(overdue.next, struct hg_state_wait, link);
        hg_list_remove(&wait->link);
        wait->done(wait, HG_BROKER_AWAY);
    }
    if (!hg_list_is_empty(&port->waits)) {
        hg_worker_timer(port->realm->worker, timer, OVERDUE_EVERY_MS);
    }
}

static void run_ask(struct hg_defer *defer)
{
    struct hg_state_port *port = HG_CONTAINER_OF(defer, struct hg_state_port, ask);
    struct hg_state *s = port->state;
    want(s, atomic_load(&port->asked));
    if (port->realm == s->realm) {
        pump(s);
        tell_ports(s); /* the barrier may have come back before it was asked for */
    } else {
        hg_mailbox_send(s->gateway->workers[0]->mailbox, &port->ask_mail);
    }
}

void hg_state_on_mail(struct hg_mail *mail)
{
    bool is_ask = mail->kind == HG_MAIL_STATE_ASK;
    struct hg_state_port *port = is_ask ? HG_CONTAINER_OF(mail, struct hg_state_port, ask_mail)
                                        : HG_CONTAINER_OF(mail, struct hg_state_port, done_mail);
    struct hg_state *s = port->state;
    if (is_ask && s->ports[0].is_open) {
        pump(s);
        tell_ports(s);
    } else if (!is_ask && port->is_open) {
        end_waits(port);
    }
}

void hg_state_barrier(struct hg_realm *realm, struct hg_state_wait *wait)
{
    realm = hg_realm_home(realm);
    struct hg_state_port *port = realm->state_port;
    struct hg_worker *w = realm->worker;
    hg_list_init(&wait->link);
    wait->realm = realm;
    wait->since_ms = hg_clock_ms();
    wait->number = atomic_load(&port->state->sent) + 1;
    hg_list_add_last(&port->waits, &wait->link);
    atomic_fetch_add(&port->state->asking_n, 1);
    atomic_store(&port->asked, wait->number);
    hg_net_defer(&w->net, &port->ask);
    if (port->overdue.due_ms == 0) {
        hg_worker_timer(w, &port->overdue, OVERDUE_EVERY_MS);
    }
}

static void on_written(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_state_wait *wait = owner;
    (void)id;
    (void)reason;
    hg_list_remove(&wait->link);
    if (outcome == HG_OK) {
        hg_state_barrier(wait->realm, wait);
    } else {
        wait->done(wait, outcome);
    }
}

/* message_own NULL: no memory. */
static enum hg_status write_message(struct hg_realm *realm, struct hg_message *message_own,
                                    struct hg_state_wait *wait)
{
    struct hg_worker *w = realm->worker;
    struct hg_state_port *port = realm->state_port;
    if (message_own == NULL) {
        return HG_NO_MEMORY;
    }
    if (hg_message_cost_bytes(message_own) > w->config->buffer_bytes) {
        hg_message_unref(message_own);
        return HG_TOO_LARGE;
    }
    struct hg_publish_order order = {0};
    if (wait != NULL) {
        wait->realm = realm;
        hg_list_init(&wait->link);
        order = (struct hg_publish_order){
            .owner = wait, .owners = &wait->publishes, .on_settled = on_written};
    }
    enum hg_status status = hg_state_publish(realm, message_own, order);
    if (status == HG_OK && wait != NULL) {
        hg_list_add_last(&port->writes, &wait->link);
    }
    return status;
}

enum hg_status hg_state_write(struct hg_realm *realm, enum hg_session_act act,
                              const struct hg_session_record *record, struct hg_state_wait *wait)
{
    struct hg_state_index *index = hg_state_index_of(realm->vhost);
    realm = hg_realm_home(realm);
    if (realm->state_port == NULL || index == NULL) {
        return HG_BROKER_AWAY;
    }
    enum hg_status status = write_message(realm, hg_state_index_session(index, act, record), wait);
    hg_count(&realm->worker->metrics.state.state_writes, status == HG_OK);
    return status;
}

enum hg_status hg_state_write_request(struct hg_realm *realm,
                                      const struct hg_request_record *record,
                                      struct hg_state_wait *wait)
{
    struct hg_state_index *index = hg_state_index_of(realm->vhost);
    realm = hg_realm_home(realm);
    if (realm->state_port == NULL || index == NULL) {
        return HG_BROKER_AWAY;
    }
    struct hg_message *message = hg_state_index_request(index, record);
    if (message != NULL &&
        !hg_publisher_admits(&realm->routing->publisher, hg_message_cost_bytes(message))) {
        hg_message_unref(message);
        return HG_BUSY;
    }
    enum hg_status status = write_message(realm, message, wait);
    hg_count(&realm->worker->metrics.state.state_request_writes, status == HG_OK);
    return status;
}

void hg_state_cancel(struct hg_state_wait *wait)
{
    if (wait->link.next != NULL) {
        hg_list_remove(&wait->link);
        hg_publisher_forget(&wait->publishes);
    }
}

/* ---- Reading, on the first worker ---- */

/* This process was taken for dead while it could not be seen: sessions that others think without a
 * connection have to come again. */
static void evict_if_disconnected(void *ctx, const struct hg_session_record *r)
{
    const struct hg_vhost *vhost = ctx;
    if (r->boot_id == vhost->gateway->boot_id && r->disconnected_ms != 0) {
        hg_directory_evict(vhost->directory, r->client_id, r->epoch); /* nobody's, as a rule */
    }
}

static void settle(struct hg_state *s)
{
    if (!atomic_exchange(&s->is_settled, true)) {
        hg_worker_report(s->home, (enum hg_worker_state)atomic_load(&s->home->state));
    }
}

static void become_ready(struct hg_state *s)
{
    struct hg_state_stats stats;
    s->ready_number = 0;
    atomic_store(&s->replay_ms, hg_clock_ms() - s->started_ms);
    atomic_store(&s->is_ready, true);
    hg_state_stats(s->vhost, &stats);
    HG_LOG(s->home->log, HG_LOG_INFO, "state.ready", VHOST(s), HG_F_UINT("records", s->records_n),
           HG_F_UINT("replay_ms", stats.replay_ms), HG_F_UINT("retained", stats.index.retained_n),
           HG_F_UINT("sessions", stats.index.sessions_n));
    hg_state_index_each_session(atomic_load(&s->index), evict_if_disconnected, s->vhost);
    settle(s);
    hg_janitor_wake(s->janitor);
}

static void on_up(void *ctx)
{
    struct hg_state *s = ctx;
    s->is_up = true;
    s->away_n = 0;
    atomic_store(&s->is_away, false);
    s->reading_ms = hg_clock_ms();
    s->ready_number = atomic_load(&s->sent) + 1;
    want(s, s->ready_number);
    pump(s);
}

static void on_down(void *ctx)
{
    struct hg_state *s = ctx;
    s->is_up = false;
    s->ready_number = 0;
    s->records_n = 0;
    s->started_ms = hg_clock_ms();
    if (atomic_exchange(&s->is_ready, false)) {
        HG_LOG(s->home->log, s->log.link.is_stopping ? HG_LOG_DEBUG : HG_LOG_WARN, "state.lost",
               VHOST(s), HG_F_STR("log", s->gateway->config->state_log));
    }
}

static void on_refused(void *ctx, struct hg_bytes reason)
{
    struct hg_state *s = ctx;
    bool is_required = s->gateway->config->state_required;
    HG_LOG(s->home->log, is_required ? HG_LOG_ERROR : HG_LOG_WARN, "state.unavailable", VHOST(s),
           HG_F_STR("log", s->gateway->config->state_log), HG_F_BYTES("rabbitmq_says", reason),
           HG_F_STR("effect", is_required
                                  ? "state.required is set: the gateway does not start"
                                  : "no retained messages, no session outlives its connection"));
    atomic_store(&s->is_ready, false);
    atomic_store(&s->is_refused, true);
    if (is_required && !atomic_load(&s->is_settled)) {
        hg_worker_report(s->home, HG_WORKER_FAILED);
    } else {
        settle(s);
    }
}

static struct hg_state_index *new_index(const struct hg_vhost *vhost, const struct hg_rules *rules)
{
    const struct hg_config *c = vhost->gateway->config;
    uint64_t request_bytes = c->state_max_bytes / REQUESTS_SHARE;
    const struct hg_state_limits limits = {
        .log_bytes = c->state_max_bytes,
        .retained_n = c->state_max_retained,
        .requests_n = c->http_idempotency_max,
        .request_bytes = request_bytes < c->http_idempotency_buffer_bytes
                             ? request_bytes
                             : c->http_idempotency_buffer_bytes,
        .topic_bytes_max = (size_t)c->max_topic_bytes,
        .topic_levels_max = (size_t)c->max_topic_levels,
    };
    return hg_state_index_new(rules, c->state_log, &limits, vhost->gateway->boot_id);
}

static void on_restart(void *ctx)
{
    struct hg_state *s = ctx;
    struct hg_state_index *fresh = new_index(s->vhost, s->home->realms[s->vhost->index]->rules);
    s->started_ms = hg_clock_ms();
    s->records_n = 0;
    if (fresh == NULL) {
        HG_LOG(s->home->log, HG_LOG_ERROR, "state.restart_failed",
               HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
        return; /* what it knows is better than nothing */
    }
    hg_state_index_free(s->retired);
    s->retired = atomic_exchange(&s->index, fresh);
}

static bool on_record(void *ctx, struct hg_message *message, uint64_t offset)
{
    struct hg_state *s = ctx;
    struct hg_state_index *index = atomic_load(&s->index);
    struct hg_state_change change = {.kind = HG_STATE_NOTHING};
    hg_state_index_apply(index, message, offset, hg_clock_wall_ms(), &change);
    if (change.has_failed) {
        HG_LOG_LIMITED(s->home->log, HG_LOG_ERROR, "state.record_failed", HG_BYTES(""),
                       HG_F_UINT("offset", offset),
                       HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
        return false;
    }
    s->records_n++;
    s->reading_ms = hg_clock_ms();
    hg_count(&s->home->metrics.state.state_records, 1);
    if (change.has_lost) {
        hg_directory_evict(s->vhost->directory, change.client_id, change.lost_epoch);
    }
    if (atomic_load(&s->is_leader)) {
        hg_janitor_on_change(s->janitor, &change);
    }
    if (change.kind == HG_STATE_BARRIER && change.boot_id == s->gateway->boot_id) {
        on_barrier(s, change.number);
    }
    return true;
}

static void on_broadcast(void *ctx, struct hg_message *message)
{
    hg_state_on_broadcast(ctx, hg_message_body(message));
}

static void on_bound(void *ctx, size_t index, const struct hg_amqp_close *why)
{
    struct hg_state *s = ctx;
    bool was_bound = atomic_exchange(&s->is_bound[index], why == NULL);
    if (why != NULL && (was_bound || !atomic_load(&s->is_settled))) {
        HG_LOG(s->home->log, HG_LOG_WARN, "state.bind_refused", VHOST(s),
               HG_F_STR("exchange", s->exchanges[index]), HG_F_UINT("code", why->code),
               HG_F_BYTES("rabbitmq_says", why->text),
               HG_F_STR("effect", "a retained message to it takes two publishes"));
    }
}

static void on_leader(void *ctx, bool is_leader)
{
    struct hg_state *s = ctx;
    atomic_store(&s->is_leader, is_leader);
    HG_LOG(s->home->log, s->log.link.is_stopping ? HG_LOG_DEBUG : HG_LOG_INFO,
           is_leader ? "state.leader" : "state.leader_lost", VHOST(s),
           HG_F_STR("instance", s->gateway->config->name));
    hg_janitor_lead(s->janitor, is_leader);
}

static const struct hg_state_log_ops log_ops = {
    .on_up = on_up,
    .on_down = on_down,
    .on_refused = on_refused,
    .on_restart = on_restart,
    .on_record = on_record,
    .on_broadcast = on_broadcast,
    .on_bound = on_bound,
    .on_leader = on_leader,
};

static void fire_watch(struct hg_timer *timer)
{
    struct hg_state *s = HG_CONTAINER_OF(timer, struct hg_state, watch);
    uint64_t now = hg_clock_ms();
    hg_worker_timer(s->home, timer, WATCH_EVERY_MS);
    if (s->is_up && s->in_flight && s->is_confirmed && now - s->reading_ms >= STUCK_MS) {
        /* As after the stream was deleted and made again: it counts from 0, we wait for more. */
        HG_LOG(s->home->log, HG_LOG_ERROR, "state.stuck", VHOST(s),
               HG_F_UINT("next_offset", s->log.next_offset));
        s->in_flight = false;
        hg_state_log_restart(&s->log);
    }
    bool is_away = !s->is_up && hg_link_conn(&s->log.link) != NULL;
    s->away_n = is_away ? s->away_n + 1 : 0;
    atomic_store(&s->is_away, s->away_n >= AWAY_N);
    if (now - s->swept_ms >= SWEEP_EVERY_MS) {
        s->swept_ms = now;
        hg_state_index_sweep(atomic_load(&s->index), hg_clock_wall_ms());
    }
    pump(s);
}

/* ---- Life ---- */

/* The rules' exchanges that a binding key can be used on, each once. */
static bool find_exchanges(struct hg_state *s)
{
    const struct hg_rules *rules = s->vhost->spec->table;
    size_t n = hg_rules_n(rules);
    s->exchanges = hg_zalloc((n + 1) * sizeof(*s->exchanges));
    s->is_bound = hg_zalloc((n + 1) * sizeof(*s->is_bound));
    if (s->exchanges == NULL || s->is_bound == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = hg_rules_spec(rules, i)->exchange;
        bool is_known = name != NULL;
        enum hg_exchange_type type =
            is_known ? hg_rules_exchange_type(rules, hg_bytes_str(name), &is_known)
                     : HG_EXCHANGE_OTHER;
        bool is_new = is_known && (type == HG_EXCHANGE_TOPIC || type == HG_EXCHANGE_DIRECT);
        for (size_t j = 0; is_new && j < s->exchanges_n; j++) {
            is_new = strcmp(s->exchanges[j], name) != 0;
        }
        if (is_new) {
            s->exchanges[s->exchanges_n++] = name;
        }
    }
    return true;
}

struct hg_state *hg_state_new(struct hg_vhost *vhost)
{
    struct hg_gateway *gateway = vhost->gateway;
    size_t ports_n = gateway->config->workers;
    struct hg_state *s = hg_zalloc(sizeof(*s) + ports_n * sizeof(s->ports[0]));
    if (s == NULL) {
        return NULL;
    }
    s->vhost = vhost;
    s->gateway = gateway;
    atomic_store(&s->index, new_index(vhost, vhost->spec->table));
    if (atomic_load(&s->index) == NULL || !find_exchanges(s)) {
        hg_state_free(s);
        return NULL;
    }
    for (size_t i = 0; i < ports_n; i++) {
        struct hg_state_port *port = &s->ports[i];
        port->state = s;
        port->ask_mail.kind = HG_MAIL_STATE_ASK;
        port->done_mail.kind = HG_MAIL_STATE_DONE;
    }
    return s;
}

void hg_state_free(struct hg_state *s)
{
    if (s == NULL) {
        return;
    }
    hg_state_index_free(s->retired);
    hg_state_index_free(atomic_load(&s->index));
    hg_free(s->exchanges);
    hg_free(s->is_bound);
    hg_free(s);
}

static bool open_home(struct hg_state *s, struct hg_realm *realm)
{
    struct hg_worker *w = realm->worker;
    const struct hg_config *config = w->config;
    s->realm = realm;
    s->home = w;
    hg_timer_init(&s->watch, fire_watch);
    s->janitor = hg_janitor_new(s);
    if (s->janitor == NULL) {
        return false;
    }
    const struct hg_state_log_config log = {
        .link = hg_routing_link(realm->routing),
        .instance = config->name,
        .boot_id = w->gateway->boot_id,
        .name = config->state_log,
        .max_bytes = config->state_max_bytes,
        .exchanges = s->exchanges,
        .exchanges_n = s->exchanges_n,
        .log = w->log,
        .metrics = &w->metrics.upstream,
    };
    s->started_ms = s->swept_ms = hg_clock_ms();
    uv_timer_init(&w->loop, &s->pause);
    hg_state_log_open(&s->log, &w->net, &log, &log_ops, s);
    hg_worker_timer(w, &s->watch, WATCH_EVERY_MS);
    return true;
}

static void run_announce(struct hg_defer *defer)
{
    hg_state_send_announcement(HG_CONTAINER_OF(defer, struct hg_state_port, announce));
}

static void fire_announce(struct hg_timer *timer)
{
    hg_state_send_announcement(HG_CONTAINER_OF(timer, struct hg_state_port, announce_later));
}

bool hg_state_open(struct hg_realm *realm)
{
    const struct hg_worker *w = realm->worker;
    struct hg_state *s = realm->vhost->state;
    if (s == NULL) {
        return true;
    }
    struct hg_state_port *port = &s->ports[w->index];
    port->realm = realm;
    hg_list_init(&port->writes);
    hg_list_init(&port->waits);
    hg_timer_init(&port->overdue, fire_overdue);
    port->ask.run = run_ask;
    port->announce.run = run_announce;
    hg_timer_init(&port->announce_later, fire_announce);
    if (w->index == 0 && !open_home(s, realm)) {
        return false;
    }
    realm->state_port = port;
    port->is_open = true;
    atomic_fetch_add(&s->ports_n, 1);
    return true;
}

static bool is_home(const struct hg_realm *realm)
{
    return realm->state_port != NULL && realm->worker->index == 0;
}

bool hg_state_is_idle(const struct hg_realm *realm)
{
    const struct hg_state_port *port = realm->state_port;
    if (port == NULL) {
        return true;
    }
    /* The others' barriers go through the first worker. */
    bool is_needed = is_home(realm) && atomic_load(&port->state->ports_n) > 1;
    return !is_needed && hg_list_is_empty(&port->writes) && hg_list_is_empty(&port->waits) &&
           !hg_defer_is_set(&port->ask) && hg_writer_n(&port->announcement) == 0;
}

void hg_state_stop(struct hg_realm *realm)
{
    struct hg_state_port *port = realm->state_port;
    if (port == NULL || port->is_stopped) {
        return;
    }
    port->is_stopped = true;
    if (is_home(realm)) {
        hg_janitor_stop(port->state->janitor);
        hg_timer_stop(&port->state->watch);
        hg_state_log_stop(&port->state->log);
    } else {
        atomic_fetch_sub(&port->state->ports_n, 1);
    }
}

bool hg_state_is_stopped(const struct hg_realm *realm)
{
    const struct hg_state_port *port = realm->state_port;
    return port == NULL ||
           (port->is_stopped && (!is_home(realm) || hg_link_is_stopped(&port->state->log.link)));
}

static void forget_all(struct hg_list *waits)
{
    while (!hg_list_is_empty(waits)) {
        hg_state_cancel(HG_LIST_ENTRY(waits->next, struct hg_state_wait, link));
    }
}

void hg_state_close(struct hg_realm *realm)
{
    struct hg_state_port *port = realm->state_port;
    if (port == NULL) {
        return;
    }
    hg_state_stop(realm);
    port->is_open = false;
    realm->state_port = NULL;
    forget_all(&port->writes);
    forget_all(&port->waits);
    hg_timer_stop(&port->overdue);
    hg_net_undefer(&port->ask);
    hg_net_undefer(&port->announce);
    hg_timer_stop(&port->announce_later);
    hg_writer_close(&port->announcement);
    if (realm->worker->index == 0) {
        struct hg_state *s = port->state;
        hg_janitor_free(s->janitor);
        hg_state_log_close(&s->log);
        uv_close((uv_handle_t *)&s->pause, NULL);
        hg_publisher_forget(&s->barriers);
    }
}

void hg_state_take_rules(struct hg_realm *realm, bool have_changed)
{
    struct hg_state *s = realm->vhost->state;
    if (s == NULL || s->realm != realm) {
        return;
    }
    hg_state_index_set_rules(atomic_load(&s->index), realm->rules);
    if (have_changed && hg_state_index_readdress(atomic_load(&s->index)) > 0) {
        HG_LOG(realm->worker->log, HG_LOG_ERROR, "state.not_readdressed",
               HG_F_STR("reason", hg_status_text(HG_NO_MEMORY)));
    }
}
