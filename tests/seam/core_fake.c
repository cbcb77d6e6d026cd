/* SPDX-License-Identifier: Apache-2.0 */
/* The core that sessions see, kept in lists that the test reads and works off. */
#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/queue.h"
#include "core/retain.h"
#include "core/service.h"
#include "core/slow.h"
#include "message/topic.h"
#include "seam/core_state.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>

struct hg_conn {
    struct core_fake *f;
    const struct hg_adapter *adapter;
    struct hg_session *session; /* NULL once it has been told that it is closed */
    struct hg_writer input;     /* what the session has not used */
    struct hg_writer sent;
    size_t messages_n, pending_bytes;
    enum hg_frame_kind last_kind;
    unsigned held;
    bool is_feeding, is_closing, is_upgraded;
    bool is_released; /* since the last turn */
    enum hg_status why;
    const char *rule;
    uint64_t id, last_read_ms;
    struct hg_listener_spec listener;
};

struct publish {
    struct hg_list link;
    struct hg_session *session;
    uint64_t id;
};

struct hg_sub_link { /* what a subscription holds: here, its source and place in the list */
    struct hg_list link;
    struct hg_sub *sub;
    bool is_source;
    char *exchange, *key; /* of a source */
    char *filter;         /* of one that is bound to a session's queue */
};

struct hg_queue {
    struct hg_list link;
    struct hg_session *session;
    const struct hg_queue_ops *ops;
    void *ctx;
    char *name;
    struct hg_sub *sub;
    bool has_state; /* it was told one */
    uint64_t tag;   /* of its last delivery */
};

struct serving {
    struct hg_list link;
    struct hg_sub *sub;
};

struct declare {
    struct hg_list link;
    struct hg_session *session;
    uint64_t id;
};

struct hg_claim_record {
    struct hg_list link;
    struct hg_claim *claim;
    char *id, *user;
    bool is_owned;
    bool knows_granted, knows_lost;
};

static struct core_fake *core_of(const struct hg_session *s)
{
    return HG_CONTAINER_OF(s->worker, struct core_fake, worker); /* it may have no connection */
}

/* ---- The log of calls ---- */

static void begin_call(struct core_fake *f, const char *name)
{
    core_log(f, name);
}

void core_log(struct core_fake *f, const char *name)
{
    if (hg_writer_n(&f->calls) > 0) {
        hg_writer_str(&f->calls, "; ");
    }
    hg_writer_str(&f->calls, name);
}

static void log_text(struct core_fake *f, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] >= 0x20 && text.p[i] < 0x7f) {
            hg_writer_u8(&f->calls, text.p[i]);
        } else {
            hg_writer_printf(&f->calls, "\\x%02x", text.p[i]);
        }
    }
}

static void log_field(struct core_fake *f, const char *name, struct hg_bytes value)
{
    if (value.n > 0) {
        hg_writer_printf(&f->calls, " %s=", name);
        log_text(f, value);
    }
}

enum { STRINGS_N = 9 };

/* The i-th of the properties that are strings. */
static struct hg_bytes *string_at(struct hg_properties *p, size_t i, const char **name_out)
{
    const struct {
        const char *name;
        struct hg_bytes *at;
    } strings[STRINGS_N] = {
#define X(field) {#field, &p->field}
        X(content_type), X(content_encoding), X(correlation_id),
        X(reply_to),     X(expiration),       X(message_id),
        X(type),         X(user_id),          X(app_id),
#undef X
    };
    *name_out = strings[i].name;
    return strings[i].at;
}

struct hg_bytes *core_property(struct hg_properties *p, struct hg_bytes name)
{
    for (size_t i = 0; i < STRINGS_N; i++) {
        const char *its_name;
        struct hg_bytes *at = string_at(p, i, &its_name);
        if (hg_bytes_eq(name, hg_bytes_str(its_name))) {
            return at;
        }
    }
    return NULL;
}

static void log_properties(struct core_fake *f, struct hg_properties p)
{
    if (p.delivery_mode != 0) {
        hg_writer_printf(&f->calls, " mode=%u", p.delivery_mode);
    }
    for (size_t i = 0; i < STRINGS_N; i++) {
        const char *name;
        struct hg_bytes value = *string_at(&p, i, &name);
        log_field(f, name, value);
    }
    if (p.has_priority) {
        hg_writer_printf(&f->calls, " priority=%u", p.priority);
    }
    if (p.has_timestamp) {
        hg_writer_printf(&f->calls, " timestamp=%llu", (unsigned long long)p.timestamp_s);
    }
    for (size_t i = 0; i < p.headers_n; i++) {
        hg_writer_str(&f->calls, " ");
        log_text(f, p.headers[i].name);
        hg_writer_str(&f->calls, ":");
        hg_value_write_text(&f->calls, &p.headers[i].value);
    }
}

/* ---- core/session.h: publishing ---- */

void hg_session_init(struct hg_session *s, const struct hg_session_ops *ops, enum hg_protocol proto,
                     struct hg_conn *conn, struct hg_worker *worker)
{
    *s = (struct hg_session){.ops = ops, .conn = conn, .worker = worker, .proto = (uint8_t)proto};
    hg_list_init(&s->subs);
}

static void log_publish(struct core_fake *f, const struct hg_publish_args *args)
{
    begin_call(f, "publish ");
    if (args->is_direct) {
        log_text(f, args->exchange);
        hg_writer_str(&f->calls, " ");
        log_text(f, args->key);
    } else {
        log_text(f, args->address);
    }
    log_properties(f, args->properties);
    const struct hg_properties marks = {.headers = args->marks, .headers_n = args->marks_n};
    log_properties(f, marks);
    log_field(f, "from", args->sender);
    hg_writer_str(&f->calls, args->is_exactly_once ? " once" : "");
    hg_writer_str(&f->calls, args->is_retained ? " retained" : "");
    log_field(f, "client", args->client_id);
    log_field(f, "user", args->user);
    hg_writer_str(&f->calls, args->is_mandatory ? " mandatory [" : " [");
    log_text(f, args->body);
    hg_writer_str(&f->calls, "]");
}

