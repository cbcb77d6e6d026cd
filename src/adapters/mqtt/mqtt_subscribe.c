/* SPDX-License-Identifier: Apache-2.0 */
/* Subscribing. Sections are those of MQTT 5.0. */
#include "adapters/mqtt/mqtt_subscribe.h"

#include "adapters/mqtt/mqtt_deliver.h"
#include "adapters/mqtt/mqtt_group.h"
#include "adapters/mqtt/mqtt_suback.h"
#include "base/mem.h"
#include "core/own.h"

enum {
    FEW_SUBS = 16 /* up to so many are found by looking at each */
};

static struct hg_mqtt_sub *sub_of(struct hg_sub *base)
{
    return HG_CONTAINER_OF(base, struct hg_mqtt_sub, base);
}

static struct hg_bytes filter_of(const struct hg_mqtt_sub *sub)
{
    return hg_bytes(sub->filter, sub->filter_n);
}

/* ---- The client's subscriptions by filter ---- */

static struct hg_mqtt_sub *find_sub(struct hg_mqtt_session *s, struct hg_bytes filter)
{
    if (s->by_filter != NULL) {
        return hg_map_find(s->by_filter, filter);
    }
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (!sub->is_replaced && hg_bytes_eq(filter_of(sub), filter)) {
            return sub;
        }
    }
    return NULL;
}

static void free_map(struct hg_mqtt_session *s)
{
    if (s->by_filter != NULL) {
        hg_map_close(s->by_filter);
        hg_free(s->by_filter);
        s->by_filter = NULL;
    }
}

/* Every subscription is in session.subs, and in the map once there is one. */
static bool has_room_in_map(struct hg_mqtt_session *s)
{
    if (s->by_filter != NULL || s->base.subs_n < FEW_SUBS) {
        return true;
    }
    s->by_filter = hg_zalloc(sizeof(*s->by_filter));
    if (s->by_filter == NULL) {
        return false;
    }
    hg_map_open(s->by_filter);
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (!sub->is_replaced && !hg_map_put(s->by_filter, filter_of(sub), sub)) {
            free_map(s);
            return false;
        }
    }
    return true;
}

/* The map borrows its key from the subscription. */
static bool put_in_map(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub)
{
    if (s->by_filter == NULL) {
        return true;
    }
    hg_map_remove(s->by_filter, filter_of(sub));
    return hg_map_put(s->by_filter, filter_of(sub), sub);
}

/* ---- The end of a subscription ---- */

static void count_no_local(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, bool is_no_local)
{
    if (s->v5 != NULL && sub->is_no_local != is_no_local) {
        s->v5->no_local_n += is_no_local ? 1u : (uint32_t)-1;
    }
    sub->is_no_local = is_no_local;
}

static void close_shared(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, enum hg_queue_end how)
{
    struct hg_queue *queue = sub->is_shared ? sub->u.queue : NULL;
    if (queue != NULL) {
        sub->u.queue = NULL;
        hg_mqtt_forget_queue(s, queue);
        hg_queue_close(queue, how);
    }
}

/* how: a group's queue. */
static void free_sub(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, enum hg_queue_end how)
{
    close_shared(s, sub, how); /* before its bindings go, which are the group's */
    hg_unsubscribe(&sub->base);
    count_no_local(s, sub, false);
    hg_mqtt_suback_pass(s, sub, NULL);
    if (s->by_filter != NULL && hg_map_find(s->by_filter, filter_of(sub)) == sub) {
        hg_map_remove(s->by_filter, filter_of(sub));
    }
    if (s->base.subs_n == 0) {
        free_map(s);
    }
    hg_free(sub);
}

/* With what it was to replace. */
static void end_sub(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub)
{
    while (sub != NULL) {
        struct hg_mqtt_sub *replaced = sub->is_shared ? NULL : sub->u.replaces;
        free_sub(s, sub, HG_QUEUE_DELETE_IF_IDLE);
        sub = replaced;
    }
}

static void log_refused(struct hg_mqtt_session *s, struct hg_bytes filter, enum hg_status status,
                        struct hg_bytes reason)
{
    HG_LOG_LIMITED_BY(s->base.worker->log, HG_LOG_WARN, "mqtt.subscribe_refused",
                      hg_status_text(status), hg_mqtt_client_id(s),
                      HG_F_BYTES("client", hg_mqtt_client_id(s)),
                      HG_F_STR("peer", hg_conn_peer(s->base.conn)), HG_F_BYTES("filter", filter),
                      HG_F_STR("status", hg_status_text(status)), HG_F_BYTES("reason", reason));
}

