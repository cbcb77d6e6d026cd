/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that outlive their connection: their record in the state log, their queue, and who has
 * them. What the log says decides: whoever wrote the last claim owns the session, and the one before
 * still tells it what was in flight.
 *
 * Connecting: what was confirmed before this CONNECT is read (a barrier); the claim is written; the
 * queue is consumed by this session alone; what the predecessor hands over is waited for; the lists
 * of what was in flight are taken out of the record, so that nobody takes them for true later; then
 * CONNACK. Leaving: what the client published is settled, the record is written, and only then are
 * the queue and the client identifier given up. */
#include "adapters/mqtt/mqtt_deliver.h"
#include "adapters/mqtt/mqtt_persist_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"

enum {
    PATIENCE_MS = 5000, /* for the queue, while the predecessor leaves */
    ARGUMENTS_N = 2
};

struct early { /* a delivery that came before CONNACK */
    struct hg_list link;
    struct hg_message *message;
    struct hg_ticket ticket;
    bool is_redelivered;
    uint32_t address_n;
    uint8_t address[];
};

static void on_step_done(struct hg_state_wait *wait, enum hg_status status);
static void on_saved(struct hg_state_wait *wait, enum hg_status status);
static void fire(struct hg_timer *timer);

/* ---- Life ---- */

uint32_t hg_mqtt_expiry_s(const struct hg_mqtt_session *s, uint32_t asked_s)
{
    const struct hg_worker *w = s->base.worker;
    uint64_t max_s = w->config->mqtt_max_session_expiry_ms / 1000;
    if (!hg_state_is_enabled(hg_realm_of(&s->base)->vhost)) {
        return 0;
    }
    return asked_s < max_s ? asked_s : (uint32_t)max_s;
}

bool hg_mqtt_persist_open(struct hg_mqtt_session *s, uint32_t expiry_s, bool is_clean)
{
    struct hg_mqtt_persist *p = hg_zalloc(sizeof(*p));
    if (p == NULL) {
        return false;
    }
    *p = (struct hg_mqtt_persist){.session = s,
                                  .wait.done = on_step_done,
                                  .saving.done = on_saved,
                                  .leaver.abandon = hg_mqtt_leave_abandon,
                                  .expiry_s = expiry_s,
                                  .is_clean = is_clean};
    hg_timer_init(&p->timer, fire);
    hg_list_init(&p->leaver.link);
    hg_list_init(&p->early);
    s->persist = p;
    return true;
}

static void forget_records(struct hg_mqtt_persist *p)
{
    hg_session_record_free(p->before);
    hg_session_record_free(p->record);
    p->before = p->record = NULL;
}

static void free_early(struct early *e)
{
    hg_list_remove(&e->link);
    hg_message_unref(e->message);
    hg_free(e);
}

void hg_mqtt_persist_free(struct hg_mqtt_session *s)
{
    struct hg_mqtt_persist *p = s->persist;
    if (p == NULL) {
        return;
    }
    hg_state_cancel(&p->wait);
    hg_state_cancel(&p->saving);
    hg_timer_stop(&p->timer);
    hg_list_remove(&p->leaver.link);
    hg_queue_close(p->queue, p->step == STEP_DELETING ? HG_QUEUE_DELETE : HG_QUEUE_KEEP);
    HG_LIST_FOREACH_SAFE (it, &p->early) {
        free_early(HG_LIST_ENTRY(it, struct early, link));
    }
    forget_records(p);
    s->persist = NULL;
    hg_free(p);
}

struct hg_queue *hg_mqtt_queue(const struct hg_mqtt_session *s)
{
    return s->persist == NULL ? NULL : s->persist->queue;
}

void hg_mqtt_persist_set_expiry(struct hg_mqtt_session *s, uint32_t expiry_s)
{
    s->persist->expiry_s = expiry_s;
}

/* ---- The record ---- */

/* What is always in it. */
struct hg_session_record hg_mqtt_persist_head(const struct hg_mqtt_persist *p)
{
    const struct hg_gateway *gateway = worker_of(p)->gateway;
    return (struct hg_session_record){
        .client_id = hg_mqtt_client_id(p->session),
        .user = hg_mqtt_user(p->session),
        .instance = hg_bytes_str(gateway->config->name),
        .boot_id = gateway->boot_id,
        .epoch = p->session->claim.epoch,
        .expiry_ms = p->expiry_s == UINT32_MAX ? UINT64_MAX : (uint64_t)p->expiry_s * 1000,
    };
}

