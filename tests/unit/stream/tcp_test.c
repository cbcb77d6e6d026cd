/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams and listeners over loopback, on a real loop. */
#include "base/clock.h"
#include "base/mem.h"
#include "seam/unit.h"
#include "stream/net.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIDES_MAX = 152 };

struct world;

struct side { /* one end of a connection, and what it saw */
    struct world *world;
    struct hg_stream *stream; /* NULL once closed */
    size_t read_n;
    uint64_t read_sum; /* a hash of what was read, in order */
    unsigned opened_n, drained_n, closed_n;
    enum hg_status why;
    bool echoes, closes_on_read;
    bool is_inside; /* a call of ours is under way: no callback may come */
};

struct world {
    uv_loop_t loop;
    struct hg_wheel wheel;
    struct hg_net net;
    struct hg_listener *listener;
    struct hg_gate gate;
    struct side accepted[SIDES_MAX];
    unsigned accepted_n;
    bool echoes;
};

static uint64_t mix(uint64_t sum, struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        sum = (sum ^ b.p[i]) * 0x100000001b3;
    }
    return sum;
}

static void on_read(void *ctx, struct hg_bytes in)
{
    struct side *s = ctx;
    assert_false(s->is_inside);
    s->read_n += in.n;
    s->read_sum = mix(s->read_sum, in);
    if (s->echoes) {
        struct hg_part part = {NULL, in};
        assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, &part, 1), HG_OK);
    }
    if (s->closes_on_read) {
        s->stream->ops->close(s->stream, HG_NOT_ALLOWED);
        assert_int_equal(s->closed_n, 0);
    }
}

static void on_open(void *ctx)
{
    struct side *s = ctx;
    assert_false(s->is_inside);
    s->opened_n++;
}

static void on_drained(void *ctx)
{
    struct side *s = ctx;
    assert_false(s->is_inside);
    s->drained_n++;
}

static void on_closed(void *ctx, enum hg_status why)
{
    struct side *s = ctx;
    assert_false(s->is_inside);
    s->closed_n++;
    s->why = why;
    s->stream = NULL;
}

static const struct hg_stream_user user = {on_read, on_open, on_drained, on_closed, NULL, NULL};

static void on_accept(void *ctx, struct hg_stream *stream)
{
    struct world *w = ctx;
    assert_true(w->accepted_n < SIDES_MAX);
    struct side *s = &w->accepted[w->accepted_n++];
    *s = (struct side){.world = w, .stream = stream, .echoes = w->echoes};
    hg_stream_set_user(stream, &user, s);
    stream->ops->read_start(stream);
}

static struct hg_listener *listen_on(struct world *w, const char *host, uint16_t port, uint32_t max,
                                     const char **why)
{
    struct hg_listener_config config = {
        .host = host,
        .port = port,
        .backlog = 64,
        .is_first = true,
        .gate = &w->gate,
    };
    atomic_store(&w->gate.max_n, max);
    return hg_listener_open(&w->net, &config, on_accept, w, why);
}

static void world_open(struct world *w, uint32_t max_connections)
{
    const char *why = NULL;
    memset(w, 0, sizeof(*w));
    uv_loop_init(&w->loop);
    hg_wheel_open(&w->wheel, hg_clock_ms());
    assert_true(hg_net_open(&w->net, &w->loop, &w->wheel, NULL));
    w->listener = listen_on(w, "127.0.0.1", 0, max_connections, &why);
    assert_non_null(w->listener);
}

/* Runs the loop until the condition holds; a minute is never. */
#define RUN_UNTIL(w, condition)                          \
    do {                                                 \
        uint64_t limit_ = hg_clock_ms() + 60000;         \
        while (!(condition) && hg_clock_ms() < limit_) { \
            run_some(w);                                 \
        }                                                \
        assert_true(condition);                          \
    } while (0)

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_tick_closed(uv_handle_t *handle)
{
    free(handle);
}

static void run_some(struct world *w)
{
    uv_timer_t *tick = malloc(sizeof(*tick)); /* so that the loop never sleeps for long */
    uv_timer_init(&w->loop, tick);
    uv_timer_start(tick, on_tick, 5, 0);
    (void)hg_net_turn(&w->net, true);
    uv_close((uv_handle_t *)tick, on_tick_closed);
}

static void world_close(struct world *w)
{
    hg_listener_close(w->listener);
    for (unsigned i = 0; i < w->accepted_n; i++) {
        if (w->accepted[i].stream != NULL) {
            w->accepted[i].stream->ops->close(w->accepted[i].stream, HG_CLOSED);
        }
    }
    hg_net_close(&w->net);
    hg_net_run(&w->net);
    for (unsigned i = 0; i < w->accepted_n; i++) {
        assert_int_equal(w->accepted[i].closed_n, 1);
    }
    assert_int_equal(w->gate.open_n, 0);
    hg_net_free(&w->net);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static void side_connect(struct world *w, struct side *s)
{
    *s = (struct side){.world = w, .is_inside = true};
    s->stream =
        hg_tcp_connect(&w->net, "127.0.0.1", hg_listener_port(w->listener), 10000, &user, s);
    s->is_inside = false;
    assert_non_null(s->stream);
    s->stream->ops->read_start(s->stream);
}

static void side_close(struct side *s, enum hg_status why)
{
    s->is_inside = true;
    s->stream->ops->close(s->stream, why);
    s->stream->ops->close(s->stream, HG_SERVER_ERROR);
    s->is_inside = false;
}

static void side_write(struct side *s, struct hg_bytes b)
{
    struct hg_part part = {NULL, b};
    s->is_inside = true;
    assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, &part, 1), HG_OK);
    s->is_inside = false;
}

