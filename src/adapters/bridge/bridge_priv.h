/* SPDX-License-Identifier: Apache-2.0 */
/* One bridge on its worker, for bridge.c (its life), bridge_in.c and bridge_out.c (what it
 * carries). */
#ifndef HG_BRIDGE_PRIV_H
#define HG_BRIDGE_PRIV_H

#include "adapters/bridge/bridge_echo.h"
#include "adapters/bridge/bridge_inbox.h"
#include "adapters/bridge/bridge_outbox.h"
#include "adapters/bridge/bridge_site.h"
#include "core/queue.h"
#include "core/service.h"

/* The header that says over which bridge a message came. */
#define HG_BRIDGE_HEADER HG_BYTES("x-headgate-bridge")

struct hg_bridge_sub {
    struct hg_sub base;
    struct hg_bridge *bridge;
    const struct hg_bridge_route *route;
    bool is_answered;
};

struct hg_bridge {
    struct hg_session session; /* publishes and subscribes; it has no connection */
    struct hg_service service;
    struct hg_worker *worker;
    const struct hg_bridge_spec *spec;
    struct hg_bridge_metrics *metrics;
    struct hg_queue *queue; /* whoever consumes it runs the bridge; NULL: not asked for */
    bool is_active;         /* it is consumed here */
    bool is_standby;        /* has been said in the log */
    bool is_draining;
    bool is_closed;              /* only sites that are closing keep it */
    struct hg_bridge_sub *subs;  /* one per route out */
    size_t subs_left;            /* not live yet */
    struct hg_bridge_site *site; /* NULL: not active, or taking leave */
    unsigned sites_n;            /* with those that are closing */
    struct hg_bridge_inbox inbox;
    struct hg_bridge_outbox outbox;
    struct hg_bridge_echo echo; /* MQTT 3.1.1 only */
    struct hg_writer address;   /* scratch */
    struct hg_timer claim_timer, retry_timer;
    struct hg_defer later; /* looks whether it may end, outside of the library's callbacks */
};

/* bridge.c */
void hg_bridge_refuse(struct hg_bridge *b, const char *what, struct hg_bytes address,
                      struct hg_bytes why); /* counts and logs, limited */
void hg_bridge_show_windows(struct hg_bridge *b);
void hg_bridge_look_later(struct hg_bridge *b);

/* bridge_in.c */
void hg_bridge_on_message(void *bridge, const struct mosquitto_message *m,
                          const mosquitto_property *properties);
void hg_bridge_publish_waiting(struct hg_bridge *b);
void hg_bridge_on_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                          struct hg_bytes reason);
bool hg_bridge_may_read(void *bridge);

/* bridge_out.c */
void hg_bridge_on_deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches);
void hg_bridge_send_waiting(struct hg_bridge *b);
void hg_bridge_on_acknowledged(void *bridge, uint16_t mid, uint8_t reason);

#endif
