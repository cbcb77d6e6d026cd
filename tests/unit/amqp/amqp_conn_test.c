/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: handshake, its refusals in words for people, heartbeats, limits, ends. */
#include "amqp/amqp_conn.h"

#include "rig.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

static void assert_ended(struct rig *r, const char *line)
{
    assert_int_equal(r->closes_n, 1);
    assert_string_equal(rig_events(r), line);
}

/* -- handshake -------------------------------------------------------------------------------- */

static void handshake_opens_and_negotiates(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    broker_open(&b);
    b.heartbeat_s = 7;
    b.channel_max = 100;
    b.frame_max = 0; /* no limit: ours holds */
    struct hg_amqp_conn_config config = rig_config;
    config.frame_max = 131072;
    rig_open(&r, &config);
    assert_int_equal(hg_amqp_conn_frame_max(r.conn), 0);
    hg_amqp_conn_start(r.conn, r.now_ms);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "open\n");
    assert_true(b.is_open);
    assert_int_equal(hg_amqp_conn_heartbeat_s(r.conn), 7);
    assert_int_equal(hg_amqp_conn_channel_max(r.conn), 100);
    assert_int_equal(hg_amqp_conn_frame_max(r.conn), 131072);
    assert_int_equal(b.frame_max, 131072);
    assert_text(hg_amqp_conn_server_version(r.conn), "RabbitMQ 3.10.8");
    assert_text(hg_writer_view(&b.log), "0 connection.start-ok\n0 connection.tune-ok\n"
                                        "0 connection.open\n");
    rig_close(&r);
    broker_close(&b);
}

static bool look_at_start_ok(void *ctx, struct broker *b, const struct broker_method *m)
{
    (void)b;
    if (m->id == AMQP_CONNECTION_START_OK_METHOD) {
        const amqp_connection_start_ok_t *ok = m->decoded;
        assert_text(hg_amqp_view(ok->mechanism), "PLAIN");
        assert_bytes(hg_amqp_view(ok->response), 12, "\0guest\0guest");
        assert_text(hg_amqp_view(ok->locale), "en_US");
        amqp_pool_t pool;
        init_amqp_pool(&pool, 4096);
        struct hg_writer json = {0};
        const struct hg_header *headers;
        assert_true(hg_amqp_table_read(&ok->client_properties, &pool, &json, &headers));
        for (int i = 0; i < ok->client_properties.num_entries; i++) {
            hg_writer_printf(ctx, "%.*s=", HG_BYTES_FMT(headers[i].name));
            hg_value_write_text(ctx, &headers[i].value);
            hg_writer_u8(ctx, '\n');
        }
        hg_writer_close(&json);
        empty_amqp_pool(&pool);
    }
    return false;
}

static void login_says_who_we_are(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    struct hg_writer properties = {0};
    broker_open(&b);
    b.on_method = look_at_start_ok;
    b.ctx = &properties;
    rig_open(&r, &rig_config);
    hg_amqp_conn_start(r.conn, r.now_ms);
    rig_pump(&r, &b);
    assert_text(
        hg_writer_view(&properties),
        "product=Headgate\nversion=" HG_VERSION "\nplatform=C\n"
        "capabilities={\"publisher_confirms\":true,\"consumer_cancel_notify\":true,"
        "\"basic.nack\":true,\"connection.blocked\":true,\"authentication_failure_close\":true,"
        "\"exchange_exchange_bindings\":true,\"per_consumer_qos\":true}\nconnection_name=unit\n");
    hg_writer_close(&properties);
    rig_close(&r);
    broker_close(&b);
}

