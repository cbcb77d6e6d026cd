/* SPDX-License-Identifier: Apache-2.0 */
#include "seam/net.h"

#include "base/check.h"
#include "base/clock.h"
#include "seam/seam.h"

#include <stdlib.h>

static struct seam_net *the_net; /* that is open */

static struct seam_link *link_of(const struct hg_stream *s)
{
    return HG_CONTAINER_OF(s, struct seam_link, stream);
}

static void read_start(struct hg_stream *s)
{
    link_of(s)->is_reading = true;
}

static void read_stop(struct hg_stream *s)
{
    link_of(s)->is_reading = false;
}

static enum hg_status write_parts(struct hg_stream *s, enum hg_frame_kind kind,
                                  const struct hg_part *parts, size_t parts_n)
{
    struct seam_link *link = link_of(s);
    (void)kind;
    for (size_t i = 0; i < parts_n && !link->is_closed; i++) {
        seam_spare(true);
        if (link->is_stalled) {
            hg_writer_bytes(&link->pending, parts[i].bytes);
        } else {
            broker_feed(&link->broker, parts[i].bytes);
        }
        seam_spare(false);
    }
    return link->is_closed ? HG_CLOSED : HG_OK;
}

static size_t pending(const struct hg_stream *s)
{
    return hg_writer_n(&HG_CONTAINER_OF(s, const struct seam_link, stream)->pending);
}

static void await_drained(struct hg_stream *s)
{
    link_of(s)->is_awaited = true;
}

static void close_link(struct hg_stream *s, enum hg_status why)
{
    struct seam_link *link = link_of(s);
    if (!link->is_closed) {
        link->is_closed = true;
        link->why = why;
    }
}

static const char *peer(struct hg_stream *s)
{
    (void)s;
    return "127.0.0.1:5672";
}

static bool has_moved(struct hg_stream *s)
{
    (void)s;
    return true;
}

static const struct hg_stream_ops stream_ops = {
    .read_start = read_start,
    .read_stop = read_stop,
    .write = write_parts,
    .pending = pending,
    .finish = close_link,
    .close = close_link,
    .peer = peer,
    .await_drained = await_drained,
    .has_moved = has_moved,
};

