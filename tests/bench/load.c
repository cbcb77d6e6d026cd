/* SPDX-License-Identifier: Apache-2.0 */
/* Load for an MQTT 3.1.1 server: idle connections, confirmed publishes, fan-out. One line of JSON a run.
 *
 *   load idle    opens connections with one QoS 0 subscription each, says so, and holds them until its standard input ends
 *   load publish QoS 1 publishes with a window of unacknowledged ones over some connections
 *   load fanout  one publisher, many subscribers of one topic */
#include "bench.h"
#include "mqtt_peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { READY_LIMIT_S = 120, MAX_BODY = 1 << 20 };

/* What a run is told, and what it counts; callbacks find it as the load's context. */
struct run {
    const char *host, *topic;
    uint64_t port, n, is_same, messages_n, window_n, body_n, qos, rate, quiet_ms;
    uint64_t published_n, confirmed_n;
    uint64_t started_ns, ended_ns;
    uint8_t *body;
    struct bench_latency latency;
};

static struct run *run_of(const struct mqtt_peer *p)
{
    return p->load->ctx;
}

static double seconds(const struct run *r)
{
    return (double)(r->ended_ns - r->started_ns) / 1e9;
}

static bool filter_of(const struct mqtt_peer *p, char *out, size_t out_n)
{
    const struct run *r = run_of(p);
    if (r->is_same != 0) {
        (void)snprintf(out, out_n, "%s", r->topic);
    } else {
        (void)snprintf(out, out_n, "%s/%zu", r->topic, p->index);
    }
    return true;
}

static void run_idle(struct run *r)
{
    static const struct mqtt_load_ops ops = {.filter_of = filter_of};
    struct mqtt_load load = {.ops = &ops, .ctx = r, .host = r->host, .port = (uint16_t)r->port};
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    r->started_ns = bench_now_ns();
    mqtt_load_open(&load, r->n);
    mqtt_load_wait_ready(&load, READY_LIMIT_S);
    r->ended_ns = bench_now_ns();
    printf(
        "{\"run\":\"idle\",\"connections\":%llu,\"same_topic\":%s,\"seconds\":%.3f,\"connects_per_s\":%.0f}\n",
        (unsigned long long)r->n, r->is_same != 0 ? "true" : "false", seconds(r),
        (double)r->n / seconds(r));
    (void)fflush(stdout);
    while (poll(&in, 1, 0) == 0) {
        mqtt_load_turn(&load, 100);
    }
    if (load.lost_n > 0) {
        bench_die("%zu connections were lost while idle", load.lost_n);
    }
    mqtt_load_close(&load);
}

/* Packet ids 1 … window of one publishing connection. */
struct publisher {
    uint64_t *sent_ns; /* by id; 0: free */
    uint16_t *free_ids;
    size_t free_n;
};

static void fill_window(struct mqtt_peer *p)
{
    struct run *r = run_of(p);
    struct publisher *pub = p->user;
    while (pub->free_n > 0 && r->published_n < r->messages_n) {
        uint16_t id = pub->free_ids[--pub->free_n];
        pub->sent_ns[id] = bench_now_ns();
        memcpy(r->body, &pub->sent_ns[id], r->body_n < 8 ? r->body_n : 8);
        mqtt_peer_publish(p, r->topic, r->body, r->body_n, 1, id);
        r->published_n++;
    }
}

static void on_puback(struct mqtt_peer *p, uint16_t id)
{
    struct run *r = run_of(p);
    struct publisher *pub = p->user;
    if (pub->sent_ns[id] == 0) {
        bench_die("PUBACK for %u, which is not outstanding", id);
    }
    bench_latency_add(&r->latency, bench_now_ns() - pub->sent_ns[id]);
    pub->sent_ns[id] = 0;
    pub->free_ids[pub->free_n++] = id;
    r->confirmed_n++;
}

