/* SPDX-License-Identifier: Apache-2.0 */
/* Polls and leases of one worker. */
#include "base/clock.h"
#include "base/mem.h"
#include "core/lease_priv.h"
#include "core/own.h"
#include "core/routing_priv.h"

enum {
    AWAY_MS = 5000,    /* for RabbitMQ's part, beyond what the taker wants to wait */
    LINGER_MS = 10000, /* a queue's channel stays for those who come back */
    SLOTS_MIN = 64
};

#define OWN_QUEUES "headgate."

struct lease_queue {
    struct hg_leases *of;
    struct hg_realm *realm; /* whose links consume it: the gateway's, or a user's own */
    struct hg_puller *puller;
    struct hg_list held;  /* struct hg_lease */
    struct hg_list polls; /* struct hg_lease_poll */
    uint32_t held_n;      /* leases, and what polls may still take */
    struct hg_timer idle;
    size_t name_n;
    uint8_t name[]; /* and behind it, as the other part of the map's key, the realm's index */
};

struct hg_lease {
    struct hg_list link; /* in lease_queue.held */
    struct lease_queue *queue;
    uint64_t tag;
    uint64_t last_ms; /* no extension goes beyond */
    struct hg_timer timer;
    uint32_t slot;
    uint8_t secret[HG_LEASE_SECRET_BYTES];
};

struct hg_lease_poll {
    struct hg_pull pull;
    struct hg_list link; /* in lease_queue.polls */
    struct lease_queue *queue;
    struct hg_lease_spec spec; /* without the queue's name */
    struct hg_timer timer;
    bool must_end; /* waits no longer for a message, only for RabbitMQ */
    size_t bytes;
    struct hg_leased *got; /* message: NULL where it was too much */
    size_t n, cap;
};

static struct hg_leases *leases_of(struct hg_service *service)
{
    return HG_CONTAINER_OF(service, struct hg_leases, service);
}

static struct hg_lease_metrics *metrics_of(const struct hg_leases *leases)
{
    return &leases->worker->metrics.lease;
}

/* ---- Queues ---- */

static struct hg_bytes name_of(const struct lease_queue *q)
{
    return hg_bytes(q->name, q->name_n);
}

static struct hg_bytes key_of(const struct lease_queue *q)
{
    return hg_bytes(q->name, q->name_n + sizeof(q->realm->index));
}

static bool is_idle_queue(const struct lease_queue *q)
{
    return hg_list_is_empty(&q->held) && hg_list_is_empty(&q->polls);
}

static void close_queue(struct lease_queue *q)
{
    hg_map_remove(&q->of->queues, key_of(q));
    hg_timer_stop(&q->idle);
    hg_puller_close(q->puller);
    hg_own_release(q->realm);
    hg_free(q);
}

/* Not at once: this may be a call from its puller. */
static void leave_queue(struct lease_queue *q, bool was_refused)
{
    if (is_idle_queue(q)) {
        bool lingers = !was_refused && !q->of->is_draining;
        hg_worker_timer(q->of->worker, &q->idle, lingers ? LINGER_MS : 1);
    }
}

static void fire_idle(struct hg_timer *timer)
{
    struct lease_queue *q = HG_CONTAINER_OF(timer, struct lease_queue, idle);
    if (is_idle_queue(q)) {
        close_queue(q);
    }
}

static void free_lease(struct hg_lease *lease);

static void on_lost(void *ctx)
{
    struct lease_queue *q = ctx;
    HG_LIST_FOREACH_SAFE (it, &q->held) {
        hg_count(&metrics_of(q->of)->leases_lost, 1);
        free_lease(HG_LIST_ENTRY(it, struct hg_lease, link));
    }
    leave_queue(q, false);
}

static const struct hg_puller_ops puller_ops = {.on_lost = on_lost};

/* Found or made; NULL when there is no memory. */
static struct lease_queue *queue_named(struct hg_realm *realm, struct hg_bytes name)
{
    struct hg_leases *leases = hg_realm_home(realm)->leases;
    struct lease_queue *q = hg_zalloc(sizeof(*q) + name.n + sizeof(realm->index));
    if (q == NULL) {
        return NULL;
    }
    q->of = leases;
    q->realm = realm;
    q->name_n = name.n;
    memcpy(q->name, name.p, name.n);
    memcpy(q->name + name.n, &realm->index, sizeof(realm->index));
    struct lease_queue *found = hg_map_find(&leases->queues, key_of(q));
    if (found != NULL) {
        hg_free(q);
        return found;
    }
    hg_list_init(&q->held);
    hg_list_init(&q->polls);
    hg_timer_init(&q->idle, fire_idle);
    q->puller = hg_puller_open(&realm->routing->consumers.seats, name_of(q), &puller_ops, q);
    if (q->puller == NULL || !hg_map_put(&leases->queues, key_of(q), q)) {
        hg_puller_close(q->puller);
        hg_free(q);
        return NULL;
    }
    hg_own_hold(realm);
    return q;
}

