/* SPDX-License-Identifier: Apache-2.0 */
/* Polls and leases over the real routing and a scripted RabbitMQ, and what another instance asks or
 * answers. */
#include "core/lease.h"

#include "core/lease_priv.h"
#include "routing_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { TAKEN = 8, BOOT = 0x1234, OTHER_BOOT = 0x5678 };

#define OWN_QUEUE "headgate.lease.0000000000001234.0"

struct world {
    struct routing_world core;
    /* Of the last poll. */
    struct hg_lease_poll *poll;
    enum hg_status status; /* HG_STATUS_N: not told */
    size_t taken_n;
    char ids[TAKEN][HG_LEASE_ID_SIZE];
    /* Of the last call: "dgu", a letter each; empty: not told. */
    struct hg_lease_call *call;
    char answers[TAKEN + 1];
};

static struct world *the;

/* ---- The world ---- */

static bool refuse_offset(void *ctx, struct broker *b, const struct broker_method *method)
{
    const amqp_basic_consume_t *consume = method->decoded;
    (void)ctx;
    if (method->id != AMQP_BASIC_CONSUME_METHOD || consume->queue.len != 1 ||
        consume->arguments.num_entries == 0) { /* the feed says its priority */
        return false;
    }
    broker_close_channel(b, method->channel, 406, "invalid arg 'x-stream-offset'", method->id);
    return true;
}

static void prepare(struct broker *b)
{
    b->on_method = refuse_offset;
}

static int open_world(void **state)
{
    (void)state;
    the = calloc(1, sizeof(*the));
    assert_non_null(the);
    static const struct hg_rule_spec rule = {.where = "1",
                                             .name = "r",
                                             .pattern = {"r", NULL, NULL},
                                             .exchange = "amq.topic",
                                             .key = "r",
                                             .persistent = HG_UNSET};
    routing_world_init(&the->core, &rule, 1);
    struct hg_config *c = &the->core.config;
    c->confirm_window = 100;
    c->lease_max = TAKEN;
    c->lease_bytes = 100;
    c->leases_per_queue = 4;
    c->leases_per_worker = 6;
    the->core.gateway.boot_id = BOOT;
    the->core.gateway.workers_n = 1;
    routing_world_open(&the->core, prepare);
    assert_true(hg_leases_open(&the->core.realm));
    seam_net_run(&the->core.sn);
    return 0;
}

static struct hg_service *service(void)
{
    return HG_LIST_ENTRY(the->core.worker.services.next, struct hg_service, link);
}

static int close_world(void **state)
{
    (void)state;
    service()->ops->close(service());
    assert_null(the->core.realm.leases);
    routing_world_close(&the->core);
    free(the);
    assert_int_equal(seam_live(), 0);
    return 0;
}

static void on_done(void *ctx, const struct hg_lease_result *result)
{
    (void)ctx;
    assert_int_equal(the->status, HG_STATUS_N);
    the->status = result->status;
    the->taken_n = result->n;
    the->poll = NULL;
    for (size_t i = 0; i < result->n; i++) {
        memcpy(the->ids[i], result->messages[i].id, HG_LEASE_ID_SIZE);
    }
}

static enum hg_status poll(const char *queue, uint32_t max, uint64_t wait_ms, uint64_t lease_ms)
{
    const char *why = NULL;
    const struct hg_lease_spec spec = {.queue = hg_bytes_str(queue),
                                       .max = max,
                                       .wait_ms = wait_ms,
                                       .lease_ms = lease_ms,
                                       .done = on_done};
    the->status = HG_STATUS_N;
    enum hg_status status = hg_lease_take(&the->core.realm, &spec, &the->poll, &why);
    assert_true(status != HG_TOO_MANY || why != NULL);
    seam_net_run(&the->core.sn);
    return status;
}

static void on_answered(void *ctx, const uint8_t *answers, size_t n)
{
    (void)ctx;
    the->call = NULL;
    for (size_t i = 0; i < n; i++) {
        the->answers[i] = "dgu"[answers[i]];
    }
    the->answers[n] = '\0';
}

