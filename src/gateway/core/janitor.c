/* SPDX-License-Identifier: Apache-2.0 */
/* Everything here may be done twice (by the leader before, or a write of whose outcome nothing was
 * heard): a record is only ever written in its owner's name, so that it has no effect once somebody
 * else has the session; a will is published before it is taken out of the record. */
#include "core/janitor.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/routing_priv.h"
#include "core/state_priv.h"

enum {
    TICK_MS = 2000, /* or a quarter of dead_after, if that is less */
    JOBS_MAX = 64,
    COPIES_MAX = 32,
    PEERS_MAX = 256 /* other instances that own a connected session */
};

enum job_kind {
    JOB_DISCONNECT, /* its instance died */
    JOB_WILL,       /* its will is due */
    JOB_END         /* its time is over */
};

/* One session's turn. */
struct job {
    struct hg_list link;
    struct hg_janitor *janitor;
    struct hg_session_record *record; /* its own copy */
    enum job_kind kind;
    struct hg_state_wait wait;
    struct hg_state_errand errand;
};

/* Another process that owns a connected session. */
struct peer {
    struct hg_list link;
    struct hg_janitor *janitor;
    struct hg_state_errand errand;
    uint64_t boot_id;
    uint64_t absent_since_ms; /* 0: it was there */
    size_t sessions_n;        /* connected, in this tick */
    bool is_asking, is_dead;
    char name[64];
};

struct hg_janitor {
    struct hg_state *state;
    struct hg_realm *realm;
    struct hg_worker *worker;  /* the realm's */
    struct hg_session session; /* publishes the wills */
    struct hg_map by_client;   /* client identifier -> struct job */
    struct hg_list jobs, peers;
    size_t peers_n;
    struct hg_chain copies; /* publishes under way */
    size_t copies_n;
    struct hg_timer timer;
    struct hg_defer copy;
    bool is_leading, is_stopped;
    bool has_more; /* jobs were left for want of room */
};

static struct hg_state_index *index_of(const struct hg_janitor *j)
{
    return atomic_load(&j->state->index);
}

static bool may_work(const struct hg_janitor *j)
{
    const struct hg_gateway *g = j->worker->gateway;
    return j->is_leading && !j->is_stopped && hg_state_is_ready(j->realm->vhost) &&
           !atomic_load(&g->is_draining);
}

static void tick_in(struct hg_janitor *j, uint64_t delay_ms)
{
    if (j->is_leading && !j->is_stopped) {
        hg_worker_timer(j->worker, &j->timer, delay_ms);
    }
}

/* ---- Copies ---- */

static void on_copied(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_janitor *j = owner;
    (void)id;
    j->copies_n--;
    if (outcome == HG_OK) {
        hg_count(&j->worker->metrics.state.state_copies, 1);
        hg_net_defer(&j->worker->net, &j->copy);
        return;
    }
    hg_state_index_recopy(index_of(j)); /* the next tick tries again */
    HG_LOG_LIMITED(j->worker->log, HG_LOG_WARN, "state.copy_failed", HG_BYTES(""),
                   HG_F_STR("status", hg_status_text(outcome)), HG_F_BYTES("reason", reason));
}

static void run_copy(struct hg_defer *defer)
{
    struct hg_janitor *j = HG_CONTAINER_OF(defer, struct hg_janitor, copy);
    while (may_work(j) && j->copies_n < COPIES_MAX) {
        struct hg_message *copy = hg_state_index_next_copy(index_of(j));
        const struct hg_publish_order order = {
            .owner = j, .owners = &j->copies, .on_settled = on_copied};
        if (copy == NULL) {
            return;
        }
        if (hg_state_publish(j->realm, copy, order) != HG_OK) {
            hg_state_index_recopy(index_of(j));
            return;
        }
        j->copies_n++;
    }
}

void hg_janitor_on_change(struct hg_janitor *j, const struct hg_state_change *change)
{
    if (change->must_clear && may_work(j)) {
        struct hg_message *gone = hg_state_index_gone(index_of(j), change);
        if (gone != NULL) {
            (void)hg_state_publish(j->realm, gone, (struct hg_publish_order){0});
        }
    }
    hg_net_defer(&j->worker->net, &j->copy);
}

/* ---- Jobs ---- */

