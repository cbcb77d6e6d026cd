/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: replies in order, messages put together, confirms, returns, every way of ending, what users do inside events. */
#include "amqp/amqp_channel.h"

#include "rig.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <malloc.h>
#include <stdio.h>

/* -- scenarios, at every split and with every allocation failing ------------------------------ */

static void open_two(struct rig *r)
{
    r->ch[0] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 100);
    r->ch[1] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 101);
}

static void ask_everything(struct rig *r)
{
    struct hg_amqp_channel *ch = r->ch[0];
    if (ch == NULL) {
        return;
    }
    const struct hg_header arguments[] = {
        {HG_BYTES("x-queue-type"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("classic")}},
        {HG_BYTES("nested"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("{\"a\":[1]}")}},
    };
    const struct hg_amqp_binding binding = {.queue = HG_BYTES("q"),
                                            .exchange = HG_BYTES("x"),
                                            .routing_key = HG_BYTES("a.#"),
                                            .arguments = arguments,
                                            .arguments_n = 2};
    (void)hg_amqp_confirm_select(ch, 1);
    (void)hg_amqp_exchange_declare(
        ch, 2,
        &(struct hg_amqp_exchange_declare){.name = HG_BYTES("x"), .type = HG_BYTES("topic")});
    (void)hg_amqp_exchange_bind(ch, 3, &binding);
    (void)hg_amqp_queue_declare(
        ch, 4, &(struct hg_amqp_queue_declare){.arguments = arguments, .arguments_n = 2});
    (void)hg_amqp_queue_bind(ch, 5, &binding);
    (void)hg_amqp_queue_unbind(ch, 6, &binding);
    (void)hg_amqp_basic_qos(ch, 7, 100);
    (void)hg_amqp_basic_consume(ch, 8, &(struct hg_amqp_consume){.queue = HG_BYTES("q")});
    (void)hg_amqp_basic_cancel(ch, 9, HG_BYTES("amq.ctag-2"));
    (void)hg_amqp_basic_get(ch, 10, HG_BYTES("q"), true);
    (void)hg_amqp_queue_delete(ch, 11, HG_BYTES("q"), true, true);
}

static const struct rig_scenario all_requests = {
    (const struct rig_step[]){{open_two, NULL}, {ask_everything, NULL}, {NULL, NULL}},
    "open\n"
    "reply 100 channel.open-ok  0 0\n"
    "reply 101 channel.open-ok  0 0\n"
    "reply 1 confirm-ok  0 0\n"
    "reply 2 exchange-ok  0 0\n"
    "reply 3 exchange-ok  0 0\n"
    "reply 4 queue-ok amq.gen-1 0 0\n"
    "reply 5 queue-ok  0 0\n"
    "reply 6 queue-ok  0 0\n"
    "reply 7 qos-ok  0 0\n"
    "reply 8 consume-ok amq.ctag-2 0 0\n"
    "reply 9 cancel-ok amq.ctag-2 0 0\n"
    "reply 10 get-empty  0 0\n"
    "reply 11 queue-ok  0 0\n",
};

static void replies_come_in_the_order_of_the_requests(void **state)
{
    (void)state;
    rig_scenario_is_split_anywhere(&all_requests);
    rig_scenario_survives_failed_allocations(&all_requests);
}

static bool keep_cancel(void *ctx, struct broker *b, const struct broker_method *m)
{
    (void)ctx;
    (void)b;
    return m->id == AMQP_BASIC_CANCEL_METHOD;
}

static void keep_cancels(struct broker *b)
{
    b->on_method = keep_cancel;
}

static void cancel_two_and_ask(struct rig *r)
{
    if (r->ch[0] != NULL) {
        (void)hg_amqp_basic_qos(r->ch[0], 1, 5);
        (void)hg_amqp_basic_cancel(r->ch[0], 2, HG_BYTES("a"));
        (void)hg_amqp_basic_cancel(r->ch[0], 3, HG_BYTES("b"));
        (void)hg_amqp_basic_qos(r->ch[0], 4, 6);
        (void)hg_amqp_basic_get(r->ch[0], 5, HG_BYTES("q"), true);
    }
}

