/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions and what they publish. */
#include "core/session.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/allowance.h"
#include "core/conn.h"
#include "core/login.h"
#include "core/retain_priv.h"
#include "core/routing_priv.h"
#include "core/upload.h"
#include "message/topic.h"

enum { FRAME_MAX = 131072 }; /* RabbitMQ's default, until the link has negotiated its own */

/* A client that waits for room. */
struct hg_held {
    struct hg_list link;
    struct hg_session *session;
    uint64_t since_ms;
};

void hg_session_init(struct hg_session *s, const struct hg_session_ops *ops, enum hg_protocol proto,
                     struct hg_conn *conn, struct hg_worker *worker)
{
    *s = (struct hg_session){.ops = ops, .conn = conn, .worker = worker, .proto = (uint8_t)proto};
    hg_list_init(&s->subs);
}

bool hg_session_is_closing(const struct hg_session *s)
{
    return s->conn != NULL && hg_conn_is_closing(s->conn);
}

bool hg_session_has_room(struct hg_session *s, size_t n)
{
    if (s->conn == NULL) {
        return s->ops->wants_more == NULL || s->ops->wants_more(s);
    }
    return !hg_conn_is_closing(s->conn) && !hg_conn_is_full(s->conn, n);
}

void hg_session_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    if (s->servings.first != NULL) {
        hg_retain_saw(s, d->message);
    }
    s->ops->deliver(s, d, matches);
}

struct hg_rare *hg_session_rare(struct hg_session *s)
{
    if (s->rare == NULL) {
        s->rare = hg_zalloc(sizeof(*s->rare));
    }
    return s->rare;
}

void hg_session_trim(struct hg_session *s)
{
    if (s->rare != NULL && s->rare->held == NULL && s->rare->slow == NULL) {
        hg_free(s->rare);
        s->rare = NULL;
    }
}

/* ---- Waiting for room ---- */

static struct hg_held *held_of(const struct hg_session *s)
{
    return s->rare == NULL ? NULL : s->rare->held;
}

static struct hg_held *become_held(struct hg_session *s)
{
    struct hg_rare *rare = hg_session_rare(s);
    struct hg_held *held = rare == NULL ? NULL : hg_zalloc(sizeof(*held));
    if (held != NULL) {
        rare->held = held;
        held->session = s;
        held->since_ms = hg_clock_ms();
        hg_list_init(&held->link);
        hg_count(&s->worker->metrics.proto[s->proto].held, 1);
    }
    hg_session_trim(s);
    return held;
}

void hg_session_end_hold(struct hg_session *s)
{
    struct hg_held *held = held_of(s);
    if (held != NULL) {
        hg_list_remove(&held->link);
        hg_free(held);
        s->rare->held = NULL;
        hg_session_trim(s);
    }
}

static enum hg_status why_no_room(const struct hg_routing *r)
{
    return hg_publisher_is_available(&r->publisher) ? HG_BUSY : HG_BROKER_AWAY;
}

enum hg_status hg_session_hold(struct hg_session *s, bool never_held)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_held *held = held_of(s);
    never_held = never_held || s->conn == NULL;
    bool is_overdue =
        held != NULL && hg_clock_ms() - held->since_ms >= s->worker->config->unavailable_timeout_ms;
    if (held == NULL && !never_held) {
        held = become_held(s);
    }
    if (never_held || is_overdue || held == NULL) {
        hg_session_end_hold(s);
        return why_no_room(r);
    }
    hg_list_remove(&held->link);
    hg_list_add_last(&r->held, &held->link);
    if (r->held_timer.due_ms == 0) {
        hg_worker_timer(s->worker, &r->held_timer, 1);
    }
    hg_conn_hold(s->conn, HG_HOLD_UPSTREAM);
    return HG_HELD;
}

void hg_session_release_held(struct hg_routing *r, bool only_overdue)
{
    uint64_t now = hg_clock_ms();
    HG_LIST_FOREACH (it, &r->held) {
        struct hg_held *held = HG_LIST_ENTRY(it, struct hg_held, link);
        if (held->session->conn == NULL) {
            continue; /* it has left, and what it held back is the client's again */
        }
        if (!only_overdue || now - held->since_ms >= r->worker->config->unavailable_timeout_ms) {
            hg_conn_release(held->session->conn, HG_HOLD_UPSTREAM);
        }
    }
}

