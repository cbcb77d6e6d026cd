/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator. It connects, says so in a line of JSON, then does a run for each line "SECONDS [MESSAGES]" of its standard
 * input, each answered by a line of JSON, until that ends.
 *
 *   load hold     connections, idle
 *   load publish  publishes with a window of unconfirmed ones over all connections; QoS 0: of ones that the
 *                 server has not read
 *   load stream   one publisher and many subscribers of one topic: with a window of messages that not all of them have yet,
 *                 or at a fixed rate, each message timed from the moment at which it was due */
#include "bench.h"
#include "peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    READY_LIMIT_S = 300,
    CONFIRM_LIMIT_S = 60,
    BODY_MAX = 16 << 20,
    PENDING_MAX = 1 << 16,
    POUR_BUFFER = 1 << 14
};

/* What a run is told, and what it counts; callbacks find it as the crowd's context. */
struct run {
    const char *wire, *host, *topic, *text, *path, *authorization;
    uint64_t port, n, subscriptions_n, is_distinct, topics_n, await_n, window_n, body_n, qos,
        is_retaining, is_kept, client, rate, slow_n, quiet_ms;
    struct crowd crowd;
    uint8_t *body;
    uint32_t *pending; /* stream: deliveries to come, by sequence number */
    uint64_t limit_n;  /* messages of this run at most */
    uint64_t published_n, confirmed_n, deliveries_n, done_n;
    uint64_t started_ns, ended_ns, end_ns;
    double cpu_s;
    uint64_t read_bytes, reads_n;
    uint16_t number;
    struct bench_latency latency;
};

static struct run *run_of(const struct peer *p)
{
    return p->crowd->ctx;
}

static void begin(struct run *r, double seconds, uint64_t limit_n)
{
    r->number = (uint16_t)(r->number + 1);
    r->limit_n = limit_n == 0 ? UINT64_MAX : limit_n;
    r->published_n = r->confirmed_n = r->deliveries_n = r->done_n = 0;
    r->latency = (struct bench_latency){0};
    r->cpu_s = bench_cpu_s();
    r->read_bytes = r->crowd.loop.read_bytes;
    r->reads_n = r->crowd.loop.reads_n;
    r->started_ns = r->ended_ns = bench_now_ns();
    r->end_ns = r->started_ns + (uint64_t)(seconds * 1e9);
}

/* counted_n: what the rate is of. */
static void print_run(struct run *r, uint64_t counted_n, uint64_t lost_n)
{
    double seconds = (double)(r->ended_ns - r->started_ns) / 1e9;
    printf(
        "{\"seconds\":%.4f,\"started_ns\":%llu,\"published\":%llu,\"confirmed\":%llu,\"deliveries\":%llu,\"lost\":%llu,"
        "\"disconnected\":%zu,\"per_s\":%.1f,\"load_cpu_s\":%.4f,\"reads\":%llu,\"read_bytes\":%llu,",
        seconds, (unsigned long long)r->started_ns, (unsigned long long)r->published_n,
        (unsigned long long)r->confirmed_n, (unsigned long long)r->deliveries_n,
        (unsigned long long)lost_n, r->crowd.lost_n, seconds > 0 ? (double)counted_n / seconds : 0,
        bench_cpu_s() - r->cpu_s, (unsigned long long)(r->crowd.loop.reads_n - r->reads_n),
        (unsigned long long)(r->crowd.loop.read_bytes - r->read_bytes));
    bench_latency_print(&r->latency);
    printf("}\n");
}

static void put_stamp(struct run *r, uint64_t sent_ns)
{
    if (r->body_n >= STAMP_BYTES && r->text[0] == '\0') {
        stamp_write(r->body, &(struct stamp){sent_ns, (uint32_t)r->published_n, r->number});
    }
}

/* The topic itself, or one of many below it. */
static const char *topic_of(const struct run *r, char *out, size_t out_n)
{
    if (r->topics_n == 0) {
        return r->topic;
    }
    (void)snprintf(out, out_n, "%s/%llu", r->topic,
                   (unsigned long long)(r->published_n % r->topics_n));
    return out;
}