static void cancel_late(struct broker *b)
{
    amqp_basic_cancel_ok_t ok = {.consumer_tag = amqp_cstring_bytes("a")};
    broker_send(b, 1, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
    ok.consumer_tag = amqp_cstring_bytes("b");
    broker_send(b, 1, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
}

/* RabbitMQ's queues answer these, and the channel does not wait for them. */
static void cancel_ok_may_be_overtaken(void **state)
{
    (void)state;
    const struct rig_scenario scenario = {
        (const struct rig_step[]){{open_two, keep_cancels},
                                  {cancel_two_and_ask, NULL},
                                  {NULL, cancel_late},
                                  {NULL, NULL}},
        "open\n"
        "reply 100 channel.open-ok  0 0\n"
        "reply 101 channel.open-ok  0 0\n"
        "reply 1 qos-ok  0 0\n"
        "reply 4 qos-ok  0 0\n"
        "reply 5 get-empty  0 0\n"
        "reply 2 cancel-ok a 0 0\n"
        "reply 3 cancel-ok b 0 0\n",
    };
    rig_scenario_is_split_anywhere(&scenario);
}

static void publish_three(struct rig *r)
{
    for (int i = 0; r->ch[0] != NULL && i < 3; i++) {
        struct hg_message *m = rig_message("k", "published");
        if (m != NULL) {
            (void)hg_amqp_basic_publish(r->ch[0], m);
        }
        hg_message_unref(m);
    }
}

static void return_and_confirm(struct broker *b)
{
    HG_CHECK(b->publishes_n == 3);
    broker_return(b, 1, b->publishes[1].message);
    broker_ack(b, 1, 2, true);
    broker_nack(b, 1, 3, false);
}

static struct hg_message *rich_message(size_t body_n)
{
    const struct hg_header headers[] = {
        {HG_BYTES("s"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("text")}},
        {HG_BYTES("j"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("[{\"a\":1},2.5]")}},
        {HG_BYTES("big"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("{}")}},
    };
    static uint8_t body[100000];
    for (size_t i = 0; i < body_n; i++) {
        body[i] = (uint8_t)('a' + i % 23);
    }
    return hg_message_new(&(struct hg_message_parts){
        .exchange = HG_BYTES("x"),
        .routing_key = HG_BYTES("rich"),
        .properties = {.content_type = HG_BYTES("text/plain"), .headers = headers, .headers_n = 3},
        .body = hg_bytes(body, body_n),
    });
}

static void deliver_all_sizes(struct broker *b)
{
    static const size_t sizes[] = {0, 1, 200, 4088, 4089, 9000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct hg_message *m = rich_message(sizes[i]);
        broker_deliver(b, (uint16_t)(1 + i % 2), "c", i + 1, i == 2, m);
        hg_message_unref(m);
    }
}

static void get_it(struct rig *r)
{
    if (r->ch[1] != NULL) {
        (void)hg_amqp_basic_get(r->ch[1], 20, HG_BYTES("missing"), false);
    }
}

static bool answer_get(void *ctx, struct broker *b, const struct broker_method *m)
{
    (void)ctx;
    if (m->id != AMQP_BASIC_GET_METHOD) {
        return false;
    }
    struct hg_message *message = rich_message(5);
    broker_get_ok(b, m->channel, 9, 4, message);
    hg_message_unref(message);
    return true;
}

static void answer_gets(struct broker *b)
{
    b->on_method = answer_get;
}

static void confirm_it(struct rig *r)
{
    if (r->ch[0] != NULL) {
        (void)hg_amqp_confirm_select(r->ch[0], 1);
    }
}

static const struct rig_scenario messages = {
    (const struct rig_step[]){{open_two, NULL},
                              {confirm_it, answer_gets},
                              {publish_three, return_and_confirm},
                              {get_it, NULL},
                              {NULL, deliver_all_sizes},
                              {NULL, NULL}},
    "open\n"
    "reply 100 channel.open-ok  0 0\n"
    "reply 101 channel.open-ok  0 0\n"
    "reply 1 confirm-ok  0 0\n"
    "return 312 NO_ROUTE x k [published] 9:bc488789\n"
    "ack 2 multiple\n"
    "nack 3\n"
    "reply 20 get-ok  4 0 x rich [abcde] 5:749bcf08 s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 1 x rich [] 0:811c9dc5 s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 2 x rich [a] 1:e40c292c s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 3 again x rich [abcdefghijklmnop] 200:1b849635 s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 4 x rich [abcdefghijklmnop] 4088:bcda6c12 s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 5 x rich [abcdefghijklmnop] 4089:abd89b20 s=text j=[{\"a\":1},2.5] big={}\n"
    "delivery c 6 x rich [abcdefghijklmnop] 9000:943e80f5 s=text j=[{\"a\":1},2.5] big={}\n",
};

static void messages_are_put_together_from_their_frames(void **state)
{
    (void)state;
    rig_scenario_is_split_anywhere(&messages);
    rig_scenario_survives_failed_allocations(&messages);
}

static void close_one_by_broker(struct broker *b)
{
    broker_cancel(b, 2, "c");
    broker_close_channel(b, 1, 406, "PRECONDITION_FAILED - x", AMQP_BASIC_PUBLISH_METHOD);
}

static void open_again(struct rig *r)
{
    r->ch[0] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 102);
}

static void close_first(struct rig *r)
{
    if (r->ch[0] != NULL) {
        (void)hg_amqp_basic_qos(r->ch[0], 30, 1); /* its reply comes too late */
        hg_amqp_channel_close(r->ch[0]);
        r->ch[0] = NULL;
    }
    r->ch[2] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 103);
}