static void note_publish(struct core_fake *f, struct hg_session *s, uint64_t id)
{
    struct publish *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->session = s;
    p->id = id;
    hg_list_add_last(&f->publishes, &p->link);
}

static enum hg_status check_address(const struct core_fake *f, const struct hg_publish_args *args,
                                    const char **why_out)
{
    const struct hg_topic_limits limits = {.max_bytes = (size_t)f->config.max_topic_bytes,
                                           .max_levels = (size_t)f->config.max_topic_levels};
    *why_out = args->is_direct ? NULL : hg_topic_check_address(args->address, &limits);
    return *why_out == NULL ? HG_OK : HG_BAD_ADDRESS;
}

const struct hg_rule_who *hg_session_who(struct hg_session *s, struct hg_rule_who *room)
{
    (void)s;
    (void)room;
    return NULL;
}

enum hg_status hg_access_deny(struct hg_session *s, const char *action, struct hg_bytes subject,
                              const char *rule)
{
    (void)s;
    (void)action;
    (void)subject;
    (void)rule;
    return HG_NOT_ALLOWED;
}

enum hg_status hg_access_queue(struct hg_session *s, enum hg_access_action action,
                               struct hg_bytes queue, const char **why_out)
{
    (void)s;
    (void)action;
    (void)queue;
    (void)why_out;
    return HG_OK;
}

enum hg_status hg_publish_check(struct hg_session *s, const struct hg_publish_args *args,
                                const char **why_out)
{
    enum hg_status status = check_address(core_of(s), args, why_out);
    enum hg_status later = core_of(s)->publish_status;
    bool may_pass = later == HG_HELD || later == HG_BUSY || later == HG_BROKER_AWAY;
    return status != HG_OK || may_pass ? status : later;
}

enum hg_status hg_publish(struct hg_session *s, const struct hg_publish_args *args,
                          struct hg_published *published_out, const char **why_out)
{
    struct core_fake *f = core_of(s);
    if (check_address(f, args, why_out) != HG_OK) {
        return HG_BAD_ADDRESS;
    }
    if (published_out != NULL) {
        *published_out = (struct hg_published){
            .exchange = HG_BYTES("x"), .key = HG_BYTES("k"), .on_reject = f->on_reject};
    }
    enum hg_status status = f->publish_status;
    if (status == HG_HELD && args->never_held) {
        status = HG_BUSY;
    }
    if (status == HG_HELD) {
        assert_false(s->conn->is_closing); /* it would never come again */
        hg_conn_hold(s->conn, HG_HOLD_UPSTREAM);
    }
    if (status == HG_OK) {
        log_publish(f, args);
        if (args->wants_outcome) {
            note_publish(f, s, args->id);
        }
    }
    return status;
}

static struct hg_list *nth(struct hg_list *head, size_t n)
{
    struct hg_list *it = head->next;
    while (n > 0 && it != head) {
        it = it->next;
        n--;
    }
    assert_ptr_not_equal(it, head); /* there is no such one */
    return it;
}

void core_settle(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason)
{
    struct publish *p = HG_LIST_ENTRY(nth(&f->publishes, n), struct publish, link);
    struct publish settled = *p;
    hg_list_remove(&p->link);
    free(p);
    settled.session->ops->settled(settled.session, settled.id, outcome, hg_bytes_str(reason));
}

/* ---- core/session.h: subscribing ---- */

static char *text_of(struct hg_bytes b)
{
    char *text = malloc(b.n + 1);
    assert_non_null(text);
    memcpy(text, b.n == 0 ? (const uint8_t *)"" : b.p, b.n);
    text[b.n] = '\0';
    return text;
}

static void begin_sub(struct hg_session *s, struct hg_sub *sub)
{
    struct core_fake *f = core_of(s);
    sub->links = calloc(1, sizeof(*sub->links));
    assert_non_null(sub->links);
    sub->links->sub = sub;
    sub->session = s;
    sub->is_live = false;
    hg_list_add_last(&s->subs, &sub->session_link);
    hg_list_add_last(&f->subs, &sub->links->link);
    s->subs_n++;
}

enum hg_status hg_subscribe_filter(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter,
                                   const char **why_out)
{
    struct core_fake *f = core_of(s);
    const struct hg_topic_limits limits = {.max_bytes = (size_t)f->config.max_topic_bytes,
                                           .max_levels = (size_t)f->config.max_topic_levels};
    *why_out = hg_topic_check_filter(filter, &limits);
    if (*why_out != NULL) {
        return HG_BAD_FILTER;
    }
    if (s->subs_n >= f->config.max_subscriptions) {
        return HG_TOO_MANY;
    }
    if (f->subscribe_status != HG_OK) {
        return f->subscribe_status;
    }
    if (!hg_trie_add(f->index, filter, &sub->entry)) {
        return HG_NO_MEMORY;
    }
    sub->index = f->index;
    begin_sub(s, sub);
    begin_call(f, "subscribe ");
    log_text(f, filter);
    return HG_OK;
}

enum hg_status hg_subscribe_index(struct hg_session *s, struct hg_sub *sub, struct hg_trie *index,
                                  struct hg_bytes filter, const char **why_out)
{
    struct core_fake *f = core_of(s);
    *why_out = NULL;
    if (s->subs_n >= f->config.max_subscriptions) {
        return HG_TOO_MANY;
    }
    if (index != NULL && !hg_trie_add(index, filter, &sub->entry)) {
        return HG_NO_MEMORY;
    }
    sub->index = index;
    begin_sub(s, sub);
    sub->is_live = true;
    return HG_OK;
}

