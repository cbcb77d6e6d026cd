/* SPDX-License-Identifier: Apache-2.0 */
#include "state_world.h"

#include "base/mem.h"
#include "core/config_schema.h"

#include <stdio.h>
#include <stdlib.h>

struct world *the;

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
        if (the->is_log_down) {
            return refuse(b, m, 404);
        }
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
    the->broadcasts_n++;
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

void run(void)
{
    for (bool did = true; did;) {
        seam_net_run(&the->sn);
        seam_spare(true);
        did = work();
        seam_spare(false);
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

void pass(uint64_t ms)
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
    (void)ctx;
    if (mail->kind == HG_MAIL_CLAIM) {
        hg_claim_on_mail(mail);
    } else {
        hg_state_on_mail(mail);
    }
}

static void open_worker(struct process *p, unsigned index)
{
    struct worker *worker = &p->workers[index];
    struct hg_worker *w = p->all[index] = &worker->w;
    w->gateway = &p->gateway;
    w->config = &the->config;
    w->index = index;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    hg_wheel_open(&w->wheel, hg_clock_ms());
    seam_net_adopt(&the->sn, &w->net);
    w->net.wheel = &w->wheel;
    w->mailbox = hg_mailbox_new(&w->loop, on_mail, w);
    assert_non_null(w->mailbox);
    struct hg_realm *realm = worker->realms[0] = &worker->realm;
    realm->worker = w;
    realm->vhost = &p->vhost;
    realm->rules = the->rules;
    w->realms = worker->realms;
    w->realms_n = 1;
    realm->routing = &worker->routing;
    realm->routing->realm = realm;
    realm->routing->worker = w;
    const struct hg_publisher_config publisher = {
        .link = hg_routing_link(realm->routing),
        .instance = "test",
        .worker = index,
        .window_n = 1000,
        .window_bytes = 1 << 20,
        .timeout_ms = 10000,
        .away_timeout_ms = 30000,
        .metrics = &the->metrics,
    };
    hg_publisher_open(&realm->routing->publisher, &w->net, &publisher, &publisher_ops, NULL);
}

void open_process(size_t i)
{
    struct process *p = &the->processes[i];
    struct hg_gateway *g = &p->gateway;
    memset(p, 0, sizeof(*p));
    g->config = &the->config;
    p->vhost = (struct hg_vhost){.gateway = g, .spec = &the->spec, .directory = hg_directory_new()};
    g->boot_id = 0xb000 + i + the->sn.links_n * 16;
    g->workers = p->all;
    g->workers_n = WORKERS_N;
    p->vhost.state = hg_state_new(&p->vhost);
    assert_non_null(p->vhost.state);
    for (unsigned w = 0; w < WORKERS_N; w++) {
        open_worker(p, w);
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        assert_true(hg_state_open(&p->workers[w].realm));
    }
    p->is_open = true;
}

void close_process(size_t i)
{
    struct process *p = &the->processes[i];
    if (!p->is_open) {
        return;
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        hg_state_close(&p->workers[w].realm);
        hg_publisher_close(&p->workers[w].realm.routing->publisher);
    }
    for (unsigned w = 0; w < WORKERS_N; w++) {
        hg_mailbox_close(p->all[w]->mailbox);
        uv_run(&p->all[w]->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&p->all[w]->loop), 0);
        hg_mailbox_free(p->all[w]->mailbox);
    }
    hg_state_free(p->vhost.state);
    hg_directory_free(p->vhost.directory);
    p->is_open = false;
    run(); /* its exclusive queues go */
}

struct hg_vhost *vhost(size_t i)
{
    return &the->processes[i].vhost;
}

struct hg_realm *realm(size_t process, size_t i)
{
    return &the->processes[process].workers[i].realm;
}

int open_world(void **state)
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
    the->spec.table = the->rules;
    hg_writer_close(&errors);
    seam_net_open(&the->sn);
    the->sn.prepare = prepare;
    return 0;
}

int close_world(void **state)
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

struct seam_link *state_link(size_t process)
{
    return HG_CONTAINER_OF(vhost(process)->state->log.link.stream, struct seam_link, stream);
}

size_t count(const char *kind)
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

void on_done(struct hg_state_wait *wait, enum hg_status status)
{
    struct waiter *w = HG_CONTAINER_OF(wait, struct waiter, wait);
    w->told_n++;
    w->status = status;
}

struct hg_session_record record(const char *client_id, size_t process, uint64_t epoch)
{
    return (struct hg_session_record){
        .client_id = hg_bytes_str(client_id),
        .instance = HG_BYTES("gw"),
        .boot_id = vhost(process)->gateway->boot_id,
        .epoch = epoch,
        .expiry_ms = 3600000,
    };
}

void claim(size_t process, struct hg_session_record *r)
{
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(realm(process, 1), HG_SESSION_CLAIM, r, &w.wait), HG_OK);
    assert_int_equal(w.told_n, 0); /* never from inside */
    run();
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_OK);
}

struct hg_session_record *find(size_t process, const char *client_id)
{
    bool has_failed;
    return hg_state_index_find(hg_state_index_of(vhost(process)), hg_bytes_str(client_id),
                               &has_failed);
}

bool is_known(size_t process, const char *client_id)
{
    struct hg_session_record *r = find(process, client_id);
    hg_session_record_free(r);
    return r != NULL;
}

static void on_granted(struct hg_claim *c)
{
    (void)c;
}

static void on_lost(struct hg_claim *c, enum hg_status why)
{
    struct client *client = HG_CONTAINER_OF(c, struct client, claim);
    client->lost_n++;
    client->why = why;
}

static const struct hg_claim_ops claim_ops = {on_granted, on_lost};

static void open_claim(size_t process, unsigned worker, struct client *c,
                       const struct hg_claim_who *who)
{
    *c = (struct client){.lost_n = 0};
    assert_int_equal(hg_claim_open(realm(process, worker), &c->claim, who, &claim_ops), HG_OK);
}

void connect_client(size_t process, unsigned worker, struct client *c, const char *id)
{
    open_claim(process, worker, c, &(struct hg_claim_who){.client_id = hg_bytes_str(id)});
}

void connect_user(size_t process, unsigned worker, struct client *c, const char *user)
{
    open_claim(process, worker, c,
               &(struct hg_claim_who){
                   .client_id = HG_BYTES("c"), .user = hg_bytes_str(user), .is_owned = true});
}
