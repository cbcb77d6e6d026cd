/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/queue_consumer.h"

#include "rig.h"

enum { USERS = 4 };

struct user {
    struct hg_binding_user bound;
    enum hg_status status; /* HG_STATUS_N: not told */
    unsigned told_n;
};

struct bench {
    struct seam_net sn;
    struct hg_seats seats;
    struct hg_upstream_metrics metrics;
    struct hg_queue_consumer *queue; /* NULL once it has ended */
    struct user users[USERS];
    enum hg_status status; /* HG_STATUS_N: not told */
    unsigned told_n, deliveries_n, redelivered_n;
    bool has_existed;
    struct hg_ticket tickets[16]; /* of the deliveries */
};

static void on_state(void *ctx, enum hg_status status, bool has_existed, struct hg_bytes reason)
{
    struct bench *t = ctx;
    (void)reason;
    t->status = status;
    t->has_existed = has_existed;
    t->told_n++;
    if (status != HG_OK) {
        t->queue = NULL;
    }
}

static void on_delivery(void *ctx, struct hg_message *message, struct hg_ticket ticket,
                        bool is_redelivered)
{
    struct bench *t = ctx;
    (void)message;
    assert_int_equal(t->status, HG_OK); /* was told before */
    t->tickets[t->deliveries_n++] = ticket;
    t->redelivered_n += is_redelivered;
}

static const struct hg_queue_consumer_ops ops = {.on_state = on_state, .on_delivery = on_delivery};

static void on_bound(struct hg_binding_user *bound, enum hg_status status, struct hg_bytes reason)
{
    struct user *u = HG_CONTAINER_OF(bound, struct user, bound);
    (void)reason;
    u->status = status;
    u->told_n++;
}

static const struct hg_bindings_ops bindings_ops = {.on_bound = on_bound};

static struct bench *open_bench(void (*prepare)(struct broker *b))
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    t->status = HG_STATUS_N;
    for (size_t i = 0; i < USERS; i++) {
        t->users[i].status = HG_STATUS_N;
    }
    const struct hg_seats_config config = {
        .link = rig_link(&t->metrics), .instance = "test", .metrics = &t->metrics};
    hg_seats_open(&t->seats, &t->sn.net, &config);
    return t;
}

static void close_bench(struct bench *t)
{
    for (size_t i = 0; i < USERS && t->queue == NULL; i++) {
        hg_bindings_remove(&t->users[i].bound);
    }
    hg_seats_close(&t->seats);
    seam_net_close(&t->sn);
    free(t);
}

static struct hg_queue_consumer_spec spec_of(const char *queue)
{
    static struct hg_header arguments[1];
    arguments[0] = (struct hg_header){HG_BYTES("x-queue-type"),
                                      {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("quorum")}};
    return (struct hg_queue_consumer_spec){
        .queue = hg_bytes_str(queue), .arguments = arguments, .arguments_n = 1, .prefetch = 10};
}

static void consume(struct bench *t, const struct hg_queue_consumer_spec *spec)
{
    t->queue = hg_queue_consumer_open(&t->seats, spec, &ops, &bindings_ops, t);
}

static void consume_plainly(struct bench *t)
{
    const struct hg_queue_consumer_spec spec = spec_of("q");
    consume(t, &spec);
    assert_non_null(t->queue);
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_OK);
}

static bool want(struct bench *t, size_t user, const char *exchange, const char *key)
{
    return hg_bindings_add(hg_queue_consumer_bindings(t->queue), hg_bytes_str(exchange),
                           hg_bytes_str(key), &t->users[user].bound, NULL);
}

/* The channel that was consumed on last. */
static uint16_t channel(struct bench *t)
{
    struct hg_bytes log = hg_writer_view(&rig_broker(&t->sn)->log);
    unsigned number = 0;
    for (size_t i = 0; i < log.n;) {
        const char *line = (const char *)log.p + i;
        unsigned at = 0;
        char method[64];
        if (sscanf(line, "%u %63s", &at, method) == 2 && strcmp(method, "basic.consume") == 0) {
            number = at;
        }
        i += strcspn(line, "\n") + 1;
    }
    return (uint16_t)number;
}

static void deliver(struct bench *t, uint64_t tag, bool is_redelivered)
{
    rig_deliver(&t->sn, channel(t), tag, is_redelivered);
    seam_net_run(&t->sn);
}

/* ---- Declaring ---- */

static void miss(struct broker *b)
{
    b->missing[0] = "q";
}