static void log_queue(struct core_fake *f, const struct hg_queue_spec *spec)
{
    hg_writer_str(&f->calls, " declare");
    log_field(f, "name", spec->name);
    hg_writer_printf(&f->calls, "%s%s%s", spec->is_durable ? " durable" : "",
                     spec->is_exclusive ? " exclusive" : "",
                     spec->is_auto_delete ? " auto-delete" : "");
    const struct hg_properties arguments = {.headers = spec->arguments,
                                            .headers_n = spec->arguments_n};
    log_properties(f, arguments);
}

enum hg_status hg_subscribe_source(struct hg_session *s, struct hg_sub *sub,
                                   const struct hg_source *source, const char **why_out)
{
    struct core_fake *f = core_of(s);
    *why_out = NULL;
    if (s->subs_n >= f->config.max_subscriptions) {
        return HG_TOO_MANY;
    }
    if (f->subscribe_status != HG_OK) {
        return f->subscribe_status;
    }
    begin_sub(s, sub);
    sub->links->is_source = true;
    sub->links->exchange = text_of(source->exchange);
    sub->links->key = text_of(source->key);
    begin_call(f, "subscribe");
    log_field(f, "exchange", source->exchange);
    log_field(f, "key", source->key);
    return HG_OK;
}

static void forget_servings(struct core_fake *f, const struct hg_sub *sub)
{
    HG_LIST_FOREACH_SAFE (it, &f->servings) {
        struct serving *serving = HG_LIST_ENTRY(it, struct serving, link);
        if (serving->sub == sub) {
            hg_list_remove(it);
            free(serving);
        }
    }
}

void hg_unsubscribe(struct hg_sub *sub)
{
    struct hg_session *s = sub->session;
    if (s == NULL) {
        return;
    }
    struct core_fake *f = core_of(s);
    if (sub->index != NULL && sub->index != f->index) {
        hg_trie_remove(sub->index, &sub->entry); /* hg_subscribe_index: nothing of RabbitMQ */
    } else if (sub->links->is_source) {
        begin_call(f, "unsubscribe");
        log_field(f, "exchange", hg_bytes_str(sub->links->exchange));
        log_field(f, "key", hg_bytes_str(sub->links->key));
    } else if (sub->links->filter != NULL) {
        begin_call(f, "unsubscribe ");
        log_text(f, hg_bytes_str(sub->links->filter));
    } else if (sub->index != NULL) {
        begin_call(f, "unsubscribe ");
        hg_trie_write_pattern(f->index, &sub->entry, &f->calls);
        hg_trie_remove(f->index, &sub->entry);
    }
    forget_servings(f, sub);
    hg_list_remove(&sub->links->link);
    free(sub->links->filter);
    free(sub->links->exchange);
    free(sub->links->key);
    free(sub->links);
    sub->links = NULL;
    hg_list_remove(&sub->session_link);
    s->subs_n--;
    sub->session = NULL;
    sub->is_live = false;
}

/* The n-th subscription that is live or, if not, waits. */
static struct hg_sub *nth_sub(const struct core_fake *f, size_t n, bool is_live)
{
    HG_LIST_FOREACH (it, &f->subs) {
        struct hg_sub *sub = HG_LIST_ENTRY(it, struct hg_sub_link, link)->sub;
        if (sub->is_live == is_live && n-- == 0) {
            return sub;
        }
    }
    return NULL;
}

static void answer(struct hg_sub *sub, enum hg_status outcome, const char *reason)
{
    struct hg_session *s = sub->session;
    if (outcome == HG_OK) {
        sub->is_live = true;
    } else {
        hg_unsubscribe(sub);
    }
    s->ops->subscribed(s, sub, outcome, hg_bytes_str(reason));
}

void core_answer(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason)
{
    struct hg_sub *sub = nth_sub(f, n, false);
    assert_non_null(sub);
    answer(sub, outcome, reason);
}

bool core_has_waiting(const struct core_fake *f)
{
    return nth_sub(f, 0, false) != NULL;
}

void core_end_sub(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason)
{
    struct hg_sub *sub = nth_sub(f, n, true);
    assert_non_null(sub);
    answer(sub, outcome, reason);
}

enum hg_status hg_declare_queue(struct hg_session *s, const struct hg_queue_spec *spec, uint64_t id)
{
    struct core_fake *f = core_of(s);
    struct declare *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    d->session = s;
    d->id = id;
    hg_list_add_last(&f->declares, &d->link);
    begin_call(f, "");
    log_queue(f, spec);
    return HG_OK;
}

enum hg_status hg_delete_queue(struct hg_session *s, struct hg_bytes name, uint64_t id)
{
    struct core_fake *f = core_of(s);
    struct declare *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    d->session = s;
    d->id = id;
    hg_list_add_last(&f->declares, &d->link);
    begin_call(f, "delete ");
    log_text(f, name);
    return HG_OK;
}

void core_declared(struct core_fake *f, size_t n, enum hg_status outcome, const char *reason)
{
    struct declare *d = HG_LIST_ENTRY(nth(&f->declares, n), struct declare, link);
    struct declare done = *d;
    hg_list_remove(&d->link);
    free(d);
    done.session->ops->declared(done.session, done.id, outcome, hg_bytes_str(reason));
}

/* ---- core/login.h ---- */

static enum hg_status log_in(struct hg_session *s, const char *call, const struct hg_credentials *c,
                             const char **why)
{
    struct core_fake *f = core_of(s);
    *why = f->login_status == HG_OK ? NULL : "told to";
    if (!f->config.has_identities) {
        return HG_OK;
    }
    begin_call(f, call);
    log_field(f, "user", c->user);
    log_field(f, "secret", c->secret);
    hg_writer_str(&f->calls, c->is_token ? " token" : "");
    if (f->login_status == HG_HELD) {
        hg_conn_hold(s->conn, HG_HOLD_LOGIN);
    } else if (f->login_status == HG_OK) {
        hg_identity_unref(s->identity);
        s->identity = hg_identity_ref(f->identity);
    }
    return f->login_status;
}

