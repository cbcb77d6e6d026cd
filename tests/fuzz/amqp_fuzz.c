/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes from RabbitMQ's side: behind a valid handshake and two open channels, or from the first byte on. */
#include "amqp/amqp_channel.h"
#include "amqp/amqp_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct fuzz {
    struct hg_amqp_conn *conn;
    struct hg_amqp_channel *ch[3];
    uint8_t habits; /* bits: what the user does inside events */
};

enum { HABIT_RAW = 1, HABIT_CLOSES = 2, HABIT_PUBLISHES = 4, HABIT_REOPENS = 8, HABIT_LOSES = 16 };

static const struct hg_amqp_channel_ops channel_ops;

static void act(struct fuzz *f)
{
    if ((f->habits & HABIT_PUBLISHES) != 0 && f->ch[0] != NULL) {
        struct hg_message *m = hg_message_new(
            &(struct hg_message_parts){.routing_key = HG_BYTES("k"), .body = HG_BYTES("body")});
        (void)hg_amqp_basic_publish(f->ch[0], m);
        hg_message_unref(m);
    }
    if ((f->habits & HABIT_CLOSES) != 0 && f->ch[1] != NULL) {
        hg_amqp_channel_close(f->ch[1]);
        f->ch[1] = NULL;
    }
    if ((f->habits & HABIT_REOPENS) != 0 && f->ch[2] == NULL) {
        f->ch[2] = hg_amqp_channel_open(f->conn, &channel_ops, f, 3);
    }
    if ((f->habits & HABIT_LOSES) != 0) {
        hg_amqp_conn_lost(f->conn, "lost");
    }
}

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    (void)cookie;
    if (reply->message != NULL) {
        (void)hg_message_cost_bytes(reply->message);
    }
    act(ctx);
}

static void on_channel_close(void *ctx, const struct hg_amqp_close *why)
{
    (void)why;
    struct fuzz *f = ctx;
    f->ch[0] = f->ch[1] = f->ch[2] = NULL; /* which one it was is not known here */
    act(f);
}

static void on_confirm(void *ctx, uint64_t tag, bool is_multiple, bool is_ack)
{
    (void)tag, (void)is_multiple, (void)is_ack;
    act(ctx);
}

static void on_return(void *ctx, const struct hg_amqp_return *ret)
{
    (void)hg_message_cost_bytes(ret->message);
    act(ctx);
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct fuzz *f = ctx;
    const struct hg_properties *p = hg_message_properties(delivery->message);
    struct hg_writer w = {0};
    for (size_t i = 0; i < p->headers_n; i++) {
        hg_value_write_text(&w, &p->headers[i].value);
    }
    hg_writer_close(&w);
    if ((f->habits & HABIT_PUBLISHES) != 0 && f->ch[0] != NULL) {
        (void)hg_amqp_basic_publish(f->ch[0], delivery->message); /* as read, so written */
    }
    act(f);
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    (void)consumer_tag;
    act(ctx);
}

static const struct hg_amqp_channel_ops channel_ops = {
    on_reply, on_channel_close, on_confirm, on_return, on_delivery, on_cancel,
};

static void on_open(void *ctx)
{
    struct fuzz *f = ctx;
    f->ch[0] = hg_amqp_channel_open(f->conn, &channel_ops, f, 0);
    f->ch[1] = hg_amqp_channel_open(f->conn, &channel_ops, f, 1);
    (void)hg_amqp_queue_declare(f->ch[0], 2, &(struct hg_amqp_queue_declare){0});
    (void)hg_amqp_basic_get(f->ch[0], 3, HG_BYTES("q"), true);
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    (void)why;
    struct fuzz *f = ctx;
    f->ch[0] = f->ch[1] = f->ch[2] = NULL;
}

static void on_blocked(void *ctx, bool is_blocked, struct hg_bytes reason)
{
    (void)ctx, (void)is_blocked, (void)reason;
}

static void on_output(void *ctx)
{
    (void)ctx;
}

static const struct hg_amqp_conn_ops conn_ops = {.on_open = on_open,
                                                 .on_close = on_close,
                                                 .on_blocked = on_blocked,
                                                 .on_secret = on_output,
                                                 .on_output = on_output};

static void feed_handshake(struct hg_amqp_conn *c)
{
    struct hg_writer w = {0};
    amqp_connection_start_t start = {.version_minor = 9, .mechanisms = amqp_cstring_bytes("PLAIN")};
    amqp_connection_tune_t tune = {.channel_max = 2047, .frame_max = 131072};
    amqp_connection_open_ok_t open_ok = {.known_hosts = amqp_empty_bytes};
    amqp_channel_open_ok_t channel_ok = {.channel_id = amqp_empty_bytes};
    (void)hg_amqp_encode_method(&w, 0, AMQP_CONNECTION_START_METHOD, &start, 4096);
    (void)hg_amqp_encode_method(&w, 0, AMQP_CONNECTION_TUNE_METHOD, &tune, 4096);
    (void)hg_amqp_encode_method(&w, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &open_ok, 4096);
    (void)hg_amqp_encode_method(&w, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok, 4096);
    (void)hg_amqp_encode_method(&w, 2, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok, 4096);
    hg_amqp_conn_feed(c, hg_writer_view(&w), 1);
    hg_writer_close(&w);
}

/* data: habits, a first cut, then what RabbitMQ says. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    const struct hg_amqp_conn_config config = {
        .vhost = "/",
        .user = "guest",
        .password = "guest",
        .name = "fuzz",
        .frame_max = 131072,
        .channel_max = 2047,
        .max_body_bytes = 1 << 16,
    };
    struct fuzz f = {0};
    struct hg_bytes in = hg_bytes(data + 2, n - 2);
    size_t cut = data[1] < in.n ? data[1] : in.n;
    f.conn = hg_amqp_conn_new(&config, &conn_ops, &f);
    if (f.conn == NULL) {
        return 0;
    }
    hg_amqp_conn_start(f.conn, 1);
    if ((data[0] & HABIT_RAW) == 0) {
        feed_handshake(f.conn); /* without habits: the channels are open behind it */
    }
    f.habits = data[0];
    hg_amqp_conn_feed(f.conn, hg_bytes(in.p, cut), 2);
    hg_amqp_conn_feed(f.conn, hg_bytes_skip(in, cut), 3);
    (void)hg_amqp_conn_tick(f.conn, 4);
    hg_buf_unref(hg_amqp_conn_take_output(f.conn));
    hg_amqp_conn_free(f.conn);
    return 0;
}