static const char *answer(enum hg_lease_act act, uint64_t ms, const char *queue, const char *id)
{
    const struct hg_bytes ids[] = {hg_bytes_str(id)};
    const struct hg_lease_order order = {
        .act = act, .lease_ms = ms, .queue = hg_bytes_str(queue), .ids = ids, .ids_n = 1};
    struct hg_lease_call *call = NULL;
    the->answers[0] = '\0';
    assert_true(hg_lease_answer(&the->core.realm, &order, on_answered, NULL, &call));
    the->call = call;
    seam_net_run(&the->core.sn);
    return the->answers;
}

/* The link on which queues are consumed, which is the newest. */
static struct broker *broker(void)
{
    return &seam_net_last(&the->core.sn)->broker;
}

static unsigned asked(const char *what)
{
    unsigned n = 0;
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        struct hg_bytes log = hg_writer_view(&the->core.sn.links[i]->broker.log);
        for (size_t at = 0; at + strlen(what) <= log.n; at++) {
            n += memcmp(log.p + at, what, strlen(what)) == 0;
        }
    }
    return n;
}

/* To a consumer on a channel of that link. */
static void come(uint16_t channel, const char *tag, uint64_t number,
                 const struct hg_message_parts *parts)
{
    seam_spare(true);
    struct hg_message *m = hg_message_new(parts);
    broker_deliver(broker(), channel, tag, number, false, m);
    hg_message_unref(m);
    seam_spare(false);
}

/* The channel of the last consumer. */
static uint16_t channel(void)
{
    struct hg_bytes log = hg_writer_view(&broker()->log);
    unsigned number = 0;
    for (size_t i = 0; i < log.n;) {
        unsigned at = 0;
        char method[64];
        if (sscanf((const char *)log.p + i, "%u %63s", &at, method) == 2 &&
            strcmp(method, "basic.consume") == 0) {
            number = at;
        }
        i += strcspn((const char *)log.p + i, "\n") + 1;
    }
    return (uint16_t)number;
}

static void fill(const char *tag, uint64_t first, unsigned n)
{
    const struct hg_message_parts parts = {.body = HG_BYTES("body")};
    for (unsigned i = 0; i < n; i++) {
        come(channel(), tag, first + i, &parts);
    }
    seam_net_run(&the->core.sn);
}

/* Leases of q, the first poll of the test. */
static void take(unsigned n, uint64_t lease_ms)
{
    assert_int_equal(poll("q", n, 1000, lease_ms), HG_OK);
    fill("1", 1, n);
    assert_int_equal(the->status, HG_OK);
    assert_int_equal(the->taken_n, n);
}

static const struct hg_lease_metrics *metrics(void)
{
    return &the->core.worker.metrics.lease;
}

/* ---- Tests ---- */

static void an_id_reads_back_as_it_was_written(void **state)
{
    (void)state;
    struct hg_lease_id id = {.boot_id = UINT64_MAX - 5, .worker = 0xfedc, .slot = 0x89abcdef};
    struct hg_lease_id back;
    char text[HG_LEASE_ID_SIZE];
    hg_lease_id_draw(id.secret);
    hg_lease_id_write(&id, text);
    assert_int_equal(strlen(text), HG_LEASE_ID_SIZE - 1);
    assert_true(hg_lease_id_read(hg_bytes_str(text), &back));
    assert_int_equal(back.boot_id, id.boot_id);
    assert_int_equal(back.worker, id.worker);
    assert_int_equal(back.slot, id.slot);
    assert_true(hg_lease_id_is(back.secret, id.secret));
    static const char *const bad[] = {"", "A", "+", "=", " "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char other[HG_LEASE_ID_SIZE];
        memcpy(other, text, sizeof(other));
        other[7] = bad[i][0];
        bool is_letter = bad[i][0] == 'A';
        assert_int_equal(hg_lease_id_read(hg_bytes(other, sizeof(other) - 1), &back), is_letter);
    }
    assert_false(hg_lease_id_read(hg_bytes(text, HG_LEASE_ID_SIZE - 2), &back));
}