/* The will as well, which borrows from *scratch. */
struct hg_session_record hg_mqtt_persist_head_with_will(const struct hg_mqtt_persist *p,
                                                        struct hg_mqtt_inbound *scratch)
{
    struct hg_session_record r = hg_mqtt_persist_head(p);
    r.has_will = hg_mqtt_will_for_record(p->session, scratch, &r.will);
    r.will_at_ms = r.has_will ? p->will_at_ms : 0;
    return r;
}

/* The record as this process knows it, a copy; NULL: there is none. */
struct hg_session_record *hg_mqtt_persist_find(const struct hg_mqtt_session *s, bool *has_failed)
{
    struct hg_state_index *index = hg_state_index_of(hg_realm_of(&s->base)->vhost);
    *has_failed = false;
    return index == NULL ? NULL : hg_state_index_find(index, hg_mqtt_client_id(s), has_failed);
}

bool hg_mqtt_persist_is_ours(const struct hg_mqtt_persist *p, const struct hg_session_record *r)
{
    return r->boot_id == worker_of(p)->gateway->boot_id && r->epoch == p->session->claim.epoch;
}

static bool has_expired(const struct hg_session_record *r)
{
    return r->disconnected_ms > 0 && r->expiry_ms != UINT64_MAX &&
           hg_clock_wall_ms() >= r->disconnected_ms + r->expiry_ms;
}

/* An earlier session ends now, and with it the time that its will was to wait. */
static void publish_will_before(struct hg_mqtt_persist *p)
{
    const struct hg_session_record *r = p->before;
    if (r == NULL || !r->has_will || r->will_at_ms == 0) {
        return;
    }
    const struct hg_publish_args args = {
        .address = r->will.topic,
        .properties = r->will.properties,
        .body = r->will.payload,
        .client_id = r->client_id,
        .user = r->user,
        .is_exactly_once = r->will.is_exactly_once,
        .is_retained = r->will.is_retained,
        .is_free = true,
        .never_held = true,
    };
    const char *why = NULL;
    enum hg_status status = hg_publish(&p->session->base, &args, NULL, &why);
    if (status != HG_OK) {
        hg_mqtt_log_refused(p->session, args.address, 0, status, hg_bytes_str(why));
    }
}

/* ---- Saving ---- */

static enum hg_status write_update(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_inbound scratch;
    struct hg_session_filter *filters = NULL;
    struct hg_session_record r = hg_mqtt_persist_head_with_will(p, &scratch);
    if (!hg_mqtt_list_filters(p->session, &filters, &r.filters_n)) {
        return HG_NO_MEMORY;
    }
    r.filters = filters;
    enum hg_status status = hg_state_write(realm_of(p), HG_SESSION_UPDATE, &r, &p->saving);
    hg_free(filters);
    return status;
}

/* Writes what is to be saved now, under the next number. */
static void save(struct hg_mqtt_persist *p)
{
    p->must_save = false;
    p->saving_number = ++p->saved_n;
    p->save_status = write_update(p);
    if (p->save_status != HG_OK) { /* told from the loop */
        hg_worker_timer(worker_of(p), &p->timer, 0);
    }
}

uint32_t hg_mqtt_save(struct hg_mqtt_session *s)
{
    struct hg_mqtt_persist *p = s->persist;
    if (p == NULL || p->step != STEP_READY) {
        return 0;
    }
    if (p->saving_number == 0) {
        save(p);
        return p->saving_number;
    }
    p->must_save = true;
    return p->saved_n + 1;
}

static void tell_saved(struct hg_mqtt_persist *p, enum hg_status status)
{
    uint32_t number = p->saving_number;
    p->saving_number = 0;
    if (status != HG_OK) {
        HG_LOG_LIMITED(worker_of(p)->log, HG_LOG_WARN, "mqtt.session_not_saved",
                       hg_mqtt_client_id(p->session),
                       HG_F_BYTES("client", hg_mqtt_client_id(p->session)),
                       HG_F_STR("status", hg_status_text(status)));
    }
    if (p->must_save) {
        save(p);
    }
    hg_mqtt_saved(p->session, number, status);
}

