/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's end of the loop turn, its alarm and what its streams share. */
#include "stream/net.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "stream/tcp.h"
#include "stream/tls.h"
#include "stream/ws.h"

#include <time.h>

enum {
    TCP_SLAB_N = 32,
    LOW_BYTES = 64 * 1024,
    HIGH_BYTES = 256 * 1024,
    FLUSHES = 64, /* of a turn, and one for each stream that had input: a tenth of a millisecond */
    FLUSHES_FIRST = 4, /* of a wave that many get alike */
    TIMERS = 16,       /* of a turn: many strangers who are closed together delay nobody by much */
    SLEEP_MIN_US = 50, /* the kernel's own slack */
};

static void run_all(struct hg_list *defers)
{
    while (!hg_list_is_empty(defers)) {
        struct hg_defer *defer = HG_LIST_ENTRY(defers->next, struct hg_defer, link);
        hg_net_undefer(defer);
        defer->run(defer);
    }
}

static void on_alarm(uv_timer_t *alarm)
{
    struct hg_net *net = alarm->data;
    net->alarm_ms = UINT64_MAX;
    hg_wheel_advance_some(net->wheel, hg_clock_ms(), TIMERS);
}

static void set_alarm(struct hg_net *net)
{
    uint64_t now = hg_clock_ms();
    uint64_t next = hg_wheel_next_ms(net->wheel, now);
    if (next == net->alarm_ms) {
        return;
    }
    net->alarm_ms = next;
    if (next == UINT64_MAX) {
        uv_timer_stop(&net->alarm);
    } else {
        uv_timer_start(&net->alarm, on_alarm, next > now ? next - now : 0, 0);
    }
}

static void on_hurry(uv_idle_t *hurry)
{
    (void)hurry; /* that it is set is enough */
}

/* Sleeps what is left of the space between two turns. False: nothing is, or too little to be worth a
 * sleep. */
static bool keep_space(struct hg_net *net)
{
    uint64_t gone_us = net->space_us == 0 ? 0 : hg_clock_us() - net->turn_us;
    uint64_t left_us = net->space_us > gone_us ? net->space_us - gone_us : 0;
    net->is_spaced = net->space_us > 0;
    net->space_us = 0;
    if (left_us < SLEEP_MIN_US) {
        return false;
    }
    struct timespec left = {.tv_nsec = (long)left_us * 1000};
    (void)nanosleep(&left, NULL);
    hg_count(&net->counters.pauses, 1);
    hg_count(&net->counters.paused_us, left_us);
    return true;
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

bool hg_net_end_turn(struct hg_net *net)
{
    size_t left_n = flushes_of(net);
    net->events_n = 0;
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
        uv_idle_start(&net->hurry, on_hurry);
        net->space_us = 0; /* it is written meanwhile */
        net->is_spaced = false;
        return false;
    }
    hg_joints_reset(&net->joints);
    net->heard_bytes = 0;
    net->flushed_n = 0;
    uv_idle_stop(&net->hurry);
    return keep_space(net);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct hg_net *net = prepare->data;
    (void)hg_net_end_turn(net);
    set_alarm(net);
}

void hg_net_space(struct hg_net *net, unsigned us)
{
    us = us < HG_NET_SPACE_MAX_US ? us : HG_NET_SPACE_MAX_US;
    net->space_us = us > net->space_us ? us : net->space_us;
}

static void run_forget(struct hg_defer *defer)
{
    struct hg_net *net = HG_CONTAINER_OF(defer, struct hg_net, forget);
    hg_forget(net->read_buf, net->read_n);
    hg_forget(net->payload_buf, net->payload_n);
    hg_forget(net->tls_buf, net->tls_n);
    net->read_n = net->payload_n = net->tls_n = 0;
}

void hg_net_forget_input(struct hg_net *net)
{
    hg_net_defer(net, &net->forget);
}

bool hg_net_open(struct hg_net *net, uv_loop_t *loop, struct hg_wheel *wheel, struct hg_log *log)
{
    *net = (struct hg_net){
        .loop = loop,
        .wheel = wheel,
        .log = log,
        .limits = {LOW_BYTES, HIGH_BYTES},
        .alarm_ms = UINT64_MAX,
        .forget.run = run_forget,
    };
    net->read_buf = hg_alloc(HG_NET_READ_BYTES);
    net->payload_buf = hg_alloc(HG_NET_READ_BYTES);
    if (net->read_buf == NULL || net->payload_buf == NULL || !hg_tcp_open(net, TCP_SLAB_N)) {
        hg_free(net->read_buf);
        hg_free(net->payload_buf);
        return false;
    }
    hg_list_init(&net->deferred);
    hg_list_init(&net->late);
    hg_list_init(&net->starved);
    uv_prepare_init(loop, &net->prepare);
    net->prepare.data = net;
    uv_prepare_start(&net->prepare, on_prepare);
    uv_idle_init(loop, &net->hurry);
    uv_timer_init(loop, &net->alarm);
    net->alarm.data = net;
    return true;
}

void hg_net_close(struct hg_net *net)
{
    uv_close((uv_handle_t *)&net->prepare, NULL);
    uv_close((uv_handle_t *)&net->hurry, NULL);
    uv_close((uv_handle_t *)&net->alarm, NULL);
    hg_tcp_close(net);
}

void hg_net_free(struct hg_net *net)
{
    hg_ws_decoders_free(net);
    hg_joints_close(&net->joints);
    hg_pool_close(&net->tcp_pool);
    hg_free(net->read_buf);
    hg_free(net->payload_buf);
    hg_tls_close(net);
    net->read_buf = net->payload_buf = NULL;
}

void hg_net_defer(struct hg_net *net, struct hg_defer *defer)
{
    if (!hg_defer_is_set(defer)) {
        hg_list_add_last(&net->deferred, &defer->link);
    }
}

void hg_net_defer_late(struct hg_net *net, struct hg_defer *defer)
{
    if (!hg_defer_is_set(defer)) {
        hg_list_add_last(&net->late, &defer->link);
    }
}

void hg_net_undefer(struct hg_defer *defer)
{
    if (hg_defer_is_set(defer)) {
        hg_list_remove(&defer->link);
    }
}