/* A blocking socket of the test's own, which reads or not as the test likes. */
static int plain_connect(struct world *w, int receive_bytes)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(hg_listener_port(w->listener))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (receive_bytes > 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* ---- Bytes ---- */

static void large_and_small_writes_come_back_in_order(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    w.echoes = true;
    side_connect(&w, &c);
    uint8_t *block = malloc(3 << 20);
    size_t sent_n = 0;
    uint64_t sum = 0, random = 7;
    for (int i = 0; i < 40; i++) { /* queued before the connection is there, and after */
        size_t n = i % 10 == 9 ? 3 << 20 : 1 + unit_random_below(&random, 5000);
        memset(block, i, n);
        block[n / 2] = (uint8_t)(n & 0xff);
        struct hg_bytes b = hg_bytes(block, n);
        side_write(&c, b);
        sum = mix(sum, b);
        sent_n += n;
        if (i > 20) {
            run_some(&w);
        }
    }
    free(block);
    RUN_UNTIL(&w, c.read_n == sent_n);
    assert_true(c.read_sum == sum);
    assert_int_equal(c.opened_n, 1);
    assert_int_equal(c.stream->ops->pending(c.stream), 0);
    assert_true(hg_counted(&w.net.counters.bytes_in) == 2 * sent_n);
    assert_true(hg_counted(&w.net.counters.bytes_out) == 2 * sent_n);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, c.closed_n == 1 && w.accepted[0].closed_n == 1);
    assert_int_equal(w.accepted[0].why, HG_CLOSED);
    world_close(&w);
    assert_int_equal(c.closed_n, 1);
}

static void what_one_turn_writes_is_one_system_call(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, c.opened_n == 1 && w.accepted_n == 1);
    uint64_t before = hg_counted(&w.net.counters.writes);
    for (int i = 0; i < 1000; i++) {
        side_write(&c, HG_BYTES("a small message"));
    }
    RUN_UNTIL(&w, w.accepted[0].read_n == 15000);
    assert_int_equal(hg_counted(&w.net.counters.writes) - before, 1);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, w.accepted[0].closed_n == 1);
    world_close(&w);
}

static void send_joint(struct world *w, struct side *s, struct hg_bytes bytes)
{
    struct hg_part part;
    assert_true(hg_joint_put(&w->net.joints, 0, bytes, &part));
    for (unsigned i = 0; s == NULL && i < w->accepted_n; i++) {
        struct hg_stream *to = w->accepted[i].stream;
        if (to != NULL) {
            enum hg_status status = to->ops->write(to, HG_FRAME_BINARY, &part, 1);
            assert_true(status == HG_OK || status == HG_CLOSED);
        }
    }
    if (s != NULL) {
        assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, &part, 1), HG_OK);
    }
}

static void expect_bytes(int fd, const char *text)
{
    char got[64];
    size_t n = strlen(text);
    assert_int_equal(recv(fd, got, n, MSG_WAITALL), n);
    assert_memory_equal(got, text, n);
    assert_int_equal(recv(fd, got, 1, MSG_DONTWAIT), -1);
}

/* Some are written in a turn, and the others get what has come since in the same write; meanwhile one
 * closes, one takes nothing, and one is sent something of its own in between. */
static void who_is_written_later_gets_more_in_one_write(void **state)
{
    (void)state;
    enum { N = 150, FIRST = 4, GONE = 100, STUCK = 101, ODD = 102, FULL_BYTES = 8 << 20 };
    struct world w;
    int fds[N];
    world_open(&w, 0);
    for (unsigned i = 0; i < N; i++) {
        fds[i] = plain_connect(&w, i == STUCK ? 4096 : 0);
        RUN_UNTIL(&w, w.accepted_n == i + 1);
    }
    uint8_t *zeros = calloc(1, FULL_BYTES);
    const struct hg_part much = {NULL, hg_bytes(zeros, FULL_BYTES)};
    struct side *stuck = &w.accepted[STUCK];
    stuck->stream->ops->write(stuck->stream, HG_FRAME_BINARY, &much, 1);
    do {
        run_some(&w);
    } while (stuck->stream->ops->has_moved(stuck->stream));
    size_t stuck_n = stuck->stream->ops->pending(stuck->stream);
    assert_true(stuck_n > 0);
    RUN_UNTIL(&w, w.net.events_n == 0 && hg_list_is_empty(&w.net.dirty));
    uint64_t before = hg_counted(&w.net.counters.writes);
    send_joint(&w, NULL, HG_BYTES("one "));
    (void)hg_net_turn(&w.net, false);
    assert_int_equal(hg_counted(&w.net.counters.writes) - before, FIRST);
    side_close(&w.accepted[GONE], HG_CLOSED);
    send_joint(&w, &w.accepted[ODD], HG_BYTES("own "));
    send_joint(&w, NULL, HG_BYTES("two"));
    RUN_UNTIL(&w, w.accepted[GONE].closed_n == 1 && hg_list_is_empty(&w.net.dirty));
    size_t writes_n = hg_counted(&w.net.counters.writes) - before;
    assert_in_range(writes_n, N - 2 + FIRST, N + 2 * FIRST); /* not two for each */
    assert_in_range(stuck->stream->ops->pending(stuck->stream), 8, stuck_n + 7);
    send_joint(&w, stuck, HG_BYTES("!"));
    for (size_t n = 0; n < FULL_BYTES;) {
        ssize_t got = recv(fds[STUCK], zeros, FULL_BYTES - n, MSG_DONTWAIT);
        n += got > 0 ? (size_t)got : 0;
        run_some(&w);
    }
    RUN_UNTIL(&w, stuck->stream->ops->pending(stuck->stream) == 0);
    for (unsigned i = 0; i < N; i++) {
        if (i != GONE) {
            expect_bytes(fds[i], i == ODD ? "one own two" : i == STUCK ? "one two!" : "one two");
        }
        close(fds[i]);
    }
    free(zeros);
    world_close(&w);
}

