/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of two workers each, and one RabbitMQ that keeps a log for all of them. */
#include "core/state.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/config_schema.h"
#include "core/routing_priv.h"
#include "core/state_priv.h"
#include "seam/net.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>

enum { PROCESSES_N = 2, WORKERS_N = 2, LOG_MAX = 4096, QUEUES_MAX = 32, WILLS_MAX = 8 };

struct worker {
    struct hg_worker w;
    struct hg_routing routing;
    unsigned reports_n;
};

struct process {
    struct hg_gateway gateway;
    struct worker workers[WORKERS_N];
    struct hg_worker *all[WORKERS_N];
    bool is_open;
};

struct queue { /* exclusive */
    char name[64];
    const struct broker *owner;
    uint16_t channel; /* of its consumer; 0: none */
};

struct reader { /* of the log */
    struct broker *broker;
    uint16_t channel;
    size_t next;
    uint64_t tag;
};

struct world {
    struct seam_net sn;
    struct hg_config config;
    struct hg_rules *rules;
    struct hg_upstream_metrics metrics;
    struct process processes[PROCESSES_N];
    /* RabbitMQ */
    struct hg_message *log[LOG_MAX]; /* NULL: truncated */
    size_t log_n;
    size_t taken_n[SEAM_LINKS_MAX]; /* publishes of each link that have been dealt with */
    struct queue queues[QUEUES_MAX];
    struct reader readers[PROCESSES_N * 4];
    char deleted[128]; /* the last queue deleted */
    bool has_no_streams;
    bool is_hiding; /* the queues by which processes are seen */
    /* Wills. */
    char wills[WILLS_MAX][64];
    size_t wills_n;
    struct hg_session *will_session;
    uint64_t will_id;
    enum hg_status will_status, will_outcome;
};

static struct world *the;

/* ---- What state.c and janitor.c call of the core ---- */

void hg_worker_timer(struct hg_worker *w, struct hg_timer *t, uint64_t delay_ms)
{
    hg_wheel_set(&w->wheel, t, hg_clock_ms() + delay_ms);
}

void hg_worker_report(struct hg_worker *w, enum hg_worker_state state)
{
    atomic_store(&w->state, state);
    HG_CONTAINER_OF(w, struct worker, w)->reports_n++;
}

static const struct hg_endpoint endpoint = {
    .host = "broker", .port = 5672, .user = "guest", .password = "guest", .vhost = "/"};

struct hg_link_config hg_routing_link(struct hg_routing *r)
{
    (void)r;
    return (struct hg_link_config){
        .endpoints = &endpoint,
        .endpoints_n = 1,
        .heartbeat_ms = 30000,
        .connect_timeout_ms = 5000,
        .max_body_bytes = 1 << 20,
        .metrics = &the->metrics,
    };
}

void hg_session_init(struct hg_session *s, const struct hg_session_ops *ops, enum hg_protocol proto,
                     struct hg_conn *conn, struct hg_worker *worker)
{
    *s = (struct hg_session){.ops = ops, .conn = conn, .worker = worker, .proto = (uint8_t)proto};
}

void hg_session_detach(struct hg_session *s)
{
    if (the->will_session == s) {
        the->will_session = NULL;
    }
}

enum hg_status hg_publish(struct hg_session *s, const struct hg_publish_args *args,
                          struct hg_published *published_out, const char **why_out)
{
    (void)published_out;
    *why_out = NULL;
    if (the->will_status == HG_OK) {
        assert_true(the->wills_n < WILLS_MAX);
        snprintf(the->wills[the->wills_n++], sizeof(the->wills[0]), "%.*s=%.*s%s",
                 HG_BYTES_FMT(args->address), HG_BYTES_FMT(args->body),
                 args->is_retained ? " retained" : "");
        the->will_session = s;
        the->will_id = args->id;
    }
    return the->will_status;
}

/* ---- RabbitMQ ---- */

static struct queue *queue_of(struct hg_bytes name)
{
    struct queue *free_one = NULL;
    for (size_t i = 0; i < QUEUES_MAX; i++) {
        struct queue *q = &the->queues[i];
        if (q->owner != NULL && hg_bytes_eq(hg_bytes_str(q->name), name)) {
            return q;
        }
        free_one = q->owner == NULL ? q : free_one;
    }
    assert_non_null(free_one);
    snprintf(free_one->name, sizeof(free_one->name), "%.*s", HG_BYTES_FMT(name));
    return free_one;
}