static void connect_all(struct run *r, const struct crowd_ops *ops, size_t n)
{
    struct crowd *c = &r->crowd;
    *c = (struct crowd){.ops = ops,
                        .wire = wire_find(r->wire),
                        .ctx = r,
                        .host = r->host,
                        .port = (uint16_t)r->port,
                        .subscribe_qos = (uint8_t)r->qos,
                        .is_retaining = r->is_retaining != 0,
                        .is_kept = r->is_kept != 0,
                        .client = (uint32_t)(r->client != 0 ? r->client : (uint64_t)getpid()),
                        .path = r->path[0] != '\0' ? r->path : NULL,
                        .authorization = r->authorization[0] != '\0' ? r->authorization : NULL};
    uint64_t started_ns = bench_now_ns();
    crowd_open(c, n);
    crowd_wait_ready(c, READY_LIMIT_S);
    while (c->deliveries_n < r->await_n) {
        crowd_turn(c, 100000000);
    }
    double seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    printf("{\"connections\":%zu,\"seconds\":%.4f,\"connects_per_s\":%.1f}\n", n, seconds,
           (double)n / seconds);
}

/* ---- hold */

static bool filter_of(const struct peer *p, size_t k, char *out, size_t out_n)
{
    const struct run *r = run_of(p);
    if (k < r->subscriptions_n && r->is_distinct != 0) {
        (void)snprintf(out, out_n, "%s/%zu/%zu", r->topic, p->index, k);
    } else if (k == 0) {
        (void)snprintf(out, out_n, "%s", r->topic);
    } else { /* those beside the first are there to be in the way */
        (void)snprintf(out, out_n, "%s-%zu/%zu", r->topic, p->index, k);
    }
    return k < r->subscriptions_n;
}

static void count_confirm(struct peer *p, uint32_t id)
{
    (void)id;
    run_of(p)->confirmed_n++;
}

/* A keep-alive connection is one that has had an answer. */
static void use_once(struct run *r)
{
    for (size_t i = 0; i < r->crowd.peers_n; i++) {
        peer_publish(&r->crowd.peers[i], r->topic, r->body, r->body_n, 1);
        while (i + 1 - r->confirmed_n > 128) {
            crowd_turn(&r->crowd, 100000000);
        }
    }
    while (r->confirmed_n < r->crowd.peers_n && r->crowd.lost_n == 0) {
        crowd_turn(&r->crowd, 100000000);
    }
}

static void run_hold(struct run *r)
{
    static const struct crowd_ops ops = {.filter_of = filter_of, .on_confirm = count_confirm};
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    connect_all(r, &ops, r->n);
    if (r->crowd.wire->proto == PROTO_HTTP) {
        use_once(r);
    }
    (void)fflush(stdout);
    while (poll(&in, 1, 0) == 0) {
        crowd_turn(&r->crowd, 100000000);
    }
    if (r->crowd.lost_n > 0) {
        bench_die("%zu connections were lost while idle", r->crowd.lost_n);
    }
}

/* ---- publish */

/* Numbers 1 … window of one publishing connection, used in turn: HTTP's answers have no other number than their order. */
struct publisher {
    uint64_t *sent_ns; /* by number; 0: free */
    uint32_t *free_ids;
    size_t window_n, free_at, free_n;
    size_t poured_n;  /* without confirmation: since the last ping */
    unsigned pings_n; /* that were not answered yet */
};

static void give_window(struct peer *p, size_t window_n)
{
    if (window_n == 0 || window_n > 65535) {
        bench_die("the window of a connection is 1 to 65535");
    }
    struct publisher *pub = bench_alloc(sizeof(*pub));
    pub->sent_ns = bench_alloc((window_n + 1) * sizeof(uint64_t));
    pub->free_ids = bench_alloc(window_n * sizeof(uint32_t));
    pub->window_n = pub->free_n = window_n;
    for (size_t i = 0; i < window_n; i++) {
        pub->free_ids[i] = (uint32_t)(i + 1);
    }
    p->user = pub;
}