/* What many get alike goes to few at first, since more of it is probably on its way. */
static void a_wave_begins_with_few_writes(void **state)
{
    (void)state;
    enum { N = 150 };
    static const struct {
        bool is_alike;
        unsigned writes_n[8]; /* turn by turn */
    } cases[] = {{true, {4, 4, 8, 16, 32, 64, 22}}, {false, {64, 64, 22}}};
    struct world w;
    int fds[N];
    world_open(&w, 0);
    for (unsigned i = 0; i < N; i++) {
        fds[i] = plain_connect(&w, 0);
        RUN_UNTIL(&w, w.accepted_n == i + 1);
    }
    run_some(&w);
    for (size_t at = 0; at < sizeof(cases) / sizeof(cases[0]); at++) {
        RUN_UNTIL(&w, w.net.events_n == 0 && hg_list_is_empty(&w.net.dirty));
        if (cases[at].is_alike) {
            send_joint(&w, NULL, HG_BYTES("x"));
        }
        for (unsigned i = 0; i < N && !cases[at].is_alike; i++) {
            side_write(&w.accepted[i], HG_BYTES("x"));
        }
        for (const unsigned *n = cases[at].writes_n; *n > 0; n++) {
            uint64_t before = hg_counted(&w.net.counters.writes);
            (void)hg_net_turn(&w.net, false);
            assert_int_equal(hg_counted(&w.net.counters.writes) - before, *n);
        }
        assert_true(hg_list_is_empty(&w.net.dirty));
    }
    for (unsigned i = 0; i < N; i++) {
        expect_bytes(fds[i], "xx");
        close(fds[i]);
    }
    world_close(&w);
}

/* What a server says is read between the writes, but not without end. */
static void a_server_waits_while_clients_have_much_to_be_sent(void **state)
{
    (void)state;
    enum { N = 150, HIGH = 100000, ALL = 1 << 20 };
    struct world w;
    struct side c;
    int fds[N];
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, c.opened_n == 1 && w.accepted_n == 1);
    for (unsigned i = 0; i < N; i++) {
        fds[i] = plain_connect(&w, 0);
        RUN_UNTIL(&w, w.accepted_n == i + 2);
    }
    run_some(&w);
    w.net.limits = (struct hg_stream_limits){1000, HIGH};
    uint8_t *zeros = calloc(1, ALL);
    side_write(&w.accepted[0], hg_bytes(zeros, ALL));
    send_joint(&w, NULL, HG_BYTES("x"));
    while (!hg_list_is_empty(&w.net.dirty)) {
        assert_true(c.read_n <= HIGH / 2 + HG_NET_READ_BYTES);
        (void)hg_net_turn(&w.net, false);
    }
    RUN_UNTIL(&w, c.read_n == ALL + 1);
    for (unsigned i = 0; i < N; i++) {
        expect_bytes(fds[i], "x");
        close(fds[i]);
    }
    free(zeros);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, c.closed_n == 1);
    world_close(&w);
}

static void who_asks_is_told_that_little_waits(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    int fd = plain_connect(&w, 4096);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    for (unsigned i = 1; i < 3; i++) { /* with and without output, each time once */
        const struct hg_part part = {NULL, HG_BYTES("x")};
        assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, &part, i == 1), HG_OK);
        s->stream->ops->await_drained(s->stream);
        assert_int_equal(s->drained_n, i - 1);
        RUN_UNTIL(&w, s->drained_n == i);
    }
    run_some(&w);
    assert_int_equal(s->drained_n, 2);
    close(fd);
    RUN_UNTIL(&w, s->closed_n == 1);
    world_close(&w);
}

static void a_slow_reader_fills_the_queue_and_drains_it(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    w.net.limits = (struct hg_stream_limits){1000, 100000};
    int fd = plain_connect(&w, 4096);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    uint8_t *block = calloc(1, 1 << 20);
    struct hg_buf *shared = hg_buf_copy(hg_bytes(block, 1 << 20));
    for (int i = 0; i < 8; i++) {
        struct hg_part parts[] = {{NULL, HG_BYTES("head")}, {shared, hg_buf_bytes(shared)}};
        assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, parts, 2), HG_OK);
    }
    hg_buf_unref(shared);
    size_t total = 8 * (4 + (1 << 20));
    run_some(&w);
    run_some(&w);
    size_t stuck = s->stream->ops->pending(s->stream);
    assert_true(stuck > 0 && stuck < total);
    assert_int_equal(s->drained_n, 0);
    assert_true(s->stream->ops->has_moved(s->stream));
    while (s->stream->ops->has_moved(s->stream)) { /* nobody reads: it comes to a stop */
        run_some(&w);
    }
    size_t got = 0;
    while (got < total) {
        ssize_t n = recv(fd, block, 1 << 20, MSG_DONTWAIT);
        if (n > 0) {
            got += (size_t)n;
        }
        run_some(&w);
    }
    RUN_UNTIL(&w, s->drained_n == 1);
    assert_int_equal(s->stream->ops->pending(s->stream), 0);
    assert_true(s->stream->ops->has_moved(s->stream));
    free(block);
    close(fd);
    RUN_UNTIL(&w, s->closed_n == 1);
    world_close(&w);
}

/* ---- The end ---- */

static void close_during_a_write_drops_it_and_tells_once(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    int fd = plain_connect(&w, 4096);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    uint8_t *block = calloc(1, 8 << 20);
    side_write(s, hg_bytes(block, 8 << 20));
    run_some(&w); /* the rest now waits for room */
    assert_true(s->stream->ops->pending(s->stream) > 0);
    side_close(s, HG_TOO_SLOW);
    assert_int_equal(s->closed_n, 0);
    RUN_UNTIL(&w, s->closed_n == 1);
    assert_int_equal(s->why, HG_TOO_SLOW);
    free(block);
    close(fd);
    world_close(&w);
}

static void finish_delivers_everything_to_a_peer_that_still_talks(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    int fd = plain_connect(&w, 0);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    uint8_t *block = calloc(1, 4 << 20);
    side_write(s, hg_bytes(block, 4 << 20));
    s->is_inside = true;
    s->stream->ops->finish(s->stream, HG_PROTOCOL_ERROR);
    s->stream->ops->finish(s->stream, HG_CLOSED);
    struct hg_part late = {NULL, HG_BYTES("late")};
    assert_int_equal(s->stream->ops->write(s->stream, HG_FRAME_BINARY, &late, 1), HG_CLOSED);
    s->is_inside = false;
    size_t got = 0;
    ssize_t n = -1;
    while (n != 0) {
        /* Unread input at our side must not turn into a reset that eats what we sent. */
        send(fd, block, 1000, MSG_DONTWAIT | MSG_NOSIGNAL);
        n = recv(fd, block, 65536, MSG_DONTWAIT);
        assert_true(n >= 0 || errno == EAGAIN);
        got += n > 0 ? (size_t)n : 0;
        run_some(&w);
    }
    assert_int_equal(got, 4 << 20);
    assert_int_equal(s->closed_n, 0);
    assert_int_equal(s->read_n, 0);
    close(fd);
    RUN_UNTIL(&w, s->closed_n == 1);
    assert_int_equal(s->why, HG_PROTOCOL_ERROR);
    free(block);
    world_close(&w);
}