static void give_window(struct mqtt_peer *p, size_t window_n)
{
    if (window_n == 0 || window_n > 65535) {
        bench_die("the window of a connection is 1 to 65535");
    }
    struct publisher *pub = bench_alloc(sizeof(*pub));
    pub->sent_ns = bench_alloc(65536 * sizeof(uint64_t));
    pub->free_ids = bench_alloc(window_n * sizeof(uint16_t));
    for (size_t id = window_n; id > 0; id--) {
        pub->free_ids[pub->free_n++] = (uint16_t)id;
    }
    p->user = pub;
}

static void free_window(struct mqtt_peer *p)
{
    struct publisher *pub = p->user;
    free(pub->sent_ns);
    free(pub->free_ids);
    free(pub);
}

static void run_publish(struct run *r)
{
    static const struct mqtt_load_ops ops = {.on_puback = on_puback};
    struct mqtt_load load = {.ops = &ops, .ctx = r, .host = r->host, .port = (uint16_t)r->port};
    mqtt_load_open(&load, r->n);
    for (size_t i = 0; i < r->n; i++) {
        give_window(&load.peers[i], r->window_n / r->n);
    }
    mqtt_load_wait_ready(&load, READY_LIMIT_S);
    r->started_ns = bench_now_ns();
    while (r->confirmed_n < r->messages_n) {
        for (size_t i = 0; i < r->n; i++) {
            fill_window(&load.peers[i]);
        }
        mqtt_load_turn(&load, 1000);
        if (load.lost_n > 0) {
            bench_die("a publisher was disconnected after %llu confirms",
                      (unsigned long long)r->confirmed_n);
        }
    }
    r->ended_ns = bench_now_ns();
    printf(
        "{\"run\":\"publish\",\"connections\":%llu,\"window\":%llu,\"body_bytes\":%llu,\"messages\":%llu,"
        "\"seconds\":%.3f,\"confirmed_per_s\":%.0f,\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n",
        (unsigned long long)r->n, (unsigned long long)r->window_n, (unsigned long long)r->body_n,
        (unsigned long long)r->messages_n, seconds(r), (double)r->confirmed_n / seconds(r),
        bench_latency_ms(&r->latency, 0.5), bench_latency_ms(&r->latency, 0.99));
    for (size_t i = 0; i < r->n; i++) {
        free_window(&load.peers[i]);
    }
    mqtt_load_close(&load);
}

static void on_delivery(struct mqtt_peer *p, const uint8_t *body, size_t n)
{
    struct run *r = run_of(p);
    uint64_t sent_ns;
    if (n < sizeof(sent_ns)) {
        return;
    }
    memcpy(&sent_ns, body, sizeof(sent_ns));
    r->ended_ns = bench_now_ns();
    bench_latency_add(&r->latency, r->ended_ns - sent_ns);
}

static bool fanout_filter_of(const struct mqtt_peer *p, char *out, size_t out_n)
{
    (void)snprintf(out, out_n, "%s", run_of(p)->topic);
    return p->index > 0; /* peer 0 publishes */
}

/* How many messages the rate allows by now. */
static uint64_t due_n(const struct run *r)
{
    uint64_t due =
        r->rate == 0 ? r->messages_n : (bench_now_ns() - r->started_ns) * r->rate / 1000000000 + 1;
    return due < r->messages_n ? due : r->messages_n;
}

static void publish_due(struct mqtt_peer *p)
{
    struct run *r = run_of(p);
    uint64_t end_n = due_n(r);
    uint64_t all_n = r->messages_n;
    if (r->qos > 0) {
        r->messages_n = end_n; /* the window stops at what is due */
        fill_window(p);
        r->messages_n = all_n;
        return;
    }
    /* Without acknowledgements the socket paces: nothing is added while it has no room. */
    while (r->published_n < end_n && p->out_n < 65536 && !p->waits_for_room) {
        uint64_t now_ns = bench_now_ns();
        memcpy(r->body, &now_ns, sizeof(now_ns));
        mqtt_peer_publish(p, r->topic, r->body, r->body_n, 0, 0);
        r->published_n++;
    }
}