static void refusals_are_in_words(void **state)
{
    (void)state;
    static const struct {
        const char *vhost, *password;
        bool is_external;
        const char *line;
    } cases[] = {
        {"/", "wrong", false,
         "close BAD_LOGIN 403 0.0 RabbitMQ refused the login of user \"guest\": ACCESS_REFUSED - "
         "Login was refused using authentication mechanism PLAIN. For details see the broker "
         "logfile.\n"},
        {"nope", "guest", false,
         "close REFUSED 530 10.40 RabbitMQ refused virtual host \"nope\": NOT_ALLOWED - vhost not "
         "found\n"},
        {"/", "guest", true,
         "close BAD_LOGIN 0 0.0 RabbitMQ does not offer the login mechanism EXTERNAL, only PLAIN "
         "AMQPLAIN\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct broker b;
        struct rig r;
        struct hg_amqp_conn_config config = rig_config;
        config.vhost = cases[i].vhost;
        config.password = cases[i].password;
        config.is_external = cases[i].is_external;
        broker_open(&b);
        rig_open(&r, &config);
        hg_amqp_conn_start(r.conn, r.now_ms);
        rig_pump(&r, &b);
        assert_ended(&r, cases[i].line);
        rig_close(&r);
        broker_close(&b);
    }
}

/* What is fed behind our protocol header, before any frame of RabbitMQ's. */
static void strangers_are_named(void **state)
{
    (void)state;
    const struct {
        struct hg_bytes in;
        const char *line;
    } cases[] = {
        {HG_BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"),
         "close PROTOCOL_ERROR 0 0.0 this is not an AMQP server: it answered in HTTP\n"},
        {HG_BYTES("AMQP\x00\x01\x00\x00"),
         "close PROTOCOL_ERROR 0 0.0 the server answered with another AMQP version's header: it "
         "does not speak 0-9-1\n"},
        {HG_BYTES("\x15\x03\x01\x00\x02\x02\x46"),
         "close PROTOCOL_ERROR 0 0.0 this is not a plain AMQP port: it answered in TLS\n"},
        {HG_BYTES("220 mail.example ESMTP\r\n"),
         "close PROTOCOL_ERROR 0 0.0 this is not an AMQP server: it answered with something "
         "else\n"},
        {HG_BYTES("\x01\x00\x00\x00\x02\x00\x00"),
         "close PROTOCOL_ERROR 0 0.0 a frame is larger than the negotiated frame-max\n"},
        {HG_BYTES("\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x29\xce"), /* open-ok first */
         "close PROTOCOL_ERROR 0 0.0 RabbitMQ sent method 0x000a0029 out of turn\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t cut = 0; cut < cases[i].in.n; cut++) {
            struct rig r;
            rig_open(&r, &rig_config);
            hg_amqp_conn_start(r.conn, r.now_ms);
            rig_feed(&r, hg_bytes(cases[i].in.p, cut));
            rig_feed(&r, hg_bytes_skip(cases[i].in, cut));
            assert_ended(&r, cases[i].line);
            rig_close(&r);
        }
    }
}

static void a_silent_server_is_left_after_ten_seconds(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &rig_config);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 1000), UINT64_MAX);
    hg_amqp_conn_start(r.conn, 1000);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 5000), 11000);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 10999), 11000);
    assert_int_equal(r.closes_n, 0);
    (void)hg_amqp_conn_tick(r.conn, 11000);
    assert_ended(&r,
                 "close BROKER_AWAY 0 0.0 the server did not finish the AMQP handshake within 10 "
                 "s\n");
    assert_int_equal(hg_amqp_conn_tick(r.conn, 60000), UINT64_MAX);
    rig_close(&r);
}

/* -- RabbitMQ 3.10.8, as recorded ------------------------------------------------------------- */

static void recorded_client(struct rig *r)
{
    r->ch[0] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 100);
    (void)hg_amqp_confirm_select(r->ch[0], 1);
    (void)hg_amqp_queue_declare(
        r->ch[0], 2,
        &(struct hg_amqp_queue_declare){.name = HG_BYTES("recorded"), .is_exclusive = true});
    (void)hg_amqp_basic_qos(r->ch[0], 3, 10);
    (void)hg_amqp_basic_consume(
        r->ch[0], 4,
        &(struct hg_amqp_consume){.queue = HG_BYTES("recorded"), .consumer_tag = HG_BYTES("c")});
    (void)hg_amqp_queue_delete(r->ch[0], 5, HG_BYTES("recorded"), false, false);
    (void)hg_amqp_exchange_declare(
        r->ch[0], 6,
        &(struct hg_amqp_exchange_declare){.name = HG_BYTES("none"), .is_passive = true});
}