/* What was missing is there from the moment it is declared. */
static bool make(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id == AMQP_QUEUE_DECLARE_METHOD &&
        !((const amqp_queue_declare_t *)method->decoded)->passive) {
        b->missing[0] = NULL;
    }
    return false;
}

static void miss_until_made(struct broker *b)
{
    miss(b);
    b->on_method = make;
}

static void a_queue_that_is_there_is_taken_as_it_is(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    const struct hg_queue_consumer_spec spec = spec_of("q");
    consume(t, &spec);
    assert_int_equal(t->told_n, 0); /* never from inside */
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_OK);
    assert_true(t->has_existed);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    assert_int_equal(rig_asked(&t->sn, "queue.delete"), 0);
    close_bench(t);
}

static void a_queue_that_is_not_there_is_declared(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss_until_made);
    consume_plainly(t);
    assert_false(t->has_existed);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 2); /* looked for, then made */
    assert_int_equal(t->told_n, 1);
    close_bench(t);
}

static void a_fresh_queue_is_deleted_first_but_not_again_after_a_cut(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.is_fresh = true;
    consume(t, &spec);
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_OK);
    assert_false(t->has_existed);
    assert_int_equal(rig_asked(&t->sn, "queue.delete"), 1);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->told_n, 2);
    assert_true(t->has_existed);
    assert_int_equal(rig_asked(&t->sn, "queue.delete"), 0);
    close_bench(t);
}

static void a_queue_that_was_lost_with_the_link_is_declared_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    want(t, 0, "x", "k");
    seam_net_run(&t->sn);
    t->sn.prepare = miss_until_made;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->told_n, 2);
    assert_int_equal(t->status, HG_OK);
    assert_false(t->has_existed);
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 1);
    close_bench(t);
}

static bool refuse_declare(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id != AMQP_QUEUE_DECLARE_METHOD) {
        return false;
    }
    broker_close_channel(b, method->channel, AMQP_ACCESS_REFUSED, "ACCESS_REFUSED - no",
                         method->id);
    return true;
}

static void refuse(struct broker *b)
{
    b->on_method = refuse_declare;
}

static void a_refused_declaration_ends_it(void **state)
{
    (void)state;
    struct bench *t = open_bench(refuse);
    const struct hg_queue_consumer_spec spec = spec_of("q");
    consume(t, &spec);
    want(t, 0, "x", "k");
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_NOT_ALLOWED);
    hg_bindings_remove(&t->users[0].bound);
    assert_int_equal(t->users[0].told_n, 0);
    close_bench(t);
}

static void a_deleted_queue_ends_it(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    broker_cancel(rig_broker(&t->sn), channel(t), "headgate");
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_NO_QUEUE);
    close_bench(t);
}

/* ---- As its spec says ---- */

/* What RabbitMQ was asked last, in words. */
static char last_declare[256], last_bind[256], last_consume[256];

static void write_fields(char out[256], const char *flags, const amqp_table_t *table)
{
    size_t n = (size_t)snprintf(out, 256, "%s", flags);
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *e = &table->entries[i];
        n += (size_t)snprintf(out + n, 256 - n, " %.*s", (int)e->key.len, (char *)e->key.bytes);
        if (e->value.kind == AMQP_FIELD_KIND_UTF8) {
            (void)snprintf(out + n, 256 - n, "=%.*s", (int)e->value.value.bytes.len,
                           (char *)e->value.value.bytes.bytes);
        } else if (e->value.kind == AMQP_FIELD_KIND_I64) {
            (void)snprintf(out + n, 256 - n, ":%lld", (long long)e->value.value.i64);
        }
        n = strlen(out);
    }
}

static bool note(void *ctx, struct broker *b, const struct broker_method *method)
{
    char flags[64];
    (void)ctx;
    (void)b;
    if (method->id == AMQP_QUEUE_DECLARE_METHOD) {
        const amqp_queue_declare_t *m = method->decoded;
        (void)snprintf(flags, sizeof(flags), "%s%s%s%s", m->passive ? "passive " : "",
                       m->durable ? "durable " : "", m->exclusive ? "exclusive " : "",
                       m->auto_delete ? "auto-delete" : "");
        write_fields(last_declare, flags, &m->arguments);
    } else if (method->id == AMQP_QUEUE_BIND_METHOD) {
        write_fields(last_bind, "", &((const amqp_queue_bind_t *)method->decoded)->arguments);
    } else if (method->id == AMQP_BASIC_CONSUME_METHOD) {
        write_fields(last_consume, "", &((const amqp_basic_consume_t *)method->decoded)->arguments);
    }
    return false;
}