static void on_saved(struct hg_state_wait *wait, enum hg_status status)
{
    tell_saved(HG_CONTAINER_OF(wait, struct hg_mqtt_persist, saving), status);
}

/* ---- Connecting ---- */

static const char *step_name(uint8_t step)
{
    static const char *const names[] = {
        [STEP_NONE] = "start",         [STEP_LOOKING] = "barrier", [STEP_CLAIMING] = "claim",
        [STEP_OPENING] = "queue",      [STEP_TAKING] = "handover", [STEP_TIDYING] = "record",
        [STEP_FORGETTING] = "forget",  [STEP_DELETING] = "delete", [STEP_READY] = "connected",
        [STEP_SETTLING] = "settle",    [STEP_WRITING] = "record",  [STEP_HANDING] = "handover",
        [STEP_RESTORING] = "bindings", [STEP_DONE] = "done",
    };
    return names[step];
}

void hg_mqtt_persist_log(const struct hg_mqtt_persist *p, const char *event, enum hg_status status,
                         struct hg_bytes reason)
{
    HG_LOG_LIMITED(worker_of(p)->log, HG_LOG_WARN, event, hg_mqtt_client_id(p->session),
                   HG_F_BYTES("client", hg_mqtt_client_id(p->session)),
                   HG_F_STR("at", step_name(p->step)), HG_F_STR("status", hg_status_text(status)),
                   HG_F_BYTES("reason", reason));
}

/* CONNACK says no. Whatever went wrong here, the client may try again: 0x88. */
static void fail(struct hg_mqtt_persist *p, enum hg_status status, struct hg_bytes reason)
{
    hg_mqtt_persist_log(p, "mqtt.session_refused", status, reason);
    bool is_known = status == HG_NO_MEMORY || status == HG_TAKEN_OVER || status == HG_TOO_LARGE;
    const char *text = status == HG_NOT_ALLOWED ? "the session's queue is in use elsewhere"
                                                : hg_status_text(status);
    hg_mqtt_refuse(p->session, is_known ? status : HG_BROKER_AWAY, text);
}

static bool is_connecting(const struct hg_mqtt_persist *p)
{
    return p->step < STEP_READY;
}

/* There is nothing that is kept (any more): the client is accepted without it. */
static void accept_anew(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    hg_mqtt_persist_free(s);
    hg_mqtt_accept(s, false);
}

static const struct hg_queue_ops queue_ops;

/* False when there is no memory. */
static bool open_queue(struct hg_mqtt_persist *p)
{
    const struct hg_config *config = worker_of(p)->config;
    uint8_t name[HG_SESSION_QUEUE_NAME_MAX];
    uint64_t expires_ms = config->mqtt_max_session_expiry_ms;
    expires_ms = expires_ms < UINT32_MAX ? expires_ms : UINT32_MAX; /* all that RabbitMQ takes */
    const struct hg_header arguments[ARGUMENTS_N] = {
        {HG_BYTES("x-queue-type"),
         {.kind = HG_VALUE_STRING,
          .u.bytes =
              config->mqtt_session_queue_is_quorum ? HG_BYTES("quorum") : HG_BYTES("classic")}},
        {HG_BYTES("x-expires"), {.kind = HG_VALUE_INT, .u.i = (int64_t)expires_ms}},
    };
    const struct hg_queue_options options = {
        .name = hg_session_record_queue_name(hg_mqtt_client_id(p->session), name),
        .arguments = arguments,
        .arguments_n = expires_ms > 0 ? ARGUMENTS_N : ARGUMENTS_N - 1,
        .prefetch = hg_mqtt_inflight_max(p->session),
        .is_fresh = p->is_clean,
        .is_exclusive = true,
        .patience_ms = PATIENCE_MS,
    };
    p->queue = hg_queue_open(&p->session->base, &options, &queue_ops, p);
    return p->queue != NULL;
}

void hg_mqtt_persist_start(struct hg_mqtt_session *s)
{
    s->persist->step = STEP_LOOKING;
    hg_state_barrier(hg_realm_of(&s->base), &s->persist->wait);
}