static void finish_ends_though_the_peer_stays(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    int fd = plain_connect(&w, 0);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    uint64_t before = hg_clock_ms();
    s->stream->ops->finish(s->stream, HG_SHUTTING_DOWN);
    RUN_UNTIL(&w, s->closed_n == 1);
    uint64_t took = hg_clock_ms() - before;
    assert_true(took >= 900 && took < 5000);
    close(fd);
    world_close(&w);
}

static void a_peer_that_closes_its_side_still_gets_the_answer(void **state)
{
    (void)state;
    struct world w;
    char got[64] = "";
    world_open(&w, 0);
    w.echoes = true;
    int fd = plain_connect(&w, 0);
    assert_int_equal(send(fd, "question", 8, 0), 8);
    shutdown(fd, SHUT_WR);
    RUN_UNTIL(&w, w.accepted_n == 1 && w.accepted[0].closed_n == 1);
    assert_int_equal(recv(fd, got, sizeof(got), 0), 8);
    assert_string_equal(got, "question");
    assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
    assert_int_equal(w.accepted[0].why, HG_CLOSED);
    close(fd);
    world_close(&w);
}

static void a_reset_is_a_lost_peer(void **state)
{
    (void)state;
    struct world w;
    struct linger hard = {1, 0};
    world_open(&w, 0);
    int fd = plain_connect(&w, 0);
    RUN_UNTIL(&w, w.accepted_n == 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    RUN_UNTIL(&w, w.accepted[0].closed_n == 1);
    assert_int_equal(w.accepted[0].why, HG_PEER_LOST);
    world_close(&w);
}

static unsigned open_ones(const struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->accepted_n; i++) {
        n += w->accepted[i].stream != NULL;
    }
    return n;
}

static void of_many_who_leave_at_once_each_turn_ends_some(void **state)
{
    enum { LEAVERS_N = 100, STAYS = LEAVERS_N, TURN_MAX = 32 };
    (void)state;
    struct world w;
    int fds[LEAVERS_N + 1];
    world_open(&w, 0);
    w.echoes = true;
    for (unsigned i = 0; i <= LEAVERS_N; i++) {
        fds[i] = plain_connect(&w, 0);
        RUN_UNTIL(&w, w.accepted_n == i + 1);
    }
    for (unsigned i = 0; i < LEAVERS_N; i++) {
        close(fds[i]);
    }
    assert_int_equal(send(fds[STAYS], "x", 1, 0), 1);
    run_some(&w); /* all of it is there: loopback */
    assert_true(open_ones(&w) > 1);
    assert_int_equal(w.accepted[STAYS].read_n, 1); /* behind all of them */
    for (unsigned before = open_ones(&w); before > 1; before = open_ones(&w)) {
        RUN_UNTIL(&w, open_ones(&w) < before);
        assert_true(before - open_ones(&w) <= TURN_MAX);
    }
    close(fds[STAYS]);
    world_close(&w);
}

static void a_user_may_close_from_on_read(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, w.accepted_n == 1);
    w.accepted[0].closes_on_read = true;
    side_write(&c, HG_BYTES("x"));
    RUN_UNTIL(&w, w.accepted[0].closed_n == 1 && c.closed_n == 1);
    assert_int_equal(w.accepted[0].why, HG_NOT_ALLOWED);
    world_close(&w);
}

static void nothing_is_read_after_read_stop(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, w.accepted_n == 1);
    struct side *s = &w.accepted[0];
    s->stream->ops->read_stop(s->stream);
    side_write(&c, HG_BYTES("wait"));
    for (int i = 0; i < 5; i++) {
        run_some(&w);
    }
    assert_int_equal(s->read_n, 0);
    s->stream->ops->read_start(s->stream);
    RUN_UNTIL(&w, s->read_n == 4);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, s->closed_n == 1);
    world_close(&w);
}

static unsigned turns_in(struct world *w, uint64_t ms)
{
    uv_timer_t timer;
    unsigned n = 0;
    uv_timer_init(&w->loop, &timer);
    uv_update_time(&w->loop);
    uv_timer_start(&timer, on_tick, ms, 0);
    for (; uv_is_active((uv_handle_t *)&timer); n++) {
        (void)hg_net_turn(&w->net, true);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    (void)hg_net_turn(&w->net, false);
    return n;
}

/* Whoever does not read does not hear of the end either, and the loop sleeps meanwhile. */
static void an_end_that_nobody_reads_keeps_no_loop_busy(void **state)
{
    (void)state;
    struct world w;
    struct linger hard = {1, 0};
    world_open(&w, 0);
    for (int is_hard = 0; is_hard < 2; is_hard++) {
        int fd = plain_connect(&w, 0);
        RUN_UNTIL(&w, w.accepted_n == (unsigned)is_hard + 1);
        struct side *s = &w.accepted[is_hard];
        s->stream->ops->read_stop(s->stream);
        if (is_hard) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        }
        close(fd);
        assert_true(turns_in(&w, 30) < 10);
        assert_int_equal(s->closed_n, 0);
        s->stream->ops->read_start(s->stream);
        RUN_UNTIL(&w, s->closed_n == 1);
        assert_int_equal(s->why, is_hard ? HG_PEER_LOST : HG_CLOSED);
    }
    world_close(&w);
}