static const struct rig_scenario ends = {
    (const struct rig_step[]){
        {open_two, close_one_by_broker}, {open_again, NULL}, {close_first, NULL}, {NULL, NULL}},
    "open\n"
    "reply 100 channel.open-ok  0 0\n"
    "reply 101 channel.open-ok  0 0\n"
    "cancel c\n"
    "channel closed REFUSED 406 60.40 PRECONDITION_FAILED - x\n"
    "reply 102 channel.open-ok  0 0\n"
    "reply 103 channel.open-ok  0 0\n",
};

static void channels_end_from_both_sides(void **state)
{
    (void)state;
    rig_scenario_is_split_anywhere(&ends);
    rig_scenario_survives_failed_allocations(&ends);
}

/* -- what is sent ----------------------------------------------------------------------------- */

static void a_publish_arrives_as_it_was(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4088, 4089, 8176, 8177, 100000};
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct hg_message *plain = rich_message(sizes[i]);
        struct hg_message_parts parts = {
            .exchange = HG_BYTES("x"),
            .routing_key = HG_BYTES("rich"),
            .properties = *hg_message_properties(plain),
            .body = hg_message_body(plain),
            .is_mandatory = i % 2 == 1,
        };
        parts.properties.priority = 255;
        parts.properties.has_priority = true;
        parts.properties.delivery_mode = 2;
        parts.properties.timestamp_s = UINT64_MAX;
        parts.properties.has_timestamp = true;
        parts.properties.content_encoding = parts.properties.correlation_id =
            parts.properties.reply_to = parts.properties.message_id = parts.properties.type =
                parts.properties.user_id = parts.properties.app_id = HG_BYTES("short");
        parts.properties.expiration = HG_BYTES("60000");
        struct hg_message *m = hg_message_new(&parts);
        assert_int_equal(hg_amqp_basic_publish(r.ch[0], m), HG_OK);
        rig_pump(&r, &b);
        assert_int_equal(b.publishes_n, 1);
        const struct hg_message *got = b.publishes[0].message;
        const struct hg_properties *p = hg_message_properties(got);
        const struct hg_properties *want = hg_message_properties(m);
        assert_text(hg_message_exchange(got), "x");
        assert_text(hg_message_routing_key(got), "rich");
        assert_bytes(hg_message_body(got), sizes[i], hg_message_body(m).p);
        assert_int_equal(hg_message_is_mandatory(got), i % 2 == 1);
        assert_int_equal(p->priority, 255);
        assert_true(p->has_priority && p->has_timestamp);
        assert_int_equal(p->delivery_mode, 2);
        assert_true(p->timestamp_s == UINT64_MAX);
        assert_text(p->content_type, "text/plain");
        assert_text(p->expiration, "60000");
        assert_text(p->app_id, "short");
        assert_int_equal(p->headers_n, want->headers_n);
        for (size_t k = 0; k < p->headers_n; k++) {
            assert_int_equal(p->headers[k].value.kind, want->headers[k].value.kind);
            assert_true(hg_bytes_eq(p->headers[k].value.u.bytes, want->headers[k].value.u.bytes));
        }
        hg_message_unref(plain);
        hg_message_unref(m);
        broker_forget(&b);
    }
    rig_close(&r);
    broker_close(&b);
}