static void fill_window(struct peer *p)
{
    struct run *r = run_of(p);
    struct publisher *pub = p->user;
    char topic[160];
    while (pub->free_n > 0 && r->published_n < r->limit_n) {
        uint32_t id = pub->free_ids[pub->free_at];
        pub->free_at = (pub->free_at + 1) % pub->window_n;
        pub->free_n--;
        pub->sent_ns[id] = bench_now_ns();
        put_stamp(r, pub->sent_ns[id]);
        peer_publish(p, topic_of(r, topic, sizeof(topic)), r->body, r->body_n, id);
        r->published_n++;
    }
}

static void on_confirm(struct peer *p, uint32_t id)
{
    struct run *r = run_of(p);
    struct publisher *pub = p->user;
    if (r->qos == 0) {
        pub->pings_n--;
        return;
    }
    if (r->crowd.wire->proto == PROTO_HTTP) {
        id = (uint32_t)((id - 1) % pub->window_n + 1);
    }
    if (id == 0 || id > pub->window_n || pub->sent_ns[id] == 0) {
        bench_die("a confirm for %u, which is not outstanding", id);
    }
    r->ended_ns = bench_now_ns();
    bench_latency_add(&r->latency, r->ended_ns - pub->sent_ns[id]);
    pub->sent_ns[id] = 0;
    pub->free_ids[(pub->free_at + pub->free_n++) % pub->window_n] = id;
    r->confirmed_n++;
}

/* What nobody confirms is bounded all the same, by what the server has not read: half a window goes out behind the other half. */
static void pour(struct peer *p)
{
    struct run *r = run_of(p);
    struct publisher *pub = p->user;
    while (pub->pings_n < 2 && r->published_n < r->limit_n) {
        put_stamp(r, bench_now_ns());
        peer_publish(p, r->topic, r->body, r->body_n, 0);
        r->published_n++;
        if (++pub->poured_n >= pub->window_n / 2) {
            pub->poured_n = 0;
            pub->pings_n++;
            peer_ping(p);
        }
    }
}

/* Waits until the server has read what was poured. */
static void drain(struct run *r, uint64_t give_up_ns)
{
    for (size_t i = 0; i < r->crowd.peers_n; i++) {
        struct publisher *pub = r->crowd.peers[i].user;
        while (pub->pings_n > 0 && bench_now_ns() < give_up_ns && r->crowd.lost_n == 0) {
            crowd_turn(&r->crowd, 100000000);
        }
    }
}

static void publish(struct run *r)
{
    struct crowd *c = &r->crowd;
    uint64_t now_ns;
    while ((now_ns = bench_now_ns()) < r->end_ns && r->published_n < r->limit_n) {
        for (size_t i = 0; i < c->peers_n; i++) {
            if (r->qos > 0) {
                fill_window(&c->peers[i]);
            } else {
                pour(&c->peers[i]);
            }
        }
        crowd_turn(c, 10000000);
        if (c->lost_n > 0) {
            bench_die("a publisher was disconnected after %llu confirms",
                      (unsigned long long)r->confirmed_n);
        }
    }
    uint64_t give_up_ns = now_ns + CONFIRM_LIMIT_S * 1000000000ULL;
    while (r->qos > 0 && r->confirmed_n < r->published_n && bench_now_ns() < give_up_ns &&
           c->lost_n == 0) {
        crowd_turn(c, 100000000);
    }
    if (r->qos == 0) {
        drain(r, give_up_ns);
        r->ended_ns = bench_now_ns();
    }
}