static void recorded_opened(struct rig *r, const char *line)
{
    if (strcmp(line, "open") == 0) {
        recorded_client(r);
    } else if (strncmp(line, "channel closed", 14) == 0) {
        r->ch[1] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 101); /* the same number */
        hg_amqp_channel_close(r->ch[1]);
        hg_amqp_conn_close(r->conn, r->now_ms);
    }
}

static const struct {
    const char *hex;
    const char *what;
} recorded[] = {
    {"01 0000 000001f5 000a000a 00 09 000001d0"
     "0c6361706162696c6974696573 46 000000c7"
     "127075626c69736865725f636f6e6669726d73 7401"
     "1a65786368616e67655f65786368616e67655f62696e64696e6773 7401"
     "0a62617369632e6e61636b 7401"
     "16636f6e73756d65725f63616e63656c5f6e6f74696679 7401"
     "12636f6e6e656374696f6e2e626c6f636b6564 7401"
     "13636f6e73756d65725f7072696f726974696573 7401"
     "1c61757468656e7469636174696f6e5f6661696c7572655f636c6f7365 7401"
     "107065725f636f6e73756d65725f716f73 7401"
     "0f6469726563745f7265706c795f746f 7401"
     "0c636c75737465725f6e616d65 53 0000000e 74657374406c6f63616c686f7374"
     "09636f70797269676874 53 00000037 436f707972696768742028632920323030372d3230323220564d7761"
     "72652c20496e632e206f722069747320616666696c69617465732e"
     "0b696e666f726d6174696f6e 53 00000039 4c6963656e73656420756e64657220746865204d504c20322e302e"
     "20576562736974653a2068747470733a2f2f7261626269746d712e636f6d"
     "08706c6174666f726d 53 00000011 45726c616e672f4f54502032352e322e33"
     "0770726f64756374 53 00000008 5261626269744d51"
     "0776657273696f6e 53 00000006 332e31302e38"
     "0000000e 504c41494e20414d51504c41494e 00000005 656e5f5553 ce",
     "connection.start: server-properties, \"PLAIN AMQPLAIN\", \"en_US\""},
    {"01 0000 0000000c 000a001e 07ff 00020000 003c ce", "tune: 2047 channels, 128 KiB, 60 s"},
    {"01 0000 00000005 000a0029 00 ce", "connection.open-ok"},
    {"01 0001 00000008 0014000b 00000000 ce", "channel.open-ok"},
    {"01 0001 00000004 0055000b ce", "confirm.select-ok"},
    {"01 0001 00000015 0032000b 087265636f72646564 00000000 00000000 ce", "queue.declare-ok"},
    {"01 0001 00000004 003c000b ce", "basic.qos-ok"},
    {"01 0001 00000006 003c0015 0163 ce", "basic.consume-ok: \"c\""},
    {"01 0001 0000000d 003c0050 0000000000000001 00 ce", "basic.ack 1"},
    {"01 0001 00000019 003c003c 0163 0000000000000001 00 00 087265636f72646564 ce",
     "basic.deliver: \"c\", tag 1, exchange \"\", key \"recorded\""},
    {"02 0001 00000074 003c 0000 0000000000000005 bc40 0a746578742f706c61696e 00000048"
     "0169 6c fffffffffffffffb"
     "016a 46 00000022 0161 41 0000001b 6c 0000000000000001 64 4004000000000000 56 7401 53 00000001 78"
     "0178 78 00000002 ff00"
     "0174 54 000000006553f100"
     "02 03 04636f7272 000000006553f101 ce",
     "header: 5 bytes; text/plain, four headers, delivery mode 2, priority 3, correlation id, time"},
    {"03 0001 00000005 68656c6c6f ce", "body: \"hello\""},
    {"01 0001 00000020 003c0032 0138 084e4f5f524f555445 09616d712e746f706963 066e6f626f6479 ce",
     "basic.return: 312 NO_ROUTE, \"amq.topic\", \"nobody\""},
    {"02 0001 0000000e 003c 0000 0000000000000000 0000 ce", "header: no body, no properties"},
    {"01 0001 0000000d 003c0050 0000000000000002 00 ce", "basic.ack 2"},
    {"01 0001 00000008 00320029 00000000 ce", "queue.delete-ok"},
    {"01 0001 00000007 003c001e 0163 01 ce", "basic.cancel: \"c\", no-wait"},
    {"01 0001 00000036 00140028 0194 2b4e4f545f464f554e44202d206e6f2065786368616e676520276e6f6e652720"
     "696e2076686f737420272f27 0028 000a ce",
     "channel.close: 404, exchange.declare"},
    {"01 0001 00000008 0014000b 00000000 ce", "channel.open-ok"},
    {"01 0001 00000004 00140029 ce", "channel.close-ok"},
    {"01 0000 00000004 000a0033 ce", "connection.close-ok"},
};