/* ---- Leases ---- */

static void hold(struct lease_queue *q, uint32_t n)
{
    q->held_n += n;
    q->of->held_n += n;
}

static void let_go(struct lease_queue *q, uint32_t n)
{
    q->held_n -= n;
    q->of->held_n -= n;
}

static void free_lease(struct hg_lease *lease)
{
    struct hg_leases *leases = lease->queue->of;
    leases->slots[lease->slot] = NULL;
    leases->slots_n--;
    let_go(lease->queue, 1);
    hg_uncount(&metrics_of(leases)->leases, 1);
    hg_timer_stop(&lease->timer);
    hg_list_remove(&lease->link);
    hg_free(lease);
}

static void answer_lease(struct hg_lease *lease, enum hg_lease_act act)
{
    struct lease_queue *q = lease->queue;
    uint64_t tag = lease->tag;
    free_lease(lease);
    if (act == HG_LEASE_DO_ACK) {
        hg_puller_ack(q->puller, tag);
    } else {
        hg_puller_nack(q->puller, tag, act == HG_LEASE_DO_REQUEUE);
    }
    leave_queue(q, false);
}

static void fire_expired(struct hg_timer *timer)
{
    struct hg_lease *lease = HG_CONTAINER_OF(timer, struct hg_lease, timer);
    hg_count(&metrics_of(lease->queue->of)->leases_expired, 1);
    answer_lease(lease, HG_LEASE_DO_REQUEUE);
}

/* At least half of the slots stay free, so that the next free one is never far. */
static bool has_slot(struct hg_leases *leases)
{
    if (2 * (leases->slots_n + 1) <= leases->slots_cap) {
        return true;
    }
    uint32_t cap = leases->slots_cap == 0 ? SLOTS_MIN : 2 * leases->slots_cap;
    struct hg_lease **slots = hg_realloc(leases->slots, cap * sizeof(struct hg_lease *));
    if (slots == NULL) {
        return false;
    }
    memset(&slots[leases->slots_cap], 0, (cap - leases->slots_cap) * sizeof(struct hg_lease *));
    leases->slots = slots;
    leases->slots_cap = cap;
    return true;
}

/* False when there is no memory. */
static bool make_lease(struct hg_lease_poll *poll, struct hg_leased *got)
{
    struct lease_queue *q = poll->queue;
    struct hg_leases *leases = q->of;
    struct hg_lease *lease = has_slot(leases) ? hg_zalloc(sizeof(*lease)) : NULL;
    if (lease == NULL) {
        return false;
    }
    while (leases->slots[leases->first] != NULL) {
        leases->first = (leases->first + 1) % leases->slots_cap;
    }
    lease->slot = leases->first;
    leases->slots[lease->slot] = lease;
    leases->slots_n++;
    leases->first = (leases->first + 1) % leases->slots_cap;
    lease->queue = q;
    lease->tag = got->tag;
    lease->last_ms = hg_clock_ms() + HG_LEASE_MAX_MS;
    hg_lease_id_draw(lease->secret);
    hg_list_add_last(&q->held, &lease->link);
    hg_timer_init(&lease->timer, fire_expired);
    hg_worker_timer(leases->worker, &lease->timer, poll->spec.lease_ms);
    hold(q, 1);
    hg_count(&metrics_of(leases)->leases, 1);
    hg_count(&metrics_of(leases)->leases_taken, 1);
    struct hg_lease_id id = {.boot_id = leases->worker->gateway->boot_id,
                             .worker = (uint16_t)leases->worker->index,
                             .slot = lease->slot};
    memcpy(id.secret, lease->secret, sizeof(id.secret));
    hg_lease_id_write(&id, got->id);
    return true;
}

static struct hg_lease *find_lease(const struct hg_leases *leases, struct hg_bytes queue,
                                   uint64_t slot, struct hg_bytes secret)
{
    struct hg_lease *lease = slot < leases->slots_cap ? leases->slots[slot] : NULL;
    bool is_it = lease != NULL && hg_lease_id_is(lease->secret, secret.p) &&
                 hg_bytes_eq(name_of(lease->queue), queue);
    return is_it ? lease : NULL;
}