/* ---- RabbitMQ's answers ---- */

bool hg_mqtt_is_restoring(const struct hg_mqtt_session *s)
{
    HG_LIST_FOREACH (it, &s->base.subs) {
        if (sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link))->is_restored) {
            return true;
        }
    }
    return false;
}

static void on_live(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub)
{
    bool was_restored = sub->is_restored;
    sub->is_granted = true;
    sub->is_restored = false;
    if (!sub->is_shared && sub->u.replaces != NULL) {
        struct hg_mqtt_sub *replaced = sub->u.replaces;
        sub->u.replaces = NULL;
        end_sub(s, replaced);
    }
    hg_mqtt_suback_resolve(s, sub, HG_OK);
    if (was_restored && !hg_mqtt_is_restoring(s)) {
        hg_mqtt_restored(s);
    }
}

/* RabbitMQ has refused it, or has ended it. */
static void on_failed(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, enum hg_status outcome,
                      struct hg_bytes reason)
{
    bool was_granted = sub->is_granted;
    bool was_restored = sub->is_restored;
    struct hg_mqtt_sub *replaced = sub->is_shared ? NULL : sub->u.replaces;
    log_refused(s, filter_of(sub), outcome, reason);
    hg_mqtt_suback_resolve(s, sub, outcome);
    free_sub(s, sub, HG_QUEUE_DELETE_IF_IDLE);
    if (replaced != NULL) { /* the client keeps what it had */
        replaced->is_replaced = false;
        if (!put_in_map(s, replaced)) {
            hg_conn_close(s->base.conn, HG_NO_MEMORY);
        }
    }
    if (was_granted) { /* there is no other word for a subscription that is lost */
        hg_mqtt_end(s, 0, outcome, "a subscription was ended");
    } else if (was_restored) {
        if (!hg_mqtt_is_restoring(s)) {
            hg_mqtt_restored(s);
        }
        (void)hg_mqtt_save(s);
    }
}

void hg_mqtt_subscribed(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                        struct hg_bytes reason)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    struct hg_mqtt_sub *mine = sub_of(sub);
    if (outcome != HG_OK) {
        on_failed(s, mine, outcome, reason);
    } else if (!mine->is_shared || mine->is_served) {
        on_live(s, mine);
    }
}

void hg_mqtt_subscribed_leaving(struct hg_session *base, struct hg_sub *sub, enum hg_status outcome,
                                struct hg_bytes reason)
{
    (void)reason;
    if (outcome != HG_OK) { /* the core has let go of it already: nobody else would find it */
        free_sub(hg_mqtt_session_of(base), sub_of(sub), HG_QUEUE_KEEP);
    }
}

/* Of a shared subscription's queue. */
static void on_queue_state(void *ctx, enum hg_status status, bool has_existed,
                           struct hg_bytes reason)
{
    struct hg_mqtt_sub *sub = ctx;
    struct hg_mqtt_session *s = hg_mqtt_session_of(sub->base.session);
    (void)has_existed;
    if (status != HG_OK) {
        hg_mqtt_forget_queue(s, sub->u.queue);
        sub->u.queue = NULL; /* it has ended by itself */
        on_failed(s, sub, status, reason);
        return;
    }
    if (sub->is_served) {
        hg_mqtt_deliveries_are_stale(s, sub->u.queue);
        return;
    }
    sub->is_served = true;
    if (sub->base.is_live) {
        on_live(s, sub);
    }
}

static const struct hg_queue_ops shared_ops = {.on_state = on_queue_state};

/* ---- The beginning of a subscription ---- */

