/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration writes as strings: durations, sizes, environment variables, RabbitMQ's
 * address. For config*.c and their tests; durations in queries are read here as well. */
#ifndef HG_CORE_CONFIG_VALUE_H
#define HG_CORE_CONFIG_VALUE_H

#include "core/config_tree.h"
#include "upstream/link.h"

/* "250ms", "20s", "5m", "1h": a whole number and a unit. False if it is none, or over 64 bits. */
bool hg_config_value_duration(const char *text, uint64_t *ms_out);
/* "512B", "16KiB", "64MiB", "1GiB". */
bool hg_config_value_size(const char *text, uint64_t *bytes_out);
/* The largest unit that keeps it whole; text in the arena. */
const char *hg_config_value_duration_text(struct hg_config_arena *a, uint64_t ms);
const char *hg_config_value_size_text(struct hg_config_arena *a, uint64_t bytes);

/* Replaces every ${NAME} by the environment's NAME; `$${` stands for a plain `${`. NULL, or what is
 * wrong and nothing written. */
const char *hg_config_value_expand(struct hg_config_arena *a, const char *text, size_t n,
                                   const char **text_out, size_t *n_out);

/* amqp://user:password@host:port/vhost, percent-encoded (RabbitMQ URI specification), or amqps://…
 * for TLS: port 5672 or 5671,
 * guest, guest and the vhost "/" where absent; ?auth=external. NULL, or what is wrong, never
 * quoting a password. */
const char *hg_config_value_endpoint(struct hg_config_arena *a, const char *url,
                                     struct hg_endpoint *out);
/* mqtt://host:port or mqtts://host:port, port 1883 or 8883 where absent. NULL, or what is wrong. */
const char *hg_config_value_site(struct hg_config_arena *a, const char *url, const char **host_out,
                                 uint16_t *port_out, bool *is_tls_out);
/* http:// or https://, a host, a port (80 or 443 where absent), path and query; no user, no fragment.
 * *origin_out is what precedes the path. NULL, or what is wrong. */
struct hg_config_url {
    const char *host, *origin;
    uint16_t port;
    bool is_tls;
};
const char *hg_config_value_url(struct hg_config_arena *a, const char *url,
                                struct hg_config_url *out);
/* "host:port", "[v6]:port"; port 0 lets the system choose. NULL, or what is wrong. */
const char *hg_config_value_bind(struct hg_config_arena *a, const char *text, const char **host_out,
                                 uint16_t *port_out);

#endif