void hg_session_detach(struct hg_session *s)
{
    HG_LIST_FOREACH_SAFE (it, &s->subs) {
        hg_unsubscribe(HG_LIST_ENTRY(it, struct hg_sub, session_link));
    }
    hg_publisher_forget(&s->publishes);
    hg_retain_detach(s);
    hg_session_forget_declares(s);
    hg_session_end_hold(s);
    hg_session_logout(s);
}

/* ---- Publishing ---- */

void hg_session_note_topic(struct hg_worker *w, struct hg_bytes topic)
{
    uint64_t levels_n = 1;
    for (size_t i = 0; i < topic.n; i++) {
        levels_n += topic.p[i] == '/';
    }
    if (topic.n > w->config->max_topic_bytes) {
        hg_worker_refused(w, HG_LIMIT_TOPIC);
    } else if (levels_n > w->config->max_topic_levels) {
        hg_worker_refused(w, HG_LIMIT_TOPIC_LEVELS);
    }
}

static enum hg_status resolve(struct hg_session *s, const struct hg_publish_args *args,
                              struct hg_published *out, const char **why)
{
    if (args->is_direct) {
        out->exchange = args->exchange;
        out->key = args->key;
        out->on_reject = HG_REJECT_CLOSE;
        return args->is_vouched
                   ? HG_OK
                   : hg_access_exchange(s, HG_ACCESS_PUBLISH, args->exchange, args->key, why);
    }
    const struct hg_config *config = s->worker->config;
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    *why = hg_topic_check_address(args->address, &limits);
    if (*why != NULL) {
        hg_session_note_topic(s->worker, args->address);
        return HG_BAD_ADDRESS;
    }
    enum hg_status status = hg_rules_publish_request(hg_realm_of(s)->rules, s->proto, args->address,
                                                     args->request, &out->route);
    if (status != HG_OK) {
        return status;
    }
    const struct hg_rule_spec *rule = hg_rules_spec(hg_realm_of(s)->rules, out->route.rule);
    struct hg_rule_who room;
    const struct hg_rule_who *who = hg_session_who(s, &room);
    out->exchange = out->route.exchange;
    out->key = out->route.key;
    out->on_reject = rule->on_reject;
    return hg_rules_may_publish(hg_realm_of(s)->rules, who, s->proto, &out->route)
               ? HG_OK
               : hg_access_deny(s, "publish", args->address, rule->name);
}

static bool has_room_for_headers(struct hg_routing *r, size_t n)
{
    if (n <= r->headers_cap) {
        return true;
    }
    struct hg_header *headers = hg_realloc(r->headers, n * sizeof(*headers));
    if (headers == NULL) {
        return false;
    }
    r->headers = headers;
    r->headers_cap = n;
    return true;
}

static bool is_rule_header(const struct hg_rule_spec *rule, struct hg_bytes name)
{
    for (size_t i = 0; rule != NULL && i < rule->headers_n; i++) {
        if (hg_bytes_eq(hg_bytes_str(rule->header_names[i]), name)) {
            return true;
        }
    }
    return false;
}

/* Expands the rule's headers behind the n that are there. All of them go into one text, which may
 * move while it grows: so first the lengths, then the places. */
static size_t add_rule_headers(struct hg_session *s, const struct hg_publish_args *args,
                               const struct hg_published *pub, const struct hg_rule_spec *rule,
                               size_t n)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    const struct hg_rule_vars vars = {.client_id = args->client_id,
                                      .user = args->user,
                                      .address = args->address,
                                      .protocol = s->proto};
    hg_writer_reset(&r->text);
    for (size_t i = 0; i < rule->headers_n; i++) {
        size_t start = hg_writer_n(&r->text);
        hg_rules_header(hg_realm_of(s)->rules, &pub->route, i, &vars, &r->text);
        struct hg_header *h = &r->headers[n + i];
        h->name = hg_bytes_str(rule->header_names[i]);
        h->value = (struct hg_value){.kind = HG_VALUE_STRING};
        h->value.u.bytes.n = hg_writer_n(&r->text) - start;
    }
    struct hg_bytes text = hg_writer_view(&r->text);
    for (size_t i = 0; i < rule->headers_n; i++) {
        struct hg_bytes *value = &r->headers[n + i].value.u.bytes;
        value->p = text.p;
        text = hg_bytes_skip(text, value->n);
    }
    return n + rule->headers_n;
}