enum hg_status hg_session_login(struct hg_session *s, const struct hg_credentials *c,
                                const char **why_out)
{
    return log_in(s, "login", c, why_out);
}

enum hg_status hg_session_renew(struct hg_session *s, struct hg_bytes token, const char **why_out)
{
    return log_in(s, "renew", &(struct hg_credentials){.secret = token, .is_token = true}, why_out);
}

void hg_session_detach(struct hg_session *s)
{
    struct core_fake *f = core_of(s);
    hg_identity_unref(s->identity);
    s->identity = NULL;
    HG_LIST_FOREACH_SAFE (it, &s->subs) {
        hg_unsubscribe(HG_LIST_ENTRY(it, struct hg_sub, session_link));
    }
    HG_LIST_FOREACH_SAFE (it, &f->publishes) {
        struct publish *p = HG_LIST_ENTRY(it, struct publish, link);
        if (p->session == s) {
            hg_list_remove(it);
            free(p);
        }
    }
    HG_LIST_FOREACH_SAFE (it, &f->declares) {
        struct declare *d = HG_LIST_ENTRY(it, struct declare, link);
        if (d->session == s) {
            hg_list_remove(it);
            free(d);
        }
    }
}

/* ---- core/queue.h ---- */

static void log_arguments(struct core_fake *f, const char *whose, const struct hg_header *items,
                          size_t n)
{
    const struct hg_properties arguments = {.headers = items, .headers_n = n};
    hg_writer_str(&f->calls, n > 0 ? whose : "");
    log_properties(f, arguments);
}

struct hg_queue *hg_queue_open(struct hg_session *s, const struct hg_queue_options *options,
                               const struct hg_queue_ops *ops, void *ctx)
{
    struct core_fake *f = core_of(s);
    struct hg_queue *q = calloc(1, sizeof(*q));
    assert_non_null(q);
    *q = (struct hg_queue){
        .session = s, .ops = ops, .ctx = ctx, .name = text_of(options->name), .sub = options->sub};
    hg_list_add_last(&f->queues, &q->link);
    begin_call(f, "open ");
    log_text(f, options->name);
    hg_writer_printf(&f->calls, " prefetch=%u", options->prefetch);
    const struct {
        bool is_set;
        const char *word;
    } flags[] = {
        {options->is_fresh, " fresh"},      {options->is_exclusive, " exclusive"},
        {options->must_exist, " existing"}, {options->is_whole, " whole"},
        {options->is_by_name, " by-name"},  {options->is_auto, " auto"},
        {options->must_match, " matching"}, {options->is_transient, " transient"},
        {options->is_private, " private"},  {options->is_auto_delete, " auto-delete"},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        hg_writer_str(&f->calls, flags[i].is_set ? flags[i].word : "");
    }
    log_field(f, "filter", options->filter);
    log_arguments(f, "", options->arguments, options->arguments_n);
    log_arguments(f, " consume", options->consumer_arguments, options->consumer_arguments_n);
    log_arguments(f, " match", options->binding_arguments, options->binding_arguments_n);
    return q;
}

static enum hg_status log_answer(struct hg_queue *q, const char *what, struct hg_ticket ticket)
{
    struct core_fake *f = core_of(q->session);
    begin_call(f, what);
    hg_writer_printf(&f->calls, " %llu", (unsigned long long)ticket.tag);
    return f->is_queue_stale ? HG_STALE : HG_OK;
}

enum hg_status hg_queue_ack(struct hg_queue *q, struct hg_ticket ticket)
{
    return log_answer(q, "ack", ticket);
}

enum hg_status hg_queue_nack(struct hg_queue *q, struct hg_ticket ticket, bool is_requeue)
{
    return log_answer(q, is_requeue ? "requeue" : "reject", ticket);
}

static void free_queue(struct hg_queue *q)
{
    hg_list_remove(&q->link);
    free(q->name);
    free(q);
}

void hg_queue_close(struct hg_queue *q, enum hg_queue_end how)
{
    static const char *const names[] = {"keep", "delete", "delete-if-idle"};
    if (q != NULL) {
        begin_call(core_of(q->session), "close ");
        log_text(core_of(q->session), hg_bytes_str(q->name));
        hg_writer_printf(&core_of(q->session)->calls, " %s", names[how]);
        free_queue(q);
    }
}

enum hg_status hg_subscribe_queue_filter(struct hg_session *s, struct hg_sub *sub,
                                         struct hg_bytes filter, struct hg_queue *q,
                                         const char **why_out)
{
    struct core_fake *f = core_of(s);
    *why_out = NULL;
    if (s->subs_n >= f->config.max_subscriptions) {
        return HG_TOO_MANY;
    }
    if (f->subscribe_status != HG_OK) {
        return f->subscribe_status;
    }
    begin_sub(s, sub);
    sub->links->filter = text_of(filter);
    begin_call(f, "subscribe ");
    log_text(f, filter);
    hg_writer_str(&f->calls, " on ");
    log_text(f, hg_bytes_str(q->name));
    return HG_OK;
}

enum hg_status hg_subscribe_queue_source(struct hg_session *s, struct hg_sub *sub,
                                         const struct hg_source *source, struct hg_queue *q,
                                         const char **why_out)
{
    enum hg_status status = hg_subscribe_source(s, sub, source, why_out);
    if (status == HG_OK) {
        hg_writer_str(&core_of(s)->calls, " on ");
        log_text(core_of(s), hg_bytes_str(q->name));
    }
    return status;
}

enum hg_status hg_queue_of_filter(struct hg_session *s, struct hg_bytes filter,
                                  struct hg_bytes *queue_out, const char **why_out)
{
    (void)filter;
    *queue_out = hg_bytes_str(core_of(s)->rule_queue);
    *why_out = NULL;
    return HG_OK;
}

