/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to a site's broker: libmosquitto with the worker's loop as its own. It is made
 * anew, with a growing delay, until it is closed; the library's client stays the same meanwhile, so
 * that what was under way with QoS 1 and 2 goes on where it was. */
#ifndef HG_BRIDGE_SITE_H
#define HG_BRIDGE_SITE_H

#include "core/worker.h"

#include <mosquitto.h>

struct hg_bridge_site;

struct hg_bridge_site_ops { /* from the loop, on the worker's thread */
    /* May it connect now? Asked again every second while not. */
    bool (*may_connect)(void *ctx);
    /* Is there room for what it may read? Asked after each read, and by hg_bridge_site_update. */
    bool (*may_read)(void *ctx);
    /* The site accepted the connection and answered every subscription. */
    void (*on_up)(void *ctx);
    /* It is lost, or could not be made (was_up: false); why is text for people. */
    void (*on_down)(void *ctx, bool was_up, const char *why);
    /* The site refused a filter. */
    void (*on_filter_refused)(void *ctx, const char *filter, const char *why);
    /* `properties` may be NULL. Nothing may be published from inside. */
    void (*on_message)(void *ctx, const struct mosquitto_message *m,
                       const mosquitto_property *properties);
    /* The site has message `mid` for good (reason below 0x80), or has refused it. */
    void (*on_acknowledged)(void *ctx, uint16_t mid, uint8_t reason);
    /* After hg_bridge_site_close, perhaps from inside: no handle is left. The last call. */
    void (*on_closed)(void *ctx);
};

/* Connects as soon as may_connect agrees. NULL: no memory; or, with *why_out (static text), the
 * library takes the configuration not. */
struct hg_bridge_site *hg_bridge_site_new(struct hg_worker *worker,
                                          const struct hg_bridge_spec *spec,
                                          const struct hg_bridge_site_ops *ops, void *ctx,
                                          const char **why_out);
/* Says DISCONNECT where it is connected; on_closed follows or has come, nothing else. Not from
 * inside on_message, on_acknowledged and on_filter_refused. */
void hg_bridge_site_close(struct hg_bridge_site *site);
bool hg_bridge_site_is_up(const struct hg_bridge_site *site);
/* may_read may have changed its mind. */
void hg_bridge_site_update(struct hg_bridge_site *site);

struct hg_bridge_publish {
    const char *topic;
    struct hg_bytes body;
    mosquitto_property *properties; /* borrowed; NULL below 5.0 */
    uint8_t qos;
    bool is_retained;
};
/* While it is up. OK: the library has it, under *mid_out; QoS 0 is over with that. Else it is
 * refused, and *why_out says why (static text). */
enum hg_status hg_bridge_site_publish(struct hg_bridge_site *site,
                                      const struct hg_bridge_publish *p, uint16_t *mid_out,
                                      const char **why_out);

#endif