static void what_cannot_be_encoded_is_not_sent_at_all(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    static uint8_t big[140000];
    memset(big, 'x', sizeof big);
    const struct hg_header large = {HG_BYTES("h"),
                                    {HG_VALUE_STRING, .u.bytes = hg_bytes(big, sizeof big)}};
    const struct hg_header wrong = {HG_BYTES("h"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("{")}};
    const struct hg_message_parts parts[] = {
        {.exchange = hg_bytes(big, 256)},
        {.routing_key = hg_bytes(big, 256)},
        {.properties = {.type = hg_bytes(big, 256)}},
        {.properties = {.headers = &large, .headers_n = 1}},
        {.properties = {.headers = &wrong, .headers_n = 1}},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct hg_message *m = hg_message_new(&parts[i]);
        assert_int_equal(hg_amqp_basic_publish(r.ch[0], m), HG_BAD_PROPERTY);
        hg_message_unref(m);
    }
    assert_int_equal(hg_amqp_queue_declare(
                         r.ch[0], 1, &(struct hg_amqp_queue_declare){.name = hg_bytes(big, 256)}),
                     HG_BAD_PROPERTY);
    assert_int_equal(
        hg_amqp_queue_declare(
            r.ch[0], 1, &(struct hg_amqp_queue_declare){.arguments = &large, .arguments_n = 1}),
        HG_BAD_PROPERTY);
    assert_int_equal(hg_amqp_conn_output_n(r.conn), 0);
    struct hg_message *m = rig_message("k", "body");
    assert_int_equal(hg_amqp_basic_ack(r.ch[0], 1, false), HG_OK);
    size_t n = hg_amqp_conn_output_n(r.conn);
    for (size_t i = 1; i < 3; i++) {
        struct hg_message *huge = rich_message(100000);
        seam_fail_alloc(i);
        (void)hg_amqp_basic_publish(r.ch[0], huge); /* the body's place, if not before */
        seam_fail_alloc(0);
        hg_message_unref(huge);
        if (i == 1) {
            assert_int_equal(hg_amqp_conn_output_n(r.conn), n);
        }
    }
    assert_int_equal(hg_amqp_basic_publish(r.ch[0], m), HG_OK);
    hg_message_unref(m);
    rig_pump(&r, &b); /* the broker would not take a part of a frame */
    assert_true(hg_amqp_conn_is_open(r.conn));
    rig_close(&r);
    broker_close(&b);
}

static void requests_say_what_was_asked(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    ask_everything(&r);
    (void)hg_amqp_basic_ack(r.ch[0], 7, true);
    (void)hg_amqp_basic_nack(r.ch[0], 8, false, true);
    rig_pump(&r, &b);
    assert_text(hg_writer_view(&b.log),
                "1 confirm.select\n1 exchange.declare x\n"
                "1 exchange.bind a.#\n1 queue.declare \n1 queue.bind a.#\n"
                "1 queue.unbind a.#\n1 basic.qos\n1 basic.consume q\n"
                "1 basic.cancel amq.ctag-2\n1 basic.get q\n"
                "1 queue.delete q\n1 basic.ack 7 multiple\n1 basic.nack 8\n");
    rig_close(&r);
    broker_close(&b);
}