static void end_job(struct job *job)
{
    struct hg_janitor *j = job->janitor;
    hg_state_cancel(&job->wait);
    hg_state_log_cancel(&job->errand);
    hg_list_remove(&job->link);
    hg_map_remove(&j->by_client, job->record->client_id);
    hg_session_record_free(job->record);
    hg_free(job);
    if (j->has_more && hg_list_is_empty(&j->jobs)) {
        tick_in(j, 1);
    }
}

static void on_written(struct hg_state_wait *wait, enum hg_status status)
{
    struct job *job = HG_CONTAINER_OF(wait, struct job, wait);
    if (status == HG_OK && job->kind == JOB_END) {
        HG_LOG(job->janitor->worker->log, HG_LOG_DEBUG, "session.expired",
               HG_F_BYTES("client_id", job->record->client_id));
    }
    end_job(job); /* what failed is found again */
}

static void write_record(struct job *job, enum hg_session_act act)
{
    job->wait.done = on_written;
    if (hg_state_write(job->janitor->realm, act, job->record, &job->wait) != HG_OK) {
        end_job(job);
    }
}

static void on_deleted(struct hg_state_errand *errand, enum hg_status status)
{
    struct job *job = HG_CONTAINER_OF(errand, struct job, errand);
    if (status == HG_BROKER_AWAY || status == HG_NO_MEMORY) {
        end_job(job);
        return;
    }
    if (status != HG_OK) {
        HG_LOG_LIMITED(job->janitor->worker->log, HG_LOG_WARN, "session.queue_kept",
                       job->record->client_id, HG_F_BYTES("client_id", job->record->client_id),
                       HG_F_STR("reason", hg_status_text(status)));
    }
    write_record(job, HG_SESSION_END);
}

/* First the queue, then the record: a queue without a record would be taken for the session that
 * RabbitMQ's plugin left. A client that comes in between sees from the record that its session's
 * time was over. */
static void end_session(struct job *job)
{
    struct hg_janitor *j = job->janitor;
    bool has_failed = false;
    struct hg_session_record *now =
        hg_state_index_find(index_of(j), job->record->client_id, &has_failed);
    bool is_same =
        now != NULL && now->boot_id == job->record->boot_id && now->epoch == job->record->epoch;
    hg_session_record_free(now);
    if (!is_same) {
        end_job(job); /* somebody has taken it over meanwhile */
        return;
    }
    uint8_t name[HG_SESSION_QUEUE_NAME_MAX];
    job->errand.done = on_deleted;
    hg_state_log_delete(&j->state->log, &job->errand,
                        hg_session_record_queue_name(job->record->client_id, name));
}

static void after_will(struct job *job)
{
    job->record->has_will = false;
    job->record->will_at_ms = 0;
    if (job->kind == JOB_END) {
        end_session(job);
    } else {
        write_record(job, HG_SESSION_UPDATE);
    }
}

/* Whether it is worth publishing again, later. */
static bool is_passing(enum hg_status status)
{
    return status == HG_BUSY || status == HG_BROKER_AWAY || status == HG_TIMED_OUT ||
           status == HG_NO_MEMORY;
}

static void end_will(struct job *job, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_worker *w = job->janitor->worker;
    if (outcome == HG_OK) {
        hg_count(&w->metrics.state.state_wills, 1);
    } else {
        HG_LOG_LIMITED(w->log, HG_LOG_WARN, "will.refused", job->record->client_id,
                       HG_F_BYTES("client_id", job->record->client_id),
                       HG_F_BYTES("topic", job->record->will.topic),
                       HG_F_STR("status", hg_status_text(outcome)), HG_F_BYTES("reason", reason));
    }
    if (is_passing(outcome)) {
        end_job(job);
    } else {
        after_will(job);
    }
}

static void on_will_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                            struct hg_bytes reason)
{
    (void)s;
    end_will((struct job *)(uintptr_t)id, outcome, reason); /* in place until then */
}

static const struct hg_session_ops will_ops = {.settled = on_will_settled};

static void publish_will(struct job *job)
{
    const struct hg_session_record *r = job->record;
    const struct hg_publish_args args = {
        .address = r->will.topic,
        .properties = r->will.properties,
        .body = r->will.payload,
        .client_id = r->client_id,
        .user = r->user,
        .id = (uintptr_t)job,
        .is_exactly_once = r->will.is_exactly_once,
        .is_retained = r->will.is_retained,
        .wants_outcome = true,
        .never_held = true,
    };
    const char *why = NULL;
    enum hg_status status = hg_publish(&job->janitor->session, &args, NULL, &why);
    if (status != HG_OK) {
        end_will(job, status, hg_bytes_str(why));
    }
}

