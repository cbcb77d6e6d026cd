/* SPDX-License-Identifier: Apache-2.0 */
#include "core/delivery.h"

#include "base/clock.h"
#include "core/worker.h"

_Static_assert(HG_PROTO_N *HG_DELIVERY_CACHES <= HG_JOINT_ANSWERS,
               "a lane for each slot of each protocol");

const struct hg_part *hg_delivery_join(struct hg_delivery *d, const struct hg_session *s,
                                       unsigned slot, struct hg_bytes bytes)
{
    struct hg_part *part = &d->joint[slot];
    unsigned lane = (unsigned)s->proto * HG_DELIVERY_CACHES + slot;
    if (!hg_joint_put(&s->worker->net.joints, lane, bytes, part)) {
        return NULL;
    }
    hg_buf_ref(part->buf); /* the lane may go on to another block */
    return part;
}

uint64_t hg_delivery_ms(struct hg_delivery *d)
{
    d->at_ms = d->at_ms == 0 ? hg_clock_ms() : d->at_ms;
    return d->at_ms;
}

void hg_delivery_end(struct hg_delivery *d)
{
    for (size_t i = 0; i < HG_DELIVERY_CACHES; i++) {
        hg_buf_unref(d->cache[i]);
        hg_buf_unref(d->joint[i].buf);
    }
}