static bool refuse(struct broker *b, const struct broker_method *m, uint16_t code)
{
    broker_close_channel(b, m->channel, code, "refused", m->id);
    return true;
}

static bool on_declare(struct broker *b, const struct broker_method *m)
{
    const amqp_queue_declare_t *declare = m->decoded;
    struct hg_bytes name = hg_amqp_view(declare->queue);
    if (hg_bytes_eq(name, HG_BYTES("headgate.state"))) {
        return the->has_no_streams && refuse(b, m, declare->passive ? 404 : 406);
    }
    struct queue *q = queue_of(name);
    if (q->owner != NULL && q->owner != b && !(declare->passive && the->is_hiding)) {
        return refuse(b, m, 405);
    }
    if (declare->passive) {
        return (q->owner == NULL || the->is_hiding) && refuse(b, m, 404);
    }
    q->owner = b;
    return false;
}

static void on_consume(struct broker *b, const struct broker_method *m)
{
    const amqp_basic_consume_t *consume = m->decoded;
    struct hg_bytes name = hg_amqp_view(consume->queue);
    if (!hg_bytes_eq(name, HG_BYTES("headgate.state"))) {
        queue_of(name)->channel = m->channel;
        return;
    }
    struct reader *r = the->readers;
    while (r->broker != NULL && r->broker != b) {
        r++;
    }
    *r = (struct reader){.broker = b, .channel = m->channel};
    const amqp_field_value_t *from = &consume->arguments.entries[0].value;
    r->next = from->kind == AMQP_FIELD_KIND_UTF8 ? 0 : (size_t)from->value.i64;
    while (r->next < the->log_n && the->log[r->next] == NULL) {
        r->next++;
    }
}

static bool on_method(void *ctx, struct broker *b, const struct broker_method *m)
{
    (void)ctx;
    if (m->id == AMQP_QUEUE_DECLARE_METHOD) {
        return on_declare(b, m);
    }
    if (m->id == AMQP_BASIC_CONSUME_METHOD) {
        on_consume(b, m);
    }
    if (m->id == AMQP_QUEUE_DELETE_METHOD) {
        const amqp_queue_delete_t *delete = m->decoded;
        assert_true(delete->if_unused);
        snprintf(the->deleted, sizeof(the->deleted), "%.*s", (int)delete->queue.len,
                 (const char *)delete->queue.bytes);
    }
    return false;
}

static void prepare(struct broker *b)
{
    b->on_method = on_method;
    b->has_auto_confirm = true; /* else everything is rejected */
}

static void append(struct hg_message *m)
{
    assert_true(the->log_n < LOG_MAX);
    the->log[the->log_n++] = hg_message_ref(m);
}

static void broadcast(const struct hg_message *m)
{
    for (size_t i = 0; i < QUEUES_MAX; i++) {
        const struct queue *q = &the->queues[i];
        if (q->owner != NULL && strncmp(q->name, "headgate.gateway.", 17) == 0 && q->channel != 0) {
            broker_deliver((struct broker *)(uintptr_t)q->owner, q->channel, "tag", 1, false, m);
        }
    }
}

static void deliver_record(struct reader *r)
{
    const struct hg_message *m = the->log[r->next];
    struct hg_header headers[24];
    struct hg_message_parts parts = {.exchange = hg_message_exchange(m),
                                     .routing_key = hg_message_routing_key(m),
                                     .properties = *hg_message_properties(m),
                                     .body = hg_message_body(m)};
    size_t n = parts.properties.headers_n;
    assert_true(n < 24);
    memcpy(headers, parts.properties.headers, n * sizeof(headers[0]));
    headers[n] = (struct hg_header){HG_BYTES("x-stream-offset"),
                                    {.kind = HG_VALUE_INT, .u.i = (int64_t)r->next}};
    parts.properties.headers = headers;
    parts.properties.headers_n = n + 1;
    struct hg_message *sent = hg_message_new(&parts);
    broker_deliver(r->broker, r->channel, "tag", ++r->tag, false, sent);
    hg_message_unref(sent);
    r->next++;
}