static void take_notes(struct broker *b)
{
    b->on_method = note;
}

static void a_queue_that_must_match_is_declared_and_bound_as_said(void **state)
{
    (void)state;
    const struct hg_header any = {HG_BYTES("x-match"),
                                  {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("any")}};
    const struct hg_header priority = {HG_BYTES("x-priority"), {.kind = HG_VALUE_INT, .u.i = -7}};
    struct bench *t = open_bench(take_notes);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.must_match = spec.is_transient = spec.is_private = spec.is_auto_delete = true;
    spec.consumer_arguments = &priority;
    spec.binding_arguments = &any;
    spec.consumer_arguments_n = spec.binding_arguments_n = 1;
    consume(t, &spec);
    want(t, 0, "x", "k");
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    assert_string_equal(last_declare, "exclusive auto-delete x-queue-type=quorum");
    assert_string_equal(last_bind, " x-match=any");
    assert_string_equal(last_consume, " x-priority:-7");
    close_bench(t);
}

static bool refuse_to_match(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id == AMQP_QUEUE_DECLARE_METHOD) {
        broker_close_channel(b, method->channel, AMQP_PRECONDITION_FAILED,
                             "PRECONDITION_FAILED - inequivalent arg", method->id);
        return true;
    }
    return false;
}

static void differ(struct broker *b)
{
    b->on_method = refuse_to_match;
}

static void one_that_differs_ends_it(void **state)
{
    (void)state;
    struct bench *t = open_bench(differ);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.must_match = true;
    consume(t, &spec);
    seam_net_run(&t->sn);
    assert_int_equal(t->status, HG_REFUSED);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    close_bench(t);
}

static void come_from_stream(struct bench *t, uint64_t tag, int64_t offset)
{
    const struct hg_header header = {HG_BYTES("x-stream-offset"),
                                     {.kind = HG_VALUE_INT, .u.i = offset}};
    const struct hg_message_parts parts = {.routing_key = HG_BYTES("q"),
                                           .properties = {.headers = &header, .headers_n = 1}};
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(rig_broker(&t->sn), channel(t), "headgate", tag, false, m);
    hg_message_unref(m);
    seam_net_run(&t->sn);
}

static void a_stream_goes_on_with_the_oldest_that_has_no_answer(void **state)
{
    (void)state;
    const struct hg_header from_first = {HG_BYTES("x-stream-offset"),
                                         {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("first")}};
    struct bench *t = open_bench(take_notes);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.consumer_arguments = &from_first;
    spec.consumer_arguments_n = 1;
    consume(t, &spec);
    seam_net_run(&t->sn);
    assert_string_equal(last_consume, " x-stream-offset=first");
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_string_equal(last_consume, " x-stream-offset=first"); /* there was nothing yet */
    for (uint64_t tag = 1; tag <= 3; tag++) {
        come_from_stream(t, tag, 40 + (int64_t)tag);
    }
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[0]), HG_OK);
    assert_int_equal(hg_queue_consumer_nack(t->queue, t->tickets[2], true), HG_OK);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_string_equal(last_consume, " x-stream-offset:42");
    come_from_stream(t, 1, 42);
    hg_queue_consumer_ack_all(t->queue);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack 1"), 1);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_string_equal(last_consume, " x-stream-offset:43");
    close_bench(t);
}

static void an_offset_says_nothing_about_other_queues(void **state)
{
    (void)state;
    struct bench *t = open_bench(take_notes);
    consume_plainly(t);
    come_from_stream(t, 1, 42); /* dead-lettered out of a stream, for one */
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->told_n, 2);
    assert_string_equal(last_consume, "");
    close_bench(t);
}

static bool lock_declare(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id == AMQP_QUEUE_DECLARE_METHOD) {
        broker_close_channel(b, method->channel, AMQP_RESOURCE_LOCKED,
                             "RESOURCE_LOCKED - cannot obtain exclusive access", method->id);
        return true;
    }
    return false;
}

static void lock(struct broker *b)
{
    b->on_method = lock_declare;
}

static void a_private_queue_of_our_own_former_link_is_waited_for(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.must_match = spec.is_private = true;
    consume(t, &spec);
    seam_net_run(&t->sn);
    t->sn.prepare = lock;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 50000);
    assert_int_equal(t->told_n, 1);
    rig_broker(&t->sn)->on_method = NULL;
    seam_net_pass(&t->sn, 300);
    assert_int_equal(t->status, HG_OK);
    assert_int_equal(t->told_n, 2);
    close_bench(t);
}