static void run_fanout(struct run *r)
{
    static const struct mqtt_load_ops ops = {
        .filter_of = fanout_filter_of, .on_message = on_delivery, .on_puback = on_puback};
    struct mqtt_load load = {.ops = &ops,
                             .ctx = r,
                             .host = r->host,
                             .port = (uint16_t)r->port,
                             .subscribe_qos = (uint8_t)r->qos};
    uint64_t expected_n = r->n * r->messages_n;
    uint64_t last_n = 0;
    if (r->body_n < sizeof(uint64_t)) {
        bench_die("fanout needs a body of 8 bytes for the time it was sent at");
    }
    mqtt_load_open(&load, r->n + 1);
    give_window(&load.peers[0], r->window_n);
    mqtt_load_wait_ready(&load, READY_LIMIT_S);
    r->started_ns = r->ended_ns = bench_now_ns();
    uint64_t active_ns = r->started_ns;
    while (load.deliveries_n < expected_n && bench_now_ns() - active_ns < r->quiet_ms * 1000000) {
        publish_due(&load.peers[0]);
        mqtt_load_turn(&load, r->rate > 0 ? 1 : 100);
        if (load.deliveries_n != last_n || r->published_n < r->messages_n) {
            active_ns = bench_now_ns();
            last_n = load.deliveries_n;
        }
    }
    printf(
        "{\"run\":\"fanout\",\"subscribers\":%llu,\"qos\":%llu,\"body_bytes\":%llu,\"messages\":%llu,"
        "\"rate\":%llu,\"seconds\":%.3f,\"deliveries\":%llu,\"deliveries_per_s\":%.0f,\"lost\":%llu,"
        "\"disconnected\":%zu,\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f}\n",
        (unsigned long long)r->n, (unsigned long long)r->qos, (unsigned long long)r->body_n,
        (unsigned long long)r->messages_n, (unsigned long long)r->rate, seconds(r),
        (unsigned long long)load.deliveries_n,
        seconds(r) > 0 ? (double)load.deliveries_n / seconds(r) : 0,
        (unsigned long long)(expected_n - load.deliveries_n), load.lost_n,
        bench_latency_ms(&r->latency, 0.5), bench_latency_ms(&r->latency, 0.99),
        bench_latency_ms(&r->latency, 1));
    free_window(&load.peers[0]);
    mqtt_load_close(&load);
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct run run = {
        .host = "127.0.0.1",
        .topic = "bench/load",
        .port = 1883,
        .n = 1,
        .messages_n = 100000,
        .window_n = 1000,
        .body_n = 128,
        .quiet_ms = 2000,
    };
    static const struct {
        const char *name;
        void (*start)(struct run *r);
    } modes[] = {{"idle", run_idle}, {"publish", run_publish}, {"fanout", run_fanout}};
    const struct bench_option options[] = {
        {"--host", NULL, &run.host, "IPv4 address"},
        {"--port", &run.port, NULL, "port"},
        {"--topic", NULL, &run.topic, "topic, or what distinct topics begin with"},
        {"--n", &run.n, NULL, "connections; fanout: subscribers"},
        {"--same", &run.is_same, NULL, "idle: 1 for one topic for all"},
        {"--messages", &run.messages_n, NULL, "messages published"},
        {"--window", &run.window_n, NULL, "unacknowledged messages, over all connections"},
        {"--body", &run.body_n, NULL, "bytes of a message"},
        {"--qos", &run.qos, NULL, "fanout: 0 or 1, of publisher and subscribers"},
        {"--rate", &run.rate, NULL, "fanout: messages/s; 0: as fast as it goes"},
        {"--quiet-ms", &run.quiet_ms, NULL,
         "fanout: silence after which missing deliveries count as lost"},
        {NULL, NULL, NULL, NULL},
    };
    for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            bench_options(argc, argv, 2, options);
            if (run.body_n > MAX_BODY || run.n == 0 || run.qos > 1) {
                bench_die("--body is at most %d, --n at least 1, --qos 0 or 1", MAX_BODY);
            }
            run.body = bench_alloc(run.body_n + sizeof(uint64_t));
            raise_descriptors();
            modes[i].start(&run);
            free(run.body);
            return 0;
        }
    }
    bench_die("usage: load idle|publish|fanout [--option value ...]; a wrong option lists them");
}
