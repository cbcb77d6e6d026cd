/* SPDX-License-Identifier: Apache-2.0 */
/* What a program gets that speaks to RabbitMQ itself: confirmed persistent publishes through librabbitmq with a window. One line of
 * JSON. It also declares what a run needs: --queue declares a durable queue, empties it and binds it. */
#include "bench.h"

#include <amqp.h>

#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const char *host, *exchange, *key, *queue, *user, *password;
    uint64_t port, messages_n, window_n, body_n, max_length;
    uint64_t published_n, confirmed_n; /* confirmed_n: all tags up to it are */
    uint64_t *sent_ns;                 /* by tag modulo the window; 0: confirmed */
    struct bench_latency latency;
};

static void check(amqp_connection_state_t c, const char *what)
{
    amqp_rpc_reply_t r = amqp_get_rpc_reply(c);
    if (r.reply_type == AMQP_RESPONSE_NORMAL) {
        return;
    }
    if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = r.reply.decoded;
        bench_die("%s: %.*s", what, (int)m->reply_text.len, (const char *)m->reply_text.bytes);
    }
    bench_die("%s: %s", what, amqp_error_string2(r.library_error));
}

static amqp_connection_state_t connect_to_rabbitmq(const struct run *r)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    if (socket == NULL || amqp_socket_open(socket, r->host, (int)r->port) != 0) {
        bench_die("cannot connect to %s:%llu", r->host, (unsigned long long)r->port);
    }
    amqp_rpc_reply_t reply =
        amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, r->user, r->password);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        bench_die("login refused");
    }
    amqp_channel_open(c, 1);
    check(c, "channel.open");
    return c;
}

/* Bounded by dropping the oldest, so that a run cannot fill the disk. */
static void declare_queue(const struct run *r, amqp_connection_state_t c)
{
    amqp_table_entry_t argument = {
        .key = amqp_cstring_bytes("x-max-length"),
        .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = (int64_t)r->max_length},
    };
    amqp_table_t arguments = {.num_entries = 1, .entries = &argument};
    amqp_queue_declare(c, 1, amqp_cstring_bytes(r->queue), 0, 1, 0, 0, arguments);
    check(c, "queue.declare");
    amqp_queue_bind(c, 1, amqp_cstring_bytes(r->queue), amqp_cstring_bytes(r->exchange),
                    amqp_cstring_bytes(r->key), amqp_empty_table);
    check(c, "queue.bind");
    amqp_queue_purge(c, 1, amqp_cstring_bytes(r->queue));
    check(c, "queue.purge");
}

static void settle(struct run *r, uint64_t tag)
{
    uint64_t *sent_ns = &r->sent_ns[tag % r->window_n];
    if (*sent_ns != 0) {
        bench_latency_add(&r->latency, bench_now_ns() - *sent_ns);
        *sent_ns = 0;
    }
}

static void on_ack(struct run *r, const amqp_basic_ack_t *ack)
{
    for (uint64_t tag = ack->multiple ? r->confirmed_n + 1 : ack->delivery_tag;
         tag <= ack->delivery_tag; tag++) {
        settle(r, tag);
    }
    while (r->confirmed_n < r->published_n && r->sent_ns[(r->confirmed_n + 1) % r->window_n] == 0) {
        r->confirmed_n++;
    }
}

/* Waits for a frame, then takes all that are there. */
static void read_acks(struct run *r, amqp_connection_state_t c)
{
    struct timeval wait = {30, 0};
    amqp_frame_t frame;
    int status;
    while ((status = amqp_simple_wait_frame_noblock(c, &frame, &wait)) == AMQP_STATUS_OK) {
        if (frame.frame_type != AMQP_FRAME_METHOD ||
            frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            bench_die("RabbitMQ sent something else than basic.ack");
        }
        on_ack(r, frame.payload.method.decoded);
        amqp_maybe_release_buffers_on_channel(c, 1);
        wait = (struct timeval){0, 0};
    }
    if (status != AMQP_STATUS_TIMEOUT || wait.tv_sec != 0) {
        bench_die("waiting for confirms: %s", amqp_error_string2(status));
    }
}

static void publish_all(struct run *r, amqp_connection_state_t c, const uint8_t *body)
{
    const amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                                .delivery_mode = 2};
    const amqp_bytes_t content = {r->body_n, (void *)(uintptr_t)body};
    while (r->confirmed_n < r->messages_n) {
        while (r->published_n < r->messages_n && r->published_n - r->confirmed_n < r->window_n) {
            r->published_n++;
            r->sent_ns[r->published_n % r->window_n] = bench_now_ns();
            int status = amqp_basic_publish(c, 1, amqp_cstring_bytes(r->exchange),
                                            amqp_cstring_bytes(r->key), 0, 0, &properties, content);
            if (status != AMQP_STATUS_OK) {
                bench_die("basic.publish: %s", amqp_error_string2(status));
            }
        }
        read_acks(r, c);
    }
}

int main(int argc, char **argv)
{
    struct run run = {
        .host = "127.0.0.1",
        .exchange = "amq.topic",
        .key = "bench.load",
        .queue = "",
        .user = "guest",
        .password = "guest",
        .port = 5672,
        .messages_n = 100000,
        .window_n = 1000,
        .body_n = 128,
        .max_length = 1000000,
    };
    const struct bench_option options[] = {
        {"--host", NULL, &run.host, "host of RabbitMQ"},
        {"--port", &run.port, NULL, "port"},
        {"--user", NULL, &run.user, "user"},
        {"--password", NULL, &run.password, "password"},
        {"--exchange", NULL, &run.exchange, "exchange"},
        {"--key", NULL, &run.key, "routing key"},
        {"--queue", NULL, &run.queue, "a durable queue to declare, bind and empty first"},
        {"--max-length", &run.max_length, NULL, "messages that queue keeps"},
        {"--messages", &run.messages_n, NULL, "messages published"},
        {"--window", &run.window_n, NULL, "unconfirmed messages"},
        {"--body", &run.body_n, NULL, "bytes of a message"},
        {NULL, NULL, NULL, NULL},
    };
    bench_options(argc, argv, 1, options);
    if (run.window_n == 0) {
        bench_die("--window is at least 1");
    }
    run.sent_ns = bench_alloc(run.window_n * sizeof(uint64_t));
    uint8_t *body = bench_alloc(run.body_n + 1);
    amqp_connection_state_t c = connect_to_rabbitmq(&run);
    if (run.queue[0] != '\0') {
        declare_queue(&run, c);
    }
    amqp_confirm_select(c, 1);
    check(c, "confirm.select");
    uint64_t started_ns = bench_now_ns();
    publish_all(&run, c, body);
    double seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    if (run.messages_n > 0) {
        printf(
            "{\"run\":\"direct\",\"window\":%llu,\"body_bytes\":%llu,\"messages\":%llu,\"seconds\":%.3f,"
            "\"confirmed_per_s\":%.0f,\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n",
            (unsigned long long)run.window_n, (unsigned long long)run.body_n,
            (unsigned long long)run.messages_n, seconds, (double)run.messages_n / seconds,
            bench_latency_ms(&run.latency, 0.5), bench_latency_ms(&run.latency, 0.99));
    }
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
    free(run.sent_ns);
    free(body);
    return 0;
}