static enum hg_status open_shared(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                                  const char **why)
{
    struct hg_mqtt_group group;
    uint8_t name[HG_MQTT_GROUP_QUEUE_MAX];
    if (!hg_mqtt_group_read(filter_of(sub), &group)) {
        *why = "a shared subscription is $share/NAME/FILTER"; /* section 4.8.2 */
        return HG_BAD_FILTER;
    }
    const struct hg_config *config = s->base.worker->config;
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {HG_VALUE_STRING, {.bytes = HG_BYTES("classic")}}},
        {HG_BYTES("x-expires"), {HG_VALUE_INT, {.i = (int64_t)config->mqtt_shared_expires_ms}}},
    };
    const struct hg_queue_options options = {
        .name = hg_mqtt_group_queue(&group, hg_own_prefix(hg_realm_of(&s->base)), name),
        .arguments = arguments,
        .arguments_n = sizeof(arguments) / sizeof(arguments[0]),
        .prefetch = hg_mqtt_inflight_max(s),
        .sub = &sub->base,
    };
    sub->u.queue = hg_queue_open(&s->base, &options, &shared_ops, sub);
    if (sub->u.queue == NULL) {
        return HG_NO_MEMORY;
    }
    return hg_subscribe_queue_filter(&s->base, &sub->base, group.filter, sub->u.queue, why);
}

static enum hg_status start(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub, const char **why)
{
    if (sub->is_sys) {
        return hg_mqtt_sys_subscribe(s, sub, why);
    }
    if (sub->is_shared) {
        return open_shared(s, sub, why);
    }
    if (sub->is_on_queue) {
        return hg_subscribe_queue_filter(&s->base, &sub->base, filter_of(sub), hg_mqtt_queue(s),
                                         why);
    }
    return hg_subscribe_filter(&s->base, &sub->base, filter_of(sub), why);
}

/* What SUBSCRIBE says besides the filter. */
static void set_options(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                        const struct hg_session_filter *f)
{
    sub->qos = f->qos;
    sub->base.takes_redelivered = f->qos > 0;
    sub->subscription_id = f->subscription_id;
    sub->retain_handling = f->retain_handling;
    sub->is_retain_as_published = f->is_retain_as_published;
    count_no_local(s, sub, f->is_no_local);
}

static bool belongs_on_queue(const struct hg_mqtt_session *s, const struct hg_mqtt_sub *sub,
                             uint8_t qos)
{
    return !sub->is_shared && !sub->is_sys && qos > 0 && hg_mqtt_queue(s) != NULL;
}

static struct hg_mqtt_sub *new_sub(struct hg_mqtt_session *s, const struct hg_session_filter *f)
{
    struct hg_mqtt_sub *sub = hg_zalloc(sizeof(*sub) + f->filter.n);
    if (sub != NULL) {
        sub->filter_n = (uint16_t)f->filter.n;
        memcpy(sub->filter, f->filter.p, f->filter.n);
        sub->is_shared = hg_mqtt_group_is(f->filter);
        sub->is_sys = hg_mqtt_sys_is_filter(f->filter);
        sub->is_on_queue = belongs_on_queue(s, sub, f->qos);
        set_options(s, sub, f);
    }
    return sub;
}

/* A subscription under way. *out gets it with OK. */
static enum hg_status add_sub(struct hg_mqtt_session *s, const struct hg_session_filter *f,
                              struct hg_mqtt_sub **out, const char **why)
{
    struct hg_mqtt_sub *sub = has_room_in_map(s) ? new_sub(s, f) : NULL;
    if (sub == NULL) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = start(s, sub, why);
    if (status == HG_OK && !put_in_map(s, sub)) {
        status = HG_NO_MEMORY;
    }
    if (status != HG_OK) {
        free_sub(s, sub, HG_QUEUE_DELETE_IF_IDLE);
        return status;
    }
    sub->is_granted = sub->is_sys;
    *out = sub;
    return HG_OK;
}

/* The same filter from another place: the old one goes when the new one is live, so that nothing is
 * lost in between [MQTT-3.8.4-4]. */
static enum hg_status move_sub(struct hg_mqtt_session *s, struct hg_mqtt_sub *old,
                               const struct hg_session_filter *f, struct hg_mqtt_sub **out,
                               const char **why)
{
    old->is_replaced = true;
    enum hg_status status = add_sub(s, f, out, why);
    if (status != HG_OK) {
        old->is_replaced = false;
        return put_in_map(s, old) ? status : HG_NO_MEMORY;
    }
    (*out)->u.replaces = old;
    hg_mqtt_suback_pass(s, old, *out);
    return HG_OK;
}