static void tell_queue(struct hg_queue *q, enum hg_status status, const char *reason)
{
    struct hg_queue told = *q;
    q->has_state = true;
    if (status != HG_OK) {
        told.name = NULL;
        free_queue(q);
    }
    told.ops->on_state(told.ctx, status, core_of(told.session)->has_queues, hg_bytes_str(reason));
}

void core_queue_is(struct core_fake *f, size_t n, enum hg_status status, const char *reason)
{
    tell_queue(HG_LIST_ENTRY(nth(&f->queues, n), struct hg_queue, link), status, reason);
}

static struct hg_queue *queue_named(struct core_fake *f, const char *name, bool must_be_new)
{
    HG_LIST_FOREACH (it, &f->queues) {
        struct hg_queue *q = HG_LIST_ENTRY(it, struct hg_queue, link);
        if (must_be_new ? !q->has_state : strcmp(q->name, name) == 0) {
            return q;
        }
    }
    return NULL;
}

const char *core_queue(const struct core_fake *f, size_t n)
{
    HG_LIST_FOREACH (it, &f->queues) {
        const struct hg_queue *q = HG_LIST_ENTRY(it, struct hg_queue, link);
        if (q->has_state && n-- == 0) {
            return q->name;
        }
    }
    return NULL;
}

/* ---- core/retain.h ---- */

enum hg_status hg_retained_serve(struct hg_session *s, struct hg_sub *sub, struct hg_bytes filter)
{
    struct serving *serving = calloc(1, sizeof(*serving));
    assert_non_null(serving);
    serving->sub = sub;
    hg_list_add_last(&core_of(s)->servings, &serving->link);
    begin_call(core_of(s), "serve ");
    log_text(core_of(s), filter);
    return HG_OK;
}

enum hg_status hg_retained_serve_then(struct hg_session *s, struct hg_sub *sub,
                                      struct hg_bytes filter,
                                      void (*found)(struct hg_session *s, struct hg_sub *sub))
{
    (void)found; /* as if it were at once */
    return hg_retained_serve(s, sub, filter);
}

void hg_retained_resume(struct hg_session *s)
{
    (void)s;
}

/* ---- Deliveries ---- */

static bool is_wanted(const struct hg_sub_link *link, const struct core_delivery *d)
{
    if (link->filter != NULL) {
        return false; /* its queue brings it */
    }
    if (!link->is_source && link->sub->index != core_of(link->sub->session)->index) {
        return false; /* hg_subscribe_index */
    }
    if (d->is_redelivered && !d->must_keep && !link->sub->takes_redelivered) {
        return false;
    }
    if (!link->is_source) {
        struct hg_writer filter = {0};
        hg_trie_write_pattern(link->sub->index, &link->sub->entry, &filter);
        bool matches = d->address != NULL &&
                       hg_topic_matches(hg_writer_view(&filter), hg_bytes_str(d->address));
        hg_writer_close(&filter);
        return matches;
    }
    return d->exchange != NULL && strcmp(link->exchange, d->exchange) == 0 &&
           hg_binding_matches(hg_bytes_str(link->key), hg_bytes_str(d->key));
}

/* Calls deliver for the subscriptions of one session: once with all of them, or once for each. */
static void hand_over(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    while (matches != NULL && !s->conn->is_closing) {
        struct hg_sub *next = s->merges_overlaps ? NULL : matches->next_match;
        matches->next_match = s->merges_overlaps ? matches->next_match : NULL;
        s->ops->deliver(s, d, matches);
        matches = next;
    }
}

static void end_delivery(struct hg_delivery *d)
{
    hg_delivery_end(d);
    hg_message_unref(d->message);
}

/* Out of a queue, or one that was retained. */
static void deliver_to_one(struct core_fake *f, struct hg_delivery *delivery,
                           const struct core_delivery *d)
{
    struct hg_sub *sub = NULL;
    struct hg_session *s = core_session(f->conn);
    if (d->from != NULL) {
        delivery->queue = queue_named(f, d->from, false);
        assert_non_null(delivery->queue);
        delivery->ticket.tag = ++delivery->queue->tag;
        sub = delivery->queue->sub;
        s = delivery->queue->session;
    } else {
        assert_false(hg_list_is_empty(&f->servings));
        sub = HG_LIST_ENTRY(f->servings.next, struct serving, link)->sub;
    }
    if (sub != NULL) {
        sub->next_match = NULL;
    }
    if (s != NULL && s->conn != NULL && !s->conn->is_closing) {
        s->ops->deliver(s, delivery, sub);
    }
    end_delivery(delivery);
}

void core_deliver(struct core_fake *f, const struct core_delivery *d)
{
    const struct hg_message_parts parts = {.exchange = hg_bytes_str(d->exchange),
                                           .routing_key = hg_bytes_str(d->key),
                                           .properties = d->properties,
                                           .body = d->body};
    struct hg_message *message = hg_message_new(&parts);
    if (message == NULL) {
        return; /* a test that fails allocations: the delivery has not come */
    }
    struct hg_delivery delivery = {.message = message,
                                   .address = hg_bytes_str(d->address),
                                   .must_keep = d->must_keep,
                                   .is_redelivered = d->is_redelivered,
                                   .is_retained = d->is_retained};
    if (d->from != NULL || d->is_retained) {
        deliver_to_one(f, &delivery, d);
        return;
    }
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        struct hg_sub *first = NULL;
        struct hg_sub **last = &first;
        HG_LIST_FOREACH (it, &f->subs) {
            struct hg_sub_link *link = HG_LIST_ENTRY(it, struct hg_sub_link, link);
            if (link->sub->session == f->conns[i]->session && is_wanted(link, d)) {
                link->sub->next_match = NULL;
                *last = link->sub;
                last = &link->sub->next_match;
            }
        }
        hand_over(f->conns[i]->session, &delivery, first);
    }
    end_delivery(&delivery);
}

/* ---- core/conn.h ---- */