static void requests_without_replies_are_bounded(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    for (size_t i = 0; i < 65536; i++) {
        assert_int_equal(hg_amqp_basic_qos(r.ch[0], i, 1), HG_OK);
    }
    assert_int_equal(hg_amqp_basic_qos(r.ch[0], 1, 1), HG_TOO_MANY);
    r.events_n = 0;
    rig_pump(&r, &b);
    assert_int_equal(r.events_n, 65536);
    assert_int_equal(hg_amqp_basic_qos(r.ch[0], 1, 1), HG_OK);
    rig_close(&r);
    broker_close(&b);
}

/* -- numbers ---------------------------------------------------------------------------------- */

static void the_lowest_free_number_is_taken_up_to_the_limit(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    struct hg_amqp_channel *all[50];
    broker_open(&b);
    b.channel_max = 50;
    rig_open(&r, &rig_config);
    hg_amqp_conn_start(r.conn, 1000);
    assert_null(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1)); /* not open yet */
    rig_pump(&r, &b);
    for (size_t i = 0; i < 50; i++) {
        all[i] = hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, i);
        assert_int_equal(hg_amqp_channel_number(all[i]), i + 1);
    }
    assert_null(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1));
    hg_amqp_channel_close(all[6]);
    hg_amqp_channel_close(all[3]);
    assert_null(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1)); /* close-ok is awaited */
    rig_pump(&r, &b);
    assert_int_equal(hg_amqp_channel_number(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1)),
                     4);
    assert_int_equal(hg_amqp_channel_number(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1)),
                     7);
    assert_null(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1));
    rig_pump(&r, &b);
    rig_close(&r);
    broker_close(&b);
}

/* -- ends that cross -------------------------------------------------------------------------- */

static void a_closing_channel_is_silent_until_close_ok(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    hg_amqp_channel_close(r.ch[0]);
    struct hg_message *m = rich_message(200);
    broker_deliver(&b, 1, "c", 1, false, m); /* on its way when we asked */
    broker_ack(&b, 1, 1, false);
    broker_cancel(&b, 1, "c");
    hg_message_unref(m);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "");
    r.ch[0] = hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1);
    assert_int_equal(hg_amqp_channel_number(r.ch[0]), 1);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "reply 1 channel.open-ok  0 0\n");
    rig_close(&r);
    broker_close(&b);
}

static void closes_that_cross_are_both_answered(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    broker_close_channel(&b, 1, 404, "NOT_FOUND - no queue 'q' in vhost '/'",
                         AMQP_QUEUE_DECLARE_METHOD);
    hg_amqp_channel_close(r.ch[0]);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), ""); /* whoever closes hears no more */
    assert_text(hg_writer_view(&b.log), "1 channel.close\n1 channel.close-ok\n");
    assert_int_equal(b.channels[1].state, BROKER_CLOSED);
    assert_int_equal(hg_amqp_channel_number(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1)),
                     1);
    rig_pump(&r, &b);
    rig_close(&r);
    broker_close(&b);
}

