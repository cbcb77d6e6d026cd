/* SPDX-License-Identifier: Apache-2.0 */
/* What a program gets that speaks to RabbitMQ itself, through librabbitmq. It does a run for each line "SECONDS [MESSAGES]" of its
 * standard input, each answered by a line of JSON, until that ends.
 *
 *   amqp_direct publish  persistent publishes with a window of unconfirmed ones
 *   amqp_direct consume  takes all messages of a queue, without acknowledgements; a line asks how many there were
 *   amqp_direct latency  publishes at a fixed rate on one connection and consumes on another
 *
 * --queue declares a queue, empties it and binds it to the key. */
#include "bench.h"
#include "wire.h"

#include <amqp.h>

#include <amqp_tcp_socket.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { CONFIRM_LIMIT_S = 60, QUIET_NS = 2000000000 };

struct run {
    const char *host, *exchange, *key, *queue, *user, *password;
    uint64_t port, window_n, body_n, rate, is_durable;
    amqp_connection_state_t out, in;
    uint8_t *body;
    uint64_t limit_n;                          /* messages of this run at most */
    uint64_t base_n, published_n, confirmed_n; /* by delivery tag, base_n of them before this run */
    uint64_t *sent_ns;                         /* by tag modulo the window; 0: confirmed */
    uint64_t consumed_n;
    uint64_t started_ns, ended_ns, end_ns;
    double cpu_s;
    uint16_t number;
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

static void declare_queue(const struct run *r, amqp_connection_state_t c)
{
    amqp_boolean_t is_durable = r->is_durable != 0;
    amqp_queue_declare(c, 1, amqp_cstring_bytes(r->queue), 0, is_durable, 0, !is_durable,
                       amqp_empty_table);
    check(c, "queue.declare");
    amqp_queue_bind(c, 1, amqp_cstring_bytes(r->queue), amqp_cstring_bytes(r->exchange),
                    amqp_cstring_bytes(r->key), amqp_empty_table);
    check(c, "queue.bind");
    amqp_queue_purge(c, 1, amqp_cstring_bytes(r->queue));
    check(c, "queue.purge");
}

static void consume_queue(const struct run *r, amqp_connection_state_t c)
{
    amqp_basic_consume(c, 1, amqp_cstring_bytes(r->queue), amqp_empty_bytes, 0, 1, 0,
                       amqp_empty_table);
    check(c, "basic.consume");
}

static void begin(struct run *r, double seconds, uint64_t limit_n)
{
    r->number = (uint16_t)(r->number + 1);
    r->limit_n = limit_n == 0 ? UINT64_MAX : limit_n;
    r->base_n = r->published_n;
    r->consumed_n = 0;
    r->latency = (struct bench_latency){0};
    r->cpu_s = bench_cpu_s();
    r->started_ns = r->ended_ns = bench_now_ns();
    r->end_ns = r->started_ns + (uint64_t)(seconds * 1e9);
}

static void print_run(const struct run *r, uint64_t counted_n, uint64_t confirmed_n)
{
    double seconds = (double)(r->ended_ns - r->started_ns) / 1e9;
    uint64_t published_n = r->published_n - r->base_n;
    printf(
        "{\"seconds\":%.4f,\"started_ns\":%llu,\"published\":%llu,\"confirmed\":%llu,\"deliveries\":%llu,\"lost\":%llu,"
        "\"per_s\":%.1f,\"load_cpu_s\":%.4f,",
        seconds, (unsigned long long)r->started_ns, (unsigned long long)published_n,
        (unsigned long long)confirmed_n, (unsigned long long)r->consumed_n,
        (unsigned long long)(published_n - counted_n),
        seconds > 0 ? (double)counted_n / seconds : 0, bench_cpu_s() - r->cpu_s);
    bench_latency_print(&r->latency);
    printf("}\n");
}

static void send_one(struct run *r, uint64_t sent_ns, uint8_t delivery_mode)
{
    const amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                                .delivery_mode = delivery_mode};
    if (r->body_n >= STAMP_BYTES) {
        stamp_write(r->body, &(struct stamp){sent_ns, (uint32_t)r->published_n, r->number});
    }
    r->published_n++;
    int status =
        amqp_basic_publish(r->out, 1, amqp_cstring_bytes(r->exchange), amqp_cstring_bytes(r->key),
                           0, 0, &properties, (amqp_bytes_t){r->body_n, r->body});
    if (status != AMQP_STATUS_OK) {
        bench_die("basic.publish: %s", amqp_error_string2(status));
    }
}

