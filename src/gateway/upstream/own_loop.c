/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/own_loop.h"

#include "base/clock.h"

bool hg_own_loop_open(struct hg_own_loop *o, struct hg_log *log)
{
    if (uv_loop_init(&o->loop) != 0) {
        return false;
    }
    hg_wheel_open(&o->wheel, hg_clock_ms());
    if (!hg_net_open(&o->net, &o->loop, &o->wheel, log)) {
        uv_loop_close(&o->loop);
        return false;
    }
    return true;
}

void hg_own_loop_close(struct hg_own_loop *o)
{
    hg_net_close(&o->net);
    hg_net_run(&o->net);
    hg_net_free(&o->net);
    uv_loop_close(&o->loop);
}