/* Takes what was published, lets go of what broken links held, hands the log on. */
static bool work(void)
{
    bool did = false;
    for (size_t i = 0; i < the->sn.links_n; i++) {
        struct seam_link *link = the->sn.links[i];
        struct broker *b = &link->broker;
        for (; the->taken_n[i] < b->publishes_n; the->taken_n[i]++, did = true) {
            const struct broker_publish *published = &b->publishes[the->taken_n[i]];
            struct hg_message *m = published->message;
            if (!b->has_auto_confirm) {
                broker_nack(b, published->channel, published->delivery_tag, false);
            } else if (hg_bytes_eq(hg_message_routing_key(m), HG_BYTES("headgate.state"))) {
                append(m);
            } else if (hg_bytes_eq(hg_message_exchange(m), HG_BYTES("headgate.gateways"))) {
                broadcast(m);
            }
        }
        for (size_t j = 0; j < QUEUES_MAX && link->is_closed; j++) {
            if (the->queues[j].owner == b) {
                the->queues[j] = (struct queue){.owner = NULL};
            }
        }
    }
    for (struct reader *r = the->readers; r->broker != NULL; r++) {
        const struct seam_link *link = HG_CONTAINER_OF(r->broker, struct seam_link, broker);
        for (; !link->is_closed && r->broker->is_open && r->next < the->log_n; did = true) {
            deliver_record(r);
        }
    }
    return did;
}

static void run(void)
{
    for (bool did = true; did;) {
        seam_net_run(&the->sn);
        did = work();
        for (size_t p = 0; p < PROCESSES_N; p++) {
            for (size_t i = 0; i < WORKERS_N && the->processes[p].is_open; i++) {
                uv_run(&the->processes[p].workers[i].w.loop, UV_RUN_NOWAIT);
            }
        }
        for (size_t i = 0; i < the->sn.others_n; i++) {
            did = did || !hg_list_is_empty(&the->sn.others[i]->deferred);
        }
    }
}

static void pass(uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += HG_WHEEL_TICK_MS) {
        seam_wall_ms += HG_WHEEL_TICK_MS;
        seam_net_pass(&the->sn, HG_WHEEL_TICK_MS);
        run();
    }
}

/* ---- Processes ---- */

static void on_settled(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    (void)owner, (void)id, (void)outcome, (void)reason;
}

static void on_room(void *ctx)
{
    (void)ctx;
}

static void on_state(void *ctx, bool is_up)
{
    (void)ctx, (void)is_up;
}

static const struct hg_publisher_ops publisher_ops = {
    .on_settled = on_settled, .on_room = on_room, .on_state = on_state};

static void on_mail(void *ctx, struct hg_mail *mail)
{
    if (mail->kind == HG_MAIL_CLAIM) {
        hg_claim_on_mail(mail);
    } else {
        hg_state_on_mail(ctx, mail);
    }
}

static void open_worker(struct process *p, unsigned index)
{
    struct worker *worker = &p->workers[index];
    struct hg_worker *w = p->all[index] = &worker->w;
    w->gateway = &p->gateway;
    w->config = &the->config;
    w->rules = the->rules;
    w->index = index;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    hg_wheel_open(&w->wheel, hg_clock_ms());
    seam_net_adopt(&the->sn, &w->net);
    w->net.wheel = &w->wheel;
    w->mailbox = hg_mailbox_new(&w->loop, on_mail, w);
    assert_non_null(w->mailbox);
    w->routing = &worker->routing;
    w->routing->worker = w;
    const struct hg_publisher_config publisher = {
        .link = hg_routing_link(w->routing),
        .instance = "test",
        .worker = index,
        .window_n = 1000,
        .window_bytes = 1 << 20,
        .timeout_ms = 10000,
        .away_timeout_ms = 30000,
        .metrics = &the->metrics,
    };
    hg_publisher_open(&w->routing->publisher, &w->net, &publisher, &publisher_ops, NULL);
}

static void open_process(size_t i)
{
    struct process *p = &the->processes[i];
    struct hg_gateway *g = &p->gateway;
    memset(p, 0, sizeof(*p));
    g->config = &the->config;
    g->directory = hg_directory_new();
    g->boot_id = 0xb000 + i + the->sn.links_n * 16;
    g->workers = p->all;
    g->workers_n = WORKERS_N;
    g->state = hg_state_new(g);
    assert_non_null(g->state);
    for (unsigned w = 0; w < WORKERS_N; w++) {
        open_worker(p, w);
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        assert_true(hg_state_open(p->all[w]));
    }
    p->is_open = true;
}

