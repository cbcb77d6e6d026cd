/* SPDX-License-Identifier: Apache-2.0 */
/* A turn of a worker's loop; hg_net_turn has it from top to bottom. It waits in one epoll set, which
 * has every socket of the worker and, as one descriptor among them, libuv's own set: names, other
 * threads, signals and timers of less than a tick are libuv's, and it has its turn within ours, when
 * there is something for it. */
#include "stream/turn.h"

#include "base/clock.h"
#include "stream/tcp.h"

#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256, /* the rest stays in the set until the next turn */
    LEAVERS_MAX = 32, /* of a turn: thousands that leave at once delay nobody by much, */
    TIMERS = 16,      /* nor do many strangers who are closed together */
    FLUSHES = 64, /* of a turn, and one for each stream that had input: a tenth of a millisecond */
    FLUSHES_FIRST = 4, /* of a wave that many get alike */
    SLEEP_MIN_US = 50, /* the kernel's own slack */
};

/* ---- Waiting ---- */

/* Sleeps what is left of the space between two turns, unless it is too little to be worth a sleep. */
static void keep_space(struct hg_net *net)
{
    uint64_t gone_us = net->space_us == 0 ? 0 : hg_clock_us() - net->turn_us;
    uint64_t left_us = net->space_us > gone_us ? net->space_us - gone_us : 0;
    net->space_us = 0;
    if (left_us < SLEEP_MIN_US) {
        return;
    }
    struct timespec left = {.tv_nsec = (long)left_us * 1000};
    (void)nanosleep(&left, NULL);
    hg_count(&net->counters.pauses, 1);
    hg_count(&net->counters.paused_us, left_us);
}

static bool has_work(const struct hg_net *net)
{
    return !hg_list_is_empty(&net->dirty) || !hg_list_is_empty(&net->ended) ||
           !hg_list_is_empty(&net->deferred) || !hg_list_is_empty(&net->late);
}

/* Until the first of the wheel's and libuv's timers; -1: there is none. Libuv says 0, too, when it
 * has handles to add to its set or to close. */
static int patience_ms(const struct hg_net *net)
{
    if (has_work(net)) {
        return 0;
    }
    uint64_t now = hg_clock_ms();
    uint64_t next = hg_wheel_next_ms(net->wheel, now);
    int wheels = next == UINT64_MAX ? -1 : next - now < INT_MAX ? (int)(next - now) : INT_MAX;
    int libuvs = uv_backend_timeout(net->loop);
    return wheels < 0 || (libuvs >= 0 && libuvs < wheels) ? libuvs : wheels;
}

/* ---- Hearing ---- */

static bool is_leaving(const struct epoll_event *event)
{
    return (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
}

static void hear(struct hg_net *net, int for_ms)
{
    struct epoll_event events[EVENTS_MAX];
    unsigned leavers_n = 0;
    int n = epoll_wait(net->epoll_fd, events, EVENTS_MAX, for_ms);
    hg_count(&net->counters.turns, 1);
    net->turn_us = hg_clock_us();
    uv_update_time(net->loop); /* for timers that are set while events are handled */
    net->events_n = 0;
    for (int i = 0; i < n; i++) {
        leavers_n += is_leaving(&events[i]);
        if (!is_leaving(&events[i]) || leavers_n <= LEAVERS_MAX) { /* else the set has it again */
            struct hg_watch *watch = events[i].data.ptr;
            watch->on_event(watch, events[i].events);
        }
    }
}

static void on_libuv(struct hg_watch *watch, uint32_t events)
{
    struct hg_net *net = HG_CONTAINER_OF(watch, struct hg_net, libuv);
    (void)events;
    net->is_libuv_due = true; /* once the sockets have been heard */
}

static void run_libuv(struct hg_net *net)
{
    if (net->is_libuv_due || uv_backend_timeout(net->loop) == 0) {
        net->is_libuv_due = false;
        uv_run(net->loop, UV_RUN_NOWAIT);
    }
}

/* ---- Writing ---- */

static void run_all(struct hg_list *defers)
{
    while (!hg_list_is_empty(defers)) {
        struct hg_defer *defer = HG_LIST_ENTRY(defers->next, struct hg_defer, link);
        hg_net_undefer(defer);
        defer->run(defer);
    }
}

/* How many streams this turn writes to. What many get alike mostly comes from RabbitMQ in some pieces
 * right after each other: who is written before the last of them costs a write more, so at first it
 * is few between two looks, then as many as it has been already. */
static size_t flushes_of(const struct hg_net *net)
{
    size_t n = FLUSHES;
    if (net->joints.used != 0 && net->flushed_n < FLUSHES) {
        n = net->flushed_n < FLUSHES_FIRST ? FLUSHES_FIRST : net->flushed_n;
    }
    return n + net->events_n;
}

/* Deferred work, then output, then what nobody waits for. Flushing may call on_drained, whose output
 * and deferred work belong to this turn too. */
static void write_out(struct hg_net *net)
{
    size_t left_n = flushes_of(net);
    do {
        run_all(&net->deferred);
        size_t n = hg_tcp_flush_dirty(net, left_n);
        net->flushed_n += n;
        left_n -= n;
        if (hg_list_is_empty(&net->deferred)) {
            run_all(&net->late);
        }
    } while (!hg_list_is_empty(&net->deferred));
    if (!hg_list_is_empty(&net->dirty)) {
        net->space_us = 0; /* it is written meanwhile */
        return;
    }
    hg_joints_reset(&net->joints);
    net->heard_bytes = 0;
    net->flushed_n = 0;
}

/* ---- The turn ---- */

bool hg_net_turn(struct hg_net *net, bool may_wait)
{
    if (!has_work(net) && uv_loop_alive(net->loop) == 0) {
        return false;
    }
    if (may_wait) {
        keep_space(net);
    }
    hear(net, may_wait ? patience_ms(net) : 0);
    run_libuv(net);
    hg_tcp_bury_ended(net);
    hg_wheel_advance_some(net->wheel, net->turn_us / 1000, TIMERS);
    write_out(net);
    return true;
}

void hg_net_run(struct hg_net *net)
{
    while (hg_net_turn(net, true)) {
    }
}

/* ---- The set ---- */

bool hg_net_watch(struct hg_net *net, int fd, struct hg_watch *watch, uint8_t has, uint8_t wants)
{
    /* Input's end is told from input: see is_leaving. */
    uint32_t all = (wants & EPOLLIN) != 0 ? wants | EPOLLRDHUP : wants;
    struct epoll_event event = {.events = all, .data.ptr = watch};
    int op = has == 0 ? EPOLL_CTL_ADD : wants == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    return has == wants || epoll_ctl(net->epoll_fd, op, fd, &event) == 0;
}

static void on_prepare(uv_prepare_t *alive)
{
    (void)alive; /* that it is set is enough: a loop that has nothing is not run */
}

bool hg_turn_open(struct hg_net *net)
{
    net->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (net->epoll_fd < 0) {
        return false;
    }
    net->libuv.on_event = on_libuv;
    if (!hg_net_watch(net, uv_backend_fd(net->loop), &net->libuv, 0, EPOLLIN)) {
        close(net->epoll_fd);
        return false;
    }
    uv_prepare_init(net->loop, &net->alive);
    uv_prepare_start(&net->alive, on_prepare);
    return true;
}

void hg_turn_close(struct hg_net *net)
{
    uv_close((uv_handle_t *)&net->alive, NULL);
}

void hg_turn_free(struct hg_net *net)
{
    close(net->epoll_fd);
}
