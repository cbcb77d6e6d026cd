/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/state_log.h"

#include "rig.h"

#include <stdio.h>

/* What the broker does otherwise than by itself, for methods on things of this name. */
struct script {
    const char *name; /* NULL: the next entry does not count either */
    amqp_method_number_t id;
    bool is_active; /* of declarations: only those that are not passive */
    uint16_t code;
    const char *text;
    unsigned times; /* 0: always */
};

struct bench {
    struct seam_net sn;
    struct hg_state_log log;
    struct hg_upstream_metrics metrics;
    unsigned ups_n, downs_n, restarts_n, records_n, broadcasts_n, bound_n, unbound_n, refused_n;
    char reason[128];
    uint64_t last_offset;
    bool is_leader, fails_records;
    char from[32];           /* the last consume's x-stream-offset */
    uint16_t reading, being; /* channels of the consumers */
    uint64_t tag;
};

static struct bench *the_bench; /* brokers come and go by themselves */
static struct script script[4];

static void on_up(void *ctx)
{
    ((struct bench *)ctx)->ups_n++;
}

static void on_down(void *ctx)
{
    ((struct bench *)ctx)->downs_n++;
}

static void on_refused(void *ctx, struct hg_bytes reason)
{
    struct bench *t = ctx;
    t->refused_n++;
    snprintf(t->reason, sizeof(t->reason), "%.*s", HG_BYTES_FMT(reason));
}

static void on_restart(void *ctx)
{
    ((struct bench *)ctx)->restarts_n++;
}

static bool on_record(void *ctx, struct hg_message *message, uint64_t offset)
{
    struct bench *t = ctx;
    (void)message;
    if (t->fails_records) {
        return false;
    }
    t->records_n++;
    t->last_offset = offset;
    return true;
}

static void on_broadcast(void *ctx, struct hg_message *message)
{
    (void)message;
    ((struct bench *)ctx)->broadcasts_n++;
}

static void on_bound(void *ctx, size_t index, const struct hg_amqp_close *why)
{
    struct bench *t = ctx;
    (void)index;
    t->bound_n += why == NULL;
    t->unbound_n += why != NULL;
}

static void on_leader(void *ctx, bool is_leader)
{
    ((struct bench *)ctx)->is_leader = is_leader;
}

static const struct hg_state_log_ops ops = {
    .on_up = on_up,
    .on_down = on_down,
    .on_refused = on_refused,
    .on_restart = on_restart,
    .on_record = on_record,
    .on_broadcast = on_broadcast,
    .on_bound = on_bound,
    .on_leader = on_leader,
};

/* ---- RabbitMQ's part ---- */

static void note_consumer(struct bench *t, const struct broker_method *m)
{
    const amqp_basic_consume_t *consume = m->decoded;
    struct hg_bytes queue = hg_amqp_view(consume->queue);
    if (hg_bytes_eq(queue, hg_bytes_str(t->log.presence))) {
        t->being = m->channel;
    }
    if (!hg_bytes_eq(queue, HG_BYTES("log"))) {
        return;
    }
    t->reading = m->channel;
    t->tag = 0;
    for (int i = 0; i < consume->arguments.num_entries; i++) {
        const amqp_table_entry_t *e = &consume->arguments.entries[i];
        if (e->value.kind == AMQP_FIELD_KIND_UTF8) {
            snprintf(t->from, sizeof(t->from), "%.*s", (int)e->value.value.bytes.len,
                     (const char *)e->value.value.bytes.bytes);
        } else {
            snprintf(t->from, sizeof(t->from), "%lld", (long long)e->value.value.i64);
        }
    }
}

static struct hg_bytes name_of(const struct broker_method *m, bool *is_active_out)
{
    *is_active_out = true;
    if (m->id == AMQP_QUEUE_DECLARE_METHOD) {
        const amqp_queue_declare_t *declare = m->decoded;
        *is_active_out = !declare->passive;
        return hg_amqp_view(declare->queue);
    }
    if (m->id == AMQP_QUEUE_BIND_METHOD) {
        return hg_amqp_view(((amqp_queue_bind_t *)m->decoded)->exchange);
    }
    if (m->id == AMQP_QUEUE_DELETE_METHOD) {
        return hg_amqp_view(((amqp_queue_delete_t *)m->decoded)->queue);
    }
    return HG_BYTES("");
}