static const char recorded_events[] =
    "open\n"
    "reply 100 channel.open-ok  0 0\n"
    "reply 1 confirm-ok  0 0\n"
    "reply 2 queue-ok recorded 0 0\n"
    "reply 3 qos-ok  0 0\n"
    "reply 4 consume-ok c 0 0\n"
    "ack 1\n"
    "delivery c 1  recorded [hello] 5:4f9f2cab i=-5 j={\"a\":[1,2.5,null,true,\"x\"]} x=/wA= "
    "t=1700000000\n"
    "return 312 NO_ROUTE amq.topic nobody [] 0:811c9dc5\n"
    "ack 2\n"
    "reply 5 queue-ok  0 0\n"
    "cancel c\n"
    "channel closed NO_EXCHANGE 404 40.10 NOT_FOUND - no exchange 'none' in vhost '/'\n"
    "close CLOSED 0 0.0 closed\n";

static void a_recorded_session_is_read_at_every_split(void **state)
{
    (void)state;
    struct hg_writer in = {0};
    for (size_t i = 0; i < sizeof recorded / sizeof recorded[0]; i++) {
        rig_hex(&in, recorded[i].hex);
    }
    struct hg_bytes all = hg_writer_view(&in);
    for (size_t cut = 0; cut <= all.n; cut++) {
        struct rig r;
        rig_open(&r, &rig_config);
        r.on_event = recorded_opened;
        hg_amqp_conn_start(r.conn, r.now_ms);
        rig_feed(&r, hg_bytes(all.p, cut));
        rig_feed(&r, hg_bytes_skip(all, cut));
        assert_string_equal(rig_events(&r), recorded_events);
        rig_close(&r);
    }
    hg_writer_close(&in);
}

/* -- heartbeats ------------------------------------------------------------------------------- */

static void heartbeats_go_out_when_nothing_else_does(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 0); /* 10 s, at 1000 ms */
    assert_int_equal(hg_amqp_conn_tick(r.conn, 1000), 6000);
    assert_int_equal(hg_amqp_conn_output_n(r.conn), 0);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 6000), 11000);
    assert_int_equal(hg_amqp_conn_output_n(r.conn), 8);
    (void)hg_amqp_conn_tick(r.conn, 9000); /* not taken yet: no second one */
    assert_int_equal(hg_amqp_conn_output_n(r.conn), 8);
    rig_pump(&r, &b);
    assert_int_equal(b.heartbeats_n, 1);
    r.now_ms = 9000;
    assert_int_equal(hg_amqp_conn_tick(r.conn, 9000), 14000);
    rig_close(&r);
    broker_close(&b);
}

static void two_silent_intervals_end_the_connection(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 0);
    broker_heartbeat(&b);
    r.now_ms = 9000;
    rig_pump(&r, &b); /* heard at 9000 */
    (void)hg_amqp_conn_tick(r.conn, 28999);
    assert_int_equal(r.closes_n, 0);
    (void)hg_amqp_conn_tick(r.conn, 29000);
    assert_ended(&r, "close BROKER_AWAY 0 0.0 nothing was heard from RabbitMQ for 20 s\n");
    rig_close(&r);
    broker_close(&b);
}