/* Past what RabbitMQ can count, 2^32 - 1 ms, a message waits as long as that. What is no number is
 * refused later on. */
static struct hg_bytes clamped_expiration(struct hg_bytes text)
{
    uint64_t ms;
    bool is_past = hg_bytes_to_u64(text, UINT64_MAX, &ms) && ms > UINT32_MAX;
    return is_past ? HG_BYTES("4294967295") : text;
}

/* Headers of the gateway's own; copied into the message before `text` is closed. */
struct marks {
    struct hg_header at[6];
    size_t n;
    struct hg_writer text;
    bool takes_two; /* it is retained, and BCC does not bring it to the log */
};

static void mark(struct hg_session *s, const struct hg_publish_args *args,
                 const struct hg_published *pub, struct marks *m)
{
    if (args->sender.n > 0) {
        m->at[m->n++] = (struct hg_header){HG_BYTES("x-headgate-from"),
                                           {.kind = HG_VALUE_STRING, .u.bytes = args->sender}};
    }
    if (args->is_exactly_once) {
        m->at[m->n++] =
            (struct hg_header){HG_BYTES("x-headgate-qos"), {.kind = HG_VALUE_INT, .u.i = 2}};
    }
    if (args->properties.expiration.n > 0) { /* for who counts down what is left of it */
        m->at[m->n++] = (struct hg_header){
            HG_BYTES("x-headgate-ms"), {.kind = HG_VALUE_INT, .u.i = (int64_t)hg_clock_wall_ms()}};
        if (!args->properties.has_timestamp) { /* build_properties gives it one: not the client's */
            m->at[m->n++] = (struct hg_header){HG_BYTES("x-headgate-dated"),
                                               {.kind = HG_VALUE_BOOL, .u.b = true}};
        }
    }
    if (args->is_retained) {
        m->at[m->n++] =
            (struct hg_header){HG_BYTES("x-headgate-retain"), {.kind = HG_VALUE_BOOL, .u.b = true}};
        m->takes_two = !hg_retain_bcc(s, pub->exchange, &m->text, &m->at[m->n]);
        m->n += !m->takes_two;
    }
}

/* The client's properties less what it may not say (architecture, decision 11), plus what the rule
 * and the gateway say. */
static bool build_properties(struct hg_session *s, const struct hg_publish_args *args,
                             const struct hg_published *pub, const struct marks *marks,
                             struct hg_properties *out)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    const struct hg_rule_spec *rule =
        args->is_direct ? NULL : hg_rules_spec(hg_realm_of(s)->rules, pub->route.rule);
    size_t most_n = args->properties.headers_n + args->marks_n + marks->n +
                    (rule == NULL ? 0 : rule->headers_n) + 1;
    if (!has_room_for_headers(r, most_n)) {
        return false;
    }
    size_t n = 0;
    for (size_t i = 0; i < args->properties.headers_n; i++) {
        const struct hg_header *h = &args->properties.headers[i];
        if (!hg_header_is_reserved(h->name) && !is_rule_header(rule, h->name)) {
            r->headers[n++] = *h;
        }
    }
    for (size_t i = 0; i < args->marks_n; i++) {
        r->headers[n++] = args->marks[i];
    }
    for (size_t i = 0; i < marks->n; i++) {
        r->headers[n++] = marks->at[i];
    }
    *out = args->properties;
    out->user_id = HG_BYTES("");
    out->expiration = clamped_expiration(out->expiration);
    if (out->expiration.n > 0 && !out->has_timestamp) {
        out->has_timestamp = true;
        out->timestamp_s = hg_clock_wall_ms() / 1000;
    }
    if (rule != NULL) {
        n = add_rule_headers(s, args, pub, rule, n);
        if (pub->route.is_hashed) {
            r->headers[n++] =
                (struct hg_header){HG_BYTES("x-headgate-address"),
                                   {.kind = HG_VALUE_STRING, .u.bytes = args->address}};
        }
        if (rule->persistent != HG_UNSET) {
            out->delivery_mode = rule->persistent == HG_YES ? 2 : 1;
        }
    }
    out->headers = r->headers;
    out->headers_n = n;
    return !r->text.failed && !marks->text.failed;
}