static void on_read_close_all(void *ctx, struct hg_bytes in)
{
    struct side *s = ctx;
    (void)in;
    s->read_n++;
    for (unsigned i = 0; i < s->world->accepted_n; i++) {
        struct hg_stream *stream = s->world->accepted[i].stream;
        stream->ops->close(stream, HG_NOT_ALLOWED);
    }
}

/* All have input at once; the first to be told closes the others. */
static void a_stream_that_another_closes_reads_no_more(void **state)
{
    (void)state;
    static const struct hg_stream_user closer = {on_read_close_all, on_open, NULL,
                                                 on_closed,         NULL,    NULL};
    enum { N = 5 };
    struct world w;
    int fds[N];
    unsigned read_n = 0;
    world_open(&w, 0);
    for (unsigned i = 0; i < N; i++) {
        fds[i] = plain_connect(&w, 0);
    }
    RUN_UNTIL(&w, w.accepted_n == N);
    for (unsigned i = 0; i < N; i++) {
        w.accepted[i].stream->user = &closer;
        assert_int_equal(send(fds[i], "x", 1, 0), 1);
    }
    RUN_UNTIL(&w, w.gate.open_n == 0);
    for (unsigned i = 0; i < N; i++) {
        read_n += (unsigned)w.accepted[i].read_n;
        assert_int_equal(w.accepted[i].why, HG_NOT_ALLOWED);
        close(fds[i]);
    }
    assert_int_equal(read_n, 1);
    world_close(&w);
}

/* ---- Connecting ---- */

static void a_refused_connection_ends_as_lost(void **state)
{
    (void)state;
    struct world w;
    struct side c = {0};
    world_open(&w, 0);
    uint16_t port = hg_listener_port(w.listener);
    hg_listener_close(w.listener);
    w.listener = NULL;
    run_some(&w);
    c.stream = hg_tcp_connect(&w.net, "127.0.0.1", port, 5000, &user, &c);
    RUN_UNTIL(&w, c.closed_n == 1);
    assert_int_equal(c.why, HG_PEER_LOST);
    c = (struct side){0};
    c.stream = hg_tcp_connect(&w.net, "no-such-host.invalid", port, 5000, &user, &c);
    RUN_UNTIL(&w, c.closed_n == 1);
    assert_int_equal(c.opened_n, 0);
    world_close(&w);
}

/* localhost is 127.0.0.1 and ::1, of which only the first is listened on. */
static void every_address_of_a_name_is_tried(void **state)
{
    (void)state;
    struct world w;
    struct side c = {0};
    world_open(&w, 0);
    c.stream = hg_tcp_connect(&w.net, "localhost", hg_listener_port(w.listener), 5000, &user, &c);
    RUN_UNTIL(&w, c.opened_n == 1);
    assert_memory_equal(c.stream->ops->peer(c.stream), "127.0.0.1:", 10);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, c.closed_n == 1 && w.accepted_n == 1 && w.accepted[0].closed_n == 1);
    world_close(&w);
}

/* What the name broker.test resolves to, and how often that was asked. */
static struct {
    const char *_Atomic address;
    _Atomic unsigned asked_n;
} test_name;

/* In the place of the C library's, which libuv's threads call. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    union {
        void *found;
        int (*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } next = {.found = dlsym(RTLD_NEXT, "getaddrinfo")};
    if (host != NULL && strcmp(host, "broker.test") == 0) {
        atomic_fetch_add(&test_name.asked_n, 1);
        host = atomic_load(&test_name.address);
    }
    return host == NULL ? EAI_NONAME : next.call(host, service, hints, out);
}

static void a_name_is_resolved_anew_at_each_attempt(void **state)
{
    static const struct {
        const char *address; /* NULL: there is no such name just now */
        unsigned opened_n;
    } attempts[] = {{"127.0.0.2", 0}, {"127.0.0.1", 1}, {NULL, 0}, {"127.0.0.1", 1}};
    (void)state;
    struct world w;
    world_open(&w, 0);
    atomic_store(&test_name.asked_n, 0);
    for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        struct side c = {0};
        atomic_store(&test_name.address, attempts[i].address);
        c.stream =
            hg_tcp_connect(&w.net, "broker.test", hg_listener_port(w.listener), 30000, &user, &c);
        RUN_UNTIL(&w, c.opened_n + c.closed_n > 0);
        assert_int_equal(c.opened_n, attempts[i].opened_n);
        assert_int_equal(atomic_load(&test_name.asked_n), i + 1);
        if (c.opened_n > 0) {
            side_close(&c, HG_CLOSED);
        }
        RUN_UNTIL(&w, c.closed_n == 1);
    }
    RUN_UNTIL(&w, w.accepted_n == 2 && w.accepted[0].closed_n + w.accepted[1].closed_n == 2);
    world_close(&w);
}

/* The one socket of this process that is connected to that port. */
static int find_client(uint16_t port)
{
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_in to;
        socklen_t to_n = sizeof(to);
        if (getpeername(fd, (struct sockaddr *)&to, &to_n) == 0 && to.sin_family == AF_INET &&
            ntohs(to.sin_port) == port) {
            return fd;
        }
    }
    return -1;
}

static void bytes_that_nobody_acknowledges_break_a_connection_when_configured(void **state)
{
    static const unsigned patiences_ms[] = {0, 6000}; /* 0: the kernel's */
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        struct side c;
        unsigned got_ms = 1;
        socklen_t got_n = sizeof(got_ms);
        world_open(&w, 0);
        w.net.connect_user_timeout_ms = patiences_ms[i];
        side_connect(&w, &c);
        RUN_UNTIL(&w, c.opened_n == 1);
        int fd = find_client(hg_listener_port(w.listener));
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &got_ms, &got_n), 0);
        assert_int_equal(got_ms, patiences_ms[i]);
        side_close(&c, HG_CLOSED);
        RUN_UNTIL(&w, c.closed_n == 1 && w.accepted_n == 1 && w.accepted[0].closed_n == 1);
        world_close(&w);
    }
}

