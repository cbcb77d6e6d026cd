/* SPDX-License-Identifier: Apache-2.0 */
/* A turn of the loop: sockets, libuv and the wheel each have theirs, whatever the others do. A wait
 * that nothing ends would not end at all, so what wakes a turn needs no clock. */
#include "base/clock.h"
#include "seam/unit.h"
#include "stream/net.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SOON = 10 /* turns */ };

struct world {
    uv_loop_t loop;
    struct hg_wheel wheel;
    struct hg_net net;
    unsigned fired_n, woken_n, closed_n, deferred_n;
};

struct mark { /* a descriptor that is ready until somebody reads it */
    struct hg_watch watch;
    int fd;
    unsigned heard_n;
    uint32_t heard;
};

static void world_open(struct world *w)
{
    memset(w, 0, sizeof(*w));
    uv_loop_init(&w->loop);
    w->loop.data = w;
    hg_wheel_open(&w->wheel, hg_clock_ms());
    assert_true(hg_net_open(&w->net, &w->loop, &w->wheel, NULL));
}

static void world_close(struct world *w)
{
    hg_net_close(&w->net);
    hg_net_run(&w->net);
    assert_false(hg_net_turn(&w->net, true)); /* nothing is left that it could wait for */
    hg_net_free(&w->net);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static void on_mark(struct hg_watch *watch, uint32_t events)
{
    struct mark *m = HG_CONTAINER_OF(watch, struct mark, watch);
    m->heard_n++;
    m->heard = events;
}

static void mark_open(struct world *w, struct mark *m, unsigned value)
{
    *m = (struct mark){.watch.on_event = on_mark, .fd = eventfd(value, EFD_CLOEXEC)};
    assert_true(m->fd >= 0);
    assert_true(hg_net_watch(&w->net, m->fd, &m->watch, 0, EPOLLIN));
}

static void on_wake(uv_async_t *wake)
{
    ((struct world *)wake->loop->data)->woken_n++;
}

static void on_timer(uv_timer_t *timer)
{
    ((struct world *)timer->loop->data)->fired_n++;
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void on_closed(uv_handle_t *handle)
{
    ((struct world *)handle->loop->data)->closed_n++;
}

static void send_wake(void *wake)
{
    uv_async_send(wake);
}

static void libuv_has_its_turn_beside_a_socket_that_never_rests(void **state)
{
    (void)state;
    struct world w;
    struct mark restless;
    uv_async_t wake;
    uv_timer_t timer;
    uv_thread_t other;
    world_open(&w);
    mark_open(&w, &restless, 1);
    uv_async_init(&w.loop, &wake, on_wake);
    uv_timer_init(&w.loop, &timer);
    for (unsigned round = 1; round <= 3; round++) {
        assert_int_equal(uv_thread_create(&other, send_wake, &wake), 0);
        assert_int_equal(uv_thread_join(&other), 0);
        for (unsigned i = 0; i < SOON && w.woken_n < round; i++) {
            assert_true(hg_net_turn(&w.net, true));
        }
        assert_int_equal(w.woken_n, round);
        uv_timer_start(&timer, on_timer, 2, 0);
        uint64_t until_ms = hg_clock_ms() + 60000;
        while (w.fired_n < round && hg_clock_ms() < until_ms) {
            assert_true(hg_net_turn(&w.net, true));
        }
        assert_int_equal(w.fired_n, round);
    }
    assert_true(restless.heard_n > 3);
    uv_close((uv_handle_t *)&wake, on_closed);
    uv_close((uv_handle_t *)&timer, on_closed);
    close(restless.fd);
    world_close(&w);
    assert_int_equal(w.closed_n, 2);
}

static void a_socket_has_its_turn_beside_a_libuv_that_never_rests(void **state)
{
    (void)state;
    struct world w;
    struct mark m;
    uv_idle_t restless;
    world_open(&w);
    mark_open(&w, &m, 0);
    uv_idle_init(&w.loop, &restless);
    uv_idle_start(&restless, on_idle);
    for (int i = 0; i < SOON; i++) {
        assert_true(hg_net_turn(&w.net, true));
    }
    assert_int_equal(m.heard_n, 0);
    assert_int_equal(eventfd_write(m.fd, 1), 0);
    for (unsigned i = 0; i < SOON && m.heard_n == 0; i++) {
        assert_true(hg_net_turn(&w.net, true));
    }
    assert_int_equal(m.heard, EPOLLIN);
    uv_close((uv_handle_t *)&restless, on_closed);
    close(m.fd);
    world_close(&w);
}

struct work {
    struct hg_defer defer;
    struct world *w;
};

static void run_deferred(struct hg_defer *defer)
{
    HG_CONTAINER_OF(defer, struct work, defer)->w->deferred_n++;
}

static void what_is_set_between_turns_ends_the_next_wait(void **state)
{
    (void)state;
    struct world w;
    uv_async_t wake;
    uv_timer_t timer;
    world_open(&w);
    struct work early = {.defer.run = run_deferred, .w = &w};
    struct work late = {.defer.run = run_deferred, .w = &w};
    hg_net_defer(&w.net, &early.defer);
    assert_true(hg_net_turn(&w.net, true));
    assert_int_equal(w.deferred_n, 1);
    hg_net_defer_late(&w.net, &late.defer);
    assert_true(hg_net_turn(&w.net, true));
    assert_int_equal(w.deferred_n, 2);
    uv_timer_init(&w.loop, &timer);
    uv_timer_start(&timer, on_timer, 0, 0);
    assert_true(hg_net_turn(&w.net, true));
    assert_int_equal(w.fired_n, 1);
    uv_async_init(&w.loop, &wake, on_wake); /* of which the loop's set does not know yet */
    uv_async_send(&wake);
    while (w.woken_n == 0) {
        assert_true(hg_net_turn(&w.net, true));
    }
    uv_close((uv_handle_t *)&wake, on_closed);
    assert_true(hg_net_turn(&w.net, true));
    assert_int_equal(w.closed_n, 1);
    uv_close((uv_handle_t *)&timer, NULL);
    world_close(&w);
}

static void a_turn_that_may_not_wait_does_not(void **state)
{
    (void)state;
    struct world w;
    struct mark m;
    world_open(&w);
    mark_open(&w, &m, 0);
    assert_true(hg_net_turn(&w.net, false));
    assert_true(hg_net_turn(&w.net, false));
    assert_int_equal(m.heard_n, 0);
    close(m.fd);
    world_close(&w);
}

static void what_is_watched_is_what_was_asked_for_last(void **state)
{
    (void)state;
    struct world w;
    struct mark m;
    world_open(&w);
    mark_open(&w, &m, 1);
    hg_net_turn(&w.net, true);
    assert_int_equal(m.heard, EPOLLIN);
    assert_true(hg_net_watch(&w.net, m.fd, &m.watch, EPOLLIN, EPOLLIN | EPOLLOUT));
    hg_net_turn(&w.net, true);
    assert_int_equal(m.heard, EPOLLIN | EPOLLOUT);
    assert_true(hg_net_watch(&w.net, m.fd, &m.watch, EPOLLIN | EPOLLOUT, EPOLLOUT));
    hg_net_turn(&w.net, true);
    assert_int_equal(m.heard, EPOLLOUT);
    assert_true(hg_net_watch(&w.net, m.fd, &m.watch, EPOLLOUT, 0));
    unsigned before_n = m.heard_n;
    hg_net_turn(&w.net, false);
    assert_int_equal(m.heard_n, before_n);
    assert_false(hg_net_watch(&w.net, -1, &m.watch, 0, EPOLLIN));
    close(m.fd);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libuv_has_its_turn_beside_a_socket_that_never_rests),
        cmocka_unit_test(a_socket_has_its_turn_beside_a_libuv_that_never_rests),
        cmocka_unit_test(what_is_set_between_turns_ends_the_next_wait),
        cmocka_unit_test(a_turn_that_may_not_wait_does_not),
        cmocka_unit_test(what_is_watched_is_what_was_asked_for_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