static void a_lease_goes_back_when_its_time_is_over_and_not_before(void **state)
{
    (void)state;
    take(2, 30000);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", the->ids[0]), "d");
    assert_int_equal(asked("basic.ack"), 1);
    seam_net_pass(&the->core.sn, 29000);
    assert_int_equal(asked("basic.nack"), 0);
    seam_net_pass(&the->core.sn, 1200);
    assert_int_equal(asked("basic.nack"), 1);
    assert_int_equal(hg_counted(&metrics()->leases_expired), 1);
    assert_int_equal(hg_counted(&metrics()->leases), 0);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", the->ids[1]), "g");
}

static void no_extension_goes_beyond_what_rabbitmq_allows(void **state)
{
    (void)state;
    take(1, 1000);
    uint64_t taken_ms = seam_now_ms;
    while (seam_now_ms - taken_ms < HG_LEASE_MAX_MS - 90000) {
        assert_string_equal(answer(HG_LEASE_DO_EXTEND, 90000, "q", the->ids[0]), "d");
        seam_net_pass(&the->core.sn, 10000);
        for (size_t i = 0; i < the->core.sn.links_n; i++) { /* lest they be taken for dead */
            broker_heartbeat(&the->core.sn.links[i]->broker);
        }
    }
    assert_string_equal(answer(HG_LEASE_DO_EXTEND, HG_LEASE_MAX_MS, "q", the->ids[0]), "d");
    seam_net_pass(&the->core.sn, HG_LEASE_MAX_MS - 45000 - (seam_now_ms - taken_ms));
    for (size_t i = 0; i < the->core.sn.links_n; i++) {
        broker_heartbeat(&the->core.sn.links[i]->broker);
    }
    seam_net_pass(&the->core.sn, HG_LEASE_MAX_MS - 1000 - (seam_now_ms - taken_ms));
    assert_int_equal(asked("basic.nack"), 0);
    seam_net_pass(&the->core.sn, 4000);
    assert_int_equal(asked("basic.nack"), 1);
}

static void only_who_knows_the_whole_id_may_answer(void **state)
{
    (void)state;
    take(1, 30000);
    struct hg_lease_id id;
    char forged[HG_LEASE_ID_SIZE];
    assert_true(hg_lease_id_read(hg_bytes_str(the->ids[0]), &id));
    for (size_t i = 0; i < sizeof(id.secret); i++) {
        struct hg_lease_id other = id;
        other.secret[i] ^= 1;
        hg_lease_id_write(&other, forged);
        assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", forged), "g");
    }
    struct hg_lease_id other = id;
    other.slot = 4000;
    hg_lease_id_write(&other, forged);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", forged), "g");
    other = id;
    other.worker = 7; /* there is none */
    hg_lease_id_write(&other, forged);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", forged), "g");
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "other", the->ids[0]), "g");
    assert_string_equal(answer(HG_LEASE_DO_REJECT, 0, "q", the->ids[0]), "d");
}

static void limits_leave_less_room_and_then_none(void **state)
{
    (void)state;
    assert_int_equal(poll("headgate.feed.x", 1, 0, 1000), HG_NOT_ALLOWED);
    take(3, 30000);
    assert_int_equal(poll("q", 8, 60000, 30000), HG_OK); /* room for one more */
    struct hg_lease_poll *waiting = the->poll;
    assert_int_equal(poll("q", 1, 0, 30000), HG_TOO_MANY);
    assert_int_equal(poll("r", 8, 60000, 30000), HG_OK); /* two of the worker's are left */
    struct hg_lease_poll *other = the->poll;
    assert_int_equal(poll("s", 1, 0, 30000), HG_TOO_MANY);
    hg_lease_cancel(waiting);
    hg_lease_cancel(other);
    assert_int_equal(poll("s", 1, 60000, 30000), HG_OK);
    hg_lease_cancel(the->poll);
    assert_int_equal(hg_counted(&metrics()->lease_polls), 0);
    assert_int_equal(hg_counted(&metrics()->lease_polls_refused), 2);
}

static void bodies_past_the_limit_go_back(void **state)
{
    (void)state;
    static const uint8_t body[60];
    const struct hg_message_parts parts = {.body = {body, sizeof(body)}};
    assert_int_equal(poll("q", 3, 1000, 30000), HG_OK);
    for (uint64_t tag = 1; tag <= 3; tag++) {
        come(channel(), "1", tag, &parts);
    }
    seam_net_run(&the->core.sn);
    assert_int_equal(the->taken_n, 1);
    assert_int_equal(asked("basic.nack"), 2);
}