static void run_publish(struct run *r)
{
    static const struct crowd_ops ops = {.on_confirm = on_confirm};
    double seconds;
    uint64_t limit_n;
    if (r->qos == 0 && wire_find(r->wire)->proto != PROTO_MQTT) {
        bench_die("only MQTT can publish without confirmation");
    }
    connect_all(r, &ops, r->n);
    for (size_t i = 0; i < r->n; i++) {
        give_window(&r->crowd.peers[i], r->window_n / r->n);
    }
    while (bench_next(&seconds, &limit_n)) {
        begin(r, seconds, limit_n);
        publish(r);
        uint64_t counted_n = r->qos > 0 ? r->confirmed_n : r->published_n;
        print_run(r, counted_n, r->published_n - counted_n);
    }
    for (size_t i = 0; i < r->n; i++) {
        struct publisher *pub = r->crowd.peers[i].user;
        free(pub->sent_ns);
        free(pub->free_ids);
        free(pub);
    }
}

/* ---- stream */

static bool stream_filter_of(const struct peer *p, size_t k, char *out, size_t out_n)
{
    return p->index > 0 && filter_of(p, k, out, out_n); /* peer 0 publishes */
}

static bool is_slow(const struct run *r, const struct peer *p)
{
    return p->index > r->n - r->slow_n;
}

static void on_delivery(struct peer *p, const uint8_t *body, size_t n)
{
    struct run *r = run_of(p);
    struct stamp s;
    if (!stamp_read(body, n, &s) || s.run != r->number || is_slow(r, p)) {
        return; /* of an earlier run that was given up */
    }
    r->ended_ns = bench_now_ns();
    r->deliveries_n++;
    bench_latency_add(&r->latency, r->ended_ns > s.sent_ns ? r->ended_ns - s.sent_ns : 0);
    r->pending[s.sequence % PENDING_MAX]--;
    while (r->done_n < r->published_n && r->pending[r->done_n % PENDING_MAX] == 0) {
        r->done_n++;
    }
}

static void send_one(struct run *r, uint64_t sent_ns)
{
    struct peer *p = &r->crowd.peers[0];
    r->pending[r->published_n % PENDING_MAX] = (uint32_t)(r->n - r->slow_n);
    put_stamp(r, sent_ns);
    r->published_n++;
    peer_publish(p, r->topic, r->body, r->body_n, 0);
}

/* Publishes what may be; how long until something is due again. */
static uint64_t publish_due(struct run *r)
{
    uint64_t now_ns = bench_now_ns();
    if (r->rate == 0) {
        while (r->published_n - r->done_n < r->window_n && r->published_n < r->limit_n) {
            send_one(r, now_ns);
        }
        return 100000000;
    }
    uint64_t due_ns;
    while ((due_ns = r->started_ns + r->published_n * 1000000000 / r->rate) <= now_ns &&
           r->published_n - r->done_n < PENDING_MAX) {
        send_one(r, due_ns);
    }
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

static void stream(struct run *r)
{
    struct crowd *c = &r->crowd;
    uint64_t last_n = 0;
    uint64_t now_ns = r->started_ns;
    uint64_t active_ns = now_ns;
    bool is_publishing = true;
    while ((is_publishing || r->done_n < r->published_n) &&
           now_ns - active_ns < r->quiet_ms * 1000000) {
        uint64_t wait_ns = is_publishing ? publish_due(r) : 100000000;
        crowd_turn(c, wait_ns);
        now_ns = bench_now_ns();
        is_publishing = is_publishing && now_ns < r->end_ns && r->published_n < r->limit_n;
        if (r->deliveries_n != last_n) {
            active_ns = now_ns;
            last_n = r->deliveries_n;
        }
    }
}

static void run_stream(struct run *r)
{
    static const struct crowd_ops ops = {.filter_of = stream_filter_of, .on_message = on_delivery};
    double seconds;
    uint64_t limit_n;
    if (r->body_n < STAMP_BYTES || r->window_n > PENDING_MAX || r->slow_n >= r->n) {
        bench_die(
            "a stream needs a body of %d bytes, a window of %d at most, a subscriber that is not slow",
            STAMP_BYTES, PENDING_MAX);
    }
    r->pending = bench_alloc(PENDING_MAX * sizeof(uint32_t));
    connect_all(r, &ops, r->n + 1);
    for (size_t i = 1; i <= r->n; i++) {
        if (r->qos == 0) {
            conn_only_listens(&r->crowd.peers[i].conn);
        }
        if (is_slow(r, &r->crowd.peers[i])) {
            conn_be_deaf(&r->crowd.peers[i].conn);
        }
    }
    while (bench_next(&seconds, &limit_n)) {
        begin(r, seconds, limit_n);
        stream(r);
        print_run(r, r->deliveries_n, r->published_n * (r->n - r->slow_n) - r->deliveries_n);
    }
    free(r->pending);
}

static const struct {
    const char *name;
    void (*start)(struct run *r);
} modes[] = {{"hold", run_hold}, {"publish", run_publish}, {"stream", run_stream}};

static void start(const char *mode, struct run *r)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(mode, modes[i].name) == 0) {
            modes[i].start(r);
            crowd_close(&r->crowd);
            return;
        }
    }
    bench_die("there is no mode %s: hold, publish, stream", mode);
}