static void somebody_elses_is_not(void **state)
{
    (void)state;
    struct bench *t = open_bench(lock);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.must_match = spec.is_private = true;
    consume(t, &spec);
    seam_net_run(&t->sn);
    assert_int_equal(t->told_n, 1);
    assert_int_not_equal(t->status, HG_OK);
    close_bench(t);
}

/* ---- Exclusive consumption ---- */

static bool refuse_consume(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    if (method->id != AMQP_BASIC_CONSUME_METHOD) {
        return false;
    }
    assert_true(((const amqp_basic_consume_t *)method->decoded)->exclusive);
    broker_close_channel(b, method->channel, AMQP_ACCESS_REFUSED,
                         "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", method->id);
    return true;
}

static void be_in_use(struct broker *b)
{
    b->on_method = refuse_consume;
}

static void somebody_elses_queue_is_waited_for_with_patience(void **state)
{
    (void)state;
    struct bench *t = open_bench(be_in_use);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.is_exclusive = true;
    spec.patience_ms = 5000;
    consume(t, &spec);
    want(t, 0, "x", "k");
    seam_net_pass(&t->sn, 3000);
    assert_int_equal(t->told_n, 0);
    unsigned asked_n = rig_asked(&t->sn, "basic.consume");
    assert_in_range(asked_n, 15, 31);
    rig_broker(&t->sn)->on_method = NULL;
    seam_net_pass(&t->sn, 200);
    assert_int_equal(t->status, HG_OK);
    assert_int_equal(rig_asked(&t->sn, "queue.declare"), 1);
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 1);
    close_bench(t);
}

static void patience_has_an_end(void **state)
{
    (void)state;
    struct bench *t = open_bench(be_in_use);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.is_exclusive = true;
    spec.patience_ms = 5000;
    consume(t, &spec);
    seam_net_pass(&t->sn, 4500);
    assert_int_equal(t->told_n, 0);
    seam_net_pass(&t->sn, 1000);
    assert_int_equal(t->status, HG_NOT_ALLOWED);
    assert_int_equal(t->told_n, 1);
    close_bench(t);
}

static void after_a_cut_our_own_former_consumer_is_waited_for(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    struct hg_queue_consumer_spec spec = spec_of("q");
    spec.is_exclusive = true;
    spec.patience_ms = 1000;
    consume(t, &spec);
    seam_net_run(&t->sn);
    t->sn.prepare = be_in_use;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 50000); /* two heartbeats are 60 s */
    assert_int_equal(t->told_n, 1);
    rig_broker(&t->sn)->on_method = NULL;
    seam_net_pass(&t->sn, 300);
    assert_int_equal(t->told_n, 2);
    assert_int_equal(t->status, HG_OK);
    close_bench(t);
}

/* ---- Answers ---- */

static void answers_go_out_at_the_end_of_the_turn_together(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    for (uint64_t tag = 1; tag <= 5; tag++) {
        deliver(t, tag, tag == 1);
    }
    assert_int_equal(t->deliveries_n, 5);
    assert_int_equal(t->redelivered_n, 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[i]), HG_OK);
    }
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 0);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    assert_int_equal(rig_asked(&t->sn, "basic.ack 3 multiple"), 1);
    assert_int_equal(hg_queue_consumer_nack(t->queue, t->tickets[4], true), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.nack 5"), 1);
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[4]), HG_STALE);
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[3]), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack 4"), 1);
    close_bench(t);
}

static void a_ticket_from_before_a_cut_is_stale(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    deliver(t, 1, false);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[0]), HG_STALE);
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->told_n, 2);
    deliver(t, 1, true);
    assert_int_equal(t->tickets[0].tag, t->tickets[1].tag);
    assert_int_equal(hg_queue_consumer_nack(t->queue, t->tickets[0], true), HG_STALE);
    assert_int_equal(hg_counted(&t->metrics.stale_acks), 2);
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[1]), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack"), 1);
    assert_int_equal(rig_asked(&t->sn, "basic.nack"), 0);
    close_bench(t);
}