static void close_process(size_t i)
{
    struct process *p = &the->processes[i];
    if (!p->is_open) {
        return;
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        hg_state_close(p->all[w]);
        hg_publisher_close(&p->all[w]->routing->publisher);
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        hg_mailbox_close(p->all[w]->mailbox);
        uv_run(&p->all[w]->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&p->all[w]->loop), 0);
        hg_mailbox_free(p->all[w]->mailbox);
    }
    hg_state_free(p->gateway.state);
    hg_directory_free(p->gateway.directory);
    p->is_open = false;
    run(); /* its exclusive queues go */
}

static struct hg_gateway *gateway(size_t i)
{
    return &the->processes[i].gateway;
}

static struct hg_worker *worker(size_t process, size_t i)
{
    return &the->processes[process].workers[i].w;
}

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    struct hg_writer errors = {0};
    the->config = (struct hg_config){
        .name = "gw",
        .workers = WORKERS_N,
        .unavailable_timeout_ms = 5000,
        .buffer_bytes = 1 << 20,
        .max_topic_bytes = 1000,
        .max_topic_levels = 20,
        .state_log = "headgate.state",
        .state_max_bytes = 64 << 10,
        .state_max_retained = 1000,
        .state_dead_after_ms = 10000,
    };
    the->rules = hg_rules_new(&hg_config_schema_builtin_rule, 1, NULL, 0, &errors);
    assert_non_null(the->rules);
    the->config.table = the->rules;
    hg_writer_close(&errors);
    seam_net_open(&the->sn);
    the->sn.prepare = prepare;
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROCESSES_N; i++) {
        close_process(i);
    }
    seam_net_close(&the->sn);
    for (size_t i = 0; i < the->log_n; i++) {
        hg_message_unref(the->log[i]);
    }
    hg_rules_free(the->rules);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

/* The broker at the other end of a process's state link. */
static struct seam_link *state_link(size_t process)
{
    return HG_CONTAINER_OF(gateway(process)->state->log.link.stream, struct seam_link, stream);
}

static size_t count(const char *kind)
{
    size_t n = 0;
    for (size_t i = 0; i < the->log_n; i++) {
        const struct hg_value *v =
            the->log[i] == NULL ? NULL
                                : hg_message_header(the->log[i], HG_BYTES("x-headgate-kind"));
        n += v != NULL && hg_bytes_eq(v->u.bytes, hg_bytes_str(kind));
    }
    return n;
}

struct waiter {
    struct hg_state_wait wait;
    unsigned told_n;
    enum hg_status status;
};

static void on_done(struct hg_state_wait *wait, enum hg_status status)
{
    struct waiter *w = HG_CONTAINER_OF(wait, struct waiter, wait);
    w->told_n++;
    w->status = status;
}

#define WAITER               \
    {                        \
        .wait.done = on_done \
    }

static struct hg_session_record record(const char *client_id, size_t process, uint64_t epoch)
{
    return (struct hg_session_record){
        .client_id = hg_bytes_str(client_id),
        .instance = HG_BYTES("gw"),
        .boot_id = gateway(process)->boot_id,
        .epoch = epoch,
        .expiry_ms = 3600000,
    };
}

static void claim(size_t process, struct hg_session_record *r)
{
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(worker(process, 1), HG_SESSION_CLAIM, r, &w.wait), HG_OK);
    assert_int_equal(w.told_n, 0); /* never from inside */
    run();
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_OK);
}

static struct hg_session_record *find(size_t process, const char *client_id)
{
    bool has_failed;
    return hg_state_index_find(hg_state_index_of(gateway(process)), hg_bytes_str(client_id),
                               &has_failed);
}

static bool is_known(size_t process, const char *client_id)
{
    struct hg_session_record *r = find(process, client_id);
    hg_session_record_free(r);
    return r != NULL;
}

/* ---- Reading ---- */

static void it_is_ready_when_the_log_was_read_to_its_end(void **state)
{
    (void)state;
    open_process(0);
    assert_true(hg_state_is_enabled(gateway(0)));
    assert_false(hg_state_is_settled(gateway(0)));
    run();
    assert_true(hg_state_is_ready(gateway(0)));
    assert_true(hg_state_is_settled(gateway(0)));
    assert_int_equal(the->processes[0].workers[0].reports_n, 1);
    assert_true(hg_state_is_bound(gateway(0), HG_BYTES("amq.topic")));
    assert_true(hg_state_is_bound(gateway(0), HG_BYTES("")));
    assert_false(hg_state_is_bound(gateway(0), HG_BYTES("other")));
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    open_process(1);
    run();
    assert_true(is_known(1, "c"));
    assert_int_equal(hg_state_index_digest(hg_state_index_of(gateway(0))),
                     hg_state_index_digest(hg_state_index_of(gateway(1))));
}