static uint64_t bytes_of(const struct hg_publish_args *args)
{
    return args->upload != NULL ? args->upload->body_bytes : args->body.n;
}

static enum hg_status check(struct hg_session *s, const struct hg_message_parts *parts,
                            uint64_t body_bytes, const char **why)
{
    const struct hg_routing *r = hg_realm_of(s)->routing;
    if (body_bytes > s->worker->config->max_message_bytes) {
        *why = "the body is larger than max_message_size";
        hg_worker_refused(s->worker, HG_LIMIT_MESSAGE);
        return HG_TOO_LARGE;
    }
    const struct hg_amqp_conn *conn = hg_link_conn(&r->publisher.link);
    uint32_t frame_max = conn == NULL ? FRAME_MAX : hg_amqp_conn_frame_max(conn);
    *why =
        hg_amqp_check_publish(parts, HG_BYTES(""), frame_max, s->worker->config->max_message_bytes);
    return *why == NULL ? HG_OK : HG_BAD_PROPERTY;
}

/* A message whose body is to come. */
static enum hg_status order_upload(struct hg_session *s, const struct hg_publish_args *args,
                                   const struct hg_message_parts *parts)
{
    struct hg_message *message = hg_message_new(parts);
    if (message == NULL) {
        return HG_NO_MEMORY;
    }
    const struct hg_upload_order order = {
        .message_own = &message,
        .body_bytes = args->upload->body_bytes,
        .owner = s,
        .id = args->id,
        .on_room = args->upload->on_room,
        .on_settled = hg_session_settle,
        .timeout_ms =
            args->timeout_ms != 0 ? args->timeout_ms : s->worker->config->publish_timeout_ms,
    };
    return hg_upload_begin(&hg_realm_of(s)->routing->uploads, &order, &args->upload->upload);
}

/* The quotas of what is retained, room towards RabbitMQ, and then it is on its way. */
static enum hg_status order(struct hg_session *s, const struct hg_publish_args *args,
                            const struct hg_published *pub, const struct hg_message_parts *parts,
                            bool takes_two, const struct hg_publish_order *asked, const char **why)
{
    struct hg_routing *r = hg_realm_of(s)->routing;
    struct hg_message *message = hg_message_new(parts);
    struct hg_message *to_log = NULL;
    enum hg_status status = message == NULL ? HG_NO_MEMORY : HG_OK;
    if (status == HG_OK && args->is_retained) {
        size_t bytes = args->body.n == 0 ? 0 : hg_message_cost_bytes(message);
        status = hg_retain_check(s, pub, bytes, why);
    }
    if (status == HG_OK && takes_two && (to_log = hg_retain_log_message(s, parts)) == NULL) {
        status = HG_NO_MEMORY;
    }
    size_t cost_bytes = status != HG_OK ? 0 : hg_message_cost_bytes(message) * (1U + takes_two);
    if (status == HG_OK && !hg_publisher_admits(&r->publisher, cost_bytes)) {
        status = hg_session_hold(s, args->never_held);
    }
    if (status != HG_OK) {
        hg_message_unref(to_log);
        hg_message_unref(message);
        return status;
    }
    if (args->is_retained && (takes_two || args->wants_outcome)) {
        return hg_retain_publish(s, args, &to_log, &message);
    }
    struct hg_publish_order made = *asked;
    made.message_own = &message;
    return hg_publisher_publish(&r->publisher, &made);
}