static void closing_at_any_moment_of_connecting_is_safe(void **state)
{
    (void)state;
    for (int turns = 0; turns < 6; turns++) {
        struct world w;
        struct side c = {0};
        world_open(&w, 0);
        side_connect(&w, &c);
        for (int i = 0; i < turns; i++) {
            run_some(&w);
        }
        side_close(&c, HG_CLOSED);
        RUN_UNTIL(&w, c.closed_n == 1);
        assert_int_equal(c.why, HG_CLOSED);
        world_close(&w);
    }
}

static void connecting_has_a_time_limit(void **state)
{
    (void)state;
    struct world w;
    struct side c = {0};
    int fds[80], n = 0;
    world_open(&w, 0);
    /* A listener that never accepts, its queue full: further connections hang. */
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t at_n = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(silent, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(silent, 0), 0);
    getsockname(silent, (struct sockaddr *)&at, &at_n);
    for (; n < 4; n++) {
        fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fds[n], (struct sockaddr *)&at, sizeof(at));
    }
    c.stream = hg_tcp_connect(&w.net, "127.0.0.1", ntohs(at.sin_port), 200, &user, &c);
    RUN_UNTIL(&w, c.closed_n == 1);
    assert_int_equal(c.why, HG_TIMED_OUT);
    while (n > 0) {
        close(fds[--n]);
    }
    close(silent);
    world_close(&w);
}

/* ---- Listening ---- */

static void a_port_that_somebody_has_is_refused(void **state)
{
    (void)state;
    struct world w;
    const char *why = NULL;
    world_open(&w, 0);
    assert_null(listen_on(&w, "127.0.0.1", hg_listener_port(w.listener), 0, &why));
    assert_string_equal(why, strerror(EADDRINUSE));
    assert_null(listen_on(&w, "no-such-host.invalid", 0, 0, &why));
    assert_non_null(why);
    world_close(&w);
}

static void workers_share_a_port(void **state)
{
    (void)state;
    struct world w, other;
    const char *why = NULL;
    world_open(&w, 0);
    world_open(&other, 0);
    struct hg_listener_config config = {.host = "127.0.0.1",
                                        .port = hg_listener_port(w.listener),
                                        .backlog = 64,
                                        .gate = &other.gate};
    struct hg_listener *second = hg_listener_open(&other.net, &config, on_accept, &other, &why);
    assert_non_null(second);
    int fds[40];
    for (int i = 0; i < 10; i++) {
        fds[i] = plain_connect(&w, 0);
    }
    for (int i = 0; i < 10; i++) {
        run_some(&w);
        run_some(&other);
    }
    assert_int_equal(w.accepted_n + other.accepted_n, 10);
    for (int i = 0; i < 10; i++) {
        close(fds[i]);
    }
    hg_listener_close(second);
    world_close(&w);
    world_close(&other);
}

static void connections_over_the_limit_are_closed_at_once(void **state)
{
    (void)state;
    struct world w;
    char byte;
    world_open(&w, 2);
    int fds[3] = {plain_connect(&w, 0), plain_connect(&w, 0), plain_connect(&w, 0)};
    RUN_UNTIL(&w, hg_counted(&w.net.counters.refused_limit) == 1);
    assert_int_equal(w.accepted_n, 2);
    assert_int_equal(recv(fds[2], &byte, 1, 0), 0);
    close(fds[0]);
    RUN_UNTIL(&w, w.gate.open_n == 1);
    int again = plain_connect(&w, 0);
    RUN_UNTIL(&w, w.accepted_n == 3);
    close(fds[1]);
    close(fds[2]);
    close(again);
    RUN_UNTIL(&w, w.gate.open_n == 0);
    world_close(&w);
}

/* A gate around two listeners, one of which has a gate of its own. */
static void an_outer_gate_is_for_all_its_listeners(void **state)
{
    (void)state;
    struct world w;
    struct hg_gate whole = {.max_n = 3}, none = {.outer = &whole};
    const char *why = NULL;
    char byte;
    world_open(&w, 2);
    w.gate.outer = &whole;
    const struct hg_listener_config config = {
        .host = "127.0.0.1", .backlog = 64, .is_first = true, .gate = &none};
    struct hg_listener *other = hg_listener_open(&w.net, &config, on_accept, &w, &why);
    assert_non_null(other);
    struct hg_listener *first = w.listener;
    int fds[5];
    for (int i = 0; i < 5; i++) { /* the third finds the first gate shut, the fifth the outer one */
        w.listener = i < 3 ? first : other;
        fds[i] = plain_connect(&w, 0);
        RUN_UNTIL(&w, w.accepted_n + hg_counted(&w.net.counters.refused_limit) == (unsigned)i + 1);
    }
    w.listener = first;
    assert_int_equal(hg_counted(&w.net.counters.refused_listener), 1);
    assert_int_equal(hg_counted(&w.net.counters.refused_outer), 1);
    assert_int_equal(recv(fds[2], &byte, 1, 0), 0);
    assert_int_equal(recv(fds[4], &byte, 1, 0), 0);
    assert_int_equal(w.gate.open_n, 2);
    assert_int_equal(whole.open_n, 3);
    for (int i = 0; i < 5; i++) {
        close(fds[i]);
    }
    RUN_UNTIL(&w, whole.open_n == 0);
    assert_int_equal(w.gate.open_n + none.open_n, 0);
    hg_listener_close(other);
    world_close(&w);
}

/* Of those who wait, one comes in as soon as one of ours goes. */
/* While it lasts no descriptor above `highest` is to be had, and all below are taken. */
struct drought {
    struct rlimit before;
    int spare[64], spare_n;
};

static void drought_begin(struct drought *d, int highest)
{
    d->spare_n = 0;
    getrlimit(RLIMIT_NOFILE, &d->before);
    struct rlimit tight = d->before;
    tight.rlim_cur = (rlim_t)highest + 1;
    setrlimit(RLIMIT_NOFILE, &tight);
    while (d->spare_n < 64 && (d->spare[d->spare_n] = open("/dev/null", O_RDONLY)) >= 0) {
        d->spare_n++;
    }
}

static void drought_end(struct drought *d)
{
    setrlimit(RLIMIT_NOFILE, &d->before);
    while (d->spare_n > 0) {
        close(d->spare[--d->spare_n]);
    }
}