static bool on_method(void *ctx, struct broker *b, const struct broker_method *m)
{
    (void)ctx;
    bool is_active;
    struct hg_bytes name = name_of(m, &is_active);
    if (m->id == AMQP_BASIC_CONSUME_METHOD) {
        note_consumer(the_bench, m);
    }
    for (size_t i = 0; i < 4 && script[i].name != NULL; i++) {
        struct script *s = &script[i];
        if (s->id != m->id || !hg_bytes_eq(name, hg_bytes_str(s->name)) ||
            (s->is_active && !is_active) || (s->times == UINT32_MAX)) {
            continue;
        }
        if (s->times > 0 && --s->times == 0) {
            s->times = UINT32_MAX; /* used up */
        }
        if (s->code == 540) {
            broker_close_connection(b, s->code, s->text, m->id);
        } else {
            broker_close_channel(b, m->channel, s->code, s->text, m->id);
        }
        return true;
    }
    return false;
}

static void prepare(struct broker *b)
{
    b->on_method = on_method;
}

static const char *const exchanges[] = {"amq.topic", "site"};

static void start(struct bench *t)
{
    const struct hg_state_log_config config = {
        .link = rig_link(&t->metrics),
        .instance = "test",
        .boot_id = 0xabc,
        .name = "log",
        .max_bytes = 1 << 20,
        .exchanges = exchanges,
        .exchanges_n = 2,
        .metrics = &t->metrics,
    };
    hg_state_log_open(&t->log, &t->sn.net, &config, &ops, t);
    seam_net_run(&t->sn);
}

static struct bench *open_bench(const struct script *lines, size_t n)
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    memset(script, 0, sizeof(script));
    if (n > 0) {
        memcpy(script, lines, n * sizeof(lines[0]));
    }
    the_bench = t;
    seam_net_open(&t->sn);
    t->sn.prepare = prepare;
    start(t);
    return t;
}

static void close_bench(struct bench *t)
{
    hg_state_log_close(&t->log);
    seam_net_close(&t->sn);
    free(t);
}

static void send_record(struct bench *t, int64_t offset)
{
    const struct hg_header header = {HG_BYTES("x-stream-offset"),
                                     {.kind = HG_VALUE_INT, .u.i = offset}};
    struct hg_message_parts parts = {.routing_key = HG_BYTES("log"), .body = HG_BYTES("body")};
    parts.properties.headers = &header;
    parts.properties.headers_n = offset < 0 ? 0 : 1;
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(rig_broker(&t->sn), t->reading, "consumer", ++t->tag, false, m);
    hg_message_unref(m);
    seam_net_run(&t->sn);
}

/* ---- Reading ---- */

static void the_log_is_read_from_its_first_message_and_acknowledged(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    assert_int_equal(t->ups_n, 1);
    assert_int_equal(t->bound_n, 2);
    assert_string_equal(t->from, "first");
    assert_true(t->is_leader);
    send_record(t, 7);
    send_record(t, 8);
    assert_int_equal(t->records_n, 2);
    assert_int_equal(t->last_offset, 8);
    assert_int_equal(rig_asked(&t->sn, "basic.ack 2 multiple"), 1);
    rig_deliver(&t->sn, t->being, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(t->broadcasts_n, 1);
    close_bench(t);
}

static void after_a_cut_it_goes_on_where_it_was(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    send_record(t, 7);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(t->downs_n, 1);
    assert_false(t->is_leader);
    seam_net_pass(&t->sn, 2000);
    assert_int_equal(t->ups_n, 2);
    assert_string_equal(t->from, "8");
    assert_int_equal(t->bound_n, 4);
    send_record(t, 7); /* RabbitMQ may begin with a chunk's first */
    send_record(t, 8);
    assert_int_equal(t->records_n, 2);
    assert_int_equal(t->restarts_n, 0);
    close_bench(t);
}

static void what_was_truncated_unread_makes_it_begin_anew(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    send_record(t, 7);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 2000);
    send_record(t, 9);
    assert_int_equal(t->restarts_n, 1);
    assert_int_equal(t->records_n, 1);
    assert_string_equal(t->from, "first");
    assert_int_equal(t->ups_n, 3);
    send_record(t, 9);
    assert_int_equal(t->records_n, 2);
    close_bench(t);
}

static void a_deleted_log_is_declared_and_read_anew(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    send_record(t, 7);
    broker_cancel(rig_broker(&t->sn), t->reading, "amq.ctag-2");
    seam_net_run(&t->sn);
    assert_int_equal(t->restarts_n, 1);
    assert_int_equal(t->ups_n, 2);
    assert_int_equal(rig_asked(&t->sn, "queue.declare log"), 2);
    send_record(t, 0);
    assert_int_equal(t->last_offset, 0);
    close_bench(t);
}