/* RabbitMQ ends the channel of a delivery that was not answered for half an hour. */
static void a_channel_that_is_closed_while_live_is_followed_by_another(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    want(t, 0, "x", "k");
    deliver(t, 1, false);
    broker_close_channel(rig_broker(&t->sn), channel(t), AMQP_PRECONDITION_FAILED,
                         "PRECONDITION_FAILED - delivery acknowledgement timed out", 0);
    seam_net_pass(&t->sn, 300);
    assert_int_equal(t->told_n, 2);
    assert_int_equal(t->status, HG_OK);
    assert_int_equal(t->sn.links_n, 1);
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[0]), HG_STALE);
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 1); /* nothing happened to it */
    close_bench(t);
}

/* ---- Bindings ---- */

static bool keep_bind_waiting(void *ctx, struct broker *b, const struct broker_method *method)
{
    (void)ctx;
    (void)b;
    return method->id == AMQP_QUEUE_BIND_METHOD;
}

static void let_binds_wait(struct broker *b)
{
    b->on_method = keep_bind_waiting;
}

static void nothing_is_consumed_before_the_bindings_are_there_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    want(t, 0, "x", "a");
    want(t, 1, "x", "b");
    seam_net_run(&t->sn);
    assert_int_equal(t->users[1].status, HG_OK);
    t->sn.prepare = let_binds_wait;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(rig_asked(&t->sn, "queue.bind"), 2);
    assert_int_equal(rig_asked(&t->sn, "basic.consume"), 0);
    amqp_queue_bind_ok_t ok = {0};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(t->told_n, 1);
        broker_send(rig_broker(&t->sn),
                    hg_amqp_channel_number(hg_queue_consumer_bindings(t->queue)->binder->channel),
                    AMQP_QUEUE_BIND_OK_METHOD, &ok);
        seam_net_run(&t->sn);
    }
    assert_int_equal(t->told_n, 2);
    assert_int_equal(t->users[0].told_n, 1); /* not again */
    close_bench(t);
}

static void miss_exchange(struct broker *b)
{
    b->missing[0] = "nowhere";
}

static void a_refused_binding_disturbs_neither_the_consumer_nor_other_queues(void **state)
{
    (void)state;
    struct bench *t = open_bench(miss_exchange);
    consume_plainly(t);
    struct hg_queue_consumer *first = t->queue;
    const struct hg_queue_consumer_spec spec = spec_of("q2");
    consume(t, &spec);
    want(t, 0, "nowhere", "k");
    want(t, 1, "x", "k");
    assert_true(hg_bindings_add(hg_queue_consumer_bindings(first), HG_BYTES("x"), HG_BYTES("k"),
                                &t->users[2].bound, NULL));
    seam_net_run(&t->sn);
    assert_int_equal(t->users[0].status, HG_NO_EXCHANGE);
    assert_int_equal(t->users[1].status, HG_OK);
    assert_int_equal(t->users[2].status, HG_OK);
    assert_int_equal(t->told_n, 2);
    assert_int_equal(t->status, HG_OK);
    hg_bindings_remove(&t->users[0].bound);
    close_bench(t);
}

/* ---- The end ---- */

static void a_kept_queue_keeps_its_bindings_but_those_just_removed(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL);
    consume_plainly(t);
    want(t, 0, "x", "a");
    want(t, 1, "x", "b");
    seam_net_run(&t->sn);
    deliver(t, 1, false);
    assert_int_equal(hg_queue_consumer_ack(t->queue, t->tickets[0]), HG_OK);
    hg_bindings_remove(&t->users[0].bound);
    hg_queue_consumer_close(t->queue, HG_QUEUE_KEEP);
    hg_bindings_remove(&t->users[1].bound);
    seam_net_run(&t->sn);
    assert_int_equal(rig_asked(&t->sn, "basic.ack 1"), 1);
    assert_int_equal(rig_asked(&t->sn, "queue.unbind a"), 1);
    assert_int_equal(rig_asked(&t->sn, "queue.unbind b"), 0);
    assert_int_equal(rig_asked(&t->sn, "queue.delete"), 0);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 1);
    close_bench(t);
}

static void a_queue_is_deleted_with_or_without_conditions(void **state)
{
    (void)state;
    for (int is_only_idle = 0; is_only_idle < 2; is_only_idle++) {
        struct bench *t = open_bench(NULL);
        consume_plainly(t);
        deliver(t, 1, false);
        hg_queue_consumer_close(t->queue, is_only_idle ? HG_QUEUE_DELETE_IF_IDLE : HG_QUEUE_DELETE);
        seam_net_run(&t->sn);
        assert_int_equal(rig_asked(&t->sn, "queue.delete q"), 1);
        assert_int_equal(rig_asked(&t->sn, "basic.cancel headgate"), is_only_idle);
        assert_int_equal(rig_asked(&t->sn, "basic.nack 0 multiple"), is_only_idle);
        close_bench(t);
    }
}