static void a_descriptor_that_becomes_free_is_used_at_once(void **state)
{
    (void)state;
    struct world w;
    struct drought dry;
    world_open(&w, 0);
    int first = plain_connect(&w, 0);
    RUN_UNTIL(&w, w.accepted_n == 1);
    int second = plain_connect(&w, 0);
    drought_begin(&dry, second);
    RUN_UNTIL(&w, hg_counted(&w.net.counters.accept_errors) >= 1);
    assert_false(hg_list_is_empty(&w.net.starved));
    side_close(&w.accepted[0], HG_CLOSED);
    assert_true(hg_list_is_empty(&w.net.starved));
    RUN_UNTIL(&w, w.accepted_n == 2);
    drought_end(&dry);
    close(first);
    close(second);
    RUN_UNTIL(&w, w.gate.open_n == 0);
    world_close(&w);
}

/* The last who waited took the last descriptor: that nobody waits behind it is heard from no event. */
static void that_accepting_goes_on_is_said_though_nobody_comes(void **state)
{
    (void)state;
    struct world w;
    struct drought dry;
    char said[4096] = "";
    size_t said_n = 0;
    int lines[2];
    world_open(&w, 0);
    assert_int_equal(pipe2(lines, O_NONBLOCK), 0);
    w.net.log = hg_log_new(lines[1], HG_LOG_INFO, false);
    int fd = plain_connect(&w, 0);
    drought_begin(&dry, fd + 1);
    assert_true(dry.spare_n > 0);
    close(dry.spare[--dry.spare_n]);
    RUN_UNTIL(&w, w.accepted_n == 1);
    RUN_UNTIL(&w, !hg_list_is_empty(&w.net.starved));
    side_close(&w.accepted[0], HG_CLOSED);
    for (uint64_t limit = hg_clock_ms() + 60000;
         strstr(said, "listener.resumed") == NULL && hg_clock_ms() < limit;) {
        run_some(&w);
        ssize_t n = read(lines[0], said + said_n, sizeof(said) - 1 - said_n);
        said_n += n > 0 ? (size_t)n : 0;
    }
    assert_non_null(strstr(said, "listener.paused"));
    assert_non_null(strstr(said, "listener.resumed"));
    drought_end(&dry);
    close(fd);
    world_close(&w);
    hg_log_free(w.net.log);
    close(lines[0]);
    close(lines[1]);
}

static void out_of_descriptors_accepting_pauses_and_goes_on(void **state)
{
    (void)state;
    struct world w;
    struct drought dry;
    world_open(&w, 0);
    int fd = plain_connect(&w, 0);
    drought_begin(&dry, fd);
    RUN_UNTIL(&w, hg_counted(&w.net.counters.accept_errors) == 1);
    uint64_t until = hg_clock_ms() + 250;
    while (hg_clock_ms() < until) {
        run_some(&w);
    }
    assert_true(hg_counted(&w.net.counters.accept_errors) < 6); /* it does not spin */
    assert_int_equal(w.accepted_n, 0);
    drought_end(&dry);
    RUN_UNTIL(&w, w.accepted_n == 1); /* the connection waited in the kernel */
    close(fd);
    RUN_UNTIL(&w, w.gate.open_n == 0);
    world_close(&w);
}

static void localhost_listens_on_all_its_addresses(void **state)
{
    (void)state;
    struct world w;
    struct side four = {0}, six = {0};
    const char *why = NULL;
    world_open(&w, 0);
    struct hg_listener *l = listen_on(&w, "localhost", 0, 0, &why);
    assert_non_null(l);
    four.stream = hg_tcp_connect(&w.net, "127.0.0.1", hg_listener_port(l), 5000, &user, &four);
    RUN_UNTIL(&w, four.opened_n == 1);
    six.stream = hg_tcp_connect(&w.net, "::1", hg_listener_port(l), 5000, &user, &six);
    RUN_UNTIL(&w, six.opened_n == 1 || six.closed_n == 1); /* a machine may be without IPv6 */
    if (six.stream != NULL) {
        assert_memory_equal(six.stream->ops->peer(six.stream), "[::1]:", 6);
        side_close(&six, HG_CLOSED);
    }
    side_close(&four, HG_CLOSED);
    RUN_UNTIL(&w, four.closed_n == 1 && six.closed_n == 1);
    hg_listener_close(l);
    world_close(&w);
}

/* ---- The end of a turn ---- */

struct chain {
    struct hg_defer defer;
    struct hg_net *net;
    struct hg_defer *next;
    unsigned runs_n;
};

static void run_chain(struct hg_defer *defer)
{
    struct chain *c = HG_CONTAINER_OF(defer, struct chain, defer);
    c->runs_n++;
    if (c->next != NULL) {
        hg_net_defer(c->net, c->next);
    }
}

static void deferred_work_runs_once_in_the_same_turn(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    struct chain second = {.defer.run = run_chain, .net = &w.net};
    struct chain first = {.defer.run = run_chain, .net = &w.net, .next = &second.defer};
    struct chain never = {.defer.run = run_chain, .net = &w.net};
    hg_net_defer(&w.net, &first.defer);
    hg_net_defer(&w.net, &first.defer);
    hg_net_defer(&w.net, &never.defer);
    hg_net_undefer(&never.defer);
    hg_net_undefer(&never.defer);
    (void)hg_net_turn(&w.net, false);
    assert_int_equal(first.runs_n, 1);
    assert_int_equal(second.runs_n, 1);
    assert_int_equal(never.runs_n, 0);
    (void)hg_net_turn(&w.net, false);
    assert_int_equal(first.runs_n, 1);
    world_close(&w);
}

struct late {
    struct hg_defer defer;
    struct hg_net *net;
    uint64_t writes_n; /* when it ran */
};

static void run_late(struct hg_defer *defer)
{
    struct late *l = HG_CONTAINER_OF(defer, struct late, defer);
    l->writes_n = hg_counted(&l->net->counters.writes);
}