/* Such a move has not come to its end, and the subscription is wanted where it was. */
static struct hg_mqtt_sub *move_back(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                                     const struct hg_session_filter *f)
{
    struct hg_mqtt_sub *old = sub->u.replaces;
    sub->u.replaces = NULL;
    hg_mqtt_suback_pass(s, sub, old);
    free_sub(s, sub, HG_QUEUE_KEEP);
    old->is_replaced = false;
    set_options(s, old, f);
    if (!put_in_map(s, old)) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    if (old->is_granted) {
        hg_mqtt_suback_resolve(s, old, HG_OK);
    }
    return old;
}

/* A filter of a SUBSCRIBE: a new subscription, or what is there changes [MQTT-3.8.4-3]. */
static enum hg_status subscribe(struct hg_mqtt_session *s, const struct hg_session_filter *f,
                                struct hg_mqtt_place *place, const char **why)
{
    struct hg_mqtt_sub *sub = find_sub(s, f->filter);
    bool is_new = sub == NULL;
    enum hg_status status = HG_OK;
    if (is_new) {
        status = add_sub(s, f, &sub, why);
    } else if (belongs_on_queue(s, sub, f->qos) == sub->is_on_queue) {
        set_options(s, sub, f);
    } else if (!sub->is_shared && sub->u.replaces != NULL) {
        sub = move_back(s, sub, f);
    } else {
        status = move_sub(s, sub, f, &sub, why);
    }
    if (status != HG_OK) {
        return status;
    }
    place->sub = sub;
    place->is_waiting = !sub->is_granted;
    place->wants_retained =
        !sub->is_shared && (f->retain_handling == 0 || (f->retain_handling == 1 && is_new));
    sub->waiting_n++;
    if (!place->is_waiting) {
        hg_mqtt_suback_serve(s, place);
    }
    return HG_OK;
}

/* ---- SUBSCRIBE (section 3.8), UNSUBSCRIBE (section 3.10) ---- */

/* HELD: too many wait for an answer. */
static enum hg_status check_room(struct hg_mqtt_session *s)
{
    if (s->subacks_n == HG_MQTT_SUBACKS_MAX) {
        hg_conn_hold(s->base.conn, HG_HOLD_SESSION);
        return HG_HELD;
    }
    return HG_OK;
}

static void subscribe_place(struct hg_mqtt_session *s, struct hg_mqtt_suback *p,
                            struct hg_mqtt_place *place, const struct hg_session_filter *f)
{
    const char *why = NULL;
    enum hg_status status = subscribe(s, f, place, &why);
    place->code = status == HG_OK ? f->qos : hg_mqtt_suback_code(s, status);
    p->waiting_n += place->is_waiting || place->is_looking;
    if (status == HG_OK) {
        p->must_save = p->must_save || !place->is_waiting;
        return;
    }
    why = why != NULL ? why : hg_status_text(status);
    p->why = p->why != NULL ? p->why : why;
    log_refused(s, f->filter, status, hg_bytes_str(why));
}

enum hg_status hg_mqtt_on_subscribe(struct hg_mqtt_session *s,
                                    const struct hg_mqtt_subscribe *packet, const char **rule)
{
    if (packet->filters_n > s->base.worker->config->max_subscriptions) {
        *rule = "SUBSCRIBE has more topic filters than [limits] max_subscriptions allows";
        hg_worker_refused(s->base.worker, HG_LIMIT_SUBSCRIPTIONS);
        return HG_TOO_MANY;
    }
    enum hg_status status = check_room(s);
    if (status != HG_OK) {
        return status;
    }
    struct hg_mqtt_properties properties = {0};
    if (s->v5 != NULL) {
        hg_mqtt_property_read(packet->properties, &properties);
    }
    struct hg_mqtt_suback *p = hg_mqtt_suback_new(s, HG_MQTT_SUBACK, packet);
    if (p == NULL) {
        return HG_NO_MEMORY;
    }
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    for (size_t i = 0; hg_mqtt_next_filter(&rest, HG_MQTT_SUBSCRIBE, &f); i++) {
        const struct hg_session_filter wanted = {
            .filter = f.filter,
            .subscription_id = properties.subscription_id,
            .qos = f.qos,
            .retain_handling = f.retain_handling,
            .is_no_local = f.is_no_local,
            .is_retain_as_published = f.is_retain_as_published,
        };
        subscribe_place(s, p, &p->places[i], &wanted);
    }
    if (p->waiting_n == 0) {
        hg_mqtt_suback_complete(s, p);
    }
    return HG_OK;
}

