/* SPDX-License-Identifier: Apache-2.0 */
/* What the upstream's tests have in common. */
#ifndef HG_UNIT_UPSTREAM_RIG_H
#define HG_UNIT_UPSTREAM_RIG_H

#include "seam/net.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "upstream/link.h"
#include "upstream/upstream_metrics.h"

#include <stdlib.h>

static const struct hg_endpoint rig_endpoint = {
    .host = "broker", .port = 5672, .user = "guest", .password = "guest", .vhost = "/"};

static inline struct hg_link_config rig_link(struct hg_upstream_metrics *metrics)
{
    return (struct hg_link_config){
        .endpoints = &rig_endpoint,
        .endpoints_n = 1,
        .heartbeat_ms = 30000,
        .connect_timeout_ms = 5000,
        .max_body_bytes = 1 << 20,
        .metrics = metrics,
    };
}

/* The broker at the other end of the newest open link. */
static inline struct broker *rig_broker(struct seam_net *sn)
{
    struct seam_link *link = seam_net_last(sn);
    assert_non_null(link);
    return &link->broker;
}

/* How often a word stands in what the broker was asked since it was told to forget. */
static inline unsigned rig_asked(struct seam_net *sn, const char *word)
{
    struct hg_bytes log = hg_writer_view(&rig_broker(sn)->log);
    unsigned n = 0;
    for (size_t i = 0; i + strlen(word) <= log.n; i++) {
        n += memcmp(log.p + i, word, strlen(word)) == 0;
    }
    return n;
}

static inline void rig_deliver(struct seam_net *sn, uint16_t channel, uint64_t tag,
                               bool is_redelivered)
{
    const struct hg_message_parts parts = {
        .exchange = HG_BYTES("x"), .routing_key = HG_BYTES("k"), .body = HG_BYTES("body")};
    seam_spare(true);
    struct hg_message *m = hg_message_new(&parts);
    broker_deliver(rig_broker(sn), channel, "consumer", tag, is_redelivered, m);
    hg_message_unref(m);
    seam_spare(false);
}

#endif