struct hg_stream *hg_tcp_connect(struct hg_net *net, const char *host, uint16_t port,
                                 uint64_t timeout_ms, const struct hg_stream_user *user, void *ctx)
{
    struct seam_net *sn = the_net;
    (void)net;
    (void)host;
    (void)port;
    (void)timeout_ms;
    HG_CHECK(sn->links_n < SEAM_LINKS_MAX);
    struct seam_link *link = calloc(1, sizeof(*link));
    HG_CHECK(link != NULL);
    link->stream.ops = &stream_ops;
    hg_stream_set_user(&link->stream, user, ctx);
    seam_spare(true);
    broker_open(&link->broker);
    seam_spare(false);
    if (sn->prepare != NULL) {
        sn->prepare(&link->broker);
    }
    if (sn->is_refusing) {
        close_link(&link->stream, HG_PEER_LOST);
    }
    sn->links[sn->links_n++] = link;
    return &link->stream;
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

/* The topology's own loop is not for tests without sockets; these are here so that the real net is
 * not linked. */
void hg_net_space(struct hg_net *net, unsigned us)
{
    net->space_us = us;
}

bool hg_net_open(struct hg_net *net, uv_loop_t *loop, struct hg_wheel *wheel, struct hg_log *log)
{
    (void)net;
    (void)loop;
    (void)wheel;
    (void)log;
    return false;
}

void hg_net_close(struct hg_net *net)
{
    (void)net;
}

void hg_net_free(struct hg_net *net)
{
    (void)net;
}

bool hg_net_turn(struct hg_net *net, bool may_wait)
{
    (void)net;
    (void)may_wait;
    return false;
}

void hg_net_run(struct hg_net *net)
{
    (void)net;
}

void seam_net_open(struct seam_net *sn)
{
    *sn = (struct seam_net){0};
    hg_list_init(&sn->net.deferred);
    hg_list_init(&sn->net.late);
    hg_list_init(&sn->net.dirty);
    hg_wheel_open(&sn->wheel, hg_clock_ms());
    sn->net.wheel = &sn->wheel;
    the_net = sn;
}

void seam_net_adopt(struct seam_net *sn, struct hg_net *net)
{
    HG_CHECK(sn->others_n < SEAM_NETS_MAX);
    hg_list_init(&net->deferred);
    hg_list_init(&net->late);
    hg_list_init(&net->dirty);
    sn->others[sn->others_n++] = net;
}

void seam_net_close(struct seam_net *sn)
{
    seam_net_run(sn);
    for (size_t i = 0; i < sn->links_n; i++) {
        broker_close(&sn->links[i]->broker);
        hg_writer_close(&sn->links[i]->pending);
        free(sn->links[i]);
    }
}

static bool run_deferred(struct hg_net *net)
{
    bool did = false;
    while (!hg_list_is_empty(&net->deferred) || !hg_list_is_empty(&net->late)) {
        struct hg_list *next = hg_list_is_empty(&net->deferred) ? &net->late : &net->deferred;
        struct hg_defer *defer = HG_LIST_ENTRY(next->next, struct hg_defer, link);
        hg_net_undefer(defer);
        defer->run(defer);
        did = true;
    }
    return did;
}

static void hand_up(struct seam_net *sn, struct seam_link *link, struct hg_bytes in)
{
    size_t step = sn->chunk_n == 0 ? in.n : sn->chunk_n;
    while (in.n > 0 && !link->is_closed) {
        size_t n = step < in.n ? step : in.n;
        link->stream.user->on_read(link->stream.user_ctx, hg_bytes(in.p, n));
        in = hg_bytes_skip(in, n);
    }
}

static bool turn_link(struct seam_net *sn, struct seam_link *link)
{
    if (link->is_closed) {
        if (link->is_told) {
            return false;
        }
        link->is_told = true;
        link->stream.user->on_closed(link->stream.user_ctx, link->why);
        return true;
    }
    if (!link->is_open) {
        link->is_open = true;
        link->stream.user->on_open(link->stream.user_ctx);
        return true;
    }
    if (link->is_awaited && !link->is_stalled) {
        link->is_awaited = false;
        link->stream.user->on_drained(link->stream.user_ctx);
        return true;
    }
    seam_spare(true);
    struct hg_buf *out = link->is_reading ? broker_take_output(&link->broker) : NULL;
    seam_spare(false);
    if (out == NULL) {
        return false;
    }
    hand_up(sn, link, hg_buf_bytes(out));
    hg_buf_unref(out);
    return true;
}

void seam_net_run(struct seam_net *sn)
{
    for (bool did = true; did;) {
        did = false;
        for (size_t i = 0; i < sn->links_n; i++) {
            did = turn_link(sn, sn->links[i]) || did;
        }
        did = run_deferred(&sn->net) || did;
        for (size_t i = 0; i < sn->others_n; i++) {
            did = run_deferred(sn->others[i]) || did;
        }
    }
}

void seam_net_pass(struct seam_net *sn, uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += HG_WHEEL_TICK_MS) {
        seam_now_ms += HG_WHEEL_TICK_MS;
        hg_wheel_advance(&sn->wheel, seam_now_ms);
        for (size_t i = 0; i < sn->others_n; i++) {
            hg_wheel_advance(sn->others[i]->wheel, seam_now_ms);
        }
        seam_net_run(sn);
    }
}

struct seam_link *seam_net_last(struct seam_net *sn)
{
    for (size_t i = sn->links_n; i > 0; i--) {
        if (sn->links[i - 1]->is_open && !sn->links[i - 1]->is_closed) {
            return sn->links[i - 1];
        }
    }
    return NULL;
}

void seam_net_stall(struct seam_net *sn, struct seam_link *link, bool is_stalled)
{
    seam_spare(true);
    link->is_stalled = is_stalled;
    if (!is_stalled) {
        broker_feed(&link->broker, hg_writer_view(&link->pending));
        hg_writer_reset(&link->pending);
    }
    seam_spare(false);
    seam_net_run(sn);
}

void seam_net_cut(struct seam_net *sn, struct seam_link *link)
{
    close_link(&link->stream, HG_PEER_LOST);
    seam_net_run(sn);
}