static void a_poll_ends_in_time_with_nothing_or_without_rabbitmq(void **state)
{
    (void)state;
    assert_int_equal(poll("q", 1, 20000, 30000), HG_OK);
    seam_net_pass(&the->core.sn, 19900);
    assert_int_equal(the->status, HG_STATUS_N);
    seam_net_pass(&the->core.sn, 300);
    assert_int_equal(the->status, HG_OK);
    assert_int_equal(the->taken_n, 0);
    the->core.sn.is_refusing = true;
    seam_net_cut(&the->core.sn, seam_net_last(&the->core.sn));
    assert_int_equal(poll("q", 1, 0, 30000), HG_OK);
    seam_net_pass(&the->core.sn, 5200);
    assert_int_equal(the->status, HG_BROKER_AWAY);
}

static void a_lost_link_loses_its_leases(void **state)
{
    (void)state;
    take(2, 30000);
    seam_net_cut(&the->core.sn, seam_net_last(&the->core.sn));
    seam_net_run(&the->core.sn);
    assert_int_equal(hg_counted(&metrics()->leases_lost), 2);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", the->ids[0]), "g");
    assert_int_equal(asked("basic.ack"), 0);
}

static void draining_gives_everything_back(void **state)
{
    (void)state;
    take(2, 30000);
    assert_int_equal(poll("r", 1, 60000, 30000), HG_OK);
    assert_false(service()->ops->is_idle(service()));
    service()->ops->drain(service());
    assert_int_equal(the->status, HG_OK);
    assert_int_equal(the->taken_n, 0);
    assert_int_equal(poll("r", 1, 60000, 30000), HG_SHUTTING_DOWN);
    seam_net_pass(&the->core.sn, 200);
    assert_int_equal(asked("basic.nack"), 2);
    assert_true(service()->ops->is_idle(service()));
}

static void draining_waits_for_no_queue_that_lingers(void **state)
{
    (void)state;
    take(1, 30000);
    assert_string_equal(answer(HG_LEASE_DO_ACK, 0, "q", the->ids[0]), "d");
    seam_net_pass(&the->core.sn, 200);
    assert_false(service()->ops->is_idle(service()));
    service()->ops->drain(service());
    seam_net_pass(&the->core.sn, 200);
    assert_true(service()->ops->is_idle(service()));
}

/* ---- Other instances ---- */

static const char *ask_other(void)
{
    struct hg_lease_id id = {.boot_id = OTHER_BOOT, .worker = 3, .slot = 9};
    char text[HG_LEASE_ID_SIZE];
    hg_lease_id_write(&id, text);
    return answer(HG_LEASE_DO_ACK, 0, "q", text);
}

/* What was published to the default exchange, on whichever link. */
static const struct broker_publish *published(const struct broker **at_out)
{
    for (size_t i = the->core.sn.links_n; i-- > 0;) {
        const struct broker *b = &the->core.sn.links[i]->broker;
        if (b->publishes_n > 0) {
            *at_out = b;
            return &b->publishes[b->publishes_n - 1];
        }
    }
    fail_msg("nothing was published");
    return NULL;
}

static void what_no_queue_takes_is_gone_and_what_nobody_answers_is_unknown(void **state)
{
    (void)state;
    const struct broker *at;
    assert_string_equal(ask_other(), "");
    const struct broker_publish *p = published(&at);
    assert_text(hg_message_routing_key(p->message), "headgate.lease.0000000000005678.3");
    assert_true(hg_message_is_mandatory(p->message));
    assert_text(hg_message_properties(p->message)->reply_to, OWN_QUEUE);
    broker_return((struct broker *)at, p->channel, p->message);
    broker_ack((struct broker *)at, p->channel, p->delivery_tag, false);
    seam_net_run(&the->core.sn);
    assert_string_equal(the->answers, "g");
    assert_string_equal(ask_other(), "");
    p = published(&at);
    broker_ack((struct broker *)at, p->channel, p->delivery_tag, false);
    seam_net_pass(&the->core.sn, 4900);
    assert_string_equal(the->answers, "");
    seam_net_pass(&the->core.sn, 300);
    assert_string_equal(the->answers, "u");
    assert_string_equal(ask_other(), "");
    hg_lease_forget(the->call);
    seam_net_pass(&the->core.sn, 6000);
    assert_string_equal(the->answers, "");
}