/* Whose session is kept under a client identifier is not for everybody who knows that identifier. */
static bool is_anothers(const struct hg_mqtt_session *s, const struct hg_session_record *r)
{
    return s->base.worker->config->has_identities && r != NULL && !has_expired(r) &&
           !hg_bytes_eq(r->user, hg_mqtt_user(s));
}

static void refuse_anothers(struct hg_mqtt_session *s)
{
    hg_mqtt_refuse_anothers(s, hg_mqtt_client_id(s),
                            "another user's session is kept for this client identifier");
}

static void claim(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    bool has_failed = false;
    p->before = hg_mqtt_persist_find(s, &has_failed);
    if (has_failed) {
        fail(p, HG_NO_MEMORY, HG_BYTES(""));
        return;
    }
    if (is_anothers(s, p->before)) {
        refuse_anothers(s);
        return;
    }
    if (p->before == NULL && p->expiry_s == 0) { /* nothing goes on, nothing is kept */
        hg_state_announce(hg_realm_of(&s->base), hg_mqtt_client_id(s));
        accept_anew(p);
        return;
    }
    p->is_clean = p->is_clean || (p->before != NULL && has_expired(p->before));
    struct hg_mqtt_inbound scratch;
    struct hg_session_record r = hg_mqtt_persist_head_with_will(p, &scratch);
    r.inherits = !p->is_clean;
    p->step = STEP_CLAIMING;
    enum hg_status status = hg_state_write(hg_realm_of(&s->base), HG_SESSION_CLAIM, &r, &p->wait);
    if (status != HG_OK) {
        p->step = STEP_LOOKING; /* nothing was written */
        fail(p, status, HG_BYTES(""));
    }
}

/* Looks again at the record, which must be ours: another may have claimed the session since. */
static bool look_again(struct hg_mqtt_persist *p)
{
    bool has_failed = false;
    hg_session_record_free(p->record);
    p->record = hg_mqtt_persist_find(p->session, &has_failed);
    if (has_failed || p->record == NULL || !hg_mqtt_persist_is_ours(p, p->record)) {
        fail(p, has_failed ? HG_NO_MEMORY : HG_TAKEN_OVER, HG_BYTES(""));
        return false;
    }
    return true;
}

static void on_claimed(struct hg_mqtt_persist *p)
{
    if (!look_again(p)) {
        return;
    }
    if (p->before == NULL) { /* it can be connected elsewhere without being kept */
        hg_state_announce(realm_of(p), hg_mqtt_client_id(p->session));
    }
    if (p->is_clean) {
        publish_will_before(p);
    }
    p->step = STEP_OPENING;
    if (!open_queue(p)) {
        fail(p, HG_NO_MEMORY, HG_BYTES(""));
    }
}

static bool restore_received(struct hg_mqtt_session *s, const struct hg_session_record *r)
{
    if (r->rx_n > 0 && s->in == NULL) {
        s->in = hg_zalloc(sizeof(*s->in));
    }
    for (size_t i = 0; i < r->rx_n; i++) {
        bool is_new = s->in != NULL && hg_mqtt_in_use(s->in, r->rx[i]) == HG_MQTT_FREE;
        if (s->in == NULL || (is_new && !hg_mqtt_in_restore(s->in, r->rx[i]))) {
            return false;
        }
    }
    return true;
}

static void deliver_early(struct hg_mqtt_persist *p)
{
    HG_LIST_FOREACH_SAFE (it, &p->early) {
        struct early *e = HG_LIST_ENTRY(it, struct early, link);
        struct hg_delivery d = {.message = e->message,
                                .address = hg_bytes(e->address, e->address_n),
                                .must_keep = true,
                                .is_redelivered = e->is_redelivered,
                                .queue = p->queue,
                                .ticket = e->ticket};
        if (!hg_conn_is_closing(p->session->base.conn)) {
            hg_mqtt_deliver(&p->session->base, &d, NULL);
        }
        hg_delivery_end(&d);
        free_early(e);
    }
}