/* Its connection is over as of now; the will waits for its delay, but not past the session. */
static void disconnect(struct job *job)
{
    struct hg_session_record *r = job->record;
    uint64_t now = hg_clock_wall_ms();
    uint64_t delay_ms = r->will.delay_ms < r->expiry_ms ? r->will.delay_ms : r->expiry_ms;
    r->disconnected_ms = now;
    r->will_at_ms = r->has_will ? now + delay_ms : 0;
    write_record(job, HG_SESSION_UPDATE);
}

static void start_job(struct job *job)
{
    switch (job->kind) {
    case JOB_DISCONNECT: disconnect(job); break;
    case JOB_WILL: publish_will(job); break;
    case JOB_END:
        if (job->record->has_will) {
            publish_will(job);
        } else {
            end_session(job);
        }
        break;
    }
}

/* ---- Other instances ---- */

static void on_checked(struct hg_state_errand *errand, enum hg_status status)
{
    struct peer *peer = HG_CONTAINER_OF(errand, struct peer, errand);
    struct hg_worker *w = peer->janitor->worker;
    uint64_t now = hg_clock_ms();
    peer->is_asking = false;
    if (status == HG_OK) {
        peer->absent_since_ms = 0;
        peer->is_dead = false;
    } else if (status == HG_NO_QUEUE && peer->absent_since_ms == 0) {
        peer->absent_since_ms = now;
    } else if (status == HG_NO_QUEUE && !peer->is_dead &&
               now - peer->absent_since_ms >= w->config->state_dead_after_ms) {
        peer->is_dead = true;
        HG_LOG(w->log, HG_LOG_WARN, "instance.dead", HG_F_STR("name", peer->name),
               HG_F_UINT("sessions", peer->sessions_n));
        tick_in(peer->janitor, 1);
    }
}