static void heartbeat_zero_switches_them_off(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    struct hg_amqp_conn_config config = rig_config;
    config.heartbeat_s = 0;
    broker_open(&b);
    rig_open(&r, &config);
    hg_amqp_conn_start(r.conn, r.now_ms);
    rig_pump(&r, &b);
    assert_int_equal(b.heartbeat_s, 0);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 100000000), UINT64_MAX);
    assert_true(hg_amqp_conn_is_open(r.conn));
    rig_close(&r);
    broker_close(&b);
}

/* -- blocked, ends ---------------------------------------------------------------------------- */

static void block_it(struct broker *b)
{
    broker_block(b, "low on memory");
}

static void unblock_it(struct broker *b)
{
    broker_heartbeat(b);
    broker_block(b, NULL);
}

static void force_it(struct broker *b)
{
    broker_close_connection(
        b, 320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", 0);
}

static const struct rig_scenario blocked_then_forced = {
    (const struct rig_step[]){{NULL, block_it}, {NULL, unblock_it}, {NULL, force_it}, {NULL, NULL}},
    "open\nblocked low on memory\nunblocked \n"
    "close BROKER_AWAY 320 0.0 CONNECTION_FORCED - broker forced connection closure with reason "
    "'shutdown'\n",
};

static void blocked_and_forced_closure_are_told(void **state)
{
    (void)state;
    rig_scenario_is_split_anywhere(&blocked_then_forced);
    rig_scenario_survives_failed_allocations(&blocked_then_forced);
}

static void forced_closure_is_answered(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 2);
    force_it(&b);
    rig_pump(&r, &b); /* no event for the channels */
    assert_ended(&r, "close BROKER_AWAY 320 0.0 CONNECTION_FORCED - broker forced connection "
                     "closure with reason 'shutdown'\n");
    assert_true(b.is_done);
    rig_feed(&r, HG_BYTES("whatever comes now"));
    (void)hg_amqp_conn_tick(r.conn, 1000000);
    hg_amqp_conn_lost(r.conn, "gone");
    assert_int_equal(r.closes_n, 1);
    rig_close(&r);
    broker_close(&b);
}

static void close_waits_for_its_answer_but_five_seconds(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    hg_amqp_conn_close(r.conn, 2000);
    hg_amqp_conn_close(r.conn, 2000); /* once is enough */
    assert_int_equal(r.closes_n, 0);
    assert_int_equal(hg_amqp_basic_ack(r.ch[0], 1, false), HG_BROKER_AWAY);
    assert_null(hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 1));
    broker_ack(&b, 1, 1, false); /* crosses it, and is ignored */
    rig_pump(&r, &b);
    assert_text(hg_writer_view(&b.log), "0 connection.close closed by the gateway\n");
    assert_ended(&r, "close CLOSED 0 0.0 closed\n");
    rig_close(&r);
    broker_close(&b);

    rig_connect(&r, &b, 0);
    b.is_mute = true;
    hg_amqp_conn_close(r.conn, 2000);
    rig_pump(&r, &b);
    assert_int_equal(hg_amqp_conn_tick(r.conn, 6900), 7000);
    (void)hg_amqp_conn_tick(r.conn, 7000);
    assert_ended(&r, "close CLOSED 0 0.0 RabbitMQ did not answer connection.close within 5 s\n");
    rig_close(&r);
    broker_close(&b);
}

static void closing_both_ways_at_once_is_fine(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 0);
    hg_amqp_conn_close(r.conn, r.now_ms);
    force_it(&b);
    struct hg_buf *said = broker_take_output(&b);
    rig_feed(&r, hg_buf_bytes(said));
    hg_buf_unref(said);
    assert_ended(&r, "close CLOSED 0 0.0 closed\n");
    rig_close(&r);
    broker_close(&b);
}