/* All is there: the client may go on. */
static void go_on(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    const struct hg_session_record *r = p->record;
    bool is_present = !p->is_clean && (p->before != NULL || p->was_there);
    bool is_unclean = is_present && p->before != NULL && p->before->disconnected_ms == 0 &&
                      r->rx_n + r->tx_n == 0;
    if (!restore_received(s, r)) {
        fail(p, HG_NO_MEMORY, HG_BYTES(""));
        return;
    }
    HG_LOG(s->base.worker->log, HG_LOG_DEBUG, "mqtt.session",
           HG_F_BYTES("client", hg_mqtt_client_id(s)),
           HG_F_STR("was", !is_present  ? "new"
                           : is_unclean ? "broken off"
                                        : "kept"),
           HG_F_UINT("filters", r->filters_n), HG_F_UINT("received", r->rx_n),
           HG_F_UINT("sent", r->tx_n));
    p->step = STEP_READY;
    hg_mqtt_accept(s, is_present);
    if (hg_conn_is_closing(s->base.conn)) {
        return; /* refused after all */
    }
    if (hg_mqtt_resume_deliveries(s, r->tx, r->tx_n, is_unclean) != HG_OK) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    deliver_early(p);
    forget_records(p);
}

static void restore_rest(struct hg_mqtt_persist *p)
{
    if (hg_mqtt_is_restoring(p->session)) {
        p->step = STEP_RESTORING;
    } else {
        go_on(p);
    }
}

void hg_mqtt_restored(struct hg_mqtt_session *s)
{
    struct hg_mqtt_persist *p = s->persist;
    if (p != NULL && p->step == STEP_RESTORING && !hg_conn_is_closing(s->base.conn)) {
        go_on(p);
    }
}

/* From now on the record is to tell a successor nothing of what was in flight: should this process
 * die, it would be true no more. */
static void tidy(struct hg_mqtt_persist *p)
{
    if (p->record->rx_n + p->record->tx_n == 0) {
        restore_rest(p);
        return;
    }
    struct hg_mqtt_inbound scratch;
    struct hg_session_record r = hg_mqtt_persist_head_with_will(p, &scratch);
    r.filters = p->record->filters;
    r.filters_n = p->record->filters_n;
    p->step = STEP_TIDYING;
    enum hg_status status = hg_state_write(realm_of(p), HG_SESSION_UPDATE, &r, &p->wait);
    if (status != HG_OK) {
        fail(p, status, HG_BYTES(""));
    }
}

static void on_consuming(struct hg_mqtt_persist *p, bool has_existed)
{
    const struct hg_session_record *before = p->before;
    p->was_there = has_existed;
    enum hg_status status =
        hg_mqtt_restore_filters(p->session, p->record->filters, p->record->filters_n);
    if (status != HG_OK) {
        fail(p, status, HG_BYTES(""));
        return;
    }
    bool has_handover = !p->is_clean && before != NULL && before->disconnected_ms == 0 &&
                        before->boot_id != worker_of(p)->gateway->boot_id;
    if (!has_handover) {
        tidy(p);
        return;
    }
    p->step = STEP_TAKING;
    hg_state_barrier(realm_of(p), &p->wait);
}

/* ---- An earlier session is to go ---- */

bool hg_mqtt_persist_discard(struct hg_mqtt_session *s)
{
    struct hg_realm *realm = hg_realm_of(&s->base);
    bool has_failed = false;
    struct hg_session_record *before =
        hg_state_is_ready(realm->vhost) ? hg_mqtt_persist_find(s, &has_failed) : NULL;
    if (is_anothers(s, before)) {
        hg_session_record_free(before);
        refuse_anothers(s);
        return true;
    }
    hg_state_announce(realm, hg_mqtt_client_id(s));
    if (before == NULL || !hg_mqtt_persist_open(s, 0, true)) {
        hg_session_record_free(before);
        return false;
    }
    struct hg_mqtt_persist *p = s->persist;
    p->before = before;
    p->step = STEP_FORGETTING;
    const struct hg_session_record r = hg_mqtt_persist_head(p);
    enum hg_status status = hg_state_write(hg_realm_of(&s->base), HG_SESSION_FORGET, &r, &p->wait);
    if (status != HG_OK) {
        hg_mqtt_persist_log(p, "mqtt.session_not_forgotten", status, HG_BYTES(""));
        hg_mqtt_persist_free(s);
    }
    return status == HG_OK;
}