static void without_streams_it_is_switched_off(void **state)
{
    (void)state;
    the->has_no_streams = true;
    open_process(0);
    run();
    assert_false(hg_state_is_enabled(gateway(0)));
    assert_true(hg_state_is_settled(gateway(0)));
    assert_null(hg_state_index_of(gateway(0)));
    assert_int_equal(atomic_load(&worker(0, 0)->state), HG_WORKER_STARTING);
    struct hg_session_record r = record("c", 0, 1);
    assert_int_equal(hg_state_write(worker(0, 0), HG_SESSION_CLAIM, &r, NULL), HG_BROKER_AWAY);
    struct waiter w = WAITER;
    hg_state_barrier(worker(0, 1), &w.wait);
    pass(500);
    assert_int_equal(w.status, HG_BROKER_AWAY);
    hg_state_announce(worker(0, 1), HG_BYTES("c"));
}

static void without_streams_it_does_not_start_where_they_are_required(void **state)
{
    (void)state;
    the->has_no_streams = true;
    the->config.state_required = true;
    open_process(0);
    run();
    assert_int_equal(atomic_load(&worker(0, 0)->state), HG_WORKER_FAILED);
}

static void a_gap_makes_the_index_anew(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct hg_session_record old = record("old", 0, 1), new = record("new", 0, 2);
    claim(0, &old);
    assert_true(is_known(1, "old"));
    seam_net_cut(&the->sn, state_link(1));
    claim(0, &new);
    for (size_t i = 0; i + 1 < the->log_n; i++) { /* all that came before is truncated */
        hg_message_unref(the->log[i]);
        the->log[i] = NULL;
    }
    assert_false(hg_state_is_ready(gateway(1)));
    pass(3000);
    assert_true(hg_state_is_ready(gateway(1)));
    assert_false(is_known(1, "old"));
}

/* ---- Barriers and writes ---- */

static void a_barrier_comes_back_to_every_worker(void **state)
{
    (void)state;
    open_process(0);
    run();
    size_t barriers_n = count("barrier");
    struct waiter w[4] = {WAITER, WAITER, WAITER, WAITER};
    for (size_t i = 0; i < 4; i++) {
        hg_state_barrier(worker(0, i % 2), &w[i].wait);
    }
    hg_state_cancel(&w[3].wait);
    assert_int_equal(w[0].told_n, 0);
    assert_false(hg_state_is_idle(worker(0, 1)));
    run();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(w[i].told_n, 1);
        assert_int_equal(w[i].status, HG_OK);
        hg_state_cancel(&w[i].wait);
    }
    assert_int_equal(w[3].told_n, 0);
    assert_true(count("barrier") - barriers_n <= 2); /* however many wait */
    assert_true(hg_state_is_idle(worker(0, 1)));
}

static void a_write_is_in_the_index_when_it_is_done(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    assert_true(is_known(0, "c"));
    struct waiter gone = WAITER;
    assert_int_equal(hg_state_write(worker(0, 1), HG_SESSION_END, &r, &gone.wait), HG_OK);
    hg_state_cancel(&gone.wait);
    run();
    assert_int_equal(gone.told_n, 0);
    assert_false(is_known(0, "c")); /* written none the less */
}

static void waits_go_on_after_a_cut(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct waiter w = WAITER;
    seam_net_cut(&the->sn, state_link(0));
    assert_false(hg_state_is_ready(gateway(0)));
    hg_state_barrier(worker(0, 1), &w.wait);
    run();
    assert_int_equal(w.told_n, 0);
    pass(3000);
    assert_int_equal(w.status, HG_OK);
    assert_int_equal(w.told_n, 1);
    assert_true(hg_state_is_ready(gateway(0)));
}

static void waits_end_where_rabbitmq_stays_away(void **state)
{
    (void)state;
    open_process(0);
    run();
    the->sn.is_refusing = true;
    seam_net_cut(&the->sn, state_link(0));
    struct waiter w = WAITER;
    hg_state_barrier(worker(0, 1), &w.wait);
    pass(4500);
    assert_int_equal(w.told_n, 0);
    pass(1000);
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_BROKER_AWAY);
    the->sn.is_refusing = false;
}