int main(int argc, char **argv)
{
    static struct run run = {
        .wire = "mqtt",
        .host = "127.0.0.1",
        .topic = "bench/load",
        .text = "",
        .path = "",
        .authorization = "",
        .port = 1883,
        .n = 1,
        .window_n = 256,
        .body_n = 128,
        .quiet_ms = 3000,
    };
    static const struct bench_option options[] = {
        {"--wire", NULL, &run.wire, "protocol"},
        {"--host", NULL, &run.host, "IPv4 address"},
        {"--port", &run.port, NULL, "port"},
        {"--topic", NULL, &run.topic, "topic, or what distinct topics begin with"},
        {"--n", &run.n, NULL, "connections; stream: subscribers"},
        {"--subscriptions", &run.subscriptions_n, NULL,
         "hold, stream: of each subscriber, the first of them to the topic"},
        {"--distinct", &run.is_distinct, NULL, "hold: 1 for other topics for each subscriber"},
        {"--await", &run.await_n, NULL, "hold: messages that come first, retained ones"},
        {"--topics", &run.topics_n, NULL,
         "publish: to so many topics, one after another; 0: to the topic itself"},
        {"--retain", &run.is_retaining, NULL, "publish: 1 to have the messages retained"},
        {"--kept", &run.is_kept, NULL, "MQTT: 1 for sessions that are kept"},
        {"--client", &run.client, NULL,
         "MQTT: number in the client ids, to have those of an earlier run; 0: the process's"},
        {"--window", &run.window_n, NULL, "messages outstanding, over all connections"},
        {"--body", &run.body_n, NULL, "bytes of a message"},
        {"--text", NULL, &run.text, "publish: this body"},
        {"--qos", &run.qos, NULL,
         "publish: 1 to have publishes confirmed; stream: of the subscriptions"},
        {"--rate", &run.rate, NULL, "stream: messages/s; 0: the window paces"},
        {"--slow", &run.slow_n, NULL, "stream: of the subscribers, those that read nothing"},
        {"--quiet-ms", &run.quiet_ms, NULL,
         "stream: silence after which missing deliveries count as lost"},
        {"--path", NULL, &run.path, "http: POST here, not to the topic"},
        {"--authorization", NULL, &run.authorization, "http: this header"},
        {NULL, NULL, NULL, NULL},
    };
    if (argc < 2) {
        bench_die(
            "usage: load hold|publish|stream [--option value ...]; a wrong option lists them");
    }
    bench_options(argc, argv, 2, options);
    if (run.body_n > BODY_MAX || run.n == 0 || run.qos > 1) {
        bench_die("--body is at most %d, --n at least 1, --qos 0 or 1", BODY_MAX);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* what is due is sent when it is due */
    bool is_text = run.text[0] != '\0';
    run.body_n = is_text ? strlen(run.text) : run.body_n;
    run.body = bench_alloc(run.body_n + 1);
    memset(run.body, 'x', run.body_n);
    memcpy(run.body, run.text, is_text ? run.body_n : 0);
    loop_raise_descriptors();
    start(argv[1], &run);
    free(run.body);
    return 0;
}
