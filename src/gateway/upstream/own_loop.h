/* SPDX-License-Identifier: Apache-2.0 */
/* A loop with all that a link needs, for who waits for RabbitMQ outside of the workers. */
#ifndef HG_UPSTREAM_OWN_LOOP_H
#define HG_UPSTREAM_OWN_LOOP_H

#include "stream/net.h"

struct hg_own_loop {
    uv_loop_t loop;
    struct hg_wheel wheel;
    struct hg_net net;
};

/* False when there is no memory or descriptor; then nothing is open. */
bool hg_own_loop_open(struct hg_own_loop *o, struct hg_log *log);
/* Once its links and own handles have been told to close. */
void hg_own_loop_close(struct hg_own_loop *o);

#endif