static void an_answer_of_another_instance_is_taken_once(void **state)
{
    (void)state;
    const struct broker *at;
    assert_string_equal(ask_other(), "");
    const struct broker_publish *p = published(&at);
    struct hg_message_parts parts = {
        .routing_key = HG_BYTES(OWN_QUEUE),
        .properties = {.type = HG_BYTES("headgate.lease.answer"), .correlation_id = HG_BYTES("99")},
        .body = HG_BYTES("\x00")};
    come(channel(), "headgate", 1, &parts); /* nobody asked */
    seam_net_run(&the->core.sn);
    assert_string_equal(the->answers, "");
    parts.properties.correlation_id = hg_message_properties(p->message)->correlation_id;
    come(channel(), "headgate", 2, &parts);
    come(channel(), "headgate", 3, &parts);
    seam_net_run(&the->core.sn);
    assert_string_equal(the->answers, "d");
}

static void what_another_instance_asks_is_answered(void **state)
{
    (void)state;
    const struct broker *at;
    take(1, 30000);
    struct hg_lease_id id;
    struct hg_writer request = {0};
    assert_true(hg_lease_id_read(hg_bytes_str(the->ids[0]), &id));
    hg_writer_u8(&request, HG_LEASE_VERSION);
    hg_writer_u8(&request, HG_LEASE_DO_ACK);
    hg_writer_u64(&request, 0);
    hg_writer_u16(&request, 1);
    hg_writer_str(&request, "q");
    for (unsigned i = 0; i < 2; i++) { /* the same twice */
        hg_writer_u32(&request, id.slot);
        hg_writer_bytes(&request, hg_bytes(id.secret, sizeof(id.secret)));
    }
    struct hg_bytes whole = hg_writer_view(&request);
    struct hg_message_parts parts = {
        .routing_key = HG_BYTES(OWN_QUEUE),
        .properties = {.type = HG_BYTES("headgate.lease.ask"),
                       .reply_to = HG_BYTES("headgate.lease.0000000000005678.3"),
                       .correlation_id = HG_BYTES("7")},
    };
    uint64_t tag = 1;
    for (size_t n = 0; n < whole.n; n++) { /* what is cut is not believed */
        parts.body = hg_bytes(whole.p, n < 14 ? n : 0);
        come(1, "headgate", tag++, &parts);
    }
    parts.properties.reply_to = HG_BYTES("somebody.else");
    parts.body = HG_BYTES("");
    come(1, "headgate", tag++, &parts);
    parts.properties.reply_to = HG_BYTES("headgate.lease.0000000000005678.3");
    parts.body = whole;
    come(1, "headgate", tag++, &parts);
    seam_net_run(&the->core.sn);
    const struct broker_publish *p = published(&at);
    assert_text(hg_message_routing_key(p->message), "headgate.lease.0000000000005678.3");
    assert_text(hg_message_properties(p->message)->correlation_id, "7");
    assert_bytes(hg_message_body(p->message), 2, "\x00\x01"); /* done, gone */
    assert_int_equal(hg_counted(&metrics()->leases), 0);
    hg_writer_close(&request);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_reads_back_as_it_was_written),
        TEST(a_lease_goes_back_when_its_time_is_over_and_not_before),
        TEST(no_extension_goes_beyond_what_rabbitmq_allows),
        TEST(only_who_knows_the_whole_id_may_answer),
        TEST(limits_leave_less_room_and_then_none),
        TEST(bodies_past_the_limit_go_back),
        TEST(a_poll_ends_in_time_with_nothing_or_without_rabbitmq),
        TEST(a_lost_link_loses_its_leases),
        TEST(draining_gives_everything_back),
        TEST(draining_waits_for_no_queue_that_lingers),
        TEST(what_no_queue_takes_is_gone_and_what_nobody_answers_is_unknown),
        TEST(an_answer_of_another_instance_is_taken_once),
        TEST(what_another_instance_asks_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