static void feed(struct hg_conn *c)
{
    struct hg_error err = {.status = HG_OK};
    struct hg_bytes in = hg_writer_view(&c->input);
    uint8_t *block = malloc(in.n + 1); /* of exactly its size: reading past it is found */
    assert_non_null(block);
    if (in.n > 0) {
        memcpy(block, in.p, in.n);
    }
    c->is_feeding = true;
    ssize_t used = c->session->ops->feed(c->session, hg_bytes(block, in.n), &err);
    c->is_feeding = false;
    free(block);
    if (used < 0) {
        assert_int_not_equal(err.status, HG_OK);
        c->rule = err.rule;
        hg_conn_finish(c, err.status);
        return;
    }
    assert_in_range(used, 0, in.n);
    struct hg_writer rest = {0};
    hg_writer_bytes(&rest, hg_bytes_skip(in, (size_t)used));
    hg_writer_close(&c->input);
    c->input = rest;
}

void core_feed(struct core_fake *f, struct hg_bytes in)
{
    struct hg_conn *c = f->conn;
    if (c->is_closing) {
        return;
    }
    c->last_read_ms = hg_clock_ms();
    hg_writer_bytes(&c->input, in);
    if (c->held == 0 && in.n > 0) {
        feed(c);
    }
}

enum hg_status hg_conn_send_kind(struct hg_conn *c, enum hg_frame_kind kind,
                                 const struct hg_part *parts, size_t parts_n)
{
    if (c->is_closing) {
        return HG_CLOSED;
    }
    for (size_t i = 0; i < parts_n; i++) {
        const struct hg_part *p = &parts[i];
        bool is_inside =
            p->buf == NULL || p->bytes.n == 0 ||
            (p->bytes.p >= p->buf->data && p->bytes.p + p->bytes.n <= p->buf->data + p->buf->n);
        assert_true(is_inside);
        hg_writer_bytes(&c->sent, p->bytes);
    }
    c->messages_n++;
    c->last_kind = kind;
    return HG_OK;
}

enum hg_status hg_conn_send(struct hg_conn *c, const struct hg_part *parts, size_t parts_n)
{
    return hg_conn_send_kind(c, c->adapter->ws_frame_kind, parts, parts_n);
}

enum hg_status hg_conn_send_bytes(struct hg_conn *c, struct hg_bytes bytes)
{
    return hg_conn_send(c, &(struct hg_part){NULL, bytes}, 1);
}

enum hg_status hg_conn_send_buf(struct hg_conn *c, struct hg_buf *buf)
{
    return hg_conn_send(c, &(struct hg_part){buf, hg_buf_bytes(buf)}, 1);
}

size_t hg_conn_pending(const struct hg_conn *c)
{
    return c->pending_bytes;
}

bool hg_conn_is_full(const struct hg_conn *c, size_t n)
{
    return c->pending_bytes + n > c->f->config.outbound_high_bytes;
}

/* Without a backlog: what would wait there is dropped. */
bool hg_slow_admits(struct hg_session *s, const struct hg_delivery *d, struct hg_sub *matches,
                    size_t n)
{
    const struct core_fake *f = core_of(s);
    assert_true(matches != NULL || d->queue != NULL);
    if (d->must_keep || d->is_retained || d->queue != NULL || !hg_conn_is_full(s->conn, n)) {
        return true;
    }
    hg_count(&s->worker->metrics.proto[s->proto].dropped, 1);
    if (f->slow == HG_SLOW_DISCONNECT) {
        s->ops->too_slow(s);
    } else if (s->ops->dropped != NULL) {
        s->ops->dropped(s);
    }
    return false;
}

void hg_conn_hold(struct hg_conn *c, enum hg_hold bit)
{
    c->held |= bit;
}

void hg_conn_release(struct hg_conn *c, enum hg_hold bit)
{
    c->is_released = c->is_released || (c->held & bit) != 0;
    c->held &= ~(unsigned)bit;
}

bool hg_conn_is_held(const struct hg_conn *c)
{
    return c->held != 0;
}

void hg_conn_finish(struct hg_conn *c, enum hg_status why)
{
    if (!c->is_closing) {
        c->is_closing = true;
        c->why = why;
    }
}

void hg_conn_close(struct hg_conn *c, enum hg_status why)
{
    hg_conn_finish(c, why);
}

bool hg_conn_is_closing(const struct hg_conn *c)
{
    return c->is_closing;
}

bool hg_conn_upgrade(struct hg_conn *c, struct hg_bytes early, const struct hg_adapter *adapter,
                     const char *subprotocol, uint32_t max_message_bytes)
{
    (void)max_message_bytes;
    assert_true(c->is_feeding);
    struct hg_session *s = adapter->open(&c->f->worker, c, &c->listener, subprotocol);
    if (s == NULL) {
        return false;
    }
    begin_call(c->f, "upgrade");
    log_field(c->f, "to", hg_bytes_str(adapter->name));
    log_field(c->f, "subprotocol", hg_bytes_str(subprotocol));
    log_field(c->f, "early", early);
    c->session->ops->closed(c->session, HG_OK);
    c->session = s;
    c->adapter = adapter;
    c->is_upgraded = true;
    return true;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    (void)c;
    return "192.0.2.1:1024";
}

uint64_t hg_conn_id(const struct hg_conn *c)
{
    return c->id;
}

const struct hg_listener_spec *hg_conn_listener(const struct hg_conn *c)
{
    return &c->listener;
}

uint64_t hg_conn_last_read_ms(const struct hg_conn *c)
{
    return c->last_read_ms;
}

/* ---- core/directory.h ---- */