static void a_barrier_that_is_rejected_is_sent_again(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct seam_link *link =
        HG_CONTAINER_OF(worker(0, 0)->routing->publisher.link.stream, struct seam_link, stream);
    link->broker.has_auto_confirm = false;
    struct waiter w = WAITER;
    hg_state_barrier(worker(0, 1), &w.wait);
    run();
    assert_int_equal(w.told_n, 0);
    link->broker.has_auto_confirm = true;
    pass(1500);
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_OK);
}

static void a_write_that_is_rejected_says_so(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct seam_link *link =
        HG_CONTAINER_OF(worker(0, 1)->routing->publisher.link.stream, struct seam_link, stream);
    link->broker.has_auto_confirm = false;
    struct hg_session_record r = record("c", 0, 1);
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(worker(0, 1), HG_SESSION_CLAIM, &r, &w.wait), HG_OK);
    run();
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_REJECTED);
    assert_false(is_known(0, "c"));
}

static void a_log_that_was_made_anew_behind_its_back_is_noticed(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    struct reader *reader = &the->readers[0];
    reader->next = LOG_MAX; /* RabbitMQ waits for offsets that do not come */
    struct waiter w = WAITER;
    hg_state_barrier(worker(0, 1), &w.wait);
    pass(20000);
    assert_int_equal(w.status, HG_BROKER_AWAY); /* overdue meanwhile */
    struct waiter after = WAITER;
    hg_state_barrier(worker(0, 1), &after.wait);
    run();
    assert_int_equal(after.told_n, 1);
    assert_int_equal(after.status, HG_OK);
    assert_true(hg_state_is_ready(gateway(0)));
    assert_true(is_known(0, "c"));
}

/* ---- Other processes ---- */

struct client {
    struct hg_claim claim;
    unsigned lost_n;
};

static void on_granted(struct hg_claim *c)
{
    (void)c;
}

static void on_lost(struct hg_claim *c)
{
    HG_CONTAINER_OF(c, struct client, claim)->lost_n++;
}

static const struct hg_claim_ops claim_ops = {on_granted, on_lost};

static void a_session_taken_by_another_process_is_lost_here(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct client here = {.lost_n = 0}, there = {.lost_n = 0};
    assert_true(hg_claim_open(worker(0, 1), &here.claim, HG_BYTES("c"), &claim_ops));
    struct hg_session_record first = record("c", 0, here.claim.epoch);
    claim(0, &first);
    assert_true(hg_claim_open(worker(1, 0), &there.claim, HG_BYTES("c"), &claim_ops));
    struct hg_session_record second = record("c", 1, there.claim.epoch);
    claim(1, &second);
    run();
    assert_int_equal(here.lost_n, 1);
    assert_int_equal(there.lost_n, 0);
    hg_claim_close(&here.claim);
    hg_claim_close(&there.claim);
}

static void the_older_of_two_unkept_sessions_is_lost(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct client older = {.lost_n = 0}, newer = {.lost_n = 0};
    assert_true(hg_claim_open(worker(0, 1), &older.claim, HG_BYTES("c"), &claim_ops));
    seam_wall_ms += 1;
    assert_true(hg_claim_open(worker(1, 1), &newer.claim, HG_BYTES("c"), &claim_ops));
    seam_wall_ms += 1;
    hg_state_announce(worker(1, 1), HG_BYTES("c")); /* in whichever order they are told */
    hg_state_announce(worker(0, 1), HG_BYTES("someone else"));
    hg_state_announce(worker(0, 1), HG_BYTES("c"));
    run();
    assert_int_equal(older.lost_n, 1);
    assert_int_equal(newer.lost_n, 0);
    hg_claim_close(&older.claim);
    hg_claim_close(&newer.claim);
}

static void a_broadcast_of_another_version_or_cut_short_does_nothing(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct client c = {.lost_n = 0};
    assert_true(hg_claim_open(worker(0, 0), &c.claim, HG_BYTES("c"), &claim_ops));
    uint8_t body[] = {1,    0,    0,    0,    0,    0,    0,    0,    9, 0, 1,  'x',
                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 1, 'c'};
    for (size_t n = 0; n < sizeof(body); n++) {
        hg_state_on_broadcast(gateway(0)->state, hg_bytes(body, n));
    }
    body[0] = 2;
    hg_state_on_broadcast(gateway(0)->state, hg_bytes(body, sizeof(body)));
    run();
    assert_int_equal(c.lost_n, 0);
    body[0] = 1;
    hg_state_on_broadcast(gateway(0)->state, hg_bytes(body, sizeof(body)));
    run();
    assert_int_equal(c.lost_n, 1);
    hg_claim_close(&c.claim);
}