static void codes_become_statuses(void **state)
{
    (void)state;
    static const struct {
        uint16_t code;
        amqp_method_number_t culprit;
        const char *text;
        const char *name;
    } cases[] = {
        {404, AMQP_EXCHANGE_DECLARE_METHOD, "NOT_FOUND - x", "NO_EXCHANGE"},
        {404, AMQP_BASIC_PUBLISH_METHOD, "NOT_FOUND - x", "NO_EXCHANGE"},
        {404, AMQP_QUEUE_DECLARE_METHOD, "NOT_FOUND - no queue 'q'", "NO_QUEUE"},
        {404, AMQP_BASIC_CONSUME_METHOD, "NOT_FOUND - no queue 'q'", "NO_QUEUE"},
        {404, AMQP_BASIC_GET_METHOD, "NOT_FOUND - no queue 'q'", "NO_QUEUE"},
        {404, AMQP_QUEUE_BIND_METHOD, "NOT_FOUND - no queue 'q'", "NO_QUEUE"},
        {404, AMQP_QUEUE_BIND_METHOD, "NOT_FOUND - no exchange 'x'", "NO_EXCHANGE"},
        {403, 0, "ACCESS_REFUSED", "NOT_ALLOWED"},
        {405, 0, "RESOURCE_LOCKED", "REFUSED"},
        {406, 0, "PRECONDITION_FAILED", "REFUSED"},
        {530, 0, "NOT_ALLOWED", "REFUSED"},
        {540, 0, "NOT_IMPLEMENTED", "REFUSED"},
        {320, 0, "CONNECTION_FORCED", "BROKER_AWAY"},
        {541, 0, "INTERNAL_ERROR", "BROKER_AWAY"},
        {504, 0, "CHANNEL_ERROR", "PROTOCOL_ERROR"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct broker b;
        struct rig r;
        char line[200];
        rig_connect(&r, &b, 1);
        broker_close_channel(&b, 1, cases[i].code, cases[i].text, cases[i].culprit);
        rig_pump(&r, &b);
        (void)snprintf(line, sizeof line, "channel closed %s %u %u.%u %s\n", cases[i].name,
                       cases[i].code, cases[i].culprit >> 16, cases[i].culprit & 0xffff,
                       cases[i].text);
        assert_string_equal(rig_events(&r), line);
        rig_close(&r);
        broker_close(&b);
    }
}

static void flow_and_cancel_are_answered(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    amqp_channel_flow_t flow = {.active = 0};
    broker_send(&b, 1, AMQP_CHANNEL_FLOW_METHOD, &flow);
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes("c"), .nowait = 0};
    broker_send(&b, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    broker_cancel(&b, 1, "d"); /* no-wait */
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "cancel c\ncancel d\n");
    assert_text(hg_writer_view(&b.log), "1 channel.flow-ok\n1 basic.cancel-ok\n");
    rig_close(&r);
    broker_close(&b);
}

/* -- users who act inside events -------------------------------------------------------------- */

static void close_everything_and_lose(struct rig *r, const char *line)
{
    if (strncmp(line, "delivery", 8) == 0) {
        hg_amqp_channel_close(r->ch[0]);
        hg_amqp_channel_close(r->ch[1]);
        r->ch[2] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 102);
        hg_amqp_conn_lost(r->conn, "cut by the user");
        assert_int_equal(r->closes_n, 0); /* told when the outermost call returns */
        assert_null(hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 103));
        hg_amqp_conn_close(r->conn, r->now_ms);
    } else if (strncmp(line, "close", 5) == 0) {
        hg_amqp_channel_close(r->ch[2]); /* still there, to no effect */
        hg_amqp_conn_close(r->conn, r->now_ms);
        (void)hg_amqp_conn_tick(r->conn, r->now_ms);
    }
}

static void the_end_may_come_from_inside_an_event(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 2);
    r.on_event = close_everything_and_lose;
    struct hg_message *m = rich_message(10);
    broker_deliver(&b, 1, "c", 1, false, m);
    broker_deliver(&b, 1, "c", 2, false, m);
    hg_message_unref(m);
    struct hg_buf *said = broker_take_output(&b);
    rig_feed(&r, hg_buf_bytes(said));
    hg_buf_unref(said);
    assert_string_equal(rig_events(&r),
                        "delivery c 1 x rich [abcdefghij] 10:bce81ef2 s=text j=[{\"a\":1},2.5] "
                        "big={}\nclose BROKER_AWAY 0 0.0 cut by the user\n");
    rig_close(&r);
    broker_close(&b);
}

static void publish_and_reopen(struct rig *r, const char *line)
{
    struct hg_message *m = rich_message(3);
    if (strncmp(line, "delivery", 8) == 0) {
        assert_int_equal(hg_amqp_basic_publish(r->ch[0], m), HG_OK); /* uses the scratch memory */
        assert_int_equal(hg_amqp_basic_ack(r->ch[0], 1, false), HG_OK);
    } else if (strncmp(line, "channel closed", 14) == 0) {
        assert_int_equal(hg_amqp_basic_publish(r->ch[0], m), HG_BROKER_AWAY);
        hg_amqp_channel_close(r->ch[0]); /* its end is being told: no effect */
        r->ch[0] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 102);
        assert_int_equal(hg_amqp_channel_number(r->ch[0]), 1);
    }
    hg_message_unref(m);
}