static void a_record_that_found_no_memory_comes_again(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    send_record(t, 7);
    t->fails_records = true;
    send_record(t, 8);
    t->fails_records = false;
    assert_int_equal(t->downs_n, 1);
    seam_net_pass(&t->sn, 3500);
    assert_int_equal(t->ups_n, 2);
    assert_string_equal(t->from, "8");
    send_record(t, 8);
    assert_int_equal(t->records_n, 2);
    close_bench(t);
}

/* ---- Declaring ---- */

static void a_log_of_another_size_is_taken_as_it_is(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"log", AMQP_QUEUE_DECLARE_METHOD, true, 406, "PRECONDITION_FAILED - inequivalent arg", 0}};
    struct bench *t = open_bench(lines, 1);
    assert_int_equal(t->ups_n, 1);
    assert_int_equal(t->refused_n, 0);
    assert_int_equal(rig_asked(&t->sn, "queue.declare log"), 2);
    close_bench(t);
}

static void a_log_that_rabbitmq_has_not_opened_yet_is_waited_for(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"log", AMQP_QUEUE_DECLARE_METHOD, true, 404, "NOT_FOUND - home node is down", 2}};
    struct bench *t = open_bench(lines, 1);
    assert_int_equal(t->ups_n, 0);
    seam_net_pass(&t->sn, 6500);
    assert_int_equal(t->refused_n, 0);
    assert_int_equal(t->ups_n, 1);
    close_bench(t);
}

static void a_broker_without_streams_says_so_once(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"log", AMQP_QUEUE_DECLARE_METHOD, true, 406, "PRECONDITION_FAILED - no streams", 0},
        {"log", AMQP_QUEUE_DECLARE_METHOD, false, 404, "NOT_FOUND - no queue 'log'", 0}};
    struct bench *t = open_bench(lines, 2);
    seam_net_pass(&t->sn, 10000);
    assert_int_equal(t->refused_n, 1);
    assert_string_equal(t->reason, "PRECONDITION_FAILED - no streams");
    assert_int_equal(t->ups_n, 0);
    assert_true(hg_link_is_stopped(&t->log.link));
    close_bench(t);
}

static void a_broker_that_ends_the_connection_has_no_streams_either(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"log", AMQP_QUEUE_DECLARE_METHOD, true, 540, "NOT_IMPLEMENTED - no streams", 0}};
    struct bench *t = open_bench(lines, 1);
    seam_net_pass(&t->sn, 10000);
    assert_int_equal(t->refused_n, 1);
    assert_string_equal(t->reason, "NOT_IMPLEMENTED - no streams");
    close_bench(t);
}

static void a_queue_that_is_no_stream_is_refused(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    send_record(t, -1);
    assert_int_equal(t->refused_n, 1);
    assert_int_equal(t->records_n, 0);
    close_bench(t);
}

static void an_exchange_that_cannot_be_bound_hinders_nothing_else(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"amq.topic", AMQP_QUEUE_BIND_METHOD, true, 403, "ACCESS_REFUSED", 0}};
    struct bench *t = open_bench(lines, 1);
    assert_int_equal(t->ups_n, 1);
    assert_int_equal(t->unbound_n, 1);
    assert_int_equal(t->bound_n, 1);
    send_record(t, 7);
    assert_int_equal(t->records_n, 1);
    close_bench(t);
}

static void bindings_are_made_again_now_and_then(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    assert_int_equal(t->bound_n, 2);
    for (int i = 0; i < 65; i++) {
        assert_int_equal(t->bound_n, i < 55 ? 2 : t->bound_n);
        broker_heartbeat(rig_broker(&t->sn));
        seam_net_pass(&t->sn, 1000);
    }
    assert_int_equal(t->bound_n, 4);
    assert_int_equal(t->ups_n, 1);
    close_bench(t);
}

static void who_does_not_lead_asks_again(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"headgate.state.leader", AMQP_QUEUE_DECLARE_METHOD, true, 405, "RESOURCE_LOCKED", 2}};
    struct bench *t = open_bench(lines, 1);
    assert_int_equal(t->ups_n, 1);
    assert_false(t->is_leader);
    seam_net_pass(&t->sn, 3100);
    assert_false(t->is_leader);
    seam_net_pass(&t->sn, 3100);
    assert_true(t->is_leader);
    close_bench(t);
}