static void one_leads_and_then_the_other(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_state_stats a, b;
    hg_state_stats(gateway(0), &a);
    hg_state_stats(gateway(1), &b);
    assert_true(a.is_leader);
    assert_false(b.is_leader);
    close_process(0);
    pass(3100);
    hg_state_stats(gateway(1), &b);
    assert_true(b.is_leader);
}

/* ---- The janitor ---- */

static void sessions_of_a_dead_instance_are_disconnected_and_their_wills_published(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    r.has_will = true;
    r.will = (struct hg_session_will){
        .topic = HG_BYTES("gone"), .payload = HG_BYTES("c"), .is_retained = true, .delay_ms = 3000};
    claim(1, &r);
    pass(15000);
    struct hg_session_record *known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0); /* its instance lives */
    hg_session_record_free(known);
    close_process(1);
    pass(8000);
    known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0); /* it may come back */
    hg_session_record_free(known);
    pass(6000);
    known = find(0, "c");
    assert_int_not_equal(known->disconnected_ms, 0);
    assert_int_equal(known->will_at_ms, known->disconnected_ms + 3000);
    hg_session_record_free(known);
    assert_int_equal(the->wills_n, 0);
    the->will_status = HG_BUSY; /* no room at first */
    pass(4000);
    the->will_status = HG_OK;
    pass(2500);
    assert_int_equal(the->wills_n, 1);
    assert_string_equal(the->wills[0], "gone=c retained");
    pass(3000);
    assert_int_equal(the->wills_n, 1); /* while it is under way */
    the->will_session->ops->settled(the->will_session, the->will_id, HG_OK, HG_BYTES(""));
    pass(5000);
    assert_int_equal(the->wills_n, 1);
    known = find(0, "c");
    assert_false(known->has_will);
    assert_int_not_equal(known->disconnected_ms, 0);
    hg_session_record_free(known);
}

static void an_instance_that_is_seen_again_is_not_dead(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    claim(1, &r);
    for (int i = 0; i < 3; i++) {
        the->is_hiding = true;
        pass(8000);
        the->is_hiding = false;
        pass(4000);
    }
    struct hg_session_record *known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0);
    hg_session_record_free(known);
}

static void an_instance_taken_for_dead_loses_its_clients_when_it_reads_of_it(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct client c = {.lost_n = 0};
    assert_true(hg_claim_open(worker(1, 1), &c.claim, HG_BYTES("c"), &claim_ops));
    struct hg_session_record r = record("c", 1, c.claim.epoch);
    claim(1, &r);
    the->is_hiding = true;
    seam_net_cut(&the->sn, state_link(1));
    the->sn.is_refusing = true;
    pass(15000);
    the->sn.is_refusing = false;
    assert_int_equal(c.lost_n, 0);
    pass(8000);
    assert_int_equal(c.lost_n, 1);
    hg_claim_close(&c.claim);
}

static void a_session_whose_time_is_over_ends_with_its_will_and_queue(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    r.expiry_ms = 5000;
    r.disconnected_ms = seam_wall_ms;
    r.has_will = true;
    r.will_at_ms = seam_wall_ms + 60000;
    r.will = (struct hg_session_will){
        .topic = HG_BYTES("gone"), .payload = HG_BYTES("c"), .delay_ms = 60000};
    claim(0, &r);
    struct hg_session_record kept = record("kept", 0, 8);
    kept.expiry_ms = UINT64_MAX;
    kept.disconnected_ms = 1;
    claim(0, &kept);
    pass(4000);
    assert_int_equal(the->wills_n, 0);
    pass(4000);
    assert_int_equal(the->wills_n, 1);
    assert_true(is_known(0, "c")); /* until the will is out */
    the->will_session->ops->settled(the->will_session, the->will_id, HG_UNROUTABLE, HG_BYTES(""));
    run();
    assert_false(is_known(0, "c"));
    assert_string_equal(the->deleted, "mqtt-subscription-cqos1");
    assert_true(is_known(0, "kept"));
}