static void late_work_runs_behind_the_output_of_its_turn(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, c.opened_n == 1 && w.accepted_n == 1);
    uint64_t before = hg_counted(&w.net.counters.writes);
    struct late late = {.defer.run = run_late, .net = &w.net};
    struct late never = {.defer.run = run_late, .net = &w.net};
    struct chain early = {.defer.run = run_chain, .net = &w.net};
    hg_net_defer_late(&w.net, &late.defer);
    hg_net_defer_late(&w.net, &late.defer);
    hg_net_defer_late(&w.net, &never.defer);
    hg_net_undefer(&never.defer);
    hg_net_defer(&w.net, &early.defer);
    side_write(&c, HG_BYTES("what somebody waits for"));
    (void)hg_net_turn(&w.net, false);
    assert_int_equal(early.runs_n, 1);
    assert_int_equal(late.writes_n - before, 1);
    assert_int_equal(never.writes_n, 0);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, w.accepted[0].closed_n == 1);
    world_close(&w);
}

static void run_space(struct hg_defer *defer)
{
    hg_net_space(HG_CONTAINER_OF(defer, struct chain, defer)->net, 400);
    hg_net_space(HG_CONTAINER_OF(defer, struct chain, defer)->net, 1000000);
}

static void turns_are_apart_when_asked_and_only_then(void **state)
{
    (void)state;
    struct world w;
    struct side c;
    world_open(&w, 0);
    side_connect(&w, &c);
    RUN_UNTIL(&w, c.opened_n == 1 && w.accepted_n == 1);
    struct chain spacing = {.defer.run = run_space, .net = &w.net};
    assert_true(hg_counted(&w.net.counters.pauses) == 0);
    uint64_t until_us = hg_clock_us() + 60000000;
    while (hg_counted(&w.net.counters.pauses) == 0 && hg_clock_us() < until_us) {
        side_write(&c, HG_BYTES("x")); /* a turn of sockets, and at its end the wish */
        hg_net_defer(&w.net, &spacing.defer);
        run_some(&w);
        run_some(&w); /* on a busy machine the time may be over already: then there is no pause */
    }
    uint64_t paused_us = hg_counted(&w.net.counters.paused_us);
    assert_int_equal(hg_counted(&w.net.counters.pauses), 1);
    assert_true(paused_us > 0 && paused_us <= HG_NET_SPACE_MAX_US);
    side_write(&c, HG_BYTES("y"));
    size_t n = w.accepted[0].read_n;
    RUN_UNTIL(&w, w.accepted[0].read_n > n);
    assert_int_equal(hg_counted(&w.net.counters.pauses), 1);
    side_close(&c, HG_CLOSED);
    RUN_UNTIL(&w, c.closed_n == 1);
    world_close(&w);
}

static unsigned fired_n;

static void on_fire(struct hg_timer *timer)
{
    (void)timer;
    fired_n++;
}

static void the_loop_wakes_for_the_wheel_alone(void **state)
{
    (void)state;
    struct world w;
    struct hg_timer timer;
    world_open(&w, 0);
    fired_n = 0;
    hg_timer_init(&timer, on_fire);
    uint64_t before = hg_clock_ms();
    hg_wheel_set(&w.wheel, &timer, before + 200);
    unsigned turns = 0;
    while (fired_n == 0) {
        (void)hg_net_turn(&w.net, true);
        turns++;
    }
    uint64_t took = hg_clock_ms() - before;
    assert_true(took >= 200 && took < 1000);
    assert_true(turns < 10);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_and_small_writes_come_back_in_order),
        cmocka_unit_test(what_one_turn_writes_is_one_system_call),
        cmocka_unit_test(a_slow_reader_fills_the_queue_and_drains_it),
        cmocka_unit_test(who_is_written_later_gets_more_in_one_write),
        cmocka_unit_test(a_wave_begins_with_few_writes),
        cmocka_unit_test(a_server_waits_while_clients_have_much_to_be_sent),
        cmocka_unit_test(who_asks_is_told_that_little_waits),
        cmocka_unit_test(close_during_a_write_drops_it_and_tells_once),
        cmocka_unit_test(finish_delivers_everything_to_a_peer_that_still_talks),
        cmocka_unit_test(finish_ends_though_the_peer_stays),
        cmocka_unit_test(a_peer_that_closes_its_side_still_gets_the_answer),
        cmocka_unit_test(a_reset_is_a_lost_peer),
        cmocka_unit_test(of_many_who_leave_at_once_each_turn_ends_some),
        cmocka_unit_test(a_user_may_close_from_on_read),
        cmocka_unit_test(nothing_is_read_after_read_stop),
        cmocka_unit_test(an_end_that_nobody_reads_keeps_no_loop_busy),
        cmocka_unit_test(a_stream_that_another_closes_reads_no_more),
        cmocka_unit_test(a_refused_connection_ends_as_lost),
        cmocka_unit_test(every_address_of_a_name_is_tried),
        cmocka_unit_test(a_name_is_resolved_anew_at_each_attempt),
        cmocka_unit_test(bytes_that_nobody_acknowledges_break_a_connection_when_configured),
        cmocka_unit_test(closing_at_any_moment_of_connecting_is_safe),
        cmocka_unit_test(connecting_has_a_time_limit),
        cmocka_unit_test(a_port_that_somebody_has_is_refused),
        cmocka_unit_test(workers_share_a_port),
        cmocka_unit_test(connections_over_the_limit_are_closed_at_once),
        cmocka_unit_test(an_outer_gate_is_for_all_its_listeners),
        cmocka_unit_test(a_descriptor_that_becomes_free_is_used_at_once),
        cmocka_unit_test(that_accepting_goes_on_is_said_though_nobody_comes),
        cmocka_unit_test(out_of_descriptors_accepting_pauses_and_goes_on),
        cmocka_unit_test(localhost_listens_on_all_its_addresses),
        cmocka_unit_test(deferred_work_runs_once_in_the_same_turn),
        cmocka_unit_test(late_work_runs_behind_the_output_of_its_turn),
        cmocka_unit_test(turns_are_apart_when_asked_and_only_then),
        cmocka_unit_test(the_loop_wakes_for_the_wheel_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