enum hg_status hg_claim_open(struct hg_realm *realm, struct hg_claim *claim,
                             const struct hg_claim_who *who, const struct hg_claim_ops *ops)
{
    struct core_fake *f = HG_CONTAINER_OF(realm, struct core_fake, realm);
    HG_LIST_FOREACH (it, &f->claims) {
        const struct hg_claim_record *other = HG_LIST_ENTRY(it, struct hg_claim_record, link);
        if (who->is_owned && other->is_owned && !other->knows_lost &&
            hg_bytes_eq(who->client_id, hg_bytes_str(other->id)) &&
            !hg_bytes_eq(who->user, hg_bytes_str(other->user))) {
            return HG_NOT_ALLOWED;
        }
    }
    struct hg_claim_record *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->claim = claim;
    r->id = text_of(who->client_id);
    r->user = text_of(who->user);
    r->is_owned = who->is_owned;
    hg_list_add_last(&f->claims, &r->link);
    *claim = (struct hg_claim){.ops = ops, .record = r, .epoch = ++f->epoch};
    return HG_OK;
}

struct hg_bytes hg_claim_id(const struct hg_claim *claim)
{
    return hg_bytes_str(claim->record == NULL ? NULL : claim->record->id);
}

void hg_claim_yield(struct hg_claim *claim)
{
    claim->record->is_owned = false;
}

void hg_claim_close(struct hg_claim *claim)
{
    struct hg_claim_record *r = claim->record;
    if (r != NULL) {
        hg_list_remove(&r->link);
        free(r->id);
        free(r->user);
        free(r);
        claim->record = NULL;
    }
}

void core_evict(struct core_fake *f, uint64_t epoch)
{
    HG_LIST_FOREACH (it, &f->claims) {
        struct hg_claim_record *r = HG_LIST_ENTRY(it, struct hg_claim_record, link);
        if (r->claim->epoch == epoch && !r->knows_lost) {
            r->knows_lost = true;
            r->claim->ops->on_lost(r->claim, HG_TAKEN_OVER);
            return;
        }
    }
}

void core_lose(struct core_fake *f, enum hg_status why)
{
    HG_LIST_FOREACH (it, &f->claims) {
        struct hg_claim_record *r = HG_LIST_ENTRY(it, struct hg_claim_record, link);
        if (!r->knows_lost) {
            r->knows_lost = true;
            r->claim->ops->on_lost(r->claim, why);
            return;
        }
    }
}

/* One claim that has something to hear hears it; false if none has. The later claim wins. */
static bool tell_claim(struct core_fake *f)
{
    HG_LIST_FOREACH (it, &f->claims) {
        struct hg_claim_record *r = HG_LIST_ENTRY(it, struct hg_claim_record, link);
        bool is_first = true;
        bool is_last = true;
        bool is_before = true;
        HG_LIST_FOREACH (at, &f->claims) {
            const struct hg_claim_record *other = HG_LIST_ENTRY(at, struct hg_claim_record, link);
            is_before = is_before && other != r;
            if (other != r && strcmp(other->id, r->id) == 0) {
                *(is_before ? &is_first : &is_last) = false;
            }
        }
        if (!is_last && !r->knows_lost) {
            r->knows_lost = true;
            r->claim->ops->on_lost(r->claim, HG_TAKEN_OVER);
            return true;
        }
        if (is_first && is_last && !r->knows_granted && !f->is_withholding_claims) {
            r->knows_granted = true;
            r->claim->ops->on_granted(r->claim);
            return true;
        }
    }
    return false;
}

/* ---- core/worker.h, and the loop ---- */

void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms)
{
    hg_wheel_set(&w->wheel, t, hg_clock_ms() + delay_ms);
}

static bool turn_conn(struct hg_conn *c)
{
    if (c->session == NULL) {
        return false;
    }
    if (c->is_closing) {
        struct hg_session *s = c->session;
        s->ops->closed(s, c->why);
        c->session = NULL;
        return true;
    }
    bool is_due = c->is_released && c->held == 0;
    c->is_released = c->is_released && c->held != 0;
    if (is_due && hg_writer_n(&c->input) > 0) {
        feed(c);
    }
    return is_due;
}

void core_turn(struct core_fake *f)
{
    hg_wheel_advance(&f->worker.wheel, hg_clock_ms());
    bool has_happened = true;
    while (has_happened) {
        has_happened = tell_claim(f);
        struct hg_sub *waiting = f->is_answering ? nth_sub(f, 0, false) : NULL;
        if (waiting != NULL) {
            answer(waiting, HG_OK, "");
            has_happened = true;
        }
        struct hg_queue *q = f->is_answering ? queue_named(f, NULL, true) : NULL;
        if (q != NULL) {
            tell_queue(q, HG_OK, "");
            has_happened = true;
        }
        if (core_state_is_asked(f) && !f->is_state_held) {
            core_state_answer(f, HG_OK);
            has_happened = true;
        }
        if (f->is_answering && !hg_list_is_empty(&f->declares)) {
            core_declared(f, 0, HG_OK, "");
            has_happened = true;
        }
        for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
            has_happened = turn_conn(f->conns[i]) || has_happened;
        }
    }
}

void core_pass(struct core_fake *f, uint64_t ms)
{
    uint64_t end_ms = seam_now_ms + ms;
    while (seam_now_ms < end_ms) {
        uint64_t left_ms = end_ms - seam_now_ms;
        seam_now_ms += left_ms < HG_WHEEL_TICK_MS ? left_ms : HG_WHEEL_TICK_MS;
        core_turn(f);
    }
}

/* ---- Life ---- */

