/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker's streams share, and work that is put off. */
#include "stream/net.h"

#include "base/mem.h"
#include "stream/tcp.h"
#include "stream/tls.h"
#include "stream/turn.h"
#include "stream/ws.h"

enum { TCP_SLAB_N = 32, LOW_BYTES = 64 * 1024, HIGH_BYTES = 256 * 1024 };

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
        .forget.run = run_forget,
    };
    net->read_buf = hg_alloc(HG_NET_READ_BYTES);
    net->payload_buf = hg_alloc(HG_NET_READ_BYTES);
    if (net->read_buf == NULL || net->payload_buf == NULL || !hg_turn_open(net)) {
        hg_free(net->read_buf);
        hg_free(net->payload_buf);
        return false;
    }
    hg_tcp_pool_open(&net->tcp_pool, TCP_SLAB_N);
    hg_list_init(&net->dirty);
    hg_list_init(&net->ended);
    hg_list_init(&net->deferred);
    hg_list_init(&net->late);
    hg_list_init(&net->starved);
    return true;
}

void hg_net_close(struct hg_net *net)
{
    hg_turn_close(net);
}

void hg_net_free(struct hg_net *net)
{
    hg_turn_free(net);
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