static void users_publish_and_reopen_inside_events(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    r.on_event = publish_and_reopen;
    struct hg_message *m = rig_message("k", "body");
    broker_deliver(&b, 1, "c", 1, false, m);
    broker_close_channel(&b, 1, 406, "PRECONDITION_FAILED", 0);
    hg_message_unref(m);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "delivery c 1 x k [body] 4:dbaa7975\n"
                                        "channel closed REFUSED 406 0.0 PRECONDITION_FAILED\n"
                                        "reply 102 channel.open-ok  0 0\n");
    assert_text(hg_writer_view(&b.log), "1 channel.close-ok\n1 channel.open\n");
    rig_close(&r);
    broker_close(&b);
}

/* -- memory ----------------------------------------------------------------------------------- */

/* 50 tables inside one another between a type and a correlation id; RabbitMQ delivers such a message. */
static void headers_nested_too_deep_are_left_out(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    enum { DEPTH = 50, STEP = 7 }; /* length, name "a", type */
    rig_connect(&r, &b, 1);
    struct hg_writer w = {0};
    rig_hex(&w, "01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce 02 0001");
    hg_writer_u32(&w, 12 + 2 + 3 + STEP * DEPTH + 4 + 4);
    rig_hex(&w, "003c 0000 0000000000000000 a400 02 7478"); /* content type "tx" */
    for (uint32_t left = STEP * DEPTH; left > 0; left -= STEP) {
        hg_writer_u32(&w, left);
        rig_hex(&w, "0161 46");
    }
    hg_writer_u32(&w, 0);
    rig_hex(&w, "03 636f72 ce"); /* correlation id "cor" */
    rig_feed(&r, hg_writer_view(&w));
    assert_string_equal(rig_events(&r), "delivery c 1 x k [] 0:811c9dc5\n");
    assert_true(hg_amqp_conn_is_open(r.conn));
    hg_writer_close(&w);
    rig_close(&r);
    broker_close(&b);
}

static void a_hundred_thousand_messages_leave_no_memory_behind(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 2);
    struct hg_message *m = rich_message(100);
    struct hg_writer round = {0};
    for (uint64_t i = 0; i < 100; i++) {
        broker_deliver(&b, (uint16_t)(1 + i % 2), "c", i, false, m);
        broker_ack(&b, 1, i, false);
        broker_heartbeat(&b);
    }
    struct hg_buf *said = broker_take_output(&b);
    size_t live = 0, heap = 0;
    for (int i = 0; i < 1000; i++) {
        rig_feed(&r, hg_buf_bytes(said));
        (void)rig_events(&r);
        if (i == 10) {
            live = seam_live();
            heap = mallinfo2().uordblks; /* librabbitmq's pools are in it */
        }
    }
    assert_int_equal(r.events_n, 2 + 200 * 1000 + 1);
    assert_int_equal(seam_live(), live);
    assert_true(mallinfo2().uordblks <= heap + 4096);
    hg_buf_unref(said);
    hg_writer_close(&round);
    hg_message_unref(m);
    rig_close(&r);
    broker_close(&b);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_come_in_the_order_of_the_requests),
        cmocka_unit_test(cancel_ok_may_be_overtaken),
        cmocka_unit_test(messages_are_put_together_from_their_frames),
        cmocka_unit_test(channels_end_from_both_sides),
        cmocka_unit_test(a_publish_arrives_as_it_was),
        cmocka_unit_test(what_cannot_be_encoded_is_not_sent_at_all),
        cmocka_unit_test(requests_say_what_was_asked),
        cmocka_unit_test(requests_without_replies_are_bounded),
        cmocka_unit_test(the_lowest_free_number_is_taken_up_to_the_limit),
        cmocka_unit_test(a_closing_channel_is_silent_until_close_ok),
        cmocka_unit_test(closes_that_cross_are_both_answered),
        cmocka_unit_test(codes_become_statuses),
        cmocka_unit_test(flow_and_cancel_are_answered),
        cmocka_unit_test(the_end_may_come_from_inside_an_event),
        cmocka_unit_test(users_publish_and_reopen_inside_events),
        cmocka_unit_test(headers_nested_too_deep_are_left_out),
        cmocka_unit_test(a_hundred_thousand_messages_leave_no_memory_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