static void on_forgotten(struct hg_mqtt_persist *p, enum hg_status status)
{
    if (status == HG_OK) {
        publish_will_before(p);
        p->step = STEP_DELETING;
        status = open_queue(p) ? HG_OK : HG_NO_MEMORY;
    }
    if (status != HG_OK) {
        hg_mqtt_persist_log(p, "mqtt.session_not_forgotten", status, HG_BYTES(""));
        accept_anew(p);
    }
}

/* ---- What the steps wait for ---- */

static void on_connect_step(struct hg_mqtt_persist *p)
{
    switch (p->step) {
    case STEP_LOOKING: claim(p); break;
    case STEP_CLAIMING: on_claimed(p); break;
    case STEP_TAKING:
        if (look_again(p)) {
            tidy(p);
        }
        break;
    default: restore_rest(p); break; /* STEP_TIDYING */
    }
}

static void on_step_done(struct hg_state_wait *wait, enum hg_status status)
{
    struct hg_mqtt_persist *p = HG_CONTAINER_OF(wait, struct hg_mqtt_persist, wait);
    if (is_connecting(p) && hg_conn_is_closing(p->session->base.conn)) {
        return; /* closed() comes */
    }
    if (p->step == STEP_FORGETTING) {
        on_forgotten(p, status);
    } else if (is_connecting(p) && status != HG_OK) {
        fail(p, status, HG_BYTES(""));
    } else if (is_connecting(p)) {
        on_connect_step(p);
    } else {
        hg_mqtt_leave_written(p, status);
    }
}

static void on_queue_ended(struct hg_mqtt_persist *p, enum hg_status status, struct hg_bytes reason)
{
    struct hg_mqtt_session *s = p->session;
    if (p->step == STEP_DELETING) {
        hg_mqtt_persist_log(p, "mqtt.session_not_forgotten", status, reason);
        p->step = STEP_FORGETTING;
        accept_anew(p);
    } else if (is_connecting(p)) {
        fail(p, status, reason);
    } else if (p->step == STEP_READY) {
        hg_mqtt_persist_log(p, "mqtt.session_queue_lost", status, reason);
        hg_mqtt_end(s, 0, status, "the session's queue is gone");
    }
}

static void on_queue(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct hg_mqtt_persist *p = ctx;
    struct hg_mqtt_session *s = p->session;
    if (status != HG_OK) {
        hg_mqtt_forget_queue(s, p->queue);
        p->queue = NULL;
    }
    if (s->state == HG_MQTT_LEAVING || hg_conn_is_closing(s->base.conn)) {
        return;
    }
    if (status != HG_OK) {
        on_queue_ended(p, status, reason);
    } else if (p->step == STEP_DELETING) {
        accept_anew(p); /* closing it deletes it */
    } else if (p->step == STEP_OPENING) {
        on_consuming(p, has_existed);
    } else {
        HG_LIST_FOREACH_SAFE (it, &p->early) { /* they come again */
            free_early(HG_LIST_ENTRY(it, struct early, link));
        }
        hg_mqtt_deliveries_are_stale(s, p->queue);
    }
}

static const struct hg_queue_ops queue_ops = {.on_state = on_queue};

static void fire(struct hg_timer *timer)
{
    struct hg_mqtt_persist *p = HG_CONTAINER_OF(timer, struct hg_mqtt_persist, timer);
    if (p->step == STEP_READY) {
        tell_saved(p, p->save_status);
    } else {
        hg_mqtt_leave_fired(p);
    }
}

bool hg_mqtt_persist_keeps(struct hg_mqtt_session *s, const struct hg_delivery *d)
{
    struct hg_mqtt_persist *p = s->persist;
    if (d->queue == NULL || p == NULL || d->queue != p->queue) {
        return false;
    }
    struct early *e = hg_alloc(sizeof(*e) + d->address.n);
    if (e == NULL) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
        return true;
    }
    *e = (struct early){.message = hg_message_ref(d->message),
                        .ticket = d->ticket,
                        .is_redelivered = d->is_redelivered,
                        .address_n = (uint32_t)d->address.n};
    if (d->address.n > 0) {
        memcpy(e->address, d->address.p, d->address.n);
    }
    hg_list_add_last(&p->early, &e->link);
    return true;
}
