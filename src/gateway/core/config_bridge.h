/* SPDX-License-Identifier: Apache-2.0 */
/* [[bridge]], typed. */
#ifndef HG_CORE_CONFIG_BRIDGE_H
#define HG_CORE_CONFIG_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a bridge carries: addresses that begin with one prefix here and another at the site. */
struct hg_bridge_route {
    const char *filter;
    const char *local_prefix, *remote_prefix;
    uint8_t qos;
    const char *local_filter, *remote_filter; /* the filter behind each prefix */
};

struct hg_bridge_spec {
    uint8_t vhost; /* place; 0: the default one */
    const char *where, *name;
    const char *host;
    uint16_t port;
    bool is_tls, is_insecure;        /* insecure: the certificate's name is not compared */
    const char *ca, *cert, *key;     /* files; NULL: the system's authorities, no certificate */
    const char *username, *password; /* NULL: none */
    const char *client_id;
    bool is_clean, is_v5;
    uint64_t keepalive_ms;
    const char *will_topic, *will_payload; /* NULL: no will */
    uint8_t will_qos;
    bool will_is_retained;
    const struct hg_bridge_route *in, *out; /* from the site, to the site */
    size_t in_n, out_n;
    uint16_t window; /* messages without a confirmation, each way */
};

#endif