static void a_session_that_comes_back_meanwhile_is_left_alone(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    r.expiry_ms = 1000;
    r.disconnected_ms = seam_wall_ms;
    r.has_will = true;
    r.will = (struct hg_session_will){.topic = HG_BYTES("gone"), .payload = HG_BYTES("c")};
    claim(0, &r);
    pass(4000);
    assert_int_equal(the->wills_n, 1);
    struct hg_session_record back = record("c", 0, 9);
    claim(0, &back);
    the->will_session->ops->settled(the->will_session, the->will_id, HG_OK, HG_BYTES(""));
    pass(3000);
    assert_true(is_known(0, "c"));
    assert_string_equal(the->deleted, "");
}

static void what_is_old_is_written_again_by_the_leader(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    claim(1, &r);
    size_t sessions_n = count("session");
    for (int i = 0; i < 200; i++) { /* 64 KiB of log is soon written */
        struct waiter w = WAITER;
        hg_state_barrier(worker(1, 0), &w.wait);
        run();
        assert_int_equal(w.status, HG_OK);
    }
    pass(3000);
    assert_true(count("session") > sessions_n);
    assert_int_equal(hg_state_index_digest(hg_state_index_of(gateway(0))),
                     hg_state_index_digest(hg_state_index_of(gateway(1))));
    assert_true(hg_counted(&worker(0, 0)->metrics.state.state_copies) > 0);
    assert_int_equal(hg_counted(&worker(1, 0)->metrics.state.state_copies), 0);
}

/* ---- The end ---- */

static void the_first_worker_stays_until_the_others_need_it_no_more(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    assert_true(hg_state_is_idle(worker(0, 1)));
    assert_false(hg_state_is_idle(worker(0, 0)));
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(worker(0, 1), HG_SESSION_CLAIM, &r, &w.wait), HG_OK);
    assert_false(hg_state_is_idle(worker(0, 1)));
    run();
    assert_int_equal(w.status, HG_OK);
    assert_true(hg_state_is_idle(worker(0, 1)));
    hg_state_stop(worker(0, 1));
    assert_true(hg_state_is_stopped(worker(0, 1)));
    assert_true(hg_state_is_idle(worker(0, 0)));
    assert_false(hg_state_is_stopped(worker(0, 0)));
    hg_state_stop(worker(0, 0));
    run();
    assert_true(hg_state_is_stopped(worker(0, 0)));
}

static void whoever_still_waits_at_the_end_is_not_told(void **state)
{
    (void)state;
    open_process(0);
    run();
    static struct waiter w[2]; /* outlive the process */
    struct hg_session_record r = record("c", 0, 7);
    w[0] = w[1] = (struct waiter)WAITER;
    hg_state_barrier(worker(0, 1), &w[0].wait);
    assert_int_equal(hg_state_write(worker(0, 1), HG_SESSION_CLAIM, &r, &w[1].wait), HG_OK);
    hg_state_announce(worker(0, 1), HG_BYTES("c"));
    close_process(0);
    assert_int_equal(w[0].told_n + w[1].told_n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_ready_when_the_log_was_read_to_its_end),
        TEST(without_streams_it_is_switched_off),
        TEST(without_streams_it_does_not_start_where_they_are_required),
        TEST(a_gap_makes_the_index_anew),
        TEST(a_barrier_comes_back_to_every_worker),
        TEST(a_write_is_in_the_index_when_it_is_done),
        TEST(waits_go_on_after_a_cut),
        TEST(waits_end_where_rabbitmq_stays_away),
        TEST(a_barrier_that_is_rejected_is_sent_again),
        TEST(a_write_that_is_rejected_says_so),
        TEST(a_log_that_was_made_anew_behind_its_back_is_noticed),
        TEST(a_session_taken_by_another_process_is_lost_here),
        TEST(the_older_of_two_unkept_sessions_is_lost),
        TEST(a_broadcast_of_another_version_or_cut_short_does_nothing),
        TEST(one_leads_and_then_the_other),
        TEST(sessions_of_a_dead_instance_are_disconnected_and_their_wills_published),
        TEST(an_instance_that_is_seen_again_is_not_dead),
        TEST(an_instance_taken_for_dead_loses_its_clients_when_it_reads_of_it),
        TEST(a_session_whose_time_is_over_ends_with_its_will_and_queue),
        TEST(a_session_that_comes_back_meanwhile_is_left_alone),
        TEST(what_is_old_is_written_again_by_the_leader),
        TEST(the_first_worker_stays_until_the_others_need_it_no_more),
        TEST(whoever_still_waits_at_the_end_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