/* ---- publish */

static void settle(struct run *r, uint64_t tag)
{
    uint64_t *sent_ns = &r->sent_ns[tag % r->window_n];
    if (*sent_ns != 0) {
        r->ended_ns = bench_now_ns();
        bench_latency_add(&r->latency, r->ended_ns - *sent_ns);
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
static void read_acks(struct run *r)
{
    struct timeval wait = {CONFIRM_LIMIT_S, 0};
    amqp_frame_t frame;
    int status;
    while ((status = amqp_simple_wait_frame_noblock(r->out, &frame, &wait)) == AMQP_STATUS_OK) {
        if (frame.frame_type != AMQP_FRAME_METHOD ||
            frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            bench_die("RabbitMQ sent something else than basic.ack");
        }
        on_ack(r, frame.payload.method.decoded);
        amqp_maybe_release_buffers_on_channel(r->out, 1);
        wait = (struct timeval){0, 0};
    }
    if (status != AMQP_STATUS_TIMEOUT || wait.tv_sec != 0) {
        bench_die("waiting for confirms: %s", amqp_error_string2(status));
    }
}

static void run_publish(struct run *r)
{
    double seconds;
    uint64_t limit_n;
    r->sent_ns = bench_alloc(r->window_n * sizeof(uint64_t));
    amqp_confirm_select(r->out, 1);
    check(r->out, "confirm.select");
    while (bench_next(&seconds, &limit_n)) {
        begin(r, seconds, limit_n);
        uint64_t now_ns;
        while ((now_ns = bench_now_ns()) < r->end_ns && r->published_n - r->base_n < r->limit_n) {
            while (r->published_n - r->confirmed_n < r->window_n &&
                   r->published_n - r->base_n < r->limit_n) {
                r->sent_ns[(r->published_n + 1) % r->window_n] = now_ns = bench_now_ns();
                send_one(r, now_ns, 2);
            }
            read_acks(r);
        }
        while (r->confirmed_n < r->published_n) {
            read_acks(r);
        }
        print_run(r, r->published_n - r->base_n, r->confirmed_n - r->base_n);
    }
    free(r->sent_ns);
}

/* ---- consume */

/* Takes the frames that are there; deliveries are counted, what they hold is timed if it can be. */
static void read_deliveries(struct run *r, struct timeval wait)
{
    amqp_frame_t frame;
    int status;
    struct stamp s;
    while ((status = amqp_simple_wait_frame_noblock(r->in, &frame, &wait)) == AMQP_STATUS_OK) {
        wait = (struct timeval){0, 0};
        if (frame.frame_type == AMQP_FRAME_METHOD &&
            frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD) {
            r->consumed_n++;
            r->ended_ns = bench_now_ns();
        } else if (frame.frame_type == AMQP_FRAME_BODY &&
                   stamp_read(frame.payload.body_fragment.bytes, frame.payload.body_fragment.len,
                              &s) &&
                   s.run == r->number && r->rate != 0) {
            uint64_t now_ns = bench_now_ns();
            bench_latency_add(&r->latency, now_ns > s.sent_ns ? now_ns - s.sent_ns : 0);
        }
        amqp_maybe_release_buffers_on_channel(r->in, 1);
    }
    if (status != AMQP_STATUS_TIMEOUT) {
        bench_die("waiting for deliveries: %s", amqp_error_string2(status));
    }
}

static void run_consume(struct run *r)
{
    struct pollfd in[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = amqp_get_sockfd(r->in), .events = POLLIN}};
    double seconds;
    uint64_t limit_n;
    consume_queue(r, r->in);
    printf("{\"consuming\":true}\n");
    (void)fflush(stdout);
    for (;;) {
        (void)poll(in, 2, -1);
        if (in[1].revents != 0) {
            read_deliveries(r, (struct timeval){0, 0});
        }
        if (in[0].revents != 0) {
            if (!bench_next(&seconds, &limit_n)) {
                return;
            }
            printf("{\"consumed\":%llu,\"last_ns\":%llu,\"cpu_s\":%.4f}\n",
                   (unsigned long long)r->consumed_n, (unsigned long long)r->ended_ns,
                   bench_cpu_s());
            (void)fflush(stdout);
        }
    }
}

/* ---- latency */

static void *publish_at_rate(void *ctx)
{
    struct run *r = ctx;
    for (uint64_t i = 0;; i++) {
        uint64_t due_ns = r->started_ns + i * 1000000000 / r->rate;
        if (due_ns >= r->end_ns) {
            return NULL;
        }
        struct timespec due = {(time_t)(due_ns / 1000000000), (long)(due_ns % 1000000000)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        send_one(r, due_ns, 1);
    }
}

static void run_latency(struct run *r)
{
    double seconds;
    uint64_t limit_n;
    if (r->rate == 0 || r->body_n < STAMP_BYTES) {
        bench_die("latency needs a --rate, and a body of %d bytes", STAMP_BYTES);
    }
    consume_queue(r, r->in);
    while (bench_next(&seconds, &limit_n)) {
        pthread_t publisher;
        begin(r, seconds, 0);
        if (pthread_create(&publisher, NULL, publish_at_rate, r) != 0) {
            bench_die("no thread");
        }
        uint64_t expected_n = (uint64_t)(seconds * (double)r->rate);
        while (r->consumed_n < expected_n && bench_now_ns() < r->end_ns + QUIET_NS) {
            read_deliveries(r, (struct timeval){0, 100000});
        }
        (void)pthread_join(publisher, NULL);
        print_run(r, r->consumed_n, 0);
    }
}

static void start(const char *mode, struct run *r)
{
    if (strcmp(mode, "publish") == 0) {
        run_publish(r);
    } else if (strcmp(mode, "consume") == 0) {
        run_consume(r);
    } else if (strcmp(mode, "latency") == 0) {
        run_latency(r);
    } else {
        bench_die("there is no mode %s: publish, consume, latency", mode);
    }
}

int main(int argc, char **argv)
{
    static struct run run = {
        .host = "127.0.0.1",
        .exchange = "amq.topic",
        .key = "bench.load",
        .queue = "",
        .user = "guest",
        .password = "guest",
        .port = 5672,
        .window_n = 256,
        .body_n = 128,
        .is_durable = 1,
    };
    static const struct bench_option options[] = {
        {"--host", NULL, &run.host, "host of RabbitMQ"},
        {"--port", &run.port, NULL, "port"},
        {"--user", NULL, &run.user, "user"},
        {"--password", NULL, &run.password, "password"},
        {"--exchange", NULL, &run.exchange, "exchange"},
        {"--key", NULL, &run.key, "routing key"},
        {"--queue", NULL, &run.queue, "a queue to declare, bind and empty first"},
        {"--durable", &run.is_durable, NULL, "0: that queue goes with its consumer"},
        {"--window", &run.window_n, NULL, "publish: unconfirmed messages"},
        {"--rate", &run.rate, NULL, "latency: messages/s"},
        {"--body", &run.body_n, NULL, "bytes of a message"},
        {NULL, NULL, NULL, NULL},
    };
    if (argc < 2) {
        bench_die(
            "usage: amqp_direct publish|consume|latency [--option value ...]; a wrong option lists them");
    }
    bench_options(argc, argv, 2, options);
    if (run.window_n == 0) {
        bench_die("--window is at least 1");
    }
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* what is due is sent when it is due */
    run.body = bench_alloc(run.body_n + 1);
    memset(run.body, 'x', run.body_n);
    run.out = connect_to_rabbitmq(&run);
    run.in = connect_to_rabbitmq(&run);
    if (run.queue[0] != '\0') {
        declare_queue(&run, run.in);
    }
    start(argv[1], &run);
    amqp_connection_close(run.out, AMQP_REPLY_SUCCESS);
    amqp_connection_close(run.in, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(run.out);
    amqp_destroy_connection(run.in);
    free(run.body);
    return 0;
}