static void do_act(struct hg_lease *lease, enum hg_lease_act act, uint64_t lease_ms)
{
    uint64_t now = hg_clock_ms();
    if (act == HG_LEASE_DO_EXTEND) {
        uint64_t left_ms = lease->last_ms > now ? lease->last_ms - now : 0;
        hg_worker_timer(lease->queue->of->worker, &lease->timer,
                        lease_ms < left_ms ? lease_ms : left_ms);
    } else {
        answer_lease(lease, act);
    }
}

void hg_leases_apply(struct hg_leases *leases, struct hg_bytes request, struct hg_writer *answers)
{
    uint64_t version, act, lease_ms, queue_n, slot;
    struct hg_bytes queue, secret;
    if (!hg_bytes_take_number(&request, 1, &version) || version != HG_LEASE_VERSION ||
        !hg_bytes_take_number(&request, 1, &act) || act > HG_LEASE_DO_EXTEND ||
        !hg_bytes_take_number(&request, 8, &lease_ms) ||
        !hg_bytes_take_number(&request, 2, &queue_n) ||
        !hg_bytes_take(&request, (size_t)queue_n, &queue)) {
        return;
    }
    while (hg_bytes_take_number(&request, 4, &slot) &&
           hg_bytes_take(&request, HG_LEASE_SECRET_BYTES, &secret)) {
        struct hg_lease *lease = find_lease(leases, queue, slot, secret);
        hg_writer_u8(answers, lease != NULL ? HG_LEASE_DONE : HG_LEASE_GONE);
        if (lease != NULL) {
            do_act(lease, (enum hg_lease_act)act, lease_ms);
        }
    }
}

/* ---- Polls ---- */

static struct hg_lease_poll *poll_of(struct hg_pull *pull)
{
    return HG_CONTAINER_OF(pull, struct hg_lease_poll, pull);
}

static void forget_got(struct hg_lease_poll *poll)
{
    for (size_t i = 0; i < poll->n; i++) {
        hg_message_unref(poll->got[i].message);
    }
    poll->n = poll->bytes = 0;
}

static void give_back(struct hg_lease_poll *poll)
{
    for (size_t i = 0; i < poll->n; i++) {
        hg_puller_nack(poll->queue->puller, poll->got[i].tag, true);
    }
    forget_got(poll);
}

/* Off the queue's list; what it got is dealt with. */
static void free_poll(struct hg_lease_poll *poll, bool was_refused)
{
    struct lease_queue *q = poll->queue;
    forget_got(poll);
    hg_pull_stop(&poll->pull);
    hg_timer_stop(&poll->timer);
    hg_list_remove(&poll->link);
    hg_uncount(&metrics_of(q->of)->lease_polls, 1);
    hg_free(poll->got);
    hg_free(poll);
    leave_queue(q, was_refused);
}

/* What it got goes back, and it is told the status. */
static void end_poll(struct hg_lease_poll *poll, enum hg_status status, struct hg_bytes reason)
{
    const struct hg_lease_result result = {.status = status, .reason = reason};
    hg_pull_stop(&poll->pull);
    let_go(poll->queue, poll->pull.max);
    give_back(poll);
    poll->spec.done(poll->spec.ctx, &result);
    free_poll(poll, status != HG_OK && status != HG_BROKER_AWAY);
}

static void on_delivery(struct hg_pull *pull, struct hg_message *m, uint64_t tag,
                        bool is_redelivered)
{
    struct hg_lease_poll *poll = poll_of(pull);
    size_t body_n = hg_message_body(m).n;
    bool is_too_much =
        poll->n > 0 && poll->bytes + body_n > poll->queue->of->worker->config->lease_bytes;
    if (poll->n == poll->cap) {
        size_t cap = poll->cap == 0 ? 1 : poll->cap * 2;
        struct hg_leased *got = hg_realloc(poll->got, cap * sizeof(*got));
        if (got == NULL) {
            hg_puller_nack(poll->queue->puller, tag, true);
            return;
        }
        poll->got = got;
        poll->cap = cap;
    }
    poll->bytes = is_too_much ? SIZE_MAX / 2 : poll->bytes + body_n; /* the order is kept */
    poll->got[poll->n++] = (struct hg_leased){.message = is_too_much ? NULL : hg_message_ref(m),
                                              .is_redelivered = is_redelivered,
                                              .tag = tag};
}

static void on_again(struct hg_pull *pull)
{
    forget_got(poll_of(pull));
}