enum hg_status hg_mqtt_on_unsubscribe(struct hg_mqtt_session *s,
                                      const struct hg_mqtt_subscribe *packet, const char **rule)
{
    (void)rule;
    enum hg_status status = check_room(s);
    if (status != HG_OK) {
        return status;
    }
    struct hg_mqtt_suback *p = hg_mqtt_suback_new(s, HG_MQTT_UNSUBACK, packet);
    if (p == NULL) {
        return HG_NO_MEMORY;
    }
    struct hg_bytes rest = packet->filters;
    struct hg_mqtt_filter f;
    for (size_t i = 0; hg_mqtt_next_filter(&rest, HG_MQTT_UNSUBSCRIBE, &f); i++) {
        struct hg_mqtt_sub *sub = find_sub(s, f.filter);
        p->places[i].code = sub == NULL ? HG_MQTT_NO_SUBSCRIPTION_EXISTED : HG_MQTT_SUCCESS;
        if (sub != NULL) {
            hg_mqtt_suback_resolve(s, sub, HG_CLOSED); /* a SUBSCRIBE still waiting for it */
            end_sub(s, sub);
            p->must_save = true;
        }
    }
    hg_mqtt_suback_complete(s, p);
    return HG_OK;
}

/* ---- Sessions that are kept ---- */

enum hg_status hg_mqtt_restore_filters(struct hg_mqtt_session *s,
                                       const struct hg_session_filter *filters, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct hg_mqtt_sub *sub = NULL;
        const char *why = NULL;
        enum hg_status status =
            find_sub(s, filters[i].filter) != NULL ? HG_OK : add_sub(s, &filters[i], &sub, &why);
        if (status == HG_NO_MEMORY) {
            return status;
        }
        if (status != HG_OK) { /* the rules have changed meanwhile */
            log_refused(s, filters[i].filter, status, hg_bytes_str(why));
        } else if (sub != NULL) {
            sub->is_restored = !sub->is_granted;
        }
    }
    return HG_OK;
}

bool hg_mqtt_takes_exactly_once(const struct hg_mqtt_session *s)
{
    HG_LIST_FOREACH (it, &s->base.subs) {
        if (sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link))->qos == 2) {
            return true;
        }
    }
    return false;
}

bool hg_mqtt_list_filters(struct hg_mqtt_session *s, struct hg_session_filter **out_own,
                          size_t *n_out)
{
    *n_out = 0;
    *out_own = s->base.subs_n == 0 ? NULL : hg_alloc(s->base.subs_n * sizeof(**out_own));
    if (s->base.subs_n > 0 && *out_own == NULL) {
        return false;
    }
    HG_LIST_FOREACH (it, &s->base.subs) {
        const struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        bool is_kept = sub->is_granted || sub->is_restored;
        if (is_kept) {
            (*out_own)[(*n_out)++] = (struct hg_session_filter){
                .filter = filter_of(sub),
                .subscription_id = sub->subscription_id,
                .qos = sub->qos,
                .retain_handling = sub->retain_handling,
                .is_no_local = sub->is_no_local,
                .is_retain_as_published = sub->is_retain_as_published,
            };
        }
    }
    return true;
}

/* fed_only: not those on the session's own queue. */
static void end_subs(struct hg_mqtt_session *s, bool fed_only)
{
    /* a member that will be back leaves the group's queue as it is */
    enum hg_queue_end how = s->persist != NULL ? HG_QUEUE_KEEP : HG_QUEUE_DELETE_IF_IDLE;
    free_map(s);
    HG_CHAIN_FOREACH_SAFE (it, &s->subacks) {
        struct hg_mqtt_suback *p = HG_CHAIN_ENTRY(it, struct hg_mqtt_suback, link);
        hg_chain_remove(&p->link);
        hg_free(p);
    }
    HG_LIST_FOREACH_SAFE (it, &s->base.subs) {
        struct hg_mqtt_sub *sub = sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        sub->waiting_n = 0;
        if (!fed_only || !sub->is_on_queue) {
            free_sub(s, sub, how);
        }
    }
}

void hg_mqtt_unsubscribe_fed(struct hg_mqtt_session *s)
{
    end_subs(s, true);
}

void hg_mqtt_unsubscribe_all(struct hg_mqtt_session *s)
{
    end_subs(s, false);
}