static void it_can_be_closed_at_any_moment(void **state)
{
    (void)state;
    size_t before = seam_live();
    for (uint64_t ms = 0; ms <= 320; ms += 64) {
        for (int how = HG_QUEUE_KEEP; how <= HG_QUEUE_DELETE_IF_IDLE; how++) {
            struct bench *t = open_bench(ms % 128 == 0 ? miss_until_made : be_in_use);
            struct hg_queue_consumer_spec spec = spec_of("q");
            spec.is_exclusive = true;
            spec.patience_ms = 5000;
            consume(t, &spec);
            want(t, 0, "x", "k");
            if (ms > 0) {
                seam_net_pass(&t->sn, ms);
            }
            hg_queue_consumer_close(t->queue, (enum hg_queue_end)how);
            t->queue = NULL;
            unsigned told_n = t->told_n;
            seam_net_pass(&t->sn, 1000);
            assert_int_equal(t->told_n, told_n);
            close_bench(t);
            assert_int_equal(seam_live(), before);
        }
    }
}

static void no_failed_allocation_leaves_anybody_waiting(void **state)
{
    (void)state;
    size_t before = seam_live();
    for (size_t n = 1; n < 120; n++) {
        struct bench *t = open_bench(miss_until_made);
        seam_fail_alloc(n);
        const struct hg_queue_consumer_spec spec = spec_of("q");
        consume(t, &spec);
        bool is_open = t->queue != NULL;
        bool is_wanted = is_open && want(t, 0, "x", "k");
        seam_net_pass(&t->sn, 3000);
        if (t->queue != NULL && t->status == HG_OK) {
            deliver(t, 1, false);
            if (t->deliveries_n == 1 && t->queue != NULL) {
                (void)hg_queue_consumer_ack(t->queue, t->tickets[0]);
            }
        }
        seam_net_pass(&t->sn, 3000);
        seam_fail_alloc(0);
        seam_net_pass(&t->sn, 3000);
        assert_int_equal(t->told_n > 0, is_open);
        if (is_wanted && t->queue != NULL) {
            assert_int_equal(t->users[0].status, HG_OK);
        }
        hg_queue_consumer_close(t->queue, HG_QUEUE_DELETE);
        t->queue = NULL;
        close_bench(t);
        assert_int_equal(seam_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_that_is_there_is_taken_as_it_is),
        cmocka_unit_test(a_queue_that_is_not_there_is_declared),
        cmocka_unit_test(a_fresh_queue_is_deleted_first_but_not_again_after_a_cut),
        cmocka_unit_test(a_queue_that_was_lost_with_the_link_is_declared_again),
        cmocka_unit_test(a_refused_declaration_ends_it),
        cmocka_unit_test(a_deleted_queue_ends_it),
        cmocka_unit_test(a_queue_that_must_match_is_declared_and_bound_as_said),
        cmocka_unit_test(one_that_differs_ends_it),
        cmocka_unit_test(a_stream_goes_on_with_the_oldest_that_has_no_answer),
        cmocka_unit_test(an_offset_says_nothing_about_other_queues),
        cmocka_unit_test(a_private_queue_of_our_own_former_link_is_waited_for),
        cmocka_unit_test(somebody_elses_is_not),
        cmocka_unit_test(somebody_elses_queue_is_waited_for_with_patience),
        cmocka_unit_test(patience_has_an_end),
        cmocka_unit_test(after_a_cut_our_own_former_consumer_is_waited_for),
        cmocka_unit_test(answers_go_out_at_the_end_of_the_turn_together),
        cmocka_unit_test(a_ticket_from_before_a_cut_is_stale),
        cmocka_unit_test(a_channel_that_is_closed_while_live_is_followed_by_another),
        cmocka_unit_test(nothing_is_consumed_before_the_bindings_are_there_again),
        cmocka_unit_test(a_refused_binding_disturbs_neither_the_consumer_nor_other_queues),
        cmocka_unit_test(a_kept_queue_keeps_its_bindings_but_those_just_removed),
        cmocka_unit_test(a_queue_is_deleted_with_or_without_conditions),
        cmocka_unit_test(it_can_be_closed_at_any_moment),
        cmocka_unit_test(no_failed_allocation_leaves_anybody_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