/* Leaves what can be handed over; the rest goes back. */
static void keep_what_fits(struct hg_lease_poll *poll)
{
    size_t kept_n = 0;
    for (size_t i = 0; i < poll->n; i++) {
        struct hg_leased *got = &poll->got[i];
        bool is_kept =
            got->message != NULL && (poll->spec.end != HG_LEASE_KEEP || make_lease(poll, got));
        if (is_kept) {
            poll->got[kept_n++] = *got;
        } else {
            hg_puller_nack(poll->queue->puller, got->tag, true);
            hg_message_unref(got->message);
        }
    }
    poll->n = kept_n;
}

static void answer_all(struct hg_lease_poll *poll)
{
    for (size_t i = 0; i < poll->n; i++) {
        uint64_t tag = poll->got[i].tag;
        switch (poll->spec.end) {
        case HG_LEASE_KEEP: break;
        case HG_LEASE_ACK: hg_puller_ack(poll->queue->puller, tag); break;
        case HG_LEASE_REQUEUE: hg_puller_nack(poll->queue->puller, tag, true); break;
        case HG_LEASE_REJECT: hg_puller_nack(poll->queue->puller, tag, false); break;
        }
    }
}

static void on_over(struct hg_pull *pull, enum hg_status status, struct hg_bytes reason,
                    uint32_t left_n)
{
    struct hg_lease_poll *poll = poll_of(pull);
    if (status != HG_OK) {
        end_poll(poll, status, reason);
        return;
    }
    let_go(poll->queue, pull->max);
    keep_what_fits(poll);
    const struct hg_lease_result result = {.messages = poll->got, .n = poll->n, .left_n = left_n};
    poll->spec.done(poll->spec.ctx, &result);
    answer_all(poll);
    free_poll(poll, false);
}

static const struct hg_pull_ops pull_ops = {
    .on_delivery = on_delivery, .on_again = on_again, .on_over = on_over};

static void fire_poll(struct hg_timer *timer)
{
    struct hg_lease_poll *poll = HG_CONTAINER_OF(timer, struct hg_lease_poll, timer);
    if (poll->must_end) {
        end_poll(poll, HG_BROKER_AWAY, HG_BYTES("it did not answer in time"));
        return;
    }
    poll->must_end = true;
    hg_worker_timer(poll->queue->of->worker, timer, AWAY_MS);
    if (hg_pull_is_on(&poll->pull)) {
        hg_pull_finish(&poll->pull);
    }
}

/* Other instances can ask for what it takes: now it may. */
static bool start_poll(struct hg_lease_poll *poll)
{
    if (!hg_pull_start(poll->queue->puller, &poll->pull)) {
        return false;
    }
    if (poll->must_end) {
        hg_pull_finish(&poll->pull);
    }
    return true;
}

/* One that is still to be started. */
static struct hg_lease_poll *next_waiting(const struct hg_leases *leases)
{
    size_t at = 0;
    struct hg_bytes name;
    void *value;
    while (hg_map_next(&leases->queues, &at, &name, &value)) {
        struct lease_queue *q = value;
        HG_LIST_FOREACH (it, &q->polls) {
            struct hg_lease_poll *poll = HG_LIST_ENTRY(it, struct hg_lease_poll, link);
            if (!hg_pull_is_on(&poll->pull)) {
                return poll;
            }
        }
    }
    return NULL;
}

void hg_leases_reachable(struct hg_leases *leases, enum hg_status status, struct hg_bytes reason)
{
    struct hg_lease_poll *poll;
    while ((poll = next_waiting(leases)) != NULL) {
        if (status != HG_OK) {
            end_poll(poll, status, reason);
        } else if (!start_poll(poll)) {
            end_poll(poll, HG_NO_MEMORY, HG_BYTES(""));
        }
    }
}

/* How many messages there is room for; 0: none, and *why_out says which limit. */
static uint32_t room(const struct hg_leases *leases, const struct lease_queue *q, uint32_t max,
                     const char **why_out)
{
    const struct hg_config *config = leases->worker->config;
    uint32_t of_worker = config->leases_per_worker - leases->held_n;
    uint32_t of_queue = config->leases_per_queue - q->held_n;
    *why_out = of_queue == 0
                   ? "as many messages of this queue are leased as leases_per_queue allows"
                   : "as many messages are leased as leases_per_worker allows";
    uint32_t least = of_worker < of_queue ? of_worker : of_queue;
    return least < max ? least : max;
}