/* asked NULL: the message is only checked. */
static enum hg_status make(struct hg_session *s, const struct hg_publish_args *args,
                           const struct hg_published *pub, const struct hg_publish_order *asked,
                           const char **why_out)
{
    const struct hg_rule_spec *rule =
        args->is_direct ? NULL : hg_rules_spec(hg_realm_of(s)->rules, pub->route.rule);
    struct hg_message_parts parts = {.exchange = pub->exchange,
                                     .routing_key = pub->key,
                                     .body = args->body,
                                     .body_buf = args->body_buf,
                                     .is_mandatory = args->is_mandatory ||
                                                     (rule != NULL && rule->is_mandatory)};
    struct marks marks = {.n = 0};
    mark(s, args, pub, &marks);
    enum hg_status status = HG_NO_MEMORY;
    if (build_properties(s, args, pub, &marks, &parts.properties)) {
        status = check(s, &parts, bytes_of(args), why_out);
    }
    if (status == HG_OK && asked != NULL) {
        status = args->upload != NULL
                     ? order_upload(s, args, &parts)
                     : order(s, args, pub, &parts, marks.takes_two, asked, why_out);
    } else if (status == HG_OK && args->is_retained) {
        status = hg_retain_check(s, pub, 0, why_out);
    }
    hg_writer_close(&marks.text);
    return status;
}

enum hg_status hg_publish_check(struct hg_session *s, const struct hg_publish_args *args,
                                const char **why_out)
{
    struct hg_published pub;
    *why_out = NULL;
    enum hg_status status = resolve(s, args, &pub, why_out);
    if (status == HG_OK) {
        status = make(s, args, &pub, NULL, why_out);
    }
    hg_count(&s->worker->metrics.proto[s->proto].refused, status != HG_OK);
    return status;
}

bool hg_publish_has_room(const struct hg_session *s)
{
    return hg_publisher_admits(&hg_realm_of(s)->routing->publisher, 0);
}

static enum hg_patience patience_of(const struct hg_publish_args *args)
{
    return args->upload != NULL ? HG_PATIENCE_NONE
           : args->never_held   ? HG_PATIENCE_ASKS
                                : HG_PATIENCE_WAITS;
}

static enum hg_status pay(struct hg_session *s, const struct hg_publish_args *args,
                          const struct hg_rule_spec *rule, const char **why)
{
    return args->is_free ? HG_OK
                         : hg_allowance_pay(s, rule, bytes_of(args), patience_of(args), why);
}

enum hg_status hg_session_publish(struct hg_session *s, const struct hg_publish_args *args,
                                  const struct hg_publish_order *asked,
                                  struct hg_published *published_out, const char **why_out)
{
    struct hg_worker *w = s->worker;
    struct hg_proto_metrics *metrics = &w->metrics.proto[s->proto];
    struct hg_published here;
    struct hg_published *pub = published_out != NULL ? published_out : &here;
    *why_out = NULL;
    enum hg_status status = pay(s, args, NULL, why_out);
    if (status == HG_OK) {
        status = resolve(s, args, pub, why_out);
    }
    if (status == HG_OK && !args->is_direct) {
        status = pay(s, args, hg_rules_spec(hg_realm_of(s)->rules, pub->route.rule), why_out);
    }
    if (status == HG_OK) {
        status = make(s, args, pub, asked, why_out);
    }
    if (status == HG_HELD) {
        return status;
    }
    if (patience_of(args) == HG_PATIENCE_WAITS) {
        hg_allowance_paid(s);
    }
    hg_session_end_hold(s);
    if (status != HG_OK) {
        hg_count(&metrics->refused, 1);
        return status;
    }
    hg_count(&metrics->messages_in, 1);
    hg_count(&metrics->bytes_in, bytes_of(args));
    if (!args->is_direct) {
        hg_rule_counts_add(w->rule_counts, hg_realm_of(s)->spec->first_rule + pub->route.rule,
                           HG_RULE_IN, w->index);
    }
    return HG_OK;
}

enum hg_status hg_publish(struct hg_session *s, const struct hg_publish_args *args,
                          struct hg_published *published_out, const char **why_out)
{
    const struct hg_publish_order asked = {
        .owner = args->wants_outcome ? s : NULL,
        .owners = &s->publishes,
        .id = args->id,
        .timeout_ms = args->timeout_ms,
    };
    return hg_session_publish(s, args, &asked, published_out, why_out);
}

void hg_session_settle(void *session, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct hg_session *s = session;
    struct hg_proto_metrics *metrics = &s->worker->metrics.proto[s->proto];
    hg_count(outcome == HG_OK ? &metrics->confirmed : &metrics->refused, 1);
    s->ops->settled(s, id, outcome, reason);
}