static void close_before_open_and_loss_end_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &rig_config);
    hg_amqp_conn_close(r.conn, 1000);
    assert_ended(&r, "close CLOSED 0 0.0 closed before it was open\n");
    rig_close(&r);
    rig_open(&r, &rig_config);
    hg_amqp_conn_start(r.conn, 1000);
    hg_amqp_conn_lost(r.conn, "connection reset");
    assert_ended(&r, "close BROKER_AWAY 0 0.0 connection reset\n");
    rig_close(&r);
}

/* -- malformed input -------------------------------------------------------------------------- */

static const struct {
    const char *hex; /* with channel 1 open */
    const char *text;
} broken_frames[] = {
    {"04 0001 00000000 ce", "a frame has an unknown type"},
    {"01 0001 00000003 000000 ce", "a method frame is too short"},
    {"02 0001 0000000d 003c 0000 0000000000000000 00 ce", "a content header frame is too short"},
    {"01 0001 00000004 003c0050 00", "a frame does not end in 0xCE"},
    {"03 0001 00020000", "a frame is larger than the negotiated frame-max"},
    {"08 0001 00000000 ce", "a heartbeat frame is not empty"},
    {"08 0000 00000001 00 ce", "a heartbeat frame is not empty"},
    {"01 0002 00000004 003c000b ce", "RabbitMQ used channel 2, which is not open"},
    {"01 0001 00000004 003c000a ce", "RabbitMQ sent method 0x003c000a on channel 1"},
    {"01 0001 00000004 003c000b ce",
     "RabbitMQ answered on channel 1 with method 0x003c000b, which was not asked for"},
    {"01 0001 00000004 003c0050 ce", "RabbitMQ sent a malformed method 0x003c0050"},
    {"01 0000 00000004 003c0050 ce", "RabbitMQ sent method 0x003c0050 out of turn"},
    {"01 0000 00000004 000a0033 ce", "RabbitMQ sent method 0x000a0033 out of turn"},
    {"02 0000 0000000e 003c 0000 0000000000000000 0000 ce", "RabbitMQ sent content on channel 0"},
    {"02 0001 0000000e 003c 0000 0000000000000000 0000 ce",
     "RabbitMQ sent frames of a message out of order"},
    {"03 0001 00000001 00 ce", "RabbitMQ sent frames of a message out of order"},
    /* behind basic.deliver "c" 1 "x" "k" */
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce 03 0001 00000000 ce",
     "RabbitMQ sent frames of a message out of order"},
    {"01 0001 00000012 003c003c 0163 0000000000000001 00 0178 016b ce",
     "a frame does not end in 0xCE"},
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "01 0001 0000000d 003c0050 0000000000000001 00 ce",
     "RabbitMQ sent frames of a message out of order"},
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 0000000e 0032 0000 0000000000000000 0000 ce",
     "RabbitMQ sent content of an unknown class"},
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 0000000e 003c 0000 0000000001000001 0000 ce",
     "RabbitMQ sent a body of 16777217 bytes, over the limit of 16777216"},
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 0000000e 003c 0000 0000000000000002 0000 ce 03 0001 00000003 616263 ce",
     "RabbitMQ sent more body than it announced"},
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 0000000e 003c 0000 0000000000000000 0001 ce",
     "RabbitMQ sent malformed properties"}, /* a second word of flags */
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 0000000e 003c 0000 0000000000000000 8000 ce",
     "RabbitMQ sent malformed properties"}, /* content type missing */
    {"01 0001 00000013 003c003c 0163 0000000000000001 00 0178 016b ce"
     "02 0001 00000012 003c 0000 0000000000000000 2000 00000001 ce",
     "RabbitMQ sent malformed properties"}, /* the table ends too soon */
    {"01 0001 00000012 003c003c 0163 0000000000000001 00 0178 01 ce"
     "02 0001 0000000e 003c 0000 0000000000000000 0000 ce",
     "RabbitMQ sent a malformed method 0x003c003c"},
};