static enum hg_status open_poll(struct hg_realm *realm, const struct hg_lease_spec *spec,
                                struct hg_lease_poll **poll_out, const char **why_out)
{
    struct hg_leases *leases = hg_realm_home(realm)->leases;
    struct lease_queue *q = queue_named(realm, spec->queue);
    if (q == NULL) {
        return HG_NO_MEMORY;
    }
    uint32_t max = room(leases, q, spec->max < UINT16_MAX ? spec->max : UINT16_MAX, why_out);
    struct hg_lease_poll *poll = max == 0 ? NULL : hg_zalloc(sizeof(*poll));
    if (poll == NULL) {
        leave_queue(q, false);
        return max == 0 ? HG_TOO_MANY : HG_NO_MEMORY;
    }
    poll->pull.ops = &pull_ops;
    poll->pull.max = (uint16_t)max;
    poll->pull.wants_left = spec->wants_left;
    poll->queue = q;
    poll->spec = *spec;
    poll->must_end = spec->wait_ms == 0;
    hg_list_add_last(&q->polls, &poll->link);
    hg_timer_init(&poll->timer, fire_poll);
    hg_worker_timer(leases->worker, &poll->timer, poll->must_end ? AWAY_MS : spec->wait_ms);
    hg_count(&metrics_of(leases)->lease_polls, 1);
    hold(q, max);
    *poll_out = poll;
    bool is_on =
        hg_lease_forward_is_live(leases) ? start_poll(poll) : hg_lease_forward_listen(leases);
    if (!is_on) {
        hg_lease_cancel(poll);
    }
    return is_on ? HG_OK : HG_NO_MEMORY;
}

enum hg_status hg_lease_take(struct hg_realm *realm, const struct hg_lease_spec *spec,
                             struct hg_lease_poll **poll_out, const char **why_out)
{
    struct hg_leases *leases = hg_realm_home(realm)->leases;
    *why_out = NULL;
    if (leases == NULL || leases->is_draining) {
        return HG_SHUTTING_DOWN;
    }
    if (hg_bytes_starts(spec->queue, HG_BYTES(OWN_QUEUES))) {
        *why_out = "queues whose names begin with headgate. are the gateway's own";
        return HG_NOT_ALLOWED;
    }
    enum hg_status status = open_poll(realm, spec, poll_out, why_out);
    if (status != HG_OK) {
        hg_count(&metrics_of(leases)->lease_polls_refused, 1);
    }
    return status;
}

void hg_lease_cancel(struct hg_lease_poll *poll)
{
    hg_pull_stop(&poll->pull);
    let_go(poll->queue, poll->pull.max);
    give_back(poll);
    free_poll(poll, false);
}

/* ---- The service ---- */

static void end_all(struct hg_leases *leases, enum hg_status status)
{
    size_t at = 0;
    struct hg_bytes name;
    void *value;
    leases->is_draining = true;
    while (hg_map_next(&leases->queues, &at, &name, &value)) {
        struct lease_queue *q = value;
        HG_LIST_FOREACH_SAFE (it, &q->polls) {
            end_poll(HG_LIST_ENTRY(it, struct hg_lease_poll, link), status, HG_BYTES(""));
        }
        while (!hg_list_is_empty(&q->held)) {
            answer_lease(HG_LIST_ENTRY(q->held.next, struct hg_lease, link), HG_LEASE_DO_REQUEUE);
        }
        leave_queue(q, false); /* it may have been lingering */
    }
}

static void drain(struct hg_service *service)
{
    end_all(leases_of(service), HG_OK);
}

static bool is_idle(const struct hg_service *service)
{
    const struct hg_leases *leases =
        HG_CONTAINER_OF((struct hg_service *)service, struct hg_leases, service);
    return leases->queues.n == 0 && hg_lease_forward_is_idle(leases);
}

static void close_service(struct hg_service *service)
{
    struct hg_leases *leases = leases_of(service);
    struct hg_bytes name;
    void *value;
    end_all(leases, HG_SHUTTING_DOWN);
    for (size_t at = 0; hg_map_next(&leases->queues, &at, &name, &value); at = 0) {
        close_queue(value);
    }
    hg_lease_forward_close(leases);
    leases->realm->leases = NULL;
    hg_map_close(&leases->queues);
    hg_list_remove(&service->link);
    hg_free(leases->slots);
    hg_free(leases);
}

static const struct hg_service_ops service_ops = {
    .drain = drain, .is_idle = is_idle, .close = close_service};

bool hg_leases_open(struct hg_realm *realm)
{
    struct hg_leases *leases = hg_zalloc(sizeof(*leases));
    if (leases == NULL) {
        return false;
    }
    leases->service.ops = &service_ops;
    leases->realm = realm;
    leases->worker = realm->worker;
    hg_map_open(&leases->queues);
    hg_lease_forward_open(leases);
    hg_list_add_last(&realm->worker->services, &leases->service.link);
    realm->leases = leases;
    return true;
}