void core_open(struct core_fake *f)
{
    *f = (struct core_fake){.is_answering = true};
    f->config = (struct hg_config){
        .max_message_bytes = 16 << 20,
        .outbound_low_bytes = 256 << 10,
        .outbound_high_bytes = 4 << 20,
        .max_subscriptions = 1000,
        .max_topic_bytes = 1024,
        .max_topic_levels = 64,
        .mqtt_max_packet_bytes = 16 << 20,
        .unavailable_timeout_ms = 60000,
        .mqtt_connect_timeout_ms = 10000,
        .mqtt_max_inflight = 64,
        .mqtt_max_queued = 1000,
        .mqtt_receive_max = 1024,
        .mqtt_topic_alias_max = 16,
        .mqtt_max_session_expiry_ms = 86400000,
        .mqtt_shared_expires_ms = 3600000,
        .stomp_rabbitmq_destinations = true,
        .stomp_topic_exchange = "amq.topic",
        .stomp_max_frame_bytes = 16 << 20,
        .stomp_max_header_bytes = 100 << 10,
        .stomp_max_headers = 100,
        .stomp_heartbeat_ms = 10000,
        .stomp_connect_timeout_ms = 10000,
        .stomp_idle_timeout_ms = 3600000,
        .stomp_queue_expires_ms = 60000,
        .stomp_max_transactions = 16,
        .stomp_max_temp_queues = 64,
        .stomp_max_transaction_frames = 10000,
        .stomp_transaction_buffer_bytes = 32 << 20,
        .prefetch = 1024,
    };
    f->gateway.config = f->worker.config = &f->config;
    f->worker.gateway = &f->gateway;
    hg_wheel_open(&f->worker.wheel, hg_clock_ms());
    hg_list_init(&f->worker.conns);
    hg_list_init(&f->worker.services);
    hg_list_init(&f->worker.leavers);
    hg_list_init(&f->publishes);
    hg_list_init(&f->subs);
    hg_list_init(&f->declares);
    hg_list_init(&f->claims);
    hg_list_init(&f->queues);
    hg_list_init(&f->servings);
    static const struct hg_rule_spec builtin = {.where = "built-in",
                                                .name = "built-in",
                                                .pattern = {"{path...}", "{path...}", "{path...}"},
                                                .exchange = "amq.topic",
                                                .key = "{path...}",
                                                .persistent = HG_UNSET,
                                                .escape = HG_ESCAPE_PLAIN,
                                                .is_builtin = true};
    struct hg_writer problems = {0};
    seam_spare(true);
    f->rules = hg_rules_new(&builtin, 1, NULL, 0, &problems);
    assert_non_null(f->rules);
    seam_spare(false);
    hg_writer_close(&problems);
    f->vhost.gateway = &f->gateway;
    f->gateway.vhosts = &f->vhost;
    f->gateway.vhosts_n = 1;
    f->realm.worker = &f->worker;
    f->realm.vhost = &f->vhost;
    f->realm.rules = f->rules;
    f->realms[0] = &f->realm;
    f->worker.realms = f->realms;
    f->worker.realms_n = 1;
    f->index = hg_trie_new(HG_TRIE_ADDRESS);
    assert_non_null(f->index);
}

struct hg_conn *core_connect(struct core_fake *f, const struct hg_adapter *adapter,
                             const char *subprotocol)
{
    size_t i = 0;
    while (i < CORE_CONNS_MAX && f->conns[i] != NULL) {
        i++;
    }
    assert_in_range(i, 0, CORE_CONNS_MAX - 1);
    struct hg_conn *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->f = f;
    c->id = i + 1;
    c->adapter = adapter;
    c->last_read_ms = hg_clock_ms();
    while (subprotocol == NULL && (adapter->serves >> c->listener.serve & 1) == 0) {
        c->listener.serve++; /* the adapter's own; with a sub-protocol it is web, the first */
    }
    f->conns[i] = f->conn = c;
    c->session = adapter->open(&f->worker, c, &c->listener, subprotocol);
    assert_non_null(c->session);
    return c;
}

void core_close(struct core_fake *f)
{
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        hg_conn_close(f->conns[i], HG_CLOSED);
    }
    core_turn(f);
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        hg_writer_close(&f->conns[i]->input);
        hg_writer_close(&f->conns[i]->sent);
        free(f->conns[i]);
        f->conns[i] = NULL;
    }
    while (!hg_list_is_empty(&f->worker.leavers)) {
        struct hg_leaver *leaver = HG_LIST_ENTRY(f->worker.leavers.next, struct hg_leaver, link);
        leaver->abandon(leaver);
    }
    HG_LIST_FOREACH_SAFE (it, &f->worker.services) {
        struct hg_service *service = HG_LIST_ENTRY(it, struct hg_service, link);
        service->ops->close(service);
    }
    assert_true(hg_list_is_empty(&f->worker.services));
    core_state_close(f);
    assert_true(hg_list_is_empty(&f->publishes));
    assert_true(hg_list_is_empty(&f->subs));
    assert_true(hg_list_is_empty(&f->claims));
    assert_true(hg_list_is_empty(&f->queues));
    assert_int_equal(hg_wheel_next_ms(&f->worker.wheel, hg_clock_ms()), UINT64_MAX);
    hg_joints_close(&f->worker.net.joints);
    hg_identity_unref(f->identity);
    hg_trie_free(f->index);
    hg_rules_free(f->rules);
    hg_writer_close(&f->calls);
}

struct hg_bytes core_sent(const struct core_fake *f)
{
    return hg_writer_view(&f->conn->sent);
}

void core_forget_sent(struct core_fake *f)
{
    hg_writer_reset(&f->conn->sent);
    f->conn->messages_n = 0;
}

void core_forget(struct core_fake *f)
{
    core_forget_sent(f);
    hg_writer_reset(&f->calls);
}

struct hg_session *core_session(const struct hg_conn *c)
{
    return c->session;
}

enum hg_status core_why(const struct hg_conn *c)
{
    return c->is_closing ? c->why : HG_OK;
}

const char *core_rule(const struct hg_conn *c)
{
    return c->rule;
}

size_t core_messages_n(const struct hg_conn *c)
{
    return c->messages_n;
}

enum hg_frame_kind core_last_kind(const struct hg_conn *c)
{
    return c->last_kind;
}

void core_set_pending(struct hg_conn *c, size_t bytes)
{
    bool was_high = c->pending_bytes > c->f->config.outbound_high_bytes;
    c->pending_bytes = bytes;
    if (was_high && bytes <= c->f->config.outbound_low_bytes && c->session != NULL &&
        c->session->ops->drained != NULL) {
        c->session->ops->drained(c->session);
    }
}