/* ---- Errands ---- */

struct errand {
    struct hg_state_errand errand;
    unsigned told_n;
    enum hg_status status;
};

static void on_done(struct hg_state_errand *errand, enum hg_status status)
{
    struct errand *e = HG_CONTAINER_OF(errand, struct errand, errand);
    e->told_n++;
    e->status = status;
}

static void an_errand_says_what_there_is(void **state)
{
    (void)state;
    static const struct script lines[] = {
        {"gone", AMQP_QUEUE_DECLARE_METHOD, false, 404, "NOT_FOUND", 0},
        {"held", AMQP_QUEUE_DECLARE_METHOD, false, 405, "RESOURCE_LOCKED", 0},
        {"used", AMQP_QUEUE_DELETE_METHOD, false, 406, "in use", 0}};
    static const struct {
        const char *queue;
        bool is_delete;
        enum hg_status want;
    } cases[] = {{"there", false, HG_OK},
                 {"gone", false, HG_NO_QUEUE},
                 {"held", false, HG_OK},
                 {"there", true, HG_OK},
                 {"used", true, HG_REFUSED}};
    struct bench *t = open_bench(lines, 3);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct errand e = {.errand.done = on_done};
        (cases[i].is_delete ? hg_state_log_delete
                            : hg_state_log_check)(&t->log, &e.errand, hg_bytes_str(cases[i].queue));
        assert_int_equal(e.told_n, 0); /* never from inside */
        seam_net_run(&t->sn);
        assert_int_equal(e.told_n, 1);
        assert_int_equal(e.status, cases[i].want);
        hg_state_log_cancel(&e.errand);
    }
    assert_int_equal(t->downs_n, 0);
    close_bench(t);
}

static void an_errand_ends_with_the_link(void **state)
{
    (void)state;
    struct bench *t = open_bench(NULL, 0);
    struct errand cut = {.errand.done = on_done}, late = {.errand.done = on_done},
                  cancelled = {.errand.done = on_done};
    rig_broker(&t->sn)->is_mute = true;
    hg_state_log_check(&t->log, &cut.errand, HG_BYTES("q"));
    hg_state_log_check(&t->log, &cancelled.errand, HG_BYTES("q"));
    hg_state_log_cancel(&cancelled.errand);
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(cut.status, HG_BROKER_AWAY);
    hg_state_log_check(&t->log, &late.errand, HG_BYTES("q"));
    assert_int_equal(late.told_n, 0);
    seam_net_run(&t->sn);
    assert_int_equal(late.status, HG_BROKER_AWAY);
    assert_int_equal(cancelled.told_n, 0);
    close_bench(t);
}

static void no_failed_allocation_keeps_it_down(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        seam_fail_alloc(n);
        struct bench *t = open_bench(NULL, 0);
        bool has_failed = seam_allocs() >= n;
        seam_fail_alloc(0);
        seam_net_pass(&t->sn, 8000);
        assert_true(t->log.is_up);
        assert_true(t->is_leader);
        send_record(t, 3);
        assert_int_equal(t->records_n, 1);
        close_bench(t);
        if (!has_failed) {
            break;
        }
    }
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_is_read_from_its_first_message_and_acknowledged),
        cmocka_unit_test(after_a_cut_it_goes_on_where_it_was),
        cmocka_unit_test(what_was_truncated_unread_makes_it_begin_anew),
        cmocka_unit_test(a_deleted_log_is_declared_and_read_anew),
        cmocka_unit_test(a_record_that_found_no_memory_comes_again),
        cmocka_unit_test(a_log_of_another_size_is_taken_as_it_is),
        cmocka_unit_test(a_log_that_rabbitmq_has_not_opened_yet_is_waited_for),
        cmocka_unit_test(a_broker_without_streams_says_so_once),
        cmocka_unit_test(a_broker_that_ends_the_connection_has_no_streams_either),
        cmocka_unit_test(a_queue_that_is_no_stream_is_refused),
        cmocka_unit_test(an_exchange_that_cannot_be_bound_hinders_nothing_else),
        cmocka_unit_test(bindings_are_made_again_now_and_then),
        cmocka_unit_test(who_does_not_lead_asks_again),
        cmocka_unit_test(an_errand_says_what_there_is),
        cmocka_unit_test(an_errand_ends_with_the_link),
        cmocka_unit_test(no_failed_allocation_keeps_it_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