static void broken_frames_end_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_frames / sizeof broken_frames[0]; i++) {
        static struct broker b;
        struct rig r;
        struct hg_writer in = {0};
        rig_connect(&r, &b, 1);
        rig_hex(&in, broken_frames[i].hex);
        for (int k = 0; k < 8; k++) {
            hg_writer_u8(&in, 0); /* what follows does not matter */
        }
        rig_feed(&r, hg_writer_view(&in));
        char line[300];
        (void)snprintf(line, sizeof line, "close PROTOCOL_ERROR 0 0.0 %s\n", broken_frames[i].text);
        assert_ended(&r, line);
        rig_pump(&r, &b); /* RabbitMQ is told why */
        (void)snprintf(line, sizeof line, "0 connection.close %s\n", broken_frames[i].text);
        assert_text(hg_writer_view(&b.log), line);
        hg_writer_close(&in);
        rig_close(&r);
        broker_close(&b);
    }
}

static void a_renewed_secret_is_taken_or_ends_the_connection(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    broker_forget(&b);
    b.password = "second";
    assert_int_equal(hg_amqp_conn_update_secret(r.conn, HG_BYTES("second")), HG_OK);
    assert_true(hg_amqp_conn_awaits_secret(r.conn));
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "secret\n");
    assert_false(hg_amqp_conn_awaits_secret(r.conn));
    assert_text(hg_writer_view(&b.log), "0 connection.update-secret second\n");

    char large[140000];
    memset(large, 'x', sizeof large);
    assert_int_equal(hg_amqp_conn_update_secret(r.conn, hg_bytes(large, sizeof large)),
                     HG_BAD_PROPERTY);
    seam_fail_allocs_from(1);
    assert_int_equal(hg_amqp_conn_update_secret(r.conn, HG_BYTES("third")), HG_NO_MEMORY);
    seam_fail_allocs_from(0);
    assert_int_equal(hg_amqp_conn_output_n(r.conn), 0);

    assert_int_equal(hg_amqp_conn_update_secret(r.conn, HG_BYTES("third")), HG_OK);
    rig_pump(&r, &b);
    assert_ended(&r, "close REFUSED 530 10.70 NOT_ALLOWED - New secret was refused by one of the "
                     "backends\n");
    assert_true(hg_amqp_conn_awaits_secret(r.conn));
    assert_int_equal(hg_amqp_conn_update_secret(r.conn, HG_BYTES("fourth")), HG_BROKER_AWAY);
    rig_close(&r);
    broker_close(&b);
}

static void a_secret_that_was_not_given_cannot_be_taken(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    rig_feed(&r, HG_BYTES("\x01\0\0\0\0\0\x04\0\x0a\0\x47\xce"));
    assert_ended(&r, "close PROTOCOL_ERROR 0 0.0 RabbitMQ took a secret that it was not given\n");
    rig_close(&r);
    broker_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_opens_and_negotiates),
        cmocka_unit_test(login_says_who_we_are),
        cmocka_unit_test(refusals_are_in_words),
        cmocka_unit_test(strangers_are_named),
        cmocka_unit_test(a_silent_server_is_left_after_ten_seconds),
        cmocka_unit_test(a_recorded_session_is_read_at_every_split),
        cmocka_unit_test(heartbeats_go_out_when_nothing_else_does),
        cmocka_unit_test(two_silent_intervals_end_the_connection),
        cmocka_unit_test(heartbeat_zero_switches_them_off),
        cmocka_unit_test(blocked_and_forced_closure_are_told),
        cmocka_unit_test(forced_closure_is_answered),
        cmocka_unit_test(close_waits_for_its_answer_but_five_seconds),
        cmocka_unit_test(closing_both_ways_at_once_is_fine),
        cmocka_unit_test(close_before_open_and_loss_end_at_once),
        cmocka_unit_test(broken_frames_end_the_connection),
        cmocka_unit_test(a_renewed_secret_is_taken_or_ends_the_connection),
        cmocka_unit_test(a_secret_that_was_not_given_cannot_be_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