static struct peer *peer_of(struct hg_janitor *j, const struct hg_session_record *r)
{
    HG_LIST_FOREACH (it, &j->peers) {
        struct peer *peer = HG_LIST_ENTRY(it, struct peer, link);
        if (peer->boot_id == r->boot_id) {
            return peer;
        }
    }
    struct peer *peer = j->peers_n == PEERS_MAX ? NULL : hg_zalloc(sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    peer->janitor = j;
    peer->boot_id = r->boot_id;
    peer->errand.done = on_checked;
    size_t n = r->instance.n < sizeof(peer->name) ? r->instance.n : sizeof(peer->name) - 1;
    if (n > 0) {
        memcpy(peer->name, r->instance.p, n);
    }
    hg_list_add_last(&j->peers, &peer->link);
    j->peers_n++;
    return peer;
}

static void free_peer(struct peer *peer)
{
    hg_state_log_cancel(&peer->errand);
    hg_list_remove(&peer->link);
    peer->janitor->peers_n--;
    hg_free(peer);
}

/* Asks after those that still own connected sessions, forgets the others. */
static void check_peers(struct hg_janitor *j)
{
    HG_LIST_FOREACH_SAFE (it, &j->peers) {
        struct peer *peer = HG_LIST_ENTRY(it, struct peer, link);
        if (peer->sessions_n == 0) {
            free_peer(peer);
        } else if (!peer->is_asking) {
            char queue[64];
            hg_state_log_presence(peer->boot_id, queue);
            peer->is_asking = true;
            hg_state_log_check(&j->state->log, &peer->errand, hg_bytes_str(queue));
        }
    }
}

/* ---- Looking through the sessions ---- */

struct looking {
    struct hg_janitor *janitor;
    struct hg_list *found; /* struct job */
    uint64_t wall_ms;
};

/* What there is to be done for a session now; false: nothing. */
static bool needs_job(struct hg_janitor *j, const struct hg_session_record *r, uint64_t wall_ms,
                      enum job_kind *kind_out)
{
    if (r->disconnected_ms == 0) {
        struct peer *peer = r->boot_id == j->worker->gateway->boot_id ? NULL : peer_of(j, r);
        if (peer == NULL) {
            return false;
        }
        peer->sessions_n++;
        *kind_out = JOB_DISCONNECT;
        return peer->is_dead;
    }
    if (r->expiry_ms != UINT64_MAX && wall_ms >= r->disconnected_ms &&
        wall_ms - r->disconnected_ms >= r->expiry_ms) {
        *kind_out = JOB_END;
        return true;
    }
    *kind_out = JOB_WILL;
    return r->has_will && r->will_at_ms != 0 && r->will_at_ms <= wall_ms;
}

static void look_at(void *ctx, const struct hg_session_record *r)
{
    struct looking *l = ctx;
    struct hg_janitor *j = l->janitor;
    enum job_kind kind = JOB_WILL;
    if (!needs_job(j, r, l->wall_ms, &kind) || hg_map_find(&j->by_client, r->client_id) != NULL) {
        return;
    }
    struct job *job = j->by_client.n >= JOBS_MAX ? NULL : hg_zalloc(sizeof(*job));
    if (job != NULL) {
        job->record = hg_session_record_copy(r);
        job->janitor = j;
        job->kind = kind;
    }
    if (job == NULL || job->record == NULL ||
        !hg_map_put(&j->by_client, job->record->client_id, job)) {
        j->has_more = true;
        if (job != NULL) {
            hg_session_record_free(job->record);
            hg_free(job);
        }
        return;
    }
    hg_list_add_last(l->found, &job->link);
}

static void look(struct hg_janitor *j)
{
    struct hg_list found;
    struct looking l = {.janitor = j, .found = &found, .wall_ms = hg_clock_wall_ms()};
    hg_list_init(&found);
    j->has_more = false;
    HG_LIST_FOREACH (it, &j->peers) {
        HG_LIST_ENTRY(it, struct peer, link)->sessions_n = 0;
    }
    hg_state_index_each_session(index_of(j), look_at, &l);
    while (!hg_list_is_empty(&found)) {
        struct job *job = HG_LIST_ENTRY(found.next, struct job, link);
        hg_list_remove(&job->link);
        hg_list_add_last(&j->jobs, &job->link);
        start_job(job);
    }
    check_peers(j);
}

static void fire(struct hg_timer *timer)
{
    struct hg_janitor *j = HG_CONTAINER_OF(timer, struct hg_janitor, timer);
    uint64_t quarter_ms = j->worker->config->state_dead_after_ms / 4;
    tick_in(j, quarter_ms < TICK_MS ? quarter_ms : TICK_MS);
    if (may_work(j)) {
        look(j);
        hg_net_defer(&j->worker->net, &j->copy);
    }
}

/* ---- Life ---- */

static void forget_all(struct hg_janitor *j)
{
    j->has_more = false;
    hg_session_detach(&j->session);
    while (!hg_list_is_empty(&j->jobs)) {
        end_job(HG_LIST_ENTRY(j->jobs.next, struct job, link));
    }
    while (!hg_list_is_empty(&j->peers)) {
        free_peer(HG_LIST_ENTRY(j->peers.next, struct peer, link));
    }
}

struct hg_janitor *hg_janitor_new(struct hg_state *state)
{
    struct hg_janitor *j = hg_zalloc(sizeof(*j));
    if (j == NULL) {
        return NULL;
    }
    j->state = state;
    j->realm = state->realm;
    j->worker = state->home;
    hg_session_init(&j->session, &will_ops, HG_PROTO_MQTT, NULL, j->worker);
    hg_session_enter(&j->session, j->realm);
    j->session.is_trusted = true; /* a will was permitted when its client came */
    hg_map_open(&j->by_client);
    hg_list_init(&j->jobs);
    hg_list_init(&j->peers);
    hg_timer_init(&j->timer, fire);
    j->copy.run = run_copy;
    return j;
}

void hg_janitor_free(struct hg_janitor *j)
{
    if (j == NULL) {
        return;
    }
    hg_janitor_stop(j);
    hg_publisher_forget(&j->copies);
    hg_map_close(&j->by_client);
    hg_free(j);
}

void hg_janitor_lead(struct hg_janitor *j, bool is_leader)
{
    j->is_leading = is_leader;
    if (!is_leader) {
        hg_timer_stop(&j->timer);
        forget_all(j);
        return;
    }
    hg_state_index_recopy(index_of(j));
    tick_in(j, 1);
}

void hg_janitor_wake(struct hg_janitor *j)
{
    tick_in(j, 1);
}

void hg_janitor_stop(struct hg_janitor *j)
{
    j->is_stopped = true;
    hg_timer_stop(&j->timer);
    hg_net_undefer(&j->copy);
    forget_all(j);
}
